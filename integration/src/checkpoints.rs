//! Where sources remember how far they came: a file each, below the data directory.

use std::io;
use std::path::PathBuf;

use sources::Checkpoints;

use crate::file;

/// A directory with a file a key.
#[derive(Debug)]
pub struct Files(PathBuf);

impl Files {
    /// Uses `dir`, creating it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        dir.parent().map_or(Ok(()), file::sync)?;
        Ok(Self(dir))
    }

    /// Keys are `kind/namespace/name`.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        Ok(self.0.join(file::name(key)?))
    }
}

impl Checkpoints for Files {
    fn load(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.path(key)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        file::replace(&self.path(key)?, bytes)
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(key)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => file::sync(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_last_is_loaded_and_removal_forgets_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::open(dir.path().join("sources")).unwrap();
        assert_eq!(files.load("PingSource/a/b").unwrap(), None);
        files.save("PingSource/a/b", b"1").unwrap();
        files.save("PingSource/a/b", b"2").unwrap();
        assert_eq!(files.load("PingSource/a/b").unwrap().as_deref(), Some(b"2".as_slice()));
        files.remove("PingSource/a/b").unwrap();
        files.remove("PingSource/a/b").unwrap();
        assert_eq!(files.load("PingSource/a/b").unwrap(), None);
        files.save("../../etc", b"x").expect_err("stays inside");
    }

    #[test]
    fn a_source_with_the_longest_name_has_its_place() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::open(dir.path().join("sources")).unwrap();
        let key = format!("PrometheusSource/{}/{}", "n".repeat(63), "a".repeat(253));
        files.save(&key, b"1").unwrap();
        assert_eq!(files.load(&key).unwrap().as_deref(), Some(b"1".as_slice()));
    }

    #[test]
    fn no_name_is_that_of_anothers_draft() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::open(dir.path().join("sources")).unwrap();
        files.save("PingSource/a/b.new", b"1").unwrap();
        files.save("PingSource/a/b", b"2").unwrap();
        assert_eq!(files.load("PingSource/a/b.new").unwrap().as_deref(), Some(b"1".as_slice()));
    }
}

//! Where sources remember how far they came: a file each, below the data directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sources::Checkpoints;

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
        dir.parent().map_or(Ok(()), sync)?;
        Ok(Self(dir))
    }

    /// Keys are `kind/namespace/name`, and none of these holds a comma or may leave the directory.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let name = key.replace('/', ",");
        if name.is_empty() || name.starts_with('.') || name.contains(['\0', '\\']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("checkpoint key {key:?}"),
            ));
        }
        Ok(self.0.join(name))
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
        let path = self.path(key)?;
        // A comma, which no name holds: with a dot it would be the file of a source that is called so.
        let mut staged = path.clone().into_os_string();
        staged.push(",new");
        let mut file = File::create(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staged, &path)?;
        sync(&self.0)
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(key)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync(&self.0),
        }
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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
    fn no_name_is_that_of_anothers_draft() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::open(dir.path().join("sources")).unwrap();
        files.save("PingSource/a/b.new", b"1").unwrap();
        files.save("PingSource/a/b", b"2").unwrap();
        assert_eq!(files.load("PingSource/a/b.new").unwrap().as_deref(), Some(b"1".as_slice()));
    }
}

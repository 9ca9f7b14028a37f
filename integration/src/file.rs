//! Files of the data directory: how they are called, and how they are written so that nobody finds half of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Ends the name of a file that is being written. A comma, which no name of an object holds: with a dot it would be the
/// file of an object that is called so.
const DRAFT: &str = ",new";

/// Longest name, bytes: file systems take 255, and a draft's is longer than its file's.
const LONGEST: usize = 255 - DRAFT.len();

/// Bytes of a hash that tell long names with the same beginning apart.
const HASH: usize = 16;

/// The name of the file that belongs to `kind/namespace/name`, and to nothing else. What is too long for a file system
/// (a kind, 63 and 253 characters may be) is cut and ends in a hash of all of it.
///
/// # Errors
/// When it would lead out of its directory.
pub fn name(place: &str) -> io::Result<String> {
    let name = place.replace('/', ",");
    if name.is_empty() || name.starts_with('.') || name.contains(['\0', '\\']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no place: {place:?}")));
    }
    if name.len() <= LONGEST {
        return Ok(name);
    }
    let end = name.floor_char_boundary(LONGEST - 2 * HASH - 1);
    let start = name.get(..end).unwrap_or_default();
    Ok(format!("{start},{}", hash(Sha256::new().chain_update(place))))
}

/// The beginning of a digest, in hexadecimal.
pub fn hash(digest: Sha256) -> String {
    digest.finalize().iter().take(HASH).map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file; durable when it returns. For the owner's eyes only.
///
/// # Errors
/// When it cannot be written; what was there before stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(DRAFT);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Makes the names in a directory durable; an empty path, as the parent of a name alone is, stands for the current one.
///
/// # Errors
/// The system's.
pub fn sync(directory: &Path) -> io::Result<()> {
    let here = directory.as_os_str().is_empty();
    File::open(if here { Path::new(".") } else { directory })?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_replaces_what_was_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for text in ["1", "2"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_name_alone_is_of_the_current_directory() {
        sync(Path::new("config").parent().unwrap()).unwrap();
    }

    #[test]
    fn the_longest_names_have_a_file_each() {
        let dir = tempfile::tempdir().unwrap();
        let place =
            |last: &str| format!("PrometheusSource/{}/{}{last}", "n".repeat(63), "a".repeat(252));
        for last in ["b", "c"] {
            let name = name(&place(last)).unwrap();
            assert!(name.starts_with("PrometheusSource,nnn"), "people recognise it: {name}");
            replace(&dir.path().join(name), b"x").unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(name("PingSource/a/b").unwrap(), "PingSource,a,b");
    }

    #[test]
    fn no_place_leads_out_of_the_directory() {
        for place in ["", "../../etc", ".", "a\0b", "a\\b"] {
            name(place).expect_err(place);
        }
        assert_eq!(name("a/../b").unwrap(), "a,..,b");
    }
}

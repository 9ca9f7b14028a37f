//! The index file beside a sealed segment, laid out as the [crate's page](crate#indexes) says.

use std::io;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use crate::contents::{Contents, Mark, decode_marks, encode_marks};
use crate::fs::{Access, Fs};
use crate::record::{in_memory, le32, le64};
use crate::segment::VERSION;

const MAGIC: [u8; 8] = *b"WEFTIDX\n";
const CHECKED: usize = 40;
const TOTALS: usize = 44;
const TOTALS_BYTES: u64 = TOTALS as u64;

/// Which state of which segment an index describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) tag: u64,
    pub(crate) size: u64,
}

/// Writes the index; a failure leaves none that passes for whole.
pub(crate) fn write(
    fs: &dyn Fs,
    path: &Path,
    subject: Subject,
    contents: &Contents,
    marks: &[Mark],
) -> io::Result<()> {
    let (totals, marks) = (contents.encode(), encode_marks(marks));
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge);
    let mut out =
        Vec::with_capacity(TOTALS.saturating_add(totals.len()).saturating_add(marks.len()));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&length(&totals)?.to_le_bytes());
    out.extend_from_slice(&length(&marks)?.to_le_bytes());
    out.extend_from_slice(&crc32c(&marks).to_le_bytes());
    out.extend_from_slice(&subject.tag.to_le_bytes());
    out.extend_from_slice(&subject.size.to_le_bytes());
    out.extend_from_slice(&crc32c_append(crc32c(&out), &totals).to_le_bytes());
    out.extend_from_slice(&totals);
    out.extend_from_slice(&marks);
    fs.create(path)?.write_at(&out, 0)
}

/// The totals, `None` when the index is missing, damaged or of another file.
pub(crate) fn read_contents(fs: &dyn Fs, path: &Path, subject: Subject) -> Option<Contents> {
    Some(read(fs, path, subject)?.0)
}

/// The marks, `None` likewise.
pub(crate) fn read_marks(fs: &dyn Fs, path: &Path, subject: Subject) -> Option<Vec<Mark>> {
    let (_, read_marks) = read(fs, path, subject)?;
    read_marks()
}

/// The totals, and what reads the marks.
fn read(
    fs: &dyn Fs,
    path: &Path,
    subject: Subject,
) -> Option<(Contents, impl FnOnce() -> Option<Vec<Mark>>)> {
    let file = fs.open(path, Access::Read).ok()?;
    let size = file.size().ok()?;
    let mut head = [0; TOTALS];
    file.read_at(&mut head, 0).ok()?;
    let (totals, marks) = (le32(&head, 12)?, le32(&head, 16)?);
    let marks_at = TOTALS_BYTES.saturating_add(u64::from(totals));
    let fits = head.starts_with(&MAGIC)
        && le32(&head, 8) == Some(VERSION)
        && le64(&head, 24) == Some(subject.tag)
        && le64(&head, 32) == Some(subject.size)
        && marks_at.saturating_add(u64::from(marks)) == size;
    if !fits {
        return None;
    }
    let mut bytes = vec![0; in_memory(u64::from(totals))];
    file.read_at(&mut bytes, TOTALS_BYTES).ok()?;
    let sound = le32(&head, CHECKED)? == crc32c_append(crc32c(head.get(..CHECKED)?), &bytes);
    let contents = Contents::decode(&bytes).filter(|_| sound)?;
    let read_marks = move || {
        let mut bytes = vec![0; in_memory(u64::from(marks))];
        file.read_at(&mut bytes, marks_at).ok()?;
        (Some(crc32c(&bytes)) == le32(&head, 20)).then(|| decode_marks(&bytes))
    };
    Some((contents, read_marks))
}

//! Where events of sources are kept that no sink takes: a file each, below the data directory, for people to look at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use broker_event::{Event, json};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sources::ParkingLot;

use crate::clock;
use crate::file;
use crate::view::SourceLetter;

/// So many events of one source are kept; of more, something is wrong that a person has to look at, and the source waits.
const MAX_EVENTS: usize = 1000;

/// How the files of events are called; one that is being written is called otherwise.
const KEPT: &str = ".json";

/// A directory with a directory a source.
#[derive(Debug)]
pub struct Files(PathBuf);

impl Files {
    /// Uses `parked` in the data directory; it is made with the first event.
    #[must_use]
    pub fn below(data: &Path) -> Self {
        Self(data.join("parked"))
    }

    /// At most `most` of what is kept, in order of source and file, after the file `after`.
    ///
    /// # Errors
    /// When the directory cannot be read. What is not an event, or went meanwhile, is passed over.
    pub fn page(&self, after: &str, most: usize) -> io::Result<Vec<SourceLetter>> {
        let mut files = Vec::new();
        for place in entries(&self.0)? {
            for file in entries(&self.0.join(&place))? {
                let path = format!("{place}/{file}");
                if file.ends_with(KEPT) && path.as_str() > after {
                    files.push(path);
                }
            }
        }
        files.sort();
        let letters = files.into_iter().filter_map(|file| {
            let letter: SourceLetter =
                serde_json::from_slice(&fs::read(self.0.join(&file)).ok()?).ok()?;
            Some(SourceLetter { file, ..letter })
        });
        Ok(letters.take(most).collect())
    }
}

/// The names in a directory; none in one that is not there.
fn entries(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

impl ParkingLot for Files {
    fn park(&self, place: &str, event: &Event, reason: &str) -> io::Result<()> {
        let dir = self.0.join(file::name(place)?);
        if !dir.is_dir() {
            fs::create_dir_all(&dir)?;
            file::sync(&self.0)?;
            self.0.parent().map_or(Ok(()), file::sync)?;
        }
        let path = dir.join(name(event));
        if !path.try_exists()? && fs::read_dir(&dir)?.count() >= MAX_EVENTS {
            let full = format!(
                "{MAX_EVENTS} events are parked in {}: look at them, then remove them",
                dir.display()
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, full));
        }
        let event = String::from_utf8(json::write(event)).map_err(io::Error::other)?;
        let letter = SourceLetter {
            source: place.to_owned(),
            time: time(),
            reason: reason.to_owned(),
            event: RawValue::from_string(event)?,
            file: String::new(),
        };
        file::replace(&path, &serde_json::to_vec(&letter)?)
    }
}

/// Of the same event, whenever it comes again.
fn name(event: &Event) -> String {
    let hash =
        Sha256::new().chain_update(event.source()).chain_update("\n").chain_update(event.id());
    format!("{}{KEPT}", file::hash(hash))
}

fn time() -> String {
    jiff::Timestamp::try_from(clock::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use broker_event::EventBuilder;
    use serde_json::{Value, json};

    use super::*;

    fn event(id: &str) -> Event {
        EventBuilder::new(id, "/s", "t")
            .data_content_type("application/json")
            .data("{\"a\":1}")
            .build()
            .unwrap()
    }

    #[test]
    fn an_event_is_kept_once_with_the_reason() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::below(dir.path());
        for reason in ["too large", "still too large"] {
            files.park("KafkaSource/default/orders", &event("1"), reason).unwrap();
        }
        files.park("KafkaSource/default/orders", &event("2"), "x").unwrap();
        let place = dir.path().join("parked/KafkaSource,default,orders");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2);
        let letter: Value =
            serde_json::from_slice(&fs::read(place.join(name(&event("1")))).unwrap()).unwrap();
        assert_eq!(letter["reason"], "still too large");
        assert_eq!(letter["event"]["id"], "1");
        assert_eq!(letter["event"]["data"], json!({"a": 1}));
    }

    #[test]
    fn a_source_with_the_longest_name_has_its_place() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::below(dir.path());
        let place = format!("PrometheusSource/{}/{}", "n".repeat(63), "a".repeat(253));
        files.park(&place, &event("1"), "x").unwrap();
        assert_eq!(files.page("", 10).unwrap()[0].source, place);
    }

    #[test]
    fn what_is_kept_is_told_page_by_page() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::below(dir.path());
        assert!(files.page("", 10).unwrap().is_empty());
        for (place, id) in [("A/b/c", "1"), ("A/b/c", "2"), ("Z/b/c", "3")] {
            files.park(place, &event(id), "x").unwrap();
        }
        File::create(dir.path().join("parked/A,b,c/half.json,new")).unwrap();
        File::create(dir.path().join("parked/A,b,c/other.json")).unwrap();
        let first = files.page("", 2).unwrap();
        let rest = files.page(&first[1].file, 2).unwrap();
        let sources: Vec<_> = first.iter().chain(&rest).map(|one| one.source.as_str()).collect();
        assert_eq!(sources, ["A/b/c", "A/b/c", "Z/b/c"]);
        assert!(files.page(&rest[0].file, 2).unwrap().is_empty());
    }

    #[test]
    fn a_full_place_takes_no_more_but_what_it_has() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::below(dir.path());
        files.park("A/b/c", &event("0"), "x").unwrap();
        for number in 1..MAX_EVENTS {
            File::create(dir.path().join("parked/A,b,c").join(number.to_string())).unwrap();
        }
        let full = files.park("A/b/c", &event("1"), "x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        files.park("A/b/c", &event("0"), "y").unwrap();
    }
}

//! Where events of sources are kept that no sink takes: a file each, below the data directory, for people to look at.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use broker_event::{Event, json};
use serde_json::{json, value::RawValue};
use sha2::{Digest, Sha256};
use sources::ParkingLot;

use crate::clock;

/// So many events of one source are kept; of more, something is wrong that a person has to look at, and the source waits.
const MAX_EVENTS: usize = 1000;

/// A directory with a directory a source.
#[derive(Debug)]
pub struct Files(PathBuf);

impl Files {
    /// Uses `dir`; it is made with the first event.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }
}

impl ParkingLot for Files {
    fn park(&self, place: &str, event: &Event, reason: &str) -> io::Result<()> {
        // Places are `kind/namespace/name`, none of which holds a comma or may leave the directory.
        let dir = self.0.join(place.replace('/', ","));
        if !dir.is_dir() {
            fs::create_dir_all(&dir)?;
            sync(&self.0)?;
            self.0.parent().map_or(Ok(()), sync)?;
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
        let event = RawValue::from_string(event)?;
        let letter = json!({"source": place, "time": time(), "reason": reason, "event": event});
        let staged = path.with_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec(&letter)?)?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        sync(&dir)
    }
}

/// Of the same event, whenever it comes again.
fn name(event: &Event) -> String {
    let hash =
        Sha256::new().chain_update(event.source()).chain_update("\n").chain_update(event.id());
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.json")
}

fn time() -> String {
    jiff::Timestamp::try_from(clock::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use broker_event::EventBuilder;
    use serde_json::Value;

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
        let files = Files::new(dir.path().join("parked"));
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
    fn a_full_place_takes_no_more_but_what_it_has() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = Files::new(dir.path().to_owned());
        files.park("A/b/c", &event("0"), "x").unwrap();
        for number in 1..MAX_EVENTS {
            File::create(dir.path().join("A,b,c").join(number.to_string())).unwrap();
        }
        let full = files.park("A/b/c", &event("1"), "x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        files.park("A/b/c", &event("0"), "y").unwrap();
    }
}

//! Events as people write them in files: one JSON object, an array of them, or one object a line.

use std::path::Path;

use anyhow::Context;
use broker_event::{Event, json};
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::commands::send::input;

/// Reads every event of a file, or of standard input for `-`.
///
/// # Errors
/// Names the file, which event of it (from 1), and what is wrong.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Event>> {
    parse(&input(file)?).with_context(|| {
        if file == Path::new("-") {
            "standard input".to_owned()
        } else {
            file.display().to_string()
        }
    })
}

fn parse(text: &Bytes) -> anyhow::Result<Vec<Event>> {
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Ok(json::read_batch(text)?);
    }
    let mut events = Vec::new();
    for raw in serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>() {
        let number = events.len().saturating_add(1);
        let raw = raw.with_context(|| format!("event {number} is not JSON"))?;
        let event = json::read(&Bytes::copy_from_slice(raw.get().as_bytes()));
        events.push(event.with_context(|| format!("event {number}"))?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

    fn ids(text: String) -> Vec<String> {
        let events = parse(&Bytes::from(text)).expect("parses");
        events.iter().map(|event| event.id().to_owned()).collect()
    }

    #[test]
    fn an_object_an_array_and_lines_are_all_understood() {
        assert_eq!(ids(ONE.to_owned()), ["1"]);
        assert_eq!(ids(format!("[{ONE},{ONE}]")), ["1", "1"]);
        assert_eq!(ids(format!("{ONE}\n\n{ONE}\n")), ["1", "1"]);
        assert_eq!(ids(String::new()), [""; 0]);
    }

    #[test]
    fn a_mistake_says_which_event_it_is_in() {
        let text = format!("{ONE}\n{{\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"/s\"}}");
        let error = parse(&Bytes::from(text)).expect_err("the second has no type");
        let text = format!("{error:#}");
        assert!(text.contains("event 2") && text.contains("type"), "{text}");
    }
}

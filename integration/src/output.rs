//! How commands print: tables that align, events for people, JSON for programs.

use std::io::Write;

use anyhow::Context;
use broker_event::Event;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// Prints one value as a line of JSON.
///
/// # Errors
/// When `out` cannot be written.
pub fn json(out: &mut dyn Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value).context("write")?;
    writeln!(out).context("write")
}

/// Prints rows under a header, aligned; `none` when there is no row.
///
/// # Errors
/// When `out` cannot be written.
pub fn table(
    out: &mut dyn Write,
    header: &[&str],
    rows: Vec<Vec<String>>,
    none: &str,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "{none}").context("write");
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.trim_end()).context("write")?;
    }
    Ok(())
}

/// An event for people: attributes aligned, then the payload.
///
/// # Errors
/// When `out` cannot be written.
pub fn event(out: &mut dyn Write, event: &Event) -> anyhow::Result<()> {
    let mut lines = vec![
        ("type", event.ty().to_owned()),
        ("source", event.source().to_owned()),
        ("id", event.id().to_owned()),
    ];
    let optional = [
        ("subject", event.subject()),
        ("time", event.time()),
        ("datacontenttype", event.data_content_type()),
        ("dataschema", event.data_schema()),
    ];
    lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))));
    lines.extend(event.extensions().map(|(name, value)| (name, value.to_string())));
    fields(out, &lines)?;
    let data = event.data().map(|data| data.as_ref()).unwrap_or_default();
    match std::str::from_utf8(data) {
        Ok("") => writeln!(out)?,
        Ok(text) => writeln!(out, "\n{}\n", printable(text))?,
        Err(_) => writeln!(out, "\n({} bytes, not text)\n", data.len())?,
    }
    Ok(())
}

/// Names and values, one pair a line, the values aligned.
///
/// # Errors
/// When `out` cannot be written.
pub fn fields(out: &mut dyn Write, fields: &[(&str, String)]) -> anyhow::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields {
        writeln!(out, "{name:<width$}  {}", printable(value))?;
    }
    Ok(())
}

/// JSON as it is, on a line of its own.
///
/// # Errors
/// When `out` cannot be written.
pub fn line(out: &mut dyn Write, json: &[u8]) -> anyhow::Result<()> {
    out.write_all(json).context("write")?;
    writeln!(out).context("write")
}

/// A cell of a table that may be empty.
#[must_use]
pub fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// A count with its noun.
#[must_use]
pub fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Replaces control characters but line breaks and tabs: an event must not drive the reader's terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(clean).collect()
}

/// Milliseconds since the Unix epoch as RFC 3339, always with three digits behind the point, so that columns align.
#[must_use]
pub fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| "-".to_owned(), |time| format!("{time:.3}"))
}

//! One table for people, one JSON for programs.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::oracle::Verdict;

/// One figure against its bar.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// The value, in `unit`.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The bar it is held against, in the same unit; `None` for context.
    pub(crate) bar: Option<f64>,
    /// Whether it meets the bar.
    pub(crate) met: Option<bool>,
    /// What it was made from.
    pub(crate) detail: String,
    /// What the oracle found, where events were counted.
    pub(crate) oracle: Option<Verdict>,
}

impl Figure {
    /// A figure for context.
    #[must_use]
    pub(crate) fn context(name: &str, value: f64, unit: &'static str, detail: String) -> Self {
        Self { name: name.to_owned(), value, unit, bar: None, met: None, detail, oracle: None }
    }

    /// A figure that must reach `bar`.
    #[must_use]
    pub(crate) fn at_least(
        name: &str,
        value: f64,
        bar: f64,
        unit: &'static str,
        detail: String,
    ) -> Self {
        let met = Some(value >= bar);
        Self { bar: Some(bar), met, ..Self::context(name, value, unit, detail) }
    }

    /// A figure that must stay under `bar`.
    #[must_use]
    pub(crate) fn at_most(
        name: &str,
        value: f64,
        bar: f64,
        unit: &'static str,
        detail: String,
    ) -> Self {
        let met = Some(value <= bar);
        Self { bar: Some(bar), met, ..Self::context(name, value, unit, detail) }
    }

    /// The same with the oracle's account; a loss or an invention fails it whatever the value.
    #[must_use]
    pub(crate) fn with(mut self, verdict: Verdict) -> Self {
        self.oracle = Some(verdict);
        self.met = Some(self.met.unwrap_or(true) && self.is_clean());
        self
    }

    /// Whether no event was lost or invented.
    #[must_use]
    pub(crate) fn is_clean(&self) -> bool {
        self.oracle.is_none_or(|verdict| verdict.lost == 0 && verdict.invented == 0)
    }
}

/// Prints the table, then the JSON on one line.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn print(figures: &[Figure], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["FIGURE", "VALUE", "BAR", "MET", "LOST", "INVENTED", "DUPLICATES", "DETAIL"]);
    for figure in figures {
        let met = match figure.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let count = |of: fn(&Verdict) -> u64| {
            figure.oracle.as_ref().map_or(String::new(), |v| of(v).to_string())
        };
        table.add_row([
            figure.name.clone(),
            format!("{:.2} {}", figure.value, figure.unit),
            figure.bar.map_or(String::new(), |bar| format!("{bar:.2}")),
            met.to_owned(),
            count(|v| v.lost),
            count(|v| v.invented),
            count(|v| v.duplicates),
            figure.detail.clone(),
        ]);
    }
    writeln!(out, "{table}\n")?;
    serde_json::to_writer(&mut *out, figures)?;
    writeln!(out)?;
    Ok(())
}

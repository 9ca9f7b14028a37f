//! `weft fsck`: verify a data directory offline.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use broker_log::fs::RealFs;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::{FsckArgs, Output};
use crate::output;

pub(super) fn run(args: &FsckArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let report = broker_log::fsck(&args.dir, &RealFs, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .with_context(|| format!("check {}", args.dir.display()))?;
    bar.finish_and_clear();
    let sound = report.problems.is_empty();
    if args.output == Output::Json {
        let problems = report.problems.iter().map(|problem| {
            json!({ "file": problem.file.display().to_string(), "position": problem.position, "what": problem.what })
        });
        output::json(
            out,
            &json!({
                "sound": sound,
                "segments": report.segments,
                "records": report.records,
                "bytes": report.bytes,
                "problems": problems.collect::<Vec<_>>(),
            }),
        )?;
    } else {
        for problem in &report.problems {
            writeln!(
                out,
                "{} at byte {}: {}",
                problem.file.display(),
                problem.position,
                problem.what
            )?;
        }
        let verdict = if sound { "sound" } else { "damaged" };
        writeln!(
            out,
            "{verdict}: {}, {}, {}, {}",
            output::count(report.segments as u64, "segment"),
            output::count(report.records, "record"),
            output::count(report.bytes, "byte"),
            output::count(report.problems.len() as u64, "problem")
        )?;
    }
    Ok(u8::from(!sound))
}

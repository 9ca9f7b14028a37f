//! Resources from files: read, checked, planned. An API server takes the files' place later; the plan stays.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use crds::Object;
use crds::broker_defaults::BrokerDefaults;
use crds::manifest::{File, MAX_FILE_BYTES};
use crds::object::Rules;

mod filter;
pub mod follow;
mod plan;
mod sink;

pub use filter::filter;
pub use plan::Plan;

/// Reads `paths` and plans what should be in force. `events` is the base URL of the events listener.
///
/// # Errors
/// Every mistake with file, line, column, field and rule.
pub fn load(paths: &[PathBuf], events: &str) -> anyhow::Result<Plan> {
    Plan::make(&read(paths)?, events)
}

/// Reads and checks every object of `paths`, in order.
///
/// # Errors
/// Every mistake with file, line, column, field and rule.
pub fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Object>> {
    let mut texts = Vec::new();
    for file in files(paths)? {
        let length = std::fs::metadata(&file).with_context(|| format!("{}", file.display()))?.len();
        let limit = u64::try_from(MAX_FILE_BYTES)?;
        ensure!(length <= limit, "{}: {length} bytes, more than {limit}", file.display());
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        texts.push((file.display().to_string(), text));
    }
    let files: Vec<File<'_>> = texts.iter().map(|(name, text)| File { name, text }).collect();
    let defaults = BrokerDefaults::builtin();
    let rules = Rules { cesql: &check_cesql, broker_defaults: &defaults };
    let located = crds::manifest::load(&files, &rules)?;
    Ok(located.into_iter().map(|located| located.object).collect())
}

/// Refuses an expression that does not parse, or that can never decide.
fn check_cesql(text: &str) -> Result<(), String> {
    let expression =
        dispatcher::filter::cesql::Expression::parse(text).map_err(|error| error.to_string())?;
    expression.check().map_err(|error| error.to_string())
}

/// The files that `paths` mean: directories stand for their YAML and JSON files, sorted, without descending.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let meta = std::fs::metadata(path).with_context(|| format!("-f {}", path.display()))?;
        if !meta.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("-f {}", path.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?.path();
            if is_resource(&entry) {
                found.push(entry);
            }
        }
        if found.is_empty() {
            bail!("-f {}: the directory has no .yaml, .yml or .json file", path.display());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn is_resource(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    path.is_file()
        && extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

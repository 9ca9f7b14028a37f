//! Resources from files: read, checked, planned. An API server takes the files' place later; the plan stays.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use crds::Object;

mod filter;
pub mod follow;
mod plan;
mod sink;

pub use filter::filter;
pub use plan::Plan;

/// Largest resource file: the API server's own limit for an object is 1.5 MiB, and a file holds several.
const MAX_FILE: u64 = 32 << 20;

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
        ensure!(length <= MAX_FILE, "{}: {length} bytes, more than {MAX_FILE}", file.display());
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        texts.push((file.display().to_string(), text));
    }
    let cesql = |text: &str| check_cesql(text);
    let named = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    crds::manifest::load(named, &cesql).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
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
    path.is_file() && extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

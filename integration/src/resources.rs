//! Resources from files: read, checked, and applied to the API, which they are one of several ways into.

use std::fs::File as Opened;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use crds::broker_defaults::BrokerDefaults;
use crds::manifest::{File, Located, MAX_FILE_BYTES};
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::trigger::SubscriptionsApiFilter;
use sources::apiserver::Filter;

pub mod apply;
pub mod follow;

/// Every kind of resource.
pub static CATALOG: Catalog = Catalog::new(sources::RESOURCES).and(sources::sinks::RESOURCES);

/// Reads and checks every object of `paths`, in order.
///
/// # Errors
/// Every mistake with file, line, column, field and rule.
pub fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Located>> {
    Texts::read(paths)?.objects()
}

/// What the files held at one moment.
#[derive(Debug, Hash)]
struct Texts(Vec<Text>);

#[derive(Debug, Hash)]
struct Text {
    name: String,
    text: String,
}

impl Texts {
    fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        files(paths)?.iter().map(|path| Text::read(path)).collect::<Result<_, _>>().map(Self)
    }

    fn objects(&self) -> anyhow::Result<Vec<Located>> {
        let files: Vec<File<'_>> =
            self.0.iter().map(|Text { name, text }| File { name, text }).collect();
        let defaults = BrokerDefaults::builtin();
        let rules = Rules {
            catalog: CATALOG,
            cesql: &check_cesql,
            broker_defaults: &defaults,
            ping_defaults: PingDefaults::default(),
        };
        Ok(crds::manifest::load(&files, &rules)?)
    }
}

impl Text {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_FILE_BYTES)?;
        Opened::open(path)
            .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
            .with_context(|| format!("read {name}"))?;
        ensure!(bytes.len() <= MAX_FILE_BYTES, "{name}:1:1: a file may have {limit} bytes");
        // Most often a file that is about to be written. Taken for "declares nothing", it would remove everything.
        ensure!(!bytes.trim_ascii().is_empty(), "{name}:1:1: the file is empty");
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let column = String::from_utf8_lossy(last).chars().count() + 1;
            anyhow::anyhow!("{name}:{line}:{column}: this is not UTF-8; save the file as UTF-8")
        })?;
        Ok(Self { name, text })
    }
}

/// Refuses an expression that does not parse, or that can never decide.
pub(crate) fn check_cesql(text: &str) -> Result<(), String> {
    let expression =
        dispatcher::filter::cesql::Expression::parse(text).map_err(|error| error.to_string())?;
    expression.check().map_err(|error| error.to_string())
}

/// Makes the filter that a source has in its spec.
pub(crate) fn compile_filters(filters: &[SubscriptionsApiFilter]) -> Result<Filter, String> {
    let filter = crds_controller::filters(filters)?;
    Ok(Box::new(move |event| filter.matches(event)))
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

/// Whether a directory's entry is a file of resources, by its name. Names that start with a dot are what editors keep to
/// themselves. A link that leads nowhere counts: what it declared must not be taken for removed.
fn is_resource(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden
        && std::fs::metadata(path).map_or(true, |meta| meta.is_file())
        && extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

#[cfg(test)]
mod tests;

//! `DATA/endpoints.json`: where a running mesh listens. Its appearance means "ready".

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Name of the file in the data directory.
pub const FILE: &str = "endpoints.json";

/// Where a running mesh listens.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Endpoints {
    /// Base URL of the events listener (ingress and web hooks).
    pub events: String,
    /// Base URL of the gateway.
    pub gateway: String,
    /// Base URL of the API: health, metrics, admin.
    pub api: String,
    /// Process id of the mesh.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

impl Endpoints {
    /// Writes the file by rename, so that a reader never sees half of it. Unlike what [`crate::file`] writes it holds no
    /// secret, and is of no use after this process.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let (path, staged) = (data.join(FILE), data.join("endpoints.json.new"));
        std::fs::write(&staged, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&staged, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes the file: the mesh that wrote it is gone or not ready yet.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(data: &Path) -> anyhow::Result<()> {
        let path = data.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Reads the file of a running mesh.
    ///
    /// # Errors
    /// With what to do about it, when there is none.
    pub fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => anyhow::bail!(
                "no mesh is running on {}: start one with `weft up --data {}`, or name one with --server URL",
                data.display(),
                data.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))
    }
}

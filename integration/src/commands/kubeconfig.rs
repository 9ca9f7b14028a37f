//! `weft kubeconfig`: how `kubectl` reaches the mesh.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::cli::KubeconfigArgs;
use crate::{access, config};

pub(super) fn run(args: &KubeconfigArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => config::default_data()?,
    };
    let path = data.join(access::KUBECONFIG);
    let mesh = std::fs::read_to_string(&path).with_context(|| {
        format!("read {}: has `weft up` run with this data directory?", path.display())
    })?;
    if !args.merge {
        return out.write_all(mesh.as_bytes()).context("write");
    }
    let own: PathBuf = config::own_kubeconfig()?;
    let text = match std::fs::read_to_string(&own) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", own.display())),
    };
    access::write_own(&own, &access::merge(&text, &mesh)?)?;
    writeln!(out, "{}: context weft added and chosen", own.display()).context("write")
}

//! `weft up`: the mesh, with resources of its own.

use std::io::Write;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::cli::{RunArgs, UpArgs};
use crate::wire::{self, Control, Settings};
use crate::{config, stop, telemetry};

pub(super) async fn run(args: UpArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    start(args.run, Control::Embedded { files: args.files }, out).await
}

/// Runs a mesh until it is told to stop.
pub(super) async fn start(
    args: RunArgs,
    control: Control,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    telemetry::init(args.log, &config::log_filter())?;
    let signals = TaskTracker::new();
    let stop = stop::on_signal(&signals)?;
    let settings = Settings {
        control,
        data: match args.data {
            Some(data) => data,
            None => config::default_data()?,
        },
        events: args.events,
        gateway: args.gateway,
        api: args.api,
        public_url: args.public_url,
        max_event_bytes: args.max_event_bytes,
        host: config::host(),
        drain: Duration::from_secs(args.drain),
    };
    wire::run(settings, stop, out).await
}

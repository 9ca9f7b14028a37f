//! `weft up`: the mesh.

use std::io::Write;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::cli::UpArgs;
use crate::wire::{self, Settings};
use crate::{config, stop, telemetry};

pub(super) async fn run(args: UpArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    telemetry::init(args.log, &config::log_filter())?;
    let signals = TaskTracker::new();
    let stop = stop::on_signal(&signals)?;
    let settings = Settings {
        files: args.files,
        data: match args.data {
            Some(data) => data,
            None => config::default_data()?,
        },
        events: args.events,
        gateway: args.gateway,
        api: args.api,
        public_url: args.public_url,
        max_event_bytes: args.max_event_bytes,
        drain: Duration::from_secs(args.drain),
    };
    wire::run(settings, stop, out).await
}

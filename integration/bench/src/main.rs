//! Load with an oracle: every figure a ratio to a bare baseline of the same run, no event lost or invented.
//!
//! `target/release/integration-bench` runs everything; with `--only rates,kill` some of it; with `--quick` what needs no foreign
//! system, with small numbers, to see that it works.

#![expect(clippy::disallowed_methods, reason = "the tasks of a load live as long as the process")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;

mod api;
mod bare;
mod load;
mod mesh;
mod oracle;
mod peers;
mod report;
mod scenarios;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the mesh against a bare HTTP server.
#[derive(Debug, Parser)]
struct Args {
    /// Only these scenarios, by name
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Small numbers: does it work at all; only a lost or an invented event is a failure
    #[arg(long)]
    quick: bool,
    /// The weft binary; built by cargo when absent
    #[arg(long, value_name = "FILE")]
    weft: Option<PathBuf>,
    /// Serve the bare baseline and nothing else (the bench starts itself so)
    #[arg(long, hide = true)]
    serve_baseline: bool,
}

/// What the scenarios share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) weft: PathBuf,
    pub(crate) quick: bool,
}

impl Bench {
    /// How long a rate is measured.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 10 })
    }

    /// A count, a hundredth of it when quick.
    pub(crate) fn count(&self, full: u64) -> u64 {
        if self.quick { full / 100 } else { full }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result =
        runtime.context("start the runtime").and_then(|runtime| runtime.block_on(run(args)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place that says why the bench failed")]
            {
                eprintln!("bench: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> anyhow::Result<bool> {
    if args.serve_baseline {
        let address = bare::serve(bare::Role::Baseline).await?;
        writeln!(std::io::stdout(), "{address}")?;
        std::future::pending::<()>().await;
    }
    let weft = match args.weft {
        Some(weft) => weft,
        None => build()?,
    };
    let bench = Bench { weft, quick: args.quick };
    for name in &args.only {
        ensure!(
            scenarios::NAMES.contains(&name.as_str()),
            "--only {name}: one of {:?}",
            scenarios::NAMES
        );
    }
    let figures = scenarios::run(&bench, &args.only).await?;
    report::print(&figures, &mut std::io::stdout())?;
    // Small numbers say nothing of speed, but an event lost or invented is one too many in any run.
    Ok(figures
        .iter()
        .all(|figure| if args.quick { figure.is_clean() } else { figure.met != Some(false) }))
}

/// Builds the release binary beside this one.
fn build() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe().context("find this program")?;
    // Together with this package, as both were built: alone, it wants what they share with other features, and builds it anew.
    let both = ["-p", "integration", "-p", "integration-bench", "--all-features"];
    let status =
        Command::new("cargo").args(["build", "--release", "--bin", "weft"]).args(both).status();
    ensure!(status.context("run cargo")?.success(), "building weft failed");
    Ok(me.with_file_name("weft"))
}

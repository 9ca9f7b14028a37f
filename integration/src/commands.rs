//! One file a command; here the one place that turns their results into exit codes.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::resources::CATALOG;
use crate::scheduling;

mod apply;
mod controller;
mod delete;
mod describe;
mod display;
mod events;
mod explain;
mod filter;
mod fsck;
mod get;
mod kubeconfig;
mod parked;
mod replay;
mod send;
mod tail;
mod up;
mod wait;

/// Exit code of an error. 1 is "ran, and the answer is no" (`filter`, `fsck`).
const FAILED: u8 = 2;

/// Runs a command to its exit code.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    if matches!(cli.command, Command::Up(_) | Command::Controller(_)) {
        scheduling::prefer_throughput();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let mut out = std::io::stdout().lock();
    let result = runtime
        .context("start the async runtime")
        .and_then(|runtime| runtime.block_on(dispatch(cli.command, &mut out)))
        .and_then(|code| out.flush().context("write").map(|()| code));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "the one place where a command says why it failed"
            )]
            {
                eprintln!("weft: {error:#}");
            }
            ExitCode::from(FAILED)
        }
    }
}

async fn dispatch(command: Command, out: &mut dyn Write) -> anyhow::Result<u8> {
    match command {
        Command::Up(args) => up::run(args, out).await.map(|()| 0),
        Command::Controller(args) => controller::run(args, out).await.map(|()| 0),
        Command::Send(args) => send::run(args, out).await.map(|()| 0),
        Command::Tail(args) => tail::run(args, out).await.map(|()| 0),
        Command::Display(args) => display::run(args, out).await.map(|()| 0),
        Command::Apply(args) => apply::run(args, out).await.map(|()| 0),
        Command::Get(args) => get::run(args, out).await.map(|()| 0),
        Command::Describe(args) => describe::run(args, out).await.map(|()| 0),
        Command::Delete(args) => delete::run(args, out).await.map(|()| 0),
        Command::Wait(args) => wait::run(args, out).await.map(|()| 0),
        Command::Kubeconfig(args) => kubeconfig::run(&args, out).map(|()| 0),
        Command::Crds => Ok(out.write_all(crds::resource::yaml(CATALOG).as_bytes()).map(|()| 0)?),
        Command::Completions(args) => {
            clap_complete::generate(args.shell, &mut Cli::command(), "weft", out);
            Ok(0)
        }
        Command::Filter(args) => filter::run(&args, out),
        Command::Parked(command) => parked::run(command, out).await.map(|()| 0),
        Command::Replay(args) => replay::run(args, out).await.map(|()| 0),
        Command::Explain(args) => explain::run(args, out).await.map(|()| 0),
        Command::Fsck(args) => fsck::run(&args, out),
    }
}

/// `weft tail | head` ends like any other command of a pipe.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(io)
}

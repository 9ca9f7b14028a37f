//! The `weft` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use integration::cli::Cli;
use integration::commands;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(Cli::parse())
}

//! A container as a process of this machine, with all that it starts.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::join;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::output::{Lines, Output};
use super::{GRACE, Program};
use crate::host::Host;
use crate::source::SourceError;

/// The shell that starts a program, and the script it does it with.
///
/// The program takes the shell's place: its process, its exit. Beside it stays a keeper in the same process group, adopted by
/// init, that reads the pipe which is the mesh's to write to: each line is a signal for the group, and the end of it is the end
/// of the group. The kernel closes the pipe when the mesh dies, however it does, so nothing outlives it but what left the
/// group; and as the keeper is of the group, its number cannot have become that of another.
const SHELL: &str = "/bin/sh";
const KEEPER: &str = r#"exec 3<&0 </dev/null
( (
  trap '' HUP INT TERM
  while read -r signal; do kill -s "$signal" 0; done
  kill -s KILL 0
) <&3 3<&- >/dev/null 2>&1 & )
exec 3<&-
exec "$@""#;

/// How long SIGKILL may take to be carried out; only what the kernel itself holds up takes longer.
const KILLED: Duration = Duration::from_millis(200);

/// How long what was printed last may take to be read. Only a process that left the group and kept the pipe takes longer.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A process that was started. Dropping it ends its group.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    /// The pipe to the keeper, until the group is to end.
    keeper: Option<ChildStdin>,
    out: Output<ChildStdout>,
    err: Output<ChildStderr>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no shell, no such directory, or no process to be had.
    pub(super) fn start(program: Program, host: &Host) -> Result<Self, SourceError> {
        let Program { container, command, args, variables } = program;
        let (name, directory) = (container.name, container.working_dir);
        let failed = |error: io::Error| {
            let place = if directory.is_empty() { "" } else { " in its workingDir" };
            SourceError::unavailable(format!("start container {name}{place}"), error)
        };
        let mut shell = Command::new(SHELL);
        shell
            .args(["-c", KEEPER, &name])
            .args(command)
            .args(args)
            .env_clear()
            .envs(host.environment.iter().map(|(name, value)| (name, value)))
            .envs(variables)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !directory.is_empty() {
            shell.current_dir(&directory);
        }
        let mut child = shell.spawn().map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(keeper), Some(out), Some(err)) = pipes else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let out = Output::new(out, Lines::new(&name, "stdout"));
        let err = Output::new(err, Lines::new(&name, "stderr"));
        Ok(Self { keeper: Some(keeper), out, err, child, name })
    }

    /// Waits until it ends, logs what it prints meanwhile, and says how it ended. What it started ends with it. May be dropped
    /// and called again.
    pub(super) async fn ended(&mut self) -> SourceError {
        let Self { name, child, keeper, out, err } = self;
        let printing = async {
            join(out.follow(), err.follow()).await;
            pending::<Infallible>().await
        };
        let ended = tokio::select! {
            ended = child.wait() => ended,
            never = printing => match never {},
        };
        *keeper = None;
        drop(timeout(LAST_WORDS, join(out.follow(), err.follow())).await);
        let what = match ended {
            Ok(status) => format!("container {name} ended: {}", how(status)),
            Err(error) => format!("container {name} cannot be waited for: {error}"),
        };
        SourceError::Ended { what }
    }

    /// Ends its group: SIGTERM, and SIGKILL for what is left after [`GRACE`].
    pub(super) async fn stop(mut self) {
        if let Some(keeper) = &mut self.keeper {
            // A keeper that does not read any more is gone, and so is the group.
            drop(keeper.write_all(b"TERM\n").await);
        }
        if timeout(GRACE, self.ended()).await.is_ok() {
            return;
        }
        tracing::debug!(container = self.name, "it did not end when asked to, and is killed");
        self.keeper = None;
        if timeout(KILLED, self.ended()).await.is_err() {
            tracing::error!(container = self.name, "it cannot be killed and is left behind");
        }
    }
}

/// How a program ended. The shell's own codes are explained: that it ended with them is all that is known of it.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code @ 126), _) => format!("exit code {code}, its command cannot be executed"),
        (Some(code @ 127), _) => format!("exit code {code}, its command was not found"),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

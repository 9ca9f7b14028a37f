//! Signals: the first asks for a clean stop, the second stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Exit code after a second signal: the shell's convention for SIGTERM.
const FORCED: i32 = 143;

/// Watches SIGTERM and SIGINT. The returned token is cancelled by the first; the second ends the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signal(tasks: &TaskTracker) -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (terminate, interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tasks.spawn(watch(terminate, interrupt, token.clone()));
    Ok(token)
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: in-flight deliveries finish; signal again to stop at once");
    token.cancel();
    either(&mut terminate, &mut interrupt).await;
    #[expect(clippy::exit, reason = "the second signal asks for exactly this")]
    std::process::exit(FORCED);
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! { _ = a.recv() => {}, _ = b.recv() => {} }
}

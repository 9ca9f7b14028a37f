//! How many connections the process can have: each is a file descriptor, and the log must never lack one.

use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

/// Descriptors kept for files and outgoing connections.
const RESERVED: u64 = 512;

/// Descriptors a process asks for: the connections of its listeners several times over. Not all that the system would
/// give: some programs close every number up to the limit when they start, and child processes inherit it.
const WANTED: u64 = 1 << 16;

/// The connections of all listeners together, since descriptors belong to the process.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let descriptors = raise(WANTED);
    let places = descriptors - RESERVED.min(descriptors / 2);
    let places = usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    tracing::debug!(descriptors, places, "connections the process can have");
    Arc::new(Semaphore::new(places))
});

pub(super) fn places() -> Arc<Semaphore> {
    Arc::clone(&PLACES)
}

/// Raises the soft limit of descriptors towards `wanted` and returns what it is then. Shells start programs with as few
/// as 256 or 1,024, from times when `select` could not count further; a program that does not use it may ask for more.
fn raise(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (have, most) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let target = wanted.min(most);
    if target <= have {
        return have;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum }) {
        Ok(()) => target,
        Err(error) => {
            tracing::warn!(%error, have, target, "raise the limit of open files");
            have
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_gets_more_descriptors_than_its_shell_gave_it() {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let most = maximum.unwrap_or(u64::MAX);
        // Not so low that the tests beside this one run out.
        setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(1000)), maximum }).unwrap();
        assert_eq!(raise(900), most.min(1000));
        assert_eq!(raise(1200), most.min(1200));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most.min(1200)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
}

//! How long changes are gathered before there is a new plan.

use std::time::Duration;

use tokio::time::Instant;

/// Changes come in bursts: `kubectl apply -f DIR` writes one object after the other, and planning each would make every
/// plan but the last one wasted work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debounce {
    /// How long it has to be quiet. Below what a person notices, above the pause between two writes of one client.
    pub(crate) quiet: Duration,
    /// How long a change waits at most, so that somebody who never stops changing things delays nobody.
    pub(crate) most: Duration,
}

impl Default for Debounce {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(20), most: Duration::from_millis(200) }
    }
}

impl Debounce {
    /// When to plan, if the first unplanned change came at `first` and the last one so far at `last`.
    pub(crate) fn due(self, first: Instant, last: Instant) -> Instant {
        (last + self.quiet).min(first + self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_quiet_but_never_longer_than_the_most() {
        let at = |millis| Instant::now() + Duration::from_millis(millis);
        let debounce = Debounce::default();
        assert_eq!(debounce.due(at(0), at(0)), at(20));
        assert_eq!(debounce.due(at(0), at(100)), at(120));
        assert_eq!(debounce.due(at(0), at(199)), at(200));
        assert_eq!(debounce.due(at(0), at(900)), at(200));
    }
}

//! How many messages may be here without acknowledgement: as many as were asked for, unless they are large. Pure.
//!
//! A prefetch knows no sizes, so a thousand messages can be nothing or gigabytes. To read no further when the memory is used up
//! is no way out for long: `RabbitMQ` closes a connection whose client does not read within half a minute, all messages go back
//! and come again, and a quorum queue drops what came too often. So the prefetch follows the sizes of the messages that come.

/// How much all of them together should hold: thirty thousand ordinary messages, or thirty large ones.
const BUDGET: u64 = 32 << 20;

/// The first prefetch, when nothing is known of their sizes: with the largest messages that `RabbitMQ` takes since version 4
/// (16 MiB) it stays within a few budgets.
const FIRST: u16 = 4;

/// How fast it grows. One step takes a round trip, and a source that starts should be at full pace in a moment.
const GROWTH: u16 = 8;

/// Over how many messages the mean of their sizes is taken, so that a single large one does not count for much.
const WEIGHT: u64 = 16;

/// A prefetch that follows the sizes of messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefetch {
    most: u16,
    now: u16,
    /// Bytes of a message; zero before the first.
    mean: u64,
}

impl Prefetch {
    /// Of `most` messages, if their sizes allow.
    pub(super) fn new(most: u16) -> Self {
        Self { most, now: most.min(FIRST), mean: 0 }
    }

    /// How many may be here.
    pub(super) fn now(&self) -> u16 {
        self.now
    }

    /// Notes a message of that many bytes.
    pub(super) fn saw(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).max(1);
        self.mean = match self.mean {
            0 => bytes,
            mean => mean - mean / WEIGHT + bytes / WEIGHT,
        };
    }

    /// Makes it fit what was seen. Says whether it changed.
    pub(super) fn adapt(&mut self) -> bool {
        let fitting = u16::try_from(BUDGET / self.mean.max(1)).unwrap_or(u16::MAX);
        let fitting = fitting.clamp(1, self.most);
        // Twice and half: between them it is not worth a new consumer.
        if fitting < self.now / 2 {
            self.now = fitting;
        } else if fitting / 2 >= self.now {
            self.now = fitting.min(self.now.saturating_mul(GROWTH));
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Prefetch;

    /// Lets messages of that size come until it no longer changes. The numbers on the way.
    fn settle(prefetch: &mut Prefetch, bytes: usize) -> Vec<u16> {
        let mut numbers = vec![prefetch.now()];
        for _ in 0..20 {
            (0..prefetch.now()).for_each(|_| prefetch.saw(bytes));
            if prefetch.adapt() {
                numbers.push(prefetch.now());
            }
        }
        numbers
    }

    #[test]
    fn small_messages_come_in_the_number_asked_for_after_a_few_steps() {
        assert_eq!(settle(&mut Prefetch::new(1000), 1000), [4, 32, 256, 1000]);
        assert_eq!(settle(&mut Prefetch::new(10_000), 1), [4, 32, 256, 2048, 10_000]);
    }

    #[test]
    fn large_messages_come_in_small_numbers() {
        for (bytes, most) in [(64 << 10, 512), (1 << 20, 32), (16 << 20, 2), (128 << 20, 1)] {
            let now = *settle(&mut Prefetch::new(1000), bytes).last().unwrap();
            // No more than the budget allows, unless they are the first, and no less than half of it.
            assert!(now <= most.max(4) && now >= most / 2, "{bytes}: {now}");
        }
    }

    #[test]
    fn it_follows_messages_that_grow_and_shrink() {
        let mut prefetch = Prefetch::new(1000);
        settle(&mut prefetch, 1000);
        let numbers = settle(&mut prefetch, 4 << 20);
        assert!((4..=16).contains(numbers.last().unwrap()), "{numbers:?}");
        let numbers = settle(&mut prefetch, 1000);
        assert!(numbers.last().is_some_and(|now| *now > 500), "{numbers:?}");
    }

    #[test]
    fn one_large_message_among_small_ones_changes_nothing() {
        let mut prefetch = Prefetch::new(1000);
        settle(&mut prefetch, 1000);
        for index in 0..10_000 {
            prefetch.saw(if index % 500 == 0 { 256 << 10 } else { 1000 });
            assert!(!prefetch.adapt());
        }
    }

    #[test]
    fn a_small_number_stays() {
        for most in 1..=4 {
            assert_eq!(settle(&mut Prefetch::new(most), 100), [most]);
        }
        assert_eq!(settle(&mut Prefetch::new(1), usize::MAX), [1]);
    }
}

//! Conditions, and what they sum up to: the arithmetic of Knative's living condition sets.

use crds::condition::{Condition, READY, Truth};

/// The conditions of one object. Each counts for `Ready`, but those that are only mentioned.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Condition>);

impl Conditions {
    /// It holds.
    pub(crate) fn holds(&mut self, kind: &str) {
        self.0.push(Condition::new(kind, Truth::True));
    }

    /// It holds or does not, and why.
    pub(crate) fn because(&mut self, kind: &str, status: Truth, reason: &str, message: &str) {
        self.0.push(Condition::new(kind, status).because(reason, message));
    }

    /// It holds or does not, unless something was said of it already.
    pub(crate) fn otherwise(&mut self, kind: &str, status: Truth, reason: &str, message: &str) {
        if self.0.iter().all(|condition| condition.kind != kind) {
            self.because(kind, status, reason, message);
        }
    }

    /// It holds or does not, and does not count for `Ready`.
    pub(crate) fn mention(&mut self, kind: &str, status: Truth, reason: &str, message: &str) {
        let severity = if status == Truth::True { "Info" } else { "Warning" }.to_owned();
        let condition = Condition::new(kind, status).because(reason, message);
        self.0.push(Condition { severity, ..condition });
    }

    /// It is what `other` is, as a Trigger repeats its Broker's readiness.
    pub(crate) fn like(&mut self, kind: &str, other: &Condition) {
        self.because(kind, other.status, &other.reason, &other.message);
    }

    /// All of them and `Ready`, by type, as Knative sorts them. What does not hold counts more than what nobody knows; of
    /// several the one that was said first, so the order of calls is the order of importance.
    pub(crate) fn finish(self) -> Vec<Condition> {
        let Self(mut conditions) = self;
        let mut counting = conditions.iter().filter(|condition| condition.severity.is_empty());
        let mut counts = counting.clone();
        let unhappy = counting
            .find(|condition| condition.status == Truth::False)
            .or_else(|| counts.find(|condition| condition.status == Truth::Unknown));
        let ready = unhappy.map_or_else(
            || Condition::new(READY, Truth::True),
            |why| Condition { kind: READY.to_owned(), ..why.clone() },
        );
        conditions.push(ready);
        conditions.sort_by(|one, other| one.kind.cmp(&other.kind));
        conditions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(given: &[(Truth, &str)]) -> Condition {
        let mut conditions = Conditions::default();
        for (index, (truth, reason)) in given.iter().enumerate() {
            conditions.because(&format!("C{index}"), *truth, reason, "");
        }
        conditions.finish().into_iter().find(|condition| condition.kind == READY).unwrap()
    }

    #[test]
    fn ready_is_false_before_unknown_before_true_and_says_the_first_reason() {
        let cases = [
            (&[][..], Truth::True, ""),
            (&[(Truth::True, "Fine")], Truth::True, ""),
            (
                &[(Truth::True, "a"), (Truth::Unknown, "b"), (Truth::Unknown, "c")],
                Truth::Unknown,
                "b",
            ),
            (&[(Truth::Unknown, "a"), (Truth::False, "b"), (Truth::False, "c")], Truth::False, "b"),
        ];
        for (given, truth, reason) in cases {
            let ready = ready(given);
            assert_eq!((ready.status, ready.reason.as_str()), (truth, reason), "{given:?}");
        }
    }

    #[test]
    fn conditions_are_sorted_by_type() {
        let mut conditions = Conditions::default();
        conditions.holds("Z");
        conditions.holds("A");
        let kinds: Vec<_> =
            conditions.finish().into_iter().map(|condition| condition.kind).collect();
        assert_eq!(kinds, ["A", "Ready", "Z"]);
    }
}

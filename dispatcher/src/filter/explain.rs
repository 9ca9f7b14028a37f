//! Why a filter passes an event or not, in a sentence for people.

use broker_event::Event;

use super::{Filter, Pairs, attribute, value_of, with_text};

/// A filter's answer with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the event passes.
    pub matched: bool,
    /// A sentence that names the attribute, what was wanted and what was found.
    pub reason: String,
}

impl Verdict {
    fn new(matched: bool, reason: impl Into<String>) -> Self {
        Self { matched, reason: reason.into() }
    }
}

impl Filter {
    /// Whether `event` passes, and why: the first condition that decides.
    #[must_use]
    pub fn explain(&self, event: &Event) -> Verdict {
        match self {
            Self::All(filters) if filters.is_empty() => Verdict::new(true, "there is no filter"),
            Self::All(filters) => {
                let verdicts: Vec<_> = filters.iter().map(|filter| filter.explain(event)).collect();
                decided(verdicts, false, true)
            }
            Self::Any(filters) => {
                let verdicts: Vec<_> = filters.iter().map(|filter| filter.explain(event)).collect();
                decided(verdicts, true, false)
            }
            Self::Not(filter) => {
                let inner = filter.explain(event);
                Verdict::new(!inner.matched, format!("not ({})", inner.reason))
            }
            Self::Exact(pairs) => {
                explain(pairs, event, "is", "is not", |have, wanted| have == wanted)
            }
            Self::Prefix(pairs) => {
                explain(pairs, event, "starts with", "does not start with", |have, wanted| {
                    have.starts_with(wanted)
                })
            }
            Self::Suffix(pairs) => {
                explain(pairs, event, "ends with", "does not end with", |have, wanted| {
                    have.ends_with(wanted)
                })
            }
            Self::Attributes(pairs) => attributes(pairs, event),
            Self::Cesql(expression) => cesql(expression, event),
        }
    }
}

/// The first verdict that is `early` decides; if there is none, the answer is `otherwise` for all their reasons.
fn decided(verdicts: Vec<Verdict>, early: bool, otherwise: bool) -> Verdict {
    if let Some(verdict) = verdicts.iter().find(|verdict| verdict.matched == early) {
        return verdict.clone();
    }
    let reasons: Vec<_> = verdicts.into_iter().map(|verdict| verdict.reason).collect();
    let reason = if reasons.is_empty() {
        "there is nothing to match".to_owned()
    } else {
        reasons.join("; ")
    };
    Verdict::new(otherwise, reason)
}

fn explain(
    pairs: &Pairs,
    event: &Event,
    does: &str,
    does_not: &str,
    fits: impl Fn(&str, &str) -> bool,
) -> Verdict {
    let mut held = Vec::new();
    for (name, wanted) in pairs {
        let value = value_of(event, name);
        if with_text(value, |have| fits(have, wanted)) {
            held.push(format!("{name} {does} {wanted:?}"));
            continue;
        }
        let mut found = format!("the event has no {name}; {wanted:?} is wanted");
        with_text(value, |have| {
            found = format!("{name} is {have:?}, which {does_not} {wanted:?}");
            true
        });
        return Verdict::new(false, found);
    }
    Verdict::new(true, held.join("; "))
}

fn attributes(pairs: &Pairs, event: &Event) -> Verdict {
    let failing = pairs.iter().find(|(name, wanted)| !attribute(event, name, wanted));
    match failing {
        None => {
            let held: Vec<_> = pairs
                .iter()
                .map(|(name, wanted)| {
                    if wanted.is_empty() {
                        format!("{name} is there")
                    } else {
                        format!("{name} is {wanted:?}")
                    }
                })
                .collect();
            Verdict::new(true, held.join("; "))
        }
        Some((name, wanted)) => {
            let mut found = format!("the event has no {name}");
            with_text(value_of(event, name), |have| {
                found = format!("{name} is {have:?}, not the text {wanted:?}");
                true
            });
            Verdict::new(false, found)
        }
    }
}

fn cesql(expression: &super::cesql::Expression, event: &Event) -> Verdict {
    let text = expression.as_str();
    let evaluation = expression.evaluate(event);
    match (evaluation.error, evaluation.value) {
        (Some(error), _) => Verdict::new(false, format!("{text} has no answer: {error}")),
        (None, super::cesql::Value::Boolean(matched)) => {
            Verdict::new(matched, format!("{text} is {matched}"))
        }
        (None, other) => {
            Verdict::new(false, format!("{text} is {other}, which is neither true nor false"))
        }
    }
}

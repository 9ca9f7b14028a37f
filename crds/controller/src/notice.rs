//! What is told as a Kubernetes Event: that an object became ready, or is no longer.

use crds::condition::{Condition, Truth};
use crds::object::Key;

/// Kubernetes' limits on the texts of an Event, in bytes.
const MAX_REASON: usize = 128;
const MAX_MESSAGE: usize = 1024;

/// Which object an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(crate) key: Key,
    pub(crate) api_version: String,
    pub(crate) uid: String,
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    pub(crate) about: About,
    /// Whether it is a `Warning`, else it is `Normal`.
    pub warning: bool,
    /// Why, as one CamelCase word of at most 128 bytes.
    pub reason: String,
    /// Why, in a sentence of at most 1024 bytes.
    pub message: String,
}

impl Notice {
    /// The object it is about.
    #[must_use]
    pub fn about(&self) -> &Key {
        &self.about.key
    }
}

/// What is worth telling about readiness that was `old` and becomes `new`. That a new object is ready at once is not: ten
/// thousand Triggers that come with a restart would be as many Events of no news.
pub(crate) fn transition(
    about: About,
    old: Option<&Condition>,
    new: Option<&Condition>,
) -> Option<Notice> {
    let new = new?;
    let before = old.map_or(Truth::Unknown, |old| old.status);
    let same = old.is_some_and(|old| old.status == new.status && old.reason == new.reason);
    match new.status {
        Truth::True if old.is_some() && before != Truth::True => {
            let message = format!("{} {:?} became ready", about.key.kind, about.key.name);
            Some(Notice { about, warning: false, reason: "Ready".to_owned(), message })
        }
        Truth::Unknown if before != Truth::True => None,
        Truth::False | Truth::Unknown if !same => {
            let reason = word(&new.reason);
            let message = cut(&new.message, MAX_MESSAGE).to_owned();
            Some(Notice { about, warning: true, reason, message })
        }
        _ => None,
    }
}

/// The reason as one word: some of Knative's are sentences.
fn word(reason: &str) -> String {
    let plain = !reason.is_empty() && reason.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { cut(reason, MAX_REASON).to_owned() } else { "NotReady".to_owned() }
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::condition::READY;

    fn told(old: Option<(Truth, &str)>, new: (Truth, &str)) -> Option<(bool, String)> {
        let about = About {
            key: Key { kind: "Trigger", namespace: "ns".to_owned(), name: "t".to_owned() },
            api_version: "eventing.knative.dev/v1".to_owned(),
            uid: "1".to_owned(),
        };
        let condition =
            |(status, reason): (Truth, &str)| Condition::new(READY, status).because(reason, "why");
        let old = old.map(condition);
        let notice = transition(about, old.as_ref(), Some(&condition(new)))?;
        Some((notice.warning, notice.reason))
    }

    #[test]
    fn only_leaving_and_reaching_readiness_is_told() {
        use Truth::{False, True, Unknown};
        let warning = |reason: &str| Some((true, reason.to_owned()));
        let normal = Some((false, "Ready".to_owned()));
        let cases = [
            (None, (True, ""), None),
            (None, (Unknown, "Wait"), None),
            (None, (False, "BrokerDoesNotExist"), warning("BrokerDoesNotExist")),
            (Some((True, "")), (True, ""), None),
            (Some((True, "")), (Unknown, "Wait"), warning("Wait")),
            (Some((True, "")), (False, "Unable to get it"), warning("NotReady")),
            (Some((False, "A")), (False, "A"), None),
            (Some((False, "A")), (False, "B"), warning("B")),
            (Some((False, "A")), (Unknown, "B"), None),
            (Some((False, "A")), (True, ""), normal.clone()),
            (Some((Unknown, "A")), (True, ""), normal),
        ];
        for (old, new, expected) in cases {
            assert_eq!(told(old, new), expected, "{old:?} → {new:?}");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("aä", 3), "aä");
    }
}

//! The sender's place in a trace: W3C's headers, which are the extensions of the same names.

use broker_event::{Event, Value};
use http::HeaderMap;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Longest header kept: the specification asks for 512 characters of state to be carried.
const MAX: usize = 1024;

/// A trace context that came with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    parent: String,
    state: Option<String>,
}

impl Trace {
    /// The context `headers` carry; as the specification asks, one that is malformed is ignored with its state.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(PARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        if parents.next().is_some() || !is_parent(parent) {
            return None;
        }
        let state: Option<Vec<&str>> =
            headers.get_all(STATE).iter().map(|field| field.to_str().ok()).collect();
        let state = state.map(|fields| fields.join(",")).filter(|state| !state.is_empty());
        let state = state.filter(|state| state.len() <= MAX && is_text(state));
        Some(Self { parent: parent.to_owned(), state })
    }

    /// Goes with the event, unless that brings a context of its own.
    pub(super) fn travel_with(&self, event: &mut Event) {
        if event.extension(PARENT).is_some() {
            return;
        }
        event.set_extension(PARENT, Value::from(self.parent.as_str()));
        if let Some(state) = &self.state {
            event.set_extension(STATE, Value::from(state.as_str()));
        }
    }
}

/// Header values may hold tabs, attributes may not.
fn is_text(state: &str) -> bool {
    state.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// `version-trace-parent-flags` in lower-case hexadecimal; versions beyond 00 may have more behind another dash.
fn is_parent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut next = |digits: usize| parts.next().filter(|part| is_hex(part, digits));
    let (Some(version), Some(trace), Some(parent), Some(_flags)) =
        (next(2), next(32), next(16), next(2))
    else {
        return false;
    };
    let is_set = |part: &str| part.bytes().any(|digit| digit != b'0');
    let may_go_on = version != "00" && text.len() <= MAX && is_text(text);
    version != "ff" && is_set(trace) && is_set(parent) && (may_go_on || parts.next().is_none())
}

fn is_hex(part: &str, digits: usize) -> bool {
    part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_event::EventBuilder;
    use http::HeaderValue;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const REST: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn travelled(fields: &[(&'static str, &str)], event: EventBuilder) -> [Option<String>; 2] {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let mut event = event.build().unwrap();
        if let Some(trace) = Trace::of(&headers) {
            trace.travel_with(&mut event);
        }
        [PARENT, STATE].map(|name| event.extension(name).map(ToString::to_string))
    }

    fn plain() -> EventBuilder {
        EventBuilder::new("1", "/s", "t")
    }

    #[test]
    fn a_context_and_all_its_state_travel_with_the_event() {
        let fields = [(PARENT, GOOD), (STATE, "a=1"), (STATE, "b=2")];
        assert_eq!(
            travelled(&fields, plain()),
            [Some(GOOD.to_owned()), Some("a=1,b=2".to_owned())]
        );
        assert_eq!(travelled(&[(PARENT, GOOD)], plain()), [Some(GOOD.to_owned()), None]);
    }

    #[test]
    fn an_event_keeps_its_own_context() {
        let own = plain().extension(PARENT, "own");
        let fields = [(PARENT, GOOD), (STATE, "a=1")];
        assert_eq!(travelled(&fields, own), [Some("own".to_owned()), None]);
    }

    #[test]
    fn what_is_no_context_is_ignored_with_its_state() {
        let long = format!("01-{REST}-{}", "x".repeat(MAX));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &long,
        ] {
            assert_eq!(travelled(&[(PARENT, bad), (STATE, "a=1")], plain()), [None, None], "{bad}");
        }
        assert_eq!(travelled(&[(PARENT, GOOD), (PARENT, GOOD)], plain()), [None, None]);
        assert_eq!(travelled(&[(STATE, "a=1")], plain()), [None, None]);
    }

    #[test]
    fn later_versions_are_carried_as_they_are() {
        let later = format!("cc-{REST}-what-the-future-holds");
        assert_eq!(travelled(&[(PARENT, &later)], plain())[0].as_deref(), Some(&*later));
    }

    #[test]
    fn state_that_no_attribute_may_hold_is_left_behind() {
        for state in ["a=\t1", &"x".repeat(MAX + 1), ""] {
            let fields = [(PARENT, GOOD), (STATE, state)];
            assert_eq!(travelled(&fields, plain()), [Some(GOOD.to_owned()), None], "{state}");
        }
    }
}

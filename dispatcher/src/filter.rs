//! Which events a trigger wants: every filter dialect of Knative, pure and compiled.
//!
//! A filter knows no trigger and no store. Its tree nests as deep as the resource it came from, which bounds it.

use broker_event::{Event, ValueRef};

pub mod cesql;
mod explain;
pub mod index;

pub use explain::Verdict;

/// Attribute names and what is asked of their values.
pub type Pairs = Vec<(Box<str>, Box<str>)>;

/// A filter. Without any condition (`All` of nothing) every event passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every one of these.
    All(Vec<Self>),
    /// At least one of these.
    Any(Vec<Self>),
    /// Not this. An error inside (a CESQL expression over a missing attribute) counts as no match, so this passes.
    Not(Box<Self>),
    /// Every attribute has exactly this value, as text.
    Exact(Pairs),
    /// Every attribute starts with this text.
    Prefix(Pairs),
    /// Every attribute ends with this text.
    Suffix(Pairs),
    /// The older `filter.attributes`: like `Exact` for texts, and an empty value asks only that the attribute is there.
    Attributes(Pairs),
    /// A CESQL expression is true. An error is not.
    Cesql(cesql::Expression),
}

impl Default for Filter {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Filter {
    /// Whether `event` passes.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(event)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(event)),
            Self::Not(filter) => !filter.matches(event),
            Self::Exact(pairs) => all(pairs, event, |have, wanted| have == wanted),
            Self::Prefix(pairs) => all(pairs, event, |have, wanted| have.starts_with(wanted)),
            Self::Suffix(pairs) => all(pairs, event, |have, wanted| have.ends_with(wanted)),
            Self::Attributes(pairs) => {
                pairs.iter().all(|(name, wanted)| attribute(event, name, wanted))
            }
            Self::Cesql(expression) => expression.matches(event),
        }
    }
}

fn all(pairs: &Pairs, event: &Event, fits: impl Fn(&str, &str) -> bool) -> bool {
    pairs.iter().all(|(name, wanted)| with_text(value_of(event, name), |have| fits(have, wanted)))
}

/// One pair of the older dialect. Values that are no text never equal one.
fn attribute(event: &Event, name: &str, wanted: &str) -> bool {
    match value_of(event, name) {
        Some(ValueRef::String(have)) if wanted.is_empty() => !have.is_empty(),
        Some(ValueRef::String(have)) => have == wanted,
        Some(ValueRef::Boolean(_) | ValueRef::Integer(_)) => wanted.is_empty(),
        None => false,
    }
}

/// The value of an attribute by its name, or by one of the older names that Knative still knows.
fn value_of<'a>(event: &'a Event, name: &str) -> Option<ValueRef<'a>> {
    match name {
        "schemaurl" => event.data_schema().map(ValueRef::String),
        "datamediatype" => {
            let whole = event.data_content_type()?;
            let media_type = whole.split_once(';').map_or(whole, |(media_type, _)| media_type);
            Some(ValueRef::String(media_type.trim_end()))
        }
        name => event.attribute(name),
    }
}

/// Hands a value to `test` as text, without allocating for texts and truths. An absent one fails it.
fn with_text(value: Option<ValueRef<'_>>, test: impl FnOnce(&str) -> bool) -> bool {
    match value {
        None => false,
        Some(ValueRef::String(text)) => test(text),
        Some(ValueRef::Boolean(truth)) => test(if truth { "true" } else { "false" }),
        Some(ValueRef::Integer(number)) => test(&number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::store::{Selector, Slot};
    use broker_event::{EventBuilder, Value};

    fn event() -> Event {
        EventBuilder::new("1", "/shop", "order.placed")
            .extension("count", Value::from(7))
            .extension("vip", Value::from(true))
            .extension("team", Value::from("blue"))
            .build()
            .expect("an event")
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn passes(filter: &Filter) -> bool {
        let event = event();
        let verdict = filter.explain(&event);
        assert_eq!(verdict.matched, filter.matches(&event), "{}", verdict.reason);
        verdict.matched
    }

    #[test]
    fn exact_prefix_and_suffix_compare_text_and_need_every_attribute() {
        assert!(passes(&Filter::Exact(pairs(&[
            ("type", "order.placed"),
            ("count", "7"),
            ("vip", "true")
        ]))));
        assert!(!passes(&Filter::Exact(pairs(&[("type", "order.placed"), ("team", "red")]))));
        assert!(!passes(&Filter::Exact(pairs(&[("nosuch", "x")]))));
        assert!(passes(&Filter::Prefix(pairs(&[("type", "order.")]))));
        assert!(!passes(&Filter::Prefix(pairs(&[("type", "placed")]))));
        assert!(passes(&Filter::Suffix(pairs(&[("type", ".placed")]))));
        assert!(!passes(&Filter::Suffix(pairs(&[("subject", "x")]))));
    }

    #[test]
    fn the_older_dialect_takes_an_empty_value_for_presence() {
        assert!(passes(&Filter::Attributes(pairs(&[("type", "order.placed"), ("team", "")]))));
        assert!(!passes(&Filter::Attributes(pairs(&[("subject", "")]))));
        assert!(!passes(&Filter::Attributes(pairs(&[("count", "7")]))), "a number is no text");
        assert!(passes(&Filter::Attributes(pairs(&[("count", "")]))));
    }

    #[test]
    fn older_names_of_attributes_are_known() {
        let event = EventBuilder::new("1", "/shop", "order.placed")
            .data_content_type("application/json ; charset=utf-8")
            .data_schema("https://shop.example/order")
            .build()
            .expect("an event");
        for (name, value) in
            [("datamediatype", "application/json"), ("schemaurl", "https://shop.example/order")]
        {
            let pairs = pairs(&[(name, value)]);
            for filter in [Filter::Attributes(pairs.clone()), Filter::Exact(pairs)] {
                assert!(filter.matches(&event) && filter.explain(&event).matched, "{filter:?}");
                assert!(!passes(&filter), "the other event has neither");
                let index = index::Index::new([(Slot(0), filter)]);
                let mut matched = Vec::new();
                index.select(&event, &mut matched);
                assert_eq!(matched, [Slot(0)]);
            }
        }
    }

    #[test]
    fn only_what_an_expression_says_is_true_passes() {
        let cesql = |text| Filter::Cesql(cesql::Expression::parse(text).expect("parses"));
        assert!(passes(&cesql("vip")));
        assert!(passes(&cesql("team = 'blue' AND count > 6")));
        for neither in ["team", "count", "'true'", "1"] {
            assert!(!passes(&cesql(neither)), "{neither} is neither true nor false");
        }
    }

    #[test]
    fn all_any_and_not_combine() {
        let (yes, no) = (Filter::default(), Filter::Any(Vec::new()));
        assert!(passes(&Filter::All(vec![yes.clone(), yes.clone()])));
        assert!(!passes(&Filter::All(vec![yes.clone(), no.clone()])));
        assert!(passes(&Filter::Any(vec![no.clone(), yes])));
        assert!(passes(&Filter::Not(Box::new(no))));
    }

    #[test]
    fn an_error_in_cesql_is_no_match_and_not_of_it_is_one() {
        let failing = Filter::Cesql(cesql::Expression::parse("nosuch = 1").expect("parses"));
        assert!(!passes(&failing));
        assert!(passes(&Filter::Not(Box::new(failing))));
    }
}

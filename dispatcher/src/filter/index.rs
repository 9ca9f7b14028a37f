//! The trigger index: all filters of a broker at once, at the cost of the few that can match.
//!
//! A filter that asks for an exact value of an attribute is found by hashing that value; only then is the whole of it
//! evaluated. The rest, which no value can find, is evaluated for every event.

use std::collections::HashMap;
use std::sync::Arc;

use broker::store::{Selector, Slot};
use broker_event::{Event, ValueRef};
use foldhash::fast::RandomState;

use super::{Filter, Pairs, value_of};

/// The filters of a broker's triggers.
#[derive(Debug, Default)]
pub struct Index {
    filters: HashMap<Slot, Entry, RandomState>,
    /// By attribute, by value: who asks for it.
    exact: Vec<(Box<str>, Values)>,
    /// Who cannot be found by a value.
    scanned: Vec<Entry>,
}

/// Who asks for each value of one attribute.
type Values = HashMap<Box<str>, Vec<Entry>, RandomState>;

#[derive(Clone, Debug)]
struct Entry {
    slot: Slot,
    /// `None` when the value it was found by is all it asks for.
    rest: Option<Arc<Filter>>,
}

impl Entry {
    fn passes(&self, event: &Event) -> bool {
        self.rest.as_ref().is_none_or(|filter| filter.matches(event))
    }
}

impl Index {
    /// Indexes `filters`; each slot comes once.
    #[must_use]
    pub fn new(filters: impl IntoIterator<Item = (Slot, Filter)>) -> Self {
        let filters: Vec<(Slot, Arc<Filter>)> =
            filters.into_iter().map(|(slot, filter)| (slot, Arc::new(filter))).collect();
        let spread = Spread::of(&filters);
        let mut index = Self::default();
        let mut by_name: HashMap<Box<str>, Values> = HashMap::new();
        for (slot, filter) in filters {
            let whole = Entry { slot, rest: Some(filter.clone()) };
            index.filters.insert(slot, whole.clone());
            match spread.best(&filter) {
                None if filter_is_empty(&filter) => index.scanned.push(Entry { slot, rest: None }),
                None => index.scanned.push(whole),
                Some((name, value)) => {
                    let alone = is_only(&filter);
                    let entry = if alone { Entry { slot, rest: None } } else { whole };
                    by_name
                        .entry(name.into())
                        .or_default()
                        .entry(value.into())
                        .or_default()
                        .push(entry);
                }
            }
        }
        index.exact = by_name.into_iter().collect();
        index
    }
}

impl Selector for Index {
    fn select(&self, event: &Event, matched: &mut Vec<Slot>) {
        for (name, values) in &self.exact {
            let found = match value_of(event, name) {
                None => None,
                Some(ValueRef::String(text)) => values.get(text),
                Some(ValueRef::Boolean(truth)) => values.get(if truth { "true" } else { "false" }),
                Some(ValueRef::Integer(number)) => values.get(number.to_string().as_str()),
            };
            let entries = found.into_iter().flatten().filter(|entry| entry.passes(event));
            matched.extend(entries.map(|entry| entry.slot));
        }
        let entries = self.scanned.iter().filter(|entry| entry.passes(event));
        matched.extend(entries.map(|entry| entry.slot));
    }

    fn wants(&self, slot: Slot, event: &Event) -> bool {
        self.filters.get(&slot).is_some_and(|entry| entry.passes(event))
    }
}

/// How many filters ask for each value: the rarest value finds the fewest that do not match.
struct Spread(HashMap<(Box<str>, Box<str>), usize>);

impl Spread {
    fn of(filters: &[(Slot, Arc<Filter>)]) -> Self {
        let mut counts = HashMap::new();
        for (_, filter) in filters {
            conditions(filter, &mut |name, value| {
                *counts.entry((name.into(), value.into())).or_insert(0) += 1;
            });
        }
        Self(counts)
    }

    /// The condition by which `filter` is best found.
    fn best<'a>(&self, filter: &'a Filter) -> Option<(&'a str, &'a str)> {
        let mut best: Option<(usize, (&str, &str))> = None;
        conditions(filter, &mut |name, value| {
            let count =
                self.0.get(&(Box::from(name), Box::from(value))).copied().unwrap_or(usize::MAX);
            if best.is_none_or(|(least, _)| count < least) {
                best = Some((count, (name, value)));
            }
        });
        best.map(|(_, condition)| condition)
    }
}

/// Calls `found` with every exact value without which `filter` cannot pass.
fn conditions<'a>(filter: &'a Filter, found: &mut dyn FnMut(&'a str, &'a str)) {
    match filter {
        Filter::All(filters) => filters.iter().for_each(|filter| conditions(filter, found)),
        Filter::Exact(pairs) | Filter::Attributes(pairs) => {
            let valued = pairs.iter().filter(|(_, value)| !value.is_empty());
            valued.for_each(|(name, value)| found(name, value));
        }
        // Where one alternative is all there is, it is no alternative.
        Filter::Any(filters) if filters.len() == 1 => {
            filters.iter().for_each(|filter| conditions(filter, found))
        }
        Filter::Any(_)
        | Filter::Not(_)
        | Filter::Prefix(_)
        | Filter::Suffix(_)
        | Filter::Cesql(_) => {}
    }
}

/// Whether one exact value is all that `filter` asks for. The older dialect is not: it tells texts from numbers.
fn is_only(filter: &Filter) -> bool {
    match filter {
        Filter::Exact(pairs) => is_single(pairs),
        Filter::All(filters) | Filter::Any(filters) => {
            matches!(filters.as_slice(), [only] if is_only(only))
        }
        _ => false,
    }
}

fn is_single(pairs: &Pairs) -> bool {
    matches!(pairs.as_slice(), [(_, value)] if !value.is_empty())
}

fn filter_is_empty(filter: &Filter) -> bool {
    matches!(filter, Filter::All(filters) if filters.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_event::{EventBuilder, Value};
    use proptest::prelude::*;

    fn selected(index: &Index, event: &Event) -> Vec<u32> {
        let mut matched = Vec::new();
        index.select(event, &mut matched);
        let mut slots: Vec<u32> = matched.into_iter().map(|slot| slot.0).collect();
        slots.sort_unstable();
        slots
    }

    fn pairs() -> impl Strategy<Value = Pairs> {
        let names =
            vec!["type", "source", "subject", "ext", "number", "schemaurl", "datamediatype"];
        let name = prop::sample::select(names);
        let value = prop::sample::select(vec!["a", "b", "ab", "7", "true", ""]);
        prop::collection::vec((name.prop_map(Box::from), value.prop_map(Box::from)), 1..3)
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let leaf = prop_oneof![
            pairs().prop_map(Filter::Exact),
            pairs().prop_map(Filter::Prefix),
            pairs().prop_map(Filter::Suffix),
            pairs().prop_map(Filter::Attributes),
            Just(Filter::Cesql(super::super::cesql::Expression::parse("subject = 'a'").unwrap())),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::All),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Any),
                inner.prop_map(|filter| Filter::Not(Box::new(filter))),
            ]
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let text = || prop::sample::select(vec!["a", "b", "ab", "7"]);
        let extension = prop_oneof![
            text().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::from(7)),
        ];
        (text(), text(), prop::option::of(text()), prop::option::of(extension)).prop_map(
            |(ty, source, subject, extension)| {
                let mut builder = EventBuilder::new("1", source, ty);
                if let Some(subject) = subject {
                    builder = builder.subject(subject);
                }
                if let Some(value) = extension {
                    builder = builder.extension("ext", value.clone()).extension("number", value);
                }
                builder.build().unwrap()
            },
        )
    }

    proptest! {
        #[test]
        fn the_index_finds_exactly_what_every_filter_alone_finds(
            filters in prop::collection::vec(filter(), 0..20),
            events in prop::collection::vec(event(), 1..10),
        ) {
            let numbered = || (0..).map(Slot).zip(filters.iter().cloned());
            let index = Index::new(numbered());
            for event in &events {
                let alone: Vec<u32> =
                    numbered().filter(|(_, filter)| filter.matches(event)).map(|(slot, _)| slot.0).collect();
                prop_assert_eq!(selected(&index, event), alone);
                for (slot, filter) in numbered() {
                    prop_assert_eq!(index.wants(slot, event), filter.matches(event));
                }
            }
        }
    }

    #[test]
    fn ten_thousand_exact_filters_leave_one_to_look_at() {
        let filter = |n: u32| {
            Filter::All(vec![Filter::Exact(vec![("type".into(), format!("t{n}").into())])])
        };
        let index = Index::new((0..10_000).map(|n| (Slot(n), filter(n))));
        assert!(index.scanned.is_empty());
        let event = EventBuilder::new("1", "/s", "t77").build().unwrap();
        assert_eq!(selected(&index, &event), [77]);
    }
}

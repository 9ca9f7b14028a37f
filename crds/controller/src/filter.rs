//! The filters of Triggers and sources as the dispatcher evaluates them.

use std::collections::BTreeMap;

use crds::trigger::{SubscriptionsApiFilter, Trigger};
use dispatcher::filter::Filter;
use dispatcher::filter::cesql::Expression;

/// Filters nested deeper than this are refused, as admission's schema does: evaluating them recurses.
const MAX_DEPTH: usize = 32;

/// The filter of a Trigger: `filters` wins over `filter` unless it is empty; without both everything matches.
///
/// # Errors
/// A sentence about the element that cannot be evaluated, which admission would have refused.
pub fn filter(trigger: &Trigger) -> Result<Filter, String> {
    if !trigger.spec.filters.is_empty() {
        return filters(&trigger.spec.filters);
    }
    let attributes = trigger.spec.filter.as_ref().map(|filter| pairs(&filter.attributes));
    match attributes {
        Some(attributes) if !attributes.is_empty() => Ok(Filter::Attributes(attributes)),
        _ => Ok(Filter::All(Vec::new())),
    }
}

/// The filter that a list of filters makes: all of them must match.
///
/// # Errors
/// A sentence about the element that cannot be evaluated, which admission would have refused.
pub fn filters(filters: &[SubscriptionsApiFilter]) -> Result<Filter, String> {
    list(filters, 0).map(Filter::All)
}

fn list(filters: &[SubscriptionsApiFilter], depth: usize) -> Result<Vec<Filter>, String> {
    filters.iter().map(|filter| one(filter, depth)).collect()
}

fn one(filter: &SubscriptionsApiFilter, depth: usize) -> Result<Filter, String> {
    if depth == MAX_DEPTH {
        return Err(format!("spec.filters: more than {MAX_DEPTH} levels"));
    }
    let SubscriptionsApiFilter { all, any, not, exact, prefix, suffix, cesql } = filter;
    Ok(if let Some(all) = all {
        Filter::All(list(all, depth + 1)?)
    } else if let Some(any) = any {
        Filter::Any(list(any, depth + 1)?)
    } else if let Some(not) = not {
        Filter::Not(Box::new(one(not, depth + 1)?))
    } else if let Some(exact) = exact {
        Filter::Exact(pairs(exact))
    } else if let Some(prefix) = prefix {
        Filter::Prefix(pairs(prefix))
    } else if let Some(suffix) = suffix {
        Filter::Suffix(pairs(suffix))
    } else if let Some(cesql) = cesql {
        Filter::Cesql(
            Expression::parse(cesql).map_err(|error| format!("spec.filters: cesql: {error}"))?,
        )
    } else {
        return Err("spec.filters: an element is empty: name one of all, any, not, exact, prefix, suffix, cesql".to_owned());
    })
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(Box<str>, Box<str>)> {
    map.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

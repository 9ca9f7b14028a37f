//! A Trigger's filters as the dispatcher evaluates them.

use std::collections::BTreeMap;

use crds::trigger::{SubscriptionsApiFilter, Trigger};
use dispatcher::filter::Filter;
use dispatcher::filter::cesql::Expression;

/// The filter of a checked Trigger: `filters` wins over `filter` unless it is empty; without both everything matches.
///
/// # Errors
/// When an expression does not parse, which the check would have refused.
pub fn filter(trigger: &Trigger) -> anyhow::Result<Filter> {
    if !trigger.spec.filters.is_empty() {
        return Ok(Filter::All(list(&trigger.spec.filters)?));
    }
    let attributes = trigger.spec.filter.as_ref().map(|filter| pairs(&filter.attributes));
    match attributes {
        Some(attributes) if !attributes.is_empty() => Ok(Filter::Attributes(attributes)),
        _ => Ok(Filter::All(Vec::new())),
    }
}

fn list(filters: &[SubscriptionsApiFilter]) -> anyhow::Result<Vec<Filter>> {
    filters.iter().map(one).collect()
}

fn one(filter: &SubscriptionsApiFilter) -> anyhow::Result<Filter> {
    let SubscriptionsApiFilter { all, any, not, exact, prefix, suffix, cesql } = filter;
    Ok(if let Some(all) = all {
        Filter::All(list(all)?)
    } else if let Some(any) = any {
        Filter::Any(list(any)?)
    } else if let Some(not) = not {
        Filter::Not(Box::new(one(not)?))
    } else if let Some(exact) = exact {
        Filter::Exact(pairs(exact))
    } else if let Some(prefix) = prefix {
        Filter::Prefix(pairs(prefix))
    } else if let Some(suffix) = suffix {
        Filter::Suffix(pairs(suffix))
    } else if let Some(cesql) = cesql {
        Filter::Cesql(Expression::parse(cesql)?)
    } else {
        anyhow::bail!(
            "a filter element is empty: name one of all, any, not, exact, prefix, suffix, cesql"
        )
    })
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(Box<str>, Box<str>)> {
    map.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

//! The environment of a container: what it needs of Secrets and `ConfigMap`s, and what becomes of it. Pure.

use std::collections::BTreeMap;

use crds::ce_overrides::CloudEventOverrides;
use crds::secret_ref::SecretKeySelector;

use super::spec::{
    ConfigMapKeySelector, Container, ContainerSource, EnvFromSource, EnvVar, NAME, NAMESPACE,
    is_variable,
};
use crate::given::{Given, Need, Origin};
use crate::source::About;

/// Where events are posted to.
pub(super) const SINK: &str = "K_SINK";
/// What is set on each event, as JSON; empty if nothing is.
pub(super) const OVERRIDES: &str = "K_CE_OVERRIDES";
/// Certificates to trust at the sink, PEM; absent if there are none.
pub(super) const CA_CERTS: &str = "K_CA_CERTS";

/// Names and values.
pub type Variables = BTreeMap<String, String>;

/// What the containers of a source need.
pub(super) fn needs(source: &ContainerSource) -> Vec<Need> {
    let mut needs = Vec::new();
    for (index, container) in source.template.spec.containers.iter().enumerate() {
        let from = container.env_from.iter().enumerate();
        needs.extend(from.filter_map(|(nth, from)| need_of_all(from_field(index, nth), from)));
        let variables = container.env.iter().enumerate();
        needs.extend(variables.filter_map(|(nth, one)| need_of_one(env_field(index, nth), one)));
    }
    needs
}

fn env_field(container: usize, nth: usize) -> String {
    format!("template.spec.containers[{container}].env[{nth}].valueFrom")
}

fn from_field(container: usize, nth: usize) -> String {
    format!("template.spec.containers[{container}].envFrom[{nth}]")
}

fn need_of_one(field: String, variable: &EnvVar) -> Option<Need> {
    let from = variable.value_from.as_ref()?;
    let (need, optional) = match (&from.secret_key_ref, &from.config_map_key_ref) {
        (Some(SecretKeySelector { name, key, optional }), _) => {
            (Need::secret(field, name.as_str(), key.as_str()), optional)
        }
        (None, Some(ConfigMapKeySelector { name, key, optional })) => {
            (Need::config_map(field, name.as_str(), key.as_str()), optional)
        }
        (None, None) => return None,
    };
    Some(if optional.unwrap_or(false) { need.optional() } else { need })
}

fn need_of_all(field: String, from: &EnvFromSource) -> Option<Need> {
    let (origin, reference) = match (&from.secret_ref, &from.config_map_ref) {
        (Some(secret), _) => (Origin::Secret, secret),
        (None, Some(map)) => (Origin::ConfigMap, map),
        (None, None) => return None,
    };
    let need = Need::all_keys(field, origin, reference.name.as_str());
    Some(if reference.optional.unwrap_or(false) { need.optional() } else { need })
}

/// Whether a variable is of the [`contract`], which nobody else can set.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    [SINK, OVERRIDES, CA_CERTS].contains(&name)
}

/// What Knative's `SinkBinding` tells containers. The overrides are theirs to apply.
#[must_use]
pub fn contract(
    sink_url: &str,
    ca_certs: Option<&str>,
    overrides: Option<&CloudEventOverrides>,
) -> Variables {
    let overrides = overrides.and_then(|overrides| serde_json::to_string(overrides).ok());
    let mut variables = Variables::from([
        (SINK.to_owned(), sink_url.to_owned()),
        (OVERRIDES.to_owned(), overrides.unwrap_or_default()),
    ]);
    if let Some(certs) = ca_certs {
        variables.insert(CA_CERTS.to_owned(), certs.to_owned());
    }
    variables
}

/// The variables of the container with that index: `ours`, which nothing else can change, and what it asks for.
pub(super) fn variables(
    (index, container): (usize, &Container),
    about: &About,
    given: &Given,
    ours: Variables,
) -> Variables {
    let mut variables = ours;
    for (nth, from) in container.env_from.iter().enumerate() {
        let field = from_field(index, nth);
        for (key, value) in given.under(&field) {
            let name = format!("{}{key}", from.prefix);
            if is_variable(&name) && !is_ours(&name) {
                variables.insert(name, value.expose().to_owned());
            }
        }
    }
    for (nth, variable) in container.env.iter().enumerate() {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &variables)),
            Some(from) => match from.field_ref.as_ref().map(|of| of.field_path.as_str()) {
                Some(NAME) => Some(about.name.to_string()),
                Some(NAMESPACE) => Some(about.namespace.to_string()),
                _ => given.get(&env_field(index, nth)).map(|value| value.expose().to_owned()),
            },
        };
        if let Some(value) = value
            && !is_ours(&variable.name)
        {
            variables.insert(variable.name.clone(), value);
        }
    }
    variables
}

/// Puts values in the place of `$(NAME)`, as Kubernetes does: an unknown name stays as it is written, and `$$` is a `$`.
pub(super) fn expand(text: &str, variables: &Variables) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let named = after.strip_prefix('(').and_then(|named| named.split_once(')'));
        let value = named.and_then(|(name, after)| Some((variables.get(name)?, after)));
        match value {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests;

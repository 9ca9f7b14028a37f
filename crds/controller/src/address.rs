//! Destinations as addresses.

use crds::broker::Broker;
use crds::condition::Addressable;
use crds::destination::{Destination, KReference};
use dispatcher::Target;
use http::Uri;
use sources::{Sink, sinks};

use crate::kinds::{self, Keep};
use crate::plan::Config;
use crate::world::{Held, Name, World};

/// Where a destination leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    /// As the status shows it.
    pub(crate) shown: String,
    /// As the dispatcher uses it.
    pub(crate) target: Target,
    /// The broker of this mesh that it is, if it is just that.
    pub(crate) broker: Option<Name>,
}

impl Resolved {
    /// As a source uses it: a broker of this mesh is reached without HTTP.
    pub(crate) fn sink(&self) -> Sink {
        match &self.broker {
            Some(Name { namespace, name }) => {
                Sink::Broker { namespace: namespace.as_str().into(), name: name.as_str().into() }
            }
            None => Sink::Url {
                url: self.target.url.clone(),
                ca_certs: self.target.ca_certs.as_deref().map(Into::into),
            },
        }
    }
}

/// Resolves a destination. `namespace` is that of the object that names it.
///
/// # Errors
/// A sentence about what is missing.
pub(crate) fn resolve(
    world: &World,
    config: &Config,
    destination: &Destination,
    namespace: &str,
) -> Result<Resolved, String> {
    let base = match &destination.reference {
        Some(reference) => Some(referenced(world, config, reference, namespace)?),
        None => None,
    };
    let (shown, broker, ca_certs) = match (base, &destination.uri) {
        (None, Some(uri)) => (uri.clone(), None, None),
        (Some(base), None) => (base.url, base.broker, base.ca_certs),
        (Some(base), Some(relative)) => (join(&base.url, relative)?, None, base.ca_certs),
        (None, None) => return Err("destination missing Ref and URI, expected at least one".into()),
    };
    if has_credentials(&shown) {
        // Not repeated, for it is a secret.
        return Err(
            "a URL with credentials is not used, for URLs are shown in logs and dead letters"
                .into(),
        );
    }
    let url: Uri = shown.parse().map_err(|error| format!("{shown:?}: {error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {}
        _ => return Err(format!("{shown:?} is no absolute http or https URL")),
    }
    let ca_certs = destination.ca_certs.clone().or(ca_certs);
    Ok(Resolved { shown, target: Target { url, ca_certs }, broker })
}

/// The address of a broker of this mesh.
pub(crate) fn of_broker(config: &Config, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", config.events_url.trim_end_matches('/'))
}

/// The address of a sink of this mesh.
pub(crate) fn of_sink(config: &Config, namespace: &str, name: &str) -> String {
    format!("{}/sinks/{namespace}/{name}", config.events_url.trim_end_matches('/'))
}

/// What a reference leads to.
struct Base {
    url: String,
    ca_certs: Option<String>,
    broker: Option<Name>,
}

impl Base {
    fn at(url: String) -> Self {
        Self { url, ca_certs: None, broker: None }
    }
}

fn referenced(
    world: &World,
    config: &Config,
    reference: &KReference,
    namespace: &str,
) -> Result<Base, String> {
    let namespace =
        if reference.namespace.is_empty() { namespace } else { reference.namespace.as_str() };
    let name = Name::new(namespace, reference.name.as_str());
    let (group, kind) = (reference.api_group(), reference.kind.as_str());
    let missing = |plural: &str| {
        let dot = if group.is_empty() { "" } else { "." };
        let name = &reference.name;
        format!("failed to get object {namespace}/{name}: {plural}{dot}{group} {name:?} not found")
    };
    if (group, kind) == ("eventing.knative.dev", "Broker") {
        let broker = world.brokers.get(&name).ok_or_else(|| missing("brokers"))?;
        return of_any_broker(config, &broker.object, reference, name);
    }
    let unknown = || {
        format!("objects of kind {kind:?} in {group:?} have no address here: name a uri instead")
    };
    let watched = kinds::find(group, kind).ok_or_else(unknown)?;
    if let Keep::Sink(kind) = watched.keep {
        let table = world.sinks.get(kind.name);
        let held = table.and_then(|table| table.get(&name));
        let held = held.ok_or_else(|| missing(watched.plural))?;
        return of_any_sink(world, config, (kind, held), reference, &name);
    }
    let table = world.others.get(&(watched.group, watched.kind)).ok_or_else(unknown)?;
    let held = table.get(&name).ok_or_else(|| missing(watched.plural))?;
    if group.is_empty() {
        let domain = &config.cluster_domain;
        return Ok(Base::at(format!("http://{}.{namespace}.svc.{domain}", reference.name)));
    }
    let address = held.object.status.as_ref().and_then(|status| status.address.as_ref());
    chosen(address, reference, &name)
}

fn of_any_broker(
    config: &Config,
    broker: &Broker,
    reference: &KReference,
    name: Name,
) -> Result<Base, String> {
    if !broker.is_ours() {
        let address = broker.status.as_ref().and_then(|status| status.address.as_ref());
        return chosen(address, reference, &name);
    }
    let url = of_broker(config, &name.namespace, &name.name);
    let address =
        Addressable { name: Some("http".to_owned()), url: Some(url), ..Addressable::default() };
    chosen(Some(&address), reference, &name).map(|base| Base { broker: Some(name), ..base })
}

fn of_any_sink(
    world: &World,
    config: &Config,
    (kind, held): (&'static sinks::Kind, &Held<sinks::Object>),
    reference: &KReference,
    name: &Name,
) -> Result<Base, String> {
    let has_it =
        !held.is_torn() && world.sink_at(name).is_some_and(|owner| owner.name == kind.name);
    let address = has_it.then(|| Addressable {
        name: Some("http".to_owned()),
        url: Some(of_sink(config, &name.namespace, &name.name)),
        ..Addressable::default()
    });
    chosen(address.as_ref(), reference, name)
}

fn chosen(
    address: Option<&Addressable>,
    reference: &KReference,
    name: &Name,
) -> Result<Base, String> {
    let of = format!("{} {}/{}", reference.kind, name.namespace, name.name);
    let address = address.ok_or_else(|| format!("address not set for {of}"))?;
    if let Some(wanted) = &reference.address
        && address.name.as_ref() != Some(wanted)
    {
        return Err(format!("address with name {wanted:?} not found for {of}"));
    }
    let url = address.url.clone().filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| format!("URL missing in address of {of}"))?;
    Ok(Base { url, ca_certs: address.ca_certs.clone(), broker: None })
}

/// Whether this is a Broker that does not exist, but may: events for it can wait for it where they come from.
pub(crate) fn awaited(world: &World, destination: &Destination, namespace: &str) -> Option<Sink> {
    let reference = destination.reference.as_ref().filter(|_| destination.uri.is_none())?;
    if (reference.api_group(), reference.kind.as_str()) != ("eventing.knative.dev", "Broker") {
        return None;
    }
    let namespace =
        if reference.namespace.is_empty() { namespace } else { reference.namespace.as_str() };
    let name = Name::new(namespace, reference.name.as_str());
    world
        .brokers
        .get(&name)
        .is_none()
        .then(|| Sink::Broker { namespace: namespace.into(), name: reference.name.as_str().into() })
}

fn has_credentials(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

fn join(base: &str, relative: &str) -> Result<String, String> {
    let base = url::Url::parse(base).map_err(|error| format!("{base:?}: {error}"))?;
    base.join(relative).map(Into::into).map_err(|error| format!("{relative:?}: {error}"))
}

//! Destinations of resources as addresses.

use crds::destination::Destination;
use http::Uri;
use sources::Sink;

/// The Broker's API group.
const EVENTING: &str = "eventing.knative.dev";

/// Resolves a destination to an absolute URL. `namespace` is that of the object that names it, `events` the base URL of the
/// events listener.
///
/// # Errors
/// Says why it cannot be resolved.
pub(super) fn resolve(
    destination: &Destination,
    namespace: &str,
    events: &str,
) -> Result<Uri, String> {
    let base = match &destination.reference {
        None => None,
        Some(reference) => {
            let namespace = or(&reference.namespace, namespace);
            let name = &reference.name;
            match (reference.api_group(), reference.kind.as_str()) {
                (EVENTING, "Broker") => Some(format!("{events}/{namespace}/{name}")),
                ("", "Service") => Some(format!("http://{name}.{namespace}.svc.cluster.local")),
                (group, kind) => {
                    return Err(format!(
                        "{kind}.{group} {namespace}/{name} has no address here yet: name a uri"
                    ));
                }
            }
        }
    };
    let text = match (base, &destination.uri) {
        (None, Some(uri)) => uri.clone(),
        (Some(base), None) => base,
        (Some(base), Some(relative)) => join(&base, relative)?,
        (None, None) => return Err("neither ref nor uri is given".to_owned()),
    };
    let uri: Uri = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err(format!("{text:?} is no absolute http or https URL")),
    }
}

/// The sink of a source: a broker of this mesh directly, anything else by URL.
///
/// # Errors
/// Says why it cannot be resolved.
pub(super) fn sink(
    destination: &Destination,
    namespace: &str,
    events: &str,
) -> Result<Sink, String> {
    if let Some(reference) = &destination.reference
        && destination.uri.is_none()
        && reference.api_group() == EVENTING
        && reference.kind == "Broker"
    {
        let namespace = or(&reference.namespace, namespace).into();
        return Ok(Sink::Broker { namespace, name: reference.name.as_str().into() });
    }
    let url = resolve(destination, namespace, events)?;
    Ok(Sink::Url { url, ca_certs: destination.ca_certs.as_deref().map(Into::into) })
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn join(base: &str, relative: &str) -> Result<String, String> {
    let base = url::Url::parse(base).map_err(|error| format!("{base:?}: {error}"))?;
    base.join(relative).map(Into::into).map_err(|error| format!("{relative:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::destination::KReference;

    const EVENTS: &str = "http://127.0.0.1:8080";

    #[test]
    fn a_reference_becomes_an_address_and_a_relative_uri_extends_it() {
        let mut destination = Destination {
            reference: Some(KReference::to("eventing.knative.dev/v1", "Broker", "b")),
            ..Destination::default()
        };
        let url = |destination: &Destination| {
            resolve(destination, "ns", EVENTS).map(|uri| uri.to_string())
        };
        assert_eq!(url(&destination).unwrap(), "http://127.0.0.1:8080/ns/b");
        destination.reference = Some(KReference::to("v1", "Service", "s"));
        destination.uri = Some("/path".to_owned());
        assert_eq!(url(&destination).unwrap(), "http://s.ns.svc.cluster.local/path");
    }

    #[test]
    fn what_has_no_address_says_so() {
        let destination = Destination {
            reference: Some(KReference::to("serving.knative.dev/v1", "Service", "f")),
            ..Destination::default()
        };
        let error = resolve(&destination, "ns", EVENTS).unwrap_err();
        assert!(error.contains("Service.serving.knative.dev ns/f"), "{error}");
        let error = resolve(&Destination::at("ftp://x/"), "ns", EVENTS).unwrap_err();
        assert!(error.contains("ftp://x/"), "{error}");
    }
}

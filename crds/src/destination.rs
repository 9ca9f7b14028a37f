//! Where events go: a URL, or a reference to something that has one.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{FieldError, FieldErrors};

const NOT_IN_A_URL: &str = "it has a character that a URL cannot have; percent-encode it";

/// A sink, subscriber or dead letter sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.ref) || has(self.uri)",
    "message": "expected at least one, got none: ref, uri",
}]))]
pub struct Destination {
    /// An object that has an address, as a Broker or a Service.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<KReference>,
    /// An absolute http or https URL, or together with `ref` one that is relative to its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Certificates to trust there beside the system's, PEM.
    #[serde(rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// The audience of tokens sent there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// A reference to an object by kind and name.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct KReference {
    /// Group and version, as in `eventing.knative.dev/v1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The kind, as in `Broker`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace; that of the referring object if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The group without a version; not supported, as in Knative unless a feature is on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The name of one of several addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Destination {
    /// The destination with that URL.
    #[must_use]
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: Some(uri.into()), ..Self::default() }
    }

    /// Fills in the namespace of the reference.
    pub fn defaults(&mut self, namespace: &str) {
        if let Some(reference) = &mut self.reference {
            reference.defaults(namespace);
        }
    }

    /// What is wrong with it. `only_in` is the namespace that a reference must not leave, if it must not.
    #[must_use]
    pub fn validate(&self, only_in: Option<&str>) -> FieldErrors {
        match (&self.reference, &self.uri) {
            (None, None) => {
                FieldError::new("expected at least one, got none", ["ref", "uri"]).into()
            }
            (Some(_), Some(uri)) if scheme(uri).is_some() => {
                let message =
                    "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present";
                FieldError::new(message, ["[apiVersion, kind, name]", "ref", "uri"]).into()
            }
            (None, Some(uri)) => {
                let mut errors = validate_absolute(uri);
                if errors.is_empty() {
                    errors.also(self.validate_certificates());
                }
                errors
            }
            (Some(reference), uri) => {
                let mut errors = reference.validate(only_in).via("ref");
                if uri.as_ref().is_some_and(|uri| uri.contains(not_in_a_url)) {
                    errors.push(FieldError::invalid(NOT_IN_A_URL, "uri"));
                }
                errors.also(self.validate_certificates());
                errors
            }
        }
    }

    fn validate_certificates(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let Some(text) = &self.ca_certs else { return errors };
        // Knative names the field so, without the s of the field itself.
        let mut refuse = |what: &str| errors.push(FieldError::invalid(what, "caCert"));
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            count += 1;
            let trusted =
                certificate.is_ok_and(|der| webpki::anchor_from_trusted_cert(&der).is_ok());
            if !trusted {
                refuse("CA Cert provided is invalid");
                return errors;
            }
        }
        if count == 0 {
            let other = text.contains("-----BEGIN ");
            refuse(if other {
                "CA Cert provided is not a certificate"
            } else {
                "CA Cert provided is invalid"
            });
        }
        errors
    }
}

fn validate_absolute(uri: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let relative = "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent";
    match scheme(uri) {
        None => errors.push(FieldError::invalid(relative, "uri")),
        // Not repeated, for it is a secret.
        Some(_) if has_credentials(uri) => {
            let error = FieldError::invalid("a URL with credentials", "uri");
            errors.push(error.with_details(
                "a URL is shown in logs and dead letters, so it must hold no secret",
            ));
        }
        Some(scheme) if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            errors.push(
                FieldError::invalid(uri, "uri")
                    .with_details("events are sent to http and https URLs only"),
            );
        }
        Some(_) if uri.contains(not_in_a_url) => {
            errors.push(FieldError::invalid(NOT_IN_A_URL, "uri"));
        }
        Some(_) if !has_host(uri) => errors.push(FieldError::invalid(relative, "uri")),
        Some(_) => {
            if let Err(reason) = Url::parse(uri) {
                errors.push(FieldError::invalid(uri, "uri").with_details(reason.to_string()));
            }
        }
    }
    errors
}

/// The scheme of a URL, if it has one.
fn scheme(uri: &str) -> Option<&str> {
    let (scheme, _) = uri.split_once(':')?;
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let valid =
        scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(inner);
    valid.then_some(scheme)
}

fn has_credentials(uri: &str) -> bool {
    let authority = uri
        .split_once("://")
        .map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    authority.contains('@')
}

fn has_host(uri: &str) -> bool {
    let Some((_, authority)) = uri.split_once("://") else { return false };
    authority.starts_with(|first: char| !matches!(first, '/' | '?' | '#' | ':'))
}

/// What HTTP clients do not take, though browsers mend it.
fn not_in_a_url(char: char) -> bool {
    !char.is_ascii_graphic() || matches!(char, '"' | '<' | '>' | '\\' | '^' | '`')
}

impl KReference {
    /// A reference to that object.
    #[must_use]
    pub fn to(
        api_version: impl Into<String>,
        kind: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// The API group, without the version; empty for core kinds.
    #[must_use]
    pub fn api_group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Fills in the namespace.
    pub fn defaults(&mut self, namespace: &str) {
        if self.namespace.is_empty() {
            namespace.clone_into(&mut self.namespace);
        }
    }

    /// What is wrong with it. `only_in` is the namespace it must not leave, if it must not.
    #[must_use]
    pub fn validate(&self, only_in: Option<&str>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (value, field) in
            [(&self.name, "name"), (&self.api_version, "apiVersion"), (&self.kind, "kind")]
        {
            if value.is_empty() {
                errors.push(FieldError::missing(field));
            }
        }
        if !self.group.is_empty() {
            errors.push(FieldError::disallowed("group"));
        }
        if let Some(parent) =
            only_in.filter(|parent| !self.namespace.is_empty() && *parent != self.namespace)
        {
            let details =
                format!("parent namespace: {parent:?} does not match ref: {:?}", self.namespace);
            errors.push(
                FieldError::new("mismatched namespaces", ["namespace"]).with_details(details),
            );
        }
        errors
    }
}

#[cfg(test)]
mod tests;

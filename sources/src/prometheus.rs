//! Prometheus: the answers to a query on a schedule, with the attributes Knative's `PrometheusSource` gives them; or the
//! notifications of an Alertmanager.
//!
//! What differs from Knative's, for the better: queries are encoded, errors are conditions and not events, a range query
//! leaves no hole over failures and restarts, an answer that the sink does not take is handed over again with the same `id`,
//! tokens are read anew and never logged.

use crds::condition::CloudEventAttributes;

use crate::given::{Given, Necessity, Need};
use crate::source::{About, Context, Source, SourceError};

mod alertmanager;
mod answer;
mod api;
mod poll;
mod schedule;
mod spec;
mod step;

pub use spec::{Alertmanager, PrometheusSource};

/// The field with the token that is shown to Prometheus.
const AUTH_TOKEN: &str = "authToken";
/// The field with the token that an Alertmanager shows.
const ALERTMANAGER_TOKEN: &str = "alertmanager.authToken";
/// The field with the `ConfigMap` that holds certificates to trust.
const CA: &str = "caCertConfigMap";
/// The key in it, which the service CA of `OpenShift` writes.
const CA_KEY: &str = "service-ca.crt";

/// Whether the schedule is one, in Knative's status. What is not is refused before it gets here.
const VALID_SCHEDULE: &str = "ValidSchedule";

impl Source for PrometheusSource {
    const CONDITIONS: &'static [&'static str] = &[VALID_SCHEDULE];

    fn hook(&self) -> bool {
        self.alertmanager.is_some()
    }

    fn needs(&self, _: &About) -> Vec<Need> {
        let map = Some(&self.ca_cert_config_map).filter(|name| !name.is_empty());
        let expected = self.alertmanager.as_ref().and_then(|expected| expected.auth_token.as_ref());
        [
            map.map(|name| Need::config_map(CA, name.as_str(), CA_KEY)),
            Need::selected(AUTH_TOKEN, self.auth_token.as_ref()),
            // Also if it may be absent: a source that wants a token must not let everybody in.
            Need::selected(ALERTMANAGER_TOKEN, expected)
                .map(|need| Need { necessity: Necessity::Required, ..need }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn attributes(&self, about: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let kind = if self.alertmanager.is_some() { alertmanager::TYPE } else { answer::TYPE };
        vec![CloudEventAttributes { kind: kind.to_owned(), source: answer::source(about) }]
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let ended = match &self.alertmanager {
            Some(expected) => alertmanager::run(expected, &ctx).await,
            None => poll::run(&self, &ctx).await,
        };
        match ended {
            Err(SourceError::Stopped) => Ok(()),
            ended => ended,
        }
    }
}

#[cfg(test)]
mod tests;

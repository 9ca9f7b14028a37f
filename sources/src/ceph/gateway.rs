//! Telling the object gateway what to notify of: a topic through the API of SNS that says where to post to, and for each
//! bucket a notification through the API of S3 that says of what.
//!
//! Names are made of the source's, so that nothing has to be searched and everything can be said again. A notification is
//! added to what others have put on the bucket: unlike S3, the gateway does not replace the whole.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::form_urlencoded::Serializer;

use super::spec::{ACCESS_KEY, CA_CERT, CephGateway, MAX_TOPIC, SECRET_KEY};
use super::{SECRET_TOKEN, TOKEN};
use crate::given::NotGiven;
use crate::registration::{Api, COMPONENT, Registered, Registrar, RegistrationError, unreadable};
use crate::secret::Secret;
use crate::source::Context;

mod sign;
mod xml;

use sign::{Keys, Service, Unsigned};
use xml::Notification;

/// The registration of a source.
#[derive(Debug)]
pub(super) struct Gateway {
    api: Api,
    endpoint: String,
    keys: Keys,
    topic: String,
    buckets: BTreeSet<String>,
    events: BTreeSet<String>,
    /// Where notifications are posted to. With the token of the source in it, it is a secret.
    push: Secret,
    persistent: bool,
}

/// What was made at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    endpoint: String,
    topic: String,
    arn: String,
    buckets: BTreeSet<String>,
}

/// The registration that `gateway` asks for.
///
/// # Errors
/// When a Secret does not hold what it should.
pub(super) fn registrar(gateway: &CephGateway, ctx: &Context) -> Result<Gateway, NotGiven> {
    let authorities = ctx.given.get(CA_CERT).map(|pem| (CA_CERT, pem.expose()));
    let (access, secret) = (ctx.given.require(ACCESS_KEY)?, ctx.given.require(SECRET_KEY)?);
    let push = match ctx.given.get(SECRET_TOKEN) {
        Some(token) => {
            let token = utf8_percent_encode(token.expose(), COMPONENT);
            format!("{}?{TOKEN}={token}", ctx.url)
        }
        None => ctx.url.to_string(),
    };
    let topic = match gateway.topic.as_str() {
        "" => topic(&ctx.about.namespace, &ctx.about.name),
        topic => topic.to_owned(),
    };
    Ok(Gateway {
        api: Api::new(ctx.clock.clone(), authorities)?,
        endpoint: gateway.endpoint.trim_end_matches('/').to_owned(),
        keys: Keys::new(access, secret, gateway.region()),
        topic,
        buckets: gateway.buckets.iter().cloned().collect(),
        events: gateway.events().into_iter().map(str::to_owned).collect(),
        push: Secret::new(push),
        persistent: gateway.persistent.unwrap_or(true),
    })
}

impl Registrar for Gateway {
    type Known = Known;

    async fn ensure(
        &self,
        known: Option<&Known>,
        tell: bool,
    ) -> Result<Registered<Known>, RegistrationError> {
        let known = known.filter(|known| self.may_touch(known));
        if let Some(other) = known.filter(|known| known.topic != self.topic) {
            passing_over(self.clear(other).await)?;
        }
        let known = known.filter(|known| known.topic == self.topic);
        let arn = self.make_topic().await?;
        let mut buckets = BTreeSet::new();
        let mut lacking = None;
        let before = known.map(|known| &known.buckets);
        for bucket in before.into_iter().flatten().filter(|bucket| !self.buckets.contains(*bucket))
        {
            if let Err(error) = passing_over(self.unnotify(bucket, &self.topic).await) {
                lacking.get_or_insert_with(|| of_bucket(bucket, &error));
                buckets.insert(bucket.clone());
            }
        }
        // One that is not there (yet) does not keep the others from being notified of.
        for bucket in &self.buckets {
            if let Err(error) = self.notify(bucket, &arn, tell).await {
                lacking.get_or_insert_with(|| of_bucket(bucket, &error));
            }
            // Remembered even so: the answer may have been lost after it was done.
            buckets.insert(bucket.clone());
        }
        let (endpoint, topic) = (self.endpoint.clone(), self.topic.clone());
        Ok(Registered { known: Known { endpoint, topic, arn, buckets }, lacking })
    }

    async fn remove(&self, known: Option<&Known>) -> Result<(), RegistrationError> {
        let mut all = match known.filter(|known| self.may_touch(known)) {
            Some(known) => known.clone(),
            // An answer may have been lost after it was made. Making it again is how its ARN is found.
            None => Known {
                endpoint: self.endpoint.clone(),
                topic: self.topic.clone(),
                arn: self.make_topic().await?,
                buckets: BTreeSet::new(),
            },
        };
        all.buckets.extend(self.buckets.iter().cloned());
        self.clear(&all).await
    }

    fn facts(&self, known: &Known, ctx: &Context) {
        ctx.report.fact("topicARN", known.arn.as_str());
    }
}

impl Gateway {
    /// Whether it was made at this gateway. Elsewhere it is left: the keys are not meant for another.
    fn may_touch(&self, known: &Known) -> bool {
        let same = known.endpoint == self.endpoint;
        if !same {
            tracing::warn!(topic = known.arn, "a topic stays at a gateway that is no longer asked");
        }
        same
    }

    /// Makes the topic, or says again what is wanted of it; returns its ARN.
    async fn make_topic(&self) -> Result<String, RegistrationError> {
        let what = "make the topic";
        let attributes = [
            ("push-endpoint", self.push.expose()),
            ("persistent", if self.persistent { "true" } else { "false" }),
        ];
        let mut form = vec![("Action".to_owned(), "CreateTopic"), ("Name".to_owned(), &self.topic)];
        for (number, (key, value)) in (1..).zip(attributes) {
            form.push((format!("Attributes.entry.{number}.key"), key));
            form.push((format!("Attributes.entry.{number}.value"), value));
        }
        let answer = self.sns(what, &form).await?;
        let arn = xml::text(&answer, "TopicArn").unwrap_or_default();
        if arn.is_empty() {
            return Err(unreadable(what, &self.endpoint, "it names no TopicArn"));
        }
        Ok(arn)
    }

    async fn delete_topic(&self, arn: &str) -> Result<(), RegistrationError> {
        let form = [("Action".to_owned(), "DeleteTopic"), ("TopicArn".to_owned(), arn)];
        absent_is_fine(self.sns("delete the topic", &form).await)
    }

    /// Makes the gateway notify of a bucket, unless it looks as if it did.
    async fn notify(&self, bucket: &str, arn: &str, tell: bool) -> Result<(), RegistrationError> {
        let wanted = Notification {
            id: id(&self.topic, bucket),
            topic: arn.to_owned(),
            events: self.events.clone(),
        };
        let path = format!("/{bucket}?notification");
        if !tell {
            let what = "look at the notifications of a bucket";
            let shown = self.s3(what, Method::GET, &path, Bytes::new()).await?;
            if xml::read(&shown).contains(&wanted) {
                return Ok(());
            }
        }
        let what = "have a bucket notified of";
        self.s3(what, Method::PUT, &path, wanted.write().into()).await.map(drop)
    }

    async fn unnotify(&self, bucket: &str, topic: &str) -> Result<(), RegistrationError> {
        let path = format!("/{bucket}?notification={}", id(topic, bucket));
        let what = "have a bucket no longer notified of";
        absent_is_fine(self.s3(what, Method::DELETE, &path, Bytes::new()).await)
    }

    /// Removes the notifications, then the topic that they need. One that cannot be removed keeps the topic, and not the
    /// others.
    async fn clear(&self, known: &Known) -> Result<(), RegistrationError> {
        let mut cleared = Ok(());
        for bucket in &known.buckets {
            match self.unnotify(bucket, &known.topic).await {
                Err(error) if error.is_retryable() => return Err(error),
                removed => cleared = cleared.and(removed),
            }
        }
        cleared?;
        self.delete_topic(&known.arn).await
    }

    async fn sns(
        &self,
        what: &'static str,
        form: &[(String, &str)],
    ) -> Result<String, RegistrationError> {
        let body = Serializer::new(String::new()).extend_pairs(form).finish().into();
        let (service, method, url) = (Service::Sns, Method::POST, format!("{}/", self.endpoint));
        self.call(Unsigned { what, service, method, url, body }).await
    }

    async fn s3(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<String, RegistrationError> {
        let (service, url) = (Service::S3, format!("{}{path}", self.endpoint));
        self.call(Unsigned { what, service, method, url, body }).await
    }

    async fn call(&self, unsigned: Unsigned) -> Result<String, RegistrationError> {
        let what = unsigned.what;
        let request = self.keys.sign(unsigned, self.api.now())?;
        // The code alone: the rest may repeat the request, which has the token in it.
        let code = |text: &str| xml::text(text, "Code").unwrap_or_default();
        let answer = self.api.send(what, request).await.map_err(|error| error.map_text(code))?;
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    }
}

/// What cannot be removed, for want of rights or because it is not there, does not keep the rest from being made.
fn passing_over(removed: Result<(), RegistrationError>) -> Result<(), RegistrationError> {
    match removed {
        Err(error) if !error.is_retryable() => {
            tracing::warn!("something that is no longer wanted stays at the gateway: {error}");
            Ok(())
        }
        removed => removed,
    }
}

/// What a registration lacks that could not be made for one bucket.
fn of_bucket(bucket: &str, error: &RegistrationError) -> (&'static str, String) {
    let (reason, why) = error.lacking();
    (reason, format!("bucket {bucket}: {why}"))
}

fn absent_is_fine(done: Result<String, RegistrationError>) -> Result<(), RegistrationError> {
    match done {
        Ok(_) | Err(RegistrationError::Absent { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The topic of a source. Neither part has an underscore, so no two sources have the same.
fn topic(namespace: &str, name: &str) -> String {
    // Dots are in names of objects and not in those of topics.
    let topic = format!("weft_{namespace}_{}", name.replace('.', "_"));
    if topic.len() <= MAX_TOPIC {
        return topic;
    }
    let hash: String =
        Sha256::digest(topic.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    // All of it is ASCII.
    let kept: String = topic.chars().take(MAX_TOPIC - hash.len() - 1).collect();
    format!("{kept}_{hash}")
}

/// The notification of a bucket. The bucket is in it because the gateway derives from it, and from the topic, what it keeps
/// for all buckets together.
fn id(topic: &str, bucket: &str) -> String {
    format!("{topic}-{bucket}")
}

#[cfg(test)]
mod tests;

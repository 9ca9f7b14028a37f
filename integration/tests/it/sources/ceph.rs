//! `CephSource` against a real object gateway: objects that are put are messages.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request::{self, Answer};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

const TOKEN: &str = "contract-secret-token";
const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// Requests of S3 under way at once.
const PARALLEL: usize = 32;

/// A gateway looks for its cluster for a while, and the source asks every minute at least.
const RECOVERY: std::time::Duration = std::time::Duration::from_secs(120);

/// A gateway, which posts through a front, as gateways do whose mesh starts again: what it keeps for an address it posts
/// there and nowhere else.
struct Ceph {
    services: Services,
    service: Value,
    /// Each manifest has a bucket and a topic of its own: a gateway of version 16 posts what stands before a message that
    /// nobody takes again and again.
    manifests: AtomicUsize,
    run: u64,
    front: Front,
}

/// A port that stays while meshes come and go.
struct Front {
    url: String,
    target: Arc<Mutex<Option<String>>>,
    _serving: JoinSet<()>,
}

impl Front {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let target: Arc<Mutex<Option<String>>> = Arc::default();
        let mut serving = JoinSet::new();
        let to = Arc::clone(&target);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((mut client, _)) = listener.accept().await else { return };
                let to = to.lock().expect("no panic under the lock").clone();
                connections.spawn(async move {
                    let Some(to) = to else { return };
                    let Ok(mut mesh) = TcpStream::connect(&to).await else { return };
                    // A mesh that is killed is part of the tests.
                    drop(copy_bidirectional(&mut client, &mut mesh).await);
                });
            }
        });
        Self { url, target, _serving: serving }
    }

    fn turn_to(&self, mesh: &Mesh) {
        let address = mesh.events.trim_start_matches("http://").to_owned();
        *self.target.lock().expect("no panic under the lock") = Some(address);
    }
}

impl Ceph {
    async fn with(services: Services) -> Self {
        let service = services.up("ceph").await;
        let front = Front::start().await;
        // What an earlier run has left is not touched.
        let run = u64::from(std::process::id());
        let ceph = Self { services, service, manifests: AtomicUsize::new(0), run, front };
        for number in 1..=8 {
            let made = ceph.s3("PUT", &format!("/{}", ceph.bucket_of(number)), "").await;
            assert_eq!(made.status, 200, "{}", made.body);
        }
        ceph
    }

    fn published(&self, key: &str) -> &str {
        self.service[key].as_str().expect("a published text")
    }

    fn bucket_of(&self, number: usize) -> String {
        format!("contract-{}-{number}", self.run)
    }

    /// The bucket of the last manifest.
    fn bucket(&self) -> String {
        self.bucket_of(self.manifests.load(Ordering::SeqCst))
    }

    fn source(&self, secret: &str, sink: &str) -> String {
        let number = self.manifests.fetch_add(1, Ordering::SeqCst) + 1;
        let (bucket, run) = (self.bucket_of(number), self.run);
        let (endpoint, access) = (self.published("endpoint"), self.published("access_key"));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: ceph\nstringData:\n  access: {access}\n  secret: {secret}\n  \
             token: {TOKEN}\n---\napiVersion: sources.knative.dev/v1alpha1\nkind: CephSource\nmetadata:\n  name: source\nspec:\n  \
             port: \"80\"\n  secretToken:\n    secretKeyRef: {{name: ceph, key: token}}\n  gateway:\n    endpoint: {endpoint}\n    \
             buckets: [{bucket}]\n    topic: contract-{run}-{number}\n    accessKey:\n      secretKeyRef: {{name: ceph, key: access}}\n    \
             secretKey:\n      secretKeyRef: {{name: ceph, key: secret}}\n  sink: {sink}\n"
        )
    }

    /// Asks the gateway, signed as S3 wants it.
    async fn s3(&self, method: &str, path: &str, body: &'static str) -> Answer {
        let url = format!("{}{path}", self.published("endpoint"));
        request::send(method, &url, &self.signed("s3", (method, &url), body), body).await
    }

    fn signed(
        &self,
        service: &str,
        (method, url): (&str, &str),
        body: &str,
    ) -> Vec<(String, String)> {
        let (access, secret) = (self.published("access_key"), self.published("secret_key"));
        let identity = Credentials::from_keys(access, secret, None).into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        #[expect(clippy::disallowed_methods, reason = "signatures are good for minutes from now")]
        let now = SystemTime::now();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service)
            .time(now)
            .settings(settings)
            .build()
            .expect("all of them");
        let body = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new(method, url, std::iter::empty(), body).expect("a URL");
        let (instructions, _) = sign(request, &params.into()).expect("signed").into_parts();
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The topics that are there, in whatever order, with all that the gateway shows of them.
    async fn topics(&self) -> String {
        let (url, body) = (format!("{}/", self.published("endpoint")), "Action=ListTopics");
        let answer = request::post(&url, &self.signed("sns", ("POST", &url), body), body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    async fn notifications(&self, bucket: &str) -> String {
        self.s3("GET", &format!("/{bucket}?notification"), "").await.body
    }

    async fn put(&self, name: &str) {
        let put = self.s3("PUT", &format!("/{}/{name}", self.bucket()), "x").await;
        assert_eq!(put.status, 200, "{}", put.body);
    }
}

impl Upstream for Ceph {
    const MODULE: &'static str = "ceph";

    async fn start(services: Services) -> Self {
        Self::with(services).await
    }

    fn arguments(&self) -> Vec<String> {
        vec!["--public-url".to_owned(), self.front.url.clone()]
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(self.published("secret_key"), sink)
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        Some((self.source("wrong", sink), "CredentialsRefused"))
    }

    async fn produce(&self, mesh: &Mesh, numbers: Range<u64>) {
        self.front.turn_to(mesh);
        let puts =
            stream::iter(numbers).map(async |number| self.put(&format!("object-{number}")).await);
        puts.buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        event.header("ce-subject").strip_prefix("object-")?.parse().ok()
    }

    async fn stop(&self) -> bool {
        // A gateway that is away posts nothing, and is asked every ten minutes. The second story below is about that.
        false
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("ceph").await;
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.published("secret_key").to_owned(), TOKEN.to_owned()]
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "com.amazonaws.ObjectCreated:Put");
        assert_eq!(event.header("ce-source"), format!("ceph:s3..{}", self.bucket()));
        assert_eq!(event.header("ce-subject"), "object-7");
        assert_eq!(event.header("content-type"), "application/json");
        let record: Value = serde_json::from_slice(&event.body).expect("JSON");
        assert_eq!(event.id(), record["eventId"]);
        assert_eq!(record["s3"]["bucket"]["name"], self.bucket());
        assert!(event.header("ce-time").ends_with('Z'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Ceph>().await;
}

/// What the source makes at the gateway comes and goes with it, and what others have made stays.
#[tokio::test(flavor = "multi_thread")]
async fn topic_and_notification_come_and_go_with_the_source() {
    let ceph = Ceph::with(Services::of("ceph-made")).await;
    let source = ceph.manifest(TO_BROKER);
    let (bucket, topic) = (ceph.bucket(), format!("contract-{}-1", ceph.run));
    let args = ceph.arguments();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mesh = Mesh::start_with(&format!("{BROKER}{source}"), &args).await;
    let shown = configured(&mesh, ("True", "Registered")).await;
    let arn = shown.pointer("/status/topicARN").and_then(Value::as_str).expect("an ARN");
    assert!(arn.ends_with(&topic), "{arn}");
    let url = format!("{}/sources/default/source", ceph.front.url);
    assert_eq!(shown.pointer("/status/url"), Some(&json!(url)));
    assert!(ceph.topics().await.contains(&format!("{url}?token={TOKEN}")));
    assert!(ceph.notifications(&bucket).await.contains(arn));
    // The Secret stays: with it went the right to remove them.
    let (secret, _) = source.split_once("---\napiVersion: sources").expect("a source");
    mesh.rewrite(&format!("{BROKER}{secret}"));
    eventually_within(RECOVERY, "both to go", async || {
        let (topics, left) = (ceph.topics().await, ceph.notifications(&bucket).await);
        (!topics.contains(&topic) && !left.contains("<Topic>")).then_some(())
    })
    .await;
}

/// A gateway that is away when the source starts is told once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_is_told_when_it_is_back() {
    let mut ceph = Ceph::with(Services::of("ceph-away")).await;
    let subscriber = Subscriber::start().await;
    let source = ceph.manifest(TO_BROKER);
    ceph.services.down("ceph").await;
    let args = ceph.arguments();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let mesh = Mesh::start_with(&yaml, &args).await;
    let shown = configured(&mesh, ("False", "UpstreamUnavailable")).await;
    assert_eq!(condition(&shown, "Ready").map(|(status, _)| status), Some("False"));
    ceph.start_again().await;
    configured(&mesh, ("True", "Registered")).await;
    ceph.produce(&mesh, 0..3).await;
    subscriber.wait(3).await;
}

/// Waits until the source says that of what it made; returns the resource.
async fn configured(mesh: &Mesh, wanted: (&str, &str)) -> Value {
    eventually_within(RECOVERY, &format!("WebhookConfigured to be {wanted:?}"), async || {
        let resource = resource(mesh, "ceph").await;
        (condition(&resource, "WebhookConfigured") == Some(wanted)).then_some(resource)
    })
    .await
}

//! The Ping source, from YAML to subscriber.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request;
use crate::harness::subscriber::Subscriber;

const TO_BROKER: &str =
    "  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}\n";

/// A source called `beat`, with `spec` lines indented by two spaces.
fn ping(spec: &str) -> String {
    format!(
        "---\napiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata:\n  name: beat\nspec:\n{spec}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_with_seconds_ticks_into_the_broker() {
    let subscriber = Subscriber::start().await;
    let spec = "  schedule: \"* * * * * *\"\n  contentType: application/json\n  data: '{\"m\": 1}'\n  ceOverrides: {extensions: {team: blue}}\n";
    let ping = ping(&format!("{spec}{TO_BROKER}"));
    let _mesh =
        Mesh::start(&format!("{BROKER}{}{ping}", trigger("t", &subscriber.url, "", &[]))).await;
    let got = subscriber.wait(2).await;
    assert_eq!(got[0].header("ce-type"), "dev.knative.sources.ping");
    assert_eq!(got[0].header("ce-source"), "/apis/v1/namespaces/default/pingsources/beat");
    assert_eq!(got[0].header("ce-team"), "blue");
    assert_eq!(got[0].body.as_ref(), br#"{"m": 1}"#);
    assert_ne!(got[0].id(), got[1].id());
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_missed_while_the_mesh_was_down_are_reported() {
    let ping = ping(&format!("  schedule: \"* * * * *\"\n{TO_BROKER}"));
    let mut mesh = Mesh::start(&format!("{BROKER}{ping}")).await;
    let checkpoint = mesh.data().join("sources/PingSource,default,beat");
    let mut remembered: serde_json::Value = eventually("the checkpoint", async || {
        serde_json::from_slice(&std::fs::read(&checkpoint).ok()?).ok()
    })
    .await;
    mesh.kill().await;
    let last: jiff::Timestamp = remembered["last"].as_str().expect("a time").parse().unwrap();
    let earlier = last - jiff::SignedDuration::from_mins(10);
    remembered["last"] = earlier.to_string().into();
    std::fs::write(&checkpoint, remembered.to_string()).unwrap();
    mesh.restart().await;
    eventually("the report", async || {
        mesh.log().contains("were missed: the source was not running").then_some(())
    })
    .await;
    let metrics = request::get(&format!("{}/metrics", mesh.api)).await.body;
    let line =
        "weft_source_missed_ticks_total{kind=\"PingSource\",namespace=\"default\",name=\"beat\"} ";
    let missed = metrics.lines().find_map(|metric| metric.strip_prefix(line)).expect("counted");
    assert!((8..=11).contains(&missed.parse::<u32>().unwrap()), "{missed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_a_certificate_of_its_own_is_trusted_by_it() {
    let certified = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let sink = Encrypted::start(&certified).await;
    let indented = certified.cert.pem().replace('\n', "\n      ");
    let ping = ping(&format!(
        "  schedule: \"* * * * * *\"\n  dataBase64: AP8=\n  sink:\n    uri: {}\n    CACerts: |\n      {}\n",
        sink.url,
        indented.trim_end()
    ));
    let _mesh = Mesh::start(&ping).await;
    let (headers, body) = sink.first().await;
    assert_eq!(headers["ce-type"], "dev.knative.sources.ping");
    assert_eq!(body.as_ref(), [0, 255]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_nobody_vouches_for_gets_nothing_and_the_source_says_so() {
    let certified = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let sink = Encrypted::start(&certified).await;
    let mesh = Mesh::start(&ping(&format!(
        "  schedule: \"* * * * * *\"\n  sink: {{uri: {}}}\n",
        sink.url
    )))
    .await;
    let failures =
        "weft_source_emit_failures_total{kind=\"PingSource\",namespace=\"default\",name=\"beat\"} ";
    eventually("a failure", async || {
        let metrics = request::get(&format!("{}/metrics", mesh.api)).await.body;
        let count = metrics.lines().find_map(|metric| metric.strip_prefix(failures))?;
        (count != "0").then_some(())
    })
    .await;
    assert!(sink.got().is_none());
}

/// A sink that speaks TLS alone and keeps the first event.
struct Encrypted {
    url: String,
    got: Arc<Mutex<Option<(HeaderMap, Bytes)>>>,
    _tasks: JoinSet<()>,
}

impl Encrypted {
    async fn start(certified: &CertifiedKey<KeyPair>) -> Self {
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/", listener.local_addr().expect("bound"));
        let got = Arc::new(Mutex::new(None));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, got.clone()));
        Self { url, got, _tasks: tasks }
    }

    fn got(&self) -> Option<(HeaderMap, Bytes)> {
        self.got.lock().expect("no panic under the lock").clone()
    }

    async fn first(&self) -> (HeaderMap, Bytes) {
        eventually("an event", async || self.got()).await
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    got: Arc<Mutex<Option<(HeaderMap, Bytes)>>>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // A client that does not trust the certificate goes away.
        let Ok(stream) = acceptor.accept(stream).await else { continue };
        let service = service_fn(|request: Request<Incoming>| async {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let mut got = got.lock().expect("no panic under the lock");
                got.get_or_insert((parts.headers, body.to_bytes()));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    }
}

//! `PrometheusSource` against Prometheus and an Alertmanager.
//!
//! Prometheus has no messages. What comes closest is a sample that is counted at one tick and no other: the query counts the
//! samples of the second before its tick, the schedule is due each second, and samples are written in the middle of seconds to
//! come, so that each is there before its tick asks.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request;
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// A server that takes samples from us.
struct Prometheus {
    services: Services,
    service: Value,
}

impl Prometheus {
    fn url(&self) -> &str {
        self.service["url"].as_str().expect("a URL")
    }

    fn source(&self, query: &str, more: &str, sink: &str) -> String {
        let url = self.url();
        format!(
            "---\napiVersion: sources.knative.dev/v1alpha1\nkind: PrometheusSource\nmetadata:\n  name: source\n  annotations:\n    \
             weft.dev/per-series: \"true\"\nspec:\n  serverURL: {url}\n  promQL: {query}\n  schedule: \"* * * * * *\"\n  sink: {sink}\n{more}"
        )
    }

    /// Writes a sample of each of these series, counted at one of the next ticks.
    async fn write(&self, series: impl Iterator<Item = Vec<(&'static str, String)>>) {
        // Two to three seconds to write it.
        let middle = Timestamp::now().as_second() * 1000 + 3500;
        let mut message = Vec::new();
        for labels in series {
            let mut one = Vec::new();
            for (name, value) in labels {
                let mut label = Vec::new();
                field(&mut label, 1, name.as_bytes());
                field(&mut label, 2, value.as_bytes());
                field(&mut one, 1, &label);
            }
            let mut sample = vec![0x09];
            sample.extend(1_f64.to_le_bytes());
            sample.push(0x10);
            number(&mut sample, u64::try_from(middle).expect("after 1970"));
            field(&mut one, 2, &sample);
            field(&mut message, 1, &one);
        }
        let headers = [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = format!("{}/api/v1/write", self.url());
        let answer = request::post(&url, &headers, snappy(&message)).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
}

/// A length-delimited field of a Protobuf message.
fn field(message: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    message.push(tag << 3 | 2);
    number(message, bytes.len() as u64);
    message.extend(bytes);
}

/// A number as Protobuf and Snappy write it.
fn number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.push(u8::try_from(number).expect("less than 128"));
}

/// Snappy's block format, all of it literals.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    number(&mut block, bytes.len() as u64);
    for piece in bytes.chunks(1 << 16) {
        block.push(61 << 2);
        block.extend(u16::try_from(piece.len() - 1).expect("65,535 at most").to_le_bytes());
        block.extend(piece);
    }
    block
}

/// The labels of the only series of an event.
fn labels(event: &Got) -> Option<Value> {
    let answer: Value = serde_json::from_slice(&event.body).ok()?;
    answer.pointer("/data/result/0/metric").cloned()
}

impl Upstream for Prometheus {
    const MODULE: &'static str = "prometheus";

    async fn start(services: Services) -> Self {
        let service = services.up("prometheus").await;
        Self { services, service }
    }

    fn manifest(&self, sink: &str) -> String {
        self.source("count_over_time(contract[1s])", "", sink)
    }

    /// It lets everybody in.
    fn refused(&self, _: &str) -> Option<(String, &'static str)> {
        None
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        let series =
            |number: u64| vec![("__name__", "contract".to_owned()), ("number", number.to_string())];
        self.write(numbers.map(series)).await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        labels(event)?["number"].as_str()?.parse().ok()
    }

    async fn stop(&self) -> bool {
        self.services.down("prometheus").await;
        true
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("prometheus").await;
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.prometheus.promql");
        assert_eq!(event.header("ce-source"), "default/source");
        assert_eq!(event.header("content-type"), "application/json");
        let tick: Timestamp = event.header("ce-time").parse().expect("the tick");
        assert_eq!(tick.subsec_nanosecond(), 0);
        assert_eq!(labels(event), Some(json!({ "number": "7" })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Prometheus>().await;
}

/// The seconds that range events are about.
fn seconds(got: &[Got]) -> BTreeSet<i64> {
    let answers = got.iter().filter_map(|event| serde_json::from_slice::<Value>(&event.body).ok());
    let values =
        answers.filter_map(|answer| answer.pointer("/data/result/0/values")?.as_array().cloned());
    values.flatten().filter_map(|point| point[0].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_have_no_hole_where_the_mesh_was_dead() {
    let prometheus = Prometheus::start(Services::of("prometheus-ranges")).await;
    let subscriber = Subscriber::start().await;
    let source = prometheus.source("vector(1)", "  step: 1s\n", TO_BROKER);
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let mut mesh = Mesh::start(&yaml).await;
    subscriber.wait(2).await;
    mesh.kill().await;
    let dead = Timestamp::now() + SignedDuration::from_secs(4);
    eventually("four seconds to pass", async || (Timestamp::now() > dead).then_some(())).await;
    mesh.restart().await;
    let seconds = eventually("a range after the mesh was dead", async || {
        let seconds = seconds(&subscriber.got());
        (*seconds.last()? > dead.as_second()).then_some(seconds)
    })
    .await;
    let (first, last) = (seconds.first().expect("some"), seconds.last().expect("some"));
    assert_eq!(seconds.iter().copied().collect::<Vec<_>>(), (*first..=*last).collect::<Vec<_>>());
    // What was told twice has the same id twice.
    let ids: BTreeSet<(String, String)> = subscriber
        .got()
        .iter()
        .map(|event| (event.header("ce-time").to_owned(), event.id().to_owned()))
        .collect();
    let times: BTreeSet<&String> = ids.iter().map(|(time, _)| time).collect();
    assert_eq!(ids.len(), times.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_none_is_told_and_makes_no_event() {
    let prometheus = Prometheus::start(Services::of("prometheus-queries")).await;
    let subscriber = Subscriber::start().await;
    let source = prometheus.source("\"up{\"", "", TO_BROKER);
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let mesh = Mesh::start(&yaml).await;
    let message = eventually("the query to be refused", async || {
        let resource = resource(&mesh, "prometheus").await;
        let conditions = resource.pointer("/status/conditions")?.as_array()?.clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready")?;
        (ready["reason"] == "InvalidSpec").then(|| ready["message"].to_string())
    })
    .await;
    assert!(message.contains("promQL: ") && message.contains("parse error"), "{message}");
    assert!(subscriber.got().is_empty());
    let good = prometheus.source("up", "", TO_BROKER);
    mesh.rewrite(&format!("{BROKER}{}{good}", trigger("t", &subscriber.url, "", &[])));
    subscriber.wait(1).await;
    eventually("the status to say so", async || {
        let resource = resource(&mesh, "prometheus").await;
        (condition(&resource, "QueryAnswered")?.0 == "True").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_posts_and_posts_again_what_was_not_taken() {
    let alertmanager = Services::of("alertmanager").up("alertmanager").await;
    let url = alertmanager["url"].as_str().expect("a URL");
    let subscriber = Subscriber::start().await;
    let source = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: am\nstringData:\n  token: open-sesame\n---\n\
         apiVersion: sources.knative.dev/v1alpha1\nkind: PrometheusSource\nmetadata:\n  name: source\nspec:\n  alertmanager:\n    \
         authToken:\n      secretKeyRef: {{ name: am, key: token }}\n  sink: {TO_BROKER}\n"
    );
    let subscribed = trigger("t", &subscriber.url, "", &[]);
    // Without a broker the first post finds no sink.
    let mesh = Mesh::start(source.trim_start_matches("---\n")).await;
    let hook = format!("{}/sources/default/source", mesh.events);
    let post = |token: &str| {
        let headers = [("authorization".to_owned(), format!("Bearer {token}"))];
        let body = r#"{"groupKey":"by-hand","status":"firing","alerts":[]}"#;
        let hook = hook.clone();
        async move { request::post(&hook, &headers, body).await.status }
    };
    assert_eq!(post("sesame").await, 401);
    assert_eq!(post("open-sesame").await, 503);

    let configuration = format!(
        "route: {{receiver: weft, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers:\n- name: weft\n  webhook_configs:\n  - url: {hook}\n    http_config:\n      \
         authorization: {{type: Bearer, credentials: open-sesame}}\n"
    );
    let path = alertmanager["config"].as_str().expect("a path");
    std::fs::write(path, configuration).expect("it can be written");
    assert_eq!(request::post(&format!("{url}/-/reload"), &[], "").await.status, 200);
    let name = format!("Down{}", Timestamp::now().as_millisecond());
    let alerts = json!([{ "labels": { "alertname": name, "severity": "page" } }]).to_string();
    let json = [("content-type".to_owned(), "application/json".to_owned())];
    let posted = request::post(&format!("{url}/api/v2/alerts"), &json, alerts).await;
    assert_eq!(posted.status, 200, "{}", posted.body);
    eventually("the notification to be refused", async || {
        let metrics = request::get(&format!("{}/metrics", mesh.api)).await.body;
        let count = metrics.lines().find_map(|line| {
            line.strip_prefix(r#"weft_source_hook_requests_total{status="503"} "#)
        });
        // One was by hand.
        (count?.parse::<u64>().ok()? >= 2).then_some(())
    })
    .await;
    mesh.rewrite(&format!("{BROKER}{subscribed}{source}"));
    let event = eventually("the notification", async || {
        subscriber.got().into_iter().find(|event| event.header("ce-alertname") == name)
    })
    .await;
    assert_eq!(event.header("ce-type"), "dev.knative.prometheus.alertmanager");
    assert_eq!(event.header("ce-source"), "default/source");
    assert_eq!(event.header("ce-status"), "firing");
    assert_eq!(event.header("ce-severity"), "page");
    assert!(!mesh.log().contains("open-sesame"));
}

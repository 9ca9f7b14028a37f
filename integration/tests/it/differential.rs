//! The embedded API answers as Kubernetes' own server does: the same calls are made to both, and the answers compared.

mod call;
mod deliberate;
mod generate;
mod kinds;
mod normal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use futures_util::future::join_all;
use serde_json::{Map, Value};

use crate::harness::servers::{self, Embedded};
use call::{Call, Peer, Read};
use generate::Generator;
use normal::{Names, Normal};

/// Calls of one sequence, at least.
const CALLS: usize = 250;
/// Sequences of a run.
const SEEDS: u64 = 4;
/// Differences that are shown.
const SHOWN: usize = 40;

/// Two answers that should be one.
struct Difference {
    seed: u64,
    number: usize,
    call: Call,
    ours: Normal,
    theirs: Normal,
}

/// Plays one sequence to both servers.
async fn play(seed: u64, client: kube::Client) -> Vec<Difference> {
    let embedded = Embedded::start();
    let namespace = servers::fresh_name(&format!("diff-{seed}"));
    servers::create_namespace(&embedded.client(), &namespace).await;
    servers::create_namespace(&client, &namespace).await;
    let (mut ours, mut theirs) = (Peer::new(embedded.client()), Peer::new(client));
    let (mut our_names, mut their_names) = (Names::default(), Names::default());
    let mut generator = Generator::new(seed, &namespace);
    let (mut differences, mut number) = (Vec::new(), 0);
    while number < CALLS {
        for call in generator.next() {
            number += 1;
            let (mine, other) = tokio::join!(ours.play(&call), theirs.play(&call));
            let (mut mine, mut other) = (our_names.answer(&mine), their_names.answer(&other));
            if call.read == Read::Initial {
                // The state at the start has no order.
                sort_events(&mut mine.body);
                sort_events(&mut other.body);
            }
            deliberate::forgive(&call, &mut mine, &mut other);
            if mine == other {
                continue;
            }
            // What comes next should not differ for the same reason.
            if let Some(path) = call.changes() {
                for (peer, names) in [(&mut ours, &mut our_names), (&mut theirs, &mut their_names)]
                {
                    peer.forget(&path).await;
                    names.forget(path.rsplit('/').next().unwrap_or_default());
                }
            }
            differences.push(Difference { seed, number, call, ours: mine, theirs: other });
        }
    }
    differences
}

fn sort_events(body: &mut Value) {
    if let Value::Array(events) = body {
        events.sort_by_key(|event| {
            let bookmark = event["type"] == "BOOKMARK";
            (bookmark, event["object"]["metadata"]["name"].as_str().map(str::to_owned))
        });
    }
}

/// The parts in which two values differ, as `path: ours | theirs`.
fn compare(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}/{key}"), &value(one), &value(other), out);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}/{index}"), one, other, out);
            }
        }
        _ if ours == theirs => {}
        _ => out.push(format!("    {path}\n      ours:   {ours}\n      theirs: {theirs}")),
    }
}

fn report(differences: &[Difference]) -> String {
    let mut text = format!("{} answers differ\n", differences.len());
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let mut shown = 0;
    for difference in differences {
        let Difference { seed, number, call, ours, theirs } = difference;
        let mut parts = Vec::new();
        compare("status", &ours.status.into(), &theirs.status.into(), &mut parts);
        compare("media", &ours.media.clone().into(), &theirs.media.clone().into(), &mut parts);
        compare(
            "warnings",
            &ours.warnings.clone().into(),
            &theirs.warnings.clone().into(),
            &mut parts,
        );
        compare("body", &ours.body, &theirs.body, &mut parts);
        let parts = parts.join("\n");
        let times = told
            .entry(format!(
                "{}{}",
                call.what,
                parts.lines().filter(|line| !line.contains("s: ")).collect::<String>()
            ))
            .or_default();
        *times += 1;
        if *times > 1 || shown >= SHOWN {
            continue;
        }
        shown += 1;
        let body: String = call.body.chars().take(600).collect();
        writeln!(
            text,
            "\n[{seed}/{number}] {}: {} {} ({}) {body}\n{parts}",
            call.what, call.method, call.path, call.media
        )
        .expect("writing to a string cannot fail");
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_api_answers_as_kubernetes_does() {
    let (client, _alone) = servers::alone().await;
    let plays = (0..SEEDS).map(|seed| play(seed, client.clone()));
    let differences: Vec<Difference> = join_all(plays).await.into_iter().flatten().collect();
    assert!(differences.is_empty(), "{}", report(&differences));
}

//! What a cluster with Knative Eventing accepted, stored and refused, replayed against these types.
//!
//! `admission.json` was measured: objects posted to a cluster, and what it answered.

use crds::broker_defaults::BrokerDefaults;
use crds::object::{Object, Rules};
use crds::ping_defaults::PingDefaults;
use serde::Deserialize;
use serde_json::{Value, json};

/// The `default-br-config` of that cluster.
const DEFAULTS: &str = "
clusterDefault:
  brokerClass: MTChannelBasedBroker
  apiVersion: v1
  kind: ConfigMap
  name: config-br-default-channel
  namespace: knative-eventing
  delivery:
    retry: 10
    backoffPolicy: exponential
    backoffDelay: PT0.2S
";
const DENIED: &str = r#"admission webhook "validation.webhook.eventing.knative.dev" denied the request: validation failed: "#;

/// What Weft refuses although Knative accepts it, because each of these filters does something else than it says.
const STRICTER: [&str; 5] = [
    "filters all empty",
    "filters any empty",
    "filters cesql empty",
    "filters cesql not boolean",
    "filters cesql unknown function",
];

#[derive(Deserialize)]
struct Case {
    kind: String,
    case: String,
    object: Value,
    status: u16,
    message: Option<String>,
    stored: Option<Value>,
}

/// Stands for the real parser, which is another crate's: refuses the three malformed expressions among the cases.
fn cesql(expression: &str) -> Result<(), String> {
    match expression {
        "type = = 'a'" | "NOPE(type)" | "1 + 2" => Err("it is malformed".to_owned()),
        _ => Ok(()),
    }
}

fn admit(case: &Case) -> Result<Value, String> {
    let defaults = BrokerDefaults::parse(DEFAULTS).expect("the defaults are good");
    let rules = Rules {
        cesql: &cesql,
        schedule: &|_, _| Ok(()),
        broker_defaults: &defaults,
        ping_defaults: PingDefaults::default(),
    };
    let mut object = Object::from_value(&case.object).map_err(|error| error.to_string())?;
    object.defaults(&rules);
    object.validate(&rules).into_result().map_err(|errors| format!("{DENIED}{errors}"))?;
    if let Object::ConfigMap(map) = &object {
        BrokerDefaults::read(map).map_err(|error| error.to_string())?;
    }
    Ok(serde_json::to_value(&object).expect("every object is JSON"))
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("admission.json")).expect("the cases are JSON")
}

#[test]
fn refusals_have_knatives_words() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case.status >= 400) {
        let refusal = admit(case).expect_err(&case.case);
        let expected = case.message.as_deref().unwrap();
        if case.case == "filters cesql parse error" {
            // The reason follows, which that cluster's parser did not give.
            assert_eq!(refusal.split_once('\n').unwrap().0, expected);
        } else {
            assert_eq!(refusal, expected, "{} {}", case.kind, case.case);
        }
        count += 1;
    }
    assert_eq!(count, 24);
}

#[test]
fn what_is_accepted_is_stored_with_knatives_defaults() {
    let mut count = 0;
    for case in
        cases().iter().filter(|case| case.status < 400 && !STRICTER.contains(&case.case.as_str()))
    {
        let stored =
            admit(case).unwrap_or_else(|refusal| panic!("{} {}: {refusal}", case.kind, case.case));
        count += 1;
        let Some(expected) = &case.stored else { continue };
        let mut annotations = expected["annotations"].clone();
        if let Value::Object(map) = &mut annotations {
            // Who wrote it is stamped by the API server, which knows.
            map.retain(|key, _| !key.ends_with("/creator") && !key.ends_with("/lastModifier"));
        }
        let empty = |value: &Value| if value.is_null() { json!({}) } else { value.clone() };
        let metadata = &stored["metadata"];
        assert_eq!(stored["spec"], expected["spec"], "{} {}", case.kind, case.case);
        assert_eq!(
            empty(&metadata["labels"]),
            empty(&expected["labels"]),
            "{} {}",
            case.kind,
            case.case
        );
        assert_eq!(empty(&metadata["annotations"]), annotations, "{} {}", case.kind, case.case);
    }
    assert_eq!(count, 21);
}

#[test]
fn stricter_refusals_name_the_filter_and_say_why() {
    let cases = cases();
    for name in STRICTER {
        let case = cases.iter().find(|case| case.case == name).unwrap();
        let refusal = admit(case).expect_err(name);
        let (first, reason) = refusal.split_once('\n').unwrap();
        assert!(first.contains(": spec.filters[0]") && !reason.is_empty(), "{refusal}");
    }
}

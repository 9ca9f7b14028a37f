//! What a cluster with Knative Eventing accepted, stored and refused, replayed against these types.
//!
//! `admission.json` was measured: objects posted to a cluster, and what it answered. Kinds are declared in several crates, so
//! this file takes a catalog: another package has it as a module by `#[path]`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what surprises a test ends it")]

use crds::admission::{self, Operation, Refused};
use crds::broker_defaults::BrokerDefaults;
use crds::config_map::{self, ConfigMap};
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
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

/// What Weft refuses although Knative accepts it, and why: each of these filters does something else than it says.
const STRICTER: [(&str, &str); 5] = [
    // Knative skips an empty list, so every event would match a filter that was meant to match something.
    ("filters all empty", "an empty filter would match every event"),
    ("filters any empty", "an empty filter would match every event"),
    // The same of an empty expression.
    ("filters cesql empty", "an empty filter would match every event"),
    // A number is never true: no event would match, and no word would say why.
    ("filters cesql not boolean", "it is malformed"),
    // A misspelt function fails for every event: again none would match.
    ("filters cesql unknown function", "it is malformed"),
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

fn admit(catalog: Catalog, case: &Case) -> Result<Value, String> {
    let defaults = BrokerDefaults::parse(DEFAULTS).expect("the defaults are good");
    let rules = Rules {
        catalog,
        cesql: &cesql,
        broker_defaults: &defaults,
        ping_defaults: PingDefaults::default(),
    };
    let resource = catalog.of_kind(group(case), &case.kind).expect("the case is of a known kind");
    // Those objects were posted with strict field validation.
    let unknown =
        admission::unknown_fields(resource, &case.object).map_err(|refused| refused.to_string())?;
    if !unknown.is_empty() {
        let (kind, fields) = (&case.kind, unknown.join(", "));
        return Err(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: strict decoding error: {fields}"
        ));
    }
    let admitted = match admission::admit(resource, case.object.clone(), Operation::Create, &rules)
    {
        Ok(admitted) => admitted,
        Err(Refused::Invalid(errors)) => return Err(format!("{DENIED}{errors}")),
        Err(Refused::Decode(error)) => return Err(error.to_string()),
    };
    assert_eq!(admitted.unknown, Vec::<String>::new(), "{} {}", case.kind, case.case);
    if case.kind == config_map::KIND {
        let map: ConfigMap =
            serde_json::from_value(admitted.object.clone()).expect("it was admitted");
        BrokerDefaults::read(&map).map_err(|error| error.to_string())?;
    }
    Ok(admitted.object)
}

fn is_stricter(case: &str) -> bool {
    STRICTER.iter().any(|(name, _)| *name == case)
}

fn group(case: &Case) -> &str {
    let api_version = case.object["apiVersion"].as_str().expect("every case has a version");
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The cases of kinds that `catalog` has.
fn cases(catalog: Catalog) -> Vec<Case> {
    let mut cases: Vec<Case> =
        serde_json::from_str(include_str!("../admission.json")).expect("the cases are JSON");
    cases.retain(|case| catalog.of_kind(group(case), &case.kind).is_some());
    cases
}

/// Every refusal has Knative's words; answers how many there were.
pub(crate) fn refusals_have_knatives_words(catalog: Catalog) -> usize {
    let mut count = 0;
    for case in cases(catalog).iter().filter(|case| case.status >= 400) {
        let refusal = admit(catalog, case).expect_err(&case.case);
        let expected = case.message.as_deref().unwrap();
        if case.case == "filters cesql parse error" {
            // The reason follows, which that cluster's parser did not give.
            assert_eq!(refusal.split_once('\n').unwrap().0, expected);
        } else {
            assert_eq!(refusal, expected, "{} {}", case.kind, case.case);
        }
        count += 1;
    }
    count
}

/// What Knative accepts is stored with its defaults; answers how many that were.
pub(crate) fn what_is_accepted_is_stored_with_knatives_defaults(catalog: Catalog) -> usize {
    let mut count = 0;
    for case in cases(catalog).iter().filter(|case| case.status < 400 && !is_stricter(&case.case)) {
        let stored = admit(catalog, case)
            .unwrap_or_else(|refusal| panic!("{} {}: {refusal}", case.kind, case.case));
        count += 1;
        let Some(expected) = &case.stored else { continue };
        let mut annotations = expected["annotations"].clone();
        if let Value::Object(map) = &mut annotations {
            // Who wrote it is not stamped: the one token of a mesh says no name.
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
    count
}

/// Refusals of what Knative accepts name the filter and say why.
pub(crate) fn stricter_refusals_name_the_filter_and_say_why(catalog: Catalog) {
    let cases = cases(catalog);
    for (name, why) in STRICTER {
        let case = cases.iter().find(|case| case.case == name).unwrap();
        assert!(case.status < 400, "Knative accepts {name}");
        let refusal = admit(catalog, case).expect_err(name);
        let (first, reason) = refusal.split_once('\n').unwrap();
        assert!(first.contains(": spec.filters[0]"), "{refusal}");
        assert_eq!(reason, why, "{name}");
    }
}

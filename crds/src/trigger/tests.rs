//! Triggers: what is filled in, and what is refused beyond what Knative refuses.

use super::*;

fn trigger(spec: &str) -> Trigger {
    let mut trigger: Trigger =
        serde_json::from_str(&format!(r#"{{"metadata":{{"name":"t"}},"spec":{spec}}}"#)).unwrap();
    trigger.defaults();
    trigger
}

fn with_filter(filter: &str) -> Trigger {
    trigger(&format!(r#"{{"broker":"b","subscriber":{{"uri":"http://s/"}},"filters":[{filter}]}}"#))
}

fn no_plus(text: &str) -> Result<(), String> {
    if text.contains('+') { Err("1:3: + is not boolean".to_owned()) } else { Ok(()) }
}

fn refusal(trigger: &Trigger) -> String {
    trigger.validate(&no_plus).to_string()
}

#[test]
fn defaults_are_an_open_filter_a_label_and_namespaces() {
    let trigger = trigger(
        r#"{"broker":"b","subscriber":{"ref":{"apiVersion":"v1","kind":"Service","name":"s"}},
            "delivery":{"deadLetterSink":{"ref":{"apiVersion":"v1","kind":"Service","name":"d"}}}}"#,
    );
    assert_eq!(refusal(&trigger), "");
    assert_eq!(trigger.spec.filter, Some(TriggerFilter::default()));
    assert_eq!(trigger.metadata.labels[BROKER_LABEL], "b");
    assert_eq!(trigger.spec.subscriber.reference.unwrap().namespace, "default");
    assert_eq!(
        trigger.spec.delivery.unwrap().dead_letter_sink.unwrap().reference.unwrap().namespace,
        "default"
    );
}

#[test]
fn filters_that_would_match_everything_are_refused() {
    let message = |filter: &str| refusal(&with_filter(filter));
    assert!(message("{}").starts_with("filter is empty: spec.filters[0]\n"));
    for dialect in ["all", "any"] {
        assert!(
            message(&format!(r#"{{"{dialect}":[]}}"#))
                .starts_with(&format!("filter is empty: spec.filters[0].{dialect}\n"))
        );
    }
    for dialect in ["exact", "prefix", "suffix"] {
        let empty = message(&format!(r#"{{"{dialect}":{{}}}}"#));
        assert!(
            empty.starts_with(&format!("filter is empty: spec.filters[0].{dialect}\n")),
            "{empty}"
        );
        let value = message(&format!(r#"{{"{dialect}":{{"type":""}}}}"#));
        assert!(
            value.starts_with(&format!("invalid value: \"\": spec.filters[0].{dialect}[type]\n")),
            "{value}"
        );
    }
    assert!(message(r#"{"cesql":""}"#).starts_with("filter is empty: spec.filters[0].cesql\n"));
    assert!(
        message(r#"{"not":{"any":[{}]}}"#)
            .starts_with("filter is empty: spec.filters[0].not.any[0]\n")
    );
}

#[test]
fn one_filter_has_one_dialect() {
    let expected =
        "multiple dialects found, filters can have only one dialect set: spec.filters[0]";
    assert_eq!(refusal(&with_filter(r#"{"exact":{"type":"a"},"prefix":{"type":"a"}}"#)), expected);
    assert_eq!(refusal(&with_filter(r#"{"not":{"exact":{"type":"a"}},"cesql":"TRUE"}"#)), expected);
}

#[test]
fn an_expression_that_does_not_parse_is_refused_with_the_reason() {
    let refusal = refusal(&with_filter(r#"{"all":[{"exact":{"type":"a"}},{"cesql":"1 + 2"}]}"#));
    assert_eq!(
        refusal,
        "invalid value: 1 + 2: spec.filters[0].all[1].cesql\n1:3: + is not boolean"
    );
}

#[test]
fn a_broker_can_be_named_by_reference() {
    let reference =
        r#""brokerRef":{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","name":"b"}"#;
    let trigger = trigger(&format!(r#"{{{reference},"subscriber":{{"uri":"http://s/"}}}}"#));
    assert_eq!(refusal(&trigger), "");
    assert_eq!(trigger.broker(), "b");
    assert!(!trigger.metadata.labels.contains_key(BROKER_LABEL));
    let mut elsewhere = trigger.clone();
    elsewhere.spec.broker_ref.as_mut().unwrap().namespace = "other".to_owned();
    assert!(
        refusal(&elsewhere).starts_with("must not set the field(s): spec.brokerRef.namespace\n")
    );
}

#[test]
fn the_broker_of_a_trigger_cannot_change() {
    let old = with_filter(r#"{"cesql":"TRUE"}"#);
    let mut new = old.clone();
    new.spec.filters.clear();
    assert!(new.validate_update(&old).is_empty());
    new.spec.broker = "c".to_owned();
    let expected =
        "Immutable fields changed (-old +new): broker, spec\n{string}:\n\t-: \"b\"\n\t+: \"c\"\n";
    assert_eq!(new.validate_update(&old).to_string(), expected);
}

#[test]
fn a_dependency_must_be_a_reference() {
    let with = |text: &str| {
        let mut trigger = with_filter(r#"{"cesql":"TRUE"}"#);
        trigger.metadata.annotations.insert(DEPENDENCY.to_owned(), text.to_owned());
        refusal(&trigger)
    };
    assert_eq!(with(r#"{"kind":"K","name":"n","apiVersion":"v1","namespace":"default"}"#), "");
    let path = "metadata.annotations[knative.dev/dependency]";
    assert_eq!(
        with("{}"),
        format!("missing field(s): {path}.apiVersion, {path}.kind, {path}.name")
    );
    for text in ["[]", "null", r#"{"kind":1}"#, "{x}"] {
        assert!(with(text).contains("was not a corev1.ObjectReference"), "{text}");
    }
}

#[test]
fn injection_is_for_the_default_broker() {
    let mut trigger = with_filter(r#"{"cesql":"TRUE"}"#);
    trigger.metadata.annotations.insert(INJECTION.to_owned(), "enabled".to_owned());
    assert!(
        refusal(&trigger)
            .contains("non-default broker specified here: \"b\": metadata.annotations[")
    );
}

#[test]
fn options_are_part_of_validation() {
    let mut trigger = with_filter(r#"{"cesql":"TRUE"}"#);
    trigger.metadata.annotations.insert("weft.dev/order".to_owned(), "keys".to_owned());
    assert_eq!(
        refusal(&trigger),
        "invalid value: keys: metadata.annotations[weft.dev/order]\nexpected key or none"
    );
}

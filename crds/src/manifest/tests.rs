//! Loading files: what is read, and the exact place and words of every kind of mistake.

use super::*;
use crate::broker::{self, Broker};
use crate::source::tests::CATALOG;
use crate::trigger::Trigger;

fn cesql(expression: &str) -> Result<(), String> {
    if expression.contains("= =") { Err("an operand is expected".to_owned()) } else { Ok(()) }
}

fn load_files(files: &[(&str, &str)]) -> Result<Vec<Located>, ManifestErrors> {
    let files: Vec<_> = files.iter().map(|(name, text)| File { name, text }).collect();
    let rules = Rules {
        catalog: CATALOG,
        cesql: &cesql,
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults::default(),
    };
    load(&files, &rules)
}

fn good(text: &str) -> Vec<Object> {
    let loaded = load_files(&[("mesh.yaml", text)]).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.into_iter().map(|located| located.object).collect()
}

fn bad(text: &str) -> String {
    load_files(&[("mesh.yaml", text)]).expect_err("a mistake").to_string()
}

/// A Trigger whose spec starts on line 5.
fn trigger(spec: &str) -> String {
    format!(
        "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {{name: t}}\nspec:\n{spec}"
    )
}

const BROKER: &str =
    "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: default\n";

#[test]
fn several_documents_become_objects_with_defaults() {
    let text = format!(
        "# a comment\n---\n{BROKER}---\n---\n{}\n...\n",
        trigger("  broker: b\n  subscriber: {uri: http://s/}\n")
    );
    let loaded = load_files(&[("mesh.yaml", &text)]).unwrap();
    let [broker, trigger] = loaded.as_slice() else { panic!("{loaded:?}") };
    assert_eq!(broker.object.key().to_string(), "Broker default/default");
    assert_eq!(broker.place.to_string(), "mesh.yaml:3:1");
    assert_eq!(trigger.place.to_string(), "mesh.yaml:9:1");
    let trigger = trigger.object.downcast_ref::<Trigger>().unwrap();
    assert!(trigger.spec.filter.is_some());
}

#[test]
fn json_is_read_too() {
    let text = "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\n\t\"metadata\":{\"name\":\"caf\\u00e9\\ud83d\\ude00\"}}";
    let expected =
        "mesh.yaml:2:21: metadata.name: invalid value: \"café😀\"; a lowercase RFC 1123 subdomain";
    assert!(bad(text).starts_with(expected), "{}", bad(text));
    let two = "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}\n{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"b\"}}";
    assert_eq!(good(two).len(), 2);
    assert_eq!(good("{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: b}}").len(), 2);
    assert_eq!(
        bad("{\"apiVersion\": \"v1\",\n \"kind\" \"Secret\"}"),
        "mesh.yaml:2:9: not JSON: expected `:`"
    );
    assert_eq!(
        bad("{\"a\": 1,\n \"b\": {\"c\": 1,\n  \"c\": 2}}"),
        "mesh.yaml:3:8: the field c is there twice"
    );
}

#[test]
fn a_list_holds_objects() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n";
    assert_eq!(good(text).len(), 1);
    let wrong = format!("{text}- apiVersion: v1\n  kind: Namespace\n  metadata: {{name: B}}\n");
    assert!(
        bad(&wrong).starts_with("mesh.yaml:9:14: items[1].metadata.name: invalid value: \"B\"; "),
        "{}",
        bad(&wrong)
    );
    let nested = format!("{text}- apiVersion: v1\n  kind: List\n");
    assert_eq!(bad(&nested), "mesh.yaml:7:3: items[1]: a List cannot hold a List");
    let typed =
        text.replace("kind: List", "kind: NamespaceList\nmetadata: {resourceVersion: \"7\"}");
    assert_eq!(good(&typed).len(), 1);
    assert_eq!(
        bad("apiVersion: v1\nkind: List\nitmes: []\n"),
        "mesh.yaml:3:1: itmes: unknown field"
    );
    assert_eq!(
        bad("apiVersion: v1\nkind: List\nitems: 5\n"),
        "mesh.yaml:3:8: items: must be a list"
    );
}

#[test]
fn mistakes_in_yaml_name_their_line() {
    assert!(bad("a: b\nc: [\n").starts_with("mesh.yaml:3:"), "{}", bad("a: b\nc: [\n"));
    assert!(bad("a:\n\tc: d\n").starts_with("mesh.yaml:2:"), "{}", bad("a:\n\tc: d\n"));
    assert!(bad("a: 'b\n").starts_with("mesh.yaml:"), "{}", bad("a: 'b\n"));
}

#[test]
fn an_unknown_field_is_named_at_its_line() {
    let text =
        trigger("  brokr: b\n  subscriber: {uri: http://s/}\n  filters:\n  - regex: {type: a}\n");
    let expected = "mesh.yaml:5:3: spec.brokr: unknown field\nmesh.yaml:8:5: spec.filters[0].regex: unknown field";
    assert_eq!(bad(&text), expected);
}

#[test]
fn a_value_of_a_wrong_type_hides_no_other_mistake() {
    let text = trigger(
        "  broker: 5\n  subscriber: {uri: 42}\n  filterz: []\n  filters:\n  - 1\n  - exact: {type: 5}\n    regex: {}\n  delivery: {retry: x, tiemout: PT1S}\n",
    );
    let expected = [
        "mesh.yaml:5:3: spec.broker: must be a string, not a number; quote it",
        "mesh.yaml:6:16: spec.subscriber.uri: must be a string, not a number; quote it",
        "mesh.yaml:7:3: spec.filterz: unknown field",
        "mesh.yaml:9:5: spec.filters[0]: must be a mapping, not a number",
        "mesh.yaml:10:13: spec.filters[1].exact[type]: must be a string, not a number; quote it",
        "mesh.yaml:11:5: spec.filters[1].regex: unknown field",
        "mesh.yaml:12:14: spec.delivery.retry: must be a whole number, not a string",
        "mesh.yaml:12:24: spec.delivery.tiemout: unknown field",
    ];
    assert_eq!(bad(&text), expected.join("\n"));
}

#[test]
fn every_document_with_a_mistake_is_named() {
    let bad_trigger = trigger("  brokr: b\n  subscriber: {uri: http://s/}\n");
    let text = format!("{bad_trigger}---\n{BROKER}---\n{bad_trigger}---\na: [\n");
    let found = bad(&text);
    let places: Vec<_> = found.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["mesh.yaml:5:3", "mesh.yaml:17:3", "mesh.yaml:21:1"], "{found}");
}

#[test]
fn lines_may_end_as_on_windows() {
    let text = trigger("  broker: b\n  subscriber: {uri: http://s/}\n").replace('\n', "\r\n");
    assert_eq!(good(&text).len(), 1);
    let text = trigger("  brokr: b\n  subscriber: {uri: http://s/}\n").replace('\n', "\r\n");
    assert_eq!(bad(&text), "mesh.yaml:5:3: spec.brokr: unknown field");
}

#[test]
fn control_characters_are_refused_and_end_no_file() {
    let text = format!("{BROKER}\0---\n{}", trigger("  broker: b\n"));
    assert_eq!(bad(&text), "mesh.yaml:5:1: the character U+0000 cannot be in a file");
    assert_eq!(bad("a: b\u{1b}"), "mesh.yaml:1:5: the character U+001B cannot be in a file");
    let json = "{\"apiVersion\":\"v1\",\"kind\":\"Secret\"}\0";
    assert_eq!(bad(json), "mesh.yaml:1:36: the character U+0000 cannot be in a file");
}

#[test]
fn a_scalar_of_the_wrong_type_is_named_at_its_line() {
    let cases = [
        (
            "  broker: 1.10\n",
            "mesh.yaml:5:3: spec.broker: must be a string, not a number; quote it",
        ),
        (
            "  broker: yes\n",
            "mesh.yaml:5:3: spec.broker: must be a string, not true or false; quote it",
        ),
        (
            "  broker: b\n  delivery:\n    retry: \"3\"\n",
            "mesh.yaml:7:5: spec.delivery.retry: must be a whole number, not a string",
        ),
        (
            "  filters:\n  - exact:\n      type: 5\n",
            "mesh.yaml:7:7: spec.filters[0].exact[type]: must be a string, not a number; quote it",
        ),
        ("  filters: {}\n", "mesh.yaml:5:3: spec.filters: must be a list, not a mapping"),
    ];
    for (spec, expected) in cases {
        assert_eq!(bad(&trigger(spec)), expected);
    }
    assert_eq!(bad("- a\n"), "mesh.yaml:1:1: must be a mapping, not a list");
    let annotation = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n  annotations:\n    example.com/a: 1\n";
    assert_eq!(
        bad(annotation),
        "mesh.yaml:6:5: metadata.annotations[example.com/a]: must be a string, not a number; quote it"
    );
}

#[test]
fn a_kind_that_is_not_known_is_refused_at_its_line() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n";
    assert!(bad(text).starts_with("mesh.yaml:2:1: kind: no kind \"Deployment\" in version \"apps/v1\" is known; supported are Broker ("));
    assert!(
        bad("apiVersion: v1\nkind: Broker\n")
            .starts_with("mesh.yaml:2:1: kind: Broker has no version \"v1\"; supported is ")
    );
    assert_eq!(bad("a: b\n"), "mesh.yaml:1:1: apiVersion: missing field(s)");
    let channel = format!("{BROKER}---\napiVersion: messaging.knative.dev/v1\nkind: Channel\n");
    let expected = "mesh.yaml:7:1: kind: Knative's Channel (messaging.knative.dev/v1) is not served by this mesh; supported are Broker (";
    assert!(bad(&channel).starts_with(expected), "{}", bad(&channel));
}

#[test]
fn validation_errors_are_named_at_their_lines() {
    let text = trigger(
        "  filters:\n  - exact:\n      My: a\n  - cesql: type = = 'a'\n  - {}\n  subscriber:\n    uri: /x\n  delivery:\n    format: xml\n",
    );
    let expected = [
        "mesh.yaml:4:1: spec.broker: missing field(s)",
        "mesh.yaml:7:7: spec.filters[0].exact[My]: invalid key name \"My\"; Attribute name must start with a letter and can only contain lowercase alphanumeric",
        "mesh.yaml:8:5: spec.filters[1].cesql: invalid value: type = = 'a'; an operand is expected",
        "mesh.yaml:9:5: spec.filters[2]: filter is empty; a filter needs one of all, any, not, exact, prefix, suffix, cesql; an empty one would match every event",
        "mesh.yaml:11:5: spec.subscriber.uri: invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent",
        "mesh.yaml:13:5: spec.delivery.format: invalid value: xml",
    ];
    assert_eq!(bad(&text), expected.join("\n"));
}

#[test]
fn errors_about_several_fields_point_at_one_that_is_there() {
    let text = trigger(
        "  broker: b\n  subscriber:\n    ref: {apiVersion: v1, kind: Service, name: s}\n    uri: http://a/\n",
    );
    let expected = "mesh.yaml:7:5: spec.subscriber[apiVersion, kind, name], spec.subscriber.ref, spec.subscriber.uri: Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present";
    assert_eq!(bad(&text), expected);
    let text = trigger("  broker: b\n  subscriber:\n    uri: https://a/\n    CACerts: nope\n");
    assert_eq!(
        bad(&text),
        "mesh.yaml:8:5: spec.subscriber.caCert: invalid value: CA Cert provided is invalid"
    );
}

#[test]
fn annotations_are_named_at_their_lines() {
    let text = "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: t\n  annotations:\n    weft.dev/order: keys\n    weft.dev/rte: \"5\"\nspec: {broker: b, subscriber: {uri: \"http://s/\"}}\n";
    let found = bad(text);
    let mut lines = found.lines();
    assert_eq!(
        lines.next(),
        Some(
            "mesh.yaml:6:5: metadata.annotations[weft.dev/order]: invalid value: keys; expected key or none"
        )
    );
    assert!(lines.next().unwrap().starts_with("mesh.yaml:7:5: metadata.annotations[weft.dev/rte]: invalid key name \"weft.dev/rte\"; a Trigger may have weft.dev/order, "));
    let classless = format!("{BROKER}  annotations:\n    {}: \"\"\n", broker::CLASS);
    assert_eq!(
        bad(&classless),
        "mesh.yaml:6:5: eventing.knative.dev/broker.class: missing field(s)"
    );
}

#[test]
fn duplicate_fields_are_refused() {
    assert_eq!(bad("a: 1\nb:\n  c: 1\n  c: 2\n"), "mesh.yaml:4:3: the field c is there twice");
    assert_eq!(bad("{a: 1, a: 2}"), "mesh.yaml:1:8: the field a is there twice");
}

#[test]
fn the_same_object_twice_is_refused_with_both_places() {
    let broker = |namespace: &str| format!("{BROKER}{namespace}");
    let files = [
        ("a.yaml", broker("")),
        ("b.yaml", format!("# later\n{}", broker("  namespace: default\n"))),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let expected = "b.yaml:2:1: Broker default/default is there already, at a.yaml:1:1";
    assert_eq!(load_files(&files).unwrap_err().to_string(), expected);
    let elsewhere = broker("  namespace: other\n");
    assert_eq!(load_files(&[files[0], ("b.yaml", &elsewhere)]).unwrap().len(), 2);
}

#[test]
fn aliases_and_merges_are_resolved() {
    let text = trigger(
        "  broker: b\n  delivery: &d\n    retry: 3\n    deadLetterSink: &s {uri: http://s/}\n  subscriber: *s\n",
    );
    let text = format!(
        "{text}---\n{BROKER}spec:\n  delivery:\n    <<: {{retry: 3, format: json}}\n    retry: 4\n"
    );
    let objects = good(&text);
    let trigger = objects[0].downcast_ref::<Trigger>().unwrap();
    let broker = objects[1].downcast_ref::<Broker>().unwrap();
    assert_eq!(trigger.spec.subscriber.uri.as_deref(), Some("http://s/"));
    let delivery = broker.spec.delivery.as_ref().unwrap();
    assert_eq!((delivery.retry, delivery.format.as_deref()), (Some(4), Some("json")));
    assert_eq!(bad("a: *b\n").split(": ").next(), Some("mesh.yaml:1:4"));
    assert_eq!(bad("a: &a [*a]\n"), "mesh.yaml:1:8: the alias refers to nothing before it");
    assert_eq!(bad("a:\n  <<: 5\n"), "mesh.yaml:2:3: << takes a mapping or a list of mappings");
}

#[test]
fn a_mistake_in_a_merged_field_is_found_where_it_is_written() {
    let text = trigger(
        "  broker: b\n  subscriber: {uri: http://s/}\n  delivery:\n    <<: {format: xml}\n",
    );
    assert_eq!(bad(&text), "mesh.yaml:8:10: spec.delivery.format: invalid value: xml");
}

#[test]
fn what_a_document_may_grow_to_is_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    assert!(
        bad(&bomb).ends_with("a document may have 100000 values, aliases counted in full"),
        "{}",
        bad(&bomb)
    );
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), ["*a"; 40_000].join(", "));
    assert!(
        bad(&text).ends_with("a document may have 3145728 characters, aliases counted in full"),
        "{}",
        bad(&text)
    );
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(bad(&deep), "mesh.yaml:1:67: values may be nested 64 deep");
    let block: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(bad(&block).ends_with("values may be nested 64 deep"), "{}", bad(&block));
    let json = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert!(bad(&json).ends_with("values may be nested 64 deep"), "{}", bad(&json));
    let many = format!("a: [{}]", "x,".repeat(MAX_NODES));
    assert!(bad(&many).ends_with("values, aliases counted in full"), "{}", bad(&many));
    let long = format!("a: {}", "x".repeat(MAX_DOCUMENT_CHARS));
    assert!(bad(&long).ends_with("a document may have 3145728 characters"), "{}", bad(&long));
    let huge = "#".repeat(MAX_FILE_BYTES + 1);
    assert_eq!(bad(&huge), "mesh.yaml:1:1: a file may have 33554432 bytes");
}

#[test]
fn many_documents_are_not_bounded_like_one() {
    let one = |index: usize| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{index}}}\ndata: {{k: {:?}}}\n",
            "x".repeat(1000)
        )
    };
    let text: String = (0..4000).map(one).collect();
    assert!(text.len() > MAX_DOCUMENT_CHARS);
    assert_eq!(good(&text).len(), 4000);
}

#[test]
fn one_long_line_of_json_takes_no_longer_than_many() {
    let fields: Vec<_> =
        (0..40_000).map(|index| format!("\"k{index}\":\"{}\"", "x".repeat(20))).collect();
    let text = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"c\"}},\"data\":{{{}}},\"x\":1}}",
        fields.join(",")
    );
    // Counting columns from the start of the line for each value would go over this text forty thousand times.
    assert_eq!(bad(&text), format!("mesh.yaml:1:{}: x: unknown field", text.len() - 1));
}

#[test]
fn mistakes_past_a_hundred_are_counted() {
    let text: String = (0..150).map(|index| format!("---\nkind: {index}\n")).collect();
    let found = bad(&text);
    assert_eq!(found.lines().count(), 101);
    assert!(found.ends_with("\nand 50 more"), "{found}");
}

#[test]
fn a_mistake_stays_on_its_line_and_sends_nothing_to_the_terminal() {
    let text = trigger("  broker: \"\\e[31m\\nb\"\n  subscriber: {uri: \"http://s/\"}\n");
    let found = bad(&text);
    assert!(
        found.starts_with("mesh.yaml:5:3: spec.broker: invalid value: \\u{1b}[31m; b; a lowercase"),
        "{found}"
    );
    assert_eq!(found.lines().count(), 1);
}

#[test]
fn secrets_are_not_repeated_in_mistakes() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    for (tail, expected) in [
        ("data: {a: hunter2!}\n", "mesh.yaml:4:8: data[a]: the value is not Base64"),
        (
            "stringData: {a: 1234567}\n",
            "mesh.yaml:4:14: stringData[a]: must be a string, not a number; quote it",
        ),
        (
            "stringData: {a: [hunter2]}\n",
            "mesh.yaml:4:14: stringData[a]: must be a string, not a list",
        ),
        ("stringData: hunter2\n", "mesh.yaml:4:1: stringData: must be a mapping, not a string"),
    ] {
        assert_eq!(bad(&format!("{head}{tail}")), expected);
    }
}

#[test]
fn broker_defaults_among_the_files_apply_whatever_their_order() {
    let defaults = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-br-defaults\n  namespace: knative-eventing\ndata:\n  default-br-config: |\n    clusterDefault:\n      brokerClass: MTChannelBasedBroker\n      delivery: {retry: 2}\n";
    let loaded = load_files(&[("a.yaml", BROKER), ("b.yaml", defaults)]).unwrap();
    let broker = loaded[0].object.downcast_ref::<Broker>().unwrap();
    assert_eq!(
        (broker.class(), broker.spec.delivery.as_ref().unwrap().retry),
        ("MTChannelBasedBroker", Some(2))
    );
    let broken = defaults.replace("retry: 2", "retry: two");
    let expected = "b.yaml:7:3: data[default-br-config]: 3:14: clusterDefault.delivery.retry: must be a whole number, not a string";
    assert_eq!(
        load_files(&[("a.yaml", BROKER), ("b.yaml", &broken)]).unwrap_err().to_string(),
        expected
    );
}

#[test]
fn what_configures_sources_applies_whatever_the_order_of_the_files() {
    let tick = "apiVersion: sources.knative.dev/v1\nkind: TickSource\nmetadata: {name: t}\nspec:\n  data: hello\n  sink: {uri: http://s/}\n";
    let limit = |bytes: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-ping-defaults, namespace: knative-eventing}}\ndata:\n  data-max-size: {bytes:?}\n"
        )
    };
    let load_both = |bytes: &str| load_files(&[("a.yaml", tick), ("b.yaml", &limit(bytes))]);
    assert_eq!(load_both("5").unwrap().len(), 2);
    assert_eq!(
        load_both("4").unwrap_err().to_string(),
        "a.yaml:5:3: spec.data: invalid value: the data length of 5 bytes exceeds limit set at 4."
    );
    assert_eq!(
        load_both("4k").unwrap_err().to_string(),
        "b.yaml:5:3: data[data-max-size]: \"4k\" is not a number of bytes; -1 stands for no limit"
    );
}

#[test]
fn what_kubectl_printed_can_be_loaded() {
    let text = "apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  annotations:
    eventing.knative.dev/broker.class: MTChannelBasedBroker
    eventing.knative.dev/creator: kubernetes-admin
  creationTimestamp: 2026-01-01T00:00:00Z
  generation: 1
  managedFields:
  - {manager: kubectl, operation: Update}
  name: default
  namespace: default
  resourceVersion: \"1234\"
  uid: 5f3c9f0e-0000-4000-8000-000000000000
spec:
  config: {apiVersion: v1, kind: ConfigMap, name: config-br-default-channel, namespace: knative-eventing}
status:
  address: {url: http://broker-ingress.knative-eventing.svc.cluster.local/default/default}
  annotations: {knative.dev/channelName: 5}
";
    let objects = good(text);
    let broker = objects[0].downcast_ref::<Broker>().unwrap();
    assert!(broker.is_ours() && broker.status.is_none());
}

#[test]
fn quoted_scalars_and_tags_are_taken_literally() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: \"1.10\"\n  b: !!str yes\n  c: |\n    no\n  5: 'x'\n  e: ~\n";
    let objects = good(text);
    let map = objects[0].downcast_ref::<ConfigMap>().unwrap();
    let data: Vec<_> = map.data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(data, [("5", "x"), ("a", "1.10"), ("b", "yes"), ("c", "no\n")]);
    assert!(bad("a: !!binary eA==\n").starts_with("mesh.yaml:1:"), "{}", bad("a: !!binary eA==\n"));
    assert!(
        bad("a: !Ref x\n").contains("the tag !Ref cannot be used here"),
        "{}",
        bad("a: !Ref x\n")
    );
    assert_eq!(bad("on: x\n"), "mesh.yaml:1:1: the name of a field must be a string; quote it");
    assert_eq!(
        bad("? [a]\n: x\n"),
        "mesh.yaml:1:3: the name of a field must be a string; quote it"
    );
}

#[test]
fn an_object_in_a_file_needs_a_name() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  generateName: x-\n";
    assert_eq!(
        bad(text),
        "mesh.yaml:3:1: metadata.name: missing field(s); objects in a file need names of their own"
    );
    assert_eq!(
        bad("apiVersion: v1\nkind: ConfigMap\n"),
        "mesh.yaml:1:1: metadata.name: missing field(s)"
    );
}

#[test]
fn one_document_is_read_as_it_is() {
    assert_eq!(value("a: [1, null]\n"), Ok(serde_json::json!({"a": [1, null]})));
    assert_eq!(value("{\"a\": \"b\"}"), Ok(serde_json::json!({"a": "b"})));
    assert_eq!(value("# nothing\n"), Err("1:1: there is no document".to_owned()));
    assert!(value("a: b\n---\nc: d\n").unwrap_err().contains("one document is expected"));
    assert!(value("a: [\n").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "[-\\[\\]{}&*a!|>'\"#%:?, \n\t<~01ü\u{feff}\r]{0,80}") {
        drop(load_files(&[("mesh.yaml", &text)]));
    }
}

//! Redis sources: what is required, what is filled in, and what is refused with which words.

use crds::broker_defaults::BrokerDefaults;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::source::SourceObject;
use serde_json::json;

use super::*;

type Object = SourceObject<RedisStreamSource>;

const GOOD: &str = r#"{"metadata":{"name":"r","namespace":"shop"},"spec":{"address":"rediss://u:hunter2@redis:6379/1","stream":"orders",
    "group":"mesh","consumers":3,"dialOptions":{"useTLS":true,"skipVerify":true,
    "password":{"secretKeyRef":{"name":"redis","key":"password"}},
    "caCert":{"secretKeyRef":{"name":"redis","key":"ca.crt"}},
    "cert":{"secretKeyRef":{"name":"redis","key":"tls.crt"}},"key":{"secretKeyRef":{"name":"redis","key":"tls.key"}}},
    "sink":{"ref":{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","name":"default"}}}}"#;

fn source(text: &str) -> Object {
    let mut source: Object = serde_json::from_str(text).unwrap();
    source.defaults();
    source
}

fn refused(source: &Object) -> String {
    let rules = Rules {
        catalog: Catalog::BUILTIN,
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults::default(),
    };
    source.validate(&rules).to_string()
}

fn refusal(change: impl FnOnce(&mut RedisStreamSource)) -> String {
    let mut source = source(GOOD);
    change(&mut source.spec);
    refused(&source)
}

fn with_options(options: serde_json::Value) -> String {
    refusal(|spec| spec.dial_options = Some(serde_json::from_value(options).unwrap()))
}

fn with_annotation(key: &str, value: &str) -> String {
    let mut source = source(GOOD);
    source.metadata.annotations.insert(key.to_owned(), value.to_owned());
    refused(&source)
}

#[test]
fn a_whole_source_is_read_and_written() {
    let source = source(GOOD);
    assert_eq!(refused(&source), "");
    let written = serde_json::to_value(&source.spec).unwrap();
    let mut expected: serde_json::Value = serde_json::from_str(GOOD).unwrap();
    expected["spec"]["sink"]["ref"]["namespace"] = "shop".into();
    assert_eq!(written, expected["spec"]);
    assert_eq!(source.spec.readers(), 3);
    assert!(!format!("{source:?}").contains("hunter2"));
}

#[test]
fn a_source_without_consumers_has_one() {
    let source = source(
        r#"{"metadata":{"name":"r"},"spec":{"address":"redis://redis","stream":"s","sink":{"uri":"http://s/"}}}"#,
    );
    assert_eq!(source.spec.consumers, Some(1));
    assert_eq!(refused(&source), "");
    assert!(source.spec.secrets().is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let empty = source(r#"{"metadata":{"name":"r"},"spec":{"sink":{"uri":"http://s/"}}}"#);
    assert_eq!(refused(&empty), "missing field(s): spec.address, spec.stream");
}

#[test]
fn a_bad_address_is_refused_without_its_password() {
    let refused = refusal(|spec| spec.address = Address::new("http://u:hunter2@redis"));
    assert_eq!(
        refused,
        "invalid value: http://redis: spec.address\n\
         expected a URL such as redis://host:6379 or, with TLS, rediss://host:6379"
    );
    let refused = refusal(|spec| spec.address = Address::new("redis://redis/one"));
    assert!(refused.starts_with("invalid value: redis://redis/one: spec.address\n"), "{refused}");
}

#[test]
fn consumers_and_names_are_bounded() {
    let consumers = |number| refusal(|spec| spec.consumers = Some(number));
    assert_eq!(consumers(0), "");
    assert_eq!(consumers(100), "");
    assert_eq!(consumers(101), "expected 0 <= 101 <= 100: spec.consumers");
    assert_eq!(consumers(-1), "expected 0 <= -1 <= 100: spec.consumers");
    let long = refusal(|spec| spec.stream = "x".repeat(1025));
    assert_eq!(long, "invalid value: 1025 bytes: spec.stream\nat most 1024 bytes");
}

#[test]
fn certificates_are_whole_and_with_tls() {
    let secret = json!({"secretKeyRef":{"name":"redis","key":"x"}});
    let half = with_options(json!({"cert": secret}));
    assert_eq!(half, "missing field(s): spec.dialOptions.key");
    let half = with_options(json!({"key": secret}));
    assert_eq!(half, "missing field(s): spec.dialOptions.cert");
    let wrong = with_options(json!({"caCert":{"secretKeyRef":{"name":"redis","key":""}}}));
    assert_eq!(wrong, "missing field(s): spec.dialOptions.caCert.secretKeyRef.key");
    let plain = refusal(|spec| {
        spec.address = Address::new("redis://redis");
        spec.dial_options.as_mut().unwrap().use_tls = false;
    });
    assert!(plain.starts_with("missing field(s): spec.dialOptions.useTLS\n"), "{plain}");
}

#[test]
fn what_go_programs_send_for_nothing_is_nothing() {
    let options = json!({"password":{},"cert":{},"key":{},"caCert":{},"useTLS":false});
    assert_eq!(with_options(options.clone()), "");
    let mut source = source(GOOD);
    source.spec.dial_options = Some(serde_json::from_value(options).unwrap());
    assert!(source.spec.secrets().is_empty());
}

#[test]
fn a_password_is_a_key_of_a_secret_or_knatives_reference() {
    let need = |password: serde_json::Value| {
        let mut source = source(GOOD);
        source.spec.dial_options =
            Some(serde_json::from_value(json!({"password": password})).unwrap());
        assert_eq!(refused(&source), "");
        source.spec.secrets().remove(0)
    };
    let key = need(json!({"secretKeyRef":{"name":"redis","key":"pw","optional":true}}));
    assert_eq!(key, Need::secret("dialOptions.password", "redis", "pw").optional());
    let reference = need(
        json!({"name":"redis","namespace":"shop","kind":"Secret","apiVersion":"v1","uid":"1"}),
    );
    assert_eq!(reference, Need::secret("dialOptions.password", "redis", "password"));
    assert_eq!(need(json!({"name":"redis","fieldPath":"pw"})).key.unwrap(), "pw");
}

#[test]
fn a_password_elsewhere_is_refused() {
    let password = |password| with_options(json!({"password": password}));
    assert_eq!(
        password(json!({"kind":"Secret"})),
        "missing field(s): spec.dialOptions.password.name"
    );
    let elsewhere = password(json!({"name":"redis","namespace":"other"}));
    assert_eq!(
        elsewhere,
        "invalid value: other: spec.dialOptions.password.namespace\na password is in a Secret; expected shop"
    );
    assert!(password(json!({"name":"redis","kind":"ConfigMap"})).contains(".kind\n"));
    assert!(password(json!({"name":"Redis"})).contains("spec.dialOptions.password.name\n"));
    assert!(password(json!({"name":"redis","fieldPath":"a/b"})).contains("fieldPath\n"));
    let both = password(json!({"name":"redis","secretKeyRef":{"name":"a","key":"b"}}));
    assert_eq!(
        both,
        "expected exactly one, got both: spec.dialOptions.password.name, spec.dialOptions.password.secretKeyRef"
    );
}

#[test]
fn annotations_say_where_to_begin_and_in_which_shape() {
    for value in ["now", "earliest", "2026-01-31T12:00:00Z", "1526919030474", "1526919030474-55"] {
        assert_eq!(with_annotation(START, value), "");
    }
    for value in ["", "later", "$", "1-", "2026-01-31", "1960-01-01T00:00:00Z"] {
        let refused = with_annotation(START, value);
        assert!(
            refused.starts_with(&format!(
                "invalid value: {value}: metadata.annotations[weft.dev/start]\n"
            )),
            "{refused}"
        );
    }
    assert_eq!(with_annotation(PAYLOAD, "object"), "");
    let refused = with_annotation(PAYLOAD, "map");
    assert_eq!(
        refused,
        "invalid value: map: metadata.annotations[weft.dev/payload]\nexpected array, object or event"
    );
    assert!(with_annotation("weft.dev/order", "key").contains("weft.dev/start, weft.dev/payload"));
}

#[test]
fn a_start_includes_the_entry_that_it_names() {
    let at = |text| match Start::parse(text).unwrap() {
        Start::At(id) => id.to_string(),
        Start::Now => "now".to_owned(),
    };
    assert_eq!(at("now"), "now");
    assert_eq!(at("earliest"), "0-0");
    assert_eq!(at("5-3"), "5-3");
    assert_eq!(at("1970-01-01T00:00:01.5Z"), "1500-0");
}

#[test]
fn the_resource_is_knatives() {
    let definition = crds::resource::definition(&RedisStreamSource::RESOURCE);
    assert_eq!(definition["metadata"]["name"], "redisstreamsources.sources.knative.dev");
    let version = &definition["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha1");
    assert_eq!(
        version["subresources"]["scale"],
        json!({"specReplicasPath": ".spec.consumers", "statusReplicasPath": ".status.consumers"})
    );
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let columns: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Sink", "Age", "Ready", "Reason"]);
    let properties = &version["schema"]["openAPIV3Schema"]["properties"];
    let spec = &properties["spec"]["properties"];
    assert_eq!(spec["address"]["type"], "string");
    assert_eq!(spec["consumers"]["maximum"], MAX_CONSUMERS);
    assert_eq!(spec["dialOptions"]["properties"]["useTLS"]["type"], "boolean");
    assert_eq!(
        spec["dialOptions"]["properties"]["password"]["properties"]["name"]["type"],
        "string"
    );
    assert_eq!(properties["status"]["properties"]["consumers"]["type"], "integer");
}

//! Which Ceph sources are refused, and with which words.

use crds::meta::ObjectMeta;
use crds::secret_ref::SecretValueFromSource;
use crds::source::SourceSpec;

use super::{CephGateway, CephSource};

fn gateway() -> CephGateway {
    CephGateway {
        endpoint: "https://rgw.example.com:8443".to_owned(),
        buckets: vec!["photos".to_owned()],
        access_key: Some(SecretValueFromSource::at("ceph", "access")),
        secret_key: Some(SecretValueFromSource::at("ceph", "secret")),
        ..CephGateway::default()
    }
}

fn source() -> CephSource {
    CephSource { port: "8080".to_owned(), gateway: Some(gateway()), ..CephSource::default() }
}

fn refusal(change: impl FnOnce(&mut CephSource)) -> String {
    let mut source = source();
    change(&mut source);
    source.validate_fields().to_string()
}

fn of_gateway(change: impl FnOnce(&mut CephGateway)) -> String {
    refusal(|source| change(source.gateway.as_mut().unwrap()))
}

#[test]
fn what_knative_takes_is_taken() {
    let text = r#"{"port":"8888","serviceAccountName":"x","sink":{"uri":"http://sink/"}}"#;
    let source: CephSource = serde_json::from_str(text).unwrap();
    assert!(source.validate_fields().is_empty());
    assert_eq!(refusal(|_| {}), "");
}

#[test]
fn the_account_is_knatives_default() {
    let mut source = source();
    source.defaults(&ObjectMeta::named("default", "one"));
    assert_eq!(source.service_account_name, "default");
}

#[test]
fn the_port_is_a_number_of_16_bits() {
    for port in ["", "-1", "+1", "65536", "0x50", "http", " 80"] {
        let refused = refusal(|source| port.clone_into(&mut source.port));
        assert_eq!(refused, format!("invalid value: {port}: port"));
    }
    for port in ["0", "80", "065535"] {
        assert_eq!(refusal(|source| port.clone_into(&mut source.port)), "");
    }
}

#[test]
fn what_a_gateway_misses_is_named() {
    let missing = refusal(|source| source.gateway = Some(CephGateway::default()));
    let fields = "gateway.accessKey, gateway.buckets, gateway.endpoint, gateway.secretKey";
    assert_eq!(missing, format!("missing field(s): {fields}"));
    let half = refusal(|source| source.secret_token = Some(SecretValueFromSource::default()));
    assert_eq!(half, "missing field(s): secretToken.secretKeyRef");
}

#[test]
fn what_a_gateway_cannot_be_told_is_refused() {
    for endpoint in [
        "rgw",
        "ftp://rgw/",
        "http://rgw/path",
        "http://rgw/?x",
        "http://rgw/#x",
        "http:rgw",
        " http://rgw",
        "http://bücher",
    ] {
        let refused = of_gateway(|gateway| endpoint.clone_into(&mut gateway.endpoint));
        assert!(
            refused.starts_with(&format!("invalid value: {endpoint}: gateway.endpoint\n")),
            "{refused}"
        );
    }
    let secret = of_gateway(|gateway| "http://u:hunter2@rgw/".clone_into(&mut gateway.endpoint));
    assert!(!secret.contains("hunter2"), "{secret}");
    for bucket in ["ab", "a/b", "a?b", "-abc", "ä-bucket", &"a".repeat(256)] {
        let refused = of_gateway(|gateway| gateway.buckets.push(bucket.to_owned()));
        assert_eq!(refused, format!("invalid value: {bucket}: gateway.buckets[1]"));
    }
    let many = of_gateway(|gateway| gateway.buckets = vec!["photos".to_owned(); 101]);
    assert_eq!(many, "invalid value: 101 buckets: gateway.buckets\nat most 100");
    for event in ["ObjectCreated:*", "s3:", "s3:a:b:c:d", "s3:ObjectCreated:<Put>"] {
        let refused = of_gateway(|gateway| gateway.events.push(event.to_owned()));
        assert!(
            refused.starts_with(&format!("invalid value: {event}: gateway.events[0]\n")),
            "{refused}"
        );
    }
    assert!(of_gateway(|gateway| gateway.topic = "a.b".to_owned()).contains("gateway.topic"));
    assert!(of_gateway(|gateway| gateway.topic = "a".repeat(257)).contains("gateway.topic"));
    assert!(of_gateway(|gateway| gateway.region = "a b".to_owned()).contains("gateway.region"));
}

#[test]
fn events_of_all_forms_are_taken() {
    let events = [
        "s3:ObjectCreated:*",
        "s3:ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectLifecycle:Expiration:Current",
        "s3:ObjectSynced:*",
        "s3:Replication:Create",
    ];
    assert_eq!(of_gateway(|gateway| gateway.events = events.map(str::to_owned).to_vec()), "");
    assert_eq!(gateway().events(), ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]);
}

use serde_json::json;

use super::*;
use crate::secret::Secret;
use crate::sinks::kafka::tests::with;
use crate::sinks::sink::fake::sink;
use crate::source::fake::about;

fn given(values: &[(&'static str, &str)]) -> Given {
    values.iter().map(|(field, value)| (*field, Secret::new(*value))).collect()
}

#[test]
fn the_secret_says_how_servers_are_reached() {
    let spec = sink::<KafkaSink>(with(json!({"bootstrapServers": ["a:1, b:2", "c:3"]}))).spec;
    let set = |values: &[(&'static str, &str)]| options(&spec, &about(), &given(values));
    let plain = set(&[]).unwrap();
    assert_eq!(plain.get("bootstrap.servers"), Some("a:1,b:2,c:3"));
    assert_eq!((plain.get("acks"), plain.get("security.protocol")), (Some("all"), None));
    let login = [
        (PROTOCOL, "SASL_SSL\n"),
        (MECHANISM, "SCRAM-SHA-512"),
        (USER, "u"),
        (PASSWORD, "p"),
        (CA_CERT, "ca"),
        (USER_CERT, "cert"),
        (USER_KEY, "key"),
    ];
    let both = set(&login).unwrap();
    for (option, value) in [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "u"),
        ("sasl.password", "p"),
        ("ssl.ca.pem", "ca"),
        ("ssl.certificate.pem", "cert"),
        ("ssl.key.pem", "key"),
    ] {
        assert_eq!(both.get(option), Some(value), "{option}");
    }
    let skipping = set(&[&login[..], &[(USER_SKIP, "true")]].concat()).unwrap();
    assert_eq!(skipping.get("ssl.certificate.pem"), None);
}

#[test]
fn a_secret_that_says_something_else_is_named_and_not_quoted() {
    let spec = sink::<KafkaSink>(with(json!({}))).spec;
    let said = |values: &[(&'static str, &str)]| {
        options(&spec, &about(), &given(values)).unwrap_err().to_string()
    };
    let text = said(&[(PROTOCOL, "hunter2")]);
    assert!(text.contains("protocol") && !text.contains("hunter2"), "{text}");
    let text = said(&[(PROTOCOL, "SASL_PLAINTEXT"), (MECHANISM, "OAUTHBEARER")]);
    assert!(text.contains("not supported"), "{text}");
    let text = said(&[(PROTOCOL, "SASL_PLAINTEXT"), (MECHANISM, "PLAIN"), (USER, "u")]);
    assert!(text.contains("password: it is missing"), "{text}");
    let text = said(&[(PROTOCOL, "SSL"), (CA_CERT, "a\0b")]);
    assert!(text.contains("ca.crt") && !text.contains("a\0b"), "{text}");
}

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A length-delimited field.
fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = inner.len();
    while length >= 0x80 {
        field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend_from_slice(inner);
    field
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let header = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &header), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
}

#[test]
fn a_secret_is_read_as_its_json() {
    let entry = [bytes(1, b"password"), bytes(2, &[0xff, 0])].concat();
    let label = [bytes(1, b"a"), bytes(2, b"b")].concat();
    let meta = [
        bytes(1, b"s"),
        bytes(2, b""),
        bytes(8, b""),
        bytes(11, &label),
        bytes(14, b"example.com/hold"),
    ]
    .concat();
    let secret = [bytes(1, &meta), bytes(2, &entry), bytes(3, b"Opaque"), vec![5 << 3, 1]].concat();
    assert_eq!(
        read(&envelope("v1", "Secret", &secret)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
            "metadata": {"name": "s", "labels": {"a": "b"}, "finalizers": ["example.com/hold"]},
            "data": {"password": "/wA="},
        })
    );
}

#[test]
fn times_are_read_with_their_precision() {
    let time = [vec![1 << 3, 0], vec![2 << 3, 0x80, 0x89, 0x7a]].concat(); // 2,000,000 ns
    let spec = [vec![2 << 3, 15], bytes(4, &time)].concat();
    let lease = bytes(2, &spec);
    assert_eq!(
        read(&envelope("coordination.k8s.io/v1", "Lease", &lease)).unwrap()["spec"],
        json!({"leaseDurationSeconds": 15, "renewTime": "1970-01-01T00:00:00.002000Z"})
    );
}

#[test]
fn fields_of_newer_clients_are_passed_over() {
    let meta = [bytes(1, b"c"), bytes(15, b"?"), vec![12 << 3 | 2, 0]].concat();
    let config = [bytes(1, &meta), vec![9 << 3, 1], vec![10 << 3 | 5, 0, 0, 0, 0]].concat();
    let read = read(&envelope("v1", "ConfigMap", &config)).unwrap();
    assert_eq!(read["metadata"]["name"], "c");
}

#[test]
fn what_is_no_envelope_or_of_an_unknown_kind_is_refused() {
    assert!(matches!(read(b"{}"), Err(ProtobufError::Malformed(_))));
    let pod = read(&envelope("v1", "Pod", b""));
    assert!(matches!(pod, Err(ProtobufError::Unsupported { kind, .. }) if kind == "Pod"));
    let cut = envelope("v1", "Secret", &[1 << 3 | 2, 100]);
    assert_eq!(read(&cut), Err(ProtobufError::Malformed("it ends too early")));
}

proptest! {
    #[test]
    fn no_bytes_harm(raw in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
        let kind = ["Secret", "Event", "DeleteOptions"][usize::try_from(kind).unwrap()];
        let outcome = read(&envelope("v1", kind, &raw));
        if let Ok(object) = outcome {
            prop_assert_eq!(&object["kind"], kind);
        }
        prop_assert!(read(&raw).is_err());
    }
}

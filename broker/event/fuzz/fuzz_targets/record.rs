//! Arbitrary bytes as a record: refused, or an event whose record says the same and which can be written.

#![no_main]

use broker_event::http as binding;
use broker_event::{json, record};
use bytes::Bytes;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(event) = record::decode(Bytes::copy_from_slice(input)) else { return };
    let mut again = Vec::new();
    record::encode(&event, &mut again);
    assert_eq!(record::decode(Bytes::from(again)).as_ref(), Ok(&event));
    let _body = binding::write_binary(&event, &mut HeaderMap::new());
    let _document = json::write(&event);
});

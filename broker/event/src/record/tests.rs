//! Records: what comes back, what is refused, and that the layout stays.

use super::*;
use crate::EventBuilder;

fn full() -> Event {
    EventBuilder::new("id-1", "/source", "a.type")
        .subject("sübject")
        .time("2026-11-23T10:00:00Z")
        .data_content_type("application/json")
        .data_schema("urn:x")
        .extension("flag", true)
        .extension("less", -2)
        .extension("off", false)
        .extension("text", "v")
        .data(&b"{}"[..])
        .build()
        .unwrap()
}

fn record(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    encode(event, &mut out);
    out
}

#[test]
fn an_event_comes_back_as_slices_of_its_record() {
    let event = full();
    let bytes = Bytes::from(record(&event));
    let range = bytes.as_ptr_range();
    let decoded = decode(bytes).unwrap();
    assert_eq!(decoded, event);
    assert!(range.contains(&decoded.data().unwrap().as_ptr()));
    assert!(range.contains(&decoded.id().as_ptr()));
}

#[test]
fn an_absent_payload_is_not_an_empty_one() {
    let builder = EventBuilder::new("1", "/s", "t");
    for event in [builder.clone().build().unwrap(), builder.data(Bytes::new()).build().unwrap()] {
        assert_eq!(decode(record(&event).into()), Ok(event));
    }
}

#[test]
fn layout_1_stays_readable() {
    let bytes: &[u8] = b"\x01\x3e\x04id-1\x07/source\x06a.type\x08s\xc3\xbcbject\x142026-11-23T10:00:00Z\
        \x10application/json\x05urn:x\x04\x04flag\x02\x04less\x03\xfe\xff\xff\xff\x03off\x01\x04text\x00\x01v\x02{}";
    assert_eq!(record(&full()), bytes);
    assert_eq!(decode(Bytes::from_static(bytes)), Ok(full()));
}

#[test]
fn encoding_reserves_once_and_enough() {
    let event = full();
    let mut out = Vec::new();
    encode(&event, &mut out);
    assert!(out.len() <= encoded_len_at_most(&event));
}

#[test]
fn every_cut_is_noticed() {
    let whole = record(&full());
    for end in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole[..end]);
        assert_eq!(decode(cut), Err(DecodeError::Truncated), "cut at {end}");
    }
}

#[test]
fn what_encode_does_not_write_is_refused() {
    let whole = record(&full());
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        decode(bytes.into())
    };
    assert_eq!(changed(0, 2), Err(DecodeError::Version { found: 2 }));
    assert_eq!(changed(1, 0x7e), Err(DecodeError::Malformed { what: "unknown flags" }));
    assert_eq!(changed(3, 0xff), Err(DecodeError::Malformed { what: "id" }));
    let flag = whole.windows(4).position(|window| window == b"flag").unwrap();
    let extension = Err(DecodeError::Malformed { what: "an extension" });
    assert_eq!(changed(flag, b'F'), extension);
    assert_eq!(changed(flag, b'z'), extension); // out of order
    assert_eq!(changed(flag + 4, 9), extension);
    let longer = [&whole[..], b"x"].concat();
    assert_eq!(decode(longer.into()), Err(DecodeError::Malformed { what: "bytes behind the end" }));
}

#[test]
fn promised_lengths_are_not_allocated_before_they_are_there() {
    let head = b"\x01\x00\x011\x011\x011";
    for number in
        [&b"\xff\xff\xff\xff\x0f"[..], &[0xff; 11], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
    {
        assert!(decode([head, number].concat().into()).is_err());
        assert!(decode([&b"\x01\x00"[..], number].concat().into()).is_err());
    }
    let empty_id = b"\x01\x00\x00\x011\x011\x00";
    assert_eq!(decode(Bytes::from_static(empty_id)), Err(DecodeError::Malformed { what: "id" }));
}

#[test]
fn numbers_survive_at_their_limits() {
    for number in [0, 1, 127, 128, 16_383, 16_384, usize::MAX] {
        let mut out = Vec::new();
        put_number(number, &mut out);
        assert!(out.len() <= MAX_NUMBER);
        assert_eq!(Reader { rest: out.into() }.number(), Ok(number));
    }
}

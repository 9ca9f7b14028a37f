//! Media types, as far as the bindings must understand them.

/// How a content type says that the body is an event (or several).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// `application/cloudevents+json`.
    Json,
    /// `application/cloudevents-batch+json`.
    JsonBatch,
    /// Another format of `CloudEvents`, or JSON in another encoding than UTF-8.
    Unknown,
}

/// The envelope `content_type` announces; `None` when it is the type of a payload.
pub(crate) fn envelope(content_type: &str) -> Option<Envelope> {
    let essence = essence(content_type);
    let format = after_prefix(essence, "application/cloudevents")?;
    let envelope = if format.eq_ignore_ascii_case("+json") {
        Envelope::Json
    } else if format.eq_ignore_ascii_case("-batch+json") {
        Envelope::JsonBatch
    } else if format.is_empty() || format.starts_with(['+', '-']) {
        Envelope::Unknown
    } else {
        return None;
    };
    Some(if is_utf8(content_type) { envelope } else { Envelope::Unknown })
}

/// Whether the payload is JSON: `*/json` or `*/*+json`.
pub(crate) fn is_json(content_type: &str) -> bool {
    let subtype = essence(content_type).split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.eq_ignore_ascii_case("json")
        || subtype.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
}

/// Whether the payload is text that a JSON string can hold without a change of encoding.
pub(crate) fn is_utf8_text(content_type: &str) -> bool {
    after_prefix(content_type, "text/").is_some() && is_utf8(content_type)
}

/// Whether `content_type` starts with `type` or `type/subtype`. Parameters may be anything.
pub(crate) fn is_media_type(content_type: &str) -> bool {
    let essence = essence(content_type);
    match essence.split_once('/') {
        Some((kind, subtype)) => is_token(kind) && is_token(subtype),
        None => is_token(essence),
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn after_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether the charset parameter, if there is one, is UTF-8 or its subset.
fn is_utf8(content_type: &str) -> bool {
    content_type.split(';').skip(1).all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let charset = value.trim().trim_matches('"');
            ["utf-8", "utf8", "us-ascii", "ascii"]
                .iter()
                .any(|known| charset.eq_ignore_ascii_case(known))
        }
        _ => true,
    })
}

fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_told_from_payloads() {
        for (content_type, expected) in [
            ("application/cloudevents+json", Some(Envelope::Json)),
            ("Application/CloudEvents+JSON ; charset=\"UTF-8\"", Some(Envelope::Json)),
            ("application/cloudevents-batch+json; charset=utf-8", Some(Envelope::JsonBatch)),
            ("application/cloudevents+json; charset=latin1", Some(Envelope::Unknown)),
            ("application/cloudevents", Some(Envelope::Unknown)),
            ("application/cloudevents+avro", Some(Envelope::Unknown)),
            ("application/cloudevents-batch+xml", Some(Envelope::Unknown)),
            ("application/cloudeventsish", None),
            ("application/json", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(envelope(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn json_is_json_by_its_subtype() {
        for json in ["application/json", "text/JSON; x=y", "application/vnd.a+json", "a/b+c+Json"] {
            assert!(is_json(json), "{json}");
        }
        for other in
            ["json", "application/jsonx", "text/plain; a=/json", "application/json-seq", ""]
        {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn text_in_another_encoding_is_not_text_for_json() {
        assert!(is_utf8_text("text/plain"));
        assert!(is_utf8_text("Text/CSV; charset=US-ASCII"));
        assert!(!is_utf8_text("text/plain; charset=iso-8859-1"));
        assert!(!is_utf8_text("application/xml"));
    }

    #[test]
    fn media_types_are_tokens() {
        for good in ["application/json", "json", "text/plain; charset=\"ü\"", "a/b;"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", ";", "a/", "/b", "a b", "text/html, text/plain", "a/b/c", "é/x"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}

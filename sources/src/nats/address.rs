//! Where servers are, what subjects look like, and what of both stands in the `source` of an event.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// The longest name that JetStream takes for a stream or a consumer.
pub(super) const MAX_NAME: usize = 255;

/// What NATS listens on when nobody says otherwise.
const DEFAULT_PORT: u16 = 4222;

/// A server reads control lines of 4096 bytes; a subject shares them with a reply subject and numbers.
const MAX_SUBJECT: usize = 1024;

/// What is not left as it is in a path or fragment: all but RFC 3986's unreserved characters, and `*`, which is a
/// sub-delimiter that subjects in a resource's status have.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'*');

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: Host<String>,
    port: u16,
    tls: bool,
}

impl Address {
    /// Reads `nats://host:port`, `tls://host:port`, `host:port` or `host`.
    ///
    /// # Errors
    /// What is expected instead.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let rule = "expected an address such as nats://nats.example.com:4222, without credentials";
        let whole = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
        let url = Url::parse(&whole).map_err(|_| rule)?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        // A URL of an unknown scheme has its host as it was written.
        let host = Host::parse(url.host_str().unwrap_or_default()).map_err(|_| rule)?;
        let named = match &host {
            Host::Domain(name) => {
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            }
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        };
        if !bare || !named || !matches!(url.scheme(), "nats" | "tls") || url.port() == Some(0) {
            return Err(rule);
        }
        Ok(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), tls: url.scheme() == "tls" })
    }

    /// The same as a URL that says how to connect.
    pub(super) fn url(&self) -> String {
        format!("{}://{self}", if self.tls { "tls" } else { "nats" })
    }
}

/// `host:port`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The `source` of the events of a subject: `nats://host:port/stream#subject`, without the stream if there is none.
///
/// The server is the first that the spec names, not the one that is connected to: an event that comes again after the
/// connection moved to another server of the cluster must be known as the same, and a cluster need not have a name.
pub(super) fn event_source(server: &Address, stream: &str, subject: &str) -> String {
    let mut source = format!("nats://{server}");
    if !stream.is_empty() {
        source.push('/');
        source.extend(utf8_percent_encode(stream, ENCODED));
    }
    if subject.is_empty() { source } else { with_subject(&source, subject) }
}

/// The `source` of the events of a subject, from that of all subjects.
pub(super) fn with_subject(source: &str, subject: &str) -> String {
    let mut whole = String::with_capacity(source.len() + 1 + subject.len());
    whole.push_str(source);
    whole.push('#');
    whole.extend(utf8_percent_encode(subject, ENCODED));
    whole
}

/// Whether a text can be the name of a stream, a consumer or a queue group.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn token_rule(text: &str) -> Result<(), &'static str> {
    let plain = |char: char| {
        !char.is_whitespace() && !char.is_control() && !matches!(char, '.' | '*' | '>' | '/' | '\\')
    };
    if text.len() <= MAX_NAME && text.chars().all(plain) {
        Ok(())
    } else {
        Err("a name has at most 255 bytes and neither spaces nor any of . * > / \\")
    }
}

/// Whether a text can be subscribed to.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn subject_rule(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_SUBJECT {
        return Err("a subject has at most 1024 bytes");
    }
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err("a subject has no spaces");
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        let wild = token.contains(['*', '>']);
        if token.is_empty()
            || (wild && token.len() > 1)
            || (token == ">" && tokens.peek().is_some())
        {
            return Err(
                "a subject is tokens between dots, as in orders.*.created; * stands for one token, > at the end for the rest",
            );
        }
    }
    Ok(())
}

/// Whether a message can be one of both subjects.
pub(super) fn overlap(left: &str, right: &str) -> bool {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(left), Some(right)) if left == right || left == "*" || right == "*" => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, event_source, overlap, subject_rule, token_rule};

    fn shown(text: &str) -> Result<String, &'static str> {
        Address::parse(text).map(|address| address.url())
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        for (text, url) in [
            ("nats", "nats://nats:4222"),
            ("NATS.example.com:4333", "nats://nats.example.com:4333"),
            ("nats://10.0.0.1", "nats://10.0.0.1:4222"),
            ("tls://n1.example.com/", "tls://n1.example.com:4222"),
            ("nats://[::1]:4222", "nats://[::1]:4222"),
            ("n_1", "nats://n_1:4222"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "nats://",
            "ws://nats",
            "http://nats",
            "nats://user@nats",
            "nats://user:password@nats",
            "nats://nats/path",
            "nats://nats?tls=true",
            "nats://nats#x",
            "nats:0",
            "nats:99999",
            "a b",
            "nats://a,b",
        ] {
            assert!(shown(text).is_err(), "{text}: {:?}", shown(text));
        }
    }

    #[test]
    fn the_source_of_an_event_is_a_uri_without_anything_secret() {
        let server = Address::parse("tls://NATS.example.com").unwrap();
        assert_eq!(
            event_source(&server, "ORDERS", "orders.new"),
            "nats://nats.example.com:4222/ORDERS#orders.new"
        );
        assert_eq!(event_source(&server, "", "a.*"), "nats://nats.example.com:4222#a.*");
        assert_eq!(event_source(&server, "S", ""), "nats://nats.example.com:4222/S");
        assert_eq!(
            event_source(&server, "a?b", "ü.#%.>"),
            "nats://nats.example.com:4222/a%3Fb#%C3%BC.%23%25.%3E"
        );
        let six = Address::parse("[::1]").unwrap();
        assert_eq!(event_source(&six, "", "a"), "nats://[::1]:4222#a");
    }

    #[test]
    fn subjects_are_tokens_with_wildcards() {
        for good in ["a", "a.b", "*", ">", "a.*.b", "a.>", "*.*", "$SYS.ACCOUNT.>", "ü"] {
            assert_eq!(subject_rule(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\t", "a.>.b", "a*", "a.b>", "a.\u{7}"] {
            assert!(subject_rule(bad).is_err(), "{bad:?}");
        }
        assert!(subject_rule(&"a".repeat(1025)).is_err());
    }

    #[test]
    fn subjects_overlap_if_a_message_can_be_of_both() {
        for (left, right) in [
            ("a", "a"),
            ("a.*", "a.b"),
            ("a.>", "a.b.c"),
            (">", "a"),
            ("*.b", "a.*"),
            ("a.>", "*.b"),
        ] {
            assert!(overlap(left, right) && overlap(right, left), "{left} {right}");
        }
        for (left, right) in
            [("a", "b"), ("a", "a.b"), ("a.>", "a"), ("a.*", "a.b.c"), ("*.b", "a.c")]
        {
            assert!(!overlap(left, right) && !overlap(right, left), "{left} {right}");
        }
    }

    #[test]
    fn names_are_one_token() {
        for good in ["ORDERS", "my-stream_2", "weft_default_shop"] {
            assert_eq!(token_rule(good), Ok(()), "{good}");
        }
        for bad in ["a.b", "a b", "*", "a>", "a/b", "a\\b", "a\n"] {
            assert!(token_rule(bad).is_err(), "{bad:?}");
        }
        assert!(token_rule(&"a".repeat(256)).is_err());
    }
}

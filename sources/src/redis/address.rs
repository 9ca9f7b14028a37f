//! Where a Redis server is, as a user writes it: a URL that may hold credentials, so it is shown without them.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

use crate::secret::Secret;

/// The port of a server whose address names none.
const DEFAULT_PORT: u16 = 6379;

/// The largest number a database can have: Redis counts them with an `int`.
const MAX_DATABASE: i64 = i32::MAX as i64;

/// Bytes of an address: a host name has at most 253, and the tokens that hosted servers hand out as passwords stay below
/// 2,000.
const MAX_ADDRESS: usize = 4096;

/// What a URI's path cannot hold of a stream's name, and what would end the path.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A `redis://` or `rediss://` URL. Its `Debug` shows no credentials.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

/// What an address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The name of the host, or its IP address without brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// The number of the database.
    pub(super) database: i64,
    /// Whether the scheme asks for TLS.
    pub(super) tls: bool,
    /// Who to be; the default user if it is absent.
    pub(super) user: Option<String>,
    /// How to prove it.
    pub(super) password: Option<Secret>,
}

/// Why a text is not the address of a Redis server. Nothing of the text is repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("expected a URL such as redis://host:6379 or, with TLS, rediss://host:6379")]
    Scheme,
    /// No host, or a port that is none.
    #[error("the URL has no host, or something in it is not part of a URL")]
    Malformed,
    /// Something else than a database behind the host.
    #[error("what follows the host is the number of a database, as in redis://host:6379/0")]
    Database,
    /// Options of other clients, which may hold passwords too.
    #[error("options behind ? or # are not known here; say them in dialOptions")]
    Options,
    /// Credentials that are no text.
    #[error("the user or the password is not UTF-8")]
    Credentials,
    /// Longer than any address.
    #[error("it is longer than {MAX_ADDRESS} bytes")]
    TooLong,
}

impl Address {
    /// Takes an address as it was written.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address without credentials: for logs, statuses and events.
    #[must_use]
    pub fn shown(&self) -> String {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, self.0.as_str()),
        };
        // The last @ of all: in a password that was not encoded there may be more of them, and slashes too.
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        // No address has options; those of other clients hold passwords.
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        scheme.map_or_else(|| rest.to_owned(), |scheme| format!("{scheme}://{rest}"))
    }

    /// The `source` of the events of a stream there: Knative's, without the credentials.
    #[must_use]
    pub fn source(&self, stream: &str) -> String {
        format!("{}/{}", self.shown(), utf8_percent_encode(stream, NOT_IN_A_PATH))
    }

    /// What it says.
    ///
    /// # Errors
    /// When it is no address of a Redis server.
    pub(super) fn place(&self) -> Result<Place, AddressError> {
        if self.0.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        // The parser of URLs drops some of them silently; in the `source` of an event they would stand.
        if self.0.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err(AddressError::Malformed);
        }
        let tls = match self.0.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("redis") => false,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("rediss") => true,
            _ => return Err(AddressError::Scheme),
        };
        let url = Url::parse(&self.0).map_err(|_| AddressError::Malformed)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Options);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(AddressError::Malformed),
        };
        let database = match url.path().trim_matches('/') {
            "" => 0,
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => number
                .parse()
                .ok()
                .filter(|number| *number <= MAX_DATABASE)
                .ok_or(AddressError::Database)?,
            _ => return Err(AddressError::Database),
        };
        let user = Some(decoded(url.username())?).filter(|user| !user.is_empty());
        let password = url.password().map(decoded).transpose()?;
        let password = password.filter(|password| !password.is_empty()).map(Secret::new);
        let port = url.port().unwrap_or(DEFAULT_PORT);
        Ok(Place { host, port, database, tls, user, password })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?})", self.shown())
    }
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| AddressError::Credentials)
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError, Place};
    use crate::secret::Secret;

    fn place(text: &str) -> Result<Place, AddressError> {
        Address::new(text).place()
    }

    #[test]
    fn an_address_says_all_that_a_connection_needs() {
        let plain = place("redis://cache").unwrap();
        let expected = Place {
            host: "cache".to_owned(),
            port: 6379,
            database: 0,
            tls: false,
            user: None,
            password: None,
        };
        assert_eq!(plain, expected);
        let full = place("REDISS://us%40er:p%3Ass@redis.example.com:6380/15").unwrap();
        assert_eq!((full.host.as_str(), full.port), ("redis.example.com", 6380));
        assert_eq!((full.database, full.tls), (15, true));
        assert_eq!(full.user.as_deref(), Some("us@er"));
        assert_eq!(full.password, Some(Secret::new("p:ss")));
        let old = place("redis://:pw@127.0.0.1/").unwrap();
        assert_eq!((old.user, old.password), (None, Some(Secret::new("pw"))));
        assert_eq!(place("redis://[::1]:7000").unwrap().host, "::1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use AddressError::{Database, Malformed, Options, Scheme, TooLong};
        for (text, error) in [
            ("cache:6379", Scheme),
            ("", Scheme),
            ("http://cache", Scheme),
            ("unix:///run/redis.sock", Scheme),
            ("redis://", Malformed),
            ("redis://:6379", Malformed),
            ("redis://cache:port", Malformed),
            ("redis://cache:70000", Malformed),
            ("redis://cache:6379\n", Malformed),
            (" redis://cache", Malformed),
            ("redis://ca\tche", Malformed),
            ("redis://cache/x", Database),
            ("redis://cache/-1", Database),
            ("redis://cache/+1", Database),
            ("redis://cache/99999999999", Database),
            ("redis://cache?password=x", Options),
            ("rediss://cache#insecure", Options),
        ] {
            assert_eq!(place(text), Err(error), "{text}");
        }
        assert_eq!(place("redis://u:%ff@cache"), Err(AddressError::Credentials));
        assert_eq!(place(&format!("redis://{}", "a".repeat(5000))), Err(TooLong));
    }

    #[test]
    fn credentials_are_not_shown() {
        for text in [
            "redis://user:hunter2@cache:6379/1",
            "redis://hunter2@cache:6379/1",
            "redis://:hun/ter2@x@cache:6379/1",
            "redis://user:hunter2#@cache:6379/1",
            "redis://cache:6379/1?password=hunter2",
        ] {
            let address = Address::new(text);
            assert_eq!(address.shown(), "redis://cache:6379/1", "{text}");
            assert_eq!(format!("{address:?}"), r#"Address("redis://cache:6379/1")"#);
        }
        assert_eq!(Address::new("user:hunter2@cache").shown(), "cache");
        let shown = format!("{:?}", place("redis://u:hunter2@cache").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_source_is_knatives_without_the_credentials() {
        let source = |stream| Address::new("rediss://u:p@redis:6379").source(stream);
        assert_eq!(source("mystream"), "rediss://redis:6379/mystream");
        assert_eq!(source("shop:orders/{eu}"), "rediss://redis:6379/shop:orders/%7Beu%7D");
        assert_eq!(source("a b\n#?é"), "rediss://redis:6379/a%20b%0A%23%3F%C3%A9");
    }
}

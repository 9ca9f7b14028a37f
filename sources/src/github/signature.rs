//! Whether a delivery was signed with the secret we share with GitHub.

use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName};
use sha1::Sha1;
use sha2::Sha256;
use thiserror::Error;

use crate::secret::Secret;

/// HMAC-SHA-256 of the body; what GitHub asks receivers to check.
static SHA_256: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// HMAC-SHA-1 of the body; what old GitHub Enterprise servers send alone.
static SHA_1: HeaderName = HeaderName::from_static("x-hub-signature");

/// Why a delivery is not believed. None of these tells a forger how close they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SignatureError {
    /// No signature at all.
    #[error(
        "the request is not signed: X-Hub-Signature-256 (or X-Hub-Signature) is missing; set the webhook's secret"
    )]
    Missing,
    /// Not in the form `sha256=<hex>`.
    #[error("the signature in {0} cannot be read")]
    Malformed(&'static str),
    /// Signed with another secret, or changed on the way.
    #[error("the signature in {0} does not match; is the webhook's secret the one of this source?")]
    Mismatch(&'static str),
}

/// Whether the headers carry any signature; the cheap half, before the body is read.
pub(crate) fn is_present(headers: &HeaderMap) -> bool {
    headers.contains_key(&SHA_256) || headers.contains_key(&SHA_1)
}

/// Checks the signature of `body`, in constant time. Where SHA-256 is present it decides alone: a forger who breaks
/// SHA-1 must not be able to choose it.
pub(crate) fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secret: &Secret,
) -> Result<(), SignatureError> {
    if let Some(value) = headers.get(&SHA_256) {
        const HEADER: &str = "X-Hub-Signature-256";
        let mac =
            decode::<32>(value.as_bytes(), b"sha256=").ok_or(SignatureError::Malformed(HEADER))?;
        let mut expected = keyed::<Hmac<Sha256>>(secret);
        expected.update(body);
        return expected.verify_slice(&mac).map_err(|_| SignatureError::Mismatch(HEADER));
    }
    if let Some(value) = headers.get(&SHA_1) {
        const HEADER: &str = "X-Hub-Signature";
        let mac =
            decode::<20>(value.as_bytes(), b"sha1=").ok_or(SignatureError::Malformed(HEADER))?;
        let mut expected = keyed::<Hmac<Sha1>>(secret);
        expected.update(body);
        return expected.verify_slice(&mac).map_err(|_| SignatureError::Mismatch(HEADER));
    }
    Err(SignatureError::Missing)
}

fn keyed<M: Mac + hmac::digest::KeyInit>(secret: &Secret) -> M {
    <M as Mac>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length")
}

/// The bytes of `<prefix><hex>`, when there are exactly `N`.
fn decode<const N: usize>(text: &[u8], prefix: &[u8]) -> Option<[u8; N]> {
    let digits = text.strip_prefix(prefix)?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! Signs like GitHub, for tests.

    use std::fmt::Write;

    use hmac::{Hmac, Mac};

    use super::keyed;
    use crate::secret::Secret;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// The value of `X-Hub-Signature-256`.
    pub(crate) fn sha_256(secret: &str, body: &[u8]) -> String {
        let mut mac = keyed::<Hmac<sha2::Sha256>>(&Secret::new(secret));
        mac.update(body);
        format!("sha256={}", hex(&mac.finalize().into_bytes()))
    }

    /// The value of `X-Hub-Signature`.
    pub(crate) fn sha_1(secret: &str, body: &[u8]) -> String {
        let mut mac = keyed::<Hmac<sha1::Sha1>>(&Secret::new(secret));
        mac.update(body);
        format!("sha1={}", hex(&mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::{SignatureError, fake, verify};
    use crate::secret::Secret;
    use http::HeaderMap;

    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    /// From GitHub's page on validating deliveries.
    const SHA_256: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn check(headers: &[(&'static str, &str)], body: &[u8]) -> Result<(), SignatureError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        verify(&map, body, &Secret::new(SECRET))
    }

    #[test]
    fn githubs_own_vector_is_accepted() {
        assert_eq!(check(&[("x-hub-signature-256", SHA_256)], BODY), Ok(()));
        let upper = SHA_256.to_uppercase().replace("SHA256", "sha256");
        assert_eq!(check(&[("x-hub-signature-256", &upper)], BODY), Ok(()));
        assert_eq!(fake::sha_256(SECRET, BODY), SHA_256);
    }

    #[test]
    fn rfc_2202_case_2_is_accepted_as_sha_1() {
        let mut headers = HeaderMap::new();
        let value = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
        headers.insert("x-hub-signature", value.parse().unwrap());
        let body = b"what do ya want for nothing?";
        assert_eq!(verify(&headers, body, &Secret::new("Jefe")), Ok(()));
    }

    #[test]
    fn rfc_4231_long_key_is_accepted() {
        let key: String = "\u{2a}".repeat(131);
        let mut headers = HeaderMap::new();
        headers.insert("x-hub-signature-256", fake::sha_256(&key, BODY).parse().unwrap());
        assert_eq!(verify(&headers, BODY, &Secret::new(key)), Ok(()));
    }

    #[test]
    fn a_changed_body_does_not_match() {
        let mismatch = Err(SignatureError::Mismatch("X-Hub-Signature-256"));
        assert_eq!(check(&[("x-hub-signature-256", SHA_256)], b"Hello, World?"), mismatch);
        let mismatch = Err(SignatureError::Mismatch("X-Hub-Signature"));
        assert_eq!(check(&[("x-hub-signature", &fake::sha_1("other", BODY))], BODY), mismatch);
    }

    #[test]
    fn sha_256_decides_alone_where_it_is_present() {
        let good = fake::sha_1(SECRET, BODY);
        let bad = fake::sha_256("other", BODY);
        let both = [("x-hub-signature", good.as_str()), ("x-hub-signature-256", bad.as_str())];
        assert_eq!(check(&both, BODY), Err(SignatureError::Mismatch("X-Hub-Signature-256")));
        let both = [("x-hub-signature", good.as_str()), ("x-hub-signature-256", "")];
        assert_eq!(check(&both, BODY), Err(SignatureError::Malformed("X-Hub-Signature-256")));
        let both = [("x-hub-signature", "sha1=00"), ("x-hub-signature-256", SHA_256)];
        assert_eq!(check(&both, BODY), Ok(()));
    }

    #[test]
    fn what_is_not_a_signature_is_told_apart() {
        assert_eq!(check(&[], BODY), Err(SignatureError::Missing));
        let odd = SHA_256.get(..SHA_256.len() - 1).unwrap();
        let short = SHA_256.get(..SHA_256.len() - 2).unwrap();
        let long = format!("{SHA_256}00");
        let letters = SHA_256.replace('7', "x");
        let plain = SHA_256.replace("sha256=", "");
        for value in [odd, short, &long, &letters, &plain, "sha256=", "sha1=00"] {
            let found = check(&[("x-hub-signature-256", value)], BODY);
            assert_eq!(found, Err(SignatureError::Malformed("X-Hub-Signature-256")), "{value}");
        }
    }
}

//! Requests signed as AWS wants them (signature version 4), which the gateway checks too.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use jiff::Timestamp;

use crate::ceph::spec::{ACCESS_KEY, SECRET_KEY};
use crate::given::NotGiven;
use crate::registration::{RegistrationError, request};
use crate::secret::Secret;

/// The keys of a user. Their `Debug` shows neither the secret one nor the other.
#[derive(Debug)]
pub(super) struct Keys {
    access: Secret,
    secret: Secret,
    region: String,
}

/// A request before it is signed.
#[derive(Debug)]
pub(super) struct Unsigned {
    /// What is being done, for errors.
    pub(super) what: &'static str,
    /// Which API is called.
    pub(super) service: Service,
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) body: Bytes,
}

/// Which API is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    S3,
    Sns,
}

impl Keys {
    pub(super) fn new(access: &Secret, secret: &Secret, region: &str) -> Self {
        let trim = |key: &Secret| Secret::new(key.expose().trim());
        Self { access: trim(access), secret: trim(secret), region: region.to_owned() }
    }

    /// The request, signed.
    ///
    /// # Errors
    /// When the keys have characters that no request can have.
    pub(super) fn sign(
        &self,
        unsigned: Unsigned,
        now: Timestamp,
    ) -> Result<Request<Full<Bytes>>, RegistrationError> {
        let (name, content_type) = match unsigned.service {
            Service::S3 => ("s3", "application/xml"),
            Service::Sns => ("sns", "application/x-www-form-urlencoded"),
        };
        let signed = self.headers(name, &unsigned, now)?;
        let Unsigned { what, method, url, body, .. } = unsigned;
        let mut request = request(what, method, &url, body)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        // The gateway answers in JSON too, in shapes that no documentation has.
        headers.insert(ACCEPT, HeaderValue::from_static("application/xml"));
        headers.extend(signed);
        Ok(request)
    }

    fn headers(
        &self,
        service: &str,
        unsigned: &Unsigned,
        now: Timestamp,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, NotGiven> {
        let wrong = |field| NotGiven { field, why: "nothing can be signed with it" };
        let mut settings = SigningSettings::default();
        // As S3 does it; the gateway does it so for both.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let keys = Credentials::from_keys(self.access.expose(), self.secret.expose(), None);
        let identity = keys.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(SystemTime::from(now))
            .settings(settings)
            .build()
            .map_err(|_| wrong(SECRET_KEY))?;
        let body = SignableBody::Bytes(&unsigned.body);
        let (method, url) = (unsigned.method.as_str(), unsigned.url.as_str());
        let signable = SignableRequest::new(method, url, std::iter::empty(), body)
            .map_err(|_| wrong(ACCESS_KEY))?;
        let signed = sign(signable, &params.into()).map_err(|_| wrong(SECRET_KEY))?;
        let (instructions, _) = signed.into_parts();
        let (headers, _) = instructions.into_parts();
        let mut found = Vec::with_capacity(headers.len());
        for header in headers {
            let mut value = HeaderValue::from_str(header.value()).map_err(|_| wrong(ACCESS_KEY))?;
            value.set_sensitive(header.sensitive());
            found.push((HeaderName::from_static(header.name()), value));
        }
        Ok(found)
    }
}

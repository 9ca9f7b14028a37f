//! GitHub Apps: a key proves the App, which gets a token for the installation that the repository or organisation has of it.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crds::secret_ref::SecretValueFromSource;
use crds::{FieldError, FieldErrors};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::headers;
use crate::given::NotGiven;
use crate::registration::{Api, RegistrationError};
use crate::secret::Secret;

/// The field with the key.
pub(in crate::github) const PRIVATE_KEY: &str = "githubApp.privateKey";

/// How far the clocks may differ: GitHub's advice.
const LEEWAY: i64 = 60;

/// How long the proof is good for, in seconds: below the ten minutes that GitHub allows, by more than the leeway.
const LIFETIME: i64 = 480;

/// A GitHub App in whose name the webhook is made. It needs the permission to write webhooks of the repository or
/// organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["appId", "privateKey"]))]
pub struct GitHubApp {
    /// The number of the App.
    #[schemars(range(min = 1))]
    pub app_id: i64,
    /// The number of its installation; looked up if it is absent.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<i64>,
    /// The private key of the App, PEM as GitHub hands it out; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<SecretValueFromSource>,
}

/// What proves that we are the App.
pub(super) struct AppKey {
    app: i64,
    installation: Option<i64>,
    key: Arc<dyn SigningKey>,
}

#[derive(Deserialize)]
struct Installation {
    id: i64,
}

#[derive(Deserialize)]
struct Token {
    token: Secret,
}

impl GitHubApp {
    /// What is wrong with it. Paths are relative to its field.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.app_id == 0 {
            errors.push(FieldError::missing("appId"));
        } else if self.app_id < 0 {
            errors.push(FieldError::invalid(self.app_id, "appId"));
        }
        if let Some(id) = self.installation_id.filter(|id| *id <= 0) {
            errors.push(FieldError::invalid(id, "installationId"));
        }
        errors.also(SecretValueFromSource::validate(self.private_key.as_ref()).via("privateKey"));
        errors
    }
}

impl AppKey {
    /// # Errors
    /// When the key is not an RSA key in PEM.
    pub(super) fn new(app: &GitHubApp, key: &Secret) -> Result<Self, NotGiven> {
        let wrong = || NotGiven { field: PRIVATE_KEY, why: "it is not an RSA private key in PEM" };
        let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| wrong())?;
        let key = any_supported_type(&der).map_err(|_| wrong())?;
        key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(wrong)?;
        Ok(Self { app: app.app_id, installation: app.installation_id, key })
    }

    /// The headers of calls about `place`, the URL of a repository or an organisation at the API.
    pub(super) async fn headers(
        &self,
        api: &Api,
        base: &str,
        place: &str,
    ) -> Result<HeaderMap, RegistrationError> {
        let proof = headers(PRIVATE_KEY, &self.proof(api.now())?)?;
        let installation = match self.installation {
            Some(id) => id,
            None => {
                let url = format!("{place}/installation");
                let what = "look up the installation of the GitHub App";
                let found: Installation =
                    api.json(what, (Method::GET, &url), &proof, None::<&Value>).await?;
                found.id
            }
        };
        let url = format!("{base}/app/installations/{installation}/access_tokens");
        let what = "get a token for the GitHub App";
        // No repositories or permissions are named: all of the installation's.
        let token: Token = api.json(what, (Method::POST, &url), &proof, Some(&json!({}))).await?;
        Ok(headers(PRIVATE_KEY, token.token.expose())?)
    }

    /// A JSON web token (RFC 7519) that is signed with RS256 (RFC 7518, 3.3).
    fn proof(&self, now: Timestamp) -> Result<String, NotGiven> {
        let now = now.as_second();
        let head = json!({ "alg": "RS256", "typ": "JWT" });
        let claims =
            json!({ "iat": now - LEEWAY, "exp": now + LIFETIME, "iss": self.app.to_string() });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let cannot = NotGiven { field: PRIVATE_KEY, why: "nothing can be signed with it" };
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
        let signature =
            signer.and_then(|signer| signer.sign(signed.as_bytes()).ok()).ok_or(cannot)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppKey({})", self.app)
    }
}

#[cfg(test)]
mod tests;

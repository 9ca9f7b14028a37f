//! A GitHub App proves who it is and gets a token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crds::secret_ref::SecretValueFromSource;
use http::header::AUTHORIZATION;
use rustls::SignatureScheme;
use rustls::crypto::ring::default_provider;
use serde_json::{Value, json};

use super::{AppKey, GitHubApp};
use crate::clock::Clock;
use crate::registration::Api;
use crate::registration::fake::{Answer, Server};
use crate::secret::Secret;

/// Made for this test; it opens nothing.
const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\n\
MIIEpAIBAAKCAQEA3vmvAilcJG80zzi/DAAXnHBgzVgoPk3yVcp8TfhUfHmi9mfC\n\
5goSnbN6g9UTKJxD9tXS1RcdTzP7va3t9v16Co5lhasldaIE73Y1pr8fcT2/TmqY\n\
P2nrB7W19UULUEv2TB/Ql2mX5B4SHRdWnQmoqFlC/LmuL+MHvu+1rSKbIJlYzuEl\n\
9VDGR1B0aTnBsniX2i3eNl2SW6BZ2vzE+3AAc96cd1vJiLcvtQXMORiUvveWLbuG\n\
1J82z9dSGaSpOMe+pjNiaq2JzDQfoOJM2YWtj9YDFEQKEShTmha1Nhe+QnrYwvvz\n\
VDA78IWR4clMVKT8EVB6qTXq9jonueHKLgcrywIDAQABAoIBAFl2hsBwRdccg2zN\n\
UOIIu3B6KmzZfTQaZCwF1UAXbhaPW1JQKYPQ8M0zcOmqOUinAiHsgu4amxjnO49M\n\
VNkvtKK9pYAvPhVnj2Fg5X/k2UG/S52z6SgwYCu0vbAOJs7t24GJllDZ/iZ55jyj\n\
242gjXoWbmkmOvxdtALo/NTduK4n+MVdpeU0R+HcQOJPmvI1bmuwXJZ/Mv1eGMgk\n\
KvgWXMSg5TP4/HbbFeWtgIbcLjtrpr3ksbofYiJMZHs6E62L65fsU4SYSGN4+6S+\n\
rcnGfYJF9H27K5/Oy3KgWNRq7SgxAEgnEX46FJZOqQfLlsqx5LmZgN4hEgjz2+Gi\n\
Pm3XEiECgYEA/eXFy+KzGCh/VWYZktAkRx5QQsEeFeqAKidabDua0rbJeVUTSIf+\n\
+UXqtT8zIVEPqpCUIRiU6pyef7AbY3oYEz1rv16q1vHTOgqCA2+RLYGqibNyL/YY\n\
Sol5xDfVSrDsRyRFz/hPLiDbQfQ48jXzpfpveF7KiL+gGUKNaMbwZjECgYEA4NJc\n\
NV7ft20jojRzoo4/jYC7sfVkJ9zIO461CcLd9i/UqM5mDqYfpaMrHNpdgDTYn7+B\n\
xI1dwl2COLB8CGdo3sk7a0+UA4P/9RlY5GbTxBwxxoHlKgQ39/5/NsBwuDa7KdYE\n\
O0bQsyYOsZKRbU5hlk+Yy3Z+WOBkrWWAmXDFZrsCgYEAx8mw1Xj0GMR1PkvzP7WN\n\
dnECEyVHeVNnusPwwU49zCWNcG5jmCV7m8dKo4ixwTu6KitOhKSFOgA4MJ3xT1vZ\n\
6fng+VuS70SnQ/rUx8NY6Agqm+Saq+bowm5fZOnSas3Bf1GppbbtB41POxzkWqPd\n\
r/PbF0rv8J9pabcW8yXoMWECgYEAgjIwhhPgWPhSV4AqqyvXsBmqGN/0VYVtS9hU\n\
DUgVhJmkfPGydq9Lyn+Y2we2eCWigbjE7M+1SXcfj7bczX0dZU+CIp4eKH8L/qPk\n\
L7lAz+RICx50WQXCZ9KxV0LQxE2lzA+NucpD2Euk3L71iyiGKScFZGbFurCQfT43\n\
4CRHnTsCgYB+MiginW9+mRm8j2fuoG98iFP9U81SHUdCwCW/JemipoeUBCRj98qi\n\
i1ZvssTp/weL8Xs170IBjnIt5vvrIMKOSCVV8bmG3YtBiYdOOhp0rF2NcVnGvD9t\n\
b+tM+owM/YnCRkONOgdU6GKDYwu3cPzdz8MHY8Q/aOYG2fuKgKEhIA==\n\
-----END RSA PRIVATE KEY-----\n";

/// What precedes the key itself in the description of a public RSA key of 2048 bits.
const DESCRIPTION: usize = 24;

/// The time of the proofs, seconds after 1970.
const NOW: i64 = 1_700_000_000;

fn app(installation_id: Option<i64>) -> GitHubApp {
    let private_key = Some(SecretValueFromSource::at("github", "privateKey"));
    GitHubApp { app_id: 12345, installation_id, private_key }
}

fn key(installation_id: Option<i64>) -> AppKey {
    AppKey::new(&app(installation_id), &Secret::new(KEY)).unwrap()
}

fn api() -> Api {
    let now = jiff::Timestamp::from_second(NOW).unwrap();
    Api::new(Clock::from_fn(move || now.into()), None).unwrap()
}

/// The claims of a proof whose signature is right.
fn claims(key: &AppKey, proof: &str) -> Value {
    let (signed, signature) = proof.rsplit_once('.').unwrap();
    let public = key.key.public_key().unwrap();
    let algorithms = default_provider().signature_verification_algorithms;
    let (_, of_rsa) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == SignatureScheme::RSA_PKCS1_SHA256)
        .unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    of_rsa[0].verify_signature(&public[DESCRIPTION..], signed.as_bytes(), &signature).unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let decode = |text| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    assert_eq!(decode(head), json!({ "alg": "RS256", "typ": "JWT" }));
    decode(claims)
}

#[tokio::test]
async fn the_installation_is_looked_up_and_gives_a_token() {
    let server = Server::start(|call| match call.line().as_str() {
        "GET /repos/acme/shop/installation" => {
            Answer::json(200, &json!({ "id": 77, "app_id": 12345 }))
        }
        "POST /app/installations/77/access_tokens" => {
            let expires = "2023-11-14T23:13:20Z";
            Answer::json(201, &json!({ "token": "ghs_installed", "expires_at": expires }))
        }
        _ => Answer::text(404, ""),
    })
    .await;
    let (key, place) = (key(None), format!("{}/repos/acme/shop", server.url));
    let headers = key.headers(&api(), &server.url, &place).await.unwrap();
    assert_eq!(headers[AUTHORIZATION], "Bearer ghs_installed");
    let calls = server.calls();
    assert_eq!(calls.len(), 2);
    for call in calls {
        let proof = call.headers["authorization"].strip_prefix("Bearer ").unwrap().to_owned();
        let expected = json!({ "iat": NOW - 60, "exp": NOW + 480, "iss": "12345" });
        assert_eq!(claims(&key, &proof), expected);
    }
}

#[tokio::test]
async fn a_known_installation_is_not_looked_up() {
    let server = Server::start(|call| {
        assert_eq!(call.line(), "POST /app/installations/5/access_tokens");
        Answer::json(201, &json!({ "token": "ghs_installed" }))
    })
    .await;
    let headers = key(Some(5)).headers(&api(), &server.url, "unused").await.unwrap();
    assert_eq!(headers[AUTHORIZATION], "Bearer ghs_installed");
}

#[test]
fn what_is_no_rsa_key_is_refused_without_showing_it() {
    let refused = |text: &str| {
        let error = AppKey::new(&app(None), &Secret::new(text)).unwrap_err();
        assert_eq!(error.to_string(), "githubApp.privateKey: it is not an RSA private key in PEM");
    };
    refused("");
    refused("ghp_not-a-key");
    refused("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n");
    let shown = format!("{:?}", key(None));
    assert_eq!(shown, "AppKey(12345)");
}

#[test]
fn the_fields_are_checked() {
    assert!(app(Some(1)).validate().is_empty());
    let refused = |app: GitHubApp| app.validate().to_string();
    assert_eq!(refused(GitHubApp::default()), "missing field(s): appId, privateKey");
    assert_eq!(refused(GitHubApp { app_id: -1, ..app(None) }), "invalid value: -1: appId");
    assert_eq!(refused(app(Some(0))), "invalid value: 0: installationId");
}

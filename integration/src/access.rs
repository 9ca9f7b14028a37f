//! Who may use the API: a bearer token, the certificate by which clients know this mesh, and the kubeconfig that holds both.
//!
//! They are made once a data directory and stay, so that a kubeconfig that was merged elsewhere keeps working.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::file;

/// Name of the kubeconfig in the data directory.
pub const KUBECONFIG: &str = "kubeconfig";

/// The name under which a kubeconfig lists this mesh: as cluster, user and context.
const CONTEXT: &str = "weft";

/// Where token, key and certificate are kept in the data directory.
const DIRECTORY: &str = "api";

/// The bearer token of a data directory, and its certificate.
#[derive(Clone)]
pub struct Access {
    token: String,
    certificate: String,
    tls: TlsAcceptor,
}

impl Access {
    /// Reads what `data` holds, or makes it. The certificate is for `localhost`, the loopback addresses and `address`.
    ///
    /// # Errors
    /// When the files cannot be read, written or understood.
    pub fn open(data: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let directory = data.join(DIRECTORY);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let token = kept(&directory.join("token"), || {
            Ok(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
        })?;
        let token = token.trim().to_owned();
        ensure!(!token.is_empty(), "{} is empty: delete it", directory.join("token").display());
        let (certificate, key) = certificate(&directory, address)?;
        let tls = acceptor(&certificate, &key)
            .with_context(|| format!("use the certificate in {}", directory.display()))?;
        Ok(Self { token, certificate, tls })
    }

    /// The bearer token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Answers TLS handshakes with the certificate.
    #[must_use]
    pub fn tls(&self) -> TlsAcceptor {
        self.tls.clone()
    }

    /// Writes the kubeconfig for the API at `api` (`host:port`), by rename and for the owner's eyes only.
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub fn write_kubeconfig(&self, data: &Path, api: SocketAddr) -> anyhow::Result<()> {
        let text = serde_saphyr::to_string(&self.kubeconfig(api)).context("write YAML")?;
        replace(&data.join(KUBECONFIG), &text)
    }

    fn kubeconfig(&self, api: SocketAddr) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": {
                "server": format!("https://{api}"),
                "certificate-authority-data": STANDARD.encode(&self.certificate),
            }}],
            "users": [{"name": CONTEXT, "user": {"token": self.token}}],
            "contexts": [{"name": CONTEXT, "context": {
                "cluster": CONTEXT, "user": CONTEXT, "namespace": "default",
            }}],
            "current-context": CONTEXT,
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The certificate and its key, made anew when they are not for `address`.
fn certificate(directory: &Path, address: SocketAddr) -> anyhow::Result<(String, String)> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let bound = address.ip();
    if !bound.is_unspecified() && !names.contains(&bound.to_string()) {
        names.push(bound.to_string());
    }
    let path = |name: &str| directory.join(name);
    let listed = names.join("\n");
    let known = std::fs::read_to_string(path("names")).is_ok_and(|known| known == listed);
    if known
        && let (Ok(certificate), Ok(key)) = (
            std::fs::read_to_string(path("certificate.pem")),
            std::fs::read_to_string(path("key.pem")),
        )
    {
        return Ok((certificate, key));
    }
    let made = rcgen::generate_simple_self_signed(names).context("make a certificate")?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    replace(&path("key.pem"), &key)?;
    replace(&path("certificate.pem"), &certificate)?;
    // Last: what comes before it is made again if it is missing.
    replace(&path("names"), &listed)?;
    Ok((certificate, key))
}

fn acceptor(certificate: &str, key: &str) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The file's text; `make` is asked for it the first time.
fn kept(path: &Path, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            replace(path, &text)?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Replaces a file by rename: nobody sees half of it, and nobody else sees it at all.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    file::replace(path, text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// The user's kubeconfig `own` with the mesh of the kubeconfig `mesh` added or replaced, and chosen.
///
/// # Errors
/// When one of them is not a kubeconfig.
pub fn merge(own: &str, mesh: &str) -> anyhow::Result<String> {
    let mut own: Value = match own.trim() {
        "" => json!({"apiVersion": "v1", "kind": "Config"}),
        text => serde_saphyr::from_str(text).context("read your kubeconfig")?,
    };
    let mesh: Value = serde_saphyr::from_str(mesh).context("read the mesh's kubeconfig")?;
    let merged = own.as_object_mut().context("your kubeconfig is not a map")?;
    for list in ["clusters", "users", "contexts"] {
        let added = mesh.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let entry = merged.entry(list).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!([]);
        }
        let entries = entry.as_array_mut().with_context(|| format!("{list} is not a list"))?;
        entries.retain(|known| !added.iter().any(|new| new.get("name") == known.get("name")));
        entries.extend(added);
    }
    merged.insert("current-context".to_owned(), json!(CONTEXT));
    serde_saphyr::to_string(&own).context("write YAML")
}

/// Writes the user's kubeconfig.
///
/// # Errors
/// When it cannot be written.
pub fn write_own(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create {}", directory.display()))?;
    }
    replace(path, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn token_and_certificate_stay_and_are_for_the_owner_only() {
        let data = tempfile::tempdir().unwrap();
        let first = Access::open(data.path(), address("127.0.0.1:8082")).unwrap();
        let again = Access::open(data.path(), address("127.0.0.1:9")).unwrap();
        assert_eq!((first.token(), &first.certificate), (again.token(), &again.certificate));
        assert_eq!(first.token().len(), 64);
        first.write_kubeconfig(data.path(), address("127.0.0.1:8082")).unwrap();
        for name in [KUBECONFIG, "api/token", "api/key.pem"] {
            let mode = std::fs::metadata(data.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(!format!("{first:?}").contains(first.token()));
    }

    #[test]
    fn another_address_gets_another_certificate_and_keeps_the_token() {
        let data = tempfile::tempdir().unwrap();
        let first = Access::open(data.path(), address("127.0.0.1:1")).unwrap();
        let other = Access::open(data.path(), address("192.0.2.7:1")).unwrap();
        assert_eq!(first.token(), other.token());
        assert_ne!(first.certificate, other.certificate);
    }

    #[test]
    fn merging_adds_the_mesh_once_and_keeps_the_rest() {
        let data = tempfile::tempdir().unwrap();
        let access = Access::open(data.path(), address("127.0.0.1:1")).unwrap();
        access.write_kubeconfig(data.path(), address("127.0.0.1:1")).unwrap();
        let mesh = std::fs::read_to_string(data.path().join(KUBECONFIG)).unwrap();
        let own = "apiVersion: v1\nkind: Config\nclusters:\n- name: work\n  cluster: {server: https://work.example}\nusers: null\ncurrent-context: work\n";
        let merged = merge(&merge(own, &mesh).unwrap(), &mesh).unwrap();
        let read: Value = serde_saphyr::from_str(&merged).unwrap();
        let names = |list: &str| -> Vec<String> {
            let entries = read[list].as_array().unwrap();
            entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("clusters"), ["work", "weft"]);
        assert_eq!(names("users"), ["weft"]);
        assert_eq!(read["current-context"], "weft");
        assert_eq!(read["users"][0]["user"]["token"], access.token());
        assert!(merge("- a list", &mesh).is_err());
    }
}

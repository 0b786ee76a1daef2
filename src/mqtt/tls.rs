//! TLS to the broker: whom to trust, how to show who we are, and what to do when it fails.
//!
//! The files are read at every connection, so a renewed certificate is taken without a restart.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::config::MqttConfig;

/// The files of a connection over TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Authorities that may vouch for the broker; none trusts those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why there can be no connection over TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be used.
    #[error("{key} {}: {reason}", path.display())]
    File {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of what it holds.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no root certificates; install ca-certificates, or name the broker's with mqtt.ca_file"
    )]
    NoRoots,
    /// rustls refuses what it was given.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsFiles {
    /// As configured.
    pub fn new(config: &MqttConfig) -> Self {
        let client = config.client_cert.clone().zip(config.client_key.clone());
        TlsFiles { ca: config.ca_file.clone(), client }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// The file that can't be used, and what is wrong with it.
    pub fn transport(&self) -> Result<Transport, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates("mqtt.ca_file", path)? {
                    roots.add(certificate).map_err(|error| TlsError::File {
                        key: "mqtt.ca_file",
                        path: path.clone(),
                        reason: format!("{error}; it must hold certificates of authorities"),
                    })?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoRoots);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &self.client {
            Some((chain, key)) => {
                let private = private_key(key)?;
                builder.with_client_auth_cert(certificates("mqtt.client_cert", chain)?, private).map_err(
                    |error| TlsError::File {
                        key: "mqtt.client_key",
                        path: key.clone(),
                        reason: format!("{error}; is it the key of mqtt.client_cert?"),
                    },
                )?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))))
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |reason| TlsError::File { key, path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|error| fail(error.to_string()))?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match all.map_err(|error| fail(words(&error, "certificate")))? {
        none if none.is_empty() => Err(fail(words(&pem::Error::NoItemsFound, "certificate"))),
        certificates => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let fail = |reason| TlsError::File { key: "mqtt.client_key", path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|error| fail(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| fail(words(&error, "private key")))
}

/// What is wrong with a PEM file. Its own words may hold a line of a key.
fn words(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("it holds no {wanted} in PEM"),
        pem::Error::MissingSectionEnd { .. } => format!("it ends in the middle of a {wanted}"),
        _ => "it is no PEM file".into(),
    }
}

/// An error and what it comes from, one after the other. An I/O error's own source passes over what it wraps.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// rustls' own error somewhere within one of a client's.
pub(super) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What a failure of TLS means, and what to do.
pub(super) fn advice(error: &rustls::Error, host: &str, files: &TlsFiles) -> String {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    let trusted = match &files.ca {
        Some(path) => format!("mqtt.ca_file {}", path.display()),
        None => "the system (set mqtt.ca_file where the broker has an authority of its own)".into(),
    };
    let ours = match &files.client {
        Some((path, _)) => format!("the client certificate {}", path.display()),
        None => "a client without a certificate; set mqtt.client_cert and mqtt.client_key".into(),
    };
    let clock = "or this device's clock is wrong";
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                format!("the broker's certificate is signed by nobody who is trusted by {trusted}")
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                format!("the broker's certificate has expired, {clock}")
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                format!("the broker's certificate is not valid yet, {clock}")
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                format!(
                    "the broker's certificate is not for {host:?}; write the name it is for into mqtt.broker"
                )
            }
            _ => format!("the broker's certificate can't be used: {error}"),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateExpired => {
                format!("the broker says that {ours} has expired, or its clock is wrong")
            }
            Alert::CertificateRequired => format!("the broker refuses {ours}"),
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::DecryptError
            | Alert::AccessDenied
            | Alert::HandshakeFailure => format!("the broker refuses {ours} ({alert:?})"),
            _ => format!("the broker ends TLS ({alert:?})"),
        },
        rustls::Error::InvalidMessage(_) => {
            "what answers speaks no TLS; check the port in mqtt.broker, or write mqtt://".into()
        }
        error => format!("TLS fails: {error}"),
    }
}

/// What it may mean that the other side closed before it said anything: a broker that refuses a certificate
/// may do so before its word has been read.
pub(super) fn advice_when_cut(files: &TlsFiles) -> &'static str {
    match files.client {
        Some(_) => "perhaps it refuses the client certificate, or speaks no TLS on this port",
        None => "perhaps it wants a client certificate (set mqtt.client_cert), or speaks no TLS on this port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_an_error_is_found() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let io = io::Error::new(io::ErrorKind::InvalidData, tls.clone());
        let io = io::Error::other(io);
        let error = rumqttc::ConnectionError::MqttState(rumqttc::StateError::Io(io));
        assert_eq!(find(&error), Some(&tls));
        assert_eq!(find(&rumqttc::ConnectionError::RequestsDone), None);
    }

    #[test]
    fn a_file_that_cant_be_used_is_named_and_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.pem");
        let secret = "c2VjcmV0c2VjcmV0";
        for text in [
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n"),
            format!("-----BEGIN {secret}\n-----END PRIVATE KEY-----\n"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----\n"),
            secret.to_owned(),
        ] {
            fs::write(&path, &text).expect("a file");
            let error = private_key(&path).expect_err(&text).to_string();
            assert!(error.starts_with("mqtt.client_key ") && !error.contains(secret), "{error}");
            let error = certificates("mqtt.ca_file", &path).expect_err(&text).to_string();
            assert!(error.starts_with("mqtt.ca_file ") && !error.contains(secret), "{error}");
        }
    }
}

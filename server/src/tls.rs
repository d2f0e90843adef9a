//! HTTPS: browsers give no microphone to plain HTTP beyond the own machine.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsChoice;

/// Why HTTPS cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, or holds no PEM of the right kind.
    #[error("{key} = {path}: {error}")]
    File {
        /// Which option.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key do not fit.
    #[error("tls_cert and tls_key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("tls_self_signed: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// HTTP/1.1, by its name in the handshake (RFC 7301).
pub const HTTP_1: &[u8] = b"http/1.1";
/// HTTP/2, on which gRPC is.
pub const HTTP_2: &[u8] = b"h2";

/// An acceptor for the choice; `None` for plain TCP. `addresses` go into a self-signed certificate.
///
/// # Errors
/// [`TlsError`], naming the option and the file.
pub fn acceptor(
    choice: &TlsChoice,
    addresses: &[IpAddr],
    protocol: &[u8],
) -> Result<Option<TlsAcceptor>, TlsError> {
    let (chain, key) = match choice {
        TlsChoice::Off => return Ok(None),
        TlsChoice::Files { certificate, key } => (read_chain(certificate)?, read_key(key)?),
        TlsChoice::SelfSigned => self_signed(addresses)?,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error| TlsError::File {
        key: "tls_cert",
        path: path.to_owned(),
        error,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(wrong)?;
    if chain.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        key: "tls_key",
        path: path.to_owned(),
        error,
    })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed(addresses: &[IpAddr]) -> Result<Identity, TlsError> {
    let names = addresses.iter().map(ToString::to_string);
    let names: Vec<String> = ["localhost".to_owned()].into_iter().chain(names).collect();
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

//! Who we are in a handshake: one certificate and one checked configuration for the process.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use dimpl::crypto::CryptoProvider;
use dimpl::{Config, DtlsCertificate};

use super::handshake::Tape;
use super::secrets::{Listener, SecretSink};
use super::signing::OneKey;
use crate::limits::{DTLS_DATAGRAMS_MAX, SETUP_TIMEOUT};
use crate::plan::Fingerprint;
#[cfg(any(test, feature = "sim"))]
use crate::rng::Seed;

/// First wait before a flight is sent again, doubled each time. The usual 1 s loses calls: at 20 % loss
/// the median handshake took 1.0 s with it and 0.33 s with this (measured 2026-11).
const FLIGHT_TIMEOUT_START: Duration = Duration::from_millis(150);
/// Times a flight is sent again; four left 0.5-1 % of handshakes unfinished at 20 % loss.
const FLIGHT_RETRIES: usize = 8;
/// Bytes of our handshake datagrams: fits the IPv6 minimum of 1,280 with its headers.
const HANDSHAKE_DATAGRAM_BYTES: usize = 1_200;

/// Who a process is to its peers, shared by every session: in production a certificate (ECDSA P-256), its hash
/// and the DTLS configuration.
///
/// Building the configuration tests the whole crypto provider (860 µs), so a process makes one.
pub struct Identity {
    fingerprint: Fingerprint,
    kind: Kind,
}

/// What stands behind the handshakes of an identity's sessions.
pub(super) enum Kind {
    Dtls(DtlsKeys),
    /// No key at all: what came of each call is known.
    Recorded(Tape),
    #[cfg(any(test, feature = "sim"))]
    Scripted(Seed),
}

/// What each DTLS association of a process is made of.
pub(super) struct DtlsKeys {
    certificate: DtlsCertificate,
    config: Arc<Config>,
}

impl DtlsKeys {
    pub(super) fn certificate(&self) -> DtlsCertificate {
        self.certificate.clone()
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }
}

/// The crypto library refused to work. Blames the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No key or certificate could be made.
    #[error("cannot generate a DTLS certificate")]
    Certificate,
    /// The library's own tests failed.
    #[error("the DTLS crypto provider failed its self test")]
    Provider,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// A new key, certificate and configuration, from the operating system's randomness and wall clock;
    /// hence called by the process once, never by a shard.
    ///
    /// # Errors
    /// If the crypto library fails; nothing a peer can cause.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::with_config(base_config(), crypto_provider())
    }

    /// The same, telling `sink` the master secret of every handshake, for a capture that shall be opened later.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_telling(sink: SecretSink) -> Result<Self, IdentityError> {
        let mut provider = crypto_provider();
        provider.hmac_provider = Listener::leak(sink, provider.hmac_provider);
        Self::with_config(base_config(), provider)
    }

    /// The same, with the DTLS library's own randomness (timer jitter) seeded.
    #[cfg(test)]
    pub(super) fn seeded(seed: u64) -> Self {
        let config = base_config().dangerously_set_rng_seed(seed);
        Self::with_config(config, crypto_provider()).expect("crypto works")
    }

    /// The identity of an earlier run: its sessions take the outcomes of their handshakes from `tape`.
    #[must_use]
    pub const fn recorded(fingerprint: Fingerprint, tape: Tape) -> Self {
        Self {
            fingerprint,
            kind: Kind::Recorded(tape),
        }
    }

    /// An identity without security for simulated time: its sessions' handshakes, keys included, follow from
    /// `seed`. See [`scripted`](super::scripted).
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn scripted(seed: &Seed) -> Self {
        let mut bytes = [0; 32];
        seed.derive("fingerprint", 0).rng().fill(&mut bytes);
        Self {
            fingerprint: Fingerprint(bytes),
            kind: Kind::Scripted(seed.clone()),
        }
    }

    /// SHA-256 of the certificate, for the session description.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) const fn kind(&self) -> &Kind {
        &self.kind
    }

    #[cfg(test)]
    pub(super) fn dtls(&self) -> &DtlsKeys {
        match &self.kind {
            Kind::Dtls(keys) => keys,
            Kind::Recorded(_) | Kind::Scripted(_) => panic!("not an identity for DTLS"),
        }
    }

    fn with_config(
        builder: dimpl::ConfigBuilder,
        mut provider: CryptoProvider,
    ) -> Result<Self, IdentityError> {
        let made = str0m_aws_lc_rs::default_provider()
            .dtls_provider
            .generate_certificate();
        let made = made.ok_or(IdentityError::Certificate)?;
        let certificate = DtlsCertificate {
            certificate: made.certificate,
            private_key: made.private_key,
        };
        let fingerprint = fingerprint_of(&certificate.certificate);
        provider.key_provider = OneKey::leak(&certificate.private_key, provider.key_provider)
            .ok_or(IdentityError::Certificate)?;
        let builder = builder.with_crypto_provider(provider);
        let config = Arc::new(builder.build().map_err(|_| IdentityError::Provider)?);
        let kind = Kind::Dtls(DtlsKeys {
            certificate,
            config,
        });
        Ok(Self { fingerprint, kind })
    }
}

/// SHA-256 of a certificate in DER form.
pub(super) fn fingerprint_of(certificate: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    Fingerprint(bytes)
}

fn crypto_provider() -> CryptoProvider {
    str0m_aws_lc_rs::dimpl_crypto_provider()
}

fn base_config() -> dimpl::ConfigBuilder {
    Config::builder()
        // The cookie proves return routability; an authenticated check has shown more than that.
        .use_server_cookie(false)
        .mtu(HANDSHAKE_DATAGRAM_BYTES)
        .flight_start_rto(FLIGHT_TIMEOUT_START)
        .flight_retries(FLIGHT_RETRIES)
        .handshake_timeout(SETUP_TIMEOUT)
        .max_queue_rx(DTLS_DATAGRAMS_MAX)
}

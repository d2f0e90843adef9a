//! DTLS 1.2 by the library the core uses too, which plays either side. Its state lives as long as the handshake.

use std::sync::Arc;

use antiphon_core::limits::{
    DTLS_DATAGRAM_BYTES_MAX, DTLS_DATAGRAMS_MAX, DTLS_REASSEMBLY_BYTES_MAX,
};
use antiphon_core::message::ProfileName;
use antiphon_core::plan::{DtlsRole, Fingerprint};
use antiphon_core::srtp::{Inbound, KeyingMaterial, Outbound};
use antiphon_core::time::{Epoch, Timestamp};
use aws_lc_rs::digest::{SHA256, digest};
use dimpl::{Config, Dtls, DtlsCertificate, Error, Output, SrtpProfile};

use super::Ending;

/// Room for whatever a server can make the library hand out, its certificate included.
pub(super) type Room = [u8; DTLS_REASSEMBLY_BYTES_MAX];

/// The certificate and configuration of all sessions. Building the configuration tests the whole crypto library
/// (0.9 ms), and a key takes 0.1 ms: for each session anew they would measure the generator.
#[derive(Clone)]
pub(super) struct Credentials {
    certificate: DtlsCertificate,
    config: Arc<Config>,
    fingerprint: Fingerprint,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// A new certificate; `None` if the crypto library cannot work.
    pub(super) fn generate() -> Option<Self> {
        let stock = str0m_aws_lc_rs::default_provider();
        let made = stock.dtls_provider.generate_certificate()?;
        let certificate = DtlsCertificate {
            certificate: made.certificate,
            private_key: made.private_key,
        };
        let config = Config::builder()
            .with_crypto_provider(str0m_aws_lc_rs::dimpl_crypto_provider())
            .use_server_cookie(false)
            .max_queue_rx(DTLS_DATAGRAMS_MAX);
        Some(Self {
            fingerprint: fingerprint_of(&certificate.certificate),
            certificate,
            config: Arc::new(config.build().ok()?),
        })
    }

    pub(super) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

fn fingerprint_of(certificate: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    Fingerprint(bytes)
}

/// What SRTP takes from it.
pub(super) type Keys = (Inbound, Outbound);

/// One handshake.
pub(super) struct Handshake {
    dtls: Dtls,
    epoch: Epoch,
    role: DtlsRole,
    remote: Fingerprint,
    is_verified: bool,
    deadline: Option<Timestamp>,
}

/// Why the library is called.
#[derive(Clone, Copy)]
pub(super) enum Act<'a> {
    /// It is time, or the path is there.
    Time,
    /// A datagram came.
    Datagram(&'a [u8]),
}

impl Handshake {
    pub(super) fn new(
        credentials: &Credentials,
        role: DtlsRole,
        remote: Fingerprint,
        now: Timestamp,
        epoch: Epoch,
    ) -> Self {
        let config = Arc::clone(&credentials.config);
        let mut dtls = Dtls::new_12(config, credentials.certificate.clone(), epoch.instant(now));
        dtls.set_active(role == DtlsRole::Client);
        Self {
            dtls,
            epoch,
            role,
            remote,
            is_verified: false,
            deadline: None,
        }
    }

    /// When to call it again though nothing came.
    pub(super) const fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Goes on; what it has to send goes to `send`. Gives the keys once it is done, the certificate compared.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        act: Act<'_>,
        room: &mut Room,
        mut send: impl FnMut(&[u8]),
    ) -> Result<Option<Keys>, Ending> {
        let advanced = self.dtls.handle_timeout(self.epoch.instant(now));
        let advanced = advanced.and_then(|()| match act {
            // The library panics on a certificate longer than the room it is given.
            Act::Datagram(datagram) if datagram.len() <= DTLS_DATAGRAM_BYTES_MAX => {
                self.dtls.handle_packet(datagram)
            }
            _ => Ok(()),
        });
        match advanced {
            Ok(()) | Err(Error::ReceiveQueueFull) => {}
            Err(_) => return Err(Ending::HandshakeFailed),
        }
        let mut keys = None;
        loop {
            match self.dtls.poll_output(room) {
                Output::Packet(packet) => send(packet),
                Output::PeerCert(certificate) => {
                    if fingerprint_of(certificate) != self.remote {
                        return Err(Ending::WrongCertificate);
                    }
                    self.is_verified = true;
                }
                Output::KeyingMaterial(exported, profile) if self.is_verified => {
                    let profile = profile_name(profile).ok_or(Ending::HandshakeFailed)?;
                    let material = KeyingMaterial::new(profile, &exported);
                    let material = material.map_err(|_| Ending::HandshakeFailed)?;
                    keys = Some(material.into_contexts(self.role));
                }
                Output::Connected | Output::ApplicationData(_) => {}
                Output::Timeout(at) => {
                    self.deadline = Some(self.epoch.timestamp(at));
                    return Ok(keys);
                }
                Output::CloseNotify => return Err(Ending::Closed),
                _ => return Err(Ending::HandshakeFailed),
            }
        }
    }
}

fn profile_name(profile: SrtpProfile) -> Option<ProfileName> {
    match profile {
        SrtpProfile::AEAD_AES_256_GCM => Some(ProfileName::AeadAes256Gcm),
        SrtpProfile::AEAD_AES_128_GCM => Some(ProfileName::AeadAes128Gcm),
        SrtpProfile::AES128_CM_SHA1_80 => Some(ProfileName::Aes128CmSha1_80),
        _ => None,
    }
}

//! DTLS: the handshake, the comparison of fingerprints, and the end.

use std::time::Duration;

use dimpl::{Dtls, Error, Output, SrtpProfile};
use zeroize::ZeroizeOnDrop;

use super::Sink;
use super::identity::{Identity, fingerprint_of};
use crate::limits::{DTLS_DATAGRAM_BYTES_MAX, DTLS_REASSEMBLY_BYTES_MAX};
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::net::Path;
use crate::plan::{DtlsRole, Fingerprint};
use crate::time::{Epoch, Timestamp};

/// Bytes of keying material of the longest profile: two keys of 32, two salts of 12.
const KEYING_MATERIAL_BYTES_MAX: usize = 88;
/// "Nothing pending" is a deadline years away in the DTLS library; ours is `None`.
const FAR_FUTURE: Duration = Duration::from_secs(86_400);
/// A deadline is at least this far off, so that a driver always makes progress.
const DEADLINE_STEP: Duration = Duration::from_millis(1);

const RECORD_HEADER_BYTES: usize = 13;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// SRTP master keys and salts as RFC 5764 §4.2 orders them: client key, server key, client salt, server
/// salt. Wiped when dropped, never shown.
#[derive(ZeroizeOnDrop)]
pub struct KeyingMaterial {
    bytes: [u8; KEYING_MATERIAL_BYTES_MAX],
    #[zeroize(skip)]
    length: usize,
}

impl KeyingMaterial {
    /// The bytes; 60 of them for AES-CM, 56 for GCM-128, 88 for GCM-256.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn new(exported: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEYING_MATERIAL_BYTES_MAX];
        bytes.get_mut(..exported.len())?.copy_from_slice(exported);
        Some(Self {
            bytes,
            length: exported.len(),
        })
    }
}

impl std::fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyingMaterial(..)")
    }
}

/// What a step of the handshake came to.
pub(super) enum Step {
    /// Nothing to tell.
    Pending,
    /// Done, with the fingerprint compared.
    Connected(ProfileName, KeyingMaterial),
    /// Over; the association is gone.
    Closed(CloseReason),
}

/// One DTLS association. The library compares no fingerprint, so keys leave only through here.
pub(super) struct Handshake {
    /// `None` once closed: its memory goes at once, and nothing has a deadline any more.
    dtls: Option<Box<Dtls>>,
    epoch: Epoch,
    remote_fingerprint: Fingerprint,
    deadline: Option<Timestamp>,
    /// The peer's certificate is the one its description named.
    is_verified: bool,
    is_connected: bool,
    /// As a client: waits for a path before it speaks.
    waits_to_start: bool,
}

impl Handshake {
    pub(super) fn new(
        identity: &Identity,
        epoch: Epoch,
        remote_fingerprint: Fingerprint,
        role: DtlsRole,
        now: Timestamp,
    ) -> Self {
        let mut dtls = Box::new(Dtls::new_12(
            identity.config(),
            identity.certificate(),
            epoch.instant(now),
        ));
        dtls.set_active(role == DtlsRole::Client);
        Self {
            dtls: Some(dtls),
            epoch,
            remote_fingerprint,
            deadline: None,
            is_verified: false,
            is_connected: false,
            waits_to_start: role == DtlsRole::Client,
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Says ClientHello, if it is ours to say and was not said.
    pub(super) fn start(&mut self, now: Timestamp, path: Path, out: &mut impl Sink) -> Step {
        if !std::mem::take(&mut self.waits_to_start) {
            return Step::Pending;
        }
        self.advance(now, path, out, |_| Ok(()))
            .unwrap_or(Step::Pending)
    }

    /// Handles one datagram; answers go over `path`.
    ///
    /// # Errors
    /// The datagram was refused and changed nothing.
    pub(super) fn handle_packet(
        &mut self,
        now: Timestamp,
        packet: &[u8],
        path: Path,
        out: &mut impl Sink,
    ) -> Result<Step, DropReason> {
        // The library panics on a certificate longer than the buffer it is given; see `drain`.
        if packet.len() > DTLS_DATAGRAM_BYTES_MAX || self.is_forged_plaintext(packet) {
            return Err(DropReason::RefusedDtls);
        }
        self.waits_to_start = false;
        self.advance(now, path, out, |dtls| dtls.handle_packet(packet))
    }

    /// Sends again what was not answered; does nothing before the deadline.
    pub(super) fn handle_timeout(
        &mut self,
        now: Timestamp,
        path: Path,
        out: &mut impl Sink,
    ) -> Step {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Step::Pending;
        }
        self.advance(now, path, out, |_| Ok(()))
            .unwrap_or(Step::Pending)
    }

    /// Says close_notify if there is anyone to say it to, and ends.
    pub(super) fn close(&mut self, now: Timestamp, path: Option<Path>, out: &mut impl Sink) {
        if let Some(path) = path.filter(|_| self.is_connected) {
            // Whatever comes of it, the association is over.
            let _ended = self.advance(now, path, out, Dtls::close);
        }
        self.end();
    }

    fn advance(
        &mut self,
        now: Timestamp,
        path: Path,
        out: &mut impl Sink,
        act: impl FnOnce(&mut Dtls) -> Result<(), Error>,
    ) -> Result<Step, DropReason> {
        let Some(dtls) = &mut self.dtls else {
            return Err(DropReason::RefusedDtls);
        };
        // The library takes its time from the last timeout handled.
        let result = dtls
            .handle_timeout(self.epoch.instant(now))
            .and_then(|()| act(dtls));
        let failed = match result {
            Ok(()) => false,
            // Nothing was kept of this datagram, and the handshake may yet finish.
            Err(Error::ReceiveQueueFull) => return Err(DropReason::RefusedDtls),
            Err(_) => true,
        };
        // Also after a failure: an alert may wait.
        let step = self.drain(now, path, out);
        Ok(match step {
            Step::Pending | Step::Connected(..) if failed => {
                let was_connected = self.is_connected;
                self.end();
                Step::Closed(if was_connected {
                    CloseReason::PeerClosed
                } else {
                    CloseReason::HandshakeFailed
                })
            }
            step => step,
        })
    }

    fn drain(&mut self, now: Timestamp, path: Path, out: &mut impl Sink) -> Step {
        let Some(dtls) = &mut self.dtls else {
            return Step::Pending;
        };
        // As large as anything the peer can make the library hand out.
        let mut buffer = [0; DTLS_REASSEMBLY_BYTES_MAX];
        let mut step = Step::Pending;
        let mut has_finished = false;
        let ended = loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => out.transmit(path, packet),
                Output::PeerCert(certificate) => {
                    if fingerprint_of(certificate) != self.remote_fingerprint {
                        out.transmit(path, &bad_certificate_alert());
                        break Some(CloseReason::FingerprintMismatch);
                    }
                    self.is_verified = true;
                }
                Output::Connected => has_finished = true,
                Output::KeyingMaterial(exported, profile) if self.is_verified => {
                    let keys = KeyingMaterial::new(&exported);
                    if let (Some(profile), Some(keys)) = (profile_name(profile), keys) {
                        self.is_connected = true;
                        step = Step::Connected(profile, keys);
                    }
                }
                Output::CloseNotify => break Some(CloseReason::PeerClosed),
                // There are no data channels yet: nobody reads it.
                Output::ApplicationData(_) => {}
                Output::Timeout(at) => {
                    let at = self.epoch.timestamp(at);
                    // Once connected the library has no work of its own: it answers a flight that comes
                    // again, and takes the time for that from the datagram.
                    let is_pending = !self.is_connected && at.since(now) < FAR_FUTURE;
                    self.deadline = is_pending.then(|| at.max(now + DEADLINE_STEP));
                    break None;
                }
                // Keys of an unverified peer, a buffer too small, or an output added by an upgrade.
                _ => break Some(CloseReason::HandshakeFailed),
            }
        };
        // A handshake that agreed on no SRTP profile is of no use to anyone.
        let is_useless = has_finished && !self.is_connected;
        let ended = ended.or(is_useless.then_some(CloseReason::HandshakeFailed));
        if let Some(reason) = ended {
            self.end();
            step = Step::Closed(reason);
        }
        step
    }

    fn end(&mut self) {
        self.dtls = None;
        self.deadline = None;
    }

    /// After the handshake the only plaintext a peer sends is its last flight again. The library drops
    /// other plaintext too, but for application data, which it would hand out as if it were genuine.
    fn is_forged_plaintext(&self, packet: &[u8]) -> bool {
        self.is_connected
            && records(packet).any(|record| {
                let is_plaintext = record[3..5] == [0, 0];
                is_plaintext && !matches!(record[0], HANDSHAKE | CHANGE_CIPHER_SPEC)
            })
    }
}

/// The records of a datagram as far as their headers go, each at least a header long.
fn records(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        let header = rest.get(..RECORD_HEADER_BYTES)?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let end = rest.len().min(RECORD_HEADER_BYTES + length);
        let (record, after) = rest.split_at(end);
        rest = after;
        Some(record)
    })
}

/// Tells a peer in the middle of its handshake why it ends (RFC 5246 §7.2.2): fatal, bad_certificate.
/// The library has no call for it. The sequence number is one it cannot have used.
fn bad_certificate_alert() -> [u8; RECORD_HEADER_BYTES + 2] {
    [
        21, 0xfe, 0xfd, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 2, 2, 42,
    ]
}

fn profile_name(profile: SrtpProfile) -> Option<ProfileName> {
    match profile {
        SrtpProfile::AEAD_AES_256_GCM => Some(ProfileName::AeadAes256Gcm),
        SrtpProfile::AEAD_AES_128_GCM => Some(ProfileName::AeadAes128Gcm),
        SrtpProfile::AES128_CM_SHA1_80 => Some(ProfileName::Aes128CmSha1_80),
        _ => None,
    }
}

//! DTLS 1.2 by the DTLS library: the handshake, the comparison of fingerprints, and the end.

use std::time::Duration;

use dimpl::{Dtls, Error, Output, SrtpProfile};

use super::{Act, Call, Called, KeyingMaterial, Step};
use crate::limits::{DTLS_DATAGRAM_BYTES_MAX, DTLS_REASSEMBLY_BYTES_MAX};
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::net::Path;
use crate::plan::{DtlsRole, Fingerprint};
use crate::session::transport::Sink;
use crate::session::transport::identity::{DtlsKeys, fingerprint_of};
use crate::time::{Epoch, Timestamp};

/// "Nothing pending" is a deadline years away in the DTLS library; ours is `None`.
const FAR_FUTURE: Duration = Duration::from_secs(86_400);
/// A deadline is at least this far off, so that a driver always makes progress.
const DEADLINE_STEP: Duration = Duration::from_millis(1);

const RECORD_HEADER_BYTES: usize = 13;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// One DTLS association. The library compares no fingerprint, so keys leave only through here.
pub(super) struct DtlsAssociation {
    dtls: Dtls,
    epoch: Epoch,
    remote_fingerprint: Fingerprint,
    /// The peer's certificate is the one its description named.
    is_verified: bool,
    is_connected: bool,
}

impl DtlsAssociation {
    pub(super) fn new(
        keys: &DtlsKeys,
        epoch: Epoch,
        remote_fingerprint: Fingerprint,
        role: DtlsRole,
        now: Timestamp,
    ) -> Self {
        let (config, certificate) = (keys.config(), keys.certificate());
        let mut dtls = Dtls::new_12(config, certificate, epoch.instant(now));
        dtls.set_active(role == DtlsRole::Client);
        Self {
            dtls,
            epoch,
            remote_fingerprint,
            is_verified: false,
            is_connected: false,
        }
    }

    /// Does what the call says and takes out what comes of it.
    pub(super) fn call(&mut self, call: Call<'_>, out: &mut impl Sink) -> Called {
        let Call { now, path, act } = call;
        match act {
            // The library panics on a certificate longer than the buffer it is given; see `drain`.
            Act::Packet(packet)
                if packet.len() > DTLS_DATAGRAM_BYTES_MAX || self.is_forged_plaintext(packet) =>
            {
                Err(DropReason::RefusedDtls)
            }
            Act::Packet(packet) => self.advance(now, path, out, |dtls| dtls.handle_packet(packet)),
            Act::Start | Act::Timeout => self.advance(now, path, out, |_| Ok(())),
            Act::Close => self.advance(now, path, out, Dtls::close),
        }
    }

    fn advance(
        &mut self,
        now: Timestamp,
        path: Path,
        out: &mut impl Sink,
        act: impl FnOnce(&mut Dtls) -> Result<(), Error>,
    ) -> Called {
        let dtls = &mut self.dtls;
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
        let (step, deadline) = self.drain(now, path, out);
        let step = match step {
            Step::Pending | Step::Connected(..) if failed => Step::Closed(if self.is_connected {
                CloseReason::PeerClosed
            } else {
                CloseReason::HandshakeFailed
            }),
            step => step,
        };
        Ok((step, deadline))
    }

    fn drain(
        &mut self,
        now: Timestamp,
        path: Path,
        out: &mut impl Sink,
    ) -> (Step, Option<Timestamp>) {
        // As large as anything the peer can make the library hand out.
        let mut buffer = [0; DTLS_REASSEMBLY_BYTES_MAX];
        let mut step = Step::Pending;
        let mut has_finished = false;
        let mut deadline = None;
        let ended = loop {
            match self.dtls.poll_output(&mut buffer) {
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
                    deadline = is_pending.then(|| at.max(now + DEADLINE_STEP));
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
            step = Step::Closed(reason);
        }
        (step, deadline)
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

//! Receiving: authenticate, decrypt, and only then remember.

use std::fmt;

use antiphon_prefetch::prefetch;

use super::keys::{self, KeyError, Suites};
use super::suite::{NonceInput, Suite};
use super::window::ReplayWindow;
use super::{RTCP_CLEAR_BYTES, RTCP_ENCRYPTED};
use crate::limits::SRTCP_SENDERS_MAX;
use crate::message::ProfileName;
use crate::sequence::IndexWindow;

/// What the RTP header of a packet says, as far as SRTP needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPosition {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Sequence number.
    pub sequence_number: u16,
    /// Bytes up to the payload: fixed header, contributing sources and extension.
    pub header_len: usize,
}

/// A packet that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of the plain packet, header included.
    pub length: usize,
    /// Its 48-bit index, which serves as its extended sequence number.
    pub index: u64,
}

/// Why a packet was refused. Nothing changed, except that AES-GCM leaves bytes without meaning in
/// the packet's payload when it is [`Self::Unauthenticated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It cannot hold its header and the authentication tag.
    #[error("packet is too short")]
    Short,
    /// It was received before, or is so old that nobody can tell.
    #[error("packet was replayed or is too old")]
    Replayed,
    /// The tag is not that of these bytes under this key.
    #[error("packet failed authentication")]
    Unauthenticated,
    /// RTCP that says it is not encrypted, which WebRTC does not allow (RFC 8827 §6.5).
    #[error("packet is not encrypted")]
    NotEncrypted,
    /// RTCP of one sender more than [`SRTCP_SENDERS_MAX`].
    #[error("too many RTCP senders")]
    TooManySenders,
}

/// Opens what one peer sends under one key.
pub struct Inbound {
    profile: ProfileName,
    rtp: Suite,
    rtcp: Suite,
    /// In order of appearance; nearly always one to three.
    rtcp_senders: Vec<RtcpSender>,
}

/// Replay state of one RTCP sender: libsrtp, and with it every browser, counts per source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RtcpSender {
    ssrc: u32,
    window: IndexWindow<3>,
}

impl Inbound {
    /// Expands a master key and salt given directly, as SDES and captures do.
    ///
    /// # Errors
    /// A length is not exactly that of the profile.
    pub fn from_master(profile: ProfileName, key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        keys::derive_checked(profile, key, salt).map(|suites| Self::from_suites(profile, suites))
    }

    /// The same for `AES128_CM_SHA1_32`, which WebRTC does not agree to: for captures of others. It opens RTP
    /// with tags of 4 bytes, and in all else is [`ProfileName::Aes128CmSha1_80`].
    ///
    /// # Errors
    /// A length is not exactly that of the profile.
    #[cfg(feature = "replay")]
    pub fn from_master_with_short_tags(key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        let suites = keys::derive_with_short_tags(key, salt)?;
        Ok(Self::from_suites(ProfileName::Aes128CmSha1_80, suites))
    }

    pub(super) fn from_suites(profile: ProfileName, suites: Suites) -> Self {
        Self {
            profile,
            rtp: suites.rtp,
            rtcp: suites.rtcp,
            rtcp_senders: Vec::new(),
        }
    }

    /// Asks for what opens RTP; the key itself is where only the cipher library knows.
    pub(crate) fn prefetch_rtp(&self) {
        prefetch(&self.rtp);
    }

    /// The profile in use.
    #[must_use]
    pub const fn profile(&self) -> ProfileName {
        self.profile
    }

    /// Opens an RTP packet in place. `window` must be that of the packet's source; for a source not
    /// seen before pass a new one, and keep it only if the packet opens. Does not allocate.
    ///
    /// # Errors
    /// The packet is refused and `window` unchanged. Do not try another key on the same bytes.
    // Here and in `Gcm`: one caller opens all packets, and the calls between cost it 60 instructions each.
    #[inline(always)]
    pub fn open_rtp(
        &self,
        window: &mut ReplayWindow,
        position: RtpPosition,
        packet: &mut [u8],
    ) -> Result<Opened, OpenError> {
        let RtpPosition {
            ssrc,
            sequence_number,
            header_len,
        } = position;
        let index = window
            .fresh_index(sequence_number)
            .ok_or(OpenError::Replayed)?;
        let length = self
            .rtp
            .open_rtp(NonceInput { ssrc, index }, packet, header_len)?;
        window.note(index);
        Ok(Opened { length, index })
    }

    /// Opens a compound RTCP packet in place; the length of the plain packet. Allocates only when a
    /// sender appears, at most a few times a session.
    ///
    /// A sender is admitted by its first authentic packet and stays for the session: were it
    /// forgotten, its packets could be replayed. When [`SRTCP_SENDERS_MAX`] are known, further ones
    /// are refused and the known ones are unharmed.
    ///
    /// # Errors
    /// The packet is refused and nothing changed.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        if packet.len() < RTCP_CLEAR_BYTES + self.rtcp.rtcp_overhead() {
            return Err(OpenError::Short);
        }
        let index_word = word_at(packet, packet.len() - self.rtcp.rtcp_index_from_end());
        let ssrc = word_at(packet, 4);
        if index_word & RTCP_ENCRYPTED == 0 {
            return Err(OpenError::NotEncrypted);
        }
        let index = u64::from(index_word & !RTCP_ENCRYPTED);
        let sender = self
            .rtcp_senders
            .iter()
            .position(|sender| sender.ssrc == ssrc);
        match sender {
            Some(sender) if !self.rtcp_senders[sender].window.is_fresh(index) => {
                return Err(OpenError::Replayed);
            }
            None if self.rtcp_senders.len() == SRTCP_SENDERS_MAX => {
                return Err(OpenError::TooManySenders);
            }
            _ => {}
        }
        let length = self.rtcp.open_rtcp(NonceInput { ssrc, index }, packet)?;
        let sender = sender.unwrap_or_else(|| {
            self.rtcp_senders.push(RtcpSender {
                ssrc,
                window: IndexWindow::default(),
            });
            self.rtcp_senders.len() - 1
        });
        self.rtcp_senders[sender].window.note(index);
        Ok(length)
    }

    /// All there is of RTCP state, for comparison.
    #[cfg(test)]
    pub(super) fn rtcp_senders(&self) -> &[RtcpSender] {
        &self.rtcp_senders
    }
}

/// Shows the profile alone.
impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbound({})", self.profile.name())
    }
}

/// The word at `offset`, which the caller checked to be there.
fn word_at(packet: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&packet[offset..offset + 4]);
    u32::from_be_bytes(word)
}

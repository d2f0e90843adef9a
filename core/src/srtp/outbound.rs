//! Sending: no index twice under one key.

use std::fmt;

use antiphon_prefetch::prefetch;

use super::keys::{self, KeyError, Suites};
use super::suite::{NonceInput, Suite};
use super::{RTCP_CLEAR_BYTES, RTCP_ENCRYPTED, RTCP_INDEX_END, RTP_INDEX_END};
use crate::limits::SRTP_SEND_SOURCES_MAX;
use crate::message::ProfileName;
use crate::sequence::SequenceWindow;

/// Why nothing was sealed. These are faults of ours; none is a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The sequence number was sealed before, or is so old that it may have been.
    #[error("packet index is used up")]
    IndexUsed,
    /// The key has come to its last index: the session must end or change it (RFC 3711 §9.2).
    #[error("no packet index is left under this key")]
    Exhausted,
    /// The buffer cannot hold the sealed packet.
    #[error("no room for the sealed packet")]
    NoRoom,
    /// An RTCP packet without a whole header and sender.
    #[error("packet is too short")]
    Short,
}

/// An outgoing synchronisation source under one key, and which of its indices are used up. There is
/// one of each: [`Outbound::claim`] hands it out and it cannot be cloned.
#[derive(Debug)]
pub struct SendSource {
    ssrc: u32,
    /// Wide enough for what is sent out of order: a cache's worth of packets.
    used: SequenceWindow,
}

impl SendSource {
    /// Its synchronisation source.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The highest index sealed, `None` before the first packet.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.used.highest()
    }

    /// Nothing more can be sealed: the session must end (RFC 3711 §9.2).
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.highest()
            .is_some_and(|index| index + 1 >= RTP_INDEX_END)
    }

    /// Uses up all indices up to `index`, as an earlier run did.
    pub(crate) fn skip_to(&mut self, index: u64) {
        if index < RTP_INDEX_END && self.highest().is_none_or(|highest| highest < index) {
            self.used.note(index);
        }
    }

    /// A source that has sealed `index` alone.
    #[cfg(test)]
    pub(super) fn starting_at(ssrc: u32, index: u64) -> Self {
        let mut used = SequenceWindow::default();
        used.note(index);
        Self { ssrc, used }
    }

    /// Uses up the index that the receiver will guess from `sequence_number`.
    fn spend(&mut self, sequence_number: u16) -> Result<u64, SealError> {
        let index =
            u64::try_from(self.used.extend(sequence_number)).map_err(|_| SealError::IndexUsed)?;
        if index >= RTP_INDEX_END {
            return Err(SealError::Exhausted);
        }
        if !self.used.is_fresh(index) {
            return Err(SealError::IndexUsed);
        }
        self.used.note(index);
        Ok(index)
    }
}

/// Seals what we send to one peer under one key.
pub struct Outbound {
    profile: ProfileName,
    rtp: Suite,
    rtcp: Suite,
    /// Counts all RTCP of this key, whichever source sends it: one counter cannot repeat.
    rtcp_index: u32,
    /// Sources handed out.
    claimed: Vec<u32>,
}

impl Outbound {
    /// Expands a master key and salt given directly, as SDES and captures do.
    ///
    /// # Errors
    /// A length is not exactly that of the profile.
    pub fn from_master(profile: ProfileName, key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        keys::derive_checked(profile, key, salt).map(|suites| Self::from_suites(profile, suites))
    }

    pub(super) fn from_suites(profile: ProfileName, suites: Suites) -> Self {
        // The first RTCP index is 1, as libsrtp has it.
        let (rtcp_index, claimed) = (1, Vec::new());
        Self {
            profile,
            rtp: suites.rtp,
            rtcp: suites.rtcp,
            rtcp_index,
            claimed,
        }
    }

    /// Asks for what seals RTP; the key itself is where only the cipher library knows.
    pub(crate) fn prefetch_rtp(&self) {
        prefetch(&self.rtp);
    }

    /// The profile in use.
    #[must_use]
    pub const fn profile(&self) -> ProfileName {
        self.profile
    }

    /// No RTCP can be sealed any more: the session must end (RFC 3711 §9.2).
    #[must_use]
    pub const fn is_rtcp_exhausted(&self) -> bool {
        self.rtcp_index >= RTCP_INDEX_END
    }

    /// The right to send as `ssrc` under this key. `None` if it was given away before, or after
    /// [`SRTP_SEND_SOURCES_MAX`] sources. Use it with this `Outbound` only.
    ///
    /// Begin with a sequence number below 32,768: a receiver that misses the first packets and sees
    /// the number wrap takes its rollover counter for 0, and opens nothing.
    pub fn claim(&mut self, ssrc: u32) -> Option<SendSource> {
        if self.claimed.contains(&ssrc) || self.claimed.len() == SRTP_SEND_SOURCES_MAX {
            return None;
        }
        self.claimed.push(ssrc);
        Some(SendSource {
            ssrc,
            used: SequenceWindow::default(),
        })
    }

    /// Seals an RTP packet; its length. The header already stands in `out[..header_len]` and says
    /// `source` and `sequence_number`; the plain text is `prefix` followed by `payload`.
    /// It adds at most [`SRTP_OVERHEAD_BYTES_MAX`](crate::limits::SRTP_OVERHEAD_BYTES_MAX) bytes.
    /// Does not allocate.
    ///
    /// `prefix` is for the few bytes that are rewritten per receiver. Leave it empty when there are
    /// none: AES-GCM then reads `payload` where it lies, without a copy.
    ///
    /// # Errors
    /// Nothing is written behind the header, and `source` is unchanged.
    pub fn seal_rtp(
        &self,
        source: &mut SendSource,
        sequence_number: u16,
        out: &mut [u8],
        header_len: usize,
        prefix: &[u8],
        payload: &[u8],
    ) -> Result<usize, SealError> {
        let length = header_len
            .checked_add(prefix.len() + payload.len() + self.rtp.rtp_overhead())
            .ok_or(SealError::NoRoom)?;
        let out = out.get_mut(..length).ok_or(SealError::NoRoom)?;
        debug_assert!(header_names(
            &out[..header_len],
            source.ssrc,
            sequence_number
        ));
        let nonce = NonceInput {
            ssrc: source.ssrc,
            index: source.spend(sequence_number)?,
        };
        self.rtp.seal_rtp(nonce, out, header_len, prefix, payload);
        Ok(length)
    }

    /// Seals the compound RTCP packet in `out[..len]`; its new length. `out` needs room for
    /// [`SRTCP_OVERHEAD_BYTES_MAX`](crate::limits::SRTCP_OVERHEAD_BYTES_MAX) more bytes at most.
    /// Does not allocate.
    ///
    /// # Errors
    /// Nothing is written, and no index is used up.
    pub fn seal_rtcp(&mut self, out: &mut [u8], len: usize) -> Result<usize, SealError> {
        let length = len
            .checked_add(self.rtcp.rtcp_overhead())
            .ok_or(SealError::NoRoom)?;
        let out = out.get_mut(..length).ok_or(SealError::NoRoom)?;
        if len < RTCP_CLEAR_BYTES {
            return Err(SealError::Short);
        }
        if self.rtcp_index >= RTCP_INDEX_END {
            return Err(SealError::Exhausted);
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        let ssrc = u32::from_be_bytes([out[4], out[5], out[6], out[7]]);
        let index_word = (RTCP_ENCRYPTED | index).to_be_bytes();
        self.rtcp.seal_rtcp(
            NonceInput {
                ssrc,
                index: index.into(),
            },
            index_word,
            out,
        );
        Ok(length)
    }

    /// Moves the RTCP counter.
    #[cfg(test)]
    pub(super) fn with_rtcp_index(mut self, index: u32) -> Self {
        self.rtcp_index = index;
        self
    }
}

/// Shows the profile alone.
impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({})", self.profile.name())
    }
}

/// Whether a header carries this source and number; a receiver builds its nonce from them.
fn header_names(header: &[u8], ssrc: u32, sequence_number: u16) -> bool {
    header.get(2..4) == Some(&sequence_number.to_be_bytes())
        && header.get(8..12) == Some(&ssrc.to_be_bytes())
}

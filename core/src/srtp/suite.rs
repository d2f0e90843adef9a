//! The ciphers behind one face. They know nonces, tags and layout; they hold no state.

use super::cm::Cm;
use super::gcm::Gcm;
use super::inbound::OpenError;

/// Session keys of one direction of SRTP or SRTCP.
///
/// The AES-CM arm is boxed: 1,752 bytes against 40 of the other, which nearly every session uses.
pub(super) enum Suite {
    Gcm(Gcm),
    Cm(Box<Cm>),
    /// Of captures alone, and never of RTCP.
    #[cfg(feature = "replay")]
    ShortCm(Box<Cm<4>>),
}

impl Suite {
    /// Bytes added to an RTP packet.
    pub(super) const fn rtp_overhead(&self) -> usize {
        match self {
            Self::Gcm(_) => Gcm::TAG_BYTES,
            Self::Cm(_) => <Cm>::TAG_BYTES,
            #[cfg(feature = "replay")]
            Self::ShortCm(_) => Cm::<4>::TAG_BYTES,
        }
    }

    /// Bytes added to a compound RTCP packet: the tag and the index word.
    pub(super) const fn rtcp_overhead(&self) -> usize {
        self.rtp_overhead() + 4
    }

    /// Distance of the index word of an SRTCP packet from its end. RFC 7714 §9.2 puts it behind the
    /// tag, RFC 3711 §3.4 before.
    pub(super) const fn rtcp_index_from_end(&self) -> usize {
        match self {
            Self::Gcm(_) => 4,
            Self::Cm(_) => 4 + <Cm>::TAG_BYTES,
            #[cfg(feature = "replay")]
            Self::ShortCm(_) => 4 + Cm::<4>::TAG_BYTES,
        }
    }

    /// Authenticates and decrypts in place; the length of the plain packet.
    // A call costs a packet 20 instructions; the rarer ciphers are called, so that the body stays small.
    #[inline(always)]
    pub(super) fn open_rtp(
        &self,
        nonce: NonceInput,
        packet: &mut [u8],
        header_len: usize,
    ) -> Result<usize, OpenError> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtp(nonce, packet, header_len),
            Self::Cm(cm) => cm.open_rtp(nonce, packet, header_len),
            #[cfg(feature = "replay")]
            Self::ShortCm(cm) => cm.open_rtp(nonce, packet, header_len),
        }
    }

    /// Seals `prefix` and `payload` behind the header. `out` must have the exact length of the
    /// sealed packet.
    #[inline(always)]
    pub(super) fn seal_rtp(
        &self,
        nonce: NonceInput,
        out: &mut [u8],
        header_len: usize,
        prefix: &[u8],
        payload: &[u8],
    ) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtp(nonce, out, header_len, prefix, payload),
            Self::Cm(cm) => cm.seal_rtp(nonce, out, header_len, prefix, payload),
            #[cfg(feature = "replay")]
            Self::ShortCm(cm) => cm.seal_rtp(nonce, out, header_len, prefix, payload),
        }
    }

    /// As [`Self::open_rtp`]; `packet` must be long enough for the clear bytes and the overhead.
    pub(super) fn open_rtcp(
        &self,
        nonce: NonceInput,
        packet: &mut [u8],
    ) -> Result<usize, OpenError> {
        match self {
            Self::Gcm(gcm) => gcm.open_rtcp(nonce, packet),
            Self::Cm(cm) => cm.open_rtcp(nonce, packet),
            #[cfg(feature = "replay")]
            Self::ShortCm(cm) => cm.open_rtcp(nonce, packet),
        }
    }

    /// Seals the compound packet in `out`, less the overhead at its end. `out` must have the exact
    /// length of the sealed packet, and hold at least the clear bytes.
    pub(super) fn seal_rtcp(&self, nonce: NonceInput, index_word: [u8; 4], out: &mut [u8]) {
        match self {
            Self::Gcm(gcm) => gcm.seal_rtcp(nonce, index_word, out),
            Self::Cm(cm) => cm.seal_rtcp(nonce, index_word, out),
            #[cfg(feature = "replay")]
            Self::ShortCm(cm) => cm.seal_rtcp(nonce, index_word, out),
        }
    }
}

/// What makes a nonce unique under a key: the source and its packet index (48 or 31 bits).
#[derive(Clone, Copy)]
pub(super) struct NonceInput {
    pub(super) ssrc: u32,
    pub(super) index: u64,
}

impl NonceInput {
    /// Source and index as both RFCs lay them out, 4 and 6 bytes, read as one big-endian number. A 31-bit
    /// index has two zero bytes before it (RFC 7714 §9.1).
    pub(super) fn to_number(self) -> u128 {
        debug_assert!(self.index < super::RTP_INDEX_END);
        u128::from(self.ssrc) << 48 | u128::from(self.index)
    }

    /// Upper 32 bits of a 48-bit index.
    pub(super) const fn rollover_counter(self) -> u32 {
        (self.index >> 16) as u32
    }
}

/// Big-endian bytes, at most 16, as a number.
pub(super) fn number(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

//! AES in counter mode with HMAC-SHA1 cut to 80 bits, or to 32 (RFC 3711 §4).

use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroizing;

use super::RTCP_CLEAR_BYTES;
use super::inbound::OpenError;
use super::keys::counter_key;
use super::suite::{NonceInput, number};

/// `TAG` bytes authenticate a packet: 10, or in captures of others 4. Both keys zeroise themselves.
pub(super) struct Cm<const TAG: usize = 10> {
    cipher: EncryptingKey,
    mac: hmac::Key,
    /// Its 14 bytes as a number.
    salt: Zeroizing<u128>,
}

impl<const TAG: usize> Cm<TAG> {
    pub(super) const TAG_BYTES: usize = TAG;

    /// `key` must have 16 bytes.
    pub(super) fn new(key: &[u8], mac: &[u8; 20], salt: &[u8; 14]) -> Self {
        let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, mac);
        Self {
            cipher: counter_key(key),
            mac,
            salt: Zeroizing::new(number(salt)),
        }
    }

    /// A refused packet is left as it was.
    #[inline(never)]
    pub(super) fn open_rtp(
        &self,
        nonce: NonceInput,
        packet: &mut [u8],
        header_len: usize,
    ) -> Result<usize, OpenError> {
        let text_end = packet
            .len()
            .checked_sub(TAG)
            .filter(|end| *end >= header_len)
            .ok_or(OpenError::Short)?;
        let mut received = [0; TAG];
        received.copy_from_slice(&packet[text_end..]);
        // The tag covers the packet and then the rollover counter. Written over the tag, the
        // counter makes one run of bytes of both, which is hashed faster than two.
        let tag = self.rtp_tag(nonce, packet, text_end);
        packet[text_end..].copy_from_slice(&received);
        verify(&tag, &received)?;
        self.apply(nonce, &mut packet[header_len..text_end]);
        Ok(text_end)
    }

    #[inline(never)]
    pub(super) fn seal_rtp(
        &self,
        nonce: NonceInput,
        out: &mut [u8],
        header_len: usize,
        prefix: &[u8],
        payload: &[u8],
    ) {
        let payload_at = header_len + prefix.len();
        let text_end = payload_at + payload.len();
        out[header_len..payload_at].copy_from_slice(prefix);
        out[payload_at..text_end].copy_from_slice(payload);
        self.apply(nonce, &mut out[header_len..text_end]);
        let tag = self.rtp_tag(nonce, out, text_end);
        out[text_end..].copy_from_slice(&tag);
    }

    /// A refused packet is left as it was.
    pub(super) fn open_rtcp(
        &self,
        nonce: NonceInput,
        packet: &mut [u8],
    ) -> Result<usize, OpenError> {
        let (authenticated, received) = packet
            .split_last_chunk_mut::<TAG>()
            .ok_or(OpenError::Short)?;
        verify(&self.tag(authenticated), received)?;
        let (packet, _index_word) = authenticated
            .split_last_chunk_mut::<4>()
            .ok_or(OpenError::Short)?;
        let text = packet.get_mut(RTCP_CLEAR_BYTES..).ok_or(OpenError::Short)?;
        self.apply(nonce, text);
        Ok(packet.len())
    }

    pub(super) fn seal_rtcp(&self, nonce: NonceInput, index_word: [u8; 4], out: &mut [u8]) {
        let authenticated_len = out.len() - TAG;
        let (authenticated, tag) = out.split_at_mut(authenticated_len);
        let (packet, index) = authenticated.split_at_mut(authenticated_len - index_word.len());
        self.apply(nonce, &mut packet[RTCP_CLEAR_BYTES..]);
        index.copy_from_slice(&index_word);
        tag.copy_from_slice(&self.tag(authenticated));
    }

    /// The tag of `packet[..text_end]`; four of the bytes behind become the rollover counter.
    fn rtp_tag(&self, nonce: NonceInput, packet: &mut [u8], text_end: usize) -> [u8; TAG] {
        let end = text_end + 4;
        packet[text_end..end].copy_from_slice(&nonce.rollover_counter().to_be_bytes());
        self.tag(&packet[..end])
    }

    fn tag(&self, authenticated: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.mac, authenticated).as_ref()[..TAG]);
        tag
    }

    /// Encrypts or decrypts: salt × 2^16 ⊕ source × 2^64 ⊕ index × 2^16 starts the counter
    /// (RFC 3711 §4.1.1).
    fn apply(&self, nonce: NonceInput, text: &mut [u8]) {
        let counter = (*self.salt ^ nonce.to_number()) << 16;
        apply_key_stream(&self.cipher, counter.to_be_bytes(), text);
    }
}

/// Adds the key stream that starts at `counter`.
pub(super) fn apply_key_stream(key: &EncryptingKey, counter: [u8; 16], text: &mut [u8]) {
    let context = EncryptionContext::Iv128(FixedLength::from(counter));
    key.less_safe_encrypt(text, context)
        .expect("counter mode takes any length and a 16-byte counter");
}

/// Takes as long wherever the tags differ.
fn verify(computed: &[u8], received: &[u8]) -> Result<(), OpenError> {
    constant_time::verify_slices_are_equal(computed, received)
        .map_err(|_| OpenError::Unauthenticated)
}

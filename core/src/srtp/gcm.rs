//! AES-GCM (RFC 7714): authenticated encryption with a 16-byte tag.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::RTCP_CLEAR_BYTES;
use super::inbound::OpenError;
use super::suite::{NonceInput, number};

pub(super) struct Gcm {
    /// Zeroised by the library.
    key: LessSafeKey,
    /// Its 12 bytes as a number.
    salt: Zeroizing<u128>,
}

impl Gcm {
    pub(super) const TAG_BYTES: usize = 16;

    /// `key` must have 16 or 32 bytes.
    pub(super) fn new(key: &[u8], salt: &[u8; 12]) -> Self {
        let algorithm = if key.len() == 32 {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = UnboundKey::new(algorithm, key).expect("AES takes any key of its length");
        Self {
            key: LessSafeKey::new(key),
            salt: Zeroizing::new(number(salt)),
        }
    }

    #[inline(always)]
    pub(super) fn open_rtp(
        &self,
        nonce: NonceInput,
        packet: &mut [u8],
        header_len: usize,
    ) -> Result<usize, OpenError> {
        let (header, body) = packet
            .split_at_mut_checked(header_len)
            .ok_or(OpenError::Short)?;
        let (text, tag) = body
            .split_last_chunk_mut::<{ Self::TAG_BYTES }>()
            .ok_or(OpenError::Short)?;
        self.open(nonce, header, tag, text)?;
        Ok(header_len + text.len())
    }

    #[inline]
    pub(super) fn seal_rtp(
        &self,
        nonce: NonceInput,
        out: &mut [u8],
        header_len: usize,
        prefix: &[u8],
        payload: &[u8],
    ) {
        let (header, body) = out.split_at_mut(header_len);
        let (text, tag) = body.split_at_mut(prefix.len() + payload.len());
        if prefix.is_empty() {
            // Straight from the receive buffer: 30 % cheaper than a copy sealed in place, whose
            // freshly stored bytes the cipher must wait for (71 against 102 ns, measured 2026-11).
            self.key
                .seal_out_of_place_scatter(
                    self.nonce(nonce),
                    Aad::from(&*header),
                    payload,
                    text,
                    &[],
                    tag,
                )
                .expect("the lengths agree and are below 64 GiB");
        } else {
            text[..prefix.len()].copy_from_slice(prefix);
            text[prefix.len()..].copy_from_slice(payload);
            self.seal(nonce, header, text, tag);
        }
    }

    pub(super) fn open_rtcp(
        &self,
        nonce: NonceInput,
        packet: &mut [u8],
    ) -> Result<usize, OpenError> {
        let (packet, index_word) = packet.split_last_chunk_mut::<4>().ok_or(OpenError::Short)?;
        let (clear, body) = packet
            .split_at_mut_checked(RTCP_CLEAR_BYTES)
            .ok_or(OpenError::Short)?;
        let (text, tag) = body
            .split_last_chunk_mut::<{ Self::TAG_BYTES }>()
            .ok_or(OpenError::Short)?;
        self.open(nonce, &rtcp_associated(clear, *index_word), tag, text)?;
        Ok(RTCP_CLEAR_BYTES + text.len())
    }

    pub(super) fn seal_rtcp(&self, nonce: NonceInput, index_word: [u8; 4], out: &mut [u8]) {
        let text_len = out.len() - RTCP_CLEAR_BYTES - Self::TAG_BYTES - index_word.len();
        let (clear, body) = out.split_at_mut(RTCP_CLEAR_BYTES);
        let (text, trailer) = body.split_at_mut(text_len);
        let (tag, index) = trailer.split_at_mut(Self::TAG_BYTES);
        index.copy_from_slice(&index_word);
        self.seal(nonce, &rtcp_associated(clear, index_word), text, tag);
    }

    /// The library takes the tag before the text, both as bytes: swapped, it compiles and refuses.
    #[inline]
    fn open(
        &self,
        nonce: NonceInput,
        associated: &[u8],
        tag: &[u8; Self::TAG_BYTES],
        text: &mut [u8],
    ) -> Result<(), OpenError> {
        match self.key.open_in_place_separate_tag(
            self.nonce(nonce),
            Aad::from(associated),
            tag,
            text,
        ) {
            Ok(_) => Ok(()),
            Err(_) => Err(OpenError::Unauthenticated),
        }
    }

    fn seal(&self, nonce: NonceInput, associated: &[u8], text: &mut [u8], tag: &mut [u8]) {
        self.key
            .seal_in_place_scatter(self.nonce(nonce), Aad::from(associated), text, &[], tag)
            .expect("the tag has its length and the text is below 64 GiB");
    }

    /// Two zero bytes, source and index, over the salt (RFC 7714 §8.1, §9.1).
    #[inline]
    fn nonce(&self, input: NonceInput) -> Nonce {
        let number = *self.salt ^ input.to_number();
        // In two parts, each a store: as one array of 16 bytes, of which 12 are copied, it takes 40 instructions more.
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&((number >> 64) as u32).to_be_bytes());
        nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The clear bytes and the index word (RFC 7714 §9.3).
fn rtcp_associated(clear: &[u8], index_word: [u8; 4]) -> [u8; RTCP_CLEAR_BYTES + 4] {
    let mut associated = [0; RTCP_CLEAR_BYTES + 4];
    associated[..RTCP_CLEAR_BYTES].copy_from_slice(clear);
    associated[RTCP_CLEAR_BYTES..].copy_from_slice(&index_word);
    associated
}

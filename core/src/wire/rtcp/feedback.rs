//! Feedback messages: generic NACK, picture loss, full intra request, bitrate (RFC 4585, RFC 5104).

use std::iter;

use crate::wire::ParseError;
use crate::wire::bytes::Reader;

use super::{CompoundWriter, PAYLOAD_FEEDBACK, TRANSPORT_FEEDBACK};

/// Formats of [`TRANSPORT_FEEDBACK`].
pub(super) const NACK: u8 = 1;
/// Formats of [`PAYLOAD_FEEDBACK`].
pub(super) const PICTURE_LOSS_INDICATION: u8 = 1;
pub(super) const FULL_INTRA_REQUEST: u8 = 4;
pub(super) const APPLICATION: u8 = 15;

/// Sender and media source, which begin every feedback message.
const SOURCES_BYTES: usize = 8;
const REMB_NAME: [u8; 4] = *b"REMB";

/// Generic NACK: packets the receiver misses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    /// The source whose packets are missing.
    pub media_ssrc: u32,
    items: &'a [[u8; 4]],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let (sender_ssrc, media_ssrc) = (reader.u32()?, reader.u32()?);
        let (items, rest) = reader.rest().as_chunks();
        if !rest.is_empty() {
            return Err(ParseError::Length);
        }
        Ok(Self {
            sender_ssrc,
            media_ssrc,
            items,
        })
    }

    /// The sequence numbers missing: at most 17 for each four bytes of the message.
    pub fn lost(&self) -> impl Iterator<Item = u16> + Clone + use<'a> {
        self.items.iter().flat_map(|&[p0, p1, b0, b1]| {
            let first = u16::from_be_bytes([p0, p1]);
            let following = u16::from_be_bytes([b0, b1]);
            let later = (0..16_u16).filter(move |bit| following >> bit & 1 != 0);
            iter::once(first).chain(later.map(move |bit| first.wrapping_add(bit).wrapping_add(1)))
        })
    }
}

/// Picture loss indication: the receiver cannot decode and wants a key picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLossIndication {
    /// Who asks.
    pub sender_ssrc: u32,
    /// The source of the pictures.
    pub media_ssrc: u32,
}

impl PictureLossIndication {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            sender_ssrc: reader.u32()?,
            media_ssrc: reader.u32()?,
        })
    }
}

/// Full intra request: key pictures wanted of the sources listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullIntraRequest<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    entries: &'a [[u8; 8]],
}

/// One source of a [`FullIntraRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullIntraEntry {
    /// The source a key picture is wanted of.
    pub media_ssrc: u32,
    /// Number of the request: the same number is the same request, repeated.
    pub sequence_number: u8,
}

impl<'a> FullIntraRequest<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let sender_ssrc = reader.u32()?;
        // Unused: the entries name the sources (RFC 5104 §4.3.1.2).
        reader.u32()?;
        let (entries, rest) = reader.rest().as_chunks();
        if !rest.is_empty() {
            return Err(ParseError::Length);
        }
        Ok(Self {
            sender_ssrc,
            entries,
        })
    }

    /// The sources asked.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = FullIntraEntry> + Clone + use<'a> {
        self.entries
            .iter()
            .map(|&[a, b, c, d, sequence_number, ..]| FullIntraEntry {
                media_ssrc: u32::from_be_bytes([a, b, c, d]),
                sequence_number,
            })
    }
}

/// Receiver estimated maximum bitrate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender_ssrc: u32,
    /// Bits a second, all sources together; `u64::MAX` when the message says more.
    pub bitrate: u64,
    ssrcs: &'a [[u8; 4]],
}

pub(super) fn is_remb(body: &[u8]) -> bool {
    body.get(SOURCES_BYTES..)
        .is_some_and(|rest| rest.starts_with(&REMB_NAME))
}

impl<'a> Remb<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let sender_ssrc = reader.u32()?;
        // Unused source, always zero; and the name, checked before.
        reader.u32()?;
        reader.u32()?;
        let count = usize::from(reader.u8()?);
        let rate = reader.u24()?;
        let (exponent, mantissa) = (rate >> 18, rate & 0x3_ffff);
        // 18 bits shifted by at most 63 fit 128.
        let bitrate = u64::try_from(u128::from(mantissa) << exponent).unwrap_or(u64::MAX);
        Ok(Self {
            sender_ssrc,
            bitrate,
            ssrcs: reader.chunks(count)?,
        })
    }

    /// The sources the estimate is for.
    pub fn ssrcs(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        self.ssrcs.iter().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

impl CompoundWriter<'_> {
    /// Appends a generic NACK. Numbers in ascending order (wrapping) pack best, 17 to four bytes.
    /// An empty list writes nothing and fits.
    #[must_use]
    pub fn nack(&mut self, sender_ssrc: u32, media_ssrc: u32, lost: &[u16]) -> bool {
        let items = nack_items(lost);
        let count = items.clone().count();
        if count == 0 {
            return true;
        }
        let body_len = count.saturating_mul(4).saturating_add(SOURCES_BYTES);
        self.packet(usize::from(NACK), TRANSPORT_FEEDBACK, body_len, |writer| {
            writer.u32(sender_ssrc);
            writer.u32(media_ssrc);
            for (first, following) in items {
                writer.u16(first);
                writer.u16(following);
            }
        })
    }

    /// Appends a picture loss indication.
    #[must_use]
    pub fn picture_loss_indication(&mut self, sender_ssrc: u32, media_ssrc: u32) -> bool {
        let format = usize::from(PICTURE_LOSS_INDICATION);
        self.packet(format, PAYLOAD_FEEDBACK, SOURCES_BYTES, |writer| {
            writer.u32(sender_ssrc);
            writer.u32(media_ssrc);
        })
    }

    /// Appends a full intra request of one source.
    #[must_use]
    pub fn full_intra_request(&mut self, sender_ssrc: u32, entry: FullIntraEntry) -> bool {
        let format = usize::from(FULL_INTRA_REQUEST);
        self.packet(
            format,
            PAYLOAD_FEEDBACK,
            SOURCES_BYTES.saturating_add(8),
            |writer| {
                writer.u32(sender_ssrc);
                writer.u32(0);
                writer.u32(entry.media_ssrc);
                writer.put([entry.sequence_number, 0, 0, 0]);
            },
        )
    }
}

/// `lost` as pairs of a number and a mask of those up to 16 after it.
fn nack_items(mut lost: &[u16]) -> impl Iterator<Item = (u16, u16)> + Clone {
    iter::from_fn(move || {
        let (&first, mut rest) = lost.split_first()?;
        let mut following = 0;
        while let Some((&next, after)) = rest.split_first() {
            match next.wrapping_sub(first) {
                0 => {}
                distance @ 1..=16 => following |= 1 << distance.wrapping_sub(1),
                _ => break,
            }
            rest = after;
        }
        lost = rest;
        Some((first, following))
    })
}

//! RTP packets (RFC 3550 §5.1) and their header extensions (RFC 8285).
//!
//! The header is never encrypted, so [`Header::parse`] serves before SRTP is opened; the payload
//! and its padding mean something only after.

use super::ParseError;
use super::bytes::{Reader, Writer};

/// Bytes of a header without contributing sources and extensions.
pub const FIXED_HEADER_BYTES: usize = 12;
/// Profile and length, before extension elements.
const EXTENSION_HEAD_BYTES: usize = 4;

/// Profile of the one-byte form (RFC 8285 §4.2).
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile of the two-byte form (RFC 8285 §4.3); the low four bits are for the application.
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// The header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 0 to 127.
    pub payload_type: u8,
    /// Last packet of a picture; first packet after a silence.
    pub marker: bool,
    /// The payload, once opened, ends in padding.
    pub padding: bool,
    /// Grows by one a packet and wraps.
    pub sequence_number: u16,
    /// Media time in units of the codec's clock rate.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources listed, 0 to 15.
    pub csrc_count: u8,
    /// Bytes of the whole header, contributing sources and extensions included; never more than
    /// the packet it was parsed from.
    pub len: usize,
    form: Form,
    /// Bytes of extension elements; they end the header.
    extensions_len: usize,
}

/// How extension elements are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// No extensions, or of a profile unknown to us.
    None,
    OneByte,
    TwoByte,
}

impl Header {
    /// Reads the header at the front of a packet.
    ///
    /// # Errors
    /// When the version is not 2, or the packet ends inside its header.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let (fixed, _) = packet
            .split_first_chunk::<FIXED_HEADER_BYTES>()
            .ok_or(ParseError::Truncated)?;
        let [first, second, sequence @ .., t0, t1, t2, t3, s0, s1, s2, s3] = *fixed;
        if first >> 6 != 2 {
            return Err(ParseError::Version);
        }
        let csrc_count = first & 0x0f;
        let start = FIXED_HEADER_BYTES.saturating_add(usize::from(csrc_count) << 2);
        let rest = packet.get(start..).ok_or(ParseError::Truncated)?;
        let (form, len, extensions_len) = if first & 0x10 != 0 {
            let (form, extensions_len) = extension_block(rest)?;
            let len = start.saturating_add(EXTENSION_HEAD_BYTES);
            (form, len.saturating_add(extensions_len), extensions_len)
        } else {
            (Form::None, start, 0)
        };
        Ok(Self {
            payload_type: second & 0x7f,
            marker: second & 0x80 != 0,
            padding: first & 0x20 != 0,
            sequence_number: u16::from_be_bytes(sequence),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            csrc_count,
            len,
            form,
            extensions_len,
        })
    }

    /// The extension elements of the packet this header was parsed from, in order.
    /// Elements that run over the end are not given, nor is anything after them.
    #[inline]
    #[must_use]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let start = self.len.saturating_sub(self.extensions_len);
        Extensions {
            form: self.form,
            elements: Reader::new(packet.get(start..self.len).unwrap_or_default()),
        }
    }

    /// The first extension element with `id`.
    #[inline]
    #[must_use]
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet)
            .find(|&(found, _)| found == id)
            .map(|(_, value)| value)
    }

    /// The payload of an opened packet, without padding. Empty when the packet is only padding.
    ///
    /// # Errors
    /// When the padding count is zero or exceeds the payload.
    #[inline]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], ParseError> {
        let payload = packet.get(self.len..).ok_or(ParseError::Truncated)?;
        if !self.padding {
            return Ok(payload);
        }
        without_padding(payload)
    }
}

/// How the elements of the block at the front of `packet` are laid out, and how many bytes they are.
#[inline]
fn extension_block(packet: &[u8]) -> Result<(Form, usize), ParseError> {
    let (head, elements) = packet
        .split_first_chunk::<EXTENSION_HEAD_BYTES>()
        .ok_or(ParseError::Truncated)?;
    let head = u32::from_be_bytes(*head);
    let len = ((head & 0xffff) as usize) << 2;
    if len > elements.len() {
        return Err(ParseError::Truncated);
    }
    let form = match (head >> 16) as u16 {
        ONE_BYTE_PROFILE => Form::OneByte,
        profile if profile & 0xfff0 == TWO_BYTE_PROFILE => Form::TwoByte,
        _ => Form::None,
    };
    Ok((form, len))
}

/// `padded` less as many bytes as its last byte says (RFC 3550 §5.1).
pub(super) fn without_padding(padded: &[u8]) -> Result<&[u8], ParseError> {
    let count = usize::from(*padded.last().ok_or(ParseError::Padding)?);
    match padded.len().checked_sub(count) {
        Some(len) if count > 0 => padded.get(..len).ok_or(ParseError::Padding),
        _ => Err(ParseError::Padding),
    }
}

/// Extension elements as (id, value); see [`Header::extensions`].
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    form: Form,
    elements: Reader<'a>,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let element = match self.form {
            Form::None => None,
            Form::OneByte => next_one_byte(&mut self.elements),
            Form::TwoByte => next_two_byte(&mut self.elements),
        };
        if element.is_none() {
            self.form = Form::None;
        }
        element
    }
}

#[inline]
fn next_one_byte<'a>(elements: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    loop {
        let head = elements.u8().ok()?;
        match head >> 4 {
            // Padding between elements.
            0 => {}
            // Reserved: nothing from here on may be read (RFC 8285 §4.2).
            15 => return None,
            id => {
                let len = usize::from(head & 0x0f).saturating_add(1);
                return Some((id, elements.bytes(len).ok()?));
            }
        }
    }
}

#[inline]
fn next_two_byte<'a>(elements: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    loop {
        let id = elements.u8().ok()?;
        // Padding is a single zero byte, without a length (RFC 8285 §4.3).
        if id != 0 {
            let len = usize::from(elements.u8().ok()?);
            return Some((id, elements.bytes(len).ok()?));
        }
    }
}

/// What a sender chooses of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// 0 to 127; the top bit is ignored.
    pub payload_type: u8,
    /// See [`Header::marker`].
    pub marker: bool,
    /// See [`Header::sequence_number`].
    pub sequence_number: u16,
    /// See [`Header::timestamp`].
    pub timestamp: u32,
    /// See [`Header::ssrc`].
    pub ssrc: u32,
}

/// Writes a header without contributing sources and without the padding bit; gives its length.
///
/// Extensions are in the one-byte form when each id is 1 to 14 and each value 1 to 16 bytes, else
/// all in the two-byte form, which a peer must have agreed to (RFC 8285 §4.1.2).
///
/// `None` when `out` is too short, or when an id is 0 or a value exceeds 255 bytes; `out` is then
/// unchanged.
#[inline]
#[must_use]
pub fn write_header(
    out: &mut [u8],
    fields: &HeaderFields,
    extensions: &[(u8, &[u8])],
) -> Option<usize> {
    let mut one_byte = true;
    let mut values_len = 0_usize;
    for &(id, value) in extensions {
        if id == 0 || value.len() > 255 {
            return None;
        }
        one_byte &= id <= 14 && (1..=16).contains(&value.len());
        values_len = values_len.checked_add(value.len())?;
    }
    let heads_len = if one_byte {
        extensions.len()
    } else {
        extensions.len().checked_mul(2)?
    };
    let elements_len = values_len
        .checked_add(heads_len)?
        .checked_next_multiple_of(4)?;
    let words = u16::try_from(elements_len >> 2).ok()?;
    let block_len = if extensions.is_empty() {
        0
    } else {
        elements_len.checked_add(4)?
    };
    let len = FIXED_HEADER_BYTES.checked_add(block_len)?;
    let mut writer = Writer::new(out.get_mut(..len)?);

    let first = if extensions.is_empty() { 0x80 } else { 0x90 };
    let second = fields.payload_type & 0x7f | u8::from(fields.marker) << 7;
    let [n0, n1] = fields.sequence_number.to_be_bytes();
    writer.put([first, second, n0, n1]);
    writer.u64(u64::from(fields.timestamp) << 32 | u64::from(fields.ssrc));
    if !extensions.is_empty() {
        writer.u16(if one_byte {
            ONE_BYTE_PROFILE
        } else {
            TWO_BYTE_PROFILE
        });
        writer.u16(words);
        for &(id, value) in extensions {
            // Checked above: at most 255.
            let value_len = value.len() as u8;
            if one_byte {
                writer.u8(id << 4 | value_len.wrapping_sub(1));
            } else {
                writer.put([id, value_len]);
            }
            // Values are a byte or two: a call to copy them would cost more than they do.
            for byte in value {
                writer.u8(*byte);
            }
        }
        while !writer.is_full() {
            writer.u8(0);
        }
    }
    Some(len)
}

/// Loudness of one packet (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// Decibels below overload, 0 (loudest) to 127 (silence).
    pub level_dbov: u8,
    /// The sender says it is speech.
    pub voice: bool,
}

impl AudioLevel {
    /// Reads the value of an audio level element; `None` when it has no byte.
    #[inline]
    #[must_use]
    pub const fn from_extension(value: &[u8]) -> Option<Self> {
        match *value {
            [byte, ..] => Some(Self {
                level_dbov: byte & 0x7f,
                voice: byte & 0x80 != 0,
            }),
            [] => None,
        }
    }

    /// The value of an audio level element.
    #[must_use]
    pub const fn to_extension(self) -> [u8; 1] {
        [self.level_dbov & 0x7f | (self.voice as u8) << 7]
    }
}

/// Reads a transport-wide sequence number; `None` when it is not two bytes.
#[inline]
#[must_use]
pub fn transport_sequence(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

/// Reads an `abs-send-time`: seconds in 6.18 fixed point, wrapping each 64 s; `None` when it is not
/// three bytes.
#[inline]
#[must_use]
pub const fn abs_send_time(value: &[u8]) -> Option<u32> {
    match *value {
        [a, b, c] => Some(u32::from_be_bytes([0, a, b, c])),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! As much of STUN (RFC 8489) as finding a session needs. The ICE agent parses and checks the rest.

use std::str;

use crc::{CRC_32_ISO_HDLC, Crc};

use crate::limits::STUN_ATTRIBUTES_MAX;

use super::ParseError;
use super::bytes::Reader;

const BINDING_REQUEST: u16 = 0x0001;
pub(crate) const MAGIC_COOKIE: u32 = 0x2112_a442;
const TRANSACTION_ID_BYTES: usize = 12;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
/// Type and length of FINGERPRINT, which is the last attribute where it is (RFC 8489 §14.7).
const FINGERPRINT: [u8; 4] = [0x80, 0x28, 0, 4];
const FINGERPRINT_XOR: u32 = 0x5354_554e;
static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Our user name fragment in a connectivity check: what stands before the colon of USERNAME
/// (RFC 8445 §7.2.2). It is a claim: the message is not authenticated here.
///
/// `None`: sound as far as read, but not a binding request, or one without such a name; only the
/// address it came from can say whose it is.
///
/// # Errors
/// When it is not STUN, when a length is wrong, when the name is not UTF-8, or when more than
/// [`STUN_ATTRIBUTES_MAX`] attributes stand before the name.
pub fn local_ufrag(datagram: &[u8]) -> Result<Option<&str>, ParseError> {
    let mut reader = Reader::new(datagram);
    let message_type = reader.u16()?;
    let length = usize::from(reader.u16()?);
    if message_type >> 14 != 0 || reader.u32()? != MAGIC_COOKIE {
        return Err(ParseError::Version);
    }
    reader.bytes(TRANSACTION_ID_BYTES)?;
    // Attributes are padded to four bytes, so the length is too (RFC 8489 §5), and over UDP a
    // message is the whole datagram.
    if length % 4 != 0 || length != reader.rest().len() {
        return Err(ParseError::Length);
    }
    if message_type != BINDING_REQUEST {
        return Ok(None);
    }
    let Some(username) = find_username(reader)? else {
        return Ok(None);
    };
    match username.iter().position(|&byte| byte == b':') {
        Some(colon) => {
            let ufrag = username.get(..colon).unwrap_or_default();
            str::from_utf8(ufrag)
                .map(Some)
                .map_err(|_| ParseError::Text)
        }
        None => Ok(None),
    }
}

/// Whether a message carries a FINGERPRINT that is not its sum: such a message is to be discarded in silence
/// (RFC 8489 §7.3), whatever its integrity. One without is not STUN's to refuse.
#[must_use]
pub fn has_wrong_fingerprint(datagram: &[u8]) -> bool {
    let Some((message, &[a, b, c, d])) = datagram.split_last_chunk() else {
        return false;
    };
    message.strip_suffix(&FINGERPRINT).is_some_and(|covered| {
        CRC.checksum(covered) ^ FINGERPRINT_XOR != u32::from_be_bytes([a, b, c, d])
    })
}

fn find_username(mut attributes: Reader<'_>) -> Result<Option<&[u8]>, ParseError> {
    for _ in 0..STUN_ATTRIBUTES_MAX {
        if attributes.is_empty() {
            return Ok(None);
        }
        let attribute_type = attributes.u16()?;
        let length = usize::from(attributes.u16()?);
        let value = attributes.bytes(length)?;
        match attribute_type {
            USERNAME => return Ok(Some(value)),
            // What follows is not covered by the check and must be ignored (RFC 8489 §14.5).
            MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => return Ok(None),
            _ => {}
        }
        attributes.bytes(length.wrapping_neg() % 4)?;
    }
    Err(ParseError::TooMany)
}

#[cfg(test)]
mod tests;

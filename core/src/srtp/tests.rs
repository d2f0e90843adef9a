//! Vectors and captures by others first, then properties.

use serde_json::Value;

use super::RtpPosition;
use crate::message::ProfileName;
use crate::testing::unhex;

mod captures;
mod properties;
mod vectors;

const PROFILES: [ProfileName; 3] = [
    ProfileName::AeadAes256Gcm,
    ProfileName::AeadAes128Gcm,
    ProfileName::Aes128CmSha1_80,
];

/// The bytes of a hexadecimal field.
fn field(value: &Value, name: &str) -> Vec<u8> {
    unhex(
        value[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {value}")),
    )
}

/// Enough of an RTP header parser for SRTP (RFC 3550 §5.1).
fn position(packet: &[u8]) -> Option<RtpPosition> {
    let fixed = packet.first_chunk::<12>()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut header_len = 12 + 4 * usize::from(fixed[0] & 15);
    if fixed[0] & 0x10 != 0 {
        let extension = packet.get(header_len..header_len + 4)?;
        header_len += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
    }
    (header_len <= packet.len()).then(|| RtpPosition {
        ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
        header_len,
    })
}

/// Master key and salt of a profile, all bytes `fill`.
fn master(profile: ProfileName, fill: u8) -> (Vec<u8>, Vec<u8>) {
    let (key, salt) = match profile {
        ProfileName::AeadAes256Gcm => (32, 12),
        ProfileName::AeadAes128Gcm => (16, 12),
        ProfileName::Aes128CmSha1_80 => (16, 14),
    };
    (vec![fill; key], vec![fill ^ 0x5a; salt])
}

/// A plain header of 12 bytes.
fn header(ssrc: u32, sequence_number: u16) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = 0x80;
    header[1] = 96;
    header[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    header[8..].copy_from_slice(&ssrc.to_be_bytes());
    header
}

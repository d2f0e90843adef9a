//! Wire formats: checked views of what peers send, and writers for what we send.
//!
//! Every parser is a plain function on `&[u8]`: total, bounded by the length of its input, without
//! allocation and without panics whatever the bytes. Nothing here authenticates anything; STUN
//! integrity, DTLS and SRTP do that elsewhere.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use thiserror::Error;

pub(crate) mod bytes;
pub mod payload;
pub mod rtcp;
pub mod rtp;
pub mod stun;

/// Why bytes are not the message they claim to be. Blames the peer or the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A length field disagrees with the bytes around it.
    #[error("a length field disagrees with the bytes around it")]
    Length,
    /// Not the version of the protocol we speak, or no magic cookie.
    #[error("not the protocol it claims to be")]
    Version,
    /// The padding count is zero or exceeds what there is to pad.
    #[error("the padding count is out of range")]
    Padding,
    /// Text that is not UTF-8.
    #[error("text is not utf-8")]
    Text,
    /// A value the format reserves, where a meaning is needed to go on.
    #[error("a reserved value")]
    Reserved,
    /// More elements than the limit.
    #[error("more elements than the limit")]
    TooMany,
}

/// What a datagram is by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// STUN (RFC 8489).
    Stun,
    /// DTLS (RFC 6347, RFC 9147).
    Dtls,
    /// RTP or SRTP (RFC 3550, RFC 3711).
    Rtp,
    /// RTCP or SRTCP on the same port (RFC 5761).
    Rtcp,
    /// Nothing we speak: ZRTP, TURN channels, QUIC, noise, or no byte at all.
    Unknown,
}

/// Sorts a datagram by its first byte (RFC 7983 §7), and RTP from RTCP by its second (RFC 5761 §4).
#[inline]
#[must_use]
pub fn classify(datagram: &[u8]) -> Class {
    let Some((first, rest)) = datagram.split_first() else {
        return Class::Unknown;
    };
    // In the order of how often they come.
    match (first, rest.first()) {
        // RTCP packet types 192 to 223 are RTP payload types 64 to 95 with the marker set, which no
        // description may use with a shared port.
        (128..=191, Some(second)) if second & 0xe0 != 0xc0 => Class::Rtp,
        (128..=191, Some(_)) => Class::Rtcp,
        (0..=3, _) => Class::Stun,
        (20..=63, _) => Class::Dtls,
        _ => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7983 §7, figure 3, as a table of its own.
    #[test]
    fn each_first_byte_has_the_class_of_rfc_7983() {
        let table = [
            (0..=3, Class::Stun),
            (4..=15, Class::Unknown),
            (16..=19, Class::Unknown),
            (20..=63, Class::Dtls),
            (64..=79, Class::Unknown),
            (80..=127, Class::Unknown),
            (128..=191, Class::Rtp),
            (192..=255, Class::Unknown),
        ];
        let mut seen = 0;
        for (range, class) in table {
            for first in range {
                assert_eq!(classify(&[first, 0, 0, 0]), class, "first byte {first}");
                seen += 1;
            }
        }
        assert_eq!(seen, 256, "the table covers each byte once");
    }

    #[test]
    fn each_second_byte_splits_rtp_from_rtcp() {
        for second in 0..=255 {
            let expected = if (192..=223).contains(&second) {
                Class::Rtcp
            } else {
                Class::Rtp
            };
            assert_eq!(classify(&[0x80, second]), expected, "second byte {second}");
            assert_eq!(classify(&[0xbf, second]), expected, "second byte {second}");
            assert_eq!(classify(&[22, second]), Class::Dtls);
        }
    }

    #[test]
    fn a_datagram_too_short_to_tell_is_unknown() {
        assert_eq!(classify(&[]), Class::Unknown);
        assert_eq!(classify(&[0x80]), Class::Unknown);
        assert_eq!(classify(&[0]), Class::Stun);
    }
}

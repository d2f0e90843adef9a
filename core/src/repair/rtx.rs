//! The retransmission payload (RFC 4588 §4): the original sequence number, then the original payload.

/// Bytes in front of the original payload.
pub const PREFIX_BYTES: usize = 2;

/// What goes in front of the original payload when it is sent again.
#[must_use]
pub const fn prefix(original_sequence: u16) -> [u8; PREFIX_BYTES] {
    original_sequence.to_be_bytes()
}

/// Splits a retransmission into the original sequence number and payload.
///
/// `None`: it repairs nothing. Senders probe for bandwidth with retransmission packets of padding
/// only; what remains once the padding is off is empty, or a number alone.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (number, original) = payload.split_first_chunk::<PREFIX_BYTES>()?;
    (!original.is_empty()).then_some((u16::from_be_bytes(*number), original))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probes_repair_nothing() {
        for probe in [&[][..], &[0x12], &[0x12, 0x34]] {
            assert_eq!(parse(probe), None);
        }
    }

    #[test]
    fn the_number_is_big_endian() {
        assert_eq!(prefix(0x1234), [0x12, 0x34]);
        assert_eq!(parse(&[0x12, 0x34, 0x56]), Some((0x1234, &[0x56][..])));
    }

    proptest! {
        #[test]
        fn what_was_wrapped_comes_back_byte_for_byte(
            number: u16,
            payload in prop::collection::vec(any::<u8>(), 1..1_200),
        ) {
            let wrapped = [&prefix(number)[..], &payload].concat();
            prop_assert_eq!(parse(&wrapped), Some((number, &payload[..])));
        }
    }
}

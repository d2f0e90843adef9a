//! The user name fragment *is* the address of a session (E5): any shard can tell from a STUN check whose it is.
//!
//! 80 bits as 16 characters: version (4), shard (12), slot (24), restart count (8), random tag (32). The tag
//! makes fragments unguessable; a session compares the whole fragment with its own, so no keyed MAC is needed
//! to refuse a forged one, and the check's MESSAGE-INTEGRITY is what authenticates.

use crate::ids::ShardId;
use crate::rng::Rng;

/// Characters of a fragment; RFC 8445 §5.3 wants at least 4.
const LEN: usize = 16;
const VERSION: u128 = 1;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SLOT_BITS: u32 = 24;

/// Slots a fragment can name.
pub(crate) const SLOTS_MAX: u32 = 1 << SLOT_BITS;

/// What a fragment says about its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) shard: ShardId,
    pub(crate) slot: u32,
    /// Count of ICE restarts, modulo 256.
    pub(crate) restarts: u8,
}

impl Address {
    /// The fragment for this address, with a tag from the private stream.
    pub(crate) fn encode(self, rng: &mut Rng) -> String {
        let bits = VERSION << 76
            | u128::from(self.shard.0 & 0xfff) << 64
            | u128::from(self.slot & (SLOTS_MAX - 1)) << 40
            | u128::from(self.restarts) << 32
            | u128::from(rng.u32());
        (0..LEN)
            .rev()
            .map(|place| char::from(ALPHABET[(bits >> (5 * place)) as usize & 31]))
            .collect()
    }

    /// The address in a fragment; `None` when it is none of ours.
    pub(crate) fn decode(ufrag: &str) -> Option<Self> {
        if ufrag.len() != LEN {
            return None;
        }
        let mut bits = 0_u128;
        for byte in ufrag.bytes() {
            let digit = match byte {
                b'a'..=b'z' => byte - b'a',
                b'2'..=b'7' => byte - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u128::from(digit);
        }
        (bits >> 76 == VERSION).then_some(Self {
            shard: ShardId((bits >> 64) as u16 & 0xfff),
            slot: (bits >> 40) as u32 & (SLOTS_MAX - 1),
            restarts: (bits >> 32) as u8,
        })
    }
}

/// An ICE password: 130 random bits as 26 characters (RFC 8445 §5.3 wants 128 bits and 22 characters).
pub(crate) fn password(rng: &mut Rng) -> String {
    (0..26)
        .map(|_| char::from(ALPHABET[rng.below(32) as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    #[test]
    fn an_address_survives_the_trip_through_its_fragment() {
        let mut rng = Seed::new([3; 32]).rng();
        for address in [
            Address {
                shard: ShardId(0),
                slot: 0,
                restarts: 0,
            },
            Address {
                shard: ShardId(4_095),
                slot: SLOTS_MAX - 1,
                restarts: 255,
            },
            Address {
                shard: ShardId(7),
                slot: 123_456,
                restarts: 1,
            },
        ] {
            let ufrag = address.encode(&mut rng);
            assert_eq!(ufrag.len(), LEN);
            assert_eq!(Address::decode(&ufrag), Some(address));
            assert_ne!(ufrag, address.encode(&mut rng), "the tag differs each time");
        }
    }

    #[test]
    fn other_peoples_fragments_are_not_ours() {
        for ufrag in [
            "",
            "abcd",
            "ABCDEFGHIJKLMNOP",
            "aaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaa\u{e9}",
        ] {
            assert_eq!(Address::decode(ufrag), None, "{ufrag}");
        }
    }
}

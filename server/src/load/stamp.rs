//! What a packet carries in place of sound.

use antiphon_core::time::Timestamp;

const STAMP_BYTES: usize = 16;
/// An Opus packet of one empty frame with padding (RFC 6716 §3.2.5): what a decoder plays as silence.
const HEAD: [u8; 2] = [0xfb, 0x41];
/// A stamp behind the three bytes of an Opus packet that is all padding.
pub const PAYLOAD_BYTES_MIN: usize = 3 + STAMP_BYTES;
/// One length byte counts at most 254 bytes of padding.
pub const PAYLOAD_BYTES_MAX: usize = 3 + 254;

/// In the place of a packet's number: it is of those before a session is connected, which nobody counts.
pub(super) const GREETING: u32 = u32::MAX;

/// Who sent a packet, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Number of the session.
    pub(super) session: u32,
    /// Number of the packet.
    pub(super) packet: u32,
    /// When it was sent, on the sender's clock.
    pub(super) sent: Timestamp,
}

impl Stamp {
    /// Writes it into a payload of [`PAYLOAD_BYTES_MIN`] to [`PAYLOAD_BYTES_MAX`] bytes; what is behind it stays.
    pub(super) fn write(&self, payload: &mut [u8]) {
        let padding = (payload.len() - 3) as u8;
        payload[..2].copy_from_slice(&HEAD);
        payload[2] = padding;
        payload[3..7].copy_from_slice(&self.session.to_be_bytes());
        payload[7..11].copy_from_slice(&self.packet.to_be_bytes());
        payload[11..19].copy_from_slice(&self.sent.as_nanos().to_be_bytes());
    }

    /// Reads it back; `None` when this packet is not of our making.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let stamp: &[u8; STAMP_BYTES] = payload.strip_prefix(&HEAD)?.get(1..)?.first_chunk()?;
        let [session @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *stamp;
        let [_, _, _, _, packet @ .., _, _, _, _, _, _, _, _] = *stamp;
        let [_, _, _, _, _, _, _, _, sent @ ..] = *stamp;
        Some(Self {
            session: u32::from_be_bytes(session),
            packet: u32::from_be_bytes(packet),
            sent: Timestamp::from_nanos(u64::from_be_bytes(sent)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_at_every_size_and_foreign_packets_have_none() {
        let stamp = Stamp {
            session: 7,
            packet: 70_000,
            sent: Timestamp::from_nanos(1 << 40),
        };
        for bytes in [PAYLOAD_BYTES_MIN, 80, PAYLOAD_BYTES_MAX] {
            let mut payload = vec![0; bytes];
            stamp.write(&mut payload);
            assert_eq!(Stamp::read(&payload), Some(stamp));
        }
        assert_eq!(Stamp::read(&[0xfb, 0x41, 9, 1]), None);
        assert_eq!(Stamp::read(b"\xfc and more than sixteen bytes"), None);
    }
}

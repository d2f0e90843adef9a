//! Building a compound in a caller's buffer.

use crate::wire::bytes::Writer;

use super::{COUNT_MAX, HEADER_BYTES};

/// Appends packets to a datagram. Each method says whether its packet fitted; when it did not, the
/// datagram is as it was. No order is enforced: a compound that is not reduced-size must begin with
/// a report and hold a source description (RFC 3550 §6.1).
#[derive(Debug)]
pub struct CompoundWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> CompoundWriter<'a> {
    /// Starts an empty compound at the front of `out`.
    #[must_use]
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// No packet was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes a header and lets `fill` write exactly `body_len` bytes, a multiple of four.
    pub(super) fn packet(
        &mut self,
        format: usize,
        packet_type: u8,
        body_len: usize,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> bool {
        debug_assert!(body_len.is_multiple_of(4), "packets are made of words");
        let Ok(words) = u16::try_from(body_len >> 2) else {
            return false;
        };
        if format > COUNT_MAX {
            return false;
        }
        let end = self
            .len
            .saturating_add(HEADER_BYTES)
            .saturating_add(body_len);
        let Some(packet) = self.out.get_mut(self.len..end) else {
            return false;
        };
        let mut writer = Writer::new(packet);
        // Checked above: at most 31.
        writer.put([0x80 | format as u8, packet_type]);
        writer.u16(words);
        fill(&mut writer);
        debug_assert!(
            writer.is_full(),
            "the packet was sized for more than was written"
        );
        self.len = end;
        true
    }
}

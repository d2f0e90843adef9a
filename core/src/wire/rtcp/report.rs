//! Sender and receiver reports (RFC 3550 §6.4).

use crate::time::NtpTime;
use crate::wire::ParseError;
use crate::wire::bytes::{Reader, Writer};

use super::{CompoundWriter, RECEIVER_REPORT, SENDER_REPORT};

const BLOCK_BYTES: usize = 24;
const SUMMARY_BYTES: usize = 24;

/// Widest loss the 24 bits of a report block can say.
const CUMULATIVE_LOST_MAX: i32 = 0x7f_ffff;

/// What a sender says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderSummary {
    /// The sender.
    pub ssrc: u32,
    /// Wall time of the report.
    pub ntp: NtpTime,
    /// The same time in RTP units.
    pub rtp_timestamp: u32,
    /// RTP packets sent; wraps.
    pub packets: u32,
    /// Payload bytes sent; wraps.
    pub bytes: u32,
}

/// What a receiver says of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Expected less received since the beginning: negative when duplicates prevail. Written as the
    /// nearest value of 24 bits.
    pub cumulative_lost: i32,
    /// Highest sequence number received, the count of its wraps in the upper 16 bits.
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 when none came.
    pub last_sender_report: u32,
    /// From its arrival to this report, in 65,536ths of a second; 0 when none came.
    pub delay_since_last: u32,
}

impl ReportBlock {
    fn parse(bytes: &[u8; BLOCK_BYTES]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            ssrc: reader.u32()?,
            fraction_lost: reader.u8()?,
            cumulative_lost: sign_extend_24(reader.u24()?),
            highest_sequence: reader.u32()?,
            jitter: reader.u32()?,
            last_sender_report: reader.u32()?,
            delay_since_last: reader.u32()?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let lost = self
            .cumulative_lost
            .clamp(!CUMULATIVE_LOST_MAX, CUMULATIVE_LOST_MAX);
        writer.u32(self.ssrc);
        let [_, a, b, c] = lost.to_be_bytes();
        writer.put([self.fraction_lost, a, b, c]);
        writer.u32(self.highest_sequence);
        writer.u32(self.jitter);
        writer.u32(self.last_sender_report);
        writer.u32(self.delay_since_last);
    }
}

/// The low 24 bits of `value` as a signed number.
pub(super) const fn sign_extend_24(value: u32) -> i32 {
    (value << 8).cast_signed() >> 8
}

/// Sender report; a profile's own extension after the blocks is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// What the sender says of itself.
    pub sender: SenderSummary,
    blocks: &'a [[u8; BLOCK_BYTES]],
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: usize, body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let sender = SenderSummary {
            ssrc: reader.u32()?,
            ntp: NtpTime(reader.u64()?),
            rtp_timestamp: reader.u32()?,
            packets: reader.u32()?,
            bytes: reader.u32()?,
        };
        Ok(Self {
            sender,
            blocks: reader.chunks(count)?,
        })
    }

    /// What the sender says of the sources it receives.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + Clone + use<'a> {
        self.blocks
            .iter()
            .filter_map(|block| ReportBlock::parse(block).ok())
    }
}

/// Receiver report; a profile's own extension after the blocks is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub sender_ssrc: u32,
    blocks: &'a [[u8; BLOCK_BYTES]],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: usize, body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            sender_ssrc: reader.u32()?,
            blocks: reader.chunks(count)?,
        })
    }

    /// What the sender says of the sources it receives.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + Clone + use<'a> {
        self.blocks
            .iter()
            .filter_map(|block| ReportBlock::parse(block).ok())
    }
}

impl CompoundWriter<'_> {
    /// Appends a sender report with up to 31 blocks.
    #[must_use]
    pub fn sender_report(&mut self, sender: &SenderSummary, blocks: &[ReportBlock]) -> bool {
        let body_len = blocks
            .len()
            .saturating_mul(BLOCK_BYTES)
            .saturating_add(SUMMARY_BYTES);
        self.packet(blocks.len(), SENDER_REPORT, body_len, |writer| {
            writer.u32(sender.ssrc);
            writer.u64(sender.ntp.0);
            writer.u32(sender.rtp_timestamp);
            writer.u32(sender.packets);
            writer.u32(sender.bytes);
            blocks.iter().for_each(|block| block.write(writer));
        })
    }

    /// Appends a receiver report with up to 31 blocks.
    #[must_use]
    pub fn receiver_report(&mut self, sender_ssrc: u32, blocks: &[ReportBlock]) -> bool {
        let body_len = blocks.len().saturating_mul(BLOCK_BYTES).saturating_add(4);
        self.packet(blocks.len(), RECEIVER_REPORT, body_len, |writer| {
            writer.u32(sender_ssrc);
            blocks.iter().for_each(|block| block.write(writer));
        })
    }
}

//! Extended reports (RFC 3611): the round trip as a receiver that sends nothing measures it.

use crate::time::NtpTime;
use crate::wire::ParseError;
use crate::wire::bytes::Reader;

use super::{CompoundWriter, EXTENDED_REPORT};

/// Block types.
const RECEIVER_REFERENCE_TIME: u8 = 4;
const RECEIVER_DELAYS: u8 = 5;

const REFERENCE_TIME_WORDS: u16 = 2;
const DELAY_BYTES: usize = 12;

/// Extended report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedReport<'a> {
    /// Who reports.
    pub sender_ssrc: u32,
    blocks: &'a [u8],
}

/// One block of an [`ExtendedReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendedBlock<'a> {
    /// The reporter's wall time (RFC 3611 §4.4); answer it with its delay.
    ReceiverReferenceTime(NtpTime),
    /// The answer to a receiver reference time (RFC 3611 §4.5).
    ReceiverDelays(ReceiverDelays<'a>),
    /// Well framed, and nothing we read.
    Unknown {
        /// Block type.
        block_type: u8,
    },
}

/// Delays of an [`ExtendedBlock::ReceiverDelays`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverDelays<'a>(&'a [[u8; DELAY_BYTES]]);

/// How long a receiver reference time waited for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverDelay {
    /// Who sent the reference time.
    pub ssrc: u32,
    /// Middle 32 bits of the reference time; 0 when none came.
    pub last_receiver_report: u32,
    /// From its arrival to this report, in 65,536ths of a second.
    pub delay_since_last: u32,
}

impl<'a> ExtendedReport<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let sender_ssrc = reader.u32()?;
        let blocks = reader.rest();
        while !reader.is_empty() {
            next_block(&mut reader)?;
        }
        Ok(Self {
            sender_ssrc,
            blocks,
        })
    }

    /// Its blocks.
    pub fn blocks(&self) -> impl Iterator<Item = ExtendedBlock<'a>> + Clone + use<'a> {
        let mut reader = Reader::new(self.blocks);
        std::iter::from_fn(move || next_block(&mut reader).ok())
    }
}

fn next_block<'a>(reader: &mut Reader<'a>) -> Result<ExtendedBlock<'a>, ParseError> {
    let [block_type, _] = reader.array()?;
    let len = usize::from(reader.u16()?) << 2;
    let mut contents = Reader::new(reader.bytes(len)?);
    Ok(match block_type {
        RECEIVER_REFERENCE_TIME => ExtendedBlock::ReceiverReferenceTime(NtpTime(contents.u64()?)),
        RECEIVER_DELAYS => {
            let (delays, rest) = contents.rest().as_chunks();
            if !rest.is_empty() {
                return Err(ParseError::Length);
            }
            ExtendedBlock::ReceiverDelays(ReceiverDelays(delays))
        }
        _ => ExtendedBlock::Unknown { block_type },
    })
}

impl<'a> ReceiverDelays<'a> {
    /// One delay for each receiver answered.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ReceiverDelay> + Clone + use<'a> {
        self.0.iter().map(
            |&[s0, s1, s2, s3, r0, r1, r2, r3, d0, d1, d2, d3]| ReceiverDelay {
                ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
                last_receiver_report: u32::from_be_bytes([r0, r1, r2, r3]),
                delay_since_last: u32::from_be_bytes([d0, d1, d2, d3]),
            },
        )
    }
}

impl CompoundWriter<'_> {
    /// Appends an extended report with our wall time, which a sender answers with its delay.
    #[must_use]
    pub fn receiver_reference_time(&mut self, sender_ssrc: u32, ntp: NtpTime) -> bool {
        self.packet(0, EXTENDED_REPORT, 16, |writer| {
            writer.u32(sender_ssrc);
            writer.put([RECEIVER_REFERENCE_TIME, 0]);
            writer.u16(REFERENCE_TIME_WORDS);
            writer.u32((ntp.0 >> 32) as u32);
            writer.u32(ntp.0 as u32);
        })
    }

    /// Appends an extended report that answers receiver reference times. An empty list writes
    /// nothing and fits.
    #[must_use]
    pub fn receiver_delays(&mut self, sender_ssrc: u32, delays: &[ReceiverDelay]) -> bool {
        if delays.is_empty() {
            return true;
        }
        let delays_len = delays.len().saturating_mul(DELAY_BYTES);
        let Ok(words) = u16::try_from(delays_len >> 2) else {
            return false;
        };
        self.packet(0, EXTENDED_REPORT, delays_len.saturating_add(8), |writer| {
            writer.u32(sender_ssrc);
            writer.put([RECEIVER_DELAYS, 0]);
            writer.u16(words);
            for delay in delays {
                writer.u32(delay.ssrc);
                writer.u32(delay.last_receiver_report);
                writer.u32(delay.delay_since_last);
            }
        })
    }
}

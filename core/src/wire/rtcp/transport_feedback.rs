//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use std::slice;

use crate::wire::ParseError;
use crate::wire::bytes::Reader;

use super::report::sign_extend_24;
use super::{CompoundWriter, TRANSPORT_FEEDBACK};

/// Format of [`TRANSPORT_FEEDBACK`].
pub(super) const FORMAT: u8 = 15;

const FIXED_BYTES: usize = 16;
/// Statuses of one run-length chunk: 13 bits.
const RUN_MAX: usize = 0x1fff;
/// Statuses of a vector chunk of one bit each, and of two.
const ONE_BIT_STATUSES: usize = 14;
const TWO_BIT_STATUSES: usize = 7;

/// Status symbols. Three is reserved.
const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// When each of a range of packets arrived, by transport-wide sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub sender_ssrc: u32,
    /// A source of the reporter's choice.
    pub media_ssrc: u32,
    /// First sequence number reported on.
    pub base_sequence: u16,
    /// Count of packets reported on, at least 1.
    pub status_count: u16,
    /// Time the first delta counts from, in 64 ms units of the reporter's clock: signed, 24 bits.
    pub reference_time_64ms: i32,
    /// Number of this message; wraps.
    pub feedback_count: u8,
    chunks: &'a [[u8; 2]],
    /// Starts with the first delta; what follows the last is padding.
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let (sender_ssrc, media_ssrc) = (reader.u32()?, reader.u32()?);
        let (base_sequence, status_count) = (reader.u16()?, reader.u16()?);
        let reference_time_64ms = sign_extend_24(reader.u24()?);
        let feedback_count = reader.u8()?;
        if status_count == 0 {
            return Err(ParseError::Reserved);
        }
        let start = reader.rest();
        let mut chunk_count = 0_usize;
        let mut delta_bytes = 0_usize;
        let mut left = usize::from(status_count);
        while left > 0 {
            let chunk = Chunk::from_bits(reader.u16()?);
            let covered = chunk.len().min(left);
            delta_bytes = delta_bytes.saturating_add(chunk.delta_bytes(covered)?);
            left = left.saturating_sub(covered);
            chunk_count = chunk_count.saturating_add(1);
        }
        let deltas = reader.rest();
        if delta_bytes > deltas.len() {
            return Err(ParseError::Truncated);
        }
        let chunks = Reader::new(start).chunks(chunk_count)?;
        Ok(Self {
            sender_ssrc,
            media_ssrc,
            base_sequence,
            status_count,
            reference_time_64ms,
            feedback_count,
            chunks,
            deltas,
        })
    }

    /// Each packet reported on: exactly [`Self::status_count`] of them.
    #[must_use]
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            chunks: self.chunks.iter(),
            chunk: Chunk::Run {
                symbol: NOT_RECEIVED,
                len: 0,
            },
            index: 0,
            sequence: self.base_sequence,
            left: self.status_count,
            deltas: Reader::new(self.deltas),
        }
    }
}

/// Sequence numbers in order, each with its arrival after the packet received before it (the first:
/// after the reference time) in units of 250 µs; `None`: not received.
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    chunks: slice::Iter<'a, [u8; 2]>,
    chunk: Chunk,
    /// Statuses of `chunk` given.
    index: usize,
    sequence: u16,
    left: u16,
    deltas: Reader<'a>,
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i16>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // A run may be of no packets at all; the chunks end.
        while self.index >= self.chunk.len() {
            self.chunk = Chunk::from_bits(u16::from_be_bytes(*self.chunks.next()?));
            self.index = 0;
        }
        let delta = match self.chunk.symbol(self.index) {
            SMALL_DELTA => Some(i16::from(self.deltas.u8().ok()?)),
            LARGE_DELTA => Some(self.deltas.u16().ok()?.cast_signed()),
            _ => None,
        };
        self.index = self.index.saturating_add(1);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Some((sequence, delta))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Statuses<'_> {}

/// Status symbols of a row of packets in 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// `len` times the same symbol.
    Run { symbol: u8, len: usize },
    /// A bit each: received with a small delta, or not received.
    OneBit(u16),
    /// Two bits each.
    TwoBit(u16),
}

impl Chunk {
    const fn from_bits(bits: u16) -> Self {
        match bits >> 14 {
            0b11 => Self::TwoBit(bits),
            0b10 => Self::OneBit(bits),
            _ => Self::Run {
                symbol: (bits >> 13 & 3) as u8,
                len: bits as usize & RUN_MAX,
            },
        }
    }

    const fn to_bits(self) -> u16 {
        match self {
            Self::Run { symbol, len } => (symbol as u16) << 13 | (len & RUN_MAX) as u16,
            Self::OneBit(bits) => 0x8000 | bits & 0x3fff,
            Self::TwoBit(bits) => 0xc000 | bits & 0x3fff,
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Run { len, .. } => len,
            Self::OneBit(_) => ONE_BIT_STATUSES,
            Self::TwoBit(_) => TWO_BIT_STATUSES,
        }
    }

    /// The symbol at `index`, which is below [`Self::len`].
    fn symbol(self, index: usize) -> u8 {
        let shifted = |bits: u16, width: usize| {
            let shift =
                ONE_BIT_STATUSES.saturating_sub(index.saturating_add(1).saturating_mul(width));
            (bits >> shift) as u8
        };
        match self {
            Self::Run { symbol, .. } => symbol,
            Self::OneBit(bits) => shifted(bits, 1) & 1,
            Self::TwoBit(bits) => shifted(bits, 2) & 3,
        }
    }

    /// Bytes of deltas that the first `covered` symbols announce.
    fn delta_bytes(self, covered: usize) -> Result<usize, ParseError> {
        match self {
            Self::Run { symbol, .. } => Ok(symbol_delta_bytes(symbol)?.saturating_mul(covered)),
            Self::OneBit(_) | Self::TwoBit(_) => (0..covered).try_fold(0_usize, |sum, index| {
                Ok(sum.saturating_add(symbol_delta_bytes(self.symbol(index))?))
            }),
        }
    }

    /// The chunk for the front of `deltas`, which is not empty, and how many of them it covers.
    fn encode(deltas: &[Option<i16>]) -> (Self, usize) {
        let mut symbols = deltas.iter().copied().map(symbol_of);
        let first = symbols.clone().next().unwrap_or(NOT_RECEIVED);
        let run = symbols
            .clone()
            .take(RUN_MAX)
            .take_while(|&symbol| symbol == first)
            .count();
        let any_large = symbols
            .clone()
            .take(ONE_BIT_STATUSES)
            .any(|symbol| symbol == LARGE_DELTA);
        let worth = if any_large {
            TWO_BIT_STATUSES
        } else {
            ONE_BIT_STATUSES
        };
        if run >= worth || run == deltas.len() {
            return (
                Self::Run {
                    symbol: first,
                    len: run,
                },
                run,
            );
        }
        // Statuses past the end read as zeroes, and the count says not to read them.
        let mut vector = |width: u16| {
            (0..worth).fold(0_u16, |bits, _| {
                bits << width | u16::from(symbols.next().unwrap_or(0))
            })
        };
        let chunk = if any_large {
            Self::TwoBit(vector(2))
        } else {
            Self::OneBit(vector(1))
        };
        (chunk, worth.min(deltas.len()))
    }
}

const fn symbol_delta_bytes(symbol: u8) -> Result<usize, ParseError> {
    match symbol {
        NOT_RECEIVED => Ok(0),
        SMALL_DELTA => Ok(1),
        LARGE_DELTA => Ok(2),
        _ => Err(ParseError::Reserved),
    }
}

const fn symbol_of(delta: Option<i16>) -> u8 {
    match delta {
        None => NOT_RECEIVED,
        Some(0..=255) => SMALL_DELTA,
        Some(_) => LARGE_DELTA,
    }
}

/// The chunks that say which of `deltas` were received, as written.
fn chunks(mut deltas: &[Option<i16>]) -> impl Iterator<Item = u16> + Clone {
    std::iter::from_fn(move || {
        if deltas.is_empty() {
            return None;
        }
        let (chunk, covered) = Chunk::encode(deltas);
        deltas = deltas.get(covered..).unwrap_or_default();
        Some(chunk.to_bits())
    })
}

impl CompoundWriter<'_> {
    /// Appends a transport-wide feedback on the packets from `base_sequence` on: for each, its
    /// arrival after the one received before it (the first: after the reference time) in units of
    /// 250 µs, or `None` when it was not received. `reference_time_64ms` is cut to 24 bits.
    ///
    /// An empty list writes nothing and fits; more than 65,535 packets do not.
    #[must_use]
    pub fn transport_feedback(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        base_sequence: u16,
        feedback_count: u8,
        reference_time_64ms: i32,
        deltas: &[Option<i16>],
    ) -> bool {
        let Ok(status_count) = u16::try_from(deltas.len()) else {
            return false;
        };
        if status_count == 0 {
            return true;
        }
        let chunks = chunks(deltas);
        let body_len = deltas
            .iter()
            .map(|&delta| usize::from(symbol_of(delta)))
            .fold(FIXED_BYTES, usize::saturating_add)
            .saturating_add(chunks.clone().count() << 1)
            .next_multiple_of(4);
        self.packet(
            usize::from(FORMAT),
            TRANSPORT_FEEDBACK,
            body_len,
            |writer| {
                writer.u32(sender_ssrc);
                writer.u32(media_ssrc);
                writer.u16(base_sequence);
                writer.u16(status_count);
                let [_, a, b, c] = reference_time_64ms.to_be_bytes();
                writer.put([a, b, c, feedback_count]);
                chunks.for_each(|chunk| writer.u16(chunk));
                for &delta in deltas {
                    match delta {
                        Some(small @ 0..=255) => writer.u8(small as u8),
                        Some(large) => writer.put(large.to_be_bytes()),
                        None => {}
                    }
                }
                writer.zeroes();
            },
        )
    }
}

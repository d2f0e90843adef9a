//! One continuous outgoing stream from a source that changes.
//!
//! ```text
//! source A   … 501 502 503 ┊
//! source B                 ┊ 9000 9002 9001 …
//! outgoing   …  88  89  90 ┊   91   93   92 …      gaps and disorder of a source stay as they are
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::DROPOUT_MAX;
use crate::sequence::{SequenceWindow, extend_sequence};
use crate::srtp::RTP_INDEX_END;
use crate::time::Timestamp;

/// Least step of media time across a switch: an audio frame, and less than a picture at 30 a second.
const SWITCH_STEP_MIN: Duration = Duration::from_millis(20);

/// VP8's numbers of a picture (RFC 7741 §4.2).
///
/// For a source that numbers in 7 bits, cut the rewritten id to 7 bits as well: what is continuous
/// modulo 2^15 is so modulo 2^7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vp8Picture {
    /// Picture id, 15 bits.
    pub picture_id: u16,
    /// Running number of base-layer pictures; 0 if the source does not say, and then meaningless.
    pub tl0picidx: u8,
}

/// What of a source's packet is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Extended sequence number.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// VP8 picture numbers, if the payload carries them.
    pub picture: Option<Vp8Picture>,
}

/// What takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewritten {
    /// Extended sequence number: the SRTP index of the packet; its low 16 bits go into the header.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// VP8 picture numbers; present if the source's were.
    pub picture: Option<Vp8Picture>,
}

/// Rewrites the packets of one subscription.
///
/// [`Rewriter::rewrite`] gives each outgoing number out at most once, whatever it is fed, because the
/// number is the SRTP nonce. Constant memory, no allocation.
#[derive(Debug)]
pub struct Rewriter {
    clock_rate: u32,
    /// Numbers given out.
    sent: SequenceWindow,
    /// The numbers of the very first packet.
    first_sequence: u16,
    first_timestamp: u32,
    /// The numbers of the newest packet of all, as sent; but of those of its source the latest timestamp, and when that
    /// was first sent: a telephone event says when its key was pressed, however long ago (RFC 4733 §2.2.1).
    last: Option<(Rewritten, Timestamp)>,
    /// `None`: the next packet begins a source.
    source: Option<Mapping>,
}

/// Where a stream stands: what its next packet's numbers follow from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RewriterMark {
    highest: Option<u64>,
    last: Option<(Rewritten, Timestamp)>,
    source: Option<Mapping>,
}

/// From one source's numbers to ours.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Mapping {
    /// The source's number that began it, and the highest since.
    first: u64,
    highest: u64,
    /// Our number of `first`.
    first_sent: u64,
    /// Added to its timestamps.
    timestamp: u32,
    /// Added to its picture numbers; `None` before its first packet that has them.
    picture: Option<Vp8Picture>,
}

impl Rewriter {
    /// A stream of `clock_rate` whose first packet gets these numbers.
    ///
    /// `first_sequence` must lie below 32,768: a receiver that misses the first packets takes a
    /// number just above a wrap for the first lap, and cannot decrypt (RFC 3711 §3.3.1).
    #[must_use]
    pub fn new(clock_rate: u32, first_sequence: u16, first_timestamp: u32) -> Self {
        debug_assert!(
            first_sequence < 1 << 15,
            "the rollover counter would be guessed wrongly"
        );
        Self {
            clock_rate,
            sent: SequenceWindow::default(),
            first_sequence,
            first_timestamp,
            last: None,
            source: None,
        }
    }

    /// Where it stands.
    pub(crate) const fn mark(&self) -> RewriterMark {
        RewriterMark {
            highest: self.sent.highest(),
            last: self.last,
            source: self.source,
        }
    }

    /// Goes on where another stood; numbers before its newest pass for not sent.
    pub(crate) fn resume(&mut self, mark: RewriterMark) {
        self.sent = SequenceWindow::default();
        if let Some(highest) = mark.highest.filter(|highest| *highest < RTP_INDEX_END) {
            self.sent.note(highest);
        }
        (self.last, self.source) = (mark.last, mark.source);
    }

    /// The next packet begins a new source. Packets of the old one must not be passed any more. For
    /// video, begin with a keyframe.
    pub fn switch(&mut self) {
        self.source = None;
    }

    /// Whether a packet is so far ahead of its source that it would begin a new one: see [`Self::rewrite`].
    #[must_use]
    pub fn is_jump(&self, sequence: u64) -> bool {
        let mapping = self.source.as_ref();
        mapping.is_some_and(|mapping| sequence > mapping.highest.saturating_add(DROPOUT_MAX))
    }

    /// The numbers under which a packet is sent for the first time.
    ///
    /// `None`: do not send it. It precedes the first packet of its source, was sent before, or is so
    /// late that it might have been. A jump within a source beyond [`DROPOUT_MAX`] is closed up as
    /// if the source had been switched: no receiver asks for so many, and its guess of the rollover
    /// counter must hold.
    #[must_use]
    pub fn rewrite(&mut self, now: Timestamp, source: Source) -> Option<Rewritten> {
        let begins = self.source.is_none() || self.is_jump(source.sequence);
        if begins {
            self.source = Some(self.begin(now, source));
        }
        let mapping = self.source.as_mut()?;
        let sequence = mapping.sequence_of(source)?;
        if !self.sent.is_fresh(sequence) {
            return None;
        }
        self.sent.note(sequence);
        mapping.highest = mapping.highest.max(source.sequence);
        if let (None, Some(picture)) = (mapping.picture, source.picture) {
            let last = self.last.and_then(|(last, _)| last.picture);
            mapping.picture = Some(picture.offset_to_follow(last));
        }
        let rewritten = mapping.apply(source)?;
        if self.sent.highest() == Some(sequence) {
            let picture = rewritten
                .picture
                .or(self.last.and_then(|(last, _)| last.picture));
            let (timestamp, sent) = match self.last {
                Some((last, sent)) if !begins && !is_later(rewritten.timestamp, last.timestamp) => {
                    (last.timestamp, sent)
                }
                _ => (rewritten.timestamp, now),
            };
            let newest = Rewritten {
                picture,
                timestamp,
                ..rewritten
            };
            self.last = Some((newest, sent));
        }
        Some(rewritten)
    }

    /// The numbers a packet of the current source has, whether it was sent or not: for making the
    /// same packet again. `None`: it precedes the first one, or no source has begun.
    #[must_use]
    pub fn numbers_of(&self, source: Source) -> Option<Rewritten> {
        self.source?.apply(source)
    }

    /// The current source's number behind an outgoing one, for answering a NACK. `None`: never
    /// reached, or of an earlier source.
    #[must_use]
    pub fn source_of(&self, outgoing: u16) -> Option<u64> {
        let mapping = self.source?;
        let sequence = extend_sequence(self.sent.highest()?, outgoing)?;
        let source = mapping
            .first
            .checked_add(sequence.checked_sub(mapping.first_sent)?)?;
        (source <= mapping.highest).then_some(source)
    }

    /// The outgoing timestamp that belongs to `now`, for a sender report: the latest of its source,
    /// moved on. `None` before the first packet.
    #[must_use]
    pub fn timestamp_at(&self, now: Timestamp) -> Option<u32> {
        let (last, sent) = self.last?;
        Some(last.timestamp.wrapping_add(self.units(now.since(sent))))
    }

    fn begin(&self, now: Timestamp, source: Source) -> Mapping {
        let (sequence, timestamp) = match self.last {
            Some((last, sent)) => {
                let step = now.since(sent).max(SWITCH_STEP_MIN);
                (
                    last.sequence.saturating_add(1),
                    last.timestamp.wrapping_add(self.units(step)),
                )
            }
            None => (u64::from(self.first_sequence), self.first_timestamp),
        };
        Mapping {
            first: source.sequence,
            highest: source.sequence,
            first_sent: sequence,
            timestamp: timestamp.wrapping_sub(source.timestamp),
            picture: None,
        }
    }

    /// A duration in timestamp units, modulo 2^32 as timestamps are.
    fn units(&self, duration: Duration) -> u32 {
        (duration.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000) as u32
    }
}

/// Whether a timestamp is after another, by the shorter way round.
const fn is_later(timestamp: u32, other: u32) -> bool {
    timestamp.wrapping_sub(other).cast_signed() > 0
}

impl Vp8Picture {
    /// What to add to the first picture of a source, so that it follows the last one sent.
    fn offset_to_follow(self, last: Option<Self>) -> Self {
        match last {
            Some(last) => Self {
                picture_id: last
                    .picture_id
                    .wrapping_add(1)
                    .wrapping_sub(self.picture_id),
                tl0picidx: last.tl0picidx.wrapping_add(1).wrapping_sub(self.tl0picidx),
            },
            None => Self {
                picture_id: 0,
                tl0picidx: 0,
            },
        }
    }
}

impl Mapping {
    fn sequence_of(&self, source: Source) -> Option<u64> {
        let passed = source.sequence.checked_sub(self.first)?;
        self.first_sent.checked_add(passed)
    }

    fn apply(&self, source: Source) -> Option<Rewritten> {
        let picture = source
            .picture
            .zip(self.picture)
            .map(|(picture, offset)| Vp8Picture {
                picture_id: picture.picture_id.wrapping_add(offset.picture_id) & 0x7fff,
                tl0picidx: picture.tl0picidx.wrapping_add(offset.tl0picidx),
            });
        Some(Rewritten {
            sequence: self.sequence_of(source)?,
            timestamp: source.timestamp.wrapping_add(self.timestamp),
            picture,
        })
    }
}

#[cfg(test)]
mod tests;

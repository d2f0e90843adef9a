//! Transport-wide feedback, the receiver's half: what arrived when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use std::time::Duration;

use crate::limits::{
    FEEDBACK_FAST_STATUSES, FEEDBACK_INTERVAL, FEEDBACK_INTERVAL_FAST, FEEDBACK_LATE_MAX,
    FEEDBACK_STATUSES_MAX, FEEDBACK_WINDOW,
};
use crate::time::Timestamp;

/// Unit of arrival deltas.
const TICK: Duration = Duration::from_micros(250);
/// Ticks of one unit of reference time: 64 ms.
const REFERENCE_TICKS: u64 = 256;

/// One feedback message, without its wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedbackReport<'a> {
    /// Transport sequence number of the first status.
    pub base_sequence: u16,
    /// Counts the messages, modulo 256.
    pub feedback_count: u8,
    /// Start of the deltas in units of 64 ms, modulo 2^24.
    pub reference_time: u32,
    /// A status each, from the base on: the arrival less that of the received packet before it (for
    /// the first: less the reference time) in units of 250 µs; `None`: not received. At least one is
    /// received; the first of those lies in 0 to 255.
    pub deltas: &'a [Option<i16>],
}

/// Records the packets of one publishing session, all its sources together, and reports them.
///
/// Input: [`note_received`](Self::note_received). Output: [`poll`](Self::poll), again and again until
/// `None`, once [`deadline`](Self::deadline) has passed. Each status is reported once, except that a
/// packet which comes after higher numbers were reported moves the base back to it, and what
/// follows is told again. Nothing unreported: no deadline. Allocates 10 KiB at the first packet.
#[derive(Debug, Default)]
pub struct FeedbackRecorder {
    record: Option<Box<Record>>,
    feedback_count: u8,
}

/// Numbers are 16 bits and wrap. `oldest`, `start` and `end` are in that order, and less than the
/// window apart.
#[derive(Debug)]
struct Record {
    /// Arrival of each number from `oldest` to `end`, at the number modulo the window.
    arrivals: [Option<Timestamp>; FEEDBACK_WINDOW],
    /// Lower numbers are too late.
    oldest: u16,
    /// First number to report.
    start: u16,
    /// One past the highest number received.
    end: u16,
    /// When the first unreported packet came; `None` if all are reported.
    pending_since: Option<Timestamp>,
    deltas: [Option<i16>; FEEDBACK_STATUSES_MAX],
}

impl FeedbackRecorder {
    /// Takes note of a packet. A second copy and a packet too late change nothing.
    pub fn note_received(&mut self, transport_sequence: u16, received: Timestamp) {
        match &mut self.record {
            Some(record) => record.note_received(transport_sequence, received),
            None => self.record = Some(Record::begin(transport_sequence, received)),
        }
    }

    /// The next report that is due; `None` when none is. One deadline may yield several.
    pub fn poll(&mut self, now: Timestamp) -> Option<FeedbackReport<'_>> {
        let record = self.record.as_mut()?;
        if now < record.deadline()? {
            return None;
        }
        let (base_sequence, reference_time, count) = record.report()?;
        let feedback_count = self.feedback_count;
        self.feedback_count = feedback_count.wrapping_add(1);
        let deltas = &record.deltas[..count];
        Some(FeedbackReport {
            base_sequence,
            feedback_count,
            reference_time,
            deltas,
        })
    }

    /// When the next report is due; `None` while there is nothing to report.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.record.as_ref()?.deadline()
    }
}

impl Record {
    /// Begins with this number as the first; those a little lower may still come.
    fn begin(sequence: u16, received: Timestamp) -> Box<Self> {
        let mut record = Box::new(Self {
            arrivals: [None; FEEDBACK_WINDOW],
            oldest: sequence.wrapping_sub(FEEDBACK_LATE_MAX as u16),
            start: sequence,
            end: sequence.wrapping_add(1),
            pending_since: Some(received),
            deltas: [None; FEEDBACK_STATUSES_MAX],
        });
        record.arrivals[slot(sequence)] = Some(received);
        record
    }

    fn note_received(&mut self, sequence: u16, received: Timestamp) {
        let ahead = sequence.wrapping_sub(self.end) as i16;
        let from_oldest = usize::from(sequence.wrapping_sub(self.oldest));
        if ahead.unsigned_abs() as usize >= FEEDBACK_WINDOW {
            // Too far either way to be told from a new start of the peer's numbering. What was
            // unreported is dropped: with reports every 100 ms that takes 10,000 packets a second.
            *self = *Self::begin(sequence, received);
            return;
        }
        if ahead >= 0 {
            self.advance(sequence);
        } else if from_oldest >= distance(self.oldest, self.end) {
            return;
        }
        if self.arrivals[slot(sequence)].is_some() {
            return;
        }
        self.arrivals[slot(sequence)] = Some(received);
        if from_oldest < distance(self.oldest, self.start) {
            self.start = sequence;
        }
        self.pending_since.get_or_insert(received);
    }

    /// Moves the end past `sequence`; what falls out of the window behind is forgotten.
    fn advance(&mut self, sequence: u16) {
        while self.end != sequence.wrapping_add(1) {
            self.arrivals[slot(self.end)] = None;
            self.end = self.end.wrapping_add(1);
        }
        if distance(self.oldest, self.end) > FEEDBACK_WINDOW {
            self.oldest = self.end.wrapping_sub(FEEDBACK_WINDOW as u16);
            if distance(self.start, self.end) > FEEDBACK_WINDOW {
                self.start = self.oldest;
            }
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let since = self.pending_since?;
        let statuses = distance(self.start, self.end);
        if statuses >= FEEDBACK_STATUSES_MAX {
            return Some(since);
        }
        let fast = statuses >= FEEDBACK_FAST_STATUSES;
        Some(
            since
                + if fast {
                    FEEDBACK_INTERVAL_FAST
                } else {
                    FEEDBACK_INTERVAL
                },
        )
    }

    /// Writes the deltas of the next report and moves the start past it. Returns the base, the
    /// reference time and the number of statuses.
    fn report(&mut self) -> Option<(u16, u32, usize)> {
        let first = (0..distance(self.start, self.end))
            .map(|offset| self.start.wrapping_add(offset as u16))
            .find(|sequence| self.arrivals[slot(*sequence)].is_some())?;
        let lost = distance(self.start, first).min(FEEDBACK_STATUSES_MAX - 1);
        let base = first.wrapping_sub(lost as u16);
        let reference = self.arrivals[slot(first)].map_or(0, ticks) / REFERENCE_TICKS;

        let mut before = reference * REFERENCE_TICKS;
        let mut count = 0;
        let statuses = distance(base, self.end).min(FEEDBACK_STATUSES_MAX);
        for offset in 0..statuses {
            let arrival = self.arrivals[slot(base.wrapping_add(offset as u16))].map(ticks);
            let delta = match arrival {
                Some(arrival) => match i16::try_from(arrival.wrapping_sub(before) as i64) {
                    Ok(delta) => Some(delta),
                    // Eight seconds apart: the next report has a reference time of its own.
                    Err(_) => break,
                },
                None => None,
            };
            self.deltas[offset] = delta;
            before = arrival.unwrap_or(before);
            count = offset + 1;
        }
        self.note_reported(base.wrapping_add(count as u16));
        Some((base, (reference & 0xff_ffff) as u32, count))
    }

    fn note_reported(&mut self, start: u16) {
        self.start = start;
        let oldest = start.wrapping_sub(FEEDBACK_LATE_MAX as u16);
        if distance(oldest, self.end) < distance(self.oldest, self.end) {
            self.oldest = oldest;
        }
        if self.start == self.end {
            self.pending_since = None;
        }
    }
}

/// Where the arrival of a number is kept.
fn slot(sequence: u16) -> usize {
    usize::from(sequence) % FEEDBACK_WINDOW
}

/// How many numbers lie from one up to another.
fn distance(from: u16, to: u16) -> usize {
    usize::from(to.wrapping_sub(from))
}

fn ticks(at: Timestamp) -> u64 {
    at.as_micros() / TICK.as_micros() as u64
}

#[cfg(test)]
mod tests;

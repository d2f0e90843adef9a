//! What arrived of one source: the figures of a receiver report (RFC 3550 §6.4.1) and the bitrate.

use std::time::Duration;

use crate::limits::DROPOUT_MAX;
use crate::time::{NtpTime, Timestamp};
use crate::wire::rtcp::ReportBlock;

/// A step of transit time beyond this is a new timeline, not jitter.
const TRANSIT_STEP_MAX: Duration = Duration::from_secs(5);

/// One packet, as the statistics see it.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedPacket {
    /// When it arrived.
    pub received: Timestamp,
    /// Extended sequence number: the SRTP index, so authentic and seen once.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP timestamp units a second.
    pub clock_rate: u32,
    /// Payload bytes.
    pub bytes: usize,
    /// It is known to be sent again under its own number, so its delay says nothing of the path.
    pub retransmitted: bool,
}

/// Counts one incoming source. Constant memory, no allocation.
///
/// A packet rebuilt from a retransmission source (RFC 4588) counts for that source, not for this one.
#[derive(Debug)]
pub struct ReceiveStatistics {
    ssrc: u32,
    range: Option<Range>,
    packets: u64,
    bytes: u64,
    /// Expected and received packets at the last report.
    reported: (u64, u64),
    clock_rate: u32,
    /// Transit time of the last packet in timestamp units; only differences mean anything.
    transit: Option<u32>,
    /// Jitter in 1/16 of a timestamp unit (RFC 3550 §A.8).
    jitter_sixteenths: u64,
    sender_report: Option<(NtpTime, Timestamp)>,
    rate: RateMeter,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    /// First number; moved up when the stream restarts, so that what it skipped is not expected.
    base: u64,
    highest: u64,
    /// The number that would prove a restart.
    restart: Option<u64>,
}

impl ReceiveStatistics {
    /// Statistics of a source of which nothing came yet.
    #[must_use]
    pub fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            range: None,
            packets: 0,
            bytes: 0,
            reported: (0, 0),
            clock_rate: 0,
            transit: None,
            jitter_sixteenths: 0,
            sender_report: None,
            rate: RateMeter::default(),
        }
    }

    /// Takes note of a packet.
    #[inline(always)]
    pub fn note_received(&mut self, packet: ReceivedPacket) {
        self.bytes += packet.bytes as u64;
        self.rate.note(packet.received, packet.bytes);
        if self.note_sequence(packet.sequence) && !packet.retransmitted {
            self.note_transit(&packet);
        }
    }

    /// Takes note of a sender report of this source.
    pub fn note_sender_report(&mut self, received: Timestamp, ntp: NtpTime) {
        self.sender_report = Some((ntp, received));
    }

    /// The block to report now; `None` before the first packet. The next one's fraction counts from here.
    pub fn report_block(&mut self, now: Timestamp) -> Option<ReportBlock> {
        let range = self.range?;
        let expected = range.expected();
        let (expected_before, packets_before) = self.reported;
        self.reported = (expected, self.packets);
        let expected_since = expected.saturating_sub(expected_before);
        let lost_since = expected_since.saturating_sub(self.packets - packets_before);
        let (last_sender_report, delay_since_last) = match self.sender_report {
            Some((ntp, received)) => (ntp.middle(), ntp_units(now.since(received))),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost_since * 256)
                .checked_div(expected_since)
                .unwrap_or(0)
                .min(255) as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: range.highest as u32,
            jitter: (self.jitter_sixteenths >> 4) as u32,
            last_sender_report,
            delay_since_last,
        })
    }

    /// Packets received, late ones and copies included.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Payload bytes received.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets expected less packets received (RFC 3550 §A.3).
    #[must_use]
    pub fn lost(&self) -> i64 {
        let expected = self.range.map_or(0, |range| range.expected());
        expected as i64 - self.packets as i64
    }

    /// Interarrival jitter; zero before the second packet.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        let nanos = self.jitter_sixteenths * (1_000_000_000 / 16);
        Duration::from_nanos(nanos.checked_div(u64::from(self.clock_rate)).unwrap_or(0))
    }

    /// Payload bits received in the last full second.
    #[must_use]
    pub fn bitrate(&self, now: Timestamp) -> u64 {
        self.rate.bitrate(now)
    }

    /// RFC 3550 §A.1, on whole numbers. `false`: a jump that the next packet has yet to confirm.
    fn note_sequence(&mut self, sequence: u64) -> bool {
        let Some(range) = &mut self.range else {
            self.range = Some(Range {
                base: sequence,
                highest: sequence,
                restart: None,
            });
            self.packets = 1;
            return true;
        };
        if sequence <= range.highest {
            self.packets += 1;
            return true;
        }
        let step = sequence - range.highest;
        if step < DROPOUT_MAX {
            range.highest = sequence;
        } else if range.restart == Some(sequence) {
            // Two in sequence: this one and the stray before it are the stream now.
            range.base += step - 2;
            range.highest = sequence;
            self.packets += 1;
            self.transit = None;
        } else {
            range.restart = sequence.checked_add(1);
            return false;
        }
        range.restart = None;
        self.packets += 1;
        true
    }

    /// RFC 3550 §A.8.
    #[inline(always)]
    fn note_transit(&mut self, packet: &ReceivedPacket) {
        if self.clock_rate != packet.clock_rate {
            self.clock_rate = packet.clock_rate;
            self.transit = None;
            self.jitter_sixteenths = 0;
        }
        // Seconds and the rest apart: 64 bits hold the one modulo 2^32 and the other whole.
        let (nanos, rate) = (packet.received.as_nanos(), u64::from(packet.clock_rate));
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let arrival = seconds
            .wrapping_mul(rate)
            .wrapping_add(rest * rate / 1_000_000_000) as u32;
        let transit = arrival.wrapping_sub(packet.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let step = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            if step <= u64::from(packet.clock_rate) * TRANSIT_STEP_MAX.as_secs() {
                self.jitter_sixteenths += step;
                self.jitter_sixteenths -= (self.jitter_sixteenths - step + 8) >> 4;
            }
        }
    }
}

impl Range {
    fn expected(&self) -> u64 {
        (self.highest - self.base).saturating_add(1)
    }
}

/// Bits a second over the last full second of the shard's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateMeter {
    /// The second counted now, since the epoch.
    second: u64,
    bytes: u64,
    /// Bytes of the second before it.
    bytes_before: u64,
}

impl RateMeter {
    /// Counts `bytes` at `now`.
    pub fn note(&mut self, now: Timestamp, bytes: usize) {
        let second = now.as_secs();
        if second > self.second {
            self.bytes_before = if second == self.second + 1 {
                self.bytes
            } else {
                0
            };
            self.bytes = 0;
            self.second = second;
        }
        self.bytes += bytes as u64;
    }

    /// Bits counted in the last full second before `now`.
    #[must_use]
    pub fn bitrate(&self, now: Timestamp) -> u64 {
        let second = now.as_secs();
        let bytes = match second.saturating_sub(self.second) {
            0 => self.bytes_before,
            1 => self.bytes,
            _ => 0,
        };
        bytes * 8
    }
}

/// A duration in 1/65536 s; the largest number if it does not fit (18 hours).
fn ntp_units(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

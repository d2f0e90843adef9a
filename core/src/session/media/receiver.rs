//! One source the peer sends from: its replay window, statistics and repair.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::KEYFRAME_REQUEST_INTERVAL;
use crate::plan::{Codec, MediaKind};
use crate::receive::ReceiveStatistics;
use crate::repair::NackGenerator;
use crate::srtp::{RTP_INDEX_END, ReplayWindow};
use crate::time::{NtpTime, Timestamp, earliest};

/// What a source carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Carries {
    /// Media itself.
    Media,
    /// Retransmissions (RFC 4588) of the section's media source.
    Retransmissions,
}

/// The publisher's clocks, as its last sender report tied them, moved to our wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SenderClock {
    /// Our wall time of the report's instant.
    pub(crate) ntp: NtpTime,
    /// Its RTP timestamp.
    pub(crate) rtp_timestamp: u32,
}

/// Receiving half of one synchronisation source.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) ssrc: u32,
    /// The offer named it.
    pub(crate) announced: bool,
    /// Its media section.
    pub(crate) media: u8,
    pub(crate) carries: Carries,
    pub(crate) window: ReplayWindow,
    pub(crate) statistics: ReceiveStatistics,
    /// Present when the section's feedback has NACK.
    pub(crate) nack: Option<Box<NackGenerator>>,
    pub(crate) codec: Codec,
    /// The payload type that means this codec, once a packet of it came: packets of one codec come in runs.
    pub(crate) payload_type: Option<u8>,
    pub(crate) clock: Option<SenderClock>,
    pub(crate) keyframes: KeyframeThrottle,
    /// A packet arrived since the start or the last BYE.
    pub(crate) alive: bool,
    pub(crate) nacks_sent: u64,
    pub(crate) recovered: u64,
    pub(crate) used: Timestamp,
}

/// Where a receiver stands, but for its figures and what it asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiverMark {
    pub(crate) ssrc: u32,
    pub(crate) media: u8,
    carries: Carries,
    codec: Codec,
    nack: bool,
    /// Rollover counter and sequence number.
    highest: Option<u64>,
    clock: Option<SenderClock>,
    alive: bool,
    used: Timestamp,
}

impl Receiver {
    pub(crate) fn mark(&self) -> ReceiverMark {
        ReceiverMark {
            ssrc: self.ssrc,
            media: self.media,
            carries: self.carries,
            codec: self.codec,
            nack: self.nack.is_some(),
            highest: self.window.highest(),
            clock: self.clock,
            alive: self.alive,
            used: self.used,
        }
    }

    /// A receiver that goes on where another stood.
    pub(crate) fn resumed(mark: ReceiverMark, announced: bool) -> Self {
        let ReceiverMark { ssrc, media, .. } = mark;
        let source = (ssrc, announced);
        let new = Self::new(
            source,
            media,
            mark.carries,
            mark.codec,
            mark.nack,
            mark.used,
        );
        let highest = mark.highest.filter(|highest| *highest < RTP_INDEX_END);
        Self {
            window: highest.map_or_else(ReplayWindow::default, ReplayWindow::starting_at),
            clock: mark.clock,
            alive: mark.alive,
            ..new
        }
    }

    /// Goes on where it stood later, unless it stands there as it is.
    pub(crate) fn resume(&mut self, mark: ReceiverMark) {
        if self.window.highest() != mark.highest {
            let keyframes = self.keyframes;
            *self = Self {
                keyframes,
                ..Self::resumed(mark, self.announced)
            };
        }
    }

    pub(crate) fn new(
        (ssrc, announced): (u32, bool),
        media: u8,
        carries: Carries,
        codec: Codec,
        nack: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            ssrc,
            announced,
            media,
            carries,
            window: ReplayWindow::default(),
            statistics: ReceiveStatistics::new(ssrc),
            nack: nack.then(Box::default),
            codec,
            payload_type: None,
            clock: None,
            keyframes: KeyframeThrottle::new(KEYFRAME_REQUEST_INTERVAL),
            alive: false,
            nacks_sent: 0,
            recovered: 0,
            used: now,
        }
    }

    /// Someone needs a keyframe of it, if it has pictures.
    pub(crate) fn want_keyframe(&mut self) {
        if self.codec.kind() == MediaKind::Video {
            self.keyframes.note_wanted();
        }
    }

    /// When this source wants a timer: a NACK to send, or a keyframe request held back.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let nack = self.nack.as_ref().and_then(|nack| nack.deadline());
        earliest(nack, self.keyframes.deadline())
    }
}

/// Coalesces keyframe requests: the first goes out at once, later ones at most one an interval, and none once
/// a keyframe came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyframeThrottle {
    interval: Duration,
    sent: Option<Timestamp>,
    wanted: bool,
    /// Requests sent.
    pub(crate) count: u64,
}

impl KeyframeThrottle {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            sent: None,
            wanted: false,
            count: 0,
        }
    }

    /// Someone needs a keyframe.
    pub(crate) fn note_wanted(&mut self) {
        self.wanted = true;
    }

    /// A keyframe started.
    pub(crate) fn note_keyframe(&mut self) {
        self.wanted = false;
    }

    /// Whether to send a request now; notes it as sent.
    pub(crate) fn poll(&mut self, now: Timestamp) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        (self.sent, self.wanted) = (Some(now), false);
        self.count += 1;
        true
    }

    /// When the next request may go; `None` when nobody wants one.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let earliest = self
            .sent
            .map_or(Timestamp::ZERO, |sent| sent + self.interval);
        self.wanted.then_some(earliest)
    }
}

/// Our wall time less the publisher's, fixed by its first sender report so that its tracks stay in step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockOffset(Option<i128>);

impl ClockOffset {
    /// A publisher whose wall clock jumps by more than this is followed anew.
    const JUMP: Duration = Duration::from_secs(2);

    /// The publisher's time of a report, which arrived when our clock read `ours`, on our clock.
    pub(crate) fn translate(&mut self, theirs: NtpTime, ours: NtpTime) -> NtpTime {
        let measured = i128::from(ours.0) - i128::from(theirs.0);
        let jump = (Self::JUMP.as_secs() as i128) << 32;
        let offset = match self.0 {
            Some(offset) if (offset - measured).abs() < jump => offset,
            _ => measured,
        };
        self.0 = Some(offset);
        NtpTime((i128::from(theirs.0) + offset) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframe_requests_are_coalesced_to_one_an_interval() {
        let mut throttle = KeyframeThrottle::new(KEYFRAME_REQUEST_INTERVAL);
        let mut sent = Vec::new();
        for ms in 0..2_000 {
            let now = Timestamp::from_millis(ms);
            throttle.note_wanted();
            if throttle.poll(now) {
                sent.push(ms);
            }
        }
        assert_eq!(sent, [0, 500, 1_000, 1_500]);
    }

    #[test]
    fn a_held_back_request_goes_out_later_unless_a_keyframe_came() {
        let mut throttle = KeyframeThrottle::new(KEYFRAME_REQUEST_INTERVAL);
        throttle.note_wanted();
        assert!(throttle.poll(Timestamp::from_millis(1_000)));
        throttle.note_wanted();
        assert!(!throttle.poll(Timestamp::from_millis(1_100)));
        assert_eq!(throttle.deadline(), Some(Timestamp::from_millis(1_500)));
        throttle.note_keyframe();
        assert_eq!(throttle.deadline(), None);
        assert!(!throttle.poll(Timestamp::from_millis(3_000)));
    }

    #[test]
    fn two_tracks_of_one_publisher_share_its_clock_offset() {
        let mut offset = ClockOffset::default();
        let second = 1_u64 << 32;
        let audio = offset.translate(NtpTime(10 * second), NtpTime(100 * second));
        assert_eq!(audio, NtpTime(100 * second));
        // The second report was 300 ms longer on its way; that must not skew its track.
        let late = offset.translate(
            NtpTime(11 * second),
            NtpTime(101 * second + second * 3 / 10),
        );
        assert_eq!(late, NtpTime(101 * second));
        let jumped = offset.translate(NtpTime(50 * second), NtpTime(102 * second));
        assert_eq!(jumped, NtpTime(102 * second));
    }
}

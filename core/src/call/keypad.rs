//! Keys that a person presses (RFC 4733): several packets each, of which any may be lost, come to one digit.

use std::time::Duration;

use super::call_time;
use crate::limits::{HEARD_KEYS_INTERVAL, HEARD_KEYS_MAX};
use crate::message::VoiceStats;
use crate::session::media::Incoming;
use crate::time::Timestamp;
use crate::voice::message::Heard;
use crate::wire::payload::event::Report;

/// A key of which nothing came for so long was let go: senders repeat themselves each 20 to 50 ms while it is held
/// (RFC 4733 §2.5.1.2), and say the end three times.
const SILENCE: Duration = Duration::from_millis(200);
/// An event that lasts longer goes on in another, which begins where this one can count no further (§2.5.1.3).
const SEGMENT: u32 = u16::MAX as u32;

/// What is pressed, and was.
#[derive(Debug, Default)]
pub(super) struct Keypad {
    press: Option<Press>,
    /// Source and timestamp of the last event that was over: its end comes again.
    told: Option<(u32, u32)>,
    /// Source and number of the last packet that was looked at: one that was overtaken says nothing new.
    newest: Option<(u32, u64)>,
    allowance: Allowance,
}

/// A bucket of keys that may be told.
#[derive(Debug, Default)]
struct Allowance {
    /// When it is full again; `None`: nothing was taken yet.
    full: Option<Timestamp>,
}

impl Allowance {
    /// Takes a key out; `false`: there is none.
    fn take(&mut self, now: Timestamp) -> bool {
        let full = self.full.map_or(now, |full| full.max(now)) + HEARD_KEYS_INTERVAL;
        let is_there = full.since(now) <= HEARD_KEYS_MAX * HEARD_KEYS_INTERVAL;
        if is_there {
            self.full = Some(full);
        }
        is_there
    }
}

/// A key that is held.
#[derive(Clone, Copy, Debug)]
struct Press {
    digit: char,
    ssrc: u32,
    /// Of its event, or the last of them.
    timestamp: u32,
    clock_rate: u32,
    /// Units of the events before, and of this one.
    before: u64,
    units: u16,
    began: Timestamp,
    last: Timestamp,
}

impl Press {
    /// Microseconds, as far as they were told.
    fn duration(&self) -> u64 {
        let units = self.before.saturating_add(u64::from(self.units));
        units.saturating_mul(1_000_000) / u64::from(self.clock_rate.max(1))
    }
}

impl Keypad {
    /// Takes in a packet of events. A digit is told when its key was let go, unless more are than anybody can press.
    pub(super) fn handle_packet(
        &mut self,
        now: Timestamp,
        opened: Timestamp,
        packet: &Incoming<'_>,
        stats: &mut VoiceStats,
    ) -> [Option<Heard>; 2] {
        let Some(report) = Report::parse(packet.payload) else {
            return [None, None];
        };
        let is_late = self
            .newest
            .is_some_and(|(ssrc, newest)| ssrc == packet.ssrc && packet.sequence <= newest);
        if is_late || self.told == Some((packet.ssrc, packet.timestamp)) {
            return [None, None];
        }
        self.newest = Some((packet.ssrc, packet.sequence));
        let goes_on = self
            .press
            .as_mut()
            .is_some_and(|press| press.extend(now, packet, report));
        let before = if goes_on {
            None
        } else {
            self.release(now, opened, stats)
        };
        if !goes_on {
            self.press = report
                .key()
                .map(|digit| Press::new(now, digit, packet, report));
        }
        let this = if report.end {
            self.release(now, opened, stats)
        } else {
            None
        };
        [before, this]
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.press.map(|press| press.last + SILENCE)
    }

    /// Lets go of a key whose end was lost.
    pub(super) fn handle_timeout(
        &mut self,
        now: Timestamp,
        opened: Timestamp,
        stats: &mut VoiceStats,
    ) -> Option<Heard> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        self.release(now, opened, stats)
    }

    fn release(
        &mut self,
        now: Timestamp,
        opened: Timestamp,
        stats: &mut VoiceStats,
    ) -> Option<Heard> {
        let press = self.press.take()?;
        self.told = Some((press.ssrc, press.timestamp));
        if !self.allowance.take(now) {
            stats.keys_dropped += 1;
            return None;
        }
        Some(Heard::Dtmf {
            at: call_time(opened, press.began),
            digit: press.digit,
            duration: press.duration(),
        })
    }
}

impl Press {
    fn new(now: Timestamp, digit: char, packet: &Incoming<'_>, report: Report) -> Self {
        let mut press = Self {
            digit,
            ssrc: packet.ssrc,
            timestamp: packet.timestamp,
            clock_rate: packet.codec.clock_rate(),
            before: 0,
            units: report.duration,
            began: now,
            last: now,
        };
        press.began = now.before(Duration::from_micros(press.duration()));
        press
    }

    /// Whether a report is of this key, held on; then it is longer.
    fn extend(&mut self, now: Timestamp, packet: &Incoming<'_>, report: Report) -> bool {
        if packet.ssrc != self.ssrc || report.key() != Some(self.digit) {
            return false;
        }
        let step = packet.timestamp.wrapping_sub(self.timestamp);
        if step == SEGMENT && !packet.marker {
            self.before = self.before.saturating_add(u64::from(SEGMENT));
            (self.timestamp, self.units) = (packet.timestamp, 0);
        } else if step != 0 {
            return false;
        }
        self.units = self.units.max(report.duration);
        self.last = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::Rate;
    use crate::plan::Codec;
    use crate::voice::message::CallTime;

    /// One packet: when it comes in milliseconds, its number, timestamp and payload.
    fn take(
        keypad: &mut Keypad,
        millis: u64,
        sequence: u64,
        timestamp: u32,
        payload: &[u8],
    ) -> Vec<Heard> {
        let now = Timestamp::from_millis(millis);
        let packet = Incoming {
            media: 0,
            ssrc: 7,
            codec: Codec::TelephoneEvent(Rate::Hz8000),
            sequence,
            timestamp,
            marker: false,
            keyframe: false,
            payload,
            audio_level: None,
            video_orientation: None,
            vp8: None,
            clock: None,
            received: now,
            first: false,
        };
        let mut stats = VoiceStats::default();
        let mut told: Vec<_> = keypad
            .handle_timeout(now, Timestamp::ZERO, &mut stats)
            .into_iter()
            .collect();
        told.extend(
            keypad
                .handle_packet(now, Timestamp::ZERO, &packet, &mut stats)
                .into_iter()
                .flatten(),
        );
        told
    }

    fn report(event: u8, end: bool, duration: u16) -> [u8; 4] {
        Report {
            event,
            end,
            duration,
        }
        .write()
    }

    fn dtmf(millis: u64, digit: char, duration_ms: u64) -> Heard {
        Heard::Dtmf {
            at: CallTime(millis * 1_000),
            digit,
            duration: duration_ms * 1_000,
        }
    }

    /// All that is told of packets (milliseconds, number, timestamp, event, end, duration), and of the time after.
    fn told(packets: &[(u64, u64, u32, u8, bool, u16)]) -> Vec<Heard> {
        let mut keypad = Keypad::default();
        let mut all = Vec::new();
        for (millis, sequence, timestamp, event, end, duration) in packets {
            let payload = report(*event, *end, *duration);
            all.extend(take(&mut keypad, *millis, *sequence, *timestamp, &payload));
        }
        if let Some(deadline) = keypad.deadline() {
            let mut stats = VoiceStats::default();
            all.extend(keypad.handle_timeout(deadline, Timestamp::ZERO, &mut stats));
            assert_eq!(keypad.deadline(), None);
        }
        all
    }

    #[test]
    fn a_key_is_told_once_when_it_was_let_go() {
        let whole = [
            (120, 1, 800, 5, false, 160),
            (140, 2, 800, 5, false, 320),
            (200, 3, 800, 5, true, 800),
            (220, 4, 800, 5, true, 800),
            (240, 5, 800, 5, true, 800),
        ];
        assert_eq!(told(&whole), [dtmf(100, '5', 100)]);
        // Whatever is lost of it, as long as anything came.
        for lost in 0..whole.len() {
            let mut packets = whole.to_vec();
            packets.remove(lost);
            assert_eq!(told(&packets).len(), 1, "without {lost}");
        }
        assert_eq!(told(&whole[..2]), [dtmf(100, '5', 40)], "no end came");
        assert_eq!(
            told(&whole[4..]),
            [dtmf(140, '5', 100)],
            "only the last came"
        );
        let mut reordered = whole;
        reordered.swap(1, 4);
        assert_eq!(told(&reordered), [dtmf(100, '5', 100)]);
    }

    #[test]
    fn keys_in_a_row_are_told_in_that_order_and_the_same_key_twice_is_two() {
        let packets = [
            (100, 1, 800, 1, false, 0),
            // The end of the first is lost.
            (250, 3, 2_000, 1, false, 0),
            (350, 4, 2_000, 1, true, 800),
            (360, 5, 2_000, 1, true, 800),
            (450, 6, 3_600, 11, true, 400),
        ];
        let expected = [dtmf(100, '1', 0), dtmf(250, '1', 100), dtmf(400, '#', 50)];
        assert_eq!(told(&packets), expected);
    }

    #[test]
    fn a_key_held_for_long_is_one_though_it_takes_several_events() {
        let end = u32::from(u16::MAX);
        let packets = [
            (1_000, 1, 800, 9, false, 8_000),
            (1_150, 2, 800, 9, false, u16::MAX),
            (1_300, 3, 800 + end, 9, false, 160),
            (1_450, 4, 800 + 2 * end, 9, true, 80),
        ];
        let micros = (2 * u64::from(u16::MAX) + 80) * 1_000_000 / 8_000;
        let [
            Heard::Dtmf {
                digit: '9',
                duration,
                ..
            },
        ] = told(&packets)[..]
        else {
            panic!("{:?}", told(&packets))
        };
        assert_eq!(duration, micros);
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert_eq!(told(&[(100, 1, 800, 16, true, 800)]), []);
        // The hook's flash lets go of the key before it.
        assert_eq!(
            told(&[(100, 1, 800, 3, false, 0), (120, 2, 900, 16, true, 80)]),
            [dtmf(100, '3', 0)]
        );
        let mut keypad = Keypad::default();
        for malformed in [&[][..], &[5], &[5, 0, 0], &[5, 0, 0, 1, 0]] {
            assert_eq!(take(&mut keypad, 1, 1, 0, malformed), []);
        }
        assert_eq!(keypad.deadline(), None);
    }

    /// Every packet is a whole key, so that each would be an event that must arrive.
    #[test]
    fn more_keys_than_anybody_can_press_are_not_told() {
        let mut keypad = Keypad::default();
        let mut tell = |millis: u64, number: u64| {
            let payload = report((number % 16) as u8, true, 0);
            take(&mut keypad, millis, number, number as u32, &payload).len() as u64
        };
        // One each millisecond: the burst, and what comes due in the second.
        let told: u64 = (0..1_000).map(|number| tell(number, number)).sum();
        assert_eq!(told, u64::from(HEARD_KEYS_MAX) + 9);
        // As fast as fingers can, all are; and after a pause the burst is whole again, and no more than that.
        let told: u64 = (0..50)
            .map(|number| tell(2_000 + 100 * number, 2_000 + number))
            .sum();
        assert_eq!(told, 50);
        let told: u64 = (0..50).map(|number| tell(60_000, 3_000 + number)).sum();
        assert_eq!(told, u64::from(HEARD_KEYS_MAX));
    }

    proptest! {
        /// Each packet tells two digits at most, one that no key can have none, and all of it ends.
        #[test]
        fn no_packets_are_a_panic_or_more_digits_than_they_are(
            packets in prop::collection::vec(
                (0_u64..10_000, 0_u64..50, any::<u32>(), any::<[u8; 4]>()), 0..60,
            ),
        ) {
            let mut keypad = Keypad::default();
            let mut digits = 0;
            for (millis, sequence, timestamp, payload) in &packets {
                digits += take(&mut keypad, *millis, *sequence, *timestamp, payload).len();
            }
            let end = Timestamp::from_millis(20_000);
            let mut stats = VoiceStats::default();
            let last = keypad.handle_timeout(end, Timestamp::ZERO, &mut stats);
            digits += usize::from(last.is_some());
            prop_assert!(digits <= packets.len());
            prop_assert_eq!(keypad.deadline(), None);
        }
    }
}

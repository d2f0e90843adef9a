//! What a jitter buffer promises, whatever the path was (J1 to J3, against hostile packets, is the fuzz body
//! `jitter_ops`).

use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::jitter::tone::{ToneDecoder, TonePacket};
use antiphon_core::jitter::{Config, FrameKind, JitterBuffer, Packet};
use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use crate::run::at;

const FRAME: i64 = 10_000;

/// A stream through a buffer, at exact times.
struct Line {
    buffer: JitterBuffer,
    decoder: ToneDecoder,
    /// RTP timestamp units of 10 ms, and frames of a packet.
    ticks: u32,
    frames: u8,
    now: i64,
    /// Packets on their way: arrival and number, in order.
    coming: Vec<(i64, u64)>,
    kinds: Vec<FrameKind>,
}

impl Line {
    fn new(config: Config, clock_rate: u32, frames: u8) -> Self {
        Self {
            buffer: JitterBuffer::new(config, Rate::Hz8000, clock_rate),
            decoder: ToneDecoder::new(Rate::Hz8000),
            ticks: clock_rate / 100,
            frames,
            now: 4_000,
            coming: Vec::new(),
            kinds: Vec::new(),
        }
    }

    fn send(&mut self, arrival: i64, number: u64) {
        let place = self.coming.partition_point(|(other, _)| *other <= arrival);
        self.coming.insert(place, (arrival, number));
    }

    fn insert(&mut self, arrival: i64, number: u64, packet: TonePacket) {
        self.buffer.insert(
            at(arrival),
            Packet {
                sequence: 70_000 + number,
                timestamp: packet.at.wrapping_mul(self.ticks).wrapping_sub(9_000),
                payload: &packet.payload(),
                marker: false,
            },
        );
    }

    /// Plays up to a time; what arrives by then is heard.
    fn play_until(&mut self, end: i64) {
        while self.now < end {
            while let Some(&(arrival, number)) = self.coming.first()
                && arrival <= self.now
            {
                self.coming.remove(0);
                let packet = TonePacket {
                    at: number as u32 * u32::from(self.frames),
                    frames: self.frames,
                    ..TonePacket::default()
                };
                self.insert(arrival, number, packet);
            }
            let mut out = [0.0; 80];
            let kind = self.buffer.poll(at(self.now), &mut self.decoder, &mut out);
            self.decoder.decoded.clear();
            self.kinds.push(kind);
            self.now += FRAME;
        }
    }

    fn packet_micros(&self) -> i64 {
        i64::from(self.frames) * FRAME
    }
}

fn presets() -> impl Strategy<Value = Config> {
    prop_oneof![Just(Config::AGENT), Just(Config::HUMAN)]
}

fn cases(cases: u32) -> Cases {
    Cases {
        cases,
        failure_persistence: None,
        ..Cases::default()
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// J4: whatever came before, after 5 s of a clean path the delay is what it should be.
    #[test]
    fn the_delay_returns_within_five_seconds_of_a_clean_path(
        config in presets(),
        lateness in prop::collection::vec((0_i64..600_000, 0_u8..20), 50..600),
    ) {
        let mut line = Line::new(config, 48_000, 2);
        let mut number = 0;
        for (late, kind) in lateness {
            match kind {
                0..2 => {}
                2..6 => line.send(number as i64 * 20_000 + late, number),
                _ => line.send(number as i64 * 20_000 + late / 40, number),
            }
            number += 1;
        }
        for _ in 0..320 {
            line.send(number as i64 * 20_000, number);
            number += 1;
        }
        line.play_until((number as i64 - 20) * 20_000);
        let limit = line.buffer.target() + Duration::from_millis(20);
        prop_assert!(line.buffer.delay() <= limit, "{:?} of {limit:?}", line.buffer.delay());
    }

    /// J5: as long as jitter stays below the target and nothing is lost, nothing is made up.
    #[test]
    fn jitter_within_the_target_conceals_nothing(
        config in presets(),
        lateness in prop::collection::vec(0_i64..9_000, 100..500),
        frames in prop::sample::select(vec![1_u8, 2, 4, 6, 12]),
    ) {
        let mut line = Line::new(config, 48_000, frames);
        let packet = line.packet_micros();
        for (number, late) in (0..).zip(&lateness) {
            line.send(number as i64 * packet + late, number);
        }
        line.play_until((lateness.len() as i64 - 1) * packet);
        let stats = line.buffer.stats();
        prop_assert_eq!(stats.concealed_samples, 0);
        prop_assert_eq!(stats.packets_late + stats.packets_overflowed, 0);
    }

    /// J6: without jitter the target is as low as it may be, whatever the clock and the packets are.
    #[test]
    fn without_jitter_the_target_falls_to_its_minimum(
        config in presets(),
        clock_rate in prop::sample::select(vec![8_000_u32, 16_000, 44_100, 48_000, 90_000]),
        frames in prop::sample::select(vec![1_u8, 2, 4, 6, 12]),
        transit in 0_i64..1_000_000,
    ) {
        let mut line = Line::new(config, clock_rate, frames);
        let packet = line.packet_micros();
        for number in 0..6_000_000 / packet {
            line.send(transit + number * packet, number as u64);
        }
        line.play_until(transit + 5_900_000);
        prop_assert_eq!(line.buffer.target(), config.delay_min);
        prop_assert_eq!(line.buffer.stats().concealed_samples, 0);
        prop_assert!(line.buffer.delay() <= config.delay_min + config.slack);
    }

    /// J9: another source, clock or timeline is followed at once, and what waited of the old one is gone.
    #[test]
    fn another_source_is_followed_at_once(
        config in presets(),
        before in 10_u64..200,
        clock_rate in prop::sample::select(vec![8_000_u32, 48_000]),
        is_announced: bool,
        leap in 1_u64 << 20..1 << 31,
    ) {
        let mut line = Line::new(config, 48_000, 2);
        (0..before).for_each(|number| line.send(number as i64 * 20_000, number));
        line.play_until(before as i64 * 20_000);
        let start = line.now;
        let mut offset = leap as u32;
        if is_announced {
            line.buffer.switch_source(Rate::Hz8000, clock_rate);
            prop_assert_eq!(line.buffer.held(), 0);
            line.ticks = clock_rate / 100;
            offset = 0;
        }
        let earlier = line.buffer.stats();
        for number in 0..50 {
            let packet = TonePacket { at: number as u32 * 2 + offset / 480, frames: 2, ..TonePacket::default() };
            let arrival = start + number * 20_000;
            line.play_until(arrival);
            line.insert(arrival, before + number as u64, packet);
        }
        line.play_until(start + 1_000_000);
        let stats = line.buffer.stats();
        prop_assert_eq!(stats.restarts, 1);
        prop_assert!(stats.packets_played - earlier.packets_played >= 46);
        // It may have run dry in the wait for the first of them, and not after.
        let made_up = stats.concealed_samples - earlier.concealed_samples;
        prop_assert!(made_up <= 2 * 80, "{} samples", made_up);
    }

    /// J10: after a switch it plays as a new one does.
    #[test]
    fn after_a_switch_it_is_as_new(packets in 1_u64..100, lost in 1_u64..9) {
        let config = Config::HUMAN;
        let mut used = Line::new(config, 48_000, 2);
        (0..packets).for_each(|number| used.send(number as i64 * 20_000, number));
        used.play_until(400_000);
        used.buffer.switch_source(Rate::Hz8000, 48_000);
        let mut fresh = Line::new(config, 48_000, 2);
        for line in [&mut used, &mut fresh] {
            line.kinds.clear();
            line.coming.clear();
            line.now = 5_004_000;
            for number in 0..20 {
                if number != lost {
                    line.send(5_000_000 + number as i64 * 20_000, number);
                }
            }
            line.play_until(5_390_000);
        }
        prop_assert_eq!(used.kinds, fresh.kinds);
    }
}

/// J7: for an hour the sender's clock is off. The delay does not grow, and nothing is made up for it.
#[test]
fn an_hour_of_drift_is_played_without_a_gap() {
    for (parts_per_million, config) in [
        (300, Config::AGENT),
        (-300, Config::HUMAN),
        (500, Config::HUMAN),
        (-500, Config::AGENT),
    ] {
        let mut line = Line::new(config, 48_000, 12);
        let packet = line.packet_micros();
        for number in 0..3_600_000_000 / packet {
            let sent = number * packet;
            let arrival = sent + sent * parts_per_million / 1_000_000;
            line.play_until(arrival);
            line.send(arrival, number as u64);
            if number % 500 == 499 {
                let limit = config.delay_min + Duration::from_millis(20);
                let delay = line.buffer.delay();
                assert!(delay <= limit, "{delay:?} after {number} packets");
                assert!(line.buffer.held() <= 1 && line.kinds.len() > 5_000);
                line.kinds.clear();
            }
        }
        let stats = line.buffer.stats();
        let made_up = (
            stats.concealed_samples,
            stats.underruns,
            stats.packets_overflowed,
        );
        assert_eq!(made_up, (0, 0, 0), "{parts_per_million} ppm: {stats:?}");
        let hour = 3_600 * 8_000 * parts_per_million.unsigned_abs() / 1_000_000;
        let stretched =
            stats.inserted_samples_for_deceleration + stats.removed_samples_for_acceleration;
        assert!(stretched.abs_diff(hour) < hour / 5, "{stretched} of {hour}");
    }
}

/// J8: a minute in which the sender says nothing is no loss.
#[test]
fn a_minute_of_silence_is_no_loss() {
    for config in [Config::AGENT, Config::HUMAN] {
        let mut line = Line::new(config, 48_000, 2);
        (0..100).for_each(|number| line.send(number * 20_000, number as u64));
        line.play_until(2_000_000);
        let dtx = |at| TonePacket {
            at,
            frames: 2,
            is_dtx: true,
            has_fec: false,
        };
        // One packet in 400 ms, as Opus does it.
        for pause in 0..150 {
            let arrival = 2_000_000 + pause * 400_000;
            line.play_until(arrival);
            line.insert(arrival, 100 + pause as u64, dtx(200 + pause as u32 * 40));
        }
        line.play_until(62_000_000);
        let before = line.buffer.stats();
        assert_eq!(before.concealed_samples, 0);
        assert!(before.silence_samples >= 59 * 8_000);
        for number in 0..100 {
            let arrival = 62_000_000 + number * 20_000;
            line.play_until(arrival);
            let packet = TonePacket {
                at: 6_200 + number as u32 * 2,
                frames: 2,
                ..TonePacket::default()
            };
            line.insert(arrival, 250 + number as u64, packet);
        }
        line.play_until(64_000_000);
        assert_eq!(line.buffer.stats().concealed_samples, 0);
        assert_eq!(line.buffer.stats().restarts, 0);
    }
}

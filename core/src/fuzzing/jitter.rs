//! A jitter buffer against what any peer may send it, at any time.

use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use crate::audio::Rate;
use crate::jitter::tone::{ToneDecoder, TonePacket};
use crate::jitter::{Config, FrameKind, JitterBuffer, JitterStats, Mode, Packet};
use crate::limits::JITTER_PACKETS_MAX;
use crate::time::Timestamp;

/// Where numbers begin: just before a wrap.
const START: u64 = 0x2_fff0;
/// Timestamp units of 10 ms.
const TICKS: u32 = 480;
/// Frames that one packet can bring forth at once: what is held, and the gaps between, which agree with the clock to
/// a second.
const FRAMES_MAX: usize = JITTER_PACKETS_MAX * 12 + 1_000;

#[derive(Arbitrary)]
enum JitterOp {
    Packet {
        /// From the number that is next; in the high values, thousands.
        step: i8,
        /// Timestamp beside the one that the clock would give, in units of 10 ms; in the high values, hours.
        shift: i8,
        /// As `ToneDecoder` reads it; most values are not valid.
        flags: u8,
        frames: u8,
        junk: u8,
    },
    /// The next packet, as it should be.
    Next,
    Pass {
        frames: u8,
    },
    Switch,
}

struct Run {
    buffer: JitterBuffer,
    decoder: ToneDecoder,
    now: Timestamp,
    next: u64,
    is_clocked: bool,
    /// The number decoded last, since the stream last began anew.
    decoded: Option<u64>,
    /// The frames handed out since the clock last moved.
    frames: usize,
    before: JitterStats,
}

/// Packets and time.
pub fn jitter_ops(data: &[u8]) {
    let config = match data.first().copied().unwrap_or_default() % 3 {
        0 => Config::AGENT,
        1 => Config::HUMAN,
        _ => Config::arrival_driven(Duration::from_millis(60)),
    };
    let mut run = Run {
        buffer: JitterBuffer::new(config, Rate::Hz8000, TICKS * 100),
        decoder: ToneDecoder::new(Rate::Hz8000),
        now: Timestamp::from_millis(5_000),
        next: START,
        is_clocked: config.mode == Mode::Clocked,
        decoded: None,
        frames: 0,
        before: JitterStats::default(),
    };
    for op in ops(data.get(1..).unwrap_or_default()) {
        run.apply(&op);
        run.check();
    }
}

impl Run {
    fn apply(&mut self, op: &JitterOp) {
        match *op {
            JitterOp::Packet {
                step,
                shift,
                flags,
                frames,
                junk,
            } => {
                let far = if step.unsigned_abs() > 100 { 1_000 } else { 1 };
                let sequence = self.next.saturating_add_signed(i64::from(step) * far);
                let hours = if shift.unsigned_abs() > 120 {
                    1 << 20
                } else {
                    1
                };
                let shift = (i32::from(shift) * hours).wrapping_mul(TICKS as i32);
                let packet = TonePacket {
                    at: sequence as u32,
                    frames: frames % 13,
                    is_dtx: flags & 1 != 0,
                    has_fec: flags & 2 != 0,
                };
                let mut payload = packet.payload().to_vec();
                payload.resize(payload.len() + usize::from(junk / 128 * junk) * 8, junk);
                self.insert(sequence, shift as u32, &payload);
            }
            JitterOp::Next => {
                let packet = TonePacket {
                    at: self.next as u32,
                    frames: 2,
                    ..TonePacket::default()
                };
                self.insert(self.next, 0, &packet.payload());
            }
            JitterOp::Pass { frames } => {
                for _ in 0..frames % 64 {
                    self.now = self.now + Duration::from_millis(10);
                    self.frames = 0;
                    self.poll();
                }
            }
            JitterOp::Switch => {
                let rate = if self.next.is_multiple_of(2) {
                    Rate::Hz8000
                } else {
                    Rate::Hz16000
                };
                self.buffer.switch_source(rate, (self.next as u32) << 10);
                self.decoder = ToneDecoder::new(rate);
                assert_eq!(self.buffer.held(), 0);
            }
        }
    }

    fn insert(&mut self, sequence: u64, shift: u32, payload: &[u8]) {
        let clock = (self.now.as_millis() as u32 / 10).wrapping_mul(TICKS);
        self.buffer.insert(
            self.now,
            Packet {
                sequence,
                timestamp: clock.wrapping_add(shift),
                payload,
                marker: shift.is_multiple_of(7),
            },
        );
        self.next = sequence.saturating_add(1);
        if !self.is_clocked {
            self.poll();
        }
    }

    fn poll(&mut self) {
        loop {
            let mut out = [f32::NAN; 160];
            let frame = self.decoder_frame();
            let kind = self
                .buffer
                .poll(self.now, &mut self.decoder, &mut out[..frame]);
            self.check_order();
            if kind == FrameKind::Empty {
                assert!(!self.is_clocked, "a clock that plays needs a frame");
                let deadline = self.buffer.next_deadline();
                assert!(deadline.is_none_or(|deadline| deadline > self.now));
                return;
            }
            assert!(out[..frame].iter().all(|x| x.abs() <= 1.0), "{kind:?}");
            self.frames += 1;
            assert!(self.frames <= FRAMES_MAX, "it never stops");
            if self.is_clocked {
                return;
            }
        }
    }

    fn decoder_frame(&self) -> usize {
        use crate::codec::Decoder as _;
        self.decoder.rate().frame()
    }

    /// J1: what is played follows on what was played.
    fn check_order(&mut self) {
        let stats = self.buffer.stats();
        if stats.restarts != self.before.restarts {
            self.decoded = None;
        }
        self.before = stats;
        for packet in self.decoder.decoded.drain(..) {
            // Of a copy, only its packet's successor has a number.
            if packet.frames == 0 {
                continue;
            }
            let number = u64::from(packet.at);
            assert!(self.decoded.is_none_or(|last| last < number), "{number}");
            self.decoded = Some(number);
        }
    }

    /// J2 and J3, and that no count falls.
    fn check(&mut self) {
        let stats = self.buffer.stats();
        let held = self.buffer.held();
        assert!(held <= JITTER_PACKETS_MAX);
        assert!(self.buffer.ready() < Duration::from_millis(180));
        assert_eq!(
            stats.packets_received,
            stats.packets_played
                + stats.packets_late
                + stats.packets_duplicated
                + stats.packets_overflowed
                + stats.packets_refused
                + held as u64
        );
        assert!(stats.concealed_samples >= stats.silent_concealed_samples);
        assert!(stats.packets_played >= self.before.packets_played);
        assert!(stats.concealed_samples >= self.before.concealed_samples);
        assert!(self.buffer.target() <= crate::limits::JITTER_DELAY_MAX);
    }
}

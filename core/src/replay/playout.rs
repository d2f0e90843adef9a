//! The sound of one stream, as whoever got its packets when they came would have heard it.

use std::time::Duration;

use super::MediaPacket;
use super::codec::Codec;
use crate::audio::{FRAME_SAMPLES_MAX, Rate};
use crate::codec::AnyDecoder;
use crate::jitter::{Config, FrameKind, JitterBuffer, JitterStats, Packet};
use crate::limits::{JITTER_PACKETS_MAX, PLAYOUT_PAUSE_MAX};
use crate::plan;
use crate::time::Timestamp;

/// Between two frames.
const FRAME: Duration = Duration::from_millis(10);
/// Frames after the last packet, at most: all that waits, of 120 ms each.
const FRAMES_LEFT_MAX: usize = 12 * JITTER_PACKETS_MAX;

/// A stream on its way through a jitter buffer, as a person's client has one, and its decoder.
#[derive(Debug)]
pub struct Playout {
    codec: plan::Codec,
    decoder: AnyDecoder,
    rate: Rate,
    buffer: JitterBuffer,
    /// When the next frame is due.
    next: Timestamp,
    frames: u64,
    skipped: Duration,
}

/// What came of a stream's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayoutReport {
    /// What was decoded last.
    pub codec: plan::Codec,
    /// Samples a second.
    pub rate: Rate,
    /// How long the sound is.
    pub duration: Duration,
    /// What was left out of pauses longer than [`PLAYOUT_PAUSE_MAX`].
    pub skipped: Duration,
    /// The delay that the jitter buffer aimed at last.
    pub target: Duration,
    /// What the jitter buffer and the decoder did.
    pub stats: JitterStats,
}

impl Playout {
    /// For a stream whose first packet this is; `None`: there is no decoder for it, or it came at no time.
    #[must_use]
    pub fn new(packet: &MediaPacket<'_>) -> Option<Self> {
        let codec = known(packet.codec?)?;
        let rate = match codec {
            plan::Codec::Opus => Rate::Hz48000,
            _ => Rate::Hz8000,
        };
        let clock_rate = packet.codec?.clock_rate();
        Some(Self {
            codec,
            decoder: AnyDecoder::new(codec, rate).ok()?,
            rate,
            buffer: JitterBuffer::new(Config::HUMAN, rate, clock_rate),
            next: packet.arrived?,
            frames: 0,
            skipped: Duration::ZERO,
        })
    }

    /// Samples a second of its sound.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes in a packet, and gives out the frames that were due before it. One of another kind, such as a
    /// digit that was pressed, is passed over.
    pub fn insert(&mut self, packet: &MediaPacket<'_>, mut out: impl FnMut(&[f32])) {
        let (Some(arrived), Some(codec)) = (packet.arrived, packet.codec) else {
            return;
        };
        let Some(known) = known(codec) else {
            return;
        };
        self.play_until(arrived, &mut out);
        if known != self.codec
            && let Ok(decoder) = AnyDecoder::new(known, self.rate)
        {
            (self.codec, self.decoder) = (known, decoder);
            self.buffer.switch_source(self.rate, codec.clock_rate());
        }
        let packet = Packet {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            payload: packet.payload,
            marker: packet.marker,
        };
        self.buffer.insert(arrived.max(self.next), packet);
    }

    /// Gives out what is left.
    #[must_use]
    pub fn finish(mut self, mut out: impl FnMut(&[f32])) -> PlayoutReport {
        let mut stats = self.buffer.stats();
        for _ in 0..FRAMES_LEFT_MAX {
            let mut samples = [0.0; FRAME_SAMPLES_MAX];
            let frame = &mut samples[..self.rate.frame()];
            let kind = self.buffer.poll(self.next, &mut self.decoder, frame);
            let is_over = kind.is_concealed() || kind == FrameKind::Silence;
            if is_over && self.buffer.held() == 0 {
                // That nothing follows is no loss, and this frame is none of the stream's.
                stats = JitterStats {
                    total_samples_received: stats.total_samples_received,
                    concealed_samples: stats.concealed_samples,
                    silent_concealed_samples: stats.silent_concealed_samples,
                    concealment_events: stats.concealment_events,
                    silence_samples: stats.silence_samples,
                    underruns: stats.underruns,
                    ..self.buffer.stats()
                };
                break;
            }
            self.note_frame(frame, &mut out);
            stats = self.buffer.stats();
        }
        PlayoutReport {
            codec: self.codec,
            rate: self.rate,
            duration: FRAME.saturating_mul(u32::try_from(self.frames).unwrap_or(u32::MAX)),
            skipped: self.skipped,
            target: self.buffer.target(),
            stats,
        }
    }

    fn play_until(&mut self, now: Timestamp, out: &mut impl FnMut(&[f32])) {
        let pause_ends = self.next + PLAYOUT_PAUSE_MAX;
        while self.next < now.min(pause_ends) {
            let mut samples = [0.0; FRAME_SAMPLES_MAX];
            let frame = &mut samples[..self.rate.frame()];
            self.buffer.poll(self.next, &mut self.decoder, frame);
            self.note_frame(frame, out);
        }
        let left = now.since(self.next);
        if left > Duration::ZERO {
            self.next = now;
            self.skipped = self.skipped.saturating_add(left);
        }
    }

    fn note_frame(&mut self, frame: &[f32], out: &mut impl FnMut(&[f32])) {
        out(frame);
        self.next = self.next + FRAME;
        self.frames += 1;
    }
}

/// The codec of a name, if it has a decoder of ours.
pub(super) fn known(codec: &Codec) -> Option<plan::Codec> {
    let known = [plan::Codec::Opus, plan::Codec::Pcmu, plan::Codec::Pcma];
    let mut known = known.into_iter();
    known.find(|known| known.name().eq_ignore_ascii_case(codec.name()))
}

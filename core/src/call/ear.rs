//! What a person says: out of packets that come unevenly, into frames on the call's clock.

use std::collections::VecDeque;
use std::time::Duration;

use super::call_time;
use crate::audio::{FRAME_SAMPLES_MAX, Rate, Resampler};
use crate::codec::AnyDecoder;
use crate::jitter::{Config, JitterBuffer, JitterStats, Packet};
use crate::plan::Codec;
use crate::session::media::Incoming;
use crate::time::Timestamp;
use crate::voice::features::{ANALYSED_SAMPLES, Analyser, CERTAIN, Features, Side};
use crate::voice::message::{AgentPlan, CallTime, Heard};

/// Between two decoders of one call.
pub(super) const CODEC_CHANGE_INTERVAL: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(10);
/// After this long without a packet nothing more is listened for: long enough for every decision of the turn
/// detector, its "nobody speaks" of 15 s included.
const LISTEN_MAX: Duration = Duration::from_secs(20);
/// A thread that was kept from running for longer leaves out what it missed.
const LATE_MAX: Duration = Duration::from_millis(200);

/// Jitter buffer, decoder and analyser of one person.
pub(super) struct Ear {
    codec: Codec,
    made: Timestamp,
    source: u32,
    /// What it decodes at: the least that analyser and agent can be given from.
    rate: Rate,
    jitter: JitterBuffer,
    decoder: AnyDecoder,
    for_analyser: Resampler,
    analyser: Analyser,
    for_agent: Resampler,
    /// When the next frame is due.
    next: Timestamp,
    last_packet: Timestamp,
    batch: Batch,
}

/// Sound that is gathered for the agent.
struct Batch {
    frames_max: u8,
    at: CallTime,
    pcm: Vec<u8>,
    frames: u8,
    speech: u32,
    concealed: bool,
}

impl Ear {
    /// An ear for a codec; `None`: there is no decoder of it.
    pub(super) fn new(now: Timestamp, plan: AgentPlan, packet: &Incoming<'_>) -> Option<Self> {
        let codec = packet.codec;
        let rate = match plan.rate {
            Rate::Hz8000 | Rate::Hz16000 => Rate::Hz16000,
            Rate::Hz24000 | Rate::Hz48000 => Rate::Hz48000,
        };
        let decoder = AnyDecoder::new(codec, rate).ok()?;
        Some(Self {
            codec,
            made: now,
            source: packet.ssrc,
            rate,
            jitter: JitterBuffer::new(Config::AGENT, rate, codec.clock_rate()),
            decoder,
            for_analyser: Resampler::new(rate, Rate::Hz16000),
            analyser: Analyser::new(),
            for_agent: Resampler::new(rate, plan.rate),
            next: now,
            last_packet: now,
            batch: Batch::new(plan.batch_millis),
        })
    }

    pub(super) const fn codec(&self) -> Codec {
        self.codec
    }

    pub(super) const fn made(&self) -> Timestamp {
        self.made
    }

    pub(super) fn stats(&self) -> JitterStats {
        self.jitter.stats()
    }

    /// Takes in a packet of the codec.
    pub(super) fn handle_packet(&mut self, now: Timestamp, packet: &Incoming<'_>) {
        if self.deadline().is_none() {
            self.next = now;
        }
        self.last_packet = now;
        if packet.ssrc != self.source {
            self.source = packet.ssrc;
            self.jitter
                .switch_source(self.rate, self.codec.clock_rate());
        }
        let inserted = Packet {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            payload: packet.payload,
            marker: packet.marker,
        };
        // The kernel's stamp: what a busy thread added is no jitter of the path's.
        self.jitter.insert(packet.received, inserted);
    }

    /// When [`Self::listen`] is due.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let listens = self.next.since(self.last_packet) < LISTEN_MAX;
        listens.then_some(self.next)
    }

    /// The next frame that is due, and when it began.
    pub(super) fn listen(
        &mut self,
        now: Timestamp,
        opened: Timestamp,
        heard: &mut VecDeque<Heard>,
    ) -> Option<(CallTime, Features)> {
        let due = self.deadline().filter(|due| *due <= now)?;
        let tick = if now.since(due) > LATE_MAX { now } else { due };
        self.next = tick + FRAME;
        let mut samples = [0.0; FRAME_SAMPLES_MAX];
        let samples = &mut samples[..self.rate.frame()];
        let kind = self.jitter.poll(tick, &mut self.decoder, samples);
        let side = Side {
            concealed: kind.is_concealed(),
            ..Side::default()
        };
        let mut analysed = [0.0; ANALYSED_SAMPLES];
        self.for_analyser.process(samples, &mut analysed);
        let features = self.analyser.analyse(&analysed, &side);
        let mut resampled = [0.0; FRAME_SAMPLES_MAX];
        let resampled = &mut resampled[..self.for_agent.destination().frame()];
        self.for_agent.process(samples, resampled);
        // What is heard now ends now: so decisions are never dated after they were made.
        let at = call_time(opened, tick.before(FRAME));
        heard.extend(self.batch.push(at, resampled, &features));
        Some((at, features))
    }
}

impl Batch {
    /// Gathers so much: 20 to 100 ms in tens; else the nearest of those.
    fn new(millis: u8) -> Self {
        Self {
            frames_max: (millis / 10).clamp(2, 10),
            at: CallTime(0),
            pcm: Vec::new(),
            frames: 0,
            speech: 0,
            concealed: false,
        }
    }

    /// Adds a frame; the batch, if it is full.
    fn push(&mut self, at: CallTime, samples: &[f32], features: &Features) -> Option<Heard> {
        if self.frames == 0 {
            self.at = at;
            let bytes = usize::from(self.frames_max) * samples.len() * 2;
            self.pcm = Vec::with_capacity(bytes);
        }
        let bytes = samples.iter().flat_map(|sample| {
            let sample = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0);
            (sample as i16).to_le_bytes()
        });
        self.pcm.extend(bytes);
        self.frames += 1;
        self.speech += u32::from(features.speech);
        self.concealed |= features.concealed;
        if self.frames < self.frames_max {
            return None;
        }
        let mean = self.speech / u32::from(self.frames);
        let batch = Heard::Audio {
            at: self.at,
            pcm: std::mem::take(&mut self.pcm),
            speech: (mean * 255 / u32::from(CERTAIN)) as u8,
            concealed: self.concealed,
        };
        (self.frames, self.speech, self.concealed) = (0, 0, false);
        Some(batch)
    }
}

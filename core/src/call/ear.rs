//! What a person says: out of packets that come unevenly, into frames on the call's clock.
//!
//! A program needs no even pace, so a frame is heard as soon as it is there, and only what is missing is waited for.
//! The clock of what is heard is made of frames: ten milliseconds each. It follows the shard's where the two part: it
//! leaps after a time without frames, and stands still over silence when frames came in a burst or the sender's clock
//! is fast.

use std::collections::VecDeque;
use std::time::Duration;

use super::{call_time, micros};
use crate::audio::{AudioFrame, Channels, FRAME_SAMPLES_MAX, Rate, Resampler, Stage};
use crate::jitter::{Config, FrameKind, JitterStats};
use crate::message::{VOICE_DELAY_BOUNDS, VoiceStats};
use crate::session::media::{Incoming, SourceDecoder};
use crate::time::Timestamp;
use crate::voice::features::{ANALYSED_SAMPLES, Analyser, CERTAIN, Features, Side};
use crate::voice::message::{AgentPlan, CallTime, Heard};

const FRAME: Duration = Duration::from_millis(10);
/// What is missing is waited for so long: two packets, in which one that was overtaken comes or never.
const GAP_WAIT: Duration = Duration::from_millis(40);
/// After this long without a packet nothing more is listened for: long enough for every decision of the turn
/// detector, its "nobody speaks" of 15 s included.
const LISTEN_MAX: Duration = Duration::from_secs(20);
/// The clock of what is heard leaps when it is so far behind: further than a stall that is waited out puts it.
const BEHIND_MAX: Duration = Duration::from_millis(300);
/// It stands still over silence when it is so far ahead.
const AHEAD: Duration = Duration::from_millis(20);
/// So much sound may come at once; what is beyond waits, as whoever sends faster than time passes must not cost more
/// than that.
const BURST_MAX: Duration = Duration::from_millis(500);
/// What a frame takes of it: a little less than it lasts, as a sender's clock may be fast.
const FRAME_COST: Duration = Duration::from_micros(9_800);
/// A model's judgement holds for so long after the sound it is of: its window, and the way to it and back.
const JUDGEMENT_FRESH: Duration = Duration::from_millis(150);

/// Jitter buffer, decoder and analyser of one person.
pub(super) struct Ear {
    source: SourceDecoder,
    /// What it decodes at: the least that analyser and agent can be given from.
    rate: Rate,
    for_analyser: Resampler,
    analyser: Analyser,
    /// For what the agent hears alone: features are of what was said.
    suppressor: Option<Box<dyn Stage + Send>>,
    for_agent: Resampler,
    /// Where the clock of what is heard stands: the end of the last frame.
    end: Timestamp,
    /// That was speech, as far as is known.
    spoke: bool,
    /// Up to when sound was taken in; see [`BURST_MAX`].
    spent: Timestamp,
    batch: Batch,
    /// Probability of speech that a model found, and up to where.
    judged: Option<(CallTime, u16)>,
}

/// Sound that is gathered for the agent.
struct Batch {
    frames_max: u8,
    /// When its first sound arrived.
    oldest: Timestamp,
    at: CallTime,
    pcm: Vec<u8>,
    frames: u8,
    speech: u32,
    concealed: bool,
}

impl Ear {
    /// An ear for a codec; `None`: there is no decoder of it.
    pub(super) fn new(now: Timestamp, plan: AgentPlan, packet: &Incoming<'_>) -> Option<Self> {
        let rate = match plan.rate {
            Rate::Hz8000 | Rate::Hz16000 => Rate::Hz16000,
            Rate::Hz24000 | Rate::Hz48000 => Rate::Hz48000,
        };
        let config = Config::arrival_driven(GAP_WAIT);
        Some(Self {
            source: SourceDecoder::new(now, config, rate, packet)?,
            rate,
            for_analyser: Resampler::new(rate, Rate::Hz16000),
            analyser: Analyser::new(),
            suppressor: plan.denoise.then(|| suppressor(rate)).flatten(),
            for_agent: Resampler::new(rate, plan.rate),
            // A packet has two frames as a rule: the second of the first one ends now.
            end: now.before(2 * FRAME),
            spoke: false,
            spent: now.before(BURST_MAX),
            batch: Batch::new(plan.batch_millis),
            judged: None,
        })
    }

    /// Takes the probability of speech, of [`CERTAIN`], that a model found in the sound up to `at`.
    pub(super) const fn note_judgement(&mut self, at: CallTime, probability: u16) {
        self.judged = Some((at, probability));
    }

    /// Where its packets go.
    pub(super) const fn source_mut(&mut self) -> &mut SourceDecoder {
        &mut self.source
    }

    /// The same, to look at.
    pub(super) const fn source(&self) -> &SourceDecoder {
        &self.source
    }

    /// When [`Self::listen`] is due though no packet comes.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let due = self.source.next_deadline()?;
        let due = due.max(self.spent);
        (due.since(self.source.last_packet()) < LISTEN_MAX).then_some(due)
    }

    /// The next frame that is there, and when it began.
    pub(super) fn listen(
        &mut self,
        now: Timestamp,
        opened: Timestamp,
        heard: &mut VecDeque<Heard>,
        stats: &mut VoiceStats,
    ) -> Option<(CallTime, Features)> {
        let before = self.source.stats();
        // Who is woken late hears what was due before the end nevertheless: it would stay due for ever.
        let is_over = now.since(self.source.last_packet()) >= LISTEN_MAX;
        if self.spent > now || (is_over && self.deadline().is_none()) {
            return None;
        }
        let mut frame = AudioFrame::new(self.rate, Channels::Mono);
        let kind = self.source.poll(now, frame.channel_mut(0));
        if kind == FrameKind::Empty {
            return None;
        }
        self.spent = self.spent.max(now.before(BURST_MAX)) + FRAME_COST;
        let side = Side {
            concealed: kind.is_concealed(),
            model: self.judgement(call_time(opened, self.end)),
            ..Side::default()
        };
        let mut analysed = [0.0; ANALYSED_SAMPLES];
        self.for_analyser.process(frame.channel(0), &mut analysed);
        let features = self.analyser.analyse(&analysed, &side);
        if let Some(suppressor) = &mut self.suppressor {
            suppressor.process(&mut frame);
        }
        let mut resampled = [0.0; FRAME_SAMPLES_MAX];
        let resampled = &mut resampled[..self.for_agent.destination().frame()];
        self.for_agent.process(frame.channel(0), resampled);
        self.advance(now);
        self.spoke = features.speech > CERTAIN / 2;
        let at = call_time(opened, self.end.before(FRAME));
        if self.batch.frames == 0 {
            self.batch.oldest = now.before(mean_wait(&before, &self.source.stats()));
        }
        if let Some(audio) = self.batch.push(at, resampled, &features) {
            heard.push_back(audio);
            let took = micros(now.since(self.batch.oldest));
            stats.hearing.note(&VOICE_DELAY_BOUNDS, took, 1);
        }
        Some((at, features))
    }

    /// What a model found of late.
    fn judgement(&self, now: CallTime) -> Option<f32> {
        let (at, probability) = self.judged?;
        let fresh = now.0.abs_diff(at.0) < micros(JUDGEMENT_FRESH);
        fresh.then(|| f32::from(probability) / f32::from(CERTAIN))
    }

    /// Lets the clock pass one frame.
    fn advance(&mut self, now: Timestamp) {
        let end = self.end + FRAME;
        self.end = if now.since(end) > BEHIND_MAX {
            now
        } else if end > now + AHEAD && !self.spoke {
            self.end
        } else {
            end
        };
    }
}

/// What takes noise away; `None`: nothing of this build.
fn suppressor(rate: Rate) -> Option<Box<dyn Stage + Send>> {
    #[cfg(feature = "dsp")]
    {
        use crate::audio::{Suppression, Suppressor};
        let suppressor = Suppressor::new(Suppression::Economy, rate)?;
        Some(Box::new(suppressor))
    }
    #[cfg(not(feature = "dsp"))]
    {
        let _ = rate;
        None
    }
}

/// How long the sound of the last frame waited in the jitter buffer.
fn mean_wait(before: &JitterStats, after: &JitterStats) -> Duration {
    let samples = after.jitter_buffer_emitted_count - before.jitter_buffer_emitted_count;
    let waited = after.jitter_buffer_delay - before.jitter_buffer_delay;
    Duration::from_micros(waited.checked_div(samples).unwrap_or(0))
}

impl Batch {
    /// Gathers so much: 20 to 100 ms in tens; else the nearest of those.
    fn new(millis: u8) -> Self {
        Self {
            frames_max: (millis / 10).clamp(2, 10),
            oldest: Timestamp::ZERO,
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

//! When packets that come unevenly are played: an adaptive jitter buffer.
//!
//! ```text
//! insert ─▶ PacketStore ─▶ decide ─┬─▶ decode, decode the copy, make up, fade ─▶ Tape ─▶ 10 ms
//!     └───▶ Arrivals ─▶ target ───▶┴─▶ leave a period out, play one twice ───────▶┘
//! ```
//!
//! It owns the packets, the decoded sound and the decisions ([`decide()`]); the decoder is lent to it. It keeps no
//! clock and allocates nothing after it is made. Its measure of delay is how much later a sample is played than it
//! could have been had its packet come as fast as the fastest of the last two seconds: that needs no level of the
//! buffer, which goes up and down with every arrival.
//!
//! - A: inputs are [`JitterBuffer::insert`] and the time of each [`JitterBuffer::poll`].
//! - B: output is what `poll` gives: 10 ms each time ([`Mode::Clocked`]), or whatever is due ([`Mode::ArrivalDriven`]).
//!
//! A packet that is late is not lost: as long as no later one waits, made-up sound does not use up media time, so the
//! late packet is played and the delay has grown by what was needed. Is a later one there, the gap is filled.

mod arrivals;
pub mod decide;
mod mask;
mod stats;
mod store;
mod stretch;
mod tape;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "sim"))]
pub mod tone;

use std::time::Duration;

use self::arrivals::{Arrivals, micros};
use self::decide::{BufferStatus, Next, PlayoutOp, decide};
use self::mask::{Mask, level};
pub use self::stats::JitterStats;
use self::store::{Held, PacketStore};
use self::stretch::Periods;
use self::tape::Tape;
use crate::audio::Rate;
use crate::codec::Decoder;
use crate::limits::{DROPOUT_MAX, JITTER_DELAY_MAX, JITTER_PACKETS_MAX, JITTER_PAYLOAD_BYTES_MAX};
use crate::sequence::SequenceWindow;
use crate::time::Timestamp;

/// Packets' timestamps and arrivals that disagree by more than this are of another timeline: the sender began anew.
const LEAP_MICROS: i64 = 1_000_000;
/// How long nothing at all is waited for, where no delay is kept: the longest stall of busy Wi-Fi.
const STALL_WAIT: Duration = Duration::from_millis(200);
/// A gap in time that leads this far beyond the packets missing is a pause.
const PAUSE_MICROS: i64 = 60_000;
/// Frames between two changes of speed.
const STRETCH_FRAMES: u32 = 5;
/// Frames of speech before its speed is first changed.
const SPURT_FRAMES: u32 = 20;

/// When frames are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 10 ms each time they are asked for, which is every 10 ms.
    Clocked,
    /// In order as soon as they are there. For recognisers, which need no even pace.
    ArrivalDriven {
        /// How long something that is due is waited for.
        wait: Duration,
    },
}

/// How a buffer weighs delay against sound that is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// When frames are handed out.
    pub mode: Mode,
    /// So many of a thousand half seconds shall pass without a late packet.
    pub quantile: u16,
    /// The delay aimed at before anything is known of the path.
    pub delay_start: Duration,
    /// The delay aimed at is no less ...
    pub delay_min: Duration,
    /// ... and no more, whatever the jitter is; at most [`JITTER_DELAY_MAX`].
    pub delay_max: Duration,
    /// How far the delay may stray from the one aimed at before the speed of playing is changed.
    pub slack: Duration,
    /// More sound than this does not wait: the oldest is dropped.
    pub held_max: Duration,
}

impl Config {
    /// For a program that listens in real time: it does not mind a changed speed, but every millisecond.
    pub const AGENT: Self = Self {
        mode: Mode::Clocked,
        quantile: 900,
        delay_start: Duration::from_millis(40),
        delay_min: Duration::from_millis(20),
        delay_max: JITTER_DELAY_MAX,
        slack: Duration::from_millis(10),
        held_max: Duration::from_millis(500),
    };

    /// For a person's ears.
    pub const HUMAN: Self = Self {
        quantile: 970,
        delay_start: Duration::from_millis(60),
        delay_min: Duration::from_millis(40),
        slack: Duration::from_millis(15),
        ..Self::AGENT
    };

    /// For a recogniser: no delay but for what is missing, which is waited for so long.
    #[must_use]
    pub const fn arrival_driven(wait: Duration) -> Self {
        Self {
            mode: Mode::ArrivalDriven { wait },
            // Nothing is gained by dropping what it would get at once.
            held_max: Duration::from_secs(5),
            ..Self::AGENT
        }
    }
}

/// One packet of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Extended sequence number: the SRTP index, say.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// What is decoded.
    pub payload: &'a [u8],
    /// It begins a talk-spurt, says the sender.
    pub marker: bool,
}

/// What 10 ms are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// What was sent.
    Normal,
    /// What was sent, with a period left out.
    Accelerated,
    /// What was sent, with a period played twice.
    Decelerated,
    /// What was sent, decoded from the next packet's copy.
    Fec,
    /// Made up by the decoder: the packet did not come in time.
    Concealed,
    /// Silence or noise after all that could be made up.
    ComfortNoise,
    /// A pause of the sender, or the wait before its first packet.
    Silence,
    /// Nothing is due ([`Mode::ArrivalDriven`]); the frame was not written.
    Empty,
}

impl FrameKind {
    /// Whether something is missing for which this was made up.
    #[must_use]
    pub const fn is_concealed(self) -> bool {
        matches!(self, Self::Concealed | Self::ComfortNoise)
    }
}

/// Where playing has got to.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Number of the packet to be decoded next ...
    sequence: u64,
    /// ... and its timestamp, if nothing comes between.
    timestamp: i64,
    /// Timestamp units of the last packet.
    packet: i64,
}

/// The jitter buffer of one source.
///
/// # Realtime safety
/// Nothing allocates after `new`. A call costs a bounded time, whatever was inserted.
#[derive(Debug)]
pub struct JitterBuffer {
    config: Config,
    rate: Rate,
    /// Timestamp units a second.
    clock_rate: i64,
    store: PacketStore,
    arrivals: Arrivals,
    seen: SequenceWindow,
    /// The packet with the highest number.
    newest: Option<(u64, i64)>,
    /// The number that would prove that the stream began anew.
    restart: Option<u64>,
    /// `None` before the first packet is played.
    position: Option<Position>,
    tape: Tape,
    mask: Mask,
    periods: Periods,
    /// Timestamp units made up since the last packet.
    made_up: i64,
    /// Arrival less media time of the packet decoded last, in microseconds.
    offset: i64,
    /// The sender pauses, or has not begun.
    pause: bool,
    /// What was made up or skipped must be joined to what is decoded next.
    seam: bool,
    reset_decoder: bool,
    /// Of the sound that waits.
    kind: FrameKind,
    frames_since_stretch: u32,
    frames_of_spurt: u32,
    delay: i64,
    stats: JitterStats,
}

impl JitterBuffer {
    /// A buffer for sound of the decoder's `rate`, out of a stream of `clock_rate` timestamps a second (below 1,000
    /// counts as 1,000).
    #[must_use]
    pub fn new(config: Config, rate: Rate, clock_rate: u32) -> Self {
        Self {
            config,
            rate,
            clock_rate: i64::from(clock_rate.max(1_000)),
            store: PacketStore::new(),
            arrivals: Arrivals::new(&config),
            seen: SequenceWindow::default(),
            newest: None,
            restart: None,
            position: None,
            tape: new_tape(rate),
            mask: Mask::new(rate.frame()),
            periods: Periods::new(rate.hz()),
            made_up: 0,
            offset: 0,
            pause: true,
            seam: true,
            reset_decoder: false,
            kind: FrameKind::Silence,
            frames_since_stretch: 0,
            frames_of_spurt: 0,
            delay: 0,
            stats: JitterStats::default(),
        }
    }

    /// How much later than possible sound is played, as of the last frame.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay.max(0) as u64)
    }

    /// The delay aimed at.
    #[must_use]
    pub fn target(&self) -> Duration {
        Duration::from_micros(self.arrivals.target() as u64)
    }

    /// Decoded sound that was not handed out yet.
    #[must_use]
    pub fn ready(&self) -> Duration {
        Duration::from_micros(self.samples_micros(self.tape.waiting()) as u64)
    }

    /// Packets that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.store.count()
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    /// When `poll` has something to hand out though no packet comes; `None`: not before one does.
    /// ([`Mode::ArrivalDriven`]: after each packet, poll until it is [`FrameKind::Empty`].)
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let micros = u64::try_from(self.due()?).unwrap_or(0);
        Some(Timestamp::from_nanos(micros.saturating_mul(1_000)))
    }

    /// Another source follows, or another codec: what waits is dropped, and the next packet is the first of a stream.
    /// What is known of the path's jitter stays, and so do the counts. Allocates if the rate is another.
    pub fn switch_source(&mut self, rate: Rate, clock_rate: u32) {
        self.begin_anew();
        self.clock_rate = i64::from(clock_rate.max(1_000));
        if rate != self.rate {
            self.rate = rate;
            self.periods = Periods::new(rate.hz());
            self.tape = new_tape(rate);
            self.mask = Mask::new(rate.frame());
        }
    }

    /// Takes in a packet that arrived `now`.
    pub fn insert(&mut self, now: Timestamp, packet: Packet<'_>) {
        self.stats.packets_received += 1;
        let Some(timestamp) = self.admit(now, &packet) else {
            return;
        };
        let held = Held::new(packet.sequence, timestamp, now, packet.marker);
        let mut dropped = self.store.insert(held, packet.payload);
        let held_max = self.ticks(micros(self.config.held_max));
        let newest = self.newest.map_or(timestamp, |(_, timestamp)| timestamp);
        while let Some(first) = self.store.first_from(self.expected()).copied()
            && newest - first.timestamp > held_max
        {
            self.store.remove(first.sequence);
            dropped += 1;
        }
        if dropped > 0 {
            self.stats.packets_overflowed += dropped as u64;
            self.skip();
        }
    }

    /// Hands out 10 ms: fills the first [`Rate::frame`] samples of `out`, which must have as many.
    pub fn poll(
        &mut self,
        now: Timestamp,
        decoder: &mut dyn Decoder,
        out: &mut [f32],
    ) -> FrameKind {
        if std::mem::take(&mut self.reset_decoder) {
            decoder.reset();
        }
        let mut stretched = None;
        let mut may_stretch = self.frames_since_stretch >= STRETCH_FRAMES;
        loop {
            let status = self.status(now, decoder, may_stretch);
            match decide(&status) {
                PlayoutOp::Play => {
                    self.delay = status.delay;
                    break;
                }
                PlayoutOp::Hold => return FrameKind::Empty,
                PlayoutOp::Decode => self.decode(now, decoder),
                PlayoutOp::DecodeFec => self.decode_fec(decoder),
                PlayoutOp::Conceal => self.conceal(decoder),
                PlayoutOp::Pause => self.pause(decoder),
                PlayoutOp::Accelerate => {
                    may_stretch = false;
                    stretched = self.accelerate(status.delay - status.target);
                }
                PlayoutOp::Decelerate => {
                    may_stretch = false;
                    stretched = self.decelerate(status.target - status.delay);
                }
            }
        }
        let frame = self.rate.frame();
        self.tape.take(&mut out[..frame]);
        self.stats.total_samples_received += frame as u64;
        self.frames_of_spurt = self.frames_of_spurt.saturating_add(1);
        self.frames_since_stretch = match stretched {
            Some(_) => 1,
            None => self.frames_since_stretch.saturating_add(1),
        };
        stretched.unwrap_or(self.kind)
    }

    /// Everything about a packet but its payload: its extended timestamp, if it may wait.
    fn admit(&mut self, now: Timestamp, packet: &Packet<'_>) -> Option<i64> {
        let bytes = packet.payload.len();
        if bytes == 0 || bytes > JITTER_PAYLOAD_BYTES_MAX || packet.sequence >= 1 << 62 {
            self.stats.packets_refused += 1;
            return None;
        }
        if self.is_leap(packet.sequence) {
            if self.restart != Some(packet.sequence) {
                // One stray packet does not move the stream (RFC 3550 §A.1); the next in sequence does.
                self.restart = Some(packet.sequence + 1);
                self.stats.packets_refused += 1;
                return None;
            }
            self.begin_anew();
        }
        if !self.seen.is_fresh(packet.sequence) {
            self.stats.packets_duplicated += 1;
            return None;
        }
        let (mut timestamp, mut offset) = self.place(now, packet.timestamp);
        let is_newest = self
            .newest
            .is_none_or(|(newest, _)| newest < packet.sequence);
        let fastest = self.arrivals.fastest().unwrap_or(offset);
        if (offset - fastest).abs() > LEAP_MICROS {
            if !is_newest {
                self.stats.packets_refused += 1;
                return None;
            }
            self.begin_anew();
            (timestamp, offset) = self.place(now, packet.timestamp);
        }
        self.seen.note(packet.sequence);
        self.restart = None;
        if is_newest {
            self.newest = Some((packet.sequence, timestamp));
        }
        self.arrivals
            .note(&self.config, now.as_micros() as i64, offset);
        let oldest = self
            .newest
            .map_or(0, |(newest, _)| newest)
            .saturating_sub(JITTER_PACKETS_MAX as u64 - 1);
        if packet.sequence < self.expected().max(oldest) {
            self.stats.packets_late += 1;
            return None;
        }
        Some(timestamp)
    }

    /// A number so far from the newest that the stream must have begun anew, or the packet is not of it.
    fn is_leap(&self, sequence: u64) -> bool {
        let Some((newest, _)) = self.newest else {
            return false;
        };
        sequence >= newest + DROPOUT_MAX || sequence + SequenceWindow::WIDTH <= newest
    }

    /// The extended timestamp nearest to the newest packet's, and its offset: arrival less media time.
    fn place(&self, now: Timestamp, timestamp: u32) -> (i64, i64) {
        let extended = match self.newest {
            Some((_, near)) => near + i64::from(timestamp.wrapping_sub(near as u32) as i32),
            None => i64::from(timestamp),
        };
        (extended, now.as_micros() as i64 - self.micros(extended))
    }

    /// Number of the packet to be decoded next; 0 while any may be the first.
    fn expected(&self) -> u64 {
        self.position.map_or(0, |position| position.sequence)
    }

    fn begin_anew(&mut self) {
        self.stats.packets_overflowed += self.store.clear() as u64;
        self.stats.restarts += 1;
        self.arrivals.restart();
        self.seen = SequenceWindow::default();
        self.newest = None;
        self.restart = None;
        self.position = None;
        self.made_up = 0;
        self.pause = true;
        self.seam = true;
        self.reset_decoder = true;
    }

    /// What was to come next was dropped: goes on with what is there.
    fn skip(&mut self) {
        let Some(position) = &mut self.position else {
            return;
        };
        if let Some(first) = self.store.first()
            && first.sequence > position.sequence
        {
            position.sequence = first.sequence;
            position.timestamp = first.timestamp;
            self.made_up = 0;
            self.seam = true;
        }
    }

    fn status(&self, now: Timestamp, decoder: &dyn Decoder, may_stretch: bool) -> BufferStatus {
        let now = now.as_micros() as i64;
        let next = self.next(decoder);
        let ready = self.samples_micros(self.tape.waiting());
        let first = self.store.first_from(self.expected());
        let media = match (next, self.position) {
            (Next::Spurt, _) | (_, None) => first.map(|first| self.micros(first.timestamp)),
            (_, Some(position)) => Some(self.micros(position.timestamp) - ready),
        };
        // The sound that is ready is played before a spurt begins.
        let before = if next == Next::Spurt { ready } else { 0 };
        let delay = match (media, self.arrivals.fastest()) {
            (Some(media), Some(fastest)) => now + before - media - fastest,
            _ => 0,
        };
        BufferStatus {
            mode: self.config.mode,
            ready,
            next,
            delay,
            target: self.arrivals.target(),
            slack: micros(self.config.slack),
            may_stretch: may_stretch
                && self.frames_of_spurt >= SPURT_FRAMES
                && self.kind == FrameKind::Normal
                && next != Next::Spurt,
            pause: self.pause,
            overdue: self.made_up > 0 && matches!(next, Next::Gap { .. })
                || self.due().is_some_and(|due| now >= due),
        }
    }

    fn next(&self, decoder: &dyn Decoder) -> Next {
        let Some(first) = self.store.first_from(self.expected()) else {
            return Next::Nothing;
        };
        let Some(position) = self.position else {
            return Next::Spurt;
        };
        let gap = first.timestamp - position.timestamp;
        let missing = first.sequence - position.sequence;
        let lost = position.packet.saturating_mul(missing as i64);
        if self.pause && (gap > 0 || self.made_up > 0)
            || gap > lost + self.ticks(if missing > 0 { PAUSE_MICROS } else { 1_000 })
        {
            return Next::Spurt;
        }
        if missing == 0 {
            return Next::Follows;
        }
        let payload = self.store.payload(first);
        let packet = decoder.duration(payload).unwrap_or(0);
        let unfilled = gap - self.made_up;
        let packet = self.samples_ticks(packet);
        Next::Gap {
            missing: self.micros(unfilled),
            fec: unfilled <= packet && gap >= packet && decoder.has_fec(payload),
        }
    }

    /// When what is missing, or the next frame of a pause, has been waited for long enough.
    fn due(&self) -> Option<i64> {
        let Mode::ArrivalDriven { wait } = self.config.mode else {
            return None;
        };
        let position = self.position?;
        let media = self.micros(position.timestamp + self.made_up);
        if self.pause {
            return Some(media + self.offset);
        }
        // While nothing is held up by it, a stall of the path is waited out: what is made up for late packets stays
        // between what was said.
        let (jitter, wait) = match self.arrivals.fastest() {
            Some(fastest) if self.store.count() == 0 => {
                (fastest + self.arrivals.required(), wait.max(STALL_WAIT))
            }
            _ => (self.offset, wait),
        };
        Some(media + jitter.max(self.offset) + micros(wait))
    }

    fn decode(&mut self, now: Timestamp, decoder: &mut dyn Decoder) {
        let Some(packet) = self.store.first_from(self.expected()).copied() else {
            return;
        };
        self.store.remove(packet.sequence);
        let payload = self.store.payload(&packet);
        let wait = now.since(packet.received).as_micros() as u64
            + self.samples_micros(self.tape.waiting()) as u64;
        let samples = decoder.duration(payload).unwrap_or(0);
        let room = self.tape.room(samples);
        let decoded = match decoder.decode(payload, room) {
            Ok(decoded) if samples > 0 && decoded > 0 && room.len() == samples => {
                decoded.min(samples)
            }
            // As if it had not come: its number stays open.
            _ => {
                self.stats.packets_refused += 1;
                return;
            }
        };
        let is_dtx = decoder.is_dtx(payload);
        self.play(decoded);
        self.note_emitted(decoded as u64, wait);
        self.offset = now.as_micros() as i64 - self.micros(packet.timestamp);
        if self.pause || packet.marker {
            self.frames_of_spurt = 0;
        }
        self.pause = is_dtx;
        self.kind = FrameKind::Normal;
        if is_dtx {
            self.kind = FrameKind::Silence;
            self.stats.silence_samples += decoded as u64;
        }
        let ticks = self.samples_ticks(decoded);
        self.position = Some(Position {
            sequence: packet.sequence + 1,
            timestamp: packet.timestamp + ticks,
            packet: ticks,
        });
        self.stats.packets_played += 1;
    }

    /// The room's first `samples` were decoded: joins them to what was before.
    fn play(&mut self, samples: usize) {
        self.tape.commit(samples);
        if std::mem::take(&mut self.seam) {
            self.periods.merge(&mut self.tape, samples);
        }
        let (_, fresh) = self.tape.seam(0, samples);
        for frame in fresh.chunks(self.rate.frame()) {
            self.mask.note_sound(frame);
        }
        self.made_up = 0;
    }

    fn decode_fec(&mut self, decoder: &mut dyn Decoder) {
        let (Some(&next), Some(position)) = (
            self.store.first_from(self.expected()),
            self.position.as_mut(),
        ) else {
            return;
        };
        let unfilled = next.timestamp - position.timestamp - self.made_up;
        let payload = self.store.payload(&next);
        let samples = decoder.duration(payload).unwrap_or(0);
        let wanted = ticks_samples(unfilled, self.rate, self.clock_rate).min(samples);
        let room = self.tape.room(samples);
        if room.len() < samples || decoder.decode_fec(payload, room).is_err() {
            return self.conceal(decoder);
        }
        // Its beginning was made up already.
        room.copy_within(samples - wanted.., 0);
        position.sequence = next.sequence;
        position.timestamp = next.timestamp;
        self.play(wanted);
        self.kind = FrameKind::Fec;
        self.stats.fec_packets_received += 1;
    }

    fn conceal(&mut self, decoder: &mut dyn Decoder) {
        if !self.kind.is_concealed() {
            self.stats.concealment_events += 1;
            self.stats.underruns += u64::from(self.store.count() == 0);
        }
        let frame = self.rate.frame() as u64;
        self.stats.concealed_samples += frame;
        self.kind = FrameKind::Concealed;
        if self.mask.is_faded() {
            self.kind = FrameKind::ComfortNoise;
            self.stats.silent_concealed_samples += frame;
        }
        self.make_up(decoder);
    }

    fn pause(&mut self, decoder: &mut dyn Decoder) {
        self.kind = FrameKind::Silence;
        self.stats.silence_samples += self.rate.frame() as u64;
        self.make_up(decoder);
    }

    fn make_up(&mut self, decoder: &mut dyn Decoder) {
        let frame = self.rate.frame();
        let room = self.tape.room(frame);
        if self.mask.is_faded() {
            room.fill(0.0);
        } else {
            decoder.conceal(room);
        }
        self.mask.fade(room);
        self.tape.commit(frame);
        self.made_up += self.samples_ticks(frame);
        self.seam = true;
    }

    fn accelerate(&mut self, excess: i64) -> Option<FrameKind> {
        let period = if self.is_quiet() {
            self.rate.frame()
        } else {
            self.worth(self.periods.find_to_leave_out(&self.tape), excess)?
        };
        self.tape.shorten(period);
        self.stats.removed_samples_for_acceleration += period as u64;
        Some(FrameKind::Accelerated)
    }

    fn decelerate(&mut self, shortfall: i64) -> Option<FrameKind> {
        let period = if self.is_quiet() {
            self.rate.frame()
        } else {
            self.worth(self.periods.find_to_repeat(&self.tape), shortfall)?
        };
        self.tape.lengthen(period);
        self.stats.inserted_samples_for_deceleration += period as u64;
        Some(FrameKind::Decelerated)
    }

    /// A period that was found, if leaving it out or playing it twice is worth its being heard: the more, the further
    /// the delay is from its target, and the longer nothing better was found.
    fn worth(&self, found: Option<(usize, f32)>, excess: i64) -> Option<usize> {
        let (period, likeness) = found?;
        let wanted = match (excess, self.frames_since_stretch) {
            (150_000.., _) | (_, 200..) => 0.2,
            (50_000.., _) | (_, 100..) => 0.6,
            _ => 0.9,
        };
        (likeness >= wanted).then_some(period)
    }

    /// Between words nobody hears what is left out or played twice.
    fn is_quiet(&self) -> bool {
        let (_, waiting) = self.tape.parts();
        let heard = &waiting[..waiting.len().min(2 * self.rate.frame())];
        level(heard) <= self.mask.quiet()
    }

    fn note_emitted(&mut self, samples: u64, wait: u64) {
        let stats = &mut self.stats;
        stats.jitter_buffer_delay += wait * samples;
        stats.jitter_buffer_target_delay += self.arrivals.target() as u64 * samples;
        stats.jitter_buffer_minimum_delay += self.arrivals.required() as u64 * samples;
        stats.jitter_buffer_emitted_count += samples;
    }

    /// Microseconds of timestamp units.
    fn micros(&self, ticks: i64) -> i64 {
        let (seconds, rest) = (ticks / self.clock_rate, ticks % self.clock_rate);
        seconds.saturating_mul(1_000_000) + rest * 1_000_000 / self.clock_rate
    }

    /// Timestamp units of microseconds, of which there are few.
    const fn ticks(&self, micros: i64) -> i64 {
        micros * self.clock_rate / 1_000_000
    }

    const fn samples_micros(&self, samples: usize) -> i64 {
        samples as i64 * 1_000_000 / self.rate.hz() as i64
    }

    const fn samples_ticks(&self, samples: usize) -> i64 {
        samples as i64 * self.clock_rate / self.rate.hz() as i64
    }
}

/// A tape for 30 ms of look-ahead, a packet of 120 ms and a period put in.
fn new_tape(rate: Rate) -> Tape {
    let period = Periods::new(rate.hz()).longest();
    Tape::new(2 * period, period, 18 * rate.frame())
}

/// Samples of timestamp units, of which there are few; none if negative.
fn ticks_samples(ticks: i64, rate: Rate, clock_rate: i64) -> usize {
    usize::try_from(ticks * i64::from(rate.hz()) / clock_rate).unwrap_or(0)
}

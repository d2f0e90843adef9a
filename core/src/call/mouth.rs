//! What an agent says, and which keys it presses: queued as it comes, however fast that is, and sent in real time.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::audio::{FRAME_SAMPLES_MAX, Rate};
use crate::limits::{
    CLEARED_UTTERANCES_MAX, DIALLED_KEYS_MAX, PLAYOUT_ITEMS_MAX, PLAYOUT_QUEUE_MAX,
};
use crate::time::{Timestamp, earliest};
use crate::voice::message::{CallTime, Heard, MarkId, PlayoutState, UtteranceId};
use crate::voice::turns::AgentVoice;
use crate::wire::payload::event::{Report, event_of};

/// Sound of one packet.
const PACKET: Duration = Duration::from_millis(20);
/// Its samples at the highest rate.
const PACKET_SAMPLES_MAX: usize = 2 * FRAME_SAMPLES_MAX;
/// A piece shorter than a packet waits this long for the next one before it is sent alone.
const PIECE_WAIT: Duration = Duration::from_millis(100);
/// A thread that was kept from running for longer does not catch up: what is late is late.
const LATE_MAX: Duration = Duration::from_millis(100);
/// How loud the agent is while it may be being interrupted: -12 dB.
const DUCKED: f32 = 0.251;

/// Packets of one key, the last of them of silence: 100 ms of it, its end said twice more (RFC 4733 §2.5.1.4), and
/// 60 ms until the next one. Exchanges take 40 ms of each (ITU-T Q.24), and browsers wait 70.
const KEY_PACKETS: u8 = 8;
/// Packets from which its end is said.
const KEY_HELD: u8 = 5;

/// What one packet is made of.
#[derive(Debug)]
pub(super) enum Said<'a> {
    Sound(Spoken<'a>),
    Key(Pressed),
}

impl Said<'_> {
    /// When it is due.
    pub(super) const fn due(&self) -> Timestamp {
        match self {
            Self::Sound(spoken) => spoken.due,
            Self::Key(key) => key.due,
        }
    }
}

/// A key, as far as one packet says it was pressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pressed {
    event: u8,
    packet: u8,
    pub(super) due: Timestamp,
    /// When it was pressed.
    pub(super) began: Timestamp,
    /// It is the first of the key's packets.
    pub(super) begins: bool,
}

impl Pressed {
    /// On a clock of so many units a second.
    pub(super) fn report(&self, clock_rate: u32) -> Report {
        let held = u32::from((self.packet + 1).min(KEY_HELD));
        Report {
            event: self.event,
            end: self.packet + 1 >= KEY_HELD,
            // 100 ms of 48 kHz are 4,800.
            duration: (held * (clock_rate / 50)) as u16,
        }
    }
}

/// One packet's sound, lent to be encoded.
#[derive(Debug)]
pub(super) struct Spoken<'a> {
    pub(super) samples: &'a [f32],
    pub(super) rate: Rate,
    /// When it is due, on a grid of packets while they follow each other.
    pub(super) due: Timestamp,
    /// It follows a pause.
    pub(super) begins: bool,
}

/// Sound to be said.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) utterance: UtteranceId,
    /// 16 bits, little-endian. An odd last byte is no sample.
    pub(super) pcm: Vec<u8>,
    pub(super) rate: Rate,
    /// Nothing more of the utterance comes.
    pub(super) last: bool,
    pub(super) interruptible: bool,
}

#[derive(Debug)]
enum Item {
    /// And how many of its samples were taken.
    Sound(Sound, usize),
    Mark(MarkId),
    /// Keys to be pressed, the last one first.
    Keys(Vec<u8>),
}

impl Item {
    const fn samples(&self) -> usize {
        match self {
            Self::Sound(sound, taken) => sound.pcm.len() / 2 - *taken,
            Self::Mark(_) | Self::Keys(_) => 0,
        }
    }

    const fn micros(&self) -> u64 {
        match self {
            Self::Sound(sound, _) => micros(self.samples(), sound.rate),
            Self::Mark(_) | Self::Keys(_) => 0,
        }
    }
}

/// The utterance that was last begun.
#[derive(Clone, Copy, Debug)]
struct Playing {
    utterance: UtteranceId,
    played: u64,
    interruptible: bool,
    ended: bool,
    starved: bool,
}

/// The queue and the clock of what is said.
#[derive(Debug)]
pub(super) struct Mouth {
    opened: Timestamp,
    queue: VecDeque<Item>,
    /// Microseconds of sound in it.
    queued: u64,
    /// Keys in it.
    keys: usize,
    playing: Option<Playing>,
    /// The key that is pressed, and how many of its packets were sent.
    key: Option<Pressed>,
    /// Utterances of which nothing more is taken.
    cleared: VecDeque<UtteranceId>,
    /// When the next packet is due; `None` while nothing is said.
    next: Option<Timestamp>,
    /// When a piece that is too short for a packet is sent nevertheless.
    flush: Option<Timestamp>,
    /// The next packet is the first after a pause or a key.
    begins: bool,
    /// The frame holds the fading end of what was stopped, at this rate.
    tail: Option<Rate>,
    gain: f32,
    gain_wanted: f32,
    frame: Box<[f32; PACKET_SAMPLES_MAX]>,
}

impl Mouth {
    pub(super) fn new(opened: Timestamp) -> Self {
        Self {
            opened,
            queue: VecDeque::new(),
            queued: 0,
            keys: 0,
            playing: None,
            key: None,
            cleared: VecDeque::new(),
            next: None,
            flush: None,
            begins: true,
            tail: None,
            gain: 1.0,
            gain_wanted: 1.0,
            frame: Box::new([0.0; PACKET_SAMPLES_MAX]),
        }
    }

    /// What the turn detector must know of it.
    pub(super) fn voice(&self) -> AgentVoice {
        let is_still = self.next.is_none() || self.tail.is_some() || self.key.is_some();
        if is_still || (self.begins && !self.has_sound_next()) {
            return AgentVoice::Silent;
        }
        let sounds = self.queue.iter().rev().filter_map(|item| match item {
            Item::Sound(sound, _) => Some(sound),
            Item::Mark(_) | Item::Keys(_) => None,
        });
        let ends = match sounds.map(|sound| sound.last).next() {
            Some(last) => last,
            None => self.playing.is_some_and(|playing| playing.ended),
        };
        AgentVoice::Speaking {
            remaining: ends.then_some(self.queued),
            interruptible: self.playing.is_none_or(|playing| playing.interruptible),
        }
    }

    /// Whether what comes next, but for marks, is sound.
    fn has_sound_next(&self) -> bool {
        let mut items = self.queue.iter();
        let next = items.find(|item| !matches!(item, Item::Mark(_)));
        matches!(next, Some(Item::Sound(..)))
    }

    /// When [`Self::speak`] is due.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        earliest(self.next, self.flush)
    }

    /// Queues sound. What does not fit is dropped and told.
    pub(super) fn say(&mut self, now: Timestamp, mut sound: Sound, heard: &mut VecDeque<Heard>) {
        if self.cleared.contains(&sound.utterance) {
            return;
        }
        let is_full = self.queue.len() >= PLAYOUT_ITEMS_MAX;
        let room = (PLAYOUT_QUEUE_MAX.as_micros() as u64).saturating_sub(self.queued);
        let fits = if is_full {
            0
        } else {
            (room * u64::from(sound.rate.hz()) / 1_000_000) as usize
        };
        let samples = sound.pcm.len() / 2;
        if samples > fits {
            heard.push_back(Heard::Overflow {
                at: self.call_time(now),
                utterance: sound.utterance,
                dropped: micros(samples - fits, sound.rate),
            });
            sound.pcm.truncate(2 * fits);
        }
        if is_full {
            return;
        }
        let item = Item::Sound(sound, 0);
        self.queued += item.micros();
        self.queue.push_back(item);
        if self.next.is_none() {
            self.begin(now);
        }
    }

    /// Presses keys behind what is queued. A full queue takes none, and no more than so many wait.
    pub(super) fn dial(&mut self, now: Timestamp, digits: &str, heard: &mut VecDeque<Heard>) {
        let room = match self.queue.len() {
            PLAYOUT_ITEMS_MAX.. => 0,
            _ => DIALLED_KEYS_MAX.saturating_sub(self.keys),
        };
        let mut wanted = digits.chars().filter_map(event_of);
        let mut keys: Vec<_> = wanted.by_ref().take(room).collect();
        let left_out = wanted.count() as u32;
        if left_out > 0 {
            let (at, keys) = (self.call_time(now), left_out);
            heard.push_back(Heard::KeysLeftOut { at, keys });
        }
        if keys.is_empty() {
            return;
        }
        keys.reverse();
        self.keys += keys.len();
        self.queue.push_back(Item::Keys(keys));
        if self.next.is_none() {
            self.begin(now);
        }
    }

    /// Tells when what was queued so far has been sent. One mark too many is told at once, as not reached.
    pub(super) fn mark(&mut self, now: Timestamp, mark: MarkId, heard: &mut VecDeque<Heard>) {
        let at = self.call_time(now);
        let reached = self.queue.is_empty() && self.key.is_none();
        if reached || self.queue.len() >= PLAYOUT_ITEMS_MAX {
            heard.push_back(Heard::Mark { at, mark, reached });
        } else {
            self.queue.push_back(Item::Mark(mark));
        }
    }

    /// Stops saying an utterance, or all; what is being said fades over one packet. Keys that wait are dropped when all
    /// is cleared, and are pressed though somebody interrupts.
    pub(super) fn stop(
        &mut self,
        now: Timestamp,
        utterance: Option<UtteranceId>,
        state: PlayoutState,
        heard: &mut VecDeque<Heard>,
    ) {
        let at = self.call_time(now);
        let drops_keys = utterance.is_none() && state == PlayoutState::Cleared;
        let concerns = |other: UtteranceId| utterance.is_none_or(|utterance| utterance == other);
        let playing = self
            .playing
            .filter(|it| concerns(it.utterance) && !it.ended);
        if let Some(playing) = playing.filter(|_| self.next.is_some() && self.key.is_none()) {
            self.tail = self.fade(playing.utterance);
        }
        let mut stopped: Vec<_> = playing.map(|it| it.utterance).into_iter().collect();
        // Pieces of several may take turns in the queue; each is told once.
        let mut named: BTreeSet<_> = stopped.iter().copied().collect();
        self.queue.retain(|item| match item {
            Item::Sound(sound, _) if concerns(sound.utterance) => {
                if named.insert(sound.utterance) {
                    stopped.push(sound.utterance);
                }
                false
            }
            Item::Sound(..) => true,
            Item::Keys(_) => !drops_keys,
            Item::Mark(mark) => {
                if utterance.is_none() {
                    let (mark, reached) = (*mark, false);
                    heard.push_back(Heard::Mark { at, mark, reached });
                }
                utterance.is_some()
            }
        });
        self.queued = self.queue.iter().map(Item::micros).sum();
        if drops_keys {
            self.keys = 0;
        }
        // An utterance that has yet to come is cleared as well.
        if let Some(utterance) = utterance.filter(|it| !stopped.contains(it)) {
            stopped.push(utterance);
        }
        for utterance in stopped {
            let played = self.playing.filter(|it| it.utterance == utterance);
            heard.push_back(Heard::Playout {
                at,
                utterance,
                played: played.map_or(0, |it| it.played),
                queued: self.queued,
                state,
            });
            self.cleared.truncate(CLEARED_UTTERANCES_MAX - 1);
            self.cleared.push_front(utterance);
        }
        if let (Some(_), Some(it)) = (playing, &mut self.playing) {
            it.ended = true;
        }
        if self.queued == 0 {
            self.flush = None;
        }
    }

    /// Lowers the voice, or raises it again, over 20 ms.
    pub(super) const fn duck(&mut self, ducked: bool) {
        self.gain_wanted = if ducked { DUCKED } else { 1.0 };
    }

    /// The packet that is due, if any.
    pub(super) fn speak(
        &mut self,
        now: Timestamp,
        heard: &mut VecDeque<Heard>,
    ) -> Option<Said<'_>> {
        let flushes = self.flush.is_some_and(|flush| flush <= now);
        let due = match self.next {
            Some(next) if next <= now => next,
            None if flushes => now,
            _ => return None,
        };
        let due = if now.since(due) > LATE_MAX { now } else { due };
        if self.tail.is_none() && self.press(due) {
            (self.next, self.flush) = (Some(due + PACKET), None);
            self.begins = true;
            // The last of a key's packets is silence.
            let key = self.key.filter(|key| key.packet < KEY_PACKETS - 1);
            if key.is_none() {
                self.key = None;
                self.pass_marks(now, heard);
            }
            return key.map(Said::Key);
        }
        let filled = match self.tail.take() {
            Some(rate) => Some((packet_samples(rate), rate)),
            None => self.fill(now, flushes, heard),
        };
        let Some((samples, rate)) = filled else {
            // What was flushed may have been empty: it is not to be flushed for ever.
            (self.next, self.flush) = (None, None);
            self.begins = true;
            self.begin(now);
            return None;
        };
        (self.next, self.flush) = (Some(due + PACKET), None);
        let begins = std::mem::take(&mut self.begins);
        Some(Said::Sound(Spoken {
            samples: &self.frame[..samples],
            rate,
            due,
            begins,
        }))
    }

    /// Goes on with the key that is pressed, or begins with the next if its turn has come; whether there is one.
    fn press(&mut self, due: Timestamp) -> bool {
        if let Some(key) = &mut self.key {
            (key.packet, key.due, key.begins) = (key.packet + 1, due, false);
            return true;
        }
        let Some(Item::Keys(keys)) = self.queue.front_mut() else {
            return false;
        };
        let event = keys.pop();
        self.keys -= usize::from(event.is_some());
        if keys.is_empty() {
            self.queue.pop_front();
        }
        self.key = event.map(|event| Pressed {
            event,
            packet: 0,
            due,
            began: due,
            begins: true,
        });
        event.is_some()
    }

    fn call_time(&self, now: Timestamp) -> CallTime {
        CallTime(now.since(self.opened).as_micros() as u64)
    }

    /// Goes on after a pause, as soon as there is enough to say.
    fn begin(&mut self, now: Timestamp) {
        if self.is_enough() {
            (self.next, self.flush) = (Some(now), None);
        } else if !self.queue.is_empty() {
            self.flush.get_or_insert(now + PIECE_WAIT);
        }
    }

    /// Whether a whole packet is there, or the end of what is said: keys are that too.
    fn is_enough(&self) -> bool {
        let mut samples = 0;
        self.queue.iter().any(|item| {
            samples += item.samples();
            match item {
                Item::Sound(sound, _) => sound.last || samples >= packet_samples(sound.rate),
                Item::Keys(_) => true,
                Item::Mark(_) => false,
            }
        })
    }

    /// Puts the next 20 ms into the frame; how many samples, at which rate. `None`: nothing, or less than a packet
    /// of something that goes on, unless it is flushed.
    fn fill(
        &mut self,
        now: Timestamp,
        flushes: bool,
        heard: &mut VecDeque<Heard>,
    ) -> Option<(usize, Rate)> {
        let mut rate = None;
        let mut filled = 0;
        if flushes || self.is_enough() {
            while let Some(item) = self.queue.front() {
                let sound = match item {
                    Item::Sound(sound, _) => sound,
                    Item::Mark(_) => {
                        self.pass_marks(now, heard);
                        continue;
                    }
                    Item::Keys(_) => break,
                };
                let other_rate = rate.is_some_and(|rate| rate != sound.rate);
                if other_rate || filled == packet_samples(sound.rate) {
                    break;
                }
                if item.samples() > 0 {
                    rate = Some(sound.rate);
                }
                filled += self.take(now, filled, heard);
            }
        }
        let Some(rate) = rate else {
            self.note_starved(now, heard);
            return None;
        };
        let samples = packet_samples(rate);
        self.frame[filled..samples].fill(0.0);
        self.apply_gain(samples);
        Some((samples, rate))
    }

    /// Tells the marks that what was said has come to.
    fn pass_marks(&mut self, now: Timestamp, heard: &mut VecDeque<Heard>) {
        while let Some(&Item::Mark(mark)) = self.queue.front() {
            let (at, reached) = (self.call_time(now), true);
            heard.push_back(Heard::Mark { at, mark, reached });
            self.queue.pop_front();
        }
    }

    /// Moves samples of the foremost sound into the frame, behind the first `filled`; how many.
    fn take(&mut self, now: Timestamp, filled: usize, heard: &mut VecDeque<Heard>) -> usize {
        let at = self.call_time(now);
        let Some(Item::Sound(sound, taken)) = self.queue.front_mut() else {
            return 0;
        };
        let samples = sound.pcm[2 * *taken..].chunks_exact(2);
        let mut count = 0;
        for (place, sample) in self.frame[filled..packet_samples(sound.rate)]
            .iter_mut()
            .zip(samples)
        {
            *place = f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0;
            count += 1;
        }
        *taken += count;
        let micros = micros(count, sound.rate);
        self.queued = self.queued.saturating_sub(micros);
        let queued = self.queued;
        let utterance = sound.utterance;
        let mut told = |it: &Playing, state| {
            heard.push_back(Heard::Playout {
                at,
                utterance,
                played: it.played,
                queued,
                state,
            });
        };
        if self.playing.is_none_or(|it| it.utterance != utterance) {
            let playing = self.playing.insert(Playing {
                utterance,
                played: 0,
                interruptible: true,
                ended: false,
                starved: false,
            });
            told(playing, PlayoutState::Started);
        }
        if let Some(playing) = &mut self.playing {
            playing.played += micros;
            playing.interruptible = sound.interruptible;
            playing.starved = false;
            if sound.pcm.len() / 2 == *taken {
                playing.ended = sound.last;
                if sound.last {
                    told(playing, PlayoutState::Finished);
                }
                self.queue.pop_front();
            }
        }
        count
    }

    /// Puts what would be said next of an utterance into the frame, fading; its rate.
    fn fade(&mut self, utterance: UtteranceId) -> Option<Rate> {
        let Some(Item::Sound(sound, taken)) = self.queue.front() else {
            return None;
        };
        if sound.utterance != utterance || sound.pcm.len() / 2 == *taken {
            return None;
        }
        let length = packet_samples(sound.rate);
        let frame = &mut self.frame[..length];
        frame.fill(0.0);
        let samples = sound.pcm[2 * taken..].chunks_exact(2);
        for (index, (place, sample)) in frame.iter_mut().zip(samples).enumerate() {
            let fade = 1.0 - index as f32 / length as f32;
            let sample = f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0;
            *place = sample * fade * self.gain;
        }
        Some(sound.rate)
    }

    fn apply_gain(&mut self, samples: usize) {
        if self.gain == 1.0 && self.gain_wanted == 1.0 {
            return;
        }
        let step = (1.0 - DUCKED) / samples as f32;
        for sample in &mut self.frame[..samples] {
            let way = self.gain_wanted - self.gain;
            self.gain += way.clamp(-step, step);
            *sample *= self.gain;
        }
    }

    fn note_starved(&mut self, now: Timestamp, heard: &mut VecDeque<Heard>) {
        let (at, queued) = (self.call_time(now), self.queued);
        if let Some(it) = self.playing.as_mut().filter(|it| !it.ended && !it.starved) {
            it.starved = true;
            heard.push_back(Heard::Playout {
                at,
                utterance: it.utterance,
                played: it.played,
                queued,
                state: PlayoutState::Starved,
            });
        }
    }
}

const fn packet_samples(rate: Rate) -> usize {
    2 * rate.frame()
}

const fn micros(samples: usize, rate: Rate) -> u64 {
    samples as u64 * 1_000_000 / rate.hz() as u64
}

#[cfg(test)]
mod tests;

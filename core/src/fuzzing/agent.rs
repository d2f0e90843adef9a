//! A call with an agent, under whatever its program asks for and the person at the other end says and presses, against
//! a naive model of what is said, marked and pressed.

use std::collections::{BTreeMap, VecDeque};
use std::f32::consts::TAU;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use super::sdp::OFFER;
use super::world::{Peer, World, address};
use crate::audio::Rate;
use crate::codec::{AnyEncoder, Encoder as _, EncoderSettings};
use crate::ids::SessionId;
use crate::limits::{CLEARED_UTTERANCES_MAX, DIALLED_KEYS_MAX, PLAYOUT_QUEUE_MAX};
use crate::message::{CloseReason, Command, DropReason, Event, Role};
use crate::plan::{Codec, SessionPlan};
use crate::sdp::{Offer, Purpose};
use crate::time::Timestamp;
use crate::voice::message::{
    AgentAsk, AgentPlan, CallTime, Eagerness, Ending, Heard, Hint, Judgement, MarkId, PlayoutState,
    TurnId, UtteranceId, VoiceEvent,
};
use crate::wire::payload::event::{REPORT_BYTES, Report, event_of};
use crate::wire::rtp::{FIXED_HEADER_BYTES, Header, HeaderFields, write_header};
use crate::wire::{Class, classify};

/// Sound of one packet.
const PACKET: Duration = Duration::from_millis(20);
/// Its bytes in G.711, which every build has; as many units of its clock.
const PACKET_BYTES: usize = 160;
/// Payload types of the offer.
const PCMU: u8 = 0;
const EVENTS: u8 = 101;
/// What a thread that was kept from running makes up for.
const LATE: Duration = Duration::from_millis(100);
/// Sound that is heard at once, and what a frame takes of that.
const BURST: Duration = Duration::from_millis(500);
const FRAME_COST_MICROS: u128 = 9_800;
/// A key is let go when nothing came of it for less.
const KEY_OVER: Duration = Duration::from_millis(240);
/// Keys, and two that are none.
const KEYS: [char; 18] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D', 'x', ' ',
];
const SSRC: u32 = 7;

#[derive(Arbitrary)]
enum Op<'a> {
    Say {
        utterance: u8,
        millis: u8,
        /// As many quarters of a second, at the lowest rate.
        long: bool,
        rate: u8,
        last: bool,
        interruptible: bool,
    },
    Mark,
    Clear(Option<u8>),
    Hint {
        turn: u8,
        words: u8,
        backchannel: bool,
        ending: u8,
        complete: Option<u16>,
    },
    Eagerness(u8),
    JudgeSpeech {
        back: u8,
        probability: u16,
    },
    JudgeTurn {
        turn: u8,
        probability: u16,
    },
    Dial(&'a [u8]),
    /// The person speaks, or is silent, for so many packets; those are lost whose bit is set.
    Speak {
        voice: bool,
        packets: u8,
        lost: u8,
    },
    /// The person presses a key; as above.
    Press {
        key: u8,
        packets: u8,
        lost: u8,
    },
    /// Any bytes as sound, or as a report that is none.
    Noise {
        event: bool,
        payload: &'a [u8],
    },
    Tick {
        millis: u8,
    },
    Pass {
        millis: u16,
    },
    /// Nobody looks for so long.
    Stall {
        millis: u16,
    },
}

/// One call: what is said comes in order and in real time, marks and keys once each and in their order, nothing comes
/// of what was cleared, the program is told no more than there was to hear, and nothing is left behind.
pub fn agent_ops(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let mut call = Call::new(AgentPlan {
        eagerness: eagerness(choice & 3),
        rate: rate(choice >> 2 & 3),
        batch_millis: 20 + 10 * (choice >> 4 & 7),
        denoise: choice >> 7 == 1,
    });
    for op in ops(rest) {
        call.step(&op);
    }
    call.finish();
}

fn rate(choice: u8) -> Rate {
    [Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz48000][usize::from(choice % 4)]
}

fn eagerness(choice: u8) -> Eagerness {
    [Eagerness::Eager, Eagerness::Balanced, Eagerness::Patient][usize::from(choice % 3)]
}

fn plan() -> &'static SessionPlan {
    static PLAN: OnceLock<SessionPlan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let lines = OFFER
            .lines()
            .filter(|line| !line.contains(":111 ") && !line.contains(":63 "));
        let offer: String = lines.flat_map(|line| [line, "\n"]).collect();
        let offer = offer.replace("SAVPF 111 0 63", "SAVPF 0 101").replacen(
            "a=rtcp-mux\n",
            "a=rtcp-mux\na=rtpmap:101 telephone-event/8000\n",
            1,
        );
        let offer = Offer::parse(offer.as_bytes()).expect("it is sound");
        let negotiated = offer.negotiate(Purpose::Agent).expect("it is for us");
        negotiated.plan().clone()
    })
}

/// A second of a voice, or of something like it: harmonics in two formants, in syllables.
fn voice(packet: usize) -> &'static [u8] {
    static VOICE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let packets = VOICE.get_or_init(|| {
        let mut encoder = AnyEncoder::new(Codec::Pcmu, Rate::Hz8000, EncoderSettings::STANDARD)
            .expect("every build has it");
        let sample = |at: usize| {
            let time = at as f32 / 8_000.0;
            let harmonics = (1..24_u8).map(|harmonic| {
                let pitch = 130.0 * f32::from(harmonic);
                let near = |formant: f32| 1.0 / (1.0 + ((pitch - formant) / 150.0).powi(2));
                (TAU * pitch * time).sin() * (near(600.0) + 0.6 * near(1_300.0) + 0.03)
            });
            let syllable = 0.55 - 0.45 * (TAU * 4.0 * time).cos();
            0.12 * syllable * harmonics.sum::<f32>()
        };
        (0..50)
            .map(|packet| {
                let samples = (0..PACKET_BYTES).map(|at| sample(packet * PACKET_BYTES + at));
                let samples: Vec<_> = samples.collect();
                let mut bytes = vec![0; PACKET_BYTES];
                encoder.encode(&samples, &mut bytes).expect("20 ms");
                bytes
            })
            .collect()
    });
    &packets[packet % packets.len()]
}

struct Call {
    world: World,
    peer: Peer,
    address: SocketAddr,
    plan: AgentPlan,
    opened: Timestamp,
    /// Of the person's packets: the last number and time, and how many held voice.
    number: u16,
    time: u32,
    voiced: usize,
    /// Keys that the person pressed and that were not told.
    pressed: VecDeque<char>,
    /// Microseconds of each utterance that were taken.
    said: BTreeMap<UtteranceId, u64>,
    /// Utterances that were stopped, and how many were before.
    stopped: BTreeMap<UtteranceId, usize>,
    stops: usize,
    /// Marks that were set and not told.
    marks: VecDeque<MarkId>,
    marked: u64,
    /// Keys that were dialled and not begun, and the one that is pressed.
    dialled: VecDeque<u8>,
    dialling: Option<u8>,
    /// Of how many keys it is to be told that they are left out.
    left_out: VecDeque<u32>,
    /// Packets that came of it, and the number of the last.
    packets: u64,
    last: Option<u16>,
    /// Frames that were heard, and up to when.
    frames: u64,
    heard: CallTime,
    turn: TurnId,
}

impl Call {
    fn new(agent: AgentPlan) -> Self {
        let mut world = World::new(1);
        let opened = world.open_planned(Role::Agent(agent), plan().clone());
        let (id, local) = opened.expect("there is room");
        let mut peer = Peer::new(id, &local, 1);
        let address = address(1);
        peer.connect(&mut world, address);
        world.events.clear();
        Self {
            opened: world.now,
            world,
            peer,
            address,
            plan: agent,
            number: 0,
            time: 0,
            voiced: 0,
            pressed: VecDeque::new(),
            said: BTreeMap::new(),
            stopped: BTreeMap::new(),
            stops: 0,
            marks: VecDeque::new(),
            marked: 0,
            dialled: VecDeque::new(),
            left_out: VecDeque::new(),
            dialling: None,
            packets: 0,
            last: None,
            frames: 0,
            heard: CallTime(0),
            turn: TurnId(0),
        }
    }

    fn step(&mut self, op: &Op<'_>) {
        match *op {
            Op::Say {
                utterance,
                millis,
                long,
                rate: choice,
                last,
                interruptible,
            } => {
                let (rate, millis) = if long {
                    (Rate::Hz8000, 250 * usize::from(millis))
                } else {
                    (rate(choice), usize::from(millis))
                };
                self.say(utterance, millis, rate, (last, interruptible));
            }
            Op::Mark => self.mark(),
            Op::Clear(utterance) => self.clear(utterance.map(utterance_of)),
            Op::Hint { turn, .. } | Op::JudgeTurn { turn, .. } => {
                // Mostly that of the turn under way.
                let turn = TurnId(self.turn.0.wrapping_add(u32::from(turn / 64)));
                self.advise(op, turn);
            }
            Op::Eagerness(choice) => drop(self.ask(AgentAsk::Eagerness(eagerness(choice)))),
            Op::JudgeSpeech { back, probability } => {
                let at = CallTime(self.heard.0.saturating_sub(1_000 * u64::from(back)));
                let judgement = Judgement::Speech { at, probability };
                self.ask(AgentAsk::Judgement(judgement));
            }
            Op::Dial(keys) => self.dial(keys),
            Op::Speak {
                voice,
                packets,
                lost,
            } => self.speak(voice, packets % 16, lost),
            Op::Press { key, packets, lost } => self.press(key, packets % 6, lost),
            Op::Noise { event, payload } => self.on_noise(event, payload),
            Op::Tick { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Op::Pass { millis } => self.pass(Duration::from_millis(u64::from(millis) % 1_024)),
            Op::Stall { millis } => {
                let stall = Duration::from_millis(u64::from(millis) % 2_048);
                self.world.now = self.world.now + stall;
                self.pass(PACKET);
            }
        }
    }

    fn say(
        &mut self,
        utterance: u8,
        millis: usize,
        rate: Rate,
        (last, interruptible): (bool, bool),
    ) {
        let utterance = utterance_of(utterance);
        let samples = millis * rate.hz() as usize / 1_000;
        *self.said.entry(utterance).or_default() += 1_000 * millis as u64;
        let sample = |at: usize| {
            if (at / 40).is_multiple_of(2) {
                4_000_i16
            } else {
                -4_000
            }
        };
        self.ask(AgentAsk::Say {
            utterance,
            pcm: (0..samples)
                .flat_map(|at| sample(at).to_le_bytes())
                .collect(),
            rate,
            last,
            interruptible,
        });
    }

    fn mark(&mut self) {
        self.marked += 1;
        let mark = MarkId(self.marked);
        self.marks.push_back(mark);
        self.ask(AgentAsk::Mark { mark });
    }

    /// What is cleared is told at once, and so are all marks if everything is.
    fn clear(&mut self, utterance: Option<UtteranceId>) {
        if utterance.is_none() {
            self.dialled.clear();
        }
        let told = self.ask(AgentAsk::Clear { utterance });
        let Some(cleared) = utterance else {
            assert!(self.marks.is_empty(), "no mark is left");
            return;
        };
        let is_it = |heard: &&Heard| {
            matches!(heard, Heard::Playout { utterance, state, .. }
                if *utterance == cleared && *state == PlayoutState::Cleared)
        };
        assert_eq!(told.iter().filter(is_it).count(), 1, "{cleared:?} is told");
    }

    fn advise(&mut self, op: &Op<'_>, turn: TurnId) {
        let ask = match *op {
            Op::Hint {
                words,
                backchannel,
                ending,
                complete,
                ..
            } => AgentAsk::Hint(Hint {
                turn,
                words: words.into(),
                backchannel,
                ending: [
                    Ending::Unknown,
                    Ending::Period,
                    Ending::Question,
                    Ending::Comma,
                    Ending::Conjunction,
                    Ending::Filler,
                    Ending::Digits,
                ][usize::from(ending % 7)],
                complete,
            }),
            Op::JudgeTurn { probability, .. } => {
                AgentAsk::Judgement(Judgement::Complete { turn, probability })
            }
            _ => return,
        };
        self.ask(ask);
    }

    fn dial(&mut self, keys: &[u8]) {
        let keys = keys.iter().map(|key| KEYS[usize::from(*key) % KEYS.len()]);
        let digits: String = keys.collect();
        let room = DIALLED_KEYS_MAX - self.dialled.len();
        let mut wanted = digits.chars().filter_map(event_of);
        self.dialled.extend(wanted.by_ref().take(room));
        let left_out = wanted.count() as u32;
        self.left_out.extend((left_out > 0).then_some(left_out));
        self.ask(AgentAsk::Dtmf { digits });
    }

    fn speak(&mut self, is_voice: bool, packets: u8, lost: u8) {
        for packet in 0..packets {
            let payload = if is_voice {
                self.voiced += 1;
                voice(self.voiced)
            } else {
                &[0xff; PACKET_BYTES]
            };
            self.send(PCMU, payload, lost >> (packet % 8) & 1 == 1);
            self.pass(PACKET);
        }
    }

    /// A key that is held for a while and let go is told once, whatever is lost, unless all of it is.
    fn press(&mut self, key: u8, packets: u8, lost: u8) {
        let held = packets + 1;
        let event = key % KEYS.len() as u8;
        let is_lost = |packet: u8| lost >> (packet % 8) & 1 == 1;
        if (0..held + 2).any(|packet| !is_lost(packet)) && event < 16 {
            self.pressed.push_back(KEYS[usize::from(event)]);
        }
        // All packets of an event have its time.
        self.tick();
        let time = self.time;
        for packet in 0..held + 2 {
            let report = Report {
                event,
                end: packet + 1 >= held,
                duration: u16::from(held.min(packet + 1)) * PACKET_BYTES as u16,
            };
            let (is_first, report) = (packet == 0, report.write());
            let dropped = self.send_at(time, EVENTS, is_first, &report, is_lost(packet));
            assert_eq!(dropped, None, "it is agreed");
            self.pass(PACKET);
        }
        self.pass(KEY_OVER);
        assert!(self.pressed.is_empty(), "{:?} was not told", self.pressed);
    }

    fn on_noise(&mut self, event: bool, payload: &[u8]) {
        // Of what is no report nothing comes.
        let cut = usize::from(event && payload.len().is_multiple_of(REPORT_BYTES));
        let payload = &payload[..payload.len().saturating_sub(cut)];
        self.tick();
        let payload_type = if event { EVENTS } else { PCMU };
        self.send_at(self.time, payload_type, false, payload, false);
    }

    /// The time of the person's next packet, which stands still for nobody.
    fn tick(&mut self) {
        let now = self.elapsed().as_millis() as u32 * 8;
        self.time = self.time.wrapping_add(PACKET_BYTES as u32).max(now);
    }

    /// Sends a packet that must be taken, unless it is lost.
    fn send(&mut self, payload_type: u8, payload: &[u8], is_lost: bool) {
        self.tick();
        let dropped = self.send_at(self.time, payload_type, false, payload, is_lost);
        assert_eq!(dropped, None, "it is agreed");
    }

    fn send_at(
        &mut self,
        time: u32,
        payload_type: u8,
        marker: bool,
        payload: &[u8],
        is_lost: bool,
    ) -> Option<DropReason> {
        self.number = self.number.wrapping_add(1);
        if is_lost {
            return None;
        }
        let fields = HeaderFields {
            payload_type,
            marker,
            sequence_number: self.number,
            timestamp: time,
            ssrc: SSRC,
        };
        let mut packet = vec![0; FIXED_HEADER_BYTES];
        write_header(&mut packet, &fields, &[]).expect("it fits");
        packet.extend_from_slice(payload);
        let sealed = self.peer.seal_rtp(&packet).expect("a fresh number");
        let dropped = self.world.deliver(self.address, &sealed);
        self.judge();
        dropped
    }

    /// Lets the person live on, and the shard do what is due.
    fn pass(&mut self, duration: Duration) {
        let check = self.peer.check(&mut self.world, self.address);
        assert_eq!(check, None, "a sound check is taken");
        let end = self.world.now + duration;
        while self.world.now < end {
            let left = end.since(self.world.now);
            self.world.now = self.world.now + left.min(PACKET);
            self.world.turn();
            self.judge();
        }
    }

    fn ask(&mut self, ask: AgentAsk) -> Vec<Heard> {
        let session = self.peer.id;
        self.world.command(Command::Agent { session, ask });
        self.judge()
    }

    fn elapsed(&self) -> Duration {
        self.world.now.since(self.opened)
    }

    /// Looks at all that came of something; what was told.
    fn judge(&mut self) -> Vec<Heard> {
        let mut told = Vec::new();
        for event in std::mem::take(&mut self.world.events) {
            match event {
                Event::Heard { session, heard } => {
                    assert_eq!(session, self.peer.id);
                    told.push(heard);
                }
                Event::TrackAdded { .. } | Event::TrackRemoved { .. } => {}
                other => panic!("{other:?} in a call"),
            }
        }
        let mut is_interrupted = false;
        for heard in &told {
            is_interrupted |= matches!(heard, Heard::Voice(VoiceEvent::BargeIn { .. }));
            self.judge_heard(heard, is_interrupted);
        }
        for (to, contents) in std::mem::take(&mut self.world.sent) {
            assert_eq!(to, self.address);
            let class = classify(&contents);
            if matches!(class, Class::Rtp | Class::Rtcp) {
                let opened = self.peer.open(&contents).expect("sealed for its session");
                if class == Class::Rtp {
                    self.judge_packet(&opened);
                }
            }
        }
        let voice = self.world.shard.stats().voice;
        assert_eq!(voice.packets_spoken, self.packets);
        let waiting = voice.frames_heard - self.frames;
        assert!(
            waiting < u64::from(self.plan.batch_millis / 10),
            "{waiting} frames wait"
        );
        told
    }

    fn judge_heard(&mut self, heard: &Heard, is_interrupted: bool) {
        match heard {
            Heard::Audio { at, pcm, .. } => {
                let frames = u64::from(self.plan.batch_millis / 10);
                assert_eq!(pcm.len() as u64, frames * 2 * self.plan.rate.frame() as u64);
                self.frames += frames;
                let cost = u128::from(self.frames) * FRAME_COST_MICROS;
                let allowed = (self.elapsed() + BURST).as_micros() + FRAME_COST_MICROS;
                assert!(
                    cost <= allowed,
                    "{} frames at {:?}",
                    self.frames,
                    self.elapsed()
                );
                assert!(*at >= self.heard, "{at:?} after {:?}", self.heard);
                self.heard = *at;
            }
            Heard::Voice(event) => {
                let turn = turn_of(event).unwrap_or(self.turn);
                assert!(turn >= self.turn, "{event:?} after {:?}", self.turn);
                self.turn = turn;
            }
            Heard::Playout {
                utterance,
                played,
                queued,
                state,
                ..
            } => {
                let said = self.said.get(utterance).copied().unwrap_or(0);
                assert!(*played <= said, "{played} of {said}");
                assert!(u128::from(*queued) <= PLAYOUT_QUEUE_MAX.as_micros());
                self.judge_playout(*utterance, *state, is_interrupted);
            }
            Heard::Mark { mark, .. } => assert_eq!(self.marks.pop_front(), Some(*mark)),
            Heard::Dtmf { digit, .. } => assert_eq!(self.pressed.pop_front(), Some(*digit)),
            Heard::KeysLeftOut { keys, .. } => {
                assert_eq!(self.left_out.pop_front(), Some(*keys));
            }
            Heard::Overflow {
                utterance, dropped, ..
            } => {
                let said = self.said.get_mut(utterance).expect("something was said");
                *said = said.checked_sub(*dropped).expect("no more than was said");
            }
        }
    }

    /// Of what was stopped comes nothing more, as long as that is remembered.
    fn judge_playout(&mut self, utterance: UtteranceId, state: PlayoutState, interrupted: bool) {
        let stopped = self.stopped.get(&utterance);
        let is_stopped = stopped.is_some_and(|at| self.stops - at < CLEARED_UTTERANCES_MAX - 1);
        assert!(!is_stopped || state == PlayoutState::Cleared, "{state:?}");
        assert!(
            interrupted || state != PlayoutState::Interrupted,
            "by nobody"
        );
        if matches!(state, PlayoutState::Cleared | PlayoutState::Interrupted) {
            self.stops += 1;
            self.stopped.insert(utterance, self.stops);
        }
    }

    /// What is said comes in its order, no faster than time passes, and keys as they were dialled.
    fn judge_packet(&mut self, packet: &[u8]) {
        let header = Header::parse(packet).expect("our header");
        let payload = &packet[header.len..];
        let next = self.last.map(|last| last.wrapping_add(1));
        assert!(next.is_none_or(|next| next == header.sequence_number));
        self.last = Some(header.sequence_number);
        self.packets += 1;
        let packets = PACKET.as_micros() * u128::from(self.packets);
        let allowed = (self.elapsed() + LATE + PACKET).as_micros();
        assert!(packets <= allowed, "{} packets", self.packets);
        match header.payload_type {
            PCMU => assert_eq!(payload.len(), PACKET_BYTES),
            EVENTS => {
                let report = Report::parse(payload).expect("a report");
                if header.marker {
                    self.dialling = self.dialled.pop_front();
                }
                assert_eq!(Some(report.event), self.dialling, "as they were dialled");
            }
            other => panic!("payload type {other} was not agreed"),
        }
    }

    /// A session that is gone is asked in vain.
    fn finish(&mut self) {
        self.pass(KEY_OVER);
        let (session, reason) = (self.peer.id, CloseReason::Requested);
        self.world.command(Command::Close { session, reason });
        let told = std::mem::take(&mut self.world.events);
        assert!(told.contains(&Event::Closed { session, reason }));
        self.world.sent.clear();
        self.ask_in_vain(session);
        self.world.assert_empty();
    }

    fn ask_in_vain(&mut self, session: SessionId) {
        let ask = AgentAsk::Mark { mark: MarkId(0) };
        self.world.command(Command::Agent { session, ask });
        assert!(self.world.events.is_empty() && self.world.sent.is_empty());
    }
}

fn utterance_of(choice: u8) -> UtteranceId {
    UtteranceId(u64::from(choice % 8))
}

const fn turn_of(event: &VoiceEvent) -> Option<TurnId> {
    match event {
        VoiceEvent::SpeechStarted { turn, .. }
        | VoiceEvent::SpeechEnded { turn, .. }
        | VoiceEvent::Resumed { turn, .. }
        | VoiceEvent::BargeIn { turn, .. } => Some(*turn),
        VoiceEvent::EagerEnd(end) | VoiceEvent::Ended(end) => Some(end.turn),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the judge of interruptions would judge nothing.
    #[test]
    fn the_voice_is_one_and_interrupts() {
        let mut call = Call::new(AgentPlan::default());
        call.speak(false, 50, 0);
        call.say(1, 10_000, Rate::Hz8000, (true, true));
        call.speak(false, 50, 0);
        call.speak(true, 100, 0);
        assert!(
            call.stopped.contains_key(&UtteranceId(1)),
            "nobody else stops it"
        );
        call.finish();
    }

    #[test]
    fn keys_are_told_and_dialled() {
        let mut call = Call::new(AgentPlan::default());
        call.press(11, 3, 0b10);
        call.press(4, 3, 0b1111_1000);
        call.dial(&[1, 17, 12]);
        assert_eq!(call.dialled, [12], "the first is begun at once");
        call.pass(Duration::from_millis(500));
        assert!(call.dialled.is_empty());
        call.finish();
    }
}

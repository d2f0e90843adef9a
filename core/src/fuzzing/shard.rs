//! A whole shard under commands, packets and times, against a naive model of sessions, rooms and deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use super::world::{Peer, World, address, check, sound};
use crate::ids::{ParticipantId, RoomId, SessionId};
use crate::limits::{CONSENT_TIMEOUT, DATAGRAM_BYTES_MAX, SETUP_TIMEOUT};
use crate::message::{CloseReason, Command, CommandError, Event, Role, Target};
use crate::time::Timestamp;
use crate::wire::{Class, classify};

const SESSIONS_MAX: u32 = 6;

#[derive(Arbitrary)]
enum Op<'a> {
    Open(Wish),
    /// A session proves its address and ends its handshake.
    Connect(u8),
    /// A check of a connected session.
    Consent(u8),
    /// A packet of a publisher or an echo.
    Sound(u8),
    Restart(u8),
    Close(u8),
    Stats(u8),
    /// Bytes from a stranger or from a session's address.
    Noise {
        from: u8,
        contents: &'a [u8],
    },
    /// A sound check with a byte turned.
    Forgery {
        session: u8,
        from: u8,
        place: u16,
        turn: u8,
    },
    Pass {
        millis: u16,
    },
    /// A clock that jumps, back too: the shard then stands still.
    Jump {
        deciseconds: u16,
    },
}

#[derive(Arbitrary, Clone, Copy)]
enum Wish {
    Echo,
    Publish { room: bool, participant: bool },
    FollowOne { room: bool, participant: bool },
    FollowNewest { room: bool },
}

impl Wish {
    fn role(self) -> Role {
        let participant = |second| ParticipantId(u32::from(second));
        let room = |second| RoomId(u32::from(second));
        match self {
            Self::Echo => Role::Echo,
            Self::Publish {
                room: in_room,
                participant: who,
            } => Role::Publish {
                room: room(in_room),
                participant: participant(who),
            },
            Self::FollowOne {
                room: in_room,
                participant: whom,
            } => Role::Subscribe {
                room: room(in_room),
                target: Target::Participant(participant(whom)),
            },
            Self::FollowNewest { room: in_room } => Role::Subscribe {
                room: room(in_room),
                target: Target::Newest,
            },
        }
    }
}

/// Commands, packets, strangers and times into one shard: each packet is heard by those who follow its sender and by
/// nobody else, every session ends when its time is up and not before, and a stale key finds nothing.
pub fn shard_ops(data: &[u8]) {
    let mut model = Model::new(World::new(SESSIONS_MAX));
    for op in ops(data) {
        model.step(&op);
    }
    model.close_all();
    model.world.assert_refuses();
}

/// A datagram from a stranger, and then from a peer that proved its address, with real DTLS.
pub fn datagram(contents: &[u8]) {
    let mut model = Model::new(World::real(SESSIONS_MAX));
    model.on_noise(200, contents);
    model.open(Wish::Echo);
    let from = model.sessions[0].address;
    assert_eq!(
        model.sessions[0].peer.check(&mut model.world, from),
        None,
        "a sound check is taken"
    );
    model.world.sent.clear();
    model.on_noise(0, contents);
    model.close_all();
}

struct Known {
    peer: Peer,
    role: Role,
    opened: Timestamp,
    connected: bool,
    address: SocketAddr,
    ssrc: u32,
    next: u16,
}

struct Model {
    world: World,
    /// Every session there ever was.
    sessions: Vec<Known>,
    /// When each that lives will end if nothing more comes.
    ends: BTreeMap<usize, Timestamp>,
    /// Publishers that connected, in the order they did.
    publishers: Vec<usize>,
    /// The shard's clock: the latest that it was told.
    latest: Timestamp,
}

impl Model {
    fn new(world: World) -> Self {
        Self {
            world,
            sessions: Vec::new(),
            ends: BTreeMap::new(),
            publishers: Vec::new(),
            latest: Timestamp::ZERO,
        }
    }

    fn step(&mut self, op: &Op<'_>) {
        match *op {
            Op::Open(wish) => self.open(wish),
            Op::Connect(session) => self.connect(session),
            Op::Consent(session) => self.consent(session),
            Op::Sound(session) => self.on_sound(session),
            Op::Restart(session) => self.restart(session),
            Op::Close(session) => self.close(usize::from(session)),
            Op::Stats(session) => self.stats(session),
            Op::Noise { from, contents } => self.on_noise(from, contents),
            Op::Forgery {
                session,
                from,
                place,
                turn,
            } => self.on_forgery(session, from, usize::from(place), turn),
            Op::Pass { millis } => {
                self.turn_at(self.world.now + Duration::from_millis(u64::from(millis)));
            }
            Op::Jump { deciseconds } => {
                self.turn_at(Timestamp::from_millis(u64::from(deciseconds) * 100));
            }
        }
        let sizes = self.world.shard.table_sizes();
        assert_eq!(
            (sizes.sessions, sizes.timers),
            (self.ends.len(), self.ends.len())
        );
        // Whole milliseconds: the wheel's.
        let first = self.ends.values().min().map(|end| due(*end));
        let deadline = self.world.shard.deadline();
        assert!(first.is_none_or(|first| deadline.is_some_and(|at| at <= first.max(self.latest))));
    }

    fn find(&self, session: u8) -> Option<usize> {
        let index = usize::from(session);
        (index < self.sessions.len()).then_some(index)
    }

    fn lives(&self, index: usize) -> bool {
        self.ends.contains_key(&index)
    }

    fn open(&mut self, wish: Wish) {
        let role = wish.role();
        let opened = self.world.open(role);
        let (id, local) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error, CommandError::SessionsExhausted { max: SESSIONS_MAX });
                assert_eq!(self.ends.len(), SESSIONS_MAX as usize);
                return;
            }
        };
        let number = self.sessions.len();
        assert!(
            self.sessions.iter().all(|known| known.peer.id != id),
            "{id} twice"
        );
        self.ends.insert(number, self.latest + SETUP_TIMEOUT);
        self.sessions.push(Known {
            peer: Peer::new(id, &local, number as u64),
            role,
            opened: self.latest,
            connected: false,
            address: address(number as u16),
            ssrc: number as u32,
            next: 0,
        });
        self.judge_sent();
    }

    fn connect(&mut self, session: u8) {
        let Some(index) = self.find(session) else {
            return;
        };
        let known = &mut self.sessions[index];
        if !self.ends.contains_key(&index) || known.connected {
            return;
        }
        known.peer.connect(&mut self.world, known.address);
        known.connected = true;
        self.ends.insert(index, self.latest + CONSENT_TIMEOUT);
        let id = known.peer.id;
        let told = std::mem::take(&mut self.world.events);
        assert!(matches!(told[0], Event::Connected { session, .. } if session == id));
        let role = known.role;
        let replaced = if matches!(role, Role::Publish { .. }) {
            let mut publishers = self.publishers.iter();
            let before = publishers.position(|other| self.sessions[*other].role == role);
            self.publishers.push(index);
            before.map(|place| self.publishers[place])
        } else {
            None
        };
        self.note_events(&told[1..], |other, reason| {
            assert_eq!(
                (Some(other), reason),
                (replaced, CloseReason::Replaced),
                "one publisher for each participant"
            );
        });
        assert!(replaced.is_none_or(|replaced| !self.lives(replaced)));
        self.judge_sent();
    }

    fn consent(&mut self, session: u8) {
        let Some(index) = self.find(session).filter(|index| self.lives(*index)) else {
            return;
        };
        let known = &mut self.sessions[index];
        let dropped = known.peer.check(&mut self.world, known.address);
        assert_eq!(dropped, None, "a sound check is taken");
        let sent = std::mem::take(&mut self.world.sent);
        assert!(matches!(&sent[..], [(to, _)] if *to == known.address));
        if known.connected {
            self.ends.insert(index, self.latest + CONSENT_TIMEOUT);
        }
    }

    /// Who hears a session, by the rules of [`Role`] and [`Target`] alone.
    fn followers(&self, speaker: usize) -> BTreeSet<usize> {
        let role = self.sessions[speaker].role;
        if role == Role::Echo {
            return BTreeSet::from([speaker]);
        }
        let follows = |index: &usize| {
            let Role::Subscribe { room, target } = self.sessions[*index].role else {
                return false;
            };
            let mut there = self.publishers.iter().rev().filter(|other| {
                let Role::Publish {
                    room: where_,
                    participant,
                } = self.sessions[**other].role
                else {
                    return false;
                };
                where_ == room
                    && (target == Target::Newest || target == Target::Participant(participant))
            });
            there.next() == Some(&speaker)
        };
        self.ends
            .keys()
            .copied()
            .filter(|index| self.sessions[*index].connected)
            .filter(follows)
            .collect()
    }

    fn on_sound(&mut self, session: u8) {
        let Some(index) = self.find(session) else {
            return;
        };
        let known = &mut self.sessions[index];
        if matches!(known.role, Role::Subscribe { .. }) {
            return;
        }
        known.next += 1;
        let payload = [
            known.ssrc.to_be_bytes(),
            u32::from(known.next).to_be_bytes(),
        ]
        .concat();
        let packet = sound(known.ssrc, known.next, &payload);
        let sealed = known.peer.seal_rtp(&packet).expect("a fresh number");
        let from = known.address;
        let dropped = self.world.deliver(from, &sealed);
        let taken = self.lives(index) && self.sessions[index].connected;
        assert_eq!(
            dropped.is_none(),
            taken,
            "a packet of session {index}: {dropped:?}"
        );
        let mut expected = if taken {
            self.followers(index)
        } else {
            BTreeSet::new()
        };
        for (to, contents) in std::mem::take(&mut self.world.sent) {
            let mut sessions = self.sessions.iter_mut();
            let other = sessions.position(|known| known.address == to);
            let other = other.expect("one of ours");
            let opened = self.sessions[other].peer.open(&contents);
            if opened.expect("sealed for its session").ends_with(&payload) {
                assert!(expected.remove(&other), "session {other} hears {index}");
            }
        }
        assert!(expected.is_empty(), "{expected:?} do not hear {index}");
        let id = self.sessions[index].peer.id;
        for event in std::mem::take(&mut self.world.events) {
            match event {
                Event::TrackAdded { session, .. } => assert_eq!(session, id),
                Event::ActiveSpeaker { room, participant } => {
                    assert!(taken, "a packet that counts");
                    self.judge_speaker(room, participant);
                }
                other => panic!("{other:?} by a packet"),
            }
        }
    }

    fn restart(&mut self, session: u8) {
        let Some(index) = self.find(session) else {
            return;
        };
        let lives = self.lives(index);
        let peer = &mut self.sessions[index].peer;
        let ice = self.world.restart(peer.id);
        assert_eq!(ice.is_some(), lives, "a stale key finds nothing");
        if let Some(ice) = ice {
            assert!(ice.ufrag != peer.ice.ufrag && ice.password != peer.ice.password);
            peer.ice = ice;
        }
    }

    fn close(&mut self, index: usize) {
        let Some(known) = self.sessions.get(index) else {
            return;
        };
        let (session, reason) = (known.peer.id, CloseReason::Requested);
        let lived = self.lives(index);
        self.world.command(Command::Close { session, reason });
        let told = std::mem::take(&mut self.world.events);
        let mut closed = 0;
        self.note_events(&told, |other, why| {
            assert_eq!((other, why), (index, reason));
            closed += 1;
        });
        assert_eq!(closed == 1, lived, "a stale key finds nothing");
        self.judge_sent();
    }

    fn stats(&mut self, session: u8) {
        let Some(index) = self.find(session) else {
            return;
        };
        let (session, request) = (self.sessions[index].peer.id, self.world.request());
        self.world
            .command(Command::SessionStats { request, session });
        let known = &self.sessions[index];
        match self.world.events.pop().expect("a command is answered") {
            Event::SessionStats { stats, .. } => {
                assert!(self.lives(index));
                let age = self.latest.since(known.opened);
                assert_eq!((stats.age, stats.connected), (age, known.connected));
            }
            Event::Rejected { error, .. } => {
                assert_eq!(error, CommandError::UnknownSession);
                assert!(!self.lives(index));
            }
            other => panic!("{other:?} answers nothing"),
        }
    }

    /// Nobody hears from us who did not prove a session to be theirs.
    fn on_noise(&mut self, from: u8, contents: &[u8]) {
        let source = address(u16::from(from));
        let dropped = self.world.deliver(source, contents);
        let mut sessions = self.sessions.iter();
        let index = sessions.position(|known| known.address == source);
        let living = index.filter(|index| self.lives(*index));
        let told = std::mem::take(&mut self.world.events);
        let sent = std::mem::take(&mut self.world.sent);
        if living.is_none() {
            assert!(dropped.is_some(), "{source} proved nothing");
            assert!(sent.is_empty() && told.is_empty(), "refused in silence");
        }
        for (to, contents) in sent {
            assert_eq!(to, source);
            assert!(contents.len() <= DATAGRAM_BYTES_MAX);
        }
        self.note_events(&told, |other, reason| {
            assert_eq!(Some(other), living);
            // A scripted handshake believes a hello, whoever says it; a real one refuses what is malformed.
            let mismatch = reason == CloseReason::FingerprintMismatch;
            assert!(mismatch || reason == CloseReason::HandshakeFailed);
        });
    }

    fn on_forgery(&mut self, session: u8, from: u8, place: usize, turn: u8) {
        let Some(index) = self.find(session) else {
            return;
        };
        let mut forged = check(&self.sessions[index].peer.ice, 1, true);
        // The FINGERPRINT at the end is no part of the proof.
        let place = place % (forged.len() - 8);
        forged[place] ^= turn | 1;
        self.world.deliver(address(u16::from(from)), &forged);
        assert!(self.world.sent.is_empty(), "byte {place} is authenticated");
    }

    fn turn_at(&mut self, now: Timestamp) {
        self.world.now = now;
        self.latest = self.latest.max(now);
        // D4: a clock that goes back stands still for the shard.
        let told_at = self.latest;
        self.world.turn();
        let late: Vec<_> = self
            .ends
            .iter()
            .filter(|(_, end)| due(**end) <= told_at)
            .map(|(index, _)| *index)
            .collect();
        let connected: Vec<_> = self.sessions.iter().map(|known| known.connected).collect();
        let told = std::mem::take(&mut self.world.events);
        let mut ended = Vec::new();
        self.note_events(&told, |index, reason| {
            let why = if connected[index] {
                CloseReason::ConsentExpired
            } else {
                CloseReason::SetupTimeout
            };
            assert_eq!(reason, why);
            ended.push(index);
        });
        ended.sort_unstable();
        assert_eq!(ended, late, "at {told_at}");
        self.judge_sent();
    }

    /// What follows from something else (requests for keyframes, farewells) goes to sessions of ours, under their keys.
    fn judge_sent(&mut self) {
        for (to, contents) in std::mem::take(&mut self.world.sent) {
            let mut sessions = self.sessions.iter_mut();
            let known = sessions.find(|known| known.address == to);
            let known = known.expect("one of ours");
            if matches!(classify(&contents), Class::Rtp | Class::Rtcp) {
                assert!(known.peer.open(&contents).is_some(), "sealed for {to}");
            }
        }
    }

    /// Takes in the ends of sessions; `note` judges them.
    fn note_events(&mut self, events: &[Event], mut note: impl FnMut(usize, CloseReason)) {
        for event in events {
            match event {
                Event::Closed { session, reason } => {
                    let index = self.number_of(*session);
                    assert!(self.ends.remove(&index).is_some(), "it ends once");
                    self.publishers.retain(|other| *other != index);
                    note(index, *reason);
                }
                Event::TrackRemoved { session, .. } => {
                    let index = self.number_of(*session);
                    assert!(self.sessions[index].connected);
                }
                // One who leaves is the speaker no more.
                Event::ActiveSpeaker { room, participant } => {
                    self.judge_speaker(*room, *participant);
                }
                other => panic!("{other:?} by nobody"),
            }
        }
    }

    /// Only who publishes into a room can be its speaker.
    fn judge_speaker(&self, room: RoomId, speaker: Option<ParticipantId>) {
        let speaks = |participant| {
            let role = Role::Publish { room, participant };
            let mut publishers = self.publishers.iter();
            publishers.any(|index| self.sessions[*index].role == role)
        };
        assert!(speaker.is_none_or(speaks), "{speaker:?} is not in {room:?}");
    }

    fn number_of(&self, session: SessionId) -> usize {
        let mut sessions = self.sessions.iter();
        let number = sessions.position(|known| known.peer.id == session);
        number.expect("it was opened")
    }

    fn close_all(&mut self) {
        for index in 0..self.sessions.len() {
            self.close(index);
        }
        assert!(self.ends.is_empty() && self.publishers.is_empty());
        self.world.assert_empty();
    }
}

/// The first whole millisecond at which a deadline has passed.
fn due(deadline: Timestamp) -> Timestamp {
    Timestamp::from_millis((deadline + Duration::from_nanos(999_999)).as_millis())
}

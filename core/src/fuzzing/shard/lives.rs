//! Sessions come and go: each command is answered, and every end has its time and its reason.

use std::time::Duration;

use super::{Known, Model, SESSIONS_MAX, Wish};
use crate::fuzzing::world::{Peer, address, check};
use crate::ids::{RoomId, SessionId};
use crate::limits::{CONSENT_TIMEOUT, DATAGRAM_BYTES_MAX, SETUP_TIMEOUT};
use crate::message::{CloseReason, Command, CommandError, Event, Role};
use crate::time::Timestamp;

impl Model {
    pub(super) fn lives(&self, index: usize) -> bool {
        self.ends.contains_key(&index)
    }

    /// Opens a session; its number, unless its shard is full.
    pub(super) fn open(&mut self, wish: Wish) -> Option<usize> {
        let (role, shard) = wish.role();
        let shard = usize::from(shard.0);
        let opened = self.worlds[shard].open(role);
        let (id, local) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error, CommandError::SessionsExhausted { max: SESSIONS_MAX });
                assert_eq!(self.living_on(shard).count(), SESSIONS_MAX as usize);
                return None;
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
            shard,
            opened: self.latest,
            connected: false,
            address: address(number as u16),
            sent: [0; 2],
            picture: None,
        });
        if let Role::Mix { room, .. } = role {
            self.spoke.entry(room).or_default();
        }
        self.judge_sent();
        Some(number)
    }

    pub(super) fn join(&mut self, wish: Wish) -> Option<usize> {
        let index = self.open(wish)?;
        self.connect(index);
        Some(index)
    }

    pub(super) fn connect(&mut self, index: usize) {
        let known = &mut self.sessions[index];
        if !self.ends.contains_key(&index) || known.connected {
            return;
        }
        let world = &mut self.worlds[known.shard];
        known.peer.connect(world, known.address);
        known.connected = true;
        self.ends.insert(index, self.latest + CONSENT_TIMEOUT);
        let id = known.peer.id;
        let told = std::mem::take(&mut world.events);
        assert!(matches!(told[0], Event::Connected { session, .. } if session == id));
        let role = known.role;
        let replaced = if let Role::Publish { room, .. } = role {
            self.unsettle(room);
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

    pub(super) fn consent(&mut self, index: usize) {
        if !self.lives(index) {
            return;
        }
        let known = &mut self.sessions[index];
        let world = &mut self.worlds[known.shard];
        let dropped = known.peer.check(world, known.address);
        assert_eq!(dropped, None, "a sound check is taken");
        let sent = std::mem::take(&mut world.sent);
        assert!(matches!(&sent[..], [(to, _)] if *to == known.address));
        if known.connected {
            self.ends.insert(index, self.latest + CONSENT_TIMEOUT);
        }
    }

    pub(super) fn restart(&mut self, index: usize) {
        let lives = self.lives(index);
        let Known { peer, shard, .. } = &mut self.sessions[index];
        let ice = self.worlds[*shard].restart(peer.id);
        assert_eq!(ice.is_some(), lives, "a stale key finds nothing");
        if let Some(ice) = ice {
            assert!(ice.ufrag != peer.ice.ufrag && ice.password != peer.ice.password);
            peer.ice = ice;
        }
    }

    pub(super) fn close(&mut self, index: usize) {
        let known = &self.sessions[index];
        let (session, reason) = (known.peer.id, CloseReason::Requested);
        let lived = self.lives(index);
        let world = &mut self.worlds[known.shard];
        world.command(Command::Close { session, reason });
        let told = std::mem::take(&mut world.events);
        let mut closed = 0;
        self.note_events(&told, |other, why| {
            assert_eq!((other, why), (index, reason));
            closed += 1;
        });
        assert_eq!(closed == 1, lived, "a stale key finds nothing");
        self.judge_sent();
    }

    pub(super) fn stats(&mut self, index: usize) {
        let known = &self.sessions[index];
        let world = &mut self.worlds[known.shard];
        let (session, request) = (known.peer.id, world.request());
        world.command(Command::SessionStats { request, session });
        match world.events.pop().expect("a command is answered") {
            Event::SessionStats { stats, .. } => {
                assert!(self.ends.contains_key(&index));
                let age = self.latest.since(known.opened);
                assert_eq!((stats.age, stats.connected), (age, known.connected));
            }
            Event::Rejected { error, .. } => {
                assert_eq!(error, CommandError::UnknownSession);
                assert!(!self.ends.contains_key(&index));
            }
            other => panic!("{other:?} answers nothing"),
        }
    }

    /// Nobody hears from us who did not prove a session to be theirs.
    pub(super) fn on_noise(&mut self, from: u8, contents: &[u8]) {
        let source = address(u16::from(from));
        let mut sessions = self.sessions.iter();
        let index = sessions.position(|known| known.address == source);
        let living = index.filter(|index| self.lives(*index));
        let world = &mut self.worlds[index.map_or(0, |index| self.sessions[index].shard)];
        let dropped = world.deliver(source, contents);
        let told = std::mem::take(&mut world.events);
        let sent = std::mem::take(&mut world.sent);
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

    pub(super) fn on_forgery(&mut self, index: usize, from: u8, place: usize, turn: u8) {
        let known = &self.sessions[index];
        let mut forged = check(&known.peer.ice, 1, true);
        // The FINGERPRINT at the end is no part of the proof.
        let place = place % (forged.len() - 8);
        forged[place] ^= turn | 1;
        let world = &mut self.worlds[known.shard];
        world.deliver(address(u16::from(from)), &forged);
        assert!(world.sent.is_empty(), "byte {place} is authenticated");
    }

    pub(super) fn pass(&mut self, duration: Duration) {
        self.turn_at(self.worlds[0].now + duration);
    }

    pub(super) fn turn_at(&mut self, now: Timestamp) {
        // D4: a clock that goes back stands still for the shard.
        let before = self.latest;
        self.latest = self.latest.max(now);
        let connected: Vec<_> = self.sessions.iter().map(|known| known.connected).collect();
        let listeners = self.mix_listeners();
        let late = self
            .ends
            .iter()
            .filter(|(_, end)| due(**end) <= self.latest);
        let late: Vec<_> = late.map(|(index, _)| *index).collect();
        let mut told = Vec::new();
        for world in &mut self.worlds {
            world.now = now;
            world.turn();
            told.append(&mut world.events);
        }
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
        assert_eq!(ended, late, "at {}", self.latest);
        self.judge_mixes(&listeners, self.latest.since(before));
    }

    /// Takes in the ends of sessions; `note` judges them.
    pub(super) fn note_events(
        &mut self,
        events: &[Event],
        mut note: impl FnMut(usize, CloseReason),
    ) {
        for event in events {
            match event {
                Event::Closed { session, reason } => {
                    let index = self.number_of(*session);
                    assert!(self.ends.remove(&index).is_some(), "it ends once");
                    self.publishers.retain(|other| *other != index);
                    match self.sessions[index].role {
                        Role::Mix { room, .. } => self.forget_mix(room),
                        Role::Publish { room, participant } => {
                            self.unsettle(room);
                            self.note_tail(room, participant);
                        }
                        _ => {}
                    }
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

    fn forget_mix(&mut self, room: RoomId) {
        let is_mixed = |index: &usize| {
            let role = self.sessions[*index].role;
            matches!(role, Role::Mix { room: other, .. } if other == room)
        };
        if !self.ends.keys().any(is_mixed) {
            self.spoke.remove(&room);
        }
    }

    pub(super) fn number_of(&self, session: SessionId) -> usize {
        let mut sessions = self.sessions.iter();
        let number = sessions.position(|known| known.peer.id == session);
        number.expect("it was opened")
    }
}

/// The first whole millisecond at which a deadline has passed.
pub(super) fn due(deadline: Timestamp) -> Timestamp {
    Timestamp::from_millis((deadline + Duration::from_nanos(999_999)).as_millis())
}

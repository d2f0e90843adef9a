//! Who hears whom, by the rules of [`Role`] and [`Target`] alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::Arbitrary;

use super::{Model, home_of, room_of};
use crate::fuzzing::world::{RTX, VP8, loud, picture, sound};
use crate::ids::{ParticipantId, RoomId};
use crate::message::{Event, Role, Target};
use crate::time::Timestamp;
use crate::wire::rtcp::CompoundWriter;
use crate::wire::rtp::Header;
use crate::wire::{Class, classify};

/// Each publisher sends so many tracks: of sound, and of pictures.
const TRACKS: usize = 2;
/// A packet is in the cache for longer, so that it can be had again.
const FRESH: Duration = Duration::from_millis(500);
/// A mix of nobody is no longer (its first packet has 24 bytes); one with somebody in it is.
pub(super) const SILENT_BYTES_MAX: usize = 40;
/// Who speaks in the place of who has left.
const TAIL: ParticipantId = ParticipantId(u32::MAX);
const MIX_PACKET: Duration = Duration::from_millis(20);
/// A mix whose thread was kept from running makes up for no more.
const MIXED_AT_ONCE_MAX: usize = 6;
/// After so long some packet of a mix has come, and was not late.
const MIX_SURE: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(100)];

#[derive(Arbitrary, Clone, Copy)]
pub(super) enum Talk {
    Sound,
    Picture { key: bool },
}

/// Who heard which packet of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Heard {
    listener: usize,
    /// Twice the speaker's number, and one more for pictures.
    source: u32,
    number: u32,
}

impl Heard {
    const fn speaker(self) -> usize {
        self.source as usize / TRACKS
    }

    #[cfg(test)]
    pub(super) const fn is(self, listener: usize, speaker: usize) -> bool {
        self.listener == listener && self.speaker() == speaker
    }

    /// Of a payload that ends as [`Self::mark`] ends it.
    fn of(listener: usize, payload: &[u8]) -> Option<Self> {
        let mark: [u8; 8] = *payload.last_chunk()?;
        let [source, number] = [0, 4].map(|at| {
            let bytes = [mark[at], mark[at + 1], mark[at + 2], mark[at + 3]];
            u32::from_be_bytes(bytes)
        });
        Some(Self {
            listener,
            source,
            number,
        })
    }

    fn mark(source: u32, number: u16) -> [u8; 8] {
        (u64::from(source) << 32 | u64::from(number)).to_be_bytes()
    }
}

/// A picture as it came to who heard it.
#[derive(Clone, Copy)]
pub(super) struct Picture {
    heard: Heard,
    ssrc: u32,
    sequence_number: u16,
    at: Timestamp,
    /// It was not asked for again, nor did anybody come or go who publishes there.
    settled: bool,
}

/// What was sent, looked at.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) heard: Vec<Heard>,
    pub(super) again: Vec<Heard>,
    /// Listeners, and the bytes of what is mixed.
    mixed: Vec<(usize, usize)>,
}

impl Taken {
    /// Who heard a packet.
    fn listeners(&self) -> BTreeSet<usize> {
        self.heard.iter().map(|heard| heard.listener).collect()
    }
}

/// The room that a session is in.
pub(super) const fn room(role: Role) -> Option<RoomId> {
    match role {
        Role::Publish { room, .. }
        | Role::Subscribe { room, .. }
        | Role::SubscribeRemote { room, .. }
        | Role::Mix { room, .. } => Some(room),
        Role::Echo | Role::Agent(_) => None,
    }
}

impl Model {
    /// Those who live and follow in a room, and whom.
    fn subscribers(&self, room: RoomId) -> impl Iterator<Item = (usize, Target)> {
        self.ends
            .keys()
            .filter_map(move |index| match self.sessions[*index].role {
                Role::Subscribe {
                    room: other,
                    target,
                }
                | Role::SubscribeRemote {
                    room: other,
                    target,
                    ..
                } if other == room => Some((*index, target)),
                _ => None,
            })
    }

    /// Who publishes in a room, in the order in which they began.
    pub(super) fn publishers_of(
        &self,
        room: RoomId,
    ) -> impl DoubleEndedIterator<Item = (usize, ParticipantId)> {
        self.publishers
            .iter()
            .filter_map(move |index| match self.sessions[*index].role {
                Role::Publish {
                    room: other,
                    participant,
                } if other == room => Some((*index, participant)),
                _ => None,
            })
    }

    fn resolve(&self, room: RoomId, target: Target) -> Option<usize> {
        let mut newest = self.publishers_of(room).rev();
        let found = newest.find(|(_, participant)| may_follow(target, *participant));
        found.map(|(index, _)| index)
    }

    /// Who follows a session, connected or not.
    fn followers(&self, speaker: usize) -> BTreeSet<usize> {
        let role = self.sessions[speaker].role;
        let Role::Publish { room, .. } = role else {
            return BTreeSet::from([speaker]);
        };
        let subscribers = self.subscribers(room);
        let follows = subscribers
            .filter(|(_, target)| self.resolve(room, *target) == Some(speaker))
            .map(|(index, _)| index);
        follows.collect()
    }

    /// Who may hear a packet of a session that was under way for a while.
    fn may_hear(&self, listener: usize, speaker: usize) -> bool {
        match (self.sessions[speaker].role, self.sessions[listener].role) {
            (Role::Echo, _) => listener == speaker,
            (
                Role::Publish { room, participant },
                Role::Subscribe {
                    room: other,
                    target,
                }
                | Role::SubscribeRemote {
                    room: other,
                    target,
                    ..
                },
            ) => room == other && may_follow(target, participant),
            _ => false,
        }
    }

    /// A session says something new, and all who should hear it do.
    pub(super) fn say(&mut self, index: usize, talk: Talk) {
        let role = self.sessions[index].role;
        if !matches!(role, Role::Echo | Role::Publish { .. }) {
            return;
        }
        let taken = self.lives(index) && self.sessions[index].connected;
        // With nothing on its way that was said before.
        let in_step = self.lanes.are_empty() && room(role).is_none_or(|room| self.agree_on(room));
        let dropped = self.send(index, talk);
        assert_eq!(
            dropped.is_none(),
            taken,
            "a packet of session {index}: {dropped:?}"
        );
        if let (Role::Publish { room, participant }, Talk::Sound, true) = (role, talk, taken)
            && let Some(spoke) = self.spoke.get_mut(&room)
        {
            spoke.insert(participant);
        }
        let shard = self.sessions[index].shard;
        let followers = if taken {
            self.followers(index)
        } else {
            BTreeSet::new()
        };
        let is_here = |other: &usize| self.sessions[*other].shard == shard;
        let (here, elsewhere) = followers.into_iter().partition(is_here);
        let heard = self.take_sent();
        self.judge_listeners(talk, heard.listeners(), here);
        self.judge_events_of(index, taken);
        let crossing = self.gather();
        if in_step {
            assert_eq!(crossing, usize::from(!elsewhere.is_empty()), "once a shard");
            if let Some(heard) = self.carry_now() {
                self.judge_listeners(talk, heard.listeners(), elsewhere);
            }
        }
    }

    /// Sends a packet that is marked as of that session; why it was dropped, if it was.
    fn send(&mut self, index: usize, talk: Talk) -> Option<crate::message::DropReason> {
        let known = &mut self.sessions[index];
        let kind = usize::from(matches!(talk, Talk::Picture { .. }));
        known.sent[kind] += 1;
        let (source, number) = ((TRACKS * index + kind) as u32, known.sent[kind]);
        let mark = Heard::mark(source, number);
        let packet = match talk {
            Talk::Sound => sound(source, number, &loud(mark)),
            Talk::Picture { key } => picture(source, number, key, &mark),
        };
        let sealed = known.peer.seal_rtp(&packet).expect("a fresh number");
        self.worlds[known.shard].deliver(known.address, &sealed)
    }

    /// A picture that begins nothing is heard by those who have had its beginning.
    fn judge_listeners(&self, talk: Talk, heard: BTreeSet<usize>, mut follow: BTreeSet<usize>) {
        follow.retain(|index| self.sessions[*index].connected);
        match talk {
            Talk::Picture { key: false } => assert!(heard.is_subset(&follow)),
            _ => assert_eq!(heard, follow, "they hear it, and should"),
        }
    }

    fn judge_events_of(&mut self, index: usize, taken: bool) {
        let known = &self.sessions[index];
        let id = known.peer.id;
        for event in std::mem::take(&mut self.worlds[known.shard].events) {
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

    /// Only who publishes into a room can be its speaker.
    pub(super) fn judge_speaker(&self, room: RoomId, speaker: Option<ParticipantId>) {
        let speaks = |speaker| self.publishers_of(room).any(|(_, other)| other == speaker);
        assert!(speaker.is_none_or(speaks), "{speaker:?} is not in {room:?}");
    }

    /// Asks for a keyframe, or for what was heard last again: it comes, once, and to who asked.
    pub(super) fn ask(&mut self, index: usize, keyframe: bool) {
        let known = &mut self.sessions[index];
        let Some(asked) = known.picture.filter(|_| self.ends.contains_key(&index)) else {
            return;
        };
        let mut compound = [0; 100];
        let mut writer = CompoundWriter::new(&mut compound);
        assert!(if keyframe {
            writer.picture_loss_indication(1, asked.ssrc)
        } else {
            writer.nack(1, asked.ssrc, &[asked.sequence_number])
        });
        let len = writer.len();
        let sealed = known.peer.seal_rtcp(&compound[..len]).expect("a header");
        let dropped = self.worlds[known.shard].deliver(known.address, &sealed);
        assert_eq!(dropped, None, "a report as it should be");
        known.picture = Some(Picture {
            settled: asked.settled && keyframe,
            ..asked
        });
        let shard = known.shard;
        assert!(self.worlds[shard].events.is_empty(), "nobody is told");
        let sent = self.take_sent();
        assert!(sent.heard.is_empty(), "nothing new");
        let again = if keyframe {
            &[][..]
        } else {
            &[asked.heard][..]
        };
        assert!(again.starts_with(&sent.again), "what was asked for, once");
        let speaker = asked.heard.speaker();
        let in_step = room(self.sessions[speaker].role).is_none_or(|room| self.agree_on(room));
        let is_sure = in_step
            && asked.settled
            && self.latest.since(asked.at) < FRESH
            && self.followers(speaker).contains(&index);
        assert!(!is_sure || sent.again == again, "{index} asked in vain");
    }

    /// Publishers of a room changed: those who follow may follow another now.
    pub(super) fn unsettle(&mut self, changed: RoomId) {
        for known in &mut self.sessions {
            if room(known.role) == Some(changed)
                && let Some(picture) = &mut known.picture
            {
                picture.settled = false;
            }
        }
    }

    /// What follows from something else (requests for keyframes, farewells) goes to sessions of ours, under their keys.
    pub(super) fn judge_sent(&mut self) {
        let sent = self.take_sent();
        assert!(sent.heard.is_empty() && sent.again.is_empty());
    }

    /// Takes out what was sent. Whatever it follows from, it is for who may hear it and nobody hears it twice.
    pub(super) fn take_sent(&mut self) -> Taken {
        let mut taken = Taken::default();
        for shard in 0..self.worlds.len() {
            for (to, contents) in std::mem::take(&mut self.worlds[shard].sent) {
                let mut sessions = self.sessions.iter();
                let listener = sessions.position(|known| known.address == to);
                let listener = listener.expect("one of ours");
                let known = &mut self.sessions[listener];
                assert_eq!(known.shard, shard);
                let class = classify(&contents);
                if matches!(class, Class::Rtp | Class::Rtcp) {
                    let opened = known.peer.open(&contents);
                    let opened = opened.unwrap_or_else(|| panic!("not sealed for {to}"));
                    if class == Class::Rtp {
                        self.take_packet(listener, &opened, &mut taken);
                    }
                }
            }
        }
        taken
    }

    fn take_packet(&mut self, listener: usize, packet: &[u8], taken: &mut Taken) {
        let header = Header::parse(packet).expect("our header");
        let payload = &packet[header.len..];
        if let Role::Mix { .. } = self.sessions[listener].role {
            taken.mixed.push((listener, payload.len()));
            return;
        }
        let heard = Heard::of(listener, payload).expect("what was said is marked");
        let speaker = heard.speaker();
        assert!(
            self.may_hear(listener, speaker),
            "session {listener} hears {speaker}"
        );
        let is_new = self.heard.insert(heard);
        if header.payload_type == RTX {
            assert!(!is_new, "again is what was heard before");
            taken.again.push(heard);
            return;
        }
        assert!(is_new, "{heard:?} twice");
        taken.heard.push(heard);
        if header.payload_type == VP8 {
            self.sessions[listener].picture = Some(Picture {
                heard,
                ssrc: header.ssrc,
                sequence_number: header.sequence_number,
                at: self.latest,
                settled: true,
            });
        }
    }

    /// The limiter of a mix looks ahead: who leaves it may hear the last of his own voice, as if another had spoken.
    pub(super) fn note_tail(&mut self, room: RoomId, participant: ParticipantId) {
        if let Some(spoke) = self.spoke.get_mut(&room)
            && spoke.contains(&participant)
        {
            spoke.insert(TAIL);
        }
    }

    /// Rooms of each shard that are mixed.
    pub(super) fn mixes(&self) -> Vec<usize> {
        let mut mixes = vec![0; self.worlds.len()];
        for room in self.spoke.keys() {
            mixes[usize::from(home_of(*room).0)] += 1;
        }
        mixes
    }

    /// Who listens to a mix and is connected.
    pub(super) fn mix_listeners(&self) -> Vec<usize> {
        let hears = |index: &usize| {
            let known = &self.sessions[*index];
            known.connected && matches!(known.role, Role::Mix { .. })
        };
        self.ends.keys().copied().filter(hears).collect()
    }

    /// What came of the mixes in such a time: packets in their time, in which nobody hears himself. Returns the bytes
    /// of the longest.
    pub(super) fn judge_mixes(&mut self, listeners: &[usize], elapsed: Duration) -> usize {
        let sent = self.take_sent();
        assert!(
            sent.heard.is_empty() && sent.again.is_empty(),
            "by no clock"
        );
        let mut counts = BTreeMap::new();
        for (listener, bytes) in &sent.mixed {
            *counts.entry(*listener).or_insert(0) += 1;
            let Role::Mix { room, own } = self.sessions[*listener].role else {
                panic!("it listens to no mix");
            };
            let others = self.spoke.get(&room).is_none_or(|spoke| {
                let mut spoke = spoke.iter();
                spoke.any(|participant| Some(*participant) != own)
            });
            assert!(
                others || *bytes <= SILENT_BYTES_MAX,
                "{bytes} bytes of nobody else"
            );
        }
        let most = elapsed.as_micros() / MIX_PACKET.as_micros() + 1;
        let most = MIXED_AT_ONCE_MAX.min(most as usize);
        assert!(counts.values().all(|count| *count <= most), "{counts:?}");
        let [sure, late] = MIX_SURE;
        if cfg!(feature = "opus") && (sure..=late).contains(&elapsed) {
            let mut listeners = listeners.iter().filter(|index| self.lives(**index));
            assert!(listeners.all(|index| counts.contains_key(index)));
        }
        let bytes = sent.mixed.iter().map(|(_, bytes)| *bytes);
        bytes.max().unwrap_or(0)
    }

    /// Entries that a shard that agrees with the other has: rooms, stand-ins and tracks that are relayed.
    pub(super) fn shared(&self, shard: usize) -> (usize, usize, usize) {
        let (mut rooms, mut stand_ins, mut relayed) = (0, 0, 0);
        for room in [false, true].map(room_of) {
            let publishers = self.publishers_of(room).count();
            let is_here = |index: &usize| self.sessions[*index].shard == shard;
            let subscribers = self.subscribers(room).map(|(index, _)| index);
            let (here, elsewhere): (Vec<_>, Vec<_>) = subscribers.partition(is_here);
            if usize::from(home_of(room).0) != shard {
                rooms += usize::from(!here.is_empty());
                stand_ins += if here.is_empty() { 0 } else { publishers };
                continue;
            }
            rooms += usize::from(publishers + here.len() + elsewhere.len() > 0);
            for (publisher, _) in self.publishers_of(room) {
                let followed = self.followers(publisher).iter().any(|it| !is_here(it));
                relayed += if followed { TRACKS } else { 0 };
            }
        }
        (rooms, stand_ins, relayed)
    }
}

fn may_follow(target: Target, participant: ParticipantId) -> bool {
    target == Target::Newest || target == Target::Participant(participant)
}

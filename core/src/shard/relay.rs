//! A shard among others: publishers elsewhere that sessions here follow, and tracks here that others relay. What is
//! said and why, see [`relay`](crate::relay).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{RoomId, SessionId, SessionKey, ShardId, TrackId};
use crate::limits::{MIXED_ROOMS_MAX, REFUSED_TRACKS_MAX, RELAYED_PUBLISHERS_MAX};
use crate::message::Role;
use crate::plan::{Codec, MediaKind};
use crate::relay::{Buffers, Publisher, Relay, RelayedPacket};
use crate::route::rooms::Quit;
use crate::session::media::{Incoming, KeyframeThrottle, Track};
use crate::shard::Shard;
use crate::time::Timestamp;

/// What a shard keeps for others and of others.
#[derive(Debug, Default)]
pub(super) struct Relaying {
    /// Publishers elsewhere, of rooms that are attended.
    stand_ins: BTreeMap<SessionId, StandIn>,
    /// How often tracks of sessions here are relayed, summed up over tracks and shards.
    pub(super) relayed: usize,
    /// To be handed over.
    out: VecDeque<(ShardId, Relay)>,
    buffers: Buffers,
    /// Keyframe requests that the throttle holds back, and until when.
    held: BTreeSet<(Timestamp, TrackId)>,
    /// Tracks of which packets came though nobody here follows them, and when that was said; of the last throttle
    /// interval, oldest first.
    refused: VecDeque<(Timestamp, TrackId)>,
}

/// A publisher elsewhere, as far as it matters to those who follow it here.
#[derive(Debug)]
struct StandIn {
    tracks: Vec<StandInTrack>,
}

#[derive(Debug)]
struct StandInTrack {
    media: u8,
    kind: MediaKind,
    track: Track,
    /// Of the packets that came last.
    codec: Option<Codec>,
    /// When it was last asked for, or a packet of it came.
    asked: Option<Timestamp>,
    keyframes: KeyframeThrottle,
}

impl Relaying {
    pub(super) fn stand_ins(&self) -> usize {
        self.stand_ins.len()
    }

    fn track(&self, id: TrackId) -> Option<&StandInTrack> {
        let tracks = &self.stand_ins.get(&id.session)?.tracks;
        tracks.iter().find(|track| track.media == id.media)
    }

    pub(super) fn track_of(&mut self, id: TrackId) -> Option<&mut Track> {
        self.track_mut(id).map(|track| &mut track.track)
    }

    fn track_mut(&mut self, id: TrackId) -> Option<&mut StandInTrack> {
        let tracks = &mut self.stand_ins.get_mut(&id.session)?.tracks;
        tracks.iter_mut().find(|track| track.media == id.media)
    }

    /// Asks for a keyframe of a track that somebody waits for one of, now or when the throttle lets it.
    fn ask_for_keyframe(&mut self, now: Timestamp, id: TrackId) {
        let Some(track) = self.track_mut(id) else {
            return;
        };
        if track.keyframes.poll(now) {
            self.out.push_back((id.session.shard, Relay::Keyframe(id)));
        } else if let Some(deadline) = track.keyframes.deadline() {
            self.held.insert((deadline, id));
        }
    }
}

impl Shard {
    /// Takes in what another shard says. What it causes waits in the output.
    pub fn handle_relay(&mut self, now: Timestamp, from: ShardId, relay: Relay) {
        self.advance(now);
        if from == self.id {
            return;
        }
        match relay {
            Relay::Attend { room } => {
                self.rooms.attend(room, from);
                let publishers = self.publishers(room);
                self.say(from, Relay::Publishers { room, publishers });
            }
            Relay::Quit { room } => self.rooms.quit(room, from),
            Relay::Follow(track) => self.relay_to(from, track),
            Relay::Unfollow(track) => {
                if let Some(track) = self.published(track) {
                    let before = track.shards.len();
                    track.shards.retain(|shard| *shard != from);
                    let gone = before - track.shards.len();
                    self.relaying.relayed -= gone;
                }
            }
            Relay::Keyframe(track) if track.session.shard == self.id => {
                self.request_keyframe(track);
            }
            Relay::Keyframe(_) => {}
            Relay::Publishers { room, publishers } => self.on_publishers(from, room, publishers),
            Relay::Packet(packet) => self.on_relayed(from, &packet),
        }
    }

    /// The next relay to hand over, for a driver that takes transmits in batches.
    pub fn poll_relay(&mut self) -> Option<(ShardId, Relay)> {
        self.relaying.out.pop_front()
    }

    /// One more session here subscribes to a room whose publishers are elsewhere.
    pub(super) fn attend(&mut self, room: RoomId, home: ShardId) {
        let entry = self.rooms.find_mut(room).filter(|_| home != self.id);
        if let Some(home) = entry.map(|entry| entry.attend(home)) {
            // Of each, not of the first alone: what was said before may have been lost, and so may its answer.
            self.say(home, Relay::Attend { room });
        }
    }

    /// None does any more.
    pub(super) fn quit(&mut self, room: RoomId, quit: Quit) {
        for session in quit.publishers {
            self.dismiss(session);
        }
        self.say(quit.home, Relay::Quit { room });
    }

    /// Tells the shards that attend a room who publishes in it.
    pub(super) fn announce(&mut self, room: RoomId) {
        let shards = match self.rooms.find(room) {
            Some(entry) if !entry.shards.is_empty() => entry.shards.clone(),
            _ => return,
        };
        let publishers = self.publishers(room);
        for shard in shards {
            let publishers = publishers.clone();
            self.say(shard, Relay::Publishers { room, publishers });
        }
    }

    /// Has a track elsewhere relayed here.
    pub(super) fn ask_for(&mut self, track: TrackId) {
        if let Some(followed) = self.relaying.track_mut(track) {
            followed.asked = Some(self.now);
        }
        self.say(track.session.shard, Relay::Follow(track));
    }

    /// Sends a packet to each shard that follows its track.
    #[inline(never)]
    pub(super) fn relay(&mut self, publisher: SessionKey, packet: &Incoming<'_>) {
        let session = SessionId {
            shard: self.id,
            key: publisher,
        };
        let media = packet.media;
        let Some(track) = self
            .sessions
            .find_mut(publisher)
            .and_then(|session| session.media.track_mut(media))
            .filter(|track| !track.shards.is_empty())
        else {
            return;
        };
        let payload = self.relaying.buffers.fill(packet.payload);
        let relayed = RelayedPacket::new(TrackId { session, media }, packet, payload);
        for shard in &track.shards {
            let relay = Relay::Packet(relayed.clone());
            self.relaying.out.push_back((*shard, relay));
        }
    }

    /// The sections of a kind in which somebody elsewhere publishes.
    pub(super) fn sections_elsewhere(&self, publisher: SessionId, kind: MediaKind) -> Vec<u8> {
        let stand_in = self.relaying.stand_ins.get(&publisher);
        let tracks = stand_in.into_iter().flat_map(|stand_in| &stand_in.tracks);
        let of_kind = tracks.filter(|track| track.kind == kind);
        of_kind.map(|track| track.media).collect()
    }

    /// A packet that a follower here of somebody elsewhere asks for again.
    pub(super) fn cached_elsewhere(&self, track: TrackId, sequence: u64) -> Option<Incoming<'_>> {
        let StandInTrack {
            track: cached,
            codec,
            ..
        } = self.relaying.track(track)?;
        cached.cached(self.now, track.media, (*codec)?, sequence)
    }

    /// Somebody here needs a keyframe of a track elsewhere.
    pub(super) fn want_keyframe_elsewhere(&mut self, track: TrackId) {
        if let Some(wanted) = self.relaying.track_mut(track)
            && wanted.kind == MediaKind::Video
        {
            wanted.keyframes.note_wanted();
            self.relaying.ask_for_keyframe(self.now, track);
            self.arm_held();
        }
    }

    /// Keyframe requests that were held back are due.
    #[cold]
    pub(super) fn ask_for_held_keyframes(&mut self) {
        while let Some(held @ (deadline, track)) = self.relaying.held.first().copied()
            && deadline <= self.now
        {
            self.relaying.held.remove(&held);
            self.relaying.ask_for_keyframe(self.now, track);
        }
        self.arm_held();
    }

    pub(super) fn say(&mut self, to: ShardId, relay: Relay) {
        self.relaying.out.push_back((to, relay));
    }

    /// Behind the slots of sessions and mixed rooms.
    fn arm_held(&mut self) {
        let slot = self
            .config
            .sessions_max
            .saturating_add(MIXED_ROOMS_MAX as u32);
        let first = self.relaying.held.first();
        self.wheel.arm(slot, first.map(|(deadline, _)| *deadline));
    }

    /// Who publishes here in a room; the newest of them, if they are very many.
    fn publishers(&self, room: RoomId) -> Vec<Publisher> {
        let all = self
            .rooms
            .find(room)
            .map_or(&[][..], |room| &room.publishers);
        let newest = &all[all.len().saturating_sub(RELAYED_PUBLISHERS_MAX)..];
        let here = newest
            .iter()
            .filter(|(_, session)| session.shard == self.id);
        here.filter_map(|(participant, session)| {
            let plans = &self.sessions.find(session.key)?.media.plan().media;
            let sections = plans.iter().zip(0..).filter(|(plan, _)| plan.receive);
            Some(Publisher {
                participant: *participant,
                session: session.key,
                sections: sections.map(|(plan, media)| (media, plan.kind)).collect(),
            })
        })
        .collect()
    }

    /// A track of a publisher here.
    fn published(&mut self, track: TrackId) -> Option<&mut Track> {
        let TrackId { session, media } = track;
        let session = self
            .sessions
            .find_mut(session.key)
            .filter(|_| session.shard == self.id)?;
        let publishes = matches!(session.role, Role::Publish { .. });
        session.media.track_mut(media).filter(|_| publishes)
    }

    fn relay_to(&mut self, shard: ShardId, track: TrackId) {
        if let Some(track) = self.published(track)
            && !track.shards.contains(&shard)
        {
            track.shards.push(shard);
            self.relaying.relayed += 1;
        }
    }

    fn on_publishers(&mut self, home: ShardId, room: RoomId, publishers: Vec<Publisher>) {
        let Some(entry) = self.rooms.find_mut(room).filter(|entry| entry.is_at(home)) else {
            // Under way while the last subscriber left; or what said so was lost.
            self.say(home, Relay::Quit { room });
            return;
        };
        let id = |publisher: &Publisher| SessionId {
            shard: home,
            key: publisher.session,
        };
        let named = publishers.iter();
        let gone = entry.replace(
            home,
            named.map(|publisher| (publisher.participant, id(publisher))),
        );
        for session in gone {
            self.dismiss(session);
        }
        let interval = self.config.tuning.keyframe_request_interval;
        for publisher in &publishers {
            let stand_in = || StandIn {
                tracks: StandInTrack::all(&publisher.sections, KeyframeThrottle::new(interval)),
            };
            let stand_ins = &mut self.relaying.stand_ins;
            stand_ins.entry(id(publisher)).or_insert_with(stand_in);
        }
        self.relink(room);
        for publisher in &publishers {
            self.ask_again(id(publisher));
        }
    }

    /// Asks again for what is followed and silent: it may never have been heard that it is.
    fn ask_again(&mut self, session: SessionId) {
        let (now, interval) = (self.now, self.config.tuning.keyframe_request_interval);
        let is_silent = |track: &&StandInTrack| {
            let asked = track.asked.map(|at| now.since(at));
            !track.track.followers.is_empty() && asked.is_none_or(|passed| passed >= interval)
        };
        let Some(stand_in) = self.relaying.stand_ins.get(&session) else {
            return;
        };
        let silent = stand_in.tracks.iter().filter(is_silent);
        let silent: Vec<_> = silent.map(|track| track.media).collect();
        for media in silent {
            self.ask_for(TrackId { session, media });
        }
    }

    /// A packet came of a track that nobody here follows: it was under way while the last follower left, or what said
    /// so was lost. Said once a track and throttle interval, of so many tracks; the next packets bring up the others.
    fn refuse(&mut self, from: ShardId, track: TrackId) {
        let (now, interval) = (self.now, self.config.tuning.keyframe_request_interval);
        let refused = &mut self.relaying.refused;
        let is_over = |(at, _): &mut (Timestamp, TrackId)| now.since(*at) >= interval;
        while refused.pop_front_if(is_over).is_some() {}
        if refused.len() < REFUSED_TRACKS_MAX && refused.iter().all(|(_, other)| *other != track) {
            refused.push_back((now, track));
            self.say(from, Relay::Unfollow(track));
        }
    }

    /// Somebody elsewhere publishes no more.
    pub(super) fn dismiss(&mut self, session: SessionId) {
        let stand_in = self.relaying.stand_ins.remove(&session);
        for mut track in stand_in.into_iter().flat_map(|stand_in| stand_in.tracks) {
            let followers = track.track.take_followers();
            self.abandon(followers);
        }
        // Nobody is left to answer what the throttle held back.
        let held = self.relaying.held.len();
        self.relaying
            .held
            .retain(|(_, track)| track.session != session);
        if self.relaying.held.len() != held {
            self.arm_held();
        }
    }

    fn on_relayed(&mut self, from: ShardId, packet: &RelayedPacket) {
        if mutated!(self, LoseRelays, each 50) {
            return;
        }
        let id = packet.track();
        let incoming = packet.incoming(self.now);
        let followed = self.relaying.track_mut(id);
        let followed =
            followed.filter(|it| id.session.shard == from && !it.track.followers.is_empty());
        let Some(followed) = followed else {
            self.refuse(from, id);
            return;
        };
        followed.asked = Some(self.now);
        followed.track.feed_from(incoming.ssrc);
        followed.codec = Some(incoming.codec);
        if incoming.keyframe {
            followed.keyframes.note_keyframe();
        }
        self.feed(id.session, &incoming);
    }
}

impl StandInTrack {
    fn all(sections: &[(u8, MediaKind)], keyframes: KeyframeThrottle) -> Vec<Self> {
        let track = |(media, kind): &(u8, MediaKind)| Self {
            media: *media,
            kind: *kind,
            track: Track::default(),
            codec: None,
            asked: None,
            keyframes,
        };
        sections.iter().map(track).collect()
    }
}

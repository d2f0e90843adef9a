//! Sessions come, publish, follow each other and go: keeps tracks linked to those who follow them.

use crate::ids::{ParticipantId, RoomId, SessionId, SessionKey, TrackId};
use crate::message::{CloseReason, Event, ProfileName, Role, Target};
use crate::net::Path;
use crate::plan::MediaKind;
use crate::relay::Relay;
use crate::session::media::{Follower, Incoming, Track};
use crate::session::{Change, Session};
use crate::shard::Shard;

impl Shard {
    /// What opening alone brings: an echo follows itself, a subscriber whoever publishes now.
    pub(super) fn link_opened(&mut self, key: SessionKey, role: Role) {
        match role {
            Role::Echo => self.follow(key, Some(self.session_id(key))),
            Role::Publish { .. } | Role::Agent(_) => {}
            Role::Subscribe { room, target } => {
                self.rooms.subscribe(room, key, target);
                self.link(room, key, target);
            }
            Role::SubscribeRemote { room, target, home } => {
                self.rooms.subscribe(room, key, target);
                self.attend(room, home);
                self.link(room, key, target);
            }
            Role::Mix { room, own } => {
                if let Some(media) = self.sections(key, MediaKind::Audio, true).first() {
                    self.listen_to_mix(key, *media, room, own);
                }
            }
        }
    }

    /// Acts on what a session did, and keeps its timer.
    pub(super) fn settle(&mut self, key: SessionKey) {
        while let Some(change) = self.sessions.find_mut(key).and_then(Session::poll_change) {
            match change {
                Change::Connected { profile, setup } => {
                    let session = self.session_id(key);
                    self.events.push_back(Event::Connected {
                        session,
                        profile,
                        setup,
                    });
                    self.on_connected(key, profile);
                }
                Change::Closed(reason) => self.remove(key, reason),
            }
        }
        while let Some(heard) = self.sessions.find_mut(key).and_then(Session::poll_heard) {
            let session = self.session_id(key);
            self.events.push_back(Event::Heard { session, heard });
        }
        self.rearm(key);
    }

    pub(super) fn rearm(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.find(key) {
            self.wheel.arm(key.index, session.deadline());
        }
    }

    /// Takes a session out of every table.
    pub(super) fn remove(&mut self, key: SessionKey, reason: CloseReason) {
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        self.wheel.arm(key.index, None);
        self.leave_mixes(key);
        self.stats.sessions_connected -= u32::from(session.is_connected());
        let paths: Vec<_> = session.paths().collect();
        for path in paths {
            if !mutated!(self, KeepPaths) {
                self.forget_path(path, key);
            }
        }
        let alive: Vec<_> = session.media.alive_tracks().collect();
        for media in alive {
            self.emit_track_removed(&session, media);
        }
        self.relaying.relayed -= session.media.relayed();
        for media in 0..session.media.plan().media.len() as u8 {
            let followers = session.media.take_followers(media);
            self.abandon(followers);
        }
        let followed: Vec<_> = session
            .media
            .senders()
            .filter_map(|(_, sender)| sender.track)
            .collect();
        for track in followed {
            self.unfollow(track, key);
        }
        self.events.push_back(Event::Closed {
            session: session.id,
            reason,
        });
        match session.role {
            Role::Echo | Role::Agent(_) | Role::Mix { .. } => {}
            Role::Publish { room, participant } => {
                self.leave(room, session.id);
                self.on_left(room, participant);
                self.announce(room);
                self.relink(room);
            }
            Role::Subscribe { room, .. } | Role::SubscribeRemote { room, .. } => {
                self.leave(room, session.id);
            }
        }
    }

    fn leave(&mut self, room: RoomId, session: SessionId) {
        if let Some(quit) = self.rooms.leave(room, session) {
            self.quit(room, quit);
        }
    }

    /// Lets sessions follow nobody in these sections: whom they followed is gone.
    pub(super) fn abandon(&mut self, followers: Vec<Follower>) {
        for follower in followers {
            if let Some(other) = self.sessions.find_mut(follower.session)
                && let Some(sender) = other.media.sender_mut(follower.media)
            {
                sender.follow(None);
            }
        }
    }

    /// Forgets a path, unless another session has taken it over.
    pub(super) fn forget_path(&mut self, path: Path, key: SessionKey) {
        if self.by_path.get(&path) == Some(&key) {
            self.by_path.remove(&path);
        }
    }

    pub(super) fn on_track_added(&mut self, key: SessionKey, packet: &Incoming<'_>) {
        let session = self.session_id(key);
        let Some(publisher) = self.sessions.find(key) else {
            return;
        };
        let Some(plan) = publisher.media.plan().media.get(usize::from(packet.media)) else {
            return;
        };
        let (mid, kind) = (plan.mid, plan.kind);
        self.events.push_back(Event::TrackAdded {
            session,
            mid,
            kind,
            codec: packet.codec,
        });
    }

    pub(super) fn on_track_removed(&mut self, key: SessionKey, media: u8) {
        let session = self.session_id(key);
        let Some(publisher) = self.sessions.find(key) else {
            return;
        };
        if let Some(plan) = publisher.media.plan().media.get(usize::from(media)) {
            let mid = plan.mid;
            self.events.push_back(Event::TrackRemoved { session, mid });
        }
    }

    /// A packet of a publisher says how loud it is.
    pub(super) fn on_level(&mut self, room: RoomId, participant: ParticipantId, level: u8) {
        let Some(entry) = self.rooms.find_mut(room) else {
            return;
        };
        if let Some(participant) = entry.speaker.note_level(self.now, participant, level) {
            self.events
                .push_back(Event::ActiveSpeaker { room, participant });
        }
    }

    pub(super) fn session_id(&self, key: SessionKey) -> SessionId {
        SessionId {
            shard: self.id,
            key,
        }
    }

    fn emit_track_removed(&mut self, session: &Session, media: u8) {
        if let Some(plan) = session.media.plan().media.get(usize::from(media)) {
            self.events.push_back(Event::TrackRemoved {
                session: session.id,
                mid: plan.mid,
            });
        }
    }

    fn on_connected(&mut self, key: SessionKey, profile: ProfileName) {
        self.stats.sessions_connected += 1;
        self.stats.profiles[profile as usize] += 1;
        let Some(session) = self.sessions.find(key) else {
            return;
        };
        match session.role {
            Role::Echo | Role::Agent(_) | Role::Mix { .. } => {}
            Role::Publish { room, participant } => {
                let id = self.session_id(key);
                match self.rooms.publish(room, participant, id) {
                    Some(replaced) if replaced.shard == self.id => {
                        let replaced = replaced.key;
                        self.mutate(replaced, |old, cx| old.close(cx, CloseReason::Replaced));
                        self.settle(replaced);
                    }
                    // Publishers of a room are all on one shard, unless somebody places them wrongly.
                    Some(elsewhere) => self.dismiss(elsewhere),
                    None => {}
                }
                self.announce(room);
                self.relink(room);
            }
            Role::Subscribe { .. } | Role::SubscribeRemote { .. } => self.want_keyframes(key),
        }
    }

    fn on_left(&mut self, room: RoomId, participant: ParticipantId) {
        let Some(entry) = self.rooms.find_mut(room) else {
            return;
        };
        // Another session of the same participant may publish by now.
        if entry.resolve(Target::Participant(participant)).is_some() {
            return;
        }
        if let Some(participant) = entry.speaker.note_left(self.now, participant) {
            self.events
                .push_back(Event::ActiveSpeaker { room, participant });
        }
    }

    /// Lets every subscriber of a room follow whom it should follow now.
    pub(super) fn relink(&mut self, room: RoomId) {
        let Some(entry) = self.rooms.find(room) else {
            return;
        };
        for (subscriber, target) in entry.subscribers.clone() {
            self.link(room, subscriber, target);
        }
    }

    /// Lets a subscriber of a room follow whom it should follow now.
    fn link(&mut self, room: RoomId, subscriber: SessionKey, target: Target) {
        let target = if mutated!(self, FollowAnyone) {
            Target::Newest
        } else {
            target
        };
        let entry = self.rooms.find(room);
        let publisher = entry.and_then(|entry| entry.resolve(target));
        self.follow(subscriber, publisher);
    }

    /// Links a subscriber's sections to a publisher's: the first audio to the first audio, and so on.
    fn follow(&mut self, subscriber: SessionKey, publisher: Option<SessionId>) {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let tracks = publisher
                .map(|publisher| self.sections_of(publisher, kind))
                .unwrap_or_default();
            let senders = self.sections(subscriber, kind, true);
            for (place, media) in senders.into_iter().enumerate() {
                let track = publisher
                    .zip(tracks.get(place))
                    .map(|(session, media)| TrackId {
                        session,
                        media: *media,
                    });
                self.follow_track(subscriber, media, track);
            }
        }
        self.want_keyframes(subscriber);
    }

    fn follow_track(&mut self, subscriber: SessionKey, media: u8, track: Option<TrackId>) {
        let Some(session) = self.sessions.find_mut(subscriber) else {
            return;
        };
        let Some(sender) = session.media.sender_mut(media) else {
            return;
        };
        if sender.track == track {
            return;
        }
        let before = sender.track;
        sender.follow(track);
        if let Some(before) = before {
            self.unfollow(before, subscriber);
        }
        let Some(track) = track else { return };
        let follower = Follower {
            session: subscriber,
            media,
        };
        let followed = self.track_mut(track);
        let is_first = followed.is_some_and(|followed| followed.add_follower(follower));
        if is_first && track.session.shard != self.id {
            self.ask_for(track);
        }
    }

    fn unfollow(&mut self, track: TrackId, subscriber: SessionKey) {
        let followed = self.track_mut(track);
        let was_last = followed.is_some_and(|followed| followed.remove_follower(subscriber));
        if was_last && track.session.shard != self.id {
            self.say(track.session.shard, Relay::Unfollow(track));
        }
    }

    /// A track, of a session here or of somebody elsewhere.
    pub(super) fn track_mut(&mut self, id: TrackId) -> Option<&mut Track> {
        let TrackId { session, media } = id;
        if session.shard == self.id {
            self.sessions.find_mut(session.key)?.media.track_mut(media)
        } else {
            self.relaying.track_of(id)
        }
    }

    /// Asks for a keyframe of every track that a connected subscriber waits to start.
    fn want_keyframes(&mut self, subscriber: SessionKey) {
        let Some(session) = self.sessions.find(subscriber) else {
            return;
        };
        if !session.is_connected() {
            return;
        }
        let plans = &session.media.plan().media;
        let waiting: Vec<_> = session
            .media
            .senders()
            .filter(|(media, sender)| sender.waits_for_keyframe(&plans[usize::from(*media)]))
            .filter_map(|(_, sender)| sender.track)
            .collect();
        for track in waiting {
            self.request_keyframe(track);
        }
    }

    /// Asks a publisher for a keyframe of a track.
    pub(super) fn request_keyframe(&mut self, track: TrackId) {
        if buggify!(self, KeyframeRequestLost) || mutated!(self, NeverAskForKeyframes) {
            return;
        }
        #[cfg(feature = "mutations")]
        if self.id.0 > 0 && mutated!(self, FirstShardIsBetter, each 2) {
            return;
        }
        if track.session.shard != self.id {
            self.want_keyframe_elsewhere(track);
            return;
        }
        let publisher = track.session.key;
        #[cfg(feature = "mutations")]
        if mutated!(self, PassAllKeyframeRequests) {
            self.mutate(publisher, |session, _| {
                session.media.forget_keyframe_requests();
            });
        }
        self.mutate(publisher, |session, cx| {
            session.request_keyframe(cx, track.media);
        });
        self.rearm(publisher);
    }

    /// The sections of a kind in which somebody publishes, here or elsewhere.
    fn sections_of(&self, publisher: SessionId, kind: MediaKind) -> Vec<u8> {
        if publisher.shard == self.id {
            self.sections(publisher.key, kind, false)
        } else {
            self.sections_elsewhere(publisher, kind)
        }
    }

    /// A session's sections of a kind in which it sends to the peer, or the peer to it.
    fn sections(&self, key: SessionKey, kind: MediaKind, sends: bool) -> Vec<u8> {
        let Some(session) = self.sessions.find(key) else {
            return Vec::new();
        };
        let sections = session.media.plan().media.iter().zip(0..);
        sections
            .filter(|(plan, _)| plan.kind == kind && if sends { plan.send } else { plan.receive })
            .map(|(_, media)| media)
            .collect()
    }
}

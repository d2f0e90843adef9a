//! Datagrams: whose is it, and what follows from it.

use crate::ids::{SessionId, SessionKey, TrackId};
use crate::message::{DropReason, Role};
use crate::net::{Datagram, Path};
use crate::plan::MediaKind;
use crate::session::media::{Ask, Forwarded, Incoming};
use crate::shard::Shard;
use crate::shard::foresight::FORESEEN_MIN;
use crate::shard::ufrag::Address;
use crate::time::Timestamp;
use crate::wire::{self, Class};

impl Shard {
    /// Takes in a datagram. What it causes waits in the output.
    pub fn handle_datagram(&mut self, now: Timestamp, datagram: Datagram<'_>) {
        self.advance(now);
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.contents.len() as u64;
        let path = Path {
            local: datagram.destination,
            remote: datagram.source,
        };
        let taken = match wire::classify(datagram.contents) {
            // The kernel may have stamped it after this turn's clock was read.
            Class::Rtp => self.on_rtp(path, datagram.received.min(self.now), datagram.contents),
            Class::Rtcp => self.on_rtcp(path, datagram.contents),
            Class::Stun => self.on_stun(path, datagram.contents),
            Class::Dtls => self.on_dtls(path, datagram.contents),
            Class::Unknown => Err(DropReason::Unclassified),
        };
        if let Err(reason) = taken {
            self.note_drop(reason);
        }
    }

    /// The only way to a path: the fragment names the session, MESSAGE-INTEGRITY proves the sender. An answer
    /// names none; only over a known path can it be one to a check of ours.
    fn on_stun(&mut self, path: Path, packet: &[u8]) -> Result<(), DropReason> {
        let ufrag = wire::stun::local_ufrag(packet).map_err(|_| DropReason::MalformedStun)?;
        let key = match ufrag {
            Some(ufrag) => self.session_named(ufrag)?,
            None => self
                .session_at(path)
                .map_err(|_| DropReason::UnauthenticatedStun)?,
        };
        let checked = self
            .mutate(key, |session, cx| session.handle_stun(cx, path, packet))
            .unwrap_or(Err(DropReason::UnauthenticatedStun));
        let is_ignored = mutated!(self, IgnoreNewPaths)
            && self
                .sessions
                .find(key)
                .is_some_and(|session| session.paths().count() > 1);
        if let Some(checked) = checked.as_ref().ok().filter(|_| !is_ignored) {
            self.claim_path(path, key);
            if let Some(forgotten) = checked.forgotten {
                self.forget_path(forgotten, key);
            }
        }
        self.settle(key);
        checked.map(drop)
    }

    fn session_named(&self, ufrag: &str) -> Result<SessionKey, DropReason> {
        let address = Address::decode(ufrag).filter(|address| address.shard == self.id);
        let found = address.and_then(|address| self.sessions.at(address.slot));
        found
            .filter(|(_, session)| session.answers_to(ufrag))
            .map(|(key, _)| key)
            .ok_or(DropReason::UnknownUfrag)
    }

    /// Gives a path to the session that just proved it, unless another one uses it: a peer that can put a
    /// victim's address on one check must not draw the victim's packets to its own session.
    fn claim_path(&mut self, path: Path, key: SessionKey) {
        let now = self.now;
        let uses = |key| {
            self.sessions
                .find(key)
                .is_some_and(|session| session.uses_path(path, now))
        };
        let held = self
            .by_path
            .get(&path)
            .is_some_and(|owner| *owner == key || uses(*owner));
        if !held && uses(key) {
            self.by_path.insert(path, key);
        }
    }

    fn on_dtls(&mut self, path: Path, packet: &[u8]) -> Result<(), DropReason> {
        let key = self.session_at(path)?;
        let taken = self.mutate(key, |session, cx| session.handle_dtls(cx, path, packet));
        self.settle(key);
        taken.unwrap_or(Err(DropReason::RefusedDtls))
    }

    fn on_rtp(
        &mut self,
        path: Path,
        received: Timestamp,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let key = self.session_at(path)?;
        // Written where it is read: each result handed up by value would be one more copy of a packet's worth.
        let (mut incoming, mut taken) = (None, Ok(()));
        #[cfg(feature = "mutations")]
        let faults_at = mutated!(self, FaultAtLength).then_some(crate::bugs::FATAL_PAYLOAD_BYTES);
        let deadline = self.mutate(key, |session, cx| {
            taken = session.handle_rtp(cx, path, received, packet, &mut incoming);
            #[cfg(feature = "mutations")]
            if let Some(Incoming { payload, .. }) = &incoming {
                assert_ne!(Some(payload.len()), faults_at, "a fault was planted");
            }
            session.deadline_of_media()
        });
        // Feedback may have come due, and consent earlier: it is of the path in use, which media can change.
        if let Some(deadline) = deadline {
            self.wheel.arm(key.index, deadline);
        }
        match &incoming {
            Some(incoming) => self.route(key, incoming),
            // A call's own deadline is not among those above.
            None => self.rearm(key),
        }
        taken
    }

    fn on_rtcp(&mut self, path: Path, packet: &mut [u8]) -> Result<(), DropReason> {
        let key = self.session_at(path)?;
        let mut asks = std::mem::take(&mut self.asks);
        let taken = self.mutate(key, |session, cx| {
            session.handle_rtcp(cx, path, packet, &mut asks)
        });
        for ask in asks.drain(..) {
            self.on_ask(key, ask);
        }
        self.asks = asks;
        self.rearm(key);
        taken.unwrap_or(Ok(()))
    }

    /// Reuse of a path by another session takes effect with that session's authenticated check.
    fn session_at(&self, path: Path) -> Result<SessionKey, DropReason> {
        self.by_path
            .get(&path)
            .copied()
            .ok_or(DropReason::UnknownSource)
    }

    /// Sends a packet to everyone who follows its track.
    fn route(&mut self, publisher: SessionKey, packet: &Incoming<'_>) {
        if packet.first {
            self.on_track_added(publisher, packet);
        }
        let Some(session) = self.sessions.find(publisher) else {
            return;
        };
        let has_followers = session.media.has_followers(packet.media);
        let role = session.role;
        if let (Role::Publish { room, participant }, Some(level)) = (role, packet.level()) {
            self.on_level(room, participant, level);
        }
        if !self.desks.is_empty() || self.relaying.relayed > 0 {
            self.share(publisher, role, packet);
        }
        if !has_followers {
            if let Role::Agent(_) = role {
                self.mutate(publisher, |session, cx| session.hear(cx, packet));
                self.settle(publisher);
            }
            return;
        }
        let session = self.session_id(publisher);
        self.feed(session, packet);
    }

    /// Gives a packet to the desk and the shards that have a use for it. Most shards have neither, and no room for this
    /// in the path of their packets.
    #[cold]
    fn share(&mut self, publisher: SessionKey, role: Role, packet: &Incoming<'_>) {
        if !self.desks.is_empty() {
            self.mix_packet(publisher, role, packet);
        }
        if self.relaying.relayed > 0 {
            self.relay(publisher, packet);
        }
    }

    /// Sends a packet to those here who follow its track, whichever shard has the publisher.
    // Once in the program: into copies of the loop, one a caller, the compiler does not inline so well.
    #[inline(never)]
    pub(super) fn feed(&mut self, publisher: SessionId, packet: &Incoming<'_>) {
        let (session, media) = (publisher, packet.media);
        let id = TrackId { session, media };
        let now = self.now;
        let Some(track) = self.track_mut(id) else {
            return;
        };
        if packet.codec.kind() == MediaKind::Video {
            track.cache(now, packet);
        }
        // Taken out, so that they can be fed while all else lies still.
        let mut followers = std::mem::take(&mut track.followers);
        let mut keyframe_wanted = false;
        let faults = self.stats.faults;
        let many = followers.len() >= FORESEEN_MIN;
        for (place, follower) in followers.iter().enumerate() {
            if many {
                self.foresee_followers(&followers, place);
            }
            let forwarded = self.mutate(follower.session, |session, cx| {
                session.forward(cx, follower.media, packet)
            });
            keyframe_wanted |= forwarded == Some(Forwarded::WaitsForKeyframe);
        }
        // A follower that panicked could not be taken off the list that was taken out.
        if self.stats.faults != faults {
            followers.retain(|follower| self.sessions.find(follower.session).is_some());
        }
        let Some(track) = self.track_mut(id) else {
            return;
        };
        track.followers = followers;
        if keyframe_wanted {
            self.request_keyframe(id);
        }
    }

    fn on_ask(&mut self, asker: SessionKey, ask: Ask) {
        match ask {
            Ask::Retransmit { media, sequence } => self.on_retransmit(asker, media, sequence),
            Ask::Keyframe { media } => {
                if let Some(track) = self.followed(asker, media) {
                    self.request_keyframe(track);
                }
            }
            Ask::Ended { media } => self.on_track_removed(asker, media),
        }
    }

    fn on_retransmit(&mut self, asker: SessionKey, media: u8, sequence: u64) {
        if buggify!(self, CacheMiss) || mutated!(self, NeverRetransmit) {
            return;
        }
        let Some(track) = self.followed(asker, media) else {
            return;
        };
        // The packet lies in the publisher's cache while another session (or the same, in an echo) seals it:
        // one copy of at most a datagram, on a path that loss already made rare.
        let mut copy = [0; crate::limits::DATAGRAM_BYTES_MAX];
        let cached = if track.session.shard == self.id {
            let publisher = self.sessions.find(track.session.key);
            publisher.and_then(|it| it.media.cached(self.now, track.media, sequence))
        } else {
            self.cached_elsewhere(track, sequence)
        };
        let Some(cached) = cached else {
            return;
        };
        let Some(payload) = copy.get_mut(..cached.payload.len()) else {
            return;
        };
        payload.copy_from_slice(cached.payload);
        let packet = Incoming {
            payload,
            sequence: cached.sequence - u64::from(mutated!(self, MisnumberRetransmissions)),
            ..cached
        };
        self.mutate(asker, |session, cx| session.retransmit(cx, media, &packet));
    }

    fn followed(&mut self, session: SessionKey, media: u8) -> Option<TrackId> {
        self.sessions
            .find_mut(session)?
            .media
            .sender_mut(media)?
            .track
    }
}

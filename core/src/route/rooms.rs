//! Who publishes and who subscribes in each room. Pure bookkeeping over session keys: the shard asks whom a
//! subscriber should follow and links their tracks.

use std::collections::BTreeMap;

use crate::ids::{ParticipantId, RoomId, SessionId, SessionKey, ShardId};
use crate::message::Target;
use crate::route::speaker::SpeakerDetector;

/// One room of a shard. Exists while a session is in it, or another shard attends it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// In the order they began publishing: the last is the newest.
    pub(crate) publishers: Vec<(ParticipantId, SessionId)>,
    pub(crate) subscribers: Vec<(SessionKey, Target)>,
    /// The shard of its publishers that is attended, as it is not this one.
    home: Option<ShardId>,
    /// Shards that attend it here.
    pub(crate) shards: Vec<ShardId>,
    /// Who speaks.
    pub(crate) speaker: SpeakerDetector,
}

impl Room {
    /// The session a target names now.
    pub(crate) fn resolve(&self, target: Target) -> Option<SessionId> {
        let found = match target {
            Target::Newest => self.publishers.last(),
            Target::Participant(wanted) => self
                .publishers
                .iter()
                .find(|(participant, _)| *participant == wanted),
        };
        found.map(|(_, session)| *session)
    }

    /// Its publishers are on another shard; gives that where it is attended, which is the first that was named.
    pub(crate) fn attend(&mut self, home: ShardId) -> ShardId {
        *self.home.get_or_insert(home)
    }

    /// Whether it is attended at that shard.
    pub(crate) fn is_at(&self, home: ShardId) -> bool {
        self.home == Some(home)
    }

    /// These publish there, and nobody else; gives those who do no more.
    pub(crate) fn replace(
        &mut self,
        home: ShardId,
        publishers: impl Iterator<Item = (ParticipantId, SessionId)>,
    ) -> Vec<SessionId> {
        let is_there = |(_, session): &(ParticipantId, SessionId)| session.shard == home;
        let mut gone: Vec<_> = self.publishers.iter().copied().filter(is_there).collect();
        self.publishers.retain(|publisher| !is_there(publisher));
        self.publishers.extend(publishers);
        gone.retain(|(_, gone)| self.publishers.iter().all(|(_, session)| session != gone));
        gone.into_iter().map(|(_, session)| session).collect()
    }

    fn is_empty(&self) -> bool {
        self.publishers.is_empty() && self.subscribers.is_empty() && self.shards.is_empty()
    }
}

/// A room is attended no more, as nobody here subscribes to it.
#[derive(Debug)]
pub(crate) struct Quit {
    /// Where it was.
    pub(crate) home: ShardId,
    /// Who published there.
    pub(crate) publishers: Vec<SessionId>,
}

/// The rooms of one shard.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: BTreeMap<RoomId, Room>,
}

impl Rooms {
    /// A session starts to publish; the session it replaces, if any, publishes no more.
    pub(crate) fn publish(
        &mut self,
        room: RoomId,
        participant: ParticipantId,
        session: SessionId,
    ) -> Option<SessionId> {
        let publishers = &mut self.rooms.entry(room).or_default().publishers;
        let place = publishers
            .iter()
            .position(|(other, _)| *other == participant);
        let replaced = place.map(|place| publishers.remove(place).1);
        publishers.push((participant, session));
        replaced.filter(|replaced| *replaced != session)
    }

    /// A session starts to follow a target.
    pub(crate) fn subscribe(&mut self, room: RoomId, session: SessionKey, target: Target) {
        self.rooms
            .entry(room)
            .or_default()
            .subscribers
            .push((session, target));
    }

    /// A session is gone; an empty room is forgotten.
    pub(crate) fn leave(&mut self, room: RoomId, session: SessionId) -> Option<Quit> {
        let entry = self.rooms.get_mut(&room)?;
        entry.publishers.retain(|(_, other)| *other != session);
        entry.subscribers.retain(|(other, _)| *other != session.key);
        let home = entry.home.filter(|_| entry.subscribers.is_empty());
        let quit = home.map(|home| Quit {
            home,
            publishers: entry.replace(home, std::iter::empty()),
        });
        if quit.is_some() {
            entry.home = None;
        }
        self.forget_if_empty(room);
        quit
    }

    /// Another shard attends a room here.
    pub(crate) fn attend(&mut self, room: RoomId, shard: ShardId) {
        let shards = &mut self.rooms.entry(room).or_default().shards;
        if !shards.contains(&shard) {
            shards.push(shard);
        }
    }

    /// Another shard attends a room no more; an empty room is forgotten.
    pub(crate) fn quit(&mut self, room: RoomId, shard: ShardId) {
        if let Some(entry) = self.rooms.get_mut(&room) {
            entry.shards.retain(|other| *other != shard);
            self.forget_if_empty(room);
        }
    }

    fn forget_if_empty(&mut self, room: RoomId) {
        if self.rooms.get(&room).is_some_and(Room::is_empty) {
            self.rooms.remove(&room);
        }
    }

    /// A room, if a session is in it.
    pub(crate) fn find(&self, room: RoomId) -> Option<&Room> {
        self.rooms.get(&room)
    }

    /// A room, if a session is in it.
    pub(crate) fn find_mut(&mut self, room: RoomId) -> Option<&mut Room> {
        self.rooms.get_mut(&room)
    }

    /// Rooms with a session in them.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId(1);
    const ANN: ParticipantId = ParticipantId(1);
    const BOB: ParticipantId = ParticipantId(2);

    const HERE: ShardId = ShardId(0);
    const HOME: ShardId = ShardId(1);

    fn session(index: u32) -> SessionId {
        on(HERE, index)
    }

    fn on(shard: ShardId, index: u32) -> SessionId {
        let key = SessionKey {
            index,
            generation: 0,
        };
        SessionId { shard, key }
    }

    #[test]
    fn the_newest_publisher_is_followed_and_the_one_before_when_it_leaves() {
        let mut rooms = Rooms::default();
        rooms.subscribe(ROOM, session(9).key, Target::Newest);
        let followed = |rooms: &Rooms| {
            let entry = rooms.find(ROOM).unwrap();
            entry.resolve(entry.subscribers[0].1)
        };
        assert_eq!(followed(&rooms), None);
        rooms.publish(ROOM, ANN, session(1));
        rooms.publish(ROOM, BOB, session(2));
        assert_eq!(followed(&rooms), Some(session(2)));
        rooms.leave(ROOM, session(2));
        assert_eq!(followed(&rooms), Some(session(1)));
    }

    #[test]
    fn a_participant_is_followed_through_an_absence_and_a_replacement() {
        let mut rooms = Rooms::default();
        rooms.subscribe(ROOM, session(9).key, Target::Participant(ANN));
        let followed = |rooms: &Rooms| {
            let entry = rooms.find(ROOM).unwrap();
            entry.resolve(entry.subscribers[0].1)
        };
        assert_eq!(rooms.publish(ROOM, ANN, session(1)), None);
        rooms.publish(ROOM, BOB, session(2));
        assert_eq!(followed(&rooms), Some(session(1)));
        assert_eq!(rooms.publish(ROOM, ANN, session(3)), Some(session(1)));
        assert_eq!(followed(&rooms), Some(session(3)));
        rooms.leave(ROOM, session(3));
        assert_eq!(followed(&rooms), None);
        rooms.publish(ROOM, ANN, session(4));
        assert_eq!(followed(&rooms), Some(session(4)));
    }

    #[test]
    fn an_empty_room_is_forgotten() {
        let mut rooms = Rooms::default();
        rooms.subscribe(ROOM, session(9).key, Target::Newest);
        rooms.publish(ROOM, ANN, session(1));
        rooms.leave(ROOM, session(1));
        assert_eq!(rooms.len(), 1);
        rooms.leave(ROOM, session(9));
        assert_eq!(rooms.len(), 0);
    }

    #[test]
    fn a_room_elsewhere_is_quit_with_its_last_subscriber_and_kept_while_attended() {
        let mut rooms = Rooms::default();
        rooms.subscribe(ROOM, session(8).key, Target::Newest);
        rooms.subscribe(ROOM, session(9).key, Target::Newest);
        let entry = rooms.find_mut(ROOM).unwrap();
        assert_eq!((entry.attend(HOME), entry.attend(ShardId(2))), (HOME, HOME));
        assert!(entry.is_at(HOME) && !entry.is_at(ShardId(2)));
        let both = [(ANN, on(HOME, 1)), (BOB, on(HOME, 2))];
        assert_eq!(entry.replace(HOME, both.into_iter()), []);
        assert_eq!(entry.resolve(Target::Newest), Some(on(HOME, 2)));
        let one = both.into_iter().take(1);
        assert_eq!(entry.replace(HOME, one), [on(HOME, 2)]);
        assert!(rooms.leave(ROOM, session(8)).is_none());
        rooms.attend(ROOM, ShardId(2));
        let quit = rooms.leave(ROOM, session(9)).expect("it was the last");
        assert_eq!((quit.home, quit.publishers), (HOME, vec![on(HOME, 1)]));
        assert_eq!(rooms.len(), 1);
        rooms.quit(ROOM, ShardId(2));
        assert_eq!(rooms.len(), 0);
    }
}

//! Who publishes and who subscribes in each room. Pure bookkeeping over session keys: the shard asks whom a
//! subscriber should follow and links their tracks.

use std::collections::BTreeMap;

use crate::ids::{ParticipantId, RoomId, SessionKey};
use crate::message::Target;
use crate::route::speaker::SpeakerDetector;

/// One room of a shard. Exists while a session is in it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// In the order they began publishing: the last is the newest.
    publishers: Vec<(ParticipantId, SessionKey)>,
    subscribers: Vec<(SessionKey, Target)>,
    /// Who speaks.
    pub(crate) speaker: SpeakerDetector,
}

impl Room {
    /// The session a target names now.
    pub(crate) fn resolve(&self, target: Target) -> Option<SessionKey> {
        let found = match target {
            Target::Newest => self.publishers.last(),
            Target::Participant(wanted) => self
                .publishers
                .iter()
                .find(|(participant, _)| *participant == wanted),
        };
        found.map(|(_, session)| *session)
    }

    /// Each subscriber with the session it should follow now.
    pub(crate) fn wishes(&self) -> impl Iterator<Item = (SessionKey, Option<SessionKey>)> {
        self.subscribers
            .iter()
            .map(|(session, target)| (*session, self.resolve(*target)))
    }
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
        session: SessionKey,
    ) -> Option<SessionKey> {
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
    pub(crate) fn leave(&mut self, room: RoomId, session: SessionKey) {
        let Some(entry) = self.rooms.get_mut(&room) else {
            return;
        };
        entry.publishers.retain(|(_, other)| *other != session);
        entry.subscribers.retain(|(other, _)| *other != session);
        if entry.publishers.is_empty() && entry.subscribers.is_empty() {
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

    fn session(index: u32) -> SessionKey {
        SessionKey {
            index,
            generation: 0,
        }
    }

    #[test]
    fn the_newest_publisher_is_followed_and_the_one_before_when_it_leaves() {
        let mut rooms = Rooms::default();
        rooms.subscribe(ROOM, session(9), Target::Newest);
        let followed = |rooms: &Rooms| rooms.find(ROOM).unwrap().wishes().next().unwrap().1;
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
        rooms.subscribe(ROOM, session(9), Target::Participant(ANN));
        let followed = |rooms: &Rooms| rooms.find(ROOM).unwrap().wishes().next().unwrap().1;
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
        rooms.subscribe(ROOM, session(9), Target::Newest);
        rooms.publish(ROOM, ANN, session(1));
        rooms.leave(ROOM, session(1));
        assert_eq!(rooms.len(), 1);
        rooms.leave(ROOM, session(9));
        assert_eq!(rooms.len(), 0);
    }
}

//! Rooms and participants: names to numbers, who publishes what, and the events of each room.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use antiphon_core::ids::{ParticipantId, RoomId, SessionId, ShardId};
use antiphon_core::message::Target;
use antiphon_core::plan::{Codec, MediaKind, MediaPlan, Mid};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::limits::{EVENT_BACKLOG_MAX, NAME_BYTES_MAX};

/// The name of a room or a participant: 1 to 64 of `A-Z a-z 0-9 _ . -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is named by 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 _ . -, but not . or ..")]
pub struct NameRule(&'static str);

impl Name {
    /// Checks a name; `what` says whose, for the error.
    ///
    /// # Errors
    /// [`NameRule`], which states the rule.
    pub fn parse(what: &'static str, text: &str) -> Result<Self, NameRule> {
        // Clients take these two out of a URL's path.
        let fits = ![".", ".."].contains(&text)
            && (1..=NAME_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameRule(what))
        }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something happened in a room: an event name and its JSON.
#[derive(Clone, Debug)]
pub struct RoomEvent {
    /// `snapshot`, `joined`, `left`, `track_added`, `track_removed` or `active_speaker`.
    pub name: &'static str,
    /// One line of JSON.
    pub json: Arc<str>,
}

/// Where a session sits in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The room.
    pub room: Name,
    /// The publisher, or whom a subscriber follows; `None` follows whoever published last.
    pub participant: Option<Name>,
    /// Whether the session publishes.
    pub publishes: bool,
    /// Whether it hears the room in one track, but for `participant`.
    pub mixed: bool,
}

/// All rooms. A room exists while a session sits in it or somebody listens to its events.
#[derive(Debug, Default)]
pub struct Rooms {
    by_name: BTreeMap<Name, Room>,
    /// The name of each room in the table: shards speak of rooms by number.
    names: BTreeMap<RoomId, Name>,
    /// Numbers are never given twice, so that nothing of an old room reaches a new one.
    rooms_made: u32,
    participants_made: u32,
    publishers_connected: u64,
}

#[derive(Debug)]
struct Room {
    id: RoomId,
    shard: ShardId,
    sessions: u32,
    participants: BTreeMap<Name, Participant>,
    speaker: Option<Name>,
    events: broadcast::Sender<RoomEvent>,
}

#[derive(Debug)]
struct Participant {
    id: ParticipantId,
    /// Sessions that publish as, or follow, this participant.
    seats: u32,
    /// Publishing sessions that have not connected, and what was agreed with each.
    pending: BTreeMap<SessionId, Vec<(Mid, Codec)>>,
    /// The session that connected last.
    publisher: Option<Publisher>,
}

#[derive(Debug)]
struct Publisher {
    session: SessionId,
    /// Position among all publishers by time of connecting.
    order: u64,
    /// What was agreed: a section's tag, and the codec it most likely brings.
    agreed: Vec<(Mid, Codec)>,
    /// What has arrived.
    tracks: BTreeMap<Mid, (MediaKind, Codec)>,
}

impl Rooms {
    /// The codec of each track that a subscriber to `participant` (`None`: the newest publisher) would
    /// receive; `None` when nobody who is meant publishes now.
    #[must_use]
    pub fn tracks(&self, room: &Name, participant: Option<&Name>) -> Option<Vec<Codec>> {
        let room = self.by_name.get(room)?;
        let publisher = match participant {
            Some(name) => room.participants.get(name)?.publisher.as_ref()?,
            None => {
                let live = room.live().map(|(_, publisher)| publisher);
                live.max_by_key(|publisher| publisher.order)?
            }
        };
        let agreed = publisher.agreed.iter();
        let arrived = |mid: &Mid| publisher.tracks.get(mid).map(|(_, codec)| *codec);
        Some(
            agreed
                .map(|(mid, codec)| arrived(mid).unwrap_or(*codec))
                .collect(),
        )
    }

    /// Takes a seat, making room and participant if they are new; `place` chooses a new room's shard.
    pub fn sit(
        &mut self,
        seat: &Seat,
        place: impl FnOnce() -> ShardId,
    ) -> (RoomId, ShardId, Target) {
        let (participants_made, room) = self.enter(&seat.room, place);
        room.sessions += 1;
        let target = match &seat.participant {
            None => Target::Newest,
            Some(name) => {
                let entry = room.participants.entry(name.clone()).or_insert_with(|| {
                    *participants_made += 1;
                    let id = ParticipantId(*participants_made);
                    Participant {
                        id,
                        seats: 0,
                        pending: BTreeMap::new(),
                        publisher: None,
                    }
                });
                entry.seats += 1;
                Target::Participant(entry.id)
            }
        };
        (room.id, room.shard, target)
    }

    /// Gives a seat back; `session` is `None` when it was never opened.
    pub fn rise(&mut self, seat: &Seat, session: Option<SessionId>) {
        let Some(room) = self.by_name.get_mut(&seat.room) else {
            return;
        };
        room.sessions = room.sessions.saturating_sub(1);
        if let Some(name) = &seat.participant
            && let Some(participant) = room.participants.get_mut(name)
        {
            participant.seats = participant.seats.saturating_sub(1);
            if let Some(session) = session {
                participant.pending.remove(&session);
            }
            let publisher = participant.publisher.as_ref();
            let left = publisher.is_some_and(|publisher| Some(publisher.session) == session);
            if left {
                participant.publisher = None;
            }
            if participant.seats == 0 {
                room.participants.remove(name);
            }
            if left {
                room.announce("left", json!({ "participant": name.as_str() }));
            }
        }
        self.forget_if_idle(&seat.room);
    }

    /// A publishing session was opened. It takes the place of the participant's last one once it
    /// connects, as in the shard: until then the last one streams on.
    pub fn note_opened(&mut self, seat: &Seat, session: SessionId, media: &[MediaPlan]) {
        let Some((room, name)) = self.find(seat) else {
            return;
        };
        let Some(participant) = room.participants.get_mut(name) else {
            return;
        };
        let received = media.iter().filter(|media| media.receive);
        let agreed = received
            .filter_map(|media| media.codecs.first().map(|plan| (media.mid, plan.codec)))
            .collect();
        participant.pending.insert(session, agreed);
    }

    /// A publishing session connected: its participant is here, and the last session's is not.
    pub fn note_connected(&mut self, seat: &Seat, session: SessionId) {
        self.publishers_connected += 1;
        let order = self.publishers_connected;
        let Some((room, name)) = self.find(seat) else {
            return;
        };
        let Some(participant) = room.participants.get_mut(name) else {
            return;
        };
        let Some(agreed) = participant.pending.remove(&session) else {
            return;
        };
        let replaced = participant.publisher.replace(Publisher {
            session,
            order,
            agreed,
            tracks: BTreeMap::new(),
        });
        if replaced.is_some() {
            room.announce("left", json!({ "participant": name.as_str() }));
        }
        room.announce("joined", json!({ "participant": name.as_str() }));
    }

    /// A track of a publishing session began.
    pub fn note_track(
        &mut self,
        seat: &Seat,
        session: SessionId,
        mid: Mid,
        kind: MediaKind,
        codec: Codec,
    ) {
        let Some((room, name)) = self.find(seat) else {
            return;
        };
        let Some(publisher) = room.publisher(name, session) else {
            return;
        };
        publisher.tracks.insert(mid, (kind, codec));
        let track = track_json(mid, kind, codec);
        room.announce(
            "track_added",
            json!({ "participant": name.as_str(), "track": track }),
        );
    }

    /// A track of a publishing session ended.
    pub fn note_track_removed(&mut self, seat: &Seat, session: SessionId, mid: Mid) {
        let Some((room, name)) = self.find(seat) else {
            return;
        };
        let Some(publisher) = room.publisher(name, session) else {
            return;
        };
        if publisher.tracks.remove(&mid).is_some() {
            let track = json!({ "mid": mid.as_str() });
            room.announce(
                "track_removed",
                json!({ "participant": name.as_str(), "track": track }),
            );
        }
    }

    /// Another participant speaks, or none.
    pub fn note_speaker(&mut self, id: RoomId, speaker: Option<ParticipantId>) {
        let name = self.names.get(&id);
        let Some(room) = name.and_then(|name| self.by_name.get_mut(name)) else {
            return;
        };
        let mut participants = room.participants.iter();
        let name = participants.find(|(_, participant)| Some(participant.id) == speaker);
        room.speaker = name.map(|(name, _)| name.clone());
        let value = json!({ "participant": room.speaker.as_ref().map(Name::as_str) });
        room.announce("active_speaker", value);
    }

    /// The room as the API shows it; `None` when no session sits in it.
    #[must_use]
    pub fn describe(&self, name: &Name) -> Option<Value> {
        let room = self.by_name.get(name).filter(|room| room.sessions > 0)?;
        Some(room.describe(name))
    }

    /// Each room in which a session sits, by name.
    pub fn list(&self) -> impl Iterator<Item = (&Name, Value)> {
        let rooms = self.by_name.iter().filter(|(_, room)| room.sessions > 0);
        rooms.map(|(name, room)| (name, room.describe(name)))
    }

    /// Follows a room's events from here on; the room need not have anybody in it yet. The first
    /// value is the room as it is now.
    pub fn listen(
        &mut self,
        name: &Name,
        place: impl FnOnce() -> ShardId,
    ) -> (RoomEvent, broadcast::Receiver<RoomEvent>) {
        let (_, room) = self.enter(name, place);
        (
            RoomEvent::new("snapshot", &room.describe(name)),
            room.events.subscribe(),
        )
    }

    /// The room as an event, for a listener that fell behind.
    #[must_use]
    pub fn snapshot(&self, name: &Name) -> Option<RoomEvent> {
        let room = self.by_name.get(name)?;
        Some(RoomEvent::new("snapshot", &room.describe(name)))
    }

    /// Removes a room that nobody sits in or listens to.
    pub fn forget_if_idle(&mut self, name: &Name) {
        let idle = |room: &Room| room.sessions == 0 && room.events.receiver_count() == 0;
        if self.by_name.get(name).is_some_and(idle)
            && let Some(room) = self.by_name.remove(name)
        {
            self.names.remove(&room.id);
        }
    }

    /// Rooms with a session in them, and participants who publish.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let rooms = self.by_name.values().filter(|room| room.sessions > 0);
        rooms.fold((0, 0), |(rooms, participants), room| {
            (rooms + 1, participants + room.live().count())
        })
    }

    /// Rooms in the table, whoever sits in them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The room, made if it is new, and the count of participants made.
    fn enter(&mut self, name: &Name, place: impl FnOnce() -> ShardId) -> (&mut u32, &mut Room) {
        let room = self.by_name.entry(name.clone()).or_insert_with(|| {
            self.rooms_made += 1;
            let id = RoomId(self.rooms_made);
            self.names.insert(id, name.clone());
            Room::new(id, place())
        });
        (&mut self.participants_made, room)
    }

    fn find<'a>(&mut self, seat: &'a Seat) -> Option<(&mut Room, &'a Name)> {
        let name = seat.participant.as_ref().filter(|_| seat.publishes)?;
        Some((self.by_name.get_mut(&seat.room)?, name))
    }
}

impl RoomEvent {
    fn new(name: &'static str, value: &Value) -> Self {
        Self {
            name,
            json: value.to_string().into(),
        }
    }
}

impl Room {
    fn new(id: RoomId, shard: ShardId) -> Self {
        let (events, _) = broadcast::channel(EVENT_BACKLOG_MAX);
        Self {
            id,
            shard,
            sessions: 0,
            participants: BTreeMap::new(),
            speaker: None,
            events,
        }
    }

    /// Nobody listening is no failure.
    fn announce(&self, name: &'static str, value: Value) {
        if self.events.receiver_count() > 0 {
            self.events.send(RoomEvent::new(name, &value)).ok();
        }
    }

    /// The participant's publisher, if it is this session.
    fn publisher(&mut self, name: &Name, session: SessionId) -> Option<&mut Publisher> {
        let publisher = self.participants.get_mut(name)?.publisher.as_mut()?;
        Some(publisher).filter(|publisher| publisher.session == session)
    }

    fn live(&self) -> impl Iterator<Item = (&Name, &Publisher)> {
        self.participants
            .iter()
            .filter_map(|(name, it)| Some((name, it.publisher.as_ref()?)))
    }

    fn describe(&self, name: &Name) -> Value {
        let participants: Vec<Value> = self
            .live()
            .map(|(name, publisher)| {
                let tracks = publisher.tracks.iter();
                let tracks: Vec<_> = tracks
                    .map(|(mid, (kind, codec))| track_json(*mid, *kind, *codec))
                    .collect();
                json!({
                    "name": name.as_str(),
                    "session": publisher.session.to_string(),
                    "tracks": tracks,
                })
            })
            .collect();
        json!({
            "room": name.as_str(),
            "participants": participants,
            "sessions": self.sessions,
            "active_speaker": self.speaker.as_ref().map(Name::as_str),
        })
    }
}

/// `audio` or `video`.
#[must_use]
pub const fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

fn track_json(mid: Mid, kind: MediaKind, codec: Codec) -> Value {
    json!({ "mid": mid.as_str(), "kind": kind_name(kind), "codec": codec.name() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_is_forgotten_leaves_no_number_behind() {
        let mut rooms = Rooms::default();
        let room = Name::parse("a room", "hall").expect("a name");
        let seat = Seat {
            room: room.clone(),
            participant: None,
            publishes: false,
            mixed: false,
        };
        let (id, ..) = rooms.sit(&seat, || ShardId(0));
        let (_, listener) = rooms.listen(&room, || ShardId(0));
        assert_eq!(rooms.names.get(&id), Some(&room));
        rooms.rise(&seat, None);
        assert_eq!(rooms.names.len(), 1, "somebody listens");
        drop(listener);
        rooms.forget_if_idle(&room);
        assert!(rooms.names.is_empty() && rooms.is_empty());
    }
}

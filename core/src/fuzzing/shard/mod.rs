//! Two shards under commands, packets, words between them and times, against a naive model of sessions, rooms and
//! deadlines.

mod lanes;
mod lives;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;

use self::lanes::Lanes;
use self::rooms::{Heard, Talk};
use super::ops::ops;
use super::world::{Peer, World};
use crate::ids::{ParticipantId, RoomId, ShardId};
use crate::message::{Role, Target};
use crate::time::Timestamp;

/// Of each shard.
const SESSIONS_MAX: u32 = 6;

#[derive(Arbitrary)]
enum Op<'a> {
    Open(Wish),
    /// A session proves its address and ends its handshake.
    Connect(u8),
    /// Both at once.
    Join(Wish),
    /// A check of a connected session.
    Consent(u8),
    /// Packets of a publisher or an echo.
    Say(u8, Talk),
    /// A receiver asks for what it heard last again, or for a keyframe.
    Ask {
        session: u8,
        keyframe: bool,
    },
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
    /// The lanes between the shards stand still for so many operations.
    Lag(u8),
    /// One that waits in a lane is lost.
    Lose {
        from: bool,
        place: u8,
    },
    /// One that waits in a lane is said twice.
    Repeat {
        from: bool,
        place: u8,
    },
    /// What was lost heals.
    Heal {
        room: bool,
    },
    /// A little time.
    Tick {
        millis: u8,
    },
    Pass {
        millis: u16,
    },
    /// A clock that jumps, back too: the shards then stand still.
    Jump {
        deciseconds: u16,
    },
}

#[derive(Arbitrary, Clone, Copy)]
enum Wish {
    Echo {
        shard: bool,
    },
    Publish {
        room: bool,
        participant: bool,
    },
    FollowOne {
        shard: bool,
        room: bool,
        participant: bool,
    },
    FollowNewest {
        shard: bool,
        room: bool,
    },
    Mix {
        room: bool,
        own: Option<bool>,
    },
}

impl Wish {
    /// What the session is for, and its shard: that of its room for who publishes or hears a mix.
    fn role(self) -> (Role, ShardId) {
        let participant = |second| ParticipantId(u32::from(second));
        let (role, shard) = match self {
            Self::Echo { shard } => return (Role::Echo, ShardId(u16::from(shard))),
            Self::Publish {
                room,
                participant: who,
            } => {
                let (room, participant) = (room_of(room), participant(who));
                (Role::Publish { room, participant }, home_of(room))
            }
            Self::FollowOne {
                shard,
                room,
                participant: whom,
            } => {
                let target = Target::Participant(participant(whom));
                let room = room_of(room);
                (Role::Subscribe { room, target }, ShardId(u16::from(shard)))
            }
            Self::FollowNewest { shard, room } => {
                let (room, target) = (room_of(room), Target::Newest);
                (Role::Subscribe { room, target }, ShardId(u16::from(shard)))
            }
            Self::Mix { room, own } => {
                let (room, own) = (room_of(room), own.map(participant));
                (Role::Mix { room, own }, home_of(room))
            }
        };
        let home = home_of(rooms::room(role).expect("all others are in one"));
        (role.on(shard, home), shard)
    }
}

fn room_of(second: bool) -> RoomId {
    RoomId(u32::from(second))
}

/// Where those who publish in a room are.
fn home_of(room: RoomId) -> ShardId {
    ShardId(room.0 as u16)
}

/// Commands, packets, strangers, lost words and times into two shards: each packet is heard by those who follow its
/// sender and by nobody else, on either shard, mixes leave out who listens, every session ends when its time is up and
/// not before, a stale key finds nothing, and words that were lost are made up for.
pub fn shard_ops(data: &[u8]) {
    let mut model = Model::new(
        [0, 1]
            .map(|shard| World::on(ShardId(shard), SESSIONS_MAX))
            .into(),
    );
    for op in ops(data) {
        model.step(&op);
    }
    model.finish();
    for world in &mut model.worlds {
        world.assert_refuses();
    }
}

/// A datagram from a stranger, and then from a peer that proved its address, with real DTLS.
pub fn datagram(contents: &[u8]) {
    let mut model = Model::new(vec![World::real(SESSIONS_MAX)]);
    model.on_noise(200, contents);
    model.open(Wish::Echo { shard: false });
    let from = model.sessions[0].address;
    assert_eq!(
        model.sessions[0].peer.check(&mut model.worlds[0], from),
        None,
        "a sound check is taken"
    );
    model.worlds[0].sent.clear();
    model.on_noise(0, contents);
    model.close_all();
}

struct Known {
    peer: Peer,
    role: Role,
    /// Its shard's number.
    shard: usize,
    opened: Timestamp,
    connected: bool,
    address: SocketAddr,
    /// Packets that it sent, of sound and of pictures.
    sent: [u16; 2],
    /// The last picture that it heard.
    picture: Option<rooms::Picture>,
}

struct Model {
    /// By the number of their shard.
    worlds: Vec<World>,
    /// Every session there ever was.
    sessions: Vec<Known>,
    /// When each that lives will end if nothing more comes.
    ends: BTreeMap<usize, Timestamp>,
    /// Publishers that connected, in the order they did.
    publishers: Vec<usize>,
    /// The shards' clock: the latest that they were told.
    latest: Timestamp,
    lanes: Lanes,
    /// All that anybody heard, once.
    heard: BTreeSet<Heard>,
    /// Who spoke in each room that is mixed, since it is.
    spoke: BTreeMap<RoomId, BTreeSet<ParticipantId>>,
}

impl Model {
    fn new(worlds: Vec<World>) -> Self {
        Self {
            worlds,
            sessions: Vec::new(),
            ends: BTreeMap::new(),
            publishers: Vec::new(),
            latest: Timestamp::ZERO,
            lanes: Lanes::default(),
            heard: BTreeSet::new(),
            spoke: BTreeMap::new(),
        }
    }

    fn step(&mut self, op: &Op<'_>) {
        match *op {
            Op::Open(wish) => drop(self.open(wish)),
            Op::Connect(session) => self.with(session, Self::connect),
            Op::Join(wish) => drop(self.join(wish)),
            Op::Consent(session) => self.with(session, Self::consent),
            Op::Say(session, talk) => self.with(session, |model, index| model.say(index, talk)),
            Op::Ask { session, keyframe } => {
                self.with(session, |model, index| model.ask(index, keyframe));
            }
            Op::Restart(session) => self.with(session, Self::restart),
            Op::Close(session) => self.with(session, Self::close),
            Op::Stats(session) => self.with(session, Self::stats),
            Op::Noise { from, contents } => self.on_noise(from, contents),
            Op::Forgery {
                session,
                from,
                place,
                turn,
            } => self.with(session, |model, index| {
                model.on_forgery(index, from, usize::from(place), turn);
            }),
            Op::Lag(operations) => self.lanes.stand_still(operations),
            Op::Lose { from, place } => self.lose(usize::from(from), usize::from(place)),
            Op::Repeat { from, place } => self.repeat(usize::from(from), usize::from(place)),
            Op::Heal { room } => self.heal(room_of(room)),
            Op::Tick { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Op::Pass { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Op::Jump { deciseconds } => {
                self.turn_at(Timestamp::from_millis(u64::from(deciseconds) * 100));
            }
        }
        self.carry_in_time();
        self.judge_tables();
    }

    /// One of the sessions that there ever were, if there are any.
    fn with(&mut self, session: u8, act: impl FnOnce(&mut Self, usize)) {
        if let Some(index) = usize::from(session).checked_rem(self.sessions.len()) {
            act(self, index);
        }
    }

    /// Once more all that was lost heals; then everybody is heard by whom they should be, and leaves, and nothing is
    /// left of them.
    fn finish(&mut self) {
        self.lanes.go_on();
        self.carry();
        for room in [false, true] {
            self.heal(room_of(room));
        }
        for index in 0..self.sessions.len() {
            for talk in [Talk::Sound, Talk::Picture { key: true }] {
                self.say(index, talk);
                self.carry();
            }
        }
        self.judge_tables();
        self.close_all();
    }

    fn close_all(&mut self) {
        for index in 0..self.sessions.len() {
            self.close(index);
        }
        self.carry();
        assert!(self.ends.is_empty() && self.publishers.is_empty());
        for room in [false, true] {
            self.heal(room_of(room));
        }
        for world in &mut self.worlds {
            world.assert_empty();
        }
    }

    /// The sessions of a shard that live.
    fn living_on(&self, shard: usize) -> impl Iterator<Item = usize> {
        let living = self.ends.keys().copied();
        living.filter(move |index| self.sessions[*index].shard == shard)
    }

    /// Each session has a timer, and so have each mix and the requests for keyframes that wait. A session's end is no
    /// later than its timer.
    fn judge_tables(&mut self) {
        let (in_step, mixes) = (self.shards_agree(), self.mixes());
        for (shard, world) in self.worlds.iter().enumerate() {
            let sizes = world.shard.table_sizes();
            let sessions = self.living_on(shard).count();
            assert_eq!(sizes.sessions, sessions);
            let others = sizes.timers - sessions;
            assert!(others <= mixes[shard] + 1, "{others} timers of {sizes:?}");
            let ends = self.living_on(shard).map(|index| self.ends[&index]);
            // Whole milliseconds: the wheel's.
            let first = ends.min().map(lives::due);
            let deadline = world.shard.deadline();
            let first = first.map(|first| first.max(self.latest));
            assert!(first.is_none_or(|first| deadline.is_some_and(|at| at <= first)));
            if in_step {
                assert_eq!(
                    (sizes.rooms, sizes.stand_ins, sizes.relayed),
                    self.shared(shard)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;

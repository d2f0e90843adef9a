//! What the shards say to each other: in order, late, twice or not at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::rooms::{Taken, Talk, room};
use super::{Model, Wish, home_of};
use crate::ids::{RoomId, ShardId, TrackId};
use crate::limits::KEYFRAME_REQUEST_INTERVAL;
use crate::relay::Relay;
use crate::time::Timestamp;

/// Operations for which the lanes stand still, at most.
const STILL_MAX: u8 = 32;
/// Words after which the shards have nothing more to say: far more than wait at once.
const WORDS_MAX: usize = 4_096;

#[derive(Default)]
pub(super) struct Lanes {
    /// What each shard said and the other has not heard.
    waiting: [VecDeque<Relay>; 2],
    /// Operations for which they stand still yet.
    still: u8,
    /// Rooms of which words were lost.
    doubtful: BTreeSet<RoomId>,
    /// When each shard was last asked for a keyframe of a track, since the other heard who publishes.
    asked: BTreeMap<TrackId, Timestamp>,
}

impl Lanes {
    pub(super) const fn stand_still(&mut self, operations: u8) {
        self.still = operations % STILL_MAX;
    }

    pub(super) const fn go_on(&mut self) {
        self.still = 0;
    }

    pub(super) fn are_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// One of those that wait.
    fn place(&self, from: usize, place: usize) -> Option<usize> {
        place.checked_rem(self.waiting[from].len())
    }
}

impl Model {
    /// Whether the shards know the same of a room.
    pub(super) fn agree_on(&self, room: RoomId) -> bool {
        self.lanes.are_empty() && !self.lanes.doubtful.contains(&room)
    }

    pub(super) fn shards_agree(&self) -> bool {
        self.lanes.are_empty() && self.lanes.doubtful.is_empty()
    }

    /// Puts what the shards said into the lanes; how many packets.
    pub(super) fn gather(&mut self) -> usize {
        let mut packets = 0;
        for (shard, world) in self.worlds.iter_mut().enumerate() {
            for (to, relay) in std::mem::take(&mut world.relays) {
                assert_eq!(usize::from(to.0), 1 - shard, "there is one other");
                packets += usize::from(relay.may_be_lost());
                if let Relay::Keyframe(track) = relay {
                    let before = self.lanes.asked.insert(track, self.latest);
                    let passed = before.map(|before| self.latest.since(before));
                    assert!(passed.is_none_or(|passed| passed >= KEYFRAME_REQUEST_INTERVAL));
                }
                self.lanes.waiting[shard].push_back(relay);
            }
        }
        packets
    }

    /// Ends an operation: what was said is heard, unless the lanes stand still.
    pub(super) fn carry_in_time(&mut self) {
        self.gather();
        if self.lanes.still > 0 {
            self.lanes.still -= 1;
        } else {
            self.carry();
        }
    }

    /// What is said is heard at once, unless the lanes stand still.
    pub(super) fn carry_now(&mut self) -> Option<Taken> {
        (self.lanes.still == 0).then(|| self.carry())
    }

    /// Lets the shards hear each other until they have nothing more to say.
    pub(super) fn carry(&mut self) -> Taken {
        let mut taken = Taken::default();
        for _ in 0..WORDS_MAX {
            self.gather();
            let mut lanes = self.lanes.waiting.iter_mut().zip(0..);
            let Some((from, relay)) =
                lanes.find_map(|(lane, from)| Some((from, lane.pop_front()?)))
            else {
                return taken;
            };
            if let Relay::Publishers { .. } = relay {
                // Stand-ins may be others now, with throttles of their own.
                self.lanes
                    .asked
                    .retain(|track, _| track.session.shard != ShardId(from));
            }
            let to = &mut self.worlds[usize::from(1 - from)];
            to.relay(ShardId(from), relay);
            assert!(to.events.is_empty(), "the server is told nothing of it");
            let mut more = self.take_sent();
            assert!(more.again.is_empty(), "nobody asked");
            taken.heard.append(&mut more.heard);
        }
        panic!("the shards do not come to an end");
    }

    pub(super) fn lose(&mut self, from: usize, place: usize) {
        let Some(place) = self.lanes.place(from, place) else {
            return;
        };
        let lost = match self.lanes.waiting[from].remove(place) {
            Some(
                Relay::Attend { room } | Relay::Quit { room } | Relay::Publishers { room, .. },
            ) => Some(room),
            Some(Relay::Follow(track) | Relay::Unfollow(track)) => {
                room(self.sessions[self.number_of(track.session)].role)
            }
            // A picture stands still until the next request.
            Some(Relay::Packet(_) | Relay::Keyframe(_)) | None => None,
        };
        self.lanes.doubtful.extend(lost);
    }

    /// Every word may be said twice. Packets are not.
    pub(super) fn repeat(&mut self, from: usize, place: usize) {
        if let Some(place) = self.lanes.place(from, place)
            && let Some(relay) = self.lanes.waiting[from].get(place).cloned()
            && !relay.may_be_lost()
        {
            self.lanes.waiting[from].insert(place, relay);
        }
    }

    /// What heals lost words, by the promises of [`relay`](crate::relay): one more subscriber elsewhere after a
    /// throttle interval, and packets of each publisher.
    pub(super) fn heal(&mut self, room: RoomId) {
        if !self.lanes.doubtful.contains(&room) {
            return;
        }
        self.lanes.go_on();
        self.turn_at(self.latest + KEYFRAME_REQUEST_INTERVAL);
        self.carry();
        let (shard, second) = (home_of(room).0 == 0, room.0 == 1);
        let wish = Wish::FollowNewest {
            shard,
            room: second,
        };
        let Some(index) = self.open(wish) else {
            return;
        };
        self.carry();
        let publishers: Vec<_> = self.publishers_of(room).collect();
        for (publisher, _) in publishers {
            for talk in [Talk::Sound, Talk::Picture { key: true }] {
                self.say(publisher, talk);
                self.carry();
            }
        }
        self.close(index);
        self.carry();
        self.lanes.doubtful.remove(&room);
    }
}

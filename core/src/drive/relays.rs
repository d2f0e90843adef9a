//! The lanes among the shards of one process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::drive::Mailbox;
use crate::ids::ShardId;
use crate::limits::RELAYS_MAX;
use crate::relay::Relay;

/// One inbound lane a shard, into which all others put. Clones share them. The default has none: every relay is lost.
#[derive(Clone, Debug, Default)]
pub struct RelayLanes {
    ends: Arc<[End]>,
}

#[derive(Debug, Default)]
struct End {
    inbound: OnceLock<Mailbox<(ShardId, Relay)>>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// What one shard has put into the lanes of others. Cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Relays put into a lane.
    pub sent: u64,
    /// Relays for which there was no room.
    pub dropped: u64,
}

impl RelayLanes {
    /// Lanes among so many shards, numbered from 0.
    #[must_use]
    pub fn among(shards: u16) -> Self {
        let ends = (0..shards).map(|_| End::default());
        Self {
            ends: ends.collect(),
        }
    }

    /// The lane of shard `id`, which begins to take relays; `wake` runs after each push into an empty one. To be
    /// called once a shard.
    pub fn open(&self, id: ShardId, wake: impl Fn() + Send + Sync + 'static) -> RelayLane {
        let inbound = Mailbox::new(RELAYS_MAX, wake);
        if let Some(end) = self.end(id) {
            // A second lane of one number gets nothing: the first goes on.
            end.inbound.set(inbound.clone()).ok();
        }
        RelayLane {
            id,
            inbound,
            lanes: self.clone(),
        }
    }

    /// What shard `id` has sent.
    #[must_use]
    pub fn stats(&self, id: ShardId) -> RelayStats {
        let count = |end: &End| RelayStats {
            sent: end.sent.load(Ordering::Relaxed),
            dropped: end.dropped.load(Ordering::Relaxed),
        };
        self.end(id).map(count).unwrap_or_default()
    }

    fn end(&self, id: ShardId) -> Option<&End> {
        self.ends.get(usize::from(id.0))
    }
}

/// A shard's place among the lanes: what a [`Port`](crate::drive::Port) does with relays.
#[derive(Debug)]
pub struct RelayLane {
    id: ShardId,
    inbound: Mailbox<(ShardId, Relay)>,
    lanes: RelayLanes,
}

impl RelayLane {
    /// The oldest relay that waits, and who sent it.
    #[must_use]
    pub fn pop(&self) -> Option<(ShardId, Relay)> {
        self.inbound.pop()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inbound.is_empty()
    }

    /// Hands a relay to another shard, or drops and counts it: a packet when half of the lane is taken, so that what
    /// keeps the shards in step has the other half; that when all of it is. Never blocks.
    pub fn send(&self, to: ShardId, relay: Relay) {
        let most = if relay.may_be_lost() {
            RELAYS_MAX / 2
        } else {
            RELAYS_MAX
        };
        let inbound = self.lanes.end(to).and_then(|end| end.inbound.get());
        let is_taken = inbound.is_some_and(|lane| {
            let pushed = lane.try_push_below(most, (self.id, relay));
            pushed.is_ok()
        });
        if let Some(own) = self.lanes.end(self.id) {
            let count = if is_taken { &own.sent } else { &own.dropped };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::ids::{RoomId, SessionId, SessionKey, TrackId};
    use crate::plan::Codec;
    use crate::relay::{Buffers, RelayedPacket};
    use crate::session::media::Incoming;
    use crate::time::Timestamp;

    const ROOM: Relay = Relay::Attend { room: RoomId(1) };

    fn packet() -> Relay {
        let key = SessionKey {
            index: 0,
            generation: 0,
        };
        let session = SessionId {
            shard: ShardId(0),
            key,
        };
        let incoming = Incoming {
            media: 0,
            ssrc: 1,
            codec: Codec::Opus,
            sequence: 1,
            timestamp: 1,
            marker: false,
            keyframe: false,
            payload: b"sound",
            audio_level: None,
            video_orientation: None,
            vp8: None,
            clock: None,
            received: Timestamp::ZERO,
            first: false,
        };
        let payload = Buffers::default().fill(incoming.payload);
        let track = TrackId { session, media: 0 };
        Relay::Packet(RelayedPacket::new(track, &incoming, payload))
    }

    #[test]
    fn a_full_lane_drops_packets_first_and_counts_what_it_drops() {
        let lanes = RelayLanes::among(2);
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let here = lanes.open(ShardId(0), || ());
        let there = lanes.open(ShardId(1), move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let half = RELAYS_MAX as u64 / 2;
        (0..half + 7).for_each(|_| here.send(ShardId(1), packet()));
        let full = RelayStats {
            sent: half,
            dropped: 7,
        };
        assert_eq!(lanes.stats(ShardId(0)), full);
        (0..half + 3).for_each(|_| here.send(ShardId(1), ROOM));
        let full = RelayStats {
            sent: 2 * half,
            dropped: 10,
        };
        assert_eq!(lanes.stats(ShardId(0)), full);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let mut taken = 0;
        while let Some((from, relay)) = there.pop() {
            assert_eq!((from, relay.may_be_lost()), (ShardId(0), taken < half));
            taken += 1;
        }
        assert_eq!(taken, 2 * half);
        here.send(ShardId(1), packet());
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_for_nobody_is_dropped_and_counted() {
        let lanes = RelayLanes::among(2);
        let here = lanes.open(ShardId(0), || ());
        here.send(ShardId(1), ROOM);
        here.send(ShardId(2), ROOM);
        let dropped = RelayStats {
            sent: 0,
            dropped: 2,
        };
        assert_eq!(lanes.stats(ShardId(0)), dropped);
        let alone = RelayLanes::default().open(ShardId(0), || ());
        alone.send(ShardId(0), ROOM);
        assert!(alone.is_empty());
    }
}

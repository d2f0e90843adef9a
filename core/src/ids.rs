//! Small identifiers. None of them is secret; session URLs use their own random names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A shard of this process; also the offset of its UDP port from the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

/// A slot in a slab and the count of times it was reused, so that a stale key finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// Slot in the shard's slab.
    pub index: u32,
    /// Increased each time the slot is freed.
    pub generation: u32,
}

/// One peer connection in one shard of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The shard that owns it.
    pub shard: ShardId,
    /// Where it lives there.
    pub key: SessionKey,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}-{}",
            self.shard.0, self.key.index, self.key.generation
        )
    }
}

/// A room, numbered by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomId(pub u32);

/// A participant of a room, numbered by the server; the same name in the same room keeps its number,
/// so that subscriptions survive a publisher that leaves and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ParticipantId(pub u32);

/// Ties a command to the event that answers it; chosen by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

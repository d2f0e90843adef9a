//! Small identifiers. None of them is secret; session URLs use their own random names.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

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

/// A text is no session's identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a session is three numbers such as 0-3-1: its shard, its slot there, and how often that was used before"
)]
pub struct SessionIdError;

impl From<ParseIntError> for SessionIdError {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

/// Reads what `Display` shows.
impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (shard, key) = text.split_once('-').ok_or(SessionIdError)?;
        let (index, generation) = key.split_once('-').ok_or(SessionIdError)?;
        Ok(Self {
            shard: ShardId(shard.parse()?),
            key: SessionKey {
                index: index.parse()?,
                generation: generation.parse()?,
            },
        })
    }
}

/// One published source: a media section of the session that publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackId {
    /// The session.
    pub session: SessionId,
    /// The place of the section in its plan.
    pub media: u8,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_reads_as_it_is_shown() {
        let key = SessionKey {
            index: 3,
            generation: 70_000,
        };
        let id = SessionId {
            shard: ShardId(1),
            key,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "1", "1-2", "1-2-", "1-2-x", "-1-2-3", "70000-1-1"] {
            assert_eq!(wrong.parse::<SessionId>(), Err(SessionIdError), "{wrong}");
        }
    }
}

//! What shards say to each other, so that somebody can follow a publisher whose session another shard has.
//!
//! ```text
//!        the room's home                                      another shard
//!  Ann ──▶ Session ──▶ Track ─┬─▶ followers           ┌──▶ StandIn of Ann ──▶ Track ─┬─▶ followers
//!                             └─▶ one packet a shard ─┤       cache, throttle        ├─▶ ...
//!                                                     └──▶ ...                       └─▶ ...
//!          ◀── Attend, Quit ── Follow, Unfollow ── Keyframe ──
//!          ── Publishers ── Packet ──▶
//! ```
//!
//! All publishers of a room are on one shard, its *home*; so are the active speaker and the mix. A subscriber may be
//! anywhere. A shard that opens a subscriber *attends* the room and is told all who publish in it, the whole list, and
//! so again after each change. Of each it keeps a *stand-in*, which is followed as the session itself would be, by the
//! same code.
//!
//! A track is asked for with its first follower there, and from then on each of its packets crosses once, however many
//! follow: opened, its payload in a buffer that all shards share and that comes back to be filled again. What is lost
//! between the stand-in and a follower is repaired from the stand-in's own cache. A keyframe request crosses at
//! most once per throttle interval; the publisher's own throttle has the last word.
//!
//! The lane is bounded and nobody waits for it: a packet is dropped from half of it on, the rest from all of it on,
//! both counted. What is lost heals like this, as every word may be said twice; nothing is said again by the clock:
//!
//! - `Attend`: the shard is told of nobody, until it opens the next subscriber of the room. Each attends.
//! - `Publishers`: a publisher is missed, or followed though gone, until the next list: after a change, or for that
//!   subscriber.
//! - `Follow`: the track is dark there until the next list. With it each followed track is asked for again that has
//!   been silent for a throttle interval.
//! - `Keyframe`: a picture stands still until the next request, of a packet that cannot begin one, or of the peer.
//! - `Unfollow`: packets cross in vain, and are answered by it, once a track and throttle interval.
//! - `Quit`: the home tells of the room until a list is answered by it.
//!
//! Every relay is an input of the shard that takes it, like a command, and stands in its journal.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_128;

use crate::ids::{ParticipantId, RoomId, SessionKey, TrackId};
use crate::limits::RELAY_BUFFERS_MAX;
use crate::plan::{Codec, MediaKind};
use crate::session::media::{Incoming, SenderClock, vp8_descriptor};
use crate::time::Timestamp;

/// Shard to shard. Packets may be lost; see [`RelayLanes`](crate::drive::RelayLanes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Relay {
    /// To a room's home: one more session here subscribes. Answered by [`Publishers`](Self::Publishers), now and after
    /// each change.
    Attend {
        /// The room.
        room: RoomId,
    },
    /// To a room's home: none does any more.
    Quit {
        /// The room.
        room: RoomId,
    },
    /// To a room's home: sessions here follow this track. Answered by its packets.
    Follow(TrackId),
    /// To a room's home: none does any more.
    Unfollow(TrackId),
    /// To a room's home: somebody here needs a keyframe.
    Keyframe(TrackId),
    /// From a room's home: everybody who publishes, in the order in which they began.
    Publishers {
        /// The room.
        room: RoomId,
        /// They.
        publishers: Vec<Publisher>,
    },
    /// From a room's home: a packet of a track that is followed.
    Packet(RelayedPacket),
}

impl Relay {
    /// Whether a peer shard that does not keep up may lose it.
    #[must_use]
    pub const fn may_be_lost(&self) -> bool {
        matches!(self, Self::Packet(_))
    }

    /// The same, with zeros in the place of media.
    #[must_use]
    pub(crate) fn without_media(&self) -> Self {
        let mut relay = self.clone();
        if let Self::Packet(packet) = &mut relay {
            packet.payload = SharedBytes(Arc::new(vec![0; packet.payload.0.len()]));
        }
        relay
    }
}

/// Who publishes in a room, and in which media sections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// Who.
    pub participant: ParticipantId,
    /// In which session of the room's home.
    pub session: SessionKey,
    /// The sections in which the peer may send.
    pub sections: Vec<(u8, MediaKind)>,
}

/// An opened packet of a track: what forwarding must know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelayedPacket {
    pub(crate) track: TrackId,
    pub(crate) ssrc: u32,
    codec: Codec,
    sequence: u64,
    timestamp: u32,
    marker: bool,
    keyframe: bool,
    audio_level: Option<u8>,
    video_orientation: Option<u8>,
    pub(crate) clock: Option<SenderClock>,
    /// On the clock of the shard that sent it; both count from one epoch, or the figure of the delay is wrong.
    received: Timestamp,
    payload: SharedBytes,
}

impl RelayedPacket {
    pub(crate) fn new(track: TrackId, packet: &Incoming<'_>, payload: SharedBytes) -> Self {
        Self {
            track,
            ssrc: packet.ssrc,
            codec: packet.codec,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            keyframe: packet.keyframe,
            audio_level: packet.audio_level,
            video_orientation: packet.video_orientation,
            clock: packet.clock,
            received: packet.received,
            payload,
        }
    }

    /// The track it is of.
    #[must_use]
    pub const fn track(&self) -> TrackId {
        self.track
    }

    /// As it came from the session that received it; no later than `now`.
    pub(crate) fn incoming(&self, now: Timestamp) -> Incoming<'_> {
        let payload = self.payload.0.as_slice();
        Incoming {
            media: self.track.media,
            ssrc: self.ssrc,
            codec: self.codec,
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker: self.marker,
            keyframe: self.keyframe,
            payload,
            audio_level: self.audio_level,
            video_orientation: self.video_orientation,
            vp8: vp8_descriptor(self.codec, payload),
            clock: self.clock,
            received: self.received.min(now),
            first: false,
        }
    }
}

/// Bytes that several hold. Shown by length and hash.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SharedBytes(Arc<Vec<u8>>);

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = XxHash3_128::oneshot(&self.0);
        write!(f, "{} bytes {hash:032x}", self.0.len())
    }
}

impl Serialize for SharedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SharedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Ok(Self(Arc::new(bytes.into_vec())))
    }
}

/// Buffers for payloads, filled again once nobody else holds them: in its stride a shard that relays allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// In the order in which they were lent, which is that in which they come back.
    lent: VecDeque<SharedBytes>,
}

impl Buffers {
    /// The bytes in a buffer of ours. Allocates while fewer than [`RELAY_BUFFERS_MAX`] are there and none is free.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> SharedBytes {
        let is_free = |lent: &mut SharedBytes| Arc::get_mut(&mut lent.0).is_some();
        let mut shared = self.lent.pop_front_if(is_free).unwrap_or_default();
        if let Some(buffer) = Arc::get_mut(&mut shared.0) {
            buffer.clear();
            buffer.extend_from_slice(bytes);
        }
        if self.lent.len() < RELAY_BUFFERS_MAX {
            self.lent.push_back(shared.clone());
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_filled_again_once_nobody_holds_it() {
        let mut buffers = Buffers::default();
        let address = |shared: &SharedBytes| shared.0.as_ptr();
        let first = buffers.fill(b"first");
        let (held, second) = (first.clone(), buffers.fill(b"second"));
        assert_ne!(address(&first), address(&second));
        let place = address(&first);
        drop(first);
        assert_ne!(address(&buffers.fill(b"third")), place, "somebody holds it");
        assert_eq!(&**held.0, b"first");
        drop((held, second));
        let again = buffers.fill(b"again");
        assert_eq!((address(&again), &**again.0), (place, b"again".as_slice()));
    }

    #[test]
    fn a_relay_is_shown_without_what_was_said_and_differs_by_it() {
        let shown = |bytes: &[u8]| format!("{:?}", Buffers::default().fill(bytes));
        assert!(shown(b"words").starts_with("5 bytes "));
        assert_ne!(shown(b"words"), shown(b"swords"));
    }
}

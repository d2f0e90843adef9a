//! What is published in one media section, and who follows it.

use super::{Incoming, vp8_descriptor};
use crate::ids::{SessionKey, ShardId};
use crate::limits::TRACK_EVENT_INTERVAL;
use crate::plan::Codec;
use crate::repair::{CachedHeader, PacketCache};
use crate::time::Timestamp;

/// One media section's outgoing side: who follows it, and what they may ask for again.
#[derive(Debug, Default)]
pub(crate) struct Track {
    pub(crate) followers: Vec<Follower>,
    /// Shards that have followers of their own.
    pub(crate) shards: Vec<ShardId>,
    /// The one source that feeds it; `None` before the first packet and after a BYE.
    pub(super) source: Option<u32>,
    cache: Option<Box<PacketCache>>,
    /// Whether it was told to have been added, and when that was last told or taken back.
    pub(super) told: (bool, Option<Timestamp>),
}

/// A subscriber's media section that follows a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) session: SessionKey,
    pub(crate) media: u8,
}

impl Track {
    /// Whether to tell now that the track was added or removed; notes it as told. A peer that alternates
    /// packets and BYE makes two events a second and a half, not thousands: what it does in between is not told,
    /// and the next packet tells what then is so.
    pub(super) fn tell(&mut self, now: Timestamp, added: bool) -> bool {
        let (was_added, at) = self.told;
        if was_added == added || at.is_some_and(|at| now.since(at) < TRACK_EVENT_INTERVAL) {
            return false;
        }
        self.told = (added, Some(now));
        true
    }

    /// This source feeds it from now on.
    pub(crate) fn feed_from(&mut self, ssrc: u32) {
        if self.source != Some(ssrc) {
            (self.source, self.cache) = (Some(ssrc), None);
        }
    }

    /// Keeps a packet for those who will ask for it again.
    pub(crate) fn cache(&mut self, now: Timestamp, packet: &Incoming<'_>) {
        let header = CachedHeader {
            marker: packet.marker,
            timestamp: packet.timestamp,
            video_orientation: packet.video_orientation,
        };
        let cache = self.cache.get_or_insert_default();
        cache.insert(now, packet.sequence, header, packet.payload);
    }

    /// A packet that a follower asks for again. `codec` is that of the source.
    pub(crate) fn cached(
        &self,
        now: Timestamp,
        media: u8,
        codec: Codec,
        sequence: u64,
    ) -> Option<Incoming<'_>> {
        let ssrc = self.source?;
        let (header, payload) = self.cache.as_ref()?.find(now, sequence)?;
        Some(Incoming {
            media,
            ssrc,
            codec,
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            keyframe: false,
            payload,
            audio_level: None,
            video_orientation: header.video_orientation,
            vp8: vp8_descriptor(codec, payload),
            clock: None,
            received: now,
            first: false,
        })
    }

    /// Who follows it, taken out of it.
    pub(crate) fn take_followers(&mut self) -> Vec<Follower> {
        std::mem::take(&mut self.followers)
    }

    /// Somebody follows it; whether the first.
    pub(crate) fn add_follower(&mut self, follower: Follower) -> bool {
        self.followers.push(follower);
        self.followers.len() == 1
    }

    /// A session follows it no more; whether it was the last.
    pub(crate) fn remove_follower(&mut self, session: SessionKey) -> bool {
        let before = self.followers.len();
        self.followers
            .retain(|follower| follower.session != session);
        before > 0 && self.followers.is_empty()
    }
}

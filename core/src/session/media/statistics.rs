//! A session's figures, taken when asked for.

use std::time::Duration;

use crate::message::{ProfileName, SessionStats, TrackStats};
use crate::plan::Codec;
use crate::session::media::Media;
use crate::session::media::receiver::{Carries, Receiver};
use crate::session::media::sender::Sender;
use crate::time::Timestamp;

impl Media {
    /// The media half of the figures; `age` and `connected` are the session's to fill in.
    pub(crate) fn statistics(&self, now: Timestamp) -> SessionStats {
        let inbound = self
            .receivers
            .iter()
            .filter(|receiver| receiver.carries == Carries::Media)
            .filter_map(|receiver| self.inbound(receiver, now));
        let outbound = self
            .senders()
            .filter_map(|(media, sender)| self.outbound(media, sender, now));
        SessionStats {
            at: now,
            age: Duration::ZERO,
            connected: self.keys.is_some(),
            round_trip: self.round_trip,
            profile: self.profile(),
            packets_received: self.packets_received,
            packets_sent: self.packets_sent,
            tracks: inbound.chain(outbound).collect(),
            jitter_buffer: None,
        }
    }

    /// The protection profile agreed.
    pub(crate) fn profile(&self) -> Option<ProfileName> {
        self.keys.as_ref().map(|keys| keys.profile)
    }

    fn inbound(&self, receiver: &Receiver, now: Timestamp) -> Option<TrackStats> {
        let plan = self.plan.media.get(usize::from(receiver.media))?;
        Some(TrackStats {
            mid: plan.mid,
            kind: plan.kind,
            codec: Some(receiver.codec),
            inbound: true,
            ssrc: receiver.ssrc,
            packets: receiver.statistics.packets(),
            bytes: receiver.statistics.bytes(),
            bitrate: receiver.statistics.bitrate(now),
            lost: receiver.statistics.lost(),
            jitter: receiver.statistics.jitter(),
            nacks: receiver.nacks_sent,
            retransmissions: receiver.recovered,
            keyframe_requests: receiver.keyframes.count,
        })
    }

    fn outbound(&self, media: u8, sender: &Sender, now: Timestamp) -> Option<TrackStats> {
        let plan = self.plan.media.get(usize::from(media))?;
        let rate = sender.codec().map_or(1, Codec::clock_rate);
        Some(TrackStats {
            mid: plan.mid,
            kind: plan.kind,
            codec: sender.codec(),
            inbound: false,
            ssrc: sender.ssrc,
            packets: sender.packets,
            bytes: sender.bytes,
            bitrate: sender.rate.bitrate(now),
            lost: i64::from(sender.peer.lost),
            jitter: units(sender.peer.jitter, rate),
            nacks: sender.nacks_received,
            retransmissions: sender.retransmissions,
            keyframe_requests: sender.keyframe_requests,
        })
    }
}

/// RTP units as time.
fn units(units: u32, clock_rate: u32) -> Duration {
    Duration::from_nanos(u64::from(units) * 1_000_000_000 / u64::from(clock_rate.max(1)))
}

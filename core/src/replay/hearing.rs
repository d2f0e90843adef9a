//! What a call with an agent would have decided, had it heard one stream: when turns begin and end.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::MediaPacket;
use super::playout::known;
use crate::call::Listener;
use crate::message::VoiceStats;
use crate::session::media::Incoming;
use crate::time::Timestamp;
use crate::voice::config::TurnConfig;
use crate::voice::message::{AgentPlan, Heard};
use crate::voice::turns::AgentVoice;

/// Time before the first packet arrives. A call is open before sound comes; half a second of it may come in a burst.
const LEAD: Duration = Duration::from_secs(1);
/// What the first packet holds as a rule, so that its first sample was at the call's time zero.
const FIRST_PACKET: Duration = Duration::from_millis(20);
/// Between two wakes. A shard's clock has no finer steps.
const WAKE_INTERVAL: Duration = Duration::from_millis(1);

/// Time after the last packet: calls listen for less.
const AFTER: Duration = Duration::from_secs(60);

/// A stream on its way through what calls hear and decide with, to an agent that says nothing.
pub struct Hearing {
    listener: Listener,
    heard: VecDeque<Heard>,
    stats: VoiceStats,
    begins: Timestamp,
    /// When it was last woken.
    woken: Timestamp,
}

impl Hearing {
    /// For a stream whose first packet this is; `None`: there is no decoder for it, or it came at no time.
    #[must_use]
    pub fn new(packet: &MediaPacket<'_>, turns: TurnConfig) -> Option<Self> {
        known(packet.codec?)?;
        let begins = packet.arrived?;
        let plan = AgentPlan {
            eagerness: turns.eagerness,
            ..AgentPlan::default()
        };
        let arrived = begins + LEAD;
        Some(Self {
            listener: Listener::new(arrived.before(FIRST_PACKET), plan, turns),
            heard: VecDeque::new(),
            stats: VoiceStats::default(),
            begins,
            woken: arrived,
        })
    }

    /// When its first packet arrived. The call's clock begins there: with the first sample of it, if that lasts 20 ms.
    #[must_use]
    pub const fn begins(&self) -> Timestamp {
        self.begins
    }

    /// Takes in a packet, and tells all that was heard and decided before it, and at once because of it. One of another
    /// kind is passed over.
    pub fn insert(&mut self, packet: &MediaPacket<'_>, mut out: impl FnMut(Heard)) {
        let (Some(arrived), Some(codec)) = (packet.arrived, packet.codec.and_then(known)) else {
            return;
        };
        let now = arrived + LEAD;
        self.listen_until(now, &mut out);
        self.woken = self.woken.max(now);
        let packet = Incoming {
            media: 0,
            ssrc: packet.ssrc,
            codec,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            keyframe: false,
            payload: packet.payload,
            audio_level: None,
            video_orientation: None,
            vp8: None,
            clock: None,
            received: self.woken,
            first: false,
        };
        self.listener.handle_packet(self.woken, &packet);
        self.listen(&mut out);
    }

    /// Tells what is decided when nothing more comes.
    pub fn finish(mut self, mut out: impl FnMut(Heard)) {
        self.listen_until(self.woken + AFTER, &mut out);
    }

    /// Wakes when a call would be woken. It waits for nothing any more some time after the last packet.
    fn listen_until(&mut self, end: Timestamp, out: &mut impl FnMut(Heard)) {
        while let Some(due) = self.listener.deadline()
            && due.max(self.woken) < end
        {
            self.woken = due.max(self.woken + WAKE_INTERVAL);
            self.listen(out);
        }
    }

    fn listen(&mut self, out: &mut impl FnMut(Heard)) {
        let (heard, stats) = (&mut self.heard, &mut self.stats);
        while self
            .listener
            .listen(self.woken, AgentVoice::Silent, heard, stats)
        {
            heard.drain(..).for_each(&mut *out);
            while let Some(event) = self.listener.poll_event() {
                out(Heard::Voice(event));
            }
        }
    }
}

/// Sound says nothing to a reader.
impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing")
            .field("begins", &self.begins)
            .finish_non_exhaustive()
    }
}

//! Bugs on demand, for tests that must show what they would catch. Compiled with the feature `mutations` alone.
//!
//! A [`Mutation`] is one line of the product gone wrong; an oracle must notice. A [`Point`] is a place where the
//! product may take its unlucky branch, as it must be able to; no oracle may notice.

use crate::rng::{Rng, Seed};

/// Bytes of an RTP payload at which [`Mutation::FaultAtLength`] strikes: of what tests send, none else has as many.
pub const FATAL_PAYLOAD_BYTES: usize = 613;

/// One line gone wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A session's end leaves its paths in the table.
    KeepPaths,
    /// A subscriber of one participant gets whoever published last.
    FollowAnyone,
    /// Retransmissions carry the number of the packet before.
    MisnumberRetransmissions,
    /// Nothing is ever sent again.
    NeverRetransmit,
    /// Keyframe requests are passed on however many there are.
    PassAllKeyframeRequests,
    /// Nobody is asked for a keyframe.
    NeverAskForKeyframes,
    /// A session's first path is its only one.
    IgnoreNewPaths,
    /// Each hundredth datagram is swallowed.
    SwallowDatagrams,
    /// A turn tells one event, however many there are.
    OneEventATurn,
    /// Shards but the first ask for every other keyframe only.
    FirstShardIsBetter,
    /// Passwords depend on the process.
    AmbientRandomness,
    /// A shard loses each fiftieth packet that another relays to it.
    LoseRelays,
    /// A session panics at a payload of [`FATAL_PAYLOAD_BYTES`].
    FaultAtLength,
}

/// Where the product may have bad luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Point {
    /// The budget for datagrams is spent before they are.
    ReceiveLater,
    /// The socket has no room.
    SendLater,
    /// The budget for commands is spent after one.
    CommandLater,
    /// A turn comes too early for its timers.
    TimersLater,
    /// The cache lost a packet.
    CacheMiss,
    /// A keyframe request is lost.
    KeyframeRequestLost,
}

impl Point {
    /// Every point, by its number.
    pub const ALL: [Self; 6] = [
        Self::ReceiveLater,
        Self::SendLater,
        Self::CommandLater,
        Self::TimersLater,
        Self::CacheMiss,
        Self::KeyframeRequestLost,
    ];
}

/// The bugs of one shard: none, unless a test says so.
#[derive(Debug, Default)]
pub struct Bugs {
    mutation: Option<Mutation>,
    /// How often of 1,000 a point strikes.
    chances: Option<(Rng, u32)>,
    struck: [u64; Point::ALL.len()],
    count: u64,
}

impl Bugs {
    /// From now on this line is wrong.
    pub const fn plant(&mut self, mutation: Mutation) {
        self.mutation = Some(mutation);
    }

    /// From now on each point strikes so often of 1,000.
    pub fn strike(&mut self, permille: u32, seed: &Seed) {
        self.chances = Some((seed.rng(), permille));
    }

    /// How often each point struck.
    #[must_use]
    pub const fn struck(&self) -> [u64; Point::ALL.len()] {
        self.struck
    }

    /// Whether this line is wrong.
    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Whether this line is wrong, and it is its turn: each `every`th time.
    pub(crate) fn has_each(&mut self, mutation: Mutation, every: u64) -> bool {
        let planted = self.has(mutation);
        self.count += u64::from(planted);
        planted && self.count.is_multiple_of(every)
    }

    /// Whether luck is bad here.
    pub(crate) fn strikes(&mut self, point: Point) -> bool {
        let Some((rng, permille)) = &mut self.chances else {
            return false;
        };
        let strikes = rng.below(1_000) < *permille;
        self.struck[point as usize] += u64::from(strikes);
        strikes
    }
}

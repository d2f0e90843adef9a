//! What to do next: one pure function.

use super::Mode;

/// What waits, as far as it matters. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferStatus {
    /// When frames are handed out.
    pub mode: Mode,
    /// Decoded sound that waits.
    pub ready: i64,
    /// The packet to be decoded next.
    pub next: Next,
    /// How long after its earliest possible arrival the next sample would be played now. While nothing was played yet,
    /// or in a pause: the next packet's first.
    pub delay: i64,
    /// What that should be.
    pub target: i64,
    /// How far from the target it may stray before the speed of playing is changed.
    pub slack: i64,
    /// The speed may be changed now: the last time is long enough ago, and speech did not just begin.
    pub may_stretch: bool,
    /// The last packet said that nothing follows for a while, or none was played yet.
    pub pause: bool,
    /// What is missing has been waited for as long as the mode lets it ([`Mode::ArrivalDriven`] only).
    pub overdue: bool,
}

/// The packet to be decoded next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// None waits.
    Nothing,
    /// The one that follows the last.
    Follows,
    /// A later one, with a gap before it of which so many microseconds are not yet filled.
    Gap {
        /// Not yet filled.
        missing: i64,
        /// The rest of the gap is one packet, of which it carries a copy.
        fec: bool,
    },
    /// The first after a pause: no number is missing, but time is; or the first of all.
    Spurt,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayoutOp {
    /// Hand out 10 ms of what is ready.
    Play,
    /// Decode the next packet.
    Decode,
    /// Decode the copy of the packet before the next.
    DecodeFec,
    /// Make up 10 ms.
    Conceal,
    /// 10 ms of a pause.
    Pause,
    /// Leave a period out, if the sound has any.
    Accelerate,
    /// Play a period twice, if the sound has any.
    Decelerate,
    /// Hand out nothing yet.
    Hold,
}

/// Microseconds of a frame.
const FRAME: i64 = 10_000;
/// What must be ready to take a period out: two of the longest.
const ACCELERATE_READY: i64 = 30_000;

/// Decides. Calling again after each operation comes to [`PlayoutOp::Play`] or [`PlayoutOp::Hold`] in the end.
#[must_use]
pub fn decide(status: &BufferStatus) -> PlayoutOp {
    if status.ready >= FRAME {
        return decide_speed(status);
    }
    let is_clocked = status.mode == Mode::Clocked;
    match status.next {
        // Or what was made up already filled the gap.
        Next::Follows | Next::Gap { missing: ..=0, .. } => PlayoutOp::Decode,
        Next::Spurt if !is_clocked || status.delay >= status.target => PlayoutOp::Decode,
        Next::Spurt => PlayoutOp::Pause,
        Next::Gap { .. } | Next::Nothing if !is_clocked && !status.overdue => PlayoutOp::Hold,
        Next::Gap { fec: true, .. } => PlayoutOp::DecodeFec,
        Next::Nothing if status.pause => PlayoutOp::Pause,
        Next::Gap { .. } | Next::Nothing => PlayoutOp::Conceal,
    }
}

fn decide_speed(status: &BufferStatus) -> PlayoutOp {
    if status.mode != Mode::Clocked || !status.may_stretch {
        return PlayoutOp::Play;
    }
    if status.delay > status.target + status.slack {
        return match status.next {
            _ if status.ready >= ACCELERATE_READY => PlayoutOp::Accelerate,
            Next::Follows => PlayoutOp::Decode,
            _ => PlayoutOp::Play,
        };
    }
    if status.delay < status.target - status.slack {
        return PlayoutOp::Decelerate;
    }
    PlayoutOp::Play
}

//! What a jitter buffer did, under the names of webrtc-stats where those have one.

use serde::{Deserialize, Serialize};

/// Counts since the buffer was made; none ever falls. Samples are of the decoder's rate.
///
/// Each packet that was received is in exactly one of `packets_played`, `packets_late`, `packets_duplicated`,
/// `packets_overflowed`, `packets_refused`, or waits ([`JitterBuffer::held`]).
///
/// [`JitterBuffer::held`]: super::JitterBuffer::held
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JitterStats {
    /// Packets inserted.
    pub packets_received: u64,
    /// Packets decoded.
    pub packets_played: u64,
    /// Packets that came when their place was past.
    pub packets_late: u64,
    /// Packets that came a second time.
    pub packets_duplicated: u64,
    /// Packets dropped because too much waited, or because the stream began anew.
    pub packets_overflowed: u64,
    /// Packets that were none: empty, too long, out of all order, or not to be decoded.
    pub packets_refused: u64,
    /// Lost packets made good by the copy that the next one carried.
    pub fec_packets_received: u64,
    /// Samples handed out, however they came about.
    pub total_samples_received: u64,
    /// Samples made up for packets that did not come in time.
    pub concealed_samples: u64,
    /// Those of them that are silence or comfort noise, as nothing was left to go on with.
    pub silent_concealed_samples: u64,
    /// Runs of concealed samples.
    pub concealment_events: u64,
    /// Samples of pauses in which the sender sent nothing, and of the wait before the first packet. Not concealed.
    pub silence_samples: u64,
    /// Samples added by playing slower.
    pub inserted_samples_for_deceleration: u64,
    /// Samples left out by playing faster.
    pub removed_samples_for_acceleration: u64,
    /// Microseconds that samples waited between their packet's arrival and their being handed out, all together.
    pub jitter_buffer_delay: u64,
    /// Microseconds of delay aimed at when they were, all together.
    pub jitter_buffer_target_delay: u64,
    /// The same, as the jitter alone would have it: without the configured minimum.
    pub jitter_buffer_minimum_delay: u64,
    /// Samples that the three above are sums over.
    pub jitter_buffer_emitted_count: u64,
    /// Times that it ran dry: concealment began while nothing waited.
    pub underruns: u64,
    /// Times that the stream began anew: another source, or a leap of its numbers or timestamps.
    pub restarts: u64,
}

//! What forwarding must know of codecs, from the payloads of opened RTP packets.

use crate::plan::Codec;

pub mod event;
pub mod vp8;
pub mod vp9;

#[cfg(any(test, feature = "sim"))]
pub mod reassemble;

mod h264;

/// This packet starts a key picture: a decoder that knows nothing can begin with it.
///
/// Always false for audio. With H.264 both a parameter set and the first slice of the picture say
/// so, because either may be the first packet; with VP9, only the lowest spatial layer does.
#[inline]
#[must_use]
pub fn is_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::TelephoneEvent(_) => false,
        Codec::Vp8 => vp8::is_keyframe(payload),
        Codec::Vp9 { .. } => vp9::is_keyframe(payload),
        Codec::H264 { .. } => h264::is_keyframe(payload),
        // N: the first packet of a coded video sequence (AV1 RTP specification 1.0 §4.4).
        Codec::Av1 { .. } => payload
            .first()
            .is_some_and(|aggregation| aggregation & 0x08 != 0),
    }
}

#[cfg(test)]
mod tests;

//! Between payloads and sound, one channel wide.

mod any;
mod conceal;
pub mod g711;
#[cfg(feature = "opus")]
pub mod opus;
mod toc;

use std::fmt;

use crate::audio::Rate;
use crate::plan::Codec;

pub use self::any::{AnyDecoder, AnyEncoder};
pub use self::toc::OpusPacket;
pub use crate::limits::PACKET_SAMPLES_MAX;

/// A payload that cannot be decoded. Blames the peer; the decoder goes on, as if the packet were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It has no bytes, or more than its codec allows.
    #[error("a payload of {0} bytes")]
    Length(usize),
    /// Its bytes are not what its codec writes.
    #[error("a malformed payload")]
    Malformed,
    /// It decodes to more samples than there is room for.
    #[error("no room for the samples")]
    NoRoom,
}

/// There is no decoder or encoder of ours for a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sound comes of {}{}", codec.name(), why(*codec))]
pub struct UnknownCodec {
    /// Which.
    pub codec: Codec,
}

const fn why(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => ": built without the feature `opus`",
        _ => "",
    }
}

/// What Opus is tuned for; it stays what it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// Speech that is understood: 6.5 ms of delay, in-band FEC.
    Voip,
    /// Little delay (2.5 ms) and a third of the cost; no in-band FEC.
    LowDelay,
}

/// How to encode. G.711 knows none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// What for.
    pub application: Application,
    /// Bits a second, 6,000 to 510,000; others are taken for the nearest.
    pub bitrate: u32,
    /// 0 (cheap) to 10 (good); more is 10.
    pub complexity: u8,
    /// Each packet carries the one before it once more, coarsely, if loss is expected.
    pub fec: bool,
    /// Expected loss of packets, percent, up to 100.
    pub loss_percent: u8,
    /// Silence costs a packet in 400 ms.
    pub dtx: bool,
}

impl EncoderSettings {
    /// What an agent says: 133 µs for 20 ms, and packets lost one at a time are mended.
    pub const STANDARD: Self = Self {
        application: Application::Voip,
        bitrate: 24_000,
        complexity: 5,
        fec: true,
        loss_percent: 10,
        dtx: false,
    };
    /// The same where processors are short: 40 µs for 20 ms.
    pub const ECONOMY: Self = Self {
        application: Application::LowDelay,
        bitrate: 32_000,
        complexity: 5,
        fec: false,
        loss_percent: 0,
        dtx: false,
    };
}

/// Payloads of one source to sound.
///
/// # Realtime safety
/// Nothing allocates after the decoder is made, and no payload costs more than a bounded time.
pub trait Decoder: fmt::Debug + Send {
    /// Samples a second of what it writes.
    fn rate(&self) -> Rate;

    /// Samples that a payload decodes to, read from its first bytes; `None`: it is not valid.
    fn duration(&self, payload: &[u8]) -> Option<usize>;

    /// Whether a payload carries the frame before it once more, coarsely (Opus' in-band FEC).
    fn has_fec(&self, payload: &[u8]) -> bool;

    /// Whether a payload says "nothing to hear" (Opus' DTX).
    fn is_dtx(&self, payload: &[u8]) -> bool;

    /// Decodes a payload into the first samples of `out`; how many.
    ///
    /// # Errors
    /// [`CodecError`]; `out` may then hold anything.
    fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, CodecError>;

    /// Fills `out` with the sound before `next`, from the copy that `next` carries.
    ///
    /// # Errors
    /// [`CodecError`]; `out` may then hold anything.
    fn decode_fec(&mut self, next: &[u8], out: &mut [f32]) -> Result<(), CodecError>;

    /// Fills `out`, whole frames of 10 ms up to 60 ms, with what likely came: for a packet that did not.
    fn conceal(&mut self, out: &mut [f32]);

    /// Forgets what it heard.
    fn reset(&mut self);
}

/// Sound to payloads of one source.
///
/// # Realtime safety
/// Nothing allocates after the encoder is made.
pub trait Encoder: fmt::Debug + Send {
    /// Samples a second of what it takes.
    fn rate(&self) -> Rate;

    /// Encodes one packet's samples (10, 20, 40 or 60 ms) into the first bytes of `out`; how many.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`] if `out` is too short; [`CodecError::Length`] for a length that is no packet's.
    fn encode(&mut self, samples: &[f32], out: &mut [u8]) -> Result<usize, CodecError>;

    /// Forgets what it heard.
    fn reset(&mut self);
}

//! Whichever codec a session agreed on.

use crate::audio::Rate;
use crate::codec::g711::{G711Decoder, G711Encoder, Law};
#[cfg(feature = "opus")]
use crate::codec::opus::{OpusDecoder, OpusEncoder};
use crate::codec::{CodecError, Decoder, Encoder, EncoderSettings, UnknownCodec};
use crate::plan::Codec;

/// A decoder of any codec that we know.
#[derive(Debug)]
pub enum AnyDecoder {
    /// Opus.
    #[cfg(feature = "opus")]
    Opus(OpusDecoder),
    /// PCMU and PCMA.
    G711(Box<G711Decoder>),
}

impl AnyDecoder {
    /// A decoder of `codec` that writes at `rate`.
    ///
    /// # Errors
    /// [`UnknownCodec`]: it is a codec of pictures, or left out of this build.
    pub fn new(codec: Codec, rate: Rate) -> Result<Self, UnknownCodec> {
        let g711 = |law| Ok(Self::G711(Box::new(G711Decoder::new(law, rate))));
        match codec {
            #[cfg(feature = "opus")]
            Codec::Opus => Ok(Self::Opus(OpusDecoder::new(rate))),
            Codec::Pcmu => g711(Law::Mu),
            Codec::Pcma => g711(Law::A),
            _ => Err(UnknownCodec { codec }),
        }
    }

    fn any(&self) -> &dyn Decoder {
        match self {
            #[cfg(feature = "opus")]
            Self::Opus(decoder) => decoder,
            Self::G711(decoder) => decoder.as_ref(),
        }
    }

    fn any_mut(&mut self) -> &mut dyn Decoder {
        match self {
            #[cfg(feature = "opus")]
            Self::Opus(decoder) => decoder,
            Self::G711(decoder) => decoder.as_mut(),
        }
    }
}

impl Decoder for AnyDecoder {
    fn rate(&self) -> Rate {
        self.any().rate()
    }

    fn duration(&self, payload: &[u8]) -> Option<usize> {
        self.any().duration(payload)
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        self.any().has_fec(payload)
    }

    fn is_dtx(&self, payload: &[u8]) -> bool {
        self.any().is_dtx(payload)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        self.any_mut().decode(payload, out)
    }

    fn decode_fec(&mut self, next: &[u8], out: &mut [f32]) -> Result<(), CodecError> {
        self.any_mut().decode_fec(next, out)
    }

    fn conceal(&mut self, out: &mut [f32]) {
        self.any_mut().conceal(out);
    }

    fn reset(&mut self) {
        self.any_mut().reset();
    }
}

/// An encoder of any codec that we know.
#[derive(Debug)]
pub enum AnyEncoder {
    /// Opus.
    #[cfg(feature = "opus")]
    Opus(OpusEncoder),
    /// PCMU and PCMA.
    G711(Box<G711Encoder>),
}

impl AnyEncoder {
    /// An encoder to `codec` of sound at `rate`.
    ///
    /// # Errors
    /// [`UnknownCodec`]: it is a codec of pictures, or left out of this build.
    pub fn new(codec: Codec, rate: Rate, settings: EncoderSettings) -> Result<Self, UnknownCodec> {
        let g711 = |law| Ok(Self::G711(Box::new(G711Encoder::new(law, rate))));
        // Only Opus has settings, and may be left out.
        let _ = settings;
        match codec {
            #[cfg(feature = "opus")]
            Codec::Opus => Ok(Self::Opus(OpusEncoder::new(rate, settings))),
            Codec::Pcmu => g711(Law::Mu),
            Codec::Pcma => g711(Law::A),
            _ => Err(UnknownCodec { codec }),
        }
    }

    /// Encodes so from the next packet on; what it is for stays. G.711 has nothing to set.
    pub fn configure(&mut self, settings: EncoderSettings) {
        // As above.
        let _ = settings;
        match self {
            #[cfg(feature = "opus")]
            Self::Opus(encoder) => encoder.configure(settings),
            Self::G711(_) => {}
        }
    }

    fn any(&self) -> &dyn Encoder {
        match self {
            #[cfg(feature = "opus")]
            Self::Opus(encoder) => encoder,
            Self::G711(encoder) => encoder.as_ref(),
        }
    }

    fn any_mut(&mut self) -> &mut dyn Encoder {
        match self {
            #[cfg(feature = "opus")]
            Self::Opus(encoder) => encoder,
            Self::G711(encoder) => encoder.as_mut(),
        }
    }
}

impl Encoder for AnyEncoder {
    fn rate(&self) -> Rate {
        self.any().rate()
    }

    fn encode(&mut self, samples: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        self.any_mut().encode(samples, out)
    }

    fn reset(&mut self) {
        self.any_mut().reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_of_pictures_have_no_sound() {
        let error = AnyDecoder::new(Codec::Vp8, Rate::Hz16000).expect_err("pictures");
        assert_eq!(error.to_string(), "no sound comes of VP8");
        assert!(AnyEncoder::new(Codec::Vp8, Rate::Hz16000, EncoderSettings::STANDARD).is_err());
    }

    #[test]
    fn codecs_of_sound_decode_what_they_encode() {
        let codecs: &[Codec] = if cfg!(feature = "opus") {
            &[Codec::Opus, Codec::Pcmu, Codec::Pcma]
        } else {
            &[Codec::Pcmu, Codec::Pcma]
        };
        for codec in codecs {
            let mut encoder =
                AnyEncoder::new(*codec, Rate::Hz48000, EncoderSettings::STANDARD).expect("known");
            let mut decoder = AnyDecoder::new(*codec, Rate::Hz16000).expect("known");
            assert_eq!(
                (encoder.rate(), decoder.rate()),
                (Rate::Hz48000, Rate::Hz16000)
            );
            let mut payload = [0; 1_200];
            let bytes = encoder.encode(&[0.1; 960], &mut payload).expect("a packet");
            assert_eq!(decoder.duration(&payload[..bytes]), Some(320));
            let mut out = [0.0; 320];
            assert_eq!(decoder.decode(&payload[..bytes], &mut out), Ok(320));
        }
    }
}

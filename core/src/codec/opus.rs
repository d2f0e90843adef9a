//! Opus (RFC 6716), by libopus 1.6 behind `audiopus`.
//!
//! What libopus allocates, it takes from the C library when a coder is made: 18 kB a decoder, 32 kB an encoder.

use std::fmt;

use audiopus::coder::{Decoder as LibDecoder, Encoder as LibEncoder, GenericCtl};
use audiopus::packet::Packet;
use audiopus::{Bitrate, Channels, ErrorCode, MutSignals, SampleRate};

use crate::audio::Rate;
use crate::codec::{
    Application, CodecError, Decoder, Encoder, EncoderSettings, OpusPacket, PACKET_SAMPLES_MAX,
};
use crate::limits::OPUS_PAYLOAD_BYTES_MAX;

/// Bits a second of the most that libopus takes.
const BITRATES: std::ops::RangeInclusive<u32> = 6_000..=510_000;

const fn sample_rate(rate: Rate) -> SampleRate {
    match rate {
        Rate::Hz8000 => SampleRate::Hz8000,
        Rate::Hz16000 => SampleRate::Hz16000,
        Rate::Hz24000 => SampleRate::Hz24000,
        Rate::Hz48000 => SampleRate::Hz48000,
    }
}

fn codec_error(error: audiopus::Error) -> CodecError {
    match error {
        audiopus::Error::Opus(ErrorCode::BufferTooSmall) => CodecError::NoRoom,
        _ => CodecError::Malformed,
    }
}

/// Opus to sound of one channel; stereo is mixed down.
///
/// Decoding at 16 kHz costs two thirds of 48 kHz, and no resampler.
pub struct OpusDecoder {
    rate: Rate,
    coder: LibDecoder,
}

impl OpusDecoder {
    /// A decoder that writes at any of our rates, whatever was encoded.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let coder = LibDecoder::new(sample_rate(rate), Channels::Mono)
            .expect("memory for 18 kB, at a rate that libopus has");
        Self { rate, coder }
    }

    /// Samples of a unit of 2.5 ms.
    const fn unit(&self) -> usize {
        self.rate.hz() as usize / 400
    }

    fn decode_with(
        &mut self,
        payload: Option<&[u8]>,
        out: &mut [f32],
        fec: bool,
    ) -> Result<usize, CodecError> {
        let packet = match payload {
            Some(payload) => Some(Packet::try_from(payload).map_err(codec_error)?),
            None => None,
        };
        let out = MutSignals::try_from(out).map_err(codec_error)?;
        self.coder
            .decode_float(packet, out, fec)
            .map_err(codec_error)
    }
}

/// The rate says all that can be said of it.
impl fmt::Debug for OpusDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpusDecoder")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl Decoder for OpusDecoder {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn duration(&self, payload: &[u8]) -> Option<usize> {
        OpusPacket::parse(payload).map(|packet| packet.units() * self.unit())
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        OpusPacket::parse(payload).is_some_and(|packet| packet.has_fec())
    }

    fn is_dtx(&self, payload: &[u8]) -> bool {
        matches!(payload.len(), 1 | 2)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        if payload.is_empty() || payload.len() > OPUS_PAYLOAD_BYTES_MAX {
            return Err(CodecError::Length(payload.len()));
        }
        let samples = self.duration(payload).ok_or(CodecError::Malformed)?;
        let out = out.get_mut(..samples).ok_or(CodecError::NoRoom)?;
        self.decode_with(Some(payload), out, false)
    }

    fn decode_fec(&mut self, next: &[u8], out: &mut [f32]) -> Result<(), CodecError> {
        if !self.has_fec(next) || !out.len().is_multiple_of(self.unit()) {
            return Err(CodecError::Malformed);
        }
        self.decode_with(Some(next), out, true).map(drop)
    }

    fn conceal(&mut self, out: &mut [f32]) {
        let whole = out.len() - out.len() % self.unit();
        let (out, rest) = out.split_at_mut(whole);
        rest.fill(0.0);
        // Libopus goes on for as long as it is asked, in frames of its own; nothing is asked of it for nothing.
        if !out.is_empty() && self.decode_with(None, out, false).is_err() {
            out.fill(0.0);
        }
    }

    fn reset(&mut self) {
        self.coder
            .reset_state()
            .expect("resetting takes nothing that can be missing");
    }
}

/// Sound of one channel to Opus.
pub struct OpusEncoder {
    rate: Rate,
    settings: EncoderSettings,
    coder: LibEncoder,
    /// What is encoded: finite, and at most 1.0. Libopus aborts the process for some of what is not.
    samples: Box<[f32]>,
}

impl OpusEncoder {
    /// An encoder of sound at any of our rates.
    #[must_use]
    pub fn new(rate: Rate, settings: EncoderSettings) -> Self {
        let application = match settings.application {
            Application::Voip => audiopus::Application::Voip,
            Application::LowDelay => audiopus::Application::LowDelay,
        };
        let coder = LibEncoder::new(sample_rate(rate), Channels::Mono, application)
            .expect("memory for 32 kB, at a rate that libopus has");
        let mut encoder = Self {
            rate,
            settings,
            coder,
            samples: vec![0.0; PACKET_SAMPLES_MAX / 2].into_boxed_slice(),
        };
        encoder.apply(settings);
        encoder
    }

    /// How it encodes.
    #[must_use]
    pub const fn settings(&self) -> EncoderSettings {
        self.settings
    }

    /// Encodes so from the next packet on. What it is for stays.
    pub fn configure(&mut self, settings: EncoderSettings) {
        if settings != self.settings {
            self.apply(settings);
        }
    }

    fn apply(&mut self, settings: EncoderSettings) {
        let settings = EncoderSettings {
            application: self.settings.application,
            bitrate: settings.bitrate.clamp(*BITRATES.start(), *BITRATES.end()),
            complexity: settings.complexity.min(10),
            loss_percent: settings.loss_percent.min(100),
            ..settings
        };
        let coder = &mut self.coder;
        let applied = coder
            .set_bitrate(Bitrate::BitsPerSecond(settings.bitrate as i32))
            .and_then(|()| coder.set_complexity(settings.complexity))
            .and_then(|()| coder.set_inband_fec(settings.fec))
            .and_then(|()| coder.set_packet_loss_perc(settings.loss_percent))
            .and_then(|()| coder.set_dtx(settings.dtx));
        applied.expect("values within the ranges of libopus");
        self.settings = settings;
    }
}

/// Rate and settings say all that can be said of it.
impl fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpusEncoder")
            .field("rate", &self.rate)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Encoder for OpusEncoder {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn encode(&mut self, samples: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let frame = self.rate.frame();
        if ![1, 2, 4, 6].iter().any(|n| samples.len() == n * frame) {
            return Err(CodecError::Length(samples.len()));
        }
        if out.is_empty() {
            return Err(CodecError::NoRoom);
        }
        let sane = &mut self.samples[..samples.len()];
        for (sane, sample) in sane.iter_mut().zip(samples) {
            *sane = if sample.is_nan() {
                0.0
            } else {
                sample.clamp(-1.0, 1.0)
            };
        }
        self.coder
            .encode_float(sane, out)
            .map_err(|_| CodecError::NoRoom)
    }

    fn reset(&mut self) {
        self.coder
            .reset_state()
            .expect("resetting takes nothing that can be missing");
    }
}

#[cfg(test)]
mod tests;

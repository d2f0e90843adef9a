//! G.711 (ITU-T G.711, RFC 3551 §4.5.14): µ-law and A-law, a byte a sample.

use crate::audio::{Rate, Resampler};
use crate::codec::conceal::Concealment;
use crate::codec::{CodecError, Decoder, Encoder};
use crate::limits::G711_PAYLOAD_BYTES_MAX;

/// Samples handled at a time: 10 ms.
const FRAME: usize = Rate::Hz8000.frame();
/// What an `i16` of full scale stands for.
const FULL_SCALE: f32 = 32_768.0;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law: North America, Japan.
    Mu,
    /// A-law: elsewhere.
    A,
}

impl Law {
    /// The sample that a code stands for, of 16 bits.
    #[must_use]
    pub const fn decode(self, code: u8) -> i16 {
        match self {
            Self::Mu => {
                let code = !code;
                let magnitude = (((code as i16 & 0xf) << 3) + 0x84) << (code >> 4 & 7);
                if code & 0x80 == 0 {
                    magnitude - 0x84
                } else {
                    0x84 - magnitude
                }
            }
            Self::A => {
                let code = code ^ 0x55;
                let step = (code as i16 & 0xf) << 4;
                let magnitude = match code >> 4 & 7 {
                    0 => step + 8,
                    segment => (step + 0x108) << (segment - 1),
                };
                if code & 0x80 == 0 {
                    -magnitude
                } else {
                    magnitude
                }
            }
        }
    }

    /// The code nearest to a sample of 16 bits.
    #[must_use]
    pub const fn encode(self, sample: i16) -> u8 {
        let magnitude = sample.unsigned_abs() as u32;
        match self {
            Self::Mu => {
                // Half of the largest step beyond the largest value is cut off, then a bias makes each segment twice
                // as long as the one before it.
                let biased = if magnitude > 32_635 {
                    32_635
                } else {
                    magnitude
                } + 0x84;
                let segment = biased.ilog2() - 7;
                let code = (segment << 4 | (biased >> (segment + 3) & 0xf)) as u8;
                !(if sample < 0 { code | 0x80 } else { code })
            }
            Self::A => {
                let magnitude = if magnitude > 32_767 {
                    32_767
                } else {
                    magnitude
                };
                let code = if magnitude < 256 {
                    magnitude >> 4
                } else {
                    let segment = magnitude.ilog2() - 7;
                    segment << 4 | (magnitude >> (segment + 3) & 0xf)
                } as u8;
                (if sample < 0 { code } else { code | 0x80 }) ^ 0x55
            }
        }
    }
}

/// G.711 to sound at any of our rates, with gaps filled by repeated pitch periods.
#[derive(Clone, Debug)]
pub struct G711Decoder {
    law: Law,
    concealment: Concealment,
    resampler: Resampler,
}

impl G711Decoder {
    /// A decoder that writes at `rate`; beyond 8 kHz it delays by 1 ms and has nothing above 4 kHz.
    #[must_use]
    pub fn new(law: Law, rate: Rate) -> Self {
        Self {
            law,
            concealment: Concealment::new(),
            resampler: Resampler::new(Rate::Hz8000, rate),
        }
    }
}

impl Decoder for G711Decoder {
    fn rate(&self) -> Rate {
        self.resampler.destination()
    }

    fn duration(&self, payload: &[u8]) -> Option<usize> {
        let valid = (1..=G711_PAYLOAD_BYTES_MAX).contains(&payload.len());
        valid.then(|| self.resampler.output_samples(payload.len()))
    }

    fn has_fec(&self, _payload: &[u8]) -> bool {
        false
    }

    fn is_dtx(&self, _payload: &[u8]) -> bool {
        false
    }

    fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let length = CodecError::Length(payload.len());
        let samples = self.duration(payload).ok_or(length)?;
        let out = out.get_mut(..samples).ok_or(CodecError::NoRoom)?;
        let most = self.resampler.output_samples(FRAME);
        for (codes, out) in payload.chunks(FRAME).zip(out.chunks_mut(most)) {
            let mut frame = [0.0; FRAME];
            let frame = &mut frame[..codes.len()];
            for (sample, code) in frame.iter_mut().zip(codes) {
                *sample = f32::from(self.law.decode(*code)) / FULL_SCALE;
            }
            self.concealment.note(frame);
            self.resampler.process(frame, out);
        }
        Ok(samples)
    }

    fn decode_fec(&mut self, _next: &[u8], _out: &mut [f32]) -> Result<(), CodecError> {
        Err(CodecError::Malformed)
    }

    fn conceal(&mut self, out: &mut [f32]) {
        let each = self.resampler.output_samples(1);
        let (out, rest) = out.split_at_mut(out.len() - out.len() % each);
        rest.fill(0.0);
        for out in out.chunks_mut(FRAME * each) {
            let mut frame = [0.0; FRAME];
            let frame = &mut frame[..out.len() / each];
            self.concealment.fill(frame);
            self.resampler.process(frame, out);
        }
    }

    fn reset(&mut self) {
        self.concealment = Concealment::new();
        self.resampler.reset();
    }
}

/// Sound at any of our rates to G.711.
#[derive(Clone, Debug)]
pub struct G711Encoder {
    law: Law,
    resampler: Resampler,
}

impl G711Encoder {
    /// An encoder of sound at `rate`; beyond 8 kHz it delays by 1 ms.
    #[must_use]
    pub fn new(law: Law, rate: Rate) -> Self {
        Self {
            law,
            resampler: Resampler::new(rate, Rate::Hz8000),
        }
    }
}

impl Encoder for G711Encoder {
    fn rate(&self) -> Rate {
        self.resampler.source()
    }

    fn encode(&mut self, samples: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let each = self.rate().frame();
        if ![1, 2, 4, 6].iter().any(|n| samples.len() == n * each) {
            return Err(CodecError::Length(samples.len()));
        }
        let bytes = samples.len() / each * FRAME;
        let out = out.get_mut(..bytes).ok_or(CodecError::NoRoom)?;
        for (samples, codes) in samples.chunks(each).zip(out.chunks_mut(FRAME)) {
            let mut frame = [0.0; FRAME];
            self.resampler.process(samples, &mut frame);
            for (code, sample) in codes.iter_mut().zip(frame) {
                // Beyond full scale it saturates, and NaN is 0.
                *code = self.law.encode((sample * FULL_SCALE).round() as i16);
            }
        }
        Ok(bytes)
    }

    fn reset(&mut self) {
        self.resampler.reset();
    }
}

#[cfg(test)]
mod tests;

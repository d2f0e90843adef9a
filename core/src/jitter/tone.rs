//! A codec for tests and simulations: packets say which part of an endless tone they are.

use crate::audio::Rate;
use crate::codec::{CodecError, Decoder, PACKET_SAMPLES_MAX};

/// Bytes of a payload: flags, frames of 10 ms, and where in the tone it begins, in frames.
pub const TONE_BYTES: usize = 6;
const DTX: u8 = 1;
const FEC: u8 = 2;
/// The pitch of a low voice.
const HZ: usize = 125;

/// A packet of the tone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TonePacket {
    /// Where it begins, in frames of 10 ms.
    pub at: u32,
    /// How many frames it is long, 1 to 12.
    pub frames: u8,
    /// It says that a pause begins.
    pub is_dtx: bool,
    /// It carries a copy of the packet before it.
    pub has_fec: bool,
}

impl TonePacket {
    /// What travels.
    #[must_use]
    pub fn payload(&self) -> [u8; TONE_BYTES] {
        let [a, b, c, d] = self.at.to_be_bytes();
        let flags = u8::from(self.is_dtx) * DTX + u8::from(self.has_fec) * FEC;
        [flags, self.frames, a, b, c, d]
    }

    /// Reads it; `None`: it is not valid.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let &[flags, frames, a, b, c, d] = payload else {
            return None;
        };
        let valid = flags <= DTX | FEC && (1..=12).contains(&frames);
        valid.then_some(Self {
            at: u32::from_be_bytes([a, b, c, d]),
            frames,
            is_dtx: flags & DTX != 0,
            has_fec: flags & FEC != 0,
        })
    }
}

/// Plays the tone, and notes what it was given.
#[derive(Debug)]
pub struct ToneDecoder {
    rate: Rate,
    /// Packets decoded since this was last emptied, a copy's with `has_fec` false and no length.
    pub decoded: Vec<TonePacket>,
    /// Samples of the tone that come next.
    next: usize,
}

impl ToneDecoder {
    /// A decoder that has heard nothing.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            decoded: Vec::new(),
            next: 0,
        }
    }

    fn write(&mut self, out: &mut [f32]) {
        let period = self.rate.hz() as usize / HZ;
        for sample in out {
            let phase = (self.next % period) as f32 / period as f32;
            // A parabola each way: as good as a sine, and the same on every machine.
            let x = 4.0 * phase - if phase < 0.5 { 1.0 } else { 3.0 };
            *sample = (1.0 - x * x) * if phase < 0.5 { 0.25 } else { -0.25 };
            self.next += 1;
        }
    }
}

impl Decoder for ToneDecoder {
    fn rate(&self) -> Rate {
        self.rate
    }

    fn duration(&self, payload: &[u8]) -> Option<usize> {
        TonePacket::read(payload).map(|packet| usize::from(packet.frames) * self.rate.frame())
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        TonePacket::read(payload).is_some_and(|packet| packet.has_fec)
    }

    fn is_dtx(&self, payload: &[u8]) -> bool {
        TonePacket::read(payload).is_some_and(|packet| packet.is_dtx)
    }

    fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let packet = TonePacket::read(payload).ok_or(CodecError::Malformed)?;
        let samples = usize::from(packet.frames) * self.rate.frame();
        let out = out.get_mut(..samples).ok_or(CodecError::NoRoom)?;
        self.decoded.push(packet);
        if packet.is_dtx {
            out.fill(0.0);
        } else {
            self.next = packet.at as usize * self.rate.frame();
            self.write(out);
        }
        Ok(samples)
    }

    fn decode_fec(&mut self, next: &[u8], out: &mut [f32]) -> Result<(), CodecError> {
        let next = TonePacket::read(next).ok_or(CodecError::Malformed)?;
        if !next.has_fec {
            return Err(CodecError::Malformed);
        }
        let frames = (out.len() / self.rate.frame()) as u32;
        let at = next.at.saturating_sub(frames);
        self.decoded.push(TonePacket {
            at,
            ..TonePacket::default()
        });
        self.next = at as usize * self.rate.frame();
        self.write(out);
        Ok(())
    }

    fn conceal(&mut self, out: &mut [f32]) {
        assert!(
            out.len().is_multiple_of(self.rate.frame()) && out.len() <= PACKET_SAMPLES_MAX / 2,
            "{} samples are not to be made up",
            out.len()
        );
        self.write(out);
    }

    fn reset(&mut self) {
        self.next = 0;
    }
}

//! Pictures out of RTP payloads, for tests: to prove that what was forwarded is what was sent.
//!
//! VP8 and VP9 give the bitstream of a picture, H.264 gives Annex B (each NAL unit behind a start
//! code of four bytes), AV1 gives OBUs with size fields and without temporal delimiters.

use crate::plan::{Codec, MediaKind};
use crate::wire::ParseError;
use crate::wire::bytes::Reader;
use crate::wire::rtp::Header;

use super::{is_keyframe, vp8, vp9};

const START_CODE: [u8; 4] = [0, 0, 0, 1];

const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_TILE_LIST: u8 = 8;

/// One picture: all layers of it, if it has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// RTP timestamp of its packets.
    pub timestamp: u32,
    /// Some packet of it says that a key picture starts.
    pub keyframe: bool,
    /// The bitstream.
    pub bytes: Vec<u8>,
}

/// Makes pictures of packets given in order. A picture that misses a packet, or has a malformed
/// one, is left out.
#[derive(Debug)]
pub struct Reassembler {
    codec: Codec,
    frame: Option<Frame>,
    /// No packet of the current picture is missing or malformed so far.
    whole: bool,
    /// A unit (VP9: a layer frame) of the current picture awaits more packets.
    unit_open: bool,
    /// The OBU that awaits more packets.
    obu: Vec<u8>,
    next_sequence: Option<u16>,
}

impl Reassembler {
    /// Starts before the first packet.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            frame: None,
            whole: true,
            unit_open: false,
            obu: Vec::new(),
            next_sequence: None,
        }
    }

    /// Takes the next packet's header and payload, without padding; gives the picture it completes.
    /// A packet without payload only counts as received.
    pub fn push(&mut self, header: &Header, payload: &[u8]) -> Option<Frame> {
        let gap = self
            .next_sequence
            .is_some_and(|next| next != header.sequence_number);
        self.next_sequence = Some(header.sequence_number.wrapping_add(1));
        if self
            .frame
            .as_ref()
            .is_none_or(|frame| frame.timestamp != header.timestamp)
        {
            let timestamp = header.timestamp;
            self.frame = Some(Frame {
                timestamp,
                keyframe: false,
                bytes: Vec::new(),
            });
            self.whole = true;
            self.unit_open = false;
            self.obu.clear();
        }
        // Only VP8 and VP9 say where a picture starts, so only there may packets between two
        // pictures be missing. An SVC stream lacks whole layer frames when one filtered it.
        let first = self
            .frame
            .as_ref()
            .is_some_and(|frame| frame.bytes.is_empty());
        self.whole &= match self.codec {
            Codec::Vp8 => !gap || first,
            Codec::Vp9 { .. } => !gap || !self.unit_open,
            _ => !gap,
        };
        if !payload.is_empty() {
            self.whole &= self.append(payload).is_ok();
            let keyframe = is_keyframe(self.codec, payload);
            if let Some(frame) = &mut self.frame {
                frame.keyframe |= keyframe;
            }
        }
        if !header.marker && self.codec.kind() == MediaKind::Video {
            return None;
        }
        let whole = self.whole && !self.unit_open;
        self.frame
            .take()
            .filter(|frame| whole && !frame.bytes.is_empty())
    }

    fn append(&mut self, payload: &[u8]) -> Result<(), ParseError> {
        let Some(frame) = &mut self.frame else {
            return Ok(());
        };
        let bytes = &mut frame.bytes;
        match self.codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::TelephoneEvent(_) => {
                bytes.extend_from_slice(payload);
            }
            Codec::Vp8 => append_vp8(bytes, payload)?,
            Codec::Vp9 { .. } => append_vp9(bytes, &mut self.unit_open, payload)?,
            Codec::H264 { .. } => append_h264(bytes, &mut self.unit_open, payload)?,
            Codec::Av1 { .. } => append_av1(bytes, &mut self.obu, &mut self.unit_open, payload)?,
        }
        Ok(())
    }
}

fn append_vp8(bytes: &mut Vec<u8>, payload: &[u8]) -> Result<(), ParseError> {
    let descriptor = vp8::Descriptor::parse(payload)?;
    let starts = descriptor.partition_start && descriptor.partition == 0;
    if starts != bytes.is_empty() {
        return Err(ParseError::Truncated);
    }
    bytes.extend_from_slice(
        payload
            .get(descriptor.len()..)
            .ok_or(ParseError::Truncated)?,
    );
    Ok(())
}

fn append_vp9(bytes: &mut Vec<u8>, open: &mut bool, payload: &[u8]) -> Result<(), ParseError> {
    let descriptor = vp9::Descriptor::parse(payload)?;
    if descriptor.frame_start == *open {
        return Err(ParseError::Truncated);
    }
    *open = !descriptor.frame_end;
    bytes.extend_from_slice(payload.get(descriptor.len..).ok_or(ParseError::Truncated)?);
    Ok(())
}

fn append_h264(bytes: &mut Vec<u8>, open: &mut bool, payload: &[u8]) -> Result<(), ParseError> {
    let mut reader = Reader::new(payload);
    let head = reader.u8()?;
    match head & 0x1f {
        1..=23 if !*open => {
            bytes.extend_from_slice(&START_CODE);
            bytes.extend_from_slice(payload);
        }
        24 if !*open => {
            while !reader.is_empty() {
                let len = usize::from(reader.u16()?);
                bytes.extend_from_slice(&START_CODE);
                bytes.extend_from_slice(reader.bytes(len)?);
            }
        }
        28 => {
            let fragment = reader.u8()?;
            let (starts, ends) = (fragment & 0x80 != 0, fragment & 0x40 != 0);
            if starts == *open {
                return Err(ParseError::Truncated);
            }
            if starts {
                bytes.extend_from_slice(&START_CODE);
                bytes.push(head & 0xe0 | fragment & 0x1f);
            }
            *open = !ends;
            bytes.extend_from_slice(reader.rest());
        }
        _ => return Err(ParseError::Reserved),
    }
    Ok(())
}

/// AV1 RTP specification 1.0 §4.3 to §4.5.
fn append_av1(
    bytes: &mut Vec<u8>,
    obu: &mut Vec<u8>,
    open: &mut bool,
    payload: &[u8],
) -> Result<(), ParseError> {
    let mut reader = Reader::new(payload);
    let aggregation = reader.u8()?;
    let (continues, continued) = (aggregation & 0x80 != 0, aggregation & 0x40 != 0);
    if continues != *open {
        return Err(ParseError::Truncated);
    }
    // W: count of elements, the last without a length; 0: each has one.
    let count = aggregation >> 4 & 3;
    let mut index = 0_u8;
    while !reader.is_empty() {
        index = index.saturating_add(1);
        let len = if index == count {
            reader.rest().len()
        } else {
            leb128(&mut reader)?
        };
        obu.extend_from_slice(reader.bytes(len)?);
        *open = reader.is_empty() && continued;
        if !*open {
            append_obu(bytes, obu)?;
            obu.clear();
        }
        if count != 0 && index > count {
            return Err(ParseError::Length);
        }
    }
    Ok(())
}

fn append_obu(bytes: &mut Vec<u8>, obu: &[u8]) -> Result<(), ParseError> {
    let mut reader = Reader::new(obu);
    let head = reader.u8()?;
    if matches!(head >> 3 & 0x0f, OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST) {
        return Ok(());
    }
    bytes.push(head | 0x02);
    if head & 0x04 != 0 {
        bytes.push(reader.u8()?);
    }
    if head & 0x02 != 0 && leb128(&mut reader)? != reader.rest().len() {
        return Err(ParseError::Length);
    }
    let mut len = reader.rest().len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(reader.rest());
    Ok(())
}

/// At most eight bytes of seven bits each (AV1 §4.10.5).
fn leb128(reader: &mut Reader<'_>) -> Result<usize, ParseError> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let byte = reader.u8()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ParseError::Length)
}

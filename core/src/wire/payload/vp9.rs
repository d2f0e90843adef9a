//! The VP9 payload descriptor (RFC 9628 §4.2), read.

use crate::wire::ParseError;
use crate::wire::bytes::Reader;

/// Reference indices a descriptor may list (RFC 9628 §4.2).
const REFERENCES_MAX: usize = 3;

/// What stands before the VP9 bitstream in each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Number of the picture: 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// P: it depends on another picture.
    pub inter_picture_predicted: bool,
    /// Layer of the frame; `None` when the stream has one.
    pub layer: Option<Layer>,
    /// TL0PICIDX, in streams of fixed structure; wraps.
    pub tl0_picture_index: Option<u8>,
    /// B: the packet starts a layer frame.
    pub frame_start: bool,
    /// E: the packet ends a layer frame.
    pub frame_end: bool,
    /// Z: no higher spatial layer depends on it.
    pub not_reference_for_spatial: bool,
    /// Bytes it takes: where the bitstream begins.
    pub len: usize,
}

/// Where a frame stands among the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// TID, 0 to 7.
    pub temporal: u8,
    /// U: later pictures of higher temporal layers do not look behind this one.
    pub switching_up: bool,
    /// SID, 0 to 7.
    pub spatial: u8,
    /// D: it depends on the spatial layer below, of the same picture.
    pub inter_layer_dependency: bool,
}

impl Descriptor {
    /// Reads the descriptor at the front of a payload.
    ///
    /// # Errors
    /// When the payload ends inside it, or it lists more references than may be.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        let first = reader.u8()?;
        let flexible = first & 0x10 != 0;
        let mut descriptor = Self {
            picture_id: None,
            inter_picture_predicted: first & 0x40 != 0,
            layer: None,
            tl0_picture_index: None,
            frame_start: first & 0x08 != 0,
            frame_end: first & 0x04 != 0,
            not_reference_for_spatial: first & 0x01 != 0,
            len: 0,
        };
        if first & 0x80 != 0 {
            let high = reader.u8()?;
            descriptor.picture_id = Some(if high & 0x80 == 0 {
                u16::from(high)
            } else {
                u16::from_be_bytes([high & 0x7f, reader.u8()?])
            });
        }
        if first & 0x20 != 0 {
            let layer = reader.u8()?;
            descriptor.layer = Some(Layer {
                temporal: layer >> 5,
                switching_up: layer & 0x10 != 0,
                spatial: layer >> 1 & 0x07,
                inter_layer_dependency: layer & 0x01 != 0,
            });
            if !flexible {
                descriptor.tl0_picture_index = Some(reader.u8()?);
            }
        }
        if flexible && descriptor.inter_picture_predicted {
            skip_references(&mut reader)?;
        }
        if first & 0x02 != 0 {
            skip_scalability_structure(&mut reader)?;
        }
        descriptor.len = payload.len().saturating_sub(reader.rest().len());
        Ok(descriptor)
    }
}

fn skip_references(reader: &mut Reader<'_>) -> Result<(), ParseError> {
    for _ in 0..REFERENCES_MAX {
        if reader.u8()? & 1 == 0 {
            return Ok(());
        }
    }
    Err(ParseError::TooMany)
}

/// At most 1 + 8 · 4 + 1 + 255 · 4 bytes (RFC 9628 §4.2.1).
fn skip_scalability_structure(reader: &mut Reader<'_>) -> Result<(), ParseError> {
    let head = reader.u8()?;
    if head & 0x10 != 0 {
        let spatial_layers = usize::from(head >> 5).saturating_add(1);
        reader.bytes(spatial_layers << 2)?;
    }
    if head & 0x08 != 0 {
        for _ in 0..reader.u8()? {
            let references = reader.u8()? >> 2 & 3;
            reader.bytes(usize::from(references))?;
        }
    }
    Ok(())
}

/// The lowest spatial layer of a picture that depends on no other picture starts here.
pub(super) fn is_keyframe(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_ok_and(|descriptor| {
        descriptor.frame_start
            && !descriptor.inter_picture_predicted
            && descriptor.layer.is_none_or(|layer| layer.spatial == 0)
    })
}

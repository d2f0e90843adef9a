//! The VP8 payload descriptor (RFC 7741 §4.2), read and rewritten.

use crate::wire::ParseError;
use crate::wire::bytes::{Reader, Writer};

/// Longest descriptor: first byte, extension byte, picture id of two, TL0PICIDX, TID and KEYIDX.
pub const DESCRIPTOR_BYTES_MAX: usize = 6;

/// What stands before the VP8 bitstream in each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// N: no other picture refers to this one.
    pub non_reference: bool,
    /// S: the packet starts a partition.
    pub partition_start: bool,
    /// PID: which partition, 0 to 7.
    pub partition: u8,
    /// X: a byte of extension flags follows, even if none is set. Implied by any field below.
    pub extended: bool,
    /// Number of the picture.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX: number of the last picture of the lowest temporal layer; wraps.
    pub tl0_picture_index: Option<u8>,
    /// Temporal layer.
    pub temporal: Option<Temporal>,
    /// KEYIDX, 0 to 31: number of the key picture this one depends on.
    pub key_index: Option<u8>,
}

/// A picture id in the width its sender chose. Rewriting keeps the width, and so the length of the
/// packet; a receiver that was promised seven bits wraps at seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureId {
    /// 0 to 127 (M clear).
    Bits7(u8),
    /// 0 to 32,767 (M set).
    Bits15(u16),
}

impl PictureId {
    /// The number.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u16 {
        match self {
            Self::Bits7(value) => value as u16,
            Self::Bits15(value) => value,
        }
    }

    /// The largest number of its width: a mask.
    #[inline]
    #[must_use]
    pub const fn max(self) -> u16 {
        match self {
            Self::Bits7(_) => 0x7f,
            Self::Bits15(_) => 0x7fff,
        }
    }

    /// `value`, cut to the width of `self`.
    #[inline]
    #[must_use]
    pub const fn with_value(self, value: u16) -> Self {
        let value = value & self.max();
        match self {
            Self::Bits7(_) => Self::Bits7(value as u8),
            Self::Bits15(_) => Self::Bits15(value),
        }
    }
}

/// Temporal layer of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporal {
    /// TID, 0 to 3.
    pub layer: u8,
    /// Y: it depends on the lowest layer only, so a receiver may join the layer here.
    pub sync: bool,
}

impl Descriptor {
    /// Reads the descriptor at the front of a payload. Reserved bits are ignored.
    ///
    /// # Errors
    /// When the payload ends inside it.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(payload);
        let first = reader.u8()?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            extended: first & 0x80 != 0,
            ..Self::default()
        };
        if !descriptor.extended {
            return Ok(descriptor);
        }
        let flags = reader.u8()?;
        if flags & 0x80 != 0 {
            let high = reader.u8()?;
            descriptor.picture_id = Some(if high & 0x80 == 0 {
                PictureId::Bits7(high)
            } else {
                PictureId::Bits15(u16::from_be_bytes([high & 0x7f, reader.u8()?]))
            });
        }
        if flags & 0x40 != 0 {
            descriptor.tl0_picture_index = Some(reader.u8()?);
        }
        if flags & 0x30 != 0 {
            let layers = reader.u8()?;
            if flags & 0x20 != 0 {
                let temporal = Temporal {
                    layer: layers >> 6,
                    sync: layers & 0x20 != 0,
                };
                descriptor.temporal = Some(temporal);
            }
            if flags & 0x10 != 0 {
                descriptor.key_index = Some(layers & 0x1f);
            }
        }
        Ok(descriptor)
    }

    /// Bytes it takes, 1 to [`DESCRIPTOR_BYTES_MAX`]; of a parsed descriptor, where the bitstream
    /// begins.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        let picture_id = match self.picture_id {
            None => 0,
            Some(PictureId::Bits7(_)) => 1,
            Some(PictureId::Bits15(_)) => 2,
        };
        [
            self.is_extended(),
            self.tl0_picture_index.is_some(),
            self.temporal.is_some() || self.key_index.is_some(),
        ]
        .into_iter()
        .fold(1_usize.saturating_add(picture_id), |len, present| {
            len.saturating_add(usize::from(present))
        })
    }

    /// Never: a descriptor has at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes it to the front of `out` and gives its length: after a change of numbers only, that
    /// of the descriptor parsed. Values are cut to their widths. `None`, and `out` unchanged, when
    /// `out` is too short.
    #[inline]
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let len = self.len();
        let mut writer = Writer::new(out.get_mut(..len)?);
        writer.u8(u8::from(self.is_extended()) << 7
            | u8::from(self.non_reference) << 5
            | u8::from(self.partition_start) << 4
            | self.partition & 0x07);
        if !self.is_extended() {
            return Some(len);
        }
        writer.u8(u8::from(self.picture_id.is_some()) << 7
            | u8::from(self.tl0_picture_index.is_some()) << 6
            | u8::from(self.temporal.is_some()) << 5
            | u8::from(self.key_index.is_some()) << 4);
        match self.picture_id {
            None => {}
            Some(PictureId::Bits7(value)) => writer.u8(value & 0x7f),
            Some(PictureId::Bits15(value)) => writer.u16(0x8000 | value),
        }
        if let Some(index) = self.tl0_picture_index {
            writer.u8(index);
        }
        if self.temporal.is_some() || self.key_index.is_some() {
            let temporal = self.temporal.map_or(0, |temporal| {
                temporal.layer << 6 | u8::from(temporal.sync) << 5
            });
            writer.u8(temporal | self.key_index.map_or(0, |index| index & 0x1f));
        }
        Some(len)
    }

    fn is_extended(&self) -> bool {
        self.extended
            || self.picture_id.is_some()
            || self.tl0_picture_index.is_some()
            || self.temporal.is_some()
            || self.key_index.is_some()
    }
}

/// The first partition starts here, and the frame header says key picture: P is 0 (RFC 7741 §4.3).
pub(super) fn is_keyframe(payload: &[u8]) -> bool {
    let Ok(descriptor) = Descriptor::parse(payload) else {
        return false;
    };
    descriptor.partition_start
        && descriptor.partition == 0
        && payload
            .get(descriptor.len())
            .is_some_and(|header| header & 1 == 0)
}

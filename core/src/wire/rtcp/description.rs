//! Source descriptions and goodbyes (RFC 3550 §6.5, §6.6).

use std::iter;

use crate::wire::ParseError;
use crate::wire::bytes::Reader;

use super::{CompoundWriter, GOODBYE, SOURCE_DESCRIPTION};

/// SDES item type of the canonical name; type 0 ends a chunk.
const CNAME: u8 = 1;

/// Source description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDescription<'a> {
    count: usize,
    chunks: &'a [u8],
}

/// What a source description says of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceDescriptionChunk<'a> {
    /// The source.
    pub ssrc: u32,
    /// Its canonical name; `None` when not said.
    pub cname: Option<&'a [u8]>,
}

impl<'a> SourceDescription<'a> {
    pub(super) fn parse(count: usize, body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        for _ in 0..count {
            next_chunk(&mut reader)?;
        }
        Ok(Self {
            count,
            chunks: body,
        })
    }

    /// Its chunks, one a source.
    pub fn chunks(&self) -> impl Iterator<Item = SourceDescriptionChunk<'a>> + Clone + use<'a> {
        let mut reader = Reader::new(self.chunks);
        iter::repeat_n((), self.count).map_while(move |()| next_chunk(&mut reader).ok())
    }
}

fn next_chunk<'a>(reader: &mut Reader<'a>) -> Result<SourceDescriptionChunk<'a>, ParseError> {
    let mut chunk = SourceDescriptionChunk {
        ssrc: reader.u32()?,
        cname: None,
    };
    let before = reader.rest().len();
    loop {
        let item_type = reader.u8()?;
        if item_type == 0 {
            break;
        }
        let len = usize::from(reader.u8()?);
        let text = reader.bytes(len)?;
        if item_type == CNAME {
            chunk.cname = Some(text);
        }
    }
    // Zeroes fill the items up to a word; the one that ends them is the first.
    let read = before.saturating_sub(reader.rest().len());
    reader.bytes(read.wrapping_neg() % 4)?;
    Ok(chunk)
}

/// Goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye<'a> {
    ssrcs: &'a [[u8; 4]],
    /// Why; `None` when not said.
    pub reason: Option<&'a [u8]>,
}

impl<'a> Goodbye<'a> {
    pub(super) fn parse(count: usize, body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let ssrcs = reader.chunks(count)?;
        let reason = if reader.is_empty() {
            None
        } else {
            let len = usize::from(reader.u8()?);
            Some(reader.bytes(len)?)
        };
        Ok(Self { ssrcs, reason })
    }

    /// The sources that leave.
    pub fn ssrcs(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        self.ssrcs.iter().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

impl CompoundWriter<'_> {
    /// Appends a source description of one source by its canonical name, at most 255 bytes.
    #[must_use]
    pub fn source_description(&mut self, ssrc: u32, cname: &[u8]) -> bool {
        let Ok(cname_len) = u8::try_from(cname.len()) else {
            return false;
        };
        // Source, item type and length, text, and at least one zero.
        let unpadded = cname.len().saturating_add(7);
        let zeroes = unpadded.wrapping_neg() % 4;
        let body_len = unpadded.saturating_add(zeroes);
        self.packet(1, SOURCE_DESCRIPTION, body_len, |writer| {
            writer.u32(ssrc);
            writer.put([CNAME, cname_len]);
            writer.bytes(cname);
            writer.zeroes();
        })
    }

    /// Appends a goodbye of up to 31 sources, without a reason.
    #[must_use]
    pub fn goodbye(&mut self, ssrcs: &[u32]) -> bool {
        self.packet(
            ssrcs.len(),
            GOODBYE,
            ssrcs.len().saturating_mul(4),
            |writer| {
                ssrcs.iter().for_each(|&ssrc| writer.u32(ssrc));
            },
        )
    }
}

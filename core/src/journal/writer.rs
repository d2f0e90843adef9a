//! Entries to bytes.

use crc32fast::Hasher;

use super::record::{Header, Record};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;

/// The first bytes of a file.
pub const MAGIC: [u8; 8] = *b"antiphnJ";
/// Of the layout; another number is refused.
pub const VERSION: u16 = 2;

/// Of a file up to its header's end, without the name of the program; and to spare.
const HEADER_BYTES: usize = 512;
/// Length and checksum before each entry.
pub(super) const FRAME_BYTES: usize = 8;

/// The beginning of a file. The seed is in it: a secret.
#[must_use]
pub fn begin(header: Header) -> Vec<u8> {
    // At once, as what is left behind by growing is not wiped, and the seed is in it.
    let mut out = Vec::with_capacity(HEADER_BYTES + header.software.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    put(&mut out, &Record::Header(Box::new(header)));
    out
}

/// Adds an entry: its length and its CRC-32, four bytes each, little endian, and itself in postcard's coding. The
/// checksum covers the length too.
pub fn put(out: &mut Vec<u8>, record: &Record<'_>) {
    let fits = put_if_it_fits(out, record);
    debug_assert!(fits, "what a shard is given has limits of its own");
}

/// The same of an entry that may be longer than a reader takes, and then is not added; whether it was.
pub(super) fn put_if_it_fits(out: &mut Vec<u8>, record: &Record<'_>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    // Taken and put back, as the coder wants to own it.
    let coded = postcard::to_extend(record, std::mem::take(out));
    *out = coded.expect("every entry is of known length, and a vector takes what it is given");
    let (frame, body) = out[start..].split_at_mut(FRAME_BYTES);
    if body.len() > JOURNAL_RECORD_BYTES_MAX {
        out.truncate(start);
        return false;
    }
    let length = (body.len() as u32).to_le_bytes();
    frame[..4].copy_from_slice(&length);
    frame[4..].copy_from_slice(&checksum(length, body).to_le_bytes());
    true
}

/// A file of entries that are given as their bodies, the header's first, whatever those say.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn resound<'b>(bodies: impl Iterator<Item = &'b [u8]>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    for body in bodies {
        let length = (body.len() as u32).to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&checksum(length, body).to_le_bytes());
        out.extend_from_slice(body);
    }
    out
}

/// The body of one entry that was [`put`] alone.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn body(entry: &[u8]) -> &[u8] {
    entry.get(FRAME_BYTES..).unwrap_or_default()
}

pub(super) fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

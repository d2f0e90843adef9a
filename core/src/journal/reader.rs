//! Bytes to entries. Total: any bytes give entries and then, if they are not a whole journal, one error.

use super::record::{Header, Record};
use super::writer::{FRAME_BYTES, MAGIC, VERSION, checksum};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;

/// Why a journal cannot be read, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first bytes are another format's.
    #[error("this is not a journal")]
    NotAJournal,
    /// It was written by another version of the program.
    #[error("the journal has layout {found}; this program reads {VERSION}")]
    Version {
        /// Its layout.
        found: u16,
    },
    /// The first entry is not a header.
    #[error("the journal does not say what was recorded")]
    NoHeader,
    /// The last entry is not all there: the writer was cut off.
    #[error("the journal is cut off at byte {at}")]
    CutOff {
        /// Where the entry begins.
        at: usize,
    },
    /// An entry stands where no recorder puts one.
    #[error("the journal has an entry out of place at byte {at}")]
    OutOfPlace {
        /// Where the entry begins.
        at: usize,
    },
    /// An entry is not as it was written.
    #[error("the journal is damaged at byte {at}")]
    Damaged {
        /// Where the entry begins.
        at: usize,
    },
}

/// Reads a journal that lies in memory. Entries borrow from it; what one allocates is bounded by its own length.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    journal: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ReadError`]: nothing can be read.
    pub fn new(journal: &'a [u8]) -> Result<(Header, Self), ReadError> {
        let rest = journal.strip_prefix(&MAGIC).ok_or(ReadError::NotAJournal)?;
        let version = rest.first_chunk().ok_or(ReadError::NotAJournal)?;
        let found = u16::from_le_bytes(*version);
        if found != VERSION {
            return Err(ReadError::Version { found });
        }
        let mut reader = Self {
            journal,
            at: MAGIC.len() + size_of::<u16>(),
            failed: false,
        };
        match reader.next() {
            Some(Ok(Record::Header(header))) => Ok((*header, reader)),
            Some(Err(error)) => Err(error),
            _ => Err(ReadError::NoHeader),
        }
    }

    /// Reads on from where an entry begins.
    pub(super) const fn resumed(journal: &'a [u8], at: usize) -> Self {
        Self {
            journal,
            at,
            failed: false,
        }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Reads no further.
    pub(super) const fn give_up(&mut self) {
        self.failed = true;
    }

    fn read(&mut self, rest: &'a [u8]) -> Result<Record<'a>, ReadError> {
        let at = self.at;
        let cut_off = ReadError::CutOff { at };
        let damaged = ReadError::Damaged { at };
        let (frame, rest) = rest.split_first_chunk::<FRAME_BYTES>().ok_or(cut_off)?;
        let [length @ .., a, b, c, d] = *frame;
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > JOURNAL_RECORD_BYTES_MAX {
            return Err(damaged);
        }
        let body = rest.get(..bytes).ok_or(cut_off)?;
        if checksum(length, body) != u32::from_le_bytes([a, b, c, d]) {
            return Err(damaged);
        }
        let (record, left) = postcard::take_from_bytes(body).map_err(|_| damaged)?;
        let is_sound = match &record {
            Record::Received(slot) => slot.is_sound(),
            _ => true,
        };
        if !left.is_empty() || !is_sound {
            return Err(damaged);
        }
        self.at += FRAME_BYTES + bytes;
        Ok(record)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self
            .journal
            .get(self.at..)
            .filter(|rest| !rest.is_empty())?;
        if self.failed {
            return None;
        }
        let read = self.read(rest);
        self.failed = read.is_err();
        Some(read)
    }
}

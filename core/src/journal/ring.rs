//! The end of a journal, kept in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use zeroize::Zeroizing;

use super::record::{EndReason, Header, Record};
use super::recorder::Chunk;
use super::writer::{begin, put};
use crate::ids::SessionId;

/// The last chunks of one shard's recorder, and the last birth of each living session that is not in them.
///
/// ```text
/// forgotten ┊ pinned births │ oldest chunk … newest chunk
///           ┊ ▲ each as late as possible     ▲ each living session's birth again every 10 s
/// ```
#[derive(Debug)]
pub struct Ring {
    bytes_max: usize,
    bytes: usize,
    kept: VecDeque<Remembered>,
    pinned: BTreeMap<SessionId, Zeroizing<Vec<u8>>>,
}

#[derive(Debug)]
struct Remembered {
    bytes: Zeroizing<Vec<u8>>,
    births: Vec<(SessionId, Range<usize>)>,
    closed: Vec<SessionId>,
    is_cut_off: bool,
}

impl Ring {
    /// A ring of chunks of `bytes_max` together, but always of the last one. A pinned birth comes on top, 1 to 3 kB
    /// for each living session.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            kept: VecDeque::new(),
            pinned: BTreeMap::new(),
        }
    }

    /// Keeps a copy of a chunk, just as long as it is, and forgets what it has no room for.
    pub fn push(&mut self, chunk: &Chunk) {
        self.bytes += chunk.bytes().len();
        self.kept.push_back(Remembered {
            bytes: Zeroizing::new(chunk.bytes().to_vec()),
            births: chunk.births().to_vec(),
            closed: chunk.closed().to_vec(),
            is_cut_off: chunk.is_cut_off(),
        });
        while self.bytes > self.bytes_max && self.kept.len() > 1 {
            self.forget_oldest();
        }
    }

    /// A journal of what is kept, part by part. If a panic cut off its last turn it has no end: `reason` is not told.
    ///
    /// # Errors
    /// The first of `write`'s.
    pub fn dump<E>(
        &self,
        header: &Header,
        reason: EndReason,
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        write(&Zeroizing::new(begin(header.clone())))?;
        let chunks = self.kept.iter().map(|kept| &kept.bytes);
        self.pinned
            .values()
            .chain(chunks)
            .try_for_each(|bytes| write(bytes))?;
        if self.kept.back().is_some_and(|kept| kept.is_cut_off) {
            return Ok(());
        }
        let mut end = Vec::new();
        put(&mut end, &Record::End(reason));
        write(&end)
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.kept.pop_front() else {
            return;
        };
        self.bytes -= oldest.bytes.len();
        for (session, place) in oldest.births {
            if let Some(birth) = oldest.bytes.get(place) {
                self.pinned.insert(session, Zeroizing::new(birth.to_vec()));
            }
        }
        for session in oldest.closed {
            self.pinned.remove(&session);
        }
    }
}

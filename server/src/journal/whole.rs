//! All of a run, in one file a shard.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::Ordering;

use antiphon_core::journal::{EndReason, Header, Record, begin, put};
use tracing::{error, warn};
use zeroize::Zeroizing;

use super::{JournalFigures, Place};
use crate::limits::JOURNAL_END_BYTES;

/// The files of one run, by shard; none once they have ended.
pub(super) struct Whole {
    files: Vec<File>,
    bytes_left: u64,
}

impl Whole {
    pub(super) const fn new(files: Vec<File>, budget: u64) -> Self {
        let bytes_left = budget;
        Self { files, bytes_left }
    }

    pub(super) fn begin(
        &mut self,
        shard: usize,
        header: &Header,
        place: &Place,
        figures: &JournalFigures,
    ) {
        let bytes = Zeroizing::new(begin(header.clone()));
        self.keep(shard, &bytes, place, figures);
    }

    /// Writes bytes to a shard's file, or ends all files if the budget does not reach.
    pub(super) fn keep(
        &mut self,
        shard: usize,
        bytes: &[u8],
        place: &Place,
        figures: &JournalFigures,
    ) {
        let ends = self.files.len() * JOURNAL_END_BYTES;
        if (bytes.len() + ends) as u64 > self.bytes_left {
            self.spend_out(place, figures);
        } else {
            self.write(shard, bytes, place, figures);
        }
    }

    fn spend_out(&mut self, place: &Place, figures: &JournalFigures) {
        if figures.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let folder = place.folder.display();
        warn!(%folder, "the journal has reached journal_mib: it ends here");
        let mut end = Vec::with_capacity(JOURNAL_END_BYTES);
        put(&mut end, &Record::End(EndReason::BudgetSpent));
        for shard in 0..self.files.len() {
            self.write(shard, &end, place, figures);
        }
        self.files.clear();
    }

    fn write(&mut self, shard: usize, bytes: &[u8], place: &Place, figures: &JournalFigures) {
        let Some(file) = self.files.get_mut(shard) else {
            return;
        };
        match file.write_all(bytes) {
            Ok(()) => {
                self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
                figures.note_written(bytes.len());
            }
            Err(error) => {
                let folder = place.folder.display();
                error!(%folder, %error, "the journal cannot be written: it ends here");
                figures.is_closed.store(true, Ordering::Relaxed);
                self.files.clear();
            }
        }
    }
}

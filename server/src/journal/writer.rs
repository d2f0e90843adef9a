//! The thread that writes.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use antiphon_core::ids::ShardId;
use antiphon_core::journal::{Chunk, EndReason, Record, Retention, begin, put};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::{Begun, JournalChoice, Message, Shared};
use crate::limits::JOURNAL_END_BYTES;

/// Files of one run, by shard.
pub(super) struct Writer {
    files: Vec<Option<File>>,
    begun: Vec<Option<Box<Begun>>>,
    folder: String,
    bytes_left: u64,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(choice: &JournalChoice, files: Vec<File>, shared: Arc<Shared>) -> Self {
        let Retention::Whole { budget } = choice.retention else {
            unreachable!("rings are not written yet");
        };
        Self {
            begun: files.iter().map(|_| None).collect(),
            files: files.into_iter().map(Some).collect(),
            folder: choice.folder.display().to_string(),
            bytes_left: budget,
            shared,
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        info!(folder = %self.folder, "journalling all that the shards take in");
        while let Ok(message) = messages.recv() {
            if let Message::End = message {
                break;
            }
            self.handle(message);
        }
        self.shared.is_closed.store(true, Ordering::Relaxed);
        let figures = &self.shared.figures;
        let (bytes, records_lost) = (figures.bytes(), figures.records_lost());
        info!(folder = %self.folder, bytes, records_lost, "the journal has ended");
    }

    pub(super) fn handle(&mut self, message: Message) {
        match message {
            Message::Begin(shard, begun) => self.on_begin(shard, begun),
            Message::Chunk(shard, chunk) => self.on_chunk(shard, chunk),
            Message::End => {}
        }
    }

    fn on_begin(&mut self, shard: ShardId, begun: Box<Begun>) {
        let bytes = Zeroizing::new(begin(begun.header.clone()));
        self.keep(shard, &bytes);
        if let Some(place) = self.begun.get_mut(usize::from(shard.0)) {
            *place = Some(begun);
        }
    }

    fn on_chunk(&mut self, shard: ShardId, mut chunk: Chunk) {
        self.keep(shard, chunk.bytes());
        chunk.clear();
        if let Some(Some(begun)) = self.begun.get(usize::from(shard.0)) {
            begun.under_way.fetch_sub(1, Ordering::Relaxed);
            // Its shard may have ended.
            begun.home.send(chunk).ok();
        }
    }

    /// Writes bytes to a shard's file, or ends all files if the budget does not reach.
    fn keep(&mut self, shard: ShardId, bytes: &[u8]) {
        let ends = (self.files.len() * JOURNAL_END_BYTES) as u64;
        if bytes.len() as u64 + ends > self.bytes_left {
            self.spend_out();
        } else {
            self.write(usize::from(shard.0), bytes);
        }
    }

    fn spend_out(&mut self) {
        if self.shared.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        warn!(folder = %self.folder, "the journal has reached journal_mib: it ends here");
        let mut end = Vec::with_capacity(JOURNAL_END_BYTES);
        put(&mut end, &Record::End(EndReason::BudgetSpent));
        for place in 0..self.files.len() {
            self.write(place, &end);
        }
        self.files.clear();
    }

    fn write(&mut self, place: usize, bytes: &[u8]) {
        let Some(Some(file)) = self.files.get_mut(place) else {
            return;
        };
        match file.write_all(bytes) {
            Ok(()) => {
                self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
                let written = &self.shared.figures.bytes;
                written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                error!(folder = %self.folder, %error, "the journal cannot be written: it ends here");
                self.shared.is_closed.store(true, Ordering::Relaxed);
                self.files.clear();
            }
        }
    }
}

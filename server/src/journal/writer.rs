//! The thread that writes.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use antiphon_core::ids::ShardId;
use antiphon_core::journal::{Chunk, EndReason};
use tracing::info;

use super::rings::Rings;
use super::whole::Whole;
use super::{Begun, JournalFigures, Message, Place};

/// What becomes of chunks.
pub(super) enum Keeping {
    /// They are written as they come.
    Whole(Whole),
    /// The last of them are, when there is a reason to.
    Rings(Rings),
}

/// Takes what shards hand over.
pub(super) struct Writer {
    keeping: Keeping,
    begun: Vec<Option<Box<Begun>>>,
    place: Place,
    figures: Arc<JournalFigures>,
}

impl Writer {
    pub(super) fn whole(
        place: Place,
        files: Vec<File>,
        budget: u64,
        figures: Arc<JournalFigures>,
    ) -> Self {
        Self {
            begun: files.iter().map(|_| None).collect(),
            keeping: Keeping::Whole(Whole::new(files, budget)),
            place,
            figures,
        }
    }

    pub(super) fn rings(
        place: Place,
        shards: u16,
        bytes: u64,
        figures: Arc<JournalFigures>,
    ) -> Self {
        Self {
            begun: (0..shards).map(|_| None).collect(),
            keeping: Keeping::Rings(Rings::new(shards, bytes)),
            place,
            figures,
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let folder = self.place.folder.display().to_string();
        info!(%folder, "journalling all that the shards take in");
        while let Ok(message) = messages.recv() {
            if let Message::End = message {
                break;
            }
            self.handle(message);
        }
        self.figures.is_closed.store(true, Ordering::Relaxed);
        let figures = &self.figures;
        let (bytes, records_lost) = (figures.bytes(), figures.records_lost());
        info!(%folder, bytes, records_lost, "the journal has ended");
    }

    pub(super) fn handle(&mut self, message: Message) {
        match message {
            Message::Begin(shard, begun) => self.on_begin(shard, begun),
            Message::Chunk(shard, chunk) => self.on_chunk(shard, chunk),
            Message::Dump => self.on_dump(),
            Message::End => {}
        }
    }

    fn on_begin(&mut self, shard: ShardId, begun: Box<Begun>) {
        let shard = usize::from(shard.0);
        if let Keeping::Whole(whole) = &mut self.keeping {
            whole.begin(shard, &begun.header, &self.place, &self.figures);
        }
        if let Some(place) = self.begun.get_mut(shard) {
            *place = Some(begun);
        }
    }

    fn on_chunk(&mut self, shard: ShardId, mut chunk: Chunk) {
        let shard = usize::from(shard.0);
        let Some(Some(begun)) = self.begun.get(shard) else {
            return;
        };
        let (place, figures) = (&self.place, &*self.figures);
        match &mut self.keeping {
            Keeping::Whole(whole) => whole.keep(shard, chunk.bytes(), place, figures),
            Keeping::Rings(rings) => rings.keep(shard, &chunk, &begun.header, place, figures),
        }
        chunk.clear();
        begun.under_way.fetch_sub(1, Ordering::Relaxed);
        // Its shard may have ended.
        begun.home.send(chunk).ok();
    }

    fn on_dump(&self) {
        let Keeping::Rings(rings) = &self.keeping else {
            info!("the journal is whole: all of it is in its files");
            return;
        };
        let number = self.figures.note_dump();
        for (shard, begun) in self.begun.iter().enumerate() {
            if let Some(begun) = begun {
                let (place, reason) = (&self.place, EndReason::Asked);
                rings.dump((shard, number), &begun.header, reason, place, &self.figures);
            }
        }
    }
}

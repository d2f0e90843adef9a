//! `--journal`: all that a live server's shards take in, in files that replay to the same run.
//!
//! ```text
//! shard threads: Recorder ── Feed ── chunks of whole turns ──► writer thread ─┬─ blocks ──► one file a shard
//!                   ▲─────────────── empty chunks ◄───────────────┘          └─ rings in memory ── a fault ──► a file
//! ```
//!
//! A shard thread copies and never waits: when the writer falls behind and all chunks are under way, turns are left
//! out and counted, and the file says where and how many.

mod rings;
mod whole;
mod writer;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use antiphon_core::drive::Pump;
use antiphon_core::ids::ShardId;
use antiphon_core::journal::{Chunk, Header, Payloads, Recorder, Retention, Sink, Taken};
use antiphon_core::shard::Shard;
use tracing::error;

use self::writer::Writer;
use crate::limits::JOURNAL_CHUNKS;
use crate::secret_file;
use crate::wall::{rfc3339, unix_now};

/// The same for the folder, if it has to be made.
const FOLDER_MODE: u32 = 0o700;

/// What is recorded, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalChoice {
    /// A folder; made if only it is missing.
    pub folder: PathBuf,
    /// What is kept of media.
    pub payloads: Payloads,
    /// What is kept when there is no room for all; bytes of all shards together.
    pub retention: Retention,
}

/// Why a journal did not start.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder or a file in it.
    #[error(
        "cannot create {path} (journal): {error}; it must be a folder that can be written, or a new one beside others"
    )]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The thread.
    #[error("cannot start the thread that writes the journal: {0}")]
    Thread(io::Error),
}

/// What became of it so far, of all shards together.
#[derive(Debug, Default)]
pub struct JournalFigures {
    bytes: AtomicU64,
    records_lost: AtomicU64,
    dumps: AtomicU64,
    dumps_failed: AtomicU64,
    /// Nothing is kept any more.
    is_closed: AtomicBool,
}

impl JournalFigures {
    /// Bytes written to files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Entries left out because the writer had fallen behind.
    #[must_use]
    pub fn records_lost(&self) -> u64 {
        self.records_lost.load(Ordering::Relaxed)
    }

    /// Times that rings were to be written.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.dumps.load(Ordering::Relaxed)
    }

    /// Of these, those that came to no whole file.
    #[must_use]
    pub fn dumps_failed(&self) -> u64 {
        self.dumps_failed.load(Ordering::Relaxed)
    }

    /// Whether what happens now is recorded: not once the budget is spent or a file could not be written.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    fn note_written(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The number of one more dump, from 1.
    fn note_dump(&self) -> u64 {
        self.dumps.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Where the files of a run go.
#[derive(Clone, Debug)]
struct Place {
    folder: PathBuf,
    /// By its start, in UTC; no two runs in one folder have the same.
    run: String,
}

impl Place {
    fn path(&self, shard: usize, suffix: &str) -> PathBuf {
        let name = format!("{}-shard-{shard}{suffix}.journal", self.run);
        self.folder.join(name)
    }
}

/// A journal under way. Dropped before [`finish`](Self::finish), as when the server does not start, it leaves no file.
#[derive(Debug)]
pub struct Journal {
    handle: JournalHandle,
    /// Files that are there from the start.
    paths: Vec<PathBuf>,
    thread: Option<JoinHandle<()>>,
}

/// What shards reach the writer by. It may outlive the journal; what is given then is refused.
#[derive(Clone, Debug)]
pub struct JournalHandle {
    choice: Arc<JournalChoice>,
    messages: Sender<Message>,
    figures: Arc<JournalFigures>,
}

enum Message {
    Begin(ShardId, Box<Begun>),
    Chunk(ShardId, Chunk),
    /// Write the rings.
    Dump,
    End,
}

/// A shard that is recorded.
struct Begun {
    header: Header,
    /// Where its chunks go when they are empty.
    home: Sender<Chunk>,
    under_way: Arc<AtomicUsize>,
}

impl Journal {
    /// Makes the folder if need be, and starts the thread that writes to it; a file for each of `shards` is created at
    /// once if all is to be kept.
    ///
    /// # Errors
    /// [`JournalError`], naming what cannot be created.
    pub fn start(choice: &JournalChoice, shards: u16) -> Result<Self, JournalError> {
        make_folder(&choice.folder)?;
        let place = Place {
            folder: choice.folder.clone(),
            run: rfc3339(unix_now()).replace(':', "-"),
        };
        let (messages, received) = mpsc::channel();
        let mut journal = Self {
            handle: JournalHandle {
                choice: Arc::new(choice.clone()),
                messages,
                figures: Arc::default(),
            },
            paths: Vec::new(),
            thread: None,
        };
        let figures = Arc::clone(&journal.handle.figures);
        let writer = match choice.retention {
            Retention::Whole { budget } => {
                let mut files = Vec::new();
                for shard in 0..usize::from(shards) {
                    let path = place.path(shard, "");
                    files.push(create(&path)?);
                    journal.paths.push(path);
                }
                Writer::whole(place, files, budget, figures)
            }
            Retention::Ring { bytes } => {
                // Better to know now than at the fault.
                let probe = place.path(0, "-probe");
                create(&probe)?;
                std::fs::remove_file(&probe).ok();
                Writer::rings(place, shards, bytes, figures)
            }
        };
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&received));
        journal.thread = Some(thread.map_err(JournalError::Thread)?);
        Ok(journal)
    }

    /// For the shards.
    #[must_use]
    pub fn handle(&self) -> JournalHandle {
        self.handle.clone()
    }

    /// Writes what was handed over so far and closes the files. Shards should have ended.
    pub fn finish(mut self) {
        self.paths.clear();
        self.end();
    }

    fn end(&mut self) {
        self.handle.messages.send(Message::End).ok();
        let thread = self.thread.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that wrote the journal had panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
        for path in &self.paths {
            // A journal of nothing.
            std::fs::remove_file(path).ok();
        }
    }
}

impl JournalHandle {
    /// A pump for a shard that has handled nothing yet, with a recorder of all that it will.
    #[must_use]
    pub fn record(self, shard: Shard) -> Pump {
        let JournalChoice {
            payloads,
            retention,
            ..
        } = *self.choice;
        let header = Header::new(&shard, env!("CARGO_PKG_VERSION"), payloads, retention);
        let (home, empty) = mpsc::channel();
        let under_way = Arc::default();
        let feed = Feed {
            shard: header.shard,
            messages: self.messages,
            figures: self.figures,
            empty,
            under_way: Arc::clone(&under_way),
        };
        let begun = Begun {
            header,
            home,
            under_way,
        };
        let begin = Message::Begin(feed.shard, Box::new(begun));
        // If the journal has ended, the first chunk will be told.
        feed.messages.send(begin).ok();
        let mut recorder = Recorder::new(Box::new(feed), payloads);
        if let Retention::Ring { .. } = retention {
            recorder = recorder.with_births();
        }
        Pump::new(shard).with_recorder(recorder)
    }

    /// Writes what rings hold now, a file a shard.
    pub fn dump(&self) {
        // If the journal has ended there is nothing to write.
        self.messages.send(Message::Dump).ok();
    }

    /// What became of the journal so far.
    #[must_use]
    pub fn figures(&self) -> Arc<JournalFigures> {
        Arc::clone(&self.figures)
    }
}

/// The shard's end of the way to the writer.
struct Feed {
    shard: ShardId,
    messages: Sender<Message>,
    figures: Arc<JournalFigures>,
    empty: Receiver<Chunk>,
    under_way: Arc<AtomicUsize>,
}

impl Sink for Feed {
    fn take(&mut self, chunk: Chunk) -> Taken {
        if self.figures.is_closed.load(Ordering::Relaxed) {
            return Taken::Closed;
        }
        // One more for a fault, lest nobody hear of it; and the last, after which nobody says what is missing.
        let room = JOURNAL_CHUNKS + usize::from(chunk.faulted());
        if self.under_way.load(Ordering::Relaxed) >= room && !chunk.is_last() {
            let lost = &self.figures.records_lost;
            lost.fetch_add(chunk.records(), Ordering::Relaxed);
            return Taken::Full(chunk);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let message = Message::Chunk(self.shard, chunk);
        match self.messages.send(message) {
            Ok(()) => Taken::Kept,
            Err(_) => Taken::Closed,
        }
    }

    fn spare(&mut self) -> Option<Chunk> {
        self.empty.try_recv().ok()
    }
}

fn make_folder(folder: &Path) -> Result<(), JournalError> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(_) if folder.is_dir() => Ok(()),
        made => made.map_err(|error| JournalError::Create {
            path: folder.to_owned(),
            error,
        }),
    }
}

/// A file of a journal.
fn create(path: &Path) -> Result<File, JournalError> {
    secret_file::create(path).map_err(|error| JournalError::Create {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests;

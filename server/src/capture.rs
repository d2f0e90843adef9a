//! `--capture`: a live server's datagrams in a pcapng file, both directions, with the secrets to open them if asked.
//!
//! ```text
//! shard threads: Recorder ── chunks of copied datagrams ──► writer thread ── blocks ──► file
//!                   ▲────────────── empty chunks ◄──────────────┘
//! DTLS key derivation ── lines of the key log ─────────────────┘
//! ```
//!
//! A shard thread copies and never waits: when the writer falls behind and all chunks are under way, datagrams are left
//! out and counted, and the file says where and how many.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use antiphon_core::drive::{Sent, Watch};
use antiphon_core::ids::ShardId;
use antiphon_core::net::{Datagram, Ecn};
use antiphon_core::replay::pcapng;
use antiphon_core::session::transport::SecretSink;
use antiphon_core::time::{Epoch, Timestamp};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::limits::{
    CAPTURE_CHUNK_BYTES, CAPTURE_CHUNK_DATAGRAMS, CAPTURE_CHUNKS, CAPTURE_SECRETS_MAX,
};
use crate::secret_file;
use crate::wall::unix_now;

/// More than any block adds to its payload: headers, made up and of the block, options and padding.
const BLOCK_OVERHEAD_BYTES: usize = 128;

/// Why a capture did not start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file.
    #[error(
        "cannot create capture = {path}: {error}; it must be a new file in a folder that is there"
    )]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The thread.
    #[error("cannot start the thread that writes the capture: {0}")]
    Thread(io::Error),
}

/// A capture under way. Dropped before [`finish`](Self::finish), as when the server does not start, it leaves no file.
#[derive(Debug)]
pub struct Capture {
    handle: CaptureHandle,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

/// What recorders and the sink of secrets reach the writer by. It may outlive the capture; what is given then is lost.
#[derive(Clone, Debug)]
pub struct CaptureHandle {
    messages: Sender<Message>,
    /// Secrets on their way to the writer.
    secrets: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Message {
    Chunk(Chunk),
    Secret(Zeroizing<String>),
    End,
}

/// Copied datagrams on their way to the file, and empty on the way back.
#[derive(Debug)]
struct Chunk {
    shard: ShardId,
    records: Vec<Record>,
    bytes: Vec<u8>,
    /// Datagrams left out before the first of these.
    dropped_before: u64,
    home: Sender<Self>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    unix: Duration,
    source: SocketAddr,
    destination: SocketAddr,
    ecn: Option<Ecn>,
    outbound: bool,
    len: usize,
}

impl Capture {
    /// Creates the file and starts the thread that writes it, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`CaptureError`]: most often that the file is there already. It is never written over.
    pub fn start(path: &Path, shards: u16, bytes_max: u64) -> Result<Self, CaptureError> {
        let file = secret_file::create(path).map_err(|error| CaptureError::Create {
            path: path.to_owned(),
            error,
        })?;
        let (messages, received) = mpsc::channel();
        let handle = CaptureHandle {
            messages,
            secrets: Arc::default(),
        };
        let secrets = Arc::clone(&handle.secrets);
        let writer = Writer::new(file, path.to_owned(), shards, bytes_max, secrets);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(CaptureError::Thread)?;
        Ok(Self {
            handle,
            path: path.to_owned(),
            thread: Some(thread),
        })
    }

    /// For recorders and the sink of secrets.
    #[must_use]
    pub fn handle(&self) -> CaptureHandle {
        self.handle.clone()
    }

    /// Writes what was handed over so far and closes the file. Shards should have ended.
    pub fn finish(mut self) {
        self.handle.messages.send(Message::End).ok();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            error!("the thread that wrote the capture had panicked");
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // Else the next start would find it in its way.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

impl CaptureHandle {
    /// Takes the secrets of DTLS handshakes. A line is in the file before the packets that need it.
    #[must_use]
    pub fn secret_sink(&self) -> SecretSink {
        let Self { messages, secrets } = self.clone();
        Box::new(move |line| {
            // Only a disk that hangs lets them pile up.
            if secrets.fetch_add(1, Ordering::Relaxed) < CAPTURE_SECRETS_MAX {
                let secret = Message::Secret(Zeroizing::new(line.to_owned()));
                messages.send(secret).ok();
            } else {
                secrets.fetch_sub(1, Ordering::Relaxed);
            }
        })
    }
}

/// Copies datagrams of one shard. Allocates nothing once made.
#[derive(Debug)]
pub struct Recorder {
    messages: Sender<Message>,
    epoch: Epoch,
    empty: Receiver<Chunk>,
    /// Those that came back, with room for all.
    spare: Vec<Chunk>,
    filling: Option<Chunk>,
    /// Datagrams left out since the last chunk began.
    dropped: u64,
}

impl Watch for Recorder {
    fn note_received(&mut self, datagram: &Datagram<'_>) {
        let record = Record {
            unix: self.epoch.unix(datagram.received),
            source: datagram.source,
            destination: datagram.destination,
            ecn: datagram.ecn,
            outbound: false,
            len: datagram.contents.len(),
        };
        self.add(record, datagram.contents);
    }

    fn note_sent(&mut self, now: Timestamp, source: SocketAddr, sent: Sent<'_>) {
        let record = Record {
            unix: self.epoch.unix(now),
            source,
            destination: sent.destination,
            ecn: sent.ecn,
            outbound: true,
            len: sent.contents.len(),
        };
        self.add(record, sent.contents);
    }

    /// Hands over what the turn brought; once half the chunks are under way, turns share the rest.
    fn note_turn(&mut self) {
        self.spare.extend(self.empty.try_iter());
        if self.spare.len() >= CAPTURE_CHUNKS / 2 {
            self.hand_over();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Recorder {
    /// A recorder of one shard, with its chunks.
    #[must_use]
    pub fn new(handle: CaptureHandle, shard: ShardId, epoch: Epoch) -> Self {
        let (home, empty) = mpsc::channel();
        for _ in 0..CAPTURE_CHUNKS {
            let chunk = Chunk {
                shard,
                records: Vec::with_capacity(CAPTURE_CHUNK_DATAGRAMS),
                bytes: Vec::with_capacity(CAPTURE_CHUNK_BYTES),
                dropped_before: 0,
                home: home.clone(),
            };
            // The other end is in scope.
            home.send(chunk).ok();
        }
        Self {
            messages: handle.messages,
            epoch,
            empty,
            spare: Vec::with_capacity(CAPTURE_CHUNKS),
            filling: None,
            dropped: 0,
        }
    }

    fn add(&mut self, record: Record, contents: &[u8]) {
        let is_full = |chunk: &Chunk| {
            chunk.records.len() == CAPTURE_CHUNK_DATAGRAMS
                || chunk.bytes.len() + contents.len() > CAPTURE_CHUNK_BYTES
        };
        if self.filling.as_ref().is_some_and(is_full) {
            self.hand_over();
        }
        if self.filling.is_none() {
            self.filling = self.spare.pop().or_else(|| self.empty.try_recv().ok());
            if let Some(chunk) = &mut self.filling {
                chunk.dropped_before = std::mem::take(&mut self.dropped);
            }
        }
        match &mut self.filling {
            Some(chunk) => {
                chunk.records.push(record);
                chunk.bytes.extend_from_slice(contents);
            }
            None => self.dropped += 1,
        }
    }

    fn hand_over(&mut self) {
        if let Some(chunk) = self.filling.take() {
            // The capture may have ended: then nobody takes it, and nothing more is recorded.
            self.messages.send(Message::Chunk(chunk)).ok();
        }
    }
}

/// The file, and what stands in it.
struct Writer {
    /// `None` once it could not be written.
    file: Option<File>,
    path: PathBuf,
    blocks: Zeroizing<Vec<u8>>,
    bytes_left: u64,
    is_full: bool,
    /// Datagrams seen and left out, a shard each.
    counts: Vec<(u64, u64)>,
    secrets: Arc<AtomicUsize>,
}

impl Writer {
    fn new(
        file: File,
        path: PathBuf,
        shards: u16,
        bytes_max: u64,
        secrets: Arc<AtomicUsize>,
    ) -> Self {
        let mut blocks = Zeroizing::new(Vec::with_capacity(2 * CAPTURE_CHUNK_BYTES));
        pcapng::section_header(&mut blocks, concat!("Antiphon ", env!("CARGO_PKG_VERSION")));
        for shard in 0..shards {
            pcapng::interface(&mut blocks, &format!("shard-{shard}"));
        }
        Self {
            file: Some(file),
            path,
            blocks,
            bytes_left: bytes_max,
            is_full: false,
            counts: vec![(0, 0); usize::from(shards)],
            secrets,
        }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        info!(path = %self.path.display(), "capturing every datagram");
        self.write();
        while let Ok(message) = messages.recv() {
            // Together what came meanwhile, and in the file what came before a pause.
            let mut next = Some(message);
            while let Some(message) = next {
                match message {
                    Message::Chunk(chunk) => self.on_chunk(chunk),
                    Message::Secret(line) => self.on_secret(&line),
                    Message::End => return self.end(),
                }
                next = messages.try_recv().ok();
            }
            self.write();
        }
    }

    fn on_secret(&mut self, line: &str) {
        self.secrets.fetch_sub(1, Ordering::Relaxed);
        if self.has_room(line.len()) {
            pcapng::key_log(&mut self.blocks, line.as_bytes());
        }
    }

    fn on_chunk(&mut self, mut chunk: Chunk) {
        let shard = usize::from(chunk.shard.0);
        let mut dropped = std::mem::take(&mut chunk.dropped_before);
        self.note(shard, dropped, dropped);
        let mut rest = &chunk.bytes[..];
        for record in chunk.records.drain(..) {
            let (payload, after) = rest.split_at(record.len);
            rest = after;
            if !self.has_room(payload.len()) {
                self.note(shard, 1, 1);
                continue;
            }
            self.note(shard, 1, 0);
            let packet = pcapng::Packet {
                interface: chunk.shard.0.into(),
                unix: record.unix,
                source: record.source,
                destination: record.destination,
                ecn: record.ecn,
                outbound: record.outbound,
                dropped_before: std::mem::take(&mut dropped),
                payload,
            };
            pcapng::packet(&mut self.blocks, &packet);
            if self.blocks.len() >= CAPTURE_CHUNK_BYTES {
                self.write();
            }
        }
        chunk.bytes.clear();
        // Its shard may have ended.
        chunk.home.clone().send(chunk).ok();
    }

    fn note(&mut self, shard: usize, seen: u64, dropped: u64) {
        if let Some(counts) = self.counts.get_mut(shard) {
            counts.0 += seen;
            counts.1 += dropped;
        }
    }

    /// Whether a block for `len` bytes fits the file; once one does not, none does.
    fn has_room(&mut self, len: usize) -> bool {
        let needed = (self.blocks.len() + len + BLOCK_OVERHEAD_BYTES) as u64;
        if !self.is_full && needed > self.bytes_left {
            warn!(path = %self.path.display(), "the capture has reached capture_mib: the rest is left out");
            self.is_full = true;
        }
        !self.is_full && self.file.is_some()
    }

    fn write(&mut self) {
        let written = match &mut self.file {
            Some(file) => file.write_all(&self.blocks),
            None => Ok(()),
        };
        if let Err(error) = written {
            let path = self.path.display();
            error!(%path, %error, "the capture cannot be written: the rest is left out");
            self.file = None;
        }
        let len = self.blocks.len() as u64;
        self.bytes_left = self.bytes_left.saturating_sub(len);
        self.blocks.clear();
    }

    fn end(mut self) {
        let unix = unix_now();
        for (interface, (seen, dropped)) in (0..).zip(&self.counts) {
            pcapng::statistics(&mut self.blocks, interface, unix, *seen, *dropped);
        }
        self.write();
        let sum = |part: fn(&(u64, u64)) -> u64| self.counts.iter().map(part).sum::<u64>();
        let (seen, dropped) = (sum(|counts| counts.0), sum(|counts| counts.1));
        info!(path = %self.path.display(), seen, dropped, "the capture has ended");
    }
}

#[cfg(test)]
mod tests {
    use antiphon_core::replay::{CaptureReader, Replay, Report, Settings};
    use antiphon_udp::Clock;

    use super::*;

    const HERE: &str = "192.0.2.1:40000";
    const PEER: &str = "192.0.2.2:5000";

    fn recorder(handle: CaptureHandle) -> Recorder {
        Recorder::new(handle, ShardId(0), Clock::start().epoch())
    }

    fn send(recorder: &mut Recorder, contents: &[u8]) {
        let sent = Sent {
            destination: PEER.parse().unwrap(),
            ecn: None,
            contents,
        };
        recorder.note_sent(Timestamp::from_millis(5), HERE.parse().unwrap(), sent);
    }

    fn free(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("antiphon-{}-{name}", std::process::id()));
        std::fs::remove_file(&path).ok();
        path
    }

    fn report(path: &Path) -> Report {
        let mut replay = Replay::new(Settings::default());
        let mut reader = CaptureReader::new(File::open(path).unwrap()).unwrap();
        while reader.step(&mut |item| replay.handle(item)).unwrap() {}
        std::fs::remove_file(path).unwrap();
        replay.finish()
    }

    /// A writer that hangs: nothing comes back until the recorder has run out of chunks.
    #[test]
    fn what_finds_no_room_is_left_out_and_the_file_says_how_many() {
        let (messages, received) = mpsc::channel();
        let secrets = Arc::default();
        let handle = CaptureHandle { messages, secrets };
        let mut recorder = recorder(handle.clone());
        let room = CAPTURE_CHUNKS * CAPTURE_CHUNK_DATAGRAMS;
        for _ in 0..room + 70 {
            send(&mut recorder, b"datagram");
        }
        recorder.note_turn();

        let path = free("hung.pcapng");
        let file = File::create_new(&path).unwrap();
        let mut writer = Writer::new(file, path.clone(), 1, 1 << 30, handle.secrets);
        for message in received.try_iter() {
            let Message::Chunk(chunk) = message else {
                panic!("only chunks were sent");
            };
            writer.on_chunk(chunk);
        }
        send(&mut recorder, b"the next");
        recorder.note_turn();
        let Ok(Message::Chunk(chunk)) = received.try_recv() else {
            panic!("there is room again");
        };
        assert_eq!(chunk.dropped_before, 70);
        writer.on_chunk(chunk);
        writer.end();
        let totals = report(&path).totals;
        assert_eq!(totals.frames, room as u64 + 1);
        assert_eq!(totals.capture_dropped, 70);
    }

    /// The writer hangs for more turns than there are chunks; what is left when the shard ends is handed over.
    #[test]
    fn turns_share_chunks_while_the_writer_is_behind() {
        let (messages, received) = mpsc::channel();
        let secrets = Arc::default();
        let mut recorder = recorder(CaptureHandle { messages, secrets });
        let turns = CAPTURE_CHUNKS / 2 * CAPTURE_CHUNK_DATAGRAMS;
        for _ in 0..turns {
            send(&mut recorder, b"datagram");
            recorder.note_turn();
        }
        assert_eq!(recorder.dropped, 0);
        drop(recorder);
        let records = received.try_iter().map(|message| match message {
            Message::Chunk(chunk) => chunk.records.len(),
            _ => 0,
        });
        assert_eq!(records.sum::<usize>(), turns);
    }

    /// All of it fits the chunks, so that nothing is left out for want of those.
    #[test]
    fn a_full_file_stays_within_its_limit_and_says_what_is_missing() {
        let path = free("full.pcapng");
        let bytes_max = 200_000;
        let capture = Capture::start(&path, 1, bytes_max).unwrap();
        let mut recorder = recorder(capture.handle());
        for _ in 0..1_000 {
            send(&mut recorder, &[7; 1_000]);
        }
        recorder.note_turn();
        capture.finish();
        let len = std::fs::metadata(&path).unwrap().len();
        // The counts at the end are beyond it, and short.
        assert!((150_000..bytes_max + 200).contains(&len), "{len}");
        let totals = report(&path).totals;
        assert_eq!(totals.frames + totals.capture_dropped, 1_000);
        assert!(totals.frames > 150);
        // Nobody listens any more.
        send(&mut recorder, b"late");
        recorder.note_turn();
    }
}

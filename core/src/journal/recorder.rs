//! Takes down what passes a port.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroize;

use super::birth::{Birth, Births, Counts};
use super::record::{EndReason, Lost, Payloads, Record, Rest, Slot};
use super::writer::{FRAME_BYTES, put};
use crate::drive::{DigestValue, Port, RecvBatch, TransmitBatch};
use crate::ids::{SessionId, ShardId};
use crate::limits::{JOURNAL_CHUNK_AGE_MAX, JOURNAL_CHUNK_BYTES, JOURNAL_RECORD_BYTES_MAX};
use crate::message::{Command, Event};
use crate::relay::Relay;
use crate::shard::Shard;
use crate::time::Timestamp;

/// Bytes of one entry with its frame, at most.
const ENTRY_BYTES: usize = FRAME_BYTES + JOURNAL_RECORD_BYTES_MAX;
/// Bytes a chunk has memory for: one that is not full yet, a turn of as much again, and any entry. A turn of more, as
/// of many full receive slots, moves it.
const CHUNK_CAPACITY: usize = 2 * JOURNAL_CHUNK_BYTES + ENTRY_BYTES;

/// Where chunks go, off the thread of the shard.
pub trait Sink: Send {
    /// Takes a chunk, or not. Never blocks. A sink should have room left for a chunk in which a session
    /// [`faulted`](Chunk::faulted), and for the [last](Chunk::is_last), after which none comes to say what is missing.
    fn take(&mut self, chunk: Chunk) -> Taken;

    /// An emptied chunk to fill again; `None`: make one.
    fn spare(&mut self) -> Option<Chunk>;
}

/// A sink that keeps everything, in memory that its clones share.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// What was kept so far; nothing of it is kept any more.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Kept {
    fn take(&mut self, chunk: Chunk) -> Taken {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(chunk.bytes());
        Taken::Kept
    }

    fn spare(&mut self) -> Option<Chunk> {
        None
    }
}

/// What became of a chunk.
#[derive(Debug)]
pub enum Taken {
    /// It will be kept.
    Kept,
    /// There was no room for it; there may be for the next.
    Full(Chunk),
    /// Nothing is kept any more.
    Closed,
}

/// A run of whole turns as they stand in a file, unless a panic cut off the last of them. Keys are in it, so
/// it is wiped when dropped, and leaves no copy behind when it grows. Emptied to be filled again it keeps what was in
/// it until that is written over.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    records: u64,
    faulted: bool,
    is_last: bool,
    is_cut_off: bool,
    /// Where births stand in it.
    births: Vec<(SessionId, Range<usize>)>,
    /// Sessions that ended in it, or in others since the last that was taken.
    closed: Vec<SessionId>,
}

impl Chunk {
    /// The entries.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many they are.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Whether a session faulted in its last turn or the whole shard panicked, or in a chunk before it that was not
    /// taken.
    #[must_use]
    pub const fn faulted(&self) -> bool {
        self.faulted
    }

    /// Whether its recorder hands over no other.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    /// Whether it ends in the middle of a turn, after which nothing can stand.
    pub(super) const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    pub(super) fn births(&self) -> &[(SessionId, Range<usize>)] {
        &self.births
    }

    pub(super) fn closed(&self) -> &[SessionId] {
        &self.closed
    }

    pub(super) fn put_birth(&mut self, birth: Birth) {
        let (session, start) = (birth.session, self.bytes.len());
        self.put(&Record::Birth(Box::new(birth)));
        self.births.push((session, start..self.bytes.len()));
    }

    /// Empties it and keeps its memory, unless that grew out of bounds.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > CHUNK_CAPACITY {
            *self = Self::default();
        }
        self.bytes.clear();
        self.records = 0;
        self.faulted = false;
        self.is_last = false;
        self.is_cut_off = false;
        self.births.clear();
        self.closed.clear();
    }

    pub(super) fn put(&mut self, record: &Record<'_>) {
        self.make_room();
        put(&mut self.bytes, record);
        self.records += 1;
    }

    /// Makes room for any entry. A vector that grew by itself would free what it leaves without wiping it.
    fn make_room(&mut self) {
        let needed = self.bytes.len() + ENTRY_BYTES;
        if needed > self.bytes.capacity() {
            let capacity = CHUNK_CAPACITY.max(2 * self.bytes.len() + ENTRY_BYTES);
            let mut moved = Vec::with_capacity(capacity);
            moved.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = moved;
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Fills chunks with what a pump takes in and gives out.
///
/// Costs a copy of each datagram and a hash of each transmit. Allocates chunks until enough of them come back empty.
pub struct Recorder {
    sink: Box<dyn Sink>,
    payloads: Payloads,
    chunk: Chunk,
    /// When the first turn of the chunk began; `None`: nothing is in it but what was lost before it.
    began: Option<Timestamp>,
    /// What was not taken, and not yet told.
    lost: Lost,
    /// The turn under way, or the last; and whether it was written that it began, and not yet that it ended.
    turn: (Timestamp, bool),
    /// The last turn of all in which nothing happened, until another is written.
    idle: Option<Timestamp>,
    before: Before,
    /// Where the sink may forget what came first.
    births: Option<Births>,
    is_closed: bool,
}

/// A shard before a turn: what shows that the turn was none of those in which nothing happens, and what a chunk begins
/// with.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    wheel_pulls: u64,
    faults: u64,
    counts: Counts,
}

impl Recorder {
    /// A recorder that has recorded nothing. The sink has written the header: see [`begin`](super::begin).
    #[must_use]
    pub fn new(sink: Box<dyn Sink>, payloads: Payloads) -> Self {
        Self {
            sink,
            payloads,
            chunk: Chunk::default(),
            began: None,
            lost: Lost::default(),
            turn: (Timestamp::ZERO, false),
            idle: None,
            before: Before::default(),
            births: None,
            is_closed: false,
        }
    }

    /// Also writes how sessions stand, again and again, for a sink that forgets: a [`Ring`](super::Ring).
    #[must_use]
    pub fn with_births(mut self) -> Self {
        self.births = Some(Births::default());
        self
    }

    /// Nothing is kept any more: it can be dropped.
    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn begin_turn(&mut self, now: Timestamp, shard: &Shard) {
        self.turn = (now, false);
        self.before = Before::of(shard);
        if let Some(births) = &mut self.births {
            births.begin_turn(shard);
        }
        // Timers leave no trace of their own at the port.
        if shard.deadline().is_some_and(|deadline| deadline <= now) {
            self.open_turn();
        }
    }

    pub(crate) fn end_turn(&mut self, shard: &mut Shard, outputs: DigestValue) {
        let after = Before::of(shard);
        for (session, outcome) in shard.drain_handshakes() {
            let outcome = match self.payloads {
                Payloads::Full => outcome,
                Payloads::Headers => outcome.without_keys(),
            };
            if let Some(births) = &mut self.births {
                births.note_handshake(session, &outcome);
            }
            self.put(&Record::Handshake(session, outcome));
        }
        let (now, is_open) = self.turn;
        if is_open {
            let deadline = shard.deadline();
            self.chunk.put(&Record::Rest(Rest {
                deadline,
                outputs: outputs.0 as u64,
            }));
            self.turn.1 = false;
            let faults = after.faults != self.before.faults;
            self.chunk.faulted |= faults;
            if let Some(births) = &mut self.births {
                births.sweep(now, shard, &mut self.chunk);
            }
            if faults || self.chunk.bytes.len() >= JOURNAL_CHUNK_BYTES {
                self.hand_over();
            }
        } else if after.wheel_pulls != self.before.wheel_pulls {
            self.idle = None;
            self.begin_chunk();
            self.chunk.put(&Record::Idle(now));
        } else {
            self.idle = Some(now);
        }
        if self.due().is_some_and(|due| due <= now) {
            self.hand_over();
        }
    }

    /// When the chunk is to be handed over, full or not. There is to be a turn then.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        Some(self.began? + JOURNAL_CHUNK_AGE_MAX)
    }

    fn note_event(&mut self, event: &Event) {
        if let Some(births) = &mut self.births {
            births.note_event(self.turn.0, event);
            if let Event::Closed { session, .. } = event {
                self.chunk.closed.push(*session);
            }
        }
    }

    fn put(&mut self, record: &Record<'_>) {
        self.open_turn();
        self.chunk.put(record);
    }

    fn open_turn(&mut self) {
        if std::mem::replace(&mut self.turn.1, true) {
            return;
        }
        self.begin_chunk();
        // Of the turns in which nothing happened only the last moved the shard's clock to where it was.
        if let Some(idle) = self.idle.take() {
            self.chunk.put(&Record::Idle(idle));
        }
        self.chunk.put(&Record::Turn(self.turn.0));
    }

    fn begin_chunk(&mut self) {
        if self.began.is_none() {
            self.began = Some(self.turn.0);
            // Each chunk may be the first that is known.
            if self.births.is_some() {
                self.chunk.put(&Record::Counts(self.before.counts));
            }
        }
    }

    fn hand_over(&mut self) {
        let mut next = self.sink.spare().unwrap_or_default();
        next.clear();
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.began = None;
        match self.sink.take(chunk) {
            Taken::Kept => self.lost = Lost::default(),
            Taken::Full(mut chunk) => {
                // What it said of losses before it is told again with the next.
                self.lost.records += chunk.records;
                self.lost.bytes += chunk.bytes.len() as u64;
                let (closed, faulted) = (std::mem::take(&mut chunk.closed), chunk.faulted);
                chunk.clear();
                chunk.closed = closed;
                // What led to the fault is gone, that there was one is not.
                chunk.faulted = faulted;
                self.births.iter_mut().for_each(Births::note_lost);
                self.chunk = chunk;
                self.chunk.put(&Record::Lost(self.lost));
            }
            Taken::Closed => self.is_closed = true,
        }
    }
}

/// Whoever drops the pump ends the recording. If it was a panic in a turn, what was recorded of the turn stands at the
/// end, which is cut off: an entry that says how it ended would be out of place.
impl Drop for Recorder {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let (_, is_open) = self.turn;
        if !is_open {
            self.chunk.put(&Record::End(EndReason::Stopped));
        }
        self.chunk.is_cut_off = is_open;
        self.chunk.is_last = true;
        // A panic of the whole shard is a fault as well.
        self.chunk.faulted |= std::thread::panicking();
        self.hand_over();
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Before {
    fn of(shard: &Shard) -> Self {
        Self {
            wheel_pulls: shard.wheel_pulls(),
            faults: shard.stats().faults,
            counts: shard.counts(),
        }
    }
}

/// A port with a recorder beside it.
pub(crate) struct Tap<'a, P> {
    port: &'a mut P,
    recorder: &'a mut Recorder,
    /// When the last send call returned: a second look at the clock would give another time than the one recorded.
    sent: Option<Timestamp>,
}

impl<'a, P: Port> Tap<'a, P> {
    pub(crate) const fn new(port: &'a mut P, recorder: &'a mut Recorder) -> Self {
        Self {
            port,
            recorder,
            sent: None,
        }
    }
}

impl<P: Port> Port for Tap<'_, P> {
    fn now(&self) -> Timestamp {
        self.sent.unwrap_or_else(|| self.port.now())
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        self.port.recv(batch);
        let mut is_first = true;
        for (meta, contents) in batch.slots() {
            let slot = Slot::new(meta, contents, self.recorder.payloads, is_first);
            self.recorder.put(&Record::Received(slot));
            is_first = false;
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        let command = self.port.next_command()?;
        let kept = match self.recorder.payloads {
            Payloads::Full => Cow::Borrowed(&command),
            Payloads::Headers => command.with_silence(),
        };
        self.recorder.put(&Record::Command(kept));
        Some(command)
    }

    fn next_relay(&mut self) -> Option<(ShardId, Relay)> {
        let (from, relay) = self.port.next_relay()?;
        let kept = match self.recorder.payloads {
            Payloads::Full => Cow::Borrowed(&relay),
            Payloads::Headers => Cow::Owned(relay.without_media()),
        };
        self.recorder.put(&Record::Relay(from, kept));
        Some((from, relay))
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        let waiting = batch.len();
        self.port.send(batch);
        let at = self.port.now();
        self.sent = Some(at);
        let count = (waiting - batch.len()) as u32;
        self.recorder.put(&Record::Sent { at, count });
    }

    fn relay(&mut self, to: ShardId, relay: Relay) {
        self.port.relay(to, relay);
    }

    fn emit(&mut self, event: Event) {
        let kept = match self.recorder.payloads {
            Payloads::Full => event.with_sound_hashed(),
            Payloads::Headers => event.with_nothing_said(),
        };
        self.recorder.put(&Record::Event(kept));
        self.recorder.note_event(&event);
        self.port.emit(event);
    }
}

//! The link to the shards: commands out, events in, answers matched to questions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_core::drive::{Full, Mailbox, RelayLanes};
use antiphon_core::ids::{RequestId, SessionId, ShardId};
use antiphon_core::limits::EVENTS_MAX;
use antiphon_core::message::{CloseReason, Command, Event};
use antiphon_udp::SocketCounters;
use tokio::sync::{mpsc, oneshot};

use crate::sessions::Draft;

/// A running shard, as the server holds it.
pub struct Link {
    /// The command lane.
    pub commands: Mailbox<Command>,
    /// The event lane. Its end means that the shard has stopped.
    pub events: mpsc::Receiver<Event>,
    /// Where it lives.
    pub site: Site,
    /// Stops the shard's thread and waits for it, so that its last datagrams are sent. May block.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// Where a shard lives: its socket and its processor.
#[derive(Clone, Debug)]
pub struct Site {
    /// The shard's UDP port.
    pub port: u16,
    /// The processor it has to itself, if it has one.
    pub cpu: Option<usize>,
    /// What the kernel gave the socket for receiving, in bytes.
    pub receive_buffer_bytes: usize,
    /// What the socket counts.
    pub socket: Arc<SocketCounters>,
    /// Events that may be lost and were, because the server was behind.
    pub events_lost: Arc<AtomicU64>,
    /// The lanes among all shards, which count what each put in.
    pub relays: RelayLanes,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// The shard's end of an event lane.
#[derive(Clone, Debug)]
pub struct EventSink {
    lane: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// A new event lane of [`EVENTS_MAX`] events.
#[must_use]
pub fn event_lane() -> (EventSink, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let sink = EventSink {
        lane: sender,
        lost: Arc::default(),
    };
    (sink, receiver)
}

impl EventSink {
    /// Hands an event to the server, without blocking. One that may be lost is, and counted, while more than half of
    /// the lane is taken: what may not needs the rest.
    ///
    /// # Panics
    /// When the lane is full: the server has stalled for 65,536 events, and the lane may not lose one.
    /// The shard ends, which the server takes as the end of the process.
    pub fn emit(&self, event: Event) {
        if event.may_be_lost() && self.lane.capacity() < EVENTS_MAX / 2 {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.lane.try_send(event) {
            panic!("the server has stopped reading events");
        }
    }

    /// Counts the events that were lost.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }
}

/// The command lane was full: the shard is overloaded. The draft comes back.
#[derive(Debug)]
pub struct LaneFull(pub Option<Box<Draft>>);

/// A question that a shard has not answered.
#[derive(Debug)]
pub struct Question {
    /// Which shard was asked.
    pub shard: ShardId,
    /// Who waits; nobody any more when the client went away.
    pub reply: oneshot::Sender<Event>,
    /// What to record when the question is an `Open` and the answer `Opened`.
    pub draft: Option<Box<Draft>>,
}

/// The command lanes of all shards, and the questions under way.
#[derive(Debug)]
pub struct Control {
    lanes: Vec<Mailbox<Command>>,
    questions: Mutex<Questions>,
}

#[derive(Debug, Default)]
struct Questions {
    asked: u64,
    open: BTreeMap<RequestId, Question>,
}

impl Control {
    /// Over these lanes, in the order of shard numbers.
    #[must_use]
    pub fn new(lanes: Vec<Mailbox<Command>>) -> Self {
        Self {
            lanes,
            questions: Mutex::default(),
        }
    }

    /// Each shard's number.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.lanes.len() as u16).map(ShardId)
    }

    /// Sends the command that `make` builds and gives the receiver of its answer.
    ///
    /// # Errors
    /// [`LaneFull`]; nothing was sent.
    pub fn ask(
        &self,
        shard: ShardId,
        draft: Option<Box<Draft>>,
        make: impl FnOnce(RequestId) -> Command,
    ) -> Result<oneshot::Receiver<Event>, LaneFull> {
        let (reply, answer) = oneshot::channel();
        let request = {
            let mut questions = self.lock();
            questions.asked += 1;
            let request = RequestId(questions.asked);
            questions.open.insert(
                request,
                Question {
                    shard,
                    reply,
                    draft,
                },
            );
            request
        };
        if self.push(shard, make(request)) {
            return Ok(answer);
        }
        Err(LaneFull(
            self.answered(request).and_then(|question| question.draft),
        ))
    }

    /// Sends a command that nobody waits for the answer of.
    ///
    /// # Errors
    /// [`Full`] with the command.
    pub fn tell(&self, shard: ShardId, command: Command) -> Result<(), Full<Command>> {
        match self.lanes.get(usize::from(shard.0)) {
            Some(lane) => lane.try_push(command),
            None => Err(Full(command)),
        }
    }

    /// Asks a shard to end a session; `false` when the lane is full.
    #[must_use]
    pub fn close(&self, session: SessionId, reason: CloseReason) -> bool {
        self.push(session.shard, Command::Close { session, reason })
    }

    /// The question that an event answers; it is no longer open.
    #[must_use]
    pub fn answered(&self, request: RequestId) -> Option<Question> {
        self.lock().open.remove(&request)
    }

    /// Questions under way.
    #[must_use]
    pub fn open_questions(&self) -> usize {
        self.lock().open.len()
    }

    fn push(&self, shard: ShardId, command: Command) -> bool {
        self.tell(shard, command).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

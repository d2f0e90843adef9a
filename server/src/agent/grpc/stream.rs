//! One stream of a call: what is heard goes out, what the program asks for comes in, neither waits for the other.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::voice::message::{AgentAsk, CallTime, Heard};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::flow::{Ahead, Bucket};
use super::proto::to_agent::What;
use super::proto::{self, FromAgent, ToAgent, end};
use super::wire::{self, Wish};
use crate::agent::call::{Call, Ear, Mouth};
use crate::limits::{
    ASK_TIMEOUT, PROGRAM_MESSAGES_BURST, PROGRAM_MESSAGES_EACH_SECOND, PROGRAM_OUTGOING_MAX,
    PROGRAM_READ_TIMEOUT, SAY_AHEAD_MAX,
};

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Fate {
    /// The call has ended.
    Ended,
    /// The program closed its end.
    HungUp,
    /// It broke off.
    Lost(Status),
    /// The program did not read.
    Stalled,
    /// The program broke a rule.
    AtFault(Status),
    /// Another stream took the call up.
    TakenOver(Incoming),
}

/// A stream as it comes: what the program will say, once its headers are here, and the end to tell it things.
pub(super) struct Incoming {
    /// Completes with the program's side.
    pub(super) opening: Pin<Box<dyn Future<Output = Result<Streaming<FromAgent>, Status>> + Send>>,
    /// Our side.
    pub(super) teller: Teller,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

/// Tells a program things, and why nothing more comes.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    messages: mpsc::Sender<ToAgent>,
    last: Arc<Mutex<Option<Status>>>,
}

/// What a program is told, as a stream.
#[derive(Debug)]
pub(super) struct Told {
    messages: mpsc::Receiver<ToAgent>,
    last: Arc<Mutex<Option<Status>>>,
}

/// Both ends of what a program is told.
pub(super) fn telling() -> (Teller, Told) {
    let (sender, messages) = mpsc::channel(PROGRAM_OUTGOING_MAX);
    let last = Arc::default();
    let teller = Teller {
        messages: sender,
        last: Arc::clone(&last),
    };
    (teller, Told { messages, last })
}

impl Stream for Told {
    type Item = Result<ToAgent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages
            .poll_recv(context)
            .map(|message| match message {
                Some(message) => Some(Ok(message)),
                None => lock(&self.last).take().map(Err),
            })
    }
}

impl Teller {
    /// `false` when the stream is gone.
    async fn tell(&self, message: ToAgent) -> bool {
        self.messages.send(message).await.is_ok()
    }

    /// The last words. A program that does not read may miss them, and gets the status alone.
    fn finish(&self, at: CallTime, kind: end::Kind, status: Option<Status>) {
        let detail = status.as_ref().map(Status::message).unwrap_or_default();
        let end = proto::End {
            kind: kind.into(),
            detail: detail.to_owned(),
        };
        // Full, or gone.
        self.messages
            .try_send(wire::at_time(at, What::End(end)))
            .ok();
        *lock(&self.last) = status;
    }
}

/// What both halves of a stream share.
struct Shared {
    began: Instant,
    teller: Teller,
    books: Mutex<Books>,
    /// The queue of what is said got shorter than was thought.
    emptied: Notify,
}

#[derive(Default)]
struct Books {
    ahead: Ahead,
    /// The latest time that the shard told.
    at: CallTime,
}

/// Serves one stream until something ends it. `greeting` is told first.
pub(super) async fn attend(
    call: &mut Call,
    incoming: Incoming,
    greeting: Vec<ToAgent>,
    others: &mut mpsc::Receiver<Incoming>,
) -> Fate {
    let shared = Shared {
        began: Instant::now(),
        teller: incoming.teller,
        books: Mutex::default(),
        emptied: Notify::new(),
    };
    let rate = call.seat.plan.rate;
    call.ear.forgive();
    let fate = tokio::select! {
        fate = hear(&shared, &mut call.ear, rate, greeting) => fate,
        fate = speak(&shared, &call.mouth, call.seat.dtmf, incoming.opening) => fate,
        Some(other) = others.recv() => Fate::TakenOver(other),
    };
    let at = lock(&shared.books).at;
    match &fate {
        Fate::Lost(_) => {}
        Fate::Ended | Fate::HungUp => shared.teller.finish(at, end::Kind::CallEnded, None),
        Fate::Stalled => {
            let status = Status::resource_exhausted("the program did not read what it was told");
            shared.teller.finish(at, end::Kind::Stalled, Some(status));
        }
        Fate::AtFault(status) => shared
            .teller
            .finish(at, end::Kind::AtFault, Some(status.clone())),
        Fate::TakenOver(_) => {
            let status = Status::aborted("another stream took the call up");
            shared.teller.finish(at, end::Kind::TakenOver, Some(status));
        }
    }
    fate
}

/// From the call to the program.
async fn hear(shared: &Shared, ear: &mut Ear, rate: Rate, greeting: Vec<ToAgent>) -> Fate {
    for message in greeting {
        if let Err(fate) = tell(shared, ear, message).await {
            return fate;
        }
    }
    while let Some(heard) = ear.next().await {
        shared.note(&heard);
        let Some(message) = wire::told(heard, rate, ear.lost()) else {
            continue;
        };
        if let Err(fate) = tell(shared, ear, message).await {
            return fate;
        }
    }
    Fate::Ended
}

async fn tell(shared: &Shared, ear: &Ear, message: ToAgent) -> Result<(), Fate> {
    tokio::select! {
        told = shared.teller.tell(message) => {
            let gone = || Fate::Lost(Status::cancelled("the program went away"));
            if told { Ok(()) } else { Err(gone()) }
        }
        () = ear.stalled() => Err(Fate::Stalled),
        () = tokio::time::sleep(PROGRAM_READ_TIMEOUT) => Err(Fate::Stalled),
    }
}

/// From the program to the call.
async fn speak(
    shared: &Shared,
    mouth: &Mouth,
    dtmf: bool,
    opening: impl Future<Output = Result<Streaming<FromAgent>, Status>>,
) -> Fate {
    let mut messages = match opening.await {
        Ok(messages) => messages,
        Err(status) => return Fate::Lost(status),
    };
    let mut bucket = Bucket::new(PROGRAM_MESSAGES_EACH_SECOND, PROGRAM_MESSAGES_BURST);
    loop {
        shared.until_room().await;
        let message = match messages.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Fate::HungUp,
            // Of our own making: what was sent is no message, or one too large.
            Err(status) if is_rule_broken(&status) => return Fate::AtFault(status),
            Err(status) => return Fate::Lost(status),
        };
        if !bucket.take(shared.began.elapsed()) {
            let rule = format!("more than {PROGRAM_MESSAGES_EACH_SECOND} messages a second");
            return Fate::AtFault(Status::resource_exhausted(rule));
        }
        let refusal = match wire::wish(message) {
            Ok(Wish::Asks(asks)) if !dtmf && matches!(asks[..], [AgentAsk::Dtmf { .. }]) => {
                let reason = "the caller's offer has no telephone-event";
                Some((asks[0].name(), reason.to_owned()))
            }
            Ok(Wish::Asks(asks)) => shared.ask(mouth, asks).await,
            Ok(Wish::HangUp) => {
                // The end of the call follows, and ends the stream.
                mouth.hang_up().await;
                None
            }
            Ok(Wish::Refused(what, reason)) => Some((what, reason.to_owned())),
            Ok(Wish::Nothing) => None,
            Err(status) => return Fate::AtFault(status),
        };
        if let Some((what, reason)) = refusal {
            let what = what.to_owned();
            shared
                .tell_aside(What::Refused(proto::Refused { what, reason }))
                .await;
        }
    }
}

/// Statuses with which tonic itself refuses a message: too large, or no message at all.
fn is_rule_broken(status: &Status) -> bool {
    use std::error::Error as _;
    let refused = [
        tonic::Code::OutOfRange,
        tonic::Code::Internal,
        tonic::Code::Unimplemented,
    ];
    // What came from the connection has a source; what the decoder says has none.
    refused.contains(&status.code()) && status.source().is_none()
}

impl Shared {
    fn note(&self, heard: &Heard) {
        let mut books = lock(&self.books);
        if let Heard::Playout { at, queued, .. } = heard {
            books.at = *at;
            books
                .ahead
                .note(self.began.elapsed(), Duration::from_micros(*queued));
            self.emptied.notify_one();
        } else if let Heard::Audio { at, .. } = heard {
            books.at = *at;
        }
    }

    /// Passes asks on; what and why, if one was not.
    async fn ask(&self, mouth: &Mouth, asks: Vec<AgentAsk>) -> Option<(&'static str, String)> {
        for ask in asks {
            let name = ask.name();
            if let AgentAsk::Say { pcm, rate, .. } = &ask {
                let micros = pcm.len() as u64 / 2 * 1_000_000 / u64::from(rate.hz());
                let mut books = lock(&self.books);
                books
                    .ahead
                    .say(self.began.elapsed(), Duration::from_micros(micros));
            }
            if let Err(overloaded) = mouth.ask(ask).await {
                return Some((name, overloaded.to_string()));
            }
        }
        None
    }

    /// Waits until the program is not too far ahead: meanwhile its stream is not read, and HTTP/2 holds it back.
    async fn until_room(&self) {
        let mut waited = false;
        loop {
            let queued = lock(&self.books).ahead.queued(self.began.elapsed());
            let excess = queued.saturating_sub(SAY_AHEAD_MAX);
            if excess.is_zero() {
                if waited {
                    self.tell_flow(queued).await;
                }
                return;
            }
            if !waited {
                waited = true;
                self.tell_flow(queued).await;
            }
            tokio::select! {
                () = tokio::time::sleep(excess) => {}
                () = self.emptied.notified() => {}
            }
        }
    }

    async fn tell_flow(&self, queued: Duration) {
        let flow = proto::Flow {
            queued_us: queued.as_micros() as u64,
            high_water_us: SAY_AHEAD_MAX.as_micros() as u64,
        };
        self.tell_aside(What::Flow(flow)).await;
    }

    /// Tells something that the call has not said. That the stream is gone, the other half learns.
    async fn tell_aside(&self, what: What) {
        let at = lock(&self.books).at;
        let telling = self.teller.tell(wire::at_time(at, what));
        tokio::time::timeout(ASK_TIMEOUT, telling).await.ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

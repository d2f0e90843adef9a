//! A call as the program that answers it has it, and the server's end of all such calls.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_core::drive::Full;
use antiphon_core::ids::SessionId;
use antiphon_core::message::Command;
use antiphon_core::voice::message::{AgentAsk, AgentPlan, Eagerness, Heard};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::agent::meters::AgentMeters;
use crate::agent::voice::{Frame, Timeline};
use crate::app::App;
use crate::limits::{
    ASK_RETRY, ASK_TIMEOUT, CALL_HEARD_KEPT, CALL_HEARD_MAX, FATE_DETAIL_BYTES_MAX,
};
use crate::rooms::Name;

/// Which agent a session was opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSeat {
    /// The agent's name.
    pub name: Name,
    /// What the call is opened with.
    pub plan: AgentPlan,
    /// The caller takes keys that are pressed (RFC 4733).
    pub dtmf: bool,
}

/// The lane to a call's shard stayed full: the ask was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the media engine is overloaded")]
pub struct Overloaded;

/// A call, as the program that answers it has it. The call lives on when this is dropped, unheard.
#[derive(Debug)]
pub struct Call {
    /// Who is called, and how.
    pub seat: AgentSeat,
    /// What is heard.
    pub ear: Ear,
    /// What is asked for.
    pub mouth: Mouth,
}

/// The hearing half of a call.
#[derive(Debug)]
pub struct Ear {
    heard: mpsc::Receiver<Heard>,
    shared: Arc<Shared>,
}

/// The asking half of a call.
#[derive(Clone, Debug)]
pub struct Mouth {
    session: SessionId,
    app: Arc<App>,
}

/// What both ends of a queue see.
#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    stalled: Notify,
}

impl Call {
    /// The session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.mouth.session
    }

    /// The next that was heard; `None` when the call has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        self.ear.next().await
    }

    /// Asks for something. A full lane is tried again for a while.
    ///
    /// # Errors
    /// [`Overloaded`]. A call that has ended is no error: [`Call::next`] says so.
    pub async fn ask(&self, ask: AgentAsk) -> Result<(), Overloaded> {
        self.mouth.ask(ask).await
    }

    /// Pieces of sound that were dropped because the program was slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ear.lost()
    }

    /// Ends the call.
    pub async fn hang_up(&self) {
        self.mouth.hang_up().await;
    }

    /// Ends the call because of its program: the log has a line of it, and the timeline's last event says why.
    pub async fn give_up(&self, reason: &'static str, detail: &str) {
        let detail = &detail[..detail.floor_char_boundary(FATE_DETAIL_BYTES_MAX)];
        let (session, agent) = (self.session(), &self.seat.name);
        warn!(%session, %agent, reason, detail, "a call ends because of its program");
        self.mouth.app.calls.note_fate(session, reason, detail);
        self.hang_up().await;
    }
}

impl Ear {
    /// As [`Call::next`].
    pub async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// As [`Call::lost`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Completes when something that may not be lost found no room in the queue: the program does not read.
    pub fn stalled(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.stalled.notified().await }
    }

    /// Throws away what waits, after a stall.
    pub fn clear(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }

    /// Forgets a stall that nobody has waited for: another program is not to blame for it.
    pub fn forgive(&self) {
        pin!(self.shared.stalled.notified()).enable();
    }
}

impl Mouth {
    /// As [`Call::ask`].
    ///
    /// # Errors
    /// [`Overloaded`].
    pub async fn ask(&self, ask: AgentAsk) -> Result<(), Overloaded> {
        if let AgentAsk::Eagerness(eagerness) = ask {
            self.app.calls.note_eagerness(self.session, eagerness);
        }
        let session = self.session;
        let mut command = Command::Agent { session, ask };
        let deadline = Instant::now() + ASK_TIMEOUT;
        while let Err(Full(refused)) = self.app.control.tell(session.shard, command) {
            if Instant::now() >= deadline {
                return Err(Overloaded);
            }
            command = refused;
            tokio::time::sleep(ASK_RETRY).await;
        }
        Ok(())
    }

    /// As [`Call::hang_up`].
    pub async fn hang_up(&self) {
        let deadline = Instant::now() + ASK_TIMEOUT;
        while self.app.delete(self.session).is_err() {
            if Instant::now() >= deadline {
                debug!(session = %self.session, "a call could not be ended: the lane is full");
                return;
            }
            tokio::time::sleep(ASK_RETRY).await;
        }
    }

    /// What calls count.
    #[must_use]
    pub fn meters(&self) -> &AgentMeters {
        &self.app.meters.agents
    }
}

/// The server's end of all calls with agents.
#[derive(Debug, Default)]
pub struct Calls {
    lines: Mutex<BTreeMap<SessionId, Line>>,
}

#[derive(Debug)]
struct Line {
    seat: AgentSeat,
    heard: mpsc::Sender<Heard>,
    shared: Arc<Shared>,
    /// Until the call connects and its agent takes it.
    unanswered: Option<mpsc::Receiver<Heard>>,
    timeline: Timeline,
}

impl Calls {
    /// A call was opened. Nobody hears it yet.
    pub fn open(&self, session: SessionId, seat: AgentSeat) {
        let (heard, receiver) = mpsc::channel(CALL_HEARD_MAX);
        let line = Line {
            timeline: Timeline::new(seat.plan.rate),
            seat,
            heard,
            shared: Arc::default(),
            unanswered: Some(receiver),
        };
        self.lock().insert(session, line);
    }

    /// The call, for its agent; `None` when it is none, or was taken before.
    #[must_use]
    pub fn take(&self, app: &Arc<App>, session: SessionId) -> Option<Call> {
        let mut lines = self.lock();
        let line = lines.get_mut(&session)?;
        let ear = Ear {
            heard: line.unanswered.take()?,
            shared: Arc::clone(&line.shared),
        };
        let mouth = Mouth {
            session,
            app: Arc::clone(app),
        };
        Some(Call {
            seat: line.seat.clone(),
            ear,
            mouth,
        })
    }

    /// A call has ended.
    pub fn close(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    /// Passes on what was heard, without waiting. Of a program that is slow sound is dropped first; when the rest
    /// finds no room either, the program has stalled.
    pub fn hear(&self, session: SessionId, heard: Heard, meters: &AgentMeters) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(&session) else {
            return;
        };
        meters.note_heard(&heard);
        line.timeline.note(&heard);
        let is_sound = matches!(heard, Heard::Audio { .. });
        if is_sound && line.heard.capacity() <= CALL_HEARD_KEPT {
            line.shared.lost.fetch_add(1, Ordering::Relaxed);
            meters.dropped.inc();
        } else if let Err(mpsc::error::TrySendError::Full(_)) = line.heard.try_send(heard) {
            line.shared.stalled.notify_one();
        }
    }

    /// Listens to the timeline of a call: what it is, and what happens from now on.
    #[must_use]
    pub(super) fn listen(
        &self,
        session: SessionId,
    ) -> Option<(AgentSeat, broadcast::Receiver<Frame>)> {
        let lines = self.lock();
        let line = lines.get(&session)?;
        Some((line.seat.clone(), line.timeline.listen()))
    }

    /// The rate of what a call hears; `None` when it is none.
    #[cfg(feature = "onnx")]
    #[must_use]
    pub fn rate(&self, session: SessionId) -> Option<antiphon_core::audio::Rate> {
        Some(self.lock().get(&session)?.seat.plan.rate)
    }

    /// Calls now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn note_fate(&self, session: SessionId, reason: &str, detail: &str) {
        if let Some(line) = self.lock().get_mut(&session) {
            line.timeline.note_fate(reason, detail);
        }
    }

    fn note_eagerness(&self, session: SessionId, eagerness: Eagerness) {
        if let Some(line) = self.lock().get_mut(&session) {
            line.seat.plan.eagerness = eagerness;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

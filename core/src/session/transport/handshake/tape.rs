//! Outcomes of handshake calls: taken down in one run, played back in another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Called, KeyingMaterial, Step};
use crate::ids::SessionId;
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::net::Path;
use crate::session::transport::Sink;
use crate::time::Timestamp;

/// All that a session sees of one call into its handshake.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Datagrams sent, in order, over the path of the call.
    pub datagrams: Vec<Vec<u8>>,
    /// What it came to.
    pub result: HandshakeResult,
    /// When the next call is due; `None`: nothing is pending. Of no meaning after a refusal.
    pub deadline: Option<Timestamp>,
}

/// What a call into a handshake came to.
#[derive(Debug, Serialize, Deserialize)]
pub enum HandshakeResult {
    /// The datagram was refused and changed nothing.
    Refused(DropReason),
    /// Nothing to tell.
    Pending,
    /// Done: the profile agreed and its keys. A secret.
    Connected(ProfileName, KeyingMaterial),
    /// Over.
    Closed(CloseReason),
    /// The library panicked, after it had sent this much: the session is a fault, now as then.
    Panicked,
}

impl Outcome {
    /// The same with zeros for keys.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        if let HandshakeResult::Connected(_, keys) = &mut self.result {
            keys.zeroize();
        }
        self
    }

    pub(super) fn called(self) -> Called {
        let step = match self.result {
            HandshakeResult::Refused(reason) => return Err(reason),
            HandshakeResult::Pending => Step::Pending,
            HandshakeResult::Connected(profile, keys) => Step::Connected(profile, keys),
            HandshakeResult::Closed(reason) => Step::Closed(reason),
            HandshakeResult::Panicked => panic!("the DTLS library panicked in the recorded run"),
        };
        Ok((step, self.deadline))
    }
}

/// Outcomes that wait to be played, by session. Clones share them: the player fills one end, the handshakes of
/// the replayed shard take from the other, all on one thread.
#[derive(Clone, Default)]
pub struct Tape {
    waiting: Arc<Mutex<BTreeMap<SessionId, VecDeque<Outcome>>>>,
}

impl Tape {
    /// Queues the outcome of a session's next call.
    pub fn push(&self, session: SessionId, outcome: Outcome) {
        self.lock().entry(session).or_default().push_back(outcome);
    }

    /// Outcomes not played yet: not zero after the inputs that caused them means that the replay went another way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().values().map(VecDeque::len).sum()
    }

    /// Forgets those not played.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Whether every outcome was played.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // An empty queue is removed.
        self.lock().is_empty()
    }

    /// A session without a recorded outcome was not called in the recorded run: its datagram is refused.
    pub(super) fn play(&self, session: SessionId, path: Path, out: &mut impl Sink) -> Called {
        let outcome = {
            let mut waiting = self.lock();
            let queue = waiting.get_mut(&session);
            let outcome = queue.and_then(VecDeque::pop_front);
            if waiting.get(&session).is_some_and(VecDeque::is_empty) {
                waiting.remove(&session);
            }
            outcome
        };
        let outcome = outcome.ok_or(DropReason::RefusedDtls)?;
        for datagram in &outcome.datagrams {
            out.transmit(path, datagram);
        }
        outcome.called()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, VecDeque<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no keys.
impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape")
            .field("waiting", &self.len())
            .finish()
    }
}

/// A sink that takes down what passes and, at the end, what it came to. A call that is cut short by a panic of the
/// library is taken down as such: nothing else could make a replay fault there.
pub(super) struct Copying<'a, S: Sink> {
    out: &'a mut S,
    session: SessionId,
    datagrams: Vec<Vec<u8>>,
    is_finished: bool,
}

impl<'a, S: Sink> Copying<'a, S> {
    pub(super) const fn new(out: &'a mut S, session: SessionId) -> Self {
        Self {
            out,
            session,
            datagrams: Vec::new(),
            is_finished: false,
        }
    }

    pub(super) fn finish(mut self, called: &Called) {
        let (result, deadline) = match called {
            Err(reason) => (HandshakeResult::Refused(*reason), None),
            Ok((step, deadline)) => {
                let result = match step {
                    Step::Pending => HandshakeResult::Pending,
                    Step::Connected(profile, keys) => {
                        HandshakeResult::Connected(*profile, keys.duplicate())
                    }
                    Step::Closed(reason) => HandshakeResult::Closed(*reason),
                };
                (result, *deadline)
            }
        };
        self.is_finished = true;
        self.note(result, deadline);
    }

    fn note(&mut self, result: HandshakeResult, deadline: Option<Timestamp>) {
        let outcome = Outcome {
            datagrams: std::mem::take(&mut self.datagrams),
            result,
            deadline,
        };
        self.out.note_handshake(self.session, outcome);
    }
}

impl<S: Sink> Sink for Copying<'_, S> {
    fn transmit(&mut self, path: Path, contents: &[u8]) {
        self.datagrams.push(contents.to_vec());
        self.out.transmit(path, contents);
    }
}

impl<S: Sink> Drop for Copying<'_, S> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.note(HandshakeResult::Panicked, None);
        }
    }
}

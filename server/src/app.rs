//! What all requests share, and the few things they do with it: open, close, ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use antiphon_core::ids::{RequestId, RoomId, SessionId, ShardId};
use antiphon_core::message::{CloseReason, Command, CommandError, Event, Role, Target};
use antiphon_core::plan::{LocalDescription, SessionPlan};
use axum::http::{HeaderMap, StatusCode};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::agent::{Agents, Calls};
use crate::auth::{Access, Caller, Scope};
use crate::config::Config;
use crate::control::{Control, LaneFull, Site};
use crate::crowd::Crowd;
use crate::journal::JournalFigures;
use crate::limits::{
    COMMAND_TIMEOUT, EVENT_STREAMS_EACH_MAX, EVENT_STREAMS_MAX, HOME_SESSIONS,
    HTTP_CONNECTIONS_EACH_MAX, NEGOTIATIONS_MAX, RATE_READS_FACTOR,
};
use crate::metrics::Meters;
use crate::problem::Problem;
use crate::rate::RateLimiter;
use crate::rooms::{Name, Rooms, Seat};
use crate::sessions::{Draft, Record, Sessions};
use crate::wall::unix_now;

/// Another try makes sense soon: a queue was full.
pub const RETRY_SOON: Duration = Duration::from_secs(1);
/// Another try makes sense when others have left.
pub const RETRY_LATER: Duration = Duration::from_secs(5);

/// What all requests share.
#[derive(Debug)]
pub struct App {
    /// What the operator chose.
    pub config: Config,
    /// Who may do what.
    pub access: Access,
    /// The link to the shards.
    pub control: Control,
    /// Counters of the control plane.
    pub meters: Meters,
    /// Who answers calls.
    pub agents: Agents,
    /// The calls with them.
    pub calls: Calls,
    /// Networks that judge or clean what agents hear, if there are any.
    #[cfg(feature = "onnx")]
    pub models: std::sync::OnceLock<crate::model::Models>,
    /// Where each shard lives.
    pub sites: Vec<Site>,
    /// What became of the journal, if there is one.
    pub journal: Option<Arc<JournalFigures>>,
    /// The candidates of each shard.
    pub candidates: Vec<Vec<SocketAddr>>,
    /// Name of the runtime that drives the shards.
    pub runtime: &'static str,
    /// Bounds the parsing under way.
    pub negotiations: Arc<Semaphore>,
    /// Bounds the event streams open.
    pub streams: Arc<Semaphore>,
    /// Shares them out among client networks.
    pub streams_crowd: Arc<Crowd>,
    /// Shares the connections out among client networks.
    pub connections_crowd: Arc<Crowd>,
    /// When the server started.
    pub started: Instant,
    /// Becomes true when connections must end.
    pub stopping: watch::Sender<bool>,
    directory: Mutex<Directory>,
    rate: Mutex<RateLimiter>,
    reads_rate: Mutex<RateLimiter>,
    draining: AtomicBool,
}

/// Who is here: sessions and rooms, changed together.
#[derive(Debug)]
pub struct Directory {
    /// The sessions of all shards.
    pub sessions: Sessions,
    /// All rooms.
    pub rooms: Rooms,
    /// Sessions placed on each shard, opens under way included.
    loads: Vec<u32>,
}

/// A session that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its number.
    pub session: SessionId,
    /// Our half of its description.
    pub local: Box<LocalDescription>,
}

impl App {
    /// A server over these shards, in order. `addresses` are the host addresses to announce.
    #[must_use]
    pub fn new(
        config: Config,
        access: Access,
        control: Control,
        addresses: &[IpAddr],
        sites: Vec<Site>,
        runtime: &'static str,
    ) -> Self {
        let candidates = |port| {
            addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, port))
                .collect()
        };
        let directory = Directory {
            sessions: Sessions::new(config.max_sessions),
            rooms: Rooms::default(),
            loads: vec![0; sites.len()],
        };
        let limited = config.rate_limit > 0;
        let each_max = |max| if limited { max } else { usize::MAX };
        Self {
            access,
            control,
            meters: Meters::default(),
            agents: Agents::new(&config),
            calls: Calls::default(),
            #[cfg(feature = "onnx")]
            models: std::sync::OnceLock::new(),
            candidates: sites.iter().map(|site| candidates(site.port)).collect(),
            sites,
            journal: None,
            runtime,
            negotiations: Arc::new(Semaphore::new(NEGOTIATIONS_MAX)),
            streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            streams_crowd: Arc::new(Crowd::new(each_max(EVENT_STREAMS_EACH_MAX))),
            connections_crowd: Arc::new(Crowd::new(each_max(HTTP_CONNECTIONS_EACH_MAX))),
            started: Instant::now(),
            stopping: watch::Sender::new(false),
            directory: Mutex::new(directory),
            rate: Mutex::new(RateLimiter::new(config.rate_limit)),
            reads_rate: Mutex::new(RateLimiter::new(reads_limit(config.rate_limit))),
            draining: AtomicBool::new(false),
            config,
        }
    }

    /// With the figures of a journal.
    #[must_use]
    pub fn with_journal(self, journal: Option<Arc<JournalFigures>>) -> Self {
        Self { journal, ..self }
    }

    /// Sessions and rooms. Hold it for a few look-ups, never across an await.
    pub fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that changes something; `false` when its address sent too many.
    pub fn within_rate(&self, address: IpAddr) -> bool {
        self.count(&self.rate, address)
    }

    /// Counts a request that only reads but asks a shard; `false` when its address sent too many.
    pub fn within_reads_rate(&self, address: IpAddr) -> bool {
        self.count(&self.reads_rate, address)
    }

    fn count(&self, rate: &Mutex<RateLimiter>, address: IpAddr) -> bool {
        let now = self.started.elapsed();
        rate.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .allow(now, address)
    }

    /// A shard's candidates; the address that the client has reached already comes first, because some
    /// clients try no other.
    #[must_use]
    pub fn candidates_for(&self, shard: ShardId, reached: IpAddr) -> Vec<SocketAddr> {
        let mut candidates = self
            .candidates
            .get(usize::from(shard.0))
            .cloned()
            .unwrap_or_default();
        candidates.sort_by_key(|candidate| candidate.ip() != reached.to_canonical());
        candidates
    }

    /// Whose request this is.
    ///
    /// # Errors
    /// 401.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let unix_secs = i64::try_from(unix_now().as_secs()).unwrap_or(i64::MAX);
        self.access.identify(headers, unix_secs)
    }

    /// Whose request this is, if they may use `scope`, in `room` if one is meant.
    ///
    /// # Errors
    /// 401 or 403.
    pub fn admit(
        &self,
        headers: &HeaderMap,
        scope: Scope,
        room: Option<&Name>,
    ) -> Result<Caller, Problem> {
        let caller = self.identify(headers)?;
        self.access.allow(caller, scope, room)?;
        Ok(caller)
    }

    /// Whether the caller may see and change this session.
    #[must_use]
    pub fn covers(&self, caller: Caller, record: &Record) -> bool {
        let room = record.seat.as_ref().map(|seat| &seat.room);
        self.access.covers(caller, record.owner, room)
    }

    /// Whether the server is stopping and takes no new sessions.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes no new sessions from here on.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Completes when connections must end.
    pub async fn until_stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as `self`.
        stopping.wait_for(|stop| *stop).await.ok();
    }

    /// Refuses new sessions while the server stops.
    ///
    /// # Errors
    /// 503.
    pub fn check_open(&self) -> Result<(), Problem> {
        if self.is_draining() {
            return Err(Problem::unavailable(
                RETRY_LATER,
                "the server is stopping; try again later",
            ));
        }
        Ok(())
    }

    /// Opens a session and waits until its shard says so.
    ///
    /// Once asked, the draft's place and seat are settled by the answer, whether or not the caller
    /// still waits for it.
    ///
    /// # Errors
    /// 503 when there is no room or no answer.
    pub async fn open(&self, draft: Draft, plan: SessionPlan) -> Result<Opened, Problem> {
        let answer = self.ask_open(draft, plan)?;
        match self.wait(answer).await? {
            Event::Opened { session, local, .. } => Ok(Opened { session, local }),
            Event::Rejected { error, .. } => Err(rejected(error)),
            _ => Err(Problem::internal()),
        }
    }

    /// Asks a shard and waits for its answer, which may be `Rejected`.
    ///
    /// # Errors
    /// 503 when the lane is full or no answer comes.
    pub async fn ask(
        &self,
        shard: ShardId,
        make: impl FnOnce(RequestId) -> Command,
    ) -> Result<Event, Problem> {
        let answer = self
            .control
            .ask(shard, None, make)
            .map_err(|LaneFull(_)| overloaded())?;
        self.wait(answer).await
    }

    /// Ends a session whose URL was deleted. It is gone for the API at once.
    ///
    /// # Errors
    /// 503 when the lane is full; nothing changed.
    pub fn delete(&self, session: SessionId) -> Result<(), Problem> {
        if !self.control.close(session, CloseReason::Requested) {
            return Err(overloaded());
        }
        if let Some(record) = self.directory().sessions.by_id_mut(session) {
            record.closing = true;
        }
        Ok(())
    }

    /// Nothing here waits, so that a client who goes away cannot leave a seat taken.
    fn ask_open(
        &self,
        draft: Draft,
        plan: SessionPlan,
    ) -> Result<oneshot::Receiver<Event>, Problem> {
        let (shard, role) = self.directory().reserve(&draft).ok_or_else(|| {
            let max = self.config.max_sessions;
            Problem::unavailable(RETRY_LATER, format!("all {max} sessions are taken"))
        })?;
        let plan = Box::new(plan);
        let make = |request| Command::Open {
            request,
            plan,
            role,
        };
        self.control
            .ask(shard, Some(Box::new(draft)), make)
            .map_err(|LaneFull(draft)| {
                if let Some(draft) = draft {
                    self.directory().release(shard, &draft);
                }
                overloaded()
            })
    }

    async fn wait(&self, answer: oneshot::Receiver<Event>) -> Result<Event, Problem> {
        match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
            Ok(Ok(event)) => Ok(event),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable(
                RETRY_SOON,
                "the media engine does not answer; try again",
            )),
        }
    }
}

impl Directory {
    /// Takes a place and a seat; `None` when all places are taken.
    fn reserve(&mut self, draft: &Draft) -> Option<(ShardId, Role)> {
        if !self.sessions.reserve() {
            return None;
        }
        let quietest = self.quietest();
        let (shard, role) = match (&draft.seat, &draft.agent) {
            (None, None) => (quietest, Role::Echo),
            (None, Some(agent)) => (quietest, Role::Agent(agent.plan)),
            (Some(seat), _) => {
                let (room, home, target) = self.rooms.sit(seat, || quietest);
                // A mix is made where the voices are.
                let shard = if seat.publishes || seat.mixed {
                    home
                } else {
                    self.nearest(home)
                };
                (shard, role(seat, room, target).on(shard, home))
            }
        };
        self.loads[usize::from(shard.0)] += 1;
        Some((shard, role))
    }

    /// Gives back what `reserve` took for a session that was not opened.
    pub fn release(&mut self, shard: ShardId, draft: &Draft) {
        self.sessions.release();
        self.unload(shard);
        if let Some(seat) = &draft.seat {
            self.rooms.rise(seat, None);
        }
    }

    /// Forgets a session that has ended; whether it was known.
    pub fn remove(&mut self, session: SessionId) -> bool {
        let Some(record) = self.sessions.remove(session) else {
            return false;
        };
        self.unload(session.shard);
        if let Some(seat) = &record.seat {
            self.rooms.rise(seat, Some(session));
        }
        true
    }

    /// The shard with the fewest sessions.
    #[must_use]
    pub fn quietest(&self) -> ShardId {
        let loads = self.loads.iter().enumerate();
        let least = loads
            .min_by_key(|(_, load)| **load)
            .map_or(0, |(index, _)| index);
        ShardId(least as u16)
    }

    /// The shard for a subscriber of a room: the home of its publishers, unless that is markedly busier than another.
    fn nearest(&self, home: ShardId) -> ShardId {
        let load = |shard: ShardId| {
            let load = self.loads.get(usize::from(shard.0));
            load.copied().unwrap_or(0)
        };
        let quietest = self.quietest();
        if load(home) > load(quietest).saturating_mul(2) + HOME_SESSIONS {
            quietest
        } else {
            home
        }
    }

    fn unload(&mut self, shard: ShardId) {
        if let Some(load) = self.loads.get_mut(usize::from(shard.0)) {
            *load = load.saturating_sub(1);
        }
    }
}

/// Why a shard refused, for the caller.
#[must_use]
pub fn rejected(error: CommandError) -> Problem {
    match error {
        CommandError::UnknownSession => Problem::not_found("no such session, or no longer"),
        CommandError::InvalidPlan(limit) => {
            let detail = format!("the offer cannot be served: {limit}");
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
        error => Problem::unavailable(RETRY_LATER, format!("{error}; try again later")),
    }
}

/// Requests a second that read from shards.
#[must_use]
pub const fn reads_limit(rate_limit: u32) -> u32 {
    rate_limit.saturating_mul(RATE_READS_FACTOR)
}

fn overloaded() -> Problem {
    Problem::unavailable(
        RETRY_SOON,
        "the media engine is overloaded; try again in a moment",
    )
}

fn role(seat: &Seat, room: RoomId, target: Target) -> Role {
    match target {
        Target::Participant(participant) if seat.publishes => Role::Publish { room, participant },
        Target::Participant(own) if seat.mixed => Role::Mix {
            room,
            own: Some(own),
        },
        Target::Newest if seat.mixed => Role::Mix { room, own: None },
        target => Role::Subscribe { room, target },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(loads: &[u32]) -> Directory {
        Directory {
            sessions: Sessions::new(1_000),
            rooms: Rooms::default(),
            loads: loads.to_vec(),
        }
    }

    #[test]
    fn a_subscriber_stays_at_home_until_that_is_markedly_busier() {
        let nearest = |loads: &[u32]| directory(loads).nearest(ShardId(0)).0;
        assert_eq!(nearest(&[HOME_SESSIONS, 0, 0]), 0);
        assert_eq!(nearest(&[HOME_SESSIONS + 1, 3, 0]), 2);
        assert_eq!(nearest(&[2 * 100 + HOME_SESSIONS, 100, 120]), 0);
        assert_eq!(nearest(&[2 * 100 + HOME_SESSIONS + 1, 100, 120]), 1);
        assert_eq!(nearest(&[500]), 0, "there is no other");
    }
}

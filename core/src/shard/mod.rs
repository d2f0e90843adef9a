//! The sans-I/O machine one thread owns: many sessions, what they route to each other, and their timers.
//!
//! Methods are of four kinds. *Inputs* `handle_*` take `now` first; they are total: they never fail, block or
//! panic on a peer's data. *Output* is `poll_output`, to be drained to `Output::Timeout`, which is always
//! last; a driver's [`Pump`](crate::drive::Pump) takes transmits a batch at a time instead. *Figures* leave as
//! events. Nothing else changes a shard.

mod foresight;
mod input;
mod link;
mod mix;
mod relay;
mod restore;
mod slab;
mod tuning;
mod ufrag;
mod wheel;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;

pub(crate) use self::foresight::Depth;
use self::foresight::Foresight;
use self::relay::Relaying;
use self::slab::Slab;
pub use self::tuning::{Tuning, TuningError};
use self::ufrag::Address;
use self::wheel::Wheel;
use crate::drive::TransmitBatch;
use crate::ids::{RequestId, RoomId, SessionId, SessionKey, ShardId};
use crate::limits::{MIXED_ROOMS_MAX, SESSION_MEDIA_MAX};
use crate::message::{
    CloseReason, Command, CommandError, DropReason, Event, FORWARD_DELAY_BOUNDS, PlanFlaw, Role,
    ShardStats, VOICE_DELAY_BOUNDS,
};
use crate::net::{Path, Transmit};
use crate::plan::{IceCredentials, SessionPlan};
use crate::relay::Relay;
use crate::rng::{Rng, Seed};
use crate::route::desk::Desk;
use crate::route::rooms::Rooms;
use crate::session::media::Ask;
use crate::session::transport::{Identity, Outcome};
use crate::session::{Context, Session};
use crate::time::{Epoch, Timestamp};

/// What every session of a shard shares.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Certificate and DTLS settings, one for the process.
    pub identity: Arc<Identity>,
    /// Sessions held at most; 1 to 2^24.
    pub sessions_max: u32,
    /// By what it decides where a choice has no one answer.
    pub tuning: Tuning,
}

impl ShardConfig {
    /// Whether a shard can be made of it.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub const fn check(&self) -> Result<(), ConfigError> {
        match self.sessions_max {
            1..=ufrag::SLOTS_MAX => Ok(()),
            other => Err(ConfigError::SessionsMax(other)),
        }
    }
}

/// A shard could not be made. Blames the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The session limit is out of range.
    #[error("sessions_max is {0}; allowed are 1 to {max}", max = ufrag::SLOTS_MAX)]
    SessionsMax(u32),
}

/// What a drained shard hands out; see [`Shard::poll_output`].
#[must_use]
#[derive(Debug)]
pub enum Output<'a> {
    /// Send this; lent until the next call.
    Transmit(Transmit<'a>),
    /// Hand this to another shard, if there is room.
    Relay(ShardId, Relay),
    /// Hand this to the server.
    Event(Event),
    /// Drained. Call [`Shard::handle_timeout`] at this time; `None`: no timer is pending.
    Timeout(Option<Timestamp>),
}

/// Many sessions and one clock.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    config: Arc<ShardConfig>,
    epoch: Epoch,
    seed: Seed,
    /// Restarts asked for.
    restarts: u64,
    sessions: Slab<Session>,
    /// Learned only from authenticated checks. Looked up, never iterated.
    by_path: HashMap<Path, SessionKey, RandomState>,
    wheel: Wheel,
    rooms: Rooms,
    /// Those of rooms that are mixed; each has a timer of its own, after the sessions'.
    desks: Vec<Option<Box<(RoomId, Desk)>>>,
    relaying: Relaying,
    transmits: TransmitBatch,
    events: VecDeque<Event>,
    stats: ShardStats,
    /// Outcomes of handshake calls since the last look, if they are taken down.
    handshakes: Option<Vec<(SessionId, Outcome)>>,
    /// Reused between calls.
    asks: Vec<Ask>,
    foresight: Foresight,
    /// The front transmit was lent by `poll_output` and is to be forgotten.
    lent: bool,
    /// The latest `now`: time that goes backwards stands still instead.
    now: Timestamp,
    /// The session whose next mutation panics.
    #[cfg(feature = "mutations")]
    doomed: Option<SessionKey>,
    #[cfg(feature = "mutations")]
    pub(crate) bugs: crate::bugs::Bugs,
}

/// A session panicked: our bug, this session's end.
#[derive(Debug)]
struct Fault;

impl Shard {
    /// A shard without sessions. `seed` must be fresh from the operating system in production: it yields the
    /// ICE passwords.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub fn new(
        id: ShardId,
        config: Arc<ShardConfig>,
        epoch: Epoch,
        seed: Seed,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let mut hash = seed.derive("paths", u64::from(id.0)).rng();
        let hasher = RandomState::with_seeds(hash.u64(), hash.u64(), hash.u64(), hash.u64());
        Ok(Self {
            id,
            sessions: Slab::new(config.sessions_max),
            config,
            epoch,
            seed,
            restarts: 0,
            by_path: HashMap::with_hasher(hasher),
            wheel: Wheel::new(),
            rooms: Rooms::default(),
            desks: Vec::new(),
            relaying: Relaying::default(),
            transmits: TransmitBatch::default(),
            events: VecDeque::new(),
            stats: ShardStats::default(),
            handshakes: None,
            asks: Vec::new(),
            foresight: Foresight::default(),
            lent: false,
            now: Timestamp::ZERO,
            #[cfg(feature = "mutations")]
            doomed: None,
            #[cfg(feature = "mutations")]
            bugs: crate::bugs::Bugs::default(),
        })
    }

    /// Takes in a command. Its answer is an event.
    pub fn handle_command(&mut self, now: Timestamp, command: Command) {
        self.advance(now);
        match command {
            Command::Open {
                request,
                plan,
                role,
            } => self.open(request, plan, role),
            Command::Restart {
                request,
                session,
                remote_ice,
            } => {
                self.restart(request, session, remote_ice);
            }
            Command::Close { session, reason } => self.close(session, reason),
            Command::Agent { session, ask } => {
                if session.shard == self.id {
                    self.mutate(session.key, |session, cx| session.handle_ask(cx, ask));
                    self.settle(session.key);
                }
            }
            Command::SessionStats { request, session } => self.session_stats(request, session),
            Command::ShardStats { request } => {
                let stats = Box::new(self.stats());
                self.events.push_back(Event::ShardStats { request, stats });
            }
        }
    }

    /// Does what is due. Spurious calls change nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
        while let Some(slot) = self.wheel.pop_due(self.now) {
            if let Some(number) = slot.checked_sub(self.config.sessions_max) {
                match number as usize {
                    MIXED_ROOMS_MAX => self.ask_for_held_keyframes(),
                    desk => self.mix_due(desk),
                }
                continue;
            }
            let Some((key, _)) = self.sessions.at(slot) else {
                continue;
            };
            self.stats.timeouts += 1;
            self.mutate(key, Session::handle_timeout);
            self.settle(key);
        }
    }

    /// Hands out what there is to do, transmits first; the last is always [`Output::Timeout`].
    pub fn poll_output(&mut self) -> Output<'_> {
        if std::mem::take(&mut self.lent) {
            self.transmits.consume(1);
            self.transmits.drain_consumed().for_each(drop);
        }
        if self.transmits.is_empty() {
            if let Some((to, relay)) = self.poll_relay() {
                return Output::Relay(to, relay);
            }
            return match self.events.pop_front() {
                Some(event) => Output::Event(event),
                None => Output::Timeout(self.wheel.next()),
            };
        }
        self.lent = true;
        let transmit = self.transmits.first().expect("checked not to be empty");
        Output::Transmit(transmit)
    }

    /// The transmits that wait, for a driver that sends them in batches.
    pub fn transmits_mut(&mut self) -> &mut TransmitBatch {
        &mut self.transmits
    }

    /// Notes that the send call which took `count` transmits returned at `sent`: for figures, which decide
    /// nothing.
    pub fn note_sent(&mut self, sent: Timestamp, count: usize) {
        self.stats.datagrams_sent += count as u64;
        for received in self.transmits.drain_consumed() {
            let micros = sent.as_micros().saturating_sub(received.as_micros());
            let delay = &mut self.stats.forward_delay;
            delay.note(&FORWARD_DELAY_BOUNDS, micros, 1);
        }
    }

    /// Frames heard for agents so far.
    pub(crate) const fn frames_heard(&self) -> u64 {
        self.stats.voice.frames_heard
    }

    /// Notes that a turn in which `frames` were heard took so long: for figures, which decide nothing.
    pub(crate) fn note_processed(&mut self, took: Duration, frames: u64) {
        let of_20_ms = took.as_micros() as u64 * 2 / frames;
        let times = frames.div_ceil(2);
        let processing = &mut self.stats.voice.processing;
        processing.note(&VOICE_DELAY_BOUNDS, of_20_ms, times);
    }

    /// The next event, for a driver that sends transmits in batches.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due; `None`: no timer is pending.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.wheel.next()
    }

    /// From now on the outcomes of handshake calls are kept for [`Self::drain_handshakes`]: the one input that a
    /// shard gives itself, as the DTLS library draws from the operating system.
    pub fn record_handshakes(&mut self) {
        self.handshakes.get_or_insert_default();
    }

    /// They are kept no more.
    pub(crate) fn forget_handshakes(&mut self) {
        self.handshakes = None;
    }

    /// The outcomes since the last call, in order; none unless [`Self::record_handshakes`] was called. To be drained
    /// after each input, so that a record knows which input caused them.
    pub fn drain_handshakes(&mut self) -> impl Iterator<Item = (SessionId, Outcome)> {
        self.handshakes.iter_mut().flat_map(|kept| kept.drain(..))
    }

    /// What another shard must be made of to repeat the run of this one. The seed is a secret.
    pub(crate) const fn origin(&self) -> (ShardId, &Arc<ShardConfig>, &Epoch, &Seed) {
        (self.id, &self.config, &self.epoch, &self.seed)
    }

    /// Changes when a call of [`Self::handle_timeout`] that handled nothing still mattered: see
    /// [`Wheel::pulls`](wheel::Wheel::pulls).
    pub(crate) const fn wheel_pulls(&self) -> u64 {
        self.wheel.pulls()
    }

    /// Whose path it is, as an authenticated check showed; `None`: nobody's.
    #[must_use]
    pub fn owner_of(&self, path: Path) -> Option<SessionId> {
        let key = *self.by_path.get(&path)?;
        Some(SessionId {
            shard: self.id,
            key,
        })
    }

    /// Its figures now.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            sessions: self.sessions.len() as u32,
            transmits_dropped: self.transmits.dropped(),
            ..self.stats
        }
    }

    /// Entries of every table that a session may leave behind: all zero after the last one ended.
    #[must_use]
    pub fn table_sizes(&self) -> TableSizes {
        TableSizes {
            sessions: self.sessions.len(),
            paths: self.by_path.len(),
            rooms: self.rooms.len(),
            timers: self.wheel.armed(),
            stand_ins: self.relaying.stand_ins(),
            relayed: self.relaying.relayed,
        }
    }

    /// Makes a session panic when it is touched next, as a bug of ours would.
    #[cfg(feature = "mutations")]
    pub fn inject_fault(&mut self, id: SessionId) {
        self.doomed = Some(id.key);
    }

    /// Its bugs, to plant some.
    #[cfg(feature = "mutations")]
    pub const fn bugs_mut(&mut self) -> &mut crate::bugs::Bugs {
        &mut self.bugs
    }

    fn advance(&mut self, now: Timestamp) {
        self.stats.clock_steps_back += u64::from(now < self.now);
        self.now = self.now.max(now);
    }

    fn open(&mut self, request: RequestId, plan: Box<SessionPlan>, role: Role) {
        if let Err(error) = self.try_open(request, plan, role) {
            self.events.push_back(Event::Rejected { request, error });
        }
    }

    fn try_open(
        &mut self,
        request: RequestId,
        plan: Box<SessionPlan>,
        role: Role,
    ) -> Result<(), CommandError> {
        check_plan(&plan)?;
        let max = self.config.sessions_max;
        let key = self
            .sessions
            .vacant_key()
            .ok_or(CommandError::SessionsExhausted { max })?;
        let id = SessionId {
            shard: self.id,
            key,
        };
        let mut number = self.stats.sessions_opened;
        if mutated!(self, AmbientRandomness) {
            number ^= u64::from(std::process::id());
        }
        // Wraps: a journal may claim any number for what was before.
        self.stats.sessions_opened = self.stats.sessions_opened.wrapping_add(1);
        let mut rng = self.seed.derive("session", number).rng();
        let ice = credentials(id, 0, &mut rng);
        let config = &self.config;
        let clocks = (self.now, self.epoch);
        let (session, local) = Session::new(id, role, plan, config, ice, &mut rng, clocks);
        let deadline = session.deadline();
        self.sessions.insert(Box::new(session));
        self.wheel.arm(key.index, deadline);
        self.events.push_back(Event::Opened {
            request,
            session: id,
            local: Box::new(local),
        });
        self.link_opened(key, role);
        Ok(())
    }

    fn restart(&mut self, request: RequestId, id: SessionId, remote: IceCredentials) {
        if id.shard != self.id {
            let error = CommandError::UnknownSession;
            self.events.push_back(Event::Rejected { request, error });
            return;
        }
        // Not the request's number: a server that repeats one must not give two sessions one password.
        let mut rng = self.seed.derive("restart", self.restarts).rng();
        self.restarts = self.restarts.wrapping_add(1);
        let restarted = self.mutate(id.key, |session, _| {
            let local = credentials(id, session.restarts().wrapping_add(1), &mut rng);
            session.restart(local.clone(), remote);
            local
        });
        self.events.push_back(match restarted {
            Some(ice) => Event::Restarted { request, ice },
            None => Event::Rejected {
                request,
                error: CommandError::UnknownSession,
            },
        });
        self.settle(id.key);
    }

    fn close(&mut self, id: SessionId, reason: CloseReason) {
        if id.shard == self.id {
            self.mutate(id.key, |session, cx| session.close(cx, reason));
            self.settle(id.key);
        }
    }

    fn session_stats(&mut self, request: RequestId, id: SessionId) {
        let session = self.sessions.find(id.key).filter(|_| id.shard == self.id);
        self.events.push_back(match session {
            Some(session) => {
                let stats = Box::new(session.statistics(self.now));
                Event::SessionStats { request, stats }
            }
            None => Event::Rejected {
                request,
                error: CommandError::UnknownSession,
            },
        });
    }

    /// The one boundary around a session: runs one mutation of it. A panic inside ends the session and
    /// nothing else (E9).
    fn mutate<R>(
        &mut self,
        key: SessionKey,
        mutation: impl FnOnce(&mut Session, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let session = self.sessions.find_mut(key)?;
        let mut cx = Context {
            now: self.now,
            epoch: &self.epoch,
            transmits: &mut self.transmits,
            stats: &mut self.stats,
            handshakes: &mut self.handshakes,
        };
        #[cfg(feature = "mutations")]
        let doomed = self.doomed.take_if(|doomed| *doomed == key).is_some();
        match guard(|| {
            #[cfg(feature = "mutations")]
            assert!(!doomed, "a fault was injected");
            mutation(session, &mut cx)
        }) {
            Ok(result) => Some(result),
            Err(Fault) => {
                self.on_fault(key);
                None
            }
        }
    }

    fn on_fault(&mut self, key: SessionKey) {
        self.stats.faults += 1;
        tracing::error!(
            shard = self.id.0,
            slot = key.index,
            "a session panicked and was removed"
        );
        self.remove(key, CloseReason::Fault);
    }

    fn note_drop(&mut self, reason: DropReason) {
        self.stats.drops[reason as usize] += 1;
    }
}

/// Entries of a shard's tables; see [`Shard::table_sizes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Sessions.
    pub sessions: usize,
    /// Authenticated paths.
    pub paths: usize,
    /// Rooms with a session in them, or attended by another shard.
    pub rooms: usize,
    /// Armed timers.
    pub timers: usize,
    /// Publishers on other shards, of rooms that sessions here subscribe to.
    pub stand_ins: usize,
    /// Tracks that other shards follow, once for each shard.
    pub relayed: usize,
}

/// `AssertUnwindSafe`: after a panic the session is dropped without another call, and what it shares with
/// others (transmits, counters) is whole between its own calls.
fn guard<R>(f: impl FnOnce() -> R) -> Result<R, Fault> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_| Fault)
}

fn credentials(id: SessionId, restarts: u8, rng: &mut Rng) -> IceCredentials {
    let address = Address {
        shard: id.shard,
        slot: id.key.index,
        restarts,
    };
    IceCredentials {
        ufrag: address.encode(rng),
        password: ufrag::password(rng),
    }
}

fn check_plan(plan: &SessionPlan) -> Result<(), CommandError> {
    if plan.media.is_empty() || plan.media.len() > SESSION_MEDIA_MAX {
        return Err(CommandError::InvalidPlan(PlanFlaw::Sections));
    }
    if plan.media.iter().any(|media| media.codecs.is_empty()) {
        return Err(CommandError::InvalidPlan(PlanFlaw::NoCodec));
    }
    Ok(())
}

//! Plays a journal: the same inputs into a new shard, and what comes out compared with what came out then.

use std::sync::Arc;

use super::birth::Birth;
use super::reader::{ReadError, Reader};
use super::record::{EndReason, Header, Lost, Rest, Retention};
use super::recorder::Recorder;
use super::standing::{Standing, Standings};
use super::turns::{Entry, RecordedTurn, Turns};
use crate::drive::{
    Digest, DigestValue, Port, Pump, RecvBatch, RecvMeta, TransmitBatch, TransmitMeta, Turner,
};
use crate::ids::{SessionId, ShardId};
use crate::limits::REPLAY_WAKES_MAX;
use crate::message::{CloseReason, Command, Event, ProfileName};
use crate::relay::Relay;
use crate::session::transport::{HandshakeResult, Identity, KeyingMaterial, Tape};
use crate::shard::{ConfigError, Shard, ShardConfig};
use crate::time::{Epoch, Timestamp};

/// Sees what passes while a journal is played. Each call comes at the time of its turn.
pub trait Witness {
    /// The server says.
    fn on_command(&mut self, _now: Timestamp, _command: &Command) {}
    /// Another shard says.
    fn on_relay(&mut self, _now: Timestamp, _from: ShardId, _relay: &Relay) {}
    /// The socket gives; a slot may hold several datagrams.
    fn on_received(&mut self, _now: Timestamp, _meta: &RecvMeta, _contents: &[u8]) {}
    /// A handshake is done, then as now; or, of a session that begins in the middle, was done. The keys are secret.
    fn on_keys(
        &mut self,
        _now: Timestamp,
        _session: SessionId,
        _profile: ProfileName,
        _keys: &KeyingMaterial,
    ) {
    }
    /// The shard tells.
    fn on_event(&mut self, _now: Timestamp, _event: &Event) {}
    /// In the replay of a ring, the shard tells what it did not tell in the run: of a session that began from its
    /// birth, or is known in part.
    fn on_made_up(&mut self, now: Timestamp, event: &Event) {
        self.on_event(now, event);
    }
    /// The socket takes.
    fn on_transmit(&mut self, _now: Timestamp, _meta: &TransmitMeta, _contents: &[u8]) {}
}

/// Sees nothing.
impl Witness for () {}

/// Both see everything.
impl<A: Witness, B: Witness> Witness for (&mut A, &mut B) {
    fn on_command(&mut self, now: Timestamp, command: &Command) {
        self.0.on_command(now, command);
        self.1.on_command(now, command);
    }

    fn on_relay(&mut self, now: Timestamp, from: ShardId, relay: &Relay) {
        self.0.on_relay(now, from, relay);
        self.1.on_relay(now, from, relay);
    }

    fn on_received(&mut self, now: Timestamp, meta: &RecvMeta, contents: &[u8]) {
        self.0.on_received(now, meta, contents);
        self.1.on_received(now, meta, contents);
    }

    fn on_keys(
        &mut self,
        now: Timestamp,
        session: SessionId,
        profile: ProfileName,
        keys: &KeyingMaterial,
    ) {
        self.0.on_keys(now, session, profile, keys);
        self.1.on_keys(now, session, profile, keys);
    }

    fn on_event(&mut self, now: Timestamp, event: &Event) {
        self.0.on_event(now, event);
        self.1.on_event(now, event);
    }

    fn on_made_up(&mut self, now: Timestamp, event: &Event) {
        self.0.on_made_up(now, event);
        self.1.on_made_up(now, event);
    }

    fn on_transmit(&mut self, now: Timestamp, meta: &TransmitMeta, contents: &[u8]) {
        self.0.on_transmit(now, meta, contents);
        self.1.on_transmit(now, meta, contents);
    }
}

/// What one entry of a journal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A turn was played.
    Turn {
        /// When.
        now: Timestamp,
        /// Sessions that faulted in it.
        faulted: Vec<SessionId>,
        /// Whether all that came out was what came out when it was recorded.
        agrees: bool,
    },
    /// A turn in which nothing happened.
    Idle(Timestamp),
    /// How sessions stand was read; those that the shard does not know yet begin so with the next turn.
    Stands,
    /// Something is missing from here on.
    Lost(Lost),
    /// The recording ended.
    End(EndReason),
}

/// How a replay first differed from the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// In which turn, counted from 1.
    pub turn: u64,
    /// When.
    pub now: Timestamp,
    /// How.
    pub what: Differs,
}

/// What differed.
#[derive(Clone, Debug, PartialEq)]
pub enum Differs {
    /// An event: another, none, or one too many.
    Event {
        /// What the shard told then.
        recorded: Option<Box<Event>>,
        /// What it told now.
        replayed: Option<Box<Event>>,
    },
    /// There was something to send and there was not before, or the other way round.
    Sends {
        /// Transmits that a send call took then.
        recorded: Option<u32>,
        /// Transmits that waited now.
        replayed: usize,
    },
    /// When the shard wants to be woken.
    Deadline {
        /// Then.
        recorded: Option<Timestamp>,
        /// Now.
        replayed: Option<Timestamp>,
    },
    /// A handshake was called less often than then.
    Handshakes,
    /// The bytes sent, where they went or in what order.
    Bytes,
}

/// Plays one journal, an entry at a time.
#[derive(Debug)]
pub struct Player<'a> {
    turns: Turns<'a>,
    pump: Pump,
    tape: Tape,
    played: u64,
    difference: Option<Difference>,
    /// Of a ring.
    restoring: Option<Restoring>,
    /// See [`Self::on_its_own_time`].
    is_on_its_own_time: bool,
}

/// What it takes to begin in the middle.
#[derive(Debug, Default)]
struct Restoring {
    standings: Standings,
    /// To be restored before the next turn.
    births: Vec<Birth>,
    /// The last turn, for what is lost after it.
    last: Option<Timestamp>,
}

impl<'a> Player<'a> {
    /// A new shard like the one that was recorded. Of a ring, which begins in the middle, not all that comes out is
    /// compared, but what each session tells: see [`standings`](Self::standings).
    ///
    /// # Errors
    /// [`ConfigError`]: the header says what no shard can be made of.
    pub fn new(header: &Header, reader: Reader<'a>) -> Result<Self, ConfigError> {
        let tape = Tape::default();
        let identity = Arc::new(Identity::recorded(header.fingerprint, tape.clone()));
        let config = ShardConfig {
            identity,
            sessions_max: header.sessions_max,
            tuning: header.tuning,
        };
        let epoch = Epoch::replayed(header.unix);
        let shard = Shard::new(header.shard, Arc::new(config), epoch, header.seed.clone())?;
        Ok(Self {
            turns: Turns::new(reader),
            pump: Pump::new(shard).with_digest(),
            tape,
            played: 0,
            difference: None,
            restoring: matches!(header.retention, Retention::Ring { .. }).then(Restoring::default),
            is_on_its_own_time: false,
        })
    }

    /// Lets the shard be woken when it wants to be, and not only when it was in the run: for a replay by another
    /// [`Tuning`](crate::shard::Tuning), which is to differ.
    #[must_use]
    pub fn on_its_own_time(self) -> Self {
        Self {
            is_on_its_own_time: true,
            ..self
        }
    }

    /// Records what is played from now on.
    pub fn record(&mut self, recorder: Recorder) {
        self.pump.record(recorder);
    }

    /// The shard, to look at.
    #[must_use]
    pub const fn shard(&self) -> &Shard {
        self.pump.shard()
    }

    /// The shard's bugs, to plant those of the run that was recorded.
    #[cfg(feature = "mutations")]
    pub const fn bugs_mut(&mut self) -> &mut crate::bugs::Bugs {
        self.pump.bugs_mut()
    }

    /// The hash of all that came out so far.
    #[must_use]
    pub fn digest(&self) -> DigestValue {
        let digest = self.pump.digest();
        digest.map_or_else(DigestValue::default, Digest::value)
    }

    /// The sessions of a ring, by number; none of a whole journal.
    pub fn standings(&self) -> impl Iterator<Item = &Standing> {
        let restoring = self.restoring.iter();
        restoring.flat_map(|restoring| restoring.standings.iter())
    }

    /// How it first differed; `None`: not yet. Of a ring, as far as sessions are concerned that are known whole.
    #[must_use]
    pub const fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    /// Turns played.
    #[must_use]
    pub const fn played(&self) -> u64 {
        self.played
    }

    /// Bytes of the journal read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.turns.position()
    }

    /// The next entry, not played. For [`Self::play`].
    pub fn next_entry(&mut self) -> Option<Result<Entry<'a>, ReadError>> {
        self.turns.next()
    }

    /// Plays the next entry; `None` after the last.
    ///
    /// # Errors
    /// [`ReadError`]: the journal goes no further.
    pub fn step(&mut self, witness: &mut impl Witness) -> Option<Result<Step, ReadError>> {
        let entry = self.next_entry()?;
        Some(entry.map(|entry| self.play(entry, witness)))
    }

    /// Plays an entry.
    pub fn play(&mut self, entry: Entry<'_>, witness: &mut impl Witness) -> Step {
        if self.is_on_its_own_time
            && let Some(now) = entry.time()
        {
            self.wake_until(now, witness);
        }
        match entry {
            Entry::Turn(turn) => self.play_turn(*turn, witness),
            Entry::Birth(birth) => {
                witness.on_keys(birth.at, birth.session, birth.profile, &birth.keys);
                if let Some(restoring) = &mut self.restoring {
                    restoring.births.push(*birth);
                }
                Step::Stands
            }
            Entry::Counts(counts) => {
                if self.restoring.is_some() {
                    self.pump.shard_to_restore().resume_counts(counts);
                }
                Step::Stands
            }
            Entry::Idle(now) => {
                self.restore(now);
                let of_ring = self.restoring.is_some();
                let mut port = Replayed::new(RecordedTurn::nothing(now), witness, of_ring);
                let _wait = self.pump.turn(now, &mut port);
                Step::Idle(now)
            }
            Entry::Lost(lost) => {
                if let Some(restoring) = &mut self.restoring {
                    let last = restoring.last.unwrap_or(Timestamp::ZERO);
                    restoring.standings.note_lost(last);
                }
                Step::Lost(lost)
            }
            Entry::End(reason) => Step::End(reason),
        }
    }

    fn play_turn(&mut self, mut turn: RecordedTurn<'_>, witness: &mut impl Witness) -> Step {
        let (now, rest) = (turn.now, turn.rest);
        for (session, outcome) in std::mem::take(&mut turn.handshakes) {
            if let HandshakeResult::Connected(profile, keys) = &outcome.result {
                witness.on_keys(now, session, *profile, keys);
            }
            self.tape.push(session, outcome);
        }
        self.restore(now);
        let of_ring = self.restoring.is_some();
        if of_ring {
            let recorded = &turn.events;
            let opened: Vec<_> = recorded.iter().filter_map(opened).collect();
            let closed: Vec<_> = recorded.iter().filter_map(closed).collect();
            self.pump.shard_to_restore().arrange(&opened, &closed);
        }
        let mut port = Replayed::new(turn, witness, of_ring);
        let _wait = self.pump.turn(now, &mut port);
        self.played += 1;
        let Told { recorded, replayed } = std::mem::take(&mut port.told);
        let (faulted, differs) = port.finish();
        let difference = match &mut self.restoring {
            Some(restoring) => {
                // What a session that is not there was to take would wait for another of its number.
                self.tape.clear();
                let place = (self.played, now);
                restoring.standings.compare(place, recorded, replayed)
            }
            None => self.compare(now, rest, differs),
        };
        let agrees = difference.is_none();
        if self.difference.is_none() {
            self.difference = difference;
        }
        Step::Turn {
            now,
            faulted,
            agrees,
        }
    }

    /// Turns whenever the shard wants to before `now`.
    fn wake_until(&mut self, now: Timestamp, witness: &mut impl Witness) {
        let mut last = Timestamp::ZERO;
        for _ in 0..REPLAY_WAKES_MAX {
            let Some(deadline) = self.pump.shard().deadline() else {
                break;
            };
            // The wheel may want to be turned before anything is due, but never at one time twice.
            if deadline >= now || deadline <= last {
                break;
            }
            last = deadline;
            let of_ring = self.restoring.is_some();
            let mut port = Replayed::new(RecordedTurn::nothing(deadline), witness, of_ring);
            let _wait = self.pump.turn(deadline, &mut port);
        }
    }

    /// Lets the sessions begin that were read to stand somewhere.
    fn restore(&mut self, now: Timestamp) {
        let Some(restoring) = &mut self.restoring else {
            return;
        };
        restoring.last = Some(now);
        let mut births = std::mem::take(&mut restoring.births);
        births.sort_by_key(|birth| birth.order);
        let standings = &mut restoring.standings;
        let shard = self.pump.shard_to_restore();
        let restored = shard.restore(&births, |session| standings.is_stale(session));
        for birth in restored {
            standings.note_birth(birth.session, birth.at);
        }
    }

    /// How a turn differed in anything.
    fn compare(
        &self,
        now: Timestamp,
        rest: Rest,
        mut differs: Option<Differs>,
    ) -> Option<Difference> {
        let deadline = self.pump.shard().deadline();
        if differs.is_none() && !self.tape.is_empty() {
            differs = Some(Differs::Handshakes);
        }
        if differs.is_none() && deadline != rest.deadline {
            differs = Some(Differs::Deadline {
                recorded: rest.deadline,
                replayed: deadline,
            });
        }
        if differs.is_none() && self.digest().0 as u64 != rest.outputs {
            differs = Some(Differs::Bytes);
        }
        let turn = self.played;
        differs.map(|what| Difference { turn, now, what })
    }
}

/// The session that an event says was opened.
const fn opened(event: &Event) -> Option<SessionId> {
    match event {
        Event::Opened { session, .. } => Some(*session),
        _ => None,
    }
}

/// The session that an event says has ended.
const fn closed(event: &Event) -> Option<SessionId> {
    match event {
        Event::Closed { session, .. } => Some(*session),
        _ => None,
    }
}

/// The port of a recorded turn: it gives what was given, and takes as much as was taken.
struct Replayed<'t, 'w, W> {
    turn: RecordedTurn<'t>,
    witness: &'w mut W,
    sent: Timestamp,
    faulted: Vec<SessionId>,
    /// It is of a ring: these are to be compared, session by session.
    of_ring: bool,
    told: Told,
    differs: Option<Differs>,
}

/// Events of a turn, then and now.
#[derive(Default)]
struct Told {
    recorded: Vec<Event>,
    replayed: Vec<Event>,
}

impl Told {
    /// Whether it was told then, in whatever order; of figures, that they were asked for.
    fn has(&self, event: &Event) -> bool {
        let is_same = |recorded: &Event| match (recorded, event) {
            (Event::SessionStats { request, .. }, Event::SessionStats { request: now, .. })
            | (Event::ShardStats { request, .. }, Event::ShardStats { request: now, .. }) => {
                request == now
            }
            _ => recorded == event,
        };
        self.recorded.iter().any(is_same)
    }
}

impl<'t, 'w, W: Witness> Replayed<'t, 'w, W> {
    fn new(turn: RecordedTurn<'t>, witness: &'w mut W, of_ring: bool) -> Self {
        let mut told = Told::default();
        if of_ring {
            told.recorded.extend(turn.events.iter().cloned());
        }
        Self {
            sent: turn.now,
            turn,
            witness,
            faulted: Vec::new(),
            of_ring,
            told,
            differs: None,
        }
    }

    /// Sessions that faulted, and how the turn differed.
    fn finish(mut self) -> (Vec<SessionId>, Option<Differs>) {
        if let Some(event) = self.turn.events.pop_front() {
            self.note(Differs::Event {
                recorded: Some(Box::new(event)),
                replayed: None,
            });
        }
        if let Some((_, count)) = self.turn.sends.pop_front() {
            self.note(Differs::Sends {
                recorded: Some(count),
                replayed: 0,
            });
        }
        (self.faulted, self.differs)
    }

    fn note(&mut self, differs: Differs) {
        self.differs.get_or_insert(differs);
    }
}

impl<W: Witness> Port for Replayed<'_, '_, W> {
    fn now(&self) -> Timestamp {
        self.sent
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        let Some(slots) = self.turn.batches.front_mut() else {
            return;
        };
        let count = batch.free_count().min(slots.len());
        let mut metas = Vec::with_capacity(count);
        for (slot, out) in slots.drain(..count).zip(batch.free_slots()) {
            let len = slot.fill(out);
            let meta = slot.meta(len);
            self.witness.on_received(self.turn.now, &meta, &out[..len]);
            metas.push(meta);
        }
        metas.into_iter().for_each(|meta| batch.commit(meta));
        if slots.is_empty() {
            self.turn.batches.pop_front();
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        let command = self.turn.commands.pop_front()?;
        self.witness.on_command(self.turn.now, &command);
        Some(command)
    }

    fn next_relay(&mut self) -> Option<(ShardId, Relay)> {
        let (from, relay) = self.turn.relays.pop_front()?;
        self.witness.on_relay(self.turn.now, from, &relay);
        Some((from, relay))
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        let waiting = batch.len();
        let (at, count) = match self.turn.sends.pop_front() {
            Some((at, count)) if count as usize <= waiting => (at, count as usize),
            other => {
                self.note(Differs::Sends {
                    recorded: other.map(|(_, count)| count),
                    replayed: waiting,
                });
                (other.map_or(self.turn.now, |(at, _)| at), waiting)
            }
        };
        for (meta, contents) in batch.iter().take(count) {
            self.witness.on_transmit(self.turn.now, &meta, contents);
        }
        batch.consume(count);
        self.sent = at;
    }

    fn relay(&mut self, _to: ShardId, _relay: Relay) {}

    fn emit(&mut self, event: Event) {
        let told = event;
        let event = told.with_sound_hashed().into_owned();
        match self.of_ring && !self.told.has(&event) {
            true => self.witness.on_made_up(self.turn.now, &told),
            false => self.witness.on_event(self.turn.now, &told),
        }
        if self.of_ring {
            self.told.replayed.push(event.clone());
        }
        if let Event::Closed {
            session,
            reason: CloseReason::Fault,
        } = event
        {
            self.faulted.push(session);
        }
        let recorded = self.turn.events.pop_front();
        if recorded.as_ref() != Some(&event) {
            self.note(Differs::Event {
                recorded: recorded.map(Box::new),
                replayed: Some(Box::new(event)),
            });
        }
    }
}

//! Clients that come, talk and go, fifty a second, for as long as one likes: whatever grows with those who were there
//! shows sooner or later.
//!
//! Those that are long gone are let go of, so that the world's own books do not grow either.

use std::collections::BTreeSet;
use std::time::Duration;

use super::link::{GilbertElliott, Impairment};
use super::oracle::{Finding, Oracle, Totals, totals};
use super::peer::{Ending, PeerSpec, Picture, ScriptedPeer, Speech, Trust};
use super::scenario::{AFTERWARDS, Leaving};
use super::world::{Join, MemberId, Options, World};
use crate::drive::DigestValue;
use crate::ids::{ParticipantId, RoomId, ShardId};
use crate::message::{Role, Target};
use crate::rng::{Rng, Seed};
use crate::shard::TableSizes;
use crate::time::Timestamp;

/// Clients that join each second.
pub const JOINS_A_SECOND: u32 = 50;
/// How long a client stays, in milliseconds: two to six seconds, so that some 200 are there at a time.
const STAY_MS: (u32, u32) = (2_000, 6_000);
/// Rooms that clients meet in.
const ROOMS: u32 = 20;
/// What is still under way when a session has closed has arrived by then.
const LINGER: Duration = Duration::from_secs(1);
/// An echo that was there for so long must have heard itself: silence has a packet each 400 ms.
const HEARD_AFTER: Duration = Duration::from_secs(1);
/// Findings kept: the first say it.
const FINDINGS_MAX: usize = 100;

/// A churn to be.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Everything random derives from it.
    pub seed: u64,
    /// How long clients come.
    pub lasts: Duration,
    /// Shards; of several, followers are on any.
    pub shards: u16,
    /// A line of the product that is wrong.
    #[cfg(feature = "mutations")]
    pub mutation: Option<crate::bugs::Mutation>,
}

/// How things stand at one time.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Since the start.
    pub at: Duration,
    /// Sessions opened so far.
    pub opened: u64,
    /// Sessions that panicked so far.
    pub faults: u64,
    /// Entries of all shards' tables.
    pub tables: TableSizes,
}

/// What it came to.
#[derive(Clone, Debug)]
pub struct ChurnOutcome {
    /// What was found; at most a hundred.
    pub findings: Vec<Finding>,
    /// Hash of all outputs of all shards, each with its time.
    pub digest: DigestValue,
    /// After the last session ended.
    pub end: Standing,
    /// Sessions that connected.
    pub connected: u64,
    /// RTP packets that clients opened.
    pub packets_heard: u64,
    /// Figures of all shards, summed up.
    pub stats: Totals,
}

struct Run {
    world: World,
    rng: Rng,
    peers: Seed,
    /// Who leaves, by time.
    leaving: BTreeSet<(Timestamp, MemberId)>,
    findings: Vec<Finding>,
    connected: u64,
    packets_heard: u64,
}

impl Churn {
    /// Over two shards.
    #[must_use]
    pub const fn new(seed: u64, lasts: Duration) -> Self {
        Self {
            seed,
            lasts,
            shards: 2,
            #[cfg(feature = "mutations")]
            mutation: None,
        }
    }

    /// Runs it. `look` is shown how things stand after each second.
    #[must_use]
    pub fn run(&self, mut look: impl FnMut(&Standing)) -> ChurnOutcome {
        let world = World::new(Options {
            shards: self.shards,
            ..Options::new(self.seed)
        });
        let mut run = Run {
            rng: world.seed().derive("churn", 0).rng(),
            peers: world.seed().derive("peers", 0),
            world,
            leaving: BTreeSet::new(),
            findings: Vec::new(),
            connected: 0,
            packets_heard: 0,
        };
        #[cfg(feature = "mutations")]
        for (bugs, mutation) in run.world.bugs_mut().zip(self.mutation.into_iter().cycle()) {
            bugs.plant(mutation);
        }
        let start = run.world.now();
        for second in 1..=self.lasts.as_secs() {
            for join in 1..=JOINS_A_SECOND {
                run.join();
                let part = Duration::from_secs(1) * join / JOINS_A_SECOND;
                run.pass_until(start + Duration::from_secs(second - 1) + part);
            }
            look(&run.standing());
        }
        run.end()
    }
}

impl Run {
    /// Lets time pass, in which those leave whose time has come.
    fn pass_until(&mut self, end: Timestamp) {
        while let Some((at, id)) = self.leaving.first().copied().filter(|(at, _)| *at <= end) {
            self.leaving.pop_first();
            self.world.run_until(at);
            self.let_leave(id);
        }
        self.world.run_until(end);
        self.release();
    }

    fn join(&mut self) {
        let id = self.world.next_member();
        let (room, shards) = (self.rng.below(ROOMS), self.world.shards());
        let home = (room % shards) as u16;
        let mut spec = PeerSpec::new(id.0);
        (spec.passive, spec.eager) = (self.chance(20), self.chance(60));
        let (mut shard, room) = (home, RoomId(room));
        let role = match self.rng.below(100) {
            0..40 => {
                (spec.speech, spec.hears) = (Some(Speech::Spurts), true);
                Role::Echo
            }
            40..65 => {
                spec.speech = Some(Speech::Spurts);
                spec.picture = self.chance(10).then_some(Picture::Plain);
                let participant = ParticipantId(id.0);
                Role::Publish { room, participant }
            }
            _ => {
                (spec.hears, spec.sees) = (true, true);
                // Whom it follows changes.
                spec.trust = Trust::Payloads;
                shard = self.rng.below(shards) as u16;
                let target = Target::Newest;
                Role::Subscribe { room, target }
            }
        };
        let (up, down) = self.ways();
        let ipv6 = self.chance(20);
        self.world.join(Join {
            peer: Box::new(ScriptedPeer::new(spec, &self.peers)),
            role: role.on(ShardId(shard), ShardId(home)),
            shard,
            up,
            down,
            ipv6,
        });
        let stay = STAY_MS.0 + self.rng.below(STAY_MS.1 - STAY_MS.0);
        let leaves = self.world.now() + Duration::from_millis(stay.into());
        self.leaving.insert((leaves, id));
    }

    /// Both directions of one way: most are clean, some lose and jitter, and of a hundred three lead nowhere.
    fn ways(&mut self) -> (Vec<Impairment>, Vec<Impairment>) {
        let delay = Duration::from_millis((5 + self.rng.below(60)).into());
        let mut way = vec![Impairment::Delay(delay)];
        match self.rng.below(100) {
            0..3 => way.push(Impairment::Blackout(
                Timestamp::ZERO,
                self.world.now() + AFTERWARDS,
            )),
            3..20 => {
                way.push(Impairment::Loss(GilbertElliott::even(20)));
                way.push(Impairment::Jitter(Duration::from_millis(15)));
            }
            _ => {}
        }
        (way.clone(), way)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }

    fn let_leave(&mut self, id: MemberId) {
        let leaving = match self.rng.below(10) {
            0..5 => Leaving::Politely,
            5..8 => Leaving::ByRequest,
            _ => Leaving::Vanishing,
        };
        match leaving {
            Leaving::Politely => self.world.leave(id),
            Leaving::ByRequest => self.world.close(id),
            Leaving::Vanishing => {}
        }
        self.judge(id);
        // Whoever asked the server to end its session does not wait for it.
        self.world.vanish(id);
    }

    /// What a client heard until it left.
    fn judge(&mut self, id: MemberId) {
        let member = self.world.member(id);
        let report = member.peer.report();
        let mut found = report.findings.clone();
        let heard: u64 = report.heard.iter().map(|heard| heard.packets).sum();
        if let Some(connected) = report.connected {
            let stayed = self.world.now().since(connected);
            if member.role == Role::Echo && stayed >= HEARD_AFTER && heard == 0 {
                found.push(format!("an echo of {stayed:?} heard nothing"));
            }
        }
        if matches!(report.ended, Some((_, Ending::Closed | Ending::Failed))) {
            found.push(format!("it ended before it left: {:?}", report.ended));
        }
        self.packets_heard += heard;
        self.connected += u64::from(report.connected.is_some());
        for what in found {
            self.find(Oracle::Outcome, format!("{id:?}: {what}"));
        }
    }

    fn release(&mut self) {
        self.world.release(LINGER).for_each(drop);
    }

    fn find(&mut self, oracle: Oracle, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { oracle, what });
        }
    }

    fn standing(&self) -> Standing {
        let (mut opened, mut faults) = (0, 0);
        for stats in self.world.stats() {
            opened += stats.sessions_opened;
            faults += stats.faults;
        }
        let tables = self.world.table_sizes();
        Standing {
            at: self.world.now().since(Timestamp::ZERO),
            opened,
            faults,
            tables: tables.fold(TableSizes::default(), |sum, tables| TableSizes {
                sessions: sum.sessions + tables.sessions,
                paths: sum.paths + tables.paths,
                rooms: sum.rooms + tables.rooms,
                timers: sum.timers + tables.timers,
                stand_ins: sum.stand_ins + tables.stand_ins,
                relayed: sum.relayed + tables.relayed,
            }),
        }
    }

    /// Everybody leaves, and the last session expires.
    fn end(mut self) -> ChurnOutcome {
        for (_, id) in std::mem::take(&mut self.leaving) {
            self.let_leave(id);
        }
        self.world.run_for(AFTERWARDS);
        self.release();
        let end = self.standing();
        if end.tables != TableSizes::default() {
            self.find(Oracle::Leak, format!("shards still hold {:?}", end.tables));
        }
        if self.world.deadlines().any(|deadline| deadline.is_some()) {
            self.find(Oracle::Leak, "a shard still waits for something".to_owned());
        }
        if end.faults > 0 {
            self.find(Oracle::Outcome, format!("{} sessions panicked", end.faults));
        }
        let left = self.world.members().len();
        if left > 0 {
            self.find(
                Oracle::Leak,
                format!("nobody was told of the end of {left} sessions"),
            );
        }
        for finding in self.world.findings().to_vec() {
            self.find(Oracle::Outcome, finding);
        }
        ChurnOutcome {
            findings: self.findings,
            digest: self.world.digest(),
            end,
            connected: self.connected,
            packets_heard: self.packets_heard,
            stats: totals(&self.world.stats().collect::<Vec<_>>()),
        }
    }
}

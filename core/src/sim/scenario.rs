//! Worlds drawn from a seed, and how they run: a phase of faults, then one without, in which everybody must recover.
//!
//! ```text
//! 0 s ───────── safety ─────────▶ 15 s ── recovery ──▶ 25 s ─ watched ─▶ 30 s ── all leave ──▶ 65 s
//!     joins, leaves, faults        faults off                                  tables are empty
//! ```

use std::fmt;
use std::time::Duration;

use super::hostile::{Hostility, Stranger};
use super::link::{GilbertElliott, Impairment, Rate, Service};
use super::oracle::{self, Outcome};
use super::peer::{Mischief, PeerSpec, Picture, ScriptedPeer, Speech, Trust};
use super::source::Clock;
use super::world::{Cut, Join, MemberId, Options, World};
use crate::ids::{ParticipantId, RoomId, ShardId};
use crate::journal::{self, Kept, Payloads, Retention};
use crate::message::{Role, Target};
use crate::rng::{Rng, Seed};
use crate::time::Timestamp;

/// Faults end here.
pub const SAFETY: Duration = Duration::from_secs(15);
/// Within this every call must have recovered. A client notices a dead session in at most 0.5 s, gives a hopeless
/// handshake up after 5 s, and needs two round trips for a new one; a path comes back with a check, at most 2.5 s
/// later. 10 s hold all of it in a row.
pub const RECOVERY: Duration = Duration::from_secs(10);
/// So long everything must flow after that.
pub const WATCH: Duration = Duration::from_secs(5);
/// Until the last session of a vanished client has expired: consent lasts 29 s, a set-up 25 s.
pub const AFTERWARDS: Duration = Duration::from_secs(35);

/// How often clients and the scenario look at what there is to do.
const TICK: Duration = Duration::from_millis(100);
/// How long a client waits for its handshake before it tries anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after the end of its session a client comes back.
const REJOIN_AFTER: Duration = Duration::from_millis(300);

/// One number drawn, with its name.
#[derive(Clone, Debug)]
pub struct Draw {
    /// What it is for.
    pub name: String,
    /// What came.
    pub value: String,
}

/// Chances with a memory of what was drawn.
#[derive(Debug)]
struct Draws {
    rng: Rng,
    drawn: Vec<Draw>,
}

impl Draws {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self {
            rng: Seed::new(bytes).derive("scenario", 0).rng(),
            drawn: Vec::new(),
        }
    }

    fn note(&mut self, name: &str, value: impl fmt::Debug) {
        self.drawn.push(Draw {
            name: name.to_owned(),
            value: format!("{value:?}"),
        });
    }

    /// From `least` to `most`, both included.
    fn between(&mut self, name: &str, least: u32, most: u32) -> u32 {
        let value = least + self.rng.below(most - least + 1);
        self.note(name, value);
        value
    }

    fn chance(&mut self, name: &str, percent: u32) -> bool {
        let value = self.rng.below(100) < percent;
        self.note(name, value);
        value
    }

    fn pick<T: Copy + fmt::Debug>(&mut self, name: &str, of: &[T]) -> T {
        let value = of[self.rng.below(of.len() as u32) as usize];
        self.note(name, value);
        value
    }

    fn ms(&mut self, name: &str, least: u32, most: u32) -> Duration {
        let value = Duration::from_millis((least + self.rng.below(most - least + 1)).into());
        self.note(name, value);
        value
    }
}

/// How a client ends its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It says so to its session.
    Politely,
    /// It asks the server to end it.
    ByRequest,
    /// It is gone without a word.
    Vanishing,
}

/// One client's call as planned: it wants to be in from one time to another, and comes back when it is cut off.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its room; echoes have one of their own.
    pub room: u32,
    /// What its sessions are for.
    pub role: Role,
    /// What it is; the member's number is filled in when it joins.
    pub spec: PeerSpec,
    /// Its way to the server.
    pub up: Vec<Impairment>,
    /// The way back.
    pub down: Vec<Impairment>,
    /// It comes over IPv6.
    pub ipv6: bool,
    /// When it joins.
    pub joins: Duration,
    /// When it leaves for good; `None`: it stays.
    pub leaves: Option<Duration>,
    /// How it leaves, then or at the end.
    pub leaving: Leaving,
    /// When its NAT gives it another address.
    pub rebinds: Vec<Duration>,
    /// When it restarts ICE.
    pub restarts: Vec<Duration>,
}

impl Call {
    /// A call of a peer over a clean link, from the start to the end.
    #[must_use]
    pub fn new(room: u32, role: Role, spec: PeerSpec, delay: Duration) -> Self {
        Self {
            room,
            role,
            spec,
            up: vec![Impairment::Delay(delay)],
            down: vec![Impairment::Delay(delay)],
            ipv6: false,
            joins: Duration::ZERO,
            leaves: None,
            leaving: Leaving::Politely,
            rebinds: Vec::new(),
            restarts: Vec::new(),
        }
    }

    /// Whether it is meant to be in at `at`.
    #[must_use]
    pub fn wants_in(&self, at: Duration) -> bool {
        at >= self.joins && self.leaves.is_none_or(|leaves| at < leaves)
    }

    /// Whether packets may overtake each other on its ways.
    #[must_use]
    pub fn reorders(&self) -> bool {
        let mut ways = self.up.iter().chain(&self.down);
        ways.any(|way| matches!(way, Impairment::Reorder { .. }))
    }

    /// Whether its ways lose packets here and there and do nothing worse: what is lost can be sent again.
    #[must_use]
    pub fn is_gentle(&self) -> bool {
        let gentle = |impairment: &Impairment| match impairment {
            Impairment::Loss(loss) => loss.bad == 0 && loss.good <= 50,
            Impairment::Rate(_) | Impairment::Mtu(_) | Impairment::Blackout(..) => false,
            _ => true,
        };
        self.up.iter().chain(&self.down).all(gentle)
    }

    /// Whom it publishes as, if it does.
    #[must_use]
    pub const fn publishes_as(&self) -> Option<ParticipantId> {
        match self.role {
            Role::Publish { participant, .. } => Some(participant),
            _ => None,
        }
    }
}

/// A stranger as planned.
#[derive(Clone, Copy, Debug)]
struct Hostile {
    kind: Hostility,
    starts: Duration,
    interval: Duration,
}

/// A world to be: who comes, over what, and what goes wrong.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it was drawn from.
    pub seed: u64,
    /// Every draw.
    pub draws: Vec<Draw>,
    /// Shards.
    pub shards: u16,
    /// Shards look at their sockets only so often.
    pub nap: Option<Duration>,
    /// Everybody's plans.
    pub calls: Vec<Call>,
    hostile: Vec<Hostile>,
    /// When sockets take nothing, and for how long.
    clogs: Vec<(Duration, Duration)>,
    /// How long faults last.
    pub safety: Duration,
}

/// How to run a scenario; what is not the scenario's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// Shards, if not as many as were drawn.
    pub shards: Option<u16>,
    /// Subscribers are spread over the shards, wherever their room's publishers are.
    pub is_spread: bool,
    /// How datagrams are handed over.
    pub cut: Cut,
    /// A line of the product that is wrong.
    #[cfg(feature = "mutations")]
    pub mutation: Option<crate::bugs::Mutation>,
    /// How often of 1,000 the product has bad luck where it can.
    #[cfg(feature = "mutations")]
    pub bad_luck: u32,
}

impl Scenario {
    /// The scenarios there are.
    pub const NAMES: [&'static str; 3] = ["swarm", "rooms", "video"];

    /// The scenario of a name; `seconds` say how long its first phase lasts, if not as usual.
    #[must_use]
    pub fn named(name: &str, seed: u64, seconds: Option<u64>) -> Option<Self> {
        let mut scenario = match name {
            "swarm" => Self::swarm(seed),
            "rooms" => Self::rooms(seed, 4, Speech::Spurts, None),
            "video" => Self::rooms(seed, 1, Speech::Spurts, Some(Picture::Plain)),
            _ => return None,
        };
        if let Some(seconds) = seconds {
            scenario.set_safety(Duration::from_secs(seconds));
        }
        Some(scenario)
    }

    /// When everybody must have recovered; after a short phase of faults not before it would be after a usual one. A
    /// client whose handshake a stranger spoilt believes itself connected until the session gives its set-up up, after
    /// 25 s.
    pub(super) fn recovered(&self) -> Duration {
        self.safety.max(SAFETY) + RECOVERY
    }

    /// Ends the phase of faults at `safety`. Who joins later joins then, and what else calls were to do later is left
    /// out; what goes wrong with links and by strangers ends then by itself.
    fn set_safety(&mut self, safety: Duration) {
        self.safety = safety;
        for call in &mut self.calls {
            call.joins = call.joins.min(safety);
            call.leaves = call.leaves.filter(|at| *at < safety);
            call.rebinds.retain(|at| *at < safety);
            call.restarts.retain(|at| *at < safety);
        }
    }

    /// Rooms of four over clean links, in which everybody hears everybody: four publish, and each follows three.
    #[must_use]
    pub fn rooms(seed: u64, rooms: u32, speech: Speech, picture: Option<Picture>) -> Self {
        let name = if picture.is_some() { "video" } else { "rooms" };
        let mut scenario = Self::empty(name, seed);
        for room in 0..rooms {
            for who in 0..4 {
                let delay = Duration::from_millis(u64::from(10 + 7 * who + room % 5));
                let mut spec = PeerSpec::new(0);
                (spec.speech, spec.picture) = (Some(speech), picture);
                let role = publish(room, who);
                scenario.calls.push(Call::new(room, role, spec, delay));
                for other in (0..4).filter(|other| *other != who) {
                    let mut spec = PeerSpec::new(0);
                    (spec.hears, spec.sees) = (true, picture.is_some());
                    let role = follow(room, Target::Participant(ParticipantId(other)));
                    scenario.calls.push(Call::new(room, role, spec, delay));
                }
            }
        }
        scenario
    }

    /// Whatever the seed draws.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let mut scenario = Self::empty("swarm", seed);
        scenario.shards = draws.between("shards", 1, 3) as u16;
        scenario.nap = draws
            .chance("shards nap", 30)
            .then(|| draws.ms("nap", 1, 5));
        let faults = Faults::draw(&mut draws);
        for room in 0..draws.between("rooms", 1, 3) {
            scenario.add_room(room, &faults, &mut draws);
        }
        for echo in 0..draws.between("echoes", 0, 2) {
            scenario.add_echo(100 + echo, &faults, &mut draws);
        }
        if faults.strangers {
            for _ in 0..draws.between("strangers", 1, 3) {
                let kind = draws.pick("stranger", &Hostility::ALL);
                let interval = draws.ms("stranger's interval", 5, 100);
                let starts = draws.ms("stranger starts", 0, 8_000);
                scenario.hostile.push(Hostile {
                    kind,
                    starts,
                    interval,
                });
            }
        }
        if faults.clogs {
            for _ in 0..draws.between("clogs", 1, 2) {
                let clog = (
                    draws.ms("clog starts", 500, 13_000),
                    draws.ms("clog lasts", 10, 800),
                );
                scenario.clogs.push(clog);
            }
        }
        scenario.draws = draws.drawn;
        scenario
    }

    /// Whether what a call hears does not depend on which shard has it, whose sessions have other profiles and
    /// numbers: bottlenecks serve by size, and a storm of NACKs hits by chance.
    #[must_use]
    pub fn is_the_same_on_any_shard(&self) -> bool {
        let mut ways = self
            .calls
            .iter()
            .flat_map(|call| call.up.iter().chain(&call.down));
        let by_size = |way: &Impairment| matches!(way, Impairment::Rate(_) | Impairment::Mtu(_));
        let storms = |call: &Call| call.spec.mischief == Some(Mischief::NackStorm);
        !ways.any(by_size) && !self.calls.iter().any(storms)
    }

    fn empty(name: &'static str, seed: u64) -> Self {
        Self {
            name,
            seed,
            draws: Vec::new(),
            shards: 1,
            nap: None,
            calls: Vec::new(),
            hostile: Vec::new(),
            clogs: Vec::new(),
            safety: SAFETY,
        }
    }

    fn add_room(&mut self, room: u32, faults: &Faults, draws: &mut Draws) {
        let participants = draws.between("participants", 1, 4);
        let first = self.calls.len();
        for who in 0..participants {
            let mut spec = PeerSpec::new(0);
            spec.speech = Some(Speech::Spurts);
            if faults.video && draws.chance("shows itself", 40) {
                let kinds = [
                    Picture::Plain,
                    Picture::Plain,
                    Picture::Simulcast,
                    Picture::WithoutRtx,
                ];
                spec.picture = Some(draws.pick("picture", &kinds));
            }
            if faults.mischief && draws.chance("publisher means no good", 15) {
                let kinds = [Mischief::SourceFlood, Mischief::Rubbish, Mischief::Goodbyes];
                spec.mischief = Some(draws.pick("mischief", &kinds));
            }
            self.add_call(room, publish(room, who), spec, faults, draws);
        }
        let shows = |calls: &[Call], who: u32| {
            let found = calls
                .iter()
                .find(|call| call.publishes_as() == Some(ParticipantId(who)));
            found.is_some_and(|call| call.spec.picture.is_some())
        };
        for who in 0..participants {
            for other in (0..participants).filter(|other| *other != who) {
                if !draws.chance("follows", 75) {
                    continue;
                }
                let mut spec = PeerSpec::new(0);
                (spec.hears, spec.sees) = (true, shows(&self.calls[first..], other));
                let newest = draws.chance("follows the newest", 10);
                let target = if newest {
                    Target::Newest
                } else {
                    Target::Participant(ParticipantId(other))
                };
                if faults.mischief && draws.chance("follower means no good", 10) {
                    let kinds = [
                        Mischief::NackStorm,
                        Mischief::KeyframeStorm,
                        Mischief::Rubbish,
                    ];
                    spec.mischief = Some(draws.pick("mischief", &kinds));
                }
                self.add_call(room, follow(room, target), spec, faults, draws);
            }
        }
    }

    fn add_echo(&mut self, room: u32, faults: &Faults, draws: &mut Draws) {
        let mut spec = PeerSpec::new(0);
        (spec.speech, spec.hears) = (Some(Speech::Spurts), true);
        if faults.video && draws.chance("echo of video", 30) {
            (spec.picture, spec.sees) = (Some(Picture::Plain), true);
        }
        self.add_call(room, Role::Echo, spec, faults, draws);
    }

    fn add_call(
        &mut self,
        room: u32,
        role: Role,
        mut spec: PeerSpec,
        faults: &Faults,
        draws: &mut Draws,
    ) {
        spec.passive = draws.chance("waits for the hello", 20);
        spec.eager = draws.chance("nominates at once", 60);
        if faults.skew {
            spec.clock = Clock {
                ppm: i64::from(draws.between("clock's ppm, from -500", 0, 1_000)) - 500,
                offset: draws.ms("clock's offset", 0, 100_000),
            };
        }
        let (up, down) = faults.network(draws);
        let mut call = Call::new(room, role, spec, Duration::ZERO);
        (call.up, call.down) = (up, down);
        call.ipv6 = draws.chance("ipv6", 20);
        call.joins = draws.ms("joins", 0, 4_000);
        let ways = [Leaving::Politely, Leaving::ByRequest, Leaving::Vanishing];
        call.leaving = draws.pick("leaving", &ways);
        if draws.chance("leaves", 20) {
            call.leaves = Some(draws.ms("leaves at", 5_000, 14_000));
        }
        if faults.rebinds && draws.chance("is rebound", 30) {
            call.rebinds.push(draws.ms("rebound at", 3_000, 14_000));
        }
        if faults.restarts && draws.chance("restarts ICE", 20) {
            call.restarts.push(draws.ms("restarts at", 3_000, 14_000));
        }
        self.calls.push(call);
    }

    /// Runs it and lets the oracles judge.
    #[must_use]
    pub fn run(&self, setting: Setting) -> Outcome {
        self.run_in(self.world(setting), setting)
    }

    /// The same, and the journal of the first shard.
    #[must_use]
    pub fn run_recorded(&self, setting: Setting, payloads: Payloads) -> (Outcome, Vec<u8>) {
        let mut world = self.world(setting);
        let kept = Kept::default();
        let whole = Retention::Whole { budget: u64::MAX };
        let header = world.record(0, payloads, whole, Box::new(kept.clone()));
        let outcome = self.run_in(world, setting);
        let mut journal = journal::begin(header);
        journal.append(&mut kept.into_bytes());
        (outcome, journal)
    }

    fn world(&self, setting: Setting) -> World {
        World::new(Options {
            seed: self.seed,
            shards: setting.shards.unwrap_or(self.shards),
            cut: setting.cut,
            nap: self.nap,
        })
    }

    fn run_in(&self, world: World, setting: Setting) -> Outcome {
        let mut run = Run::new(self, world, setting.is_spread);
        #[cfg(feature = "mutations")]
        run.plant(setting);
        run.until(self.safety);
        run.world.heal();
        run.until(self.recovered());
        run.measure_gaps();
        run.until(self.recovered() + WATCH);
        let mut outcome = oracle::judge(self, &run);
        run.end_all();
        run.world.run_for(AFTERWARDS);
        oracle::judge_end(&mut run, &mut outcome);
        outcome
    }
}

/// Which kinds of faults a seed has: some are left out altogether, so that the others show what they do alone.
#[derive(Clone, Copy, Debug)]
struct Faults {
    video: bool,
    mischief: bool,
    strangers: bool,
    clogs: bool,
    rebinds: bool,
    restarts: bool,
    skew: bool,
    loss: bool,
    jitter: bool,
    bottleneck: bool,
    blackouts: bool,
}

impl Faults {
    fn draw(draws: &mut Draws) -> Self {
        Self {
            video: draws.chance("video", 60),
            mischief: draws.chance("mischief", 40),
            strangers: draws.chance("strangers", 50),
            clogs: draws.chance("clogs", 25),
            rebinds: draws.chance("rebinds", 40),
            restarts: draws.chance("restarts", 40),
            skew: draws.chance("skew", 50),
            loss: draws.chance("loss", 60),
            jitter: draws.chance("jitter", 60),
            bottleneck: draws.chance("bottlenecks", 30),
            blackouts: draws.chance("blackouts", 40),
        }
    }

    /// Both directions of one way.
    fn network(&self, draws: &mut Draws) -> (Vec<Impairment>, Vec<Impairment>) {
        let delay = draws.ms("delay", 1, 120);
        let (up, down) = (self.direction("up", draws), self.direction("down", draws));
        let behind = |mut impairments: Vec<Impairment>| {
            impairments.insert(0, Impairment::Delay(delay));
            impairments
        };
        (behind(up), behind(down))
    }

    fn direction(&self, direction: &str, draws: &mut Draws) -> Vec<Impairment> {
        let mut impairments = Vec::new();
        let name = |what: &str| format!("{direction}: {what}");
        if self.loss && draws.chance(&name("loses"), 60) {
            let permille = draws.pick(&name("loss permille"), &[5, 20, 50, 100, 200]);
            let length = draws.pick(&name("burst length"), &[1, 1, 3, 10]);
            let loss = match length {
                1 => GilbertElliott::even(permille),
                _ => GilbertElliott::bursts(permille, length),
            };
            impairments.push(Impairment::Loss(loss));
        }
        if self.jitter && draws.chance(&name("jitters"), 60) {
            impairments.push(Impairment::Jitter(draws.ms(&name("jitter"), 1, 60)));
            let permille = draws.pick(&name("reordered permille"), &[0, 5, 50]);
            let by = draws.ms(&name("reordered by"), 1, 40);
            impairments.push(Impairment::Reorder { permille, by });
            let permille = draws.pick(&name("duplicated permille"), &[0, 5, 50]);
            let by = draws.ms(&name("duplicated by"), 0, 40);
            impairments.push(Impairment::Duplicate { permille, by });
        }
        if self.bottleneck && draws.chance(&name("narrow"), 40) {
            let rate = draws.pick(&name("kbit/s"), &[64, 200, 500, 2_000]);
            let queue = draws.ms(&name("queue"), 20, 400);
            let service = Service::Constant(rate * 1_000);
            impairments.push(Impairment::Rate(Rate::new(service, queue)));
        }
        if self.bottleneck && draws.chance(&name("small MTU"), 15) {
            let most = draws.between(&name("MTU"), 500, 1_100);
            impairments.push(Impairment::Mtu(most as usize));
        }
        if self.blackouts && draws.chance(&name("blackout"), 25) {
            let from = Timestamp::ZERO + draws.ms(&name("blackout starts"), 1_000, 14_000);
            let to = from + draws.ms(&name("blackout lasts"), 100, 9_000);
            impairments.push(Impairment::Blackout(from, to));
        }
        impairments
    }
}

fn publish(room: u32, participant: u32) -> Role {
    Role::Publish {
        room: RoomId(room),
        participant: ParticipantId(participant),
    }
}

fn follow(room: u32, target: Target) -> Role {
    Role::Subscribe {
        room: RoomId(room),
        target,
    }
}

/// A scenario under way.
pub struct Run<'a> {
    /// What was planned.
    pub scenario: &'a Scenario,
    /// Where it happens.
    pub world: World,
    /// The members of each call, in the order in which they came.
    pub members: Vec<Vec<MemberId>>,
    is_spread: bool,
    seed: Seed,
    started: Timestamp,
    done: Duration,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, world: World, is_spread: bool) -> Self {
        Self {
            scenario,
            is_spread,
            members: vec![Vec::new(); scenario.calls.len()],
            seed: world.seed().derive("peers", 0),
            started: world.now(),
            world,
            done: Duration::ZERO,
        }
    }

    #[cfg(feature = "mutations")]
    fn plant(&mut self, setting: Setting) {
        let seed = self.seed.derive("bad luck", 0);
        for bugs in self.world.bugs_mut() {
            if let Some(mutation) = setting.mutation {
                bugs.plant(mutation);
            }
            if setting.bad_luck > 0 {
                bugs.strike(setting.bad_luck, &seed);
            }
        }
    }

    /// Since the start.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.done
    }

    /// Ticks until `end`, and does in each what was planned for it.
    fn until(&mut self, end: Duration) {
        while self.done < end {
            let (from, to) = (self.done, (self.done + TICK).min(end));
            self.start_hostile(from, to);
            for call in 0..self.scenario.calls.len() {
                self.follow_plan(call, from, to);
            }
            self.done = to;
            self.world.run_until(self.started + to);
        }
    }

    fn start_hostile(&mut self, from: Duration, to: Duration) {
        let (scenario, is_now) = (self.scenario, |at: Duration| at >= from && at < to);
        if from >= scenario.safety {
            return;
        }
        for (hostile, number) in scenario.hostile.iter().zip(0_u8..) {
            if is_now(hostile.starts) {
                let address = ([203, 0, 113, number], 9).into();
                let seed = self.seed.derive("stranger", number.into());
                let (kind, interval) = (hostile.kind, hostile.interval);
                let start = self.world.now();
                let stranger = Stranger::new(kind, address, start, interval, &seed);
                self.world.add_stranger(stranger);
            }
        }
        for (at, length) in &scenario.clogs {
            if is_now(*at) {
                self.world.clog_until(self.world.now() + *length);
            }
        }
    }

    fn follow_plan(&mut self, number: usize, from: Duration, to: Duration) {
        let call = &self.scenario.calls[number];
        let is_now = |at: Duration| at >= from && at < to;
        let current = self.members[number].last().copied();
        if call.leaves.is_some_and(is_now) {
            self.end(number);
            return;
        }
        if !call.wants_in(from.max(call.joins.min(to))) || call.joins >= to {
            return;
        }
        let Some(current) = current else {
            self.join(number);
            return;
        };
        for _ in call.rebinds.iter().filter(|at| is_now(**at)) {
            self.world.rebind(current);
        }
        for _ in call.restarts.iter().filter(|at| is_now(**at)) {
            self.world.restart(current);
        }
        if self.is_lost(current) {
            self.world.leave(current);
            self.join(number);
        }
    }

    /// Whether a client sees that it must try anew.
    fn is_lost(&self, id: MemberId) -> bool {
        let (member, now) = (self.world.member(id), self.world.now());
        let report = member.peer.report();
        match report.ended {
            Some((at, _)) => now.since(at) >= REJOIN_AFTER,
            None if report.connected.is_none() => now.since(member.joined) >= PATIENCE,
            // The server's API says so, which browsers watch too.
            None => member
                .closed
                .is_some_and(|(at, _)| now.since(at) >= REJOIN_AFTER),
        }
    }

    fn join(&mut self, number: usize) {
        let call = &self.scenario.calls[number];
        let member = self.world.next_member();
        let spec = PeerSpec {
            member: member.0,
            trust: self.scenario.trust(call),
            ..call.spec
        };
        let heals = self.done >= self.scenario.safety;
        let only_delay = |impairments: &[Impairment]| -> Vec<_> {
            let stays =
                |impairment: &&Impairment| !heals || matches!(impairment, Impairment::Delay(_));
            impairments.iter().filter(stays).cloned().collect()
        };
        let shards = self.world.shards();
        let home = (call.room % shards) as u16;
        let shard = match call.role {
            Role::Subscribe { room, .. } if self.is_spread => {
                ((room.0 + number as u32) % shards) as u16
            }
            _ => home,
        };
        self.world.join(Join {
            peer: Box::new(ScriptedPeer::new(spec, &self.seed)),
            role: call.role.on(ShardId(shard), ShardId(home)),
            shard,
            up: only_delay(&call.up),
            down: only_delay(&call.down),
            ipv6: call.ipv6,
        });
        self.members[number].push(member);
    }

    fn end(&mut self, number: usize) {
        let Some(current) = self.members[number].last().copied() else {
            return;
        };
        match self.scenario.calls[number].leaving {
            Leaving::Politely => self.world.leave(current),
            Leaving::ByRequest => self.world.close(current),
            Leaving::Vanishing => self.world.vanish(current),
        }
    }

    fn measure_gaps(&mut self) {
        let now = self.world.now();
        for current in self.members.iter().filter_map(|members| members.last()) {
            self.world.member_mut(*current).peer.measure_gaps_from(now);
        }
    }

    fn end_all(&mut self) {
        for number in 0..self.members.len() {
            self.end(number);
        }
    }
}

impl Scenario {
    /// How far what a call hears must be as it was said.
    pub(super) fn trust(&self, call: &Call) -> Trust {
        let is_hostile = |other: &Call| {
            let kinds = [Some(Mischief::SourceFlood), Some(Mischief::Goodbyes)];
            other.room == call.room && kinds.contains(&other.spec.mischief)
        };
        if self.calls.iter().any(is_hostile) {
            return Trust::Nothing;
        }
        match call.role {
            Role::Subscribe {
                target: Target::Newest,
                ..
            } => Trust::Payloads,
            _ => Trust::Everything,
        }
    }
}

/// Every draw, on as few lines as they need.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of seed {}", self.name, self.seed)?;
        let mut column = usize::MAX;
        for Draw { name, value } in &self.draws {
            let width = name.len() + value.len() + 5;
            if column > 100 - width.min(100) {
                write!(f, "\n ")?;
                column = 0;
            }
            write!(f, " {name} = {value};")?;
            column += width;
        }
        Ok(())
    }
}

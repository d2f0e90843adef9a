//! D2: the same inputs give the same outputs, however they are cut into turns.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use antiphon_core::drive::{Port, Pump, RecvBatch, RecvMeta, TransmitBatch, Turn, Turner};
use antiphon_core::fuzzing::{OFFER, binding_request};
use antiphon_core::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use antiphon_core::message::{CloseReason, Command, Event, Role, ShardStats, Target};
use antiphon_core::plan::{IceCredentials, SessionPlan};
use antiphon_core::rng::Seed;
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, Tuning};
use antiphon_core::time::{Epoch, Timestamp};
use antiphon_core::wire::{Class, classify};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);

/// What happens at one time, in this order.
#[derive(Clone, Debug)]
struct Tick {
    after_ms: u64,
    commands: Vec<Said>,
    datagrams: Vec<Flying>,
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Open(u8),
    Restart(usize),
    Close(usize),
    SessionStats(usize),
    ShardStats,
}

#[derive(Clone, Debug)]
enum Flying {
    Garbage(u8, Vec<u8>),
    /// A sound check for one of the sessions.
    Check {
        source: u8,
        session: usize,
        nominate: bool,
    },
    /// A check for one of the sessions under another password.
    Forged(u8, usize),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => any::<u8>().prop_map(Said::Open),
        1 => (0_usize..4).prop_map(Said::Restart),
        1 => (0_usize..4).prop_map(Said::Close),
        2 => (0_usize..4).prop_map(Said::SessionStats),
        1 => Just(Said::ShardStats),
    ]
}

fn flying() -> impl Strategy<Value = Flying> {
    let garbage = prop_oneof![
        vec(any::<u8>(), 0..60),
        // A first byte that is a protocol's.
        (
            prop_oneof![Just(0_u8), Just(22), Just(0x80), Just(0x81)],
            vec(any::<u8>(), 0..60)
        )
            .prop_map(|(first, rest)| [vec![first], rest].concat()),
    ];
    let source = 0_u8..4;
    prop_oneof![
        3 => (source.clone(), garbage).prop_map(|(source, bytes)| Flying::Garbage(source, bytes)),
        3 => (source.clone(), 0_usize..4, any::<bool>())
            .prop_map(|(source, session, nominate)| Flying::Check { source, session, nominate }),
        1 => (source, 0_usize..4).prop_map(|(source, session)| Flying::Forged(source, session)),
    ]
}

fn script() -> impl Strategy<Value = Vec<Tick>> {
    let after_ms = prop_oneof![4 => 1_u64..50, 1 => 1_000_u64..20_000];
    let tick = (after_ms, vec(said(), 0..4), vec(flying(), 0..70)).prop_map(
        |(after_ms, commands, datagrams)| Tick {
            after_ms,
            commands,
            datagrams,
        },
    );
    vec(tick, 1..12)
}

/// How datagrams are cut into turns and slots.
#[derive(Clone, Copy, Debug)]
struct Cut {
    per_turn: usize,
    /// Equal neighbours share a slot, as the kernel does it (GRO).
    coalesced: bool,
}

const CUTS: [Cut; 4] = [
    Cut {
        per_turn: 1,
        coalesced: false,
    },
    Cut {
        per_turn: 2,
        coalesced: false,
    },
    Cut {
        per_turn: 64,
        coalesced: false,
    },
    Cut {
        per_turn: 64,
        coalesced: true,
    },
];

/// The smallest driver there is: queues.
struct Memory {
    now: Timestamp,
    cut: Cut,
    left: usize,
    commands: VecDeque<Command>,
    inbound: VecDeque<(SocketAddr, Vec<u8>)>,
    events: Vec<Event>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Port for Memory {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        while self.left > 0 && batch.free_count() > 0 {
            let Some((source, first)) = self.inbound.pop_front() else {
                return;
            };
            self.left -= 1;
            let stride = first.len();
            let mut slot = first;
            while self.cut.coalesced && self.left > 0 && stride > 0 {
                let same = self
                    .inbound
                    .front()
                    .is_some_and(|(other, next)| *other == source && next.len() == stride);
                if !same {
                    break;
                }
                slot.extend(self.inbound.pop_front().expect("it was there").1);
                self.left -= 1;
            }
            let free = batch.free_slots().next().expect("one is free");
            free[..slot.len()].copy_from_slice(&slot);
            batch.commit(RecvMeta {
                received: self.now,
                source,
                destination: SERVER.into(),
                ecn: None,
                len: slot.len(),
                stride,
            });
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        self.sent.extend(
            batch
                .iter()
                .map(|(meta, contents)| (meta.destination, contents.to_vec())),
        );
        batch.consume(batch.len());
    }

    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// All that came out of a run.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<String>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    stats: ShardStats,
    deadline: Option<Timestamp>,
}

struct Run {
    pump: Pump,
    port: Memory,
    seen: usize,
    events: Vec<String>,
    /// Every session ever opened, with its credentials now.
    sessions: Vec<(SessionId, IceCredentials)>,
    restarting: VecDeque<usize>,
    requests: u64,
}

impl Run {
    fn new(seed: u8, cut: Cut) -> Self {
        static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
        let identity =
            IDENTITY.get_or_init(|| Arc::new(Identity::generate().expect("the library works")));
        let config = Arc::new(ShardConfig {
            identity: Arc::clone(identity),
            sessions_max: 3,
            tuning: Tuning::default(),
        });
        let shard = Shard::new(
            ShardId(2),
            config,
            Epoch::simulated(),
            Seed::new([seed; 32]),
        );
        Self {
            pump: Pump::new(shard.expect("a valid configuration")),
            port: Memory {
                now: Timestamp::ZERO,
                cut,
                left: 0,
                commands: VecDeque::new(),
                inbound: VecDeque::new(),
                events: Vec::new(),
                sent: Vec::new(),
            },
            seen: 0,
            events: Vec::new(),
            sessions: Vec::new(),
            restarting: VecDeque::new(),
            requests: 0,
        }
    }

    fn outcome(mut self, script: &[Tick]) -> Outcome {
        for tick in script {
            self.port.now = self.port.now + Duration::from_millis(tick.after_ms);
            // Timers that are due fire before what arrives at the same time, for every cut.
            self.turn();
            let commands: Vec<_> = tick
                .commands
                .iter()
                .filter_map(|said| self.command(*said))
                .collect();
            self.port.commands.extend(commands);
            self.turn();
            let datagrams: Vec<_> = tick
                .datagrams
                .iter()
                .map(|flying| self.datagram(flying))
                .collect();
            self.port.inbound.extend(datagrams);
            while !self.port.inbound.is_empty() {
                self.turn();
            }
        }
        Outcome {
            events: self.events,
            stats: self.pump.shard().stats(),
            deadline: self.pump.shard().deadline(),
            sent: self.port.sent.into_iter().map(without_dtls).collect(),
        }
    }

    fn turn(&mut self) {
        loop {
            self.port.left = self.port.cut.per_turn;
            let turn = self.pump.turn(self.port.now, &mut self.port);
            self.note_events();
            if let Turn::Wait { .. } = turn {
                return;
            }
        }
    }

    fn note_events(&mut self) {
        for event in &self.port.events[self.seen..] {
            // The password is part of the outcome, and hidden by `Debug`.
            let mut secret = String::new();
            match event {
                Event::Opened { session, local, .. } => {
                    secret.clone_from(&local.ice.password);
                    self.sessions.push((*session, local.ice.clone()));
                }
                Event::Restarted { ice, .. } => {
                    secret.clone_from(&ice.password);
                    let index = self.restarting.pop_front().expect("it was asked for");
                    self.sessions[index].1 = ice.clone();
                }
                Event::Rejected { request, .. } if request.0 & RESTART != 0 => {
                    self.restarting.pop_front();
                }
                _ => {}
            }
            self.events.push(format!("{event:?} {secret}"));
        }
        self.seen = self.port.events.len();
    }

    fn command(&mut self, said: Said) -> Option<Command> {
        self.requests += 1;
        let request = RequestId(self.requests);
        let session = |index: usize| self.sessions.get(index).map(|(session, _)| *session);
        Some(match said {
            Said::Open(choice) => Command::Open {
                request,
                plan: Box::new(plan(choice)),
                role: role(choice),
            },
            Said::Restart(index) => {
                let session = session(index)?;
                self.restarting.push_back(index);
                Command::Restart {
                    request: RequestId(self.requests | RESTART),
                    session,
                    remote_ice: plan(0).remote_ice,
                }
            }
            Said::Close(index) => Command::Close {
                session: session(index)?,
                reason: CloseReason::Requested,
            },
            Said::SessionStats(index) => Command::SessionStats {
                request,
                session: session(index)?,
            },
            Said::ShardStats => Command::ShardStats { request },
        })
    }

    fn datagram(&self, flying: &Flying) -> (SocketAddr, Vec<u8>) {
        let address = |source: u8| SocketAddr::from(([10, 1, 0, source], 5_000));
        let check = |session: usize, password: Option<&str>, nominate| {
            let Some((_, ice)) = self.sessions.get(session) else {
                return Vec::new();
            };
            let username = format!("{}:abcd", ice.ufrag);
            binding_request(&username, password.unwrap_or(&ice.password), 1, nominate)
        };
        match flying {
            Flying::Garbage(source, bytes) => (address(*source), bytes.clone()),
            Flying::Check {
                source,
                session,
                nominate,
            } => (address(*source), check(*session, None, *nominate)),
            Flying::Forged(source, session) => {
                (address(*source), check(*session, Some("guess"), true))
            }
        }
    }
}

/// Marks the requests of restarts.
const RESTART: u64 = 1 << 32;

/// The DTLS library draws keys and random numbers from the operating system: of its datagrams only the size counts.
fn without_dtls((destination, mut contents): (SocketAddr, Vec<u8>)) -> (SocketAddr, Vec<u8>) {
    if classify(&contents) == Class::Dtls {
        contents.fill(22);
    }
    (destination, contents)
}

pub(crate) fn plan(choice: u8) -> SessionPlan {
    let purpose = match choice % 3 {
        0 => Purpose::Echo,
        1 => Purpose::Publish { prefer: None },
        _ => Purpose::Subscribe { tracks: Vec::new() },
    };
    let offer = Offer::parse(OFFER.as_bytes()).expect("the offer is sound");
    offer
        .negotiate(purpose)
        .expect("the offer is for us")
        .plan()
        .clone()
}

fn role(choice: u8) -> Role {
    let (room, participant) = (RoomId(1), ParticipantId(u32::from(choice) % 2));
    match choice % 3 {
        0 => Role::Echo,
        1 => Role::Publish { room, participant },
        _ => Role::Subscribe {
            room,
            target: Target::Newest,
        },
    }
}

fn check_everything_once() -> Vec<Tick> {
    let check = |nominate| Flying::Check {
        source: 1,
        session: 0,
        nominate,
    };
    let tick = |commands: &[Said], datagrams: &[Flying]| Tick {
        after_ms: 10,
        commands: commands.to_vec(),
        datagrams: datagrams.to_vec(),
    };
    vec![
        tick(
            &[Said::Open(0), Said::Open(1)],
            &[check(false), check(true), Flying::Forged(2, 0)],
        ),
        tick(
            &[Said::Restart(0)],
            &[check(true), Flying::Garbage(1, vec![0x80, 96])],
        ),
        tick(
            &[Said::SessionStats(0), Said::Close(1), Said::ShardStats],
            &[],
        ),
    ]
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn the_cut_into_turns_changes_nothing(script in script(), seed: u8) {
        let [first, rest @ ..] = CUTS.map(|cut| Run::new(seed, cut).outcome(&script));
        for (outcome, cut) in rest.iter().zip(&CUTS[1..]) {
            prop_assert_eq!(outcome, &first, "{:?}", cut);
        }
        let again = Run::new(seed, CUTS[0]).outcome(&script);
        prop_assert_eq!(again, first, "the same run twice");
    }
}

/// The harness reaches what it is about: checks are answered, forged ones are not, all commands are.
#[test]
fn a_script_gets_answers() {
    let outcome = Run::new(1, CUTS[2]).outcome(&check_everything_once());
    assert_eq!(outcome.sent.len(), 3, "{:?}", outcome.sent);
    let count = |name: &str| {
        outcome
            .events
            .iter()
            .filter(|event| event.starts_with(name))
            .count()
    };
    let counts = [
        "Opened",
        "Restarted",
        "SessionStats",
        "Closed",
        "ShardStats",
    ]
    .map(count);
    assert_eq!(counts, [2, 1, 1, 1, 1], "{:#?}", outcome.events);
    assert_eq!(outcome.stats.drops.iter().sum::<u64>(), 2);
}

#[test]
fn the_seed_alone_decides_the_credentials() {
    let credentials = |seed| {
        let mut run = Run::new(seed, CUTS[0]);
        let open = run.command(Said::Open(0));
        run.port.commands.extend(open);
        run.turn();
        run.sessions.remove(0).1
    };
    assert_eq!(credentials(1), credentials(1));
    assert_ne!(credentials(1).ufrag, credentials(2).ufrag);
    assert_ne!(credentials(1).password, credentials(2).password);
}

/// Request numbers are the server's own affair.
#[test]
fn two_restarts_under_one_request_number_get_two_passwords() {
    let mut run = Run::new(1, CUTS[0]);
    let opens = [Said::Open(0), Said::Open(0)].map(|said| run.command(said));
    run.port.commands.extend(opens.into_iter().flatten());
    run.turn();
    let restart = |session| Command::Restart {
        request: RequestId(RESTART),
        session,
        remote_ice: plan(0).remote_ice,
    };
    let restarts: Vec<_> = run
        .sessions
        .iter()
        .map(|(session, _)| restart(*session))
        .collect();
    run.port.commands.extend(restarts);
    run.restarting.extend([0, 1]);
    run.turn();
    let [first, second] = [0, 1].map(|index| run.sessions[index].1.password.clone());
    assert_ne!(first, second);
}

/// A simulator that ignores its seed looks fine; this one does not ignore it.
#[test]
fn another_seed_is_another_run() {
    let script = check_everything_once();
    let run = |seed| Run::new(seed, CUTS[1]).outcome(&script);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

//! A shard under whatever bytes, addresses and times.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::script::Script;
use super::sdp::OFFER;
use super::stun::binding_request;
use crate::drive::TransmitBatch;
use crate::ids::{RequestId, SessionId, ShardId};
use crate::message::{CloseReason, Command, Event, Role};
use crate::net::Datagram;
use crate::plan::{IceCredentials, SessionPlan};
use crate::rng::Seed;
use crate::sdp::{Offer, Purpose};
use crate::session::transport::Identity;
use crate::shard::{Shard, ShardConfig, TableSizes};
use crate::time::{Epoch, Timestamp};

const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
/// More than enough to find what there is to find, and a bound for one run.
const OPS_MAX: usize = 256;
const SESSIONS_MAX: u32 = 3;
/// Of the peer, in [`OFFER`].
const PEER_UFRAG: &str = "abcd";

/// Datagrams, sources, times and commands into a shard with one opened session.
pub fn shard_datagrams(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    world.open();
    for _ in 0..OPS_MAX {
        if script.is_empty() {
            break;
        }
        world.step(&mut script);
    }
    world.close_all();
}

/// A script of [`shard_datagrams`]: this datagram from a stranger, then from a peer who proved its address.
#[must_use]
pub fn datagram_script(datagram: &[u8]) -> Vec<u8> {
    let len = (datagram.len() as u16).to_be_bytes();
    let deliver = |source| [&[0, source], &len[..], datagram].concat();
    let prove = [5, 4, 1, 0, 0];
    [&deliver(0)[..], &prove, &deliver(1)].concat()
}

struct World {
    shard: Shard,
    now: Timestamp,
    /// Sessions that live, with their credentials now.
    sessions: Vec<(SessionId, IceCredentials)>,
    /// Who sent a check that names and proves a session.
    proved: BTreeSet<SocketAddr>,
    last: Vec<u8>,
    /// `last` is a sound check. It does not cover its source, so whoever repeats it has proved as much.
    last_proves: bool,
    requests: u64,
    received: u64,
    opened: u64,
    closed: u64,
}

impl World {
    fn new() -> Self {
        static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
        let identity = IDENTITY.get_or_init(|| {
            Arc::new(Identity::generate().expect("the library makes a certificate"))
        });
        let config = Arc::new(ShardConfig {
            identity: Arc::clone(identity),
            sessions_max: SESSIONS_MAX,
        });
        let (epoch, seed) = (Epoch::simulated(), Seed::new([5; 32]));
        Self {
            shard: Shard::new(ShardId(0), config, epoch, seed).expect("a valid configuration"),
            now: Timestamp::ZERO,
            sessions: Vec::new(),
            proved: BTreeSet::new(),
            last: Vec::new(),
            last_proves: false,
            requests: 0,
            received: 0,
            opened: 0,
            closed: 0,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.u8() % 12 {
            0..=3 => {
                let source = source(script.u8());
                let len = usize::from(script.u16());
                self.last = script.bytes(len).to_vec();
                self.last_proves = false;
                self.deliver(source);
            }
            // The last one again, perhaps from elsewhere.
            4 => self.deliver(source(script.u8())),
            5..=6 => self.check(script),
            7 => self.pass(Duration::from_millis(u64::from(script.u16()))),
            // A clock that jumps: the shard stands still when it goes back.
            8 => {
                let to = Timestamp::from_millis(u64::from(script.u16()) * 100);
                self.now = to;
                self.turn();
            }
            9 => self.open(),
            10 => self.restart(script.u8()),
            _ => {
                let index = usize::from(script.u8());
                if let Some((session, _)) = self.sessions.get(index).cloned() {
                    let reason = CloseReason::Requested;
                    self.command(Command::Close { session, reason });
                }
            }
        }
    }

    fn deliver(&mut self, source: SocketAddr) {
        if self.last_proves {
            self.proved.insert(source);
        }
        let mut contents = self.last.clone();
        self.received += 1;
        let before = self.shard.stats();
        let datagram = Datagram {
            received: self.now,
            source,
            destination: SERVER,
            ecn: None,
            contents: &mut contents,
        };
        self.shard.handle_datagram(self.now, datagram);
        let after = self.shard.stats();
        let dropped = after.drops.iter().sum::<u64>() - before.drops.iter().sum::<u64>();
        assert!(dropped <= 1, "one datagram, one reason");
        assert!(
            dropped == 1 || self.proved.contains(&source),
            "{source} proved nothing"
        );
        self.collect();
    }

    /// A check for one of the sessions: sound, or with a byte turned.
    fn check(&mut self, script: &mut Script<'_>) {
        let (choice, from) = (script.u8(), script.u8());
        let Some((_, ice)) = self.sessions.get(usize::from(choice & 3)) else {
            return;
        };
        let username = format!("{}:{PEER_UFRAG}", ice.ufrag);
        let number = u32::from(script.u16());
        self.last = binding_request(&username, &ice.password, number, choice & 4 != 0);
        self.last_proves = choice & 8 == 0;
        if !self.last_proves {
            // The FINGERPRINT at the end is no part of the proof.
            let place = usize::from(script.u16()) % (self.last.len() - 8);
            self.last[place] ^= script.u8() | 1;
        }
        self.deliver(source(from));
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now + by;
        self.turn();
    }

    /// D3: what was due is done at once, and asking again changes nothing.
    fn turn(&mut self) {
        self.shard.handle_timeout(self.now);
        self.collect();
        let (stats, deadline) = (self.shard.stats(), self.shard.deadline());
        self.shard.handle_timeout(self.now);
        assert_eq!(
            (self.shard.stats(), self.shard.deadline()),
            (stats, deadline)
        );
        assert!(self.shard.transmits_mut().is_empty() && self.shard.poll_event().is_none());
    }

    fn open(&mut self) {
        let request = self.request();
        let plan = Box::new(plan());
        let role = Role::Echo;
        self.command(Command::Open {
            request,
            plan,
            role,
        });
    }

    fn restart(&mut self, index: u8) {
        let Some((session, _)) = self.sessions.get(usize::from(index)).cloned() else {
            return;
        };
        let request = self.request();
        let remote_ice = plan().remote_ice;
        self.command(Command::Restart {
            request,
            session,
            remote_ice,
        });
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn command(&mut self, command: Command) {
        let restarted = match &command {
            Command::Restart { session, .. } => Some(*session),
            _ => None,
        };
        self.shard.handle_command(self.now, command);
        self.collect_with(restarted);
    }

    fn collect(&mut self) {
        self.collect_with(None);
    }

    /// Takes all output: nobody hears from us who did not prove a session to be theirs.
    fn collect_with(&mut self, restarted: Option<SessionId>) {
        let batch: &mut TransmitBatch = self.shard.transmits_mut();
        for (meta, contents) in batch.iter() {
            assert!(
                self.proved.contains(&meta.destination),
                "{} proved nothing",
                meta.destination
            );
            assert!(!contents.is_empty() && contents.len() <= crate::limits::DATAGRAM_BYTES_MAX);
        }
        let count = batch.len();
        batch.consume(count);
        self.shard.note_sent(self.now, count);
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Opened { session, local, .. } => {
                    self.opened += 1;
                    self.sessions.push((session, local.ice.clone()));
                }
                Event::Restarted { ice, .. } => {
                    let entry = self
                        .sessions
                        .iter_mut()
                        .find(|(id, _)| Some(*id) == restarted);
                    entry.expect("it lives").1 = ice;
                }
                Event::Closed { session, .. } => {
                    self.closed += 1;
                    self.sessions.retain(|(id, _)| *id != session);
                }
                _ => {}
            }
        }
        let stats = self.shard.stats();
        assert_eq!(stats.faults, 0, "a session panicked");
        assert_eq!(stats.datagrams_received, self.received);
        assert_eq!(self.shard.table_sizes().sessions, self.sessions.len());
    }

    /// What sessions leave behind is nothing.
    fn close_all(&mut self) {
        for (session, _) in self.sessions.clone() {
            let reason = CloseReason::Shutdown;
            self.command(Command::Close { session, reason });
        }
        assert_eq!(self.shard.table_sizes(), TableSizes::default());
        assert_eq!(self.shard.deadline(), None);
        assert_eq!(self.opened, self.closed, "one end for each beginning");
    }
}

fn source(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, number % 12], 5_000))
}

fn plan() -> SessionPlan {
    static PLAN: OnceLock<SessionPlan> = OnceLock::new();
    let negotiated = || {
        let offer = Offer::parse(OFFER.as_bytes()).expect("our offer is sound");
        let negotiated = offer.negotiate(Purpose::Echo).expect("our offer is for us");
        negotiated.plan().clone()
    };
    PLAN.get_or_init(negotiated).clone()
}

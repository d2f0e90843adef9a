//! Echoes and a room of real sessions over real sockets: what a shard allocates for a packet on a driver.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use antiphon_core::drive::Pump;
use antiphon_core::ids::{ParticipantId, RequestId, RoomId};
use antiphon_core::message::{Command, Event, Role, Target};
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, Tuning};
use antiphon_core::sim::peer::{Alone, Answer, Outbox, Peer as _, PeerSpec, ScriptedPeer, Speech};
use antiphon_core::time::Timestamp;

use super::counting::{Counted, Counts};
use super::sockets::BOUND;
use super::{Driver, Plan, Rig, SHARD, Sockets, end};
use crate::Clock;

const ECHOES: u32 = 4;
const FOLLOWERS: u32 = 6;
const ROOM: RoomId = RoomId(1);
/// Who is followed.
const PUBLISHER: ParticipantId = ParticipantId(1);
/// Between two packets of a voice, by the clients' clock.
const STEP: Duration = Duration::from_millis(20);
/// Steps before tables and buffers have the sizes they keep.
const WARM_UP: u32 = 500;
/// Steps counted: in their 8 s each client checks consent three times.
const COUNTED: u32 = 400;

/// Clients over sockets, whose time is told to them: it passes as fast as the shard answers.
struct Clients<D> {
    rig: Sockets<D>,
    clients: Vec<Alone>,
    now: Timestamp,
}

/// Four calls that echo and a room of one who speaks and six who hear, all under SRTP, the handshake alone scripted:
/// once everything has its size, no packet is allocated for, and a wait costs no more than the runtime must have.
pub fn forwarding_allocates_nothing<D: Driver>() {
    let counts = Arc::new(Counts::default());
    let seed = Seed::new([8; 32]);
    let config = Arc::new(ShardConfig {
        identity: Arc::new(Identity::scripted(&seed)),
        sessions_max: 100,
        tuning: Tuning::default(),
    });
    let (made, of_shard) = (Arc::clone(&counts), seed.clone());
    let rig = Sockets::<D>::start(Plan::default(), move |epoch| {
        let shard = Shard::new(SHARD, config, epoch, of_shard);
        Counted::new(Pump::new(shard.expect("a valid configuration")), made)
    });
    let mut clients = Clients {
        rig,
        clients: Vec::new(),
        now: Timestamp::from_millis(1),
    };
    clients.join_all(&seed);
    clients.connect();
    for _ in 0..WARM_UP {
        clients.step();
    }
    counts.clear();
    let before = clients.heard();
    for _ in 0..COUNTED {
        clients.step();
    }
    let [turning, waiting, turns] = counts.read();
    let packets = clients.heard() - before;
    println!(
        "{turning} allocations in {turns} turns, {waiting} between them, for {packets} packets sent"
    );
    let expected = u64::from(COUNTED * (ECHOES + FOLLOWERS));
    assert!((expected..expected + 20).contains(&packets), "{packets}");
    // A session remembers its peer's checks, and in three of them its list may grow once.
    assert!(turning <= clients.clients.len() as u64, "{turning}");
    assert!(waiting <= turns * D::ALLOCATIONS_A_WAIT_MAX);
    end(clients.rig);
}

/// What the client of a number is for.
fn role(number: u32) -> Role {
    let (room, participant) = (ROOM, PUBLISHER);
    match number {
        0..ECHOES => Role::Echo,
        ECHOES => Role::Publish { room, participant },
        _ => Role::Subscribe {
            room,
            target: Target::Participant(participant),
        },
    }
}

impl<D: Driver> Clients<D> {
    fn join_all(&mut self, seed: &Seed) {
        for number in 0..=ECHOES + FOLLOWERS {
            let mut spec = PeerSpec::new(number);
            spec.speech = (number <= ECHOES).then_some(Speech::Monologue);
            spec.hears = number != ECHOES;
            let peer = ScriptedPeer::new(spec, seed);
            let (request, plan) = (RequestId(number.into()), Box::new(peer.plan()));
            let role = role(number);
            let open = Command::Open {
                request,
                plan,
                role,
            };
            self.rig.command(open).expect("there is room");
            let (session, local) = match self.rig.event() {
                Some(Event::Opened { session, local, .. }) => (session, *local),
                other => panic!("not opened: {other:?}"),
            };
            let server = self.rig.address();
            let own = self.rig.client_address(number as usize);
            self.clients.push(Alone::new(peer, (own, server)));
            let answer = Answer {
                session,
                local,
                server,
            };
            self.call(number as usize, |peer, now, out| {
                peer.on_answer(now, &answer, out);
            });
        }
    }

    /// In real time, as a handshake waits for nothing but its other side.
    fn connect(&mut self) {
        let (clock, start) = (Clock::start(), self.now);
        let is_connected = |client: &Alone| client.peer.report().connected.is_some();
        while !self.clients.iter().all(is_connected) {
            let passed = clock.now().since(Timestamp::ZERO);
            assert!(passed < BOUND, "they do not connect");
            self.now = start + passed;
            self.serve();
            thread::yield_now();
        }
    }

    /// Each client does what is due and takes what has come.
    fn serve(&mut self) {
        for number in 0..self.clients.len() {
            self.call(number, |peer, now, out| {
                if peer.deadline().is_some_and(|deadline| deadline <= now) {
                    peer.handle_timeout(now, out);
                }
            });
            while let Some(datagram) = self.rig.try_recv(number) {
                self.take(number, datagram);
            }
        }
    }

    /// Everybody who speaks sends a packet, and everybody who hears gets one.
    fn step(&mut self) {
        let before: Vec<_> = (0..self.clients.len())
            .map(|it| self.heard_by(it))
            .collect();
        self.now = self.now + STEP;
        self.serve();
        for (number, before) in before.into_iter().enumerate() {
            while number != ECHOES as usize && self.heard_by(number) == before {
                let datagram = self.rig.recv(number);
                self.take(number, datagram);
            }
        }
    }

    fn take(&mut self, number: usize, mut datagram: Vec<u8>) {
        self.call(number, |peer, now, out| {
            peer.handle_datagram(now, &mut datagram, out);
        });
    }

    fn call(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut ScriptedPeer, Timestamp, &mut Outbox<'_>),
    ) {
        let (rig, now) = (&mut self.rig, self.now);
        let client = &mut self.clients[number];
        client.call(
            |peer, out| act(peer, now, out),
            |datagram| rig.send(number, datagram),
        );
        let findings = &client.peer.report().findings;
        assert!(findings.is_empty(), "{findings:?}");
    }

    fn heard_by(&self, number: usize) -> u64 {
        let heard = &self.clients[number].peer.report().heard;
        heard.iter().map(|heard| heard.packets).sum()
    }

    fn heard(&self) -> u64 {
        (0..self.clients.len()).map(|it| self.heard_by(it)).sum()
    }
}

//! What an echoed packet costs a shard among many sessions, without a kernel: in a crowd, time goes into waiting for
//! memory, which a count of instructions does not show.
//!
//! ```text
//! cargo bench --package antiphon-core --bench crowd                     200, 2,000 and 10,000 sessions
//! cargo bench --package antiphon-core --bench crowd -- 500 --batch 16   so many sessions, datagrams read at once
//! ```
//!
//! Sessions come of real handshakes. Each sends a packet in turn, as calls do; what the shard sends is thrown away.
//! The least of several rounds is printed: other programs only ever add.

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use antiphon_core::drive::{Port, Pump, RecvBatch, RecvMeta, TransmitBatch, Turner};
use antiphon_core::limits::RECV_SLOTS;
use antiphon_core::message::{Command, Event, Role};
use antiphon_core::time::Timestamp;

use crate::support::raw::{AUDIO_SSRC, OPUS, Raw, fields, plan};
use crate::support::{SERVER, World};

const PAYLOAD_BYTES: usize = 80;
/// Packets of each session; the first rounds also make tables and tracks.
const ROUNDS: u16 = 12;
const WARM_UP: u16 = 3;

fn main() {
    let mut batch = RECV_SLOTS;
    let mut crowds = Vec::new();
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(argument) = arguments.next() {
        if argument == "--batch" {
            let given = arguments.next().and_then(|count| count.parse().ok());
            batch = given.expect("--batch takes a count");
        } else {
            crowds.push(argument.parse().expect("a count of sessions"));
        }
    }
    if crowds.is_empty() {
        crowds = vec![200, 2_000, 10_000];
    }
    println!("sessions   ns an echo, {batch} datagrams read at once");
    for sessions in crowds {
        println!("{sessions:>8}   {}", measure(sessions, batch));
    }
}

/// Packets under way to the shard.
struct Flight {
    now: Timestamp,
    sources: Vec<SocketAddr>,
    contents: Vec<Vec<u8>>,
    next: usize,
    /// Datagrams the kernel would have at once.
    batch: usize,
    given: bool,
    sent: usize,
}

impl Port for Flight {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        if std::mem::replace(&mut self.given, true) {
            return;
        }
        let end = self.sources.len().min(self.next + self.batch);
        for index in self.next..end {
            let contents = &self.contents[index];
            let slot = batch.free_slots().next().expect("a batch has its slots");
            slot[..contents.len()].copy_from_slice(contents);
            batch.commit(RecvMeta {
                received: self.now,
                source: self.sources[index],
                destination: SERVER,
                ecn: None,
                len: contents.len(),
                stride: contents.len(),
            });
        }
        self.next = end;
    }

    fn next_command(&mut self) -> Option<Command> {
        None
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        self.sent += batch.len();
        batch.consume(batch.len());
    }

    fn emit(&mut self, _: Event) {}
}

/// Nanoseconds an echo.
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn measure(sessions: u16, batch: usize) -> u128 {
    let mut world = World::new(1);
    let mut peers: Vec<_> = (0..sessions)
        .map(|number| connect(&mut world, number))
        .collect();
    let mut rounds = rounds_of(&mut peers);
    let mut least = u128::MAX;
    for (round, contents) in (0..).zip(&mut rounds) {
        let mut flight = Flight {
            now: world.now,
            sources: peers.iter().map(|peer| peer.address).collect(),
            contents: std::mem::take(contents),
            next: 0,
            batch,
            given: false,
            sent: 0,
        };
        let began = Instant::now();
        fly(&mut world.pump, &mut flight);
        let took = began.elapsed().as_nanos() / u128::from(sessions);
        assert!(
            flight.sent >= usize::from(sessions),
            "every packet comes back"
        );
        if round >= WARM_UP {
            least = least.min(took);
        }
    }
    least
}

fn connect(world: &mut World, number: u16) -> Raw {
    let [high, low] = number.to_be_bytes();
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, high, low)), 5_000);
    let mut plan = plan(true, true);
    plan.media.truncate(1);
    Raw::connect(world, address, Role::Echo, plan)
}

/// Of each round, the packet of each session.
fn rounds_of(peers: &mut [Raw]) -> Vec<Vec<Vec<u8>>> {
    let mut rounds = vec![Vec::new(); usize::from(ROUNDS)];
    for peer in peers {
        let mut source = peer.outbound.claim(AUDIO_SSRC).expect("the first claim");
        for (number, round) in (1..).zip(&mut rounds) {
            let fields = fields(OPUS, AUDIO_SSRC, number);
            round.push(peer.seal(&mut source, &fields, &[], &[9; PAYLOAD_BYTES]));
        }
    }
    rounds
}

/// Turns until all is delivered, each a little later than the one before.
fn fly(pump: &mut Pump, flight: &mut Flight) {
    while flight.next < flight.sources.len() {
        flight.given = false;
        flight.now = flight.now + std::time::Duration::from_micros(500);
        let _wait = pump.turn(flight.now, flight);
    }
}

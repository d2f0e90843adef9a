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

use std::time::Instant;

use antiphon_core::limits::RECV_SLOTS;
use antiphon_core::message::Role;

use crate::support::World;
use crate::support::recording::{Flight, rounds_of, voice};

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

/// Nanoseconds an echo.
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn measure(sessions: u16, batch: usize) -> u128 {
    let mut world = World::new(1);
    let mut peers: Vec<_> = (0..sessions)
        .map(|number| voice(&mut world, number, Role::Echo))
        .collect();
    let mut rounds = rounds_of(&mut peers, ROUNDS, PAYLOAD_BYTES);
    let mut least = u128::MAX;
    for (round, contents) in (0..).zip(&mut rounds) {
        let sources = peers.iter().map(|peer| peer.address);
        let packets = sources.zip(std::mem::take(contents)).collect();
        let mut flight = Flight::new(world.now, packets, batch);
        let began = Instant::now();
        flight.deliver(&mut world.pump);
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

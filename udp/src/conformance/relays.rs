//! Two shards of one driver that have something to say to each other.

use std::net::Ipv4Addr;
use std::sync::mpsc::{self, Receiver};

use antiphon_core::drive::{Port, RelayLanes, RelayStats, ShardHandle, Turn, Turner};
use antiphon_core::ids::{RequestId, RoomId, ShardId};
use antiphon_core::message::{Command, Event};
use antiphon_core::relay::Relay;
use antiphon_core::time::Timestamp;

use super::sockets::{BOUND, Driver};
use crate::{Clock, RECV_BUFFER_BYTES_WANTED, Socket};

const ROUNDS: u64 = 200;

/// Says the number of each command to the other of two shards, and tells what that one says.
struct Parlour(ShardId);

impl Turner for Parlour {
    fn turn<P: Port>(&mut self, _now: Timestamp, port: &mut P) -> Turn {
        while let Some(command) = port.next_command() {
            if let Command::ShardStats { request } = command {
                let room = RoomId(request.0 as u32);
                port.relay(ShardId(1 - self.0.0), Relay::Attend { room });
            }
        }
        while let Some((from, relay)) = port.next_relay() {
            assert_eq!(from, ShardId(1 - self.0.0));
            if let Relay::Attend { room } = relay {
                port.emit(Event::ActiveSpeaker {
                    room,
                    participant: None,
                });
            }
        }
        Turn::Wait {
            deadline: None,
            writable: false,
        }
    }
}

fn start<D: Driver>(id: ShardId, relays: &RelayLanes) -> (ShardHandle, Receiver<Event>) {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let socket = Socket::bind(address, RECV_BUFFER_BYTES_WANTED).expect("loopback has free ports");
    let (told, events) = mpsc::channel();
    let emit = move |event| told.send(event).expect("the test listens");
    let make = move |_: &Clock| Parlour(id);
    let shard = D::spawn(id, make, socket, Clock::start(), relays, emit);
    (shard.expect("the driver starts"), events)
}

/// A relay wakes an idle shard as a command does, and none is lost, in either direction.
pub fn a_relay_wakes_the_other_shard<D: Driver>() {
    let relays = RelayLanes::among(2);
    let shards = [0, 1].map(|number| start::<D>(ShardId(number), &relays));
    for number in 0..ROUNDS {
        for (speaker, listener) in [(0, 1), (1, 0)] {
            let request = RequestId(number);
            let asked = shards[speaker].0.try_send(Command::ShardStats { request });
            asked.expect("the lane has room");
            let heard = shards[listener].1.recv_timeout(BOUND);
            let room = RoomId(number as u32);
            let told = Event::ActiveSpeaker {
                room,
                participant: None,
            };
            assert_eq!(heard, Ok(told), "shard {listener} was not woken");
        }
    }
    for (shard, _) in shards {
        shard.stop();
        shard.join().expect("the shard ends without a panic");
    }
    // A relay is counted after it was handed over, so all are once the shards have ended.
    let all = RelayStats {
        sent: ROUNDS,
        dropped: 0,
    };
    for number in 0..2 {
        assert_eq!(relays.stats(ShardId(number)), all);
    }
}

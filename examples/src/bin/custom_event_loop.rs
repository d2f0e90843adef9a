//! The core in an event loop of one's own: mio tells when the socket is ready, `Pump` does the rest.
//!
//! Reads an offer from standard input, prints the answer, and sends the caller's media back until the call ends:
//!
//! ```sh
//! custom_event_loop 127.0.0.1 < offer.sdp
//! ```
//!
//! There are two things to write: a [`Port`] for the pump, and a loop that waits as it says. No async runtime and no
//! threads. `two_peers` shows the layer below, a `Shard` without the pump; `antiphon-udp` sends and receives in
//! batches, which this does not.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use antiphon_core::drive::{Port, Pump, RecvBatch, RecvMeta, TransmitBatch, Turn, Turner as _};
use antiphon_core::ids::{RequestId, ShardId};
use antiphon_core::message::{Command, Event, Role};
use antiphon_core::rng::Seed;
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, Tuning};
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

fn main() -> Result<(), Box<dyn Error>> {
    let ip: IpAddr = env::args().nth(1).ok_or("name our address")?.parse()?;
    let offer = io::read_to_string(io::stdin())?;
    let negotiated = Offer::parse(offer.as_bytes())?.negotiate(Purpose::Echo)?;

    let (mut poll, mut ready) = (Poll::new()?, Events::with_capacity(8));
    let mut socket = UdpSocket::bind(SocketAddr::new(ip, 0))?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut socket, Token(0), interest)?;
    let address = socket.local_addr()?;
    let mut own = Own {
        socket,
        address,
        clock: Clock::start(),
        // Where commands come from is one's own business: an HTTP server would queue one for each POST.
        command: Some(Command::Open {
            request: RequestId(1),
            plan: Box::new(negotiated.plan().clone()),
            role: Role::Echo,
        }),
        events: Vec::new(),
    };

    // All randomness of a shard comes from its seed, ICE passwords too, so it must be fresh.
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let config = Arc::new(ShardConfig {
        identity: Arc::new(Identity::generate()?),
        sessions_max: 1,
        tuning: Tuning::default(),
    });
    let (epoch, seed) = (own.clock.epoch(), Seed::new(seed));
    let mut pump = Pump::new(Shard::new(ShardId(0), config, epoch, seed)?);
    loop {
        let now = own.now();
        let turn = pump.turn(now, &mut own);
        for event in own.events.drain(..) {
            match event {
                Event::Opened { local, .. } => {
                    print!("{}", negotiated.answer(&local, &[address], 1));
                }
                Event::Closed { .. } | Event::Rejected { .. } => return Ok(()),
                other => eprintln!("{other:?}"),
            }
        }
        if let Turn::Wait { deadline, .. } = turn {
            // mio tells of a change once: `Wait` promises that the socket was read until it was empty. Room to send
            // wakes it too, as the socket is registered for both.
            poll.poll(&mut ready, deadline.map(|deadline| deadline.since(now)))?;
        }
    }
}

/// What the pump is lent.
struct Own {
    socket: UdpSocket,
    address: SocketAddr,
    clock: Clock,
    command: Option<Command>,
    events: Vec<Event>,
}

impl Port for Own {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        while batch.free_count() > 0 {
            let slot = batch.free_slots().next().expect("one is free");
            // A socket that is not connected fails of nothing but being empty.
            let Ok((len, source)) = self.socket.recv_from(slot) else {
                return;
            };
            batch.commit(RecvMeta {
                received: self.clock.now(),
                source,
                destination: self.address,
                ecn: None,
                len,
                stride: len,
            });
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        self.command.take()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        while let Some(transmit) = batch.first() {
            let sent = self.socket.send_to(transmit.contents, transmit.destination);
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
            batch.consume(1);
        }
    }

    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}

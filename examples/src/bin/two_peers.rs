//! The core in an event loop of one's own: a shard and two peers in one thread, over UDP on loopback.
//!
//! ```text
//! publisher (str0m) ──UDP──► shard ──UDP──► subscriber (str0m)
//! ```
//!
//! `Server` is all an embedder writes: sockets, a clock and a loop around `Shard::handle_*` and
//! `Shard::poll_output`. No runtime, no threads, no callbacks. Production drivers batch system calls and
//! wait in the kernel instead (`antiphon-udp`, `antiphon-runtime-*`); the order of calls is the same.
//!
//! Runs for three seconds, prints what arrived, and fails if nothing did.

use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::{ParticipantId, RequestId, RoomId, ShardId};
use antiphon_core::limits::DTLS_DATAGRAM_BYTES_MAX;
use antiphon_core::message::{Command, Event, Role, Target};
use antiphon_core::net::Datagram;
use antiphon_core::plan::LocalDescription;
use antiphon_core::rng::Seed;
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Output, Shard, ShardConfig, Tuning};
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Rtc};

type Failure = Box<dyn Error>;

const RUN: Duration = Duration::from_secs(3);
/// An Opus frame's worth of time.
const FRAME: Duration = Duration::from_millis(20);
/// How long the loop sleeps in its one blocking call. With `poll(2)` over all sockets it could sleep
/// until the earliest deadline.
const NAP: Duration = Duration::from_millis(1);

fn main() -> Result<(), Failure> {
    let clock = Clock::start();
    let mut server = Server::start(clock)?;
    let room = RoomId(1);
    let publish = Role::Publish {
        room,
        participant: ParticipantId(1),
    };
    let subscribe = Role::Subscribe {
        room,
        target: Target::Newest,
    };
    let mut publisher = Peer::join(&mut server, Direction::SendOnly, publish)?;
    let mut subscriber = Peer::join(&mut server, Direction::RecvOnly, subscribe)?;

    let (mut sent, mut next_frame) = (0_u32, clock.now());
    while clock.now().since(Timestamp::ZERO) < RUN {
        server.turn()?;
        if publisher.connected && subscriber.connected && next_frame <= clock.now() {
            publisher.send_frame(clock, sent)?;
            sent += 1;
            next_frame = clock.now() + FRAME;
        }
        publisher.turn(clock)?;
        subscriber.turn(clock)?;
    }
    println!(
        "sent {sent} frames, {} arrived in order",
        subscriber.received
    );
    let stats = server.shard.stats();
    println!(
        "shard: {} sessions connected, {} RTP packets in, {} out",
        stats.sessions_connected, stats.rtp_received, stats.rtp_sent
    );
    // The last frame may still be under way.
    if subscriber.received == 0 || subscriber.received + 5 < sent {
        return Err("frames were lost on loopback".into());
    }
    Ok(())
}

/// What an embedder writes.
struct Server {
    shard: Shard,
    socket: UdpSocket,
    address: SocketAddr,
    clock: Clock,
    requests: u64,
    buffer: [u8; DTLS_DATAGRAM_BYTES_MAX],
}

impl Server {
    fn start(clock: Clock) -> Result<Self, Failure> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(NAP))?;
        // All randomness of a shard comes from its seed: ICE passwords too, so it must be fresh.
        let mut seed = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let config = ShardConfig {
            identity: Arc::new(Identity::generate()?),
            sessions_max: 2,
            tuning: Tuning::default(),
        };
        let (id, seed) = (ShardId(0), Seed::new(seed));
        Ok(Self {
            shard: Shard::new(id, Arc::new(config), clock.epoch(), seed)?,
            address: socket.local_addr()?,
            socket,
            clock,
            requests: 0,
            buffer: [0; DTLS_DATAGRAM_BYTES_MAX],
        })
    }

    /// One round: what arrived, what is due, and, after each, everything that follows from it.
    fn turn(&mut self) -> Result<(), Failure> {
        match self.socket.recv_from(&mut self.buffer) {
            Ok((len, source)) => {
                let now = self.clock.now();
                let datagram = Datagram {
                    received: now,
                    source,
                    destination: self.address,
                    ecn: None,
                    contents: &mut self.buffer[..len],
                };
                self.shard.handle_datagram(now, datagram);
                self.drain()?;
            }
            Err(error) if is_quiet(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
        let now = self.clock.now();
        if self
            .shard
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.shard.handle_timeout(now);
            self.drain()?;
        }
        Ok(())
    }

    /// Takes all output, until the shard says when it wants to be called next.
    fn drain(&mut self) -> Result<Option<Box<LocalDescription>>, Failure> {
        let mut opened = None;
        loop {
            match self.shard.poll_output() {
                Output::Transmit(transmit) => {
                    self.socket
                        .send_to(transmit.contents, transmit.destination)?;
                }
                Output::Event(Event::Opened { local, .. }) => opened = Some(local),
                Output::Event(Event::Rejected { error, .. }) => return Err(error.into()),
                Output::Relay(..) => {}
                Output::Event(event) => println!("event: {event:?}"),
                // This loop looks at `deadline` each round; one that waits would keep the value.
                Output::Timeout(_) => return Ok(opened),
            }
        }
    }

    /// What an HTTP server would do for WHIP and WHEP: an offer in, an answer out.
    fn answer(&mut self, offer: &str, role: Role) -> Result<String, Failure> {
        let purpose = match role {
            Role::Subscribe { .. } => Purpose::Subscribe { tracks: Vec::new() },
            _ => Purpose::Publish { prefer: None },
        };
        let negotiated = Offer::parse(offer.as_bytes())?.negotiate(purpose)?;
        self.requests += 1;
        let open = Command::Open {
            request: RequestId(self.requests),
            plan: Box::new(negotiated.plan().clone()),
            role,
        };
        self.shard.handle_command(self.clock.now(), open);
        let local = self.drain()?.ok_or("a command is answered at once")?;
        Ok(negotiated.answer(&local, &[self.address], self.requests))
    }
}

/// A client with one Opus track. It stands for a browser, and shares nothing with the server but UDP.
struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    mid: Mid,
    connected: bool,
    /// Frames that came in the order they were sent.
    received: u32,
}

impl Peer {
    fn join(server: &mut Server, direction: Direction, role: Role) -> Result<Self, Failure> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let mut rtc = Rtc::new(server.clock.epoch().instant(server.clock.now()));
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp)?);
        let mut changes = rtc.sdp_api();
        let mid = changes.add_media(MediaKind::Audio, direction, None, None, None);
        let (offer, pending) = changes.apply().ok_or("there is a track to offer")?;
        let answer = server.answer(&offer.to_sdp_string(), role)?;
        rtc.sdp_api()
            .accept_answer(pending, SdpAnswer::from_sdp_string(&answer)?)?;
        Ok(Self {
            rtc,
            socket,
            address,
            mid,
            connected: false,
            received: 0,
        })
    }

    /// A frame that is only its number: nobody decodes it here.
    fn send_frame(&mut self, clock: Clock, number: u32) -> Result<(), Failure> {
        let now = clock.epoch().instant(clock.now());
        let writer = self.rtc.writer(self.mid).ok_or("it publishes")?;
        let codec = writer.payload_params().next().ok_or("a codec was agreed")?;
        let (payload_type, rate) = (codec.pt(), codec.spec().clock_rate);
        let samples = u64::from(number) * u64::from(rate.get()) / 50;
        let time = MediaTime::new(samples, rate);
        writer.write(payload_type, now, time, number.to_be_bytes().to_vec())?;
        Ok(())
    }

    fn turn(&mut self, clock: Clock) -> Result<(), Failure> {
        let mut buffer = [0; 2_000];
        loop {
            let now = clock.epoch().instant(clock.now());
            match self.socket.recv_from(&mut buffer) {
                Ok((len, source)) => {
                    let contents = &buffer[..len];
                    let received = Receive::new(Protocol::Udp, source, self.address, contents)?;
                    self.rtc.handle_input(Input::Receive(now, received))?;
                    self.drain()?;
                }
                Err(error) if is_quiet(error.kind()) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let now = clock.epoch().instant(clock.now());
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain()
    }

    fn drain(&mut self) -> Result<(), Failure> {
        loop {
            match self.rtc.poll_output()? {
                str0m::Output::Timeout(_) => return Ok(()),
                str0m::Output::Transmit(transmit) => {
                    self.socket
                        .send_to(&transmit.contents, transmit.destination)?;
                }
                str0m::Output::Event(str0m::Event::Connected) => self.connected = true,
                str0m::Output::Event(str0m::Event::MediaData(frame)) => {
                    let in_order = frame.data[..] == self.received.to_be_bytes();
                    self.received += u32::from(in_order);
                }
                str0m::Output::Event(_) => {}
            }
        }
    }
}

/// Nothing has arrived.
fn is_quiet(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

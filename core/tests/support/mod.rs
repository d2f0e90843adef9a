//! A world for tests: one shard, many str0m peers and a network between them, in virtual time.
//!
//! str0m's `Rtc` is an independent implementation: what it accepts and decodes is judged by others' code.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod media;
mod peer;
pub(crate) mod raw;
pub(crate) mod recording;
#[path = "../../src/testing.rs"]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_core::drive::{Port, Pump, RecvBatch, RecvMeta, TransmitBatch, Turner};
use antiphon_core::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use antiphon_core::message::{
    CloseReason, Command, CommandError, Event, Role, SessionStats, Target,
};
use antiphon_core::plan::{Codec, IceCredentials, LocalDescription, SessionPlan};
use antiphon_core::rng::{Rng, Seed};
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, Tuning};
use antiphon_core::time::{Epoch, Timestamp};
use antiphon_core::wire::{Class, classify};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite, SeqNo};
use str0m::{Candidate, Input, Output, Rtc};

pub(crate) use self::peer::Peer;

/// Where the shard listens.
pub(crate) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);

/// Sessions of its shard at most.
pub(crate) const SESSIONS_MAX: u32 = 10_000;

/// A datagram under way.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) contents: Vec<u8>,
}

/// What the network does to each datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// Lost of each 1,000.
    pub(crate) loss_permille: u32,
}

impl Link {
    /// 5 ms, with this loss.
    pub(crate) const fn lossy(loss_permille: u32) -> Self {
        Self {
            delay: Duration::from_millis(5),
            loss_permille,
        }
    }
}

/// Virtual time, a shard, its peers, and what flies between them.
pub(crate) struct World {
    pub(crate) pump: Pump,
    pub(crate) epoch: Epoch,
    pub(crate) now: Timestamp,
    pub(crate) peers: Vec<Peer>,
    pub(crate) events: Vec<Event>,
    pub(crate) link: Link,
    pub(crate) rng: Rng,
    /// Every datagram the shard sent, by destination: how many and how many bytes.
    pub(crate) sent_to: BTreeMap<SocketAddr, (u64, u64)>,
    /// Copies of what reached the shard from peers, newest last, when `record` is set.
    pub(crate) recorded: Vec<Flying>,
    pub(crate) record: bool,
    /// What the shard sent to these addresses lies here and flies nowhere.
    pub(crate) taps: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
    /// Keeps SRTP from the shard, as if it were lost last: with `record`, for measuring with it later.
    pub(crate) withhold_media: bool,
    flying: BTreeMap<(Timestamp, u64), Flying>,
    departed: u64,
    requests: u64,
}

/// The one real clock read: an `Instant` cannot be made otherwise.
#[expect(
    clippy::disallowed_methods,
    reason = "str0m and the epoch need some Instant to count from"
)]
fn origin() -> Instant {
    Instant::now()
}

/// A shard without sessions.
pub(crate) fn shard(epoch: Epoch, seed: &Seed) -> Shard {
    let identity = Identity::generate().expect("the library makes a certificate");
    let config = Arc::new(ShardConfig {
        identity: Arc::new(identity),
        sessions_max: SESSIONS_MAX,
        tuning: Tuning::default(),
    });
    Shard::new(ShardId(0), config, epoch, seed.clone()).expect("a valid configuration")
}

impl World {
    /// A world without peers: 5 ms each way, no loss.
    pub(crate) fn new(seed: u8) -> Self {
        let epoch = Epoch::new(origin(), Duration::from_secs(1_800_000_000));
        let seed = Seed::new([seed; 32]);
        Self {
            pump: Pump::new(shard(epoch, &seed)),
            epoch,
            now: Timestamp::from_millis(1),
            peers: Vec::new(),
            events: Vec::new(),
            link: Link::lossy(0),
            rng: seed.derive("world", 0).rng(),
            sent_to: BTreeMap::new(),
            recorded: Vec::new(),
            record: false,
            taps: BTreeMap::new(),
            withhold_media: false,
            flying: BTreeMap::new(),
            departed: 0,
            requests: 0,
        }
    }

    /// A peer that offers the given sections, answered for `role`; its number.
    pub(crate) fn join(&mut self, sections: &[(MediaKind, Direction)], role: Role) -> usize {
        self.join_with(sections, role, |config| config, &[])
    }

    /// As [`Self::join`], with str0m's settings and the tracks a subscriber will get.
    pub(crate) fn join_with(
        &mut self,
        sections: &[(MediaKind, Direction)],
        role: Role,
        configure: impl FnOnce(str0m::RtcConfig) -> str0m::RtcConfig,
        tracks: &[Codec],
    ) -> usize {
        self.join_from(sections, role, configure, tracks, &[])
    }

    /// A peer whose offer names these addresses as its own too.
    pub(crate) fn join_naming(
        &mut self,
        sections: &[(MediaKind, Direction)],
        role: Role,
        named: &[SocketAddr],
    ) -> usize {
        self.join_from(sections, role, |config| config, &[], named)
    }

    fn join_from(
        &mut self,
        sections: &[(MediaKind, Direction)],
        role: Role,
        configure: impl FnOnce(str0m::RtcConfig) -> str0m::RtcConfig,
        tracks: &[Codec],
        named: &[SocketAddr],
    ) -> usize {
        let number = self.peers.len();
        let address = SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(10, 1, (number >> 8) as u8, number as u8)),
            5_000,
        );
        let now = self.epoch.instant(self.now);
        let mut rtc = configure(Rtc::builder().set_rtp_mode(true)).build(now);
        for address in [address].iter().chain(named) {
            let candidate = Candidate::host(*address, Protocol::Udp).expect("a host candidate");
            rtc.add_local_candidate(candidate);
        }
        let mut changes = rtc.sdp_api();
        let add = |(kind, direction): &(MediaKind, Direction)| {
            changes.add_media(*kind, *direction, Some("stream".into()), None, None)
        };
        let mids = sections.iter().map(add).collect();
        let (offer, pending) = changes.apply().expect("there are changes to offer");
        // Offers have one section of a kind to echo; a shard takes as many as a plan has, made here of a player's.
        let crowded = role == Role::Echo && sections.len() > 2;
        let purpose = match role {
            Role::Echo if crowded => Purpose::Subscribe { tracks: Vec::new() },
            Role::Echo => Purpose::Echo,
            Role::Agent(_) => Purpose::Agent,
            Role::Mix { .. } => Purpose::Subscribe {
                tracks: vec![Codec::Opus],
            },
            Role::Publish { .. } => Purpose::Publish { prefer: None },
            Role::Subscribe { .. } | Role::SubscribeRemote { .. } => Purpose::Subscribe {
                tracks: tracks.to_vec(),
            },
        };
        let text = offer.to_sdp_string();
        let offer = Offer::parse(text.as_bytes()).expect("str0m offers well");
        let negotiated = offer
            .negotiate(purpose)
            .expect("str0m offers what we handle");
        let mut plan = negotiated.plan().clone();
        plan.media
            .iter_mut()
            .for_each(|media| media.receive |= crowded);
        let (session, local) = self.open(plan, role).expect("there is room");
        let mut text = negotiated.answer(&local, &[SERVER], 1);
        if crowded {
            text = text.replace("a=sendonly", "a=sendrecv");
        }
        let answer = SdpAnswer::from_sdp_string(&text).expect("str0m reads our answer");
        rtc.sdp_api()
            .accept_answer(pending, answer)
            .expect("str0m accepts our answer");
        let peer = Peer::new(rtc, address, (session, text), mids, now);
        self.peers.push(peer);
        number
    }

    /// Opens a session; its id and our half of the description.
    pub(crate) fn open(
        &mut self,
        plan: SessionPlan,
        role: Role,
    ) -> Result<(SessionId, LocalDescription), CommandError> {
        self.requests += 1;
        let request = RequestId(self.requests);
        let plan = Box::new(plan);
        self.command(Command::Open {
            request,
            plan,
            role,
        });
        for event in self.events.iter().rev() {
            match event {
                Event::Opened {
                    request: answered,
                    session,
                    local,
                } if *answered == request => {
                    return Ok((*session, (**local).clone()));
                }
                Event::Rejected {
                    request: answered,
                    error,
                } if *answered == request => {
                    return Err(*error);
                }
                _ => {}
            }
        }
        panic!("the shard did not answer");
    }

    /// A peer that publishes one audio and one video track.
    pub(crate) fn publish(&mut self, room: u32, participant: u32) -> usize {
        let role = publisher(room, participant);
        self.join(
            &[
                (MediaKind::Audio, Direction::SendOnly),
                (MediaKind::Video, Direction::SendOnly),
            ],
            role,
        )
    }

    /// A peer that subscribes to one audio and one video track.
    pub(crate) fn subscribe(&mut self, room: u32, target: Target) -> usize {
        let role = Role::Subscribe {
            room: RoomId(room),
            target,
        };
        self.join(
            &[
                (MediaKind::Audio, Direction::RecvOnly),
                (MediaKind::Video, Direction::RecvOnly),
            ],
            role,
        )
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `done`, at most for `limit`; how long it took.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        let end = start + limit;
        while !done(self) {
            assert!(self.step(end), "it did not happen within {limit:?}");
        }
        self.now.since(start)
    }

    /// Runs until every peer is connected.
    pub(crate) fn connect_all(&mut self) {
        self.run_until(Duration::from_secs(10), |world| {
            world.peers.iter().all(|peer| peer.connected || peer.closed)
        });
        self.run_for(Duration::from_millis(20));
    }

    /// A peer sends one RTP packet; `time` in units of its clock.
    pub(crate) fn send(&mut self, peer: usize, mid: Mid, time: u32, marker: bool, payload: &[u8]) {
        self.send_as_loud(peer, mid, time, marker, payload, -20);
    }

    /// The same with an audio level in dBov.
    pub(crate) fn send_as_loud(
        &mut self,
        peer: usize,
        mid: Mid,
        time: u32,
        marker: bool,
        payload: &[u8],
        level: i8,
    ) {
        let instant = self.epoch.instant(self.now);
        let sender = self.peers[peer].next_number(mid);
        let mut api = self.peers[peer].rtc.direct_api();
        let stream = api
            .stream_tx(&sender.ssrc)
            .expect("the stream was found before");
        let values = ExtensionValues {
            audio_level: Some(level),
            voice_activity: Some(true),
            ..Default::default()
        };
        let write = RtpWrite::new(
            sender.payload_type.into(),
            SeqNo::from(sender.next),
            time,
            instant,
            Arc::<[u8]>::from(payload),
        )
        .marker(marker)
        .ext_vals(values)
        .nackable(true);
        stream.write_rtp(write);
        self.nudge(peer);
        self.run_for(Duration::ZERO);
    }

    /// Lets a peer do what it was told to.
    pub(crate) fn nudge(&mut self, peer: usize) {
        let instant = self.epoch.instant(self.now);
        self.peers[peer]
            .rtc
            .handle_input(Input::Timeout(instant))
            .expect("the peer lives");
        self.drain_peer(peer);
    }

    /// Ends a peer's session from our side.
    pub(crate) fn close(&mut self, peer: usize) {
        let session = self.peers[peer].session.expect("it was opened");
        let reason = CloseReason::Requested;
        self.command(Command::Close { session, reason });
    }

    /// Restarts ICE as a client that renegotiates: new credentials on both sides, the rest as it was.
    pub(crate) fn restart(&mut self, peer: usize) {
        let session = self.peers[peer].session.expect("it was opened");
        let mut changes = self.peers[peer].rtc.sdp_api();
        let ours = changes.ice_restart(true);
        let (_, pending) = changes.apply().expect("a restart is a change");
        self.requests += 1;
        let request = RequestId(self.requests);
        let remote_ice = IceCredentials {
            ufrag: ours.ufrag,
            password: ours.pass,
        };
        self.command(Command::Restart {
            request,
            session,
            remote_ice,
        });
        let ice = self.events.iter().rev().find_map(|event| match event {
            Event::Restarted {
                request: answered,
                ice,
            } if *answered == request => Some(ice.clone()),
            _ => None,
        });
        let ice = ice.expect("the session was there");
        // The answer of before with the new credentials: nothing else changes (RFC 9725 §4.4.2).
        let mut answer = String::new();
        for line in self.peers[peer].answer.lines() {
            let replaced = match line.split_once(':') {
                Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}", ice.ufrag),
                Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}", ice.password),
                _ => line.to_owned(),
            };
            answer.push_str(&replaced);
            answer.push_str("\r\n");
        }
        let answer = SdpAnswer::from_sdp_string(&answer).expect("only two values changed");
        self.peers[peer]
            .rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .expect("str0m accepts a restart");
        self.nudge(peer);
    }

    /// A peer asks for a keyframe of a track it receives.
    pub(crate) fn request_keyframe(&mut self, peer: usize, mid: Mid) {
        let mut api = self.peers[peer].rtc.direct_api();
        let stream = api
            .stream_rx_by_mid(mid, None)
            .expect("it receives this track");
        stream.request_keyframe(KeyframeRequestKind::Pli);
        self.nudge(peer);
    }

    /// Throws a datagram at the shard.
    pub(crate) fn inject(&mut self, source: SocketAddr, contents: &[u8]) {
        self.turn(None, Some((source, contents)));
    }

    /// Hands the shard a command.
    pub(crate) fn command(&mut self, command: Command) {
        self.turn(Some(command), None);
    }

    /// The shard, to look at.
    pub(crate) const fn shard(&self) -> &Shard {
        self.pump.shard()
    }

    /// A session's figures.
    pub(crate) fn stats(&mut self, session: SessionId) -> SessionStats {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.command(Command::SessionStats { request, session });
        match self.events.pop() {
            Some(Event::SessionStats { stats, .. }) => *stats,
            other => panic!("no figures but {other:?}"),
        }
    }

    /// The tags of a peer's sections, in order.
    pub(crate) fn mids(&self, peer: usize) -> Vec<Mid> {
        self.peers[peer].mids.clone()
    }

    fn step(&mut self, end: Timestamp) -> bool {
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let peers = self
            .peers
            .iter()
            .filter(|peer| !peer.closed)
            .map(|peer| self.epoch.timestamp(peer.timeout))
            .min();
        let next = [flying, self.shard().deadline(), peers]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next
            .map(|next| next.max(self.now))
            .filter(|next| *next <= end)
        else {
            return false;
        };
        self.now = next;
        if let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= next
        {
            let datagram = entry.remove();
            self.deliver(datagram);
            return true;
        }
        self.turn(None, None);
        let instant = self.epoch.instant(self.now);
        for peer in 0..self.peers.len() {
            if !self.peers[peer].closed && self.peers[peer].timeout <= instant {
                self.nudge(peer);
            }
        }
        true
    }

    fn deliver(&mut self, datagram: Flying) {
        if datagram.destination == SERVER {
            if self.record {
                self.recorded.push(datagram.clone());
            }
            if self.withhold_media && classify(&datagram.contents) == Class::Rtp {
                return;
            }
            self.inject(datagram.source, &datagram.contents);
            return;
        }
        let found = self
            .peers
            .iter()
            .position(|peer| peer.public == datagram.destination);
        let Some(peer) = found.filter(|peer| !self.peers[*peer].closed) else {
            return;
        };
        let instant = self.epoch.instant(self.now);
        let inside = self.peers[peer].address;
        let received = Receive::new(Protocol::Udp, SERVER, inside, &datagram.contents);
        if let Ok(received) = received {
            let input = Input::Receive(instant, received);
            if self.peers[peer].rtc.handle_input(input).is_err() {
                self.peers[peer].closed = true;
            }
            self.drain_peer(peer);
        }
    }

    fn drain_peer(&mut self, number: usize) {
        loop {
            let peer = &mut self.peers[number];
            match peer.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    peer.timeout = at;
                    peer.closed |= !peer.rtc.is_alive();
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    let source = peer.public;
                    let flying = Flying {
                        source,
                        destination: transmit.destination,
                        contents: transmit.contents.to_vec(),
                    };
                    let link = peer.up.unwrap_or(self.link);
                    self.fly(flying, link);
                }
                Ok(Output::Event(event)) => peer.note(event, self.now),
                Err(_) => {
                    peer.closed = true;
                    return;
                }
            }
        }
    }

    /// A turn of the pump with this to handle; what it says is kept, what it sends flies.
    fn turn(&mut self, command: Option<Command>, datagram: Option<(SocketAddr, &[u8])>) {
        let mut port = WorldPort {
            now: self.now,
            command,
            datagram,
            events: &mut self.events,
            sent: Vec::new(),
        };
        turn_pump(&mut self.pump, self.now, &mut port);
        let sent = port.sent;
        for datagram in sent {
            let entry = self.sent_to.entry(datagram.destination).or_default();
            *entry = (entry.0 + 1, entry.1 + datagram.contents.len() as u64);
            if let Some(tap) = self.taps.get_mut(&datagram.destination) {
                tap.push(datagram.contents);
                continue;
            }
            let peers = &mut self.peers.iter();
            let to = peers.find(|peer| peer.public == datagram.destination);
            let link = to.and_then(|peer| peer.down).unwrap_or(self.link);
            self.fly(datagram, link);
        }
    }

    fn fly(&mut self, datagram: Flying, link: Link) {
        self.departed += 1;
        if self.rng.below(1_000) >= link.loss_permille {
            let at = self.now + link.delay;
            self.flying.insert((at, self.departed), datagram);
        }
    }
}

/// What the bench of instructions counts of a handshake.
#[inline(never)]
fn turn_pump(pump: &mut Pump, now: Timestamp, port: &mut WorldPort<'_>) {
    let _wait = pump.turn(now, port);
}

/// Lends the pump what there is in one turn, and has room for all it sends.
struct WorldPort<'a> {
    now: Timestamp,
    command: Option<Command>,
    datagram: Option<(SocketAddr, &'a [u8])>,
    events: &'a mut Vec<Event>,
    sent: Vec<Flying>,
}

impl Port for WorldPort<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        let Some((source, contents)) = self.datagram.take() else {
            return;
        };
        let slot = batch.free_slots().next().expect("the batch is empty");
        slot[..contents.len()].copy_from_slice(contents);
        batch.commit(RecvMeta {
            received: self.now,
            source,
            destination: SERVER,
            ecn: None,
            len: contents.len(),
            stride: contents.len(),
        });
    }

    fn next_command(&mut self) -> Option<Command> {
        self.command.take()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        self.sent.extend(batch.iter().map(|(meta, bytes)| Flying {
            source: SERVER,
            destination: meta.destination,
            contents: bytes.to_vec(),
        }));
        batch.consume(batch.len());
    }

    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// The role of a publisher.
pub(crate) fn publisher(room: u32, participant: u32) -> Role {
    Role::Publish {
        room: RoomId(room),
        participant: ParticipantId(participant),
    }
}

/// The role of a subscriber to whoever publishes last.
pub(crate) fn subscriber(room: u32) -> Role {
    Role::Subscribe {
        room: RoomId(room),
        target: Target::Newest,
    }
}

/// A VP8 payload: a descriptor with a 15-bit picture id, then a frame header and a filler.
pub(crate) fn vp8(picture_id: u16, keyframe: bool, start: bool, filler: u8, len: usize) -> Vec<u8> {
    let mut payload = vec![
        0x80 | u8::from(start) << 4,
        0x80,
        0x80 | (picture_id >> 8) as u8,
        picture_id as u8,
    ];
    payload.push(u8::from(!keyframe));
    payload.resize(4 + len.max(1), filler);
    payload
}

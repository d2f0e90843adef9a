//! A world for tests: one shard, many str0m peers and a network between them, in virtual time.
//!
//! str0m's `Rtc` is an independent implementation: what it accepts and decodes is judged by others' code.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_core::drive::TransmitBatch;
use antiphon_core::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use antiphon_core::message::{Command, CommandError, Event, Role, SessionStats, Target};
use antiphon_core::net::Datagram;
use antiphon_core::plan::{Codec, SessionPlan};
use antiphon_core::rng::{Rng, Seed};
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig};
use antiphon_core::time::{Epoch, Timestamp};
use antiphon_core::wire::{Class, classify};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, SeqNo, Ssrc};
use str0m::{Candidate, Event as PeerEvent, Input, Output, Rtc};

/// Where the shard listens.
pub(crate) const SERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);

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

/// One str0m peer.
pub(crate) struct Peer {
    pub(crate) rtc: Rtc,
    pub(crate) address: SocketAddr,
    /// Datagrams the world sends to this address reach the peer too (as behind a NAT).
    pub(crate) public: SocketAddr,
    pub(crate) session: Option<SessionId>,
    pub(crate) mids: Vec<Mid>,
    pub(crate) connected: bool,
    pub(crate) closed: bool,
    pub(crate) packets: Vec<RtpPacket>,
    pub(crate) keyframe_requests: Vec<(Timestamp, Mid)>,
    pub(crate) estimates: u64,
    timeout: Instant,
    senders: BTreeMap<Mid, Outgoing>,
}

#[derive(Clone, Copy)]
struct Outgoing {
    ssrc: Ssrc,
    payload_type: u8,
    next: u64,
}

/// Virtual time, a shard, its peers, and what flies between them.
pub(crate) struct World {
    pub(crate) shard: Shard,
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

impl World {
    /// A world without peers: 5 ms each way, no loss.
    pub(crate) fn new(seed: u8) -> Self {
        let epoch = Epoch::new(origin(), Duration::from_secs(1_800_000_000));
        let identity = Arc::new(Identity::generate().expect("the library makes a certificate"));
        let config = Arc::new(ShardConfig {
            identity,
            sessions_max: 10_000,
        });
        let seed = Seed::new([seed; 32]);
        let shard =
            Shard::new(ShardId(0), config, epoch, seed.clone()).expect("a valid configuration");
        Self {
            shard,
            epoch,
            now: Timestamp::from_millis(1),
            peers: Vec::new(),
            events: Vec::new(),
            link: Link {
                delay: Duration::from_millis(5),
                loss_permille: 0,
            },
            rng: seed.derive("world", 0).rng(),
            sent_to: BTreeMap::new(),
            recorded: Vec::new(),
            record: false,
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
        let number = self.peers.len();
        let address = SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(10, 1, (number >> 8) as u8, number as u8)),
            5_000,
        );
        let now = self.epoch.instant(self.now);
        let mut rtc = configure(Rtc::builder().set_rtp_mode(true)).build(now);
        let candidate = Candidate::host(address, Protocol::Udp).expect("a host candidate");
        rtc.add_local_candidate(candidate);
        let mut changes = rtc.sdp_api();
        let add = |(kind, direction): &(MediaKind, Direction)| {
            changes.add_media(*kind, *direction, Some("stream".into()), None, None)
        };
        let mids = sections.iter().map(add).collect();
        let (offer, pending) = changes.apply().expect("there are changes to offer");
        let purpose = match role {
            Role::Echo => Purpose::Echo,
            Role::Publish { .. } => Purpose::Publish { prefer: None },
            Role::Subscribe { .. } => Purpose::Subscribe {
                tracks: tracks.to_vec(),
            },
        };
        let text = offer.to_sdp_string();
        let offer = Offer::parse(text.as_bytes()).expect("str0m offers well");
        let negotiated = offer
            .negotiate(purpose)
            .expect("str0m offers what we handle");
        let (session, local) = self
            .open(negotiated.plan().clone(), role)
            .expect("there is room");
        let answer = negotiated.answer(&local, &[SERVER], 1);
        let answer = SdpAnswer::from_sdp_string(&answer).expect("str0m reads our answer");
        rtc.sdp_api()
            .accept_answer(pending, answer)
            .expect("str0m accepts our answer");
        self.peers.push(Peer {
            rtc,
            address,
            public: address,
            session: Some(session),
            mids,
            connected: false,
            closed: false,
            packets: Vec::new(),
            keyframe_requests: Vec::new(),
            estimates: 0,
            timeout: now,
            senders: BTreeMap::new(),
        });
        number
    }

    /// Opens a session; its id and our half of the description.
    pub(crate) fn open(
        &mut self,
        plan: SessionPlan,
        role: Role,
    ) -> Result<(SessionId, antiphon_core::plan::LocalDescription), CommandError> {
        self.requests += 1;
        let request = RequestId(self.requests);
        let plan = Box::new(plan);
        self.shard.handle_command(
            self.now,
            Command::Open {
                request,
                plan,
                role,
            },
        );
        self.collect();
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
        let instant = self.epoch.instant(self.now);
        let sender = self.peers[peer].sender(mid);
        let mut api = self.peers[peer].rtc.direct_api();
        let stream = api
            .stream_tx(&sender.ssrc)
            .expect("the stream was found before");
        let sequence = SeqNo::from(sender.next);
        let values = ExtensionValues {
            audio_level: Some(-20),
            voice_activity: Some(true),
            ..Default::default()
        };
        let write = RtpWrite::new(
            sender.payload_type.into(),
            sequence,
            time,
            instant,
            Arc::<[u8]>::from(payload),
        )
        .marker(marker)
        .ext_vals(values)
        .nackable(true);
        stream.write_rtp(write);
        self.peers[peer]
            .senders
            .get_mut(&mid)
            .expect("found above")
            .next += 1;
        self.peers[peer]
            .rtc
            .handle_input(Input::Timeout(instant))
            .expect("the peer lives");
        self.drain_peer(peer);
        self.run_for(Duration::ZERO);
    }

    /// Sets the number of a peer's next packet.
    pub(crate) fn set_next_sequence(&mut self, peer: usize, mid: Mid, next: u64) {
        let _found: Outgoing = self.peers[peer].sender(mid);
        self.peers[peer]
            .senders
            .get_mut(&mid)
            .expect("found above")
            .next = next;
    }

    /// A peer asks for a keyframe of a track it receives.
    pub(crate) fn request_keyframe(&mut self, peer: usize, mid: Mid) {
        let mut api = self.peers[peer].rtc.direct_api();
        let stream = api
            .stream_rx_by_mid(mid, None)
            .expect("it receives this track");
        stream.request_keyframe(KeyframeRequestKind::Pli);
    }

    /// Throws a datagram at the shard.
    pub(crate) fn inject(&mut self, source: SocketAddr, contents: &[u8]) {
        let mut contents = contents.to_vec();
        let datagram = Datagram {
            received: self.now,
            source,
            destination: SERVER,
            ecn: None,
            contents: &mut contents,
        };
        self.shard.handle_datagram(self.now, datagram);
        self.collect();
    }

    /// Hands the shard a command.
    pub(crate) fn command(&mut self, command: Command) {
        self.shard.handle_command(self.now, command);
        self.collect();
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
        let next = [flying, self.shard.deadline(), peers]
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
        self.shard.handle_timeout(self.now);
        self.collect();
        let instant = self.epoch.instant(self.now);
        for peer in 0..self.peers.len() {
            if !self.peers[peer].closed && self.peers[peer].timeout <= instant {
                self.peers[peer]
                    .rtc
                    .handle_input(Input::Timeout(instant))
                    .expect("the peer lives");
                self.drain_peer(peer);
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
                    self.fly(flying);
                }
                Ok(Output::Event(event)) => peer.note(event, self.now),
                Err(_) => {
                    peer.closed = true;
                    return;
                }
            }
        }
    }

    /// Takes everything the shard has to say.
    fn collect(&mut self) {
        while let Some(event) = self.shard.poll_event() {
            self.events.push(event);
        }
        let batch: &mut TransmitBatch = self.shard.transmits_mut();
        let sent: VecDeque<_> = batch
            .iter()
            .map(|(meta, bytes)| Flying {
                source: SERVER,
                destination: meta.destination,
                contents: bytes.to_vec(),
            })
            .collect();
        let count = sent.len();
        batch.consume(count);
        self.shard.note_sent(self.now, count);
        for datagram in sent {
            let entry = self.sent_to.entry(datagram.destination).or_default();
            *entry = (entry.0 + 1, entry.1 + datagram.contents.len() as u64);
            self.fly(datagram);
        }
    }

    fn fly(&mut self, datagram: Flying) {
        self.departed += 1;
        if self.rng.below(1_000) >= self.link.loss_permille {
            self.flying
                .insert((self.now + self.link.delay, self.departed), datagram);
        }
    }
}

impl Peer {
    fn sender(&mut self, mid: Mid) -> Outgoing {
        if let Some(sender) = self.senders.get(&mid) {
            return *sender;
        }
        let params = self
            .rtc
            .media(mid)
            .expect("the section exists")
            .remote_pts()
            .to_vec();
        let payload_type = *params.first().expect("a codec was agreed");
        let mut api = self.rtc.direct_api();
        let stream = api
            .stream_tx_by_mid(mid, None)
            .expect("it sends this track");
        let sender = Outgoing {
            ssrc: stream.ssrc(),
            payload_type: *payload_type,
            next: 1,
        };
        self.senders.insert(mid, sender);
        sender
    }

    fn note(&mut self, event: PeerEvent, now: Timestamp) {
        match event {
            PeerEvent::Connected => self.connected = true,
            PeerEvent::RtpPacket(packet) => self.packets.push(packet),
            PeerEvent::KeyframeRequest(request) => self.keyframe_requests.push((now, request.mid)),
            PeerEvent::EgressBitrateEstimate(_) => self.estimates += 1,
            _ => {}
        }
    }

    /// Payloads received with a payload type of this codec.
    pub(crate) fn payloads(&self, mid: Mid) -> Vec<Vec<u8>> {
        let of_section = |packet: &&RtpPacket| {
            self.rtc
                .media(mid)
                .is_some_and(|media| media.remote_pts().contains(&packet.header.payload_type))
        };
        self.packets
            .iter()
            .filter(of_section)
            .map(|packet| packet.payload.to_vec())
            .collect()
    }
}

/// The role of a publisher.
pub(crate) fn publisher(room: u32, participant: u32) -> Role {
    Role::Publish {
        room: RoomId(room),
        participant: ParticipantId(participant),
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

//! A shard with its clock and all it said, and peers that hold their sessions' keys.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use super::sdp::OFFER;
use super::stun::{answer, binding_request};
use crate::audio::{FRAME_SAMPLES_MAX, Rate};
use crate::codec::{AnyEncoder, Encoder as _, EncoderSettings};
use crate::ids::{RequestId, SessionId, ShardId};
use crate::limits::{SPOKEN_BYTES_MAX, SRTCP_OVERHEAD_BYTES_MAX, SRTP_OVERHEAD_BYTES_MAX};
use crate::message::{
    CloseReason, Command, CommandError, DropReason, Event, PlanFlaw, Role, ShardStats,
};
use crate::net::Datagram;
use crate::plan::{Codec, DtlsRole, IceCredentials, LocalDescription, SessionPlan};
use crate::relay::Relay;
use crate::rng::Seed;
use crate::sdp::{Offer, Purpose};
use crate::session::transport::scripted::Scripted;
use crate::session::transport::{HandshakeResult, Identity};
use crate::shard::{Output, Shard, ShardConfig, TableSizes, Tuning};
use crate::srtp::{Inbound, KeyingMaterial, Outbound, ReplayWindow, RtpPosition, SendSource};
use crate::time::{Epoch, Timestamp};
use crate::wire::rtp::{FIXED_HEADER_BYTES, Header, HeaderFields, write_header};
use crate::wire::{Class, classify};

const SEED: Seed = Seed::new([5; 32]);
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
/// Of the peer, in [`OFFER`].
const PEER_UFRAG: &str = "abcd";
const PEER_PASSWORD: &str = "0123456789abcdef012345";
/// What [`OFFER`] calls audio levels.
const AUDIO_LEVEL: u8 = 1;
/// What [`OFFER`] calls Opus.
pub(super) const OPUS: u8 = 111;
/// What it calls VP8, and VP8 that is sent again.
pub(super) const VP8: u8 = 96;
pub(super) const RTX: u8 = 97;

pub(super) struct World {
    pub(super) shard: Shard,
    /// The driver's clock; the shard's own does not go back.
    pub(super) now: Timestamp,
    /// Sent and not looked at yet.
    pub(super) sent: Vec<(SocketAddr, Vec<u8>)>,
    /// Told and not looked at yet.
    pub(super) events: Vec<Event>,
    /// Said to other shards and not looked at yet.
    pub(super) relays: Vec<(ShardId, Relay)>,
    requests: u64,
    received: u64,
}

impl World {
    /// A world whose handshakes are scripted: cheap, and the same each time.
    pub(super) fn new(sessions_max: u32) -> Self {
        Self::on(ShardId(0), sessions_max)
    }

    /// The same of a shard among others.
    pub(super) fn on(shard: ShardId, sessions_max: u32) -> Self {
        static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
        let identity = IDENTITY.get_or_init(|| Arc::new(Identity::scripted(&SEED)));
        Self::of(shard, Arc::clone(identity), sessions_max)
    }

    /// A world with real DTLS.
    pub(super) fn real(sessions_max: u32) -> Self {
        static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
        let identity = IDENTITY.get_or_init(|| {
            Arc::new(Identity::generate().expect("the library makes a certificate"))
        });
        Self::of(ShardId(0), Arc::clone(identity), sessions_max)
    }

    fn of(shard: ShardId, identity: Arc<Identity>, sessions_max: u32) -> Self {
        let config = Arc::new(ShardConfig {
            identity,
            sessions_max,
            tuning: Tuning::default(),
        });
        let shard = Shard::new(shard, config, Epoch::simulated(), SEED);
        Self {
            shard: shard.expect("a valid configuration"),
            now: Timestamp::ZERO,
            sent: Vec::new(),
            events: Vec::new(),
            relays: Vec::new(),
            requests: 0,
            received: 0,
        }
    }

    /// Takes a datagram in; why it was refused, if it was.
    pub(super) fn deliver(&mut self, source: SocketAddr, contents: &[u8]) -> Option<DropReason> {
        let mut contents = contents.to_vec();
        self.received += 1;
        let before = self.shard.stats().drops;
        let datagram = Datagram {
            received: self.now,
            source,
            destination: SERVER,
            ecn: None,
            contents: &mut contents,
        };
        self.shard.handle_datagram(self.now, datagram);
        let after = self.shard.stats().drops;
        self.collect();
        let counted = DropReason::ALL.iter().zip(before.iter().zip(after));
        let mut reasons = counted.filter(|(_, (before, after))| *before != after);
        let reason = reasons.next().map(|(reason, (before, after))| {
            assert_eq!(after, before + 1, "one datagram, one reason");
            *reason
        });
        assert!(reasons.next().is_none(), "one datagram, one reason");
        reason
    }

    pub(super) fn command(&mut self, command: Command) {
        self.shard.handle_command(self.now, command);
        self.collect();
    }

    /// Takes in what another shard says.
    pub(super) fn relay(&mut self, from: ShardId, relay: Relay) {
        self.shard.handle_relay(self.now, from, relay);
        self.collect();
    }

    /// Does what is due. D3: asking again at the same time changes nothing, and the next deadline is not now.
    pub(super) fn turn(&mut self) {
        self.shard.handle_timeout(self.now);
        self.collect();
        let (stats, deadline) = (self.shard.stats(), self.shard.deadline());
        let (sent, told) = (self.sent.len(), self.events.len());
        self.shard.handle_timeout(self.now);
        self.collect();
        let again = ShardStats {
            // D4: a call in the past changes nothing else.
            clock_steps_back: stats.clock_steps_back,
            ..self.shard.stats()
        };
        assert_eq!((again, self.shard.deadline()), (stats, deadline));
        assert_eq!((self.sent.len(), self.events.len()), (sent, told));
        assert!(deadline.is_none_or(|deadline| deadline > self.now));
    }

    /// Opens a session for [`OFFER`].
    pub(super) fn open(
        &mut self,
        role: Role,
    ) -> Result<(SessionId, LocalDescription), CommandError> {
        self.open_planned(role, plan(role))
    }

    pub(super) fn open_planned(
        &mut self,
        role: Role,
        plan: SessionPlan,
    ) -> Result<(SessionId, LocalDescription), CommandError> {
        let (request, plan) = (self.request(), Box::new(plan));
        self.command(Command::Open {
            request,
            plan,
            role,
        });
        match self.answer(request) {
            Event::Opened { session, local, .. } => Ok((session, *local)),
            Event::Rejected { error, .. } => Err(error),
            other => panic!("{other:?} is no answer to that"),
        }
    }

    /// Restarts a session's ICE: our new credentials, or `None` if there is no such session.
    pub(super) fn restart(&mut self, session: SessionId) -> Option<IceCredentials> {
        let request = self.request();
        let remote_ice = plan(Role::Echo).remote_ice;
        self.command(Command::Restart {
            request,
            session,
            remote_ice,
        });
        match self.answer(request) {
            Event::Restarted { ice, .. } => Some(ice),
            Event::Rejected { error, .. } => {
                assert_eq!(error, CommandError::UnknownSession);
                None
            }
            other => panic!("{other:?} is no answer to that"),
        }
    }

    fn answer(&mut self, request: RequestId) -> Event {
        let mut events = self.events.iter();
        let place = events.position(|event| event.request() == Some(request));
        self.events.remove(place.expect("a command is answered"))
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// What a server must not ask for is refused and leaves nothing behind.
    pub(super) fn assert_refuses(&mut self) {
        let before = self.shard.table_sizes();
        let mut no_codecs = plan(Role::Echo);
        no_codecs.media[0].codecs.clear();
        let no_sections = SessionPlan {
            media: Vec::new(),
            ..plan(Role::Echo)
        };
        for (plan, flaw) in [
            (no_codecs, PlanFlaw::NoCodec),
            (no_sections, PlanFlaw::Sections),
        ] {
            let answer = self.open_planned(Role::Echo, plan).map(drop);
            assert_eq!(answer, Err(CommandError::InvalidPlan(flaw)));
        }
        let (session, _) = self.open(Role::Echo).expect("there is room");
        let elsewhere = SessionId {
            shard: ShardId(session.shard.0 + 1),
            ..session
        };
        assert_eq!(self.restart(elsewhere), None);
        self.command(Command::Close {
            session,
            reason: CloseReason::Requested,
        });
        let told = self.events.pop();
        assert!(matches!(told, Some(Event::Closed { session: closed, .. }) if closed == session));
        assert_eq!(self.shard.table_sizes(), before);
    }

    /// What sessions leave behind is nothing but figures.
    pub(super) fn assert_empty(&mut self) {
        let request = self.request();
        self.command(Command::ShardStats { request });
        let stats = Box::new(self.shard.stats());
        assert_eq!(
            self.events.pop(),
            Some(Event::ShardStats { request, stats })
        );
        assert_eq!(self.shard.table_sizes(), TableSizes::default());
        assert_eq!(self.shard.deadline(), None);
    }

    /// Takes out what the shard did. Its own checks are answered at once and leave no trace: whoever is in this
    /// world is where its packets come from.
    fn collect(&mut self) {
        self.take_out();
        while let Some(place) = self
            .sent
            .iter()
            .position(|(_, sent)| sent.starts_with(&[0, 1]))
        {
            let (source, check) = self.sent.remove(place);
            let mut contents = answer(&check, PEER_PASSWORD).expect("it is a check");
            self.received += 1;
            let datagram = Datagram {
                received: self.now,
                source,
                destination: SERVER,
                ecn: None,
                contents: &mut contents,
            };
            self.shard.handle_datagram(self.now, datagram);
            self.take_out();
        }
    }

    fn take_out(&mut self) {
        let mut count = 0;
        let deadline = loop {
            match self.shard.poll_output() {
                Output::Transmit(transmit) => {
                    assert!(!transmit.contents.is_empty());
                    let contents = transmit.contents.to_vec();
                    self.sent.push((transmit.destination, contents));
                    count += 1;
                }
                Output::Relay(to, relay) => self.relays.push((to, relay)),
                Output::Event(event) => self.events.push(event),
                Output::Timeout(deadline) => break deadline,
            }
        };
        assert_eq!(deadline, self.shard.deadline());
        self.shard.note_sent(self.now, count);
        let stats = self.shard.stats();
        assert_eq!(stats.faults, 0, "a session panicked");
        assert_eq!(stats.datagrams_received, self.received);
    }
}

/// Somebody's address.
pub(super) fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 5_000))
}

fn plan(role: Role) -> SessionPlan {
    static PLANS: OnceLock<[SessionPlan; 3]> = OnceLock::new();
    let negotiated = |purpose| {
        let offer = Offer::parse(OFFER.as_bytes()).expect("our offer is sound");
        let negotiated = offer.negotiate(purpose).expect("our offer is for us");
        negotiated.plan().clone()
    };
    let plans = PLANS.get_or_init(|| {
        [
            negotiated(Purpose::Echo),
            negotiated(Purpose::Publish { prefer: None }),
            negotiated(Purpose::Subscribe { tracks: Vec::new() }),
        ]
    });
    let [echo, publish, subscribe] = plans;
    match role {
        Role::Echo | Role::Agent(_) => echo.clone(),
        Role::Publish { .. } => publish.clone(),
        Role::Subscribe { .. } | Role::SubscribeRemote { .. } | Role::Mix { .. } => {
            subscribe.clone()
        }
    }
}

/// The far end of a session: its credentials, its side of a scripted handshake, and the keys that come of it.
pub(super) struct Peer {
    pub(super) id: SessionId,
    /// The server's, now.
    pub(super) ice: IceCredentials,
    handshake: Scripted,
    keys: Option<(Inbound, Outbound)>,
    sources: BTreeMap<u32, SendSource>,
    windows: BTreeMap<u32, ReplayWindow>,
    checks: u32,
}

impl Peer {
    /// `number` chooses the keys.
    pub(super) fn new(id: SessionId, local: &LocalDescription, number: u64) -> Self {
        let seed = SEED.derive("peer", number);
        let ours = plan(Role::Echo).remote_fingerprint;
        Self {
            id,
            ice: local.ice.clone(),
            handshake: Scripted::new(DtlsRole::Client, ours, local.fingerprint, &seed),
            keys: None,
            sources: BTreeMap::new(),
            windows: BTreeMap::new(),
            checks: 0,
        }
    }

    /// Proves an address by a check that nominates it, and connects.
    pub(super) fn connect(&mut self, world: &mut World, source: SocketAddr) {
        assert_eq!(self.check(world, source), None, "a sound check is taken");
        self.shake_hands(world, source);
    }

    /// Goes through the handshake from an address that its session has proved.
    pub(super) fn shake_hands(&mut self, world: &mut World, source: SocketAddr) {
        let mut outcome = self.handshake.start(world.now);
        for _ in 0..2 {
            world.sent.clear();
            for datagram in &outcome.datagrams {
                assert_eq!(world.deliver(source, datagram), None, "its path is proved");
            }
            // Answers go to the path in use, which is one of the peer's but may be another.
            let mut answers = world.sent.iter().map(|(_, contents)| contents);
            let answer = answers.find(|contents| classify(contents) == Class::Dtls);
            let answer = answer.expect("each flight has an answer");
            outcome = self.handshake.handle_packet(world.now, answer);
        }
        let HandshakeResult::Connected(profile, keys) = outcome.result else {
            panic!("two round trips are all of it, not {outcome:?}");
        };
        let keying = KeyingMaterial::new(profile, keys.as_bytes()).expect("of the right length");
        self.keys = Some(keying.into_contexts(DtlsRole::Client));
    }

    /// Sends a check as no other before.
    pub(super) fn check(&mut self, world: &mut World, source: SocketAddr) -> Option<DropReason> {
        self.checks += 1;
        let check = check(&self.ice, 0x1_0000 | self.checks, true);
        world.deliver(source, &check)
    }

    /// Seals an RTP packet under the number it has; `None` if it has no whole header or the number was used. Without
    /// keys the tag is a guess.
    pub(super) fn seal_rtp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let header = Header::parse(plain).ok()?;
        let Some((_, outbound)) = &mut self.keys else {
            return Some([plain, &[0; SRTP_OVERHEAD_BYTES_MAX]].concat());
        };
        let source = match self.sources.entry(header.ssrc) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(outbound.claim(header.ssrc)?)
            }
        };
        let mut sealed = plain.to_vec();
        sealed.resize(plain.len() + SRTP_OVERHEAD_BYTES_MAX, 0);
        let number = header.sequence_number;
        let payload = &plain[header.len..];
        let len = outbound
            .seal_rtp(source, number, &mut sealed, header.len, &[], payload)
            .ok()?;
        sealed.truncate(len);
        Some(sealed)
    }

    /// Seals anything as a compound; `None` if there is no whole header. Without keys the tag is a guess.
    pub(super) fn seal_rtcp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let Some((_, outbound)) = &mut self.keys else {
            return Some([plain, &[0; SRTCP_OVERHEAD_BYTES_MAX]].concat());
        };
        let mut sealed = plain.to_vec();
        sealed.resize(plain.len() + SRTCP_OVERHEAD_BYTES_MAX, 0);
        let len = outbound.seal_rtcp(&mut sealed, plain.len()).ok()?;
        sealed.truncate(len);
        Some(sealed)
    }

    /// Opens what the server sealed for it; `None` if it is not media, or another's.
    pub(super) fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (inbound, _) = self.keys.as_mut()?;
        let mut packet = sealed.to_vec();
        let len = match classify(sealed) {
            Class::Rtp => {
                let header = Header::parse(sealed).ok()?;
                let position = RtpPosition {
                    ssrc: header.ssrc,
                    sequence_number: header.sequence_number,
                    header_len: header.len,
                };
                let window = self.windows.entry(header.ssrc).or_default();
                let opened = inbound.open_rtp(window, position, &mut packet);
                opened.ok()?.length
            }
            Class::Rtcp => inbound.open_rtcp(&mut packet).ok()?,
            _ => return None,
        };
        packet.truncate(len);
        Some(packet)
    }
}

/// A check under these credentials.
pub(super) fn check(ice: &IceCredentials, number: u32, nominates: bool) -> Vec<u8> {
    let username = format!("{}:{PEER_UFRAG}", ice.ufrag);
    binding_request(&username, &ice.password, number, nominates)
}

/// A packet of 20 ms of sound with its level, in the clear.
pub(super) fn sound(ssrc: u32, sequence_number: u16, payload: &[u8]) -> Vec<u8> {
    let fields = HeaderFields {
        payload_type: OPUS,
        marker: false,
        sequence_number,
        timestamp: u32::from(sequence_number) * 960,
        ssrc,
    };
    let level = sequence_number as u8 & 0x7f;
    let mut packet = vec![0; FIXED_HEADER_BYTES + 8];
    let len = write_header(&mut packet, &fields, &[(AUDIO_LEVEL, &[level])]);
    packet.truncate(len.expect("it fits"));
    packet.extend_from_slice(payload);
    packet
}

/// 20 ms of a loud tone, with a mark behind it that a decoder takes for padding (RFC 6716 §3.2.5). Without Opus it is
/// the mark alone.
pub(super) fn loud(mark: [u8; 8]) -> Vec<u8> {
    static TONE: OnceLock<Vec<u8>> = OnceLock::new();
    let tone = TONE.get_or_init(|| {
        let encoder = AnyEncoder::new(Codec::Opus, Rate::Hz48000, EncoderSettings::STANDARD);
        let Ok(mut encoder) = encoder else {
            return Vec::new();
        };
        let mut packet = vec![0; SPOKEN_BYTES_MAX];
        let square = |sample| if sample / 60 % 2 == 0 { 0.5 } else { -0.5 };
        let samples: Vec<f32> = (0..2 * FRAME_SAMPLES_MAX).map(square).collect();
        let len = encoder.encode(&samples, &mut packet).expect("20 ms");
        packet.truncate(len);
        packet
    });
    let mut packet = Vec::new();
    if let Some((toc, frame)) = tone.split_first() {
        let one_padded = 0x41;
        packet.extend([toc | 3, one_padded, mark.len() as u8]);
        packet.extend(frame);
    }
    packet.extend(mark);
    packet
}

/// A packet of a picture with a mark behind it, in the clear.
pub(super) fn picture(ssrc: u32, sequence_number: u16, key: bool, mark: &[u8]) -> Vec<u8> {
    let fields = HeaderFields {
        payload_type: VP8,
        marker: true,
        sequence_number,
        timestamp: u32::from(sequence_number) * 3_000,
        ssrc,
    };
    let mut packet = vec![0; FIXED_HEADER_BYTES];
    write_header(&mut packet, &fields, &[]).expect("it fits");
    packet.extend(vp8(key, sequence_number, 0));
    packet.extend_from_slice(mark);
    packet
}

/// A packet of a picture (RFC 7741 §4.2): with a picture id of 15 bits and a TL0PICIDX.
pub(super) fn vp8(key: bool, picture: u16, rest: u8) -> Vec<u8> {
    let [high, low] = (picture | 0x8000).to_be_bytes();
    let mut payload = vec![0x90, 0xc0, high, low, low, u8::from(!key), 0, 0];
    payload.extend([0x9d, 0x01, 0x2a, 16, 0, 16, 0]);
    payload.extend(vec![rest; usize::from(rest)]);
    payload
}

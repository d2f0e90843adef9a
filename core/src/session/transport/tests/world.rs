//! A full-ICE client, a server and the network between them, in virtual time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output, SrtpProfile};
use is::stun::{StunMessage, StunPacket, TransId};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};

use super::super::checks::sha1_hmac;
use super::super::identity::fingerprint_of;
use super::super::{Identity, Transport, TransportEvent};
use crate::ids::{SessionId, SessionKey, ShardId};
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::net::Path;
use crate::plan::{DtlsRole, Fingerprint, IceCredentials};
use crate::rng::{Rng, Seed};
use crate::time::{Epoch, Timestamp};

pub(super) const SESSION: SessionId = SessionId {
    shard: ShardId(0),
    key: SessionKey {
        index: 7,
        generation: 1,
    },
};
pub(super) const DELAY: Duration = Duration::from_millis(25);

pub(super) fn server_address() -> SocketAddr {
    ([192, 0, 2, 1], 40_000).into()
}

pub(super) fn client_address() -> SocketAddr {
    ([198, 51, 100, 7], 5_000).into()
}

pub(super) fn path_from(remote: SocketAddr) -> Path {
    Path {
        local: server_address(),
        remote,
    }
}

pub(super) fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{name}ufrag"),
        password: format!("{name}-password-of-24-bytes"),
    }
}

pub(super) fn epoch() -> Epoch {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had no other way"
    )]
    let origin = Instant::now();
    Epoch::new(origin, Duration::from_secs(1_795_000_000))
}

/// A check as the client sends it.
pub(super) fn request(server: &str, client: &str, priority: u32, nominates: bool) -> Vec<u8> {
    let (server, client) = (credentials(server), credentials(client));
    let username = format!("{}:{}", server.ufrag, client.ufrag);
    let message =
        StunMessage::binding_request(&username, TransId::new(), true, 7, priority, nominates);
    let mut bytes = vec![0; 256];
    let length = message
        .to_bytes(Some(server.password.as_bytes()), &mut bytes, sha1_hmac)
        .unwrap();
    bytes.truncate(length);
    bytes
}

fn creds(name: &str) -> IceCreds {
    let IceCredentials { ufrag, password } = &credentials(name);
    IceCreds {
        ufrag: ufrag.clone(),
        pass: password.clone(),
    }
}

pub(super) struct Client {
    ice: IceAgent,
    pub(super) dtls: Dtls,
    role: DtlsRole,
    destination: Option<SocketAddr>,
    deadline: Option<Instant>,
    pub(super) server_fingerprint: Option<Fingerprint>,
    pub(super) keys: Option<(SrtpProfile, Vec<u8>)>,
    pub(super) is_connected: bool,
    pub(super) is_closed: bool,
    pub(super) failure: Option<String>,
}

impl Client {
    fn new(identity: &Identity, role: DtlsRole, now: Instant) -> Self {
        let hmac = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
        let mut ice = IceAgent::with_hmac(creds("client"), hmac);
        ice.set_controlling(true);
        ice.set_control_tie_breaker(7);
        ice.set_remote_credentials(creds("server"));
        ice.add_local_candidate(Candidate::host(client_address(), "udp").unwrap());
        ice.add_remote_candidate(Candidate::host(server_address(), "udp").unwrap());
        let mut dtls = Dtls::new_12(identity.dtls().config(), identity.dtls().certificate(), now);
        dtls.set_active(role == DtlsRole::Client);
        Self {
            ice,
            dtls,
            role,
            destination: None,
            deadline: None,
            server_fingerprint: None,
            keys: None,
            is_connected: false,
            is_closed: false,
            failure: None,
        }
    }

    pub(super) fn restart(&mut self, server: &str, client: &str) {
        self.ice.ice_restart(creds(client), true);
        self.ice.set_remote_credentials(creds(server));
        self.ice
            .add_remote_candidate(Candidate::host(server_address(), "udp").unwrap());
    }

    fn handle(&mut self, now: Instant, source: SocketAddr, bytes: &[u8]) {
        if bytes[0] < 4 {
            let message = StunMessage::parse(bytes).unwrap();
            let proto = Protocol::Udp;
            let packet = StunPacket {
                proto,
                source,
                destination: client_address(),
                message,
            };
            // The answer to a check that a test made up is not taken; so be it.
            self.ice.handle_packet(now, packet);
            self.ice.handle_timeout(now);
        } else {
            let result = self
                .dtls
                .handle_timeout(now)
                .and_then(|()| self.dtls.handle_packet(bytes));
            self.failure = self
                .failure
                .take()
                .or(result.err().map(|error| error.to_string()));
        }
    }

    fn deadline(&mut self) -> Option<Instant> {
        [self.ice.poll_timeout(), self.deadline]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.ice.handle_timeout(now);
        if self.destination.is_some() && self.failure.is_none() {
            self.failure = self
                .dtls
                .handle_timeout(now)
                .err()
                .map(|error| error.to_string());
        }
    }

    pub(super) fn drain(&mut self, out: &mut Vec<Vec<u8>>) {
        while let Some(transmit) = self.ice.poll_transmit() {
            out.push(transmit.contents.to_vec());
        }
        while let Some(event) = self.ice.poll_event() {
            if let IceAgentEvent::NominatedSend { destination, .. } = event {
                self.destination = Some(destination);
            }
        }
        if self.failure.is_some() || (self.destination.is_none() && self.role == DtlsRole::Client) {
            self.deadline = None;
            return;
        }
        let mut buffer = [0; 4_096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => out.push(packet.to_vec()),
                Output::PeerCert(der) => self.server_fingerprint = Some(fingerprint_of(der)),
                Output::Connected => self.is_connected = true,
                Output::KeyingMaterial(keys, profile) => self.keys = Some((profile, keys.to_vec())),
                Output::CloseNotify => self.is_closed = true,
                Output::Timeout(at) => {
                    self.deadline = (!self.is_connected).then_some(at);
                    return;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) server: Transport,
    pub(super) client: Client,
    pub(super) rng: Rng,
    /// Percent of datagrams lost, each way.
    pub(super) loss: u32,
    /// The client's address behind its NAT, as the server sees it.
    pub(super) external: SocketAddr,
    /// Swallows the client's nominations.
    pub(super) hides_nominations: bool,
    /// Loses all that the server sends.
    pub(super) is_client_deaf: bool,
    pub(super) connected: Option<(ProfileName, Vec<u8>)>,
    pub(super) closed: Option<CloseReason>,
    pub(super) server_timeouts: u32,
    pub(super) server_fingerprint: Fingerprint,
    pub(super) drops: Vec<DropReason>,
    /// Datagrams the server sent that no address of the client took.
    pub(super) strays: Vec<(Path, Vec<u8>)>,
    flying: VecDeque<(Timestamp, Flight)>,
}

enum Flight {
    ToServer(Path, Vec<u8>),
    ToClient(Path, Vec<u8>),
}

impl World {
    /// `role` is the server's.
    pub(super) fn new(seed: u64, role: DtlsRole) -> Self {
        let client_identity = Identity::seeded(seed + 1_000);
        let fingerprint = client_identity.fingerprint();
        Self::with_fingerprint(seed, role, &client_identity, fingerprint)
    }

    /// `expected` is what the server takes the client's fingerprint to be.
    pub(super) fn with_fingerprint(
        seed: u64,
        role: DtlsRole,
        client: &Identity,
        expected: Fingerprint,
    ) -> Self {
        let (now, epoch) = (Timestamp::from_millis(1_000), epoch());
        let identity = Arc::new(Identity::seeded(seed));
        let client_role = match role {
            DtlsRole::Client => DtlsRole::Server,
            DtlsRole::Server => DtlsRole::Client,
        };
        let (local, remote) = (credentials("server"), credentials("client"));
        let mut world = Self {
            now,
            epoch,
            server: Transport::new(
                &identity,
                SESSION,
                (local, [seed as u8; 16]),
                remote,
                expected,
                role,
                (now, epoch),
            ),
            client: Client::new(client, client_role, epoch.instant(now)),
            rng: Seed::new([seed as u8; 32]).rng(),
            loss: 0,
            external: client_address(),
            hides_nominations: false,
            is_client_deaf: false,
            connected: None,
            closed: None,
            server_timeouts: 0,
            server_fingerprint: identity.fingerprint(),
            drops: Vec::new(),
            strays: Vec::new(),
            flying: VecDeque::new(),
        };
        world.client.handle_timeout(epoch.instant(now));
        world.drain_client();
        world
    }

    pub(super) fn connected(seed: u64, role: DtlsRole) -> Self {
        let mut world = Self::new(seed, role);
        assert!(world.run_until(Duration::from_secs(5), Self::is_connected));
        world.run_for(Duration::from_secs(1));
        world
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.is_some() && self.client.keys.is_some()
    }

    /// Steps until `done` or `limit` has passed; returns whether it was done.
    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Hands the server a datagram now.
    pub(super) fn deliver(&mut self, path: Path, bytes: &[u8]) -> Result<bool, DropReason> {
        let mut sent = Vec::new();
        let mut out = |path: Path, bytes: &[u8]| sent.push((path, bytes.to_vec()));
        let result = match bytes.first() {
            Some(0..=3) => self
                .server
                .handle_stun(self.now, path, bytes, &mut out)
                .map(|checked| checked.newly_proved),
            _ => self
                .server
                .handle_dtls(self.now, path, bytes, &mut out)
                .map(|()| false),
        };
        self.after_server(sent);
        result
    }

    pub(super) fn close(&mut self) {
        let mut sent = Vec::new();
        let mut out = |path: Path, bytes: &[u8]| sent.push((path, bytes.to_vec()));
        self.server.close(self.now, &mut out);
        self.after_server(sent);
    }

    pub(super) fn drain_client(&mut self) {
        let mut out = Vec::new();
        self.client.drain(&mut out);
        for bytes in out {
            let nominates = || StunMessage::parse(&bytes).is_ok_and(|stun| stun.use_candidate());
            let is_hidden = self.hides_nominations && bytes[0] < 4 && nominates();
            if !is_hidden && !self.is_lost() {
                let flight = Flight::ToServer(path_from(self.external), bytes);
                self.flying.push_back((self.now + DELAY, flight));
            }
        }
    }

    /// One instant: all that is due at the earliest of all deadlines, but not after `end`.
    fn step(&mut self, end: Timestamp) {
        let arrival = self.flying.front().map(|(at, _)| *at);
        let client = self.client.deadline().map(|at| self.epoch.timestamp(at));
        let next = [arrival, client, self.server.deadline(), Some(end)]
            .into_iter()
            .flatten()
            .min();
        self.now = self.now.max(next.unwrap());
        while self.flying.front().is_some_and(|(at, _)| *at <= self.now) {
            match self.flying.pop_front().unwrap().1 {
                Flight::ToServer(path, bytes) => {
                    if let Err(reason) = self.deliver(path, &bytes) {
                        self.drops.push(reason);
                    }
                }
                Flight::ToClient(..) if self.is_client_deaf => {}
                Flight::ToClient(path, bytes) => {
                    self.client
                        .handle(self.epoch.instant(self.now), path.local, &bytes);
                    self.drain_client();
                }
            }
        }
        if self.server.deadline().is_some_and(|at| at <= self.now) {
            let mut sent = Vec::new();
            let mut out = |path: Path, bytes: &[u8]| sent.push((path, bytes.to_vec()));
            self.server.handle_timeout(self.now, &mut out);
            self.server_timeouts += 1;
            self.after_server(sent);
        }
        let instant = self.epoch.instant(self.now);
        if self.client.deadline().is_some_and(|at| at <= instant) {
            self.client.handle_timeout(instant);
            self.drain_client();
        }
    }

    fn after_server(&mut self, sent: Vec<(Path, Vec<u8>)>) {
        assert!(
            self.server.deadline().is_none_or(|at| at > self.now),
            "no progress in time"
        );
        assert!(
            self.connected.is_none() || self.server.deadline().is_none(),
            "idle once connected"
        );
        while let Some(event) = self.server.poll_event() {
            match event {
                TransportEvent::Connected { profile, keys } => {
                    assert_eq!(format!("{keys:?}"), "KeyingMaterial(..)");
                    let event = (profile, keys.as_bytes().to_vec());
                    assert!(self.connected.replace(event).is_none(), "connected twice");
                }
                TransportEvent::Closed(reason) => {
                    assert!(self.closed.replace(reason).is_none(), "closed twice");
                    assert_eq!(self.server.deadline(), None);
                }
            }
        }
        for (path, bytes) in sent {
            if path != path_from(self.external) {
                self.strays.push((path, bytes));
            } else if !self.is_lost() {
                self.flying
                    .push_back((self.now + DELAY, Flight::ToClient(path, bytes)));
            }
        }
    }

    fn is_lost(&mut self) -> bool {
        self.rng.below(100) < self.loss
    }
}

//! A handshake for simulated time: four datagrams that look like DTLS, and no security whatever.
//!
//! Both sides' randoms travel in the clear and the keys follow from them, so that a run is a function of its seed
//! and a thousand sessions connect in the time of ten. What the rest of a session can notice is as with DTLS: a
//! client that speaks first, flights that are sent again after 150 ms and doubling, a fingerprint to compare, keys
//! once and in either role, a close that is authenticated.
//!
//! ```text
//! client ── 1 hello: random, fingerprint ────────────▶ server
//!        ◀─ 2 hello: random, fingerprint, profile ────
//!        ── 3 finished: proof ───────────────────────▶ connected
//! connected ◀─ 4 finished: proof ─────────────────────
//! ```

use std::time::Duration;

use super::tape::{HandshakeResult, Outcome};
use super::{Act, Call, Called, KeyingMaterial};
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::plan::{DtlsRole, Fingerprint};
use crate::rng::Seed;
use crate::session::transport::Sink;
use crate::time::Timestamp;

/// As a DTLS 1.2 handshake record begins, so that it is classified as one.
const PREFIX: [u8; 3] = [22, 0xfe, 0xfd];
const HELLO_CLIENT: u8 = 1;
const HELLO_SERVER: u8 = 2;
const FINISHED_CLIENT: u8 = 3;
const FINISHED_SERVER: u8 = 4;
const CLOSE: u8 = 5;
/// First wait before a flight is sent again, doubled each time, and how often: those of the real one.
const FLIGHT_TIMEOUT_START: Duration = Duration::from_millis(150);
const FLIGHT_RETRIES: u32 = 8;

/// One side of the exchange.
pub struct Scripted {
    role: DtlsRole,
    local: Fingerprint,
    remote: Fingerprint,
    random: [u8; 32],
    profile: ProfileName,
    secret: Option<Secret>,
    is_connected: bool,
    /// What waits for an answer, with the tries so far.
    flight: Option<(Vec<u8>, u32)>,
    deadline: Option<Timestamp>,
}

/// What both randoms make.
struct Secret(Seed, u64);

impl Secret {
    fn new(client: [u8; 32], server: [u8; 32]) -> Self {
        let number = server
            .iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self(Seed::new(client), number)
    }

    /// Covers the profile too, as a real Finished covers all that was said: a hello damaged on its way must not connect
    /// two sides that then do not understand each other.
    fn proof(&self, kind: u8, profile: ProfileName) -> [u8; 32] {
        let said = u64::from(kind) | u64::from(number_of(profile)) << 8;
        *self.0.derive("proof", self.1 ^ said).as_bytes()
    }

    fn keys(&self, profile: ProfileName) -> KeyingMaterial {
        let mut bytes = [0; 88];
        let length = match profile {
            ProfileName::AeadAes256Gcm => 88,
            ProfileName::AeadAes128Gcm => 56,
            ProfileName::Aes128CmSha1_80 => 60,
        };
        self.0.derive("keys", self.1).rng().fill(&mut bytes);
        KeyingMaterial::new(&bytes[..length]).expect("no profile has more")
    }
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}

impl Scripted {
    /// One side with its own fingerprint and that of its peer; random and profile follow from `seed`.
    #[must_use]
    pub fn new(role: DtlsRole, local: Fingerprint, remote: Fingerprint, seed: &Seed) -> Self {
        let mut rng = seed.rng();
        let mut random = [0; 32];
        rng.fill(&mut random);
        // Mostly what browsers agree on; the dearest rarely.
        let profile = match rng.below(16) {
            0 => ProfileName::Aes128CmSha1_80,
            1..=4 => ProfileName::AeadAes128Gcm,
            _ => ProfileName::AeadAes256Gcm,
        };
        Self {
            role,
            local,
            remote,
            random,
            profile,
            secret: None,
            is_connected: false,
            flight: None,
            deadline: None,
        }
    }

    /// As the client: speaks first.
    pub fn start(&mut self, now: Timestamp) -> Outcome {
        self.act(now, Act::Start)
    }

    /// Takes in a datagram.
    pub fn handle_packet(&mut self, now: Timestamp, packet: &[u8]) -> Outcome {
        self.act(now, Act::Packet(packet))
    }

    /// Sends the last flight again if it is due.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Outcome {
        self.act(now, Act::Timeout)
    }

    /// Tells the peer that it is over.
    pub fn close(&mut self, now: Timestamp) -> Outcome {
        self.act(now, Act::Close)
    }

    pub(super) fn call(&mut self, call: Call<'_>, out: &mut impl Sink) -> Called {
        let outcome = self.act(call.now, call.act);
        for datagram in &outcome.datagrams {
            out.transmit(call.path, datagram);
        }
        outcome.called()
    }

    fn act(&mut self, now: Timestamp, act: Act<'_>) -> Outcome {
        let mut datagrams = Vec::new();
        let result = match act {
            Act::Start => {
                let hello = self.hello(HELLO_CLIENT);
                self.fly(now, hello, &mut datagrams);
                HandshakeResult::Pending
            }
            Act::Packet(packet) => self.on_packet(now, packet, &mut datagrams),
            Act::Timeout => self.on_timeout(now, &mut datagrams),
            Act::Close => {
                datagrams.extend(self.proved(CLOSE));
                HandshakeResult::Closed(CloseReason::PeerClosed)
            }
        };
        Outcome {
            datagrams,
            result,
            deadline: self.deadline,
        }
    }

    fn on_packet(
        &mut self,
        now: Timestamp,
        packet: &[u8],
        out: &mut Vec<Vec<u8>>,
    ) -> HandshakeResult {
        const REFUSED: HandshakeResult = HandshakeResult::Refused(DropReason::RefusedDtls);
        let Some((&kind, body)) = packet.strip_prefix(&PREFIX).and_then(<[u8]>::split_first) else {
            return REFUSED;
        };
        match (self.role, kind) {
            (DtlsRole::Server, HELLO_CLIENT) | (DtlsRole::Client, HELLO_SERVER) => {
                self.on_hello(now, body, out)
            }
            (DtlsRole::Server, FINISHED_CLIENT) if self.is_proof(kind, body) => {
                out.extend(self.proved(FINISHED_SERVER));
                self.finish()
            }
            // The client took another hello than ours for it, one damaged on its way: ours once more sets it right.
            (DtlsRole::Server, FINISHED_CLIENT) if self.is_connected => {
                out.push(self.hello(HELLO_SERVER));
                REFUSED
            }
            (DtlsRole::Client, FINISHED_SERVER) if self.is_proof(kind, body) => self.finish(),
            (_, CLOSE) if self.is_connected && self.is_proof(kind, body) => {
                HandshakeResult::Closed(CloseReason::PeerClosed)
            }
            _ => REFUSED,
        }
    }

    fn on_hello(&mut self, now: Timestamp, body: &[u8], out: &mut Vec<Vec<u8>>) -> HandshakeResult {
        let random = body.get(..32).and_then(|bytes| bytes.try_into().ok());
        let (Some(random), Some(fingerprint)) = (random, body.get(32..64)) else {
            return HandshakeResult::Refused(DropReason::RefusedDtls);
        };
        if fingerprint != self.remote.0 {
            return HandshakeResult::Closed(CloseReason::FingerprintMismatch);
        }
        if self.is_connected {
            return HandshakeResult::Pending;
        }
        let flight = match self.role {
            DtlsRole::Server => {
                self.secret = Some(Secret::new(random, self.random));
                self.hello(HELLO_SERVER)
            }
            DtlsRole::Client => {
                self.secret = Some(Secret::new(self.random, random));
                self.profile = profile_of(body.get(64).copied().unwrap_or(0));
                self.proved(FINISHED_CLIENT).unwrap_or_default()
            }
        };
        self.fly(now, flight, out);
        HandshakeResult::Pending
    }

    fn on_timeout(&mut self, now: Timestamp, out: &mut Vec<Vec<u8>>) -> HandshakeResult {
        let due = self.deadline.is_some_and(|deadline| deadline <= now);
        let Some((flight, tries)) = self.flight.as_mut().filter(|_| due) else {
            return HandshakeResult::Pending;
        };
        if *tries == FLIGHT_RETRIES {
            return HandshakeResult::Closed(CloseReason::HandshakeFailed);
        }
        *tries += 1;
        out.push(flight.clone());
        self.deadline = Some(now + FLIGHT_TIMEOUT_START * (1 << *tries));
        HandshakeResult::Pending
    }

    fn finish(&mut self) -> HandshakeResult {
        let Some(secret) = self.secret.as_ref().filter(|_| !self.is_connected) else {
            return HandshakeResult::Pending;
        };
        let keys = secret.keys(self.profile);
        self.is_connected = true;
        self.flight = None;
        self.deadline = None;
        HandshakeResult::Connected(self.profile, keys)
    }

    fn fly(&mut self, now: Timestamp, flight: Vec<u8>, out: &mut Vec<Vec<u8>>) {
        out.push(flight.clone());
        self.flight = Some((flight, 0));
        self.deadline = Some(now + FLIGHT_TIMEOUT_START);
    }

    fn hello(&self, kind: u8) -> Vec<u8> {
        [
            &PREFIX[..],
            &[kind],
            &self.random,
            &self.local.0,
            &[number_of(self.profile)],
        ]
        .concat()
    }

    fn proved(&self, kind: u8) -> Option<Vec<u8>> {
        let secret = self.secret.as_ref()?;
        Some([&PREFIX[..], &[kind], &secret.proof(kind, self.profile)].concat())
    }

    fn is_proof(&self, kind: u8, body: &[u8]) -> bool {
        let secret = self.secret.as_ref();
        secret.is_some_and(|secret| secret.proof(kind, self.profile) == body)
    }
}

const fn number_of(profile: ProfileName) -> u8 {
    match profile {
        ProfileName::AeadAes256Gcm => 0,
        ProfileName::AeadAes128Gcm => 1,
        ProfileName::Aes128CmSha1_80 => 2,
    }
}

fn profile_of(number: u8) -> ProfileName {
    match number {
        0 => ProfileName::AeadAes256Gcm,
        1 => ProfileName::AeadAes128Gcm,
        _ => ProfileName::Aes128CmSha1_80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(seed: u8) -> (Scripted, Scripted) {
        let seed = Seed::new([seed; 32]);
        let (ours, theirs) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let side =
            |role, local, remote, label| Scripted::new(role, local, remote, &seed.derive(label, 0));
        (
            side(DtlsRole::Client, theirs, ours, "client"),
            side(DtlsRole::Server, ours, theirs, "server"),
        )
    }

    fn keys(outcome: &Outcome) -> Option<(ProfileName, Vec<u8>)> {
        match &outcome.result {
            HandshakeResult::Connected(profile, keys) => Some((*profile, keys.as_bytes().to_vec())),
            _ => None,
        }
    }

    fn only(outcome: &Outcome) -> &[u8] {
        assert_eq!(outcome.datagrams.len(), 1, "{outcome:?}");
        &outcome.datagrams[0]
    }

    #[test]
    fn a_profile_that_was_changed_on_its_way_connects_nobody_until_the_right_one_comes() {
        let now = Timestamp::from_millis(1);
        for seed in 0..40 {
            let (mut client, mut server) = pair(seed);
            let hello = client.start(now);
            let answer = server.handle_packet(now, only(&hello));
            let mut changed = only(&answer).to_vec();
            let profile = changed.last_mut().expect("a hello ends with it");
            *profile = (*profile + 1) % 3;
            let finished = client.handle_packet(now, &changed);
            let refused = server.handle_packet(now, only(&finished));
            assert!(keys(&refused).is_none() && refused.datagrams.is_empty());
            let finished = client.handle_packet(now, only(&answer));
            let last = server.handle_packet(now, only(&finished));
            // One more, while the last datagram is under way.
            let finished = client.handle_packet(now, &changed);
            let answer = server.handle_packet(now, only(&finished));
            let finished = client.handle_packet(now, only(&answer));
            let again = server.handle_packet(now, only(&finished));
            let done = client.handle_packet(now, only(&again));
            assert_eq!(keys(&last).unwrap(), keys(&done).unwrap());
        }
    }

    #[test]
    fn both_sides_get_the_same_keys_once_and_close_each_other() {
        let now = Timestamp::from_millis(1);
        for seed in 0..40 {
            let (mut client, mut server) = pair(seed);
            let hello = client.start(now);
            let answer = server.handle_packet(now, only(&hello));
            let finished = client.handle_packet(now, only(&answer));
            assert!(
                keys(&finished).is_none(),
                "the server has proved nothing yet"
            );
            let last = server.handle_packet(now, only(&finished));
            let done = client.handle_packet(now, only(&last));
            assert_eq!(
                (keys(&last).unwrap(), done.deadline),
                (keys(&done).unwrap(), None)
            );
            let again = server.handle_packet(now, only(&finished));
            assert!(keys(&again).is_none() && again.datagrams == last.datagrams);
            let bye = server.close(now);
            let closed = client.handle_packet(now, only(&bye)).result;
            assert!(matches!(
                closed,
                HandshakeResult::Closed(CloseReason::PeerClosed)
            ));
        }
    }

    #[test]
    fn a_lost_flight_comes_again_until_the_tries_are_used_up() {
        let (mut client, _) = pair(1);
        let hello = client.start(Timestamp::from_millis(1));
        let mut deadline = hello.deadline.unwrap();
        for _ in 0..FLIGHT_RETRIES {
            let early = client.handle_timeout(Timestamp::from_millis(2));
            assert!(early.datagrams.is_empty());
            let again = client.handle_timeout(deadline);
            assert_eq!(again.datagrams, hello.datagrams);
            deadline = again.deadline.unwrap();
        }
        let end = client.handle_timeout(deadline).result;
        assert!(matches!(
            end,
            HandshakeResult::Closed(CloseReason::HandshakeFailed)
        ));
    }

    #[test]
    fn another_fingerprint_ends_it_and_a_false_proof_changes_nothing() {
        let now = Timestamp::from_millis(1);
        let (mut client, mut server) = pair(1);
        let hello = client.start(now);
        let mut other = only(&hello).to_vec();
        other[40] ^= 1;
        let (_, mut suspicious) = pair(1);
        let ended = suspicious.handle_packet(now, &other).result;
        assert!(matches!(
            ended,
            HandshakeResult::Closed(CloseReason::FingerprintMismatch)
        ));
        let answer = server.handle_packet(now, only(&hello));
        let mut finished = only(&client.handle_packet(now, only(&answer))).to_vec();
        finished[20] ^= 1;
        let refused = server.handle_packet(now, &finished).result;
        assert!(
            matches!(refused, HandshakeResult::Refused(_)),
            "{refused:?}"
        );
    }
}

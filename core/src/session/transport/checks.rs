//! ICE-lite connectivity checks (RFC 8445 §7.3): authenticate a request, answer it.
//!
//! A lite agent need not send checks, and we send one only to an address that the peer wants media moved to:
//! the peer must show that it is there (RFC 8445 §19.5.1). The full agent of the `is` crate is
//! deliberately not used: in lite mode it adds a table of every source ever seen, without a limit, a
//! timer every 3 s, a death after 15 s of silence and a path that cannot move before it. Its STUN
//! reader and writer are used.

use std::collections::VecDeque;
use std::ops::Range;

use is::Sha1HmacProvider;
use is::stun::StunMessage;
use serde::{Deserialize, Serialize};

use super::Sink;
use super::paths::Question;
use crate::limits::CHECKS_REMEMBERED_MAX;
use crate::message::DropReason;
use crate::net::Path;
use crate::plan::IceCredentials;
use crate::wire::stun::has_wrong_fingerprint;

/// Header, XOR-MAPPED-ADDRESS of IPv6, MESSAGE-INTEGRITY and FINGERPRINT are 76 bytes; an error is shorter.
const ANSWER_BYTES_MAX: usize = 128;
/// A check has a user name of up to 256 + 1 + 32 bytes, and 80 bytes besides.
const CHECK_BYTES_MAX: usize = 384;
/// PRIORITY of our checks: that of a peer-reflexive candidate (RFC 8445 §5.1.2.1).
const PRIORITY: u32 = 110 << 24 | 0xff_ffff;

/// Of a transaction: the header of an indication around its id, which needs no attributes to be sound.
const INDICATION: [u8; 8] = [0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42];

/// Eight of the twelve bytes of a transaction id in the header (RFC 8489 §5).
const TRANSACTION_ID: Range<usize> = 8..16;

/// Both sides' credentials, and while a restart is unfinished those it replaces.
pub(super) struct Checks {
    current: Credentials,
    /// Accepted until the peer nominates a path under the new ones.
    previous: Option<Credentials>,
    /// Eight bytes of the transaction id of each of the last checks, oldest first.
    transactions: VecDeque<u64>,
    /// What the transaction ids of our own checks are made of.
    secret: [u8; 16],
}

/// What both sides sign their checks with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Credentials {
    local: IceCredentials,
    remote: IceCredentials,
    generation: u32,
}

/// What an authenticated check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// PRIORITY: what the peer thinks of the candidate it sends from.
    pub(super) priority: u32,
    /// USE-CANDIDATE: the peer means to use this path.
    pub(super) nominates: bool,
    /// How many restarts came before the credentials it used.
    pub(super) generation: u32,
}

impl Checks {
    /// Whether a check's transaction was seen before; remembers it. What a peer sent once may come back from
    /// anywhere: whoever saw it can send it again with another source address.
    pub(super) fn note_transaction(&mut self, packet: &[u8]) -> bool {
        let Some(id) = packet.get(TRANSACTION_ID).and_then(|id| id.try_into().ok()) else {
            return true;
        };
        let id = u64::from_be_bytes(id);
        if self.transactions.contains(&id) {
            return true;
        }
        if self.transactions.len() == CHECKS_REMEMBERED_MAX {
            self.transactions.pop_front();
        }
        self.transactions.push_back(id);
        false
    }

    pub(super) fn new(local: IceCredentials, remote: IceCredentials, secret: [u8; 16]) -> Self {
        Self {
            current: Credentials {
                local,
                remote,
                generation: 0,
            },
            previous: None,
            transactions: VecDeque::new(),
            secret,
        }
    }

    /// The credentials accepted: those of now, then those that a restart under way replaces.
    pub(super) fn credentials(&self) -> (Credentials, Option<Credentials>) {
        (self.current.clone(), self.previous.clone())
    }

    /// Goes on with these.
    pub(super) fn resume(&mut self, (current, previous): (Credentials, Option<Credentials>)) {
        (self.current, self.previous) = (current, previous);
    }

    /// Begins a restart. If one is unfinished, what worked before both stays accepted.
    pub(super) fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        let generation = self.current.generation.saturating_add(1);
        let replaced = std::mem::replace(
            &mut self.current,
            Credentials {
                local,
                remote,
                generation,
            },
        );
        self.previous.get_or_insert(replaced);
    }

    /// Authenticates a binding request. Nothing is answered and no state changes unless it returns `Ok`:
    /// silence amplifies less than a 401.
    pub(super) fn authenticate<'a>(
        &self,
        packet: &'a [u8],
    ) -> Result<(StunMessage<'a>, Check), DropReason> {
        // The library reads past a wrong one.
        if has_wrong_fingerprint(packet) {
            return Err(DropReason::MalformedStun);
        }
        let message = StunMessage::parse(packet).map_err(|_| DropReason::MalformedStun)?;
        // We ask nothing, so a response is nobody's; an indication carries no integrity.
        if !message.is_binding_request() {
            return Err(DropReason::UnauthenticatedStun);
        }
        let credentials = self
            .matching(&message)
            .ok_or(DropReason::UnauthenticatedStun)?;
        if !message.verify(credentials.local.password.as_bytes(), sha1_hmac) {
            return Err(DropReason::UnauthenticatedStun);
        }
        let check = Check {
            priority: message.prio().unwrap_or(0),
            nominates: message.use_candidate(),
            generation: credentials.generation,
        };
        Ok((message, check))
    }

    /// Whether a check used the credentials that a restart replaced.
    pub(super) fn is_outdated(&self, check: Check) -> bool {
        check.generation != self.current.generation
    }

    /// Answers an authenticated check.
    pub(super) fn answer(
        &self,
        path: Path,
        message: &StunMessage<'_>,
        check: Check,
        out: &mut impl Sink,
    ) {
        let reply = StunMessage::binding_reply(message.trans_id(), path.remote);
        self.send(path, reply, check, out);
    }

    /// Answers a check whose sender believes it is controlled too (RFC 8445 §7.3.1.1). A lite agent
    /// cannot control a full one (§6.1.1), so our tie-breaker is zero and always loses: 487.
    pub(super) fn refuse_role(
        &self,
        path: Path,
        message: &StunMessage<'_>,
        check: Check,
        out: &mut impl Sink,
    ) {
        let reply = StunMessage::binding_role_conflict_reply(message.trans_id());
        self.send(path, reply, check, out);
    }

    /// Sends a check of ours.
    pub(super) fn ask(&self, path: Path, question: Question, out: &mut impl Sink) {
        let credentials = self.of_generation(question.generation);
        let username = format!("{}:{}", credentials.remote.ufrag, credentials.local.ufrag);
        let id = [&INDICATION[..], &self.transaction(question)].concat();
        // The library makes random ids alone; ours comes from the seed.
        let Ok(id) = StunMessage::parse(&id).map(|message| message.trans_id()) else {
            return;
        };
        let check = StunMessage::binding_request(&username, id, false, 0, PRIORITY, false);
        let mut bytes = [0; CHECK_BYTES_MAX];
        let password = Some(credentials.remote.password.as_bytes());
        if let Ok(length) = check.to_bytes(password, &mut bytes, sha1_hmac) {
            out.transmit(path, &bytes[..length]);
        }
    }

    /// Whether a packet answers a check of ours.
    pub(super) fn is_answer(&self, packet: &[u8], question: Question) -> bool {
        let Ok(message) = StunMessage::parse(packet) else {
            return false;
        };
        let credentials = self.of_generation(question.generation);
        message.is_successful_binding_response()
            && packet.get(8..20) == Some(&self.transaction(question)[..])
            && message.verify(credentials.remote.password.as_bytes(), sha1_hmac)
    }

    /// The transaction id of a check of ours. The answer is signed with the peer's own password, so it is the id,
    /// which only who receives the check can know, that shows where the peer is.
    fn transaction(&self, question: Question) -> [u8; 12] {
        let digest = sha1_hmac(&self.secret, &[&question.number.to_be_bytes()]);
        *digest.first_chunk().expect("20 bytes are more than 12")
    }

    /// Ends a restart once the peer nominates under the new credentials: the old ones are refused from
    /// now on. Until then they keep the old path alive, so media does not stop (RFC 8445 §9).
    pub(super) fn note_nomination(&mut self, check: Check) {
        if !self.is_outdated(check) {
            self.previous = None;
        }
    }

    /// Whether a fragment is ours, now or until a restart is through.
    pub(super) fn answers_to(&self, ufrag: &str) -> bool {
        let ours = |known: &Credentials| known.local.ufrag == ufrag;
        ours(&self.current) || self.previous.as_ref().is_some_and(ours)
    }

    fn matching(&self, message: &StunMessage<'_>) -> Option<&Credentials> {
        let (local, remote) = message.split_username()?;
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|known| known.local.ufrag == local && known.remote.ufrag == remote)
    }

    fn of_generation(&self, generation: u32) -> &Credentials {
        match &self.previous {
            Some(previous) if previous.generation == generation => previous,
            _ => &self.current,
        }
    }

    fn send(&self, path: Path, reply: StunMessage<'_>, check: Check, out: &mut impl Sink) {
        let credentials = self.of_generation(check.generation);
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let password = Some(credentials.local.password.as_bytes());
        // Both replies are of known size, so only a bug can make this fail; the peer will ask again.
        if let Ok(length) = reply.to_bytes(password, &mut bytes, sha1_hmac) {
            out.transmit(path, &bytes[..length]);
        }
    }
}

pub(super) fn sha1_hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let provider: &dyn Sha1HmacProvider = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
    provider.sha1_hmac(key, parts)
}

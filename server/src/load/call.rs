//! One session from the answer on: checks, handshake, then media and consent. Without I/O.

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::plan::{DtlsRole, IceCredentials};
use antiphon_core::rng::Rng;
use antiphon_core::time::{Epoch, Timestamp};

use super::Ending;
use super::description::{Answer, Role};
use super::handshake::{Act, Credentials, Handshake, Room};
use super::ice::{Ice, Said};
use super::limits::SETUP_TIMEOUT;
use super::media::Media;

/// Between the first packets of a session, until one comes back; and of a publisher, while others join.
const GREETING_INTERVAL: Duration = Duration::from_millis(100);
/// First byte of a DTLS alert. It cannot be read without the handshake's state, which is gone: it says good-bye.
const ALERT: u8 = 21;

/// What a session is made of.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) role: Role,
    pub(super) ssrc: u32,
    /// What we gave the other side.
    pub(super) local: IceCredentials,
    pub(super) answer: Answer,
}

/// One session. After a connection it keeps its SRTP keys and its ICE credentials, and no more.
pub(super) struct Call {
    agreed: Agreed,
    ice: Ice,
    /// Where a check was answered from.
    destination: Option<SocketAddr>,
    handshake: Option<Box<Handshake>>,
    pub(super) media: Option<Box<Media>>,
    greet_at: Option<Timestamp>,
    /// Until when it must be connected; `None` once it is.
    setup_until: Option<Timestamp>,
    /// It is about to leave.
    is_resting: bool,
}

/// What a call into a session is told, and lent.
pub(super) struct Turn<'a> {
    pub(super) now: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) credentials: &'a Credentials,
    pub(super) rng: &'a mut Rng,
    pub(super) room: &'a mut Room,
    pub(super) send: &'a mut dyn FnMut(SocketAddr, &[u8]),
}

impl Call {
    pub(super) fn new(now: Timestamp, agreed: Agreed, tie_breaker: u64) -> Self {
        let (local, remote) = (agreed.local.clone(), agreed.answer.ice.clone());
        Self {
            ice: Ice::new(now, local, remote, tie_breaker),
            agreed,
            destination: None,
            handshake: None,
            media: None,
            greet_at: None,
            setup_until: Some(now + SETUP_TIMEOUT),
            is_resting: false,
        }
    }

    pub(super) const fn role(&self) -> Role {
        self.agreed.role
    }

    /// Where media goes.
    pub(super) const fn destination(&self) -> Option<SocketAddr> {
        self.destination
    }

    /// Whether it is not connected yet.
    pub(super) const fn is_joining(&self) -> bool {
        self.setup_until.is_some()
    }

    /// It is connected: nothing has to be proved any more.
    pub(super) fn note_connected(&mut self) {
        self.setup_until = None;
        // The other side sends media, so it has our last flight.
        self.handshake = None;
        if self.role() != Role::Publish {
            self.greet_at = None;
        }
    }

    /// Greets no more: others have joined.
    pub(super) const fn end_greetings(&mut self) {
        self.greet_at = None;
    }

    /// Sends no media any more.
    pub(super) const fn rest(&mut self) {
        self.is_resting = true;
    }

    pub(super) const fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// Whether a first packet is due.
    pub(super) fn takes_greeting(&mut self, now: Timestamp) -> bool {
        let is_due = self.greet_at.is_some_and(|at| at <= now);
        if is_due {
            self.greet_at = Some(now + GREETING_INTERVAL);
        }
        is_due
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) or greet.
    pub(super) fn deadline(&self) -> Timestamp {
        let handshake = self.handshake.as_ref();
        let handshake = handshake.and_then(|handshake| handshake.deadline());
        let others = [handshake, self.greet_at, self.setup_until];
        others
            .into_iter()
            .flatten()
            .fold(self.ice.deadline(), Timestamp::min)
    }

    /// Does what is due, but for greetings.
    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>) -> Result<(), Ending> {
        if self.setup_until.is_some_and(|until| until <= turn.now) {
            return Err(self.missing());
        }
        if self.ice.is_over(turn.now) {
            return Err(Ending::ConsentLost);
        }
        let candidates = &self.agreed.answer.candidates;
        let candidate = candidates.get(self.ice.count() % candidates.len().max(1));
        if let Some(destination) = self.destination.or(candidate.copied())
            && let Some(check) = self.ice.poll(turn.now, turn.rng)
        {
            (turn.send)(destination, check.as_bytes());
        }
        let handshake = self.handshake.as_ref();
        let deadline = handshake.and_then(|handshake| handshake.deadline());
        if deadline.is_some_and(|deadline| deadline <= turn.now) {
            self.advance(turn, Act::Time)?;
        }
        Ok(())
    }

    /// Takes a STUN message.
    pub(super) fn handle_stun(
        &mut self,
        turn: &mut Turn<'_>,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Ending> {
        match self.ice.handle(turn.now, source, datagram, turn.rng) {
            Said::Answered if self.destination.is_none() => {
                self.destination = Some(source);
                let (role, remote) = (self.agreed.answer.role, self.agreed.answer.fingerprint);
                let handshake =
                    Handshake::new(turn.credentials, role, remote, turn.now, turn.epoch);
                self.handshake = Some(Box::new(handshake));
                self.advance(turn, Act::Time)
            }
            Said::Answered | Said::Nothing => Ok(()),
            Said::Reply(reply) => {
                (turn.send)(source, reply.as_bytes());
                Ok(())
            }
        }
    }

    /// Takes a DTLS datagram.
    pub(super) fn handle_dtls(
        &mut self,
        turn: &mut Turn<'_>,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Ending> {
        if self.destination != Some(source) {
            return Ok(());
        }
        match (&self.handshake, &self.media) {
            (Some(_), _) => self.advance(turn, Act::Datagram(datagram)),
            (None, Some(_)) if datagram.first() == Some(&ALERT) => Err(Ending::Closed),
            (None, _) => Ok(()),
        }
    }

    fn advance(&mut self, turn: &mut Turn<'_>, act: Act<'_>) -> Result<(), Ending> {
        let (Some(handshake), Some(destination)) = (&mut self.handshake, self.destination) else {
            return Ok(());
        };
        let send = |packet: &[u8]| (turn.send)(destination, packet);
        let Some(keys) = handshake.advance(turn.now, act, turn.room, send)? else {
            return Ok(());
        };
        let media = Media::new(keys, self.agreed.ssrc, &self.agreed.answer);
        self.media = Some(Box::new(media));
        if self.role() != Role::Subscribe {
            self.greet_at = Some(turn.now);
        }
        // As the server we said the last word and must be able to say it again.
        if self.agreed.answer.role == DtlsRole::Client {
            self.handshake = None;
        }
        Ok(())
    }

    /// What a session that is not connected in time did not get to.
    fn missing(&self) -> Ending {
        match (&self.destination, &self.media) {
            (None, _) => Ending::NoCheckAnswered,
            (Some(_), None) => Ending::HandshakeUnfinished,
            (Some(_), Some(_)) => Ending::NoMedia,
        }
    }
}

//! One peer's way through the network: ICE-lite checks, the paths they prove, and DTLS over them.
//!
//! Owns nothing of media. It is the only module that names the ICE and DTLS libraries. It sends to no
//! address that has not been proved by an authenticated check, candidates of the description included; and
//! media to none but the one of the handshake and those that answered a check of ours.
//!
//! ```text
//! datagram ─ demux (shard) ─┬─ STUN ─▶ checks ─▶ paths ─▶ send_path
//!                           └─ DTLS ─▶ proved? ─▶ handshake ─▶ Connected { keys } | Closed
//! ```

mod checks;
mod handshake;
mod identity;
mod paths;
mod secrets;
mod signing;

#[cfg(any(test, feature = "sim"))]
pub use self::handshake::scripted;
pub use self::handshake::{HandshakeResult, KeyingMaterial, Outcome, Tape};
pub use self::identity::{Identity, IdentityError};
pub use self::paths::Checked;
pub use self::secrets::SecretSink;

use self::checks::{Checks, Credentials};
use self::handshake::{Handshake, Step};
use self::paths::Paths;
use antiphon_prefetch::prefetch;
use serde::{Deserialize, Serialize};

use crate::ids::SessionId;
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::net::Path;
use crate::plan::{DtlsRole, Fingerprint, IceCredentials};
use crate::shard::Depth;
use crate::time::{Epoch, Timestamp};

/// Where STUN and DTLS go on their way out. Not for media: these are never dropped for a full buffer.
pub trait Sink {
    /// Sends one datagram; `contents` is lent for the call.
    fn transmit(&mut self, path: Path, contents: &[u8]);

    /// Whether [`note_handshake`](Self::note_handshake) is to be called.
    fn records_handshakes(&self) -> bool {
        false
    }

    /// Takes down what a call into a session's handshake came to, for a record of the run.
    fn note_handshake(&mut self, _session: SessionId, _outcome: Outcome) {}
}

impl<F: FnMut(Path, &[u8])> Sink for F {
    fn transmit(&mut self, path: Path, contents: &[u8]) {
        self(path, contents);
    }
}

/// What [`Transport::poll_event`] tells.
#[derive(Debug)]
pub enum TransportEvent {
    /// The handshake is done and the peer's certificate is the one its description named. At most once.
    Connected {
        /// SRTP protection profile agreed.
        profile: ProfileName,
        /// Its keys, both directions.
        keys: KeyingMaterial,
    },
    /// It is over, by the peer or for it. At most once, and last. Not told after [`Transport::close`].
    Closed(CloseReason),
}

/// ICE-lite and DTLS of one session, without I/O.
///
/// After each `handle_*` call, drain [`poll_event`](Self::poll_event) and take the new
/// [`deadline`](Self::deadline). Nothing here is on the path of media but
/// [`send_path`](Self::send_path) and [`note_authenticated_media`](Self::note_authenticated_media), which
/// do not allocate.
pub struct Transport {
    checks: Checks,
    paths: Paths,
    handshake: Handshake,
    connected: Option<(ProfileName, KeyingMaterial)>,
    closed: Option<CloseReason>,
}

/// Where a connected transport stands, but for the transactions it remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TransportMark {
    credentials: (Credentials, Option<Credentials>),
    paths: Paths,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// A session that waits for the peer's first check; `clocks` are the present and its epoch. `local` are the
    /// credentials we gave the peer, `remote` and `remote_fingerprint` those of its description; nobody else may
    /// know `secret`.
    #[must_use]
    pub fn new(
        identity: &Identity,
        session: SessionId,
        (local, secret): (IceCredentials, [u8; 16]),
        remote: IceCredentials,
        remote_fingerprint: Fingerprint,
        role: DtlsRole,
        clocks: (Timestamp, Epoch),
    ) -> Self {
        Self {
            checks: Checks::new(local, remote, secret),
            paths: Paths::new(),
            handshake: Handshake::new(identity, session, remote_fingerprint, role, clocks),
            connected: None,
            closed: None,
        }
    }

    pub(crate) fn mark(&self) -> TransportMark {
        TransportMark {
            credentials: self.checks.credentials(),
            paths: self.paths.clone(),
        }
    }

    /// Goes on where another stood, its handshake done.
    pub(crate) fn resume(&mut self, mark: TransportMark) {
        self.checks.resume(mark.credentials);
        self.paths = mark.paths.sound();
        self.handshake.resume();
    }

    /// Handles a STUN message: an authenticated check, which is answered, or the answer to one of ours.
    ///
    /// # Errors
    /// Anything else is refused: no answer, no change.
    pub fn handle_stun(
        &mut self,
        now: Timestamp,
        path: Path,
        packet: &[u8],
        out: &mut impl Sink,
    ) -> Result<Checked, DropReason> {
        if let Some(question) = self.paths.question(path)
            && self.checks.is_answer(packet, question)
        {
            self.paths.note_answer(path);
            self.consider(now, path, out);
            return Ok(Checked::default());
        }
        let (message, check) = self.checks.authenticate(packet)?;
        // Replaced credentials keep a proved path alive during a restart, but prove no new one; nor does a
        // check that was seen before, for whoever saw it too can send it from an address of their choice.
        let repeated = self.checks.note_transaction(packet);
        if (repeated || self.checks.is_outdated(check)) && !self.paths.is_proved(path) {
            return Err(DropReason::UnauthenticatedStun);
        }
        if message.ice_controlled().is_some() {
            self.checks.refuse_role(path, &message, check, out);
            return Ok(Checked::default());
        }
        self.checks.answer(path, &message, check, out);
        let checked = self.paths.note_check(now, path, check);
        self.consider(now, path, out);
        if check.nominates {
            self.checks.note_nomination(check);
        }
        if let Some(path) = self.paths.send_path() {
            let step = self.handshake.start(now, path, out);
            self.on_step(step);
        }
        Ok(checked)
    }

    /// Handles a DTLS datagram. Any proved path will do: peers begin before they nominate, and a
    /// stranger's ClientHello must not reach the handshake.
    ///
    /// # Errors
    /// The datagram was refused and changed nothing.
    pub fn handle_dtls(
        &mut self,
        now: Timestamp,
        path: Path,
        packet: &[u8],
        out: &mut impl Sink,
    ) -> Result<(), DropReason> {
        if !self.paths.is_proved(path) {
            return Err(DropReason::UnknownSource);
        }
        self.paths.note_dtls(path);
        let send_path = self.paths.send_path().unwrap_or(path);
        let step = self.handshake.handle_packet(now, packet, send_path, out)?;
        self.on_step(step);
        Ok(())
    }

    /// Sends unanswered handshake messages again. A call before the deadline does nothing.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut impl Sink) {
        if let Some(path) = self.paths.send_path() {
            let step = self.handshake.handle_timeout(now, path, out);
            self.on_step(step);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); later than the last `now`. `None`: nothing
    /// is pending, as always once connected or closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.handshake.deadline()
    }

    /// The next event; `None`: no more for now.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        if let Some((profile, keys)) = self.connected.take() {
            return Some(TransportEvent::Connected { profile, keys });
        }
        self.closed.take().map(TransportEvent::Closed)
    }

    /// Where everything for the peer goes; `None` before its first check.
    #[must_use]
    pub fn send_path(&self) -> Option<Path> {
        self.paths.send_path()
    }

    /// Whether an authenticated check came over `path`.
    #[must_use]
    pub fn is_proved(&self, path: Path) -> bool {
        self.paths.is_proved(path)
    }

    /// When the last authenticated packet came over `path`; `None` if it is not proved.
    #[must_use]
    pub fn last_active(&self, path: Path) -> Option<Timestamp> {
        self.paths.last_active(path)
    }

    /// Every proved path, for the demux to forget when the session ends. At most `SESSION_PATHS_MAX`.
    pub fn proved_paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.paths.iter()
    }

    /// Tells that an RTP or RTCP packet came over `path` and was authenticated, and was no replay.
    #[inline]
    pub fn note_authenticated_media(&mut self, now: Timestamp, path: Path, out: &mut impl Sink) {
        if self.paths.note_media(now, path) {
            self.consider(now, path, out);
        }
    }

    /// Asks for what media needs here.
    pub(crate) fn prefetch(&self, depth: Depth) {
        match depth {
            Depth::Session => prefetch(&self.paths),
            Depth::Parts => self.paths.prefetch_recent(),
            Depth::Ends => {}
        }
    }

    /// Whether a check names our credentials: those of now, or those that a restart under way replaces.
    #[must_use]
    pub fn answers_to(&self, ufrag: &str) -> bool {
        self.checks.answers_to(ufrag)
    }

    /// When the path in use was last checked, for the end of consent (RFC 7675). `None`: never.
    #[must_use]
    pub fn last_check(&self) -> Option<Timestamp> {
        self.paths.last_check()
    }

    /// Restarts ICE (RFC 8445 §9): DTLS, keys and the path in use stay. The old credentials keep proved
    /// paths alive until the peer nominates under the new ones, then they are refused.
    pub fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.checks.restart(local, remote);
    }

    /// Says close_notify and ends; there is no deadline and no event afterwards.
    pub fn close(&mut self, now: Timestamp, out: &mut impl Sink) {
        self.handshake.close(now, self.paths.send_path(), out);
        self.connected = None;
        self.closed = None;
    }

    #[inline(never)]
    fn consider(&mut self, now: Timestamp, path: Path, out: &mut impl Sink) {
        if let Some(question) = self.paths.consider(now, path) {
            self.checks.ask(path, question, out);
        }
    }

    fn on_step(&mut self, step: Step) {
        match step {
            Step::Pending => {}
            Step::Connected(profile, keys) => {
                self.paths.note_connected();
                self.connected = Some((profile, keys));
            }
            Step::Closed(reason) => self.closed = Some(reason),
        }
    }
}

#[cfg(test)]
mod tests;

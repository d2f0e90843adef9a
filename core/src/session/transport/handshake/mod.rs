//! The handshake of a session, and the one seam through which its outcome reaches the rest.
//!
//! DTLS draws its randomness from the operating system, so its bytes and keys cannot be made again. Everything a
//! session sees of it is an [`Outcome`] a call; a record of outcomes is therefore enough to replay a session
//! without the handshake. Three associations stand behind the seam:
//!
//! ```text
//!             ┌─ Dtls      real, through the DTLS library
//! Handshake ──┼─ Recorded  outcomes of an earlier run, from a Tape
//!             └─ Scripted  a deterministic exchange without security, for simulated time (feature `sim`)
//! ```

mod dtls;
#[cfg(any(test, feature = "sim"))]
pub mod scripted;
mod tape;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

use self::dtls::DtlsAssociation;
pub use self::tape::{HandshakeResult, Outcome, Tape};

use super::Sink;
use super::identity::{Identity, Kind};
use crate::ids::SessionId;
use crate::message::{CloseReason, DropReason, ProfileName};
use crate::net::Path;
use crate::plan::{DtlsRole, Fingerprint};
use crate::time::{Epoch, Timestamp};

/// Bytes of keying material of the longest profile: two keys of 32, two salts of 12.
const KEYING_MATERIAL_BYTES_MAX: usize = 88;

/// SRTP master keys and salts as RFC 5764 §4.2 orders them: client key, server key, client salt, server
/// salt. Wiped when dropped, never shown.
#[derive(ZeroizeOnDrop)]
pub struct KeyingMaterial {
    bytes: [u8; KEYING_MATERIAL_BYTES_MAX],
    #[zeroize(skip)]
    length: usize,
}

impl KeyingMaterial {
    /// Wraps what a handshake exported; `None` if it is longer than any profile's.
    #[must_use]
    pub fn new(exported: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEYING_MATERIAL_BYTES_MAX];
        bytes.get_mut(..exported.len())?.copy_from_slice(exported);
        Some(Self {
            bytes,
            length: exported.len(),
        })
    }

    /// The bytes; 60 of them for AES-CM, 56 for GCM-128, 88 for GCM-256.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn zeroize(&mut self) {
        self.bytes.zeroize();
    }

    /// A second copy, for a record of the run; not `Clone`, so that each copy is a decision.
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            bytes: self.bytes,
            length: self.length,
        }
    }
}

/// For journals only.
impl Serialize for KeyingMaterial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for KeyingMaterial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let exported: &[u8] = serde_bytes::deserialize(deserializer)?;
        Self::new(exported)
            .ok_or_else(|| serde::de::Error::custom("keys longer than any profile's"))
    }
}

impl std::fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyingMaterial(..)")
    }
}

/// What a call into a handshake came to.
pub(super) enum Step {
    /// Nothing to tell.
    Pending,
    /// Done, with the fingerprint compared.
    Connected(ProfileName, KeyingMaterial),
    /// Over; the association is gone.
    Closed(CloseReason),
}

/// Why an association is called.
#[derive(Clone, Copy)]
pub(super) enum Act<'a> {
    /// As the client: speak first.
    Start,
    /// Take in a datagram.
    Packet(&'a [u8]),
    /// The deadline has come.
    Timeout,
    /// Say close_notify.
    Close,
}

/// What an association is told with each call.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) now: Timestamp,
    /// Where its answers go.
    pub(super) path: Path,
    pub(super) act: Act<'a>,
}

/// What came of a call, and when the next is due.
type Called = Result<(Step, Option<Timestamp>), DropReason>;

enum Association {
    Dtls(Box<DtlsAssociation>),
    Recorded(Tape),
    #[cfg(any(test, feature = "sim"))]
    Scripted(Box<scripted::Scripted>),
    /// Its memory goes at once, and nothing has a deadline any more.
    Ended,
}

/// One handshake, whatever stands behind it.
pub(super) struct Handshake {
    session: SessionId,
    association: Association,
    deadline: Option<Timestamp>,
    is_connected: bool,
    /// As a client: waits for a path before it speaks.
    waits_to_start: bool,
}

impl Handshake {
    pub(super) fn new(
        identity: &Identity,
        session: SessionId,
        remote_fingerprint: Fingerprint,
        role: DtlsRole,
        (now, epoch): (Timestamp, Epoch),
    ) -> Self {
        let association = match identity.kind() {
            Kind::Dtls(keys) => Association::Dtls(Box::new(DtlsAssociation::new(
                keys,
                epoch,
                remote_fingerprint,
                role,
                now,
            ))),
            Kind::Recorded(tape) => Association::Recorded(tape.clone()),
            #[cfg(any(test, feature = "sim"))]
            Kind::Scripted(seed) => {
                let number = u64::from(session.key.generation) << 32 | u64::from(session.key.index);
                let seed = seed.derive("handshake", number);
                let local = identity.fingerprint();
                let scripted = scripted::Scripted::new(role, local, remote_fingerprint, &seed);
                Association::Scripted(Box::new(scripted))
            }
        };
        Self {
            session,
            association,
            deadline: None,
            is_connected: false,
            waits_to_start: role == DtlsRole::Client,
        }
    }

    /// Takes the handshake for done, as it was in an earlier run.
    pub(super) const fn resume(&mut self) {
        self.is_connected = true;
        self.waits_to_start = false;
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Says ClientHello, if it is ours to say and was not said.
    pub(super) fn start(&mut self, now: Timestamp, path: Path, out: &mut impl Sink) -> Step {
        if !std::mem::take(&mut self.waits_to_start) {
            return Step::Pending;
        }
        let act = Act::Start;
        self.call(Call { now, path, act }, out)
            .unwrap_or(Step::Pending)
    }

    /// Handles one datagram; answers go over `path`.
    ///
    /// # Errors
    /// The datagram was refused and changed nothing.
    pub(super) fn handle_packet(
        &mut self,
        now: Timestamp,
        packet: &[u8],
        path: Path,
        out: &mut impl Sink,
    ) -> Result<Step, DropReason> {
        let act = Act::Packet(packet);
        self.call(Call { now, path, act }, out)
    }

    /// Sends again what was not answered; does nothing before the deadline.
    pub(super) fn handle_timeout(
        &mut self,
        now: Timestamp,
        path: Path,
        out: &mut impl Sink,
    ) -> Step {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Step::Pending;
        }
        let act = Act::Timeout;
        self.call(Call { now, path, act }, out)
            .unwrap_or(Step::Pending)
    }

    /// Says close_notify if there is anyone to say it to, and ends.
    pub(super) fn close(&mut self, now: Timestamp, path: Option<Path>, out: &mut impl Sink) {
        if let Some(path) = path.filter(|_| self.is_connected) {
            let act = Act::Close;
            // Whatever comes of it, the association is over.
            let _ended = self.call(Call { now, path, act }, out);
        }
        self.end();
    }

    fn call(&mut self, call: Call<'_>, out: &mut impl Sink) -> Result<Step, DropReason> {
        // Nothing to take down: a replay knows by itself that it is over.
        if matches!(self.association, Association::Ended) {
            return Err(DropReason::RefusedDtls);
        }
        let called = if out.records_handshakes() {
            let mut copied = tape::Copying::new(out, self.session);
            let called = self.association.call(self.session, call, &mut copied);
            copied.finish(&called);
            called
        } else {
            self.association.call(self.session, call, out)
        };
        let (step, deadline) = called?;
        self.waits_to_start = false;
        self.deadline = deadline;
        match step {
            Step::Pending => {}
            Step::Connected(..) => self.is_connected = true,
            Step::Closed(_) => self.end(),
        }
        Ok(step)
    }

    fn end(&mut self) {
        self.association = Association::Ended;
        self.deadline = None;
    }
}

impl Association {
    fn call(&mut self, session: SessionId, call: Call<'_>, out: &mut impl Sink) -> Called {
        match self {
            Self::Dtls(dtls) => dtls.call(call, out),
            Self::Recorded(tape) => tape.play(session, call.path, out),
            #[cfg(any(test, feature = "sim"))]
            Self::Scripted(scripted) => scripted.call(call, out),
            Self::Ended => Err(DropReason::RefusedDtls),
        }
    }
}

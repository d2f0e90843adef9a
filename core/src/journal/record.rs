//! What a journal is made of.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::birth::{Birth, Counts};
use crate::drive::RecvMeta;
use crate::ids::{SessionId, ShardId};
use crate::limits::RECV_SLOT_BYTES;
use crate::message::{Command, Event};
use crate::net::Ecn;
use crate::plan::Fingerprint;
use crate::relay::Relay;
use crate::rng::Seed;
use crate::session::transport::Outcome;
use crate::shard::{Shard, Tuning};
use crate::srtp::RTCP_CLEAR_BYTES;
use crate::time::Timestamp;
use crate::wire::{self, Class, rtp};

/// RFC 8489 §5.
const STUN_HEADER_BYTES: usize = 20;
/// Of the first record (RFC 6347 §4.1).
const DTLS_HEADER_BYTES: usize = 13;

/// One entry. Secret: between them, entries hold keys, passwords and what was said.
///
/// A turn of the pump is one [`Turn`](Self::Turn), its inputs and outputs in the order in which they passed the
/// [`Port`](crate::drive::Port), the outcomes of handshake calls it caused, and one [`Rest`](Self::Rest). Turns in
/// which nothing happened are not there.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record<'a> {
    /// The first entry of a file, and nowhere else.
    Header(Box<Header>),
    /// A turn begins, at this time.
    Turn(Timestamp),
    /// The server said.
    Command(Cow<'a, Command>),
    /// The socket gave.
    #[serde(borrow)]
    Received(Slot<'a>),
    /// The socket took.
    Sent {
        /// When the send call had returned.
        at: Timestamp,
        /// Transmits it took off the front of the batch.
        count: u32,
    },
    /// The shard told.
    Event(Cow<'a, Event>),
    /// What a call into a session's handshake came to.
    Handshake(SessionId, Outcome),
    /// A turn ends.
    Rest(Rest),
    /// A turn in which nothing happened, but that moved the shard's clock or its timers on.
    Idle(Timestamp),
    /// Whole chunks are missing here: nobody took them.
    Lost(Lost),
    /// The last entry of a recording that was not cut off.
    End(EndReason),
    /// How a connected session stands here, between two turns.
    Birth(Box<Birth>),
    /// What the shard has counted here, between two turns.
    Counts(Counts),
    /// Another shard said.
    Relay(ShardId, Cow<'a, Relay>),
}

/// What a shard was made of, and how it was recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Version of the program that wrote it.
    pub software: String,
    /// Which shard.
    pub shard: ShardId,
    /// See [`ShardConfig::sessions_max`](crate::shard::ShardConfig::sessions_max).
    pub sessions_max: u32,
    /// That of the process's certificate.
    pub fingerprint: Fingerprint,
    /// Wall time, since 1970, of timestamp zero.
    pub unix: Duration,
    /// A secret: the shard's randomness.
    pub seed: Seed,
    /// What was kept of media.
    pub payloads: Payloads,
    /// What was kept when there was no room for all.
    pub retention: Retention,
    /// By what the shard decides.
    pub tuning: Tuning,
    /// Secrets and names were taken out: it can be shown, and not played.
    pub redacted: bool,
}

impl Header {
    /// For the recording of a shard that has not handled anything yet; `software` is the program's version.
    #[must_use]
    pub fn new(shard: &Shard, software: &str, payloads: Payloads, retention: Retention) -> Self {
        let (shard, config, epoch, seed) = shard.origin();
        Self {
            software: software.to_owned(),
            shard,
            sessions_max: config.sessions_max,
            fingerprint: config.identity.fingerprint(),
            unix: epoch.unix(Timestamp::ZERO),
            seed: seed.clone(),
            payloads,
            retention,
            tuning: config.tuning,
            redacted: false,
        }
    }
}

/// What is kept of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payloads {
    /// Everything, as it came.
    #[default]
    Full,
    /// Headers and lengths.
    Headers,
}

/// What is kept when there is no room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retention {
    /// From the start on, until so many bytes are written.
    Whole {
        /// Bytes at most, of all shards of a process.
        budget: u64,
    },
    /// The last so many bytes, and what every session of them began with.
    Ring {
        /// Bytes kept, of all shards of a process.
        bytes: u64,
    },
}

/// One filled slot of a receive batch: a datagram, or several that the kernel coalesced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot<'a> {
    /// The first of its batch.
    pub is_first: bool,
    /// See [`RecvMeta`].
    pub received: Timestamp,
    /// Who sent it.
    pub source: SocketAddr,
    /// Our address it came to.
    pub destination: SocketAddr,
    /// Congestion mark.
    pub ecn: Option<Ecn>,
    /// Size of each datagram in it but the last.
    pub stride: u32,
    /// The datagrams, before anything was opened in place; of each cut one only what was kept.
    #[serde(borrow, with = "serde_bytes")]
    pub contents: Cow<'a, [u8]>,
    /// With [`Payloads::Headers`], of each datagram: bytes kept and bytes received.
    pub cuts: Vec<(u32, u32)>,
}

impl<'a> Slot<'a> {
    pub(super) fn new(
        meta: &RecvMeta,
        contents: &'a [u8],
        payloads: Payloads,
        is_first: bool,
    ) -> Self {
        let slot = Self {
            is_first,
            received: meta.received,
            source: meta.source,
            destination: meta.destination,
            ecn: meta.ecn,
            stride: meta.stride as u32,
            contents: Cow::Borrowed(contents),
            cuts: Vec::new(),
        };
        match payloads {
            Payloads::Full => slot,
            Payloads::Headers => slot.cut(),
        }
    }

    /// What a driver tells of the slot once [`Self::fill`] has put `len` bytes into it.
    pub(super) fn meta(&self, len: usize) -> RecvMeta {
        RecvMeta {
            received: self.received,
            source: self.source,
            destination: self.destination,
            ecn: self.ecn,
            len,
            stride: self.stride as usize,
        }
    }

    /// Whether there can be such a slot: no more than one of a receive batch holds, of each datagram no more kept than
    /// came, and nothing beside.
    pub(super) fn is_sound(&self) -> bool {
        let (mut kept, mut received) = (0, 0);
        for (clear, len) in &self.cuts {
            if clear > len {
                return false;
            }
            kept += *clear as usize;
            received += *len as usize;
        }
        if self.cuts.is_empty() {
            (kept, received) = (self.contents.len(), self.contents.len());
        }
        kept == self.contents.len() && received <= RECV_SLOT_BYTES
    }

    /// Leaves out the payload of media.
    fn cut(self) -> Self {
        let (mut kept, mut cuts) = (Vec::new(), Vec::new());
        for datagram in self.contents.chunks(self.stride.max(1) as usize) {
            let clear = clear_bytes(datagram);
            kept.extend_from_slice(&datagram[..clear]);
            cuts.push((clear as u32, datagram.len() as u32));
        }
        let contents = Cow::Owned(kept);
        Self {
            contents,
            cuts,
            ..self
        }
    }

    /// Each datagram in it: what was kept, and how many bytes were received.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let is_cut = !self.cuts.is_empty();
        let stride = self.stride.max(1) as usize;
        let whole = self
            .contents
            .chunks(if is_cut { usize::MAX } else { stride });
        let whole = whole
            .filter(move |_| !is_cut)
            .map(|whole| (whole, whole.len()));
        let mut kept = &*self.contents;
        let cut = self.cuts.iter().map(move |(clear, len)| {
            let (datagram, rest) = kept.split_at(kept.len().min(*clear as usize));
            kept = rest;
            (datagram, *len as usize)
        });
        whole.chain(cut)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.datagrams().count()
    }

    /// Forgets all but the first `count` datagrams.
    pub(super) fn truncate(&mut self, count: usize) {
        let kept: usize = self
            .datagrams()
            .take(count)
            .map(|(kept, _)| kept.len())
            .sum();
        self.cuts.truncate(count);
        match &mut self.contents {
            Cow::Borrowed(contents) => *contents = &contents[..kept],
            Cow::Owned(contents) => contents.truncate(kept),
        }
    }

    /// The slot as it was received, with zeros where something was cut out. At most `slot.len()` bytes.
    pub(super) fn fill(&self, slot: &mut [u8]) -> usize {
        if self.cuts.is_empty() {
            let len = self.contents.len().min(slot.len());
            slot[..len].copy_from_slice(&self.contents[..len]);
            return len;
        }
        let (mut kept, mut len) = (&*self.contents, 0_usize);
        for (clear, bytes) in &self.cuts {
            let (clear, bytes) = (*clear as usize, *bytes as usize);
            let (Some((datagram, rest)), Some(out)) = (
                kept.split_at_checked(clear),
                slot.get_mut(len..len.saturating_add(bytes)),
            ) else {
                break;
            };
            out.fill(0);
            if let Some(out) = out.get_mut(..clear) {
                out.copy_from_slice(datagram);
            }
            (kept, len) = (rest, len + bytes);
        }
        len
    }
}

/// Bytes of a datagram that are no media's payload: all of STUN and DTLS, headers of SRTP and SRTCP.
fn clear_bytes(datagram: &[u8]) -> usize {
    match wire::classify(datagram) {
        Class::Rtp => rtp::Header::parse(datagram).map_or(0, |header| header.len),
        Class::Rtcp => datagram.len().min(RTCP_CLEAR_BYTES),
        Class::Stun | Class::Dtls | Class::Unknown => datagram.len(),
    }
}

/// Bytes of a datagram that are its first header and in the clear, but for what an RTP header is extended by: kind,
/// source and place in a stream, and of STUN the transaction.
pub(super) fn header_bytes(datagram: &[u8]) -> usize {
    let header = match wire::classify(datagram) {
        Class::Rtp => rtp::FIXED_HEADER_BYTES,
        Class::Rtcp => RTCP_CLEAR_BYTES,
        Class::Stun => STUN_HEADER_BYTES,
        Class::Dtls => DTLS_HEADER_BYTES,
        Class::Unknown => 0,
    };
    header.min(datagram.len())
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// When the shard wanted to be woken next.
    pub deadline: Option<Timestamp>,
    /// Of all that left the shard up to here: the low half of [`Digest::value`](crate::drive::Digest::value).
    pub outputs: u64,
}

/// What is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Entries.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EndReason {
    /// The shard stopped.
    Stopped,
    /// The budget was spent.
    BudgetSpent,
    /// A session faulted, and what the ring held was written.
    Fault,
    /// Somebody asked for what the ring held.
    Asked,
}

//! Strangers: they hold no keys, see what passes, and send what they like from where they like.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::fuzzing::check;
use crate::rng::{Rng, Seed};
use crate::time::Timestamp;

/// What a stranger does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// Bytes without sense, some of which begin as a protocol does.
    Garbage,
    /// Checks of sessions whose name it saw, under a password it made up.
    ForgedChecks,
    /// What it saw, again, from its own address.
    ReplaysFromElsewhere,
    /// What it saw, again, from where it came.
    Replays,
    /// What it saw with a bit turned, from where it came.
    Damaged,
    /// Bytes without sense from the address of a peer.
    SpoofedGarbage,
}

impl Hostility {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Garbage,
        Self::ForgedChecks,
        Self::ReplaysFromElsewhere,
        Self::Replays,
        Self::Damaged,
        Self::SpoofedGarbage,
    ];
}

/// Datagrams a stranger remembers. Fewer checks among them than a session remembers of its own.
const SEEN_MAX: usize = 64;

/// A datagram as a stranger saw it reach the server.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) contents: Vec<u8>,
}

/// The last datagrams that reached the servers.
#[derive(Debug, Default)]
pub(super) struct Sight(VecDeque<Seen>);

impl Sight {
    pub(super) fn note(&mut self, source: SocketAddr, destination: SocketAddr, contents: &[u8]) {
        let mut seen = if self.0.len() == SEEN_MAX {
            self.0.pop_front()
        } else {
            None
        }
        .unwrap_or(Seen {
            source,
            destination,
            contents: Vec::new(),
        });
        (seen.source, seen.destination) = (source, destination);
        seen.contents.clear();
        seen.contents.extend_from_slice(contents);
        self.0.push_back(seen);
    }

    fn any(&self, rng: &mut Rng) -> Option<&Seen> {
        let count = self.0.len() as u32;
        (count > 0).then(|| &self.0[rng.below(count) as usize])
    }
}

/// One stranger.
#[derive(Debug)]
pub struct Stranger {
    kind: Hostility,
    interval: Duration,
    /// Where it lives. Nothing may ever be sent there.
    address: SocketAddr,
    rng: Rng,
    pub(super) next: Timestamp,
    /// Datagrams it sent.
    pub(super) sent: u64,
}

impl Stranger {
    /// A stranger that sends so often from `start` on.
    #[must_use]
    pub fn new(
        kind: Hostility,
        address: SocketAddr,
        start: Timestamp,
        interval: Duration,
        seed: &Seed,
    ) -> Self {
        Self {
            kind,
            interval,
            address,
            rng: seed.rng(),
            next: start,
            sent: 0,
        }
    }

    /// Where it lives.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its next datagram; `None` if it has seen nothing that it could use.
    pub(super) fn act(
        &mut self,
        now: Timestamp,
        server: SocketAddr,
        sight: &Sight,
    ) -> Option<Seen> {
        self.next = now + self.interval;
        let rng = &mut self.rng;
        let made = match self.kind {
            Hostility::Garbage => Seen {
                source: self.address,
                destination: server,
                contents: garbage(rng),
            },
            Hostility::ForgedChecks => self.forge(sight)?,
            Hostility::ReplaysFromElsewhere => Seen {
                source: self.address,
                ..sight.any(rng)?.clone()
            },
            Hostility::Replays => sight.any(rng)?.clone(),
            Hostility::Damaged => {
                let mut seen = sight.any(rng)?.clone();
                let place = rng.below(seen.contents.len() as u32) as usize;
                seen.contents[place] ^= 1 << rng.below(8);
                seen
            }
            Hostility::SpoofedGarbage => {
                let Seen {
                    source,
                    destination,
                    ..
                } = *sight.any(rng)?;
                Seen {
                    source,
                    destination,
                    contents: garbage(rng),
                }
            }
        };
        self.sent += 1;
        Some(made)
    }

    fn forge(&mut self, sight: &Sight) -> Option<Seen> {
        let seen = sight.any(&mut self.rng)?;
        // The name stands in the first attribute of a check.
        let len = usize::from(*seen.contents.get(23)?);
        let name = std::str::from_utf8(seen.contents.get(24..24 + len)?).ok()?;
        let mut transaction = [0; 12];
        self.rng.fill(&mut transaction);
        let contents = check(
            name,
            "a password made up by someone",
            transaction,
            u32::MAX,
            true,
        );
        Some(Seen {
            source: self.address,
            destination: seen.destination,
            contents,
        })
    }
}

fn garbage(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; 1 + rng.below(200) as usize];
    rng.fill(&mut bytes);
    // What a protocol begins with, for most of it.
    bytes[0] = match rng.below(5) {
        0 => 0,
        1 => 22,
        2 | 3 => 0x80,
        _ => bytes[0],
    };
    bytes
}

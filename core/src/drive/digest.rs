//! One number for everything a shard put out, by which two runs are told to be the same.
//!
//! ```text
//! transmits ──▶ hash ─┐
//! events ─────▶ hash ─┼─▶ DigestValue
//! deadlines ──▶ hash ─┤
//! relays ─────▶ hash ─┘ of a shard that sent any
//! ```
//!
//! They are hashed apart, because how a driver cuts datagrams into turns decides how they interleave and
//! nothing else. XXH3 is stable over versions and platforms, and costs a packet less than its encryption; it is
//! no protection from somebody who wants two runs to look alike.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use twox_hash::XxHash3_128;

use crate::delays::Delays;
use crate::drive::{TransmitBatch, TransmitMeta};
use crate::ids::ShardId;
use crate::message::{Event, ShardStats, VoiceStats};
use crate::net::Ecn;
use crate::relay::Relay;
use crate::time::Timestamp;

/// Hashes each output of one shard with the time of its turn; see [`Pump::with_digest`](super::Pump::with_digest).
///
/// The forwarding delay among a shard's figures is left out: it is measured with a second look at the clock.
pub struct Digest {
    transmits: XxHash3_128,
    events: XxHash3_128,
    deadlines: Deadlines,
    relays: Option<XxHash3_128>,
    /// Hashes of the transmits that wait. Reused between calls.
    waiting: Vec<u128>,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            transmits: XxHash3_128::new(),
            events: XxHash3_128::new(),
            deadlines: Deadlines::default(),
            relays: None,
            waiting: Vec::new(),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.value())
    }
}

impl Digest {
    /// Looks at what is about to be offered to a port. Allocates while the batch grows to its high-water mark.
    pub fn note_waiting(&mut self, batch: &TransmitBatch) {
        self.waiting.clear();
        let hashes = batch.iter().map(|(meta, contents)| hash_of(meta, contents));
        self.waiting.extend(hashes);
    }

    /// Takes note that the port took the first `count` of what was waiting.
    pub fn note_taken(&mut self, now: Timestamp, count: usize) {
        for hash in self.waiting.iter().take(count) {
            self.transmits.write(&now.as_nanos().to_le_bytes());
            self.transmits.write(&hash.to_le_bytes());
        }
    }

    /// Takes note of an event.
    pub fn note_event(&mut self, now: Timestamp, event: &Event) {
        self.events.write(&now.as_nanos().to_le_bytes());
        let mut text = Text(&mut self.events);
        let written = match event {
            // Passwords are hidden from `Debug`, and as much of the run as the rest.
            Event::Opened { local, .. } => write!(text, "{event:?}{}", local.ice.password),
            Event::Restarted { ice, .. } => write!(text, "{event:?}{}", ice.password),
            Event::ShardStats { request, stats } => {
                let stats = ShardStats {
                    forward_delay: Delays::default(),
                    voice: VoiceStats {
                        processing: Delays::default(),
                        ..stats.voice
                    },
                    ..**stats
                };
                write!(text, "{request:?}{stats:?}")
            }
            _ => write!(text, "{:?}", event.with_sound_hashed()),
        };
        written.expect("a hash takes any text");
        self.events.write(&[0]);
    }

    /// Takes note of a relay to another shard.
    pub fn note_relay(&mut self, now: Timestamp, to: ShardId, relay: &Relay) {
        let relays = self.relays.get_or_insert_with(XxHash3_128::new);
        relays.write(&now.as_nanos().to_le_bytes());
        write!(Text(relays), "{to:?}{relay:?}").expect("a hash takes any text");
        relays.write(&[0]);
    }

    /// Takes note of what a turn waits for. A turn that waits for what the last one did leaves no trace: how often
    /// a driver looks decides nothing.
    pub fn note_deadline(&mut self, now: Timestamp, deadline: Option<Timestamp>) {
        self.deadlines.note(now, deadline);
    }

    /// The number for all that was noted so far.
    #[must_use]
    pub fn value(&self) -> DigestValue {
        let lanes = [&self.transmits, &self.events].map(XxHash3_128::finish_128);
        let (deadlines, _) = self.deadlines.settled();
        let relays = self.relays.as_ref().map(XxHash3_128::finish_128);
        let all = lanes.into_iter().chain([deadlines]).chain(relays);
        DigestValue::of_all(all.map(DigestValue))
    }
}

fn hash_of(meta: TransmitMeta, contents: &[u8]) -> u128 {
    // When the datagram that caused it arrived decides nothing; it is there for a figure.
    let TransmitMeta {
        source,
        destination,
        ecn,
        lane,
        received: _,
    } = meta;
    let mut head = Head {
        bytes: [0; 40],
        len: 0,
    };
    match source {
        None => head.put(&[0]),
        Some(ip) => head.put_ip(ip),
    }
    head.put_ip(destination.ip());
    head.put(&destination.port().to_le_bytes());
    head.put(&[ecn.map_or(0, |ecn: Ecn| ecn as u8), lane as u8]);
    let seed = XxHash3_128::oneshot(head.as_slice()) as u64;
    XxHash3_128::oneshot_with_seed(seed, contents)
}

/// What stands beside a transmit, as bytes: at most two addresses with their family, a port, two small numbers.
struct Head {
    bytes: [u8; 40],
    len: usize,
}

impl Head {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.put(&[4]);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put(&[6]);
                self.put(&ip.octets());
            }
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A chain of hashes over each change of the deadline and when it was.
#[derive(Clone, Copy, Default)]
struct Deadlines {
    chain: u128,
    /// The deadline that was hashed last.
    hashed: Option<Timestamp>,
    /// What the last turn waited for; one at the same time takes its place.
    last: Option<(Timestamp, Option<Timestamp>)>,
}

impl Deadlines {
    fn note(&mut self, now: Timestamp, deadline: Option<Timestamp>) {
        if self.last.is_some_and(|(at, _)| at != now) {
            (self.chain, self.hashed) = self.settled();
        }
        self.last = Some((now, deadline));
    }

    /// The chain with what the last turn waited for, and that.
    fn settled(&self) -> (u128, Option<Timestamp>) {
        let Some((at, deadline)) = self.last.filter(|(_, last)| *last != self.hashed) else {
            return (self.chain, self.hashed);
        };
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.chain.to_le_bytes());
        bytes[16..24].copy_from_slice(&at.as_nanos().to_le_bytes());
        // No deadline is at the end of time.
        let nanos = deadline.map_or(u64::MAX, Timestamp::as_nanos);
        bytes[24..].copy_from_slice(&nanos.to_le_bytes());
        (XxHash3_128::oneshot(&bytes), deadline)
    }
}

struct Text<'a>(&'a mut XxHash3_128);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// What [`Digest::value`] gives: 128 bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestValue(pub u128);

impl DigestValue {
    /// One number for several, in order: the shards of a process.
    #[must_use]
    pub fn of_all(values: impl IntoIterator<Item = Self>) -> Self {
        let mut all = XxHash3_128::new();
        for Self(value) in values {
            all.write(&value.to_le_bytes());
        }
        Self(all.finish_128())
    }
}

impl fmt::Display for DigestValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for DigestValue {
    type Err = std::num::ParseIntError;

    /// Reads hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::drive::Lane;
    use crate::ids::RequestId;

    fn meta(port: u16) -> TransmitMeta {
        TransmitMeta {
            source: None,
            destination: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            ecn: None,
            lane: Lane::Media,
            received: None,
        }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// The digest of two transmits, the second of them taken at `second_ms`.
    fn taken(port: u16, contents: &[u8], second_ms: u64) -> DigestValue {
        let mut batch = TransmitBatch::default();
        batch.push(meta(1), b"first");
        batch.push(meta(port), contents);
        let mut digest = Digest::default();
        digest.note_waiting(&batch);
        digest.note_taken(at(1), 1);
        batch.consume(1);
        digest.note_waiting(&batch);
        digest.note_taken(at(second_ms), 1);
        digest.value()
    }

    #[test]
    fn bytes_address_and_time_of_a_transmit_count() {
        let all = [
            taken(2, b"second", 1),
            taken(3, b"second", 1),
            taken(2, b"secone", 1),
            taken(2, b"second", 2),
            Digest::default().value(),
        ];
        assert_eq!(all[0], taken(2, b"second", 1));
        for (place, value) in all.iter().enumerate() {
            assert!(!all[..place].contains(value));
        }
    }

    #[test]
    fn how_the_port_takes_them_at_one_time_does_not_count() {
        let mut batch = TransmitBatch::default();
        batch.push(meta(1), b"first");
        batch.push(meta(2), b"second");
        let mut digest = Digest::default();
        digest.note_waiting(&batch);
        digest.note_taken(at(1), 2);
        assert_eq!(digest.value(), taken(2, b"second", 1));
    }

    #[test]
    fn only_the_last_deadline_of_one_time_counts() {
        let run = |deadlines: &[(u64, u64)]| {
            let mut digest = Digest::default();
            for (now, deadline) in deadlines {
                digest.note_deadline(at(*now), Some(at(*deadline)));
            }
            digest.value()
        };
        assert_eq!(run(&[(1, 5), (1, 6), (2, 6)]), run(&[(1, 6), (2, 6)]));
        assert_ne!(run(&[(1, 5), (2, 6)]), run(&[(1, 6), (2, 6)]));
        assert_ne!(run(&[(1, 5)]), run(&[(1, 6)]));
        assert_ne!(run(&[(1, 5), (2, 6), (3, 5)]), run(&[(1, 5)]));
    }

    #[test]
    fn how_often_the_driver_looks_does_not_count() {
        let run = |deadlines: &[(u64, u64)]| {
            let mut digest = Digest::default();
            for (now, deadline) in deadlines {
                digest.note_deadline(at(*now), Some(at(*deadline)));
            }
            digest.value()
        };
        assert_eq!(run(&[(1, 5), (2, 5), (3, 6)]), run(&[(1, 5), (3, 6)]));
        assert_eq!(run(&[(1, 5), (2, 5)]), run(&[(1, 5)]));
        assert_eq!(
            run(&[(1, 5), (2, 6), (2, 5), (3, 6)]),
            run(&[(1, 5), (3, 6)])
        );
    }

    #[test]
    fn the_forwarding_delay_is_left_out_and_other_figures_are_not() {
        let run = |stats: ShardStats| {
            let mut digest = Digest::default();
            let stats = Box::new(stats);
            let request = RequestId(1);
            digest.note_event(at(1), &Event::ShardStats { request, stats });
            digest.value()
        };
        let stats = ShardStats::default();
        let delayed = ShardStats {
            forward_delay: Delays {
                micros: 7,
                ..Delays::default()
            },
            ..stats
        };
        let busy = ShardStats {
            rtp_received: 7,
            ..stats
        };
        assert_eq!(run(stats), run(delayed));
        assert_ne!(run(stats), run(busy));
    }

    #[test]
    fn a_value_reads_as_it_is_shown() {
        let value = Digest::default().value();
        assert_eq!(value.to_string().parse(), Ok(value));
        assert_eq!(DigestValue(1).to_string().len(), 32);
    }
}

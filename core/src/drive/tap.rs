//! Seeing what crosses a port: a capture needs each datagram, and must not be in its way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::drive::batch::Mark;
use crate::drive::{Port, RecvBatch, TransmitBatch, Turn, Turner};
use crate::ids::ShardId;
use crate::message::{Command, Event};
use crate::net::Datagram;
use crate::relay::Relay;
use crate::time::Timestamp;

/// Sees every datagram of a shard, on the shard's thread: it must not block, and should not allocate.
pub trait Watch: Send {
    /// A datagram came. Nothing has opened or changed it yet.
    fn note_received(&mut self, datagram: &Datagram<'_>);
    /// A datagram left, or the socket refused it for good.
    fn note_sent(&mut self, now: Timestamp, source: SocketAddr, datagram: Sent<'_>);
    /// A turn is over: what was gathered may be handed on.
    fn note_turn(&mut self);
}

/// A datagram that left.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Where it went.
    pub destination: SocketAddr,
    /// Congestion capability it was marked with.
    pub ecn: Option<crate::net::Ecn>,
    /// The payload, sealed as it left.
    pub contents: &'a [u8],
}

/// Drives a turner over a port that is watched. As it stands between the two, it works on every driver.
#[derive(Debug)]
pub struct Tapped<T, W> {
    turner: T,
    tap: Tap<W>,
}

impl<T: Turner, W: Watch> Tapped<T, W> {
    /// `watch` sees all that `turner` receives and sends.
    pub fn new(turner: T, watch: W) -> Self {
        let tap = Tap {
            watch,
            marks: Vec::new(),
            local_port: 0,
        };
        Self { turner, tap }
    }
}

impl<T: Turner, W: Watch> Turner for Tapped<T, W> {
    fn turn<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Turn {
        let tap = &mut self.tap;
        let turn = self.turner.turn(now, &mut TappedPort { port, tap });
        self.tap.watch.note_turn();
        turn
    }

    fn finish<P: Port>(&mut self, port: &mut P) {
        let tap = &mut self.tap;
        self.turner.finish(&mut TappedPort { port, tap });
        self.tap.watch.note_turn();
    }
}

#[derive(Debug)]
struct Tap<W> {
    watch: W,
    /// What waited before a send.
    marks: Vec<Mark>,
    /// Of the shard's one socket, as the datagrams it receives tell. It sends none before.
    local_port: u16,
}

struct TappedPort<'t, P, W> {
    port: &'t mut P,
    tap: &'t mut Tap<W>,
}

impl<P: Port, W: Watch> Port for TappedPort<'_, P, W> {
    fn now(&self) -> Timestamp {
        self.port.now()
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        let before = batch.len();
        self.port.recv(batch);
        for datagram in batch.datagrams_of(before..batch.len()) {
            self.tap.local_port = datagram.destination.port();
            self.tap.watch.note_received(&datagram);
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        self.port.next_command()
    }

    fn next_relay(&mut self) -> Option<(ShardId, Relay)> {
        self.port.next_relay()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        let Tap {
            watch,
            marks,
            local_port,
        } = &mut *self.tap;
        marks.clear();
        marks.extend(batch.marks());
        self.port.send(batch);
        let now = self.port.now();
        let count = marks.len() - batch.len();
        for mark in &marks[..count] {
            let (meta, contents) = batch.consumed(mark);
            let any = match meta.destination {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let source = SocketAddr::new(meta.source.unwrap_or(any), *local_port);
            let sent = Sent {
                destination: meta.destination,
                ecn: meta.ecn,
                contents,
            };
            watch.note_sent(now, source, sent);
        }
    }

    fn relay(&mut self, to: ShardId, relay: Relay) {
        self.port.relay(to, relay);
    }

    fn emit(&mut self, event: Event) {
        self.port.emit(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::{Lane, RecvMeta, TransmitMeta};

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);
    const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

    /// Gives two datagrams a receive, and takes one transmit a send.
    struct OneAtATime {
        waiting: Vec<Vec<u8>>,
        sent: Vec<Vec<u8>>,
    }

    impl Port for OneAtATime {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.sent.len() as u64)
        }

        fn recv(&mut self, batch: &mut RecvBatch) {
            for contents in self.waiting.drain(..) {
                let slot = batch.free_slots().next().expect("there is room");
                slot[..contents.len()].copy_from_slice(&contents);
                batch.commit(RecvMeta {
                    received: Timestamp::ZERO,
                    source: PEER,
                    destination: HERE,
                    ecn: None,
                    len: contents.len(),
                    stride: contents.len(),
                });
            }
        }

        fn next_command(&mut self) -> Option<Command> {
            None
        }

        fn send(&mut self, batch: &mut TransmitBatch) {
            self.sent
                .extend(batch.first().map(|first| first.contents.to_vec()));
            batch.consume(1);
        }

        fn emit(&mut self, _event: Event) {}
    }

    /// Answers each datagram with its bytes turned round, which it does where they lie, as SRTP is opened.
    struct Turning(RecvBatch, TransmitBatch);

    impl Turner for Turning {
        fn turn<P: Port>(&mut self, _now: Timestamp, port: &mut P) -> Turn {
            self.0.clear();
            port.recv(&mut self.0);
            for datagram in self.0.datagrams() {
                datagram.contents.reverse();
                let meta = TransmitMeta {
                    source: Some(datagram.destination.ip()),
                    destination: datagram.source,
                    ecn: None,
                    lane: Lane::Media,
                    received: None,
                };
                self.1.push(meta, datagram.contents);
            }
            port.send(&mut self.1);
            Turn::Again
        }
    }

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Watch for Seen {
        fn note_received(&mut self, datagram: &Datagram<'_>) {
            let text = String::from_utf8_lossy(datagram.contents);
            self.0.push(format!("< {text}"));
        }

        fn note_sent(&mut self, now: Timestamp, source: SocketAddr, sent: Sent<'_>) {
            let text = String::from_utf8_lossy(sent.contents);
            assert_eq!((source, sent.destination), (HERE, PEER));
            self.0.push(format!("> {text} {}", now.as_millis()));
        }

        fn note_turn(&mut self) {
            self.0.push("turn".to_owned());
        }
    }

    #[test]
    fn bytes_are_seen_as_they_came_and_as_they_left_each_once() {
        let mut port = OneAtATime {
            waiting: vec![b"one".to_vec(), b"two".to_vec()],
            sent: Vec::new(),
        };
        let turning = Turning(RecvBatch::new(4), TransmitBatch::default());
        let mut tapped = Tapped::new(turning, Seen::default());
        for _ in 0..3 {
            assert_eq!(tapped.turn(Timestamp::ZERO, &mut port), Turn::Again);
        }
        assert_eq!(port.sent, [b"eno", b"owt"]);
        let expected = [
            "< one", "< two", "> eno 1", "turn", "> owt 2", "turn", "turn",
        ];
        assert_eq!(tapped.tap.watch.0, expected);
    }
}

//! What is driven in place of a shard's pump.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use antiphon_core::drive::{Lane, Port, RecvBatch, TransmitBatch, TransmitMeta, Turn, Turner};
use antiphon_core::ids::RequestId;
use antiphon_core::limits::{COMMANDS_PER_TURN_MAX, RECV_SLOTS};
use antiphon_core::message::{Command, Event, ShardStats};
use antiphon_core::time::Timestamp;

use super::WINDOW;

/// Echoes each datagram, answers [`Command::ShardStats`] with what it saw, and keeps a timer if told to.
#[derive(Debug)]
pub struct StandIn {
    inbound: RecvBatch,
    outbound: TransmitBatch,
    stats: ShardStats,
    turns: u64,
    timer: Option<(Duration, Option<Timestamp>)>,
    writable_turns: u64,
    held: Option<Receiver<()>>,
    panics: bool,
}

impl StandIn {
    /// It echoes and answers.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "there is no reason to have a default"
    )]
    pub fn new() -> Self {
        let mut outbound = TransmitBatch::default();
        let meta = TransmitMeta {
            source: None,
            destination: ([127, 0, 0, 1], 1).into(),
            ecn: None,
            lane: Lane::Media,
            received: Some(Timestamp::ZERO),
        };
        // It has grown to the size it keeps before anybody counts allocations.
        for _ in 0..2 * WINDOW {
            outbound.push(meta, &[0; 256]);
        }
        outbound.consume(outbound.len());
        outbound.drain_consumed().for_each(drop);
        Self {
            inbound: RecvBatch::new(RECV_SLOTS),
            outbound,
            stats: ShardStats::default(),
            turns: 0,
            timer: None,
            writable_turns: 0,
            held: None,
            panics: false,
        }
    }

    /// It answers every `period` unasked, numbered from 1, with its lateness in `forward_delay.micros`.
    pub(super) fn ticking(period: Duration) -> Self {
        Self {
            timer: Some((period, None)),
            ..Self::new()
        }
    }

    /// For so many turns it claims to have transmits left; it tells when they are over.
    pub(super) fn writable(turns: u64) -> Self {
        Self {
            writable_turns: turns,
            ..Self::new()
        }
    }

    /// Its first turn lasts until the other end of `held` is dropped.
    pub(super) fn held(held: Receiver<()>) -> Self {
        Self {
            held: Some(held),
            ..Self::new()
        }
    }

    /// Its first turn panics.
    pub(super) fn panicking() -> Self {
        Self {
            panics: true,
            ..Self::new()
        }
    }

    /// Returns whether commands may be left.
    fn answer_commands<P: Port>(&mut self, port: &mut P) -> bool {
        for _ in 0..COMMANDS_PER_TURN_MAX {
            match port.next_command() {
                None => return false,
                Some(Command::ShardStats { request }) => self.answer(request, port),
                Some(_) => {}
            }
        }
        true
    }

    /// The count of turns travels as `faults`, which the stand-in has no other use for.
    fn answer<P: Port>(&self, request: RequestId, port: &mut P) {
        let stats = Box::new(ShardStats {
            faults: self.turns,
            ..self.stats
        });
        port.emit(Event::ShardStats { request, stats });
    }

    /// Returns whether datagrams may be left.
    fn echo<P: Port>(&mut self, now: Timestamp, port: &mut P) -> bool {
        self.inbound.clear();
        port.recv(&mut self.inbound);
        if self.inbound.is_empty() {
            return false;
        }
        for datagram in self.inbound.datagrams() {
            assert!(datagram.received <= port.now());
            let meta = TransmitMeta {
                source: Some(datagram.destination.ip()),
                destination: datagram.source,
                ecn: datagram.ecn,
                lane: Lane::Media,
                received: Some(datagram.received.min(now)),
            };
            self.stats.datagrams_received += 1;
            self.outbound.push(meta, datagram.contents);
        }
        true
    }

    fn fire<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Option<Timestamp> {
        let (period, next) = self.timer.as_mut()?;
        let due = *next.get_or_insert(now + *period);
        if now < due {
            return Some(due);
        }
        let next = *next.insert(now + *period);
        self.stats.timeouts += 1;
        self.stats.forward_delay.micros = now.since(due).as_micros() as u64;
        self.answer(RequestId(self.stats.timeouts), port);
        Some(next)
    }
}

impl Turner for StandIn {
    fn turn<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Turn {
        assert!(!self.panics, "the stand-in was told to panic");
        if let Some(held) = self.held.take() {
            // Nothing is ever sent: it ends when the other end is dropped.
            held.recv().unwrap_or_default();
        }
        self.turns += 1;
        let commands_left = self.answer_commands(port);
        let datagrams_left = self.echo(now, port);
        let deadline = self.fire(now, port);
        port.send(&mut self.outbound);
        self.stats.datagrams_sent += self.outbound.drain_consumed().count() as u64;
        if self.turns == self.writable_turns {
            self.answer(RequestId(self.turns), port);
        }
        if commands_left || datagrams_left {
            return Turn::Again;
        }
        Turn::Wait {
            deadline,
            writable: self.turns < self.writable_turns || !self.outbound.is_empty(),
        }
    }
}

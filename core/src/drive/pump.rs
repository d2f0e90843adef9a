//! The one loop that drives a shard, written once for all drivers.

use std::time::Duration;

use crate::drive::{Digest, DigestValue, Port, RecvBatch, Turn, Turner};
use crate::journal::{Recorder, Tap};
use crate::limits::{
    COMMANDS_PER_TURN_MAX, FORESEEN_SLOTS, RECV_BATCHES_PER_TURN_MAX, RECV_SLOTS,
    RELAYS_PER_TURN_MAX,
};
use crate::shard::Shard;
use crate::time::{Timestamp, earliest};

/// A shard and the buffer it receives into.
#[derive(Debug)]
pub struct Pump {
    shard: Shard,
    batch: RecvBatch,
    digest: Option<Box<Digest>>,
    recorder: Option<Box<Recorder>>,
    /// Frames heard for agents before this turn.
    heard: u64,
}

impl Pump {
    /// A pump for a shard.
    #[must_use]
    pub fn new(shard: Shard) -> Self {
        Self {
            shard,
            batch: RecvBatch::new(RECV_SLOTS),
            digest: None,
            recorder: None,
            heard: 0,
        }
    }

    /// Hashes all that comes out from now on, or goes on doing so.
    #[must_use]
    pub fn with_digest(mut self) -> Self {
        self.digest.get_or_insert_default();
        self
    }

    /// The shard's bugs, to plant some.
    #[cfg(feature = "mutations")]
    pub const fn bugs_mut(&mut self) -> &mut crate::bugs::Bugs {
        self.shard.bugs_mut()
    }

    /// Records all that comes in and out from now on, which includes the digest. To replay the run, begin before
    /// the first turn.
    #[must_use]
    pub fn with_recorder(mut self, recorder: Recorder) -> Self {
        self.record(recorder);
        self
    }

    /// The same for a pump that is in its place.
    pub fn record(&mut self, recorder: Recorder) {
        self.shard.record_handshakes();
        self.digest.get_or_insert_default();
        self.recorder = Some(Box::new(recorder));
    }

    /// The hash of all that came out so far; `None` without [`with_digest`](Self::with_digest).
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_deref()
    }

    /// The shard, to look at.
    #[must_use]
    pub const fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The shard, to let it go on where another stood.
    pub(crate) const fn shard_to_restore(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The shard, to meddle with.
    #[cfg(any(test, feature = "sim"))]
    pub const fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Handles what has arrived until nothing is left or the budget is spent; whether more may be waiting.
    fn receive(&mut self, now: Timestamp, port: &mut impl Port) -> bool {
        for _ in 0..RECV_BATCHES_PER_TURN_MAX {
            if buggify!(self.shard, ReceiveLater) {
                return true;
            }
            self.batch.clear();
            port.recv(&mut self.batch);
            if self.batch.is_empty() {
                return false;
            }
            self.handle_received(now);
            // What a batch caused leaves before the next is read: latency over one larger send.
            self.send(now, port);
            self.hand_over(now, port);
        }
        true
    }

    fn handle_received(&mut self, now: Timestamp) {
        let count = self.batch.len();
        for first in (0..count).step_by(FORESEEN_SLOTS) {
            let slots = first..count.min(first + FORESEEN_SLOTS);
            // One alone gains nothing.
            if slots.len() > 1 {
                let filled = self.batch.slots().skip(slots.start).take(slots.len());
                self.shard.foresee(filled.map(|(meta, _)| meta.path()));
            }
            for datagram in self.batch.datagrams_of(slots) {
                if mutated!(self.shard, SwallowDatagrams, each 100) {
                    continue;
                }
                self.shard.handle_datagram(now, datagram);
            }
        }
    }

    /// Handles what other shards said until nothing is left or the budget is spent; whether more may be waiting.
    fn take_relays(&mut self, now: Timestamp, port: &mut impl Port) -> bool {
        for taken in 1..=RELAYS_PER_TURN_MAX {
            let Some((from, relay)) = port.next_relay() else {
                return false;
            };
            self.shard.handle_relay(now, from, relay);
            // As after a batch of datagrams, of which each goes to all who follow.
            if taken.is_multiple_of(RECV_SLOTS) {
                self.send(now, port);
            }
        }
        true
    }

    /// Hands relays over to other shards.
    fn hand_over(&mut self, now: Timestamp, port: &mut impl Port) {
        while let Some((to, relay)) = self.shard.poll_relay() {
            if let Some(digest) = &mut self.digest {
                digest.note_relay(now, to, &relay);
            }
            port.relay(to, relay);
        }
    }

    /// Frames were heard in this turn, which took so long.
    #[cold]
    fn note_processed(&mut self, took: Duration, heard: u64) {
        self.shard.note_processed(took, heard - self.heard);
        self.heard = heard;
    }

    fn send(&mut self, now: Timestamp, port: &mut impl Port) {
        let transmits = self.shard.transmits_mut();
        if transmits.is_empty() {
            return;
        }
        if let Some(digest) = &mut self.digest {
            digest.note_waiting(transmits);
        }
        let before = transmits.len();
        port.send(transmits);
        let sent = before - transmits.len();
        if let Some(digest) = &mut self.digest {
            digest.note_taken(now, sent);
        }
        self.shard.note_sent(port.now(), sent);
    }

    fn pass(&mut self, now: Timestamp, port: &mut impl Port) -> Turn {
        let mut again = true;
        for _ in 0..COMMANDS_PER_TURN_MAX {
            let Some(command) = port.next_command() else {
                again = false;
                break;
            };
            self.shard.handle_command(now, command);
            if buggify!(self.shard, CommandLater) {
                break;
            }
        }
        again |= self.take_relays(now, port);
        again |= self.receive(now, port);
        if !buggify!(self.shard, TimersLater) {
            self.shard.handle_timeout(now);
        }
        self.hand_over(now, port);
        while let Some(event) = self.shard.poll_event() {
            if let Some(digest) = &mut self.digest {
                digest.note_event(now, &event);
            }
            port.emit(event);
            if mutated!(self.shard, OneEventATurn) {
                break;
            }
        }
        let heard = self.shard.frames_heard();
        if heard != self.heard {
            self.note_processed(port.now().since(now), heard);
        }
        if !buggify!(self.shard, SendLater) {
            self.send(now, port);
        }
        if again {
            return Turn::Again;
        }
        let writable = !self.shard.transmits_mut().is_empty();
        let deadline = self.shard.deadline();
        if let Some(digest) = &mut self.digest {
            digest.note_deadline(now, deadline);
        }
        Turn::Wait { deadline, writable }
    }
}

impl Turner for Pump {
    /// One bounded pass, in this order: commands, relays, datagrams, timers, relays to others, events, send. `now` is
    /// read once; everything in the pass happens then.
    fn turn<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Turn {
        let Some(mut recorder) = self.recorder.take() else {
            return self.pass(now, port);
        };
        recorder.begin_turn(now, &self.shard);
        let turn = self.pass(now, &mut Tap::new(port, &mut recorder));
        let outputs = self
            .digest
            .as_ref()
            .map_or_else(DigestValue::default, |digest| digest.value());
        recorder.end_turn(&mut self.shard, outputs);
        if recorder.is_closed() {
            self.shard.forget_handshakes();
            return turn;
        }
        let due = recorder.due();
        self.recorder = Some(recorder);
        match turn {
            Turn::Wait { deadline, writable } => Turn::Wait {
                deadline: earliest(deadline, due),
                writable,
            },
            Turn::Again => Turn::Again,
        }
    }
}

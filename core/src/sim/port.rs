//! The simulator's port: queues where a driver has sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::queue::Pool;
use crate::drive::{Port, RecvBatch, RecvMeta, RelayLane, TransmitBatch};
use crate::ids::ShardId;
use crate::limits::RECV_SLOT_BYTES;
use crate::message::{Command, Event};
use crate::relay::Relay;
use crate::time::Timestamp;

/// How arrived datagrams are handed to the pump. The cut must change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Datagrams a turn, at most.
    pub per_turn: usize,
    /// Equal-sized neighbours of one source share a slot, as the kernel does it (GRO).
    pub coalesced: bool,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            per_turn: 64,
            coalesced: false,
        }
    }
}

/// What one shard's pump is lent. The world fills and empties the queues between turns.
#[derive(Debug)]
pub(super) struct SimPort {
    pub(super) now: Timestamp,
    pub(super) cut: Cut,
    /// Datagrams still to be handed over in this turn.
    pub(super) left: usize,
    /// Arrived, by place in the pool.
    pub(super) inbound: VecDeque<u32>,
    pub(super) commands: VecDeque<Command>,
    pub(super) events: VecDeque<Event>,
    /// Taken from the pump: where from, where to, what.
    pub(super) outbound: VecDeque<u32>,
    /// The socket takes nothing: its buffer is full.
    pub(super) clogged: bool,
    /// The sends, counted from 0, that find it so though it is not clogged.
    pub(super) full_sends: &'static [u64],
    sends: u64,
    /// Sends that found it full.
    pub(super) blocked: u64,
    /// The world's, lent for the turn.
    pub(super) pool: Pool,
    /// To and from the other shards.
    pub(super) relays: RelayLane,
    /// For which of its relays the lanes have no room.
    pub(super) loses: fn(&Relay) -> bool,
    port: u16,
}

impl SimPort {
    pub(super) fn new(cut: Cut, port: u16, relays: RelayLane) -> Self {
        Self {
            now: Timestamp::ZERO,
            cut,
            left: 0,
            inbound: VecDeque::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            outbound: VecDeque::new(),
            clogged: false,
            full_sends: &[],
            sends: 0,
            blocked: 0,
            pool: Pool::default(),
            relays,
            loses: |_| false,
            port,
        }
    }

    /// Fills one slot with the next datagram, and its equals if the cut says so.
    fn fill(&mut self, slot: &mut [u8]) -> Option<RecvMeta> {
        let first = self.inbound.pop_front()?;
        self.left -= 1;
        let flying = self.pool.at(first);
        let stride = flying.contents.len();
        slot[..stride].copy_from_slice(&flying.contents);
        let mut meta = RecvMeta {
            received: flying.received,
            source: flying.source,
            destination: flying.destination,
            ecn: None,
            len: stride,
            stride,
        };
        self.pool.free(first);
        while self.cut.coalesced && self.left > 0 && stride > 0 {
            let Some(next) = self.inbound.front().copied() else {
                break;
            };
            let flying = self.pool.at(next);
            let same = flying.source == meta.source
                && flying.destination == meta.destination
                && flying.received == meta.received
                && flying.contents.len() == stride;
            if !same || meta.len + stride > RECV_SLOT_BYTES {
                break;
            }
            slot[meta.len..meta.len + stride].copy_from_slice(&flying.contents);
            meta.len += stride;
            self.inbound.pop_front();
            self.pool.free(next);
            self.left -= 1;
        }
        Some(meta)
    }
}

impl Port for SimPort {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        while self.left > 0 {
            let Some(slot) = batch.free_slots().next() else {
                return;
            };
            let Some(meta) = self.fill(slot) else { return };
            batch.commit(meta);
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn next_relay(&mut self) -> Option<(ShardId, Relay)> {
        self.relays.pop()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        if batch.is_empty() {
            return;
        }
        self.sends += 1;
        if self.clogged || self.full_sends.contains(&(self.sends - 1)) {
            self.blocked += 1;
            return;
        }
        for (meta, contents) in batch.iter() {
            let unspecified = IpAddr::from([0, 0, 0, 0]);
            let source = SocketAddr::new(meta.source.unwrap_or(unspecified), self.port);
            let ends = (source, meta.destination);
            let place = self.pool.put(ends, contents.len(), |out| {
                out.copy_from_slice(contents);
                Some(contents.len())
            });
            self.outbound.extend(place);
        }
        batch.consume(batch.len());
    }

    fn relay(&mut self, to: ShardId, relay: Relay) {
        if !(self.loses)(&relay) {
            self.relays.send(to, relay);
        }
    }

    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

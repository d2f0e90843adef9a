//! Packets as they come off the wire, made before they are needed: for measuring the shard and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use antiphon_core::drive::{Port, Pump, RecvBatch, RecvMeta, TransmitBatch, Turner};
use antiphon_core::message::{Command, Event, Role};
use antiphon_core::net::Datagram;
use antiphon_core::shard::Shard;
use antiphon_core::time::Timestamp;
use antiphon_core::wire::{Class, classify};

use super::raw::{AUDIO_SSRC, OPUS, Raw, fields, plan};
use super::{Flying, SERVER, World};

/// A datagram and when it comes.
pub(crate) struct Delivery {
    pub(crate) now: Timestamp,
    pub(crate) source: SocketAddr,
    pub(crate) contents: Vec<u8>,
}

/// What a peer is to send.
pub(crate) struct Packet {
    /// Which of its sections.
    pub(crate) section: usize,
    /// In units of the codec's clock.
    pub(crate) time: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

impl World {
    /// The next packets of a peer as it seals them, one each `interval` from now on. The shard has not seen them.
    pub(crate) fn record_media(
        &mut self,
        peer: usize,
        count: usize,
        interval: Duration,
        packet: impl Fn(u32) -> Packet,
    ) -> Vec<Delivery> {
        let mids = self.mids(peer);
        (self.record, self.withhold_media) = (true, true);
        for number in 0..count as u32 {
            let packet = packet(number);
            let mid = mids[packet.section];
            self.send(peer, mid, packet.time, packet.marker, &packet.payload);
            self.run_for(interval);
        }
        self.run_for(Duration::from_secs(1));
        (self.record, self.withhold_media) = (false, false);
        let start = self.now;
        let media = |datagram: &Flying| classify(&datagram.contents) == Class::Rtp;
        let recorded = self.recorded.drain(..).filter(media).zip(1..);
        let deliveries: Vec<_> = recorded
            .map(|(datagram, number)| Delivery {
                now: start + interval * number,
                source: datagram.source,
                contents: datagram.contents,
            })
            .collect();
        assert_eq!(deliveries.len(), count, "one datagram a packet");
        deliveries
    }
}

/// What one packet costs a pump: the shard takes it in, and what it caused is sent and forgotten.
pub(crate) fn deliver(shard: &mut Shard, delivery: &mut Delivery) {
    let now = delivery.now;
    let datagram = Datagram {
        received: now,
        source: delivery.source,
        destination: SERVER,
        ecn: None,
        contents: &mut delivery.contents,
    };
    shard.handle_datagram(now, datagram);
    let transmits = shard.transmits_mut();
    let count = transmits.len();
    if count > 0 {
        transmits.consume(count);
        shard.note_sent(now, count);
    }
}

/// Packets under way to a pump, which finds so many at once.
pub(crate) struct Flight {
    now: Timestamp,
    packets: Vec<(SocketAddr, Vec<u8>)>,
    next: usize,
    batch: usize,
    given: bool,
    /// What was sent because of them.
    pub(crate) sent: usize,
}

impl Flight {
    pub(crate) fn new(now: Timestamp, packets: Vec<(SocketAddr, Vec<u8>)>, batch: usize) -> Self {
        Self {
            now,
            packets,
            next: 0,
            batch,
            given: false,
            sent: 0,
        }
    }

    /// Turns until all is delivered, half a millisecond apart.
    pub(crate) fn deliver(&mut self, pump: &mut Pump) {
        while self.next < self.packets.len() {
            self.given = false;
            self.now = self.now + Duration::from_micros(500);
            let _wait = pump.turn(self.now, self);
        }
    }
}

impl Port for Flight {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        if std::mem::replace(&mut self.given, true) {
            return;
        }
        let end = self.packets.len().min(self.next + self.batch);
        for (source, contents) in &self.packets[self.next..end] {
            let slot = batch.free_slots().next().expect("a batch has its slots");
            slot[..contents.len()].copy_from_slice(contents);
            batch.commit(RecvMeta {
                received: self.now,
                source: *source,
                destination: SERVER,
                ecn: None,
                len: contents.len(),
                stride: contents.len(),
            });
        }
        self.next = end;
    }

    fn next_command(&mut self) -> Option<Command> {
        None
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        self.sent += batch.len();
        batch.consume(batch.len());
    }

    fn emit(&mut self, _: Event) {}
}

/// A peer with one section of audio.
pub(crate) fn voice(world: &mut World, number: u16, role: Role) -> Raw {
    let [high, low] = number.to_be_bytes();
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, high, low)), 5_000);
    let mut plan = plan(true, role == Role::Echo);
    plan.media.truncate(1);
    Raw::connect(world, address, role, plan)
}

/// Of each round, the packet of each peer.
pub(crate) fn rounds_of(peers: &mut [Raw], rounds: u16, bytes: usize) -> Vec<Vec<Vec<u8>>> {
    let mut all = vec![Vec::new(); usize::from(rounds)];
    for peer in peers {
        let mut source = peer.outbound.claim(AUDIO_SSRC).expect("the first claim");
        for (number, round) in (1..).zip(&mut all) {
            let fields = fields(OPUS, AUDIO_SSRC, number);
            round.push(peer.seal(&mut source, &fields, &[], &vec![9; bytes]));
        }
    }
    all
}

//! Packets as they come off the wire, made before they are needed: for measuring the shard and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::net::Datagram;
use antiphon_core::shard::Shard;
use antiphon_core::time::Timestamp;
use antiphon_core::wire::{Class, classify};

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

//! Media of streams beyond doubt.

use std::collections::BTreeMap;

use antiphon_core::replay::{Flow, MediaPacket, MediaSink};
use antiphon_core::time::Timestamp;

/// Hands on the packets of a stream once it is one, its first included: that shows with the second.
#[derive(Default)]
pub(super) struct Confirmed<S> {
    alone: BTreeMap<(Flow, u32), First>,
    pub(super) sink: S,
}

struct First {
    arrived: Option<Timestamp>,
    sequence: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

impl<S: MediaSink> MediaSink for Confirmed<S> {
    fn take(&mut self, packet: &MediaPacket<'_>) {
        let key = (packet.flow, packet.ssrc);
        if !packet.is_confirmed {
            // Contents that nobody knows are of no use to any sink.
            if packet.codec.is_some() {
                self.alone.entry(key).or_insert_with(|| First::of(packet));
            }
            return;
        }
        if let Some(first) = self.alone.remove(&key) {
            self.sink.take(&first.packet(packet));
        }
        self.sink.take(packet);
    }
}

impl First {
    fn of(packet: &MediaPacket<'_>) -> Self {
        Self {
            arrived: packet.arrived,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload: packet.payload.to_vec(),
        }
    }

    /// As it was, of the stream and the codec of another.
    fn packet<'p>(&'p self, other: &MediaPacket<'p>) -> MediaPacket<'p> {
        MediaPacket {
            arrived: self.arrived,
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker: self.marker,
            payload: &self.payload,
            ..*other
        }
    }
}

//! What one source says: packets that come unevenly in, frames out.

use std::time::Duration;

use crate::audio::Rate;
use crate::codec::AnyDecoder;
use crate::jitter::{Config, FrameKind, JitterBuffer, JitterStats, Packet};
use crate::plan::Codec;
use crate::session::media::Incoming;
use crate::time::Timestamp;

/// Between two decoders of one source: a decoder costs memory, and a peer may alternate between codecs.
const CODEC_CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// Jitter buffer and decoder of one source.
pub(crate) struct SourceDecoder {
    codec: Codec,
    ssrc: u32,
    rate: Rate,
    made: Timestamp,
    last_packet: Timestamp,
    jitter: JitterBuffer,
    decoder: AnyDecoder,
}

impl SourceDecoder {
    /// One for the codec of a packet, which is yet to be taken in; `None`: there is no decoder of it.
    pub(crate) fn new(
        now: Timestamp,
        config: Config,
        rate: Rate,
        packet: &Incoming<'_>,
    ) -> Option<Self> {
        let codec = packet.codec;
        Some(Self {
            codec,
            ssrc: packet.ssrc,
            rate,
            made: now,
            last_packet: now,
            jitter: JitterBuffer::new(config, rate, codec.clock_rate()),
            decoder: AnyDecoder::new(codec, rate).ok()?,
        })
    }

    /// Whether it decodes this codec.
    pub(crate) fn decodes(&self, codec: Codec) -> bool {
        self.codec == codec
    }

    /// Whether another may take its place already.
    pub(crate) fn may_be_replaced(&self, now: Timestamp) -> bool {
        now.since(self.made) >= CODEC_CHANGE_INTERVAL
    }

    /// When a packet came last.
    pub(crate) const fn last_packet(&self) -> Timestamp {
        self.last_packet
    }

    /// What became of its packets.
    pub(crate) fn stats(&self) -> JitterStats {
        self.jitter.stats()
    }

    /// See [`JitterBuffer::next_deadline`].
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.jitter.next_deadline()
    }

    /// Takes in a packet of its codec.
    pub(crate) fn insert(&mut self, now: Timestamp, packet: &Incoming<'_>) {
        self.last_packet = now;
        if packet.ssrc != self.ssrc {
            self.ssrc = packet.ssrc;
            self.jitter
                .switch_source(self.rate, self.codec.clock_rate());
        }
        let inserted = Packet {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            payload: packet.payload,
            marker: packet.marker,
        };
        // The kernel's stamp: what a busy thread added is no jitter of the path's.
        self.jitter.insert(packet.received, inserted);
    }

    /// See [`JitterBuffer::poll`].
    pub(crate) fn poll(&mut self, now: Timestamp, out: &mut [f32]) -> FrameKind {
        self.jitter.poll(now, &mut self.decoder, out)
    }
}

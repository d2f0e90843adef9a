//! Peers that hold the right keys and mean no good.

use std::time::Duration;

use super::Outbox;
use crate::plan::DtlsRole;
use crate::rng::Rng;
use crate::srtp::KeyingMaterial;
use crate::time::Timestamp;
use crate::wire::rtcp::CompoundWriter;
use crate::wire::rtp::{HeaderFields, write_header};

/// What a peer does beside what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Asks again and again for packets: those it was sent, those it was not, of sources that are not.
    NackStorm,
    /// Asks for keyframes without end.
    KeyframeStorm,
    /// Sends under ever new sources, well encrypted.
    SourceFlood,
    /// Well encrypted RTCP that is none.
    Rubbish,
    /// Says goodbye and goes on.
    Goodbyes,
}

impl Mischief {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::NackStorm,
        Self::KeyframeStorm,
        Self::SourceFlood,
        Self::Rubbish,
        Self::Goodbyes,
    ];
}

/// Between two bursts.
const INTERVAL: Duration = Duration::from_millis(20);
/// Datagrams of one burst.
const BURST: u32 = 4;

/// A peer's mischief under way.
#[derive(Debug)]
pub(super) struct Culprit {
    kind: Mischief,
    pub(super) next: Timestamp,
    /// The keys once more: each flooding source is the first of a context of its own.
    exported: Vec<u8>,
}

/// The keys and sources a culprit abuses.
pub(super) struct Reach<'a> {
    pub(super) profile: crate::message::ProfileName,
    pub(super) role: DtlsRole,
    pub(super) outbound: &'a mut crate::srtp::Outbound,
    /// Its own source, and one of the server's that it hears.
    pub(super) own: u32,
    pub(super) heard: u32,
}

impl Culprit {
    pub(super) const fn new(kind: Mischief, now: Timestamp, exported: Vec<u8>) -> Self {
        Self {
            kind,
            next: now,
            exported,
        }
    }

    pub(super) fn act(
        &mut self,
        now: Timestamp,
        rng: &mut Rng,
        reach: &mut Reach<'_>,
        out: &mut Outbox<'_>,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        for _ in 0..BURST {
            if self.kind == Mischief::SourceFlood {
                self.flood(rng, reach, out);
            } else {
                self.write(rng, reach, out);
            }
        }
    }

    fn write(&self, rng: &mut Rng, reach: &mut Reach<'_>, out: &mut Outbox<'_>) {
        let ssrc = if rng.below(4) == 0 {
            rng.u32()
        } else {
            reach.heard
        };
        let own = reach.own;
        let outbound = &mut *reach.outbound;
        out.send_with(1_000, |bytes| {
            let room = bytes.len() - 40;
            let mut writer = CompoundWriter::new(&mut bytes[..room]);
            let written = match self.kind {
                Mischief::NackStorm => {
                    let mut lost = [0; 64];
                    let first = rng.u32() as u16;
                    let near = lost.iter_mut().zip(0..);
                    near.for_each(|(lost, number)| *lost = first.wrapping_add(number));
                    writer.nack(own, ssrc, &lost)
                }
                Mischief::KeyframeStorm => writer.picture_loss_indication(own, ssrc),
                Mischief::Goodbyes => {
                    writer.receiver_report(own, &[]) && writer.goodbye(&[own, ssrc])
                }
                Mischief::Rubbish | Mischief::SourceFlood => false,
            };
            let mut len = writer.len();
            if !written {
                len = 8 + rng.below(400) as usize;
                rng.fill(&mut bytes[..len]);
                // As much of a header as it takes to be seen for RTCP.
                bytes[0] = 0x80 | bytes[0] & 0x1f;
                bytes[1] = 200 + bytes[1] % 8;
            }
            outbound.seal_rtcp(bytes, len).ok()
        });
    }

    fn flood(&self, rng: &mut Rng, reach: &Reach<'_>, out: &mut Outbox<'_>) {
        let keying = KeyingMaterial::new(reach.profile, &self.exported);
        let Ok(keying) = keying else { return };
        let (_, mut outbound) = keying.into_contexts(reach.role);
        let ssrc = rng.u32();
        let Some(mut source) = outbound.claim(ssrc) else {
            return;
        };
        let number = rng.below(1 << 15) as u16;
        let fields = HeaderFields {
            payload_type: [
                super::media::OPUS,
                super::media::VP8,
                super::media::RTX,
                rng.below(128) as u8,
            ][rng.below(4) as usize],
            marker: rng.below(2) == 0,
            sequence_number: number,
            timestamp: rng.u32(),
            ssrc,
        };
        let mut payload = vec![0; rng.below(200) as usize];
        rng.fill(&mut payload);
        out.send_with(300, |bytes| {
            let header = write_header(bytes, &fields, &[])?;
            outbound
                .seal_rtp(&mut source, number, bytes, header, &[], &payload)
                .ok()
        });
    }
}

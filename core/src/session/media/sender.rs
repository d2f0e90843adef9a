//! What we send in one media section: a stream of our own numbers, fed by whichever track it follows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::TrackId;
use crate::limits::{DATAGRAM_BYTES_MAX, SRTP_OVERHEAD_BYTES_MAX};
use crate::net::Path;
use crate::plan::{Codec, LocalSource, MediaKind, MediaPlan};
use crate::receive::RateMeter;
use crate::repair::RetransmitBudget;
use crate::rng::Rng;
use crate::route::rewrite::{Rewriter, RewriterMark, Source, Vp8Picture};
use crate::session::Context;
use crate::session::media::Incoming;
use crate::session::media::receiver::SenderClock;
use crate::srtp::{Outbound, SendSource};
use crate::time::{NtpTime, Timestamp};
use crate::wire::payload::vp8::{self, PictureId};
use crate::wire::rtp::{self, HeaderFields};

/// Header (12), one extension block of audio level and orientation (12), VP8 descriptor (6), original
/// sequence number (2) and the authentication tag.
const OVERHEAD_BYTES: usize = 32 + SRTP_OVERHEAD_BYTES_MAX;

/// What became of a packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Sealed and queued.
    Sent,
    /// Held back: the stream can only start at a keyframe. Ask the publisher for one.
    WaitsForKeyframe,
    /// Not for this stream: no such codec, or it precedes the switch.
    Skipped,
}

/// The payload types of the codec a stream carries now.
#[derive(Clone, Copy, Debug)]
struct Format {
    codec: Codec,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
}

#[derive(Debug)]
struct Retransmitter {
    source: Option<SendSource>,
    ssrc: u32,
    sequence_number: u16,
    budget: RetransmitBudget,
}

/// What the peer last reported of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PeerReport {
    pub(crate) lost: i32,
    pub(crate) jitter: u32,
}

/// Sending half of one media section.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) ssrc: u32,
    /// The right to seal under the session's key; `None` before there is one.
    source: Option<SendSource>,
    rewriter: Rewriter,
    format: Option<Format>,
    rtx: Option<Box<Retransmitter>>,
    /// The track it follows; `None` while its publisher is away.
    pub(crate) track: Option<TrackId>,
    /// The source that the rewriter's numbers are of; `None`: the next packet begins another.
    origin: Option<u32>,
    clock: Option<SenderClock>,
    /// When the last packet left, and its timestamp.
    last: Option<(Timestamp, u32)>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) rate: RateMeter,
    pub(crate) peer: PeerReport,
    pub(crate) nacks_received: u64,
    pub(crate) retransmissions: u64,
    pub(crate) keyframe_requests: u64,
    /// Packets sent when the last sender report went out.
    reported: u64,
}

/// Where a sender stands, but for figures and what it was asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SenderMark {
    origin: Option<u32>,
    rewriter: RewriterMark,
    /// Highest index sealed.
    sealed: Option<u64>,
    /// Next number of a retransmission, and the highest index sealed of them.
    rtx: Option<(u16, Option<u64>)>,
}

impl Sender {
    pub(crate) fn mark(&self) -> SenderMark {
        let highest = |source: &Option<SendSource>| source.as_ref()?.highest();
        let rtx = self.rtx.as_ref();
        SenderMark {
            origin: self.origin,
            rewriter: self.rewriter.mark(),
            sealed: highest(&self.source),
            rtx: rtx.map(|rtx| (rtx.sequence_number, highest(&rtx.source))),
        }
    }

    /// Goes on where another stood. It must have its key, and follow what that followed.
    pub(crate) fn resume(&mut self, mark: SenderMark) {
        self.origin = mark.origin;
        self.rewriter.resume(mark.rewriter);
        if let (Some(source), Some(sealed)) = (&mut self.source, mark.sealed) {
            source.skip_to(sealed);
        }
        if let (Some(rtx), Some((number, sealed))) = (&mut self.rtx, mark.rtx) {
            rtx.sequence_number = number;
            if let (Some(source), Some(sealed)) = (&mut rtx.source, sealed) {
                source.skip_to(sealed);
            }
        }
    }

    pub(crate) fn new(local: LocalSource, clock_rate: u32, rng: &mut Rng) -> Self {
        // A first number below 2^15 keeps the receiver's guess of the rollover counter right even when
        // the first packets are lost (RFC 3711 §3.3.1).
        let first = |rng: &mut Rng| rng.below(1 << 15) as u16;
        let rtx = local.rtx.map(|ssrc| {
            Box::new(Retransmitter {
                source: None,
                ssrc,
                sequence_number: first(rng),
                budget: RetransmitBudget::default(),
            })
        });
        Self {
            ssrc: local.ssrc,
            source: None,
            rewriter: Rewriter::new(clock_rate, first(rng), rng.u32()),
            format: None,
            rtx,
            track: None,
            origin: None,
            clock: None,
            last: None,
            packets: 0,
            bytes: 0,
            rate: RateMeter::default(),
            peer: PeerReport::default(),
            nacks_received: 0,
            retransmissions: 0,
            keyframe_requests: 0,
            reported: 0,
        }
    }

    /// Takes the right to send under a key.
    pub(crate) fn claim(&mut self, keys: &mut Outbound) {
        self.source = keys.claim(self.ssrc);
        if let Some(rtx) = &mut self.rtx {
            rtx.source = keys.claim(rtx.ssrc);
        }
    }

    /// Whether its key has no index left for it.
    pub(crate) fn is_exhausted(&self) -> bool {
        let rtx = self.rtx.as_ref().and_then(|rtx| rtx.source.as_ref());
        self.source.iter().chain(rtx).any(SendSource::is_exhausted)
    }

    /// Follows another track from its next keyframe (video) or packet (audio) on.
    pub(crate) fn follow(&mut self, track: Option<TrackId>) {
        self.track = track;
        self.origin = None;
        self.clock = None;
    }

    /// Whether a keyframe would start (or restart) the stream.
    pub(crate) const fn waits_for_keyframe(&self, plan: &MediaPlan) -> bool {
        self.origin.is_none() && self.track.is_some() && matches!(plan.kind, MediaKind::Video)
    }

    /// Rewrites, seals and queues one packet of the track.
    pub(crate) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        keys: &Outbound,
        path: Path,
        plan: &MediaPlan,
        packet: &Incoming<'_>,
    ) -> Forwarded {
        // A jump is closed up in the numbers, so the receiver could not see that pictures are missing.
        let begins = self.origin != Some(packet.ssrc) || self.rewriter.is_jump(packet.sequence);
        if begins {
            if packet.codec.kind() == MediaKind::Video && !packet.keyframe {
                self.origin = None;
                return Forwarded::WaitsForKeyframe;
            }
            self.rewriter.switch();
            self.origin = Some(packet.ssrc);
        }
        let Some(format) = self.format_for(plan, packet.codec) else {
            return Forwarded::Skipped;
        };
        let source = source_of(packet);
        let Some(rewritten) = self.rewriter.rewrite(cx.now, source) else {
            return Forwarded::Skipped;
        };
        let number = rewritten.sequence as u16;
        let fields = HeaderFields {
            payload_type: format.payload_type,
            marker: packet.marker,
            sequence_number: number,
            timestamp: rewritten.timestamp,
            ssrc: self.ssrc,
        };
        let mut prefix = Prefix::default();
        let rest = prefix.rewrite_picture(packet, rewritten.picture);
        let extensions = Extensions::of(plan, packet);
        let Some(source) = &mut self.source else {
            return Forwarded::Skipped;
        };
        let size_max = OVERHEAD_BYTES + packet.payload.len();
        let queued = cx.transmit_media(path, Some(packet.received), size_max, |out| {
            let header = rtp::write_header(out, &fields, extensions.as_slice())?;
            keys.seal_rtp(source, number, out, header, prefix.as_bytes(), rest)
                .ok()
        });
        if !queued {
            return Forwarded::Skipped;
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.rate.note(cx.now, packet.payload.len());
        if packet.codec.is_event() {
            // Its timestamp is of when the key was pressed, not of now.
            return Forwarded::Sent;
        }
        self.last = Some((cx.now, rewritten.timestamp));
        self.clock = packet.clock.map(|clock| SenderClock {
            ntp: clock.ntp,
            rtp_timestamp: clock
                .rtp_timestamp
                .wrapping_add(rewritten.timestamp.wrapping_sub(packet.timestamp)),
        });
        Forwarded::Sent
    }

    /// Whether to look for one more packet that the peer misses; after a no, for no more of this datagram's.
    pub(crate) fn allow_ask(&mut self, now: Timestamp) -> bool {
        let rtx = self.rtx.as_mut();
        rtx.is_some_and(|rtx| rtx.budget.allow_ask(now))
    }

    /// The source's number behind one of ours that the peer misses; `None` also while the next source has
    /// yet to begin: the packets of the last are gone.
    pub(crate) fn source_of(&self, sequence_number: u16) -> Option<u64> {
        self.origin?;
        self.rewriter.source_of(sequence_number)
    }

    /// Sends a cached packet again as a retransmission (RFC 4588): its own number, the old one in front.
    /// Without an agreed retransmission format nothing is sent: a second copy under the old number would
    /// need the very same bytes (E10), which we do not keep a subscriber.
    pub(crate) fn retransmit(
        &mut self,
        cx: &mut Context<'_>,
        keys: &Outbound,
        path: Path,
        plan: &MediaPlan,
        packet: &Incoming<'_>,
        round_trip: Duration,
    ) -> bool {
        let (Some(format), Some(rtx)) = (self.format, &mut self.rtx) else {
            return false;
        };
        // The numbers of another source would pass for this one's.
        if self.origin != Some(packet.ssrc) {
            return false;
        }
        let Some(payload_type) = format.rtx_payload_type else {
            return false;
        };
        let source = source_of(packet);
        let Some(original) = self.rewriter.numbers_of(source) else {
            return false;
        };
        let osn = original.sequence as u16;
        let size = packet.payload.len() + OVERHEAD_BYTES;
        if !rtx.budget.allow(cx.now, round_trip, osn, size) {
            return false;
        }
        let number = rtx.sequence_number;
        let fields = HeaderFields {
            payload_type,
            marker: packet.marker,
            sequence_number: number,
            timestamp: original.timestamp,
            ssrc: rtx.ssrc,
        };
        let mut prefix = Prefix::default();
        prefix.push(&osn.to_be_bytes());
        let rest = prefix.rewrite_picture(packet, original.picture);
        let extensions = Extensions::of(plan, packet);
        let Some(source) = &mut rtx.source else {
            return false;
        };
        let queued = cx.transmit_media(path, None, size, |out| {
            let header = rtp::write_header(out, &fields, extensions.as_slice())?;
            keys.seal_rtp(source, number, out, header, prefix.as_bytes(), rest)
                .ok()
        });
        if queued {
            rtx.sequence_number = number.wrapping_add(1);
            self.retransmissions += 1;
            cx.stats.retransmissions_sent += 1;
        }
        queued
    }

    /// Wall time and RTP timestamp of one instant of this stream, for its sender report; `None` when it sent
    /// nothing since the last.
    pub(crate) fn report_clock(&mut self, now: Timestamp, ntp: NtpTime) -> Option<SenderClock> {
        let (sent, timestamp) = self.last?;
        if self.reported == self.packets {
            return None;
        }
        self.reported = self.packets;
        let rate = self.format?.codec.clock_rate();
        // The publisher's own report ties its tracks together; until it comes, the time of sending must do.
        let rtp_timestamp = match self.clock {
            Some(clock) => {
                let elapsed = i128::from(ntp.0) - i128::from(clock.ntp.0);
                let units = (elapsed * i128::from(rate)) >> 32;
                clock.rtp_timestamp.wrapping_add(units as u32)
            }
            None => {
                let units = now.since(sent).as_micros() * u128::from(rate) / 1_000_000;
                timestamp.wrapping_add(units as u32)
            }
        };
        Some(SenderClock { ntp, rtp_timestamp })
    }

    /// The codec it carries now.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.format.map(|format| format.codec)
    }

    fn format_for(&mut self, plan: &MediaPlan, codec: Codec) -> Option<Format> {
        if let Some(format) = self.format.filter(|format| format.codec == codec) {
            return Some(format);
        }
        let agreed = plan
            .codecs
            .iter()
            .find(|agreed| agreed.codec.is_compatible_with(codec))?;
        let format = Format {
            codec,
            payload_type: agreed.payload_type,
            rtx_payload_type: agreed.rtx_payload_type,
        };
        // A key is pressed in a stream of something else.
        if !codec.is_event() {
            self.format = Some(format);
        }
        Some(format)
    }
}

fn source_of(packet: &Incoming<'_>) -> Source {
    // Seven-bit picture ids pass as they are: a receiver that sees them wrap at 128 expects nothing else.
    let picture = packet
        .vp8
        .and_then(|descriptor| match descriptor.picture_id {
            Some(PictureId::Bits15(picture_id)) => {
                let tl0picidx = descriptor.tl0_picture_index.unwrap_or(0);
                Some(Vp8Picture {
                    picture_id,
                    tl0picidx,
                })
            }
            _ => None,
        });
    Source {
        sequence: packet.sequence,
        timestamp: packet.timestamp,
        picture,
    }
}

/// The few bytes in front of a payload that differ from what was received.
#[derive(Default)]
struct Prefix {
    bytes: [u8; 16],
    len: usize,
}

impl Prefix {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds a VP8 descriptor with the new picture numbers; gives the payload that follows it.
    fn rewrite_picture<'a>(
        &mut self,
        packet: &Incoming<'a>,
        picture: Option<Vp8Picture>,
    ) -> &'a [u8] {
        let (Some(descriptor), Some(picture)) = (packet.vp8, picture) else {
            return packet.payload;
        };
        let rewritten = vp8::Descriptor {
            picture_id: Some(PictureId::Bits15(picture.picture_id)),
            tl0_picture_index: descriptor.tl0_picture_index.map(|_| picture.tl0picidx),
            ..descriptor
        };
        let written = rewritten.write(&mut self.bytes[self.len..]);
        self.len += written.expect("a descriptor has at most six bytes");
        packet.payload.get(descriptor.len()..).unwrap_or(&[])
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The header extensions passed on: those both ends agreed on and that are the media's own.
struct Extensions<'a> {
    elements: [(u8, &'a [u8]); 2],
    len: usize,
}

impl<'a> Extensions<'a> {
    fn of(plan: &MediaPlan, packet: &'a Incoming<'_>) -> Self {
        let mut extensions = Self {
            elements: [(0, &[]); 2],
            len: 0,
        };
        extensions.push(plan.extensions.audio_level, &packet.audio_level);
        extensions.push(plan.extensions.video_orientation, &packet.video_orientation);
        extensions
    }

    fn push(&mut self, id: Option<u8>, value: &'a Option<u8>) {
        if let (Some(id), Some(value)) = (id, value) {
            self.elements[self.len] = (id, std::slice::from_ref(value));
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[(u8, &'a [u8])] {
        &self.elements[..self.len]
    }
}

const _: () = assert!(OVERHEAD_BYTES < DATAGRAM_BYTES_MAX);

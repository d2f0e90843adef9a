//! A client's tracks: what it sends, and what it hears.

use std::time::Duration;

use super::{Outbox, Report, Trust};
use crate::limits::{KEYFRAME_REQUEST_INTERVAL, SRTP_OVERHEAD_BYTES_MAX};
use crate::plan::{Codec, LocalSource, MediaKind};
use crate::receive::{ReceiveStatistics, ReceivedPacket};
use crate::repair::{Arrival, NackGenerator, rtx};
use crate::rng::Rng;
use crate::sequence::SequenceWindow;
use crate::sim::source::{self, Clock, Said, Source, Stamp};
use crate::srtp::{Inbound, OpenError, Opened, Outbound, ReplayWindow, RtpPosition, SendSource};
use crate::time::{NtpTime, Timestamp, earliest};
use crate::wire::payload;
use crate::wire::rtcp::SenderSummary;
use crate::wire::rtp::{Header, HeaderFields, write_header};

/// Payload types and extension ids of every scripted peer.
pub(super) const OPUS: u8 = 111;
pub(super) const VP8: u8 = 96;
pub(super) const RTX: u8 = 97;
pub(super) const MID_ID: u8 = 4;
pub(super) const LEVEL_ID: u8 = 1;
pub(super) const TRANSPORT_ID: u8 = 3;
pub(super) const RID_ID: u8 = 5;

/// Packets a sender keeps for those who miss them: 2 s of a camera.
const CACHE_PACKETS: usize = 256;
/// Header, extensions, original sequence number and the authentication tag.
const OVERHEAD_BYTES: usize = 64 + SRTP_OVERHEAD_BYTES_MAX;
/// Between two requests for one packet.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Sequence numbers one NACK of ours names.
const NACKS_MAX: usize = 32;

/// A track a peer sends.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) source: Source,
    pub(super) ssrc: u32,
    media: SendSource,
    /// The source of retransmissions, its next number, and the bytes to send again.
    rtx: Option<(SendSource, u16)>,
    cache: Vec<(u16, u32, bool, Vec<u8>)>,
    first: u16,
    first_timestamp: u32,
    number: u32,
    bytes: u32,
    /// RTP timestamp of the last packet and when it left.
    last: Option<(u32, Timestamp)>,
    rid: Option<&'static [u8]>,
}

impl Sending {
    /// The right to send as `ssrc` (and its retransmissions) is taken from `keys`.
    pub(super) fn new(
        source: Source,
        (ssrc, rtx): (u32, Option<u32>),
        rid: Option<&'static [u8]>,
        keys: &mut Outbound,
        rng: &mut Rng,
    ) -> Option<Self> {
        Some(Self {
            source,
            ssrc,
            media: keys.claim(ssrc)?,
            rtx: match rtx {
                Some(rtx) => Some((keys.claim(rtx)?, rng.below(1 << 15) as u16)),
                None => None,
            },
            cache: Vec::new(),
            // Close to the wrap for half of them; below it, as SRTP wants.
            first: rng.below(1 << 15) as u16 | (rng.below(2) as u16 * 0x7f00),
            first_timestamp: rng.u32(),
            number: 0,
            bytes: 0,
            last: None,
            rid,
        })
    }

    /// Packets sent.
    pub(super) const fn count(&self) -> u32 {
        self.number
    }

    /// Makes, seals and sends the next packet.
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        member: u32,
        transport: &mut u16,
        (clock, rng): (&Clock, &mut Rng),
        keys: &Outbound,
        out: &mut Outbox<'_>,
    ) {
        let video = self.source.kind() == MediaKind::Video;
        let number = self.first.wrapping_add(self.number as u16);
        // Those kept for retransmission are made where they are kept.
        let slot = if self.rtx.is_some() {
            self.number as usize % CACHE_PACKETS
        } else {
            0
        };
        if self.cache.len() <= slot {
            self.cache.push((0, 0, false, Vec::new()));
        }
        let (cached_number, cached_timestamp, cached_marker, payload) = &mut self.cache[slot];
        let made = self
            .source
            .make(now, rng, clock, (member, self.number), payload);
        let fields = HeaderFields {
            payload_type: if video { VP8 } else { OPUS },
            marker: made.marker,
            sequence_number: number,
            timestamp: self.first_timestamp.wrapping_add(made.timestamp),
            ssrc: self.ssrc,
        };
        (*cached_number, *cached_timestamp, *cached_marker) =
            (number, fields.timestamp, made.marker);
        let level = made
            .level
            .map(|(level, voice)| [level | u8::from(voice) << 7]);
        let counter = transport.to_be_bytes();
        let extensions = match (&level, self.rid) {
            (Some(level), _) => [(LEVEL_ID, &level[..]), (MID_ID, b"0")],
            (None, None) => [(TRANSPORT_ID, &counter[..]), (MID_ID, b"1")],
            (None, Some(rid)) => [(TRANSPORT_ID, &counter[..]), (RID_ID, rid)],
        };
        *transport = transport.wrapping_add(u16::from(video));
        let media = &mut self.media;
        out.send_with(OVERHEAD_BYTES + payload.len(), |bytes| {
            let header = write_header(bytes, &fields, &extensions)?;
            let sealed = keys.seal_rtp(media, number, bytes, header, &[], payload);
            Some(sealed.expect("a fresh number below the wrap at first"))
        });
        self.number += 1;
        self.bytes = self.bytes.wrapping_add(payload.len() as u32);
        self.last = Some((fields.timestamp, now));
    }

    /// Sends a packet again (RFC 4588), if it is kept; whether it did.
    pub(super) fn resend(&mut self, number: u16, keys: &Outbound, out: &mut Outbox<'_>) -> bool {
        let Some((rtx, next)) = &mut self.rtx else {
            return false;
        };
        let Some((_, timestamp, marker, payload)) =
            self.cache.iter().find(|(kept, ..)| *kept == number)
        else {
            return false;
        };
        let fields = HeaderFields {
            payload_type: RTX,
            marker: *marker,
            sequence_number: *next,
            timestamp: *timestamp,
            ssrc: rtx.ssrc(),
        };
        let original = number.to_be_bytes();
        out.send_with(OVERHEAD_BYTES + payload.len(), |bytes| {
            let header = write_header(bytes, &fields, &[(MID_ID, b"1")])?;
            let sealed = keys.seal_rtp(rtx, *next, bytes, header, &original, payload);
            Some(sealed.expect("a fresh number"))
        });
        *next = next.wrapping_add(1);
        true
    }

    /// What a sender report says; `None` before the first packet.
    pub(super) fn summary(&self, now: Timestamp, ntp: NtpTime) -> Option<SenderSummary> {
        let (timestamp, sent) = self.last?;
        let rate = match self.source.kind() {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        };
        let units = now.since(sent).as_micros() * rate / 1_000_000;
        Some(SenderSummary {
            ssrc: self.ssrc,
            ntp,
            rtp_timestamp: timestamp.wrapping_add(units as u32),
            packets: self.number,
            bytes: self.bytes,
        })
    }
}

/// A track as it was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Audio or video.
    pub kind: MediaKind,
    /// Packets that opened, each once.
    pub packets: u64,
    /// Of these, those that came as retransmissions.
    pub recovered: u64,
    /// Packets of silence that came before their source was known: they bear too little to be told.
    pub unclaimed: u64,
    /// When the last one came, and the longest time between two since gaps were measured.
    pub last: Option<Timestamp>,
    /// See [`Heard::last`].
    pub longest_gap: Duration,
    /// Who was heard in it, in order of appearance.
    pub sources: Vec<HeardSource>,
    /// Hash of time and stamp of every packet, in order.
    pub hash: u64,
    /// How far it must be as its sources made it.
    pub trust: Trust,
}

/// One publisher of a track as it was heard.
#[derive(Clone, Copy, Debug)]
pub struct HeardSource {
    /// The member that sent it.
    pub member: u32,
    /// Numbers of the first and the highest packet heard.
    pub first: u32,
    /// See [`HeardSource::first`].
    pub highest: u32,
    /// Packets heard, those of silence included.
    pub packets: u32,
    /// From its numbers to the server's: sequence number, timestamp, picture id.
    offsets: (u64, u32, u16),
}

/// A track a peer receives.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) local: LocalSource,
    pub(super) statistics: ReceiveStatistics,
    window: ReplayWindow,
    rtx_window: ReplayWindow,
    nack: Option<NackGenerator>,
    keyframe_asked: Option<Timestamp>,
    /// Place in the report.
    pub(super) place: usize,
    seen: SequenceWindow,
}

impl Receiving {
    pub(super) fn new(kind: MediaKind, local: LocalSource, place: usize) -> Self {
        Self {
            local,
            statistics: ReceiveStatistics::new(local.ssrc),
            window: ReplayWindow::default(),
            rtx_window: ReplayWindow::default(),
            nack: (kind == MediaKind::Video).then(NackGenerator::default),
            keyframe_asked: None,
            place,
            seen: SequenceWindow::default(),
        }
    }

    /// Opens a packet of this track and judges it.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        keys: &Inbound,
        header: &Header,
        packet: &mut [u8],
        report: &mut Report,
    ) {
        let repaired = Some(header.ssrc) == self.local.rtx;
        let Some(opened) = self.open(keys, header, packet, repaired, report) else {
            return;
        };
        let Ok(payload) = header.payload(&packet[..opened.length]) else {
            report.find(|| "a packet has bad padding".to_owned());
            return;
        };
        let (index, payload) = if repaired {
            let Some((number, payload)) = rtx::parse(payload) else {
                return;
            };
            let index = self.nack.as_ref().and_then(|nack| nack.extend(number));
            let Some(index) = index else { return };
            (index, payload)
        } else {
            let clock_rate = match report.heard[self.place].kind {
                MediaKind::Audio => 48_000,
                MediaKind::Video => 90_000,
            };
            self.statistics.note_received(ReceivedPacket {
                received: now,
                sequence: opened.index,
                timestamp: header.timestamp,
                clock_rate,
                bytes: payload.len(),
                retransmitted: false,
            });
            (opened.index, payload)
        };
        if self.is_new(now, index, payload) {
            let packet = HeardPacket {
                index,
                timestamp: header.timestamp,
                payload,
                repaired,
            };
            report.hear(now, self.place, &packet);
        }
    }

    /// The network may have doubled a packet; that it does not open otherwise is a finding.
    fn open(
        &mut self,
        keys: &Inbound,
        header: &Header,
        packet: &mut [u8],
        repaired: bool,
        report: &mut Report,
    ) -> Option<Opened> {
        let window = if repaired {
            &mut self.rtx_window
        } else {
            &mut self.window
        };
        let position = RtpPosition {
            ssrc: header.ssrc,
            sequence_number: header.sequence_number,
            header_len: header.len,
        };
        match keys.open_rtp(window, position, packet) {
            Ok(opened) => Some(opened),
            Err(OpenError::Replayed) => None,
            Err(error) => {
                report.find(|| format!("a packet does not open: {error}"));
                None
            }
        }
    }

    /// Whether this number has not come before, as a packet or as a retransmission.
    fn is_new(&mut self, now: Timestamp, index: u64, payload: &[u8]) -> bool {
        let Some(nack) = &mut self.nack else {
            let is_fresh = self.seen.is_fresh(index);
            if is_fresh {
                self.seen.note(index);
            }
            return is_fresh;
        };
        if nack.note_received(now, index) == Arrival::Duplicate {
            return false;
        }
        if payload::is_keyframe(Codec::Vp8, payload) {
            nack.note_keyframe(index);
        }
        true
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let nack = self.nack.as_ref()?;
        let keyframe = nack.needs_keyframe().then(|| {
            let asked = self.keyframe_asked;
            asked.map_or(Timestamp::ZERO, |asked| asked + KEYFRAME_REQUEST_INTERVAL)
        });
        earliest(nack.deadline(), keyframe)
    }

    /// Numbers to ask for, and whether to ask for a keyframe.
    pub(super) fn poll(&mut self, now: Timestamp) -> (Vec<u16>, bool) {
        let Some(nack) = &mut self.nack else {
            return (Vec::new(), false);
        };
        let mut missing = vec![0; NACKS_MAX];
        let count = nack.poll(now, ROUND_TRIP, &mut missing);
        missing.truncate(count);
        let asked = self.keyframe_asked;
        let is_due = asked.is_none_or(|asked| now.since(asked) >= KEYFRAME_REQUEST_INTERVAL);
        let keyframe = nack.needs_keyframe() && is_due;
        if keyframe {
            self.keyframe_asked = Some(now);
        }
        (missing, keyframe)
    }
}

/// An opened packet, with the server's numbers.
#[derive(Clone, Copy, Debug)]
pub struct HeardPacket<'a> {
    /// Extended sequence number.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Payload.
    pub payload: &'a [u8],
    /// It came as a retransmission.
    pub repaired: bool,
}

impl Heard {
    /// Nothing yet.
    #[must_use]
    pub const fn new(kind: MediaKind, trust: Trust) -> Self {
        Self {
            kind,
            packets: 0,
            recovered: 0,
            unclaimed: 0,
            last: None,
            longest_gap: Duration::ZERO,
            sources: Vec::new(),
            hash: 0,
            trust,
        }
    }

    /// The longest time without a packet since gaps were measured, `now` being the end.
    #[must_use]
    pub fn gap_until(&self, now: Timestamp) -> Duration {
        self.last
            .map_or(Duration::MAX, |last| self.longest_gap.max(now.since(last)))
    }

    fn note(&mut self, now: Timestamp, mixed: u64, repaired: bool) {
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now.since(last));
        }
        self.last = Some(now);
        self.packets += 1;
        self.recovered += u64::from(repaired);
        let hash = self.hash ^ mixed ^ now.as_nanos().rotate_left(32);
        self.hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl Report {
    /// Notes a packet of a track, seen for the first time, and judges it: what a server that only forwards cannot do
    /// to a packet, it must not have done.
    ///
    /// # Panics
    /// When there is no such track in [`Report::heard`].
    pub fn hear(&mut self, now: Timestamp, place: usize, packet: &HeardPacket<'_>) {
        let heard = &mut self.heard[place];
        let (stamp, picture) = match source::read(heard.kind, packet.payload) {
            Said::Stamped(stamp, picture) => (stamp, picture),
            Said::Silence(member, number) => {
                heard.note(now, 1, packet.repaired);
                let sources = &mut heard.sources.iter_mut();
                let source = sources.rfind(|source| source.member as u8 == member);
                let whole =
                    |source: &HeardSource| packet.index.wrapping_sub(source.offsets.0) as u32;
                // It is its source's if its number is, too.
                let is_its = |source: &&mut HeardSource| {
                    let whole = whole(source);
                    whole as u8 == number && whole >= source.first
                };
                match source.filter(is_its) {
                    Some(source) => {
                        source.packets += 1;
                        source.highest = source.highest.max(whole(source));
                    }
                    None => heard.unclaimed += 1,
                }
                return;
            }
            Said::Damaged => {
                heard.note(now, 2, packet.repaired);
                if heard.trust != Trust::Nothing {
                    let len = packet.payload.len();
                    self.find(|| format!("{now}: a payload of {len} bytes is damaged"));
                }
                return;
            }
        };
        heard.note(
            now,
            u64::from(stamp.member) << 32 | u64::from(stamp.number),
            packet.repaired,
        );
        let offsets = offsets(packet, stamp, picture);
        let found = heard
            .sources
            .iter_mut()
            .rfind(|source| source.member == stamp.member);
        match found {
            None => heard.sources.push(HeardSource {
                member: stamp.member,
                first: stamp.number,
                highest: stamp.number,
                packets: 1,
                offsets,
            }),
            Some(source) => {
                source.packets += 1;
                source.first = source.first.min(stamp.number);
                source.highest = source.highest.max(stamp.number);
                let expected = source.offsets;
                // Retransmissions of VP8 carry the picture id too; what carries none has none to check.
                if expected != offsets && heard.trust == Trust::Everything {
                    source.offsets = offsets;
                    self.find(|| {
                    format!(
                        "{now}: the numbering of {stamp:?} moved from {expected:?} to {offsets:?}"
                    )
                });
                }
            }
        }
    }
}

fn offsets(packet: &HeardPacket<'_>, stamp: Stamp, picture: Option<u16>) -> (u64, u32, u16) {
    let picture = picture.map_or(0, |id| id.wrapping_sub(stamp.picture) & 0x7fff);
    (
        packet.index.wrapping_sub(u64::from(stamp.number)),
        packet.timestamp.wrapping_sub(stamp.timestamp),
        picture,
    )
}

//! Packet captures played again: frames of a file in, a report on the media in them out.
//!
//! ```text
//! file ─ CaptureReader ─┬─ Frame ─► layers ─► fragments ─► datagram ─┬─► DTLS ─► hellos ─┐
//!                       │                                            │                   ▼
//!                       └─ KeyLog ──────────────────────────────────────────────────► keys
//!                                                                    │                   │
//!                                                                    └─► RTP, RTCP ─► opened ─► streams ─► Report
//! ```
//!
//! What a replay does depends on the file and its settings alone: the same twice gives the same report. Time is the
//! capture's and never goes back, whatever the stamps say. A file is hostile until shown otherwise: every table has a
//! limit, nothing in it can make this panic, and what cannot be used is counted by its reason.
//!
//! SRTP is opened by the contexts that sessions use ([`crate::srtp`]); keys come from a key log, from the file's own
//! secrets block, or from whoever knows them.

mod assembly;
mod codec;
mod file;
mod hearing;
mod hello;
mod keys;
mod layers;
pub mod pcapng;
mod playout;
mod report;
mod stream;

pub use codec::{Codec, CodecError, Codecs};
pub use file::{CaptureError, CaptureReader, Frame, Item};
pub use hearing::Hearing;
pub use keys::{CaptureProfile, KeyLog};
pub use playout::{Playout, PlayoutReport};
pub use report::{Flow, Report, Skip, SrtpReport, StreamReport, Totals};

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use assembly::Fragments;
use hello::Hellos;
use keys::{KeyRing, Opening};
use layers::Udp;
use stream::{Arrivals, Noted, Placed, Seen, Streams};

use crate::limits::REPLAY_FLOWS_MAX;
use crate::srtp::{Inbound, RtpPosition};
use crate::time::Timestamp;
use crate::wire::rtp::{FIXED_HEADER_BYTES, Header};
use crate::wire::{self, Class};

/// RFC 8489 §5.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Which clock tells when a packet arrives, and so what jitter, bitrate and durations are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// The capture's stamps.
    #[default]
    Capture,
    /// A packet arrives when its media time is due, counted from its stream's first. For captures whose stamps are
    /// worthless: jitter then shows disorder alone. A stream without a clock rate keeps the capture's stamps.
    Rtp,
    /// All at once: nothing is measured by time.
    Asap,
}

/// What a replay is told beside the file.
#[derive(Debug, Default)]
pub struct Settings {
    /// Which clock to go by.
    pub pace: Pace,
    /// What payload types mean.
    pub codecs: Codecs,
    /// SRTP keys; which flow they belong to is found by trying.
    pub keys: Vec<Inbound>,
    /// Secrets of the DTLS handshakes in the file.
    pub key_log: KeyLog,
}

/// An RTP packet whose contents are in the clear, or were opened.
#[derive(Clone, Copy, Debug)]
pub struct MediaPacket<'a> {
    /// From where to where.
    pub flow: Flow,
    /// Its source.
    pub ssrc: u32,
    /// With it, or before, its stream is one beyond doubt.
    pub is_confirmed: bool,
    /// When it arrived, by the clock of the replay, which for one stream never goes back; `None`: at no time.
    pub arrived: Option<Timestamp>,
    /// What it carries, if that is known.
    pub codec: Option<&'a Codec>,
    /// Its sequence number, extended.
    pub sequence: u64,
    /// Media time in units of the codec's clock.
    pub timestamp: u32,
    /// First packet after a silence, of audio.
    pub marker: bool,
    /// Without header, extensions and padding.
    pub payload: &'a [u8],
}

/// Takes the media of a capture, in the order of the file: of each stream every packet once that is none of another's.
pub trait MediaSink {
    /// The next packet.
    fn take(&mut self, packet: &MediaPacket<'_>);
}

/// Takes nothing.
impl MediaSink for () {
    fn take(&mut self, _packet: &MediaPacket<'_>) {}
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    settings: Settings,
    clock: Clock,
    fragments: Fragments,
    hellos: Hellos,
    keys: KeyRing,
    streams: Streams,
    /// Pairs of addresses between which something beside RTP's first bytes suggests media.
    media_pairs: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Those of them between which a handshake says that media is sealed.
    sealed_pairs: BTreeSet<(SocketAddr, SocketAddr)>,
    totals: Totals,
}

/// Simulated time: the stamps of the frames, made to go forward.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// The first stamp and the highest, in nanoseconds since 1970.
    span: Option<(u64, u64)>,
    steps_back: u64,
    step_back_max: u64,
}

impl Replay {
    /// A replay of nothing yet.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        let keys = KeyRing::new(std::mem::take(&mut settings.keys));
        Self {
            settings,
            clock: Clock::default(),
            fragments: Fragments::default(),
            hellos: Hellos::default(),
            keys,
            streams: Streams::default(),
            media_pairs: BTreeSet::new(),
            sealed_pairs: BTreeSet::new(),
            totals: Totals::default(),
        }
    }

    /// Takes what the file holds next.
    pub fn handle(&mut self, item: Item<'_>) {
        self.handle_to(item, &mut ());
    }

    /// The same, and hands on the media in it.
    pub fn handle_to(&mut self, item: Item<'_>, sink: &mut dyn MediaSink) {
        match item {
            Item::Frame(frame) => self.handle_frame(frame, sink),
            Item::KeyLog(lines) => {
                if self.settings.key_log.add(lines) > 0 {
                    self.keys.add_secrets(&self.settings.key_log);
                }
            }
            Item::Dropped(count) => self.note_dropped(count),
            Item::Unusable => self.skip(Skip::UnusableRecord, 1),
        }
    }

    /// All that was found.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let lost = std::mem::take(&mut self.fragments).into_lost();
        self.skip(Skip::FragmentAlone, lost);
        let media_pairs = std::mem::take(&mut self.media_pairs);
        let (streams, alone) = std::mem::take(&mut self.streams)
            .into_reports(|flow| media_pairs.contains(&flow.pair()));
        self.skip(Skip::RtpAlone, alone);
        let mut totals = self.totals;
        totals.srtp.keys = self.keys.len() as u64;
        totals.srtp.secrets = self.settings.key_log.len() as u64;
        totals.srtp.secrets_missing = self.keys.secrets_missing() as u64;
        totals.stamps_back = self.clock.steps_back;
        totals.stamp_back_max = Duration::from_nanos(self.clock.step_back_max);
        totals.duration = self.clock.passed().since(Timestamp::ZERO);
        Report {
            pace: self.settings.pace,
            streams,
            totals,
        }
    }

    fn handle_frame(&mut self, frame: Frame<'_>, sink: &mut dyn MediaSink) {
        self.totals.frames += 1;
        self.note_dropped(frame.dropped_before);
        self.clock.advance(frame.stamp);
        let packet = match layers::ip_packet(frame.link, frame.bytes, frame.wire_len) {
            Ok(packet) => packet,
            Err(skip) => return self.skip(skip, 1),
        };
        let (source, destination) = (packet.source, packet.destination);
        let Some(fragment) = packet.fragment else {
            let udp = layers::udp(source, destination, packet.payload, packet.wire_len);
            return self.handle_udp(frame.stamp, udp, sink);
        };
        self.totals.fragments += 1;
        match self.fragments.add(self.clock.passed(), &packet, fragment) {
            Ok(None) => {}
            Ok(Some(whole)) => {
                self.totals.reassembled += 1;
                let udp = layers::udp(source, destination, &whole, whole.len());
                self.handle_udp(frame.stamp, udp, sink);
            }
            Err(skip) => self.skip(skip, 1),
        }
    }

    fn handle_udp(&mut self, stamp: u64, udp: Result<Udp<'_>, Skip>, sink: &mut dyn MediaSink) {
        let udp = match udp {
            Ok(udp) => udp,
            Err(skip) => return self.skip(skip, 1),
        };
        self.totals.udp += 1;
        self.totals.truncated_udp += u64::from(udp.truncated);
        let flow = Flow {
            source: udp.source,
            destination: udp.destination,
        };
        let payload = udp.payload;
        match wire::classify(payload) {
            Class::Stun if payload.get(4..8) == Some(&STUN_COOKIE) => {
                self.totals.stun += 1;
                self.note_media(flow);
            }
            Class::Dtls => {
                self.totals.dtls += 1;
                self.handle_dtls(flow, payload);
            }
            Class::Rtcp => {
                self.totals.rtcp += 1;
                self.handle_rtcp(flow, &udp);
            }
            Class::Rtp if payload.len() >= FIXED_HEADER_BYTES => {
                self.totals.rtp += 1;
                self.handle_rtp(stamp, flow, &udp, sink);
            }
            Class::Unknown if matches!(payload, [64..=79, ..]) => self.totals.turn_channel += 1,
            Class::Stun | Class::Rtp | Class::Unknown => self.totals.other_udp += 1,
        }
    }

    fn handle_dtls(&mut self, flow: Flow, datagram: &[u8]) {
        let Some(handshake) = self.hellos.handle(flow, datagram) else {
            return;
        };
        self.note_media(flow);
        if self.sealed_pairs.len() < REPLAY_FLOWS_MAX {
            self.sealed_pairs.insert(flow.pair());
        }
        self.totals.srtp.handshakes += 1;
        if handshake.is_supported && handshake.srtp_profile.is_some() {
            self.keys.add_handshake(&self.settings.key_log, handshake);
        } else {
            self.totals.srtp.handshakes_unusable += 1;
        }
    }

    fn handle_rtcp(&mut self, flow: Flow, udp: &Udp<'_>) {
        // Its first packet is in the clear and says its length in words less one.
        if let [_, _, high, low, ..] = *udp.payload {
            let len = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
            if len <= udp.payload.len() {
                self.note_media(flow);
            }
        }
        self.open(flow, None, udp);
    }

    fn handle_rtp(&mut self, stamp: u64, flow: Flow, udp: &Udp<'_>, sink: &mut dyn MediaSink) {
        let Ok(header) = Header::parse(udp.payload) else {
            return self.skip(Skip::MalformedRtp, 1);
        };
        let position = RtpPosition {
            ssrc: header.ssrc,
            sequence_number: header.sequence_number,
            header_len: header.len,
        };
        let seen = Seen {
            header,
            bytes: udp.payload.len() as u64,
            truncated: udp.truncated,
            opened: self.open(flow, Some(position), udp),
            stamp,
        };
        let arrivals = match self.settings.pace {
            Pace::Capture => Arrivals::Capture,
            Pace::Rtp => Arrivals::Media,
            Pace::Asap => Arrivals::None,
        };
        if seen.opened {
            self.note_media(flow);
        }
        match self
            .streams
            .note(flow, &seen, &self.settings.codecs, arrivals)
        {
            Noted::Beyond => self.skip(Skip::RtpBeyondLimit, 1),
            Noted::Counted {
                is_confirmed,
                given_up,
                place,
            } => {
                self.skip(Skip::RtpAlone, given_up);
                if is_confirmed {
                    self.note_media(flow);
                }
                if let Some(place) = place {
                    self.hand_on(flow, &seen, place, udp, sink);
                }
            }
        }
    }

    /// Hands on the contents of a packet, if they are what was said and not what was sealed.
    fn hand_on(
        &self,
        flow: Flow,
        seen: &Seen,
        place: Placed,
        udp: &Udp<'_>,
        sink: &mut dyn MediaSink,
    ) {
        let packet = match seen.opened {
            true => self.keys.opened(),
            false if self.keys.len() > 0 || self.sealed_pairs.contains(&flow.pair()) => return,
            false => udp.payload,
        };
        let header = &seen.header;
        let Some(payload) = header.payload(packet).ok().filter(|_| !seen.truncated) else {
            return;
        };
        sink.take(&MediaPacket {
            flow,
            ssrc: header.ssrc,
            is_confirmed: place.is_confirmed,
            arrived: place.arrived.map(Timestamp::from_nanos),
            codec: self.settings.codecs.codec(header.payload_type),
            sequence: place.number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
        });
    }

    /// Whether a key opens it; what came of it is counted.
    fn open(&mut self, flow: Flow, rtp: Option<RtpPosition>, udp: &Udp<'_>) -> bool {
        let srtp = &mut self.totals.srtp;
        if udp.truncated {
            srtp.truncated += u64::from(self.keys.len() > 0);
            return false;
        }
        let opening = self.keys.open(flow, rtp, udp.payload);
        let count = match opening {
            Opening::Plain => return false,
            Opening::Opened if rtp.is_some() => &mut srtp.rtp_opened,
            Opening::Opened => &mut srtp.rtcp_opened,
            Opening::Replayed => &mut srtp.replayed,
            Opening::Refused => &mut srtp.refused,
            Opening::Unkeyed => &mut srtp.unkeyed,
        };
        *count += 1;
        opening == Opening::Opened
    }

    fn note_media(&mut self, flow: Flow) {
        if self.media_pairs.len() < REPLAY_FLOWS_MAX {
            self.media_pairs.insert(flow.pair());
        }
    }

    fn note_dropped(&mut self, count: u64) {
        let dropped = &mut self.totals.capture_dropped;
        *dropped = dropped.saturating_add(count);
    }

    fn skip(&mut self, reason: Skip, count: u64) {
        if count > 0 {
            *self.totals.skipped.entry(reason).or_insert(0) += count;
        }
    }
}

impl Clock {
    fn advance(&mut self, stamp: u64) {
        let (first, highest) = self.span.unwrap_or((stamp, stamp));
        self.span = Some((first, highest.max(stamp)));
        if let Some(step) = highest.checked_sub(stamp).filter(|step| *step > 0) {
            self.steps_back += 1;
            self.step_back_max = self.step_back_max.max(step);
        }
    }

    /// Simulated time: since the first frame.
    fn passed(&self) -> Timestamp {
        let (first, highest) = self.span.unwrap_or_default();
        Timestamp::from_nanos(highest - first)
    }
}

#[cfg(test)]
mod tests;

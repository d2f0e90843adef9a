//! The media half of a session: SRTP contexts, one receiver a source, one sender a section.
//!
//! It opens what the peer sends and says what it was; where it goes is the shard's business.

mod feedback;
mod mark;
mod receiver;
mod sender;
mod source;
mod statistics;
mod track;

use std::time::Duration;

use antiphon_prefetch::prefetch;

pub(crate) use self::feedback::Ask;
pub(crate) use self::mark::MediaMark;
pub(crate) use self::receiver::{Carries, KeyframeThrottle, Receiver, SenderClock};
pub(crate) use self::sender::{Forwarded, Sender};
pub(crate) use self::source::SourceDecoder;
pub(crate) use self::track::{Follower, Track};
use crate::limits::{SESSION_SSRCS_MAX, SOURCE_SILENCE, UNANNOUNCED_SSRCS_MAX};
use crate::message::{DropReason, ProfileName};
use crate::net::Path;
use crate::plan::{Codec, CodecPlan, LocalSource, MediaKind, MediaPlan, SessionPlan};
use crate::rate::FeedbackRecorder;
use crate::receive::ReceivedPacket;
use crate::repair::{self, Arrival};
use crate::rng::Rng;
use crate::session::Context;
use crate::shard::{Depth, Tuning};
use crate::srtp::{Inbound, OpenError, Outbound, ReplayWindow, RtpPosition};
use crate::time::{Timestamp, earliest};
use crate::wire::payload::{self, event, vp8};
use crate::wire::rtp::{self, AudioLevel, Header};

/// One opened packet of a track, lent for forwarding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    /// Media section of the publisher.
    pub(crate) media: u8,
    /// Its source: the numbers below are of that alone.
    pub(crate) ssrc: u32,
    pub(crate) codec: Codec,
    /// Extended by the rollover counter.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// A key picture starts in it.
    pub(crate) keyframe: bool,
    pub(crate) payload: &'a [u8],
    /// RFC 6464: level and voice bit.
    pub(crate) audio_level: Option<u8>,
    pub(crate) video_orientation: Option<u8>,
    pub(crate) vp8: Option<vp8::Descriptor>,
    pub(crate) clock: Option<SenderClock>,
    /// When the kernel had it.
    pub(crate) received: Timestamp,
    /// First packet of its track, or first after a BYE.
    pub(crate) first: bool,
}

impl Incoming<'_> {
    /// Its level in -dBov.
    pub(crate) fn level(&self) -> Option<u8> {
        let level = AudioLevel::from_extension(&[self.audio_level?])?;
        Some(level.level_dbov)
    }
}

#[derive(Debug)]
struct Keys {
    profile: ProfileName,
    inbound: Inbound,
    outbound: Outbound,
}

/// Media state of one session.
#[derive(Debug)]
pub(crate) struct Media {
    plan: Box<SessionPlan>,
    tuning: Tuning,
    keys: Option<Box<Keys>>,
    receivers: Vec<Receiver>,
    /// Source and place of each receiver, by source.
    receiver_places: Vec<(u32, u8)>,
    /// Where the last packet's receiver was: streams come in runs.
    last_receiver: usize,
    senders: Vec<Option<Box<Sender>>>,
    tracks: Vec<Track>,
    /// Sender of our reports where we send no media.
    report_ssrc: u32,
    recorder: Option<Box<FeedbackRecorder>>,
    /// Not later than any deadline of the recorder and the receivers. Kept, not sought: sessions of many
    /// tracks would pay for each of them with every packet.
    feedback_due: Option<Timestamp>,
    clock_offset: receiver::ClockOffset,
    next_report: Timestamp,
    round_trip: Option<Duration>,
    packets_received: u64,
    packets_sent: u64,
}

/// A packet as it lies in the receive buffer: which receiver, and how far it was opened.
#[derive(Clone, Copy)]
struct Opened {
    receiver: usize,
    len: usize,
    index: u64,
}

/// An opened packet and when it came.
struct Arrived<'h, 'a> {
    now: Timestamp,
    received: Timestamp,
    header: &'h Header,
    packet: &'a [u8],
    payload: &'a [u8],
    opened: Opened,
}

impl Media {
    /// Media state for a plan, with a source of ours for each section we send in.
    pub(crate) fn new(
        plan: Box<SessionPlan>,
        tuning: Tuning,
        rng: &mut Rng,
    ) -> (Self, Vec<Option<LocalSource>>) {
        let sources: Vec<_> = plan
            .media
            .iter()
            .map(|media| local_source(media, rng))
            .collect();
        let senders = sources
            .iter()
            .zip(&plan.media)
            .map(|(source, media)| {
                let clock_rate = media
                    .codecs
                    .first()
                    .map_or(90_000, |c| c.codec.clock_rate());
                source.map(|source| Box::new(Sender::new(source, clock_rate, rng)))
            })
            .collect();
        let feedback = plan.media.iter().any(wants_transport_feedback);
        let media = Self {
            tracks: plan.media.iter().map(|_| Track::default()).collect(),
            plan,
            tuning,
            keys: None,
            receivers: Vec::new(),
            receiver_places: Vec::new(),
            last_receiver: 0,
            senders,
            report_ssrc: rng.u32(),
            recorder: feedback.then(Box::default),
            feedback_due: None,
            clock_offset: receiver::ClockOffset::default(),
            next_report: Timestamp::ZERO,
            round_trip: None,
            packets_received: 0,
            packets_sent: 0,
        };
        (media, sources)
    }

    /// Media can flow from now on.
    pub(crate) fn install_keys(
        &mut self,
        profile: ProfileName,
        inbound: Inbound,
        mut outbound: Outbound,
    ) {
        for sender in self.senders.iter_mut().flatten() {
            sender.claim(&mut outbound);
        }
        self.keys = Some(Box::new(Keys {
            profile,
            inbound,
            outbound,
        }));
    }

    pub(crate) const fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub(crate) fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// Opens an SRTP packet in place and says what it is. Nothing: it was only padding.
    pub(crate) fn receive_rtp<'a>(
        &mut self,
        cx: &mut Context<'_>,
        received: Timestamp,
        packet: &'a mut [u8],
        incoming: &mut Option<Incoming<'a>>,
    ) -> Result<(), DropReason> {
        let header = Header::parse(packet).map_err(|_| DropReason::MalformedRtp)?;
        let opened = match self.find_receiver(header.ssrc) {
            Some(receiver) => self.open_known(receiver, &header, packet)?,
            None => self.open_new(cx.now, &header, packet)?,
        };
        cx.stats.rtp_received += 1;
        self.packets_received += 1;
        let packet = packet.get(..opened.len).ok_or(DropReason::MalformedRtp)?;
        self.note_transport_sequence(&header, packet, opened.receiver, received);
        let payload = header
            .payload(packet)
            .map_err(|_| DropReason::MalformedRtp)?;
        // Made for each alone: what is lent to a function that is called lies in memory, for both.
        let arrived = || Arrived {
            now: cx.now,
            received,
            header: &header,
            packet,
            payload,
            opened,
        };
        match self.receivers[opened.receiver].carries {
            Carries::Media => self.accept(&arrived(), incoming),
            Carries::Retransmissions => self.accept_repaired(&arrived(), incoming),
        }
    }

    /// Whether anyone follows a track: otherwise its packets end here.
    pub(crate) fn has_followers(&self, media: u8) -> bool {
        let track = self.tracks.get(usize::from(media));
        track.is_some_and(|track| !track.followers.is_empty())
    }

    /// Followers of a track, taken out of it.
    pub(crate) fn take_followers(&mut self, media: u8) -> Vec<Follower> {
        self.track_mut(media)
            .map(Track::take_followers)
            .unwrap_or_default()
    }

    /// A packet of a track that a follower asks for again.
    pub(crate) fn cached(&self, now: Timestamp, media: u8, sequence: u64) -> Option<Incoming<'_>> {
        let track = self.tracks.get(usize::from(media))?;
        let ssrc = track.source?;
        let mut receivers = self.receivers.iter();
        let codec = receivers.find(|receiver| receiver.ssrc == ssrc)?.codec;
        track.cached(now, media, codec, sequence)
    }

    /// A track, to let others follow it.
    pub(crate) fn track_mut(&mut self, media: u8) -> Option<&mut Track> {
        self.tracks.get_mut(usize::from(media))
    }

    /// How often its tracks are relayed, summed up over tracks and shards.
    pub(crate) fn relayed(&self) -> usize {
        self.tracks.iter().map(|track| track.shards.len()).sum()
    }

    /// Forwards a packet of the track that a section follows.
    pub(crate) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        path: Path,
        media: u8,
        packet: &Incoming<'_>,
    ) -> Forwarded {
        let section = usize::from(media);
        let (Some(keys), Some(Some(sender)), Some(plan)) = (
            &self.keys,
            self.senders.get_mut(section),
            self.plan.media.get(section),
        ) else {
            return Forwarded::Skipped;
        };
        let forwarded = sender.forward(cx, &keys.outbound, path, plan, packet);
        if forwarded == Forwarded::Sent {
            self.packets_sent += 1;
            cx.stats.rtp_sent += 1;
        }
        forwarded
    }

    /// Sends a cached packet of the track that a section follows again.
    pub(crate) fn retransmit(
        &mut self,
        cx: &mut Context<'_>,
        path: Path,
        media: u8,
        packet: &Incoming<'_>,
    ) {
        let round_trip = self.round_trip_or_default();
        let section = usize::from(media);
        let (Some(keys), Some(Some(sender)), Some(plan)) = (
            &self.keys,
            self.senders.get_mut(section),
            self.plan.media.get(section),
        ) else {
            return;
        };
        if sender.retransmit(cx, &keys.outbound, path, plan, packet, round_trip) {
            self.packets_sent += 1;
            cx.stats.rtp_sent += 1;
        }
    }

    /// Whether a key has no index left: then nothing more may be sealed, and the session must end.
    pub(crate) fn is_exhausted(&self) -> bool {
        let rtcp = self
            .keys
            .as_ref()
            .is_some_and(|keys| keys.outbound.is_rtcp_exhausted());
        rtcp || self
            .senders
            .iter()
            .flatten()
            .any(|sender| sender.is_exhausted())
    }

    /// The sending half of a section.
    pub(crate) fn sender_mut(&mut self, media: u8) -> Option<&mut Sender> {
        self.senders.get_mut(usize::from(media))?.as_deref_mut()
    }

    /// The sections that send, with what they follow.
    pub(crate) fn senders(&self) -> impl Iterator<Item = (u8, &Sender)> {
        let sections = self.senders.iter().enumerate();
        sections.filter_map(|(section, sender)| Some((section as u8, sender.as_deref()?)))
    }

    /// Sections whose track was told to have been added.
    pub(crate) fn alive_tracks(&self) -> impl Iterator<Item = u8> {
        let tracks = self.tracks.iter().zip(0..);
        tracks.filter_map(|(track, media)| track.told.0.then_some(media))
    }

    /// Asks for what a received packet will need beyond the session itself.
    pub(crate) fn prefetch_receiving(&self, depth: Depth) {
        let Some(receiver) = self.receivers.get(self.last_receiver) else {
            return;
        };
        match depth {
            Depth::Session => {}
            Depth::Parts => {
                prefetch(receiver);
                if let Some(keys) = &self.keys {
                    keys.inbound.prefetch_rtp();
                }
                prefetch(&self.plan.media);
            }
            Depth::Ends => {
                let section = usize::from(receiver.media);
                if let Some(track) = self.tracks.get(section) {
                    prefetch(track);
                }
                if let Some(plan) = self.plan.media.get(section) {
                    prefetch(plan);
                }
            }
        }
    }

    /// Asks for what a packet to be sent in a section will need beyond the session itself.
    pub(crate) fn prefetch_sending(&self, depth: Depth, media: u8) {
        let section = usize::from(media);
        match depth {
            Depth::Session => {}
            Depth::Parts => {
                if let Some(sender) = self.senders.get(section) {
                    prefetch(sender);
                }
                if let Some(keys) = &self.keys {
                    keys.outbound.prefetch_rtp();
                }
                prefetch(&self.plan.media);
            }
            Depth::Ends => {
                if let Some(Some(sender)) = self.senders.get(section) {
                    prefetch(&**sender);
                }
                if let Some(plan) = self.plan.media.get(section) {
                    prefetch(plan);
                }
            }
        }
    }

    /// Who will get the next packet, if it is of the source that sent the last.
    pub(crate) fn followers_of_recent(&self) -> &[Follower] {
        let receiver = self.receivers.get(self.last_receiver);
        let track = receiver.and_then(|receiver| self.tracks.get(usize::from(receiver.media)));
        track.map_or(&[], |track| &track.followers)
    }

    /// Round trip to the peer, or 100 ms before it is known.
    fn round_trip_or_default(&self) -> Duration {
        self.round_trip.unwrap_or(Duration::from_millis(100))
    }

    #[inline]
    fn find_receiver(&mut self, ssrc: u32) -> Option<usize> {
        if self
            .receivers
            .get(self.last_receiver)
            .is_some_and(|last| last.ssrc == ssrc)
        {
            return Some(self.last_receiver);
        }
        let found = self.find_place(ssrc).ok()?;
        self.last_receiver = usize::from(self.receiver_places[found].1);
        Some(self.last_receiver)
    }

    fn find_place(&self, ssrc: u32) -> Result<usize, usize> {
        self.receiver_places
            .binary_search_by_key(&ssrc, |(ssrc, _)| *ssrc)
    }

    fn open_known(
        &mut self,
        receiver: usize,
        header: &Header,
        packet: &mut [u8],
    ) -> Result<Opened, DropReason> {
        let keys = self.keys.as_ref().ok_or(DropReason::NoKeysYet)?;
        let window = &mut self.receivers[receiver].window;
        let opened = keys
            .inbound
            .open_rtp(window, position(header), packet)
            .map_err(refused)?;
        Ok(Opened {
            receiver,
            len: opened.length,
            index: opened.index,
        })
    }

    /// A source not seen before gets state only once its packet proved authentic and names a section.
    #[cold]
    fn open_new(
        &mut self,
        now: Timestamp,
        header: &Header,
        packet: &mut [u8],
    ) -> Result<Opened, DropReason> {
        let keys = self.keys.as_ref().ok_or(DropReason::NoKeysYet)?;
        let announced = self.announces(header.ssrc);
        if !self.has_place(announced) {
            return Err(DropReason::UnknownSsrc);
        }
        let mut window = ReplayWindow::default();
        let opened = keys
            .inbound
            .open_rtp(&mut window, position(header), packet)
            .map_err(refused)?;
        let (section, carries, codec) = self.identify(header, packet)?;
        if carries == Carries::Media && !self.may_feed(section, header.ssrc, now) {
            return Err(DropReason::UnknownSsrc);
        }
        let nack = carries == Carries::Media && codec.1;
        let source = (header.ssrc, announced);
        let mut receiver = Receiver::new(source, section, carries, codec.0, nack, now);
        receiver.window = window;
        Ok(Opened {
            receiver: self.put_receiver(receiver),
            len: opened.length,
            index: opened.index,
        })
    }

    /// Whether one more source may have a place: all keep theirs; see [`UNANNOUNCED_SSRCS_MAX`].
    fn has_place(&self, announced: bool) -> bool {
        let unannounced = self.receivers.iter().filter(|known| !known.announced);
        self.receivers.len() < SESSION_SSRCS_MAX
            && (announced || unannounced.count() < UNANNOUNCED_SSRCS_MAX)
    }

    fn put_receiver(&mut self, mut receiver: Receiver) -> usize {
        receiver.keyframes = KeyframeThrottle::new(self.tuning.keyframe_request_interval);
        let place = self.receivers.len();
        if let Err(gap) = self.find_place(receiver.ssrc) {
            self.receiver_places
                .insert(gap, (receiver.ssrc, place as u8));
        }
        self.receivers.push(receiver);
        self.last_receiver = place;
        place
    }

    /// Lets a source change to another payload type, or be the one that feeds its track, if it may.
    #[cold]
    fn change_source(
        &mut self,
        receiver: usize,
        payload_type: u8,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let Receiver { ssrc, media, .. } = self.receivers[receiver];
        let section = usize::from(media);
        let codec = match codec_of(&self.plan.media[section], payload_type) {
            Some((agreed, Carries::Media)) => agreed.codec,
            _ => return Err(DropReason::UnknownPayloadType),
        };
        if !self.may_feed(media, ssrc, now) {
            return Err(DropReason::UnknownSsrc);
        }
        let receiver = &mut self.receivers[receiver];
        (receiver.codec, receiver.payload_type) = (codec, Some(payload_type));
        self.tracks[section].feed_from(ssrc);
        Ok(())
    }

    /// Whether packets of a source are the track's: one source feeds it at a time, as two would be mixed
    /// under one numbering. It yields to one that the offer announced if it was not itself, and when silent.
    fn may_feed(&self, media: u8, ssrc: u32, now: Timestamp) -> bool {
        let section = usize::from(media);
        let Some(current) = self.tracks.get(section).and_then(|track| track.source) else {
            return true;
        };
        let announced = |ssrc| {
            let plan = self.plan.media.get(section);
            plan.is_some_and(|plan| announces(plan, ssrc))
        };
        let is_silent = || {
            let receivers = &mut self.receivers.iter();
            let receiver = receivers.find(|receiver| receiver.ssrc == current);
            receiver.is_none_or(|receiver| now.since(receiver.used) >= SOURCE_SILENCE)
        };
        current == ssrc || (announced(ssrc) && !announced(current)) || is_silent()
    }

    /// Whether the offer announced a source, in whichever section.
    fn announces(&self, ssrc: u32) -> bool {
        self.plan.media.iter().any(|media| announces(media, ssrc))
    }

    /// Which section a new source belongs to: by its announcement, else its mid, else its payload type.
    fn identify(
        &self,
        header: &Header,
        packet: &[u8],
    ) -> Result<(u8, Carries, (Codec, bool)), DropReason> {
        let receiving = || {
            let sections = self.plan.media.iter().enumerate();
            sections.filter(|(_, media)| media.receive)
        };
        let named = |media: &MediaPlan| {
            let id = media.extensions.mid?;
            let mid = header.extension(packet, id)?;
            Some(mid == media.mid.as_bytes())
        };
        let section = receiving()
            .find(|(_, media)| announces(media, header.ssrc))
            .or_else(|| receiving().find(|(_, media)| named(media) == Some(true)))
            .or_else(|| {
                receiving().find(|(_, media)| codec_of(media, header.payload_type).is_some())
            });
        let (section, media) = section.ok_or(DropReason::UnknownSsrc)?;
        let (codec, carries) =
            codec_of(media, header.payload_type).ok_or(DropReason::UnknownPayloadType)?;
        Ok((section as u8, carries, (codec.codec, codec.feedback.nack)))
    }

    fn note_transport_sequence(
        &mut self,
        header: &Header,
        packet: &[u8],
        receiver: usize,
        received: Timestamp,
    ) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let section = usize::from(self.receivers[receiver].media);
        let id = self
            .plan
            .media
            .get(section)
            .and_then(|media| media.extensions.transport_cc);
        let number = id
            .and_then(|id| header.extension(packet, id))
            .and_then(rtp::transport_sequence);
        if let Some(number) = number {
            recorder.note_received(number, received);
            self.feedback_due = earliest(self.feedback_due, recorder.deadline());
        }
    }

    // One caller: a call with the parts in memory costs a packet 12 instructions.
    #[inline(always)]
    fn accept<'a>(
        &mut self,
        arrived: &Arrived<'_, 'a>,
        incoming: &mut Option<Incoming<'a>>,
    ) -> Result<(), DropReason> {
        let Arrived {
            now,
            header,
            opened,
            ..
        } = *arrived;
        let section = usize::from(self.receivers[opened.receiver].media);
        if self.receivers[opened.receiver].payload_type != Some(header.payload_type)
            || self.tracks[section].source != Some(header.ssrc)
        {
            self.change_source(opened.receiver, header.payload_type, now)?;
        }
        let receiver = &mut self.receivers[opened.receiver];
        let media = &self.plan.media[section];
        receiver.used = now;
        receiver.statistics.note_received(ReceivedPacket {
            received: arrived.received,
            sequence: opened.index,
            timestamp: header.timestamp,
            clock_rate: receiver.codec.clock_rate(),
            bytes: arrived.payload.len(),
            // An event's packets all say when it began: that is no jitter.
            retransmitted: receiver.codec.is_event(),
        });
        receiver.alive = true;
        if receiver.codec.is_event() && event::Report::parse(arrived.payload).is_none() {
            return Err(DropReason::MalformedRtp);
        }
        let track = &mut self.tracks[section];
        // What the track is, a key that is pressed does not say.
        let added = !track.told.0 && !receiver.codec.is_event() && track.tell(now, true);
        if let Some(nack) = &mut receiver.nack {
            let _: Arrival = nack.note_received(now, opened.index);
            self.feedback_due = earliest(self.feedback_due, nack.deadline());
            if nack.needs_keyframe() {
                receiver.want_keyframe();
                self.feedback_due = earliest(self.feedback_due, receiver.keyframes.deadline());
            }
        }
        let described = describe(arrived, media, receiver, opened.index, arrived.payload);
        let described = incoming.insert(described);
        described.first = added;
        note_keyframe(receiver, described);
        Ok(())
    }

    /// RFC 4588 §4: the payload is the original's, behind its sequence number.
    #[inline(never)]
    fn accept_repaired<'a>(
        &mut self,
        arrived: &Arrived<'_, 'a>,
        incoming: &mut Option<Incoming<'a>>,
    ) -> Result<(), DropReason> {
        let Arrived {
            now,
            header,
            opened,
            ..
        } = *arrived;
        let section = self.receivers[opened.receiver].media;
        self.receivers[opened.receiver].used = now;
        let media = &self.plan.media[usize::from(section)];
        // Probes for bandwidth are retransmissions of nothing; they carry only padding.
        let Some((number, payload)) = repair::rtx::parse(arrived.payload) else {
            return Ok(());
        };
        let current = self.tracks[usize::from(section)].source;
        let announced = media
            .ssrcs
            .iter()
            .find(|announced| announced.rtx == Some(header.ssrc));
        let repairs = current.filter(|current| announced.is_none_or(|of| of.ssrc == *current));
        let receiver = self
            .receivers
            .iter_mut()
            .find(|other| repairs == Some(other.ssrc))
            .ok_or(DropReason::UselessRetransmission)?;
        let nack = receiver
            .nack
            .as_mut()
            .ok_or(DropReason::UselessRetransmission)?;
        let index = nack
            .extend(number)
            .ok_or(DropReason::UselessRetransmission)?;
        // Senders probe for bandwidth with copies of recent packets: one may fill a gap not yet asked for.
        if nack.note_received(now, index) == Arrival::Duplicate {
            return Err(DropReason::UselessRetransmission);
        }
        receiver.recovered += 1;
        let described = describe(arrived, media, receiver, index, payload);
        note_keyframe(receiver, incoming.insert(described));
        Ok(())
    }
}

#[inline(always)]
fn describe<'a>(
    arrived: &Arrived<'_, 'a>,
    media: &MediaPlan,
    receiver: &Receiver,
    sequence: u64,
    payload: &'a [u8],
) -> Incoming<'a> {
    let Arrived {
        header,
        packet,
        received,
        ..
    } = *arrived;
    let codec = receiver.codec;
    let video = codec.kind() == MediaKind::Video;
    let id = if video {
        media.extensions.video_orientation
    } else {
        media.extensions.audio_level
    };
    let extension = id
        .and_then(|id| header.extension(packet, id))
        .and_then(|bytes| bytes.first().copied());
    Incoming {
        media: receiver.media,
        ssrc: receiver.ssrc,
        codec,
        sequence,
        timestamp: header.timestamp,
        marker: header.marker,
        keyframe: video && payload::is_keyframe(codec, payload),
        payload,
        audio_level: extension.filter(|_| !video),
        video_orientation: extension.filter(|_| video),
        vp8: vp8_descriptor(codec, payload),
        clock: receiver.clock,
        received,
        first: false,
    }
}

fn note_keyframe(receiver: &mut Receiver, incoming: &Incoming<'_>) {
    if incoming.keyframe {
        receiver.keyframes.note_keyframe();
        if let Some(nack) = &mut receiver.nack {
            nack.note_keyframe(incoming.sequence);
        }
    }
}

pub(crate) fn vp8_descriptor(codec: Codec, payload: &[u8]) -> Option<vp8::Descriptor> {
    if codec == Codec::Vp8 {
        vp8::Descriptor::parse(payload).ok()
    } else {
        None
    }
}

fn local_source(media: &MediaPlan, rng: &mut Rng) -> Option<LocalSource> {
    let rtx = media
        .codecs
        .iter()
        .any(|codec| codec.rtx_payload_type.is_some());
    media.send.then(|| LocalSource {
        ssrc: rng.u32(),
        rtx: rtx.then(|| rng.u32()),
    })
}

/// Whether the offer announced a source for this section.
fn announces(media: &MediaPlan, ssrc: u32) -> bool {
    media
        .ssrcs
        .iter()
        .any(|announced| announced.ssrc == ssrc || announced.rtx == Some(ssrc))
}

/// What a payload type means in this section.
fn codec_of(media: &MediaPlan, payload_type: u8) -> Option<(&CodecPlan, Carries)> {
    media.codecs.iter().find_map(|codec| {
        if codec.payload_type == payload_type {
            Some((codec, Carries::Media))
        } else {
            let rtx = codec.rtx_payload_type == Some(payload_type);
            rtx.then_some((codec, Carries::Retransmissions))
        }
    })
}

/// Transport-wide feedback is owed for video the peer sends (E6: never for audio alone).
fn wants_transport_feedback(media: &MediaPlan) -> bool {
    media.receive && media.kind == MediaKind::Video && media.extensions.transport_cc.is_some()
}

fn position(header: &Header) -> RtpPosition {
    RtpPosition {
        ssrc: header.ssrc,
        sequence_number: header.sequence_number,
        header_len: header.len,
    }
}

fn refused(error: OpenError) -> DropReason {
    match error {
        OpenError::Short => DropReason::MalformedRtp,
        OpenError::Replayed => DropReason::Replayed,
        OpenError::Unauthenticated | OpenError::NotEncrypted => DropReason::AuthenticationFailed,
        OpenError::TooManySenders => DropReason::UnknownSsrc,
    }
}

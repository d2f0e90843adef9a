//! A light client of our own: full ICE with one pair, the scripted handshake, SRTP and RTCP. Deterministic to the
//! byte, and cheap enough for thousands.

use std::time::Duration;

use super::ice::Ice;
use super::media::{self, Heard, Receiving, Sending};
use super::mischief::{Culprit, Mischief, Reach};
use super::{Answer, Ending, Outbox, Peer, Report, Trust};
use crate::limits::{DATAGRAM_BYTES_MAX, SRTCP_OVERHEAD_BYTES_MAX};
use crate::message::ProfileName;
use crate::plan::{
    AnnouncedSsrc, Codec, CodecPlan, DtlsRole, ExtensionIds, Feedback, Fingerprint, IceCredentials,
    MediaKind, MediaPlan, Mid, Rid, SessionPlan,
};
use crate::rng::{Rng, Seed};
use crate::session::transport::scripted::Scripted;
use crate::session::transport::{HandshakeResult, Outcome};
use crate::sim::source::{Camera, Clock, Source, Talker};
use crate::srtp::{Inbound, KeyingMaterial, OpenError, Outbound};
use crate::time::{NtpTime, Timestamp, earliest};
use crate::wire::rtcp::{self, COUNT_MAX, CompoundWriter, Packet, ReportBlock};
use crate::wire::rtp::Header;
use crate::wire::{Class, classify};

/// Between two reports of a peer.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The same while its microphone is off: the interval of RFC 3550 §6.2, which browsers keep for audio.
const REPORT_INTERVAL_MUTED: Duration = Duration::from_secs(5);
/// Wall time of the world's start on a peer's clock: 2027-01-15 08:00 UTC, as the shards have it.
const UNIX_START: Duration = Duration::from_secs(1_800_000_000);

/// How a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// In spurts, and nearly silent between them.
    Spurts,
    /// Without a pause.
    Monologue,
    /// Not at all: its microphone is off.
    Muted,
}

/// How a peer shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// One rendition, its sources announced, retransmissions agreed.
    Plain,
    /// One rendition of a simulcast offer, told by its rid; nothing is announced.
    Simulcast,
    /// As plain, without retransmissions.
    WithoutRtx,
}

/// What a peer is.
#[derive(Clone, Copy, Debug)]
pub struct PeerSpec {
    /// Its number in the world; every packet it makes is stamped with it.
    pub member: u32,
    /// It sends audio.
    pub speech: Option<Speech>,
    /// It sends video.
    pub picture: Option<Picture>,
    /// It receives audio.
    pub hears: bool,
    /// It receives video.
    pub sees: bool,
    /// It waits for the server's ClientHello (an offer with `a=setup:passive`).
    pub passive: bool,
    /// It nominates with its first check.
    pub eager: bool,
    /// Its clock.
    pub clock: Clock,
    /// What it does beside.
    pub mischief: Option<Mischief>,
    /// How far what it hears must be as it was said.
    pub trust: Trust,
}

impl PeerSpec {
    /// A peer that does nothing but connect.
    #[must_use]
    pub fn new(member: u32) -> Self {
        Self {
            member,
            speech: None,
            picture: None,
            hears: false,
            sees: false,
            passive: false,
            eager: true,
            clock: Clock::default(),
            mischief: None,
            trust: Trust::Everything,
        }
    }
}

struct Keys {
    profile: ProfileName,
    inbound: Inbound,
    outbound: Outbound,
}

/// A scripted client.
pub struct ScriptedPeer {
    spec: PeerSpec,
    seed: Seed,
    rng: Rng,
    ice: Option<Ice>,
    local_ice: IceCredentials,
    fingerprint: Fingerprint,
    handshake: Option<Scripted>,
    handshake_deadline: Option<Timestamp>,
    hello_waits: bool,
    keys: Option<Box<Keys>>,
    sending: Vec<Sending>,
    receiving: Vec<Receiving>,
    next_report: Timestamp,
    /// Next number of the transport-wide extension.
    transport: u16,
    culprit: Option<Culprit>,
    deadline: Option<Timestamp>,
    report: Report,
}

impl std::fmt::Debug for ScriptedPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedPeer")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl ScriptedPeer {
    /// A client that has not begun. All its chances come from `seed`.
    #[must_use]
    pub fn new(spec: PeerSpec, seed: &Seed) -> Self {
        let seed = seed.derive("peer", u64::from(spec.member));
        let mut rng = seed.rng();
        let mut fingerprint = [0; 32];
        rng.fill(&mut fingerprint);
        Self {
            spec,
            local_ice: credentials(&mut rng),
            seed,
            rng,
            ice: None,
            fingerprint: Fingerprint(fingerprint),
            handshake: None,
            handshake_deadline: None,
            hello_waits: false,
            keys: None,
            sending: Vec::new(),
            receiving: Vec::new(),
            next_report: Timestamp::ZERO,
            transport: 0,
            culprit: None,
            deadline: None,
            report: Report::default(),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn spec(&self) -> &PeerSpec {
        &self.spec
    }

    fn report_interval(&self) -> Duration {
        match self.spec.speech {
            Some(Speech::Muted) => REPORT_INTERVAL_MUTED,
            _ => REPORT_INTERVAL,
        }
    }

    const fn role(&self) -> DtlsRole {
        if self.spec.passive {
            DtlsRole::Server
        } else {
            DtlsRole::Client
        }
    }

    fn ssrc(&self, kind: MediaKind) -> (u32, Option<u32>) {
        let number = self.spec.member << 4;
        match (kind, self.spec.picture) {
            (MediaKind::Audio, _) => (0xa000_0000 | number, None),
            (MediaKind::Video, Some(Picture::WithoutRtx)) => (0xc000_0000 | number, None),
            (MediaKind::Video, _) => (0xc000_0000 | number, Some(0xe000_0000 | number)),
        }
    }

    fn on_outcome(&mut self, now: Timestamp, outcome: Outcome, out: &mut Outbox<'_>) {
        for datagram in &outcome.datagrams {
            out.send(datagram);
        }
        match outcome.result {
            HandshakeResult::Refused(_) => return,
            HandshakeResult::Pending => {}
            HandshakeResult::Connected(profile, keys) => {
                self.on_connected(now, profile, keys.as_bytes());
            }
            HandshakeResult::Closed(_) | HandshakeResult::Panicked => {
                let ending = if self.keys.is_some() {
                    Ending::Closed
                } else {
                    Ending::Failed
                };
                self.end(now, ending);
            }
        }
        self.handshake_deadline = outcome.deadline;
    }

    fn on_connected(&mut self, now: Timestamp, profile: ProfileName, exported: &[u8]) {
        let keying = KeyingMaterial::new(profile, exported).expect("as long as the profile wants");
        let (inbound, mut outbound) = keying.into_contexts(self.role());
        let start = now + Duration::from_micros(u64::from(self.rng.below(20_000)));
        if let Some(speech) = self.spec.speech.filter(|speech| *speech != Speech::Muted) {
            let talker = Talker::new(start, &mut self.rng, speech == Speech::Monologue);
            self.begin(Source::Talker(talker), &mut outbound);
        }
        if self.spec.picture.is_some() {
            self.begin(Source::Camera(Camera::new(start, 1_000)), &mut outbound);
        }
        self.culprit = self
            .spec
            .mischief
            .map(|kind| Culprit::new(kind, start, exported.to_vec()));
        self.keys = Some(Box::new(Keys {
            profile,
            inbound,
            outbound,
        }));
        self.next_report = start + self.report_interval();
        self.report.connected = Some(now);
    }

    fn begin(&mut self, source: Source, outbound: &mut Outbound) {
        let kind = source.kind();
        let simulcast = kind == MediaKind::Video && self.spec.picture == Some(Picture::Simulcast);
        let rid = simulcast.then_some(&b"h"[..]);
        let sources = self.ssrc(kind);
        let sending = Sending::new(source, sources, rid, outbound, &mut self.rng);
        self.sending.extend(sending);
    }

    fn end(&mut self, now: Timestamp, ending: Ending) {
        self.report.ended.get_or_insert((now, ending));
        self.deadline = None;
    }

    fn send_due_media(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        let Some(keys) = &self.keys else { return };
        for sending in &mut self.sending {
            while sending.source.next() <= now {
                let chances = (&self.spec.clock, &mut self.rng);
                sending.send(
                    now,
                    self.spec.member,
                    &mut self.transport,
                    chances,
                    &keys.outbound,
                    out,
                );
                let section = usize::from(sending.source.kind() == MediaKind::Video);
                self.report.sent[section] = u64::from(sending.count());
            }
        }
    }

    fn send_due_reports(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        let interval = self.report_interval();
        let Some(keys) = self.keys.as_mut().filter(|_| self.next_report <= now) else {
            return;
        };
        self.next_report = now + interval;
        let ntp = NtpTime::from_unix(
            UNIX_START + self.spec.clock.offset + self.spec.clock.local(now.since(Timestamp::ZERO)),
        );
        let mut blocks = [ReportBlock::default(); COUNT_MAX];
        let reports = self
            .receiving
            .iter_mut()
            .filter_map(|receiving| receiving.statistics.report_block(now));
        let mut count = 0;
        for (block, report) in blocks.iter_mut().zip(reports) {
            *block = report;
            count += 1;
        }
        let own = 0x9000_0000 | self.spec.member;
        let sending = &self.sending;
        send_rtcp(&mut keys.outbound, out, |writer| {
            let mut blocks = &blocks[..count];
            for summary in sending
                .iter()
                .filter_map(|sending| sending.summary(now, ntp))
            {
                let _fits = writer.sender_report(&summary, std::mem::take(&mut blocks));
            }
            if !blocks.is_empty() || writer.is_empty() {
                let _fits = writer.receiver_report(own, blocks);
            }
            let _fits = writer.source_description(own, b"simulated");
        });
    }

    fn send_due_feedback(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        let Some(keys) = &mut self.keys else { return };
        let own = 0x9000_0000 | self.spec.member;
        for receiving in &mut self.receiving {
            if receiving.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            let (missing, keyframe) = receiving.poll(now);
            if missing.is_empty() && !keyframe {
                continue;
            }
            self.report.asked += 1;
            send_rtcp(&mut keys.outbound, out, |writer| {
                let _fits = writer.nack(own, receiving.local.ssrc, &missing);
                if keyframe {
                    let _fits = writer.picture_loss_indication(own, receiving.local.ssrc);
                }
            });
        }
    }

    fn do_mischief(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        let (Some(culprit), Some(keys)) = (&mut self.culprit, &mut self.keys) else {
            return;
        };
        let heard = self
            .receiving
            .last()
            .map_or(1, |receiving| receiving.local.ssrc);
        let own = self
            .sending
            .first()
            .map_or(0x9000_0000 | self.spec.member, |sending| sending.ssrc);
        let role = if self.spec.passive {
            DtlsRole::Server
        } else {
            DtlsRole::Client
        };
        let mut reach = Reach {
            profile: keys.profile,
            role,
            outbound: &mut keys.outbound,
            own,
            heard,
        };
        culprit.act(now, &mut self.rng, &mut reach, out);
    }

    fn receive_rtp(&mut self, now: Timestamp, packet: &mut [u8]) {
        let Some(keys) = &self.keys else { return };
        let Ok(header) = Header::parse(packet) else {
            self.report.find(|| "a packet is no RTP".to_owned());
            return;
        };
        let found = self.receiving.iter_mut().find(|receiving| {
            receiving.local.ssrc == header.ssrc || receiving.local.rtx == Some(header.ssrc)
        });
        match found {
            Some(receiving) => {
                receiving.receive(now, &keys.inbound, &header, packet, &mut self.report);
            }
            None => self
                .report
                .find(|| format!("a packet of a source that was not told: {header:?}")),
        }
    }

    fn receive_rtcp(&mut self, now: Timestamp, packet: &mut [u8], out: &mut Outbox<'_>) {
        let Some(keys) = &mut self.keys else { return };
        let len = match keys.inbound.open_rtcp(packet) {
            Ok(len) => len,
            Err(OpenError::Replayed) => return,
            Err(error) => {
                self.report.find(|| format!("RTCP does not open: {error}"));
                return;
            }
        };
        for packet in rtcp::packets(&packet[..len]) {
            let Ok(packet) = packet else {
                self.report.find(|| "RTCP does not parse".to_owned());
                return;
            };
            match packet {
                Packet::SenderReport(report) => {
                    let found = self
                        .receiving
                        .iter_mut()
                        .find(|other| other.local.ssrc == report.sender.ssrc);
                    if let Some(receiving) = found {
                        receiving
                            .statistics
                            .note_sender_report(now, report.sender.ntp);
                    }
                }
                Packet::Nack(nack) => {
                    let found = self
                        .sending
                        .iter_mut()
                        .find(|sending| sending.ssrc == nack.media_ssrc);
                    let Some(sending) = found else { continue };
                    for number in nack.lost() {
                        self.report.resent +=
                            u64::from(sending.resend(number, &keys.outbound, out));
                    }
                }
                Packet::PictureLossIndication(pli) => {
                    self.report.keyframe_requests.push((now, pli.media_ssrc));
                    let found = self
                        .sending
                        .iter_mut()
                        .find(|sending| sending.ssrc == pli.media_ssrc);
                    match found {
                        Some(sending) if sending.source.kind() == MediaKind::Video => {
                            sending.source.want_keyframe();
                        }
                        _ => self.report.keyframes_of_nothing += 1,
                    }
                }
                _ => {}
            }
        }
    }

    /// Folds what is due into one deadline.
    fn rearm(&mut self) {
        if self.report.ended.is_some() {
            self.deadline = None;
            return;
        }
        let mut deadline = earliest(
            self.ice.as_ref().map(Ice::deadline),
            self.handshake_deadline,
        );
        if self.keys.is_some() {
            deadline = earliest(deadline, Some(self.next_report));
            for sending in &self.sending {
                deadline = earliest(deadline, Some(sending.source.next()));
            }
            for receiving in &self.receiving {
                deadline = earliest(deadline, receiving.deadline());
            }
            deadline = earliest(deadline, self.culprit.as_ref().map(|culprit| culprit.next));
        }
        self.deadline = deadline;
    }

    fn say_hello(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        if std::mem::take(&mut self.hello_waits)
            && let Some(handshake) = &mut self.handshake
        {
            let outcome = handshake.start(now);
            self.on_outcome(now, outcome, out);
        }
    }
}

impl Peer for ScriptedPeer {
    fn plan(&self) -> SessionPlan {
        let mut media = Vec::new();
        if self.spec.speech.is_some() || self.spec.hears {
            media.push(self.section(MediaKind::Audio));
        }
        if self.spec.picture.is_some() || self.spec.sees {
            media.push(self.section(MediaKind::Video));
        }
        SessionPlan {
            remote_ice: self.local_ice.clone(),
            remote_fingerprint: self.fingerprint,
            dtls_role: if self.spec.passive {
                DtlsRole::Client
            } else {
                DtlsRole::Server
            },
            reduced_size_rtcp: true,
            media,
        }
    }

    fn on_answer(&mut self, now: Timestamp, answer: &Answer, out: &mut Outbox<'_>) {
        let remote = answer.local.ice.clone();
        self.ice = Some(Ice::new(
            now,
            self.local_ice.clone(),
            remote,
            self.spec.eager,
        ));
        let seed = self.seed.derive("handshake", 0);
        let fingerprints = (self.fingerprint, answer.local.fingerprint);
        self.handshake = Some(Scripted::new(
            self.role(),
            fingerprints.0,
            fingerprints.1,
            &seed,
        ));
        self.hello_waits = !self.spec.passive;
        let sections = self.plan().media;
        for (section, local) in sections.iter().zip(&answer.local.sources) {
            if let Some(local) = local {
                let place = self.report.heard.len();
                self.report
                    .heard
                    .push(Heard::new(section.kind, self.spec.trust));
                self.receiving
                    .push(Receiving::new(section.kind, *local, place));
            }
        }
        self.handle_timeout(now, out);
    }

    fn handle_datagram(&mut self, now: Timestamp, contents: &mut [u8], out: &mut Outbox<'_>) {
        if self.report.ended.is_some() {
            return;
        }
        match classify(contents) {
            Class::Rtp => self.receive_rtp(now, contents),
            Class::Rtcp => self.receive_rtcp(now, contents, out),
            Class::Stun => {
                if let Some(ice) = &self.ice {
                    ice.handle_check(contents, out);
                }
                let ice = self.ice.as_mut();
                if ice.is_some_and(|ice| ice.handle_answer(now, contents)) {
                    self.say_hello(now, out);
                }
            }
            Class::Dtls => {
                if let Some(handshake) = &mut self.handshake {
                    let outcome = handshake.handle_packet(now, contents);
                    self.on_outcome(now, outcome, out);
                }
            }
            Class::Unknown => self.report.find(|| "a datagram of no protocol".to_owned()),
        }
        self.rearm();
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        if self.report.ended.is_some() {
            return;
        }
        if let Some(ice) = &mut self.ice {
            if ice.is_over(now) {
                self.end(now, Ending::Unanswered);
                return;
            }
            ice.handle_timeout(now, &mut self.rng, out);
        }
        if self
            .handshake_deadline
            .is_some_and(|deadline| deadline <= now)
            && let Some(handshake) = &mut self.handshake
        {
            let outcome = handshake.handle_timeout(now);
            self.on_outcome(now, outcome, out);
        }
        self.send_due_media(now, out);
        self.send_due_reports(now, out);
        self.send_due_feedback(now, out);
        self.do_mischief(now, out);
        self.rearm();
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    fn close(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        if let Some(handshake) = self
            .handshake
            .as_mut()
            .filter(|_| self.report.ended.is_none())
        {
            for datagram in handshake.close(now).datagrams {
                out.send(&datagram);
            }
        }
        self.end(now, Ending::Left);
    }

    fn restart(&mut self) -> IceCredentials {
        self.local_ice = credentials(&mut self.rng);
        self.local_ice.clone()
    }

    fn on_restarted(&mut self, now: Timestamp, ice: &IceCredentials, out: &mut Outbox<'_>) {
        if self.report.ended.is_none() {
            self.ice = Some(Ice::new(
                now,
                self.local_ice.clone(),
                ice.clone(),
                self.spec.eager,
            ));
            self.handle_timeout(now, out);
        }
    }

    fn report(&self) -> &Report {
        &self.report
    }

    fn measure_gaps_from(&mut self, now: Timestamp) {
        for heard in &mut self.report.heard {
            heard.longest_gap = Duration::ZERO;
            heard.last = Some(now);
        }
    }
}

impl ScriptedPeer {
    fn section(&self, kind: MediaKind) -> MediaPlan {
        let video = kind == MediaKind::Video;
        let (receive, send) = if video {
            (self.spec.picture.is_some(), self.spec.sees)
        } else {
            (self.spec.speech.is_some(), self.spec.hears)
        };
        let rtx = video && self.spec.picture != Some(Picture::WithoutRtx);
        let simulcast = video && self.spec.picture == Some(Picture::Simulcast);
        let (ssrc, rtx_ssrc) = self.ssrc(kind);
        let announced = AnnouncedSsrc {
            ssrc,
            rtx: rtx_ssrc,
        };
        let token = |text: &[u8]| Mid::new(text).expect("a short tag");
        MediaPlan {
            mid: token(if video { b"1" } else { b"0" }),
            kind,
            receive,
            send,
            codecs: vec![CodecPlan {
                payload_type: if video { media::VP8 } else { media::OPUS },
                codec: if video { Codec::Vp8 } else { Codec::Opus },
                rtx_payload_type: rtx.then_some(media::RTX),
                feedback: Feedback {
                    nack: video,
                    pli: video,
                    fir: video,
                    remb: false,
                    transport_cc: video,
                },
            }],
            extensions: ExtensionIds {
                mid: Some(media::MID_ID),
                rid: simulcast.then_some(media::RID_ID),
                audio_level: (!video).then_some(media::LEVEL_ID),
                transport_cc: video.then_some(media::TRANSPORT_ID),
                ..ExtensionIds::default()
            },
            ssrcs: if receive && !simulcast {
                vec![announced]
            } else {
                Vec::new()
            },
            rids: if simulcast {
                Rid::new(b"h").into_iter().collect()
            } else {
                Vec::new()
            },
        }
    }
}

fn send_rtcp(
    keys: &mut Outbound,
    out: &mut Outbox<'_>,
    write: impl FnOnce(&mut CompoundWriter<'_>),
) {
    out.send_with(DATAGRAM_BYTES_MAX, |bytes| {
        let room = bytes.len() - SRTCP_OVERHEAD_BYTES_MAX;
        let mut writer = CompoundWriter::new(&mut bytes[..room]);
        write(&mut writer);
        let len = writer.len();
        if len == 0 {
            None
        } else {
            keys.seal_rtcp(bytes, len).ok()
        }
    });
}

fn credentials(rng: &mut Rng) -> IceCredentials {
    let mut text = |len: usize| -> String {
        (0..len)
            .map(|_| char::from(b'a' + rng.below(26) as u8))
            .collect()
    };
    IceCredentials {
        ufrag: text(8),
        password: text(24),
    }
}

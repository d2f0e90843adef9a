//! Offers as WebRTC peers make them, in every combination, and what each says by how it was made.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};

use crate::audio::Rate;
use crate::plan::{AnnouncedSsrc, Codec, DtlsRole, Fingerprint, MediaKind, MediaPlan, SessionPlan};
use crate::sdp::{Negotiated, Offer, Purpose};

/// `rtpmap` and `fmtp` of a format, and what it is to us.
type Known = (&'static str, &'static str, Option<Codec>);

const AUDIO: [Known; 5] = [
    (
        "opus/48000/2",
        "minptime=10;useinbandfec=1",
        Some(Codec::Opus),
    ),
    ("PCMU/8000", "", Some(Codec::Pcmu)),
    ("pcma/8000", "", Some(Codec::Pcma)),
    ("red/48000/2", "111/111", None),
    (
        "telephone-event/8000",
        "0-15",
        Some(Codec::TelephoneEvent(Rate::Hz8000)),
    ),
];

const VIDEO: [Known; 6] = [
    ("VP8/90000", "", Some(Codec::Vp8)),
    ("VP9/90000", "profile-id=2", Some(Codec::Vp9 { profile: 2 })),
    (
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        Some(Codec::H264 {
            packetization_mode: 1,
            profile: 0x42e0,
        }),
    ),
    (
        "AV1/90000",
        "profile=0;level-idx=5;tier=0",
        Some(Codec::Av1 { profile: 0 }),
    ),
    ("ulpfec/90000", "", None),
    ("H265/90000", "", None),
];

const EXTENSIONS: [&str; 6] = [
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "urn:3gpp:video-orientation",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
];

const SECTIONS_MAX: usize = 5;
const UFRAG: &str = "abcd";
const PASSWORD: &str = "0123456789abcdef012345";

/// An offer by its parts.
#[derive(Debug)]
pub(super) struct Described {
    sections: Vec<Section>,
    setup: Setup,
    /// ICE and DTLS stand before the sections.
    session_level: bool,
    bundled: bool,
    line_end: &'static str,
}

#[derive(Debug)]
struct Section {
    kind: Option<MediaKind>,
    direction: Direction,
    port: u16,
    bundle_only: bool,
    formats: Vec<Format>,
    extensions: Vec<usize>,
    rsize: bool,
    /// Sources announced, each with its retransmissions where it has such.
    ssrcs: Vec<AnnouncedSsrc>,
}

#[derive(Debug)]
struct Format {
    payload_type: u8,
    /// In the table of its kind.
    place: usize,
    /// Payload type of its retransmissions.
    repairs: Option<u8>,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    ActPass,
    Active,
    Passive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl<'a> Arbitrary<'a> for Described {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (setup, session_level) = (bytes.arbitrary()?, bytes.arbitrary()?);
        let bundled = bytes.ratio(9, 10)?;
        let line_end = if bytes.arbitrary()? { "\r\n" } else { "\n" };
        let count = bytes.int_in_range(1..=SECTIONS_MAX)?;
        let sections = (0..count).map(|index| Section::read(bytes, index as u32));
        Ok(Self {
            sections: sections.collect::<Result<_, _>>()?,
            setup,
            session_level,
            bundled,
            line_end,
        })
    }
}

impl Section {
    fn read(bytes: &mut Unstructured<'_>, index: u32) -> arbitrary::Result<Self> {
        let kind = match bytes.int_in_range(0..=10)? {
            0..=4 => Some(MediaKind::Audio),
            5..=9 => Some(MediaKind::Video),
            _ => None,
        };
        let direction = match bytes.int_in_range(0..=12)? {
            0..=5 => Direction::SendRecv,
            6..=8 => Direction::SendOnly,
            9..=11 => Direction::RecvOnly,
            _ => Direction::Inactive,
        };
        let rsize = bytes.arbitrary()?;
        let (stopped, bundle_only) = (bytes.ratio(1, 10)?, bytes.ratio(1, 10)?);
        let mut next = bytes.int_in_range(96..=127)?;
        let mut number = || {
            next = if next == 127 { 96 } else { next + 1 };
            next
        };
        let (first, count) = (bytes.int_in_range(0..=5)?, bytes.int_in_range(1..=5)?);
        let table = if kind == Some(MediaKind::Audio) {
            AUDIO.len()
        } else {
            VIDEO.len()
        };
        // Each format once, beginning anywhere in the table.
        let places = (first..first + count).map(|place: usize| place % table);
        let video = kind == Some(MediaKind::Video);
        let formats = places.take(table).map(|place| Format {
            payload_type: number(),
            place,
            repairs: (video && place.is_multiple_of(2)).then(&mut number),
        });
        let formats = formats.collect();
        let chosen: u8 = bytes.arbitrary()?;
        let extensions = (0..EXTENSIONS.len()).filter(|place| chosen >> place & 1 == 1);
        let announced = bytes.int_in_range(0..=3)?;
        let ssrc = |source: u32| AnnouncedSsrc {
            ssrc: 1_000 * (index + 1) + source,
            rtx: video.then_some(1_000 * (index + 1) + 500 + source),
        };
        Ok(Self {
            kind,
            direction,
            port: if stopped || bundle_only { 0 } else { 9 },
            bundle_only,
            formats,
            extensions: extensions.collect(),
            rsize,
            ssrcs: (0..announced).map(ssrc).collect(),
        })
    }

    const fn table(&self) -> &'static [Known] {
        match self.kind {
            Some(MediaKind::Audio) => &AUDIO,
            Some(MediaKind::Video) => &VIDEO,
            None => &[],
        }
    }

    fn write(&self, index: usize, lines: &mut Vec<String>) {
        let Some(kind) = self.kind else {
            lines.push("m=application 9 UDP/DTLS/SCTP webrtc-datachannel".to_owned());
            lines.push(format!("a=mid:m{index}"));
            return;
        };
        let numbers: String = self
            .formats
            .iter()
            .flat_map(|format| [Some(format.payload_type), format.repairs])
            .flatten()
            .map(|number| format!(" {number}"))
            .collect();
        let (name, port) = (kind.name(), self.port);
        lines.push(format!("m={name} {port} UDP/TLS/RTP/SAVPF{numbers}"));
        lines.push(format!("a=mid:m{index}"));
        lines.push(format!("a={}", self.direction.name()));
        lines.push("a=rtcp-mux".to_owned());
        if self.bundle_only {
            lines.push("a=bundle-only".to_owned());
        }
        if self.rsize {
            lines.push("a=rtcp-rsize".to_owned());
        }
        for place in &self.extensions {
            lines.push(format!("a=extmap:{} {}", place + 1, EXTENSIONS[*place]));
        }
        for format in &self.formats {
            format.write(self.table(), lines);
        }
        for AnnouncedSsrc { ssrc, rtx } in &self.ssrcs {
            if let Some(rtx) = rtx {
                lines.push(format!("a=ssrc-group:FID {ssrc} {rtx}"));
                lines.push(format!("a=ssrc:{rtx} cname:someone"));
            }
            lines.push(format!("a=ssrc:{ssrc} cname:someone"));
        }
    }

    /// What the offer says of each payload type.
    fn truth(&self) -> BTreeMap<u8, (Option<Codec>, Option<u8>)> {
        let formats = self.formats.iter();
        formats
            .map(|format| {
                let codec = self.table()[format.place].2;
                (format.payload_type, (codec, format.repairs))
            })
            .collect()
    }

    fn check(&self, media: &MediaPlan) {
        assert_eq!(Some(media.kind), self.kind);
        let (sends, receives) = (
            matches!(self.direction, Direction::SendRecv | Direction::SendOnly),
            matches!(self.direction, Direction::SendRecv | Direction::RecvOnly),
        );
        assert!((sends || !media.receive) && (receives || !media.send));
        let truth = self.truth();
        // Keys are pressed in a stream of something else.
        let mut codecs = media.codecs.iter().map(|codec| codec.codec);
        assert!(codecs.next().is_some_and(|first| !first.is_event()));
        assert!(codecs.is_sorted_by_key(Codec::is_event));
        for codec in &media.codecs {
            let agreed = (Some(codec.codec), codec.rtx_payload_type);
            assert_eq!(truth.get(&codec.payload_type), Some(&agreed));
        }
        assert!(
            media.send
                || media
                    .codecs
                    .iter()
                    .filter(|it| !it.codec.is_event())
                    .count()
                    == 1,
            "what we receive has one codec"
        );
        let ids = &media.extensions;
        let agreed = [
            ids.mid,
            ids.audio_level,
            ids.transport_cc,
            ids.video_orientation,
            ids.abs_send_time,
            ids.rid,
        ];
        for (place, id) in agreed.iter().enumerate() {
            let offered = self.extensions.contains(&place);
            assert!(id.is_none_or(|id| offered && usize::from(id) == place + 1));
        }
        if media.receive {
            assert_eq!(media.ssrcs, self.ssrcs);
        }
    }
}

impl Format {
    fn write(&self, table: &[Known], lines: &mut Vec<String>) {
        let (number, (rtpmap, fmtp, _)) = (self.payload_type, table[self.place]);
        lines.push(format!("a=rtpmap:{number} {rtpmap}"));
        if !fmtp.is_empty() {
            lines.push(format!("a=fmtp:{number} {fmtp}"));
        }
        lines.push(format!("a=rtcp-fb:{number} nack pli"));
        if let Some(repairs) = self.repairs {
            lines.push(format!("a=rtpmap:{repairs} rtx/90000"));
            lines.push(format!("a=fmtp:{repairs} apt={number}"));
        }
    }
}

impl Setup {
    const fn name(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

impl Described {
    pub(super) fn text(&self) -> String {
        let transport = [
            format!("a=ice-ufrag:{UFRAG}"),
            format!("a=ice-pwd:{PASSWORD}"),
            format!("a=fingerprint:sha-256 {}", Fingerprint([0xab; 32])),
            format!("a=setup:{}", self.setup.name()),
        ];
        let mut lines: Vec<String> = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
            .map(str::to_owned)
            .to_vec();
        if self.bundled {
            let mids = (0..self.sections.len()).map(|index| format!(" m{index}"));
            lines.push(format!("a=group:BUNDLE{}", mids.collect::<String>()));
        }
        if self.session_level {
            lines.extend(transport.clone());
        }
        for (index, section) in self.sections.iter().enumerate() {
            section.write(index, &mut lines);
            if !self.session_level {
                lines.extend(transport.clone());
            }
        }
        let lines = lines.iter().map(|line| format!("{line}{}", self.line_end));
        lines.collect()
    }

    /// P2: read as it was written. Calls `answered` with what was agreed to.
    pub(super) fn check(&self, answered: impl Fn(&str, &Negotiated)) {
        let text = self.text();
        let offer = Offer::parse(text.as_bytes()).expect("it is a description");
        let purposes = [
            Purpose::Echo,
            Purpose::Publish { prefer: None },
            Purpose::Subscribe { tracks: Vec::new() },
        ];
        for purpose in purposes {
            if let Ok(negotiated) = offer.negotiate(purpose) {
                self.check_plan(negotiated.plan());
                answered(&text, &negotiated);
            }
        }
    }

    fn check_plan(&self, plan: &SessionPlan) {
        assert_eq!(
            (plan.remote_ice.ufrag.as_str(), &*plan.remote_ice.password),
            (UFRAG, PASSWORD)
        );
        assert_eq!(plan.remote_fingerprint, Fingerprint([0xab; 32]));
        let ours = if self.setup == Setup::Passive {
            DtlsRole::Client
        } else {
            DtlsRole::Server
        };
        assert_eq!(plan.dtls_role, ours);
        for media in &plan.media {
            let index: usize = media.mid.as_str()[1..].parse().expect("a tag of ours");
            self.sections[index].check(media);
        }
    }
}

//! Offers as WebRTC peers make them, in every combination: answered or refused, and the answer is consistent.

use std::collections::BTreeMap;

use antiphon_core::fuzzing;
use antiphon_core::plan::{Codec, MediaKind, SessionPlan};
use antiphon_core::sdp::{Offer, Purpose};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::config;

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
    ("telephone-event/8000", "", None),
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

#[derive(Clone, Debug)]
struct Section {
    kind: Option<MediaKind>,
    direction: &'static str,
    port: u16,
    bundle_only: bool,
    /// Payload type, place in the table, payload type of its retransmissions.
    formats: Vec<(u8, usize, Option<u8>)>,
    extensions: Vec<usize>,
    rsize: bool,
}

#[derive(Clone, Debug)]
struct Described {
    sections: Vec<Section>,
    setup: &'static str,
    /// ICE and DTLS stand before the sections.
    session_level: bool,
    bundled: bool,
    line_end: &'static str,
}

fn section() -> impl Strategy<Value = Section> {
    let kind = prop_oneof![
        5 => Just(Some(MediaKind::Audio)),
        5 => Just(Some(MediaKind::Video)),
        1 => Just(None),
    ];
    let direction = prop_oneof![
        6 => Just("sendrecv"),
        3 => Just("sendonly"),
        3 => Just("recvonly"),
        1 => Just("inactive"),
    ];
    let numbers = Just((96..128_u8).collect::<Vec<_>>()).prop_shuffle();
    let places = Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle();
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let extensions = prop::sample::subsequence((0..6_usize).collect::<Vec<_>>(), 0..=6);
    (
        kind,
        direction,
        numbers,
        places,
        1..=5_usize,
        extensions,
        flags,
    )
        .prop_map(
            |(
                kind,
                direction,
                numbers,
                places,
                count,
                extensions,
                (rsize, stopped, bundle_only),
            )| {
                let mut numbers = numbers.into_iter();
                let mut next = || numbers.next().expect("more numbers than formats");
                let format = |place: usize| {
                    let repairs = kind == Some(MediaKind::Video) && place.is_multiple_of(2);
                    (next(), place, repairs.then(&mut next))
                };
                Section {
                    kind,
                    direction,
                    port: if stopped || bundle_only { 0 } else { 9 },
                    bundle_only,
                    formats: places.into_iter().take(count).map(format).collect(),
                    extensions,
                    rsize,
                }
            },
        )
}

fn described() -> impl Strategy<Value = Described> {
    let setup = prop_oneof![4 => Just("actpass"), 1 => Just("active"), 1 => Just("passive")];
    let line_end = prop_oneof![Just("\r\n"), Just("\n")];
    (
        vec(section(), 1..5),
        setup,
        any::<bool>(),
        prop::bool::weighted(0.9),
        line_end,
    )
        .prop_map(
            |(sections, setup, session_level, bundled, line_end)| Described {
                sections,
                setup,
                session_level,
                bundled,
                line_end,
            },
        )
}

impl Section {
    fn table(&self) -> &'static [Known] {
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
            .flat_map(|(number, _, repairs)| [Some(*number), *repairs])
            .flatten()
            .map(|number| format!(" {number}"))
            .collect();
        lines.push(format!(
            "m={} {} UDP/TLS/RTP/SAVPF{numbers}",
            kind.name(),
            self.port
        ));
        lines.push(format!("a=mid:m{index}"));
        lines.push(format!("a={}", self.direction));
        lines.push("a=rtcp-mux".to_owned());
        if self.bundle_only {
            lines.push("a=bundle-only".to_owned());
        }
        if self.rsize {
            lines.push("a=rtcp-rsize".to_owned());
        }
        for extension in &self.extensions {
            lines.push(format!(
                "a=extmap:{} {}",
                extension + 1,
                EXTENSIONS[*extension]
            ));
        }
        for (number, place, repairs) in &self.formats {
            let (rtpmap, fmtp, _) = self.table()[*place];
            lines.push(format!("a=rtpmap:{number} {rtpmap}"));
            if !fmtp.is_empty() {
                lines.push(format!("a=fmtp:{number} {fmtp}"));
            }
            lines.push(format!("a=rtcp-fb:{number} nack pli"));
            if let Some(repairs) = repairs {
                lines.push(format!("a=rtpmap:{repairs} rtx/90000"));
                lines.push(format!("a=fmtp:{repairs} apt={number}"));
            }
        }
    }
}

impl Described {
    fn text(&self) -> String {
        let transport = [
            "a=ice-ufrag:abcd".to_owned(),
            "a=ice-pwd:0123456789abcdef012345".to_owned(),
            format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":")),
            format!("a=setup:{}", self.setup),
        ];
        let mut lines: Vec<String> = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
            .map(str::to_owned)
            .to_vec();
        if self.bundled {
            let mids: String = (0..self.sections.len())
                .map(|index| format!(" m{index}"))
                .collect();
            lines.push(format!("a=group:BUNDLE{mids}"));
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
        lines
            .iter()
            .map(|line| format!("{line}{}", self.line_end))
            .collect()
    }

    /// What the offer says of each payload type of a section, by how it was made.
    fn truth(&self, mid: &str) -> BTreeMap<u8, (Option<Codec>, Option<u8>)> {
        let index: usize = mid[1..].parse().expect("a tag of ours");
        let section = &self.sections[index];
        let formats = section.formats.iter();
        formats
            .map(|(number, place, repairs)| (*number, (section.table()[*place].2, *repairs)))
            .collect()
    }

    fn check(&self, plan: &SessionPlan) -> Result<(), TestCaseError> {
        for media in &plan.media {
            let truth = self.truth(media.mid.as_str());
            prop_assert!(!media.codecs.is_empty());
            for codec in &media.codecs {
                let agreed = (Some(codec.codec), codec.rtx_payload_type);
                prop_assert_eq!(truth.get(&codec.payload_type), Some(&agreed));
            }
            let first = media.codecs[0].payload_type;
            prop_assert!(
                media.send || media.codecs.len() == 1,
                "what we receive has one codec"
            );
            let known = |number: &u8| truth[number].0.is_some();
            let offered = self
                .sections
                .iter()
                .flat_map(|section| &section.formats)
                .map(|format| format.0);
            let in_section: Vec<_> = offered
                .filter(|number| truth.contains_key(number))
                .collect();
            prop_assert!(in_section.contains(&first) && known(&first));
        }
        Ok(())
    }
}

fn purposes() -> [Purpose; 3] {
    [
        Purpose::Echo,
        Purpose::Publish { prefer: None },
        Purpose::Subscribe { tracks: Vec::new() },
    ]
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn an_offer_is_answered_consistently_or_refused(described in described()) {
        let text = described.text();
        // Re-parses the answer, compares sections, numbers, BUNDLE and what it negotiates to.
        fuzzing::sdp_offer(text.as_bytes());
        let offer = Offer::parse(text.as_bytes()).expect("it is a description");
        for purpose in purposes() {
            if let Ok(negotiated) = offer.negotiate(purpose) {
                described.check(negotiated.plan())?;
            }
        }
    }
}

/// Were all of them refused, the property above would hold of nothing.
#[test]
fn many_of_the_offers_are_answered() {
    let mut runner = TestRunner::deterministic();
    let mut answered = [0; 3];
    for _ in 0..300 {
        let text = described()
            .new_tree(&mut runner)
            .expect("an offer")
            .current()
            .text();
        let offer = Offer::parse(text.as_bytes()).expect("it is a description");
        for (count, purpose) in answered.iter_mut().zip(purposes()) {
            *count += u32::from(offer.negotiate(purpose).is_ok());
        }
    }
    assert!(
        answered.iter().all(|count| *count >= 40),
        "{answered:?} of 300"
    );
}

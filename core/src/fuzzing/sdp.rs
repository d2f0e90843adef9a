//! Descriptions: what we answer is a description again, and says what we agreed to.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use arbitrary::{Arbitrary as _, Unstructured};

use super::description::Described;
use crate::limits::SDP_CANDIDATES_MAX;
use crate::plan::{Fingerprint, IceCredentials, LocalDescription, LocalSource, SessionPlan};
use crate::sdp::{Fragment, Negotiated, Offer, Purpose, SdpError, write_restart_fragment};

/// An offer of one audio and one video section, to start from.
pub const OFFER: &str = include_str!("offer.sdp");

const UFRAG: &str = "serverUfrag";
const PASSWORD: &str = "serverPasswordOf24Chars+";

/// An offer.
pub fn sdp_offer(text: &[u8]) {
    let offer = match Offer::parse(text) {
        Ok(offer) => offer,
        Err(error) => return check_error(&error),
    };
    let purposes = [
        Purpose::Echo,
        Purpose::Agent,
        Purpose::Publish { prefer: None },
        Purpose::Subscribe { tracks: Vec::new() },
    ];
    let text = std::str::from_utf8(text).expect("it was read");
    for purpose in purposes {
        match offer.negotiate(purpose) {
            Ok(negotiated) => check_answer(text, &negotiated),
            Err(error) => check_error(&error),
        }
    }
}

/// An offer out of parts that the bytes choose: read as it was made, and answered as the parts allow.
pub fn sdp_roundtrip(data: &[u8]) {
    if let Ok(described) = Described::arbitrary(&mut Unstructured::new(data)) {
        described.check(check_answer);
    }
}

/// The offer that [`sdp_roundtrip`] makes of some bytes.
#[must_use]
pub fn described_offer(data: &[u8]) -> Option<String> {
    let described = Described::arbitrary(&mut Unstructured::new(data)).ok()?;
    Some(described.text())
}

/// The body of a `PATCH`.
pub fn trickle_frag(text: &[u8]) {
    let fragment = match Fragment::parse(text) {
        Ok(fragment) => fragment,
        Err(error) => return check_error(&error),
    };
    assert!(fragment.candidates + fragment.candidates_dropped <= SDP_CANDIDATES_MAX);
    let Some(ice) = fragment.ice else { return };
    let written = write_restart_fragment(&ice, &[], &candidates());
    let again = Fragment::parse(written.as_bytes()).expect("we read what we write");
    assert_eq!(again.ice, Some(ice));
    assert_eq!((again.candidates, again.candidates_dropped), (2, 0));
    assert!(again.end_of_candidates);
}

/// A refusal is shown to the peer and logged, so a peer must not be able to make it long or give it lines.
fn check_error(error: &SdpError) {
    let text = error.to_string();
    assert!((10..300).contains(&text.len()), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

fn check_answer(offer: &str, negotiated: &Negotiated) {
    let plan = negotiated.plan();
    let answer = negotiated.answer(&local(plan), &candidates(), 1);
    let (offered, answered) = (sections(offer), sections(&answer));
    assert!(answer.len() <= 2 * offer.len() + 1_024 * (1 + offered.len()));
    assert!(answer.ends_with("\r\n"));
    assert_eq!(offered.len(), answered.len(), "one section for each");
    let mut used = BTreeSet::new();
    for (offered, answered) in offered.iter().zip(&answered) {
        assert_eq!(offered.media, answered.media);
        assert!(
            answered.formats.is_subset(&offered.formats),
            "payload types are the offer's"
        );
        if answered.port != "0" {
            used.extend(answered.mid);
        }
    }
    let group = answer
        .lines()
        .find_map(|line| line.strip_prefix("a=group:BUNDLE"));
    for mid in group.unwrap_or_default().split_ascii_whitespace() {
        assert!(used.remove(mid), "BUNDLE names {mid}, not in use or twice");
    }
    check_reading_back(plan, &answer);
}

/// Our answer as an offer to one like us: it agrees to the same codecs under the same numbers.
fn check_reading_back(plan: &SessionPlan, answer: &str) {
    let full = answer.replace("a=ice-lite\r\n", "");
    let offer = Offer::parse(full.as_bytes()).expect("we read what we write");
    let one_way = |receive| {
        plan.media
            .iter()
            .all(|media| media.receive == receive && media.send != receive)
    };
    let purpose = if one_way(true) {
        Purpose::Subscribe { tracks: Vec::new() }
    } else if plan.media.iter().all(|media| media.send && media.receive) {
        Purpose::Echo
    } else {
        return;
    };
    let Ok(again) = offer.negotiate(purpose) else {
        // A tagless section has a tag in the plan alone; inactive sections cannot be echoed.
        return;
    };
    let agreed = |plan: &SessionPlan| -> Vec<_> {
        let codecs = plan.media.iter().flat_map(|media| &media.codecs);
        codecs
            .map(|codec| (codec.payload_type, codec.codec, codec.rtx_payload_type))
            .collect()
    };
    assert_eq!(agreed(again.plan()), agreed(plan));
}

/// One media section, read with nothing but `split`.
struct Section<'a> {
    media: &'a str,
    port: &'a str,
    formats: BTreeSet<&'a str>,
    mid: Option<&'a str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
    {
        if let Some(words) = line.strip_prefix("m=") {
            let mut words = words.splitn(4, ' ');
            let (media, port) = (
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
            );
            // We read `0111` as 111, and answer so.
            let formats = words
                .nth(1)
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(|format| format.trim_start_matches('0'))
                .collect();
            sections.push(Section {
                media,
                port,
                formats,
                mid: None,
            });
        } else if let (Some(mid), Some(section)) =
            (line.strip_prefix("a=mid:"), sections.last_mut())
        {
            section.mid = Some(mid);
        }
    }
    sections
}

fn local(plan: &SessionPlan) -> LocalDescription {
    let source = |ssrc| LocalSource {
        ssrc,
        rtx: Some(ssrc + 1_000),
    };
    let sources = plan.media.iter().zip(1..);
    LocalDescription {
        ice: IceCredentials {
            ufrag: UFRAG.to_owned(),
            password: PASSWORD.to_owned(),
        },
        fingerprint: Fingerprint([0xab; 32]),
        sources: sources
            .map(|(media, ssrc)| media.send.then(|| source(ssrc)))
            .collect(),
    }
}

fn candidates() -> [SocketAddr; 2] {
    [
        SocketAddr::from(([192, 0, 2, 1], 40_000)),
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_000)),
    ]
}

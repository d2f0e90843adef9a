//! Tests of the reader, the negotiation and the writer.

use std::net::SocketAddr;

use super::{Negotiated, Offer, Purpose, SdpError};
use crate::plan::{
    AnnouncedSsrc, Codec, DtlsRole, Feedback, Fingerprint, IceCredentials, LocalDescription,
    LocalSource, Rid,
};

mod answer;
mod corpus;
mod fragment;
mod reader;

const PUBLISH: Purpose = Purpose::Publish { prefer: None };
const SUBSCRIBE: Purpose = Purpose::Subscribe { tracks: Vec::new() };

/// A current offer with one audio and one video section; tests change its lines.
const OFFER: &str = "\
v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=ice-ufrag:abcd
a=ice-pwd:0123456789abcdef012345
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
    10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:actpass
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 63
c=IN IP4 0.0.0.0
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtcp-fb:111 transport-cc
a=rtcp-fb:111 nack
a=rtpmap:63 red/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99
c=IN IP4 0.0.0.0
a=mid:1
a=extmap:2 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=sendrecv
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 H264/90000
a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtcp-fb:98 nack pli
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
";

/// [`OFFER`] with one text for another; the first must be there.
fn changed(changes: &[(&str, &str)]) -> String {
    let mut text = OFFER.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in the offer");
        text = text.replace(from, to);
    }
    text
}

fn negotiate(text: &str, purpose: Purpose) -> Result<Negotiated, SdpError> {
    Offer::parse(text.as_bytes())?.negotiate(purpose)
}

fn refusal(text: &str, purpose: Purpose) -> String {
    negotiate(text, purpose).expect_err("refused").to_string()
}

/// Our half, with sources where the plan sends.
fn local(negotiated: &Negotiated) -> LocalDescription {
    let sources = negotiated
        .plan()
        .media
        .iter()
        .zip(0..)
        .map(|(media, index)| {
            let rtx = media
                .codecs
                .iter()
                .any(|codec| codec.rtx_payload_type.is_some());
            media.send.then(|| LocalSource {
                ssrc: 1_000 + index,
                rtx: rtx.then_some(2_000 + index),
            })
        });
    LocalDescription {
        ice: IceCredentials {
            ufrag: "serverUfrag".to_owned(),
            password: "serverPasswordOf24Chars+".to_owned(),
        },
        fingerprint: Fingerprint([0xab; 32]),
        sources: sources.collect(),
    }
}

fn candidates() -> [SocketAddr; 2] {
    ["192.0.2.1:40000", "[2001:db8::1]:40000"].map(|text| text.parse().expect("an address"))
}

fn answer(negotiated: &Negotiated) -> String {
    negotiated.answer(&local(negotiated), &candidates(), 42)
}

/// What was agreed, one word group a section: `0 audio recvonly opus:111`, rtx after a plus sign.
fn summary(negotiated: &Negotiated) -> String {
    let sections = negotiated.plan().media.iter().map(|media| {
        let direction = match (media.receive, media.send) {
            (true, true) => "sendrecv",
            (true, false) => "recvonly",
            (false, true) => "sendonly",
            (false, false) => "inactive",
        };
        let codecs = media.codecs.iter().map(|plan| {
            let name = match plan.codec {
                Codec::H264 {
                    packetization_mode,
                    profile,
                } => {
                    format!("H264-{profile:04x}-{packetization_mode}")
                }
                Codec::Vp9 { profile } => format!("VP9-{profile}"),
                Codec::TelephoneEvent(rate) => format!("event{}", rate.hz() / 1_000),
                codec => codec.name().to_owned(),
            };
            let rtx = plan
                .rtx_payload_type
                .map_or(String::new(), |rtx| format!("+{rtx}"));
            format!("{name}:{}{rtx}", plan.payload_type)
        });
        let codecs = codecs.collect::<Vec<_>>().join(" ");
        format!(
            "{} {} {direction} {codecs}",
            media.mid.as_str(),
            media.kind.name()
        )
    });
    sections.collect::<Vec<_>>().join(", ")
}

//! What is agreed to, what is refused, and the answer as text.

use std::time::Instant;

use str0m::Rtc;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind as PeerKind};

use super::super::SdpErrorKind;
use super::*;
use crate::limits::CODECS_MAX;

#[test]
fn the_answer_to_an_echo_is_this_text() {
    let negotiated = negotiate(OFFER, Purpose::Echo).expect("answered");
    let transport = "a=ice-ufrag:serverUfrag\r\na=ice-pwd:serverPasswordOf24Chars+\r\n\
        a=fingerprint:sha-256 AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:\
        AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB\r\na=setup:passive\r\n";
    let expected = format!(
        "v=0\r\n\
         o=- 42 1 IN IP4 127.0.0.1\r\n\
         s=-\r\n\
         t=0 0\r\n\
         a=ice-lite\r\n\
         a=ice-options:trickle ice2\r\n\
         a=group:BUNDLE 0 1\r\n\
         a=msid-semantic: WMS *\r\n\
         m=audio 40000 UDP/TLS/RTP/SAVPF 111\r\n\
         c=IN IP4 192.0.2.1\r\n\
         {transport}\
         a=mid:0\r\n\
         a=sendrecv\r\n\
         a=rtcp-mux\r\n\
         a=rtcp-mux-only\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 minptime=10;useinbandfec=1\r\n\
         a=msid:antiphon audio0\r\n\
         a=ssrc:1000 cname:antiphon\r\n\
         a=ssrc:1000 msid:antiphon audio0\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\n\
         a=candidate:2 1 udp 2130706175 2001:db8::1 40000 typ host\r\n\
         a=end-of-candidates\r\n\
         m=video 40000 UDP/TLS/RTP/SAVPF 96 97\r\n\
         c=IN IP4 192.0.2.1\r\n\
         {transport}\
         a=mid:1\r\n\
         a=sendrecv\r\n\
         a=rtcp-mux\r\n\
         a=rtcp-mux-only\r\n\
         a=rtcp-rsize\r\n\
         a=extmap:2 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
         a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
         a=rtpmap:96 VP8/90000\r\n\
         a=rtcp-fb:96 nack\r\n\
         a=rtcp-fb:96 nack pli\r\n\
         a=rtcp-fb:96 ccm fir\r\n\
         a=rtcp-fb:96 transport-cc\r\n\
         a=rtpmap:97 rtx/90000\r\n\
         a=fmtp:97 apt=96\r\n\
         a=msid:antiphon video1\r\n\
         a=ssrc-group:FID 1001 2001\r\n\
         a=ssrc:1001 cname:antiphon\r\n\
         a=ssrc:1001 msid:antiphon video1\r\n\
         a=ssrc:2001 cname:antiphon\r\n\
         a=ssrc:2001 msid:antiphon video1\r\n"
    );
    assert_eq!(answer(&negotiated), expected);
}

#[test]
fn the_answer_goes_by_its_first_candidate() {
    let negotiated = negotiate(OFFER, PUBLISH).expect("answered");
    let local = local(&negotiated);
    let v6 = negotiated.answer(&local, &["[::1]:7".parse().expect("an address")], u64::MAX);
    assert!(v6.contains("o=- 9223372036854775807 1 "));
    assert!(v6.contains("m=audio 7 ") && v6.contains("c=IN IP6 ::1\r\n"));
    let none = negotiated.answer(&local, &[], 0);
    assert!(none.contains("m=audio 9 ") && none.contains("c=IN IP4 0.0.0.0\r\n"));
    assert!(none.contains("a=end-of-candidates") && !none.contains("a=candidate"));
}

#[test]
fn each_purpose_turns_each_direction() {
    let echo_or_publish = |offered: &str| {
        Err(format!(
            "line 10 (mid 0): a={offered} sends nothing; \
             to publish or to hear an echo offer a=sendonly or a=sendrecv"
        ))
    };
    let not_received =
        "line 10 (mid 0): a=sendonly receives nothing; to subscribe offer a=recvonly";
    let all_inactive = "every section is inactive; to subscribe offer a=recvonly";
    for (purpose, offered, expected) in [
        (Purpose::Echo, "sendrecv", Ok("a=sendrecv")),
        (Purpose::Echo, "sendonly", Ok("a=recvonly")),
        (Purpose::Echo, "recvonly", echo_or_publish("recvonly")),
        (Purpose::Echo, "inactive", echo_or_publish("inactive")),
        (PUBLISH, "sendrecv", Ok("a=recvonly")),
        (PUBLISH, "sendonly", Ok("a=recvonly")),
        (PUBLISH, "recvonly", echo_or_publish("recvonly")),
        (PUBLISH, "inactive", echo_or_publish("inactive")),
        (SUBSCRIBE, "sendrecv", Ok("a=sendonly")),
        (SUBSCRIBE, "recvonly", Ok("a=sendonly")),
        (SUBSCRIBE, "sendonly", Err(not_received.to_owned())),
        (SUBSCRIBE, "inactive", Err(all_inactive.to_owned())),
    ] {
        let text = changed(&[("a=sendrecv", &format!("a={offered}"))]);
        match (negotiate(&text, purpose), expected) {
            (Ok(negotiated), Ok(line)) => {
                assert_eq!(
                    answer(&negotiated).matches(&format!("{line}\r\n")).count(),
                    2
                );
            }
            (Err(error), Err(message)) => {
                assert_eq!(error.to_string(), message);
                assert_eq!(error.kind(), SdpErrorKind::Unsupported);
            }
            (outcome, expected) => panic!("{offered}: {outcome:?}, not {expected:?}"),
        }
    }
}

#[test]
fn an_inactive_section_of_a_subscriber_stays_inactive_and_out_of_the_plan() {
    let text = changed(&[(
        "a=sendrecv\na=rtcp-mux\na=rtcp-rsize",
        "a=inactive\na=rtcp-mux",
    )]);
    let negotiated = negotiate(&text, SUBSCRIBE).expect("answered");
    assert_eq!(summary(&negotiated), "0 audio sendonly opus:111 PCMU:0");
    let answer = answer(&negotiated);
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
    assert!(answer.contains("a=mid:1\r\na=inactive\r\n") && !answer.contains("video1"));
}

#[test]
fn a_program_takes_sound_both_ways_and_no_video() {
    let negotiated = negotiate(OFFER, Purpose::Agent).expect("answered");
    assert_eq!(summary(&negotiated), "0 audio sendrecv opus:111");
    let text = answer(&negotiated);
    assert!(text.contains("a=group:BUNDLE 0\r\n") && text.contains("m=video 0 "));
    for offered in ["sendonly", "recvonly", "inactive"] {
        let text = changed(&[("a=sendrecv", &format!("a={offered}"))]);
        let message = format!(
            "line 10 (mid 0): a={offered} is one way; a call with an agent needs a=sendrecv"
        );
        assert_eq!(refusal(&text, Purpose::Agent), message);
    }
    let text = changed(&[("m=audio 9 ", "m=audio 0 ")]);
    let message = "no audio section; a call with an agent needs one";
    assert_eq!(refusal(&text, Purpose::Agent), message);
}

#[test]
fn who_sends_has_at_most_one_section_of_a_kind() {
    let second = "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:2\na=sendonly\na=rtcp-mux\n\
                  a=rtpmap:96 VP8/90000\n";
    let text = changed(&[("BUNDLE 0 1", "BUNDLE 0 1 2")]) + second;
    let message = "line 45 (mid 2): a second video section; send at most one audio and one video";
    assert_eq!(refusal(&text, PUBLISH), message);
    assert_eq!(refusal(&text, Purpose::Echo), message);
    // A stopped one does not count, and a subscriber may have as many as it likes.
    let stopped = text.replace(
        "m=video 9 UDP/TLS/RTP/SAVPF 96\n",
        "m=video 0 UDP/TLS/RTP/SAVPF 96\n",
    );
    let agreed = summary(&negotiate(&stopped, PUBLISH).expect("answered"));
    assert_eq!(
        agreed,
        "0 audio recvonly opus:111, 1 video recvonly VP8:96+97"
    );
    let played = negotiate(&text.replace("sendonly", "recvonly"), SUBSCRIBE).expect("answered");
    assert_eq!(played.plan().media.len(), 3);
}

#[test]
fn who_sends_has_at_most_one_stream() {
    let streams = |audio: &str, video: &str| {
        let (audio, video) = (format!("a=mid:0\n{audio}"), format!("a=mid:1\n{video}"));
        changed(&[("a=mid:0\n", &audio), ("a=mid:1\n", &video)])
    };
    let one = "a=msid:one track\n";
    let two = streams(one, "a=msid:two track\n");
    let message = "line 24 (mid 1): a=msid names another stream than an earlier section; send \
                   tracks of one MediaStream";
    for purpose in [PUBLISH, Purpose::Echo] {
        assert_eq!(refusal(&two, purpose.clone()), message);
        // Firefox names none for a track without a stream, and a track may be in several.
        for video in [
            "",
            "a=msid:- track\n",
            "a=msid:one\n",
            "a=msid:one t\na=msid:two t\n",
        ] {
            negotiate(&streams(one, video), purpose.clone()).expect("answered");
        }
    }
    negotiate(&two, SUBSCRIBE).expect("what it would send does not matter");
}

#[test]
fn what_cannot_work_is_refused_with_its_remedy() {
    let fingerprint = {
        let start = OFFER.find("a=fingerprint").expect("there");
        &OFFER[start..OFFER.find("a=setup").expect("there")]
    };
    let sdes = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:8QVQSHJ2AM8gIumHpYRRdWHyZ5NkLhaTD1AE\n";
    for (changes, message) in [
        (
            vec![("t=0 0", "t=0 0\na=ice-lite")],
            "line 5: a=ice-lite on both sides cannot connect and this server is lite; \
             offer full ICE",
        ),
        (
            vec![("a=group:BUNDLE 0 1\n", "")],
            "line 9 (mid 0): not in one a=group:BUNDLE with the other sections; \
             bundle all (bundlePolicy max-bundle): this server has one port",
        ),
        (
            vec![("a=group:BUNDLE 0 1", "a=group:BUNDLE 0")],
            "line 23 (mid 1): not in one a=group:BUNDLE with the other sections; \
             bundle all (bundlePolicy max-bundle): this server has one port",
        ),
        (
            vec![("a=group:BUNDLE 0 1", "a=group:BUNDLE 0\na=group:BUNDLE 1")],
            "line 6: a second a=group:BUNDLE; put all sections into one",
        ),
        (
            vec![("a=rtcp-mux\n", "")],
            "line 10 (mid 0): no a=rtcp-mux; offer it: this server has one port",
        ),
        (
            vec![("actpass", "holdconn")],
            "line 10 (mid 0): a=setup:holdconn cannot connect; offer a=setup:actpass",
        ),
        (
            vec![(fingerprint, "")],
            "line 9 (mid 0): no a=fingerprint:sha-256; offer one",
        ),
        (
            vec![(fingerprint, sdes)],
            "line 10 (mid 0): keys in a=crypto (SDES) are not accepted; \
             offer DTLS with a=fingerprint:sha-256",
        ),
        (
            vec![("a=ice-ufrag:abcd\na=ice-pwd:0123456789abcdef012345\n", "")],
            "line 8 (mid 0): no a=ice-ufrag and a=ice-pwd; offer ICE",
        ),
        (
            vec![("UDP/TLS/RTP/SAVPF 111", "RTP/AVP 111")],
            "line 10 (mid 0): protocol is not SRTP keyed by DTLS; offer UDP/TLS/RTP/SAVPF",
        ),
        (
            vec![("111 0 63", "111 63"), ("opus/48000/2", "speex/16000")],
            "line 10 (mid 0): no audio codec that this server handles; offer opus, PCMU or PCMA",
        ),
        (
            vec![("VP8/90000", "H265/90000"), ("H264/90000", "H266/90000")],
            "line 23 (mid 1): no video codec that this server handles; \
             offer VP8, VP9, H264 or AV1",
        ),
    ] {
        let error = negotiate(&changed(&changes), PUBLISH).expect_err("refused");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (SdpErrorKind::Unsupported, message)
        );
    }
}

#[test]
fn half_of_the_credentials_is_malformed() {
    let half = changed(&[("a=ice-ufrag:abcd\n", "")]);
    let message = "line 9 (mid 0): a=ice-ufrag and a=ice-pwd go together; send both or neither";
    assert_eq!(refusal(&half, PUBLISH), message);
}

#[test]
fn a_subscriber_without_a_common_video_codec_still_hears() {
    let changes = [("VP8/90000", "H265/90000"), ("H264/90000", "H266/90000")];
    let negotiated = negotiate(&changed(&changes), SUBSCRIBE).expect("answered");
    assert_eq!(summary(&negotiated), "0 audio sendonly opus:111 PCMU:0");
    let answer = answer(&negotiated);
    assert!(answer.contains("a=group:BUNDLE 0\r\n"));
    assert!(answer.contains("m=video 0 UDP/TLS/RTP/SAVPF 96 97 98 99\r\n"));
    let deaf = [("111 0 63", "63"), changes[0], changes[1]];
    let message =
        "line 10 (mid 0): no audio codec that this server handles; offer opus, PCMU or PCMA";
    assert_eq!(refusal(&changed(&deaf), SUBSCRIBE), message);
}

#[test]
fn a_data_channel_is_rejected_in_its_place() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\nc=IN IP4 0.0.0.0\na=mid:d\n";
    let first = changed(&[
        ("BUNDLE 0 1", "BUNDLE d 0 1"),
        ("m=audio", &format!("{data}m=audio")),
    ]);
    let negotiated = negotiate(&first, PUBLISH).expect("answered");
    assert_eq!(negotiated.plan().media.len(), 2);
    let answer = answer(&negotiated);
    let start = "a=msid-semantic: WMS *\r\n\
        m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        c=IN IP4 0.0.0.0\r\na=mid:d\r\na=inactive\r\nm=audio 40000 ";
    assert!(answer.contains(start) && answer.contains("a=group:BUNDLE 0 1\r\n"));
    let audio = answer.find("m=audio").expect("there")..answer.find("m=video").expect("there");
    assert!(answer[audio].contains("a=candidate:1 "));
}

#[test]
fn one_section_needs_neither_bundle_nor_mid() {
    let start = OFFER.find("m=video").expect("there");
    let text = OFFER[..start]
        .replace("a=group:BUNDLE 0 1\n", "")
        .replace("a=mid:0\n", "");
    let negotiated = negotiate(&text, Purpose::Echo).expect("answered");
    assert_eq!(summary(&negotiated), "0 audio sendrecv opus:111");
    let answer = answer(&negotiated);
    assert!(!answer.contains("BUNDLE") && !answer.contains("a=mid"));
    assert!(answer.contains("a=candidate:1 "));
}

#[test]
fn bundle_only_sections_share_the_transport_of_the_tagged_one() {
    let text = changed(&[
        ("m=video 9", "m=video 0"),
        (
            "a=mid:1",
            "a=mid:1\na=bundle-only\na=ice-ufrag:wrong\na=ice-pwd:wrongwrongwrongwrongwrong",
        ),
        ("a=rtcp-mux\na=rtcp-rsize", "a=rtcp-rsize"),
    ]);
    let negotiated = negotiate(&text, PUBLISH).expect("answered");
    assert_eq!(negotiated.plan().remote_ice.ufrag, "abcd");
    assert_eq!(negotiated.plan().media.len(), 2);
    // Without a=bundle-only, port 0 is a stopped section.
    let stopped = negotiate(&changed(&[("m=video 9", "m=video 0")]), PUBLISH).expect("answered");
    assert_eq!(summary(&stopped), "0 audio recvonly opus:111");
    assert!(answer(&stopped).contains("a=group:BUNDLE 0\r\n"));
}

#[test]
fn a_publisher_may_be_asked_for_another_of_its_codecs() {
    for (prefer, expected) in [
        (
            "h264",
            "0 audio recvonly opus:111, 1 video recvonly H264-42e0-1:98+99",
        ),
        (
            "PCMU",
            "0 audio recvonly PCMU:0, 1 video recvonly VP8:96+97",
        ),
        (
            "AV1",
            "0 audio recvonly opus:111, 1 video recvonly VP8:96+97",
        ),
    ] {
        let purpose = Purpose::Publish {
            prefer: Some(prefer.to_owned()),
        };
        assert_eq!(
            summary(&negotiate(OFFER, purpose).expect("answered")),
            expected
        );
    }
}

#[test]
fn a_subscriber_gets_the_codecs_of_the_tracks_first() {
    let h264 = Codec::H264 {
        packetization_mode: 1,
        profile: 0x42_00,
    };
    let purpose = Purpose::Subscribe {
        tracks: vec![Codec::Pcmu, h264],
    };
    let negotiated = negotiate(OFFER, purpose).expect("answered");
    let expected = "0 audio sendonly PCMU:0 opus:111, 1 video sendonly H264-42e0-1:98+99 VP8:96+97";
    assert_eq!(summary(&negotiated), expected);
    let answer = answer(&negotiated);
    assert!(answer.contains("m=video 40000 UDP/TLS/RTP/SAVPF 98 99 96 97\r\n"));
    assert!(answer.contains("a=rtpmap:0 PCMU/8000\r\n"));
}

#[test]
fn codecs_of_a_section_are_capped() {
    let numbers: Vec<_> = (96..96 + CODECS_MAX + 1)
        .map(|number| number.to_string())
        .collect();
    let maps: String = numbers
        .iter()
        .map(|number| format!("a=rtpmap:{number} VP8/90000\n"))
        .collect();
    let video = OFFER.find("m=video").expect("there");
    let text = format!(
        "{}m=video 9 UDP/TLS/RTP/SAVPF {}\na=mid:1\na=rtcp-mux\n{maps}",
        &OFFER[..video],
        numbers.join(" ")
    );
    let negotiated = negotiate(&text, SUBSCRIBE).expect("answered");
    assert_eq!(negotiated.plan().media[1].codecs.len(), CODECS_MAX);
}

#[test]
fn h264_profiles_match_by_family_and_mode() {
    let h264 = |packetization_mode, profile| Codec::H264 {
        packetization_mode,
        profile,
    };
    let groups: [&[u16]; 4] = [
        &[0x42e0, 0x42c0, 0x4200, 0x4de0],
        &[0x4d00, 0x4d40],
        &[0x640c],
        &[0x6400, 0x6410],
    ];
    for (i, a) in groups.iter().enumerate() {
        for (j, b) in groups.iter().enumerate() {
            for (&a, &b) in a.iter().zip(b.iter().rev()) {
                assert_eq!(
                    h264(1, a).is_compatible_with(h264(1, b)),
                    i == j,
                    "{a:x} {b:x}"
                );
                assert!(!h264(1, a).is_compatible_with(h264(0, b)));
            }
        }
    }
    assert!(!Codec::Vp9 { profile: 0 }.is_compatible_with(Codec::Vp9 { profile: 2 }));
    assert!(!Codec::Vp8.is_compatible_with(Codec::Vp9 { profile: 0 }));
    assert!(Codec::Av1 { profile: 0 }.is_compatible_with(Codec::Av1 { profile: 0 }));
}

#[test]
fn formats_that_are_not_quite_ours_are_passed_over() {
    for (changes, expected) in [
        (
            vec![("packetization-mode=1", "packetization-mode=2")],
            "VP8:96+97",
        ),
        (
            vec![("profile-level-id=42e01f", "profile-level-id=xx")],
            "VP8:96+97",
        ),
        (vec![("VP8/90000", "VP8/48000")], "H264-42e0-1:98+99"),
        (
            vec![("VP8/90000", "vp8/90000"), ("apt=98", "apt=980")],
            "vp8:96+97 H264-42e0-1:98",
        ),
        (
            vec![(";packetization-mode=1;profile-level-id=42e01f", "")],
            "VP8:96+97 H264-4200-0:98+99",
        ),
        (
            vec![
                ("VP8/90000", "VP9/90000"),
                ("apt=96", "apt=96;rtx-time=3000"),
            ],
            "VP9-0:96+97 H264-42e0-1:98+99",
        ),
        (
            vec![("VP8/90000\n", "VP9/90000\na=fmtp:96 profile-id=2\n")],
            "VP9-2:96+97 H264-42e0-1:98+99",
        ),
        (
            vec![(
                "VP8/90000\n",
                "AV1/90000\na=fmtp:96 level-idx=5;profile=1\n",
            )],
            "AV1:96+97 H264-42e0-1:98+99",
        ),
    ] {
        let negotiated = negotiate(&changed(&changes), SUBSCRIBE).expect("answered");
        let expected = expected.replace("vp8", "VP8");
        let agreed = summary(&negotiated);
        let all = format!("0 audio sendonly opus:111 PCMU:0, 1 video sendonly {expected}");
        assert!(agreed == all, "{agreed}, not {all}");
    }
}

#[test]
fn extensions_need_a_fitting_direction_and_form() {
    let mid = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid";
    let ids = |changes: &[(&str, &str)], purpose| {
        let negotiated = negotiate(&changed(changes), purpose).expect("answered");
        (
            negotiated.plan().media[0].extensions.mid,
            answer(&negotiated),
        )
    };
    let with = |id: &str| mid.replace(":4 ", &format!(":{id} "));
    assert_eq!(ids(&[(mid, &with("15"))], PUBLISH).0, None);
    let (id, answer) = ids(
        &[(mid, &with("15")), ("s=-", "s=-\na=extmap-allow-mixed")],
        PUBLISH,
    );
    assert!(id == Some(15) && answer.matches("a=extmap-allow-mixed").count() == 1);
    let (id, answer) = ids(
        &[
            (mid, &with("255")),
            ("a=sendrecv", "a=extmap-allow-mixed\na=sendrecv"),
        ],
        PUBLISH,
    );
    assert!(id == Some(255) && answer.matches("a=extmap-allow-mixed").count() == 2);
    for unusable in ["0", "256", "4096", "x", "4/inactive", "4/odd"] {
        assert_eq!(
            ids(&[(mid, &with(unusable))], PUBLISH).0,
            None,
            "{unusable}"
        );
    }
    let (id, answer) = ids(&[(mid, &with("4/sendonly"))], PUBLISH);
    assert!(id == Some(4) && answer.contains(&with("4/recvonly")));
    assert_eq!(ids(&[(mid, &with("4/sendonly"))], SUBSCRIBE).0, None);
    assert_eq!(ids(&[(mid, &with("4/recvonly"))], PUBLISH).0, None);
    let (id, answer) = ids(&[(mid, &with("4/recvonly"))], SUBSCRIBE);
    assert!(id == Some(4) && answer.contains(&with("4/sendonly")));
}

#[test]
fn transport_cc_is_for_video_that_we_receive() {
    for (purpose, expected) in [(PUBLISH, true), (Purpose::Echo, true), (SUBSCRIBE, false)] {
        let negotiated = negotiate(OFFER, purpose).expect("answered");
        let [audio, video] = &negotiated.plan().media[..] else {
            panic!("two sections")
        };
        assert_eq!(audio.codecs[0].feedback, Feedback::default());
        assert_eq!(audio.extensions.transport_cc, None);
        let feedback = video.codecs[0].feedback;
        assert_eq!(feedback.transport_cc, expected);
        assert!(feedback.nack && feedback.pli && feedback.fir && !feedback.remb);
        assert_eq!(video.extensions.transport_cc.is_some(), expected);
        assert_eq!(answer(&negotiated).contains("transport-cc"), expected);
    }
    // The feedback is no use without the extension that numbers the packets.
    let without = changed(&[("a=extmap:2 http", "a=extmap:2 xttp")]);
    let negotiated = negotiate(&without, PUBLISH).expect("answered");
    assert!(!negotiated.plan().media[1].codecs[0].feedback.transport_cc);
}

#[test]
fn reduced_size_rtcp_needs_the_consent_of_each_section() {
    let some = negotiate(OFFER, PUBLISH).expect("answered");
    assert!(!some.plan().reduced_size_rtcp);
    assert_eq!(answer(&some).matches("a=rtcp-rsize").count(), 1);
    let all = changed(&[(
        "a=rtcp-mux\na=rtpmap:111",
        "a=rtcp-mux\na=rtcp-rsize\na=rtpmap:111",
    )]);
    assert!(
        negotiate(&all, PUBLISH)
            .expect("answered")
            .plan()
            .reduced_size_rtcp
    );
}

#[test]
fn of_simulcast_the_first_rendition_of_our_codec_is_taken() {
    let rids = "a=mid:1\na=rid:a send pt=98;max-width=1280\na=rid:b send max-fps=30;pt=96,98\n\
                a=rid:c send\na=rid:d recv\n";
    for (simulcast, expected) in [
        (
            "send ~b,c;a recv d",
            Some("a=rid:b recv max-fps=30\r\na=simulcast:recv b\r\n"),
        ),
        (
            "recv d send a;c;b",
            Some("a=rid:c recv\r\na=simulcast:recv c\r\n"),
        ),
        ("send x;d;c", Some("a=rid:c recv\r\na=simulcast:recv c\r\n")),
        ("send a", None),
        ("recv c", None),
        ("send", None),
        (" send rid=b,c paused=b", None),
    ] {
        let text = changed(&[("a=mid:1\n", &format!("{rids}a=simulcast:{simulcast}\n"))]);
        let negotiated = negotiate(&text, PUBLISH).expect("answered");
        let answer = answer(&negotiated);
        assert_eq!(
            negotiated.plan().media[1].rids.len(),
            usize::from(expected.is_some())
        );
        match expected {
            Some(lines) => assert!(answer.contains(lines), "{simulcast}: {answer}"),
            None => assert!(!answer.contains("simulcast") && !answer.contains("a=rid")),
        }
    }
    // Renditions cannot be told apart without the extension.
    let text = changed(&[
        ("a=mid:1\n", &format!("{rids}a=simulcast:send b\n")),
        ("a=extmap:10", "a=extmap:0"),
    ]);
    assert!(
        negotiate(&text, PUBLISH).expect("answered").plan().media[1]
            .rids
            .is_empty()
    );
}

#[test]
fn announced_sources_are_paired_with_their_retransmissions() {
    let ssrcs = "a=mid:1\na=ssrc-group:FID 7 8\na=ssrc:7 cname:x\na=ssrc:7 msid:a b\n\
                 a=ssrc:8 cname:x\na=ssrc:0 cname:x\na=ssrc-group:SIM 7 0\n";
    let text = changed(&[("a=mid:1\n", ssrcs)]);
    let negotiated = negotiate(&text, PUBLISH).expect("answered");
    let expected = [
        AnnouncedSsrc {
            ssrc: 7,
            rtx: Some(8),
        },
        AnnouncedSsrc { ssrc: 0, rtx: None },
    ];
    assert_eq!(negotiated.plan().media[1].ssrcs, expected);
    assert!(
        negotiate(&text, SUBSCRIBE).expect("answered").plan().media[1]
            .ssrcs
            .is_empty()
    );
}

#[test]
fn the_password_is_in_no_debug_output() {
    let offer = Offer::parse(OFFER.as_bytes()).expect("read");
    let negotiated = offer.negotiate(Purpose::Echo).expect("answered");
    assert!(!format!("{offer:?} {negotiated:?}").contains("0123456789abcdef"));
}

#[test]
fn a_str0m_client_accepts_each_answer() {
    str0m::crypto::from_feature_flags().install_process_default();
    for (purpose, direction) in [
        (Purpose::Echo, Direction::SendRecv),
        (PUBLISH, Direction::SendOnly),
        (SUBSCRIBE, Direction::RecvOnly),
    ] {
        let mut client = Rtc::new(start());
        let mut changes = client.sdp_api();
        for kind in [PeerKind::Audio, PeerKind::Video] {
            changes.add_media(kind, direction, Some("stream".to_owned()), None, None);
        }
        changes.add_channel("data".to_owned());
        let (offer, pending) = changes.apply().expect("an offer");
        let negotiated = negotiate(&offer.to_sdp_string(), purpose).expect("answered");
        assert_eq!(negotiated.plan().media.len(), 2);
        let text = answer(&negotiated);
        let accepted = SdpAnswer::from_sdp_string(&text).expect("an answer");
        client
            .sdp_api()
            .accept_answer(pending, accepted)
            .expect("accepted");
        for media in &negotiated.plan().media {
            let theirs = client.media(media.mid.as_str().into()).expect("agreed");
            assert_eq!(theirs.direction(), direction);
            let numbers: Vec<_> = media
                .codecs
                .iter()
                .map(|codec| codec.payload_type)
                .collect();
            let mut remote: Vec<_> = theirs.remote_pts().iter().map(|number| **number).collect();
            remote.retain(|number| numbers.contains(number));
            assert_eq!(remote, numbers);
        }
    }
}

/// The only instant here; the client is never run.
#[expect(
    clippy::disallowed_methods,
    reason = "a str0m client starts at an instant"
)]
fn start() -> Instant {
    Instant::now()
}

/// Keys go on the clock of the sound, under the offer's numbers and behind its codecs.
#[test]
fn telephone_events_are_agreed_to_beside_a_codec_on_its_clock() {
    let all = "a=rtpmap:110 telephone-event/48000\na=fmtp:110 0-15\n\
               a=rtpmap:101 telephone-event/8000\na=rtpmap:113 telephone-event/16000\n";
    for (types, lines, purpose, expected) in [
        (
            "111 0 101 110 113",
            all,
            Purpose::Echo,
            "opus:111 event48:110",
        ),
        (
            "111 0 101 110 113",
            all,
            Purpose::Agent,
            "opus:111 event48:110",
        ),
        ("110 0 111 101 113", all, PUBLISH, "PCMU:0 event8:101"),
        (
            "111 101 0 110 113",
            all,
            SUBSCRIBE,
            "opus:111 PCMU:0 event48:110 event8:101",
        ),
        // Firefox has but these.
        (
            "111 0 101",
            "a=rtpmap:101 telephone-event/8000\n",
            Purpose::Echo,
            "opus:111 event8:101",
        ),
        (
            "111 113",
            "a=rtpmap:113 telephone-event/16000\n",
            Purpose::Echo,
            "opus:111",
        ),
        (
            "111 113",
            "a=rtpmap:113 telephone-event\n",
            Purpose::Echo,
            "opus:111",
        ),
    ] {
        let sections = format!("a=rtpmap:63 red/48000/2\n{lines}");
        let text = changed(&[
            ("SAVPF 111 0 63", &format!("SAVPF {types} 63")),
            ("a=rtpmap:63 red/48000/2\n", &sections),
        ]);
        let negotiated = negotiate(&text, purpose.clone()).expect("answered");
        let agreed = summary(&negotiated);
        let audio = agreed.split(", ").next().unwrap_or_default();
        assert!(
            audio.ends_with(&format!(" {expected}")),
            "{purpose:?}: {agreed}"
        );
        let answer = negotiated.answer(&local(&negotiated), &[], 1);
        if expected.contains("event48:110") {
            assert!(answer.contains("a=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-15\r\n"));
        }
    }
    // Keys alone are no sound.
    let text = changed(&[
        ("SAVPF 111 0 63", "SAVPF 101"),
        (
            "a=rtpmap:63 red/48000/2",
            "a=rtpmap:101 telephone-event/8000",
        ),
    ]);
    assert!(refusal(&text, Purpose::Echo).contains("no audio codec"));
}

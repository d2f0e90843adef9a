//! Every offer of the public corpus, unmodified, with its outcome for each purpose.

use super::super::attributes::Direction;
use super::super::lines::Lines;
use super::*;
use crate::testing::folder;

/// Outcomes as [`summary`] has them, or the refusal word for word.
struct Case {
    file: &'static str,
    publish: Result<&'static str, &'static str>,
    echo: Result<&'static str, &'static str>,
    subscribe: Result<&'static str, &'static str>,
}

impl Case {
    /// Refused whatever it is for.
    const fn refused(file: &'static str, why: &'static str) -> Self {
        Self {
            file,
            publish: Err(why),
            echo: Err(why),
            subscribe: Err(why),
        }
    }
}

const NO_MEDIA: &str = "no audio or video section; offer at least one";

const CASES: [Case; 29] = [
    Case {
        file: "aiortc-1.16-offer",
        publish: Ok("0 audio recvonly opus:96, 1 video recvonly VP8:97+98"),
        echo: Ok("0 audio sendrecv opus:96, 1 video sendrecv VP8:97+98"),
        subscribe: Ok("0 audio sendonly opus:96 PCMU:0 PCMA:8, 1 video sendonly \
             VP8:97+98 H264-4200-1:99+100 H264-42e0-1:101+102"),
    },
    Case {
        file: "chrome-audio",
        publish: Ok("audio audio recvonly opus:111 event48:110"),
        echo: Ok("audio audio sendrecv opus:111 event48:110"),
        subscribe: Ok("audio audio sendonly opus:111 PCMU:0 PCMA:8 event48:110 event8:126"),
    },
    Case::refused(
        "chrome-hacky",
        "line 7 (mid audio): keys in a=crypto (SDES) are not accepted; \
             offer DTLS with a=fingerprint:sha-256",
    ),
    Case {
        file: "chrome-ssrc-group-fid",
        publish: Ok(
            "audio audio recvonly opus:111 event48:110, video video recvonly \
             VP8:96+97",
        ),
        echo: Ok(
            "audio audio sendrecv opus:111 event48:110, video video sendrecv \
             VP8:96+97",
        ),
        subscribe: Ok(
            "audio audio sendonly opus:111 PCMU:0 PCMA:8 event48:110 event8:126, \
             video video sendonly VP8:96+97 VP9-0:98+99 H264-42e0-1:100+101",
        ),
    },
    Case {
        file: "chrome-str0m-docs-0",
        publish: Ok("1 audio recvonly opus:111 event48:110, 2 video recvonly VP8:96+97"),
        echo: Ok("1 audio recvonly opus:111 event48:110, 2 video recvonly VP8:96+97"),
        subscribe: Err(
            "line 20 (mid 1): a=sendonly receives nothing; to subscribe offer \
             a=recvonly",
        ),
    },
    Case::refused(
        "chrome-to-icelite-audio",
        "line 5: a=ice-lite on both sides cannot connect and this server \
             is lite; offer full ICE",
    ),
    Case {
        file: "chrome-video",
        publish: Ok("video video recvonly VP8:96+97"),
        echo: Ok("video video sendrecv VP8:96+97"),
        subscribe: Ok("video video sendonly VP8:96+97 VP9-0:98+99"),
    },
    Case {
        file: "dtls-session-level",
        publish: Ok("audio audio recvonly PCMU:0"),
        echo: Ok("audio audio sendrecv PCMU:0"),
        subscribe: Ok("audio audio sendonly PCMU:0 PCMA:8"),
    },
    Case {
        file: "ffmpeg-whip-actpass",
        publish: Ok("0 audio recvonly opus:111, 1 video recvonly H264-42c0-1:106"),
        echo: Ok("0 audio recvonly opus:111, 1 video recvonly H264-42c0-1:106"),
        subscribe: Err(
            "line 8 (mid 0): a=sendonly receives nothing; to subscribe offer \
             a=recvonly",
        ),
    },
    Case {
        file: "ffmpeg-whip-passive",
        publish: Ok("0 audio recvonly opus:111, 1 video recvonly H264-42c0-1:106"),
        echo: Ok("0 audio recvonly opus:111, 1 video recvonly H264-42c0-1:106"),
        subscribe: Err(
            "line 8 (mid 0): a=sendonly receives nothing; to subscribe offer \
             a=recvonly",
        ),
    },
    Case {
        file: "firefox152-simulcast",
        publish: Ok("0 video recvonly VP8:120+124, 1 audio recvonly opus:109 event8:101"),
        echo: Ok("0 video sendrecv VP8:120+124, 1 audio sendrecv opus:109 event8:101"),
        subscribe: Ok(
            "0 video sendonly VP8:120+124 VP9-0:121+125 AV1:99+100, 1 audio \
             sendonly opus:109 PCMU:0 PCMA:8 event8:101",
        ),
    },
    Case {
        file: "firefox58-audio",
        publish: Ok("sdparta_0 audio recvonly opus:109 event8:101"),
        echo: Ok("sdparta_0 audio sendrecv opus:109 event8:101"),
        subscribe: Ok("sdparta_0 audio sendonly opus:109 PCMU:0 PCMA:8 event8:101"),
    },
    Case {
        file: "firefox61-video",
        publish: Ok("sdparta_0 video recvonly VP8:120"),
        echo: Ok("sdparta_0 video sendrecv VP8:120"),
        subscribe: Ok("sdparta_0 video sendonly VP8:120 VP9-0:121"),
    },
    Case::refused("firefox63-datachannel", NO_MEDIA),
    Case {
        file: "freeswitch-audio",
        publish: Ok("0 audio recvonly PCMA:8 event8:101"),
        echo: Ok("0 audio sendrecv PCMA:8 event8:101"),
        subscribe: Ok("0 audio sendonly PCMA:8 event8:101"),
    },
    Case::refused(
        "freeswitch-icelite",
        "line 6: a=ice-lite on both sides cannot connect and this server \
             is lite; offer full ICE",
    ),
    Case {
        file: "gstreamer-1.22-webrtcbin",
        publish: Ok("audio0 audio recvonly opus:97, video1 video recvonly VP8:96"),
        echo: Ok("audio0 audio sendrecv opus:97, video1 video sendrecv VP8:96"),
        subscribe: Ok("audio0 audio sendonly opus:97, video1 video sendonly VP8:96"),
    },
    Case {
        file: "ice-session-level-cred",
        publish: Ok("audio audio recvonly PCMU:0"),
        echo: Ok("audio audio sendrecv PCMU:0"),
        subscribe: Ok("audio audio sendonly PCMU:0 PCMA:8"),
    },
    Case {
        file: "jsep-example",
        publish: Ok("a1 audio recvonly opus:96 event48:98, v1 video recvonly VP8:100+101"),
        echo: Ok("a1 audio sendrecv opus:96 event48:98, v1 video sendrecv VP8:100+101"),
        subscribe: Ok(
            "a1 audio sendonly opus:96 PCMU:0 PCMA:8 event48:98 event8:97, v1 video \
             sendonly VP8:100+101",
        ),
    },
    Case {
        file: "jssip-sip-offer",
        publish: Ok("audio audio recvonly opus:111 event8:126"),
        echo: Ok("audio audio sendrecv opus:111 event8:126"),
        subscribe: Ok("audio audio sendonly opus:111 PCMU:0 PCMA:8 event8:126"),
    },
    Case {
        file: "libwebrtc-corpus-firefox-1",
        publish: Ok(
            "sdparta_0 audio recvonly opus:109, sdparta_1 video recvonly \
             VP8:120",
        ),
        echo: Ok(
            "sdparta_0 audio sendrecv opus:109, sdparta_1 video sendrecv \
             VP8:120",
        ),
        subscribe: Ok(
            "sdparta_0 audio sendonly opus:109 PCMU:0 PCMA:8, sdparta_1 video \
             sendonly VP8:120 H264-42e0-1:126 H264-42e0-0:97",
        ),
    },
    Case {
        file: "libwebrtc-corpus-opera-1",
        publish: Ok(
            "audio audio recvonly opus:111 event8:126, video video recvonly \
             VP8:100+96",
        ),
        echo: Ok(
            "audio audio sendrecv opus:111 event8:126, video video sendrecv \
             VP8:100+96",
        ),
        subscribe: Ok(
            "audio audio sendonly opus:111 PCMU:0 PCMA:8 event8:126, video video \
             sendonly VP8:100+96 VP9-0:101+97",
        ),
    },
    Case {
        file: "obs-whip-libdatachannel",
        publish: Ok("0 audio recvonly opus:111, 1 video recvonly H264-42e0-1:96"),
        echo: Ok("0 audio recvonly opus:111, 1 video recvonly H264-42e0-1:96"),
        subscribe: Err(
            "line 13 (mid 0): a=sendonly receives nothing; to subscribe offer \
             a=recvonly",
        ),
    },
    Case {
        file: "rheomesh-sdp-audio-video-original",
        publish: Ok("0 audio recvonly opus:111 event48:110, 1 video recvonly VP8:96+97"),
        echo: Ok("0 audio recvonly opus:111 event48:110, 1 video recvonly VP8:96+97"),
        subscribe: Err(
            "line 8 (mid 0): a=sendonly receives nothing; to subscribe offer \
             a=recvonly",
        ),
    },
    Case {
        file: "rtcp-fb-star",
        publish: Ok("sdparta_0 video recvonly VP8:120"),
        echo: Ok("sdparta_0 video sendrecv VP8:120"),
        subscribe: Ok("sdparta_0 video sendonly VP8:120 VP9-0:121"),
    },
    Case {
        file: "safari-h264",
        publish: Ok(
            "audio audio recvonly opus:111 event48:110, video video recvonly \
             H264-640c-1:96+97",
        ),
        echo: Ok(
            "audio audio sendrecv opus:111 event48:110, video video sendrecv \
             H264-640c-1:96+97",
        ),
        subscribe: Ok(
            "audio audio sendonly opus:111 PCMU:0 PCMA:8 event48:110 event8:126, \
             video video sendonly H264-640c-1:96+97 H264-42e0-1:98+99 VP8:100+101",
        ),
    },
    Case {
        file: "safari-webrtc-rs",
        publish: Ok("0 audio recvonly opus:111 event48:110, 1 video recvonly \
             H264-640c-1:96+97"),
        echo: Ok("0 audio sendrecv opus:111 event48:110, 1 video sendrecv \
             H264-640c-1:96+97"),
        subscribe: Ok(
            "0 audio sendonly opus:111 PCMU:0 PCMA:8 event48:110 event8:126, 1 \
             video sendonly H264-640c-1:96+97 H264-42e0-1:98+99 H264-640c-0:100+101 \
             H264-42e0-0:103+104 VP8:107+108 VP9-0:109+114 VP9-2:115+116",
        ),
    },
    Case::refused(
        "simulcast-rid-draft",
        "line 6: protocol is not SRTP keyed by DTLS; offer \
             UDP/TLS/RTP/SAVPF",
    ),
    Case::refused(
        "sip-normal",
        "line 10: not in one a=group:BUNDLE with the other sections; \
             bundle all (bundlePolicy max-bundle): this server has one port",
    ),
];

fn text_of(folder: &std::path::Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(format!("sdp/{file}.sdp"))).expect("readable")
}

#[test]
fn each_offer_of_the_corpus_has_its_outcome() {
    let Some(folder) = folder() else { return };
    for case in &CASES {
        let text = text_of(&folder, case.file);
        for (purpose, expected) in [
            (PUBLISH, case.publish),
            (Purpose::Echo, case.echo),
            (SUBSCRIBE, case.subscribe),
        ] {
            let outcome = negotiate(&text, purpose.clone());
            let outcome = outcome
                .map(|agreed| summary(&agreed))
                .map_err(|error| error.to_string());
            let outcome = outcome.as_deref().map_err(String::as_str);
            assert_eq!(outcome, expected, "{} {purpose:?}", case.file);
        }
    }
}

#[test]
fn the_table_has_each_file_of_the_corpus() {
    let Some(folder) = folder() else { return };
    let entries = std::fs::read_dir(folder.join("sdp")).expect("readable");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sdp"));
    files.sort();
    let files: Vec<_> = files
        .iter()
        .filter_map(|path| path.file_stem()?.to_str())
        .collect();
    assert_eq!(files, CASES.map(|case| case.file));
}

#[test]
fn each_answer_fits_its_offer() {
    let Some(folder) = folder() else { return };
    let mut answers = 0;
    for case in &CASES {
        let text = text_of(&folder, case.file);
        for purpose in [PUBLISH, Purpose::Echo, SUBSCRIBE] {
            let Ok(agreed) = negotiate(&text, purpose) else {
                continue;
            };
            check_answer(&text, &answer(&agreed));
            answers += 1;
        }
    }
    assert_eq!(answers, 64);
}

/// Same sections in the same order; nothing in the answer that was not offered (RFC 3264 §6).
fn check_answer(offer_text: &str, answer_text: &str) {
    let offer = Offer::parse(offer_text.as_bytes()).expect("read");
    let answer = Offer::parse(answer_text.as_bytes()).expect("read back");
    assert_eq!(answer.sections.len(), offer.sections.len());
    assert_eq!(answer.session.allow_mixed, offer.session.allow_mixed);
    for (index, (offered, answered)) in offer.sections.iter().zip(&answer.sections).enumerate() {
        assert_eq!(answered.media, offered.media);
        assert_eq!(answered.protocol, offered.protocol);
        assert_eq!(answered.mid, offered.mid);
        let in_group = answer
            .bundle
            .iter()
            .flatten()
            .any(|&member| member == index);
        if answered.port == 0 {
            assert!(!in_group, "a rejected section is not bundled");
            assert_eq!(answered.formats_text, offered.formats_text);
            continue;
        }
        assert_eq!(in_group, offered.bundled);
        assert!(answered.rtcp_mux && answered.transport.fingerprint.is_some());
        assert!(answered.transport.ufrag.is_some() && answered.transport.password.is_some());
        assert!(answered.rtcp_rsize == offered.rtcp_rsize);
        let offered_types: Vec<_> = offered.formats.iter().map(|f| f.payload_type).collect();
        for format in answered.formats.iter() {
            assert!(offered_types.contains(&format.payload_type));
            let same = offered
                .formats
                .iter()
                .find(|f| f.payload_type == format.payload_type);
            assert_eq!(format.fmtp, same.and_then(|same| same.fmtp));
            assert!(format.rtpmap.is_some());
        }
        for extension in &answered.extensions {
            let same = offered
                .extensions
                .iter()
                .find(|e| e.id == extension.id)
                .expect("offered");
            assert_eq!(extension.extension, same.extension);
        }
        let sends = answered.direction.expect("stated").sends();
        assert!(!sends || offered.direction.is_none_or(Direction::receives));
    }
    let mut lines = Lines::new(answer_text.as_bytes()).expect("text");
    let (mut candidates, mut mux_only) = (0, 0);
    while let Some(line) = lines.next().expect("a line") {
        match line.attribute().0 {
            "candidate" => candidates += 1,
            "rtcp-mux-only" => mux_only += 1,
            _ => {}
        }
    }
    let in_use = answer
        .sections
        .iter()
        .filter(|section| section.port != 0)
        .count();
    assert_eq!((candidates, mux_only), (2, in_use));
}

#[test]
fn ffmpeg_that_waits_for_a_handshake_makes_us_the_client() {
    let Some(folder) = folder() else { return };
    for (file, role, setup) in [
        ("ffmpeg-whip-passive", DtlsRole::Client, "a=setup:active"),
        ("ffmpeg-whip-actpass", DtlsRole::Server, "a=setup:passive"),
        ("freeswitch-audio", DtlsRole::Server, "a=setup:passive"),
    ] {
        let agreed = negotiate(&text_of(&folder, file), PUBLISH).expect("answered");
        assert_eq!(agreed.plan().dtls_role, role);
        let answer = answer(&agreed);
        assert!(answer.lines().any(|line| line == setup), "{file}");
    }
}

#[test]
fn firefox_simulcast_is_answered_with_its_first_rendition() {
    let Some(folder) = folder() else { return };
    let text = text_of(&folder, "firefox152-simulcast");
    let agreed = negotiate(&text, PUBLISH).expect("answered");
    let video = &agreed.plan().media[0];
    assert_eq!(video.rids, [Rid::new(b"h").expect("a rid")]);
    assert_eq!(
        (video.extensions.rid, video.extensions.repaired_rid),
        (Some(9), Some(10))
    );
    let answer = answer(&agreed);
    let lines: Vec<_> = answer.lines().collect();
    for line in [
        "a=rid:h recv",
        "a=simulcast:recv h",
        "a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("a=rid:"))
            .count(),
        1
    );
    // A subscriber is sent one stream, whatever it could send itself.
    let played = negotiate(&text, SUBSCRIBE).expect("answered");
    assert!(!super::answer(&played).contains("simulcast"));
}

#[test]
fn the_wildcard_feedback_of_an_old_firefox_counts_for_each_codec() {
    let Some(folder) = folder() else { return };
    let agreed = negotiate(&text_of(&folder, "rtcp-fb-star"), SUBSCRIBE).expect("answered");
    let expected = Feedback {
        nack: true,
        pli: true,
        ..Feedback::default()
    };
    let codecs = &agreed.plan().media[0].codecs;
    assert_eq!(codecs.len(), 2);
    assert!(codecs.iter().all(|codec| codec.feedback == expected));
}

//! Fragments of trickle ICE, and the HTTP examples of RFC 9725 and the WHEP draft.

use super::super::{Fragment, SdpErrorKind, write_restart_fragment};
use super::*;
use crate::limits::SDP_CANDIDATES_MAX;
use crate::testing::folder;

/// The body of the `number`th message of an HTTP example, as printed.
fn body(example: &str, number: usize) -> String {
    let mut bodies = Vec::new();
    let mut inside = false;
    for line in example.lines() {
        let starts_message = line.starts_with("HTTP/1.1") || line.ends_with("HTTP/1.1");
        if starts_message {
            bodies.push(String::new());
            inside = false;
        } else if line.is_empty() {
            inside = true;
        } else if inside {
            let body = bodies.last_mut().expect("after a start line");
            body.push_str(line);
            body.push_str("\r\n");
        }
    }
    bodies.swap_remove(number)
}

#[test]
fn the_http_examples_are_read() {
    let Some(folder) = folder() else { return };
    let example = |name: &str| {
        let path = folder.join(format!("sdp/http-example-{name}.txt"));
        std::fs::read_to_string(path).expect("readable")
    };
    let whip = example("whip-rfc9725-1");
    let published = negotiate(&body(&whip, 0), PUBLISH).expect("answered");
    assert_eq!(
        summary(&published),
        "0 audio recvonly opus:111, 1 video recvonly VP8:96+97"
    );
    let whep = example("whep-draft-4");
    let played = negotiate(&body(&whep, 0), SUBSCRIBE).expect("answered");
    assert_eq!(
        summary(&played),
        "0 audio sendonly opus:111, 1 video sendonly VP8:96+97"
    );
    // An answer of somebody else's lite server is a description, but no offer for us.
    let message = "line 7: a=ice-lite on both sides cannot connect and this server is lite; \
                   offer full ICE";
    assert_eq!(refusal(&body(&whip, 1), PUBLISH), message);
    // A counter-offer: two sections of one kind and data, all bundled.
    let counter = example("whep-draft-5");
    let message = "line 59 (mid 3): a second video section; send at most one audio and one video";
    assert_eq!(refusal(&body(&counter, 1), PUBLISH), message);

    for (name, ufrag, password, end) in [
        ("whip-rfc9725-2", "EsAw", "P2uYro0UCOQ4zxjKXaWCBui1", true),
        ("whip-rfc9725-3", "ysXw", "vw5LmwG4y/e6dPP/zAP9Gp5k", false),
        ("whep-draft-6", "EsAw", "P2uYro0UCOQ4zxjKXaWCBui1", true),
        ("whep-draft-7", "ysXw", "vw5LmwG4y/e6dPP/zAP9Gp5k", false),
    ] {
        let fragment = Fragment::parse(body(&example(name), 0).as_bytes()).expect("a fragment");
        let ice = IceCredentials {
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
        };
        let expected = Fragment {
            ice: Some(ice),
            candidates: 2,
            candidates_dropped: 2,
            end_of_candidates: end,
        };
        assert_eq!(fragment, expected, "{name}");
    }
}

#[test]
fn candidates_that_cannot_reach_us_are_dropped_without_a_word() {
    let text = "a=mid:0\r\n\
        a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n\
        a=candidate:1 1 UDP 1 2001:db8::1 5000 typ srflx raddr :: rport 0\r\n\
        a=candidate:1 1 udp 1 abc.local 5000 typ host\r\n\
        a=candidate:1 1 udp 1 example.org 5000 typ host\r\n\
        a=candidate:1 2 udp 1 192.0.2.1 5001 typ host\r\n\
        a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active\r\n\
        a=candidate:1 1 udp 1 192.0.2.1 port typ host\r\n\
        a=candidate:1 1 udp 1 192.0.2.1\r\n\
        a=candidate:\r\n";
    let fragment = Fragment::parse(text.as_bytes()).expect("a fragment");
    let expected = Fragment {
        ice: None,
        candidates: 2,
        candidates_dropped: 7,
        end_of_candidates: false,
    };
    assert_eq!(fragment, expected);
}

#[test]
fn a_fragment_that_is_none_is_refused() {
    let pair = "a=ice-pwd:0123456789abcdef012345\n";
    for (text, message) in [
        ("", "empty; send a session description"),
        (
            "hello\n",
            "line 1: not of the form x=value; start each line with a letter and an equals sign",
        ),
        (
            pair,
            "a=ice-ufrag and a=ice-pwd go together; send both or neither",
        ),
        (
            "a=ice-ufrag:abcd\n",
            "a=ice-ufrag and a=ice-pwd go together; send both or neither",
        ),
        (
            "a=ice-ufrag:abc\n",
            "line 1: a=ice-ufrag wants 4 to 256 letters, digits, + or /; send such a one",
        ),
        (
            "a=mid:0\na=candidate:1 1 udp 1 192.0.2.1 65536 typ host\n",
            "line 2: port is not a number of 0 to 65535; send one that is",
        ),
    ] {
        let error = Fragment::parse(text.as_bytes()).expect_err("refused");
        assert_eq!(
            (error.kind(), error.to_string()),
            (SdpErrorKind::Malformed, message.to_owned())
        );
    }
}

#[test]
fn a_fragment_is_capped_like_an_offer() {
    let make = |count: usize| "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host\n".repeat(count);
    let at_limit = Fragment::parse(make(SDP_CANDIDATES_MAX).as_bytes()).expect("a fragment");
    assert_eq!(at_limit.candidates_dropped, SDP_CANDIDATES_MAX);
    let error = Fragment::parse(make(SDP_CANDIDATES_MAX + 1).as_bytes()).expect_err("refused");
    assert_eq!(error.kind(), SdpErrorKind::TooLarge);
    let message = "line 101: more than 100 a=candidate lines (limit 100); send fewer";
    assert_eq!(error.to_string(), message);
    let long = Fragment::parse(&[b'\n'; 65_537]).expect_err("refused");
    assert_eq!(
        long.to_string(),
        "more than 65536 bytes (limit 65536); send a shorter description"
    );
}

#[test]
fn of_repeated_credentials_the_first_count() {
    let text = "m=audio 9 RTP/AVP 0\na=ice-ufrag:first\na=ice-pwd:0123456789abcdef012345\n\
        m=video 9 RTP/AVP 0\na=ice-ufrag:second\na=ice-pwd:abcdef0123456789abcdef\n";
    let ice = Fragment::parse(text.as_bytes())
        .expect("a fragment")
        .ice
        .expect("credentials");
    assert_eq!(
        (ice.ufrag.as_str(), ice.password.as_str()),
        ("first", "0123456789abcdef012345")
    );
}

#[test]
fn a_restart_says_of_ice_what_the_answer_said() {
    let negotiated = negotiate(OFFER, Purpose::Echo).expect("answered");
    let ice = local(&negotiated).ice;
    let text = write_restart_fragment(&ice, &negotiated.plan().media, &candidates());
    assert_eq!(
        text,
        "a=ice-lite\r\n\
         a=ice-options:trickle ice2\r\n\
         a=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
         a=mid:0\r\n\
         a=ice-ufrag:serverUfrag\r\n\
         a=ice-pwd:serverPasswordOf24Chars+\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\n\
         a=candidate:2 1 udp 2130706175 2001:db8::1 40000 typ host\r\n\
         a=end-of-candidates\r\n"
    );
    let fragment = Fragment::parse(text.as_bytes()).expect("a fragment");
    assert_eq!((fragment.ice, fragment.candidates), (Some(ice), 2));
    let answer = answer(&negotiated);
    for line in text.lines().filter(|line| !line.starts_with("m=")) {
        assert!(
            answer.lines().any(|other| other == line),
            "{line} is not in the answer"
        );
    }
}

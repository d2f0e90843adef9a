//! The reader: limits at the cap and one over, malformed lines, tolerance.

use super::super::SdpErrorKind;
use super::super::lines::Lines;
use super::*;
use crate::limits::{
    MID_BYTES_MAX, RIDS_MAX, SDP_BYTES_MAX, SDP_CANDIDATES_MAX, SDP_LINE_BYTES_MAX, SDP_LINES_MAX,
    SDP_MEDIA_MAX, SDP_PAYLOAD_TYPES_MAX, SDP_SSRC_LINES_MAX,
};
use crate::testing::malformed;

fn parse_error(text: &[u8]) -> (SdpErrorKind, String) {
    let error = Offer::parse(text).expect_err("refused");
    (error.kind(), error.to_string())
}

/// Parses a text made for a count at the limit, and sees the one over it refused.
fn check_limit(make: impl Fn(usize) -> String, limit: usize, message: &str) {
    let at_limit = make(limit);
    assert!(
        Offer::parse(at_limit.as_bytes()).is_ok(),
        "{limit} must be accepted"
    );
    let over = parse_error(make(limit + 1).as_bytes());
    assert_eq!(over, (SdpErrorKind::TooLarge, message.to_owned()));
}

fn with_lines(line: &str, count: usize) -> String {
    format!("{OFFER}{}", format!("{line}\n").repeat(count))
}

#[test]
fn bytes_are_capped() {
    let make = |bytes: usize| {
        let mut text = OFFER.to_owned();
        while text.len() < bytes {
            let line = (bytes - text.len()).min(100);
            text.push_str(&"\n".repeat(usize::from(line < 4)));
            if line >= 4 {
                text.push_str(&format!("a={}\n", "x".repeat(line - 3)));
            }
        }
        text.truncate(bytes);
        text
    };
    check_limit(
        make,
        SDP_BYTES_MAX,
        "more than 65536 bytes (limit 65536); send a shorter description",
    );
}

#[test]
fn lines_are_capped() {
    let make = |lines: usize| format!("v=0\n{}", "a=x\n".repeat(lines - 1));
    check_limit(
        make,
        SDP_LINES_MAX,
        "line 2001: more than 2000 lines (limit 2000); send fewer",
    );
}

#[test]
fn a_line_is_capped() {
    let make = |bytes: usize| format!("v=0\r\na={}\r\n", "x".repeat(bytes - 2));
    let message = "line 2: more than 4096 bytes in a line (limit 4096); send fewer";
    check_limit(make, SDP_LINE_BYTES_MAX, message);
}

#[test]
fn media_sections_are_capped() {
    let make = |count: usize| format!("v=0\n{}", "m=audio 9 RTP/SAVPF 0\n".repeat(count));
    let message = "line 66: more than 64 media sections (limit 64); send fewer";
    check_limit(make, SDP_MEDIA_MAX, message);
}

#[test]
fn candidates_are_capped_over_all_sections() {
    let make = |count: usize| with_lines("a=candidate:1 1 udp 1 192.0.2.1 1 typ host", count);
    let message = "line 145: more than 100 a=candidate lines (limit 100); send fewer";
    check_limit(make, SDP_CANDIDATES_MAX, message);
}

#[test]
fn ssrc_lines_are_capped_over_all_sections() {
    let make = |count: usize| with_lines("a=ssrc:1 cname:x", count);
    let message = "line 301: more than 256 a=ssrc lines (limit 256); send fewer";
    check_limit(make, SDP_SSRC_LINES_MAX, message);
    let groups = |count: usize| with_lines("a=ssrc-group:FID 1 2", count);
    check_limit(groups, SDP_SSRC_LINES_MAX, message);
}

#[test]
fn payload_types_of_a_section_are_capped() {
    let make = |count: usize| {
        let numbers: Vec<_> = (0..count)
            .map(|number| (number % 128).to_string())
            .collect();
        format!("v=0\nm=video 9 RTP/SAVPF {}\n", numbers.join(" "))
    };
    let message = "line 2: more than 128 payload types in a section (limit 128); send fewer";
    check_limit(make, SDP_PAYLOAD_TYPES_MAX, message);
}

#[test]
fn renditions_of_a_section_are_capped() {
    let make = |count: usize| with_lines("a=rid:h send", count);
    let message = "line 49: more than 4 a=rid lines in a section (limit 4); send fewer";
    check_limit(make, RIDS_MAX, message);
}

#[test]
fn a_mid_is_capped() {
    let make = |bytes: usize| format!("v=0\nm=audio 9 RTP/SAVPF 0\na=mid:{}\n", "m".repeat(bytes));
    assert!(Offer::parse(make(MID_BYTES_MAX).as_bytes()).is_ok());
    let message = "line 3: a=mid wants 1 to 16 printable characters; shorten it".to_owned();
    let over = parse_error(make(MID_BYTES_MAX + 1).as_bytes());
    assert_eq!(over, (SdpErrorKind::Malformed, message));
}

#[test]
fn credentials_are_checked_at_both_ends_of_their_range() {
    let offer = |ufrag: usize, password: usize| {
        changed(&[
            (
                "ice-ufrag:abcd",
                &format!("ice-ufrag:{}", "u".repeat(ufrag)),
            ),
            ("0123456789abcdef012345", &"p".repeat(password)),
        ])
    };
    for (ufrag, password) in [(4, 22), (256, 256)] {
        assert!(Offer::parse(offer(ufrag, password).as_bytes()).is_ok());
    }
    let ufrag = "line 6: a=ice-ufrag wants 4 to 256 letters, digits, + or /; send such a one";
    let password = "line 7: a=ice-pwd wants 22 to 256 letters, digits, + or /; send such a one";
    for (lengths, message) in [
        ((3, 22), ufrag),
        ((257, 22), ufrag),
        ((4, 21), password),
        ((4, 257), password),
    ] {
        let error = parse_error(offer(lengths.0, lengths.1).as_bytes());
        assert_eq!(error, (SdpErrorKind::Malformed, message.to_owned()));
    }
    let error = parse_error(changed(&[("ice-ufrag:abcd", "ice-ufrag:ab d")]).as_bytes());
    assert_eq!(error.1, ufrag);
}

const MALFORMED: [(&str, &str); 18] = [
    ("", "empty; send a session description"),
    ("\r\n\n", "empty; send a session description"),
    (
        "s=-\n",
        "line 1: a session description starts with v=0; send that first",
    ),
    (
        "v=0\r\n\r\nhello\r\n",
        "line 3: not of the form x=value; start each line with a letter and an equals sign",
    ),
    (
        "v=0\na=x\u{0}\n",
        "line 2: control character in a line; remove it",
    ),
    (
        "v=0\na=x\ry\n",
        "line 2: control character in a line; remove it",
    ),
    (
        "v=0\nm=audio\n",
        "line 2: m= wants media, port, protocol and formats; send all four",
    ),
    (
        "v=0\nm=audio 99999 RTP/SAVPF 0\n",
        "line 2: port is not a number of 0 to 65535; send one that is",
    ),
    (
        "v=0\nm=audio -1 RTP/SAVPF 0\n",
        "line 2: port is not a number of 0 to 65535; send one that is",
    ),
    (
        "v=0\nm=audio 9 RTP/SAVPF 128\n",
        "line 2: payload type is not a number of 0 to 127; send one that is",
    ),
    (
        "v=0\nm=audio 9 RTP/SAVPF 0\na=rtpmap:300 opus/48000/2\n",
        "line 3: payload type is not a number of 0 to 127; send one that is",
    ),
    (
        "v=0\nm=audio 9 RTP/SAVPF 0\na=candidate:1 1 udp 1 192.0.2.1 99999 typ host\n",
        "line 3: port is not a number of 0 to 65535; send one that is",
    ),
    (
        "v=0\na=setup:maybe\n",
        "line 2: a=setup is not actpass, active, passive or holdconn; send actpass",
    ),
    (
        "v=0\nm=audio 9 RTP/SAVPF 0\na=ssrc:4294967296 cname:x\n",
        "line 3: a=ssrc is not a number of 32 bits; send one that is",
    ),
    (
        "v=0\na=fingerprint:sha-256 AA:BB\n",
        "line 2: a=fingerprint wants 32 bytes in hexadecimal for sha-256; send all of them",
    ),
    (
        "v=0\na=fingerprint:SHA-1 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44\n",
        "line 2: a=fingerprint wants 20 bytes in hexadecimal for sha-1; send all of them",
    ),
    (
        "v=0\na=group:BUNDLE 0\nm=audio 9 RTP/SAVPF 0\na=mid:1\n",
        "line 2: a=group:BUNDLE names a mid that no section has; \
             name only sections of this offer",
    ),
    (
        "v=0\nm=audio 9 RTP/SAVPF 0\na=mid:1\nm=audio 9 RTP/SAVPF 0\na=mid:1\n",
        "line 4 (mid 1): a=mid is that of an earlier section; give each section its own",
    ),
];

#[test]
fn malformed_lines_are_named() {
    for (text, message) in MALFORMED {
        assert_eq!(
            parse_error(text.as_bytes()),
            (SdpErrorKind::Malformed, message.to_owned())
        );
    }
    let latin1 = [b"v=0\ns=caf".as_slice(), &[0xe9], b"\n"].concat();
    assert_eq!(parse_error(&latin1).1, "line 2: not UTF-8 text; send UTF-8");
}

#[test]
fn an_error_carries_its_line_and_section() {
    let error = negotiate(&changed(&[("sendrecv", "recvonly")]), PUBLISH).expect_err("refused");
    assert_eq!(error.line(), Some(10));
    assert_eq!(
        error.mid().map(|mid| mid.as_str().to_owned()),
        Some("0".to_owned())
    );
    assert_eq!(error.kind(), SdpErrorKind::Unsupported);
    assert_eq!(Offer::parse(b"").expect_err("refused").line(), None);
}

#[test]
fn line_ends_unknown_lines_and_odd_values_are_tolerated() {
    let expected = summary(&negotiate(OFFER, PUBLISH).expect("answered"));
    for text in [
        OFFER.replace('\n', "\r\n"),
        OFFER.trim_end().to_owned(),
        changed(&[("s=-", "s=FFmpegPublishSession")]),
        changed(&[("s=-", "s=")]),
        changed(&[(
            "t=0 0",
            "t=0 0\nb=AS:500\nb=TIAS:500000\na=unknown\na=unknown:\t1\ni=x\n\n",
        )]),
        changed(&[(
            "a=mid:1",
            "a=mid:1\ni=camera\nb=AS:1\nb=TIAS:1000\na=candidate:odd\na=rtpmap:5",
        )]),
        changed(&[(
            "a=mid:0",
            "a=mid:0\na=candidate:1 1 udp 1 host.local 5 typ host",
        )]),
        changed(&[("a=group:BUNDLE", "a=group:LS 0 1\na=group:BUNDLE")]),
        changed(&[(
            "m=audio 9 UDP/TLS/RTP/SAVPF",
            "m=audio 9/2 UDP/TLS/RTP/SAVP",
        )]),
        // Each direction absent means both ways.
        changed(&[("a=sendrecv\n", "")]),
    ] {
        let negotiated = negotiate(&text, PUBLISH).expect("answered");
        assert_eq!(summary(&negotiated), expected);
    }
}

#[test]
fn transport_and_direction_are_inherited_from_the_session() {
    let session = OFFER.find("a=ice-ufrag").expect("there")..OFFER.find("m=audio").expect("there");
    let attributes = &OFFER[session];
    let moved = changed(&[
        (attributes, ""),
        ("a=mid:0\n", &format!("a=mid:0\n{attributes}")),
    ]);
    let plans =
        [OFFER, &moved].map(|text| negotiate(text, PUBLISH).expect("answered").plan().clone());
    assert_eq!(plans[0], plans[1]);
    assert_eq!(plans[0].remote_ice.ufrag, "abcd");
    assert_eq!(plans[0].remote_ice.password, "0123456789abcdef012345");
    assert_eq!(plans[0].remote_fingerprint.0[31], 0x1f);

    let inherited = changed(&[("a=sendrecv\n", ""), ("a=group", "a=inactive\na=group")]);
    let message = "line 11 (mid 0): a=inactive sends nothing; \
                   to publish or to hear an echo offer a=sendonly or a=sendrecv";
    assert_eq!(refusal(&inherited, PUBLISH), message);
}

#[test]
fn of_several_fingerprints_sha_256_is_taken() {
    let sha1 = "a=fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13\n";
    let unknown = "a=fingerprint:sha-9 00:01\n";
    let text = changed(&[(
        "a=fingerprint:sha-256",
        &format!("{unknown}{sha1}a=fingerprint:SHA-256"),
    )]);
    let negotiated = negotiate(&text, PUBLISH).expect("answered");
    assert_eq!(negotiated.plan().remote_fingerprint.0[..3], [0, 1, 2]);

    let start = OFFER.find("a=fingerprint").expect("there");
    let end = OFFER.find("a=setup").expect("there");
    let weak = changed(&[(&OFFER[start..end], sha1)]);
    assert_eq!(
        refusal(&weak, PUBLISH),
        "line 10 (mid 0): no a=fingerprint:sha-256; offer one"
    );
}

#[test]
fn each_byte_belongs_to_one_line_and_is_read_once() {
    let mut hostile = String::from("v=0\r\n");
    while hostile.len() < SDP_BYTES_MAX - 64 {
        hostile.push_str("a=extmap:1/x y z=;;;;;;;;;;;;;;;;\r\n");
    }
    let mut lines = Lines::new(hostile.as_bytes()).expect("text");
    let (mut bytes, mut count) = (0, 0);
    while let Some(line) = lines.next().expect("a line") {
        count += 1;
        bytes += "x=".len() + line.value.len() + "\r\n".len();
        assert_eq!(line.number, count);
    }
    assert_eq!((bytes, count), (hostile.len(), lines.count()));
    let offer = Offer::parse(hostile.as_bytes()).expect("read");
    assert_eq!(offer.line_count(), count);
}

#[test]
fn malformed_corpora_never_panic() {
    let Some(inputs) = malformed("malformed/sdp.jsonl.gz") else {
        return;
    };
    for bytes in &inputs {
        read_in_every_way(bytes);
        // Each prefix and some damage as well.
        for cut in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
            read_in_every_way(&bytes[..cut]);
            let mut damaged = bytes.clone();
            damaged[cut] ^= 0x15;
            read_in_every_way(&damaged);
        }
    }
    assert_eq!(inputs.len(), 21);
}

fn read_in_every_way(bytes: &[u8]) {
    // Whether it is a fragment does not matter, only that reading it ends.
    let _fragment = super::super::Fragment::parse(bytes).is_ok();
    let Ok(offer) = Offer::parse(bytes) else {
        return;
    };
    for purpose in [PUBLISH, Purpose::Echo, SUBSCRIBE] {
        if let Ok(negotiated) = offer.negotiate(purpose) {
            assert!(Offer::parse(answer(&negotiated).as_bytes()).is_ok());
        }
    }
}

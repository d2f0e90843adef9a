//! Files and arguments that are wrong: a reason, what could be read, and an exit code that tells.

use std::path::PathBuf;

use antiphon_core::replay::pcapng;

use super::{antiphon, report};

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("the test folder can be written");
    path
}

/// Ten packets of one RTP source.
fn capture() -> Vec<u8> {
    let mut file = Vec::new();
    pcapng::section_header(&mut file, "a test");
    pcapng::interface(&mut file, "lo");
    for number in 0..10_u8 {
        let mut payload = vec![0x80, 0, 0, number, 0, 0, number, 0, 1, 2, 3, 4];
        payload.extend_from_slice(&[number; 160]);
        let packet = pcapng::Packet {
            interface: 0,
            unix: std::time::Duration::from_millis(u64::from(number) * 20),
            source: "192.0.2.1:5004".parse().expect("an address"),
            destination: "192.0.2.2:5004".parse().expect("an address"),
            ecn: None,
            outbound: false,
            dropped_before: 0,
            payload: &payload,
        };
        pcapng::packet(&mut file, &packet);
    }
    file
}

#[test]
fn a_capture_cut_anywhere_gives_what_came_before_and_fails() {
    let whole = capture();
    let path = write("whole.pcapng", &whole);
    let (all, ended_well) = report(&path, &[]);
    assert!(ended_well);
    assert_eq!(all["streams"][0]["packets"], 10);
    assert_eq!(all["totals"]["error"], serde_json::Value::Null);
    // In the first packet, between two, and in the last.
    for (cut, packets) in [(200, 0), (whole.len() / 2, 4), (whole.len() - 1, 9)] {
        let path = write("cut.pcapng", &whole[..cut]);
        let (part, ended_well) = report(&path, &[]);
        assert!(!ended_well, "cut at {cut}");
        let seen = part["streams"][0]["packets"].as_u64().unwrap_or(0);
        assert!(seen.abs_diff(packets) <= 1, "cut at {cut}: {seen}");
        assert!(part["totals"]["error"].is_string());
    }
}

#[test]
fn wrong_arguments_and_files_are_named_with_what_is_wrong() {
    let capture = write("arguments.pcapng", &capture());
    let capture = capture.to_str().expect("text");
    let empty = write("empty.txt", b"");
    let empty = empty.to_str().expect("text");
    let cases: [(&[&str], &[&str]); 10] = [
        (
            &["/nowhere/call.pcap"],
            &["/nowhere/call.pcap", "No such file"],
        ),
        (&[empty], &["empty.txt", "nor a capture"]),
        (&[capture, "--map", "96=vp8"], &["96=vp8", "96=vp8/90000"]),
        (
            &[capture, "--map", "200=vp8/90000"],
            &["200=vp8/90000", "127"],
        ),
        (
            &[capture, "--map", "111=a/8000", "--map", "111=b/8000"],
            &["--map 111", "twice"],
        ),
        (&[capture, "--sdes", "nonsense"], &["profile"]),
        (
            &[capture, "--keylog", empty],
            &["empty.txt", "CLIENT_RANDOM"],
        ),
        (&[capture, "--keys", empty], &["empty.txt"]),
        (&[capture, "--sdp", empty], &["empty.txt", "rtpmap"]),
        (
            &[capture, "--pace", "slow"],
            &["slow", "capture", "rtp", "asap"],
        ),
    ];
    for (arguments, named) in cases {
        let output = antiphon(arguments);
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        for name in named {
            assert!(error.contains(name), "{arguments:?}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_no_recording_has_an_object_with_the_error() {
    for (name, bytes) in [("nothing.pcap", &b""[..]), ("words.pcap", b"no capture")] {
        let path = write(name, bytes);
        let (nothing, ended_well) = report(&path, &[]);
        assert!(!ended_well);
        assert_eq!(nothing["streams"], serde_json::json!([]));
        assert_eq!(nothing["totals"]["frames"], 0);
        let error = nothing["totals"]["error"].as_str().expect("it is told");
        assert!(
            error.contains(name) && error.contains("nor a capture"),
            "{error}"
        );
    }
}

/// Replays and worlds alike.
#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let capture = write("unwritten.pcapng", &capture());
    let capture = capture.to_str().expect("text");
    let sim = ["sim", "--seed=1", "--scenario=rooms", "--seconds=1"];
    for arguments in [
        &["replay", capture][..],
        &sim,
        &[&sim[..], &["--json"]].concat(),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(arguments)
            .stdout(full.expect("Linux has it"))
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains("the report cannot be written"), "{error}");
    }
}

#[test]
fn the_table_is_aligned_and_ends_in_totals() {
    let path = write("table.pcapng", &capture());
    let output = antiphon(&[path.to_str().expect("text")]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("SSRC"), "{text}");
    assert!(
        lines[1].starts_with("01020304  192.0.2.1:5004  192.0.2.2:5004  0"),
        "{text}"
    );
    assert_eq!(lines[0].len(), lines[1].len(), "{text}");
    assert!(
        text.contains("Streams 1, frames 10 over 0.180 s; arrival times: capture"),
        "{text}"
    );
    assert!(
        text.contains("UDP 10: RTP 10, RTCP 0, STUN 0, DTLS 0"),
        "{text}"
    );
}

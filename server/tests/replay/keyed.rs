//! Captures of SRTP open to the last packet, whichever way the keys are given.

use std::path::Path;

use serde_json::Value;

use super::{json_file, report, vectors};

/// What of SRTP was not opened, and what was: RTP and RTCP.
fn assert_opened(path: &Path, arguments: &[&str], rtp: u64, rtcp: u64, refused: u64) {
    let (report, ended_well) = report(path, arguments);
    assert!(ended_well, "{}", path.display());
    let srtp = &report["totals"]["srtp"];
    let figure = |name: &str| srtp[name].as_u64().expect("a number");
    assert_eq!(
        (figure("rtp_opened"), figure("rtcp_opened")),
        (rtp, rtcp),
        "{srtp}"
    );
    assert_eq!(figure("refused") + figure("unkeyed"), refused, "{srtp}");
    assert_eq!(figure("replayed") + figure("truncated"), 0, "{srtp}");
    assert_eq!(report["totals"]["decrypted"], rtp + rtcp);
    let streams = report["streams"].as_array().expect("a list").iter();
    let of_streams: u64 = streams
        .filter_map(|stream| stream["decrypted"].as_u64())
        .sum();
    assert_eq!(of_streams, rtp);
}

#[test]
fn whole_calls_open_with_master_keys_and_with_a_key_log() {
    let Some(folder) = vectors() else {
        return;
    };
    let folder = folder.join("captures-made");
    for (call, rtp, rtcp) in [("webrtc-aescm80", 318, 18), ("webrtc-gcm128", 317, 18)] {
        let path = |ending: &str| folder.join(format!("{call}.{ending}"));
        let text = |ending: &str| path(ending).to_str().expect("text").to_owned();
        let capture = path("pcap");
        assert_opened(&capture, &["--keys", &text("keys.json")], rtp, rtcp, 0);
        assert_opened(&capture, &["--keylog", &text("keylog")], rtp, rtcp, 0);
        let offer = text("offer.sdp");
        let (report, _) = report(&capture, &["--keylog", &text("keylog"), "--sdp", &offer]);
        let clocks: Vec<_> = streams(&report)
            .map(|stream| &stream["clock_rate"])
            .collect();
        assert_eq!(clocks, [48_000, 90_000], "of its description");
        assert!(streams(&report).all(|stream| stream["jitter"].is_f64()));
    }
}

#[test]
fn single_streams_open_across_a_wrap_and_with_keys_of_a_description() {
    let Some(folder) = vectors() else {
        return;
    };
    let folder = folder.join("captures-made");
    let keys = folder.join("srtp-keys.json");
    let keys = ["--keys", keys.to_str().expect("text")];
    assert_opened(&folder.join("srtp-opus-gcm256-wrap.pcap"), &keys, 151, 0, 0);
    let long = folder.join("srtp-sdes-pcmu-aescm80.pcap");
    assert_opened(&long, &keys, 32, 1, 0);
    // FFmpeg gives RTCP the short tag too, against RFC 5764 §4.1.2.
    let short = folder.join("srtp-sdes-pcmu-aescm32.pcap");
    assert_opened(&short, &keys, 16, 0, 1);

    let inline =
        &json_file(&folder.join("srtp-keys.json"))["srtp-sdes-pcmu-aescm80.pcap"]["inline"];
    let inline = inline.as_str().expect("text");
    let line = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{inline}|2^31");
    assert_opened(&long, &["--sdes", &line], 32, 1, 0);
    let line = format!("AES_CM_128_HMAC_SHA1_32 inline:{inline}");
    assert_opened(&short, &["--sdes", &line], 16, 0, 1);
}

#[test]
fn a_wrong_key_opens_nothing_and_the_count_stands() {
    let Some(folder) = vectors() else {
        return;
    };
    let path = folder.join("captures-made/srtp-sdes-pcmu-aescm80.pcap");
    let line = format!("AES_CM_128_HMAC_SHA1_80 inline:{}", "A".repeat(40));
    let (report, ended_well) = report(&path, &["--sdes", &line]);
    assert!(ended_well);
    assert_eq!(report["totals"]["srtp"]["unkeyed"], 33);
    assert_eq!(report["totals"]["decrypted"], 0);
    assert_eq!(report["streams"][0]["packets"], 32);
    let warnings = report["totals"]["warnings"].as_array().expect("a list");
    let named = |warning: &Value| {
        warning
            .as_str()
            .is_some_and(|text| text.contains("none of the keys"))
    };
    assert!(warnings.iter().any(named), "{warnings:?}");
}

/// Keys that were given otherwise say nothing of a log, and one that opens nothing is told, with keys or without.
#[test]
fn a_key_log_that_opens_nothing_is_told_and_one_that_is_not_there_is_not() {
    let Some(folder) = vectors() else {
        return;
    };
    let folder = folder.join("captures-made");
    let text = |name: &str| folder.join(name).to_str().expect("text").to_owned();
    let (own, other) = (text("webrtc-gcm128.keylog"), text("webrtc-aescm80.keylog"));
    let keys = text("webrtc-gcm128.keys.json");
    let warnings = |capture: &str, arguments: &[&str]| {
        let (report, _) = report(&folder.join(capture), arguments);
        report["totals"]["warnings"].to_string()
    };
    let call = "webrtc-gcm128.pcap";
    for (arguments, is_told) in [
        (&["--keylog", &other][..], true),
        (&["--keylog", &other, "--keys", &keys], true),
        (&["--keylog", &own], false),
        (&["--keys", &keys], false),
    ] {
        let warnings = warnings(call, arguments);
        let told = warnings.contains("have no secret in the key log");
        assert_eq!(told, is_told, "{arguments:?}: {warnings}");
    }
    let without_handshake = warnings("srtp-opus-gcm256-wrap.pcap", &["--keylog", &own]);
    assert!(
        without_handshake.contains("of no use"),
        "{without_handshake}"
    );
}

fn streams(report: &Value) -> impl Iterator<Item = &Value> {
    report["streams"].as_array().expect("a list").iter()
}

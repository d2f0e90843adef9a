//! Every capture of others gives the figures that an independent count gave (`truth.json`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{json_file, report, vectors};

/// Ours beside the truth's name for it.
const FIGURES: [(&str, &str); 13] = [
    ("packets", "packets"),
    ("unique", "unique"),
    ("duplicates", "duplicates"),
    ("late", "late_reordered"),
    ("missing", "missing"),
    ("lost", "cumulative_lost_rfc3550"),
    ("expected", "expected_rfc3550"),
    ("first_sequence", "first_seq"),
    ("highest_sequence", "highest_seq"),
    ("cycles", "cycles"),
    ("markers", "markers"),
    ("bytes", "rtp_bytes"),
    ("payload_types", "payload_types"),
];
const TOTALS: [&str; 9] = [
    "frames",
    "udp",
    "stun",
    "dtls",
    "rtp",
    "rtcp",
    "turn_channel",
    "other_udp",
    "truncated_udp",
];
/// Captures that cannot be read to their end. The truth of an empty file is another tool's guess at its kind.
const BROKEN: [&str; 4] = [
    "fmt-bad-magic.pcap",
    "fmt-caplen-4g.pcap",
    "fmt-cut-mid-record.pcap",
    "fmt-empty.pcap",
];
/// Neither of these is a capture, so nothing is counted.
const NO_CAPTURES: [&str; 2] = ["fmt-bad-magic.pcap", "fmt-empty.pcap"];

#[test]
fn every_capture_gives_the_figures_of_an_independent_count() {
    let Some(folder) = vectors() else {
        return;
    };
    let mut faults = Vec::new();
    let (mut files, mut streams) = (0, 0);
    for part in ["captures", "captures-made"] {
        let folder = folder.join(part);
        let truth = json_file(&folder.join("truth.json"));
        for (name, truth) in truth.as_object().expect("a capture each") {
            files += 1;
            streams += check(&folder.join(name), name, truth, &mut faults);
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(
        files >= 46 && streams >= 39,
        "{files} files, {streams} streams"
    );
}

/// Adds what differs; tells how many streams were compared.
fn check(path: &Path, name: &str, truth: &Value, faults: &mut Vec<String>) -> usize {
    if NO_CAPTURES.contains(&name) {
        let output = super::antiphon(&[path.to_str().expect("text"), "--json"]);
        if output.status.success() || output.stderr.is_empty() {
            faults.push(format!("{name}: it was taken for a capture"));
        }
        return 0;
    }
    let wanted = truth["rtp_streams"].as_array().expect("a list");
    let maps = maps(wanted);
    let maps: Vec<&str> = maps.iter().map(String::as_str).collect();
    let (report, ended_well) = report(path, &maps);
    if ended_well == BROKEN.contains(&name) {
        faults.push(format!("{name}: ended well: {ended_well}"));
    }
    if truth["ambiguous"].is_string() {
        return 0;
    }
    let streams = report["streams"].as_array().expect("a list");
    if streams.len() != wanted.len() {
        faults.push(format!(
            "{name}: {} streams, not {}",
            streams.len(),
            wanted.len()
        ));
    }
    let mut accepted_otherwise = false;
    for wanted in wanted {
        let same = |stream: &&Value| {
            let bare = |end: &str| text(&stream[end]).replace(['[', ']'], "");
            stream["ssrc"] == wanted["ssrc"]
                && bare("src") == text(&wanted["src"])
                && bare("dst") == text(&wanted["dst"])
        };
        let Some(stream) = streams.iter().find(same) else {
            faults.push(format!("{name}: no stream {}", wanted["ssrc"]));
            continue;
        };
        if is_also_accepted(stream, truth) {
            accepted_otherwise = true;
            continue;
        }
        faults.extend(differences(stream, wanted).map(|fault| format!("{name}: {fault}")));
    }
    for total in TOTALS {
        let (ours, theirs) = (&report["totals"][total], &truth["totals"][total]);
        if ours != theirs && !accepted_otherwise {
            faults.push(format!("{name}: {total} is {ours}, not {theirs}"));
        }
    }
    wanted.len()
}

/// Where the truth knows a clock that no static payload type gives, it was told; so are we.
fn maps(wanted: &[Value]) -> Vec<String> {
    let mut clocks = BTreeMap::new();
    for stream in wanted {
        let Some(clock) = stream["clock"].as_u64() else {
            continue;
        };
        let types = stream["payload_types"].as_object().expect("types");
        for payload_type in types.keys() {
            let number: u8 = payload_type.parse().expect("a payload type");
            if number >= 35 {
                clocks.insert(number, clock);
            }
        }
    }
    let maps = clocks
        .iter()
        .map(|(number, clock)| format!("--map={number}=codec/{clock}"));
    maps.collect()
}

fn is_also_accepted(stream: &Value, truth: &Value) -> bool {
    let others = truth["also_accept"].as_array().into_iter().flatten();
    others
        .filter(|other| other["ssrc"] == stream["ssrc"])
        .any(|other| other["packets"] == stream["packets"] && other["lost"] == stream["lost"])
}

fn differences(stream: &Value, wanted: &Value) -> impl Iterator<Item = String> {
    let ssrc = wanted["ssrc"].clone();
    let mut faults = Vec::new();
    for (ours, theirs) in FIGURES {
        if stream[ours] != wanted[theirs] {
            faults.push(format!(
                "{ours} is {}, not {}",
                stream[ours], wanted[theirs]
            ));
        }
    }
    if stream["clock_rate"] != wanted["clock"] {
        faults.push(format!(
            "clock is {}, not {}",
            stream["clock_rate"], wanted["clock"]
        ));
    }
    for (ours, theirs) in [
        ("jitter", "jitter_ts_units"),
        ("duration_ms", "duration_ms"),
    ] {
        let (a, b) = (stream[ours].as_f64(), wanted[theirs].as_f64());
        let near = match (a, b) {
            // Their sums are rounded to hundredths, and to microseconds, as ours are.
            (Some(a), Some(b)) => (a - b).abs() < 0.011,
            (a, b) => a == b,
        };
        if !near {
            faults.push(format!("{ours} is {a:?}, not {b:?}"));
        }
    }
    faults
        .into_iter()
        .map(move |fault| format!("{ssrc}: {fault}"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[test]
fn the_same_replay_prints_the_same_bytes() {
    let Some(folder) = vectors() else {
        return;
    };
    for name in [
        "opus-loss-dup-reorder.pcap",
        "webrtc-gcm128.pcap",
        "fmt-ip-fragments.pcap",
    ] {
        let path = folder.join("captures-made").join(name);
        let path = path.to_str().expect("text");
        for form in [&[path][..], &[path, "--json"]] {
            let (one, other) = (super::antiphon(form), super::antiphon(form));
            assert!(!one.stdout.is_empty(), "{name}");
            assert_eq!(one.stdout, other.stdout, "{name}");
        }
    }
}

/// A capture whose 298 packets were stamped within 0.6 ms, of pictures that last 27 s.
#[test]
fn the_pace_decides_what_time_measures_and_nothing_else() {
    let Some(folder) = vectors() else {
        return;
    };
    let path = folder.join("captures/h264.pcap");
    let of = |pace: &str| {
        let pace = format!("--pace={pace}");
        let (report, ended_well) = report(&path, &["--map=126=h264/90000", &pace]);
        assert!(ended_well);
        report
    };
    let (capture, rtp, asap) = (of("capture"), of("rtp"), of("asap"));
    assert_eq!(capture["streams"][0]["jitter"], 8558.99);
    assert_eq!(capture["totals"]["pace"], "capture");
    let media = &rtp["streams"][0];
    assert_eq!(media["jitter"], 0.0, "media time has no jitter of its own");
    let seconds = media["duration_ms"].as_f64().expect("a number") / 1e3;
    assert!((26.0..27.0).contains(&seconds), "{media}");
    assert!(media["bitrate"].as_u64() < capture["streams"][0]["bitrate"].as_u64());
    assert_eq!(rtp["totals"]["pace"], "rtp");
    for figure in ["jitter", "bitrate", "duration_ms"] {
        assert_eq!(asap["streams"][0][figure], Value::Null, "{figure}");
    }
    for figure in ["packets", "unique", "late", "missing", "lost", "bytes"] {
        assert_eq!(rtp["streams"][0][figure], capture["streams"][0][figure]);
        assert_eq!(asap["streams"][0][figure], capture["streams"][0][figure]);
    }
}

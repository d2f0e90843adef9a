//! Turns of captures, as a call with an agent would have told them.

use std::path::Path;

use antiphon_core::audio::Rate;
use antiphon_core::audio::signal::{noise, voice};
use antiphon_core::codec::{AnyEncoder, Encoder as _, EncoderSettings};
use antiphon_core::journal::Payloads;
use antiphon_core::plan::Codec;
use serde_json::Value;

use super::journal::{call, text, write};
use super::wav::{capture, free};
use super::{antiphon, report, vectors};

/// Samples of 20 ms.
const PACKET: usize = 160;

/// Somebody speaks from 0.5 to 1.5 s, from 4.5 to 5.5 s, and is silent until 8 s: packets of µ-law.
fn talk() -> Vec<(u64, u16, Vec<u8>)> {
    let spoken = |millis: usize| voice(Rate::Hz8000, 1, 8 * millis);
    let quiet = |millis: usize| noise(2, 0.0005, 8 * millis);
    let sound = [
        quiet(500),
        spoken(1_000),
        quiet(3_000),
        spoken(1_000),
        quiet(2_500),
    ]
    .concat();
    let settings = EncoderSettings::STANDARD;
    let mut encoder = AnyEncoder::new(Codec::Pcmu, Rate::Hz8000, settings).expect("G.711 does");
    let packets = sound.chunks_exact(PACKET).zip(0_u16..);
    let packets = packets.map(|(samples, number)| {
        let mut payload = vec![0; PACKET];
        let length = encoder.encode(samples, &mut payload).expect("20 ms fit");
        payload.truncate(length);
        (20 * u64::from(number), number, payload)
    });
    packets.collect()
}

fn heard(path: &Path, arguments: &[&str]) -> Value {
    let (report, ended_well) = report(path, &[&["--turns"], arguments].concat());
    assert!(ended_well, "{report:#}");
    report
}

/// The events of one kind.
fn events<'v>(stream: &'v Value, kind: &str) -> Vec<&'v Value> {
    let events = stream["turns"].as_array().expect("a list").iter();
    events.filter(|event| event["event"] == kind).collect()
}

fn millis(event: &Value, name: &str) -> f64 {
    event[name].as_f64().expect("a time")
}

#[test]
fn turns_begin_and_end_where_somebody_spoke() {
    let path = write("talk.pcapng", &capture(&talk(), "192.0.2.1"));
    let report = heard(&path, &[]);
    assert_eq!(report, heard(&path, &[]), "the same twice");
    let stream = &report["streams"][0];
    let ended = events(stream, "ended");
    assert_eq!(ended.len(), 2, "{stream:#}");
    for (event, (from, to)) in ended.iter().zip([(500.0, 1_500.0), (4_500.0, 5_500.0)]) {
        assert!((millis(event, "start") - from).abs() < 150.0, "{event}");
        assert!((millis(event, "end") - to).abs() < 300.0, "{event}");
        let delay = millis(event, "at") - millis(event, "end");
        assert!((300.0..=2_500.0).contains(&delay), "{event}");
    }
    let summary = &stream["turn_summary"];
    assert_eq!(summary["turns"]["count"], 2);
    assert_eq!(summary["gaps"]["count"], 1);
    assert_eq!(summary["heard_ms"], 8_000.0, "{summary:#}");
    let share = summary["speech_share"].as_f64().expect("a number");
    assert!((0.2..0.4).contains(&share), "{summary:#}");
    assert_eq!(summary["barge_ins"], 0, "there is no agent");

    // Sound in files and turns come of the same replay.
    let folder = free("talk-wav");
    let both = heard(&path, &["--wav", text(&folder)]);
    assert_eq!(both["streams"][0]["turns"], stream["turns"]);
    assert!(both["streams"][0]["playout"]["file"].is_string());

    let output = antiphon(&[text(&path), "--turns"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("Turns of abcd0001, 192.0.2.1:5004"),
        "{table}"
    );
    assert_eq!(table.matches("\nended ").count(), 2, "{table}");
    assert!(table.contains("2 turns"), "{table}");
}

#[test]
fn other_numbers_decide_otherwise() {
    let path = write("talk-numbers.pcapng", &capture(&talk(), "192.0.2.1"));
    let delay = |arguments: &[&str]| {
        let report = heard(&path, arguments);
        let summary = &report["streams"][0]["turn_summary"];
        assert_eq!(summary["turns"]["count"], 2, "{summary:#}");
        summary["delay"]["p50_ms"].as_f64().expect("a number")
    };
    let [eager, balanced, patient] = ["eager", "balanced", "patient"]
        .map(|preset| delay(&["--set", &format!("voice.preset={preset}")]));
    assert_eq!(balanced, delay(&[]));
    assert!(
        eager < balanced && balanced < patient,
        "{eager} {balanced} {patient}"
    );
    let late = [
        "--set=voice.preset=balanced",
        "--set=voice.delay_min_ms=1900",
        "--set=voice.sure=0.5",
    ];
    assert!((1_900.0..1_950.0).contains(&delay(&late)));
}

#[test]
fn what_is_no_parameter_or_no_value_of_one_is_refused() {
    let path = write("talk-refused.pcapng", &capture(&talk(), "192.0.2.1"));
    let refused = |arguments: &[&str], said: &[&str]| {
        let output = antiphon(&[&[text(&path)], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(said.iter().all(|said| error.contains(said)), "{error}");
        assert!(output.stdout.is_empty());
    };
    let set = |setting: &str, said: &[&str]| {
        refused(&["--turns", "--set", setting], said);
    };
    set(
        "voice.warp=9",
        &["voice.warp", "pause_ms (0 to 60000)", "preset"],
    );
    set("voice.pause_ms=60001", &["voice.pause_ms", "(0 to 60000)"]);
    set("voice.pause_ms=-1", &["voice.pause_ms", "(0 to 60000)"]);
    set("voice.sure=1.5", &["sure (0 to 1)"]);
    set("voice.preset=hasty", &["eager, balanced or patient"]);
    set(
        "voice.delay_max_ms=100",
        &["delay_min_ms is above delay_max_ms"],
    );
    set("voice.preset", &["not NAME=VALUE"]);
    set("report_interval=1s", &["is for journals"]);
    let twice = ["--turns", "--set=voice.sure=1", "--set=voice.sure=0.9"];
    refused(&twice, &["voice.sure is given twice"]);
    refused(&["--set", "voice.sure=1"], &["--turns"]);
    refused(&["--turns", "--pace", "asap"], &["--turns", "--pace asap"]);
    refused(&["--turns", "--events"], &["cannot be used with"]);
    // In a journal they are the same.
    let path = write("talk-refused.journal", &call(Payloads::Full));
    let output = antiphon(&[text(&path), "--turns", "--set", "voice.warp=9"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("pause_ms (0 to 60000)"), "{error}");
}

#[test]
fn what_has_no_sound_has_no_turns() {
    let path = write("talk-video.pcapng", &capture(&talk(), "192.0.2.1"));
    let report = heard(&path, &["--map", "0=VP8/90000"]);
    assert_eq!(report["streams"][0]["turns"], Value::Array(vec![]));
    let output = antiphon(&[text(&path), "--turns", "--map", "0=VP8/90000"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("no turns: "), "{table}");
    let path = write("no-agent.journal", &call(Payloads::Full));
    let output = antiphon(&[text(&path), "--turns"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("no turns: "), "{table}");
}

/// Captures of others in which somebody speaks, and how they are read.
#[test]
fn captures_of_others_have_turns() {
    let Some(vectors) = vectors() else { return };
    let made = vectors.join("captures-made");
    let map: &[&str] = &["--map", "111=opus/48000"];
    for (path, arguments) in [
        (vectors.join("captures/g711a.pcap"), &[][..]),
        (made.join("opus-inbandfec-rtcp.pcap"), map),
        (made.join("opus-loss-dup-reorder.pcap"), map),
    ] {
        let report = heard(&path, arguments);
        assert_eq!(report, heard(&path, arguments), "the same twice");
        let stream = &report["streams"][0];
        let started = events(stream, "speech_started").len();
        let ended = events(stream, "ended").len();
        let summary = &stream["turn_summary"];
        let heard = summary["heard_ms"].as_f64().expect("a number");
        let lasts = stream["duration_ms"].as_f64().expect("a number");
        assert!((heard - lasts).abs() < 200.0, "{heard} of {lasts}");
        println!(
            "{}: {started} started, {ended} ended, {summary}",
            path.display()
        );
        assert!(started >= ended, "{stream:#}");
    }
}

//! Turns of a call with an agent: what a journal tells of them later is what was told while it lasted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::audio::signal::{noise, voice};
use antiphon_core::codec::opus::OpusEncoder;
use antiphon_core::codec::{Encoder as _, EncoderSettings};
use serde_json::Value;
use str0m::media::{Direction, MediaKind};

use crate::PATIENCE;
use crate::again::journals_in;
use crate::peer::{Peer, run};
use crate::server::Server;

const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: usize = 320;
const DECISIONS: [&str; 10] = [
    "speech_started",
    "speech_ended",
    "eager_end",
    "resumed",
    "ended",
    "barge_candidate",
    "barge_in",
    "backchannel",
    "false_interruption",
    "idle",
];

/// Speaks to the parrot, lets it begin to repeat that, and interrupts it.
fn talk(peer: &mut Peer) {
    let spoken = |millis: usize| voice(Rate::Hz16000, 1, 16 * millis);
    let quiet = |millis: usize| noise(2, 0.0005, 16 * millis);
    let sound = [
        quiet(400),
        // The parrot takes as long to repeat it.
        spoken(2_250),
        quiet(1_000),
        spoken(1_000),
        quiet(1_500),
    ]
    .concat();
    let mut encoder = OpusEncoder::new(Rate::Hz16000, EncoderSettings::STANDARD);
    for (samples, number) in sound.chunks_exact(SAMPLES).zip(0..) {
        let mut payload = [0; 400];
        let length = encoder.encode(samples, &mut payload).expect("20 ms fit");
        peer.send(0, 960 * number, &payload[..length]);
        run(&mut [&mut *peer], PACKET, |_| false);
    }
}

/// The decisions of a timeline, each with its name, as a replay prints them.
fn decisions(stream: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for message in stream.split("\n\n") {
        let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
        let (Some(event), Some(data)) = (field("event: "), field("data: ")) else {
            continue;
        };
        assert_ne!(event, "lost", "the test is too slow");
        if DECISIONS.contains(&event) {
            let mut value: Value = serde_json::from_str(data).expect("JSON");
            value["event"] = event.into();
            found.push(value);
        }
    }
    found
}

fn replay(path: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .args(["replay", "--json"])
        .arg(path)
        .args(arguments)
        .output()
        .expect("the program runs");
    assert_ne!(output.status.code(), Some(2), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn names(turns: &Value) -> Vec<&str> {
    let turns = turns.as_array().expect("a list").iter();
    turns.filter_map(|turn| turn["event"].as_str()).collect()
}

#[test]
fn a_journal_tells_the_turns_of_a_call_as_they_were_told_live() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("journal-turns");
    // It may be left from a run before.
    std::fs::remove_dir_all(&folder).ok();
    let mut server = Server::start(&["--journal", folder.to_str().expect("text")]);
    let sections = [(MediaKind::Audio, Direction::SendRecv)];
    let mut peer = Peer::join(&server, "/whip?agent=parrot", &sections);
    assert!(run(&mut [&mut peer], PATIENCE, |peers| peers[0].connected));
    let stream = server.stream(&format!("/api/sessions/{}/voice", peer.secret()));
    let listening = thread::spawn(move || stream.into_body().read_to_string());
    talk(&mut peer);
    server.signal("TERM");
    assert_eq!(server.exit_code(PATIENCE), Some(0));
    let told = listening.join().expect("it reads").expect("text");
    let live = decisions(&told);
    let live = Value::Array(live);
    for event in ["ended", "barge_in"] {
        assert!(names(&live).contains(&event), "{live:#}");
    }

    let journals = journals_in(&folder);
    let [journal] = &journals[..] else {
        panic!("{journals:?}")
    };
    let report = replay(journal, &["--turns"]);
    assert_eq!(report["verdict"], "exact");
    assert_eq!(report["sessions"][0]["turns"], live);
    let interrupted = &report["sessions"][0]["turn_summary"]["barge_ins"];
    assert!(interrupted.as_u64() > Some(0), "{report:#}");

    // By its own numbers it tells the same, whenever timers fire, and by others it does not.
    let sides = |preset: &str| {
        let preset = format!("voice.preset={preset}");
        let compared = replay(journal, &["--turns", "--set", &preset]);
        let sides = compared["turns"][0]["sides"].clone();
        assert_eq!(sides[0]["turns"], live);
        sides
    };
    assert_eq!(names(&sides("balanced")[1]["turns"]), names(&live));
    let patient = sides("patient");
    let delay = |side: usize| patient[side]["turn_summary"]["delay"]["p50_ms"].as_f64();
    assert!(delay(1) > delay(0), "{patient:#}");

    // A capture of the person has the turn in which the agent took no part.
    let capture = folder.join("call.pcapng");
    let to = capture.to_str().expect("text");
    replay(journal, &["--export", to]);
    let keys = format!("{to}.keys.json");
    let report = replay(
        &capture,
        &["--turns", "--keys", &keys, "--map", "111=opus/48000"],
    );
    let streams = report["streams"].as_array().expect("a list").iter();
    let found: Vec<_> = streams
        .filter_map(|stream| first_end(&stream["turns"]))
        .collect();
    let (delay, length, reason) = first_end(&live).expect("one ended");
    // On a busy machine the call's clock leaps where its thread was kept from running, and the capture's does not.
    let is_alike = |(its_delay, its_length, its_reason): &(f64, f64, Value)| {
        let near = (its_delay - delay).abs() < 100.0 && (its_length - length).abs() < 500.0;
        near && *its_reason == reason
    };
    assert!(found.iter().any(is_alike), "{found:?}, {live:#}");
}

/// Of the first turn that ended: how long after its last voice that was told, its length, and why.
fn first_end(turns: &Value) -> Option<(f64, f64, Value)> {
    let mut turns = turns.as_array()?.iter();
    let ended = turns.find(|turn| turn["event"] == "ended")?;
    let figure = |name: &str| ended[name].as_f64().expect("a number");
    let [at, start, end] = ["at", "start", "end"].map(figure);
    Some((at - end, end - start, ended["reason"].clone()))
}

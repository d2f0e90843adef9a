//! What else can be done with a journal: comparing, exporting, redacting, finding a fault.

use std::path::{Path, PathBuf};
use std::process::Command;

use antiphon_core::journal::{EndReason, Payloads, Reader, Record, begin, put};
use antiphon_core::session::transport::HandshakeResult;
use serde_json::Value;

use super::antiphon;
use super::journal::{altered, call, replayed, text, without_turn, write};

/// A file that is not there.
fn free(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_file(&path).ok();
    path
}

/// The call, in which the DTLS library panicked for the third session's second datagram.
fn faulty() -> Vec<u8> {
    let mut count = 0;
    altered(&call(Payloads::Full), |record| {
        if let Record::Handshake(session, outcome) = record
            && session.key.index == 2
        {
            count += 1;
            if count == 2 {
                outcome.result = HandshakeResult::Panicked;
            }
        }
        true
    })
}

#[test]
fn an_export_holds_every_datagram_and_opens_with_its_keys() {
    let path = write("export.journal", &call(Payloads::Full));
    let to = free("export.pcapng");
    let keys = free("export.pcapng.keys.json");
    let (exported, code) = replayed(&path, &["--export", text(&to)]);
    assert_eq!(code, Some(0));
    let (capture, code) = replayed(&to, &["--keys", text(&keys)]);
    assert_eq!(code, Some(0));
    let datagrams = |way: &str| exported[way]["datagrams"].as_u64().expect("a number");
    let totals = &capture["totals"];
    assert_eq!(totals["udp"], datagrams("received") + datagrams("sent"));
    let (rtp, rtcp) = (totals["rtp"].as_u64(), totals["rtcp"].as_u64());
    let all = rtp.zip(rtcp).map(|(rtp, rtcp)| rtp + rtcp);
    assert!(all > Some(1_000), "{totals:#}");
    assert_eq!(totals["decrypted"].as_u64(), all, "{totals:#}");
    let (unkeyed, _) = replayed(&to, &[]);
    assert_eq!(unkeyed["totals"]["decrypted"], 0, "the keys are not in it");
    // Neither file is written over, nor is one of them without the other.
    let refused = |blamed: &Path| {
        let again = antiphon(&[text(&path), "--export", text(&to)]);
        let error = String::from_utf8_lossy(&again.stderr).into_owned();
        assert_eq!(again.status.code(), Some(2));
        let blamed = format!("{}: ", blamed.display());
        assert!(
            error.contains(&blamed) && error.contains("new file"),
            "{error}"
        );
    };
    std::fs::remove_file(&keys).expect("it is there");
    refused(&to);
    assert!(!keys.exists());
    std::fs::rename(&to, &keys).expect("it is there");
    refused(&keys);
    assert!(!to.exists(), "nothing is written");
}

/// A limit on the length of files is a disk that is full.
#[test]
fn where_there_is_no_room_nothing_is_left() {
    let path = write("no-room.journal", &call(Payloads::Full));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-room");
    std::fs::create_dir_all(&folder).expect("the test folder can be written");
    for (manner, name) in [("--export", "call.pcapng"), ("--redact", "shared.journal")] {
        let to = folder.join(name);
        let script = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
        let output = Command::new("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_antiphon")])
            .args(["replay", text(&path), manner, text(&to)])
            .output()
            .expect("the shell runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.contains(text(&to)) && error.contains("File too large"),
            "{error}"
        );
        assert!(!error.contains("new file"), "that is no help: {error}");
        let left = std::fs::read_dir(&folder).expect("it is there").count();
        assert_eq!(left, 0, "{manner}");
    }
}

#[test]
fn a_redacted_journal_is_shown_with_the_same_timeline_and_cannot_be_played() {
    let path = write("secret.journal", &call(Payloads::Full));
    let to = free("redacted.journal");
    let output = antiphon(&[text(&path), "--redact", text(&to)]);
    assert!(output.status.success(), "{output:?}");
    let (whole, _) = replayed(&path, &["--events"]);
    let (shown, code) = replayed(&to, &["--events"]);
    assert_eq!((code, &shown["verdict"]), (Some(2), &"redacted".into()));
    for figure in ["turns", "events", "received"] {
        assert_eq!(shown[figure], whole[figure], "{figure}");
    }
    assert_eq!(shown["sent"]["datagrams"], whole["sent"]["datagrams"]);
    for figure in [
        &shown["sent"]["bytes"],
        &shown["digest"],
        &shown["turns_agreed"],
    ] {
        assert_eq!(*figure, Value::Null, "it is not known");
    }
    let sessions = shown["sessions"].as_array().expect("a list");
    assert!(sessions.iter().all(|session| session["sent"].is_null()));
    let times = |report: &Value| -> Vec<(Value, Value)> {
        let lines = report["timeline"].as_array().expect("a list");
        let line = |line: &Value| (line["at"].clone(), line["event"].clone());
        lines.iter().map(line).collect()
    };
    assert_eq!(times(&shown), times(&whole));
    for option in ["--bisect", "--set=setup_timeout=1s"] {
        let output = antiphon(&[text(&to), option]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("taken out"), "{error}");
    }
}

#[test]
fn a_journal_differs_from_another_and_not_from_itself() {
    let one = write("one.journal", &call(Payloads::Full));
    let (same, code) = replayed(&one, &["--diff", text(&one)]);
    assert_eq!((code, &same["agrees"]), (Some(0), &true.into()));
    assert_eq!(same["first_difference"], Value::Null);
    let other = write("other.journal", &faulty());
    let (report, code) = replayed(&one, &["--diff", text(&other)]);
    assert_eq!((code, &report["agrees"]), (Some(1), &false.into()));
    let first = report["first_difference"]["events"]
        .as_array()
        .expect("a list");
    assert_ne!(first[0], first[1]);
    let differing = report["sessions"].as_array().expect("a list").iter();
    let differing = differing.filter(|session| session["differs"] == true);
    let reasons: Vec<_> = differing.map(|session| &session["reason"][1]).collect();
    assert!(reasons.contains(&&"fault".into()), "{report:#}");
    let output = antiphon(&[text(&one), "--diff", text(&other)]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("the first event that differs"), "{table}");
    assert_eq!(report["verdicts"], serde_json::json!(["exact", "differs"]));
    let [first, second] = [&one, &other].map(|path| path.display());
    let heads = format!("1: {first} (exact)\n2: {second} (differs)\n");
    assert!(table.starts_with(&heads), "{table}");
    // A session that is not there has no figures.
    let bytes = std::fs::read(&one).expect("it is there");
    let (header, _) = Reader::new(&bytes).expect("it begins well");
    let mut empty = begin(header);
    put(&mut empty, &Record::End(EndReason::Stopped));
    let empty = write("nobody.journal", &empty);
    let (report, _) = replayed(&one, &["--diff", text(&empty)]);
    assert_eq!(report["sessions"][0]["sent"][1], Value::Null);
}

#[test]
fn what_takes_all_of_a_journal_is_not_narrowed_silently() {
    let path = write("narrowed.journal", &call(Payloads::Full));
    let to = free("narrowed.out");
    let refused = |arguments: &[&str]| {
        let output = antiphon(&[&[text(&path)], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains("cannot be used with"), "{error}");
    };
    let tools: [&[&str]; 5] = [
        &["--diff", text(&path)],
        &["--set", "report_interval=1s"],
        &["--export", text(&to)],
        &["--redact", text(&to)],
        &["--bisect"],
    ];
    for tool in tools {
        for narrowed in [["--session", "0-1-0"], ["--from", "1s"], ["--until", "1s"]] {
            refused(&[tool, &narrowed].concat());
        }
    }
    refused(&["--redact", text(&to), "--json"]);
    assert!(!to.exists(), "nothing is written");
}

#[test]
fn what_is_missing_is_neither_likeness_nor_difference() {
    let sound = call(Payloads::Full);
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 1;
    let cases = [
        ("partial-damaged.journal", damaged, "damaged at byte"),
        (
            "partial-cut.journal",
            sound[..sound.len() / 2].to_vec(),
            "cut off",
        ),
        (
            "partial-lossy.journal",
            without_turn(&sound, 150),
            "missing",
        ),
        (
            "partial-headers.journal",
            call(Payloads::Headers),
            "not recorded",
        ),
    ];
    let whole = write("partial-whole.journal", &sound);
    for (name, bytes, said) in cases {
        let path = write(name, &bytes);
        let tools: [&[&str]; 4] = [
            &[text(&path), "--set", "report_interval=1s"],
            &[text(&path), "--diff", text(&path)],
            &[text(&whole), "--diff", text(&path)],
            &[text(&path), "--bisect"],
        ];
        for arguments in tools {
            let output = antiphon(arguments);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
            assert!(error.contains(name) && error.contains(said), "{error}");
            assert!(!output.stdout.is_empty(), "what could be played is told");
        }
        let (report, _) = replayed(&path, &["--bisect"]);
        assert_eq!(
            report["found"],
            Value::Null,
            "{name}: a hole is no difference"
        );
    }
}

#[test]
fn other_numbers_show_what_they_decide() {
    let path = write("numbers.journal", &call(Payloads::Full));
    let (same, code) = replayed(&path, &["--set", "report_interval=1s"]);
    assert_eq!((code, &same["agrees"]), (Some(0), &true.into()), "{same:#}");
    // Consent that ends before the browser asks again ends the sessions, by a timer that the run did not have.
    let (short, code) = replayed(&path, &["--set", "consent_timeout=900ms"]);
    assert_eq!(code, Some(1));
    let sessions = short["sessions"].as_array().expect("a list");
    let reason = |session: &Value, side: usize| session["reason"][side].clone();
    assert!(sessions.iter().all(|it| reason(it, 0) == "peer_closed"));
    assert!(
        sessions.iter().any(|it| reason(it, 1) == "consent_expired"),
        "{short:#}"
    );
    let (reports, _) = replayed(&path, &["--set", "report_interval=100ms"]);
    let sent = |side: usize| -> u64 {
        let sessions = reports["sessions"].as_array().expect("a list");
        sessions
            .iter()
            .filter_map(|session| session["sent"][side].as_u64())
            .sum()
    };
    assert!(sent(1) > sent(0), "{} and {}", sent(0), sent(1));
    let output = antiphon(&[text(&path), "--set", "warp=9s"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("setup_timeout"), "{error}");
}

#[test]
fn the_least_that_faults_is_found_and_faults_by_itself() {
    let path = write("faulty.journal", &faulty());
    let out = free("least.journal");
    let (report, code) = replayed(&path, &["--bisect", "--out", text(&out)]);
    assert_eq!(code, Some(1));
    let found = &report["found"];
    assert_eq!(found["fault"], "0-2-0", "{report:#}");
    assert_eq!(found["input"]["kind"], "DTLS");
    assert!(found["inputs"].as_u64() <= found["inputs_of_turn"].as_u64());
    let panic = found["panic"].as_str().expect("its words");
    assert!(panic.contains("the DTLS library panicked"), "{panic}");
    let (least, code) = replayed(&out, &[]);
    assert_eq!(
        (code, &least["turns"]),
        (Some(0), &found["turn"]),
        "{least:#}"
    );
    assert_eq!(least["faults"][0]["session"], "0-2-0");
    // Nothing of it is too much.
    let (again, _) = replayed(&out, &["--bisect"]);
    assert_eq!(again["found"]["turn"], found["turn"]);
    assert_eq!(again["found"]["inputs"], found["inputs"]);
    assert_eq!(again["found"]["inputs_of_turn"], found["inputs"]);
    let output = antiphon(&[text(&path), "--bisect"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.starts_with("session 0-2-0 faults in turn "), "{told}");
    assert!(output.stderr.is_empty(), "the panic is told once");
}

#[test]
fn without_a_fault_the_first_difference_is_found_or_nothing() {
    let sound = call(Payloads::Full);
    let path = write("sound.journal", &sound);
    let (report, code) = replayed(&path, &["--bisect"]);
    assert_eq!((code, &report["found"]), (Some(0), &Value::Null));
    let mut count = 0;
    let less = altered(&sound, |record| {
        count += usize::from(matches!(record, Record::Received(_)));
        !(matches!(record, Record::Received(_)) && count == 900)
    });
    let path = write("bisected-less.journal", &less);
    let out = free("bisected-least.journal");
    let (report, code) = replayed(&path, &["--bisect", "--out", text(&out)]);
    assert_eq!((code, &report["found"]["fault"]), (Some(1), &Value::Null));
    let (whole, _) = replayed(&path, &[]);
    assert_eq!(report["found"]["turn"], whole["difference"]["turn"]);
    let (least, code) = replayed(&out, &[]);
    assert_eq!((code, &least["turns"]), (Some(1), &report["found"]["turn"]));
}

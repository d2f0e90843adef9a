//! Journals of simulated calls, replayed by the program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use antiphon_core::journal::{EndReason, Lost, Payloads, Reader, Record, Retention, begin, put};
use antiphon_core::message::Event;
use antiphon_core::sim::peer::{Picture, Speech};
use antiphon_core::sim::scenario::{Scenario, Setting};
use serde_json::Value;

use super::antiphon;

/// A room of four who all speak and show themselves, for two seconds and until all have left.
pub(super) fn call(payloads: Payloads) -> Vec<u8> {
    let mut scenario = Scenario::rooms(7, 1, Speech::Spurts, Some(Picture::Plain));
    scenario.safety = Duration::from_secs(1);
    let (outcome, journal) = scenario.run_recorded(Setting::default(), payloads);
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    journal
}

pub(super) fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("the test folder can be written");
    path
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// The JSON report and the exit code.
pub(super) fn replayed(path: &Path, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = antiphon(&[&[text(path), "--json"], arguments].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {said}");
    });
    (report, output.status.code())
}

/// The journal after `change`, which may also take an entry out.
pub(super) fn altered(journal: &[u8], mut change: impl FnMut(&mut Record<'_>) -> bool) -> Vec<u8> {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let mut altered = begin(header);
    for record in reader {
        let mut record = record.expect("it is whole");
        if change(&mut record) {
            put(&mut altered, &record);
        }
    }
    altered
}

/// The journal without one turn, and with a word on that.
pub(super) fn without_turn(journal: &[u8], number: usize) -> Vec<u8> {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let mut lossy = begin(header);
    let mut turn = 0;
    for record in reader.map(|record| record.expect("it is whole")) {
        turn += usize::from(matches!(record, Record::Turn(_)));
        if turn != number {
            put(&mut lossy, &record);
        } else if matches!(record, Record::Turn(_)) {
            let (records, bytes) = (3, 300);
            put(&mut lossy, &Record::Lost(Lost { records, bytes }));
        }
    }
    lossy
}

#[test]
fn a_whole_journal_is_exact_and_its_report_adds_up() {
    let path = write("whole.journal", &call(Payloads::Full));
    let (report, code) = replayed(&path, &["--events"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["verdict"], "exact");
    assert_eq!(report["turns"], report["turns_agreed"]);
    assert_eq!(report["journal"]["end"], "stopped");
    let sessions = report["sessions"].as_array().expect("a list");
    assert_eq!(sessions.len(), 16);
    let sum = |figure: &str| -> u64 {
        let figures = sessions.iter().map(|session| session[figure].as_u64());
        figures.map(|figure| figure.expect("a number")).sum()
    };
    assert!(
        sessions
            .iter()
            .all(|session| session["reason"] == "peer_closed")
    );
    assert!(sessions.iter().all(|session| session["connected"].is_f64()));
    assert_eq!(report["sent"]["datagrams"], sum("sent"));
    assert_eq!(report["received"]["datagrams"], sum("received"));
    let timeline = report["timeline"].as_array().expect("a list");
    let told: u64 = report["events"]
        .as_object()
        .expect("kinds")
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(timeline.len() as u64, told);
    assert_eq!(report["events"]["opened"], 16);
    assert_eq!(report["events"]["closed"], 16);

    let output = antiphon(&[text(&path)]);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.starts_with("exact: all "), "{table}");
    assert!(table.contains("publish room 0 as 3"), "{table}");
    assert_eq!(
        table.matches(" peer_closed ").count(),
        16,
        "why each ended: {table}"
    );
}

/// What a command was told on its standard input, with this exit code.
fn told_of(arguments: &[&str], input: &[u8], code: i32) -> (String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // Whoever refuses the input does not read it.
    let writer = std::thread::spawn(move || pipe.write_all(&input).is_ok());
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it does not panic");
    let [told, error] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert_eq!(output.status.code(), Some(code), "{told}{error}");
    (told, error)
}

#[test]
fn a_recording_can_come_through_a_pipe() {
    // More than a pipe holds, and than there is room for at once.
    let journal = call(Payloads::Full);
    assert!(journal.len() > 300_000);
    let (report, _) = told_of(&["/dev/stdin", "--json"], &journal, 0);
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    assert_eq!(report["verdict"], "exact");
    let path = write("piped.journal", &journal);
    let to = path.with_extension("pcapng");
    for left in [&to, &to.with_extension("pcapng.keys.json")] {
        std::fs::remove_file(left).ok();
    }
    let (exported, _) = replayed(&path, &["--export", text(&to)]);
    let capture = std::fs::read(&to).expect("it was written");
    let (report, _) = told_of(&["/dev/stdin", "--json"], &capture, 0);
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    let all = |way: &str| exported[way]["datagrams"].as_u64().expect("a number");
    assert_eq!(report["totals"]["udp"], all("received") + all("sent"));
    let (_, error) = told_of(&["/dev/stdin", "--step"], &journal, 2);
    assert!(error.contains("answers from standard input"), "{error}");
}

#[test]
fn whoever_reads_no_more_ends_it_quietly() {
    let path = write("unheard.journal", &call(Payloads::Full));
    for manner in ["--events", "--step", "--json"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(["replay", text(&path), manner])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), &*error), (Some(141), ""), "{manner}");
    }
}

#[test]
fn what_can_print_nothing_is_refused_with_a_reason() {
    let path = write("nothing.journal", &call(Payloads::Full));
    let refused = |arguments: &[&str], said: &str| {
        let output = antiphon(&[&[text(&path)], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    };
    refused(
        &["--from", "2s", "--until", "1s"],
        "--from 2s is after --until 1s",
    );
    refused(
        &["--events", "--from", "1h"],
        "--from 3600s is after its last turn",
    );
    refused(&["--json", "--until", "0"], "is before its first turn");
    refused(&["--session", "0-99-0"], "it has no session 0-99-0");
    refused(&["--session", "3"], "invalid value '3'");
    for time in ["1m1m", "-1s", "1:99", "soon", "1e300"] {
        refused(&[&format!("--from={time}")], "a time is seconds");
    }
    let twice = ["--set", "report_interval=1s", "--set", "report_interval=2s"];
    refused(&twice, "--set report_interval is given twice");
    refused(&["--set", "report_interval"], "not NAME=VALUE");
}

/// The journal as the end of a ring would be.
fn as_ring(journal: &[u8]) -> Vec<u8> {
    let (mut header, reader) = Reader::new(journal).expect("it begins well");
    header.retention = Retention::Ring { bytes: 1 << 20 };
    let mut ring = begin(header);
    reader.for_each(|record| put(&mut ring, &record.expect("it is whole")));
    ring
}

#[test]
fn what_the_replay_of_a_ring_makes_up_is_marked() {
    let ring = as_ring(&call(Payloads::Full));
    let is_end = |record: &Record<'_>| {
        let Record::Event(event) = record else {
            return false;
        };
        matches!(**event, Event::Closed { session, .. } if session.key.index == 2)
    };
    let unended = altered(&ring, |record| !is_end(record));
    let (sound, code) = replayed(&write("ring.journal", &ring), &["--events"]);
    assert_eq!((code, &sound["verdict"]), (Some(0), &"from-birth".into()));
    assert_eq!(sound["made_up"], 0);
    let path = write("made-up.journal", &unended);
    let (report, _) = replayed(&path, &["--events"]);
    let lines = report["timeline"].as_array().expect("a list");
    let made_up: Vec<_> = lines
        .iter()
        .filter(|line| line["made_up"] == true)
        .collect();
    assert!(!made_up.is_empty() && made_up.iter().all(|line| line["event"] == "closed"));
    assert_eq!(report["made_up"], made_up.len());
    let output = antiphon(&[text(&path), "--events"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("closed peer_closed (made up"), "{told}");
    assert!(told.contains(" of the events were made up"), "{told}");
}

#[test]
fn a_difference_says_what_differs_and_that_another_version_recorded() {
    let journal = call(Payloads::Full);
    let other = altered(&journal, |record| {
        if let Record::Event(event) = record
            && let Event::Opened { local, .. } = event.to_mut()
        {
            local.ice.password.push('x');
        }
        true
    });
    let by = |software: &str| {
        let (mut header, reader) = Reader::new(&other).expect("it begins well");
        header.software = software.to_owned();
        let mut journal = begin(header);
        reader.for_each(|record| put(&mut journal, &record.expect("it is whole")));
        journal
    };
    let path = write("other-password.journal", &by(env!("CARGO_PKG_VERSION")));
    let (report, code) = replayed(&path, &[]);
    assert_eq!((code, &report["why"]), (Some(1), &Value::Null));
    let what = report["difference"]["what"].as_str().expect("a sentence");
    assert_eq!(what.matches("opened").count(), 1, "{what}");
    assert!(what.contains("credentials"), "{what}");
    let path = write("older.journal", &by("0.0.1"));
    let (report, _) = replayed(&path, &[]);
    let why = report["why"].as_str().expect("a sentence");
    assert!(why.contains("version \"0.0.1\" recorded it"), "{why}");
    let output = antiphon(&[text(&path)]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = table.lines().next().expect("a verdict");
    assert!(
        first.starts_with("differs: ") && first.ends_with(why),
        "{first}"
    );
}

#[test]
fn where_there_is_no_figure_there_is_no_number() {
    let journal = call(Payloads::Full);
    let (header, _) = Reader::new(&journal).expect("it begins well");
    let mut empty = begin(header);
    put(&mut empty, &Record::End(EndReason::Stopped));
    let path = write("empty.journal", &empty);
    let (report, code) = replayed(&path, &[]);
    assert_eq!((code, &report["verdict"]), (Some(0), &"exact".into()));
    for figure in ["first", "last", "seconds"] {
        assert_eq!(report["journal"][figure], Value::Null, "{figure}");
    }
    assert_eq!(report["journal_seconds_per_second"], Value::Null);
    let output = antiphon(&[text(&path)]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("Journal without a turn"), "{table}");
}

#[test]
fn a_window_narrows_what_is_printed_and_not_what_is_played() {
    let path = write("window.journal", &call(Payloads::Full));
    let (all, _) = replayed(&path, &["--events"]);
    let times = |report: &Value| -> Vec<f64> {
        let lines = report["timeline"].as_array().expect("a list");
        lines
            .iter()
            .filter_map(|line| line["at"].as_f64())
            .collect()
    };
    let (first, last) = (times(&all)[0], times(&all)[times(&all).len() - 1]);
    let middle = f64::midpoint(first, last).to_string();
    let (early, _) = replayed(&path, &["--events", "--until", &middle]);
    let (late, _) = replayed(&path, &["--events", "--from", &middle]);
    assert!(!times(&early).is_empty() && !times(&late).is_empty());
    assert_eq!([times(&early), times(&late)].concat(), times(&all));
    assert_eq!(early["verdict"], "exact");
    assert_eq!(early["digest"], all["digest"]);
    let (one, _) = replayed(&path, &["--events", "--session", "0-2-0"]);
    let lines = one["timeline"].as_array().expect("a list");
    assert!(lines.len() > 2);
    assert!(lines.iter().all(|line| line["session"] == "0-2-0"));
    assert_eq!(one["sessions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_differs_is_named_with_its_turn_and_fails_with_one() {
    let journal = call(Payloads::Full);
    let mut count = 0;
    let less = altered(&journal, |record| {
        count += usize::from(matches!(record, Record::Received(_)));
        !(matches!(record, Record::Received(_)) && count == 900)
    });
    let path = write("less.journal", &less);
    let (report, code) = replayed(&path, &[]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"differs".into()));
    assert!(report["difference"]["turn"].as_u64() > Some(100));
    assert!(report["turns_agreed"].as_u64() < report["turns"].as_u64());
    let output = antiphon(&[text(&path)]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.starts_with("differs: turn "), "{table}");
}

#[test]
fn a_journal_that_does_not_hold_all_gives_what_it_holds_and_fails_with_two() {
    let journal = call(Payloads::Full);
    let check = |name: &str, bytes: &[u8], verdict: &str| {
        let path = write(name, bytes);
        let (report, code) = replayed(&path, &[]);
        assert_eq!(
            (code, &report["verdict"]),
            (Some(2), &verdict.into()),
            "{name}"
        );
        assert!(report["why"].is_string(), "{name}");
        assert!(report["turns"].as_u64() > Some(100), "{name}");
        report
    };
    let half = journal.len() / 2;
    let cut = check("cut.journal", &journal[..half], "cut-off");
    assert_eq!(cut["turns"], cut["turns_agreed"]);
    let mut damaged = journal.clone();
    damaged[half] ^= 1;
    let damaged = check("damaged.journal", &damaged, "damaged");
    assert_eq!(damaged["turns"], damaged["turns_agreed"]);
    let endless = altered(&journal, |record| !matches!(record, Record::End(_)));
    check("endless.journal", &endless, "cut-off");
    let lossy = without_turn(&journal, 150);
    let lossy = check("lossy.journal", &lossy, "lossy");
    assert_eq!(lossy["lost"]["entries"], 3);
    let headers = call(Payloads::Headers);
    check("headers.journal", &headers, "headers-only");
    let half = &headers[..headers.len() / 2];
    check("cut-headers.journal", half, "cut-off");
    // Before media, all that its set-up takes is there.
    let mut count = 0;
    let less = altered(&headers, |record| {
        count += usize::from(matches!(record, Record::Command(_)));
        !(matches!(record, Record::Command(_)) && count == 2)
    });
    let (report, code) = replayed(&write("less-headers.journal", &less), &[]);
    assert_eq!((code, &report["verdict"]), (Some(1), &"differs".into()));
}

#[test]
fn numbers_at_their_ends_are_no_panic() {
    let journal = call(Payloads::Full);
    let (mut header, reader) = Reader::new(&journal).expect("it begins well");
    header.unix = Duration::MAX;
    let mut endless = begin(header);
    let lost = Lost {
        records: u64::MAX,
        bytes: u64::MAX,
    };
    for record in reader.map(|record| record.expect("it is whole")) {
        put(&mut endless, &record);
        if let Record::Rest(_) = record {
            put(&mut endless, &Record::Lost(lost));
        }
    }
    let path = write("numbers-at-ends.journal", &endless);
    let to = path.with_extension("pcapng");
    // They may be left from a run before.
    for left in [&to, &to.with_extension("pcapng.keys.json")] {
        std::fs::remove_file(left).ok();
    }
    let (report, code) = replayed(&path, &["--export", text(&to)]);
    assert_eq!((code, &report["verdict"]), (Some(2), &"lossy".into()));
    assert_eq!(report["lost"]["entries"], u64::MAX);
}

#[test]
fn what_is_no_journal_of_this_program_is_refused_by_name() {
    let mut newer = call(Payloads::Full);
    newer[8] += 1;
    let cases: [(&str, Vec<u8>, &str); 3] = [
        ("newer.journal", newer, "layout"),
        ("magic.journal", b"antiphnJ".to_vec(), "not a journal"),
        ("other.journal", b"antiphnX0000".to_vec(), "neither"),
    ];
    for (name, bytes, said) in cases {
        let output = antiphon(&[text(&write(name, &bytes))]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn options_of_the_other_kind_are_refused() {
    let path = write("options.journal", &call(Payloads::Full));
    let output = antiphon(&[text(&path), "--pace", "rtp"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("--pace is for captures"), "{error}");
    let capture = write("options.pcap", &[0xd4, 0xc3, 0xb2, 0xa1]);
    let output = antiphon(&[text(&capture), "--events"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("--events is for journals"), "{error}");
}

#[test]
fn stepping_shows_a_turn_at_a_time() {
    let path = write("step.journal", &call(Payloads::Full));
    let step = |answers: &[u8]| {
        let arguments = [text(&path), "--step", "--session", "0-1-0"];
        told_of(&arguments, answers, 0).0
    };
    let turns = |text: &str| {
        let numbered = |part: &&str| part.starts_with(|first: char| first.is_ascii_digit());
        text.split("turn ").filter(numbered).count()
    };
    let shown = step(b"\n5\nq\n");
    assert_eq!(turns(&shown), 7, "{shown}");
    assert!(
        shown.contains("event     0-1-0      opened subscribe room 0 to 1"),
        "{shown}"
    );
    assert!(shown.contains("STUN of"), "{shown}");
    assert!(!shown.contains(" 0-2-0 "), "{shown}");
    assert!(shown.contains("stopped after "), "{shown}");
    // Whoever does not answer any more ends it, and whoever says something else is told what can be said.
    assert_eq!(turns(&step(b"")), 1);
    assert_eq!(turns(&step(b"3\n")), 4);
    let shown = step(b"next\n\xff\n99999999999999999999\n-1\n\n");
    assert_eq!(shown.matches("Enter goes on").count(), 4, "{shown}");
    assert_eq!(turns(&shown), 2, "{shown}");
    assert!(shown.contains("stopped after "), "{shown}");
}

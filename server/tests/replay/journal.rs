//! Journals of simulated calls, replayed by the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use antiphon_core::journal::{Lost, Payloads, Reader, Record, begin, put};
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
    use std::io::Write as _;
    let path = write("step.journal", &call(Payloads::Full));
    let step = |answers: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(["replay", text(&path), "--step", "--session", "0-1-0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(answers).expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
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
    // Whoever does not answer any more does not hold it up.
    assert!(turns(&step(b"")) > 100);
}

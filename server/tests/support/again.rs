//! Plays a journal in a process that knows nothing of the run: this test program once more.

use std::path::{Path, PathBuf};
use std::process::Command;

use antiphon_core::bugs::Mutation;
use antiphon_core::drive::TransmitMeta;
use antiphon_core::journal::{Player, Reader, Record, Step, Witness, begin, put};
use antiphon_core::message::Event;
use antiphon_core::rng::Seed;
use antiphon_core::time::Timestamp;
use antiphon_core::wire::{Class, classify};
use serde_json::{Value, json};

const VARIABLE: &str = "JOURNAL_TO_PLAY";
/// A variable that plants the fault in the shard that plays.
pub(crate) const PLANT: &str = "PLANT_FAULT";
const SAYS: &str = "PLAYED ";

/// What came out, by kind.
#[derive(Default)]
struct Counted {
    rtp: u64,
    rtcp: u64,
    stun: u64,
    connected: u64,
    closed: u64,
}

impl Witness for Counted {
    fn on_event(&mut self, _now: Timestamp, event: &Event) {
        self.connected += u64::from(matches!(event, Event::Connected { .. }));
        self.closed += u64::from(matches!(event, Event::Closed { .. }));
    }

    fn on_transmit(&mut self, _now: Timestamp, _meta: &TransmitMeta, contents: &[u8]) {
        match classify(contents) {
            Class::Rtp => self.rtp += 1,
            Class::Rtcp => self.rtcp += 1,
            Class::Stun => self.stun += 1,
            Class::Dtls | Class::Unknown => {}
        }
    }
}

/// No test of its own: what [`play`] starts.
#[test]
fn a_child_plays_the_journal_that_is_named() {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let journal = std::fs::read(path).expect("it is there");
        println!("\n{SAYS}{}", play_here(&journal));
    }
}

fn play_here(journal: &[u8]) -> Value {
    let (header, reader) = Reader::new(journal).expect("it is a journal");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    if std::env::var_os(PLANT).is_some() {
        player.bugs_mut().plant(Mutation::FaultAtLength);
    }
    let (mut counted, mut end, mut lost, mut faulted) = (Counted::default(), None, 0, 0);
    while let Some(step) = player.step(&mut counted) {
        match step.expect("it is whole") {
            Step::End(reason) => end = Some(reason),
            Step::Lost(missing) => lost += missing.records,
            Step::Turn { faulted: now, .. } => faulted += now.len(),
            _ => {}
        }
    }
    json!({
        "turns": player.played(),
        "digest": player.digest().to_string(),
        "difference": player.difference().map(|difference| format!("{difference:?}")),
        "end": format!("{end:?}"),
        "complete": player.standings().filter(|it| it.is_complete()).count(),
        "incomplete": player.standings().filter(|it| !it.is_complete()).count(),
        "received": player.shard().stats().rtp_received,
        "lost": lost,
        "faulted": faulted,
        "rtp": counted.rtp,
        "rtcp": counted.rtcp,
        "stun": counted.stun,
        "connected": counted.connected,
        "closed": counted.closed,
    })
}

/// What comes of a journal that is played by another process, with these variables set.
pub(crate) fn play(path: &Path, variables: &[&str]) -> Value {
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "again::a_child_plays_the_journal_that_is_named"])
        .arg("--nocapture")
        .env(VARIABLE, path)
        .envs(variables.iter().map(|name| (*name, "1")))
        .output()
        .expect("it runs again");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().find_map(|line| line.strip_prefix(SAYS));
    let said = said.unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(said).expect("it is JSON")
}

/// Asserts that `antiphon replay` makes the run of a journal again, and tells two that are one byte off from it; what
/// came out.
pub(crate) fn assert_replays(path: &Path) -> Value {
    let replayed = replay(path, 0);
    assert_eq!(replayed["verdict"], "exact", "{replayed}");
    for (name, altered) in [
        ("payload", with_one_byte_of_media_changed(path)),
        ("seed", with_one_byte_of_the_seed_changed(path)),
    ] {
        let other = path.with_extension(name);
        std::fs::write(&other, altered).expect("the folder can be written");
        let otherwise = replay(&other, 1);
        assert_eq!(otherwise["verdict"], "differs", "{name}: {otherwise}");
        assert_ne!(otherwise["digest"], replayed["digest"], "{name}");
    }
    let played = play(path, &[]);
    assert_eq!(played["digest"], replayed["digest"]);
    assert_eq!(played["end"], "Some(Stopped)", "{played}");
    assert_eq!(
        (&played["lost"], &played["faulted"]),
        (&0.into(), &0.into())
    );
    played
}

/// What `antiphon replay` says of a journal, with this exit code.
fn replay(path: &Path, code: i32) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .args(["replay", "--json"])
        .arg(path)
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn with_one_byte_of_media_changed(path: &Path) -> Vec<u8> {
    let journal = std::fs::read(path).expect("it is there");
    let (header, reader) = Reader::new(&journal).expect("it is a journal");
    let (mut altered, mut seen) = (begin(header), 0);
    for record in reader {
        let mut record = record.expect("it is whole");
        if let Record::Received(slot) = &mut record
            && matches!(classify(&slot.contents), Class::Rtp)
        {
            seen += 1;
            if seen == 20 {
                *slot.contents.to_mut().last_mut().expect("not empty") ^= 1;
            }
        }
        put(&mut altered, &record);
    }
    assert!(seen > 20, "media came");
    altered
}

fn with_one_byte_of_the_seed_changed(path: &Path) -> Vec<u8> {
    let journal = std::fs::read(path).expect("it is there");
    let (mut header, reader) = Reader::new(&journal).expect("it is a journal");
    let mut seed = *header.seed.as_bytes();
    seed[0] ^= 1;
    header.seed = Seed::new(seed);
    let mut altered = begin(header);
    reader.for_each(|record| put(&mut altered, &record.expect("it is whole")));
    altered
}

/// The journals in a folder, by name.
pub(crate) fn journals_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("it is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|it| it == "journal");
    let mut paths: Vec<_> = paths.filter(is_journal).collect();
    paths.sort();
    paths
}

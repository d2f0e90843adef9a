//! `--journal`: what a server recorded of calls replays, in another process, to the same run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use antiphon_core::bugs::FATAL_PAYLOAD_BYTES;
use antiphon_core::journal::{Reader, Record};

use crate::again::{PLANT, assert_replays, journals_in, play};
use crate::peer::{Peer, run};
use crate::server::Server;
use crate::{
    BOTH_WAYS, FROM_SERVER, PACKETS, PATIENCE, TO_SERVER, heard_all, runtimes, talk, total,
};

/// A name of the test folder at which nothing is.
fn free(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It may be left from a run before.
    std::fs::remove_dir_all(&path).ok();
    path
}

fn start(folder: &Path, extra: &[&str]) -> Server {
    let folder = folder.to_str().expect("text");
    Server::start(&[&["--journal", folder], extra].concat())
}

fn stop(mut server: Server) {
    server.signal("TERM");
    assert_eq!(server.exit_code(PATIENCE), Some(0));
}

/// An echo of [`PACKETS`] sounds and pictures.
fn echo(server: &Server) {
    let mut peer = Peer::join(server, "/whip", &BOTH_WAYS);
    let mut peers = [&mut peer];
    assert!(run(&mut peers, PATIENCE, |peers| peers[0].connected));
    talk(&mut peers);
    assert!(run(&mut peers, PATIENCE, heard_all));
    assert_eq!(server.delete(&peer.resource), 200);
    assert!(run(&mut [&mut peer], PATIENCE, |peers| peers[0].closed));
}

/// A room of a speaker and a listener, who are there when the server stops.
fn room(server: &Server) -> [Peer; 2] {
    let mut ann = Peer::join(server, "/whip/hall?name=ann", &TO_SERVER);
    assert!(run(&mut [&mut ann], PATIENCE, |peers| peers[0].connected));
    let mut cleo = Peer::try_join(server, "/whep/hall/ann", &FROM_SERVER);
    for _ in 0..50 {
        if cleo.is_ok() {
            break;
        }
        run(&mut [&mut ann], PATIENCE / 250, |_| false);
        cleo = Peer::try_join(server, "/whep/hall/ann", &FROM_SERVER);
    }
    let mut cleo = cleo.unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut peers = [&mut ann, &mut cleo];
    assert!(run(&mut peers, PATIENCE, |peers| peers[1].connected));
    talk(&mut peers);
    assert!(run(&mut peers, PATIENCE, heard_all));
    [ann, cleo]
}

#[test]
fn calls_on_each_runtime_replay_in_another_process_to_the_same_run() {
    for runtime in runtimes() {
        let folder = free(&format!("journal-{runtime}"));
        // Two recordings at once do not disturb each other.
        let capture = free("journalled.pcapng");
        std::fs::remove_file(&capture).ok();
        let capture = capture.to_str().expect("text");
        let server = start(&folder, &["--runtime", runtime, "--capture", capture]);
        echo(&server);
        let [mut ann, mut cleo] = room(&server);
        // What it writes is behind what happens, on a busy machine a while.
        assert!(run(&mut [&mut ann, &mut cleo], PATIENCE, |_| {
            let metrics = server.get("/metrics");
            total(&metrics, "antiphon_journal_written_bytes_total") > 10_000
        }));
        let metrics = server.get("/metrics");
        assert_eq!(total(&metrics, "antiphon_journal_records_lost_total"), 0);
        stop(server);

        let journals = journals_in(&folder);
        let [journal] = &journals[..] else {
            panic!("one a shard: {journals:?}");
        };
        let mode = |path: &Path| {
            let there = std::fs::metadata(path).expect("it is there");
            there.permissions().mode() & 0o777
        };
        assert_eq!((mode(&folder), mode(journal)), (0o700, 0o600));
        let played = assert_replays(journal);
        let number = |key: &str| played[key].as_u64().expect("a number");
        assert!(number("turns") > 20, "{played}");
        assert!(number("rtp") >= u64::from(4 * PACKETS), "{played}");
        assert!(number("rtcp") > 4 && number("stun") >= 4, "{played}");
        assert_eq!((number("connected"), number("closed")), (3, 3), "{played}");
    }
}

#[test]
fn each_shard_has_a_file_of_its_own_and_replays_alone() {
    let folder = free("journal-shards");
    let server = start(&folder, &["--shards", "2"]);
    echo(&server);
    // The second goes to the shard with fewer sessions, while the first is there.
    let peers = [(), ()].map(|()| Peer::join(&server, "/whip", &BOTH_WAYS));
    let [mut one, mut other] = peers;
    assert!(run(&mut [&mut one, &mut other], PATIENCE, |peers| {
        peers.iter().all(|peer| peer.connected)
    }));
    stop(server);
    let journals = journals_in(&folder);
    assert_eq!(journals.len(), 2, "{journals:?}");
    for journal in &journals {
        let played = play(journal, &[]);
        assert_eq!(played["difference"], serde_json::Value::Null, "{played}");
        assert!(played["connected"].as_u64() > Some(0), "{played}");
    }
}

#[test]
fn without_payloads_set_up_replays_and_media_does_not() {
    let folder = free("journal-headers");
    let server = start(&folder, &["--journal-payload", "headers"]);
    echo(&server);
    stop(server);
    let journals = journals_in(&folder);
    let played = play(&journals[0], &[]);
    assert_eq!(played["connected"], 1, "set-up replays: {played}");
    assert_eq!(played["rtp"], 0, "media does not: {played}");
}

#[test]
fn a_journal_ends_at_its_budget_and_replays_to_there() {
    let folder = free("journal-budget");
    let server = start(&folder, &["--journal-mib", "1"]);
    let [mut ann, mut cleo] = room(&server);
    let written = || {
        total(
            &server.get("/metrics"),
            "antiphon_journal_written_bytes_total",
        )
    };
    // Far more than a MiB, of which the last chunk does not fit.
    for _ in 0..100 {
        talk(&mut [&mut ann, &mut cleo]);
        if written() > 500_000 {
            break;
        }
    }
    for _ in 0..60 {
        talk(&mut [&mut ann, &mut cleo]);
    }
    let before = written();
    talk(&mut [&mut ann, &mut cleo]);
    assert_eq!(written(), before, "nothing more is written");
    stop(server);
    let journals = journals_in(&folder);
    let len = std::fs::metadata(&journals[0]).expect("it is there").len();
    assert!((500_000..=1 << 20).contains(&len), "{len}");
    let played = play(&journals[0], &[]);
    assert_eq!(played["difference"], serde_json::Value::Null, "{played}");
    assert_eq!(played["end"], "Some(BudgetSpent)", "{played}");
    assert!(played["rtp"].as_u64() > Some(100), "{played}");
}

/// What `antiphon replay` must find the cause of.
#[test]
fn a_planted_fault_ends_one_session_of_a_live_server_and_its_journal_faults_again() {
    let folder = free("journal-fault");
    let server = start(&folder, &["--plant-fault"]);
    let [mut ann, mut cleo] = room(&server);
    let mut peer = Peer::join(&server, "/whip", &BOTH_WAYS);
    let mut peers = [&mut peer, &mut ann, &mut cleo];
    assert!(run(&mut peers, PATIENCE, |peers| peers[0].connected));
    let faults = || total(&server.get("/metrics"), "antiphon_faults_total");
    peers[0].send(0, 0, &[7; FATAL_PAYLOAD_BYTES - 1]);
    run(&mut peers, PATIENCE / 50, |_| false);
    assert_eq!(faults(), 0);
    peers[0].send(0, 960, &[7; FATAL_PAYLOAD_BYTES]);
    assert!((0..50).any(|_| {
        run(&mut peers, PATIENCE / 250, |_| false);
        faults() == 1
    }));
    assert_eq!(
        total(&server.get("/metrics"), "antiphon_sessions_connected"),
        2
    );
    stop(server);

    let journal = journals_in(&folder).remove(0);
    let played = play(&journal, &[PLANT]);
    assert_eq!(played["faulted"], 1, "{played}");
    assert_eq!(played["difference"], serde_json::Value::Null, "{played}");
    // Without the bug it is another run.
    let played = play(&journal, &[]);
    assert_eq!(played["faulted"], 0, "{played}");
    assert_ne!(played["difference"], serde_json::Value::Null, "{played}");

    let least = folder.join("least.journal");
    let found = bisect(&journal, &least);
    let [fault, panic] = ["fault", "panic"].map(|key| found[key].as_str().expect("text"));
    assert!(panic.contains("a fault was planted"), "{panic}");
    assert_eq!(found["input"]["kind"], "RTP", "{found:#}");
    // Header, payload, and the tag of AES-GCM, or the extensions between them too.
    let bytes = found["input"]["bytes"].as_u64().expect("a number") as usize;
    assert!(bytes >= 12 + FATAL_PAYLOAD_BYTES + 16, "{found:#}");
    // It is the last of what is left, and enough.
    let played = play(&least, &[PLANT]);
    assert_eq!(played["faulted"], 1, "{played}");
    assert_eq!(played["difference"], serde_json::Value::Null, "{played}");
    assert_eq!(
        bisect(&least, &folder.join("again.journal"))["fault"],
        fault
    );
}

/// What `antiphon replay --bisect` finds in a journal of a server with the planted bug.
fn bisect(journal: &Path, least: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .args(["replay", "--bisect", "--json", "--out"])
        .args([least, journal])
        .env("ANTIPHON_PLANT_FAULT", "true")
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["found"].clone()
}

#[test]
fn a_ring_is_written_when_a_session_faults_and_when_asked_for() {
    let folder = free("journal-ring");
    let ring = ["--journal-keep", "ring", "--journal-mib", "1"];
    let server = start(&folder, &[&ring[..], &["--plant-fault"]].concat());
    let [mut ann, mut cleo] = room(&server);
    // About two rings full.
    for _ in 0..80 {
        talk(&mut [&mut ann, &mut cleo]);
    }
    let mut echo = Peer::join(&server, "/whip", &BOTH_WAYS);
    let mut peers = [&mut echo, &mut ann, &mut cleo];
    assert!(run(&mut peers, PATIENCE, |peers| peers[0].connected));
    assert!(journals_in(&folder).is_empty(), "nothing has happened");
    peers[0].send(0, 0, &[7; FATAL_PAYLOAD_BYTES]);
    let dumps = || total(&server.get("/metrics"), "antiphon_journal_dumps_total");
    let wait_for = |peers: &mut [&mut Peer], files: usize| {
        let there = (0..100).any(|_| {
            run(peers, PATIENCE / 250, |_| false);
            // Named first, written then: the last entry tells that all of it is there.
            let journals = journals_in(&folder);
            journals.len() == files && dumps() == files as u64 && is_ended(&journals[files - 1])
        });
        assert!(there, "{files} files");
    };
    wait_for(&mut peers, 1);
    // One that follows soon has no file of its own.
    let mut other = Peer::join(&server, "/whip", &BOTH_WAYS);
    let mut peers = [&mut other, &mut ann, &mut cleo];
    assert!(run(&mut peers, PATIENCE, |peers| peers[0].connected));
    peers[0].send(0, 0, &[7; FATAL_PAYLOAD_BYTES]);
    let faults = || total(&server.get("/metrics"), "antiphon_faults_total");
    assert!((0..50).any(|_| {
        run(&mut peers, PATIENCE / 250, |_| false);
        faults() == 2
    }));
    server.signal("USR1");
    wait_for(&mut peers, 2);
    stop(server);

    let journals = journals_in(&folder);
    for journal in &journals {
        let len = std::fs::metadata(journal).expect("it is there").len();
        assert!((700_000..1_200_000).contains(&len), "{len}");
    }
    let fault = play(&journals[0], &[PLANT]);
    assert_eq!(
        (&fault["end"], &fault["faulted"]),
        (&"Some(Fault)".into(), &1.into())
    );
    let asked = play(&journals[1], &[PLANT]);
    assert_eq!(
        (&asked["end"], &asked["faulted"]),
        (&"Some(Asked)".into(), &2.into())
    );
    for (played, echoes) in [(fault, 1), (asked, 2)] {
        assert_eq!(played["difference"], serde_json::Value::Null, "{played}");
        // Echoes are known from their opening, the room from later on: its packets open and go out.
        assert_eq!(
            (&played["complete"], &played["incomplete"]),
            (&echoes.into(), &2.into())
        );
        let number = |key: &str| played[key].as_u64().expect("a number");
        assert!(number("received") > 2_000, "{played}");
        assert!(number("rtp") > 2_000, "{played}");
    }
}

/// Whether a journal is all there.
fn is_ended(path: &Path) -> bool {
    let journal = std::fs::read(path).expect("it is there");
    let Ok((_, reader)) = Reader::new(&journal) else {
        return false;
    };
    matches!(reader.last(), Some(Ok(Record::End(_))))
}

#[test]
fn a_folder_that_cannot_be_made_is_named_and_a_failed_start_leaves_no_file() {
    let start = |folder: &Path, port: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(["serve", "--http", "127.0.0.1:0", "--media-ip", "127.0.0.1"])
            .args(["--media-port", port, "--journal"])
            .arg(folder)
            .output()
            .expect("the program runs");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let nowhere = free("no-such-folder").join("inner");
    let error = start(&nowhere, "0");
    assert!(
        error.contains("no-such-folder") && error.contains("journal"),
        "{error}"
    );
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback works");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let folder = free("journal-none");
    let error = start(&folder, &port);
    assert!(error.contains("media_port"), "{error}");
    assert!(journals_in(&folder).is_empty());
}

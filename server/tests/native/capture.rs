//! `--capture`: what a server recorded of a call replays to the packets that were sent, and opens.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::peer::{Peer, run};
use crate::server::Server;
use crate::{BOTH_WAYS, PACKETS, PATIENCE, heard_all, runtimes, talk};

/// A path of the test folder where no file is.
fn free(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It may be left from a run before.
    std::fs::remove_file(&path).ok();
    path
}

fn replay(path: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .args(["replay", "--json"])
        .arg(path)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// An echo call of [`PACKETS`] sounds and pictures, recorded to its end.
fn recorded_call(path: &Path, extra: &[&str]) {
    let path = path.to_str().expect("text");
    let mut server = Server::start(&[&["--capture", path], extra].concat());
    let mut peer = Peer::join(&server, "/whip", &BOTH_WAYS);
    let mut peers = [&mut peer];
    assert!(run(&mut peers, PATIENCE, |peers| peers[0].connected));
    talk(&mut peers);
    assert!(run(&mut peers, PATIENCE, heard_all));
    assert_eq!(server.delete(&peer.resource), 200);
    assert!(run(&mut [&mut peer], PATIENCE, |peers| peers[0].closed));
    server.signal("TERM");
    assert_eq!(server.exit_code(PATIENCE), Some(0));
}

#[test]
fn a_recorded_call_replays_to_the_packets_sent_and_opens_completely() {
    for runtime in runtimes() {
        let path = free(&format!("call-{runtime}.pcapng"));
        recorded_call(&path, &["--capture-keys", "--runtime", runtime]);
        let mode = std::fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);

        let report = replay(&path);
        let (totals, srtp) = (&report["totals"], &report["totals"]["srtp"]);
        let sent = u64::from(PACKETS);
        let streams = report["streams"].as_array().expect("a list");
        assert_eq!(
            streams.len(),
            4,
            "sound and picture, there and back: {report}"
        );
        for stream in streams {
            for figure in ["packets", "unique", "decrypted"] {
                assert_eq!(stream[figure], sent, "{stream}");
            }
            assert_eq!(
                (&stream["lost"], &stream["missing"]),
                (&0.into(), &0.into())
            );
        }
        assert_eq!(srtp["rtp_opened"], 4 * sent, "{srtp}");
        assert_eq!(srtp["rtcp_opened"], totals["rtcp"], "{srtp}");
        assert!(totals["rtcp"].as_u64() > Some(0), "{totals}");
        for figure in [
            "refused",
            "unkeyed",
            "replayed",
            "truncated",
            "secrets_missing",
        ] {
            assert_eq!(srtp[figure], 0, "{figure}: {srtp}");
        }
        assert_eq!((&srtp["handshakes"], &srtp["keys"]), (&1.into(), &2.into()));
        assert_eq!(totals["capture_dropped"], 0);
        assert!(
            totals["stun"].as_u64() >= Some(2),
            "a check and its answer: {totals}"
        );
    }
}

#[test]
fn a_capture_without_keys_counts_the_same_and_opens_nothing() {
    let path = free("sealed.pcapng");
    recorded_call(&path, &[]);
    let bytes = std::fs::read(&path).expect("it is there");
    let log = b"CLIENT_RANDOM";
    assert!(
        !bytes.windows(log.len()).any(|window| window == log),
        "no secret"
    );
    let report = replay(&path);
    assert_eq!(report["totals"]["decrypted"], 0);
    assert_eq!(report["totals"]["srtp"]["secrets_missing"], 1);
    for stream in report["streams"].as_array().expect("a list") {
        assert_eq!(stream["packets"], PACKETS);
    }
}

#[test]
fn a_file_that_is_there_is_never_written_over_and_a_failed_start_leaves_none() {
    let path = free("kept.pcapng");
    std::fs::write(&path, "precious").expect("the test folder can be written");
    let start = |path: &Path, extra: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(["serve", "--http", "127.0.0.1:0", "--media-ip", "127.0.0.1"])
            .arg("--capture")
            .arg(path)
            .args(extra)
            .output()
            .expect("the program runs");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let error = start(&path, &["--media-port", "0"]);
    assert!(
        error.contains("kept.pcapng") && error.contains("new file"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");

    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback works");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let path = free("none.pcapng");
    let error = start(&path, &["--media-port", &port]);
    assert!(error.contains("media_port"), "{error}");
    assert!(!path.exists(), "nothing is in the way of the next start");
}

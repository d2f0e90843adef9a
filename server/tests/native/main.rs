//! The real program over real sockets, called by str0m: an independent implementation of everything
//! between the offer and the last packet.

#[path = "../support/again.rs"]
mod again;
mod capture;
mod journal;
mod peer;
mod relay;
mod server;
mod turns;

use std::time::Duration;

use serde_json::Value;
use str0m::media::{Direction, MediaKind};

use peer::{Peer, run};
use server::Server;

/// Nothing here takes this long, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(5);
const PACKETS: u32 = 50;
const BOTH_WAYS: [(MediaKind, Direction); 2] = [
    (MediaKind::Audio, Direction::SendRecv),
    (MediaKind::Video, Direction::SendRecv),
];
const TO_SERVER: [(MediaKind, Direction); 2] = [
    (MediaKind::Audio, Direction::SendOnly),
    (MediaKind::Video, Direction::SendOnly),
];
const FROM_SERVER: [(MediaKind, Direction); 2] = [
    (MediaKind::Audio, Direction::RecvOnly),
    (MediaKind::Video, Direction::RecvOnly),
];

/// Those that work on this machine.
fn runtimes() -> impl Iterator<Item = &'static str> {
    let glommio = antiphon_runtime_glommio::probe();
    if let Err(why) = &glommio {
        eprintln!("SKIPPED on glommio: {why}");
    }
    let glommio = glommio.is_ok().then_some("glommio");
    ["tokio", "smol"].into_iter().chain(glommio)
}

/// Audio: the number and a filler.
fn sound(number: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0x55; 76]].concat()
}

/// VP8: a descriptor with a picture id, the header of a frame (the first is a keyframe), a filler.
fn picture(number: u32) -> Vec<u8> {
    let mut payload = vec![0x90, 0x80, 0x80, number as u8, u8::from(number > 0)];
    payload.resize(300, number as u8);
    payload
}

/// Sends `PACKETS` of each kind, and meanwhile drives all `peers`, of whom the first sends.
fn talk(peers: &mut [&mut Peer]) {
    for number in 0..PACKETS {
        peers[0].send(0, number * 960, &sound(number));
        peers[0].send(1, number * 3_000, &picture(number));
        let pace = Duration::from_millis(2);
        run(peers, pace, |_| false);
    }
}

/// What a peer got of each section. Of a picture the frame alone: its id is the server's to choose.
fn assert_heard_everything(peer: &Peer) {
    let expected: Vec<_> = (0..PACKETS).map(sound).collect();
    assert_eq!(peer.payloads(0), expected, "audio");
    let frames: Vec<_> = peer.payloads(1).iter().map(|p| p[4..].to_vec()).collect();
    let expected: Vec<_> = (0..PACKETS).map(|n| picture(n)[4..].to_vec()).collect();
    assert_eq!(frames, expected, "video");
}

fn heard_all(peers: &[&mut Peer]) -> bool {
    let packets = PACKETS as usize;
    let heard = |peer: &&mut Peer| (0..2).all(|section| peer.payloads(section).len() >= packets);
    peers.last().is_some_and(heard)
}

/// The sum of a figure over a session's tracks of one direction.
fn sum(stats: &Value, direction: &str, figure: &str) -> u64 {
    let tracks = stats["tracks"].as_array().expect("a list").iter();
    let tracks = tracks.filter(|track| track["direction"] == direction);
    tracks.filter_map(|track| track[figure].as_u64()).sum()
}

/// The sum of a metric over its labels.
fn total(metrics: &str, name: &str) -> u64 {
    let named = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let lines = metrics.lines().filter(named);
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// A subscriber of ann. The server may not have seen yet that she is there; a player tries again.
fn follow(server: &Server, ann: &mut Peer) -> Peer {
    let mut tries = (0..50).map(|_| {
        run(&mut [&mut *ann], Duration::from_millis(20), |_| false);
        Peer::try_join(server, "/whep/hall/ann", &FROM_SERVER)
    });
    let last = tries.find(Result::is_ok);
    last.and_then(Result::ok).expect("ann is seen in a second")
}

#[test]
fn an_echo_returns_every_packet_and_the_figures_agree_with_what_was_sent() {
    for runtime in runtimes() {
        let server = Server::start(&["--runtime", runtime]);
        let mut peer = Peer::join(&server, "/whip", &BOTH_WAYS);
        let mut peers = [&mut peer];
        assert!(
            run(&mut peers, PATIENCE, |peers| peers[0].connected),
            "{runtime}"
        );
        talk(&mut peers);
        assert!(run(&mut peers, PATIENCE, heard_all), "{runtime}");
        assert_heard_everything(&peer);

        let sent = u64::from(2 * PACKETS);
        let stats = server.json(&format!("/api/sessions/{}/stats", peer.secret()));
        assert_eq!(stats["connected"], true);
        assert_eq!(stats["packets_received"], sent, "{stats}");
        assert_eq!(stats["packets_sent"], sent, "{stats}");
        assert_eq!(sum(&stats, "inbound", "packets"), sent, "{stats}");
        assert_eq!(sum(&stats, "outbound", "packets"), sent, "{stats}");
        assert_eq!(sum(&stats, "inbound", "lost"), 0, "{stats}");
        let metrics = server.get("/metrics");
        assert_eq!(total(&metrics, "antiphon_rtp_received_total"), sent);
        assert_eq!(total(&metrics, "antiphon_rtp_sent_total"), sent);
        assert_eq!(
            total(&metrics, "antiphon_forward_delay_seconds_count"),
            sent
        );
        assert_eq!(total(&metrics, "antiphon_sessions_connected"), 1);
        assert_eq!(total(&metrics, "antiphon_faults_total"), 0);

        assert_eq!(server.delete(&peer.resource), 200);
        assert!(
            run(&mut [&mut peer], PATIENCE, |peers| peers[0].closed),
            "{runtime}"
        );
        assert_eq!(
            server.json("/api/sessions")["sessions"],
            Value::Array(vec![])
        );
        assert_eq!(total(&server.get("/metrics"), "antiphon_sessions"), 0);
        assert_eq!(server.delete(&peer.resource), 404);
    }
}

#[test]
fn a_room_carries_a_publisher_to_a_subscriber_and_is_gone_after_them() {
    for runtime in runtimes() {
        let server = Server::start(&["--runtime", runtime]);
        let mut ann = Peer::join(&server, "/whip/hall?name=ann", &TO_SERVER);
        assert!(
            run(&mut [&mut ann], PATIENCE, |peers| peers[0].connected),
            "{runtime}"
        );
        let mut bob = follow(&server, &mut ann);
        let mut peers = [&mut ann, &mut bob];
        assert!(
            run(&mut peers, PATIENCE, |peers| peers[1].connected),
            "{runtime}"
        );
        talk(&mut peers);
        assert!(run(&mut peers, PATIENCE, heard_all), "{runtime}");
        assert_heard_everything(&bob);

        let rooms = server.json("/api/rooms");
        let participant = &rooms["rooms"][0]["participants"][0];
        assert_eq!(participant["name"], "ann", "{rooms}");
        let codecs = participant["tracks"].as_array().expect("a list").iter();
        let codecs: Vec<_> = codecs.filter_map(|track| track["codec"].as_str()).collect();
        assert_eq!(codecs.len(), 2, "{rooms}");
        let stats = server.json(&format!("/api/sessions/{}/stats", bob.secret()));
        assert_eq!(stats["packets_sent"], 2 * PACKETS, "{stats}");

        assert_eq!(server.delete(&ann.resource), 200);
        assert_eq!(server.delete(&bob.resource), 200);
        let closed = |peers: &[&mut Peer]| peers.iter().all(|peer| peer.closed);
        assert!(
            run(&mut [&mut ann, &mut bob], PATIENCE, closed),
            "{runtime}"
        );
        // The peers may have heard of it before the server's own thread has.
        let is_gone = || server.json("/api/rooms")["rooms"] == Value::Array(vec![]);
        assert!(
            (0..50).any(|_| is_gone()),
            "{runtime}: the room is still there"
        );
    }
}

#[test]
fn at_its_start_it_says_what_a_client_will_see() {
    let server = Server::start(&[
        "--runtime",
        "smol",
        "--announce",
        "192.0.2.1",
        "2001:db8::1",
    ]);
    let info = server.json("/info");
    let candidates = info["shards"][0]["candidates"].as_array().expect("a list");
    let candidates: Vec<_> = candidates.iter().filter_map(Value::as_str).collect();
    assert_eq!(candidates.len(), 2, "{info}");
    let lines = [
        ("Antiphon ", vec!["at http://127.0.0.1:"]),
        ("  tokens ", vec!["everybody may do everything"]),
        ("  runtime ", vec!["smol, because it was asked for"]),
        ("  media UDP ", candidates),
        ("  receive buffer ", vec![" KiB of 4096 KiB wanted"]),
    ];
    assert_eq!(server.banner.len(), lines.len(), "{:?}", server.banner);
    for (line, (start, words)) in server.banner.iter().zip(lines) {
        assert!(line.starts_with(start), "{line}");
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

/// Who asks all servers of a machine for their journals ends none that has no journal; a limit on the size of
/// files ends none that writes one.
#[test]
fn neither_a_request_for_a_journal_nor_a_limit_of_files_ends_it() {
    let mut server = Server::start(&[]);
    for signal in ["USR1", "XFSZ"] {
        server.signal(signal);
        assert!(server.json("/info").is_object(), "{signal}");
    }
    server.signal("TERM");
    assert_eq!(server.exit_code(PATIENCE), Some(0));
}

#[test]
fn a_stop_during_a_call_tells_the_peer_and_ends_with_success() {
    // Each signal at least once, each runtime too.
    let signals = ["TERM", "INT", "HUP"].into_iter().cycle();
    for (runtime, signal) in runtimes().chain(["tokio"]).zip(signals) {
        let mut server = Server::start(&["--runtime", runtime]);
        let mut peer = Peer::join(&server, "/whip", &BOTH_WAYS);
        assert!(
            run(&mut [&mut peer], PATIENCE, |peers| peers[0].connected),
            "{runtime}"
        );
        server.signal(signal);
        assert!(
            run(&mut [&mut peer], PATIENCE, |peers| peers[0].closed),
            "{runtime} {signal}"
        );
        assert!(peer.goodbye, "{runtime} {signal}: BYE came before the end");
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{runtime} {signal}");
    }
}

#[test]
fn a_hang_up_that_is_to_be_ignored_is() {
    const HANG_UP: u32 = 1;
    assert!(Server::start(&[]).handles(HANG_UP));
    let mut server = Server::start_without_hang_up();
    assert!(!server.handles(HANG_UP));
    server.signal("HUP");
    assert_eq!(server.json("/health")["status"], "ok");
    server.signal("TERM");
    assert_eq!(server.exit_code(PATIENCE), Some(0));
}

/// A soft limit is ours to raise. Under a hard one it may be (root), and otherwise one sentence says what to do.
#[test]
fn glommio_raises_the_limit_of_locked_memory_or_says_how_low_it_is() {
    if !runtimes().any(|runtime| runtime == "glommio") {
        return;
    }
    let server = Server::start_after("ulimit -S -l 64", &["--runtime", "glommio"]);
    assert_eq!(server.json("/info")["runtime"], "glommio");
    let server = Server::start_after("ulimit -l 64", &["--runtime", "auto"]);
    let runtime = server.json("/info")["runtime"].clone();
    assert!(runtime == "glommio" || runtime == "tokio", "{runtime}");
    let refused = runtime == "tokio";
    drop(server);
    if refused {
        let said = server::refusal("ulimit -l 64", &["--runtime", "glommio"]);
        assert!(said.contains("locked memory is 64 KiB"), "{said}");
        assert!(
            said.contains("ulimit -l 512") && said.contains("runtime = auto"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

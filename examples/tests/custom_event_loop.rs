//! The event loop of one's own answers an offer, echoes sound, and ends with the call.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use antiphon_core::time::Timestamp;
use antiphon_examples::caller::{Heard, Offered, Stamp};
use antiphon_examples::dtls::Credentials;
use antiphon_udp::Clock;

/// Of the whole call: far more than it takes.
const LIMIT: Duration = Duration::from_secs(30);
const FRAME: Duration = Duration::from_millis(20);
const PACKETS_WANTED: u32 = 20;

#[test]
fn a_call_through_an_event_loop_of_ones_own_echoes_and_ends() {
    let clock = Clock::start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has ports");
    socket
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("a socket can wait");
    let address = socket.local_addr().expect("it is bound");
    let credentials = Credentials::generate().expect("the library makes a certificate");
    let instant = |at: Timestamp| clock.epoch().instant(at);
    let offered = Offered::new(&credentials, address, instant(clock.now())).expect("an offer");

    let mut child = Command::new(env!("CARGO_BIN_EXE_custom_event_loop"))
        .arg("127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example was built");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all(offered.sdp.as_bytes())
        .expect("it reads the offer");
    drop(stdin);
    let answer = read_answer(child.stdout.take().expect("it is piped"));
    let mut caller = offered
        .answered(&answer, instant(clock.now()))
        .expect("str0m takes the answer");

    let (mut connected, mut heard, mut sent) = (false, 0, 0);
    let mut next = clock.now();
    let mut buffer = [0; 2_000];
    while heard < PACKETS_WANTED {
        let now = clock.now();
        assert!(
            now.since(Timestamp::ZERO) < LIMIT,
            "{heard} packets came back"
        );
        if let Ok((len, source)) = socket.recv_from(&mut buffer) {
            assert!(caller.receive(instant(now), source, &buffer[..len]));
        }
        if connected && next <= now {
            let stamp = Stamp {
                call: 1,
                packet: sent,
                sent_nanos: now.as_nanos(),
            };
            assert!(caller.send(instant(now), stamp.write(80)));
            (sent, next) = (sent + 1, now + FRAME);
        }
        assert!(caller.tick(instant(now)));
        let mut send = |to, contents: &[u8]| drop(socket.send_to(contents, to));
        while let Some(what) = caller.poll(&mut send) {
            match what {
                Heard::Connected => connected = true,
                Heard::Stamped(_) => heard += 1,
                Heard::Foreign | Heard::Closed => panic!("{what:?} in the middle of a call"),
            }
        }
    }
    caller.hang_up();
    while caller
        .poll(&mut |to, contents| drop(socket.send_to(contents, to)))
        .is_some()
    {}
    let (done, ended) = mpsc::channel();
    let id = child.id();
    thread::spawn(move || drop(done.send(child.wait())));
    let status = ended.recv_timeout(LIMIT);
    let status = status.unwrap_or_else(|_| panic!("process {id} goes on after the call"));
    assert!(status.expect("it ends").success());
}

/// The answer ends where the program falls silent: it has as many media sections as the offer, one, and a line that
/// every one of ours ends with.
fn read_answer(stdout: impl std::io::Read) -> String {
    let mut answer = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("it prints text");
        let last = line == "a=end-of-candidates";
        answer.push_str(&line);
        answer.push_str("\r\n");
        if last {
            return answer;
        }
    }
    panic!("no whole answer: {answer}");
}

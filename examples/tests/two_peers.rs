//! The embedding example does what it says.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn frames_cross_an_event_loop_of_ones_own() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_two_peers"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example was built");
    let mut stdout = child.stdout.take().expect("it is piped");
    let (done, finished) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("it prints text");
        // Nobody listens after the time-out below.
        drop(done.send(text));
    });
    let text = finished.recv_timeout(Duration::from_secs(30));
    if text.is_err() {
        child.kill().expect("it still runs");
    }
    let status = child.wait().expect("it ends");
    reader.join().expect("the reader ends with it");
    let text = text.expect("three seconds are over");
    assert!(status.success(), "{text}");
    assert!(text.contains("2 sessions connected"), "{text}");
    assert!(text.contains("TrackAdded"), "{text}");
}

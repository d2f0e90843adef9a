//! The replay example reads a capture written by the same library.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use antiphon_core::replay::pcapng;

#[test]
fn a_capture_of_our_own_is_counted() {
    let mut file = Vec::new();
    pcapng::section_header(&mut file, "a test");
    pcapng::interface(&mut file, "lo");
    // Number 2 is lost, of five packets of Opus.
    for number in [0_u8, 1, 3, 4] {
        let timestamp = (u32::from(number) * 960).to_be_bytes();
        let mut payload = vec![0x80, 111, 0, number];
        payload.extend_from_slice(&timestamp);
        payload.extend_from_slice(&[0, 0, 0, 9, 0xfc, 0xff, 0xfe]);
        let packet = pcapng::Packet {
            interface: 0,
            unix: Duration::from_millis(u64::from(number) * 20),
            source: "192.0.2.1:5004".parse().expect("an address"),
            destination: "192.0.2.2:5004".parse().expect("an address"),
            ecn: None,
            outbound: false,
            dropped_before: 0,
            payload: &payload,
        };
        pcapng::packet(&mut file, &packet);
    }
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("example.pcapng");
    fs::write(&path, &file).expect("the test folder can be written");

    let run = |path: &PathBuf| {
        let output = Command::new(env!("CARGO_BIN_EXE_replay_pcap"))
            .arg(path)
            .output()
            .expect("the example was built");
        let text = String::from_utf8(output.stdout).expect("it prints text");
        (text, output.status.success())
    };
    let (text, ended_well) = run(&path);
    let stream = "00000009 from 192.0.2.1:5004: 4 packets, 1 missing, 0 late, jitter Some(0.0)";
    assert!(ended_well && text.contains(stream), "{text}");
    assert!(
        text.contains("4 frames, 1 RTP streams, 0 SRTP packets opened"),
        "{text}"
    );

    fs::write(&path, &file[..file.len() - 1]).expect("the test folder can be written");
    let (text, ended_well) = run(&path);
    assert!(!ended_well && text.contains("3 packets"), "{text}");
}

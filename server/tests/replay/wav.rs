//! The sound of captures, in files that anybody plays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use antiphon_core::replay::pcapng;
use serde_json::Value;

use super::journal::{text, write};
use super::{antiphon, report, vectors};

/// A folder that is not there.
pub(super) fn free(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_dir_all(&folder).ok();
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("it was made");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

/// Samples a second, and samples, of a file whose header is right.
fn wav(path: &Path) -> (u32, Vec<i16>) {
    let bytes = std::fs::read(path).expect("it is there");
    let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("it is there"));
    assert_eq!(
        (&bytes[..4], &bytes[8..16]),
        (&b"RIFF"[..], &b"WAVEfmt "[..])
    );
    assert_eq!(number(4) as usize, bytes.len() - 8);
    // PCM, one channel, 16 bits.
    assert_eq!(
        (&bytes[20..24], &bytes[32..40]),
        (&[1, 0, 1, 0][..], &b"\x02\0\x10\0data"[..])
    );
    assert_eq!(number(40) as usize, bytes.len() - 44);
    assert_eq!(number(28), 2 * number(24));
    let samples = bytes[44..].chunks(2);
    let samples = samples.map(|two| i16::from_le_bytes([two[0], two[1]]));
    (number(24), samples.collect())
}

/// Root mean square.
fn level(samples: &[i16]) -> f64 {
    let squares: f64 = samples.iter().map(|it| f64::from(*it).powi(2)).sum();
    (squares / samples.len().max(1) as f64).sqrt()
}

/// Packets of payload type 0 and one source: each when it came in milliseconds, its number, and its payload.
pub(super) fn capture(packets: &[(u64, u16, Vec<u8>)], ip: &str) -> Vec<u8> {
    let mut file = Vec::new();
    pcapng::section_header(&mut file, "a test");
    pcapng::interface(&mut file, "lo");
    for (millis, number, payload) in packets {
        let mut packet = vec![0x80, 0];
        packet.extend_from_slice(&number.to_be_bytes());
        packet.extend_from_slice(&(u32::from(*number) * 160).to_be_bytes());
        packet.extend_from_slice(&[0xab, 0xcd, 0, 1]);
        packet.extend_from_slice(payload);
        let packet = pcapng::Packet {
            interface: 0,
            unix: Duration::from_millis(*millis),
            source: format!("{ip}:5004").parse().expect("an address"),
            destination: format!("{ip}:5006").parse().expect("an address"),
            ecn: None,
            outbound: false,
            dropped_before: 0,
            payload: &packet,
        };
        pcapng::packet(&mut file, &packet);
    }
    file
}

/// 20 ms of a square wave of 400 Hz, as µ-law.
fn tone() -> Vec<u8> {
    let half = |at: usize| {
        if (at / 10).is_multiple_of(2) {
            0x90
        } else {
            0x10
        }
    };
    (0..160).map(half).collect()
}

fn played(capture: &Path, arguments: &[&str], folder: &Path) -> Value {
    let (report, ended_well) = report(capture, &[arguments, &["--wav", text(folder)]].concat());
    assert!(ended_well, "{report:#}");
    report
}

/// Every packet came to exactly one thing.
fn assert_adds_up(playout: &Value) {
    let figure = |name: &str| playout["stats"][name].as_u64().expect("a number");
    let parts = ["played", "late", "duplicated", "overflowed", "refused"];
    let sum: u64 = parts
        .iter()
        .map(|part| figure(&format!("packets_{part}")))
        .sum();
    assert_eq!(figure("packets_received"), sum, "{playout:#}");
}

#[test]
fn a_stream_is_heard_for_as_long_as_it_lasts_and_no_file_is_written_over() {
    let packets: Vec<_> = (0..100)
        .map(|at| (20 * u64::from(at), at, tone()))
        .collect();
    for ip in ["192.0.2.1", "[2001:db8::1]"] {
        let path = write("tone.pcapng", &capture(&packets, ip));
        let folder = free("tone-wav");
        let report = played(&path, &[], &folder);
        let playout = &report["streams"][0]["playout"];
        assert_adds_up(playout);
        assert_eq!(
            (&playout["codec"], &playout["rate"]),
            (&"PCMU".into(), &8_000.into())
        );
        assert_eq!(playout["stats"]["packets_played"], 100);
        assert_eq!(playout["stats"]["concealed_samples"], 0, "{playout:#}");
        let [file] = &files(&folder)[..] else {
            panic!("one stream: {:?}", files(&folder));
        };
        assert_eq!(playout["file"], text(file));
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(
            name.starts_with("abcd0001_") && name.ends_with("_5006.wav"),
            "{name}"
        );
        assert!(!name.contains(':'), "{name}");
        let (rate, samples) = wav(file);
        let seconds = samples.len() as f64 / f64::from(rate);
        assert_eq!(playout["seconds"].as_f64(), Some(seconds));
        assert!(
            (2.0..2.2).contains(&seconds),
            "{seconds} s, with the delay before them"
        );
        assert!(level(&samples[samples.len() / 4..]) > 5_000.0);
        let output = antiphon(&[text(&path), "--wav", text(&folder)]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2));
        assert!(
            error.contains(text(file)) && error.contains("new file"),
            "{error}"
        );
        assert_eq!(files(&folder).len(), 1);
    }
    let path = write("tone.pcapng", &capture(&packets, "192.0.2.1"));
    let output = antiphon(&[text(&path), "--wav", text(&free("tone-table"))]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("made up ms") && table.contains("PCMU"),
        "{table}"
    );
}

#[test]
fn payloads_that_are_none_are_refused_and_heard_as_silence() {
    let lengths = [0, 1, 3, 7, 1_400, 33, 160];
    let packets: Vec<_> = (0..700_u16)
        .map(|at| {
            let len = lengths[usize::from(at) % lengths.len()];
            let noise = (0..len).map(|byte| (byte * 31 + usize::from(at) * 17) as u8);
            (20 * u64::from(at), at, noise.collect())
        })
        .collect();
    let path = write("noise.pcapng", &capture(&packets, "192.0.2.1"));
    for (map, refused) in [
        ("0=opus/48000", 100),
        ("0=PCMA/8000", 100),
        ("0=pcmu/1", 100),
    ] {
        let folder = free("noise-wav");
        let report = played(&path, &["--map", map], &folder);
        let playout = &report["streams"][0]["playout"];
        assert_adds_up(playout);
        let none = playout["stats"]["packets_refused"].as_u64();
        assert!(none >= Some(refused), "{map}: {playout:#}");
        assert_eq!(files(&folder).len(), 1);
    }
    let folder = free("video-wav");
    let report = played(&path, &["--map", "0=VP8/90000"], &folder);
    assert_eq!(report["streams"][0]["playout"], Value::Null);
    assert!(files(&folder).is_empty());
}

/// Else a wrong stamp would be a file of years.
#[test]
fn a_pause_of_hours_is_cut_to_a_minute() {
    let day = 24 * 3_600 * 1_000;
    let packets: Vec<_> = [0, 20, day, day + 20]
        .into_iter()
        .zip(0..)
        .map(|(millis, number)| (millis, number, tone()))
        .collect();
    let path = write("pause.pcapng", &capture(&packets, "192.0.2.1"));
    let report = played(&path, &[], &free("pause-wav"));
    let playout = &report["streams"][0]["playout"];
    let seconds = playout["seconds"].as_f64().expect("a number");
    assert!((60.0..61.0).contains(&seconds), "{playout:#}");
    let skipped = playout["skipped_seconds"].as_f64().expect("a number");
    assert!((skipped + seconds - 86_400.0).abs() < 1.0, "{playout:#}");
}

#[test]
fn what_comes_at_no_time_or_is_no_capture_is_refused() {
    let path = write("refused.pcapng", &capture(&[(0, 0, tone())], "192.0.2.1"));
    let folder = free("refused-wav");
    let output = antiphon(&[text(&path), "--wav", text(&folder), "--pace", "asap"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("--pace asap"), "{error}");
    assert!(!folder.exists());
    // One packet alone is no stream.
    played(&path, &[], &folder);
    assert!(files(&folder).is_empty());
    let output = antiphon(&[text(&path), "--wav", text(&folder.join("a/b"))]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("a/b: ") && output.status.code() == Some(2),
        "{error}"
    );
}

/// Captures of others: name, how it is read, streams of sound, samples a second, seconds at least and at most.
#[test]
fn captures_of_others_are_heard() {
    let Some(vectors) = vectors() else { return };
    let made = vectors.join("captures-made");
    let keys = made.join("srtp-keys.json");
    let map = ["--map", "111=opus/48000"];
    let keyed = ["--map", "111=opus/48000", "--keys", text(&keys)];
    let cases: [(PathBuf, &[&str], u32, std::ops::Range<f64>); 4] = [
        (vectors.join("captures/g711a.pcap"), &[], 8_000, 7.0..7.4),
        (
            made.join("opus-inbandfec-rtcp.pcap"),
            &map,
            48_000,
            4.9..5.3,
        ),
        (
            made.join("opus-loss-dup-reorder.pcap"),
            &map,
            48_000,
            7.9..8.4,
        ),
        (
            made.join("srtp-opus-gcm256-wrap.pcap"),
            &keyed,
            48_000,
            2.9..3.3,
        ),
    ];
    for (path, arguments, hz, expected) in cases {
        let folder = free("others-wav");
        let report = played(&path, arguments, &folder);
        let playout = &report["streams"][0]["playout"];
        assert_adds_up(playout);
        let [file] = &files(&folder)[..] else {
            panic!("{}: {:?}", path.display(), files(&folder));
        };
        let (rate, samples) = wav(file);
        let seconds = samples.len() as f64 / f64::from(rate);
        assert_eq!(rate, hz);
        assert!(
            expected.contains(&seconds),
            "{}: {seconds} s",
            path.display()
        );
        assert!(
            level(&samples) > 100.0,
            "{}: {}",
            path.display(),
            level(&samples)
        );
        let missing = report["streams"][0]["missing"].as_u64();
        let made_up = playout["stats"]["concealed_samples"].as_u64();
        let copies = playout["stats"]["fec_packets_received"].as_u64();
        assert!(
            missing == Some(0) || made_up > Some(0) || copies > Some(0),
            "{playout:#}"
        );
    }
    // Sealed, and no key: nothing of it is sound.
    let folder = free("sealed-wav");
    played(
        &made.join("webrtc-gcm128.pcap"),
        &["--map", "97=opus/48000", "--map", "96=opus/48000"],
        &folder,
    );
    assert!(files(&folder).is_empty());
}

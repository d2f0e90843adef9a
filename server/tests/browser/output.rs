//! Files of a test run, kept or not, and the lock that lets one browser run at a time.

use std::f64::consts::TAU;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Frequency of the fake microphone.
pub(crate) const TONE_HZ: f64 = 440.0;
/// Amplitude of the fake microphone, of full scale.
pub(crate) const TONE_AMPLITUDE: f64 = 0.25;

const TONE_RATE: u32 = 48_000;
/// Chromium repeats the file. 440 periods fit a second, so the seam is not heard.
const TONE_SECONDS: u32 = 2;

/// Where screenshots and logs are kept: `target/test-output`.
pub(crate) fn test_output() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-output");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// A new folder for this process.
pub(crate) fn scratch_dir(purpose: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{purpose}-{}-{count}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// Two browsers at once would starve each other on a small machine, and what is measured here is
/// time. Holds across processes, because some runners give each test its own.
pub(crate) fn take_turn() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser.lock");
    let file = File::create(path).expect("the target folder can be written");
    file.lock().expect("files can be locked");
    file
}

/// Writes the tone of the fake microphone as a WAV file.
pub(crate) fn write_tone() -> PathBuf {
    let tone = |index: u32| {
        let phase = TAU * TONE_HZ * f64::from(index) / f64::from(TONE_RATE);
        (phase.sin() * TONE_AMPLITUDE * f64::from(i16::MAX)).round() as i16
    };
    let samples: Vec<_> = (0..TONE_RATE * TONE_SECONDS).map(tone).collect();
    write_wav("tone", TONE_RATE, &samples)
}

/// Writes a person who says `words` and is silent for a while, again and again. `None` without espeak-ng, after
/// saying so; where `CI` is set that is a failure instead.
pub(crate) fn write_speech(name: &str, words: &str, silence: Duration) -> Option<PathBuf> {
    let path = scratch_dir("speech").join("words.wav");
    let spoken = Command::new("espeak-ng")
        .args(["-v", "en-us", "-s", "150", "-w"])
        .arg(&path)
        .arg(words)
        .status();
    if !spoken.is_ok_and(|status| status.success()) {
        let lacks = "install the Debian package espeak-ng";
        assert!(std::env::var_os("CI").is_none(), "{lacks}");
        eprintln!("SKIPPED: {lacks}");
        return None;
    }
    let wav = fs::read(path).expect("espeak-ng wrote it");
    // A plain header of 44 bytes, the rate at its place in it.
    let rate = u32::from_le_bytes(wav[24..28].try_into().expect("four bytes"));
    let samples = wav[44..].chunks_exact(2);
    let mut samples: Vec<_> = samples
        .map(|it| i16::from_le_bytes([it[0], it[1]]))
        .collect();
    let silent = silence.as_millis() as usize * rate as usize / 1_000;
    samples.resize(samples.len() + silent, 0);
    Some(write_wav(name, rate, &samples))
}

fn write_wav(name: &str, rate: u32, samples: &[i16]) -> PathBuf {
    let bytes = samples.len() as u32 * 2;
    let mut wav = Vec::with_capacity(44 + bytes as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + bytes).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16u32.to_le_bytes());
    // PCM, one channel, 16 bits.
    wav.extend_from_slice(&[1, 0, 1, 0]);
    wav.extend_from_slice(&rate.to_le_bytes());
    wav.extend_from_slice(&(rate * 2).to_le_bytes());
    wav.extend_from_slice(&[2, 0, 16, 0]);
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&bytes.to_le_bytes());
    wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.wav"));
    fs::write(&path, wav).expect("the target folder can be written");
    path
}

/// Decodes standard base64 (RFC 4648 §4).
pub(crate) fn base64_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits = 0u32;
    let mut count = 0;
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other} is not base64"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

//! Packet captures: the file, the keys and the meaning of payload types in, the report out.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use antiphon_core::replay::{
    CaptureReader, Codecs, Item, KeyLog, MediaPacket, MediaSink, Pace, Replay, Settings,
};
use antiphon_core::shard::Tuning;
use clap::{Args, ValueEnum};

use super::confirmed::Confirmed;
use super::setting::{self, Setting};
use super::turns::{AllHeard, Hearings, Shown};
use super::wav::{AllWritten, Wavs};
use super::{Input, ReplayError, json, keys, table, unreadable};

/// What is for captures alone.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options for captures")]
#[group(skip)]
pub(super) struct Options {
    /// SRTP master keys (JSON; see docs/replay.md)
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// TLS key log with the secrets of DTLS handshakes in the capture (SSLKEYLOGFILE)
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Key of an `a=crypto` line (RFC 4568), again for each
    #[arg(long, value_name = "LINE")]
    sdes: Vec<String>,
    /// Session description whose payload types and `a=crypto` keys are those of the capture, again for each
    #[arg(long, value_name = "FILE")]
    sdp: Vec<PathBuf>,
    /// What a payload type means, such as 96=vp8/90000, again for each
    #[arg(long, value_name = "PT=CODEC/CLOCK")]
    map: Vec<String>,
    /// Which clock tells when packets arrive [default: capture]
    #[arg(long, value_enum)]
    pace: Option<PaceChoice>,
    /// Writes the sound of each stream of PCMU, PCMA or Opus to a new WAV file in this folder, as a jitter buffer and
    /// decoder of ours play it
    #[arg(long, value_name = "DIR")]
    wav: Option<PathBuf>,
}

impl Options {
    /// The first of them that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.keys.is_some(), "--keys"),
            (self.keylog.is_some(), "--keylog"),
            (!self.sdes.is_empty(), "--sdes"),
            (!self.sdp.is_empty(), "--sdp"),
            (!self.map.is_empty(), "--map"),
            (self.pace.is_some(), "--pace"),
            (self.wav.is_some(), "--wav"),
        ];
        let mut given = given.into_iter();
        given.find_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// Which clock tells when packets arrive, and so what jitter, bitrate and durations are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PaceChoice {
    /// The capture's stamps
    #[default]
    Capture,
    /// Media time, for captures whose stamps are worthless
    Rtp,
    /// All at once: nothing is measured by time
    Asap,
}

impl From<PaceChoice> for Pace {
    fn from(choice: PaceChoice) -> Self {
        match choice {
            PaceChoice::Capture => Self::Capture,
            PaceChoice::Rtp => Self::Rtp,
            PaceChoice::Asap => Self::Asap,
        }
    }
}

pub(super) fn run(
    input: Input<'_>,
    options: &Options,
    set: &[Setting],
    shown: Shown,
) -> Result<(), ReplayError> {
    let path = input.path.display().to_string();
    let settings = settings(input.path, options)?;
    let by_time = [(options.wav.is_some(), "--wav"), (shown.turns, "--turns")];
    let by_time = by_time.into_iter().find(|(is_given, _)| *is_given);
    if let (Some((_, option)), Pace::Asap) = (by_time, settings.pace) {
        return Err(ReplayError::Input(format!(
            "{option} plays packets when they came, and with --pace asap they come at no time"
        )));
    }
    let turns = setting::apply(set, Tuning::default())?.turns;
    if !set.is_empty() && !shown.turns {
        let why = "--set of voice.NAME changes turns, which --turns shows";
        return Err(ReplayError::Input(why.to_owned()));
    }
    let mut sinks = Confirmed::<Sinks<'_>>::default();
    sinks.sink.wavs = options.wav.as_deref().map(Wavs::start).transpose()?;
    sinks.sink.hearings = shown.turns.then(|| Hearings::new(turns));
    let mut replay = Replay::new(settings);
    let mut progress = super::progress(input.len);
    let ended = CaptureReader::new(input.into_reader()).and_then(|mut reader| {
        while reader.step(&mut |item: Item<'_>| replay.handle_to(item, &mut sinks))? {
            progress.note(reader.position(), || super::mebibytes(reader.position()));
            if sinks.sink.wavs.as_ref().is_some_and(Wavs::has_failed) {
                break;
            }
        }
        Ok(())
    });
    drop(progress);
    let sound = Sound {
        written: sinks.sink.wavs.map(Wavs::finish).transpose()?,
        turns: sinks.sink.hearings.map(Hearings::finish),
    };
    let report = replay.finish();
    let text = if shown.as_json {
        let error = ended.as_ref().err().map(ToString::to_string);
        json::object(&report, error, &sound)
    } else {
        table::text(&report, &sound)
    };
    print(&text)?;
    ended.map_err(|error| ReplayError::Broken { path, error })
}

/// The object of a file that is no recording: nothing, and why.
pub(super) fn run_on_nothing(why: &str) -> Result<(), ReplayError> {
    let nothing = Replay::new(Settings::default()).finish();
    print(&json::object(
        &nothing,
        Some(why.to_owned()),
        &Sound::default(),
    ))
}

fn print(text: &str) -> Result<(), ReplayError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ReplayError::Output)
}

/// What takes the sound of streams.
#[derive(Default)]
struct Sinks<'a> {
    wavs: Option<Wavs<'a>>,
    hearings: Option<Hearings>,
}

impl MediaSink for Sinks<'_> {
    fn take(&mut self, packet: &MediaPacket<'_>) {
        if let Some(wavs) = &mut self.wavs {
            wavs.take(packet);
        }
        if let Some(hearings) = &mut self.hearings {
            hearings.take(packet);
        }
    }
}

/// What came of the sound of streams, as far as it was asked for.
#[derive(Default)]
pub(super) struct Sound {
    pub(super) written: Option<AllWritten>,
    pub(super) turns: Option<AllHeard>,
}

fn settings(capture: &Path, options: &Options) -> Result<Settings, ReplayError> {
    let mut settings = Settings {
        pace: options.pace.unwrap_or_default().into(),
        ..Settings::default()
    };
    if let Some(path) = &options.keys {
        settings.keys = keys::of_file(&read_text(path)?, path, capture)?;
    }
    if let Some(path) = &options.keylog {
        settings.key_log = key_log(path)?;
    }
    for line in &options.sdes {
        settings.keys.push(keys::of_crypto_line(line)?);
    }
    for path in &options.sdp {
        let text = read_text(path)?;
        describe(&mut settings.codecs, &text, path)?;
        for line in text.lines().filter(|line| line.starts_with("a=crypto:")) {
            settings.keys.push(keys::of_crypto_line(line)?);
        }
    }
    let mut mapped = BTreeSet::new();
    for map in &options.map {
        let wrong = |error| ReplayError::Input(format!("--map {map}: {error}"));
        let number = settings.codecs.add_map(map).map_err(wrong)?;
        if !mapped.insert(number) {
            return Err(ReplayError::Input(format!("--map {number} is given twice")));
        }
    }
    Ok(settings)
}

fn describe(codecs: &mut Codecs, text: &str, path: &Path) -> Result<(), ReplayError> {
    let path = path.display();
    match codecs.add_description(text) {
        Ok(0) => Err(ReplayError::Input(format!(
            "{path}: it has no a=rtpmap line"
        ))),
        Ok(_) => Ok(()),
        Err(error) => Err(ReplayError::Input(format!("{path}: {error}"))),
    }
}

fn key_log(path: &Path) -> Result<KeyLog, ReplayError> {
    let text = read_text(path)?;
    let mut log = KeyLog::default();
    if log.add(text.as_bytes()) == 0 {
        let path = path.display();
        let wrong =
            format!("{path}: it has no CLIENT_RANDOM line, the only kind of use for DTLS 1.2");
        return Err(ReplayError::Input(wrong));
    }
    Ok(log)
}

fn read_text(path: &Path) -> Result<String, ReplayError> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, error))
}

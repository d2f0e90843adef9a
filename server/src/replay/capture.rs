//! Packet captures: the file, the keys and the meaning of payload types in, the report out.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use antiphon_core::replay::{CaptureReader, Codecs, KeyLog, Replay, Settings};

use super::progress::Progress;
use super::{Arguments, ReplayError, json, keys, table};

pub(super) fn run(arguments: &Arguments) -> Result<(), ReplayError> {
    let path = arguments.file.display().to_string();
    let settings = settings(arguments)?;
    let unreadable = |error| ReplayError::Unreadable {
        path: path.clone(),
        error,
    };
    let file = File::open(&arguments.file).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let mut replay = Replay::new(settings);
    let mut progress = Progress::new(len);
    let ended = CaptureReader::new(file).and_then(|mut reader| {
        while reader.step(&mut |item| replay.handle(item))? {
            progress.note(reader.position());
        }
        Ok(())
    });
    drop(progress);
    let report = replay.finish();
    let text = if arguments.json {
        json::object(&report, ended.as_ref().err())
    } else {
        table::text(&report)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ReplayError::Output)?;
    ended.map_err(|error| ReplayError::Broken { path, error })
}

fn settings(arguments: &Arguments) -> Result<Settings, ReplayError> {
    let mut settings = Settings {
        pace: arguments.pace.into(),
        ..Settings::default()
    };
    if let Some(path) = &arguments.keys {
        settings.keys = keys::of_file(&read_text(path)?, path, &arguments.file)?;
    }
    if let Some(path) = &arguments.keylog {
        settings.key_log = key_log(path)?;
    }
    for line in &arguments.sdes {
        settings.keys.push(keys::of_crypto_line(line)?);
    }
    for path in &arguments.sdp {
        let text = read_text(path)?;
        describe(&mut settings.codecs, &text, path)?;
        for line in text.lines().filter(|line| line.starts_with("a=crypto:")) {
            settings.keys.push(keys::of_crypto_line(line)?);
        }
    }
    for map in &arguments.map {
        let wrong = |error| ReplayError::Input(format!("--map {map}: {error}"));
        settings.codecs.add_map(map).map_err(wrong)?;
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
    std::fs::read_to_string(path).map_err(|error| ReplayError::Unreadable {
        path: path.display().to_string(),
        error,
    })
}

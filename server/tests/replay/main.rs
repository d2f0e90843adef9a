//! `antiphon replay` from outside: captures of others against an independent count of them, keys of every kind, and
//! files that are broken.

mod broken;
mod journal;
mod keyed;
mod tools;
mod truth;
mod turns;
mod wav;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn antiphon(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_antiphon"))
        .arg("replay")
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// The JSON report of a replay, and whether it ended well.
fn report(file: &Path, arguments: &[&str]) -> (Value, bool) {
    let file = file.to_str().expect("the path is text");
    let output = antiphon(&[&[file, "--json"], arguments].concat());
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{file}: {error}: {text}{:?}", output.stderr));
    (report, output.status.success())
}

/// The folder of test data by others; without it says so, and `None`.
fn vectors() -> Option<PathBuf> {
    let folder = std::env::var_os("ANTIPHON_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no folder of test data; set ANTIPHON_VECTORS");
    None
}

fn json_file(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the folder of test data is whole");
    serde_json::from_str(&text).expect("it is JSON")
}

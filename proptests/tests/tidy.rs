//! The style sheet as a test: what `CONTRIBUTING.md` says and a machine can check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 1_000;
const COLUMNS_MAX: usize = 120;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may hold unsafe code, each with its reason.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("udp/src/sys.rs", "batched UDP system calls"),
    ("udp/src/conformance/counting.rs", "a counting allocator"),
    ("core/tests/allocation.rs", "a counting allocator"),
    ("shims/prefetch/src/lib.rs", "prefetching"),
];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace above")
        .to_path_buf()
}

fn tracked(endings: &[&str]) -> Vec<Source> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of a checkout");
    let listing = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let wanted = |path: &&str| endings.iter().any(|ending| path.ends_with(ending));
    let read = |path: &str| {
        let text = fs::read_to_string(root().join(path)).ok()?;
        Some(Source {
            path: path.to_owned(),
            text,
        })
    };
    let sources: Vec<_> = listing.lines().filter(wanted).filter_map(read).collect();
    assert!(
        !sources.is_empty(),
        "no files found: run inside a git checkout"
    );
    sources
}

fn fail(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut faults = Vec::new();
    for Source { path, text } in tracked(&[".rs", ".js", ".css"]) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{path}: {lines} lines, {LINES_MAX} allowed"));
        }
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                faults.push(format!("{path}:{}: {columns} columns", number + 1));
            }
        }
        if path.ends_with(".rs") {
            faults.extend(long_functions(&path, &text));
        }
    }
    fail(&faults);
}

/// rustfmt puts a function's closing brace under the first letter of its item.
fn long_functions(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let body = line.trim_start();
        let starts = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "async fn ",
            "pub async fn ",
            "const fn ",
        ]
        .iter()
        .any(|start| body.starts_with(start));
        if starts {
            open = Some((number, indent));
        }
        if let Some((start, at)) = open
            && indent == at
            && body == "}"
        {
            let lines = number - start + 1;
            if lines > FUNCTION_LINES_MAX {
                faults.push(format!("{path}:{}: function of {lines} lines", start + 1));
            }
            open = None;
        }
    }
    faults
}

#[test]
fn nothing_unfinished_is_committed() {
    // Spelled apart so that this file does not find itself.
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ign", "ore"),
    ];
    let mut faults = Vec::new();
    for Source { path, text } in tracked(&[".rs", ".js", ".html", ".css", ".toml", ".md"]) {
        for (number, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                faults.push(format!("{path}:{}: {mark}", number + 1));
            }
        }
    }
    fail(&faults);
}

#[test]
fn unsafe_code_stands_only_where_it_may() {
    let mut faults = Vec::new();
    for Source { path, text } in tracked(&[".rs"]) {
        let allowed = UNSAFE_ALLOWED.iter().any(|(file, _)| *file == path);
        let block = concat!("un", "safe ");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !allowed && code.contains(block) {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail(&faults);
}

#[test]
fn every_crate_root_forbids_unsafe_code_or_says_where_it_is() {
    let roots = [
        "core",
        "runtime-tokio",
        "runtime-smol",
        "runtime-glommio",
        "server",
    ];
    let missing: Vec<_> = roots
        .iter()
        .map(|name| format!("{name}/src/lib.rs"))
        .filter(|path| {
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            !text.contains("#![forbid(unsafe_code)]")
        })
        .collect();
    fail(&missing);
}

#[test]
fn every_limit_of_the_core_stands_in_limits() {
    let mut faults = Vec::new();
    for Source { path, text } in tracked(&[".rs"]) {
        // The longest element a wire format can say is a fact of the format and stands beside it; a limit
        // is what we chose.
        let elsewhere = path == "core/src/limits.rs" || path.starts_with("core/src/wire/");
        if !path.starts_with("core/src/") || elsewhere {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let name = line.trim_start().strip_prefix("pub const ");
            if name
                .and_then(|rest| rest.split(':').next())
                .is_some_and(|name| name.ends_with("_MAX"))
            {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail(&faults);
}

#[test]
fn time_meets_instant_in_one_place_of_the_core() {
    let allowed = ["core/src/time.rs", "core/src/session/transport/"];
    let mut faults = Vec::new();
    for Source { path, text } in tracked(&[".rs"]) {
        if !path.starts_with("core/src/") || allowed.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        if path.contains("tests") {
            continue;
        }
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        for (number, line) in text[..tests].lines().enumerate() {
            if line.contains("Instant") && !line.trim_start().starts_with("//") {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail(&faults);
}

#[test]
fn only_the_transport_names_the_ice_and_dtls_crates() {
    let mut faults = Vec::new();
    for Source { path, text } in tracked(&[".rs"]) {
        if !path.starts_with("core/src/") || path.starts_with("core/src/session/transport") {
            continue;
        }
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        for (number, line) in text[..tests].lines().enumerate() {
            if ["dimpl::", "use is::", "str0m"]
                .iter()
                .any(|name| line.contains(name))
                && !line.trim_start().starts_with("//")
                && !path.contains("tests")
            {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail(&faults);
}

/// The executable proof that the core is sans-I/O.
#[test]
fn the_core_depends_on_no_runtime_and_no_sockets() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "antiphon-core",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo prints the dependency tree");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(
        tree.contains("antiphon-core"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let banned = [
        "async-executor",
        "async-io",
        "async-std",
        "futures-executor",
        "glommio",
        "hyper",
        "io-uring",
        "mio",
        "polling",
        "quinn-udp",
        "rustix",
        "smol",
        "socket2",
        "tokio",
    ];
    let found: Vec<_> = tree
        .lines()
        .filter(|line| {
            banned
                .iter()
                .any(|name| line.starts_with(&format!("{name} ")))
        })
        .map(str::to_owned)
        .collect();
    fail(&found);
}

/// Bugs on demand are for tests: the macros that reach them are `false` without the feature, and the server has it not.
#[test]
fn the_server_has_no_bugs_on_demand() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "antiphon-server",
            "--edges",
            "normal,features",
            "--prefix",
            "none",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo prints the dependency tree");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(
        tree.contains("antiphon-core feature \"sim\""),
        "the server simulates: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!tree.contains("antiphon-core feature \"mutations\""));
}

#[test]
fn nothing_names_a_machine_or_a_secret() {
    let marks = [
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
        concat!("BEGIN PRIV", "ATE KEY"),
    ];
    let mut faults = Vec::new();
    for Source { path, text } in
        tracked(&[".rs", ".md", ".toml", ".js", ".html", ".sh", "Makefile"])
    {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail(&faults);
}

#[test]
fn the_changelog_keeps_its_form() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("there is a changelog");
    let allowed = [
        "### Correctness",
        "### Media",
        "### Server",
        "### Internals",
    ];
    let odd: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("###") && !allowed.contains(line))
        .map(str::to_owned)
        .collect();
    fail(&odd);
}

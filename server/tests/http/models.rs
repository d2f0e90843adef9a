//! Networks that hear calls with agents: files that `tests/models/make.py` made, run by the real library, and every
//! number that comes out worked out here again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use antiphon_core::voice::message::{
    AgentAsk, CallTime, Heard, Judgement, TurnId, UtteranceId, VoiceEvent,
};
use antiphon_server::config::Config;
use antiphon_server::model::{Model as _, ModelChoice, ModelRole, OnnxModel};

use crate::agents::{audio, ended, started};
use crate::rig::Rig;

/// As the program of the tests that installs it.
const LIBRARY: &str = "onnxruntime==1.32.0";

/// One fetches, the others find it done.
static FETCHING: Mutex<()> = Mutex::new(());

/// The library, out of the package that PyPI has of it; `None`, said aloud, where it cannot be had.
fn library() -> Option<PathBuf> {
    let _one_at_a_time = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnxruntime");
    let found = || {
        let files = fs::read_dir(folder.join("onnxruntime/capi")).ok()?;
        let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
        paths.find(|path| path.to_string_lossy().contains("/libonnxruntime.so."))
    };
    if let Some(library) = found() {
        return Some(library);
    }
    // Debian's own pip installs nothing, if it is there at all; that of a venv does.
    let venv = folder.with_file_name("onnxruntime-pip");
    let run = |program: &Path, arguments: &[&str], paths: &[&Path]| {
        let mut command = Command::new(program);
        match command.args(arguments).args(paths).output() {
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        }
    };
    let made = run(
        Path::new("python3"),
        &["-m", "venv", "--clear"],
        &[venv.as_path()],
    );
    let install = "-m pip install --quiet --no-deps --no-compile --target";
    let install: Vec<_> = install.split(' ').collect();
    let package = [folder.as_path(), Path::new(LIBRARY)];
    let fetched = run(&venv.join("bin/python"), &install, &package);
    let library = found();
    if library.is_none() {
        let why = format!("{made}{fetched}");
        println!("SKIPPED: needs python3-venv and {LIBRARY}: {why}");
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI it may not be skipped: {why}"
        );
    }
    library
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/models/{name}.onnx"))
}

fn load(library: &Path, role: ModelRole, name: &str) -> Result<OnnxModel, String> {
    let environment = OnnxModel::runtime(library).expect("it can be loaded");
    let choice = ModelChoice {
        role,
        path: file(name),
    };
    OnnxModel::load(&environment, &choice).map_err(|error| error.to_string())
}

#[test]
fn a_network_gives_what_its_arithmetic_gives() {
    let Some(library) = library() else { return };
    let mut speech = load(&library, ModelRole::Speech, "speech").unwrap();
    assert_eq!(speech.window(), 320);
    let mut memory = speech.memory();
    let (mut before, mut out) = (0.0_f32, Vec::new());
    for loudness in [0.0_f32, 0.1, 0.8, 0.05] {
        let window: Vec<f32> = (0..320)
            .map(|n| if n % 2 == 0 { loudness } else { -loudness })
            .collect();
        speech.run(&window, &mut memory, &mut out).unwrap();
        before = f32::midpoint(before, loudness);
        let expected = 1.0 / (1.0 + (2.0 - 40.0 * before).exp());
        assert!(
            (out[0] - expected).abs() < 1e-5,
            "{} for {expected}",
            out[0]
        );
        assert!((memory[0][0] - before).abs() < 1e-6);
    }
    let mut turn = load(&library, ModelRole::Turn, "turn").unwrap();
    assert_eq!((turn.window(), turn.memory().len()), (128_000, 0));
    let mut window = vec![1.0; 128_000];
    window[126_400..].fill(-0.25);
    turn.run(&window, &mut turn.memory(), &mut out).unwrap();
    assert_eq!(out, [0.75]);
}

#[test]
fn what_is_no_such_network_is_refused_by_name() {
    let Some(library) = library() else { return };
    // One number where a window is to come out, a window where one is, and no network at all.
    for (role, name, why) in [
        (ModelRole::Isolation, "speech", "1 numbers came out"),
        (ModelRole::Speech, "isolation", "512 numbers came out"),
        (ModelRole::Turn, "nothing", "nothing.onnx"),
    ] {
        let Err(error) = load(&library, role, name) else {
            panic!("{name} as {role:?}");
        };
        assert!(
            error.contains(why) && error.contains(role.name()),
            "{error}"
        );
    }
    let twice = "voice_model = [\"turn=a.onnx\", \"turn=b.onnx\"]";
    let error = Config::from_toml(twice).unwrap_err().to_string();
    assert!(
        error.contains("voice_model") && error.contains("each role once"),
        "{error}"
    );
}

fn paused(turn: u32, at: u64) -> Heard {
    Heard::Voice(VoiceEvent::SpeechEnded {
        at: CallTime(at + 80_000),
        turn: TurnId(turn),
        end: CallTime(at),
    })
}

#[tokio::test]
async fn what_networks_find_is_told_to_the_core_and_cleaned_sound_to_the_program() {
    let Some(library) = library() else { return };
    let models =
        ["speech", "turn", "isolation"].map(|it| format!("\"{it}={}\"", file(it).display()));
    let lines = format!(
        "voice_model = [{}]\nonnx_runtime = \"{}\"",
        models.join(", "),
        library.display()
    );
    let rig = Rig::start(&lines).await;
    let (session, _) = rig.call("agent=parrot").await;
    rig.hear(session, started(1, 0));
    for at in 0..50 {
        rig.hear(session, audio(at * 20, 16_384));
    }
    rig.hear(session, paused(1, 1_000_000));
    let asks = rig.asked(51).await;
    let mut level = 0.0_f32;
    for (index, (_, ask)) in asks.iter().take(50).enumerate() {
        level = f32::midpoint(level, 0.5);
        let expected = 1.0 / (1.0 + (2.0 - 40.0 * level).exp());
        let AgentAsk::Judgement(Judgement::Speech { at, probability }) = ask else {
            panic!("{ask:?}");
        };
        assert_eq!(at.0, (index as u64 + 1) * 20_000);
        assert!((f32::from(*probability) / 32_767.0 - expected).abs() < 1e-3);
    }
    let complete = Judgement::Complete {
        turn: TurnId(1),
        probability: 16_383,
    };
    assert_eq!(asks[50].1, AgentAsk::Judgement(complete));

    // What the parrot says back is what it heard: half as loud.
    rig.hear(session, ended(1, 0, 800));
    let asks = rig.asked(52).await;
    let AgentAsk::Say { utterance, pcm, .. } = &asks[51].1 else {
        panic!("{:?}", asks[51]);
    };
    assert_eq!((*utterance, pcm.len()), (UtteranceId(1), 32_000));
    let (samples, _) = pcm.as_chunks::<2>();
    assert!(samples.iter().all(|it| i16::from_le_bytes(*it) == 8_192));
    let metrics = rig.get("/metrics").await.body;
    for line in [
        "antiphon_model_runs_total{role=\"speech\"} 50",
        "antiphon_model_runs_total{role=\"turn\"} 1",
        "antiphon_model_skipped_total 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_server_without_the_library_says_what_to_do() {
    let lines = "http = \"127.0.0.1:0\"\nvoice_model = [\"turn=a.onnx\"]\nonnx_runtime = \"/nowhere/lib.so\"";
    let config = Config::from_toml(lines).unwrap();
    let error = Rig::refused(config).await;
    assert!(
        error.contains("/nowhere/lib.so") && error.contains("onnx_runtime"),
        "{error}"
    );
}

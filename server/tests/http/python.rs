//! The Python package and its programs, installed as a user would, against a server with `--grpc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use antiphon_core::voice::message::{
    AgentAsk, CallTime, Heard, PlayoutState, TurnId, UtteranceId, VoiceEvent,
};
use antiphon_server::app::App;

use crate::agents::{audio, ended, started};
use crate::program::{GRPC, a_moment};
use crate::rig::Rig;

/// An interpreter starts, imports gRPC and connects, beside compilers.
const START_PATIENCE: Duration = Duration::from_secs(60);
const MS: u64 = 1_000;

/// One installs, the others find it done.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn package() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace above");
    root.join("examples/python")
}

/// An interpreter that has the package, or what is lacking.
fn interpreter() -> Result<PathBuf, String> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = venv.join("bin/python");
    let sources = sources();
    let stamp = venv.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == sources) {
        return Ok(python);
    }
    let run = |program: &Path, arguments: &[&str], what: &str| {
        let output = Command::new(program).args(arguments).arg(what).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    let folder = venv.to_str().ok_or("a path in UTF-8")?;
    run(Path::new("python3"), &["-m", "venv", "--clear"], folder)
        .map_err(|error| format!("python3 with venv (Debian: python3-venv): {error}"))?;
    let source = package();
    let source = source.to_str().ok_or("a path in UTF-8")?;
    run(
        &python,
        &["-m", "pip", "install", "--quiet", "--no-compile"],
        source,
    )
    .map_err(|error| {
        // A mistake in the package is no reason to skip.
        assert!(!error.contains("protocol"), "{error}");
        format!("pip and what it fetches: {error}")
    })?;
    fs::write(&stamp, sources).map_err(|error| error.to_string())?;
    Ok(python)
}

/// All that the installed package comes from.
fn sources() -> String {
    let package = package();
    let mut files: Vec<PathBuf> = fs::read_dir(package.join("src/antiphon_voice"))
        .expect("the package is there")
        .map(|entry| entry.expect("a folder").path())
        .filter(|path| path.extension().is_some_and(|it| it == "py"))
        .collect();
    files.sort();
    files.push(package.join("setup.py"));
    files.push(package.join("pyproject.toml"));
    files.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/antiphon/voice/v1/voice.proto"));
    files
        .iter()
        .map(|path| fs::read_to_string(path).expect("it can be read"))
        .collect()
}

/// Starts one of the programs; `None`, said aloud, when this machine lacks what it takes.
fn start(program: &str, arguments: &[&str]) -> Option<Running> {
    let python = match interpreter() {
        Ok(python) => python,
        Err(lacking) => {
            println!("SKIPPED: needs {lacking}");
            assert!(
                std::env::var_os("CI").is_none(),
                "in CI it may not be skipped: {lacking}"
            );
            return None;
        }
    };
    let child = Command::new(python)
        .arg(package().join("programs").join(program))
        .args(arguments)
        .stdin(Stdio::null())
        .spawn();
    Some(Running(child.expect("the interpreter starts")))
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !check().await {
            a_moment().await;
        }
    };
    let waited = tokio::time::timeout(START_PATIENCE, waiting).await;
    assert!(waited.is_ok(), "never happened: {what}");
}

async fn until_waiting(rig: &Rig, name: &str) {
    let waits = format!(r#"{{"kind":"waiting","name":"{name}","there":true}}"#);
    eventually("the program waits", async || {
        rig.get("/info").await.body.contains(&waits)
    })
    .await;
}

fn said(asks: &[AgentAsk]) -> (Vec<u8>, Option<UtteranceId>, bool) {
    let mut all = (Vec::new(), None, false);
    for ask in asks {
        if let AgentAsk::Say {
            pcm,
            utterance,
            last,
            ..
        } = ask
        {
            all.0.extend_from_slice(pcm);
            (all.1, all.2) = (Some(*utterance), *last);
        }
    }
    all
}

fn asks(app: &Rig) -> Vec<AgentAsk> {
    app.shard().asks().into_iter().map(|(_, ask)| ask).collect()
}

#[tokio::test]
async fn echo_back_says_turns_back_call_after_call() {
    let rig = Rig::start(GRPC).await;
    let server = rig.grpc.expect("it listens").to_string();
    let Some(_program) = start("echo_back.py", &["--server", &server]) else {
        return;
    };
    until_waiting(&rig, "echo-back").await;
    let (session, location) = rig.call("agent=echo-back").await;
    for at in (0..1_000).step_by(20) {
        rig.hear(session, audio(at, at as i16));
    }
    rig.hear(session, started(1, 400));
    rig.hear(session, ended(1, 400, 700));
    eventually("it says the turn back", async || said(&asks(&rig)).2).await;
    let (pcm, utterance, _) = said(&asks(&rig));
    let utterance = utterance.expect("it spoke");
    assert_eq!(
        (pcm.len(), &pcm[..2]),
        (700 * 32, &200_i16.to_le_bytes()[..]),
        "from 200 to 900 ms"
    );
    rig.hear(
        session,
        playout(utterance, 300 * MS, PlayoutState::Interrupted),
    );
    rig.send("DELETE", &location, &[], "").await;
    eventually("the call ends", async || rig.app.calls.count() == 0).await;

    // The next call is answered as well.
    let (session, _) = rig.call("agent=echo-back").await;
    rig.hear(session, audio(0, 1));
    rig.hear(session, started(1, 0));
    rig.hear(session, ended(1, 0, 20));
    eventually("it says another turn back", async || {
        said(&asks(&rig)).1.is_some_and(|it| it != utterance)
    })
    .await;
}

#[tokio::test]
async fn the_assistant_is_dialled_and_answers() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = port.local_addr().expect("an address").to_string();
    drop(port);
    let rig = Rig::start(&format!("agent_url = [\"assistant=http://{address}\"]")).await;
    let Some(_program) = start("assistant.py", &["--serve", &address]) else {
        return;
    };
    let is_there = async || tokio::net::TcpStream::connect(&address).await.is_ok();
    eventually("the program listens", is_there).await;
    let (session, _) = rig.call("agent=assistant").await;
    for at in (0..2_000).step_by(20) {
        rig.hear(session, audio(at, 0));
    }
    rig.hear(session, started(1, 0));
    rig.hear(session, ended(1, 0, 2_000));
    let answered = async || {
        let is_said = |ask: &AgentAsk| match ask {
            AgentAsk::Say { pcm, rate, .. } => !pcm.is_empty() && rate.hz() == 24_000,
            _ => false,
        };
        asks(&rig).iter().any(is_said)
    };
    eventually("it answers", answered).await;
    let ended: fn(&App) -> bool = |app| app.calls.count() == 0;
    rig.shard()
        .end(session, antiphon_core::message::CloseReason::PeerClosed);
    rig.until("the call ends", ended).await;
}

/// A program's `clear` right after `say`, however soon, must not meet gRPC in the middle of a write: it would end the
/// call.
#[tokio::test]
async fn what_is_cleared_as_soon_as_it_is_said_leaves_the_call_alive() {
    let rig = Rig::start(GRPC).await;
    let server = rig.grpc.expect("it listens").to_string();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/clearing.py");
    let program = program.to_str().expect("a path in UTF-8");
    let Some(_program) = start(program, &[&server]) else {
        return;
    };
    until_waiting(&rig, "clearing").await;
    let (session, _) = rig.call("agent=clearing").await;
    let (mut cleared, mut is_over) = (BTreeSet::new(), false);
    eventually("the last of it is said", async || {
        let mut said = BTreeSet::new();
        for ask in asks(&rig) {
            match ask {
                AgentAsk::Say { utterance, .. } => {
                    said.insert(utterance);
                }
                AgentAsk::Clear { utterance } => {
                    // As the core answers: by name, or all that it has.
                    for it in utterance.map_or_else(|| said.clone(), |it| [it].into()) {
                        if cleared.insert(it) {
                            rig.hear(session, stopped(it));
                        }
                    }
                }
                AgentAsk::Mark { .. } => is_over = true,
                _ => {}
            }
        }
        is_over || rig.app.calls.count() == 0
    })
    .await;
    assert!(is_over, "the call has ended");
    assert_eq!(cleared.len(), 14, "each of them, once: {cleared:?}");
}

/// An interruption drops what was said to the package and not yet to the server, but not what answers it.
#[tokio::test]
async fn what_waits_to_be_said_is_interrupted_too() {
    let rig = Rig::start(GRPC).await;
    let server = rig.grpc.expect("it listens").to_string();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/queueing.py");
    let program = program.to_str().expect("a path in UTF-8");
    let Some(_program) = start(program, &[&server]) else {
        return;
    };
    until_waiting(&rig, "queueing").await;
    let (session, _) = rig.call("agent=queueing").await;
    let begun = |count| {
        let rig = &rig;
        async move || utterances(rig).len() == count
    };
    eventually("it says one thing, and then another", begun(2)).await;
    let both = utterances(&rig);
    rig.hear(session, interruption());
    rig.hear(
        session,
        playout(both[1], 1_500 * MS, PlayoutState::Interrupted),
    );
    eventually("it answers the interruption", begun(3)).await;
    let third = utterances(&rig)[2];
    assert!(third.0 > both[1].0 + 2, "what waited has numbers as well");
    rig.hear(session, playout(third, 1_000 * MS, PlayoutState::Finished));
    eventually("it knows what became of all", async || {
        let all = asks(&rig);
        all.iter().any(|ask| matches!(ask, AgentAsk::Mark { .. }))
    })
    .await;
    assert_eq!(utterances(&rig), [both[0], both[1], third]);
}

/// Of whom sound was said, as it came: whose sound is between another's is there twice.
fn utterances(rig: &Rig) -> Vec<UtteranceId> {
    let said = asks(rig).into_iter().filter_map(|ask| match ask {
        AgentAsk::Say { utterance, .. } => Some(utterance),
        _ => None,
    });
    let mut said: Vec<_> = said.collect();
    said.dedup();
    said
}

fn interruption() -> Heard {
    let (at, start, turn) = (CallTime(2_000 * MS), CallTime(1_800 * MS), TurnId(1));
    Heard::Voice(VoiceEvent::BargeIn { at, turn, start })
}

fn stopped(utterance: UtteranceId) -> Heard {
    playout(utterance, 0, PlayoutState::Cleared)
}

fn playout(utterance: UtteranceId, played: u64, state: PlayoutState) -> Heard {
    Heard::Playout {
        at: CallTime(0),
        utterance,
        played,
        queued: 0,
        state,
    }
}

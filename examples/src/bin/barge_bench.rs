//! How soon an agent stops for who interrupts it, and how often for nothing, on dialogues made by espeak-ng.
//!
//! ```text
//! barge_bench [--tuning]
//! ```
//!
//! Prints the tables on interruptions of `docs/turns.md`: of the half of the material that nothing was tuned on, or
//! with `--tuning` of the other.

use std::error::Error;

use antiphon_core::voice::config::TurnConfig;
use antiphon_core::voice::echo::EchoGuard;
use antiphon_core::voice::features::{ANALYSED_SAMPLES, Features};
use antiphon_core::voice::message::{CallTime, VoiceEvent};
use antiphon_core::voice::turns::{AgentVoice, TurnDetector};
use antiphon_examples::dialogues::overlap::{Act, Echo, Overlap, overlap};
use antiphon_examples::dialogues::scene::{Dice, analyse};
use antiphon_examples::dialogues::texts::{REPORTED, TUNING};

/// Scenes of each kind and voice.
const SCENES: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let tuning = std::env::args().any(|argument| argument == "--tuning");
    let half = if tuning { TUNING } else { REPORTED };
    println!(
        "| echo | guard | the person | scenes | stopped | ducked in vain | duck p50 | p90 | stop p50 | p90 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let paths = [(30.0, 120), (15.0, 60), (15.0, 250)];
    let paths = paths.map(|(below, delay)| Echo::Path { below, delay });
    for echo in [Echo::None].into_iter().chain(paths) {
        for act in [
            Act::Interruption,
            Act::Backchannel,
            Act::Nothing,
            Act::Noises,
        ] {
            let mut scores = [Score::default(), Score::default()];
            let mut dice = Dice::new(7);
            for number in 0..SCENES * half.voices.len() {
                let scene = overlap(&half, number % half.voices.len(), act, echo, &mut dice)?;
                let heard = analyse(&scene.heard);
                for (score, guarded) in scores.iter_mut().zip([false, true]) {
                    score.add(&scene, &heard, guarded);
                }
            }
            for (score, guard) in scores.iter().zip(["no", "yes"]) {
                println!("{}", score.row(echo, guard, act));
            }
        }
    }
    Ok(())
}

/// What the detector did in scenes of one kind.
#[derive(Clone, Debug, Default)]
struct Score {
    scenes: usize,
    stopped: usize,
    ducked_in_vain: usize,
    /// From the person's onset, in milliseconds; negative: before it.
    ducks: Vec<i64>,
    stops: Vec<i64>,
}

impl Score {
    fn add(&mut self, scene: &Overlap, heard: &[Features], guarded: bool) {
        let mut detector = TurnDetector::new(TurnConfig::default());
        let mut guard = EchoGuard::new();
        let (start, end) = scene.agent;
        let onset = scene.onset.unwrap_or(start) as i64;
        let since = |at: CallTime| (at.0 as i64 - onset) / 1_000;
        self.scenes += 1;
        let (frames, _) = scene.played.as_chunks::<ANALYSED_SAMPLES>();
        for ((features, played), at) in heard.iter().zip(frames).zip((0..).step_by(10_000)) {
            let mut features = *features;
            let speaks = (start..end).contains(&at);
            guard.handle_played(speaks.then_some(played));
            if guarded {
                features.echo = guard.echo(&features);
            }
            let agent = AgentVoice::Speaking {
                remaining: None,
                interruptible: true,
            };
            detector.handle_playout(
                CallTime(at),
                if speaks { agent } else { AgentVoice::Silent },
            );
            detector.handle_frame(CallTime(at), &features);
            while let Some(event) = detector.poll_event() {
                match event {
                    VoiceEvent::BargeCandidate { at, .. } => self.ducks.push(since(at)),
                    VoiceEvent::Backchannel { .. } => self.ducked_in_vain += 1,
                    VoiceEvent::BargeIn { at, .. } => {
                        self.stopped += 1;
                        self.stops.push(since(at));
                        return;
                    }
                    _ => {}
                }
            }
        }
    }

    fn row(&self, echo: Echo, guard: &str, act: Act) -> String {
        let echo = match echo {
            Echo::None => "none".to_owned(),
            Echo::Path { below, delay } => format!("−{below} dB, {delay} ms"),
        };
        let act = match act {
            Act::Interruption => "interrupts",
            Act::Backchannel => "agrees",
            Act::Nothing => "listens",
            Act::Noises => "makes noises",
        };
        let figures = match act {
            "interrupts" => [&self.ducks, &self.stops]
                .map(|delays| quantiles(delays))
                .join(" | "),
            _ => "| | |".to_owned(),
        };
        format!(
            "| {echo} | {guard} | {act} | {} | {} | {} | {figures} |",
            self.scenes, self.stopped, self.ducked_in_vain
        )
    }
}

/// The median and the ninth decile.
fn quantiles(delays: &[i64]) -> String {
    let mut sorted = delays.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    let at = |percent: usize| {
        sorted
            .get(last * percent / 100)
            .map_or_else(|| "-".to_owned(), i64::to_string)
    };
    format!("{} | {}", at(50), at(90))
}

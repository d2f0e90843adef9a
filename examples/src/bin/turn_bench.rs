//! How soon turns end, and how often too soon: the turn detector beside plain silence, on dialogues made by espeak-ng.
//!
//! ```text
//! turn_bench [--tuning | --trace | --why]
//! ```
//!
//! Prints the tables of `docs/turns.md`: of the half of the material that nothing was tuned on, or with `--tuning` of
//! the other. `--why` shows the first turns where it does no better than silence. `--trace` prints the features of the
//! first 30 s of it, which `core` keeps as a test.

use std::error::Error;

use antiphon_core::voice::config::{Patience, TurnConfig};
use antiphon_core::voice::features::{CERTAIN, Features};
use antiphon_core::voice::message::{CallTime, Eagerness, TurnEnd, VoiceEvent};
use antiphon_core::voice::turns::TurnDetector;
use antiphon_examples::dialogues::scene::{Path, Scene, babble, dialogue};
use antiphon_examples::dialogues::texts::{Half, REPORTED, TUNING};

fn main() -> Result<(), Box<dyn Error>> {
    let tuning = std::env::args().any(|argument| argument == "--tuning");
    let half = if tuning { TUNING } else { REPORTED };
    if std::env::args().any(|argument| argument == "--trace") {
        return trace();
    }
    if std::env::args().any(|argument| argument == "--why") {
        return why(&half);
    }
    turns(&half)
}

/// The first turns of one person in the loudest noise and among people: truth, what was known, and what was decided.
fn why(half: &Half) -> Result<(), Box<dyn Error>> {
    let scene = dialogue(half, &half.voices[0], 1)?;
    let babble = babble(half)?;
    let patient = TurnConfig {
        eagerness: Eagerness::Patient,
        ..TurnConfig::default()
    };
    for path in [Path::Quiet, Path::Noise(0.0), Path::Babble(10.0)] {
        let features = path.features(&scene.samples, &babble, 1);
        let ends = ends(&features, patient);
        for turn in scene.turns.iter().take(4) {
            let millis = |at: u64| at / 1_000;
            let frames =
                |from: u64, to: u64| &features[(from / 10_000) as usize..(to / 10_000) as usize];
            let pitched = frames(turn.end - 480_000, turn.end)
                .iter()
                .filter(|frame| frame.voiced());
            let after = frames(turn.end + 200_000, turn.end + 2_200_000);
            let speech = after
                .iter()
                .filter(|frame| frame.speech >= patient.speech_on)
                .count();
            let within = |end: &&TurnEnd| (turn.start..turn.end + ANSWER_MAX).contains(&end.at.0);
            let ends: Vec<_> = ends
                .iter()
                .filter(within)
                .map(|end| (millis(end.at.0), end.reason))
                .collect();
            println!(
                "{}: spoken {}-{} ms; {} of its last 48 frames pitched; voice in {} of 200 frames after it; ended {:?}",
                path.name(),
                millis(turn.start),
                millis(turn.end),
                pitched.count(),
                speech,
                ends,
            );
        }
    }
    Ok(())
}

/// Speech, level, floor and pitch of each frame.
fn trace() -> Result<(), Box<dyn Error>> {
    let scene = dialogue(&REPORTED, &REPORTED.voices[0], 1)?;
    for frame in Path::Quiet
        .features(&scene.samples, &[], 1)
        .iter()
        .take(3_000)
    {
        println!(
            "{} {} {} {}",
            frame.speech, frame.level, frame.floor, frame.pitch
        );
    }
    Ok(())
}

/// Silence-only time-outs whose curve is drawn, in milliseconds.
const PLAIN: [u32; 3] = [300, 500, 800];
const CURVE: std::ops::RangeInclusive<u32> = 1..=8;

fn turns(half: &Half) -> Result<(), Box<dyn Error>> {
    let babble = babble(half)?;
    let mut scenes = Vec::new();
    for (seed, voice) in half.voices.iter().enumerate() {
        scenes.push(dialogue(half, voice, seed as u64 + 1)?);
    }
    println!(
        "| path | detector | cut off | turns cut | delay p50 | p90 | p99 | missed | plain as good |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut all = vec![Score::default(); PLAIN.len() + 3 + CURVE.count()];
    for path in Path::ALL {
        let heard: Vec<_> = scenes
            .iter()
            .zip(1..)
            .map(|(scene, seed)| path.features(&scene.samples, &babble, seed))
            .collect();
        let scores: Vec<_> = detectors()
            .map(|(_, config)| {
                let mut score = Score::default();
                for (scene, features) in scenes.iter().zip(&heard) {
                    score.add(scene, features, config);
                }
                score
            })
            .collect();
        print(&path.name(), &scores);
        for (sum, score) in all.iter_mut().zip(scores) {
            sum.merge(score);
        }
    }
    print("all", &all);
    Ok(())
}

/// The three presets, plain silence of three lengths, and more of these for a curve.
fn detectors() -> impl Iterator<Item = (String, TurnConfig)> {
    let presets = [
        ("eager", Eagerness::Eager),
        ("balanced", Eagerness::Balanced),
        ("patient", Eagerness::Patient),
    ];
    let presets = presets.into_iter().map(|(name, eagerness)| {
        let config = TurnConfig {
            eagerness,
            ..TurnConfig::default()
        };
        (name.to_owned(), config)
    });
    let lengths = PLAIN.into_iter().chain(CURVE.map(|step| step * 200));
    presets.chain(lengths.map(|length| (format!("{length} ms of silence"), plain(length))))
}

/// The same detector, which decides on nothing but silence.
fn plain(length: u32) -> TurnConfig {
    let patience = Patience {
        delay_min_ms: length,
        delay_max_ms: length,
        delay_blind_ms: length,
        sure: CERTAIN,
    };
    TurnConfig {
        balanced: patience,
        ..TurnConfig::default()
    }
}

/// What a detector did on some material.
#[derive(Clone, Debug, Default)]
struct Score {
    pauses: u32,
    /// Pauses that were taken for the end.
    cut: u32,
    turns: u32,
    /// Turns with such a pause.
    turns_cut: u32,
    missed: u32,
    /// From the true end to the decision, in milliseconds, sorted when asked for.
    delays: Vec<u32>,
}

/// Who does not answer for so long has missed the end, in microseconds.
const ANSWER_MAX: u64 = 4_500_000;

impl Score {
    fn add(&mut self, scene: &Scene, features: &[Features], config: TurnConfig) {
        let ends = ends(features, config);
        for turn in &scene.turns {
            self.turns += 1;
            self.pauses += turn.pauses.len() as u32;
            // A decision that falls into a pause, or into the speech after it, ended the turn too soon.
            let within = |from: u64, to: u64| ends.iter().any(|end| (from..to).contains(&end.at.0));
            let nexts = turn
                .pauses
                .iter()
                .skip(1)
                .map(|pause| pause.0)
                .chain([turn.end]);
            let spans = turn.pauses.iter().zip(nexts);
            let cut = spans.filter(|(pause, next)| within(pause.0, *next)).count() as u32;
            self.cut += cut;
            self.turns_cut += u32::from(cut > 0);
            let answer = ends
                .iter()
                .find(|end| (turn.end..turn.end + ANSWER_MAX).contains(&end.at.0));
            match answer {
                Some(end) => self.delays.push(((end.at.0 - turn.end) / 1_000) as u32),
                None => self.missed += 1,
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.pauses += other.pauses;
        self.cut += other.cut;
        self.turns += other.turns;
        self.turns_cut += other.turns_cut;
        self.missed += other.missed;
        self.delays.extend(other.delays);
    }

    fn cut_rate(&self) -> f64 {
        f64::from(self.cut) / f64::from(self.pauses.max(1))
    }

    fn delay(&self, percent: usize) -> u32 {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let last = delays.len().saturating_sub(1);
        delays.get(last * percent / 100).copied().unwrap_or(0)
    }
}

fn ends(features: &[Features], config: TurnConfig) -> Vec<TurnEnd> {
    let mut detector = TurnDetector::new(config);
    let mut ends = Vec::new();
    for (frame, at) in features.iter().zip((0..).step_by(10_000)) {
        detector.handle_frame(CallTime(at), frame);
        while let Some(event) = detector.poll_event() {
            if let VoiceEvent::Ended(end) = event {
                ends.push(end);
            }
        }
    }
    ends
}

fn print(path: &str, scores: &[Score]) {
    let (shown, curve) = scores.split_at(3 + PLAIN.len());
    for ((name, _), score) in detectors().zip(shown) {
        println!(
            "| {path} | {name} | {:.1} % of {} | {:.1} % of {} | {} | {} | {} | {} | {} |",
            100.0 * score.cut_rate(),
            score.pauses,
            100.0 * f64::from(score.turns_cut) / f64::from(score.turns.max(1)),
            score.turns,
            score.delay(50),
            score.delay(90),
            score.delay(99),
            score.missed,
            equal(score, curve),
        );
    }
}

/// What plain silence gives where it cuts off as rarely, and where it waits as long: between the points of its curve.
fn equal(score: &Score, curve: &[Score]) -> String {
    let between = |x: f64, points: &[(f64, f64)]| {
        points.windows(2).find_map(|pair| {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let inside = (x0.min(x1)..=x0.max(x1)).contains(&x);
            (inside && x0 != x1).then(|| y0 + (x - x0) / (x1 - x0) * (y1 - y0))
        })
    };
    let points: Vec<_> = curve
        .iter()
        .map(|one| (one.cut_rate(), f64::from(one.delay(50))))
        .collect();
    let swapped: Vec<_> = points.iter().map(|(cut, delay)| (*delay, *cut)).collect();
    let delay = between(score.cut_rate(), &points);
    let cut = between(f64::from(score.delay(50)), &swapped);
    let delay = delay.map_or_else(|| "none".to_owned(), |delay| format!("{delay:.0} ms"));
    let cut = cut.map_or_else(|| "-".to_owned(), |cut| format!("{:.1} %", 100.0 * cut));
    format!("{delay}; {cut}")
}

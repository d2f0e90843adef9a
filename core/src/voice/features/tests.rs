//! What sounds become.

use std::f32::consts::TAU;

use super::*;

fn analyse(analyser: &mut Analyser, frames: u32, sample: impl Fn(usize) -> f32) -> Vec<Features> {
    let frame = |number: u32| {
        let start = number as usize * ANALYSED_SAMPLES;
        let samples = std::array::from_fn(|n| sample(start + n));
        analyser.analyse(&samples, &Side::default())
    };
    (0..frames).map(frame).collect()
}

/// A buzz of 120 Hz, as loud as a voice nearby.
fn buzz(n: usize) -> f32 {
    let time = n as f32 / 16_000.0;
    (1..=20_u16)
        .map(|k| 0.1 / f32::from(k) * (TAU * 120.0 * f32::from(k) * time).sin())
        .sum()
}

#[test]
fn digital_silence_is_silence_at_once_and_for_ever() {
    let mut analyser = Analyser::new();
    let loud = analyse(&mut analyser, 100, buzz);
    assert!(
        loud.iter()
            .skip(50)
            .all(|features| features.level > -30 * 256)
    );
    let silent = analyse(&mut analyser, 100, |_| 0.0);
    assert!(silent.iter().all(|features| features.speech == 0));
    assert!(
        silent
            .iter()
            .all(|features| features.level == Features::SILENCE.level)
    );
    assert!(silent.iter().all(|features| !features.voiced()));
}

#[test]
fn a_buzz_has_its_pitch() {
    let features = analyse(&mut Analyser::new(), 60, buzz);
    // The floor is the buzz's own level in the first 1.5 s: nothing stands above it.
    assert!(features.iter().all(|features| !features.voiced()));
    let mut analyser = Analyser::new();
    analyse(&mut analyser, 60, |n| {
        1e-3 * ((n * 7_919 % 1_000) as f32 / 500.0 - 1.0)
    });
    let features = analyse(&mut analyser, 60, buzz);
    // 1,200 log2(120 / 10) = 4,302 cents.
    for features in &features[10..] {
        assert!(features.pitch.abs_diff(4_302) < 30, "{features:?}");
    }
}

#[test]
fn no_sample_harms() {
    let mut analyser = Analyser::new();
    let hostile = [
        f32::NAN,
        f32::INFINITY,
        -f32::INFINITY,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-40,
    ];
    analyse(&mut analyser, 50, |n| hostile[n % hostile.len()]);
    analyse(&mut analyser, 200, |_| 0.0);
    let mut fresh = Analyser::new();
    let after = analyse(&mut analyser, 100, buzz);
    let same = analyse(&mut fresh, 100, buzz);
    let alike = after.iter().zip(&same).skip(50);
    assert!(alike.clone().all(|(one, other)| one.level == other.level));
    let side = Side {
        denoiser: Some(f32::NAN),
        model: Some(f32::NEG_INFINITY),
        echo: Some(f32::INFINITY),
        concealed: true,
    };
    let features = analyser.analyse(&[0.1; ANALYSED_SAMPLES], &side);
    assert!(features.concealed && features.speech <= CERTAIN);
    assert_eq!(features.echo, CERTAIN);
}

#[test]
fn a_reset_analyser_is_a_new_one() {
    let mut analyser = Analyser::new();
    analyse(&mut analyser, 77, buzz);
    analyser.reset();
    assert_eq!(
        analyse(&mut analyser, 77, buzz),
        analyse(&mut Analyser::new(), 77, buzz)
    );
}

#[test]
fn a_model_counts_as_much_as_all_else() {
    let speech = |model| {
        let (mut analyser, mut last) = (Analyser::new(), Features::SILENCE);
        let side = Side {
            model,
            ..Side::default()
        };
        for _ in 0..50 {
            last = analyser.analyse(&std::array::from_fn(buzz), &side);
        }
        i32::from(last.speech)
    };
    let (none, low, high) = (speech(None), speech(Some(0.0)), speech(Some(1.0)));
    assert!((low - none / 2).abs() <= 1, "{low} of {none}");
    assert!(
        (high - low - i32::from(CERTAIN) / 2).abs() <= 1,
        "{high} over {low}"
    );
}

#[test]
fn a_denoiser_has_its_part() {
    assert!((fuse(0.8, None, 0.8) - 0.8).abs() < 1e-6);
    assert!((fuse(0.8, Some(0.0), 0.8) - 0.56).abs() < 1e-6);
    assert!((fuse(1.0, Some(1.0), 1.0) - 1.0).abs() < 1e-6);
}

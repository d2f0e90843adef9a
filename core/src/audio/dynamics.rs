//! Gains that follow the level: a noise gate and a compressor. Both channels get the same.

use crate::audio::smooth::{decibels, factor, keep, piece};
use crate::audio::{AudioFrame, Rate, Stage};

/// Seconds between two decisions on the gain.
const STEP: f32 = 0.0005;

/// The largest absolute value of a piece, all channels together; what is not a number counts as nothing.
fn peak(frame: &AudioFrame, start: usize, length: usize) -> f32 {
    let channels = 0..frame.channels().count();
    channels
        .flat_map(|index| &frame.channel(index)[start..start + length])
        .fold(0.0, |peak, sample| sample.abs().max(peak))
}

/// Scales a piece by a gain that goes from one value to another.
fn ramp(frame: &mut AudioFrame, start: usize, length: usize, from: f32, to: f32) {
    if from == 1.0 && to == 1.0 {
        return;
    }
    let step = (to - from) / length as f32;
    for channel in frame.channels_mut() {
        for (index, sample) in channel[start..start + length].iter_mut().enumerate() {
            *sample *= from + step * (index + 1) as f32;
        }
    }
}

/// What a [`NoiseGate`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateSettings {
    /// Peaks above this open it: decibels of full scale.
    pub open_db: f32,
    /// It closes when all stays below this; below `open_db`, or it would flutter.
    pub close_db: f32,
    /// How much softer what it closes on becomes, decibels; -90 or less is nothing.
    pub range_db: f32,
    /// Seconds to open.
    pub attack: f32,
    /// Seconds to close.
    pub release: f32,
    /// Seconds before it begins to.
    pub hold: f32,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            open_db: -45.0,
            close_db: -51.0,
            range_db: -30.0,
            attack: 0.001,
            release: 0.080,
            hold: 0.150,
        }
    }
}

/// Makes what is softer than speech softer still.
#[derive(Clone, Debug)]
pub struct NoiseGate {
    piece: usize,
    open: f32,
    close: f32,
    floor: f32,
    opening: f32,
    closing: f32,
    hold: u32,
    /// Pieces until it may close; it is open while there are any.
    held: u32,
    gain: f32,
}

impl NoiseGate {
    /// For frames of `rate`.
    #[must_use]
    pub fn new(rate: Rate, settings: GateSettings) -> Self {
        let floor = if settings.range_db <= -90.0 {
            0.0
        } else {
            factor(settings.range_db.min(0.0))
        };
        Self {
            piece: piece(rate),
            open: factor(settings.open_db),
            close: factor(settings.close_db.min(settings.open_db)),
            floor,
            opening: keep(STEP, settings.attack),
            closing: keep(STEP, settings.release),
            hold: (settings.hold / STEP) as u32,
            held: 0,
            gain: floor,
        }
    }

    /// Whether it lets sound pass.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.held > 0
    }
}

impl Stage for NoiseGate {
    fn process(&mut self, frame: &mut AudioFrame) {
        for start in (0..frame.rate().frame()).step_by(self.piece) {
            let level = peak(frame, start, self.piece);
            let holds = level > self.open || level > self.close && self.is_open();
            self.held = if holds {
                self.hold.max(1)
            } else {
                self.held.saturating_sub(1)
            };
            let (target, keep) = if self.is_open() {
                (1.0, self.opening)
            } else {
                (self.floor, self.closing)
            };
            let left = (self.gain - target) * keep;
            let gain = if left.abs() < 1e-4 {
                target
            } else {
                target + left
            };
            ramp(frame, start, self.piece, self.gain, gain);
            self.gain = gain;
        }
    }

    fn reset(&mut self) {
        self.held = 0;
        self.gain = self.floor;
    }
}

/// What a [`Compressor`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompressorSettings {
    /// Peaks above this become softer: decibels of full scale.
    pub threshold_db: f32,
    /// Decibels in for one out above it; at least 1.
    pub ratio: f32,
    /// Decibels around the threshold over which the ratio sets in.
    pub knee_db: f32,
    /// Seconds to become softer.
    pub attack: f32,
    /// Seconds to come back.
    pub release: f32,
    /// Decibels by which everything becomes louder.
    pub makeup_db: f32,
}

impl Default for CompressorSettings {
    fn default() -> Self {
        Self {
            threshold_db: -24.0,
            ratio: 3.0,
            knee_db: 6.0,
            attack: 0.005,
            release: 0.120,
            makeup_db: 6.0,
        }
    }
}

/// Makes loud sound softer: feed-forward in decibels, soft knee, smooth decoupled peak detector (Giannoulis, Massberg,
/// Reiss, "Digital Dynamic Range Compressor Design", 2012, equations 4 and 17).
#[derive(Clone, Debug)]
pub struct Compressor {
    settings: CompressorSettings,
    piece: usize,
    attack: f32,
    release: f32,
    /// Reduction after release, and after attack: decibels.
    released: f32,
    reduction: f32,
    gain: f32,
}

impl Compressor {
    /// For frames of `rate`.
    #[must_use]
    pub fn new(rate: Rate, settings: CompressorSettings) -> Self {
        let settings = CompressorSettings {
            ratio: settings.ratio.max(1.0),
            knee_db: settings.knee_db.max(0.0),
            ..settings
        };
        Self {
            settings,
            piece: piece(rate),
            attack: keep(STEP, settings.attack),
            release: keep(STEP, settings.release),
            released: 0.0,
            reduction: 0.0,
            gain: factor(settings.makeup_db),
        }
    }

    /// By how much it makes sound softer now: decibels, make-up left out.
    #[must_use]
    pub const fn reduction_db(&self) -> f32 {
        self.reduction
    }

    /// By how much a steady level is to become softer.
    fn decide_reduction(&self, level_db: f32) -> f32 {
        let CompressorSettings {
            threshold_db,
            ratio,
            knee_db,
            ..
        } = self.settings;
        let slope = 1.0 - 1.0 / ratio;
        let over = level_db - threshold_db;
        if 2.0 * over <= -knee_db {
            0.0
        } else if 2.0 * over >= knee_db {
            slope * over
        } else {
            let into = over + knee_db / 2.0;
            slope * into * into / (2.0 * knee_db)
        }
    }
}

impl Stage for Compressor {
    fn process(&mut self, frame: &mut AudioFrame) {
        for start in (0..frame.rate().frame()).step_by(self.piece) {
            // 40 dB over full scale is no sound.
            let level = peak(frame, start, self.piece).min(100.0);
            let wanted = self.decide_reduction(decibels(level));
            let released = self.release * self.released + (1.0 - self.release) * wanted;
            self.released = wanted.max(released);
            let reduction = self.attack * self.reduction + (1.0 - self.attack) * self.released;
            // A thousandth of a decibel is nothing, and would become a denormal number.
            let small = |db: f32| if db < 0.001 { 0.0 } else { db };
            self.released = small(self.released);
            self.reduction = small(reduction);
            let gain = factor(self.settings.makeup_db - self.reduction);
            ramp(frame, start, self.piece, self.gain, gain);
            self.gain = gain;
        }
    }

    fn reset(&mut self) {
        self.released = 0.0;
        self.reduction = 0.0;
        self.gain = factor(self.settings.makeup_db);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::signal;
    use crate::audio::testing::process;

    const RATES: [Rate; 3] = [Rate::Hz8000, Rate::Hz16000, Rate::Hz48000];

    /// Decibels of the last 100 ms of a second of a tone of so many, out over in.
    fn change(stage: &mut impl Stage, rate: Rate, db: f32) -> f32 {
        let input = signal::tone(rate, 1_000.0, factor(db), rate.hz() as usize);
        let output = process(stage, rate, &input);
        let last = rate.hz() as usize * 9 / 10..;
        decibels(signal::rms(&output[last.clone()])) - decibels(signal::rms(&input[last]))
    }

    #[test]
    fn the_gate_opens_for_speech_and_closes_for_noise() {
        for rate in RATES {
            let settings = GateSettings::default();
            assert!(change(&mut NoiseGate::new(rate, settings), rate, -40.0).abs() < 0.1);
            let closed = change(&mut NoiseGate::new(rate, settings), rate, -48.0);
            assert!((closed - settings.range_db).abs() < 0.5, "{closed}");
        }
    }

    #[test]
    fn the_gate_holds_between_its_thresholds_and_for_a_while_after() {
        let rate = Rate::Hz16000;
        let mut gate = NoiseGate::new(
            rate,
            GateSettings {
                range_db: -100.0,
                ..GateSettings::default()
            },
        );
        process(
            &mut gate,
            rate,
            &signal::tone(rate, 500.0, factor(-40.0), 1_600),
        );
        // Between both thresholds it stays as it is, however long.
        process(
            &mut gate,
            rate,
            &signal::tone(rate, 500.0, factor(-48.0), 16_000),
        );
        assert!(gate.is_open());
        process(&mut gate, rate, &[0.0; 1_600]);
        assert!(gate.is_open(), "held for 150 ms");
        process(&mut gate, rate, &[0.0; 1_600]);
        assert!(!gate.is_open());
        process(&mut gate, rate, &[0.0; 16_000]);
        let soft = signal::tone(rate, 500.0, factor(-48.0), 1_600);
        assert_eq!(signal::peak(&process(&mut gate, rate, &soft)), 0.0);
    }

    #[test]
    fn the_compressor_follows_its_curve() {
        for rate in RATES {
            let settings = CompressorSettings::default();
            // Below, at, and 12 dB above the threshold; a tone's peak is its level.
            for (level, expected) in [
                (-40.0, 6.0),
                (-24.0, 6.0 - 0.5),
                (-12.0, 6.0 - 8.0),
                (0.0, 6.0 - 16.0),
            ] {
                let got = change(&mut Compressor::new(rate, settings), rate, level);
                assert!(
                    (got - expected).abs() < 0.3,
                    "{rate:?} {level}: {got}, {expected}"
                );
            }
        }
    }

    #[test]
    fn the_compressor_takes_its_time() {
        let rate = Rate::Hz48000;
        let settings = CompressorSettings {
            makeup_db: 0.0,
            ..CompressorSettings::default()
        };
        let mut compressor = Compressor::new(rate, settings);
        let loud = signal::tone(rate, 1_000.0, 1.0, 48_000);
        process(&mut compressor, rate, &loud[..480]);
        // Two attacks: 86 % of 16 dB.
        assert!(
            (compressor.reduction_db() - 13.8).abs() < 1.0,
            "{}",
            compressor.reduction_db()
        );
        process(&mut compressor, rate, &loud);
        let most = compressor.reduction_db();
        process(&mut compressor, rate, &[0.0; 5_760]);
        let share = compressor.reduction_db() / most;
        assert!((share - 0.37).abs() < 0.03, "{share}");
        process(&mut compressor, rate, &[0.0; 96_000]);
        assert_eq!(compressor.reduction_db(), 0.0);
    }

    #[test]
    fn what_is_not_finite_leaves_nothing_behind() {
        let rate = Rate::Hz16000;
        let mut stages = (
            NoiseGate::new(rate, GateSettings::default()),
            Compressor::new(rate, CompressorSettings::default()),
        );
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            process(&mut stages, rate, &[bad; 160]);
        }
        let output = process(&mut stages, rate, &signal::tone(rate, 500.0, 0.1, 32_000));
        assert!(output.iter().all(|x| x.is_finite()));
        assert!(signal::rms(&output[16_000..]) > 0.05);
    }
}

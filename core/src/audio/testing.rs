//! What the tests of stages share.

use crate::audio::{AudioFrame, Channels, Rate, Stage, signal};

/// Takes a signal of whole frames through a stage.
pub(super) fn process(stage: &mut impl Stage, rate: Rate, input: &[f32]) -> Vec<f32> {
    let mut output = Vec::with_capacity(input.len());
    for samples in input.chunks_exact(rate.frame()) {
        let mut frame = AudioFrame::new(rate, Channels::Mono);
        frame.channel_mut(0).copy_from_slice(samples);
        stage.process(&mut frame);
        output.extend_from_slice(frame.channel(0));
    }
    output
}

/// By how many decibels a stage makes a soft tone louder, once settled.
pub(super) fn gain_db(stage: &mut impl Stage, rate: Rate, hz: f32) -> f32 {
    let input = signal::tone(rate, hz, 0.05, rate.hz() as usize);
    let output = process(stage, rate, &input);
    let settled = rate.hz() as usize / 2..;
    20.0 * (signal::rms(&output[settled.clone()]) / signal::rms(&input[settled])).log10()
}

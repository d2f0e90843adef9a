//! Decoded sound on its way out, with a little of what is out already.

/// Samples in a row: what was handed out last, then what is to be handed out. All memory is taken when it is made.
#[derive(Debug)]
pub(super) struct Tape {
    samples: Box<[f32]>,
    /// Where the sound not yet handed out begins ...
    start: usize,
    /// ... and ends.
    end: usize,
    /// Samples before `start` that are kept.
    history: usize,
    /// Samples before those that are left free, to put sound in before `start`.
    margin: usize,
}

impl Tape {
    /// A tape of silence that keeps `history` samples, takes `waiting` at most, and lets `margin` be inserted.
    pub(super) fn new(history: usize, margin: usize, waiting: usize) -> Self {
        let start = margin + history;
        // Twice what must fit, so that it is moved back seldom.
        Self {
            samples: vec![0.0; start + 2 * waiting].into_boxed_slice(),
            start,
            end: start,
            history,
            margin,
        }
    }

    /// Samples not yet handed out.
    pub(super) const fn waiting(&self) -> usize {
        self.end - self.start
    }

    /// Room behind the last sample; as much as there is, at most `samples`.
    pub(super) fn room(&mut self, samples: usize) -> &mut [f32] {
        if self.end + samples > self.samples.len() {
            let origin = self.start - self.history;
            self.samples.copy_within(origin..self.end, self.margin);
            self.start -= origin - self.margin;
            self.end -= origin - self.margin;
        }
        let until = self.samples.len().min(self.end + samples);
        &mut self.samples[self.end..until]
    }

    /// The first `samples` of the room are sound now.
    pub(super) fn commit(&mut self, samples: usize) {
        self.end = (self.end + samples).min(self.samples.len());
    }

    /// Hands out the first samples; there must be enough.
    pub(super) fn take(&mut self, out: &mut [f32]) {
        let until = self.start + out.len();
        out.copy_from_slice(&self.samples[self.start..until]);
        self.start = until;
    }

    /// The kept samples and those that wait, in two parts.
    pub(super) fn parts(&self) -> (&[f32], &[f32]) {
        let (before, rest) = self.samples.split_at(self.start);
        (
            &before[self.start - self.history..],
            &rest[..self.end - self.start],
        )
    }

    /// The last `before` samples ahead of the last `after` ones, and those, to change.
    pub(super) fn seam(&mut self, before: usize, after: usize) -> (&[f32], &mut [f32]) {
        let at = self.end - after;
        let (old, new) = self.samples.split_at_mut(at);
        (&old[at.saturating_sub(before)..], &mut new[..after])
    }

    /// Takes `period` samples out: the first two periods become one, cross-faded. At least two must wait.
    pub(super) fn shorten(&mut self, period: usize) {
        let start = self.start;
        for index in 0..period {
            let weight = (index as f32 + 0.5) / period as f32;
            let (from, to) = (start + index, start + period + index);
            self.samples[to] = self.samples[from] * (1.0 - weight) + self.samples[to] * weight;
        }
        let kept = start - self.history;
        self.samples.copy_within(kept..start, kept + period);
        self.start += period;
    }

    /// Puts `period` samples in: the last period handed out is played again, cross-faded with the one that waits.
    /// At least one must wait, be kept, and fit the margin.
    pub(super) fn lengthen(&mut self, period: usize) {
        let kept = self.start - self.history;
        self.samples.copy_within(kept..self.start, kept - period);
        let start = self.start - period;
        // Here lies the period handed out last, which is kept once more before it.
        for index in 0..period {
            let weight = (index as f32 + 0.5) / period as f32;
            let next = self.samples[self.start + index];
            let last = &mut self.samples[start + index];
            *last = next * (1.0 - weight) + *last * weight;
        }
        self.start = start;
        if self.start < self.margin + self.history {
            let moved = self.margin + self.history - self.start;
            self.samples
                .copy_within(self.start - self.history..self.end, self.margin);
            self.start += moved;
            self.end += moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(tape: &mut Tape, from: usize, count: usize) {
        for (value, sample) in (from..).zip(tape.room(count)) {
            *sample = value as f32;
        }
        tape.commit(count);
    }

    fn taken(tape: &mut Tape, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        tape.take(&mut out);
        out
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut tape = Tape::new(30, 10, 100);
        let mut next = 0;
        for step in 0..500 {
            let count = 10 + step * 7 % 50;
            ramp(&mut tape, next, count);
            next += count;
            while tape.waiting() > 40 {
                let first = (next - tape.waiting()) as f32;
                assert_eq!(tape.parts().0[29], (first - 1.0).max(0.0));
                assert_eq!(taken(&mut tape, 10)[0], first);
            }
        }
    }

    /// Of a periodic sound, a period less or more is heard as nothing at all.
    #[test]
    fn a_period_less_or_more_leaves_a_periodic_sound_as_it_was() {
        for longer in [false, true] {
            let mut tape = Tape::new(32, 16, 100);
            let wave = |index: usize| (index % 8) as f32;
            let mut next = 0;
            for round in 0..60 {
                while tape.waiting() < 40 {
                    tape.room(1)[0] = wave(next);
                    tape.commit(1);
                    next += 1;
                }
                let waiting = tape.waiting();
                let at = next - waiting;
                if round > 10 && longer {
                    tape.lengthen(8);
                    assert_eq!(tape.waiting(), waiting + 8);
                } else if round > 10 {
                    tape.shorten(8);
                    assert_eq!(tape.waiting(), waiting - 8);
                }
                let (before, _) = tape.parts();
                if round > 10 {
                    assert_eq!(before[31], wave(at + 7));
                }
                for (index, sample) in taken(&mut tape, 10).into_iter().enumerate() {
                    assert_eq!(sample, wave(at + index), "round {round}");
                }
            }
        }
    }
}

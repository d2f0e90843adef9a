//! What to do next: one pure function.

use super::Mode;

/// What waits, as far as it matters. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferStatus {
    /// When frames are handed out.
    pub mode: Mode,
    /// Decoded sound that waits.
    pub ready: i64,
    /// The packet to be decoded next.
    pub next: Next,
    /// How long after its earliest possible arrival the next sample would be played now. While nothing was played yet,
    /// or in a pause: the next packet's first.
    pub delay: i64,
    /// What that should be.
    pub target: i64,
    /// How far from the target it may stray before the speed of playing is changed.
    pub slack: i64,
    /// The speed may be changed now: the last time is long enough ago, and speech did not just begin.
    pub may_stretch: bool,
    /// The last packet said that nothing follows for a while, or none was played yet.
    pub pause: bool,
    /// What is missing has been waited for as long as the mode lets it ([`Mode::ArrivalDriven`] only).
    pub overdue: bool,
}

/// The packet to be decoded next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// None waits.
    Nothing,
    /// The one that follows the last.
    Follows,
    /// A later one, with a gap before it of which so many microseconds are not yet filled.
    Gap {
        /// Not yet filled.
        missing: i64,
        /// The rest of the gap is one packet, of which it carries a copy.
        fec: bool,
    },
    /// The first after a pause: no number is missing, but time is; or the first of all.
    Spurt,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayoutOp {
    /// Hand out 10 ms of what is ready.
    Play,
    /// Decode the next packet.
    Decode,
    /// Decode the copy of the packet before the next.
    DecodeFec,
    /// Make up 10 ms.
    Conceal,
    /// 10 ms of a pause.
    Pause,
    /// Leave a period out, if the sound has any.
    Accelerate,
    /// Play a period twice, if the sound has any.
    Decelerate,
    /// Hand out nothing yet.
    Hold,
}

/// Microseconds of a frame.
const FRAME: i64 = 10_000;
/// What must be ready to take a period out: two of the longest.
const ACCELERATE_READY: i64 = 30_000;

/// Decides. Calling again after each operation comes to [`PlayoutOp::Play`] or [`PlayoutOp::Hold`] in the end.
#[must_use]
pub fn decide(status: &BufferStatus) -> PlayoutOp {
    if status.ready >= FRAME {
        return decide_speed(status);
    }
    let is_clocked = status.mode == Mode::Clocked;
    match status.next {
        // Or what was made up already filled the gap.
        Next::Follows | Next::Gap { missing: ..=0, .. } => PlayoutOp::Decode,
        Next::Spurt if !is_clocked || status.delay >= status.target => PlayoutOp::Decode,
        Next::Spurt => PlayoutOp::Pause,
        Next::Gap { .. } | Next::Nothing if !is_clocked && !status.overdue => PlayoutOp::Hold,
        Next::Gap { fec: true, .. } => PlayoutOp::DecodeFec,
        Next::Nothing if status.pause => PlayoutOp::Pause,
        Next::Gap { .. } | Next::Nothing => PlayoutOp::Conceal,
    }
}

fn decide_speed(status: &BufferStatus) -> PlayoutOp {
    if status.mode != Mode::Clocked || !status.may_stretch {
        return PlayoutOp::Play;
    }
    if status.delay > status.target + status.slack {
        return match status.next {
            _ if status.ready >= ACCELERATE_READY => PlayoutOp::Accelerate,
            Next::Follows => PlayoutOp::Decode,
            _ => PlayoutOp::Play,
        };
    }
    if status.delay < status.target - status.slack {
        return PlayoutOp::Decelerate;
    }
    PlayoutOp::Play
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MODES: [(&str, Mode); 2] = [
        ("clocked", Mode::Clocked),
        (
            "arrival",
            Mode::ArrivalDriven {
                wait: Duration::from_millis(60),
            },
        ),
    ];
    const NEXT: [(&str, Next); 6] = [
        ("nothing", Next::Nothing),
        ("follows", Next::Follows),
        ("gap", gap(20_000, false)),
        ("copy", gap(20_000, true)),
        ("filled", gap(0, true)),
        ("spurt", Next::Spurt),
    ];
    const TARGET: i64 = 40_000;

    const fn gap(missing: i64, fec: bool) -> Next {
        Next::Gap { missing, fec }
    }

    /// What is done when there is not enough to hand out: mode, next packet, whether the sender pauses, whether what is
    /// missing is overdue, the delay beside its target.
    const EMPTY: &str = "
        *       follows *      *       *     Decode
        *       filled  *      *       *     Decode
        clocked copy    *      *       *     DecodeFec
        clocked gap     *      *       *     Conceal
        clocked nothing speech *       *     Conceal
        clocked nothing pause  *       *     Pause
        clocked spurt   *      *       less  Pause
        clocked spurt   *      *       there Decode
        arrival spurt   *      *       *     Decode
        arrival copy    *      waits   *     Hold
        arrival gap     *      waits   *     Hold
        arrival nothing *      waits   *     Hold
        arrival copy    *      overdue *     DecodeFec
        arrival gap     *      overdue *     Conceal
        arrival nothing speech overdue *     Conceal
        arrival nothing pause  overdue *     Pause
    ";

    /// What is done when there is: mode, next packet, whether 30 ms are ready, whether the speed may be changed, the
    /// delay beside its target.
    const READY: &str = "
        arrival *       *     *     *     Play
        clocked *       *     fixed *     Play
        clocked *       *     may   there Play
        clocked *       *     may   less  Decelerate
        clocked *       long  may   more  Accelerate
        clocked follows short may   more  Decode
        clocked nothing short may   more  Play
        clocked gap     short may   more  Play
        clocked copy    short may   more  Play
        clocked filled  short may   more  Play
        clocked spurt   short may   more  Play
    ";

    /// The last word of the one row that fits.
    fn look_up(table: &str, case: &[&str]) -> String {
        let mut found = Vec::new();
        for row in table.lines().filter(|row| !row.trim().is_empty()) {
            let words: Vec<_> = row.split_whitespace().collect();
            let (op, words) = words.split_last().expect("a row has words");
            assert_eq!(words.len(), case.len(), "{row}");
            let fits = |(word, value): (&&str, &&str)| *word == "*" || word == value;
            if words.iter().zip(case).all(fits) {
                found.push((*op).to_owned());
            }
        }
        assert_eq!(found.len(), 1, "rows for {case:?}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn every_status_with_too_little_ready_has_its_operation() {
        for (mode_name, mode) in MODES {
            for (next_name, next) in NEXT {
                for (pause_name, pause) in [("speech", false), ("pause", true)] {
                    for (due_name, overdue) in [("waits", false), ("overdue", true)] {
                        for (delay_name, delay) in [("less", TARGET - 1), ("there", TARGET)] {
                            for ready in [0, FRAME - 1] {
                                let status = BufferStatus {
                                    mode,
                                    ready,
                                    next,
                                    delay,
                                    target: TARGET,
                                    slack: 10_000,
                                    may_stretch: ready == 0,
                                    pause,
                                    overdue,
                                };
                                let case = [mode_name, next_name, pause_name, due_name, delay_name];
                                let expected = look_up(EMPTY, &case);
                                assert_eq!(format!("{:?}", decide(&status)), expected, "{case:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_status_with_enough_ready_has_its_operation() {
        let readiness = [
            ("short", FRAME),
            ("short", ACCELERATE_READY - 1),
            ("long", ACCELERATE_READY),
            ("long", 150_000),
        ];
        let delays = [
            ("less", TARGET - 10_001),
            ("there", TARGET - 10_000),
            ("there", TARGET + 10_000),
            ("more", TARGET + 10_001),
        ];
        for (mode_name, mode) in MODES {
            for (next_name, next) in NEXT {
                for (ready_name, ready) in readiness {
                    for (may_name, may_stretch) in [("may", true), ("fixed", false)] {
                        for (delay_name, delay) in delays {
                            for pause in [false, true] {
                                let status = BufferStatus {
                                    mode,
                                    ready,
                                    next,
                                    delay,
                                    target: TARGET,
                                    slack: 10_000,
                                    may_stretch,
                                    pause,
                                    overdue: pause,
                                };
                                let case = [mode_name, next_name, ready_name, may_name, delay_name];
                                let expected = look_up(READY, &case);
                                assert_eq!(format!("{:?}", decide(&status)), expected, "{case:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}

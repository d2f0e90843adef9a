//! Properties that several modules must have together. Those of one module stand beside it.

mod demux;
mod determinism;
mod lanes;
mod parsers;
mod relay;
mod rtcp;
mod srtp;
mod time;

use proptest::test_runner::Config;

/// So many cases, and no files of failed ones: a failure shows its input, which becomes a test of its own.
fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

//! See `antiphon_core::fuzzing::agent_ops`.
#![no_main]

use antiphon_core::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::agent_ops(data));

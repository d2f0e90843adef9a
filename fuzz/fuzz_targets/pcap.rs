//! See `antiphon_core::fuzzing::pcap`.
#![no_main]

use antiphon_core::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::pcap(data));

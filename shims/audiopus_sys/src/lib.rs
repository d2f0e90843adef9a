//! libopus 1.6, built from source and linked statically, under the name by which `audiopus` knows its bindings.
//!
//! The crate of this name on crates.io takes an old system library where it finds one, without a word.
#![no_std]

pub use opusic_sys::*;

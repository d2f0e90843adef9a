//! Bodies of the fuzz targets, kept in the crate so that they break with it and not with a nightly.
//!
//! Each takes whatever bytes a fuzzer gives and panics when a promise is broken. "It does not panic" is the least
//! of them: what was read and can be written reads the same again, output is bounded by input, no number is given
//! out twice, nobody who proved nothing gets an answer. `fuzz/` calls them under libFuzzer, and
//! `proptests/tests/corpus.rs` calls them on stable, with the malformed inputs of others and with seeded ones.

mod repair;
mod script;
mod sdp;
mod shard;
mod srtp;
mod stun;
mod wire;

pub use repair::{nack_ops, rewrite_ops};
pub use sdp::{OFFER, sdp_offer, trickle_fragment};
pub use shard::{datagram_script, shard_datagrams};
pub use srtp::srtp;
pub use stun::binding_request;
pub(crate) use stun::{check, is_answer};
pub use wire::{payload, rtcp, rtp, stun};

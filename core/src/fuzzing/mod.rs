//! Bodies of the fuzz targets, kept in the crate so that they break with it and not with a fuzzer's compiler.
//!
//! Each takes whatever bytes a fuzzer gives and panics when a promise is broken. "It does not panic" is the least
//! of them: what was read and can be written reads the same again, output is bounded by input, no number is given
//! out twice, nobody who proved nothing gets an answer. `fuzz/` calls them under libFuzzer, and
//! `proptests/tests/corpus.rs` calls them on stable, with the committed corpora, with the malformed inputs of others
//! and with seeded ones.

mod agent;
#[cfg(feature = "replay")]
mod capture;
mod demux;
mod description;
mod jitter;
mod journal;
mod ops;
mod repair;
mod sdp;
mod session;
mod shard;
mod srtp;
mod stun;
mod wire;
mod world;

pub use agent::agent_ops;
#[cfg(feature = "replay")]
pub use capture::{pcap, pcapng};
pub use demux::{demux_crowd, demux_ops};
pub use jitter::jitter_ops;
pub use journal::{journal, journal_seeds};
pub use repair::{nack_ops, rewrite_ops};
pub use sdp::{OFFER, described_offer, sdp_offer, sdp_roundtrip, trickle_frag};
pub use session::session_datagrams;
pub use shard::{datagram, shard_ops};
pub use srtp::srtp;
pub use stun::binding_request;
pub(crate) use stun::{answer, check, is_answer};
pub use wire::{classify, payload, rtcp, rtp, stun};

//! Antiphon's sans-I/O core: datagrams and timestamps in; datagrams, events and deadlines out.
//!
//! One type does the work, the `Shard`. It performs no I/O, reads no clock, spawns nothing and takes
//! its randomness from a seed, so that the same inputs give the same outputs. A driver supplies
//! sockets, time and a way to wait; see `drive`.
#![forbid(unsafe_code)]

pub mod drive;
#[cfg(feature = "sim")]
pub mod fuzzing;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod message;
pub mod net;
pub mod plan;
pub mod rate;
pub mod receive;
pub mod repair;
#[cfg(feature = "replay")]
pub mod replay;
pub mod rng;
pub mod route;
pub mod sdp;
pub mod session;
pub mod shard;
pub mod srtp;
#[cfg(test)]
mod testing;
pub mod time;
pub mod wire;

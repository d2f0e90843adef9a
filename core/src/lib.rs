//! Antiphon's sans-I/O core: datagrams and timestamps in; datagrams, events and deadlines out.
//!
//! One type does the work, the `Shard`. It performs no I/O, reads no clock, spawns nothing and takes
//! its randomness from a seed, so that the same inputs give the same outputs. A driver supplies
//! sockets, time and a way to wait; see `drive`.
#![forbid(unsafe_code)]

/// Whether the core has bad luck at a [`bugs::Point`]; never, and at no cost, without the feature `mutations`.
#[cfg(feature = "mutations")]
macro_rules! buggify {
    ($shard:expr, $point:ident) => {
        $shard.bugs.strikes($crate::bugs::Point::$point)
    };
}
#[cfg(not(feature = "mutations"))]
macro_rules! buggify {
    ($shard:expr, $point:ident) => {
        false
    };
}

/// Whether a test planted this [`bugs::Mutation`]; never, and at no cost, without the feature `mutations`.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($shard:expr, $mutation:ident) => {
        $shard.bugs.has($crate::bugs::Mutation::$mutation)
    };
    ($shard:expr, $mutation:ident, each $every:literal) => {
        $shard
            .bugs
            .has_each($crate::bugs::Mutation::$mutation, $every)
    };
}
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($shard:expr, $mutation:ident $(, each $every:literal)?) => {
        false
    };
}

pub mod audio;
#[cfg(feature = "mutations")]
pub mod bugs;
mod call;
pub mod codec;
pub mod delays;
pub mod drive;
#[cfg(feature = "sim")]
pub mod fuzzing;
pub mod ids;
pub mod jitter;
pub mod journal;
pub mod limits;
pub mod message;
pub mod net;
pub mod plan;
pub mod rate;
pub mod receive;
pub mod relay;
pub mod repair;
#[cfg(feature = "replay")]
pub mod replay;
pub mod rng;
pub mod route;
pub mod sdp;
mod sequence;
pub mod session;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod srtp;
#[cfg(test)]
mod testing;
pub mod time;
pub mod voice;
pub mod wire;

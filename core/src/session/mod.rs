//! One peer.

pub mod transport;

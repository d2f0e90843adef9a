//! Opens the media sockets and starts a shard over each, on the runtime that was chosen.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use antiphon_core::drive::{Pump, ShardHandle, Tapped, Turner};
use antiphon_core::ids::ShardId;
use antiphon_core::message::Event;
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{ConfigError, Shard, ShardConfig};
use antiphon_runtime_glommio::Unavailable;
use antiphon_udp::{Clock, RECV_BUFFER_BYTES_WANTED, Socket};
use tracing::error;

use crate::capture::{Capture, CaptureError, Recorder};
use crate::config::{Config, RuntimeChoice};
use crate::control::{Link, event_lane};

/// Runtimes of this build, the preferred first.
const BUILT_IN: &str = if cfg!(feature = "smol") {
    "tokio, smol"
} else {
    "tokio"
};

/// Running shards, and what drives them.
#[derive(Debug)]
pub struct Shards {
    /// One a shard, in the order of their numbers.
    pub links: Vec<Link>,
    /// The runtime's name.
    pub runtime: &'static str,
    /// Why this one.
    pub reason: &'static str,
    /// What records them, if anything does.
    pub capture: Option<Capture>,
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The runtime is not part of this build.
    #[error("runtime = {0} is not in this build; it has {BUILT_IN}, and auto takes the first")]
    RuntimeMissing(&'static str),
    /// The machine does not let the runtime work.
    #[error("runtime = glommio cannot run here: {0}; or take runtime = auto")]
    RuntimeUnavailable(#[from] Unavailable),
    /// The media socket.
    #[error("cannot open the media socket {address} (media_ip, media_port): {error}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A media thread.
    #[error("cannot start a media thread: {0}")]
    Thread(io::Error),
    /// The DTLS certificate or the seed.
    #[error("cannot make the process's certificate or draw randomness: {0}")]
    Identity(String),
    /// A setting of the shard.
    #[error(transparent)]
    Shard(#[from] ConfigError),
    /// The capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

#[derive(Clone, Copy, Debug)]
enum Runtime {
    Tokio,
    #[cfg(feature = "smol")]
    Smol,
}

/// Starts the shards that `config` asks for.
///
/// # Errors
/// [`ShardsError`], naming the option to change.
pub fn start(config: &Config) -> Result<Shards, ShardsError> {
    let capture = config
        .capture
        .as_ref()
        .map(|choice| Capture::start(&choice.path, config.shards, choice.bytes_max));
    let capture = capture.transpose()?;
    let handle = capture.as_ref().map(Capture::handle);
    let identity = match &handle {
        Some(handle)
            if config
                .capture
                .as_ref()
                .is_some_and(|choice| choice.with_keys) =>
        {
            Identity::generate_telling(handle.secret_sink())
        }
        _ => Identity::generate(),
    };
    let identity = identity.map_err(|e| ShardsError::Identity(e.to_string()))?;
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|e| ShardsError::Identity(e.to_string()))?;
    let seed = Seed::new(seed);
    // All of them may sit in one room, which is one shard's. The server itself holds the total.
    let shared = Arc::new(ShardConfig {
        identity: Arc::new(identity),
        sessions_max: config.max_sessions,
    });
    shared.check()?;
    let pump = move |id: ShardId, clock: &Clock| {
        let seed = seed.derive("shard", u64::from(id.0));
        let shard = Shard::new(id, shared, clock.epoch(), seed);
        Pump::new(shard.expect("the configuration was checked"))
    };
    let shards = match handle {
        Some(handle) => start_with(config, move |id, clock| {
            Tapped::new(pump(id, clock), Recorder::new(handle, id, clock.epoch()))
        }),
        None => start_with(config, pump),
    };
    Ok(Shards { capture, ..shards? })
}

/// Starts a shard for each that `config` asks for; `make` makes what is driven, on its own thread.
///
/// # Errors
/// [`ShardsError`], naming the option to change. Shards that were started before are stopped.
pub fn start_with<T: Turner + 'static>(
    config: &Config,
    make: impl FnOnce(ShardId, &Clock) -> T + Clone + Send + 'static,
) -> Result<Shards, ShardsError> {
    let (runtime, reason) = decide_runtime(config.runtime)?;
    let mut shards = Shards {
        links: Vec::new(),
        runtime: runtime.name(),
        reason,
        capture: None,
    };
    for number in 0..config.shards {
        match start_one(config, runtime, ShardId(number), make.clone()) {
            Ok(link) => shards.links.push(link),
            Err(error) => {
                shards.links.into_iter().for_each(|link| (link.stop)());
                return Err(error);
            }
        }
    }
    Ok(shards)
}

fn decide_runtime(choice: RuntimeChoice) -> Result<(Runtime, &'static str), ShardsError> {
    match choice {
        RuntimeChoice::Auto => Ok((
            Runtime::Tokio,
            "it runs everywhere and nothing else was asked for",
        )),
        RuntimeChoice::Tokio => Ok((Runtime::Tokio, "it was asked for")),
        #[cfg(feature = "smol")]
        RuntimeChoice::Smol => Ok((Runtime::Smol, "it was asked for")),
        #[cfg(not(feature = "smol"))]
        RuntimeChoice::Smol => Err(ShardsError::RuntimeMissing("smol")),
        RuntimeChoice::Glommio => {
            antiphon_runtime_glommio::probe()?;
            Err(ShardsError::RuntimeMissing("glommio"))
        }
    }
}

fn start_one<T: Turner + 'static>(
    config: &Config,
    runtime: Runtime,
    id: ShardId,
    make: impl FnOnce(ShardId, &Clock) -> T + Send + 'static,
) -> Result<Link, ShardsError> {
    // 0 lets the kernel choose for every shard; else the configuration was checked to have room.
    let port = if config.media_port == 0 {
        0
    } else {
        config.media_port.saturating_add(id.0)
    };
    let address = SocketAddr::new(config.media_ip, port);
    let socket = Socket::bind(address, RECV_BUFFER_BYTES_WANTED)
        .map_err(|error| ShardsError::Socket { address, error })?;
    let (port, receive_buffer_bytes) = (socket.local_addr().port(), socket.recv_buffer_bytes());
    let (sink, events) = event_lane();
    let emit = move |event: Event| sink.emit(event);
    let make = move |clock: &Clock| make(id, clock);
    let handle = runtime
        .spawn(id, make, socket, emit)
        .map_err(ShardsError::Thread)?;
    let commands = handle.commands().clone();
    let stop = Box::new(move || stop_and_join(handle));
    Ok(Link {
        commands,
        events,
        port,
        receive_buffer_bytes,
        stop,
    })
}

fn stop_and_join(handle: ShardHandle) {
    let shard = handle.id().0;
    handle.stop();
    if handle.join().is_err() {
        error!(shard, "a media thread had panicked");
    }
}

impl Runtime {
    const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            #[cfg(feature = "smol")]
            Self::Smol => "smol",
        }
    }

    fn spawn<T: Turner + 'static>(
        self,
        id: ShardId,
        make: impl FnOnce(&Clock) -> T + Send + 'static,
        socket: Socket,
        emit: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<ShardHandle> {
        let clock = Clock::start();
        match self {
            Self::Tokio => antiphon_runtime_tokio::spawn(id, make, socket, clock, emit),
            #[cfg(feature = "smol")]
            Self::Smol => antiphon_runtime_smol::spawn(id, make, socket, clock, emit),
        }
    }
}

#[cfg(test)]
mod tests {
    use antiphon_core::drive::{Port, Turn};
    use antiphon_core::message::{Command, ShardStats};
    use antiphon_core::time::Timestamp;

    use super::*;

    /// Answers scrapes with its own number and does nothing else.
    struct Scraped(ShardId);

    impl Turner for Scraped {
        fn turn<P: Port>(&mut self, _now: Timestamp, port: &mut P) -> Turn {
            while let Some(command) = port.next_command() {
                if let Command::ShardStats { request } = command {
                    let stats = ShardStats {
                        sessions: self.0.0.into(),
                        ..ShardStats::default()
                    };
                    port.emit(Event::ShardStats {
                        request,
                        stats: Box::new(stats),
                    });
                }
            }
            Turn::Wait {
                deadline: None,
                writable: false,
            }
        }
    }

    fn config(lines: &str) -> Config {
        let text = format!("media_ip = \"127.0.0.1\"\nmedia_port = 0\n{lines}");
        Config::from_toml(&text).unwrap()
    }

    fn start(config: &Config) -> Result<Shards, ShardsError> {
        start_with(config, |id, _clock| Scraped(id))
    }

    #[test]
    fn each_shard_answers_on_its_own_lane_and_port_until_stopped() {
        for (choice, runtime) in [("auto", "tokio"), ("tokio", "tokio"), ("smol", "smol")] {
            let shards = start(&config(&format!("shards = 2\nruntime = \"{choice}\""))).unwrap();
            assert_eq!((shards.links.len(), shards.runtime), (2, runtime));
            assert_ne!(shards.links[0].port, shards.links[1].port);
            for (number, mut link) in (0..).zip(shards.links) {
                let request = antiphon_core::ids::RequestId(7);
                link.commands
                    .try_push(Command::ShardStats { request })
                    .unwrap();
                let Some(Event::ShardStats { stats, .. }) = link.events.blocking_recv() else {
                    panic!("no answer from shard {number} on {choice}");
                };
                assert_eq!(stats.sessions, number);
                (link.stop)();
                assert!(
                    link.events.blocking_recv().is_none(),
                    "the lane ends with the shard"
                );
            }
        }
    }

    #[test]
    fn a_port_that_is_taken_and_a_runtime_that_is_missing_are_named() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = format!("media_ip = \"127.0.0.1\"\nmedia_port = {port}");
        let error = start(&Config::from_toml(&text).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("media_port"),
            "{error}"
        );
        let error = start(&config("runtime = \"glommio\""))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("glommio") && error.contains("tokio"),
            "{error}"
        );
    }
}

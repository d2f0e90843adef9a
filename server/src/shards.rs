//! Opens the media sockets and starts a shard over each, on the runtime that was chosen.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(feature = "glommio")]
use std::time::Duration;

#[cfg(feature = "mutations")]
use antiphon_core::bugs::Mutation;
use antiphon_core::drive::{Pump, RelayLanes, ShardHandle, Tapped, Turner};
use antiphon_core::ids::ShardId;
use antiphon_core::message::Event;
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{ConfigError, Shard, ShardConfig, Tuning};
use antiphon_udp::{Clock, RECV_BUFFER_BYTES_WANTED, Socket};
use tracing::error;

use crate::capture::{Capture, CaptureError, Recorder};
use crate::config::{Config, RuntimeChoice};
use crate::control::{Link, Site, event_lane};
use crate::journal::{Journal, JournalError};

/// Runtimes of this build, the preferred first.
const BUILT_IN: &str = match (cfg!(feature = "glommio"), cfg!(feature = "smol")) {
    (true, true) => "glommio, tokio, smol",
    (true, false) => "glommio, tokio",
    (false, true) => "tokio, smol",
    (false, false) => "tokio",
};
const ASKED_FOR: &str = "it was asked for";

/// Running shards, and what drives them.
#[derive(Debug)]
pub struct Shards {
    /// One a shard, in the order of their numbers.
    pub links: Vec<Link>,
    /// The runtime's name.
    pub runtime: &'static str,
    /// Why this one.
    pub reason: String,
    /// What records their datagrams, if anything does.
    pub capture: Option<Capture>,
    /// What records all that they take in, if anything does.
    pub journal: Option<Journal>,
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The runtime is not part of this build.
    #[error("runtime = {0} is not in this build, which has {BUILT_IN}; or take runtime = auto")]
    RuntimeMissing(&'static str),
    /// The machine does not let glommio work.
    #[error("runtime = glommio cannot run here: {0}; or take runtime = auto")]
    GlommioUnavailable(String),
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
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

#[derive(Clone, Debug)]
enum Runtime {
    Tokio,
    #[cfg(feature = "smol")]
    Smol,
    #[cfg(feature = "glommio")]
    Glommio {
        max_coalesce: Duration,
        /// One for each shard, or none at all.
        cpus: Vec<usize>,
    },
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
    let journal = config
        .journal
        .as_ref()
        .map(|choice| Journal::start(choice, config.shards));
    let journal = journal.transpose()?;
    let recorded = journal.as_ref().map(Journal::handle);
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
    // All of them may publish in one room, which is one shard's. The server itself holds the total.
    let shared = Arc::new(ShardConfig {
        identity: Arc::new(identity),
        sessions_max: config.max_sessions,
        tuning: Tuning::default(),
    });
    shared.check()?;
    #[cfg(feature = "mutations")]
    let plants_fault = config.plants_fault;
    let pump = move |id: ShardId, clock: &Clock| {
        let seed = seed.derive("shard", u64::from(id.0));
        let shard = Shard::new(id, shared, clock.epoch(), seed);
        #[cfg_attr(
            not(feature = "mutations"),
            expect(unused_mut, reason = "only a bug is planted in it")
        )]
        let mut shard = shard.expect("the configuration was checked");
        #[cfg(feature = "mutations")]
        if plants_fault {
            shard.bugs_mut().plant(Mutation::FaultAtLength);
        }
        match recorded {
            Some(journal) => journal.record(shard),
            None => Pump::new(shard),
        }
    };
    let shards = match handle {
        Some(handle) => start_with(config, move |id, clock| {
            Tapped::new(pump(id, clock), Recorder::new(handle, id, clock.epoch()))
        }),
        None => start_with(config, pump),
    };
    Ok(Shards {
        capture,
        journal,
        ..shards?
    })
}

/// Starts a shard for each that `config` asks for; `make` makes what is driven, on its own thread.
///
/// # Errors
/// [`ShardsError`], naming the option to change. Shards that were started before are stopped.
pub fn start_with<T: Turner + 'static>(
    config: &Config,
    make: impl FnOnce(ShardId, &Clock) -> T + Clone + Send + 'static,
) -> Result<Shards, ShardsError> {
    let (runtime, reason) = decide_runtime(config)?;
    let mut shards = Shards {
        links: Vec::new(),
        runtime: runtime.name(),
        reason,
        capture: None,
        journal: None,
    };
    let among = Among {
        clock: Clock::start(),
        relays: RelayLanes::among(config.shards),
    };
    for number in 0..config.shards {
        match start_one(config, &runtime, &among, ShardId(number), make.clone()) {
            Ok(link) => shards.links.push(link),
            Err(error) => {
                shards.links.into_iter().for_each(|link| (link.stop)());
                return Err(error);
            }
        }
    }
    Ok(shards)
}

fn decide_runtime(config: &Config) -> Result<(Runtime, String), ShardsError> {
    let asked_for = |runtime| Ok((runtime, ASKED_FOR.to_owned()));
    match config.runtime {
        RuntimeChoice::Auto => Ok(match glommio(config) {
            Ok(glommio) => (glommio, "io_uring works here".to_owned()),
            Err(ShardsError::GlommioUnavailable(why)) => (Runtime::Tokio, why),
            Err(_) => (Runtime::Tokio, format!("this build has {BUILT_IN}")),
        }),
        RuntimeChoice::Tokio => asked_for(Runtime::Tokio),
        #[cfg(feature = "smol")]
        RuntimeChoice::Smol => asked_for(Runtime::Smol),
        #[cfg(not(feature = "smol"))]
        RuntimeChoice::Smol => Err(ShardsError::RuntimeMissing("smol")),
        RuntimeChoice::Glommio => asked_for(glommio(config)?),
    }
}

#[cfg(feature = "glommio")]
fn glommio(config: &Config) -> Result<Runtime, ShardsError> {
    antiphon_runtime_glommio::probe()
        .map_err(|why| ShardsError::GlommioUnavailable(why.to_string()))?;
    Ok(Runtime::Glommio {
        max_coalesce: config.max_coalesce,
        cpus: antiphon_runtime_glommio::cpus_for(config.shards.into()),
    })
}

#[cfg(not(feature = "glommio"))]
fn glommio(_: &Config) -> Result<Runtime, ShardsError> {
    Err(ShardsError::RuntimeMissing("glommio"))
}

/// What the shards of a process share: one clock, as a packet that is relayed is stamped by it, and their lanes.
struct Among {
    clock: Clock,
    relays: RelayLanes,
}

fn start_one<T: Turner + 'static>(
    config: &Config,
    runtime: &Runtime,
    among: &Among,
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
    let (sink, events) = event_lane();
    let site = Site {
        port: socket.local_addr().port(),
        cpu: runtime.cpu(id),
        receive_buffer_bytes: socket.recv_buffer_bytes(),
        socket: socket.counters(),
        events_lost: sink.lost(),
        relays: among.relays.clone(),
    };
    let emit = move |event: Event| sink.emit(event);
    let make = move |clock: &Clock| make(id, clock);
    let handle = runtime
        .spawn(id, make, socket, among, emit)
        .map_err(ShardsError::Thread)?;
    let commands = handle.commands().clone();
    let stop = Box::new(move || stop_and_join(handle));
    Ok(Link {
        commands,
        events,
        site,
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
    const fn name(&self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            #[cfg(feature = "smol")]
            Self::Smol => "smol",
            #[cfg(feature = "glommio")]
            Self::Glommio { .. } => "glommio",
        }
    }

    /// The processor a shard has to itself.
    fn cpu(&self, id: ShardId) -> Option<usize> {
        let cpus: &[usize] = match self {
            #[cfg(feature = "glommio")]
            Self::Glommio { cpus, .. } => cpus,
            _ => &[],
        };
        cpus.get(usize::from(id.0)).copied()
    }

    fn spawn<T: Turner + 'static>(
        &self,
        id: ShardId,
        make: impl FnOnce(&Clock) -> T + Send + 'static,
        socket: Socket,
        among: &Among,
        emit: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<ShardHandle> {
        let Among { clock, relays } = among;
        let clock = *clock;
        match self {
            Self::Tokio => antiphon_runtime_tokio::spawn(id, make, socket, clock, relays, emit),
            #[cfg(feature = "smol")]
            Self::Smol => antiphon_runtime_smol::spawn(id, make, socket, clock, relays, emit),
            #[cfg(feature = "glommio")]
            Self::Glommio { max_coalesce, .. } => {
                let settings = antiphon_runtime_glommio::Settings {
                    max_coalesce: *max_coalesce,
                    cpu: self.cpu(id),
                };
                antiphon_runtime_glommio::spawn(id, settings, make, socket, clock, relays, emit)
            }
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
        let best = glommio(&config("")).map_or("tokio", |it| it.name());
        for (choice, runtime) in [("auto", best), ("tokio", "tokio"), ("smol", "smol")] {
            let shards = start(&config(&format!("shards = 2\nruntime = \"{choice}\""))).unwrap();
            assert_eq!((shards.links.len(), shards.runtime), (2, runtime));
            let sites = [0, 1].map(|number: usize| shards.links[number].site.clone());
            assert_ne!(sites[0].port, sites[1].port);
            assert!(sites[0].cpu.is_none() || sites[0].cpu != sites[1].cpu);
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
    fn a_port_that_is_taken_is_named() {
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
    }

    #[test]
    fn glommio_runs_or_names_what_keeps_it_and_auto_then_gives_the_same_reason() {
        let refused = match start(&config("runtime = \"glommio\"")) {
            Ok(shards) => {
                assert_eq!((shards.runtime, &*shards.reason), ("glommio", ASKED_FOR));
                shards.links.into_iter().for_each(|link| (link.stop)());
                return;
            }
            Err(error) => error.to_string(),
        };
        assert!(
            refused.contains("glommio") && refused.contains("auto"),
            "{refused}"
        );
        let (runtime, reason) = decide_runtime(&config("")).expect("tokio runs everywhere");
        assert_eq!(runtime.name(), "tokio");
        assert!(
            refused.contains(&reason) || reason.contains(BUILT_IN),
            "{reason}"
        );
    }
}

//! `antiphon load`: makes many calls to a WHIP server and says what it took.
//!
//! ```text
//! signalling (HTTP, this thread) ── Join ──▶ engine (a thread or more: ICE, DTLS, SRTP, sockets)
//!                      report ◀── Outcomes ──┘
//! ```
//!
//! Each session is a real one: checks and consent, a handshake with the certificate compared, SRTP. What a browser
//! does besides is left out after the handshake: no reports, no codec, no jitter buffer.

mod call;
mod description;
mod engine;
mod figures;
mod handshake;
mod http;
mod ice;
mod limits;
mod media;
mod pace;
mod report;
mod signalling;
mod sockets;
mod stamp;
mod stun;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antiphon_core::audio::{Rate, signal};
use antiphon_core::codec::opus::OpusEncoder;
use antiphon_core::codec::{CodecError, Encoder as _, EncoderSettings};
use antiphon_core::rng::Seed;
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;
use clap::Args;
use hyper::header::HeaderValue;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use self::description::Role;
use self::engine::{Contents, Engine, Order, Outcomes, Pace};
use self::handshake::Credentials;
pub use self::http::Url;
use self::http::{Target, trust};
use self::limits::TOKEN_BYTES_MAX;
pub use self::limits::{CHURN_MAX, PPS_MAX, RATE_MAX, SECONDS_MAX, SESSIONS_MAX, THREADS_MAX};
use self::pace::Talk;
pub use self::report::Report;
use self::report::{Asked, Reading, Readings};
use self::signalling::{Churn, Made, Posters, Posting, Reasons, delete_all};
use self::sockets::Place;
pub use self::stamp::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use crate::process::Process;
use crate::progress::Progress;

/// Of a run in which not everybody connected, or somebody's session ended early.
const EXIT_PARTIAL: u8 = 1;
/// Of a run that did not take place.
const EXIT_FAILED: u8 = 2;
/// Between the last connection and the media phase: what is under way arrives.
const SETTLE: Duration = Duration::from_millis(200);
/// Between looks at how far things are.
const LOOK: Duration = Duration::from_millis(20);
/// Between readings of processor times.
const READ: Duration = Duration::from_secs(1);
/// Before the end of the media phase the last session that comes anew begins: it shall be connected by then.
const CHURN_REST: Duration = Duration::from_secs(2);
/// Descriptors that are not a session's socket: those of HTTP, and what the process has open.
const OTHER_DESCRIPTORS: u64 = 256;

/// The arguments of `antiphon load`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "With --whip alone its endpoint must echo, and every session sends and receives. With --whep one \
                        session publishes to --whip and all others receive it.\n\n\
                        A session is connected once its handshake is done and an authentic packet came back. Of what \
                        a subscriber receives, every packet is counted and one in 32 opened.\n\n\
                        A server of several shards has a UDP port for each: --shards says what each came to. One \
                        thread makes some 75,000 packets a second each way; for more, give --threads as many \
                        processors as the server leaves free.\n\n\
                        Exit code: 0 if every session connected and stayed to the end, 1 if not, 2 if it could not \
                        be begun."
)]
pub struct Arguments {
    /// Where sessions are POSTed, such as http://127.0.0.1:8080/whip
    #[arg(long, value_name = "URL")]
    whip: Url,
    /// Where subscribers are POSTed, such as http://127.0.0.1:8080/whep/hall/load
    #[arg(long, value_name = "URL", conflicts_with = "talk")]
    whep: Option<Url>,
    /// Sessions; with --whep, subscribers
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_MAX)))]
    sessions: u32,
    /// POSTs a second
    #[arg(long, value_name = "R", default_value_t = 50.0, value_parser = rate)]
    rate: f64,
    /// Share of the sessions that send at any time, in talk-spurts that go round; the others rest
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
    talk: u32,
    /// Length of the media phase, which begins when all sessions are connected
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=SECONDS_MAX))]
    seconds: u64,
    /// Packets a second of a session that sends
    #[arg(long, value_name = "P", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(PPS_MAX)))]
    pps: u32,
    /// Sessions a second that leave in the media phase, once their packets are back, each followed by a new one in its
    /// place, up to 2 s before the end; who looks for leaks runs this for minutes, with --pid
    #[arg(long, value_name = "R", conflicts_with_all = ["whep", "speech"],
        value_parser = clap::value_parser!(u32).range(1..=i64::from(CHURN_MAX)))]
    churn: Option<u32>,
    /// Say how sessions spread over the server's UDP ports, one a shard, and what those of each came to
    #[arg(long)]
    shards: bool,
    /// Threads that share the sessions out, each with sockets of its own
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    threads: u32,
    /// Bytes of a packet's payload
    #[arg(long, value_name = "BYTES", default_value_t = 80,
        value_parser = clap::value_parser!(u16).range(PAYLOAD_BYTES_MIN as i64..=PAYLOAD_BYTES_MAX as i64))]
    payload: u16,
    /// Sends speech, three seconds in every seven, rather than stamps: for an agent, such as
    /// http://127.0.0.1:8080/whip?agent=tone. What it says back is counted, and none of it is lost
    #[arg(long, conflicts_with_all = ["talk", "payload"])]
    speech: bool,
    /// Bearer token of each request
    #[arg(long, value_name = "T", env = "ANTIPHON_TOKEN", hide_env_values = true, value_parser = token)]
    token: Option<HeaderValue>,
    /// Certificates (PEM) that an https:// server's must be signed by
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    ca: PathBuf,
    /// The server's process on this machine, to read its processor time and memory
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Why a session ended, or did not come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Ending {
    #[error("no connectivity check was answered: is the UDP port open?")]
    NoCheckAnswered,
    #[error("the DTLS handshake did not finish in time")]
    HandshakeUnfinished,
    #[error("the DTLS handshake failed")]
    HandshakeFailed,
    #[error("the certificate is not the one of the answer")]
    WrongCertificate,
    #[error(
        "no packet of its own came back: is the URL an echo's? What an agent says is counted with --speech"
    )]
    NoMedia,
    #[error("consent was not renewed for 30 s")]
    ConsentLost,
    #[error("the server ended it")]
    Closed,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An argument cannot be used.
    #[error("{option}: {why}")]
    Argument {
        /// Which.
        option: &'static str,
        /// Why not.
        why: String,
    },
    /// The machine does not give what it takes.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why there is none.
        error: io::Error,
    },
    /// The crypto library refused to work.
    #[error("the crypto library cannot make a certificate")]
    Crypto,
    /// The publisher could not be connected, so there is nothing to subscribe to.
    #[error("the publisher did not connect: {0}")]
    Publisher(String),
    /// The engine's thread panicked, which only a bug makes it do.
    #[error("the engine ended by itself; this is a bug")]
    Engine,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.01..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("0.01 to {RATE_MAX} POSTs a second are possible"))
}

fn token(text: &str) -> Result<HeaderValue, String> {
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
        return Err(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes"));
    }
    let value = HeaderValue::from_str(&format!("Bearer {text}"));
    let mut value = value.map_err(|_| "a token has printable characters alone".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Runs it and reports on standard output.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match measure(arguments) {
        Ok(report) => {
            let text = if arguments.json {
                format!("{}\n", report.to_json())
            } else {
                report.to_string()
            };
            // Nobody may be reading: the exit code tells too.
            io::stdout().write_all(text.as_bytes()).ok();
            if report.is_whole() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_PARTIAL)
            }
        }
        Err(error) => {
            // The last words; if they cannot be said, the exit code still tells.
            writeln!(io::stderr(), "antiphon load: {error}").ok();
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs it, on this thread and one of its own.
///
/// # Errors
/// [`LoadError`], when nothing could be measured; sessions that fail are in the report.
pub fn measure(arguments: &Arguments) -> Result<Report, LoadError> {
    let place = place(&arguments.whip).map_err(|error| LoadError::System {
        what: "no way to the server",
        error,
    })?;
    measure_from(arguments, place)
}

fn measure_from(arguments: &Arguments, place: Place) -> Result<Report, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| LoadError::System {
        what: "no event loop",
        error,
    })?;
    runtime.block_on(async { Load::start(arguments, place)?.run().await })
}

/// A run under way.
struct Load<'a> {
    arguments: &'a Arguments,
    clock: Clock,
    seed: Seed,
    credentials: Credentials,
    engine: Engine,
    place: Place,
    tls: Option<TlsConnector>,
    own: Process,
    server: Option<Process>,
    interrupt: Signal,
    /// Set once we were interrupted.
    stop: Arc<AtomicBool>,
    failures: Reasons,
    /// What is to be deleted, and where.
    resources: Vec<(Arc<Target>, Vec<Made>)>,
    /// Sessions called for others that had left.
    churned: u32,
    /// Sessions that cannot be deleted.
    left: u64,
}

impl<'a> Load<'a> {
    fn start(arguments: &'a Arguments, place: Place) -> Result<Self, LoadError> {
        let server = arguments.pid.map(Process::new);
        if server.as_ref().is_some_and(|server| !server.is_readable()) {
            return Err(LoadError::Argument {
                option: "--pid",
                why: "there is no such process on this machine, or it may not be read".to_owned(),
            });
        }
        let tls = arguments.tls()?;
        if let Place::Ports(_) = place {
            allow_descriptors(arguments.total())?;
        }
        let mut entropy = [0; 32];
        aws_lc_rs::rand::fill(&mut entropy).map_err(|_| LoadError::Crypto)?;
        let seed = Seed::new(entropy);
        let credentials = Credentials::generate().ok_or(LoadError::Crypto)?;
        let clock = Clock::start();
        let engine = Engine::start(clock, place, &arguments.pace()?, &credentials, &seed);
        let interrupt = signal(SignalKind::interrupt());
        let system = |what| move |error| LoadError::System { what, error };
        Ok(Self {
            arguments,
            clock,
            seed,
            credentials,
            engine: engine.map_err(system("no sockets, or no thread"))?,
            place,
            tls,
            own: Process::new(std::process::id()),
            server,
            interrupt: interrupt.map_err(system("no way to be interrupted"))?,
            stop: Arc::default(),
            failures: Reasons::default(),
            resources: Vec::new(),
            churned: 0,
            left: 0,
        })
    }

    async fn run(mut self) -> Result<Report, LoadError> {
        let idle = self.read();
        self.join_all().await;
        let joined = self.read();
        let phase = if self.connected() > 0 {
            self.talk().await
        } else {
            [joined.clone(), joined.clone(), joined.clone()]
        };
        let is_interrupted = self.is_stopped();
        let outcomes = self.engine.finish();
        let mut left = self.left;
        for (target, resources) in self.resources {
            left += delete_all(&target, resources).await;
        }
        let outcomes = outcomes.ok_or(LoadError::Engine)?;
        if self.arguments.whep.is_some() {
            has_published(&outcomes, &self.failures)?;
        }
        let [from, middle, until] = phase;
        let readings = Readings {
            idle,
            joined,
            from,
            middle,
            until,
        };
        let asked = Asked {
            sessions: self.arguments.total() + self.churned,
            churned: self.churned,
            is_speech: self.arguments.speech,
            by_shard: self.arguments.shards,
            threads: self.arguments.threads,
        };
        let mut report = Report::new(asked, self.failures, outcomes, readings);
        report.note_left(left);
        if is_interrupted {
            report.note_interrupted();
        }
        Ok(report)
    }

    async fn join_all(&mut self) {
        let (total, rate) = (self.arguments.total(), self.arguments.rate);
        let Some(whep) = &self.arguments.whep else {
            return self
                .join(&self.arguments.whip, Role::Echo, 0..total, rate)
                .await;
        };
        self.join(&self.arguments.whip, Role::Publish, 0..1, rate)
            .await;
        if self.connected() > 0 {
            self.join(whep, Role::Subscribe, 1..total, rate).await;
        }
    }

    /// Posts these sessions and waits until each is connected or has failed.
    async fn join(&mut self, url: &Url, role: Role, sessions: Range<u32>, rate: f64) {
        let target = Arc::new(Target {
            url: url.clone(),
            tls: self.tls.clone().filter(|_| url.is_secure()),
            authorization: self.arguments.token.clone(),
        });
        let mut bar = Progress::new(sessions.len() as u64, true);
        let posting = self.posting(Arc::clone(&target), role, sessions.clone(), rate);
        let mut posters = Posters::start(posting);
        let before = self.connected() + self.failed();
        let mut next_reading = self.clock.now() + READ;
        let posted = loop {
            self.pause(LOOK).await;
            if self.clock.now() >= next_reading {
                // A thread of the server's may end; what it used shall be seen.
                self.read();
                next_reading = next_reading + READ;
            }
            let settled = self.connected() + self.failed() - before;
            bar.note(settled, || {
                format!("{settled} of {} sessions", sessions.len())
            });
            let is_stopped = self.is_stopped();
            // Without its engine nothing settles any more; the report says that it is gone.
            let is_over = is_stopped || self.engine.has_ended();
            if let Some(posted) = posters.poll()
                && (settled >= posted.answered || is_over)
            {
                break std::mem::take(posted);
            }
        };
        self.left += posted.unknown_resources;
        self.failures.add(posted.reasons);
        self.resources.push((target, posted.resources));
    }

    fn posting(&self, target: Arc<Target>, role: Role, sessions: Range<u32>, rate: f64) -> Posting {
        Posting {
            clock: self.clock,
            target,
            role,
            fingerprint: self.credentials.fingerprint(),
            seed: self.seed.derive("offers", sessions.start.into()),
            addresses: self.engine.addresses.clone(),
            is_loopback: self.place == Place::Loopback,
            desk: self.engine.desk.clone(),
            sessions,
            rate,
            start: self.clock.now(),
            stop: Arc::clone(&self.stop),
        }
    }

    /// Begins to let sessions go and come until shortly before `until`, if that was asked for.
    fn start_churn(&mut self, until: Timestamp) -> Option<Churn> {
        let rate = self.arguments.churn?;
        let (target, resources) = self.resources.pop()?;
        let total = self.arguments.total();
        let mut posting = self.posting(Arc::clone(&target), Role::Echo, 0..total, rate.into());
        posting.seed = self.seed.derive("churn", 0);
        self.resources.push((target, Vec::new()));
        let lasts = until.since(posting.start);
        let ends = posting.start + (lasts - CHURN_REST.min(lasts / 2));
        Some(Churn::start(posting, resources, ends))
    }

    /// The media phase; readings at its start, once half of it is over and at its end.
    async fn talk(&mut self) -> [Reading; 3] {
        self.engine.desk.order(Order::Hush);
        self.pause(SETTLE).await;
        let seconds = Duration::from_secs(self.arguments.seconds);
        let mut bar = Progress::new(seconds.as_millis() as u64, true);
        let start = self.read();
        let (from, until) = (start.at, start.at + seconds);
        self.engine.desk.order(Order::Talk { from, until });
        let churn = self.start_churn(until);
        let (mut middle, mut end) = (None, start.clone());
        while end.at < until && !self.is_stopped() && !self.engine.has_ended() {
            let left = until.since(self.clock.now());
            self.pause(left.min(READ)).await;
            end = self.read();
            if middle.is_none() && end.at.since(from) >= seconds / 2 {
                middle = Some(end.clone());
            }
            let done = end.at.since(from).as_millis() as u64;
            let packets = end.packets;
            bar.note(done, || format!("{} s, {packets} packets", done / 1_000));
        }
        if let Some(churn) = churn {
            let interrupt = async {
                self.interrupt.recv().await;
                self.stop.store(true, Ordering::Relaxed);
            };
            let (churned, posted) = churn.finish(interrupt).await;
            self.churned = churned;
            self.left += posted.unknown_resources;
            self.failures.add(posted.reasons);
            if let Some((_, resources)) = self.resources.last_mut() {
                *resources = posted.resources;
            }
        }
        [start, middle.unwrap_or_else(|| end.clone()), end]
    }

    async fn pause(&mut self, duration: Duration) {
        tokio::select! {
            () = sleep(duration) => {}
            _ = self.interrupt.recv() => self.stop.store(true, Ordering::Relaxed),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connected(&self) -> u64 {
        self.engine.progress.connected.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.engine.progress.failed.load(Ordering::Relaxed)
    }

    fn read(&mut self) -> Reading {
        let progress = &self.engine.progress;
        let sent = progress.sent.load(Ordering::Relaxed);
        Reading {
            at: self.clock.now(),
            own_cpu: self.own.cpu(),
            own_threads: self.own.by_thread().clone(),
            own_resident: self.own.resident_bytes(),
            server: self
                .server
                .as_mut()
                .map(|server| (server.cpu(), server.resident_bytes())),
            packets: sent + progress.received.load(Ordering::Relaxed),
        }
    }
}

impl Arguments {
    /// Of sessions that an endpoint echoes, as the command has it for no further option.
    #[must_use]
    pub const fn echo(whip: Url, sessions: u32, seconds: u64) -> Self {
        Self {
            whip,
            whep: None,
            sessions,
            rate: 50.0,
            talk: 100,
            seconds,
            pps: 50,
            churn: None,
            shards: false,
            threads: 1,
            payload: 80,
            speech: false,
            token: None,
            ca: PathBuf::new(),
            pid: None,
            json: false,
        }
    }

    /// Sessions, the publisher included.
    fn total(&self) -> u32 {
        self.sessions + u32::from(self.whep.is_some())
    }

    fn pace(&self) -> Result<Pace, LoadError> {
        let interval = Duration::from_secs(1) / self.pps;
        let contents = if self.speech {
            let why = |error: CodecError| LoadError::Argument {
                option: "--speech",
                why: error.to_string(),
            };
            Contents::Speech(speech().map_err(why)?)
        } else {
            Contents::Stamps(self.payload.into())
        };
        Ok(Pace {
            sessions: self.total(),
            threads: self.threads,
            interval,
            talk: Talk::new(self.talk, interval),
            contents,
        })
    }

    fn tls(&self) -> Result<Option<TlsConnector>, LoadError> {
        let mut urls = [Some(&self.whip), self.whep.as_ref()].into_iter().flatten();
        if !urls.any(Url::is_secure) {
            return Ok(None);
        }
        let why = |why| LoadError::Argument {
            option: "--ca",
            why: format!("{}: {why}", self.ca.display()),
        };
        trust(&self.ca).map(Some).map_err(why)
    }
}

/// Without a publisher there is nothing that subscribers could measure.
fn has_published(outcomes: &Outcomes, failures: &Reasons) -> Result<(), LoadError> {
    let why = match outcomes.calls.first().copied().flatten() {
        Some(publisher) if publisher.connected.is_some() => return Ok(()),
        Some(publisher) => publisher.ended.map(|ending| ending.to_string()),
        None => failures.0.keys().next().cloned(),
    };
    Err(LoadError::Publisher(
        why.unwrap_or_else(|| "it was interrupted".to_owned()),
    ))
}

/// Where sessions call a server from.
fn place(url: &Url) -> io::Result<Place> {
    match url.address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ok(Place::Loopback),
        ip => {
            let any = SocketAddr::new(
                if ip.is_ipv4() {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    Ipv6Addr::UNSPECIFIED.into()
                },
                0,
            );
            // Sends nothing; the kernel chooses the address that leads there.
            let socket = UdpSocket::bind(any)?;
            socket.connect(url.address)?;
            Ok(Place::Ports(socket.local_addr()?.ip()))
        }
    }
}

/// Sees to a descriptor for each session's socket.
fn allow_descriptors(sessions: u32) -> Result<(), LoadError> {
    let needed = u64::from(sessions) + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    let is_allowed = limit.maximum.is_none_or(|maximum| maximum >= needed);
    if is_allowed && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(LoadError::Argument {
        option: "--sessions",
        why: format!(
            "{sessions} sessions to a server that is not on loopback take a socket each, and this process may have {} \
             descriptors: allow {needed} (ulimit -n), or ask for fewer",
            limit.maximum.unwrap_or(0)
        ),
    })
}

/// Three seconds of something like speech and four of a quiet room, in packets of 20 ms as browsers encode them.
fn speech() -> Result<Arc<[Arc<[u8]>]>, CodecError> {
    let rate = Rate::Hz48000;
    let mut encoder = OpusEncoder::new(rate, EncoderSettings::STANDARD);
    let mut sound = signal::voice(rate, 1, 3 * rate.hz() as usize);
    sound.extend(signal::noise(2, 0.0005, 4 * rate.hz() as usize));
    let packets = sound.chunks_exact(2 * rate.frame()).map(|samples| {
        let mut payload = [0; 1_000];
        let length = encoder.encode(samples, &mut payload)?;
        Ok(Arc::from(&payload[..length]))
    });
    packets.collect()
}

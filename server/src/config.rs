//! What the operator chose: flags over `ANTIPHON_*` variables over the configuration file.

mod text;

#[cfg(not(feature = "onnx"))]
use std::convert::Infallible;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use antiphon_core::journal::{Payloads, Retention};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

#[cfg(feature = "grpc")]
use self::text::agent_urls_text;
use self::text::{http_text, ip_text, ips_text, parse_http, parse_ip, parse_whole, whole};
#[cfg(not(feature = "onnx"))]
use self::text::{lacks_onnx, lacks_onnx_text};
#[cfg(feature = "grpc")]
use crate::agent::grpc::AgentUrl;
use crate::cli::Tool;
use crate::journal::JournalChoice;
#[cfg(feature = "grpc")]
use crate::limits::PROGRAM_NAMES_MAX;
use crate::limits::{ANNOUNCED_ADDRESSES_MAX, BODY_TIMEOUT, HEAD_TIMEOUT, WRITE_TIMEOUT};
#[cfg(feature = "onnx")]
use crate::model::ModelChoice;

const HTTP_DEFAULT: &str = "127.0.0.1:8080";
const MEDIA_PORT_DEFAULT: u16 = 40_000;
const MEDIA_PORT_MAX: u64 = 65_535;
#[cfg(feature = "onnx")]
const ONNX_RUNTIME_DEFAULT: &str = "libonnxruntime.so";
const SHARDS_DEFAULT: u16 = 1;
const SHARDS_MAX: u64 = 256;
const MAX_COALESCE_MICROS_DEFAULT: u64 = 500;
/// More would be heard: a datagram may wait as long in each shard.
const MAX_COALESCE_MICROS_MAX: u64 = 10_000;
const SESSIONS_DEFAULT: u32 = 10_000;
const SESSIONS_MAX: u64 = 1_000_000;
const DRAIN_SECS_DEFAULT: u64 = 10;
const DRAIN_SECS_MAX: u64 = 3_600;
const RATE_LIMIT_DEFAULT: u32 = 200;
const RATE_LIMIT_MAX: u64 = 1_000_000;
const CAPTURE_MIB_DEFAULT: u64 = 1_024;
const CAPTURE_MIB_MAX: u64 = 1 << 20;
const JOURNAL_MIB_DEFAULT: u64 = 1_024;
const JOURNAL_RING_MIB_DEFAULT: u64 = 64;
const JOURNAL_MIB_MAX: u64 = 1 << 20;
/// Set for the tests of a development tree, in whose shell the server may run.
const VECTORS_VARIABLE: &str = "ANTIPHON_VECTORS";

/// Everything the server needs to know before it starts, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Address the media sockets are bound to. `::` takes IPv4 as well.
    pub media_ip: IpAddr,
    /// UDP port of the first shard; shard `n` takes the `n`th after it. 0 lets the kernel choose.
    pub media_port: u16,
    /// Addresses to announce as candidates; empty: every usable address of the machine.
    pub announce: Vec<IpAddr>,
    /// Which runtime drives the shards.
    pub runtime: RuntimeChoice,
    /// How well what agents say is encoded.
    pub voice_quality: VoiceQuality,
    /// On glommio, the longest a busy shard waits for more datagrams; zero: never.
    pub max_coalesce: Duration,
    /// Count of shards.
    pub shards: u16,
    /// Sessions of all shards together.
    pub max_sessions: u32,
    /// Where programs that answer calls connect.
    #[cfg(feature = "grpc")]
    pub grpc: Option<SocketAddr>,
    /// Programs that the server dials.
    #[cfg(feature = "grpc")]
    pub agent_urls: Vec<AgentUrl>,
    /// Networks that judge or clean what agents hear, one a role.
    #[cfg(feature = "onnx")]
    pub voice_models: Vec<ModelChoice>,
    /// The library that runs them.
    #[cfg(feature = "onnx")]
    pub onnx_runtime: PathBuf,
    /// Who may do what; `None`: anybody anything.
    pub token_file: Option<PathBuf>,
    /// Whether HTTP is HTTPS.
    pub tls: TlsChoice,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How long a stop may take.
    pub drain: Duration,
    /// Web origins that may use the API from a browser; `*` for any.
    pub cors_origins: Vec<String>,
    /// POST, PATCH and DELETE requests a second for each client address; 0: no limit, nor one on what a
    /// client network holds, for a server behind a proxy, where all come from one address.
    pub rate_limit: u32,
    /// Whether every datagram is written to a file.
    pub capture: Option<CaptureChoice>,
    /// Whether all that shards take in is recorded.
    pub journal: Option<JournalChoice>,
    /// Whether every shard has a bug that makes sessions fault.
    #[cfg(feature = "mutations")]
    pub plants_fault: bool,
    /// How long slow senders are waited for.
    pub patience: Patience,
}

/// What is captured, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureChoice {
    /// A file that is not there yet.
    pub path: PathBuf,
    /// With the secrets to open it.
    pub with_keys: bool,
    /// Bytes it may grow to.
    pub bytes_max: u64,
}

/// How long the server waits for a client that sends or reads slowly. Not an option: tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For a client that takes nothing of its answer.
    pub write: Duration,
}

/// Where HTTPS takes its certificate from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsChoice {
    /// Plain HTTP.
    Off,
    /// PEM files.
    Files {
        /// The certificate and those that signed it.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made at start, signed by itself: for a lab.
    SelfSigned,
}

/// Which runtime drives the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// tokio.
    Tokio,
    /// glommio, on `io_uring`.
    Glommio,
    /// smol.
    Smol,
    /// The best this build and this machine have.
    #[default]
    Auto,
}

/// How well what agents say is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VoiceQuality {
    /// 24 kbit/s, and packets that are lost one at a time are mended
    #[default]
    Standard,
    /// 32 kbit/s without redundancy, for a third of the processor
    Economy,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What a journal keeps of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PayloadChoice {
    /// Headers and lengths, and no keys
    Headers,
    /// Everything, and the keys
    #[default]
    Full,
}

impl PayloadChoice {
    const fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Full => "full",
        }
    }
}

/// What a journal keeps when there is no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeepChoice {
    /// All from the start on, until there is no room
    #[default]
    Whole,
    /// The last, and what each session of it began with
    Ring,
}

impl KeepChoice {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Ring => "ring",
        }
    }
}

impl From<PayloadChoice> for Payloads {
    fn from(choice: PayloadChoice) -> Self {
        match choice {
            PayloadChoice::Headers => Self::Headers,
            PayloadChoice::Full => Self::Full,
        }
    }
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line or a variable. Also carries `--help` and `--version`.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// A tool behind options of the server.
    #[error("a tool comes first and takes options of its own; see `antiphon --help`")]
    MisplacedTool,
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The configuration file says something wrong; the text names line, key and value.
    #[error("the configuration file {path} is wrong: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A variable that is no option.
    #[error(
        "the environment sets {0}, which is no option; see `antiphon --help` for those that are"
    )]
    UnknownVariable(String),
    /// A value out of range, or one that contradicts another.
    #[error("{key} = {value} is not possible: {allowed}")]
    Value {
        /// Name as in the configuration file.
        key: &'static str,
        /// What was asked for.
        value: String,
        /// What is possible.
        allowed: String,
    },
}

#[derive(Debug, Parser)]
#[command(
    name = "antiphon",
    version,
    about = "Antiphon, a real-time media server"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    /// Configuration file (TOML). Flags and variables go before it.
    #[arg(long, global = true, env = "ANTIPHON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the server (the default).
    Serve,
    // Listed here for `--help`; `Tool::parse` has seen those that stand where they belong.
    #[command(flatten)]
    Tool(Tool),
}

/// The options, each as a flag, a variable and a key of the file.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Address and port of HTTP [default: 127.0.0.1:8080]
    #[arg(long, global = true, env = "ANTIPHON_HTTP", value_name = "ADDR", value_parser = parse_http)]
    #[serde(deserialize_with = "http_text")]
    http: Option<SocketAddr>,
    /// Address media sockets are bound to; `::` takes IPv4 too [default: ::]
    #[arg(long, global = true, env = "ANTIPHON_MEDIA_IP", value_name = "IP", value_parser = parse_ip)]
    #[serde(deserialize_with = "ip_text")]
    media_ip: Option<IpAddr>,
    /// First UDP port of media; each shard takes one [default: 40000]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_MEDIA_PORT",
        value_name = "PORT",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u16, 0, MEDIA_PORT_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u16, 0, MEDIA_PORT_MAX>")]
    media_port: Option<u16>,
    /// Address to announce to clients, again for each [default: all of this machine]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_ANNOUNCE",
        value_name = "IP",
        num_args = 1..,
        value_delimiter = ',',
        value_parser = parse_ip,
    )]
    #[serde(deserialize_with = "ips_text")]
    announce: Option<Vec<IpAddr>>,
    /// Runtime that drives the shards [default: auto]
    #[arg(long, global = true, env = "ANTIPHON_RUNTIME", value_name = "NAME")]
    runtime: Option<RuntimeChoice>,
    /// How well what agents say is encoded [default: standard]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_VOICE_QUALITY",
        value_name = "QUALITY"
    )]
    voice_quality: Option<VoiceQuality>,
    /// Microseconds a busy shard on glommio may wait for more datagrams; 0 for latency first [default: 500]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_MAX_COALESCE",
        value_name = "MICROSECONDS",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u64, 0, MAX_COALESCE_MICROS_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u64, 0, MAX_COALESCE_MICROS_MAX>")]
    max_coalesce: Option<u64>,
    /// Shards: media threads, each with its own UDP port [default: 1]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_SHARDS",
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u16, 1, SHARDS_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u16, 1, SHARDS_MAX>")]
    shards: Option<u16>,
    /// Sessions at one time [default: 10000]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_MAX_SESSIONS",
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u32, 1, SESSIONS_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u32, 1, SESSIONS_MAX>")]
    max_sessions: Option<u32>,
    /// Address and port where programs connect to answer calls, such as 127.0.0.1:50051 [default: off]
    #[cfg(feature = "grpc")]
    #[arg(long, global = true, env = "ANTIPHON_GRPC", value_name = "ADDR", value_parser = parse_http)]
    #[serde(deserialize_with = "http_text")]
    grpc: Option<SocketAddr>,
    /// A program that answers calls, which is dialled: NAME=http://HOST:PORT or https://, again for each
    #[cfg(feature = "grpc")]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_AGENT_URL",
        value_name = "NAME=URL",
        num_args = 1..,
        value_delimiter = ',',
    )]
    #[serde(deserialize_with = "agent_urls_text")]
    agent_url: Option<Vec<AgentUrl>>,
    /// A network (ONNX) for what agents hear: speech=FILE, turn=FILE or isolation=FILE, again for each
    #[cfg(feature = "onnx")]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_VOICE_MODEL",
        value_name = "ROLE=FILE",
        num_args = 1..,
        value_delimiter = ',',
    )]
    voice_model: Option<Vec<ModelChoice>>,
    /// The ONNX Runtime library that runs networks [default: libonnxruntime.so, where the system looks]
    #[cfg(feature = "onnx")]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_ONNX_RUNTIME",
        value_name = "FILE"
    )]
    onnx_runtime: Option<PathBuf>,
    /// Only of a build with networks
    #[cfg(not(feature = "onnx"))]
    #[arg(
        long,
        global = true,
        hide = true,
        env = "ANTIPHON_VOICE_MODEL",
        value_parser = lacks_onnx,
    )]
    #[serde(deserialize_with = "lacks_onnx_text")]
    voice_model: Option<Infallible>,
    /// Only of a build with networks
    #[cfg(not(feature = "onnx"))]
    #[arg(
        long,
        global = true,
        hide = true,
        env = "ANTIPHON_ONNX_RUNTIME",
        value_parser = lacks_onnx,
    )]
    #[serde(deserialize_with = "lacks_onnx_text")]
    onnx_runtime: Option<Infallible>,
    /// File of bearer tokens (TOML); without it everybody may do everything
    #[arg(long, global = true, env = "ANTIPHON_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate chain for HTTPS (PEM); needs --tls-key
    #[arg(long, global = true, env = "ANTIPHON_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, global = true, env = "ANTIPHON_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// HTTPS with a certificate made at start: for a lab
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_TLS_SELF_SIGNED",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
    )]
    tls_self_signed: Option<bool>,
    /// Allow HTTP and gRPC beyond loopback without tokens
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_INSECURE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
    )]
    insecure: Option<bool>,
    /// Log lines for people or for machines [default: text]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    log_format: Option<LogFormat>,
    /// Seconds a stop may take while sessions end [default: 10]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_DRAIN_SECONDS",
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u64, 0, DRAIN_SECS_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u64, 0, DRAIN_SECS_MAX>")]
    drain_seconds: Option<u64>,
    /// Web origin that may use the API from a browser, again for each [default: *]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_CORS_ORIGIN",
        value_name = "ORIGIN",
        num_args = 1..,
        value_delimiter = ',',
    )]
    cors_origin: Option<Vec<String>>,
    /// POST, PATCH and DELETE requests a second for each client address; 0 for no limit [default: 200]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_RATE_LIMIT",
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u32, 0, RATE_LIMIT_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u32, 0, RATE_LIMIT_MAX>")]
    rate_limit: Option<u32>,
    /// Writes every datagram of the media ports to a new pcapng file
    #[arg(long, global = true, env = "ANTIPHON_CAPTURE", value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Writes the secrets that open the calls into it too
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_CAPTURE_KEYS",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
    )]
    capture_keys: Option<bool>,
    /// MiB a capture may grow to [default: 1024]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_CAPTURE_MIB",
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u64, 1, CAPTURE_MIB_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u64, 1, CAPTURE_MIB_MAX>")]
    capture_mib: Option<u64>,
    /// Records all that the shards take in to files in this folder, for `antiphon replay`
    #[arg(long, global = true, env = "ANTIPHON_JOURNAL", value_name = "DIR")]
    journal: Option<PathBuf>,
    /// What a journal keeps of media; without payloads nothing of media is replayed [default: full]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_JOURNAL_PAYLOAD",
        value_name = "WHAT"
    )]
    journal_payload: Option<PayloadChoice>,
    /// Whether a journal keeps all, on disk, or in memory the last, which is written when a session faults or on
    /// SIGUSR1 [default: whole]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_JOURNAL_KEEP",
        value_name = "WHAT"
    )]
    journal_keep: Option<KeepChoice>,
    /// MiB a journal may grow to, or of its ring [default: 1024, of a ring 64]
    #[arg(
        long,
        global = true,
        env = "ANTIPHON_JOURNAL_MIB",
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = parse_whole::<u64, 1, JOURNAL_MIB_MAX>,
    )]
    #[serde(deserialize_with = "whole::<_, u64, 1, JOURNAL_MIB_MAX>")]
    journal_mib: Option<u64>,
    /// For tests: sessions fault at an RTP payload of 613 bytes
    #[cfg(feature = "mutations")]
    #[arg(
        long,
        global = true,
        hide = true,
        env = "ANTIPHON_PLANT_FAULT",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
    )]
    plant_fault: Option<bool>,
}

impl Config {
    /// Reads flags (`arguments` begin with the program's name), variables and the file.
    ///
    /// # Errors
    /// [`ConfigError`], which names key, value and what is allowed.
    pub fn load(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let cli = Cli::try_parse_from(arguments)?;
        check_variables(std::env::vars_os().map(|(name, _)| name))?;
        if let Some(Verb::Tool(_)) = cli.command {
            return Err(ConfigError::MisplacedTool);
        }
        let file = match &cli.config {
            Some(path) => read_file(path)?,
            None => Options::default(),
        };
        cli.options.or(file).check()
    }

    /// The configuration a text of the file's format gives, without flags and variables.
    ///
    /// # Errors
    /// [`ConfigError`], as `load`.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        parse_file(Path::new("(text)"), text)?.check()
    }
}

impl Options {
    /// `self` where it says something, `other` elsewhere.
    fn or(self, other: Self) -> Self {
        Self {
            http: self.http.or(other.http),
            media_ip: self.media_ip.or(other.media_ip),
            media_port: self.media_port.or(other.media_port),
            announce: self.announce.or(other.announce),
            runtime: self.runtime.or(other.runtime),
            voice_quality: self.voice_quality.or(other.voice_quality),
            max_coalesce: self.max_coalesce.or(other.max_coalesce),
            shards: self.shards.or(other.shards),
            max_sessions: self.max_sessions.or(other.max_sessions),
            #[cfg(feature = "grpc")]
            grpc: self.grpc.or(other.grpc),
            #[cfg(feature = "grpc")]
            agent_url: self.agent_url.or(other.agent_url),
            voice_model: self.voice_model.or(other.voice_model),
            onnx_runtime: self.onnx_runtime.or(other.onnx_runtime),
            token_file: self.token_file.or(other.token_file),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            tls_self_signed: self.tls_self_signed.or(other.tls_self_signed),
            insecure: self.insecure.or(other.insecure),
            log_format: self.log_format.or(other.log_format),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            cors_origin: self.cors_origin.or(other.cors_origin),
            rate_limit: self.rate_limit.or(other.rate_limit),
            capture: self.capture.or(other.capture),
            capture_keys: self.capture_keys.or(other.capture_keys),
            capture_mib: self.capture_mib.or(other.capture_mib),
            journal: self.journal.or(other.journal),
            journal_payload: self.journal_payload.or(other.journal_payload),
            journal_keep: self.journal_keep.or(other.journal_keep),
            journal_mib: self.journal_mib.or(other.journal_mib),
            #[cfg(feature = "mutations")]
            plant_fault: self.plant_fault.or(other.plant_fault),
        }
    }

    fn check(self) -> Result<Config, ConfigError> {
        let http = self
            .http
            .unwrap_or_else(|| HTTP_DEFAULT.parse().expect("a constant address"));
        let shards = self.shards.unwrap_or(SHARDS_DEFAULT);
        let media_port = self.media_port.unwrap_or(MEDIA_PORT_DEFAULT);
        if media_port.checked_add(shards - 1).is_none() {
            let allowed = format!("{shards} shards need as many ports up to 65535");
            return Err(refused("media_port", media_port, allowed));
        }
        let announce = self.announce.unwrap_or_default();
        check_announce(&announce)?;
        let cors_origins = self.cors_origin.unwrap_or_else(|| vec!["*".to_owned()]);
        cors_origins.iter().try_for_each(|it| check_origin(it))?;
        let guarded = self.token_file.is_some() || self.insecure.unwrap_or(false);
        check_reach("http", http, guarded)?;
        #[cfg(feature = "grpc")]
        if let Some(grpc) = self.grpc {
            check_reach("grpc", grpc, guarded)?;
        }
        let coalesce = self.max_coalesce.unwrap_or(MAX_COALESCE_MICROS_DEFAULT);
        Ok(Config {
            http,
            media_ip: self.media_ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            media_port,
            announce,
            runtime: self.runtime.unwrap_or_default(),
            voice_quality: self.voice_quality.unwrap_or_default(),
            max_coalesce: Duration::from_micros(coalesce),
            shards,
            max_sessions: self.max_sessions.unwrap_or(SESSIONS_DEFAULT),
            #[cfg(feature = "grpc")]
            grpc: self.grpc,
            #[cfg(feature = "grpc")]
            agent_urls: checked_agents(self.agent_url.unwrap_or_default())?,
            #[cfg(feature = "onnx")]
            voice_models: checked_models(self.voice_model.unwrap_or_default())?,
            #[cfg(feature = "onnx")]
            onnx_runtime: self.onnx_runtime.unwrap_or(ONNX_RUNTIME_DEFAULT.into()),
            token_file: self.token_file,
            tls: tls_choice(
                self.tls_cert,
                self.tls_key,
                self.tls_self_signed.unwrap_or(false),
            )?,
            log_format: self.log_format.unwrap_or_default(),
            drain: Duration::from_secs(self.drain_seconds.unwrap_or(DRAIN_SECS_DEFAULT)),
            cors_origins,
            rate_limit: self.rate_limit.unwrap_or(RATE_LIMIT_DEFAULT),
            capture: capture_choice(self.capture, self.capture_keys, self.capture_mib)?,
            journal: journal_choice(
                self.journal,
                self.journal_payload,
                self.journal_keep,
                self.journal_mib,
            )?,
            #[cfg(feature = "mutations")]
            plants_fault: self.plant_fault.unwrap_or(false),
            patience: Patience {
                head: HEAD_TIMEOUT,
                body: BODY_TIMEOUT,
                write: WRITE_TIMEOUT,
            },
        })
    }
}

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    parse_file(path, &text)
}

fn parse_file(path: &Path, text: &str) -> Result<Options, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        error: Box::new(error),
    })
}

/// A misspelt variable must not be silent. Kubernetes sets `ANTIPHON_SERVICE_*` and `ANTIPHON_PORT*`
/// for a service of this name: those are let pass.
fn check_variables(names: impl Iterator<Item = OsString>) -> Result<(), ConfigError> {
    use clap::CommandFactory as _;
    let command = Cli::command();
    let known = |name: &str| {
        command
            .get_arguments()
            .any(|arg| arg.get_env() == Some(name.as_ref()))
    };
    for name in names {
        let Some(name) = name.to_str().filter(|name| name.starts_with("ANTIPHON_")) else {
            continue;
        };
        let foreign = name.starts_with("ANTIPHON_SERVICE_")
            || name.starts_with("ANTIPHON_PORT")
            || name == VECTORS_VARIABLE;
        if !foreign && !known(name) {
            return Err(ConfigError::UnknownVariable(name.to_owned()));
        }
    }
    Ok(())
}

/// Whoever can reach a port without tokens may do everything there.
fn check_reach(key: &'static str, address: SocketAddr, guarded: bool) -> Result<(), ConfigError> {
    if guarded || address.ip().is_loopback() {
        return Ok(());
    }
    let allowed = "beyond loopback (127.0.0.1, [::1]) it needs `token_file`, or `insecure` to let everybody do \
                   everything";
    Err(refused(key, address, allowed))
}

#[cfg(feature = "grpc")]
fn checked_agents(urls: Vec<AgentUrl>) -> Result<Vec<AgentUrl>, ConfigError> {
    let names: std::collections::BTreeSet<_> = urls.iter().map(|url| &url.name).collect();
    let (built_in, many) = (["parrot", "tone"], urls.len() > PROGRAM_NAMES_MAX);
    if let Some(url) = urls
        .iter()
        .find(|url| built_in.contains(&url.name.as_str()))
    {
        return Err(refused(
            "agent_url",
            url,
            "the server has parrot and tone itself",
        ));
    }
    if names.len() < urls.len() || many {
        let allowed = format!("each name once, and at most {PROGRAM_NAMES_MAX}");
        return Err(refused(
            "agent_url",
            format!("{} agents", urls.len()),
            allowed,
        ));
    }
    Ok(urls)
}

#[cfg(feature = "onnx")]
fn checked_models(models: Vec<ModelChoice>) -> Result<Vec<ModelChoice>, ConfigError> {
    let roles: std::collections::BTreeSet<_> = models.iter().map(|model| model.role).collect();
    if roles.len() < models.len() {
        let count = format!("{} networks", models.len());
        return Err(refused("voice_model", count, "each role once"));
    }
    Ok(models)
}

fn check_announce(addresses: &[IpAddr]) -> Result<(), ConfigError> {
    if addresses.len() > ANNOUNCED_ADDRESSES_MAX {
        let allowed = format!("at most {ANNOUNCED_ADDRESSES_MAX} addresses");
        return Err(refused(
            "announce",
            format!("{} addresses", addresses.len()),
            allowed,
        ));
    }
    match addresses
        .iter()
        .find(|ip| ip.is_unspecified() || ip.is_multicast())
    {
        Some(ip) => Err(refused(
            "announce",
            ip,
            "name an address that clients can reach",
        )),
        None => Ok(()),
    }
}

/// An origin is scheme, host and maybe port, as a browser sends it (RFC 6454 §6.1): no path.
fn check_origin(origin: &str) -> Result<(), ConfigError> {
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let written_well = host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/')
    });
    if origin == "*" || written_well {
        return Ok(());
    }
    Err(refused(
        "cors_origin",
        origin,
        "`*`, or an origin such as https://example.org, without a path",
    ))
}

fn tls_choice(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    self_signed: bool,
) -> Result<TlsChoice, ConfigError> {
    match (certificate, key) {
        (None, None) if self_signed => Ok(TlsChoice::SelfSigned),
        (None, None) => Ok(TlsChoice::Off),
        (Some(certificate), Some(_)) if self_signed => {
            let allowed = "either `tls_self_signed` or `tls_cert` with `tls_key`";
            Err(refused("tls_cert", certificate.display(), allowed))
        }
        (Some(certificate), Some(key)) => Ok(TlsChoice::Files { certificate, key }),
        (Some(certificate), None) => Err(refused(
            "tls_cert",
            certificate.display(),
            "it needs `tls_key` beside it",
        )),
        (None, Some(key)) => Err(refused(
            "tls_key",
            key.display(),
            "it needs `tls_cert` beside it",
        )),
    }
}

fn capture_choice(
    path: Option<PathBuf>,
    keys: Option<bool>,
    mib: Option<u64>,
) -> Result<Option<CaptureChoice>, ConfigError> {
    let with_keys = keys.unwrap_or(false);
    if path.is_none() {
        let allowed = "it needs `capture` beside it";
        if with_keys {
            return Err(refused("capture_keys", true, allowed));
        }
        if let Some(mib) = mib {
            return Err(refused("capture_mib", mib, allowed));
        }
    }
    let mib = mib.unwrap_or(CAPTURE_MIB_DEFAULT);
    Ok(path.map(|path| CaptureChoice {
        path,
        with_keys,
        bytes_max: mib << 20,
    }))
}

fn journal_choice(
    folder: Option<PathBuf>,
    payload: Option<PayloadChoice>,
    keep: Option<KeepChoice>,
    mib: Option<u64>,
) -> Result<Option<JournalChoice>, ConfigError> {
    if folder.is_none() {
        let allowed = "it needs `journal` beside it";
        if let Some(payload) = payload {
            return Err(refused("journal_payload", payload.name(), allowed));
        }
        if let Some(keep) = keep {
            return Err(refused("journal_keep", keep.name(), allowed));
        }
        if let Some(mib) = mib {
            return Err(refused("journal_mib", mib, allowed));
        }
    }
    let retention = match keep.unwrap_or_default() {
        KeepChoice::Whole => Retention::Whole {
            budget: mib.unwrap_or(JOURNAL_MIB_DEFAULT) << 20,
        },
        KeepChoice::Ring => Retention::Ring {
            bytes: mib.unwrap_or(JOURNAL_RING_MIB_DEFAULT) << 20,
        },
    };
    Ok(folder.map(|folder| JournalChoice {
        folder,
        payloads: payload.unwrap_or_default().into(),
        retention,
    }))
}

fn refused(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        allowed: allowed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> impl Iterator<Item = OsString> {
        names
            .iter()
            .map(OsString::from)
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn a_misspelt_variable_is_named_and_those_of_kubernetes_pass() {
        let error = check_variables(names(&["PATH", "ANTIPHON_HTPP"])).unwrap_err();
        assert!(error.to_string().contains("ANTIPHON_HTPP"), "{error}");
        let foreign = [
            "ANTIPHON_SERVICE_HOST",
            "ANTIPHON_PORT_8080_TCP",
            "ANTIPHON_PORT",
        ];
        check_variables(names(&foreign)).unwrap();
        check_variables(names(&["ANTIPHON_HTTP", "ANTIPHON_CONFIG"])).unwrap();
    }

    #[test]
    fn a_journal_is_off_whole_and_full_unless_it_is_said_otherwise() {
        let journal = |text: &str| Config::from_toml(text).map(|config| config.journal);
        assert_eq!(journal("").unwrap(), None);
        let whole = journal("journal = \"kept\"").unwrap().unwrap();
        assert_eq!(whole.payloads, Payloads::Full);
        assert_eq!(whole.retention, Retention::Whole { budget: 1 << 30 });
        let ring = "journal = \"kept\"\njournal_keep = \"ring\"\njournal_payload = \"headers\"";
        let ring = journal(ring).unwrap().unwrap();
        assert_eq!(ring.payloads, Payloads::Headers);
        assert_eq!(ring.retention, Retention::Ring { bytes: 64 << 20 });
    }

    #[test]
    fn what_a_recording_is_to_be_needs_one() {
        for (alone, of) in [
            ("journal_keep = \"ring\"", "`journal`"),
            ("journal_payload = \"full\"", "`journal`"),
            ("journal_mib = 7", "`journal`"),
            ("capture_keys = true", "`capture`"),
            ("capture_mib = 7", "`capture`"),
        ] {
            let error = Config::from_toml(alone).unwrap_err().to_string();
            let (name, _) = alone.split_once(' ').unwrap();
            assert!(error.contains(name) && error.contains(of), "{error}");
        }
    }

    /// The file and the environment name each option as the command line does.
    #[test]
    fn every_option_has_a_variable_of_its_name() {
        use clap::CommandFactory as _;
        for argument in Cli::command().get_arguments() {
            let name = argument.get_id().as_str().to_uppercase();
            let variable = argument
                .get_env()
                .unwrap_or_else(|| panic!("{name} has no variable"));
            assert_eq!(variable.to_str(), Some(format!("ANTIPHON_{name}").as_str()));
        }
    }
}

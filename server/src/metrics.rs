//! Metrics: counters of the control plane, and the figures of the shards at the time of a scrape.
//!
//! Every label value comes from a closed set, so that no peer can grow the series.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use antiphon_core::delays::{Bounds, Delays};
use antiphon_core::drive::RelayStats;
use antiphon_core::ids::ShardId;
use antiphon_core::message::{
    CloseReason, Command, DropReason, Event, FORWARD_DELAY_BOUNDS, ProfileName, ShardStats,
    VOICE_DELAY_BOUNDS,
};
use antiphon_udp::SocketStats;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde_json::json;
use tracing::warn;

use crate::agent::AgentMeters;
use crate::api::{json_response, wants_json};
use crate::app::App;
use crate::auth::Scope;
use crate::journal::JournalFigures;
use crate::limits::SCRAPE_TIMEOUT;
use crate::place::Place;
use crate::problem::Problem;
use crate::wall::{rfc3339, unix_now};

const PROFILES: [ProfileName; 3] = [
    ProfileName::AeadAes256Gcm,
    ProfileName::AeadAes128Gcm,
    ProfileName::Aes128CmSha1_80,
];
/// Seconds from `Open` to a connected session: loopback to a bad mobile network.
const SETUP_BOUNDS: [f64; 12] = [
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0,
];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels = [(&'static str, String); 2];
type Label = [(&'static str, &'static str); 1];

/// Counters of the control plane.
#[derive(Debug)]
pub struct Meters {
    registry: Registry,
    /// HTTP connections open.
    pub connections: Gauge,
    /// Of calls with agents.
    pub agents: AgentMeters,
    /// Of networks.
    #[cfg(feature = "onnx")]
    pub models: crate::model::ModelMeters,
    answered: Family<Labels, Counter>,
    closed: Family<Label, Counter>,
    setup: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("antiphon");
        let meters = Self {
            connections: Gauge::default(),
            agents: AgentMeters::default(),
            #[cfg(feature = "onnx")]
            models: crate::model::ModelMeters::default(),
            answered: Family::default(),
            closed: Family::default(),
            setup: Histogram::new(SETUP_BOUNDS),
            registry: Registry::default(),
        };
        let connections = meters.connections.clone();
        registry.register("http_connections", "HTTP connections open", connections);
        let answered = meters.answered.clone();
        registry.register("http_requests", "HTTP requests answered", answered);
        let closed = meters.closed.clone();
        registry.register("sessions_closed", "Sessions ended", closed);
        let setup = meters.setup.clone();
        registry.register(
            "session_setup_seconds",
            "Time from open to connected",
            setup,
        );
        meters.agents.register(&mut registry);
        #[cfg(feature = "onnx")]
        meters.models.register(&mut registry);
        Self { registry, ..meters }
    }
}

impl Meters {
    /// A request was answered.
    pub fn note_answered(&self, place: Place, status: StatusCode) {
        let labels = [
            ("endpoint", place.label().to_owned()),
            ("status", status.as_str().to_owned()),
        ];
        self.answered.get_or_create(&labels).inc();
    }

    /// A session ended.
    pub fn note_closed(&self, reason: CloseReason) {
        self.closed
            .get_or_create(&[("reason", reason.name())])
            .inc();
    }

    /// A session connected, so long after it was opened.
    pub fn note_setup(&self, setup: Duration) {
        self.setup.observe(setup.as_secs_f64());
    }
}

/// What a scrape finds beside the counters.
#[derive(Debug)]
struct Snapshot {
    shards: Vec<(String, ShardStats)>,
    sockets: Vec<(String, SocketStats)>,
    /// Events that may be lost and were.
    events_lost: Vec<(String, u64)>,
    /// What each shard said to the others.
    relays: Vec<(String, RelayStats)>,
    journal: Option<Arc<JournalFigures>>,
    sessions: usize,
    rooms: usize,
    participants: usize,
    uptime: Duration,
}

/// `GET /metrics`: text for Prometheus, or as `Accept` asks for it OpenMetrics text or an object with the totals.
pub async fn scrape(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    app.admit(&headers, Scope::Admin, None)?;
    let snapshot = snapshot(&app).await;
    let mut response = if wants_json(&headers) {
        json_response(&snapshot.totals())
    } else {
        let text = write(&app.meters, snapshot).map_err(|_| Problem::internal())?;
        let (kind, text) = if wants_open_metrics(&headers) {
            (OPEN_METRICS, text)
        } else {
            (PROMETHEUS, as_prometheus(&text))
        };
        let mut response = Response::new(Body::from(text));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_name(ACCEPT));
    Ok(response)
}

async fn snapshot(app: &App) -> Snapshot {
    let asked: Vec<_> = app
        .control
        .shards()
        .map(|shard| {
            let make = |request| Command::ShardStats { request };
            (shard, app.control.ask(shard, None, make))
        })
        .collect();
    let mut shards = Vec::with_capacity(asked.len());
    for (shard, answer) in asked {
        let stats = match answer {
            Ok(answer) => tokio::time::timeout(SCRAPE_TIMEOUT, answer).await,
            Err(_) => continue,
        };
        match stats {
            Ok(Ok(Event::ShardStats { stats, .. })) => shards.push((shard.0.to_string(), *stats)),
            _ => warn!(shard = shard.0, "a shard did not answer a scrape"),
        }
    }
    let sockets = app.sites.iter().enumerate();
    let sockets = sockets.map(|(shard, site)| (shard.to_string(), site.socket.snapshot()));
    let lost = app.sites.iter().enumerate();
    let lost = lost.map(|(shard, site)| {
        let count = site.events_lost.load(Ordering::Relaxed);
        (shard.to_string(), count)
    });
    let relays = app.sites.iter().zip(0..);
    let relays = relays.map(|(site, shard)| (shard.to_string(), site.relays.stats(ShardId(shard))));
    let directory = app.directory();
    let (rooms, participants) = directory.rooms.count();
    let sessions = directory.sessions.count();
    Snapshot {
        shards,
        sockets: sockets.collect(),
        events_lost: lost.collect(),
        relays: relays.collect(),
        journal: app.journal.clone(),
        sessions,
        rooms,
        participants,
        uptime: app.started.elapsed(),
    }
}

fn write(meters: &Meters, snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut now = Registry::with_prefix("antiphon");
    now.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode_registry(&mut text, &meters.registry)?;
    encode_registry(&mut text, &now)?;
    encode_eof(&mut text)?;
    Ok(text)
}

fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"))
}

/// OpenMetrics text as the older format of Prometheus has it: a counter is declared under the name of its
/// samples, and nothing marks the end.
fn as_prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut help = None;
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# HELP ") {
            help = declared.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) = declared_type(line) {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some(help) = help.take() {
                out.push_str(&format!("# HELP {name}{total} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{total} {kind}\n"));
        } else if line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn declared_type(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("# TYPE ")?.split_once(' ')
}

impl Snapshot {
    /// The totals over all shards, and each shard's own. `connections` are peer connections whose handshake is done.
    fn totals(&self) -> serde_json::Value {
        type Read = fn(&ShardStats) -> u64;
        let figures: [(&str, Read); 8] = [
            ("connections", |stats| stats.sessions_connected.into()),
            ("sessions_opened", |stats| stats.sessions_opened),
            ("datagrams_received", |stats| stats.datagrams_received),
            ("datagrams_sent", |stats| stats.datagrams_sent),
            ("rtp_received", |stats| stats.rtp_received),
            ("rtp_sent", |stats| stats.rtp_sent),
            ("drops", |stats| stats.drops.iter().sum()),
            ("faults", |stats| stats.faults),
        ];
        let mut totals = json!({
            "uptime": self.uptime.as_secs_f64(),
            "timestamp": rfc3339(unix_now()),
            "sessions": self.sessions,
            "rooms": self.rooms,
            "participants": self.participants,
        });
        let mut each: Vec<_> = self
            .shards
            .iter()
            .map(|(shard, stats)| json!({ "shard": shard, "sessions": stats.sessions }))
            .collect();
        for (name, read) in figures {
            let values = self.shards.iter().map(|(_, stats)| read(stats));
            totals[name] = values.clone().sum::<u64>().into();
            for (object, value) in each.iter_mut().zip(values) {
                object[name] = value.into();
            }
        }
        totals["shards"] = each.into();
        totals
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&ShardStats) -> u64;
        let counters: [(&str, &str, Read); 16] = [
            ("sessions_opened", "Sessions opened", |s| s.sessions_opened),
            ("faults", "Sessions ended by a fault of the server", |s| {
                s.faults
            }),
            ("datagrams_received", "Datagrams received", |s| {
                s.datagrams_received
            }),
            ("received_bytes", "Bytes received", |s| s.bytes_received),
            ("datagrams_sent", "Datagrams handed to the socket", |s| {
                s.datagrams_sent
            }),
            ("rtp_received", "Authenticated RTP packets received", |s| {
                s.rtp_received
            }),
            ("rtp_sent", "RTP packets sent", |s| s.rtp_sent),
            ("retransmissions_sent", "Packets sent again", |s| {
                s.retransmissions_sent
            }),
            ("nacks_sent", "NACK messages sent", |s| s.nacks_sent),
            ("keyframe_requests_sent", "Keyframe requests sent", |s| {
                s.keyframe_requests_sent
            }),
            (
                "audio_frames_processed",
                "Frames of 10 ms heard for agents",
                |s| s.voice.frames_heard,
            ),
            ("agent_packets_sent", "Packets that agents said", |s| {
                s.voice.packets_spoken
            }),
            ("keys_dropped", "Keys that came too fast to be told", |s| {
                s.voice.keys_dropped
            }),
            ("transmits_dropped", "Media dropped at a full socket", |s| {
                s.transmits_dropped
            }),
            ("timeouts", "Times a timer woke a session", |s| s.timeouts),
            ("clock_steps_back", "Inputs stamped before another", |s| {
                s.clock_steps_back
            }),
        ];
        for (name, help, read) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (shard, stats) in &self.shards {
                let labels = [("shard", shard.as_str())];
                ConstCounter::new(read(stats)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauges = [
            (
                "uptime_seconds",
                "Time since start",
                self.uptime.as_secs_f64(),
            ),
            ("rooms", "Rooms with a session in them", self.rooms as f64),
            (
                "participants",
                "Participants who publish",
                self.participants as f64,
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        type Read = fn(&ShardStats) -> u32;
        let gauges: [(&str, &str, Read); 2] = [
            ("sessions", "Sessions now", |s| s.sessions),
            (
                "sessions_connected",
                "Sessions now that can carry media",
                |s| s.sessions_connected,
            ),
        ];
        for (name, help, read) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (shard, stats) in &self.shards {
                let labels = [("shard", shard.as_str())];
                let value = i64::from(read(stats));
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn by_reason(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Datagrams refused";
        let mut metric = encoder.encode_descriptor("drops", help, None, MetricType::Counter)?;
        for (shard, stats) in &self.shards {
            for (reason, count) in DropReason::ALL.iter().zip(stats.drops) {
                let labels = [("shard", shard.as_str()), ("reason", reason.name())];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Handshakes finished";
        let mut metric =
            encoder.encode_descriptor("handshakes", help, None, MetricType::Counter)?;
        for (shard, stats) in &self.shards {
            for (profile, count) in PROFILES.iter().zip(stats.profiles) {
                let labels = [("shard", shard.as_str()), ("profile", profile.name())];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn by_socket(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Datagrams lost at the socket";
        let mut metric =
            encoder.encode_descriptor("socket_losses", help, None, MetricType::Counter)?;
        for (shard, stats) in &self.sockets {
            for (reason, count) in stats.losses() {
                let labels = [("shard", shard.as_str()), ("reason", reason)];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "What went less than smoothly at the socket and lost nothing";
        let mut metric =
            encoder.encode_descriptor("socket_incidents", help, None, MetricType::Counter)?;
        for (shard, stats) in &self.sockets {
            for (kind, count) in stats.incidents() {
                let labels = [("shard", shard.as_str()), ("kind", kind)];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn of_lanes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = (
            "events_lost",
            "Sound for agents lost as the server was behind",
        );
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (shard, count) in &self.events_lost {
            let labels = [("shard", shard.as_str())];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }
        type Read = fn(&RelayStats) -> u64;
        let counters: [(&str, &str, Read); 2] = [
            ("relays_sent", "Packets and words to other shards", |s| {
                s.sent
            }),
            (
                "relays_dropped",
                "The same lost as a shard was behind",
                |s| s.dropped,
            ),
        ];
        for (name, help, read) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (shard, stats) in &self.relays {
                let labels = [("shard", shard.as_str())];
                ConstCounter::new(read(stats)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn of_journal(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let counters = [
            (
                "journal_dumps",
                "Times a ring was to be written",
                journal.dumps(),
            ),
            (
                "journal_dumps_failed",
                "Of these, those that came to no whole file",
                journal.dumps_failed(),
            ),
            (
                "journal_written_bytes",
                "Bytes of journals written",
                journal.bytes(),
            ),
            (
                "journal_records_lost",
                "Entries left out of journals",
                journal.records_lost(),
            ),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let (name, help) = ("journal_recording", "1 while what happens is recorded");
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(u64::from(journal.is_recording())).encode(metric)
    }

    fn delays(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&ShardStats) -> Delays;
        let histograms: [(&str, &str, &Bounds, Read); 6] = [
            (
                "forward_delay_seconds",
                "Time from the kernel's receive stamp to the return of the send call",
                &FORWARD_DELAY_BOUNDS,
                |stats| stats.forward_delay,
            ),
            (
                "hearing_delay_seconds",
                "Time from the arrival of a packet to its sound being told to the agent",
                &VOICE_DELAY_BOUNDS,
                |stats| stats.voice.hearing,
            ),
            (
                "speaking_delay_seconds",
                "Time from when a packet of an agent's was due to its being sent",
                &VOICE_DELAY_BOUNDS,
                |stats| stats.voice.speaking,
            ),
            (
                "processing_seconds",
                "Time that 20 ms of sound take to be decoded, analysed and decided on",
                &VOICE_DELAY_BOUNDS,
                |stats| stats.voice.processing,
            ),
            (
                "ducking_delay_seconds",
                "Time from the onset of a voice while an agent spoke to the agent's being ducked",
                &VOICE_DELAY_BOUNDS,
                |stats| stats.voice.ducking,
            ),
            (
                "interruption_delay_seconds",
                "Time from the onset of an interruption to the agent's last packet",
                &VOICE_DELAY_BOUNDS,
                |stats| stats.voice.interruption,
            ),
        ];
        for (name, help, bounds, read) in histograms {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            let bounds = bounds.iter().map(|micros| *micros as f64 / 1e6);
            let bounds: Vec<f64> = bounds.chain([f64::INFINITY]).collect();
            for (shard, stats) in &self.shards {
                let delays = read(stats);
                let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(delays.counts).collect();
                let (sum, count) = (delays.micros as f64 / 1e6, delays.counts.iter().sum());
                let labels = [("shard", shard.as_str())];
                let mut metric = metric.encode_family(&labels)?;
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.gauges(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.by_reason(&mut encoder)?;
        self.by_socket(&mut encoder)?;
        self.of_lanes(&mut encoder)?;
        self.of_journal(&mut encoder)?;
        self.delays(&mut encoder)
    }
}

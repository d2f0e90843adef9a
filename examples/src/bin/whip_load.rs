//! Calls a WHIP echo many times over and reports what it took: `whip_load --help`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use antiphon_core::audio::{Rate, signal};
use antiphon_core::codec::opus::OpusEncoder;
use antiphon_core::codec::{CodecError, Encoder as _, EncoderSettings};
use antiphon_core::time::Timestamp;
use antiphon_examples::caller::{Offered, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use antiphon_examples::dtls::Credentials;
use antiphon_examples::engine::{CALLS_MAX, Contents, Engine, Join, Outcomes, Pace};
use antiphon_examples::figures::{Spread, lines, pause};
use antiphon_examples::http::{Url, request};
use antiphon_examples::process::{CpuMeter, load_average, resident_bytes};
use antiphon_udp::Clock;
use clap::Parser;
use serde_json::{Value, json};
use smol::channel::Sender;

const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls still unconnected this long after the last POST have failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// POSTs under way at one time.
const POSTERS: usize = 16;
/// Between the last call that came up and the media phase.
const SETTLE: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(1);

/// Real ICE, DTLS and SRTP for every call, each from an address of its own in 127.64.0.0/16.
#[derive(Parser, Clone)]
struct Options {
    /// An endpoint that echoes, such as http://127.0.0.1:8080/whip.
    #[arg(long)]
    whip: Url,
    /// Calls.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=CALLS_MAX as i64))]
    sessions: u32,
    /// POSTs a second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Length of the media phase, which begins when all calls are up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    seconds: u64,
    /// Packets a second that each call sends.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pps: u32,
    /// Bytes of a packet's payload.
    #[arg(long, default_value_t = 80,
        value_parser = clap::value_parser!(u16).range(PAYLOAD_BYTES_MIN as i64..=PAYLOAD_BYTES_MAX as i64))]
    payload: u16,
    /// Sends speech, three seconds in every seven, rather than stamps: for an agent, such as
    /// http://127.0.0.1:8080/whip?agent=tone. What it says back is counted, and none of it is lost.
    #[arg(long)]
    speech: bool,
    /// The server's process, to read its processor time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Readings at one moment.
#[derive(Clone, Copy)]
struct Reading {
    at: Timestamp,
    cpu: Duration,
    resident: u64,
    sent: u64,
    received: u64,
}

struct Meter {
    clock: Clock,
    process: Option<(u32, CpuMeter)>,
}

impl Meter {
    fn read(&mut self, engine: &Engine) -> Reading {
        let process = self.process.as_mut();
        let (cpu, resident) = process.map_or((Duration::ZERO, 0), |(pid, meter)| {
            (meter.read(), resident_bytes(*pid))
        });
        Reading {
            at: self.clock.now(),
            cpu,
            resident,
            sent: engine.progress.sent.load(Ordering::Relaxed),
            received: engine.progress.received.load(Ordering::Relaxed),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let clock = Clock::start();
    let contents = if options.speech {
        Contents::Speech(speech()?)
    } else {
        Contents::Stamps(options.payload.into())
    };
    let pace = Pace {
        interval: Duration::from_secs(1) / options.pps,
        contents,
    };
    let engine = Engine::start(clock, pace)?;
    let process = options.pid.map(|pid| (pid, CpuMeter::new(pid)));
    let mut meter = Meter { clock, process };

    let idle = meter.read(&engine);
    let refused = join_all(&options, &engine, clock)?;
    pause(&clock, SETTLE);
    let up = meter.read(&engine);
    let mut end = up;
    for _ in 0..options.seconds {
        pause(&clock, Duration::from_secs(1));
        end = meter.read(&engine);
    }
    let outcomes = engine.finish();
    let report = report(&options, &outcomes, &refused, [idle, up, end]);
    if options.json {
        println!("{report}");
    } else {
        print!("{}", lines(&report));
    }
    Ok(())
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

/// Posts all offers, and waits until every call that was answered is up, or long enough. What was said
/// by those that were refused.
fn join_all(
    options: &Options,
    engine: &Engine,
    clock: Clock,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let credentials = Credentials::generate()?;
    let next = Arc::new(AtomicUsize::new(0));
    let start = clock.now();
    let calls = options.sessions as usize;
    let addresses: Arc<[_]> = (0..calls).map(|number| engine.address(number)).collect();
    let posters = (0..POSTERS.min(calls)).map(|_| {
        let (options, lane, next) = (options.clone(), engine.lane(), Arc::clone(&next));
        let (credentials, addresses) = (credentials.clone(), Arc::clone(&addresses));
        thread::spawn(move || {
            let mut refused = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(address) = addresses.get(number) else {
                    return refused;
                };
                let due = start + Duration::from_secs_f64(number as f64 / options.rate);
                pause(&clock, due.since(clock.now()));
                let instant = clock.epoch().instant(clock.now());
                let offered = Offered::new(&credentials, *address, instant);
                let joined = offered
                    .map_err(|error| error.to_string())
                    .and_then(|offered| post(&options.whip, offered, &lane, clock));
                refused.extend(joined.err());
            }
        })
    });
    let posters: Vec<JoinHandle<Vec<String>>> = posters.collect();
    let joined = posters.into_iter().flat_map(JoinHandle::join).flatten();
    let refused: Vec<_> = joined.collect();
    let answered = (calls - refused.len()) as u64;
    let end = clock.now() + CONNECT_TIMEOUT;
    while engine.progress.heard.load(Ordering::Relaxed) < answered && clock.now() < end {
        pause(&clock, POLL);
    }
    Ok(refused)
}

fn post(whip: &Url, offered: Offered, lane: &Sender<Join>, clock: Clock) -> Result<(), String> {
    let posted = clock.now();
    let headers = "Content-Type: application/sdp\r\n";
    let reply = request(whip, "POST", headers, offered.sdp.as_bytes(), HTTP_TIMEOUT);
    let answered = clock.now();
    let reply = reply.map_err(|error| error.to_string())?;
    if reply.status != 201 {
        return Err(format!("{}: {}", reply.status, reply.body));
    }
    let instant = clock.epoch().instant(answered);
    let caller = offered.answered(&reply.body, instant);
    let join = Join {
        caller: caller.map_err(|error| error.to_string())?,
        posted,
        answered,
    };
    lane.try_send(join).map_err(|error| error.to_string())
}

fn report(
    options: &Options,
    outcomes: &Outcomes,
    refused: &[String],
    [idle, up, end]: [Reading; 3],
) -> Value {
    let calls = &outcomes.calls;
    let connected = calls.iter().filter(|call| call.connected.is_some()).count();
    let first_post = calls.iter().map(|call| call.posted).min();
    let since_first = |at: Option<Timestamp>| {
        let time = at.zip(first_post).map(|(at, first)| at.since(first));
        json!(time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3))
    };
    let spread = |end: fn(&antiphon_examples::engine::Outcome) -> Option<Duration>| {
        calls.iter().filter_map(end).collect::<Spread>().millis()
    };
    let measured = |at: &Timestamp| *at >= up.at && *at < end.at;
    let window = |times: &[(Timestamp, Duration)]| {
        let within = times.iter().filter(|(at, _)| measured(at));
        within.map(|(_, time)| *time).collect::<Spread>().millis()
    };
    let sent: u64 = calls.iter().map(|call| call.sent).sum();
    let received: u64 = calls.iter().map(|call| call.received).sum();
    let packets = end.sent - up.sent + end.received - up.received;
    let per = |time: Duration, count: u64| time.as_secs_f64() / count.max(1) as f64;
    let media = end.at.since(up.at).as_secs_f64().max(1e-9);
    let mut report = json!({
        "calls": { "asked": options.sessions, "connected": connected, "refused": refused.len(),
            "died": calls.iter().filter(|call| call.died).count() },
        "post_to_answer_ms": spread(|call| Some(call.answered.since(call.posted))),
        "ice_dtls_ms": spread(|call| Some(call.connected?.since(call.answered))),
        "post_to_first_media_ms": spread(|call| Some(call.first_media?.since(call.posted))),
        "all_connected_ms": since_first(calls.iter().filter_map(|call| call.connected).max()),
        "all_heard_ms": since_first(calls.iter().filter_map(|call| call.first_media).max()),
        "packets": { "sent": sent, "received": received,
            "lost": (!options.speech).then(|| sent.saturating_sub(received)),
            "misdelivered": outcomes.misdelivered },
        "round_trip_ms": window(&outcomes.round_trips),
        "generator_late_ms": window(&outcomes.lateness),
        "load_average": load_average(),
    });
    if options.pid.is_some() {
        let (setup, busy) = (
            up.cpu.saturating_sub(idle.cpu),
            end.cpu.saturating_sub(up.cpu),
        );
        let joins = connected.max(1) as u64;
        report["server"] = json!({
            "setup_cpu_ms": setup.as_secs_f64() * 1e3,
            "cpu_ms_a_join": per(setup, joins) * 1e3,
            "media_cpu_percent": busy.as_secs_f64() / media * 100.0,
            "cpu_us_a_packet": per(busy, packets) * 1e6,
            "resident_kb_a_session": (end.resident.saturating_sub(idle.resident) / joins) >> 10,
            "resident_kb": end.resident >> 10,
        });
    }
    if let Some(first) = refused.first() {
        report["first_refusal"] = json!(first);
    }
    report
}

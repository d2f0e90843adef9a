//! Sends hostile, broken and slow requests during a live call, and checks that the call does not notice
//! and that everything is answered or cut in time: `hostile_posts --help`. Fails when that is not so.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use antiphon_examples::caller::Offered;
use antiphon_examples::dtls::Credentials;
use antiphon_examples::engine::{Contents, Engine, Join, Pace};
use antiphon_examples::figures::{Spread, lines, pause};
use antiphon_examples::hostile::{Hostile, requests};
use antiphon_examples::http::{Url, exchange, request};
use antiphon_examples::process::load_average;
use antiphon_udp::Clock;
use clap::Parser;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIME_MAX: Duration = Duration::from_millis(100);
/// The server's limits, and what a check of them may be off.
const HEAD_TIME: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(30);
const TOLERANCE: Duration = Duration::from_secs(2);
const TRICKLE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);

#[derive(Parser)]
struct Options {
    /// The server, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: Url,
    /// Hostile requests.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    posts: u32,
    /// Requests under way at one time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Connections of each slow kind: silent, slow in the head, slow in the body. 0: none.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=200))]
    slow: u32,
}

/// What became of one hostile request.
struct Answer {
    name: &'static str,
    status: Result<u16, String>,
    took: Duration,
}

/// How a slow connection sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slow {
    Silent,
    Head,
    Body,
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let options = Options::parse();
    let clock = Clock::start();
    let interval = Duration::from_millis(20);
    let engine = Engine::start(
        clock,
        Pace {
            interval,
            contents: Contents::Stamps(80),
        },
    )?;
    let good = call(&options.url, &engine, clock)?;

    let slow = [Slow::Silent, Slow::Head, Slow::Body];
    let slow = slow
        .into_iter()
        .flat_map(|kind| (0..options.slow).map(move |_| kind));
    let address = options.url.address;
    let slow = slow.map(|kind| thread::spawn(move || (kind, patience_of(address, kind, clock))));
    let slow: Vec<JoinHandle<_>> = slow.collect();
    let answers = attack(&options, &good, clock);
    let cuts: Vec<_> = slow.into_iter().flat_map(JoinHandle::join).collect();
    let outcomes = engine.finish();

    let call = outcomes.calls.first().ok_or("the call was not made")?;
    let lost = call.sent.saturating_sub(call.received);
    let round_trips: Spread = outcomes.round_trips.iter().map(|(_, time)| *time).collect();
    let mut faults = faults(&answers, &cuts);
    if lost > 0 || call.died {
        faults.push(format!("the call lost {lost} of {} packets", call.sent));
    }
    let report = json!({
        "call": { "sent": call.sent, "received": call.received, "lost": lost },
        "call_round_trip_ms": round_trips.millis(),
        "answer_ms": answers.iter().map(|answer| answer.took).collect::<Spread>().millis(),
        "statuses": statuses(&answers),
        "silent_cut_ms": cut_spread(&cuts, Slow::Silent),
        "slow_head_cut_ms": cut_spread(&cuts, Slow::Head),
        "slow_body_cut_ms": cut_spread(&cuts, Slow::Body),
        "load_average": load_average(),
        "faults": faults.len(),
    });
    print!("{}", lines(&report));
    faults
        .iter()
        .take(20)
        .for_each(|fault| println!("FAULT: {fault}"));
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sets up the call that must not notice; its offer.
fn call(url: &Url, engine: &Engine, clock: Clock) -> Result<String, Box<dyn std::error::Error>> {
    let credentials = Credentials::generate()?;
    let now = || clock.epoch().instant(clock.now());
    let offered = Offered::new(&credentials, engine.address(0), now())?;
    let good = offered.sdp.clone();
    let whip = Url {
        path: "/whip".to_owned(),
        ..url.clone()
    };
    let posted = clock.now();
    let headers = "Content-Type: application/sdp\r\n";
    let reply = request(&whip, "POST", headers, good.as_bytes(), TIMEOUT)?;
    let answered = clock.now();
    let caller = offered.answered(&reply.body, now())?;
    engine.lane().try_send(Join {
        caller,
        posted,
        answered,
    })?;
    let end = clock.now() + TIMEOUT;
    while engine.progress.heard.load(Ordering::Relaxed) == 0 {
        if clock.now() > end {
            return Err("the call did not come up".into());
        }
        pause(&clock, POLL);
    }
    Ok(good)
}

/// Sends all hostile requests, the kinds in turn.
fn attack(options: &Options, good: &str, clock: Clock) -> Vec<Answer> {
    let kinds: Arc<[Hostile]> = requests(&options.url.authority, good).into();
    let next = Arc::new(AtomicUsize::new(0));
    let (address, posts) = (options.url.address, options.posts as usize);
    let workers = (0..options.workers).map(|_| {
        let (kinds, next) = (Arc::clone(&kinds), Arc::clone(&next));
        thread::spawn(move || {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= posts {
                    return answers;
                }
                let (name, bytes) = &kinds[number % kinds.len()];
                let began = clock.now();
                let reply = exchange(address, bytes, TIMEOUT);
                answers.push(Answer {
                    name,
                    status: reply.map(|reply| reply.status).map_err(|e| e.to_string()),
                    took: clock.now().since(began),
                });
            }
        })
    });
    let workers: Vec<JoinHandle<Vec<Answer>>> = workers.collect();
    workers
        .into_iter()
        .flat_map(JoinHandle::join)
        .flatten()
        .collect()
}

/// Sends slowly until the server has had enough; how long that took, `None` when it never had.
fn patience_of(address: SocketAddr, kind: Slow, clock: Clock) -> Option<Duration> {
    let began = clock.now();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TRICKLE)).ok()?;
    let (start, drop): (&[u8], &[u8]) = match kind {
        Slow::Silent => (b"", b""),
        Slow::Head => (b"POST /whip HTTP/1.1\r\nHost: x\r\nX: ", b"y"),
        Slow::Body => (
            b"POST /whip HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 900\r\n\r\n",
            b"v",
        ),
    };
    stream.write_all(start).ok()?;
    while clock.now().since(began) < BODY_TIME + TOLERANCE + TIMEOUT {
        let took = clock.now().since(began);
        if stream.write_all(drop).is_err() {
            return Some(took);
        }
        // The pause between two bytes is a read that nothing answers.
        match stream.read(&mut [0; 4_096]) {
            Err(error) if is_timeout(&error) => {}
            Ok(_) | Err(_) => return Some(clock.now().since(began)),
        }
    }
    None
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

fn faults(answers: &[Answer], cuts: &[(Slow, Option<Duration>)]) -> Vec<String> {
    let mut faults = Vec::new();
    for Answer { name, status, took } in answers {
        match status {
            Ok(400..=499 | 503) if *took <= ANSWER_TIME_MAX => {}
            Ok(status) => faults.push(format!("{name}: {status} after {took:?}")),
            Err(error) => faults.push(format!("{name}: {error} after {took:?}")),
        }
    }
    for (kind, took) in cuts {
        let limit = if *kind == Slow::Body {
            BODY_TIME
        } else {
            HEAD_TIME
        };
        if took.is_none_or(|took| took > limit + TOLERANCE) {
            faults.push(format!(
                "a slow connection was cut after {took:?}, not {limit:?}"
            ));
        }
    }
    faults
}

fn statuses(answers: &[Answer]) -> Value {
    let mut counts = BTreeMap::new();
    for answer in answers {
        let status = answer
            .status
            .as_ref()
            .map_or("none".to_owned(), u16::to_string);
        *counts.entry(status).or_insert(0_u32) += 1;
    }
    json!(counts)
}

fn cut_spread(cuts: &[(Slow, Option<Duration>)], kind: Slow) -> Value {
    let of_kind = cuts.iter().filter(|(of, _)| *of == kind);
    of_kind
        .filter_map(|(_, took)| *took)
        .collect::<Spread>()
        .millis()
}

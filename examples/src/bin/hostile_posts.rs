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
use antiphon_examples::figures::{Spread, lines, load_average, pause};
use antiphon_examples::hostile::{Hostile, requests};
use antiphon_examples::http::{Origin, exchange};
use antiphon_server::load;
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
/// Until the call is up; its set-up is not what is tested.
const CALL_SETUP: Duration = Duration::from_secs(1);
/// How long it lasts: longer than the attack, which the slowest connections or the requests make.
const CALL_SECONDS_SLOW: u64 = 45;
const CALL_SECONDS: u64 = 15;

#[derive(Parser)]
struct Options {
    /// The server, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: Origin,
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
    let good = offer(clock)?;
    let seconds = if options.slow > 0 {
        CALL_SECONDS_SLOW
    } else {
        CALL_SECONDS
    };
    let whip = format!("http://{}/whip", options.url.authority).parse()?;
    let call = load::Arguments::echo(whip, 1, seconds);
    let call = thread::spawn(move || load::measure(&call));
    pause(&clock, CALL_SETUP);

    let slow = [Slow::Silent, Slow::Head, Slow::Body];
    let slow = slow
        .into_iter()
        .flat_map(|kind| (0..options.slow).map(move |_| kind));
    let address = options.url.address;
    let slow = slow.map(|kind| thread::spawn(move || (kind, patience_of(address, kind, clock))));
    let slow: Vec<JoinHandle<_>> = slow.collect();
    let answers = attack(&options, &good, clock);
    let cuts: Vec<_> = slow.into_iter().flat_map(JoinHandle::join).collect();
    let is_outlived = call.is_finished();
    let call = call.join().map_err(|_| "the call panicked")??;

    let mut faults = faults(&answers, &cuts);
    if !call.is_whole() || call.lost() != Some(0) {
        faults.push(format!("the call lost {:?} packets", call.lost()));
    }
    if is_outlived {
        faults.push("the call was over before the attack".to_owned());
    }
    let call = call.to_json();
    let report = json!({
        "call": call["packets"],
        "call_round_trip_ms": call["round_trip_ms"],
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

/// An offer that would be answered, to make broken ones of.
fn offer(clock: Clock) -> Result<String, Box<dyn std::error::Error>> {
    let now = clock.epoch().instant(clock.now());
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    Ok(Offered::new(&Credentials::generate()?, address, now)?.sdp)
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
                    status: reply.map_err(|error| error.to_string()),
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

//! The generator against the server, both in this process, over sockets of the loopback interface.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::{self, JoinHandle};

use clap::Parser;
use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::config::Config;
use crate::server::Server;
use crate::shards;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = ["load"].into_iter().chain(line.split_ascii_whitespace());
    Line::try_parse_from(words).map(|line| line.arguments)
}

/// A server on free ports, on a thread of its own. Dropping it ends it.
struct Running {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(lines: &str) -> Self {
        let config = Config::from_toml(&format!(
            "http = \"127.0.0.1:0\"\nmedia_ip = \"127.0.0.1\"\nmedia_port = 0\nrate_limit = 0\n\
             runtime = \"tokio\"\n{lines}"
        ));
        let config = config.expect("a good configuration");
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("an event loop").block_on(async {
                let shards = shards::start(&config).expect("shards start");
                let server = Server::bind(config, shards).await.expect("it listens");
                tell.send(server.address().expect("it listens"))
                    .expect("the test waits");
                let stopped = async { stopped.await.unwrap_or_default() };
                server.run(stopped).await.expect("it ends well");
            });
        });
        let address = told.recv().expect("it has started");
        Self {
            url: format!("http://{address}"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn load(&self, line: &str) -> Result<Report, LoadError> {
        let line = line.replace("SERVER", &self.url);
        measure(&parse(&line).expect("good arguments"))
    }

    fn sessions(&self) -> usize {
        let list: Value = serde_json::from_str(&self.get("/api/sessions")).expect("JSON");
        list["sessions"].as_array().expect("a list").len()
    }

    /// Sessions that the server takes for connected.
    fn connected(&self) -> u64 {
        let metrics = self.get("/metrics");
        let named = |line: &&str| line.starts_with("antiphon_sessions_connected{");
        let values = metrics.lines().filter(named);
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    fn get(&self, path: &str) -> String {
        let response = ureq::get(format!("{}{path}", self.url)).call();
        let text = response.expect("an answer").into_body().read_to_string();
        text.expect("text")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its own is in the output already.
            thread.join().ok();
        }
    }
}

fn count(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no count: {value}"))
}

#[test]
fn fifty_sessions_of_an_echo_all_connect_and_lose_nothing_and_leave_nobody() {
    let server = Running::start("");
    let report = server
        .load("--whip SERVER/whip --sessions 50 --rate 200 --seconds 2")
        .unwrap();
    let json = report.to_json();
    assert!(report.is_whole(), "{json}");
    let packets = &json["packets"];
    assert_eq!(packets["lost"], 0, "{json}");
    assert_eq!(packets["sent"], packets["received"], "{json}");
    let turns = count(&json["generator"]["turns_skipped"]);
    let sent = count(&packets["sent"]);
    // What was due as the phase ended may be left out.
    let planned = 50 * 50 * 2;
    assert!(
        (planned * 49 / 50..=planned).contains(&(sent + turns)),
        "{json}"
    );
    assert_eq!(json["round_trip_ms"]["count"], sent, "{json}");
    // And a greeting each at least.
    assert!(count(&packets["opened"]) >= sent + 50, "{json}");
    assert_eq!(
        (&packets["misdelivered"], &packets["not_authentic"]),
        (&0.into(), &0.into())
    );
    assert_eq!(json["setup_ms"]["answer_to_dtls"]["count"], 50);
    assert_eq!(json["sessions"]["left_on_server"], 0);
    assert_eq!(server.sessions(), 0);
    assert!(report.to_string().contains("50 of 50 connected"));
}

#[test]
fn one_publisher_reaches_thirty_subscribers_and_they_lose_nothing() {
    let server = Running::start("");
    let line = "--whip SERVER/whip/hall?name=ann --whep SERVER/whep/hall/ann --sessions 30 --rate 200 --seconds 2";
    let report = server.load(line).unwrap();
    let json = report.to_json();
    assert!(report.is_whole(), "{json}");
    assert_eq!(json["sessions"]["asked"], 31, "{json}");
    let sent = count(&json["packets"]["sent"]);
    assert!((1..=100).contains(&sent), "{json}");
    assert_eq!(json["packets"]["received"], 30 * sent, "{json}");
    assert_eq!(json["packets"]["lost"], 0, "{json}");
    assert!(count(&json["round_trip_ms"]["count"]) >= 30, "{json}");
    assert_eq!(json["packets"]["not_authentic"], 0, "{json}");
    assert_eq!(server.sessions(), 0);
}

/// As of a server that is not on loopback.
#[test]
fn sessions_with_a_port_each_are_told_apart_too() {
    let server = Running::start("");
    let line = format!(
        "--whip {}/whip --sessions 20 --rate 200 --seconds 1 --pps 20",
        server.url
    );
    let place = Place::Ports(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let report = measure_from(&parse(&line).unwrap(), place).unwrap();
    let json = report.to_json();
    assert!(report.is_whole(), "{json}");
    assert_eq!(json["packets"]["lost"], 0, "{json}");
    assert!(count(&json["packets"]["received"]) > 0, "{json}");
    assert_eq!(json["packets"]["misdelivered"], 0, "{json}");
    assert_eq!(server.sessions(), 0);
}

#[test]
fn a_fifth_talks_when_a_fifth_is_asked_for() {
    let server = Running::start("");
    let line = "--whip SERVER/whip --sessions 25 --rate 500 --seconds 1 --talk 20";
    let json = server.load(line).unwrap().to_json();
    assert_eq!(json["sessions"]["connected"], 25, "{json}");
    let sent = count(&json["packets"]["sent"]);
    assert!((1..=25 * 50 / 4).contains(&sent), "{json}");
    assert_eq!(json["packets"]["lost"], 0, "{json}");
}

/// Two threads call a server of two shards: each session is told by the port that it found, and none is counted twice.
#[test]
fn two_shards_are_told_apart_and_two_threads_share_the_sessions() {
    let server = Running::start("shards = 2\n");
    let line = "--whip SERVER/whip --sessions 40 --rate 200 --seconds 2 --shards --threads 2";
    let report = server.load(line).unwrap();
    let json = report.to_json();
    assert!(report.is_whole(), "{json}");
    let shards = json["shards"].as_array().expect("a list");
    assert_eq!(shards.len(), 2, "{json}");
    assert_ne!(shards[0]["address"], shards[1]["address"], "{json}");
    let sum = |path: &str| -> u64 {
        let values = shards.iter().map(|shard| shard.pointer(path).map(count));
        values.map(|value| value.expect("each has it")).sum()
    };
    assert_eq!(sum("/connected"), 40, "{json}");
    for shard in shards {
        // Placed by load, so evenly.
        assert!(count(&shard["connected"]) >= 15, "{json}");
        assert_eq!(shard["packets"]["lost"], 0, "{json}");
        assert!(count(&shard["packets"]["sent"]) > 1_000, "{json}");
        assert_eq!(
            shard["setup_ms"]["post_to_first_packet"]["count"], shard["connected"],
            "{json}"
        );
    }
    for (of_shards, of_all) in [
        ("/packets/sent", "/packets/sent"),
        ("/packets/received", "/packets/received"),
        ("/round_trip_ms/count", "/round_trip_ms/count"),
    ] {
        assert_eq!(Some(sum(of_shards)), json.pointer(of_all).map(count));
    }
    assert_eq!(json["packets"]["misdelivered"], 0, "{json}");
    assert_eq!(json["generator"]["threads"], 2);
    let text = report.to_string();
    for shard in shards {
        let address = shard["address"].as_str().expect("a text");
        assert!(text.contains(address), "{text}");
    }
    assert_eq!(server.sessions(), 0);
}

/// Sessions come and go while others talk, and nothing is lost nor left: what minutes of it would show, in short.
#[test]
fn sessions_that_come_for_others_connect_lose_nothing_and_leave_nothing() {
    let server = Running::start("shards = 2\n");
    let pid = std::process::id();
    let line = format!(
        "--whip SERVER/whip --sessions 20 --rate 200 --seconds 4 --churn 20 --threads 2 --pid {pid}"
    );
    let report = server.load(&line).unwrap();
    let json = report.to_json();
    assert!(report.is_whole(), "{json}");
    let churned = count(&json["sessions"]["churned"]);
    assert!((30..=40).contains(&churned), "{json}");
    assert_eq!(json["sessions"]["connected"], 20 + churned, "{json}");
    assert_eq!(json["packets"]["lost"], 0, "{json}");
    assert_eq!(
        json["packets"]["sent"], json["packets"]["received"],
        "{json}"
    );
    assert_eq!(json["packets"]["misdelivered"], 0, "{json}");
    assert_eq!(json["sessions"]["left_on_server"], 0, "{json}");
    let resident = json["server"]["resident_kib_in_media"].as_array();
    assert_eq!(resident.map(Vec::len), Some(3), "{json}");
    assert_eq!((server.sessions(), server.connected()), (0, 0));
    let metrics = server.get("/metrics");
    let faults = metrics
        .lines()
        .filter(|line| line.starts_with("antiphon_faults_total{"));
    assert!(faults.clone().count() == 2 && faults.into_iter().all(|line| line.ends_with(" 0")));
}

/// More turns than sessions can take: no two have the same session at a time, and churn ends with the media.
#[test]
fn churn_that_is_asked_to_be_too_fast_leaves_nothing_either() {
    let server = Running::start("");
    let line = "--whip SERVER/whip --sessions 20 --rate 200 --seconds 4 --churn 200";
    let report = server.load(line).unwrap();
    let json = report.to_json();
    assert!(report.is_whole(), "{json}");
    let churned = count(&json["sessions"]["churned"]);
    assert!((20..=400).contains(&churned), "{json}");
    assert_eq!(json["sessions"]["connected"], 20 + churned, "{json}");
    assert_eq!(json["packets"]["misdelivered"], 0, "{json}");
    assert_eq!(json["sessions"]["left_on_server"], 0, "{json}");
    let seconds = json["media_seconds"].as_f64();
    assert!(seconds < Some(6.0), "{json}");
    assert_eq!((server.sessions(), server.connected()), (0, 0));
}

#[test]
fn a_server_that_refuses_is_reported_with_what_it_says() {
    let server = Running::start("max_sessions = 3\n");
    let line = "--whip SERVER/whip --sessions 5 --rate 500 --seconds 0";
    let report = server.load(line).unwrap();
    let json = report.to_json();
    assert!(!report.is_whole());
    assert_eq!(json["sessions"]["connected"], 3, "{json}");
    assert_eq!(json["sessions"]["failed"], 2, "{json}");
    let failures = json["sessions"]["failures"].as_object().expect("reasons");
    assert_eq!(failures.len(), 1, "{json}");
    assert!(
        failures.keys().all(|reason| reason.starts_with("503 ")),
        "{json}"
    );

    let missing =
        server.load("--whip SERVER/whip --whep SERVER/whep/nobody/here --sessions 2 --seconds 0");
    let json = missing.unwrap().to_json();
    assert_eq!(json["sessions"]["connected"], 1, "the publisher: {json}");
    let nowhere = server.load("--whip SERVER/nowhere --whep SERVER/whep/a/b --seconds 0");
    assert!(matches!(nowhere, Err(LoadError::Publisher(why)) if why.starts_with("404 ")));
    assert_eq!(server.sessions(), 0);
}

#[test]
fn a_server_that_ends_every_session_is_reported_too() {
    let mut server = Running::start("");
    let url = server.url.clone();
    let line = format!("--whip {url}/whip --sessions 5 --rate 500 --seconds 2");
    let arguments = parse(&line).unwrap();
    let measuring = thread::spawn(move || measure(&arguments));
    let clock = Clock::start();
    let patience = Duration::from_secs(10);
    while server.connected() < 5 && clock.now().since(Timestamp::ZERO) < patience {
        thread::yield_now();
    }
    drop(server.stop.take());
    let report = measuring.join().expect("it does not panic").unwrap();
    let json = report.to_json();
    assert!(!report.is_whole(), "{json}");
    let ended = &json["sessions"]["ended_early"]["the server ended it"];
    let failed = &json["sessions"]["failed"];
    assert_eq!(ended.as_u64().unwrap_or(0) + count(failed), 5, "{json}");
}

#[test]
fn arguments_that_cannot_be_used_are_refused_by_name() {
    let whip = "--whip http://127.0.0.1:9/whip";
    for (line, word) in [
        ("", "--whip"),
        ("--whip ftp://127.0.0.1/", "http://"),
        (&format!("{whip} --sessions 0"), "--sessions"),
        (&format!("{whip} --sessions 20001"), "20000"),
        (&format!("{whip} --rate 0"), "POSTs a second"),
        (&format!("{whip} --rate nan"), "POSTs a second"),
        (&format!("{whip} --talk 101"), "0..=100"),
        (&format!("{whip} --pps 0"), "--pps"),
        (&format!("{whip} --payload 18"), "19..=257"),
        (&format!("{whip} --payload 258"), "19..=257"),
        (&format!("{whip} --seconds 3601"), "3600"),
        (&format!("{whip} --threads 0"), "1..=64"),
        (&format!("{whip} --churn 201"), "1..=200"),
        (&format!("{whip} --speech --churn 1"), "--churn"),
        (&format!("{whip} --speech --talk 20"), "--talk"),
        (
            &format!("{whip} --whep http://127.0.0.1:9/ --talk 20"),
            "--talk",
        ),
        (&format!("{whip} --pid self"), "--pid"),
    ] {
        let said = parse(line).expect_err(line).to_string();
        assert!(said.contains(word), "{line}: {said}");
    }
    let mut words = vec![
        "load",
        "--whip",
        "http://127.0.0.1:9/whip",
        "--token",
        "two\nlines",
    ];
    assert!(Line::try_parse_from(&words).is_err());
    words[4] = "a.b.c";
    let arguments = Line::try_parse_from(&words)
        .expect("a good token")
        .arguments;
    assert!(
        !format!("{arguments:?}").contains("a.b.c"),
        "a token is a secret"
    );
}

#[test]
fn what_only_shows_when_it_begins_is_refused_by_name_too() {
    let said = |line: &str| measure(&parse(line).unwrap()).unwrap_err().to_string();
    let pid = said("--whip http://127.0.0.1:9/whip --pid 4294967295");
    assert!(pid.starts_with("--pid: there is no such process"), "{pid}");
    let ca = said("--whip https://127.0.0.1:9/whip --ca Cargo.toml");
    assert!(
        ca.starts_with("--ca: Cargo.toml: it holds no certificate"),
        "{ca}"
    );
    let ca = said("--whip https://127.0.0.1:9/whip --ca nowhere.pem");
    assert!(ca.starts_with("--ca: nowhere.pem: "), "{ca}");
}

//! Real calls of the load generator to a real server: what either allocates for a packet. Two runs that differ in
//! nothing but their length tell: what the longer one allocates more, it allocates for packets.

use std::fs;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use antiphon_core::time::Timestamp;
use antiphon_server::config::Config;
use antiphon_server::load::{Arguments, measure};
use antiphon_server::server::Server;
use antiphon_server::shards;
use antiphon_udp::Clock;
use antiphon_udp::conformance::{Counting, allocations_of};
use tokio::sync::oneshot;

#[global_allocator]
static COUNTING: Counting = Counting;

/// A thread has begun by then, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);
const SESSIONS: u32 = 20;
/// Pairs of runs at most, until one of them is level.
const ATTEMPTS: u32 = 3;
/// Shorter than the least time between two checks of consent.
const SECONDS: (u64, u64) = (1, 3);
/// Of the longer run, more than of the shorter: handshakes do not all go the same way, and buffers may grow once more.
const DIFFERENCE_MAX: u64 = 100;

/// A server of one shard on tokio.
struct Running {
    url: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

fn serve() -> Running {
    let config = Config::from_toml(
        "http = \"127.0.0.1:0\"\nmedia_ip = \"127.0.0.1\"\nmedia_port = 0\nrate_limit = 0\nruntime = \"tokio\"\n",
    );
    let config = config.expect("a good configuration");
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
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
    Running {
        url: format!("http://{address}/whip"),
        stop,
        thread,
    }
}

/// The thread of this name, if there is one.
fn thread_named(name: &str) -> Option<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("this process has threads");
    let mut named = tasks.flatten().filter(|task| {
        let found = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        found.trim_end() == name
    });
    named.next()?.file_name().to_str()?.parse().ok()
}

/// The same, once it has its name, if that takes no longer than anything here.
fn named(name: &str) -> u32 {
    let clock = Clock::start();
    loop {
        if let Some(thread) = thread_named(name) {
            return thread;
        }
        let passed = clock.now().since(Timestamp::ZERO);
        assert!(passed < PATIENCE, "there is no thread {name}");
        thread::yield_now();
    }
}

/// Packets sent and received by the generator in a run of so many seconds, and allocations in it of the generator's
/// thread and of the shard's.
fn run(server: &Running, seconds: u64) -> (u64, [u64; 2]) {
    let arguments = Arguments::echo(server.url.parse().expect("a URL"), SESSIONS, seconds);
    let shard = named("shard-0");
    let before = allocations_of(shard);
    let measuring = thread::spawn(move || measure(&arguments));
    let engine = named("load-0");
    let report = measuring.join().expect("it does not panic");
    let report = report.expect("it could be measured").to_json();
    assert_eq!(report["sessions"]["connected"], SESSIONS, "{report}");
    assert_eq!(report["packets"]["lost"], 0, "{report}");
    let count = |name: &str| report["packets"][name].as_u64().expect("a count");
    let allocated = [allocations_of(engine), allocations_of(shard) - before];
    (count("sent") + count("received"), allocated)
}

#[test]
fn neither_the_generator_nor_a_shard_allocates_for_a_packet() {
    let server = serve();
    // What is made once and kept is made.
    run(&server, 0);
    // A handshake that a busy machine repeats takes a hundred more, in one of the runs by chance; packets would in all.
    let is_level = (0..ATTEMPTS).any(|_| {
        let (short, long) = (run(&server, SECONDS.0), run(&server, SECONDS.1));
        println!("packets, and allocations of generator and shard: {short:?} and {long:?}");
        let more = long.0 - short.0;
        assert!(more > 10 * DIFFERENCE_MAX, "{more} packets");
        short.1.iter().zip(long.1).all(|(short, long)| {
            assert!(*short > 0, "allocations are counted");
            long <= short + DIFFERENCE_MAX
        })
    });
    assert!(is_level, "more for more packets, {ATTEMPTS} times");
    drop(server.stop);
    server.thread.join().expect("it ends");
}

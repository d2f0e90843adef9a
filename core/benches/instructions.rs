//! Instructions a packet, counted by callgrind: repeatable to a fraction of a percent on any machine, where
//! times are not.
//!
//! ```text
//! cargo bench --workspace --bench instructions              prints the figures beside the baseline
//! cargo bench --workspace --bench instructions -- --check   fails on more than 5 % over it, or over a budget
//! cargo bench --workspace --bench instructions -- --write   makes the figures the baseline
//! ```
//!
//! The program runs itself under valgrind once a case, and collects only inside `measured_*`, or, of a handshake, in
//! the pump's turns. Sessions come of real handshakes with str0m peers, packets are what those peers sealed, and what
//! the shard sends is consumed as the pump consumes it. To see where the instructions go, do by hand what `count`
//! does, with `--callgrind-out-file=FILE`, and give the file to `callgrind_annotate`.

#[path = "../tests/support/mod.rs"]
mod support;
/// The shard's own, compiled here once more: were it called from outside as well, the shard's calls would be others.
#[allow(
    dead_code,
    unused_imports,
    reason = "the shard and its tests use the rest"
)]
#[path = "../src/shard/wheel.rs"]
mod wheel;
/// What that needs of the crate it is of.
mod rng {
    #[cfg(test)]
    pub(crate) use antiphon_core::rng::Seed;
}
/// The same.
mod time {
    pub(crate) use antiphon_core::time::Timestamp;

    pub(crate) fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
        one.into_iter().chain(other).min()
    }
}

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::time::Duration;

use antiphon_core::drive::Pump;
use antiphon_core::ids::RoomId;
use antiphon_core::limits::SRTP_OVERHEAD_BYTES_MAX;
use antiphon_core::message::{Event, ProfileName, Role, Target};
use antiphon_core::plan::Codec;
use antiphon_core::shard::Shard;
use antiphon_core::srtp::{Inbound, Outbound, ReplayWindow, RtpPosition, SendSource};
use antiphon_core::time::Timestamp;
use antiphon_core::wire::rtp::{HeaderFields, write_header};
use antiphon_core::wire::{Class, classify};
use str0m::media::{Direction, MediaKind};

use crate::support::recording::{Delivery, Flight, Packet, deliver, rounds_of, voice};
use crate::support::{World, publisher};
use crate::wheel::Wheel;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.baseline");
/// Growth over the baseline that fails: compilers and cipher libraries move counts by less.
const GROWTH_PERCENT_MAX: u64 = 5;
/// What a packet may cost, all bookkeeping included.
const BUDGETS: &[(&str, u64)] = &[("received", 2_200), ("forwarded", 2_200)];
/// Counts vary by some instructions with the random keys and sources of a run; a budget is broken beyond that.
const BUDGET_NOISE: u64 = 22;
/// Figures that may not exceed another by more than this: nothing grows with the number of tracks.
const TRACKS_PERCENT_MAX: u64 = 3;
const SAME: &[(&str, &str)] = &[
    ("echo, 20 tracks in turn", "echo, in and out"),
    ("forwarded to one, 20 sections", "forwarded to one"),
];

/// Packets handled before counting: caches, tables and buffers have their sizes then.
const WARM_UP: usize = 100;
/// Packets counted.
const COUNTED: usize = 2_000;
/// The same where each goes to a hundred.
const COUNTED_OF_MANY: usize = 200;
/// Sessions that connect.
const JOINS: usize = 20;
const PAYLOAD_BYTES: usize = 100;
/// Packets found at once.
const TOGETHER: usize = 16;
const PACKET_INTERVAL: Duration = Duration::from_millis(20);

const USAGE: &str = "usage: instructions [--check | --write | --case NAME]";

/// Runs under valgrind, by the names they are called with.
const CASES: &[(&str, fn())] = &[
    ("received", || publish(0, 1, COUNTED)),
    ("together", together),
    ("fan-out-1", || publish(1, 1, COUNTED)),
    ("fan-out-10", || publish(10, 1, COUNTED)),
    ("fan-out-100", || publish(100, 1, COUNTED_OF_MANY)),
    ("fan-out-1-of-20", || publish(1, 20, COUNTED)),
    ("echo", || echo(1)),
    ("echo-20", || echo(20)),
    ("unknown-source", || refused(false)),
    ("known-source", || refused(true)),
    ("check", check),
    ("handshake", handshake),
    ("timer-moved", timer_moved),
    ("timer-fired", timer_fired),
    ("idle-turn", idle_turn),
    ("open-128", || open(ProfileName::AeadAes128Gcm)),
    ("open-256", || open(ProfileName::AeadAes256Gcm)),
    ("seal-128", || seal(ProfileName::AeadAes128Gcm)),
    ("seal-256", || seal(ProfileName::AeadAes256Gcm)),
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--case", name] => run_case(name),
        [] => compare(false),
        ["--check"] => compare(true),
        ["--write"] => write(),
        _ => fail(USAGE),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

// --- Cases ---

fn run_case(name: &str) -> ExitCode {
    let Some((_, case)) = CASES.iter().find(|(found, _)| *found == name) else {
        return fail(USAGE);
    };
    case();
    ExitCode::SUCCESS
}

/// So many packets of one publisher of an audio track to so many subscribers, who could receive `sections` of them.
fn publish(subscribers: usize, sections: usize, count: usize) {
    let mut world = World::new(1);
    let peer = world.join(&[(MediaKind::Audio, Direction::SendOnly)], publisher(1, 1));
    for _ in 0..subscribers {
        let role = Role::Subscribe {
            room: RoomId(1),
            target: Target::Newest,
        };
        let offered = vec![(MediaKind::Audio, Direction::RecvOnly); sections];
        let tracks = vec![Codec::Opus; sections];
        world.join_with(&offered, role, |config| config, &tracks);
    }
    world.connect_all();
    let packets = record(&mut world, peer, count);
    let sent = measure(world, packets);
    assert_eq!(
        sent.media,
        count * subscribers,
        "a packet to each subscriber"
    );
}

/// Packets of as many publishers, found by one turn of the pump: with what that does around each and ahead of them.
fn together() {
    let mut world = World::new(1);
    let mut peers: Vec<_> = (0..TOGETHER as u16)
        .map(|number| voice(&mut world, number, publisher(number.into(), 1)))
        .collect();
    let rounds = (COUNTED + WARM_UP).div_ceil(TOGETHER);
    let rounds = rounds_of(&mut peers, rounds as u16, PAYLOAD_BYTES);
    let sources = || peers.iter().map(|peer| peer.address);
    let mut packets: Vec<_> = rounds
        .into_iter()
        .flat_map(|round| sources().zip(round))
        .collect();
    let counted = packets.split_off(packets.len() - COUNTED);
    Flight::new(world.now, packets, TOGETHER).deliver(&mut world.pump);
    let before = world.shard().stats().rtp_received;
    let later = world.now + Duration::from_secs(1);
    let mut flight = Flight::new(later, counted, TOGETHER);
    measured_flight(&mut world.pump, &mut flight);
    let received = world.shard().stats().rtp_received - before;
    assert_eq!(received, COUNTED as u64, "each packet is taken");
}

#[inline(never)]
fn measured_flight(pump: &mut Pump, flight: &mut Flight) {
    flight.deliver(pump);
}

/// A peer that hears itself, its tracks in turn.
fn echo(tracks: usize) {
    let mut world = World::new(1);
    let sections = vec![(MediaKind::Audio, Direction::SendRecv); tracks];
    let peer = world.join(&sections, Role::Echo);
    world.connect_all();
    let packets = record(&mut world, peer, COUNTED);
    assert_eq!(
        measure(world, packets).media,
        COUNTED,
        "every packet comes back"
    );
}

/// Packets that are refused: of a source that nobody proved, or of a session's own, which must be found first. Those
/// name more contributing sources than they are long.
fn refused(is_known: bool) {
    let mut world = World::new(1);
    let peer = world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    world.connect_all();
    let mut packets = record(&mut world, peer, COUNTED);
    for packet in &mut packets {
        if is_known {
            packet.contents[0] |= 0x0f;
            packet.contents.truncate(40);
        } else {
            packet.source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
        }
    }
    let refused = |shard: &Shard| shard.stats().drops.iter().sum::<u64>();
    let before = refused(world.shard());
    let all = packets.len() as u64;
    let (world, sent) = measure_in(world, packets);
    assert_eq!(refused(world.shard()) - before, all, "all are refused");
    assert_eq!(sent.media, 0, "nothing comes of it");
}

/// A repeated connectivity check, answered; it puts off the end of consent, so the session's timer moves.
fn check() {
    let mut world = World::new(1);
    world.record = true;
    world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    world.connect_all();
    let is_check = |datagram: &&support::Flying| classify(&datagram.contents) == Class::Stun;
    let check = world
        .recorded
        .iter()
        .rfind(is_check)
        .expect("peers send checks")
        .clone();
    let copies = (1..=WARM_UP + COUNTED).map(|number| Delivery {
        now: world.now + PACKET_INTERVAL * number as u32,
        source: check.source,
        contents: check.contents.clone(),
    });
    let copies = copies.collect();
    assert_eq!(
        measure(world, copies).control,
        COUNTED,
        "every check is answered"
    );
}

/// All that a shard does for sessions to come up: opened, checked, shaken hands with. Counted in `turn_pump`.
fn handshake() {
    let mut world = World::new(1);
    for _ in 0..JOINS {
        world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    }
    world.connect_all();
    let connected = world.shard().stats().sessions_connected;
    assert_eq!(connected as usize, JOINS);
}

/// Sessions on a wheel.
const TIMERS: u32 = 1_000;

/// A check puts off the end of consent, as it does in a shard of a thousand.
fn timer_moved() {
    let mut timers = Wheel::new();
    let deadline = |number: u64| Timestamp::from_millis(29_000 + number);
    for slot in 0..TIMERS {
        timers.arm(slot, Some(deadline(slot.into())));
    }
    let moves: Vec<_> = (0..COUNTED as u64)
        .map(|number| {
            let slot = (number * 7) as u32 % TIMERS;
            (slot, deadline(u64::from(TIMERS) + number))
        })
        .collect();
    measured_moves(&mut timers, &moves);
}

#[inline(never)]
fn measured_moves(timers: &mut Wheel, moves: &[(u32, Timestamp)]) {
    for (slot, deadline) in moves {
        timers.arm(*slot, Some(*deadline));
        std::hint::black_box(timers.next());
    }
}

/// What is due soon is set, comes due and is set again.
fn timer_fired() {
    let mut timers = Wheel::new();
    for slot in 0..TIMERS {
        let ahead = 20 + u64::from(slot) % 400;
        timers.arm(slot, Some(Timestamp::from_millis(ahead)));
    }
    assert_eq!(measured_fires(&mut timers), COUNTED);
}

#[inline(never)]
fn measured_fires(timers: &mut Wheel) -> usize {
    let mut fired = 0;
    while fired < COUNTED {
        let Some(now) = timers.next() else { break };
        while let Some(slot) = timers.pop_due(now) {
            timers.arm(slot, Some(now + Duration::from_millis(100)));
            fired += 1;
            if fired == COUNTED {
                break;
            }
        }
    }
    fired
}

/// A turn of the pump with nothing to do, among 100 sessions.
fn idle_turn() {
    let mut world = World::new(1);
    for _ in 0..100 {
        world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    }
    let turns: Vec<_> = (1..=COUNTED as u64)
        .map(|number| world.now + Duration::from_micros(number))
        .collect();
    measured_turns(world.pump.shard_mut(), &turns);
}

// str0m agrees on GCM-256 alone, and the budgets are for GCM-128: the difference is counted on its own.

const SSRC: u32 = 7;
/// With an extension block, as audio has it.
const HEADER_BYTES: usize = 20;

fn master(profile: ProfileName) -> ([u8; 32], usize) {
    let key_len = if profile == ProfileName::AeadAes128Gcm {
        16
    } else {
        32
    };
    ([3; 32], key_len)
}

type SealedPacket = [u8; HEADER_BYTES + PAYLOAD_BYTES + SRTP_OVERHEAD_BYTES_MAX];

fn outbound(profile: ProfileName) -> (Outbound, SendSource) {
    let (key, len) = master(profile);
    let mut keys = Outbound::from_master(profile, &key[..len], &[5; 12]).expect("whole keys");
    let source = keys.claim(SSRC).expect("it is the first source");
    (keys, source)
}

fn headers() -> Vec<SealedPacket> {
    let packet = |number: u16| {
        let mut packet = [0; size_of::<SealedPacket>()];
        let fields = HeaderFields {
            payload_type: 111,
            marker: false,
            sequence_number: number,
            timestamp: 960 * u32::from(number),
            ssrc: SSRC,
        };
        let len = write_header(&mut packet, &fields, &[(1, &[20])]);
        assert_eq!(len, Some(HEADER_BYTES));
        packet
    };
    (0..COUNTED as u16).map(packet).collect()
}

fn seal_all(keys: &Outbound, source: &mut SendSource, packets: &mut [SealedPacket]) {
    for (packet, number) in packets.iter_mut().zip(0..) {
        let sealed = keys.seal_rtp(
            source,
            number,
            packet,
            HEADER_BYTES,
            &[],
            &[9; PAYLOAD_BYTES],
        );
        assert_eq!(sealed, Ok(size_of::<SealedPacket>()));
    }
}

fn seal(profile: ProfileName) {
    let (keys, mut source) = outbound(profile);
    measured_seal(&keys, &mut source, &mut headers());
}

fn open(profile: ProfileName) {
    let (keys, mut source) = outbound(profile);
    let mut packets = headers();
    seal_all(&keys, &mut source, &mut packets);
    let (key, len) = master(profile);
    let keys = Inbound::from_master(profile, &key[..len], &[5; 12]).expect("whole keys");
    measured_open(&keys, &mut packets);
    let payloads = packets
        .iter()
        .map(|packet| &packet[HEADER_BYTES..][..PAYLOAD_BYTES]);
    assert!(payloads.eq([&[9; PAYLOAD_BYTES][..]; COUNTED]));
}

#[inline(never)]
fn measured_seal(keys: &Outbound, source: &mut SendSource, packets: &mut [SealedPacket]) {
    seal_all(keys, source, packets);
}

#[inline(never)]
fn measured_open(keys: &Inbound, packets: &mut [SealedPacket]) {
    let mut window = ReplayWindow::default();
    for (packet, number) in packets.iter_mut().zip(0..) {
        let position = RtpPosition {
            ssrc: SSRC,
            sequence_number: number,
            header_len: HEADER_BYTES,
        };
        assert!(keys.open_rtp(&mut window, position, packet).is_ok());
    }
}

/// What a peer's next packets look like on the wire, its tracks in turn; the shard has not seen them.
fn record(world: &mut World, peer: usize, count: usize) -> Vec<Delivery> {
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    assert!(world.events.iter().any(connected), "the handshake is done");
    let tracks = world.mids(peer).len();
    let interval = PACKET_INTERVAL / tracks as u32;
    world.record_media(peer, WARM_UP + count, interval, |number| Packet {
        section: number as usize % tracks,
        time: number / tracks as u32 * 960,
        marker: false,
        payload: vec![number as u8; PAYLOAD_BYTES],
    })
}

/// Transmits the counted deliveries caused.
#[derive(Default)]
struct Sent {
    media: usize,
    control: usize,
}

fn measure(world: World, deliveries: Vec<Delivery>) -> Sent {
    measure_in(world, deliveries).1
}

fn measure_in(mut world: World, mut deliveries: Vec<Delivery>) -> (World, Sent) {
    let (warm_up, counted) = deliveries.split_at_mut(WARM_UP);
    for delivery in warm_up {
        deliver(world.pump.shard_mut(), delivery);
    }
    let before = world.shard().stats();
    measured_deliveries(world.pump.shard_mut(), counted);
    let after = world.shard().stats();
    let media = (after.rtp_sent - before.rtp_sent) as usize;
    let all = (after.datagrams_sent - before.datagrams_sent) as usize;
    let sent = Sent {
        media,
        control: all - media,
    };
    (world, sent)
}

/// Counted from its entry to its return: no closure in it, whose name would match too.
#[inline(never)]
fn measured_deliveries(shard: &mut Shard, deliveries: &mut [Delivery]) {
    for delivery in deliveries {
        deliver(shard, delivery);
    }
}

/// As [`measured_deliveries`].
#[inline(never)]
fn measured_turns(shard: &mut Shard, turns: &[Timestamp]) {
    for now in turns {
        shard.handle_timeout(*now);
        std::hint::black_box((shard.poll_event(), shard.deadline()));
    }
}

// --- Figures ---

type Figures = BTreeMap<String, u64>;

/// Instructions by name, or why there are none.
fn figures() -> Result<Figures, String> {
    let mut counts = BTreeMap::new();
    for (name, _) in CASES {
        let (of, within) = match *name {
            "handshake" => (JOINS, "*turn_pump*"),
            "fan-out-100" => (COUNTED_OF_MANY, "*measured_*"),
            _ => (COUNTED, "*measured_*"),
        };
        counts.insert(*name, count(name, within)? / of as u64);
    }
    let of = |name| counts[name];
    let (open, seal) = (
        of("open-256") - of("open-128"),
        of("seal-256") - of("seal-128"),
    );
    let figures = [
        ("received", of("received") - open),
        ("received, GCM-256", of("received")),
        ("received, 16 at once", of("together") - open),
        ("forwarded", (of("fan-out-10") - of("fan-out-1")) / 9 - seal),
        (
            "forwarded, GCM-256",
            (of("fan-out-10") - of("fan-out-1")) / 9,
        ),
        ("forwarded to one", of("fan-out-1") - of("received") - seal),
        ("received, to 1", of("fan-out-1") - open - seal),
        ("received, to 10", of("fan-out-10") - open - 10 * seal),
        ("received, to 100", of("fan-out-100") - open - 100 * seal),
        (
            "forwarded to one, 20 sections",
            of("fan-out-1-of-20") - of("received") - seal,
        ),
        ("echo, in and out", of("echo") - open - seal),
        ("echo, 20 tracks in turn", of("echo-20") - open - seal),
        ("opened, SRTP alone", of("open-128")),
        ("sealed, SRTP alone", of("seal-128")),
        ("unknown source refused", of("unknown-source")),
        ("known source found and refused", of("known-source")),
        ("a session up, handshake and all", of("handshake")),
        ("timer moved, of 1,000", of("timer-moved")),
        ("timer fired and set, of 1,000", of("timer-fired")),
        ("check answered, timer moved", of("check")),
        ("idle turn, 100 sessions", of("idle-turn")),
    ];
    Ok(figures.map(|(name, count)| (name.to_owned(), count)).into())
}

/// Instructions of one case inside the functions of a name, commonly `measured_*`.
fn count(case: &str, within: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--collect-atstart=no")
        .arg(format!("--toggle-collect={within}"))
        .arg(program)
        .args(["--case", case])
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => NO_VALGRIND.to_owned(),
            _ => error.to_string(),
        })?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() && count > 0 => Ok(count),
        _ => Err(format!("case {case} was not counted:\n{text}")),
    }
}

const NO_VALGRIND: &str = "SKIPPED: install the Debian package valgrind";

/// Prints the figures beside the baseline; with `enforce`, too large ones fail.
fn compare(enforce: bool) -> ExitCode {
    let figures = match figures() {
        Ok(figures) => figures,
        // A machine of ours must count.
        Err(reason) if reason == NO_VALGRIND && std::env::var_os("CI").is_none() => {
            println!("{reason}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => return fail(&reason),
    };
    let baseline = match read_baseline() {
        Ok(baseline) => baseline,
        Err(reason) if enforce => return fail(&reason),
        Err(_) => Figures::new(),
    };
    let mut faults = String::new();
    println!("{:<32}{:>8}{:>10}", "instructions", "now", "baseline");
    for (name, count) in &figures {
        let before = baseline.get(name).copied();
        let shown = before.map_or_else(|| "none".to_owned(), |before| before.to_string());
        println!("{name:<32}{count:>8}{shown:>10}");
        if let Some(fault) = decide_fault(name, *count, before) {
            let _written = writeln!(faults, "{fault}");
        }
    }
    for (name, other) in SAME {
        if figures[*name] * 100 > figures[*other] * (100 + TRACKS_PERCENT_MAX) {
            let _written = writeln!(faults, "{name}: grows with the number of tracks");
        }
    }
    if enforce && !faults.is_empty() {
        return fail(&faults);
    }
    ExitCode::SUCCESS
}

fn decide_fault(name: &str, count: u64, before: Option<u64>) -> Option<String> {
    let budget = BUDGETS.iter().find(|(other, _)| *other == name);
    if let Some((_, budget)) = budget.filter(|(_, budget)| count > *budget + BUDGET_NOISE) {
        return Some(format!(
            "{name}: {count} instructions, the budget is {budget}"
        ));
    }
    match before {
        None => Some(format!("{name}: not in the baseline; see --write")),
        Some(before) if count * 100 > before * (100 + GROWTH_PERCENT_MAX) => Some(format!(
            "{name}: {count} instructions, over {GROWTH_PERCENT_MAX} % more than the baseline's {before}"
        )),
        Some(_) => None,
    }
}

fn read_baseline() -> Result<Figures, String> {
    let text = std::fs::read_to_string(BASELINE).map_err(|error| format!("{BASELINE}: {error}"))?;
    let figure = |line: &str| {
        let (name, count) = line.split_once(" = ")?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines()
        .map(|line| figure(line).ok_or_else(|| format!("{BASELINE}: not `name = count`: {line}")))
        .collect()
}

fn write() -> ExitCode {
    let figures = match figures() {
        Ok(figures) => figures,
        Err(reason) => return fail(&reason),
    };
    let lines: String = figures
        .iter()
        .map(|(name, count)| format!("{name} = {count}\n"))
        .collect();
    print!("{lines}");
    match std::fs::write(BASELINE, lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{BASELINE}: {error}")),
    }
}

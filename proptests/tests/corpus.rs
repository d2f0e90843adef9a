//! The fuzz bodies on stable: over the committed corpora, the malformed inputs of others, and seeded random and
//! mutated inputs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use antiphon_core::fuzzing;
use antiphon_core::rng::{Rng, Seed};
use flate2::read::GzDecoder;
use serde_json::Value;

type Body = fn(&[u8]);

const INPUTS: usize = 2_000;
/// The same of `agent_ops`: a network listens to each 10 ms of a call.
const CALLS: usize = 50;
const INPUT_BYTES_MAX: usize = 1_500;
/// Bytes of all committed inputs of a target together: they are kept small by hand, see `docs/fuzzing.md`.
const CORPUS_BYTES_MAX: u64 = 64 << 10;
/// The same of `journal`: whole journals are long, and small ones reach half of what they do.
const JOURNALS_BYTES_MAX: u64 = 128 << 10;

/// A body, the kinds of malformed input that fit it, and the seeds its own inputs are made of.
struct Target {
    name: &'static str,
    body: Body,
    kinds: &'static [&'static str],
    seeds: fn() -> Vec<Vec<u8>>,
}

/// A target whose inputs are made of seeds.
const fn of_seeds(
    name: &'static str,
    body: Body,
    kinds: &'static [&'static str],
    seeds: fn() -> Vec<Vec<u8>>,
) -> Target {
    Target {
        name,
        body,
        kinds,
        seeds,
    }
}

/// A target whose inputs are operations: any bytes are.
const fn of_ops(name: &'static str, body: Body) -> Target {
    of_seeds(name, body, &[], Vec::new)
}

/// As in `fuzz/fuzz_targets`.
const TARGETS: [Target; 19] = [
    of_seeds("rtp", fuzzing::rtp, &["rtp", "srtp", "any"], packets),
    of_seeds("rtcp", fuzzing::rtcp, &["rtcp", "srtp", "any"], compounds),
    of_seeds(
        "srtp",
        fuzzing::srtp,
        &["srtp", "rtp", "rtcp", "any"],
        packets,
    ),
    of_seeds("stun", fuzzing::stun, &["stun", "any"], checks),
    of_seeds("classify", fuzzing::classify, ALL_DATAGRAMS, packets),
    of_seeds("sdp_offer", fuzzing::sdp_offer, &["sdp"], offers),
    of_ops("sdp_roundtrip", fuzzing::sdp_roundtrip),
    of_seeds("trickle_frag", fuzzing::trickle_frag, &["sdp"], fragments),
    of_seeds(
        "payload",
        fuzzing::payload,
        &["h264", "rtp", "any"],
        payloads,
    ),
    of_ops("nack_ops", fuzzing::nack_ops),
    of_ops("jitter_ops", fuzzing::jitter_ops),
    of_ops("rewrite_ops", fuzzing::rewrite_ops),
    of_ops("demux_ops", fuzzing::demux_ops),
    of_ops("session_datagrams", fuzzing::session_datagrams),
    of_ops("agent_ops", fuzzing::agent_ops),
    of_ops("shard_ops", fuzzing::shard_ops),
    of_seeds("journal", fuzzing::journal, &[], fuzzing::journal_seeds),
    of_seeds("pcap", fuzzing::pcap, &[], captures),
    of_ops("pcapng", fuzzing::pcapng),
];

/// No target of its own: `shard_ops` reaches it with better bytes.
const DATAGRAM: Target = of_seeds("datagram", fuzzing::datagram, ALL_DATAGRAMS, Vec::new);

const ALL_DATAGRAMS: &[&str] = &["any", "h264", "rtcp", "rtp", "sctp", "srtp", "stun"];

/// The files of malformed inputs.
const FILES: [&str; 8] = [
    "any.jsonl",
    "h264.jsonl",
    "rtcp.jsonl",
    "rtp.jsonl.gz",
    "sctp.jsonl",
    "sdp.jsonl.gz",
    "srtp.jsonl",
    "stun.jsonl",
];

#[test]
fn malformed_inputs_of_others_break_no_promise() {
    let folder = env::var_os("ANTIPHON_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    let folder = folder.join("malformed");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no folder of test data; set ANTIPHON_VECTORS");
        return;
    }
    let mut runs = 0;
    for file in FILES {
        let mut bytes = fs::read(folder.join(file)).expect("the folder is there, so is the file");
        if file.ends_with(".gz") {
            let mut unpacked = Vec::new();
            GzDecoder::new(&bytes[..])
                .read_to_end(&mut unpacked)
                .expect("it is compressed");
            bytes = unpacked;
        }
        let text = String::from_utf8(bytes).expect("JSON is text");
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("one object a line");
            let input = unhex(value["hex"].as_str().expect("an input has bytes"));
            let kind = value["kind"].as_str().expect("an input has a kind");
            let targets = TARGETS.iter().chain([&DATAGRAM]);
            for target in targets.filter(|target| target.kinds.contains(&kind)) {
                run(target, &input);
                runs += 1;
            }
        }
    }
    assert!(runs > 1_000, "only {runs} runs");
}

/// One test a target, so that they run beside each other and a failure names its target.
macro_rules! seeded {
    ($($test:ident: $target:literal;)*) => {
        const SEEDED: &[&str] = &[$($target),*];
        $(#[test]
        fn $test() {
            run_seeded($target);
        })*
    };
}

seeded! {
    seeded_rtp_breaks_no_promise: "rtp";
    seeded_rtcp_breaks_no_promise: "rtcp";
    seeded_srtp_breaks_no_promise: "srtp";
    seeded_stun_breaks_no_promise: "stun";
    seeded_classes_break_no_promise: "classify";
    seeded_offers_break_no_promise: "sdp_offer";
    seeded_descriptions_break_no_promise: "sdp_roundtrip";
    seeded_fragments_break_no_promise: "trickle_frag";
    seeded_payloads_break_no_promise: "payload";
    seeded_gaps_break_no_promise: "nack_ops";
    seeded_arrivals_break_no_promise: "jitter_ops";
    seeded_switches_break_no_promise: "rewrite_ops";
    seeded_addresses_break_no_promise: "demux_ops";
    seeded_peers_break_no_promise: "session_datagrams";
    seeded_calls_break_no_promise: "agent_ops";
    seeded_rooms_break_no_promise: "shard_ops";
    seeded_journals_break_no_promise: "journal";
    seeded_captures_break_no_promise: "pcap";
    seeded_datagrams_in_files_break_no_promise: "pcapng";
}

/// One test a target, by the target's name, for measuring what its corpus covers.
macro_rules! committed {
    ($($target:ident)*) => {
        mod committed {
            pub(super) const TARGETS: &[&str] = &[$(stringify!($target)),*];

            $(#[test]
            fn $target() {
                super::run_committed(stringify!($target));
            })*
        }
    };
}

committed! {
    rtp rtcp srtp stun classify sdp_offer sdp_roundtrip trickle_frag payload nack_ops rewrite_ops demux_ops
    session_datagrams agent_ops shard_ops journal pcap pcapng jitter_ops
}

fn run_committed(name: &str) {
    let target = find(name);
    let folder = fuzz_folder().join("corpus").join(name);
    let inputs = files(&folder);
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    let mut bytes = 0;
    for input in inputs {
        let input = fs::read(&input).expect("it was listed");
        bytes += input.len() as u64;
        run(target, &input);
    }
    let most = match name {
        "journal" => JOURNALS_BYTES_MAX,
        _ => CORPUS_BYTES_MAX,
    };
    assert!(bytes <= most, "{name}: {bytes} bytes of corpus");
}

/// What is here, in `fuzz/fuzz_targets`, in `fuzz/Cargo.toml` and in `.ci/corpora` is the same, so that none is
/// forgotten.
#[test]
fn every_target_is_built_replayed_seeded_and_measured() {
    let names: BTreeSet<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let stem = |path: &PathBuf| {
        let stem = path.file_stem().expect("a file has a name");
        stem.to_string_lossy().into_owned()
    };
    let sources: BTreeSet<_> = files(&fuzz_folder().join("fuzz_targets"))
        .iter()
        .map(stem)
        .collect();
    assert_eq!(sources, names);
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).expect("a manifest");
    let built = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let built: BTreeSet<_> = built
        .filter_map(|rest| Some(rest.strip_suffix(".rs\"")?.to_owned()))
        .collect();
    assert_eq!(built, names);
    let corpora = fs::read_dir(fuzz_folder().join("corpus")).expect("there are corpora");
    let corpora: BTreeSet<_> = corpora
        .map(|entry| stem(&entry.expect("a folder").path()))
        .collect();
    assert_eq!(corpora, names);
    let measured = fuzz_folder().join("../.ci/corpora");
    let measured = fs::read_to_string(measured).expect("there is a list");
    let measured = measured.lines().filter_map(|row| row.split_once(' '));
    let measured: BTreeSet<_> = measured.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(measured, names);
    for tested in [SEEDED, committed::TARGETS] {
        let tested: BTreeSet<_> = tested.iter().copied().map(str::to_owned).collect();
        assert_eq!(tested, names);
    }
}

fn fuzz_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"))
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

fn find(name: &str) -> &'static Target {
    let mut targets = TARGETS.iter();
    targets
        .find(|target| target.name == name)
        .expect("the table names it")
}

/// The seeds must reach what is behind the first check, or mutating them tests little.
#[test]
fn the_seeds_are_sound() {
    use antiphon_core::sdp::{Fragment, Offer};
    use antiphon_core::wire::{rtcp, rtp, stun};
    assert!(
        packets()
            .iter()
            .all(|seed| rtp::Header::parse(seed).is_ok())
    );
    let compound = |seed: &Vec<u8>| rtcp::packets(seed).all(|packet| packet.is_ok());
    assert!(compounds().iter().all(compound));
    let named = |seed: &Vec<u8>| stun::local_ufrag(seed) == Ok(Some("abcd"));
    assert!(checks().iter().all(named));
    assert!(offers().iter().all(|seed| Offer::parse(seed).is_ok()));
    let credentials = |seed: &Vec<u8>| Fragment::parse(seed).is_ok_and(|read| read.ice.is_some());
    assert!(fragments().iter().all(credentials));
}

/// Were all of them refused, `sdp_roundtrip` would show little.
#[test]
fn many_of_the_descriptions_are_answered() {
    use antiphon_core::sdp::{Offer, Purpose};
    let mut rng = Seed::new([8; 32]).rng();
    let mut answered = [0; 3];
    for _ in 0..300 {
        let mut bytes = [0; 200];
        rng.fill(&mut bytes);
        let text = fuzzing::described_offer(&bytes).expect("any bytes describe an offer");
        let offer = Offer::parse(text.as_bytes()).expect("it is a description");
        let purposes = [
            Purpose::Echo,
            Purpose::Publish { prefer: None },
            Purpose::Subscribe { tracks: Vec::new() },
        ];
        for (count, purpose) in answered.iter_mut().zip(purposes) {
            *count += u32::from(offer.negotiate(purpose).is_ok());
        }
    }
    assert!(
        answered.iter().all(|count| *count >= 40),
        "{answered:?} of 300"
    );
}

fn run_seeded(name: &str) {
    let target = find(name);
    let seeds = (target.seeds)();
    lay_down(name, &seeds);
    let mut rng = Seed::new([9; 32]).derive(name, 0).rng();
    seeds.iter().for_each(|seed| run(target, seed));
    let inputs = match name {
        "agent_ops" => CALLS,
        _ => INPUTS,
    };
    for round in 0..inputs {
        let input = match seeds.len() {
            0 => random(&mut rng),
            len if round % 4 != 0 => mutated(&mut rng, &seeds[round % len]),
            _ => random(&mut rng),
        };
        run(target, &input);
    }
}

/// Puts seeds into the target's folder of `ANTIPHON_FUZZ_SEEDS`, if that is set: for a fuzzer to begin with.
fn lay_down(name: &str, seeds: &[Vec<u8>]) {
    let Some(folder) = env::var_os("ANTIPHON_FUZZ_SEEDS") else {
        return;
    };
    let folder = PathBuf::from(folder).join(name);
    fs::create_dir_all(&folder).expect("a folder that can be written");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("room for it");
    }
}

/// Shows the input of a failure, to be made a test of its own.
fn run(target: &Target, input: &[u8]) {
    let body = target.body;
    if std::panic::catch_unwind(|| body(input)).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} breaks a promise over {hex}", target.name);
    }
}

fn random(rng: &mut Rng) -> Vec<u8> {
    // Short inputs are where lengths go wrong.
    let most = [8, 40, 200, INPUT_BYTES_MAX as u32][rng.below(4) as usize];
    let mut input = vec![0; rng.below(most + 1) as usize];
    rng.fill(&mut input);
    input
}

fn mutated(rng: &mut Rng, seed: &[u8]) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(input.len() as u32 + 1) as usize;
        let end = (at + rng.below(16) as usize).min(input.len());
        match rng.below(7) {
            0 if at < input.len() => input[at] ^= 1 << rng.below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5) as usize],
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => input.insert(at, rng.u32() as u8),
            5 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            _ => move_line(rng, &mut input),
        }
    }
    input
}

/// What breaks text: a line that is missing, doubled or elsewhere.
fn move_line(rng: &mut Rng, input: &mut Vec<u8>) {
    let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.len() < 2 {
        return;
    }
    let line = lines[rng.below(lines.len() as u32) as usize];
    match rng.below(3) {
        0 => lines.retain(|other| *other != line),
        1 => lines.insert(rng.below(lines.len() as u32) as usize, line),
        _ => {
            lines.retain(|other| *other != line);
            let at = rng.below(lines.len() as u32 + 1) as usize;
            lines.insert(at, line);
        }
    }
    *input = lines.concat();
}

fn packets() -> Vec<Vec<u8>> {
    [
        "8060000100000002000000030102030405",
        "b1e0000100000002000000030a0b0c0dbede000210ff22abcdef00000000000003",
        "90600001000000020000000310000002100105110100000000ff",
        "8260ffff00000002000000030000000400000005aa",
    ]
    .map(unhex)
    .to_vec()
}

fn compounds() -> Vec<Vec<u8>> {
    [
        "80c900011ca5737981ca00061ca5737901106a316f6b526c6534675345494d774d4f000081cb00011ca57379",
        "8fce0007123456780000000052454d420307fb93234567892345678a2345678b",
        "8fcd000716ca50ceae6572570a74000a053f58bb200ae0000400000000001400",
        "84ce00061234567800000000234567890d0000002345678a0e000000",
        "81cd00030000000100000002fffe8001",
        "80cf00050000000105000003000000040000000500000006",
    ]
    .map(unhex)
    .to_vec()
}

fn checks() -> Vec<Vec<u8>> {
    let check =
        |nominate| fuzzing::binding_request("abcd:efgh", "0123456789abcdef012345", 7, nominate);
    vec![check(false), check(true)]
}

fn offers() -> Vec<Vec<u8>> {
    let one_way = |direction| fuzzing::OFFER.replace("sendrecv", direction).into_bytes();
    let crlf = fuzzing::OFFER.replace('\n', "\r\n").into_bytes();
    vec![
        crlf,
        one_way("sendonly"),
        one_way("recvonly"),
        one_way("sendrecv"),
    ]
}

/// The committed ones: they are files of every kind of header.
fn captures() -> Vec<Vec<u8>> {
    files(&fuzz_folder().join("corpus/pcap"))
        .iter()
        .map(|file| fs::read(file).expect("it was listed"))
        .collect()
}

fn fragments() -> Vec<Vec<u8>> {
    let text = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
                a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\na=end-of-candidates\r\n";
    vec![text.as_bytes().to_vec()]
}

fn payloads() -> Vec<Vec<u8>> {
    [
        "90f0812307e500",
        "10009d012a",
        "80800100",
        "8f8001200a7c2200",
        "7c85b800040000",
        "780002674200026588",
        "67420000",
        "0a0a0b0000",
    ]
    .map(unhex)
    .to_vec()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

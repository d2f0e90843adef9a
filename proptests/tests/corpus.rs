//! The fuzz bodies on stable: over the malformed inputs of others, and over seeded random and mutated ones.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use antiphon_core::fuzzing;
use antiphon_core::rng::{Rng, Seed};
use flate2::read::GzDecoder;
use serde_json::Value;

type Body = fn(&[u8]);

const INPUTS: usize = 2_000;
const INPUT_BYTES_MAX: usize = 1_500;

/// A body, the kinds of malformed input that fit it, and the seeds its own inputs are made of.
struct Target {
    name: &'static str,
    body: Body,
    kinds: &'static [&'static str],
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: [Target; 10] = [
    Target {
        name: "rtp",
        body: fuzzing::rtp,
        kinds: &["rtp", "srtp", "any"],
        seeds: packets,
    },
    Target {
        name: "rtcp",
        body: fuzzing::rtcp,
        kinds: &["rtcp", "srtp", "any"],
        seeds: compounds,
    },
    Target {
        name: "srtp",
        body: fuzzing::srtp,
        kinds: &["srtp", "rtp", "rtcp", "any"],
        seeds: packets,
    },
    Target {
        name: "stun",
        body: fuzzing::stun,
        kinds: &["stun", "any"],
        seeds: checks,
    },
    Target {
        name: "sdp_offer",
        body: fuzzing::sdp_offer,
        kinds: &["sdp"],
        seeds: offers,
    },
    Target {
        name: "trickle_fragment",
        body: fuzzing::trickle_fragment,
        kinds: &["sdp"],
        seeds: fragments,
    },
    Target {
        name: "payload",
        body: fuzzing::payload,
        kinds: &["h264", "rtp", "any"],
        seeds: payloads,
    },
    Target {
        name: "shard_datagrams",
        body: fuzzing::shard_datagrams,
        kinds: &["any", "h264", "rtcp", "rtp", "sctp", "srtp", "stun"],
        seeds: scripts,
    },
    Target {
        name: "nack_ops",
        body: fuzzing::nack_ops,
        kinds: &[],
        seeds: Vec::new,
    },
    Target {
        name: "rewrite_ops",
        body: fuzzing::rewrite_ops,
        kinds: &[],
        seeds: Vec::new,
    },
];

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
            for target in TARGETS.iter().filter(|target| target.kinds.contains(&kind)) {
                if target.name == "shard_datagrams" {
                    run(target, &fuzzing::datagram_script(&input));
                } else {
                    run(target, &input);
                }
                runs += 1;
            }
        }
    }
    assert!(runs > 1_000, "only {runs} runs");
}

/// One test a target, so that they run beside each other and a failure names its target.
macro_rules! seeded {
    ($($test:ident: $target:literal;)*) => {$(
        #[test]
        fn $test() {
            run_seeded($target);
        }
    )*};
}

seeded! {
    seeded_rtp_breaks_no_promise: "rtp";
    seeded_rtcp_breaks_no_promise: "rtcp";
    seeded_srtp_breaks_no_promise: "srtp";
    seeded_stun_breaks_no_promise: "stun";
    seeded_offers_break_no_promise: "sdp_offer";
    seeded_fragments_break_no_promise: "trickle_fragment";
    seeded_payloads_break_no_promise: "payload";
    seeded_datagrams_break_no_promise: "shard_datagrams";
    seeded_gaps_break_no_promise: "nack_ops";
    seeded_switches_break_no_promise: "rewrite_ops";
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

fn run_seeded(name: &str) {
    let number = TARGETS.iter().position(|target| target.name == name);
    let target = &TARGETS[number.expect("the table names it")];
    let seeds = (target.seeds)();
    let mut rng = Seed::new([number.unwrap_or(0) as u8; 32]).rng();
    seeds.iter().for_each(|seed| run(target, seed));
    for round in 0..INPUTS {
        let input = match seeds.len() {
            0 => random(&mut rng),
            len if round % 4 != 0 => mutated(&mut rng, &seeds[round % len]),
            _ => random(&mut rng),
        };
        run(target, &input);
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

/// Two sound checks from one source, then everything else there is.
fn scripts() -> Vec<Vec<u8>> {
    let prove = "0504010001 0504010002".replace(' ', "");
    [
        "".to_owned(),
        "0001000416fefd00".to_owned(),
        "09 0a00 0501010003 0b00 07ffff 07ffff".to_owned(),
        "000100208063000100000002000000030a0b0c0dbede000210ff22abcdef00000000 0401 0402".to_owned(),
        "050c0200030010ff 0402 08ffff 080001".to_owned(),
    ]
    .map(|rest| unhex(&(prove.clone() + &rest.replace(' ', ""))))
    .to_vec()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

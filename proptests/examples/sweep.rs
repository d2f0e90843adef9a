//! Runs many seeds of the swarm and prints those in which an oracle found something.
//!
//! `make sweep SEEDS=1000..2000`, or `BAD_LUCK=20` besides. A seed found belongs into `proptests/seeds/swarm.txt`,
//! with what it was.

use std::ops::Range;
use std::process::ExitCode;

use antiphon_core::sim::scenario::{Scenario, Setting};

const USAGE: &str =
    "usage: sweep FIRST..END [BAD_LUCK]\n\nBAD_LUCK is how often of 1,000 the core has bad luck";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let Some((seeds, bad_luck)) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let (mut sessions, mut packets, mut found) = (0, 0, 0);
    for seed in seeds.clone() {
        let setting = Setting {
            bad_luck,
            ..Setting::default()
        };
        let outcome = Scenario::swarm(seed).run(setting);
        sessions += outcome.sessions;
        packets += outcome.packets_heard;
        found += usize::from(!outcome.findings.is_empty());
        for finding in &outcome.findings {
            println!("seed {seed}: {finding}");
        }
    }
    let count = seeds.end - seeds.start;
    println!(
        "{count} seeds, {sessions} sessions, {packets} packets heard; {found} seeds found something"
    );
    if found == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(arguments: &[String]) -> Option<(Range<u64>, u32)> {
    let (seeds, bad_luck) = match arguments {
        [seeds] => (seeds, 0),
        [seeds, bad_luck] => (seeds, bad_luck.parse().ok()?),
        _ => return None,
    };
    let (first, end) = seeds.split_once("..")?;
    Some((first.parse().ok()?..end.parse().ok()?, bad_luck))
}

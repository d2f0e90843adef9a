//! Rooms over links as they were measured: Mahimahi traces of others, read by path.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::sim::link::{Impairment, Rate, Service, Trace};
use antiphon_core::sim::peer::Speech;
use antiphon_core::sim::scenario::{Scenario, Setting};

use crate::describe;

/// Measured both ways.
const NAMES: [&str; 2] = ["ATT-LTE-driving-2016", "Verizon-LTE-short"];

fn bottleneck(folder: &Path, name: &str, direction: &str) -> Impairment {
    let path = folder.join(format!("traces/mahimahi-{name}.{direction}.gz"));
    let file = fs::File::open(path).expect("the folder is there, so is the file");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("a whole archive");
    let trace = Trace::parse(&text).expect("a trace");
    let service = Service::Trace(Arc::new(trace));
    Impairment::Rate(Rate::new(service, Duration::from_millis(300)))
}

/// Everybody of a room comes over the link; whatever it does, all recover from it.
#[test]
fn rooms_over_measured_links_recover() {
    let folder = env::var_os("ANTIPHON_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    if !folder.is_dir() {
        eprintln!("SKIPPED: no folder of test data; set ANTIPHON_VECTORS");
        return;
    }
    for (seed, name) in (1..).zip(NAMES) {
        let mut scenario = Scenario::rooms(seed, 1, Speech::Spurts, None);
        let (up, down) = (
            bottleneck(&folder, name, "up"),
            bottleneck(&folder, name, "down"),
        );
        for call in &mut scenario.calls {
            call.up.push(up.clone());
            call.down.push(down.clone());
        }
        let outcome = scenario.run(Setting::default());
        assert!(
            outcome.findings.is_empty(),
            "{name}: {}",
            describe(&scenario, &outcome)
        );
        assert!(
            outcome.packets_heard > 1_000,
            "{name}: {}",
            outcome.packets_heard
        );
    }
}

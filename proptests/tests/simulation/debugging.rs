use antiphon_core::sim::scenario::{Scenario, Setting};
#[test]
fn show() {
    let Ok(wanted) = std::env::var("SIMSHOW") else {
        return;
    };
    let words: Vec<u64> = wanted.split(' ').map(|w| w.parse().unwrap()).collect();
    let mut scenario = Scenario::swarm(words[0]);
    scenario.nap = None;
    let shards = Some(words[1] as u16);
    let outcome = scenario.run(Setting {
        shards,
        ..Setting::default()
    });
    println!("{:#?} {:?}", outcome.calls, outcome.findings);
}

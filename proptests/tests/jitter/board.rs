//! The scoreboard: named paths, our presets, and buffers of one delay beside them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use antiphon_core::jitter::Config;

use crate::run::{Outcome, play, play_fixed};
use crate::traces::{NAMES, Sent, trace};

/// Waits so long for what is missing.
const WAIT: Duration = Duration::from_millis(60);
const FIXED: [i64; 2] = [60_000, 120_000];

struct Row {
    path: &'static str,
    buffer: String,
    outcome: Outcome,
}

/// Draws of each path, a minute each: of one alone a fixed buffer's fate is that of its first packet.
const DRAWS: u8 = 5;

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for path in NAMES {
        let draws: Vec<_> = (0..DRAWS).map(|number| trace(path, number)).collect();
        let mut row = |buffer: String, play: &dyn Fn(&[Sent]) -> Outcome| {
            let outcome = draws.iter().map(|packets| play(packets)).sum();
            rows.push(Row {
                path,
                buffer,
                outcome,
            });
        };
        for (buffer, config) in [
            ("agent", Config::AGENT),
            ("human", Config::HUMAN),
            ("arrival", Config::arrival_driven(WAIT)),
        ] {
            row(buffer.to_owned(), &|packets| play(path, packets, config));
        }
        for delay in FIXED {
            let buffer = format!("fixed {}", delay / 1_000);
            row(buffer, &|packets| play_fixed(path, packets, delay));
        }
    }
    rows
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "path                      buffer     mean ms   p95 ms  concealed %  unheard %  stretched %  underruns\n",
    );
    let mut last = "";
    for Row {
        path,
        buffer,
        outcome,
    } in rows
    {
        let name = if *path == last { "" } else { path };
        last = path;
        let tenths = |micros: i64| format!("{}.{}", micros / 1_000, micros % 1_000 / 100);
        let percent = |part: i64, whole: i64| {
            let hundredths = part * 10_000 / whole;
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        };
        let speech = outcome.speech * crate::traces::PACKET;
        writeln!(
            text,
            "{name:<25} {buffer:<9} {:>8} {:>8} {:>12} {:>10} {:>12} {:>10}",
            tenths(outcome.mean_delay()),
            tenths(outcome.p95_delay()),
            percent(outcome.concealed, speech),
            percent(outcome.unheard, outcome.speech),
            percent(outcome.stretched, speech),
            outcome.underruns,
        )
        .expect("a string takes everything");
    }
    text
}

/// The committed table is what comes out today. `ANTIPHON_SCOREBOARD=write` puts today's in its place.
#[test]
fn the_committed_scoreboard_is_what_comes_out() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/jitter.md");
    let page = fs::read_to_string(&path).expect("docs/jitter.md");
    let fence = "```text scoreboard\n";
    let begin = page.find(fence).expect("a block for the scoreboard") + fence.len();
    let length = page[begin..].find("```").expect("an end of the block");
    let today = table(&rows());
    if env::var("ANTIPHON_SCOREBOARD").is_ok_and(|value| value == "write") {
        let written = format!("{}{today}{}", &page[..begin], &page[begin + length..]);
        fs::write(&path, written).expect("docs/jitter.md can be written");
        return;
    }
    assert!(
        page[begin..begin + length] == today,
        "ANTIPHON_SCOREBOARD=write puts this into docs/jitter.md:\n{today}"
    );
}

/// Less delay for more made-up sound, or the other way, is a choice; more of both is not.
#[test]
fn none_of_ours_is_worse_than_a_fixed_buffer_in_delay_and_concealment_at_once() {
    let rows = rows();
    let mut worse = Vec::new();
    for ours in rows.iter().filter(|row| !row.buffer.starts_with("fixed")) {
        for fixed in &rows {
            let is_rival = fixed.path == ours.path && fixed.buffer.starts_with("fixed");
            let more_delay = ours.outcome.mean_delay() > fixed.outcome.mean_delay();
            let more_made_up = ours.outcome.concealed > fixed.outcome.concealed;
            if is_rival && more_delay && more_made_up {
                worse.push(format!(
                    "{}: {} than {}",
                    ours.path, ours.buffer, fixed.buffer
                ));
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}

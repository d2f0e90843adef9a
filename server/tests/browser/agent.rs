//! The Agent tab: a person who is a file talks with a program that is built in.

use std::time::Duration;

use serde_json::Value;

use crate::chromium::{Chromium, Page};
use crate::output::{take_turn, write_speech};
use crate::server::Server;

const WORDS: &str = "Good morning. I would like to book a table for two people tonight.";

/// Calls an agent by the page's own controls.
fn call(page: &Page, agent: &str) {
    page.click("#agent-tab");
    page.wait_until(
        "document.querySelector('#agent [name=agent]').options.length > 0",
        10,
    );
    page.evaluate(&format!(
        "document.querySelector('#agent [name=agent]').value = '{agent}'"
    ));
    page.click("#agent [name=go]");
    page.wait_until("antiphon.agent.session?.phase === 'connected'", 15);
}

fn times(page: &Page, name: &str, field: &str) -> Vec<f64> {
    let events = page.evaluate("antiphon.agent.events");
    let events = events.as_array().expect("a list");
    let named = events.iter().filter(|event| event["name"] == name);
    named.filter_map(|event| event[field].as_f64()).collect()
}

#[test]
fn the_parrot_says_a_turn_back_once_it_is_over() {
    let _turn = take_turn();
    let Some(speech) = write_speech("turn", WORDS, Duration::from_secs(7)) else {
        return;
    };
    let Some(browser) = Chromium::launch(&speech) else {
        return;
    };
    let server = Server::start("agent", &[]);
    let page = browser.open(&server.url());
    call(&page, "parrot");
    let finished =
        "antiphon.agent.events.some((it) => it.name === 'playout' && it.state === 'finished')";
    page.wait_until(finished, 40);
    page.screenshot("agent-light");

    let events = page.evaluate("antiphon.agent.events");
    let find = |name: &str, state: Option<&str>| {
        let mut events = events.as_array().expect("a list").iter();
        events.find(|event| {
            event["name"] == name && state.is_none_or(|state| event["state"] == state)
        })
    };
    let millis = |event: Option<&Value>, field: &str| {
        let event = event.unwrap_or_else(|| panic!("not among {events}"));
        event[field]
            .as_f64()
            .unwrap_or_else(|| panic!("no {field} in {event}"))
    };
    let ended = find("ended", None);
    let started = find("playout", Some("started"));
    let said = millis(find("playout", Some("finished")), "played");
    let spoken = millis(ended, "end") - millis(ended, "start");
    let answered = millis(started, "at") - millis(ended, "at");
    let decided = millis(ended, "at") - millis(ended, "end");
    eprintln!(
        "decided after {decided} ms, answered {answered} ms later, {said} ms for {spoken} ms"
    );
    // The parrot takes some silence before and after along.
    assert!(
        (spoken..spoken + 1_500.0).contains(&said),
        "{said} ms for {spoken} ms: {events}"
    );
    // Frames that come together end up to 20 ms after the moment in which they are decided on.
    assert!((-20.0..500.0).contains(&answered), "{answered}");
    // The browser heard it: as loud as a voice is.
    let heard = page.evaluate("antiphon.agent.session.sample.reading.received.packets");
    assert!(
        heard.as_f64().expect("a count") >= said / 20.0 - 25.0,
        "{heard} packets"
    );
    page.dark(true);
    page.size(390, 844);
    page.screenshot("agent-phone-dark");
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn an_agent_that_is_interrupted_stops() {
    let _turn = take_turn();
    // The parrot's answer lasts longer than the silence, so the next words fall into it.
    let Some(speech) = write_speech("interruption", WORDS, Duration::from_millis(2_500)) else {
        return;
    };
    let Some(browser) = Chromium::launch(&speech) else {
        return;
    };
    let server = Server::start("interruption", &[]);
    let page = browser.open(&server.url());
    call(&page, "parrot");
    // A browser that is kept from running for a moment is late by itself: slow counts if it is slow each time.
    let mut took = Vec::new();
    while took.len() < 3 && !took.iter().any(|it| (50.0..600.0).contains(it)) {
        let count = took.len();
        let interrupted = format!(
            "antiphon.agent.events.filter((it) => it.name === 'barge_in').length > {count}"
        );
        page.wait_until(&interrupted, 40);
        let ats = times(&page, "barge_in", "at");
        let starts = times(&page, "barge_in", "start");
        took = ats
            .iter()
            .zip(starts)
            .map(|(at, start)| at - start)
            .collect();
    }
    page.screenshot("agent-interrupted");
    eprintln!("interrupted after {took:?} ms");
    let events = page.evaluate("antiphon.agent.events");
    let soon = took.iter().any(|it| (50.0..600.0).contains(it));
    assert!(soon, "{took:?}: {events}");
    let stopped =
        "antiphon.agent.events.some((it) => it.name === 'playout' && it.state === 'interrupted')";
    page.wait_until(stopped, 5);
}

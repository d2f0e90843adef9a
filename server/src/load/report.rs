//! What a run came to, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use antiphon_core::time::Timestamp;
use serde_json::{Value, json};

use super::description::Role;
use super::engine::{Outcome, Outcomes, Shard};
use super::figures::{Spread, millis};
use super::signalling::Reasons;

/// A share of a core beyond which the generator's own queueing shows in its figures.
const SHARE_MAX: f64 = 0.9;
/// Of the sends, the share that may be late by more than an interval: a pause of the machine, once.
const LATE_SHARE_MAX: f64 = 0.001;

/// Readings at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    /// Processor time and resident bytes of this process.
    pub(super) own_cpu: Duration,
    /// Nanoseconds of it by thread.
    pub(super) own_threads: BTreeMap<u32, u64>,
    pub(super) own_resident: u64,
    /// The server's processor time and resident bytes, if its process is known.
    pub(super) server: Option<(Duration, u64)>,
    /// Packets sent and received by then.
    pub(super) packets: u64,
}

/// The moments of a run.
#[derive(Clone, Debug)]
pub(super) struct Readings {
    /// Before the first POST.
    pub(super) idle: Reading,
    /// Once everybody is connected.
    pub(super) joined: Reading,
    /// At the start, once half was over and at the end of the media phase.
    pub(super) from: Reading,
    pub(super) middle: Reading,
    pub(super) until: Reading,
}

/// What was asked for, as far as a report needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Sessions, those included that came for others.
    pub(super) sessions: u32,
    /// Those that left for others.
    pub(super) churned: u32,
    pub(super) is_speech: bool,
    pub(super) by_shard: bool,
    pub(super) threads: u32,
}

/// What a run of `antiphon load` came to.
#[derive(Debug)]
pub struct Report {
    asked: Asked,
    connected: u64,
    failures: Reasons,
    died: Reasons,
    is_interrupted: bool,
    /// From the POST to the answer, from the answer to the end of the handshake, and from the POST to the first
    /// packet.
    answer: Spread,
    secured: Spread,
    first_packet: Spread,
    /// From the first POST to the last connection.
    all_connected: Option<Duration>,
    sent: u64,
    received: u64,
    /// Packets that should have come; `None` where nobody can say.
    expected: Option<u64>,
    round_trips: Spread,
    /// What sessions came to by the server's UDP address; none unless asked for.
    shards: Vec<ByShard>,
    outcomes: Outcomes,
    readings: Readings,
    /// Sessions that the server may still have.
    left: u64,
}

/// The sessions that one of the server's UDP addresses had.
#[derive(Debug)]
struct ByShard {
    /// `None`: of all the rest together.
    address: Option<SocketAddr>,
    connected: u64,
    secured: Spread,
    first_packet: Spread,
    sent: u64,
    received: u64,
    /// Packets that should have come.
    expected: Option<u64>,
    round_trips: Spread,
}

impl ByShard {
    /// Of each address, in their order; `published` are the packets that each subscriber should have got.
    fn of(outcomes: &Outcomes, published: Option<u64>, is_speech: bool) -> Vec<Self> {
        let of = |(number, shard): (usize, &Shard)| {
            let calls = || {
                let all = outcomes.all();
                all.filter(move |call| call.shard == Some(number) && call.connected.is_some())
            };
            let spread =
                |time: fn(&Outcome) -> Option<Duration>| calls().filter_map(time).collect();
            let sent = calls().map(|call| call.sent).sum();
            let subscribers = calls().filter(|call| call.role == Role::Subscribe);
            let expected = published.map_or(sent, |each| each * subscribers.count() as u64);
            Self {
                address: shard.address,
                connected: calls().count() as u64,
                secured: spread(|call| Some(call.secured?.since(call.answered))),
                first_packet: spread(|call| Some(call.connected?.since(call.posted))),
                sent,
                received: calls().map(|call| call.received).sum(),
                expected: (!is_speech).then_some(expected),
                round_trips: shard.round_trips.clone(),
            }
        };
        let mut shards: Vec<_> = outcomes.shards.iter().enumerate().map(of).collect();
        shards.sort_by_key(|shard| (shard.address.is_none(), shard.address));
        shards
    }

    fn lost(&self) -> Option<u64> {
        Some(self.expected?.saturating_sub(self.received))
    }

    fn name(&self) -> String {
        self.address
            .map_or_else(|| "others".to_owned(), |address| address.to_string())
    }

    fn to_json(&self) -> Value {
        json!({
            "address": self.name(),
            "connected": self.connected,
            "setup_ms": {
                "answer_to_dtls": self.secured.millis(),
                "post_to_first_packet": self.first_packet.millis(),
            },
            "packets": {
                "sent": self.sent,
                "received": self.received,
                "lost": self.lost(),
            },
            "round_trip_ms": self.round_trips.millis(),
        })
    }
}

impl fmt::Display for ByShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<19}{} sessions, {} sent, {} received",
            self.name(),
            self.connected,
            self.sent,
            self.received
        )?;
        if let Some(lost) = self.lost() {
            write!(f, ", {lost} lost")?;
        }
        writeln!(
            f,
            "\n{:19}to first packet {}",
            "",
            spread(&self.first_packet)
        )?;
        writeln!(f, "{:19}round trip      {}", "", spread(&self.round_trips))
    }
}

impl Report {
    pub(super) fn new(
        asked: Asked,
        failures: Reasons,
        outcomes: Outcomes,
        readings: Readings,
    ) -> Self {
        let is_speech = asked.is_speech;
        let calls = || outcomes.all();
        let spread = |time: fn(&Outcome) -> Option<Duration>| calls().filter_map(time).collect();
        let connected = |role| {
            let of = calls().filter(|call| call.role == role && call.connected.is_some());
            of.count() as u64
        };
        let subscribers = connected(Role::Subscribe);
        let sent = calls().map(|call| call.sent).sum();
        let expected = if subscribers > 0 {
            sent * subscribers
        } else {
            sent
        };
        let published = (subscribers > 0).then_some(sent);
        let shards = if asked.by_shard {
            ByShard::of(&outcomes, published, is_speech)
        } else {
            Vec::new()
        };
        let first_post = calls().map(|call| call.posted).min();
        // Those that came for others came later.
        let came = calls().filter_map(|call| call.connected);
        let last = came.filter(|at| *at <= readings.joined.at).max();
        let mut report = Self {
            asked,
            connected: connected(Role::Echo) + connected(Role::Publish) + subscribers,
            failures,
            died: Reasons::default(),
            is_interrupted: false,
            answer: spread(|call| Some(call.answered.since(call.posted))),
            secured: spread(|call| Some(call.secured?.since(call.answered))),
            first_packet: spread(|call| Some(call.connected?.since(call.posted))),
            all_connected: last.zip(first_post).map(|(last, first)| last.since(first)),
            sent,
            received: calls().map(|call| call.received).sum(),
            expected: (!is_speech).then_some(expected),
            round_trips: outcomes.round_trips(),
            shards,
            outcomes: Outcomes::default(),
            readings,
            left: 0,
        };
        for call in calls() {
            match (call.connected, call.ended) {
                (None, Some(ending)) => report.failures.note(ending.to_string(), 1),
                (Some(_), Some(ending)) => report.died.note(ending.to_string(), 1),
                (_, None) => {}
            }
        }
        report.outcomes = outcomes;
        report
    }

    pub(super) const fn note_left(&mut self, left: u64) {
        self.left = left;
    }

    pub(super) const fn note_interrupted(&mut self) {
        self.is_interrupted = true;
    }

    /// Whether everybody connected and nobody's session ended before its time.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.connected == u64::from(self.asked.sessions)
            && self.died.0.is_empty()
            && !self.is_interrupted
    }

    /// Packets that should have come and did not; `None` where nobody can say, as of what an agent says.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.expected
            .map(|expected| expected.saturating_sub(self.received))
    }

    /// Why the figures may be the generator's rather than the server's.
    fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        let Outcomes {
            late,
            skipped,
            socket_losses,
            ..
        } = self.outcomes;
        let Readings {
            idle,
            joined,
            from,
            until,
            ..
        } = &self.readings;
        // Those that it may run on: what all threads take together is bounded by them.
        let cores = available_parallelism().map_or(1, usize::from);
        for (what, [start, end]) in [("set-up", [idle, joined]), ("media", [from, until])] {
            let (busiest, all) = (busiest_share(start, end), share(start, end));
            if busiest > SHARE_MAX {
                limits.push(format!(
                    "its busiest thread took {:.0} % of a core during {what}",
                    100.0 * busiest
                ));
            } else if all > SHARE_MAX * cores as f64 {
                limits.push(format!(
                    "it took {:.0} % of a core during {what}, of {cores} that it may run on",
                    100.0 * all
                ));
            }
        }
        if late as f64 > LATE_SHARE_MAX * self.sent as f64 {
            limits.push(format!(
                "{late} packets were sent more than an interval late"
            ));
        }
        if skipped > 0 {
            limits.push(format!("{skipped} turns to send were skipped, 200 ms late"));
        }
        if socket_losses > 0 {
            limits.push(format!("its sockets lost {socket_losses} datagrams"));
        }
        limits
    }

    fn setup_share(&self) -> f64 {
        share(&self.readings.idle, &self.readings.joined)
    }

    fn media_share(&self) -> f64 {
        share(&self.readings.from, &self.readings.until)
    }

    /// Sessions that were connected at the end, or ended before; at least one, as it divides.
    fn at_once(&self) -> u64 {
        let present = self.outcomes.calls.iter().flatten();
        let connected = present.filter(|call| call.connected.is_some());
        (connected.count() as u64).max(1)
    }

    /// Sessions that connected in set-up; at least one.
    fn set_up(&self) -> u64 {
        let by = self.readings.joined.at;
        let connected = self.outcomes.all().filter_map(|call| call.connected);
        (connected.filter(|at| *at <= by).count() as u64).max(1)
    }

    /// Memory that a connected session takes here.
    fn own_bytes_a_session(&self) -> u64 {
        let Readings { idle, until, .. } = &self.readings;
        until.own_resident.saturating_sub(idle.own_resident) / self.at_once()
    }

    /// Packets in and out of the media phase, as long as it was measured.
    fn packets(&self) -> u64 {
        self.readings.until.packets - self.readings.from.packets
    }

    /// Processor time a packet, of whoever used so much of it in the media phase.
    fn micros_a_packet(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.packets().max(1) as f64
    }

    /// The server's figures, if its process is known.
    fn server(&self) -> Option<Server> {
        let Readings {
            idle,
            joined,
            from,
            middle,
            until,
        } = &self.readings;
        let cpu = |reading: &Reading| reading.server.map(|(cpu, _)| cpu);
        let resident = |reading: &Reading| reading.server.map(|(_, bytes)| bytes);
        let phase = [from, middle, until];
        let setup = cpu(joined)?.saturating_sub(cpu(idle)?);
        let media = cpu(until)?.saturating_sub(cpu(from)?);
        let grown = resident(until)?.saturating_sub(resident(idle)?);
        Some(Server {
            setup,
            setup_each: setup.as_secs_f64() * 1e3 / self.set_up() as f64,
            media,
            media_share: media.as_secs_f64() / until.at.since(from.at).as_secs_f64().max(1e-9),
            micros_a_packet: self.micros_a_packet(media),
            resident_bytes: resident(until)?,
            resident_in_media: phase.map(|reading| resident(reading).unwrap_or(0)),
            bytes_a_session: grown / self.at_once(),
        })
    }

    /// All of it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let own = self
            .readings
            .until
            .own_cpu
            .saturating_sub(self.readings.from.own_cpu);
        let limits = self.limits();
        let shards: Vec<_> = self.shards.iter().map(ByShard::to_json).collect();
        json!({
            "sessions": {
                "asked": self.asked.sessions,
                "churned": self.asked.churned,
                "connected": self.connected,
                "failed": u64::from(self.asked.sessions).saturating_sub(self.connected),
                "failures": self.failures.0,
                "ended_early": self.died.0,
                "left_on_server": self.left,
            },
            "interrupted": self.is_interrupted,
            "setup_ms": {
                "post_to_answer": self.answer.millis(),
                "answer_to_dtls": self.secured.millis(),
                "post_to_first_packet": self.first_packet.millis(),
                "all_connected": self.all_connected.map(millis),
            },
            "packets": {
                "sent": self.sent,
                "received": self.received,
                "lost": self.lost(),
                "opened": self.outcomes.opened,
                "misdelivered": self.outcomes.misdelivered,
                "not_authentic": self.outcomes.refused,
            },
            "round_trip_ms": self.round_trips.millis(),
            "shards": (self.asked.by_shard).then_some(shards),
            "media_seconds": self.readings.until.at.since(self.readings.from.at).as_secs_f64(),
            "server": self.server().map(|server| server.to_json()),
            "generator": {
                "threads": self.asked.threads,
                "setup_cpu_percent": 100.0 * self.setup_share(),
                "media_cpu_percent": 100.0 * self.media_share(),
                "cpu_us_a_packet": self.micros_a_packet(own),
                "resident_kib_a_session": self.own_bytes_a_session() as f64 / 1024.0,
                "late_ms": self.outcomes.lateness.millis(),
                "late_by_an_interval": self.outcomes.late,
                "turns_skipped": self.outcomes.skipped,
                "lost_at_its_sockets": self.outcomes.socket_losses,
                "was_the_limit": !limits.is_empty(),
                "limits": limits,
            },
        })
    }
}

/// Processor time over time.
fn share(from: &Reading, until: &Reading) -> f64 {
    let cpu = until.own_cpu.saturating_sub(from.own_cpu);
    cpu.as_secs_f64() / until.at.since(from.at).as_secs_f64().max(1e-9)
}

/// As [`share`], of the thread that had most.
fn busiest_share(from: &Reading, until: &Reading) -> f64 {
    let used = |(thread, nanos): (&u32, &u64)| {
        let before = from.own_threads.get(thread).copied().unwrap_or(0);
        nanos.saturating_sub(before)
    };
    let most = until.own_threads.iter().map(used).max().unwrap_or(0);
    Duration::from_nanos(most).as_secs_f64() / until.at.since(from.at).as_secs_f64().max(1e-9)
}

/// What a server used.
struct Server {
    setup: Duration,
    /// Milliseconds.
    setup_each: f64,
    media: Duration,
    media_share: f64,
    micros_a_packet: f64,
    resident_bytes: u64,
    /// At the start, once half was over and at the end of the media phase.
    resident_in_media: [u64; 3],
    bytes_a_session: u64,
}

impl Server {
    fn to_json(&self) -> Value {
        json!({
            "setup_cpu_seconds": self.setup.as_secs_f64(),
            "cpu_ms_a_join": self.setup_each,
            "media_cpu_seconds": self.media.as_secs_f64(),
            "media_cpu_percent": 100.0 * self.media_share,
            "cpu_us_a_packet": self.micros_a_packet,
            "resident_kib": self.resident_bytes >> 10,
            "resident_kib_in_media": self.resident_in_media.map(|bytes| bytes >> 10),
            "resident_kib_a_session": self.bytes_a_session as f64 / 1024.0,
        })
    }
}

/// Median, 99th percentile and the longest.
fn spread(spread: &Spread) -> String {
    let at = |share| spread.quantile(share).map_or(f64::NAN, millis);
    if spread.count() == 0 {
        return "none measured".to_owned();
    }
    format!(
        "p50 {:.2}   p99 {:.2}   max {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = u64::from(self.asked.sessions).saturating_sub(self.connected);
        writeln!(
            f,
            "sessions           {} of {} connected, {failed} failed",
            self.connected, self.asked.sessions
        )?;
        if self.asked.churned > 0 {
            writeln!(
                f,
                "                   {} of these came for one that left",
                self.asked.churned
            )?;
        }
        for (reason, count) in &self.failures.0 {
            writeln!(f, "                   {count} failed: {reason}")?;
        }
        for (reason, count) in &self.died.0 {
            writeln!(f, "                   {count} ended early: {reason}")?;
        }
        if self.left > 0 {
            writeln!(
                f,
                "                   {} may be left on the server",
                self.left
            )?;
        }
        if self.connected > 0 {
            self.write_setup(f)?;
            self.write_media(f)?;
            self.write_server(f)?;
        }
        self.write_generator(f)
    }
}

impl Report {
    fn write_setup(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "POST to answer     {}", spread(&self.answer))?;
        writeln!(f, "answer to DTLS     {}", spread(&self.secured))?;
        writeln!(f, "to first packet    {}", spread(&self.first_packet))?;
        let all = self.all_connected.unwrap_or_default().as_secs_f64();
        writeln!(f, "last connected     {all:.2} s after the first POST")
    }

    fn write_media(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received) = (self.sent, self.received);
        write!(f, "packets            {sent} sent, {received} received")?;
        match self.lost() {
            Some(lost) => {
                let share = 100.0 * lost as f64 / self.expected.unwrap_or(0).max(1) as f64;
                writeln!(f, ", {lost} lost ({share:.4} %)")?;
            }
            None => writeln!(f)?,
        }
        let Outcomes {
            misdelivered,
            refused,
            ..
        } = self.outcomes;
        if misdelivered + refused > 0 {
            writeln!(
                f,
                "                   {misdelivered} of others, {refused} not authentic"
            )?;
        }
        writeln!(f, "round trip         {}", spread(&self.round_trips))?;
        self.shards
            .iter()
            .try_for_each(|shard| write!(f, "{shard}"))
    }

    fn write_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(server) = self.server() else {
            return Ok(());
        };
        writeln!(
            f,
            "server, set-up     {:.2} s of processor, {:.2} ms a session",
            server.setup.as_secs_f64(),
            server.setup_each
        )?;
        writeln!(
            f,
            "server, media      {:.2} s of processor, {:.1} % of a core, {:.2} us a packet in or out",
            server.media.as_secs_f64(),
            100.0 * server.media_share,
            server.micros_a_packet
        )?;
        writeln!(
            f,
            "server, memory     {:.1} MiB, {:.1} KiB more a session",
            server.resident_bytes as f64 / f64::from(1 << 20),
            server.bytes_a_session as f64 / 1024.0
        )?;
        let [start, middle, end] = server
            .resident_in_media
            .map(|bytes| bytes as f64 / f64::from(1 << 20));
        writeln!(
            f,
            "                   {start:.1}, {middle:.1} and {end:.1} MiB at start, middle and end of media"
        )
    }

    fn write_generator(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.readings.until.own_cpu;
        let own = own.saturating_sub(self.readings.from.own_cpu);
        let (setup, media) = (100.0 * self.setup_share(), 100.0 * self.media_share());
        write!(f, "generator          {setup:.1} % of a core in set-up")?;
        if self.sent > 0 {
            let micros = self.micros_a_packet(own);
            writeln!(f, ", {media:.1} % in media, {micros:.2} us a packet")?;
            write!(
                f,
                "                   sends late by {}",
                spread(&self.outcomes.lateness)
            )?;
        }
        writeln!(f)?;
        for limit in self.limits() {
            writeln!(f, "THE GENERATOR WAS THE LIMIT: {limit}")?;
        }
        if self.is_interrupted {
            writeln!(
                f,
                "INTERRUPTED: the figures are of what was done until then"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of four threads one is full: together they take a third of what they may.
    #[test]
    fn the_busiest_thread_is_told_from_the_others() {
        let reading = |seconds: u64, nanos: [u64; 4]| Reading {
            at: Timestamp::from_millis(1_000 * seconds),
            own_cpu: Duration::from_nanos(nanos.iter().sum()),
            own_threads: (1..).zip(nanos).collect(),
            own_resident: 0,
            server: None,
            packets: 0,
        };
        let second = 1_000_000_000;
        let from = reading(1, [5 * second, 0, 0, 0]);
        let mut until = reading(11, [6 * second, second, 10 * second, second]);
        assert!((busiest_share(&from, &until) - 1.0).abs() < 1e-9);
        assert!(share(&from, &until) < SHARE_MAX * 4.0);
        // One that began in between counts from nothing.
        until.own_threads.insert(9, 12 * second);
        assert!((busiest_share(&from, &until) - 1.2).abs() < 1e-9);
    }
}

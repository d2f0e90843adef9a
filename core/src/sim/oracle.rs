//! Judges of a run. Each says what it found and what it is: a finding is a bug of the server or of its judge.
//!
//! - *outcome*: nobody hears what no source said, under numbers that move, or from whom it does not follow; nothing is
//!   sent to who proved nothing; nothing panics, and each session ends once.
//! - *threshold*: what the network did not lose was forwarded, most of what it lost was repaired, and keyframe requests
//!   are few.
//! - *liveness*: once faults are off everybody is connected and hears everybody it follows, without a long gap.
//! - *leak*: after the last session every table is empty and no timer runs.
//! - *differential*: the cut into turns, the count of shards and the process change nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::peer::{Heard, HeardSource, Mischief, Picture, Trust};
use super::scenario::{Call, Run, Scenario};
use super::source::DTX_INTERVAL;
use super::world::{Member, MemberId};
use crate::drive::DigestValue;
use crate::limits::KEYFRAME_REQUEST_INTERVAL;
use crate::message::{DropReason, Role, ShardStats, Target};
use crate::plan::MediaKind;
use crate::shard::TableSizes;
use crate::time::Timestamp;

/// Longest gap of audio without faults: two packets of silence are 400 ms apart, shards nap for 5 ms at most, and
/// a clock may run slow.
const AUDIO_GAP: Duration = Duration::from_millis(DTX_INTERVAL.as_millis() as u64 + 20);
/// The same of video, of which thirty pictures a second come.
const VIDEO_GAP: Duration = Duration::from_millis(60);

/// Packets that may come on the wrong side of a track's beginning or end: what leaves within the 40 ms by which a way
/// reorders at most, which a key picture of eight packets may fall into.
const OVERTAKEN: u64 = 12;

/// Who judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oracle {
    /// What was heard and sent is what may be.
    Outcome,
    /// What was to be forwarded, was.
    Threshold,
    /// Everybody recovers.
    Liveness,
    /// Nothing is left behind.
    Leak,
    /// Other ways to run it give the same.
    Differential,
}

impl Oracle {
    /// Every oracle.
    pub const ALL: [Self; 5] = [
        Self::Outcome,
        Self::Threshold,
        Self::Liveness,
        Self::Leak,
        Self::Differential,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Threshold => "threshold",
            Self::Liveness => "liveness",
            Self::Leak => "leak",
            Self::Differential => "differential",
        }
    }
}

/// What an oracle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who found it.
    pub oracle: Oracle,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle.name(), self.what)
    }
}

/// What one call came to, as far as it does not depend on which shard had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    /// Sessions it needed.
    pub sessions: usize,
    /// Packets heard and the hash of all that was heard, of each of its sessions.
    pub heard: Vec<(u64, u64)>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// Hash of all outputs of all shards, each with its time.
    pub digest: DigestValue,
    /// What each call came to.
    pub calls: Vec<CallOutcome>,
    /// Simulated time.
    pub simulated: Duration,
    /// Sum of the lives of all sessions.
    pub session_time: Duration,
    /// Sessions opened.
    pub sessions: u64,
    /// RTP packets that peers opened.
    pub packets_heard: u64,
    /// Relays among the shards.
    pub relayed: u64,
    /// Figures of all shards, summed up.
    pub stats: Totals,
    /// How often the product had bad luck, by [`Point`](crate::bugs::Point).
    #[cfg(feature = "mutations")]
    pub struck: [u64; crate::bugs::Point::ALL.len()],
}

/// Sums of figures over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams refused.
    pub refused: u64,
    /// Retransmissions sent.
    pub resent: u64,
    /// Media dropped because sockets stayed full.
    pub dropped: u64,
}

impl Outcome {
    /// Whether an oracle found nothing.
    #[must_use]
    pub fn passes(&self, oracle: Oracle) -> bool {
        self.findings.iter().all(|finding| finding.oracle != oracle)
    }

    fn find(&mut self, oracle: Oracle, what: String) {
        self.findings.push(Finding { oracle, what });
    }
}

/// Two runs that must be the same: what the differential oracle says of them.
#[must_use]
pub fn compare_digests(what: &str, one: DigestValue, other: DigestValue) -> Option<Finding> {
    (one != other).then(|| Finding {
        oracle: Oracle::Differential,
        what: format!("{what}: {one} and {other}"),
    })
}

/// Calls that came to something else in another run.
pub fn compare_calls<'a>(
    what: &'a str,
    one: &'a Outcome,
    other: &'a Outcome,
) -> impl Iterator<Item = Finding> + 'a {
    let pairs = one.calls.iter().zip(&other.calls).enumerate();
    pairs
        .filter(|(_, (one, other))| one != other)
        .map(move |(call, (one, other))| Finding {
            oracle: Oracle::Differential,
            what: format!("{what}: call {call} came to {one:?} and {other:?}"),
        })
}

/// Judges a run while everybody is still there.
pub(super) fn judge(scenario: &Scenario, run: &Run<'_>) -> Outcome {
    let world = &run.world;
    let all: Vec<_> = world.stats().collect();
    let mut outcome = Outcome {
        findings: Vec::new(),
        digest: world.digest(),
        calls: run
            .members
            .iter()
            .map(|members| call_outcome(run, members))
            .collect(),
        simulated: run.passed(),
        session_time: Duration::ZERO,
        sessions: 0,
        packets_heard: 0,
        relayed: 0,
        stats: totals(&all),
        #[cfg(feature = "mutations")]
        struck: Default::default(),
    };
    for finding in world.findings() {
        outcome.find(Oracle::Outcome, finding.clone());
    }
    for (number, stats) in all.iter().enumerate() {
        if stats.faults > 0 {
            outcome.find(
                Oracle::Outcome,
                format!("{} sessions of shard {number} panicked", stats.faults),
            );
        }
    }
    for (number, call) in scenario.calls.iter().enumerate() {
        for id in &run.members[number] {
            let judged = Judged {
                run,
                call,
                member: world.member(*id),
                id: *id,
            };
            judged.contents(&mut outcome);
            judged.thresholds(&all, &mut outcome);
        }
        judge_liveness(run, number, call, &mut outcome);
    }
    outcome
}

/// Judges what is left once everybody is gone.
pub(super) fn judge_end(run: &mut Run<'_>, outcome: &mut Outcome) {
    #[cfg(feature = "mutations")]
    for bugs in run.world.bugs_mut() {
        let struck = outcome.struck.iter_mut().zip(bugs.struck());
        struck.for_each(|(sum, count)| *sum += count);
    }
    let world = &run.world;
    outcome.digest = world.digest();
    outcome.simulated = world.now().since(Timestamp::ZERO);
    for (shard, (tables, deadline)) in world.table_sizes().zip(world.deadlines()).enumerate() {
        if tables != TableSizes::default() {
            outcome.find(
                Oracle::Leak,
                format!("shard {shard} still holds {tables:?}"),
            );
        } else if deadline.is_some() {
            outcome.find(
                Oracle::Leak,
                format!("shard {shard} still waits for {deadline:?}"),
            );
        }
    }
    for finding in world.findings() {
        let finding = Finding {
            oracle: Oracle::Outcome,
            what: finding.clone(),
        };
        if !outcome.findings.contains(&finding) {
            outcome.findings.push(finding);
        }
    }
    for (number, member) in world.members().iter().enumerate() {
        if member.session.is_some() && member.closed.is_none() {
            outcome.find(
                Oracle::Leak,
                format!("nobody was told of the end of member {number}"),
            );
        }
        let ended = member.closed.map_or(world.now(), |(at, _)| at);
        if member.session.is_some() {
            outcome.session_time += ended.since(member.joined);
            outcome.sessions += 1;
        }
        let heard = &member.peer.report().heard;
        outcome.packets_heard += heard.iter().map(|heard| heard.packets).sum::<u64>();
    }
    outcome.relayed = world.relay_stats().map(|stats| stats.sent).sum();
    outcome.stats = totals(&world.stats().collect::<Vec<_>>());
}

pub(super) fn totals(all: &[ShardStats]) -> Totals {
    let sum = |figure: fn(&ShardStats) -> u64| all.iter().map(figure).sum();
    Totals {
        received: sum(|stats| stats.datagrams_received),
        sent: sum(|stats| stats.datagrams_sent),
        refused: sum(|stats| stats.drops.iter().sum()),
        resent: sum(|stats| stats.retransmissions_sent),
        dropped: sum(|stats| stats.transmits_dropped),
    }
}

fn call_outcome(run: &Run<'_>, members: &[MemberId]) -> CallOutcome {
    let reports = members.iter().map(|id| run.world.member(*id).peer.report());
    let heard = reports.flat_map(|report| &report.heard);
    CallOutcome {
        sessions: members.len(),
        heard: heard.map(|heard| (heard.packets, heard.hash)).collect(),
    }
}

/// One session of a call, to be judged.
struct Judged<'a> {
    run: &'a Run<'a>,
    call: &'a Call,
    member: &'a Member,
    id: MemberId,
}

impl Judged<'_> {
    /// Outcome: what it heard, and from whom.
    fn contents(&self, outcome: &mut Outcome) {
        let report = self.member.peer.report();
        for finding in &report.findings {
            outcome.find(Oracle::Outcome, format!("{:?} heard: {finding}", self.id));
        }
        for source in report.heard.iter().flat_map(|heard| &heard.sources) {
            if !self.may_hear(MemberId(source.member)) {
                let what = format!(
                    "{:?} heard member {}, whom it does not follow",
                    self.id, source.member
                );
                outcome.find(Oracle::Outcome, what);
            }
        }
    }

    fn may_hear(&self, other: MemberId) -> bool {
        let Some(heard) = self.run.world.members().get(other.0 as usize) else {
            // A hostile publisher stamps what it likes.
            return self.run.scenario.trust(self.call) == Trust::Nothing;
        };
        match (self.call.role, heard.role) {
            (Role::Echo, _) => other == self.id,
            (
                Role::Subscribe { room, target },
                Role::Publish {
                    room: of,
                    participant,
                },
            ) => {
                let named = match target {
                    Target::Newest => true,
                    Target::Participant(wanted) => wanted == participant,
                };
                room == of && named
            }
            _ => false,
        }
    }

    /// Threshold: a correct shard forwards every packet of a track to each follower at once. So what is missing
    /// between the first and the highest number heard was lost by a link, refused because it came from an address
    /// that a rebinding had made new, dropped because the sockets took nothing, or, where ways reorder, came before
    /// the track began and was overtaken by one that came after; likewise at its end.
    fn thresholds(&self, all: &[ShardStats], outcome: &mut Outcome) {
        let report = self.member.peer.report();
        let sound = report
            .heard
            .iter()
            .filter(|heard| heard.trust == Trust::Everything);
        for heard in sound {
            for source in &heard.sources {
                self.judge_loss(heard, source, all, outcome);
            }
        }
        self.judge_requests(outcome);
    }

    fn judge_loss(
        &self,
        heard: &Heard,
        source: &HeardSource,
        all: &[ShardStats],
        outcome: &mut Outcome,
    ) {
        let stats = &all[usize::from(self.member.shard)];
        let publisher = self.run.world.member(MemberId(source.member));
        let expected = u64::from(source.highest - source.first) + 1;
        let missing = expected.saturating_sub(u64::from(source.packets));
        let lost = publisher.rtp_lost_up + self.member.rtp_lost_down;
        let moved = publisher.rebinds > 0;
        let strange = if moved {
            let of_publisher = &all[usize::from(publisher.shard)];
            of_publisher.drops[DropReason::UnknownSource as usize]
        } else {
            0
        };
        let overtaken = match self.call_of(source) {
            Some(call) if call.reorders() || self.call.reorders() => OVERTAKEN,
            _ => 0,
        };
        let allowed = lost + strange + overtaken + stats.transmits_dropped + heard.unclaimed;
        let who = || format!("{:?} of {} ({:?})", self.id, source.member, heard.kind);
        if missing > allowed {
            let what = format!(
                "{} misses {missing} of {expected}, of which {allowed} may be missing",
                who()
            );
            outcome.find(Oracle::Threshold, what);
        }
        // A packet that is lost evenly is asked for ten times within a second, so hardly one stays lost.
        let repaired = heard.kind == MediaKind::Video && self.is_repaired(source);
        let least = lost / 4 + 10;
        if repaired && !moved && stats.transmits_dropped == 0 && missing > least {
            let what = format!(
                "{} misses {missing} of {expected} after repair; {lost} were lost",
                who()
            );
            outcome.find(Oracle::Threshold, what);
        }
    }

    /// The call whose member a source is.
    fn call_of(&self, source: &HeardSource) -> Option<&Call> {
        let id = MemberId(source.member);
        let members = &mut self.run.members.iter();
        let number = members.position(|members| members.contains(&id))?;
        self.run.scenario.calls.get(number)
    }

    /// Whether both ways lose packets here and there, and retransmissions were agreed.
    fn is_repaired(&self, source: &HeardSource) -> bool {
        let Some(publisher) = self.call_of(source) else {
            return false;
        };
        let with_rtx = |call: &Call| call.spec.picture != Some(Picture::WithoutRtx);
        let storms = self.call.spec.mischief == Some(Mischief::NackStorm);
        with_rtx(publisher)
            && with_rtx(self.call)
            && !storms
            && publisher.is_gentle()
            && self.call.is_gentle()
            && self.member.rebinds == 0
    }

    /// Threshold: however many followers ask, a source gets two keyframe requests a second and no more, and one more
    /// where the second of a pair began. Outcome: it is a source of pictures.
    fn judge_requests(&self, outcome: &mut Outcome) {
        let report = self.member.peer.report();
        let copies = self.member.links().1.passed().copies;
        let Some(connected) = report.connected else {
            return;
        };
        let end = report.ended.map_or(self.run.world.now(), |(at, _)| at);
        let intervals = end.since(connected).as_nanos() / KEYFRAME_REQUEST_INTERVAL.as_nanos();
        let allowed = intervals + 2 + u128::from(copies);
        let mut counts = BTreeMap::<u32, u128>::new();
        for (_, ssrc) in &report.keyframe_requests {
            *counts.entry(*ssrc).or_default() += 1;
        }
        for (ssrc, count) in counts.into_iter().filter(|(_, count)| *count > allowed) {
            let what = format!(
                "{:?} got {count} keyframe requests for {ssrc:#x}, {allowed} are enough",
                self.id
            );
            outcome.find(Oracle::Threshold, what);
        }
        let floods = self.call.spec.mischief == Some(Mischief::SourceFlood);
        if report.keyframes_of_nothing > 0 && !floods {
            let count = report.keyframes_of_nothing;
            let what = format!(
                "{:?} got {count} requests for keyframes of no pictures",
                self.id
            );
            outcome.find(Oracle::Outcome, what);
        }
    }
}

fn judge_liveness(run: &Run<'_>, number: usize, call: &Call, outcome: &mut Outcome) {
    let now = run.passed();
    if !call.wants_in(now) {
        return;
    }
    let Some(id) = run.members[number].last() else {
        outcome.find(Oracle::Liveness, format!("call {number} never began"));
        return;
    };
    let member = run.world.member(*id);
    let report = member.peer.report();
    if report.connected.is_none() || report.ended.is_some() || member.closed.is_some() {
        let (ended, closed) = (report.ended, member.closed);
        let what = format!(
            "call {number} did not recover: peer ended {ended:?}, session closed {closed:?}"
        );
        outcome.find(Oracle::Liveness, what);
        return;
    }
    for heard in &report.heard {
        let Some(publisher) = run.whom_it_hears(call) else {
            continue;
        };
        let shows = heard.kind == MediaKind::Audio || publisher.spec.picture.is_some();
        let is_sound = !matches!(
            publisher.spec.mischief,
            Some(Mischief::SourceFlood | Mischief::Goodbyes)
        );
        if !shows || !is_sound || run.came_late(publisher) {
            continue;
        }
        let allowed = match heard.kind {
            MediaKind::Audio => AUDIO_GAP,
            MediaKind::Video => VIDEO_GAP,
        } + run.scenario.nap.unwrap_or_default();
        let gap = heard.gap_until(run.world.now());
        if gap > allowed {
            let what = format!(
                "call {number} ({id:?}) hears no {:?} for {gap:?}",
                heard.kind
            );
            outcome.find(Oracle::Liveness, what);
        }
    }
}

impl Run<'_> {
    /// Whether the handshake of a client that waits for the server's flights ended after everybody was to be back: each
    /// flight lost while faults were on doubles the wait for the next, up to 9.6 s.
    fn came_late(&self, call: &Call) -> bool {
        let calls = &mut self.scenario.calls.iter();
        let number = calls.position(|other| std::ptr::eq(other, call));
        let last = number.and_then(|number| self.members[number].last());
        let connected = last.and_then(|id| self.world.member(*id).connected);
        let due = Timestamp::ZERO + self.scenario.recovered();
        call.spec.passive && connected.is_some_and(|connected| connected > due)
    }

    /// The call whose media this one is to hear now.
    fn whom_it_hears(&self, call: &Call) -> Option<&Call> {
        let now = self.passed();
        let target = match call.role {
            Role::Echo => {
                return self
                    .scenario
                    .calls
                    .iter()
                    .find(|other| other.room == call.room);
            }
            Role::Subscribe { target, .. } => target,
            _ => return None,
        };
        let wanted = |other: &&Call| {
            let published = other.publishes_as();
            other.room == call.room
                && other.wants_in(now)
                && match target {
                    Target::Newest => false,
                    Target::Participant(participant) => published == Some(participant),
                }
        };
        self.scenario.calls.iter().find(wanted)
    }
}

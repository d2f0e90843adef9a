//! A journal played from its first turn to its last, and what that came to.

use std::time::Duration;

use antiphon_core::drive::DigestValue;
use antiphon_core::ids::SessionId;
use antiphon_core::journal::{
    Difference, EndReason, Entry, Header, Lost, Payloads, Player, ReadError, Reader, Retention,
    Standing, Step, Turns, Witness,
};
use antiphon_core::message::{CloseReason, Event};
use antiphon_core::shard::{ConfigError, Shard};
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;

use super::ledger::{Ledger, Passed};
use crate::replay;

/// One turn that was played.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) now: Timestamp,
    pub(super) passed: &'a [Passed],
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Stop,
}

/// A session that faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faulted {
    pub(super) turn: u64,
    pub(super) now: Timestamp,
    pub(super) session: SessionId,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// Times of the first turn and of the last.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) turns: u64,
    pub(super) ledger: Ledger,
    /// Of all that came out; `None`: it was shown, not played.
    pub(super) digest: Option<DigestValue>,
    pub(super) difference: Option<Difference>,
    /// Where entries are first missing, before which turn that is, and how many are in all.
    pub(super) lost: Option<(Timestamp, u64, Lost)>,
    /// The first turn in which media came or went: what comes of it depends on payloads and keys.
    pub(super) first_media: Option<u64>,
    pub(super) end: Option<EndReason>,
    pub(super) error: Option<ReadError>,
    pub(super) faults: Vec<Faulted>,
    /// Of a ring: how much of each session it has.
    pub(super) standings: Vec<Standing>,
    /// It was ended by whoever watched.
    pub(super) stopped: bool,
    pub(super) wall: Duration,
}

/// What a replay shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All that came out then came out again.
    Exact,
    /// It is a ring: of sessions that it has whole, all that was told then was told again.
    FromBirth,
    /// Something else came out.
    Differs,
    /// All that came out again up to where the journal is cut off.
    CutOff,
    /// The same, up to where it is damaged.
    Damaged,
    /// The same, up to where entries are missing.
    Lossy,
    /// The payloads of media were not recorded.
    HeadersOnly,
    /// Secrets and names were taken out: it was shown, not played.
    Redacted,
    /// It was ended by whoever watched.
    Stopped,
}

impl Verdict {
    /// Its name, as the JSON report has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::FromBirth => "from-birth",
            Self::Differs => "differs",
            Self::CutOff => "cut-off",
            Self::Damaged => "damaged",
            Self::Lossy => "lossy",
            Self::HeadersOnly => "headers-only",
            Self::Redacted => "redacted",
            Self::Stopped => "stopped",
        }
    }
}

impl Played {
    /// What it shows. What differs because something was not recorded is no difference.
    pub(super) fn verdict(&self, header: &Header) -> Verdict {
        let first_lost = self.missing(header).map(|(_, turn, _)| turn);
        let first_media = match header.payloads {
            Payloads::Full => None,
            Payloads::Headers => self.first_media,
        };
        let known = first_lost.into_iter().chain(first_media).min();
        let differs = self.difference.as_ref().is_some_and(|difference| {
            !header.redacted && known.is_none_or(|known| difference.turn < known)
        });
        match self.shortfall(header) {
            _ if differs => Verdict::Differs,
            Some(short) => short,
            None if self.stopped => Verdict::Stopped,
            None => match header.retention {
                Retention::Whole { .. } => Verdict::Exact,
                Retention::Ring { .. } => Verdict::FromBirth,
            },
        }
    }

    /// What keeps the journal from telling the whole run, whatever came out of what it has.
    pub(super) fn shortfall(&self, header: &Header) -> Option<Verdict> {
        match self.error {
            _ if header.redacted => Some(Verdict::Redacted),
            _ if self.missing(header).is_some() => Some(Verdict::Lossy),
            Some(ReadError::CutOff { .. }) => Some(Verdict::CutOff),
            Some(_) => Some(Verdict::Damaged),
            None if header.payloads == Payloads::Headers => Some(Verdict::HeadersOnly),
            None if self.stopped || self.end.is_some() => None,
            None => Some(Verdict::CutOff),
        }
    }

    /// Where entries are missing; what a ring compares, it has.
    const fn missing(&self, header: &Header) -> Option<(Timestamp, u64, Lost)> {
        match header.retention {
            Retention::Whole { .. } => self.lost,
            Retention::Ring { .. } => None,
        }
    }

    /// Whether it has anything of a session.
    pub(super) fn knows(&self, session: SessionId) -> bool {
        let mut standings = self.standings.iter();
        self.ledger.sessions.contains_key(&session) || standings.any(|it| it.session == session)
    }

    /// Time of the journal that was played; `None`: it has no turn.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.span.map(|(first, last)| last.since(first))
    }

    /// Seconds of the journal a second.
    pub(super) fn speed(&self) -> Option<f64> {
        let seconds = self.duration()?.as_secs_f64();
        Some(seconds / self.wall.as_secs_f64().max(1e-9))
    }

    /// Turns until the first that differed; `None`: it was shown, not played.
    pub(super) fn turns_agreed(&self) -> Option<u64> {
        self.digest?;
        let difference = self.difference.as_ref();
        Some(difference.map_or(self.turns, |difference| difference.turn - 1))
    }
}

/// How a journal is played.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Timers fire when the shard wants them to, as it decides by other numbers than in the run.
    pub(super) on_its_own_time: bool,
    /// The bug that tests plant in a server is there too.
    pub(super) plants_fault: bool,
}

impl Manner {
    pub(super) fn prepare(self, player: &mut Player<'_>) {
        #[cfg(feature = "mutations")]
        if self.plants_fault {
            player
                .bugs_mut()
                .plant(antiphon_core::bugs::Mutation::FaultAtLength);
        }
        #[cfg(not(feature = "mutations"))]
        let _unplanted = (self.plants_fault, player);
    }
}

/// Plays a journal and shows each turn to `on_turn` and all that passes to `witness`. A redacted one is shown as it was
/// recorded.
///
/// # Errors
/// No shard can be made of the header.
pub(super) fn play(
    header: &Header,
    reader: Reader<'_>,
    len: u64,
    manner: Manner,
    witness: &mut impl Witness,
    mut on_turn: impl FnMut(&Turn<'_>) -> Flow,
) -> Result<Played, ConfigError> {
    let clock = Clock::start();
    let started = clock.now();
    let mut progress = replay::progress(len);
    let mut played = if header.redacted {
        show(reader, witness, on_turn)
    } else {
        let mut player = Player::new(header, reader)?;
        if manner.on_its_own_time {
            player = player.on_its_own_time();
        }
        manner.prepare(&mut player);
        let mut played = Played::default();
        while played.step(&mut player, witness, &mut on_turn) == Flow::Continue {
            let position = player.position() as u64;
            progress.note(position, || replay::mebibytes(position));
        }
        played.digest = Some(player.digest());
        played.difference = player.difference().cloned();
        played.standings = player.standings().cloned().collect();
        played
    };
    drop(progress);
    played.wall = clock.now().since(started);
    Ok(played)
}

/// Shows what was recorded.
fn show(
    reader: Reader<'_>,
    witness: &mut impl Witness,
    mut on_turn: impl FnMut(&Turn<'_>) -> Flow,
) -> Played {
    let mut played = Played::default();
    for entry in Turns::new(reader) {
        played.ledger.clear();
        match entry {
            Ok(Entry::Turn(turn)) => {
                turn.show(&mut (&mut played.ledger, &mut *witness));
                let sends = turn.sends.iter();
                let sent: u64 = sends.map(|(_, count)| u64::from(*count)).sum();
                played.ledger.sent.datagrams += sent;
                let faulted: Vec<_> = turn.events.iter().filter_map(faulted).collect();
                played.note_turn(played.turns + 1, turn.now, &faulted);
                if played.end_turn(turn.now, None, &mut on_turn) == Flow::Stop {
                    break;
                }
            }
            Ok(Entry::Idle(now)) => played.note_time(now),
            Ok(Entry::Lost(lost)) => played.note_lost(lost),
            Ok(Entry::End(reason)) => played.end = Some(reason),
            Ok(Entry::Birth(_) | Entry::Counts(_)) => {}
            Err(error) => played.error = Some(error),
        }
    }
    played
}

const fn faulted(event: &Event) -> Option<SessionId> {
    match event {
        Event::Closed {
            session,
            reason: CloseReason::Fault,
        } => Some(*session),
        _ => None,
    }
}

impl Played {
    fn step(
        &mut self,
        player: &mut Player<'_>,
        witness: &mut impl Witness,
        on_turn: &mut impl FnMut(&Turn<'_>) -> Flow,
    ) -> Flow {
        self.ledger.clear();
        match player.step(&mut (&mut self.ledger, witness)) {
            None => return Flow::Stop,
            Some(Err(error)) => {
                self.error = Some(error);
                return Flow::Stop;
            }
            Some(Ok(Step::Turn { now, faulted, .. })) => {
                self.note_turn(player.played(), now, &faulted);
                return self.end_turn(now, Some(player.shard()), on_turn);
            }
            Some(Ok(Step::Idle(now))) => {
                self.note_time(now);
                self.ledger.settle(Some(player.shard()));
            }
            Some(Ok(Step::Stands)) => {}
            Some(Ok(Step::Lost(lost))) => self.note_lost(lost),
            Some(Ok(Step::End(reason))) => self.end = Some(reason),
        }
        Flow::Continue
    }

    fn end_turn(
        &mut self,
        now: Timestamp,
        shard: Option<&Shard>,
        on_turn: &mut impl FnMut(&Turn<'_>) -> Flow,
    ) -> Flow {
        let passed = self.ledger.settle(shard);
        if self.first_media.is_none() && passed.iter().any(Passed::is_media) {
            self.first_media = Some(self.turns);
        }
        let turn = Turn {
            number: self.turns,
            now,
            passed,
        };
        let flow = on_turn(&turn);
        self.stopped |= flow == Flow::Stop;
        flow
    }

    fn note_turn(&mut self, number: u64, now: Timestamp, faulted: &[SessionId]) {
        self.turns = number;
        self.note_time(now);
        self.faults.extend(faulted.iter().map(|session| Faulted {
            turn: number,
            now,
            session: *session,
        }));
    }

    fn note_time(&mut self, now: Timestamp) {
        let (first, last) = self.span.unwrap_or((now, now));
        self.span = Some((first, last.max(now)));
    }

    fn note_lost(&mut self, lost: Lost) {
        let now = self.span.map_or(Timestamp::ZERO, |(_, last)| last);
        let (_, _, all) = self
            .lost
            .get_or_insert((now, self.turns + 1, Lost::default()));
        all.records = all.records.saturating_add(lost.records);
        all.bytes = all.bytes.saturating_add(lost.bytes);
    }
}

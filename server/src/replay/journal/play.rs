//! A journal played from its first turn to its last, and what that came to.

use std::time::Duration;

use antiphon_core::drive::DigestValue;
use antiphon_core::ids::SessionId;
use antiphon_core::journal::{
    Difference, EndReason, Header, Lost, Payloads, Player, ReadError, Reader, Step,
};
use antiphon_core::shard::ConfigError;
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;

use super::ledger::{Ledger, Passed};
use crate::replay::progress::Progress;

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
    pub(super) digest: DigestValue,
    pub(super) difference: Option<Difference>,
    /// Where entries are first missing, before which turn that is, and how many are in all.
    pub(super) lost: Option<(Timestamp, u64, Lost)>,
    pub(super) end: Option<EndReason>,
    pub(super) error: Option<ReadError>,
    pub(super) faults: Vec<Faulted>,
    /// It was ended by whoever watched.
    pub(super) stopped: bool,
    pub(super) wall: Duration,
}

/// What a replay shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All that came out then came out again.
    Exact,
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
    /// It was ended by whoever watched.
    Stopped,
}

impl Verdict {
    /// Its name, as the JSON report has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Differs => "differs",
            Self::CutOff => "cut-off",
            Self::Damaged => "damaged",
            Self::Lossy => "lossy",
            Self::HeadersOnly => "headers-only",
            Self::Stopped => "stopped",
        }
    }
}

impl Played {
    /// What it shows. What differs because something was not recorded is no difference.
    pub(super) fn verdict(&self, header: &Header) -> Verdict {
        let first_lost = self.lost.map_or(u64::MAX, |(_, turn, _)| turn);
        let differs = self
            .difference
            .as_ref()
            .is_some_and(|difference| difference.turn < first_lost);
        match (header.payloads, self.error) {
            (Payloads::Headers, _) => Verdict::HeadersOnly,
            _ if differs => Verdict::Differs,
            _ if self.lost.is_some() => Verdict::Lossy,
            (_, Some(ReadError::CutOff { .. })) => Verdict::CutOff,
            (_, Some(_)) => Verdict::Damaged,
            _ if self.stopped => Verdict::Stopped,
            (_, None) if self.end.is_none() => Verdict::CutOff,
            (_, None) => Verdict::Exact,
        }
    }

    /// Time of the journal that was played.
    pub(super) fn duration(&self) -> Duration {
        self.span
            .map_or(Duration::ZERO, |(first, last)| last.since(first))
    }

    /// Seconds of the journal a second.
    pub(super) fn speed(&self) -> f64 {
        self.duration().as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }

    /// Turns until the first that differed.
    pub(super) fn turns_agreed(&self) -> u64 {
        let difference = self.difference.as_ref();
        difference.map_or(self.turns, |difference| difference.turn - 1)
    }
}

/// Plays a journal and shows each turn to `on_turn`.
///
/// # Errors
/// No shard can be made of the header.
pub(super) fn play(
    header: &Header,
    reader: Reader<'_>,
    len: u64,
    mut on_turn: impl FnMut(&Turn<'_>) -> Flow,
) -> Result<Played, ConfigError> {
    let clock = Clock::start();
    let started = clock.now();
    let mut player = Player::new(header, reader)?;
    let mut progress = Progress::new(len);
    let mut played = Played::default();
    loop {
        played.ledger.clear();
        let step = match player.step(&mut played.ledger) {
            None => break,
            Some(Err(error)) => {
                played.error = Some(error);
                break;
            }
            Some(Ok(step)) => step,
        };
        progress.note(player.position() as u64);
        match step {
            Step::Turn { now, faulted, .. } => {
                let number = player.played();
                played.note_turn(number, now, &faulted);
                let passed = played.ledger.settle(Some(player.shard()));
                let turn = Turn {
                    number,
                    now,
                    passed,
                };
                if on_turn(&turn) == Flow::Stop {
                    played.stopped = true;
                    break;
                }
            }
            Step::Idle(now) => played.note_time(now),
            Step::Stands => {}
            Step::Lost(lost) => played.note_lost(lost),
            Step::End(reason) => played.end = Some(reason),
        }
    }
    drop(progress);
    played.digest = player.digest();
    played.difference = player.difference().cloned();
    played.wall = clock.now().since(started);
    Ok(played)
}

impl Played {
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
        all.records += lost.records;
        all.bytes += lost.bytes;
    }
}

//! From a fault to its cause: the shortest beginning of a journal that still faults a session.
//!
//! A replay finds the turn by itself, as it goes from the first to the last. What of the turn's inputs it takes is
//! halved: each try plays all turns before it again.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::player::{Difference, Player, Step};
use super::reader::{ReadError, Reader};
use super::record::{EndReason, Header, Payloads, Record, Retention, header_bytes};
use super::recorder::{Kept, Recorder};
use super::turns::{Entry, RecordedTurn};
use super::writer::put;
use crate::ids::{SessionId, ShardId};
use crate::shard::ConfigError;
use crate::time::Timestamp;

/// Bytes of the last entry, with its length and checksum, at most.
const END_BYTES_CAPACITY: usize = 16;

/// What a journal shows first.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A session faults.
    Fault(SessionId),
    /// Something comes out that did not come out when it was recorded.
    Difference(Box<Difference>),
}

/// The shortest beginning of a journal that still shows it.
#[derive(Debug)]
pub struct Found {
    /// What.
    pub shown: Shown,
    /// In which turn, counted from 1.
    pub turn: u64,
    /// When.
    pub now: Timestamp,
    /// Inputs of that turn that it takes, and how many there were.
    pub inputs: (usize, usize),
    /// The last input that it takes: the one that did it.
    pub input: LastInput,
    /// Times that the turns before it were played.
    pub plays: u32,
    /// A journal of all turns before it, and of this one with what it takes. Secret, as the whole journal is.
    pub prefix: Zeroizing<Vec<u8>>,
}

/// An input, as far as it is in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastInput {
    /// No input: a timer.
    Timer,
    /// A command of the server.
    Command,
    /// What another shard said.
    Relay(ShardId),
    /// A datagram.
    Datagram {
        /// Who sent it.
        source: SocketAddr,
        /// Its bytes.
        len: usize,
        /// Its header: of SRTP and DTLS what is not encrypted, of STUN what comes before the attributes.
        header: Vec<u8>,
    },
}

/// Finds the shortest beginning of a journal that faults a session or, if none does, that still differs from what was
/// recorded; `None` if it does neither. Where entries or payloads are missing, only faults are looked for. `prepare` is
/// given each new player before it plays. What is found was played once more, and showed the same.
///
/// # Errors
/// [`BisectError`]: the journal cannot be played, or what was found does not come again. One that is cut off or damaged
/// is searched up to there.
pub fn bisect(
    journal: &[u8],
    prepare: impl Fn(&mut Player<'_>),
) -> Result<Option<Found>, BisectError> {
    let search = Search {
        journal,
        prepare: &prepare,
    };
    let Some(first) = search.first()? else {
        return Ok(None);
    };
    let mut found = match first.shown {
        Shown::Fault(session) => search.narrow(first.place, session)?,
        Shown::Difference(difference) => search.cut(first.place, difference),
    };
    let again = Search {
        journal: &found.prefix,
        prepare: &prepare,
    };
    let again = again.first()?;
    if again.is_none_or(|again| again.shown != found.shown || again.place.turn != found.turn) {
        return Err(BisectError::NotAgain { turn: found.turn });
    }
    found.plays += 1;
    Ok(Some(found))
}

/// A journal cannot be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BisectError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No shard can be made of its header.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the search found, its result does not show when it is played by itself.
    #[error("what turn {turn} shows does not come again when the journal is cut off after it")]
    NotAgain {
        /// In which turn it was found, counted from 1.
        turn: u64,
    },
}

struct Search<'j, 'f, F> {
    journal: &'j [u8],
    prepare: &'f F,
}

struct First {
    shown: Shown,
    place: Place,
}

/// A turn in a journal.
#[derive(Clone, Copy)]
struct Place {
    turn: u64,
    now: Timestamp,
    /// Its bytes.
    start: usize,
    end: usize,
}

impl<'j, F: Fn(&mut Player<'_>)> Search<'j, '_, F> {
    fn player(&self) -> Result<(Header, Player<'j>), BisectError> {
        let (header, reader) = Reader::new(self.journal)?;
        let mut player = Player::new(&header, reader)?;
        (self.prepare)(&mut player);
        Ok((header, player))
    }

    /// The first fault, or else the first difference. What differs because something was not recorded is none.
    fn first(&self) -> Result<Option<First>, BisectError> {
        let (header, mut player) = self.player()?;
        let is_whole = matches!(header.retention, Retention::Whole { .. });
        let mut is_compared = header.payloads == Payloads::Full;
        let mut differed = None;
        loop {
            let start = player.position();
            let Some(Ok(step)) = player.step(&mut ()) else {
                break;
            };
            is_compared &= !(is_whole && matches!(step, Step::Lost(_)));
            let Step::Turn {
                now,
                faulted,
                agrees,
            } = step
            else {
                continue;
            };
            let place = Place {
                turn: player.played(),
                now,
                start,
                end: player.position(),
            };
            if let Some(session) = faulted.first() {
                let shown = Shown::Fault(*session);
                return Ok(Some(First { shown, place }));
            }
            if let (false, true, None, Some(difference)) =
                (agrees, is_compared, &differed, player.difference())
            {
                let shown = Shown::Difference(Box::new(difference.clone()));
                differed = Some(First { shown, place });
            }
        }
        Ok(differed)
    }

    /// Everything up to the end of the turn: less of its inputs would differ too, for being less.
    fn cut(&self, place: Place, difference: Box<Difference>) -> Found {
        let mut prefix = beginning(&self.journal[..place.end], END_BYTES_CAPACITY);
        put(&mut prefix, &Record::End(EndReason::Stopped));
        let turn = self.turn_at(place);
        let inputs = turn.as_ref().map_or(0, RecordedTurn::inputs);
        Found {
            shown: Shown::Difference(difference),
            turn: place.turn,
            now: place.now,
            inputs: (inputs, inputs),
            input: turn.as_ref().map_or(LastInput::Timer, last_input),
            plays: 1,
            prefix,
        }
    }

    /// Halves the inputs of the turn in which a session faults.
    fn narrow(&self, place: Place, session: SessionId) -> Result<Found, BisectError> {
        let all = self.turn_at(place).map_or(0, |turn| turn.inputs());
        let (mut plays, mut least, mut most) = (1, 0, all);
        while least < most {
            let middle = usize::midpoint(least, most);
            plays += 1;
            if self.faults(place, session, middle)? {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        let mut turn = self.turn_at(place);
        if let Some(turn) = &mut turn {
            turn.truncate(most);
        }
        Ok(Found {
            shown: Shown::Fault(session),
            turn: place.turn,
            now: place.now,
            inputs: (most, all),
            input: turn.as_ref().map_or(LastInput::Timer, last_input),
            plays: plays + 1,
            prefix: self.prefix(place, most)?,
        })
    }

    /// Whether the session faults with the first `count` inputs of the turn.
    fn faults(&self, place: Place, session: SessionId, count: usize) -> Result<bool, BisectError> {
        let (_, mut player) = self.player()?;
        Ok(play_before(&mut player, place, count, |_| {}).contains(&session))
    }

    /// The journal up to the turn as it is, and the turn with fewer inputs recorded anew: what it gives out now is what
    /// a replay has to be compared with.
    fn prefix(&self, place: Place, count: usize) -> Result<Zeroizing<Vec<u8>>, BisectError> {
        let (header, mut player) = self.player()?;
        let kept = Kept::default();
        play_before(&mut player, place, count, |player| {
            player.record(Recorder::new(Box::new(kept.clone()), header.payloads));
        });
        drop(player);
        let turn = Zeroizing::new(kept.into_bytes());
        let mut prefix = beginning(&self.journal[..place.start], turn.len());
        prefix.extend_from_slice(&turn);
        Ok(prefix)
    }

    fn turn_at(&self, place: Place) -> Option<RecordedTurn<'j>> {
        let reader = Reader::resumed(self.journal, place.start);
        match super::Turns::new(reader).next() {
            Some(Ok(Entry::Turn(turn))) => Some(*turn),
            _ => None,
        }
    }
}

/// The beginning of a journal with room for what comes after, so that no copy of the keys in it is left behind.
fn beginning(journal: &[u8], room: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(journal.len() + room));
    bytes.extend_from_slice(journal);
    bytes
}

/// Plays all before a turn and, after `prepare`, that with its first `count` inputs; tells who faulted in it.
fn play_before(
    player: &mut Player<'_>,
    place: Place,
    count: usize,
    prepare: impl FnOnce(&mut Player<'_>),
) -> Vec<SessionId> {
    while player.position() < place.start {
        if !matches!(player.step(&mut ()), Some(Ok(_))) {
            return Vec::new();
        }
    }
    let Some(Ok(Entry::Turn(mut turn))) = player.next_entry() else {
        return Vec::new();
    };
    turn.truncate(count);
    prepare(player);
    match player.play(Entry::Turn(turn), &mut ()) {
        Step::Turn { faulted, .. } => faulted,
        _ => Vec::new(),
    }
}

fn last_input(turn: &RecordedTurn<'_>) -> LastInput {
    let slots = turn.batches.iter().flatten();
    let Some((slot, datagram)) = slots
        .rev()
        .find_map(|slot| Some((slot, slot.datagrams().last()?)))
    else {
        return match (turn.relays.back(), turn.commands.back()) {
            (Some((from, _)), _) => LastInput::Relay(*from),
            (None, Some(_)) => LastInput::Command,
            (None, None) => LastInput::Timer,
        };
    };
    let (kept, len) = datagram;
    LastInput::Datagram {
        source: slot.source,
        len,
        header: kept[..header_bytes(kept)].to_vec(),
    }
}

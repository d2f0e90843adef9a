//! What a journal that forgot its beginning still knows of each session.

use std::collections::{BTreeMap, BTreeSet};

use super::player::{Difference, Differs};
use crate::ids::SessionId;
use crate::message::Event;
use crate::time::Timestamp;

/// How much of a session a journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// All from its opening on: what it tells is what it told.
    Whole,
    /// From its birth record at this time on: what came before is missing.
    FromBirth(Timestamp),
    /// Not all: chunks were lost at this time, while it lived.
    LostAt(Timestamp),
    /// Nothing to begin with: its packets are dropped.
    Nothing,
}

/// One session of a ring, and how its replay went.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Which.
    pub session: SessionId,
    /// How much of it there is.
    pub known: Known,
    /// Events that it told, figures left out.
    pub events: u64,
    /// How it first told something else; only of what is known whole would that be a fault of the replay.
    pub difference: Option<Box<Difference>>,
}

impl Standing {
    /// Whether the journal has all of it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.known == Known::Whole
    }
}

/// The sessions of a ring.
#[derive(Debug, Default)]
pub(super) struct Standings {
    of: BTreeMap<SessionId, Watched>,
    /// Those known whole so far that have not ended.
    whole: BTreeSet<SessionId>,
    /// How often something was lost.
    losses: u64,
}

#[derive(Debug)]
struct Watched {
    standing: Standing,
    /// Losses before its opening, or its last birth.
    losses: u64,
}

impl Standings {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.of.values().map(|watched| &watched.standing)
    }

    /// Whether something was lost since it is known how the session stood, if it ever was.
    pub(super) fn is_stale(&self, session: SessionId) -> bool {
        let watched = self.of.get(&session);
        watched.is_none_or(|watched| watched.losses < self.losses)
    }

    /// A session goes on from its birth.
    pub(super) fn note_birth(&mut self, session: SessionId, at: Timestamp) {
        let known = Known::FromBirth(at);
        let losses = self.losses;
        let watched = self.find(session, known);
        watched.losses = losses;
        if watched.standing.known == Known::Nothing {
            watched.standing.known = known;
        }
    }

    pub(super) fn note_lost(&mut self, now: Timestamp) {
        self.losses += 1;
        for session in std::mem::take(&mut self.whole) {
            if let Some(watched) = self.of.get_mut(&session) {
                watched.standing.known = Known::LostAt(now);
            }
        }
    }

    /// Compares what was told in a turn, session by session; the first difference of one that is known whole.
    pub(super) fn compare(
        &mut self,
        (turn, now): (u64, Timestamp),
        recorded: Vec<Event>,
        replayed: Vec<Event>,
    ) -> Option<Difference> {
        let mut told: BTreeMap<SessionId, (Vec<Event>, Vec<Event>)> = BTreeMap::new();
        for event in recorded {
            if let Some(session) = event.session() {
                told.entry(session).or_default().0.push(event);
            }
        }
        for event in replayed {
            if let Some(session) = event.session() {
                told.entry(session).or_default().1.push(event);
            }
        }
        let mut first = None;
        for (session, (recorded, replayed)) in told {
            let opens = matches!(recorded.first(), Some(Event::Opened { .. }));
            let known = if opens { Known::Whole } else { Known::Nothing };
            let standing = &mut self.find(session, known).standing;
            standing.events += recorded.len() as u64;
            if let (Some(what), None) = (differs(&recorded, &replayed), &standing.difference) {
                let difference = Difference { turn, now, what };
                if standing.is_complete() {
                    first.get_or_insert_with(|| difference.clone());
                }
                standing.difference = Some(Box::new(difference));
            }
            if matches!(recorded.last(), Some(Event::Closed { .. })) {
                self.whole.remove(&session);
            }
        }
        first
    }

    fn find(&mut self, session: SessionId, known: Known) -> &mut Watched {
        self.of.entry(session).or_insert_with(|| {
            if known == Known::Whole {
                self.whole.insert(session);
            }
            Watched {
                standing: Standing {
                    session,
                    known,
                    events: 0,
                    difference: None,
                },
                losses: self.losses,
            }
        })
    }
}

fn differs(recorded: &[Event], replayed: &[Event]) -> Option<Differs> {
    let count = recorded.len().max(replayed.len());
    let mut pairs = (0..count).map(|place| (recorded.get(place), replayed.get(place)));
    let (recorded, replayed) = pairs.find(|(recorded, replayed)| recorded != replayed)?;
    Some(Differs::Event {
        recorded: recorded.cloned().map(Box::new),
        replayed: replayed.cloned().map(Box::new),
    })
}

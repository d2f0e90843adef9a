//! Where sessions stand, written down again and again, so that a journal may forget its beginning.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::recorder::Chunk;
use crate::ids::SessionId;
use crate::limits::{JOURNAL_BIRTH_INTERVAL, JOURNAL_BIRTHS_EACH_TURN_MAX};
use crate::message::{Event, ProfileName, Role};
use crate::net::Path;
use crate::plan::SessionPlan;
use crate::session::SessionMark;
use crate::session::transport::{HandshakeResult, KeyingMaterial, Outcome};
use crate::shard::Shard;
use crate::time::Timestamp;

/// A connected session, as far as its media goes on from here: what a replay begins it from that does not know its
/// beginning. Its caches and figures are not in it. Secret: its passwords and keys are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Birth {
    /// Which session.
    pub session: SessionId,
    /// When it stood so: at the end of a turn.
    pub at: Timestamp,
    /// What it is for.
    pub role: Role,
    /// What was agreed when it was opened.
    pub plan: Box<SessionPlan>,
    /// Sessions opened before it: the number of its random stream.
    pub(crate) number: u64,
    /// Sessions connected before it.
    pub(crate) order: u64,
    pub(crate) profile: ProfileName,
    pub(crate) keys: KeyingMaterial,
    pub(crate) mark: SessionMark,
    /// Of the paths that its peer proved, those over which what comes is its own. Another session may have taken over
    /// the others.
    pub(crate) held: Vec<Path>,
}

/// What the random streams of a shard are numbered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sessions opened.
    pub opened: u64,
    /// Restarts asked for.
    pub restarts: u64,
}

/// Knows of every living session what the session itself forgets, and when its birth is to be written next.
#[derive(Debug, Default)]
pub(super) struct Births {
    living: BTreeMap<SessionId, Lived>,
    /// Soonest first.
    due: VecDeque<(Timestamp, SessionId)>,
    /// Of the next session that is told to have been opened.
    number: u64,
    connected: u64,
}

#[derive(Debug)]
struct Lived {
    number: u64,
    order: u64,
    keys: Option<(ProfileName, KeyingMaterial)>,
}

impl Births {
    pub(super) const fn begin_turn(&mut self, shard: &Shard) {
        self.number = shard.counts().opened;
    }

    pub(super) fn note_event(&mut self, now: Timestamp, event: &Event) {
        match event {
            Event::Opened { session, .. } => {
                let lived = Lived {
                    number: self.number,
                    order: 0,
                    keys: None,
                };
                self.number += 1;
                self.living.insert(*session, lived);
            }
            Event::Connected { session, .. } => {
                if let Some(lived) = self.living.get_mut(session) {
                    lived.order = self.connected;
                    self.connected += 1;
                    self.due.push_front((now, *session));
                }
            }
            Event::Closed { session, .. } => {
                self.living.remove(session);
            }
            _ => {}
        }
    }

    pub(super) fn note_handshake(&mut self, session: SessionId, outcome: &Outcome) {
        if let HandshakeResult::Connected(profile, keys) = &outcome.result
            && let Some(lived) = self.living.get_mut(&session)
        {
            lived.keys = Some((*profile, keys.duplicate()));
        }
    }

    /// Those written before are lost: all are due again.
    pub(super) fn note_lost(&mut self) {
        for (due, _) in &mut self.due {
            *due = Timestamp::ZERO;
        }
    }

    /// Writes those that are due, a few a turn.
    pub(super) fn sweep(&mut self, now: Timestamp, shard: &Shard, chunk: &mut Chunk) {
        for _ in 0..JOURNAL_BIRTHS_EACH_TURN_MAX {
            let Some((_, session)) = self.due.pop_front_if(|(due, _)| *due <= now) else {
                return;
            };
            let Some(lived) = self.living.get(&session) else {
                continue;
            };
            if let Some(birth) = lived.birth(now, session, shard) {
                chunk.put_birth(birth);
            }
            self.due.push_back((now + JOURNAL_BIRTH_INTERVAL, session));
        }
    }
}

impl Lived {
    fn birth(&self, at: Timestamp, id: SessionId, shard: &Shard) -> Option<Birth> {
        let (profile, keys) = self.keys.as_ref()?;
        let (session, mark) = shard.mark_of(id)?;
        let held = session.paths();
        let held = held.filter(|path| shard.owner_of(*path) == Some(id));
        Some(Birth {
            session: id,
            at,
            role: session.role,
            plan: Box::new(session.media.plan().clone()),
            number: self.number,
            order: self.order,
            profile: *profile,
            keys: keys.duplicate(),
            mark,
            held: held.collect(),
        })
    }
}

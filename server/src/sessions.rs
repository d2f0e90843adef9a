//! The sessions of all shards, by their secret and by their public name.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::{SessionId, SessionKey, ShardId};
use antiphon_core::message::ProfileName;
use antiphon_core::plan::{MediaPlan, SessionPlan};
use tokio::time::Instant;

use crate::agent::AgentSeat;
use crate::auth::Caller;
use crate::rooms::Seat;

/// 128 random bits in hexadecimal: whoever knows it may hold the session's URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// Hides the text: a session's URL shows in no log line.
impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretName(..)")
    }
}

impl SecretName {
    /// Draws a name from the operating system's randomness.
    #[must_use]
    pub fn draw() -> Self {
        Self(random_hex::<16>())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `N` random bytes in hexadecimal.
#[must_use]
pub fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
        .iter()
        .fold(String::with_capacity(2 * N), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes any text");
            text
        })
}

/// A strong entity tag for one ICE session of one session (RFC 9725 §4.3.1): quoted, never used again.
#[must_use]
pub fn draw_etag() -> String {
    format!("\"{}\"", random_hex::<8>())
}

/// What is known of a session before its shard has opened it.
#[derive(Debug)]
pub struct Draft {
    /// Its place in a room; `None` for echo and calls with agents.
    pub seat: Option<Seat>,
    /// The agent it talks with.
    pub agent: Option<AgentSeat>,
    /// Who asked for it.
    pub owner: Caller,
    /// The peer's ICE user name fragment.
    pub remote_ufrag: String,
    /// The media sections in use, cut down to what the server needs of them.
    pub media: Vec<MediaPlan>,
}

impl Draft {
    /// Takes from the plan what the server must remember.
    #[must_use]
    pub fn new(seat: Option<Seat>, owner: Caller, plan: &SessionPlan) -> Self {
        let cut = |media: &MediaPlan| MediaPlan {
            codecs: media.codecs.first().copied().into_iter().collect(),
            ssrcs: Vec::new(),
            rids: Vec::new(),
            ..*media
        };
        let media = plan.media.iter().map(cut).collect();
        Self {
            seat,
            agent: None,
            owner,
            remote_ufrag: plan.remote_ice.ufrag.clone(),
            media,
        }
    }

    /// For a call with an agent.
    #[must_use]
    pub fn with_agent(self, agent: Option<AgentSeat>) -> Self {
        Self { agent, ..self }
    }
}

/// A session that its shard has opened.
#[derive(Debug)]
pub struct Record {
    /// Its number.
    pub id: SessionId,
    /// Its URL's last part.
    pub secret: SecretName,
    /// Its place in a room; `None` for echo and calls with agents.
    pub seat: Option<Seat>,
    /// The agent it talks with.
    pub agent: Option<AgentSeat>,
    /// Who asked for it.
    pub owner: Caller,
    /// When it was opened.
    pub opened: Instant,
    /// The same by the calendar, since 1970.
    pub opened_unix: Duration,
    /// Tag of the present ICE session.
    pub etag: String,
    /// The peer's present ICE user name fragment: another one in a PATCH is a restart.
    pub remote_ufrag: String,
    /// The media sections in use, as in the [`Draft`].
    pub media: Vec<MediaPlan>,
    /// The protection profile, once connected.
    pub profile: Option<ProfileName>,
    /// DELETE was answered: the URL is gone, the shard has yet to say so.
    pub closing: bool,
    /// Held while an ICE restart is under way, so that two cannot cross.
    pub restart: Arc<tokio::sync::Mutex<()>>,
}

/// What a session does, as the API names it.
#[must_use]
pub fn role_name(seat: Option<&Seat>, agent: Option<&AgentSeat>) -> &'static str {
    match (seat, agent) {
        (None, None) => "echo",
        (None, Some(_)) => "agent",
        (Some(seat), _) if seat.publishes => "publish",
        (Some(_), _) => "subscribe",
    }
}

/// All sessions, and how many more may come.
#[derive(Debug)]
pub struct Sessions {
    by_id: BTreeMap<SessionId, Record>,
    by_secret: BTreeMap<SecretName, SessionId>,
    /// Opens under way.
    opening: u32,
    max: u32,
}

impl Sessions {
    /// None yet, and at most `max`.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_secret: BTreeMap::new(),
            opening: 0,
            max,
        }
    }

    /// Reserves a place for an open under way; `false` when there is none.
    #[must_use]
    pub fn reserve(&mut self) -> bool {
        let free = self.count() < self.max as usize;
        if free {
            self.opening += 1;
        }
        free
    }

    /// Gives a reserved place back.
    pub fn release(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// Sessions and opens under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_id.len() + self.opening as usize
    }

    /// Turns a reserved place into a session.
    pub fn insert(&mut self, record: Record) {
        self.release();
        self.by_secret.insert(record.secret.clone(), record.id);
        self.by_id.insert(record.id, record);
    }

    /// Forgets a session that has ended.
    pub fn remove(&mut self, id: SessionId) -> Option<Record> {
        let record = self.by_id.remove(&id)?;
        self.by_secret.remove(&record.secret);
        Some(record)
    }

    /// By number, also while closing.
    #[must_use]
    pub fn by_id(&self, id: SessionId) -> Option<&Record> {
        self.by_id.get(&id)
    }

    /// By number, also while closing.
    #[must_use]
    pub fn by_id_mut(&mut self, id: SessionId) -> Option<&mut Record> {
        self.by_id.get_mut(&id)
    }

    /// By the last part of its URL, unless it was deleted.
    #[must_use]
    pub fn by_secret(&self, secret: &str) -> Option<&Record> {
        let id = self.by_secret.get(&SecretName(secret.to_owned()))?;
        self.by_id.get(id).filter(|record| !record.closing)
    }

    /// By its public name, which `SessionId` displays, unless it was deleted.
    #[must_use]
    pub fn by_public_name(&self, name: &str) -> Option<&Record> {
        self.by_id
            .get(&parse_public_name(name)?)
            .filter(|record| !record.closing)
    }

    /// Each session, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.by_id.values()
    }
}

fn parse_public_name(name: &str) -> Option<SessionId> {
    let mut parts = name.split('-');
    let shard = ShardId(parts.next()?.parse().ok()?);
    let index = parts.next()?.parse().ok()?;
    let generation = parts.next()?.parse().ok()?;
    let id = SessionId {
        shard,
        key: SessionKey { index, generation },
    };
    parts.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_name_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", SecretName::draw()), "SecretName(..)");
    }
}

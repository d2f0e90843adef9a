//! A shard that begins in the middle of a run, from what a journal says of its sessions.

use std::collections::BTreeSet;

use crate::ids::{SessionId, SessionKey};
use crate::journal::{Birth, Counts};
use crate::message::{CloseReason, Role};
use crate::session::{Session, SessionMark};
use crate::shard::{Shard, check_plan, credentials, guard};
use crate::srtp::KeyingMaterial;

impl Shard {
    /// What random streams are numbered by.
    pub(crate) const fn counts(&self) -> Counts {
        Counts {
            opened: self.stats.sessions_opened,
            restarts: self.restarts,
        }
    }

    /// Goes on counting from there.
    pub(crate) const fn resume_counts(&mut self, counts: Counts) {
        self.stats.sessions_opened = counts.opened;
        self.restarts = counts.restarts;
    }

    /// The next sessions opened get these numbers, as they did. Where another stands that is not about to be closed,
    /// its end was lost.
    pub(crate) fn arrange(&mut self, opened: &[SessionId], closed: &[SessionId]) {
        let closed: BTreeSet<&SessionId> = closed.iter().collect();
        let keys: Vec<SessionKey> = opened.iter().map(|session| session.key).collect();
        for key in &keys {
            if let Some((other, _)) = self.sessions.at(key.index)
                && !closed.contains(&self.session_id(other))
            {
                self.remove(other, CloseReason::Requested);
            }
        }
        self.sessions.arrange(&keys);
    }

    /// A session with where it stands; `None` unless it is connected.
    pub(crate) fn mark_of(&self, id: SessionId) -> Option<(&Session, SessionMark)> {
        let session = self.sessions.find(id.key)?;
        Some((session, session.mark()?))
    }

    /// Sessions that go on where they stood, except those there are already, in the order in which they connected.
    pub(crate) fn restore(&mut self, births: &[Birth]) {
        let restored: Vec<_> = births.iter().filter(|birth| self.put(birth)).collect();
        // Who follows whom shows once all are there; only then is it known what each sends.
        for birth in &restored {
            if let Role::Publish { room, .. } = birth.role {
                self.relink(room);
            }
        }
        for birth in restored {
            self.mutate(birth.session.key, |session, _| {
                session.media.resume_sending(&birth.mark.media);
            });
        }
    }

    /// Whether a session could be restored.
    fn put(&mut self, birth: &Birth) -> bool {
        let (id, key) = (birth.session, birth.session.key);
        if id.shard != self.id || self.sessions.find(key).is_some() {
            return false;
        }
        let keying = KeyingMaterial::new(birth.profile, birth.keys.as_bytes());
        let (Ok(keying), Ok(())) = (keying, check_plan(&birth.plan)) else {
            return false;
        };
        // Now, as it ends whoever stands there.
        self.arrange(&[id], &[]);
        if self.sessions.vacant_key() != Some(key) {
            return false;
        }
        let mut rng = self.seed.derive("session", birth.number).rng();
        let ice = credentials(id, 0, &mut rng);
        let config = &self.config;
        let (plan, clocks) = (birth.plan.clone(), (birth.at, self.epoch));
        // A journal may say what never was, and the session panic over it.
        let made = guard(|| {
            let (mut session, _) =
                Session::new(id, birth.role, plan, config, ice, &mut rng, clocks);
            session.resume(&birth.mark, birth.profile, keying);
            session
        });
        let Ok(session) = made else {
            return false;
        };
        for path in session.paths() {
            self.by_path.entry(path).or_insert(key);
        }
        self.wheel.arm(key.index, session.deadline());
        self.sessions.insert(Box::new(session));
        self.stats.sessions_connected += 1;
        self.link_opened(key, birth.role);
        if let Role::Publish { room, participant } = birth.role {
            self.rooms.publish(room, participant, key);
        }
        true
    }
}

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

    /// Sessions that go on where they stood, in the order in which they connected; which of them do. One that there is
    /// already goes on where it is, unless `is_stale` says that what led to its birth is missing.
    pub(crate) fn restore<'b>(
        &mut self,
        births: &'b [Birth],
        is_stale: impl Fn(SessionId) -> bool,
    ) -> Vec<&'b Birth> {
        let mut restored = Vec::with_capacity(births.len());
        for birth in births {
            let SessionId { shard, key } = birth.session;
            let goes_on = shard == self.id
                && match self.sessions.find(key) {
                    Some(_) => is_stale(birth.session) && self.renew(birth),
                    None => self.put(birth),
                };
            if goes_on {
                restored.push(birth);
            }
        }
        self.hold_paths(&restored);
        // Who follows whom shows once all are there; only then is it known what each sends.
        for birth in &restored {
            if let Role::Publish { room, .. } = birth.role {
                self.relink(room);
            }
        }
        for birth in &restored {
            self.mutate(birth.session.key, |session, _| {
                session.media.resume_sending(&birth.mark.media);
            });
        }
        restored
    }

    /// Makes a session; whether it could be.
    fn put(&mut self, birth: &Birth) -> bool {
        let (id, key) = (birth.session, birth.session.key);
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
        self.wheel.arm(key.index, session.deadline());
        self.sessions.insert(Box::new(session));
        self.link_opened(key, birth.role);
        self.note_restored(birth);
        true
    }

    /// Lets a session that is there go on where it stood, with its links to others and its caches; whether it could.
    fn renew(&mut self, birth: &Birth) -> bool {
        let key = birth.session.key;
        let keying = KeyingMaterial::new(birth.profile, birth.keys.as_bytes());
        let (Ok(keying), Some(session)) = (keying, self.sessions.find_mut(key)) else {
            return false;
        };
        let was_connected = session.is_connected();
        let paths: Vec<_> = session.paths().collect();
        let renewed = guard(|| session.resume(&birth.mark, birth.profile, keying));
        for path in paths {
            self.forget_path(path, key);
        }
        if renewed.is_err() {
            self.remove(key, CloseReason::Requested);
            return false;
        }
        self.rearm(key);
        if !was_connected {
            self.note_restored(birth);
        }
        true
    }

    /// A session is connected, though no handshake of it was seen.
    fn note_restored(&mut self, birth: &Birth) {
        self.stats.sessions_connected += 1;
        if let Role::Publish { room, participant } = birth.role {
            self.rooms.publish(room, participant, birth.session);
        }
    }

    /// Gives paths to those who held them; one that several held, at different times, to who held it last.
    fn hold_paths(&mut self, births: &[&Birth]) {
        let mut births = births.to_vec();
        births.sort_by_key(|birth| birth.at);
        for birth in births {
            let key = birth.session.key;
            let Some(session) = self.sessions.find(key) else {
                continue;
            };
            let held = session.paths().filter(|path| birth.held.contains(path));
            self.by_path.extend(held.map(|path| (path, key)));
        }
    }
}

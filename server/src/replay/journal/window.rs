//! What of a run is printed: a span of its time, and one session's part.

use antiphon_core::ids::SessionId;
use antiphon_core::time::Timestamp;

use super::play::Played;
use crate::replay::moment::Moment;

/// What of a run is printed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::replay) struct Window {
    pub(super) from: Option<Moment>,
    pub(super) until: Option<Moment>,
    pub(super) session: Option<SessionId>,
}

impl Window {
    /// Whether what happened then is printed. Both ends belong to it.
    pub(in crate::replay) fn has_time(&self, now: Timestamp) -> bool {
        let passed = now.since(Timestamp::ZERO);
        self.from.is_none_or(|from| passed >= from.0)
            && self.until.is_none_or(|until| passed <= until.0)
    }

    /// Whether there is anything in it of what was played.
    ///
    /// # Errors
    /// Why there cannot be.
    pub(super) fn check(&self, played: &Played) -> Result<(), String> {
        // Whoever ended it early had seen something.
        let (Some((first, last)), false) = (played.span, played.stopped) else {
            return Ok(());
        };
        if let Some(from) = self
            .from
            .filter(|from| from.0 > last.since(Timestamp::ZERO))
        {
            let from = from.0;
            return Err(format!("--from {from:?} is after its last turn, at {last}"));
        }
        if let Some(until) = self
            .until
            .filter(|until| until.0 < first.since(Timestamp::ZERO))
        {
            let until = until.0;
            return Err(format!(
                "--until {until:?} is before its first turn, at {first}"
            ));
        }
        match self.session.filter(|session| !played.knows(*session)) {
            Some(session) => Err(format!("it has no session {session}")),
            None => Ok(()),
        }
    }

    /// Whether what concerns a session, or none, is printed.
    pub(in crate::replay) fn has_session(&self, session: Option<SessionId>) -> bool {
        self.session.is_none() || session == self.session
    }
}

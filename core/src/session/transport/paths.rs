//! Which addresses a peer has proved, and which of them we send to.

use std::cmp::Reverse;
use std::time::Duration;

use antiphon_prefetch::prefetch;
use serde::{Deserialize, Serialize};

use super::checks::Check;
use crate::limits::{PATH_QUESTION_INTERVAL, SESSION_PATHS_MAX};
use crate::net::Path;
use crate::time::Timestamp;

/// The path in use must have been silent this long before the peer's word moves us, unless the word is
/// new and the path no worse.
const SILENCE: Duration = Duration::from_millis(500);
/// The same for a nomination that is only repeated for a lesser path: longer than the 2.5 s between two
/// checks of a browser, so that a peer that nominates every path it has does not make us alternate.
const SILENCE_LESSER: Duration = Duration::from_secs(3);
/// The same for a path the peer checks and never nominates. Some peers (aioice) leave USE-CANDIDATE out
/// of later checks, which come every 4 to 6 s.
const SILENCE_UNNOMINATED: Duration = Duration::from_secs(8);

/// The paths an authenticated check has come over; nothing is ever sent to another address.
///
/// That a check came from an address does not say that the peer is there: who has the credentials may put
/// any address on it. The path over which the handshake begins is shown by its end, as our half of the
/// secret goes there. Any other must answer a check of ours before we move to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Paths {
    /// At most [`SESSION_PATHS_MAX`]. A path keeps its place for as long as it is proved.
    proved: Vec<Standing>,
    /// Place of the path in use once the peer has nominated one.
    current: Option<usize>,
    /// Before that: where the peer's DTLS comes from, else its first check.
    early: Option<usize>,
    /// Place found last: packets come in runs, and each is looked up.
    recent: usize,
    /// The handshake has begun.
    begun: bool,
    /// Questions so far.
    questions: u32,
}

/// A check of ours that a path has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    /// No other question of the session has it.
    pub(super) number: u32,
    /// Under the credentials of how many restarts.
    pub(super) generation: u32,
}

/// What we know of one proved path. All times are of authenticated packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    path: Path,
    /// PRIORITY of its last check.
    priority: u32,
    /// Restarts before its last check.
    generation: u32,
    /// Its last packet of any kind.
    active: Timestamp,
    /// Its last check.
    checked: Timestamp,
    /// First and last nomination in this generation; `None`: checked only.
    nominated: Option<(Timestamp, Timestamp)>,
    /// The question it has to answer, and when that was last sent.
    asked: Option<(Question, Timestamp)>,
    /// It has answered one, or finished the handshake: the peer is there.
    answered: bool,
}

/// What an authenticated check changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The path was not proved before: the demux may learn it.
    pub newly_proved: bool,
    /// A path that is no longer proved, to make room: the demux must forget it.
    pub forgotten: Option<Path>,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self {
            proved: Vec::new(),
            current: None,
            early: None,
            recent: 0,
            begun: false,
            questions: 0,
        }
    }

    /// The same, if a journal that is not sound says something else than there can be.
    pub(super) fn sound(mut self) -> Self {
        self.proved.truncate(SESSION_PATHS_MAX);
        let count = self.proved.len();
        let known = |place: &usize| *place < count;
        (self.current, self.early) = (self.current.filter(known), self.early.filter(known));
        self
    }

    /// Asks for the path found last.
    pub(super) fn prefetch_recent(&self) {
        if let Some(standing) = self.proved.get(self.recent) {
            prefetch(standing);
        }
    }

    /// Where to send; `None` before the first check.
    pub(super) fn send_path(&self) -> Option<Path> {
        self.in_use().map(|standing| standing.path)
    }

    pub(super) fn is_proved(&self, path: Path) -> bool {
        self.proved.iter().any(|standing| standing.path == path)
    }

    /// When the last authenticated packet came over a path; `None` if it is not proved.
    pub(super) fn last_active(&self, path: Path) -> Option<Timestamp> {
        let standing = self.proved.iter().find(|standing| standing.path == path)?;
        Some(standing.active)
    }

    /// All proved paths.
    pub(super) fn iter(&self) -> impl Iterator<Item = Path> + '_ {
        self.proved.iter().map(|standing| standing.path)
    }

    /// The last check of the path in use: consent is per path (RFC 7675 §5.1).
    pub(super) fn last_check(&self) -> Option<Timestamp> {
        self.in_use().map(|standing| standing.checked)
    }

    /// Takes in an authenticated check.
    pub(super) fn note_check(&mut self, now: Timestamp, path: Path, check: Check) -> Checked {
        let mut checked = Checked::default();
        let place = match self.find(path) {
            Some(place) => place,
            None => {
                checked.newly_proved = true;
                let standing = Standing::new(now, path, check);
                let (place, forgotten) = self.put(standing);
                checked.forgotten = forgotten;
                place
            }
        };
        self.proved[place].note_check(now, check);
        self.early.get_or_insert(place);
        checked
    }

    /// Takes in a DTLS datagram of a proved path; the first moves us while nothing is nominated.
    pub(super) fn note_dtls(&mut self, path: Path) {
        if !std::mem::replace(&mut self.begun, true) {
            self.early = self.find(path).or(self.early);
        }
    }

    /// The handshake is done: the peer has had what we sent to the path in use.
    pub(super) fn note_connected(&mut self) {
        if let Some(place) = self.current.or(self.early) {
            self.proved[place].answered = true;
        }
    }

    /// Takes in an authenticated RTP or RTCP packet. Whether it is a reason to [`Self::consider`] its path.
    #[inline]
    pub(super) fn note_media(&mut self, now: Timestamp, path: Path) -> bool {
        let Some(place) = self.find(path) else {
            return false;
        };
        self.proved[place].active = now;
        self.current != Some(place)
    }

    /// Moves to a path that something authenticated just came over, if it is time to; or says what it must
    /// answer first.
    pub(super) fn consider(&mut self, now: Timestamp, path: Path) -> Option<Question> {
        let place = self.find(path)?;
        let candidate = &self.proved[place];
        let moves = match self.current {
            None => candidate.nominated.is_some(),
            Some(current) => current != place && decide_path(now, &self.proved[current], candidate),
        };
        if !moves {
            return None;
        }
        let in_use = self.current.or(self.early);
        if self.begun && !candidate.answered && in_use != Some(place) {
            return self.ask(now, place);
        }
        self.current = Some(place);
        None
    }

    /// What a path was asked, if it still has to answer.
    pub(super) fn question(&self, path: Path) -> Option<Question> {
        let standing = self.proved.iter().find(|standing| standing.path == path)?;
        let (question, _) = standing.asked?;
        Some(question).filter(|_| !standing.answered)
    }

    /// Takes in the answer to [`Self::question`].
    pub(super) fn note_answer(&mut self, path: Path) {
        if let Some(place) = self.find(path) {
            self.proved[place].answered = true;
        }
    }

    /// The path's question, if it is time to send it, again or for the first time. It stays the same for as
    /// long as the path is proved, so that a late answer counts.
    fn ask(&mut self, now: Timestamp, place: usize) -> Option<Question> {
        let standing = &mut self.proved[place];
        let question = match standing.asked {
            Some((_, sent)) if now.since(sent) < PATH_QUESTION_INTERVAL => return None,
            Some((question, _)) if question.generation == standing.generation => question,
            _ => {
                self.questions += 1;
                Question {
                    number: self.questions,
                    generation: standing.generation,
                }
            }
        };
        standing.asked = Some((question, now));
        Some(question)
    }

    /// Gives a path a place: a new one, or else that of the path that was silent longest, never the one
    /// in use. Says which path is forgotten for it.
    fn put(&mut self, standing: Standing) -> (usize, Option<Path>) {
        if self.proved.len() < SESSION_PATHS_MAX {
            self.proved.push(standing);
            return (self.proved.len() - 1, None);
        }
        let in_use = self.current.or(self.early);
        let spare = (0..self.proved.len())
            .filter(|place| Some(*place) != in_use)
            .max_by_key(|place| Reverse(self.proved[*place].active))
            .expect("there is room for a path in use and another");
        if self.early == Some(spare) {
            self.early = in_use;
        }
        let forgotten = std::mem::replace(&mut self.proved[spare], standing);
        (spare, Some(forgotten.path))
    }

    fn in_use(&self) -> Option<&Standing> {
        self.proved.get(self.current.or(self.early)?)
    }

    #[inline]
    fn find(&mut self, path: Path) -> Option<usize> {
        let recent = self.proved.get(self.recent);
        if recent.is_some_and(|standing| standing.path == path) {
            return Some(self.recent);
        }
        self.search(path)
    }

    #[cold]
    fn search(&mut self, path: Path) -> Option<usize> {
        let mut proved = self.proved.iter();
        self.recent = proved.position(|standing| standing.path == path)?;
        Some(self.recent)
    }
}

impl Standing {
    fn new(now: Timestamp, path: Path, check: Check) -> Self {
        let Check {
            priority,
            generation,
            ..
        } = check;
        Self {
            path,
            priority,
            generation,
            active: now,
            checked: now,
            nominated: None,
            asked: None,
            answered: false,
        }
    }

    fn note_check(&mut self, now: Timestamp, check: Check) {
        if check.generation > self.generation {
            self.generation = check.generation;
            self.nominated = None;
        }
        self.priority = check.priority;
        self.active = now;
        self.checked = now;
        // Under replaced credentials a nomination is the peer's last word no more.
        if check.nominates && check.generation == self.generation {
            let first = self.nominated.map_or(now, |(first, _)| first);
            self.nominated = Some((first, now));
        }
    }
}

/// Whether to move from `current` to `candidate`, from which an authenticated packet just came.
///
/// - A nomination after an ICE restart wins at once; a path of before the restart never does.
/// - A new nomination of a path no worse wins at once: a NAT rebound the peer to a new port (the same
///   candidate, so the same priority), or a better pair came up later in the set-up. "New" means that
///   `current` has not been nominated again since; "worse" compares the priorities the peer gave, and
///   of two local addresses seen from the same remote one the first stays.
/// - Any other nomination wins only over a silent path; see the constants.
fn decide_path(now: Timestamp, current: &Standing, candidate: &Standing) -> bool {
    if candidate.generation != current.generation {
        return candidate.generation > current.generation && candidate.nominated.is_some();
    }
    let patience = match candidate.nominated {
        None => SILENCE_UNNOMINATED,
        Some((first, _)) => {
            let is_new = current.nominated.is_none_or(|(_, last)| first >= last);
            let is_no_worse = candidate.priority > current.priority
                || (candidate.priority == current.priority
                    && candidate.path.remote != current.path.remote);
            match (is_new, is_no_worse) {
                (true, true) => Duration::ZERO,
                (true, false) | (false, true) => SILENCE,
                (false, false) => SILENCE_LESSER,
            }
        }
    };
    now.since(current.active) >= patience
}

#[cfg(test)]
mod tests;

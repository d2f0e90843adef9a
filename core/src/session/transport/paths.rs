//! Which addresses a peer has proved, and which of them we send to.

use std::cmp::Reverse;
use std::time::Duration;

use super::checks::Check;
use crate::limits::SESSION_PATHS_MAX;
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
pub(super) struct Paths {
    /// At most [`SESSION_PATHS_MAX`].
    proved: Vec<Standing>,
    /// The path in use once the peer has nominated one; always among `proved`.
    current: Option<Path>,
    /// Before that: where the peer's DTLS comes from, else its first check; always among `proved`.
    early: Option<Path>,
}

/// What we know of one proved path. All times are of authenticated packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        }
    }

    /// Where to send; `None` before the first check.
    pub(super) fn send_path(&self) -> Option<Path> {
        self.current.or(self.early)
    }

    pub(super) fn is_proved(&self, path: Path) -> bool {
        self.find(path).is_some()
    }

    /// All proved paths, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Path> + '_ {
        self.proved.iter().map(|standing| standing.path)
    }

    /// The last check of the path in use: consent is per path (RFC 7675 §5.1).
    pub(super) fn last_check(&self) -> Option<Timestamp> {
        self.find(self.send_path()?)
            .map(|standing| standing.checked)
    }

    /// Takes in an authenticated check.
    pub(super) fn note_check(&mut self, now: Timestamp, path: Path, check: Check) -> Checked {
        let mut checked = Checked::default();
        if !self.is_proved(path) {
            checked.newly_proved = true;
            checked.forgotten = self.make_room();
            self.proved.push(Standing::new(now, path, check));
        }
        if let Some(standing) = self.find_mut(path) {
            standing.note_check(now, check);
        }
        self.early.get_or_insert(path);
        self.consider(now, path);
        checked
    }

    /// Takes in a DTLS datagram of a proved path; it moves us only while nothing is nominated.
    pub(super) fn note_dtls(&mut self, path: Path) {
        self.early = Some(path);
    }

    /// Takes in an authenticated RTP or RTCP packet.
    pub(super) fn note_media(&mut self, now: Timestamp, path: Path) {
        if let Some(standing) = self.find_mut(path) {
            standing.active = now;
            if self.current != Some(path) {
                self.consider(now, path);
            }
        }
    }

    fn consider(&mut self, now: Timestamp, path: Path) {
        let Some(candidate) = self.find(path) else {
            return;
        };
        let moves = match self.current.and_then(|current| self.find(current)) {
            None => candidate.nominated.is_some(),
            Some(current) => current.path != path && decide_path(now, current, candidate),
        };
        if moves {
            self.current = Some(path);
        }
    }

    /// Forgets the path that was silent longest, never the one in use, if there is no room for another.
    fn make_room(&mut self) -> Option<Path> {
        if self.proved.len() < SESSION_PATHS_MAX {
            return None;
        }
        let in_use = self.send_path();
        let spare = (0..self.proved.len())
            .filter(|&index| Some(self.proved[index].path) != in_use)
            .max_by_key(|&index| Reverse(self.proved[index].active))?;
        let forgotten = self.proved.remove(spare).path;
        if self.early == Some(forgotten) {
            self.early = in_use;
        }
        Some(forgotten)
    }

    fn find(&self, path: Path) -> Option<&Standing> {
        self.proved.iter().find(|standing| standing.path == path)
    }

    fn find_mut(&mut self, path: Path) -> Option<&mut Standing> {
        self.proved
            .iter_mut()
            .find(|standing| standing.path == path)
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

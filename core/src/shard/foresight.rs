//! Memory asked for before it is needed.
//!
//! A session's parts lie in some forty lines of memory. Among thousands of sessions none of them is in the
//! processor's cache when a packet comes, and most are found through another, so a packet waits for one after the
//! other: longer than it takes to handle it. Of several packets at hand, those of one depth are asked for together.
//!
//! Nothing here changes what a shard does.

use super::Shard;
use crate::ids::SessionKey;
use crate::limits::FORESEEN_FOLLOWERS;
use crate::net::Path;
use crate::session::media::Follower;

/// Followers of a track from which on they are foreseen while it is fed; fewer are foreseen with the datagram. A
/// packet to 1,000 or 5,000 took 7.1 to 7.7 µs with this and [`AHEAD`], kernel included, and 9.2 without; no others
/// were tried.
pub(super) const FORESEEN_MIN: usize = 32;
/// How many packets ahead each depth is asked for while a track is fed.
const AHEAD: [(usize, Depth); 3] = [(6, Depth::Session), (4, Depth::Parts), (2, Depth::Ends)];

/// How far to go: each depth reads what the one before asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The session itself.
    Session,
    /// What it points to.
    Parts,
    /// What these point to.
    Ends,
}

impl Depth {
    const ALL: [Self; 3] = [Self::Session, Self::Parts, Self::Ends];
}

/// Lists reused between calls.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    senders: Vec<SessionKey>,
    followers: Vec<Follower>,
}

impl Shard {
    /// Asks for the memory that datagrams over these paths will need if they are media, and the first
    /// [`FORESEEN_FOLLOWERS`] who will get them. Not for more than a level of cache holds: see
    /// [`FORESEEN_SLOTS`](crate::limits::FORESEEN_SLOTS). Allocates only until it has seen as many at once.
    pub(crate) fn foresee(&mut self, paths: impl Iterator<Item = Path>) {
        let Foresight { senders, followers } = &mut self.foresight;
        senders.clear();
        for path in paths {
            let sender = self.by_path.get(&path);
            // The packets of a picture come in a run.
            if let Some(sender) = sender.filter(|sender| senders.last() != Some(sender)) {
                senders.push(*sender);
            }
        }
        for depth in Depth::ALL {
            for key in &*senders {
                if let Some(session) = self.sessions.find(*key) {
                    session.prefetch_receiving(depth);
                }
            }
        }
        followers.clear();
        let sessions = senders.iter().filter_map(|key| self.sessions.find(*key));
        let lists = sessions.map(|session| session.media.followers_of_recent());
        let few = lists.filter(|list| list.len() < FORESEEN_MIN);
        followers.extend(few.flatten().take(FORESEEN_FOLLOWERS));
        for depth in Depth::ALL {
            for follower in &*followers {
                if let Some(session) = self.sessions.find(follower.session) {
                    session.prefetch_sending(depth, follower.media);
                }
            }
        }
    }

    /// Asks for the memory of those who are fed soon after the one at `place`.
    pub(super) fn foresee_followers(&self, followers: &[Follower], place: usize) {
        for (ahead, depth) in AHEAD {
            if let Some(follower) = followers.get(place + ahead)
                && let Some(session) = self.sessions.find(follower.session)
            {
                session.prefetch_sending(depth, follower.media);
            }
        }
    }
}

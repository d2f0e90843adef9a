//! Commands and events in words. What identifies a peer to others, or lets them in, is in none of them.

use antiphon_core::ids::{RequestId, RoomId, SessionId};
use antiphon_core::message::{Command, Event, Role, Target};
use antiphon_core::plan::IceCredentials;
use antiphon_core::wire::{Class, classify};

/// Beside an event that the run did not tell.
const MADE_UP: &str = "(made up: not in the journal)";

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Its kind, in snake case.
    pub(super) kind: &'static str,
    /// What it says that another run of the same call would say too.
    pub(super) what: String,
    /// What it says that was measured.
    pub(super) measured: String,
    /// The replay of a ring told it, and the run did not.
    pub(super) is_made_up: bool,
}

impl Told {
    /// The words in a row.
    pub(super) fn text(&self) -> String {
        let made_up = if self.is_made_up { MADE_UP } else { "" };
        let words = [self.kind, &self.what, &self.measured, made_up];
        let words = words.into_iter().filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    }
}

/// An event in words.
pub(super) fn event(event: &Event) -> Told {
    let (kind, what, measured) = match event {
        Event::Opened { .. } => ("opened", String::new(), String::new()),
        Event::Rejected { error, .. } => ("rejected", error.to_string(), String::new()),
        Event::Restarted { .. } => ("restarted", String::new(), String::new()),
        Event::Connected { profile, setup, .. } => {
            let ms = setup.as_secs_f64() * 1e3;
            let measured = format!("{ms:.1} ms after it was opened");
            ("connected", profile.name().to_owned(), measured)
        }
        Event::TrackAdded {
            mid, kind, codec, ..
        } => {
            let what = format!("{} {} {}", mid.as_str(), kind.name(), codec.name());
            ("track_added", what, String::new())
        }
        Event::TrackRemoved { mid, .. } => {
            ("track_removed", mid.as_str().to_owned(), String::new())
        }
        Event::ActiveSpeaker { room, participant } => {
            let who =
                participant.map_or("nobody".to_owned(), |who| format!("participant {}", who.0));
            let what = format!("room {}: {who}", room.0);
            ("active_speaker", what, String::new())
        }
        Event::Heard { heard, .. } => ("heard", heard.name().to_owned(), String::new()),
        Event::Closed { reason, .. } => ("closed", reason.name().to_owned(), String::new()),
        Event::SessionStats { stats, .. } => {
            let (received, sent) = (stats.packets_received, stats.packets_sent);
            let measured = format!("{received} packets received, {sent} sent");
            ("session_stats", String::new(), measured)
        }
        Event::ShardStats { stats, .. } => {
            let (received, sent) = (stats.datagrams_received, stats.datagrams_sent);
            let measured = format!("{received} datagrams received, {sent} sent");
            ("shard_stats", String::new(), measured)
        }
        _ => ("other", String::new(), String::new()),
    };
    Told {
        kind,
        what,
        measured,
        is_made_up: false,
    }
}

/// A command in words, and the session and the request that it names.
pub(super) fn command(command: &Command) -> (String, Option<SessionId>, Option<RequestId>) {
    match command {
        Command::Open {
            request,
            plan,
            role: role_of,
        } => {
            let sections = plan.media.len();
            let text = format!("open {}, {sections} sections", role(*role_of));
            (text, None, Some(*request))
        }
        Command::Restart {
            request,
            session,
            remote_ice: IceCredentials { .. },
        } => ("restart".to_owned(), Some(*session), Some(*request)),
        Command::Close { session, reason } => {
            (format!("close: {}", reason.name()), Some(*session), None)
        }
        Command::Agent { session, ask } => (format!("agent: {}", ask.name()), Some(*session), None),
        Command::SessionStats { request, session } => {
            ("session_stats".to_owned(), Some(*session), Some(*request))
        }
        Command::ShardStats { request } => ("shard_stats".to_owned(), None, Some(*request)),
    }
}

/// What a session is for.
pub(super) fn role(role: Role) -> String {
    match role {
        Role::Echo => "echo".to_owned(),
        Role::Agent(_) => "a call with an agent".to_owned(),
        Role::Mix { room, .. } => format!("hear room {} mixed", room.0),
        Role::Publish { room, participant } => {
            format!("publish room {} as {}", room.0, participant.0)
        }
        Role::Subscribe { room, target } => subscription(room, target),
        Role::SubscribeRemote { room, target, home } => {
            format!("{} of shard {}", subscription(room, target), home.0)
        }
    }
}

fn subscription(room: RoomId, target: Target) -> String {
    match target {
        Target::Participant(who) => format!("subscribe room {} to {}", room.0, who.0),
        Target::Newest => format!("subscribe room {}", room.0),
    }
}

/// What a datagram is by its first byte.
pub(super) fn class(contents: &[u8]) -> &'static str {
    match classify(contents) {
        Class::Stun => "STUN",
        Class::Dtls => "DTLS",
        Class::Rtp => "RTP",
        Class::Rtcp => "RTCP",
        Class::Unknown => "unknown",
    }
}

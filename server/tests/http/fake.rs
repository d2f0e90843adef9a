//! A shard that carries no media: it answers commands as the real one promises to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_core::delays::Delays;
use antiphon_core::drive::{Mailbox, RelayLanes};
use antiphon_core::ids::{RequestId, SessionId, SessionKey, ShardId};
use antiphon_core::limits::COMMANDS_MAX;
use antiphon_core::message::{
    CloseReason, Command, CommandError, Event, ProfileName, Role, SessionStats, ShardStats,
    TrackStats,
};
use antiphon_core::plan::{
    Fingerprint, IceCredentials, LocalDescription, LocalSource, MediaPlan, SessionPlan,
};
use antiphon_core::time::Timestamp;
use antiphon_core::voice::message::AgentAsk;
use antiphon_server::control::{EventSink, Link, Site, event_lane};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How the fake behaves.
#[derive(Debug, Default)]
pub(crate) struct Habits {
    /// Sessions connect as soon as they are opened.
    pub(crate) connects: bool,
    /// Commands stay unanswered.
    pub(crate) silent: bool,
    /// Opens and restarts are rejected.
    pub(crate) rejects: Option<CommandError>,
}

/// What the fake knows, shared with the test.
#[derive(Clone)]
pub(crate) struct FakeShard {
    id: ShardId,
    shared: Arc<Mutex<Shared>>,
    sink: EventSink,
}

struct Shared {
    habits: Habits,
    opened: u32,
    restarts: u32,
    sessions: BTreeMap<SessionId, (SessionPlan, Role)>,
    connected: BTreeSet<SessionId>,
    closed: Vec<(SessionId, CloseReason)>,
    asks: Vec<(SessionId, AgentAsk)>,
    /// An open that was left unanswered.
    unanswered: Option<(RequestId, SessionPlan, Role)>,
}

impl FakeShard {
    /// Starts a fake whose command lane holds `capacity` commands.
    pub(crate) fn start(id: ShardId, capacity: usize) -> (Self, Link, AbortHandle) {
        let (sink, events) = event_lane();
        let shared = Shared {
            habits: Habits::default(),
            opened: 0,
            restarts: 0,
            sessions: BTreeMap::new(),
            connected: BTreeSet::new(),
            closed: Vec::new(),
            asks: Vec::new(),
            unanswered: None,
        };
        let shard = Self {
            id,
            shared: Arc::new(Mutex::new(shared)),
            sink,
        };
        let notify = Arc::new(Notify::new());
        let waker = Arc::clone(&notify);
        let commands = Mailbox::new(capacity.min(COMMANDS_MAX), move || waker.notify_one());
        let (inbox, worker) = (commands.clone(), shard.clone());
        let task = tokio::spawn(async move {
            loop {
                while let Some(command) = inbox.pop() {
                    worker.handle_command(command);
                }
                notify.notified().await;
            }
        });
        let site = Site {
            relays: RelayLanes::default(),
            port: 40_000 + id.0,
            cpu: Some(id.0.into()),
            receive_buffer_bytes: 212_992,
            socket: Arc::default(),
            events_lost: shard.sink.lost(),
        };
        let stop = Box::new(|| ());
        let link = Link {
            commands,
            events,
            site,
            stop,
        };
        (shard, link, task.abort_handle())
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.lock().habits);
    }

    pub(crate) fn emit(&self, event: Event) {
        self.sink.emit(event);
    }

    pub(crate) fn sessions(&self) -> Vec<(SessionId, Role)> {
        self.lock()
            .sessions
            .iter()
            .map(|(id, (_, role))| (*id, *role))
            .collect()
    }

    /// The session opened last.
    pub(crate) fn last(&self) -> SessionId {
        *self.lock().sessions.keys().next_back().expect("a session")
    }

    pub(crate) fn plan_of_last(&self) -> SessionPlan {
        self.lock()
            .sessions
            .values()
            .next_back()
            .expect("a session")
            .0
            .clone()
    }

    pub(crate) fn closed(&self) -> Vec<(SessionId, CloseReason)> {
        self.lock().closed.clone()
    }

    /// What agents have asked for so far.
    pub(crate) fn asks(&self) -> Vec<(SessionId, AgentAsk)> {
        self.lock().asks.clone()
    }

    /// Ends a session from the shard's side.
    pub(crate) fn end(&self, session: SessionId, reason: CloseReason) {
        let known = self.lock().sessions.remove(&session).is_some();
        assert!(known, "the session exists");
        self.emit(Event::Closed { session, reason });
    }

    /// Ends the silence by answering the last open.
    pub(crate) fn answer_last_open(&self) {
        self.set(|habits| habits.silent = false);
        let (request, plan, role) = self.lock().unanswered.take().expect("an open was left");
        self.on_open(request, plan, role);
    }

    fn handle_command(&self, command: Command) {
        let (silent, rejects) = {
            let shared = self.lock();
            (shared.habits.silent, shared.habits.rejects)
        };
        if silent {
            if let Command::Open {
                request,
                plan,
                role,
            } = command
            {
                self.lock().unanswered = Some((request, *plan, role));
            }
            return;
        }
        match command {
            Command::Open { request, .. } | Command::Restart { request, .. }
                if rejects.is_some() =>
            {
                let error = rejects.expect("just checked");
                self.emit(Event::Rejected { request, error });
            }
            Command::Open {
                request,
                plan,
                role,
            } => self.on_open(request, *plan, role),
            Command::Restart { request, .. } => {
                let restarts = {
                    let mut shared = self.lock();
                    shared.restarts += 1;
                    shared.restarts
                };
                self.emit(Event::Restarted {
                    request,
                    ice: credentials(1_000 + restarts),
                });
            }
            Command::Close { session, reason } => {
                if self.lock().sessions.remove(&session).is_some() {
                    self.lock().closed.push((session, reason));
                    self.emit(Event::Closed { session, reason });
                }
            }
            Command::SessionStats { request, session } => {
                let stats = Box::new(self.stats(session));
                self.emit(Event::SessionStats { request, stats });
            }
            Command::Agent { session, ask } => self.lock().asks.push((session, ask)),
            Command::ShardStats { request } => {
                let stats = Box::new(self.shard_stats());
                self.emit(Event::ShardStats { request, stats });
            }
        }
    }

    fn on_open(&self, request: RequestId, plan: SessionPlan, role: Role) {
        let (session, connects, local) = {
            let mut shared = self.lock();
            shared.opened += 1;
            let key = SessionKey {
                index: shared.opened,
                generation: 7,
            };
            let session = SessionId {
                shard: self.id,
                key,
            };
            let local = local(&plan, shared.opened);
            shared.sessions.insert(session, (plan, role));
            (session, shared.habits.connects, local)
        };
        self.emit(Event::Opened {
            request,
            session,
            local: Box::new(local),
        });
        if connects {
            self.connect(session);
        }
    }

    /// Says that a session connected; a publisher ends those connected before it, as in the real shard.
    pub(crate) fn connect(&self, session: SessionId) {
        let replaced: Vec<SessionId> = {
            let mut shared = self.lock();
            let role = shared.sessions.get(&session).map(|(_, role)| *role);
            let same = |id: &SessionId| shared.sessions.get(id).map(|(_, other)| *other) == role;
            let publishes = matches!(role, Some(Role::Publish { .. }));
            let replaced = shared.connected.iter().filter(|id| publishes && same(id));
            let replaced = replaced.copied().filter(|id| *id != session).collect();
            shared.connected.insert(session);
            replaced
        };
        for replaced in replaced {
            self.end(replaced, CloseReason::Replaced);
        }
        let profile = ProfileName::AeadAes128Gcm;
        self.emit(Event::Connected {
            session,
            profile,
            setup: Duration::from_millis(12),
        });
    }

    fn stats(&self, session: SessionId) -> SessionStats {
        let shared = self.lock();
        let (plan, _) = &shared.sessions[&session];
        let tracks = plan.media.iter().map(|media| TrackStats {
            mid: media.mid,
            kind: media.kind,
            codec: media.codecs.first().map(|codec| codec.codec),
            inbound: true,
            ssrc: 1,
            packets: 100,
            bytes: 8_000,
            bitrate: 32_000,
            lost: 2,
            jitter: Duration::from_micros(1_500),
            nacks: 0,
            retransmissions: 0,
            keyframe_requests: 0,
        });
        SessionStats {
            jitter_buffer: None,
            at: Timestamp::from_millis(5_000),
            age: Duration::from_secs(5),
            connected: true,
            round_trip: Some(Duration::from_millis(3)),
            profile: Some(ProfileName::AeadAes128Gcm),
            packets_received: 100,
            packets_sent: 100,
            tracks: tracks.collect(),
        }
    }

    fn shard_stats(&self) -> ShardStats {
        let sessions = self.lock().sessions.len() as u32;
        let mut forward_delay = Delays {
            counts: [0; 16],
            micros: 60_350,
        };
        let counts = &mut forward_delay.counts;
        (counts[0], counts[3], counts[15]) = (5, 3, 1);
        let mut drops = [0; 14];
        drops[9] = 4;
        ShardStats {
            sessions,
            sessions_connected: sessions,
            rtp_received: 17,
            forward_delay,
            drops,
            profiles: [0, 2, 1],
            ..ShardStats::default()
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .expect("no test panics while it holds this")
    }
}

fn local(plan: &SessionPlan, number: u32) -> LocalDescription {
    let source = |media: &MediaPlan| {
        media.send.then_some(LocalSource {
            ssrc: 1_000 + number,
            rtx: None,
        })
    };
    LocalDescription {
        ice: credentials(number),
        fingerprint: Fingerprint([0xAB; 32]),
        sources: plan.media.iter().map(source).collect(),
    }
}

fn credentials(number: u32) -> IceCredentials {
    IceCredentials {
        ufrag: format!("fake{number}"),
        password: format!("secret{number:016}"),
    }
}

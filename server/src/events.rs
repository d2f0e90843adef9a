//! What the server does with the events of its shards, and how it ends all sessions.

use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::{RequestId, SessionId};
use antiphon_core::message::{CloseReason, CommandError, Event, ProfileName};
use antiphon_core::plan::LocalDescription;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::app::App;
use crate::control::Question;
use crate::limits::DRAIN_RETRY;
use crate::rooms::Seat;
use crate::sessions::{Draft, Record, SecretName, draw_etag, role_name};
use crate::wall::unix_now;

/// Handles a shard's events until the lane ends, which it does when the shard stops.
pub async fn follow(app: Arc<App>, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        app.handle_event(event);
    }
}

impl App {
    /// Handles one event of a shard. Does not wait.
    pub fn handle_event(self: &Arc<Self>, event: Event) {
        match event {
            Event::Opened {
                request,
                session,
                local,
            } => self.on_opened(request, session, local),
            Event::Rejected { request, error } => self.on_rejected(request, error),
            Event::Restarted { request, .. }
            | Event::SessionStats { request, .. }
            | Event::ShardStats { request, .. } => {
                if let Some(question) = self.control.answered(request) {
                    // Who asked may have gone away.
                    question.reply.send(event).ok();
                }
            }
            Event::Connected {
                session,
                profile,
                setup,
            } => self.on_connected(session, profile, setup),
            Event::TrackAdded {
                session,
                mid,
                kind,
                codec,
            } => {
                let Some(seat) = self.seat(session) else {
                    return;
                };
                self.directory()
                    .rooms
                    .note_track(&seat, session, mid, kind, codec);
            }
            Event::TrackRemoved { session, mid } => {
                let Some(seat) = self.seat(session) else {
                    return;
                };
                self.directory()
                    .rooms
                    .note_track_removed(&seat, session, mid);
            }
            Event::ActiveSpeaker { room, participant } => {
                self.directory().rooms.note_speaker(room, participant);
            }
            Event::Heard { session, heard } => {
                #[cfg(feature = "onnx")]
                let Some(heard) = self.show_models(session, heard) else {
                    return;
                };
                self.calls.hear(session, heard, &self.meters.agents);
            }
            Event::Closed { session, reason } => self.on_closed(session, reason),
            other => debug!(?other, "an event this server does not know"),
        }
    }

    /// Ends every session and waits until their shards have said so, no longer than the drain limit.
    /// Whether all had ended.
    pub async fn drain(&self) -> bool {
        self.begin_drain();
        let deadline = Instant::now() + self.config.drain;
        loop {
            self.close_all();
            if self.directory().sessions.count() == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(DRAIN_RETRY).await;
        }
    }

    /// Asks for the end of each session not asked yet, as far as the lanes have room.
    fn close_all(&self) {
        let mut directory = self.directory();
        let open = directory.sessions.iter().filter(|record| !record.closing);
        let ids: Vec<SessionId> = open.map(|record| record.id).collect();
        for id in ids {
            if self.control.close(id, CloseReason::Shutdown)
                && let Some(record) = directory.sessions.by_id_mut(id)
            {
                record.closing = true;
            }
        }
    }

    fn on_opened(&self, request: RequestId, session: SessionId, local: Box<LocalDescription>) {
        let Some(Question {
            reply,
            draft: Some(draft),
            ..
        }) = self.control.answered(request)
        else {
            error!(%session, "a session was opened that nobody asked for");
            return;
        };
        debug!(%session, role = role_name(draft.seat.as_ref(), draft.agent.as_ref()), "session opened");
        {
            let mut directory = self.directory();
            if let Some(seat) = &draft.seat
                && seat.publishes
            {
                directory.rooms.note_opened(seat, session, &draft.media);
            }
            if let Some(agent) = &draft.agent {
                self.calls.open(session, agent.clone());
            }
            directory.sessions.insert(record(session, *draft));
        }
        let unclaimed = reply
            .send(Event::Opened {
                request,
                session,
                local,
            })
            .is_err();
        // Nobody will ever know the URL. Should the lane be full, the shard reaps the session itself.
        if unclaimed && self.delete(session).is_err() {
            debug!(%session, "an unclaimed session could not be closed at once");
        }
    }

    fn on_rejected(&self, request: RequestId, error: CommandError) {
        let Some(question) = self.control.answered(request) else {
            return;
        };
        if let Some(draft) = &question.draft {
            self.directory().release(question.shard, draft);
        }
        // Who asked may have gone away.
        question.reply.send(Event::Rejected { request, error }).ok();
    }

    fn on_connected(self: &Arc<Self>, session: SessionId, profile: ProfileName, setup: Duration) {
        self.meters.note_setup(setup);
        let mut directory = self.directory();
        let Some(record) = directory.sessions.by_id_mut(session) else {
            return;
        };
        record.profile = Some(profile);
        let seat = record.seat.clone();
        if let Some(seat) = seat {
            directory.rooms.note_connected(&seat, session);
        }
        drop(directory);
        if let Some(call) = self.calls.take(self, session) {
            self.agents.answer(self, call);
        }
        let setup_ms = setup.as_millis() as u64;
        debug!(%session, profile = profile.name(), setup_ms, "session connected");
    }

    fn on_closed(&self, session: SessionId, reason: CloseReason) {
        if !self.directory().remove(session) {
            error!(%session, "a session was closed that was not known");
            return;
        }
        self.calls.close(session);
        self.meters.note_closed(reason);
        match reason {
            CloseReason::Fault => error!(%session, "a session ended by a fault of the server"),
            _ => debug!(%session, reason = reason.name(), "session closed"),
        }
    }

    fn seat(&self, session: SessionId) -> Option<Seat> {
        self.directory().sessions.by_id(session)?.seat.clone()
    }
}

fn record(id: SessionId, draft: Draft) -> Record {
    Record {
        id,
        secret: SecretName::draw(),
        seat: draft.seat,
        agent: draft.agent,
        owner: draft.owner,
        opened: Instant::now(),
        opened_unix: unix_now(),
        etag: draw_etag(),
        remote_ufrag: draft.remote_ufrag,
        media: draft.media,
        profile: None,
        closing: false,
        restart: Arc::default(),
    }
}

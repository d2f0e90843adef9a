//! Calls with agents: how they are asked for, what their agent hears, and the timeline of a call.

use antiphon_core::audio::Rate;
use antiphon_core::ids::SessionId;
use antiphon_core::message::{CloseReason, Event, Role};
use antiphon_core::voice::message::{
    AgentAsk, AgentPlan, CallTime, Eagerness, EndReason, Heard, PlayoutState, SpokenQuality,
    TurnEnd, TurnId, UtteranceId, VoiceEvent,
};
use serde_json::json;

use crate::client::Events;
use crate::offers;
use crate::rig::Rig;

const MS: u64 = 1_000;

/// 20 ms of a sample.
pub(crate) fn audio(at_ms: u64, sample: i16) -> Heard {
    Heard::Audio {
        at: CallTime(at_ms * MS),
        pcm: sample.to_le_bytes().repeat(320),
        speech: 200,
        concealed: false,
    }
}

pub(crate) fn started(turn: u32, start_ms: u64) -> Heard {
    Heard::Voice(VoiceEvent::SpeechStarted {
        at: CallTime((start_ms + 60) * MS),
        turn: TurnId(turn),
        start: CallTime(start_ms * MS),
    })
}

pub(crate) fn ended(turn: u32, start_ms: u64, end_ms: u64) -> Heard {
    Heard::Voice(VoiceEvent::Ended(TurnEnd {
        at: CallTime((end_ms + 350) * MS),
        turn: TurnId(turn),
        start: CallTime(start_ms * MS),
        end: CallTime(end_ms * MS),
        probability: 24_575,
        reason: EndReason::Evidence,
    }))
}

impl Rig {
    /// Calls an agent; the session and its path.
    pub(crate) async fn call(&self, query: &str) -> (SessionId, String) {
        let path = format!("/whip?{query}");
        let location = self.post(&path, &offers::sendrecv()).await.location();
        self.settle().await;
        (self.shard().last(), location)
    }

    pub(crate) fn hear(&self, session: SessionId, heard: Heard) {
        self.shard().emit(Event::Heard { session, heard });
    }

    /// Waits until agents have asked `count` times, and gives all asks.
    pub(crate) async fn asked(&self, count: usize) -> Vec<(SessionId, AgentAsk)> {
        let shard = self.shard().clone();
        self.until("asks", |_| shard.asks().len() >= count).await;
        shard.asks()
    }
}

#[tokio::test]
async fn an_agent_is_asked_for_by_name_and_told_in_the_list_of_sessions() {
    let rig = Rig::start("").await;
    let (session, location) = rig.call("agent=parrot&eagerness=patient").await;
    let plan = AgentPlan {
        eagerness: Eagerness::Patient,
        rate: Rate::Hz16000,
        batch_millis: 20,
        denoise: false,
    };
    assert_eq!(rig.shard().sessions(), [(session, Role::Agent(plan))]);
    let media = rig.shard().plan_of_last().media;
    assert!(media.len() == 1 && media[0].send && media[0].receive);
    let sessions = rig.get("/api/sessions").await.json();
    let listed = &sessions["sessions"][0];
    assert_eq!(
        (&listed["role"], &listed["agent"]),
        (&json!("agent"), &json!("parrot"))
    );
    assert_eq!((rig.app.calls.count(), rig.tables().0), (1, 1));
    rig.send("DELETE", &location, &[], "").await;
    rig.until("the call ends", |app| app.calls.count() == 0)
        .await;
    let agents = rig.get("/info").await.json()["agents"].clone();
    assert_eq!(agents[0], json!({ "name": "parrot", "kind": "built_in" }));
    assert_eq!(agents[1]["name"], "tone");
}

#[tokio::test]
async fn what_no_agent_can_answer_is_refused_with_the_reason() {
    let rig = Rig::start("").await;
    let offer = offers::sendrecv();
    let refused = rig.post("/whip?agent=nobody", &offer).await.problem(404);
    assert!(
        refused.contains("parrot") && refused.contains("tone"),
        "{refused}"
    );
    let refused = rig.post("/whip?agent=a/b", &offer).await.problem(404);
    assert!(refused.contains("parrot"), "{refused}");
    let refused = rig
        .post("/whip?agent=parrot&eagerness=now", &offer)
        .await
        .problem(400);
    assert!(refused.contains("eager, balanced or patient"), "{refused}");
    rig.post("/whip?eagerness=eager", &offer).await.problem(400);
    let one_way = rig
        .post("/whip?agent=parrot", &offers::sendonly())
        .await
        .problem(422);
    assert!(one_way.contains("sendrecv"), "{one_way}");
    let video = offers::offer(&[("video", "0", "sendrecv")]);
    let no_sound = rig.post("/whip?agent=tone", &video).await.problem(422);
    assert!(no_sound.contains("audio"), "{no_sound}");
    assert_eq!(rig.tables(), (0, 0, 0));
    let both = offers::offer(&[("audio", "0", "sendrecv"), ("video", "1", "sendrecv")]);
    let reply = rig.post("/whip?agent=tone", &both).await;
    assert!(
        reply.status == 201 && reply.body.contains("m=video 0 "),
        "{reply:?}"
    );
}

#[tokio::test]
async fn the_tone_greets_and_the_parrot_says_a_turn_back() {
    let rig = Rig::start("").await;
    rig.call("agent=tone").await;
    let asks = rig.asked(1).await;
    assert!(matches!(&asks[0].1, AgentAsk::Say { pcm, last: true, .. } if pcm.len() == 32_000));

    let (session, _) = rig.call("agent=parrot").await;
    for at in (0..1_000).step_by(20) {
        rig.hear(session, audio(at, at as i16));
    }
    rig.hear(session, started(1, 400));
    rig.hear(session, ended(1, 400, 700));
    let asks = rig.asked(2).await;
    let (
        by,
        AgentAsk::Say {
            utterance,
            pcm,
            last: true,
            ..
        },
    ) = &asks[1]
    else {
        panic!("{asks:?}");
    };
    assert_eq!((*by, *utterance), (session, UtteranceId(1)));
    assert_eq!(
        (pcm.len(), &pcm[..2]),
        (700 * 32, &200_i16.to_le_bytes()[..])
    );
}

#[tokio::test]
async fn in_economy_a_call_begins_with_asking_for_it() {
    let rig = Rig::start("voice_quality = \"economy\"").await;
    rig.call("agent=tone").await;
    let asks = rig.asked(2).await;
    let economy = AgentAsk::Quality(SpokenQuality::Economy);
    assert_eq!(asks[0].1, economy);
    assert!(matches!(asks[1].1, AgentAsk::Say { .. }));
}

#[tokio::test]
async fn an_agent_hears_nothing_before_the_call_connects_and_a_call_that_never_does_is_forgotten() {
    let rig = Rig::start("").await;
    rig.shard().set(|habits| habits.connects = false);
    let (session, _) = rig.call("agent=tone").await;
    rig.settle().await;
    assert!(rig.shard().asks().is_empty());
    rig.shard().end(session, CloseReason::SetupTimeout);
    rig.until("the call is forgotten", |app| app.calls.count() == 0)
        .await;
}

#[tokio::test]
async fn the_timeline_tells_what_is_decided_and_how_loud_it_is() {
    let rig = Rig::start("").await;
    let (session, location) = rig.call("agent=tone&eagerness=eager").await;
    let secret = location.rsplit('/').next().expect("a last part");
    let mut events = Events::open(rig.address, &format!("/api/sessions/{secret}/voice")).await;
    let call = json!({
        "agent": "tone", "eagerness": "eager", "rate": 16_000, "batch": 20, "denoise": false,
    });
    assert_eq!(events.next().await, ("call".to_owned(), call));
    for at in (0..100).step_by(20) {
        rig.hear(session, audio(at, 3_277));
    }
    rig.hear(session, started(1, 40));
    rig.hear(session, ended(1, 40, 700));
    rig.hear(
        session,
        Heard::Playout {
            at: CallTime(1_100 * MS),
            utterance: UtteranceId(2),
            played: 500,
            queued: 1_000_000,
            state: PlayoutState::Interrupted,
        },
    );
    let expected = [
        (
            "level",
            json!({ "at": 80.0, "level": -20.0, "speech": 0.78 }),
        ),
        (
            "speech_started",
            json!({ "at": 100.0, "turn": 1, "start": 40.0 }),
        ),
        (
            "ended",
            json!({
                "at": 1_050.0, "turn": 1, "start": 40.0, "end": 700.0,
                "probability": 0.75, "reason": "evidence",
            }),
        ),
        (
            "playout",
            json!({
                "at": 1_100.0, "utterance": 2, "played": 0.5, "queued": 1_000.0,
                "state": "interrupted",
            }),
        ),
    ];
    for (name, value) in expected {
        assert_eq!(events.next().await, (name.to_owned(), value));
    }
    rig.shard().end(session, CloseReason::PeerClosed);
    assert_eq!(events.next().await.0, "closed");
    events.ended().await;
}

#[tokio::test]
async fn a_session_without_an_agent_has_no_timeline_and_a_strangers_is_not_found() {
    let rig = Rig::start("").await;
    let location = rig.post("/whip", &offers::sendrecv()).await.location();
    let secret = location.rsplit('/').next().expect("a last part");
    let reply = rig.get(&format!("/api/sessions/{secret}/voice")).await;
    assert!(reply.problem(404).contains("no agent"));
    rig.get("/api/sessions/unknown/voice").await.problem(404);
}

#[tokio::test]
async fn what_agents_hear_is_counted() {
    let rig = Rig::start("").await;
    let (session, _) = rig.call("agent=parrot").await;
    for at in 0..5 {
        rig.hear(session, audio(at * 20, 0));
    }
    rig.hear(session, started(1, 0));
    rig.hear(
        session,
        Heard::Voice(VoiceEvent::BargeIn {
            at: CallTime(0),
            start: CallTime(0),
            turn: TurnId(2),
        }),
    );
    rig.settle().await;
    let metrics = rig.get("/metrics").await.body;
    for line in [
        "antiphon_agent_calls 1",
        "antiphon_agent_audio_heard_total 5",
        "antiphon_agent_audio_dropped_total 0",
        "antiphon_agent_stalls_total 0",
        "antiphon_barge_ins_total 1",
        "antiphon_turn_events_total{event=\"speech_started\"} 1",
        "antiphon_events_lost_total{shard=\"0\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
}

/// Sound is dropped while more than half of the lane is taken; a shard never ends for it.
#[tokio::test]
async fn sound_is_lost_before_the_event_lane_is_full() {
    use antiphon_core::ids::{SessionKey, ShardId};
    use antiphon_core::limits::EVENTS_MAX;
    use antiphon_server::control::event_lane;
    use std::sync::atomic::Ordering;

    let (sink, mut events) = event_lane();
    let key = SessionKey {
        index: 0,
        generation: 0,
    };
    let session = SessionId {
        shard: ShardId(0),
        key,
    };
    for at in 0..EVENTS_MAX as u64 {
        let heard = audio(at, 0);
        sink.emit(Event::Heard { session, heard });
    }
    let kept = EVENTS_MAX - sink.lost().load(Ordering::Relaxed) as usize;
    assert_eq!(kept, EVENTS_MAX / 2 + 1);
    let reason = CloseReason::Requested;
    for _ in kept..EVENTS_MAX {
        sink.emit(Event::Closed { session, reason });
    }
    sink.emit(Event::Heard {
        session,
        heard: audio(0, 0),
    });
    let mut count = 0;
    while events.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, EVENTS_MAX);
}

/// What would be done silently otherwise: a person who wants an agent, or a mix, and gets neither.
#[tokio::test]
async fn parameters_of_another_url_are_refused_with_the_right_one() {
    let rig = Rig::start("").await;
    let refused = rig
        .post("/whip/room?agent=parrot", &offers::sendrecv())
        .await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("POST /whip?agent=NAME"),
        "{}",
        refused.body
    );
    let refused = rig.post("/whep/room/ann?mix=1", &offers::recvonly()).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("/whep/{room}?mix=1"),
        "{}",
        refused.body
    );
}

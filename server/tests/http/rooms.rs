//! Rooms: the API and the event stream.

use std::time::Duration;

use antiphon_core::message::{CloseReason, Event, Role};
use antiphon_core::plan::{Codec, MediaKind, Mid};
use antiphon_server::app::App;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::client::Events;
use crate::offers;
use crate::rig::Rig;

fn audio() -> Mid {
    Mid::new(b"0").expect("a tag")
}

#[tokio::test]
async fn a_room_lists_participants_and_what_they_send() {
    let rig = Rig::start("").await;
    assert_eq!(rig.get("/api/rooms").await.json(), json!({ "rooms": [] }));
    rig.get("/api/rooms/hall").await.problem(404);
    rig.publish("hall", "ann").await;
    let session = rig.shard().last();
    let (kind, codec) = (MediaKind::Audio, Codec::Opus);
    rig.shard().emit(Event::TrackAdded {
        session,
        mid: audio(),
        kind,
        codec,
    });
    rig.settle().await;

    let room = rig.get("/api/rooms/hall").await.json();
    let expected = json!({
        "room": "hall",
        "participants": [{
            "name": "ann",
            "session": session.to_string(),
            "tracks": [{ "mid": "0", "kind": "audio", "codec": "opus" }],
        }],
        "sessions": 1,
        "active_speaker": null,
    });
    assert_eq!(room, expected);
    assert_eq!(
        rig.get("/api/rooms").await.json(),
        json!({ "rooms": [expected] })
    );
}

#[tokio::test]
async fn the_event_stream_tells_what_happens_in_its_room_in_order() {
    let rig = Rig::start("").await;
    let mut events = Events::open(rig.address, "/api/rooms/hall/events").await;
    let (name, snapshot) = events.next().await;
    assert_eq!(
        (name.as_str(), &snapshot["participants"]),
        ("snapshot", &json!([]))
    );

    rig.publish("hall", "ann").await;
    rig.publish("cellar", "eve").await;
    let sessions = rig.shard().sessions();
    let (session, Role::Publish { room, participant }) = sessions[0] else {
        panic!("ann publishes: {sessions:?}");
    };
    let (kind, codec) = (MediaKind::Audio, Codec::Opus);
    rig.shard().emit(Event::TrackAdded {
        session,
        mid: audio(),
        kind,
        codec,
    });
    rig.shard().emit(Event::ActiveSpeaker {
        room,
        participant: Some(participant),
    });
    rig.shard().emit(Event::ActiveSpeaker {
        room,
        participant: None,
    });
    rig.shard().emit(Event::TrackRemoved {
        session,
        mid: audio(),
    });
    rig.shard().end(session, CloseReason::PeerClosed);

    let track = json!({ "mid": "0", "kind": "audio", "codec": "opus" });
    let expected = [
        ("joined", json!({ "participant": "ann" })),
        (
            "track_added",
            json!({ "participant": "ann", "track": track }),
        ),
        ("active_speaker", json!({ "participant": "ann" })),
        ("active_speaker", json!({ "participant": null })),
        (
            "track_removed",
            json!({ "participant": "ann", "track": { "mid": "0" } }),
        ),
        ("left", json!({ "participant": "ann" })),
    ];
    for (name, value) in expected {
        assert_eq!(events.next().await, (name.to_owned(), value));
    }
}

#[tokio::test]
async fn a_participant_who_comes_again_leaves_and_joins_once() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    let mut events = Events::open(rig.address, "/api/rooms/hall/events").await;
    assert_eq!(events.next().await.1["participants"][0]["name"], "ann");
    rig.publish("hall", "ann").await;
    assert_eq!(events.next().await.0, "left");
    assert_eq!(events.next().await.0, "joined");
    assert_eq!(
        rig.shard().sessions().len(),
        1,
        "the old session was replaced"
    );
    let room = rig.get("/api/rooms/hall").await.json();
    assert_eq!(room["participants"].as_array().map(Vec::len), Some(1));
    assert_eq!(room["sessions"], 1);
}

#[tokio::test]
async fn one_who_never_connected_neither_joins_nor_leaves() {
    let rig = Rig::start("").await;
    let mut events = Events::open(rig.address, "/api/rooms/hall/events").await;
    events.next().await;
    rig.shard().set(|habits| habits.connects = false);
    rig.publish("hall", "ann").await;
    assert_eq!(
        rig.get("/api/rooms/hall").await.json()["participants"],
        json!([])
    );
    rig.shard()
        .end(rig.shard().last(), CloseReason::SetupTimeout);
    rig.shard().set(|habits| habits.connects = true);
    rig.publish("hall", "bob").await;
    assert_eq!(
        events.next().await,
        ("joined".to_owned(), json!({ "participant": "bob" }))
    );
}

#[tokio::test]
async fn a_room_that_nobody_sits_in_or_listens_to_is_forgotten() {
    let rig = Rig::start("").await;
    let events = Events::open(rig.address, "/api/rooms/hall/events").await;
    assert_eq!(rig.tables().1, 1);
    rig.get("/api/rooms/hall").await.problem(404);
    drop(events);
    rig.until("the listener's room goes", |app| {
        app.directory().rooms.is_empty()
    })
    .await;
}

#[tokio::test]
async fn rooms_and_participants_never_get_a_number_again() {
    let rig = Rig::start("").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let path = rig.publish("hall", "ann").await;
        let Role::Publish { room, participant } = rig.shard().sessions()[0].1 else {
            panic!("ann publishes");
        };
        assert!(!seen.contains(&(room, participant)));
        seen.push((room, participant));
        assert_eq!(rig.send("DELETE", &path, &[], "").await.status, 200);
        rig.settle().await;
        assert_eq!(rig.tables(), (0, 0, 0));
    }
    rig.post("/whip", &offers::sendrecv()).await.location();
}

#[tokio::test]
async fn a_second_publisher_that_never_connects_leaves_the_first_in_place() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    let first = rig.shard().last();
    let mut events = Events::open(rig.address, "/api/rooms/hall/events").await;
    events.next().await;
    rig.shard().set(|habits| habits.connects = false);
    rig.publish("hall", "ann").await;
    let live = |room: serde_json::Value| room["participants"][0]["session"].clone();
    let shown = live(rig.get("/api/rooms/hall").await.json());
    assert_eq!(shown, first.to_string());
    rig.shard()
        .end(rig.shard().last(), CloseReason::SetupTimeout);
    rig.shard().set(|habits| habits.connects = true);
    let reply = rig.post("/whep/hall/ann", &offers::recvonly()).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let shown = live(rig.get("/api/rooms/hall").await.json());
    assert_eq!(shown, first.to_string());
    rig.publish("hall", "bob").await;
    assert_eq!(
        events.next().await,
        ("joined".to_owned(), json!({ "participant": "bob" })),
        "ann neither left nor joined"
    );
}

#[tokio::test]
async fn of_two_pending_publishers_the_one_that_connects_is_live() {
    let rig = Rig::start("").await;
    rig.shard().set(|habits| habits.connects = false);
    rig.publish("hall", "ann").await;
    let first = rig.shard().last();
    rig.publish("hall", "ann").await;
    let second = rig.shard().last();
    rig.shard().connect(first);
    rig.settle().await;
    let room = rig.get("/api/rooms/hall").await.json();
    assert_eq!(room["participants"][0]["session"], first.to_string());
    rig.shard().end(second, CloseReason::SetupTimeout);
    rig.settle().await;
    let room = rig.get("/api/rooms/hall").await.json();
    assert_eq!(room["participants"][0]["session"], first.to_string());
}

#[tokio::test]
async fn one_network_opens_no_more_event_streams_than_its_share() {
    let rig = Rig::start("").await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(Events::open(rig.address, "/api/rooms/hall/events").await);
    }
    let reply = rig.get("/api/rooms/hall/events").await;
    reply.problem(429);
    assert!(reply.has("retry-after"));
    open.pop();
    let given_back = |app: &App| app.streams.available_permits() == 1_024 - 63;
    rig.until("the stream is given back", given_back).await;
    Events::open(rig.address, "/api/rooms/hall/events").await;
}

#[tokio::test]
async fn a_listener_that_stops_reading_is_cut() {
    let rig = Rig::start("").await;
    // A small buffer at the listener's end also keeps the kernel from growing the server's.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut listener = socket.connect(rig.address).await.expect("it listens");
    let request = b"GET /api/rooms/hall/events HTTP/1.1\r\nHost: test\r\n\r\n";
    listener.write_all(request).await.expect("it is sent");
    let free = |app: &App| app.streams.available_permits();
    rig.until("the stream is open", |app| free(app) == 1_023)
        .await;
    rig.publish("hall", "ann").await;
    let session = rig.shard().last();
    let deadline = Instant::now() + Duration::from_secs(30);
    while free(&rig.app) < 1_024 {
        assert!(Instant::now() < deadline, "the stream was never cut");
        for _ in 0..200 {
            let (mid, kind, codec) = (audio(), MediaKind::Audio, Codec::Opus);
            rig.shard().emit(Event::TrackAdded {
                session,
                mid,
                kind,
                codec,
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(listener);
}

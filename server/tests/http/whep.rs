//! WHEP endpoint: rows E1 to E5.

use antiphon_core::message::{CloseReason, Event, Role, Target};
use antiphon_core::plan::{Codec, MediaKind, Mid};

use crate::offers::{self, offer};
use crate::rig::{Rig, SDP};

#[tokio::test]
async fn e1_the_answer_is_sendonly() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    for direction in ["recvonly", "sendrecv"] {
        let reply = rig
            .post("/whep/hall", &offer(&[("audio", "0", direction)]))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert!(reply.body.contains("a=sendonly\r\n"));
        assert!(reply.header("location").starts_with("/session/") && reply.has("etag"));
    }
    rig.post("/whep/hall", &offers::sendonly())
        .await
        .problem(422);
}

#[tokio::test]
async fn e2_the_server_answers_and_never_counter_offers() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    let reply = rig.post("/whep/hall/ann", &offers::recvonly()).await;
    let tag = reply.header("etag").to_owned();
    let headers = [SDP, ("If-Match", tag.as_str())];
    let reply = rig
        .send("PATCH", &reply.location(), &headers, &reply.body)
        .await;
    reply.problem(415);
}

#[tokio::test]
async fn e3_without_a_live_publisher_it_is_409_with_retry_after() {
    let rig = Rig::start("").await;
    for path in ["/whep/nowhere", "/whep/nowhere/nobody"] {
        let reply = rig.post(path, &offers::recvonly()).await;
        reply.problem(409);
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert_eq!(rig.tables(), (0, 0, 0));

    rig.shard().set(|habits| habits.connects = false);
    rig.publish("hall", "ann").await;
    rig.post("/whep/hall", &offers::recvonly())
        .await
        .problem(409);
    rig.shard().connect(rig.shard().last());
    rig.settle().await;
    assert_eq!(
        rig.post("/whep/hall", &offers::recvonly()).await.status,
        201
    );
    assert!(
        rig.post("/whep/hall/bob", &offers::recvonly())
            .await
            .problem(409)
            .contains("bob")
    );
}

#[tokio::test]
async fn e3_a_publisher_that_left_is_live_no_more_and_its_subscribers_stay() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    let publisher = rig.shard().last();
    let subscriber = rig
        .post("/whep/hall/ann", &offers::recvonly())
        .await
        .location();
    let role_before = rig.shard().sessions()[1].1;
    rig.shard().end(publisher, CloseReason::ConsentExpired);
    rig.settle().await;
    rig.post("/whep/hall/ann", &offers::recvonly())
        .await
        .problem(409);
    assert_eq!(
        rig.get(&subscriber).await.status,
        204,
        "the subscriber waits"
    );

    rig.publish("hall", "ann").await;
    let Role::Subscribe {
        target: Target::Participant(followed),
        ..
    } = role_before
    else {
        panic!("it follows ann: {role_before:?}");
    };
    let Role::Publish { participant, .. } = rig.shard().sessions()[1].1 else {
        panic!("ann publishes");
    };
    assert_eq!(
        participant, followed,
        "the same name keeps its number while it is followed"
    );
}

#[tokio::test]
async fn e4_head_tells_that_this_is_a_whep_endpoint() {
    let rig = Rig::start("").await;
    for path in ["/whep/hall", "/whep/hall/ann"] {
        let reply = rig.send("HEAD", path, &[], "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), "application/sdp");
    }
}

#[tokio::test]
async fn e5_under_load_it_is_503_and_the_rest_is_as_in_whip() {
    let rig = Rig::start("max_sessions = 2").await;
    rig.publish("hall", "ann").await;
    let session = rig.post("/whep/hall", &offers::recvonly()).await.location();
    let reply = rig.post("/whep/hall", &offers::recvonly()).await;
    reply.problem(503);
    assert!(reply.has("retry-after"));
    rig.send("POST", "/whep/hall", &[], &offers::recvonly())
        .await
        .problem(415);
    rig.post("/whep/hall", "hello").await.problem(400);
    assert_eq!(rig.send("DELETE", &session, &[], "").await.status, 200);
}

#[tokio::test]
async fn without_a_name_the_newest_publisher_is_followed() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    rig.publish("hall", "bob").await;
    rig.post("/whep/hall", &offers::recvonly()).await.location();
    let roles = rig.shard().sessions();
    assert!(
        matches!(
            roles[2].1,
            Role::Subscribe {
                target: Target::Newest,
                ..
            }
        ),
        "{roles:?}"
    );
    let rooms: Vec<_> = roles
        .iter()
        .map(|(_, role)| match role {
            Role::Publish { room, .. } | Role::Subscribe { room, .. } | Role::Mix { room, .. } => {
                *room
            }
            other => panic!("nobody does that: {other:?}"),
        })
        .collect();
    assert!(
        rooms.iter().all(|room| *room == rooms[0]),
        "they share the room"
    );
}

/// The publisher's first agreed codec is a guess; what arrives settles it.
#[tokio::test]
async fn the_codec_that_arrives_is_the_codec_that_is_answered_first() {
    let rig = Rig::start("").await;
    rig.publish("hall", "ann").await;
    let session = rig.shard().last();
    let mid = Mid::new(b"0").expect("a tag");
    let (kind, codec) = (MediaKind::Audio, Codec::Pcma);
    rig.shard().emit(Event::TrackAdded {
        session,
        mid,
        kind,
        codec,
    });
    rig.settle().await;
    rig.post("/whep/hall", &offers::recvonly()).await.location();
    assert_eq!(
        rig.shard().plan_of_last().media[0].codecs[0].codec,
        Codec::Pcma
    );
}

#[tokio::test]
async fn rooms_of_one_name_share_a_shard_and_calls_spread_over_shards() {
    let rig = Rig::with_shards("", 3, usize::MAX).await;
    for name in ["ann", "bob", "cid"] {
        rig.publish("hall", name).await;
    }
    let counts = || {
        rig.shards
            .iter()
            .map(|shard| shard.sessions().len())
            .collect::<Vec<_>>()
    };
    let mut hall = counts();
    hall.sort_unstable();
    assert_eq!(hall, [0, 0, 3], "a room that is not busy is on one shard");
    for _ in 0..6 {
        rig.post("/whip", &offers::sendrecv()).await.location();
    }
    assert_eq!(counts(), [3, 3, 3]);
}

#[tokio::test]
async fn a_room_can_be_heard_in_one_track_without_oneself() {
    let rig = Rig::start("").await;
    let offer = offers::recvonly();
    rig.post("/whep/hall?mix=1", &offer).await.problem(409);
    let ann = rig.publish("hall", "ann").await;
    rig.publish("hall", "bob").await;
    let secret = ann.rsplit('/').next().expect("a last part");
    let own = format!("/whep/hall?mix=1&session={secret}");
    rig.post(&own, &offer).await.location();
    rig.post("/whep/hall?mix=1", &offer).await.location();
    let roles: Vec<_> = rig.shard().sessions().into_iter().map(|it| it.1).collect();
    let Role::Publish { room, participant } = roles[0] else {
        panic!("ann publishes: {roles:?}");
    };
    let but = |own| Role::Mix { room, own };
    assert_eq!(roles[2..], [but(Some(participant)), but(None)]);

    for wrong in [
        "/whep/hall?mix=2".to_owned(),
        format!("/whep/hall?session={secret}"),
        "/whep/hall?mix=1&session=nobodys".to_owned(),
    ] {
        rig.post(&wrong, &offer).await.problem(400);
    }
    rig.publish("attic", "cleo").await;
    let elsewhere = format!("/whep/attic?mix=1&session={secret}");
    assert!(
        rig.post(&elsewhere, &offer)
            .await
            .problem(400)
            .contains("attic")
    );
}

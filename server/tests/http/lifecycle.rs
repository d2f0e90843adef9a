//! Starting, stopping, and shards that misbehave.

use std::time::Duration;

use antiphon_core::drive::{Port, Turn, Turner};
use antiphon_core::message::CloseReason;
use antiphon_core::time::Timestamp;
use antiphon_server::app::App;
use antiphon_server::config::Config;
use antiphon_server::server::{Server, ServerError};
use antiphon_server::shards;

use crate::client::Events;
use crate::fake::FakeShard;
use crate::offers;
use crate::rig::Rig;

#[tokio::test]
async fn a_stop_ends_every_session_with_shutdown_and_returns() {
    let mut rig = Rig::with_shards("", 2, usize::MAX).await;
    for _ in 0..5 {
        rig.post("/whip", &offers::sendrecv()).await.location();
    }
    rig.publish("hall", "ann").await;
    let events = Events::open(rig.address, "/api/rooms/hall/events").await;
    let shards = rig.shards.clone();
    rig.stop();
    rig.stopped().await.expect("it ends well");
    events.ended().await;
    let closed: Vec<_> = shards.iter().flat_map(FakeShard::closed).collect();
    assert_eq!(closed.len(), 6);
    assert!(
        closed
            .iter()
            .all(|(_, reason)| *reason == CloseReason::Shutdown)
    );
}

#[tokio::test]
async fn while_stopping_new_sessions_are_503_and_health_says_so() {
    let mut rig = Rig::start("drain_seconds = 60").await;
    rig.post("/whip", &offers::sendrecv()).await.location();
    rig.shard().set(|habits| habits.silent = true);
    rig.stop();
    rig.until("the drain begins", App::is_draining).await;
    let reply = rig.post("/whip", &offers::sendrecv()).await;
    assert!(reply.problem(503).contains("stopping"));
    assert!(reply.has("retry-after"));
    let health = rig.get("/health").await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (503, &"draining".into())
    );
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_the_drain_limit() {
    let mut rig = Rig::start("drain_seconds = 0").await;
    rig.post("/whip", &offers::sendrecv()).await.location();
    rig.shard().set(|habits| habits.silent = true);
    rig.stop();
    rig.stopped().await.expect("it ends well");
}

/// Lanes of two commands and twenty sessions: the stop asks again until all are told.
#[tokio::test]
async fn a_stop_gets_through_a_lane_that_is_full() {
    let mut rig = Rig::with_shards("", 1, 2).await;
    for _ in 0..20 {
        rig.post("/whip", &offers::sendrecv()).await.location();
    }
    let shard = rig.shard().clone();
    rig.stop();
    rig.stopped().await.expect("it ends well");
    assert_eq!(shard.closed().len(), 20);
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_leaves_no_session() {
    let rig = Rig::start("").await;
    rig.shard().set(|habits| habits.silent = true);
    let path = "/whip/hall?name=ann";
    let offer = offers::sendonly();
    {
        let post = rig.post(path, &offer);
        tokio::pin!(post);
        let asked = rig.until("the shard is asked", |app| {
            app.control.open_questions() == 1
        });
        tokio::select! {
            () = asked => {}
            reply = &mut post => panic!("nobody answers yet: {reply:?}"),
        }
    }
    assert_eq!(
        rig.tables(),
        (1, 1, 1),
        "the place is taken until the shard has answered"
    );
    rig.until("the server has noticed", |app| {
        app.meters.connections.get() == 0
    })
    .await;
    rig.shard().answer_last_open();
    rig.settle().await;
    assert_eq!(
        rig.shard().closed().len(),
        1,
        "nobody knows the URL, so it is ended"
    );
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn a_shard_that_ends_by_itself_ends_the_server_with_an_error() {
    let mut rig = Rig::start("").await;
    rig.end_shards();
    let error = rig.stopped().await.expect_err("it cannot go on");
    assert!(matches!(error, ServerError::ShardEnded), "{error}");
}

/// A media thread with a bug of ours.
struct Panics;

impl Turner for Panics {
    fn turn<P: Port>(&mut self, _now: Timestamp, _port: &mut P) -> Turn {
        panic!("a test told it to");
    }
}

/// It is not restarted: the process ends with an error, and who supervises it starts it again.
#[tokio::test]
async fn a_media_thread_that_panics_ends_the_server_on_every_runtime() {
    let glommio = antiphon_runtime_glommio::probe();
    if let Err(why) = &glommio {
        eprintln!("SKIPPED on glommio: {why}");
    }
    let glommio = glommio.is_ok().then_some("glommio");
    for runtime in ["tokio", "smol"].into_iter().chain(glommio) {
        let config = Config::from_toml(&format!(
            "http = \"127.0.0.1:0\"\nmedia_ip = \"127.0.0.1\"\nmedia_port = 0\nshards = 2\nruntime = \"{runtime}\""
        ));
        let config = config.expect("a good configuration");
        let shards = shards::start_with(&config, |_, _| Panics).expect("they start");
        let server = Server::bind(config, shards).await.expect("it listens");
        let run = server.run(std::future::pending::<()>());
        let ended = tokio::time::timeout(Duration::from_secs(10), run).await;
        let error = ended.expect("it ends").expect_err("it cannot go on");
        assert!(matches!(error, ServerError::ShardEnded), "{error}");
    }
}

#[tokio::test]
async fn many_joins_and_leaves_leave_the_tables_empty() {
    let rig = Rig::with_shards("", 2, usize::MAX).await;
    let mut paths = Vec::new();
    for number in 0..20 {
        paths.push(rig.publish("hall", &format!("p{number}")).await);
        paths.push(rig.post("/whep/hall", &offers::recvonly()).await.location());
        paths.push(rig.post("/whip", &offers::sendrecv()).await.location());
    }
    assert_eq!(rig.tables(), (60, 1, 0));
    for path in paths {
        assert_eq!(rig.send("DELETE", &path, &[], "").await.status, 200);
    }
    rig.settle().await;
    assert_eq!(rig.tables(), (0, 0, 0));
}

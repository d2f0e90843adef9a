//! A server on a free port of this machine, over fake shards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::ShardId;
use antiphon_server::app::App;
use antiphon_server::config::{Config, Patience};
use antiphon_server::server::{Server, ServerError};
use antiphon_server::shards::Shards;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use crate::client::{PATIENCE, Reply, send};
use crate::fake::FakeShard;
use crate::offers;

pub(crate) const SDP: (&str, &str) = ("Content-Type", "application/sdp");
pub(crate) const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    /// Where programs connect, if they can.
    #[cfg(feature = "grpc")]
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) app: Arc<App>,
    pub(crate) shards: Vec<FakeShard>,
    tasks: Vec<AbortHandle>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), ServerError>>,
}

impl Rig {
    /// With one shard, whose sessions connect at once, and these lines of configuration.
    pub(crate) async fn start(lines: &str) -> Self {
        Self::with_shards(lines, 1, usize::MAX).await
    }

    /// With `count` shards whose lanes hold `capacity` commands.
    pub(crate) async fn with_shards(lines: &str, count: u16, capacity: usize) -> Self {
        let text = format!("http = \"127.0.0.1:0\"\nmedia_ip = \"127.0.0.1\"\n{lines}");
        let mut config = Config::from_toml(&text).expect("a good configuration");
        // Slow senders are cut sooner than in earnest.
        let patience = Duration::from_millis(300);
        config.patience = Patience {
            head: patience,
            body: patience,
            write: patience,
        };
        let (mut shards, mut links, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        for id in 0..count {
            let (shard, link, task) = FakeShard::start(ShardId(id), capacity);
            shards.push(shard);
            links.push(link);
            tasks.push(task);
        }
        for shard in &shards {
            shard.set(|habits| habits.connects = true);
        }
        let running = Shards {
            capture: None,
            journal: None,
            links,
            runtime: "fake",
            reason: "this is a test".to_owned(),
        };
        let server = Server::bind(config, running)
            .await
            .expect("the server starts");
        let (address, app) = (server.address().expect("it listens"), server.app());
        #[cfg(feature = "grpc")]
        let grpc = server.grpc_address();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            stopped.await.ok();
        }));
        Self {
            address,
            #[cfg(feature = "grpc")]
            grpc,
            app,
            shards,
            tasks,
            stop: Some(stop),
            running,
        }
    }

    /// Why a server with this configuration does not start.
    pub(crate) async fn refused(config: Config) -> String {
        let (_, link, task) = FakeShard::start(ShardId(0), usize::MAX);
        let shards = Shards {
            capture: None,
            journal: None,
            links: vec![link],
            runtime: "fake",
            reason: "this is a test".to_owned(),
        };
        let bound = Server::bind(config, shards).await;
        task.abort();
        bound.expect_err("it does not start").to_string()
    }

    pub(crate) fn shard(&self) -> &FakeShard {
        &self.shards[0]
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        send(self.address, method, path, headers, body.as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// POSTs an offer.
    pub(crate) async fn post(&self, path: &str, offer: &str) -> Reply {
        self.send("POST", path, &[SDP], offer).await
    }

    /// Publishes sound in a room, connected, and gives the session's path.
    pub(crate) async fn publish(&self, room: &str, name: &str) -> String {
        let path = format!("/whip/{room}?name={name}");
        let location = self.post(&path, &offers::sendonly()).await.location();
        self.settle().await;
        location
    }

    /// PATCHes a fragment.
    pub(crate) async fn patch(&self, path: &str, tag: &str, fragment: &str) -> Reply {
        self.send("PATCH", path, &[FRAGMENT, ("If-Match", tag)], fragment)
            .await
    }

    /// Waits until the server has handled what the fakes have emitted.
    pub(crate) async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until `check` holds.
    pub(crate) async fn until(&self, what: &str, check: impl Fn(&App) -> bool) {
        let wait = async {
            while !check(&self.app) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, wait).await.is_ok(),
            "never happened: {what}"
        );
    }

    /// Sessions, rooms and open questions in the tables.
    pub(crate) fn tables(&self) -> (usize, usize, usize) {
        let directory = self.app.directory();
        let open = self.app.control.open_questions();
        (directory.sessions.count(), directory.rooms.len(), open)
    }

    /// Ends the shards' threads, as a panic in them would.
    pub(crate) fn end_shards(&mut self) {
        self.shards.clear();
        self.tasks.iter().for_each(AbortHandle::abort);
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).expect("the server runs");
        }
    }

    /// Waits until the server has stopped.
    pub(crate) async fn stopped(self) -> Result<(), ServerError> {
        let running = tokio::time::timeout(PATIENCE, self.running).await;
        running
            .expect("it stops in time")
            .expect("it does not panic")
    }
}

//! The server as a whole: starts, announces itself, stops.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::journal::{Payloads, Retention};
use antiphon_udp::RECV_BUFFER_BYTES_WANTED;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

#[cfg(feature = "grpc")]
use crate::agent::{self, grpc::Listening};
use crate::app::App;
use crate::auth::{Access, TokenFileError};
use crate::candidates::host_addresses;
use crate::capture::Capture;
use crate::config::{Config, TlsChoice};
use crate::control::{Control, Link};
use crate::journal::{Journal, JournalHandle};
use crate::limits::{CAPTURE_STOP_TIMEOUT, JOURNAL_STOP_TIMEOUT, SHARDS_STOP_TIMEOUT};
use crate::shards::{Shards, ShardsError};
use crate::tls::{self, TlsError};
use crate::{events, http};

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The token file.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The shards.
    #[error(transparent)]
    Shards(#[from] ShardsError),
    /// The HTTP socket.
    #[error("cannot listen on http = {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The gRPC socket.
    #[error("cannot listen on grpc = {address}: {error}")]
    ListenForPrograms {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The machine's addresses.
    #[error("cannot read this machine's addresses: {0}; name them with `announce`")]
    Addresses(io::Error),
    /// A media thread ended by itself, which only a bug makes it do.
    #[error("a media thread has ended; the log says why")]
    ShardEnded,
    /// A network cannot be used.
    #[cfg(feature = "onnx")]
    #[error("{0}")]
    Model(#[from] crate::model::ModelError),
    /// The runtime of the control plane.
    #[error("cannot start the control plane: {0}")]
    Runtime(io::Error),
}

/// A server that listens but does not answer yet.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<Tls>,
    #[cfg(feature = "grpc")]
    grpc: Option<Listening>,
    links: Vec<Link>,
    capture: Option<Capture>,
    journal: Option<Journal>,
    banner: Vec<String>,
}

struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Server {
    /// Reads tokens and certificate and takes the HTTP port, over shards that run already.
    ///
    /// # Errors
    /// [`ServerError`], naming what to change.
    pub async fn bind(config: Config, shards: Shards) -> Result<Self, ServerError> {
        let access = match &config.token_file {
            Some(path) => Access::read(path)?,
            None => Access::open(),
        };
        let addresses = host_addresses(&config).map_err(ServerError::Addresses)?;
        let tls = tls::acceptor(&config.tls, &addresses, tls::HTTP_1)?.map(Tls);
        let listen = |error| ServerError::Listen {
            address: config.http,
            error,
        };
        let listener = TcpListener::bind(config.http).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        #[cfg(feature = "grpc")]
        let grpc = match config.grpc {
            Some(address) => Some(listen_for_programs(&config, address, &addresses).await?),
            None => None,
        };
        #[cfg_attr(not(feature = "grpc"), expect(unused_mut, reason = "there is no gRPC"))]
        let mut banner = banner(&config, address, &addresses, &shards);
        #[cfg(feature = "grpc")]
        banner.extend(programs(&config, grpc.as_ref()));
        let Shards {
            links,
            runtime,
            capture,
            journal,
            ..
        } = shards;
        let lanes = links.iter().map(|link| link.commands.clone()).collect();
        let sites = links.iter().map(|link| link.site.clone()).collect();
        let control = Control::new(lanes);
        let app = App::new(config, access, control, &addresses, sites, runtime);
        let recorded = journal.as_ref().map(Journal::handle);
        let app = app.with_journal(recorded.as_ref().map(JournalHandle::figures));
        let app = Arc::new(app);
        #[cfg(feature = "onnx")]
        app.start_models()?;
        Ok(Self {
            app,
            listener,
            tls,
            #[cfg(feature = "grpc")]
            grpc,
            links,
            capture,
            journal,
            banner,
        })
    }

    /// What a client will see, a line each.
    #[must_use]
    pub fn banner(&self) -> &[String] {
        &self.banner
    }

    /// Where HTTP listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where programs connect, if they can.
    #[cfg(feature = "grpc")]
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref()?.address().ok()
    }

    /// To write the journal's rings with; `None` without a journal.
    #[must_use]
    pub fn journal(&self) -> Option<JournalHandle> {
        self.journal.as_ref().map(Journal::handle)
    }

    /// What requests share; for tests that look inside.
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    /// Serves until `stop`, then refuses new sessions, ends those there are, and returns within the
    /// drain limit and a second.
    ///
    /// # Errors
    /// [`ServerError::ShardEnded`].
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            app,
            listener,
            tls,
            #[cfg(feature = "grpc")]
            grpc,
            links,
            capture,
            journal,
            ..
        } = self;
        let mut followers = JoinSet::new();
        let mut stops = Vec::with_capacity(links.len());
        for link in links {
            followers.spawn(events::follow(Arc::clone(&app), link.events));
            stops.push(link.stop);
        }
        #[cfg(feature = "grpc")]
        if let Some(grpc) = grpc {
            tokio::spawn(agent::grpc::serve(Arc::clone(&app), grpc));
        }
        let http = tokio::spawn(http::serve(
            Arc::clone(&app),
            listener,
            tls.map(|Tls(tls)| tls),
        ));
        let stopped = tokio::select! {
            () = stop => Ok(()),
            _ = followers.join_next() => Err(ServerError::ShardEnded),
        };
        if stopped.is_ok() {
            info!(
                limit_secs = app.config.drain.as_secs(),
                "stopping: no new sessions"
            );
            if !app.drain().await {
                warn!(
                    sessions = app.directory().sessions.count(),
                    "the drain limit has passed"
                );
            }
        }
        // Joins the media threads, so that BYE and close_notify leave before the process does.
        let joined = tokio::task::spawn_blocking(move || stops.into_iter().for_each(|stop| stop()));
        if tokio::time::timeout(SHARDS_STOP_TIMEOUT, joined)
            .await
            .is_err()
        {
            error!("the media threads did not stop");
        }
        if let Some(capture) = capture {
            finish("capture", CAPTURE_STOP_TIMEOUT, move || capture.finish()).await;
        }
        if let Some(journal) = journal {
            finish("journal", JOURNAL_STOP_TIMEOUT, move || journal.finish()).await;
        }
        app.stopping.send_replace(true);
        if http.await.is_err() {
            error!("the HTTP task panicked");
        }
        stopped
    }
}

#[cfg(feature = "grpc")]
async fn listen_for_programs(
    config: &Config,
    address: SocketAddr,
    addresses: &[IpAddr],
) -> Result<Listening, ServerError> {
    let tls = tls::acceptor(&config.tls, addresses, tls::HTTP_2)?;
    let listening = Listening::bind(address, tls).await;
    listening.map_err(|error| ServerError::ListenForPrograms { address, error })
}

/// Where programs are met, a line each.
#[cfg(feature = "grpc")]
fn programs(config: &Config, grpc: Option<&Listening>) -> Vec<String> {
    let scheme = if config.tls == TlsChoice::Off {
        "http"
    } else {
        "https"
    };
    let port = grpc.and_then(|grpc| grpc.address().ok());
    let port =
        port.map(|address| format!("  agents (gRPC)   wait for calls at {scheme}://{address}"));
    let dialled = config
        .agent_urls
        .iter()
        .map(|url| format!("  agent           {url}, dialled"));
    port.into_iter().chain(dialled).collect()
}

/// Closes a recording, or leaves it if the disk hangs.
async fn finish(what: &str, limit: Duration, close: impl FnOnce() + Send + 'static) {
    let finished = tokio::task::spawn_blocking(close);
    if tokio::time::timeout(limit, finished).await.is_err() {
        error!("the {what} was not closed in time");
    }
}

fn banner(
    config: &Config,
    address: SocketAddr,
    addresses: &[IpAddr],
    shards: &Shards,
) -> Vec<String> {
    let scheme = if config.tls == TlsChoice::Off {
        "http"
    } else {
        "https"
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = vec![format!("Antiphon {version} at {scheme}://{address}/")];
    let tokens = config
        .token_file
        .as_ref()
        .map(|path| path.display().to_string());
    let access = tokens.unwrap_or_else(|| "none: everybody may do everything".to_owned());
    lines.push(format!("  tokens          {access}"));
    lines.push(format!(
        "  runtime         {}, because {}",
        shards.runtime, shards.reason
    ));
    if let Some(choice) = &config.capture {
        let path = choice.path.display();
        let keys = if choice.with_keys {
            ", and the keys to them"
        } else {
            ""
        };
        lines.push(format!("  capture         every datagram to {path}{keys}"));
    }
    if let Some(choice) = &config.journal {
        let folder = choice.folder.display();
        let what = match choice.payloads {
            Payloads::Full => "what calls say and the keys included",
            Payloads::Headers => "without what calls say",
        };
        let kept = match choice.retention {
            Retention::Whole { .. } => "all",
            Retention::Ring { .. } => "at a fault or SIGUSR1 the last",
        };
        lines.push(format!(
            "  journal         {kept} that shards take in to {folder}, {what}"
        ));
    }
    for Link { site, .. } in &shards.links {
        let got = site.receive_buffer_bytes;
        let advice = if got < RECV_BUFFER_BYTES_WANTED {
            "; raise net.core.rmem_max to lose fewer packets in bursts"
        } else {
            ""
        };
        let candidates: Vec<String> = addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, site.port).to_string())
            .collect();
        let place = site.cpu.map(|cpu| format!("; processor {cpu}"));
        let (candidates, place) = (candidates.join(", "), place.unwrap_or_default());
        lines.push(format!("  media UDP       {candidates}{place}"));
        let (got, wanted) = (got >> 10, RECV_BUFFER_BYTES_WANTED >> 10);
        lines.push(format!(
            "  receive buffer  {got} KiB of {wanted} KiB wanted{advice}"
        ));
    }
    lines
}

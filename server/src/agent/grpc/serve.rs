//! The gRPC port: programs connect here, wait for calls and take them up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;
use tracing::debug;

use super::proto::calls_server::{Calls, CallsServer};
use super::proto::from_agent::What;
use super::proto::{FromAgent, Offer, Register, ToAgent};
use super::stream::{Incoming, telling};
use super::wire;
use crate::agent::registry::is_built_in;
use crate::app::App;
use crate::auth::Scope;
use crate::crowd::{Crowd, Held};
use crate::limits::{
    ACCEPT_PAUSE, CONNECTIONS_CLOSE_TIMEOUT, GRPC_CONNECTIONS_EACH_MAX, GRPC_CONNECTIONS_MAX,
    GRPC_HEAD_BYTES_MAX, GRPC_KEEPALIVE, GRPC_KEEPALIVE_TIMEOUT, GRPC_STREAMS_MAX,
    GRPC_WINDOW_BYTES, PROGRAM_GRACE, PROGRAM_MESSAGE_BYTES_MAX, TLS_HANDSHAKE_TIMEOUT,
};
use crate::problem::Problem;
use crate::rooms::Name;

/// The gRPC port, taken but not served yet.
pub struct Listening {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listening")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Listening {
    /// Takes the port.
    ///
    /// # Errors
    /// The system's.
    pub async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, tls })
    }

    /// Where it is.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves programs until `app.stopping`.
pub async fn serve(app: Arc<App>, port: Listening) {
    let (sender, connections) = mpsc::channel(1);
    let accepting = accept(Arc::clone(&app), port, sender);
    let service = CallsServer::new(Service(Arc::clone(&app)))
        .max_decoding_message_size(PROGRAM_MESSAGE_BYTES_MAX);
    let stopping = Arc::clone(&app);
    let serving = Server::builder()
        .layer(MapRequestLayer::new(tell_cancellations))
        .initial_stream_window_size(GRPC_WINDOW_BYTES)
        // One stream that is held back must leave room for all others of its connection.
        .initial_connection_window_size(GRPC_STREAMS_MAX * GRPC_WINDOW_BYTES)
        .max_concurrent_streams(GRPC_STREAMS_MAX)
        .http2_keepalive_interval(Some(GRPC_KEEPALIVE))
        .http2_keepalive_timeout(Some(GRPC_KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(GRPC_HEAD_BYTES_MAX)
        .serve_with_incoming_shutdown(service, ReceiverStream::new(connections), async move {
            stopping.until_stopping().await;
        });
    let stopped = async {
        app.until_stopping().await;
        sleep(CONNECTIONS_CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => if let Err(error) = served {
            debug!(%error, "serving programs ended with an error");
        },
        () = accepting => {}
        () = stopped => debug!("programs' connections were cut"),
    }
}

/// Tonic takes a stream that the program cancelled for one that it closed. Here only who half-closes hangs up.
fn tell_cancellations(request: axum::http::Request<Body>) -> axum::http::Request<Body> {
    let told = |status: Status| match status.code() {
        Code::Cancelled => Status::aborted("the program cancelled the stream"),
        _ => status,
    };
    request.map(|body| Body::new(body.map_err(told)))
}

/// Accepts connections until nobody takes them; a handshake holds no other up.
async fn accept(app: Arc<App>, port: Listening, connections: mpsc::Sender<io::Result<Connection>>) {
    let places = Arc::new(Semaphore::new(GRPC_CONNECTIONS_MAX));
    let each_max = if app.config.rate_limit > 0 {
        GRPC_CONNECTIONS_EACH_MAX
    } else {
        usize::MAX
    };
    let crowd = Arc::new(Crowd::new(each_max));
    while let Ok(permit) = Arc::clone(&places).acquire_owned().await {
        let (stream, remote) = match port.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "cannot accept a program's connection; trying on");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(held) = crowd.take(remote.ip()) else {
            debug!("a network of programs holds as many connections as it may");
            continue;
        };
        let (tls, connections) = (port.tls.clone(), connections.clone());
        tokio::spawn(async move {
            if let Some(inner) = prepare(stream, tls).await {
                let connection = Connection {
                    inner,
                    _places: (permit, held),
                };
                // The server may be stopping.
                connections.send(Ok(connection)).await.ok();
            }
        });
    }
}

async fn prepare(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Duplex>> {
    stream.set_nodelay(true).ok()?;
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    match timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        _ => None,
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A program's connection, and its place among them.
struct Connection {
    inner: Box<dyn Duplex>,
    _places: (OwnedSemaphorePermit, Held),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

struct Service(Arc<App>);

type Stopping<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Calls for Service {
    type WaitStream = Stopping<Offer>;
    type ConverseStream = Stopping<ToAgent>;

    async fn wait(&self, request: Request<Register>) -> Result<Response<Self::WaitStream>, Status> {
        self.admit(request.metadata())?;
        let register = request.into_inner();
        let name = Name::parse("an agent", &register.name)
            .map_err(|rule| Status::invalid_argument(rule.to_string()))?;
        if is_built_in(&name) {
            return Err(Status::already_exists(
                "the server has an agent of this name itself",
            ));
        }
        let plan = wire::plan(register.hearing).map_err(Status::invalid_argument)?;
        let offers = self.0.agents.programs().register(name, plan)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(offers).map(Ok))))
    }

    async fn converse(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        self.admit(request.metadata())?;
        let mut messages = request.into_inner();
        let first = timeout(PROGRAM_GRACE, messages.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no `Join` came"))??;
        let Some(What::Join(join)) = first.and_then(|message| message.what) else {
            return Err(Status::invalid_argument(
                "the first message of a stream is `Join`",
            ));
        };
        let gone = || Status::not_found("there is no call of this token, or no longer");
        let call = self
            .0
            .agents
            .programs()
            .call(&join.token)
            .ok_or_else(gone)?;
        let (teller, told) = telling();
        let incoming = Incoming {
            opening: Box::pin(async move { Ok(messages) }),
            teller,
        };
        timeout(PROGRAM_GRACE, call.send(incoming))
            .await
            .map_err(|_| Status::unavailable("the call is being taken up by others"))?
            .map_err(|_| gone())?;
        Ok(Response::new(Box::pin(told)))
    }
}

impl Service {
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let headers = metadata.clone().into_headers();
        match self.0.admit(&headers, Scope::Agent, None) {
            Ok(_) => Ok(()),
            Err(problem) => Err(status(&problem)),
        }
    }
}

fn status(problem: &Problem) -> Status {
    let detail = problem.detail();
    match problem.status() {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(detail),
        StatusCode::FORBIDDEN => Status::permission_denied(detail),
        _ => Status::invalid_argument(detail),
    }
}

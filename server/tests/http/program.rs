//! Programs that answer calls, over real gRPC.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_server::agent::grpc::proto::calls_client::CallsClient;
use antiphon_server::agent::grpc::proto::from_agent::What as Asked;
use antiphon_server::agent::grpc::proto::to_agent::What;
use antiphon_server::agent::grpc::proto::{
    FromAgent, Hearing, Join, Offer, Register, Say, Start, ToAgent,
};
use axum::http::Uri;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::client::PATIENCE;
use crate::rig::Rig;

/// Lines of configuration with which programs may connect.
pub(crate) const GRPC: &str = "grpc = \"127.0.0.1:0\"";
/// Bytes that may be on their way to a program before it reads: the least there are.
const WINDOW_BYTES: u32 = 65_535;

/// A program that waits for calls.
pub(crate) struct Program {
    channel: Channel,
    cutter: std::net::TcpStream,
    tasks: Tasks,
    offers: Streaming<Offer>,
}

/// Whatever works for a connection, in the order in which it began.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Executor<Task> for Tasks {
    fn execute(&self, task: Task) {
        let task = tokio::spawn(task).abort_handle();
        self.0.lock().expect("no test panicked").push(task);
    }
}

/// A program's end of a call.
pub(crate) struct Answered {
    pub(crate) token: String,
    pub(crate) start: Start,
    asks: Option<mpsc::Sender<FromAgent>>,
    told: Streaming<ToAgent>,
}

/// A connection to the gRPC port, what cuts it, and what works for it.
async fn connect(rig: &Rig) -> (Channel, std::net::TcpStream, Tasks) {
    let address = rig.grpc.expect("programs may connect");
    let stream = TcpStream::connect(address)
        .await
        .expect("the server listens");
    let stream = stream.into_std().expect("a socket");
    let cutter = stream.try_clone().expect("a second handle");
    let mut stream = Some(TcpStream::from_std(stream).expect("a socket"));
    let connect = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or(ErrorKind::NotConnected);
        async move { stream.map(TokioIo::new).map_err(io::Error::from) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a good address");
    let tasks = Tasks::default();
    let endpoint = endpoint
        .initial_stream_window_size(WINDOW_BYTES)
        .executor(tasks.clone());
    let channel = endpoint.connect_with_connector(connect).await;
    (channel.expect("a connection"), cutter, tasks)
}

/// With a token, if there is one.
pub(crate) fn bearing<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a header value");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// No program waits longer for anything.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("never happened: {what}"))
}

impl Program {
    /// Waits for calls under a name, and hears as programs do by default.
    pub(crate) async fn wait(rig: &Rig, name: &str) -> Self {
        Self::try_wait(rig, name, None, None)
            .await
            .expect("it may wait")
    }

    pub(crate) async fn try_wait(
        rig: &Rig,
        name: &str,
        hearing: Option<Hearing>,
        token: Option<&str>,
    ) -> Result<Self, Status> {
        let (channel, cutter, tasks) = connect(rig).await;
        let name = name.to_owned();
        let register = bearing(Register { name, hearing }, token);
        let mut client = CallsClient::new(channel.clone());
        let offers = soon("registration", client.wait(register))
            .await?
            .into_inner();
        Ok(Self {
            channel,
            cutter,
            tasks,
            offers,
        })
    }

    /// Cuts its connection, as when it is killed.
    pub(crate) fn cut(&self) {
        self.cutter.shutdown(Shutdown::Both).expect("it was whole");
    }

    /// Cancels the stream that was begun last (RST_STREAM), its own half open. Tonic's client does so when neither
    /// half is held any more; the task that sends holds one.
    pub(crate) fn cancel(&self, call: Answered) {
        let sending = self.tasks.0.lock().expect("no test panicked").pop();
        sending.expect("a stream was begun").abort();
        drop(call.told);
    }

    /// Takes the next call up.
    pub(crate) async fn answer(&mut self) -> Answered {
        let offer = soon("an offer", self.offers.message()).await;
        let offer = offer
            .expect("the stream is whole")
            .expect("the stream is open");
        self.join(&offer.token).await.expect("it is ours")
    }

    /// Takes a call up, maybe again.
    pub(crate) async fn join(&self, token: &str) -> Result<Answered, Status> {
        let (asks, messages) = mpsc::channel(8);
        let token = token.to_owned();
        let join = Join {
            token: token.clone(),
        };
        asks.send(FromAgent {
            what: Some(Asked::Join(join)),
        })
        .await
        .expect("there is room");
        let mut client = CallsClient::new(self.channel.clone());
        let conversing = client.converse(ReceiverStream::new(messages));
        let mut told = soon("an answer", conversing).await?.into_inner();
        let first = soon("the first message", told.message())
            .await?
            .and_then(|it| it.what);
        let Some(What::Start(start)) = first else {
            panic!("a stream starts with Start: {first:?}");
        };
        Ok(Answered {
            token,
            start,
            asks: Some(asks),
            told,
        })
    }
}

impl Answered {
    /// Asks for something; `false` once the server has ended the stream.
    pub(crate) async fn ask(&self, what: Asked) -> bool {
        let asks = self.asks.as_ref().expect("the stream is open");
        let sent = asks.send(FromAgent { what: Some(what) });
        soon("room for a message", sent).await.is_ok()
    }

    /// Says this many milliseconds of silence.
    pub(crate) async fn say(&self, utterance: u64, millis: usize) {
        let say = Say {
            utterance,
            pcm: vec![0; millis * 32].into(),
            rate: 16_000,
            last: true,
            uninterruptible: false,
        };
        self.ask(Asked::Say(say)).await;
    }

    /// The next message's time in milliseconds and content; `None` at a clean end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, What)>, Status> {
        let message = soon("a message", self.told.message()).await?;
        Ok(message.map(|it| {
            (
                it.at_us / 1_000,
                it.what.expect("the server knows what it says"),
            )
        }))
    }

    /// The next message; the stream must be open.
    pub(crate) async fn told(&mut self) -> What {
        self.next()
            .await
            .expect("the stream is whole")
            .expect("the stream is open")
            .1
    }

    /// Reads to the end: the status, if it is an error.
    pub(crate) async fn ended(&mut self) -> Option<Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    /// Closes the program's half.
    pub(crate) fn close(&mut self) {
        self.asks = None;
    }
}

/// A little later, for what must not happen.
pub(crate) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

//! The programs there are, and how a call finds its program and keeps it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_core::voice::message::{AgentPlan, CallTime, Heard};
use axum::http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tracing::debug;

use super::proto::orchestrator_client::OrchestratorClient;
use super::proto::to_agent::What;
use super::proto::{Hearing, Offer, Start, ToAgent};
use super::stream::{Fate, Incoming, attend, telling};
use super::wire;
use crate::agent::call::Call;
use crate::limits::{
    GRPC_KEEPALIVE, GRPC_KEEPALIVE_TIMEOUT, GRPC_WINDOW_BYTES, PROGRAM_DIAL_PAUSE,
    PROGRAM_DIAL_TIMEOUT, PROGRAM_GRACE, PROGRAM_MESSAGE_BYTES_MAX, PROGRAM_MISSED_MAX,
    PROGRAM_NAMES_MAX, PROGRAM_PROVEN, PROGRAM_REJOIN, PROGRAM_STALLS_MAX, PROGRAM_WAITING_MAX,
    SAY_AHEAD_MAX,
};
use crate::rooms::Name;
use crate::sessions::random_hex;

/// A program that the server dials, as the operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUrl {
    /// The agent's name.
    pub name: Name,
    /// Scheme, host and port.
    uri: Uri,
    plan: AgentPlan,
    /// Certificates (PEM) of whoever may say who the program is; `None`: those that the system trusts.
    authorities: Option<Vec<u8>>,
    /// What is shown to the program.
    authorization: Option<MetadataValue<Ascii>>,
}

/// All programs, and the calls that wait for one.
#[derive(Debug, Default)]
pub struct Programs {
    by_name: Mutex<BTreeMap<Name, Program>>,
    /// Calls by their token.
    calls: Mutex<BTreeMap<String, mpsc::Sender<Incoming>>>,
}

#[derive(Debug)]
enum Program {
    Dialled(AgentUrl),
    Waiting {
        plan: AgentPlan,
        waiting: VecDeque<mpsc::Sender<Offer>>,
    },
}

/// Why a call cannot have a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// No such name.
    Unknown,
    /// It is not there now.
    Away,
}

impl FromStr for AgentUrl {
    type Err = String;

    /// `NAME=http://HOST:PORT`, and maybe `?rate=16000&batch_ms=20&denoise=true`; with https also
    /// `ca=FILE&token_file=FILE`, which are read now.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: String| {
            format!(
                "`{text}`: {what}; it is NAME=http[s]://HOST:PORT[?rate=HZ&batch_ms=MS&denoise=BOOL], \
                 with https also ca=FILE&token_file=FILE"
            )
        };
        // A URL without a name may have such a sign too, in its query.
        let named = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && !name.contains("://"));
        let (name, url) = named.ok_or_else(|| wrong("the agent's name is missing".to_owned()))?;
        let name = Name::parse("an agent", name).map_err(|rule| wrong(rule.to_string()))?;
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let uri = parse_base(base).map_err(|what| wrong(what.to_owned()))?;
        let (mut hearing, mut ca, mut token_file) = (Hearing::default(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let set = match pair.split_once('=') {
                Some(("rate", hz)) => hz.parse().map(|hz| hearing.rate = hz).is_ok(),
                Some(("batch_ms", ms)) => ms.parse().map(|ms| hearing.batch_ms = ms).is_ok(),
                Some(("denoise", yes)) => yes.parse().map(|yes| hearing.denoise = yes).is_ok(),
                Some(("ca", file)) => ca.replace(file).is_none(),
                Some(("token_file", file)) => token_file.replace(file).is_none(),
                _ => false,
            };
            if !set {
                return Err(wrong(format!("`{pair}` is not understood")));
            }
        }
        if uri.scheme_str() == Some("http") && (ca.is_some() || token_file.is_some()) {
            return Err(wrong("ca and token_file go with https".to_owned()));
        }
        Ok(Self {
            name,
            uri,
            plan: wire::plan(Some(hearing)).map_err(|rule| format!("`{text}`: {rule}"))?,
            authorities: ca.map(read_authorities).transpose().map_err(wrong)?,
            authorization: token_file.map(read_token).transpose().map_err(wrong)?,
        })
    }
}

/// Where a program is, out of its URL up to the query.
fn parse_base(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "what follows NAME= is no URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("the URL does not begin with http:// or https://");
    }
    if uri.port_u16().is_none() {
        return Err("the port is missing");
    }
    if !["", "/"].contains(&uri.path()) {
        return Err("a path is of no use");
    }
    Ok(uri)
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{file}: {error}"))
}

fn read_authorities(file: &str) -> Result<Vec<u8>, String> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(some) if !some.is_empty() => Ok(pem),
        _ => Err(format!("{file} holds no certificates (PEM)")),
    }
}

fn read_token(file: &str) -> Result<MetadataValue<Ascii>, String> {
    let text = String::from_utf8(read(file)?).unwrap_or_default();
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = format!("Bearer {token}").parse().ok().filter(|_| is_token);
    let mut value: MetadataValue<_> =
        value.ok_or_else(|| format!("{file} holds no token: one word of visible ASCII"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uri.to_string();
        write!(f, "{} at {}", self.name, uri.trim_end_matches('/'))
    }
}

impl AgentUrl {
    async fn is_there(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.uri.port_u16().unwrap_or_default();
        let connecting = TcpStream::connect((host, port));
        matches!(timeout(PROGRAM_DIAL_TIMEOUT, connecting).await, Ok(Ok(_)))
    }

    /// Each call has a connection of its own, so that a call that is held back holds no other back.
    async fn dial(&self) -> Result<Incoming, Status> {
        let unavailable = |error: tonic::transport::Error| Status::unavailable(causes(&error));
        let mut endpoint = Endpoint::from(self.uri.clone())
            .connect_timeout(PROGRAM_DIAL_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(GRPC_KEEPALIVE)
            .keep_alive_timeout(GRPC_KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(GRPC_WINDOW_BYTES)
            .initial_connection_window_size(2 * GRPC_WINDOW_BYTES);
        if self.uri.scheme_str() == Some("https") {
            let tls = ClientTlsConfig::new().timeout(PROGRAM_DIAL_TIMEOUT);
            let tls = match &self.authorities {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(unavailable)?;
        }
        let channel = endpoint.connect().await.map_err(unavailable)?;
        let mut client =
            OrchestratorClient::new(channel).max_decoding_message_size(PROGRAM_MESSAGE_BYTES_MAX);
        let (teller, told) = telling();
        let messages = tokio_stream::StreamExt::map_while(told, Result::ok);
        let mut request = Request::new(messages);
        if let Some(value) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        let opening = async move { Ok(client.converse(request).await?.into_inner()) };
        Ok(Incoming {
            opening: Box::pin(opening),
            teller,
        })
    }
}

/// An error and what it comes from, which tonic does not say by itself.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Programs {
    /// Those that the server dials.
    #[must_use]
    pub fn new(urls: &[AgentUrl]) -> Self {
        let dialled = urls
            .iter()
            .map(|url| (url.name.clone(), Program::Dialled(url.clone())));
        Self {
            by_name: Mutex::new(dialled.collect()),
            calls: Mutex::default(),
        }
    }

    /// How a program wants to hear a call that is about to begin.
    ///
    /// # Errors
    /// [`Absence`].
    pub async fn summon(&self, name: &Name) -> Result<AgentPlan, Absence> {
        let url = match self.by_name().get_mut(name) {
            None => return Err(Absence::Unknown),
            Some(Program::Dialled(url)) => url.clone(),
            Some(Program::Waiting { plan, waiting }) => {
                waiting.retain(|program| !program.is_closed());
                return if waiting.is_empty() {
                    Err(Absence::Away)
                } else {
                    Ok(*plan)
                };
            }
        };
        if url.is_there().await {
            Ok(url.plan)
        } else {
            Err(Absence::Away)
        }
    }

    /// Each name, how it is met, and whether a program waits under it (unknown of those that are dialled).
    #[must_use]
    pub fn list(&self) -> Vec<(Name, &'static str, Option<bool>)> {
        let programs = self.by_name();
        let described = programs.iter().map(|(name, program)| match program {
            Program::Dialled(_) => (name.clone(), "dialled", None),
            Program::Waiting { waiting, .. } => {
                let waits = waiting.iter().any(|program| !program.is_closed());
                (name.clone(), "waiting", Some(waits))
            }
        });
        described.collect()
    }

    /// A program waits for calls: it is offered them as they come.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` or `RESOURCE_EXHAUSTED`, with what to change.
    pub(super) fn register(
        &self,
        name: Name,
        plan: AgentPlan,
    ) -> Result<mpsc::Receiver<Offer>, Status> {
        let mut programs = self.by_name();
        if !programs.contains_key(&name) && programs.len() >= PROGRAM_NAMES_MAX {
            let away = programs
                .iter()
                .find(|(_, program)| program.is_forgettable());
            let Some(away) = away.map(|(name, _)| name.clone()) else {
                return Err(Status::resource_exhausted(
                    "as many agents as there may be have names",
                ));
            };
            programs.remove(&away);
        }
        let waits = || Program::Waiting {
            plan,
            waiting: VecDeque::new(),
        };
        match programs.entry(name).or_insert_with(waits) {
            Program::Dialled(_) => Err(Status::already_exists(
                "the server dials an agent of this name",
            )),
            Program::Waiting { plan: old, waiting } => {
                waiting.retain(|program| !program.is_closed());
                if waiting.len() >= PROGRAM_WAITING_MAX {
                    let detail = "as many programs as may wait under this name do";
                    return Err(Status::resource_exhausted(detail));
                }
                *old = plan;
                let (offers, receiver) = mpsc::channel(PROGRAM_WAITING_MAX);
                waiting.push_back(offers);
                Ok(receiver)
            }
        }
    }

    /// The call of a token that waits for a stream.
    pub(super) fn call(&self, token: &str) -> Option<mpsc::Sender<Incoming>> {
        self.calls().get(token).cloned()
    }

    /// Offers a call to the next program that waits; whether there was one.
    fn offer(&self, name: &Name, token: &str) -> bool {
        let mut programs = self.by_name();
        let Some(Program::Waiting { waiting, .. }) = programs.get_mut(name) else {
            return false;
        };
        for _ in 0..waiting.len() {
            let Some(program) = waiting.pop_front() else {
                break;
            };
            let token = token.to_owned();
            let offered = program.try_send(Offer { token }).is_ok();
            if !program.is_closed() {
                waiting.push_back(program);
            }
            if offered {
                return true;
            }
        }
        false
    }

    fn url(&self, name: &Name) -> Option<AgentUrl> {
        match self.by_name().get(name) {
            Some(Program::Dialled(url)) => Some(url.clone()),
            _ => None,
        }
    }

    fn by_name(&self) -> MutexGuard<'_, BTreeMap<Name, Program>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Incoming>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    fn is_forgettable(&self) -> bool {
        matches!(self, Self::Waiting { waiting, .. } if waiting.iter().all(mpsc::Sender::is_closed))
    }
}

/// A call that has no stream, or had one.
struct Conversation {
    programs: Arc<Programs>,
    call: Call,
    token: String,
    incoming: mpsc::Receiver<Incoming>,
    /// What was decided while no program listened, the oldest first.
    missed: VecDeque<Heard>,
    resumed: bool,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.programs.calls().remove(&self.token);
    }
}

/// Finds the call's program, and finds it again when its stream breaks, until the call ends. Without a program for
/// [`PROGRAM_GRACE`] it ends.
pub(in crate::agent) async fn converse(programs: Arc<Programs>, call: Call) {
    let token = random_hex::<16>();
    let (sender, incoming) = mpsc::channel(1);
    programs.calls().insert(token.clone(), sender);
    let mut conversation = Conversation {
        programs,
        call,
        token,
        incoming,
        missed: VecDeque::new(),
        resumed: false,
    };
    conversation.run().await;
}

impl Conversation {
    async fn run(&mut self) {
        let session = self.call.session();
        let (mut next, mut stalls) = (None, 0);
        let mut deadline = Instant::now() + PROGRAM_GRACE;
        let mut why = ("absent", "no program took the call up in time".to_owned());
        loop {
            let incoming = match next.take() {
                Some(incoming) => incoming,
                None => match self.find(deadline).await {
                    Ok(Some(incoming)) => incoming,
                    Ok(None) => return,
                    Err(()) => return self.call.give_up(why.0, &why.1).await,
                },
            };
            if self.resumed {
                self.call.mouth.meters().reconnects.inc();
            }
            let (greeting, began) = (self.greeting(), Instant::now());
            match attend(&mut self.call, incoming, greeting, &mut self.incoming).await {
                Fate::Ended => return,
                Fate::HungUp => return self.call.hang_up().await,
                Fate::AtFault(status) => {
                    return self.call.give_up("at_fault", status.message()).await;
                }
                Fate::Lost(status) => {
                    debug!(%session, code = ?status.code(), "a program's stream broke");
                    why = ("lost", status.message().to_owned());
                }
                Fate::Stalled => {
                    debug!(%session, "a program did not read; its stream is ended");
                    why = (
                        "stalled",
                        "the program did not read what it was told".to_owned(),
                    );
                    self.call.mouth.meters().stalls.inc();
                    self.call.ear.clear();
                    stalls += 1;
                    if stalls >= PROGRAM_STALLS_MAX {
                        return self.call.give_up(why.0, &why.1).await;
                    }
                }
                Fate::TakenOver(incoming) => next = Some(incoming),
            }
            self.resumed = true;
            if began.elapsed() >= PROGRAM_PROVEN {
                deadline = Instant::now() + PROGRAM_GRACE;
            }
        }
    }

    /// Waits for a stream; `None` when the call ends first. What is heard before the first one waits in the call's
    /// queue; of what is heard between two, only what was decided is kept.
    async fn find(&mut self, deadline: Instant) -> Result<Option<Incoming>, ()> {
        let seeking = seek(
            &self.programs,
            &self.call.seat.name,
            &self.token,
            self.resumed,
        );
        let mut seeking = std::pin::pin!(seeking);
        loop {
            tokio::select! {
                Some(incoming) = self.incoming.recv() => return Ok(Some(incoming)),
                incoming = &mut seeking => return Ok(Some(incoming)),
                heard = self.call.ear.next(), if self.resumed => match heard {
                    None => return Ok(None),
                    Some(Heard::Audio { .. }) => {}
                    Some(heard) => {
                        if self.missed.len() >= PROGRAM_MISSED_MAX {
                            self.missed.pop_front();
                        }
                        self.missed.push_back(heard);
                    }
                },
                () = sleep_until(deadline) => return Err(()),
            }
        }
    }

    /// What a stream begins with.
    fn greeting(&mut self) -> Vec<ToAgent> {
        let seat = &self.call.seat;
        let start = Start {
            token: self.token.clone(),
            agent: seat.name.to_string(),
            session: self.call.session().to_string(),
            hearing: Some(wire::hearing(seat.plan)),
            eagerness: wire::said_eagerness(seat.plan.eagerness).into(),
            resumed: self.resumed,
            high_water_us: SAY_AHEAD_MAX.as_micros() as u64,
            dtmf: seat.dtmf,
        };
        let rate = seat.plan.rate;
        let lost = self.call.lost();
        let missed = self.missed.drain(..);
        let missed: Vec<ToAgent> = missed
            .filter_map(|heard| wire::told(heard, rate, lost))
            .collect();
        let at = missed
            .first()
            .map_or(CallTime(0), |message| CallTime(message.at_us));
        let mut greeting = vec![wire::at_time(at, What::Start(start))];
        greeting.extend(missed);
        greeting
    }
}

/// Dials the program, or offers the call to those that wait, again and again. A program whose stream broke is given
/// time to take the call up itself before others are asked.
async fn seek(programs: &Programs, name: &Name, token: &str, resumed: bool) -> Incoming {
    if let Some(url) = programs.url(name) {
        if resumed {
            sleep(PROGRAM_DIAL_PAUSE).await;
        }
        loop {
            match url.dial().await {
                Ok(incoming) => return incoming,
                Err(status) => {
                    debug!(agent = %name, error = status.message(), "a program cannot be dialled");
                }
            }
            sleep(PROGRAM_DIAL_PAUSE).await;
        }
    }
    if resumed {
        sleep(PROGRAM_REJOIN).await;
    }
    while !programs.offer(name, token) {
        sleep(PROGRAM_DIAL_PAUSE).await;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use antiphon_core::audio::Rate;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse("an agent", text).expect("a name")
    }

    #[test]
    fn an_agents_url_says_where_it_is_and_how_it_hears() {
        let url: AgentUrl = "bot=http://[::1]:50052?rate=8000&batch_ms=40&denoise=true"
            .parse()
            .expect("a good one");
        assert_eq!(url.to_string(), "bot at http://[::1]:50052");
        assert_eq!(
            (url.plan.rate, url.plan.batch_millis, url.plan.denoise),
            (Rate::Hz8000, 40, true)
        );
        let plain: AgentUrl = "bot=http://localhost:1/".parse().expect("a good one");
        assert_eq!(plain.plan, AgentPlan::default());
        for (wrong, what) in [
            ("", "name is missing"),
            ("http://localhost:1", "name is missing"),
            ("http://localhost:1?rate=8000", "name is missing"),
            ("=http://localhost:1", "name is missing"),
            ("a/b=http://localhost:1", "an agent"),
            ("bot=", "no URL"),
            ("bot=http://", "no URL"),
            ("bot=localhost", "begin with http://"),
            ("bot=localhost:1", "begin with http://"),
            ("bot=http://localhost:1?ca=a.pem", "go with https"),
            ("bot=http://localhost:1?token_file=a", "go with https"),
            ("bot=https://localhost:1?ca=/dev/null", "no certificates"),
            ("bot=https://localhost:1?token_file=/dev/null", "no token"),
            ("bot=https://localhost:1?ca=/none/here", "/none/here"),
            (
                "bot=https://localhost:1?ca=/dev/null&ca=/dev/null",
                "understood",
            ),
            ("bot=http://localhost", "port is missing"),
            ("bot=http://localhost:1/path", "path"),
            ("bot=http://localhost:1?rate=1", "8000"),
            ("bot=http://localhost:1?rate=fast", "`rate=fast`"),
            ("bot=http://localhost:1?speed=1", "`speed=1`"),
        ] {
            let error = wrong.parse::<AgentUrl>().expect_err(wrong);
            assert!(error.contains(what), "{wrong}: {error}");
        }
    }

    #[tokio::test]
    async fn programs_of_one_name_take_turns_and_a_name_that_left_is_remembered() {
        let programs = Programs::default();
        let (bot, plan) = (name("bot"), AgentPlan::default());
        assert_eq!(programs.summon(&bot).await, Err(Absence::Unknown));
        let mut first = programs.register(bot.clone(), plan).expect("there is room");
        let mut second = programs.register(bot.clone(), plan).expect("there is room");
        assert_eq!(programs.summon(&bot).await, Ok(plan));
        for token in ["a", "b", "c"] {
            assert!(programs.offer(&bot, token));
        }
        let offered =
            |program: &mut mpsc::Receiver<Offer>| program.try_recv().map(|offer| offer.token);
        assert_eq!(offered(&mut first).as_deref(), Ok("a"));
        assert_eq!(offered(&mut second).as_deref(), Ok("b"));
        drop(first);
        assert!(programs.offer(&bot, "d"));
        assert_eq!(offered(&mut second).as_deref(), Ok("d"));
        drop(second);
        assert!(!programs.offer(&bot, "e"));
        assert_eq!(programs.summon(&bot).await, Err(Absence::Away));
        assert_eq!(programs.list(), [(bot, "waiting", Some(false))]);
    }

    #[test]
    fn names_are_bounded_and_those_that_left_make_room() {
        let programs = Programs::default();
        let plan = AgentPlan::default();
        let register = |number: usize| programs.register(name(&format!("bot{number}")), plan);
        let mut there: Vec<_> = (0..PROGRAM_NAMES_MAX)
            .map(|it| register(it).expect("room"))
            .collect();
        let refused = register(PROGRAM_NAMES_MAX).expect_err("full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        there.pop();
        register(PROGRAM_NAMES_MAX).expect("one has left");
    }

    #[test]
    fn a_name_that_is_dialled_cannot_be_taken() {
        let programs = Programs::new(&["bot=http://127.0.0.1:1".parse().expect("a good one")]);
        let refused = programs
            .register(name("bot"), AgentPlan::default())
            .expect_err("taken");
        assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    }
}

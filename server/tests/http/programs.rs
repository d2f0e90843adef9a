//! What programs at the other end of a gRPC stream are told and may ask, and what becomes of those that fail.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::message::{CloseReason, Role};
use antiphon_core::voice::message::Heard;
use antiphon_core::voice::message::{
    AgentAsk, CallTime, Eagerness, Ending, Hint, MarkId, PlayoutState, TurnId, UtteranceId,
    VoiceEvent,
};
use antiphon_server::agent::grpc::proto::calls_client::CallsClient;
use antiphon_server::agent::grpc::proto::from_agent::What as Asked;
use antiphon_server::agent::grpc::proto::orchestrator_server::{Orchestrator, OrchestratorServer};
use antiphon_server::agent::grpc::proto::to_agent::What;
use antiphon_server::agent::grpc::proto::{
    self, Clear, Configure, FromAgent, HangUp, Hearing, Mark, Say, SendDtmf, ToAgent,
    TranscriptHint, end, turn,
};
use antiphon_server::config::Config;
use antiphon_server::limits::{GRPC_KEEPALIVE, GRPC_KEEPALIVE_TIMEOUT, PROGRAM_GRACE};
use axum::http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::agents::{audio, ended, started};
use crate::client::Events;
use crate::offers;
use crate::program::{GRPC, Program, a_moment, soon};
use crate::rig::Rig;
use crate::tls::{certified, write};

const MS: u64 = 1_000;

fn playout(utterance: u64, queued_ms: u64, state: PlayoutState) -> Heard {
    Heard::Playout {
        at: CallTime(2_000 * MS),
        utterance: UtteranceId(utterance),
        played: 1_234,
        queued: queued_ms * MS,
        state,
    }
}

impl Rig {
    fn metric(&self, name: &str, metrics: &str) -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .expect("a metric")
    }

    async fn count(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").await.body;
        self.metric(&format!("antiphon_{name}_total "), &metrics)
    }
}

#[tokio::test]
async fn a_program_that_waits_is_told_what_a_call_hears() {
    let rig = Rig::start(GRPC).await;
    let wanted = Hearing {
        rate: 8_000,
        batch_ms: 40,
        denoise: true,
    };
    let mut program = Program::try_wait(&rig, "bot", Some(wanted), None)
        .await
        .expect("it may");
    let (session, _) = rig.call("agent=bot&eagerness=eager").await;
    let Role::Agent(plan) = rig.shard().sessions()[0].1 else {
        panic!("a call");
    };
    assert_eq!(
        (plan.rate, plan.batch_millis, plan.denoise),
        (Rate::Hz8000, 40, true)
    );
    let mut call = program.answer().await;
    assert_eq!(
        (call.start.agent.as_str(), call.start.session.clone()),
        ("bot", session.to_string())
    );
    assert_eq!(
        (call.start.hearing, call.start.resumed),
        (Some(wanted), false)
    );
    assert_eq!(call.start.eagerness(), proto::Eagerness::Eager);

    rig.hear(session, audio(1_000, 5));
    rig.hear(session, started(1, 900));
    rig.hear(session, ended(1, 900, 1_500));
    let (at, What::Audio(sound)) = call.next().await.expect("whole").expect("open") else {
        panic!("sound is told first");
    };
    assert_eq!(
        (at, sound.pcm.len(), sound.rate, sound.dropped),
        (1_000, 640, 8_000, 0)
    );
    assert_eq!(&sound.pcm[..2], 5_i16.to_le_bytes());
    let What::Speech(speech) = call.told().await else {
        panic!("then that speech began");
    };
    assert_eq!((speech.turn, speech.edge_us), (1, 900 * MS));
    let What::Turn(turn) = call.told().await else {
        panic!("then that it ended");
    };
    assert_eq!(
        (turn.kind(), turn.reason()),
        (turn::Kind::Ended, turn::Reason::Evidence)
    );
    assert_eq!(
        (turn.speech_start_us, turn.speech_end_us),
        (900 * MS, 1_500 * MS)
    );
    assert!((turn.probability - 0.75).abs() < 1e-4);
}

#[tokio::test]
async fn a_program_says_something_and_is_told_how_far_it_got_and_when_the_call_ends() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let mut call = program.answer().await;
    call.say(1, 20).await;
    let (by, ask) = rig.asked(1).await.remove(0);
    let said = AgentAsk::Say {
        utterance: UtteranceId(1),
        pcm: vec![0; 640],
        rate: Rate::Hz16000,
        last: true,
        interruptible: true,
    };
    assert_eq!((by, ask), (session, said));
    rig.hear(session, playout(1, 0, PlayoutState::Interrupted));
    let What::Playout(played) = call.told().await else {
        panic!("how far it got");
    };
    assert_eq!((played.utterance, played.played_us), (1, 1_234));
    assert_eq!(played.state(), proto::playout::State::Interrupted);
    rig.shard().end(session, CloseReason::PeerClosed);
    let What::End(end) = call.told().await else {
        panic!("the end");
    };
    assert_eq!(end.kind(), end::Kind::CallEnded);
    assert!(call.ended().await.is_none());
}

#[tokio::test]
async fn what_a_program_asks_for_reaches_its_call_in_order() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let mut call = program.answer().await;
    let hint = TranscriptHint {
        turn: 4,
        text: "I went to Paris and".to_owned(),
        complete: Some(0.25),
        backchannel: None,
    };
    call.ask(Asked::Mark(Mark { mark: 7 })).await;
    call.ask(Asked::Clear(Clear { utterance: Some(3) })).await;
    call.ask(Asked::Clear(Clear { utterance: None })).await;
    call.ask(Asked::Hint(hint)).await;
    let eagerness = proto::Eagerness::Patient.into();
    call.ask(Asked::Configure(Configure { eagerness })).await;
    let asks: Vec<AgentAsk> = rig.asked(5).await.into_iter().map(|(_, ask)| ask).collect();
    let hint = Hint {
        turn: TurnId(4),
        words: 5,
        backchannel: false,
        ending: Ending::Conjunction,
        complete: Some(8_191),
    };
    let expected = [
        AgentAsk::Mark { mark: MarkId(7) },
        AgentAsk::Clear {
            utterance: Some(UtteranceId(3)),
        },
        AgentAsk::Clear { utterance: None },
        AgentAsk::Hint(hint),
        AgentAsk::Eagerness(Eagerness::Patient),
    ];
    assert_eq!(asks, expected);

    let digits = "12#".to_owned();
    call.ask(Asked::Dtmf(SendDtmf { digits })).await;
    let What::Refused(refused) = call.told().await else {
        panic!("it is refused");
    };
    assert_eq!(refused.what, "dtmf");
    let (at, keys) = (CallTime(5_000), 3);
    rig.hear(session, Heard::KeysLeftOut { at, keys });
    let What::Refused(refused) = call.told().await else {
        panic!("they are refused");
    };
    assert_eq!(refused.what, "dtmf");
    assert!(refused.reason.starts_with("3 of the keys"), "{refused:?}");
    call.ask(Asked::HangUp(HangUp {})).await;
    let What::End(end) = call.told().await else {
        panic!("the end");
    };
    assert_eq!(end.kind(), end::Kind::CallEnded);
    assert_eq!(rig.shard().closed(), [(session, CloseReason::Requested)]);
}

#[tokio::test]
async fn closing_the_programs_half_hangs_up() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let mut call = program.answer().await;
    call.close();
    assert!(call.ended().await.is_none());
    let shard = rig.shard().clone();
    rig.until("the call ends", |_| !shard.closed().is_empty())
        .await;
    assert_eq!(shard.closed(), [(session, CloseReason::Requested)]);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_503_and_one_never_seen_a_404() {
    let rig = Rig::start(&format!(
        "{GRPC}\nagent_url = [\"gone=http://127.0.0.1:1\"]"
    ))
    .await;
    let offer = offers::sendrecv();
    let refused = rig.post("/whip?agent=bot", &offer).await.problem(404);
    assert!(refused.contains("parrot, tone, gone"), "{refused}");
    let reply = rig.post("/whip?agent=gone", &offer).await;
    reply.problem(503);
    assert_eq!(reply.header("retry-after"), "2");
    let program = Program::wait(&rig, "bot").await;
    let listed = rig.get("/info").await.json()["agents"].clone();
    assert!(
        listed
            .to_string()
            .contains(r#"{"kind":"waiting","name":"bot","there":true}"#),
        "{listed}"
    );
    drop(program);
    let mut status = 0;
    for _ in 0..200 {
        status = rig.post("/whip?agent=bot", &offer).await.status;
        if status == 503 {
            break;
        }
    }
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_call_outlives_a_stream_that_breaks() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let call = program.answer().await;
    let token = call.token.clone();
    program.cut();
    let program = Program::wait(&rig, "bot").await;
    a_moment().await;
    rig.hear(session, audio(0, 0));
    rig.hear(session, started(1, 0));
    a_moment().await;
    let mut call = program.join(&token).await.expect("the call waits");
    assert!(call.start.resumed && call.start.token == token);
    assert!(
        matches!(call.told().await, What::Speech(_)),
        "decisions are kept, sound is not"
    );
    assert_eq!(rig.count("agent_reconnects").await, 1);

    let mut other = program.join(&token).await.expect("the newest stream wins");
    let status = call.ended().await.expect("a status");
    assert_eq!(status.code(), Code::Aborted);
    rig.hear(session, started(2, 0));
    assert!(matches!(other.told().await, What::Speech(_)));
    rig.shard().end(session, CloseReason::PeerClosed);
    other.ended().await;
    let gone = program
        .join(&token)
        .await
        .err()
        .expect("the call has ended");
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn a_call_outlives_a_stream_that_is_cancelled() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let call = program.answer().await;
    let token = call.token.clone();
    program.cancel(call);
    a_moment().await;
    let mut call = program.join(&token).await.expect("the call waits");
    assert!(call.start.resumed && rig.shard().closed().is_empty());
    rig.hear(session, started(1, 0));
    assert!(matches!(call.told().await, What::Speech(_)));
    call.close();
    assert!(call.ended().await.is_none());
    let shard = rig.shard().clone();
    rig.until("the call ends", |_| !shard.closed().is_empty())
        .await;
}

#[tokio::test]
async fn a_call_whose_program_does_not_come_back_ends() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let _call = program.answer().await;
    program.cut();
    let shard = rig.shard().clone();
    let ended = async {
        while shard.closed().is_empty() {
            a_moment().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    ended.expect("it ends after five seconds");
    assert_eq!(shard.closed(), [(session, CloseReason::Requested)]);
}

#[tokio::test]
async fn a_program_that_does_not_read_loses_sound_then_its_stream_and_nobody_else_anything() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (stuck, _) = rig.call("agent=bot").await;
    let mut call = program.answer().await;
    let (other, _) = rig.call("agent=bot").await;
    let mut lively = program.answer().await;
    let mut at = 0;
    while rig.count("agent_audio_dropped").await == 0 {
        for _ in 0..20 {
            at += 20;
            rig.hear(stuck, audio(at, 0));
        }
        rig.settle().await;
        assert!(at < 60_000, "a minute of sound waits somewhere");
    }
    assert_eq!(
        rig.count("agent_stalls").await,
        0,
        "sound alone does not end a stream"
    );
    for turn in 0..64 {
        rig.hear(stuck, started(turn, 0));
    }
    rig.hear(other, started(1, 0));
    assert!(matches!(lively.told().await, What::Speech(_)));
    rig.until("the stream is cut", |app| {
        app.meters.agents.stalls.get() == 1
    })
    .await;
    let status = call.ended().await.expect("a status");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let mut again = program.join(&call.token).await.expect("the call waits");
    assert!(again.start.resumed);
    rig.hear(stuck, audio(at + 20, 0));
    let dropped = loop {
        if let What::Audio(sound) = again.told().await {
            break sound.dropped;
        }
    };
    assert!(dropped > 0, "it is told that sound was lost");
    assert!(rig.shard().closed().is_empty());
}

#[tokio::test]
async fn who_breaks_a_rule_is_told_which_and_loses_its_own_call_alone() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (kept, _) = rig.call("agent=bot").await;
    let mut lively = program.answer().await;
    let say = |bytes: usize, rate| {
        Asked::Say(Say {
            utterance: 1,
            pcm: vec![0; bytes].into(),
            rate,
            last: false,
            uninterruptible: false,
        })
    };
    let long = TranscriptHint {
        text: "word ".repeat(1_000),
        ..TranscriptHint::default()
    };
    for (what, code) in [
        (say(3, 16_000), Code::InvalidArgument),
        (say(2, 11_025), Code::InvalidArgument),
        (say(300_000, 16_000), Code::OutOfRange),
        (Asked::Hint(long), Code::InvalidArgument),
        (Asked::Join(proto::Join::default()), Code::InvalidArgument),
    ] {
        let (session, _) = rig.call("agent=bot").await;
        let mut call = program.answer().await;
        call.ask(what).await;
        let status = call.ended().await.expect("a status");
        assert_eq!(status.code(), code, "{status:?}");
        let shard = rig.shard().clone();
        rig.until("its call ends", |_| {
            shard.closed().contains(&(session, CloseReason::Requested))
        })
        .await;
    }
    let (flooded, _) = rig.call("agent=bot").await;
    let mut call = program.answer().await;
    let mut sent = 0;
    while call.ask(Asked::Configure(Configure::default())).await && sent < 1_000_000 {
        sent += 1;
    }
    let status = call.ended().await.expect("a status");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("messages a second"), "{status:?}");
    let shard = rig.shard().clone();
    rig.until("its call ends", |_| {
        shard.closed().iter().any(|(id, _)| *id == flooded)
    })
    .await;
    rig.hear(kept, started(1, 0));
    assert!(matches!(lively.told().await, What::Speech(_)));
}

/// Whoever watches a call learns why its program cost it.
#[tokio::test]
async fn the_last_event_of_a_call_says_what_its_program_did() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let watch = async |location: &str| {
        let secret = location.rsplit('/').next().expect("a last part");
        Events::open(rig.address, &format!("/api/sessions/{secret}/voice")).await
    };
    let closed = async |mut events: Events| loop {
        let (name, data) = events.next().await;
        if name == "closed" {
            return data;
        }
    };
    let (_, location) = rig.call("agent=bot").await;
    let at_fault = watch(&location).await;
    let wrong = program.answer().await;
    wrong.ask(Asked::Join(proto::Join::default())).await;
    let (_, location) = rig.call("agent=bot").await;
    let hung_up = watch(&location).await;
    let mut closing = program.answer().await;
    closing.close();
    let (_, location) = rig.call("agent=bot").await;
    let lost = watch(&location).await;
    let call = program.answer().await;
    program.cancel(call);
    let all_ended = async {
        while rig.app.calls.count() > 0 {
            a_moment().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), all_ended).await;
    ended.expect("the last one ends after five seconds");
    assert_eq!(
        closed(at_fault).await,
        serde_json::json!({
            "reason": "at_fault",
            "detail": "`Join` is the first message of a stream",
        })
    );
    assert_eq!(closed(hung_up).await, serde_json::json!({}));
    assert_eq!(
        closed(lost).await,
        serde_json::json!({
            "reason": "lost",
            "detail": "the program cancelled the stream",
        })
    );
}

#[tokio::test]
async fn who_is_too_far_ahead_is_not_read_until_it_was_played() {
    let rig = Rig::start(GRPC).await;
    let mut program = Program::wait(&rig, "bot").await;
    let (session, _) = rig.call("agent=bot").await;
    let mut call = program.answer().await;
    let high_water = call.start.high_water_us;
    for utterance in 1..=6 {
        call.say(utterance, 4_000).await;
    }
    call.ask(Asked::Mark(Mark { mark: 1 })).await;
    let What::Flow(flow) = call.told().await else {
        panic!("it is told to wait");
    };
    assert!(
        flow.queued_us > high_water && flow.high_water_us == high_water,
        "{flow:?}"
    );
    a_moment().await;
    let marks = |rig: &Rig| {
        let asks = rig.shard().asks();
        asks.iter()
            .filter(|(_, ask)| matches!(ask, AgentAsk::Mark { .. }))
            .count()
    };
    assert_eq!(marks(&rig), 0, "what comes after waits");
    rig.hear(session, playout(1, 0, PlayoutState::Cleared));
    while let What::Playout(_) = call.told().await {}
    rig.until("the mark is read", |_| marks(&rig) == 1).await;
}

#[tokio::test]
async fn programs_show_a_token_with_the_scope_of_agents() {
    let (agent, publisher) = (
        "agents-answer-calls-0123456789abcdef0",
        "publishers-publish-0123456789abcdef01",
    );
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("agents.tokens.toml");
    let entry = |token: &str, scope: &str| {
        format!("[[token]]\ntoken = \"{token}\"\nscopes = [\"{scope}\"]\nrooms = [\"*\"]\n")
    };
    let text = entry(agent, "agent") + &entry(publisher, "publish");
    std::fs::write(&path, text).expect("the test folder can be written");
    let rig = Rig::start(&format!("{GRPC}\ntoken_file = '{}'", path.display())).await;
    for (token, code) in [
        (None, Code::Unauthenticated),
        (
            Some("no-such-token-0123456789abcdef0123456"),
            Code::Unauthenticated,
        ),
        (Some(publisher), Code::PermissionDenied),
    ] {
        let refused = Program::try_wait(&rig, "bot", None, token)
            .await
            .err()
            .expect("refused");
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let program = Program::try_wait(&rig, "bot", None, Some(agent))
        .await
        .expect("it may");
    let refused = program
        .join("no-such-call")
        .await
        .err()
        .expect("no token was shown");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let reply = rig
        .send(
            "POST",
            "/whip",
            &[
                crate::rig::SDP,
                ("Authorization", &format!("Bearer {agent}")),
            ],
            "",
        )
        .await;
    assert!(reply.problem(403).contains("publish"));
}

#[tokio::test]
async fn the_grpc_port_is_encrypted_when_http_is() {
    let (lines, mut trusting) = certified("grpc");
    trusting.alpn_protocols = vec![b"h2".to_vec()];
    let rig = Rig::start(&format!("{GRPC}\n{lines}")).await;
    let address = rig.grpc.expect("it listens");
    let connector = TlsConnector::from(Arc::new(trusting));
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("hall.example").expect("a name");
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://hall.example");
    let channel = endpoint
        .connect_with_connector(connect)
        .await
        .expect("a connection");
    let register = proto::Register {
        name: "bot".to_owned(),
        hearing: None,
    };
    let waiting = soon("registration", CallsClient::new(channel).wait(register)).await;
    assert!(waiting.is_ok(), "{waiting:?}");
    let plain = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let register = proto::Register::default();
    let refused = match plain.connect().await {
        Ok(channel) => CallsClient::new(channel).wait(register).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "nothing is said in the clear");
}

#[tokio::test]
async fn names_and_hearing_are_checked() {
    let rig = Rig::start(GRPC).await;
    for (name, rate, code) in [
        ("parrot", 0, Code::AlreadyExists),
        ("a/b", 0, Code::InvalidArgument),
        ("bot", 44_100, Code::InvalidArgument),
    ] {
        let hearing = Hearing {
            rate,
            ..Hearing::default()
        };
        let refused = Program::try_wait(&rig, name, Some(hearing), None)
            .await
            .err()
            .expect("refused");
        assert_eq!(refused.code(), code, "{refused:?}");
    }
}

#[test]
fn grpc_beyond_loopback_wants_tokens_as_http_does() {
    let config = |text: &str| Config::from_toml(text).map(|config| config.grpc);
    let refused = config("grpc = \"0.0.0.0:50051\"").unwrap_err().to_string();
    assert!(
        refused.contains("grpc") && refused.contains("token_file"),
        "{refused}"
    );
    assert!(config("grpc = \"0.0.0.0:50051\"\ninsecure = true").is_ok());
    assert!(config("grpc = \"[::1]:50051\"").is_ok());
    assert_eq!(config("").unwrap(), None);
    for wrong in [
        "agent_url = [\"parrot=http://localhost:1\"]",
        "agent_url = [\"a=http://localhost:1\", \"a=http://localhost:2\"]",
        "agent_url = [\"http://localhost:1\"]",
    ] {
        Config::from_toml(wrong).unwrap_err();
    }
}

/// A program that the server dials: it hands its streams to the test.
struct Dialled(mpsc::Sender<Dial>);

/// What comes of one call, and where the answers to it go.
type Dial = (
    Request<Streaming<ToAgent>>,
    mpsc::Sender<Result<FromAgent, Status>>,
);

#[tonic::async_trait]
impl Orchestrator for Dialled {
    type ConverseStream = Pin<Box<ReceiverStream<Result<FromAgent, Status>>>>;

    async fn converse(
        &self,
        request: Request<Streaming<ToAgent>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let (says, answer) = mpsc::channel(8);
        self.0
            .send((request, says))
            .await
            .expect("the test listens");
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }
}

/// Where a program listens, and the calls that it is dialled for.
async fn dialled(server: Server) -> (SocketAddr, mpsc::Receiver<Dial>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (sender, streams) = mpsc::channel(4);
    let service = OrchestratorServer::new(Dialled(sender));
    tokio::spawn(server.serve_with_incoming(service, TcpListenerStream::new(listener)));
    (address, streams)
}

#[tokio::test]
async fn a_program_is_dialled_for_each_call_and_again_when_it_fails() {
    let (address, mut streams) = dialled(Server::builder()).await;
    let rig = Rig::start(&format!(
        "agent_url = [\"bot=http://{address}?batch_ms=60\"]"
    ))
    .await;
    let (session, _) = rig.call("agent=bot").await;
    let Role::Agent(plan) = rig.shard().sessions()[0].1 else {
        panic!("a call");
    };
    assert_eq!(plan.batch_millis, 60);
    let (request, says) = soon("a stream", streams.recv()).await.expect("dialled");
    assert!(request.metadata().get("authorization").is_none());
    let mut told = request.into_inner();
    let start = |message: Option<ToAgent>| match message.and_then(|it| it.what) {
        Some(What::Start(start)) => start,
        other => panic!("{other:?}"),
    };
    let first = start(soon("Start", told.message()).await.expect("whole"));
    assert!(!first.resumed);
    let mark = Asked::Mark(Mark { mark: 9 });
    says.send(Ok(FromAgent { what: Some(mark) }))
        .await
        .expect("open");
    assert_eq!(
        rig.asked(1).await[0],
        (session, AgentAsk::Mark { mark: MarkId(9) })
    );

    says.send(Err(Status::unknown("the program failed")))
        .await
        .expect("open");
    let (request, says) = soon("another stream", streams.recv())
        .await
        .expect("dialled again");
    let mut told = request.into_inner();
    let second = start(soon("Start", told.message()).await.expect("whole"));
    assert!(second.resumed && second.token == first.token);
    rig.hear(session, Heard::Voice(VoiceEvent::Idle { at: CallTime(5) }));
    let message = soon("an event", told.message())
        .await
        .expect("whole")
        .expect("open");
    assert!(matches!(
        message,
        ToAgent {
            at_us: 5,
            what: Some(What::Idle(_))
        }
    ));
    drop(says);
    let shard = rig.shard().clone();
    rig.until("the call ends", |_| !shard.closed().is_empty())
        .await;
}

/// A program that is dialled by TLS, with a certificate for this machine; the file of who signed it.
async fn encrypted(file: &str) -> (u16, String, mpsc::Receiver<Dial>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let authority = write(&format!("{file}.pem"), &certificate);
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let server = Server::builder().tls_config(tls);
    let (address, streams) = dialled(server.expect("a certificate and its key")).await;
    (address.port(), authority, streams)
}

#[tokio::test]
async fn a_program_is_dialled_by_tls_and_shown_a_token() {
    let (port, authority, mut streams) = encrypted("dialled").await;
    let token = write("dialled.token", "a-token-of-some-length\n");
    let query = format!("ca={authority}&token_file={token}");
    let rig = Rig::start(&format!(
        "agent_url = [\"bot=https://localhost:{port}?{query}\"]"
    ))
    .await;
    let (session, _) = rig.call("agent=bot").await;
    let (request, says) = soon("a stream", streams.recv()).await.expect("dialled");
    let shown = request.metadata().get("authorization").expect("a token");
    assert_eq!(shown, "Bearer a-token-of-some-length");
    let mark = Asked::Mark(Mark { mark: 9 });
    says.send(Ok(FromAgent { what: Some(mark) }))
        .await
        .expect("open");
    let asked = (session, AgentAsk::Mark { mark: MarkId(9) });
    assert_eq!(rig.asked(1).await[0], asked);
}

#[tokio::test]
async fn a_program_whose_certificate_others_signed_is_told_nothing() {
    let (port, _, mut streams) = encrypted("distrusted").await;
    let (_, other, _) = encrypted("trusted").await;
    let token = write("distrusted.token", "a-token-of-some-length");
    let query = format!("ca={other}&token_file={token}");
    let rig = Rig::start(&format!(
        "agent_url = [\"bot=https://localhost:{port}?{query}\"]"
    ))
    .await;
    rig.call("agent=bot").await;
    let ended = async {
        while rig.shard().closed().is_empty() {
            a_moment().await;
        }
    };
    let waited = tokio::time::timeout(2 * PROGRAM_GRACE, ended).await;
    waited.expect("the call ends without its program");
    streams.try_recv().expect_err("it was not dialled");
}

/// Passes everything on to a program, until it is notified: then what is connected stays open, and nothing comes
/// through any more.
async fn relay(program: SocketAddr, cut: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let cut = Arc::clone(&cut);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(program).await.expect("it listens");
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cut.notified() => std::future::pending().await,
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_dialled_program_that_is_cut_off_is_given_up_and_dialled_again() {
    let (program, mut streams) = dialled(Server::builder()).await;
    let cut = Arc::new(Notify::new());
    let address = relay(program, Arc::clone(&cut)).await;
    let rig = Rig::start(&format!("agent_url = [\"bot=http://{address}\"]")).await;
    rig.call("agent=bot").await;
    let first = soon("a stream", streams.recv()).await.expect("dialled");
    cut.notify_waiters();
    let patience = 2 * (GRPC_KEEPALIVE + GRPC_KEEPALIVE_TIMEOUT + PROGRAM_GRACE);
    let again = tokio::time::timeout(patience, streams.recv()).await;
    let (request, _says) = again.expect("in time").expect("dialled again");
    let message = soon("Start", request.into_inner().message()).await;
    let what = message.expect("whole").and_then(|it| it.what);
    assert!(matches!(what, Some(What::Start(start)) if start.resumed));
    drop(first);
}

//! The same inputs give the same events, whatever drives: a real shard, run on a rig and inline.

use std::sync::{Arc, OnceLock};

use antiphon_core::drive::Pump;
use antiphon_core::fuzzing::{OFFER, binding_request};
use antiphon_core::ids::{RequestId, SessionId};
use antiphon_core::message::{CloseReason, Command, Event, Role};
use antiphon_core::plan::{IceCredentials, SessionPlan};
use antiphon_core::rng::Seed;
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, Tuning};

use super::{Inline, Plan, Rig, SHARD, WINDOW, end, question};

const SESSIONS: usize = 4;
const CHECKS: u32 = 10_000;
/// Of the peer, in [`OFFER`].
const PEER_UFRAG: &str = "abcd";
/// A binding response (RFC 8489 §5).
const SUCCESS: [u8; 2] = [1, 1];

/// Sessions opened and refused, 10,000 connectivity checks of four peers, garbage among them, an end: the same events,
/// answers and figures as without any driver.
pub fn a_shard_does_on_a_driver_what_it_does_inline<R: Rig>() {
    let (inline, driven) = (told::<Inline>(), told::<R>());
    assert_eq!(inline.len(), SESSIONS + 4);
    assert_eq!(driven, inline);
}

/// What a shard tells in the course of the script.
fn told<R: Rig>() -> Vec<String> {
    let plan = Plan {
        full_sends: &[3, 30, 31],
    };
    let config = Arc::new(ShardConfig {
        identity: Arc::clone(identity()),
        sessions_max: SESSIONS as u32,
        tuning: Tuning::default(),
    });
    let mut rig = R::start(plan, move |epoch| {
        let shard = Shard::new(SHARD, config, epoch, Seed::new([7; 32]));
        Pump::new(shard.expect("a valid configuration"))
    });
    let mut told = Vec::new();
    let mut next = |rig: &mut R| {
        let event = rig.event().expect("the shard lives");
        told.push(format!("{event:?}"));
        event
    };
    let sessions: Vec<(SessionId, IceCredentials)> = (0..SESSIONS as u64)
        .map(|number| {
            open(&mut rig, number);
            match next(&mut rig) {
                Event::Opened { session, local, .. } => (session, local.ice.clone()),
                other => panic!("not opened: {other:?}"),
            }
        })
        .collect();
    open(&mut rig, 100);
    next(&mut rig);
    let credentials: Vec<_> = sessions.iter().map(|(_, ice)| ice).collect();
    check(&mut rig, &credentials);
    let (session, reason) = (sessions[0].0, CloseReason::Requested);
    rig.command(Command::Close { session, reason })
        .expect("there is room");
    next(&mut rig);
    let request = RequestId(101);
    rig.command(Command::SessionStats { request, session })
        .expect("there is room");
    next(&mut rig);
    let stats = question(&mut rig, 102);
    told.push(format!(
        "{} in, {} out, drops {:?}, {} of {} sessions",
        stats.datagrams_received,
        stats.datagrams_sent,
        stats.drops,
        stats.sessions,
        stats.sessions_opened,
    ));
    assert_eq!(rig.blocked(), plan.full_sends.len() as u64);
    end(rig);
    told
}

fn open<R: Rig>(rig: &mut R, number: u64) {
    let command = Command::Open {
        request: RequestId(number),
        plan: Box::new(offered()),
        role: Role::Echo,
    };
    rig.command(command).expect("there is room");
}

/// Each client checks its session, over and over, and hears of every sound check.
fn check<R: Rig>(rig: &mut R, credentials: &[&IceCredentials]) {
    let check = |number: u32, password: &str| {
        let ice = credentials[number as usize % SESSIONS];
        let username = format!("{}:{PEER_UFRAG}", ice.ufrag);
        binding_request(&username, password, number, number < SESSIONS as u32)
    };
    for number in 0..CHECKS + WINDOW {
        let client = number as usize % SESSIONS;
        if number < CHECKS {
            if number % 100 == 99 {
                rig.send(client, &number.to_be_bytes());
                rig.send(client, &check(number, "not the password"));
            }
            let password = credentials[client].password.clone();
            rig.send(client, &check(number, &password));
        }
        if let Some(due) = number.checked_sub(WINDOW) {
            let answer = rig.recv(due as usize % SESSIONS);
            assert_eq!(answer[..2], SUCCESS);
            assert_eq!(answer[8..12], due.to_be_bytes(), "answers come in order");
        }
    }
}

fn identity() -> &'static Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    IDENTITY
        .get_or_init(|| Arc::new(Identity::generate().expect("the library makes a certificate")))
}

fn offered() -> SessionPlan {
    let offer = Offer::parse(OFFER.as_bytes()).expect("our offer is sound");
    let negotiated = offer.negotiate(Purpose::Echo).expect("our offer is for us");
    negotiated.plan().clone()
}

//! Against a full ICE agent and a DTLS peer in virtual time, and against str0m's `Rtc`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use is::stun::{StunMessage, TransId};

use self::world::{World, client_address, credentials, path_from, request};
use super::*;
use crate::limits::{CONSENT_TIMEOUT, DTLS_DATAGRAM_BYTES_MAX};
use crate::rng::{Rng, Seed};
use crate::testing::{malformed, rfc5769};

mod str0m_peer;
mod world;

const ROLES: [DtlsRole; 2] = [DtlsRole::Server, DtlsRole::Client];

fn stranger(port: u16) -> SocketAddr {
    ([203, 0, 113, 9], port).into()
}

/// A DTLS 1.2 record.
fn record(kind: u8, epoch: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0xfe, 0xfd];
    bytes.extend(epoch.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A ClientHello that offers only NULL ciphers, as the attack of 2024 had it.
fn null_client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    body.extend([0, 0, 0, 2, 0, 1, 1, 0]);
    let length = (body.len() as u32).to_be_bytes();
    let mut handshake = vec![1];
    handshake.extend(&length[1..]);
    handshake.extend([0, 0, 0, 0, 0]);
    handshake.extend(&length[1..]);
    handshake.extend(body);
    record(22, 0, 0, &handshake)
}

/// Answers the check of ours that went out over `path` last, as the peer there would, or says `id` instead of
/// what it was asked.
fn answer(
    world: &mut World,
    path: Path,
    client: &str,
    id: Option<TransId>,
) -> Result<bool, DropReason> {
    let mut sent = world.strays.iter().rev();
    let is_check = |bytes: &[u8]| StunMessage::parse(bytes).is_ok_and(|it| it.is_binding_request());
    let asked = sent.find(|(to, bytes)| *to == path && is_check(bytes));
    let asked = StunMessage::parse(&asked.expect("it was asked").1).unwrap();
    let (server, name) = asked.split_username().unwrap();
    assert_eq!(
        server,
        credentials(client).ufrag,
        "as the peer knows itself"
    );
    assert!(name.starts_with("server"));
    let password = credentials(client).password.clone();
    assert!(asked.verify(password.as_bytes(), checks::sha1_hmac));
    let reply = StunMessage::binding_reply(id.unwrap_or(asked.trans_id()), path.local);
    let mut bytes = [0; 128];
    let length = reply
        .to_bytes(Some(password.as_bytes()), &mut bytes, checks::sha1_hmac)
        .unwrap();
    world.deliver(path, &bytes[..length])
}

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; 1 + rng.below(300) as usize];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn a_client_connects_in_either_role_and_both_ends_hold_the_same_keys() {
    for role in ROLES {
        let mut world = World::new(1, role);
        assert!(
            world.run_until(Duration::from_secs(2), World::is_connected),
            "{role:?}"
        );
        let (profile, keys) = world.connected.clone().unwrap();
        assert_eq!(profile, ProfileName::AeadAes256Gcm);
        assert_eq!(keys.len(), 88);
        assert_eq!(keys, world.client.keys.clone().unwrap().1);
        assert_eq!(
            world.client.server_fingerprint,
            Some(world.server_fingerprint)
        );
        assert_eq!(world.server.send_path(), Some(path_from(client_address())));
        assert_eq!(
            (world.drops.len(), world.strays.len(), world.closed),
            (0, 0, None)
        );
    }
}

/// One round trip for the check, two for DTLS, and nothing waits for a timer.
#[test]
fn set_up_takes_no_longer_than_its_round_trips() {
    let mut world = World::new(2, DtlsRole::Server);
    let began = world.now;
    assert!(world.run_until(Duration::from_secs(2), World::is_connected));
    let round_trips = 3 * 2 * world::DELAY;
    assert!(
        world.now.since(began) <= round_trips,
        "{:?}",
        world.now.since(began)
    );
    assert_eq!(world.server_timeouts, 0);
}

#[test]
fn a_handshake_survives_a_loss_of_20_percent() {
    let mut slowest = Duration::ZERO;
    for seed in 0..20 {
        let mut world = World::new(seed, ROLES[seed as usize % 2]);
        world.loss = 20;
        let began = world.now;
        assert!(
            world.run_until(Duration::from_secs(25), World::is_connected),
            "seed {seed}"
        );
        slowest = slowest.max(world.now.since(began));
    }
    assert!(
        slowest > Duration::from_millis(500),
        "nothing was lost: {slowest:?}"
    );
}

/// The server cannot know that its last flight was lost; the client asks by repeating its own.
#[test]
fn a_lost_last_flight_is_sent_again_without_a_timer() {
    let mut world = World::new(27, DtlsRole::Server);
    assert!(world.run_until(Duration::from_secs(2), |world| world.connected.is_some()));
    world.is_client_deaf = true;
    world.run_for(Duration::from_secs(1));
    assert!(!world.client.is_connected);
    world.is_client_deaf = false;
    assert!(world.run_until(Duration::from_secs(5), World::is_connected));
    assert_eq!(world.server_timeouts, 0);
}

#[test]
fn dtls_and_media_flow_before_any_nomination() {
    for role in ROLES {
        let mut world = World::new(3, role);
        world.hides_nominations = true;
        assert!(
            world.run_until(Duration::from_secs(2), World::is_connected),
            "{role:?}"
        );
        assert_eq!(world.server.send_path(), Some(path_from(client_address())));
    }
}

#[test]
fn a_wrong_fingerprint_ends_the_handshake_in_either_role_without_keys() {
    for role in ROLES {
        let client = Identity::seeded(9);
        let mut world = World::with_fingerprint(4, role, &client, Fingerprint([0xab; 32]));
        world.run_for(Duration::from_secs(3));
        assert_eq!(
            world.closed,
            Some(CloseReason::FingerprintMismatch),
            "{role:?}"
        );
        assert!(world.connected.is_none());
        assert!(
            world.client.failure.is_some(),
            "the client is told by an alert"
        );
        assert_eq!(world.client.keys, None, "{role:?}: nor has the client keys");
    }
}

#[test]
fn a_forged_check_is_not_answered_and_changes_nothing() {
    let mut world = World::connected(5, DtlsRole::Server);
    let before = (world.server.send_path(), world.server.last_check());
    let path = path_from(stranger(1));
    let genuine = request("server", "client", u32::MAX, true);

    let mut forged = vec![
        ("another password", {
            let mut message = genuine.clone();
            let other = request("other", "client", u32::MAX, true);
            let at = message.len() - 28;
            message[at..].copy_from_slice(&other[other.len() - 28..]);
            message
        }),
        ("no integrity", {
            let mut message = genuine[..genuine.len() - 32].to_vec();
            let length = (message.len() - 20) as u16;
            message[2..4].copy_from_slice(&length.to_be_bytes());
            message
        }),
        ("another user", request("server", "mallory", 1, true)),
        ("another session", request("other", "client", 1, true)),
        ("an indication", {
            let mut message = genuine.clone();
            message[1] = 0x11;
            message
        }),
        ("a response", {
            let mut message = genuine.clone();
            message[0] = 0x01;
            message
        }),
    ];
    // Every byte the integrity covers, which is all but the FINGERPRINT at the end.
    for index in 0..genuine.len() - 8 {
        let mut message = genuine.clone();
        message[index] ^= 0x01;
        forged.push(("a flipped bit", message));
    }
    for (what, message) in forged {
        let mut sent = 0;
        let mut out = |_: Path, _: &[u8]| sent += 1;
        let result = world
            .server
            .handle_stun(world.now, path, &message, &mut out);
        let reason = result.expect_err(what);
        assert!(matches!(
            reason,
            DropReason::UnauthenticatedStun | DropReason::MalformedStun
        ));
        assert_eq!(sent, 0, "{what}");
        assert!(!world.server.is_proved(path), "{what}");
        assert_eq!(
            (world.server.send_path(), world.server.last_check()),
            before,
            "{what}"
        );
    }
    assert_eq!(
        world.deliver(path, &genuine),
        Ok(true),
        "and the genuine one would have counted"
    );
}

/// The sample request says ICE-CONTROLLED, so the authenticated answer is 487; nothing else is answered at all.
#[test]
fn of_the_samples_of_rfc_5769_the_sound_request_alone_is_answered() {
    let ice = |ufrag: &str| IceCredentials {
        ufrag: ufrag.to_owned(),
        password: rfc5769::PASSWORD.to_owned(),
    };
    let identity = Identity::generate().unwrap();
    let mut server = Transport::new(
        &identity,
        world::SESSION,
        (ice("evtj"), [1; 16]),
        ice("h6vY"),
        Fingerprint([0; 32]),
        DtlsRole::Server,
        (Timestamp::ZERO, Epoch::simulated()),
    );
    let path = path_from(stranger(1));
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut take = |message: &[u8]| {
        let mut out = |_: Path, bytes: &[u8]| sent.push(bytes.to_vec());
        server.handle_stun(Timestamp::ZERO, path, message, &mut out)
    };
    for (name, message) in rfc5769::broken_requests() {
        assert!(take(&message).is_err(), "{name}");
    }
    for response in [rfc5769::response_v4(), rfc5769::response_v6()] {
        assert_eq!(take(&response), Err(DropReason::UnauthenticatedStun));
    }
    assert!(take(&rfc5769::long_term_request()).is_err());
    assert_eq!(take(&rfc5769::request()), Ok(Checked::default()));
    let [answer] = &sent[..] else {
        panic!("one answer, to the sound request")
    };
    let answer = StunMessage::parse(answer).unwrap();
    assert_eq!(answer.error_code().unwrap().0, 487);
    assert!(answer.verify(rfc5769::PASSWORD.as_bytes(), checks::sha1_hmac));
}

#[test]
fn the_answer_to_a_check_is_smaller_than_the_check() {
    let mut world = World::new(6, DtlsRole::Server);
    for (remote, length) in [
        (stranger(1), 64),
        (([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(), 76),
    ] {
        let check = request("server", "client", 1, true);
        let mut sent = Vec::new();
        let mut out = |_: Path, bytes: &[u8]| sent.push(bytes.to_vec());
        world
            .server
            .handle_stun(world.now, path_from(remote), &check, &mut out)
            .unwrap();
        let [answer] = &sent[..] else {
            panic!("one answer")
        };
        assert_eq!(answer.len(), length);
        assert!(answer.len() < check.len());
        let answer = StunMessage::parse(answer).unwrap();
        assert!(answer.is_successful_binding_response());
        assert_eq!(answer.mapped_address(), Some(remote));
        let server = credentials("server");
        assert!(answer.verify(server.password.as_bytes(), checks::sha1_hmac));
    }
}

/// Whoever saw a check can send it again from any address, a victim's for one.
#[test]
fn a_check_seen_before_proves_no_other_path() {
    let mut world = World::new(6, DtlsRole::Server);
    let check = request("server", "client", 1, true);
    let mut sent = 0;
    let mut out = |_: Path, _: &[u8]| sent += 1;
    let (own, victim) = (path_from(stranger(1)), path_from(stranger(2)));
    let server = &mut world.server;
    assert!(server.handle_stun(world.now, own, &check, &mut out).is_ok());
    let replayed = server.handle_stun(world.now, victim, &check, &mut out);
    assert_eq!(replayed, Err(DropReason::UnauthenticatedStun));
    assert_eq!(server.send_path(), Some(own));
    assert!(!server.is_proved(victim));
    // The peer itself may repeat a check whose answer was lost.
    assert!(server.handle_stun(world.now, own, &check, &mut out).is_ok());
    assert_eq!(sent, 2);
}

#[test]
fn a_peer_that_thinks_it_is_controlled_is_told_otherwise() {
    let mut world = World::new(7, DtlsRole::Server);
    let (server, client) = (credentials("server"), credentials("client"));
    let username = format!("{}:{}", server.ufrag, client.ufrag);
    let id = TransId::new();
    let check = StunMessage::binding_request(&username, id, false, 1, 1, false);
    let mut bytes = [0; 256];
    let password = Some(server.password.as_bytes());
    let length = check
        .to_bytes(password, &mut bytes, checks::sha1_hmac)
        .unwrap();
    let mut sent = Vec::new();
    let mut out = |_: Path, bytes: &[u8]| sent.push(bytes.to_vec());
    let path = path_from(client_address());
    let checked = world
        .server
        .handle_stun(world.now, path, &bytes[..length], &mut out);
    assert_eq!(checked, Ok(Checked::default()));
    assert!(!world.server.is_proved(path));
    assert_eq!(
        StunMessage::parse(&sent[0])
            .unwrap()
            .error_code()
            .unwrap()
            .0,
        487
    );
}

#[test]
fn dtls_of_a_stranger_is_dropped_and_disturbs_no_handshake() {
    for role in ROLES {
        let mut world = World::new(8, role);
        let hello = null_client_hello();
        let mut port = 0;
        while !world.is_connected() {
            assert!(port < 1_000, "{role:?}: not connected under fire");
            // The peer's own address too, before its first check.
            for source in [
                stranger(port),
                SocketAddr::new(client_address().ip(), 6_000 + port),
            ] {
                let result = world.deliver(path_from(source), &hello);
                assert_eq!(result, Err(DropReason::UnknownSource));
            }
            port += 1;
            world.run_for(Duration::from_millis(1));
        }
        assert!(world.strays.is_empty(), "nothing goes to a stranger");
        for port in port..1_000 {
            let result = world.deliver(path_from(stranger(port)), &hello);
            assert_eq!(result, Err(DropReason::UnknownSource));
        }
        world.run_for(Duration::from_secs(5));
        assert_eq!((world.closed, world.strays.len()), (None, 0));
    }
}

#[test]
fn dtls_before_the_first_check_is_dropped_even_from_the_peers_address() {
    let mut world = World::new(9, DtlsRole::Server);
    let path = path_from(client_address());
    assert_eq!(
        world.deliver(path, &null_client_hello()),
        Err(DropReason::UnknownSource)
    );
    assert!(world.run_until(Duration::from_secs(2), World::is_connected));
}

#[test]
fn a_rebinding_moves_the_path_a_round_trip_after_the_first_verified_check() {
    let mut world = World::connected(10, DtlsRole::Server);
    let rebound = stranger(7_777);
    world.external = rebound;
    let mut out = |_: Path, _: &[u8]| panic!("no check has come from there");
    // Media from there is no reason to move, and proves nothing.
    world
        .server
        .note_authenticated_media(world.now, path_from(rebound), &mut out);
    assert_eq!(world.server.send_path(), Some(path_from(client_address())));
    // The old address was active a moment ago.
    world
        .server
        .note_authenticated_media(world.now, path_from(client_address()), &mut out);
    let check = request("server", "client", 1_862_270_975, true);
    let checked = world.now;
    assert_eq!(world.deliver(path_from(rebound), &check), Ok(true));
    assert_eq!(
        world.server.send_path(),
        Some(path_from(client_address())),
        "it has yet to answer"
    );
    let has_moved = |world: &World| world.server.send_path() == Some(path_from(rebound));
    assert!(world.run_until(Duration::from_secs(1), has_moved));
    assert_eq!(world.now.since(checked), 2 * world::DELAY);
    // A late check from the old address does not move us back.
    let late = request("server", "client", 1_862_270_975, true);
    assert_eq!(world.deliver(path_from(client_address()), &late), Ok(false));
    assert_eq!(world.server.send_path(), Some(path_from(rebound)));
}

/// The peer has all credentials and may put the victim's address on what it sends.
#[test]
fn a_victim_that_a_peer_nominates_gets_few_checks_and_nothing_else() {
    for restarts in [false, true] {
        let mut world = World::connected(28, DtlsRole::Server);
        let (mut server, mut client) = ("server", "client");
        if restarts {
            (server, client) = ("server2", "client2");
            world
                .server
                .restart(credentials(server), credentials(client));
        }
        let (own, victim) = (path_from(client_address()), path_from(stranger(1)));
        let other = path_from(stranger(2));
        let mut bytes_in = 0;
        for round in 0..200 {
            let check = request(server, client, u32::MAX, true);
            bytes_in += check.len();
            assert_eq!(world.deliver(victim, &check), Ok(round == 0));
            let mut sent = Vec::new();
            let mut out = |path: Path, bytes: &[u8]| sent.push((path, bytes.to_vec()));
            world
                .server
                .note_authenticated_media(world.now, victim, &mut out);
            world.strays.extend(sent);
            world.run_for(Duration::from_millis(10));
            assert_eq!(world.server.send_path(), Some(own));
        }
        // It may guess; and what it was asked elsewhere, where it is, is another question.
        for _ in 0..100 {
            let guessed = answer(&mut world, victim, client, Some(TransId::new()));
            assert_eq!(guessed, Err(DropReason::UnauthenticatedStun));
        }
        let check = request(server, client, u32::MAX, true);
        assert_eq!(world.deliver(other, &check), Ok(true));
        let (_, asked) = world.strays.last().expect("it is asked as well").clone();
        let asked = StunMessage::parse(&asked).unwrap().trans_id();
        let crossed = answer(&mut world, victim, client, Some(asked));
        assert_eq!(crossed, Err(DropReason::UnauthenticatedStun));
        assert_eq!(world.server.send_path(), Some(own));

        let to_victim = world.strays.iter().filter(|(path, _)| *path == victim);
        let (mut asked, mut bytes_out) = (0, 0);
        for (_, bytes) in to_victim {
            let message = StunMessage::parse(bytes).expect("STUN and nothing else");
            asked += usize::from(message.is_binding_request());
            bytes_out += bytes.len();
        }
        assert!((9..=11).contains(&asked), "one in 200 ms: {asked}");
        assert!(bytes_out < bytes_in, "{bytes_out} out, {bytes_in} in");
        // Where it is, it may go.
        assert_eq!(answer(&mut world, other, client, None), Ok(false));
        assert_eq!(world.server.send_path(), Some(other));
    }
}

#[test]
fn a_lost_check_of_ours_is_sent_again_and_a_late_answer_counts() {
    let mut world = World::connected(29, DtlsRole::Server);
    let elsewhere = path_from(stranger(1));
    let check = request("server", "client", u32::MAX, true);
    assert_eq!(world.deliver(elsewhere, &check), Ok(true));
    let mut asked = Vec::new();
    for _ in 0..100 {
        let mut out = |_: Path, bytes: &[u8]| asked.push(bytes.to_vec());
        world
            .server
            .note_authenticated_media(world.now, elsewhere, &mut out);
        world.run_for(Duration::from_millis(20));
    }
    assert!(
        (6..=10).contains(&asked.len()),
        "media is reason enough: {}",
        asked.len()
    );
    assert!(
        asked.windows(2).all(|pair| pair[0] == pair[1]),
        "one question"
    );
    assert_eq!(answer(&mut world, elsewhere, "client", None), Ok(false));
    assert_eq!(world.server.send_path(), Some(elsewhere));
    // A path that has answered once may be moved to at once.
    world.run_for(Duration::from_secs(10));
    let own = path_from(client_address());
    assert_eq!(
        world.server.send_path(),
        Some(own),
        "by its checks, and no question"
    );
}

/// Our half of the secret must go where media will.
#[test]
fn a_victim_nominated_during_the_handshake_gets_no_media() {
    for role in ROLES {
        let mut world = World::new(30, role);
        world.run_for(world::DELAY * 3 + Duration::from_millis(5));
        let victim = path_from(stranger(1));
        let mut checks = 0;
        while !world.is_connected() {
            let check = request("server", "client", u32::MAX, true);
            assert!(world.deliver(victim, &check).is_ok());
            checks += 1;
            world.run_for(Duration::from_millis(1));
            assert!(checks < 1_000, "{role:?}");
        }
        assert!(checks > 20, "{role:?}: {checks}");
        let own = path_from(client_address());
        assert_eq!(world.server.send_path(), Some(own), "{role:?}");
    }
}

#[test]
fn dtls_from_elsewhere_moves_nothing_once_the_handshake_has_begun() {
    for role in ROLES {
        let mut world = World::new(31, role);
        world.hides_nominations = true;
        assert!(world.run_until(Duration::from_secs(2), World::is_connected));
        let victim = path_from(stranger(1));
        let check = request("server", "client", u32::MAX, false);
        assert_eq!(world.deliver(victim, &check), Ok(true));
        let forged = record(23, 1, 9, &[0; 40]);
        assert_eq!(world.deliver(victim, &forged), Ok(false));
        assert_eq!(world.server.send_path(), Some(path_from(client_address())));
    }
}

#[test]
fn a_full_agent_behind_a_rebound_nat_is_followed() {
    let mut world = World::connected(11, DtlsRole::Server);
    world.external = stranger(7_777);
    let to = path_from(stranger(7_777));
    let moved = world.run_until(Duration::from_secs(6), |world| {
        world.server.send_path() == Some(to)
    });
    assert!(moved, "it checks at least every 3 s");
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.server.send_path(), Some(to));
    // The association goes on over the new path.
    world.close();
    assert!(world.run_until(Duration::from_secs(1), |world| world.client.is_closed));
}

#[test]
fn an_ice_restart_keeps_dtls_and_the_path_until_the_new_credentials_prove_one() {
    for moves in [false, true] {
        let mut world = World::connected(12, DtlsRole::Server);
        let old = path_from(client_address());
        world
            .server
            .restart(credentials("server2"), credentials("client2"));
        assert_eq!(world.server.send_path(), Some(old), "media does not stop");
        // The old credentials keep the old path alive, and do not prove another.
        assert_eq!(
            world.deliver(old, &request("server", "client", 1, true)),
            Ok(false)
        );
        let elsewhere = path_from(stranger(2));
        let refused = world.deliver(elsewhere, &request("server", "client", 1, true));
        assert_eq!(refused, Err(DropReason::UnauthenticatedStun));
        // A mixture of the two is nobody's.
        let mixed = world.deliver(old, &request("server2", "client", 1, true));
        assert_eq!(mixed, Err(DropReason::UnauthenticatedStun));

        if moves {
            world.external = stranger(7_777);
        }
        let new = path_from(world.external);
        world.client.restart("server2", "client2");
        let is_over = |world: &World| world.server.send_path() == Some(new);
        assert!(world.run_until(Duration::from_secs(1), is_over));
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.server.send_path(), Some(new));
        let late = world.deliver(old, &request("server", "client", 1, true));
        assert_eq!(
            late,
            Err(DropReason::UnauthenticatedStun),
            "now the old ones are refused"
        );
        world.run_for(Duration::from_secs(20));
        assert!(world.now.since(world.server.last_check().unwrap()) < Duration::from_secs(4));
        assert_eq!(world.closed, None);
        world.close();
        assert!(world.run_until(Duration::from_secs(1), |world| world.client.is_closed));
    }
}

#[test]
fn a_second_restart_before_the_first_is_done_keeps_what_works() {
    let mut world = World::connected(13, DtlsRole::Server);
    let path = path_from(client_address());
    world
        .server
        .restart(credentials("server2"), credentials("client2"));
    world
        .server
        .restart(credentials("server3"), credentials("client3"));
    assert_eq!(
        world.deliver(path, &request("server", "client", 1, true)),
        Ok(false)
    );
    let skipped = world.deliver(path, &request("server2", "client2", 1, true));
    assert_eq!(skipped, Err(DropReason::UnauthenticatedStun));
    let elsewhere = path_from(stranger(5));
    assert_eq!(
        world.deliver(elsewhere, &request("server3", "client3", 1, true)),
        Ok(true)
    );
    assert_eq!(world.server.send_path(), Some(path));
    assert_eq!(answer(&mut world, elsewhere, "client3", None), Ok(false));
    assert_eq!(world.server.send_path(), Some(elsewhere));
    let old = world.deliver(path, &request("server", "client", 1, true));
    assert_eq!(old, Err(DropReason::UnauthenticatedStun));
}

#[test]
fn consent_runs_from_the_last_check_and_silence_is_survived() {
    let mut world = World::connected(14, DtlsRole::Server);
    let path = path_from(client_address());
    world.loss = 100;
    world.run_for(Duration::from_millis(100));
    let last = world.server.last_check().unwrap();
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.server.last_check(), Some(last));
    assert_eq!(
        world.server.send_path(),
        Some(path),
        "20 s of silence end nothing here"
    );
    let check = request("server", "client", 1_862_270_975, true);
    assert_eq!(world.deliver(path, &check), Ok(false));
    assert_eq!(world.server.last_check(), Some(world.now));
    world.run_for(CONSENT_TIMEOUT);
    let silent = world.now.since(world.server.last_check().unwrap());
    assert_eq!(silent, CONSENT_TIMEOUT, "the session's to end");
    // And even then a check from elsewhere would be followed.
    let elsewhere = path_from(stranger(3));
    assert_eq!(
        world.deliver(elsewhere, &request("server", "client", 1, true)),
        Ok(true)
    );
    assert_eq!(answer(&mut world, elsewhere, "client", None), Ok(false));
    assert_eq!(world.server.send_path(), Some(elsewhere));
}

#[test]
fn close_notify_of_the_peer_closes_and_is_answered() {
    for role in ROLES {
        let mut world = World::connected(15, role);
        world.client.dtls.close().unwrap();
        world.drain_client();
        assert!(world.run_until(Duration::from_secs(1), |world| world.closed.is_some()));
        assert_eq!(world.closed, Some(CloseReason::PeerClosed), "{role:?}");
        assert_eq!(world.server.deadline(), None);
        world.close();
        world.run_for(Duration::from_secs(1));
    }
}

#[test]
fn close_says_close_notify_once_and_nothing_more() {
    for role in ROLES {
        let mut world = World::connected(16, role);
        world.close();
        assert_eq!(world.server.deadline(), None);
        assert!(world.run_until(Duration::from_secs(1), |world| world.client.is_closed));
        let mut out = |_: Path, _: &[u8]| panic!("nothing is left to say");
        world.server.close(world.now, &mut out);
        world
            .server
            .handle_timeout(world.now + Duration::from_secs(60), &mut out);
        assert!(world.server.poll_event().is_none());
        let path = path_from(client_address());
        let refused = world
            .server
            .handle_dtls(world.now, path, &null_client_hello(), &mut out);
        assert_eq!(refused, Err(DropReason::RefusedDtls));
    }
}

#[test]
fn close_during_the_handshake_leaves_no_deadline() {
    let mut world = World::new(17, DtlsRole::Client);
    assert!(world.run_until(Duration::from_secs(1), |world| {
        world.server.deadline().is_some()
    }));
    world.close();
    assert_eq!(world.server.deadline(), None);
    world.run_for(Duration::from_secs(30));
    assert!(world.connected.is_none() && world.closed.is_none());
}

#[test]
fn an_idle_session_wakes_for_nothing() {
    for role in ROLES {
        let mut world = World::connected(18, role);
        let before = world.server_timeouts;
        let began = world.now;
        world.run_for(Duration::from_secs(60));
        assert!(world.now.since(world.server.last_check().unwrap()) < Duration::from_secs(4));
        assert_eq!(
            world.server_timeouts,
            before,
            "{role:?}: {:?}",
            world.now.since(began)
        );
    }
}

/// Every deadline of an unanswered handshake makes progress, and they come to an end.
#[test]
fn an_unanswered_handshake_ends_in_a_bounded_number_of_turns() {
    let mut world = World::new(19, DtlsRole::Client);
    assert!(world.run_until(Duration::from_secs(1), |world| {
        world.server.deadline().is_some()
    }));
    world.loss = 100;
    let mut turns = 0;
    let mut now = world.now;
    let mut sent_bytes = 0;
    while let Some(deadline) = world.server.deadline() {
        assert!(deadline > now);
        now = deadline;
        let mut out = |_: Path, bytes: &[u8]| sent_bytes += bytes.len();
        world.server.handle_timeout(now, &mut out);
        turns += 1;
        assert!(turns < 20);
    }
    assert!(matches!(
        world.server.poll_event(),
        Some(TransportEvent::Closed(CloseReason::HandshakeFailed))
    ));
    assert!(now.since(world.now) <= crate::limits::SETUP_TIMEOUT);
    assert!(
        sent_bytes < 4_000,
        "{sent_bytes} bytes to an address that never answered"
    );
}

#[test]
fn a_timeout_before_the_deadline_changes_nothing() {
    let mut world = World::new(20, DtlsRole::Client);
    assert!(world.run_until(Duration::from_secs(1), |world| {
        world.server.deadline().is_some()
    }));
    let deadline = world.server.deadline();
    let mut out = |_: Path, _: &[u8]| panic!("too early");
    for _ in 0..100 {
        world.server.handle_timeout(world.now, &mut out);
        assert_eq!(world.server.deadline(), deadline);
    }
}

#[test]
fn garbage_from_anyone_ends_nothing() {
    let mut world = World::connected(21, DtlsRole::Server);
    let mut rng = Seed::new([21; 32]).rng();
    let mut garbage: Vec<Vec<u8>> = ["malformed/stun.jsonl", "malformed/any.jsonl"]
        .into_iter()
        .filter_map(malformed)
        .flatten()
        .collect();
    let genuine = request("server", "client", 1, true);
    for round in 0..2_000 {
        let mut bytes = random_bytes(&mut rng);
        match round % 4 {
            0 => bytes[0] = [0, 1, 20, 21, 22, 23][rng.below(6) as usize],
            1 => {
                let kind = 20 + rng.below(5) as u8;
                bytes = record(kind, rng.below(3) as u16, rng.u32(), &bytes);
            }
            2 => bytes = genuine[..rng.below(genuine.len() as u32) as usize].to_vec(),
            _ => {}
        }
        garbage.push(bytes);
    }
    for bytes in &garbage {
        for source in [client_address(), stranger(1)] {
            // Refused or swallowed; either way nothing may change.
            let _refused = world.deliver(path_from(source), bytes);
            let mut out = |_: Path, _: &[u8]| panic!("answered garbage");
            let stun = world
                .server
                .handle_stun(world.now, path_from(source), bytes, &mut out);
            assert!(stun.is_err());
        }
    }
    assert_eq!(world.closed, None);
    assert!(!world.server.is_proved(path_from(stranger(1))));
    assert_eq!(world.server.send_path(), Some(path_from(client_address())));
    world.close();
    assert!(
        world.run_until(Duration::from_secs(1), |world| world.client.is_closed),
        "DTLS is alive"
    );
}

/// Off-path, with the peer's own address as the source.
#[test]
fn plaintext_after_the_handshake_ends_nothing() {
    for role in ROLES {
        let mut world = World::connected(22, role);
        let path = path_from(client_address());
        for sequence in [0, 5, u32::MAX] {
            for (kind, body) in [
                (21, &[1, 0][..]),
                (21, &[2, 0]),
                (21, &[2, 40]),
                (23, b"data"),
            ] {
                let forged = record(kind, 0, sequence, body);
                assert_eq!(world.deliver(path, &forged), Err(DropReason::RefusedDtls));
                let hidden = [record(20, 0, sequence, &[1]), forged].concat();
                assert_eq!(world.deliver(path, &hidden), Err(DropReason::RefusedDtls));
            }
            let encrypted = record(21, 1, sequence, &[0; 26]);
            assert_eq!(
                world.deliver(path, &encrypted),
                Ok(false),
                "discarded further in"
            );
        }
        assert_eq!(
            world.deliver(path, &null_client_hello()),
            Ok(false),
            "discarded further in"
        );
        world.run_for(Duration::from_secs(1));
        assert_eq!(
            (world.closed, world.client.is_closed),
            (None, false),
            "{role:?}"
        );
        world.close();
        assert!(world.run_until(Duration::from_secs(1), |world| world.client.is_closed));
    }
}

#[test]
fn a_datagram_too_long_for_a_handshake_is_refused() {
    let mut world = World::new(23, DtlsRole::Server);
    let path = path_from(client_address());
    assert!(world.run_until(Duration::from_secs(1), |world| world.server.is_proved(path)));
    let long = vec![22; DTLS_DATAGRAM_BYTES_MAX + 1];
    assert_eq!(world.deliver(path, &long), Err(DropReason::RefusedDtls));
    assert!(world.run_until(Duration::from_secs(2), World::is_connected));
}

/// A peer that never finishes its messages cannot make us keep more than the queue holds.
#[test]
fn fragments_without_end_are_refused_once_the_queue_is_full() {
    let mut world = World::new(24, DtlsRole::Server);
    let path = path_from(client_address());
    assert!(world.run_until(Duration::from_secs(1), |world| world.server.is_proved(path)));
    let fragment = |index: u32| {
        let mut body = vec![1, 0xff, 0xff, 0xff, 0, 0];
        body.extend(&(1 + index * 100).to_be_bytes()[1..]);
        body.extend(&100_u32.to_be_bytes()[1..]);
        body.extend([0; 100]);
        record(22, 0, index, &body)
    };
    let refused = (0..1_000)
        .filter(|&index| world.deliver(path, &fragment(index)).is_err())
        .count();
    assert!(
        refused >= 1_000 - crate::limits::DTLS_DATAGRAMS_MAX,
        "{refused}"
    );
    assert_eq!(world.closed, None);
}

#[test]
fn nothing_is_sent_before_the_first_check() {
    let mut world = World::new(25, DtlsRole::Client);
    let mut out = |_: Path, _: &[u8]| panic!("to whom?");
    assert_eq!(
        (world.server.send_path(), world.server.deadline()),
        (None, None)
    );
    world
        .server
        .handle_timeout(world.now + Duration::from_secs(30), &mut out);
    world.server.close(world.now, &mut out);
}

#[test]
fn a_transport_may_move_to_another_thread_and_is_small() {
    fn is_send<T: Send>() {}
    is_send::<Transport>();
    is_send::<Arc<Identity>>();
    assert!(size_of::<Transport>() <= 640, "{}", size_of::<Transport>());
}

#[test]
fn two_identities_differ() {
    let fingerprint = || Identity::generate().unwrap().fingerprint();
    assert_ne!(fingerprint(), fingerprint());
}

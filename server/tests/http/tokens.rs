//! Row W14 and what tokens guard elsewhere.

use std::path::PathBuf;

use antiphon_core::sdp::{Offer, Purpose};
use antiphon_server::auth::{Access, Caller};
use antiphon_server::sessions::Draft;

use crate::offers::{self, UFRAG, fragment};
use crate::rig::{FRAGMENT, Rig, SDP};

const ANN: &str = "ann-may-publish-in-the-hall-0123456789";
const BOB: &str = "bob-may-subscribe-everywhere-0123456789";
const CID: &str = "cid-administers-the-hall-only-0123456789";
const DOT: &str = "dot-administers-everything-0123456789abc";
const OLD: &str = "old-has-expired-long-ago-0123456789abcde";
const EVE: &str = "eve-publishes-in-the-cellar-0123456789ab";

fn file() -> String {
    let entry = |token: &str, scopes: &str, rooms: &str, more: &str| {
        format!("[[token]]\ntoken = \"{token}\"\nscopes = [{scopes}]\nrooms = [{rooms}]\n{more}\n")
    };
    [
        entry(
            ANN,
            "\"publish\"",
            "\"hall\"",
            "expires = 2999-01-01T00:00:00Z",
        ),
        entry(BOB, "\"subscribe\"", "\"*\"", ""),
        entry(CID, "\"admin\"", "\"hall\"", ""),
        entry(DOT, "\"admin\"", "\"*\"", ""),
        entry(OLD, "\"admin\"", "\"*\"", "expires = 2020-01-01T00:00:00Z"),
        entry(EVE, "\"publish\"", "\"cellar\"", ""),
    ]
    .concat()
}

/// A server that asks for the tokens above.
async fn guarded(test: &str) -> Rig {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.tokens.toml"));
    std::fs::write(&path, file()).expect("the test folder can be written");
    Rig::start(&format!("token_file = '{}'", path.display())).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn w14_missing_unknown_and_expired_tokens_are_401_and_short_ones_403() {
    let rig = guarded("w14").await;
    let offer = offers::sendonly();
    let reply = rig.post("/whip/hall", &offer).await;
    reply.problem(401);
    assert_eq!(
        reply.header("www-authenticate"),
        "Bearer realm=\"antiphon\""
    );

    let cases = [
        ("Bearer ", 401),
        ("Basic YTpi", 401),
        (&bearer("no-such-token-0123456789abcdef0123456789"), 401),
        (&bearer(&ANN[..ANN.len() - 1]), 401),
        (&bearer(&format!("{ANN}x")), 401),
        (&bearer(OLD), 401),
        (&bearer(BOB), 403),
        (&bearer(EVE), 403),
        (&bearer(ANN), 201),
        (&format!("bearer {ANN}"), 201),
        (&bearer(CID), 201),
        (&bearer(DOT), 201),
    ];
    for (value, status) in cases {
        let headers = [SDP, ("Authorization", value)];
        let reply = rig
            .send("POST", "/whip/hall?name=ann", &headers, &offer)
            .await;
        assert_eq!(reply.status, status, "{value}");
        assert_eq!(reply.has("www-authenticate"), status != 201);
        assert!(
            !reply.body.contains("0123456789abc"),
            "no answer repeats a token"
        );
    }
    let twice = [
        SDP,
        ("Authorization", &bearer(ANN)),
        ("Authorization", &bearer(DOT)),
    ];
    rig.send("POST", "/whip/hall", &twice, &offer)
        .await
        .problem(400);
    let in_url = format!("/whip/hall?access_token={ANN}");
    let detail = rig.post(&in_url, &offer).await.problem(400);
    assert!(!detail.contains(ANN), "{detail}");
}

#[tokio::test]
async fn w14_preflight_and_get_ask_for_no_token() {
    let rig = guarded("w14_preflight").await;
    for path in [
        "/whip",
        "/whip/hall",
        "/whep/hall",
        "/session/any",
        "/api/rooms",
    ] {
        assert_eq!(rig.send("OPTIONS", path, &[], "").await.status, 200);
    }
    assert_eq!(rig.get("/whip/hall").await.status, 204);
    assert_eq!(rig.get("/health").await.status, 200);
    assert_eq!(rig.get("/info").await.json()["tokens"], true);
}

/// Each caller, and what each path answers: the scope and the room of the token decide.
#[tokio::test]
async fn each_path_asks_for_its_scope_and_room() {
    let rig = guarded("scopes").await;
    let table = [
        ("/api/rooms", [401, 403, 200, 200, 200, 403]),
        ("/api/rooms/hall", [401, 403, 404, 404, 404, 403]),
        ("/api/rooms/cellar", [401, 403, 404, 403, 404, 403]),
        ("/api/sessions", [401, 403, 403, 200, 200, 403]),
        ("/api/sessions/0-1-1/stats", [401, 404, 404, 404, 404, 404]),
        ("/metrics", [401, 403, 403, 200, 200, 403]),
    ];
    for (path, statuses) in table {
        for (token, status) in ["", ANN, BOB, CID, DOT, EVE].into_iter().zip(statuses) {
            let value = bearer(token);
            let headers: &[(&str, &str)] = if token.is_empty() {
                &[]
            } else {
                &[("Authorization", &value)]
            };
            let reply = rig.send("GET", path, headers, "").await;
            assert_eq!(reply.status, status, "{path} for {token:?}");
        }
    }
}

/// Nobody may keep a call open because the token ran out first.
#[tokio::test]
async fn s8_whoever_opened_a_session_may_end_it_after_the_token_has_expired() {
    let rig = guarded("s8").await;
    let (mut paths, offer) = (Vec::new(), offers::sendrecv());
    for owner in [OLD, ANN] {
        let place = [ANN, BOB, CID, DOT, OLD, EVE]
            .iter()
            .position(|token| *token == owner);
        let owner = Caller::Token(place.expect("it is in the file"));
        let offer = Offer::parse(offer.as_bytes()).expect("a good offer");
        let plan = offer
            .negotiate(Purpose::Echo)
            .expect("answered")
            .plan()
            .clone();
        let draft = Draft::new(None, owner, &plan);
        let opened = rig.app.open(draft, plan).await.expect("there is room");
        let directory = rig.app.directory();
        let record = directory
            .sessions
            .by_id(opened.session)
            .expect("it is there");
        paths.push(format!("/session/{}", record.secret.as_str()));
    }
    let old = bearer(OLD);
    let headers = [FRAGMENT, ("Authorization", old.as_str()), ("If-Match", "*")];
    rig.send("GET", &paths[0], &headers, "").await.problem(401);
    rig.send("PATCH", &paths[0], &headers, &fragment(UFRAG))
        .await
        .problem(401);
    rig.send("DELETE", &paths[1], &headers, "")
        .await
        .problem(401);
    let reply = rig.send("DELETE", &paths[0], &headers, "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    rig.settle().await;
    assert_eq!(rig.shard().sessions().len(), 1);
}

#[tokio::test]
async fn s10_a_session_of_another_tenant_is_404_and_stays() {
    let rig = guarded("s10").await;
    let ann = bearer(ANN);
    let headers = [SDP, ("Authorization", ann.as_str())];
    let reply = rig
        .send("POST", "/whip/hall?name=ann", &headers, &offers::sendonly())
        .await;
    let (path, tag) = (reply.location(), reply.header("etag").to_owned());

    rig.send("DELETE", &path, &[], "").await.problem(401);
    for other in [BOB, EVE] {
        let other = bearer(other);
        let headers = [("Authorization", other.as_str())];
        rig.send("DELETE", &path, &headers, "").await.problem(404);
        rig.send("GET", &path, &headers, "").await.problem(404);
        let headers = [FRAGMENT, headers[0], ("If-Match", tag.as_str())];
        rig.send("PATCH", &path, &headers, &fragment(UFRAG))
            .await
            .problem(404);
    }
    assert_eq!(
        rig.shard().sessions().len(),
        1,
        "the session's URL alone is not enough"
    );

    let headers = [
        FRAGMENT,
        ("Authorization", ann.as_str()),
        ("If-Match", tag.as_str()),
    ];
    assert_eq!(
        rig.send("PATCH", &path, &headers, &fragment(UFRAG))
            .await
            .status,
        204
    );
    let cid = bearer(CID);
    let reply = rig
        .send("DELETE", &path, &[("Authorization", cid.as_str())], "")
        .await;
    assert_eq!(reply.status, 200, "an administrator of the room may");
}

#[tokio::test]
async fn an_administrator_of_one_room_cannot_touch_sessions_outside_it() {
    let rig = guarded("outside").await;
    let ann = bearer(ANN);
    let headers = [SDP, ("Authorization", ann.as_str())];
    let echo = rig
        .send("POST", "/whip", &headers, &offers::sendrecv())
        .await
        .location();
    let (cid, dot) = (bearer(CID), bearer(DOT));
    rig.send("DELETE", &echo, &[("Authorization", cid.as_str())], "")
        .await
        .problem(404);
    let reply = rig
        .send("DELETE", &echo, &[("Authorization", dot.as_str())], "")
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn s10_an_administrator_of_one_room_sees_only_its_sessions() {
    let rig = guarded("sees").await;
    let mut ids = Vec::new();
    for (token, path) in [(ANN, "/whip/hall"), (EVE, "/whip/cellar"), (ANN, "/whip")] {
        let value = bearer(token);
        let headers = [SDP, ("Authorization", value.as_str())];
        let offer = offers::sendrecv();
        rig.send("POST", path, &headers, &offer).await.location();
        ids.push(rig.shard().last().to_string());
    }
    let read = async |token: &str, path: &str| {
        let value = bearer(token);
        rig.send("GET", path, &[("Authorization", &value)], "")
            .await
    };
    for (token, seen) in [(CID, &ids[..1]), (DOT, &ids[..])] {
        let listed = read(token, "/api/sessions").await.json();
        let listed = listed["sessions"].as_array().expect("a list");
        let listed: Vec<_> = listed.iter().map(|one| one["id"].as_str()).collect();
        let seen: Vec<_> = seen.iter().map(|id| Some(id.as_str())).collect();
        assert_eq!(listed, seen, "{token}");
    }
    for (token, statuses) in [
        (CID, [200, 404, 404]),
        (DOT, [200; 3]),
        (ANN, [404; 3]),
        (BOB, [404; 3]),
    ] {
        for (id, status) in ids.iter().zip(statuses) {
            let reply = read(token, &format!("/api/sessions/{id}/stats")).await;
            assert_eq!(reply.status, status, "{token} {id}");
        }
    }
}

/// T22: what a token file may say.
#[test]
fn a_wrong_token_file_is_refused_by_entry_and_never_quoted() {
    let good = file();
    assert!(Access::parse(&good).is_ok());
    let secret = "abcdefghijklmnopqrstuvwxyz0123456789";
    let entry = |token: &str, rest: &str| format!("[[token]]\ntoken = \"{token}\"\n{rest}\n");
    let usual = "scopes = [\"publish\"]\nrooms = [\"*\"]";
    let cases = [
        (String::new(), "token"),
        (entry(&secret[..31], usual), "31 characters"),
        (
            entry("spaces are not sendable in a header..", usual),
            "letters",
        ),
        (entry(secret, "scopes = []\nrooms = [\"*\"]"), "scopes"),
        (entry(secret, "scopes = [\"publish\"]\nrooms = []"), "rooms"),
        (
            entry(secret, "scopes = [\"root\"]\nrooms = [\"*\"]"),
            "root",
        ),
        (
            entry(secret, "scopes = [\"publish\"]\nrooms = [\"a b\"]"),
            "1 to 64",
        ),
        (
            entry(secret, &format!("{usual}\nexpires = 2027-01-01")),
            "expires",
        ),
        (entry(secret, &format!("{usual}\nexpiry = 1")), "expiry"),
        (
            format!("{good}{0}{0}", entry(secret, usual)),
            "token 7 and token 8",
        ),
        (good + &entry(&secret[..31], usual), "token 7"),
        (format!("token = \"{secret}"), "line 1"),
    ];
    for (text, expected) in cases {
        let error = Access::parse(&text).expect_err(expected);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(&secret[..31]), "{error}");
    }
}

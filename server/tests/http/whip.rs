//! WHIP endpoint: rows W1 to W19.

use antiphon_core::message::{CommandError, PlanFlaw, Role};

use crate::offers::{self, offer, with_lines};
use crate::rig::{Rig, SDP};

#[tokio::test]
async fn w1_a_post_is_answered_201_with_answer_type_and_location() {
    let rig = Rig::start("").await;
    let reply = rig.post("/whip/hall?name=ann", &offers::sendonly()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/sdp");
    assert!(reply.header("location").starts_with("/session/"));
    assert_eq!(
        reply.header("accept-patch"),
        "application/trickle-ice-sdpfrag"
    );
    assert!(reply.body.starts_with("v=0\r\n") && reply.body.contains("a=ice-ufrag:fake1\r\n"));
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
}

#[tokio::test]
async fn w1_parameters_and_case_of_the_content_type_do_not_matter() {
    let rig = Rig::start("").await;
    for kind in ["application/sdp; charset=utf-8", "Application/SDP"] {
        let headers = [("Content-Type", kind)];
        let reply = rig
            .send("POST", "/whip", &headers, &offers::sendrecv())
            .await;
        assert_eq!(reply.status, 201, "{kind}");
    }
}

#[tokio::test]
async fn w2_a_wrong_content_type_is_415_and_a_malformed_offer_400() {
    let rig = Rig::start("").await;
    for headers in [&[("Content-Type", "text/plain")][..], &[]] {
        let reply = rig
            .send("POST", "/whip/hall", headers, &offers::sendonly())
            .await;
        assert!(reply.problem(415).contains("application/sdp"));
    }
    for broken in [
        "",
        "hello",
        "v=1\r\n",
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=audio\r\n",
    ] {
        rig.post("/whip/hall", broken).await.problem(400);
    }
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn w3_a_room_answers_recvonly_to_senders_and_refuses_the_others() {
    let rig = Rig::start("").await;
    for direction in ["sendonly", "sendrecv"] {
        let reply = rig
            .post("/whip/hall", &offer(&[("audio", "0", direction)]))
            .await;
        assert_eq!(reply.status, 201);
        assert!(reply.body.contains("a=recvonly\r\n") && !reply.body.contains("a=sendrecv"));
    }
    for direction in ["recvonly", "inactive"] {
        let reply = rig
            .post("/whip/hall", &offer(&[("audio", "0", direction)]))
            .await;
        reply.problem(422);
    }
}

/// The stated exception to W3.
#[tokio::test]
async fn w3_the_echo_endpoint_answers_sendrecv_with_sendrecv() {
    let rig = Rig::start("").await;
    let reply = rig.post("/whip", &offers::sendrecv()).await;
    assert_eq!(reply.status, 201);
    assert!(reply.body.contains("a=sendrecv\r\n"));
    assert_eq!(rig.shard().sessions()[0].1, Role::Echo);
}

#[tokio::test]
async fn w4_the_etag_is_strong_and_each_sessions_own() {
    let rig = Rig::start("").await;
    let mut tags = Vec::new();
    for _ in 0..3 {
        let tag = rig
            .post("/whip", &offers::sendrecv())
            .await
            .header("etag")
            .to_owned();
        assert!(
            tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'),
            "{tag}"
        );
        assert!(!tags.contains(&tag));
        tags.push(tag);
    }
}

#[tokio::test]
async fn w5_the_answer_carries_every_candidate_of_the_shard() {
    let rig = Rig::start("announce = [\"192.0.2.1\", \"2001:db8::1\", \"127.0.0.1\"]").await;
    let answer = rig.post("/whip", &offers::sendrecv()).await.body;
    let candidates: Vec<&str> = answer
        .lines()
        .filter(|line| line.contains("candidate:"))
        .collect();
    assert_eq!(candidates.len(), 3, "{candidates:?}");
    for address in ["192.0.2.1 40000", "2001:db8::1 40000", "127.0.0.1 40000"] {
        assert!(
            candidates.iter().any(|line| line.contains(address)),
            "{address}"
        );
    }
    assert!(
        candidates[0].contains("127.0.0.1"),
        "the address the client has reached comes first"
    );
    assert!(answer.contains("a=end-of-candidates"));
}

#[tokio::test]
async fn w6_options_is_200_with_accept_post_and_asks_for_no_token() {
    let rig = Rig::start("").await;
    let headers = [
        ("Origin", "https://page.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    for path in ["/whip", "/whip/hall", "/whep/hall", "/whep/hall/ann"] {
        let reply = rig.send("OPTIONS", path, &headers, "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("accept-post"), "application/sdp");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert!(
            reply
                .header("access-control-allow-methods")
                .contains("POST")
        );
    }
    let reply = rig.send("OPTIONS", "/session/any", &headers, "").await;
    assert!(
        reply
            .header("access-control-allow-methods")
            .contains("PATCH")
    );
    assert_eq!(
        reply.header("accept-patch"),
        "application/trickle-ice-sdpfrag"
    );
}

#[tokio::test]
async fn w7_a_page_of_another_origin_may_send_and_read_what_it_needs() {
    let rig = Rig::start("").await;
    let preflight = rig
        .send("OPTIONS", "/whip", &[("Origin", "https://a.example")], "")
        .await;
    for name in ["Authorization", "Content-Type", "If-Match"] {
        assert!(
            preflight
                .header("access-control-allow-headers")
                .contains(name)
        );
    }
    let headers = [SDP, ("Origin", "https://a.example")];
    let reply = rig
        .send("POST", "/whip", &headers, &offers::sendrecv())
        .await;
    let exposed = reply.header("access-control-expose-headers");
    let wanted = [
        "Location",
        "ETag",
        "Link",
        "Accept-Patch",
        "Accept-Post",
        "WWW-Authenticate",
    ];
    for name in wanted {
        assert!(exposed.contains(name), "{name}");
    }
    let problem = rig
        .send("POST", "/whip", &[("Origin", "https://a.example")], "")
        .await;
    assert_eq!(
        problem.header("access-control-allow-origin"),
        "*",
        "errors can be read too"
    );
    assert!(!reply.has("access-control-allow-credentials"));
}

#[tokio::test]
async fn w7_an_allow_list_answers_only_the_origins_on_it() {
    let rig = Rig::start("cors_origin = [\"https://a.example\"]").await;
    let reply = rig
        .send("OPTIONS", "/whip", &[("Origin", "https://a.example")], "")
        .await;
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://a.example"
    );
    assert!(reply.header("vary").eq_ignore_ascii_case("origin"));
    for origin in [
        "https://b.example",
        "https://a.example.evil",
        "http://a.example",
        "null",
    ] {
        let reply = rig
            .send("OPTIONS", "/whip", &[("Origin", origin)], "")
            .await;
        assert!(!reply.has("access-control-allow-origin"), "{origin}");
        assert!(!reply.has("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn w8_get_and_head_have_no_content_and_other_methods_are_405_with_allow() {
    let rig = Rig::start("").await;
    for path in ["/whip", "/whip/hall", "/whep/hall", "/whep/hall/ann"] {
        let reply = rig.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
        for method in ["PUT", "DELETE", "PATCH"] {
            let reply = rig.send(method, path, &[], "").await;
            reply.problem(405);
            assert_eq!(reply.header("allow"), "POST, GET, HEAD, OPTIONS");
        }
    }
    assert_eq!(rig.send("HEAD", "/whip", &[], "").await.status, 204);
    let session = rig.post("/whip", &offers::sendrecv()).await.location();
    assert_eq!(rig.get(&session).await.status, 204);
    assert_eq!(rig.send("HEAD", &session, &[], "").await.status, 204);
    let reply = rig
        .send("POST", &session, &[SDP], &offers::sendrecv())
        .await;
    reply.problem(405);
    assert_eq!(reply.header("allow"), "PATCH, DELETE, GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn w9_more_sessions_than_allowed_are_503_with_retry_after() {
    let rig = Rig::start("max_sessions = 2").await;
    let first = rig.post("/whip", &offers::sendrecv()).await.location();
    rig.post("/whip", &offers::sendrecv()).await.location();
    let reply = rig.post("/whip", &offers::sendrecv()).await;
    assert!(reply.problem(503).contains("2 sessions"));
    assert!(reply.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(rig.send("DELETE", &first, &[], "").await.status, 200);
    rig.settle().await;
    rig.post("/whip", &offers::sendrecv()).await.location();
}

#[tokio::test]
async fn w9_a_full_command_lane_is_503_and_leaves_nothing_behind() {
    let rig = Rig::with_shards("", 1, 0).await;
    let reply = rig.post("/whip/hall", &offers::sendonly()).await;
    reply.problem(503);
    assert!(reply.has("retry-after"));
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn w9_a_shard_that_rejects_is_503_and_leaves_nothing_behind() {
    let rig = Rig::start("").await;
    let full = CommandError::SessionsExhausted { max: 7 };
    rig.shard().set(|habits| habits.rejects = Some(full));
    rig.post("/whip/hall", &offers::sendonly())
        .await
        .problem(503);
    rig.shard()
        .set(|habits| habits.rejects = Some(CommandError::InvalidPlan(PlanFlaw::NoCodec)));
    assert!(
        rig.post("/whip/hall", &offers::sendonly())
            .await
            .problem(422)
            .contains(&PlanFlaw::NoCodec.to_string())
    );
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn w10_an_offer_beyond_one_audio_and_one_video_is_refused_whole() {
    let rig = Rig::start("").await;
    for path in ["/whip/hall", "/whip"] {
        for kind in ["video", "audio"] {
            let two = offer(&[(kind, "0", "sendrecv"), (kind, "1", "sendrecv")]);
            rig.post(path, &two).await.problem(422);
        }
        let two_streams = offers::sendonly_video()
            .replace("a=mid:0", "a=mid:0\r\na=msid:one a")
            .replace("a=mid:1", "a=mid:1\r\na=msid:two b");
        let detail = rig.post(path, &two_streams).await.problem(422);
        assert!(detail.contains("one MediaStream"), "{detail}");
    }
    assert_eq!(rig.tables(), (0, 0, 0));
    let reply = rig.post("/whip/hall", &offers::sendonly_video()).await;
    assert_eq!(reply.status, 201);
}

#[tokio::test]
async fn w11_the_answer_bundles_muxes_and_waits_for_the_handshake() {
    let rig = Rig::start("").await;
    let answer = rig.post("/whip/hall", &offers::sendonly_video()).await.body;
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
    assert_eq!(answer.matches("a=rtcp-mux\r\n").count(), 2);
    assert_eq!(answer.matches("a=rtcp-mux-only\r\n").count(), 2);
    assert_eq!(answer.matches("a=setup:passive\r\n").count(), 2);
    let active = offers::sendonly().replace("actpass", "active");
    assert!(
        rig.post("/whip/hall", &active)
            .await
            .body
            .contains("a=setup:passive")
    );
    let passive = offers::sendonly().replace("actpass", "passive");
    assert!(
        rig.post("/whip/hall", &passive)
            .await
            .body
            .contains("a=setup:active")
    );
}

#[tokio::test]
async fn w12_an_accepted_simulcast_offer_is_answered_as_simulcast() {
    let rig = Rig::start("").await;
    let rid = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    let lines = [
        rid,
        "a=rid:q send",
        "a=rid:h send",
        "a=rid:f send",
        "a=simulcast:send q;h;f",
    ];
    let offer = with_lines(&[("video", "0", "sendonly")], &lines);
    let reply = rig.post("/whip/hall", &offer).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(reply.body.contains("a=simulcast:recv "), "{}", reply.body);
    assert!(reply.body.contains("a=rid:") && reply.body.contains(" recv"));
    assert!(!rig.shard().plan_of_last().media[0].rids.is_empty());
}

#[tokio::test]
async fn w13_without_configured_ice_servers_there_is_no_link() {
    let rig = Rig::start("").await;
    assert!(!rig.post("/whip", &offers::sendrecv()).await.has("link"));
    assert!(!rig.send("OPTIONS", "/whip", &[], "").await.has("link"));
}

#[tokio::test]
async fn w15_a_flood_is_429_with_retry_after_and_reading_stays_possible() {
    let rig = Rig::start("rate_limit = 1").await;
    let mut refused = 0;
    for _ in 0..15 {
        let reply = rig.send("DELETE", "/session/none", &[], "").await;
        if reply.status == 429 {
            refused += 1;
            reply.problem(429);
            assert!(reply.has("retry-after"));
        } else {
            reply.problem(404);
        }
    }
    assert!(
        (4..=5).contains(&refused),
        "a burst of ten, then one a second: {refused}"
    );
    rig.post("/whip", &offers::sendrecv()).await.problem(429);
    assert_eq!(rig.get("/health").await.status, 200);
}

#[tokio::test]
async fn w15_reading_from_shards_is_limited_ten_times_higher() {
    let rig = Rig::start("rate_limit = 1").await;
    let (mut served, mut refused) = (0, 0);
    for number in 0..200 {
        let path = ["/metrics", "/api/sessions/none/stats"][number % 2];
        match rig.get(path).await.status {
            429 => refused += 1,
            _ => served += 1,
        }
    }
    assert!(
        served >= 100 && refused > 0,
        "a burst of a hundred: {served} and {refused}"
    );
    assert_eq!(rig.get("/api/rooms").await.status, 200);
    rig.post("/whip", &offers::sendrecv()).await.location();
}

#[tokio::test]
async fn w15_session_urls_hold_128_random_bits() {
    let rig = Rig::start("").await;
    let mut seen = Vec::new();
    for _ in 0..20 {
        let location = rig.post("/whip", &offers::sendrecv()).await.location();
        let secret = location
            .strip_prefix("/session/")
            .expect("an absolute path")
            .to_owned();
        assert_eq!(secret.len(), 32);
        assert!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!seen.contains(&secret));
        seen.push(secret);
    }
    let listed = rig.get("/api/sessions").await.body;
    assert!(
        seen.iter().all(|secret| !listed.contains(secret)),
        "the list shows no URL"
    );
}

#[tokio::test]
async fn w16_errors_are_problem_documents() {
    let rig = Rig::start("").await;
    rig.get("/nowhere").await.problem(404);
    rig.post("/whip", "hello").await.problem(400);
    rig.send("PUT", "/whip", &[], "").await.problem(405);
    rig.send("POST", "/health", &[], "").await.problem(405);
}

/// What fits no handler is refused before any handler runs.
#[tokio::test]
async fn w16_so_are_refusals_of_a_url() {
    let rig = Rig::start("").await;
    for path in [
        "/whip/%ff",
        "/whep/%ff",
        "/whep/hall/%ff",
        "/whip/%c3%28?name=a",
    ] {
        let detail = rig.post(path, &offers::sendonly()).await.problem(400);
        assert!(detail.contains("UTF-8"), "{path}: {detail}");
    }
    for path in [
        "/session/%ff",
        "/api/rooms/%ff",
        "/api/rooms/%ff/events",
        "/api/sessions/%ff/stats",
    ] {
        rig.get(path).await.problem(400);
    }
    rig.patch("/session/%ff", "*", "").await.problem(400);
    rig.send("DELETE", "/session/%ff", &[], "")
        .await
        .problem(400);
    let twice = rig
        .post("/whip/hall?name=a&name=b", &offers::sendonly())
        .await;
    assert!(twice.problem(400).contains("duplicate field `name`"));
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn w17_extensions_are_not_required_and_unknown_ones_ignored() {
    let rig = Rig::start("").await;
    let headers = [
        SDP,
        ("Link", "<https://x.example/ext>; rel=\"urn:example:ext\""),
    ];
    let reply = rig
        .send("POST", "/whip", &headers, &offers::sendrecv())
        .await;
    assert_eq!(reply.status, 201);
}

#[tokio::test]
async fn a_parameter_that_an_endpoint_does_not_know_is_400_and_named() {
    let rig = Rig::start("").await;
    for (path, unknown, allowed) in [
        ("/whip?agnet=parrot", "agnet", "`agent` or `eagerness`"),
        ("/whip?name=ann", "name", "`agent` or `eagerness`"),
        ("/whip/hall?nam=ann", "nam", "`name` or `agent`"),
        ("/whep/hall?mixed=1", "mixed", "`mix` or `session`"),
        ("/whep/hall/ann?name=bob", "name", "`mix` or `session`"),
    ] {
        let detail = rig.post(path, &offers::sendrecv()).await.problem(400);
        assert!(detail.contains(&format!("`{unknown}`")), "{detail}");
        assert!(detail.contains(allowed), "{detail}");
    }
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn w18_location_is_an_absolute_path_whatever_a_proxy_header_says() {
    let rig = Rig::start("").await;
    let headers = [
        SDP,
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "host=evil.example;proto=https"),
    ];
    let reply = rig
        .send("POST", "/whip", &headers, &offers::sendrecv())
        .await;
    assert!(reply.header("location").starts_with("/session/"));
    assert!(!format!("{reply:?}").contains("evil.example"));
}

#[tokio::test]
async fn w19_a_body_beyond_64_kib_is_413() {
    let rig = Rig::start("").await;
    for size in [65_537, 1 << 20] {
        let body = "a".repeat(size);
        let reply = rig.send("POST", "/whip", &[SDP], &body).await;
        assert!(reply.problem(413).contains("65536"));
    }
    let mut largest = offers::sendrecv();
    while largest.len() < 60_000 {
        largest += &format!("a=x-padding:{}\r\n", "p".repeat(400));
    }
    assert_eq!(rig.post("/whip", &largest).await.status, 201);
}

#[tokio::test]
async fn a_name_that_breaks_the_rule_is_400_naming_the_rule() {
    let rig = Rig::start("").await;
    let long = "x".repeat(65);
    let bad = [
        "/whip/b%C3%A4d",
        &format!("/whip/{long}"),
        "/whip/hall?name=",
        "/whip/a%0d%0ab",
        "/whip/%2e%2e",
        "/whip/hall?name=.",
    ];
    for path in bad {
        let detail = rig.post(path, &offers::sendonly()).await.problem(400);
        assert!(
            detail.contains("1 to 64 characters of A-Z a-z 0-9 _ . -"),
            "{path}: {detail}"
        );
    }
    let fits = format!("/whip/{}?name=A-z_0.9", "x".repeat(64));
    assert_eq!(rig.post(&fits, &offers::sendonly()).await.status, 201);
}

//! Session URL: rows S1 to S11.

use antiphon_core::message::{CloseReason, CommandError};

use crate::offers::{self, UFRAG, fragment};
use crate::rig::{FRAGMENT, Rig};

/// A session and its tag.
async fn session(rig: &Rig) -> (String, String) {
    let reply = rig.post("/whip", &offers::sendrecv()).await;
    (reply.location(), reply.header("etag").to_owned())
}

#[tokio::test]
async fn s1_another_type_is_415_and_a_malformed_fragment_400() {
    let rig = Rig::start("").await;
    let (path, tag) = session(&rig).await;
    for kind in ["application/sdp", "text/plain"] {
        let headers = [("Content-Type", kind), ("If-Match", tag.as_str())];
        rig.send("PATCH", &path, &headers, &fragment(UFRAG))
            .await
            .problem(415);
    }
    for broken in [
        "",
        "hello",
        "a=ice-ufrag:only\r\n",
        "a=ice-ufrag:\r\na=ice-pwd:\r\n",
    ] {
        let reply = rig.patch(&path, &tag, broken).await;
        assert!(
            reply.status == 400 || reply.status == 422,
            "{broken:?}: {reply:?}"
        );
        reply.problem(reply.status);
    }
}

/// Both are implemented, so neither is refused with 422.
#[tokio::test]
async fn s2_trickle_and_restart_are_both_supported() {
    let rig = Rig::start("").await;
    let (path, tag) = session(&rig).await;
    assert_eq!(rig.patch(&path, &tag, &fragment(UFRAG)).await.status, 204);
    assert_eq!(rig.patch(&path, "*", &fragment("else")).await.status, 200);
}

#[tokio::test]
async fn s3_trickle_is_204_without_body_or_etag_and_odd_candidates_are_dropped() {
    let rig = Rig::start("").await;
    let (path, tag) = session(&rig).await;
    let odd = "a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
               a=candidate:3 1 udp 1 host.invalid 9 typ host\r\n\
               a=candidate:4 1 udp 1 169.254.169.254 80 typ host\r\n";
    for body in [fragment(UFRAG), fragment(UFRAG) + odd] {
        let reply = rig.patch(&path, &tag, &body).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
        assert!(!reply.has("etag"));
    }
}

#[tokio::test]
async fn s4_if_match_is_required_and_compared() {
    let rig = Rig::start("").await;
    let (path, tag) = session(&rig).await;
    rig.send("PATCH", &path, &[FRAGMENT], &fragment(UFRAG))
        .await
        .problem(428);
    let unquoted = tag.trim_matches('"');
    let weak = format!("W/{tag}");
    for wrong in ["\"other\"", unquoted, &weak] {
        rig.patch(&path, wrong, &fragment(UFRAG)).await.problem(412);
    }
    let list = format!("\"other\", {tag}");
    for right in [tag.as_str(), &list, "*", "\"*\""] {
        assert_eq!(
            rig.patch(&path, right, &fragment(UFRAG)).await.status,
            204,
            "{right}"
        );
    }
}

#[tokio::test]
async fn s5_new_credentials_restart_ice_with_new_tag_and_our_new_credentials() {
    let rig = Rig::start("").await;
    let answer = rig.post("/whip", &offers::sendrecv()).await;
    let (path, tag) = (answer.location(), answer.header("etag").to_owned());
    for star in ["*", "\"*\""] {
        let reply = rig
            .patch(&path, star, &fragment(&format!("new{}", star.len())))
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            "application/trickle-ice-sdpfrag"
        );
        let new = reply.header("etag");
        assert!(new.starts_with('"') && new != tag);
        assert!(reply.body.contains("a=ice-ufrag:fake100") && reply.body.contains("a=candidate:"));
        for line in answer.body.lines().filter(|line| {
            ["a=ice-options", "a=ice-lite", "a=ice-pacing"]
                .iter()
                .any(|ice| line.starts_with(ice))
        }) {
            assert!(reply.body.contains(line), "{line}");
        }
        assert_eq!(
            rig.patch(&path, new, &fragment(&format!("new{}", star.len())))
                .await
                .status,
            204
        );
    }
}

#[tokio::test]
async fn s6_a_failed_restart_keeps_the_session_and_its_tag() {
    let rig = Rig::start("").await;
    let (path, tag) = session(&rig).await;
    rig.shard()
        .set(|habits| habits.rejects = Some(CommandError::Draining));
    let reply = rig.patch(&path, "*", &fragment("else")).await;
    reply.problem(503);
    assert!(!reply.has("etag"));
    assert_eq!(
        rig.patch(&path, &tag, &fragment(UFRAG)).await.status,
        204,
        "the old tag holds"
    );
    assert_eq!(rig.shard().sessions().len(), 1);
}

#[tokio::test]
async fn s7_a_late_trickle_of_the_old_ice_session_is_412_and_changes_nothing() {
    let rig = Rig::start("").await;
    let (path, old) = session(&rig).await;
    let new = rig
        .patch(&path, "*", &fragment("else"))
        .await
        .header("etag")
        .to_owned();
    rig.patch(&path, &old, &fragment(UFRAG)).await.problem(412);
    assert_eq!(rig.patch(&path, &new, &fragment("else")).await.status, 204);
}

#[tokio::test]
async fn s7_two_restarts_at_once_do_not_cross() {
    let rig = Rig::start("").await;
    let (path, tag) = session(&rig).await;
    let (one_body, two_body) = (fragment("one1"), fragment("two2"));
    let (one, two) = tokio::join!(
        rig.patch(&path, &tag, &one_body),
        rig.patch(&path, &tag, &two_body)
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(
        statuses,
        [200, 412],
        "the second names a tag that is no more"
    );
}

#[tokio::test]
async fn s8_delete_ends_the_session_whatever_if_match_says_and_again_is_404() {
    let rig = Rig::start("").await;
    let (path, _) = session(&rig).await;
    let id = rig.shard().last();
    let reply = rig
        .send("DELETE", &path, &[("If-Match", "\"other\"")], "")
        .await;
    assert_eq!(reply.status, 200);
    rig.send("DELETE", &path, &[], "").await.problem(404);
    rig.settle().await;
    assert_eq!(rig.shard().closed(), [(id, CloseReason::Requested)]);
    assert_eq!(rig.tables(), (0, 0, 0), "everything is freed");
}

#[tokio::test]
async fn s9_a_session_whose_consent_expired_is_gone() {
    let rig = Rig::start("").await;
    let path = rig.publish("hall", "ann").await;
    rig.shard()
        .end(rig.shard().last(), CloseReason::ConsentExpired);
    rig.settle().await;
    rig.get(&path).await.problem(404);
    assert_eq!(rig.tables(), (0, 0, 0));
    assert!(
        rig.get("/metrics")
            .await
            .body
            .contains("reason=\"consent_expired\"} 1")
    );
}

#[tokio::test]
async fn s10_an_unknown_session_is_404_for_every_method() {
    let rig = Rig::start("").await;
    for path in ["/session/none", "/session/0123456789abcdef0123456789abcdef"] {
        rig.get(path).await.problem(404);
        rig.send("DELETE", path, &[], "").await.problem(404);
        rig.patch(path, "*", &fragment(UFRAG)).await.problem(404);
    }
}

#[tokio::test]
async fn s11_a_patch_is_taken_before_and_after_connecting_and_mdns_names_do_no_harm() {
    let rig = Rig::start("").await;
    rig.shard().set(|habits| habits.connects = false);
    let (path, tag) = session(&rig).await;
    let mdns = fragment(UFRAG).replace("192.0.2.1", "c0ffee00-1111-4222-8333-444455556666.local");
    assert_eq!(rig.patch(&path, &tag, &mdns).await.status, 204);
    rig.shard().connect(rig.shard().last());
    rig.settle().await;
    assert_eq!(rig.patch(&path, &tag, &mdns).await.status, 204);
}

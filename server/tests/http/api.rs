//! Health, info, metrics, sessions and the page.

use crate::offers;
use crate::rig::Rig;

#[tokio::test]
async fn health_says_status_timestamp_version_and_service() {
    let rig = Rig::start("").await;
    let reply = rig.get("/health").await;
    assert_eq!(reply.header("content-type"), "application/json");
    let health = reply.json();
    assert_eq!(
        (&health["status"], &health["service"]),
        (&"ok".into(), &"antiphon".into())
    );
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let timestamp = health["timestamp"].as_str().expect("text");
    assert!(timestamp.starts_with("20") && timestamp.ends_with('Z') && timestamp.len() == 24);
}

#[tokio::test]
async fn info_says_what_a_client_needs() {
    let rig = Rig::with_shards("announce = [\"192.0.2.1\"]", 2, usize::MAX).await;
    let info = rig.get("/info").await.json();
    assert_eq!(info["service"], "antiphon");
    assert_eq!(info["runtime"], "fake");
    let shard = |number, candidate| {
        serde_json::json!({
            "shard": number,
            "port": 40_000 + number,
            "candidates": [candidate],
            "processor": number,
            "receive_buffer_bytes": 212_992,
        })
    };
    let shards = [shard(0, "192.0.2.1:40000"), shard(1, "192.0.2.1:40001")];
    assert_eq!(info["shards"], serde_json::json!(shards));
    assert_eq!(info["endpoints"]["echo"], "/whip");
    assert!(info["version"].is_string());
}

#[tokio::test]
async fn the_front_is_the_page_for_a_browser_and_info_for_a_program() {
    let rig = Rig::start("").await;
    let browser = [(
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    )];
    let page = rig.send("GET", "/", &browser, "").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src")
    );
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert!(page.body.contains("<title>"));
    let program = rig
        .send("GET", "/", &[("Accept", "application/json")], "")
        .await;
    assert_eq!(program.json(), rig.get("/info").await.json());
    assert!(
        rig.get("/")
            .await
            .header("content-type")
            .starts_with("text/html")
    );
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_the_shards_figures() {
    let rig = Rig::with_shards("", 2, usize::MAX).await;
    rig.post("/whip", &offers::sendrecv()).await.location();
    let reply = rig.get("/metrics").await;
    assert_eq!(
        reply.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "antiphon_sessions{shard=\"0\"} 1",
        "antiphon_sessions{shard=\"1\"} 0",
        "antiphon_rtp_received_total{shard=\"1\"} 17",
        "antiphon_drops_total{shard=\"0\",reason=\"authentication_failed\"} 4",
        "antiphon_drops_total{shard=\"0\",reason=\"replayed\"} 0",
        "antiphon_handshakes_total{shard=\"0\",profile=\"AEAD_AES_128_GCM\"} 2",
        "antiphon_http_requests_total{endpoint=\"whip\",status=\"201\"} 1",
        "antiphon_session_setup_seconds_count 1",
        "antiphon_forward_delay_seconds_bucket{le=\"0.00001\",shard=\"0\"} 5",
        "antiphon_forward_delay_seconds_bucket{le=\"0.0001\",shard=\"0\"} 8",
        "antiphon_forward_delay_seconds_bucket{le=\"+Inf\",shard=\"0\"} 9",
        "antiphon_forward_delay_seconds_count{shard=\"0\"} 9",
        "antiphon_forward_delay_seconds_sum{shard=\"0\"} 0.06035",
        "antiphon_socket_losses_total{shard=\"1\",reason=\"receive_buffer_full\"} 0",
        "antiphon_socket_incidents_total{shard=\"0\",kind=\"send_blocked\"} 0",
    ] {
        assert!(
            reply
                .body
                .lines()
                .any(|found| sorted(found) == sorted(line)),
            "{line}\n{}",
            reply.body
        );
    }
    check_prometheus_text(&reply.body);
}

#[tokio::test]
async fn metrics_are_open_metrics_text_for_who_asks_for_it() {
    let rig = Rig::start("").await;
    // As Prometheus asks.
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let reply = rig.send("GET", "/metrics", &[("Accept", accept)], "").await;
    let kind = reply.header("content-type");
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    assert!(reply.body.ends_with("# EOF\n"));
    assert!(
        reply
            .body
            .contains("# TYPE antiphon_rtp_received counter\n")
    );
    let reply = rig
        .send("GET", "/metrics", &[("Accept", "text/plain, */*")], "")
        .await;
    check_prometheus_text(&reply.body);
}

/// Each family of samples is declared right before them, with a help text and a type, once, and under the name
/// of its samples; all end with a line end, and no other comments stand between (Prometheus' text format 0.0.4).
fn check_prometheus_text(text: &str) {
    assert!(text.ends_with('\n'));
    let (mut declared, mut samples) = (Vec::new(), 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").expect(line);
        let (name, help) = help.split_once(' ').expect(line);
        assert!(!help.is_empty() && !declared.contains(&name), "{line}");
        declared.push(name);
        let line = lines.next().expect("a type follows");
        let kind = line.strip_prefix(&format!("# TYPE {name} ")).expect(line);
        let suffixes: &[&str] = match kind {
            "counter" => {
                assert!(name.ends_with("_total"), "{line}");
                &[""]
            }
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("{other} is no type of ours"),
        };
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (left, value) = sample.rsplit_once(' ').expect(sample);
            let found = left.split('{').next().expect("a name");
            let fits = |suffix: &&str| found.strip_suffix(*suffix) == Some(name);
            assert!(suffixes.iter().any(fits), "{sample} under {line}");
            assert!(value.parse::<f64>().is_ok(), "{sample}");
            samples += 1;
        }
    }
    assert!(samples > 30, "{samples}");
}

/// A sample with its labels in order: the format gives them none.
fn sorted(line: &str) -> String {
    let Some((name, rest)) = line.split_once('{') else {
        return line.to_owned();
    };
    let Some((labels, value)) = rest.split_once('}') else {
        return line.to_owned();
    };
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}{value}", labels.join(","))
}

#[tokio::test]
async fn metrics_as_json_hold_the_totals() {
    let rig = Rig::with_shards("", 2, usize::MAX).await;
    rig.post("/whip", &offers::sendrecv()).await.location();
    let reply = rig
        .send("GET", "/metrics", &[("Accept", "application/json")], "")
        .await;
    let metrics = reply.json();
    assert_eq!(
        (&metrics["connections"], &metrics["sessions"]),
        (&1.into(), &1.into())
    );
    assert_eq!(metrics["rtp_received"], 34, "summed over shards");
    let shards = metrics["shards"].as_array().expect("each shard's own");
    let own: Vec<_> = shards
        .iter()
        .map(|shard| (&shard["shard"], &shard["sessions"], &shard["rtp_received"]))
        .collect();
    let expected = [
        (&"0".into(), &1.into(), &17.into()),
        (&"1".into(), &0.into(), &17.into()),
    ];
    assert_eq!(own, expected);
    assert!(
        metrics["uptime"]
            .as_f64()
            .is_some_and(|uptime| uptime >= 0.0)
    );
    assert!(metrics["timestamp"].is_string());
}

#[tokio::test]
async fn sessions_are_listed_by_public_name_and_their_stats_found_by_either() {
    let rig = Rig::start("").await;
    let path = rig.publish("hall", "ann").await;
    let listed = rig.get("/api/sessions").await.json();
    let session = &listed["sessions"][0];
    assert_eq!(session["id"], rig.shard().last().to_string());
    assert_eq!(
        (&session["role"], &session["room"]),
        (&"publish".into(), &"hall".into())
    );
    assert_eq!(
        (&session["participant"], &session["connected"]),
        (&"ann".into(), &true.into())
    );

    let secret = path.rsplit('/').next().expect("the last part");
    for id in [secret, session["id"].as_str().expect("text")] {
        let stats = rig.get(&format!("/api/sessions/{id}/stats")).await.json();
        let track = &stats["tracks"][0];
        assert_eq!(
            (&track["kind"], &track["codec"]),
            (&"audio".into(), &"opus".into())
        );
        assert_eq!(
            (&track["packets"], &track["lost"]),
            (&100.into(), &2.into())
        );
        assert_eq!(
            (&track["bitrate"], &track["jitter"]),
            (&32_000.into(), &0.0015.into())
        );
        assert_eq!(
            (&track["rtt"], &stats["rtt"]),
            (&0.003.into(), &0.003.into())
        );
    }
    for id in ["none", "0-9-9", "99-1-7", "0-1-7-3", "-1-1-1"] {
        rig.get(&format!("/api/sessions/{id}/stats"))
            .await
            .problem(404);
    }
}

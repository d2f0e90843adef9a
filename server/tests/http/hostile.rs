//! T20, T21: floods, bombs, smuggling and slow senders. Each gets a 4xx or is cut; nothing stays.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{PATIENCE, exchange, parse};
use crate::offers;
use crate::rig::{Rig, SDP};

/// The kinds of broken offers, each with the statuses it may get.
fn bombs() -> Vec<(&'static str, String, &'static [u16])> {
    let good = offers::sendrecv();
    let many = |count: usize, line: &str| good.clone() + &format!("{line}\r\n").repeat(count);
    let sections: String = (0..2_000)
        .map(|n| format!("m=audio 9 RTP/AVP 0\r\na=mid:{n}\r\n"))
        .collect();
    let types: String = (0..9_000).map(|n| format!(" {n}")).collect();
    vec![
        ("sections", good.clone() + &sections, &[400, 413, 422]),
        (
            "candidates",
            many(1_000, "a=candidate:1 1 udp 1 192.0.2.1 9 typ host"),
            &[413],
        ),
        ("ssrc lines", many(1_500, "a=ssrc:1 cname:x"), &[413]),
        ("a long line", many(1, &"a=x:".repeat(10_000)), &[413]),
        (
            "payload types",
            format!("{good}m=audio 9 RTP/AVP{types}\r\n"),
            &[400, 413, 422],
        ),
        ("too many bytes", many(2_000, &"a=x:".repeat(10)), &[413]),
        (
            "no credentials",
            good.replace("a=ice", "a=ace"),
            &[400, 422],
        ),
        (
            "no fingerprint",
            good.replace("a=fingerprint", "a=fangerprint"),
            &[400, 422],
        ),
        (
            "not UTF-8 as text",
            good.replace("s=-", "s=\u{0}\u{7f}"),
            &[400, 422, 201],
        ),
        (
            "absent mids",
            good.replace("BUNDLE 0", "BUNDLE 1 2 3"),
            &[400, 422, 201],
        ),
    ]
}

#[tokio::test]
async fn a_thousand_broken_posts_are_each_answered_4xx_at_once() {
    let rig = Rig::start("").await;
    let bombs = bombs();
    let mut slowest = Duration::ZERO;
    for round in 0..100 {
        for (name, body, statuses) in &bombs {
            let began = Instant::now();
            let path = if round % 2 == 0 {
                "/whip"
            } else {
                "/whip/hall"
            };
            let reply = rig.post(path, body).await;
            slowest = slowest.max(began.elapsed());
            assert!(statuses.contains(&reply.status), "{name}: {reply:?}");
            if reply.status == 201 {
                rig.send("DELETE", &reply.location(), &[], "").await;
            }
        }
    }
    rig.settle().await;
    assert_eq!(rig.tables(), (0, 0, 0));
    assert!(slowest < PATIENCE / 2, "the slowest took {slowest:?}");
}

#[tokio::test]
async fn what_is_no_http_is_cut_or_400() {
    let rig = Rig::start("").await;
    let big_head = format!(
        "GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    let many_heads = format!(
        "GET / HTTP/1.1\r\nHost: t\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    let two_lengths =
        "POST /whip HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
    let cases: [(&str, &[u8]); 6] = [
        ("a head of 70 kB", big_head.as_bytes()),
        ("200 header lines", many_heads.as_bytes()),
        ("two lengths", two_lengths.as_bytes()),
        (
            "a negative length",
            b"POST /whip HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
        ),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("noise", b"\x00\xff\x00\xff\r\n\r\n"),
    ];
    for (name, bytes) in cases {
        let answer = exchange(rig.address, bytes).await;
        if let Some(reply) = parse(&answer) {
            assert!((400..500).contains(&reply.status), "{name}: {reply:?}");
        }
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{name}"
        );
    }
    assert_eq!(rig.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_length_of_100_gigabytes_is_413_at_once() {
    let rig = Rig::start("").await;
    let head = "POST /whip HTTP/1.1\r\nHost: t\r\nContent-Type: application/sdp\r\n\
                Content-Length: 100000000000\r\n\r\nv=0";
    let reply = parse(&exchange(rig.address, head.as_bytes()).await).expect("an answer");
    reply.problem(413);
}

/// The limit passes long before the body ends, which it never does.
#[tokio::test]
async fn chunks_beyond_the_limit_are_413_at_once() {
    let rig = Rig::start("").await;
    let mut bytes =
        b"POST /whip HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..2 {
        bytes.extend_from_slice(b"9000\r\n");
        bytes.extend_from_slice(&[b'a'; 0x9000]);
        bytes.extend_from_slice(b"\r\n");
    }
    let reply = parse(&exchange(rig.address, &bytes).await).expect("an answer");
    reply.problem(413);
    assert_eq!(reply.header("connection"), "close");
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_sees_its_413() {
    let rig = Rig::start("").await;
    let length = 3_000_000;
    let heads = [
        format!("Content-Length: {length}\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"),
    ];
    for head in heads {
        let mut stream = TcpStream::connect(rig.address).await.expect("it listens");
        let mut bytes = format!("POST /whip HTTP/1.1\r\nHost: t\r\n{head}").into_bytes();
        bytes.resize(bytes.len() + length, b'a');
        let mut answer = Vec::new();
        let exchange = async {
            stream.write_all(&bytes).await.expect("it is taken");
            stream.read_to_end(&mut answer).await.expect("no reset");
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("the server closes in time");
        parse(&answer).expect("an answer").problem(413);
    }
}

#[tokio::test]
async fn endless_chunks_are_413() {
    let rig = Rig::start("").await;
    let mut bytes =
        b"POST /whip HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..100 {
        bytes.extend_from_slice(b"10000\r\n");
        bytes.extend_from_slice(&[b'a'; 0x10000]);
        bytes.extend_from_slice(b"\r\n");
    }
    let reply = parse(&exchange(rig.address, &bytes).await);
    // The rest may be in flight when the connection is closed, and then the answer may be lost.
    if let Some(reply) = reply {
        reply.problem(413);
    }
    assert_eq!(rig.tables(), (0, 0, 0));
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_and_others_are_served_meanwhile() {
    let rig = Rig::start("").await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(rig.address)
            .await
            .expect("the server listens");
        stream
            .write_all(b"POST /whip HTTP/1.1\r\nHost: t\r\nX-Slow: ")
            .await
            .expect("sent");
        slow.push(stream);
    }
    assert_eq!(rig.post("/whip", &offers::sendrecv()).await.status, 201);
    for mut stream in slow {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        read.expect("cut in time").ok();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"));
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_408_and_cut() {
    let rig = Rig::start("").await;
    let head = "POST /whip HTTP/1.1\r\nHost: t\r\nContent-Type: application/sdp\r\n\
                Content-Length: 1000\r\n\r\nv=0\r\n";
    let reply = parse(&exchange(rig.address, head.as_bytes()).await).expect("an answer");
    reply.problem(408);
    assert_eq!(reply.header("connection"), "close");
}

#[tokio::test]
async fn names_cannot_break_headers_or_climb_paths() {
    let rig = Rig::start("").await;
    for path in [
        "/whip/..%2f..%2fetc",
        "/whip/a%00b",
        "/whep/%0d%0aX:y",
        "/page/..%2f..%2fCargo.toml",
    ] {
        let reply = rig.send("POST", path, &[SDP], &offers::sendonly()).await;
        assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
        assert!(!reply.has("x"));
    }
    rig.get("/../../etc/passwd").await.problem(404);
}

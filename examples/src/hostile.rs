//! Requests that no honest client sends, each a whole one that a server can answer at once.

const SDP: &str = "Content-Type: application/sdp\r\n";

/// A name for reports, and the bytes.
pub type Hostile = (&'static str, Vec<u8>);

/// Every kind of hostile request, made out of an offer that would be answered.
#[must_use]
pub fn requests(authority: &str, good: &str) -> Vec<Hostile> {
    let mut all = offers(authority, good);
    all.extend(misdirected(authority, good));
    all.extend(malformed(authority));
    all
}

/// Broken offers, and offers beyond each limit.
fn offers(authority: &str, good: &str) -> Vec<Hostile> {
    let post = |body: String| whole(authority, "POST", "/whip", SDP, body.as_bytes());
    let more = |count: usize, line: &str| post(good.to_owned() + &line.repeat(count));
    let types: String = (0..9_000).map(|n| format!(" {n}")).collect();
    let half = good.len() / 2;
    vec![
        ("empty", post(String::new())),
        ("half an offer", post(good[..half].to_owned())),
        (
            "noise",
            whole(authority, "POST", "/whip", SDP, &[0xff; 9_000]),
        ),
        ("no credentials", post(good.replace("a=ice", "a=ace"))),
        ("no fingerprint", post(good.replace("a=finger", "a=fanger"))),
        ("sections", more(2_000, "m=audio 9 RTP/AVP 0\r\n")),
        (
            "candidates",
            more(1_000, "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"),
        ),
        ("ssrc lines", more(2_000, "a=ssrc:1 cname:x\r\n")),
        ("lines", more(4_000, "a=x\r\n")),
        (
            "a long line",
            more(1, &format!("a=x:{}\r\n", "y".repeat(9_000))),
        ),
        (
            "payload types",
            post(format!("{good}m=audio 9 RTP/AVP{types}\r\n")),
        ),
        (
            "64 KiB and more",
            more(70, &format!("a=x:{}\r\n", "y".repeat(1_000))),
        ),
        ("1 MiB", post("v=0\r\n".repeat(200_000))),
    ]
}

/// Whole requests at the wrong place, of the wrong type, or in the wrong manner.
fn misdirected(authority: &str, good: &str) -> Vec<Hostile> {
    let send = |method: &str, path: &str, headers: &str| {
        whole(authority, method, path, headers, good.as_bytes())
    };
    let json = "Content-Type: application/json\r\n";
    let fragment = "Content-Type: application/trickle-ice-sdpfrag\r\n";
    vec![
        ("JSON", send("POST", "/whip", json)),
        ("no content type", send("POST", "/whip", "")),
        ("PUT", send("PUT", "/whip", SDP)),
        ("no such path", send("POST", "/nothing/here", SDP)),
        ("a room's odd name", send("POST", "/whip/%2e%2e%2f%00", SDP)),
        (
            "a room's long name",
            send("POST", &format!("/whip/{}", "r".repeat(2_000)), SDP),
        ),
        ("nobody's stream", send("POST", "/whep/nobody-is-here", SDP)),
        (
            "PATCH of nothing",
            send("PATCH", "/session/0123456789abcdef", fragment),
        ),
        (
            "DELETE of nothing",
            send("DELETE", "/session/0123456789abcdef", ""),
        ),
    ]
}

/// Requests that are hardly HTTP.
fn malformed(authority: &str) -> Vec<Hostile> {
    let head = |headers: &str| {
        format!("POST /whip HTTP/1.1\r\nHost: {authority}\r\n{SDP}{headers}\r\n").into_bytes()
    };
    vec![
        (
            "not HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        ),
        ("many headers", head(&"X-Y: z\r\n".repeat(500))),
        (
            "a long header",
            head(&format!("X-Y: {}\r\n", "z".repeat(100_000))),
        ),
        (
            "two lengths",
            head("Content-Length: 1\r\nContent-Length: 2\r\n"),
        ),
        ("a negative length", head("Content-Length: -1\r\n")),
        ("1 TiB announced", head("Content-Length: 1099511627776\r\n")),
        (
            "a broken chunk",
            [
                head("Transfer-Encoding: chunked\r\n"),
                b"zz\r\n\r\n".to_vec(),
            ]
            .concat(),
        ),
    ]
}

fn whole(authority: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

//! The smallest HTTP/1.1 client that can also misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// A header's value; panics when it is missing or repeated.
    pub(crate) fn header(&self, name: &str) -> &str {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "one {name} in {:?}", self.headers);
        values[0]
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fits = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(fits)
            .map(|header| header.1.as_str())
            .collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    /// Checks a problem document (RFC 9457) and gives its detail.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let document = self.json();
        assert_eq!(document["status"], status);
        assert!(document["title"].is_string() && document["type"] == "about:blank");
        document["detail"].as_str().expect("a detail").to_owned()
    }

    /// The path of the session that a 201 made.
    pub(crate) fn location(&self) -> String {
        assert_eq!(self.status, 201, "{self:?}");
        self.header("location").to_owned()
    }
}

/// Sends one request on a connection of its own and reads the whole answer.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    let answer = exchange(address, &[head.as_bytes(), body].concat()).await;
    parse(&answer)
        .unwrap_or_else(|| panic!("no HTTP answer: {:?}", String::from_utf8_lossy(&answer)))
}

/// Sends bytes and reads until the server closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address)
            .await
            .expect("the server listens");
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        // The server may answer and close before it has read everything.
        let write = async { writer.write_all(bytes).await.ok() };
        let read = async { reader.read_to_end(&mut answer).await.ok() };
        tokio::join!(write, read);
        answer
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("the server closes in time")
}

/// Splits an answer whose body ends with the connection.
pub(crate) fn parse(answer: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Reply {
        status,
        headers,
        body: body.to_owned(),
    })
}

/// An open stream of server-sent events.
pub(crate) struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    /// Opens the stream and checks its head.
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address)
            .await
            .expect("the server listens");
        let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("the request is sent");
        let mut events = Self {
            stream,
            text: String::new(),
        };
        let head = events.until("\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"),
            "{head}"
        );
        events
    }

    /// The next event: its name and its JSON.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        let name = self.until("\ndata: ").await;
        let name = name
            .rsplit_once("event: ")
            .expect("an event name")
            .1
            .to_owned();
        let json = self.until("\n\n").await;
        (name, serde_json::from_str(&json).expect("JSON"))
    }

    /// Waits until the server ends the stream.
    pub(crate) async fn ended(mut self) {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("it ends in time")
            .expect("it ends well");
    }

    async fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some((before, after)) = self.text.split_once(mark) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.text = after;
                return before;
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            let count = read.expect("an event in time").expect("the stream is open");
            assert!(count > 0, "the stream ended after {:?}", self.text);
            self.text += std::str::from_utf8(&buffer[..count]).expect("text");
        }
    }
}

//! The smallest HTTP/1.1 client: one request, one connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

/// Bytes of a response that are read at most.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

/// An `http://` URL, resolved.
#[derive(Clone, Debug)]
pub struct Url {
    /// Where to connect.
    pub address: SocketAddr,
    /// For the `Host` header.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The head as sent.
    pub head: String,
    /// What follows the head.
    pub body: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .ok_or("only http:// is spoken here")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let with_port = if authority.contains(':') {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|e| e.to_string())?;
        Ok(Self {
            address: addresses.next().ok_or("the name has no address")?,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl Reply {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// Sends a request on a connection of its own and reads the whole answer.
///
/// # Errors
/// When the server cannot be reached, does not answer within `timeout`, or not in HTTP.
pub fn request(
    url: &Url,
    method: &str,
    headers: &str,
    body: &[u8],
    timeout: Duration,
) -> io::Result<Reply> {
    let (authority, path, length) = (&url.authority, &url.path, body.len());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    exchange(url.address, &[head.as_bytes(), body].concat(), timeout)
}

/// Sends these bytes and reads until the server closes.
///
/// # Errors
/// As [`request`].
pub fn exchange(address: SocketAddr, bytes: &[u8], timeout: Duration) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // The server may answer and close before it has read everything: what it said counts.
    let written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut answer);
    match parse(&answer) {
        Some(reply) => Ok(reply),
        None => {
            written?;
            read?;
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no HTTP response",
            ))
        }
    }
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_and_a_response_read() {
        let url: Url = "http://127.0.0.1:8080/whip?x=1".parse().unwrap();
        assert_eq!((url.address.port(), url.path.as_str()), (8080, "/whip?x=1"));
        assert!("https://127.0.0.1/".parse::<Url>().is_err());
        let reply = parse(b"HTTP/1.1 201 Created\r\nlocation: /s/1\r\n\r\nv=0").unwrap();
        assert_eq!(
            (reply.status, reply.header("Location")),
            (201, Some("/s/1"))
        );
        assert_eq!(reply.body, "v=0");
        assert!(parse(b"nonsense").is_none());
    }
}

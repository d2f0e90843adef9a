//! The smallest HTTP/1.1 client: one exchange, one connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

/// Bytes of a response that are read at most.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

/// A server of `http://`, resolved.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Where to connect.
    pub address: SocketAddr,
    /// For the `Host` header.
    pub authority: String,
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .ok_or("only http:// is spoken here")?;
        let authority = rest.split('/').next().unwrap_or_default();
        let with_port = if authority.contains(':') {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|e| e.to_string())?;
        Ok(Self {
            address: addresses.next().ok_or("the name has no address")?,
            authority: authority.to_owned(),
        })
    }
}

/// Sends these bytes, reads until the server closes, and gives the status of its answer.
///
/// # Errors
/// When the server cannot be reached, does not answer within `timeout`, or not in HTTP.
pub fn exchange(address: SocketAddr, bytes: &[u8], timeout: Duration) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // The server may answer and close before it has read everything: what it said counts.
    let written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut answer);
    match status(&answer) {
        Some(status) => Ok(status),
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

fn status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let (head, _) = text.split_once("\r\n\r\n")?;
    head.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_and_a_status_read() {
        let origin: Origin = "http://127.0.0.1:8080/".parse().unwrap();
        assert_eq!(origin.address.port(), 8080);
        assert_eq!(origin.authority, "127.0.0.1:8080");
        assert!("https://127.0.0.1/".parse::<Origin>().is_err());
        let answer = b"HTTP/1.1 201 Created\r\nlocation: /s/1\r\n\r\nv=0";
        assert_eq!(status(answer), Some(201));
        assert!(status(b"nonsense").is_none());
    }
}

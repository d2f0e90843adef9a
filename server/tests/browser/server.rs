//! The server under test: the real program, in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use crate::output::test_output;

/// A running `antiphon serve`. Dropping it kills it.
pub(crate) struct Server {
    process: Child,
    http: String,
    media_port: u16,
    name: &'static str,
}

impl Server {
    /// Starts a server on free ports of the loopback interface; `name` is its log's.
    pub(crate) fn start(name: &'static str, extra: &[&str]) -> Self {
        // The port is free when the socket is dropped, and the kernel gives it to nobody else soon.
        let probe = UdpSocket::bind("127.0.0.1:0").expect("loopback works");
        let media_port = probe.local_addr().expect("it is bound").port();
        drop(probe);
        Self::run(name, "127.0.0.1:0", media_port, extra)
    }

    /// Kills the server without a warning, and starts it again on the same ports once `between` is
    /// done.
    pub(crate) fn restart(&mut self, between: impl FnOnce()) {
        self.kill();
        between();
        let http = self.http.clone();
        *self = Self::run(self.name, &http, self.media_port, &[]);
    }

    /// Stops the server as a supervisor does; its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        let signalled = Command::new("kill").args(["-TERM", &id]).status();
        assert!(signalled.expect("kill runs").success());
        self.process.wait().expect("it is our child").code()
    }

    /// Its UDP port.
    pub(crate) const fn media_port(&self) -> u16 {
        self.media_port
    }

    /// The page's address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.http)
    }

    fn run(name: &'static str, http: &str, media_port: u16, extra: &[&str]) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(test_output().join(format!("{name}.log")))
            .expect("the test output can be written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_antiphon"))
            .args(["serve", "--shards", "1", "--http", http])
            .args(["--media-port", &media_port.to_string()])
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut banner = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let http = http_address(&mut banner);
        std::thread::spawn(move || std::io::copy(&mut banner, &mut std::io::sink()));
        Self {
            process,
            http,
            media_port,
            name,
        }
    }

    fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address in the first line of the banner that has one.
fn http_address(banner: &mut impl BufRead) -> String {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        let read = banner.read_line(&mut seen).expect("the banner is text");
        assert!(
            read > 0,
            "the server ended before it listened; it said:\n{seen}"
        );
        if let Some((_, rest)) = seen[start..].split_once("http://") {
            let end = rest
                .find(|c: char| c == '/' || c.is_whitespace())
                .unwrap_or(rest.len());
            return rest[..end].to_owned();
        }
    }
}

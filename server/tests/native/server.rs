//! The program, in a process of its own, and the HTTP one speaks to it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use antiphon_udp::Clock;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A running `antiphon serve` on free ports of the loopback interface. Dropping it kills it.
pub(crate) struct Server {
    process: Child,
    url: String,
    agent: Agent,
}

/// `antiphon serve` on free ports, once a shell has done `first`.
fn command(first: &str, extra: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{first} && exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_antiphon"))
        .args(["serve", "--http", "127.0.0.1:0"])
        .args(["--media-ip", "127.0.0.1", "--media-port", "0"])
        .args(extra);
    command
}

/// What it says instead of starting.
pub(crate) fn refusal(first: &str, extra: &[&str]) -> String {
    let output = command(first, extra).output().expect("sh runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("text")
}

impl Server {
    pub(crate) fn start(extra: &[&str]) -> Self {
        Self::start_limited("true", extra)
    }

    /// The same, once a shell has done `first`.
    pub(crate) fn start_limited(first: &str, extra: &[&str]) -> Self {
        let mut process = command(first, extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut banner = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut first = String::new();
        banner.read_line(&mut first).expect("the banner is text");
        let at = first
            .find("http://")
            .unwrap_or_else(|| panic!("no address: {first}"));
        thread::spawn(move || std::io::copy(&mut banner, &mut std::io::sink()));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)));
        Self {
            process,
            url: first[at..].trim_end().trim_end_matches('/').to_owned(),
            agent: agent.build().into(),
        }
    }

    pub(crate) fn post(&self, path: &str, offer: &str) -> Response<Body> {
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("Content-Type", "application/sdp");
        request.send(offer).expect("the server answers")
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let request = self.agent.get(format!("{}{path}", self.url));
        let mut response = request.call().expect("the server answers");
        assert_eq!(response.status(), 200, "{path}");
        response.body_mut().read_to_string().expect("text")
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).expect("JSON")
    }

    /// Ends a session; the status.
    pub(crate) fn delete(&self, path: &str) -> u16 {
        let request = self.agent.delete(format!("{}{path}", self.url));
        request
            .call()
            .expect("the server answers")
            .status()
            .as_u16()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let killed = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        assert!(killed.expect("kill runs").success());
    }

    /// Waits for the end of the process; `None` when it does not come in time, or by a signal.
    pub(crate) fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let clock = Clock::start();
        let end = clock.now() + patience;
        while clock.now() < end {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status.code();
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

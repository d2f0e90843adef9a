//! The program, in a process of its own, and the HTTP one speaks to it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use antiphon_udp::Clock;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

const PROGRAM: &str = env!("CARGO_BIN_EXE_antiphon");

/// A running `antiphon serve` on free ports of the loopback interface. Dropping it kills it.
pub(crate) struct Server {
    process: Child,
    url: String,
    agent: Agent,
    /// What it said at its start.
    pub(crate) banner: Vec<String>,
}

/// `antiphon serve` on free ports, once a shell has done `first`.
fn command(first: &str, extra: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{first} && exec \"$0\" \"$@\"")])
        .arg(PROGRAM)
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
        Self::start_after("true", extra)
    }

    /// With hang-ups ignored from the start, as `nohup` has it.
    pub(crate) fn start_without_hang_up() -> Self {
        Self::start_after("trap '' HUP", &[])
    }

    /// The same, once a shell has done `first`.
    pub(crate) fn start_after(first: &str, extra: &[&str]) -> Self {
        let mut process = command(first, extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let output = process.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let mut banner: Vec<String> = Vec::new();
        while !banner
            .last()
            .is_some_and(|line| line.contains("receive buffer"))
        {
            banner.push(
                lines
                    .next()
                    .unwrap_or_else(|| panic!("it says no more: {banner:?}")),
            );
        }
        thread::spawn(move || lines.for_each(drop));
        let first = &banner[0];
        let at = first
            .find("http://")
            .unwrap_or_else(|| panic!("no address: {first}"));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)));
        Self {
            process,
            url: first[at..].trim_end().trim_end_matches('/').to_owned(),
            agent: agent.build().into(),
            banner,
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

    /// A response that ends when the server wants it to.
    pub(crate) fn stream(&self, path: &str) -> Response<Body> {
        let agent: Agent = Agent::config_builder().build().into();
        let request = agent.get(format!("{}{path}", self.url));
        request.call().expect("the server answers")
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

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.process.id().to_string())
            .status();
        assert!(killed.expect("kill runs").success());
    }

    /// Whether it handles a signal, by its number, as the kernel shows.
    pub(crate) fn handles(&self, number: u32) -> bool {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask.expect("a mask").trim(), 16);
        mask.expect("hexadecimal") >> (number - 1) & 1 == 1
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

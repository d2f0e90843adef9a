//! A headless Chromium driven over the DevTools protocol: just enough of it for these tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::output::{base64_decode, scratch_dir, test_output};

/// Longer than any single evaluation takes, so that a hanging browser fails the test.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Found to work as root, in a container and without a network (Chromium 156, 2026-11).
const FLAGS: &[&str] = &[
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    // Without it no candidate is gathered on a machine that has only `lo`.
    "--allow-loopback-in-peer-connection",
    // Levels stay zero unless the received track plays, and nobody clicks here.
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    // A room is several tabs, and only one of them can be in front.
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
];

/// The browser's process. Dropping it ends it.
pub(crate) struct Chromium {
    process: Child,
    profile: PathBuf,
    wire: Rc<RefCell<Wire>>,
}

/// One tab.
pub(crate) struct Page {
    wire: Rc<RefCell<Wire>>,
    session: String,
}

/// The one WebSocket that carries every tab's commands and events.
struct Wire {
    socket: WebSocket<TcpStream>,
    id_last: u64,
    /// Errors and warnings of the console, and failed requests, by tab.
    complaints: BTreeMap<String, Vec<String>>,
}

impl Chromium {
    /// Starts Chromium with `tone` as its microphone. `None` when it is not installed, after saying
    /// so; where `CI` is set that is a failure instead.
    pub(crate) fn launch(tone: &Path) -> Option<Self> {
        Self::launch_with(tone, &["--use-fake-ui-for-media-stream"])
    }

    /// As [`Chromium::launch`], where the person keeps the microphone from every page.
    pub(crate) fn launch_without_microphone(tone: &Path) -> Option<Self> {
        let browser = Self::launch_with(tone, &[])?;
        let denied = json!({"permission": {"name": "microphone"}, "setting": "denied"});
        browser
            .wire
            .borrow_mut()
            .call(None, "Browser.setPermission", denied);
        Some(browser)
    }

    /// Opens a tab on `url` and waits until its scripts have run.
    pub(crate) fn open(&self, url: &str) -> Page {
        let mut wire = self.wire.borrow_mut();
        // A window of its own: a tab behind another one is not painted.
        let target = wire.call(
            None,
            "Target.createTarget",
            json!({"url": "", "newWindow": true}),
        );
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = wire.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            wire.call(Some(&session), domain, json!({}));
        }
        drop(wire);
        let page = Page {
            wire: Rc::clone(&self.wire),
            session,
        };
        page.call(
            "Emulation.setFocusEmulationEnabled",
            json!({"enabled": true}),
        );
        page.size(1280, 900);
        page.call("Page.navigate", json!({"url": url}));
        page.wait_until("document.readyState === 'complete' && window.antiphon", 10);
        page
    }

    fn launch_with(tone: &Path, flags: &[&str]) -> Option<Self> {
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
        if !Path::new(&program).exists() {
            assert!(
                std::env::var_os("CI").is_none(),
                "install the Debian package chromium"
            );
            eprintln!("SKIPPED: install the Debian package chromium");
            return None;
        }
        let profile = scratch_dir("chromium");
        let mut process = Command::new(program)
            .args(FLAGS)
            .args(flags)
            .arg(format!(
                "--use-file-for-fake-audio-capture={}",
                tone.display()
            ))
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium starts");
        let mut log = BufReader::new(process.stderr.take().expect("stderr is piped"));
        let address = debugger_address(&mut log);
        // The pipe is read to its end, or the browser would block on a full one.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));

        let host = address
            .trim_start_matches("ws://")
            .split('/')
            .next()
            .expect("has a host");
        let stream = TcpStream::connect(host).expect("the debugger listens");
        stream
            .set_read_timeout(Some(ANSWER_WITHIN))
            .expect("a timeout can be set");
        let (socket, _) = tungstenite::client(address.as_str(), stream).expect("it is a WebSocket");
        let wire = Wire {
            socket,
            id_last: 0,
            complaints: BTreeMap::new(),
        };
        Some(Self {
            process,
            profile,
            wire: Rc::new(RefCell::new(wire)),
        })
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Failures here would hide the test's own; the operating system cleans up what is left.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.profile).ok();
    }
}

impl Page {
    /// Ends what the page does; the empty tab that stays costs nothing.
    pub(crate) fn close(self) {
        self.call("Page.navigate", json!({"url": "about:blank"}));
    }

    /// Evaluates an expression, or the promise it gives, as if a person had just clicked.
    ///
    /// # Panics
    /// When the expression throws.
    pub(crate) fn evaluate(&self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            json!({
                "expression": expression,
                "awaitPromise": true,
                "returnByValue": true,
                "userGesture": true,
            }),
        );
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}\nthrew {thrown:#}");
        answer["result"]["value"].clone()
    }

    /// As [`Page::evaluate`], for a number.
    pub(crate) fn number(&self, expression: &str) -> f64 {
        let value = self.evaluate(expression);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    /// As [`Page::evaluate`], for a text.
    pub(crate) fn text(&self, expression: &str) -> String {
        let value = self.evaluate(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_owned()
    }

    /// Waits in the page until an expression holds.
    ///
    /// # Panics
    /// When it does not within `seconds`, with what the page says of its state.
    pub(crate) fn wait_until(&self, condition: &str, seconds: u32) {
        let held = self.evaluate(&format!(
            "(async () => {{
               const end = performance.now() + {seconds}000;
               while (performance.now() < end) {{
                 if (await ({condition})) return true;
                 await new Promise((resolve) => setTimeout(resolve, 20));
               }}
               return false;
             }})()"
        ));
        if held != true {
            let shown = self.evaluate("document.querySelector('main')?.innerText ?? ''");
            let complaints = self.complaints();
            panic!("not within {seconds} s: {condition}\nthe page shows {shown}\n{complaints:?}");
        }
    }

    /// Clicks the element a selector names.
    pub(crate) fn click(&self, selector: &str) {
        self.evaluate(&format!(
            "document.querySelector({}).click()",
            json!(selector)
        ));
    }

    /// Presses and releases a key, at whatever has the focus.
    pub(crate) fn press(&self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}),
            );
        }
    }

    /// Gives the page a size in CSS pixels.
    pub(crate) fn size(&self, width: u32, height: u32) {
        let mobile = width < 600;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}),
        );
    }

    /// Asks for the dark or the light theme, as a person's system does.
    pub(crate) fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Keeps a picture of the whole page in the test output.
    pub(crate) fn screenshot(&self, name: &str) {
        // Two frames, so that what was just changed has been painted.
        self.evaluate(
            "new Promise((resolve) => setTimeout(() => requestAnimationFrame(() => \
             requestAnimationFrame(resolve)), 250)).then(() => true)",
        );
        let options = json!({"format": "png", "captureBeyondViewport": true});
        let shot = self.call("Page.captureScreenshot", options);
        let png = base64_decode(shot["data"].as_str().expect("a picture"));
        let path = test_output().join(format!("{name}.png"));
        fs::write(path, png).expect("the test output can be written");
    }

    /// The errors and warnings the page caused so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        // An answered command means that every event before it has been read.
        self.call("Runtime.evaluate", json!({"expression": "0"}));
        self.wire
            .borrow()
            .complaints
            .get(&self.session)
            .cloned()
            .unwrap_or_default()
    }

    fn call(&self, method: &str, parameters: Value) -> Value {
        self.wire
            .borrow_mut()
            .call(Some(&self.session), method, parameters)
    }
}

impl Wire {
    /// Sends a command and reads until its answer, noting the events in between.
    fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.id_last += 1;
        let mut command = json!({"id": self.id_last, "method": method, "params": parameters});
        if let Some(session) = session {
            command["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(command.to_string()))
            .expect("chromium takes commands");
        loop {
            let message = self
                .socket
                .read()
                .unwrap_or_else(|error| panic!("{method}: {error}"));
            let Message::Text(text) = message else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text).expect("DevTools speaks JSON");
            if message["id"] == self.id_last {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.note_event(&message);
        }
    }

    fn note_event(&mut self, message: &Value) {
        let parameters = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].contains(&parameters["type"].as_str().unwrap_or(""))
            }
            Some("Log.entryAdded") => {
                let level = parameters["entry"]["level"].as_str().unwrap_or("");
                ["error", "warning"].contains(&level)
            }
            _ => false,
        };
        if complaint {
            let session = message["sessionId"].as_str().unwrap_or("").to_owned();
            self.complaints
                .entry(session)
                .or_default()
                .push(parameters.to_string());
        }
    }
}

fn debugger_address(log: &mut impl BufRead) -> String {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        let read = log.read_line(&mut seen).expect("chromium's log is text");
        assert!(read > 0, "chromium ended at once:\n{seen}");
        if let Some((_, address)) = seen[start..].split_once("DevTools listening on ") {
            return address.trim().to_owned();
        }
    }
}

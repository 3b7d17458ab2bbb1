//! A browser that a test drives: Chromium without a window, through `chromedriver` and a few
//! commands of WebDriver (W3C, 2018), which are JSON over HTTP on loopback.
//!
//! Nothing is installed. Without both programs on the PATH there is no browser, and a line that no
//! test harness swallows says what to install.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the browser may take for one command.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a page may take until what is waited for is there.
const WAIT_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

const DRIVERS: &[&str] = &["chromedriver"];
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Asked of the browser: no window, no sandbox (which root cannot have), no traffic of its own.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
];

/// Keys that are no letters, by WebDriver's numbers.
pub(crate) mod key {
    pub(crate) const PAGE_UP: char = '\u{e00e}';
    pub(crate) const PAGE_DOWN: char = '\u{e00f}';
    pub(crate) const END: char = '\u{e010}';
    pub(crate) const HOME: char = '\u{e011}';
    pub(crate) const UP: char = '\u{e013}';
    pub(crate) const DOWN: char = '\u{e015}';
    pub(crate) const ENTER: char = '\u{e007}';
    pub(crate) const ESCAPE: char = '\u{e00c}';
}

/// One browser with one page. It ends with the value.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    folder: tempfile::TempDir,
}

impl Browser {
    /// Starts one, or says loudly why there is none.
    pub(crate) fn start() -> Option<Browser> {
        let (Some(driver), Some(browser)) = (on_path(DRIVERS), on_path(BROWSERS)) else {
            // Not `eprintln`, which the harness keeps to itself when a test passes.
            let why = "SKIPPED: no browser on the PATH to show pages in; \
                       apt-get install chromium chromium-driver";
            writeln!(std::io::stderr(), "{why}").expect("standard error");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let port = read_port(&mut driver);
        let mut started = Browser { driver, port, session: String::new(), folder };
        started.begin(&browser);
        Some(started)
    }

    fn begin(&mut self, browser: &Path) {
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        let profile = self.folder.path().join("profile");
        flags.push(format!("--user-data-dir={}", profile.display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": browser, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let begun = self.ask("POST", "/session", &wanted);
        self.session = begun["sessionId"].as_str().expect("a session").to_owned();
    }

    /// Shows `page` from a file, at an address that ends with `part`, and waits until it is drawn.
    pub(crate) fn open(&self, page: &[u8], part: &str) {
        let file = self.folder.path().join("page.html");
        std::fs::write(&file, page).expect("a file");
        // Only what comes before the `#` makes it another page.
        self.command("POST", "/url", &json!({"url": "about:blank"}));
        // What the browser shows when it starts is its own affair.
        drop((self.complaints(), self.requests()));
        let url = format!("file://{}{part}", file.display());
        self.command("POST", "/url", &json!({"url": url}));
        self.until("return document.readyState === 'complete'");
        self.drawn();
    }

    /// What a script returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns true.
    ///
    /// Panics when it takes too long.
    pub(crate) fn until(&self, script: &str) {
        let end = Instant::now() + WAIT_MAX;
        while self.run(script) != json!(true) {
            assert!(Instant::now() < end, "still not true: {script}");
            std::thread::sleep(POLL);
        }
    }

    /// Presses keys one after the other, and waits until the page has been drawn again.
    pub(crate) fn press(&self, keys: &[char]) {
        let strokes: Vec<Value> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({"type": what, "value": key})))
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.command("POST", "/actions", &json!({"actions": [keyboard]}));
        self.drawn();
    }

    /// Waits for two frames: what was asked before is on the screen.
    pub(crate) fn drawn(&self) {
        let script = "const done = arguments[0]; \
                      requestAnimationFrame(() => requestAnimationFrame(() => done(true)))";
        self.command("POST", "/execute/async", &json!({"script": script, "args": []}));
    }

    /// What the page wrote to the console as an error since the last call, or a warning.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("a log").iter();
        lines
            .filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING")
            .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The addresses that the page asked for since the last call, its own file left out.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({"type": "performance"}));
        let own = format!("file://{}/", self.folder.path().display());
        let mut asked = Vec::new();
        for line in log.as_array().expect("a log") {
            let line = line["message"].as_str().expect("a message");
            let event: Value = serde_json::from_str(line).expect("an event of DevTools");
            let event = &event["message"];
            if event["method"] == "Network.requestWillBeSent" {
                asked.push(event["params"]["request"]["url"].as_str().expect("a URL").to_owned());
            }
        }
        asked.retain(|url| {
            !url.starts_with(&own) && !url.starts_with("data:") && url != "about:blank"
        });
        asked
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    /// One request, one response.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = http(self.port, method, path, &body.to_string());
        let answer: Value = serde_json::from_str(&answer).expect("JSON from chromedriver");
        assert_eq!(status, 200, "{method} {path}: {:#}", answer["value"]);
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is a child of the driver, and closes with the session.
        if !self.session.is_empty() && !std::thread::panicking() {
            let _ = http(self.port, "DELETE", &format!("/session/{}", self.session), "");
        }
        let _ = http(self.port, "GET", "/shutdown", "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let files = names.iter().flat_map(|name| folders.iter().map(move |at| at.join(name)));
    files.into_iter().find(|file| file.is_file())
}

/// The driver says on which port it listens.
fn read_port(driver: &mut Child) -> u16 {
    let lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
    let mut said = Vec::new();
    for line in lines.map_while(Result::ok) {
        let port = line.rsplit_once("on port ").map(|(_, port)| port.trim_end_matches('.'));
        if let Some(port) = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0) {
            return port;
        }
        said.push(line);
    }
    panic!("chromedriver names no port: {said:?}");
}

/// Status and body.
fn http(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("chromedriver listens");
    stream.set_read_timeout(Some(COMMAND_TIME_MAX)).expect("a time-out");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .expect("sent");
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).expect("a status line");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut length = 0;
    loop {
        line.clear();
        answer.read_line(&mut line).expect("a header");
        if line.trim_end().is_empty() {
            break;
        }
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).expect("a body");
    (status, String::from_utf8(body).expect("UTF-8"))
}

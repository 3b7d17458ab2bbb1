//! A cluster of quorate for tests with client libraries that others wrote.
//!
//! It runs `quorate up`, as a user would, and stops it when it is dropped.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;

/// Ports are searched for between these, below those that the system gives to clients.
const PORT_MIN: u16 = 12_000;
const PORT_MAX: u16 = 30_000;

/// `quorate up` places member `i` at its first port plus `10 i`, clients first and peers next.
const PORT_STRIDE: u16 = 10;

/// Members of the cluster.
pub const MEMBERS: u16 = 3;

/// Three members that serve.
pub struct Cluster {
    /// Where clients connect: `127.0.0.1:PORT` of each member.
    pub endpoints: Vec<String>,
    up: Child,
    _data: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until it serves.
    ///
    /// Panics: if it does not come to serve.
    pub fn start() -> Cluster {
        let data = TempDir::new().expect("a directory");
        let mut up = Command::new(binary())
            .args(["up", "--json", "--nodes", &MEMBERS.to_string()])
            .args(["--port-base", &free_port_base().to_string(), "--data"])
            .arg(data.path().join("data"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("quorate starts; build it with `cargo build --release`, or set QUORATE_BIN");
        let lines = BufReader::new(up.stdout.take().expect("a pipe")).lines();
        let mut seen = String::new();
        let mut endpoints = None;
        let mut lines = lines.map_while(Result::ok);
        for line in lines.by_ref() {
            seen.push_str(&line);
            let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == "ready" {
                endpoints = event["endpoints"].as_array().cloned();
                break;
            }
        }
        // Somebody must go on reading, or `up` stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        let endpoints = endpoints.unwrap_or_else(|| panic!("it never served: {seen}"));
        let text = |endpoint: serde_json::Value| endpoint.as_str().expect("text").to_owned();
        Cluster { endpoints: endpoints.into_iter().map(text).collect(), up, _data: data }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The members stop by themselves when their supervisor is gone.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

fn binary() -> PathBuf {
    let release = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/quorate");
    std::env::var_os("QUORATE_BIN").map_or_else(|| release.into(), PathBuf::from)
}

/// A first port such that every port of the cluster is free, and that no other cluster of this
/// process was given.
fn free_port_base() -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().expect("nobody panics while holding it");
    let first = PORT_MIN + (std::process::id() % 1_000) as u16 * PORT_STRIDE;
    let span = MEMBERS * PORT_STRIDE;
    let can_bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let base = (next.unwrap_or(first)..PORT_MAX)
        .step_by(span.into())
        .find(|base| (*base..base + span).all(can_bind))
        .expect("free ports");
    *next = Some(base + span);
    base
}

//! The binary as a user meets it: help, exit status, names. No member is started here.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    command.args(words).output().expect("the binary runs")
}

fn quorate(words: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_quorate")), words)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn every_command_has_help_with_examples() {
    let commands: &[&[&str]] = &[
        &[],
        &["serve"],
        &["up"],
        &["status"],
        &["time", "status"],
        &["ctl"],
        &["ctl", "get"],
        &["ctl", "put"],
        &["ctl", "del"],
        &["ctl", "txn"],
        &["ctl", "watch"],
        &["ctl", "lease"],
        &["ctl", "compact"],
        &["ctl", "alarm"],
        &["ctl", "snapshot"],
        &["name"],
        &["name", "register"],
        &["name", "resolve"],
        &["snapshot"],
        &["backup"],
        &["restore"],
        &["import"],
        &["export"],
        &["bench"],
        &["bench", "age"],
        &["sim"],
        &["sim", "merge"],
    ];
    for &command in commands {
        let output = quorate(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        let text = stdout(&output);
        assert!(text.contains("Examples:"), "{command:?}: {text}");
        assert!(text.contains("quorate"), "{command:?}: {text}");
    }
    assert_eq!(stdout(&quorate(&["help", "serve"])), stdout(&quorate(&["serve", "--help"])));
}

#[test]
fn usage_errors_exit_with_2_and_name_the_word() {
    let cases: [(&[&str], &str); 18] = [
        (&["serve", "--listen-client-url", "x"], "did you mean --listen-client-urls?"),
        (&["serve", "--cert-file=c"], "--cert-file needs --key-file"),
        (&["serve", "--config-file", "/nonexistent.yml"], "/nonexistent.yml"),
        (&["serve", "--log-outputs=/nonexistent/log"], "/nonexistent/log"),
        (&["frobnicate"], "frobnicate"),
        (&["up", "--nodes", "0"], "--nodes"),
        (&["status", "--cert", "c"], "--cert and --key go together"),
        (&["ctl", "get", "a", "--prefix", "--from-key"], "--from-key"),
        (&["ctl", "get", "a", "--endpoints", "a"], "host:port"),
        (&["ctl", "txn", "--file", "/nonexistent.txt"], "/nonexistent.txt"),
        (&["ctl", "lease", "revoke", "xyz"], "hexadecimal id"),
        (&["ctl", "compact", "0"], "0"),
        (&["ctl", "watch", "a", "--count", "0"], "--count"),
        (&["ctl", "snapshot", "status", "/nonexistent.db"], "/nonexistent.db"),
        (&["bench", "put", "--value-size", "10"], "--value-size"),
        (&["bench", "range", "--keys", "10"], "--span 1000 is more than 10"),
        (&["bench", "lease-keepalive", "--leases", "3"], "--leases 64"),
        (&["bench", "put", "--against", "ftp://a:1"], "ftp"),
    ];
    for (words, message) in cases {
        let output = quorate(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(stderr(&output).contains(message), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn under_etcds_name_it_is_etcd() {
    let directory = tempfile::tempdir().expect("a directory");
    let etcd = directory.path().join("etcd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_quorate"), &etcd).expect("a link");
    let version = run(&etcd, &["--version"]);
    let text = stdout(&version);
    let heads: Vec<&str> = text.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(heads, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"], "{text}");
    assert_eq!(stdout(&run(&etcd, &["--help"])), stdout(&quorate(&["serve", "--help"])));
    assert_eq!(run(&etcd, &["--frobnicate"]).status.code(), Some(2));
}

#[test]
fn a_cluster_that_is_not_there_does_not_serve() {
    // A port that was free a moment ago: nobody listens on it.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let endpoint = format!("127.0.0.1:{port}");
    let status = quorate(&["status", "--endpoints", &endpoint, "--timeout", "1"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(stdout(&status).contains("unreachable"), "{}", stdout(&status));
    let put = quorate(&["ctl", "put", "a", "b", "--endpoints", &endpoint, "--json"]);
    assert_eq!(put.status.code(), Some(2));
    assert!(stdout(&put).contains("\"outcome\":\"did not happen\""), "{}", stdout(&put));
}

#[test]
fn up_refuses_foreign_directories_and_busy_ports() {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::write(root.path().join("thesis.tex"), "years").expect("a file");
    let at = |path: &Path| path.to_str().expect("text").to_owned();
    let output = quorate(&["up", "--fresh", "--data", &at(root.path())]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("thesis.tex"), "{}", stderr(&output));

    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = holder.local_addr().expect("bound").port().to_string();
    let data = at(&root.path().join("data"));
    let output = quorate(&["up", "--nodes", "1", "--port-base", &port, "--data", &data]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains(&format!("port {port} ")) && text.contains("--port-base"), "{text}");
}

/// Every command below `words`, as the lists in the help name them.
fn commands_below(words: &[String]) -> Vec<Vec<String>> {
    let mut asked: Vec<&str> = words.iter().map(String::as_str).collect();
    asked.push("--help");
    let text = stdout(&quorate(&asked));
    let list = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = list
        .take_while(|line| !line.is_empty())
        // A description that runs on is indented further.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let mut found = Vec::new();
    for name in names {
        let command = [words, &[name.to_owned()]].concat();
        found.push(command.clone());
        found.extend(commands_below(&command));
    }
    found
}

#[test]
fn every_command_has_completions_and_a_manual_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("share/man1");
    let output = quorate(&["man", pages.to_str().expect("text")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let commands = commands_below(&[]);
    assert!(commands.len() > 30, "the lists of commands are not understood: {commands:?}");
    for command in &commands {
        let page = pages.join(format!("quorate-{}.1", command.join("-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("no {page:?}"));
        assert!(text.contains(".SH NAME"), "{command:?}: {text}");
    }
    let written = std::fs::read_dir(&pages).expect("pages").count();
    assert_eq!(written, commands.len() + 1, "a page for each command and one for all");
    let serve = std::fs::read_to_string(pages.join("quorate-serve.1")).expect("a page");
    assert!(serve.contains("initial\\-cluster"), "{serve}");

    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = quorate(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = stdout(&output);
        for name in commands.iter().filter_map(|command| command.last()) {
            assert!(script.contains(name.as_str()), "{shell} does not know {name}");
        }
    }
    let nowhere = quorate(&["man", "/dev/null/pages"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("/dev/null/pages"), "{}", stderr(&nowhere));
}

//! What is in `packaging/` fits the binary: metrics that exist, flags that exist, and a section of
//! the runbook for each alert.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::cluster::{Cluster, Settings};
use support::net::http_get;
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// (alert, expression) of each rule.
fn alerts() -> Vec<(String, String)> {
    let rules = &yaml("packaging/prometheus/alerts.yml")[0]["groups"][0]["rules"];
    let text = |rule: &Yaml, field: &str| rule[field].as_str().expect("text").to_owned();
    let rules = rules.as_vec().expect("rules").iter();
    rules.map(|rule| (text(rule, "alert"), text(rule, "expr"))).collect()
}

/// The expressions of the dashboard.
fn panels() -> Vec<String> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| gather(field, found));
            }
            Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&read("packaging/grafana/quorate.json")).expect("JSON");
    let mut found = Vec::new();
    gather(&dashboard, &mut found);
    found
}

/// The words of an expression that name metrics of a member.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        ["etcd_", "quorate_", "process_", "grpc_server_"].iter().any(|own| word.starts_with(own))
    })
}

/// The values that an expression wants a label to have.
fn wanted<'a>(expression: &'a str, label: &str) -> Vec<&'a str> {
    let begin = format!("{label}=\"");
    let parts = expression.split(begin.as_str()).skip(1);
    parts.filter_map(|rest| rest.split('"').next()).collect()
}

/// The name that its kind is told under; a histogram has three names.
fn family(metric: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric)
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_metrics_that_a_member_has() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let port = cluster.members[0].client_port;
    let answer = tokio::task::spawn_blocking(move || http_get(port, "/metrics")).await;
    let (_, page) = answer.expect("a thread").expect("an answer");
    let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: BTreeSet<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
    // These are told where a source of the time is asked, which a member on loopback has none of.
    let elsewhere = ["quorate_time_error_seconds"];

    let alerts = alerts();
    let panels = panels();
    assert!(alerts.len() > 10 && panels.len() > 30, "the files are not understood");
    let rules = alerts.iter().map(|(_, expression)| expression);
    for expression in rules.chain(&panels) {
        for metric in metrics(expression) {
            let known = families.contains(metric) || families.contains(family(metric));
            assert!(known || elsewhere.contains(&metric), "{metric} of {expression:?}");
        }
        for name in wanted(expression, "name") {
            assert!(page.contains(&format!("name=\"{name}\"")), "{name} of {expression:?}");
        }
    }
    // And the other way round: whatever can break is told by an alert, and by the runbook.
    let runbook = read("docs/operate.md");
    let measured = page.lines().filter(|line| line.starts_with("quorate_assumption_holds{"));
    for name in measured.flat_map(|line| wanted(line, "name")) {
        assert!(runbook.contains(&format!("`{name}`")), "{name} is not in docs/operate.md");
        let told = alerts.iter().any(|(_, expression)| wanted(expression, "name").contains(&name));
        // Without a quorum, a member tells for how long.
        assert!(told || name == "quorum", "no alert tells of {name}");
    }
    assert!(alerts.iter().any(|(_, expression)| expression.contains("quorate_read_only_seconds")));
}

#[test]
fn the_runbook_has_a_section_for_each_alert_and_no_other() {
    let runbook = read("docs/operate.md");
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<&str> = sections.filter(|title| title.starts_with("Quorate")).collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "two alerts of one name");
    assert_eq!(sections, names);
}

/// The text of all sources below a folder, with the strings that are broken over lines joined.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn the_runbook_quotes_what_a_member_says() {
    let mut text = String::new();
    for name in ["server", "storage", "protocols", "cli"] {
        sources(&root().join("crates").join(name).join("src"), &mut text);
    }
    let joined = text.split("\\\n").map(str::trim_start).collect::<String>();
    let runbook = read("docs/operate.md");
    let rows = runbook.split("| it says |").skip(1).flat_map(|table| {
        table.lines().skip(2).take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
    });
    let mut quotes = 0;
    for row in rows {
        let said = row.split(" | ").next().expect("a column");
        for quote in said.split('`').skip(1).step_by(2) {
            for part in quote.split("..").map(str::trim).filter(|part| part.len() > 3) {
                // What is configured, in the words of the flag; the place of a name is a value.
                let part = part.trim_end_matches(['=', ':']);
                assert!(joined.contains(part), "no member says {part:?}; see {row:?}");
            }
            quotes += 1;
        }
    }
    assert!(quotes > 25, "the tables of the runbook are not understood: {quotes}");
}

#[test]
fn packaged_settings_are_settings_of_a_member() {
    let help = Command::new(env!("CARGO_BIN_EXE_quorate")).args(["serve", "--help"]).output();
    let help = String::from_utf8(help.expect("the binary runs").stdout).expect("text");
    let flags: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  --"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let files = [
        "systemd/quorate.service",
        "systemd/quorate.env",
        "docker/Dockerfile",
        "docker/compose.yaml",
        "kubernetes/quorate.yaml",
    ];
    let mut seen = 0;
    for file in files {
        let text = read(&format!("packaging/{file}"));
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let variables = words.filter_map(|word| word.strip_prefix("ETCD_"));
        let variables = variables.map(|name| name.to_lowercase().replace('_', "-"));
        let arguments = text.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        let arguments = arguments.filter_map(|word| word.split('=').next()).map(str::to_owned);
        for name in variables.chain(arguments) {
            assert!(flags.contains(name.as_str()), "{file}: nobody knows --{name}");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} settings were found");
}

#[test]
fn kubernetes_gets_what_a_cluster_needs() {
    let documents = yaml("packaging/kubernetes/quorate.yaml");
    let kinds: Vec<&str> = documents.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["Service", "Service", "PodDisruptionBudget", "StatefulSet"]);
    let members = documents[3]["spec"]["replicas"].as_i64().expect("a number");
    let container = &documents[3]["spec"]["template"]["spec"]["containers"][0];
    let arguments = container["args"].as_vec().expect("arguments");
    let all = arguments.iter().filter_map(Yaml::as_str);
    let all = all.filter_map(|argument| argument.strip_prefix("--initial-cluster=")).next();
    assert_eq!(all.expect("a list of members").split(',').count() as i64, members);
    // One that leaves must not take the majority along.
    let leaving = documents[2]["spec"]["maxUnavailable"].as_i64().expect("a number");
    assert!(members - leaving > members / 2);
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"].as_str(), Some(path));
    }
}

//! Copies of everything, as a user takes them and brings clusters back from them: snapshots,
//! continuous backups, and moves from etcd and to it.

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::cluster::{Cluster, Program, SOON, Settings, binary};
use support::s3::Bucket;

/// More than that is never between a snapshot and what follows it in these tests.
const MARGIN: i64 = 1_000_000_000;

fn endpoints(cluster: &Cluster) -> String {
    let all = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
    all.collect::<Vec<_>>().join(",")
}

fn quorate(words: &str) -> Output {
    let words = words.split(' ').filter(|word| !word.is_empty());
    Command::new(binary()).args(words).output().expect("the binary runs")
}

/// What a command prints that must succeed.
fn done(words: &str) -> Value {
    let output = quorate(&format!("{words} --json"));
    assert!(output.status.success(), "{words}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{words}: {error}: {text}"))
}

/// What a command complains of that must end with `code`.
fn refused(words: &str, code: i32) -> String {
    let output = quorate(words);
    assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn put(at: &str, key: &str, value: &str) -> i64 {
    let answer = done(&format!("ctl put {key} {value} --endpoints {at}"));
    answer["header"]["revision"].as_i64().expect("a revision")
}

fn get(at: &str, key: &str) -> Option<String> {
    let output = quorate(&format!("ctl get {key} --endpoints {at}"));
    assert!(output.status.success(), "{key}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().nth(1).map(str::to_owned)
}

/// The flags of member `i` that say who it is.
fn seat(cluster: &Cluster, i: usize) -> String {
    let flags = cluster.flags(i);
    let wanted = ["--name", "--data-dir", "--initial-cluster", "--initial-cluster-token"];
    let pairs = flags.chunks(2).filter(|pair| {
        wanted.contains(&pair[0].as_str()) || pair[0] == "--initial-advertise-peer-urls"
    });
    pairs.map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" ")
}

/// Moves the data of a member out of the way.
fn set_aside(dir: &Path) -> std::path::PathBuf {
    let places = (0..).map(|number| dir.with_extension(format!("aside-{number}")));
    let aside = places.into_iter().find(|place| !place.exists()).expect("numbers do not end");
    std::fs::rename(dir, &aside).expect("renamed");
    aside
}

/// Waits until something is so.
async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `quorate backup`, which runs until it is killed or dropped.
struct Shipping(Child);

impl Shipping {
    fn start(cluster: &Cluster, place: &str) -> Shipping {
        let child = Command::new(binary())
            .args(["backup", place, "--interval", "100ms", "--endpoints", &endpoints(cluster)])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Shipping(child.expect("it starts"))
    }
}

impl Drop for Shipping {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// The last revision that can be restored.
fn reached(place: &str) -> i64 {
    if !Path::new(place).exists() {
        return 0;
    }
    let listed = done(&format!("restore --from {place} --list"));
    let reaches = listed["clusters"][0]["reaches"].as_array().cloned().unwrap_or_default();
    reaches.last().and_then(|reach| reach["to"].as_i64()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_from_a_snapshot_as_another_one_above_all_revisions() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let at = endpoints(&cluster);
    let file = cluster.dir().join("copy.db");
    let name = file.display().to_string();
    put(&at, "a", "1");
    let lease = done(&format!("ctl lease grant 600 --endpoints {at}"));
    let lease = lease["id"].as_str().expect("an id");
    put(&at, &format!("leased v --lease {lease}"), "");
    let saved = done(&format!("snapshot save {name} --endpoints {at}"));
    let size = std::fs::metadata(&file).expect("it is there").len();
    assert_eq!(saved["bytes"].as_u64(), Some(size - 32));
    assert_eq!(saved["keys"].as_u64(), Some(2));
    assert!(!Path::new(&format!("{name}.part")).exists());
    let again = refused(&format!("snapshot save {name} --endpoints {at}"), 2);
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(done(&format!("ctl snapshot status {name}"))["sha256"], saved["sha256"]);
    let after = put(&at, "a", "2"); // lost with the cluster, and perhaps seen by somebody

    // Nobody restores over a member, running or not; nor from what is damaged, cut or foreign.
    let live = refused(&format!("snapshot restore {name} {}", seat(&cluster, 0)), 2);
    assert!(live.contains("is not empty"), "{live}");
    let whole = std::fs::read(&file).expect("a file");
    let bad = cluster.dir().join("bad.db");
    let (bad_name, into) = (bad.display(), cluster.dir().join("nowhere"));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, code, told) in [
        (&flipped[..], 1, "is damaged"),
        (&whole[..whole.len() - 100], 2, "is no whole snapshot"),
        (&[7; 1_024][..], 2, "is neither a snapshot of quorate nor of etcd"),
    ] {
        std::fs::write(&bad, bytes).expect("a file");
        let words = format!("snapshot restore {bad_name} --data-dir {}", into.display());
        let said = refused(&words, code);
        assert!(said.contains(told), "{said}");
        assert!(!into.exists(), "nothing is left behind");
    }

    cluster.kill_all();
    let old: Vec<_> = cluster.members.iter().map(|member| set_aside(&member.data_dir)).collect();
    let born: Vec<Value> =
        (0..3).map(|i| done(&format!("snapshot restore {name} {}", seat(&cluster, i)))).collect();
    assert!(born.iter().all(|born| born["cluster_id"] == born["cluster_id"]));
    assert_ne!(born[0]["cluster_id"], saved["cluster_id"]);
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(get(&at, "a").as_deref(), Some("1"));
    assert_eq!(get(&at, "leased").as_deref(), Some("v"));
    let revision = put(&at, "a", "3");
    assert!(revision > after + MARGIN / 2, "{revision} after {after}");
    let compacted = refused(&format!("ctl watch a --rev {after} --count 1 --endpoints {at}"), 1);
    assert!(compacted.contains("compacted"), "{compacted}");
    let living = done(&format!("ctl lease timetolive {lease} --endpoints {at}"));
    assert!(living.to_string().contains("600"), "{living}");

    // An old member comes back with its old disk: it is a stranger.
    cluster.kill(2);
    set_aside(&cluster.members[2].data_dir.clone());
    std::fs::rename(&old[2], &cluster.members[2].data_dir).expect("renamed");
    cluster.spawn(2);
    let pair = at.rsplit_once(',').expect("three").0;
    for number in 0..20 {
        put(pair, "a", &number.to_string());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stranger = format!("127.0.0.1:{}", cluster.members[2].client_port);
    let output = quorate(&format!("ctl get a --timeout 1 --endpoints {stranger}"));
    assert!(!output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_goes_on_and_any_revision_comes_back() {
    let mut cluster = Cluster::start(Settings::of(1)).await;
    let at = endpoints(&cluster);
    let place = cluster.dir().join("backup").display().to_string();
    put(&at, "k", "first");
    let shipping = Shipping::start(&cluster, &place);
    wait_for("a base", || reached(&place) > 0).await;
    let mut revisions = Vec::new();
    for number in 0..6 {
        revisions.push(put(&at, "k", &number.to_string()));
    }
    wait_for("what was written", || reached(&place) >= revisions[2]).await;
    drop(shipping); // kill -9
    let missed = put(&at, "missed", "yes");
    done(&format!("ctl del k --endpoints {at}"));
    let once = done(&format!("backup {place} --once --endpoints {at}"));
    assert_eq!(once["lag_revisions"].as_u64(), Some(0), "{once}");
    assert_eq!(reached(&place), missed + 1, "nothing is missing where it was killed");

    let drill = done(&format!("restore --from {place} --drill --compare --endpoints {at}"));
    assert_eq!(drill["revision"].as_i64(), Some(missed + 1));
    // Users and roles are no changes of keys: a new base brings them, and it is taken in time.
    let far = refused(&format!("restore --from {place} --to-revision {}", missed + 50), 2);
    assert!(far.contains("is missing"), "{far}");

    cluster.kill_all();
    set_aside(&cluster.members[0].data_dir.clone());
    let (seat, to) = (seat(&cluster, 0), revisions[3]);
    let born = done(&format!("restore --from {place} --to-revision {to} {seat}"));
    assert_eq!(born["state_revision"].as_i64(), Some(to));
    assert!(born["revision"].as_i64() > Some(missed + MARGIN - 1), "above all that is archived");
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(get(&at, "k").as_deref(), Some("3"));
    assert_eq!(get(&at, "missed"), None);

    // A byte of a segment goes bad: it is named, and what it held is not made up.
    let damaged = newest_segment(Path::new(&place));
    let mut bytes = std::fs::read(&damaged).expect("a segment");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    let said = refused(&format!("restore --from {place} --drill"), 2);
    assert!(said.contains("its checksum does not match"), "{said}");
}

fn newest_segment(place: &Path) -> std::path::PathBuf {
    let cluster = std::fs::read_dir(place).expect("a place").next().expect("a cluster");
    let entries = std::fs::read_dir(cluster.expect("an entry").path()).expect("a cluster");
    let names = entries.map(|entry| entry.expect("an entry").path());
    names.filter(|name| name.extension().is_some_and(|end| end == "seg")).max().expect("a segment")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_or_nonsense_is_told_in_words() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let at = endpoints(&cluster);
    let nowhere = cluster.dir().join("file");
    std::fs::write(&nowhere, "in the way").expect("a file");
    for (words, told) in [
        (format!("backup {}/x --endpoints {at}", nowhere.display()), "is no place for a backup"),
        (format!("backup ftp://host/x --endpoints {at}"), "is no place for a backup"),
        (
            format!("restore --from {}/x --list", cluster.dir().display()),
            "is no place for a backup",
        ),
        (format!("restore --from {} --drill", cluster.dir().display()), "holds no backup"),
        ("snapshot save /nonexistent/copy.db".to_owned(), "/nonexistent/copy.db"),
        ("export /nonexistent/copy.db".to_owned(), "/nonexistent/copy.db"),
        (format!("import --follow {at} --endpoints {at}"), "both are cluster"),
    ] {
        let said = refused(&words, 2);
        assert!(said.contains(told), "{words}: {said}");
    }
    let bucket = Bucket::start();
    for key in ["a", "b", "c"] {
        put(&at, key, "v");
    }
    // The port of discarding, where nobody listens; then one where somebody does.
    let (code, said) = on_s3(9, &format!("backup s3://bucket/x --patience 1s --endpoints {at}"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot be reached"), "{said}");
    for words in [
        format!("backup s3://bucket/deep/x --once --endpoints {at}"),
        format!("backup s3://bucket/deep/x --once --keep 1 --endpoints {at}"),
        "restore --from s3://bucket/deep/x --list".to_owned(),
        format!("restore --from s3://bucket/deep/x --drill --compare --endpoints {at}"),
    ] {
        let (code, said) = on_s3(bucket.port, &words);
        assert_eq!(code, Some(0), "{words}: {said}");
        put(&at, "a", "w");
    }
    let names = bucket.names();
    assert!(names.iter().all(|name| name.starts_with("bucket/deep/x/")), "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(".seg")), "{names:?}");
}

/// Runs a command with the keys of an S3, which it must not tell.
fn on_s3(port: u16, words: &str) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(words.split(' '))
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "nowhere")
        .env("AWS_ACCESS_KEY_ID", "AKIAVERYSECRET")
        .env("AWS_SECRET_ACCESS_KEY", "quite-secret")
        .output()
        .expect("it runs");
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.to_lowercase().contains("secret"), "{said}");
    (output.status.code(), said)
}

/// etcd's own programs, if they are there.
fn has_etcd() -> bool {
    let is_there = |program: &str, word: &str| {
        let output = Command::new(program).arg(word).env("ETCDCTL_API", "3").output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = is_there("etcd", "--version") && is_there("etcdctl", "version");
    if !found {
        eprintln!("SKIPPED: etcd or etcdctl not found; install etcd-server and etcd-client");
    }
    found
}

fn etcdctl(words: &str) -> String {
    let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(words.split(' ')).output();
    let output = output.expect("etcdctl");
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_moves_in_by_file_and_by_following_and_out_again() {
    if !has_etcd() {
        return;
    }
    let theirs = Cluster::start(Settings { program: Program::Etcd, ..Settings::of(1) }).await;
    let mut ours = Cluster::start(Settings::of(1)).await;
    let (etcd, at) = (endpoints(&theirs), endpoints(&ours));
    for number in 0..30 {
        etcdctl(&format!("--endpoints={etcd} put many/{number} {number}"));
    }
    etcdctl(&format!("--endpoints={etcd} del many/7"));
    let granted = etcdctl(&format!("--endpoints={etcd} lease grant 600"));
    let lease = granted.split(' ').nth(1).expect("an id").to_owned();
    etcdctl(&format!("--endpoints={etcd} put --lease={lease} leased v"));

    let state = ours.dir().join("state.json").display().to_string();
    let follow =
        format!("import --follow {etcd} --endpoints {at} --until-caught-up --state {state}");
    let first = done(&follow);
    assert_eq!((first["equal"].as_bool(), first["keys"].as_u64()), (Some(true), Some(30)));
    etcdctl(&format!("--endpoints={etcd} put late yes"));
    etcdctl(&format!("--endpoints={etcd} del many/8"));
    let second = done(&follow);
    // It went on where it was, and took up what hangs on the lease again.
    assert_eq!((second["copied"].as_u64(), second["leases"].as_u64()), (Some(1), Some(1)));
    assert_eq!((second["equal"].as_bool(), second["keys"].as_u64()), (Some(true), Some(30)));
    assert_eq!(get(&at, "late").as_deref(), Some("yes"));
    let living = done(&format!("ctl lease timetolive {lease} --keys --endpoints {at}"));
    assert!(living.to_string().contains("leased") || living["keys"].is_array(), "{living}");

    // By file: the same revisions, in a new cluster; and back, into an etcd.
    ours.kill_all();
    set_aside(&ours.members[0].data_dir.clone());
    let born =
        done(&format!("import --from {etcd} {} --keep-history --bump-revision 0", seat(&ours, 0)));
    assert_eq!(born["keys"].as_u64(), Some(30));
    ours.spawn_all();
    ours.wait_ready().await;
    let revision = put(&at, "of", "ours");
    assert_eq!(revision, born["state_revision"].as_i64().expect("a number") + 1);
    let old = etcdctl(&format!("--endpoints={at} get many/7 --rev=10 --print-value-only"));
    assert_eq!(old.trim(), "7", "history came along");
    let file = ours.dir().join("out.db").display().to_string();
    let written = done(&format!("export {file} --endpoints {at}"));
    assert_eq!(written["keys"].as_u64(), Some(31));
    let status = etcdctl(&format!("snapshot status {file} -w json"));
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["revision"].as_i64(), Some(revision));
    let mut back = Cluster::prepare(Settings { program: Program::Etcd, ..Settings::of(1) });
    etcdctl(&format!("snapshot restore {file} {}", seat(&back, 0)));
    back.spawn_all();
    back.wait_ready().await;
    let back_at = endpoints(&back);
    assert_eq!(get(&back_at, "of").as_deref(), Some("ours"));
    assert_eq!(get(&back_at, "late").as_deref(), Some("yes"));
    let old = etcdctl(&format!("--endpoints={back_at} get many/7 --rev=10 --print-value-only"));
    assert_eq!(old.trim(), "7");
    let living = etcdctl(&format!("--endpoints={back_at} lease timetolive {lease} --keys"));
    assert!(living.contains("leased"), "{living}");
}

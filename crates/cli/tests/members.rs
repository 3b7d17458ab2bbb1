//! Members come, go and change places, as real processes under writes.

mod support;

use quorate_server::proto::etcdserverpb as pb;
use serde_json::Value;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, Freshness};
use support::cluster::{Cluster, SOON, Settings, binary};

/// A process that has left says so with this status.
const EXIT_REMOVED: i32 = 3;
const GLANCE: Duration = Duration::from_millis(50);

fn ports(cluster: &Cluster) -> String {
    let up = (0..cluster.members.len()).filter(|i| cluster.is_up(*i));
    let each = up.map(|i| format!("127.0.0.1:{}", cluster.members[i].client_port));
    each.collect::<Vec<_>>().join(",")
}

/// `quorate member ...` of whoever is up.
fn member(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("member").args(words).args(["--endpoints", &ports(cluster), "--json"]);
    command.args(["--timeout", "60"]).output().expect("the binary runs")
}

/// The same until it succeeds, as an operator repeats a command that may be repeated.
fn done(cluster: &Cluster, words: &[&str]) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let output = member(cluster, words);
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).expect("an object");
        }
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(Instant::now() < deadline, "{words:?}: {told}");
        std::thread::sleep(GLANCE * 4);
    }
}

fn refused(cluster: &Cluster, words: &[&str], why: &str) {
    let output = member(cluster, words);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && told.contains(why), "{words:?}: {told}");
}

fn url(cluster: &Cluster, i: usize) -> String {
    cluster.members[i].peer_url()
}

/// Starts a member with what `member add` printed.
fn join(cluster: &mut Cluster, i: usize, env: &Value) {
    let text = |name: &str| env[name].as_str().expect(name).to_owned();
    let mut flags = cluster.flags(i);
    for (flag, value) in [
        ("--initial-cluster", text("ETCD_INITIAL_CLUSTER")),
        ("--initial-cluster-state", text("ETCD_INITIAL_CLUSTER_STATE")),
    ] {
        let at = flags.iter().position(|known| known == flag).expect(flag);
        flags[at + 1] = value;
    }
    cluster.spawn_with(i, &flags);
}

async fn listed(client: &mut Client) -> Option<Vec<pb::Member>> {
    client.members().await.ok().map(|answer| answer.members)
}

/// Waits until the list of somebody who is asked is as wanted.
async fn wait_list(
    cluster: &Cluster,
    i: usize,
    what: &str,
    is_so: impl Fn(&[pb::Member]) -> bool,
) -> Vec<pb::Member> {
    let deadline = Instant::now() + SOON;
    loop {
        let members = listed(&mut cluster.client(i)).await;
        if let Some(members) = members.as_ref().filter(|members| is_so(members)) {
            return members.clone();
        }
        assert!(Instant::now() < deadline, "{what}: {members:?}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// So many vote, under their names.
async fn wait_voters(cluster: &Cluster, i: usize, count: usize) -> Vec<pb::Member> {
    let all = |members: &[pb::Member]| {
        let ready = |told: &pb::Member| !told.is_learner && !told.name.is_empty();
        members.len() == count && members.iter().all(ready)
    };
    wait_list(cluster, i, &format!("{count} voters"), all).await
}

fn id_of(members: &[pb::Member], name: &str) -> u64 {
    members.iter().find(|told| told.name == name).expect(name).id
}

/// Writes to whoever answers until it is stopped; answers with how many were acknowledged.
fn writer(cluster: &Cluster, i: usize) -> (Arc<AtomicBool>, tokio::task::JoinHandle<usize>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut client, told) = (cluster.client(i), Arc::clone(&stop));
    let writing = tokio::spawn(async move {
        let mut count = 0;
        while !told.load(Ordering::Relaxed) {
            match client.put(&format!("w/{count}"), "x").await {
                Ok(_) => count += 1,
                Err(_) => tokio::time::sleep(GLANCE).await,
            }
        }
        count
    });
    (stop, writing)
}

async fn assert_written(cluster: &Cluster, i: usize, count: usize) {
    let store = cluster.client(i).all(Freshness::Linearizable).await.expect("a read");
    for number in 0..count {
        let key = format!("w/{number}");
        assert!(store.kvs.iter().any(|kv| kv.key == key.as_bytes()), "{key} is lost");
    }
}

/// Members that are not started: their places on disk and in the network.
fn prepared(settings: Settings, first: usize) -> (Cluster, Vec<String>) {
    let cluster = Cluster::prepare(settings);
    let own = (0..first).map(|i| format!("{}={}", cluster.members[i].name, url(&cluster, i)));
    let own = own.collect::<Vec<_>>().join(",");
    let flags = |i: usize| {
        let mut flags = cluster.flags(i);
        let at = flags.iter().position(|flag| flag == "--initial-cluster").expect("a flag");
        flags[at + 1] = own.clone();
        flags
    };
    let flags = (0..first).map(flags).collect::<Vec<_>>();
    let mut cluster = cluster;
    for (i, flags) in flags.iter().enumerate() {
        cluster.spawn_with(i, flags);
    }
    (cluster, vec![own])
}

#[tokio::test]
async fn a_cluster_grows_from_one_to_five_under_writes() {
    let (mut cluster, _) = prepared(Settings::of(5), 1);
    cluster.wait_ready().await;
    let (stop, writing) = writer(&cluster, 0);
    for i in 1..5 {
        let (name, url) = (cluster.members[i].name.clone(), url(&cluster, i));
        let added = done(&cluster, &["add", &name, "--peer-urls", &url]);
        join(&mut cluster, i, &added["env"]);
        wait_voters(&cluster, 0, i + 1).await;
    }
    stop.store(true, Ordering::Relaxed);
    let count = writing.await.expect("no panic");
    assert!(count > 0, "nothing was written meanwhile");
    cluster.wait_ready().await;
    assert_written(&cluster, 4, count).await;
    // Any two may fail now.
    cluster.kill(0);
    cluster.kill(1);
    cluster.wait_ready().await;
    assert_written(&cluster, 3, count).await;
    // Restarted with the flags of their beginning, or of their joining, all are back.
    let first = prepared_flags(&cluster, 0);
    cluster.spawn_with(0, &first);
    cluster.wait_ready().await;
    cluster.wait_agreement().await;
}

fn prepared_flags(cluster: &Cluster, i: usize) -> Vec<String> {
    let mut flags = cluster.flags(i);
    let at = flags.iter().position(|flag| flag == "--initial-cluster").expect("a flag");
    flags[at + 1] = format!("{}={}", cluster.members[i].name, url(cluster, i));
    flags
}

#[tokio::test]
async fn a_removed_leader_is_told_and_stops_and_stays_away() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    wait_voters(&cluster, 0, 3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.client(follower).put("k", "x").await.expect("a write");
    let name = cluster.members[leader].name.clone();
    done(&cluster, &["remove", &name]);
    let status = cluster.wait_exit(leader, SOON);
    assert_eq!(status.code(), Some(EXIT_REMOVED), "{status:?}");
    cluster.wait_log(leader, &["was removed from cluster"]).await;
    wait_voters(&cluster, follower, 2).await;
    cluster.wait_ready().await;
    cluster.client(follower).put("k", "y").await.expect("a write without it");
    // Asked to start again it refuses at once.
    cluster.spawn(leader);
    let status = cluster.wait_exit(leader, SOON);
    assert_eq!(status.code(), Some(EXIT_REMOVED), "{status:?}");
    assert!(member(&cluster, &["list"]).status.success());
}

#[tokio::test]
async fn a_member_that_was_away_when_it_was_removed_hears_of_it() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    wait_voters(&cluster, 0, 3).await;
    let away = cluster.follower().await;
    let name = cluster.members[away].name.clone();
    cluster.kill(away);
    done(&cluster, &["remove", &name]);
    let other = (0..3).find(|i| *i != away).expect("another");
    wait_voters(&cluster, other, 2).await;
    cluster.spawn(away);
    let status = cluster.wait_exit(away, SOON);
    assert_eq!(status.code(), Some(EXIT_REMOVED), "{status:?}");
    cluster.wait_log(away, &["was removed from cluster"]).await;
    cluster.client(other).put("k", "x").await.expect("the others serve on");
}

#[tokio::test]
async fn changes_that_would_hurt_are_refused_in_etcds_words() {
    let (mut cluster, _) = prepared(Settings::of(5), 3);
    cluster.wait_ready().await;
    let members = wait_voters(&cluster, 0, 3).await;
    let taken = url(&cluster, 1);
    refused(&cluster, &["add", "x", "--peer-urls", &taken], "etcdserver: Peer URLs already exists");
    let nonsense = ["add", "x", "--peer-urls", "http://nowhere"];
    refused(&cluster, &nonsense, "etcdserver: given member URLs are invalid");
    refused(&cluster, &["remove", "abcdef"], "etcdserver: member not found");
    refused(&cluster, &["promote", "m1"], "etcdserver: can only promote a learner member");
    let (new, other) = (url(&cluster, 3), url(&cluster, 4));
    done(&cluster, &["add", "m4", "--peer-urls", &new, "--learner"]);
    let id = |members: &[pb::Member]| {
        let known: Vec<u64> = members.iter().map(|told| told.id).collect();
        known
    };
    let known = id(&members);
    let members = wait_list(&cluster, 0, "a seat", |members| members.len() == 4).await;
    let learner = members.iter().find(|told| !known.contains(&told.id)).expect("the new one");
    assert!(learner.is_learner);
    let learner = format!("{:x}", learner.id);
    let not_in_sync = "can only promote a learner member which is in sync with leader";
    refused(&cluster, &["promote", &learner], not_in_sync);
    let too_many = "etcdserver: too many learner members in cluster";
    refused(&cluster, &["add", "m5", "--peer-urls", &other, "--learner"], too_many);
    // One is down: nobody is added, and of the other two nobody is removed.
    let down = cluster.follower().await;
    cluster.kill(down);
    let deadline = Instant::now() + SOON;
    loop {
        // Nobody gets an address that is taken, so it does not matter when that is noticed.
        let output = member(&cluster, &["add", "m5", "--peer-urls", &taken]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if told.contains("etcdserver: unhealthy cluster") {
            break;
        }
        assert!(Instant::now() < deadline && !output.status.success(), "{told}");
        std::thread::sleep(GLANCE);
    }
    let up = (0..3).find(|i| cluster.is_up(*i)).expect("somebody");
    let name = cluster.members[up].name.clone();
    refused(&cluster, &["remove", &name], "etcdserver: unhealthy cluster");
    // The one that is down may go.
    let name = cluster.members[down].name.clone();
    done(&cluster, &["remove", &name]);
    wait_list(&cluster, up, "three seats", |members| members.len() == 3).await;
}

#[tokio::test]
async fn a_dead_member_is_replaced_in_one_step_that_may_be_asked_again() {
    let (mut cluster, _) = prepared(Settings::of(4), 3);
    cluster.wait_ready().await;
    let members = wait_voters(&cluster, 0, 3).await;
    let (stop, writing) = writer(&cluster, 0);
    let old = format!("{:x}", id_of(&members, "m3"));
    cluster.kill(2);
    let new = url(&cluster, 3);
    let first = done(&cluster, &["replace", "m3", "m4", &new]);
    let again = done(&cluster, &["replace", &old, "m4", &new]);
    assert_eq!(first["member"]["id"], again["member"]["id"], "asked again it is the same");
    join(&mut cluster, 3, &again["env"]);
    let swapped = |members: &[pb::Member]| {
        let votes = |name: &str| members.iter().any(|told| told.name == name && !told.is_learner);
        members.len() == 3 && votes("m4") && !members.iter().any(|told| told.name == "m3")
    };
    wait_list(&cluster, 0, "m4 in the place of m3", swapped).await;
    let when_done = done(&cluster, &["replace", &old, "m4", &new]);
    assert_eq!(first["member"]["id"], when_done["member"]["id"], "asked again when it is done");
    stop.store(true, Ordering::Relaxed);
    let count = writing.await.expect("no panic");
    // The new one is needed for a quorum now, and it has all.
    cluster.kill(1);
    cluster.wait_ready().await;
    assert_written(&cluster, 3, count).await;
    cluster.spawn(2);
    assert_eq!(cluster.wait_exit(2, SOON).code(), Some(EXIT_REMOVED));
}

#[tokio::test]
async fn two_members_and_a_witness_survive_the_loss_of_any() {
    let (mut cluster, own) = prepared(Settings::of(3), 2);
    cluster.wait_ready().await;
    let place = url(&cluster, 2);
    let added = done(&cluster, &["add", "m3", "--witness", "--peer-urls", &place]);
    join(&mut cluster, 2, &added["env"]);
    let listed = wait_voters(&cluster, 0, 3).await;
    let witness = listed.iter().find(|told| told.name == "m3").expect("it is listed");
    assert!(witness.client_ur_ls.is_empty(), "clients would ask there");
    let why = "is a witness, which keeps no data";
    let refused_read = cluster.client(2).get("a", Freshness::Serializable).await;
    assert!(refused_read.as_ref().is_err_and(|f| f.to_string().contains(why)), "{refused_read:?}");
    let status = cluster.client(2).status().await.expect("its status");
    assert!(!status.is_learner && status.leader != 0);
    let with = |i: usize| {
        let mut flags = cluster.flags(i);
        let at = flags.iter().position(|flag| flag == "--initial-cluster").expect("a flag");
        flags[at + 1].clone_from(&own[0]);
        flags
    };
    let flags = [with(0), with(1)];
    // Each in turn dies, and takes part again before the other one does.
    for (dies, lives) in [(0, 1), (1, 0)] {
        cluster.kill(dies);
        cluster.wait_ready_one(lives).await;
        let key = format!("without-{dies}");
        cluster.client(lives).put(&key, "x").await.expect("a quorum with the witness");
        cluster.spawn_with(dies, &flags[dies]);
        cluster.wait_ready_one(dies).await;
        let seen = cluster.client(dies).get(&key, Freshness::Linearizable).await.expect("a read");
        assert!(seen.found.is_some(), "{key} is lost");
    }
    cluster.kill(2);
    cluster.client(0).put("without-2", "x").await.expect("a quorum without the witness");
}

#[tokio::test]
async fn a_lost_disk_comes_back_as_a_new_member_only() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    wait_voters(&cluster, 0, 3).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    cluster.kill(2);
    std::fs::remove_dir_all(&cluster.members[2].data_dir).expect("a lost disk");
    let env = serde_json::json!({
        "ETCD_INITIAL_CLUSTER": cluster.initial_cluster(),
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
    });
    join(&mut cluster, 2, &env);
    assert!(!cluster.wait_exit(2, SOON).success());
    cluster.wait_log(2, &["lost its disk", "quorate member replace"]).await;
    let same = url(&cluster, 2);
    let replaced = done(&cluster, &["replace", "m3", "m3", &same]);
    join(&mut cluster, 2, &replaced["env"]);
    cluster.wait_ready().await;
    let wanted = replaced["member"]["id"].as_str().expect("an id").to_owned();
    let is_new = |members: &[pb::Member]| {
        let votes = |told: &pb::Member| format!("{:x}", told.id) == wanted && !told.is_learner;
        members.len() == 3 && members.iter().any(votes)
    };
    wait_list(&cluster, 0, "the new m3", is_new).await;
    cluster.wait_agreement().await;
}

#[tokio::test]
async fn a_learner_serves_its_own_state_until_etcdctl_promotes_it() {
    let (mut cluster, own) = prepared(Settings::of(4), 3);
    cluster.wait_ready().await;
    wait_voters(&cluster, 0, 3).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    let new = url(&cluster, 3);
    let endpoints = ports(&cluster);
    let etcdctl = |words: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints]);
        let output = command.args(["--command-timeout", "60s"]).args(words).output();
        let Ok(output) = output else {
            support::report("etcdctl is not installed: this test proves less");
            return None;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        Some(text(&output.stdout))
    };
    let peer_urls = format!("--peer-urls={new}");
    let Some(added) = etcdctl(&["member", "add", "m4", &peer_urls, "--learner"]) else { return };
    assert!(added.contains("added") && added.contains("to cluster"), "{added}");
    let id = added.split_whitespace().nth(1).expect("an id").to_owned();
    let value = |name: &str| {
        let line = added.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.expect(name).trim_matches('"').to_owned()
    };
    assert_eq!(value("ETCD_INITIAL_CLUSTER").split(',').count(), 4, "{own:?} and the new one");
    let env = serde_json::json!({
        "ETCD_INITIAL_CLUSTER": value("ETCD_INITIAL_CLUSTER"),
        "ETCD_INITIAL_CLUSTER_STATE": value("ETCD_INITIAL_CLUSTER_STATE"),
    });
    join(&mut cluster, 3, &env);
    let mut learner = cluster.client(3);
    let deadline = Instant::now() + SOON;
    loop {
        let seen = learner.get("k", Freshness::Serializable).await;
        if seen.as_ref().is_ok_and(|seen| seen.found.is_some()) {
            break;
        }
        assert!(Instant::now() < deadline, "the learner does not catch up: {seen:?}");
        tokio::time::sleep(GLANCE).await;
    }
    let refused = "rpc not supported for learner";
    let read = learner.get("k", Freshness::Linearizable).await.expect_err(refused);
    assert!(read.to_string().contains(refused), "{read}");
    let write = learner.put("k", "y").await.expect_err(refused);
    assert!(write.to_string().contains(refused), "{write}");
    assert!(learner.status().await.expect("a status").is_learner);
    done(&cluster, &["promote", &id]);
    cluster.wait_ready_one(3).await;
    wait_voters(&cluster, 0, 4).await;
    let told = etcdctl(&["member", "update", &id, &format!("--peer-urls={new}")]);
    assert!(told.expect("it is there").contains("updated in cluster"));
    let told = etcdctl(&["member", "remove", &id]).expect("it is there");
    assert!(told.contains("removed from cluster"), "{told}");
    assert_eq!(cluster.wait_exit(3, SOON).code(), Some(EXIT_REMOVED));
}

#[tokio::test]
async fn a_change_survives_the_death_of_everybody_in_its_midst() {
    let (mut cluster, _) = prepared(Settings::of(5), 3);
    cluster.wait_ready().await;
    wait_voters(&cluster, 0, 3).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    for i in [3, 4] {
        let (name, url) = (cluster.members[i].name.clone(), url(&cluster, i));
        let added = done(&cluster, &["add", &name, "--peer-urls", &url]);
        join(&mut cluster, i, &added["env"]);
        cluster.kill_all();
        for back in 0..3 {
            cluster.spawn(back);
        }
        // The newcomer may have had no time to hear who it is; it asks again, or knows.
        join(&mut cluster, i, &added["env"]);
        for earlier in 3..i {
            cluster.spawn_with(earlier, &existing(&cluster, earlier));
        }
        wait_voters(&cluster, 0, i + 1).await;
    }
    cluster.kill(0);
    cluster.kill(1);
    for i in 2..5 {
        cluster.wait_ready_one(i).await;
    }
    let seen = cluster.client(4).get("k", Freshness::Linearizable).await.expect("a read");
    assert!(seen.found.is_some(), "what was acknowledged is there");
}

fn existing(cluster: &Cluster, i: usize) -> Vec<String> {
    let mut flags = cluster.flags(i);
    let at = flags.iter().position(|flag| flag == "--initial-cluster-state").expect("a flag");
    flags[at + 1] = "existing".to_owned();
    flags
}

#[tokio::test]
async fn one_survivor_becomes_a_cluster() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    wait_voters(&cluster, 0, 3).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    cluster.wait_agreement().await;
    cluster.kill_all();
    let mut flags = cluster.flags(1);
    flags.push("--force-new-cluster".to_owned());
    cluster.spawn_with(1, &flags);
    cluster.wait_ready().await;
    wait_voters(&cluster, 1, 1).await;
    let seen = cluster.client(1).get("k", Freshness::Linearizable).await.expect("a read");
    assert!(seen.found.is_some(), "its data are there");
    // It is a usual cluster from now on, without the flag.
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready().await;
    // Who comes back is told that it has no part in it, and its place can be had anew.
    cluster.spawn(2);
    assert_eq!(cluster.wait_exit(2, SOON).code(), Some(EXIT_REMOVED));
    std::fs::remove_dir_all(&cluster.members[2].data_dir).expect("its data");
    let again = url(&cluster, 2);
    let added = done(&cluster, &["add", "m3", "--peer-urls", &again]);
    join(&mut cluster, 2, &added["env"]);
    wait_voters(&cluster, 1, 2).await;
    cluster.wait_ready().await;
    cluster.wait_agreement().await;
}

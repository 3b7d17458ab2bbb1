//! Members whose disk or configuration is not what it should be: what can be mended is mended,
//! everything else is refused in words that name the fault, and nothing wrong is ever served.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use quorate_server::proto::etcdserverpb as pb;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::client::{Freshness, Snapshot, assert_filled, fill};
use support::cluster::{Cluster, SOON, Settings};
use support::files::{copy_tree, data_end, files_below, find_last, flip_bit};
use support::net::{free_port, loopback};

/// After so long without writes a log thread has nothing left to do, also on a busy machine.
const LOG_AT_REST: Duration = Duration::from_millis(500);

/// Keys of a store that is small but has more than one checkpoint with [`small_logs`].
const KEYS: usize = 300;

/// Size of their values. Unit: bytes.
const VALUE_BYTES: usize = 1_000;

/// A format that this program cannot know.
const FUTURE_FORMAT: u32 = 9;

/// Long enough for several elections; what has not been acknowledged by then is not going to be.
const SEVERAL_ELECTIONS: Duration = Duration::from_secs(2);

fn small_logs(members: usize) -> Settings {
    Settings::of(members).with("--checkpoint-bytes", 64 << 10).with("--log-retain-bytes", 32 << 10)
}

/// Waits until member `i` gives up with a failure and says why in one of `words`.
async fn assert_refused(cluster: &mut Cluster, i: usize, words: &[&str]) {
    let status = cluster.wait_exit(i, SOON);
    assert!(!status.success(), "{} ended as if all were well", cluster.members[i].name);
    cluster.wait_log(i, words).await;
}

// ---- a lost disk ----

/// A voter without its memory could vote twice in one term and un-acknowledge a write, so it must
/// not count towards any quorum.
#[tokio::test]
async fn a_member_whose_data_is_gone_is_refused_and_does_not_count() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 20, 100).await;
    let wiped = cluster.follower().await;
    let others: Vec<usize> = (0..3).filter(|i| *i != wiped).collect();
    cluster.kill(wiped);
    fs::remove_dir_all(&cluster.members[wiped].data_dir).expect("a lost disk");
    cluster.spawn(wiped);
    cluster.wait_log(wiped, &["lost its disk"]).await;
    cluster.client(others[0]).put("without it", "x").await.expect("two of three still serve");

    cluster.kill(others[0]);
    let mut last = cluster.client(others[1]).with_patience(SEVERAL_ELECTIONS);
    let write = last.put("alone", "x").await;
    assert!(write.is_err(), "one healthy member and a wiped one acknowledged a write");
    let read = last.get("k/0", Freshness::Linearizable).await;
    assert!(read.is_err(), "one healthy member and a wiped one confirmed a read");

    cluster.spawn(others[0]);
    cluster.wait_ready_one(others[1]).await;
    let store = cluster.client(others[0]).all(Freshness::Linearizable).await.expect("a read");
    assert_filled(&store, "k", 20, 100);
}

/// Without any member's memory there is nobody to ask, and also nothing to protect.
#[tokio::test]
async fn a_cluster_that_is_wiped_as_a_whole_starts_anew() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    cluster.kill_all();
    for member in &cluster.members {
        fs::remove_dir_all(&member.data_dir).expect("a lost disk");
    }
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await.kvs, [], "an empty store");
}

/// Two new disks beside a third that is down would begin anew, and nobody could tell. What the
/// documents recommend rules it out.
#[tokio::test]
async fn members_of_an_existing_cluster_do_not_start_without_data() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    cluster.kill_all();
    let existing = |cluster: &Cluster, i: usize| {
        let mut flags = cluster.flags(i);
        let state = flags.iter().position(|flag| flag == "--initial-cluster-state");
        flags[state.expect("a flag") + 1] = "existing".to_owned();
        flags
    };
    for i in [0, 1] {
        let data_dir = &cluster.members[i].data_dir;
        let aside = data_dir.with_extension("aside");
        fs::rename(data_dir, &aside).expect("a lost disk");
        let flags = existing(&cluster, i);
        cluster.spawn_with(i, &flags);
        assert_refused(&mut cluster, i, &["bring its disk back"]).await;
        let data_dir = &cluster.members[i].data_dir;
        let _ = fs::remove_dir_all(data_dir);
        fs::rename(&aside, data_dir).expect("the disk is back");
    }
    for i in 0..3 {
        let flags = existing(&cluster, i);
        cluster.spawn_with(i, &flags);
    }
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await.kvs.len(), 1, "the store of before");
}

// ---- somebody else's data ----

#[tokio::test]
async fn data_of_another_cluster_or_member_is_refused() {
    let mut ours = Cluster::start(Settings::of(1)).await;
    ours.client(0).put("k", "ours").await.expect("a write");
    ours.kill(0);
    let mut other = Settings::of(3);
    other.token = "another".to_owned();
    let mut theirs = Cluster::start(other).await;
    theirs.client(0).put("k", "theirs").await.expect("a write");
    theirs.kill_all();

    let own = ours.dir().join("own");
    fs::rename(&ours.members[0].data_dir, &own).expect("a rename");
    copy_tree(&theirs.members[0].data_dir, &ours.members[0].data_dir);
    ours.spawn(0);
    assert_refused(&mut ours, 0, &["cluster", "member"]).await;
    fs::remove_dir_all(&ours.members[0].data_dir).expect("the copy");
    fs::rename(&own, &ours.members[0].data_dir).expect("a rename");
    ours.spawn(0);
    ours.wait_ready().await;

    // Two members that swap their directories, as when volumes are mounted the wrong way round.
    let aside = theirs.dir().join("aside");
    fs::rename(&theirs.members[0].data_dir, &aside).expect("a rename");
    fs::rename(&theirs.members[1].data_dir, &theirs.members[0].data_dir).expect("a rename");
    fs::rename(&aside, &theirs.members[1].data_dir).expect("a rename");
    for i in [0, 1] {
        theirs.spawn(i);
        assert_refused(&mut theirs, i, &["member"]).await;
    }
}

/// A write-ahead log under another member's identity: the files know whose they are.
#[tokio::test]
async fn a_foreign_log_in_our_directory_is_refused() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    cluster.kill_all();
    let (mine, foreign) = (cluster.members[0].wal_dir(), cluster.members[1].wal_dir());
    fs::remove_dir_all(&mine).expect("our log");
    copy_tree(&foreign, &mine);
    cluster.spawn(0);
    assert_refused(&mut cluster, 0, &["member", "foreign", "another"]).await;
}

// ---- formats of the future ----

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(small_logs(1)).await;
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;
    wait_checkpoint(&cluster, 0).await;
    cluster.stop(0);
    let member = &cluster.members[0];
    let identity = member.data_dir.join("member/identity");
    let (log, checkpoint) = (segments(&member.wal_dir()), manifests(&member.checkpoint_dir()));
    let log = log.last().expect("a segment").clone();
    let checkpoint = checkpoint.last().expect("a manifest").clone();
    let read = |file: &Path| fs::read(file).expect("a file");
    let cases = [
        (&identity, newer_identity(&read(&identity))),
        (&log, newer_segment(&read(&log))),
        (&checkpoint, newer_manifest(&read(&checkpoint))),
    ];
    for (file, newer) in cases {
        let before = read(file);
        fs::write(file, &newer).expect("the newer file");
        // A newer version writes the copy of the identity, too.
        let copy = identity.with_extension("copy");
        let copied = read(&copy);
        if file == &identity {
            fs::write(&copy, &newer).expect("the newer copy");
        }
        fs::write(&cluster.members[0].log_file, "").expect("an empty log");
        cluster.spawn(0);
        assert_refused(&mut cluster, 0, &["newer", "format 9", "version 9"]).await;
        let name = file.display();
        assert!(cluster.log(0).contains(&FUTURE_FORMAT.to_string()), "{name}: which format?");
        assert!(fs::read(file).expect("a file") == newer, "{name} was changed");
        fs::write(file, before).expect("the old file");
        fs::write(&copy, copied).expect("the old copy");
    }
    cluster.spawn(0);
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", KEYS, VALUE_BYTES);
}

fn newer_identity(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("the identity is text");
    assert!(text.contains("format 1"), "the identity names its format: {text}");
    text.replace("format 1", &format!("format {FUTURE_FORMAT}")).into_bytes()
}

/// The version stands at offset 8, the checksum at the end of the header block of 4 KiB.
fn newer_segment(bytes: &[u8]) -> Vec<u8> {
    let (header, rest) = bytes.split_at(4096);
    [resealed(header), rest.to_vec()].concat()
}

/// The version stands at offset 8, the checksum at the end.
fn newer_manifest(bytes: &[u8]) -> Vec<u8> {
    resealed(bytes)
}

fn resealed(sealed: &[u8]) -> Vec<u8> {
    let mut bytes = sealed[..sealed.len() - 4].to_vec();
    bytes[8..12].copy_from_slice(&FUTURE_FORMAT.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

// ---- a place that cannot be used ----

/// Tests may run as root, whom no mode keeps out; these places keep out everybody.
#[tokio::test]
async fn a_data_directory_that_cannot_be_made_is_named() {
    let mut cluster = Cluster::prepare(Settings::of(1));
    let file = cluster.dir().join("file");
    fs::write(&file, "not a directory").expect("a file");
    for place in [file.join("data"), file.clone(), PathBuf::from("/proc/quorate")] {
        cluster.members[0].data_dir = place.clone();
        fs::write(&cluster.members[0].log_file, "").expect("an empty log");
        cluster.spawn(0);
        assert_refused(&mut cluster, 0, &[&place.display().to_string()]).await;
    }
}

#[tokio::test]
async fn two_processes_never_share_a_directory() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let mut flags = cluster.flags(0);
    let taken = [cluster.members[0].client_port, cluster.members[0].peer_port];
    for flag in &mut flags {
        for port in taken {
            *flag = flag.replace(&port.to_string(), &free_port().to_string());
        }
    }
    let peer = flags[9].clone();
    flags[11].clone_from(&peer);
    flags[13] = format!("m1={peer}");
    let output = std::process::Command::new(support::cluster::binary())
        .arg("serve")
        .args(&flags)
        .output()
        .expect("the second process");
    assert!(!output.status.success(), "the second process ended as if all were well");
    cluster.client(0).put("k", "x").await.expect("the first one still serves");
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let mut cluster = Cluster::prepare(Settings::of(1));
    for port in [cluster.members[0].client_port, cluster.members[0].peer_port] {
        let occupant = std::net::TcpListener::bind(loopback(port)).expect("the port");
        fs::write(&cluster.members[0].log_file, "").expect("an empty log");
        cluster.spawn(0);
        assert_refused(&mut cluster, 0, &[&format!("{port}")]).await;
        cluster.wait_log(0, &["in use"]).await;
        drop(occupant);
    }
    cluster.spawn(0);
    cluster.wait_ready().await;
}

// ---- wrong peers ----

#[tokio::test]
async fn a_member_with_another_token_does_not_join() {
    let mut cluster = Cluster::prepare(Settings::of(3));
    cluster.spawn(0);
    cluster.spawn(1);
    cluster.wait_ready().await;
    let mut flags = cluster.flags(2);
    let token = flags.iter().position(|flag| flag == "--initial-cluster-token").expect("a flag");
    flags[token + 1] = "another".to_owned();
    cluster.spawn_with(2, &flags);
    assert_stays_out(&mut cluster, 2, &["cluster id", "different cluster", "mismatch"]).await;
}

#[tokio::test]
async fn a_member_that_disagrees_about_the_members_does_not_join() {
    let mut cluster = Cluster::prepare(Settings::of(3));
    cluster.spawn(0);
    cluster.spawn(1);
    cluster.wait_ready().await;
    let mut flags = cluster.flags(2);
    let members = flags.iter().position(|flag| flag == "--initial-cluster").expect("a flag");
    let (first, third) = (&cluster.members[0], &cluster.members[2]);
    flags[members + 1] = format!("m1={},m3={}", first.peer_url(), third.peer_url());
    cluster.spawn_with(2, &flags);
    assert_stays_out(&mut cluster, 2, &["cluster id", "different cluster", "mismatch"]).await;
}

/// A member of `initial-cluster` without our own name is a mistake that needs no peer to see.
#[tokio::test]
async fn a_member_that_is_not_in_its_cluster_does_not_start() {
    let mut cluster = Cluster::prepare(Settings::of(3));
    let mut flags = cluster.flags(2);
    let members = flags.iter().position(|flag| flag == "--initial-cluster").expect("a flag");
    flags[members + 1] = format!("m1={}", cluster.members[0].peer_url());
    cluster.spawn_with(2, &flags);
    assert_refused(&mut cluster, 2, &["couldn't find local name \"m3\""]).await;
}

/// Member `i` says in one of `words` why it is no part of the cluster, and the cluster serves on.
async fn assert_stays_out(cluster: &mut Cluster, i: usize, words: &[&str]) {
    cluster.wait_log(i, words).await;
    cluster.client(0).put("k", "x").await.expect("the cluster serves on");
    let mut outsider = cluster.client(i).with_patience(SEVERAL_ELECTIONS);
    let read = outsider.get("k", Freshness::Serializable).await;
    assert!(!matches!(read, Ok(seen) if seen.found.is_some()), "the outsider has our data");
    assert!(outsider.put("k", "outside").await.is_err(), "the outsider took a write");
    // Nothing of the failed attempt keeps the right one from joining.
    cluster.kill(i);
    let _ = fs::remove_dir_all(&cluster.members[i].data_dir);
    cluster.spawn(i);
    cluster.wait_ready_one(i).await;
    cluster.wait_agreement().await;
}

// ---- damage ----

/// Where [`damage_value`] strikes: a value that stands in the log once.
fn marker(i: usize) -> String {
    format!("value {i} of those that its member will find damaged")
}

/// Flips a bit of a value in the log of member `i`, which must be down; twice undoes it.
fn damage_value(cluster: &Cluster, i: usize) {
    let marker = marker(i);
    // The half that stays as it is, so that a second flip finds the place of the first.
    let (needle, rest) = marker.split_at(marker.len() / 2);
    for segment in segments(&cluster.members[i].wal_dir()) {
        if let Some(at) = find_last(&segment, needle.as_bytes()) {
            return flip_bit(&segment, at + (needle.len() + rest.len() / 2) as u64);
        }
    }
    panic!("the log of {} does not hold the marker", cluster.members[i].name);
}

#[tokio::test]
async fn a_flipped_bit_in_a_followers_log_is_named_and_mended() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let follower = cluster.follower().await;
    fill(&cluster.client(0), "before", 30, 200).await;
    cluster.client(0).put("marker", marker(follower)).await.expect("a write");
    fill(&cluster.client(0), "after", 30, 200).await;
    cluster.wait_agreement().await;
    cluster.kill(follower);
    damage_value(&cluster, follower);
    cluster.spawn(follower);
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    assert_filled(&store, "before", 30, 200);
    assert_filled(&store, "after", 30, 200);
    cluster.wait_log(follower, &["damage"]).await;

    // The member that gave the good copy is not needed any more: the mended log is whole.
    let giver = cluster.leader().await;
    cluster.kill_all();
    for i in (0..3).filter(|i| *i != giver) {
        cluster.spawn(i);
    }
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    assert_filled(&store, "before", 30, 200);
    let seen = cluster.client(follower).get("marker", Freshness::Linearizable).await;
    let found = seen.expect("a read").found.expect("the marker");
    assert_eq!(found.value, marker(follower));
}

/// Two of three have lost an entry, each another one; the third is whole and must be believed.
#[tokio::test]
async fn damage_on_a_majority_is_mended_by_the_member_that_is_whole() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let before = write_markers(&cluster).await;
    cluster.kill_all();
    for i in [0, 1] {
        damage_value(&cluster, i);
    }
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "the store after the damage");
    for i in [0, 1] {
        cluster.wait_log(i, &["damage"]).await;
    }
}

/// No log is whole: whoever led would ask the others to forget. Nobody must serve until one member
/// is whole again, and then nothing may be missing.
#[tokio::test]
async fn damage_on_every_member_stops_the_cluster_until_one_is_whole_again() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let before = write_markers(&cluster).await;
    cluster.kill_all();
    for i in 0..3 {
        damage_value(&cluster, i);
    }
    cluster.spawn_all();
    for i in 0..3 {
        cluster.wait_log(i, &["damage"]).await;
    }
    let mut client = cluster.client(0).with_patience(SEVERAL_ELECTIONS);
    assert!(client.put("new", "x").await.is_err(), "a cluster without a whole log took a write");
    assert!(client.get("marker/0", Freshness::Linearizable).await.is_err(), "it served a read");

    // The same bit once more: the operator has brought back a good copy.
    cluster.kill(1);
    damage_value(&cluster, 1);
    cluster.spawn(1);
    cluster.wait_ready().await;
    let after = cluster.wait_agreement().await;
    let markers = |store: &Snapshot| {
        store.kvs.iter().filter(|kv| kv.key.starts_with(b"marker/")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(markers(&after), markers(&before), "the store after the damage");
}

/// Gives each member a value of its own to lose, with others around it.
async fn write_markers(cluster: &Cluster) -> Snapshot {
    for i in 0..3 {
        cluster.client(0).put(&format!("marker/{i}"), marker(i)).await.expect("a write");
        fill(&cluster.client(0), &format!("k{i}"), 10, 200).await;
    }
    cluster.wait_agreement().await;
    // A follower applies what a quorum holds, perhaps before its own log has it. Damage in a batch
    // that a kill interrupts is a torn tail, so a second batch must be on every disk as well.
    tokio::time::sleep(LOG_AT_REST).await;
    fill(&cluster.client(0), "later", 10, 200).await;
    tokio::time::sleep(LOG_AT_REST).await;
    cluster.wait_agreement().await
}

/// With one copy only, nothing can be mended: the member must say so and not serve a lesser store.
#[tokio::test]
async fn a_single_member_never_serves_past_damage() {
    let mut cluster = Cluster::start(Settings::of(1)).await;
    cluster.client(0).put("marker", marker(0)).await.expect("a write");
    fill(&cluster.client(0), "after", 30, 200).await;
    cluster.kill(0);
    damage_value(&cluster, 0);
    cluster.spawn(0);
    cluster.wait_log(0, &["damage"]).await;
    tokio::time::sleep(SEVERAL_ELECTIONS / 2).await;
    let read = cluster.client(0).get("marker", Freshness::Linearizable).await;
    let harmless = read.as_ref().is_err()
        || read
            .as_ref()
            .is_ok_and(|seen| seen.found.as_ref().is_some_and(|found| found.value == marker(0)));
    assert!(harmless, "a store with a hole is served: {read:?}");
}

#[tokio::test]
async fn a_damaged_newest_checkpoint_is_named_and_replaced() {
    let mut cluster = Cluster::start(small_logs(3)).await;
    let follower = cluster.follower().await;
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;
    wait_checkpoint(&cluster, follower).await;
    cluster.wait_agreement().await;
    cluster.stop(follower);
    let newest = newest_checkpoint(&cluster, follower);
    let middle = fs::metadata(&newest).expect("a file").len() / 2;
    flip_bit(&newest, middle);
    cluster.spawn(follower);
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", KEYS, VALUE_BYTES);
    cluster.wait_log(follower, &["damage"]).await;
}

/// An older checkpoint and the log behind it are enough, so they must both be there.
#[tokio::test]
async fn a_single_member_falls_back_to_the_older_checkpoint() {
    let mut cluster = Cluster::start(small_logs(1)).await;
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;
    wait_checkpoint(&cluster, 0).await;
    cluster.stop(0);
    let newest = newest_checkpoint(&cluster, 0);
    let middle = fs::metadata(&newest).expect("a file").len() / 2;
    flip_bit(&newest, middle);
    cluster.spawn(0);
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", KEYS, VALUE_BYTES);
    cluster.wait_log(0, &["damage"]).await;
}

/// The log of a member that received its state does not reach back to its older checkpoint, so it
/// has to be sent the state again. It must not take the hole for the end.
#[tokio::test]
async fn a_damaged_checkpoint_that_was_received_is_received_again() {
    let mut cluster = Cluster::start(small_logs(3)).await;
    let follower = cluster.follower().await;
    let leader = cluster.leader().await;
    fill(&cluster.client(leader), "first", KEYS, VALUE_BYTES).await;
    wait_checkpoint(&cluster, follower).await;
    cluster.kill(follower);
    fill(&cluster.client(leader), "second", 2 * KEYS, VALUE_BYTES).await;
    cluster.spawn(follower);
    cluster.wait_ready().await;
    cluster.wait_log(follower, &["received a checkpoint"]).await;
    cluster.client(leader).put("after", "the transfer").await.expect("a write");
    cluster.wait_agreement().await;
    cluster.kill(follower);
    let newest = newest_checkpoint(&cluster, follower);
    let middle = fs::metadata(&newest).expect("a file").len() / 2;
    flip_bit(&newest, middle);
    cluster.spawn(follower);
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    assert_filled(&store, "first", KEYS, VALUE_BYTES);
    assert_filled(&store, "second", 2 * KEYS, VALUE_BYTES);
    cluster.wait_log(follower, &["damage"]).await;
}

/// A leader whose newest checkpoint rots while it runs must not offer it for ever.
#[tokio::test]
async fn a_checkpoint_that_rotted_is_not_offered_to_peers() {
    // The log in memory reaches back beyond the newest checkpoint, so that one would be sent.
    let settings = Settings::of(3).with("--checkpoint-bytes", 64 << 10);
    let mut cluster = Cluster::start(settings.with("--log-retain-bytes", 256 << 10)).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    fill(&cluster.client(leader), "k", 30, VALUE_BYTES).await;
    cluster.wait_agreement().await;
    cluster.kill(follower);
    for _ in 0..30 {
        fill(&cluster.client(leader), "k", 30, VALUE_BYTES).await;
        // The state stays small, and checkpoints frequent.
        let revision = cluster.client(leader).put("round", "x").await.expect("a write");
        let request = pb::CompactionRequest { revision, physical: true };
        cluster.client(leader).kv.compact(request).await.expect("a compaction");
    }
    wait_checkpoints_rest(&cluster, leader).await;
    let newest = newest_checkpoint(&cluster, leader);
    let middle = fs::metadata(&newest).expect("a file").len() / 2;
    flip_bit(&newest, middle);
    cluster.spawn(follower);
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", 30, VALUE_BYTES);
    cluster.wait_log(leader, &["is damaged: withdrew it"]).await;
    assert!(!newest.exists(), "the rotten file is still there");
}

/// Every checkpoint of a follower, and with them the beginning of its history.
#[tokio::test]
async fn a_follower_without_any_whole_checkpoint_starts_from_the_leaders() {
    let mut cluster = Cluster::start(small_logs(3)).await;
    let follower = cluster.follower().await;
    fill(&cluster.client(0), "k", 2 * KEYS, VALUE_BYTES).await;
    wait_checkpoint(&cluster, follower).await;
    cluster.wait_agreement().await;
    cluster.stop(follower);
    for file in with_ending(&cluster.members[follower].checkpoint_dir(), ".checkpoint") {
        let middle = fs::metadata(&file).expect("a file").len() / 2;
        flip_bit(&file, middle);
    }
    cluster.spawn(follower);
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", 2 * KEYS, VALUE_BYTES);
}

/// Bytes of a write that was interrupted: never acknowledged, so nothing is lost by cutting them.
#[tokio::test]
async fn garbage_after_the_end_of_the_log_is_cut_off() {
    let mut cluster = Cluster::start(Settings::of(1)).await;
    for round in 0..3 {
        fill(&cluster.client(0), &format!("r{round}"), 20, 100).await;
        cluster.kill(0);
        let segment = written_segment(&cluster, 0);
        let mut bytes = fs::read(&segment).expect("a segment");
        let end = data_end(&bytes).next_multiple_of(8);
        let garbage = support::seed::Seed::new(round).bytes(100 + 700 * round as usize);
        bytes.resize(bytes.len().max(end + garbage.len()), 0);
        bytes[end..end + garbage.len()].copy_from_slice(&garbage);
        fs::write(&segment, bytes).expect("the garbage");
        cluster.spawn(0);
        cluster.wait_ready().await;
        let store = cluster.wait_agreement().await;
        for earlier in 0..=round {
            assert_filled(&store, &format!("r{earlier}"), 20, 100);
        }
    }
}

/// A follower whose log lost its last bytes gets them again from the others.
#[tokio::test]
async fn a_shortened_log_is_completed_by_the_others() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 40, 200).await;
    let before = cluster.wait_agreement().await;
    let follower = cluster.follower().await;
    cluster.kill(follower);
    let segment = written_segment(&cluster, follower);
    let bytes = fs::read(&segment).expect("a segment");
    fs::write(&segment, &bytes[..data_end(&bytes) - 5]).expect("the rest");
    cluster.spawn(follower);
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "the store after the cut");
    cluster.client(follower).put("k", "goes on").await.expect("a write");
}

// ---- finding files ----

/// Waits until member `i` has published a checkpoint.
async fn wait_checkpoint(cluster: &Cluster, i: usize) {
    let deadline = std::time::Instant::now() + SOON;
    while manifests(&cluster.members[i].checkpoint_dir()).is_empty() {
        assert!(std::time::Instant::now() < deadline, "no checkpoint");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until no checkpoint of member `i` is being written, nor has been for a moment.
async fn wait_checkpoints_rest(cluster: &Cluster, i: usize) {
    let is_whole = |file: &Path| {
        let name = file.to_string_lossy();
        ["checkpoint", "manifest", "LOCK"].iter().any(|ending| name.ends_with(ending))
    };
    let deadline = std::time::Instant::now() + SOON;
    let mut seen = Vec::new();
    loop {
        let files = files_below(&cluster.members[i].checkpoint_dir());
        if files == seen && files.iter().all(|(file, _)| is_whole(file)) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "checkpoints without end: {files:?}");
        seen = files;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn segments(wal_dir: &Path) -> Vec<PathBuf> {
    with_ending(wal_dir, ".wal")
}

fn manifests(checkpoint_dir: &Path) -> Vec<PathBuf> {
    with_ending(checkpoint_dir, ".manifest")
}

/// The last segment that holds anything.
fn written_segment(cluster: &Cluster, i: usize) -> PathBuf {
    segments(&cluster.members[i].wal_dir()).pop().expect("a segment")
}

/// Names begin with the index in hexadecimal of one width, so the last one is the newest.
fn newest_checkpoint(cluster: &Cluster, i: usize) -> PathBuf {
    with_ending(&cluster.members[i].checkpoint_dir(), ".checkpoint").pop().expect("a checkpoint")
}

fn with_ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let files = files_below(dir).into_iter().map(|(file, _)| file);
    files.filter(|file| file.to_string_lossy().ends_with(ending)).collect()
}

// ---- a full disk ----

/// A file system of a few megabytes in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, loudly, where nothing can be mounted.
    fn mount(at: &Path, megabytes: u32) -> Option<SmallDisk> {
        fs::create_dir_all(at).expect("a directory");
        let size = format!("size={megabytes}m");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(at.to_owned()));
        }
        eprintln!("SKIPPED: no file system can be mounted here; run as root to test a full disk");
        None
    }

    /// Takes all that is left but so many bytes, and says where.
    fn fill(&self, left: u64) -> PathBuf {
        let file = self.0.join("filler");
        let found = rustix::fs::statvfs(&self.0).expect("a file system");
        let free = found.f_bavail * found.f_frsize;
        fs::write(&file, vec![1; usize::try_from(free.saturating_sub(left)).expect("small")])
            .expect("the filler");
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

async fn conditions(cluster: &Cluster, i: usize) -> Vec<String> {
    cluster.client(i).status().await.map(|status| status.errors).unwrap_or_default()
}

async fn wait_condition(cluster: &Cluster, i: usize, wanted: &str) {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let found = conditions(cluster, i).await;
        let holds = match wanted {
            "" => found.is_empty(),
            wanted => found.iter().any(|error| error.contains(wanted)),
        };
        if holds {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{wanted:?} is not in {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Below its reserve a disk raises the alarm; deletes go on out of the reserve; with the last byte
/// gone nothing is acknowledged and nobody dies; when space is back all goes on by itself.
#[tokio::test]
async fn a_full_disk_refuses_growth_then_waits_and_heals() {
    let mut cluster = Cluster::prepare(small_logs(1));
    let place = cluster.dir().join("disk");
    let Some(disk) = SmallDisk::mount(&place, 40) else { return };
    cluster.members[0].data_dir = place.join("data");
    cluster.spawn(0);
    cluster.wait_ready().await;
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;

    let filler = disk.fill(1_500_000); // A twentieth of 40 MiB is the reserve.
    wait_condition(&cluster, 0, "the disk has").await;
    wait_condition(&cluster, 0, "alarm:NOSPACE").await;
    let refused = cluster.client(0).put("k/0", "x").await;
    assert!(refused.is_err(), "a write was taken although there is no space");
    cluster.client(0).get("k/0", Freshness::Linearizable).await.expect("reads go on");
    cluster.client(0).delete("k/0").await.expect("deletes go on");
    fs::remove_file(&filler).expect("space");
    wait_condition(&cluster, 0, "").await;
    cluster.client(0).put("k/0", "back").await.expect("room again");

    // To the last byte: the log cannot begin its next segment.
    let filler = disk.fill(0);
    wait_condition(&cluster, 0, "alarm:NOSPACE").await;
    let mut hurried = cluster.client(0).with_patience(Duration::from_millis(500));
    let mut acknowledged = Vec::new();
    let deadline = std::time::Instant::now() + SOON;
    for number in 0.. {
        // A long key fills the log and needs no space in the store.
        let name = format!("k/{}{}", number % KEYS, "/".repeat(20_000));
        match hurried.delete(&name).await {
            Ok((revision, _)) => acknowledged.push(revision),
            Err(_)
                if conditions(&cluster, 0).await.iter().any(|e| e.contains("waits for space")) =>
            {
                break;
            }
            Err(_) => {}
        }
        assert!(std::time::Instant::now() < deadline, "the log never runs out of space");
    }
    assert!(!acknowledged.is_empty(), "the reserve of the log was of no use");
    let serializable = cluster.client(0).get("k/1", Freshness::Serializable).await;
    assert!(serializable.is_ok(), "reads that need no quorum go on: {serializable:?}");
    assert!(cluster.is_alive(0), "a full disk ended the member");
    fs::remove_file(&filler).expect("space");
    wait_condition(&cluster, 0, "").await;
    cluster.client(0).put("after", "x").await.expect("room again");
    let before = cluster.wait_agreement().await;
    cluster.kill(0);
    cluster.spawn(0);
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "what was acknowledged is lost");
    cluster.kill(0);
}

//! Acknowledged means acknowledged: writers, readers, watchers and holders of leases and locks
//! against members that die and freeze.
//!
//! Problem: the promises of a replicated store are about what happens when processes end between
//! any two instructions. Idea: clients write through all members while a nemesis kills (`-9`),
//! restarts, freezes and thaws members, never more than a minority at once; afterwards everything
//! that they saw is judged (`support/workload.rs`).
//!
//! A failure prints the seed; `QUORATE_TEST_SEED` replays the choices, though not the exact times.

mod support;

use std::time::{Duration, Instant};
use support::client::Client;
use support::cluster::{Cluster, SOON, Settings};
use support::seed::{Seed, chaos_seconds};
use support::workload::{History, Workload};

/// Chaos per test in CI; `QUORATE_TEST_SECONDS` makes it longer.
const CHAOS_SECONDS: u64 = 20;

/// Two storms at once on a small machine would be a test of the scheduler.
static ONE_STORM: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_keep_their_word() {
    storm(Settings::of(3), History::Kept).await;
}

/// Five members, so little log that checkpoints and their transfer happen all the time, and a
/// history that is shortened meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_with_constant_checkpoints_keep_their_word() {
    let settings = Settings::of(5).with("--checkpoint-bytes", 32 << 10);
    storm(settings.with("--log-retain-bytes", 16 << 10), History::Compacted).await;
}

async fn storm(settings: Settings, history: History) {
    let _alone = ONE_STORM.lock().await;
    let mut seed = Seed::of_this_run();
    let mut cluster = Cluster::start(settings).await;
    let workload = Workload::start(&cluster, &mut seed, history);
    let length = Duration::from_secs(chaos_seconds(CHAOS_SECONDS));
    let trouble = Nemesis::new(seed.fork()).rage(&mut cluster, length).await;
    support::report(format_args!("{trouble:?}"));
    let broken = workload.finish(&mut cluster).await;
    assert!(broken > 0, "no watcher had to go on from where it was");
    assert!(trouble.is_enough(length), "too little trouble: {trouble:?}");
}

/// What makes trouble, and how much of it there was.
struct Nemesis {
    seed: Seed,
    trouble: Trouble,
}

#[derive(Debug, Default)]
struct Trouble {
    kills: usize,
    leader_kills: usize,
    pauses: usize,
    leader_pauses: usize,
    stops: usize,
    moves: usize,
}

impl Nemesis {
    fn new(seed: Seed) -> Nemesis {
        Nemesis { seed, trouble: Trouble::default() }
    }

    /// Causes trouble for so long, and until there was enough of it, then brings every member back.
    async fn rage(mut self, cluster: &mut Cluster, length: Duration) -> Trouble {
        let (end, deadline) = (Instant::now() + length, Instant::now() + length + SOON);
        while Instant::now() < end || !self.trouble.is_enough(length) && Instant::now() < deadline {
            let wait = self.seed.between(50, 900) as u64;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let count = cluster.members.len();
            let down: Vec<usize> = (0..count).filter(|i| !cluster.is_up(*i)).collect();
            let minority = (count - 1) / 2;
            // A full minority is down half of the time, so elections need every vote there is.
            if down.len() == minority || (!down.is_empty() && self.seed.below(2) == 0) {
                let back = *self.seed.pick(&down);
                bring_back(cluster, back);
            } else {
                self.strike(cluster).await;
            }
        }
        for i in 0..cluster.members.len() {
            if !cluster.is_up(i) {
                bring_back(cluster, i);
            }
        }
        self.trouble
    }

    async fn strike(&mut self, cluster: &mut Cluster) {
        let up: Vec<usize> = (0..cluster.members.len()).filter(|i| cluster.is_up(*i)).collect();
        let (draw, any) = (self.seed.below(100), *self.seed.pick(&up));
        let leader = cluster.leader_now().await;
        match (draw, leader) {
            (0..40, _) => {
                cluster.kill(any);
                self.trouble.kills += 1;
            }
            (40..60, Some(leader)) => {
                cluster.kill(leader);
                self.trouble.kills += 1;
                self.trouble.leader_kills += 1;
            }
            (60..72, Some(leader)) => {
                cluster.pause(leader);
                self.trouble.pauses += 1;
                self.trouble.leader_pauses += 1;
            }
            (72..80, _) => {
                let status = cluster.stop(any);
                assert!(status.success(), "an orderly stop is a success: {status}");
                self.trouble.stops += 1;
            }
            (80..88, Some(leader)) => {
                if let Ok(status) = cluster.client(any).status().await {
                    let target = status.header.expect("a header").member_id;
                    // Whoever it moves to: the work must not notice more than a pause.
                    let mut client = Client::in_a_hurry(cluster.members[leader].client_port);
                    let _ = client.move_leader(target).await;
                    self.trouble.moves += 1;
                }
            }
            _ => {
                cluster.pause(any);
                self.trouble.pauses += 1;
            }
        }
    }
}

impl Trouble {
    /// A storm in which nothing happened proves nothing. One strike takes about a second.
    fn is_enough(&self, length: Duration) -> bool {
        let least = length.as_secs() as usize / 4;
        self.kills >= least && self.kills + self.pauses >= 2 * least
    }
}

fn bring_back(cluster: &mut Cluster, i: usize) {
    if cluster.is_paused(i) {
        cluster.resume(i);
    } else {
        cluster.spawn(i);
    }
}

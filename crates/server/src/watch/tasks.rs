//! The tasks of a hub in a member: they bring it time and wake-ups, and decide nothing.

use super::Hub;
use super::hub::Walked;
use quorate_core::{NodeId, Term};
use quorate_drivers::live::monotonic_now;
use std::time::Duration;
use tokio::sync::watch;

impl Hub {
    /// Marks, as long as the member lives. Run it once.
    pub(crate) async fn run(&self) {
        let mut again = None;
        loop {
            let grace_over = async {
                match again {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.work() => {}
                () = grace_over => {}
            }
            while self.walk() == Walked::Slice {
                tokio::task::yield_now().await;
            }
            let now = monotonic_now();
            again = self.let_go(now).map(|until| until.since(now));
        }
    }

    /// Ends the streams that want a leader when none was known for so long. Run it once.
    pub(crate) async fn follow_leader(
        &self,
        mut leader: watch::Receiver<(Term, Option<NodeId>)>,
        patience: Duration,
    ) {
        loop {
            if leader.wait_for(|(_, leader)| leader.is_none()).await.is_err() {
                return;
            }
            let back = leader.wait_for(|(_, leader)| leader.is_some());
            match tokio::time::timeout(patience, back).await {
                Ok(Ok(_)) => continue,
                Ok(Err(_)) => return,
                Err(_) => self.set_leaderless(true),
            }
            if leader.wait_for(|(_, leader)| leader.is_some()).await.is_err() {
                return;
            }
            self.set_leaderless(false);
        }
    }
}

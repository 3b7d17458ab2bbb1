//! Whether this member's state is believed: what others than the loop thread see of it.

use super::Shared;
use quorate_core::Index;
use quorate_replica::Refusal;
use std::sync::atomic::Ordering;

impl Shared {
    /// Errors: this member was found to differ from a quorum.
    pub(crate) fn is_whole(&self) -> Result<(), Refusal> {
        if self.fenced.load(Ordering::Acquire) { Err(Refusal::Corrupt) } else { Ok(()) }
    }

    /// Returns when this member's state was seen to differ from a quorum's: where, and up to where
    /// a quorum had shared it. Never otherwise.
    pub(crate) async fn differs(&self) -> (Index, Index) {
        let mut differs = self.differs.subscribe();
        let seen = differs.wait_for(Option::is_some).await.expect("we hold the sender");
        seen.expect("just seen")
    }

    /// Returns when a quorum was seen to share a state that was in doubt.
    pub(crate) async fn healed(&self) {
        let mut healed = self.healed.subscribe();
        let _ = healed.wait_for(|healed| *healed).await.expect("we hold the sender");
    }

    /// Serves nobody, or serves again.
    pub(crate) fn set_fenced(&self, fenced: bool) {
        self.fenced.store(fenced, Ordering::Release);
        if fenced { self.watch.fence() } else { self.watch.unfence() }
    }

    /// This member's state is wrong from `at` on; a quorum shared it up to `agreed`. Answers with
    /// what operators are told.
    pub(super) fn diverged(&self, at: Index, agreed: Index) -> String {
        tracing::error!(index = %at, "this member's state differs from a quorum's: fenced");
        self.set_fenced(true);
        self.differs.send_replace(Some((at, agreed)));
        let span = quorate_replica::DIGEST_EVERY;
        format!("state diverged within the {span} entries up to {at}: fenced")
    }

    /// It was in doubt, and is not any more.
    pub(super) fn believed(&self, at: Index) {
        tracing::info!(index = %at, "a quorum shares this member's state: it serves again");
        self.set_fenced(false);
        self.healed.send_replace(true);
    }
}

//! Lifeguard: a member that is slow itself doubts itself before it doubts others.
//!
//! **Problem.** A member that is starved of its processor looks at answers too late, and accuses
//! those that sent them in time. SWIM's suspicions then come from the sick, about the healthy.
//!
//! **Idea.** A score of one's own health: worse when a probe fails, when a relay that should have
//! said "no answer" says nothing, or when oneself is suspected; better when a probe succeeds. All
//! timeouts are multiplied by it. And a suspicion waits long for a contradiction at first, and
//! shorter with each other member that suspects too.
//!
//! **Bounds.** [`SCORE_MAX`]; [`CONFIRMATIONS_MAX`].
//!
//! Source: Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate
//! Failure Detection" (2017), sections IV.A and IV.B.

use std::time::Duration;

/// The worst health.
pub const SCORE_MAX: u32 = 8;
/// Members that suspect too, beyond which a suspicion is as short as it gets.
pub const CONFIRMATIONS_MAX: usize = 3;
/// A suspicion without confirmations lasts so much longer than one with all of them.
pub const SUSPICION_FACTOR: u32 = 6;

/// What a suspicion loses of what it could lose, by confirmations: `log(c + 1) / log(3 + 1)`. Unit:
/// thousandths.
const LOSS: [u32; CONFIRMATIONS_MAX + 1] = [0, 500, 792, 1_000];

/// One's own health: 0 is good.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Score(u32);

impl Score {
    /// The present score.
    pub fn value(self) -> u32 {
        self.0
    }

    pub(super) fn worse(&mut self) {
        self.0 = (self.0 + 1).min(SCORE_MAX);
    }

    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    pub(super) fn scale(self, time: Duration) -> Duration {
        time * (self.0 + 1)
    }
}

/// How long a suspicion waits for a contradiction, once so many others suspect too.
pub fn suspicion(shortest: Duration, confirmations: usize) -> Duration {
    let longest = shortest * SUSPICION_FACTOR;
    longest - (longest - shortest) * LOSS[confirmations.min(CONFIRMATIONS_MAX)] / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section IV.B: "max(min, max - (max - min) * log(C + 1) / log(K + 1))".
    #[test]
    fn a_suspicion_gets_shorter_with_each_confirmation_by_the_formula() {
        let shortest = Duration::from_secs(1);
        for confirmations in 0..=CONFIRMATIONS_MAX + 2 {
            let share = ((confirmations + 1) as f64).log(4.0).min(1.0);
            let wanted = 6.0 - 5.0 * share;
            let got = suspicion(shortest, confirmations).as_secs_f64();
            assert!((got - wanted).abs() < 0.01, "{confirmations}: {got}, not {wanted}");
        }
    }

    #[test]
    fn the_score_has_bounds() {
        let mut score = Score::default();
        (0..20).for_each(|_| score.worse());
        assert_eq!(score.value(), SCORE_MAX);
        (0..20).for_each(|_| score.better());
        assert_eq!(score, Score::default());
    }
}

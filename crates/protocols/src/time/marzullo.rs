//! Marzullo's algorithm: the true time from several sources of which some are wrong.
//!
//! **Problem.** Several sources each claim an interval that contains the true time. Up to `f` of
//! them are wrong, by accident or on purpose, and nobody knows which.
//!
//! **Idea.** Of `m` claims at least `m - f` are right, and all right ones share the true time. So
//! the true time is an instant that at least `m - f` claims share; the least interval around all
//! such instants is the answer.
//!
//! ```text
//!      a      |-------|
//!      b          |---------|
//!      c             |----------|
//!      d |--|                             three of four: d is outvoted
//!                    ^^
//! ```
//!
//! Not the instants that *most* share: a liar that stays close to the right ones can make the
//! overlap smaller and move it away from the truth. What is asked for must not depend on what
//! liars say, so the number is fixed beforehand.
//!
//! **Guarantees**, if at most `f` of the claims are wrong. *Soundness*: the answer contains the
//! true time. *No accusation of the innocent*: who is outvoted is wrong. *Width*: with `m > 2f` the
//! answer lies within one claim, because two sets of `m - f` claims, one at either end of it, share
//! a member; with `m > 3f` they share a right one, so no liar can make the answer wider than the
//! worst right claim. With `f < m <= 2f` the answer is sound too, and may be as wide as a liar
//! likes. *Evidence*: if no instant is shared by `m - f`, then more than `f` are wrong for sure.
//!
//! **Bounds.** Time: sorting `2m` ends.
//!
//! **Sources.** Marzullo, "Maintaining the Time in a Distributed System" (PhD thesis, Stanford
//! 1984), and with Owicki under the same title (1983); Marzullo, "Tolerating Failures of
//! Continuous-Valued Sensors" (1990), for the widths. RFC 5905, section 11.2.1, asks for the
//! overlap of most instead, and then for a majority.

use crate::clocks::interval::TimeInterval;
use quorate_core::WallTime;

/// What several claims say together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agreement {
    /// The least interval around all instants that enough claims share; none if there are none.
    pub interval: Option<TimeInterval>,
    /// The greatest number of claims that share an instant.
    pub sharing: usize,
    /// Places of the claims which share no instant with enough others, ascending.
    pub outvoted: Vec<usize>,
}

/// Whether a claim begins or ends. A claim includes its ends, so of equal instants beginnings are
/// counted first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    Begins,
    Ends,
}

/// The true time according to `claims`, of which at most `faulty_max` are wrong.
pub fn agree(claims: &[TimeInterval], faulty_max: usize) -> Agreement {
    let needed = claims.len().saturating_sub(faulty_max);
    let sharing = most_sharing(claims);
    if needed == 0 {
        return Agreement { interval: None, sharing, outvoted: Vec::new() };
    }
    let shared = shared_by(claims, needed);
    let interval = match (shared.first(), shared.last()) {
        (Some(first), Some(last)) => Some(first.hull(last)),
        _ => None,
    };
    let touches = |claim: &TimeInterval| shared.iter().any(|s| s.intersection(claim).is_some());
    let outvoted = match interval {
        Some(_) => (0..claims.len()).filter(|at| !touches(&claims[*at])).collect(),
        None => Vec::new(),
    };
    Agreement { interval, sharing, outvoted }
}

/// The greatest number of claims that share an instant.
pub fn most_sharing(claims: &[TimeInterval]) -> usize {
    let mut covering = 0_usize;
    let mut most = 0;
    for (_, end) in ends(claims) {
        match end {
            End::Begins => covering += 1,
            End::Ends => covering -= 1,
        }
        most = most.max(covering);
    }
    most
}

fn ends(claims: &[TimeInterval]) -> Vec<(WallTime, End)> {
    let both =
        |claim: &TimeInterval| [(claim.earliest(), End::Begins), (claim.latest(), End::Ends)];
    let mut ends: Vec<(WallTime, End)> = claims.iter().flat_map(both).collect();
    ends.sort_unstable();
    ends
}

/// The stretches of instants that at least `needed` claims share, in order.
fn shared_by(claims: &[TimeInterval], needed: usize) -> Vec<TimeInterval> {
    let mut shared = Vec::new();
    let mut covering = 0;
    let mut since = WallTime::MIN;
    for (at, end) in ends(claims) {
        match end {
            End::Begins => {
                covering += 1;
                if covering == needed {
                    since = at;
                }
            }
            End::Ends => {
                if covering == needed {
                    shared.push(TimeInterval::new(since, at));
                }
                covering -= 1;
            }
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims(ends: &[(i64, i64)]) -> Vec<TimeInterval> {
        let claim = |(earliest, latest): &(i64, i64)| {
            TimeInterval::new(WallTime::from_nanos(*earliest), WallTime::from_nanos(*latest))
        };
        ends.iter().map(claim).collect()
    }

    fn agreed(ends: &[(i64, i64)], faulty_max: usize) -> (Option<(i64, i64)>, Vec<usize>) {
        let agreement = agree(&claims(ends), faulty_max);
        let nanos = |i: TimeInterval| (i.earliest().as_nanos(), i.latest().as_nanos());
        (agreement.interval.map(nanos), agreement.outvoted)
    }

    #[test]
    fn one_of_three_is_outvoted() {
        assert_eq!(agreed(&[(8, 12), (11, 13), (90, 99)], 1), (Some((11, 12)), vec![2]));
        assert_eq!(agreed(&[(8, 12), (11, 13), (10, 12)], 1), (Some((10, 12)), vec![]));
    }

    #[test]
    fn claims_that_touch_in_one_instant_agree() {
        assert_eq!(agreed(&[(1, 5), (5, 9)], 0), (Some((5, 5)), vec![]));
        assert_eq!(agreed(&[(1, 5), (6, 9)], 0), (None, vec![]));
    }

    /// Marzullo 1990: nobody knows which of two is right, and both may be.
    #[test]
    fn with_as_many_liars_as_honest_ones_the_answer_covers_both() {
        assert_eq!(agreed(&[(1, 5), (70, 90)], 1), (Some((1, 90)), vec![]));
        assert_eq!(agreed(&[(1, 5)], 1), (None, vec![]), "a single source may be the liar");
    }

    /// The reason not to take the instants which most share. The true time is 10; the third lies.
    #[test]
    fn a_liar_that_stays_close_moves_the_largest_overlap_away_from_the_truth() {
        let ends = [(2, 10), (4, 14), (5, 7)];
        assert_eq!(agreed(&ends, 0).0, Some((5, 7)), "the overlap of most");
        assert_eq!(agreed(&ends, 1).0, Some((4, 10)), "the instants that two share");
    }

    /// What is promised is promised for `f`, and no more: two liars of three outvote the truth.
    #[test]
    fn more_liars_than_were_reckoned_with_win() {
        let ends = [(9, 11), (500, 510), (505, 520)];
        assert_eq!(agreed(&ends, 1), (Some((505, 510)), vec![0]));
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(agreed(&[], 0), (None, vec![]));
        assert_eq!(most_sharing(&[]), 0);
    }

    fn contain(claims: &[TimeInterval], at: i64) -> usize {
        claims.iter().filter(|claim| claim.contains(WallTime::from_nanos(at))).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Against the definition, instant by instant.
        #[test]
        fn it_is_the_hull_of_what_enough_share(
            ends in proptest::collection::vec((0i64..40, 0i64..15), 1..9),
            faulty_max in 0usize..5,
        ) {
            let ends: Vec<_> = ends.into_iter().map(|(from, more)| (from, from + more)).collect();
            let all = claims(&ends);
            let needed = all.len().saturating_sub(faulty_max);
            let enough: Vec<i64> =
                (0..60).filter(|at| needed > 0 && contain(&all, *at) >= needed).collect();
            let hull = enough.first().map(|first| (*first, *enough.last().expect("not empty")));
            let lonely = |place: &usize| {
                !enough.iter().any(|at| all[*place].contains(WallTime::from_nanos(*at)))
            };
            let outvoted: Vec<usize> = match hull {
                Some(_) => (0..all.len()).filter(lonely).collect(),
                None => Vec::new(),
            };
            prop_assert_eq!(agreed(&ends, faulty_max), (hull, outvoted));
            let most = (0..60).map(|at| contain(&all, at)).max().unwrap_or(0);
            prop_assert_eq!(most_sharing(&all), most);
        }

        /// Soundness, no accusation of the innocent, and the two bounds on the width.
        #[test]
        fn up_to_f_liars_neither_move_nor_widen_it(
            honest in proptest::collection::vec((0i64..50, 0i64..50), 1..8),
            lies in proptest::collection::vec((-500i64..500, 0i64..900), 0..5),
        ) {
            let truth = 10_000;
            let honest: Vec<_> =
                honest.iter().map(|(before, after)| (truth - before, truth + after)).collect();
            let lying = lies.iter().map(|(off, width)| (truth + off, truth + off + width));
            let all: Vec<_> = honest.iter().copied().chain(lying).collect();
            let faulty_max = lies.len();
            let (answer, outvoted) = agreed(&all, faulty_max);
            let (from, to) = answer.expect("the honest ones share the truth");
            prop_assert!(from <= truth && truth <= to);
            prop_assert!(outvoted.iter().all(|place| *place >= honest.len()));
            let within = |claim: &(i64, i64)| claim.0 <= from && to <= claim.1;
            if all.len() > 2 * faulty_max {
                prop_assert!(all.iter().any(within));
            }
            if all.len() > 3 * faulty_max {
                prop_assert!(honest.iter().any(within));
            }
        }
    }
}

//! What is promised right now, operation by operation: a pure function of what was measured.
//!
//! Each promise looks at the assumptions that it rests on, the gravest first. A promise that is
//! *withdrawn* is not broken: whoever asks for it waits or is refused, and is told so. One that is
//! *weaker* is kept in the words shown, and in no stronger ones.

use super::assumption::{Assumption, Measured, NAMES, Name, Standing, Switch, millis};
use Promise::{
    Backup, BoundedRead, Expiry, FencedWrite, Growth, KeepAlive, LeaseRead, LinearizableRead,
    SerializableRead, Shrinkage, Watch,
};
use std::borrow::Cow;
use std::time::Duration;

/// An operation in one of its modes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    /// A write that needs space.
    Growth,
    /// Deletes, compactions, revocations.
    Shrinkage,
    /// A read that sees everything acknowledged before it.
    LinearizableRead,
    /// The same without asking anybody.
    LeaseRead,
    /// A read that may be old, but not older than asked.
    BoundedRead,
    /// A read of what this member has.
    SerializableRead,
    /// Events of keys.
    Watch,
    /// A sign of life of a lease's holder.
    KeepAlive,
    /// The end of a lease.
    Expiry,
    /// A write that compares the key of a lock.
    FencedWrite,
    /// A copy of the store.
    Backup,
}

/// How many there are.
pub const PROMISES: usize = 11;

impl Promise {
    /// All, in the order in which they are shown.
    pub const ALL: [Promise; PROMISES] = [
        Growth,
        Shrinkage,
        LinearizableRead,
        LeaseRead,
        BoundedRead,
        SerializableRead,
        Watch,
        KeepAlive,
        Expiry,
        FencedWrite,
        Backup,
    ];

    /// Operation and mode, as operators and metrics call them.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Growth => ("write", "growth"),
            Shrinkage => ("write", "delete"),
            LinearizableRead => ("read", "linearizable"),
            LeaseRead => ("read", "lease"),
            BoundedRead => ("read", "bounded-staleness"),
            SerializableRead => ("read", "serializable"),
            Watch => ("watch", "ordered"),
            KeepAlive => ("lease", "keep-alive"),
            Expiry => ("lease", "expiry"),
            FencedWrite => ("lock", "fenced-write"),
            Backup => ("backup", "snapshot"),
        }
    }

    /// What it rests on, the gravest first.
    pub fn rests_on(self) -> &'static [Name] {
        use Name::{
            Agreement, ClockError, ClockRate, Disk, DiskIntegrity, Quorum, Scheduling, Space,
        };
        match self {
            Growth | Shrinkage | FencedWrite => &[Agreement, Quorum, Space, Disk, DiskIntegrity],
            LinearizableRead | BoundedRead | Watch => &[Agreement, Quorum],
            LeaseRead => &[Agreement, Quorum, ClockRate, ClockError],
            SerializableRead | Backup => &[Agreement],
            KeepAlive => &[Agreement, Quorum, Disk],
            Expiry => &[Agreement, Quorum, Disk, Scheduling, ClockRate],
        }
    }
}

/// What has become of a promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It is kept.
    Holds,
    /// Less is promised, in the words shown.
    Weaker,
    /// Whoever asks for it waits or is refused.
    Withdrawn,
    /// It is not offered here.
    Off,
}

impl State {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            State::Holds => "holds",
            State::Weaker => "weaker",
            State::Withdrawn => "withdrawn",
            State::Off => "off",
        }
    }

    /// True if less is promised than this member offers when all is well.
    pub fn is_less(self) -> bool {
        matches!(self, State::Weaker | State::Withdrawn)
    }
}

/// A row of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Which.
    pub promise: Promise,
    /// What has become of it.
    pub state: State,
    /// What is promised now, or what happens instead.
    pub words: Cow<'static, str>,
    /// The assumption that made it less.
    pub because: Option<Name>,
}

/// The assumptions as one promise sees them.
struct Seen<'a> {
    measured: &'a Measured,
    assumptions: &'a [Assumption; NAMES],
    /// A planted bug: this one is not looked at.
    blind: Option<Name>,
}

type Verdict = (State, Cow<'static, str>);

impl Seen<'_> {
    /// True if the promise cannot rest on this assumption.
    fn fails(&self, promise: Promise, name: Name) -> bool {
        let fails = match self.assumptions[name as usize].standing {
            Standing::Holds => false,
            Standing::Broken => true,
            // Leases have always assumed what they say; a read must know. What time it is, neither
            // needs: a clock that is known to be wrong is only not to be trusted.
            Standing::NotMeasured => promise == LeaseRead && name == Name::ClockRate,
        };
        fails && self.blind != Some(name)
    }

    fn alone(&self) -> bool {
        self.measured.voters <= 1
    }

    /// How old this member's state can be.
    fn aged(&self, what: &'static str) -> Cow<'static, str> {
        match self.measured.age {
            Some(age) => format!("{what}, at most {} old", text(age)).into(),
            None => format!("{what}, however old").into(),
        }
    }
}

/// A time for eyes, rounded up.
pub(super) fn text(time: Duration) -> String {
    match millis(time) {
        ms if ms < 1_000 => format!("{ms} ms"),
        ms if ms < 100_000 => {
            let tenths = ms.div_ceil(100);
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        ms => format!("{} s", ms.div_ceil(1_000)),
    }
}

/// Every promise, in the order of [`Promise::ALL`].
pub fn promises(measured: &Measured, assumptions: &[Assumption; NAMES]) -> [Row; PROMISES] {
    promises_with(measured, assumptions, None)
}

/// With a planted bug: one promise does not look at one of its assumptions.
fn promises_with(
    measured: &Measured,
    assumptions: &[Assumption; NAMES],
    bug: Option<(Promise, Name)>,
) -> [Row; PROMISES] {
    Promise::ALL.map(|promise| {
        let blind = bug.filter(|(blind, _)| *blind == promise).map(|(_, name)| name);
        let seen = Seen { measured, assumptions, blind };
        if promise == LeaseRead && measured.lease_reads == Switch::Off {
            let words = "not switched on: such a read asks a quorum".into();
            return Row { promise, state: State::Off, words, because: None };
        }
        let mut broken = promise.rests_on().iter().filter(|name| seen.fails(promise, **name));
        let less = broken.find_map(|name| {
            let (state, words) = less(promise, *name, &seen)?;
            Some(Row { promise, state, words, because: Some(*name) })
        });
        less.unwrap_or_else(|| {
            let leaseless = promise == LeaseRead && measured.leads && !measured.holds_lease;
            let (state, words) = match leaseless {
                true => weaker("no lease is held: such a read asks a quorum"),
                false => (State::Holds, whole(promise, &seen)),
            };
            // Voters promise, and count on promises, only where a clock is vouched for.
            Row { promise, state, words, because: leaseless.then_some(Name::ClockRate) }
        })
    })
}

/// What is promised when everything holds that it rests on.
fn whole(promise: Promise, seen: &Seen<'_>) -> Cow<'static, str> {
    let rate = seen.assumptions[Name::ClockRate as usize].standing;
    match promise {
        Growth | Shrinkage => "acknowledged after a quorum's fsync, in one order for all".into(),
        LinearizableRead | LeaseRead => "no older than the moment the read began".into(),
        BoundedRead => "no older than asked; stamped with its age".into(),
        SerializableRead => seen.aged("this member's state"),
        Watch => "every event once, in order, without a gap".into(),
        KeepAlive => "answered once a quorum has confirmed the leader".into(),
        Expiry if rate == Standing::Holds => "never before its time".into(),
        Expiry => "never before its time, if clocks run equally fast".into(),
        FencedWrite => "refused unless the lock is still held".into(),
        Backup => seen.aged("this member's state at one revision, with its hash"),
    }
}

/// What is left of a promise if this assumption is broken. None if it can do without here.
fn less(promise: Promise, broken: Name, seen: &Seen<'_>) -> Option<Verdict> {
    match broken {
        Name::Agreement => Some(disagreed(promise, seen)),
        Name::Quorum => without_quorum(promise, seen),
        Name::Space => cramped(promise, seen),
        Name::Disk => stalled(promise, seen),
        Name::DiskIntegrity => Some(weaker(
            "acknowledged by a quorum that one failure less leaves, until this disk is mended",
        )),
        Name::Scheduling => Some(weaker("never before its time; may be late, as this member is")),
        Name::ClockRate | Name::ClockError if promise == LeaseRead => {
            Some(weaker("lease reads off, read index on: such a read asks a quorum"))
        }
        Name::ClockRate => Some(weaker("may come early or late by as much as clocks run apart")),
        Name::ClockError => None,
    }
}

fn weaker(words: &'static str) -> Verdict {
    (State::Weaker, words.into())
}

fn withdrawn(words: &'static str) -> Verdict {
    (State::Withdrawn, words.into())
}

fn disagreed(promise: Promise, seen: &Seen<'_>) -> Verdict {
    let writes = matches!(promise, Growth | Shrinkage | FencedWrite | KeepAlive | Expiry);
    match () {
        () if seen.measured.fenced => withdrawn("refused: this member's state is not a quorum's"),
        () if seen.measured.corrupt_alarm && writes => {
            withdrawn("refused until the alarm of corruption is cleared")
        }
        () => weaker("answered, but members differ and nobody can tell who is right"),
    }
}

fn without_quorum(promise: Promise, seen: &Seen<'_>) -> Option<Verdict> {
    Some(match promise {
        Growth | Shrinkage | FencedWrite => {
            withdrawn("waits for a quorum, then refused: read-only")
        }
        LinearizableRead | LeaseRead => withdrawn("waits for a quorum, then refused"),
        BoundedRead => match seen.measured.age {
            Some(age) => {
                let words = format!("answered where {} or more are allowed", text(age));
                (State::Weaker, words.into())
            }
            None => withdrawn("nothing was ever proven fresh here"),
        },
        Watch => weaker("what was sent stays true; no news until there is a quorum"),
        KeepAlive => withdrawn("waits for a quorum, then refused"),
        Expiry => weaker("never before its time; late, because only a quorum ends leases"),
        SerializableRead | Backup => return None,
    })
}

fn cramped(promise: Promise, seen: &Seen<'_>) -> Option<Verdict> {
    let stuck = seen.measured.log_waits && seen.alone();
    match promise {
        Shrinkage if stuck => Some(withdrawn("waits until the log has space")),
        Shrinkage if seen.measured.log_waits => {
            Some(weaker("acknowledged after the fsync of a quorum without this member"))
        }
        Shrinkage => None,
        _ => Some(withdrawn("refused for want of space; deletes and compactions go on")),
    }
}

fn stalled(promise: Promise, seen: &Seen<'_>) -> Option<Verdict> {
    match promise {
        Growth | Shrinkage | FencedWrite if seen.alone() => Some(withdrawn("waits for the disk")),
        Growth | Shrinkage | FencedWrite => Some(weaker(
            "acknowledged after the fsync of a quorum without this member: one failure less",
        )),
        KeepAlive if seen.alone() => Some(weaker("the first one of a lease waits for the disk")),
        Expiry if seen.alone() => Some(weaker("never before its time; late, with the disk")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::assumption::judge;
    use super::super::assumption::tests::{BOUNDS, well};
    use super::*;
    use crate::timekeeping::{ClockBounds, ClockError, ClockRate};
    use quorate_protocols::time::dispersion::Ppb;

    const H: State = State::Holds;
    const W: State = State::Weaker;
    const X: State = State::Withdrawn;
    const O: State = State::Off;

    /// A situation, and what must be promised in it, by the order of [`Promise::ALL`].
    struct Case {
        what: &'static str,
        measured: Measured,
        expected: [State; PROMISES],
    }

    fn case(what: &'static str, measured: Measured, expected: [State; PROMISES]) -> Case {
        Case { what, measured, expected }
    }

    fn cases() -> Vec<Case> {
        let rate = |rate| ClockBounds { rate, ..ClockBounds::UNKNOWN };
        let good = rate(ClockRate::Good(Ppb::from_ppm(30)));
        let error = |ms| ClockError::Within(Duration::from_millis(ms));
        let leased = Measured { lease_reads: Switch::On, clock: good, ..well() };
        let sole = Measured { voters: 1, leads: true, ..well() };
        let slow = Duration::from_secs(2);
        // In the order of `Promise::ALL`: growth, delete, linearizable, lease read, bounded,
        // serializable, watch, keep-alive, expiry, fenced write, backup.
        vec![
            case("all is well", well(), [H, H, H, O, H, H, H, H, H, H, H]),
            case("lease reads are on", leased, [H; PROMISES]),
            case(
                "lease reads are on and the clock is not measured",
                Measured { clock: ClockBounds::UNKNOWN, ..leased },
                [H, H, H, W, H, H, H, H, H, H, H],
            ),
            case(
                "a leader whose voters promise nothing",
                Measured { leads: true, holds_lease: false, ..leased },
                [H, H, H, W, H, H, H, H, H, H, H],
            ),
            case(
                "a minority that was fresh once",
                Measured { leader: None, lease_reads: Switch::On, ..leased },
                [X, X, X, X, W, H, W, X, W, X, H],
            ),
            case(
                "a minority that was never fresh",
                Measured { silence: slow, age: None, ..well() },
                [X, X, X, O, X, H, W, X, W, X, H],
            ),
            case("fenced", Measured { fenced: true, ..leased }, [X; PROMISES]),
            case(
                "an alarm of corruption",
                Measured { corrupt_alarm: true, ..leased },
                [X, X, W, W, W, W, W, X, X, X, W],
            ),
            case("disputed", Measured { disputed: true, ..leased }, [W; PROMISES]),
            case(
                "over the quota",
                Measured { used: 2_001, ..well() },
                [X, H, H, O, H, H, H, H, H, X, H],
            ),
            case(
                "the log of one of three waits for space",
                Measured { log_waits: true, ..well() },
                [X, W, H, O, H, H, H, H, H, X, H],
            ),
            case(
                "the only log waits for space",
                Measured { log_waits: true, ..sole },
                [X, X, H, O, H, H, H, H, H, X, H],
            ),
            case(
                "one disk of three stands still",
                Measured { sync: slow, ..well() },
                [W, W, H, O, H, H, H, H, H, W, H],
            ),
            case(
                "the only disk stands still",
                Measured { sync: slow, ..sole },
                [X, X, H, O, H, H, H, W, W, X, H],
            ),
            case("damage", Measured { damaged: 1, ..well() }, [W, W, H, O, H, H, H, H, H, W, H]),
            case(
                "late turns",
                Measured { delay: slow, ..leased },
                [H, H, H, H, H, H, H, H, W, H, H],
            ),
            case(
                "a clock that runs off",
                Measured { clock: rate(ClockRate::Bad(Ppb::from_ppm(900))), ..leased },
                [H, H, H, W, H, H, H, H, W, H, H],
            ),
            case(
                "a clock that is known to be right",
                Measured { clock: ClockBounds { error: error(20), ..good }, ..leased },
                [H; PROMISES],
            ),
            case(
                "a clock that may be wrong by more than is allowed",
                Measured { clock: ClockBounds { error: error(41), ..good }, ..leased },
                [H, H, H, W, H, H, H, H, H, H, H],
            ),
        ]
    }

    /// The first situation in which something else is promised than must be.
    fn contradiction(bug: Option<(Promise, Name)>) -> Option<String> {
        cases().into_iter().find_map(|Case { what, measured, expected }| {
            let rows = promises_with(&measured, &judge(&measured, &BOUNDS), bug);
            let differs = rows.iter().zip(expected).find(|(row, state)| row.state != *state);
            differs.map(|(row, state)| format!("{what}: {row:?} should be {state:?}"))
        })
    }

    #[test]
    fn what_is_promised_follows_from_what_was_measured() {
        assert_eq!(contradiction(None), None);
    }

    /// The planted bugs: for each rule, the promise that does not look at its assumption.
    #[test]
    fn a_promise_that_ignores_an_assumption_is_found_out() {
        let mut planted = 0;
        for promise in Promise::ALL {
            for name in promise.rests_on() {
                let bug = Some((promise, *name));
                assert!(contradiction(bug).is_some(), "{promise:?} may ignore {name:?} unnoticed");
                planted += 1;
            }
        }
        assert_eq!(planted, 35);
    }

    #[test]
    fn each_row_that_is_less_names_what_it_rests_on_and_why() {
        for Case { what, measured, .. } in cases() {
            for row in promises(&measured, &judge(&measured, &BOUNDS)) {
                assert_eq!(row.because.is_some(), row.state.is_less(), "{what}: {row:?}");
                let rests = |name| row.promise.rests_on().contains(&name);
                assert!(row.because.is_none_or(rests), "{what}: {row:?}");
                assert!(!row.words.is_empty());
            }
        }
    }

    #[test]
    fn old_state_is_called_as_old_as_it_can_be() {
        let words = |measured: &Measured, promise: Promise| {
            let rows = promises(measured, &judge(measured, &BOUNDS));
            rows[promise as usize].words.to_string()
        };
        let age = Some(Duration::from_micros(3_100_001));
        let lonely = Measured { leader: None, age, ..well() };
        assert_eq!(words(&lonely, BoundedRead), "answered where 3.2 s or more are allowed");
        assert_eq!(words(&lonely, SerializableRead), "this member's state, at most 3.2 s old");
        let never = Measured { age: None, ..lonely };
        assert_eq!(words(&never, SerializableRead), "this member's state, however old");
    }

    #[test]
    fn times_are_rounded_up() {
        let cases = [(999_001, "1.0 s"), (12_000, "12 ms"), (99_950_000, "100.0 s")];
        for (micros, expected) in cases {
            assert_eq!(text(Duration::from_micros(micros)), expected);
        }
        assert_eq!(text(Duration::from_millis(100_001)), "101 s");
    }
}

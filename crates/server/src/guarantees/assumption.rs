//! What promises rest on: measured, and held against a bound. Pure.
//!
//! An assumption holds while its measured value is at most its bound and nothing else speaks
//! against it. What was not measured is a standing of its own: it does not hold, and is not broken.
//! What that means, each promise decides (`table.rs`): a read by lease needs a rate of the clock
//! that is known, and the end of a lease is promised with a condition where it is not. An error of
//! the clock that was not measured says nothing of its rate, and takes nothing away. One that was
//! measured, and is larger than the operator allows, takes lease reads away: that is caution, since
//! what makes the time uncertain may concern the clock here.

use crate::timekeeping::{ClockBounds, ClockError, ClockRate};
use quorate_core::NodeId;
use quorate_protocols::time::dispersion::Ppb;
use std::fmt::Write;
use std::time::Duration;

/// Everything that promises rest on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Name {
    /// A leader is known and heard; a leader hears a quorum.
    Quorum,
    /// The loop of the replica takes its turns in time.
    Scheduling,
    /// The disk of the log takes what it is given in time.
    Disk,
    /// Nothing that is damaged on disk waits to be replaced.
    DiskIntegrity,
    /// This member's state is that of the others.
    Agreement,
    /// There is room for growth: below the quota, on disk, in the log.
    Space,
    /// The clock here runs as fast as those of the peers.
    ClockRate,
    /// The true time is known.
    ClockError,
}

/// How many there are.
pub const NAMES: usize = 8;

impl Name {
    /// All, in the order in which they are shown; also the order of their numbers.
    pub const ALL: [Name; NAMES] = [
        Name::Quorum,
        Name::Scheduling,
        Name::Disk,
        Name::DiskIntegrity,
        Name::Agreement,
        Name::Space,
        Name::ClockRate,
        Name::ClockError,
    ];

    /// As operators, logs and metrics call it.
    pub fn text(self) -> &'static str {
        match self {
            Name::Quorum => "quorum",
            Name::Scheduling => "scheduling",
            Name::Disk => "disk",
            Name::DiskIntegrity => "disk-integrity",
            Name::Agreement => "agreement",
            Name::Space => "space",
            Name::ClockRate => "clock-rate",
            Name::ClockError => "clock-error",
        }
    }

    /// What is measured.
    pub fn meaning(self) -> &'static str {
        match self {
            Name::Quorum => "silence of the leader; on a leader, of a quorum",
            Name::Scheduling => "the longest that a turn or a timer was late lately",
            Name::Disk => "the longest that the log took to write and sync lately",
            Name::DiskIntegrity => "damaged places that are not replaced yet",
            Name::Agreement => "points of the log at which the states of members differ",
            Name::Space => "bytes of the store that are in use, and room for the log",
            Name::ClockRate => "how fast the clock here and those of enough peers run apart",
            Name::ClockError => "bound on the error of what is taken for the true time",
        }
    }

    /// Of what is measured.
    pub fn unit(self) -> Unit {
        match self {
            Name::Quorum | Name::Scheduling | Name::Disk | Name::ClockError => Unit::Milliseconds,
            Name::ClockRate => Unit::PartsPerMillion,
            Name::Space => Unit::Bytes,
            Name::DiskIntegrity | Name::Agreement => Unit::Count,
        }
    }
}

/// What a measured value counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// A rate: microseconds in a second.
    PartsPerMillion,
    /// Things.
    Count,
}

impl Unit {
    /// Behind a number; empty if it counts things.
    pub fn text(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Bytes => "bytes",
            Unit::PartsPerMillion => "ppm",
            Unit::Count => "",
        }
    }
}

/// Whether something that must be opted into is on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    #[default]
    Off,
}

/// What was measured at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Measured {
    /// This member leads.
    pub leads: bool,
    /// The leader that is known.
    pub leader: Option<NodeId>,
    /// Members that vote.
    pub voters: usize,
    /// Since a leader was heard, or as a leader since a quorum was.
    pub silence: Duration,
    /// A longer silence means that the leader is gone.
    pub patience: Duration,
    /// The longest delay of a turn or a timer lately.
    pub delay: Duration,
    /// The longest that the log took to write and sync lately, or has taken so far.
    pub sync: Duration,
    /// Damaged places that are not replaced yet.
    pub damaged: u64,
    /// A quorum's state is another one than ours.
    pub fenced: bool,
    /// States differ and no quorum can tell who is right.
    pub disputed: bool,
    /// An alarm of corruption is active.
    pub corrupt_alarm: bool,
    /// Bytes of the store in use.
    pub used: u64,
    /// Where growth is refused; 0 for nowhere. Unit: bytes.
    pub quota: u64,
    /// An alarm for want of space is active, of whichever member.
    pub space_alarm: bool,
    /// The log waits for space.
    pub log_waits: bool,
    /// What is known of the clock.
    pub clock: ClockBounds,
    /// Reads may rest on the clock.
    pub lease_reads: Switch,
    /// As a leader: enough voters have promised, nobody doubts the clock, nothing was handed over.
    pub holds_lease: bool,
    /// How long ago this member's state was proven to be fresh.
    pub age: Option<Duration>,
    /// Requests of clients that were not served while there was no quorum, in this life.
    pub unserved: u64,
}

/// What an operator allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Delay of a turn or a timer.
    pub delay: Duration,
    /// Of writing and syncing the log.
    pub sync: Duration,
    /// Error of what is taken for the true time.
    pub clock_error: Duration,
}

/// Whether an assumption holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It does.
    Holds,
    /// It does not.
    Broken,
    /// Nobody measures it here, or not yet. Each promise decides what that means.
    NotMeasured,
}

impl Standing {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Standing::Holds => "holds",
            Standing::Broken => "broken",
            Standing::NotMeasured => "not measured",
        }
    }
}

/// An assumption at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Assumption {
    /// Which.
    pub name: Name,
    /// Whether it holds.
    pub standing: Standing,
    /// In the unit of its name.
    pub value: Option<u64>,
    /// The largest value with which it holds; none if there is no limit.
    pub bound: Option<u64>,
    /// What else there is to say.
    pub detail: Option<&'static str>,
}

impl Assumption {
    /// As a line of a log says it: `disk 812 ms > 500 ms`. A value that is within its bound is
    /// left out if something else broke the assumption: `quorum (no leader is known)`.
    pub fn line(&self) -> String {
        let unit = self.name.unit().text();
        let number = |value: u64| format!("{value} {unit}").trim_end().to_owned();
        let mut text = self.name.text().to_owned();
        let is_beyond = self.value.zip(self.bound).is_some_and(|(value, bound)| value > bound);
        match (self.value, self.bound) {
            _ if self.standing == Standing::Broken && self.detail.is_some() && !is_beyond => {}
            (Some(value), Some(bound)) => {
                let sign = if value > bound { ">" } else { "<=" };
                let _ = write!(text, " {} {sign} {}", number(value), number(bound));
            }
            (Some(value), None) => {
                let _ = write!(text, " {}", number(value));
            }
            (None, _) => text.push_str(" not measured"),
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, " ({detail})");
        }
        text
    }
}

/// Every assumption, in the order of [`Name::ALL`].
pub fn judge(measured: &Measured, bounds: &Bounds) -> [Assumption; NAMES] {
    Name::ALL.map(|name| match name {
        Name::Quorum => quorum(measured),
        Name::Scheduling => within(name, measured.delay, bounds.delay),
        Name::Disk => within(name, measured.sync, bounds.sync),
        Name::DiskIntegrity => none_of(name, measured.damaged, None),
        Name::Agreement => agreement(measured),
        Name::Space => space(measured),
        Name::ClockRate => clock_rate(&measured.clock),
        Name::ClockError => clock_error(&measured.clock, bounds),
    })
}

fn quorum(measured: &Measured) -> Assumption {
    let mut found = within(Name::Quorum, measured.silence, measured.patience);
    if measured.leader.is_none() {
        found.standing = Standing::Broken;
        found.detail = Some("no leader is known");
    }
    found
}

fn agreement(measured: &Measured) -> Assumption {
    let detail = match () {
        () if measured.fenced => Some("a quorum holds another state: fenced"),
        () if measured.corrupt_alarm => Some("an alarm of corruption is active"),
        () if measured.disputed => Some("no quorum can tell who is right"),
        () => None,
    };
    none_of(Name::Agreement, u64::from(detail.is_some()), detail)
}

fn space(measured: &Measured) -> Assumption {
    let detail = match () {
        () if measured.log_waits => Some("the log waits for space"),
        () if measured.space_alarm => Some("an alarm for want of space is active"),
        () => None,
    };
    let bound = Some(measured.quota).filter(|quota| *quota > 0);
    let over = bound.is_some_and(|quota| measured.used > quota);
    let broken = over || detail.is_some();
    let (standing, value) = (standing(broken), Some(measured.used));
    Assumption { name: Name::Space, standing, value, bound, detail }
}

fn clock_rate(clock: &ClockBounds) -> Assumption {
    // Rounded up: what is within the bound stays so, and what is beyond it, too.
    let ppm = |rate: Ppb| rate.0.unsigned_abs().div_ceil(1_000);
    let bound = Some(ppm(clock.drift_bound.ppb()));
    let (standing, value, detail) = match clock.rate {
        ClockRate::Good(apart) => (Standing::Holds, Some(ppm(apart)), None),
        ClockRate::Bad(apart) => (Standing::Broken, Some(ppm(apart)), None),
        ClockRate::Unknown => {
            (Standing::NotMeasured, None, Some("too few peers heard, or not for long enough"))
        }
    };
    Assumption { name: Name::ClockRate, standing, value, bound, detail }
}

fn clock_error(clock: &ClockBounds, bounds: &Bounds) -> Assumption {
    let unknown = |why| Assumption {
        name: Name::ClockError,
        standing: Standing::NotMeasured,
        value: None,
        bound: Some(millis(bounds.clock_error)),
        detail: Some(why),
    };
    match clock.error {
        ClockError::Within(error) => within(Name::ClockError, error, bounds.clock_error),
        ClockError::NoServer => unknown("no --time-source is asked"),
        ClockError::NoneBelieved => unknown("no server of the time is believed"),
    }
}

fn within(name: Name, value: Duration, bound: Duration) -> Assumption {
    let (value_ms, bound_ms) = (millis(value), millis(bound));
    // What is compared is what is shown, so that no line says 20 > 20.
    let standing = standing(value_ms > bound_ms);
    Assumption { name, standing, value: Some(value_ms), bound: Some(bound_ms), detail: None }
}

fn none_of(name: Name, count: u64, detail: Option<&'static str>) -> Assumption {
    Assumption { name, standing: standing(count > 0), value: Some(count), bound: Some(0), detail }
}

fn standing(broken: bool) -> Standing {
    if broken { Standing::Broken } else { Standing::Holds }
}

/// Rounded up: a silence is never told shorter than it is.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    pub(in crate::guarantees) const BOUNDS: Bounds = Bounds {
        delay: Duration::from_millis(125),
        sync: Duration::from_secs(1),
        clock_error: Duration::from_millis(20),
    };

    /// A clock of which nobody knows anything.
    pub(in crate::guarantees) const UNKNOWN: ClockBounds = ClockBounds::UNKNOWN;

    /// A follower of three with whom all is well.
    pub(in crate::guarantees) fn well() -> Measured {
        Measured {
            leader: Some(NodeId(1)),
            voters: 3,
            silence: 12 * MS,
            patience: 250 * MS,
            delay: 2 * MS,
            sync: 9 * MS,
            used: 1_000,
            quota: 2_000,
            age: Some(300 * MS),
            holds_lease: true,
            ..Measured::default()
        }
    }

    fn standing_of(name: Name, measured: &Measured) -> Standing {
        judge(measured, &BOUNDS)[name as usize].standing
    }

    #[test]
    fn names_stand_in_the_order_of_their_numbers() {
        for (place, name) in Name::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, place);
            assert_eq!(judge(&well(), &BOUNDS)[place].name, name);
        }
    }

    #[test]
    fn everything_but_the_clock_holds_where_all_is_well() {
        for name in Name::ALL {
            let expected = match name {
                Name::ClockRate | Name::ClockError => Standing::NotMeasured,
                _ => Standing::Holds,
            };
            assert_eq!(standing_of(name, &well()), expected, "{name:?}");
        }
    }

    #[test]
    fn each_measurement_breaks_its_own_assumption_beyond_its_bound_and_no_other() {
        let clock = |millis| ClockBounds { error: ClockError::Within(millis * MS), ..UNKNOWN };
        let rate = |rate| ClockBounds { rate, ..UNKNOWN };
        let cases: [(Name, Measured, Measured); 13] = [
            (
                Name::Quorum,
                Measured { silence: 250 * MS, ..well() },
                Measured { silence: 251 * MS, ..well() },
            ),
            (Name::Quorum, well(), Measured { leader: None, ..well() }),
            (
                Name::Scheduling,
                Measured { delay: 125 * MS, ..well() },
                Measured { delay: 126 * MS, ..well() },
            ),
            (
                Name::Disk,
                Measured { sync: 1_000 * MS, ..well() },
                Measured { sync: 1_001 * MS, ..well() },
            ),
            (Name::DiskIntegrity, well(), Measured { damaged: 1, ..well() }),
            (Name::Agreement, well(), Measured { fenced: true, ..well() }),
            (Name::Agreement, well(), Measured { disputed: true, ..well() }),
            (Name::Agreement, well(), Measured { corrupt_alarm: true, ..well() }),
            (Name::Space, Measured { used: 2_000, ..well() }, Measured { used: 2_001, ..well() }),
            (
                Name::Space,
                Measured { quota: 0, used: u64::MAX, ..well() },
                Measured { space_alarm: true, ..well() },
            ),
            (Name::Space, well(), Measured { log_waits: true, ..well() }),
            (
                Name::ClockRate,
                Measured { clock: rate(ClockRate::Good(Ppb(200_000))), ..well() },
                Measured { clock: rate(ClockRate::Bad(Ppb(200_001))), ..well() },
            ),
            (
                Name::ClockError,
                Measured { clock: clock(20), ..well() },
                Measured { clock: clock(21), ..well() },
            ),
        ];
        for (name, whole, broken) in cases {
            assert_eq!(standing_of(name, &whole), Standing::Holds, "{name:?}: {whole:?}");
            assert_eq!(standing_of(name, &broken), Standing::Broken, "{name:?}: {broken:?}");
            for other in Name::ALL.into_iter().filter(|other| *other != name) {
                assert_ne!(standing_of(other, &broken), Standing::Broken, "{other:?} for {name:?}");
            }
        }
    }

    #[test]
    fn lines_say_value_and_bound() {
        let line = |name: Name, measured: Measured| judge(&measured, &BOUNDS)[name as usize].line();
        let error = ClockError::Within(Duration::from_micros(40_001));
        let clock = ClockBounds { error, rate: ClockRate::Bad(Ppb(200_001)), ..UNKNOWN };
        let errs = Measured { clock, ..well() };
        assert_eq!(line(Name::ClockError, errs), "clock-error 41 ms > 20 ms");
        assert_eq!(line(Name::ClockRate, errs), "clock-rate 201 ppm > 200 ppm");
        let none = "clock-error not measured (no --time-source is asked)";
        assert_eq!(line(Name::ClockError, well()), none);
        let none = "clock-rate not measured (too few peers heard, or not for long enough)";
        assert_eq!(line(Name::ClockRate, well()), none);
        assert_eq!(line(Name::DiskIntegrity, well()), "disk-integrity 0 <= 0");
        assert_eq!(
            line(Name::Quorum, Measured { leader: None, ..well() }),
            "quorum (no leader is known)"
        );
        assert_eq!(line(Name::Space, Measured { quota: 0, ..well() }), "space 1000 bytes");
    }
}

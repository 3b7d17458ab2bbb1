//! The clocks at hand of a run: how wrong each may be, how wrong it is, and who lies.
//!
//! An honest clock is wrong by no more than it says. A liar says what it likes: something far off,
//! something just beyond its own error, a time that drifts away, the end of all times; or the same
//! as other liars. One that knows nothing says so, and shows any time.

use quorate_core::{Offset, WallTime};
use quorate_drivers::simulate::{About, Hands, Site, World};
use std::time::Duration;

/// What each reading may be wrong by at least: reading a clock loses a nanosecond, and an exchange
/// reads four.
const RESOLUTION: u64 = 10;

/// The error of a clock that knows nothing: RFC 5905, MAXDISP.
pub(super) const UNFIT: Duration = Duration::from_secs(16);

/// How a clock lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lie {
    /// It is off by so much, and says that it is exact.
    Off(i64),
    /// It is off by a little, another time each, and says that it is exact.
    Close(u64),
    /// It gains so much of each second. Unit: parts per thousand.
    Gains(u64),
    /// It shows the last instant that can be said.
    EndOfTime,
    /// It is off by so much, and says that it knows nothing.
    Unfit(i64),
}

/// The clock at hand of one member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reference {
    /// What it says of itself. Unit: nanoseconds.
    error: u64,
    lie: Option<Lie>,
    /// It is read so often.
    pub(super) period: Duration,
    /// From this true time on it is not read, until the calm.
    quiet_from: u64,
}

impl Reference {
    pub(super) fn draw<W: World>(node: usize, hands: &mut Hands<'_, W>) -> Reference {
        let site = Site::new(About::Detail, 100 + node);
        let error = [10_000, 1_000_000, 20_000_000][hands.draw(site, 3) as usize];
        let period = Duration::from_millis(200 + hands.draw(site, 1_800));
        let quiet_from = match hands.draw(site, 2) {
            0 => u64::MAX,
            _ => hands.draw(site, 10_000_000_000),
        };
        Reference { error: error + RESOLUTION, lie: None, period, quiet_from }
    }

    /// From now on it lies.
    pub(super) fn corrupt<W: World>(&mut self, node: usize, hands: &mut Hands<'_, W>) {
        let site = Site::new(About::Detail, 200 + node);
        let sign = if hands.draw(site, 2) == 0 { 1 } else { -1 };
        self.lie = Some(match hands.draw(site, 6) {
            0 => Lie::EndOfTime,
            1 => Lie::Gains(1 + hands.draw(site, 1_000)),
            2 => Lie::Off(sign * hands.draw(site, 3_600_000_000_000) as i64),
            _ => Lie::Close(1 + hands.draw(site, 20_000_000)),
        });
        self.quiet_from = u64::MAX;
    }

    /// It knows nothing, and says so. What it shows is off by up to twice the error that stands for
    /// this.
    pub(super) fn unsettle<W: World>(&mut self, node: usize, hands: &mut Hands<'_, W>) {
        let most = 2 * UNFIT.as_nanos() as u64;
        let off = hands.draw(Site::new(About::Detail, 500 + node), 2 * most + 1);
        self.lie = Some(Lie::Unfit(off as i64 - most as i64));
    }

    /// From now on it is ten seconds ahead, as others are that were bribed.
    pub(super) fn bribe(&mut self) {
        self.lie = Some(Lie::Off(10_000_000_000));
        self.quiet_from = u64::MAX;
    }

    pub(super) fn lies(&self) -> bool {
        self.lie.is_some()
    }

    /// It is read again, whatever was.
    pub(super) fn speak(&mut self) {
        self.quiet_from = u64::MAX;
    }

    /// What it shows now, and what it says of its error; none while it is not read.
    pub(super) fn read<W: World>(
        &self,
        node: usize,
        hands: &mut Hands<'_, W>,
    ) -> Option<(WallTime, Duration)> {
        if hands.now() >= self.quiet_from {
            return None;
        }
        let site = Site::new(About::Detail, 300 + node);
        let truth = hands.true_time();
        let mut within = |most: u64| hands.draw(site, 2 * most + 1) as i64 - most as i64;
        let (off, error) = match self.lie {
            None => (within(self.error - RESOLUTION), self.error),
            Some(Lie::Off(off)) => (off, RESOLUTION),
            Some(Lie::Close(most)) => (within(most), 1),
            Some(Lie::Gains(thousandth)) => ((hands.now() / 1_000 * thousandth) as i64, RESOLUTION),
            Some(Lie::Unfit(off)) => (off, UNFIT.as_nanos() as u64),
            Some(Lie::EndOfTime) => return Some((WallTime::MAX, Duration::ZERO)),
        };
        Some((truth.moved(Offset::from_nanos(off)), Duration::from_nanos(error)))
    }
}

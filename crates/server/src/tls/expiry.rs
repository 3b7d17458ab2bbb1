//! Certificates that are about to end: told 30, 7 and 1 days ahead, and each day after that.

use super::files::moment;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DAY: i64 = 24 * 60 * 60;

/// Days before the end at which it is told, most patient first.
const NOTICES_DAYS: [i64; 3] = [30, 7, 1];

/// How near the end is: an index into [`NOTICES_DAYS`]; beyond it, the end has passed.
type Nearness = usize;

/// What is to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Warning {
    /// It ends in so many seconds.
    Ends { seconds: i64 },
    /// It ended so many seconds ago.
    Ended { seconds: i64 },
}

impl Warning {
    /// Tells it.
    pub(super) fn log(self, file: &Path, not_after: i64) {
        let (file, until) = (file.display(), moment(not_after));
        match self {
            Warning::Ends { seconds } => {
                let left = if seconds >= 2 * DAY {
                    format!("{} days", seconds / DAY)
                } else {
                    format!("{} hours", seconds / 3_600)
                };
                tracing::warn!(
                    "the certificate in {file} expires in {left}, at {until}; replace the file, it \
                     is read anew without a restart"
                );
            }
            Warning::Ended { seconds } => tracing::error!(
                "the certificate in {file} expired {} hours ago, at {until}: connections with it \
                 are refused; replace the file, it is read anew without a restart",
                seconds / 3_600
            ),
        }
    }
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Watchman {
    /// By file: the end that was looked at, how near it was, and when that was told.
    told: BTreeMap<PathBuf, (i64, Nearness, i64)>,
}

impl Watchman {
    /// Looks at one certificate. Times are seconds since 1970.
    pub(super) fn look(&mut self, file: &Path, not_after: i64, now: i64) -> Option<Warning> {
        let left = not_after.saturating_sub(now);
        let Some(nearness) = nearness(left) else {
            self.told.remove(file);
            return None;
        };
        let last_days = nearness + 1 >= NOTICES_DAYS.len();
        if let Some((end, told, at)) = self.told.get(file)
            && *end == not_after
            && nearness <= *told
            && !(last_days && now.saturating_sub(*at) >= DAY)
        {
            return None;
        }
        self.told.insert(file.to_owned(), (not_after, nearness, now));
        Some(if left > 0 {
            Warning::Ends { seconds: left }
        } else {
            Warning::Ended { seconds: -left }
        })
    }
}

/// `None` while the end is far.
fn nearness(left: i64) -> Option<Nearness> {
    if left <= 0 {
        return Some(NOTICES_DAYS.len());
    }
    (0..NOTICES_DAYS.len()).rev().find(|notice| left <= NOTICES_DAYS[*notice] * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_30_7_and_1_days_ahead_and_each_day_after_it() {
        let (mut watchman, file, end) = (Watchman::default(), Path::new("a.crt"), 100 * DAY);
        let mut told = Vec::new();
        // Every two hours, until three days after the end.
        for now in (0..103 * DAY).step_by(7_200) {
            if let Some(warning) = watchman.look(file, end, now) {
                told.push((now / DAY, matches!(warning, Warning::Ended { .. })));
            }
        }
        let wanted = [(70, false), (93, false), (99, false), (100, true), (101, true), (102, true)];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_new_certificate_is_judged_anew() {
        let (mut watchman, file) = (Watchman::default(), Path::new("a.crt"));
        assert!(watchman.look(file, 5 * DAY, 0).is_some());
        assert!(watchman.look(file, 5 * DAY, 60).is_none());
        assert!(watchman.look(file, 400 * DAY, 120).is_none());
        assert!(watchman.look(file, 5 * DAY, 180).is_some(), "the old one is back");
        assert!(watchman.look(Path::new("b.crt"), 5 * DAY, 180).is_some());
    }

    #[test]
    fn a_certificate_that_is_near_its_end_at_the_start_is_told_once() {
        let (mut watchman, file) = (Watchman::default(), Path::new("a.crt"));
        assert_eq!(watchman.look(file, 3 * DAY, 0), Some(Warning::Ends { seconds: 3 * DAY }));
        assert_eq!(watchman.look(file, 3 * DAY, 1), None);
        assert_eq!(watchman.look(file, 3 * DAY, 3 * DAY), Some(Warning::Ended { seconds: 0 }));
    }
}

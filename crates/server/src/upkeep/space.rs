//! When a member is out of space, and when it no longer is.
//!
//! Three things can run out: the quota, the disk, and, when the disk is full in spite of the watch,
//! the room for the log. Any of them raises this member's alarm; it is cleared when all have room
//! again by a margin, so that a member at the edge does not raise and clear all the time.
//!
//! An alarm that an operator raised by hand stays: this member clears only what it raised, in this
//! life or an earlier one. What was active when it started counts as raised by an earlier life.

use quorate_replica::store::Consumer;

/// Of the quota, in percent: below it the alarm is cleared.
const CLEARED_BELOW_PERCENT: u64 = 90;
/// Free space of a disk that is kept for what must go on when it is full: deletes and compactions
/// in the log, a checkpoint. Unit: bytes.
pub(super) const DISK_RESERVE_BYTES_MAX: u64 = 256 << 20;
/// On a small disk the reserve is this part of it.
const DISK_RESERVE_PART: u64 = 20;

/// Room on a disk. Unit: bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Disk {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// What the store takes. Unit: bytes.
    pub(super) used: u64,
    /// The fuller of the disks; none if the system does not tell.
    pub(super) disk: Option<Disk>,
    /// This member's alarm is active.
    pub(super) alarmed: bool,
    /// This member has caught up since it started, so that an alarm which is not active is none.
    pub(super) settled: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Advice {
    /// Nothing.
    Fine,
    /// There is no room.
    Tight {
        /// The alarm is to be raised.
        raise: bool,
        /// For operators.
        why: String,
    },
    /// The alarm is to be cleared.
    Clear,
}

/// Judges the space of one member.
#[derive(Clone, Debug)]
pub(super) struct Space {
    quota: Option<u64>,
    /// An active alarm of this member is our own.
    ours: bool,
}

impl Disk {
    /// What must stay free.
    fn reserve(self) -> u64 {
        DISK_RESERVE_BYTES_MAX.min(self.total / DISK_RESERVE_PART)
    }
}

impl Space {
    /// For a member with this quota.
    pub(super) fn new(quota: Option<u64>) -> Space {
        Space { quota, ours: true }
    }

    /// What a look calls for.
    pub(super) fn judge(&mut self, look: &Look) -> Advice {
        if let Some(why) = self.tight(look) {
            self.ours |= !look.alarmed;
            return Advice::Tight { raise: !look.alarmed, why };
        }
        if !look.alarmed {
            self.ours &= !look.settled;
            return Advice::Fine;
        }
        if self.ours && self.roomy(look) {
            return Advice::Clear;
        }
        match self.ours {
            true => Advice::Tight {
                raise: false,
                why: "space was short and is not enough yet".to_owned(),
            },
            false => Advice::Fine,
        }
    }

    fn tight(&self, look: &Look) -> Option<String> {
        if let Some(quota) = self.quota.filter(|quota| look.used > *quota) {
            let used = bytes(look.used);
            return Some(format!("{used} are in use, the quota is {}", bytes(quota)));
        }
        let disk = look.disk.filter(|disk| disk.free < disk.reserve())?;
        let (free, reserve) = (bytes(disk.free), bytes(disk.reserve()));
        Some(format!("the disk has {free} left, below the reserve of {reserve}"))
    }

    fn roomy(&self, look: &Look) -> bool {
        let below = |quota: u64| look.used <= quota / 100 * CLEARED_BELOW_PERCENT;
        let free = |disk: Disk| disk.free >= disk.reserve() + disk.reserve() / 2;
        self.quota.is_none_or(below) && look.disk.is_none_or(free)
    }
}

/// One sentence for operators.
pub(super) fn describe(why: &str, consumers: &[Consumer]) -> String {
    let name = |Consumer { prefix, bytes: taken }: &Consumer| {
        format!("\"{}\" {}", prefix.escape_ascii(), bytes(*taken))
    };
    let names: Vec<String> = consumers.iter().map(name).collect();
    match names.is_empty() {
        true => format!("out of space: {why}; the store is empty"),
        false => format!("out of space: {why}; most of the store: {}", names.join(", ")),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = ((count >> (shift - 10)) * 10) >> 10;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn look(used: u64, free: u64, alarmed: bool) -> Look {
        Look { used, disk: Some(Disk { free, total: 100_000 }), alarmed, settled: true }
    }

    fn raises(advice: &Advice) -> Option<bool> {
        match advice {
            Advice::Tight { raise, .. } => Some(*raise),
            _ => None,
        }
    }

    #[test]
    fn the_alarm_is_raised_above_the_quota_and_cleared_by_a_margin_below() {
        let mut space = Space::new(Some(1_000));
        assert_eq!(space.judge(&look(1_000, 90_000, false)), Advice::Fine);
        assert_eq!(raises(&space.judge(&look(1_001, 90_000, false))), Some(true));
        assert_eq!(raises(&space.judge(&look(1_001, 90_000, true))), Some(false));
        assert_eq!(raises(&space.judge(&look(901, 90_000, true))), Some(false), "not yet");
        assert_eq!(space.judge(&look(900, 90_000, true)), Advice::Clear);
        assert_eq!(space.judge(&look(950, 90_000, false)), Advice::Fine);
    }

    #[test]
    fn the_reserve_of_the_disk_is_kept() {
        let mut space = Space::new(None);
        assert_eq!(
            space.judge(&look(u64::MAX, 5_000, false)),
            Advice::Fine,
            "no quota, a twentieth"
        );
        assert_eq!(raises(&space.judge(&look(0, 4_999, false))), Some(true));
        assert_eq!(raises(&space.judge(&look(0, 7_499, true))), Some(false));
        assert_eq!(space.judge(&look(0, 7_500, true)), Advice::Clear);
        let large = Disk { free: 0, total: 1 << 50 };
        assert_eq!(large.reserve(), DISK_RESERVE_BYTES_MAX);
    }

    #[test]
    fn what_an_operator_raised_is_left_to_the_operator() {
        let mut space = Space::new(Some(1_000));
        assert_eq!(space.judge(&look(10, 90_000, false)), Advice::Fine);
        assert_eq!(space.judge(&look(10, 90_000, true)), Advice::Fine, "not ours");
        // What was active from the beginning was raised by an earlier life.
        let mut reborn = Space::new(Some(1_000));
        // It may show only when the log has been applied so far.
        let early = Look { settled: false, ..look(10, 90_000, false) };
        assert_eq!(reborn.judge(&early), Advice::Fine);
        assert_eq!(reborn.judge(&look(10, 90_000, true)), Advice::Clear);
    }

    #[test]
    fn a_disk_that_tells_nothing_is_not_full() {
        let mut space = Space::new(None);
        let look = Look { used: 9, disk: None, alarmed: false, settled: true };
        assert_eq!(space.judge(&look), Advice::Fine);
        assert_eq!(space.judge(&Look { alarmed: true, ..look }), Advice::Fine);
    }

    #[test]
    fn operators_are_told_who_takes_the_space() {
        let consumer = |prefix: &'static str, bytes| {
            let prefix = Bytes::from_static(prefix.as_bytes());
            Consumer { prefix, bytes }
        };
        let consumers = [consumer("/registry/events/", 3 << 29), consumer("\u{1}", 1_023)];
        assert_eq!(
            describe("2.0 GiB are in use", &consumers),
            "out of space: 2.0 GiB are in use; most of the store: \"/registry/events/\" 1.5 GiB, \
             \"\\x01\" 1023 B"
        );
    }
}

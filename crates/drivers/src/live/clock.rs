//! The clock of the live driver.

use quorate_core::Time;
use rustix::time::{ClockId, clock_gettime};

/// This machine's monotonic clock, which goes on counting while the machine is suspended.
///
/// Linux stops `CLOCK_MONOTONIC` in suspend; a member that slept would then trust a leader, a
/// lease or a read round which everybody else has given up. `CLOCK_BOOTTIME` counts on.
pub fn monotonic_now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).expect("the machine booted before now");
    let nanos = u64::try_from(now.tv_nsec).expect("nanoseconds are not negative");
    Time::from_nanos(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward() {
        let earlier = monotonic_now();
        assert!(monotonic_now() >= earlier);
    }
}

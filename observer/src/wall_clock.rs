//! From the kernel's boot time to wall time.
//!
//! Owns the two clocks. Must not know what is timed. Bounded: one number.

use nix::time::{ClockId, clock_gettime};
use observer_core::time::{MonotonicTime, Time, WallTime};

/// The offset between the kernel's boot time and wall time, which changes when the clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    offset_nanoseconds: i128,
}

impl WallClock {
    /// The offset as it is now.
    pub fn sample() -> Self {
        let before = read_clock(ClockId::CLOCK_BOOTTIME);
        let wall = read_clock(ClockId::CLOCK_REALTIME);
        let after = read_clock(ClockId::CLOCK_BOOTTIME);
        Self { offset_nanoseconds: wall - i128::midpoint(before, after) }
    }

    /// The time as it is now.
    pub fn now(self) -> Time {
        self.time(u64::try_from(read_clock(ClockId::CLOCK_BOOTTIME)).unwrap_or(0))
    }

    /// A boot time of the kernel's, on both clocks.
    pub fn time(self, boot_nanoseconds: u64) -> Time {
        let wall = i128::from(boot_nanoseconds) + self.offset_nanoseconds;
        Time {
            monotonic: MonotonicTime(boot_nanoseconds),
            wall: WallTime(u64::try_from(wall.max(0)).unwrap_or(u64::MAX)),
        }
    }
}

/// Both clocks exist on every kernel that can load the programs; a failure would read as 1970.
fn read_clock(clock: ClockId) -> i128 {
    clock_gettime(clock)
        .map_or(0, |time| i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_becomes_wall_time() {
        let clock = WallClock { offset_nanoseconds: 1_000 };
        assert_eq!(clock.time(5), Time { monotonic: MonotonicTime(5), wall: WallTime(1_005) });
        let before_1970 = WallClock { offset_nanoseconds: -1_000 };
        assert_eq!(before_1970.time(5).wall, WallTime(0));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let boot = u64::try_from(boot.tv_sec()).unwrap() * 1_000_000_000;
        let sampled = u128::from(WallClock::sample().time(boot).wall.0);
        assert!(now.abs_diff(sampled) < 5_000_000_000, "{now} {sampled}");
    }
}

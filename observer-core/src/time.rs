//! Points in time as the capture saw them.
//!
//! Owns the two clocks' newtypes. Must not know where a time came from, nor read any clock: time is a parameter
//! everywhere in this crate. Bounded: plain integers, arithmetic saturates.

use core::time::Duration;

/// Nanoseconds since 1970-01-01T00:00:00Z, as a person would read it. May step when the clock is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

/// Nanoseconds of a clock that never steps back by decree: boot time live, the packet's own time in a file.
/// Still, events from several CPUs may arrive slightly out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(pub u64);

/// When something happened: shown by its wall time, measured by its monotonic time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// What durations and latencies are computed from.
    pub monotonic: MonotonicTime,
    /// What is shown.
    pub wall: WallTime,
}

impl Time {
    /// The time of a packet from a file, where one clock is all there is.
    pub const fn from_file(unix_nanoseconds: u64) -> Self {
        Self { monotonic: MonotonicTime(unix_nanoseconds), wall: WallTime(unix_nanoseconds) }
    }

    /// How long after `earlier` this is; zero where the order is reversed.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.monotonic.0.saturating_sub(earlier.monotonic.0))
    }
}

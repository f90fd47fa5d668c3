//! How long things took, in all.
//!
//! Owns the histogram's range and precision. Must not know what took so long. Bounded: a fixed number of buckets, and
//! longer times count as the longest.

use core::time::Duration;

/// The longest time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Times with an error of at most one per cent, in microseconds.
#[derive(Clone)]
pub struct Histogram(Option<hdrhistogram::Histogram<u64>>);

impl Default for Histogram {
    fn default() -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        // These bounds are valid: a test makes one.
        Self(hdrhistogram::Histogram::new_with_bounds(1, longest, 2).ok())
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, time: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, hdrhistogram::Histogram::len)
    }

    /// The time that this share of all is not longer than; `None` where there is none. 1.0 is the longest.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let longest = histogram.max();
        Some(Duration::from_micros(histogram.value_at_quantile(share).min(longest)))
    }

    /// How many were not longer than this, as far as the precision tells.
    pub fn count_to(&self, time: Duration) -> u64 {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.as_ref().map_or(0, |histogram| histogram.count_between(0, time))
    }
}

impl core::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Histogram({})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_right_to_a_hundredth_and_the_longest_time_is_one_that_was() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for milliseconds in 1..=1_000 {
            histogram.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.count(), 1_000);
        for (share, expected) in [(0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = histogram.quantile(share).unwrap().as_secs_f64();
            assert!((found / expected - 1.0).abs() < 0.011, "{share}: {found}");
        }
        assert_eq!(histogram.count_to(Duration::from_secs(2)), 1_000);
    }

    #[test]
    fn what_is_longer_than_the_longest_counts_as_that() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::ZERO);
        assert_eq!(histogram.count(), 2);
        assert!(histogram.quantile(1.0).unwrap() >= LONGEST.mul_f64(0.98));
    }
}

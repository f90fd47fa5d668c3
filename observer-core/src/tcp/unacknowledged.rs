//! The last bytes of one direction that were handed out, for as long as the receiver may not have them.
//!
//! Owns a copy of them, to hold what is sent again against. Must not know what follows from a difference. Bounded by
//! [`Limits::unacknowledged_bytes`](crate::Limits::unacknowledged_bytes) and, over all directions, by
//! [`Limits::unacknowledged_total_bytes`](crate::Limits::unacknowledged_total_bytes).
//!
//! A kernel reads what it received first, but not every packet that is seen reaches its reader: one with a wrong
//! checksum or an old timestamp does not. So of two copies without an acknowledgment between them, either may be the
//! one that is read. Behind an acknowledgment nothing depends on another copy; until more comes, a few of the bytes are
//! compared all the same.

use std::collections::VecDeque;

use crate::limits::Limits;

/// So many bytes stay though they are acknowledged, and so much room does.
const FEW: usize = 256;

/// Bytes without a hole.
#[derive(Debug, Default)]
pub struct Unacknowledged {
    /// Stream offset of the first.
    from: u64,
    data: VecDeque<u8>,
}

impl Unacknowledged {
    /// Whether bytes from `start` on differ from those that were handed out, as far as these are here.
    pub fn differs(&self, start: u64, data: &[u8]) -> bool {
        let before = usize::try_from(self.from.saturating_sub(start)).unwrap_or(usize::MAX);
        let skipped = usize::try_from(start.saturating_sub(self.from)).unwrap_or(usize::MAX);
        let again = data.get(before..).unwrap_or_default();
        self.data.iter().skip(skipped).zip(again).any(|(one, other)| one != other)
    }

    /// Adds bytes that are handed out at `start`, and lets go of what is acknowledged. `total`: what all directions
    /// keep. Returns how many bytes were let go of without an acknowledgment, at a bound.
    pub fn extend(
        &mut self,
        start: u64,
        data: &[u8],
        acknowledged: u64,
        limits: &Limits,
        total: &mut usize,
    ) -> usize {
        let end = self.from + self.data.len() as u64;
        if end == start {
            let old = usize::try_from(acknowledged.saturating_sub(self.from)).unwrap_or(usize::MAX);
            self.forget_first(old, total);
        } else {
            self.forget(total);
        }
        if self.data.is_empty() {
            self.from = start;
        }
        let others = total.saturating_sub(self.data.len());
        let share = limits.unacknowledged_total_bytes.saturating_sub(others) / Limits::SHARES;
        let room = limits.unacknowledged_bytes.min(share);
        let excess = (self.data.len() + data.len()).saturating_sub(room);
        let of_old = excess.min(self.data.len());
        self.forget_first(of_old, total);
        let kept = data.get(excess - of_old..).unwrap_or_default();
        self.from += (data.len() - kept.len()) as u64;
        self.data.extend(kept);
        *total += kept.len();
        excess
    }

    /// Whether these are more than a direction keeps for good.
    pub fn is_much(&self) -> bool {
        self.data.len() > FEW
    }

    /// Lets go of what is acknowledged up to a stream offset, but for the last few bytes.
    pub fn handle_acknowledgment(&mut self, to: u64, total: &mut usize) {
        if self.is_much() {
            let acknowledged = usize::try_from(to.saturating_sub(self.from)).unwrap_or(usize::MAX);
            self.forget_first(acknowledged.min(self.data.len() - FEW), total);
        }
    }

    /// Lets go of all.
    pub fn forget(&mut self, total: &mut usize) {
        *total = total.saturating_sub(self.data.len());
        self.data = VecDeque::new();
    }

    fn forget_first(&mut self, bytes: usize, total: &mut usize) {
        let bytes = bytes.min(self.data.len());
        self.data.drain(..bytes);
        self.from += bytes as u64;
        *total = total.saturating_sub(bytes);
        if self.data.capacity() > FEW && self.data.len() < self.data.capacity() / 4 {
            self.data.shrink_to(self.data.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        kept: Unacknowledged,
        limits: Limits,
        total: usize,
    }

    impl Bench {
        fn new() -> Self {
            Self { kept: Unacknowledged::default(), limits: Limits::default(), total: 0 }
        }

        fn extend(&mut self, start: u64, data: &[u8], acknowledged: u64) -> usize {
            self.kept.extend(start, data, acknowledged, &self.limits, &mut self.total)
        }
    }

    #[test]
    fn a_copy_is_compared_where_it_overlaps() {
        let mut bench = Bench::new();
        bench.extend(10, b"hello", 0);
        bench.extend(15, b"you", 0);
        assert!(!bench.kept.differs(8, b"??helloyou??"));
        assert!(!bench.kept.differs(14, b"oy"));
        assert!(bench.kept.differs(14, b"ox"));
        assert!(!bench.kept.differs(18, b"?") && !bench.kept.differs(0, b"?"));
    }

    #[test]
    fn what_is_acknowledged_is_kept_until_more_comes() {
        let mut bench = Bench::new();
        bench.extend(0, b"hello", 0);
        assert!(bench.kept.differs(0, b"jello"));
        bench.extend(5, b"you", 5);
        assert!(!bench.kept.differs(0, b"jello"));
        assert_eq!(bench.total, 3);
    }

    #[test]
    fn of_much_only_the_last_bytes_stay_once_they_are_acknowledged() {
        let mut bench = Bench::new();
        bench.extend(0, &[b'x'; 10_000], 0);
        bench.kept.handle_acknowledgment(1_000, &mut bench.total);
        assert_eq!(bench.total, 9_000);
        bench.kept.handle_acknowledgment(10_000, &mut bench.total);
        assert!(!bench.kept.is_much() && bench.kept.data.capacity() < 1_000);
        assert!(bench.kept.differs(9_900, b"y") && !bench.kept.differs(0, b"y"));
    }

    #[test]
    fn behind_a_hole_it_begins_anew() {
        let mut bench = Bench::new();
        bench.extend(0, b"hello", 0);
        bench.extend(9, b"you", 0);
        assert!(!bench.kept.differs(0, b"jello") && bench.kept.differs(9, b"too"));
        bench.kept.forget(&mut bench.total);
        assert_eq!(bench.total, 0);
    }

    #[test]
    fn at_a_bound_the_oldest_bytes_go() {
        let mut bench = Bench::new();
        bench.limits.unacknowledged_bytes = 6;
        assert_eq!(bench.extend(0, b"hello", 0), 0);
        assert_eq!(bench.extend(5, b"you", 0), 2);
        assert!(!bench.kept.differs(0, b"??lloyou") && bench.kept.differs(2, b"?"));
        assert_eq!(bench.extend(8, b"everybody", 0), 9);
        assert!(!bench.kept.differs(8, b"???rybody") && bench.kept.differs(11, b"?"));
        assert_eq!(bench.total, 6);
    }

    #[test]
    fn no_direction_takes_more_than_a_share_of_what_is_left() {
        let mut bench = Bench::new();
        bench.limits.unacknowledged_total_bytes = 16_000_000;
        let mut others: Vec<Unacknowledged> = (0..100).map(|_| Unacknowledged::default()).collect();
        for other in &mut others {
            other.extend(0, &[b'x'; 1_000_000], 0, &bench.limits, &mut bench.total);
        }
        assert!(bench.total < 16_000_000);
        assert_eq!(bench.extend(0, b"hello", 0), 0);
    }

    #[test]
    fn the_room_of_much_is_given_back() {
        let mut bench = Bench::new();
        bench.extend(0, &[b'x'; 100_000], 0);
        bench.extend(100_000, b"y", 100_000);
        assert!(bench.kept.data.capacity() < 2_000);
    }
}

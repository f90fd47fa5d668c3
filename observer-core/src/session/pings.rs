//! Pings that wait for their pongs (RFC 6455 §5.5.2, §5.5.3).
//!
//! Owns which ping a pong answers. Must not know how frames are found, nor which end sent them. Bounded by
//! [`Limits::pings`](crate::Limits::pings); of a payload no more is kept than its length and a digest.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::time::Time;

/// The pings of one direction, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Pings {
    sent: VecDeque<Ping>,
}

#[derive(Debug)]
struct Ping {
    time: Time,
    /// Where its stream stood behind it.
    end: u64,
    payload: Digest,
}

/// Tells payloads apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest {
    length: usize,
    digest: u64,
}

impl Digest {
    fn of(payload: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        Self { length: payload.len(), digest: hasher.finish() }
    }
}

impl Pings {
    /// Remembers a ping behind which its stream stands at `end`. Returns whether another one was forgotten for it.
    pub(super) fn handle_ping(&mut self, time: Time, end: u64, payload: &[u8], maximum: usize) -> bool {
        let is_full = self.sent.len() >= maximum;
        if is_full {
            self.sent.pop_front();
        }
        self.sent.push_back(Ping { time, end, payload: Digest::of(payload) });
        is_full
    }

    /// How long before the latest ping passed that a pong can answer, which came from an end that has received the
    /// pings' stream up to `received_to`. That ping, and those before it, are not waited for any longer.
    pub(super) fn handle_pong(&mut self, time: Time, received_to: u64, payload: &[u8]) -> Option<Duration> {
        if self.sent.is_empty() {
            return None;
        }
        let payload = Digest::of(payload);
        let latest = self.sent.iter().rposition(|ping| ping.end <= received_to && ping.payload == payload)?;
        self.sent.drain(..=latest).next_back().map(|ping| time.since(ping.time))
    }

    /// A ping or a pong may have passed unseen: nothing is known of what a further pong answers.
    pub(super) fn forget(&mut self) {
        self.sent = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanoseconds: u64) -> Time {
        Time::from_file(nanoseconds)
    }

    /// Pings at the nanoseconds 100, 200 and so on, each of them 10 bytes behind the one before.
    fn pings(payloads: &[&str]) -> Pings {
        let mut pings = Pings::default();
        for (number, payload) in (1..).zip(payloads) {
            assert!(!pings.handle_ping(at(number * 100), number * 10, payload.as_bytes(), 8));
        }
        pings
    }

    fn answer(pings: &mut Pings, time: u64, received_to: u64, payload: &str) -> Option<u64> {
        let after = pings.handle_pong(at(time), received_to, payload.as_bytes());
        after.map(|after| u64::try_from(after.as_nanos()).unwrap())
    }

    #[test]
    fn a_pong_answers_the_ping_with_its_payload() {
        let mut pings = pings(&["a", "b"]);
        assert_eq!(answer(&mut pings, 250, 20, "a"), Some(150));
        assert_eq!(answer(&mut pings, 260, 20, "b"), Some(60));
    }

    #[test]
    fn a_ping_is_answered_once() {
        let mut pings = pings(&["a"]);
        assert_eq!(answer(&mut pings, 150, 10, "a"), Some(50));
        assert_eq!(answer(&mut pings, 160, 10, "a"), None);
    }

    #[test]
    fn a_pong_with_another_payload_answers_nothing_and_is_forgotten() {
        let mut pings = pings(&["a"]);
        assert_eq!(answer(&mut pings, 140, 10, ""), None);
        assert_eq!(answer(&mut pings, 150, 10, "a"), Some(50));
    }

    #[test]
    fn of_several_with_the_same_payload_the_latest_is_answered_and_those_before_with_it() {
        let mut pings = pings(&["", "", ""]);
        assert_eq!(answer(&mut pings, 350, 30, ""), Some(50));
        assert_eq!(answer(&mut pings, 360, 30, ""), None);
    }

    #[test]
    fn a_ping_that_the_other_end_has_not_received_is_not_what_it_answers() {
        let mut pings = pings(&["", ""]);
        assert_eq!(answer(&mut pings, 250, 10, ""), Some(150));
        assert_eq!(answer(&mut pings, 260, 20, ""), Some(60));
    }

    #[test]
    fn beyond_the_bound_the_oldest_is_forgotten() {
        let mut pings = Pings::default();
        assert!(!pings.handle_ping(at(1), 1, b"a", 2));
        assert!(!pings.handle_ping(at(2), 2, b"b", 2));
        assert!(pings.handle_ping(at(3), 3, b"c", 2));
        assert_eq!(answer(&mut pings, 4, 3, "a"), None);
        assert_eq!(answer(&mut pings, 4, 3, "b"), Some(2));
    }

    #[test]
    fn behind_a_gap_nothing_is_waited_for() {
        let mut pings = pings(&["a"]);
        pings.forget();
        assert_eq!(answer(&mut pings, 150, 10, "a"), None);
    }
}

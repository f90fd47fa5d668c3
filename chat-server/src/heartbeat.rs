//! Owns when a client is asked for a sign of life and when it has been silent for too long.
//!
//! Must not know how it is asked, nor the clock: time is a parameter. Holds three instants.

use std::time::Duration;

use tokio::time::Instant;

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
    unanswered_since: Option<Instant>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    /// The client did not answer in time.
    Silence,
}

impl Heartbeat {
    /// A heartbeat whose first ping is due one interval from now; none where the interval is zero.
    pub(crate) fn new(interval: Duration, timeout: Duration, now: Instant) -> Option<Self> {
        (!interval.is_zero()).then(|| Self {
            interval,
            timeout,
            next_ping: now + interval,
            unanswered_since: None,
        })
    }

    /// The client gave a sign of life.
    pub(crate) fn heard(&mut self) {
        self.unanswered_since = None;
    }

    /// The client took bytes. That it still reads counts only while nothing is read from it: it may have answered, and
    /// nobody has heard it.
    pub(crate) fn wrote(&mut self, is_reading: bool) {
        if !is_reading {
            self.heard();
        }
    }

    /// When [`due`](Self::due) has to be called next.
    pub(crate) fn deadline(&self) -> Instant {
        self.unanswered_since.map_or(self.next_ping, |since| self.next_ping.min(since + self.timeout))
    }

    /// What is due now; a ping that is due counts as sent.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.unanswered_since.is_some_and(|since| now >= since + self.timeout) {
            return Due::Silence;
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        self.next_ping = now + self.interval;
        self.unanswered_since.get_or_insert(now);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_that_answers_is_asked_again_and_again() {
        let mut now = Instant::now();
        let mut heartbeat = Heartbeat::new(10 * SECOND, 3 * SECOND, now).unwrap();
        assert_eq!(heartbeat.due(now), Due::Nothing);
        for _ in 0..5 {
            now = heartbeat.deadline();
            assert_eq!(heartbeat.due(now), Due::Ping);
            assert_eq!(heartbeat.deadline(), now + 3 * SECOND);
            heartbeat.heard();
            assert_eq!(heartbeat.deadline(), now + 10 * SECOND);
        }
    }

    #[test]
    fn patience_counts_from_the_oldest_unanswered_ping_even_if_it_outlasts_the_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(2 * SECOND, 5 * SECOND, start).unwrap();
        assert_eq!(heartbeat.due(start + 2 * SECOND), Due::Ping);
        assert_eq!(heartbeat.due(start + 4 * SECOND), Due::Ping);
        assert_eq!(heartbeat.due(start + 6 * SECOND), Due::Ping);
        assert_eq!(heartbeat.deadline(), start + 7 * SECOND);
        assert_eq!(heartbeat.due(start + 7 * SECOND), Due::Silence);
    }

    #[test]
    fn a_client_that_takes_bytes_is_alive_while_nobody_listens_to_it_and_only_then() {
        let start = Instant::now();
        for (is_reading, due) in [(false, Due::Ping), (true, Due::Silence)] {
            let mut heartbeat = Heartbeat::new(2 * SECOND, 3 * SECOND, start).unwrap();
            assert_eq!(heartbeat.due(start + 2 * SECOND), Due::Ping);
            heartbeat.wrote(is_reading);
            assert_eq!(heartbeat.due(start + 5 * SECOND), due);
        }
    }

    #[test]
    fn an_interval_of_zero_is_no_heartbeat() {
        assert!(Heartbeat::new(Duration::ZERO, SECOND, Instant::now()).is_none());
    }
}

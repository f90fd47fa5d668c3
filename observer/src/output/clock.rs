//! How a time is shown in text.
//!
//! Owns the four styles of `--time`. Must not know records, and reads no clock: only the time zone of the system,
//! once. Bounded: keeps two times and one formatted second.

use std::io::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use observer_core::time::{Time, WallTime};

/// A style of time, as `--time` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeStyle {
    /// Time of day in the system's time zone.
    #[default]
    Local,
    /// Time of day in UTC.
    Utc,
    /// Seconds since the first line.
    Relative,
    /// Seconds since the line before.
    Delta,
}

/// Shows times in one style.
#[derive(Debug)]
pub struct Clock {
    style: TimeStyle,
    zone: TimeZone,
    first: Option<Time>,
    previous: Option<Time>,
    /// The last whole second shown and its text, since lines come in bursts.
    second: Option<(u64, String)>,
}

impl Clock {
    /// A clock that has shown nothing.
    pub fn new(style: TimeStyle) -> Self {
        let zone = if style == TimeStyle::Local { TimeZone::system() } else { TimeZone::UTC };
        Self { style, zone, first: None, previous: None, second: None }
    }

    /// Writes `time`, of the same width for every line of a day.
    pub fn write(&mut self, out: &mut Vec<u8>, time: Time) {
        let first = *self.first.get_or_insert(time);
        let previous = self.previous.replace(time).unwrap_or(time);
        match self.style {
            TimeStyle::Local | TimeStyle::Utc => self.write_time_of_day(out, time.wall),
            TimeStyle::Relative => write_difference(out, time, first),
            TimeStyle::Delta => write_difference(out, time, previous),
        }
    }

    fn write_time_of_day(&mut self, out: &mut Vec<u8>, WallTime(nanoseconds): WallTime) {
        let (second, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        if self.second.as_ref().is_none_or(|(cached, _)| *cached != second) {
            // A u64 of nanoseconds ends in the year 2554, within jiff's range.
            let timestamp =
                i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
            let time = timestamp.to_zoned(self.zone.clone()).time();
            let text = format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
            self.second = Some((second, text));
        }
        let text = self.second.as_ref().map_or("", |(_, text)| text);
        // Writing to a vector cannot fail.
        let _ = write!(out, "{text}.{:06}", fraction / 1_000);
        if self.style == TimeStyle::Utc {
            out.push(b'Z');
        }
    }
}

/// Seconds from `base` to `time`, with a sign only where packets of several processors stepped back.
fn write_difference(out: &mut Vec<u8>, time: Time, base: Time) {
    let nanoseconds = i128::from(time.monotonic.0) - i128::from(base.monotonic.0);
    let microseconds = nanoseconds / 1_000;
    let sign = if microseconds < 0 { "-" } else { "" };
    let (seconds, fraction) = (microseconds.abs() / 1_000_000, microseconds.abs() % 1_000_000);
    let text = format!("{sign}{seconds}.{fraction:06}");
    // Writing to a vector cannot fail.
    let _ = write!(out, "{text:>12}");
}

/// A time as RFC 3339 has it, in UTC with nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub WallTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let timestamp = Timestamp::from_nanosecond(i128::from(self.0.0)).unwrap_or_default();
        write!(f, "{timestamp:.9}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29T23:59:59.123456789Z.
    const LEAP_DAY: u64 = 1_709_251_199_123_456_789;

    fn shown(clock: &mut Clock, nanoseconds: u64) -> String {
        let mut out = Vec::new();
        clock.write(&mut out, Time::from_file(nanoseconds));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn utc_is_marked_and_has_microseconds() {
        let mut clock = Clock::new(TimeStyle::Utc);
        assert_eq!(shown(&mut clock, LEAP_DAY), "23:59:59.123456Z");
        assert_eq!(shown(&mut clock, LEAP_DAY + 1_000_000_000), "00:00:00.123456Z");
        assert_eq!(shown(&mut clock, LEAP_DAY), "23:59:59.123456Z");
    }

    #[test]
    fn relative_counts_from_the_first_line_and_delta_from_the_one_before() {
        let mut relative = Clock::new(TimeStyle::Relative);
        let mut delta = Clock::new(TimeStyle::Delta);
        let times = [LEAP_DAY, LEAP_DAY + 1_500_000, LEAP_DAY + 61_000_000_000, LEAP_DAY - 2_000_000];
        let shown_relative = times.map(|time| shown(&mut relative, time).trim().to_owned());
        let shown_delta = times.map(|time| shown(&mut delta, time).trim().to_owned());
        assert_eq!(shown_relative, ["0.000000", "0.001500", "61.000000", "-0.002000"]);
        assert_eq!(shown_delta, ["0.000000", "0.001500", "60.998500", "-61.002000"]);
    }

    #[test]
    fn rfc_3339_always_has_nine_digits() {
        assert_eq!(Rfc3339(WallTime(LEAP_DAY)).to_string(), "2024-02-29T23:59:59.123456789Z");
        assert_eq!(Rfc3339(WallTime(0)).to_string(), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(Rfc3339(WallTime(u64::MAX)).to_string(), "2554-07-21T23:34:33.709551615Z");
    }
}

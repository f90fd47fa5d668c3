//! The part of an input that `verify` judges: --since and --until.
//!
//! Owns how such times are read, and where the input ends for whoever judges it. Must not know what is judged. Bounded:
//! two times.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use observer_core::Record;
use observer_core::record::Kind;
use observer_core::time::{Time, WallTime};

/// A time, as a user says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// One moment.
    At(WallTime),
    /// A local time of the first day that the input has.
    OfDay(civil::Time),
}

impl Bound {
    /// Reads RFC 3339, a local date and time, or a local time of day.
    ///
    /// # Errors
    /// With what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let zone = TimeZone::system();
        let moment = text.parse::<Timestamp>().ok().or_else(|| {
            let local = text.parse::<civil::DateTime>().ok().filter(|_| text.contains(['-', '/']))?;
            zone.to_timestamp(local).ok()
        });
        if let Some(moment) = moment {
            return Ok(Self::At(wall(moment)));
        }
        text.parse().map(Self::OfDay).map_err(|_| {
            "expected a time such as 2026-01-31T14:02:00Z, or 14:02 of the first day, local time".to_owned()
        })
    }

    fn on(self, day: civil::Date, zone: &TimeZone) -> WallTime {
        match self {
            Self::At(time) => time,
            // Every day is within the range of times that input may have.
            Self::OfDay(time) => zone.to_timestamp(day.to_datetime(time)).map(wall).unwrap_or_default(),
        }
    }
}

fn wall(moment: Timestamp) -> WallTime {
    WallTime(u64::try_from(moment.as_nanosecond().max(0)).unwrap_or(u64::MAX))
}

/// From when until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    since: Option<Bound>,
    until: Option<Bound>,
}

impl Window {
    /// Everything where neither is given.
    pub const fn new(since: Option<Bound>, until: Option<Bound>) -> Self {
        Self { since, until }
    }

    /// What lets records of this part pass; `None` where that is all of them.
    pub fn gate(self) -> Option<Gate> {
        let is_everything = self.since.is_none() && self.until.is_none();
        (!is_everything).then_some(Gate { window: self, bounds: None })
    }

    fn bounds(self, first: WallTime, zone: &TimeZone) -> [WallTime; 2] {
        let first = Timestamp::from_nanosecond(i128::from(first.0)).unwrap_or_default();
        let day = first.to_zoned(zone.clone()).date();
        let since = self.since.map_or(WallTime(0), |since| since.on(day, zone));
        let mut until = self.until.map_or(WallTime(u64::MAX), |until| until.on(day, zone));
        // From ten to midnight until ten past it.
        if let (Some(Bound::OfDay(_)), true) = (self.until, until < since) {
            let next = day.checked_add(1.day()).unwrap_or(day);
            until = self.until.map_or(until, |until| until.on(next, zone));
        }
        [since, until]
    }
}

/// The bounds of all that there is.
pub const EVERYTHING: [WallTime; 2] = [WallTime(0), WallTime(u64::MAX)];

/// Lets the records pass up to the end of a window, those before it too: who is who shows there.
#[derive(Debug)]
pub struct Gate {
    window: Window,
    bounds: Option<[WallTime; 2]>,
}

impl Gate {
    /// The first and the last moment of the window, where the first record of the run is of `first`.
    pub fn bounds(&mut self, first: WallTime) -> [WallTime; 2] {
        *self.bounds.get_or_insert_with(|| self.window.bounds(first, &TimeZone::system()))
    }

    /// Takes a record; `pass` gets it, where it is not behind the window.
    pub fn handle(&mut self, record: &Record<'_>, mut pass: impl FnMut(&Record<'_>)) {
        let time = record.time.wall;
        let [_, until] = self.bounds(time);
        if matches!(record.kind, Kind::Summary(_)) {
            // For whoever judges it is no later than the window's end.
            let time = if time > until { Time::from_file(until.0) } else { record.time };
            return pass(&Record { time, ..record.clone() });
        }
        if time <= until {
            pass(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use observer_core::record::{CaptureLoss, Summary};

    use super::*;

    /// 2024-02-29T23:59:59Z.
    const LEAP_DAY: u64 = 1_709_251_199_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn parsed(text: &str) -> Bound {
        Bound::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn times_are_read_as_rfc_3339_has_them_and_as_people_say_them() {
        assert_eq!(parsed("2024-02-29T23:59:59Z"), Bound::At(WallTime(LEAP_DAY)));
        assert_eq!(parsed("2024-03-01T00:59:59+01:00"), Bound::At(WallTime(LEAP_DAY)));
        assert!(matches!(parsed("2024-02-29 23:59"), Bound::At(_)));
        assert_eq!(parsed("14:02"), Bound::OfDay(civil::time(14, 2, 0, 0)));
        assert_eq!(parsed("14:02:03.5"), Bound::OfDay(civil::time(14, 2, 3, 500_000_000)));
        for text in ["", "noon", "25:00", "-5", "2024-02-30T00:00:00Z"] {
            assert!(Bound::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_is_one_of_the_first_day_and_an_end_before_the_beginning_one_of_the_next() {
        let bounds = |since: &str, until: &str| {
            let window = Window::new(Some(parsed(since)), Some(parsed(until)));
            window.bounds(WallTime(LEAP_DAY), &TimeZone::UTC).map(|time| time.0)
        };
        assert_eq!(bounds("23:59:58", "23:59:59"), [LEAP_DAY - SECOND, LEAP_DAY]);
        assert_eq!(bounds("23:59:58", "00:00:01"), [LEAP_DAY - SECOND, LEAP_DAY + 2 * SECOND]);
    }

    #[test]
    fn what_is_behind_a_window_does_not_pass_and_the_run_ends_with_it() {
        let mut gate =
            Window::new(Some(Bound::At(WallTime(10))), Some(Bound::At(WallTime(20)))).gate().unwrap();
        let loss = || Kind::CaptureLoss(CaptureLoss { packets: 1 });
        let mut passed = Vec::new();
        for (time, kind) in
            [(9, loss()), (20, loss()), (21, loss()), (30, Kind::Summary(Box::<Summary>::default()))]
        {
            let record = Record { time: Time::from_file(time), connection: None, stream_end: None, kind };
            gate.handle(&record, |record| passed.push(record.time.wall.0));
        }
        assert_eq!(passed, [9, 20, 20]);
    }

    #[test]
    fn without_bounds_there_is_no_gate() {
        assert!(Window::default().gate().is_none());
    }
}

//! Owns the chat's notion of time: local wall-clock time, to the second.
//!
//! Must not know what is stamped with it. Holds nothing.

use jiff::Zoned;
use jiff::fmt::strtime;

/// Now, in the machine's time zone, as `YYYY-MM-DD HH:MM:SS`.
pub(crate) fn local_time() -> String {
    format(&Zoned::now())
}

fn format(time: &Zoned) -> String {
    // The format string is constant and needs no field that a zoned time lacks, so it cannot fail.
    strtime::format("%Y-%m-%d %H:%M:%S", time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_looks_like_the_manuals() {
        let time =
            jiff::civil::date(2014, 8, 12).at(17, 50, 30, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        assert_eq!(format(&time), "2014-08-12 17:50:30");
        assert_eq!(local_time().len(), 19);
    }
}

//! The anomalies that observer has to raise, case by case.
//!
//! Owns the table: what the suite sends that the protocol forbids, read from the cases' own descriptions and RFC 6455,
//! and by which names observer calls it. Must not know a run. Bounded: constant.
//!
//! The server breaks no rule in any case. Where a table names no anomaly, there must be none.

/// Cases in which the suite does the same thing wrong.
#[derive(Debug)]
pub struct Misdeed {
    /// Names of cases; a last number may be a range, as in `6.12.1-8`.
    pub cases: &'static [&'static str],
    /// What the suite does.
    pub what: &'static str,
    /// The codes of the anomalies, in the order in which they are found.
    pub anomalies: &'static [&'static str],
}

/// All that the suite does wrong.
pub const MISDEEDS: &[Misdeed] = &[
    Misdeed { cases: &["2.5"], what: "a ping of 126 bytes", anomalies: &["long-control-frame"] },
    Misdeed {
        cases: &["3.1-7"],
        what: "a frame with reserved bits, without an extension that gives them a meaning",
        anomalies: &["reserved-bit-set"],
    },
    Misdeed {
        cases: &["4.1.1-5", "4.2.1-5"],
        what: "a frame with an opcode that is reserved",
        anomalies: &["reserved-opcode"],
    },
    Misdeed {
        cases: &["5.1", "5.2"],
        what: "a ping or pong in two fragments, of which the second continues nothing",
        anomalies: &["fragmented-control-frame", "continuation-without-start"],
    },
    Misdeed {
        cases: &["5.9-11"],
        what: "a continuation, with FIN, of nothing; then a message",
        anomalies: &["continuation-without-start"],
    },
    Misdeed {
        cases: &["5.12-15"],
        what: "a continuation, without FIN, of nothing; then a message, which begins within what that began",
        anomalies: &["continuation-without-start", "data-frame-inside-message"],
    },
    Misdeed {
        cases: &["5.16"],
        what: "the same twice, with a message in two fragments",
        anomalies: &[
            "continuation-without-start",
            "data-frame-inside-message",
            "continuation-without-start",
            "data-frame-inside-message",
        ],
    },
    Misdeed {
        cases: &["5.17"],
        what: "a continuation, with FIN, of nothing; then a message in two fragments; both twice",
        anomalies: &["continuation-without-start", "continuation-without-start"],
    },
    Misdeed {
        cases: &["5.18"],
        what: "a message that begins while another is unfinished",
        anomalies: &["data-frame-inside-message"],
    },
    Misdeed {
        cases: &[
            "6.3.1-2",
            "6.6.1",
            "6.6.3-4",
            "6.6.6",
            "6.6.8",
            "6.6.10",
            "6.8.1-2",
            "6.10.1-3",
            "6.11.5",
            "6.12.1-8",
            "6.13.1-5",
            "6.14.1-10",
            "6.15.1",
            "6.16.1-3",
            "6.17.1-5",
            "6.18.1-5",
            "6.19.1-5",
            "6.20.1-7",
            "6.21.1-8",
        ],
        what: "text that is not UTF-8",
        anomalies: &["invalid-utf8"],
    },
    Misdeed {
        cases: &["6.4.1-2"],
        what: "text that is not UTF-8, in fragments; unless the peer waits for the last one, it does not come",
        anomalies: &["stream-ends-inside-a-message", "invalid-utf8"],
    },
    Misdeed {
        cases: &["6.4.3-4"],
        what: "the same in pieces of one frame",
        anomalies: &["stream-ends-inside-a-frame", "invalid-utf8"],
    },
    Misdeed {
        cases: &["7.1.4-5"],
        what: "a data frame behind a close frame",
        anomalies: &["frame-after-close"],
    },
    Misdeed { cases: &["7.3.2"], what: "a close frame of one byte", anomalies: &["close-payload-too-short"] },
    Misdeed { cases: &["7.3.6"], what: "a close frame of 126 bytes", anomalies: &["long-control-frame"] },
    Misdeed {
        cases: &["7.5.1"],
        what: "a close frame whose reason is not UTF-8",
        anomalies: &["close-reason-invalid-utf8"],
    },
    Misdeed {
        cases: &["7.9.1-9", "7.13.1-2"],
        what: "a close frame with a code that must not be sent",
        anomalies: &["close-code-invalid"],
    },
];

/// The codes of the anomalies of a case. `whole`: the suite brought every message to its end.
pub fn anomalies(case: &str, whole: bool) -> Vec<&'static str> {
    let misdeed = MISDEEDS.iter().find(|misdeed| misdeed.cases.iter().any(|cases| covers(cases, case)));
    let all = misdeed.map_or(&[][..], |misdeed| misdeed.anomalies);
    all.iter().copied().filter(|code| !(whole && code.starts_with("stream-ends-inside"))).collect()
}

fn covers(cases: &str, case: &str) -> bool {
    let Some((first, last)) = cases.split_once('-') else { return cases == case };
    let (Some((group, first)), Some((group_of_case, number))) =
        (first.rsplit_once('.'), case.rsplit_once('.'))
    else {
        return false;
    };
    let numbers = [first, number, last].map(str::parse::<u32>);
    let [Ok(first), Ok(number), Ok(last)] = numbers else { return false };
    group == group_of_case && (first..=last).contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_covers_its_group_from_the_first_number_to_the_last() {
        assert!(covers("6.12.1-8", "6.12.1") && covers("6.12.1-8", "6.12.8"));
        for other in ["6.12.9", "6.12.0", "6.13.1", "6.1", "6.12.1.1", "6"] {
            assert!(!covers("6.12.1-8", other), "{other}");
        }
        assert!(covers("5.9-11", "5.10") && !covers("5.9-11", "5.1"));
        assert!(covers("2.5", "2.5") && !covers("2.5", "2.50"));
    }

    #[test]
    fn a_case_without_a_misdeed_has_no_anomalies() {
        assert!(anomalies("1.1.1", true).is_empty());
        assert_eq!(anomalies("5.18", false), ["data-frame-inside-message"]);
    }

    #[test]
    fn a_stream_ends_inside_a_message_that_was_not_brought_to_its_end_only() {
        assert_eq!(anomalies("6.4.1", true), ["invalid-utf8"]);
        assert_eq!(anomalies("6.4.1", false), ["stream-ends-inside-a-message", "invalid-utf8"]);
    }
}

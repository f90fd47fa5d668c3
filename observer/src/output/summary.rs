//! The end of a run in words, for standard error.
//!
//! Owns the wording, and that no loss is ever left out of it. Must not know formats. Bounded by the closed lists of
//! causes and limits.

use observer_core::limits::Limit;
use observer_core::record::{CaptureCounters, GapCause, Summary};

use super::text::cause_words;

/// What was seen, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What was seen.
    pub seen: Vec<String>,
    /// What is missing, one entry a reason; empty where nothing is.
    pub missing: Vec<String>,
}

/// Puts a summary into words.
pub fn words(summary: &Summary) -> Words {
    Words { seen: seen(summary), missing: missing(summary) }
}

fn seen(summary: &Summary) -> Vec<String> {
    let [client, server] = &summary.account;
    let mut lines = vec![format!(
        "{} (→ {}, ← {}) on {}, {} of them still open; {}",
        count(client.messages.saturating_add(server.messages), "message", "messages"),
        client.messages,
        server.messages,
        count(summary.connections, "connection", "connections"),
        summary.connections_open,
        count(summary.handshakes, "successful upgrade", "successful upgrades"),
    )];
    let mut packets = count(summary.packets, "packet", "packets");
    packets.push_str(" decoded");
    if summary.packets_ignored > 0 {
        packets
            .push_str(&format!(", {} of them of no connection or behind its end", summary.packets_ignored));
    }
    if summary.connections_other > 0 {
        let other = count(summary.connections_other, "TCP connection", "TCP connections");
        packets.push_str(&format!("; {other} without a WebSocket upgrade"));
    }
    lines.push(packets);
    if let Some(CaptureCounters { seen, captured, truncated, captured_partly, filtered, losses }) =
        &summary.capture
    {
        let lost = losses.iter().map(|(_, packets)| *packets).fold(0, u64::saturating_add);
        let seen = count(*seen, "packet", "packets");
        lines.push(format!(
            "kernel: {seen} seen, {captured} captured ({truncated} of them cut, {captured_partly} in part), \
             {filtered} filtered, {lost} lost"
        ));
    }
    if summary.connections_joined > 0 {
        let connections = count(summary.connections_joined, "connection", "connections");
        lines.push(format!("{connections} open before, whose beginning alone was not seen"));
    }
    if summary.anomalies > 0 {
        lines.push(count(summary.anomalies, "anomaly", "anomalies"));
    }
    lines
}

fn missing(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(capture) = &summary.capture {
        for (reason, packets) in capture.losses.iter().filter(|(_, packets)| *packets > 0) {
            lines.push(format!("{} lost by the capture: {reason}", count(*packets, "packet", "packets")));
        }
        if capture.truncated > 0 {
            lines.push(format!("{} cut short", count(capture.truncated, "packet", "packets")));
        }
        if capture.captured_partly > 0 {
            let packets = count(capture.captured_partly, "packet", "packets");
            lines.push(format!("{packets} whose beginning alone was captured"));
        }
    }
    if summary.packets_fragments > 0 {
        let fragments = count(summary.packets_fragments, "fragment", "fragments");
        lines.push(format!("{fragments} of IP packets, which are not put together"));
    }
    if summary.packets_malformed > 0 {
        let packets = count(summary.packets_malformed, "packet", "packets");
        lines.push(format!("{packets} malformed, or cut before the end of the TCP header"));
    }
    for (cause, &gaps) in GapCause::ALL.into_iter().zip(&summary.gaps) {
        if gaps > 0 {
            lines.push(format!("{} {}", count(gaps, "gap", "gaps"), cause_words(cause)));
        }
    }
    let sum = |of: fn(&observer_core::record::Account) -> u64| {
        summary.account.iter().map(of).fold(0, u64::saturating_add)
    };
    let bytes = sum(|account| account.bytes_missing);
    if bytes > 0 {
        lines.push(format!("{} of payload not seen", count(bytes, "byte", "bytes")));
    }
    let skipped = sum(|account| account.bytes_skipped);
    if skipped > 0 {
        lines.push(format!("{} of payload seen and not decoded", count(skipped, "byte", "bytes")));
    }
    let truncated = sum(|account| account.messages_truncated);
    if truncated > 0 {
        lines.push(format!("{} truncated", count(truncated, "message", "messages")));
    }
    let incomplete = summary.connections_incomplete.saturating_sub(summary.connections_joined);
    if incomplete > 0 {
        let connections = count(incomplete, "connection", "connections");
        lines.push(format!("{connections} incomplete"));
    }
    for (limit, &times) in Limit::ALL.iter().zip(&summary.limits) {
        if times > 0 {
            let times = count(times, "time", "times");
            lines.push(format!("limit `{}` of the observer reached {times}", limit.name()));
        }
    }
    lines
}

/// What is said of so many cases that were given up at a limit; nothing of none.
pub fn given_up(cases: u64) -> Option<String> {
    let cases = (cases > 0).then(|| count(cases, "line stands", "lines stand"))?;
    Some(format!(
        "{cases} for what was given up at a limit of observer (`limit`): more happens than it can follow"
    ))
}

/// A number of things, in the singular where there is one.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_told() {
        assert_eq!(given_up(0), None);
        assert_eq!(
            given_up(2).unwrap(),
            "2 lines stand for what was given up at a limit of observer (`limit`): more happens than it can follow"
        );
    }

    #[test]
    fn a_run_without_loss_has_nothing_missing() {
        let words = words(&Summary { packets: 3, connections: 1, ..Summary::default() });
        assert_eq!(
            words.seen,
            [
                "0 messages (→ 0, ← 0) on 1 connection, 0 of them still open; 0 successful upgrades",
                "3 packets decoded"
            ]
        );
        assert_eq!(words.missing, Vec::<String>::new());
    }

    #[test]
    fn a_connection_that_was_open_before_and_lacks_nothing_else_is_no_loss() {
        let summary = Summary { connections_incomplete: 3, connections_joined: 2, ..Summary::default() };
        let words = words(&summary);
        assert_eq!(words.seen[2], "2 connections open before, whose beginning alone was not seen");
        assert_eq!(words.missing, ["1 connection incomplete"]);
    }

    #[test]
    fn every_kind_of_loss_is_named() {
        let mut summary = Summary {
            connections_incomplete: 1,
            packets_fragments: 1,
            packets_malformed: 2,
            ..Summary::default()
        };
        summary.gaps = [1, 2, 3, 4];
        summary.limits = [1; Limit::ALL.len()];
        summary.account[1].bytes_missing = 77;
        summary.account[0].bytes_skipped = 80;
        summary.account[1].bytes_skipped = 8;
        summary.account[0].messages_truncated = 5;
        summary.capture = Some(CaptureCounters {
            losses: vec![("ring full", 6), ("reserve failed", 0)],
            truncated: 8,
            captured_partly: 3,
            ..CaptureCounters::default()
        });
        let missing = words(&summary).missing.join("\n");
        for said in [
            "6 packets lost by the capture: ring full",
            "8 packets cut short",
            "1 fragment of IP packets, which are not put together",
            "2 packets malformed, or cut before the end of the TCP header",
            "3 packets whose beginning alone was captured",
            "1 gap cut off by the snap length",
            "2 gaps lost by the capture",
            "3 gaps never seen",
            "4 gaps given up",
            "77 bytes of payload not seen",
            "88 bytes of payload seen and not decoded",
            "5 messages truncated",
            "1 connection incomplete",
        ] {
            assert!(missing.contains(said), "{said:?} is not in {missing}");
        }
        assert!(!missing.contains("reserve failed"));
        for limit in Limit::ALL {
            assert!(missing.contains(&format!("`{}`", limit.name())));
        }
    }
}

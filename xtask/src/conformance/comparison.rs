//! Whether observer agrees with the suite on a case.
//!
//! Owns what has to be equal. Must not know how either came to know it. Bounded by the case.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::seen::{Connection, End, Side};
use super::suite::{Case, Frame};

const CLOSE: u8 = 8;

/// What observer says otherwise than the suite, which is this end of the connection, each in a sentence.
pub fn disagreements(case: &Case, end: End, seen: &Connection) -> Vec<String> {
    let mut found = Vec::new();
    let (suite, peer) = (seen.side(end), seen.side(end.other()));
    expect(&mut found, "whether the upgrade succeeded", &true, &seen.is_accepted);

    let expected = case.anomalies();
    let mut told = names(&suite.anomalies);
    // Whether it had received the peer's close before it dropped the connection is a matter of time.
    told.retain(|code| *code != "close-not-answered" || !case.answers_close || !suite.closes.is_empty());
    expect(&mut found, "anomalies of the suite", &expected, &told);
    expect(&mut found, "anomalies of its peer", &[][..], &names(&peer.anomalies));
    expect(&mut found, "other anomalies", &[][..], &names(&seen.other_anomalies));
    if case.must_be_refused && expected.is_empty() {
        found.push("the peer has to fail the connection, and no anomaly says why".to_owned());
    }

    expect(&mut found, "messages sent", &case.messages_sent[..], &suite.messages);
    expect(&mut found, "messages received", &case.messages_received[..], &peer.messages);
    expect(&mut found, "control frames sent", &case.controls_sent[..], &suite.controls);
    expect(&mut found, "control frames received", &case.controls_received[..], &peer.controls);
    let (logged, counted) = sent(case, suite);
    frames(&mut found, "sent", logged, &counted, &suite.frames);
    frames(&mut found, "received", &case.frames_received, &case.frame_counts_received, &peer.frames);

    let told = peer.closes.first().cloned();
    let wanted = (case.frame_counts_received.contains_key(&CLOSE))
        .then(|| (case.remote_close_code, case.remote_close_reason.clone().unwrap_or_default()));
    expect(&mut found, "the peer's close", &wanted, &told);
    match &seen.closed {
        None => found.push("observer does not say how it ended".to_owned()),
        Some(closed) => {
            expect(&mut found, "whether every byte was seen", &true, &closed.complete);
            let wanted = Some(if case.closed_by_suite { end } else { end.other() }.name());
            expect(&mut found, "who closed", &wanted, &closed.closed_by.as_deref());
        }
    }
    found
}

/// What the suite says that it sent, less its answer to a close frame where that was never sent: the suite logs it and
/// then drops the connection, as a capture shows; the account of all bytes proves that none is missing.
fn sent<'a>(case: &'a Case, seen: &Side) -> (&'a [Frame], BTreeMap<u8, u64>) {
    let mut counts = case.frame_counts_sent.clone();
    match case.frames_sent.split_last() {
        Some((answer, others))
            if case.answers_close && answer.opcode == CLOSE && !seen.frames.contains(answer) =>
        {
            match counts.get_mut(&CLOSE) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(counts.remove(&CLOSE)),
            }
            (others, counts)
        }
        _ => (&case.frames_sent, counts),
    }
}

/// Compares how many frames there were of each opcode, and those that are in the suite's log one by one.
fn frames(
    found: &mut Vec<String>,
    what: &str,
    logged: &[Frame],
    counted: &BTreeMap<u8, u64>,
    seen: &[Frame],
) {
    let mut counts = BTreeMap::new();
    for frame in seen {
        *counts.entry(frame.opcode).or_insert(0) += 1;
    }
    expect(found, &format!("frames {what}, by opcode"), counted, &counts);
    // The log of a case with much to send is switched on for the end only.
    let last = seen.len().saturating_sub(logged.len());
    expect(found, &format!("last frames {what}"), logged, &seen[last..]);
}

fn names(codes: &[String]) -> Vec<&str> {
    codes.iter().map(String::as_str).collect()
}

fn expect<T: PartialEq + Debug + ?Sized>(found: &mut Vec<String>, what: &str, suite: &T, observer: &T) {
    if suite != observer {
        found.push(format!("{what}: the suite says {}, observer {}", shortened(suite), shortened(observer)));
    }
}

/// Long lists are not for reading.
fn shortened(value: &(impl Debug + ?Sized)) -> String {
    const MOST_CHARACTERS: usize = 400;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::Closed;
    use super::super::suite::Message;
    use super::*;

    fn text(digest: &str) -> Message {
        Message { opcode: "text".to_owned(), length: 5, digest: digest.to_owned(), whole: true }
    }

    fn frame(opcode: u8, length: u64, mask: Option<&str>) -> Frame {
        Frame { opcode, fin: true, rsv: 0, length, mask: mask.map(str::to_owned) }
    }

    /// An echoed message and a close by the suite.
    fn case() -> Case {
        Case {
            id: "1.1.1".to_owned(),
            path: Some("/echo?case=1.1.1".to_owned()),
            behavior: "OK".to_owned(),
            behavior_close: "OK".to_owned(),
            result: String::new(),
            result_close: String::new(),
            must_be_refused: false,
            closed_by_suite: true,
            answers_close: false,
            remote_close_code: Some(1000),
            remote_close_reason: None,
            frames_sent: vec![frame(1, 5, Some("01020304")), frame(8, 2, Some("05060708"))],
            frames_received: vec![frame(1, 5, None), frame(8, 2, None)],
            frame_counts_sent: [(1, 1), (8, 1)].into(),
            frame_counts_received: [(1, 1), (8, 1)].into(),
            messages_sent: vec![text("aa")],
            messages_received: vec![text("aa")],
            controls_sent: Vec::new(),
            controls_received: Vec::new(),
        }
    }

    fn side(frames: &[Frame]) -> Side {
        Side {
            frames: frames.to_vec(),
            messages: vec![text("aa")],
            closes: vec![(Some(1000), String::new())],
            ..Side::default()
        }
    }

    fn seen() -> Connection {
        Connection {
            is_accepted: true,
            client: side(&case().frames_sent),
            server: side(&case().frames_received),
            closed: Some(Closed { closed_by: Some("client".to_owned()), complete: true }),
            ..Connection::default()
        }
    }

    /// What is found once the case or what was seen of it is altered.
    fn found(alter: impl FnOnce(&mut Case, &mut Connection)) -> String {
        let (mut case, mut seen) = (case(), seen());
        alter(&mut case, &mut seen);
        disagreements(&case, End::Client, &seen).join("\n")
    }

    #[test]
    fn equal_accounts_agree() {
        assert_eq!(found(|_, _| {}), "");
    }

    #[test]
    fn the_suite_may_be_either_end() {
        let (mut case, mut seen) = (case(), seen());
        std::mem::swap(&mut seen.client, &mut seen.server);
        seen.closed = Some(Closed { closed_by: Some("server".to_owned()), complete: true });
        assert_eq!(disagreements(&case, End::Server, &seen), [""; 0]);
        case.messages_sent.clear();
        assert!(disagreements(&case, End::Server, &seen)[0].contains("messages sent"));
    }

    #[test]
    fn a_message_that_is_missing_doubled_or_altered_is_found() {
        assert!(found(|_, seen| seen.client.messages.clear()).contains("messages sent"));
        assert!(found(|_, seen| seen.server.messages.push(text("aa"))).contains("messages received"));
        assert!(found(|_, seen| seen.server.messages = vec![text("ab")]).contains("messages received"));
    }

    #[test]
    fn an_anomaly_too_many_or_too_few_is_found() {
        let stranger = || "reserved-opcode".to_owned();
        assert!(found(|_, seen| seen.client.anomalies.push(stranger())).contains("anomalies of the suite"));
        assert!(found(|_, seen| seen.server.anomalies.push(stranger())).contains("anomalies of its peer"));
        assert!(found(|_, seen| seen.other_anomalies.push(stranger())).contains("other anomalies"));
        assert!(found(|case, _| case.id = "4.1.1".to_owned()).contains("anomalies of the suite"));
    }

    #[test]
    fn a_case_that_the_peer_has_to_refuse_needs_an_anomaly() {
        assert!(found(|case, _| case.must_be_refused = true).contains("no anomaly says why"));
    }

    #[test]
    fn a_frame_that_is_missing_or_altered_is_found() {
        assert!(found(|_, seen| drop(seen.server.frames.remove(0))).contains("frames received, by opcode"));
        let other_mask = |_: &mut Case, seen: &mut Connection| {
            seen.client.frames[0].mask = Some("01020305".to_owned());
        };
        assert!(found(other_mask).contains("last frames sent"));
        let ping = (9, String::new());
        assert!(found(|_, seen| seen.client.controls.push(ping)).contains("control frames sent"));
    }

    #[test]
    fn of_a_log_that_begins_late_the_end_is_compared() {
        let log_late = |case: &mut Case, _: &mut Connection| drop(case.frames_sent.remove(0));
        assert_eq!(found(log_late), "");
    }

    #[test]
    fn a_close_that_differs_is_found() {
        assert!(found(|case, _| case.remote_close_code = Some(1002)).contains("the peer's close"));
        assert!(found(|case, _| case.remote_close_reason = Some("why".into())).contains("the peer's close"));
        assert!(found(|case, _| case.closed_by_suite = false).contains("who closed"));
        assert!(found(|_, seen| seen.closed = None).contains("how it ended"));
    }

    #[test]
    fn an_answer_to_the_peer_s_close_may_never_have_been_sent_but_no_other_frame() {
        let unanswered = |case: &mut Case, seen: &mut Connection| {
            (case.closed_by_suite, case.answers_close) = (false, true);
            seen.closed = Some(Closed { closed_by: Some("server".to_owned()), complete: true });
            seen.client.frames.pop();
            seen.client.closes.clear();
        };
        assert_eq!(found(unanswered), "");
        let told = |case: &mut Case, seen: &mut Connection| {
            unanswered(case, seen);
            seen.client.anomalies.push("close-not-answered".to_owned());
        };
        assert_eq!(found(told), "");
        let bytes_missing = |case: &mut Case, seen: &mut Connection| {
            unanswered(case, seen);
            seen.closed = Some(Closed { closed_by: Some("server".to_owned()), complete: false });
        };
        assert!(found(bytes_missing).contains("every byte"));
        let by_suite = |_: &mut Case, seen: &mut Connection| {
            seen.client.frames.pop();
            seen.client.closes.clear();
        };
        assert!(found(by_suite).contains("frames sent, by opcode"));
    }
}

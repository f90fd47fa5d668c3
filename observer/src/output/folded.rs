//! Text with one line for what somebody says and all its copies, instead of one each.
//!
//! Owns which line a case gets and when it gets another, and the count of heartbeats. Must not know how a case is judged,
//! nor the lines of what belongs to none, which are `text`'s. Bounded: an entry a case under way, [`CASES_MAX`]
//! of them; [`NAMED_MAX`] recipients of a kind are named in a line. Everything that a peer can influence goes through
//! `escape`.
//!
//! The time of a line is that of what began it, and it stands where its outcome was known: the line of something slow
//! comes behind those of what was said later. A further line of the same has a mark before it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use observer_core::Record;
use observer_core::flow::verdict::{Case, Causes, Deviation, Fault, Latency, Outcome, Stage, Told};
use observer_core::flow::verifier::{CASES_MAX, Part};
use observer_core::flow::{Act, Members, Rules};
use observer_core::record::Kind;
use observer_core::time::Time;

use super::append::push;
use super::escape::write_text;
use super::palette::Palette;
use super::party::{latency, write_party, write_party_briefly, write_quote};
use super::summary::count;
use super::text::Text;
use super::trigger::write_trigger;
use super::verdict::words::{self, Rule};

/// Before each further line of a case. Nobody is called so without quotes.
const AGAIN: &str = "↳ ";

/// Recipients that are named for one reason in one line.
pub const NAMED_MAX: usize = 8;

/// Receivers may delay an acknowledgment by so much; one that takes longer is told of.
const SLOW_AFTER: Duration = Duration::from_millis(500);

/// Between two lines that tell of heartbeats.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(60);

/// Lays out records and cases.
#[derive(Debug)]
pub struct Folded {
    text: Text,
    palette: Palette,
    rules: Arc<Rules>,
    /// What a line was written for and no verdict came yet, by number.
    shown: BTreeMap<u64, Shown>,
    heartbeats: Heartbeats,
}

/// What the line of a case has said.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// That all came.
    all_came: bool,
    /// How much was wrong besides what was missing.
    remarks: usize,
    /// How many had it, and why no more is known.
    known: (usize, Causes),
}

#[derive(Clone, Copy, Debug, Default)]
struct Heartbeats {
    count: u64,
    first: Time,
    last: Time,
    /// When they were told of, or the first one came.
    since: Option<Time>,
}

impl Folded {
    /// Lays out what belongs to no case as `text` does.
    pub fn new(text: Text, palette: Palette, rules: Arc<Rules>) -> Self {
        let heartbeats = Heartbeats::default();
        Self { text, palette, rules, shown: BTreeMap::new(), heartbeats }
    }

    /// Takes a record, and what the verifier says it is.
    pub fn handle(&mut self, out: &mut Vec<u8>, record: &Record<'_>, part: Part) {
        match (part, &record.kind) {
            (_, Kind::Summary(_)) => self.write_heartbeats(out),
            (Part::Heartbeat, _) => self.heartbeats.note(record.time),
            (Part::OfCase, _) | (_, Kind::Received(_) | Kind::CaptureLoss(_) | Kind::Frame(_)) => {}
            (Part::Nothing, _) => {
                self.write_heartbeats_if_due(out, record.time);
                self.text.write(out, record);
            }
        }
    }

    /// Takes what the verifier tells. `people` are as they were then.
    pub fn tell(&mut self, out: &mut Vec<u8>, told: &Told<'_>, people: &Members) {
        let case = told.case;
        if !matches!(Rule::find(&self.rules, case.dialect, case.flow), Some(Rule::Flow(_)) | None) {
            let is_news = matches!(case.outcome, Outcome::Violated | Outcome::Late);
            if told.stage == Stage::Verdict && is_news {
                self.write_finding(out, case, people);
            }
            return;
        }
        if matches!(case.trigger.does, Some(Act::Ping | Act::Pong)) && case.outcome != Outcome::Violated {
            return;
        }
        if told.stage == Stage::Refused {
            self.write_refused(out, case, people);
            self.shown.remove(&case.number);
            return;
        }
        if told.stage == Stage::Unheard {
            self.write_start(out, case, people);
            out.push(b'\n');
            return;
        }
        let before = self.shown.get(&case.number).copied();
        let now = Shown {
            all_came: told.stage == Stage::Complete,
            remarks: remarks(case),
            known: (case.arrived, case.causes),
        };
        match told.stage {
            Stage::Complete | Stage::Overdue => {
                let is_late = before.is_some();
                self.write_case(out, case, is_late, people);
                // Of one that is begun anew, by another dialect, no verdict comes.
                if self.shown.len() >= CASES_MAX {
                    self.shown.pop_first();
                }
                self.shown.insert(case.number, now);
            }
            Stage::Verdict | Stage::Refused | Stage::Unheard => {
                let is_news = before.is_none_or(|before| {
                    let says_more = match case.outcome {
                        Outcome::Held | Outcome::Late => !before.all_came,
                        Outcome::Inconclusive => !before.all_came && now.known != before.known,
                        Outcome::Violated => false,
                    };
                    says_more || now.remarks > before.remarks
                });
                if is_news {
                    let is_late = case.outcome == Outcome::Late;
                    self.write_case(out, case, is_late, people);
                }
                self.shown.remove(&case.number);
            }
        }
    }

    /// Time, who, what, how many of how many, after how long, and what is wrong.
    fn write_case(&mut self, out: &mut Vec<u8>, case: &Case<'_>, is_late: bool, people: &Members) {
        self.write_start(out, case, people);
        let is_short = case.arrived < case.expected;
        self.palette.write_word(
            out,
            if is_short { self.palette.problem } else { "" },
            &format!(" {}/{}", case.arrived, case.expected),
        );
        let Latency { last_sent, last_received, .. } = case.latency;
        if let (Some(sent), Some(received), true) = (last_sent, last_received, case.arrived > 0 && !is_short)
        {
            push(out, &format!(" {}", latency(sent)));
            if received.saturating_sub(sent) > SLOW_AFTER {
                push(out, &format!(", acknowledged after {}", latency(received)));
            }
        }
        let has_late = case.deviations.iter().any(|deviation| deviation.fault == Fault::Late);
        if is_late && !has_late {
            push(out, ", ");
            self.palette.write_word(out, self.palette.problem, "late");
        }
        self.write_rest(out, case);
    }

    fn write_refused(&mut self, out: &mut Vec<u8>, case: &Case<'_>, people: &Members) {
        if case.trigger.does == Some(Act::Join) {
            self.write_when(out, case);
            write_party(out, &case.trigger.party, people, self.palette.escape);
            push(out, " asked to log in");
        } else {
            self.write_start(out, case, people);
        }
        push(out, ", ");
        self.palette.write_word(out, self.palette.problem, "refused by the server");
        out.push(b'\n');
    }

    /// What no message began, or what breaks a rule that nothing begins.
    fn write_finding(&mut self, out: &mut Vec<u8>, case: &Case<'_>, people: &Members) {
        self.write_start(out, case, people);
        push(out, ", ");
        self.palette.write_word(out, self.palette.problem, words::outcome(case.outcome));
        out.push(b' ');
        write_text(out, case.flow, self.palette.escape);
        self.write_rest(out, case);
    }

    /// And whether there was a line of it before.
    fn write_when(&mut self, out: &mut Vec<u8>, case: &Case<'_>) {
        self.write_heartbeats_if_due(out, case.time);
        self.text.write_time(out, case.trigger.time);
        out.push(b' ');
        push(out, if self.shown.contains_key(&case.number) { AGAIN } else { "" });
    }

    fn write_start(&mut self, out: &mut Vec<u8>, case: &Case<'_>, people: &Members) {
        self.write_when(out, case);
        let mark = self.palette.escape;
        write_trigger(out, case.trigger, self.palette, |out, party| write_party(out, party, people, mark));
    }

    fn write_rest(&self, out: &mut Vec<u8>, case: &Case<'_>) {
        if case.others_unknown > 0 {
            push(out, ", ");
            let others = count(case.others_unknown as u64, "other", "others");
            self.palette.write_word(out, self.palette.problem, &format!("{others} unknown"));
        }
        if case.left > 0 {
            push(out, &format!(", {} left before", case.left));
        }
        for fault in Fault::ALL {
            let of_fault: Vec<_> = case.deviations.iter().filter(|it| it.fault == fault).collect();
            if !of_fault.is_empty() {
                push(out, ", ");
                self.palette.write_word(out, self.palette.problem, label(fault, case.outcome));
                push(out, ": ");
                self.write_recipients(out, case, &of_fault);
            }
        }
        if case.deviations_more > 0 {
            push(out, &format!(", and {} more", case.deviations_more));
        }
        if case.outcome == Outcome::Inconclusive && !case.causes.is_empty() {
            let causes: Vec<_> = case.causes.iter().map(words::cause).collect();
            out.push(b' ');
            self.palette.write_word(
                out,
                self.palette.problem,
                &format!("[not known: {}]", causes.join("; ")),
            );
        }
        out.push(b'\n');
    }

    /// With what they did not get, where that is not what was said; and with what they got instead.
    fn write_recipients(&self, out: &mut Vec<u8>, case: &Case<'_>, deviations: &[&Deviation]) {
        let trigger = case.trigger;
        for (index, deviation) in deviations.iter().take(NAMED_MAX).enumerate() {
            push(out, if index == 0 { "" } else { ", " });
            write_party_briefly(out, &deviation.party, self.palette.escape);
            let is_other = deviation.kind != trigger.kind && !trigger.kind.is_empty();
            if is_other && !deviation.kind.is_empty() {
                out.push(b' ');
                write_text(out, &deviation.kind, self.palette.escape);
            }
            if let Some(seen) = deviation.seen.as_ref().filter(|seen| Some(*seen) != trigger.content.as_ref())
            {
                out.push(b' ');
                write_quote(out, seen, self.palette.escape);
            }
        }
        let more = deviations.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            push(out, &format!(" and {more} more"));
        }
    }

    fn write_heartbeats_if_due(&mut self, out: &mut Vec<u8>, now: Time) {
        if self.heartbeats.since.is_some_and(|since| now.since(since) >= HEARTBEATS_EVERY) {
            self.write_heartbeats(out);
            self.heartbeats.since = Some(now);
        }
    }

    fn write_heartbeats(&mut self, out: &mut Vec<u8>) {
        let Heartbeats { count: number, first, last, .. } = self.heartbeats;
        if number == 0 {
            return;
        }
        self.text.write_time(out, last);
        let within = latency(last.since(first));
        let heartbeats = count(number, "heartbeat", "heartbeats");
        push(out, &format!(" {heartbeats} (pings and pongs) in {within}\n"));
        self.heartbeats.count = 0;
    }
}

impl Heartbeats {
    fn note(&mut self, time: Time) {
        self.since.get_or_insert(time);
        if self.count == 0 {
            self.first = time;
        }
        self.count += 1;
        self.last = time;
    }
}

/// How much is wrong besides what is missing.
fn remarks(case: &Case<'_>) -> usize {
    let is_remark = |deviation: &&Deviation| {
        !matches!(deviation.fault, Fault::Lost | Fault::Blocked | Fault::Unacknowledged | Fault::Late)
    };
    case.deviations.iter().filter(is_remark).count() + case.deviations_more
}

/// What is said of those with whom something is wrong.
const fn label(fault: Fault, outcome: Outcome) -> &'static str {
    match (fault, outcome) {
        // What is not proved is not said as if it were.
        (Fault::Lost, Outcome::Inconclusive) => "not seen",
        (Fault::Lost, _) => "missing",
        (Fault::Blocked, _) => "not sent, since they read nothing",
        (Fault::Unacknowledged, _) => "sent, not acknowledged",
        (Fault::Late, _) => "late",
        (Fault::Duplicated, _) => "came again",
        (Fault::Altered, _) => "altered",
        (Fault::Unexpected, _) => "came, and must not",
        (Fault::Misordered, _) => "came behind what was sent later",
        (Fault::Unsolicited, _) => "nothing explains it",
        (Fault::WrongClose, _) => "ended otherwise",
    }
}

#[cfg(test)]
mod tests {
    use observer_core::flow::Recipient;
    use observer_core::flow::verdict::{Cause, QUOTE_BYTES_MAX, Quote};
    use observer_core::record::{CaptureLoss, ClaimSource, ClaimedAddress, ClientClaim, Summary};

    use super::*;
    use crate::output::cases::{Made, party};
    use crate::output::clock::TimeStyle;
    use crate::output::text::Detail;

    struct Lines {
        folded: Folded,
        out: Vec<u8>,
    }

    impl Lines {
        fn new() -> Self {
            let text = Text::new(TimeStyle::Utc, Palette::PLAIN, Detail::default());
            Self { folded: Folded::new(text, Palette::PLAIN, Rules::built_in()), out: Vec::new() }
        }

        fn tell(&mut self, stage: Stage, made: &Made) {
            made.told(stage, |told| self.folded.tell(&mut self.out, told, &Members::default()));
        }

        fn record(&mut self, seconds: u64, kind: Kind<'_>, part: Part) {
            let time = Time::from_file(Made::AT + seconds * 1_000_000_000);
            let record = Record { time, connection: None, stream_end: None, kind };
            self.folded.handle(&mut self.out, &record, part);
        }

        fn heartbeat(&mut self, seconds: u64) {
            self.record(seconds, Kind::CaptureLoss(CaptureLoss { packets: 0 }), Part::Heartbeat);
        }

        /// The lines since the last time, without their times.
        fn take(&mut self) -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut self.out)).unwrap();
            text.lines()
                .map(|line| line.strip_prefix("12:00:00.000000Z ").unwrap_or(line).to_owned())
                .collect()
        }
    }

    fn complete() -> Made {
        let mut made = Made::default();
        made.latency.last_sent = Some(Duration::from_micros(1_600));
        made.latency.last_received = Some(Duration::from_millis(42));
        made
    }

    fn missing() -> Made {
        let mut made = Made { outcome: Outcome::Violated, arrived: 1, ..complete() };
        made.deviate(Fault::Lost, party(1, "猪猪"), None, None);
        made
    }

    #[test]
    fn what_all_got_is_one_line_and_its_verdict_no_further_one() {
        let mut lines = Lines::new();
        lines.tell(Stage::Complete, &complete());
        lines.tell(Stage::Verdict, &complete());
        assert_eq!(lines.take(), ["mynick → all \"hi, all !\" 2/2 1.6 ms"]);
        assert!(lines.folded.shown.is_empty());
    }

    #[test]
    fn the_time_is_the_server_s_and_an_acknowledgment_is_told_of_where_it_is_slow() {
        let mut made = complete();
        made.latency.last_received = Some(Duration::from_millis(502));
        let mut lines = Lines::new();
        lines.tell(Stage::Complete, &made);
        assert_eq!(lines.take(), ["mynick → all \"hi, all !\" 2/2 1.6 ms, acknowledged after 502.0 ms"]);
    }

    #[test]
    fn private_words_logins_logouts_and_other_types_have_their_own_lines() {
        let mut lines = Lines::new();
        let mut private = Made { expected: 1, arrived: 1, ..complete() };
        private.trigger.recipient = Some(party(1, "猪猪"));
        private.trigger.room = Some("7".into());
        private.say("psst");
        lines.tell(Stage::Complete, &private);
        let acts = [(Act::Join, None), (Act::Join, Some("7")), (Act::Leave, None)];
        for (number, (act, room)) in (2..).zip(acts) {
            let mut made = Made { number, ..complete() };
            made.trigger.does = Some(act);
            made.trigger.content = None;
            made.trigger.room = room.map(Into::into);
            lines.tell(Stage::Complete, &made);
        }
        let mut other = Made { number: 5, ..complete() };
        other.trigger.does = None;
        other.trigger.kind = "call".into();
        other.trigger.to = None;
        lines.tell(Stage::Complete, &other);
        let mut unknown = Made { number: 6, ..complete() };
        unknown.trigger.to = Some(Recipient::Uid(observer_core::flow::Uid::Number(9)));
        lines.tell(Stage::Complete, &unknown);
        assert_eq!(
            lines.take(),
            [
                "mynick → 猪猪 in room 7 \"psst\" 1/1 1.6 ms",
                "mynick logged in 2/2 1.6 ms",
                "mynick logged in to room 7 2/2 1.6 ms",
                "mynick logged out 2/2 1.6 ms",
                "mynick call \"hi, all !\" 2/2 1.6 ms",
                "mynick → uid 9 \"hi, all !\" 2/2 1.6 ms",
            ]
        );
    }

    #[test]
    fn of_what_has_only_a_type_the_message_itself_is_quoted() {
        let mut made = complete();
        made.trigger.does = None;
        made.trigger.kind = "refresh".into();
        made.trigger.content = None;
        made.trigger.text =
            Some(Quote::of(&format!("{{\"op\":\"refresh\",\"x\":\"\x1b{}\"}}", "x".repeat(300))));
        let mut lines = Lines::new();
        lines.tell(Stage::Complete, &made);
        let line = lines.take().concat();
        assert!(line.starts_with(r#"mynick refresh "{\"op\":\"refresh\",\"x\":\"\x1bx"#), "{line}");
        assert!(line.ends_with("x\"… 2/2 1.6 ms") && line.len() < 2 * QUOTE_BYTES_MAX, "{line}");
    }

    #[test]
    fn who_is_missing_is_named_at_once_with_address_or_claim_and_the_verdict_adds_nothing() {
        let mut lines = Lines::new();
        let mut made = missing();
        let address = ClaimedAddress { ip: [203, 0, 113, 9].into(), port: None };
        let claim = ClientClaim { address, by: ClaimSource::XForwardedFor, also: Vec::new() };
        let claimed = observer_core::flow::verdict::Party { claim: Some(Arc::new(claim)), ..party(3, "c") };
        made.deviate(Fault::Unacknowledged, claimed, Some(Time::from_file(Made::AT)), None);
        lines.tell(Stage::Overdue, &made);
        lines.tell(Stage::Verdict, &made);
        assert_eq!(
            lines.take(),
            ["mynick → all \"hi, all !\" 1/2, missing: 猪猪 (#1 127.0.0.1:40001), \
              sent, not acknowledged: c (#3 203.0.113.9 claimed)"]
        );
    }

    #[test]
    fn what_comes_late_is_told_once_more_and_once_only() {
        let mut late = Made { outcome: Outcome::Late, ..complete() };
        late.latency.last_sent = Some(Duration::from_secs(5));
        late.latency.last_received = Some(Duration::from_secs(5));
        for has_complete in [true, false] {
            let mut lines = Lines::new();
            lines.tell(Stage::Overdue, &missing());
            lines.take();
            if has_complete {
                lines.tell(Stage::Complete, &late);
            }
            lines.tell(Stage::Verdict, &late);
            assert_eq!(lines.take(), ["↳ mynick → all \"hi, all !\" 2/2 5.00 s, late"]);
        }
    }

    #[test]
    fn a_verdict_that_says_more_than_the_line_before_has_its_own() {
        for (fault, said) in [
            (Fault::Duplicated, "came again"),
            (Fault::Altered, "altered"),
            (Fault::Unexpected, "came, and must not"),
            (Fault::Misordered, "came behind what was sent later"),
            (Fault::Unsolicited, "nothing explains it"),
        ] {
            let mut lines = Lines::new();
            lines.tell(Stage::Complete, &complete());
            lines.take();
            let mut made = Made { outcome: Outcome::Violated, ..complete() };
            made.deviate(fault, party(1, "猪猪"), None, None);
            made.deviations[0].seen = Some(Quote::of("h*"));
            lines.tell(Stage::Verdict, &made);
            let expected =
                format!("↳ mynick → all \"hi, all !\" 2/2 1.6 ms, {said}: 猪猪 (#1 127.0.0.1:40001) \"h*\"");
            assert_eq!(lines.take(), [expected]);
        }
    }

    #[test]
    fn what_turns_out_not_to_be_known_is_told_and_what_never_had_a_line_gets_one_at_the_end() {
        let mut made = missing();
        made.outcome = Outcome::Inconclusive;
        made.causes = Cause::EndedTooSoon.into();
        let line = "mynick → all \"hi, all !\" 1/2, not seen: 猪猪 (#1 127.0.0.1:40001) \
                    [not known: the run ended before the time was up]";
        let mut lines = Lines::new();
        lines.tell(Stage::Verdict, &made);
        assert_eq!(lines.take(), [line]);
        lines.tell(Stage::Overdue, &missing());
        lines.take();
        lines.tell(Stage::Verdict, &made);
        assert_eq!(lines.take(), [format!("↳ {line}")]);
    }

    #[test]
    fn what_was_not_known_when_its_time_was_up_is_told_again_only_where_more_or_less_is_known() {
        let mut made = missing();
        made.outcome = Outcome::Inconclusive;
        made.causes = Cause::Unreadable.into();
        let more = Made { causes: made.causes.with(Cause::Limit), ..made.clone() };
        for (verdict, is_told) in
            [(&made, false), (&more, true), (&Made { arrived: 2, ..made.clone() }, true)]
        {
            let mut lines = Lines::new();
            lines.tell(Stage::Overdue, &made);
            lines.take();
            lines.tell(Stage::Verdict, verdict);
            assert_eq!(lines.take().len(), usize::from(is_told));
        }
    }

    #[test]
    fn what_is_refused_behind_its_first_line_is_marked_and_nobody_can_be_called_like_the_mark() {
        for act in [Act::Say, Act::Join] {
            let mut made = missing();
            made.trigger.does = Some(act);
            made.trigger.party.name = Some("↳".into());
            let mut lines = Lines::new();
            lines.tell(Stage::Overdue, &made);
            lines.tell(Stage::Refused, &made);
            let [first, second] = &lines.take()[..] else { panic!("{act:?} has not two lines") };
            assert!(first.starts_with("\"↳\" ") && second.starts_with("↳ \"↳\" "), "{first}\n{second}");
            assert!(lines.folded.shown.is_empty());
        }
    }

    #[test]
    fn what_the_server_refuses_is_told_once_and_signs_of_life_only_where_they_fail() {
        let mut lines = Lines::new();
        lines.tell(Stage::Refused, &complete());
        assert_eq!(lines.take(), ["mynick → all \"hi, all !\", refused by the server"]);
        for (made, is_told) in [(complete(), false), (missing(), true)] {
            let mut made = made;
            made.trigger.does = Some(Act::Ping);
            made.trigger.kind = "ping".into();
            made.trigger.content = None;
            lines.tell(if is_told { Stage::Overdue } else { Stage::Complete }, &made);
            lines.tell(Stage::Verdict, &made);
            assert_eq!(lines.take().len(), usize::from(is_told));
        }
    }

    #[test]
    fn whoever_leaves_last_has_a_line_without_a_count() {
        let mut made = Made { expected: 0, arrived: 0, ..Made::default() };
        made.trigger.does = Some(Act::Leave);
        made.trigger.content = None;
        made.trigger.room = Some("7".into());
        let mut lines = Lines::new();
        lines.tell(Stage::Unheard, &made);
        assert_eq!(lines.take(), ["mynick logged out of room 7"]);
        assert!(lines.folded.shown.is_empty());
    }

    #[test]
    fn what_is_missing_is_named_where_it_is_something_else_than_what_was_said() {
        let mut made = missing();
        made.trigger.does = Some(Act::Join);
        made.trigger.kind = "login".into();
        made.deviations[0].kind = "user_list".into();
        let mut lines = Lines::new();
        lines.tell(Stage::Overdue, &made);
        assert_eq!(lines.take(), ["mynick logged in 1/2, missing: 猪猪 (#1 127.0.0.1:40001) user_list"]);
    }

    #[test]
    fn others_of_whom_nothing_is_known_are_said() {
        let mut lines = Lines::new();
        lines.tell(Stage::Complete, &Made { others_unknown: 3, ..complete() });
        assert_eq!(lines.take(), ["mynick → all \"hi, all !\" 2/2 1.6 ms, 3 others unknown"]);
    }

    #[test]
    fn only_some_are_named_and_the_others_are_counted() {
        let mut made = Made { outcome: Outcome::Violated, expected: 12, arrived: 0, ..Made::default() };
        for number in 0..12 {
            made.deviate(Fault::Lost, party(number, "x"), None, None);
        }
        let mut lines = Lines::new();
        lines.tell(Stage::Overdue, &made);
        let line = lines.take().concat();
        assert_eq!(line.matches("x (#").count(), NAMED_MAX);
        assert!(line.ends_with(" and 4 more"), "{line}");
    }

    #[test]
    fn no_text_of_a_peer_can_imitate_a_line_or_control_the_terminal() {
        let mut made = missing();
        made.trigger.party.name = Some("a → all \"x\" 9/9\n\x1b[2J".into());
        made.say("\" 2/2 0.1 ms\r\n\u{202e}");
        made.deviations[0].party.name = Some("all".into());
        let mut lines = Lines::new();
        lines.tell(Stage::Overdue, &made);
        assert_eq!(
            lines.take(),
            ["\"a → all \\\"x\\\" 9/9\\n\\x1b[2J\" → all \"\\\" 2/2 0.1 ms\\r\\n\\u{202e}\" 1/2, \
              missing: \"all\" (#1 127.0.0.1:40001)"]
        );
    }

    #[test]
    fn heartbeats_are_counted_and_told_once_a_minute_before_another_line_and_at_the_end() {
        let mut lines = Lines::new();
        let loss = || {
            Kind::Anomaly(observer_core::record::Anomaly {
                direction: None,
                code: observer_core::anomaly::AnomalyCode::ALL[0],
                detail: "",
            })
        };
        for seconds in [0, 30, 59] {
            lines.heartbeat(seconds);
        }
        lines.record(59, loss(), Part::Nothing);
        assert_eq!(lines.take().len(), 1, "it is too early");
        lines.heartbeat(61);
        lines.record(62, loss(), Part::Nothing);
        let told = lines.take();
        assert_eq!(
            (told.len(), told[0].as_str()),
            (2, "12:01:01.000000Z 4 heartbeats (pings and pongs) in 61.00 s")
        );
        lines.heartbeat(70);
        lines.record(71, Kind::Summary(Box::<Summary>::default()), Part::Nothing);
        assert_eq!(lines.take(), ["12:01:10.000000Z 1 heartbeat (pings and pongs) in 0.0 ms"]);
    }

    #[test]
    fn a_message_that_a_line_tells_of_is_not_shown_by_itself() {
        let mut lines = Lines::new();
        lines.record(0, Kind::CaptureLoss(CaptureLoss { packets: 3 }), Part::Nothing);
        lines.record(0, Kind::CaptureLoss(CaptureLoss { packets: 3 }), Part::OfCase);
        assert_eq!(lines.take(), [""; 0]);
    }
}

//! Verdicts for people: a block for each that is not held, and a table.
//!
//! Owns the layout, and how many of the same kind are printed. Must not know how anything is judged. Bounded: appends to
//! the caller's buffer what the core keeps of one case, or a line a rule; counts by rule and kinds of causes. Everything that a peer can influence goes through `escape`.

use std::collections::{BTreeMap, HashMap};

use observer_core::flow::Rules;
use observer_core::flow::verdict::{Case, Cause, Causes, Deviation, FlowTotals, Outcome};

use super::Verification;
use super::words::{self, Rule};
use crate::output::append::{format, push};
use crate::output::clock::{Clock, TimeStyle};
use crate::output::escape::write_text;
use crate::output::palette::Palette;
use crate::output::party::{latency, write_party_fully, write_quote};
use crate::output::trigger::write_trigger;

/// Inconclusive cases of one rule and of one kind of causes that are printed. All of them are in `--format json`.
const INCONCLUSIVE_MAX: usize = 3;

/// Lays out verdicts as text.
#[derive(Debug)]
pub struct Text {
    clock: Clock,
    palette: Palette,
    /// How many inconclusive cases of a rule and of one kind of causes were printed.
    printed: HashMap<(Box<str>, Causes), usize>,
}

impl Text {
    pub fn new(time: TimeStyle, palette: Palette) -> Self {
        Self { clock: Clock::new(time), palette, printed: HashMap::new() }
    }

    /// Appends a case that is not held.
    pub fn write(&mut self, out: &mut Vec<u8>, case: &Case<'_>, rules: &Rules) {
        if case.outcome == Outcome::Held {
            return;
        }
        let is_last_of_its_kind = case.outcome == Outcome::Inconclusive && {
            let printed = self.printed.entry((case.flow.into(), case.causes)).or_default();
            *printed += 1;
            if *printed > INCONCLUSIVE_MAX {
                return;
            }
            *printed == INCONCLUSIVE_MAX
        };
        let Palette { faint, reset, problem, .. } = self.palette;
        push(out, faint);
        self.clock.write(out, case.trigger.time);
        push(out, reset);
        out.push(b' ');
        push(out, problem);
        write_title(out, case);
        push(out, reset);
        out.push(b'\n');
        write_details(out, case, rules, self.palette);
        if is_last_of_its_kind {
            push(out, "    further ones that are not known for the same reason are only counted\n");
        }
    }

    /// Appends the table, and a sentence.
    pub fn write_end(&self, out: &mut Vec<u8>, verification: &Verification) {
        write_table(out, &verification.rows);
        write_acknowledgments(out, &verification.rows);
        for (count, cause) in verification.causes.iter().zip(Cause::ALL) {
            if *count > 0 {
                format(out, format_args!("{count} inconclusive: {}\n", words::cause(cause)));
            }
        }
        if verification.has_cause(Cause::StartedTooLate) {
            push(out, "Whoever was connected before is known once they connect and log in anew.\n");
        }
        if verification.shed > 0 {
            format(out, format_args!("{} given up at a limit of observer\n", verification.shed));
        }
        if verification.sent_is_trusted {
            push(out, "Delivery is judged by what the server sent: nothing tells what was acknowledged.\n");
        }
        format(out, format_args!("{}\n", verification.sentence()));
    }
}

/// Appends the outcome and the rule.
pub fn write_title(out: &mut Vec<u8>, case: &Case<'_>) {
    push(out, words::outcome(case.outcome));
    push(out, ": ");
    write_text(out, case.flow, Palette::PLAIN.escape);
    push(out, " of ");
    write_text(out, case.dialect, Palette::PLAIN.escape);
}

/// Appends what began a case, what was asked for, and what is wrong, each on a line of its own.
pub fn write_details(out: &mut Vec<u8>, case: &Case<'_>, rules: &Rules, palette: Palette) {
    let mark = palette.escape;
    push(out, "    ");
    write_trigger(out, case.trigger, palette, |out, party| write_party_fully(out, party, mark));
    out.push(b'\n');
    for asked in Rule::find(rules, case.dialect, case.flow).into_iter().flat_map(Rule::words) {
        push(out, "    expected: ");
        write_text(out, &asked, mark);
        out.push(b'\n');
    }
    if case.expected > 0 {
        format(out, format_args!("    {} of {} have it", case.arrived, case.expected));
        if let Some(last) = case.latency.last_received.filter(|_| case.arrived > 0) {
            format(out, format_args!(", the last after {}", latency(last)));
        }
        out.push(b'\n');
    }
    for deviation in case.deviations {
        write_deviation(out, case, deviation, palette);
    }
    if case.deviations_more > 0 {
        format(out, format_args!("    and {} more\n", case.deviations_more));
    }
    if case.others_unknown > 0 {
        format(
            out,
            format_args!("    {} more may have been meant: who they are is not known\n", case.others_unknown),
        );
    }
    if case.left > 0 {
        format(out, format_args!("    {} left before, and are not counted\n", case.left));
    }
    for cause in case.causes.iter() {
        format(out, format_args!("    not known, since {}\n", words::cause(cause)));
    }
}

fn write_deviation(out: &mut Vec<u8>, case: &Case<'_>, deviation: &Deviation, palette: Palette) {
    let mark = palette.escape;
    push(out, "    ");
    palette.write_word(out, palette.problem, words::fault(case.outcome, deviation.fault));
    push(out, ": ");
    write_party_fully(out, &deviation.party, mark);
    push(out, ": ");
    write_text(out, &words::deviation(case, deviation), mark);
    if let Some(seen) = &deviation.seen {
        push(out, "; seen: ");
        write_quote(out, seen, mark);
    }
    out.push(b'\n');
}

const HEADS: [&str; 9] =
    ["cases", "held", "late", "violated", "inconclusive", "refused", "p50", "p99", "max"];
/// Of the heads: which one is left out where it would be 0 everywhere.
const REFUSED: usize = 5;

/// A rule a row, below the name of its dialect; numbers to the right.
fn write_table(out: &mut Vec<u8>, rows: &[FlowTotals]) {
    if rows.is_empty() {
        return;
    }
    let mut by_dialect: BTreeMap<&str, Vec<(&str, Vec<String>)>> = BTreeMap::new();
    for row in rows {
        by_dialect.entry(&row.dialect).or_default().push((&row.flow, cells(row)));
    }
    let is_shown = |column: &usize| *column != REFUSED || rows.iter().any(|row| row.refused > 0);
    let columns: Vec<_> = (0..HEADS.len()).filter(is_shown).collect();
    let all = || by_dialect.values().flatten();
    let name_width = all().map(|(name, _)| name.chars().count() + 2).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = all().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.chars().count());
        cells.chain([HEADS[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = columns.iter().map(|column| width(*column)).collect();
    for (dialect, rows) in &by_dialect {
        write_text(out, dialect, Palette::PLAIN.escape);
        let rest = name_width.saturating_sub(dialect.chars().count());
        format(out, format_args!("{:rest$}", ""));
        for (column, width) in columns.iter().zip(&widths) {
            format(out, format_args!("  {:>width$}", HEADS[*column]));
        }
        out.push(b'\n');
        for (name, cells) in rows {
            push(out, "  ");
            write_text(out, name, Palette::PLAIN.escape);
            let rest = name_width.max(dialect.chars().count()).saturating_sub(name.chars().count() + 2);
            format(out, format_args!("{:rest$}", ""));
            for (column, width) in columns.iter().zip(&widths) {
                format(out, format_args!("  {:>width$}", cells[*column]));
            }
            out.push(b'\n');
        }
    }
}

/// What the times of the table are, and how long it took besides until the last recipient acknowledged.
fn write_acknowledgments(out: &mut Vec<u8>, rows: &[FlowTotals]) {
    let received: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let [_, last] = &row.latency;
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| last.quantile(share).map(latency));
            Some(format!("{} {} / {} / {}", row.flow, p50?, p99?, max?))
        })
        .collect();
    if !received.is_empty() {
        push(
            out,
            "Times are until the server had sent it to the last; acknowledged, which receivers may delay: ",
        );
        write_text(out, &received.join(", "), Palette::PLAIN.escape);
        out.push(b'\n');
    }
}

fn cells(row: &FlowTotals) -> Vec<String> {
    let [_, last] = &row.sent;
    let quantile = |share| last.quantile(share).map_or_else(|| "-".to_owned(), latency);
    let counts = [row.cases()]
        .into_iter()
        .chain(Outcome::ALL.map(|outcome| row.of(outcome)))
        .chain([row.refused])
        .map(|count| count.to_string());
    counts.chain([0.5, 0.99, 1.0].map(quantile)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use observer_core::flow::verdict::Fault;
    use observer_core::time::Time;

    use super::*;
    use crate::output::cases::{Made, party};

    fn shown(made: &Made) -> String {
        let mut out = Vec::new();
        let mut text = Text::new(TimeStyle::Utc, Palette::PLAIN);
        text.write(&mut out, &made.case(), &Rules::built_in());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_held_is_not_printed() {
        assert_eq!(shown(&Made::default()), "");
    }

    #[test]
    fn a_block_names_who_missed_what_and_tells_a_slow_client_from_a_slow_server() {
        let after = |microseconds: u64| Some(Time::from_file(Made::AT + microseconds * 1_000));
        let mut made = Made { outcome: Outcome::Violated, expected: 4, arrived: 2, ..Made::default() };
        made.latency.last_received = Some(Duration::from_micros(2_500_000));
        made.deviate(Fault::Lost, party(1, "猪猪"), None, None);
        made.deviate(Fault::Unacknowledged, party(3, "slow client"), after(1_200), None);
        made.deviate(Fault::Late, party(4, "x"), after(2_400_000), after(2_500_000));
        assert_eq!(
            shown(&made),
            "12:00:00.000000Z violated: say of chat\n    \
             mynick (#2 127.0.0.1:40002) → all \"hi, all !\"\n    \
             2 of 4 have it, the last after 2.50 s\n    \
             lost: 猪猪 (#1 127.0.0.1:40001): say was not sent\n    \
             unacknowledged: \"slow client\" (#3 127.0.0.1:40003): say did not arrive, sent after 1.2 ms, \
             not acknowledged\n    \
             late: x (#4 127.0.0.1:40004): say came late, sent after 2.40 s, acknowledged after 2.50 s\n"
        );
    }

    #[test]
    fn what_is_not_known_is_not_called_lost() {
        let mut made = Made { outcome: Outcome::Inconclusive, expected: 2, arrived: 1, ..Made::default() };
        made.causes = Cause::BytesMissing.into();
        made.deviate(Fault::Lost, party(1, "猪猪"), None, None);
        let shown = shown(&made);
        assert!(shown.contains("say was not seen") && !shown.contains("not sent"), "{shown}");
        assert!(shown.contains("not known, since bytes that could have decided it were not seen"), "{shown}");
    }

    #[test]
    fn nothing_of_a_peer_can_begin_a_line_or_control_the_terminal() {
        let mut made = Made { outcome: Outcome::Violated, expected: 2, arrived: 1, ..Made::default() };
        made.say("a\n12:00:00 violated: \x1b[2J\u{202e}");
        made.deviate(Fault::Altered, party(1, "x\ny"), None, None);
        made.deviations[0].seen = Some(observer_core::flow::verdict::Quote::of("\r\u{9b}31m"));
        let shown = shown(&made);
        assert_eq!(shown.lines().count(), 4, "{shown}");
        assert!(!shown.chars().any(|it| it != '\n' && it.is_control()), "{shown}");
        assert!(!shown.contains('\u{202e}'), "{shown}");
    }

    #[test]
    fn the_table_has_a_row_a_rule_in_columns_that_line_up() {
        let row = |flow: &str, outcomes, refused| FlowTotals {
            flow: flow.into(),
            dialect: "chat".into(),
            outcomes,
            refused,
            received: 0,
            sent: Default::default(),
            latency: Default::default(),
        };
        let mut timed = row("say-to-all", [10, 1, 0, 2], 0);
        timed.sent[1].record(Duration::from_millis(3));
        let mut out = Vec::new();
        write_table(&mut out, &[timed.clone(), row("login", [0; 4], 0)]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "chat          cases  held  late  violated  inconclusive     p50     p99     max\n  \
             say-to-all     13    10     1         0             2  3.0 ms  3.0 ms  3.0 ms\n  \
             login           0     0     0         0             0       -       -       -\n"
        );
        let mut out = Vec::new();
        write_table(&mut out, &[row("login", [0; 4], 3)]);
        assert!(String::from_utf8(out).unwrap().contains("refused"));
    }
}

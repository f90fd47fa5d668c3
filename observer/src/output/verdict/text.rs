//! Verdicts for people: a block for each that is not held, and two tables.
//!
//! Owns the layout, and how many of the same kind are printed. Must not know how anything is judged. Bounded: appends to
//! the caller's buffer what the core keeps of one case, or a line a rule; counts by rule and kinds of causes. Everything that a peer can influence goes through `escape`.

use std::collections::{BTreeMap, HashMap};

use observer_core::flow::Rules;
use observer_core::flow::latency::Histogram;
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

    /// Appends the tables, what they do not have, and a sentence.
    pub fn write_end(&self, out: &mut Vec<u8>, verification: &Verification) {
        let rows: Vec<_> = verification.rows.iter().map(|row| &row.totals).collect();
        write_outcomes(out, &rows);
        write_times(out, &rows);
        for (count, cause) in verification.causes.iter().zip(Cause::ALL) {
            if *count > 0 {
                format(out, format_args!("{count} inconclusive: {}\n", words::cause(cause)));
            }
        }
        if verification.has_cause(Cause::StartedTooLate) {
            push(out, "Whoever was connected before is known once they connect and log in anew.\n");
        }
        for silent in &verification.silent {
            write_text(out, &silent.to_string(), Palette::PLAIN.escape);
            out.push(b'\n');
        }
        if let Some(began_nothing) = verification.began_nothing.words() {
            format(out, format_args!("{began_nothing}\n"));
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

const OUTCOMES: [&str; 6] = ["cases", "held", "late", "violated", "inconclusive", "refused"];
/// Of these: which one is left out where it would be 0 everywhere.
const REFUSED: usize = 5;

/// Until the server had sent it to the last recipient, and until the last one had acknowledged it.
const TIMES: [&str; 6] = ["sent p50", "p99", "max", "acked p50", "p99", "max"];

/// How many cases of each rule came to what. With names of up to 22 characters it fits a terminal of 80 columns.
fn write_outcomes(out: &mut Vec<u8>, rows: &[&FlowTotals]) {
    let is_refused = rows.iter().any(|row| row.refused > 0);
    let heads = if is_refused { &OUTCOMES[..] } else { &OUTCOMES[..REFUSED] };
    let cells = |row: &FlowTotals| {
        let outcomes = Outcome::ALL.map(|outcome| row.of(outcome));
        let counts = [row.cases()].into_iter().chain(outcomes).chain([row.refused]);
        counts.map(|count| count.to_string()).collect()
    };
    write_table(out, heads, rows.iter().map(|row| (*row, cells(row))));
}

/// How long the flows took, and those alone that took any time.
fn write_times(out: &mut Vec<u8>, rows: &[&FlowTotals]) {
    let cells = |row: &FlowTotals| {
        let ([_, sent], [_, received]) = (&row.sent, &row.latency);
        let quantiles = |histogram: &Histogram| [0.5, 0.99, 1.0].map(|share| histogram.quantile(share));
        let times = [quantiles(sent), quantiles(received)].concat();
        let is_any = times.iter().any(Option::is_some);
        let narrow = |time| latency(time).replace(' ', "");
        is_any.then(|| times.into_iter().map(|time| time.map_or_else(|| "-".to_owned(), narrow)).collect())
    };
    let rows: Vec<_> = rows.iter().filter_map(|row| Some((*row, cells(row)?))).collect();
    if !rows.is_empty() {
        write_table(out, &TIMES, rows.into_iter());
        push(out, "sent: until it was sent to the last; acked: by the last, who may delay that\n");
    }
}

/// A rule a row, below the name of its dialect; cells to the right, as many as there are heads.
fn write_table<'a>(
    out: &mut Vec<u8>,
    heads: &[&str],
    rows: impl Iterator<Item = (&'a FlowTotals, Vec<String>)>,
) {
    let mut by_dialect: BTreeMap<&str, Vec<(&str, Vec<String>)>> = BTreeMap::new();
    for (row, cells) in rows {
        by_dialect.entry(&row.dialect).or_default().push((&row.flow, cells));
    }
    let all = || by_dialect.values().flatten();
    let names = all().map(|(name, _)| name.chars().count() + INDENT);
    let dialects = by_dialect.keys().map(|dialect| dialect.chars().count());
    let name_width = names.chain(dialects).max().unwrap_or(0);
    let width = |(column, head): (usize, &&str)| {
        let cells = all().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.chars().count());
        cells.chain([head.len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = heads.iter().enumerate().map(width).collect();
    let write_row = |out: &mut Vec<u8>, indent: usize, name: &str, cells: &mut dyn Iterator<Item = &str>| {
        format(out, format_args!("{:indent$}", ""));
        write_text(out, name, Palette::PLAIN.escape);
        let rest = name_width.saturating_sub(name.chars().count() + indent);
        format(out, format_args!("{:rest$}", ""));
        for (cell, width) in cells.zip(&widths) {
            format(out, format_args!("  {cell:>width$}"));
        }
        out.push(b'\n');
    };
    for (dialect, rows) in &by_dialect {
        write_row(out, 0, dialect, &mut heads.iter().copied());
        for (name, cells) in rows {
            write_row(out, INDENT, name, &mut cells.iter().map(String::as_str));
        }
    }
}

/// Of rules below their dialect.
const INDENT: usize = 2;

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

    fn row(flow: &str, outcomes: [u64; 4], refused: u64) -> FlowTotals {
        FlowTotals {
            flow: flow.into(),
            dialect: "workerman-chat-2014-08".into(),
            outcomes,
            refused,
            received: 0,
            sent: Default::default(),
            latency: Default::default(),
        }
    }

    fn tables(rows: &[&FlowTotals]) -> String {
        let mut out = Vec::new();
        write_outcomes(&mut out, rows);
        write_times(&mut out, rows);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_tables_have_a_row_a_rule_in_columns_that_line_up_and_times_only_of_what_took_any() {
        let mut timed = row("say-to-all", [10, 1, 0, 2], 0);
        timed.sent[1].record(Duration::from_millis(3));
        assert_eq!(
            tables(&[&timed, &row("login", [0; 4], 0)]),
            "workerman-chat-2014-08  cases  held  late  violated  inconclusive\n  \
             say-to-all               13    10     1         0             2\n  \
             login                     0     0     0         0             0\n\
             workerman-chat-2014-08  sent p50    p99    max  acked p50  p99  max\n  \
             say-to-all               3.0ms  3.0ms  3.0ms          -    -    -\n\
             sent: until it was sent to the last; acked: by the last, who may delay that\n"
        );
        assert!(!tables(&[&row("login", [0; 4], 0)]).contains("p50"));
        assert!(tables(&[&row("login", [0; 4], 3)]).contains("refused"));
    }

    #[test]
    fn the_tables_fit_a_terminal_of_eighty_columns() {
        let mut timed = row("say-to-all", [12_345, 123, 0, 2], 7);
        for milliseconds in [1, 998, 62_000] {
            timed.sent[1].record(Duration::from_millis(milliseconds));
            timed.latency[1].record(Duration::from_millis(milliseconds));
        }
        let tables = tables(&[&timed, &row("unsolicited-say", [12_345, 0, 0, 0], 0)]);
        assert!(tables.lines().all(|line| line.chars().count() <= 80), "{tables}");
    }
}

//! What a run of `verify` comes to: the numbers of its end, the exit status, and the sentence that says why.
//!
//! Owns what makes a run inconclusive, and the words of it. Must not know formats. Bounded: a row a rule with verdicts.
//!
//! What begins a flow is a *case*: something that was said or done. What the other rules look at (each message that comes
//! in order, each end of a connection) is a *check*, of which there are many more; the two are counted apart.

use std::fmt;

use observer_core::flow::Rules;
use observer_core::flow::verdict::{Cause, FlowTotals, Outcome};
use observer_core::time::Time;

use super::words::Rule;
use crate::cli::{EXIT_HELD, EXIT_INCONCLUSIVE, EXIT_VIOLATED};
use crate::losses::Lost;
use crate::output::summary::count;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// When it ended.
    pub time: Time,
    /// Of every rule that has verdicts, of the dialects that were seen.
    pub rows: Vec<Row>,
    /// Of rule files: what saw nothing.
    pub silent: Vec<Silent>,
    /// Clients' messages that began nothing.
    pub began_nothing: BeganNothing,
    /// Inconclusive cases by cause, in the order of [`Cause::ALL`]. One may have several.
    pub causes: [u64; Cause::ALL.len()],
    /// What was given up at a bound.
    pub shed: u64,
    /// Whether what was sent counts as received.
    pub sent_is_trusted: bool,
    /// Whether the input is damaged.
    pub is_damaged: bool,
    /// What the capture lost.
    pub lost: Lost,
    /// Whether there were packets that are decoded only where a port is named.
    pub lacks_upgrades: bool,
}

/// What a rule came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// In numbers.
    pub totals: FlowTotals,
    /// What kind of rule it is, in JSON.
    pub rule: &'static str,
}

/// A dialect of a rule file of which rules saw nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// What it is called.
    pub dialect: Box<str>,
    /// Whether nothing was seen that any of its rules judges.
    pub is_all: bool,
    /// Which rules.
    pub rules: Vec<Box<str>>,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dialect, is_all, rules } = self;
        if *is_all {
            return write!(f, "Nothing was seen that the rules of {dialect} judge");
        }
        let rules_of = count(rules.len() as u64, "rule", "rules");
        write!(f, "{rules_of} of {dialect} saw nothing: {}", rules.join(", "))
    }
}

impl BeganNothing {
    /// In a line, where there are any.
    pub fn words(self) -> Option<String> {
        let Self { read, unread } = self;
        let all = count(read.saturating_add(unread), "message", "messages");
        let of = match (read, unread) {
            (0, 0) => return None,
            (_, 0) => "no flow asks for anything then".to_owned(),
            (0, _) => "no rule reads them".to_owned(),
            (_, unread) => format!("no rule reads {unread} of them"),
        };
        Some(format!("{all} of clients began nothing: {of}"))
    }
}

/// Clients' messages of which no case tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeganNothing {
    /// Of those that a rule reads.
    pub read: u64,
    /// Of all others.
    pub unread: u64,
}

/// What is to be concluded of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// All that was judged held, and everything was.
    Held,
    /// Something was violated, or came late.
    Violated,
    /// Nothing was violated, but not everything could be judged.
    Inconclusive,
    /// There was nothing to judge.
    NothingSeen,
}

impl Conclusion {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
            Self::NothingSeen => "nothing_seen",
        }
    }

    /// The exit status.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Held => EXIT_HELD,
            Self::Violated => EXIT_VIOLATED,
            Self::Inconclusive | Self::NothingSeen => EXIT_INCONCLUSIVE,
        }
    }
}

impl Row {
    /// Of a rule of these.
    pub fn new(totals: &FlowTotals, rules: &Rules) -> Self {
        let rule = Rule::find(rules, &totals.dialect, &totals.flow).map_or("", Rule::kind);
        Self { totals: totals.clone(), rule }
    }

    /// Whether it is a flow, whose cases are what was said and done.
    pub fn is_flow(&self) -> bool {
        self.rule == "flow"
    }
}

impl Silent {
    /// Those of the dialects that did not come with observer.
    pub fn find(rules: &Rules, rows: &[Row]) -> Vec<Self> {
        let silent = rules.given().iter().filter(|dialect| !dialect.flows.is_empty()).map(|dialect| {
            let saw = |name: &str| {
                rows.iter().map(|row| &row.totals).any(|row| {
                    row.dialect == dialect.name && *row.flow == *name && row.cases() + row.refused > 0
                })
            };
            let silent: Vec<Box<str>> =
                dialect.flows.names().filter(|name| !saw(name)).map(Into::into).collect();
            let is_all = silent.len() == dialect.flows.names().count();
            Self { dialect: dialect.name.clone(), is_all, rules: silent }
        });
        silent.filter(|silent| !silent.rules.is_empty()).collect()
    }
}

/// Cases or checks, by outcome.
type Outcomes = [u64; Outcome::ALL.len()];

impl Verification {
    /// How many cases and checks came to this.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.rows.iter().map(|row| row.totals.of(outcome)).sum()
    }

    /// Cases that flows began, by outcome, in the order of [`Outcome::ALL`].
    pub fn of_flows(&self) -> Outcomes {
        self.outcomes_of(Row::is_flow)
    }

    /// What all other rules looked at, likewise.
    pub fn of_checks(&self) -> Outcomes {
        self.outcomes_of(|row| !row.is_flow())
    }

    fn outcomes_of(&self, is_meant: fn(&Row) -> bool) -> Outcomes {
        let of =
            |outcome| self.rows.iter().filter(|row| is_meant(row)).map(|row| row.totals.of(outcome)).sum();
        Outcome::ALL.map(of)
    }

    /// Whether any case is inconclusive for this cause.
    pub fn has_cause(&self, cause: Cause) -> bool {
        self.causes.iter().zip(Cause::ALL).any(|(count, of)| *count > 0 && of == cause)
    }

    /// How many cases and checks were judged.
    pub fn cases(&self) -> u64 {
        self.rows.iter().map(|row| row.totals.cases()).sum()
    }

    /// How many were refused by the server.
    pub fn refused(&self) -> u64 {
        self.rows.iter().map(|row| row.totals.refused).sum()
    }

    /// What it all comes to.
    pub fn conclusion(&self) -> Conclusion {
        if self.of(Outcome::Violated) > 0 || self.of(Outcome::Late) > 0 {
            Conclusion::Violated
        } else if self.cases() == 0 {
            Conclusion::NothingSeen
        } else if self.of(Outcome::Inconclusive) > 0 || !self.shortfalls().is_empty() {
            Conclusion::Inconclusive
        } else {
            Conclusion::Held
        }
    }

    /// What to try where nothing was judged, though all was read.
    pub fn advice(&self) -> &'static [&'static str] {
        let is_wanted = self.conclusion() == Conclusion::NothingSeen && !self.is_damaged;
        if is_wanted { &ADVICE } else { &[] }
    }

    /// Why something may have happened that no case tells of.
    pub fn shortfalls(&self) -> Vec<String> {
        let Lost { packets, gaps, cut } = self.lost;
        let lost = match (packets, gaps) {
            (0, 0) => None,
            (0, gaps) => Some(format!("left {} in streams", count(gaps, "hole", "holes"))),
            (packets, _) => Some(format!("lost {}", count(packets, "packet", "packets"))),
        };
        let lost = lost.map(|what| {
            format!(
                "the capture {what}, where more may have been said: a larger buffer (--ring, or tcpdump's -B) \
                 loses less"
            )
        });
        let cut = (cut > 0).then(|| {
            let holes = count(cut, "hole", "holes");
            format!(
                "what was cut off left {holes} in streams, where more may have been said: a larger snap length \
                 (--snaplen, or tcpdump's -s) cuts less"
            )
        });
        let shed = (self.shed > 0)
            .then(|| format!("{} given up at a limit of observer", count(self.shed, "was", "were")));
        let damage = self.is_damaged.then(|| "not all of the input could be read".to_owned());
        [lost, cut, shed, damage].into_iter().flatten().collect()
    }

    /// The same as the conclusion in a sentence, with all that speaks against it.
    pub fn sentence(&self) -> String {
        let parts = [Part::CASES.of(self.of_flows()), Part::CHECKS.of(self.of_checks())];
        let shortfalls = self.shortfalls();
        let said = |first: &str, rest: &[String]| format!("{first}{}.", with_semicolons(rest));
        match self.conclusion() {
            Conclusion::Held => match parts.map(|part| part.all_held()) {
                [Some(cases), Some(checks)] => format!("{} held, and {checks}.", capitalised(&cases)),
                [Some(cases), None] => format!("{} held.", capitalised(&cases)),
                [None, checks] => format!("No flow began; {} held.", checks.unwrap_or_default()),
            },
            Conclusion::Violated => {
                let told: Vec<_> = parts.iter().filter_map(Part::told).collect();
                said(&capitalised(&told.join("; ")), &shortfalls)
            }
            Conclusion::Inconclusive if self.of(Outcome::Inconclusive) > 0 => {
                // What cannot be told first.
                let (open, rest): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.is_open());
                let told: Vec<_> = [open, rest].concat().into_iter().filter_map(Part::known).collect();
                let first = format!("Nothing was violated, but {}", told.join("; "));
                said(&first, &self.with_advice(shortfalls))
            }
            Conclusion::Inconclusive => {
                let counted: Vec<_> = parts.iter().filter_map(Part::counted).collect();
                format!("Nothing was violated in {}, but {}.", counted.join(" and "), shortfalls.join("; "))
            }
            Conclusion::NothingSeen => {
                let refused = match self.refused() {
                    0 => String::new(),
                    refused => format!(" ({refused} refused by the server are not judged)"),
                };
                let first = format!("Nothing was judged: nothing was seen that a rule knows{refused}");
                said(&first, &self.with_advice(shortfalls))
            }
        }
    }

    /// Where connections from before the capture are what is not known, how more of them is known.
    fn with_advice(&self, shortfalls: Vec<String>) -> Vec<String> {
        let started_too_late = self.cases() == 0 || self.has_cause(Cause::StartedTooLate);
        let advice = (self.lacks_upgrades && started_too_late).then(|| LACKS_UPGRADES.to_owned());
        advice.into_iter().chain(shortfalls).collect()
    }
}

const LACKS_UPGRADES: &str =
    "connections from before the capture are decoded only where --port names their port";

const ADVICE: [&str; 3] = [
    "--rules FILE teaches another protocol (docs/flows.md); the built-in rules know workerman-chat's",
    "`observer watch` or `observer read FILE` shows what is there, and --port names other ports",
    "live, messages count that come after observer started: let somebody log in and say something meanwhile",
];

fn with_semicolons(rest: &[String]) -> String {
    rest.iter().flat_map(|part| ["; ", part]).collect()
}

fn capitalised(sentence: &str) -> String {
    let mut rest = sentence.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// Cases or checks, and what they are called.
#[derive(Clone, Copy)]
struct Part {
    one: &'static str,
    many: &'static str,
    outcomes: Outcomes,
}

impl Part {
    const CASES: Self = Self { one: "case", many: "cases", outcomes: [0; Outcome::ALL.len()] };
    const CHECKS: Self = Self { one: "check", many: "checks", outcomes: [0; Outcome::ALL.len()] };

    const fn of(self, outcomes: Outcomes) -> Self {
        Self { outcomes, ..self }
    }

    fn all(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    const fn is_open(&self) -> bool {
        let [.., inconclusive] = self.outcomes;
        inconclusive > 0
    }

    fn counted(&self) -> Option<String> {
        let all = self.all();
        (all > 0)
            .then(|| if all == 1 { format!("the only {}", self.one) } else { format!("{all} {}", self.many) })
    }

    fn held(&self) -> Option<String> {
        self.all_held().map(|all| format!("{all} held"))
    }

    /// All of it, where there is any, and all of it held.
    fn all_held(&self) -> Option<String> {
        let [held, ..] = self.outcomes;
        match self.all() {
            0 => None,
            1 if held == 1 => Some(format!("the only {}", self.one)),
            all if held == all => Some(format!("all {all} {}", self.many)),
            _ => None,
        }
    }

    /// By outcome, where there is any.
    fn told(&self) -> Option<String> {
        let [held, late, violated, inconclusive] = self.outcomes;
        let by_outcome = |all| {
            format!("of {all}, {violated} violated, {late} late, {inconclusive} inconclusive, {held} held")
        };
        self.held().or_else(|| self.counted().map(by_outcome))
    }

    /// How much of it is known, where nothing is violated and there is any.
    fn known(&self) -> Option<String> {
        let [held, .., inconclusive] = self.outcomes;
        let known = |all| format!("of {all} {inconclusive} cannot be told, {held} held");
        self.held().or_else(|| self.counted().map(known))
    }
}

#[cfg(test)]
mod tests {
    use observer_core::flow::parse;

    use super::*;

    fn totals(dialect: &str, flow: &str, outcomes: Outcomes) -> FlowTotals {
        FlowTotals {
            flow: flow.into(),
            dialect: dialect.into(),
            outcomes,
            refused: 0,
            received: 0,
            sent: Default::default(),
            latency: Default::default(),
        }
    }

    fn verification(cases: Outcomes, checks: Outcomes) -> Verification {
        let rows = [("flow", cases), ("order", checks)];
        let row = |(rule, outcomes)| Row { totals: totals("chat", rule, outcomes), rule };
        Verification { rows: rows.map(row).into(), ..Verification::default() }
    }

    const NONE: Outcomes = [0; 4];
    const LOST: Lost = Lost { packets: 12, gaps: 1, cut: 0 };

    #[test]
    fn the_exit_status_says_what_is_to_be_concluded() {
        for (outcomes, is_damaged, exit_code) in [
            ([3, 0, 0, 0], false, 0),
            ([3, 1, 0, 0], false, 1),
            ([3, 0, 1, 1], true, 1),
            ([3, 0, 0, 1], false, 3),
            ([3, 0, 0, 0], true, 3),
            ([0, 0, 0, 0], false, 3),
        ] {
            let verification = Verification { is_damaged, ..verification(outcomes, NONE) };
            assert_eq!(verification.conclusion().exit_code(), exit_code, "{outcomes:?} {is_damaged}");
        }
        let shed = Verification { shed: 1, ..verification([3, 0, 0, 0], NONE) };
        assert_eq!(shed.conclusion().exit_code(), EXIT_INCONCLUSIVE);
    }

    #[test]
    fn where_the_capture_lost_anything_not_all_held_but_what_is_violated_is() {
        for lost in [LOST, Lost { gaps: 1, ..Lost::default() }, Lost { cut: 1, ..Lost::default() }] {
            let exit_code =
                |outcomes| Verification { lost, ..verification(outcomes, NONE) }.conclusion().exit_code();
            assert_eq!(exit_code([3, 0, 0, 0]), EXIT_INCONCLUSIVE);
            assert_eq!(exit_code([3, 0, 1, 0]), EXIT_VIOLATED);
            assert_eq!(exit_code(NONE), EXIT_INCONCLUSIVE);
        }
    }

    #[test]
    fn the_sentence_says_the_same_and_counts_cases_apart_from_checks() {
        for (cases, checks, sentence) in [
            ([3, 0, 0, 0], NONE, "All 3 cases held."),
            ([1, 0, 0, 0], NONE, "The only case held."),
            ([3, 0, 0, 0], [7, 0, 0, 0], "All 3 cases held, and all 7 checks."),
            (NONE, [7, 0, 0, 0], "No flow began; all 7 checks held."),
            ([3, 1, 2, 0], NONE, "Of 6 cases, 2 violated, 1 late, 0 inconclusive, 3 held."),
            (
                [3, 1, 2, 0],
                [7, 0, 0, 0],
                "Of 6 cases, 2 violated, 1 late, 0 inconclusive, 3 held; all 7 checks held.",
            ),
            (
                [3, 0, 0, 0],
                [6, 0, 1, 0],
                "All 3 cases held; of 7 checks, 1 violated, 0 late, 0 inconclusive, 6 held.",
            ),
            ([3, 0, 0, 1], NONE, "Nothing was violated, but of 4 cases 1 cannot be told, 3 held."),
            (
                [3, 0, 0, 0],
                [6, 0, 0, 1],
                "Nothing was violated, but of 7 checks 1 cannot be told, 6 held; all 3 cases held.",
            ),
            (NONE, NONE, "Nothing was judged: nothing was seen that a rule knows."),
        ] {
            assert_eq!(verification(cases, checks).sentence(), sentence);
        }
    }

    #[test]
    fn whatever_was_not_seen_is_in_the_sentence_beside_any_conclusion() {
        let unseen = |cases, checks| {
            let verification = verification(cases, checks);
            Verification { lost: LOST, shed: 2, is_damaged: true, ..verification }.sentence()
        };
        let said = "the capture lost 12 packets, where more may have been said: a larger buffer (--ring, or tcpdump's -B) \
            loses less; 2 were given up at a limit of observer; not all of the input could be read.";
        for (cases, checks, begins) in [
            ([3, 0, 0, 0], [7, 0, 0, 0], "Nothing was violated in 3 cases and 7 checks, but "),
            ([3, 0, 0, 1], NONE, "Nothing was violated, but of 4 cases 1 cannot be told, 3 held; "),
            ([3, 0, 1, 0], NONE, "Of 4 cases, 1 violated, 0 late, 0 inconclusive, 3 held; "),
            (NONE, NONE, "Nothing was judged: nothing was seen that a rule knows; "),
        ] {
            assert_eq!(unseen(cases, checks), format!("{begins}{said}"));
        }
        let lost = Lost { packets: 0, gaps: 1, cut: 2 };
        let holes = Verification { lost, ..verification([3, 0, 0, 0], NONE) }.sentence();
        assert!(holes.contains("the capture left 1 hole in streams, where more may"), "{holes}");
        assert!(holes.contains("; what was cut off left 2 holes in streams, where more may"), "{holes}");
    }

    #[test]
    fn where_something_was_not_judged_for_want_of_a_port_the_sentence_says_so() {
        let verification = Verification { lacks_upgrades: true, ..verification(NONE, NONE) };
        assert!(verification.sentence().ends_with("decoded only where --port names their port."));
        let judged = Verification { lacks_upgrades: true, ..self::verification([1, 0, 0, 0], NONE) };
        assert_eq!(judged.sentence(), "The only case held.");
        let mut unknown = Verification { lacks_upgrades: true, ..self::verification([1, 0, 0, 1], NONE) };
        assert!(!unknown.sentence().contains("--port"));
        unknown.causes[Cause::ALL.iter().position(|cause| *cause == Cause::StartedTooLate).unwrap()] = 1;
        assert!(unknown.sentence().ends_with("decoded only where --port names their port."));
    }

    #[test]
    fn rules_of_a_file_that_saw_nothing_are_named_and_built_in_ones_are_not() {
        let dialect = |name: &str| {
            let flow = |flow: &str| {
                format!(
                    "[[flow]]\nname = '{flow}'\nwhen = {{ type = 'a' }}\n[[flow.expect]]\ntype = 'a'\nto = 'sender'\n"
                )
            };
            let message = "[[message]]\ntype = 'a'\nwhen = { '/a' = 1 }\n";
            parse(&format!("schema = 1\nname = '{name}'\n{message}{}{}", flow("seen"), flow("unseen")))
                .unwrap()
        };
        let rules = Rules::new(vec![dialect("one"), dialect("two")]);
        let row = |flow, outcomes| Row::new(&totals("one", flow, outcomes), &rules);
        let built_in = Row::new(&totals("workerman-chat-2014-08", "private", NONE), &rules);
        let rows = [row("seen", [1, 0, 0, 0]), row("unseen", NONE), built_in];
        assert!(rows.iter().all(Row::is_flow));
        let silent = Silent::find(&rules, &rows);
        let named: Vec<_> = silent.iter().map(|it| (&*it.dialect, it.is_all, it.rules.concat())).collect();
        assert_eq!(named, [("one", false, "unseen".to_owned()), ("two", true, "seenunseen".to_owned())]);
    }
}

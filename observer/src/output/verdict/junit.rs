//! Verdicts as JUnit's XML, for continuous integration: a suite a dialect, a case a rule.
//!
//! Owns what becomes a failure and what is skipped. Must not know how anything is judged. Bounded: of a rule the texts of
//! the first [`FAILURES_MAX`] failures are kept; all of them are counted.
//!
//! quick-junit writes it, which nextest uses. It would leave out what XML cannot hold; here that is escaped before.

use std::collections::BTreeMap;

use observer_core::flow::Rules;
use observer_core::flow::verdict::{Case, Cause, FlowTotals, Outcome};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::conclusion::{Row, Silent};
use super::text::{write_details, write_title};
use super::{Conclusion, Verification, words};
use crate::output::clock::Rfc3339;
use crate::output::palette::Palette;

/// Violations of one rule whose texts are kept.
pub const FAILURES_MAX: usize = 100;

/// Keeps what is to be written at the end.
#[derive(Debug, Default)]
pub struct Junit {
    /// By dialect and rule.
    failures: BTreeMap<(String, String), Vec<String>>,
}

impl Junit {
    /// Takes a verdict.
    pub fn handle(&mut self, case: &Case<'_>, rules: &Rules) {
        if !matches!(case.outcome, Outcome::Violated | Outcome::Late) {
            return;
        }
        let texts = self.failures.entry((case.dialect.to_owned(), case.flow.to_owned())).or_default();
        if texts.len() < FAILURES_MAX {
            let mut text = format!("{} ", Rfc3339(case.trigger.time.wall)).into_bytes();
            write_title(&mut text, case);
            text.push(b'\n');
            write_details(&mut text, case, rules, Palette::PLAIN);
            texts.push(for_xml(&String::from_utf8_lossy(&text)));
        }
    }

    /// Appends all of it.
    pub fn write_end(&self, out: &mut Vec<u8>, verification: &Verification) {
        let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
        for Row { totals, .. } in &verification.rows {
            suite(&mut suites, &totals.dialect).add_test_case(self.test_case(totals));
        }
        // Those of which no rule saw anything have no rows.
        for Silent { dialect, rules, .. } in verification.silent.iter().filter(|silent| silent.is_all) {
            if !suites.contains_key(&**dialect) {
                let suite = suite(&mut suites, dialect);
                suite.add_test_cases(rules.iter().map(|rule| named(rule, dialect, saw_nothing())));
            }
        }
        let mut report = Report::new("observer verify");
        report.add_test_suites(suites.into_values());
        report.add_test_suite(input(verification));
        // A vector takes everything.
        let _ = report.serialize(&mut *out);
        if out.last().is_some_and(|last| *last != b'\n') {
            out.push(b'\n');
        }
    }

    fn test_case(&self, row: &FlowTotals) -> TestCase {
        let [late, violated, inconclusive] =
            [Outcome::Late, Outcome::Violated, Outcome::Inconclusive].map(|outcome| row.of(outcome));
        let cases = row.cases();
        let status = if violated + late > 0 {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(if violated > 0 { Outcome::Violated.name() } else { Outcome::Late.name() });
            status.set_message(format!(
                "of {cases}, {violated} violated, {late} late, {inconclusive} inconclusive"
            ));
            let key = (row.dialect.to_string(), row.flow.to_string());
            let texts = self.failures.get(&key).map(|texts| texts.concat()).unwrap_or_default();
            let left_out = (violated + late).saturating_sub(FAILURES_MAX as u64);
            let left_out = if left_out > 0 { format!("and {left_out} more\n") } else { String::new() };
            status.set_description(texts + &left_out);
            status
        } else if inconclusive > 0 || cases == 0 {
            if cases == 0 {
                saw_nothing()
            } else {
                let mut status = TestCaseStatus::skipped();
                status.set_message(format!("of {cases}, {inconclusive} cannot be told"));
                status
            }
        } else {
            TestCaseStatus::success()
        };
        let mut test_case = named(&row.flow, &row.dialect, status);
        test_case.set_assertions(usize::try_from(cases).unwrap_or(usize::MAX));
        test_case
    }
}

fn suite<'a, 'b>(suites: &'a mut BTreeMap<&'b str, TestSuite>, dialect: &'b str) -> &'a mut TestSuite {
    suites.entry(dialect).or_insert_with(|| TestSuite::new(for_xml(dialect)))
}

fn named(rule: &str, dialect: &str, status: TestCaseStatus) -> TestCase {
    let mut test_case = TestCase::new(for_xml(rule), status);
    test_case.set_classname(for_xml(dialect));
    test_case
}

fn saw_nothing() -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message("nothing was seen that it judges");
    status
}

/// Whether there was anything to judge, and all of it.
fn input(verification: &Verification) -> TestSuite {
    let why: Vec<_> = verification
        .causes
        .iter()
        .zip(Cause::ALL)
        .filter(|(count, _)| **count > 0)
        .map(|(count, cause)| format!("{count} inconclusive: {}", words::cause(cause)))
        .collect();
    let is_wrong = verification.is_damaged || verification.conclusion() == Conclusion::NothingSeen;
    let mut status = if is_wrong {
        TestCaseStatus::non_success(NonSuccessKind::Error)
    } else if !why.is_empty() || !verification.shortfalls().is_empty() {
        TestCaseStatus::skipped()
    } else {
        TestCaseStatus::success()
    };
    if !matches!(status, TestCaseStatus::Success { .. }) {
        status.set_message(verification.sentence());
        let advice = verification.advice().iter().map(|line| (*line).to_owned()).collect();
        status.set_description([why, advice].concat().join("\n"));
    }
    let mut suite = TestSuite::new("observer");
    suite.add_test_case(TestCase::new("all was seen", status));
    suite
}

/// Escapes what is left of the characters that XML cannot hold (XML 1.0 §2.2): no control, but no character either.
fn for_xml(text: &str) -> String {
    text.replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::Lost;
    use crate::output::cases::{Made, party};
    use observer_core::flow::verdict::Fault;

    fn row(flow: &str, outcomes: [u64; 4]) -> Row {
        let totals = FlowTotals {
            flow: flow.into(),
            dialect: "chat".into(),
            outcomes,
            refused: 0,
            received: 0,
            sent: Default::default(),
            latency: Default::default(),
        };
        Row { totals, rule: "flow" }
    }

    fn written(junit: &Junit, rows: Vec<Row>) -> String {
        ended(junit, &Verification { rows, ..Verification::default() })
    }

    fn ended(junit: &Junit, verification: &Verification) -> String {
        let mut out = Vec::new();
        junit.write_end(&mut out, verification);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_rule_is_a_case_that_fails_is_skipped_or_succeeds() {
        let mut junit = Junit::default();
        let mut made = Made { outcome: Outcome::Violated, ..Made::default() };
        made.deviate(Fault::Lost, party(1, "猪猪"), None, None);
        junit.handle(&made.case(), &Rules::built_in());
        let rows = vec![
            row("say", [1, 0, 1, 1]),
            row("login", [1, 0, 0, 2]),
            row("logout", [2, 0, 0, 0]),
            row("private", [0; 4]),
        ];
        let xml = written(&junit, rows);
        assert_eq!(xml.matches("<testcase").count(), 5, "{xml}");
        assert!(xml.contains(r#"<testsuite name="chat" tests="4""#), "{xml}");
        assert!(
            xml.contains(r#"<failure message="of 3, 1 violated, 0 late, 1 inconclusive" type="violated">"#),
            "{xml}"
        );
        assert!(xml.contains("猪猪 (#1 127.0.0.1:40001): say was not sent"), "{xml}");
        assert!(xml.contains(r#"<skipped message="of 3, 2 cannot be told"/>"#), "{xml}");
        assert!(xml.contains(r#"<skipped message="nothing was seen that it judges"/>"#), "{xml}");
    }

    #[test]
    fn what_xml_cannot_hold_is_escaped_and_not_left_out() {
        let mut junit = Junit::default();
        let mut made = Made { outcome: Outcome::Violated, ..Made::default() };
        made.say("\0\x1b\u{fffe}\u{ffff}]]></failure>");
        junit.handle(&made.case(), &Rules::built_in());
        let xml = written(&junit, vec![row("say", [0, 0, 1, 0])]);
        assert!(xml.contains("\\x00\\x1b\\u{fffe}\\u{ffff}]]&gt;&lt;/failure&gt;"), "{xml}");
    }

    #[test]
    fn the_first_failures_are_told_and_the_others_counted() {
        let mut junit = Junit::default();
        let made = Made { outcome: Outcome::Late, ..Made::default() };
        for _ in 0..150 {
            junit.handle(&made.case(), &Rules::built_in());
        }
        let xml = written(&junit, vec![row("say", [0, 150, 0, 0])]);
        assert_eq!(xml.matches(" late: say of chat").count(), FAILURES_MAX);
        assert!(xml.contains("and 50 more"), "{xml}");
    }

    #[test]
    fn what_was_not_seen_keeps_the_input_from_success_and_is_named() {
        let held = || vec![row("say", [2, 0, 0, 0])];
        assert!(!written(&Junit::default(), held()).contains("<skipped"));
        for (unseen, said) in [
            (
                Verification { lost: Lost { packets: 3, ..Lost::default() }, ..Verification::default() },
                "the capture lost 3 packets",
            ),
            (Verification { shed: 4, ..Verification::default() }, "4 were given up at a limit of observer"),
        ] {
            let xml = ended(&Junit::default(), &Verification { rows: held(), ..unseen });
            let message = format!("<skipped message=\"Nothing was violated in 2 cases, but {said}");
            assert!(xml.contains(&message), "{xml}");
        }
    }

    #[test]
    fn the_rules_of_a_file_of_whose_dialect_nothing_was_seen_are_skipped() {
        let silent = Silent { dialect: "rpc".into(), is_all: true, rules: vec!["call".into()] };
        let verification = Verification { silent: vec![silent], ..Verification::default() };
        let xml = ended(&Junit::default(), &verification);
        assert!(xml.contains(r#"<testcase name="call" classname="rpc">"#), "{xml}");
        assert!(xml.contains(r#"<skipped message="nothing was seen that it judges"/>"#), "{xml}");
    }

    #[test]
    fn nothing_to_judge_is_an_error() {
        let xml = written(&Junit::default(), Vec::new());
        assert!(xml.contains("<error message=\"Nothing was judged"), "{xml}");
    }
}

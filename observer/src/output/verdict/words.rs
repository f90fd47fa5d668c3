//! What rules ask for, what may be wrong, and why something is not known, in words.
//!
//! Owns these words. Must not know where they stand. Bounded by the closed lists of the core, and by what it lets in as
//! a rule.

use observer_core::flow::flows::{
    Among, Closing, Expectation, Flow, Never, Order, Part, Times, Unsolicited, Whom,
};
use observer_core::flow::verdict::{Case, Cause, Deviation, Fault, Outcome};
use observer_core::flow::{Dialect, Rules};

use crate::output::party::latency;

/// The rule that a case is one of.
#[derive(Clone, Copy, Debug)]
pub enum Rule<'a> {
    /// What has to follow from what.
    Flow(&'a Flow),
    /// What must not reach whoever is not logged in.
    Never(&'a Never),
    /// What only comes where a flow expects it.
    Unsolicited(&'a Unsolicited),
    /// What comes in order.
    Order(&'a Order),
    /// How connections end.
    Closing(&'a Closing),
}

impl<'a> Rule<'a> {
    /// The rule of this name in the dialect of this name.
    pub fn find(rules: &'a Rules, dialect: &str, name: &str) -> Option<Self> {
        let Dialect { flows, .. } = rules.dialects().iter().find(|it| &*it.name == dialect)?;
        let flow = flows.flows.iter().find(|it| &*it.name == name).map(Self::Flow);
        flow.or_else(|| flows.nevers.iter().find(|it| &*it.name == name).map(Self::Never))
            .or_else(|| flows.unsolicited.iter().find(|it| &*it.name == name).map(Self::Unsolicited))
            .or_else(|| flows.orders.iter().find(|it| &*it.name == name).map(Self::Order))
            .or_else(|| flows.closings.iter().find(|it| &*it.name == name).map(Self::Closing))
    }

    /// What kind of rule it is, in JSON: as rule files call it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Flow(_) => "flow",
            Self::Never(_) => "never",
            Self::Unsolicited(_) => "unsolicited",
            Self::Order(_) => "order",
            Self::Closing(_) => "close",
        }
    }

    /// What it asks for, one line each.
    pub fn words(self) -> Vec<String> {
        match self {
            Self::Flow(flow) => {
                let within = format!("{:?}", flow.within);
                let mut lines: Vec<_> = flow
                    .expect
                    .iter()
                    .map(|expectation| format!("within {within}: {}", expectation_words(expectation)))
                    .collect();
                if flow.nobody_else {
                    lines.push("nobody else gets it".to_owned());
                }
                lines
            }
            Self::Never(never) => {
                vec![format!("{} never reaches whoever is not logged in", kinds(&never.kinds))]
            }
            Self::Unsolicited(unsolicited) => {
                vec![format!("{} only comes where something explains it", kinds(&unsolicited.kinds))]
            }
            Self::Order(order) => vec![match order.among {
                Among::Sender => {
                    format!("{} of one sender comes in the order in which it was sent", kinds(&order.kinds))
                }
                Among::Room => {
                    format!("{} of a room comes in the same order to everybody", kinds(&order.kinds))
                }
            }],
            Self::Closing(closing) => {
                let codes = closing.codes.iter().map(|code| match code {
                    Some(code) => code.to_string(),
                    None => "no code".to_owned(),
                });
                let codes = codes.collect::<Vec<_>>().join(" or ");
                let with = if codes.is_empty() { String::new() } else { format!(" with {codes}") };
                vec![format!("connections end with a close frame{with}")]
            }
        }
    }
}

fn expectation_words(expectation: &Expectation) -> String {
    let Expectation { kinds: of, to, times, same } = expectation;
    let whom = match to {
        Whom::Sender => "the sender",
        Whom::Members => "every member of the room",
        Whom::Others => "every other member of the room",
        Whom::Recipient => "the recipient",
    };
    let times = match times {
        Times::Once => "once",
        Times::AtLeastOnce => "at least once",
        Times::AtMostOnce => "at most once",
    };
    let same: Vec<_> = same
        .iter()
        .map(|part| match part {
            Part::User => "user",
            Part::Name => "name",
            Part::Content => "content",
            Part::To => "recipient",
            Part::Room => "room",
            Part::Field(field) => field,
        })
        .collect();
    let same = if same.is_empty() { String::new() } else { format!(", with the same {}", same.join(", ")) };
    format!("{} to {whom}, {times}{same}", kinds(of))
}

fn kinds(kinds: &[Box<str>]) -> String {
    kinds.join(" or ")
}

/// An outcome, as a verdict begins.
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Held => "held",
        Outcome::Late => "late",
        Outcome::Violated => "violated",
        Outcome::Inconclusive => "inconclusive",
    }
}

/// What is wrong with one recipient, before their name.
pub const fn fault(outcome: Outcome, fault: Fault) -> &'static str {
    match (outcome, fault) {
        // What is not proved is not said as if it were.
        (Outcome::Inconclusive, Fault::Lost) => "not seen",
        (_, Fault::WrongClose) => "wrong close",
        (_, fault) => fault.name(),
    }
}

/// What is wrong with one recipient, behind their name; when things passed is told from the trigger on.
pub fn deviation(case: &Case<'_>, deviation: &Deviation) -> String {
    let Deviation { fault, kind, sent, received, .. } = deviation;
    let since = |time: &observer_core::time::Time| latency(time.since(case.trigger.time));
    let passed = match (sent, received) {
        (Some(sent), Some(received)) => {
            format!(", sent after {}, acknowledged after {}", since(sent), since(received))
        }
        (Some(sent), None) => format!(", sent after {}, not acknowledged", since(sent)),
        (None, Some(received)) => format!(", acknowledged after {}", since(received)),
        (None, None) => String::new(),
    };
    let is_known = case.outcome != Outcome::Inconclusive;
    match fault {
        Fault::Lost if is_known => format!("{kind} was not sent"),
        Fault::Lost => format!("{kind} was not seen"),
        Fault::Blocked => format!("{kind} could not be sent: they read nothing, and their window is closed"),
        Fault::Unacknowledged => format!("{kind} did not arrive{passed}"),
        Fault::Late => format!("{kind} came late{passed}"),
        Fault::Duplicated => format!("{kind} came again{passed}"),
        Fault::Altered => format!("{kind} came altered{passed}"),
        Fault::Unexpected => format!("{kind} came, and must not{passed}"),
        Fault::Misordered => {
            let sent = sent.as_ref().map_or_else(String::new, |sent| format!(", after {}", since(sent)));
            format!("{kind} came behind one that was sent later{sent}")
        }
        Fault::Unsolicited => format!("{kind} came, and nothing explains it{passed}"),
        Fault::WrongClose => "the connection ended otherwise".to_owned(),
    }
}

/// Why something is not known.
pub const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::BytesMissing => "bytes that could have decided it were not seen",
        Cause::CaptureLoss => "the capture lost packets meanwhile",
        Cause::Unreadable => "a message that could have decided it cannot be read",
        Cause::StartedTooLate => "it may have begun, or somebody was connected, before observer started",
        Cause::EndedTooSoon => "the run ended before the time was up",
        Cause::EndUnseen => "the end of a connection was not seen",
        Cause::RefusalUnclear => "the server refused something, and it is not known what",
        Cause::SenderUnclear => "several said the same, and it is not known which message is whose",
        Cause::LeftTooSoon => {
            "somebody left before the time was up, long after it had been sent to all others"
        }
        Cause::ClockStepped => "the times of the capture step back",
        Cause::DialectUnknown => "what the chat speaks was not yet known, or changed",
        Cause::Limit => "a limit of observer was reached",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flow_is_put_into_words_with_all_that_it_asks_for() {
        let flow = Flow {
            name: "say".into(),
            when: observer_core::flow::flows::Trigger::Leave,
            within: Duration::from_secs(2),
            expect: vec![
                Expectation {
                    kinds: vec!["say".into(), "shout".into()],
                    to: Whom::Members,
                    times: Times::Once,
                    same: vec![Part::Content, Part::Field("id".into())],
                },
                Expectation {
                    kinds: vec!["done".into()],
                    to: Whom::Sender,
                    times: Times::AtMostOnce,
                    same: vec![],
                },
            ],
            nobody_else: true,
        };
        assert_eq!(
            Rule::Flow(&flow).words(),
            [
                "within 2s: say or shout to every member of the room, once, with the same content, id",
                "within 2s: done to the sender, at most once",
                "nobody else gets it"
            ]
        );
    }

    #[test]
    fn every_other_rule_has_its_words() {
        let kinds = || vec!["say".into()];
        let name = || "x".into();
        let order = |among| Order { name: name(), kinds: kinds(), among };
        let (sender, room) = (order(Among::Sender), order(Among::Room));
        let closing = Closing { name: name(), codes: vec![Some(1000), None] };
        let any = Closing { name: name(), codes: vec![] };
        for (rule, said) in [
            (
                Rule::Never(&Never { name: name(), kinds: kinds() }),
                "say never reaches whoever is not logged in",
            ),
            (
                Rule::Unsolicited(&Unsolicited { name: name(), kinds: kinds() }),
                "say only comes where something explains it",
            ),
            (Rule::Order(&sender), "say of one sender comes in the order in which it was sent"),
            (Rule::Order(&room), "say of a room comes in the same order to everybody"),
            (Rule::Closing(&closing), "connections end with a close frame with 1000 or no code"),
            (Rule::Closing(&any), "connections end with a close frame"),
        ] {
            assert_eq!(rule.words(), [said]);
        }
    }
}

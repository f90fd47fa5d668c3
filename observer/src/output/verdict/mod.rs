//! Verdicts, as `verify` tells them, and what they come to.
//!
//! Owns the counting of causes, the conclusion, and the choice of format. Must not know how anything is judged. Bounded:
//! a row a rule with verdicts, and what `junit` keeps.

mod json;
mod junit;
mod text;
pub mod words;

use std::sync::Arc;

use observer_core::flow::verdict::{Cause, FlowTotals, Outcome, Stage, Told};
use observer_core::flow::{Rules, Verifier};
use observer_core::time::Time;

use self::junit::Junit;
use self::text::Text;
use super::clock::TimeStyle;
use super::palette::Palette;
use crate::cli::{EXIT_HELD, EXIT_INCONCLUSIVE, EXIT_VIOLATED};

/// Lays out verdicts.
#[derive(Debug)]
pub struct Verdicts {
    format: Format,
    rules: Arc<Rules>,
    causes: [u64; Cause::ALL.len()],
    /// Whether what was sent counts as received.
    sent_is_trusted: bool,
    is_damaged: bool,
}

#[derive(Debug)]
enum Format {
    Text(Box<Text>),
    Json,
    Junit(Junit),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Verification {
    /// When it ended.
    pub time: Time,
    /// Of every rule that has verdicts.
    pub rows: Vec<FlowTotals>,
    /// Inconclusive cases by cause, in the order of [`Cause::ALL`]. One may have several.
    pub causes: [u64; Cause::ALL.len()],
    /// What was given up at a bound.
    pub shed: u64,
    /// Whether what was sent counts as received.
    pub sent_is_trusted: bool,
    /// Whether the input is damaged.
    pub is_damaged: bool,
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

impl Verification {
    /// How many cases came to this.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.rows.iter().map(|row| row.of(outcome)).sum()
    }

    /// Whether any case is inconclusive for this cause.
    pub fn has_cause(&self, cause: Cause) -> bool {
        self.causes.iter().zip(Cause::ALL).any(|(count, of)| *count > 0 && of == cause)
    }

    /// How many cases were judged.
    pub fn cases(&self) -> u64 {
        self.rows.iter().map(FlowTotals::cases).sum()
    }

    /// How many were refused by the server.
    pub fn refused(&self) -> u64 {
        self.rows.iter().map(|row| row.refused).sum()
    }

    /// What it all comes to.
    pub fn conclusion(&self) -> Conclusion {
        if self.of(Outcome::Violated) > 0 || self.of(Outcome::Late) > 0 {
            Conclusion::Violated
        } else if self.cases() == 0 {
            Conclusion::NothingSeen
        } else if self.of(Outcome::Inconclusive) > 0 || self.shed > 0 || self.is_damaged {
            Conclusion::Inconclusive
        } else {
            Conclusion::Held
        }
    }

    /// The same in a sentence.
    pub fn sentence(&self) -> String {
        let cases = self.cases();
        let [held, late, violated, inconclusive] = Outcome::ALL.map(|outcome| self.of(outcome));
        let damage =
            if self.is_damaged { "; the input is damaged, and was read as far as it could be" } else { "" };
        let of_cases = if cases == 1 { "the only case".to_owned() } else { format!("{cases} cases") };
        match self.conclusion() {
            Conclusion::Held if cases == 1 => "The only case held.".to_owned(),
            Conclusion::Held => format!("All {cases} cases held."),
            Conclusion::Violated => {
                format!(
                    "Of {of_cases}, {violated} violated, {late} late, {inconclusive} inconclusive, {held} held{damage}."
                )
            }
            Conclusion::Inconclusive if inconclusive > 0 => {
                format!(
                    "Nothing was violated, but of {of_cases} {inconclusive} cannot be told; {held} held{damage}."
                )
            }
            Conclusion::Inconclusive if self.shed > 0 => {
                format!(
                    "Nothing was violated in {of_cases}, but {} more were given up at a limit of observer{damage}.",
                    self.shed
                )
            }
            Conclusion::Inconclusive => {
                format!("Nothing was violated in {of_cases}, but not all was seen{damage}.")
            }
            Conclusion::NothingSeen => {
                let refused = match self.refused() {
                    0 => String::new(),
                    refused => format!(" ({refused} refused by the server are not judged)"),
                };
                format!("Nothing was judged: nothing was seen that a rule knows{refused}.")
            }
        }
    }
}

/// What to try where nothing was judged.
pub const ADVICE: [&str; 3] = [
    "--rules FILE teaches another protocol (docs/flows.md); the built-in rules know workerman-chat's",
    "`observer watch` or `observer read FILE` shows what is there, and --port names other ports",
    "messages count that come after observer started: let somebody log in and say something meanwhile",
];

impl Verdicts {
    /// For people.
    pub fn text(rules: Arc<Rules>, time: TimeStyle, palette: Palette) -> Self {
        Self::new(rules, Format::Text(Box::new(Text::new(time, palette))))
    }

    /// For programs.
    pub fn json(rules: Arc<Rules>) -> Self {
        Self::new(rules, Format::Json)
    }

    /// For continuous integration.
    pub fn junit(rules: Arc<Rules>) -> Self {
        Self::new(rules, Format::Junit(Junit::default()))
    }

    fn new(rules: Arc<Rules>, format: Format) -> Self {
        let causes = [0; Cause::ALL.len()];
        Self { format, rules, causes, sent_is_trusted: false, is_damaged: false }
    }

    /// What was sent counts as received from now on: nothing tells what was acknowledged.
    pub const fn trust_sent(&mut self) {
        self.sent_is_trusted = true;
    }

    /// The input is damaged.
    pub const fn note_damage(&mut self) {
        self.is_damaged = true;
    }

    /// Takes what the verifier tells.
    pub fn handle(&mut self, out: &mut Vec<u8>, told: &Told<'_>) {
        if told.stage != Stage::Verdict {
            return;
        }
        let case = told.case;
        if case.outcome == Outcome::Inconclusive {
            for (count, cause) in self.causes.iter_mut().zip(Cause::ALL) {
                *count += u64::from(case.causes.iter().any(|of| of == cause));
            }
        }
        match &mut self.format {
            Format::Text(text) => text.write(out, case, &self.rules),
            Format::Json => json::write(out, case),
            Format::Junit(junit) => junit.handle(case, &self.rules),
        }
    }

    /// The run is over: writes what it came to.
    pub fn finish(&self, out: &mut Vec<u8>, time: Time, verifier: &Verifier) -> Verification {
        let verification = Verification {
            time,
            rows: verifier.totals().cloned().collect(),
            causes: self.causes,
            shed: verifier.shed(),
            sent_is_trusted: self.sent_is_trusted,
            is_damaged: self.is_damaged,
        };
        self.write_end(out, &verification);
        verification
    }

    fn write_end(&self, out: &mut Vec<u8>, verification: &Verification) {
        match &self.format {
            Format::Text(text) => text.write_end(out, verification),
            Format::Json => json::write_end(out, verification),
            Format::Junit(junit) => junit.write_end(out, verification),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verification(outcomes: [u64; 4]) -> Verification {
        let row = FlowTotals {
            flow: "say".into(),
            dialect: "chat".into(),
            outcomes,
            refused: 0,
            received: 0,
            sent: [Default::default(), Default::default()],
            latency: [Default::default(), Default::default()],
        };
        Verification {
            time: Time::default(),
            rows: vec![row],
            causes: [0; Cause::ALL.len()],
            shed: 0,
            sent_is_trusted: false,
            is_damaged: false,
        }
    }

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
            let verification = Verification { is_damaged, ..verification(outcomes) };
            assert_eq!(verification.conclusion().exit_code(), exit_code, "{outcomes:?} {is_damaged}");
        }
        let shed = Verification { shed: 1, ..verification([3, 0, 0, 0]) };
        assert_eq!(shed.conclusion().exit_code(), EXIT_INCONCLUSIVE);
    }

    #[test]
    fn the_sentence_says_the_same() {
        for (outcomes, sentence) in [
            ([3, 0, 0, 0], "All 3 cases held."),
            ([1, 0, 0, 0], "The only case held."),
            ([3, 1, 2, 0], "Of 6 cases, 2 violated, 1 late, 0 inconclusive, 3 held."),
            ([3, 0, 0, 1], "Nothing was violated, but of 4 cases 1 cannot be told; 3 held."),
            ([0, 0, 0, 0], "Nothing was judged: nothing was seen that a rule knows."),
        ] {
            assert_eq!(verification(outcomes).sentence(), sentence);
        }
    }
}

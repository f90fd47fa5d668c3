//! Verdicts, as `verify` tells them, and what they come to.
//!
//! Owns the counting of causes and of clients' messages that began nothing, and the choice of format. `conclusion` has
//! what it all comes to. Must not know how anything is judged. Bounded: a row a rule with verdicts, and what `junit` keeps.

mod conclusion;
mod json;
mod junit;
mod text;
pub mod words;

use std::sync::Arc;

use observer_core::flow::verdict::{Cause, Outcome, Stage, Told};
use observer_core::flow::verifier::Part;
use observer_core::flow::{Rules, Verifier};
use observer_core::record::{Direction, Message, Summary};
use observer_core::time::Time;

use self::conclusion::{BeganNothing, Row, Silent};
pub use self::conclusion::{Conclusion, Verification};
use self::junit::Junit;
use self::text::Text;
use super::clock::TimeStyle;
use super::palette::Palette;
use crate::losses::Lost;

/// Lays out verdicts.
#[derive(Debug)]
pub struct Verdicts {
    format: Format,
    rules: Arc<Rules>,
    causes: [u64; Cause::ALL.len()],
    /// Whether what was sent counts as received.
    sent_is_trusted: bool,
    is_damaged: bool,
    began_nothing: BeganNothing,
    /// Whether connections are decoded only where their upgrade is seen.
    needs_upgrades: bool,
    /// Whether nothing begins any more.
    is_closing_down: bool,
}

#[derive(Debug)]
enum Format {
    Text(Box<Text>),
    Json,
    Junit(Junit),
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// When.
    pub time: Time,
    /// With what seen.
    pub summary: &'a Summary,
    /// With what lost of the part that is judged.
    pub lost: Lost,
}

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
        Self {
            format,
            rules,
            causes: [0; Cause::ALL.len()],
            sent_is_trusted: false,
            is_damaged: false,
            began_nothing: BeganNothing::default(),
            needs_upgrades: false,
            is_closing_down: false,
        }
    }

    /// What was sent counts as received from now on: nothing tells what was acknowledged.
    pub const fn trust_sent(&mut self) {
        self.sent_is_trusted = true;
    }

    /// The input is damaged.
    pub const fn note_damage(&mut self) {
        self.is_damaged = true;
    }

    /// Connections are decoded only where their upgrade is seen.
    pub const fn need_upgrades(&mut self) {
        self.needs_upgrades = true;
    }

    /// From now on nothing begins.
    pub const fn close_down(&mut self) {
        self.is_closing_down = true;
    }

    /// Takes a message, and what it is to the flows.
    pub const fn count(&mut self, message: &Message<'_>, part: Part) {
        let began = !matches!((message.direction, part), (Direction::ClientToServer, Part::Nothing));
        if began || self.is_closing_down {
            return;
        }
        if message.chat.is_some() {
            self.began_nothing.read += 1;
        } else {
            self.began_nothing.unread += 1;
        }
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
    pub fn finish(&self, out: &mut Vec<u8>, ended: &Ended<'_>, verifier: &Verifier) -> Verification {
        let Ended { time, summary, lost } = *ended;
        let rows: Vec<_> = verifier.totals().map(|totals| Row::new(totals, &self.rules)).collect();
        let silent = Silent::find(&self.rules, &rows);
        let verification = Verification {
            time,
            rows,
            silent,
            began_nothing: self.began_nothing,
            causes: self.causes,
            shed: verifier.shed(),
            sent_is_trusted: self.sent_is_trusted,
            is_damaged: self.is_damaged,
            lost,
            lacks_upgrades: self.needs_upgrades && summary.connections_other + summary.packets_ignored > 0,
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

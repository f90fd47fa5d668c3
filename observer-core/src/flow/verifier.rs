//! Whether what has to happen happens.
//!
//! Owns every case under way, and the totals. Must not know how a message is read, nor how a verdict is laid out. Bounded:
//! stub.

use std::sync::Arc;

use super::members::Members;
use super::rules::Rules;
use super::verdict::{FlowTotals, Told};
use crate::record::Record;
use crate::time::{MonotonicTime, Time};

/// Judges a run by the flows of its rules.
#[derive(Debug)]
pub struct Verifier {
    rules: Arc<Rules>,
}

/// What a record is to the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing: it is to be shown by itself.
    Nothing,
    /// A message that a case tells of.
    OfCase,
    /// A sign of life that is asked for or given.
    Heartbeat,
}

impl Verifier {
    /// One that has seen nothing.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules }
    }

    /// Takes a record, of all records in their order. `members` has learnt from it, or, where it is a connection's end,
    /// is about to.
    pub fn handle_record(
        &mut self,
        _record: &Record<'_>,
        _members: &Members,
        _tell: &mut dyn FnMut(&Told<'_>),
    ) -> Part {
        Part::Nothing
    }

    /// Tells the verifier that it is `now`. Records tell it as well.
    pub fn handle_timeout(&mut self, _now: Time, _members: &Members, _tell: &mut dyn FnMut(&Told<'_>)) {}

    /// When [`Verifier::handle_timeout`] has something to do, if no record comes before.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        None
    }

    /// What every rule with verdicts has come to, of the dialects that were seen.
    pub fn totals(&self) -> impl Iterator<Item = &FlowTotals> {
        std::iter::empty()
    }

    /// How many cases were given up at a bound, and messages that no case explained likewise.
    pub fn shed(&self) -> u64 {
        0
    }
}

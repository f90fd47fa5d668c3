//! Verdicts as JUnit's XML.
//!
//! stub
use observer_core::flow::Rules;
use observer_core::flow::verdict::Case;

use super::Verification;

/// Keeps what is to be written at the end.
#[derive(Debug, Default)]
pub struct Junit;

impl Junit {
    pub fn handle(&mut self, _case: &Case<'_>, _rules: &Rules) {}
    pub fn write_end(&self, _out: &mut Vec<u8>, _verification: &Verification) {}
}

//! `cargo xtask bless`: makes today's output the expected one.
//!
//! Owns how golden files are written anew. Must not know what is in them: look at the difference before you commit it.
//! Bounded by cargo's own run.

use anyhow::Result;

use crate::process::{cargo, run};

/// Runs the command.
///
/// # Errors
/// If the tests that write golden files fail for another reason than the files.
pub fn command() -> Result<()> {
    run(cargo().args(["test", "--package", "observer", "--test", "golden"]).env("BLESS", "1"))
}

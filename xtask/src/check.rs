//! `cargo xtask check`: formatting, lints and documentation, for this machine's crates and for the kernel's.
//!
//! Owns which checks there are. Must not know what they find. Bounded by cargo's own runs.

use anyhow::Result;

use crate::build::kernel_cargo;
use crate::process::{cargo, run};
use crate::setup;

/// Runs the command.
///
/// # Errors
/// If a check finds something, or cannot be had.
pub fn command() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    let deny_warnings = ["--", "--deny", "warnings"];
    run(cargo()
        .args(["clippy", "--workspace", "--all-targets", "--features", "observer/live-tests"])
        .args(deny_warnings))?;
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "--deny warnings"))?;

    let toolchain = setup::kernel_toolchain()?;
    setup::ensure_clippy(&toolchain)?;
    run(kernel_cargo(&toolchain, "clippy").args(["--bin", "observer-ebpf"]).args(deny_warnings))
}

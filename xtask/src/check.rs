//! `cargo xtask check`: formatting, lints, documentation and dependencies, for this machine's crates, the kernel's, and
//! what fuzzes.
//!
//! Owns which checks there are. Must not know what they find. Bounded by cargo's own runs.

use anyhow::Result;

use crate::build::kernel_cargo;
use crate::fuzz;
use crate::process::{cargo, find_program, program, run, workspace_root};
use crate::setup;

/// Runs the command.
///
/// # Errors
/// If a check finds something, or cannot be had.
pub fn command() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--all", "--check", "--manifest-path", "fuzz/Cargo.toml"]))?;
    let deny_warnings = ["--", "--deny", "warnings"];
    run(cargo()
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "observer/live-tests,browser/browser-tests",
        ])
        .args(deny_warnings))?;
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "--deny warnings"))?;

    setup::ensure_packages(&fuzz::COMPILERS, "to build libFuzzer")?;
    run(cargo().args(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--all-targets"]).args(deny_warnings))?;

    let toolchain = setup::kernel_toolchain()?;
    setup::ensure_clippy(&toolchain)?;
    run(kernel_cargo(&toolchain, "clippy").args(["--bin", "observer-ebpf"]).args(deny_warnings))?;
    dependencies()
}

/// Licences, sources and bans, as deny.toml has them. Its advisories need the network, and change without us.
fn dependencies() -> Result<()> {
    if find_program("cargo-deny").is_none() {
        // Building it takes longer than all the rest.
        println!(
            "deny.toml was not checked, since cargo-deny is not here. After a change of dependencies: \
             cargo install --locked cargo-deny"
        );
        return Ok(());
    }
    run(program("cargo-deny").current_dir(workspace_root()).args([
        "deny",
        "--locked",
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}

//! `cargo xtask test`: every test, on this machine or in virtual machines with Debian's kernels.
//!
//! Owns the list of what is tested and what it needs. Must not know what a test tests. Bounded by cargo's own runs;
//! the live tests end what they start.

use anyhow::{Context as _, Result};

use crate::build::{self, Artifacts, OBJECT_VARIABLE};
use crate::kernels;
use crate::peers;
use crate::process::{cargo, find_program, is_root, output, run};
use crate::setup::ensure_packages;

/// The tests of `observer` that attach to this machine's kernel.
const LIVE_TESTS: [&str; 2] = ["live_capture", "live_end_to_end"];

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run the live tests in virtual machines with Debian's kernels, instead of all tests on this machine
    #[arg(long)]
    kernels: bool,

    #[command(flatten)]
    matrix: kernels::Options,
}

/// Runs the command.
///
/// # Errors
/// If a test fails, or if what a test needs cannot be had.
pub fn command(arguments: &Arguments) -> Result<()> {
    if arguments.kernels {
        return kernels::run(&arguments.matrix);
    }
    let artifacts = build::all(false)?;
    // As a newcomer runs them: without root, kernel object or features. The workspace includes the ABI's own tests.
    run(cargo().args(["test", "--workspace"]))?;
    browser()?;
    live(&artifacts)
}

/// The tests that need a browser.
fn browser() -> Result<()> {
    ensure_browser()?;
    run(cargo()
        .args(["test", "--package", "browser", "--features", "browser-tests", "--test", "chat_page"])
        .args([
            // Each has up to three Chromiums.
            "--",
            "--test-threads=2",
        ]))
}

/// Makes sure that there is a Chromium that a program can drive.
///
/// # Errors
/// If it is missing and cannot be installed.
pub fn ensure_browser() -> Result<()> {
    ensure_packages(
        &[("chromium", "chromium"), ("chromedriver", "chromium-driver")],
        "for the chat's page in a browser",
    )
}

/// The tests that need root and the kernel of this machine.
fn live(artifacts: &Artifacts) -> Result<()> {
    ensure_packages(
        &[("ip", "iproute2"), ("nft", "nftables"), ("tcpdump", "tcpdump"), ("tshark", "tshark")],
        "for the network namespaces, the NAT and the second opinions of the live tests",
    )?;
    let mut tests = cargo();
    tests.args(["test", "--package", "observer", "--features", "live-tests"]);
    for target in LIVE_TESTS {
        tests.args(["--test", target]);
    }
    tests
        .env(OBJECT_VARIABLE, &artifacts.object)
        .env("OBSERVER_BIN", &artifacts.observer)
        .env("CHAT_SERVER_BIN", &artifacts.chat_server)
        .envs(peers::all()?);
    if !is_root() {
        find_program("sudo").context("the live tests need root: run this as root, or install sudo")?;
        let version = output(cargo().arg("-vV"))?;
        let host = host(&version).context("cargo does not tell for which machine it is")?;
        tests.env(runner_variable(host), "sudo --preserve-env");
    }
    run(&mut tests)
}

/// From `cargo -vV`: the target that it builds for by default.
fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host:")).map(str::trim)
}

/// The environment variable that names what starts a target's tests.
fn runner_variable(target: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace(['-', '.'], "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_set_for_the_machine_that_this_is() {
        let version = "cargo 1.95.0\nrelease: 1.95.0\nhost: aarch64-unknown-linux-gnu\nos: Debian 12\n";
        let variable = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER";
        assert_eq!(host(version).map(runner_variable).as_deref(), Some(variable));
        assert!(host(&output(cargo().arg("-vV")).unwrap()).is_some_and(|host| host.contains("linux")));
    }
}

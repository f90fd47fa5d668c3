//! `cargo xtask test`: every test, on this machine or in virtual machines with Debian's kernels.
//!
//! Owns the list of what is tested and what it needs. Must not know what a test tests. Bounded by cargo's own runs;
//! the live tests end what they start.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::build::{self, Artifacts, OBJECT_VARIABLE};
use crate::kernels;
use crate::process::{cargo, find_program, is_root, output, program, run, target_directory};
use crate::setup::{ensure_packages, install_packages};

/// The tests of `observer` that attach to this machine's kernel.
const LIVE_TESTS: [&str; 2] = ["live_capture", "live_end_to_end"];

/// Peers that are not ours, for `live_end_to_end`.
const NODE_WS: &str = "ws@8";
const PYTHON_WEBSOCKETS: &str = "websockets>=13,<17";

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
        &[("ip", "iproute2"), ("nft", "nftables"), ("tcpdump", "tcpdump")],
        "for the network namespaces, the NAT and the second opinion of the live tests",
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
        .env("NODE_WS_DIR", node_ws()?)
        .env("PYTHON_WEBSOCKETS", python_websockets()?);
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

fn peers_directory() -> PathBuf {
    target_directory().join("peers")
}

/// A directory whose `node_modules` holds npm's `ws`.
///
/// # Errors
/// If it is missing and cannot be installed.
pub fn node_ws() -> Result<PathBuf> {
    let directory = peers_directory().join("node-ws");
    if !directory.join("node_modules/ws/package.json").is_file() {
        ensure_packages(
            &[("node", "nodejs"), ("npm", "npm")],
            "for a server of npm's ws, which the live tests watch",
        )?;
        std::fs::create_dir_all(&directory)?;
        run(program("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", NODE_WS, "--prefix"])
            .arg(&directory))?;
    }
    Ok(directory)
}

/// A Python interpreter that has `websockets`.
fn python_websockets() -> Result<PathBuf> {
    let directory = peers_directory().join("python-websockets");
    let python = directory.join("bin/python");
    if !has_websockets(&python) {
        ensure_packages(
            &[("python3", "python3")],
            "for a server of Python's websockets, which the live tests watch",
        )?;
        if output(program("python3").args(["-m", "venv", "--clear"]).arg(&directory)).is_err() {
            install_packages(&["python3-venv"], "for a virtual environment with that server")?;
            run(program("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
        }
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PYTHON_WEBSOCKETS]))?;
    }
    Ok(python)
}

fn has_websockets(python: &Path) -> bool {
    output(Command::new(python).args(["-c", "import websockets.sync.server"])).is_ok()
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

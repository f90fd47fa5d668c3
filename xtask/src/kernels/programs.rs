//! The statically linked programs that go into a guest: which tests and binaries of the workspace, and their build.
//!
//! Must not know kernels or guests. They are built by cargo into a target directory of their own, `target/static`, since
//! other flags there would otherwise rebuild everything each time.

use std::path::Path;

use anyhow::Result;

use crate::build::OBJECT_VARIABLE;
use crate::built::{self, Built};
use crate::process;

/// An integration test of the workspace that runs in the guests.
#[derive(Debug)]
pub struct LiveTest {
    /// Its package.
    pub package: &'static str,
    /// The features it needs.
    pub features: &'static str,
    /// Its file or directory below `tests/`, without `.rs`.
    pub target: &'static str,
    /// Parts of the names of tests that need what no guest has.
    pub skip: &'static [&'static str],
}

/// A binary of the workspace that the tests start.
#[derive(Debug)]
pub struct Tool {
    /// Its package.
    pub package: &'static str,
    /// Its name.
    pub binary: &'static str,
    /// The environment variable by which the tests find it.
    pub variable: &'static str,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds tests and tools, with the kernel programs of `object` embedded.
pub fn build(tests: &[LiveTest], tools: &[Tool], object: &Path) -> Result<Vec<Built>> {
    let mut built: Vec<Built> = Vec::new();
    for test in tests {
        let LiveTest { package, features, target, .. } = test;
        let arguments = ["test", "--no-run", "--package", package, "--features", features, "--test", target];
        // A package's binaries are built along with its integration tests.
        built.extend(cargo(&arguments, object)?);
    }
    for tool in tools {
        if !built.iter().any(|built| !built.is_test && built.name == tool.binary) {
            let arguments = ["build", "--package", tool.package, "--bin", tool.binary];
            built.extend(cargo(&arguments, object)?);
        }
    }
    built.sort_by(|left, right| left.path.cmp(&right.path));
    built.dedup();
    Ok(built)
}

fn cargo(arguments: &[&str], object: &Path) -> Result<Vec<Built>> {
    let mut command = process::cargo();
    command
        .args(arguments)
        .args(["--target", TARGET, "--quiet"])
        .env("CARGO_TARGET_DIR", process::target_directory().join("static"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Emulation is slow enough to make optimising pay; the guest holds the files in memory.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env(OBJECT_VARIABLE, object);
    built::executables(&mut command)
}

//! The statically linked programs that go into a guest: which tests and binaries of the workspace, and their build.
//!
//! Must not know kernels or guests. They are built by cargo into a target directory of their own, `target/static`, since
//! other flags there would otherwise rebuild everything each time.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::build::OBJECT_VARIABLE;
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

/// Something that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The name of the cargo target.
    pub name: String,
    /// Whether it is a test harness, not a binary.
    pub is_test: bool,
    /// Where it lies.
    pub path: PathBuf,
    /// The directory of its package, in which cargo would start it.
    pub package_directory: PathBuf,
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
    let output = process::cargo()
        .args(arguments)
        .args(["--target", TARGET, "--message-format", "json-render-diagnostics", "--quiet"])
        .env("CARGO_TARGET_DIR", process::target_directory().join("static"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Emulation is slow enough to make optimising pay; the guest holds the files in memory.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env(OBJECT_VARIABLE, object)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` ended with {}; its messages are above", arguments.join(" "), output.status);
    }
    executables(&String::from_utf8_lossy(&output.stdout))
}

/// The executables among cargo's messages.
fn executables(messages: &str) -> Result<Vec<Built>> {
    let mut built = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: serde_json::Value =
            serde_json::from_str(line).context("cannot read cargo's messages")?;
        let text = |pointer: &str| message.pointer(pointer).and_then(serde_json::Value::as_str);
        let (Some("compiler-artifact"), Some(executable)) = (text("/reason"), text("/executable")) else {
            continue;
        };
        let manifest = Path::new(text("/manifest_path").unwrap_or("/"));
        let is_test = message.pointer("/profile/test") == Some(&serde_json::Value::Bool(true));
        if text("/target/kind/0") == Some("custom-build") {
            continue;
        }
        built.push(Built {
            name: text("/target/name").unwrap_or_default().to_owned(),
            is_test,
            path: executable.into(),
            package_directory: manifest.parent().unwrap_or(Path::new("/")).to_owned(),
        });
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executables_are_taken_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"kind":["lib"],"name":"a"},"#,
            r#""profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"kind":["test"],"name":"live"},"#,
            r#""profile":{"test":true},"executable":"/w/target/live-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"kind":["bin"],"name":"a"},"#,
            r#""profile":{"test":false},"executable":"/w/target/a"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let built = executables(messages).unwrap();
        assert_eq!(built.len(), 2);
        assert_eq!((built[0].name.as_str(), built[0].is_test), ("live", true));
        assert_eq!(built[1].path, Path::new("/w/target/a"));
        assert_eq!(built[1].package_directory, Path::new("/w/a"));
    }
}

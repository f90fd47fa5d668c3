//! What cargo built, and where it lies.
//!
//! Owns: the reading of cargo's messages. Must not know: what is built or why. Bounded by: one cargo run.
//!
//! Paths are asked for, not put together: a user's cargo configuration may name another target, and then cargo puts
//! results elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::describe;

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

/// Runs a cargo command that builds, and gives the executables that it built.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn executables(command: &mut Command) -> Result<Vec<Built>> {
    let output = command
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !output.status.success() {
        bail!("{} failed ({}); its messages are above", describe(command), output.status);
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The executables among cargo's messages.
fn parse(messages: &str) -> Result<Vec<Built>> {
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
        let built = parse(messages).unwrap();
        assert_eq!(built.len(), 2);
        assert_eq!((built[0].name.as_str(), built[0].is_test), ("live", true));
        assert_eq!(built[1].path, Path::new("/w/target/a"));
        assert_eq!(built[1].package_directory, Path::new("/w/a"));
    }
}

//! `cargo xtask bless`: makes today's output the expected one.
//!
//! Owns how golden files are written anew. Must not know what is in them: look at the difference before you commit it.
//! Bounded by cargo's own run.

use anyhow::Result;

use crate::process::{cargo, run};

const PACKAGE: &str = "observer";
/// The test target that holds the golden tests, in a module of this name.
const TARGET: &str = "shell";
const MODULE: &str = "golden";

/// Runs the command.
///
/// # Errors
/// If the tests that write golden files fail for another reason than the files.
pub fn command() -> Result<()> {
    run(cargo().args(["test", "--package", PACKAGE, "--test", TARGET, MODULE]).env("BLESS", "1"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::process::output;

    #[test]
    fn the_golden_tests_are_where_bless_looks_for_them() {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let metadata: Value = serde_json::from_str(&output(&mut metadata).unwrap()).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == PACKAGE).unwrap();
        let targets = package["targets"].as_array().unwrap();
        let is_wanted = |target: &&Value| target["name"] == TARGET && target["kind"][0] == "test";
        let target = targets.iter().find(is_wanted).unwrap();
        let source = Path::new(target["src_path"].as_str().unwrap());
        let module = source.with_file_name(MODULE).with_extension("rs");
        assert!(module.is_file(), "there is no {}", module.display());
    }
}

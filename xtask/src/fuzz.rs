//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, each for its share of a time.
//!
//! Owns how they are built and started, and what is said of them. Must not know what a target does. Bounded by the time
//! that the user gives, behind one build.
//!
//! Stable Rust will do: the core has no unsafe code for a sanitizer to look into, and coverage is a part of every
//! compiler. Seeds come from the targets themselves; what was found interesting stays in `target/fuzz/corpus`, and
//! makes the next run begin where this one ends.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{cargo, describe, find_program, run, target_directory, workspace_root};
use crate::setup::{ensure_packages, tools_directory};

/// The programs that libFuzzer is built with, and the packages that have them.
pub const COMPILERS: [(&str, &str); 2] = [("cc", "gcc"), ("c++", "g++")];

/// What a target may allocate, in MiB. Each has limits of its own for what it fuzzes, far below.
const MEMORY_MIB: u32 = 1_024;
/// After so many seconds one input is a hang.
const HANG_SECONDS: u32 = 10;

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long to fuzz in all, as in 60s, 10m or 1h; the build comes on top
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    duration: Duration,

    /// Only these, instead of every target of fuzz/fuzz_targets
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If a target cannot be built, or finds something; the text has the input and how to run it again.
pub fn command(arguments: &Arguments) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    build()?;
    let share = arguments.duration / u32::try_from(chosen.len())?;
    let seconds = share.as_secs().max(1);
    let mut executions = 0;
    let mut failures = Vec::new();
    for target in chosen {
        let ran = fuzz(target, seconds)?;
        println!("{target}: {} executions in {seconds} s", grouped(ran.executions));
        executions += ran.executions;
        failures.extend(ran.failure);
    }
    println!("{} executions in all", grouped(executions));
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Names of the targets: each has a file.
fn targets() -> Result<Vec<String>> {
    let directory = fuzz_directory().join("fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    Ok(targets)
}

fn fuzz_directory() -> PathBuf {
    workspace_root().join("fuzz")
}

/// Where builds, seeds, corpora and what was found lie.
fn data_directory() -> PathBuf {
    target_directory().join("fuzz")
}

/// Compiles every target.
fn build() -> Result<()> {
    ensure_packages(&COMPILERS, "to build libFuzzer")?;
    let program = cargo_fuzz()?;
    let mut build = Command::new(program);
    build
        .args(["fuzz", "build", "--sanitizer", "none", "--fuzz-dir"])
        .arg(fuzz_directory())
        .current_dir(workspace_root())
        .env("CARGO_TARGET_DIR", data_directory().join("build"));
    run(&mut build)
}

fn cargo_fuzz() -> Result<PathBuf> {
    let own = tools_directory().join("bin/cargo-fuzz");
    if own.exists() {
        return Ok(own);
    }
    if let Some(found) = find_program("cargo-fuzz") {
        return Ok(found);
    }
    println!("Building cargo-fuzz, which is not installed; this takes a minute or so.");
    // Not among the user's own programs.
    run(cargo().args(["install", "--locked", "cargo-fuzz", "--root"]).arg(tools_directory()))?;
    Ok(own)
}

/// How a target ended.
struct Ran {
    executions: u64,
    /// What it found, and how to find it again.
    failure: Option<String>,
}

fn fuzz(target: &str, seconds: u64) -> Result<Ran> {
    let data = data_directory();
    let [seeds, corpus, artifacts] =
        ["seeds", "corpus", "artifacts"].map(|kind| data.join(kind).join(target));
    for directory in [&seeds, &corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let program = built(target)?;
    let log = data.join(format!("{target}.log"));
    let mut command = Command::new(&program);
    command
        .args([&corpus, &seeds])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            format!("-timeout={HANG_SECONDS}"),
            "-print_final_stats=1".to_owned(),
        ])
        .env("OBSERVER_FUZZ_SEEDS", &seeds)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?);
    let dictionary = fuzz_directory().join("dictionaries").join(target).with_extension("dict");
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let status = command.status().with_context(|| format!("cannot start {}", describe(&command)))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let failure = (!status.success()).then(|| match written_input(&said) {
        Some(input) => format!(
            "{target} failed: {}\n  the input: {input}\n  to repeat it: {} {input}",
            reason(&said),
            program.display()
        ),
        None => format!("{target} failed ({status}); what it said is in {}", log.display()),
    });
    Ok(Ran { executions: executions(&said).unwrap_or(0), failure })
}

/// cargo-fuzz builds for a named target, the host.
fn built(target: &str) -> Result<PathBuf> {
    let build = data_directory().join("build");
    let hosts = fs::read_dir(&build).with_context(|| format!("cannot read {}", build.display()))?;
    let paths = hosts.filter_map(|entry| Some(entry.ok()?.path().join("release").join(target)));
    paths.into_iter().find(|path| path.is_file()).with_context(|| format!("cargo-fuzz built no {target}"))
}

/// From libFuzzer's final statistics.
fn executions(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}

/// Where libFuzzer wrote the input that broke the target.
fn written_input(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim())
}

/// The panic's own words, or libFuzzer's.
fn reason(said: &str) -> String {
    let mut lines = said.lines();
    let panic = lines.by_ref().find(|line| line.contains(" panicked at "));
    match panic {
        Some(place) => format!("{place} {}", lines.next().unwrap_or_default()),
        None => said.lines().find(|line| line.starts_with("SUMMARY: ")).unwrap_or("unknown").to_owned(),
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of seconds, minutes or hours.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no duration: write 60s, 10m or 1h");
    let (digits, seconds) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) if text.ends_with('s') => (digits, 1),
        Some(digits) if text.ends_with('m') => (digits, 60),
        Some(digits) => (digits, 3_600),
        None => return Err(wrong()),
    };
    let number = digits.parse::<u64>().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("60s", 60), ("10m", 600), ("1h", 3_600)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "60", "0s", "s", "-1s", "1d", "1.5h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_target_found_is_told_with_its_input() {
        let said = "INFO: Seed: 1\n\nthread '<unnamed>' (7) panicked at src/engine.rs:119:9:\n2 bytes were held\n\
                    artifact_prefix='a/'; Test unit written to a/crash-40d1\n\
                    stat::number_of_executed_units: 3088\nstat::average_exec_per_sec:     0\n";
        assert_eq!(executions(said), Some(3_088));
        assert_eq!(written_input(said), Some("a/crash-40d1"));
        assert!(reason(said).ends_with("panicked at src/engine.rs:119:9: 2 bytes were held"));
        assert_eq!(reason("SUMMARY: libFuzzer: timeout\n"), "SUMMARY: libFuzzer: timeout");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn every_target_is_named_in_the_manifest_and_has_a_module() {
        let manifest = fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
        for target in targets().unwrap() {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            assert!(fuzz_directory().join("src").join(&target).with_extension("rs").is_file(), "{target}");
        }
    }
}

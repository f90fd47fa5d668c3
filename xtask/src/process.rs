//! Running other programs.
//!
//! Owns: how a command is started, and what is said when it fails. Must not know: any command in particular.
//! Bounded by: the time limit that a caller gives.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The directory of the workspace's Cargo.toml.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Where cargo puts what it builds for this machine when [`cargo`] runs it; a user's configuration does not count.
#[must_use]
pub fn target_directory() -> PathBuf {
    let root = workspace_root();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path))
}

/// The cargo that runs this command, in the workspace's directory.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root()).env("CARGO_TARGET_DIR", target_directory());
    command
}

/// A program of this machine, where [`find_program`] finds it: it may not be on PATH.
#[must_use]
pub fn program(name: &str) -> Command {
    Command::new(find_program(name).unwrap_or_else(|| name.into()))
}

/// Runs a command with this terminal as its input and output.
///
/// # Errors
/// If it cannot be started or does not succeed; the text names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command like [`run`], and kills it when it takes too long.
///
/// # Errors
/// As [`run`], and if the time is over.
pub fn run_for(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    let give_up = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("{} failed ({status})", describe(command));
            }
            return Ok(());
        }
        if Instant::now() >= give_up {
            child.kill()?;
            child.wait()?;
            bail!("{} took more than {} s", describe(command), limit.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command and returns what it prints.
///
/// # Errors
/// If it cannot be started or does not succeed; the text holds what it wrote to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it, without its environment.
#[must_use]
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a program is, on PATH, among the administrator's programs, or among cargo's.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(cargo_bin_directory())
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Where `cargo install` puts programs.
#[must_use]
pub fn cargo_bin_directory() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    Some(home.join("bin"))
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named_with_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).expect_err("it exits with 3");
        let text = format!("{error:#}");
        assert!(text.contains("sh -c exit 3") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).expect_err("it does not exist");
        assert!(format!("{error:#}").contains("cannot start no-such-program-here"));
    }

    #[test]
    fn output_returns_what_was_printed_and_errors_hold_what_was_complained() {
        assert_eq!(output(Command::new("sh").args(["-c", "echo one"])).unwrap(), "one\n");
        let error = output(Command::new("sh").args(["-c", "echo why >&2; false"])).unwrap_err();
        assert!(format!("{error:#}").contains("why"));
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended() {
        let started = Instant::now();
        let error = run_for(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(format!("{error:#}").contains("took more than"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_is_started_from_where_it_was_found() {
        assert_eq!(Some(program("sh").get_program().into()), find_program("sh"));
        assert_eq!(program("no-such-program-here").get_program(), "no-such-program-here");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-here").is_none());
    }
}

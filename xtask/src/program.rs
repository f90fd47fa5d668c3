//! Programs that a command starts beside itself, such as the chat server and the observer.
//!
//! Owns how they are started, watched and ended, and how the observer gets its rights. Must not know what they do.
//! Bounded by [`READY_WITHIN`] for what is waited for; what was started ends with this process, however that is.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lifeline;
use crate::process::{find_program, is_root, run};

const READY_WITHIN: Duration = Duration::from_secs(15);

/// What gives the observer its rights, if this process has none to give, with the password already asked for.
///
/// # Errors
/// If there is no sudo, or it refuses.
pub fn sudo() -> Result<Option<PathBuf>> {
    if is_root() {
        return Ok(None);
    }
    let sudo = find_program("sudo")
        .context("attaching to the kernel needs root: run this as root, or install sudo")?;
    // Here, so that the time in which it is typed is not taken from the programs' time to start.
    run(Command::new(&sudo).arg("-v"))?;
    Ok(Some(sudo))
}

/// How a program failed.
#[derive(Debug)]
pub struct Failed {
    /// What is said of it.
    pub name: &'static str,
    status: ExitStatus,
    said: Vec<String>,
}

impl Failed {
    /// Whether a signal ended it, which the shell of [`lifeline::tied`] tells by its own status.
    pub fn is_by_signal(&self) -> bool {
        self.status.code().is_none_or(|code| code > 128)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} failed ({}):\n{}", self.name, self.status, self.said.join("\n"))
    }
}

impl std::error::Error for Failed {}

/// A program that ends with this one, however that ends.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    errors: Receiver<String>,
}

impl Program {
    /// Starts a command that [`lifeline::tied`] made; `name` is for what is said of it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command, name: &'static str) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let (lines, errors) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name, child, errors })
    }

    /// Shows its standard output, and gives the lines of it once it has ended.
    ///
    /// # Errors
    /// If that is read already.
    pub fn echo_output(&mut self) -> Result<JoinHandle<Vec<String>>> {
        self.read_output(|stdout| collect(stdout, |line| println!("{line}")))
    }

    /// Gives the lines of its standard output once it has ended.
    ///
    /// # Errors
    /// If that is read already.
    pub fn keep_output(&mut self) -> Result<JoinHandle<Vec<String>>> {
        self.read_output(|stdout| collect(stdout, |_| {}))
    }

    /// Has its standard output read by a thread of its own, and gives what `read` makes of it.
    ///
    /// # Errors
    /// If that is read already.
    pub fn read_output<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(ChildStdout) -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let stdout = self.child.stdout.take().context("standard output is piped")?;
        Ok(thread::spawn(move || read(stdout)))
    }

    /// Waits until it says so on standard error.
    ///
    /// # Errors
    /// If it does not in time; the text holds what it said instead.
    pub fn wait_for_line(&mut self, words: &str) -> Result<()> {
        let give_up = Instant::now() + READY_WITHIN;
        let mut said = Vec::new();
        while let Ok(line) = self.errors.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return Ok(());
            }
            said.push(line);
        }
        bail!("{} does not start; it said:\n{}", self.name, said.join("\n"))
    }

    /// Waits until `ready`.
    ///
    /// # Errors
    /// If it ends, or the time is over.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let give_up = Instant::now() + READY_WITHIN;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                let said: Vec<_> = self.errors.try_iter().collect();
                bail!("{} ended ({status}); it said:\n{}", self.name, said.join("\n"));
            }
            ensure!(Instant::now() < give_up, "{} is not ready after {READY_WITHIN:?}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it fails; the text holds what it said.
    pub fn end_and_wait(&mut self) -> Result<()> {
        lifeline::cut(&mut self.child);
        self.wait_for_end()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it fails: [`Failed`], whose text holds what it said.
    pub fn wait_for_end(&mut self) -> Result<()> {
        // Waiting closes the standard input, which is what the program lives by.
        let _lifeline = self.child.stdin.take();
        let status = self.child.wait()?;
        let said: Vec<_> = self.errors.iter().collect();
        ensure!(status.success(), Failed { name: self.name, status, said });
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        lifeline::cut(&mut self.child);
        let _ = self.child.wait();
    }
}

fn collect(output: impl Read, each: fn(&str)) -> Vec<String> {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.inspect(|line| each(line)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn failure(script: &str) -> Failed {
        let mut command = lifeline::tied(None, Path::new("/bin/sh"));
        let mut program = Program::start(command.args(["-c", script]), "it").unwrap();
        program.wait_for_end().unwrap_err().downcast().unwrap()
    }

    #[test]
    fn a_failure_tells_what_was_said_and_whether_a_signal_was_it() {
        let failed = failure("echo no >&2; exit 3");
        assert!(!failed.is_by_signal());
        assert_eq!(failed.to_string(), "it failed (exit status: 3):\nno");
        assert!(failure("kill -ABRT $$").is_by_signal());
    }
}

//! Autobahn's cases, run by `kosoku` from PyPI.
//!
//! Owns how it is installed and called, and what it tells of a case. Must not know what observer saw. Bounded by the
//! suite's own time limits.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;

use super::expected;
use crate::lifeline;
use crate::peers;
use crate::process::target_directory;
use crate::program::Program;

/// What is said of its program.
pub const NAME: &str = "the Autobahn testsuite";
const SCRIPT: &str = include_str!("suite.py");

/// The suite, installed.
#[derive(Debug)]
pub struct Suite {
    python: PathBuf,
    directory: PathBuf,
}

/// What the suite tells of one case.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Such as `5.12`.
    pub id: String,
    /// What it asked for, which no other case did; none where it had no connection.
    pub path: Option<String>,
    /// The verdict on what came back: `OK`, `NON-STRICT`, `INFORMATIONAL`, or a failure.
    pub behavior: String,
    /// The verdict on how the connection ended, in the same words.
    pub behavior_close: String,
    /// The first verdict in a sentence.
    pub result: String,
    /// The second verdict in a sentence.
    pub result_close: String,
    /// Whether the other side has to fail the connection (RFC 6455 §7.1.7) or to close it.
    pub must_be_refused: bool,
    /// Whether the suite sent the first close frame.
    pub closed_by_suite: bool,
    /// Whether the suite takes itself for the one that answers a close frame.
    pub answers_close: bool,
    /// Of the close frame that came.
    pub remote_close_code: Option<u16>,
    /// Likewise; none where it is empty.
    pub remote_close_reason: Option<String>,
    /// Frames that the suite logged, which in some cases are the last ones only.
    pub frames_sent: Vec<Frame>,
    /// Likewise.
    pub frames_received: Vec<Frame>,
    /// How many frames it counted, by opcode.
    pub frame_counts_sent: BTreeMap<u8, u64>,
    /// Likewise.
    pub frame_counts_received: BTreeMap<u8, u64>,
    /// Messages, in order.
    pub messages_sent: Vec<Message>,
    /// Likewise.
    pub messages_received: Vec<Message>,
    /// Frames that belong to no message, but for close frames.
    pub controls_sent: Vec<Control>,
    /// Likewise.
    pub controls_received: Vec<Control>,
}

/// A frame's header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Frame {
    /// 0 to 15.
    pub opcode: u8,
    /// Whether it is the last of its message.
    pub fin: bool,
    /// RSV1, RSV2 and RSV3 as 4, 2 and 1.
    pub rsv: u8,
    /// Payload as on the wire, in bytes.
    pub length: u64,
    /// In hexadecimal; none where it is not masked.
    #[serde(default)]
    pub mask: Option<String>,
}

/// A message, unmasked, put together and inflated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// `text`, `binary`, or `continuation` where it began with one.
    pub opcode: String,
    /// Of what was sent of it, in bytes.
    pub length: u64,
    /// SHA-1 of the same.
    pub digest: String,
    /// False where it was not brought to its end.
    pub whole: bool,
}

/// Opcode, and payload in base64.
pub type Control = (u8, String);

impl Case {
    /// Whether the other side did all that it must and should.
    pub fn is_passed(&self) -> bool {
        [&self.behavior, &self.behavior_close]
            .iter()
            .all(|verdict| ["OK", "INFORMATIONAL"].contains(&verdict.as_str()))
    }

    /// Whether there is no right or wrong in it.
    pub fn is_informational(&self) -> bool {
        self.behavior == "INFORMATIONAL"
    }

    /// The codes of the anomalies that observer has to raise.
    pub fn anomalies(&self) -> Vec<&'static str> {
        expected::anomalies(&self.id, self.messages_sent.iter().all(|message| message.whole))
    }

    /// The number before the first dot.
    pub fn category(&self) -> &str {
        self.id.split('.').next().unwrap_or(&self.id)
    }
}

impl Suite {
    /// Installs it, unless it is there.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn install() -> Result<Self> {
        let python = peers::kosoku()?;
        let directory = target_directory().join("conformance");
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { python, directory })
    }

    /// Where it leaves its own reports, as web pages too, in a directory for each pattern, and one of a client's.
    pub fn reports(&self) -> PathBuf {
        self.directory.join("reports")
    }

    /// Runs the cases of this pattern against the server at `url`, one after the other.
    ///
    /// # Errors
    /// If it fails, which it does not where the server fails a case.
    pub fn drive(&self, url: &str, pattern: &str) -> Result<Vec<Case>> {
        let mut running = self.start(pattern, &["--url", url], &[pattern.to_owned()])?;
        let lines = running.keep_output()?;
        cases(&mut running, lines)
    }

    /// Serves the cases of these patterns at an address, and runs a client that asks for each.
    ///
    /// # Errors
    /// If one of them fails, which the suite does not where the client fails a case.
    pub fn serve(
        &self,
        address: SocketAddr,
        patterns: &[String],
        client: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<Case>> {
        let mut running = self.start("client", &["--listen", &address.to_string()], patterns)?;
        let lines = running.keep_output()?;
        running.wait_for_line("serving")?;
        client()?;
        cases(&mut running, lines)
    }

    fn start(&self, reports: &str, how: &[&str], patterns: &[String]) -> Result<Program> {
        let reports = self.reports().join(reports);
        if let Err(error) = fs::remove_dir_all(&reports) {
            ensure!(error.kind() == ErrorKind::NotFound, "cannot remove the last reports: {error}");
        }
        let script = self.directory.join("suite.py");
        fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
        let mut command = lifeline::tied(None, &self.python);
        command.arg(&script).args(how).arg("--reports").arg(&reports).args(patterns);
        Program::start(&mut command, NAME)
    }
}

fn cases(running: &mut Program, lines: JoinHandle<Vec<String>>) -> Result<Vec<Case>> {
    running.wait_for_end()?;
    let lines = lines.join().map_err(|_| anyhow!("the reader of the suite's output failed"))?;
    let cases = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>();
    cases.context("suite.py tells of its cases in another way")
}

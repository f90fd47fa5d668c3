//! A live observer beside the cases.
//!
//! Owns how it is started, waited for and ended. Must not know what it should see. Bounded by its ring, which is what it
//! may be behind, and by [`CAUGHT_UP_WITHIN`].

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::seen::Seen;
use crate::lifeline;
use crate::program::Program;

/// For what comes between two times that observer, built without optimisation, may catch up.
pub const RING: &str = "64MiB";
/// For the largest of all cases.
pub const RING_FOR_ALL: &str = "1GiB";
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(300);

/// An observer that runs.
#[derive(Debug)]
pub struct Watching {
    observer: Program,
    records: JoinHandle<Result<Seen>>,
    /// How many connections it has told the end of.
    closed: Arc<AtomicUsize>,
}

impl Watching {
    /// Starts it with a ring of this size, and waits until it sees what happens on the port.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(observer: &Path, sudo: Option<&Path>, port: u16, ring: &str) -> Result<Self> {
        let mut command = lifeline::tied(sudo, observer);
        command.args(["--port", &port.to_string(), "--ring", ring, "--json", "--frames"]);
        let mut observer = Program::start(&mut command, "observer")?;
        let closed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&closed);
        let records = observer.read_output(move |output| Seen::read(BufReader::new(output), &counter))?;
        observer.wait_for_line("watching")?;
        Ok(Self { observer, records, closed })
    }

    /// Waits until it has told the end of so many connections. False if it does not in time, as when it lost them.
    pub fn catches_up(&self, connections: usize) -> bool {
        let give_up = Instant::now() + CAUGHT_UP_WITHIN;
        while self.closed.load(Ordering::Relaxed) < connections {
            if Instant::now() >= give_up {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Ends it, and gives all that it said.
    ///
    /// # Errors
    /// If it fails, or says what docs/json.md does not know.
    pub fn end(mut self) -> Result<Seen> {
        self.observer.end_and_wait()?;
        self.records.join().map_err(|_| anyhow!("the reader of observer's output failed"))?
    }
}

//! What the observer says of itself, on standard error.
//!
//! Owns its prefix, `-q`, and that it can neither control a terminal nor fail nor hold anything up: a thread writes, so
//! that a standard error that nobody reads stops no run. Must not know records. Bounded: [`LINES_WAITING_MAX`] sayings
//! wait; further ones are counted and left out.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::escape::Escaped;
use crate::ending::GRACE;

/// Sayings that may wait for standard error to take them.
pub const LINES_WAITING_MAX: usize = 256;

/// Says things to the user. Dropping it waits until all is said, for a while.
#[derive(Debug)]
pub struct Diagnostics {
    quiet: bool,
    sayings: Option<SyncSender<String>>,
    ended: Receiver<()>,
    left_out: AtomicU64,
}

impl Diagnostics {
    /// With `quiet`, notes are left out; warnings and errors are not. Starts a thread.
    pub fn start(quiet: bool) -> Self {
        let (sayings, waiting) = sync_channel::<String>(LINES_WAITING_MAX);
        let (ending, ended) = sync_channel(1);
        let write = move || {
            for saying in waiting {
                write(&saying);
            }
            // Nobody waits where the process ends in another way.
            let _ = ending.send(());
        };
        // Without a thread nothing is said, and nobody could be told.
        let _ = thread::Builder::new().name("diagnostics".to_owned()).spawn(write);
        Self { quiet, sayings: Some(sayings), ended, left_out: AtomicU64::new(0) }
    }

    /// Leaves out notes from now on.
    pub fn be_quiet(&mut self) {
        self.quiet = true;
    }

    /// Something that is good to know.
    pub fn note(&self, said: impl Display) {
        if !self.quiet {
            self.say(said.to_string());
        }
    }

    /// Something that is missing or wrong, while the run goes on.
    pub fn warning(&self, said: impl Display) {
        self.say(format!("warning: {said}"));
    }

    /// Why something that was asked for is not done.
    pub fn error(&self, said: impl Display) {
        self.say(format!("error: {said}"));
    }

    fn say(&self, text: String) {
        let Some(sayings) = &self.sayings else { return };
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let text = match left_out {
            0 => text,
            count => format!("warning: {count} lines were left out here, since nobody read them\n{text}"),
        };
        if sayings.try_send(text).is_err() {
            self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
        }
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        drop(self.sayings.take());
        // A thread that is stuck, or that ended before, is not waited for further.
        let _ = self.ended.recv_timeout(GRACE);
    }
}

/// Writes each line with its prefix. There is nobody to tell if standard error is gone.
fn write(text: &str) {
    let mut lines = String::new();
    for line in text.lines() {
        lines.push_str(&format!("observer: {}\n", Escaped(line)));
    }
    let _ = std::io::stderr().lock().write_all(lines.as_bytes());
}

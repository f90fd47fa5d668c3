//! What the observer says of itself, on standard error.
//!
//! Owns its prefix, `-q`, and that it can neither control a terminal nor fail. Must not know records. Bounded: one
//! line at a time.

use std::fmt::Display;
use std::io::Write as _;

use super::escape::Escaped;

/// Says things to the user.
#[derive(Clone, Copy, Debug)]
pub struct Diagnostics {
    quiet: bool,
}

impl Diagnostics {
    /// With `quiet`, notes are left out; warnings and errors are not.
    pub const fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Something that is good to know.
    pub fn note(self, said: impl Display) {
        if !self.quiet {
            say(&said.to_string());
        }
    }

    /// Something that is missing or wrong, while the run goes on.
    pub fn warning(self, said: impl Display) {
        say(&format!("warning: {said}"));
    }

    /// Why something that was asked for is not done.
    pub fn error(self, said: impl Display) {
        say(&format!("error: {said}"));
    }
}

/// Writes each line with its prefix. There is nobody to tell if standard error is gone.
fn say(text: &str) {
    let mut lines = String::new();
    for line in text.lines() {
        lines.push_str(&format!("observer: {}\n", Escaped(line)));
    }
    let _ = std::io::stderr().lock().write_all(lines.as_bytes());
}

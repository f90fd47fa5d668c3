//! The colours of text output.
//!
//! Owns which role has which colour, and when colour is used at all. Must not know records. Bounded: constants.

use std::io::IsTerminal as _;

use super::append::push;
use super::escape::Mark;

/// When to use colour, as `--color` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is "dumb".
    #[default]
    Auto,
    /// Also into files and pipes, and under NO_COLOR.
    Always,
    /// Not at all.
    Never,
}

impl ColorChoice {
    /// Whether standard output gets colour.
    pub fn for_stdout(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                std::io::stdout().is_terminal()
                    && !is_set("NO_COLOR")
                    && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
            }
        }
    }
}

/// A sequence for each role; all empty without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Times, and what repeats in each line.
    pub faint: &'static str,
    /// What the client sends.
    pub client: &'static str,
    /// What the server sends.
    pub server: &'static str,
    /// A connection's beginning and end.
    pub event: &'static str,
    /// What is missing or out of order.
    pub problem: &'static str,
    /// Back to normal.
    pub reset: &'static str,
    /// Around an escape in a payload.
    pub escape: Mark,
}

impl Palette {
    /// No colour.
    pub const PLAIN: Self = Self {
        faint: "",
        client: "",
        server: "",
        event: "",
        problem: "",
        reset: "",
        escape: Mark { on: "", off: "" },
    };

    /// Of the sixteen colours that every terminal has and lets its user choose.
    pub const COLORED: Self = Self {
        faint: "\x1b[2m",
        client: "\x1b[1;36m",
        server: "\x1b[1;33m",
        event: "\x1b[1m",
        problem: "\x1b[1;31m",
        reset: "\x1b[0m",
        escape: Mark { on: "\x1b[7m", off: "\x1b[27m" },
    };

    /// With or without colour.
    pub const fn new(colored: bool) -> Self {
        if colored { Self::COLORED } else { Self::PLAIN }
    }

    /// Appends a word in the colour of a role; in none where that is empty.
    pub fn write_word(&self, out: &mut Vec<u8>, color: &str, word: &str) {
        push(out, color);
        push(out, word);
        push(out, if color.is_empty() { "" } else { self.reset });
    }
}

//! Owns the lines on standard error: their form, their rate, and that they never hold the server up.
//!
//! Must not know the chat. Peers cause lines, so lines are bounded: at most [`BURST`] at once and [`PER_SECOND`] lasting,
//! but for what faults do; at most [`QUEUE`] wait for a reader of standard error that has stopped reading. What exceeds
//! this is counted, and the count is written with the next line. A dozen kinds of lines do not pay for a logging framework with its filters and
//! spans; text from peers is passed through [`Escaped`], so that it can neither forge lines nor control a terminal.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Verbosity;
use crate::time::local_time;

/// Lines that may follow each other without pause.
const BURST: u32 = 200;
/// Lines a second once the burst is used up.
const PER_SECOND: u32 = 20;
/// Lines that wait while standard error does not take them.
const QUEUE: usize = 1024;
/// How long the end of the server waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes lines to standard error from a thread of its own.
pub(crate) struct Log {
    verbosity: Verbosity,
    lines: SyncSender<String>,
    finished: Mutex<Receiver<()>>,
    allowance: Mutex<Allowance>,
    dropped_since_line: AtomicU64,
    dropped: AtomicU64,
}

/// A token bucket.
struct Allowance {
    tokens: u32,
    refilled: Instant,
}

impl Log {
    pub(crate) fn start(verbosity: Verbosity) -> std::io::Result<Self> {
        let (lines, queue) = mpsc::sync_channel::<String>(QUEUE);
        let (finish, finished) = mpsc::sync_channel::<()>(1);
        thread::Builder::new().name("log".into()).spawn(move || {
            for line in queue {
                if line.is_empty() {
                    let _ = finish.try_send(());
                    continue;
                }
                // A closed standard error is no reason to end a server.
                let _ = std::io::stderr().lock().write_all(line.as_bytes());
            }
        })?;
        Ok(Self {
            verbosity,
            lines,
            finished: Mutex::new(finished),
            allowance: Mutex::new(Allowance { tokens: BURST, refilled: Instant::now() }),
            dropped_since_line: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    /// Something was refused, dropped or shed.
    pub(crate) fn warning(&self, line: fmt::Arguments<'_>) {
        self.write(Verbosity::Quiet, "warning", line);
    }

    /// The server's own life.
    pub(crate) fn notice(&self, line: fmt::Arguments<'_>) {
        self.write(Verbosity::Normal, "notice", line);
    }

    /// Each client's life.
    pub(crate) fn detail(&self, line: fmt::Arguments<'_>) {
        self.write(Verbosity::Verbose, "detail", line);
    }

    /// What was broken on purpose. These lines have no rate, since a test needs each of them.
    pub(crate) fn fault(&self, line: fmt::Arguments<'_>) {
        self.queue("fault", line);
    }

    /// Lines dropped so far.
    pub(crate) fn lines_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the lines so far are written, for at most a second.
    pub(crate) fn flush(&self) {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let mut marker = String::new();
        while let Err(TrySendError::Full(line)) = self.lines.try_send(marker) {
            if Instant::now() >= deadline {
                return;
            }
            marker = line;
            thread::sleep(Duration::from_millis(10));
        }
        match finished.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn write(&self, least: Verbosity, level: &str, line: fmt::Arguments<'_>) {
        if self.verbosity < least {
            return;
        }
        if !self.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            self.drop_one();
            return;
        }
        self.queue(level, line);
    }

    fn queue(&self, level: &str, line: fmt::Arguments<'_>) {
        let left_out = self.dropped_since_line.swap(0, Ordering::Relaxed);
        let time = local_time();
        let text = if left_out == 0 {
            format!("{time} {level}: {line}\n")
        } else {
            format!("{time} warning: {left_out} lines were left out here\n{time} {level}: {line}\n")
        };
        if self.lines.try_send(text).is_err() {
            self.dropped_since_line.fetch_add(left_out, Ordering::Relaxed);
            self.drop_one();
        }
    }

    fn drop_one(&self) {
        self.dropped_since_line.fetch_add(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.refilled).as_millis() * u128::from(PER_SECOND) / 1000;
        if earned > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            self.refilled = now;
        }
        let Some(left) = self.tokens.checked_sub(1) else { return false };
        self.tokens = left;
        true
    }
}

/// Text from a peer, quoted, with everything escaped that does not print as itself: control characters, line
/// separators, changes of direction. At most 256 characters are shown.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST_CHARACTERS: usize = 256;
        formatter.write_str("\"")?;
        for character in self.0.chars().take(MOST_CHARACTERS) {
            write!(formatter, "{}", character.escape_debug())?;
        }
        formatter.write_str(if self.0.chars().nth(MOST_CHARACTERS).is_some() { "\"…" } else { "\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_peers_cannot_forge_lines_or_control_the_terminal() {
        let hostile = "a\nb\r\x1b[2J\u{9b}31m\u{202e}\u{2028}\u{200b}\"猪";
        assert_eq!(Escaped(hostile).to_string(), r#""a\nb\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{200b}\"猪""#);
        assert_eq!(Escaped(&"x".repeat(1000)).to_string().chars().count(), 256 + 3);
    }

    #[test]
    fn a_flood_of_lines_is_cut_and_the_allowance_comes_back() {
        let start = Instant::now();
        let mut allowance = Allowance { tokens: BURST, refilled: start };
        assert_eq!((0..10_000).filter(|_| allowance.take(start)).count(), BURST as usize);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..10_000).filter(|_| allowance.take(later)).count(), 2 * PER_SECOND as usize);
    }
}

//! When a run is to end: Ctrl-C, SIGTERM, or because its time is over.
//!
//! Owns signals and the deadline, and how long a stuck output is waited for afterwards. Must not know what runs.
//! Bounded: a second signal ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::EXIT_FORCED;

/// How long standard output and standard error may take nothing once the end was asked for.
pub const GRACE: Duration = Duration::from_secs(2);

/// Signals within this time are one: `timeout`, npm and supervisors send one to the process and one to its group.
const ONE_SIGNAL: Duration = Duration::from_millis(400);

/// The end of a run, from the moment at which signals are caught.
#[derive(Debug)]
pub struct Ending {
    interrupt: Signal,
    terminate: Signal,
    deadline: Option<Instant>,
    asked: bool,
}

impl Ending {
    /// Catches signals, and sets the deadline. Needs a tokio runtime with its I/O and time drivers on.
    ///
    /// # Errors
    /// If signals cannot be caught.
    pub fn await_from_now(duration: Option<Duration>) -> anyhow::Result<Self> {
        const CONTEXT: &str = "signals cannot be caught";
        let first_at = Arc::new(AtomicU64::new(0));
        for number in [SIGINT, SIGTERM] {
            let first_at = Arc::clone(&first_at);
            // SAFETY: the action reads a clock, compares an atomic and may end the process, all of which is
            // async-signal-safe.
            unsafe { low_level::register(number, move || force_end_unless_first(&first_at)) }
                .context(CONTEXT)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context(CONTEXT)?,
            terminate: signal(SignalKind::terminate()).context(CONTEXT)?,
            // A time that no clock reaches is no deadline.
            deadline: duration.and_then(|duration| Instant::now().checked_add(duration)),
            asked: false,
        })
    }

    /// Waits until the end is asked for; from then on it returns at once. Dropping the future loses nothing.
    pub async fn asked(&mut self) {
        if !self.asked {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                () = at(self.deadline) => {}
            }
            self.asked = true;
        }
    }

    /// Waits until the end was asked for, and then until `progress` has stood still for [`GRACE`].
    pub async fn grace_is_over(&mut self, progress: &AtomicU64) {
        self.asked().await;
        loop {
            let before = progress.load(Ordering::Relaxed);
            sleep(GRACE).await;
            if progress.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// Waits for a time; for ever where there is none.
pub async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn force_end_unless_first(first_at: &AtomicU64) {
    // The clock exists on every Linux; without it every signal would be the first.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    if let Err(first) = first_at.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed)
        && Duration::from_nanos(now.saturating_sub(first)) >= ONE_SIGNAL
    {
        low_level::exit(EXIT_FORCED.into());
    }
}

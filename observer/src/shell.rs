//! What both run loops share: the engine with its output, signals, and the end of a run.
//!
//! Owns the moments at which output is handed over and given up. Must not know where packets come from. Bounded:
//! while standard output takes nothing, the loops wait here and take nothing either.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use observer_core::engine::{Config, Engine, Report};
use observer_core::record::{CaptureCounters, Summary};
use observer_core::time::Time;
use observer_core::{Event, Limits};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::cli::{EXIT_FORCED, Format, Request};
use crate::output::diagnostics::Diagnostics;
use crate::output::palette::Palette;
use crate::output::sink::{Layout, Output};
use crate::output::summary;
use crate::output::text::Text;
use crate::output::writer::{BLOCK_BYTES, Ended, Writer};

/// How long standard output may take nothing once the end was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// A run under way.
pub struct Shell {
    engine: Engine,
    output: Output,
    way_out: WayOut,
    /// Signals that ask for the end.
    pub signals: Signals,
    /// For what is to be said on standard error.
    pub diagnostics: Diagnostics,
}

/// The way to standard output, and how far it is open.
struct WayOut {
    writer: Option<Writer>,
    gave_up: bool,
}

impl Shell {
    /// Starts the writer and catches signals. Needs a tokio runtime with its I/O and time drivers on.
    pub fn start(request: &Request, ports: Option<&[u16]>, report: Report) -> anyhow::Result<Self> {
        let layout = match request.format {
            Format::Json => Layout::Json,
            Format::Text => {
                let palette = Palette::new(request.color.for_stdout());
                Layout::Text(Box::new(Text::new(request.time, palette, request.verbose > 0)))
            }
        };
        let ports = ports.map(|ports| ports.iter().copied().collect::<BTreeSet<u16>>());
        let config = Config { limits: Limits::default(), ports, report, frames: request.frames };
        Ok(Self {
            engine: Engine::new(config),
            output: Output::new(layout, request.count),
            way_out: WayOut { writer: Some(Writer::start()?), gave_up: false },
            signals: Signals::catch()?,
            diagnostics: Diagnostics::new(request.quiet),
        })
    }

    /// Decodes one event. Events after the last message that was asked for are not looked at.
    pub fn handle(&mut self, event: Event<'_>) {
        if !self.output.has_enough() {
            self.engine.handle(event, &mut self.output);
        }
    }

    /// Tells the engine that it is `now`, for what ends by the passing of time alone.
    pub fn handle_timeout(&mut self, now: Time) {
        if !self.output.has_enough() {
            self.engine.handle_timeout(now, &mut self.output);
        }
    }

    /// The parts that a loop needs at the same time: what decodes, and what ends it.
    pub fn split(&mut self) -> (impl FnMut(Event<'_>), &mut Signals) {
        let Self { engine, output, signals, .. } = self;
        let handle = |event: Event<'_>| {
            if !output.has_enough() {
                engine.handle(event, output);
            }
        };
        (handle, signals)
    }

    /// Whether there is no reason to go on: enough was seen, or nobody takes it.
    pub fn is_over(&self) -> bool {
        self.output.has_enough() || self.way_out.writer.is_none()
    }

    /// Hands over what was laid out, if it is much.
    pub async fn deliver_blocks(&mut self) -> anyhow::Result<()> {
        if self.output.waiting_bytes() >= BLOCK_BYTES { self.deliver().await } else { Ok(()) }
    }

    /// Hands over what was laid out.
    pub async fn deliver(&mut self) -> anyhow::Result<()> {
        if self.output.waiting_bytes() == 0 {
            return Ok(());
        }
        let Some(writer) = &self.way_out.writer else {
            self.output.take(Vec::new());
            return Ok(());
        };
        let sent = tokio::select! {
            sent = writer.send(|| self.output.take(writer.empty_block())) => sent,
            () = self.signals.grace_is_over() => {
                self.way_out.writer = None;
                self.way_out.gave_up = true;
                return Ok(());
            }
        };
        if sent.is_err() {
            self.close_output().await?;
        }
        Ok(())
    }

    /// Ends the run: what is unfinished, the summary, and all output. `also_missing` is what only the capture knows.
    pub async fn finish(
        mut self,
        capture: Option<CaptureCounters>,
        also_missing: &[String],
    ) -> anyhow::Result<Option<Summary>> {
        self.engine.finish(capture, &mut self.output);
        self.deliver().await?;
        self.close_output().await?;
        let Some(summary) = self.output.summary() else { return Ok(None) };
        if self.way_out.gave_up {
            self.diagnostics.warning("standard output took nothing any more: its last lines are lost");
        }
        let words = summary::words(summary);
        for line in words.seen {
            self.diagnostics.note(line);
        }
        let missing: Vec<_> = words.missing.iter().chain(also_missing).collect();
        for line in &missing {
            self.diagnostics.warning(line);
        }
        if missing.is_empty() && (summary.connections > 0 || summary.capture.is_some()) {
            self.diagnostics.note("nothing is missing");
        }
        Ok(Some(summary.clone()))
    }

    /// Waits until everything handed over is written.
    async fn close_output(&mut self) -> anyhow::Result<()> {
        let Some(writer) = self.way_out.writer.take() else { return Ok(()) };
        let ended = tokio::select! {
            ended = writer.finish() => ended,
            () = self.signals.grace_is_over() => {
                self.way_out.gave_up = true;
                return Ok(());
            }
        };
        match ended {
            Ended::Done => Ok(()),
            Ended::Closed => {
                // Who reads no more wants to know no more either.
                self.diagnostics = Diagnostics::new(true);
                Err(ReaderIsGone.into())
            }
            Ended::Failed(error) => {
                Err(error).context("standard output cannot be written; is the disk full? The run ends here")
            }
        }
    }
}

/// The other end of standard output was closed: a reason to end, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderIsGone;

impl std::fmt::Display for ReaderIsGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for ReaderIsGone {}

/// Ctrl-C and SIGTERM. The first one asks for the end; from then on a second one ends the process at once.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    asked_at: Option<Instant>,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        const CONTEXT: &str = "signals cannot be caught";
        let asked = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // In this order: the handler that ends the process must find the flag as the signal before left it.
            signal_hook::flag::register_conditional_shutdown(number, EXIT_FORCED.into(), Arc::clone(&asked))
                .context(CONTEXT)?;
            signal_hook::flag::register(number, Arc::clone(&asked)).context(CONTEXT)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context(CONTEXT)?,
            terminate: signal(SignalKind::terminate()).context(CONTEXT)?,
            asked_at: None,
        })
    }

    /// Waits until the end is asked for. Dropping the future loses nothing.
    pub async fn end_asked(&mut self) {
        if self.asked_at.is_none() {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            self.asked_at = Some(Instant::now());
        }
    }

    async fn grace_is_over(&mut self) {
        self.end_asked().await;
        if let Some(asked_at) = self.asked_at {
            sleep_until(asked_at + GRACE).await;
        }
    }
}

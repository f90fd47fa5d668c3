//! What both run loops share: the engine with its output, and the end of a run.
//!
//! Owns the moments at which output is handed over and given up. Must not know where packets come from. Bounded:
//! while standard output takes nothing, the loops wait here and take nothing either.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use observer_core::engine::{Config, Engine, Report};
use observer_core::flow::Verifier;
use observer_core::record::{CaptureCounters, Summary};
use observer_core::time::{MonotonicTime, Time};
use observer_core::{Event, Limits};

use crate::cli::{Format, Request, Task};
use crate::ending::Ending;
use crate::lines::Lines;
use crate::output::diagnostics::Diagnostics;
use crate::output::explain::Explain;
use crate::output::folded::Folded;
use crate::output::listing::Listing;
use crate::output::palette::Palette;
use crate::output::sink::{Layout, Output};
use crate::output::text::{Detail, Text};
use crate::output::verdict::{Verdicts, Verification};
use crate::output::writer::{BLOCK_BYTES, Ended, Writer};
use crate::output::{packets, summary};

/// A run under way.
pub struct Shell {
    engine: Engine,
    output: Output,
    way_out: WayOut,
    /// When the run is to end.
    pub ending: Ending,
    /// For what is to be said on standard error.
    pub diagnostics: Diagnostics,
}

/// The way to standard output, and how far it is open.
struct WayOut {
    writer: Option<Writer>,
    written: Arc<AtomicU64>,
    gave_up: bool,
}

impl Shell {
    /// Starts the writers, catches signals and sets the deadline. Needs a tokio runtime with its I/O and time drivers on.
    pub fn start(request: &Request, ports: Option<&[u16]>, report: Report) -> anyhow::Result<Self> {
        let palette = Palette::new(request.color.for_stdout());
        let rules = || Arc::clone(&request.rules);
        let mut layout = match (request.task, request.format) {
            (Task::Verify, Format::Json) => Layout::Verdicts(Box::new(Verdicts::json(rules()))),
            (Task::Verify, Format::Junit) => Layout::Verdicts(Box::new(Verdicts::junit(rules()))),
            (Task::Verify, _) => Layout::Verdicts(Box::new(Verdicts::text(rules(), request.time, palette))),
            (Task::List, Format::Json) => Layout::Listing(Box::new(Listing::json())),
            (Task::List, _) => Layout::Listing(Box::new(Listing::text(request.time, palette))),
            (_, Format::Json) => Layout::Json { receipts: request.receipts },
            (_, Format::Text | Format::Junit) => {
                // Of what is shown as packets already, messages need no bytes.
                let none = packets::Layout::default();
                let (packet_bytes, payload_bytes) =
                    if request.packets { (request.bytes, none) } else { (none, request.bytes) };
                let detail = Detail {
                    verbose: request.verbose > 0,
                    packet_bytes,
                    payload_bytes,
                    previews: request.folds,
                };
                let text = Text::new(request.time, palette, detail);
                if request.folds {
                    Layout::Folded(Box::new(Folded::new(text, palette, rules())))
                } else {
                    Layout::Text(Box::new(text))
                }
            }
            (_, Format::Explain) => Layout::Explain(Box::new(Explain::new(
                request.language,
                request.time,
                palette,
                request.bytes,
            ))),
        };
        let verifier = matches!(layout, Layout::Verdicts(_) | Layout::Folded(_) | Layout::Explain(_))
            .then(|| Verifier::new(rules()));
        let ports = ports.map(|ports| ports.iter().copied().collect::<BTreeSet<u16>>());
        let config = Config {
            limits: Limits::default(),
            ports,
            report,
            frames: request.frames,
            wire: request.wire,
            packets: request.packets,
            receipts: request.receipts || verifier.is_some(),
            rules: rules(),
        };
        let writer = Writer::start()?;
        if let (Layout::Verdicts(verdicts), Report::Upgrades) = (&mut layout, report) {
            verdicts.need_upgrades();
        }
        Ok(Self {
            engine: Engine::new(config),
            output: Output::new(
                layout,
                request.filter.clone(),
                request.window.gate(),
                verifier,
                request.count,
            ),
            way_out: WayOut { written: writer.written(), writer: Some(writer), gave_up: false },
            ending: Ending::await_from_now(request.duration)?,
            diagnostics: Diagnostics::start(request.quiet),
        })
    }

    /// Decodes one event. Events after the last message that was asked for are not looked at.
    pub fn handle(&mut self, event: Event<'_>) {
        if !self.output.has_enough() {
            self.engine.handle(event, &mut self.output);
            self.output.end_packet();
        }
    }

    /// Tells the engine and whoever judges that it is `now`, for what ends by the passing of time alone.
    pub fn handle_timeout(&mut self, now: Time) {
        if !self.output.has_enough() {
            self.engine.handle_timeout(now, &mut self.output);
            self.output.handle_timeout(now);
            self.output.end_packet();
        }
    }

    /// From now on nothing new is judged. Returns whether a verdict is waited for.
    pub fn close_down(&mut self) -> bool {
        !self.is_over() && self.output.close_down()
    }

    /// When whoever judges has to be told the time, if no packet does before.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        self.output.next_timeout()
    }

    /// The capture counts what it loses: whoever judges need not fear that more is missing.
    pub fn count_on_losses(&mut self) {
        self.output.count_on_losses();
    }

    /// Between what was decoded and what comes next, as between two files, something may be missing.
    pub fn note_hole(&mut self) {
        self.output.note_hole();
    }

    /// The input is damaged: a verdict on it is none on all of it.
    pub fn note_damage(&mut self) {
        self.output.note_damage();
    }

    /// What the run came to, once it is over, where it is judged.
    pub const fn verification(&self) -> Option<&Verification> {
        self.output.verification()
    }

    /// The parts that a loop needs at the same time: what decodes, and what ends it. What decodes says to stop where
    /// so much is laid out that it should be delivered first.
    pub fn split(&mut self) -> (impl FnMut(Event<'_>) -> ControlFlow<()>, &mut Ending) {
        let Self { engine, output, ending, .. } = self;
        let handle = |event: Event<'_>| {
            if !output.has_enough() {
                engine.handle(event, output);
                output.end_packet();
            }
            if output.waiting_bytes() >= BLOCK_BYTES {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        (handle, ending)
    }

    /// Where records go that no packet tells of.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How many connections were told of that were open before.
    pub const fn connections_listed(&self) -> u64 {
        self.output.connections_listed()
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
        let length = self.output.waiting_bytes();
        let sent = tokio::select! {
            sent = writer.send(length, || self.output.take(writer.empty_block())) => sent,
            () = self.ending.grace_is_over(&self.way_out.written) => {
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

    /// Ends the run: what is unfinished, the summary, and all output. `also_missing` is what only the capture knows;
    /// `is_whole` says whether all input was read.
    pub async fn finish(
        &mut self,
        capture: Option<CaptureCounters>,
        also_missing: &[String],
        is_whole: bool,
    ) -> anyhow::Result<Option<Summary>> {
        self.engine.finish(capture, &mut self.output);
        self.close(also_missing, is_whole, true).await
    }

    /// Ends the run of an input that had its own summary.
    pub async fn finish_lines(
        &mut self,
        lines: &mut Lines,
        is_whole: bool,
    ) -> anyhow::Result<Option<Summary>> {
        self.output.note_lost(lines.lost_untimed());
        let has_account = lines.has_summary();
        lines.finish(&mut self.output);
        self.close(&[], is_whole, has_account).await
    }

    /// `has_account`: the summary counts what was seen.
    async fn close(
        &mut self,
        also_missing: &[String],
        is_whole: bool,
        has_account: bool,
    ) -> anyhow::Result<Option<Summary>> {
        self.deliver().await?;
        self.close_output().await?;
        let Some(summary) = self.output.summary() else { return Ok(None) };
        let words = summary::words(summary);
        if has_account {
            for line in words.seen {
                self.diagnostics.note(line);
            }
        }
        for line in self.output.verification().map_or(&[][..], Verification::advice) {
            self.diagnostics.note(line);
        }
        let given_up = summary::given_up(self.output.given_up());
        let missing: Vec<_> = words.missing.iter().chain(also_missing).chain(&given_up).collect();
        for line in &missing {
            self.diagnostics.warning(line);
        }
        if self.way_out.gave_up {
            bail!("standard output took nothing any more: what was seen last is not shown");
        }
        if missing.is_empty() && is_whole && (summary.connections > 0 || summary.capture.is_some()) {
            let rest = if summary.connections_joined > 0 { "else " } else { "" };
            self.diagnostics.note(format!("nothing {rest}was missed"));
        }
        Ok(Some(summary.clone()))
    }

    /// Waits until everything handed over is written.
    async fn close_output(&mut self) -> anyhow::Result<()> {
        let Some(writer) = self.way_out.writer.take() else { return Ok(()) };
        let ended = tokio::select! {
            ended = writer.finish() => ended,
            () = self.ending.grace_is_over(&self.way_out.written) => {
                self.way_out.gave_up = true;
                return Ok(());
            }
        };
        match ended {
            Ended::Done => Ok(()),
            Ended::Closed => {
                // Who reads no more wants to know no more either.
                self.diagnostics.be_quiet();
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

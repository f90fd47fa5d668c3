//! `observer watch`: the run loop over the kernel's packets.
//!
//! Owns the order of start and end, the mapping of captured packets to the engine's, and what is said while running.
//! Must not know formats, nor how the kernel is asked. Bounded: `BATCH_EVENTS` events are decoded before output and
//! signals get their turn.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Context as _;
use observer_core::engine::Report;
use observer_core::packet::{ExistingConnection, Socket};
use observer_core::record::{CaptureCounters, Peer};
use observer_core::time::MonotonicTime;
use observer_core::{Event, Limits, Packet};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use crate::capture::{
    CapturedPacket, Counter, Counters, DIRECTION_EGRESS, Existing, HalfClosed, LiveCapture, Options,
    PacketStream, Side,
};
use crate::cli::{EXIT_OK, Format, LiveOptions, Request};
use crate::ending::at;
use crate::interfaces::{Interface, InterfaceNames, interface_index, own_netns_cookie};
use crate::output::diagnostics::Diagnostics;
use crate::shell::Shell;
use crate::silence::{self, Sockets, Watched};
use crate::wall_clock::WallClock;

/// Events decoded at once; the largest carry 64 KiB.
const BATCH_EVENTS: usize = 256;
/// Without an event for so long after the start, the user is told why.
const SILENCE: Duration = Duration::from_secs(3);
/// How long verdicts on what is under way are waited for at the end, and how often they are looked for.
const VERDICTS_WITHIN: Duration = Duration::from_secs(5);
const VERDICTS_PAUSE: Duration = Duration::from_millis(20);
/// How often clocks and loss counters are looked at.
const TICK: Duration = Duration::from_secs(1);
/// What is not in the ring so long after it passed was not seen: the kernel programs take microseconds.
const JUDGING_MARGIN_NS: u64 = 100_000_000;
/// So long after its time it is looked whether something did not happen; more than the margin.
const JUDGING_DELAY: Duration = Duration::from_millis(150);
/// Between two warnings of loss.
const LOSS_WARNING_PAUSE: Duration = Duration::from_secs(5);

/// Watches until the end is asked for. Returns the exit code. Call it before the process has a second thread.
pub fn run(request: &Request, live: &LiveOptions) -> anyhow::Result<u8> {
    let ports = request.ports.clone().unwrap_or_default();
    let options = Options {
        ports: ports.clone(),
        side: live.side,
        snap_length_bytes: request.snap_length,
        no_acks: live.no_acks,
        interface_index: live.interface.as_deref().map(interface_index).transpose()?,
        // An interface's name is one of this network namespace.
        netns_cookie: live.interface.as_ref().and_then(|_| own_netns_cookie()),
        ring_bytes: live.ring_bytes,
        debug_log: request.verbose > 1,
        cgroup: live.cgroup.clone(),
    };
    let names = InterfaceNames::of_this_namespace();
    let capture = LiveCapture::start(&options)?;
    let existing = Existing::list(&options, &capture, Limits::default().connections);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the live capture")?;
    let watch = Watch {
        ports: &ports,
        live,
        names,
        clock: WallClock::sample(),
        socket_role: match live.side {
            Side::Server => Peer::Server,
            Side::Client => Peer::Client,
        },
    };
    let ended = runtime.block_on(watch.run(request, capture, &existing));
    // The output thread may be stuck in a write, and must not be waited for.
    runtime.shutdown_background();
    ended
}

/// What the loop knows besides the capture and the shell.
struct Watch<'a> {
    ports: &'a [u16],
    live: &'a LiveOptions,
    names: InterfaceNames,
    clock: WallClock,
    socket_role: Peer,
}

impl Watch<'_> {
    async fn run(
        mut self,
        request: &Request,
        capture: LiveCapture,
        existing: &Existing,
    ) -> anyhow::Result<u8> {
        // The kernel chose the ports already, by the socket's own: behind NAT the packets show others.
        let mut shell = Shell::start(request, None, Report::All)?;
        shell.count_on_losses();
        self.announce(&capture, &shell.diagnostics);
        let is_below_root_cgroup = capture.is_below_root_cgroup();
        let mut stream = PacketStream::new(capture).context("the ring buffer cannot be waited for")?;
        self.follow_existing(existing, &mut shell, &mut stream).await?;
        announce_existing(existing, &shell, request);
        let mut timers = Timers::start();
        let mut losses = LossWarnings::new();
        let mut quiet_since = None;
        while !shell.is_over() {
            timers.judging = shell.next_timeout().map(|time| self.judging_at(time));
            match self.step(&mut shell, &mut stream, &mut timers).await? {
                Step::Decoded => {
                    timers.silence_ends = None;
                    timers.gathering = None;
                    quiet_since = None;
                    shell.deliver().await?;
                    // Where the ring is never empty nothing else would let signals and timers have their turn.
                    tokio::task::yield_now().await;
                }
                Step::Judge => {
                    self.judge(&mut shell, &mut stream).await?;
                    shell.deliver().await?;
                }
                Step::Tick => {
                    self.clock = WallClock::sample();
                    // Packets tell the engine the time. Where a whole tick passed without one, the engine is told when
                    // that tick began: what may wait in the ring by now is younger.
                    if let Some(time) = quiet_since.replace(self.clock.now()) {
                        shell.handle_timeout(time);
                        shell.deliver().await?;
                    }
                    losses.look(&stream.capture().counters(), &shell.diagnostics);
                }
                // On a thread of its own: a machine may have many sockets.
                Step::Silent => {
                    timers.gathering = Some(tokio::task::spawn_blocking(Sockets::gather));
                }
                Step::Gathered(sockets) => {
                    let counters = stream.capture().counters();
                    let watched = Watched {
                        ports: self.ports,
                        side: self.live.side,
                        interface: self.live.interface.as_deref(),
                        is_below_root_cgroup,
                        packets_filtered: counters.get(Counter::Filtered),
                        packets_lost: counters.losses(),
                    };
                    shell.diagnostics.note(format!("nothing seen for {} seconds:", SILENCE.as_secs()));
                    for sentence in silence::explain(&watched, &sockets) {
                        shell.diagnostics.note(sentence);
                    }
                }
                Step::End => {
                    self.await_verdicts(&mut shell, &mut stream).await?;
                    break;
                }
            }
        }
        self.end(shell, stream.into_capture()).await
    }

    fn announce(&self, capture: &LiveCapture, diagnostics: &Diagnostics) {
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        let whose = match self.live.side {
            Side::Server => "servers on",
            Side::Client => "clients of",
        };
        let interface = self.live.interface.as_deref().unwrap_or("any interface");
        let noun = if ports.len() == 1 { "port" } else { "ports" };
        diagnostics.note(format!("watching {whose} {noun} {} on {interface}; Ctrl-C ends", ports.join(", ")));
        if self.live.interface.is_some() && !capture.has_netns_cookies() {
            diagnostics.note(
                "this kernel does not tell network namespaces apart: interfaces of the same number in others are \
                 watched too",
            );
        }
        if capture.is_below_root_cgroup() {
            let path = capture.cgroup_path().map(|path| path.display().to_string()).unwrap_or_default();
            diagnostics.warning(format!("only sockets in the cgroup {path} and below it are seen"));
        }
    }

    /// Tells the engine of the connections that were open before, and decodes what was captured until they were listed.
    async fn follow_existing(
        &mut self,
        existing: &Existing,
        shell: &mut Shell,
        stream: &mut PacketStream,
    ) -> anyhow::Result<()> {
        let (local, remote) = match self.socket_role {
            Peer::Server => (Peer::Server, Peer::Client),
            Peer::Client => (Peer::Client, Peer::Server),
        };
        let time = self.clock.time(existing.boot_time_ns);
        for socket in &existing.sockets {
            shell.handle(Event::ExistingConnection(ExistingConnection {
                time,
                cookie: socket.cookie,
                netns_cookie: socket.netns_cookie,
                local: socket.local,
                remote: socket.remote,
                role: local,
                ended_by: socket.half_closed.map(|half_closed| match half_closed {
                    HalfClosed::ByLocal => local,
                    HalfClosed::ByRemote => remote,
                }),
            }));
        }
        self.decode_until(existing.boot_time_ns, shell, stream).await?;
        shell.handle_timeout(time);
        shell.deliver().await
    }

    /// Decodes all that was captured until then, where the ring still holds it.
    async fn decode_until(
        &mut self,
        boot_time_ns: u64,
        shell: &mut Shell,
        stream: &mut PacketStream,
    ) -> anyhow::Result<()> {
        loop {
            let mut is_past = false;
            let (mut handle, _) = shell.split();
            let drained = stream.capture_mut().drain_packets(BATCH_EVENTS, |packet| {
                is_past |= packet.header.boot_time_ns > boot_time_ns;
                self.decode(&packet, &mut handle)
            });
            drop(handle);
            shell.deliver().await?;
            if drained.emptied || is_past || shell.is_over() {
                return Ok(());
            }
        }
    }

    /// When to look whether something did not happen in time.
    fn judging_at(&self, time: MonotonicTime) -> Instant {
        let wait = Duration::from_nanos(time.0.saturating_sub(self.clock.now().monotonic.0));
        // What no clock reaches is never.
        Instant::now().checked_add(wait + JUDGING_DELAY).unwrap_or_else(Instant::now)
    }

    /// Tells whoever judges the time, once all that was captured until then is decoded.
    async fn judge(&mut self, shell: &mut Shell, stream: &mut PacketStream) -> anyhow::Result<()> {
        let now = self.clock.now().monotonic.0;
        self.decode_until(now, shell, stream).await?;
        shell.handle_timeout(self.clock.time(now.saturating_sub(JUDGING_MARGIN_NS)));
        Ok(())
    }

    /// What is under way when the end is asked for may come to its end, so that a run on a busy chat is not inconclusive
    /// for what happened to be said last.
    async fn await_verdicts(&mut self, shell: &mut Shell, stream: &mut PacketStream) -> anyhow::Result<()> {
        let until = Instant::now() + VERDICTS_WITHIN;
        // What was captured until the end was asked for begins what it begins.
        self.judge(shell, stream).await?;
        while shell.close_down() && Instant::now() < until {
            sleep(VERDICTS_PAUSE).await;
            self.judge(shell, stream).await?;
        }
        Ok(())
    }

    /// Waits for what comes first.
    async fn step(
        &mut self,
        shell: &mut Shell,
        stream: &mut PacketStream,
        timers: &mut Timers,
    ) -> anyhow::Result<Step> {
        let (mut handle, ending) = shell.split();
        let decode = |packet: CapturedPacket<'_>| self.decode(&packet, &mut handle);
        tokio::select! {
            biased;
            () = ending.asked() => Ok(Step::End),
            _ = timers.tick.tick() => Ok(Step::Tick),
            () = at(timers.judging) => Ok(Step::Judge),
            () = at(timers.silence_ends) => {
                timers.silence_ends = None;
                Ok(Step::Silent)
            }
            sockets = gathered(&mut timers.gathering) => {
                timers.gathering = None;
                Ok(Step::Gathered(sockets.context("this machine's sockets cannot be looked at")?))
            }
            batch = stream.next_batch(BATCH_EVENTS, decode) => {
                batch.context("the ring buffer can no longer be waited for")?;
                Ok(Step::Decoded)
            }
        }
    }

    fn decode(
        &mut self,
        captured: &CapturedPacket<'_>,
        handle: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let header = &captured.header;
        let interface = self.names.known(header.interface_index, header.netns_cookie);
        if let Some(Interface { index, new_name: Some(name) }) = &interface {
            // Whether to stop is asked after the packet.
            let _ = handle(Event::Interface { index: *index, name });
        }
        handle(Event::Packet(Packet {
            time: self.clock.time(header.boot_time_ns),
            data: captured.data,
            length: header.packet_length,
            rest_lost: captured.rest_lost,
            interface: interface.map(|interface| interface.index),
            socket: Some(Socket {
                cookie: header.socket_cookie,
                netns_cookie: (header.netns_cookie != 0).then_some(header.netns_cookie),
                local: header.local(),
                remote: header.remote(),
                role: self.socket_role,
                outgoing: header.direction == DIRECTION_EGRESS,
            }),
            losses: header.losses,
        }))
    }

    /// Detaches, decodes what the ring still holds, and ends the run.
    async fn end(mut self, mut shell: Shell, mut capture: LiveCapture) -> anyhow::Result<u8> {
        capture.detach();
        loop {
            let (mut handle, _) = shell.split();
            let drained = capture.drain_packets(BATCH_EVENTS, |packet| self.decode(&packet, &mut handle));
            drop(handle);
            shell.deliver().await?;
            if drained.emptied {
                break;
            }
        }
        let (mut handle, _) = shell.split();
        // Few packets are incomplete, so that there is no need to stop between them.
        capture.finish_packets(|packet| _ = self.decode(&packet, &mut handle));
        drop(handle);
        let counters = capture.counters();
        let mut also_missing = Vec::new();
        for (count, what) in [
            (capture.piece_statistics().pieces_dropped, "pieces of packets whose beginning was lost"),
            (
                capture.malformed_events(),
                "events of the kernel programs that made no sense, which is a defect",
            ),
        ] {
            if count > 0 {
                also_missing.push(format!("{count} {what}"));
            }
        }
        if !counters.is_balanced() {
            also_missing.push(format!("the kernel programs' counters do not add up: {counters}"));
        }
        shell.finish(Some(capture_counters(&counters)), &also_missing, true).await?;
        Ok(shell.verification().map_or(EXIT_OK, |verification| verification.conclusion().exit_code()))
    }
}

/// Says of the connections that were open before how many there are, and why there may be more.
fn announce_existing(existing: &Existing, shell: &Shell, request: &Request) {
    let listed = shell.connections_listed();
    if listed > 0 {
        let noun = if listed == 1 { "connection that was" } else { "connections that were" };
        let hint =
            if request.format == Format::Text && request.verbose == 0 { "; -v lists them" } else { "" };
        shell.diagnostics.note(format!("following {listed} {noun} open before{hint}"));
    }
    for shortfall in &existing.shortfalls {
        shell.diagnostics.note(format!(
            "of connections that were open before, some may be unknown until their first packet: {shortfall}"
        ));
    }
}

enum Step {
    Decoded,
    Judge,
    Tick,
    Silent,
    Gathered(Sockets),
    End,
}

struct Timers {
    /// Until the first event.
    silence_ends: Option<Instant>,
    /// While it is found out why.
    gathering: Option<JoinHandle<Sockets>>,
    /// While something is waited for that has to happen in time.
    judging: Option<Instant>,
    tick: Interval,
}

impl Timers {
    fn start() -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { silence_ends: Some(Instant::now() + SILENCE), gathering: None, judging: None, tick }
    }
}

/// Waits for what is gathered; for ever where nothing is.
async fn gathered(gathering: &mut Option<JoinHandle<Sockets>>) -> Result<Sockets, JoinError> {
    match gathering {
        Some(gathering) => gathering.await,
        None => std::future::pending().await,
    }
}

/// Tells of losses while they happen.
struct LossWarnings {
    told: u64,
    silent_until: Instant,
}

impl LossWarnings {
    fn new() -> Self {
        Self { told: 0, silent_until: Instant::now() }
    }

    fn look(&mut self, counters: &Counters, diagnostics: &Diagnostics) {
        let lost = counters.running_losses.max(counters.losses());
        if lost <= self.told || Instant::now() < self.silent_until {
            return;
        }
        self.told = lost;
        self.silent_until = Instant::now() + LOSS_WARNING_PAUSE;
        let reasons: Vec<_> = counters
            .iter()
            .filter(|(counter, count)| {
                *count > 0 && (Counter::LOSSES.contains(counter) || *counter == Counter::CapturedPartly)
            })
            .map(|(counter, count)| format!("{} {count}", counter.name()))
            .collect();
        let reasons = reasons.join(", ");
        diagnostics.warning(format!(
            "{lost} packets lost so far, wholly or in part ({reasons}); a larger --ring, --snaplen or --no-acks help"
        ));
    }
}

fn capture_counters(counters: &Counters) -> CaptureCounters {
    CaptureCounters {
        seen: counters.get(Counter::Seen),
        captured: counters.get(Counter::Captured),
        truncated: counters.get(Counter::Truncated),
        captured_partly: counters.get(Counter::CapturedPartly),
        filtered: counters.get(Counter::Filtered),
        losses: Counter::LOSSES.into_iter().map(|loss| (loss.name(), counters.get(loss))).collect(),
    }
}

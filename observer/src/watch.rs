//! `observer watch`: the run loop over the kernel's packets.
//!
//! Owns the order of start and end, the mapping of captured packets to the engine's, and what is said while running.
//! Must not know formats, nor how the kernel is asked. Bounded: `BATCH_EVENTS` events are decoded before output and
//! signals get their turn, and `INTERFACES_MAX` interfaces are remembered.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::net::if_::{if_indextoname, if_nameindex, if_nametoindex};
use nix::time::{ClockId, clock_gettime};
use observer_core::engine::Report;
use observer_core::packet::Socket;
use observer_core::record::{CaptureCounters, Peer};
use observer_core::time::{MonotonicTime, Time, WallTime};
use observer_core::{Event, Packet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::capture::{
    CapturedPacket, Counter, Counters, DIRECTION_EGRESS, LiveCapture, Options, PacketStream, Side,
};
use crate::cli::{EXIT_OK, LiveOptions, Request};
use crate::ending::at;
use crate::output::diagnostics::Diagnostics;
use crate::shell::Shell;
use crate::silence::{self, Watched};

/// Events decoded at once; the largest carry 64 KiB.
const BATCH_EVENTS: usize = 256;
/// Without an event for so long after the start, the user is told why.
const SILENCE: Duration = Duration::from_secs(3);
/// How often clocks and loss counters are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Between two warnings of loss.
const LOSS_WARNING_PAUSE: Duration = Duration::from_secs(5);
/// Interfaces whose name is told to the engine.
const INTERFACES_MAX: usize = 1_024;
/// The loopback interface has this index in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Watches until the end is asked for. Returns the exit code. Call it before the process has a second thread.
pub fn run(request: &Request, live: &LiveOptions) -> anyhow::Result<u8> {
    let ports = request.ports.clone().unwrap_or_default();
    let options = Options {
        ports: ports.clone(),
        side: live.side,
        snap_length_bytes: request.snap_length,
        no_acks: live.no_acks,
        interface_index: live.interface.as_deref().map(interface_index).transpose()?,
        ring_bytes: live.ring_bytes,
        debug_log: request.verbose > 1,
        cgroup: live.cgroup.clone(),
    };
    let names = InterfaceNames::new();
    let capture = LiveCapture::start(&options)?;
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
    let ended = runtime.block_on(watch.run(request, capture));
    // The output thread may be stuck in a write, and must not be waited for.
    runtime.shutdown_background();
    ended.map(|()| EXIT_OK)
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
    async fn run(mut self, request: &Request, capture: LiveCapture) -> anyhow::Result<()> {
        // The kernel chose the ports already, by the socket's own: behind NAT the packets show others.
        let mut shell = Shell::start(request, None, Report::All)?;
        self.announce(&capture, &shell.diagnostics);
        let is_below_root_cgroup = capture.is_below_root_cgroup();
        let mut stream = PacketStream::new(capture).context("the ring buffer cannot be waited for")?;
        let mut timers = Timers::start();
        let mut losses = LossWarnings::new();
        let mut quiet_since = None;
        while !shell.is_over() {
            match self.step(&mut shell, &mut stream, &mut timers).await? {
                Step::Decoded => {
                    timers.silence_ends = None;
                    quiet_since = None;
                    shell.deliver().await?;
                    // Where the ring is never empty nothing else would let signals and timers have their turn.
                    tokio::task::yield_now().await;
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
                Step::Silent => {
                    let watched = Watched {
                        ports: self.ports,
                        side: self.live.side,
                        interface: self.live.interface.as_deref(),
                        is_below_root_cgroup,
                    };
                    shell.diagnostics.note(format!("nothing seen for {} seconds:", SILENCE.as_secs()));
                    for sentence in silence::explain(&watched) {
                        shell.diagnostics.note(sentence);
                    }
                }
                Step::End => break,
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
        if capture.is_below_root_cgroup() {
            let path = capture.cgroup_path().map(|path| path.display().to_string()).unwrap_or_default();
            diagnostics.warning(format!("only sockets in the cgroup {path} and below it are seen"));
        }
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
            () = at(timers.silence_ends) => {
                timers.silence_ends = None;
                Ok(Step::Silent)
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
    async fn end(mut self, mut shell: Shell, mut capture: LiveCapture) -> anyhow::Result<()> {
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
            (counters.get(Counter::CapturedPartly), "packets of which only the beginning was captured"),
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
        Ok(())
    }
}

enum Step {
    Decoded,
    Tick,
    Silent,
    End,
}

struct Timers {
    /// Until the first event.
    silence_ends: Option<Instant>,
    tick: Interval,
}

impl Timers {
    fn start() -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { silence_ends: Some(Instant::now() + SILENCE), tick }
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

/// The offset between the kernel's boot time and wall time, which changes when the clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WallClock {
    offset_nanoseconds: i128,
}

impl WallClock {
    fn sample() -> Self {
        let before = read_clock(ClockId::CLOCK_BOOTTIME);
        let wall = read_clock(ClockId::CLOCK_REALTIME);
        let after = read_clock(ClockId::CLOCK_BOOTTIME);
        Self { offset_nanoseconds: wall - i128::midpoint(before, after) }
    }

    fn now(self) -> Time {
        self.time(u64::try_from(read_clock(ClockId::CLOCK_BOOTTIME)).unwrap_or(0))
    }

    fn time(self, boot_nanoseconds: u64) -> Time {
        let wall = i128::from(boot_nanoseconds) + self.offset_nanoseconds;
        Time {
            monotonic: MonotonicTime(boot_nanoseconds),
            wall: WallTime(u64::try_from(wall.max(0)).unwrap_or(u64::MAX)),
        }
    }
}

/// Both clocks exist on every kernel that can load the programs; a failure would read as 1970.
fn read_clock(clock: ClockId) -> i128 {
    clock_gettime(clock)
        .map_or(0, |time| i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

fn capture_counters(counters: &Counters) -> CaptureCounters {
    CaptureCounters {
        seen: counters.get(Counter::Seen),
        captured: counters.get(Counter::Captured),
        truncated: counters.get(Counter::Truncated) + counters.get(Counter::CapturedPartly),
        filtered: counters.get(Counter::Filtered),
        losses: Counter::LOSSES.into_iter().map(|loss| (loss.name(), counters.get(loss))).collect(),
    }
}

/// Which interfaces have a name that can be told: an index means something in its network namespace only.
struct InterfaceNames {
    own_netns_cookie: Option<u64>,
    told: BTreeSet<u32>,
}

struct Interface {
    index: u32,
    /// Where the engine was not told yet.
    new_name: Option<String>,
}

impl InterfaceNames {
    fn new() -> Self {
        Self { own_netns_cookie: own_netns_cookie(), told: BTreeSet::new() }
    }

    fn known(&mut self, index: u32, netns_cookie: u64) -> Option<Interface> {
        let is_own = netns_cookie != 0 && self.own_netns_cookie == Some(netns_cookie);
        if index != LOOPBACK_INDEX && !is_own {
            return None;
        }
        if self.told.contains(&index) {
            return Some(Interface { index, new_name: None });
        }
        if self.told.len() >= INTERFACES_MAX {
            return None;
        }
        let name = if index == LOOPBACK_INDEX {
            "lo".to_owned()
        } else {
            // Gone since: the next packet of that index is another interface's.
            if_indextoname(index).ok()?.to_string_lossy().into_owned()
        };
        self.told.insert(index);
        Some(Interface { index, new_name: Some(name) })
    }
}

/// The network namespace that this process is in, as the kernel programs name it; `None` before Linux 5.14.
fn own_netns_cookie() -> Option<u64> {
    /// From the kernel's asm-generic/socket.h; the libc crate does not have it.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    let mut cookie: u64 = 0;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).ok()?;
    // SAFETY: the descriptor is open, and both pointers are to locals of the sizes that are named.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (status == 0 && cookie != 0).then_some(cookie)
}

/// The index of an interface that the user named.
fn interface_index(name: &str) -> anyhow::Result<u32> {
    if let Ok(index) = if_nametoindex(name) {
        return Ok(index);
    }
    let names: Vec<String> = if_nameindex()
        .map(|interfaces| {
            interfaces.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    bail!("there is no network interface {name}; there are any, {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_answered_with_those_there_are() {
        assert!(interface_index("lo").is_ok());
        let error = interface_index("nonesuch0").unwrap_err().to_string();
        assert!(error.contains("nonesuch0") && error.contains("any, lo"), "{error}");
    }

    #[test]
    fn interfaces_of_other_namespaces_have_no_name_but_loopback_has() {
        let mut names = InterfaceNames { own_netns_cookie: Some(7), told: BTreeSet::new() };
        assert!(names.known(2, 8).is_none());
        assert!(names.known(2, 0).is_none());
        let first = names.known(1, 8).unwrap();
        assert_eq!((first.index, first.new_name.as_deref()), (1, Some("lo")));
        let again = names.known(1, 7).unwrap();
        assert_eq!((again.index, again.new_name), (1, None));
    }

    #[test]
    fn boot_time_becomes_wall_time() {
        let clock = WallClock { offset_nanoseconds: 1_000 };
        assert_eq!(clock.time(5), Time { monotonic: MonotonicTime(5), wall: WallTime(1_005) });
        let before_1970 = WallClock { offset_nanoseconds: -1_000 };
        assert_eq!(before_1970.time(5).wall, WallTime(0));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let boot = u64::try_from(boot.tv_sec()).unwrap() * 1_000_000_000;
        let sampled = u128::from(WallClock::sample().time(boot).wall.0);
        assert!(now.abs_diff(sampled) < 5_000_000_000, "{now} {sampled}");
    }
}

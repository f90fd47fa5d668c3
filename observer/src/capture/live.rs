//! Loads the kernel programs, attaches them, and reads what they send.
//!
//! Owns: everything that was made in the kernel for one capture; all of it is gone with this process,
//! however it ends, because nothing is pinned. Must not know: tokio, TCP, WebSocket, or output.
//! Bounded by: the ring buffer's size and the collector of incomplete packets.
//!
//! [`LiveCapture::start`] belongs before the first thread: capabilities are per thread, so they can only be
//! given up for the whole process while it has one. Everything after it works without capabilities.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, ptr};

use anyhow::{Context as _, anyhow};
use aya::maps::{Map, MapData, MapError, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use observer_ebpf::{
    ABI_VERSION, COUNTERS_MAP, EGRESS_PROGRAM, EVENTS_MAP, EventHeader, HEADER_BYTES, INGRESS_PROGRAM,
    INTERFACE_INDEX_OPTION, NETNS_COOKIE_OPTION, NO_ACKS_OPTION, ONLY_NETNS_OPTION, PORTS_MAP,
    RING_BYTES_DEFAULT, SIDE_CLIENT, SIDE_OPTION, SIDE_SERVER, SNAP_LENGTH_OPTION,
};

use super::cgroup::Cgroup;
use super::maps::{CounterMap, Counters, PortMap, possible_cpus};
use super::packets::{CapturedPacket, PacketCollector, PieceStatistics};
use super::{StartError, object};

const DEBUG_LOG_MAP: &str = "AYA_LOGS";
const DEBUG_LOG_OFF: u8 = 0;
const DEBUG_LOG_DEBUG: u8 = 4;
const DEBUG_LOG_BYTES_WHEN_OFF: u32 = 4096;
const DEBUG_LOG_BYTES_WHEN_ON: u32 = 1 << 20;

/// Pieces of one packet follow each other within microseconds, unless the sender was preempted.
pub(super) const INCOMPLETE_PACKET_AGE_MAX: Duration = Duration::from_secs(1);

/// How long programs that still run after their detachment are waited for.
const DETACH_WAIT_MAX: Duration = Duration::from_millis(500);

/// Which end of a connection the observed port belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Sockets on this host that have the port themselves.
    #[default]
    Server,
    /// Sockets on this host that are connected to the port.
    Client,
}

/// What to capture, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ports to observe; at least one.
    pub ports: Vec<u16>,
    /// Whose port it is.
    pub side: Side,
    /// Bytes of each packet, counted from its IP header; 0 means everything.
    pub snap_length_bytes: u32,
    /// Leave out pure acknowledgements.
    pub no_acks: bool,
    /// Capture on this interface only.
    pub interface_index: Option<u32>,
    /// Capture in the network namespace of this cookie only, where the kernel tells them apart
    /// ([`LiveCapture::has_netns_cookies`]); elsewhere in all.
    pub netns_cookie: Option<u64>,
    /// Size of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Let the kernel programs tell on standard error what they do.
    pub debug_log: bool,
    /// The cgroup v2 directory to attach to; found by itself if not given.
    pub cgroup: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ports: vec![7272],
            side: Side::default(),
            snap_length_bytes: 0,
            no_acks: false,
            interface_index: None,
            netns_cookie: None,
            ring_bytes: RING_BYTES_DEFAULT,
            debug_log: false,
            cgroup: None,
        }
    }
}

/// How far the ring was drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Events taken out.
    pub events: usize,
    /// Whether nothing was left.
    pub emptied: bool,
}

/// A running capture. Dropping it detaches the programs.
pub struct LiveCapture {
    programs: Option<Ebpf>,
    ring: RingBuf<MapData>,
    counters: CounterMap,
    ports: PortMap,
    collector: PacketCollector,
    debug_log: Option<EbpfLogger<StandardErrorLog>>,
    cgroup: Cgroup,
    has_netns_cookies: bool,
    malformed_events: u64,
}

impl LiveCapture {
    /// Loads and attaches the programs; packets are captured from here on.
    ///
    /// # Errors
    /// Each [`StartError`] says what is missing and what to do.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let object = object::embedded()?;
        validate(options)?;
        let kernel = Kernel::running();
        if kernel.version < (5, 8) {
            return Err(StartError::KernelTooOld { release: kernel.release });
        }
        check_capabilities(options.debug_log)?;
        let cgroup = Cgroup::open(options.cgroup.as_deref())?;
        if kernel.version < (5, 11) {
            raise_memlock_limit();
        }
        let possible_cpus = possible_cpus().map_err(StartError::Other)?;

        // Asking is the only probe that tells: kernels differ in what they allow these programs.
        let (mut loaded, has_netns_cookies) =
            match Loaded::load(object, options, possible_cpus, true, &kernel) {
                Ok(loaded) => (loaded, true),
                Err(StartError::Refused { .. }) => {
                    (Loaded::load(object, options, possible_cpus, false, &kernel)?, false)
                }
                Err(error) => return Err(error),
            };

        let ring = RingBuf::try_from(loaded.take_map(EVENTS_MAP)?)
            .context("the ring buffer cannot be mapped")
            .map_err(StartError::Other)?;
        let counters = CounterMap::new(&array_data(loaded.take_map(COUNTERS_MAP)?)?, possible_cpus)
            .context("the counters cannot be mapped")
            .map_err(StartError::Other)?;
        let ports = PortMap::new(&array_data(loaded.take_map(PORTS_MAP)?)?)
            .context("the observed ports cannot be mapped")
            .map_err(StartError::Other)?;
        ports.set(&options.ports);

        let Loaded { mut programs, debug_log } = loaded;
        attach(&mut programs, &cgroup, INGRESS_PROGRAM, CgroupSkbAttachType::Ingress)?;
        attach(&mut programs, &cgroup, EGRESS_PROGRAM, CgroupSkbAttachType::Egress)?;
        Ok(Self {
            programs: Some(programs),
            ring,
            counters,
            ports,
            collector: PacketCollector::new(options.snap_length_bytes),
            debug_log: options.debug_log.then_some(debug_log),
            cgroup,
            has_netns_cookies,
            malformed_events: 0,
        })
    }

    /// Observes these ports from now on, instead of those before. Port 0 is ignored.
    pub fn set_ports(&mut self, ports: &[u16]) {
        self.ports.set(ports);
    }

    /// Becomes readable when an event arrives after everything before it was drained.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Becomes readable when the kernel programs logged something; `None` unless debug logs are on.
    #[must_use]
    pub fn debug_log_fd(&self) -> Option<BorrowedFd<'_>> {
        self.debug_log.as_ref().map(AsFd::as_fd)
    }

    /// Passes on events, at most so many, as they lie in the ring; returns how many were taken out of it.
    pub fn drain(&mut self, max_events: usize, mut handle: impl FnMut(&EventHeader, &[u8])) -> usize {
        self.forward_debug_log();
        let mut drained = 0;
        while drained < max_events {
            let Some(record) = self.ring.next() else {
                break;
            };
            drained += 1;
            match split_record(&record) {
                Some((header, data)) => handle(&header, data),
                None => self.malformed_events += 1,
            }
        }
        drained
    }

    /// Passes on whole packets: like [`Self::drain`], with the pieces of long packets put together. Stops after
    /// so many events, of which a long packet has several, and after a packet that `handle` says to stop at.
    pub fn drain_packets(
        &mut self,
        max_events: usize,
        mut handle: impl FnMut(CapturedPacket<'_>) -> ControlFlow<()>,
    ) -> Drained {
        self.forward_debug_log();
        let stopped = Cell::new(false);
        let mut deliver = |packet: CapturedPacket<'_>| stopped.set(stopped.get() | handle(packet).is_break());
        let mut events = 0;
        let emptied = loop {
            if events >= max_events {
                break false;
            }
            let Some(record) = self.ring.next() else {
                break true;
            };
            events += 1;
            match split_record(&record) {
                Some((header, data)) => self.collector.push(&header, data, &mut deliver),
                None => self.malformed_events += 1,
            }
            if stopped.get() {
                break false;
            }
        };
        if emptied && self.collector.has_open_packets() {
            let age_max_ns = u64::try_from(INCOMPLETE_PACKET_AGE_MAX.as_nanos()).unwrap_or(u64::MAX);
            let oldest_ns = boot_time_ns().saturating_sub(age_max_ns);
            self.collector.give_up_before(oldest_ns, &mut deliver);
        }
        Drained { events, emptied }
    }

    /// Passes on what is known of packets whose later pieces have not come; for the very end.
    pub fn finish_packets(&mut self, mut handle: impl FnMut(CapturedPacket<'_>)) {
        self.collector.finish(&mut handle);
    }

    /// Whether a packet waits for its later pieces.
    #[must_use]
    pub fn has_open_packets(&self) -> bool {
        self.collector.has_open_packets()
    }

    /// What the kernel programs counted so far. Works without capabilities, and after [`Self::detach`].
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.read()
    }

    /// What became of packets that came in several pieces.
    #[must_use]
    pub const fn piece_statistics(&self) -> PieceStatistics {
        self.collector.statistics()
    }

    /// Records that were no events of this ABI. Anything but 0 is a defect.
    #[must_use]
    pub const fn malformed_events(&self) -> u64 {
        self.malformed_events
    }

    /// The cgroup directory that the programs are attached to; `None` where it was opened without a mount.
    #[must_use]
    pub fn cgroup_path(&self) -> Option<&Path> {
        self.cgroup.path.as_deref()
    }

    /// Whether only a part of the host's sockets is seen, because no higher cgroup is visible from here.
    #[must_use]
    pub const fn is_below_root_cgroup(&self) -> bool {
        self.cgroup.below_root
    }

    /// The cgroup that the programs are attached to.
    #[must_use]
    pub const fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Whether events tell network namespaces apart by cookie; otherwise only the socket's cookie does.
    #[must_use]
    pub const fn has_netns_cookies(&self) -> bool {
        self.has_netns_cookies
    }

    /// Instructions that the verifier followed for the ingress and the egress program, where known.
    #[must_use]
    pub fn verified_instructions(&self) -> Option<(u32, u32)> {
        let programs = self.programs.as_ref()?;
        let count = |name| {
            let program: &CgroupSkb = programs.program(name)?.try_into().ok()?;
            program.info().ok()?.verified_instruction_count()
        };
        Some((count(INGRESS_PROGRAM)?, count(EGRESS_PROGRAM)?))
    }

    /// Detaches the programs and waits until none runs any more. The last events can still be drained, and
    /// the counters are final: [`Counters::is_balanced`] holds.
    pub fn detach(&mut self) {
        if self.programs.take().is_none() {
            return;
        }
        wait_for_running_programs();
        let give_up = Instant::now() + DETACH_WAIT_MAX;
        while !self.counters().is_balanced() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.forward_debug_log();
    }

    pub(super) fn forward_debug_log(&mut self) {
        if let Some(log) = &mut self.debug_log {
            log.flush();
        }
    }
}

struct Loaded {
    programs: Ebpf,
    debug_log: EbpfLogger<StandardErrorLog>,
}

impl Loaded {
    fn load(
        object: &[u8],
        options: &Options,
        possible_cpus: u32,
        with_netns_cookies: bool,
        kernel: &Kernel,
    ) -> Result<Self, StartError> {
        let side = match options.side {
            Side::Server => SIDE_SERVER,
            Side::Client => SIDE_CLIENT,
        };
        let no_acks = u8::from(options.no_acks);
        let interface_index = options.interface_index.unwrap_or(0);
        let netns_cookie = u8::from(with_netns_cookies);
        let only_netns_cookie = options.netns_cookie.filter(|_| with_netns_cookies).unwrap_or(0);
        let (log_level, log_bytes) = if options.debug_log {
            (DEBUG_LOG_DEBUG, DEBUG_LOG_BYTES_WHEN_ON)
        } else {
            (DEBUG_LOG_OFF, DEBUG_LOG_BYTES_WHEN_OFF)
        };
        let mut programs = EbpfLoader::new()
            .btf(None)
            .override_global(SIDE_OPTION, &side, true)
            .override_global(SNAP_LENGTH_OPTION, &options.snap_length_bytes, true)
            .override_global(NO_ACKS_OPTION, &no_acks, true)
            .override_global(INTERFACE_INDEX_OPTION, &interface_index, true)
            .override_global(NETNS_COOKIE_OPTION, &netns_cookie, true)
            .override_global(ONLY_NETNS_OPTION, &only_netns_cookie, true)
            .override_global(aya_log::LEVEL, &log_level, true)
            .map_max_entries(EVENTS_MAP, options.ring_bytes)
            .map_max_entries(COUNTERS_MAP, CounterMap::elements(possible_cpus))
            .map_max_entries(DEBUG_LOG_MAP, log_bytes)
            .load(object)
            .map_err(|error| not_loaded(error, kernel))?;
        // Held until the programs are loaded: they refer to its map even where it is never written to.
        let debug_log = EbpfLogger::init_with_logger(&mut programs, StandardErrorLog)
            .context("the debug log cannot be read")
            .map_err(StartError::Other)?;
        for name in [INGRESS_PROGRAM, EGRESS_PROGRAM] {
            program(&mut programs, name)?.load().map_err(|error| not_verified(error, name, kernel))?;
        }
        Ok(Self { programs, debug_log })
    }

    fn take_map(&mut self, name: &str) -> Result<Map, StartError> {
        self.programs
            .take_map(name)
            .with_context(|| format!("the kernel object has no map {name}"))
            .map_err(StartError::Other)
    }
}

/// Forwards the kernel programs' debug log.
#[derive(Clone, Copy, Debug)]
struct StandardErrorLog;

impl log::Log for StandardErrorLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Standard error that is gone must not end the capture.
        let _ = writeln!(io::stderr().lock(), "kernel: {}", record.args());
    }

    fn flush(&self) {}
}

fn program<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSkb, StartError> {
    programs
        .program_mut(name)
        .with_context(|| format!("the kernel object has no program {name}"))
        .and_then(|program| Ok(<&mut CgroupSkb>::try_from(program)?))
        .map_err(StartError::Other)
}

fn attach(
    programs: &mut Ebpf,
    cgroup: &Cgroup,
    name: &str,
    attach_type: CgroupSkbAttachType,
) -> Result<(), StartError> {
    // Links share a cgroup with other programs by themselves; asking for it is an error.
    match program(programs, name)?.attach(cgroup, attach_type, CgroupAttachMode::Single) {
        Ok(_) => Ok(()),
        // The capabilities are there, as was checked before.
        Err(ProgramError::SyscallError(error)) if is_refusal(&error.io_error) => {
            Err(StartError::CgroupIsTaken { reason: error.io_error.to_string() })
        }
        Err(error) => Err(StartError::Other(
            anyhow!(error)
                .context("the kernel cannot attach to a cgroup; is it built with CONFIG_CGROUP_BPF?"),
        )),
    }
}

fn not_loaded(error: EbpfError, kernel: &Kernel) -> StartError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            if is_refusal(&io_error) {
                StartError::NotPermitted { step: "create BPF maps", reason: io_error.to_string() }
            } else if name == EVENTS_MAP && io_error.raw_os_error() == Some(libc::ENOMEM) {
                StartError::InvalidOption(format!(
                    "the kernel has no memory for the ring buffer ({io_error}): choose a smaller one"
                ))
            } else {
                let hint = match io_error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE) => "; allow more open files (`ulimit -n`)",
                    _ => "",
                };
                StartError::Other(anyhow!(io_error).context(format!(
                    "the kernel ({}) cannot create the BPF map {name}{hint}",
                    kernel.release
                )))
            }
        }
        error => StartError::Other(anyhow!(error).context("the kernel object cannot be loaded")),
    }
}

fn not_verified(error: ProgramError, program: &'static str, kernel: &Kernel) -> StartError {
    match error {
        ProgramError::LoadError { io_error, .. } if is_permission_denied(&io_error) => {
            StartError::NotPermitted { step: "load BPF programs", reason: io_error.to_string() }
        }
        ProgramError::LoadError { io_error, verifier_log } => StartError::Refused {
            release: kernel.release.clone(),
            program,
            reason: io_error,
            verifier_log: verifier_log.to_string(),
        },
        error => StartError::Other(anyhow!(error).context(format!("{program} cannot be loaded"))),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// The verifier says EACCES where it refuses a program's instructions; only EPERM is about the caller.
fn is_permission_denied(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

fn array_data(map: Map) -> Result<MapData, StartError> {
    match map {
        Map::Array(data) => Ok(data),
        _ => Err(StartError::Other(anyhow!("a map of the kernel object is not the array that it should be"))),
    }
}

fn validate(options: &Options) -> Result<(), StartError> {
    if options.ports.is_empty() || options.ports.contains(&0) {
        return Err(StartError::InvalidOption(
            "name at least one port to observe, from 1 to 65535".to_owned(),
        ));
    }
    // SAFETY: sysconf has no preconditions.
    let page_bytes = u32::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    if !options.ring_bytes.is_power_of_two() || options.ring_bytes < page_bytes {
        return Err(StartError::InvalidOption(format!(
            "the ring buffer cannot have {} bytes: choose a power of two, at least {page_bytes}",
            options.ring_bytes
        )));
    }
    Ok(())
}

/// Never trusts a length: the record must hold its header and as many bytes as that says.
fn split_record(record: &[u8]) -> Option<(EventHeader, &[u8])> {
    let (header, data) = record.split_at_checked(HEADER_BYTES)?;
    // SAFETY: `header` is as long as the type, for which any bytes are valid; alignment is not needed.
    let header = unsafe { ptr::read_unaligned(header.as_ptr().cast::<EventHeader>()) };
    if header.abi_version != ABI_VERSION {
        return None;
    }
    Some((header, data.get(..header.captured_length as usize)?))
}

struct Kernel {
    release: String,
    version: (u32, u32),
}

impl Kernel {
    fn running() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        Self {
            // An unreadable version must not stop what the kernel may well be able to do.
            version: parse_kernel_version(&release).unwrap_or((u32::MAX, 0)),
            release,
        }
    }
}

fn parse_kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn check_capabilities(debug_log: bool) -> Result<(), StartError> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let Some(effective) = own_capabilities() else { return Ok(()) };
    let has = |capability: u32| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if !has(SYS_ADMIN) {
        if !has(BPF) {
            missing.push("CAP_BPF");
        }
        if debug_log && !has(PERFMON) {
            missing.push("CAP_PERFMON");
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(StartError::NotPermitted {
        step: "load BPF programs",
        reason: format!("{} missing", missing.join(", ")),
    })
}

/// This thread's effective capabilities, as bits, where they can be read.
pub(super) fn own_capabilities() -> Option<u64> {
    effective_capabilities(&fs::read_to_string("/proc/thread-self/status").ok()?)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Before 5.11 the kernel charges maps to this limit, whose default is far too small for the ring.
fn raise_memlock_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // A refusal shows as a refusal to create the ring, which is reported.
    // SAFETY: the limit is valid for reading.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// The kernel detaches without waiting for programs that run on other CPUs, but they run inside an RCU
/// read-side section, and this call returns after all of those have ended.
pub(super) fn wait_for_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: the command takes no pointers; where it is unsupported, the caller's polling remains.
    let _ = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0_i64, 0_i64) };
}

pub(super) fn boot_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; this clock always exists.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(captured_length: u32, data_bytes: usize) -> Vec<u8> {
        let mut record = vec![0; HEADER_BYTES + data_bytes];
        record[0..2].copy_from_slice(&ABI_VERSION.to_ne_bytes());
        record[64..68].copy_from_slice(&captured_length.to_ne_bytes());
        record
    }

    #[test]
    fn a_record_is_split_where_its_header_ends() {
        let mut bytes = record(3, 208);
        bytes[HEADER_BYTES..HEADER_BYTES + 3].copy_from_slice(b"abc");
        let (header, data) = split_record(&bytes).expect("the record is well formed");
        assert_eq!(header.captured_length, 3);
        assert_eq!(data, b"abc");
    }

    #[test]
    fn a_record_that_is_shorter_than_it_says_is_refused() {
        assert!(split_record(&[]).is_none());
        assert!(split_record(&record(0, 0)[..HEADER_BYTES - 1]).is_none());
        assert!(split_record(&record(0, 0)).is_some());
        assert!(split_record(&record(209, 208)).is_none());
        assert!(split_record(&record(u32::MAX, 208)).is_none());
    }

    #[test]
    fn a_record_of_another_abi_version_is_refused() {
        let mut bytes = record(0, 8);
        bytes[0..2].copy_from_slice(&(ABI_VERSION + 1).to_ne_bytes());
        assert!(split_record(&bytes).is_none());
    }

    #[test]
    fn kernel_versions_of_all_shapes_are_read() {
        assert_eq!(parse_kernel_version("5.10.0-28-cloud-amd64"), Some((5, 10)));
        assert_eq!(parse_kernel_version("6.18"), Some((6, 18)));
        assert_eq!(parse_kernel_version("7.0-rc3"), Some((7, 0)));
        assert_eq!(parse_kernel_version("unknown"), None);
    }

    #[test]
    fn effective_capabilities_are_read_from_the_status() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective_capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn options_that_cannot_work_are_refused_with_what_to_choose() {
        let ports = Options { ports: vec![], ..Options::default() };
        assert!(matches!(
            validate(&ports),
            Err(StartError::InvalidOption(text)) if text.contains("port")
        ));
        let port_0 = Options { ports: vec![7272, 0], ..Options::default() };
        assert!(validate(&port_0).is_err());
        let ring = Options { ring_bytes: 3 << 20, ..Options::default() };
        assert!(matches!(
            validate(&ring),
            Err(StartError::InvalidOption(text)) if text.contains("power of two")
        ));
        assert!(validate(&Options::default()).is_ok());
    }
}

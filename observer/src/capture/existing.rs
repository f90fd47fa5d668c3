//! Connections that were open when the capture began, as the kernel lists them (sock_diag(7)).
//!
//! Owns: asking every network namespace that can be entered, and the choice of what is watched among the answers. Must
//! not know: tokio, TCP's bytes, or output. Bounded by: the number of connections that the caller names,
//! [`NAMESPACES_MAX`] network namespaces, [`CGROUPS_MAX`] cgroups, [`TIME_MAX`], and one buffer as large as the kernel's
//! answers.
//!
//! A socket's cookie is what events carry, too: so a listed connection and its later packets meet. What cannot be
//! listed is a [`Shortfall`]; such connections appear with their first packet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, Timer,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, TCP_FIN_WAIT2,
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname};
use nix::sched::{CloneFlags, setns};
use thiserror::Error;

use super::live::{boot_time_ns, own_capabilities, wait_for_running_programs};
use super::{LiveCapture, Options, Side};
use crate::interfaces::netns_cookie;

/// Network namespaces looked at, besides the observer's own.
const NAMESPACES_MAX: usize = 1_024;

/// After so long no further network namespace is looked at: for each the kernel goes through the sockets of all, and
/// meanwhile nobody takes packets out of the ring.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Cgroups below the one attached to whose sockets are told from others.
const CGROUPS_MAX: usize = 65_536;

/// The kernel's answers to a dump are no longer (`netlink_dump` in af_netlink.c: 32 KiB).
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// From the kernel's linux/inet_diag.h; asked for with the traffic class, and told since Linux 5.9.
const INET_DIAG_CGROUP_ID: u16 = 21;

/// From the kernel's linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;

/// Connections that were open, and what may be missing among them.
#[derive(Debug, Default)]
pub struct Existing {
    /// The sockets at this machine's ends of them.
    pub sockets: Vec<ExistingSocket>,
    /// Why there may be more.
    pub shortfalls: Vec<Shortfall>,
    /// `CLOCK_BOOTTIME` at which the list was complete: every event of an earlier packet is in the ring, before all
    /// events of later ones.
    pub boot_time_ns: u64,
    has_enough: bool,
}

/// A socket of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExistingSocket {
    /// As in [`EventHeader::socket_cookie`](super::EventHeader::socket_cookie).
    pub cookie: u64,
    /// As in [`EventHeader::netns_cookie`](super::EventHeader::netns_cookie), where events carry it.
    pub netns_cookie: Option<u64>,
    /// The socket's own address and port.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// Which end sends nothing any more, if one does.
    pub half_closed: Option<HalfClosed>,
}

/// Which end has sent its FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClosed {
    /// The listed socket.
    ByLocal,
    /// The other end.
    ByRemote,
}

/// Why connections that were open before may not be listed.
#[derive(Debug, Error)]
pub enum Shortfall {
    /// The kernel does not answer at all.
    #[error(
        "this kernel does not list its sockets ({0}): is it built without inet_diag, or may its module not be loaded?"
    )]
    NotAnswered(io::Error),
    /// Something else failed.
    #[error("the kernel's sockets cannot be listed ({0})")]
    Failed(io::Error),
    /// Other network namespaces may not be entered.
    #[error(
        "those in other network namespaces and containers are not looked for: that needs CAP_SYS_ADMIN and \
         CAP_SYS_PTRACE, or root on the host"
    )]
    NamespacesNotPermitted,
    /// There are too many network namespaces, or looking at them takes too long.
    #[error(
        "those in {0} of the other network namespaces and containers are not looked for, since it would take too long"
    )]
    NamespacesLeftOut(usize),
    /// There are too many connections.
    #[error("{0} are followed, and there are more")]
    ConnectionsLeftOut(usize),
    /// It is not known which sockets belong to the cgroup.
    #[error("this kernel does not tell sockets' cgroups, as Linux does from 5.9 on")]
    CgroupsNotTold,
    /// There are too many cgroups.
    #[error("there are more than {CGROUPS_MAX} cgroups to look for them in")]
    TooManyCgroups,
    /// The cgroups cannot be read.
    #[error("the cgroups to look for them in cannot be read ({0})")]
    CgroupsNotRead(io::Error),
}

impl Existing {
    /// Lists the connections that `capture`, which was started with these options, would show the packets of: at most
    /// `max`. Call it before the process has a second thread, with the capabilities that the capture was started with.
    #[must_use]
    pub fn list(options: &Options, capture: &LiveCapture, max: usize) -> Self {
        let mut existing = Self::default();
        match Watched::new(options, capture, max) {
            Ok(watched) => existing.gather(&watched, options.interface_index.is_some()),
            Err(shortfall) => existing.note(shortfall),
        }
        // The kernel's order is none.
        existing.sockets.sort_by_key(|socket| (socket.local, socket.remote, socket.cookie));
        wait_for_running_programs();
        existing.boot_time_ns = boot_time_ns();
        existing
    }

    fn gather(&mut self, watched: &Watched, only_own_namespace: bool) {
        // A thread that has entered another network namespace must do nothing else.
        let gathered = thread::scope(|scope| {
            let gather = || self.gather_on_this_thread(watched, only_own_namespace);
            thread::Builder::new().spawn_scoped(scope, gather).map(|thread| thread.join())
        });
        match gathered {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => resume_unwind(panic),
            Err(error) => self.note(Shortfall::Failed(error)),
        }
    }

    fn gather_on_this_thread(&mut self, watched: &Watched, only_own_namespace: bool) {
        let begun = Instant::now();
        if let Err(error) = self.list_namespace(watched) {
            self.note(match error.raw_os_error() {
                Some(libc::ENOENT | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
                    Shortfall::NotAnswered(error)
                }
                _ => Shortfall::Failed(error),
            });
            return;
        }
        if only_own_namespace {
            return;
        }
        let Namespaces { processes, is_any_hidden, mut left_out } = Namespaces::find(Path::new("/proc"));
        // With it, only processes are hidden that may do more than the observer.
        let may_look = own_capabilities().is_some_and(|own| own & (1 << CAP_SYS_PTRACE) != 0);
        if is_any_hidden && !may_look {
            self.note(Shortfall::NamespacesNotPermitted);
        }
        for process in processes {
            if self.has_enough {
                break;
            }
            if !has_tcp_sockets(&process) {
                continue;
            }
            if begun.elapsed() > TIME_MAX {
                left_out += 1;
                continue;
            }
            match enter(&process).and_then(|()| self.list_namespace(watched)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.note(Shortfall::NamespacesNotPermitted);
                }
                // It has ended, and most often the namespace with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.note(Shortfall::Failed(error)),
            }
        }
        if left_out > 0 {
            self.note(Shortfall::NamespacesLeftOut(left_out));
        }
    }

    /// Lists those in the network namespace of this thread.
    fn list_namespace(&mut self, watched: &Watched) -> io::Result<()> {
        for family in [AF_INET, AF_INET6] {
            let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
            socket.bind_auto()?;
            // From here on nobody but the kernel can answer.
            socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
            let netns_cookie = netns_cookie(socket.as_fd()).filter(|_| watched.has_netns_cookies);
            ask(&socket, family, watched)?;
            read_answers(&socket, |answer| self.take(watched, answer, netns_cookie))?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        watched: &Watched,
        answer: &InetResponse,
        netns_cookie: Option<u64>,
    ) -> ControlFlow<()> {
        match watched.choose(answer) {
            None => {}
            Some(Ok(_)) if self.sockets.len() >= watched.max => {
                self.note(Shortfall::ConnectionsLeftOut(watched.max));
                self.has_enough = true;
                return ControlFlow::Break(());
            }
            Some(Ok(socket)) => self.sockets.push(ExistingSocket { netns_cookie, ..socket }),
            Some(Err(shortfall)) => self.note(shortfall),
        }
        ControlFlow::Continue(())
    }

    /// Each kind once.
    fn note(&mut self, shortfall: Shortfall) {
        let kind = mem::discriminant(&shortfall);
        if self.shortfalls.iter().all(|other| mem::discriminant(other) != kind) {
            self.shortfalls.push(shortfall);
        }
    }
}

/// What of the kernel's sockets the capture would see.
#[derive(Debug)]
struct Watched {
    ports: BTreeSet<u16>,
    side: Side,
    interface: Option<InterfaceAddresses>,
    /// Ids of the cgroups; `None` for all.
    cgroups: Option<BTreeSet<u64>>,
    has_netns_cookies: bool,
    max: usize,
}

impl Watched {
    fn new(options: &Options, capture: &LiveCapture, max: usize) -> Result<Self, Shortfall> {
        let cgroups = if capture.is_below_root_cgroup() {
            let ids = capture.cgroup().ids(CGROUPS_MAX).map_err(Shortfall::CgroupsNotRead)?;
            Some(ids.ok_or(Shortfall::TooManyCgroups)?)
        } else {
            None
        };
        let interface = options.interface_index.map(InterfaceAddresses::read).transpose();
        Ok(Self {
            ports: options.ports.iter().copied().collect(),
            side: options.side,
            interface: interface.map_err(Shortfall::Failed)?,
            cgroups,
            has_netns_cookies: capture.has_netns_cookies(),
            max,
        })
    }

    /// The socket, if its packets would be captured.
    fn choose(&self, answer: &InetResponse) -> Option<Result<ExistingSocket, Shortfall>> {
        let id = &answer.header.socket_id;
        let local = SocketAddr::new(id.source_address, id.source_port);
        let remote = SocketAddr::new(id.destination_address, id.destination_port);
        let observed = match self.side {
            Side::Server => local,
            Side::Client => remote,
        };
        // What is left of a closed socket has the state of before; the capture sees no packets of it.
        let is_left_over = matches!(answer.header.timer, Some(Timer::TimeWait));
        if is_left_over || !self.ports.contains(&observed.port()) {
            return None;
        }
        if self.interface.as_ref().is_some_and(|interface| !interface.is_used_by(local.ip(), remote.ip())) {
            return None;
        }
        if let Some(cgroups) = &self.cgroups {
            let Some(id) = cgroup_id(answer) else { return Some(Err(Shortfall::CgroupsNotTold)) };
            if !cgroups.contains(&id) {
                return None;
            }
        }
        let half_closed = match answer.header.state {
            TCP_FIN_WAIT1 | TCP_FIN_WAIT2 => Some(HalfClosed::ByLocal),
            TCP_CLOSE_WAIT => Some(HalfClosed::ByRemote),
            _ => None,
        };
        let cookie = cookie(id.cookie);
        Some(Ok(ExistingSocket { cookie, netns_cookie: None, local, remote, half_closed }))
    }
}

/// The kernel writes two words, the lower one first, whatever the order of bytes within a word.
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | u64::from(u32::from_ne_bytes([e, f, g, h])) << 32
}

fn cgroup_id(answer: &InetResponse) -> Option<u64> {
    use netlink_packet_core::Nla as _;
    answer.nlas.iter().find_map(|nla| match nla {
        Nla::Other(other) if other.kind() == INET_DIAG_CGROUP_ID => {
            let mut bytes = [0; 8];
            if other.value_len() != bytes.len() {
                return None;
            }
            other.emit_value(&mut bytes);
            Some(u64::from_ne_bytes(bytes))
        }
        _ => None,
    })
}

/// The addresses of this machine, as far as they tell over which interface a connection goes.
///
/// A connection within this machine goes over the loopback interface, and any other one over that which has its own
/// address, as nearly always.
#[derive(Debug)]
struct InterfaceAddresses {
    is_loopback: bool,
    own: BTreeSet<IpAddr>,
    all: BTreeSet<IpAddr>,
}

impl InterfaceAddresses {
    fn read(index: u32) -> io::Result<Self> {
        let name = if_indextoname(index)?.to_string_lossy().into_owned();
        let mut addresses = Self { is_loopback: false, own: BTreeSet::new(), all: BTreeSet::new() };
        for interface in getifaddrs()? {
            let Some(address) = interface.address else { continue };
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            let v6 = address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip()));
            let is_it = interface.interface_name == name;
            addresses.is_loopback |= is_it && interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
            for address in v4.into_iter().chain(v6) {
                addresses.all.insert(address);
                if is_it {
                    addresses.own.insert(address);
                }
            }
        }
        Ok(addresses)
    }

    fn is_used_by(&self, local: IpAddr, remote: IpAddr) -> bool {
        let (local, remote) = (local.to_canonical(), remote.to_canonical());
        let is_within = remote.is_loopback() || self.all.contains(&remote);
        if is_within { self.is_loopback } else { self.own.contains(&local) }
    }
}

/// Other network namespaces than this process's, each by the directory of one process in it.
#[derive(Debug, Default)]
struct Namespaces {
    processes: Vec<PathBuf>,
    /// Whether the kernel refused to tell that of a process.
    is_any_hidden: bool,
    left_out: usize,
}

impl Namespaces {
    fn find(proc: &Path) -> Self {
        let inode = |process: &Path| process.join("ns/net").metadata().map(|metadata| metadata.ino());
        let own = inode(&proc.join("self")).ok();
        let mut namespaces = Self::default();
        let mut found = BTreeMap::new();
        let Ok(entries) = proc.read_dir() else { return namespaces };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(process) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            else {
                continue;
            };
            let process = proc.join(process);
            match inode(&process) {
                Ok(inode) => _ = found.entry(inode).or_insert(process),
                // Else it has ended.
                Err(error) => namespaces.is_any_hidden |= error.kind() == io::ErrorKind::PermissionDenied,
            }
        }
        namespaces.left_out = found.len().saturating_sub(NAMESPACES_MAX + usize::from(own.is_some()));
        let others = found.into_iter().filter(|(inode, _)| Some(*inode) != own);
        namespaces.processes = others.map(|(_, process)| process).take(NAMESPACES_MAX).collect();
        namespaces
    }
}

/// Whether there is any TCP socket in the network namespace of a process, as far as can be read.
fn has_tcp_sockets(process: &Path) -> bool {
    ["net/sockstat", "net/sockstat6"].iter().any(|file| {
        fs::read_to_string(process.join(file)).map_or(true, |text| tcp_sockets_in_use(&text) != Some(0))
    })
}

/// From /proc/net/sockstat, `TCP: inuse 4 …`, or /proc/net/sockstat6, `TCP6: inuse 4`.
fn tcp_sockets_in_use(text: &str) -> Option<u64> {
    let words =
        text.lines().find_map(|line| line.strip_prefix("TCP").filter(|rest| rest.contains(": inuse ")))?;
    words.split_ascii_whitespace().skip_while(|word| *word != "inuse").nth(1)?.parse().ok()
}

/// Moves this thread to the network namespace of a process.
fn enter(process: &Path) -> io::Result<()> {
    Ok(setns(File::open(process.join("ns/net"))?, CloneFlags::CLONE_NEWNET)?)
}

fn ask(socket: &Socket, family: u8, watched: &Watched) -> io::Result<()> {
    let mut socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    // Where it is one port, the kernel leaves out the others.
    if let (Some(port), 1) = (watched.ports.first(), watched.ports.len()) {
        match watched.side {
            Side::Server => socket_id.source_port = *port,
            Side::Client => socket_id.destination_port = *port,
        }
    }
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::TCLASS,
        states: StateFlags::ESTABLISHED
            | StateFlags::FIN_WAIT1
            | StateFlags::FIN_WAIT2
            | StateFlags::CLOSE_WAIT,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(())
}

/// Reads until the kernel has told all, or `take` has enough.
fn read_answers(socket: &Socket, mut take: impl FnMut(&InetResponse) -> ControlFlow<()>) -> io::Result<()> {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        match take_answers(buffer.get(..length).unwrap_or_default(), &mut take)? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(()) => return Ok(()),
        }
    }
}

/// Takes the answers of one datagram. Breaks off behind the last one.
fn take_answers(
    mut datagram: &[u8],
    take: &mut impl FnMut(&InetResponse) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    while !datagram.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let length = message.header.length as usize;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer)) => {
                let taken = take(&answer);
                if taken.is_break() {
                    return Ok(taken);
                }
            }
            NetlinkPayload::Done(done) if done.code == 0 => return Ok(ControlFlow::Break(())),
            // Of a dump that the kernel has no means for, some say so in this way.
            NetlinkPayload::Done(done) => return Err(io::Error::from_raw_os_error(-done.code)),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::Overrun(_) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, DoneMessage, Emitable as _, NLMSG_DONE};
    use netlink_packet_sock_diag::TCP_ESTABLISHED;
    use netlink_packet_sock_diag::inet::InetResponseHeader;

    use super::*;

    fn watched() -> Watched {
        Watched {
            ports: BTreeSet::from([7272]),
            side: Side::Server,
            interface: None,
            cgroups: None,
            has_netns_cookies: false,
            max: 100,
        }
    }

    fn answer(local: &str, remote: &str) -> InetResponse {
        let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        InetResponse {
            header: InetResponseHeader {
                family,
                state: TCP_ESTABLISHED,
                timer: None,
                socket_id: SocketId {
                    source_port: local.port(),
                    destination_port: remote.port(),
                    source_address: local.ip(),
                    destination_address: remote.ip(),
                    interface_id: 0,
                    cookie: 7u64.to_ne_bytes(),
                },
                recv_queue: 0,
                send_queue: 0,
                uid: 0,
                inode: 0,
            },
            nlas: std::iter::empty().collect(),
        }
    }

    fn chosen(watched: &Watched, answer: &InetResponse) -> Option<ExistingSocket> {
        watched.choose(answer).map(|socket| socket.unwrap())
    }

    #[test]
    fn a_socket_of_an_observed_port_is_chosen_on_the_observed_side() {
        let server = answer("127.0.0.1:7272", "127.0.0.1:40000");
        let client = answer("127.0.0.1:40000", "127.0.0.1:7272");
        let other = answer("127.0.0.1:7273", "127.0.0.1:40001");
        let clients = Watched { side: Side::Client, ..watched() };
        for (watched, expected) in [(watched(), [true, false, false]), (clients, [false, true, false])] {
            let is_chosen = [&server, &client, &other].map(|answer| chosen(&watched, answer).is_some());
            assert_eq!(is_chosen, expected, "{watched:?}");
        }
    }

    #[test]
    fn the_states_tell_who_sends_nothing_any_more() {
        for (state, expected) in [
            (TCP_ESTABLISHED, None),
            (TCP_FIN_WAIT1, Some(HalfClosed::ByLocal)),
            (TCP_FIN_WAIT2, Some(HalfClosed::ByLocal)),
            (TCP_CLOSE_WAIT, Some(HalfClosed::ByRemote)),
        ] {
            let mut answer = answer("[::1]:7272", "[::1]:40000");
            answer.header.state = state;
            assert_eq!(chosen(&watched(), &answer).unwrap().half_closed, expected);
        }
    }

    #[test]
    fn what_is_left_of_a_closed_socket_is_no_connection() {
        let mut answer = answer("127.0.0.1:7272", "127.0.0.1:40000");
        answer.header.state = TCP_FIN_WAIT2;
        answer.header.timer = Some(Timer::TimeWait);
        assert_eq!(chosen(&watched(), &answer), None);
    }

    #[test]
    fn of_a_cgroup_only_its_own_sockets_are_chosen_and_one_that_tells_none_is_a_shortfall() {
        let watched = Watched { cgroups: Some(BTreeSet::from([5, 6])), ..watched() };
        for (id, is_chosen) in [(6u64, true), (7, false)] {
            let mut answer = answer("127.0.0.1:7272", "127.0.0.1:40000");
            let nla = DefaultNla::new(INET_DIAG_CGROUP_ID, id.to_ne_bytes().to_vec());
            answer.nlas.push(Nla::Other(nla));
            assert_eq!(chosen(&watched, &answer).is_some(), is_chosen);
        }
        let untold = answer("127.0.0.1:7272", "127.0.0.1:40000");
        assert!(matches!(watched.choose(&untold), Some(Err(Shortfall::CgroupsNotTold))));
    }

    #[test]
    fn a_connection_within_this_machine_goes_over_loopback_and_another_over_its_own_address() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = BTreeSet::from([ip("127.0.0.1"), ip("::1"), ip("10.0.0.1"), ip("192.168.0.1")]);
        let of = |is_loopback, own: &str| InterfaceAddresses {
            is_loopback,
            own: BTreeSet::from([ip(own)]),
            all: all.clone(),
        };
        let (lo, eth0) = (of(true, "127.0.0.1"), of(false, "10.0.0.1"));
        for (local, remote, over) in [
            ("127.0.0.1", "127.0.0.1", "lo"),
            ("127.0.0.7", "127.0.0.8", "lo"),
            ("10.0.0.1", "192.168.0.1", "lo"),
            ("::1", "::1", "lo"),
            ("10.0.0.1", "10.0.0.9", "eth0"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.9", "eth0"),
            ("192.168.0.1", "192.168.0.9", "another"),
        ] {
            let used =
                [("lo", &lo), ("eth0", &eth0)].map(|(name, it)| (name, it.is_used_by(ip(local), ip(remote))));
            assert_eq!(used, [("lo", over == "lo"), ("eth0", over == "eth0")], "{local} {remote}");
        }
    }

    #[test]
    fn at_the_bound_listing_ends_and_that_is_a_shortfall() {
        let mut existing = Existing::default();
        let watched = Watched { max: 1, ..watched() };
        let answer = answer("127.0.0.1:7272", "127.0.0.1:40000");
        assert!(existing.take(&watched, &answer, Some(9)).is_continue());
        assert!(existing.take(&watched, &answer, Some(9)).is_break());
        assert_eq!((existing.sockets.len(), existing.sockets[0].netns_cookie), (1, Some(9)));
        assert!(matches!(existing.shortfalls[..], [Shortfall::ConnectionsLeftOut(1)]));
    }

    fn datagram(messages: impl IntoIterator<Item = NetlinkMessage<SockDiagMessage>>) -> Vec<u8> {
        let mut datagram = Vec::new();
        for mut message in messages {
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            datagram.extend(bytes);
        }
        datagram
    }

    fn done(code: i32) -> NetlinkMessage<SockDiagMessage> {
        let mut done = DoneMessage::default();
        done.code = code;
        assert_eq!(done.buffer_len(), 4);
        let mut header = NetlinkHeader::default();
        header.message_type = NLMSG_DONE;
        NetlinkMessage::new(header, NetlinkPayload::Done(done))
    }

    fn read(datagram: &[u8]) -> (io::Result<ControlFlow<()>>, usize) {
        let mut taken = 0;
        let read = take_answers(datagram, &mut |_| {
            taken += 1;
            ControlFlow::Continue(())
        });
        (read, taken)
    }

    #[test]
    fn answers_are_read_up_to_the_end_of_the_dump_over_several_datagrams() {
        let answer = || {
            let answer = answer("127.0.0.1:7272", "127.0.0.1:40000");
            let payload = SockDiagMessage::InetResponse(Box::new(answer)).into();
            NetlinkMessage::new(NetlinkHeader::default(), payload)
        };
        let (read_first, taken) = read(&datagram([answer(), answer()]));
        assert!(read_first.unwrap().is_continue());
        assert_eq!(taken, 2);
        let (read_last, taken) = read(&datagram([answer(), done(0)]));
        assert!(read_last.unwrap().is_break());
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_kernel_without_the_means_says_so_at_the_end_of_an_empty_dump() {
        let (read, _) = read(&datagram([done(-libc::ENOENT)]));
        assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error_and_no_endless_loop() {
        let whole = datagram([done(0)]);
        for length in 1..whole.len() {
            assert!(read(&whole[..length]).0.is_err(), "{length}");
        }
        assert!(read(&[0; 64]).0.is_err());
    }

    #[test]
    fn a_network_namespace_without_tcp_sockets_is_known_by_its_statistics() {
        let v4 = "sockets: used 9\nTCP: inuse 3 orphan 0 tw 0 alloc 4 mem 1\nUDP: inuse 2 mem 0\n";
        let v6 = "TCP6: inuse 0\nUDP6: inuse 1\n";
        assert_eq!((tcp_sockets_in_use(v4), tcp_sockets_in_use(v6)), (Some(3), Some(0)));
        assert_eq!(tcp_sockets_in_use("UDP: inuse 1\n"), None);
        // What cannot be read is looked at.
        assert!(has_tcp_sockets(Path::new("/nonesuch")));
    }

    #[test]
    fn each_network_namespace_is_found_once_and_the_own_one_not_at_all() {
        let proc = std::env::temp_dir().join(format!("observer-namespaces-{}", std::process::id()));
        for process in ["self", "1", "2", "3", "sys"] {
            fs::create_dir_all(proc.join(process).join("ns")).unwrap();
        }
        fs::write(proc.join("self/ns/net"), "").unwrap();
        fs::hard_link(proc.join("self/ns/net"), proc.join("1/ns/net")).unwrap();
        fs::write(proc.join("2/ns/net"), "").unwrap();
        fs::hard_link(proc.join("2/ns/net"), proc.join("3/ns/net")).unwrap();
        fs::write(proc.join("sys/ns/net"), "").unwrap();
        let found = Namespaces::find(&proc);
        fs::remove_dir_all(&proc).unwrap();
        assert_eq!(found.processes.len(), 1, "{found:?}");
        assert!(found.processes[0].ends_with("2") || found.processes[0].ends_with("3"));
        assert!((found.is_any_hidden, found.left_out) == (false, 0));
    }
}

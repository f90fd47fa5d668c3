//! Why nothing is seen, as far as this machine can tell.
//!
//! Owns reading who listens where, in every network namespace, and the sentences about it. Must not know the capture.
//! Bounded: looks at each process once, and at `NAMESPACES_MAX` namespaces; names a few ports and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::capture::Side;

/// Namespaces looked at, besides the observer's own.
const NAMESPACES_MAX: usize = 1_024;
/// Namespaces named for one port.
const NAMESPACES_NAMED: usize = 4;
/// Ports named as alternatives.
const PORTS_NAMED: usize = 8;

const ESTABLISHED: u8 = 0x01;
const LISTEN: u8 = 0x0a;

/// What the observer was told to look at.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// The ports.
    pub ports: &'a [u16],
    /// Whose ports they are.
    pub side: Side,
    /// The only interface, where one was named.
    pub interface: Option<&'a str>,
    /// Whether sockets above the observer's cgroup are out of its sight.
    pub is_below_root_cgroup: bool,
    /// Packets of these ports that an option left out.
    pub packets_filtered: u64,
    /// Packets of these ports that the capture lost.
    pub packets_lost: u64,
}

/// TCP sockets of this machine.
#[derive(Debug, Default)]
pub struct Sockets {
    own: Namespace,
    others: Vec<(Process, Namespace)>,
}

/// A process that stands for its network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    name: String,
}

/// TCP sockets of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Namespace {
    listening: BTreeSet<u16>,
    /// How many connections there are to each remote port.
    connected_to: BTreeMap<u16, usize>,
}

impl Sockets {
    /// Those that can be looked at. May take a while.
    pub fn gather() -> Self {
        Self::gather_in(Path::new("/proc"))
    }

    fn gather_in(proc: &Path) -> Self {
        let mut seen = BTreeSet::from_iter(namespace_inode(&proc.join("self")));
        let mut sockets = Self { own: Namespace::read(&proc.join("self")), others: Vec::new() };
        let Ok(entries) = fs::read_dir(proc) else { return sockets };
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let directory = entry.path();
            // A process may end, or be hidden from us, at any moment: then it tells nothing.
            let Some(inode) = namespace_inode(&directory) else { continue };
            if sockets.others.len() >= NAMESPACES_MAX || !seen.insert(inode) {
                continue;
            }
            let name = fs::read_to_string(directory.join("comm")).unwrap_or_default().trim().to_owned();
            sockets.others.push((Process { id, name }, Namespace::read(&directory)));
        }
        sockets
    }
}

impl Namespace {
    fn read(process: &Path) -> Self {
        let mut namespace = Self::default();
        for table in ["net/tcp", "net/tcp6"] {
            if let Ok(table) = File::open(process.join(table)) {
                namespace.add(BufReader::new(table));
            }
        }
        namespace
    }

    /// Adds the lines of /proc/net/tcp: `sl local_address rem_address st …`, addresses as `HEX:PORT`.
    fn add(&mut self, table: impl BufRead) {
        for line in table.lines().map_while(Result::ok).skip(1) {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (local, remote) = (port(fields.next()), port(fields.next()));
            match fields.next().and_then(|state| u8::from_str_radix(state, 16).ok()) {
                Some(LISTEN) => self.listening.extend(local),
                Some(ESTABLISHED) => {
                    if let Some(remote) = remote {
                        *self.connected_to.entry(remote).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
    }

    fn has(&self, side: Side, port: u16) -> bool {
        match side {
            Side::Server => self.listening.contains(&port),
            Side::Client => self.connected_to.contains_key(&port),
        }
    }
}

fn port(address: Option<&str>) -> Option<u16> {
    u16::from_str_radix(address?.rsplit_once(':')?.1, 16).ok()
}

fn namespace_inode(process: &Path) -> Option<u64> {
    fs::metadata(process.join("ns/net")).ok().map(|metadata| metadata.ino())
}

/// The sentences for a run in which nothing was seen so far.
pub fn explain(watched: &Watched<'_>, sockets: &Sockets) -> Vec<String> {
    let mut said = Vec::new();
    // The kernel programs know better than any table of sockets.
    if watched.packets_filtered > 0 {
        let packets = watched.packets_filtered;
        let option = match watched.interface {
            Some(interface) => format!("since only the interface {interface} is watched (-i)"),
            None => "as --no-acks asks".to_owned(),
        };
        said.push(format!("{packets} packets of the port came or went, and were left out, {option}"));
    }
    if watched.packets_lost > 0 {
        let packets = watched.packets_lost;
        said.push(format!("{packets} packets of the port came or went, and the capture lost all of them"));
    }
    if !said.is_empty() {
        return said;
    }
    let mut found = false;
    for &port in watched.ports {
        let (verb, nobody) = match watched.side {
            Side::Server => ("listens on", format!("nobody listens on port {port} on this machine")),
            Side::Client => {
                ("is connected to", format!("nobody on this machine is connected to port {port}"))
            }
        };
        let others: Vec<_> =
            sockets.others.iter().filter(|(_, namespace)| namespace.has(watched.side, port)).collect();
        if sockets.own.has(watched.side, port) {
            found = true;
            said.push(if watched.is_below_root_cgroup {
                format!("a process {verb} port {port}; it is seen only if it is in the observer's cgroup")
            } else {
                format!("a process {verb} port {port}, but not one packet of it came or went")
            });
        }
        for (process, _) in others.iter().take(NAMESPACES_NAMED) {
            found = true;
            let Process { id, name } = process;
            let seen = if watched.is_below_root_cgroup {
                "it is seen only if it is in the observer's cgroup"
            } else {
                "it is watched too, but not one packet of it came or went"
            };
            said.push(format!(
                "port {port}: a process in another network namespace, that of process {id} ({name}), {verb} it, \
                 perhaps in a container; {seen}"
            ));
        }
        if others.len() > NAMESPACES_NAMED {
            let more = others.len() - NAMESPACES_NAMED;
            said.push(format!("port {port}: and so does a process in {more} more network namespaces"));
        }
        if others.is_empty() && !sockets.own.has(watched.side, port) {
            said.push(nobody);
        }
    }
    if !found && watched.side == Side::Server {
        said.extend(other_ports(sockets));
    }
    if let Some(interface) = watched.interface {
        said.push(format!(
            "only packets on the interface {interface} are watched; connections within this machine pass lo"
        ));
    }
    if watched.is_below_root_cgroup {
        said.push(
            "the observer is attached below the root cgroup, perhaps in a container: it sees only sockets in its own \
             cgroup; run it on the host to see all"
                .to_owned(),
        );
    }
    said
}

/// Where one could look instead.
fn other_ports(sockets: &Sockets) -> Option<String> {
    let listening: BTreeSet<u16> = sockets
        .others
        .iter()
        .map(|(_, namespace)| namespace)
        .chain([&sockets.own])
        .flat_map(|namespace| namespace.listening.iter().copied())
        .collect();
    if listening.is_empty() {
        return Some("no TCP port at all is listened on".to_owned());
    }
    let named: Vec<_> = listening.iter().take(PORTS_NAMED).map(u16::to_string).collect();
    let more = if listening.len() > PORTS_NAMED { ", …" } else { "" };
    Some(format!("listened on are {}{more}; --port chooses", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
           0: 0100007F:1C68 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
           1: 0100007F:D903 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0\n\
           2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0 0\n\
        nonsense\n";

    fn watched(ports: &[u16]) -> Watched<'_> {
        Watched {
            ports,
            side: Side::Server,
            interface: None,
            is_below_root_cgroup: false,
            packets_filtered: 0,
            packets_lost: 0,
        }
    }

    fn sockets(own: &[u16], others: &[&[u16]]) -> Sockets {
        let namespace =
            |ports: &[u16]| Namespace { listening: ports.iter().copied().collect(), ..Namespace::default() };
        let other = |ports: &&[u16]| (Process { id: 42, name: "node".to_owned() }, namespace(ports));
        Sockets { own: namespace(own), others: others.iter().map(other).collect() }
    }

    #[test]
    fn the_kernels_tables_are_read_for_both_families() {
        let mut namespace = Namespace::default();
        namespace.add(TABLE.as_bytes());
        assert_eq!(namespace.listening, BTreeSet::from([80, 7272]));
        assert_eq!(namespace.connected_to, BTreeMap::from([(22, 1)]));
        assert!(namespace.has(Side::Client, 22));
    }

    #[test]
    fn nobody_listening_is_said_with_the_ports_that_are() {
        let said = explain(&watched(&[7272]), &sockets(&[22, 8080], &[&[443]])).join("\n");
        assert_eq!(
            said,
            "nobody listens on port 7272 on this machine\nlistened on are 22, 443, 8080; --port chooses"
        );
        let many: Vec<u16> = (1..20).collect();
        let said = explain(&watched(&[7272]), &sockets(&many, &[])).join("\n");
        assert!(said.ends_with("1, 2, 3, 4, 5, 6, 7, 8, …; --port chooses"), "{said}");
    }

    #[test]
    fn a_listener_that_nobody_talks_to_is_told_from_one_in_another_namespace() {
        let own = explain(&watched(&[7272]), &sockets(&[7272], &[]));
        assert_eq!(own, ["a process listens on port 7272, but not one packet of it came or went"]);
        let other = explain(&watched(&[7272]), &sockets(&[22], &[&[80], &[7272]])).join("\n");
        assert!(other.contains("another network namespace, that of process 42 (node)"), "{other}");
        assert!(!other.contains("nobody"), "{other}");
    }

    #[test]
    fn an_interface_and_a_cgroup_that_narrow_the_view_are_named() {
        let narrow = Watched { interface: Some("eth0"), is_below_root_cgroup: true, ..watched(&[7272]) };
        let said = explain(&narrow, &sockets(&[], &[&[7272]])).join("\n");
        for part in ["interface eth0", "below the root cgroup", "only if it is in the observer's cgroup"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn packets_that_were_left_out_or_lost_are_the_explanation() {
        let filtered = Watched { packets_filtered: 7, interface: Some("eth0"), ..watched(&[7272]) };
        let said = explain(&filtered, &sockets(&[7272], &[]));
        assert_eq!(
            said,
            [
                "7 packets of the port came or went, and were left out, since only the interface eth0 is watched (-i)"
            ]
        );
        let lost = Watched { packets_lost: 7, ..watched(&[7272]) };
        let said = explain(&lost, &sockets(&[7272], &[]));
        assert_eq!(said, ["7 packets of the port came or went, and the capture lost all of them"]);
    }

    #[test]
    fn of_many_namespaces_only_a_few_are_named() {
        let many: Vec<&[u16]> = vec![&[7272]; 100];
        let said = explain(&watched(&[7272]), &sockets(&[], &many));
        assert_eq!(said.len(), NAMESPACES_NAMED + 1);
        assert!(said.last().unwrap().contains("96 more"), "{said:?}");
    }

    #[test]
    fn clients_are_looked_for_on_the_client_side() {
        let client = Watched { side: Side::Client, ..watched(&[7272]) };
        let said = explain(&client, &sockets(&[7272], &[]));
        assert_eq!(said, ["nobody on this machine is connected to port 7272"]);
    }

    #[test]
    fn a_listener_of_this_process_is_found_on_this_machine() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(Sockets::gather().own.listening.contains(&port));
    }
}

//! The live capture against this machine's kernel: needs root, BPF and a binary built by `cargo xtask`.
//!
//! Owns: sockets on loopback and what the kernel programs must say of them. Must not know: WebSocket.
//! Bounded by: loopback, and ports that the kernel picked for this test. A test that cannot run fails.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use observer::capture::{
    CapturedPacket, Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, EventHeader, LiveCapture, Options,
    PacketStream, Side, StartError,
};

mod kernel;
mod private_cgroup;

use kernel::{makes_packets_over_64_kib, needs_perfmon, sees_every_syn_ack};
use private_cgroup::PrivateCgroup;

const LOOPBACK_INDEX: u32 = 1;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

#[derive(Clone, Debug)]
struct Seen {
    header: EventHeader,
    bytes: Vec<u8>,
    rest_lost: bool,
}

/// The fields of a packet's headers that the tests look at.
#[derive(Debug)]
struct Parsed<'a> {
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    payload: &'a [u8],
}

impl Seen {
    fn parse(&self) -> Parsed<'_> {
        let bytes = &self.bytes;
        let (source, destination, header_bytes): (IpAddr, IpAddr, usize) = match bytes[0] >> 4 {
            4 => {
                let address = |at: usize| -> [u8; 4] { bytes[at..at + 4].try_into().unwrap() };
                (
                    Ipv4Addr::from(address(12)).into(),
                    Ipv4Addr::from(address(16)).into(),
                    usize::from(bytes[0] & 0xf) * 4,
                )
            }
            6 => {
                let address = |at: usize| -> [u8; 16] { bytes[at..at + 16].try_into().unwrap() };
                // A BIG TCP packet carries a hop-by-hop header with its true length.
                let header_bytes = if bytes[6] == 0 { 48 } else { 40 };
                (Ipv6Addr::from(address(8)).into(), Ipv6Addr::from(address(24)).into(), header_bytes)
            }
            version => panic!("IP version {version}"),
        };
        let tcp = &bytes[header_bytes..];
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let tcp_bytes = usize::from(tcp[12] >> 4) * 4;
        Parsed {
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
            sequence: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
            acknowledgement: u32::from_be_bytes(tcp[8..12].try_into().unwrap()),
            flags: tcp[13],
            payload: &tcp[tcp_bytes..],
        }
    }
}

fn start(options: &Options) -> LiveCapture {
    LiveCapture::start(options).unwrap_or_else(|error| {
        panic!("these tests need root and kernel programs, run `cargo xtask test`: {error}")
    })
}

fn on_port(port: u16) -> Options {
    Options { ports: vec![port], ring_bytes: 16 << 20, ..Options::default() }
}

fn drain(capture: &mut LiveCapture, into: &mut Vec<Seen>) {
    capture.drain_packets(usize::MAX, |packet: CapturedPacket<'_>| {
        into.push(Seen { header: packet.header, bytes: packet.data.to_vec(), rest_lost: packet.rest_lost });
        ControlFlow::Continue(())
    });
}

/// Detaches, drains, and checks what must hold for every capture.
fn finish(capture: &mut LiveCapture, mut seen: Vec<Seen>) -> Vec<Seen> {
    capture.detach();
    drain(capture, &mut seen);
    capture.finish_packets(|packet| {
        seen.push(Seen { header: packet.header, bytes: packet.data.to_vec(), rest_lost: packet.rest_lost });
    });
    let counters = capture.counters();
    assert!(counters.is_balanced(), "{counters}");
    assert_eq!(
        counters.running_losses,
        counters.losses() + counters.get(Counter::CapturedPartly),
        "{counters}"
    );
    assert_eq!(counters.get(Counter::Captured), seen.len() as u64, "{counters}");
    assert_eq!(
        counters.get(Counter::CapturedPartly),
        seen.iter().filter(|packet| packet.rest_lost).count() as u64,
        "{counters}"
    );
    assert_eq!(capture.malformed_events(), 0);
    seen
}

fn listen(address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).expect("loopback has free ports");
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Echoes everything of one connection until the client closes.
fn serve_echo(listener: TcpListener) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client connects");
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer).expect("the client sends") {
                0 => return,
                length => stream.write_all(&buffer[..length]).expect("the client reads"),
            }
        }
    })
}

fn echo_once(client: &mut TcpStream, message: &[u8]) {
    client.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

/// Puts the payload of one direction together by sequence number. Everything must be there, though not in
/// this order: loopback reorders when the sender moves to another CPU.
fn payload(seen: &[Seen], direction: u8) -> Vec<u8> {
    let packets = || seen.iter().filter(move |packet| packet.header.direction == direction).map(Seen::parse);
    let initial = packets()
        .find(|packet| packet.flags & TCP_SYN != 0)
        .map(|packet| packet.sequence.wrapping_add(1))
        .or_else(|| acknowledged_by_the_handshake(seen, direction))
        .expect("the handshake was captured");
    let mut segments: Vec<(usize, &[u8])> = packets()
        .filter(|packet| !packet.payload.is_empty())
        .map(|packet| (packet.sequence.wrapping_sub(initial) as usize, packet.payload))
        .collect();
    segments.sort_by_key(|(start, _)| *start);
    let mut bytes: Vec<u8> = Vec::new();
    for (start, segment) in segments {
        assert!(start <= bytes.len(), "a hole from byte {} to {start}", bytes.len());
        bytes.resize(bytes.len().max(start + segment.len()), 0);
        bytes[start..start + segment.len()].copy_from_slice(segment);
    }
    bytes
}

/// Where the SYN+ACK is not seen, the packet that answers it tells where its sender's bytes begin.
fn acknowledged_by_the_handshake(seen: &[Seen], direction: u8) -> Option<u32> {
    seen.iter()
        .filter(|packet| packet.header.direction != direction)
        .map(Seen::parse)
        .find(|packet| packet.flags & (TCP_SYN | TCP_ACK) == TCP_ACK)
        .map(|packet| packet.acknowledgement)
}

fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn echo_is_captured_in_both_directions(loopback: IpAddr) {
    let (listener, server) = listen(loopback);
    let mut capture = start(&on_port(server.port()));
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    let client_address = client.local_addr().unwrap();
    echo_once(&mut client, b"hi, all !");
    drop(client);
    echo.join().unwrap();
    let seen = finish(&mut capture, Vec::new());

    assert_eq!(payload(&seen, DIRECTION_INGRESS), b"hi, all !");
    assert_eq!(payload(&seen, DIRECTION_EGRESS), b"hi, all !");
    let flags: Vec<u8> = seen.iter().map(|packet| packet.parse().flags).collect();
    let handshake = [TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK];
    if sees_every_syn_ack(loopback) {
        assert_eq!(flags[..3], handshake);
    } else {
        assert_eq!(flags[..2], [handshake[0], handshake[2]]);
    }
    assert!(flags.iter().any(|flags| flags & TCP_FIN != 0));
    for packet in &seen {
        let header = &packet.header;
        let parsed = packet.parse();
        let (source, destination) = if header.direction == DIRECTION_INGRESS {
            (client_address, server)
        } else {
            (server, client_address)
        };
        assert_eq!((parsed.source, parsed.destination), (source, destination));
        assert_eq!(header.family, if loopback.is_ipv4() { 4 } else { 6 });
        assert_eq!(header.interface_index, LOOPBACK_INDEX);
        assert_eq!(header.packet_length as usize, packet.bytes.len());
        assert_eq!(header.losses, 0);
        assert_ne!(header.socket_cookie, 0);
        assert_ne!(header.cgroup_id, 0);
        assert_ne!(header.boot_time_ns, 0);
        assert_eq!(header.netns_cookie != 0, capture.has_netns_cookies());
        assert_eq!(header.local_port, server.port());
    }
    let with_data: Vec<&Seen> = seen.iter().filter(|packet| !packet.parse().payload.is_empty()).collect();
    assert!(with_data.len() >= 2);
    for packet in with_data {
        assert_eq!(packet.header.local(), server);
        assert_eq!(packet.header.remote(), client_address);
        assert_eq!(packet.header.socket_cookie, seen.last().unwrap().header.socket_cookie);
    }
}

#[test]
fn an_ipv4_echo_is_captured_in_both_directions_with_its_tuple() {
    echo_is_captured_in_both_directions(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn an_ipv6_echo_is_captured_in_both_directions_with_its_tuple() {
    echo_is_captured_in_both_directions(Ipv6Addr::LOCALHOST.into());
}

#[test]
fn an_ipv4_client_of_a_dual_stack_socket_is_ipv4() {
    let (listener, server) = listen(Ipv6Addr::UNSPECIFIED.into());
    let mut capture = start(&on_port(server.port()));
    let echo = serve_echo(listener);
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let mut client = TcpStream::connect(server).unwrap();
    let client_address = client.local_addr().unwrap();
    echo_once(&mut client, b"mapped");
    drop(client);
    echo.join().unwrap();
    let seen = finish(&mut capture, Vec::new());
    let with_data = seen.iter().find(|packet| !packet.parse().payload.is_empty()).unwrap();
    assert_eq!(with_data.header.family, 4);
    assert_eq!(with_data.header.local(), server);
    assert_eq!(with_data.header.remote(), client_address);
}

#[test]
fn an_unobserved_port_and_udp_on_an_observed_one_are_not_captured() {
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let (other_listener, _) = listen(Ipv4Addr::LOCALHOST.into());
    let other_port = other_listener.local_addr().unwrap().port();
    let mut capture = start(&on_port(other_port));
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    echo_once(&mut client, b"nobody looks");
    drop(client);
    echo.join().unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, other_port)).unwrap();
    udp.send_to(b"datagram", udp.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(udp.recv(&mut buffer).unwrap(), 8, "traffic passes unharmed");
    assert!(finish(&mut capture, Vec::new()).is_empty());
    assert_eq!(capture.counters().get(Counter::Seen), 0);
}

#[test]
fn ports_change_while_running() {
    let (listener, first) = listen(Ipv4Addr::LOCALHOST.into());
    let (second_listener, second) = listen(Ipv4Addr::LOCALHOST.into());
    let mut capture = start(&on_port(first.port()));
    let echo = serve_echo(listener);
    let second_echo = serve_echo(second_listener);
    let mut client = TcpStream::connect(first).unwrap();
    let mut second_client = TcpStream::connect(second).unwrap();
    echo_once(&mut client, b"one");
    capture.set_ports(&[second.port()]);
    echo_once(&mut client, b"two");
    echo_once(&mut second_client, b"three");
    let mut before_both = Vec::new();
    drain(&mut capture, &mut before_both);
    capture.set_ports(&[first.port(), second.port()]);
    echo_once(&mut client, b"four");
    echo_once(&mut second_client, b"five");
    drop((client, second_client));
    echo.join().unwrap();
    second_echo.join().unwrap();
    let seen = finish(&mut capture, before_both);
    let ingress: Vec<(u16, Vec<u8>)> = seen
        .iter()
        .filter(|packet| packet.header.direction == DIRECTION_INGRESS)
        .map(|packet| (packet.header.local_port, packet.parse().payload.to_vec()))
        .filter(|(_, payload)| !payload.is_empty())
        .collect();
    assert_eq!(
        ingress,
        [
            (first.port(), b"one".to_vec()),
            (second.port(), b"three".to_vec()),
            (first.port(), b"four".to_vec()),
            (second.port(), b"five".to_vec()),
        ]
    );
}

#[test]
fn the_snap_length_cuts_packets_and_counts_them() {
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let snap_length_bytes = 96;
    let mut capture = start(&Options { snap_length_bytes, ..on_port(server.port()) });
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    let message = pattern(5000);
    echo_once(&mut client, &message);
    drop(client);
    echo.join().unwrap();
    let seen = finish(&mut capture, Vec::new());
    let cut: Vec<&Seen> =
        seen.iter().filter(|packet| packet.header.packet_length > snap_length_bytes).collect();
    assert!(cut.len() >= 2);
    for packet in &cut {
        assert_eq!(packet.bytes.len(), snap_length_bytes as usize);
        assert!(!packet.rest_lost);
    }
    assert_eq!(cut[0].parse().payload, &message[..cut[0].parse().payload.len()]);
    assert_eq!(capture.counters().get(Counter::Truncated), cut.len() as u64);
    assert!(seen.iter().all(|packet| packet.bytes.len() <= snap_length_bytes as usize));
}

fn no_acks_filters(loopback: IpAddr) {
    let (listener, server) = listen(loopback);
    let mut capture = start(&Options { no_acks: true, ..on_port(server.port()) });
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    for _ in 0..20 {
        echo_once(&mut client, b"ping");
    }
    drop(client);
    echo.join().unwrap();
    let seen = finish(&mut capture, Vec::new());
    let flags: Vec<u8> = seen.iter().map(|packet| packet.parse().flags).collect();
    assert_eq!(flags[0], TCP_SYN);
    assert_eq!(flags[1] == TCP_SYN | TCP_ACK, sees_every_syn_ack(loopback));
    assert_eq!(flags.iter().filter(|flags| **flags & TCP_FIN != 0).count(), 2);
    for packet in &seen {
        let parsed = packet.parse();
        assert!(!parsed.payload.is_empty() || parsed.flags & (TCP_SYN | TCP_FIN) != 0, "{parsed:?}");
    }
    assert_eq!(payload(&seen, DIRECTION_INGRESS), b"ping".repeat(20));
    assert!(capture.counters().get(Counter::Filtered) >= 1, "{}", capture.counters());
}

#[test]
fn no_acks_leaves_out_pure_acknowledgements_only() {
    no_acks_filters(Ipv4Addr::LOCALHOST.into());
    no_acks_filters(Ipv6Addr::LOCALHOST.into());
}

#[test]
fn the_client_side_observes_sockets_connected_to_the_port() {
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let mut capture = start(&Options { side: Side::Client, ..on_port(server.port()) });
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    let client_address = client.local_addr().unwrap();
    echo_once(&mut client, b"from the client");
    client.shutdown(Shutdown::Write).unwrap();
    echo.join().unwrap();
    let seen = finish(&mut capture, Vec::new());
    assert_eq!(payload(&seen, DIRECTION_EGRESS), b"from the client");
    assert_eq!(payload(&seen, DIRECTION_INGRESS), b"from the client");
    for packet in &seen {
        assert_eq!(packet.header.local(), client_address);
        assert_eq!(packet.header.remote(), server);
    }
    assert_eq!(seen[0].parse().flags, TCP_SYN);
    assert_eq!(seen[0].header.direction, DIRECTION_EGRESS);
}

#[test]
fn an_interface_filter_counts_what_it_leaves_out() {
    for (interface_index, expected) in [(LOOPBACK_INDEX, true), (LOOPBACK_INDEX + 4096, false)] {
        let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
        let mut capture =
            start(&Options { interface_index: Some(interface_index), ..on_port(server.port()) });
        let echo = serve_echo(listener);
        let mut client = TcpStream::connect(server).unwrap();
        echo_once(&mut client, b"which way");
        drop(client);
        echo.join().unwrap();
        let seen = finish(&mut capture, Vec::new());
        let counters = capture.counters();
        assert!(counters.get(Counter::Seen) > 0);
        if expected {
            assert_eq!(payload(&seen, DIRECTION_INGRESS), b"which way");
            assert_eq!(counters.get(Counter::Filtered), 0);
        } else {
            assert!(seen.is_empty());
            assert_eq!(counters.get(Counter::Filtered), counters.get(Counter::Seen));
        }
    }
}

fn large_write_arrives_whole(loopback: IpAddr) -> u32 {
    const LENGTH: usize = 4 << 20;
    let (listener, server) = listen(loopback);
    let mut capture = start(&on_port(server.port()));
    let message = pattern(LENGTH);
    let expected = message.clone();
    let server_thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; LENGTH];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, expected);
        stream.write_all(&received).unwrap();
    });
    let mut client = TcpStream::connect(server).unwrap();
    let mut reader = client.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut echoed = vec![0; LENGTH];
        reader.read_exact(&mut echoed).unwrap();
        echoed
    });
    let mut seen = Vec::new();
    client.write_all(&message).unwrap();
    while !reading.is_finished() {
        drain(&mut capture, &mut seen);
        thread::sleep(Duration::from_millis(1));
    }
    assert!(reading.join().unwrap() == message);
    server_thread.join().unwrap();
    drop(client);
    let seen = finish(&mut capture, seen);
    let counters = capture.counters();
    assert_eq!(counters.losses() + counters.get(Counter::CapturedPartly), 0, "{counters}");
    for packet in &seen {
        assert_eq!(packet.bytes.len(), packet.header.packet_length as usize);
    }
    assert!(payload(&seen, DIRECTION_INGRESS) == message, "ingress is not what was sent");
    assert!(payload(&seen, DIRECTION_EGRESS) == message, "egress is not what was sent");
    let longest = seen.iter().map(|packet| packet.header.packet_length).max().unwrap();
    let joined = seen.iter().filter(|packet| packet.bytes.len() > 65_536).count() as u64;
    assert_eq!(capture.piece_statistics().packets_joined, joined);
    longest
}

#[test]
fn large_writes_arrive_byte_exact_and_packets_over_64_kib_whole() {
    let mut longest = 0;
    for _ in 0..5 {
        longest = longest.max(large_write_arrives_whole(Ipv4Addr::LOCALHOST.into()));
        longest = longest.max(large_write_arrives_whole(Ipv6Addr::LOCALHOST.into()));
        if longest > 65_536 || !makes_packets_over_64_kib() {
            break;
        }
    }
    eprintln!("longest packet: {longest} bytes");
    assert!(longest > 30_000);
    assert!(longest > 65_536 || !makes_packets_over_64_kib(), "no packet came in pieces");
}

#[test]
fn a_ring_that_is_too_small_loses_packets_and_counts_every_one() {
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let mut capture = start(&Options { ring_bytes: 64 << 10, ..on_port(server.port()) });
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    let message = pattern(1400);
    for _ in 0..500 {
        echo_once(&mut client, &message);
    }
    let mut seen = Vec::new();
    drain(&mut capture, &mut seen);
    let before = seen.len();
    assert!(before > 0);
    echo_once(&mut client, b"after the losses");
    drop(client);
    echo.join().unwrap();
    let seen = finish(&mut capture, seen);
    let counters = capture.counters();
    assert!(counters.get(Counter::LostRingFull) > 500, "{counters}");
    assert_eq!(seen[0].header.losses, 0);
    assert_eq!(seen[before].header.losses, counters.get(Counter::LostRingFull));
    assert_eq!(seen[before].parse().payload, b"after the losses");
}

#[test]
fn a_long_packet_that_does_not_fit_is_delivered_as_far_as_it_went() {
    // Nothing is drained: where the ring ends, it often has room for a long packet's first piece only. Only
    // the sender's side sees packets over 64 KiB, loopback cuts them before they arrive.
    const RING_BYTES: u32 = 512 << 10;
    const LENGTH: usize = 4 << 20;
    let message = pattern(LENGTH);
    for _ in 0..30 {
        let (listener, server) = listen(Ipv6Addr::LOCALHOST.into());
        let mut capture =
            start(&Options { side: Side::Client, ring_bytes: RING_BYTES, ..on_port(server.port()) });
        let server_thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut vec![0; LENGTH]).unwrap();
        });
        let mut client = TcpStream::connect(server).unwrap();
        client.write_all(&message).unwrap();
        server_thread.join().unwrap();
        let seen = Vec::new();
        let seen = finish(&mut capture, seen);
        let initial = seen[0].parse().sequence.wrapping_add(1);
        for packet in &seen {
            let parsed = packet.parse();
            if packet.header.direction == DIRECTION_EGRESS && !parsed.payload.is_empty() {
                let start = parsed.sequence.wrapping_sub(initial) as usize;
                assert!(parsed.payload == &message[start..start + parsed.payload.len()]);
            }
            assert_eq!(packet.rest_lost, packet.bytes.len() < packet.header.packet_length as usize);
        }
        let counters = capture.counters();
        if counters.get(Counter::CapturedPartly) > 0 {
            eprintln!("{counters}; {:?}", capture.piece_statistics());
            return;
        }
        if !makes_packets_over_64_kib() {
            return;
        }
    }
    panic!("no packet was captured in part");
}

#[test]
fn ten_thousand_messages_are_captured_exactly_as_they_were_sent() {
    const MESSAGES: usize = 10_000;
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let capture = start(&Options { ring_bytes: 32 << 20, ..on_port(server.port()) });
    let echo = serve_echo(listener);
    let traffic = thread::spawn(move || {
        let mut client = TcpStream::connect(server).unwrap();
        client.set_nodelay(true).unwrap();
        let bytes = pattern(MESSAGES * 100);
        for message in bytes.chunks(100) {
            echo_once(&mut client, message);
        }
        bytes
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen: Vec<Seen> = Vec::new();
    let mut batches = 0_u32;
    let mut capture = runtime.block_on(async {
        let mut stream = PacketStream::new(capture).unwrap();
        while !(traffic.is_finished() && echo.is_finished()) {
            let batch = stream.next_batch(4096, |packet| {
                seen.push(Seen {
                    header: packet.header,
                    bytes: packet.data.to_vec(),
                    rest_lost: packet.rest_lost,
                });
                ControlFlow::Continue(())
            });
            if let Ok(drained) = tokio::time::timeout(Duration::from_millis(50), batch).await {
                assert!(drained.unwrap() > 0);
                batches += 1;
            }
        }
        stream.into_capture()
    });
    let sent = traffic.join().unwrap();
    echo.join().unwrap();
    let seen = finish(&mut capture, seen);
    assert_eq!(capture.counters().losses(), 0, "{}", capture.counters());
    assert!(payload(&seen, DIRECTION_INGRESS) == sent);
    assert!(payload(&seen, DIRECTION_EGRESS) == sent);
    assert!((batches as usize) < seen.len() / 4, "{batches} batches for {} packets", seen.len());
    eprintln!("{} packets in {batches} batches", seen.len());
}

#[test]
fn the_first_packet_after_silence_is_delivered_at_once() {
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let capture = start(&on_port(server.port()));
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    // A clock that passes only where nothing but timers is waited for: not the machine's speed, the waits are measured.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut stream = PacketStream::new(capture).unwrap();
        for _ in 0..20 {
            // Everything before is read, and the ring is found empty.
            while tokio::time::timeout(
                Duration::from_millis(20),
                stream.next_batch(64, |_| ControlFlow::Continue(())),
            )
            .await
            .is_ok()
            {}
            let sent = tokio::time::Instant::now();
            client.write_all(b"x").unwrap();
            stream.next_batch(64, |_| ControlFlow::Continue(())).await.unwrap();
            assert_eq!(sent.elapsed(), Duration::ZERO);
            client.read_exact(&mut [0; 1]).unwrap();
        }
    });
    drop(client);
    echo.join().unwrap();
}

#[test]
fn debug_logs_cost_nothing_when_off_and_are_there_when_on() {
    let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
    let quiet = start(&on_port(server.port()));
    let mut logging = start(&Options { debug_log: true, ..on_port(server.port()) });
    assert!(quiet.debug_log_fd().is_none());
    assert!(logging.debug_log_fd().is_some());
    let quiet_count = quiet.verified_instructions();
    let logging_count = logging.verified_instructions();
    eprintln!("verified instructions: {quiet_count:?} without debug log, {logging_count:?} with");
    // The kernel tells the number since 5.16.
    if let (Some(quiet_count), Some(logging_count)) = (quiet_count, logging_count) {
        assert!(quiet_count.0 < logging_count.0);
        assert!(quiet_count.1 < logging_count.1);
    }
    let echo = serve_echo(listener);
    let mut client = TcpStream::connect(server).unwrap();
    echo_once(&mut client, b"logged");
    drop(client);
    echo.join().unwrap();
    let mut poll =
        libc::pollfd { fd: logging.debug_log_fd().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 1000) }, 1, "nothing was logged");
    let seen = finish(&mut logging, Vec::new());
    assert_eq!(payload(&seen, DIRECTION_INGRESS), b"logged");
}

#[test]
fn nothing_stays_attached_after_a_drop_a_detach_or_a_kill() {
    const HOLD_IN: &str = "OBSERVER_TEST_HOLD_IN";
    const THIS_TEST: &str = "nothing_stays_attached_after_a_drop_a_detach_or_a_kill";
    if let Some(path) = std::env::var_os(HOLD_IN) {
        let _held = start(&Options { cgroup: Some(path.into()), ..on_port(7272) });
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }
    let cgroup = PrivateCgroup::new("detach");
    let options = Options { cgroup: Some(cgroup.path.clone()), ..on_port(7272) };
    let capture = start(&options);
    assert!(capture.is_below_root_cgroup());
    assert_eq!(cgroup.attached(), [1, 1]);
    let mut second = start(&options);
    assert_eq!(cgroup.attached(), [2, 2], "two observers share a cgroup");
    drop(capture);
    assert_eq!(cgroup.attached(), [1, 1]);
    second.detach();
    assert_eq!(cgroup.attached(), [0, 0]);

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", THIS_TEST])
        .env(HOLD_IN, &cgroup.path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let give_up = Instant::now() + Duration::from_secs(30);
    while cgroup.attached() != [1, 1] {
        assert!(Instant::now() < give_up, "the other process did not attach");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel frees a link's last reference a little after the process is gone.
    while cgroup.attached() != [0, 0] {
        assert!(Instant::now() < give_up, "{:?} left attached", cgroup.attached());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Gives up every capability of the calling thread but these.
fn keep_capabilities_of_this_thread(kept: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        thread: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, thread: 0 };
    // Effective, permitted and inheritable, the low 32 of each first.
    let mut sets = [[0_u32; 3]; 2];
    for capability in kept {
        let [effective, permitted, _] = &mut sets[*capability as usize / 32];
        *effective |= 1 << (capability % 32);
        *permitted |= 1 << (capability % 32);
    }
    // SAFETY: both structures are laid out as the kernel's.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn everything_after_the_start_works_without_capabilities() {
    thread::spawn(|| {
        let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
        let mut capture = start(&on_port(1));
        let echo = serve_echo(listener);
        keep_capabilities_of_this_thread(&[]);
        capture.set_ports(&[server.port()]);
        let mut client = TcpStream::connect(server).unwrap();
        echo_once(&mut client, b"no privileges");
        drop(client);
        echo.join().unwrap();
        assert!(capture.counters().get(Counter::Seen) > 0);
        let seen = finish(&mut capture, Vec::new());
        assert_eq!(payload(&seen, DIRECTION_INGRESS), b"no privileges");
    })
    .join()
    .unwrap();
}

#[test]
fn a_start_without_capabilities_says_which_are_missing() {
    let error = thread::spawn(|| {
        keep_capabilities_of_this_thread(&[]);
        LiveCapture::start(&on_port(7272)).err().expect("nobody may load without capabilities")
    })
    .join()
    .unwrap();
    assert!(matches!(error, StartError::NotPermitted { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("sudo") && text.contains("CAP_BPF missing"), "{text}");
}

#[test]
fn the_documented_capabilities_are_enough_to_start() {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    thread::spawn(|| {
        let (listener, server) = listen(Ipv4Addr::LOCALHOST.into());
        let all = [CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON];
        keep_capabilities_of_this_thread(if needs_perfmon() { &all } else { &all[..2] });
        let mut capture = start(&on_port(server.port()));
        let echo = serve_echo(listener);
        let mut client = TcpStream::connect(server).unwrap();
        echo_once(&mut client, b"enough");
        drop(client);
        echo.join().unwrap();
        let seen = finish(&mut capture, Vec::new());
        assert_eq!(payload(&seen, DIRECTION_INGRESS), b"enough");
    })
    .join()
    .unwrap();
}

#[test]
fn a_cgroup_that_another_program_has_for_itself_is_left_alone() {
    let cgroup = PrivateCgroup::new("taken");
    let alone = ProgramAlone::attach(&cgroup);
    assert_eq!(cgroup.attached(), [0, 1]);
    let options = Options { cgroup: Some(cgroup.path.clone()), ..on_port(7272) };
    let error = LiveCapture::start(&options).err().expect("the other one lets nobody beside it");
    assert!(matches!(error, StartError::CgroupIsTaken { .. }), "{error}");
    assert!(error.to_string().contains("bpftool cgroup tree"), "{error}");
    // Half of a capture would be worse than none.
    assert_eq!(cgroup.attached(), [0, 1]);
    drop(alone);
    assert_eq!(cgroup.attached(), [0, 0]);
}

/// A program that lets everything out, attached to a cgroup in a way that lets no other beside it; detached at the end.
struct ProgramAlone<'a> {
    cgroup: &'a PrivateCgroup,
    program: OwnedFd,
}

#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

const BPF_CGROUP_INET_EGRESS: u32 = 1;

impl<'a> ProgramAlone<'a> {
    fn attach(cgroup: &'a PrivateCgroup) -> Self {
        #[repr(C)]
        struct LoadAttributes {
            kind: u32,
            instruction_count: u32,
            instructions: *const u64,
            licence: *const libc::c_char,
            rest: [u32; 11],
            expected_attach_type: u32,
        }
        const BPF_PROG_LOAD: libc::c_long = 5;
        const BPF_PROG_ATTACH: libc::c_long = 8;
        const BPF_PROG_TYPE_CGROUP_SKB: u32 = 8;
        // r0 = 1; exit
        let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
        let load = LoadAttributes {
            kind: BPF_PROG_TYPE_CGROUP_SKB,
            instruction_count: 2,
            instructions: instructions.as_ptr(),
            licence: c"GPL".as_ptr(),
            rest: [0; 11],
            expected_attach_type: BPF_CGROUP_INET_EGRESS,
        };
        let program = bpf(BPF_PROG_LOAD, &load);
        // SAFETY: the kernel has just made this descriptor for us.
        let program = unsafe { OwnedFd::from_raw_fd(program) };
        let this = Self { cgroup, program };
        this.with_attributes(BPF_PROG_ATTACH);
        this
    }

    fn with_attributes(&self, command: libc::c_long) {
        let directory = std::fs::File::open(&self.cgroup.path).unwrap();
        let attributes = AttachAttributes {
            target_fd: directory.as_raw_fd().cast_unsigned(),
            program_fd: self.program.as_raw_fd().cast_unsigned(),
            attach_type: BPF_CGROUP_INET_EGRESS,
            flags: 0,
        };
        bpf(command, &attributes);
    }
}

impl Drop for ProgramAlone<'_> {
    fn drop(&mut self) {
        const BPF_PROG_DETACH: libc::c_long = 9;
        self.with_attributes(BPF_PROG_DETACH);
    }
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> i32 {
    // SAFETY: the structures are laid out as the kernel's, and outlive the call with what they point to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>() as libc::c_long)
    };
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    i32::try_from(result).unwrap()
}

#[test]
fn a_directory_that_is_no_cgroup_is_refused() {
    let error = LiveCapture::start(&Options { cgroup: Some("/proc".into()), ..on_port(7272) })
        .err()
        .expect("/proc is no cgroup");
    assert!(matches!(error, StartError::NoCgroup2 { .. }), "{error}");
}

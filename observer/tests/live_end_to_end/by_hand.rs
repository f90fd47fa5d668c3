//! A TCP client made by hand, so that it can send what no kernel sends; and a server that keeps what it reads.
//!
//! Owns a raw socket with a loopback address of its own, in the network namespace of its test. Must not know what a
//! test makes of it. Bounded by IPv4 without options, and by the patience of the other tests.
//!
//! The kernel knows nothing of the client's connections, and would reset them: a rule of nftables keeps that in.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::support::{PATIENCE, run};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 7, 7, 7);
/// Of what is made by hand; the kernel's own packets have another.
const TIME_TO_LIVE: i32 = 77;

/// What every test's conversation upgrades with: RFC 6455 §1.3's key.
pub const REQUEST: &str = "GET /by-hand HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
pub const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A text frame whose mask changes nothing, so that its payload is on the wire as it is.
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    masked_frame(0, payload)
}

/// The same, each byte of whose key is this.
pub fn masked_frame(key: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(payload.len()).unwrap() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([key; 4]);
    frame.extend(payload.iter().map(|byte| byte ^ key));
    frame
}

/// A segment of the other end, as far as anybody here looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub window: u16,
    pub length: u32,
}

/// One connection's client.
pub struct ByHand {
    socket: OwnedFd,
    port: u16,
    server: SocketAddrV4,
    /// Position of the first byte behind the SYN.
    start: u32,
    /// Position of the next byte that is not made by a test itself.
    pub next: u32,
    /// What is expected next of the server.
    pub expected: u32,
    /// Whether segments are sent with a wrong checksum.
    pub breaks_checksums: bool,
}

impl ByHand {
    /// Keeps the kernel of this network namespace from answering for connections that it does not know.
    pub fn silence_the_kernel() {
        run("nft", &["add", "table", "ip", "by_hand"]);
        run("nft", &["add", "chain", "ip", "by_hand", "out", "{ type filter hook output priority 0; }"]);
        let rule = "add rule ip by_hand out ip saddr 127.7.7.7 ip ttl != 77 tcp flags & rst == rst drop";
        run("nft", &rule.split(' ').collect::<Vec<_>>());
    }

    /// A client that has sent nothing.
    pub fn new(port: u16, server: SocketAddr, initial: u32) -> Self {
        let SocketAddr::V4(server) = server else { panic!("made by hand is IPv4 only") };
        let socket =
            socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).unwrap();
        let address = |ip| SockaddrIn::from(SocketAddrV4::new(ip, 0));
        bind(socket.as_raw_fd(), &address(CLIENT)).unwrap();
        connect(socket.as_raw_fd(), &address(*server.ip())).unwrap();
        setsockopt(&socket, sockopt::Ipv4Ttl, &TIME_TO_LIVE).unwrap();
        let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap());
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).unwrap();
        Self {
            socket,
            port,
            server,
            start: initial.wrapping_add(1),
            next: initial,
            expected: 0,
            breaks_checksums: false,
        }
    }

    /// Opens a connection, and waits for the answer.
    pub fn connect(port: u16, server: SocketAddr, initial: u32) -> Self {
        let mut client = Self::new(port, server, initial);
        client.segment_at(initial, SYN, 0, b"");
        client.next = client.start;
        let answer = client.answer_with(|answer| answer.flags & SYN != 0);
        client.expected = answer.sequence.wrapping_add(1);
        client.segment_at(client.next, ACK, 0, b"");
        client
    }

    /// Opens a connection to [`Reader`], and a WebSocket on it.
    pub fn upgrade(port: u16, server: SocketAddr, initial: u32) -> Self {
        let mut client = Self::connect(port, server, initial);
        client.send(REQUEST.as_bytes());
        client.wait_for_the_application();
        client
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((CLIENT, self.port))
    }

    /// Sends bytes in order, in one segment.
    pub fn send(&mut self, payload: &[u8]) {
        self.segment_at(self.next, PSH | ACK, 0, payload);
        self.skip(payload.len());
    }

    /// Counts bytes as sent.
    pub fn skip(&mut self, bytes: usize) {
        self.next = self.next.wrapping_add(u32::try_from(bytes).unwrap());
    }

    /// Sends bytes at an offset from what is next.
    pub fn send_ahead(&self, ahead: usize, payload: &[u8]) {
        self.segment_at(self.next.wrapping_add(u32::try_from(ahead).unwrap()), PSH | ACK, 0, payload);
    }

    /// Sends any segment.
    pub fn segment_at(&self, sequence: u32, flags: u8, urgent: u16, payload: &[u8]) {
        let mut segment = Vec::new();
        segment.extend(self.port.to_be_bytes());
        segment.extend(self.server.port().to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(if flags & ACK != 0 { self.expected } else { 0 }.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0]);
        segment.extend(urgent.to_be_bytes());
        segment.extend(payload);
        let checksum = self.checksum(&segment) ^ u16::from(self.breaks_checksums);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        let sent = send(self.socket.as_raw_fd(), &segment, MsgFlags::empty()).unwrap();
        assert_eq!(sent, segment.len());
    }

    /// RFC 9293 §3.1.
    fn checksum(&self, segment: &[u8]) -> u16 {
        let length = u16::try_from(segment.len()).unwrap();
        let pseudo =
            [&CLIENT.octets()[..], &self.server.ip().octets(), &[0, 6], &length.to_be_bytes()].concat();
        let words = |bytes: &[u8]| -> u32 {
            bytes
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
                .sum()
        };
        let mut sum = words(&pseudo) + words(segment);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    /// The next segment of the server that is as wanted.
    pub fn answer_with(&self, is_wanted: impl Fn(&Answer) -> bool) -> Answer {
        let mut packet = [0; 70_000];
        loop {
            let length =
                recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("no such answer");
            let tcp = &packet[usize::from(packet[0] & 0xf) * 4..length];
            let u16_at = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
            let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
            if (u16_at(0), u16_at(2)) != (self.server.port(), self.port) {
                continue;
            }
            let answer = Answer {
                flags: tcp[13],
                sequence: u32_at(4),
                acknowledgment: u32_at(8),
                window: u16_at(14),
                length: u32::try_from(tcp.len() - usize::from(tcp[12] >> 4) * 4).unwrap(),
            };
            if is_wanted(&answer) {
                return answer;
            }
        }
    }

    /// Waits until the server sends bytes, and acknowledges them.
    pub fn wait_for_the_application(&mut self) {
        let expected = self.expected;
        let answer = self.answer_with(|answer| answer.length > 0 && answer.sequence == expected);
        self.expected = answer.sequence.wrapping_add(answer.length);
        self.segment_at(self.next, ACK, 0, b"");
    }

    /// Closes its half, and acknowledges that the server closes the other.
    pub fn leave(&mut self) {
        self.segment_at(self.next, ACK | FIN, 0, b"");
        self.skip(1);
        self.acknowledge_fin();
    }

    /// Waits for the server's FIN, and acknowledges it.
    pub fn acknowledge_fin(&mut self) {
        let answer = self.answer_with(|answer| answer.flags & FIN != 0);
        self.expected = answer.sequence.wrapping_add(answer.length + 1);
        self.segment_at(self.next, ACK, 0, b"");
    }

    /// Waits until the server has acknowledged all that was sent in order.
    pub fn wait_until_acknowledged(&self) {
        self.answer_with(|answer| answer.acknowledgment == self.next);
    }
}

/// A server that knows just enough of WebSocket to be asked for one, and keeps every byte behind the request.
pub struct Reader {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Reader {
    /// On loopback, on a port that the kernel picks.
    pub fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into())
    }

    pub fn on(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The same, with so much room for what the application has not read.
    pub fn with_room(bytes: usize) -> Self {
        let reader = Self::new();
        setsockopt(&reader.listener, sockopt::RcvBuf, &bytes).unwrap();
        reader
    }

    /// Accepts a connection and answers its request.
    pub fn accept(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(ANSWER.as_bytes()).unwrap();
        stream
    }
}

/// The next so many bytes that an application reads.
pub fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).unwrap();
    read
}

//! Tiny captures made in memory, and the binary to feed them to.
//!
//! Owns the bytes of Ethernet, IPv4 and TCP as far as tests need them, and of pcap and pcapng. Must not use any parser
//! that the product uses. Bounded by the tests.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// 2024-01-01T12:00:00Z.
pub const NOON_SECONDS: u32 = 1_704_110_400;

/// What every test's conversation upgrades with: RFC 6455 §1.3's key and its accept value.
pub const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// Its answer.
pub const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Which end sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    Client,
    Server,
}

/// Builds the IP packets of one TCP connection from 10.0.0.1:40000 to 10.0.0.2.
pub struct Conversation {
    client_port: u16,
    server_port: u16,
    next_sequence: [u32; 2],
    /// IP packets in order.
    pub packets: Vec<Vec<u8>>,
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;

impl Conversation {
    /// TCP's handshake.
    pub fn open(server_port: u16) -> Self {
        Self::open_from(40_000, server_port)
    }

    /// The same, from another port of the client.
    pub fn open_from(client_port: u16, server_port: u16) -> Self {
        let next_sequence = [1_000, u32::MAX - 20];
        let mut conversation = Self { client_port, server_port, next_sequence, packets: Vec::new() };
        conversation.segment(From::Client, SYN, b"");
        conversation.segment(From::Server, SYN | ACK, b"");
        conversation.segment(From::Client, ACK, b"");
        conversation
    }

    /// A SYN that nobody answers, with what it carries.
    pub fn attempt(client_port: u16, server_port: u16, payload: &[u8]) -> Self {
        let mut attempt = Self { client_port, server_port, next_sequence: [1_000, 0], packets: Vec::new() };
        attempt.segment(From::Client, SYN, payload);
        attempt
    }

    /// TCP's and WebSocket's handshakes.
    pub fn upgraded(server_port: u16) -> Self {
        Self::upgraded_from(40_000, server_port)
    }

    /// The same, from another port of the client.
    pub fn upgraded_from(client_port: u16, server_port: u16) -> Self {
        let mut conversation = Self::open_from(client_port, server_port);
        conversation.send(From::Client, REQUEST.as_bytes());
        conversation.send(From::Server, ANSWER.as_bytes());
        conversation
    }

    /// An acknowledgment of all that the other end sent.
    pub fn acknowledge(&mut self, from: From) {
        self.segment(from, ACK, b"");
    }

    /// The same, as somebody may forge it, so far beyond everything in both directions.
    pub fn forge_acknowledgment(&mut self, from: From, beyond: [u32; 2]) {
        let before = self.next_sequence;
        let (own, other) = if from == From::Client { (0, 1) } else { (1, 0) };
        self.next_sequence[own] = before[own].wrapping_add(beyond[0]);
        self.next_sequence[other] = before[other].wrapping_add(beyond[1]);
        self.acknowledge(from);
        self.next_sequence = before;
    }

    /// Bytes in one segment.
    pub fn send(&mut self, from: From, payload: &[u8]) {
        self.segment(from, PUSH | ACK, payload);
    }

    /// A whole frame in one segment, masked if the client's.
    pub fn frame(&mut self, from: From, opcode: u8, payload: &[u8]) {
        self.send(from, &frame(from, opcode, payload));
    }

    /// A fragment that is not the last one.
    pub fn fragment(&mut self, from: From, opcode: u8, payload: &[u8]) {
        let mut bytes = frame(from, opcode, payload);
        bytes[0] &= 0x7f;
        self.send(from, &bytes);
    }

    /// A text message.
    pub fn text(&mut self, from: From, text: &str) {
        self.frame(from, 1, text.as_bytes());
    }

    /// Close frames and FINs, the client first.
    pub fn close(&mut self) {
        self.frame(From::Client, 8, &1000_u16.to_be_bytes());
        self.frame(From::Server, 8, &1000_u16.to_be_bytes());
        self.segment(From::Server, FIN | ACK, b"");
        self.segment(From::Client, FIN | ACK, b"");
        self.segment(From::Server, ACK, b"");
    }

    fn segment(&mut self, from: From, flags: u8, payload: &[u8]) {
        let (own, other) = if from == From::Client { (0, 1) } else { (1, 0) };
        let ports = [self.client_port, self.server_port];
        let addresses = [[10, 0, 0, 1], [10, 0, 0, 2]];
        let length = u16::try_from(40 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend(addresses[own]);
        packet.extend(addresses[other]);
        packet.extend(ports[own].to_be_bytes());
        packet.extend(ports[other].to_be_bytes());
        packet.extend(self.next_sequence[own].to_be_bytes());
        let acknowledged = if flags & ACK == 0 { 0 } else { self.next_sequence[other] };
        packet.extend(acknowledged.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        let advance = u32::try_from(payload.len()).unwrap() + u32::from(flags & (SYN | FIN) != 0);
        self.next_sequence[own] = self.next_sequence[own].wrapping_add(advance);
        self.packets.push(packet);
    }
}

/// A frame's bytes.
pub fn frame(from: From, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = if from == From::Client { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(mask | u8::try_from(length).unwrap()),
        length => {
            frame.push(mask | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    if from == From::Client {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    frame
}

/// A pcap file of one link type.
pub struct Pcap {
    /// Most significant byte first.
    pub big_endian: bool,
    /// Nanoseconds instead of microseconds.
    pub nanoseconds: bool,
    /// The link type's number.
    pub link: u32,
    /// What stands before each IP packet.
    pub link_header: Vec<u8>,
    /// Bytes kept of each record.
    pub snap_length: usize,
}

/// An Ethernet header of IPv4.
pub const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

impl Default for Pcap {
    fn default() -> Self {
        Self {
            big_endian: false,
            nanoseconds: false,
            link: 1,
            link_header: ETHERNET.to_vec(),
            snap_length: 262_144,
        }
    }
}

impl Pcap {
    /// The file, its packets a millisecond apart from noon on.
    pub fn file(&self, packets: &[Vec<u8>]) -> Vec<u8> {
        let mut file = self.header();
        for (index, packet) in packets.iter().enumerate() {
            file.extend(self.record(index, packet));
        }
        file
    }

    fn header(&self) -> Vec<u8> {
        let magic = if self.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut file = self.u32(magic);
        file.extend(self.u16(2));
        file.extend(self.u16(4));
        for field in [0, 0, 262_144, self.link] {
            file.extend(self.u32(field));
        }
        file
    }

    pub fn record(&self, index: usize, packet: &[u8]) -> Vec<u8> {
        let data = [&self.link_header[..], packet].concat();
        let kept = &data[..data.len().min(self.snap_length)];
        let fraction = u32::try_from(index).unwrap() * if self.nanoseconds { 1_000_000 } else { 1_000 };
        let lengths = [kept.len(), data.len()].map(|length| u32::try_from(length).unwrap());
        let mut record = Vec::new();
        for field in [NOON_SECONDS, fraction, lengths[0], lengths[1]] {
            record.extend(self.u32(field));
        }
        record.extend(kept);
        record
    }

    fn u32(&self, value: u32) -> Vec<u8> {
        if self.big_endian { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn u16(&self, value: u16) -> Vec<u8> {
        if self.big_endian { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }
}

/// Blocks of pcapng.
pub struct PcapNg {
    /// Most significant byte first.
    pub big_endian: bool,
}

impl PcapNg {
    pub fn section(&self) -> Vec<u8> {
        let body = [self.u32(0x1a2b_3c4d), self.u16(1), self.u16(0), vec![0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    /// An interface; each option is a code and its value.
    pub fn interface(&self, link: u16, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = [self.u16(link), self.u16(0), self.u32(0)].concat();
        for (code, value) in options {
            body.extend([self.u16(*code), self.u16(u16::try_from(value.len()).unwrap())].concat());
            body.extend(padded(value));
        }
        body.extend([0; 4]);
        self.block(1, &body)
    }

    pub fn packet(&self, interface: u32, ticks: u64, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        let high = u32::try_from(ticks >> 32).unwrap();
        let low = u32::try_from(ticks & 0xffff_ffff).unwrap();
        let mut body: Vec<u8> =
            [interface, high, low, length, length].into_iter().flat_map(|field| self.u32(field)).collect();
        body.extend(padded(data));
        self.block(6, &body)
    }

    pub fn block(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = self.u32(u32::try_from(12 + body.len()).unwrap());
        [self.u32(kind), length.clone(), body.to_vec(), length].concat()
    }

    pub fn u64(&self, value: u64) -> Vec<u8> {
        if self.big_endian { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn u32(&self, value: u32) -> Vec<u8> {
        if self.big_endian { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn u16(&self, value: u16) -> Vec<u8> {
        if self.big_endian { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Where captures and golden output are.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

/// A file that is gone at the end of the test.
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The binary, in an environment that is the same everywhere.
pub fn observer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
    command.args(arguments).env_remove("NO_COLOR").env("TERM", "xterm").env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a run ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(arguments: &[&str]) -> Ran {
    ran(observer(arguments).output().unwrap())
}

pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Feeds a capture to `observer read -`.
pub fn run_on(bytes: &[u8], arguments: &[&str]) -> Ran {
    let mut child = start_reading(arguments);
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The run may end before it read everything.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        ran(child.wait_with_output().unwrap())
    })
}

/// `observer read -` with its standard input open.
pub fn start_reading(arguments: &[&str]) -> Child {
    let arguments = [&["read", "-", "--time", "utc"], arguments].concat();
    observer(&arguments).stdin(Stdio::piped()).spawn().unwrap()
}

/// The lines of a run as JSON.
pub fn json(ran: &Ran) -> Vec<serde_json::Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Payloads of the messages among them.
pub fn payloads(records: &[serde_json::Value]) -> Vec<&str> {
    let messages = records.iter().filter(|record| record["kind"] == "message");
    messages.map(|message| message["payload"].as_str().unwrap_or("")).collect()
}

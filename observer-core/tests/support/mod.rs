//! A wire made of memory: two ends whose packets a test can lose, repeat and reorder, and a reader of what comes out.
//!
//! Owns packet building. Must not know what a test expects. Bounded by the tests.

#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;

use observer_core::engine::{Config, Engine, Event};
use observer_core::packet::{Packet, Socket};
use observer_core::record::{Kind, Peer, Record};
use observer_core::time::Time;
use observer_core::websocket::frame::{Opcode, encode::FrameBuilder};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub fn request() -> Vec<u8> {
    format!(
        "GET /chat HTTP/1.1\r\nHost: 127.0.0.1:7272\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

pub fn answer() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes()
}

pub fn masked(text: &str) -> Vec<u8> {
    FrameBuilder::new(Opcode::Text, text).masked(key_for(text)).build()
}

/// A masking key that changes from message to message, as a client's must.
pub fn key_for(payload: impl AsRef<[u8]>) -> [u8; 4] {
    let mix =
        |key: u32, byte: &u8| key.rotate_left(5).wrapping_add(u32::from(*byte)).wrapping_mul(0x9e37_79b1);
    payload.as_ref().iter().fold(u32::from_be_bytes(MASK), mix).to_be_bytes()
}

pub fn unmasked(text: &str) -> Vec<u8> {
    FrameBuilder::new(Opcode::Text, text).build()
}

pub fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = FrameBuilder::new(Opcode::Close, code.to_be_bytes());
    frame.mask = mask;
    frame.build()
}

/// One packet on the wire.
#[derive(Clone, Debug)]
pub struct Wire {
    pub from_client: bool,
    pub flags: u8,
    pub data: Vec<u8>,
    pub length: u32,
    pub rest_lost: bool,
    pub nanoseconds: u64,
    pub losses: u64,
    pub socket: Option<Socket>,
}

impl Wire {
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            time: Time::from_file(self.nanoseconds),
            data: &self.data,
            length: self.length,
            rest_lost: self.rest_lost,
            interface: None,
            socket: self.socket,
            losses: self.losses,
        }
    }
}

/// Two ends that agree on everything; each call makes the packets of one step.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub client_next: u32,
    pub server_next: u32,
    /// As the observed socket and its listener have them, for a live capture of the server.
    pub cookies: Option<(u64, u64)>,
    pub netns_cookie: Option<u64>,
    pub clock: u64,
    pub losses: u64,
    pub packets: Vec<Wire>,
}

impl Conversation {
    pub fn new(client_port: u16) -> Self {
        Self {
            client: SocketAddr::from(([127, 0, 0, 1], client_port)),
            server: SocketAddr::from(([127, 0, 0, 1], 7272)),
            client_next: 1_000,
            server_next: u32::MAX - 20,
            cookies: None,
            netns_cookie: None,
            clock: 1_700_000_000_000_000_000,
            losses: 0,
            packets: Vec::new(),
        }
    }

    pub fn live(client_port: u16, cookie: u64) -> Self {
        Self { cookies: Some((1, cookie)), ..Self::new(client_port) }
    }

    fn push(&mut self, from_client: bool, flags: u8, payload: &[u8], by_listener: bool) {
        let (source, destination) =
            if from_client { (self.client, self.server) } else { (self.server, self.client) };
        let (sequence, acknowledgment) = if from_client {
            (self.client_next, self.server_next)
        } else {
            (self.server_next, self.client_next)
        };
        let data = packet_bytes(source, destination, sequence, acknowledgment, flags, payload);
        let positions = payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let next = if from_client { &mut self.client_next } else { &mut self.server_next };
        *next = next.wrapping_add(positions);
        self.clock += 1_000;
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let socket = self.cookies.map(|(listener, child)| Socket {
            cookie: if by_listener { listener } else { child },
            netns_cookie: self.netns_cookie,
            local: if by_listener {
                SocketAddr::new(unspecified.ip(), self.server.port())
            } else {
                self.server
            },
            remote: if by_listener { unspecified } else { self.client },
            role: Peer::Server,
            outgoing: !from_client,
        });
        self.packets.push(Wire {
            from_client,
            flags,
            length: data.len() as u32,
            data,
            rest_lost: false,
            nanoseconds: self.clock,
            losses: self.losses,
            socket,
        });
    }

    /// A segment with positions that are not the conversation's: so far ahead of what its sender sends next.
    pub fn forge(&mut self, from_client: bool, ahead: u32, flags: u8, payload: &[u8]) -> &mut Self {
        let (client_next, server_next) = (self.client_next, self.server_next);
        let next = if from_client { &mut self.client_next } else { &mut self.server_next };
        *next = next.wrapping_add(ahead);
        self.push(from_client, flags, payload, false);
        (self.client_next, self.server_next) = (client_next, server_next);
        self
    }

    /// An acknowledgment of bytes that were not sent.
    pub fn forge_acknowledgment(&mut self, from_client: bool, ahead: u32) -> &mut Self {
        let (client_next, server_next) = (self.client_next, self.server_next);
        let next = if from_client { &mut self.server_next } else { &mut self.client_next };
        *next = next.wrapping_add(ahead);
        self.push(from_client, ACK, b"", false);
        (self.client_next, self.server_next) = (client_next, server_next);
        self
    }

    pub fn connect(&mut self) -> &mut Self {
        self.push(true, SYN, b"", true);
        self.push(false, SYN | ACK, b"", true);
        self.push(true, ACK, b"", true);
        self
    }

    pub fn upgrade(&mut self) -> &mut Self {
        self.connect().client_sends(&request()).server_sends(&answer())
    }

    /// One data segment from the client, and its acknowledgment.
    pub fn client_sends(&mut self, payload: &[u8]) -> &mut Self {
        self.send(true, payload).acknowledge(false)
    }

    /// One data segment from the server, and its acknowledgment.
    pub fn server_sends(&mut self, payload: &[u8]) -> &mut Self {
        self.send(false, payload).acknowledge(true)
    }

    pub fn send(&mut self, from_client: bool, payload: &[u8]) -> &mut Self {
        self.push(from_client, PSH | ACK, payload, false);
        self
    }

    /// A segment without payload.
    pub fn send_with(&mut self, from_client: bool, flags: u8) -> &mut Self {
        self.push(from_client, flags, b"", false);
        self
    }

    pub fn acknowledge(&mut self, from_client: bool) -> &mut Self {
        self.push(from_client, ACK, b"", false);
        self
    }

    pub fn fin(&mut self, from_client: bool) -> &mut Self {
        self.push(from_client, FIN | ACK, b"", false);
        self.acknowledge(!from_client)
    }

    pub fn reset(&mut self, from_client: bool) -> &mut Self {
        self.push(from_client, RST | ACK, b"", false);
        self
    }

    /// The scenario that the project starts from, on one connection.
    pub fn chat(&mut self) -> &mut Self {
        self.upgrade()
            .client_sends(&masked(r#"{"type":"login","name":"mynick"}"#))
            .server_sends(&unmasked(r#"{"type":"user_list","user_list":[{"uid":7,"name":"mynick"}]}"#))
            .server_sends(&unmasked(r#"{"type":"login","uid":7,"name":"mynick","time":"2014-08-12 17:50:30"}"#))
            .client_sends(&masked(r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#))
            .server_sends(&unmasked(
                r#"{"type":"say","from_uid":7,"to_uid":"all","content":"hi, all !","time":"2014-08-12 17:50:40"}"#,
            ))
            .client_sends(&close(1000, Some(MASK)))
            .server_sends(&close(1000, None))
            .fin(false)
            .fin(true)
    }
}

pub fn packet_bytes(
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else {
        panic!("the memory wire is IPv4");
    };
    let mut bytes = vec![0x45, 0];
    // A super-packet carries no length of its own.
    let length = u16::try_from(40 + payload.len()).unwrap_or(0);
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(source.ip().octets());
    bytes.extend(destination.ip().octets());
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(if flags & ACK != 0 { acknowledgment } else { 0 }.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

/// Runs an engine over packets and writes each record as one line.
pub fn run<'a>(config: Config, packets: impl IntoIterator<Item = &'a Wire>) -> Vec<String> {
    let mut engine = Engine::new(config);
    let mut lines = Vec::new();
    let mut sink = |record: &Record<'_>| lines.push(line(record));
    for wire in packets {
        engine.handle(Event::Packet(wire.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    lines
}

/// The messages among the lines of [`run`].
pub fn messages(lines: &[String]) -> Vec<&str> {
    lines.iter().filter(|line| line.contains(" message ")).map(String::as_str).collect()
}

/// A packet of an accepted socket as if it had reached the listener.
pub fn at_listener(mut wire: Wire) -> Wire {
    if let Some(socket) = &mut wire.socket {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        socket.cookie = 1;
        socket.local = SocketAddr::new(unspecified.ip(), socket.local.port());
        socket.remote = unspecified;
    }
    wire
}

/// Puts payload into a packet that has none.
pub fn add_payload(wire: &mut Wire, payload: &[u8]) {
    wire.data.extend(payload);
    wire.length = u32::try_from(wire.data.len()).unwrap();
    let length = u16::try_from(wire.data.len()).unwrap();
    wire.data[2..4].copy_from_slice(&length.to_be_bytes());
}

/// The line of [`run`] that tells of a connection's end.
pub fn closed(lines: &[String]) -> &str {
    lines.iter().find(|line| line.contains(" closed ")).map_or("", String::as_str)
}

/// A record as one line.
pub fn line(record: &Record<'_>) -> String {
    let connection = record.connection.map_or_else(|| "-".to_owned(), |it| format!("#{}", it.id));
    let what = match &record.kind {
        Kind::Packet(packet) => format!("packet {:?} {:?}", packet.position, packet.acknowledged),
        Kind::ConnectionOpened(opened) => {
            let it = record.connection.expect("a connection is opened");
            let listed = if opened.was_listed { " listed" } else { "" };
            format!("opened {} {} from_start={}{listed}", it.client, it.server, opened.from_start)
        }
        Kind::Handshake(it) => format!(
            "handshake {} {:?} {:?} {:?} {:?}",
            it.direction.name(),
            it.method,
            it.path,
            it.status,
            it.accepted
        ),
        Kind::ProxyHeader(it) => format!(
            "proxy v{} {:?} {:?}{}",
            it.version,
            it.source,
            it.destination,
            if it.is_local { " local" } else { "" }
        ),
        Kind::Frame(it) => format!("frame {} {:?}", it.direction.name(), it.header.opcode),
        Kind::Message(it) => format!(
            "message {} {:?} {}{}{}{}",
            it.direction.name(),
            it.opcode,
            it.payload.text.map_or_else(|| format!("{:?}", it.payload.known), str::to_owned),
            if it.payload.is_truncated() {
                format!(" missing {:?}", it.payload.missing)
            } else {
                String::new()
            },
            if it.resynchronised { " resynchronised" } else { "" },
            it.chat.map_or_else(String::new, |chat| format!(" chat {}", chat.kind)),
        ),
        Kind::Anomaly(it) => format!("anomaly {}", it.code.code()),
        Kind::Gap(it) => {
            format!("gap {} {} {} {}", it.direction.name(), it.offset, it.length, it.cause.name())
        }
        Kind::Received(it) => {
            format!("received {} {}{}", it.direction.name(), it.to, if it.is_full { " full" } else { "" })
        }
        Kind::CaptureLoss(it) => format!("capture loss {}", it.packets),
        Kind::ConnectionClosed(it) => format!(
            "closed {:?} {} {:?} complete={}{}",
            it.closed_by.map(Peer::name),
            it.how.name(),
            it.code,
            it.is_complete(),
            match it.account.map(|account| account.bytes_skipped) {
                [0, 0] => String::new(),
                skipped => format!(" skipped={skipped:?}"),
            }
        ),
        Kind::Summary(it) => format!(
            "summary connections={} other={} open={} incomplete={} handshakes={} ignored={} messages={:?} missing={:?} limits={:?}",
            it.connections,
            it.connections_other,
            it.connections_open,
            it.connections_incomplete,
            it.handshakes,
            it.packets_ignored,
            it.account.map(|account| account.messages),
            it.account.map(|account| account.bytes_missing),
            it.limits.iter().sum::<u64>(),
        ),
    };
    format!("{connection} {what}")
}

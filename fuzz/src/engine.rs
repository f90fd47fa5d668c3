//! The whole engine, over conversations that an input tells.
//!
//! Owns what must hold of every run. Must not know how anything is decoded. Bounded: [`STEPS_MAX`] steps, small limits.
//!
//! Whatever happens: nothing panics; records come in order; the totals are the sums of what was told; what is held is
//! measured, and stays within the bounds; a frame's bytes as they are told were sent, by that end, in that order.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use observer_core::engine::{Config, Report};
use observer_core::packet::{Packet, Socket};
use observer_core::record::{
    Account, ConnectionId, Direction, GapCause, Kind, Payload, Peer, Record, Summary,
};
use observer_core::time::Time;
use observer_core::{Engine, Event, Limits};

use crate::cursor::Cursor;
use crate::{frame, memory};

const STEPS_MAX: usize = 300;
/// Farther apart than any honest conversation has them, places are not compared.
const REACH: usize = 1 << 16;
/// What the small limits below let an engine hold, with the tables around it, and what one packet may need for a moment.
const HELD_MAX: usize = 700 << 10;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const URG: u8 = 32;

/// Bytes, and the position of the first.
type Run = (u32, Vec<u8>);

/// Bytes that every conversation begins with: what no fuzzer finds by itself.
pub const TOKENS: [&[u8]; 15] = [
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
    b"PROXY TCP4 203.0.113.7 198.51.100.1 41234 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\xff\x01\0\0\0\0\x01",
    b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n",
    // "hello", compressed, from a server.
    b"\xc1\x07\xca\x48\xcd\xc9\xc9\x07\x00",
];

/// Small enough for an input to reach each.
fn limits() -> Limits {
    Limits {
        connections: 3,
        handshakes_per_address: 2,
        reassembly_bytes: 4_000,
        reassembly_runs: 8,
        reassembly_total_bytes: 64_000,
        unacknowledged_bytes: 4_000,
        unacknowledged_total_bytes: 64_000,
        syn_data_total_bytes: 500,
        head_bytes: 1_000,
        client_hello_bytes: 600,
        claimed_addresses: 2,
        early_bytes: 700,
        pending_requests: 3,
        head_total_bytes: 3_000,
        message_bytes: 2_000,
        message_total_bytes: 20_000,
        inflated_bytes: 4_000,
        inflate_total_bytes: 200_000,
        message_holes: 4,
        pings: 2,
        connection_anomalies: 8,
        interfaces: 2,
        closed_connections: 2,
    }
}

/// Two bytes of options, and steps.
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let options = choices.short();
    let config = Config {
        limits: if options & 1 == 0 { limits() } else { Limits::default() },
        ports: (options & 2 != 0).then(|| [7272].into()),
        report: if options & 4 != 0 { Report::Upgrades } else { Report::All },
        frames: true,
        wire: options & 8 == 0,
        packets: options & 16 != 0,
        receipts: options & 128 != 0,
        ..Config::default()
    };
    let mut world = World {
        is_live: options & 32 != 0,
        role: if options & 64 == 0 { Peer::Server } else { Peer::Client },
        talks: (0..4).map(Talk::new).collect(),
        sent: BTreeMap::new(),
        is_honest: true,
        clock: 1_700_000_000_000_000_000,
        losses: 0,
    };
    let is_small = config.limits.connections == 3;
    let mut packets = Vec::new();
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices, &mut packets);
    }
    // Allocated before: it is not the engine's.
    let tells_all = config.report == Report::All;
    let mut book = Book { packets: packets.len() as u64, tells_all, ..Book::default() };
    let ((), taken) = memory::peak(|| {
        let mut engine = Engine::new(config);
        for packet in &packets {
            let event = Event::Packet(packet.packet());
            engine.handle(event, &mut |record: &Record<'_>| book.take(record, &world));
        }
        engine.finish(None, &mut |record: &Record<'_>| book.take(record, &world));
    });
    if is_small {
        let held = taken.saturating_sub(book.allocated());
        assert!(held <= HELD_MAX, "{held} bytes were held");
    }
    book.check();
}

/// A packet, as a capture hands it over.
#[derive(Clone, Debug)]
struct Wire {
    data: Vec<u8>,
    length: u32,
    rest_lost: bool,
    nanoseconds: u64,
    losses: u64,
    socket: Option<Socket>,
}

impl Wire {
    fn packet(&self) -> Packet<'_> {
        Packet {
            time: Time::from_file(self.nanoseconds),
            data: &self.data,
            length: self.length,
            rest_lost: self.rest_lost,
            interface: Some(1),
            socket: self.socket,
            losses: self.losses,
        }
    }
}

/// Two ends.
#[derive(Clone, Debug)]
struct Talk {
    port: u16,
    cookie: u64,
    next: [u32; 2],
}

impl Talk {
    fn new(number: u16) -> Self {
        let number32 = u32::from(number);
        Self {
            port: 40_000 + number,
            cookie: 100 + u64::from(number),
            // One of them goes around soon.
            next: [1_000 + number32 * 0x1000_0000, u32::MAX - 300 + number32],
        }
    }
}

/// All connections, and what each end ever sent.
struct World {
    is_live: bool,
    role: Peer,
    talks: Vec<Talk>,
    /// By the client's port and the direction: every run of bytes at its position.
    sent: BTreeMap<(u16, usize), Vec<Run>>,
    /// Nobody has sent different bytes at one place, nor left its place.
    is_honest: bool,
    clock: u64,
    losses: u64,
}

impl World {
    /// A byte that says what, and with whom; and what it takes.
    fn step(&mut self, choices: &mut Cursor<'_>, packets: &mut Vec<Wire>) {
        let what = choices.byte();
        let talk = usize::from(what >> 4 & 3);
        let end = usize::from(what >> 6 & 1);
        let direction = [Direction::ClientToServer, Direction::ServerToClient][end];
        self.clock += 1_000;
        match what & 0x0f {
            // A frame, which is mostly a right one; its acknowledgment behind it.
            0..=3 => {
                let how = choices.byte();
                let bytes = frame::frame(choices, how, direction).build();
                self.send(talk, end, ACK, &bytes, packets);
                if what & 1 == 0 {
                    self.send(talk, 1 - end, ACK, b"", packets);
                }
            }
            4 => {
                let token = TOKENS[usize::from(choices.byte()) % TOKENS.len()];
                self.send(talk, end, ACK, token, packets);
                self.send(talk, 1 - end, ACK, b"", packets);
            }
            5 => {
                let bytes = choices.string();
                self.send(talk, end, ACK, bytes, packets);
            }
            6 => self.send(talk, end, choices.byte() & 0x3f, b"", packets),
            7 => {
                for (end, flags) in [(0, SYN), (1, SYN | ACK), (0, ACK)] {
                    self.send_through(talk, end, flags, b"", true, packets);
                }
            }
            // The capture lost the last packet, and knows it or does not.
            8 => {
                if packets.pop().is_some() && what & 0x80 != 0 {
                    self.losses += 1;
                }
            }
            // A packet comes again, or later than others.
            9 => {
                let back = usize::from(choices.byte());
                if let Some(packet) = packets.len().checked_sub(back + 1).and_then(|at| packets.get(at)) {
                    packets.push(packet.clone());
                }
            }
            10 => {
                let back = usize::from(choices.byte() & 7);
                if let Some(at) = packets.len().checked_sub(back + 1) {
                    let packet = packets.remove(at);
                    packets.push(packet);
                }
            }
            11 => {
                let kept = usize::from(choices.short());
                if let Some(packet) = packets.last_mut() {
                    packet.data.truncate(kept);
                    packet.rest_lost = what & 0x80 != 0;
                }
            }
            // Elsewhere in the stream: a retransmission, a jump, a forgery.
            12 => {
                let distance = i32::from(choices.short().cast_signed()) << (choices.byte() & 15);
                self.is_honest = false;
                let next = self.talks[talk].next;
                self.talks[talk].next[end] = next[end].wrapping_add_signed(distance);
                let flags = choices.byte() & 0x3f;
                let bytes = choices.string();
                self.send(talk, end, flags, bytes, packets);
                if what & 0x80 != 0 {
                    self.talks[talk].next = next;
                }
            }
            13 => {
                self.losses += u64::from(choices.byte());
                self.clock += u64::from(choices.byte()) * 100_000_000;
            }
            // The same ports again.
            14 => {
                self.is_honest = false;
                self.talks[talk].next = [choices.word(), choices.word()];
                self.talks[talk].cookie += 10;
            }
            _ => {
                let bytes = choices.string();
                let length = u32::from(choices.short());
                self.is_honest = false;
                packets.push(Wire {
                    data: bytes.to_vec(),
                    length,
                    rest_lost: false,
                    nanoseconds: self.clock,
                    losses: self.losses,
                    socket: self.is_live.then(|| self.socket(talk, end, false)),
                });
            }
        }
    }

    fn send(&mut self, talk: usize, end: usize, flags: u8, payload: &[u8], packets: &mut Vec<Wire>) {
        self.send_through(talk, end, flags, payload, false, packets);
    }

    fn send_through(
        &mut self,
        talk: usize,
        end: usize,
        flags: u8,
        payload: &[u8],
        by_listener: bool,
        packets: &mut Vec<Wire>,
    ) {
        let Talk { port, next, .. } = self.talks[talk];
        let ends = [(Ipv4Addr::new(10, 0, 0, 1), port), (Ipv4Addr::new(10, 0, 0, 2), 7272)];
        let mut data = vec![0x45, 0];
        data.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        data.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        data.extend(ends[end].0.octets());
        data.extend(ends[1 - end].0.octets());
        data.extend(ends[end].1.to_be_bytes());
        data.extend(ends[1 - end].1.to_be_bytes());
        data.extend(next[end].to_be_bytes());
        let acknowledgment = if flags & ACK == 0 { 0 } else { next[1 - end] };
        data.extend(acknowledgment.to_be_bytes());
        data.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        data.extend(payload);
        // What is urgent is no part of the stream.
        self.is_honest &= flags & URG == 0;
        let syn = u32::from(flags & SYN != 0);
        if !payload.is_empty() {
            let runs = self.sent.entry((port, end)).or_default();
            runs.push((next[end].wrapping_add(syn), payload.to_vec()));
        }
        if flags & RST == 0 {
            let positions = u32::try_from(payload.len()).unwrap() + syn + u32::from(flags & FIN != 0);
            self.talks[talk].next[end] = next[end].wrapping_add(positions);
        }
        packets.push(Wire {
            length: u32::try_from(data.len()).unwrap(),
            data,
            rest_lost: false,
            nanoseconds: self.clock,
            losses: self.losses,
            socket: self.is_live.then(|| self.socket(talk, end, by_listener)),
        });
    }

    fn socket(&self, talk: usize, end: usize, by_listener: bool) -> Socket {
        let Talk { port, cookie, .. } = self.talks[talk];
        let client = SocketAddr::from(([10, 0, 0, 1], port));
        let server = SocketAddr::from(([10, 0, 0, 2], 7272));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let (own, other, own_end) = match self.role {
            Peer::Server => (server, client, 1),
            Peer::Client => (client, server, 0),
        };
        let by_listener = by_listener && self.role == Peer::Server;
        Socket {
            cookie: if by_listener { 1 } else { cookie },
            netns_cookie: None,
            local: if by_listener { SocketAddr::new(nowhere.ip(), own.port()) } else { own },
            remote: if by_listener { nowhere } else { other },
            role: self.role,
            outgoing: end == own_end,
        }
    }

    /// Whether the runs of known bytes, so many apart, lie in what one end sent.
    fn was_sent(&self, port: u16, direction: Direction, payload: &Payload<'_>) -> bool {
        let end = *direction.of(&[0, 1]);
        let Some(runs) = self.sent.get(&(port, end)) else { return payload.known.is_empty() };
        // Honest ends send every place once: the stream in order of positions.
        let mut stream = Vec::new();
        for (at, bytes) in runs {
            let from = usize::try_from(at.wrapping_sub(runs[0].0)).unwrap();
            if from > REACH {
                return true;
            }
            stream.resize(stream.len().max(from + bytes.len()), None);
            for (place, byte) in stream[from..].iter_mut().zip(bytes) {
                *place = Some(*byte);
            }
        }
        let mut known = Vec::new();
        let mut rest = payload.known;
        for hole in payload.missing {
            let at = usize::try_from(hole.offset).unwrap_or(usize::MAX);
            let (run, behind) = rest.split_at(at.saturating_sub(known.len()).min(rest.len()));
            known.extend(run.iter().copied().map(Some));
            rest = behind;
            let Some(length) = hole.length.and_then(|length| usize::try_from(length).ok()) else { break };
            if length > REACH {
                break;
            }
            known.resize(known.len() + length, None);
        }
        known.extend(rest.iter().copied().map(Some));
        while known.last() == Some(&None) {
            known.pop();
        }
        let fits = |at: usize| {
            let behind = &stream[at..];
            behind.len() >= known.len()
                && behind.iter().zip(&known).all(|(sent, known)| known.is_none() || sent == known)
        };
        known.is_empty() || (0..stream.len()).any(fits)
    }
}

/// What was told.
#[derive(Default)]
struct Book {
    packets: u64,
    /// Not only from the moment on at which a connection is recognised.
    tells_all: bool,
    records: BTreeMap<ConnectionId, Told>,
    summary: Option<Summary>,
    opened: u64,
    closed: u64,
    still_open: u64,
    incomplete: u64,
    gaps: [u64; 4],
    sums: [Account; 2],
}

#[derive(Default)]
struct Told {
    account: [Account; 2],
    anomalies: u64,
    is_closed: bool,
}

impl Book {
    /// About what the book itself has allocated.
    fn allocated(&self) -> usize {
        self.records.len() * 2 * (size_of::<Told>() + size_of::<ConnectionId>())
            + size_of::<Summary>()
            + 4_096
    }

    fn take(&mut self, record: &Record<'_>, world: &World) {
        assert!(self.summary.is_none(), "the summary is the last one");
        if let Kind::Summary(summary) = &record.kind {
            assert!(record.connection.is_none());
            self.summary = Some((**summary).clone());
            return;
        }
        let Some(connection) = record.connection else {
            assert!(matches!(record.kind, Kind::Packet(_) | Kind::CaptureLoss(_)));
            return;
        };
        if let Kind::ConnectionOpened(_) = record.kind {
            self.opened += 1;
            assert_eq!(connection.id, ConnectionId(self.opened), "numbers go up by one");
            assert!(self.records.insert(connection.id, Told::default()).is_none());
            return;
        }
        let told = self.records.get_mut(&connection.id).expect("a connection is opened first");
        assert!(!told.is_closed || matches!(record.kind, Kind::Packet(_)), "nothing follows the end");
        match &record.kind {
            Kind::Frame(frame) => {
                frame.direction.of_mut(&mut told.account).frames += 1;
                if let (Some(wire), true) = (&frame.wire, world.is_honest) {
                    let port = connection.client.port();
                    assert!(
                        port == 7272 || world.was_sent(port, frame.direction, wire),
                        "{wire:?} was not sent"
                    );
                }
            }
            Kind::Message(message) => {
                let account = message.direction.of_mut(&mut told.account);
                account.messages += 1;
                account.messages_truncated += u64::from(message.payload.is_truncated());
            }
            Kind::Gap(gap) => {
                let account = gap.direction.of_mut(&mut told.account);
                account.gaps += 1;
                account.bytes_missing += gap.length;
                let cause = GapCause::ALL.iter().position(|cause| *cause == gap.cause).unwrap();
                self.gaps[cause] += 1;
            }
            Kind::Anomaly(_) => told.anomalies += 1,
            Kind::ConnectionClosed(closed) => {
                told.is_closed = true;
                self.closed += 1;
                self.still_open += u64::from(closed.how == observer_core::record::How::StillOpen);
                self.incomplete += u64::from(!closed.is_complete_so_far());
                for ((account, counted), sum) in closed.account.iter().zip(&told.account).zip(&mut self.sums)
                {
                    let numbers = |it: &Account| {
                        [it.frames, it.messages, it.messages_truncated, it.gaps, it.bytes_missing]
                    };
                    if self.tells_all {
                        assert_eq!(numbers(account), numbers(counted));
                    }
                    assert!(numbers(account).iter().zip(numbers(counted)).all(|(all, told)| *all >= told));
                    assert!(account.bytes_skipped <= account.bytes_seen + account.bytes_missing);
                    sum.add(account);
                }
            }
            _ => {}
        }
    }

    fn check(&self) {
        let summary = self.summary.as_ref().expect("a run ends with a summary");
        assert_eq!(summary.packets, self.packets);
        assert!(summary.packets_ignored <= summary.packets);
        assert_eq!((self.opened, self.closed), (summary.connections, summary.connections));
        assert_eq!(summary.connections_open, self.still_open);
        assert_eq!(summary.connections_incomplete, self.incomplete);
        assert_eq!(summary.account, self.sums);
        assert_eq!(summary.gaps, self.gaps);
        let anomalies: u64 = self.records.values().map(|told| told.anomalies).sum();
        assert!(summary.anomalies >= anomalies);
    }
}

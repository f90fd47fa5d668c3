//! The event model: what the engine tells, and what is shown, exported and verified.
//!
//! Owns the shapes and [`SCHEMA`]. Must not know who reads a record, nor how it is laid out as text or JSON.
//! Bounded: a record borrows from the engine's buffers, whose sizes `limits.rs` caps, and lives for one call.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::anomaly::AnomalyCode;
use crate::flow;
use crate::limits::Limit;
use crate::tcp::segment::Segment;
use crate::time::Time;
use crate::websocket::frame::{FrameHeader, Opcode};

/// Version of the model as it is serialised. Added keys do not raise it; a changed meaning does.
pub const SCHEMA: u32 = 1;

/// Receives records in the order in which the engine came to know them.
pub trait Sink {
    /// Takes one record; it borrows from the engine and ends with the call.
    fn handle_record(&mut self, record: &Record<'_>);
}

impl<F: FnMut(&Record<'_>)> Sink for F {
    fn handle_record(&mut self, record: &Record<'_>) {
        self(record);
    }
}

/// One thing that was seen, or that is known to be missing.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When the segment arrived that completed it.
    pub time: Time,
    /// Where it was seen; `None` for what concerns the whole run.
    pub connection: Option<&'a Connection>,
    /// For what travels in one direction: where that direction's stream stood when it was known. All of it lies before.
    pub stream_end: Option<u64>,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a record tells.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// A packet, before anything that follows from it. Only where [`Config::packets`](crate::engine::Config::packets)
    /// asks for it.
    Packet(PacketSeen<'a>),
    /// A TCP connection, from its first packet that was seen.
    ConnectionOpened(ConnectionOpened),
    /// What a proxy says of the connection ahead of everything else.
    ProxyHeader(ProxyHeader),
    /// The upgrade request or its answer, or another head before them.
    Handshake(Handshake<'a>),
    /// One WebSocket frame, whole, where [`Config::frames`](crate::engine::Config::frames) asks for it, or, where it
    /// closes, [`Config::receipts`](crate::engine::Config::receipts).
    Frame(Frame<'a>),
    /// One text or binary message, whole or as far as it was seen.
    Message(Message<'a>),
    /// Something that no well-behaved peer does, or that the observer cannot explain.
    Anomaly(Anomaly<'a>),
    /// Bytes that exist and were not seen.
    Gap(Gap),
    /// What an end has received. Only where [`Config::receipts`](crate::engine::Config::receipts) asks for it.
    Received(Received),
    /// The capture lost packets, of whichever connections. Likewise.
    CaptureLoss(CaptureLoss),
    /// The end of a connection, with its account.
    ConnectionClosed(ConnectionClosed<'a>),
    /// The end of the run, with its account.
    Summary(Box<Summary>),
}

/// A TCP segment as it passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSeen<'a> {
    /// The packet's bytes from its IP header on, as far as captured.
    pub data: &'a [u8],
    /// What they say.
    pub segment: Segment<'a>,
    /// The network namespace that it passed in, where it is known, else 0: elsewhere the same addresses are others.
    pub scope: u64,
    /// Which way it went, where its connection is known.
    pub direction: Option<Direction>,
    /// Offset of its payload in the stream of its direction, where that is known.
    pub position: Option<u64>,
    /// Offset up to which it acknowledges the stream of the other direction, where that is known; a FIN counts as one
    /// position behind the last byte.
    pub acknowledged: Option<u64>,
}

/// Number of a connection within one run, counted from 1 in order of appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What identifies a connection to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Number within this run.
    pub id: ConnectionId,
    /// The end that opened the connection.
    pub client: SocketAddr,
    /// The end that accepted it, by the socket's own address where the capture knows it (behind NAT the packets
    /// may show another).
    pub server: SocketAddr,
    /// Name of the network interface of its first packet, where known.
    pub interface: Option<Arc<str>>,
    /// The network namespace that it is in, where that is known, else 0: elsewhere the same addresses are others.
    pub scope: u64,
    /// Whom it is for, as a proxy or anybody claims: by the PROXY header and, as far as heads were seen, by the request
    /// that is told of, or answered; from the upgrade on by the upgrade request. Never the peer itself.
    pub client_claim: Option<Arc<ClientClaim>>,
}

/// Whom a connection is for, as it claims itself. Anybody can write such a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientClaim {
    /// What the first header of [`ClaimSource`]'s order that has any claims the client's address to be.
    pub address: ClaimedAddress,
    /// Which header that is.
    pub by: ClaimSource,
    /// Whatever else it and the other headers name, each address once: proxies on the way or, where a client wrote
    /// `address` itself, the client.
    pub also: Vec<ClaimedAddress>,
}

impl ClientClaim {
    /// All addresses that are claimed.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(&self.address).chain(&self.also).map(|address| address.ip)
    }
}

/// An address as a header tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port, where it is told.
    pub port: Option<u16>,
}

impl fmt::Display for ClaimedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// Which header claims, in the order in which they are believed, if any is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimSource {
    /// The header of the PROXY protocol.
    ProxyProtocol,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Real-IP`.
    XRealIp,
}

impl ClaimSource {
    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProxyProtocol => "proxy_protocol",
            Self::XForwardedFor => "x_forwarded_for",
            Self::Forwarded => "forwarded",
            Self::XRealIp => "x_real_ip",
        }
    }

    /// The name as people write it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ProxyProtocol => "PROXY",
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
            Self::XRealIp => "X-Real-IP",
        }
    }
}

/// The header of the PROXY protocol, which a proxy may send ahead of everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Version of the protocol: 1 or 2.
    pub version: u8,
    /// It says that the connection is the proxy's own, and for nobody: no address of it counts, or is told here.
    pub is_local: bool,
    /// Whom it says the connection is for; `None` where it tells no IP address.
    pub source: Option<SocketAddr>,
    /// Where it says that one connected to; likewise.
    pub destination: Option<SocketAddr>,
}

/// Which way bytes travel within a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the end that opened the connection.
    ClientToServer,
    /// From the end that accepted it.
    ServerToClient,
}

impl Direction {
    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientToServer => "client_to_server",
            Self::ServerToClient => "server_to_client",
        }
    }

    /// The other way.
    pub const fn reverse(self) -> Self {
        match self {
            Self::ClientToServer => Self::ServerToClient,
            Self::ServerToClient => Self::ClientToServer,
        }
    }

    /// The end that it comes from.
    pub const fn sender(self) -> Peer {
        match self {
            Self::ClientToServer => Peer::Client,
            Self::ServerToClient => Peer::Server,
        }
    }

    /// The one of a pair of per-direction things: first comes what is the client's, then the server's.
    pub const fn of<T>(self, [client, server]: &[T; 2]) -> &T {
        match self {
            Self::ClientToServer => client,
            Self::ServerToClient => server,
        }
    }

    /// The same, to be changed.
    pub const fn of_mut<T>(self, [client, server]: &mut [T; 2]) -> &mut T {
        match self {
            Self::ClientToServer => client,
            Self::ServerToClient => server,
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Peer {
    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A connection's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionOpened {
    /// False where its first packets were not seen: it was open before, or they were lost.
    pub from_start: bool,
    /// Whether the kernel listed it as open when the capture began. Then it is told of, though no packet of it may
    /// have been seen.
    pub was_listed: bool,
}

/// An HTTP header field: name as sent, value as sent.
pub type Header<'a> = (&'a str, &'a [u8]);

/// One half of the opening handshake (RFC 6455 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// A request travels to the server, an answer to the client.
    pub direction: Direction,
    /// First byte's arrival.
    pub time_first: Time,
    /// The request's method; `None` in an answer.
    pub method: Option<&'a str>,
    /// The request's target; in an answer that of the request it answers, where that was seen.
    pub path: Option<&'a str>,
    /// The answer's status code; `None` in a request.
    pub status: Option<u16>,
    /// The answer's reason phrase.
    pub reason: Option<&'a str>,
    /// Whether it asks for a WebSocket, or answers what did or looks so.
    pub is_upgrade: bool,
    /// Header fields in the order in which they were sent, repeated ones as they were.
    pub headers: &'a [Header<'a>],
    /// `Sec-WebSocket-Protocol`: offered in a request (all, joined as sent), chosen in an answer.
    pub subprotocol: Option<&'a str>,
    /// `Sec-WebSocket-Extensions`: each offered or chosen extension with its parameters, as sent.
    pub extensions: &'a [&'a str],
    /// In an answer: whether it opened the WebSocket (101, right upgrade, right accept key).
    pub accepted: Option<bool>,
}

/// One frame (RFC 6455 §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which way it went.
    pub direction: Direction,
    /// First byte's arrival.
    pub time_first: Time,
    /// Its header as on the wire.
    pub header: FrameHeader,
    /// Control frames: the payload, unmasked. Data frames: empty, since the message carries it.
    pub payload: Payload<'a>,
    /// What a close frame says.
    pub close: Option<Close<'a>>,
    /// A pong's: how long before it the ping passed that it answers, the latest with its payload that its sender had
    /// received (RFC 6455 §5.5.3). `None` where there is none, or where it may not have been seen.
    pub round_trip: Option<core::time::Duration>,
    /// The whole frame as it was on the wire, header included and masked as it was, where
    /// [`Config::wire`](crate::engine::Config::wire) asks for it.
    pub wire: Option<Payload<'a>>,
    /// True where the decoder had lost its place and found this frame by its looks.
    pub resynchronised: bool,
}

/// One message: a data frame with its continuations (RFC 6455 §5.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    /// Which way it went.
    pub direction: Direction,
    /// First byte's arrival.
    pub time_first: Time,
    /// [`Opcode::Text`] or [`Opcode::Binary`]; `Continuation` where the start was not seen.
    pub opcode: Opcode,
    /// Whether its first frame was masked.
    pub masked: bool,
    /// Whether it came through permessage-deflate (RFC 7692).
    pub compressed: bool,
    /// Frames it was sent in, as far as seen.
    pub frames: u64,
    /// Application bytes, after inflating; `None` where unknown (not decoded, or its end was not seen).
    pub length: Option<u64>,
    /// Bytes of its frames on the wire, headers included, as far as their headers were seen.
    pub wire_length: u64,
    /// The application bytes as far as they are known.
    pub payload: Payload<'a>,
    /// What it means by the rules, where it means something.
    pub chat: Option<&'a flow::Event<'a>>,
    /// True where the decoder had lost its place and found this message by its looks.
    pub resynchronised: bool,
}

/// Application bytes, perhaps with holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The known bytes, one behind the other; where something is missing, nothing stands in for it.
    pub known: &'a [u8],
    /// What is missing, in order, in offsets of the whole payload. Of a compressed message also what it copies from
    /// earlier ones that were not seen.
    pub missing: &'a [Missing],
    /// `known` as text, where the payload is text, or may be, since its start was not seen, and all known bytes are
    /// valid UTF-8 (a character that a hole cuts makes it invalid).
    pub text: Option<&'a str>,
    /// Why the bytes are not the application's, where they are not shown: e.g. `permessage-deflate, not valid`.
    pub undecoded: Option<&'static str>,
}

impl Payload<'_> {
    /// Whether anything is missing.
    pub const fn is_truncated(&self) -> bool {
        !self.missing.is_empty()
    }
}

/// A hole in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Offset of its first byte within the whole payload; where the message's start is missing, from its end.
    pub offset: u64,
    /// How many bytes; `None` where the end of the message was not seen, or, at offset 0, its start.
    pub length: Option<u64>,
}

/// A close frame's content (RFC 6455 §5.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// The code; `None` where the frame is empty.
    pub code: Option<u16>,
    /// The reason; invalid UTF-8 is left out and reported as an anomaly.
    pub reason: &'a str,
}

/// Something that no well-behaved peer does, or that the observer cannot explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly<'a> {
    /// Whose bytes show it; `None` where it concerns the connection.
    pub direction: Option<Direction>,
    /// Which one.
    pub code: AnomalyCode,
    /// The particulars, in one sentence. May hold bytes of a peer: escape before showing.
    pub detail: &'a str,
}

/// Bytes of a direction that exist and were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which way they went.
    pub direction: Direction,
    /// Offset of the first one in the direction's byte stream, from the first byte that was seen or known.
    pub offset: u64,
    /// How many. Where more than 1 GiB may be missing, or where the stream stands was not known: at least so
    /// many, and 0 where nothing is known.
    pub length: u64,
    /// Why.
    pub cause: GapCause,
}

/// An end acknowledged more than before of what the other one sent: its kernel has it (RFC 9293 §3.4). Or it closed or
/// opened its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which way the bytes went that arrived.
    pub direction: Direction,
    /// Offset in that direction's stream, as in [`Record::stream_end`], before which all has arrived.
    pub to: u64,
    /// Whether it takes no more for now: its window is closed (RFC 9293 §3.8.6), since its program does not read.
    pub is_full: bool,
}

/// The capture lost packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureLoss {
    /// How many since the run began.
    pub packets: u64,
}

/// Why bytes were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapCause {
    /// The snap length cut the packet.
    SnapLength,
    /// The capture counted losses while they must have passed.
    CaptureLoss,
    /// They were acknowledged, or later bytes came, and nothing tells why they were not seen.
    NeverSeen,
    /// A bound of the observer was reached.
    Limit,
}

impl GapCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::SnapLength, Self::CaptureLoss, Self::NeverSeen, Self::Limit];

    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SnapLength => "snap_length",
            Self::CaptureLoss => "capture_loss",
            Self::NeverSeen => "never_seen",
            Self::Limit => "limit",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// A WebSocket close frame, and then TCP's end.
    CloseFrame,
    /// A FIN without a close frame before it.
    Fin,
    /// A RST.
    Rst,
    /// Its end was not seen: a new connection took its place, or the socket is known to be gone.
    Unseen,
    /// It was still open when the run ended.
    StillOpen,
    /// The observer let go of it at a bound.
    Evicted,
}

impl How {
    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CloseFrame => "close_frame",
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Unseen => "unseen",
            Self::StillOpen => "still_open",
            Self::Evicted => "evicted",
        }
    }
}

/// A connection's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionClosed<'a> {
    /// Who sent the first close frame, FIN or RST; `None` where unseen.
    pub closed_by: Option<Peer>,
    /// How.
    pub how: How,
    /// The code of the first close frame, where that is the first sign of the end.
    pub code: Option<u16>,
    /// The reason of the first close frame, likewise, as far as a right one may be long.
    pub reason: &'a str,
    /// To the first sign of the end, from the last payload byte before it or, where there was none, from the opening.
    /// A close frame, with all in its segment, is a sign.
    pub idle: core::time::Duration,
    /// From the first packet seen to the end.
    pub duration: core::time::Duration,
    /// The account of both directions, for [`Direction::of`].
    pub account: [Account; 2],
}

impl Kind<'_> {
    /// Which way it travelled, for what travels in one direction.
    pub const fn direction(&self) -> Option<Direction> {
        match self {
            Self::Packet(packet) => packet.direction,
            Self::ProxyHeader(_) => Some(Direction::ClientToServer),
            Self::Handshake(handshake) => Some(handshake.direction),
            Self::Frame(frame) => Some(frame.direction),
            Self::Message(message) => Some(message.direction),
            Self::Gap(gap) => Some(gap.direction),
            Self::Received(received) => Some(received.direction),
            Self::Anomaly(anomaly) => anomaly.direction,
            Self::ConnectionOpened(_)
            | Self::CaptureLoss(_)
            | Self::ConnectionClosed(_)
            | Self::Summary(_) => None,
        }
    }
}

impl ConnectionClosed<'_> {
    /// Whether every byte of both directions was seen, from the first to the last, and none was skipped.
    pub fn is_complete(&self) -> bool {
        self.account.iter().all(Account::is_complete)
    }

    /// The same, but that a connection that is still open has no end that could have been missed.
    pub fn is_complete_so_far(&self) -> bool {
        let is_open = self.how == How::StillOpen;
        self.account.iter().all(|it| Account { end_seen: it.end_seen || is_open, ..*it }.is_complete())
    }

    /// Whether its beginning is all that was not seen, as of a connection that was open before.
    pub fn lacks_only_its_beginning(&self) -> bool {
        let is_open = self.how == How::StillOpen;
        let rest = |it: &Account| Account { start_seen: true, end_seen: it.end_seen || is_open, ..*it };
        !self.is_complete_so_far() && self.account.iter().all(|it| rest(it).is_complete())
    }
}

/// What was seen of one direction of a connection, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Payload bytes of the TCP stream that were seen, each once.
    pub bytes_seen: u64,
    /// Payload bytes of the TCP stream that exist and were not seen.
    pub bytes_missing: u64,
    /// Gaps they lie in. One may be of unknown length, and counted here alone.
    pub gaps: u64,
    /// Of the bytes seen: those that belong to no head, PROXY header, body or frame that was understood: another protocol, or the
    /// place was lost. A hole within a frame that was dropped counts with them.
    pub bytes_skipped: u64,
    /// Payload bytes seen more than once.
    pub bytes_retransmitted: u64,
    /// Frames.
    pub frames: u64,
    /// Messages, truncated ones included.
    pub messages: u64,
    /// Messages of which something is missing.
    pub messages_truncated: u64,
    /// Whether the stream's first byte was seen or known (SYN).
    pub start_seen: bool,
    /// Whether the stream's end was seen and everything up to it accounted for (FIN, or RST).
    pub end_seen: bool,
}

impl Account {
    /// Whether every byte was seen, from the first to the last, and none was skipped.
    pub const fn is_complete(&self) -> bool {
        self.start_seen
            && self.end_seen
            && self.bytes_missing == 0
            && self.gaps == 0
            && self.bytes_skipped == 0
    }

    /// Adds what another account counts; whether starts and ends were seen is nobody's sum.
    pub const fn add(&mut self, other: &Self) {
        self.bytes_seen = self.bytes_seen.saturating_add(other.bytes_seen);
        self.bytes_missing = self.bytes_missing.saturating_add(other.bytes_missing);
        self.gaps = self.gaps.saturating_add(other.gaps);
        self.bytes_skipped = self.bytes_skipped.saturating_add(other.bytes_skipped);
        self.bytes_retransmitted = self.bytes_retransmitted.saturating_add(other.bytes_retransmitted);
        self.frames = self.frames.saturating_add(other.frames);
        self.messages = self.messages.saturating_add(other.messages);
        self.messages_truncated = self.messages_truncated.saturating_add(other.messages_truncated);
    }
}

/// The whole run in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets given to the engine.
    pub packets: u64,
    /// Packets that are no TCP segment of an observed connection, those of the next two included.
    pub packets_ignored: u64,
    /// Of these: fragments of IP packets with TCP, which are not put together.
    pub packets_fragments: u64,
    /// Of these: cut before the end of the TCP header, or malformed.
    pub packets_malformed: u64,
    /// Connections reported.
    pub connections: u64,
    /// Of these: how many were open at the end.
    pub connections_open: u64,
    /// Of these: how many are not [complete](ConnectionClosed::is_complete).
    pub connections_incomplete: u64,
    /// Of the incomplete ones: how many lack [only their beginning](ConnectionClosed::lacks_only_its_beginning).
    pub connections_joined: u64,
    /// TCP connections that were followed and not reported, since no WebSocket upgrade was seen on them.
    pub connections_other: u64,
    /// Upgrades that succeeded.
    pub handshakes: u64,
    /// The account of all connections together, for [`Direction::of`].
    pub account: [Account; 2],
    /// Gaps by cause, in the order of [`GapCause::ALL`].
    pub gaps: [u64; 4],
    /// Anomalies, those beyond [`Limits::connection_anomalies`](crate::Limits::connection_anomalies) included.
    pub anomalies: u64,
    /// How often each bound was reached, in the order of [`Limit::ALL`].
    pub limits: [u64; Limit::ALL.len()],
    /// What the capture itself counted; `None` where it cannot.
    pub capture: Option<CaptureCounters>,
}

/// What the capture counted, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounters {
    /// Packets that passed the observed ports.
    pub seen: u64,
    /// Packets handed to the engine.
    pub captured: u64,
    /// Of these: cut by the snap length.
    pub truncated: u64,
    /// Of these: whose rest was lost.
    pub captured_partly: u64,
    /// Packets left out because they were asked to be.
    pub filtered: u64,
    /// Packets lost, by reason.
    pub losses: Vec<(&'static str, u64)>,
}

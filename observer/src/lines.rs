//! Observer's own JSON lines (docs/json.md), read back into records.
//!
//! Owns which keys make which record, and the numbers of connections and of losses over several files. Must not know where
//! lines come from, nor what records are for. Bounded: [`CONNECTIONS_MAX`] connections that are open; a line, which whoever
//! splits the input bounds, is kept while it is read, with at most [`LIST_ENTRIES_MAX`] entries of each of its lists.
//!
//! What a message means is read anew, by the rules of this run. Kinds and keys that are not known are passed over, and so
//! are those of which nobody who reads lines makes anything: packets, anomalies, PROXY headers, and all frames but those
//! that close.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use observer_core::flow::{Chat, Reader, Rules};
use observer_core::limits::Limit;
use observer_core::record::{
    Account, CaptureCounters, CaptureLoss, ClaimSource, ClaimedAddress, ClientClaim, Close, Connection,
    ConnectionClosed, ConnectionId, ConnectionOpened, Direction, Frame, Gap, GapCause, Handshake, How, Kind,
    Message, Missing, Payload, Peer, Received, SCHEMA, Summary,
};
use observer_core::time::Time;
use observer_core::websocket::frame::{FrameHeader, Opcode};
use observer_core::{Record, Sink};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::capture::Counter;

/// Of what is wrong with a line so much is told, in bytes.
const WHY_BYTES_MAX: usize = 200;

/// Connections that are open at the same time; lines of further ones are passed over, and told.
pub const CONNECTIONS_MAX: usize = 131_072;

/// The highest number of a connection. Numbers count from 1 in each file, so that those of many files together are numbers
/// of 64 bits, and of 53 for programs that have no others.
pub const CONNECTION_NUMBER_MAX: u64 = 1 << 40;

/// Entries of a list or an object in a line. Observer writes fewer, by its own limits: a line with more is left out, before
/// small entries have become many times their size.
pub const LIST_ENTRIES_MAX: usize = 4_096;

/// What stands for a message that could not be decoded when it was recorded.
const UNDECODED: &str = "not decoded when it was recorded";

/// Turns lines into records.
#[derive(Debug)]
pub struct Lines {
    rules: Arc<Rules>,
    reader: Reader,
    /// By their number in the file.
    connections: BTreeMap<u64, Kept>,
    /// What is added to the numbers of the file.
    offset: u64,
    highest: u64,
    now: Time,
    totals: Summary,
    has_summary: bool,
    capture: Option<CaptureCounters>,
    losses: LossesTold,
}

/// What was lost, of which each run counts anew.
#[derive(Debug, Default)]
struct LossesTold {
    /// By earlier runs, with its time.
    before: u64,
    /// By this one.
    now: u64,
    /// By any of them, in its summary alone.
    untimed: u64,
}

impl LossesTold {
    /// A run says that it has lost so many so far: how many that are of all of them.
    fn tell(&mut self, packets: u64) -> u64 {
        // Which is less than before where a run ended without a summary.
        if packets < self.now {
            self.end_run();
        }
        self.now = packets;
        self.before.saturating_add(packets)
    }

    /// A run ends that has lost so many.
    fn sum_up(&mut self, packets: u64) {
        self.untimed = self.untimed.saturating_add(packets.saturating_sub(self.now));
        self.end_run();
    }

    const fn end_run(&mut self) {
        self.before = self.before.saturating_add(self.now);
        self.now = 0;
    }
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    chat: Chat,
    from_start: bool,
}

/// One line, as it stands there: of the kinds that are read, every key that any of them has.
#[derive(Debug, Default, Deserialize)]
pub struct Line {
    kind: String,
    time: Option<Timestamp>,
    connection: Option<u64>,
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    client_claimed: Option<String>,
    client_claimed_by: Option<String>,
    #[serde(default, deserialize_with = "few")]
    client_claimed_also: Vec<String>,
    direction: Option<String>,
    time_first: Option<Timestamp>,
    stream_end: Option<u64>,
    from_start: Option<bool>,
    listed: Option<bool>,
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    reason: Option<String>,
    accepted: Option<bool>,
    subprotocol: Option<String>,
    opcode: Option<String>,
    fin: Option<bool>,
    masked: Option<bool>,
    compressed: Option<bool>,
    frames: Option<u64>,
    length: Option<u64>,
    wire_length: Option<u64>,
    payload: Option<String>,
    payload_base64: Option<String>,
    undecoded: Option<String>,
    #[serde(default, deserialize_with = "few")]
    missing: Vec<(u64, Option<u64>)>,
    resynchronised: Option<bool>,
    offset: Option<u64>,
    cause: Option<String>,
    to: Option<u64>,
    window_closed: Option<bool>,
    packets: Option<u64>,
    closed_by: Option<String>,
    how: Option<String>,
    close_code: Option<u16>,
    close_reason: Option<String>,
    idle_nanoseconds: Option<u64>,
    duration_nanoseconds: Option<u64>,
    account: Option<Accounts>,
    limits: Option<Counts>,
    capture: Option<Capture>,
}

#[derive(Debug, Deserialize)]
struct Head {
    schema: u32,
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Accounts {
    client_to_server: AccountLine,
    server_to_client: AccountLine,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccountLine {
    bytes_seen: u64,
    bytes_missing: u64,
    gaps: u64,
    bytes_skipped: u64,
    bytes_retransmitted: u64,
    frames: u64,
    messages: u64,
    messages_truncated: u64,
    start_seen: bool,
    end_seen: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Capture {
    seen: u64,
    captured: u64,
    truncated: u64,
    captured_partly: u64,
    filtered: u64,
    losses: Counts,
}

/// Numbers by their names.
#[derive(Debug, Default)]
struct Counts(BTreeMap<String, u64>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts = BTreeMap::new();
                while let Some((name, count)) = map.next_entry()? {
                    if counts.len() >= LIST_ENTRIES_MAX {
                        return Err(too_many());
                    }
                    counts.insert(name, count);
                }
                Ok(Counts(counts))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

/// Reads a list that is not too long.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Reads<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Reads<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() >= LIST_ENTRIES_MAX {
                    return Err(too_many());
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_seq(Reads(PhantomData))
}

fn too_many<E: serde::de::Error>() -> E {
    E::custom(format_args!("more than {LIST_ENTRIES_MAX} entries"))
}

/// The kinds that are read.
const KINDS: [&str; 9] = [
    "connection_opened",
    "handshake",
    "message",
    "frame",
    "gap",
    "received",
    "capture_loss",
    "connection_closed",
    "summary",
];

impl Line {
    /// Reads a line; `None` where it is blank, or of a kind that is not read.
    ///
    /// # Errors
    /// In words, where it is no line of observer's.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        // There is only one line, whose number is told by whoever counts them.
        let wrong = |error: serde_json::Error| {
            let why = error.to_string();
            let why = why.rsplit_once(" at line ").map_or(&*why, |(why, _)| why);
            // It may quote what stands there, however long.
            let why = why.get(..why.floor_char_boundary(WHY_BYTES_MAX)).unwrap_or_default();
            format!("it is no line of observer's JSON ({why} at column {})", error.column())
        };
        let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
        if head.schema != SCHEMA {
            return Err(format!("it is of schema {}, and this observer reads {SCHEMA}", head.schema));
        }
        if !KINDS.contains(&head.kind.as_str()) {
            return Ok(None);
        }
        serde_json::from_slice(bytes).map(Some).map_err(wrong)
    }

    /// Whether it is of a server on one of these ports, or of none.
    pub fn is_of_port(&self, ports: &[u16]) -> bool {
        self.server.is_none_or(|server| ports.contains(&server.port()))
    }

    /// Whether it shows that what was received was not recorded.
    pub fn lacks_receipts(&self) -> bool {
        self.kind == "message" && self.stream_end.is_none()
    }

    fn direction(&self) -> Result<Direction, String> {
        match self.direction.as_deref() {
            Some("client_to_server") => Ok(Direction::ClientToServer),
            Some("server_to_client") => Ok(Direction::ServerToClient),
            _ => Err(lacks("direction")),
        }
    }

    fn claim(&self) -> Option<ClientClaim> {
        let by = [
            ClaimSource::ProxyProtocol,
            ClaimSource::XForwardedFor,
            ClaimSource::Forwarded,
            ClaimSource::XRealIp,
        ];
        let by = by.into_iter().find(|by| Some(by.name()) == self.client_claimed_by.as_deref())?;
        let address = claimed_address(self.client_claimed.as_deref()?)?;
        let also = self.client_claimed_also.iter().filter_map(|also| claimed_address(also)).collect();
        Some(ClientClaim { address, by, also })
    }
}

fn claimed_address(text: &str) -> Option<ClaimedAddress> {
    let of_socket = |socket: SocketAddr| ClaimedAddress { ip: socket.ip(), port: Some(socket.port()) };
    let address = text.parse().ok().map(of_socket);
    address.or_else(|| text.parse::<IpAddr>().ok().map(|ip| ClaimedAddress { ip, port: None }))
}

fn lacks(key: &str) -> String {
    format!("it has no `{key}` that makes sense")
}

fn time(timestamp: Timestamp) -> Time {
    Time::from_file(u64::try_from(timestamp.as_nanosecond().max(0)).unwrap_or(u64::MAX))
}

impl Lines {
    /// Of a run with these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            reader: Reader::default(),
            connections: BTreeMap::new(),
            offset: 0,
            highest: 0,
            now: Time::default(),
            totals: Summary::default(),
            has_summary: false,
            capture: None,
            losses: LossesTold::default(),
        }
    }

    /// Whether any line was a summary.
    pub const fn has_summary(&self) -> bool {
        self.has_summary
    }

    /// How many packets were lost of which no line tells when.
    pub const fn lost_untimed(&self) -> u64 {
        self.losses.untimed
    }

    /// Takes a line.
    ///
    /// # Errors
    /// In words, where something of it makes no sense.
    pub fn handle(&mut self, line: &Line, sink: &mut dyn Sink) -> Result<(), String> {
        if let Some(timestamp) = line.time {
            self.now = time(timestamp);
        }
        match line.kind.as_str() {
            "summary" => {
                self.take_summary(line);
                // What follows, as where files were joined, is of another run.
                self.end_file(sink);
                return Ok(());
            }
            "capture_loss" => {
                let packets = self.losses.tell(line.packets.ok_or_else(|| lacks("packets"))?);
                let kind = Kind::CaptureLoss(CaptureLoss { packets });
                sink.handle_record(&Record { time: self.now, connection: None, stream_end: None, kind });
                return Ok(());
            }
            _ => {}
        }
        let number = line.connection.ok_or_else(|| lacks("connection"))?;
        let opens = line.kind == "connection_opened";
        self.meet(number, line, opens, sink)?;
        self.handle_of_connection(number, line, sink)
    }

    /// Tells of a connection's beginning, where it was not told of before.
    fn meet(&mut self, number: u64, line: &Line, opens: bool, sink: &mut dyn Sink) -> Result<(), String> {
        if let Some(kept) = self.connections.get_mut(&number) {
            if let Some(claim) = line.claim()
                && kept.connection.client_claim.as_deref() != Some(&claim)
            {
                kept.connection.client_claim = Some(Arc::new(claim));
            }
            return if opens { Err("its connection is open already".to_owned()) } else { Ok(()) };
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(format!("more than {CONNECTIONS_MAX} connections are open: it is left out"));
        }
        let id = self.offset.checked_add(number).filter(|_| number <= CONNECTION_NUMBER_MAX);
        let id = id.ok_or_else(|| format!("its connection has a number beyond {CONNECTION_NUMBER_MAX}"))?;
        self.highest = self.highest.max(id);
        let connection = Connection {
            id: ConnectionId(id),
            client: line.client.ok_or_else(|| lacks("client"))?,
            server: line.server.ok_or_else(|| lacks("server"))?,
            interface: None,
            scope: 0,
            client_claim: line.claim().map(Arc::new),
        };
        let opened = ConnectionOpened {
            from_start: opens && line.from_start.ok_or_else(|| lacks("from_start"))?,
            was_listed: line.listed.unwrap_or_default(),
        };
        let chat = self.reader.enter(&connection);
        self.totals.connections += 1;
        let from_start = opened.from_start;
        emit(sink, self.now, &connection, None, Kind::ConnectionOpened(opened));
        self.connections.insert(number, Kept { connection, chat, from_start });
        Ok(())
    }

    fn handle_of_connection(&mut self, number: u64, line: &Line, sink: &mut dyn Sink) -> Result<(), String> {
        let Self { rules, reader, connections, now, totals, .. } = self;
        let (now, Some(Kept { connection, chat, .. })) = (*now, connections.get(&number)) else {
            return Ok(());
        };
        let time_first = line.time_first.map_or(now, time);
        match line.kind.as_str() {
            "handshake" => {
                totals.handshakes += u64::from(line.accepted == Some(true));
                let handshake = Handshake {
                    direction: line.direction()?,
                    time_first,
                    method: line.method.as_deref(),
                    path: line.path.as_deref(),
                    status: line.status,
                    reason: line.reason.as_deref(),
                    is_upgrade: true,
                    headers: &[],
                    subprotocol: line.subprotocol.as_deref(),
                    extensions: &[],
                    accepted: line.accepted,
                };
                emit(sink, now, connection, line.stream_end, Kind::Handshake(handshake));
            }
            "message" => {
                let content = Content::of(line)?;
                let opcode = match line.opcode.as_deref() {
                    Some("text") => Opcode::Text,
                    Some("binary") => Opcode::Binary,
                    Some("continuation") => Opcode::Continuation,
                    _ => return Err(lacks("opcode")),
                };
                let message = Message {
                    direction: line.direction()?,
                    time_first,
                    opcode,
                    masked: line.masked.unwrap_or_default(),
                    compressed: line.compressed.unwrap_or_default(),
                    frames: line.frames.unwrap_or(1),
                    length: line.length,
                    wire_length: line.wire_length.unwrap_or_default(),
                    payload: content.payload(),
                    chat: None,
                    resynchronised: line.resynchronised.unwrap_or_default(),
                };
                let event = reader.read(rules, *chat, &message);
                let kind = Kind::Message(Message { chat: event.as_ref(), ..message });
                emit(sink, now, connection, line.stream_end, kind);
            }
            "frame" if line.opcode.as_deref() == Some("close") => {
                let header = FrameHeader {
                    fin: line.fin.unwrap_or(true),
                    rsv1: false,
                    rsv2: false,
                    rsv3: false,
                    opcode: Opcode::Close,
                    mask: None,
                    payload_length: line.length.unwrap_or_default(),
                    header_length: 2,
                };
                let reason = line.close_reason.as_deref().unwrap_or_default();
                let frame = Frame {
                    direction: line.direction()?,
                    time_first,
                    header,
                    payload: Payload::default(),
                    close: Some(Close { code: line.close_code, reason }),
                    round_trip: None,
                    wire: None,
                    resynchronised: line.resynchronised.unwrap_or_default(),
                };
                emit(sink, now, connection, line.stream_end, Kind::Frame(frame));
            }
            "gap" => {
                let cause = GapCause::ALL.into_iter().zip(&mut totals.gaps);
                let (cause, count) = cause
                    .into_iter()
                    .find(|(cause, _)| Some(cause.name()) == line.cause.as_deref())
                    .ok_or_else(|| lacks("cause"))?;
                *count += 1;
                let gap = Gap {
                    direction: line.direction()?,
                    offset: line.offset.unwrap_or_default(),
                    length: line.length.unwrap_or_default(),
                    cause,
                };
                emit(sink, now, connection, line.stream_end, Kind::Gap(gap));
            }
            "received" => {
                let to = line.to.ok_or_else(|| lacks("to"))?;
                let is_full = line.window_closed.unwrap_or_default();
                let received = Received { direction: line.direction()?, to, is_full };
                emit(sink, now, connection, line.stream_end, Kind::Received(received));
            }
            "connection_closed" => self.close(number, line, sink)?,
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, number: u64, line: &Line, sink: &mut dyn Sink) -> Result<(), String> {
        let hows = [How::CloseFrame, How::Fin, How::Rst, How::Unseen, How::StillOpen, How::Evicted];
        let how = hows.into_iter().find(|how| Some(how.name()) == line.how.as_deref());
        let duration = |nanoseconds: Option<u64>| Duration::from_nanos(nanoseconds.unwrap_or_default());
        let accounts = line.account.as_ref().ok_or_else(|| lacks("account"))?;
        let closed = ConnectionClosed {
            closed_by: match line.closed_by.as_deref() {
                Some("client") => Some(Peer::Client),
                Some("server") => Some(Peer::Server),
                _ => None,
            },
            how: how.ok_or_else(|| lacks("how"))?,
            code: line.close_code,
            reason: line.close_reason.as_deref().unwrap_or_default(),
            idle: duration(line.idle_nanoseconds),
            duration: duration(line.duration_nanoseconds),
            account: [&accounts.client_to_server, &accounts.server_to_client].map(AccountLine::account),
        };
        self.forget(number, &closed, sink);
        Ok(())
    }

    fn forget(&mut self, number: u64, closed: &ConnectionClosed<'_>, sink: &mut dyn Sink) {
        let Some(Kept { connection, chat, .. }) = self.connections.remove(&number) else { return };
        for (total, account) in self.totals.account.iter_mut().zip(&closed.account) {
            total.add(account);
        }
        self.totals.connections_open += u64::from(closed.how == How::StillOpen);
        self.totals.connections_incomplete += u64::from(!closed.is_complete_so_far());
        self.totals.connections_joined += u64::from(closed.lacks_only_its_beginning());
        self.reader.leave(chat);
        emit(sink, self.now, &connection, None, Kind::ConnectionClosed(closed.clone()));
    }

    fn take_summary(&mut self, line: &Line) {
        self.has_summary = true;
        self.totals.packets = self.totals.packets.saturating_add(line.packets.unwrap_or_default());
        for (count, limit) in self.totals.limits.iter_mut().zip(Limit::ALL) {
            let of_limit = line.limits.as_ref().and_then(|limits| limits.0.get(limit.name()));
            *count = count.saturating_add(of_limit.copied().unwrap_or_default());
        }
        let Some(of_line) = &line.capture else { return self.losses.end_run() };
        self.losses.sum_up(of_line.losses.0.values().fold(0, |sum, packets| sum.saturating_add(*packets)));
        let capture = self.capture.get_or_insert_with(CaptureCounters::default);
        capture.seen = capture.seen.saturating_add(of_line.seen);
        capture.captured = capture.captured.saturating_add(of_line.captured);
        capture.truncated = capture.truncated.saturating_add(of_line.truncated);
        capture.captured_partly = capture.captured_partly.saturating_add(of_line.captured_partly);
        capture.filtered = capture.filtered.saturating_add(of_line.filtered);
        for name in Counter::LOSSES.map(Counter::name) {
            let lost = of_line.losses.0.get(name).copied().unwrap_or_default();
            match capture.losses.iter_mut().find(|(known, _)| *known == name) {
                Some((_, packets)) => *packets = packets.saturating_add(lost),
                None => capture.losses.push((name, lost)),
            }
        }
    }

    /// The file ends: its connections are told of as open, and the numbers of the next one are others.
    pub fn end_file(&mut self, sink: &mut dyn Sink) {
        let open: Vec<_> = self.connections.iter().map(|(number, kept)| (*number, kept.from_start)).collect();
        for (number, start_seen) in open {
            let closed = ConnectionClosed {
                closed_by: None,
                how: How::StillOpen,
                code: None,
                reason: "",
                idle: Duration::ZERO,
                duration: Duration::ZERO,
                account: [Account { start_seen, ..Account::default() }; 2],
            };
            self.forget(number, &closed, sink);
        }
        self.offset = self.highest;
        self.losses.end_run();
    }

    /// The last file has ended.
    pub fn finish(&mut self, sink: &mut dyn Sink) {
        self.totals.capture = self.capture.take();
        let kind = Kind::Summary(Box::new(std::mem::take(&mut self.totals)));
        sink.handle_record(&Record { time: self.now, connection: None, stream_end: None, kind });
    }
}

fn emit(sink: &mut dyn Sink, time: Time, connection: &Connection, stream_end: Option<u64>, kind: Kind<'_>) {
    sink.handle_record(&Record { time, connection: Some(connection), stream_end, kind });
}

/// What a message says, as far as it is known.
struct Content<'a> {
    text: Option<&'a str>,
    bytes: Vec<u8>,
    missing: Vec<Missing>,
    is_decoded: bool,
}

impl<'a> Content<'a> {
    fn of(line: &'a Line) -> Result<Self, String> {
        let bytes = line.payload_base64.as_deref().map(|payload| STANDARD.decode(payload));
        let missing =
            line.missing.iter().map(|(offset, length)| Missing { offset: *offset, length: *length });
        let is_decoded = line.undecoded.is_none();
        if line.payload.is_none() && bytes.is_none() && is_decoded {
            return Err(lacks("payload"));
        }
        Ok(Self {
            text: line.payload.as_deref(),
            bytes: bytes.transpose().map_err(|_| lacks("payload_base64"))?.unwrap_or_default(),
            missing: missing.collect(),
            is_decoded,
        })
    }

    fn payload(&self) -> Payload<'_> {
        Payload {
            known: self.text.map_or(&self.bytes, str::as_bytes),
            missing: &self.missing,
            text: self.text,
            undecoded: (!self.is_decoded).then_some(UNDECODED),
        }
    }
}

impl AccountLine {
    const fn account(&self) -> Account {
        Account {
            bytes_seen: self.bytes_seen,
            bytes_missing: self.bytes_missing,
            gaps: self.gaps,
            bytes_skipped: self.bytes_skipped,
            bytes_retransmitted: self.bytes_retransmitted,
            frames: self.frames,
            messages: self.messages,
            messages_truncated: self.messages_truncated,
            start_seen: self.start_seen,
            end_seen: self.end_seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: &str = r#"{"schema":1,"kind":"connection_opened","time":"2024-01-01T12:00:00Z","connection":1,"client":"127.0.0.1:60584","server":"127.0.0.1:7272","from_start":true}"#;

    /// What is told of these lines, one word a record.
    fn told(lines: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut reading = Lines::new(Rules::built_in());
        let (mut told, mut wrong) = (Vec::new(), Vec::new());
        for line in lines {
            if *line == "end" {
                reading.end_file(&mut |record: &Record<'_>| told.push(word(record)));
                continue;
            }
            let handled = match Line::parse(line.as_bytes()) {
                Ok(Some(line)) => reading.handle(&line, &mut |record: &Record<'_>| told.push(word(record))),
                Ok(None) => Ok(()),
                Err(why) => Err(why),
            };
            wrong.extend(handled.err());
        }
        reading.finish(&mut |record: &Record<'_>| told.push(word(record)));
        (told, wrong)
    }

    fn word(record: &Record<'_>) -> String {
        let number = record.connection.map_or(0, |connection| connection.id.0);
        match &record.kind {
            Kind::ConnectionOpened(opened) => format!("{number} opened {}", opened.from_start),
            Kind::Message(message) => {
                let known = String::from_utf8_lossy(message.payload.known).into_owned();
                let meaning = message.chat.map_or("-", |chat| chat.kind);
                let missing = message.payload.missing.len();
                let undecoded = message.payload.undecoded.is_some();
                format!("{number} message {known:?} {meaning} {missing} {undecoded} {:?}", record.stream_end)
            }
            Kind::Received(received) => {
                format!("{number} received {}{}", received.to, if received.is_full { " full" } else { "" })
            }
            Kind::CaptureLoss(loss) => format!("lost {}", loss.packets),
            Kind::Gap(gap) => format!("{number} gap {} {} {}", gap.offset, gap.length, gap.cause.name()),
            Kind::Frame(frame) => format!("{number} close {:?}", frame.close.and_then(|close| close.code)),
            Kind::ConnectionClosed(closed) => format!("{number} closed {}", closed.how.name()),
            Kind::Summary(summary) => format!("summary {}", summary.connections),
            other => format!("{number} {}", crate::output::json::kind_name(other)),
        }
    }

    fn of_connection(rest: &str) -> String {
        format!(
            r#"{{"schema":1,"time":"2024-01-01T12:00:00Z","connection":1,"client":"127.0.0.1:60584","server":"127.0.0.1:7272",{rest}}}"#
        )
    }

    #[test]
    fn every_kind_that_is_read_becomes_its_record() {
        let message = r#""kind":"message","direction":"client_to_server","opcode":"text","payload":"{\"type\":\"login\",\"name\":\"a\"}","length":27,"stream_end":300"#;
        let binary = r#""kind":"message","direction":"server_to_client","opcode":"binary","payload_base64":"AAE=","missing":[[2,null]]"#;
        let undecoded = r#""kind":"message","direction":"server_to_client","opcode":"text","undecoded":"permessage-deflate, not valid""#;
        let gap = r#""kind":"gap","direction":"server_to_client","offset":5,"length":7,"cause":"never_seen""#;
        let received = r#""kind":"received","direction":"server_to_client","to":77,"window_closed":true"#;
        let close = r#""kind":"frame","direction":"client_to_server","opcode":"close","close_code":1001,"close_reason":"","length":2"#;
        let ping = r#""kind":"frame","direction":"client_to_server","opcode":"ping","payload":"","length":0"#;
        let closed = r#""kind":"connection_closed","how":"fin","closed_by":"client","account":{"client_to_server":{},"server_to_client":{}}"#;
        let lines: Vec<_> =
            [message, binary, undecoded, gap, received, close, ping, closed].map(of_connection).to_vec();
        let mut all = vec![OPENED];
        all.extend(lines.iter().map(String::as_str));
        all.push(r#"{"schema":1,"kind":"capture_loss","time":"2024-01-01T12:00:00Z","packets":4}"#);
        let (told, wrong) = told(&all);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            told,
            [
                "1 opened true",
                "1 message \"{\\\"type\\\":\\\"login\\\",\\\"name\\\":\\\"a\\\"}\" login 0 false Some(300)",
                "1 message \"\\0\\u{1}\" - 1 false None",
                "1 message \"\" - 0 true None",
                "1 gap 5 7 never_seen",
                "1 received 77 full",
                "1 close Some(1001)",
                "1 closed fin",
                "lost 4",
                "summary 1",
            ]
        );
    }

    #[test]
    fn unknown_kinds_and_keys_and_blank_lines_are_passed_over() {
        let (told, wrong) = told(&[
            "",
            r#"{"schema":1,"kind":"verdict","direction":5,"connection":"x"}"#,
            &of_connection(r#""kind":"anomaly","code":"x","detail":"y","length":"many""#),
            &OPENED.replace("\"from_start\"", "\"new\":{\"a\":[1]},\"from_start\""),
        ]);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(told, ["1 opened true", "summary 1"]);
    }

    #[test]
    fn what_makes_no_sense_is_said_and_the_next_line_read() {
        for line in [
            "{\"schema\":1,",
            "[]",
            "{\"schema\":2,\"kind\":\"message\"}",
            "{\"schema\":1,\"kind\":\"message\"}",
            "{\"schema\":1,\"kind\":\"capture_loss\"}",
            "{\"schema\":1,\"kind\":\"message\",\"connection\":9}",
            &of_connection(r#""kind":"message","direction":"up","opcode":"text","payload":"a""#),
            &of_connection(r#""kind":"message","direction":"client_to_server","opcode":"text""#),
            &of_connection(
                r#""kind":"message","direction":"client_to_server","opcode":"text","payload_base64":"%""#,
            ),
            &of_connection(r#""kind":"gap","direction":"client_to_server","cause":"fate""#),
            &of_connection(r#""kind":"connection_closed","how":"fin""#),
            OPENED,
        ] {
            let (told, wrong) = told(&[
                OPENED,
                line,
                &of_connection(r#""kind":"received","direction":"server_to_client","to":1"#),
            ]);
            assert_eq!(wrong.len(), 1, "{line}");
            assert_eq!(told, ["1 opened true", "1 received 1", "summary 1"], "{line}");
        }
    }

    #[test]
    fn a_connection_whose_beginning_has_no_line_began_before_and_the_numbers_of_another_file_are_others() {
        let received = of_connection(r#""kind":"received","direction":"server_to_client","to":1"#);
        let (told, wrong) = told(&[&received, "end", OPENED, &received, "end"]);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            told,
            [
                "1 opened false",
                "1 received 1",
                "1 closed still_open",
                "2 opened true",
                "2 received 1",
                "2 closed still_open",
                "summary 2"
            ]
        );
    }

    #[test]
    fn a_claim_is_taken_over_with_all_its_addresses() {
        let line = of_connection(
            r#""kind":"message","client_claimed":"[2001:db8::1]:80","client_claimed_by":"forwarded","client_claimed_also":["203.0.113.9","x"]"#,
        );
        let claim = Line::parse(line.as_bytes()).unwrap().unwrap().claim().unwrap();
        assert_eq!(claim.address.to_string(), "[2001:db8::1]:80");
        assert_eq!((claim.by, claim.also.len()), (ClaimSource::Forwarded, 1));
    }

    #[test]
    fn a_message_without_its_place_in_the_stream_tells_that_receipts_were_not_recorded() {
        let with = of_connection(r#""kind":"message","stream_end":3"#);
        let without = of_connection(r#""kind":"message""#);
        let lacks = |line: &str| Line::parse(line.as_bytes()).unwrap().unwrap().lacks_receipts();
        assert!(!lacks(&with) && lacks(&without) && !lacks(OPENED));
    }

    #[test]
    fn a_connection_of_a_number_that_none_has_is_left_out_and_cannot_be_taken_for_another_files() {
        let numbered = |number: u64| OPENED.replace("\"connection\":1", &format!("\"connection\":{number}"));
        let high = numbered(CONNECTION_NUMBER_MAX);
        let (told, wrong) =
            told(&[&numbered(u64::MAX), &numbered(CONNECTION_NUMBER_MAX + 1), &high, "end", OPENED, "end"]);
        assert_eq!(wrong, ["its connection has a number beyond 1099511627776"; 2]);
        let after = CONNECTION_NUMBER_MAX + 1;
        let opened: Vec<_> = told.iter().filter(|line| line.ends_with("opened true")).collect();
        assert_eq!(
            opened,
            [&format!("{CONNECTION_NUMBER_MAX} opened true"), &format!("{after} opened true")]
        );
    }

    #[test]
    fn a_line_with_a_list_longer_than_any_of_observers_is_left_out() {
        let message = |entries: &str| {
            of_connection(&format!(
                r#""kind":"message","direction":"client_to_server","opcode":"text","payload":"a",{entries}"#
            ))
        };
        let list = |entry: &str, times: usize| vec![entry; times].join(",");
        let all = LIST_ENTRIES_MAX;
        let (told, wrong) = told(&[OPENED, &message(&format!("\"missing\":[{}]", list("[0,1]", all)))]);
        assert_eq!((told.len(), wrong.len()), (3, 0), "{wrong:?}");
        let names: Vec<_> = (0..=all).map(|number| format!("\"{number}\":1")).collect();
        for entries in [
            format!("\"missing\":[{}]", list("[0,1]", all + 1)),
            format!("\"client_claimed_also\":[{}]", list("\"\"", all + 1)),
            format!("\"limits\":{{{}}}", names.join(",")),
            format!("\"capture\":{{\"losses\":{{{}}}}}", names.join(",")),
        ] {
            let why = Line::parse(message(&entries).as_bytes()).unwrap_err();
            assert!(why.contains("more than 4096 entries"), "{why}");
        }
    }

    #[test]
    fn losses_are_counted_over_several_runs_and_those_without_a_time_apart() {
        let loss = |packets| {
            format!(
                r#"{{"schema":1,"kind":"capture_loss","time":"2024-01-01T12:00:00Z","packets":{packets}}}"#
            )
        };
        let summary = |lost| {
            format!(r#"{{"schema":1,"kind":"summary","capture":{{"losses":{{"lost_ring_full":{lost}}}}}}}"#)
        };
        let mut lines = Lines::new(Rules::built_in());
        let mut told = Vec::new();
        for line in [&loss(3), &loss(4), &summary(6), &loss(2), &loss(1), &summary(1)] {
            let line = Line::parse(line.as_bytes()).unwrap().unwrap();
            lines.handle(&line, &mut |record: &Record<'_>| told.push(word(record))).unwrap();
        }
        assert_eq!(told, ["lost 3", "lost 4", "lost 6", "lost 7"]);
        assert_eq!(lines.lost_untimed(), 2);
    }
}

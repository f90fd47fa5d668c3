//! Records as JSON lines, as docs/json.md describes them.
//!
//! Owns the keys. Must not know where lines go. Bounded: appends to the caller's buffer at most six times the
//! record's own bytes.
//!
//! What could control a terminal is written as `\uXXXX`, which says the same to every JSON reader: DEL, C1 and the
//! format characters besides the C0 controls that JSON escapes anyway.

use std::io;
use std::time::Duration;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use observer_core::Record;
use observer_core::limits::Limit;
use observer_core::record::{
    Account, CaptureCounters, ClaimedAddress, ClientClaim, Close, Direction, Frame, GapCause, Handshake,
    Kind, Message, Missing, PacketSeen, Payload, SCHEMA, Summary,
};
use observer_core::time::WallTime;
use observer_core::websocket::frame::Opcode;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::clock::Rfc3339;
use super::escape::harmless_prefix;
use super::packets::flag_letters;

/// Appends `record` to `out` as one line, with its line end. `receipts`: with where its stream stood, as what was
/// received counts.
pub fn write(out: &mut Vec<u8>, record: &Record<'_>, receipts: bool) {
    write_line(out, &JsonRecord { record, receipts });
}

/// Appends anything as one line, with its line end.
pub(super) fn write_line(out: &mut Vec<u8>, line: &impl Serialize) {
    let before = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, TerminalSafe);
    if line.serialize(&mut serializer).is_err() {
        // A vector takes everything and all keys are strings, so this cannot come; half a line must not either.
        out.truncate(before);
        return;
    }
    out.push(b'\n');
}

/// Compact JSON that holds no character that a terminal could obey.
struct TerminalSafe;

impl serde_json::ser::Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        mut text: &str,
    ) -> io::Result<()> {
        loop {
            let (harmless, rest) = text.split_at(harmless_prefix(text));
            writer.write_all(harmless.as_bytes())?;
            let mut characters = rest.chars();
            let Some(character) = characters.next() else { return Ok(()) };
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            text = characters.as_str();
        }
    }
}

struct JsonRecord<'a> {
    record: &'a Record<'a>,
    receipts: bool,
}

impl Serialize for JsonRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record { time, connection, stream_end, kind } = self.record;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("kind", kind_name(kind))?;
        // A run that saw no packet ends at no known time.
        if time.wall != WallTime(0) {
            map.serialize_entry("time", &JsonTime(time.wall))?;
        }
        if let Some(connection) = connection {
            map.serialize_entry("connection", &connection.id.0)?;
            map.serialize_entry("client", &connection.client)?;
            map.serialize_entry("server", &connection.server)?;
            if let Some(claim) = connection.client_claim.as_deref() {
                write_claim(&mut map, claim)?;
            }
        }
        match kind {
            Kind::Packet(packet) => write_packet(&mut map, packet)?,
            Kind::ConnectionOpened(opened) => {
                if let Some(interface) = connection.and_then(|connection| connection.interface.as_deref()) {
                    map.serialize_entry("interface", interface)?;
                }
                map.serialize_entry("from_start", &opened.from_start)?;
                if opened.was_listed {
                    map.serialize_entry("listed", &true)?;
                }
            }
            Kind::ProxyHeader(header) => {
                map.serialize_entry("direction", Direction::ClientToServer.name())?;
                map.serialize_entry("version", &header.version)?;
                map.serialize_entry("command", if header.is_local { "local" } else { "proxy" })?;
                map.serialize_entry("source", &header.source)?;
                map.serialize_entry("destination", &header.destination)?;
            }
            Kind::Handshake(handshake) => write_handshake(&mut map, handshake)?,
            Kind::Frame(frame) => write_frame(&mut map, frame)?,
            Kind::Message(message) => write_message(&mut map, message)?,
            Kind::Anomaly(anomaly) => {
                map.serialize_entry("direction", &anomaly.direction.map(Direction::name))?;
                map.serialize_entry("code", anomaly.code.code())?;
                map.serialize_entry("detail", anomaly.detail)?;
            }
            Kind::Gap(gap) => {
                map.serialize_entry("direction", gap.direction.name())?;
                map.serialize_entry("offset", &gap.offset)?;
                map.serialize_entry("length", &gap.length)?;
                map.serialize_entry("cause", gap.cause.name())?;
            }
            Kind::Received(received) => {
                map.serialize_entry("direction", received.direction.name())?;
                map.serialize_entry("to", &received.to)?;
                if received.is_full {
                    map.serialize_entry("window_closed", &true)?;
                }
            }
            Kind::CaptureLoss(loss) => map.serialize_entry("packets", &loss.packets)?,
            Kind::ConnectionClosed(closed) => {
                map.serialize_entry("closed_by", &closed.closed_by.map(|peer| peer.name()))?;
                map.serialize_entry("how", closed.how.name())?;
                map.serialize_entry("close_code", &closed.code)?;
                map.serialize_entry("close_reason", closed.reason)?;
                map.serialize_entry("idle_nanoseconds", &nanoseconds(closed.idle))?;
                map.serialize_entry("duration_nanoseconds", &nanoseconds(closed.duration))?;
                map.serialize_entry("complete", &closed.is_complete())?;
                map.serialize_entry("account", &JsonAccounts { accounts: &closed.account, of_one: true })?;
            }
            Kind::Summary(summary) => write_summary(&mut map, summary)?,
        }
        if let (true, Some(stream_end)) = (self.receipts, stream_end) {
            map.serialize_entry("stream_end", stream_end)?;
        }
        map.end()
    }
}

/// The name of a record's kind.
pub const fn kind_name(kind: &Kind<'_>) -> &'static str {
    match kind {
        Kind::Packet(_) => "packet",
        Kind::ConnectionOpened(_) => "connection_opened",
        Kind::ProxyHeader(_) => "proxy_header",
        Kind::Handshake(_) => "handshake",
        Kind::Frame(_) => "frame",
        Kind::Message(_) => "message",
        Kind::Anomaly(_) => "anomaly",
        Kind::Gap(_) => "gap",
        Kind::Received(_) => "received",
        Kind::CaptureLoss(_) => "capture_loss",
        Kind::ConnectionClosed(_) => "connection_closed",
        Kind::Summary(_) => "summary",
    }
}

/// Never among `client` and `server`: it is not known to be true.
pub(super) fn write_claim<M: SerializeMap>(map: &mut M, claim: &ClientClaim) -> Result<(), M::Error> {
    map.serialize_entry("client_claimed", &format_args!("{}", claim.address))?;
    map.serialize_entry("client_claimed_by", claim.by.name())?;
    if !claim.also.is_empty() {
        map.serialize_entry("client_claimed_also", &JsonAddresses(&claim.also))?;
    }
    Ok(())
}

fn write_packet<M: SerializeMap>(map: &mut M, packet: &PacketSeen<'_>) -> Result<(), M::Error> {
    let segment = &packet.segment;
    map.serialize_entry("direction", &packet.direction.map(Direction::name))?;
    map.serialize_entry("source", &segment.source)?;
    map.serialize_entry("destination", &segment.destination)?;
    map.serialize_entry("flags", &flag_letters(segment.flags))?;
    map.serialize_entry("sequence_number", &segment.sequence.0)?;
    if segment.flags.ack() {
        map.serialize_entry("acknowledgment_number", &segment.acknowledgment.0)?;
    }
    map.serialize_entry("window", &segment.window)?;
    map.serialize_entry("length", &segment.payload_length)?;
    map.serialize_entry("bytes_base64", &JsonBase64(packet.data))
}

fn write_handshake<M: SerializeMap>(map: &mut M, handshake: &Handshake<'_>) -> Result<(), M::Error> {
    map.serialize_entry("direction", handshake.direction.name())?;
    map.serialize_entry("time_first", &JsonTime(handshake.time_first.wall))?;
    if let Some(method) = handshake.method {
        map.serialize_entry("method", method)?;
    }
    map.serialize_entry("path", &handshake.path)?;
    if let Some(status) = handshake.status {
        map.serialize_entry("status", &status)?;
        map.serialize_entry("reason", &handshake.reason)?;
        map.serialize_entry("accepted", &handshake.accepted)?;
    }
    map.serialize_entry("subprotocol", &handshake.subprotocol)?;
    map.serialize_entry("extensions", handshake.extensions)?;
    map.serialize_entry("headers", &JsonHeaders(handshake.headers))
}

fn write_frame<M: SerializeMap>(map: &mut M, frame: &Frame<'_>) -> Result<(), M::Error> {
    let header = &frame.header;
    map.serialize_entry("direction", frame.direction.name())?;
    map.serialize_entry("time_first", &JsonTime(frame.time_first.wall))?;
    map.serialize_entry("opcode", header.opcode.name())?;
    map.serialize_entry("opcode_number", &header.opcode.bits())?;
    map.serialize_entry("fin", &header.fin)?;
    map.serialize_entry("rsv1", &header.rsv1)?;
    map.serialize_entry("rsv2", &header.rsv2)?;
    map.serialize_entry("rsv3", &header.rsv3)?;
    map.serialize_entry("masked", &header.mask.is_some())?;
    if let Some(mask) = header.mask {
        map.serialize_entry("mask", &format!("{:08x}", u32::from_be_bytes(mask)))?;
    }
    map.serialize_entry("length", &header.payload_length)?;
    map.serialize_entry("wire_length", &header.wire_length())?;
    if let Some(Close { code, reason }) = frame.close {
        map.serialize_entry("close_code", &code)?;
        map.serialize_entry("close_reason", reason)?;
    }
    if let Some(round_trip) = frame.round_trip {
        map.serialize_entry("round_trip_nanoseconds", &nanoseconds(round_trip))?;
    }
    if !matches!(header.opcode, Opcode::Continuation | Opcode::Text | Opcode::Binary) {
        write_payload(map, &frame.payload)?;
    }
    if let Some(wire) = &frame.wire {
        map.serialize_entry("wire_base64", &JsonBase64(wire.known))?;
    }
    map.serialize_entry("resynchronised", &frame.resynchronised)
}

fn write_message<M: SerializeMap>(map: &mut M, message: &Message<'_>) -> Result<(), M::Error> {
    map.serialize_entry("direction", message.direction.name())?;
    map.serialize_entry("time_first", &JsonTime(message.time_first.wall))?;
    map.serialize_entry("opcode", message.opcode.name())?;
    map.serialize_entry("masked", &message.masked)?;
    map.serialize_entry("compressed", &message.compressed)?;
    map.serialize_entry("frames", &message.frames)?;
    map.serialize_entry("length", &message.length)?;
    map.serialize_entry("wire_length", &message.wire_length)?;
    write_payload(map, &message.payload)?;
    map.serialize_entry("resynchronised", &message.resynchronised)?;
    match message.chat {
        Some(chat) => map.serialize_entry("chat", chat),
        None => Ok(()),
    }
}

fn write_payload<M: SerializeMap>(map: &mut M, payload: &Payload<'_>) -> Result<(), M::Error> {
    match (payload.undecoded, payload.text) {
        (Some(undecoded), _) => map.serialize_entry("undecoded", undecoded)?,
        (None, Some(text)) => map.serialize_entry("payload", text)?,
        (None, None) => map.serialize_entry("payload_base64", &JsonBase64(payload.known))?,
    }
    map.serialize_entry("truncated", &payload.is_truncated())?;
    if payload.is_truncated() {
        map.serialize_entry("missing", &JsonMissing(payload.missing))?;
    }
    Ok(())
}

fn write_summary<M: SerializeMap>(map: &mut M, summary: &Summary) -> Result<(), M::Error> {
    map.serialize_entry("packets", &summary.packets)?;
    map.serialize_entry("packets_ignored", &summary.packets_ignored)?;
    map.serialize_entry("packets_fragments", &summary.packets_fragments)?;
    map.serialize_entry("packets_malformed", &summary.packets_malformed)?;
    map.serialize_entry("connections", &summary.connections)?;
    map.serialize_entry("connections_open", &summary.connections_open)?;
    map.serialize_entry("connections_incomplete", &summary.connections_incomplete)?;
    map.serialize_entry("connections_joined", &summary.connections_joined)?;
    map.serialize_entry("connections_other", &summary.connections_other)?;
    map.serialize_entry("handshakes", &summary.handshakes)?;
    map.serialize_entry("anomalies", &summary.anomalies)?;
    map.serialize_entry("account", &JsonAccounts { accounts: &summary.account, of_one: false })?;
    let gaps = GapCause::ALL.iter().zip(&summary.gaps).map(|(cause, &count)| (cause.name(), count));
    map.serialize_entry("gaps", &JsonCounts(gaps.collect()))?;
    let limits = Limit::ALL.iter().zip(&summary.limits).map(|(limit, &count)| (limit.name(), count));
    map.serialize_entry("limits", &JsonCounts(limits.collect()))?;
    map.serialize_entry("capture", &summary.capture.as_ref().map(JsonCapture))
}

pub(super) struct JsonTime(pub WallTime);

impl Serialize for JsonTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Rfc3339(self.0))
    }
}

struct JsonAddresses<'a>(&'a [ClaimedAddress]);

impl Serialize for JsonAddresses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

struct JsonBase64<'a>(&'a [u8]);

impl Serialize for JsonBase64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

struct JsonMissing<'a>(&'a [Missing]);

impl Serialize for JsonMissing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|hole| (hole.offset, hole.length)))
    }
}

/// A list, since header fields may repeat and their order may matter.
struct JsonHeaders<'a>(&'a [(&'a str, &'a [u8])]);

impl Serialize for JsonHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, value) in self.0 {
            sequence.serialize_element(&JsonHeader { name, value })?;
        }
        sequence.end()
    }
}

struct JsonHeader<'a> {
    name: &'a str,
    value: &'a [u8],
}

impl Serialize for JsonHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", self.name)?;
        match std::str::from_utf8(self.value) {
            Ok(value) => map.serialize_entry("value", value)?,
            Err(_) => map.serialize_entry("value_base64", &JsonBase64(self.value))?,
        }
        map.end()
    }
}

pub(super) struct JsonAccounts<'a> {
    pub accounts: &'a [Account; 2],
    /// Of one connection, which has a beginning and an end.
    pub of_one: bool,
}

impl Serialize for JsonAccounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            let account = direction.of(self.accounts);
            map.serialize_entry(direction.name(), &JsonAccount { account, of_one: self.of_one })?;
        }
        map.end()
    }
}

struct JsonAccount<'a> {
    account: &'a Account,
    of_one: bool,
}

impl Serialize for JsonAccount<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let account = self.account;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("bytes_seen", &account.bytes_seen)?;
        map.serialize_entry("bytes_missing", &account.bytes_missing)?;
        map.serialize_entry("gaps", &account.gaps)?;
        map.serialize_entry("bytes_skipped", &account.bytes_skipped)?;
        map.serialize_entry("bytes_retransmitted", &account.bytes_retransmitted)?;
        map.serialize_entry("frames", &account.frames)?;
        map.serialize_entry("messages", &account.messages)?;
        map.serialize_entry("messages_truncated", &account.messages_truncated)?;
        if self.of_one {
            map.serialize_entry("start_seen", &account.start_seen)?;
            map.serialize_entry("end_seen", &account.end_seen)?;
        }
        map.end()
    }
}

pub(super) struct JsonCounts(pub Vec<(&'static str, u64)>);

impl Serialize for JsonCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

struct JsonCapture<'a>(&'a CaptureCounters);

impl Serialize for JsonCapture<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counters = self.0;
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("seen", &counters.seen)?;
        map.serialize_entry("captured", &counters.captured)?;
        map.serialize_entry("truncated", &counters.truncated)?;
        map.serialize_entry("captured_partly", &counters.captured_partly)?;
        map.serialize_entry("filtered", &counters.filtered)?;
        map.serialize_entry("losses", &JsonCounts(counters.losses.clone()))?;
        map.end()
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

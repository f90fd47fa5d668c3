//! Records as lines for people: one line a message.
//!
//! Owns the layout. Must not know where lines go. Bounded: appends to the caller's buffer at most a small multiple
//! of the record's own bytes. Everything that a peer can influence goes through `escape`.
//!
//! The client always stands on the left and the server on the right, so that the arrow between them is all that
//! changes: `→` is sent by the client, `←` by the server. Whatever the observer has to say of a message stands before
//! its length, and the payload behind it, so that no payload can imitate it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use observer_core::Record;
use observer_core::record::{
    Account, Anomaly, ClientClaim, ConnectionClosed, ConnectionId, ConnectionOpened, Direction, Frame, Gap,
    GapCause, Handshake, How, Kind, Message, PacketSeen, Payload, Peer, ProxyHeader,
};
use observer_core::time::Time;
use observer_core::websocket::frame::Opcode;

use super::append::{format, push};
use super::clock::{Clock, TimeStyle};
use super::escape::{is_escaped_json, write_bytes, write_json, write_quoted, write_text};
use super::packets::{Conversations, Layout, write_packet};
use super::palette::Palette;
use super::party::claim_words;
use super::pieces::{Piece, missing_bytes, pieces};
use super::summary::count;

/// Bytes of a binary payload that are shown. All of it is in `--format json`.
const BINARY_PREVIEW: usize = 32;

/// Bytes of a text payload that are shown where messages are previewed.
const TEXT_PREVIEW: usize = 1_024;

/// What tells, of answers with such a status, what else to ask for: header field, and how it is called.
const TELLING_FIELDS: [(RangeInclusive<u16>, &str, &str); 3] = [
    (300..=399, "location", " location "),
    (400..=400, "sec-websocket-version", " versions "),
    (426..=426, "sec-websocket-version", " versions "),
];

/// Lays out records as text.
#[derive(Debug)]
pub struct Text {
    clock: Clock,
    palette: Palette,
    verbose: bool,
    packet_bytes: Layout,
    payload_bytes: Layout,
    previews: bool,
    conversations: Conversations,
    /// Connections that were open before, and of which nothing was shown yet. Their number is the engine's bound.
    unmentioned: HashSet<ConnectionId>,
}

/// What text shows besides what it always shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Headers of handshakes, the account of each connection, and at once each connection that was open before.
    pub verbose: bool,
    /// Of packets.
    pub packet_bytes: Layout,
    /// Of payloads, instead of text and previews.
    pub payload_bytes: Layout,
    /// Of long text, as of binary payloads, the beginning only.
    pub previews: bool,
}

impl Text {
    /// Lays out so much detail.
    pub fn new(time: TimeStyle, palette: Palette, detail: Detail) -> Self {
        let Detail { verbose, packet_bytes, payload_bytes, previews } = detail;
        let clock = Clock::new(time);
        Self {
            clock,
            palette,
            verbose,
            packet_bytes,
            payload_bytes,
            previews,
            conversations: Conversations::default(),
            unmentioned: HashSet::new(),
        }
    }

    /// Appends `record` to `out`, with its line end. The summary is no line here: it goes to standard error.
    pub fn write(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        if matches!(record.kind, Kind::Summary(_)) || self.write_put_off(out, record) {
            return;
        }
        if let Kind::Packet(packet) = &record.kind {
            self.write_packet(out, record.time, packet);
        } else {
            self.write_start(out, record);
            self.write_content(out, record);
        }
        out.push(b'\n');
    }

    /// Of a connection that was open before, the line that says so comes before the first that says more: many are
    /// open, and few may ever say anything. Returns whether `record` is not to be written (yet).
    fn write_put_off(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> bool {
        let Some(connection) = record.connection else { return false };
        if let Kind::ConnectionOpened(ConnectionOpened { was_listed: true, .. }) = record.kind {
            return !self.verbose && self.unmentioned.insert(connection.id);
        }
        if !self.unmentioned.remove(&connection.id) {
            return false;
        }
        if let Kind::ConnectionClosed(closed) = &record.kind
            && matches!(closed.how, How::StillOpen | How::Evicted)
            && closed.account.iter().all(|account| account.bytes_seen == 0 && account.bytes_missing == 0)
        {
            return true;
        }
        let kind = Kind::ConnectionOpened(ConnectionOpened { from_start: false, was_listed: true });
        let joined = Record { kind, ..record.clone() };
        self.write_start(out, &joined);
        self.write_content(out, &joined);
        out.push(b'\n');
        false
    }

    /// Appends a packet as tcpdump prints it, without a line end behind.
    pub fn write_packet(&mut self, out: &mut Vec<u8>, time: Time, packet: &PacketSeen<'_>) {
        self.clock.write(out, time);
        out.push(b' ');
        write_packet(out, packet, self.packet_bytes, &mut self.conversations);
    }

    /// Takes note of a record that is not shown.
    pub fn pass_over(&mut self, record: &Record<'_>) {
        match (&record.kind, record.connection) {
            (Kind::Packet(packet), _) => self.conversations.pass_over(packet),
            (Kind::ConnectionClosed(_), Some(connection)) => _ = self.unmentioned.remove(&connection.id),
            _ => {}
        }
    }

    /// Appends what stands behind the addresses.
    pub fn write_content(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        match &record.kind {
            Kind::ConnectionOpened(opened) => self.write_opened(out, opened, record),
            Kind::ProxyHeader(header) => self.write_proxy_header(out, header),
            Kind::Handshake(handshake) => {
                let claim = record.connection.and_then(|connection| connection.client_claim.as_deref());
                self.write_handshake(out, handshake, claim);
            }
            Kind::Frame(frame) => self.write_frame(out, frame),
            Kind::Message(message) => self.write_message(out, message),
            Kind::Anomaly(anomaly) => self.write_anomaly(out, anomaly),
            Kind::Gap(gap) => self.write_gap(out, gap),
            Kind::ConnectionClosed(closed) => self.write_closed(out, closed),
            Kind::Packet(_) | Kind::Received(_) | Kind::CaptureLoss(_) | Kind::Summary(_) => {}
        }
    }

    /// Appends a time, as each line has it first.
    pub fn write_time(&mut self, out: &mut Vec<u8>, time: Time) {
        let Palette { faint, reset, .. } = self.palette;
        push(out, faint);
        self.clock.write(out, time);
        push(out, reset);
    }

    /// Time, connection, addresses, and between them who sends.
    fn write_start(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        self.write_time(out, record.time);
        let reset = self.palette.reset;
        let Some(connection) = record.connection else {
            out.push(b' ');
            return;
        };
        let (color, arrow) = match sender(&record.kind) {
            Some(Peer::Client) => (self.palette.client, "→"),
            Some(Peer::Server) => (self.palette.server, "←"),
            None => ("", "-"),
        };
        let (id, client, server) = (connection.id, connection.client, connection.server);
        format(
            out,
            format_args!(
                " #{id} {client} {color}{arrow}{} {server} ",
                if color.is_empty() { "" } else { reset }
            ),
        );
    }

    const fn sender_color(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::ClientToServer => self.palette.client,
            Direction::ServerToClient => self.palette.server,
        }
    }

    fn write_opened(&self, out: &mut Vec<u8>, opened: &ConnectionOpened, record: &Record<'_>) {
        self.palette.write_word(out, self.palette.event, if opened.from_start { "opened" } else { "joined" });
        if opened.was_listed {
            push(out, ", it was open before");
        } else if !opened.from_start {
            push(out, ", its beginning was not seen");
        }
        if let Some(interface) = record.connection.and_then(|connection| connection.interface.as_deref()) {
            push(out, ", interface ");
            write_text(out, interface, self.palette.escape);
        }
    }

    fn write_proxy_header(&self, out: &mut Vec<u8>, header: &ProxyHeader) {
        self.palette.write_word(out, self.palette.event, "PROXY");
        format(out, format_args!(" v{}", header.version));
        match (header.is_local, header.source, header.destination) {
            (true, ..) => push(out, " of the proxy's own connection"),
            (false, Some(source), Some(destination)) => {
                format(out, format_args!(" claims client {source}, server {destination}"));
            }
            (false, ..) => push(out, " claims no address"),
        }
    }

    /// Before the target, which could imitate it.
    fn write_claim(&self, out: &mut Vec<u8>, claim: &ClientClaim) {
        out.push(b' ');
        self.palette.write_word(out, self.palette.faint, &format!("[{}]", claim_words(claim)));
    }

    fn write_handshake(&self, out: &mut Vec<u8>, handshake: &Handshake<'_>, claim: Option<&ClientClaim>) {
        let mark = self.palette.escape;
        let color = self.sender_color(handshake.direction);
        if let Some(status) = handshake.status {
            self.palette.write_word(out, color, &status.to_string());
            if handshake.accepted == Some(false) {
                out.push(b' ');
                self.palette.write_word(out, self.palette.problem, "[no WebSocket]");
            }
            if let Some(reason) = handshake.reason.filter(|reason| !reason.is_empty()) {
                out.push(b' ');
                write_text(out, reason, mark);
            }
        } else {
            push(out, color);
            write_text(out, handshake.method.unwrap_or("?"), mark);
            if !color.is_empty() {
                push(out, self.palette.reset);
            }
            if let Some(claim) = claim {
                self.write_claim(out, claim);
            }
            out.push(b' ');
            write_text(out, handshake.path.unwrap_or("?"), mark);
        }
        for (status, name, word) in TELLING_FIELDS {
            let is_of = handshake.status.is_some_and(|it| status.contains(&it)) && !self.verbose;
            let fields =
                handshake.headers.iter().filter(|(field, _)| is_of && field.eq_ignore_ascii_case(name));
            for (_, value) in fields {
                push(out, word);
                write_bytes(out, value, mark);
            }
        }
        if let Some(subprotocol) = handshake.subprotocol {
            push(out, " subprotocol ");
            write_text(out, subprotocol, mark);
        }
        if !handshake.extensions.is_empty() {
            push(out, " extensions ");
            for (index, extension) in handshake.extensions.iter().enumerate() {
                push(out, if index == 0 { "" } else { ", " });
                write_text(out, extension, mark);
            }
        }
        if self.verbose {
            for (name, value) in handshake.headers {
                push(out, "\n    ");
                write_text(out, name, mark);
                push(out, ": ");
                write_bytes(out, value, mark);
            }
        }
    }

    fn write_frame(&self, out: &mut Vec<u8>, frame: &Frame<'_>) {
        let header = &frame.header;
        push(out, "frame ");
        self.palette.write_word(out, self.sender_color(frame.direction), &header.opcode.to_string());
        for (is_set, name) in
            [(header.fin, " fin"), (header.rsv1, " rsv1"), (header.rsv2, " rsv2"), (header.rsv3, " rsv3")]
        {
            push(out, if is_set { name } else { "" });
        }
        if let Some([a, b, c, d]) = header.mask {
            format(out, format_args!(" mask {a:02x}{b:02x}{c:02x}{d:02x}"));
        }
        self.write_resynchronised(out, frame.resynchronised);
        self.write_truncation(out, &frame.payload, Some(header.payload_length));
        if let Some(round_trip) = frame.round_trip {
            format(out, format_args!(" [{} after its ping]", milliseconds(round_trip)));
        }
        format(out, format_args!(" {}", header.payload_length));
        if let Some(close) = frame.close {
            match close.code {
                Some(code) => format(out, format_args!(" code {code}{}", close_meaning(code))),
                None => push(out, " without a code"),
            }
            if !close.reason.is_empty() {
                out.push(b' ');
                write_quoted(out, close.reason, self.palette.escape);
            }
        } else {
            self.write_payload(
                out,
                &frame.payload,
                header.opcode != Opcode::Binary && frame.payload.text.is_some(),
            );
        }
        if let Some(wire) = &frame.wire {
            self.write_bytes(
                out,
                wire,
                Layout { hex: self.payload_bytes.hex || !self.payload_bytes.ascii, ..self.payload_bytes },
            );
        }
    }

    fn write_message(&self, out: &mut Vec<u8>, message: &Message<'_>) {
        self.palette.write_word(out, self.sender_color(message.direction), &message.opcode.to_string());
        self.write_resynchronised(out, message.resynchronised);
        if let Some(undecoded) = message.payload.undecoded {
            out.push(b' ');
            push(out, self.palette.problem);
            format(
                out,
                format_args!("[{}, {} bytes on the wire, not decoded]", undecoded, message.wire_length),
            );
            push(out, self.palette.reset);
        }
        self.write_truncation(out, &message.payload, message.length);
        let as_text = match message.opcode {
            Opcode::Text => true,
            Opcode::Binary => false,
            _ => message.payload.text.is_some(),
        };
        let unshown = message.payload.known.len() - self.text_shown(&message.payload).len();
        if as_text && unshown > 0 {
            out.push(b' ');
            let said = format!("[shortened: {} not shown]", count(unshown as u64, "byte", "bytes"));
            self.palette.write_word(out, self.palette.faint, &said);
        }
        match message.length {
            Some(length) => format(out, format_args!(" {length}")),
            None => push(out, " ?"),
        }
        self.write_payload(out, &message.payload, as_text);
    }

    /// Says before the payload, where the payload cannot imitate it, that it is not whole.
    fn write_truncation(&self, out: &mut Vec<u8>, payload: &Payload<'_>, length: Option<u64>) {
        if !payload.is_truncated() {
            return;
        }
        let said = match (missing_bytes(payload), length) {
            ((0, true), _) => "the end is missing".to_owned(),
            ((bytes, true), _) => format!("{bytes} bytes and the end are missing"),
            ((bytes, false), Some(length)) => format!("{bytes} of {length} bytes are missing"),
            ((bytes, false), None) => format!("{bytes} bytes are missing"),
        };
        out.push(b' ');
        self.palette.write_word(out, self.palette.problem, &format!("[truncated: {said}]"));
    }

    fn write_resynchronised(&self, out: &mut Vec<u8>, resynchronised: bool) {
        if resynchronised {
            out.push(b' ');
            self.palette.write_word(out, self.palette.problem, "[resynchronised]");
        }
    }

    fn write_payload(&self, out: &mut Vec<u8>, payload: &Payload<'_>, as_text: bool) {
        if payload.undecoded.is_some() || (payload.known.is_empty() && !payload.is_truncated()) {
            return;
        }
        if self.payload_bytes.shows_bytes() {
            self.write_bytes(out, payload, self.payload_bytes);
            return;
        }
        out.push(b' ');
        if !as_text {
            self.write_binary(out, payload);
            return;
        }
        let mark = self.palette.escape;
        let escaped_json = std::str::from_utf8(payload.known)
            .is_ok_and(|text| is_escaped_json(text, !payload.is_truncated()));
        let mut left = self.text_shown(payload).len();
        let is_cut = left < payload.known.len();
        for piece in pieces(payload) {
            if is_cut && left == 0 {
                break;
            }
            match piece {
                Piece::Known(bytes) => {
                    let shown = bytes.get(..left).unwrap_or(bytes);
                    left -= shown.len();
                    match std::str::from_utf8(shown) {
                        Ok(json) if escaped_json => write_json(out, json, mark),
                        Ok(text) => write_text(out, text, mark),
                        Err(_) => write_bytes(out, shown, mark),
                    }
                }
                Piece::Missing(length) => self.write_hole(out, length),
            }
        }
        push(out, if is_cut { "…" } else { "" });
    }

    /// The known bytes of a text that are shown: all, or a beginning that no character is cut in two by.
    fn text_shown<'a>(&self, payload: &Payload<'a>) -> &'a [u8] {
        let known = payload.known;
        if !self.previews || known.len() <= TEXT_PREVIEW {
            return known;
        }
        let is_boundary = |at: &usize| known.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
        let end = (TEXT_PREVIEW - 3..=TEXT_PREVIEW).rev().find(is_boundary);
        known.get(..end.unwrap_or(TEXT_PREVIEW)).unwrap_or(known)
    }

    /// Bytes on lines of their own, with what is missing between them.
    fn write_bytes(&self, out: &mut Vec<u8>, payload: &Payload<'_>, layout: Layout) {
        for piece in pieces(payload) {
            match piece {
                Piece::Known(bytes) => layout.write(out, bytes),
                Piece::Missing(length) => {
                    push(out, "\n\t");
                    self.write_hole(out, length);
                }
            }
        }
    }

    fn write_hole(&self, out: &mut Vec<u8>, length: Option<u64>) {
        let said = match length {
            Some(length) => format!("[…{length} missing…]"),
            None => "[…end missing]".to_owned(),
        };
        self.palette.write_word(out, self.palette.problem, &said);
    }

    /// The first bytes in hexadecimal and as ASCII, and how many more there are.
    fn write_binary(&self, out: &mut Vec<u8>, payload: &Payload<'_>) {
        let mut left = BINARY_PREVIEW;
        let mut ascii = Vec::with_capacity(BINARY_PREVIEW);
        let mut first = true;
        for piece in pieces(payload) {
            if left == 0 {
                break;
            }
            if !std::mem::take(&mut first) {
                out.push(b' ');
            }
            match piece {
                Piece::Known(bytes) => {
                    let shown = bytes.get(..left).unwrap_or(bytes);
                    left -= shown.len();
                    for (index, byte) in shown.iter().enumerate() {
                        format(out, format_args!("{}{byte:02x}", if index == 0 { "" } else { " " }));
                        ascii.push(if matches!(byte, 0x20..=0x7e) { *byte } else { b'.' });
                    }
                }
                Piece::Missing(length) => self.write_hole(out, length),
            }
        }
        push(out, " |");
        out.extend_from_slice(&ascii);
        push(out, "|");
        let more = payload.known.len() - ascii.len();
        if more > 0 {
            self.palette.write_word(out, self.palette.faint, &format!(" and {more} bytes more"));
        }
    }

    fn write_anomaly(&self, out: &mut Vec<u8>, anomaly: &Anomaly<'_>) {
        self.palette.write_word(out, self.palette.problem, "anomaly");
        format(out, format_args!(" {}", anomaly.code));
        if !anomaly.detail.is_empty() {
            push(out, ": ");
            write_text(out, anomaly.detail, self.palette.escape);
        }
    }

    fn write_gap(&self, out: &mut Vec<u8>, gap: &Gap) {
        self.palette.write_word(out, self.palette.problem, "gap");
        let (length, offset) = (gap.length, gap.offset);
        let cause = cause_words(gap.cause);
        if length == 0 {
            format(out, format_args!(" of unknown length at {offset}, {cause}"));
        } else {
            format(out, format_args!(" of {length} bytes at {offset}, {cause}"));
        }
    }

    fn write_closed(&self, out: &mut Vec<u8>, closed: &ConnectionClosed<'_>) {
        let word = if closed.how == How::StillOpen { "open" } else { "closed" };
        self.palette.write_word(out, self.palette.event, word);
        match closed.closed_by {
            Some(Peer::Client) => push(out, " by client"),
            Some(Peer::Server) => push(out, " by server"),
            None => {}
        }
        match closed.how {
            How::CloseFrame => push(out, ", close frame"),
            How::Fin => push(out, ", FIN"),
            How::Rst => push(out, ", RST"),
            How::Unseen => push(out, ", its end was not seen"),
            How::StillOpen => push(out, " at the end of the run"),
            How::Evicted => push(out, " to the observer, which let go of it at its limit of connections"),
        }
        match closed.code {
            Some(code) if closed.how == How::CloseFrame => {
                format(out, format_args!(" {code}{}", close_meaning(code)));
            }
            Some(code) => format(out, format_args!(", close code {code}{}", close_meaning(code))),
            None => {}
        }
        if !closed.reason.is_empty() {
            out.push(b' ');
            write_quoted(out, closed.reason, self.palette.escape);
        }
        let (duration, idle) = (seconds(closed.duration), seconds(closed.idle));
        format(out, format_args!(", after {duration} s ({idle} s idle)"));
        let [client, server] = &closed.account;
        format(out, format_args!(", messages → {} ← {}", client.messages, server.messages));
        if self.verbose {
            for (arrow, account) in [("→", client), ("←", server)] {
                format(
                    out,
                    format_args!(
                        "\n    {arrow} {}, {} retransmitted, {}, {}",
                        count(account.bytes_seen, "byte", "bytes"),
                        account.bytes_retransmitted,
                        count(account.frames, "frame", "frames"),
                        count(account.messages, "message", "messages")
                    ),
                );
            }
            push(out, "\n    ");
        } else {
            push(out, ", ");
        }
        match completeness(closed) {
            Completeness::Complete => push(out, "complete"),
            Completeness::SoFar => push(out, "nothing missing so far"),
            Completeness::Skipped(what) => {
                push(out, "not decoded: ");
                push(out, &what);
            }
            Completeness::Incomplete(what) => {
                self.palette.write_word(out, self.palette.problem, "incomplete");
                push(out, ": ");
                push(out, &what);
            }
        }
    }
}

/// Whether all of a connection was seen, and if not, what was not.
pub fn completeness_words(closed: &ConnectionClosed<'_>) -> String {
    match completeness(closed) {
        Completeness::Complete => "complete".to_owned(),
        Completeness::SoFar => "nothing missing so far".to_owned(),
        Completeness::Skipped(what) => format!("not decoded: {what}"),
        Completeness::Incomplete(what) => format!("incomplete: {what}"),
    }
}

enum Completeness {
    Complete,
    /// For a connection that is still open.
    SoFar,
    /// All was seen; why it is not decoded was told when it came.
    Skipped(String),
    Incomplete(String),
}

fn completeness(closed: &ConnectionClosed<'_>) -> Completeness {
    if closed.is_complete() {
        return Completeness::Complete;
    }
    let mut missing = Vec::new();
    let mut skipped = Vec::new();
    for (arrow, account) in ["→", "←"].into_iter().zip(&closed.account) {
        let Account { start_seen, end_seen, bytes_missing, bytes_skipped, gaps, messages_truncated, .. } =
            *account;
        if bytes_skipped > 0 {
            skipped.push(format!("{arrow} {bytes_skipped} bytes"));
        }
        if bytes_missing > 0 {
            let truncated = match messages_truncated {
                0 => Cow::Borrowed(""),
                1 => Cow::Borrowed(" (1 message truncated)"),
                count => Cow::Owned(format!(" ({count} messages truncated)")),
            };
            missing.push(format!("{arrow} {bytes_missing} bytes in {gaps} gaps{truncated}"));
        }
        if !start_seen {
            missing.push(format!("{arrow} beginning not seen"));
        }
        if !end_seen && closed.how != How::StillOpen {
            missing.push(format!("{arrow} end not seen"));
        }
    }
    match (missing.is_empty(), skipped.is_empty()) {
        (true, true) => Completeness::SoFar,
        (true, false) => Completeness::Skipped(skipped.join(", ")),
        (false, true) => Completeness::Incomplete(missing.join(", ")),
        (false, false) => {
            Completeness::Incomplete(format!("{}; not decoded: {}", missing.join(", "), skipped.join(", ")))
        }
    }
}

/// Who acts in a record, where somebody does.
const fn sender(kind: &Kind<'_>) -> Option<Peer> {
    let direction = match kind {
        Kind::Handshake(handshake) => handshake.direction,
        Kind::Frame(frame) => frame.direction,
        Kind::Message(message) => message.direction,
        Kind::Gap(gap) => gap.direction,
        Kind::ConnectionOpened(_) | Kind::ProxyHeader(_) => Direction::ClientToServer,
        Kind::ConnectionClosed(closed) => return closed.closed_by,
        Kind::Anomaly(anomaly) => match anomaly.direction {
            Some(direction) => direction,
            None => return None,
        },
        Kind::Packet(_) | Kind::Received(_) | Kind::CaptureLoss(_) | Kind::Summary(_) => return None,
    };
    Some(match direction {
        Direction::ClientToServer => Peer::Client,
        Direction::ServerToClient => Peer::Server,
    })
}

/// Why bytes are missing, in words.
pub const fn cause_words(cause: GapCause) -> &'static str {
    match cause {
        GapCause::SnapLength => "cut off by the snap length",
        GapCause::CaptureLoss => "lost by the capture",
        GapCause::NeverSeen => "never seen",
        GapCause::Limit => "given up at a limit of the observer",
    }
}

/// What a close code means (RFC 6455 §7.4.1 and its registry), in parentheses.
const fn close_meaning(code: u16) -> &'static str {
    match code {
        1000 => " (normal)",
        1001 => " (going away)",
        1002 => " (protocol error)",
        1003 => " (unsupported data)",
        1007 => " (invalid data)",
        1008 => " (policy violation)",
        1009 => " (message too big)",
        1010 => " (extension missing)",
        1011 => " (internal error)",
        1012 => " (service restart)",
        1013 => " (try again later)",
        1014 => " (bad gateway)",
        _ => "",
    }
}

/// With microseconds, since many round trips take no longer.
pub fn milliseconds(duration: Duration) -> String {
    let microseconds = duration.as_micros();
    format!("{}.{:03} ms", microseconds / 1_000, microseconds % 1_000)
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}

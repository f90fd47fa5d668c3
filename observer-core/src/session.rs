//! The conversation on one connection: HTTP heads first, then WebSocket frames.
//!
//! Owns which of the two each direction is in, and what the handshake settled for both. Must not know TCP, nor other
//! connections. Bounded by [`Limits::head_bytes`], [`Limits::early_bytes`], [`Limits::pending_requests`] and, for all
//! connections together, [`Limits::head_total_bytes`], and by what a decoder and the files below bound.
//!
//! # What is not decoded
//!
//! TLS and HTTP/2 are named (`session/foreign.rs`), behind a PROXY header too (`session/prelude.rs`).
//!
//! Bodies are stepped over. Where something is lost or cannot be told, each segment is taken for what it looks like,
//! a head or frames, and for nothing else; what looks like neither is counted as skipped. Only another protocol where
//! a head is due, or a head that cannot be read, ends the decoding of a connection.

mod early;
mod ending;
mod foreign;
mod pending;
mod pings;
mod prelude;

use std::borrow::Cow;
use std::sync::Arc;

use crate::anomaly::AnomalyCode;
use crate::http::handshake::upgrade_to;
use crate::http::head::HeadError;
use crate::http::{
    Asked, Body, BodyProgress, Foreign, HeadKind, HeadProgress, HeadReader, evaluate_answer,
    evaluate_request, parse_request, parse_response,
};
use crate::http2::Watcher;
use crate::limits::{Limit, Limits};
use crate::proxy_protocol;
use crate::record::{ClientClaim, Direction, Handshake, Kind};
use crate::reporter::Reporter;
use crate::tcp::reassembler::Chunk;
use crate::time::Time;
use crate::tls::ClientHelloReader;
use crate::websocket::Extensions;
use crate::websocket::decoder::{self, Decoder, StreamEnd};

use early::{Content, Early, Room};
use ending::Ending;
pub(crate) use ending::{FirstClose, Receipt};
use foreign::tell_unread_hello;
use pending::{Pending, Request};

const NOT_DECODED: &str = "the connection is not decoded";
const BY_LOOKS: &str = "what follows is decoded by its looks";

/// What the sessions of all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    decoding: decoder::Shared,
    /// What all sessions but the one at work hold of heads, of requests, and of what clients send ahead of answers.
    held_bytes: usize,
}

impl Shared {
    pub(crate) const fn new(limits: &Limits, keeps_wire: bool) -> Self {
        Self { decoding: decoder::Shared::new(limits, keeps_wire), held_bytes: 0 }
    }

    /// What all sessions hold of heads, of requests, and of what clients send ahead of answers.
    pub(crate) const fn heads_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What they hold of unfinished messages.
    pub(crate) const fn messages_bytes(&self) -> usize {
        self.decoding.held_bytes()
    }
}

/// Whether bytes look like the beginning of an HTTP/1 request.
pub(crate) fn looks_like_request(data: &[u8]) -> bool {
    let method = data.iter().take(20).position(|byte| *byte == b' ');
    method.is_some_and(|length| length >= 3)
        && data.iter().take_while(|byte| **byte != b' ').all(u8::is_ascii_uppercase)
        && data
            .split(|byte| *byte == b'\n')
            .next()
            .is_some_and(|line| line.windows(6).any(|it| it == b"HTTP/1"))
}

/// Whether bytes look like the beginning of an answer that opens a WebSocket.
pub(crate) fn looks_like_switch(data: &[u8]) -> bool {
    data.starts_with(b"HTTP/1.1 101")
}

fn looks_like_head(direction: Direction, data: &[u8]) -> bool {
    match direction {
        Direction::ClientToServer => looks_like_request(data),
        Direction::ServerToClient => data.starts_with(b"HTTP/1."),
    }
}

/// State of one conversation.
#[derive(Debug)]
pub(crate) struct Session {
    client: Half,
    server: Half,
    pending: Pending,
    /// What the PROXY header claims.
    proxied: Option<Arc<ClientClaim>>,
    /// Something of the heads was not seen or not understood: answers cannot be told to belong to their requests by
    /// their order, the place may be wrong, and no blame follows from it.
    by_looks: bool,
    /// Whether the client has sent nothing since an upgrade request whose answer is no longer waited for.
    client_is_behind_request: bool,
    ending: Ending,
}

/// Where one direction is.
#[derive(Debug)]
enum Half {
    /// At the beginning of a head or of a frame: the next bytes decide.
    Unknown,
    /// In a head, or in the body behind one.
    Head(Box<Heading>),
    /// In the first message of a client that speaks TLS.
    ClientHello(Box<ClientHelloReader>),
    /// In HTTP/2.
    Http2(Box<Watcher>),
    /// Behind an upgrade request: what comes waits for the answer.
    Early(Box<Early>),
    /// In WebSocket frames.
    Frames(Decoder),
    /// Nobody knows: each segment may begin a head or a frame.
    Seeking(Decoder),
    /// In something that is not decoded, or at its end.
    Ignored,
}

#[derive(Debug)]
struct Heading {
    /// At the beginning of a connection: a PROXY header may come before the head.
    proxy: Option<Box<proxy_protocol::Reader>>,
    reader: HeadReader,
    time_first: Option<Time>,
    /// What is left of the body before the head.
    body: Body,
}

impl Heading {
    /// Bytes taken of a head, or of a PROXY header, that is not whole.
    fn pending_bytes(&self) -> usize {
        let proxy = self.proxy.as_ref().map_or(0, |reader| reader.pending_bytes());
        proxy.saturating_add(self.reader.pending_bytes())
    }

    /// Whether a body that would last until the stream's end may have ended: who waits for a further answer on the
    /// connection has seen that.
    fn may_be_behind_body(&self, answer_is_due: bool) -> bool {
        answer_is_due && self.body == Body::UntilClose
    }
}

/// What follows a head.
enum Next {
    /// Another head, behind a body. `refused` is what waited for an upgrade that will not come.
    Head { body: Body, refused: Option<Box<Early>> },
    /// Something else.
    Half(Half),
    /// Nobody knows.
    Lost,
}

impl Half {
    fn heading(direction: Direction) -> Self {
        let kind = match direction {
            Direction::ClientToServer => HeadKind::Request,
            Direction::ServerToClient => HeadKind::Response,
        };
        let reader = HeadReader::new(kind);
        Self::Head(Box::new(Heading { proxy: None, reader, time_first: None, body: Body::NONE }))
    }

    /// At the beginning of a connection.
    fn beginning(direction: Direction) -> Self {
        let mut half = Self::heading(direction);
        if let (Self::Head(heading), Direction::ClientToServer) = (&mut half, direction) {
            heading.proxy = Some(Box::default());
        }
        half
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Head(heading) => heading.reader.held_bytes(),
            Self::ClientHello(reader) => reader.held_bytes(),
            Self::Http2(watcher) => watcher.held_bytes(),
            Self::Early(early) => early.held_bytes(),
            // A decoder's are counted where decoders are.
            Self::Unknown | Self::Frames(_) | Self::Seeking(_) | Self::Ignored => 0,
        }
    }
}

impl Session {
    /// A conversation whose first bytes are the next ones, or one that was under way.
    pub(crate) fn new(from_start: bool) -> Self {
        let half = |direction| if from_start { Half::beginning(direction) } else { Half::Unknown };
        Self {
            client: half(Direction::ClientToServer),
            server: half(Direction::ServerToClient),
            pending: Pending::default(),
            proxied: None,
            by_looks: !from_start,
            client_is_behind_request: false,
            ending: Ending::default(),
        }
    }

    /// The first close frame.
    pub(crate) fn first_close(&self) -> Option<&FirstClose> {
        self.ending.first.as_deref()
    }

    /// Whether both ends have sent a close frame.
    pub(crate) fn has_closed_both_ways(&self) -> bool {
        self.ending.seen == [true, true]
    }

    /// Whether a direction is in the middle of a frame, of a head, or of a body whose end matters.
    pub(crate) fn is_within_frame(&self, direction: Direction) -> bool {
        let half = match direction {
            Direction::ClientToServer => &self.client,
            Direction::ServerToClient => &self.server,
        };
        match half {
            Half::Frames(decoder) | Half::Seeking(decoder) => {
                decoder.is_synchronised() && !decoder.is_between_frames()
            }
            Half::Head(heading) => {
                let ends_soon = !matches!(heading.body, Body::Length(0) | Body::UntilClose);
                heading.time_first.is_some() || ends_soon
            }
            // What waits may end within a frame.
            Half::Early(early) => !early.is_empty(),
            Half::ClientHello(_) | Half::Http2(_) | Half::Unknown | Half::Ignored => false,
        }
    }

    /// When the last bytes before the first close frame came, if there was one.
    pub(crate) fn last_payload_before_close(&self) -> Option<Time> {
        self.ending.last_payload.filter(|_| self.ending.first.is_some())
    }

    /// The sender of a direction has so much of the other one. Comes before what it sends with that.
    pub(crate) fn handle_receipt(&mut self, direction: Direction, receipt: Receipt) {
        *direction.of_mut(&mut self.ending.receipts) = receipt;
    }

    /// A FIN came in a direction, from an end that has received the other one up to an offset, where that is known.
    /// `is_awaited`: the other end has not ended its own stream before.
    pub(crate) fn handle_fin(&mut self, direction: Direction, received_to: Option<u64>, is_awaited: bool) {
        self.ending.handle_fin(direction, received_to, is_awaited);
    }

    /// What the sender of a direction has received by now.
    pub(crate) fn receipt_of(&self, direction: Direction) -> Receipt {
        self.ending.receipt_of(direction)
    }

    /// Takes the next piece of a direction's stream.
    pub(crate) fn handle_chunk(
        &mut self,
        direction: Direction,
        chunk: Chunk<'_>,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        self.account(shared, |session, shared| match chunk {
            Chunk::Data(data) => session.handle_data(direction, data, shared, reporter),
            Chunk::Gap { length, .. } => session.handle_gap(direction, length, shared, reporter),
            Chunk::End => {
                if let Half::Frames(decoder) = session.half(direction)
                    && decoder.is_proved()
                    && decoder.is_between_frames()
                {
                    session.ending.check_answer(direction, reporter);
                }
                session.end_half(direction, StreamEnd::Fin, shared, reporter);
            }
        });
        if matches!(chunk, Chunk::Data(_)) && self.ending.first.is_none() {
            self.ending.last_payload = Some(reporter.time);
        }
    }

    /// The connection is over: tells what is unfinished, and gives back what is held.
    pub(crate) fn handle_end(&mut self, end: StreamEnd, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        self.account(shared, |session, shared| {
            for direction in [Direction::ClientToServer, Direction::ServerToClient] {
                session.end_half(direction, end, shared, reporter);
            }
            session.pending.clear();
        });
    }

    /// Whether heads, requests, or what the client sent ahead of an answer are held.
    pub(crate) fn holds_heads(&self) -> bool {
        self.held_bytes() > 0
    }

    /// Whether payload of unfinished messages is held.
    pub(crate) fn holds_messages(&self) -> bool {
        [&self.client, &self.server].into_iter().any(
            |half| matches!(half, Half::Frames(decoder) | Half::Seeking(decoder) if decoder.holds_payload()),
        )
    }

    /// Lets go of heads that are not complete, as at their bound, and of what waits for answers.
    pub(crate) fn give_up_heads(&mut self, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        if !self.holds_heads() {
            return;
        }
        reporter.limit(Limit::HeadTotal);
        self.account(shared, |session, shared| {
            session.by_looks = true;
            for direction in [Direction::ClientToServer, Direction::ServerToClient] {
                match session.half(direction) {
                    Half::Head(heading) if heading.reader.held_bytes() > 0 => {
                        reporter.anomaly(Some(direction), AnomalyCode::HeadTooLong, BY_LOOKS);
                        session.seek(direction, shared, reporter);
                    }
                    Half::Early(_) => session.seek(direction, shared, reporter),
                    Half::ClientHello(_) => {
                        session.client = Half::Ignored;
                        tell_unread_hello(reporter);
                    }
                    Half::Http2(_) => *session.half(direction) = Half::Ignored,
                    _ => {}
                }
            }
            session.pending.clear();
        });
    }

    /// Lets go of the payload of unfinished messages, which is missing then.
    pub(crate) fn give_up_messages(&mut self, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        for half in [&mut self.client, &mut self.server] {
            if let Half::Frames(decoder) | Half::Seeking(decoder) = half
                && decoder.give_up_payload(&mut shared.decoding)
            {
                reporter.limit(Limit::MessageTotal);
            }
        }
    }

    /// Acts, with what is held before and behind counted.
    fn account(&mut self, shared: &mut Shared, act: impl FnOnce(&mut Self, &mut Shared)) {
        shared.held_bytes = shared.held_bytes.saturating_sub(self.held_bytes());
        act(self, shared);
        shared.held_bytes = shared.held_bytes.saturating_add(self.held_bytes());
    }

    fn held_bytes(&self) -> usize {
        [self.client.held_bytes(), self.server.held_bytes(), self.pending.held_bytes()]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// What may be held more.
    fn room(&self, shared: &Shared, limits: &Limits) -> usize {
        limits.head_total_bytes.saturating_sub(shared.held_bytes).saturating_sub(self.held_bytes())
    }

    const fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::ClientToServer => &mut self.client,
            Direction::ServerToClient => &mut self.server,
        }
    }

    fn take_half(&mut self, direction: Direction) -> Half {
        core::mem::replace(self.half(direction), Half::Ignored)
    }

    /// Takes the bytes of one segment, or what is left of them.
    fn handle_data(
        &mut self,
        direction: Direction,
        mut data: &[u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        while !data.is_empty() {
            self.client_is_behind_request &= direction == Direction::ServerToClient;
            data = match self.half(direction) {
                Half::Unknown if looks_like_head(direction, data) => {
                    *self.half(direction) = Half::heading(direction);
                    data
                }
                Half::Unknown => {
                    self.seek(direction, shared, reporter);
                    data
                }
                Half::Head(_) => self.handle_head_data(direction, data, shared, reporter),
                Half::ClientHello(_) => {
                    self.handle_client_hello(data, shared, reporter);
                    &[]
                }
                Half::Http2(_) => {
                    self.handle_http2(direction, data, shared, reporter);
                    &[]
                }
                Half::Early(_) => self.handle_early_data(data, shared, reporter),
                Half::Seeking(decoder) if !decoder.is_supported() && looks_like_head(direction, data) => {
                    self.end_half(direction, StreamEnd::Unseen, shared, reporter);
                    *self.half(direction) = Half::heading(direction);
                    data
                }
                Half::Frames(_) | Half::Seeking(_) => {
                    self.decode(direction, Some(data), 0, shared, reporter);
                    &[]
                }
                Half::Ignored => {
                    skip(direction, data.len() as u64, reporter);
                    &[]
                }
            };
        }
        // What is no head, or answers a request that was not seen, must not swallow segments for a body.
        if self.by_looks && matches!(self.half(direction), Half::Head(heading) if heading.body != Body::NONE)
        {
            self.seek(direction, shared, reporter);
        }
    }

    fn handle_gap(
        &mut self,
        direction: Direction,
        length: u64,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        self.client_is_behind_request &= direction == Direction::ServerToClient;
        self.ending.handle_gap();
        let answer_is_due = !self.pending.is_empty();
        match self.half(direction) {
            Half::Frames(_) | Half::Seeking(_) => self.decode(direction, None, length, shared, reporter),
            Half::Head(heading) => {
                let is_inside = heading.body.handle_gap(length) && !heading.may_be_behind_body(answer_is_due);
                if !is_inside {
                    self.seek(direction, shared, reporter);
                }
            }
            Half::Unknown => self.seek(direction, shared, reporter),
            Half::ClientHello(_) | Half::Http2(_) => {
                self.end_half(direction, StreamEnd::Unseen, shared, reporter);
            }
            Half::Early(_) => {
                let room = self.room_for_early(shared, reporter);
                let Half::Early(early) = &mut self.client else { return };
                if let Err(limit) = early.handle_gap(reporter.time, length, room) {
                    reporter.limit(limit);
                    self.seek(direction, shared, reporter);
                    self.handle_gap(direction, length, shared, reporter);
                }
            }
            Half::Ignored => {}
        }
    }

    /// Keeps what a client sends ahead of the answer; returns it where it cannot be kept.
    fn handle_early_data<'a>(
        &mut self,
        data: &'a [u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> &'a [u8] {
        let room = self.room_for_early(shared, reporter);
        let Half::Early(early) = &mut self.client else { return data };
        // Who has acknowledged no more than was seen has not got the answer.
        let is_blamed = early.is_empty()
            && !self.by_looks
            && !self.ending.receipt_of(Direction::ClientToServer).may_be_beyond;
        if is_blamed {
            self.ending.blame(Direction::ClientToServer);
            let code = AnomalyCode::HandshakeNotAwaited;
            reporter.anomaly(Some(Direction::ClientToServer), code, "more followed the request");
        }
        match early.handle_data(reporter.time, data, room) {
            Ok(()) => &[],
            Err(limit) => {
                reporter.limit(limit);
                self.seek(Direction::ClientToServer, shared, reporter);
                data
            }
        }
    }

    fn room_for_early(&self, shared: &Shared, reporter: &Reporter<'_>) -> Room {
        let limits = &reporter.config.limits;
        Room { own: limits.early_bytes, shared: self.room(shared, limits) }
    }

    fn end_half(
        &mut self,
        direction: Direction,
        end: StreamEnd,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        if let Half::Early(_) = self.half(direction) {
            if end == StreamEnd::Fin {
                // The answer may still come.
                return;
            }
            self.seek(direction, shared, reporter);
        }
        match self.take_half(direction) {
            Half::Frames(mut decoder) | Half::Seeking(mut decoder) => {
                let ending = &mut self.ending;
                decoder.handle_end(reporter.time, end, &mut shared.decoding, &mut |_, item| {
                    ending.handle_item(direction, item, reporter);
                });
                skip(direction, decoder.skipped_bytes(), reporter);
            }
            Half::Head(heading) => {
                let pending = heading.pending_bytes();
                skip(direction, pending as u64, reporter);
                if pending > 0 && end == StreamEnd::Fin && !self.by_looks {
                    let is_proxy_header = heading.proxy.is_some_and(|reader| reader.is_certain());
                    let (code, detail) = if is_proxy_header {
                        (AnomalyCode::ProxyHeaderMalformed, "the stream ends within it".to_owned())
                    } else {
                        (AnomalyCode::StreamEndsInsideHead, format!("{pending} bytes of it came"))
                    };
                    reporter.anomaly(Some(direction), code, &detail);
                }
            }
            Half::ClientHello(_) => tell_unread_hello(reporter),
            Half::Early(early) => skip(direction, early.data_bytes(), reporter),
            Half::Http2(_) | Half::Unknown | Half::Ignored => {}
        }
    }

    /// The place of a direction is not known from here on. Without the server's neither is that of the answer to an
    /// upgrade: nobody knows whether it succeeded, but by its frames.
    fn seek(&mut self, direction: Direction, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        self.by_looks = true;
        self.pending.forget_plain();
        let decoder = Decoder::resynchronising(direction);
        match core::mem::replace(self.half(direction), Half::Seeking(decoder)) {
            Half::Head(heading) => skip(direction, heading.pending_bytes() as u64, reporter),
            Half::ClientHello(_) => tell_unread_hello(reporter),
            Half::Early(early) => {
                self.client_is_behind_request = early.is_empty();
                self.replay(*early, shared, reporter);
            }
            known @ (Half::Frames(_) | Half::Seeking(_)) => *self.half(direction) = known,
            Half::Http2(_) | Half::Unknown | Half::Ignored => {}
        }
        if direction == Direction::ServerToClient && matches!(self.client, Half::Early(_)) {
            self.seek(Direction::ClientToServer, shared, reporter);
        }
    }

    /// Gives what a client sent ahead of the answer to where the client's direction is now.
    fn replay(&mut self, early: Early, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        let now = reporter.time;
        for piece in early.into_pieces() {
            reporter.time = piece.time;
            match piece.content {
                Content::Data(data) => self.handle_data(Direction::ClientToServer, &data, shared, reporter),
                Content::Gap(length) => self.handle_gap(Direction::ClientToServer, length, shared, reporter),
            }
        }
        reporter.time = now;
    }

    /// Gives data, or a gap of `gap` bytes, to a direction's decoder.
    fn decode(
        &mut self,
        direction: Direction,
        data: Option<&[u8]>,
        gap: u64,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        let Self { client, server, ending, .. } = self;
        let half = match direction {
            Direction::ClientToServer => client,
            Direction::ServerToClient => server,
        };
        let (Half::Frames(decoder) | Half::Seeking(decoder)) = half else { return };
        let time = reporter.time;
        let emit = &mut |_: Time, item: decoder::Item<'_>| ending.handle_item(direction, item, reporter);
        match data {
            Some(data) => decoder.handle_data(time, data, &mut shared.decoding, emit),
            None => decoder.handle_gap(time, gap, &mut shared.decoding, emit),
        }
        if decoder.is_proved()
            && matches!(half, Half::Seeking(_))
            && let Half::Seeking(decoder) = core::mem::replace(half, Half::Ignored)
        {
            *half = Half::Frames(decoder);
        }
    }

    /// Takes bytes of a body or of a head; returns what is behind it.
    fn handle_head_data<'a>(
        &mut self,
        direction: Direction,
        data: &'a [u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> &'a [u8] {
        let Half::Head(mut heading) = self.take_half(direction) else { return data };
        if heading.proxy.is_some() {
            return self.handle_proxy_data(heading, data, shared, reporter);
        }
        if heading.body != Body::NONE {
            return self.handle_body_data(direction, heading, data, shared, reporter);
        }
        let time_first = *heading.time_first.get_or_insert(reporter.time);
        let limits = &reporter.config.limits;
        let room = self.room(shared, limits);
        let taken_before = heading.reader.pending_bytes() as u64;
        let (code, detail) = match heading.reader.handle_data(data, limits.head_bytes, room) {
            HeadProgress::Incomplete => {
                *self.half(direction) = Half::Head(heading);
                return &[];
            }
            HeadProgress::Complete { head, consumed, folded } => {
                if folded {
                    let detail = "it is read as one line";
                    reporter.anomaly(Some(direction), AnomalyCode::HeaderFolded, detail);
                }
                let next = match direction {
                    Direction::ClientToServer => self.handle_request(head, time_first, shared, reporter),
                    Direction::ServerToClient => self.handle_answer(head, time_first, shared, reporter),
                };
                match next {
                    Ok(next) => {
                        self.go_on(direction, heading, next, shared, reporter);
                        return data.get(consumed..).unwrap_or_default();
                    }
                    Err(HeadError(what)) => {
                        (AnomalyCode::HeadMalformed, Cow::Owned(format!("{what}: {NOT_DECODED}")))
                    }
                }
            }
            HeadProgress::TooLong => {
                reporter.limit(Limit::Head);
                (AnomalyCode::HeadTooLong, BY_LOOKS.into())
            }
            HeadProgress::NoRoom => {
                reporter.limit(Limit::HeadTotal);
                (AnomalyCode::HeadTooLong, BY_LOOKS.into())
            }
            HeadProgress::NotHttp(Foreign::Tls) if !self.by_looks => {
                skip(direction, taken_before, reporter);
                self.begin_tls(direction, taken_before, reporter);
                return data;
            }
            HeadProgress::NotHttp(Foreign::Http2) if !self.by_looks => {
                skip(direction, taken_before, reporter);
                self.begin_http2(direction, taken_before, reporter);
                return data;
            }
            HeadProgress::NotHttp(_) => (AnomalyCode::NotHttp, NOT_DECODED.into()),
        };
        skip(direction, taken_before, reporter);
        let is_bound = code == AnomalyCode::HeadTooLong;
        if is_bound || !self.by_looks {
            reporter.anomaly(Some(direction), code, &detail);
        }
        if is_bound || self.by_looks {
            self.seek(direction, shared, reporter);
            self.decode(direction, Some(data), 0, shared, reporter);
            return &[];
        }
        self.give_up(reporter);
        data
    }

    fn handle_body_data<'a>(
        &mut self,
        direction: Direction,
        mut heading: Box<Heading>,
        data: &'a [u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> &'a [u8] {
        if heading.may_be_behind_body(!self.pending.is_empty()) && looks_like_head(direction, data) {
            heading.body = Body::NONE;
        }
        let taken = match heading.body.handle_data(data) {
            BodyProgress::Inside => data.len(),
            BodyProgress::Ended(taken) => taken,
            BodyProgress::Malformed => {
                self.blame_body(direction, "it is not in chunks", reporter);
                skip(direction, data.len() as u64, reporter);
                self.seek(direction, shared, reporter);
                return &[];
            }
        };
        *self.half(direction) = Half::Head(heading);
        data.get(taken..).unwrap_or_default()
    }

    fn blame_body(&self, direction: Direction, what: &str, reporter: &mut Reporter<'_>) {
        if !self.by_looks {
            let detail = format!("{what}: {BY_LOOKS}");
            reporter.anomaly(Some(direction), AnomalyCode::BodyMalformed, &detail);
        }
    }

    /// Puts a direction behind its head.
    fn go_on(
        &mut self,
        direction: Direction,
        mut heading: Box<Heading>,
        next: Next,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        match next {
            Next::Head { body, refused } => {
                heading.reader.release();
                heading.time_first = None;
                heading.body = body;
                *self.half(direction) = Half::Head(heading);
                if let Some(early) = refused {
                    self.replay(*early, shared, reporter);
                }
            }
            Next::Half(half) => *self.half(direction) = half,
            Next::Lost => self.seek(direction, shared, reporter),
        }
    }

    /// Nothing of this connection can be decoded from here on.
    fn give_up(&mut self, reporter: &mut Reporter<'_>) {
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            match self.take_half(direction) {
                Half::Head(heading) => skip(direction, heading.pending_bytes() as u64, reporter),
                Half::ClientHello(_) => tell_unread_hello(reporter),
                Half::Early(early) => skip(direction, early.data_bytes(), reporter),
                known @ (Half::Frames(_) | Half::Seeking(_)) => *self.half(direction) = known,
                Half::Http2(_) | Half::Unknown | Half::Ignored => {}
            }
        }
    }

    fn handle_request(
        &mut self,
        head: &[u8],
        time_first: Time,
        shared: &Shared,
        reporter: &mut Reporter<'_>,
    ) -> Result<Next, HeadError> {
        let direction = Direction::ClientToServer;
        let request = parse_request(head)?;
        let evaluation = evaluate_request(&request);
        let is_upgrade = evaluation.is_upgrade;
        reporter.set_claim(self.proxied.as_ref());
        if is_upgrade {
            reporter.recognise();
        }
        let claim = self.claim_of(&request.headers, reporter);
        reporter.set_claim(claim.as_ref());
        tell_defect(direction, request.defect, reporter);
        reporter.record(Kind::Handshake(Handshake {
            direction,
            time_first,
            method: Some(request.method),
            path: Some(request.target),
            status: None,
            reason: None,
            is_upgrade,
            headers: &request.headers,
            subprotocol: evaluation.subprotocol.as_deref(),
            extensions: &evaluation.extensions,
            accepted: None,
        }));
        for finding in &evaluation.findings {
            self.ending.blame(direction);
            reporter.anomaly(Some(direction), finding.code, &finding.detail);
        }
        if is_upgrade || !self.by_looks {
            let limits = &reporter.config.limits;
            let asked = Asked::from_method(request.method);
            let room = self.room(shared, limits);
            if let Err(limit) =
                self.pending.push(Request { offer: evaluation.offer, asked, claim }, limits, room)
            {
                self.by_looks = true;
                reporter.limit(limit);
            }
        }
        let can_be_answered = matches!(self.server, Half::Head(_) | Half::Unknown);
        Ok(match Body::of_request(&request.headers) {
            Ok(body) if !is_upgrade => Next::Head { body, refused: None },
            Ok(Body::NONE) if can_be_answered => Next::Half(Half::Early(Box::default())),
            Ok(Body::NONE) => Next::Half(Half::Unknown),
            // Servers do not agree on whether the body or the first frame follows.
            Ok(_) => Next::Lost,
            Err(HeadError(what)) => {
                self.blame_body(direction, what, reporter);
                Next::Lost
            }
        })
    }

    fn handle_answer(
        &mut self,
        head: &[u8],
        time_first: Time,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> Result<Next, HeadError> {
        let direction = Direction::ServerToClient;
        let answer = parse_response(head)?;
        let is_switching = answer.status == 101;
        // 100 and 103 announce the answer; 101 is one.
        let is_interim = (100..200).contains(&answer.status) && !is_switching;
        let request = match (is_interim, is_switching) {
            (true, _) => None,
            (false, true) => self.pending.pop_upgrade(),
            (false, false) => self.pending.pop(),
        };
        // A request was not seen, though no gap has told that yet: whether a body follows depends on it.
        self.by_looks |= request.is_none() && !is_interim && !is_switching;
        // What another answer answers is known by the order of requests alone.
        let known = request.as_ref().filter(|_| is_switching || !self.by_looks);
        let evaluation = evaluate_answer(&answer, known.map(|request| &request.offer));
        reporter.set_claim(self.proxied.as_ref());
        if evaluation.switches {
            reporter.recognise();
        }
        tell_defect(direction, answer.defect, reporter);
        let asked_for = if is_interim { self.pending.first() } else { request.as_ref() };
        if let Some(request) = asked_for {
            reporter.set_claim(request.claim.as_ref());
        }
        let asked_for = asked_for.filter(|_| is_switching || !self.by_looks);
        reporter.record(Kind::Handshake(Handshake {
            direction,
            time_first,
            method: None,
            path: asked_for.map(|request| &*request.offer.target),
            status: Some(answer.status),
            reason: Some(answer.reason),
            is_upgrade: evaluation.switches || asked_for.is_some_and(|request| request.offer.is_upgrade),
            headers: &answer.headers,
            subprotocol: evaluation.subprotocol.as_deref(),
            extensions: &evaluation.extensions,
            accepted: (!is_interim).then_some(evaluation.accepted),
        }));
        for finding in &evaluation.findings {
            self.ending.blame(direction);
            reporter.anomaly(Some(direction), finding.code, &finding.detail);
        }
        if evaluation.switches {
            reporter.totals.handshakes += u64::from(evaluation.accepted);
            self.pending.clear();
            self.open(evaluation.negotiated, shared, reporter);
            return Ok(Next::Half(Half::Frames(Decoder::new(direction, evaluation.negotiated))));
        }
        if is_switching {
            let protocol = upgrade_to(&answer.headers);
            if protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("h2c")) {
                self.pending.clear();
                return Ok(Next::Half(self.switch_to_http2(shared, reporter)));
            }
            if !self.by_looks {
                let detail = format!("{}: {BY_LOOKS}", protocol.as_deref().unwrap_or("it names none"));
                reporter.anomaly(Some(direction), AnomalyCode::OtherProtocol, &detail);
            }
            // It cannot be stepped over.
            self.seek(Direction::ClientToServer, shared, reporter);
            return Ok(Next::Lost);
        }
        let asked = request.map(|request| request.asked).unwrap_or_default();
        Ok(match Body::of_answer(answer.status, &answer.headers, asked) {
            Ok(body) => Next::Head { body, refused: self.refuse(is_interim) },
            Err(HeadError(what)) => {
                self.blame_body(direction, what, reporter);
                Next::Lost
            }
        })
    }

    /// Where the upgrade that the client waits for is refused, lets the client ask again on the same connection.
    fn refuse(&mut self, is_interim: bool) -> Option<Box<Early>> {
        if is_interim || self.pending.has_upgrade() || !matches!(self.client, Half::Early(_)) {
            return None;
        }
        // What was answered may have been another request, which was not seen.
        let half = if self.by_looks { Half::Unknown } else { Half::heading(Direction::ClientToServer) };
        match core::mem::replace(&mut self.client, half) {
            Half::Early(early) => Some(early),
            _ => None,
        }
    }

    /// The upgrade succeeded: the client's frames follow its request.
    fn open(&mut self, extensions: Extensions, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        let direction = Direction::ClientToServer;
        match self.client {
            Half::Early(_) | Half::Unknown => {
                let half = Half::Frames(Decoder::new(direction, extensions));
                if let Half::Early(early) = core::mem::replace(&mut self.client, half) {
                    self.replay(*early, shared, reporter);
                }
            }
            // Nothing came since the request: its frames begin with the next byte, however the answer was found.
            Half::Seeking(_) if self.client_is_behind_request => {
                self.client = Half::Frames(Decoder::new(direction, extensions));
            }
            // The answer to a request that was not seen as one.
            Half::Head(_) => self.seek(direction, shared, reporter),
            Half::ClientHello(_) | Half::Http2(_) | Half::Frames(_) | Half::Seeking(_) | Half::Ignored => {}
        }
    }
}

/// Counts bytes that were seen and are not decoded.
fn skip(direction: Direction, bytes: u64, reporter: &mut Reporter<'_>) {
    let account = reporter.told.account_of(direction);
    account.bytes_skipped = account.bytes_skipped.saturating_add(bytes);
}

fn tell_defect(direction: Direction, defect: Option<HeadError>, reporter: &mut Reporter<'_>) {
    if let Some(HeadError(what)) = defect {
        let detail = format!("{what}: the field is left out");
        reporter.anomaly(Some(direction), AnomalyCode::HeadMalformed, &detail);
    }
}

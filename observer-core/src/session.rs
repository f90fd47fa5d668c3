//! The conversation on one connection: HTTP heads first, then WebSocket frames.
//!
//! Owns which of the two each direction is in, and what the handshake settled for both. Must not know TCP, nor other
//! connections. Bounded by [`Limits::head_bytes`](crate::Limits::head_bytes) and
//! [`Limits::early_bytes`](crate::Limits::early_bytes), and by what a decoder bounds.

use crate::anomaly::AnomalyCode;
use crate::chat;
use crate::http::{
    Foreign, HeadKind, HeadProgress, HeadReader, Offer, evaluate_answer, evaluate_request, parse_request,
    parse_response,
};
use crate::limits::{Limit, Limits};
use crate::record::{Direction, Handshake, Header, Kind, Message, Peer};
use crate::reporter::Reporter;
use crate::tcp::reassembler::Chunk;
use crate::time::Time;
use crate::websocket::decoder::{self, Decoder, Item, StreamEnd};
use crate::websocket::{Extensions, frame::Opcode};

/// What the sessions of all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    decoding: decoder::Shared,
}

impl Shared {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self { decoding: decoder::Shared::new(limits) }
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

/// State of one conversation.
#[derive(Debug)]
pub(crate) struct Session {
    client: Half,
    server: Half,
    /// The upgrade request that waits for its answer.
    offer: Option<Box<Offer>>,
    /// Requests before it that wait for theirs.
    plain_requests: u32,
    ending: Ending,
}

/// Where one direction is.
#[derive(Debug)]
enum Half {
    /// Nothing was seen, not even its beginning: the first bytes decide.
    Unknown,
    /// In a head, or in the body behind one.
    Head(Box<Heading>),
    /// Behind an upgrade request: what comes waits for the answer.
    Early(Box<Early>),
    /// In WebSocket frames.
    Frames(Decoder),
    /// In something that is not decoded.
    Ignored,
}

#[derive(Debug)]
struct Heading {
    reader: HeadReader,
    time_first: Option<Time>,
    body_left: u64,
}

/// What a client sent ahead of the answer.
#[derive(Debug, Default)]
struct Early {
    pieces: Vec<EarlyPiece>,
    bytes: usize,
}

#[derive(Debug)]
enum EarlyPiece {
    Data(Time, Vec<u8>),
    Gap(Time, u64),
}

/// What close frames have told.
#[derive(Debug, Default)]
struct Ending {
    first: Option<Box<FirstClose>>,
    seen: [bool; 2],
    last_payload: Option<Time>,
}

/// The first close frame of a conversation.
#[derive(Debug)]
pub(crate) struct FirstClose {
    pub(crate) by: Peer,
    pub(crate) time: Time,
    pub(crate) code: Option<u16>,
    pub(crate) reason: Box<str>,
}

impl Half {
    fn heading(kind: HeadKind) -> Self {
        Self::Head(Box::new(Heading { reader: HeadReader::new(kind), time_first: None, body_left: 0 }))
    }
}

const fn head_kind(direction: Direction) -> HeadKind {
    match direction {
        Direction::ClientToServer => HeadKind::Request,
        Direction::ServerToClient => HeadKind::Response,
    }
}

impl Session {
    /// A conversation whose first bytes are the next ones, or one that was under way.
    pub(crate) fn new(from_start: bool) -> Self {
        let half = |direction| if from_start { Half::heading(head_kind(direction)) } else { Half::Unknown };
        Self {
            client: half(Direction::ClientToServer),
            server: half(Direction::ServerToClient),
            offer: None,
            plain_requests: 0,
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

    /// When the last bytes before the first close frame came, if there was one.
    pub(crate) fn last_payload_before_close(&self) -> Option<Time> {
        self.ending.last_payload.filter(|_| self.ending.first.is_some())
    }

    /// Takes the next piece of a direction's stream.
    pub(crate) fn handle_chunk(
        &mut self,
        direction: Direction,
        chunk: Chunk<'_>,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        match chunk {
            Chunk::Data(data) => self.handle_data(direction, data, shared, reporter),
            Chunk::Gap { length, .. } => self.handle_gap(direction, length, shared, reporter),
            Chunk::End => self.end_half(direction, StreamEnd::Fin, shared, reporter),
        }
        if self.ending.first.is_none() {
            self.ending.last_payload = Some(reporter.time);
        }
    }

    /// The connection is over: tells what is unfinished, and gives back what is held.
    pub(crate) fn handle_end(&mut self, end: StreamEnd, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            self.end_half(direction, end, shared, reporter);
        }
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

    fn handle_data(
        &mut self,
        direction: Direction,
        data: &[u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        if let Half::Unknown = self.half(direction) {
            let is_head = match direction {
                Direction::ClientToServer => looks_like_request(data),
                Direction::ServerToClient => data.starts_with(b"HTTP/1."),
            };
            *self.half(direction) = if is_head {
                Half::heading(head_kind(direction))
            } else {
                Half::Frames(Decoder::resynchronising(direction))
            };
        }
        match self.half(direction) {
            Half::Frames(_) => self.decode(direction, reporter.time, Some(data), 0, shared, reporter),
            Half::Head(_) => self.handle_head_data(direction, data, shared, reporter),
            Half::Early(early) => early.handle_data(data, reporter),
            Half::Unknown | Half::Ignored => {}
        }
    }

    fn handle_gap(
        &mut self,
        direction: Direction,
        length: u64,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        match self.half(direction) {
            Half::Frames(_) => self.decode(direction, reporter.time, None, length, shared, reporter),
            Half::Head(heading) if heading.body_left >= length => heading.body_left -= length,
            Half::Head(_) | Half::Unknown => {
                *self.half(direction) = Half::Frames(Decoder::resynchronising(direction));
                // Without the answer nobody knows whether the upgrade succeeded, but by its frames.
                if direction == Direction::ServerToClient && matches!(self.client, Half::Early(_)) {
                    self.release_early(Decoder::resynchronising(Direction::ClientToServer), shared, reporter);
                }
            }
            Half::Early(early) => early.handle_gap(length, reporter.time),
            Half::Ignored => {}
        }
    }

    fn end_half(
        &mut self,
        direction: Direction,
        end: StreamEnd,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        if let (Half::Early(_), true) = (self.half(direction), end != StreamEnd::Fin) {
            self.release_early(Decoder::resynchronising(direction), shared, reporter);
        }
        let Self { client, server, ending, .. } = self;
        let half = match direction {
            Direction::ClientToServer => client,
            Direction::ServerToClient => server,
        };
        if let Half::Frames(decoder) = half {
            let time = reporter.time;
            decoder.handle_end(time, end, &mut shared.decoding, &mut |_, item| {
                ending.handle_item(direction, item, reporter);
            });
            let skipped = decoder.skipped_bytes();
            reporter.told.account_of(direction).bytes_skipped += skipped;
            *half = Half::Ignored;
        }
    }

    /// Gives data, or a gap of `gap` bytes, to a direction's decoder.
    fn decode(
        &mut self,
        direction: Direction,
        time: Time,
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
        let Half::Frames(decoder) = half else { return };
        let emit = &mut |_: Time, item: Item<'_>| ending.handle_item(direction, item, reporter);
        match data {
            Some(data) => decoder.handle_data(time, data, &mut shared.decoding, emit),
            None => decoder.handle_gap(time, gap, &mut shared.decoding, emit),
        }
    }

    fn handle_head_data(
        &mut self,
        direction: Direction,
        mut data: &[u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        while !data.is_empty() {
            let Half::Head(mut heading) = self.take_half(direction) else { return };
            let of_body = usize::try_from(heading.body_left).unwrap_or(usize::MAX).min(data.len());
            heading.body_left -= of_body as u64;
            data = data.get(of_body..).unwrap_or_default();
            if data.is_empty() {
                *self.half(direction) = Half::Head(heading);
                return;
            }
            let time_first = *heading.time_first.get_or_insert(reporter.time);
            let progress = heading.reader.handle_data(data, reporter.config.limits.head_bytes);
            let (code, detail) = match progress {
                HeadProgress::Incomplete => {
                    *self.half(direction) = Half::Head(heading);
                    return;
                }
                HeadProgress::Complete { head, consumed, folded } => {
                    if folded {
                        reporter.anomaly(
                            Some(direction),
                            AnomalyCode::HeaderFolded,
                            "it is read as one line",
                        );
                    }
                    let next = match direction {
                        Direction::ClientToServer => self.handle_request(head, time_first, reporter),
                        Direction::ServerToClient => self.handle_answer(head, time_first, shared, reporter),
                    };
                    data = data.get(consumed..).unwrap_or_default();
                    match next {
                        Next::Head { body_left } => {
                            heading.time_first = None;
                            heading.body_left = body_left;
                            *self.half(direction) = Half::Head(heading);
                            continue;
                        }
                        Next::Half(half) => *self.half(direction) = half,
                    }
                    if !data.is_empty() {
                        self.handle_data(direction, data, shared, reporter);
                    }
                    return;
                }
                HeadProgress::TooLong => {
                    reporter.limit(Limit::Head);
                    (AnomalyCode::HeadTooLong, "the connection is not decoded")
                }
                HeadProgress::NotHttp(Foreign::Tls) => (AnomalyCode::Tls, "the connection is not decoded"),
                HeadProgress::NotHttp(Foreign::Http2) => {
                    (AnomalyCode::Http2, "the connection is not decoded")
                }
                HeadProgress::NotHttp(Foreign::Unknown) => {
                    (AnomalyCode::NotHttp, "the connection is not decoded")
                }
            };
            self.give_up(direction, code, detail, reporter);
            return;
        }
    }

    /// Nothing of this connection can be decoded from here on.
    fn give_up(
        &mut self,
        direction: Direction,
        code: AnomalyCode,
        detail: &str,
        reporter: &mut Reporter<'_>,
    ) {
        reporter.anomaly(Some(direction), code, detail);
        self.client = Half::Ignored;
        self.server = Half::Ignored;
    }

    fn handle_request(&mut self, head: &[u8], time_first: Time, reporter: &mut Reporter<'_>) -> Next {
        let direction = Direction::ClientToServer;
        let request = match parse_request(head) {
            Ok(request) => request,
            Err(error) => {
                reporter.anomaly(Some(direction), AnomalyCode::HeadMalformed, error.0);
                self.server = Half::Ignored;
                return Next::Half(Half::Ignored);
            }
        };
        let evaluation = evaluate_request(&request);
        if evaluation.is_upgrade {
            reporter.recognise();
        }
        if let Some(defect) = request.defect {
            reporter.anomaly(Some(direction), AnomalyCode::HeadMalformed, defect.0);
        }
        reporter.record(Kind::Handshake(Handshake {
            direction,
            time_first,
            method: Some(request.method),
            path: Some(request.target),
            status: None,
            reason: None,
            headers: &request.headers,
            subprotocol: evaluation.subprotocol.as_deref(),
            extensions: &evaluation.extensions,
            accepted: None,
        }));
        for finding in &evaluation.findings {
            reporter.anomaly(Some(direction), finding.code, &finding.detail);
        }
        if evaluation.is_upgrade {
            self.offer = Some(Box::new(evaluation.offer));
            return Next::Half(Half::Early(Box::default()));
        }
        self.plain_requests = self.plain_requests.saturating_add(1);
        next_head(&request.headers, false)
    }

    fn handle_answer(
        &mut self,
        head: &[u8],
        time_first: Time,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> Next {
        let direction = Direction::ServerToClient;
        let answer = match parse_response(head) {
            Ok(answer) => answer,
            Err(error) => {
                reporter.anomaly(Some(direction), AnomalyCode::HeadMalformed, error.0);
                self.client = Half::Ignored;
                return Next::Half(Half::Ignored);
            }
        };
        if let Some(defect) = answer.defect {
            reporter.anomaly(Some(direction), AnomalyCode::HeadMalformed, defect.0);
        }
        // 100 and 103 announce the answer; 101 is one.
        let is_interim = (100..200).contains(&answer.status) && answer.status != 101;
        let is_plain = self.plain_requests > 0 && answer.status != 101;
        let offer = if is_interim || is_plain { None } else { self.offer.take() };
        let evaluation = evaluate_answer(&answer, offer.as_deref());
        reporter.record(Kind::Handshake(Handshake {
            direction,
            time_first,
            method: None,
            path: offer.as_ref().map(|offer| &*offer.target),
            status: Some(answer.status),
            reason: Some(answer.reason),
            headers: &answer.headers,
            subprotocol: evaluation.subprotocol.as_deref(),
            extensions: &evaluation.extensions,
            accepted: (!is_interim).then_some(evaluation.accepted),
        }));
        for finding in &evaluation.findings {
            reporter.anomaly(Some(direction), finding.code, &finding.detail);
        }
        if evaluation.switches {
            reporter.totals.handshakes += u64::from(evaluation.accepted && reporter.told.recognised);
            self.open(evaluation.negotiated, shared, reporter);
            return Next::Half(Half::Frames(Decoder::new(direction, evaluation.negotiated)));
        }
        if is_interim {
            return Next::Head { body_left: 0 };
        }
        if is_plain {
            self.plain_requests -= 1;
        }
        if let Half::Early(_) = self.client
            && !is_plain
        {
            // Refused: the client may ask again on the same connection.
            let Half::Early(early) = core::mem::replace(&mut self.client, Half::heading(HeadKind::Request))
            else {
                return Next::Half(Half::Ignored);
            };
            for piece in early.pieces {
                match piece {
                    EarlyPiece::Data(_, data) => {
                        self.handle_data(Direction::ClientToServer, &data, shared, reporter);
                    }
                    EarlyPiece::Gap(_, length) => {
                        self.handle_gap(Direction::ClientToServer, length, shared, reporter);
                    }
                }
            }
        }
        next_head(&answer.headers, matches!(answer.status, 204 | 304))
    }

    /// The upgrade succeeded: the client's frames follow its request.
    fn open(&mut self, extensions: Extensions, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        match self.client {
            Half::Early(_) | Half::Unknown => {
                let decoder = Decoder::new(Direction::ClientToServer, extensions);
                self.release_early(decoder, shared, reporter);
            }
            // The answer to a request that was not seen as one.
            Half::Head(_) => self.client = Half::Frames(Decoder::resynchronising(Direction::ClientToServer)),
            Half::Frames(_) | Half::Ignored => {}
        }
    }

    /// Lets the client's direction go on in frames, with what waited.
    fn release_early(&mut self, decoder: Decoder, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        let direction = Direction::ClientToServer;
        let before = core::mem::replace(&mut self.client, Half::Frames(decoder));
        let Half::Early(early) = before else { return };
        for piece in early.pieces {
            match piece {
                EarlyPiece::Data(time, data) => {
                    self.decode(direction, time, Some(&data), 0, shared, reporter);
                }
                EarlyPiece::Gap(time, length) => self.decode(direction, time, None, length, shared, reporter),
            }
        }
    }
}

/// What follows a head.
enum Next {
    /// Another head, behind a body.
    Head { body_left: u64 },
    /// Something else.
    Half(Half),
}

/// What follows a head that is not an upgrade: its body's length is told, or it cannot be followed.
fn next_head(headers: &[Header<'_>], never_has_body: bool) -> Next {
    let value = |name: &str| headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
    if never_has_body {
        return Next::Head { body_left: 0 };
    }
    if value("transfer-encoding").is_some() {
        return Next::Half(Half::Ignored);
    }
    let Some((_, length)) = value("content-length") else { return Next::Head { body_left: 0 } };
    match core::str::from_utf8(length).ok().and_then(|length| length.trim().parse().ok()) {
        Some(body_left) => Next::Head { body_left },
        None => Next::Half(Half::Ignored),
    }
}

impl Early {
    const MAXIMUM_PIECES: usize = 64;

    fn handle_data(&mut self, data: &[u8], reporter: &mut Reporter<'_>) {
        let fits = self.bytes + data.len() <= reporter.config.limits.early_bytes
            && self.pieces.len() < Self::MAXIMUM_PIECES;
        if fits {
            self.bytes += data.len();
            self.pieces.push(EarlyPiece::Data(reporter.time, data.to_vec()));
        } else {
            reporter.limit(Limit::Early);
            self.handle_gap(data.len() as u64, reporter.time);
        }
    }

    fn handle_gap(&mut self, length: u64, time: Time) {
        if let Some(EarlyPiece::Gap(_, before)) = self.pieces.last_mut() {
            *before = before.saturating_add(length);
        } else {
            self.pieces.push(EarlyPiece::Gap(time, length));
        }
    }
}

impl Ending {
    /// Tells what a decoder found.
    fn handle_item(&mut self, direction: Direction, item: Item<'_>, reporter: &mut Reporter<'_>) {
        match item {
            Item::Frame(frame) => {
                reporter.told.account_of(direction).frames += 1;
                if frame.header.opcode == Opcode::Close {
                    self.handle_close(direction, &frame, reporter.time);
                }
                if reporter.config.frames {
                    reporter.record(Kind::Frame(frame));
                }
            }
            Item::Message(message) => {
                let account = reporter.told.account_of(direction);
                account.messages += 1;
                account.messages_truncated += u64::from(message.payload.is_truncated());
                let chat = read_chat(direction, &message);
                reporter.record(Kind::Message(Message { chat: chat.as_ref(), ..message }));
            }
            Item::Anomaly { code, detail } => reporter.anomaly(Some(direction), code, detail),
            Item::Limit(limit) => reporter.limit(limit),
        }
    }

    fn handle_close(&mut self, direction: Direction, frame: &crate::record::Frame<'_>, time: Time) {
        if let Some(seen) = self.seen.get_mut(direction.index()) {
            *seen = true;
        }
        let close = frame.close;
        self.first.get_or_insert_with(|| {
            Box::new(FirstClose {
                by: match direction {
                    Direction::ClientToServer => Peer::Client,
                    Direction::ServerToClient => Peer::Server,
                },
                time,
                code: close.and_then(|close| close.code),
                reason: close.map_or("", |close| close.reason).into(),
            })
        });
    }
}

/// What a whole message means in the chat.
fn read_chat(direction: Direction, message: &Message<'_>) -> Option<chat::Event> {
    let text = message.payload.text.filter(|_| !message.payload.is_truncated())?;
    chat::parse(direction, text)
}

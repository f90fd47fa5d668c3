//! One direction's bytes in, its frames and messages out.
//!
//! Owns the place in the stream and the message in progress. Must not know TCP, the other direction, or what a
//! message means. Bounded: unfinished payload by [`Limits::message_bytes`] and [`Limits::message_total_bytes`],
//! holes by [`Limits::message_holes`], inflaters as `deflate.rs` says; between frames a decoder holds no other
//! allocation.
//!
//! # Loss
//!
//! A gap inside a frame's payload, or up to its end, leaves the place known: the frame's header told its length. The
//! message names what is missing and keeps what came behind it. A gap that covers a header loses the place. A message
//! that was in progress is then emitted as far as it came (a last frame's tail is missing with its length, further
//! frames without one), and everything up to the next segment that can be read as frames from its first byte on is
//! skipped; `resync.rs` says what is plausible.
//!
//! From such a segment on, frames and messages are `resynchronised` until eight frames with FIN have followed one
//! another, two of them ending with their segment. Until then each segment is looked at as a whole before anything
//! in it is emitted, so that a frame is only shown with evidence behind it: the next header, or the segment's end,
//! exactly where its length says. If a segment contradicts, the message in progress is dropped, the anomaly
//! `resynchronisation-failed` is emitted if anything had been shown, and the same segment is tried as a new beginning.
//! A message that begins with a continuation frame there has the opcode `Continuation` and, first, a hole of unknown
//! length at offset 0; offsets behind it count from its end.
//!
//! # Compression
//!
//! The payload of a compressed message is inflated as it comes, and is a message's payload like any other from there
//! on: what is not known of it is missing. Behind a hole nothing of the same message can be inflated, and what later
//! messages copy from there is unknown (`deflate.rs`, `inflate.rs`). Data that are not DEFLATE leave their message
//! undecoded: nothing that came out of it can be trusted.
//!
//! # Blame
//!
//! A peer is blamed only with proof. Nothing follows from a place that was found by looks; and where an extension is in
//! use that nobody here knows, or the handshake was not seen, nothing that an extension could allow is an anomaly.

use std::fmt::{self, Write as _};

use crate::anomaly::AnomalyCode;
use crate::limits::{Limit, Limits};
use crate::record::{Close, Direction, Frame, Message, Payload};
use crate::time::Time;
use crate::websocket::assembly::{self, Assembly, Held, TextCheck};
use crate::websocket::close::{self, CloseError};
use crate::websocket::deflate::{Context, Pool, Trouble};
use crate::websocket::extension::{Compression, Extensions};
use crate::websocket::frame::{
    self, FrameHeader, MAXIMUM_CONTROL_LENGTH, MAXIMUM_HEADER_LENGTH, Opcode, Parsed,
};
use crate::websocket::inflate::Piece;
use crate::websocket::mask;
use crate::websocket::resync::{self, Expectation, Order, SUPPORTING_TEXT_BYTES, Trust};

/// Frames in a row with the same masking key that are told of: by chance it would be once in 2^224.
const SAME_KEYS: u8 = 8;

/// Bytes of the longest character in UTF-8 (RFC 3629 §3).
const LONGEST_CHARACTER: usize = 4;

/// Why a compressed message is not decoded.
const INVALID_DEFLATE: &str = "permessage-deflate, not valid";
const TAKEN_OVER: &str = "permessage-deflate, refers to earlier messages";
const PERHAPS_DEFLATE: &str = "start not seen, perhaps permessage-deflate";
const NO_ROOM_TO_INFLATE: &str = "permessage-deflate, no memory left to inflate it";

/// What comes out of a decoder. It borrows from the decoder and from the bytes given to it, for one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// A frame came to its end. Every frame is told, before the message that it completes. `round_trip` is left
    /// `None`.
    Frame(Frame<'a>),
    /// A message came to its end, or to the end of what can be known of it. `chat` is left `None`.
    Message(Message<'a>),
    /// Something is out of order in this direction.
    Anomaly {
        /// What.
        code: AnomalyCode,
        /// The particulars, in one sentence.
        detail: &'a str,
    },
    /// A bound was reached; told once for each message that it cuts.
    Limit(Limit),
}

/// How a direction's bytes came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// A FIN: whatever is unfinished will stay so, which is an anomaly.
    Fin,
    /// A RST: the peers may know more than was seen.
    Reset,
    /// Unseen: the observer stops looking, or the connection's end was not captured.
    Unseen,
}

/// What all decoders of an engine share: bounds, what they hold together, and reused buffers.
#[derive(Debug)]
pub struct Shared {
    held: Held,
    inflating: Pool,
    scratch: Vec<u8>,
    detail: String,
    keeps_wire: bool,
}

impl Shared {
    /// For decoders under these bounds. `keeps_wire`: frames come with their bytes as on the wire, too.
    pub const fn new(limits: &Limits, keeps_wire: bool) -> Self {
        Self {
            held: Held::new(limits),
            inflating: Pool::new(limits),
            scratch: Vec::new(),
            detail: String::new(),
            keeps_wire,
        }
    }

    /// Bytes allocated for unfinished payload by all decoders together.
    pub const fn held_bytes(&self) -> usize {
        self.held.bytes
    }

    /// Bytes allocated for inflating by all decoders together.
    pub const fn inflating_bytes(&self) -> usize {
        self.inflating.bytes()
    }
}

/// Decodes one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    place: Place,
    message: Option<Box<Unfinished>>,
    /// The payload of a frame that belongs to no message: control frames, which may come between fragments.
    apart: Option<Box<Assembly>>,
    /// The bytes of the frame in progress as on the wire, where they are kept.
    wire: Option<Box<Assembly>>,
    skipped_bytes: u64,
    extensions: Extensions,
    context: Context,
    trust: Trust,
    direction: Direction,
    close_seen: bool,
    /// The masking key that came last, and how often in a row.
    key: ([u8; 4], u8),
    /// Whether a message may be in progress whose start was not seen.
    may_be_inside: bool,
}

/// Where in the stream the next byte is.
#[derive(Debug)]
enum Place {
    /// In a header, of which `length` bytes are here.
    Header { time_first: Time, length: u8, bytes: [u8; MAXIMUM_HEADER_LENGTH] },
    /// In a payload, `position` bytes in, never at its end.
    Payload { time_first: Time, header: FrameHeader, position: u64 },
    /// Nobody knows.
    Lost,
}

impl Place {
    const BETWEEN_FRAMES: Self = Self::Header {
        time_first: Time { monotonic: crate::time::MonotonicTime(0), wall: crate::time::WallTime(0) },
        length: 0,
        bytes: [0; MAXIMUM_HEADER_LENGTH],
    };
}

/// A message of which not all frames have come.
#[derive(Debug)]
struct Unfinished {
    time_first: Time,
    opcode: Opcode,
    masked: bool,
    compressed: bool,
    /// Whether what comes is inflated: no longer behind a hole, nor once it could not be.
    inflating: bool,
    undecoded: Option<&'static str>,
    frames: u64,
    wire_length: u64,
    payload: Assembly,
}

impl Unfinished {
    /// Whether its payload on the wire is text.
    fn is_text_as_sent(&self) -> bool {
        self.opcode == Opcode::Text && !self.compressed && self.undecoded.is_none()
    }

    /// Nothing of it is shown: what came out of it, if anything did, is not to be trusted.
    fn leave_undecoded(&mut self, why: &'static str, held: &mut Held) {
        std::mem::replace(&mut self.payload, Assembly::counting()).release(held);
        self.undecoded = Some(why);
    }
}

/// Where items go.
struct Output<'a> {
    time: Time,
    shared: &'a mut Shared,
    emit: &'a mut dyn FnMut(Time, Item<'_>),
}

impl Output<'_> {
    fn emit(&mut self, item: Item<'_>) {
        (self.emit)(self.time, item);
    }

    fn anomaly(&mut self, code: AnomalyCode, detail: fmt::Arguments<'_>) {
        self.shared.detail.clear();
        // Writing to a String cannot fail.
        let _ = self.shared.detail.write_fmt(detail);
        (self.emit)(self.time, Item::Anomaly { code, detail: &self.shared.detail });
    }

    fn limit(&mut self, limit: Option<Limit>) {
        if let Some(limit) = limit {
            self.emit(Item::Limit(limit));
        }
    }
}

impl Decoder {
    /// For a direction whose first byte behind the handshake is the next one given.
    pub const fn new(direction: Direction, extensions: Extensions) -> Self {
        Self {
            place: Place::BETWEEN_FRAMES,
            message: None,
            apart: None,
            wire: None,
            skipped_bytes: 0,
            extensions,
            context: Context::new(extensions.compression.takes_over(direction), true),
            trust: Trust::Proved,
            direction,
            close_seen: false,
            key: ([0; 4], 0),
            may_be_inside: false,
        }
    }

    /// For a direction of which no handshake was seen: the next byte may be anywhere in a frame, and messages may
    /// be compressed.
    pub fn resynchronising(direction: Direction) -> Self {
        let extensions = Extensions { compression: Compression::Unseen, unknown: false };
        Self {
            place: Place::Lost,
            trust: Trust::none(),
            context: Context::new(extensions.compression.takes_over(direction), false),
            may_be_inside: true,
            ..Self::new(direction, extensions)
        }
    }

    /// Whether the decoder knows, or believes to know, where it is.
    pub const fn is_synchronised(&self) -> bool {
        !matches!(self.place, Place::Lost)
    }

    /// Whether the place is known from the first byte on, or proved by what came since.
    pub const fn is_proved(&self) -> bool {
        self.trust.is_proved()
    }

    /// Whether anything but looks speaks for the place: a whole frame, or text for longer than by chance.
    pub fn is_supported(&self) -> bool {
        self.trust.has_frames() || self.is_text_supported()
    }

    /// Bytes that were given and belong to no frame that was emitted, since the place was lost. A hole inside a
    /// frame that was dropped counts with it.
    pub const fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Takes the next bytes of the stream. The first of them must be the first of a segment for a lost place to be
    /// found again: give one segment at a time.
    pub fn handle_data(
        &mut self,
        time: Time,
        data: &[u8],
        shared: &mut Shared,
        emit: &mut dyn FnMut(Time, Item<'_>),
    ) {
        if data.is_empty() {
            return;
        }
        let output = &mut Output { time, shared, emit };
        if !self.trust.is_proved() && !self.confirm(data, output) {
            self.skip_bytes(data.len() as u64);
            return;
        }
        let mut rest = data;
        while !rest.is_empty() {
            rest = match self.place {
                Place::Lost => {
                    self.skip_bytes(rest.len() as u64);
                    return;
                }
                Place::Header { .. } => self.handle_header_bytes(rest, output),
                Place::Payload { time_first, header, position } => {
                    self.handle_payload_bytes(time_first, header, position, rest, output)
                }
            };
        }
        self.trust.handle_segment(self.is_between_frames());
    }

    /// The next `length` bytes of the stream exist and were not seen.
    pub fn handle_gap(
        &mut self,
        time: Time,
        length: u64,
        shared: &mut Shared,
        emit: &mut dyn FnMut(Time, Item<'_>),
    ) {
        if length == 0 {
            return;
        }
        let output = &mut Output { time, shared, emit };
        match self.place {
            Place::Lost => {}
            Place::Header { .. } => self.lose_place(output),
            Place::Payload { time_first, header, position } => {
                let remaining = header.payload_length.saturating_sub(position);
                if length < remaining {
                    self.skip_payload(&header, length, output);
                    let position = position.saturating_add(length);
                    self.place = Place::Payload { time_first, header, position };
                } else if length == remaining {
                    self.skip_payload(&header, length, output);
                    self.finish_frame(time_first, &header, output);
                    self.trust.handle_segment(true);
                } else {
                    if self.is_supported() {
                        self.skip_payload(&header, remaining, output);
                        self.finish_frame(time_first, &header, output);
                    }
                    self.lose_place(output);
                }
            }
        }
    }

    /// The stream has ended: tells what is unfinished and gives back all memory. Call it for every decoder.
    pub fn handle_end(
        &mut self,
        time: Time,
        end: StreamEnd,
        shared: &mut Shared,
        emit: &mut dyn FnMut(Time, Item<'_>),
    ) {
        let output = &mut Output { time, shared, emit };
        let blame = end == StreamEnd::Fin && self.trust.is_proved();
        match self.place {
            Place::Lost => {}
            Place::Header { length: 0, .. } => {
                // Behind a close frame the rest must not be sent (RFC 6455 §6.1).
                if let (true, Some(message)) = (blame && !self.close_seen, &self.message) {
                    output.anomaly(
                        AnomalyCode::StreamEndsInsideMessage,
                        format_args!("{} frames of a message came, and none with FIN", message.frames),
                    );
                }
            }
            Place::Header { length, .. } => {
                if blame {
                    output.anomaly(
                        AnomalyCode::StreamEndsInsideFrame,
                        format_args!("{length} bytes of a header came"),
                    );
                }
            }
            Place::Payload { time_first, header, position } => {
                if blame {
                    output.anomaly(
                        AnomalyCode::StreamEndsInsideFrame,
                        format_args!("{position} of {} bytes of its payload came", header.payload_length),
                    );
                }
                if self.is_supported() {
                    let remaining = header.payload_length.saturating_sub(position);
                    self.skip_payload(&header, remaining, output);
                    self.finish_frame(time_first, &header, output);
                }
            }
        }
        self.lose_place(output);
    }

    pub(crate) const fn is_between_frames(&self) -> bool {
        matches!(self.place, Place::Header { length: 0, .. })
    }

    fn skip_bytes(&mut self, count: u64) {
        self.skipped_bytes = self.skipped_bytes.saturating_add(count);
    }

    /// Looks at a whole segment while the place is not proved: whether there is one to decode it from.
    fn confirm(&mut self, data: &[u8], output: &mut Output<'_>) -> bool {
        if self.is_synchronised() && !self.is_segment_plausible(data, output) {
            self.fail(output);
        }
        if !self.is_synchronised() {
            self.may_be_inside = true;
            if self.survey(Order::Unknown, data, output).is_none() {
                return false;
            }
            self.trust = Trust::none();
            self.place = Place::BETWEEN_FRAMES;
        }
        true
    }

    fn is_segment_plausible(&self, data: &[u8], output: &mut Output<'_>) -> bool {
        let order = match (&self.message, self.may_be_inside) {
            (Some(_), _) => Order::Inside,
            (None, true) => Order::Unknown,
            (None, false) => Order::Between,
        };
        match &self.place {
            Place::Lost => false,
            Place::Header { length, bytes, .. } => {
                let partial = bytes.get(..usize::from(*length)).unwrap_or_default();
                let scratch = &mut output.shared.scratch;
                let maximum = output.shared.held.message_bytes;
                resync::survey(&self.expectation(maximum), order, partial, data, scratch).is_some()
            }
            Place::Payload { header, position, .. } => {
                let remaining = header.payload_length.saturating_sub(*position);
                if !self.is_text_going_on(header, *position, data, &mut output.shared.scratch) {
                    return false;
                }
                let order = match header.opcode {
                    Opcode::Continuation | Opcode::Text | Opcode::Binary if header.fin => Order::Between,
                    _ => order,
                };
                match usize::try_from(remaining).ok().and_then(|remaining| data.get(remaining..)) {
                    Some(behind) => self.survey(order, behind, output).is_some(),
                    // A frame that nothing supports yet must not swallow a segment that is full of frames.
                    None if !self.trust.has_frames() && !self.is_text_supported() => {
                        let afresh = self.survey(Order::Unknown, data, output);
                        !afresh.is_some_and(|survey| survey.frames > 0 && survey.lands)
                    }
                    None => true,
                }
            }
        }
    }

    /// Whether the next bytes of the frame in progress can be text, if it began as text.
    fn is_text_going_on(
        &self,
        header: &FrameHeader,
        position: u64,
        data: &[u8],
        scratch: &mut Vec<u8>,
    ) -> bool {
        if header.opcode.is_control() || !self.message.as_deref().is_some_and(Unfinished::is_text_as_sent) {
            return true;
        }
        let remaining = header.payload_length.saturating_sub(position);
        let length = usize::try_from(remaining).unwrap_or(usize::MAX);
        let (bytes, ends) = match data.get(..length) {
            Some(bytes) => (bytes, header.fin),
            None => (data, false),
        };
        assembly::check_piece(unmasked(header, position, bytes, scratch), true, !ends) != TextCheck::Invalid
    }

    fn survey(&self, order: Order, data: &[u8], output: &mut Output<'_>) -> Option<resync::Survey> {
        let expectation = self.expectation(output.shared.held.message_bytes);
        resync::survey(&expectation, order, &[], data, &mut output.shared.scratch)
    }

    fn expectation(&self, message_bytes: usize) -> Expectation {
        Expectation {
            direction: self.direction,
            compression: self.extensions.compression.is_possible(),
            unknown_extension: self.extensions.unknown,
            maximum_length: message_bytes as u64,
        }
    }

    /// Whether payload of what is unfinished is held.
    pub fn holds_payload(&self) -> bool {
        let message = self.message.as_ref().map(|message| &message.payload);
        [message, self.apart.as_deref(), self.wire.as_deref()]
            .into_iter()
            .flatten()
            .any(Assembly::holds_bytes)
    }

    /// Lets go of the payload of what is unfinished: what came of it is missing. Returns whether there was any.
    pub fn give_up_payload(&mut self, shared: &mut Shared) -> bool {
        let held = self.holds_payload();
        let message = self.message.as_mut().map(|message| &mut message.payload);
        for assembly in [message, self.apart.as_deref_mut(), self.wire.as_deref_mut()].into_iter().flatten() {
            assembly.give_up(&mut shared.held);
        }
        held
    }

    /// What was taken for the place is none: forgets what was read since.
    fn fail(&mut self, output: &mut Output<'_>) {
        if self.trust.has_frames() {
            output.anomaly(
                AnomalyCode::ResynchronisationFailed,
                format_args!("the bytes behind the last frame cannot be one"),
            );
        }
        self.forget(output);
    }

    /// Lets go of the place and of what is in progress, and counts it as skipped.
    fn forget(&mut self, output: &mut Output<'_>) {
        let in_frame = match &self.place {
            Place::Lost => 0,
            Place::Header { length, .. } => u64::from(*length),
            Place::Payload { header, position, .. } => {
                position.saturating_add(u64::from(header.header_length))
            }
        };
        self.skip_bytes(in_frame);
        for assembly in [self.apart.take(), self.wire.take()].into_iter().flatten() {
            assembly.release(&mut output.shared.held);
        }
        if let Some(message) = self.message.take() {
            message.payload.release(&mut output.shared.held);
        }
        self.context.lose(&mut output.shared.inflating);
        self.place = Place::Lost;
        self.trust = Trust::none();
        self.may_be_inside = true;
    }

    /// The place is lost from here on: tells what is in progress, if anything supports it.
    fn lose_place(&mut self, output: &mut Output<'_>) {
        if self.is_supported()
            && let Some(mut message) = self.message.take()
        {
            let limit = message.payload.skip_rest(&output.shared.held);
            output.limit(limit);
            self.emit_unfinished(*message, output);
        }
        self.forget(output);
    }

    /// Whether the message in progress is text for longer than by chance. Each further piece of it was looked at
    /// when it came (see [`Self::is_text_going_on`]), so that its beginning is enough.
    fn is_text_supported(&self) -> bool {
        self.message.as_ref().is_some_and(|message| {
            let start = message.payload.known_start();
            let start = start.get(..SUPPORTING_TEXT_BYTES + LONGEST_CHARACTER - 1).unwrap_or(start);
            message.is_text_as_sent()
                && start.len() >= SUPPORTING_TEXT_BYTES
                && str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true)
        })
    }

    fn handle_header_bytes<'a>(&mut self, data: &'a [u8], output: &mut Output<'_>) -> &'a [u8] {
        let Place::Header { time_first, length, bytes } = &mut self.place else { return data };
        let had = usize::from(*length);
        if had == 0 {
            if let Parsed::Header(header) = frame::parse(data) {
                let (wire, rest) = data.split_at_checked(header.header_length.into()).unwrap_or((data, &[]));
                return self.begin_frame(output.time, header, wire, rest, output);
            }
            *time_first = output.time;
        }
        let mut filled = had;
        for (to, from) in bytes.iter_mut().skip(had).zip(data) {
            *to = *from;
            filled = filled.saturating_add(1);
        }
        match frame::parse(bytes.get(..filled).unwrap_or_default()) {
            Parsed::Header(header) => {
                let from_data = usize::from(header.header_length).saturating_sub(had);
                let (time_first, bytes) = (*time_first, *bytes);
                self.place = Place::BETWEEN_FRAMES;
                let wire = bytes.get(..usize::from(header.header_length)).unwrap_or_default();
                let rest = data.get(from_data..).unwrap_or_default();
                self.begin_frame(time_first, header, wire, rest, output)
            }
            Parsed::Incomplete => {
                *length = filled as u8;
                &[]
            }
        }
    }

    /// Takes a header, which `wire` are the bytes of, and as much of its payload as is there; returns what is behind.
    fn begin_frame<'a>(
        &mut self,
        time_first: Time,
        header: FrameHeader,
        wire: &[u8],
        data: &'a [u8],
        output: &mut Output<'_>,
    ) -> &'a [u8] {
        self.check_header(&header, output);
        let whole = usize::try_from(header.payload_length)
            .ok()
            .filter(|length| *length <= output.shared.held.message_bytes)
            .and_then(|length| data.split_at_checked(length));
        if output.shared.keeps_wire {
            self.wire = Some(Box::new(Assembly::new()));
            self.keep_wire(wire, output);
        }
        let belongs_to_message = match header.opcode {
            Opcode::Text | Opcode::Binary => {
                self.abandon_message(&header, output);
                let (compressed, undecoded) = coding(self.extensions, &header, false);
                if let (true, false, Some((payload, rest))) = (header.fin, compressed, whole) {
                    self.may_be_inside = false;
                    self.keep_wire(payload, output);
                    self.handle_whole_message(time_first, &header, payload, undecoded, output);
                    return rest;
                }
                true
            }
            Opcode::Continuation => true,
            Opcode::Close | Opcode::Ping | Opcode::Pong | Opcode::Reserved(_) => {
                if let Some((payload, rest)) = whole {
                    self.keep_wire(payload, output);
                    self.handle_whole_frame_apart(time_first, &header, payload, output);
                    return rest;
                }
                false
            }
        };
        if belongs_to_message {
            self.add_frame_to_message(time_first, &header, output);
        } else {
            self.apart = Some(Box::new(Assembly::new()));
        }
        if header.payload_length == 0 {
            self.finish_frame(time_first, &header, output);
        } else {
            self.place = Place::Payload { time_first, header, position: 0 };
        }
        data
    }

    fn handle_payload_bytes<'a>(
        &mut self,
        time_first: Time,
        header: FrameHeader,
        position: u64,
        data: &'a [u8],
        output: &mut Output<'_>,
    ) -> &'a [u8] {
        let remaining = header.payload_length.saturating_sub(position);
        let length = usize::try_from(remaining).unwrap_or(usize::MAX);
        let (payload, rest) = data.split_at_checked(length).unwrap_or((data, &[]));
        self.keep_wire(payload, output);
        if self.is_compressed(&header) {
            self.inflate(&header, position, payload, output);
        } else {
            let mask = header.mask.map(|key| (key, position));
            let held = &mut output.shared.held;
            let limit = self.payload_of(&header).and_then(|assembly| assembly.append(payload, mask, held));
            output.limit(limit);
        }
        let position = position.saturating_add(payload.len() as u64);
        if position == header.payload_length {
            self.finish_frame(time_first, &header, output);
        } else {
            self.place = Place::Payload { time_first, header, position };
        }
        rest
    }

    /// Whether the frame in progress belongs to a compressed message.
    fn is_compressed(&self, header: &FrameHeader) -> bool {
        let is_data = matches!(header.opcode, Opcode::Text | Opcode::Binary | Opcode::Continuation);
        is_data && self.message.as_ref().is_some_and(|message| message.compressed)
    }

    /// Takes the next bytes of a compressed message.
    fn inflate(&mut self, header: &FrameHeader, position: u64, payload: &[u8], output: &mut Output<'_>) {
        let Some(message) = self.message.as_deref_mut().filter(|message| message.inflating) else { return };
        let Shared { held, inflating, scratch, .. } = &mut *output.shared;
        let bytes = unmasked(header, position, payload, scratch);
        let mut limit = None;
        let result = self.context.inflate(bytes, inflating, &mut |piece| {
            limit = limit.or(take_piece(&mut message.payload, piece, held));
        });
        output.limit(limit);
        if let Err(trouble) = result {
            self.stop_inflating(trouble, output);
        }
    }

    /// A compressed message came to its end.
    fn end_inflating(&mut self, output: &mut Output<'_>) {
        let Some(message) = self.message.as_deref_mut().filter(|message| message.inflating) else { return };
        let Shared { held, inflating, .. } = &mut *output.shared;
        let mut limit = None;
        let result = self.context.end_message(inflating, &mut |piece| {
            limit = limit.or(take_piece(&mut message.payload, piece, held));
        });
        output.limit(limit);
        match result {
            Ok(farthest) => self.check_window(farthest, output),
            Err(trouble) => self.stop_inflating(trouble, output),
        }
    }

    /// A compressed message refers so many bytes back.
    fn check_window(&self, farthest: usize, output: &mut Output<'_>) {
        let window = self.extensions.compression.window_bytes(self.direction);
        if farthest > window {
            self.blame(
                AnomalyCode::DeflateWindowExceeded,
                format_args!("it refers {farthest} bytes back, and {window} were agreed on"),
                output,
            );
        }
    }

    /// The message in progress is inflated no further.
    fn stop_inflating(&mut self, trouble: Trouble, output: &mut Output<'_>) {
        let Some(message) = self.message.as_deref_mut() else { return };
        message.inflating = false;
        let held = &mut output.shared.held;
        match trouble {
            Trouble::TooLong(maximum) => {
                let limit = message.payload.skip_rest(held);
                output.limit(limit);
                output.limit(Some(Limit::Inflated));
                output.anomaly(
                    AnomalyCode::InflatedTooLong,
                    format_args!("it is inflated no further than {maximum} bytes"),
                );
            }
            Trouble::Invalid(what) => {
                message.leave_undecoded(INVALID_DEFLATE, held);
                // Where the handshake was not seen it may be something else.
                if matches!(self.extensions.compression, Compression::Deflate(_)) {
                    self.blame(AnomalyCode::DeflateInvalid, format_args!("{what}"), output);
                }
            }
            Trouble::TakesOver => {
                message.leave_undecoded(TAKEN_OVER, held);
                self.blame(
                    AnomalyCode::DeflateWindowExceeded,
                    format_args!("it refers to earlier messages, and no context takeover was agreed on"),
                    output,
                );
            }
            Trouble::NoRoom => {
                message.leave_undecoded(NO_ROOM_TO_INFLATE, held);
                output.limit(Some(Limit::InflateTotal));
            }
        }
    }

    /// Where the payload of the frame in progress goes.
    fn payload_of(&mut self, header: &FrameHeader) -> Option<&mut Assembly> {
        match header.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.message.as_mut().map(|message| &mut message.payload)
            }
            _ => self.apart.as_deref_mut(),
        }
    }

    /// Keeps bytes of the frame in progress as they were on the wire.
    fn keep_wire(&mut self, bytes: &[u8], output: &mut Output<'_>) {
        if let Some(wire) = &mut self.wire {
            let limit = wire.append(bytes, None, &mut output.shared.held);
            output.limit(limit);
        }
    }

    fn skip_payload(&mut self, header: &FrameHeader, length: u64, output: &mut Output<'_>) {
        if let Some(wire) = &mut self.wire {
            let limit = wire.skip(length, &output.shared.held);
            output.limit(limit);
        }
        if self.is_compressed(header) && self.break_inflating(output) {
            return;
        }
        let held = &output.shared.held;
        let limit = self.payload_of(header).and_then(|assembly| assembly.skip(length, held));
        output.limit(limit);
    }

    /// Some of the message in progress is lost: if it is being inflated, so is all behind it, however long it is.
    fn break_inflating(&mut self, output: &mut Output<'_>) -> bool {
        let Some(message) = self.message.as_deref_mut().filter(|message| message.inflating) else {
            return false;
        };
        message.inflating = false;
        let limit = message.payload.skip_rest(&output.shared.held);
        self.context.lose(&mut output.shared.inflating);
        output.limit(limit);
        true
    }

    /// Tells what a peer did wrong, unless the place may be wrong.
    fn blame(&self, code: AnomalyCode, detail: fmt::Arguments<'_>, output: &mut Output<'_>) {
        if self.trust.is_proved() {
            output.anomaly(code, detail);
        }
    }

    fn check_header(&mut self, header: &FrameHeader, output: &mut Output<'_>) {
        let FrameHeader { opcode, payload_length: length, .. } = *header;
        if self.close_seen && !opcode.is_control() {
            self.blame(
                AnomalyCode::FrameAfterClose,
                format_args!("a {opcode} frame of {length} bytes"),
                output,
            );
        }
        match (self.direction, header.mask) {
            (Direction::ClientToServer, None) => self.blame(
                AnomalyCode::UnmaskedClientFrame,
                format_args!("a {opcode} frame of {length} bytes"),
                output,
            ),
            (Direction::ServerToClient, Some(_)) => self.blame(
                AnomalyCode::MaskedServerFrame,
                format_args!("a {opcode} frame of {length} bytes"),
                output,
            ),
            (Direction::ClientToServer, Some(key)) => self.check_key(key, output),
            (Direction::ServerToClient, None) => {}
        }
        if header.rsv1 || header.rsv2 || header.rsv3 {
            self.check_reserved_bits(header, output);
        }
        if let Opcode::Reserved(bits) = opcode
            && self.extensions.are_known()
        {
            self.blame(AnomalyCode::ReservedOpcode, format_args!("opcode {bits}"), output);
        }
        if length > i64::MAX as u64 {
            self.blame(AnomalyCode::LengthHighBitSet, format_args!("length {length}"), output);
        }
        if !header.is_length_minimal() {
            self.blame(
                AnomalyCode::NonMinimalLength,
                format_args!("length {length} in a header of {} bytes", header.header_length),
                output,
            );
        }
        if opcode.is_control() {
            if !header.fin {
                self.blame(AnomalyCode::FragmentedControlFrame, format_args!("a {opcode} frame"), output);
            }
            if length > MAXIMUM_CONTROL_LENGTH {
                self.blame(
                    AnomalyCode::LongControlFrame,
                    format_args!("a {opcode} frame of {length} bytes"),
                    output,
                );
            }
        }
    }

    /// Told once for each key that repeats.
    fn check_key(&mut self, key: [u8; 4], output: &mut Output<'_>) {
        let (last, times) = &mut self.key;
        if key != *last || !self.trust.is_proved() {
            self.key = (key, 1);
            return;
        }
        *times = times.saturating_add(1);
        if *times == SAME_KEYS {
            self.blame(
                AnomalyCode::MaskingKeyRepeated,
                format_args!("{:08x}, {SAME_KEYS} times in a row", u32::from_be_bytes(key)),
                output,
            );
        }
    }

    fn check_reserved_bits(&self, header: &FrameHeader, output: &mut Output<'_>) {
        let FrameHeader { opcode, rsv1, rsv2, rsv3, .. } = *header;
        if !self.extensions.are_known() {
            return;
        }
        let begins_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        let is_compressing = self.extensions.compression.is_possible();
        let is_misplaced = rsv1 && is_compressing && !begins_message;
        if is_misplaced {
            self.blame(AnomalyCode::CompressionBitMisplaced, format_args!("on a {opcode} frame"), output);
        }
        if (rsv1 && !is_compressing) || rsv2 || rsv3 {
            let [rsv1, rsv2, rsv3] = [rsv1, rsv2, rsv3].map(u8::from);
            self.blame(
                AnomalyCode::ReservedBitSet,
                format_args!("RSV1 {rsv1}, RSV2 {rsv2}, RSV3 {rsv3} on a {opcode} frame"),
                output,
            );
        }
    }

    /// A new message begins: one that is unfinished will stay so.
    fn abandon_message(&mut self, header: &FrameHeader, output: &mut Output<'_>) {
        self.break_inflating(output);
        let Some(mut message) = self.message.take() else { return };
        if self.extensions.are_known() {
            self.blame(
                AnomalyCode::DataFrameInsideMessage,
                format_args!("a {} frame after {} frames without FIN", header.opcode, message.frames),
                output,
            );
        }
        let limit = message.payload.skip_rest(&output.shared.held);
        output.limit(limit);
        self.emit_unfinished(*message, output);
    }

    fn add_frame_to_message(&mut self, time_first: Time, header: &FrameHeader, output: &mut Output<'_>) {
        let continues = header.opcode == Opcode::Continuation;
        if continues && self.message.is_none() && !self.may_be_inside && self.extensions.are_known() {
            self.blame(
                AnomalyCode::ContinuationWithoutStart,
                format_args!("a continuation frame of {} bytes", header.payload_length),
                output,
            );
        }
        let message = match &mut self.message {
            Some(message) => message,
            none => {
                let start_unseen = continues && self.may_be_inside;
                let (compressed, undecoded) = coding(self.extensions, header, start_unseen);
                let payload = match undecoded {
                    Some(_) => Assembly::counting(),
                    None if start_unseen => Assembly::without_start(),
                    None => Assembly::new(),
                };
                if compressed {
                    self.context.begin_message(&mut output.shared.inflating);
                }
                none.insert(Box::new(Unfinished {
                    time_first,
                    opcode: header.opcode,
                    masked: header.mask.is_some(),
                    compressed,
                    inflating: compressed,
                    undecoded,
                    frames: 0,
                    wire_length: 0,
                    payload,
                }))
            }
        };
        message.frames = message.frames.saturating_add(1);
        message.wire_length = message.wire_length.saturating_add(header.wire_length());
        self.may_be_inside = false;
    }

    /// The frame in progress has come to its end, or will come no further.
    fn finish_frame(&mut self, time_first: Time, header: &FrameHeader, output: &mut Output<'_>) {
        self.place = Place::BETWEEN_FRAMES;
        if let Some(assembly) = self.apart.take() {
            self.emit_frame_apart(time_first, header, assembly.payload(), assembly.known_start(), output);
            assembly.release(&mut output.shared.held);
            return;
        }
        if header.fin {
            self.end_inflating(output);
        }
        self.emit_frame(time_first, header, Payload::default(), None, output);
        if header.fin
            && let Some(message) = self.message.take()
        {
            self.emit_unfinished(*message, output);
        }
    }

    fn emit_frame(
        &mut self,
        time_first: Time,
        header: &FrameHeader,
        payload: Payload<'_>,
        close: Option<Close<'_>>,
        output: &mut Output<'_>,
    ) {
        let resynchronised = !self.trust.is_proved();
        self.trust.handle_frame(header.fin);
        let wire = self.wire.take();
        output.emit(Item::Frame(Frame {
            direction: self.direction,
            time_first,
            header: *header,
            payload,
            close,
            round_trip: None,
            wire: wire.as_deref().map(Assembly::payload),
            resynchronised,
        }));
        if let Some(wire) = wire {
            wire.release(&mut output.shared.held);
        }
    }

    /// Emits a frame that carries its own payload. `known_start` is the payload up to its first hole.
    fn emit_frame_apart(
        &mut self,
        time_first: Time,
        header: &FrameHeader,
        payload: Payload<'_>,
        known_start: &[u8],
        output: &mut Output<'_>,
    ) {
        if header.opcode != Opcode::Close {
            self.emit_frame(time_first, header, payload, None, output);
            return;
        }
        // A place found by looks may be wrong: no blame follows from it.
        self.close_seen |= self.trust.is_proved();
        let (close, errors) = close::parse(known_start, payload.missing.is_empty());
        for error in errors.into_iter().flatten() {
            match error {
                CloseError::TooShort => {
                    self.blame(AnomalyCode::ClosePayloadTooShort, format_args!("1 byte"), output);
                }
                CloseError::Code(code)
                    if close::is_code_for_extensions(code) && !self.extensions.are_known() => {}
                CloseError::Code(code) => {
                    self.blame(AnomalyCode::CloseCodeInvalid, format_args!("code {code}"), output);
                }
                CloseError::Reason => self.blame(
                    AnomalyCode::CloseReasonInvalidUtf8,
                    format_args!("{} bytes", known_start.len().saturating_sub(2)),
                    output,
                ),
            }
        }
        self.emit_frame(time_first, header, payload, Some(close), output);
    }

    fn handle_whole_frame_apart(
        &mut self,
        time_first: Time,
        header: &FrameHeader,
        payload: &[u8],
        output: &mut Output<'_>,
    ) {
        let mut scratch = std::mem::take(&mut output.shared.scratch);
        let known = unmasked(header, 0, payload, &mut scratch);
        self.emit_frame_apart(time_first, header, Payload { known, ..Payload::default() }, known, output);
        output.shared.scratch = scratch;
    }

    /// A message that is not compressed, in one frame that lies whole in one segment.
    fn handle_whole_message(
        &mut self,
        time_first: Time,
        header: &FrameHeader,
        payload: &[u8],
        undecoded: Option<&'static str>,
        output: &mut Output<'_>,
    ) {
        let mut scratch = std::mem::take(&mut output.shared.scratch);
        let known = if undecoded.is_some() { &[] } else { unmasked(header, 0, payload, &mut scratch) };
        let resynchronised = !self.trust.is_proved();
        self.emit_frame(time_first, header, Payload::default(), None, output);
        let mut text = None;
        if header.opcode == Opcode::Text && undecoded.is_none() {
            match str::from_utf8(known) {
                Ok(valid) => text = Some(valid),
                Err(error) if self.extensions.are_known() => self.blame(
                    AnomalyCode::InvalidUtf8,
                    format_args!("at offset {} of the message", error.valid_up_to()),
                    output,
                ),
                Err(_) => {}
            }
        }
        output.emit(Item::Message(Message {
            direction: self.direction,
            time_first,
            opcode: header.opcode,
            masked: header.mask.is_some(),
            compressed: false,
            frames: 1,
            length: undecoded.is_none().then_some(header.payload_length),
            wire_length: header.wire_length(),
            payload: Payload { known, missing: &[], text, undecoded },
            chat: None,
            resynchronised,
        }));
        output.shared.scratch = scratch;
    }

    /// Emits a message that came in pieces; nothing more will come of it.
    fn emit_unfinished(&mut self, mut message: Unfinished, output: &mut Output<'_>) {
        let held = &mut output.shared.held;
        let is_start_unseen = message.opcode == Opcode::Continuation;
        if is_start_unseen
            && self.extensions.compression == Compression::Unseen
            && message.payload.check_text() == TextCheck::Invalid
        {
            message.leave_undecoded(PERHAPS_DEFLATE, held);
        }
        let assembly = &mut message.payload;
        let mut text = None;
        // What goes on with a message whose start was not seen may be text.
        if message.opcode != Opcode::Binary && message.undecoded.is_none() {
            assembly.trim_to_character();
            match assembly.check_text() {
                TextCheck::Valid => text = str::from_utf8(assembly.known()).ok(),
                TextCheck::Invalid if message.opcode == Opcode::Text && self.extensions.are_known() => {
                    self.blame(
                        AnomalyCode::InvalidUtf8,
                        format_args!("among the {} known bytes of the message", assembly.known().len()),
                        output,
                    );
                }
                TextCheck::Cut | TextCheck::Invalid => {}
            }
        }
        let payload = Payload { text, undecoded: message.undecoded, ..assembly.payload() };
        output.emit(Item::Message(Message {
            direction: self.direction,
            time_first: message.time_first,
            opcode: message.opcode,
            masked: message.masked,
            compressed: message.compressed,
            frames: message.frames,
            length: assembly.length(),
            wire_length: message.wire_length,
            payload,
            chat: None,
            resynchronised: !self.trust.is_proved(),
        }));
        assembly.release(&mut output.shared.held);
    }
}

/// Adds what was inflated to a message.
fn take_piece(payload: &mut Assembly, piece: Piece<'_>, held: &mut Held) -> Option<Limit> {
    match piece {
        Piece::Known(bytes) => payload.append(bytes, None, held),
        Piece::Unknown(length) => payload.skip(length as u64, held),
    }
}

/// Whether a message of which this is the first frame that was seen is compressed, and why its bytes are not the
/// application's.
fn coding(extensions: Extensions, first: &FrameHeader, start_unseen: bool) -> (bool, Option<&'static str>) {
    let starts = first.opcode != Opcode::Continuation;
    if first.rsv1 && starts && extensions.compression.is_possible() {
        return (true, None);
    }
    if start_unseen && matches!(extensions.compression, Compression::Deflate(_)) {
        return (false, Some(PERHAPS_DEFLATE));
    }
    let coded = extensions.unknown && (first.rsv1 || first.rsv2 || first.rsv3);
    (false, coded.then_some("unknown extension"))
}

/// Bytes of a frame's payload from `position` on, in clear.
fn unmasked<'a>(
    header: &FrameHeader,
    position: u64,
    payload: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> &'a [u8] {
    let Some(key) = header.mask else { return payload };
    scratch.clear();
    mask::append_unmasked(key, position, payload, scratch);
    scratch
}

#[cfg(test)]
mod tests;

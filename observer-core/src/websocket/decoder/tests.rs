//! The decoder's behaviours, one a test, and its invariants as properties.
//!
//! Owns the test streams. Must not know how the decoder works inside. Bounded: small limits where a bound is tested.

mod compression;
mod rules;

use super::*;
use crate::record::Direction::{ClientToServer, ServerToClient};
use crate::record::Missing;
use crate::time::{MonotonicTime, WallTime};
use crate::websocket::DeflateParameters;
use crate::websocket::frame::encode::{FrameBuilder, LengthForm};
use proptest::prelude::*;

const KEY: [u8; 4] = [0x0a, 0x0b, 0x0c, 0x0d];
const DEFLATE: Extensions =
    Extensions { compression: Compression::Deflate(DEFLATE_PARAMETERS), unknown: false };
const DEFLATE_PARAMETERS: DeflateParameters = DeflateParameters {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

/// An item that outlives the call.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Frame(KeptFrame),
    Message(KeptMessage),
    Anomaly(AnomalyCode),
    Limit(Limit),
}

#[derive(Clone, Debug, PartialEq)]
struct KeptFrame {
    opcode: Opcode,
    fin: bool,
    known: Vec<u8>,
    missing: Vec<Missing>,
    close: Option<(Option<u16>, String)>,
    resynchronised: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct KeptMessage {
    opcode: Opcode,
    masked: bool,
    compressed: bool,
    frames: u64,
    length: Option<u64>,
    wire_length: u64,
    known: Vec<u8>,
    missing: Vec<Missing>,
    text: Option<String>,
    undecoded: Option<&'static str>,
    resynchronised: bool,
}

impl KeptMessage {
    /// A message of one frame that was seen whole.
    fn whole(opcode: Opcode, payload: &str, masked: bool) -> Self {
        let header = if payload.len() > 125 { 4 } else { 2 } + if masked { 4 } else { 0 };
        Self {
            opcode,
            masked,
            compressed: false,
            frames: 1,
            length: Some(payload.len() as u64),
            wire_length: (header + payload.len()) as u64,
            known: payload.as_bytes().to_vec(),
            missing: Vec::new(),
            text: (opcode == Opcode::Text).then(|| payload.to_owned()),
            undecoded: None,
            resynchronised: false,
        }
    }

    fn resynchronised(self) -> Self {
        Self { resynchronised: true, ..self }
    }
}

fn keep(item: Item<'_>) -> Kept {
    match item {
        Item::Frame(frame) => Kept::Frame(KeptFrame {
            opcode: frame.header.opcode,
            fin: frame.header.fin,
            known: frame.payload.known.to_vec(),
            missing: frame.payload.missing.to_vec(),
            close: frame.close.map(|close| (close.code, close.reason.to_owned())),
            resynchronised: frame.resynchronised,
        }),
        Item::Message(message) => {
            assert_eq!(message.chat, None);
            if let Some(text) = message.payload.text {
                assert_eq!(text.as_bytes(), message.payload.known);
            }
            Kept::Message(KeptMessage {
                opcode: message.opcode,
                masked: message.masked,
                compressed: message.compressed,
                frames: message.frames,
                length: message.length,
                wire_length: message.wire_length,
                known: message.payload.known.to_vec(),
                missing: message.payload.missing.to_vec(),
                text: message.payload.text.map(str::to_owned),
                undecoded: message.payload.undecoded,
                resynchronised: message.resynchronised,
            })
        }
        Item::Anomaly { code, detail } => {
            assert!(!detail.is_empty());
            Kept::Anomaly(code)
        }
        Item::Limit(limit) => Kept::Limit(limit),
    }
}

/// A decoder, what it shares, and what came out of it.
struct Run {
    decoder: Decoder,
    shared: Shared,
    clock: u64,
    items: Vec<Kept>,
    /// `time_first` of each message, in calls counted from 1.
    starts: Vec<u64>,
}

impl Run {
    fn of(decoder: Decoder) -> Self {
        Self::with_limits(decoder, &Limits::default())
    }

    fn with_limits(decoder: Decoder, limits: &Limits) -> Self {
        Self { decoder, shared: Shared::new(limits, false), clock: 0, items: Vec::new(), starts: Vec::new() }
    }

    fn new(direction: Direction) -> Self {
        Self::of(Decoder::new(direction, Extensions::default()))
    }

    fn step(&mut self, call: impl FnOnce(&mut Decoder, Time, &mut Shared, &mut dyn FnMut(Time, Item<'_>))) {
        self.clock += 1;
        let now = Time { monotonic: MonotonicTime(self.clock), wall: WallTime(self.clock) };
        let (items, starts) = (&mut self.items, &mut self.starts);
        call(&mut self.decoder, now, &mut self.shared, &mut |time, item| {
            assert_eq!(time, now);
            if let Item::Message(message) = &item {
                starts.push(message.time_first.monotonic.0);
            }
            items.push(keep(item));
        });
    }

    fn data(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        self.step(|decoder, time, shared, emit| decoder.handle_data(time, data.as_ref(), shared, emit));
        self
    }

    fn gap(&mut self, length: usize) -> &mut Self {
        self.step(|decoder, time, shared, emit| decoder.handle_gap(time, length as u64, shared, emit));
        self
    }

    fn end(&mut self, end: StreamEnd) -> &mut Self {
        self.step(|decoder, time, shared, emit| decoder.handle_end(time, end, shared, emit));
        assert_eq!(self.shared.held_bytes(), 0, "all memory is given back");
        assert_eq!(self.shared.inflating_bytes(), 0, "that of the inflater, too");
        self
    }

    fn messages(&self) -> Vec<KeptMessage> {
        let message =
            |item: &Kept| if let Kept::Message(message) = item { Some(message.clone()) } else { None };
        self.items.iter().filter_map(message).collect()
    }

    fn message(&self) -> KeptMessage {
        let messages = self.messages();
        assert_eq!(messages.len(), 1, "{:?}", self.items);
        messages.into_iter().next().unwrap()
    }

    fn frames(&self) -> Vec<KeptFrame> {
        let frame = |item: &Kept| if let Kept::Frame(frame) = item { Some(frame.clone()) } else { None };
        self.items.iter().filter_map(frame).collect()
    }

    fn anomalies(&self) -> Vec<AnomalyCode> {
        let code = |item: &Kept| if let Kept::Anomaly(code) = item { Some(*code) } else { None };
        self.items.iter().filter_map(code).collect()
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |item: &Kept| if let Kept::Limit(limit) = item { Some(*limit) } else { None };
        self.items.iter().filter_map(limit).collect()
    }
}

fn text(payload: &str) -> FrameBuilder {
    FrameBuilder::new(Opcode::Text, payload)
}

fn binary(payload: &[u8]) -> FrameBuilder {
    FrameBuilder::new(Opcode::Binary, payload)
}

fn continuation(payload: &str) -> FrameBuilder {
    FrameBuilder::new(Opcode::Continuation, payload)
}

fn whole_text(payload: &str) -> KeptMessage {
    KeptMessage::whole(Opcode::Text, payload, false)
}

fn concat(frames: &[FrameBuilder]) -> Vec<u8> {
    frames.iter().flat_map(FrameBuilder::build).collect()
}

fn missing(offset: u64, length: impl Into<Option<u64>>) -> Missing {
    Missing { offset, length: length.into() }
}

/// Anomalies of one stream from a server that ends unseen.
fn server_anomalies(frames: &[FrameBuilder]) -> Vec<AnomalyCode> {
    let mut run = Run::new(ServerToClient);
    run.data(concat(frames)).end(StreamEnd::Unseen);
    run.anomalies()
}

// Frames and messages.

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 120, "{} bytes", size_of::<Decoder>());
}

#[test]
fn a_masked_text_frame_of_a_client_is_a_message_in_clear() {
    let mut run = Run::new(ClientToServer);
    run.data(text(r#"{"type":"login","name":"mynick"}"#).masked(KEY).build());
    assert_eq!(
        run.messages(),
        [KeptMessage::whole(Opcode::Text, r#"{"type":"login","name":"mynick"}"#, true)]
    );
    assert_eq!(run.anomalies(), []);
}

#[test]
fn the_frame_is_told_before_the_message_that_it_completes() {
    let mut run = Run::new(ServerToClient);
    run.data(text("hi").build());
    assert!(matches!(run.items.as_slice(), [Kept::Frame(frame), Kept::Message(_)] if frame.known.is_empty()));
}

#[test]
fn an_unmasked_message_in_one_segment_is_not_copied() {
    let data = text("hello").build();
    let mut shared = Shared::new(&Limits::default(), false);
    let mut decoder = Decoder::new(ServerToClient, Extensions::default());
    let mut borrowed = false;
    decoder.handle_data(Time::default(), &data, &mut shared, &mut |_, item| {
        if let Item::Message(message) = item {
            borrowed = data.as_ptr_range().contains(&message.payload.known.as_ptr());
        }
    });
    assert!(borrowed);
}

#[test]
fn several_frames_in_one_segment_are_several_messages() {
    let mut run = Run::new(ServerToClient);
    run.data(concat(&[text("one"), text("two"), text("")]));
    assert_eq!(run.messages(), ["one", "two", ""].map(whole_text));
}

#[test]
fn a_message_in_many_segments_began_with_its_first_byte() {
    let mut run = Run::new(ClientToServer);
    run.data(text("before").masked(KEY).build());
    for byte in text("hello").masked(KEY).build() {
        run.data([byte]);
    }
    assert_eq!(run.messages()[1], KeptMessage::whole(Opcode::Text, "hello", true));
    assert_eq!(run.starts, [1, 2]);
}

#[test]
fn all_three_length_forms_are_decoded_in_both_directions() {
    for length in [0, 125, 126, 65_535, 65_536, 200_000] {
        for direction in [ClientToServer, ServerToClient] {
            let mut frame = binary(&vec![0x5a; length]);
            frame.mask = (direction == ClientToServer).then_some(KEY);
            let mut run = Run::new(direction);
            for piece in frame.build().chunks(1_460) {
                run.data(piece);
            }
            let message = run.message();
            assert_eq!(message.length, Some(length as u64));
            assert!(message.known.len() == length && message.known.iter().all(|byte| *byte == 0x5a));
            assert_eq!(message.wire_length, frame.build().len() as u64);
            assert_eq!(run.anomalies(), []);
        }
    }
}

#[test]
fn fragments_are_one_message() {
    let mut run = Run::new(ClientToServer);
    let fragments = [text("a猪").fragment(), continuation("").fragment(), continuation("b")];
    run.data(concat(&fragments.map(|frame| frame.masked(KEY))));
    let expected =
        KeptMessage { frames: 3, wire_length: 23, ..KeptMessage::whole(Opcode::Text, "a猪b", true) };
    assert_eq!(run.message(), expected);
    assert_eq!(run.frames().len(), 3);
}

#[test]
fn a_character_may_be_cut_between_fragments() {
    let mut run = Run::new(ServerToClient);
    run.data(FrameBuilder::new(Opcode::Text, [0xe7, 0x8c]).fragment().build());
    run.data(FrameBuilder::new(Opcode::Continuation, [0xaa]).build());
    assert_eq!(run.message().text.as_deref(), Some("猪"));
    assert_eq!(run.anomalies(), []);
}

#[test]
fn an_empty_final_fragment_ends_a_message() {
    let mut run = Run::new(ServerToClient);
    run.data(concat(&[text("all").fragment(), continuation("")]));
    assert_eq!(run.message().text.as_deref(), Some("all"));
}

#[test]
fn control_frames_between_fragments_come_out_at_once_and_change_nothing() {
    let mut run = Run::new(ClientToServer);
    let ping = FrameBuilder::new(Opcode::Ping, "are you there");
    let frames = [text("a").fragment(), ping, continuation("b")].map(|frame| frame.masked(KEY));
    for byte in concat(&frames) {
        run.data([byte]);
    }
    let opcodes: Vec<Opcode> = run.frames().iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [Opcode::Text, Opcode::Ping, Opcode::Continuation]);
    assert_eq!(run.frames()[1].known, b"are you there");
    assert_eq!(run.message().text.as_deref(), Some("ab"));
    assert_eq!(run.message().frames, 2);
}

#[test]
fn a_close_frame_tells_its_code_and_reason() {
    let mut run = Run::new(ClientToServer);
    run.data(FrameBuilder::new(Opcode::Close, b"\x03\xe9going").masked(KEY).build());
    assert_eq!(run.frames()[0].close, Some((Some(1001), "going".to_owned())));
    assert_eq!(run.frames()[0].known, b"\x03\xe9going");
    assert_eq!(run.anomalies(), []);
}

#[test]
fn an_empty_close_frame_has_no_code() {
    let mut run = Run::new(ServerToClient);
    run.data(FrameBuilder::new(Opcode::Close, "").build());
    assert_eq!(run.frames()[0].close, Some((None, String::new())));
    assert_eq!(run.anomalies(), []);
}

// What is out of order.

#[test]
fn an_unmasked_client_frame_is_told_and_decoded() {
    let mut run = Run::new(ClientToServer);
    run.data(text("hi").build());
    assert_eq!(run.anomalies(), [AnomalyCode::UnmaskedClientFrame]);
    assert_eq!(run.messages(), [whole_text("hi")]);
}

#[test]
fn a_masked_server_frame_is_told_and_decoded() {
    let mut run = Run::new(ServerToClient);
    run.data(text("hi").masked(KEY).build());
    assert_eq!(run.anomalies(), [AnomalyCode::MaskedServerFrame]);
    assert_eq!(run.message().text.as_deref(), Some("hi"));
}

#[test]
fn reserved_bits_without_an_extension_are_told_and_the_payload_is_shown() {
    for bits in 1..8 {
        let mut run = Run::new(ServerToClient);
        run.data(text("hi").reserved_bits(bits).build());
        assert_eq!(run.anomalies(), [AnomalyCode::ReservedBitSet]);
        assert_eq!(run.messages(), [whole_text("hi")]);
    }
}

#[test]
fn reserved_bits_of_an_unknown_extension_are_no_anomaly_and_the_payload_is_not_shown() {
    let extensions = Extensions { unknown: true, ..Extensions::default() };
    let mut run = Run::of(Decoder::new(ServerToClient, extensions));
    run.data(concat(&[text("??").reserved_bits(2), text("hi")]));
    assert_eq!(run.anomalies(), []);
    assert_eq!(run.messages()[0].undecoded, Some("unknown extension"));
    assert_eq!(run.messages()[0].known, b"");
    assert_eq!(run.messages()[1], whole_text("hi"));
}

#[test]
fn reserved_opcodes_are_told_and_are_no_messages() {
    for opcode in [3, 7, 11, 15] {
        let mut run = Run::new(ServerToClient);
        let reserved = FrameBuilder::new(Opcode::Reserved(opcode), "what");
        run.data(concat(&[text("a").fragment(), reserved, continuation("b")]));
        assert_eq!(run.anomalies(), [AnomalyCode::ReservedOpcode]);
        assert_eq!(run.frames()[1].known, b"what");
        assert_eq!(run.message().text.as_deref(), Some("ab"));
    }
}

#[test]
fn a_length_in_too_many_bytes_is_told_and_decoded() {
    for form in [LengthForm::Sixteen, LengthForm::SixtyFour] {
        let mut run = Run::new(ServerToClient);
        run.data(text("hi").length_form(form).build());
        assert_eq!(run.anomalies(), [AnomalyCode::NonMinimalLength]);
        assert_eq!(run.message().text.as_deref(), Some("hi"));
    }
}

#[test]
fn a_length_with_its_highest_bit_set_is_told_and_allocates_nothing() {
    let mut run = Run::new(ServerToClient);
    run.data(binary(b"x").claiming(u64::MAX).build());
    assert_eq!(run.anomalies(), [AnomalyCode::LengthHighBitSet]);
    assert!(run.shared.held_bytes() < 100);
    run.data([b'x'; 1_000]).end(StreamEnd::Unseen);
    let message = run.message();
    assert_eq!(message.known.len(), 1_001);
    assert_eq!(message.missing, [missing(1_001, u64::MAX - 1_001)]);
}

#[test]
fn a_claimed_length_of_nearly_2_to_the_63_allocates_nothing() {
    let mut run = Run::new(ClientToServer);
    run.data(binary(b"").masked(KEY).claiming(i64::MAX as u64).build());
    assert_eq!(run.anomalies(), []);
    assert_eq!(run.shared.held_bytes(), 0);
}

#[test]
fn a_fragmented_control_frame_is_told() {
    let ping = FrameBuilder::new(Opcode::Ping, "").fragment();
    assert_eq!(server_anomalies(&[ping]), [AnomalyCode::FragmentedControlFrame]);
}

#[test]
fn a_long_control_frame_is_told_and_shown() {
    let mut run = Run::new(ServerToClient);
    let ping = FrameBuilder::new(Opcode::Ping, vec![b'p'; 126]).build();
    run.data(&ping[..50]).data(&ping[50..]);
    assert_eq!(run.anomalies(), [AnomalyCode::LongControlFrame]);
    assert_eq!(run.frames()[0].known.len(), 126);
}

#[test]
fn a_continuation_without_a_start_is_told_once_and_shown() {
    let mut run = Run::new(ServerToClient);
    run.data(concat(&[continuation("a").fragment(), continuation("b"), text("c")]));
    assert_eq!(run.anomalies(), [AnomalyCode::ContinuationWithoutStart]);
    let [lost, next] = &run.messages()[..] else { panic!("{:?}", run.items) };
    assert_eq!(
        (lost.opcode, lost.known.as_slice(), lost.length),
        (Opcode::Continuation, &b"ab"[..], Some(2))
    );
    assert_eq!(lost.missing, []);
    assert_eq!(*next, whole_text("c"));
}

#[test]
fn a_message_inside_a_message_is_told_and_the_first_is_truncated() {
    let mut run = Run::new(ServerToClient);
    run.data(concat(&[text("a").fragment(), text("b")]));
    assert_eq!(run.anomalies(), [AnomalyCode::DataFrameInsideMessage]);
    let [first, second] = &run.messages()[..] else { panic!("{:?}", run.items) };
    assert_eq!((first.text.as_deref(), first.length), (Some("a"), None));
    assert_eq!(first.missing, [missing(1, None)]);
    assert_eq!(*second, whole_text("b"));
}

#[test]
fn invalid_utf_8_is_told_and_shown_as_bytes() {
    let mut run = Run::new(ServerToClient);
    run.data(FrameBuilder::new(Opcode::Text, b"a\xff").build());
    assert_eq!(run.anomalies(), [AnomalyCode::InvalidUtf8]);
    assert_eq!((run.message().text, run.message().known), (None, b"a\xff".to_vec()));
}

#[test]
fn invalid_utf_8_across_fragments_is_told_once() {
    let mut run = Run::new(ServerToClient);
    let bad = |opcode| FrameBuilder::new(opcode, b"\xff");
    run.data(concat(&[bad(Opcode::Text).fragment(), bad(Opcode::Continuation).fragment()]));
    run.data(FrameBuilder::new(Opcode::Continuation, [0xe7, 0x8c]).build());
    assert_eq!(run.anomalies(), [AnomalyCode::InvalidUtf8]);
    assert_eq!((run.message().text, run.message().known), (None, b"\xff\xff\xe7\x8c".to_vec()));
}

#[test]
fn a_binary_message_need_not_be_utf_8() {
    assert_eq!(server_anomalies(&[binary(b"\xff")]), []);
}

#[test]
fn bad_close_payloads_are_told() {
    let close = |payload: &[u8]| server_anomalies(&[FrameBuilder::new(Opcode::Close, payload)]);
    assert_eq!(close(b"\x03"), [AnomalyCode::ClosePayloadTooShort]);
    assert_eq!(close(&1005u16.to_be_bytes()), [AnomalyCode::CloseCodeInvalid]);
    assert_eq!(close(b"\x03\xe8\xff"), [AnomalyCode::CloseReasonInvalidUtf8]);
    assert_eq!(close(b"\x00\x00\xff"), [AnomalyCode::CloseCodeInvalid, AnomalyCode::CloseReasonInvalidUtf8]);
}

#[test]
fn every_data_frame_behind_a_close_frame_is_told_and_decoded() {
    let mut run = Run::new(ServerToClient);
    run.data(concat(&[FrameBuilder::new(Opcode::Close, ""), text("a").fragment(), continuation("b")]));
    assert_eq!(run.anomalies(), [AnomalyCode::FrameAfterClose; 2]);
    assert_eq!(run.message().text.as_deref(), Some("ab"));
}

#[test]
fn control_frames_may_follow_a_close_frame() {
    let frames = [Opcode::Close, Opcode::Ping, Opcode::Pong, Opcode::Close];
    assert_eq!(server_anomalies(&frames.map(|opcode| FrameBuilder::new(opcode, ""))), []);
}

#[test]
fn a_frames_bytes_are_kept_as_they_came_whatever_its_headers_form() {
    for header in [
        &[0x81, 0x05][..],
        &[0x81, 0x85, 1, 2, 3, 4],
        &[0xf2, 126, 0x01, 0x00],
        // Longer than need be.
        &[0x09, 0x80 | 126, 0x00, 0x05, 9, 8, 7, 6],
        &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x00, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0xdb, 0x00],
    ] {
        let Parsed::Header(parsed) = frame::parse(header) else { panic!("{header:?} is whole") };
        let payload = vec![b'x'; parsed.payload_length.min(100_000) as usize];
        let wire = [header, &payload].concat();
        for pieces in [wire.len(), 1] {
            let mut shared = Shared::new(&Limits::default(), true);
            let mut decoder = Decoder::new(ServerToClient, DEFLATE);
            let mut kept = Vec::new();
            let mut emit = |_: Time, item: Item<'_>| {
                if let Item::Frame(frame) = item {
                    kept.push(frame.wire.unwrap().known.to_vec());
                }
            };
            for piece in wire.chunks(pieces) {
                decoder.handle_data(Time::default(), piece, &mut shared, &mut emit);
            }
            decoder.handle_end(Time::default(), StreamEnd::Unseen, &mut shared, &mut emit);
            assert_eq!(kept, [wire.as_slice()]);
            assert_eq!(shared.held_bytes(), 0);
        }
    }
}

// Compression. More of it in compression.rs.

#[test]
fn a_control_frame_cannot_be_compressed() {
    let mut run = Run::of(Decoder::new(ServerToClient, DEFLATE));
    run.data(FrameBuilder::new(Opcode::Ping, "p").reserved_bits(4).build());
    assert_eq!(run.anomalies(), [AnomalyCode::CompressionBitMisplaced]);
    assert_eq!(run.frames()[0].known, b"p");
}

// Bounds.

#[test]
fn a_message_beyond_the_bound_is_cut_named_and_followed_to_its_end() {
    let limits = Limits { message_bytes: 10, ..Limits::default() };
    for pieces in [1_000, 7, 1] {
        let mut run = Run::with_limits(Decoder::new(ClientToServer, Extensions::default()), &limits);
        let frames = [text("0123456789abcdef"), text("next")].map(|frame| frame.masked(KEY));
        for piece in concat(&frames).chunks(pieces) {
            run.data(piece);
        }
        let [cut, next] = &run.messages()[..] else { panic!("{:?}", run.items) };
        assert_eq!((cut.text.as_deref(), cut.length), (Some("0123456789"), Some(16)));
        assert_eq!(cut.missing, [missing(10, 6)]);
        assert_eq!(next.text.as_deref(), Some("next"));
        assert_eq!(run.limits(), [Limit::Message]);
        assert_eq!(run.shared.held_bytes(), 0);
    }
}

#[test]
fn a_bound_that_cuts_a_character_cuts_before_it() {
    let limits = Limits { message_bytes: 5, ..Limits::default() };
    let mut run = Run::with_limits(Decoder::new(ServerToClient, Extensions::default()), &limits);
    run.data(text("猪猪猪").build());
    assert_eq!(run.message().text.as_deref(), Some("猪"));
    assert_eq!(run.message().missing, [missing(3, 6)]);
    assert_eq!(run.message().length, Some(9));
}

#[test]
fn endless_fragments_are_bounded() {
    let limits = Limits { message_bytes: 100, ..Limits::default() };
    let mut run = Run::with_limits(Decoder::new(ServerToClient, Extensions::default()), &limits);
    run.data(text("x").fragment().build());
    for _ in 0..1_000 {
        run.data(continuation("x").fragment().build());
        assert!(run.shared.held_bytes() <= 100);
    }
    run.data(continuation("x").build());
    assert_eq!((run.message().length, run.message().frames), (Some(1_002), 1_002));
    assert_eq!(run.message().missing, [missing(100, 902)]);
    assert_eq!(run.limits(), [Limit::Message]);
}

#[test]
fn all_connections_together_are_bounded() {
    let limits = Limits { message_total_bytes: 1_000, ..Limits::default() };
    let mut shared = Shared::new(&limits, false);
    let mut decoders: Vec<Decoder> =
        (0..10).map(|_| Decoder::new(ServerToClient, Extensions::default())).collect();
    let mut found = Vec::new();
    let frame = text(&"x".repeat(300)).build();
    for piece in frame.chunks(50) {
        for decoder in &mut decoders {
            decoder.handle_data(Time::default(), piece, &mut shared, &mut |_, item| found.push(keep(item)));
            assert!(shared.held_bytes() <= 1_000);
        }
    }
    assert_eq!(shared.held_bytes(), 0);
    let known: Vec<usize> = found
        .iter()
        .filter_map(|item| if let Kept::Message(message) = item { Some(message.known.len()) } else { None })
        .collect();
    // A sixteenth of what those before have left: some for everyone, never the same as if alone.
    assert_eq!(known.len(), 10);
    assert!(known.iter().all(|known| (30..=62).contains(known)), "{known:?}");
    assert!(found.contains(&Kept::Limit(Limit::MessageTotal)));
}

#[test]
fn holes_beyond_the_bound_make_the_rest_missing() {
    let limits = Limits { message_holes: 2, ..Limits::default() };
    let mut run = Run::with_limits(Decoder::new(ServerToClient, Extensions::default()), &limits);
    let frame = text("0123456789").build();
    run.data(&frame[..3]).gap(1).data(&frame[4..5]).gap(1).data(&frame[6..7]).gap(1).data(&frame[8..]);
    assert_eq!(run.message().missing, [missing(1, 1), missing(3, 7)]);
    assert_eq!(run.message().text.as_deref(), Some("02"));
    assert_eq!(run.message().length, Some(10));
    assert_eq!(run.limits(), [Limit::MessageHoles]);
}

// Gaps that leave the place known.

#[test]
fn a_gap_inside_a_payload_is_named_and_what_is_behind_it_is_unmasked_rightly() {
    let payload = "The quick brown fox jumps over the lazy dog.";
    let frame = text(payload).masked([1, 2, 3, 4]).build();
    for length in 1..20 {
        let mut run = Run::new(ClientToServer);
        run.data(&frame[..11]).gap(length).data(&frame[11 + length..]);
        let expected = KeptMessage {
            known: [&payload.as_bytes()[..5], &payload.as_bytes()[5 + length..]].concat(),
            missing: vec![missing(5, length as u64)],
            text: Some([&payload[..5], &payload[5 + length..]].concat()),
            ..KeptMessage::whole(Opcode::Text, payload, true)
        };
        assert_eq!(run.messages(), [expected]);
        assert_eq!(run.anomalies(), []);
    }
}

#[test]
fn a_gap_up_to_the_end_of_a_frame_leaves_the_next_one_in_place() {
    let mut run = Run::new(ServerToClient);
    let frame = text("0123456789").build();
    run.data(&frame[..6]).gap(6).data(text("next").build());
    let [cut, next] = &run.messages()[..] else { panic!("{:?}", run.items) };
    assert_eq!((cut.text.as_deref(), cut.length), (Some("0123"), Some(10)));
    assert_eq!(cut.missing, [missing(4, 6)]);
    assert_eq!(*next, whole_text("next"));
}

#[test]
fn a_gap_in_one_of_several_fragments_is_named_in_offsets_of_the_message() {
    let mut run = Run::new(ServerToClient);
    let second = continuation("01234").fragment().build();
    run.data(text("abc").fragment().build()).data(&second[..3]).gap(2).data(&second[5..]);
    run.data(continuation("x").build());
    assert_eq!(run.message().text.as_deref(), Some("abc034x"));
    assert_eq!(run.message().missing, [missing(4, 2)]);
}

#[test]
fn gaps_that_touch_are_one_hole() {
    let mut run = Run::new(ServerToClient);
    let frame = text("0123456789").build();
    run.data(&frame[..4]).gap(2).gap(1).data(&frame[7..]);
    assert_eq!(run.message().missing, [missing(2, 3)]);
}

#[test]
fn a_character_that_a_hole_cuts_makes_text_bytes_and_no_anomaly() {
    let frame = text("a猪b").build();
    for (from, to) in [(4, 5), (3, 4), (3, 5)] {
        let mut run = Run::new(ServerToClient);
        run.data(&frame[..from]).gap(to - from).data(&frame[to..]);
        assert_eq!(run.message().text, None, "{from}..{to}");
        assert_eq!(run.anomalies(), []);
    }
    let mut run = Run::new(ServerToClient);
    run.data(&frame[..3]).gap(3).data(&frame[6..]);
    assert_eq!(run.message().text.as_deref(), Some("ab"));
}

#[test]
fn halves_of_two_characters_around_a_hole_are_no_text() {
    let mut run = Run::new(ServerToClient);
    let frame = text("猪x猪").build();
    // What is known is E7 8C and AA, a character that nobody sent there.
    run.data(&frame[..4]).gap(4).data(&frame[8..]);
    assert_eq!(run.message().text, None);
}

#[test]
fn invalid_utf_8_beside_a_hole_is_told() {
    let mut run = Run::new(ServerToClient);
    let frame = FrameBuilder::new(Opcode::Text, b"\xffbcd").build();
    run.data(&frame[..4]).gap(1).data(&frame[5..]);
    assert_eq!(run.anomalies(), [AnomalyCode::InvalidUtf8]);
}

#[test]
fn a_gap_in_a_ping_is_named_in_its_frame() {
    let mut run = Run::new(ServerToClient);
    let frame = FrameBuilder::new(Opcode::Ping, "0123").build();
    run.data(&frame[..3]).gap(2).data(&frame[5..]);
    assert_eq!(
        (run.frames()[0].known.as_slice(), &run.frames()[0].missing[..]),
        (&b"03"[..], &[missing(1, 2)][..])
    );
}

#[test]
fn a_close_frame_with_a_hole_tells_what_is_before_it() {
    let mut run = Run::new(ServerToClient);
    let frame = FrameBuilder::new(Opcode::Close, "\u{3}\u{7f}going away").build();
    let frame = [&frame[..3], &[0xe8], &frame[4..]].concat();
    run.data(&frame[..9]).gap(2).data(&frame[11..]);
    assert_eq!(run.frames()[0].close, Some((Some(1000), "going".to_owned())));
    assert_eq!(run.anomalies(), []);
}

// Gaps that lose the place.

#[test]
fn a_gap_over_the_next_header_names_the_missing_tail_by_its_length() {
    let mut run = Run::new(ServerToClient);
    let stream = concat(&[text("0123456789"), text("lost")]);
    run.data(&stream[..6]).gap(9).data(&stream[15..]);
    let message = run.message();
    assert_eq!((message.text.as_deref(), message.length), (Some("0123"), Some(10)));
    assert_eq!(message.missing, [missing(4, 6)]);
    assert!(!run.decoder.is_synchronised());
    assert_eq!(run.decoder.skipped_bytes(), 3);
}

#[test]
fn a_gap_over_the_next_header_leaves_the_end_of_a_fragmented_message_open() {
    let mut run = Run::new(ServerToClient);
    let stream = concat(&[text("0123456789").fragment(), continuation("lost")]);
    run.data(&stream[..6]).gap(9);
    assert_eq!(run.message().missing, [missing(4, None)]);
    assert_eq!(run.message().length, None);
}

#[test]
fn a_gap_between_frames_ends_an_unfinished_message() {
    let mut run = Run::new(ServerToClient);
    run.data(text("abc").fragment().build()).gap(5);
    assert_eq!((run.message().text.as_deref(), run.message().length), (Some("abc"), None));
    assert_eq!(run.message().missing, [missing(3, None)]);
}

#[test]
fn a_gap_over_whole_frames_is_not_guessed_at() {
    let mut run = Run::new(ServerToClient);
    run.data(text("one").build()).gap(5).data(text("three").build());
    assert_eq!(run.messages(), [whole_text("one"), whole_text("three").resynchronised()]);
    assert_eq!(run.anomalies(), []);
}

#[test]
fn a_gap_inside_a_header_loses_the_place_and_the_next_segment_finds_it() {
    let mut run = Run::new(ClientToServer);
    let frame = text("lost").masked(KEY).build();
    run.data(&frame[..3]).gap(2).data(&frame[5..]).data(text("found").masked(KEY).build());
    assert_eq!(run.messages(), [KeptMessage::whole(Opcode::Text, "found", true).resynchronised()]);
    assert_eq!(run.decoder.skipped_bytes(), 3 + 5);
}

// Finding the place again.

#[test]
fn an_open_connection_is_read_from_the_first_frame_that_begins_a_segment() {
    for direction in [ClientToServer, ServerToClient] {
        let mut frame = text(r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#);
        frame.mask = (direction == ClientToServer).then_some(KEY);
        let bytes = frame.build();
        let mut run = Run::of(Decoder::resynchronising(direction));
        run.data(&bytes[20..]).data(&bytes);
        assert_eq!(run.messages().len(), 1);
        assert!(run.message().resynchronised && run.message().missing.is_empty());
        assert_eq!(run.anomalies(), []);
    }
}

#[test]
fn a_found_message_may_go_on_in_further_segments() {
    let bytes = text("hello, hello, hello").masked(KEY).build();
    for cut in 1..bytes.len() {
        let mut run = Run::of(Decoder::resynchronising(ClientToServer));
        run.data(&bytes[..cut]).data(&bytes[cut..]);
        assert_eq!(run.messages().len(), 1, "cut at {cut}");
    }
}

#[test]
fn eight_frames_in_a_row_prove_the_place() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    for _ in 0..10 {
        run.data(text("hello").build());
    }
    let marked: Vec<bool> = run.messages().iter().map(|message| message.resynchronised).collect();
    assert_eq!(marked, [[true; 8].as_slice(), &[false; 2]].concat());
}

#[test]
fn one_segment_proves_nothing_however_many_frames_it_holds() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(concat(&vec![text("hello"); 20])).data(text("a").build()).data(text("b").build());
    assert!(run.messages()[..21].iter().all(|message| message.resynchronised));
    assert_eq!(run.messages()[21], whole_text("b"));
}

#[test]
fn fragments_without_an_end_prove_nothing() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    for _ in 0..30 {
        run.data(FrameBuilder::new(Opcode::Continuation, b"structured").fragment().build());
    }
    assert!(run.frames().iter().all(|frame| frame.resynchronised));
}

#[test]
fn a_continuation_that_begins_what_is_found_has_an_unknown_start() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(continuation("mid").fragment().build()).data(continuation("end").build());
    let message = run.message();
    assert_eq!((message.opcode, message.length), (Opcode::Continuation, None));
    assert_eq!(message.missing, [missing(0, None)]);
    assert_eq!(message.known, b"midend");
    assert_eq!(run.anomalies(), []);
}

#[test]
fn a_message_without_its_start_is_shown_as_text_where_it_is_some() {
    for (payload, text) in [(&b"a\xe7\x8c\xaa"[..], Some("a猪")), (b"\xaab", None)] {
        let mut run = Run::of(Decoder::resynchronising(ServerToClient));
        run.data(FrameBuilder::new(Opcode::Continuation, payload).build());
        assert_eq!((run.message().text.as_deref(), run.message().known.as_slice()), (text, payload));
        assert_eq!(run.anomalies(), []);
    }
}

#[test]
fn a_hole_behind_an_unknown_start_counts_from_its_end() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    let frame = continuation("0123456789").build();
    run.data(&frame[..6]).gap(2).data(&frame[8..]);
    assert_eq!(run.message().missing, [missing(0, None), missing(4, 2)]);
}

#[test]
fn a_continuation_without_its_start_may_be_compressed_where_that_was_negotiated() {
    let mut run = Run::of(Decoder::new(ServerToClient, DEFLATE));
    run.data(text("a").build()).gap(10).data(continuation("\u{1}").build());
    assert!(run.messages()[1].undecoded.is_some() && run.messages()[1].known.is_empty());
}

#[test]
fn compression_is_recognised_where_no_handshake_was_seen() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(text("\u{1}\u{2}").reserved_bits(4).build());
    assert!(run.message().compressed && run.message().undecoded == Some(INVALID_DEFLATE));
    assert_eq!(run.anomalies(), []);
}

#[test]
fn rsv1_is_not_plausible_where_compression_was_not_negotiated() {
    let mut run = Run::new(ServerToClient);
    run.gap(1).data(text("ab").reserved_bits(4).build());
    assert_eq!(run.items, []);
}

#[test]
fn what_cannot_be_a_frame_is_skipped() {
    let close = |payload: &[u8]| FrameBuilder::new(Opcode::Close, payload).build();
    let mut zeros_then_text = vec![0; 6];
    zeros_then_text.extend(text("ab").build());
    for (what, segment) in [
        ("a wrong mask bit", text("ab").masked(KEY).build()),
        ("a reserved opcode", FrameBuilder::new(Opcode::Reserved(3), "ab").build()),
        ("a reserved bit", text("ab").reserved_bits(1).build()),
        ("a length in too many bytes", text("ab").length_form(LengthForm::Sixteen).build()),
        ("a length beyond what is kept", text("ab").claiming(1 << 40).build()),
        ("a fragmented control frame", FrameBuilder::new(Opcode::Ping, "").fragment().build()),
        ("a long control frame", FrameBuilder::new(Opcode::Ping, vec![0; 126]).build()),
        ("a close code that must not be sent", close(&[0, 1])),
        ("half a close code", close(&[3])),
        ("text that is not UTF-8", FrameBuilder::new(Opcode::Text, b"a\xff").build()),
        (
            "text that is not UTF-8, unfinished",
            FrameBuilder::new(Opcode::Text, b"a\xff").claiming(99).build(),
        ),
        ("a message inside a message", concat(&[text("a").fragment(), text("b")])),
        ("a continuation behind a whole message", concat(&[text("a"), continuation("b")])),
        ("a frame and then none", [text("a").build(), b"what".to_vec()].concat()),
        ("empty fragments", zeros_then_text),
    ] {
        let mut run = Run::of(Decoder::resynchronising(ServerToClient));
        run.data(&segment);
        assert_eq!(run.items, [], "{what}");
        assert_eq!(run.decoder.skipped_bytes(), segment.len() as u64, "{what}");
        run.data(text("found").build());
        assert_eq!(run.messages().len(), 1, "{what}");
    }
}

#[test]
fn a_wrong_beginning_is_dropped_before_anything_of_it_is_shown() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    // Looks like a binary frame of 100 bytes, but what follows does not fit.
    run.data([0x82, 100, b'x', b'x']).data(text("one").build()).data(text("two").build());
    let expected = ["one", "two"].map(|payload| whole_text(payload).resynchronised());
    assert_eq!(run.messages(), expected);
    assert_eq!(run.anomalies(), []);
    assert_eq!(run.decoder.skipped_bytes(), 4);
}

#[test]
fn a_wrong_beginning_that_is_contradicted_at_its_end_is_dropped() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data([0x82, 10, b'x', b'x']).data(b"yyyyyyyyyyyyyyy").data(text("found").build());
    assert_eq!(run.messages(), [whole_text("found").resynchronised()]);
    assert_eq!(run.anomalies(), []);
    assert_eq!(run.decoder.skipped_bytes(), 19);
}

#[test]
fn a_place_that_fails_after_something_was_shown_is_an_anomaly() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(text("inside of a payload").build()).data(b"what is this");
    assert_eq!(run.messages().len(), 1);
    assert_eq!(run.anomalies(), [AnomalyCode::ResynchronisationFailed]);
    assert!(!run.decoder.is_synchronised());
}

#[test]
fn found_text_that_turns_out_not_to_be_utf_8_was_no_text() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    let frame = FrameBuilder::new(Opcode::Text, b"0123456789\xff\xff\xff\xff").build();
    run.data(&frame[..12]).data(&frame[12..]);
    assert_eq!(run.items, []);
}

#[test]
fn a_long_found_text_is_looked_at_once() {
    let payload = "猪".repeat(1_400_000);
    let frame = text(&payload).build();
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    // Looking at all of it again for each of the 260,000 segments would take hours.
    frame.chunks(16).for_each(|piece| {
        run.data(piece);
    });
    assert_eq!(
        run.messages(),
        [KeptMessage { wire_length: frame.len() as u64, ..whole_text(&payload).resynchronised() }]
    );
}

#[test]
fn a_gap_that_ends_exactly_with_a_found_frame_supports_it() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data([0x82, 100, b'x', b'x']).gap(98);
    assert!(run.message().resynchronised);
    assert_eq!(run.message().missing, [missing(2, 98)]);
}

#[test]
fn found_frames_that_nothing_supports_are_not_shown_when_the_place_is_lost_again() {
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data([0x82, 100, b'x', b'x']).gap(1_000);
    assert_eq!(run.items, []);
    run.data([0x81, 100]).data(b"text is shown").gap(1_000);
    assert_eq!(run.message().text.as_deref(), Some("text is shown"));
    assert_eq!(run.message().missing, [missing(13, 87)]);
}

#[test]
fn a_wrong_frame_after_a_proved_place_is_an_anomaly_and_no_loss_of_it() {
    let mut run = Run::new(ServerToClient);
    run.data(FrameBuilder::new(Opcode::Reserved(5), "").build()).data(text("a").build());
    assert_eq!(run.messages(), [whole_text("a")]);
}

// The end.

#[test]
fn a_stream_that_ends_between_frames_is_in_order() {
    let mut run = Run::new(ServerToClient);
    run.data(text("a").build()).end(StreamEnd::Fin);
    assert_eq!(run.messages(), [whole_text("a")]);
    assert_eq!(run.anomalies(), []);
}

#[test]
fn a_stream_that_ends_inside_a_payload_tells_the_message_and_what_is_missing() {
    let mut run = Run::new(ServerToClient);
    run.data(&text("0123456789").build()[..6]).end(StreamEnd::Fin);
    assert_eq!(run.anomalies(), [AnomalyCode::StreamEndsInsideFrame]);
    assert_eq!((run.message().text.as_deref(), run.message().length), (Some("0123"), Some(10)));
    assert_eq!(run.message().missing, [missing(4, 6)]);
}

#[test]
fn a_stream_that_ends_inside_a_header_is_told() {
    let mut run = Run::new(ServerToClient);
    run.data([0x81]).end(StreamEnd::Fin);
    assert_eq!(run.items, [Kept::Anomaly(AnomalyCode::StreamEndsInsideFrame)]);
}

#[test]
fn a_stream_that_ends_between_fragments_is_told() {
    let mut run = Run::new(ServerToClient);
    run.data(text("a").fragment().build()).end(StreamEnd::Fin);
    assert_eq!(run.anomalies(), [AnomalyCode::StreamEndsInsideMessage]);
    assert_eq!(run.message().missing, [missing(1, None)]);
}

#[test]
fn nobody_is_blamed_for_an_end_by_reset_or_unseen() {
    for end in [StreamEnd::Reset, StreamEnd::Unseen] {
        let mut run = Run::new(ServerToClient);
        run.data(&text("0123456789").build()[..6]).end(end);
        assert_eq!(run.anomalies(), []);
        assert_eq!(run.message().missing, [missing(4, 6)]);
    }
}

// Properties.

fn any_frame() -> impl Strategy<Value = FrameBuilder> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        "[a-z猪é]{0,20}".prop_map(String::into_bytes),
        (100usize..300).prop_map(|length| vec![b'x'; length]),
    ];
    let opcode = prop_oneof![
        6 => prop_oneof![Just(0u8), Just(1), Just(2)],
        2 => prop_oneof![Just(8u8), Just(9), Just(10)],
        1 => 0u8..16,
    ];
    let rsv = prop_oneof![8 => Just(0u8), 2 => Just(4), 1 => 0u8..8];
    let form = prop_oneof![8 => Just(LengthForm::Shortest), 1 => Just(LengthForm::Sixteen), 1 => Just(LengthForm::SixtyFour)];
    (payload, opcode, rsv, form, any::<Option<[u8; 4]>>(), any::<bool>()).prop_map(
        |(payload, opcode, rsv, length_form, mask, fin)| FrameBuilder {
            fin,
            rsv,
            mask,
            length_form,
            ..FrameBuilder::new(Opcode::from_bits(opcode), payload)
        },
    )
}

fn any_extensions() -> impl Strategy<Value = Extensions> {
    (prop_oneof![Just(Compression::Off), Just(DEFLATE.compression), Just(Compression::Unseen)], any::<bool>())
        .prop_map(|(compression, unknown)| Extensions { compression, unknown })
}

fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(ClientToServer), Just(ServerToClient)]
}

/// Cuts bytes into pieces of the given sizes, again and again.
fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// A right stream of messages in letters. With keys below 32, no byte of a payload can begin a frame: what is found
/// after a loss can only be a frame.
fn right_stream(direction: Direction) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece =
        ("[a-z]{0,40}", prop_oneof![9 => Just(0usize), 1 => 100usize..400], [0u8..32, 0..32, 0..32, 0..32]);
    let message = (any::<bool>(), proptest::collection::vec(piece, 1..4), any::<bool>());
    proptest::collection::vec(message, 1..12).prop_map(move |messages| {
        let mut frames = Vec::new();
        for (is_text, pieces, pinged) in messages {
            let last = pieces.len() - 1;
            for (index, (payload, more, key)) in pieces.into_iter().enumerate() {
                let opcode = match (index, is_text) {
                    (0, true) => Opcode::Text,
                    (0, false) => Opcode::Binary,
                    _ => Opcode::Continuation,
                };
                // Not empty: an empty fragment is not plausible.
                let payload = format!("p{payload}{}", "q".repeat(more));
                let mut frame = FrameBuilder::new(opcode, payload);
                frame.fin = index == last;
                frame.mask = (direction == ClientToServer).then_some(key);
                frames.push(frame.build());
                if pinged && index == 0 {
                    let mut ping = FrameBuilder::new(Opcode::Ping, "ping");
                    ping.mask = (direction == ClientToServer).then_some(key);
                    frames.push(ping.build());
                }
            }
        }
        frames
    })
}

/// Whether a message is one of the stream's, less what it says is missing.
fn is_part_of(found: &KeptMessage, sent: &KeptMessage) -> bool {
    let mut rest = found.known.as_slice();
    let mut at = 0usize;
    for hole in &found.missing {
        let (run, behind) = rest.split_at((hole.offset as usize - at).min(rest.len()));
        if sent.known.get(at..at + run.len()) != Some(run) {
            return false;
        }
        rest = behind;
        match hole.length {
            Some(length) => at = (hole.offset + length) as usize,
            // Nothing is known of the offsets behind it.
            None if hole.offset == 0 => {
                return rest.is_empty() || sent.known.windows(rest.len()).any(|known| known == rest);
            }
            None => return rest.is_empty(),
        }
    }
    sent.known.get(at..at + rest.len()) == Some(rest)
        && found.length.is_none_or(|length| Some(length) == sent.length)
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_items(
        frames in proptest::collection::vec(any_frame(), 0..12),
        cut_off in 0usize..20,
        sizes in proptest::collection::vec(1usize..40, 1..20),
        direction in any_direction(),
        extensions in any_extensions(),
        message_bytes in prop_oneof![Just(16usize << 20), 1usize..200],
    ) {
        let limits = Limits { message_bytes, ..Limits::default() };
        let stream = concat(&frames);
        let stream = &stream[..stream.len().saturating_sub(cut_off)];
        let decode = |pieces: &[&[u8]]| {
            let mut run = Run::with_limits(Decoder::new(direction, extensions), &limits);
            pieces.iter().for_each(|piece| { run.data(piece); });
            run.end(StreamEnd::Fin);
            run.items
        };
        prop_assert_eq!(decode(&[stream]), decode(&cut(stream, &sizes)));
    }

    #[test]
    fn a_right_stream_has_no_anomalies_and_all_of_its_bytes(
        (direction, frames) in any_direction().prop_flat_map(|direction| (Just(direction), right_stream(direction))),
        sizes in proptest::collection::vec(1usize..200, 1..20),
    ) {
        let stream = frames.concat();
        let mut run = Run::new(direction);
        cut(&stream, &sizes).iter().for_each(|piece| { run.data(piece); });
        run.end(StreamEnd::Fin);
        prop_assert_eq!(run.anomalies(), []);
        prop_assert_eq!(run.frames().len(), frames.len());
        let pings = run.frames().iter().filter(|frame| frame.opcode == Opcode::Ping).count();
        let control_bytes = pings * if direction == ClientToServer { 10 } else { 6 };
        let message_bytes: u64 = run.messages().iter().map(|message| message.wire_length).sum();
        prop_assert_eq!(message_bytes as usize + control_bytes, stream.len());
    }

    #[test]
    fn any_gap_gives_the_same_messages_less_those_touched(
        (direction, frames) in any_direction().prop_flat_map(|direction| (Just(direction), right_stream(direction))),
        sizes in proptest::collection::vec(1usize..200, 1..20),
        on_frames: bool,
        from in 0.0..1.0f64,
        length in 1usize..300,
    ) {
        let stream = frames.concat();
        let mut whole = Run::new(direction);
        whole.data(&stream);
        let sent = whole.messages();

        let segments: Vec<&[u8]> =
            if on_frames { frames.iter().map(Vec::as_slice).collect() } else { cut(&stream, &sizes) };
        let from = (from * stream.len() as f64) as usize;
        let to = (from + length).min(stream.len());
        let mut run = Run::new(direction);
        let mut at = 0;
        let mut missed = false;
        for segment in segments {
            let end = at + segment.len();
            if at < from {
                run.data(&segment[..segment.len().min(from - at)]);
            }
            if end >= from && !missed {
                run.gap(to - from);
                missed = true;
            }
            if end > to {
                run.data(&segment[to.saturating_sub(at).min(segment.len())..]);
            }
            at = end;
        }
        run.end(StreamEnd::Unseen);

        prop_assert_eq!(run.anomalies(), []);
        // What came out whole was sent, in this order; of what is truncated, the known bytes were.
        let mut rest = sent.iter();
        for found in run.messages() {
            if !found.missing.is_empty() {
                prop_assert!(sent.iter().any(|sent| is_part_of(&found, sent)), "{:?} was never sent", found);
                continue;
            }
            let unmarked = KeptMessage { resynchronised: false, ..found };
            prop_assert!(rest.any(|sent| *sent == unmarked), "{:?} was never sent", unmarked);
        }
        // Every message before the gap is there, unmarked.
        let before = frames.iter().scan(0, |at, frame| { *at += frame.len(); Some(*at) })
            .zip(&frames)
            .filter(|(end, frame)| *end <= from && frame[0] & 0x8f >= 0x80 && frame[0] & 0x0f < 8)
            .count();
        prop_assert_eq!(&run.messages()[..before], &sent[..before]);
        // Where each frame is a segment, so is every message whose frames all begin behind the gap.
        if on_frames {
            let behind = frames.iter().scan(0, |at, frame| { *at += frame.len(); Some(*at - frame.len()) })
                .zip(&frames)
                .filter(|(start, frame)| *start >= to && matches!(frame[0] & 0x0f, 1 | 2))
                .count();
            let found = run.messages();
            prop_assert!(found.len() >= behind);
            let last: Vec<_> = found[found.len() - behind..].iter().map(|message| &message.known).collect();
            let sent: Vec<_> = sent[sent.len() - behind..].iter().map(|message| &message.known).collect();
            prop_assert_eq!(last, sent);
        }
    }

    #[test]
    fn random_bytes_and_gaps_never_panic_and_are_held_within_the_bounds(
        pieces in proptest::collection::vec(
            prop_oneof![
                4 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Ok),
                4 => any_frame().prop_map(|frame| Ok(frame.build())),
                1 => any::<u64>().prop_map(Err),
                2 => (0u64..60).prop_map(Err),
            ],
            0..60,
        ),
        direction in any_direction(),
        extensions in any_extensions(),
        late: bool,
    ) {
        let limits =
            Limits { message_bytes: 64, message_total_bytes: 96, message_holes: 3, ..Limits::default() };
        let decoder = if late { Decoder::resynchronising(direction) } else { Decoder::new(direction, extensions) };
        let mut run = Run::with_limits(decoder, &limits);
        for piece in pieces {
            match piece {
                Ok(data) => run.data(data),
                Err(length) => {
                    run.step(|decoder, time, shared, emit| decoder.handle_gap(time, length, shared, emit));
                    &mut run
                }
            };
            prop_assert!(run.shared.held_bytes() <= 96);
        }
        run.end(StreamEnd::Reset);
        for message in run.messages() {
            prop_assert!(message.known.len() <= 64 && message.missing.len() <= 3);
        }
    }
}

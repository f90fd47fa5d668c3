//! The decoder of one direction, with pieces of any size and gaps.
//!
//! Owns what must hold of its items. Must not know how it decodes. Bounded: small limits, which the input reaches.

use std::fmt::Write as _;

use observer_core::Limits;
use observer_core::record::{Direction, Payload};
use observer_core::time::Time;
use observer_core::websocket::frame::Opcode;
use observer_core::websocket::frame::encode::{FrameBuilder, LengthForm};
use observer_core::websocket::{
    Compression, Decoder, DeflateParameters, Extensions, Item, Shared, StreamEnd,
};

use crate::cursor::Cursor;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What the words of a bound begin with.
const LIMIT: &str = "limit ";

/// What is given to a decoder.
enum Step {
    Data(Vec<u8>),
    Gap(u64),
}

/// Two bytes of options, the sizes of pieces as a string, and steps.
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let options = choices.byte();
    let direction = if options & 1 == 0 { Direction::ClientToServer } else { Direction::ServerToClient };
    let compression = match options >> 1 & 3 {
        0 => Compression::Off,
        1 => Compression::Unseen,
        2 => Compression::Deflate(DeflateParameters::default()),
        _ => Compression::Deflate(DeflateParameters {
            client_no_context_takeover: true,
            server_no_context_takeover: true,
            ..DeflateParameters::default()
        }),
    };
    let extensions = Extensions { compression, unknown: options & 8 != 0 };
    let is_late = options & 16 != 0;
    let keeps_wire = options & 32 != 0;
    let end =
        [StreamEnd::Fin, StreamEnd::Reset, StreamEnd::Unseen, StreamEnd::Fin][usize::from(options >> 6)];
    let limits = match choices.byte() & 3 {
        0 => Limits { message_bytes: 64, message_total_bytes: 2_000, message_holes: 3, ..Limits::default() },
        1 => Limits { inflated_bytes: 3_000, inflate_total_bytes: 50_000, ..Limits::default() },
        _ => Limits::default(),
    };
    let sizes = choices.string();
    let steps = steps(&mut choices, direction);
    let decoder = || {
        if is_late { Decoder::resynchronising(direction) } else { Decoder::new(direction, extensions) }
    };
    let whole = decode(decoder(), &steps, end, &limits, keeps_wire);
    let has_gaps = steps.iter().any(|step| matches!(step, Step::Gap(_)));
    if !is_late && !has_gaps {
        // Behind a hole the place is found by segments; else it is no matter where they end.
        let stream: Vec<u8> = steps
            .iter()
            .flat_map(|step| if let Step::Data(data) = step { data.as_slice() } else { &[] })
            .copied()
            .collect();
        let pieces: Vec<Step> =
            Cursor::new(sizes).cut(&stream).into_iter().map(|piece| Step::Data(piece.to_vec())).collect();
        let cut = decode(decoder(), &pieces, end, &limits, keeps_wire);
        assert_eq!(whole, cut);
    }
}

/// Each begins with a byte that says what.
fn steps(choices: &mut Cursor<'_>, direction: Direction) -> Vec<Step> {
    let mut steps = Vec::new();
    while !choices.is_over() {
        let what = choices.byte();
        steps.push(match what & 7 {
            0 => Step::Data(choices.string().to_vec()),
            1 => Step::Gap(u64::from(choices.byte())),
            2 => Step::Gap(u64::from(choices.word()) << (what >> 3)),
            _ => Step::Data(frame(choices, what, direction).build()),
        });
    }
    steps
}

/// A frame, mostly a right one: its first byte, its payload as a string.
pub fn frame(choices: &mut Cursor<'_>, what: u8, direction: Direction) -> FrameBuilder {
    let first = choices.byte();
    let mut frame = FrameBuilder::new(Opcode::from_bits(first), choices.string());
    frame.fin = first & 0x80 != 0;
    frame.rsv = first >> 4 & 7;
    let is_masked = (direction == Direction::ClientToServer) != (what & 0x20 != 0);
    frame.mask = is_masked.then_some(KEY);
    if what & 0x40 != 0 {
        frame.length_form = if what & 0x10 == 0 { LengthForm::Sixteen } else { LengthForm::SixtyFour };
    }
    if what & 0x80 != 0 {
        frame.claimed_length = Some(u64::from(choices.word()) << (what & 0x10));
    }
    frame
}

/// Decodes, and checks each item; every item in words, the bounds that were reached behind the others: when one is told
/// depends on where pieces end.
fn decode(
    mut decoder: Decoder,
    steps: &[Step],
    end: StreamEnd,
    limits: &Limits,
    keeps_wire: bool,
) -> Vec<String> {
    let mut shared = Shared::new(limits, keeps_wire);
    let mut items = Vec::new();
    let mut checked = Checked { limits, input: 0, wire: 0 };
    for step in steps {
        let emit = &mut |_: Time, item: Item<'_>| {
            checked.check(&item);
            items.push(words(&item));
        };
        match step {
            Step::Data(data) => {
                decoder.handle_data(Time::default(), data, &mut shared, emit);
                checked.input += data.len() as u64;
            }
            Step::Gap(length) => {
                decoder.handle_gap(Time::default(), *length, &mut shared, emit);
            }
        }
        assert!(shared.held_bytes() <= limits.message_total_bytes, "{}", shared.held_bytes());
        assert!(shared.inflating_bytes() <= limits.inflate_total_bytes, "{}", shared.inflating_bytes());
    }
    decoder.handle_end(Time::default(), end, &mut shared, &mut |_, item| {
        checked.check(&item);
        items.push(words(&item));
    });
    assert_eq!((shared.held_bytes(), shared.inflating_bytes()), (0, 0), "all is given back");
    assert!(checked.wire <= checked.input, "{} bytes of frames out of {}", checked.wire, checked.input);
    let (mut limits, mut items): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|words| words.starts_with(LIMIT));
    limits.sort();
    items.append(&mut limits);
    items
}

struct Checked<'a> {
    limits: &'a Limits,
    input: u64,
    /// Known bytes of frames as on the wire.
    wire: u64,
}

impl Checked<'_> {
    fn check(&mut self, item: &Item<'_>) {
        match item {
            Item::Frame(frame) => {
                self.check_payload(&frame.payload, None);
                if let Some(wire) = &frame.wire {
                    self.check_payload(wire, Some(frame.header.wire_length()));
                    self.wire += wire.known.len() as u64;
                }
            }
            Item::Message(message) => {
                self.check_payload(&message.payload, message.length);
                let payload = &message.payload;
                assert!(payload.undecoded.is_none() || (payload.known.is_empty() && payload.text.is_none()));
            }
            Item::Anomaly { detail, .. } => assert!(!detail.is_empty()),
            Item::Limit(_) => {}
        }
    }

    fn check_payload(&self, payload: &Payload<'_>, length: Option<u64>) {
        assert!(payload.known.len() <= self.limits.message_bytes);
        assert!(payload.missing.len() <= self.limits.message_holes.max(1), "{:?}", payload.missing);
        assert!(payload.text.is_none_or(|text| text.as_bytes() == payload.known));
        let mut end = 0;
        let mut missing = 0;
        for (index, hole) in payload.missing.iter().enumerate() {
            assert!(hole.offset >= end, "holes in order: {:?}", payload.missing);
            let is_last = index + 1 == payload.missing.len();
            assert!(hole.length.is_some() || is_last || hole.offset == 0, "{:?}", payload.missing);
            end = hole.offset.saturating_add(hole.length.unwrap_or(0));
            missing += hole.length.unwrap_or(0);
        }
        if payload.undecoded.is_none()
            && let (Some(length), true) = (length, payload.missing.iter().all(|hole| hole.length.is_some()))
        {
            assert_eq!((payload.known.len() as u64).saturating_add(missing), length);
        }
    }
}

/// All of an item that does not depend on where segments end.
fn words(item: &Item<'_>) -> String {
    let mut words = String::new();
    match item {
        Item::Frame(frame) => write!(words, "{:?}", frame),
        Item::Message(message) => write!(words, "{:?}", message),
        Item::Anomaly { code, .. } => write!(words, "{code}"),
        Item::Limit(limit) => write!(words, "{LIMIT}{limit:?}"),
    }
    .unwrap();
    words
}

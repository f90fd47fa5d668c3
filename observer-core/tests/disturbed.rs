//! The same conversation, disturbed: cut, reordered, repeated, overlapping, or with packets lost.
//!
//! Owns the claims that compare a disturbed run with an undisturbed one, as a file has it and as the kernel does, with
//! compression and without. Must not know any layer's inside. Bounded: conversations of some hundred messages.

mod support;

use std::collections::BTreeSet;
use std::ops::Range;

use flate2::{Compress, Compression, FlushCompress};
use observer_core::engine::Config;
use observer_core::record::{Account, Direction, How, Kind, Missing};
use observer_core::websocket::frame::{Opcode, encode::FrameBuilder};
use observer_core::{Engine, Event, Record};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::{Conversation, MASK, Wire, answer, key_for, request};

/// How far packets come out of order, in packets.
const WINDOW: usize = 40;

/// A message that outlives the call.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    direction: Direction,
    opcode: Opcode,
    compressed: bool,
    length: Option<u64>,
    known: Vec<u8>,
    missing: Vec<Missing>,
    undecoded: Option<&'static str>,
    resynchronised: bool,
}

impl Message {
    /// Whether it says that it is not all that was sent, or may not be.
    fn says_so(&self) -> bool {
        !self.missing.is_empty() || self.undecoded.is_some() || self.resynchronised
    }

    /// Whether it is what was sent, less what it says is missing.
    fn is_part_of(&self, sent: &Self) -> bool {
        if (self.direction, self.undecoded) != (sent.direction, None) {
            return self.direction == sent.direction && self.known.is_empty();
        }
        if let (Some(Missing { offset: 0, length: None }), true) =
            (self.missing.first(), self.opcode == Opcode::Continuation)
        {
            return sent.known.ends_with(&self.known) || self.missing.len() > 1;
        }
        let mut expected = sent.known.clone();
        for hole in self.missing.iter().rev() {
            let from = usize::try_from(hole.offset).unwrap().min(expected.len());
            let to = hole.length.map_or(expected.len(), |length| from + usize::try_from(length).unwrap());
            expected.drain(from..to.min(sent.known.len()));
        }
        self.known == expected && self.length.is_none_or(|length| Some(length) == sent.length)
    }
}

/// What a run told of one connection.
#[derive(Debug, Default)]
struct Told {
    messages: Vec<Message>,
    /// Of each direction: how many messages came before its first gap.
    before_gap: [Option<usize>; 2],
    anomalies: Vec<&'static str>,
    account: [Account; 2],
    how: Option<How>,
    is_complete: bool,
}

impl Told {
    fn of(&self, direction: Direction) -> Vec<&Message> {
        self.messages.iter().filter(|message| message.direction == direction).collect()
    }
}

fn tell(packets: &[Wire]) -> Told {
    let mut told = Told::default();
    let mut engine = Engine::new(Config::default());
    let mut sink = |record: &Record<'_>| match &record.kind {
        Kind::Message(it) => told.messages.push(Message {
            direction: it.direction,
            opcode: it.opcode,
            compressed: it.compressed,
            length: it.length,
            known: it.payload.known.to_vec(),
            missing: it.payload.missing.to_vec(),
            undecoded: it.payload.undecoded,
            resynchronised: it.resynchronised,
        }),
        Kind::Gap(gap) => {
            let before = told.messages.iter().filter(|it| it.direction == gap.direction).count();
            gap.direction.of_mut(&mut told.before_gap).get_or_insert(before);
        }
        Kind::Anomaly(anomaly) => told.anomalies.push(anomaly.code.code()),
        Kind::ConnectionClosed(closed) => {
            told.account = closed.account;
            told.how = Some(closed.how);
            told.is_complete = closed.is_complete();
        }
        _ => {}
    };
    for packet in packets {
        engine.handle(Event::Packet(packet.packet()), &mut sink);
    }
    engine.finish(None, &mut sink);
    told
}

/// How a conversation is captured, and whether it is compressed.
#[derive(Clone, Copy, Debug)]
struct Setting {
    is_live: bool,
    is_compressed: bool,
}

fn settings() -> impl Strategy<Value = Setting> {
    (any::<bool>(), any::<bool>()).prop_map(|(is_live, is_compressed)| Setting { is_live, is_compressed })
}

const SETTINGS: [Setting; 4] = [
    Setting { is_live: false, is_compressed: false },
    Setting { is_live: true, is_compressed: false },
    Setting { is_live: false, is_compressed: true },
    Setting { is_live: true, is_compressed: true },
];

fn upgraded(setting: Setting) -> Conversation {
    let mut it = if setting.is_live { Conversation::live(4_000, 9) } else { Conversation::new(4_000) };
    let head = |head: Vec<u8>| {
        let head = String::from_utf8(head).unwrap();
        let extensions =
            if setting.is_compressed { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        format!("{}{extensions}\r\n", head.strip_suffix("\r\n").unwrap()).into_bytes()
    };
    it.connect().client_sends(&head(request())).server_sends(&head(answer()));
    it
}

/// The frames of each direction: text of several lengths, some in fragments, some with a ping between.
fn frames(count: usize, setting: Setting) -> [Vec<Vec<u8>>; 2] {
    [true, false].map(|from_client| {
        let mut compress = Compress::new(Compression::default(), false);
        let mut frames = Vec::new();
        for number in 0..count {
            let who = if from_client { "client" } else { "SERVER" };
            let text =
                format!("{who} says {} {}", number * 7_919 % 1_000, "tell me more; ".repeat(number % 13));
            let mut payload = text.into_bytes();
            if setting.is_compressed {
                let mut out = Vec::with_capacity(payload.len() + 100);
                compress.compress_vec(&payload, &mut out, FlushCompress::Sync).unwrap();
                out.truncate(out.len() - 4);
                payload = out;
            }
            let mut push = |mut frame: FrameBuilder| {
                frame.mask = from_client.then(|| key_for(&frame.payload));
                frames.push(frame.build());
            };
            let rsv = if setting.is_compressed { 4 } else { 0 };
            if number % 5 == 3 {
                let (first, rest) = payload.split_at(payload.len() / 2);
                push(FrameBuilder::new(Opcode::Text, first).reserved_bits(rsv).fragment());
                push(FrameBuilder::new(Opcode::Ping, "between"));
                push(FrameBuilder::new(Opcode::Continuation, rest));
            } else {
                push(FrameBuilder::new(Opcode::Text, payload).reserved_bits(rsv));
            }
        }
        frames
    })
}

fn end(it: &mut Conversation) {
    for (from_client, mask) in [(true, Some(MASK)), (false, None)] {
        it.send(from_client, &support::close(1000, mask)).acknowledge(!from_client);
    }
    it.fin(false).fin(true);
}

/// The conversation with a frame in each segment.
fn plain(count: usize, setting: Setting) -> Vec<Wire> {
    let mut it = upgraded(setting);
    let [client, server] = frames(count, setting);
    let length = client.len().max(server.len());
    for at in 0..length {
        for (from_client, frames) in [(true, &client), (false, &server)] {
            if let Some(frame) = frames.get(at) {
                it.send(from_client, frame).acknowledge(!from_client);
            }
        }
    }
    end(&mut it);
    it.packets
}

/// What is known of the order in which a capture has the bytes of one direction.
#[derive(Clone, Debug)]
struct Disturbance {
    sizes: Vec<usize>,
    /// From where, in parts of the whole, and how many bytes come again.
    again: Vec<(f64, usize)>,
    /// How far each piece is late.
    late: Vec<usize>,
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    (
        prop::collection::vec(1_usize..200, 1..40),
        prop::collection::vec((0.0..1.0f64, 1_usize..300), 0..20),
        prop::collection::vec(0..WINDOW, 1..60),
    )
        .prop_map(|(sizes, again, late)| Disturbance { sizes, again, late })
}

/// From and to where in the stream each packet reaches, in the order of the capture.
fn pieces(length: usize, disturbance: &Disturbance) -> Vec<(usize, usize)> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for size in disturbance.sizes.iter().cycle() {
        if from == length {
            break;
        }
        pieces.push((from, (from + size).min(length)));
        from = (from + size).min(length);
    }
    for (from, size) in &disturbance.again {
        let from = (from * length as f64) as usize;
        let at = pieces.iter().position(|piece| piece.0 >= from).unwrap_or(pieces.len());
        pieces.insert(at, (from, (from + size).min(length)));
    }
    let mut ranked: Vec<_> = pieces.into_iter().zip(disturbance.late.iter().cycle()).enumerate().collect();
    ranked.sort_by_key(|(at, (_, late))| at + **late);
    ranked.into_iter().map(|(_, (piece, _))| piece).collect()
}

/// How far a stream is known without a hole.
fn contiguous(seen: &BTreeSet<(usize, usize)>) -> usize {
    seen.iter().fold(0, |end, (from, to)| if *from <= end { end.max(*to) } else { end })
}

/// The same conversation, with its bytes in other packets.
fn disturbed(count: usize, setting: Setting, disturbances: &[Disturbance; 2]) -> Vec<Wire> {
    let mut it = upgraded(setting);
    let streams = frames(count, setting).map(|frames| frames.concat());
    let base = [it.client_next, it.server_next];
    let mut order: Vec<(f64, usize, (usize, usize))> = Vec::new();
    for (end, disturbance) in disturbances.iter().enumerate() {
        let pieces = pieces(streams[end].len(), disturbance);
        let total = pieces.len() as f64;
        order.extend(pieces.into_iter().enumerate().map(|(at, piece)| (at as f64 / total, end, piece)));
    }
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for (_, end, (from, to)) in order {
        // Nobody acknowledges what has not come.
        let mut positions = [contiguous(&seen[0]), contiguous(&seen[1])];
        positions[end] = from;
        it.client_next = base[0].wrapping_add(positions[0] as u32);
        it.server_next = base[1].wrapping_add(positions[1] as u32);
        it.send(end == 0, &streams[end][from..to]);
        seen[end].insert((from, to));
    }
    it.client_next = base[0].wrapping_add(streams[0].len() as u32);
    it.server_next = base[1].wrapping_add(streams[1].len() as u32);
    it.acknowledge(true).acknowledge(false);
    end(&mut it);
    it.packets
}

/// What is left of a capture without some packets; the kernel counts what it lost, a file does not.
fn without(packets: &[Wire], lost: &BTreeSet<usize>) -> Vec<Wire> {
    let mut left = Vec::new();
    let mut losses = 0;
    for (at, wire) in packets.iter().enumerate() {
        if lost.contains(&at) {
            losses += u64::from(wire.socket.is_some());
        } else {
            left.push(Wire { losses, ..wire.clone() });
        }
    }
    left
}

/// Holds a run with losses against the one without.
fn assert_same_but_for_losses(whole: &Told, lossy: &Told, packets: &[Wire], lost: &BTreeSet<usize>) {
    for direction in [Direction::ClientToServer, Direction::ServerToClient] {
        let is_of = |wire: &Wire| wire.from_client == (direction == Direction::ClientToServer);
        let payload = |wire: &Wire| u64::from(wire.length) - 40;
        let lost_bytes: u64 = lost.iter().map(|at| &packets[*at]).filter(|it| is_of(it)).map(payload).sum();
        let (sent, shown) = (whole.of(direction), lossy.of(direction));
        let account = direction.of(&lossy.account);
        assert_eq!(account.bytes_missing, lost_bytes, "each lost byte is called missing");
        if lost_bytes == 0 {
            // What one end sent is read alike, whatever the other end's stream lacks; but the handshake is both's.
            assert_eq!(shown, sent);
            continue;
        }
        let untouched = direction.of(&lossy.before_gap).expect("a loss is told");
        assert_eq!(shown[..untouched], sent[..untouched], "what came before the loss is as it was");
        let mut rest = sent.iter();
        for message in shown {
            if !message.says_so() {
                assert!(rest.any(|sent| *sent == message), "{message:?} was not sent, or not in this order");
                continue;
            }
            assert!(sent.iter().any(|sent| message.is_part_of(sent)), "{message:?} was not sent");
        }
        assert!(!lossy.is_complete);
    }
}

/// Neither of the handshakes nor of TCP's end: what their loss does is for other tests.
fn conversation(packets: &[Wire]) -> Range<usize> {
    8..packets.len() - 6
}

/// A small generator of numbers (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn with_one_packet_in_a_hundred_lost_no_message_differs_but_those_that_say_so() {
    const SEEDS: u64 = 40;
    for setting in SETTINGS {
        let packets = plain(300, setting);
        let whole = tell(&packets);
        assert_eq!((whole.messages.len(), whole.is_complete), (600, true));
        let mut shown = 0;
        for seed in 1..=SEEDS {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let lost: BTreeSet<usize> =
                conversation(&packets).filter(|_| next(&mut state).is_multiple_of(100)).collect();
            let lossy = tell(&without(&packets, &lost));
            assert_same_but_for_losses(&whole, &lossy, &packets, &lost);
            shown += lossy.messages.iter().filter(|message| message.missing.is_empty()).count() as u64;
        }
        // And most are there.
        assert!(shown > SEEDS * if setting.is_compressed { 150 } else { 500 }, "{setting:?}: {shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_cutting_reordering_repetition_and_overlap_gives_the_same_messages(
        setting in settings(), disturbances in [disturbance(), disturbance()],
    ) {
        let whole = tell(&plain(30, setting));
        let told = tell(&disturbed(30, setting, &disturbances));
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            prop_assert_eq!(told.of(direction), whole.of(direction));
        }
        prop_assert_eq!(told.before_gap, [None, None]);
        prop_assert_eq!(&told.anomalies, &Vec::<&str>::new());
        prop_assert_eq!(told.how, whole.how);
        prop_assert!(told.is_complete);
        for (told, whole) in told.account.iter().zip(&whole.account) {
            prop_assert_eq!((told.bytes_seen, told.frames), (whole.bytes_seen, whole.frames));
        }
    }

    #[test]
    fn any_packets_lost_change_no_message_but_those_that_say_so(
        setting in settings(), lost in prop::collection::btree_set(8_usize..180, 1..30),
    ) {
        let packets = plain(30, setting);
        let lost: BTreeSet<usize> = lost.into_iter().filter(|at| conversation(&packets).contains(at)).collect();
        let whole = tell(&packets);
        let lossy = tell(&without(&packets, &lost));
        assert_same_but_for_losses(&whole, &lossy, &packets, &lost);
    }
}

proptest! {
    // What is found by its looks is marked, since it may be wrong: in one of about a thousand such conversations it is.
    // The same ones each time, so that this fails where something changed, and not by chance.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::with_cases(128)
    })]

    #[test]
    fn a_disturbed_conversation_with_losses_shows_nothing_that_was_not_sent(
        setting in settings(), disturbances in [disturbance(), disturbance()],
        lost in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let whole = tell(&plain(30, setting));
        let packets = disturbed(30, setting, &disturbances);
        let lost = lost.iter().map(|index| 8 + index.index(packets.len() - 8)).collect();
        for message in &tell(&without(&packets, &lost)).messages {
            let sent = whole.of(message.direction);
            prop_assert!(
                if message.says_so() {
                    sent.iter().any(|sent| message.is_part_of(sent))
                } else {
                    sent.contains(&message)
                },
                "{:?} was not sent", message
            );
        }
    }
}

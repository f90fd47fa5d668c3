//! Compressed conversations through the whole engine: the handshake settles what is inflated, and how.
//!
//! Owns the claims about permessage-deflate that need every layer. Must not know any layer's inside: flate2 compresses.
//! Bounded: small conversations.

mod support;

use flate2::{Compress, Compression, FlushCompress};
use observer_core::engine::Config;
use observer_core::websocket::frame::{Opcode, encode::FrameBuilder};
use observer_core::{Limits, Record, record::Kind};
use proptest::prelude::*;
use support::{Conversation, Wire, answer, closed, key_for, messages, request, run};

/// Both ends of a conversation whose messages are compressed.
struct Compressed {
    wire: Conversation,
    contexts: [Compress; 2],
    without_takeover: [bool; 2],
}

fn with_field(head: Vec<u8>, value: &str) -> Vec<u8> {
    let head = String::from_utf8(head).unwrap();
    let fields = head.strip_suffix("\r\n").unwrap();
    format!("{fields}Sec-WebSocket-Extensions: {value}\r\n\r\n").into_bytes()
}

impl Compressed {
    fn new(answered: &str) -> Self {
        let mut wire = Conversation::new(4_000);
        wire.connect();
        wire.client_sends(&with_field(request(), "permessage-deflate; client_max_window_bits"));
        wire.server_sends(&with_field(answer(), answered));
        let compress = || Compress::new(Compression::default(), false);
        Self {
            wire,
            contexts: [compress(), compress()],
            without_takeover: ["client", "server"].map(|end| answered.contains(&format!("{end}_no_context"))),
        }
    }

    fn frame(&mut self, from_client: bool, text: &str) -> Vec<u8> {
        let end = usize::from(!from_client);
        let mut payload = Vec::with_capacity(text.len() * 2 + 100);
        self.contexts[end].compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync).unwrap();
        payload.truncate(payload.len() - 4);
        if self.without_takeover[end] {
            self.contexts[end].reset();
        }
        let mut frame = FrameBuilder::new(Opcode::Text, payload).reserved_bits(4);
        frame.mask = from_client.then(|| key_for(text));
        frame.build()
    }

    fn say(&mut self, from_client: bool, text: &str) -> &mut Self {
        let frame = self.frame(from_client, text);
        self.wire.send(from_client, &frame).acknowledge(!from_client);
        self
    }
}

fn text(number: usize) -> String {
    format!("message {number} of a conversation, {}", (number * 7_919) % 1_000)
}

fn conversation(answered: &str, count: usize) -> (Vec<Wire>, Vec<String>) {
    let mut it = Compressed::new(answered);
    let mut sent = Vec::new();
    for number in 0..count {
        for (from_client, direction) in [(true, "client_to_server"), (false, "server_to_client")] {
            let text = if from_client { text(number) } else { text(number).to_uppercase() };
            it.say(from_client, &text);
            sent.push(format!("#1 message {direction} Text {text}"));
        }
    }
    it.wire.fin(false).fin(true);
    (it.wire.packets, sent)
}

const ANSWERS: [&str; 5] = [
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
];

#[test]
fn a_compressed_conversation_is_shown_in_clear_whatever_was_negotiated() {
    for answered in ANSWERS {
        let (packets, sent) = conversation(answered, 50);
        let lines = run(Config::default(), &packets);
        assert_eq!(messages(&lines), sent, "{answered}");
        assert!(closed(&lines).ends_with("complete=true"));
        assert!(!lines.iter().any(|line| line.contains(" anomaly ")));
    }
}

#[test]
fn a_compressed_chat_has_the_chats_meaning_and_both_lengths() {
    let mut it = Compressed::new("permessage-deflate");
    let login = r#"{"type":"login","name":"mynick"}"#;
    it.say(true, login).say(true, login);
    let mut engine = observer_core::Engine::new(Config::default());
    let mut lengths = Vec::new();
    let mut sink = |record: &Record<'_>| {
        if let Kind::Message(message) = &record.kind {
            assert!(message.compressed && message.chat.is_some());
            lengths.push((message.length, message.wire_length));
        }
    };
    for packet in &it.wire.packets {
        engine.handle(observer_core::Event::Packet(packet.packet()), &mut sink);
    }
    let [(first, _), (second, on_wire)] = lengths[..] else { panic!("{lengths:?}") };
    assert_eq!((first, second), (Some(login.len() as u64), Some(login.len() as u64)));
    assert!(on_wire < 20, "{on_wire}");
}

#[test]
fn compressed_frames_in_the_segment_of_the_answer_and_ahead_of_it_are_inflated() {
    let mut it = Compressed::new("permessage-deflate");
    let (ahead, behind) = (it.frame(true, "impatient"), it.frame(false, "welcome"));
    let mut wire = Conversation::new(4_000);
    wire.connect();
    wire.client_sends(&with_field(request(), "permessage-deflate")).client_sends(&ahead);
    wire.server_sends(&[with_field(answer(), "permessage-deflate"), behind].concat());
    it.wire = wire;
    it.say(true, "patient").say(false, "well, welcome");
    let lines = run(Config::default(), &it.wire.packets);
    assert_eq!(
        messages(&lines),
        [
            "#1 message client_to_server Text impatient",
            "#1 message server_to_client Text welcome",
            "#1 message client_to_server Text patient",
            "#1 message server_to_client Text well, welcome"
        ]
    );
}

#[test]
fn rsv1_where_the_server_refused_the_offer_is_an_anomaly_and_nothing_is_inflated() {
    let mut it = Compressed::new("permessage-deflate");
    let frame = it.frame(false, "hello");
    let mut wire = Conversation::new(4_000);
    wire.connect().client_sends(&with_field(request(), "permessage-deflate")).server_sends(&answer());
    wire.server_sends(&frame);
    let lines = run(Config::default(), &wire.packets);
    assert!(lines.iter().any(|line| line.ends_with("anomaly reserved-bit-set")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("hello")));
}

#[test]
fn a_thousand_connections_hold_no_more_than_the_inflaters_bound() {
    let config =
        Config { limits: Limits { inflate_total_bytes: 200_000, ..Limits::default() }, ..Config::default() };
    let mut engine = observer_core::Engine::new(config);
    let mut limits = 0;
    let mut undecoded = 0;
    let mut decoded = 0;
    let mut sink = |record: &Record<'_>| match &record.kind {
        Kind::Message(message) if message.payload.undecoded.is_some() => undecoded += 1,
        Kind::Message(message) => {
            assert_eq!(message.payload.text.map(str::len), Some(30_000));
            decoded += 1;
        }
        Kind::Summary(summary) => limits = summary.limits.iter().sum(),
        _ => {}
    };
    let mut first = Compressed::new("permessage-deflate");
    let frame = first.frame(true, &"x".repeat(30_000));
    for port in 1..=1_000 {
        let mut wire = Conversation::new(port);
        wire.connect().client_sends(&with_field(request(), "permessage-deflate"));
        wire.server_sends(&with_field(answer(), "permessage-deflate")).client_sends(&frame);
        for packet in &wire.packets {
            engine.handle(observer_core::Event::Packet(packet.packet()), &mut sink);
        }
    }
    engine.finish(None, &mut sink);
    assert_eq!(decoded + undecoded, 1_000);
    assert!((4..8).contains(&decoded), "{decoded}");
    assert_eq!(limits, undecoded, "each is counted");
}

/// Whether `shown` is `sent` but for what it says is missing.
fn is_part_of(shown: &str, sent: &str) -> bool {
    let Some((known, holes)) = shown.split_once(" missing ") else { return shown == sent };
    let numbers: Vec<Option<usize>> = holes
        .split("offset: ")
        .skip(1)
        .flat_map(|hole| hole.splitn(2, ", length: "))
        .map(|number| {
            let digits: String = number
                .chars()
                .skip_while(|it| !it.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect();
            if number.starts_with("None") { None } else { digits.parse().ok() }
        })
        .collect();
    let begin = sent.find(" Text ").unwrap() + " Text ".len();
    let mut rest = sent[begin..].to_owned();
    for hole in numbers.chunks(2).rev() {
        let [Some(offset), length] = *hole else { panic!("{holes}") };
        let end = length.map_or(rest.len(), |length| offset + length);
        rest.drain(offset..end);
    }
    known == format!("{}{rest}", &sent[..begin])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn with_packets_lost_nothing_is_shown_of_a_compressed_conversation_that_was_not_sent(
        answered in prop::sample::select(ANSWERS.to_vec()),
        lost in prop::collection::btree_set(7_usize..85, 1..8),
    ) {
        let (packets, sent) = conversation(answered, 20);
        let left: Vec<Wire> = packets
            .iter()
            .enumerate()
            .filter(|(at, _)| !lost.contains(at))
            .map(|(_, wire)| wire.clone())
            .collect();
        let lines = run(Config::default(), &left);
        prop_assert!(!lines.iter().any(|line| line.contains(" anomaly ")), "{lines:#?}");
        for message in messages(&lines) {
            let shown = message.trim_end_matches(" resynchronised");
            prop_assert!(sent.iter().any(|sent| is_part_of(shown, sent)), "{message}\n{sent:#?}");
        }
    }

    #[test]
    fn any_cut_of_a_compressed_conversation_into_segments_shows_the_same(
        pieces in prop::collection::vec(1_usize..60, 1..40),
    ) {
        let mut it = Compressed::new("permessage-deflate");
        let stream: Vec<u8> = (0..30).flat_map(|number| it.frame(true, &text(number))).collect();
        let mut rest = &stream[..];
        for piece in pieces.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(piece.min(rest.len()));
            it.wire.send(true, now);
            rest = later;
        }
        let lines = run(Config::default(), &it.wire.packets);
        let sent: Vec<_> = (0..30).map(|number| format!("#1 message client_to_server Text {}", text(number))).collect();
        prop_assert_eq!(messages(&lines), sent);
    }
}

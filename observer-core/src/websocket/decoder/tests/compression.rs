//! permessage-deflate: what other tools trip over, each as a test, and what losses leave of it.
//!
//! Owns the compressed streams, which flate2 makes. Must not know how the decoder works inside. Bounded as above.

use super::*;
use flate2::{Compress, Compression as Level, FlushCompress};

/// Compresses messages as a peer does.
struct Sender {
    compress: Compress,
    takes_over: bool,
}

impl Sender {
    fn new() -> Self {
        Self { compress: Compress::new(Level::default(), false), takes_over: true }
    }

    fn taking_nothing_over() -> Self {
        Self { takes_over: false, ..Self::new() }
    }

    fn flush(&mut self, message: &[u8], how: FlushCompress) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() * 2 + 1_000);
        self.compress.compress_vec(message, &mut out, how).unwrap();
        if !self.takes_over || matches!(how, FlushCompress::Finish) {
            self.compress.reset();
        }
        out
    }

    /// The payload of a message.
    fn payload(&mut self, message: impl AsRef<[u8]>) -> Vec<u8> {
        // zlib does not flush twice without a byte between: peers write an empty block themselves.
        if message.as_ref().is_empty() {
            return vec![0x00];
        }
        let mut out = self.flush(message.as_ref(), FlushCompress::Sync);
        assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
        out
    }

    fn text(&mut self, message: impl AsRef<[u8]>) -> FrameBuilder {
        compressed(self.payload(message))
    }
}

fn compressed(payload: impl Into<Vec<u8>>) -> FrameBuilder {
    FrameBuilder::new(Opcode::Text, payload).reserved_bits(4)
}

fn last_fragment(payload: &[u8]) -> FrameBuilder {
    FrameBuilder::new(Opcode::Continuation, payload)
}

fn server() -> Run {
    Run::of(Decoder::new(ServerToClient, DEFLATE))
}

fn limited(limits: &Limits) -> Run {
    Run::with_limits(Decoder::new(ServerToClient, DEFLATE), limits)
}

fn texts(run: &Run) -> Vec<Option<String>> {
    run.messages().into_iter().map(|message| message.text).collect()
}

fn say(number: usize) -> String {
    format!(r#"{{"type":"say","to_uid":"all","content":"message {} of many"}}"#, number * 7_919 % 1_000)
}

fn assert_says(run: &Run, numbers: impl IntoIterator<Item = usize>) {
    assert_eq!(texts(run), numbers.into_iter().map(|it| Some(say(it))).collect::<Vec<_>>());
    assert_eq!(run.anomalies(), []);
}

fn without_takeover(client: bool, server: bool) -> Extensions {
    let parameters = DeflateParameters {
        client_no_context_takeover: client,
        server_no_context_takeover: server,
        ..DEFLATE_PARAMETERS
    };
    Extensions { compression: Compression::Deflate(parameters), unknown: false }
}

#[test]
fn a_compressed_message_is_shown_inflated() {
    for pieces in [1_000, 1] {
        let mut run = Run::of(Decoder::new(ClientToServer, DEFLATE));
        let payload = Sender::new().payload(say(1));
        let wire_length = payload.len() as u64 + 6;
        for piece in compressed(payload).masked(KEY).build().chunks(pieces) {
            run.data(piece);
        }
        let whole = KeptMessage::whole(Opcode::Text, &say(1), true);
        assert_eq!(run.message(), KeptMessage { compressed: true, wire_length, ..whole });
        assert_eq!(run.anomalies(), []);
        run.end(StreamEnd::Fin);
    }
}

#[test]
fn a_context_is_taken_over_from_message_to_message() {
    let (mut run, mut sender) = (server(), Sender::new());
    for number in 0..1_000 {
        run.data(sender.text(say(number)).build());
    }
    assert_says(&run, 0..1_000);
    assert!(run.messages()[999].wire_length < 40, "it refers to the others");
    run.end(StreamEnd::Fin);
}

#[test]
fn without_context_takeover_each_message_begins_anew_and_nothing_is_held_between_them() {
    let mut sender = Sender::taking_nothing_over();
    let mut run = Run::of(Decoder::new(ServerToClient, without_takeover(false, true)));
    for number in 0..10 {
        run.data(sender.text(say(number)).build());
        assert_eq!(run.shared.inflating_bytes(), 0);
    }
    assert_says(&run, 0..10);
}

#[test]
fn the_clients_and_the_servers_parameters_are_not_swapped() {
    for (direction, key) in [(ClientToServer, Some(KEY)), (ServerToClient, None)] {
        for client_is_without in [true, false] {
            let is_without = client_is_without == (direction == ClientToServer);
            let mut sender = if is_without { Sender::taking_nothing_over() } else { Sender::new() };
            let extensions = without_takeover(client_is_without, !client_is_without);
            let mut run = Run::of(Decoder::new(direction, extensions));
            for number in 0..10 {
                let mut frame = sender.text(say(number));
                frame.mask = key.map(|[first, second, third, _]| [first, second, third, number as u8]);
                run.data(frame.build());
            }
            assert_says(&run, 0..10);
            assert_eq!(run.shared.inflating_bytes() == 0, is_without);
        }
    }
}

#[test]
fn the_window_bits_that_were_negotiated_need_not_be_known() {
    for window_bits in 9..=15 {
        let compress = Compress::new_with_window_bits(Level::best(), false, window_bits);
        let mut sender = Sender { compress, takes_over: true };
        let mut run = server();
        for number in 0..100 {
            run.data(sender.text(say(number)).build());
        }
        assert_says(&run, 0..100);
    }
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3_are_hello() {
    let examples: [&[&[u8]]; 5] = [
        &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]],
        &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &[0xf2, 0x00, 0x11, 0x00, 0x00]],
        &[&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]],
        &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
        &[&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]],
    ];
    for example in examples {
        let mut run = server();
        for payload in example {
            run.data(compressed(*payload).build());
        }
        assert_eq!(texts(&run), vec![Some("Hello".to_owned()); example.len()]);
        assert_eq!(run.anomalies(), []);
    }
}

#[test]
fn fragments_with_control_frames_between_them_are_inflated_as_one() {
    let payload = Sender::new().payload(say(1));
    for at in 0..payload.len() {
        let (first, rest) = payload.split_at(at);
        let ping = FrameBuilder::new(Opcode::Ping, "ping");
        let mut run = server();
        run.data(concat(&[compressed(first).fragment(), ping, last_fragment(rest)]));
        assert_says(&run, [1]);
        assert_eq!(run.message().frames, 2);
        assert_eq!(run.frames()[1].known, b"ping");
    }
}

#[test]
fn fragments_of_both_directions_interleaved_are_each_inflated_with_their_own_context() {
    let mut shared = None;
    let mut ends = [server(), Run::of(Decoder::new(ClientToServer, DEFLATE))];
    let mut senders = [Sender::new(), Sender::new()];
    for number in 0..5 {
        let payloads = [senders[0].payload(say(number)), senders[1].payload(say(number + 100))];
        for half in 0..2 {
            for (end, payload) in ends.iter_mut().zip(&payloads) {
                if let Some(shared) = shared.take() {
                    end.shared = shared;
                }
                let (first, rest) = payload.split_at(7);
                let frame = if half == 0 { compressed(first).fragment() } else { last_fragment(rest) };
                let mask = (end.decoder.direction == ClientToServer).then_some([1, 2, number as u8, half]);
                end.data(FrameBuilder { mask, ..frame }.build());
                shared = Some(std::mem::replace(&mut end.shared, Shared::new(&Limits::default(), false)));
            }
        }
    }
    assert_says(&ends[0], 0..5);
    assert_says(&ends[1], 100..105);
}

#[test]
fn an_empty_final_fragment_ends_a_message() {
    // Behind an encoder that flushes each fragment (RFC 7692 §7.2.3.6), and behind one that does not.
    for last in [&[0x00][..], &[]] {
        let (mut run, mut sender) = (server(), Sender::new());
        for number in 0..3 {
            let whole = match last {
                [] => sender.payload(say(number)),
                _ => sender.flush(say(number).as_bytes(), FlushCompress::Sync),
            };
            let empty = last_fragment(&[]).fragment();
            run.data(concat(&[compressed(whole).fragment(), empty, last_fragment(last)]));
        }
        assert_says(&run, 0..3);
    }
}

#[test]
fn empty_messages_are_empty_and_leave_the_context_as_it_was() {
    let (mut run, mut sender) = (server(), Sender::new());
    run.data(sender.text(say(0)).build());
    run.data(compressed([0x00]).build()).data(compressed([]).build());
    run.data(sender.text(say(1)).build());
    assert_eq!(texts(&run), [Some(say(0)), Some(String::new()), Some(String::new()), Some(say(1))]);
    assert_eq!((run.messages()[1].length, run.messages()[1].compressed), (Some(0), true));
    assert_eq!(run.anomalies(), []);
}

#[test]
fn an_uncompressed_message_between_compressed_ones_is_shown_and_leaves_the_context() {
    let (mut run, mut sender) = (server(), Sender::new());
    for number in [0, 2, 4] {
        run.data(concat(&[sender.text(say(number)), text(&say(number + 1))]));
    }
    assert_says(&run, 0..6);
    assert_eq!(run.messages().iter().filter(|message| message.compressed).count(), 3);
}

#[test]
fn rsv1_on_a_continuation_is_an_anomaly_and_changes_nothing() {
    let (mut run, mut sender) = (server(), Sender::new());
    let payload = sender.payload(say(1));
    let (first, rest) = payload.split_at(9);
    let last = last_fragment(rest).reserved_bits(4);
    run.data(concat(&[compressed(first).fragment(), last, sender.text(say(2))]));
    assert_eq!(run.anomalies(), [AnomalyCode::CompressionBitMisplaced]);
    assert_eq!(texts(&run), [Some(say(1)), Some(say(2))]);
    // Neither does it compress a message that began without.
    run.data(concat(&[text("a").fragment(), continuation("b").reserved_bits(4)]));
    assert_eq!(run.messages()[2].text.as_deref(), Some("ab"));
}

#[test]
fn messages_that_end_with_bfinal_do_not_silence_those_behind() {
    for tail in [&[][..], &[0x00]] {
        let (mut run, mut sender) = (server(), Sender::new());
        for number in 0..4 {
            let mut payload = sender.flush(say(number).as_bytes(), FlushCompress::Finish);
            payload.extend_from_slice(tail);
            run.data(compressed(payload).build());
        }
        run.data(concat(&[sender.text(say(4)), sender.text(say(5))]));
        assert_says(&run, 0..6);
    }
}

#[test]
fn what_follows_bfinal_in_the_same_message_belongs_to_it() {
    let mut sender = Sender::new();
    let mut payload = sender.flush(say(1).as_bytes(), FlushCompress::Finish);
    payload.extend(sender.payload(say(2)));
    let mut run = server();
    run.data(compressed(payload).build());
    assert_eq!(run.message().text, Some(say(1) + &say(2)));
    assert_eq!(run.anomalies(), []);
}

#[test]
fn a_tail_that_the_sender_left_in_place_is_none_of_the_next_message() {
    let (mut run, mut sender) = (server(), Sender::new());
    for number in 0..3 {
        run.data(compressed(sender.flush(say(number).as_bytes(), FlushCompress::Sync)).build());
    }
    assert_says(&run, 0..3);
}

#[test]
fn data_that_are_not_deflate_are_an_anomaly_and_not_shown() {
    for payload in [&b"\x06"[..], b"\x01\x02", b"\xf2\x48\xcd\xc9"] {
        let mut run = server();
        run.data(concat(&[compressed(payload), text("plain")]));
        assert_eq!(run.anomalies(), [AnomalyCode::DeflateInvalid]);
        let [message, plain] = &run.messages()[..] else { panic!("{:?}", run.items) };
        assert!(message.compressed && message.undecoded == Some(INVALID_DEFLATE));
        assert_eq!((message.length, message.known.len(), message.missing.len()), (None, 0, 0));
        assert_eq!(*plain, whole_text("plain"));
    }
}

#[test]
fn behind_invalid_data_what_refers_to_nothing_unknown_is_shown() {
    let (mut run, mut sender) = (server(), Sender::new());
    run.data(sender.text(say(0)).build()).data(compressed(b"\x06").build());
    run.data(sender.text("0123456789").build());
    assert_eq!(run.anomalies(), [AnomalyCode::DeflateInvalid]);
    assert_eq!(run.messages()[2].text.as_deref(), Some("0123456789"));
    run.end(StreamEnd::Fin);
}

#[test]
fn text_that_is_not_utf_8_once_inflated_is_an_anomaly() {
    let (mut run, mut sender) = (server(), Sender::new());
    run.data(sender.text(b"\xff").build());
    assert_eq!(run.anomalies(), [AnomalyCode::InvalidUtf8]);
    assert_eq!(run.message().known, b"\xff");
}

#[test]
fn characters_are_whole_however_the_compressed_bytes_are_cut() {
    let payload = Sender::new().payload("日本語日本語 äöü");
    for at in 0..payload.len() {
        let (first, rest) = payload.split_at(at);
        let mut run = server();
        run.data(concat(&[compressed(first).fragment(), last_fragment(rest)]));
        assert_eq!(run.message().text.as_deref(), Some("日本語日本語 äöü"));
        assert_eq!(run.anomalies(), []);
    }
}

// Bounds.

#[test]
fn a_bomb_is_an_anomaly_and_the_rest_of_the_connection_is_decoded() {
    let limits = Limits { message_bytes: 1_000, inflated_bytes: 100_000, ..Limits::default() };
    let (mut run, mut sender) = (limited(&limits), Sender::new());
    run.data(sender.text(vec![b'a'; 16 << 20]).build());
    assert_eq!(run.anomalies(), [AnomalyCode::InflatedTooLong]);
    assert_eq!(run.limits(), [Limit::Message, Limit::Inflated]);
    let bomb = run.message();
    assert_eq!((bomb.known.len(), bomb.length), (1_000, None));
    assert_eq!(bomb.missing, [missing(1_000, None)]);
    run.data(sender.text("0123456789").build()).data(text("plain").build());
    assert_eq!(run.messages()[1].text.as_deref(), Some("0123456789"));
    assert_eq!(run.messages()[2], whole_text("plain"));
    run.end(StreamEnd::Fin);
}

#[test]
fn a_message_beyond_what_is_kept_keeps_its_context_and_its_length() {
    let limits = Limits { message_bytes: 100, ..Limits::default() };
    let (mut run, mut sender) = (limited(&limits), Sender::new());
    run.data(sender.text("0123456789".repeat(1_000)).build()).data(sender.text("34567").build());
    let [long, short] = &run.messages()[..] else { panic!("{:?}", run.items) };
    assert_eq!((long.known.len(), long.length), (100, Some(10_000)));
    assert_eq!(short.text.as_deref(), Some("34567"));
    assert_eq!((run.limits(), run.anomalies()), (vec![Limit::Message], vec![]));
}

#[test]
fn all_inflaters_together_stay_within_their_bound() {
    let limits = Limits { inflate_total_bytes: 50_000, ..Limits::default() };
    let mut first = limited(&limits);
    let (mut sender, mut other_sender) = (Sender::new(), Sender::new());
    first.data(sender.text(vec![b'a'; 40_000]).build());
    let before = first.shared.inflating_bytes();
    assert!((30_000..50_000).contains(&before), "{before}");

    let mut other = server();
    std::mem::swap(&mut first.shared, &mut other.shared);
    other.data(other_sender.text(say(0)).build());
    assert_eq!(other.message().undecoded, Some(NO_ROOM_TO_INFLATE));
    assert_eq!((other.limits(), other.anomalies()), (vec![Limit::InflateTotal], vec![]));
    assert_eq!(other.shared.inflating_bytes(), before);

    std::mem::swap(&mut first.shared, &mut other.shared);
    first.end(StreamEnd::Fin);
    std::mem::swap(&mut first.shared, &mut other.shared);
    other.data(other_sender.text("0123456789").build());
    assert_eq!(other.messages()[1].text.as_deref(), Some("0123456789"));
    other.end(StreamEnd::Fin);
}

#[test]
fn contexts_that_are_there_go_on_where_new_ones_find_no_room() {
    let limits = Limits { inflate_total_bytes: 1 << 20, ..Limits::default() };
    let (mut early, mut sender) = (limited(&limits), Sender::new());
    early.data(sender.text(say(0)).build());
    let filling = Sender::new().text(vec![b'a'; 40_000]).build();
    for number in 0.. {
        let mut new = server();
        std::mem::swap(&mut early.shared, &mut new.shared);
        new.data(&filling);
        std::mem::swap(&mut early.shared, &mut new.shared);
        assert!(number < 40);
        if new.message().undecoded == Some(NO_ROOM_TO_INFLATE) {
            break;
        }
    }
    early.data(sender.text(say(1)).build());
    assert_says(&early, [0, 1]);
}

#[test]
fn small_messages_that_become_large_leave_memory_for_those_of_others() {
    let limits = Limits { message_bytes: 1 << 20, message_total_bytes: 1 << 20, ..Limits::default() };
    let mut other = limited(&limits);
    let frame = Sender::new().text(vec![b'a'; 1 << 20]).fragment().build();
    for _ in 0..40 {
        let mut large = server();
        std::mem::swap(&mut other.shared, &mut large.shared);
        large.data(&frame);
        std::mem::swap(&mut other.shared, &mut large.shared);
        assert!(other.shared.held_bytes() <= 1 << 20);
    }
    other.data(Sender::new().text(say(0)).build());
    assert_says(&other, [0]);
}

// Losses.

#[test]
fn behind_a_hole_the_rest_of_its_message_is_missing_and_what_is_copied_from_it() {
    let (mut run, mut sender) = (server(), Sender::new());
    let frame = sender.text("abcdefghijklmnopqrstuvwxyz").build();
    run.data(&frame[..12]).gap(3).data(&frame[15..]);
    let message = run.message();
    assert!(message.known.len() > 3 && b"abcdefghijklmnopqrstuvwxyz".starts_with(&message.known));
    assert_eq!(message.missing, [missing(message.known.len() as u64, None)]);
    assert_eq!((message.undecoded, message.length), (None, None));
    run.data(sender.text("0123 abcdefghij 4567").build());
    let message = &run.messages()[1];
    assert_eq!(message.known, b"0123 a 4567");
    assert_eq!((&message.missing[..], message.length), (&[missing(6, 9)][..], Some(20)));
    assert_eq!(message.text.as_deref(), Some("0123 a 4567"));
    run.data(sender.text("0123").build());
    assert_eq!(run.messages()[2].text.as_deref(), Some("0123"));
    assert_eq!(run.anomalies(), []);
}

#[test]
fn too_many_holes_are_told_of_once_whatever_is_lost_behind_them() {
    let limits = Limits { message_holes: 2, ..Limits::default() };
    let (mut run, mut sender) = (limited(&limits), Sender::new());
    let frame = sender.text("abcdefghijklmnopqrstuvwxyz").build();
    run.data(&frame[..12]).gap(3).data(&frame[15..]);
    let frame = sender
        .text("0 defghi 1 jklmno 2 pqrstu 3 some more that is new, of which two parts are lost")
        .build();
    let (start, end) = frame.split_at(frame.len() - 20);
    run.data(start).gap(3).data(&end[3..10]).gap(3).data(&end[13..]);
    let message = &run.messages()[1];
    assert!(message.known.starts_with(b"0 "), "{message:?}");
    assert_eq!((message.missing.len(), message.missing[1].length), (2, None));
    assert_eq!(run.limits(), [Limit::MessageHoles]);
    run.end(StreamEnd::Fin);
}

#[test]
fn without_context_takeover_the_message_behind_a_loss_is_whole() {
    let mut sender = Sender::taking_nothing_over();
    let mut run = Run::of(Decoder::new(ServerToClient, without_takeover(false, true)));
    let frame = sender.text(say(0)).build();
    run.data(&frame[..12]).gap(3).data(&frame[15..]);
    run.data(sender.text(say(1)).build());
    assert_eq!(run.messages()[1].text, Some(say(1)));
    // Over a header, too.
    run.gap(10).data(sender.text(say(2)).build());
    assert_eq!(run.messages()[2].text, Some(say(2)));
    assert!(run.messages()[2].resynchronised);
}

#[test]
fn behind_a_lost_place_nothing_of_the_old_context_is_shown() {
    let (mut run, mut sender) = (server(), Sender::new());
    run.data(sender.text("abcdefghij").build());
    let lost = sender.text("ABCDEFGHIJ").build();
    run.gap(lost.len()).data(sender.text("0123 abcdefghij").build());
    let message = &run.messages()[1];
    assert_eq!((message.known.as_slice(), message.resynchronised), (&b"0123 a"[..], true));
    assert_eq!(message.missing, [missing(6, 9)]);
}

#[test]
fn a_hole_in_a_control_frame_or_an_uncompressed_message_leaves_the_context() {
    let (mut run, mut sender) = (server(), Sender::new());
    run.data(sender.text(say(0)).build());
    for frame in [FrameBuilder::new(Opcode::Ping, "ping"), text("0123456789")] {
        let frame = frame.build();
        run.data(&frame[..3]).gap(2).data(&frame[5..]);
    }
    run.data(sender.text(say(0)).build());
    assert_eq!(run.messages()[2].text, Some(say(0)));
}

#[test]
fn a_message_that_another_one_breaks_off_loses_the_context() {
    let (mut run, mut sender) = (server(), Sender::new());
    let payload = sender.payload("abcdefghij");
    run.data(compressed(&payload[..4]).fragment().build());
    run.data(sender.text("0123 abcdefghij").build());
    assert_eq!(run.anomalies(), [AnomalyCode::DataFrameInsideMessage]);
    assert_eq!(run.messages()[1].known, b"0123 a");
}

#[test]
fn a_connection_that_was_open_before_is_shown_as_far_as_nothing_unknown_is_copied() {
    let mut sender = Sender::new();
    sender.payload("abcdefghij");
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(sender.text("0123456789").build()).data(sender.text("01234 abcdefghij").build());
    let [whole, cut] = &run.messages()[..] else { panic!("{:?}", run.items) };
    assert_eq!(whole.text.as_deref(), Some("0123456789"));
    assert!(whole.compressed && whole.resynchronised);
    assert_eq!((cut.known.as_slice(), &cut.missing[..]), (&b"01234 a"[..], &[missing(7, 9)][..]));
    run.end(StreamEnd::Unseen);
}

#[test]
fn the_rest_of_a_message_that_began_before_is_not_shown_where_it_may_be_compressed() {
    let mut sender = Sender::new();
    let payload = sender.payload(say(1));
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(last_fragment(&payload[9..]).build()).data(sender.text("0123456789").build());
    let [rest, whole] = &run.messages()[..] else { panic!("{:?}", run.items) };
    assert_eq!((rest.undecoded, rest.known.len()), (Some(PERHAPS_DEFLATE), 0));
    assert_eq!(whole.text.as_deref(), Some("0123456789"));
    // What is text is shown: compressed data are not, but for a few bytes.
    let mut run = Run::of(Decoder::resynchronising(ServerToClient));
    run.data(last_fragment(b"the rest of a text").build()).data(text("next").build());
    assert_eq!(run.messages()[0].text.as_deref(), Some("the rest of a text"));
    run.end(StreamEnd::Unseen);
}

#[test]
fn behind_a_bound_and_a_hole_all_of_a_compressed_message_is_missing_and_further_holes_change_nothing() {
    let mut run = limited(&Limits { message_bytes: 64, ..Limits::default() });
    let noise: Vec<u8> = (0..400_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
    let frame = Sender::new().text(noise).build();
    run.data(&frame[..200]).gap(30).data(&frame[230..240]).gap(10).data(&frame[250..]).end(StreamEnd::Fin);
    assert_eq!(run.message().missing, [missing(64, None)]);
}

#[test]
fn behind_unknown_bytes_and_a_hole_all_of_a_compressed_message_is_missing_and_further_holes_change_nothing() {
    let mut sender = Sender::new();
    sender.text(say(1));
    // It begins with what the first one has, which was not seen.
    let noise: Vec<u8> = (0..400_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
    let frame = sender.text([say(1).as_bytes(), &noise].concat()).build();
    for known in [8, 200] {
        let mut run = Run::of(Decoder::resynchronising(ServerToClient));
        run.data(&frame[..known]).gap(30).data(&frame[known + 30..known + 40]).gap(10);
        run.data(&frame[known + 50..]).data(sender.text(say(2)).build()).end(StreamEnd::Fin);
        let holes = run.messages()[0].missing.clone();
        assert_eq!(holes.iter().filter(|hole| hole.length.is_none()).count(), 1, "{holes:?}");
        assert_eq!(holes.last().unwrap().length, None);
    }
}

/// A message, whether it is compressed, and the length of its frames' payloads.
type Sent = (Vec<u8>, bool, usize);

fn any_messages() -> impl Strategy<Value = Vec<Sent>> {
    let message = prop_oneof![
        3 => (0usize..1_000).prop_map(|it| say(it).into_bytes()),
        1 => proptest::collection::vec(b'a'..b'e', 0..300),
        1 => (0usize..30_000).prop_map(|length| vec![b'x'; length]),
    ];
    proptest::collection::vec((message, any::<bool>(), 1usize..30), 1..30)
}

/// The frames of binary messages.
fn frames_of(messages: &[Sent], level: u32) -> Vec<Vec<u8>> {
    let mut sender = Sender { compress: Compress::new(Level::new(level), false), takes_over: true };
    let mut frames = Vec::new();
    for (message, is_compressed, size) in messages {
        let payload = if *is_compressed { sender.payload(message) } else { message.clone() };
        let count = payload.len().div_ceil(*size).max(1);
        for index in 0..count {
            let piece = payload.chunks(*size).nth(index).unwrap_or_default();
            let opcode = if index == 0 { Opcode::Binary } else { Opcode::Continuation };
            let mut frame = FrameBuilder::new(opcode, piece);
            frame.rsv = if index == 0 && *is_compressed { 4 } else { 0 };
            frame.fin = index == count - 1;
            frames.push(frame.build());
        }
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_of_a_compressed_stream_gives_the_messages_that_were_sent(
        messages in any_messages(), level in 0u32..10, sizes in proptest::collection::vec(1usize..200, 1..20),
    ) {
        let mut run = server();
        cut(&frames_of(&messages, level).concat(), &sizes).iter().for_each(|piece| { run.data(piece); });
        run.end(StreamEnd::Fin);
        prop_assert_eq!(run.anomalies(), []);
        let found: Vec<_> = run.messages().into_iter().map(|it| (it.known, it.compressed)).collect();
        let sent: Vec<_> = messages.into_iter().map(|(message, compressed, _)| (message, compressed)).collect();
        prop_assert!(found == sent);
    }

    #[test]
    fn with_a_part_of_a_payload_lost_no_byte_of_any_message_is_wrong(
        messages in any_messages(), level in 0u32..10, victim: prop::sample::Index, from: prop::sample::Index,
        length: prop::sample::Index,
    ) {
        let whole: Vec<Sent> = messages.into_iter().map(|(message, is_compressed, _)| (message, is_compressed, usize::MAX)).collect();
        let frames = frames_of(&whole, level);
        let victim = victim.index(frames.len());
        let mut reference = server();
        let mut run = server();
        for (index, frame) in frames.iter().enumerate() {
            reference.data(frame);
            let header = match frame[1] & 0x7f { 126 => 4, 127 => 10, _ => 2 };
            if index == victim && frame.len() > header {
                // The place stays known: only the payload has a hole.
                let from = header + from.index(frame.len() - header);
                let length = 1 + length.index(frame.len() - from);
                run.data(&frame[..from]).gap(length).data(&frame[from + length..]);
            } else {
                run.data(frame);
            }
        }
        run.end(StreamEnd::Fin);
        prop_assert_eq!(run.anomalies(), []);
        let (found, sent) = (run.messages(), reference.messages());
        prop_assert_eq!(found.len(), sent.len());
        for (index, (found, sent)) in found.iter().zip(&sent).enumerate() {
            prop_assert!(is_part_of(found, sent), "{:?} was not sent", found);
            prop_assert!(index >= victim || found == sent);
            prop_assert!(!found.missing.is_empty() || found.known == sent.known);
        }
    }
}

//! Rules that need more than one frame or something agreed on: who breaks each is told, and who has an excuse is not.
//!
//! Owns the streams that break them. Must not know how the decoder works inside. Bounded as above.

use super::*;
use flate2::{Compress, Compression as Level, FlushCompress};

const UNKNOWN: Extensions = Extensions { compression: Compression::Off, unknown: true };

/// A frame of a client, masked with one of many keys.
fn masked(frame: FrameBuilder, number: u8) -> Vec<u8> {
    frame.masked([number, 2, 3, 4]).build()
}

/// A decoder of a connection that was open before, which has found its place and proved it.
fn late(direction: Direction) -> Run {
    let mut run = Run::of(Decoder::resynchronising(direction));
    for number in 0..12 {
        let frame = text("some text");
        let bytes = if direction == ClientToServer { masked(frame, number) } else { frame.build() };
        run.data(bytes);
    }
    assert!(run.decoder.is_proved());
    assert_eq!(run.anomalies(), []);
    run
}

/// Bytes in which nothing repeats, then the first 50 again: a match `distance` bytes back.
fn referring_back(distance: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut message: Vec<u8> = (0..distance)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    message.extend_from_within(..50);
    message
}

fn compressed(compress: &mut Compress, message: &[u8]) -> FrameBuilder {
    let mut payload = Vec::with_capacity(message.len() * 2 + 100);
    compress.compress_vec(message, &mut payload, FlushCompress::Sync).unwrap();
    payload.truncate(payload.len() - 4);
    FrameBuilder::new(Opcode::Binary, payload).reserved_bits(4)
}

fn compressor() -> Compress {
    Compress::new(Level::best(), false)
}

fn deflate(parameters: DeflateParameters) -> Extensions {
    Extensions { compression: Compression::Deflate(parameters), unknown: false }
}

// Masking keys.

#[test]
fn a_client_that_masks_every_frame_with_the_same_key_is_told_once() {
    let mut run = Run::new(ClientToServer);
    for _ in 0..20 {
        run.data(text("a").masked(KEY).build());
    }
    assert_eq!(run.anomalies(), [AnomalyCode::MaskingKeyRepeated]);
    assert_eq!(run.messages().len(), 20);
}

#[test]
fn a_key_that_comes_again_some_times_is_chance() {
    let mut run = Run::new(ClientToServer);
    for number in 0..100 {
        run.data(masked(text("a"), number / 7));
    }
    assert_eq!(run.anomalies(), []);
}

#[test]
fn behind_a_gap_keys_are_counted_from_where_the_place_is_proved() {
    let mut run = Run::new(ClientToServer);
    let say = |run: &mut Run| _ = run.data(text("a text").masked(KEY).build());
    for _ in 0..5 {
        say(&mut run);
    }
    run.gap(100);
    while !run.decoder.is_proved() {
        say(&mut run);
    }
    for _ in 0..6 {
        say(&mut run);
    }
    assert_eq!(run.anomalies(), []);
    say(&mut run);
    assert_eq!(run.anomalies(), [AnomalyCode::MaskingKeyRepeated]);
}

// Compression.

#[test]
fn a_message_that_refers_farther_back_than_was_agreed_is_told_and_decoded() {
    for (direction, of_client, of_server) in [(ClientToServer, 9, 15), (ServerToClient, 15, 9)] {
        let parameters = DeflateParameters {
            client_max_window_bits: of_client,
            server_max_window_bits: of_server,
            ..DEFLATE_PARAMETERS
        };
        for (distance, told) in [(512, false), (513, true)] {
            let mut run = Run::of(Decoder::new(direction, deflate(parameters)));
            let message = referring_back(distance);
            let mut compress = compressor();
            for number in 0..2 {
                let mut frame = compressed(&mut compress, &message);
                frame.mask = (direction == ClientToServer).then_some([number; 4]);
                run.data(frame.build());
                compress.reset();
            }
            let expected: &[_] = if told { &[AnomalyCode::DeflateWindowExceeded; 2] } else { &[] };
            assert_eq!(run.anomalies(), expected, "{direction:?}, {distance}");
            assert!(run.messages().iter().all(|it| it.known == message && it.missing.is_empty()));
        }
    }
}

#[test]
fn the_other_ends_window_binds_nobody() {
    let parameters = DeflateParameters { client_max_window_bits: 8, ..DEFLATE_PARAMETERS };
    let mut run = Run::of(Decoder::new(ServerToClient, deflate(parameters)));
    run.data(compressed(&mut compressor(), &referring_back(5_000)).build());
    assert_eq!(run.anomalies(), []);
}

#[test]
fn a_distance_within_an_earlier_message_counts_as_one_within_this() {
    let parameters = DeflateParameters { server_max_window_bits: 9, ..DEFLATE_PARAMETERS };
    let mut run = Run::of(Decoder::new(ServerToClient, deflate(parameters)));
    let mut compress = compressor();
    let (first, again) = (referring_back(600), &referring_back(600)[..50]);
    run.data(compressed(&mut compress, &first[..600]).build());
    assert_eq!(run.anomalies(), []);
    run.data(compressed(&mut compress, again).build());
    assert_eq!(run.anomalies(), [AnomalyCode::DeflateWindowExceeded]);
    assert_eq!(run.messages()[1].known, again);
}

#[test]
fn a_message_behind_one_that_refers_too_far_back_is_judged_by_itself() {
    let parameters = DeflateParameters { server_max_window_bits: 9, ..DEFLATE_PARAMETERS };
    let mut run = Run::of(Decoder::new(ServerToClient, deflate(parameters)));
    for message in [referring_back(600), b"short".to_vec()] {
        run.data(compressed(&mut compressor(), &message).build());
    }
    assert_eq!(run.anomalies(), [AnomalyCode::DeflateWindowExceeded]);
}

#[test]
fn a_message_that_takes_over_where_it_was_agreed_not_to_is_told_and_the_next_decoded() {
    let parameters = DeflateParameters { server_no_context_takeover: true, ..DEFLATE_PARAMETERS };
    let mut run = Run::of(Decoder::new(ServerToClient, deflate(parameters)));
    let mut compress = compressor();
    let message = referring_back(500);
    run.data(compressed(&mut compress, &message).build());
    run.data(compressed(&mut compress, &message).build());
    assert_eq!(run.anomalies(), [AnomalyCode::DeflateWindowExceeded]);
    assert_eq!(run.messages()[1].undecoded, Some(TAKEN_OVER));
    run.data(compressed(&mut compressor(), &message).build());
    assert_eq!(run.messages()[2].known, message);
    assert_eq!(run.anomalies().len(), 1);
}

#[test]
fn before_the_first_byte_of_all_there_is_nothing_to_refer_to() {
    let mut compress = compressor();
    let message = referring_back(500);
    compressed(&mut compress, &message);
    let mut run = Run::of(Decoder::new(ServerToClient, DEFLATE));
    run.data(compressed(&mut compress, &message).build());
    assert_eq!(run.anomalies(), [AnomalyCode::DeflateInvalid]);
}

#[test]
fn what_was_agreed_in_a_handshake_that_was_not_seen_is_not_judged() {
    let mut run = late(ServerToClient);
    let mut compress = compressor();
    compressed(&mut compress, &referring_back(500));
    run.data(compressed(&mut compress, &referring_back(30_000)).build());
    assert_eq!(run.anomalies(), []);
}

#[test]
fn rsv1_is_misplaced_on_control_frames_and_continuations_only_where_it_has_a_meaning() {
    let misplaced = || {
        let continuation = FrameBuilder::new(Opcode::Continuation, "b").reserved_bits(4);
        concat(&[text("a").fragment(), FrameBuilder::new(Opcode::Pong, "").reserved_bits(4), continuation])
    };
    for (extensions, code) in [
        (DEFLATE, AnomalyCode::CompressionBitMisplaced),
        (Extensions::default(), AnomalyCode::ReservedBitSet),
    ] {
        let mut run = Run::of(Decoder::new(ServerToClient, extensions));
        run.data(misplaced());
        assert_eq!(run.anomalies(), [code; 2]);
    }
}

#[test]
fn the_other_reserved_bits_have_no_meaning_in_compression() {
    let mut run = Run::of(Decoder::new(ServerToClient, DEFLATE));
    run.data(concat(&[text("a").reserved_bits(2), text("b").reserved_bits(1)]));
    assert_eq!(run.anomalies(), [AnomalyCode::ReservedBitSet; 2]);
}

// Excuses.

/// Each breaks a rule that an extension could have changed.
fn excusable() -> Vec<Vec<u8>> {
    let close = |code: u16| FrameBuilder::new(Opcode::Close, code.to_be_bytes()).build();
    vec![
        FrameBuilder::new(Opcode::Reserved(3), "x").build(),
        FrameBuilder::new(Opcode::Ping, "x").reserved_bits(7).build(),
        FrameBuilder::new(Opcode::Text, b"\xff").build(),
        concat(&[text("a").fragment(), text("b")]),
        continuation("a").build(),
        concat(&[FrameBuilder::new(Opcode::Text, b"\xff").fragment(), continuation("b")]),
        close(1016),
        close(1004),
    ]
}

#[test]
fn an_unknown_extension_excuses_what_it_may_allow() {
    for bytes in excusable() {
        let mut run = Run::of(Decoder::new(ServerToClient, UNKNOWN));
        run.data(&bytes);
        assert_eq!(run.anomalies(), [], "{bytes:x?}");
        let mut run = Run::new(ServerToClient);
        run.data(&bytes);
        assert_ne!(run.anomalies(), [], "without an extension: {bytes:x?}");
    }
}

#[test]
fn a_handshake_that_was_not_seen_may_have_settled_an_extension() {
    for bytes in excusable() {
        let mut run = late(ServerToClient);
        run.data(&bytes);
        assert_eq!(run.anomalies(), [], "{bytes:x?}");
    }
}

#[test]
fn no_extension_excuses_what_none_can_allow() {
    let close = |payload: &[u8]| FrameBuilder::new(Opcode::Close, payload);
    for (frame, code) in [
        (text("a").masked(KEY), AnomalyCode::MaskedServerFrame),
        (FrameBuilder::new(Opcode::Ping, "").fragment(), AnomalyCode::FragmentedControlFrame),
        (FrameBuilder::new(Opcode::Ping, vec![0; 126]), AnomalyCode::LongControlFrame),
        (text("a").length_form(LengthForm::Sixteen), AnomalyCode::NonMinimalLength),
        (close(&[3]), AnomalyCode::ClosePayloadTooShort),
        (close(&1006_u16.to_be_bytes()), AnomalyCode::CloseCodeInvalid),
        (close(b"\x03\xe8\xff"), AnomalyCode::CloseReasonInvalidUtf8),
    ] {
        for mut run in [Run::of(Decoder::new(ServerToClient, UNKNOWN)), late(ServerToClient)] {
            run.data(frame.build());
            assert_eq!(run.anomalies(), [code]);
        }
    }
}

#[test]
fn nothing_is_told_of_a_place_that_was_found_by_looks() {
    let mut run = Run::new(ServerToClient);
    run.data(text("before").build()).gap(100);
    run.data(concat(&[text("a").fragment(), FrameBuilder::new(Opcode::Continuation, b"\xff")]));
    assert!(run.decoder.is_synchronised() && !run.decoder.is_proved());
    assert_eq!(run.anomalies(), []);
}

#[test]
fn a_message_that_a_close_frame_cut_short_is_in_order() {
    let close = || FrameBuilder::new(Opcode::Close, "");
    let mut run = Run::new(ServerToClient);
    run.data(concat(&[text("a").fragment(), close()])).end(StreamEnd::Fin);
    assert_eq!(run.anomalies(), []);
    let mut run = Run::new(ServerToClient);
    run.data(text("a").fragment().build()).end(StreamEnd::Fin);
    assert_eq!(run.anomalies(), [AnomalyCode::StreamEndsInsideMessage]);
}

#[test]
fn a_peer_that_keeps_the_rules_is_never_blamed() {
    let mut compress = compressor();
    for direction in [ClientToServer, ServerToClient] {
        let mut run = Run::of(Decoder::new(direction, DEFLATE));
        let close = FrameBuilder::new(Opcode::Close, b"\x0f\xa0bye \xe7\x8c\xaa");
        let frames = [
            text("猪"),
            FrameBuilder::new(Opcode::Text, &"猪".as_bytes()[..1]).fragment(),
            FrameBuilder::new(Opcode::Ping, vec![0xff; 125]),
            FrameBuilder::new(Opcode::Continuation, "").fragment(),
            FrameBuilder::new(Opcode::Continuation, &"猪".as_bytes()[1..]),
            FrameBuilder::new(Opcode::Pong, ""),
            binary(&[0xff; 126]),
            binary(&vec![0xff; 70_000]),
            compressed(&mut compress, &referring_back(30_000)),
            close,
            FrameBuilder::new(Opcode::Pong, "late"),
        ];
        for (number, mut frame) in (0..).zip(frames) {
            frame.mask = (direction == ClientToServer).then_some([number; 4]);
            run.data(frame.build());
        }
        run.end(StreamEnd::Fin);
        assert_eq!(run.anomalies(), []);
        compress.reset();
    }
}

//! The inflater against flate2, which nobody here wrote, and its behaviours, one a test.
//!
//! Owns the streams. Must not know how the inflater works inside. Bounded: small streams, but for the window's size.

use super::*;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;

const ENDLESS: u64 = u64::MAX;

/// What came out, each byte or that it is unknown.
fn collect(
    inflater: &mut Inflater,
    input: &[u8],
    chunk: usize,
    maximum: u64,
) -> (Vec<Option<u8>>, Result<(), Stop>) {
    let mut out = Vec::new();
    let mut result = Ok(());
    for chunk in input.chunks(chunk.max(1)) {
        result = inflater.inflate(chunk, maximum, &mut |piece| match piece {
            Piece::Known(bytes) => out.extend(bytes.iter().copied().map(Some)),
            Piece::Unknown(length) => out.resize(out.len() + length, None),
        });
        if result.is_err() {
            break;
        }
    }
    (out, result)
}

fn known(bytes: &[u8]) -> Vec<Option<u8>> {
    bytes.iter().copied().map(Some).collect()
}

fn inflate(input: &[u8]) -> (Vec<Option<u8>>, Result<(), Stop>) {
    collect(&mut Inflater::new(true), input, usize::MAX, ENDLESS)
}

fn assert_invalid(input: &[u8]) {
    let (_, result) = inflate(input);
    assert!(matches!(result, Err(Stop::Invalid(_))), "{result:?}");
}

/// Compresses each part and flushes behind it.
fn compress(parts: &[Vec<u8>], level: u32, window_bits: u8, flush: FlushCompress) -> Vec<Vec<u8>> {
    let mut compress = Compress::new_with_window_bits(Compression::new(level), false, window_bits);
    parts
        .iter()
        .map(|part| {
            let mut out = Vec::with_capacity(part.len() * 2 + 1_000);
            let before = compress.total_in();
            compress.compress_vec(part, &mut out, flush).unwrap();
            assert_eq!(compress.total_in() - before, part.len() as u64);
            out
        })
        .collect()
}

/// What flate2 makes of a stream, and whether it found a fault.
fn oracle(input: &[u8], capacity: usize) -> (Vec<u8>, bool) {
    let mut decompress = Decompress::new(false);
    let mut out = Vec::with_capacity(capacity);
    let result = decompress.decompress_vec(input, &mut out, FlushDecompress::Sync);
    (out, result.is_err())
}

/// Writes single bits and codes, to make streams that no encoder makes.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u64, count: u32) -> &mut Self {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
        self
    }

    /// A code, whose first bit is its highest.
    fn code(&mut self, code: u32, length: u32) -> &mut Self {
        self.put((code.reverse_bits() >> (32 - length)).into(), length)
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length as u32)
        .flat_map(|it| format!("{} ", it.wrapping_mul(2_654_435_761) % 9_973).into_bytes())
        .take(length)
        .collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn the_hello_of_rfc_7692_in_one_block_is_hello() {
    let input = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff];
    assert_eq!(inflate(&input), (known(b"Hello"), Ok(())));
}

#[test]
fn a_stored_block_is_its_bytes() {
    let input = [0x00, 0x05, 0x00, 0xfa, 0xff, b'H', b'e', b'l', b'l', b'o'];
    assert_eq!(inflate(&input), (known(b"Hello"), Ok(())));
}

#[test]
fn a_block_with_bfinal_is_followed_by_the_next_one_with_the_same_window() {
    let mut bits = Bits::default();
    // "a" and the end, in a final block; then a match of 3 bytes, 1 byte before.
    bits.put(0b011, 3).code(0x30 + 97, 8).code(0, 7);
    let mut input = bits.bytes;
    let mut bits = Bits::default();
    bits.put(0b010, 3).code(1, 7).code(0, 5).code(0, 7);
    input.extend(bits.bytes);
    assert_eq!(inflate(&input), (known(b"aaaa"), Ok(())));
}

#[test]
fn a_distance_before_the_first_byte_is_invalid_where_the_beginning_was_seen() {
    let mut bits = Bits::default();
    bits.put(0b010, 3).code(0x30 + 97, 8).code(1, 7).code(1, 5).code(0, 7);
    assert_invalid(&bits.bytes);
}

#[test]
fn a_distance_before_the_first_byte_is_unknown_where_the_beginning_was_not_seen() {
    let mut bits = Bits::default();
    // "a", three bytes from one byte before it, "b", three bytes that repeat the last four but one.
    bits.put(0b010, 3)
        .code(0x30 + 97, 8)
        .code(1, 7)
        .code(1, 5)
        .code(0x30 + 98, 8)
        .code(1, 7)
        .code(1, 5)
        .code(0, 7);
    let (out, result) = collect(&mut Inflater::new(false), &bits.bytes, 1, ENDLESS);
    assert_eq!(result, Ok(()));
    let (a, b) = (Some(b'a'), Some(b'b'));
    // Two before is unknown, then "a", then the unknown one again.
    assert_eq!(out, [a, None, a, None, b, None, b, None]);
}

#[test]
fn what_no_code_is_and_what_is_reserved_is_invalid() {
    assert_invalid(&[0b110, 0, 0]);
    assert_invalid(&[0x00, 0x05, 0x00, 0xfa, 0xfe]);
    for (code, length) in [(0xc6, 8), (0xc7, 8)] {
        let mut bits = Bits::default();
        bits.put(0b010, 3).code(code, length).put(0, 24);
        assert_invalid(&bits.bytes);
    }
    for distance in [30, 31] {
        let mut bits = Bits::default();
        bits.put(0b010, 3).code(0x30 + 97, 8).code(1, 7).code(distance, 5).put(0, 24);
        assert_invalid(&bits.bytes);
    }
    for counts in [30, 30 << 5] {
        let mut bits = Bits::default();
        bits.put(0b100, 3).put(counts, 14).put(0, 24);
        assert_invalid(&bits.bytes);
    }
    // All code lengths are 0, or 1.
    for length in [0, 0b001_001_001_001] {
        let mut bits = Bits::default();
        bits.put(0b100, 3).put(0, 14).put(length, 12).put(0, 64);
        assert_invalid(&bits.bytes);
    }
}

#[test]
fn output_stops_near_its_maximum() {
    let input = compress(&[vec![b'a'; 16 << 20]], 9, 15, FlushCompress::Sync).remove(0);
    assert!(input.len() < 20_000);
    let mut inflater = Inflater::new(true);
    let mut length = 0;
    let result = inflater.inflate(&input, 1_000_000, &mut |piece| match piece {
        Piece::Known(bytes) => length += bytes.len(),
        Piece::Unknown(_) => panic!("nothing is unknown"),
    });
    assert_eq!(result, Err(Stop::TooLong));
    assert!((1_000_000..1_000_400).contains(&length), "{length}");
    assert!(inflater.held_bytes() <= Inflater::MAXIMUM_BYTES);
}

#[test]
fn a_short_stream_takes_little() {
    let mut inflater = Inflater::new(true);
    let input = compress(&[b"hello".to_vec()], 6, 15, FlushCompress::Sync).remove(0);
    inflater.inflate(&input, ENDLESS, &mut |_| {}).unwrap();
    inflater.take_tables();
    assert!(inflater.held_bytes() < 1_000, "{}", inflater.held_bytes());
    const { assert!(Inflater::MAXIMUM_BYTES < 40 << 10) };
}

#[test]
fn after_32_kib_of_known_bytes_all_is_known_and_the_bits_are_given_back() {
    let all = noise(100_000);
    let messages: Vec<Vec<u8>> = all
        .chunks(2_000)
        .map(|chunk| {
            // Only the second one repeats the first one.
            let again = if chunk == &all[2_000..4_000] { &all[..100] } else { &chunk[..100] };
            [chunk, again].concat()
        })
        .collect();
    let parts = compress(&messages, 6, 15, FlushCompress::Sync);
    let mut inflater = Inflater::new(false);
    let mut output = Vec::new();
    for part in parts.iter().skip(1) {
        let (out, result) = collect(&mut inflater, part, 100, ENDLESS);
        assert_eq!(result, Ok(()));
        output.extend(out);
    }
    assert!(output[..2_200].contains(&None), "what the first message says again is not known");
    assert!(inflater.window.unknown.is_none());
    assert!(!output[output.len() - WINDOW..].contains(&None));
}

fn any_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0usize..3_000).prop_map(text),
        (0usize..3_000).prop_map(noise),
        (0usize..20_000).prop_map(|length| vec![b'a'; length]),
        (0usize..40_000).prop_map(noise),
        proptest::collection::vec(0u8..4, 0..2_000),
        "[a-z]{0,40}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_flate2_compressed_comes_out_again_however_it_is_cut(
        parts in proptest::collection::vec(any_part(), 1..5),
        level in 0u32..10, window_bits in 9u8..16, chunk in 1usize..2_000,
    ) {
        let input = compress(&parts, level, window_bits, FlushCompress::Sync).concat();
        let mut inflater = Inflater::new(true);
        let (out, result) = collect(&mut inflater, &input, chunk, ENDLESS);
        prop_assert_eq!(result, Ok(()));
        prop_assert!(out == known(&parts.concat()));
        prop_assert!(inflater.is_between_blocks());
        prop_assert!(inflater.held_bytes() <= Inflater::MAXIMUM_BYTES);
    }

    #[test]
    fn with_the_first_parts_unseen_no_wrong_byte_comes_out_and_each_length_is_right(
        parts in proptest::collection::vec(any_part(), 2..8),
        unseen in 1usize..7, level in 0u32..10, window_bits in 9u8..16, chunk in 1usize..2_000,
    ) {
        let inputs = compress(&parts, level, window_bits, FlushCompress::Sync);
        let mut inflater = Inflater::new(false);
        for (input, part) in inputs.iter().zip(&parts).skip(unseen) {
            let (out, result) = collect(&mut inflater, input, chunk, ENDLESS);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(out.len(), part.len());
            prop_assert!(out.iter().zip(part).all(|(out, sent)| out.is_none_or(|out| out == *sent)));
        }
    }

    #[test]
    fn damaged_streams_come_out_as_from_flate2_up_to_the_fault(
        part in any_part(), level in 0u32..10, flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
        chunk in 1usize..2_000,
    ) {
        let mut input = compress(&[part], level, 15, FlushCompress::Sync).concat();
        for (index, bit) in flips {
            let at = index.index(input.len());
            input[at] ^= 1 << (bit % 8);
        }
        // What may follow a final block is another stream to flate2.
        let (expected, is_wrong) = oracle(&input, 200_000);
        let (out, result) = collect(&mut Inflater::new(true), &input, chunk, 190_000);
        let common = out.len().min(expected.len());
        prop_assert!(out[..common] == known(&expected)[..common]);
        if is_wrong {
            prop_assert!(result.is_err());
        }
    }

    #[test]
    fn noise_is_inflated_without_a_panic_and_as_by_flate2(
        input in proptest::collection::vec(any::<u8>(), 0..400), from_start: bool, chunk in 1usize..50,
    ) {
        let (out, result) = collect(&mut Inflater::new(from_start), &input, chunk, 100_000);
        let (expected, is_wrong) = oracle(&input, 110_000);
        if from_start {
            let common = out.len().min(expected.len());
            prop_assert!(out[..common] == known(&expected)[..common]);
            prop_assert!(!is_wrong || result.is_err());
        }
    }
}

#[test]
fn a_whole_stream_that_flate2_finished_ends_between_blocks() {
    let mut compress = Compress::new(Compression::best(), false);
    let mut input = Vec::with_capacity(100_000);
    let status = compress.compress_vec(&text(60_000), &mut input, FlushCompress::Finish).unwrap();
    assert_eq!(status, Status::StreamEnd);
    let mut inflater = Inflater::new(true);
    let (out, result) = collect(&mut inflater, &input, 7, ENDLESS);
    assert_eq!(result, Ok(()));
    assert!(out == known(&text(60_000)));
    assert!(inflater.is_between_blocks());
}

//! The reassembler, held against a plain bitmap.
//!
//! Owns the bitmap, which knows of each offset what was ever sent there. Must not know how the reassembler works.
//! Bounded: offsets below [`STREAM_BYTES`], but for the few steps that leave them on purpose.
//!
//! Whatever is sent, cut, repeated, forged or acknowledged: no byte comes out that was not sent at its offset, every
//! offset comes out once or is called missing once, nothing is called missing that was seen before, all that was sent is
//! accounted for at the end, and what is held stays within the bounds. Which of two different copies wins is for the
//! tests of the crate.

use observer_core::Limits;
use observer_core::limits::Limit;
use observer_core::record::GapCause;
use observer_core::tcp::reassembler::{Chunk, Input, Misfit, Output, Reassembler, Shared, Vantage};
use observer_core::tcp::sequence::SequenceNumber;

use crate::cursor::Cursor;

/// Where honest segments lie.
const STREAM_BYTES: usize = 1 << 10;
/// Bookkeeping and bytes of one segment, which may be held before a bound is looked at.
const ONE_SEGMENT: usize = 2_000;

/// What was ever sent at an offset.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// Every byte that came.
    copies: Vec<u8>,
    /// Whether it came in a packet that the capture cut before it.
    came_cut: bool,
}

struct Oracle {
    sent: Vec<Sent>,
    /// Offset of the next byte that comes out.
    offset: u64,
    missing: u64,
    /// Whether offsets still are those of the bitmap: not behind a break of unknown length.
    in_place: bool,
    /// No bound, FIN or SYN can make bytes be let go of.
    keeps_all: bool,
    ended: bool,
    misfits: Vec<Misfit>,
    limits: Vec<Limit>,
}

impl Output for Oracle {
    fn handle_chunk(&mut self, chunk: Chunk<'_>) {
        assert!(!self.ended, "nothing follows the end");
        match chunk {
            Chunk::Data(data) => {
                assert!(!data.is_empty(), "a chunk holds something");
                for byte in data {
                    self.check_byte(*byte);
                    self.offset += 1;
                }
            }
            Chunk::Gap { length, .. } => {
                assert!(length > 0, "a gap is one");
                self.check_gap(length);
                self.offset += length;
                self.missing += length;
            }
            Chunk::End => self.ended = true,
        }
    }

    fn handle_break(&mut self, length: u64, _: GapCause) {
        assert!(!self.ended, "nothing follows the end");
        self.offset += length;
        self.missing += length;
        self.in_place = false;
    }

    fn handle_urgent(&mut self, byte: Result<u8, GapCause>) {
        assert!(!self.ended, "nothing follows the end");
        match byte {
            Ok(byte) => self.check_byte(byte),
            Err(_) => {
                self.check_gap(1);
                self.missing += 1;
            }
        }
        self.offset += 1;
    }

    fn handle_doubt(&mut self) {}

    fn handle_misfit(&mut self, misfit: Misfit) {
        self.misfits.push(misfit);
    }

    fn handle_limit(&mut self, limit: Limit) {
        self.limits.push(limit);
    }
}

impl Oracle {
    fn at(&self, offset: u64) -> Option<&Sent> {
        usize::try_from(offset).ok().and_then(|offset| self.sent.get(offset))
    }

    fn check_byte(&self, byte: u8) {
        if !self.in_place {
            return;
        }
        let Some(sent) = self.at(self.offset) else { return };
        assert!(sent.copies.contains(&byte), "{} was not sent at {}", byte, self.offset);
    }

    fn check_gap(&self, length: u64) {
        if !self.in_place || !self.keeps_all {
            return;
        }
        for offset in self.offset..self.offset + length {
            let Some(sent) = self.at(offset) else { return };
            assert!(sent.copies.is_empty() || sent.came_cut, "{offset} was seen and is called missing");
        }
    }
}

/// The right byte of an offset.
const fn byte_at(offset: usize) -> u8 {
    (offset.wrapping_mul(0x9e37_79b1) >> 13) as u8
}

/// Four bytes of initial position, one of options, and steps. See [`step`].
pub fn run(input: &[u8]) {
    let mut choices = Cursor::new(input);
    let initial = SequenceNumber(choices.word());
    let options = choices.byte();
    let (is_honest, is_tight) = (options & 1 == 0, options & 2 != 0);
    let vantages = [Vantage::Leaving, Vantage::Reaching, Vantage::Between, Vantage::Between];
    let vantage = vantages[usize::from(options >> 2 & 3)];
    let limits = if is_tight {
        Limits {
            reassembly_bytes: 600,
            reassembly_runs: 5,
            reassembly_total_bytes: 16_000,
            unacknowledged_bytes: 500,
            unacknowledged_total_bytes: 8_000,
            syn_data_total_bytes: 200,
            ..Limits::default()
        }
    } else {
        Limits::default()
    };
    let mut shared = Shared::default();
    let mut bench = Bench {
        reassembler: Reassembler::new(initial, &shared),
        oracle: Oracle {
            sent: vec![Sent::default(); STREAM_BYTES],
            offset: 0,
            missing: 0,
            in_place: true,
            keeps_all: !is_tight,
            ended: false,
            misfits: Vec::new(),
            limits: Vec::new(),
        },
        initial,
        is_honest,
        vantage,
        has_acknowledgments: false,
    };
    while !choices.is_over() {
        bench.step(&mut choices, &limits, &mut shared);
        bench.check(&limits, &shared);
    }
    let Bench { mut reassembler, mut oracle, is_honest, has_acknowledgments, .. } = bench;
    let had_fin = reassembler.fin().is_some() || !oracle.keeps_all;
    reassembler.handle_end(None, 0, &limits, &mut shared, &mut oracle);
    let held = (shared.held_bytes, shared.syn_bytes, shared.unacknowledged_bytes);
    assert_eq!(held, (0, 0, 0), "all is given back");
    assert_eq!((oracle.offset, oracle.missing), (reassembler.offset(), reassembler.bytes_missing()));
    if oracle.in_place && !had_fin {
        let last = oracle.sent.iter().rposition(|sent| !sent.copies.is_empty() || sent.came_cut);
        let seen_end = last.map_or(0, |last| last as u64 + 1);
        assert!(oracle.offset >= seen_end, "{} of {seen_end} came out", oracle.offset);
        if !has_acknowledgments {
            assert_eq!(oracle.offset, seen_end, "nothing is missing behind the last byte");
        }
    }
    if is_honest {
        assert!(!oracle.misfits.contains(&Misfit::OverlapDiffers), "all copies are equal");
    }
}

struct Bench {
    reassembler: Reassembler,
    oracle: Oracle,
    initial: SequenceNumber,
    is_honest: bool,
    vantage: Vantage,
    has_acknowledgments: bool,
}

impl Bench {
    /// A byte that says what, and what it takes.
    fn step(&mut self, choices: &mut Cursor<'_>, limits: &Limits, shared: &mut Shared) {
        let what = choices.byte();
        match what & 0x0f {
            0..=8 => {
                let offset = usize::from(choices.short()) % STREAM_BYTES;
                let length = usize::from(choices.byte()) * if what & 0x10 == 0 { 1 } else { 4 };
                let cut = if what & 0x20 == 0 { 0 } else { usize::from(choices.byte()) };
                let fin = what & 0xc0 == 0xc0;
                self.segment((offset, length, cut, fin), choices, limits, shared);
            }
            // Right where the stream stands: else few steps would be in order.
            9 | 10 => {
                let offset = usize::try_from(self.oracle.offset).unwrap_or(usize::MAX);
                let length = usize::from(choices.byte());
                if self.oracle.in_place && offset < STREAM_BYTES {
                    self.segment((offset, length, 0, what & 0x80 != 0), choices, limits, shared);
                }
            }
            11 | 12 => {
                let vantage = if what & 0x10 == 0 { self.vantage } else { Vantage::Between };
                let to = self.initial.plus(u32::from(choices.short()) % (STREAM_BYTES as u32 + 2));
                self.has_acknowledgments = true;
                self.reassembler.handle_acknowledgment(to, vantage, limits, shared, &mut self.oracle);
            }
            13 => shared.losses += u64::from(choices.byte()),
            14 => {
                let data = choices.string();
                (self.oracle.keeps_all, self.is_honest) = (false, false);
                for (sent, byte) in self.oracle.sent.iter_mut().zip(data) {
                    sent.copies.push(*byte);
                }
                let input = self.input(self.initial, data, data.len(), false);
                self.reassembler.handle_syn_data(input, limits, shared, &mut self.oracle);
            }
            _ => {
                // Anywhere: nothing is known of the bitmap from there on.
                let at = SequenceNumber(choices.word());
                let data = choices.string();
                (self.oracle.in_place, self.is_honest) = (false, false);
                if what & 0x10 == 0 {
                    let input = self.input(at, data, data.len() + usize::from(what >> 5), what & 0x80 != 0);
                    self.reassembler.handle_segment(input, limits, shared, &mut self.oracle);
                } else {
                    self.has_acknowledgments = true;
                    self.reassembler.handle_acknowledgment(
                        at,
                        self.vantage,
                        limits,
                        shared,
                        &mut self.oracle,
                    );
                }
            }
        }
    }

    fn segment(
        &mut self,
        (offset, length, cut, fin): (usize, usize, usize, bool),
        choices: &mut Cursor<'_>,
        limits: &Limits,
        shared: &mut Shared,
    ) {
        let length = length.min(STREAM_BYTES - offset);
        let captured = length.saturating_sub(cut);
        let urgent = if choices.byte() & 7 == 7 { choices.byte() } else { 0 };
        let twist = if self.is_honest { 0 } else { choices.byte() & 3 };
        let data: Vec<u8> = (offset..offset + captured).map(|at| byte_at(at) ^ twist).collect();
        // What lies behind is repeated, or a probe: it cannot come out any more.
        for at in offset..offset + length {
            if at as u64 >= self.reassembler.offset() {
                match data.get(at - offset) {
                    Some(byte) => self.oracle.sent[at].copies.push(*byte),
                    None => self.oracle.sent[at].came_cut = true,
                }
            }
        }
        if fin {
            self.oracle.keeps_all = false;
        }
        let sequence = self.initial.plus(u32::try_from(offset).unwrap());
        let mut input = self.input(sequence, &data, length, fin);
        // A position in the segment, or ahead of it.
        input.urgent = (urgent > 0).then(|| sequence.plus(u32::from(urgent) * 2));
        self.reassembler.handle_segment(input, limits, shared, &mut self.oracle);
    }

    fn input<'a>(&self, sequence: SequenceNumber, data: &'a [u8], length: usize, fin: bool) -> Input<'a> {
        Input {
            sequence,
            data,
            length: u32::try_from(length).unwrap(),
            cut_by: GapCause::SnapLength,
            fin,
            urgent: None,
            vantage: self.vantage,
        }
    }

    fn check(&self, limits: &Limits, shared: &Shared) {
        assert!(shared.held_bytes <= limits.reassembly_bytes + ONE_SEGMENT, "{}", shared.held_bytes);
        assert!(shared.unacknowledged_bytes <= limits.unacknowledged_bytes + ONE_SEGMENT);
        assert!(shared.syn_bytes <= limits.syn_data_total_bytes + ONE_SEGMENT);
        assert_eq!(self.oracle.offset, self.reassembler.offset());
        assert_eq!(self.oracle.missing, self.reassembler.bytes_missing());
        assert!(!self.reassembler.has_ended() || self.reassembler.fin().is_some());
    }
}

//! DEFLATE (RFC 1951), bytes in as they come, bytes out as far as they are known.
//!
//! Owns the format and the window. Must not know messages. Bounded: the window of 32 KiB, which grows as it is
//! needed, a bit for each of its bytes while some are unknown, and the tables of one block; a message stops at the
//! length that the caller allows.
//!
//! It knows which bytes of its window it does not know: those from before the first byte that was seen, and what was
//! copied from there. Where blocks and codes begin does not depend on them, so that all that does not refer to them
//! is right, and once 32 KiB in a row were known, all is. A distance that reaches before the first byte of a stream
//! whose beginning was seen is invalid. Behind a block with BFINAL the next block follows at the next byte, and the
//! window stays (RFC 7692 §7.2.3.4).

/// The farthest that a distance reaches (RFC 1951 §2). A window of this size reads what any smaller one wrote.
const WINDOW: usize = 32 << 10;

/// The window's first allocation.
const SMALLEST_WINDOW: usize = 512;

const LONGEST_CODE: usize = 15;
const FAST_BITS: u32 = 9;
const FAST: usize = 1 << FAST_BITS;
const LITERAL_CODES: usize = 288;
const DISTANCE_CODES: usize = 32;
const END_OF_BLOCK: u16 = 256;

/// Lengths of the length codes' lengths stand in this order (RFC 1951 §3.2.7).
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Base and extra bits of the length codes from 257 on (RFC 1951 §3.2.5).
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// Base and extra bits of the distance codes.
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1_025, 9),
    (1_537, 9),
    (2_049, 10),
    (3_073, 10),
    (4_097, 11),
    (6_145, 11),
    (8_193, 12),
    (12_289, 12),
    (16_385, 13),
    (24_577, 13),
];

/// What was inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// These bytes.
    Known(&'a [u8]),
    /// So many bytes, which are copies of unknown ones.
    Unknown(usize),
}

/// Why inflating stopped. The inflater is of no use then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// What came is not DEFLATE.
    Invalid(&'static str),
    /// The output is longer than allowed.
    TooLong,
}

/// Inflates one stream.
#[derive(Debug)]
pub(super) struct Inflater {
    window: Window,
    tables: Option<Box<Tables>>,
    state: State,
    is_final: bool,
    /// Input that was taken and not used yet, its first bit lowest; zero above `bit_count`.
    bits: u64,
    bit_count: u32,
    produced: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BlockStart,
    StoredLength,
    Stored {
        remaining: u16,
    },
    CodeCounts,
    /// The next one of ORDER.
    OrderedLengths {
        counts: Counts,
        index: u8,
    },
    /// The next one of the codes' lengths.
    CodeLengths {
        counts: Counts,
        index: u16,
    },
    Codes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    literals: u16,
    distances: u16,
    ordered: u8,
}

/// What a step came to.
enum Step {
    Done,
    /// It was not made, since its bits are not all here.
    NeedsInput,
}

impl Inflater {
    /// What one takes at most.
    pub(super) const MAXIMUM_BYTES: usize =
        size_of::<Self>() + WINDOW + size_of::<UnknownBits>() + size_of::<Tables>();

    /// For a stream whose first byte is the next one, or of which anything may have gone before.
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            window: Window::new(from_start),
            tables: None,
            state: State::BlockStart,
            is_final: false,
            bits: 0,
            bit_count: 0,
            produced: 0,
        }
    }

    /// What it takes now.
    pub(super) fn held_bytes(&self) -> usize {
        let tables = if self.tables.is_some() { size_of::<Tables>() } else { 0 };
        size_of::<Self>().saturating_add(self.window.held_bytes()).saturating_add(tables)
    }

    /// Begins to count the output and to measure distances, with tables that were used before, if there are any.
    pub(super) fn begin(&mut self, tables: &mut Option<Box<Tables>>) {
        self.produced = 0;
        self.window.farthest = 0;
        if self.tables.is_none() {
            self.tables = tables.take();
        }
    }

    /// Lets go of the tables, which nothing needs between two blocks.
    pub(super) const fn take_tables(&mut self) -> Option<Box<Tables>> {
        self.tables.take()
    }

    /// The longest distance since [`Inflater::begin`].
    pub(super) const fn farthest(&self) -> usize {
        self.window.farthest
    }

    /// Whether it stopped at a distance that reaches before the first byte.
    pub(super) const fn has_reached_before_start(&self) -> bool {
        !self.window.is_full() && self.window.farthest > self.window.bytes.len()
    }

    /// Whether it is between two blocks, with no bit left over.
    pub(super) fn is_between_blocks(&self) -> bool {
        self.state == State::BlockStart && self.bit_count == 0
    }

    /// Takes the next bytes. Since [`Inflater::begin`] about `maximum` bytes may come out.
    ///
    /// # Errors
    ///
    /// Why it stopped. What was given to `output` until then is right as far as the stream is.
    pub(super) fn inflate(
        &mut self,
        mut input: &[u8],
        maximum: u64,
        output: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), Stop> {
        let result = loop {
            // What is stored is copied from the input itself.
            if !matches!(self.state, State::Stored { .. }) {
                self.refill(&mut input);
            }
            match self.step(&mut input, maximum, output) {
                Ok(Step::Done) if self.produced > maximum => break Err(Stop::TooLong),
                Ok(Step::Done) => {}
                Ok(Step::NeedsInput) => break Ok(()),
                Err(what) => break Err(Stop::Invalid(what)),
            }
        };
        self.window.flush(output);
        result
    }

    /// Fills the bits up: behind it there are 56 at least, of which a step takes 48 at most, or no input is
    /// left.
    fn refill(&mut self, input: &mut &[u8]) {
        if let Some((word, _)) = input.split_first_chunk::<8>() {
            let taken = (63 - self.bit_count) / 8;
            self.bits |= u64::from_le_bytes(*word) << self.bit_count;
            self.bit_count += taken * 8;
            self.bits &= mask(self.bit_count);
            *input = input.get(taken as usize..).unwrap_or_default();
            return;
        }
        while self.bit_count < 56
            && let Some((byte, rest)) = input.split_first()
        {
            self.bits |= u64::from(*byte) << self.bit_count;
            self.bit_count += 8;
            *input = rest;
        }
    }

    fn take_bits(&mut self, count: u32) -> Option<u16> {
        if self.bit_count < count {
            return None;
        }
        let value = (self.bits & mask(count)) as u16;
        self.drop_bits(count);
        Some(value)
    }

    const fn drop_bits(&mut self, count: u32) {
        self.bits >>= count;
        self.bit_count -= count;
    }

    fn step(
        &mut self,
        input: &mut &[u8],
        maximum: u64,
        output: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Step, &'static str> {
        self.state = match self.state {
            State::BlockStart => {
                let Some(header) = self.take_bits(3) else { return Ok(Step::NeedsInput) };
                self.is_final = header & 1 == 1;
                match header >> 1 {
                    0 => {
                        self.drop_bits(self.bit_count % 8);
                        State::StoredLength
                    }
                    1 => {
                        self.tables.get_or_insert_default().set_fixed();
                        State::Codes
                    }
                    2 => State::CodeCounts,
                    _ => return Err("a block has the reserved type"),
                }
            }
            State::StoredLength => {
                if self.bit_count < 32 {
                    return Ok(Step::NeedsInput);
                }
                let (length, complement) = (self.bits as u16, (self.bits >> 16) as u16);
                if length != !complement {
                    return Err("a stored block's length contradicts itself");
                }
                self.drop_bits(32);
                stored(length)
            }
            State::Stored { remaining } if self.bit_count > 0 => {
                let byte = self.take_bits(8).unwrap_or_default();
                self.window.push(byte as u8, output);
                self.produced += 1;
                stored(remaining.saturating_sub(1))
            }
            State::Stored { remaining } => {
                if input.is_empty() {
                    return Ok(Step::NeedsInput);
                }
                let room = maximum.saturating_sub(self.produced).saturating_add(1);
                let count =
                    usize::from(remaining).min(input.len()).min(room.try_into().unwrap_or(usize::MAX));
                let (bytes, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
                self.window.extend(bytes, output);
                self.produced += bytes.len() as u64;
                *input = rest;
                stored(remaining.saturating_sub(count as u16))
            }
            State::CodeCounts => {
                let Some(bits) = self.take_bits(14) else { return Ok(Step::NeedsInput) };
                let counts = Counts {
                    literals: (bits & 31) + 257,
                    distances: ((bits >> 5) & 31) + 1,
                    ordered: (bits >> 10) as u8 + 4,
                };
                if counts.literals > 286 || counts.distances > 30 {
                    return Err("a block has too many codes");
                }
                self.tables.get_or_insert_default().begin();
                State::OrderedLengths { counts, index: 0 }
            }
            State::OrderedLengths { counts, index } => {
                let Some(length) = self.take_bits(3) else { return Ok(Step::NeedsInput) };
                let tables = self.tables.get_or_insert_default();
                let place = ORDER.get(usize::from(index)).copied().unwrap_or_default();
                tables.set_length(place.into(), length as u8);
                let index = index + 1;
                if index < counts.ordered {
                    State::OrderedLengths { counts, index }
                } else {
                    tables.build_lengths()?;
                    State::CodeLengths { counts, index: 0 }
                }
            }
            State::CodeLengths { counts, index } => return self.step_code_lengths(counts, index),
            State::Codes => return self.step_codes(input, maximum, output),
        };
        Ok(Step::Done)
    }

    fn step_code_lengths(&mut self, counts: Counts, index: u16) -> Result<Step, &'static str> {
        let tables = self.tables.get_or_insert_default();
        let Some((symbol, used)) = tables.literals.decode(self.bits, self.bit_count)? else {
            return Ok(Step::NeedsInput);
        };
        let (base, extra) = match symbol {
            0..=15 => (1, 0),
            16 => (3, 2),
            17 => (3, 3),
            _ => (11, 7),
        };
        if self.bit_count < used + extra {
            return Ok(Step::NeedsInput);
        }
        let repeat = base + ((self.bits >> used) & mask(extra)) as u16;
        let length = match symbol {
            0..=15 => symbol as u8,
            16 if index == 0 => return Err("a block repeats a code length before the first"),
            16 => tables.length(index - 1),
            _ => 0,
        };
        let total = counts.literals + counts.distances;
        if repeat > total - index {
            return Err("a block repeats a code length beyond the last");
        }
        for place in index..index + repeat {
            tables.set_length(place, length);
        }
        let index = index + repeat;
        self.state = if index < total {
            State::CodeLengths { counts, index }
        } else {
            tables.build(counts)?;
            State::Codes
        };
        self.drop_bits(used + extra);
        Ok(Step::Done)
    }

    /// Literals and matches, up to the end of the block, of the input, or of what may come out.
    fn step_codes(
        &mut self,
        input: &mut &[u8],
        maximum: u64,
        output: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Step, &'static str> {
        let Some(tables) = self.tables.take() else { return Err("a block has no codes") };
        let result = loop {
            self.refill(input);
            let (symbol, used) = match tables.literals.decode(self.bits, self.bit_count) {
                Ok(Some(found)) => found,
                Ok(None) => break Ok(Step::NeedsInput),
                Err(what) => break Err(what),
            };
            if symbol < END_OF_BLOCK {
                self.drop_bits(used);
                self.window.push(symbol as u8, output);
                self.produced += 1;
            } else if symbol == END_OF_BLOCK {
                self.drop_bits(used);
                if self.is_final {
                    self.drop_bits(self.bit_count % 8);
                }
                self.state = State::BlockStart;
                break Ok(Step::Done);
            } else {
                match self.read_match(&tables, symbol, used) {
                    Ok(Some((distance, length))) => {
                        if let Err(what) = self.window.copy(distance, length, output) {
                            break Err(what);
                        }
                        self.produced += length as u64;
                    }
                    Ok(None) => break Ok(Step::NeedsInput),
                    Err(what) => break Err(what),
                }
            }
            if self.produced > maximum {
                break Ok(Step::Done);
            }
        };
        self.tables = Some(tables);
        result
    }

    /// Reads what follows the code of a length; `used` bits are that code's. Nothing is taken where some are missing.
    fn read_match(
        &mut self,
        tables: &Tables,
        symbol: u16,
        mut used: u32,
    ) -> Result<Option<(usize, usize)>, &'static str> {
        let code = usize::from(symbol - (END_OF_BLOCK + 1));
        let Some((base, extra)) = LENGTHS.get(code) else { return Err("a length code is reserved") };
        let length = usize::from(*base) + ((self.bits >> used) & mask((*extra).into())) as usize;
        used += u32::from(*extra);
        if self.bit_count < used {
            return Ok(None);
        }
        let Some((symbol, more)) = tables.distances.decode(self.bits >> used, self.bit_count - used)? else {
            return Ok(None);
        };
        used += more;
        let Some((base, extra)) = DISTANCES.get(usize::from(symbol)) else {
            return Err("a distance code is reserved");
        };
        let distance = usize::from(*base) + ((self.bits >> used) & mask((*extra).into())) as usize;
        used += u32::from(*extra);
        if self.bit_count < used {
            return Ok(None);
        }
        self.drop_bits(used);
        Ok(Some((distance, length)))
    }
}

const fn stored(remaining: u16) -> State {
    if remaining > 0 { State::Stored { remaining } } else { State::BlockStart }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The codes of one block.
#[derive(Debug)]
pub(super) struct Tables {
    literals: Huffman<LITERAL_CODES>,
    distances: Huffman<DISTANCE_CODES>,
    lengths: [u8; LITERAL_CODES + DISTANCE_CODES],
    is_fixed: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            literals: Huffman::EMPTY,
            distances: Huffman::EMPTY,
            lengths: [0; LITERAL_CODES + DISTANCE_CODES],
            is_fixed: false,
        }
    }
}

impl Tables {
    /// RFC 1951 §3.2.6.
    fn set_fixed(&mut self) {
        if self.is_fixed {
            return;
        }
        let mut lengths = [8; LITERAL_CODES];
        for (symbol, length) in lengths.iter_mut().enumerate() {
            *length = match symbol {
                0..144 => 8,
                144..256 => 9,
                256..280 => 7,
                _ => 8,
            };
        }
        self.literals.build(&lengths);
        self.distances.build(&[5; DISTANCE_CODES]);
        self.is_fixed = true;
    }

    const fn begin(&mut self) {
        self.is_fixed = false;
        self.lengths = [0; LITERAL_CODES + DISTANCE_CODES];
    }

    fn set_length(&mut self, place: u16, length: u8) {
        if let Some(at) = self.lengths.get_mut(usize::from(place)) {
            *at = length;
        }
    }

    fn length(&self, place: u16) -> u8 {
        self.lengths.get(usize::from(place)).copied().unwrap_or_default()
    }

    /// Makes the code that the codes' lengths are written in, and forgets its lengths.
    fn build_lengths(&mut self) -> Result<(), &'static str> {
        let lengths = std::mem::replace(&mut self.lengths, [0; LITERAL_CODES + DISTANCE_CODES]);
        match self.literals.build(lengths.get(..ORDER.len()).unwrap_or_default()) {
            Shape::Complete => Ok(()),
            _ => Err("the code of a block's code lengths is not a complete one"),
        }
    }

    fn build(&mut self, counts: Counts) -> Result<(), &'static str> {
        let (literals, rest) = self.lengths.split_at_checked(counts.literals.into()).unwrap_or_default();
        let distances = rest.get(..counts.distances.into()).unwrap_or_default();
        if literals.get(usize::from(END_OF_BLOCK)).is_none_or(|length| *length == 0) {
            return Err("a block has no code for its end");
        }
        // As zlib: a code that is not complete is right only if it has no more than one symbol, of one bit.
        if !matches!(self.literals.build(literals), Shape::Complete | Shape::OneBit) {
            return Err("a block's literal code is not a complete one");
        }
        match self.distances.build(distances) {
            Shape::Complete | Shape::OneBit | Shape::Empty => Ok(()),
            Shape::Wrong => Err("a block's distance code is not a complete one"),
        }
    }
}

/// What kind of code lengths make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Complete,
    OneBit,
    Empty,
    Wrong,
}

/// A canonical code (RFC 1951 §3.2.2).
#[derive(Debug)]
struct Huffman<const SYMBOLS: usize> {
    /// By the next bits of the input: the length of the code that they begin with, and its symbol; 0 for others.
    fast: [u16; FAST],
    counts: [u16; LONGEST_CODE + 1],
    /// In the order of their codes.
    symbols: [u16; SYMBOLS],
}

impl<const SYMBOLS: usize> Huffman<SYMBOLS> {
    const EMPTY: Self = Self { fast: [0; FAST], counts: [0; LONGEST_CODE + 1], symbols: [0; SYMBOLS] };

    fn build(&mut self, lengths: &[u8]) -> Shape {
        self.fast = [0; FAST];
        self.counts = [0; LONGEST_CODE + 1];
        for length in lengths {
            if let Some(count) = self.counts.get_mut(usize::from(*length)) {
                *count += 1;
            }
        }
        self.counts[0] = 0;
        let mut left = 1_i32;
        let mut offsets = [0_u16; LONGEST_CODE + 2];
        let mut codes = [0_u16; LONGEST_CODE + 2];
        let (mut offset, mut code) = (0_u16, 0_u16);
        for (length, count) in self.counts.iter().enumerate().skip(1) {
            left = left * 2 - i32::from(*count);
            if left < 0 {
                return Shape::Wrong;
            }
            code <<= 1;
            if let (Some(to), Some(first)) = (offsets.get_mut(length), codes.get_mut(length)) {
                (*to, *first) = (offset, code);
            }
            offset += count;
            // The last one of a complete code of 15 bits is 0x7fff.
            code += count;
        }
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let length = usize::from(*length);
            let (Some(offset), Some(code)) = (offsets.get_mut(length), codes.get_mut(length)) else {
                continue;
            };
            if let Some(to) = self.symbols.get_mut(usize::from(*offset)) {
                *to = symbol as u16;
            }
            *offset += 1;
            if length <= FAST_BITS as usize {
                let entry = (length as u16) << FAST_BITS | symbol as u16;
                let first = code.reverse_bits() >> (16 - length);
                for to in self.fast.iter_mut().skip(first.into()).step_by(1 << length) {
                    *to = entry;
                }
            }
            *code += 1;
        }
        match (left, offset) {
            (0, _) => Shape::Complete,
            (_, 0) => Shape::Empty,
            (_, 1) if self.counts[1] == 1 => Shape::OneBit,
            _ => Shape::Wrong,
        }
    }

    /// The symbol that the bits begin with and the length of its code; `None` where that needs more bits.
    fn decode(&self, bits: u64, available: u32) -> Result<Option<(u16, u32)>, &'static str> {
        let entry = self.fast.get(bits as usize & (FAST - 1)).copied().unwrap_or_default();
        if entry != 0 {
            let length = u32::from(entry >> FAST_BITS);
            // No code of the bits that are here is a shorter one: it would have been found.
            return Ok((length <= available).then_some((entry & mask(FAST_BITS) as u16, length)));
        }
        self.decode_slowly(bits, available)
    }

    fn decode_slowly(&self, bits: u64, available: u32) -> Result<Option<(u16, u32)>, &'static str> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for (length, count) in (1_u32..).zip(self.counts.iter().skip(1)) {
            if length > available {
                return Ok(None);
            }
            code |= (bits >> (length - 1)) as u32 & 1;
            let count = u32::from(*count);
            if code < first + count {
                let at = index + code - first;
                return Ok(self.symbols.get(at as usize).map(|symbol| (*symbol, length)));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err("the bits are no code of their block")
    }
}

/// A bit for each byte of a window.
type UnknownBits = [u64; WINDOW / 64];

/// What came out last.
#[derive(Debug)]
struct Window {
    /// Grows up to the window's size; from then on the oldest byte is overwritten.
    bytes: Vec<u8>,
    /// Where the next byte goes.
    next: usize,
    /// Where what was not given out yet begins. It is either all known or all unknown.
    flushed: usize,
    is_run_unknown: bool,
    from_start: bool,
    /// Which bytes are unknown, while any is.
    unknown: Option<Box<UnknownBits>>,
    /// How many known ones came last, while any is unknown.
    known_last: usize,
    /// The longest distance that was copied from.
    farthest: usize,
}

impl Window {
    const fn new(from_start: bool) -> Self {
        Self {
            bytes: Vec::new(),
            next: 0,
            flushed: 0,
            is_run_unknown: false,
            from_start,
            unknown: None,
            known_last: 0,
            farthest: 0,
        }
    }

    fn held_bytes(&self) -> usize {
        let unknown = if self.unknown.is_some() { size_of::<UnknownBits>() } else { 0 };
        self.bytes.capacity().saturating_add(unknown)
    }

    const fn is_full(&self) -> bool {
        self.bytes.len() == WINDOW
    }

    fn flush(&mut self, output: &mut dyn FnMut(Piece<'_>)) {
        let run = self.bytes.get(self.flushed..self.next).unwrap_or_default();
        if run.is_empty() {
            return;
        }
        output(if self.is_run_unknown { Piece::Unknown(run.len()) } else { Piece::Known(run) });
        self.flushed = self.next;
    }

    /// Makes room for one byte more at least; how many can be written at once.
    fn reserve(&mut self) -> usize {
        if self.is_full() {
            return WINDOW - self.next;
        }
        if self.bytes.len() == self.bytes.capacity() {
            let capacity = self.bytes.capacity().saturating_mul(2).clamp(SMALLEST_WINDOW, WINDOW);
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.capacity().min(WINDOW) - self.bytes.len()
    }

    /// `count` bytes were written.
    fn advance(&mut self, count: usize, output: &mut dyn FnMut(Piece<'_>)) {
        self.next += count;
        if self.next == WINDOW {
            self.flush(output);
            self.next = 0;
            self.flushed = 0;
        }
    }

    fn push(&mut self, byte: u8, output: &mut dyn FnMut(Piece<'_>)) {
        self.push_as(byte, false, output);
    }

    fn push_as(&mut self, byte: u8, is_unknown: bool, output: &mut dyn FnMut(Piece<'_>)) {
        if is_unknown != self.is_run_unknown {
            self.flush(output);
            self.is_run_unknown = is_unknown;
        }
        if is_unknown || self.unknown.is_some() {
            self.note(is_unknown);
        }
        if self.is_full() {
            if let Some(to) = self.bytes.get_mut(self.next) {
                *to = byte;
            }
        } else {
            self.reserve();
            self.bytes.push(byte);
        }
        self.advance(1, output);
    }

    /// Notes of the next byte whether it is known.
    fn note(&mut self, is_unknown: bool) {
        let unknown = self.unknown.get_or_insert_with(|| Box::new([0; WINDOW / 64]));
        let bit = 1 << (self.next % 64);
        if let Some(word) = unknown.get_mut(self.next / 64) {
            *word = if is_unknown { *word | bit } else { *word & !bit };
        }
        self.known_last = if is_unknown { 0 } else { self.known_last + 1 };
        if self.known_last == WINDOW {
            self.unknown = None;
            self.known_last = 0;
        }
    }

    fn is_unknown(&self, at: usize) -> bool {
        let word = self.unknown.as_ref().and_then(|unknown| unknown.get(at / 64));
        word.is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    fn extend(&mut self, mut bytes: &[u8], output: &mut dyn FnMut(Piece<'_>)) {
        if self.unknown.is_some() {
            for byte in bytes {
                self.push(*byte, output);
            }
            return;
        }
        while !bytes.is_empty() {
            let count = bytes.len().min(self.reserve());
            let (now, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            if self.is_full() {
                if let Some(to) = self.bytes.get_mut(self.next..self.next + count) {
                    to.copy_from_slice(now);
                }
            } else {
                self.bytes.extend_from_slice(now);
            }
            self.advance(count, output);
            bytes = rest;
        }
    }

    /// Repeats `length` bytes from `distance` bytes before.
    fn copy(
        &mut self,
        distance: usize,
        length: usize,
        output: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), &'static str> {
        self.farthest = self.farthest.max(distance);
        let reaches_before = !self.is_full() && distance > self.bytes.len();
        if reaches_before && self.from_start {
            return Err("a distance reaches before the first byte");
        }
        if reaches_before || self.unknown.is_some() {
            for _ in 0..length {
                match self.source(distance) {
                    Some(at) if !self.is_unknown(at) => {
                        let byte = self.bytes.get(at).copied().unwrap_or_default();
                        self.push_as(byte, false, output);
                    }
                    _ => self.push_as(0, true, output),
                }
            }
            return Ok(());
        }
        let mut left = length;
        while left > 0 {
            // What a short distance repeats is there twice after the first time, and so on.
            let reach =
                if distance < length { distance + (length - left) / distance * distance } else { distance };
            let from = self.source(reach).unwrap_or_default();
            let to = self.next;
            let count = left.min(reach).min(WINDOW - from).min(self.reserve());
            if self.is_full() {
                self.bytes.copy_within(from..from + count, to);
            } else {
                self.bytes.extend_from_within(from..from + count);
            }
            self.advance(count, output);
            left -= count;
        }
        Ok(())
    }

    /// Where the byte `distance` before the next one is, if it is within the window.
    fn source(&self, distance: usize) -> Option<usize> {
        if self.is_full() {
            Some((self.next + WINDOW - distance) % WINDOW)
        } else {
            self.next.checked_sub(distance)
        }
    }
}

#[cfg(test)]
mod tests;

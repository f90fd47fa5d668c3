//! Choices out of a fuzzer's bytes.
//!
//! Owns the reading of numbers and strings from an input. Must not know what they are for. Bounded by the input: behind
//! its end every number is 0 and every string empty, and [`Cursor::is_over`] says so.
//!
//! Every target reads its input from the front, so that seeds can be written and a mutation changes one step.

/// A place in an input.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The beginning of an input.
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether nothing is left.
    pub const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next two bytes, the low one first.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next four bytes, the low one first.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) | u32::from(self.short()) << 16
    }

    /// So many bytes, or what is left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// A string whose length stands before it in one byte.
    pub fn string(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.bytes(length)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// Cuts `data` into pieces, whose sizes are the next bytes; all that is left is the last piece.
    pub fn cut<'d>(&mut self, mut data: &'d [u8]) -> Vec<&'d [u8]> {
        let mut pieces = Vec::new();
        while !data.is_empty() {
            let size = if self.is_over() { data.len() } else { usize::from(self.byte()) + 1 };
            let (piece, rest) = data.split_at(size.min(data.len()));
            pieces.push(piece);
            data = rest;
        }
        pieces
    }
}

//! Sequence numbers (RFC 9293 §3.4).
//!
//! Owns their arithmetic modulo 2³². Must not know segments. Bounded: plain integers.

/// A position in a direction's byte stream, modulo 2³².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SequenceNumber(pub u32);

impl SequenceNumber {
    /// The position `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// How far this lies behind `origin`: negative where it lies before. Right for distances below 2³¹.
    pub const fn distance_from(self, origin: Self) -> i32 {
        self.0.wrapping_sub(origin.0).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_right_across_the_wrap() {
        let before = SequenceNumber(u32::MAX - 1);
        let after = before.plus(5);
        assert_eq!(after, SequenceNumber(3));
        assert_eq!(after.distance_from(before), 5);
        assert_eq!(before.distance_from(after), -5);
    }
}

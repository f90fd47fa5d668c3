//! What is counted, by reason, and where the counters lie in their map.
//!
//! Owns: the reasons, their names and their balance. Must not know: who adds or who reads.
//! Bounded by: [`COUNTER_BLOCK_WORDS`] reasons.
//!
//! The map is an array with one block a possible CPU, after one block for numbers that all CPUs share.
//! Once the programs are detached, `seen == captured + filtered + lost_…` holds exactly, packet by packet;
//! while they run, `seen` may be ahead by the packets being worked on. `truncated` and `captured_partly`
//! are parts of `captured`.

/// Words in one block: two cache lines, so that two CPUs never write to the same one.
pub const COUNTER_BLOCK_WORDS: usize = 16;

/// The element of the counters' map that all CPUs share.
pub const RUNNING_LOSSES_ELEMENT: u32 = 0;
/// The word in [`RUNNING_LOSSES_ELEMENT`] that counts packets lost wholly or in part, on all CPUs.
pub const RUNNING_LOSSES_WORD: usize = 0;

/// The element of the counters' map that belongs to a CPU.
#[must_use]
#[inline(always)]
pub const fn counter_element_of_cpu(cpu: u32) -> u32 {
    cpu + 1
}

/// One element of the counters' map, indexed by [`Counter`].
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct CounterBlock(pub [u64; COUNTER_BLOCK_WORDS]);

/// A reason to count a packet.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// TCP packets to or from an observed port.
    Seen = 0,
    /// Packets of which at least the first piece is in the ring.
    Captured = 1,
    /// Captured, but cut on purpose by the snap length or [`crate::PACKET_BYTES_MAX`].
    Truncated = 2,
    /// Captured, but a later piece of the packet was lost.
    CapturedPartly = 3,
    /// Left out on purpose: a pure acknowledgement under `--no-acks`, or another interface than asked for.
    Filtered = 4,
    /// Lost: the ring had no room for the first piece.
    LostRingFull = 5,
    /// Lost: the kernel could not read the packet's bytes.
    LostLoadError = 6,
    /// Lost: the port is observed but the kernel would not show the socket.
    LostNoSocket = 7,
}

impl Counter {
    /// Every counter, in the order of its block.
    pub const ALL: [Self; 8] = [
        Self::Seen,
        Self::Captured,
        Self::Truncated,
        Self::CapturedPartly,
        Self::Filtered,
        Self::LostRingFull,
        Self::LostLoadError,
        Self::LostNoSocket,
    ];

    /// The counters that say that a whole packet was lost.
    pub const LOSSES: [Self; 3] = [Self::LostRingFull, Self::LostLoadError, Self::LostNoSocket];

    /// The name by which users meet the counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Captured => "captured",
            Self::Truncated => "truncated",
            Self::CapturedPartly => "captured_partly",
            Self::Filtered => "filtered",
            Self::LostRingFull => "lost_ring_full",
            Self::LostLoadError => "lost_load_error",
            Self::LostNoSocket => "lost_no_socket",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_word_and_name() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
            assert!(index < COUNTER_BLOCK_WORDS);
            for other in &Counter::ALL[index + 1..] {
                assert_ne!(counter.name(), other.name());
            }
        }
    }

    #[test]
    fn a_counter_is_a_loss_exactly_if_its_name_says_so() {
        for counter in Counter::ALL {
            assert_eq!(counter.name().starts_with("lost_"), Counter::LOSSES.contains(&counter));
        }
    }

    #[test]
    fn a_block_is_two_cache_lines() {
        assert_eq!(size_of::<CounterBlock>(), 128);
    }
}

//! The ABI between the kernel programs and `observer`: what an event looks like, what is counted, what
//! the maps and options are called, and the numbers both sides must agree on.
//!
//! Owns: layouts, names and limits. Must not know: aya, sockets, files, or anything of `std`, since the
//! same source is compiled for the kernel. Bounded by: no dependencies, no allocation; every type is plain
//! old data for which any bytes are a valid value.
#![no_std]

mod counter;
mod event;
mod names;

pub use counter::{
    COUNTER_BLOCK_WORDS, Counter, CounterBlock, RUNNING_LOSSES_ELEMENT, RUNNING_LOSSES_WORD,
    counter_element_of_cpu,
};
pub use event::{DIRECTION_EGRESS, DIRECTION_INGRESS, EventHeader, HEADER_BYTES, Record};
pub use names::{
    ABI_SECTION, COUNTERS_MAP, EGRESS_PROGRAM, EVENTS_MAP, INGRESS_PROGRAM, INTERFACE_INDEX_OPTION,
    NETNS_COOKIE_OPTION, NO_ACKS_OPTION, ONLY_NETNS_OPTION, PORTS_MAP, SIDE_CLIENT, SIDE_OPTION, SIDE_SERVER,
    SNAP_LENGTH_OPTION,
};

/// Version of the event header. It is the first field of every event.
pub const ABI_VERSION: u16 = 1;

/// Changes with every change of the ABI's source, comments included: the loader refuses an object that was
/// compiled from another state of these files than the loader itself.
pub const ABI_HASH: u64 = fnv1a(
    fnv1a(
        fnv1a(fnv1a(FNV_OFFSET_BASIS, include_bytes!("lib.rs")), include_bytes!("event.rs")),
        include_bytes!("counter.rs"),
    ),
    include_bytes!("names.rs"),
);

/// Size of the ring buffer where the user names none. The ring holds about half a second of 500 Mbit/s.
pub const RING_BYTES_DEFAULT: u32 = 32 << 20;

/// Data capacity of each size class of a ring buffer record. The smallest holds a masked chat message of
/// 100 bytes over IPv6 with TCP time stamps, the second an Ethernet frame, the largest any packet that is
/// not BIG TCP. With header and the ring's own eight bytes the first three fill 320, 2048 and 16384 bytes.
pub const PIECE_CAPACITIES_BYTES: [usize; 4] = [208, 1936, 16272, 65536];

/// Longest piece of a packet that one event carries; a longer packet continues in further events, which
/// begin at multiples of this.
pub const PIECE_BYTES_MAX: u32 = PIECE_CAPACITIES_BYTES[3] as u32;

/// Pieces that one packet is split into at most.
pub const PIECES_MAX: u32 = 16;

/// Bytes of one packet that are captured at most, whatever the snap length. What lies beyond counts as
/// truncated. Linux limits a BIG TCP packet to 512 KiB.
pub const PACKET_BYTES_MAX: u32 = PIECE_BYTES_MAX * PIECES_MAX;

/// Words of the observed ports' bitmap: bit `port % 64` of word `port / 64`.
pub const PORT_BITMAP_WORDS: usize = 65536 / 64;

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(FNV_PRIME);
        index += 1;
    }
    hash
}

/// How many bytes of a packet the kernel side sets out to capture. A snap length of 0 means everything.
#[must_use]
#[inline(always)]
pub const fn wanted_bytes(packet_length: u32, snap_length: u32) -> u32 {
    let mut wanted = packet_length;
    if snap_length != 0 && snap_length < wanted {
        wanted = snap_length;
    }
    if wanted > PACKET_BYTES_MAX {
        wanted = PACKET_BYTES_MAX;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(FNV_OFFSET_BASIS, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(FNV_OFFSET_BASIS, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_OFFSET_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
        assert_ne!(ABI_HASH, 0);
    }

    #[test]
    fn wanted_bytes_is_bounded_by_snap_length_and_by_the_pieces() {
        assert_eq!(wanted_bytes(100, 0), 100);
        assert_eq!(wanted_bytes(100, 96), 96);
        assert_eq!(wanted_bytes(100, 4096), 100);
        assert_eq!(wanted_bytes(u32::MAX, 0), PACKET_BYTES_MAX);
        assert_eq!(wanted_bytes(u32::MAX, u32::MAX), PACKET_BYTES_MAX);
    }

    #[test]
    fn a_record_of_each_class_fills_its_slot_of_the_ring() {
        const RING_RECORD_HEADER_BYTES: usize = 8;
        assert_eq!(size_of::<Record<208>>() + RING_RECORD_HEADER_BYTES, 320);
        assert_eq!(size_of::<Record<1936>>() + RING_RECORD_HEADER_BYTES, 2048);
        assert_eq!(size_of::<Record<16272>>() + RING_RECORD_HEADER_BYTES, 16384);
        assert_eq!(size_of::<Record<65536>>(), 65536 + HEADER_BYTES);
    }

    #[test]
    fn the_smallest_class_holds_a_masked_chat_message_of_100_bytes_over_ipv6_with_time_stamps() {
        let ipv6 = 40;
        let tcp_with_time_stamps = 32;
        let websocket_header_and_mask = 2 + 4;
        assert!(ipv6 + tcp_with_time_stamps + websocket_header_and_mask + 100 <= PIECE_CAPACITIES_BYTES[0]);
    }
}

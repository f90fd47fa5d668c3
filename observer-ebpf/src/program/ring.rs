//! Puts a piece of a packet into the ring buffer.
//!
//! Owns: size classes and the copy out of the packet. Must not know: counters or which packets matter.
//! Bounded by: one record a call, reserved in the smallest class that holds the piece, and filled where it
//! lies: a buffer in between would be shared with the softirq that may interrupt.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, macros::map, maps::RingBuf};
use core::arch::asm;
use observer_ebpf::{EventHeader, PIECE_CAPACITIES_BYTES, RING_BYTES_DEFAULT, Record};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES_DEFAULT, 0);

#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Submitted = 0,
    RingFull = 1,
    LoadError = 2,
}

/// With a length of 0 the event says that the packet's bytes from `offset` on are lost.
#[inline(never)]
pub(super) fn emit(skb: *mut __sk_buff, header: &EventHeader, offset: u32, length: u32) -> Outcome {
    const CAPACITY: [usize; 4] = PIECE_CAPACITIES_BYTES;
    if length as usize <= CAPACITY[0] {
        emit_in_class::<{ CAPACITY[0] }>(skb, header, offset, length)
    } else if length as usize <= CAPACITY[1] {
        emit_in_class::<{ CAPACITY[1] }>(skb, header, offset, length)
    } else if length as usize <= CAPACITY[2] {
        emit_in_class::<{ CAPACITY[2] }>(skb, header, offset, length)
    } else {
        emit_in_class::<{ CAPACITY[3] }>(skb, header, offset, length)
    }
}

#[inline(always)]
fn emit_in_class<const CAPACITY_BYTES: usize>(
    skb: *mut __sk_buff,
    header: &EventHeader,
    offset: u32,
    length: u32,
) -> Outcome {
    let Some(mut slot) = EVENTS.reserve::<Record<CAPACITY_BYTES>>(0) else {
        return Outcome::RingFull;
    };
    let record = slot.as_mut_ptr();
    if length != 0 {
        let clamped = clamp_for_the_verifier::<CAPACITY_BYTES>(length);
        // SAFETY: `record` is the reserved slot.
        let data = unsafe { &raw mut (*record).data };
        // SAFETY: `data` has room for `CAPACITY_BYTES` bytes, and `clamped` is no more.
        let result = unsafe { bpf_skb_load_bytes(skb.cast(), offset, data.cast(), clamped as u32) };
        if result != 0 {
            slot.discard(0);
            return Outcome::LoadError;
        }
    }
    let mut header = *header;
    header.offset = offset;
    header.captured_length = length;
    // SAFETY: `record` is the reserved slot.
    let place = unsafe { &raw mut (*record).header };
    // SAFETY: the slot is large enough, and aligned to 8 bytes.
    unsafe { place.write(header) };
    // Default flags: the consumer is woken only if it had read everything before this record.
    slot.submit(0);
    Outcome::Submitted
}

/// Bounds a length to `1..=CAPACITY_BYTES` in the one register that the helper will get. The comparisons
/// are written out because the compiler, which knows the bounds already, would drop them, and the verifier,
/// which does not, would refuse an access of unbounded or zero size.
#[inline(always)]
fn clamp_for_the_verifier<const CAPACITY_BYTES: usize>(length: u32) -> u64 {
    let mut length = u64::from(length);
    // SAFETY: the instructions touch only the register they are given; each jump skips one of them.
    unsafe {
        asm!(
            "if {length} <= {capacity} goto +1",
            "{length} = {capacity}",
            "if {length} >= 1 goto +1",
            "{length} = 1",
            length = inout(reg) length,
            capacity = const CAPACITY_BYTES,
            options(pure, nomem, nostack),
        );
    }
    length
}

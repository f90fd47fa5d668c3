//! Counts packets by reason, in a block of its own for each CPU.
//!
//! Owns: additions to the counters' map. Must not know: what the reasons mean.
//! Bounded by: one atomic addition a call, its result unused, which is all that a 5.8 kernel has.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, helpers::bpf_get_smp_processor_id, macros::map, maps::Array};
use core::arch::asm;
use observer_ebpf::{
    Counter, CounterBlock, RUNNING_LOSSES_ELEMENT, RUNNING_LOSSES_WORD, counter_element_of_cpu,
};

// The loader sets the number of elements: one, and one for each possible CPU.
#[map]
static COUNTERS: Array<CounterBlock> = Array::with_max_entries(1, BPF_F_MMAPABLE);

pub(super) struct CpuCounters {
    block: *mut u64,
    cpu: u32,
}

impl CpuCounters {
    #[inline(always)]
    pub(super) fn of_this_cpu() -> Option<Self> {
        // SAFETY: the helper has no preconditions.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let block = COUNTERS.get_ptr_mut(counter_element_of_cpu(cpu))?;
        Some(Self { block: block.cast(), cpu })
    }

    /// Atomic, since a softirq on this CPU may count between the load and the store of a plain addition.
    #[inline(always)]
    pub(super) fn add(&self, counter: Counter) {
        increment(self.block, counter as usize);
    }

    /// Counts a loss, for this CPU by its reason and for all CPUs together.
    #[inline(always)]
    pub(super) fn lose(&self, counter: Counter) {
        self.add(counter);
        if let Some(shared) = COUNTERS.get_ptr_mut(RUNNING_LOSSES_ELEMENT) {
            increment(shared.cast(), RUNNING_LOSSES_WORD);
        }
    }

    /// Read after [`Counter::Seen`] was added. A softirq in between can make two packets of this CPU read
    /// the same number, but never two packets of one socket in one direction: both would need its lock.
    #[inline(always)]
    pub(super) fn packet_id(&self) -> u64 {
        let seen = load(self.block, Counter::Seen as usize);
        (u64::from(self.cpu) << 48) | (seen & 0xffff_ffff_ffff)
    }
}

#[inline(always)]
pub(super) fn running_losses() -> u64 {
    match COUNTERS.get_ptr_mut(RUNNING_LOSSES_ELEMENT) {
        Some(shared) => load(shared.cast(), RUNNING_LOSSES_WORD),
        None => 0,
    }
}

/// Written out because `core` offers this target no atomic additions, and because the compiler would be free
/// to choose the instruction that also fetches, which kernels before 5.12 refuse.
#[inline(always)]
fn increment(block: *mut u64, word: usize) {
    // SAFETY: `block` points to a CounterBlock of the map and `word` comes from its enumeration.
    let counter = unsafe { block.add(word) };
    // SAFETY: adds to one aligned word of the map; every other access to it is atomic or a whole read.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {one}",
            counter = in(reg) counter,
            one = in(reg) 1_u64,
            options(nostack),
        );
    }
}

#[inline(always)]
fn load(block: *mut u64, word: usize) -> u64 {
    // SAFETY: as in `increment`.
    let counter = unsafe { block.add(word) };
    // SAFETY: an aligned word of the map.
    unsafe { counter.read_volatile() }
}

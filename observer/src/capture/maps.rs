//! The two arrays that are shared with the kernel programs as memory.
//!
//! Owns: mapping the counters and the observed ports. Must not know: how programs are loaded.
//! Bounded by: the sizes of the maps. Once mapped, both work without any capability: look-ups through
//! bpf(2) would fail after privileges are dropped.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, fs, io};

use anyhow::Context as _;
use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use observer_ebpf::{
    COUNTER_BLOCK_WORDS, Counter, PORT_BITMAP_WORDS, RUNNING_LOSSES_ELEMENT, RUNNING_LOSSES_WORD,
    counter_element_of_cpu,
};

/// Totals over all CPUs, by reason. [`Counter`] says what each means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    by_reason: [u64; Counter::ALL.len()],
    /// Packets lost wholly or in part, as the kernel programs count them for all CPUs together.
    pub running_losses: u64,
}

impl Counters {
    /// How often a packet was counted for this reason.
    #[must_use]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.by_reason[counter as usize]
    }

    /// Packets of which nothing was captured although it should have been.
    #[must_use]
    pub fn losses(&self) -> u64 {
        Counter::LOSSES.into_iter().map(|loss| self.get(loss)).sum()
    }

    /// Whether every packet that was seen is accounted for. Exact once the programs are detached; while they
    /// run, packets being worked on are seen and not yet accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.get(Counter::Seen) == self.get(Counter::Captured) + self.get(Counter::Filtered) + self.losses()
    }

    /// Every counter with its value, in the order of the ABI.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.into_iter().map(|counter| (counter, self.get(counter)))
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (counter, value)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{} {value}", counter.name())?;
        }
        Ok(())
    }
}

/// The counters' map, mapped read-only.
pub(super) struct CounterMap {
    memory: MmapRaw,
    possible_cpus: u32,
}

impl CounterMap {
    /// Elements that the map needs on this machine.
    pub(super) fn elements(possible_cpus: u32) -> u32 {
        counter_element_of_cpu(possible_cpus)
    }

    pub(super) fn new(map: &MapData, possible_cpus: u32) -> io::Result<Self> {
        let words = COUNTER_BLOCK_WORDS * Self::elements(possible_cpus) as usize;
        let memory = MmapOptions::new()
            .len(words * size_of::<u64>())
            .map_raw_read_only(map.fd().as_fd().as_raw_fd())?;
        Ok(Self { memory, possible_cpus })
    }

    pub(super) fn read(&self) -> Counters {
        let mut by_reason = [0; Counter::ALL.len()];
        for cpu in 0..self.possible_cpus {
            let element = counter_element_of_cpu(cpu);
            // Read against the order in which the programs add, so that no total is ahead of `seen`.
            for counter in Counter::ALL.into_iter().rev() {
                by_reason[counter as usize] += self.load(element, counter as usize);
            }
        }
        Counters { by_reason, running_losses: self.load(RUNNING_LOSSES_ELEMENT, RUNNING_LOSSES_WORD) }
    }

    fn load(&self, element: u32, word: usize) -> u64 {
        let index = element as usize * COUNTER_BLOCK_WORDS + word;
        assert!(index * size_of::<u64>() < self.memory.len());
        // SAFETY: the index is inside the mapping.
        let pointer = unsafe { self.memory.as_mut_ptr().cast::<u64>().add(index) };
        // SAFETY: aligned, valid as long as the mapping, and only read: loads do not need write access. The
        // kernel changes the word by atomic additions only.
        unsafe { AtomicU64::from_ptr(pointer) }.load(Ordering::Acquire)
    }
}

/// The bitmap of observed ports, mapped for writing.
pub(super) struct PortMap {
    memory: MmapRaw,
}

impl PortMap {
    pub(super) fn new(map: &MapData) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .len(PORT_BITMAP_WORDS * size_of::<u64>())
            .map_raw(map.fd().as_fd().as_raw_fd())?;
        Ok(Self { memory })
    }

    /// Each word changes at once; packets in between see a mixture of the old and the new set.
    pub(super) fn set(&self, ports: &[u16]) {
        for (index, word) in port_bitmap(ports).into_iter().enumerate() {
            assert!(index * size_of::<u64>() < self.memory.len());
            // SAFETY: the index is inside the mapping.
            let pointer = unsafe { self.memory.as_mut_ptr().cast::<u64>().add(index) };
            // SAFETY: aligned, valid as long as the mapping; the kernel reads whole words only.
            unsafe { AtomicU64::from_ptr(pointer) }.store(word, Ordering::Relaxed);
        }
    }
}

fn port_bitmap(ports: &[u16]) -> [u64; PORT_BITMAP_WORDS] {
    let mut words = [0; PORT_BITMAP_WORDS];
    for port in ports.iter().copied().filter(|port| *port != 0) {
        words[usize::from(port / 64)] |= 1 << (port % 64);
    }
    words
}

/// One more than the highest number that a CPU of this machine can have.
pub(super) fn possible_cpus() -> anyhow::Result<u32> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    parse_possible_cpus(&text).with_context(|| format!("{PATH} says {text:?}"))
}

/// The kernel writes ranges in rising order, such as `0-3,8-11`.
fn parse_possible_cpus(text: &str) -> Option<u32> {
    let last = text.trim().rsplit([',', '-']).next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_become_bits_and_port_0_is_never_observed() {
        let words = port_bitmap(&[0, 1, 63, 64, 7272, 65535]);
        assert_eq!(words[0], (1 << 1) | (1 << 63));
        assert_eq!(words[1], 1);
        assert_eq!(words[7272 / 64], 1 << (7272 % 64));
        assert_eq!(words[1023], 1 << 63);
        assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 5);
    }

    #[test]
    fn possible_cpus_counts_to_the_highest_number() {
        assert_eq!(parse_possible_cpus("0\n"), Some(1));
        assert_eq!(parse_possible_cpus("0-1\n"), Some(2));
        assert_eq!(parse_possible_cpus("0-3,8-11\n"), Some(12));
        assert_eq!(parse_possible_cpus("0,2\n"), Some(3));
        assert_eq!(parse_possible_cpus("\n"), None);
    }

    #[test]
    fn the_balance_counts_every_loss_once() {
        let mut counters = Counters::default();
        assert!(counters.is_balanced());
        counters.by_reason[Counter::Seen as usize] = 10;
        counters.by_reason[Counter::Captured as usize] = 6;
        counters.by_reason[Counter::Truncated as usize] = 5;
        counters.by_reason[Counter::CapturedPartly as usize] = 2;
        counters.by_reason[Counter::Filtered as usize] = 1;
        counters.by_reason[Counter::LostRingFull as usize] = 2;
        assert!(!counters.is_balanced());
        counters.by_reason[Counter::LostLoadError as usize] = 1;
        assert!(counters.is_balanced());
        assert_eq!(counters.losses(), 3);
        assert_eq!(
            counters.to_string(),
            "seen 10, captured 6, truncated 5, captured_partly 2, filtered 1, lost_ring_full 2, \
             lost_load_error 1, lost_no_socket 0"
        );
    }
}

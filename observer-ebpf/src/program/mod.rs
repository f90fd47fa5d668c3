//! The two entry points, the maps, and the options that the loader sets.
//!
//! Owns: the path of a packet from the hook to its counters. Must not know: how a piece gets into the ring
//! ([`ring`]) or where a counter lies ([`counters`]). Bounded by: no loops but the one over a packet's
//! pieces. Runs on kernels from 5.8 on, so no atomic operation's result is used and no `bpf_loop`.

mod counters;
mod ring;
mod skb;

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    macros::{cgroup_skb, map},
    maps::Array,
    programs::SkBuffContext,
};
use aya_log_ebpf::{debug, warn};
use counters::CpuCounters;
use observer_ebpf::{
    ABI_HASH, ABI_VERSION, Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, EventHeader, PIECE_BYTES_MAX,
    PIECES_MAX, PORT_BITMAP_WORDS, SIDE_CLIENT, wanted_bytes,
};
use ring::Outcome;
use skb::Skb;

/// Let the packet pass. Anything else than 1 drops or marks it.
const PASS: i32 = 1;

const IPPROTO_TCP: u32 = 6;

#[map]
static PORTS: Array<[u64; PORT_BITMAP_WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

// Read-only once loaded: the verifier takes them for constants and removes the branches they rule out.
#[unsafe(no_mangle)]
static SIDE: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static SNAP_LENGTH_BYTES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NO_ACKS: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static INTERFACE_INDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static ONLY_NETNS: Global<u64> = Global::new(0);

#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".observer_abi")]
static OBSERVER_ABI: [u8; 8] = ABI_HASH.to_le_bytes();

#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Called for every packet on its way to a socket, before TCP looks at it.
#[cgroup_skb(ingress)]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn observe_ingress(context: SkBuffContext) -> i32 {
    observe(&context, DIRECTION_INGRESS);
    PASS
}

/// Called for every packet that a socket sends, after NAT and before segmentation.
#[cgroup_skb(egress)]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn observe_egress(context: SkBuffContext) -> i32 {
    observe(&context, DIRECTION_EGRESS);
    PASS
}

#[inline(always)]
fn observe(context: &SkBuffContext, direction: u8) {
    let skb = Skb::new(context);
    let local_port = match skb.local_port() {
        0 if direction == DIRECTION_EGRESS => skb.port_of_reset(),
        port => port,
    };
    let observed_port = if SIDE.load() == SIDE_CLIENT { skb.remote_port() } else { local_port };
    // Port 0 is never observed. Without CAP_PERFMON the verifier also refuses an index that is a constant on one path.
    if observed_port == 0 || !is_observed(observed_port) {
        return;
    }
    let protocol = skb.socket_protocol();
    if matches!(protocol, Some(protocol) if protocol != IPPROTO_TCP) {
        return;
    }
    let Some(counters) = CpuCounters::of_this_cpu() else {
        return;
    };
    counters.add(Counter::Seen);
    let packet_id = counters.packet_id();
    if protocol.is_none() {
        counters.lose(Counter::LostNoSocket);
        return;
    }

    let interface_index = skb.interface_index();
    let only_interface_index = INTERFACE_INDEX.load();
    if only_interface_index != 0 && interface_index != only_interface_index {
        counters.add(Counter::Filtered);
        return;
    }
    let netns_cookie = if NETNS_COOKIE.load() != 0 { skb.netns_cookie() } else { 0 };
    let only_netns_cookie = ONLY_NETNS.load();
    if only_netns_cookie != 0 && netns_cookie != only_netns_cookie {
        counters.add(Counter::Filtered);
        return;
    }
    let packet_length = skb.length();
    if NO_ACKS.load() != 0 && skb.is_pure_acknowledgement(packet_length) {
        counters.add(Counter::Filtered);
        return;
    }

    let wanted = wanted_bytes(packet_length, SNAP_LENGTH_BYTES.load());
    let family = skb.family();
    let header = EventHeader {
        abi_version: ABI_VERSION,
        direction,
        family,
        interface_index,
        packet_id,
        boot_time_ns: skb::boot_time_ns(),
        socket_cookie: skb.socket_cookie(),
        netns_cookie,
        cgroup_id: skb.cgroup_id(),
        losses: counters::running_losses(),
        packet_length,
        offset: 0,
        captured_length: 0,
        local_port,
        remote_port: skb.remote_port(),
        local_address: skb.local_address(family),
        remote_address: skb.remote_address(family),
    };
    capture(context, &skb, &counters, &header, wanted);
}

#[inline(always)]
fn capture(context: &SkBuffContext, skb: &Skb, counters: &CpuCounters, header: &EventHeader, wanted: u32) {
    let first = if wanted > PIECE_BYTES_MAX { PIECE_BYTES_MAX } else { wanted };
    match ring::emit(skb.as_ptr(), header, 0, first) {
        Outcome::Submitted => {}
        Outcome::RingFull => {
            counters.lose(Counter::LostRingFull);
            warn!(context, "ring full, lost a packet of {} bytes", header.packet_length);
            return;
        }
        Outcome::LoadError => {
            counters.lose(Counter::LostLoadError);
            warn!(context, "cannot read a packet of {} bytes", header.packet_length);
            return;
        }
    }
    counters.add(Counter::Captured);
    if wanted < header.packet_length {
        counters.add(Counter::Truncated);
    }
    debug!(
        context,
        "direction {} local port {} remote port {}: captured {} of {} bytes",
        header.direction,
        header.local_port,
        header.remote_port,
        wanted,
        header.packet_length
    );
    if wanted <= PIECE_BYTES_MAX {
        return;
    }
    for piece in 1..PIECES_MAX {
        let offset = piece * PIECE_BYTES_MAX;
        if offset >= wanted {
            break;
        }
        let rest = wanted - offset;
        let length = if rest > PIECE_BYTES_MAX { PIECE_BYTES_MAX } else { rest };
        if ring::emit(skb.as_ptr(), header, offset, length) != Outcome::Submitted {
            counters.lose(Counter::CapturedPartly);
            // Where there was no room for a large piece there often is for a small one: it tells user
            // space at once that the rest will not come.
            let _ = ring::emit(skb.as_ptr(), header, offset, 0);
            break;
        }
    }
}

#[inline(always)]
fn is_observed(port: u16) -> bool {
    let Some(bitmap) = PORTS.get_ptr(0) else {
        return false;
    };
    let word = (port >> 6) as usize;
    // SAFETY: `word` is at most 1023, the bitmap has 1024 words.
    let word = unsafe { bitmap.cast::<u64>().add(word) };
    // SAFETY: an aligned word of the map; user space writes whole words.
    let bits = unsafe { word.read_volatile() };
    bits & (1 << (port & 63)) != 0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

//! The kernel programs: every TCP packet to or from an observed port becomes events in a ring buffer.
//!
//! Owns: what happens per packet. Must not know: TCP streams, WebSocket, or anything that needs state
//! between packets. Bounded by: [`observer_ebpf::PIECES_MAX`] events a packet; it always lets the packet
//! pass, and an unobserved port costs one look-up in a bitmap.
//!
//! On any target but bpf this is an empty program, so that the workspace builds without nightly Rust.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod program;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

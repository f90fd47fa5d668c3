//! TCP (RFC 9293) as a bystander sees it: IP packets in, the byte stream of each direction out.
//!
//! Owns segments, sequence numbers and reassembly of one direction. Must not know connections, HTTP or WebSocket.
//! Bounded by `limits.rs`.

pub mod reassembler;
pub mod segment;
pub mod sequence;
mod unacknowledged;
mod waiting;

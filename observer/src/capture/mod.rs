//! Live capture: from the kernel to whole packets.
//!
//! Owns: the kernel programs' life and the path of their events. Must not know: TCP, WebSocket, output, or
//! the command line. Bounded by: what each part states.
//!
//! ```text
//! LiveCapture::start   before the first thread: it needs capabilities
//! Existing::list       likewise: connections that were open before; what follows needs none
//!   → PacketStream     in a tokio runtime, or LiveCapture::drain_packets without one
//!   → CapturedPacket   L3 bytes, and what the kernel knew about them
//!   → detach, drain_packets, finish_packets, counters
//! ```

mod cgroup;
mod error;
mod existing;
pub mod file;
mod live;
mod maps;
mod object;
mod packets;
mod stream;

pub use cgroup::Cgroup;
pub use error::StartError;
pub use existing::{Existing, ExistingSocket, HalfClosed, Shortfall};
pub use live::{Drained, LiveCapture, Options, Side};
pub use maps::Counters;
pub use object::is_embedded;
pub use observer_ebpf::{Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, EventHeader, RING_BYTES_DEFAULT};
pub use packets::{CapturedPacket, OPEN_BYTES_MAX, OPEN_PACKETS_MAX, PacketCollector, PieceStatistics};
pub use stream::{PAUSE, PacketStream};

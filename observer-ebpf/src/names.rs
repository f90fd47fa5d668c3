//! The names by which the loader finds programs, maps and options in the object.
//!
//! Owns: names and the values of options. Must not know: types of aya. Bounded by: constants only. The
//! kernel limits names of maps and programs to 15 bytes and cuts longer ones.

/// ELF section that holds [`crate::ABI_HASH`] as eight little-endian bytes, readable without loading.
pub const ABI_SECTION: &str = ".observer_abi";

/// Program for packets on their way to a socket.
pub const INGRESS_PROGRAM: &str = "observe_ingress";
/// Program for packets sent by a socket.
pub const EGRESS_PROGRAM: &str = "observe_egress";

/// Ring buffer of events.
pub const EVENTS_MAP: &str = "EVENTS";
/// Array of [`crate::CounterBlock`].
pub const COUNTERS_MAP: &str = "COUNTERS";
/// Array with one element: the bitmap of observed ports.
pub const PORTS_MAP: &str = "PORTS";

/// Option, `u8`: which port of a socket is compared, [`SIDE_SERVER`] or [`SIDE_CLIENT`].
pub const SIDE_OPTION: &str = "SIDE";
/// The socket's own port is observed.
pub const SIDE_SERVER: u8 = 0;
/// The port that the socket is connected to is observed.
pub const SIDE_CLIENT: u8 = 1;

/// Option, `u32`: bytes captured of each packet, counted from its L3 header; 0 for everything.
pub const SNAP_LENGTH_OPTION: &str = "SNAP_LENGTH_BYTES";
/// Option, `u8`: 1 to leave out pure acknowledgements.
pub const NO_ACKS_OPTION: &str = "NO_ACKS";
/// Option, `u32`: the only interface whose packets are captured; 0 for any.
pub const INTERFACE_INDEX_OPTION: &str = "INTERFACE_INDEX";
/// Option, `u8`: 1 where the kernel lets the programs ask for the network namespace's cookie.
pub const NETNS_COOKIE_OPTION: &str = "NETNS_COOKIE";
/// Option, `u64`: cookie of the only network namespace whose packets are captured; 0 for any. Means something only where
/// [`NETNS_COOKIE_OPTION`] is 1.
pub const ONLY_NETNS_OPTION: &str = "ONLY_NETNS";

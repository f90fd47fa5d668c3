//! The frame header (RFC 6455 §5.2).
//!
//! Owns its layout. Must not know what a frame means in its conversation. Bounded: a header has 14 bytes at most.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// 0: goes on with the message that was begun.
    Continuation,
    /// 1.
    Text,
    /// 2.
    Binary,
    /// 8.
    Close,
    /// 9.
    Ping,
    /// 10.
    Pong,
    /// 3–7 and 11–15, without a meaning in RFC 6455.
    Reserved(u8),
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// First reserved bit: permessage-deflate's (RFC 7692 §6).
    pub rsv1: bool,
    /// Second reserved bit.
    pub rsv2: bool,
    /// Third reserved bit.
    pub rsv3: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The masking key, where it is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload behind the header.
    pub payload_length: u64,
    /// Bytes of the header itself.
    pub header_length: u8,
}

//! What the two ends agreed on besides RFC 6455 itself.
//!
//! Owns the meaning of negotiated extensions for the decoder. Must not know how they were negotiated. Bounded:
//! plain values.

use crate::record::Direction;

/// The extensions of a connection, as far as they matter to decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Whether messages may be compressed.
    pub compression: Compression,
    /// Whether an extension is in use that the decoder does not know: reserved bits may then mean anything.
    pub unknown: bool,
}

impl Extensions {
    /// Whether all that gives bits, opcodes and payloads another meaning is known. Where it is not, an extension may
    /// allow what RFC 6455 forbids.
    pub fn are_known(self) -> bool {
        !self.unknown && self.compression != Compression::Unseen
    }
}

/// Whether messages may come through permessage-deflate (RFC 7692).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// It was not negotiated.
    #[default]
    Off,
    /// It was, with these parameters.
    Deflate(DeflateParameters),
    /// The handshake was not seen.
    Unseen,
}

impl Compression {
    /// Whether RSV1 on the first frame of a message says that it is compressed.
    pub const fn is_possible(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether a sender may refer to its earlier messages: it may where nothing else was agreed on.
    pub const fn takes_over(self, direction: Direction) -> bool {
        match (self, direction) {
            (Self::Deflate(parameters), Direction::ClientToServer) => !parameters.client_no_context_takeover,
            (Self::Deflate(parameters), Direction::ServerToClient) => !parameters.server_no_context_takeover,
            (Self::Off | Self::Unseen, _) => true,
        }
    }

    /// How far back a sender's messages may refer, in bytes: as far as DEFLATE can where nothing else was agreed on.
    pub const fn window_bytes(self, direction: Direction) -> usize {
        let bits = match (self, direction) {
            (Self::Deflate(parameters), Direction::ClientToServer) => parameters.client_max_window_bits,
            (Self::Deflate(parameters), Direction::ServerToClient) => parameters.server_max_window_bits,
            (Self::Off | Self::Unseen, _) => 15,
        };
        1 << bits
    }

    /// The parameters, where they are known.
    pub const fn parameters(self) -> Option<DeflateParameters> {
        match self {
            Self::Deflate(parameters) => Some(parameters),
            Self::Off | Self::Unseen => None,
        }
    }
}

/// The parameters of permessage-deflate that the server's answer settled (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParameters {
    /// The server compresses each message by itself.
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself.
    pub client_no_context_takeover: bool,
    /// Base-2 logarithm of the server's window, 8 to 15.
    pub server_max_window_bits: u8,
    /// Base-2 logarithm of the client's window, 8 to 15.
    pub client_max_window_bits: u8,
}

impl Default for DeflateParameters {
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}

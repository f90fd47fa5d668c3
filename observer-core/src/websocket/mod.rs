//! WebSocket (RFC 6455): bytes of one direction in, frames and messages out.
//!
//! Owns the wire format. Must not know TCP, HTTP or the chat. Bounded by `limits.rs`: no frame or message is held
//! beyond `message_bytes`, and a length that a peer claims allocates nothing.

pub mod close;
pub mod decoder;
pub mod extension;
pub mod frame;
pub mod mask;

mod assembly;
mod deflate;
mod inflate;
mod resync;

pub use decoder::{Decoder, Item, Shared, StreamEnd};
pub use extension::{Compression, DeflateParameters, Extensions};

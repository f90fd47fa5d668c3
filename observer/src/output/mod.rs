//! From records to what a user or a program reads.
//!
//! Owns the formats, their colours, and the way to standard output and standard error. Must not know where records
//! come from. Bounded: one record is laid out at a time into a reused buffer, and the queue to the writer is short.

mod append;
#[cfg(test)]
mod cases;
pub mod clock;
pub mod diagnostics;
pub mod escape;
pub mod explain;
pub mod folded;
pub mod json;
pub mod listing;
pub mod packets;
pub mod palette;
mod party;
pub mod pieces;
pub mod sink;
pub mod summary;
pub mod text;
mod trigger;
pub mod verdict;
pub mod writer;

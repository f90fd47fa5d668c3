//! What each fuzz target does with its input.
//!
//! Owns the targets and their oracles. Must not know libFuzzer: `cargo test` runs every target on its seeds, and on
//! whatever once broke it. Bounded: by the input's length, which libFuzzer bounds.
//!
//! A target fails by panicking. What a target finds and what becomes of it is a named test of the crate at fault; an
//! input that broke it need not be kept.

pub mod capture_file;
pub mod cursor;
pub mod deflate;
pub mod engine;
pub mod frame;
pub mod handshake;
pub mod memory;
pub mod packet;
pub mod reassembly;
pub mod seeds;

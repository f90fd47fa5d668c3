//! Text at the end of a buffer.
//!
//! Owns how it is appended. Must not know what it says. Bounded by what it is given.

use std::fmt::Arguments;
use std::io::Write as _;

/// Appends a text as it is: nothing of a peer, which goes through `escape`.
pub fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// The same of what is formatted.
pub fn format(out: &mut Vec<u8>, arguments: Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(arguments);
}

//! The list of what is out of order: a code, a sentence and a source for each.
//!
//! Owns the names. Must not know how any of them is found. Bounded: a closed list, safe as metric labels.

/// What is out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyCode {
    /// A client sent a frame without a mask (RFC 6455 §5.1).
    UnmaskedClientFrame,
}

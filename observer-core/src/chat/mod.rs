//! What a chat message means.
//!
//! Owns the shape of a chat event and the dialects that are read into it. Must not know frames, connections or
//! output. Bounded: an event is built of one message of at most `MAXIMUM_JSON_BYTES`.

/// A chat message's meaning, whatever the dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {}

//! What messages mean, by rules: which of them are a chat's, of what type, about whom, for whom, and what they say.
//!
//! Owns the rule language and the dialects that come with the observer. Must not know frames, connections or output.
//! Bounded: a message is read that is no longer than [`MAXIMUM_JSON_BYTES`], and walked once; rules are bounded by
//! `parse`.
//!
//! A rule file ([`parse()`], docs/flows.md) becomes a [`Dialect`]; [`Rules`] are the dialects of a run. Reading fills the
//! places that any of them asks for in one walk (`tree`), and then asks one rule after the other, so that each more rule
//! costs comparisons, and none a walk. Whatever needs to know what a message means asks the [`Event`].

pub mod dialect;
pub mod event;
pub mod flows;
pub mod latency;
pub mod members;
pub mod pointer;
pub mod reader;
pub mod rules;
pub mod transform;
pub mod verdict;
pub mod verifier;

mod choice;
mod own_words;
mod parse;
mod tree;

pub use choice::{Chat, chat_of};
pub use dialect::{Act, Dialect};
pub use event::{Event, Recipient, Uid, User};
pub use members::{Members, Person};
pub use parse::{RULES_BYTES_MAX, RuleError, parse};
pub use reader::Reader;
pub use rules::{DialectSet, Reading, Rules};
pub use tree::Value;
pub use verifier::Verifier;

/// The longest message that is read, in bytes. A longer one has no event; it holds at most some thousand users.
pub const MAXIMUM_JSON_BYTES: usize = 64 << 10;

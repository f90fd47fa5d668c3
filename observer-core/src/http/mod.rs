//! HTTP/1.1, as far as the opening handshake of WebSocket needs it.
//!
//! Owns heads, the stepping over bodies, and what an upgrade request and its answer mean. Must not know TCP, frames or records. Bounded by
//! [`Limits::head_bytes`](crate::Limits::head_bytes) and [`head::MAXIMUM_HEADERS`].

pub mod body;
pub mod claims;
pub mod extensions;
pub mod handshake;
pub mod head;

pub use body::{Asked, Body, BodyProgress};
pub use handshake::{AnswerEvaluation, Finding, Offer, RequestEvaluation, evaluate_answer, evaluate_request};
pub use head::{
    Foreign, HeadKind, HeadProgress, HeadReader, RequestHead, ResponseHead, parse_request, parse_response,
};

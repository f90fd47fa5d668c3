//! The real binary, without root: capture files in, lines out.
//!
//! Owns nothing but its modules; one binary, since each test binary is linked anew.

mod captures;
mod chats;
mod explain;
mod filters;
mod folded;
mod golden;
mod heads;
mod hostile;
mod live_refused;
mod logged;
mod losses;
mod packets;
mod reading;
mod rules;
mod streams;
mod support;
mod verify;

#[path = "../endpoints/mod.rs"]
mod endpoints;

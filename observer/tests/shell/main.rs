//! The real binary, without root: capture files in, lines out.
//!
//! Owns nothing but its modules; one binary, since each test binary is linked anew.

mod captures;
mod explain;
mod filters;
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

#[path = "../endpoints/mod.rs"]
mod endpoints;

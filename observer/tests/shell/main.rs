//! The real binary, without root: capture files in, lines out.
//!
//! Owns nothing but its modules; one binary, since each test binary is linked anew.

mod explain;
mod filters;
mod golden;
mod live_refused;
mod packets;
mod reading;
mod rules;
mod streams;
mod support;

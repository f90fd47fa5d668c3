//! The real binary on this machine's kernel, beside real servers and clients: needs root, and `cargo xtask test`.
//!
//! Owns nothing but its modules; one binary, since each test binary is linked anew. Peers are the bundled chat server,
//! tungstenite, npm's `ws` and Python's `websockets`: never the observer's own decoder, which would hide its mistakes.

mod by_hand;
mod chat;
mod flows;
mod late;
mod losses;
mod network;
mod options;
mod peers;
mod running;
mod support;
mod tcp;
mod tcpdump;
mod tshark;
mod verify;

#[path = "../endpoints/mod.rs"]
mod endpoints;
#[path = "../kernel/mod.rs"]
mod kernel;
#[path = "../private_cgroup/mod.rs"]
mod private_cgroup;

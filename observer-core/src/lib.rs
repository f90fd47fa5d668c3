//! The sans-IO heart of observer: captured packets in, records of WebSocket conversations out.
//!
//! Owns reassembly, decoding and meaning. Must not know sockets, files, clocks, threads or terminals: packets and
//! times are parameters, records are handed to a [`Sink`]. Hostile input never fails and never panics, it yields
//! [`anomaly`] records; whatever a peer can make grow is bounded by [`Limits`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

pub mod anomaly;
pub mod engine;
pub mod flow;
pub mod http;
pub mod http2;
pub mod limits;
pub mod link;
pub mod packet;
pub mod proxy_protocol;
pub mod record;
pub mod tcp;
pub mod time;
pub mod tls;
pub mod websocket;

mod connection;
mod holders;
mod reporter;
mod session;
mod table;

pub use engine::{Engine, Event};
pub use limits::Limits;
pub use packet::Packet;
pub use record::{Record, Sink};

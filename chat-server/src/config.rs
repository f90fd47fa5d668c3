//! Owns every limit and period of the server, with its default and what happens when it is reached.
//!
//! Must not know sockets, JSON or the command line. Nothing here grows.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::fault::Fault;
use crate::origin::is_well_formed;

/// What the server allows and how long it waits. [`Config::default`] suits a chat of a few thousand people.
///
/// The limits bound the memory that peers can take: each connection holds at most one incoming message (four times
/// [`max_message_bytes`](Self::max_message_bytes)), 128 KiB that its socket does not take, and one queue of outgoing
/// messages; all queues together hold at most [`max_total_queued_bytes`](Self::max_total_queued_bytes). The text of a
/// broadcast is shared by all queues that it waits in. Where compression is switched on and the client wants it, about
/// 300 KiB more for what compresses and inflates; of what comes compressed, one message at a time is inflated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How often `{"type":"ping"}` is sent to each chat connection; zero turns the heartbeat off, and then silent
    /// connections are kept for ever. Default 30 s.
    pub ping_interval: Duration,
    /// How long a client may stay silent after a ping before it is closed with 1008. Any whole WebSocket message or
    /// pong frame counts as an answer; while the server does not read, because it has much to write to the client, any
    /// progress of writing does too. Default 20 s.
    pub ping_timeout: Duration,
    /// How long a client may take from connecting to the end of its HTTP request, and for the page to the end of the
    /// answer; then it is dropped. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a close handshake may take before the connection is dropped; also bounds the shutdown. Default 3 s.
    pub close_timeout: Duration,
    /// Longest chat message (the JSON text as sent), in bytes. A longer one is answered with the error
    /// `message_too_long` and dropped; one of more than four times this length also ends the connection with
    /// close 1009, since it is refused before it is read. Default 65,536.
    pub max_message_bytes: usize,
    /// Longest name, in bytes of UTF-8; a longer one is answered with the error `name_too_long`. Default 64.
    pub max_name_bytes: usize,
    /// Longest room_id, in bytes of UTF-8; a longer one is answered with the error `room_id_too_long`. Default 64.
    pub max_room_id_bytes: usize,
    /// Most connections at a time, handshakes included. Further clients get HTTP status 503. Default 10,000.
    pub max_connections: usize,
    /// Most connections to the page's port at a time; they last for one request each. Further ones get HTTP status 503.
    /// Default 256.
    pub max_page_connections: usize,
    /// Most messages that wait for one client. When one more comes, the client is a slow reader: its queue is
    /// dropped and the connection closed with 1013. Default 4,096.
    pub max_queued_messages: usize,
    /// Most bytes that wait for one client, with the same consequence; a single message may exceed it, and the user list
    /// does not count. Default 4 MiB.
    pub max_queued_bytes: usize,
    /// Most bytes that wait for all clients together, a broadcast counted once. While there are more, whoever does not
    /// take what it gets is a slow reader as soon as there is something more for it, and so is whoever logs in. Default
    /// 256 MiB.
    pub max_total_queued_bytes: usize,
    /// Origins of web pages that may connect although they come from another host than this server, as browsers write
    /// them (`https://chat.example.org`); `*` stands for all. Others get HTTP status 403. Default none.
    pub allowed_origins: Vec<String>,
    /// Whether messages are compressed with permessage-deflate (RFC 7692) for clients that offer it. Default off.
    pub compression: Compression,
    /// Whether the path `/echo` exists, which sends every text and binary message back as it is. For conformance and
    /// load tests; it has no heartbeat. Default off.
    pub echo: bool,
    /// Longest message on `/echo`, in bytes; a longer one ends that connection with close 1009. Default 64 MiB.
    pub max_echo_message_bytes: usize,
    /// What breaks the chat on purpose, for tests of observer. Default nothing.
    pub faults: Vec<Fault>,
    /// What is written to standard error. Default [`Verbosity::Normal`].
    pub verbosity: Verbosity,
}

/// Whether and how messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Never.
    Off,
    /// Each message may refer to the earlier ones of its direction.
    On,
    /// Each message is compressed by itself.
    WithoutContextTakeover,
}

/// Which events are written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings only, and what faults do.
    Quiet,
    /// Start, stop, and everything that was refused, dropped or shed.
    Normal,
    /// Also each connection, login and logout.
    Verbose,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(3),
            max_message_bytes: 64 * 1024,
            max_name_bytes: 64,
            max_room_id_bytes: 64,
            max_connections: 10_000,
            max_page_connections: 256,
            max_queued_messages: 4096,
            max_queued_bytes: 4 * 1024 * 1024,
            max_total_queued_bytes: 256 * 1024 * 1024,
            allowed_origins: Vec::new(),
            compression: Compression::Off,
            echo: false,
            max_echo_message_bytes: 64 * 1024 * 1024,
            faults: Vec::new(),
            verbosity: Verbosity::Normal,
        }
    }
}

impl Config {
    /// Refuses values that no server could run with.
    ///
    /// # Errors
    ///
    /// Names the setting and what it needs.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.ping_interval.is_zero() || !self.ping_timeout.is_zero(),
            "the ping timeout is zero, so every client would be dropped; give it a time, or switch the heartbeat off \
             with a ping interval of 0"
        );
        ensure!(!self.handshake_timeout.is_zero(), "the handshake timeout must be longer than zero");
        ensure!(!self.close_timeout.is_zero(), "the close timeout must be longer than zero");
        ensure!(
            (64..=Self::MOST_MESSAGE_BYTES).contains(&self.max_message_bytes),
            "the longest message must be between 64 bytes and 256 MiB"
        );
        ensure!(
            (64..=Self::MOST_MESSAGE_BYTES).contains(&self.max_echo_message_bytes),
            "the longest echo message must be between 64 bytes and 256 MiB"
        );
        ensure!(self.max_name_bytes >= 1, "a name needs at least one byte");
        ensure!(self.max_room_id_bytes >= 1, "a room_id needs at least one byte");
        ensure!(self.max_connections >= 1, "at least one connection must be allowed");
        ensure!(self.max_page_connections >= 1, "at least one connection to the page must be allowed");
        ensure!(self.max_queued_messages >= 2, "at least two messages must be allowed to wait for a client");
        ensure!(self.max_queued_bytes >= 1024, "at least 1024 bytes must be allowed to wait for a client");
        ensure!(
            self.max_total_queued_bytes >= 1024,
            "at least 1024 bytes must be allowed to wait for all clients together"
        );
        if let Some(wrong) = self.allowed_origins.iter().find(|origin| !is_well_formed(origin)) {
            bail!(
                "{wrong:?} is no origin; write scheme and host, for example https://chat.example.org, or null, or *"
            );
        }
        Ok(())
    }

    const MOST_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

    /// Where the WebSocket layer refuses a chat message unread, in bytes.
    pub(crate) fn refused_message_bytes(&self) -> usize {
        self.max_message_bytes.saturating_mul(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn a_heartbeat_without_patience_is_refused_and_none_at_all_is_not() {
        let mut config = Config { ping_timeout: Duration::ZERO, ..Config::default() };
        assert!(config.validate().unwrap_err().to_string().contains("ping timeout"));
        config.ping_interval = Duration::ZERO;
        config.validate().unwrap();
    }
}

//! The only entrance: events in, records out.
//!
//! Owns the order of things within a run and the numbering of connections. Must not know where events come from
//! or where records go. Bounded by [`Limits`].

use std::collections::BTreeSet;

use crate::limits::Limits;
use crate::packet::Packet;
use crate::record::{CaptureCounters, Sink};

/// What a capture tells the engine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A packet was captured.
    Packet(Packet<'a>),
    /// The capture's interface number `index` is called `name`. Tell it before that interface's first packet.
    Interface {
        /// As in [`Packet::interface`].
        index: u32,
        /// As the user knows it.
        name: &'a str,
    },
}

/// What the engine looks at and what it reports.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Bounds.
    pub limits: Limits,
    /// Server ports to look at; `None` for any.
    pub ports: Option<BTreeSet<u16>>,
    /// Which connections to report.
    pub report: Report,
    /// Whether to report every frame besides the messages.
    pub frames: bool,
}

/// Which connections to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// Every TCP connection, from its first packet on: right where the ports are known to be WebSocket's.
    #[default]
    All,
    /// Only connections on which a WebSocket upgrade request is seen, from that moment on.
    Upgrades,
}

/// Decodes a run of captured packets.
#[derive(Debug)]
pub struct Engine {
    config: Config,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes one event; hands every record that follows from it to `sink`.
    pub fn handle(&mut self, event: Event<'_>, sink: &mut dyn Sink) {
        let _ = (event, sink, &self.config);
    }

    /// Ends the run: reports what is unfinished, every open connection, and the summary.
    pub fn finish(&mut self, capture: Option<CaptureCounters>, sink: &mut dyn Sink) {
        let _ = (capture, sink);
    }
}

//! Where records end: laid out in the chosen format into one buffer, and counted for `--count`.
//!
//! Owns the choice of format and the moment at which enough was seen. Must not know who takes the buffer away.
//! Bounded: the run loop takes the buffer after each packet that filled it.

use std::num::NonZeroU64;

use observer_core::record::{Kind, Summary};
use observer_core::{Record, Sink};

use super::json;
use super::text::Text;

/// A format with its state.
#[derive(Debug)]
pub enum Layout {
    /// Lines for people.
    Text(Box<Text>),
    /// JSON lines.
    Json,
}

/// Takes records and lays them out.
#[derive(Debug)]
pub struct Output {
    layout: Layout,
    buffer: Vec<u8>,
    messages_left: Option<u64>,
    summary: Option<Summary>,
}

impl Output {
    /// Ends after `count` messages, where given.
    pub fn new(layout: Layout, count: Option<NonZeroU64>) -> Self {
        Self { layout, buffer: Vec::new(), messages_left: count.map(NonZeroU64::get), summary: None }
    }

    /// Whether as many messages were seen as were asked for.
    pub fn has_enough(&self) -> bool {
        self.messages_left == Some(0)
    }

    /// Bytes that wait to be taken away.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes what was laid out, leaving `empty` to lay out into.
    pub fn take(&mut self, mut empty: Vec<u8>) -> Vec<u8> {
        empty.clear();
        std::mem::replace(&mut self.buffer, empty)
    }

    /// The summary, once the engine has told it.
    pub const fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
}

impl Sink for Output {
    fn handle_record(&mut self, record: &Record<'_>) {
        // The packet that completed the last message asked for may hold more: what it ends is told, the rest is
        // not what was asked for.
        if self.has_enough() && !matches!(record.kind, Kind::ConnectionClosed(_) | Kind::Summary(_)) {
            return;
        }
        match &record.kind {
            Kind::Summary(summary) => self.summary = Some(Summary::clone(summary)),
            Kind::Message(_) => self.messages_left = self.messages_left.map(|left| left.saturating_sub(1)),
            _ => {}
        }
        match &mut self.layout {
            Layout::Text(text) => text.write(&mut self.buffer, record),
            Layout::Json => json::write(&mut self.buffer, record),
        }
    }
}

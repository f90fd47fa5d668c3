//! Where records end: laid out in the chosen format into one buffer, and counted for `--count`.
//!
//! Owns the choice of format, what is hidden, and the moment at which enough was seen. Must not know who takes the
//! buffer away. Bounded: the run loop takes the buffer after each packet that filled it.

use std::num::NonZeroU64;

use observer_core::record::{Kind, Summary};
use observer_core::{Record, Sink};

use super::explain::Explain;
use super::json;
use super::text::Text;
use crate::filter::Filter;
use observer_core::flow::Members;

/// A format with its state.
#[derive(Debug)]
pub enum Layout {
    /// Lines for people.
    Text(Box<Text>),
    /// JSON lines.
    Json,
    /// A transcript.
    Explain(Box<Explain>),
}

/// Takes records and lays them out.
#[derive(Debug)]
pub struct Output {
    layout: Layout,
    filter: Filter,
    people: Members,
    buffer: Vec<u8>,
    messages_left: Option<u64>,
    connections_listed: u64,
    summary: Option<Summary>,
}

impl Output {
    /// Ends after `count` messages that were shown, where given.
    pub fn new(layout: Layout, filter: Filter, count: Option<NonZeroU64>) -> Self {
        let messages_left = count.map(NonZeroU64::get);
        Self {
            layout,
            filter,
            people: Members::default(),
            buffer: Vec::new(),
            messages_left,
            connections_listed: 0,
            summary: None,
        }
    }

    /// Lays out what waited for the end of a packet: the engine has told all that followed from it.
    pub fn end_packet(&mut self) {
        if let Layout::Explain(explain) = &mut self.layout {
            explain.end_packet(&mut self.buffer, &self.people);
        }
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

    /// How many connections were told of, hidden ones included, that were open before the capture began.
    pub const fn connections_listed(&self) -> u64 {
        self.connections_listed
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
        // Whoever closes the connection is still known by name.
        let closes = matches!(record.kind, Kind::ConnectionClosed(_));
        let learns = self.filter.asks_for_people() || matches!(self.layout, Layout::Explain(_));
        if learns && !closes {
            self.people.learn(record);
        }
        let is_shown = self.filter.shows(record, &self.people);
        match &record.kind {
            Kind::Summary(summary) => self.summary = Some(Summary::clone(summary)),
            Kind::ConnectionOpened(opened) => self.connections_listed += u64::from(opened.was_listed),
            Kind::Message(_) if is_shown => {
                self.messages_left = self.messages_left.map(|left| left.saturating_sub(1));
            }
            _ => {}
        }
        match &mut self.layout {
            Layout::Explain(explain) => explain.handle(&mut self.buffer, record, &self.people, is_shown),
            Layout::Text(text) if is_shown => text.write(&mut self.buffer, record),
            Layout::Json if is_shown => json::write(&mut self.buffer, record),
            // The numbers of later packets depend on those before.
            Layout::Text(text) => text.pass_over(record),
            Layout::Json => {}
        }
        if learns && closes {
            self.people.learn(record);
        }
    }
}

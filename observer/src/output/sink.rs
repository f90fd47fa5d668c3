//! Where records end: judged where the layout asks for it, laid out in the chosen format into one buffer, and counted
//! for `--count`.
//!
//! Owns the choice of format, what is hidden, the order in which those who learn from a record are told of it, and the
//! moment at which enough was seen. Must not know who takes the buffer away. Bounded: the run loop takes the buffer
//! after each packet that filled it.

use std::num::NonZeroU64;

use observer_core::flow::verdict::Told;
use observer_core::flow::verifier::Part;
use observer_core::flow::{Members, Verifier};
use observer_core::record::{Kind, Summary};
use observer_core::time::{MonotonicTime, Time};
use observer_core::{Record, Sink};

use super::explain::Explain;
use super::folded::Folded;
use super::json;
use super::listing::Listing;
use super::text::Text;
use super::verdict::{Ended, Verdicts, Verification};
use crate::filter::Filter;
use crate::losses::Losses;
use crate::window::{EVERYTHING, Gate};

/// A format with its state.
#[derive(Debug)]
pub enum Layout {
    /// Lines for people, one a message.
    Text(Box<Text>),
    /// Lines for people, one for a message and all its copies.
    Folded(Box<Folded>),
    /// JSON lines.
    Json {
        /// With where each message ends in its stream.
        receipts: bool,
    },
    /// A transcript.
    Explain(Box<Explain>),
    /// Verdicts.
    Verdicts(Box<Verdicts>),
    /// Who is connected.
    Listing(Box<Listing>),
}

/// Takes records and lays them out.
#[derive(Debug)]
pub struct Output {
    gate: Option<Gate>,
    inner: Inner,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    filter: Filter,
    people: Members,
    verifier: Option<Verifier>,
    verification: Option<Verification>,
    buffer: Vec<u8>,
    messages_left: Option<u64>,
    connections_listed: u64,
    summary: Option<Summary>,
    losses: Losses,
}

impl Output {
    /// Ends after `count` messages that were shown, where given. `verifier`: where the layout has verdicts.
    pub fn new(
        layout: Layout,
        filter: Filter,
        gate: Option<Gate>,
        verifier: Option<Verifier>,
        count: Option<NonZeroU64>,
    ) -> Self {
        let messages_left = count.map(NonZeroU64::get);
        let inner = Inner {
            layout,
            filter,
            people: Members::default(),
            verifier,
            verification: None,
            buffer: Vec::new(),
            messages_left,
            connections_listed: 0,
            summary: None,
            losses: Losses::default(),
        };
        Self { gate, inner }
    }

    /// Lays out what waited for the end of a packet: the engine has told all that followed from it.
    pub fn end_packet(&mut self) {
        let Inner { layout, buffer, people, .. } = &mut self.inner;
        if let Layout::Explain(explain) = layout {
            explain.end_packet(buffer, people);
        }
    }

    /// Tells whoever judges that it is `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        let Inner { layout, filter, buffer, people, verifier, .. } = &mut self.inner;
        if let Some(verifier) = verifier {
            let hides = filter.hides();
            verifier.handle_timeout(now, &mut |told| layout.tell(buffer, told, people, hides));
        }
    }

    /// When [`Output::handle_timeout`] has something to do, if no record comes before.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        self.inner.verifier.as_ref().and_then(Verifier::next_timeout)
    }

    /// From now on nothing new is judged, where verdicts are what is asked for. Returns whether one is waited for.
    pub fn close_down(&mut self) -> bool {
        let Inner { layout: Layout::Verdicts(verdicts), verifier, .. } = &mut self.inner else {
            return false;
        };
        verdicts.close_down();
        verifier.as_mut().is_some_and(|verifier| {
            verifier.close_down();
            verifier.is_waiting()
        })
    }

    /// Nothing tells what was acknowledged: what was sent counts as received.
    pub fn trust_sent(&mut self) {
        if let Some(verifier) = &mut self.inner.verifier {
            verifier.trust_sent();
        }
        if let Layout::Verdicts(verdicts) = &mut self.inner.layout {
            verdicts.trust_sent();
        }
    }

    /// The capture counts what it loses.
    pub fn count_on_losses(&mut self) {
        if let Some(verifier) = &mut self.inner.verifier {
            verifier.count_on_losses();
        }
    }

    /// What comes next may not be what came next.
    pub fn note_hole(&mut self) {
        if let Some(verifier) = &mut self.inner.verifier {
            verifier.note_hole();
        }
    }

    /// So many packets were lost before they came here, and it is not known when.
    pub fn note_lost(&mut self, packets: u64) {
        if packets > 0 {
            self.inner.losses.note_untimed(packets);
            self.note_hole();
        }
    }

    /// The input is damaged: what is judged may not be all.
    pub fn note_damage(&mut self) {
        if let Layout::Verdicts(verdicts) = &mut self.inner.layout {
            verdicts.note_damage();
        }
    }

    /// Whether anything is judged.
    pub const fn judges(&self) -> bool {
        self.inner.verifier.is_some()
    }

    /// Whether as many messages were seen as were asked for.
    pub fn has_enough(&self) -> bool {
        self.inner.has_enough()
    }

    /// Bytes that wait to be taken away.
    pub fn waiting_bytes(&self) -> usize {
        self.inner.buffer.len()
    }

    /// Takes what was laid out, leaving `empty` to lay out into.
    pub fn take(&mut self, mut empty: Vec<u8>) -> Vec<u8> {
        empty.clear();
        std::mem::replace(&mut self.inner.buffer, empty)
    }

    /// How many connections were told of, hidden ones included, that were open before the capture began.
    pub const fn connections_listed(&self) -> u64 {
        self.inner.connections_listed
    }

    /// The summary, once the engine has told it.
    pub const fn summary(&self) -> Option<&Summary> {
        self.inner.summary.as_ref()
    }

    /// How many cases, and messages that nothing explained, were given up at a limit, where that is not told otherwise.
    pub fn given_up(&self) -> u64 {
        let is_told = self.inner.verification.is_some();
        self.inner.verifier.as_ref().filter(|_| !is_told).map_or(0, Verifier::shed)
    }

    /// What the run came to, once it is over, where it is judged.
    pub const fn verification(&self) -> Option<&Verification> {
        self.inner.verification.as_ref()
    }
}

impl Sink for Output {
    fn handle_record(&mut self, record: &Record<'_>) {
        let Self { gate, inner } = self;
        let bounds = gate.as_mut().map_or(EVERYTHING, |gate| gate.bounds(record.time.wall));
        inner.losses.handle(record, bounds);
        if let (Some(verifier), [since, _]) = (&mut inner.verifier, bounds) {
            verifier.judge_since(since);
        }
        match gate {
            Some(gate) => gate.handle(record, |record| inner.handle_record(record)),
            None => inner.handle_record(record),
        }
    }
}

impl Inner {
    fn has_enough(&self) -> bool {
        self.messages_left == Some(0)
    }

    fn handle_record(&mut self, record: &Record<'_>) {
        // Whoever closes the connection is still known by name.
        let closes = matches!(record.kind, Kind::ConnectionClosed(_));
        let learns = self.verifier.is_some()
            || self.filter.asks_for_people()
            || matches!(self.layout, Layout::Explain(_) | Layout::Listing(_));
        if learns && !closes {
            self.people.learn(record);
        }
        let part = self.judge(record);
        // The packet that completed the last message asked for may hold more: what it ends is told, the rest is
        // not what was asked for.
        if !self.has_enough() || closes || matches!(record.kind, Kind::Summary(_)) {
            self.show(record, part);
        }
        if learns && closes {
            self.people.learn(record);
        }
    }

    /// Whoever judges is told of everything.
    fn judge(&mut self, record: &Record<'_>) -> Part {
        let part = self.verify(record);
        let is_judged = self.verifier.as_ref().is_some_and(|verifier| verifier.is_judged(record.time));
        if let (Layout::Verdicts(verdicts), Kind::Message(message), true) =
            (&mut self.layout, &record.kind, is_judged)
        {
            verdicts.count(message, part);
        }
        part
    }

    fn verify(&mut self, record: &Record<'_>) -> Part {
        let Self { layout, filter, buffer, people, verifier, losses, .. } = self;
        let Some(verifier) = verifier else { return Part::Nothing };
        let hides = filter.hides();
        let mut tell = |told: &Told<'_>| layout.tell(buffer, told, people, hides);
        match &record.kind {
            // Of each loss it was told when it was: the total says nothing of what is judged.
            Kind::Summary(summary) if losses.has_times() => {
                let kind = Kind::Summary(Box::new(Summary { capture: None, ..Summary::clone(summary) }));
                verifier.handle_record(&Record { kind, ..record.clone() }, people, &mut tell)
            }
            _ => verifier.handle_record(record, people, &mut tell),
        }
    }

    fn show(&mut self, record: &Record<'_>, part: Part) {
        let is_shown = self.filter.shows(record, &self.people);
        let is_receipt = matches!(record.kind, Kind::Received(_) | Kind::CaptureLoss(_));
        match &record.kind {
            Kind::Summary(summary) => {
                self.summary = Some(Summary::clone(summary));
                if let (Layout::Verdicts(verdicts), Some(verifier)) = (&self.layout, &self.verifier) {
                    let ended = Ended { time: record.time, summary, lost: self.losses.lost() };
                    self.verification = Some(verdicts.finish(&mut self.buffer, &ended, verifier));
                }
            }
            Kind::ConnectionOpened(opened) => self.connections_listed += u64::from(opened.was_listed),
            Kind::Message(_) if is_shown => {
                self.messages_left = self.messages_left.map(|left| left.saturating_sub(1));
            }
            _ => {}
        }
        match &mut self.layout {
            // Whoever is told of these is the verifier.
            Layout::Explain(_) if is_receipt => {}
            Layout::Explain(explain) => explain.handle(&mut self.buffer, record, &self.people, is_shown),
            Layout::Listing(listing) => listing.handle(&mut self.buffer, record, &self.people),
            Layout::Folded(folded) => folded.handle(&mut self.buffer, record, part),
            Layout::Text(text) if is_shown && !is_receipt => text.write(&mut self.buffer, record),
            Layout::Json { receipts } if is_shown => json::write(&mut self.buffer, record, *receipts),
            // The numbers of later packets depend on those before.
            Layout::Text(text) => text.pass_over(record),
            Layout::Json { .. } | Layout::Verdicts(_) => {}
        }
    }
}

impl Layout {
    fn tell(&mut self, buffer: &mut Vec<u8>, told: &Told<'_>, people: &Members, hides: bool) {
        match self {
            Self::Folded(folded) => folded.tell(buffer, told, people),
            Self::Verdicts(verdicts) => verdicts.handle(buffer, told),
            Self::Explain(explain) => explain.tell(told, people, hides),
            Self::Text(_) | Self::Json { .. } | Self::Listing(_) => {}
        }
    }
}

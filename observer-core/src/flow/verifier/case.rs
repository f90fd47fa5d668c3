//! One case: what began it, who is to get something, and who has it.
//!
//! Owns how a case stands. Must not know other cases, nor what messages mean. Bounded: a slot for each connection that is
//! to get something or got it, of which `mod.rs` bounds the sum.

use core::time::Duration;

use super::ACKNOWLEDGMENT_DELAY_MAX;
use crate::flow::Chat;
use crate::flow::Uid;
use crate::flow::verdict::{Causes, Deviation, Latency, TriggerSeen};
use crate::record::ConnectionId;
use crate::time::{MonotonicTime, Time};

/// A room, as far as it is known; within, `None` is the room that has no name.
pub(super) type Room = Option<Option<Box<str>>>;

/// A case under way.
#[derive(Debug)]
pub(super) struct OpenCase {
    pub(super) number: u64,
    pub(super) dialect: usize,
    pub(super) flow: usize,
    pub(super) chat: Chat,
    pub(super) trigger: TriggerSeen,
    pub(super) sender: ConnectionId,
    pub(super) sender_uid: Option<Uid>,
    pub(super) room: Room,
    /// By connection, and then by expectation.
    slots: Vec<Slot>,
    /// What messages have that are expected.
    pub(super) keys: Vec<u64>,
    /// Connections of which it is not known whether they are meant.
    pub(super) unknown: Vec<ConnectionId>,
    /// The recipient is nobody who is known.
    pub(super) is_unresolved: bool,
    /// When its time is up.
    pub(super) overdue_at: MonotonicTime,
    /// When what is missing is lost.
    pub(super) lost_at: MonotonicTime,
    /// When the timer rings that is set.
    pub(super) timer: MonotonicTime,
    pub(super) is_overdue: bool,
    pub(super) is_complete: bool,
    /// Whether it is the likeliest of what the server refused.
    pub(super) may_be_refused: bool,
    /// Why it is not known whether the server refused it.
    pub(super) doubts: Causes,
    /// Messages that came out of order: by which of the rules for that, and what is told of it.
    pub(super) misordered: Vec<(usize, Deviation)>,
    /// Messages that are too much, and look like this case's.
    pub(super) extras: Vec<u64>,
    /// When the last of what had to come came.
    pub(super) last_time: Time,
    open: usize,
}

/// What one connection is to get.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) connection: ConnectionId,
    pub(super) expectation: usize,
    /// Whether it has to come.
    pub(super) is_required: bool,
    /// Whether the connection may have left before, unseen, or have got it before.
    pub(super) is_doubtful: bool,
    /// When it left before it came, and whether it had all that it was sent until then.
    pub(super) left: Option<(Time, bool)>,
    /// Whether its end was not seen.
    pub(super) end_unseen: bool,
    pub(super) sent: Option<Time>,
    pub(super) received: Option<Time>,
    /// Number of the message among all that fulfilled something, which is their order.
    pub(super) order: u64,
    /// Whether that message may have been another case's as well.
    pub(super) is_ambiguous: bool,
}

impl Slot {
    pub(super) const fn new(connection: ConnectionId, expectation: usize, is_required: bool) -> Self {
        Self {
            connection,
            expectation,
            is_required,
            is_doubtful: false,
            left: None,
            end_unseen: false,
            sent: None,
            received: None,
            order: 0,
            is_ambiguous: false,
        }
    }

    /// Whether it still has to come.
    pub(super) const fn is_open(&self) -> bool {
        self.is_required && self.received.is_none() && self.left.is_none() && !self.end_unseen
    }

    /// Whether it had to be sent, and was, and what came is of no other case: what may come need not have been sent.
    pub(super) const fn is_sure(&self) -> bool {
        self.is_required && self.sent.is_some() && !self.is_ambiguous
    }

    /// Whether it is one of those who were to get something, and did not leave without.
    const fn counts(&self) -> bool {
        self.received.is_some() || (self.is_required && self.left.is_none())
    }
}

/// How a connection is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) time: Time,
    /// Whether its end came, and not only a sign of it.
    pub(super) is_over: bool,
    /// Whether it ended where nobody saw it.
    pub(super) end_unseen: bool,
    /// Whether it had acknowledged all that it was sent.
    pub(super) is_idle: bool,
}

/// How many there are, and how many have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) expected: usize,
    pub(super) arrived: usize,
    pub(super) left: usize,
}

impl OpenCase {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the case, and there is one caller")]
    pub(super) fn new(
        number: u64,
        (dialect, flow): (usize, usize),
        chat: Chat,
        trigger: TriggerSeen,
        sender_uid: Option<Uid>,
        room: Room,
        mut slots: Vec<Slot>,
        within: Duration,
        lost_after: Duration,
    ) -> Self {
        slots.sort_unstable_by_key(|slot| (slot.connection, slot.expectation));
        let open = slots.iter().filter(|slot| slot.is_open()).count();
        let begun = trigger.time;
        let overdue_at = after(begun, within);
        Self {
            number,
            dialect,
            flow,
            chat,
            sender: trigger.party.connection,
            sender_uid,
            room,
            slots,
            keys: Vec::new(),
            unknown: Vec::new(),
            is_unresolved: false,
            overdue_at,
            lost_at: after(begun, lost_after),
            timer: overdue_at,
            is_overdue: false,
            is_complete: false,
            may_be_refused: false,
            doubts: Causes::NONE,
            misordered: Vec::new(),
            extras: Vec::new(),
            last_time: begun,
            open,
            trigger,
        }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How much it is, of what is bounded.
    pub(super) fn entries(&self) -> usize {
        self.slots.len() + self.unknown.len() + self.keys.len()
    }

    fn place(&self, connection: ConnectionId, expectation: usize) -> Result<usize, usize> {
        self.slots
            .binary_search_by_key(&(connection, expectation), |slot| (slot.connection, slot.expectation))
    }

    pub(super) fn slot(&self, connection: ConnectionId, expectation: usize) -> Option<&Slot> {
        self.slots.get(self.place(connection, expectation).ok()?)
    }

    /// What a connection is to get, and got.
    pub(super) fn slots_of(&self, connection: ConnectionId) -> impl Iterator<Item = &Slot> {
        let from = self.slots.partition_point(|slot| slot.connection < connection);
        let of = self.slots.get(from..).unwrap_or_default();
        of.iter().take_while(move |slot| slot.connection == connection)
    }

    /// Whether anything may still be sent on a connection.
    pub(super) fn waits_for(&self, connection: ConnectionId) -> bool {
        self.slots_of(connection).any(|slot| slot.sent.is_none())
    }

    /// A connection gets something that is not required of it. Whether a slot is new.
    pub(super) fn add(&mut self, connection: ConnectionId, expectation: usize) -> bool {
        match self.place(connection, expectation) {
            Ok(_) => false,
            Err(place) => {
                self.slots.insert(place, Slot::new(connection, expectation, false));
                true
            }
        }
    }

    fn change(&mut self, connection: ConnectionId, expectation: usize, change: impl FnOnce(&mut Slot)) {
        let place = self.place(connection, expectation);
        if let Some(slot) = place.ok().and_then(|place| self.slots.get_mut(place)) {
            let was_open = slot.is_open();
            change(slot);
            let is_open = slot.is_open();
            self.open = self.open + usize::from(is_open) - usize::from(was_open);
        }
    }

    /// It was sent.
    pub(super) fn note_sent(&mut self, connection: ConnectionId, expectation: usize, time: Time, order: u64) {
        self.change(connection, expectation, |slot| {
            slot.sent = Some(time);
            slot.order = order;
        });
    }

    /// What was sent may be another case's: it is equal.
    pub(super) fn note_ambiguous(&mut self, connection: ConnectionId, expectation: usize) {
        self.change(connection, expectation, |slot| slot.is_ambiguous = true);
    }

    /// What is to come on a connection may have come before.
    pub(super) fn note_doubtful(&mut self, connection: ConnectionId, expectation: usize) {
        self.change(connection, expectation, |slot| slot.is_doubtful = true);
    }

    /// It was acknowledged.
    pub(super) fn note_received(&mut self, connection: ConnectionId, expectation: usize, time: Time) {
        self.last_time = self.last_time.max(time);
        self.change(connection, expectation, |slot| slot.received = Some(time));
    }

    /// A connection is left, or is about to be. `is_over`: what it was sent and has not acknowledged it will not have.
    pub(super) fn note_left(&mut self, connection: ConnectionId, leaving: Leaving) {
        let Leaving { time, is_over, end_unseen, is_idle } = leaving;
        // Its time was up before: that it leaves excuses nothing.
        if time.monotonic >= self.overdue_at && !end_unseen {
            return;
        }
        let expectations: Vec<_> = self
            .slots_of(connection)
            .filter(|slot| slot.is_open() && (is_over || slot.sent.is_none()))
            .map(|slot| slot.expectation)
            .collect();
        for expectation in expectations {
            self.change(connection, expectation, |slot| {
                slot.end_unseen = end_unseen;
                slot.left = (!end_unseen).then_some((time, is_idle));
            });
        }
    }

    /// When the last of those who did not leave was sent it, if all of them were; without any when it began.
    pub(super) fn all_sent(&self) -> Option<Time> {
        let mut present = self.slots.iter().filter(|it| it.is_required && it.left.is_none());
        present.try_fold(self.trigger.time, |last, it| Some(last.max(it.sent?)))
    }

    /// When all that was sent in time should be acknowledged.
    pub(super) const fn acknowledged_at(&self) -> MonotonicTime {
        let delay = ACKNOWLEDGMENT_DELAY_MAX.as_nanos() as u64;
        MonotonicTime(self.overdue_at.0.saturating_add(delay))
    }

    /// Whether all that is open was sent, and is only not acknowledged.
    pub(super) fn is_only_unacknowledged(&self) -> bool {
        self.open > 0 && self.slots.iter().filter(|slot| slot.is_open()).all(|slot| slot.sent.is_some())
    }

    /// Whether all is there that has to come, and everybody has it who may be meant.
    pub(super) fn is_fulfilled(&self) -> bool {
        self.open == 0 && !self.is_unresolved && !self.has_unseen_ends() && self.unknown_left() == 0
    }

    /// Whether all is there that has to come of those who are known.
    pub(super) fn is_fulfilled_as_known(&self) -> bool {
        self.open == 0 && !self.has_unseen_ends()
    }

    fn has_unseen_ends(&self) -> bool {
        self.slots.iter().any(|slot| slot.end_unseen)
    }

    /// Of how many it is not known whether they were meant: those of them who got nothing.
    pub(super) fn unknown_left(&self) -> usize {
        let got = |connection| self.slots_of(connection).any(|slot| slot.received.is_some());
        self.unknown.iter().filter(|connection| !got(**connection)).count()
    }

    /// Whether a connection is one of those who were to get something, and did not leave without.
    pub(super) fn counts(&self, connection: ConnectionId) -> bool {
        self.slots_of(connection).any(Slot::counts)
    }

    /// How many were to get something, by connection, and have all of it.
    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for of_one in self.slots.chunk_by(|one, other| one.connection == other.connection) {
            if of_one.iter().any(Slot::counts) {
                count.expected += 1;
                let lacks = |slot: &Slot| slot.received.is_none() && slot.is_required && slot.left.is_none();
                count.arrived += usize::from(!of_one.iter().any(lacks));
            } else if of_one.iter().any(|slot| slot.left.is_some()) {
                count.left += 1;
            }
        }
        count
    }

    pub(super) fn latency(&self) -> Latency {
        let begun = self.trigger.time;
        let sent = || self.slots.iter().filter_map(|slot| slot.sent).map(|time| time.since(begun));
        let received = || self.slots.iter().filter_map(|slot| slot.received).map(|time| time.since(begun));
        Latency {
            first_sent: sent().min(),
            last_sent: sent().max(),
            first_received: received().min(),
            last_received: received().max(),
        }
    }
}

/// The moment so long after another.
pub(super) fn after(time: Time, duration: Duration) -> MonotonicTime {
    MonotonicTime(time.monotonic.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
}

//! A message comes: which case it is of, if any, and whether that is complete by it.
//!
//! Owns the choice among several cases that a message may be of, and what is sent, received and complete. Must not know
//! how a case begins. Bounded: of a key's cases, or of what a connection waits for, the shorter list is looked through;
//! among what is over, [`LOOKED_BACK`] cases are.

use std::sync::Arc;

use super::case::OpenCase;
use super::ends::{End, Guess};
use super::keys::{Key, Place};
use super::plan::direction_of;
use super::{LOOKED_BACK, Seen, Tell, Verifier};
use crate::flow::Chat;
use crate::flow::event::{Recipient, Uid};
use crate::flow::flows::{Flow, Times, Whom};
use crate::flow::members::{Members, Standing};
use crate::flow::verdict::{Causes, Outcome, Stage};
use crate::record::{ConnectionId, Direction, Received};
use crate::time::Time;

/// The user whom a message is about.
#[derive(Debug)]
pub(super) struct About {
    uid: Option<Uid>,
    /// Where they are, as far as that is known.
    connection: Option<ConnectionId>,
}

impl Verifier {
    /// A message that may be expected. Whether it was.
    pub(super) fn fulfil(&mut self, seen: Seen<'_>, members: &Members, tell: Tell<'_>) -> bool {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(seen.dialect) else { return false };
        let Some(of_kind) = seen.plan.of(seen.event.kind) else { return false };
        let mut keys = Vec::new();
        let words = self.keys.words(seen.event);
        for (flow, expectation) in seen.direction.of(&of_kind.fulfils) {
            let Some(rule) = dialect.flows.flows.get(*flow) else { continue };
            let Some(expected) = rule.expect.get(*expectation) else { continue };
            let place = Place {
                chat: seen.chat,
                dialect: seen.dialect,
                flow: *flow,
                expectation: *expectation,
                connection: (expected.to == Whom::Sender).then_some(seen.connection),
            };
            keys.extend(self.keys.of_message(place, expected, words));
        }
        let about =
            self.about(seen.event.user.as_ref().and_then(|user| user.uid.as_ref()), seen.chat, members);
        // Whose it surely is goes before whose it may be, and who has to get it before who may.
        let waiting = keys.iter().filter_map(|key| {
            let (is_unsure, number) = self.waiting(key, &about, seen.connection, seen.direction)?;
            let case = self.cases.get(&number)?;
            let is_required = case.slot(seen.connection, key.expectation)?.is_required;
            Some((self.is_guess(number, key), !is_required, is_unsure, number, key.expectation))
        });
        let may_come = keys.iter().filter_map(|key| {
            let rule = dialect.flows.flows.get(key.flow)?;
            let of_key = self.cases_of(key.key).rev().take(LOOKED_BACK).filter(|case| {
                case.slot(seen.connection, key.expectation).is_none()
                    && self.may_be_of(case, key, &about)
                    && self.may_get(case, rule, key.expectation, seen.connection, members)
            });
            let first = of_key.map(|case| case.number).min();
            first.map(|number| (self.is_guess(number, key), true, false, number, key.expectation))
        });
        if let Some((is_guess, .., number, expectation)) = waiting.chain(may_come).min() {
            let sender = self.cases.get(&number).map(|case| case.sender);
            let has_rival = is_guess
                && self.has_other(&keys, &about, |case| sender.is_some_and(|sender| case.sender != sender));
            let is_ambiguous = is_guess || self.has_other(&keys, &about, |case| case.number != number);
            self.note_sent(number, expectation, seen.connection, seen.time, seen.stream_end);
            if is_ambiguous && let Some(case) = self.cases.get_mut(&number) {
                case.note_ambiguous(seen.connection, expectation);
            }
            let (now, last) = (self.now, self.last_number);
            if has_rival && let Some(end) = self.ends.get_mut(&seen.connection) {
                keys.iter().for_each(|key| end.note_guess(Guess { at: now, key: key.key, last }));
            }
            self.count_orders(seen, number, &of_kind.orders);
            for unsolicited in &of_kind.unsolicited {
                let place = dialect.flows.place_of_unsolicited(*unsolicited);
                self.count(seen.dialect, place, Outcome::Held);
            }
            self.settle(number, tell);
            return true;
        }
        // Once or more often: this is more often.
        let is_welcome = |key: &Key| {
            let flow = dialect.flows.flows.get(key.flow);
            flow.and_then(|flow| flow.expect.get(key.expectation))
                .is_some_and(|expected| expected.times == Times::AtLeastOnce)
                && self.cases_of(key.key).any(|case| case.slot(seen.connection, key.expectation).is_some())
        };
        if keys.iter().any(is_welcome) {
            return true;
        }
        if seen.direction == Direction::ServerToClient {
            self.park(seen, keys, &about, tell);
        }
        false
    }

    pub(super) fn cases_of(&self, key: u64) -> impl DoubleEndedIterator<Item = &OpenCase> {
        self.by_key.get(&key).into_iter().flatten().filter_map(|number| self.cases.get(number))
    }

    /// Whether a message may as well be of a case like that. Of many it may.
    fn has_other(&self, keys: &[Key], about: &About, is_other: impl Fn(&OpenCase) -> bool) -> bool {
        keys.iter().any(|key| {
            self.has_many(key)
                || self.cases_of(key.key).any(|case| is_other(case) && self.may_be_of(case, key, about))
        })
    }

    /// Whether a message with this key may be of more cases than are looked at.
    pub(super) fn has_many(&self, key: &Key) -> bool {
        self.by_key.get(&key.key).is_some_and(|cases| cases.len() > LOOKED_BACK)
    }

    /// The first case with a key in which this connection still waits for it, and whether it may have come already,
    /// unseen: of those of which it cannot, if there is any. Of equal messages any may be the one that did not come.
    fn waiting(
        &self,
        key: &Key,
        about: &About,
        connection: ConnectionId,
        direction: Direction,
    ) -> Option<(bool, u64)> {
        let waits = |number: &u64| {
            self.cases.get(number).is_some_and(|case| {
                case.slot(connection, key.expectation).is_some_and(|slot| slot.sent.is_none())
                    && case.keys.contains(&key.key)
                    && self.may_be_of(case, key, about)
            })
        };
        let end = self.ends.get(&connection)?;
        let of_key = self.by_key.get(&key.key)?;
        // Either list has it; the shorter one is looked through.
        let list = if of_key.len() > end.expecting.len() { &end.expecting } else { of_key };
        let unsure_to = end.seen(direction).unsure_to.max(self.unsure_to).max(end.guessed_to(key.key));
        // Of what began before the first that it waits for nothing is to come.
        let from = |place: usize| {
            let first = end.expecting.get(place).copied().unwrap_or(u64::MAX);
            list.partition_point(|number| *number < first)
        };
        let sure = from(end.expecting.partition_point(|number| *number <= unsure_to));
        let unsure = from(0).min(sure);
        let number = list.range(sure..).chain(list.range(unsure..sure)).copied().find(waits)?;
        Some((number <= unsure_to, number))
    }

    /// What is known of the user whom a message is about.
    pub(super) fn about(&self, uid: Option<&Uid>, chat: Chat, members: &Members) -> About {
        About { uid: uid.cloned(), connection: uid.and_then(|uid| members.surely_by_uid(chat, uid)) }
    }

    /// Whether a message may be of a case by whom it is about, where its key leaves that open.
    pub(super) fn may_be_of(&self, case: &OpenCase, key: &Key, about: &About) -> bool {
        let sender = self.ends.get(&case.sender).and_then(End::known_uid);
        !key.is_of_anybody
            || (sender.is_none_or(|sender| Some(sender) == about.uid.as_ref())
                && about.connection.is_none_or(|connection| connection == case.sender))
    }

    /// Whether it is not known of a case that may be of this key whose it is.
    fn is_guess(&self, number: u64, key: &Key) -> bool {
        let sender = self.cases.get(&number).and_then(|case| self.ends.get(&case.sender));
        key.is_of_anybody && sender.is_none_or(|sender| sender.known_uid().is_none())
    }

    /// Whether a connection may get something of a case though it did not have to when that began.
    pub(super) fn may_get(
        &self,
        case: &OpenCase,
        flow: &Flow,
        expectation: usize,
        connection: ConnectionId,
        members: &Members,
    ) -> bool {
        let Some(expected) = flow.expect.get(expectation) else { return false };
        let Some(end) = self.ends.get(&connection).filter(|end| end.chat == case.chat) else { return false };
        let is_unknown = end.standing == Standing::Unknown
            || (end.standing == Standing::Member && !end.room_is_known)
            || case.unknown.contains(&connection);
        match expected.to {
            Whom::Sender => connection == case.sender,
            // Whose uid that is may have become known meanwhile.
            Whom::Recipient => {
                let is_meant = match (&case.trigger.to, end.known_uid()) {
                    (Some(Recipient::Uid(to)), Some(uid)) => to == uid,
                    _ => is_unknown || end.standing == Standing::Member,
                };
                case.is_unresolved && is_meant
            }
            Whom::Others if connection == case.sender => false,
            Whom::Members | Whom::Others => {
                let Some(room) = &case.room else { return true };
                let is_coming = members.of(connection).is_some_and(|person| {
                    person.standing != Standing::Member && person.asks_for_room(room.as_deref())
                });
                is_unknown
                    || is_coming
                    || members.is_in_room(connection, case.chat, room.as_deref())
                    || end.has_left_since(room.as_deref(), case.trigger.time)
                    || self.connecting_joins(case.dialect)
            }
        }
    }

    pub(super) fn connecting_joins(&self, dialect: usize) -> bool {
        self.rules.dialects().get(dialect).is_some_and(|dialect| dialect.connecting_joins)
    }

    /// What a case waits for was sent.
    pub(super) fn note_sent(
        &mut self,
        number: u64,
        expectation: usize,
        connection: ConnectionId,
        time: Time,
        stream_end: Option<u64>,
    ) {
        self.last_order += 1;
        let order = self.last_order;
        let Some(case) = self.cases.get_mut(&number) else { return };
        if case.add(connection, expectation) {
            self.entries_by_sender.add(case.chat, case.sender, 1);
        }
        case.note_sent(connection, expectation, time, order);
        let waits = case.waits_for(connection);
        let (dialect, flow) = (case.dialect, case.flow);
        let direction = self.direction_of(dialect, flow, expectation);
        let Some(end) = self.ends.get_mut(&connection) else { return };
        if !waits && let Ok(place) = end.expecting.binary_search(&number) {
            end.expecting.remove(place);
        }
        let stream = end.stream(direction);
        let (received_to, received_at) = stream.received;
        match stream_end {
            Some(stream_end) if !self.trusts_sent && stream_end > received_to => {
                // Of what is over nobody asks any more.
                while stream.sent.front().is_some_and(|(_, first, _)| !self.cases.contains_key(first)) {
                    stream.sent.pop_front();
                }
                stream.sent.push_back((stream_end, number, expectation));
            }
            _ => {
                if let Some(case) = self.cases.get_mut(&number) {
                    case.note_received(connection, expectation, time.max(received_at));
                }
            }
        }
    }

    pub(super) fn direction_of(&self, dialect: usize, flow: usize, expectation: usize) -> Direction {
        let flow = self.rules.dialects().get(dialect).and_then(|dialect| dialect.flows.flows.get(flow));
        let to = flow.and_then(|flow| Some((flow, flow.expect.get(expectation)?.to)));
        to.map_or(Direction::ServerToClient, |(flow, to)| direction_of(flow, to))
    }

    pub(super) fn handle_received(
        &mut self,
        connection: ConnectionId,
        Received { direction, to, is_full }: Received,
        time: Time,
        tell: Tell<'_>,
    ) {
        let Some(stream) = self.ends.get_mut(&connection).map(|end| end.stream(direction)) else { return };
        if to > stream.received.0 {
            stream.received = (to, time);
        }
        stream.is_full = is_full;
        while let Some((_, number)) = stream.extras.pop_front_if(|(end, _)| *end <= to) {
            if let Some(extra) = self.extras.get_mut(&number) {
                extra.received = Some(time);
            }
        }
        let mut arrived = Vec::new();
        while let Some((_, number, expectation)) = stream.sent.pop_front_if(|(end, _, _)| *end <= to) {
            arrived.push((number, expectation));
        }
        for (number, expectation) in arrived {
            if let Some(case) = self.cases.get_mut(&number) {
                case.note_received(connection, expectation, time);
                self.settle(number, tell);
            }
        }
    }

    /// A case may be complete by now.
    pub(super) fn settle(&mut self, number: u64, tell: Tell<'_>) {
        let Some(case) = self.cases.get_mut(&number) else { return };
        if case.is_complete || !case.is_fulfilled() {
            return;
        }
        case.is_complete = true;
        let is_overdue = case.is_overdue;
        if !is_overdue {
            self.tell_of(Stage::Complete, number, tell);
        } else {
            // Late: nothing more is waited for.
            self.conclude(number, Causes::NONE, tell);
        }
    }
}

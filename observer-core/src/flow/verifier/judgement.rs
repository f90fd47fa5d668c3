//! What a case comes to.
//!
//! Owns the judging: of what is missing, what is too much, what is out of order, and of what cannot be told. Must not know
//! how anything was matched. Bounded by [`DEVIATIONS_MAX`] a case.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::{OpenCase, Slot};
use super::ends::{ChatState, End, RoomOrder};
use super::plan::{BegunBy, direction_of};
use super::{
    ACKNOWLEDGMENT_DELAY_MAX, Extra, LOOKED_BACK, LOST_AFTER_LEAST, SURE_AFTER, Seen, Tell, Verifier,
    before_by,
};
use crate::flow::Chat;
use crate::flow::dialect::Dialect;
use crate::flow::event::Uid;
use crate::flow::flows::{Among, Expectation, Flow, Part, Times, Whom};
use crate::flow::members::{Members, Standing};
use crate::flow::verdict::{
    Case, Cause, Causes, DEVIATIONS_MAX, Deviation, Fault, FlowTotals, Latency, Outcome, Party, Quote, Stage,
    Told, TriggerSeen,
};
use crate::record::{Connection, ConnectionClosed, ConnectionId, Direction, How};
use crate::time::Time;

/// What was found of a case.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) deviations: Vec<Deviation>,
    pub(super) deviations_more: usize,
    pub(super) causes: Causes,
    /// Who left and is counted all the same.
    missed: BTreeSet<ConnectionId>,
    is_violated: bool,
    is_late: bool,
}

impl Judgement {
    fn add(&mut self, deviation: Deviation) {
        if deviation.fault == Fault::Late {
            self.is_late = true;
        } else {
            self.is_violated = true;
        }
        self.keep(deviation);
    }

    /// What is wrong, if nothing speaks against it; else it cannot be told, and that is why.
    fn add_or_doubt(&mut self, deviation: Deviation, causes: Causes) {
        if causes.is_empty() {
            self.add(deviation);
        } else {
            self.causes = self.causes.and(causes);
            self.keep(deviation);
        }
    }

    fn keep(&mut self, deviation: Deviation) {
        if self.deviations.len() < DEVIATIONS_MAX {
            self.deviations.push(deviation);
        } else {
            self.deviations_more += 1;
        }
    }

    fn outcome(&self) -> Outcome {
        match (self.is_violated, self.causes.is_empty(), self.is_late) {
            (true, _, _) => Outcome::Violated,
            (false, false, _) => Outcome::Inconclusive,
            (false, true, true) => Outcome::Late,
            (false, true, false) => Outcome::Held,
        }
    }
}

impl FlowTotals {
    /// Counts a case.
    pub(super) fn count(&mut self, outcome: Outcome) {
        let [held, late, violated, inconclusive] = &mut self.outcomes;
        *match outcome {
            Outcome::Held => held,
            Outcome::Late => late,
            Outcome::Violated => violated,
            Outcome::Inconclusive => inconclusive,
        } += 1;
    }
}

impl Verifier {
    /// Ends a case: its verdict.
    pub(super) fn conclude(&mut self, number: u64, cause: Causes, tell: Tell<'_>) {
        let Some(case) = self.remove(number) else { return };
        let judgement = self.judge(&case, cause, true);
        let count = case.count();
        let outcome = judgement.outcome();
        if self.is_judged(case.trigger.time)
            && let Some(totals) = self.totals_of(case.dialect, case.flow)
        {
            totals.count(outcome);
            totals.received += count.arrived as u64;
            let [first, last] = &mut totals.latency;
            let [first_sent, last_sent] = &mut totals.sent;
            // What is not known says nothing of how long it took.
            let times = if outcome == Outcome::Inconclusive { Latency::default() } else { case.latency() };
            for (histogram, time) in [
                (first_sent, times.first_sent),
                (last_sent, times.last_sent),
                (first, times.first_received),
                (last, times.last_received),
            ] {
                if let Some(time) = time {
                    histogram.record(time);
                }
            }
        }
        self.judge_orders(&case, tell);
        self.tell(Stage::Verdict, &case, &judgement, tell);
    }

    /// Tells how a case stands that goes on.
    pub(super) fn tell_of(&mut self, stage: Stage, number: u64, tell: Tell<'_>) {
        let Some(case) = self.cases.remove(&number) else { return };
        let judgement = self.judge(&case, Causes::NONE, false);
        self.tell(stage, &case, &judgement, tell);
        self.cases.insert(number, case);
    }

    pub(super) fn tell(&self, stage: Stage, case: &OpenCase, judgement: &Judgement, tell: Tell<'_>) {
        if !self.is_judged(case.trigger.time) {
            return;
        }
        let Some(dialect) = self.rules.dialects().get(case.dialect) else { return };
        let Some(flow) = dialect.flows.flows.get(case.flow) else { return };
        let count = case.count();
        let told = Case {
            number: case.number,
            flow: &flow.name,
            dialect: &dialect.name,
            outcome: judgement.outcome(),
            trigger: &case.trigger,
            time: if stage == Stage::Complete { case.last_time } else { self.now },
            expected: count.expected + judgement.missed.len(),
            arrived: count.arrived,
            others_unknown: case.unknown_left(),
            left: count.left.saturating_sub(judgement.missed.len()),
            latency: case.latency(),
            deviations: &judgement.deviations,
            deviations_more: judgement.deviations_more,
            causes: judgement.causes,
        };
        tell(&Told { stage, case: &told });
    }

    /// Looks at a case. `is_last`: what is too much is taken out of what is not explained.
    fn judge(&mut self, case: &OpenCase, cause: Causes, is_last: bool) -> Judgement {
        let mut judgement = Judgement::default();
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(case.dialect) else { return judgement };
        let Some(flow) = dialect.flows.flows.get(case.flow) else { return judgement };
        let (all_sent, presumed) = (case.all_sent(), self.presumed(case, flow));
        let doubts = case.doubts.and(presumed);
        for slot in case.slots() {
            let Some(expected) = flow.expect.get(slot.expectation) else { continue };
            self.judge_slot(case, flow, slot, expected, all_sent, doubts, cause, is_last, &mut judgement);
        }
        if is_last {
            for number in &case.extras {
                self.judge_linked(case, flow, *number, presumed, &mut judgement);
            }
        }
        if case.unknown_left() > 0 {
            judgement.causes = judgement.causes.with(Cause::StartedTooLate);
        }
        judgement
    }

    #[expect(clippy::too_many_arguments, reason = "a slot is judged by all of it")]
    fn judge_slot(
        &mut self,
        case: &OpenCase,
        flow: &Flow,
        slot: &Slot,
        expected: &Expectation,
        all_sent: Option<Time>,
        doubts: Causes,
        cause: Causes,
        is_last: bool,
        judgement: &mut Judgement,
    ) {
        let begun = case.trigger.time;
        if let Some(received) = slot.received {
            let was_sent_late = slot.sent.is_none_or(|sent| sent.since(begun) >= flow.within);
            let is_slow = slot.sent.is_some_and(|sent| received.since(sent) > ACKNOWLEDGMENT_DELAY_MAX);
            if slot.is_required && received.since(begun) >= flow.within && (was_sent_late || is_slow) {
                let deviation = self.deviation(Fault::Late, slot, expected, None);
                // It may have come before or been refused, unseen, and this be another that was said unseen.
                let sender = self.ends.get(&case.sender);
                let causes = [Direction::ClientToServer, Direction::ServerToClient]
                    .into_iter()
                    .filter_map(|direction| Some(sender?.is_unsure_since(direction, begun)))
                    .fold(self.may_have_come(case, flow, slot, expected), Causes::and);
                judgement.add_or_doubt(deviation, causes.and(doubts));
            }
            return;
        }
        if !slot.is_required {
            return;
        }
        let instead = if slot.sent.is_none() { self.instead_of(case, slot, expected) } else { None };
        // What came may say nothing that can be quoted.
        let seen = instead.and_then(|number| {
            if is_last {
                self.remove_extra(number)?.content
            } else {
                self.extras.get(&number)?.content.clone()
            }
        });
        let direction = direction_of(flow, expected.to);
        let is_full = self.ends.get(&slot.connection).is_some_and(|end| end.seen(direction).is_full);
        let fault = match (slot.sent.is_some(), instead.is_some()) {
            (true, _) => Fault::Unacknowledged,
            (false, true) => Fault::Altered,
            (false, false) if is_full => Fault::Blocked,
            (false, false) => Fault::Lost,
        };
        let mut causes = Causes::NONE;
        if let Some((left_at, was_idle)) = slot.left
            && fault != Fault::Altered
        {
            // Whoever leaves owes no answer.
            if fault == Fault::Unacknowledged || direction == Direction::ClientToServer {
                return;
            }
            // One sender's messages are handled in their order: this one was, while its recipient was there.
            if !self.was_passed_over(case, slot.connection, expected) {
                let is_late = |sent: Time| left_at.since(sent) >= SURE_AFTER;
                if !was_idle || !all_sent.is_some_and(is_late) {
                    return;
                }
                causes = causes.with(Cause::LeftTooSoon);
            }
        }
        causes = causes.and(cause).and(doubts).and(self.may_have_come(case, flow, slot, expected));
        // It may have left, or gone elsewhere, unseen.
        if let Some(end) = self.ends.get(&slot.connection) {
            causes = causes.and(end.is_unsure_since(Direction::ClientToServer, begun));
        }
        if slot.end_unseen {
            causes = causes.with(Cause::EndUnseen);
        }
        // It may have been refused: who was to be told so left, or was told unseen.
        if case.trigger.direction.is_some() && case.slots().iter().all(|it| it.sent.is_none()) {
            let sender = self.ends.get(&case.sender);
            let is_in_time = |at: Time| at.monotonic < case.overdue_at;
            if sender.is_none_or(|end| end.closing.is_some_and(is_in_time)) {
                causes = causes.with(Cause::LeftTooSoon);
            }
            let answers = case.trigger.direction.map_or(Direction::ServerToClient, Direction::reverse);
            causes = causes.and(sender.map_or(Causes::NONE, |end| end.is_unsure_since(answers, begun)));
        }
        if slot.is_doubtful {
            causes = causes.with(Cause::BytesMissing);
        }
        if slot.left.is_some() && !case.counts(slot.connection) {
            judgement.missed.insert(slot.connection);
        }
        let deviation = self.deviation(fault, slot, expected, seen);
        judgement.add_or_doubt(deviation, causes);
    }

    /// Who is or was called so, as the chat has said.
    fn surely_called(&self, chat: Chat, uid: &Uid) -> Option<(&End, bool)> {
        let (holder, is_only) = self.uids.get(&(chat, uid.clone()))?;
        let end = self.ends.get(holder).filter(|end| end.known_uid() == Some(uid))?;
        Some((end, *is_only))
    }

    /// Why it may be about others than those who are taken for its users: who they are, the chat has not told.
    fn presumed(&self, case: &OpenCase, flow: &Flow) -> Causes {
        let is_presumed =
            |connection: ConnectionId| self.ends.get(&connection).is_some_and(|end| end.uid_is_presumed);
        let is_recipient =
            |slot: &&Slot| flow.expect.get(slot.expectation).is_some_and(|it| it.to == Whom::Recipient);
        let mut recipients = case.slots().iter().filter(is_recipient);
        // What somebody says is theirs whoever they are.
        let is_of_end = case.trigger.direction.is_none();
        if (is_of_end && is_presumed(case.sender)) || recipients.any(|slot| is_presumed(slot.connection)) {
            Cause::StartedTooLate.into()
        } else {
            Causes::NONE
        }
    }

    /// Why what is to come on a connection may have come all the same: unseen, or taken for somebody else's.
    fn may_have_come(&self, case: &OpenCase, flow: &Flow, slot: &Slot, expected: &Expectation) -> Causes {
        let begun = case.trigger.time;
        let mut causes = self.lost_since(begun);
        if let Some(end) = self.ends.get(&slot.connection) {
            causes = causes.and(end.is_unsure_since(direction_of(flow, expected.to), begun));
            if end.has_guessed(case.keys.iter().copied(), before_by(begun, LOST_AFTER_LEAST)) {
                causes = causes.with(Cause::SenderUnclear);
            }
        }
        causes
    }

    /// Whether a connection was surely sent something of a case that the same sender began later, which is asked to
    /// come later.
    fn was_passed_over(&self, case: &OpenCase, connection: ConnectionId, expected: &Expectation) -> bool {
        let Some(sender) = self.ends.get(&case.sender) else { return false };
        // What is equal is another sender's, where it does not say whose it is.
        let is_own = expected.same.contains(&Part::User) && case.sender_uid.is_some();
        let since = before_by(case.trigger.time, LOST_AFTER_LEAST);
        let orders = self.rules.dialects().get(case.dialect).into_iter().flat_map(|it| &it.flows.orders);
        is_own
            && sender.is_unsure_since(Direction::ClientToServer, since).is_empty()
            && orders.filter(|order| order.among == Among::Sender).any(|order| {
                expected.kinds.iter().all(|kind| order.kinds.contains(kind))
                    && self.later_of_sender(case.number, case.sender, connection, &order.kinds).is_some()
            })
    }

    /// What a connection was sent that looks like what it was to get, but for what it says.
    fn instead_of(&self, case: &OpenCase, slot: &Slot, expected: &Expectation) -> Option<u64> {
        let end = self.ends.get(&slot.connection)?;
        end.extras.iter().copied().find(|number| {
            self.extras.get(number).is_some_and(|extra| {
                let is_same_user = match (&extra.uid, &case.sender_uid) {
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                };
                extra.link.is_none()
                    && extra.time >= case.trigger.time
                    && extra.dialect == case.dialect
                    && expected.kinds.contains(&extra.kind)
                    && is_same_user
                    && (!expected.same.contains(&Part::To) || extra.to == case.trigger.to)
                    && self.may_be_explained(*number).is_empty()
            })
        })
    }

    /// What is too much, and looks like this case's.
    fn judge_linked(
        &mut self,
        case: &OpenCase,
        flow: &Flow,
        number: u64,
        presumed: Causes,
        judgement: &mut Judgement,
    ) {
        let Some(extra) = self.extras.get(&number) else { return };
        let Some(link) = extra.link.filter(|link| link.case == case.number) else { return };
        let Some(expected) = flow.expect.get(link.expectation) else { return };
        let counts = match link.fault {
            Fault::Duplicated => expected.times != Times::AtLeastOnce,
            _ => flow.nobody_else,
        };
        if !counts {
            return;
        }
        let causes = self.may_be_explained(number).and(presumed);
        let Some(extra) = self.remove_extra(number) else { return };
        if !causes.is_empty() {
            judgement.causes = judgement.causes.and(causes);
            return;
        }
        let Some(party) = self.ends.get(&extra.connection).map(|end| end.party.clone()) else { return };
        let (sent, received) = (Some(extra.time), extra.received);
        let deviation =
            Deviation { fault: link.fault, party, kind: extra.kind, seen: extra.content, sent, received };
        judgement.add(deviation);
    }

    fn deviation(&self, fault: Fault, slot: &Slot, expected: &Expectation, seen: Option<Quote>) -> Deviation {
        let party = self.ends.get(&slot.connection).map(|end| end.party.clone());
        Deviation {
            fault,
            party: party.unwrap_or_else(|| Party::unknown(slot.connection)),
            kind: expected.kinds.join("|").into(),
            seen,
            sent: slot.sent,
            received: slot.received,
        }
    }

    pub(super) fn lost_since(&self, since: Time) -> Causes {
        match self.last_loss {
            Some(at) if at.monotonic >= since.monotonic => Cause::CaptureLoss.into(),
            _ => Causes::NONE,
        }
    }

    /// Why something that was not seen may explain a message.
    pub(super) fn may_be_explained(&self, number: u64) -> Causes {
        let Some(extra) = self.extras.get(&number) else { return Causes::NONE };
        let since = before_by(extra.time, extra.hold);
        let mut causes = self.lost_since(since).and(extra.doubts);
        if let Some(chat) = self.chats.get(&extra.chat) {
            causes = causes.and(chat.may_explain(since, self.unreadable_that_may_explain(extra, chat)));
        }
        let keys = extra.keys.iter().map(|key| key.key);
        if self.ends.get(&extra.connection).is_some_and(|end| end.has_guessed(keys, since)) {
            causes = causes.with(Cause::SenderUnclear);
        }
        // Whoever is said to have sent it may be connected where nobody looks.
        let is_known = |uid| self.surely_called(extra.chat, uid).is_some();
        if extra.uid.as_ref().is_some_and(|uid| !is_known(uid)) {
            causes = causes.with(Cause::StartedTooLate);
        }
        causes
    }

    /// When somebody last sent something that cannot be read and may explain a message: whoever can have begun it.
    fn unreadable_that_may_explain(&self, extra: &Extra, chat: &ChatState) -> Option<Time> {
        let of_kind = self.plans.get(extra.dialect).and_then(|plan| plan.of(&extra.kind));
        let unreadable_of = |end: &End| end.seen(Direction::ClientToServer).unreadable;
        match of_kind.map(|of_kind| of_kind.begun_by).unwrap_or_default() {
            BegunBy::Recipient => self.ends.get(&extra.connection).and_then(unreadable_of),
            BegunBy::User => {
                match extra.uid.as_ref().and_then(|uid| self.surely_called(extra.chat, uid)) {
                    // Whoever left may have left their uid to somebody else.
                    Some((end, true)) if end.closing.is_none() => {
                        unreadable_of(end).max(chat.nameless_unreadable)
                    }
                    _ => chat.client_unreadable,
                }
            }
            BegunBy::Anybody => chat.client_unreadable,
        }
    }

    /// A message was not explained for as long as anything could have.
    pub(super) fn judge_extra(&mut self, number: u64, tell: Tell<'_>) {
        let causes = self.may_be_explained(number);
        let Some(extra) = self.remove_extra(number) else { return };
        let rules = Arc::clone(&self.rules);
        let plans = Arc::clone(&self.plans);
        let Some(dialect) = rules.dialects().get(extra.dialect) else { return };
        let of_kind = plans.get(extra.dialect).and_then(|plan| plan.of(&extra.kind));
        let Some(end) = self.ends.get(&extra.connection) else { return };
        let party = end.party.clone();
        let trigger = TriggerSeen {
            time: extra.time,
            party: party.clone(),
            direction: Some(Direction::ServerToClient),
            kind: extra.kind.clone(),
            does: None,
            to: extra.to,
            recipient: None,
            room: end.room.clone(),
            content: extra.content.clone(),
            fields: extra.fields,
            text: extra.text,
        };
        for number in of_kind.map_or(&[][..], |of_kind| &of_kind.unsolicited) {
            let Some(rule) = dialect.flows.unsolicited.get(*number) else { continue };
            let deviation = Deviation {
                fault: Fault::Unsolicited,
                party: party.clone(),
                kind: extra.kind.clone(),
                seen: extra.content.clone(),
                sent: Some(extra.time),
                received: extra.received,
            };
            let place = dialect.flows.place_of_unsolicited(*number);
            self.find(dialect, place, &rule.name, extra.dialect, &trigger, deviation, causes, tell);
        }
    }

    /// A finding of a rule that is no flow.
    #[expect(clippy::too_many_arguments, reason = "all of it is told")]
    fn find(
        &mut self,
        dialect: &Dialect,
        place: usize,
        name: &str,
        dialect_number: usize,
        trigger: &TriggerSeen,
        deviation: Deviation,
        causes: Causes,
        tell: Tell<'_>,
    ) {
        if !self.is_judged(trigger.time) {
            return;
        }
        let mut judgement = Judgement { causes, ..Judgement::default() };
        if causes.is_empty() {
            judgement.add(deviation);
        }
        let outcome = judgement.outcome();
        self.count(dialect_number, place, outcome);
        self.last_number += 1;
        let told = Case {
            outcome,
            time: self.now,
            deviations: &judgement.deviations,
            causes,
            ..Case::of_nobody(self.last_number, name, &dialect.name, trigger)
        };
        tell(&Told { stage: Stage::Verdict, case: &told });
    }

    /// What must not reach whoever is not logged in.
    pub(super) fn judge_nevers(
        &mut self,
        seen: Seen<'_>,
        nevers: &[usize],
        members: &Members,
        tell: Tell<'_>,
    ) {
        let Some(end) = self.ends.get(&seen.connection) else { return };
        let asks = members.of(seen.connection).is_some_and(|person| person.name_or_claim().is_some());
        let since = before_by(seen.time, LOST_AFTER_LEAST);
        let is_outside = end.standing == Standing::Outside && !asks && !end.was_member_since(since);
        let party = end.party.clone();
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(seen.dialect) else { return };
        for number in nevers {
            let place = dialect.flows.place_of_never(*number);
            if !is_outside {
                self.count(seen.dialect, place, Outcome::Held);
                continue;
            }
            let Some(rule) = dialect.flows.nevers.get(*number) else { continue };
            let trigger = seen.as_trigger(party.clone());
            let deviation = Deviation {
                fault: Fault::Unexpected,
                party: party.clone(),
                kind: seen.event.kind.into(),
                seen: seen.event.content.as_deref().map(Quote::of),
                sent: Some(seen.time),
                received: None,
            };
            self.find(dialect, place, &rule.name, seen.dialect, &trigger, deviation, Causes::NONE, tell);
        }
    }

    /// A message fulfilled something: whether it came in order. If not, the case tells of it at its end.
    pub(super) fn count_orders(&mut self, seen: Seen<'_>, number: u64, orders: &[usize]) {
        if orders.is_empty() {
            return;
        }
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(seen.dialect) else { return };
        let Some(case) = self.cases.get(&number) else { return };
        let (sender, is_known) = (case.sender, case.slots_of(seen.connection).any(Slot::is_sure));
        for order in orders {
            let Some(rule) = dialect.flows.orders.get(*order) else { continue };
            let before = match rule.among {
                _ if !is_known => None,
                Among::Sender => self.later_of_sender(number, sender, seen.connection, &rule.kinds),
                Among::Room => self.otherwise_in_room(number, seen.connection, &rule.kinds),
            };
            let Some(before) = before.and_then(|before| self.cases.get(&before)) else {
                self.count(seen.dialect, dialect.flows.place_of_order(*order), Outcome::Held);
                continue;
            };
            let Some(end) = self.ends.get(&seen.connection) else { continue };
            let deviation = Deviation {
                fault: Fault::Misordered,
                party: end.party.clone(),
                kind: seen.event.kind.into(),
                seen: before.trigger.content.clone(),
                sent: Some(seen.time),
                received: None,
            };
            if let Some(case) = self.cases.get_mut(&number) {
                case.misordered.push((*order, deviation));
            }
        }
    }

    /// What came out of order of a case that is over.
    fn judge_orders(&mut self, case: &OpenCase, tell: Tell<'_>) {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(case.dialect) else { return };
        // Of equal messages an earlier one may have come unseen, or have been said unseen.
        let begun = case.trigger.time;
        let since = before_by(begun, LOST_AFTER_LEAST);
        let said =
            self.ends.get(&case.sender).map(|end| end.is_unsure_since(Direction::ClientToServer, since));
        let unseen = said.unwrap_or_default().and(self.lost_since(since));
        for (order, deviation) in &case.misordered {
            let Some(rule) = dialect.flows.orders.get(*order) else { continue };
            let end = self.ends.get(&deviation.party.connection);
            let of_room = if rule.among == Among::Room {
                // What came to others, and what they said, is compared with, too.
                let ends = case.slots().iter().filter_map(|slot| self.ends.get(&slot.connection));
                let chat = self.chats.get(&case.chat);
                let said = chat.map_or(Causes::NONE, |chat| chat.may_explain(since, chat.client_unreadable));
                ends.fold(said, |causes, end| {
                    causes.and(end.is_unsure_since(Direction::ServerToClient, since))
                })
            } else {
                Causes::NONE
            };
            let causes = unseen
                .and(of_room)
                .and(end.map_or(Causes::NONE, |end| end.is_unsure_since(Direction::ServerToClient, begun)));
            let (place, trigger) = (dialect.flows.place_of_order(*order), &case.trigger);
            self.find(dialect, place, &rule.name, case.dialect, trigger, deviation.clone(), causes, tell);
        }
    }

    fn has_of(case: &OpenCase, connection: ConnectionId, kinds: &[Box<str>], flow: &Flow) -> Option<u64> {
        case.slots_of(connection)
            .filter(|slot| slot.is_sure())
            .find(|slot| {
                let expected = flow.expect.get(slot.expectation);
                expected.is_some_and(|expected| expected.kinds.iter().any(|kind| kinds.contains(kind)))
            })
            .map(|slot| slot.order)
    }

    pub(super) fn flow_of(&self, case: &OpenCase) -> Option<&Flow> {
        self.rules.dialects().get(case.dialect)?.flows.flows.get(case.flow)
    }

    /// A case that the same sender began later, of which this connection has its message already.
    fn later_of_sender(
        &self,
        number: u64,
        sender: ConnectionId,
        connection: ConnectionId,
        kinds: &[Box<str>],
    ) -> Option<u64> {
        let own = &self.ends.get(&sender)?.own;
        own.iter().rev().take_while(|later| **later > number).take(LOOKED_BACK).copied().find(|later| {
            self.cases.get(later).is_some_and(|case| {
                self.flow_of(case).is_some_and(|flow| Self::has_of(case, connection, kinds, flow).is_some())
            })
        })
    }

    /// A case that this connection has the message of already, and somebody else has it later than this one's.
    fn otherwise_in_room(
        &mut self,
        number: u64,
        connection: ConnectionId,
        kinds: &[Box<str>],
    ) -> Option<u64> {
        let case = self.cases.get(&number)?;
        let room = case.room.as_ref()?;
        let rooms = &mut self.chats.get_mut(&case.chat)?.rooms;
        if !rooms.contains_key(room) {
            rooms.insert(room.clone(), RoomOrder::default());
        }
        let order = rooms.get_mut(room)?;
        let behind: Vec<_> = order.behind(number).collect();
        let has_already = |other: &u64| {
            let before = self.cases.get(other)?;
            let flow = self.rules.dialects().get(before.dialect)?.flows.flows.get(before.flow)?;
            Self::has_of(before, connection, kinds, flow)
        };
        if behind.iter().any(|other| has_already(other).is_some()) {
            order.crossed = LOOKED_BACK;
        }
        // Where everybody got everything in the order of those who got it first, no two differ.
        if order.crossed == 0 {
            return None;
        }
        let flow = self.flow_of(case)?;
        let recent = &self.chats.get(&case.chat)?.rooms.get(room)?.cases;
        recent.iter().rev().copied().filter(|other| *other != number).find(|other| {
            let Some(before) = self.cases.get(other) else { return false };
            let Some(flow_before) = self.flow_of(before) else { return false };
            if Self::has_of(before, connection, kinds, flow_before).is_none() {
                return false;
            }
            before.slots().iter().filter(|slot| slot.connection != connection).take(LOOKED_BACK).any(|slot| {
                let one = Self::has_of(before, slot.connection, kinds, flow_before);
                let other = Self::has_of(case, slot.connection, kinds, flow);
                matches!((one, other), (Some(one), Some(other)) if other < one)
            })
        })
    }

    /// How a connection ended, where that is asked for.
    pub(super) fn judge_closing(
        &mut self,
        connection: &Connection,
        closed: &ConnectionClosed<'_>,
        tell: Tell<'_>,
    ) {
        let Some(end) = self.ends.get(&connection.id) else { return };
        let Some(number) = self.chats.get(&end.chat).and_then(|state| state.dialect) else { return };
        let party = end.party.clone();
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(number) else { return };
        let causes = match closed.how {
            How::StillOpen => return,
            How::Evicted => Cause::Limit.into(),
            How::Unseen => Cause::EndUnseen.into(),
            How::CloseFrame | How::Fin | How::Rst => Causes::NONE,
        };
        for (place, rule) in dialect.flows.closings.iter().enumerate() {
            let place = dialect.flows.place_of_closing(place);
            let is_right =
                closed.how == How::CloseFrame && (rule.codes.is_empty() || rule.codes.contains(&closed.code));
            if is_right && causes.is_empty() {
                self.count(number, place, Outcome::Held);
                continue;
            }
            let code = closed.code.map(|code| code.to_string()).unwrap_or_default();
            let how = Quote::of(&[closed.how.name(), &code].join(" "));
            let trigger = TriggerSeen::of_end(self.now, party.clone());
            let deviation = Deviation {
                fault: Fault::WrongClose,
                party: party.clone(),
                kind: "".into(),
                seen: Some(how),
                sent: None,
                received: None,
            };
            self.find(dialect, place, &rule.name, number, &trigger, deviation, causes, tell);
        }
    }
}

//! A case begins: by a message, or since somebody leaves; or is over before anything came of it.
//!
//! Owns who has to get something, and who is excused. Must not know how a message is matched. Bounded by `bounds`.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::{self, Leaving, OpenCase, Slot};
use super::ends::End;
use super::keys::{Beginning, Place, Wordings};
use super::plan::direction_of;
use super::{LOST_AFTER_LEAST, Seen, Tell, Timer, UNKNOWN_MAX, Verifier, before_by, judgement, lost_after};
use crate::flow::Chat;
use crate::flow::dialect::{Act, Dialect};
use crate::flow::event::Recipient;
use crate::flow::flows::{Addressed, Times, Trigger, Whom};
use crate::flow::members::{self, Members, Since, Standing};
use crate::flow::verdict::{Case, Cause, Causes, Party, Stage, Told, TriggerSeen};
use crate::record::{ConnectionId, Direction};
use crate::time::Time;

impl Verifier {
    /// The server refuses what a client sent: what nobody was sent of it is not to come.
    pub(super) fn refuse(&mut self, connection: ConnectionId, tell: Tell<'_>) {
        let Some(end) = self.ends.get(&connection) else { return };
        let (mut unsent, mut equal) = (Vec::new(), None);
        for case in end.own.iter().filter_map(|number| self.cases.get(number)) {
            let own = case.slots_of(connection).find(|slot| slot.is_required);
            if own.is_some_and(|slot| slot.sent.is_some() && !slot.is_ambiguous) {
                // Servers answer one client in order: what comes before this one is answered.
                unsent.clear();
                equal = None;
                continue;
            }
            let mut sent = case.slots().iter().filter(|slot| slot.sent.is_some()).peekable();
            if sent.peek().is_none() {
                unsent.push((case.number, case.trigger.time));
            } else if sent.all(|slot| slot.is_ambiguous) {
                // What was sent may be another's, and this one refused.
                equal.get_or_insert(case.trigger.time);
            }
            // Of what comes behind this one nothing is answered yet, unless its answer was not seen, or was taken for
            // another's.
            if own.is_some_and(|slot| slot.sent.is_none()) && self.may_be_answered(end, case).is_empty() {
                break;
            }
        }
        let Some((number, begun)) = unsent.first().copied() else { return };
        // Something that was not seen may be what is refused, or another sender's may have been taken for it.
        let begun = equal.map_or(begun, |equal| equal.min(begun));
        let since = before_by(begun, LOST_AFTER_LEAST);
        let causes = unsent
            .iter()
            .filter_map(|(number, _)| self.cases.get(number))
            .map(|case| self.may_be_answered(end, case))
            .fold(end.is_unsure_since(Direction::ServerToClient, begun), Causes::and)
            .and(end.is_unsure_since(Direction::ClientToServer, since))
            .and(self.lost_since(since));
        if !causes.is_empty() {
            for (number, _) in unsent {
                if let Some(case) = self.cases.get_mut(&number) {
                    case.doubts = case.doubts.and(causes);
                }
            }
        } else if unsent.len() == 1 && equal.is_none() {
            self.tell_refused(number, tell);
        } else {
            // What is for somebody elsewhere or for nobody known is the likeliest; of others it is not known which it was.
            let lacking =
                unsent.iter().filter_map(|(number, _)| Some((self.lack_of_recipient(*number)?, *number)));
            let likeliest = lacking.min().map(|(_, number)| number);
            if let Some(case) = likeliest.and_then(|number| self.cases.get_mut(&number)) {
                case.may_be_refused = true;
            }
            // An earlier one may have been refused before, and this be another's.
            let is_doubted = |(number, _): &(u64, Time)| {
                self.cases.get(number).is_some_and(|case| !case.doubts.is_empty())
            };
            if likeliest.is_none() || equal.is_some() || unsent.iter().any(is_doubted) {
                for (number, _) in unsent {
                    if let Some(case) = self.cases.get_mut(&number) {
                        case.doubts = case.doubts.with(Cause::RefusalUnclear);
                    }
                }
            }
        }
    }

    /// Why whoever began a case may have had its answer, though it was not found.
    fn may_be_answered(&self, sender: &End, case: &OpenCase) -> Causes {
        let begun = case.trigger.time;
        let causes = sender.is_unsure_since(Direction::ServerToClient, begun).and(self.lost_since(begun));
        if sender.has_guessed(case.keys.iter().copied(), before_by(begun, LOST_AFTER_LEAST)) {
            causes.with(Cause::SenderUnclear)
        } else {
            causes
        }
    }

    /// Whether a case is for one user who left or is in another room (0), or not known (1).
    fn lack_of_recipient(&self, number: u64) -> Option<u8> {
        let case = self.cases.get(&number).filter(|case| !case.may_be_refused)?;
        let recipient = case.trigger.recipient.as_ref().and_then(|party| self.ends.get(&party.connection));
        let is_elsewhere = recipient
            .is_some_and(|end| end.room_is_known && case.room.as_ref().is_some_and(|room| *room != end.room));
        if is_elsewhere { Some(0) } else { case.is_unresolved.then_some(1) }
    }

    /// Whether nothing came of a case that the server probably refused; then it is over.
    pub(super) fn is_refused_at_last(&mut self, number: u64, tell: Tell<'_>) -> bool {
        let is_refused = self
            .cases
            .get(&number)
            .is_some_and(|case| case.may_be_refused && case.slots().iter().all(|slot| slot.sent.is_none()));
        if is_refused {
            self.tell_refused(number, tell);
        }
        is_refused
    }

    fn tell_refused(&mut self, number: u64, tell: Tell<'_>) {
        let Some(case) = self.remove(number) else { return };
        if self.is_judged(case.trigger.time)
            && let Some(totals) = self.totals_of(case.dialect, case.flow)
        {
            totals.refused += 1;
        }
        let judgement = judgement::Judgement::default();
        self.tell(Stage::Refused, &case, &judgement, tell);
    }

    /// A message may begin a flow. Whether it does.
    pub(super) fn begin(&mut self, seen: Seen<'_>, flow: usize, members: &Members, tell: Tell<'_>) -> bool {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(seen.dialect) else { return false };
        let Some(rule) = dialect.flows.flows.get(flow) else { return false };
        let Trigger::Message { to, .. } = &rule.when else { return false };
        let addressed = if seen.event.is_private() { Addressed::One } else { Addressed::Everyone };
        if to.is_some_and(|to| to != addressed) {
            return false;
        }
        let Some(end) = self.ends.get(&seen.connection) else { return false };
        let joins = seen.event.does() == Some(Act::Join);
        let asks_members = rule.expect.iter().any(|expected| expected.to != Whom::Sender);
        // What somebody says behind their login the server handles behind it, too.
        let asked_room = members.of(seen.connection).and_then(|person| person.asked_room());
        let asked_room = asked_room.filter(|_| !joins && end.standing == Standing::Outside);
        let is_member = end.standing != Standing::Outside || dialect.connecting_joins || asked_room.is_some();
        let is_told_room = seen.event.rule.places.room.is_some();
        // What somebody says who is not there is passed on to nobody; a second login is refused, or moves them.
        if (asks_members && !joins && !is_member && !is_told_room)
            || (joins && end.standing == Standing::Member && end.known_uid().is_some() && !seen.is_early)
        {
            return false;
        }
        let room = if is_told_room {
            Some(seen.event.room.as_deref().map(|room| members::cut(room).into()))
        } else if dialect.connecting_joins {
            Some(None)
        } else if let Some(room) = asked_room {
            Some(room.map(Into::into))
        } else {
            (end.standing == Standing::Member && end.room_is_known).then(|| end.room.clone())
        };
        let mut party = end.party.clone();
        let sender_uid = end.known_uid().cloned().filter(|_| !joins);
        if joins {
            party.uid = None;
            party.name = seen.event.user.as_ref().and_then(|user| user.name.as_deref()).map(Into::into);
        }
        let to_connection = match &seen.event.recipient {
            Some(Recipient::Uid(uid)) => members.by_uid(seen.chat, uid),
            _ => None,
        };
        let recipient =
            to_connection.and_then(|connection| self.ends.get(&connection)).map(|end| end.party.clone());
        let recipient = recipient.or_else(|| self.named_only(seen.chat, &seen.event.recipient, members));
        let trigger = TriggerSeen { recipient, room: room.clone().flatten(), ..seen.as_trigger(party) };
        let name = seen.event.user.as_ref().and_then(|user| user.name.as_deref());
        let name = name.map(str::to_owned).or_else(|| end.party.name.as_deref().map(str::to_owned));
        let beginning = Beginning {
            event: Some(seen.event),
            uid: sender_uid.as_ref(),
            name: name.as_deref(),
            room: seen.event.room.as_deref(),
        };
        let place = (seen.dialect, flow);
        let comes = joins || asked_room.is_some();
        self.open_case(seen.chat, place, trigger, beginning, room, to_connection, comes, members, tell)
    }

    /// Somebody whose connection is not known, as the chat calls them.
    pub(super) fn named_only(&self, chat: Chat, to: &Option<Recipient>, members: &Members) -> Option<Party> {
        let Some(Recipient::Uid(uid)) = to else { return None };
        let name = members.name_of(chat, uid)?;
        Some(Party { name: Some(name.into()), uid: Some(uid.clone()), ..Party::unknown(ConnectionId(0)) })
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what a case consists of")]
    pub(super) fn open_case(
        &mut self,
        chat: Chat,
        (dialect_number, flow_number): (usize, usize),
        trigger: TriggerSeen,
        beginning: Beginning<'_>,
        room: case::Room,
        to_connection: Option<ConnectionId>,
        comes: bool,
        members: &Members,
        tell: Tell<'_>,
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(dialect_number) else { return false };
        let Some(flow) = dialect.flows.flows.get(flow_number) else { return false };
        if self.is_closing_down {
            return false;
        }
        let sender = trigger.party.connection;
        let (mut slots, mut unknown, mut is_unresolved) = (Vec::new(), BTreeSet::new(), false);
        for (number, expected) in flow.expect.iter().enumerate() {
            let is_required = expected.times != Times::AtMostOnce;
            match expected.to {
                Whom::Sender => slots.push(Slot::new(sender, number, is_required)),
                Whom::Recipient => match to_connection {
                    Some(connection) => slots.push(Slot::new(connection, number, is_required)),
                    None => {
                        is_unresolved = true;
                        let any = members.unknown_in(chat).chain(members.nameless_in(chat));
                        unknown.extend(any.take(UNKNOWN_MAX));
                    }
                },
                Whom::Members | Whom::Others => {
                    let takes_sender = expected.to == Whom::Members;
                    let present = self.present(chat, dialect, &room, flow.within, trigger.time, members);
                    for connection in present {
                        if connection != sender {
                            slots.push(Slot::new(connection, number, is_required));
                        }
                    }
                    let is_present = comes
                        || room.as_ref().is_none_or(|room| {
                            members.is_in_room(sender, chat, room.as_deref()) || dialect.connecting_joins
                        });
                    if takes_sender && is_present {
                        slots.push(Slot::new(sender, number, is_required));
                    }
                    if room.is_none() {
                        unknown.extend(
                            members.connected(chat).map(|(connection, _)| connection).take(UNKNOWN_MAX),
                        );
                    } else if !dialect.connecting_joins {
                        unknown.extend(members.unknown_in(chat).take(UNKNOWN_MAX));
                    }
                }
            }
        }
        unknown.remove(&sender);
        // Whether the sender is there, and where, decides who is to get it.
        let mut doubts = Causes::NONE;
        let is_join = trigger.does == Some(Act::Join);
        if is_join && members.of(sender).is_some_and(|it| it.standing == Standing::Member) {
            // A second login, as far as anybody knows.
            doubts = doubts.with(Cause::StartedTooLate);
        }
        if flow.expect.iter().any(|expected| expected.to != Whom::Sender) && !dialect.connecting_joins {
            let person = members.of(sender);
            if person.is_some_and(|person| person.standing == Standing::Unknown) {
                doubts = doubts.with(Cause::StartedTooLate);
            }
            if let Some(person) = person.filter(|person| person.is_doubtful) {
                let cause = if person.was_before { Cause::StartedTooLate } else { Cause::BytesMissing };
                doubts = doubts.with(cause);
            }
        }
        if slots.is_empty() && unknown.is_empty() && !is_unresolved {
            return false;
        }
        for slot in &mut slots {
            slot.is_doubtful = members.of(slot.connection).is_some_and(|person| person.is_doubtful);
            unknown.remove(&slot.connection);
        }
        let mut wordings = Wordings::default();
        let mut keys = Vec::new();
        for (expectation, expected) in flow.expect.iter().enumerate() {
            let place = Place {
                chat,
                dialect: dialect_number,
                flow: flow_number,
                expectation,
                connection: (expected.to == Whom::Sender).then_some(sender),
            };
            let direction = direction_of(flow, expected.to);
            keys.extend(self.keys.of_beginning(
                place,
                expected,
                dialect,
                direction,
                beginning,
                &mut wordings,
            ));
        }
        self.make_room(sender, slots.len() + unknown.len() + keys.len(), tell);
        self.last_number += 1;
        let number = self.last_number;
        let sender_uid = beginning.uid.cloned();
        let place = (dialect_number, flow_number);
        let mut case = OpenCase::new(
            number,
            place,
            chat,
            trigger,
            sender_uid,
            room,
            slots,
            flow.within,
            lost_after(flow),
        );
        case.unknown = unknown.into_iter().collect();
        case.is_unresolved = is_unresolved;
        case.doubts = doubts;
        for key in &keys {
            self.by_key.entry(*key).or_default().push_back(number);
        }
        case.keys.clone_from(&keys);
        let of_slots: BTreeSet<_> = case.slots().iter().map(|slot| slot.connection).collect();
        for connection in of_slots {
            if let Some(end) = self.ends.get_mut(&connection) {
                end.expecting.push_back(number);
            }
        }
        if let Some(end) = self.ends.get_mut(&sender) {
            end.own.push_back(number);
        }
        self.cases_by_sender.add(chat, sender, 1);
        self.entries_by_sender.add(chat, sender, case.entries());
        self.timers.insert((case.timer, Timer::Case(number)));
        let is_leave = case.trigger.direction.is_none();
        let begun = case.trigger.time;
        self.cases.insert(number, case);
        self.take_extras(number, &keys, if is_leave { None } else { Some(begun) }, members);
        self.settle(number, tell);
        true
    }

    pub(super) fn orders_rooms(&self, dialect: usize) -> bool {
        self.plans.get(dialect).is_some_and(|plan| plan.orders_rooms)
    }

    /// Who has to get what is said to a room: those who are surely there.
    pub(super) fn present(
        &self,
        chat: Chat,
        dialect: &Dialect,
        room: &case::Room,
        within: Duration,
        now: Time,
        members: &Members,
    ) -> Vec<ConnectionId> {
        // Where nothing confirms it, the server has had as long for it as for anything else.
        let is_sure = |(connection, since): &(ConnectionId, Since)| {
            let is_leaving = self.ends.get(connection).is_none_or(|end| end.is_leaving);
            !is_leaving
                && match since {
                    Since::Confirmed => true,
                    Since::Asked(at) => now.since(*at) >= within,
                }
        };
        match room {
            None => Vec::new(),
            Some(None) if dialect.connecting_joins => {
                members.connected(chat).filter(is_sure).map(|(connection, _)| connection).collect()
            }
            Some(room) => {
                let present = members.in_room(chat, room.as_deref());
                present.filter(is_sure).map(|(connection, _)| connection).collect()
            }
        }
    }

    /// Whoever is at a connection leaves. Whether a case tells of it.
    pub(super) fn leave(&mut self, connection: ConnectionId, members: &Members, tell: Tell<'_>) -> bool {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&connection) else { return false };
        if std::mem::replace(&mut end.is_leaving, true) {
            return false;
        }
        let was_member = end.party.uid.is_some() && end.room_is_known;
        if end.standing == Standing::Member {
            end.note_left_room(now);
        }
        let (chat, party, room) = (end.chat, end.party.clone(), end.room.clone());
        self.excuse(connection, false, false, tell);
        let spoken = self.chats.get(&chat).and_then(|state| state.dialect);
        let plans = Arc::clone(&self.plans);
        let (Some(dialect), true) = (spoken, was_member) else { return false };
        let Some(plan) = plans.get(dialect) else { return false };
        let trigger = TriggerSeen {
            does: Some(Act::Leave),
            room: room.clone(),
            ..TriggerSeen::of_end(now, party.clone())
        };
        let mut is_of_case = false;
        for flow in &plan.leaving {
            let trigger = trigger.clone();
            let beginning = Beginning {
                event: None,
                uid: party.uid.as_ref(),
                name: party.name.as_deref(),
                room: room.as_deref(),
            };
            let place = (dialect, *flow);
            let room = Some(room.clone());
            is_of_case |= self.open_case(chat, place, trigger, beginning, room, None, false, members, tell);
        }
        if let (Some(flow), false) = (plan.leaving.first(), is_of_case || self.is_closing_down) {
            self.tell_unheard((dialect, *flow), &trigger, tell);
            return true;
        }
        is_of_case
    }

    fn tell_unheard(&mut self, (dialect, flow): (usize, usize), trigger: &TriggerSeen, tell: Tell<'_>) {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(dialect) else { return };
        let Some(flow) = dialect.flows.flows.get(flow) else { return };
        self.last_number += 1;
        let case = Case::of_nobody(self.last_number, &flow.name, &dialect.name, trigger);
        tell(&Told { stage: Stage::Unheard, case: &case });
    }

    /// What a connection still waits for it need not get any more.
    pub(super) fn excuse(
        &mut self,
        connection: ConnectionId,
        is_over: bool,
        end_unseen: bool,
        tell: Tell<'_>,
    ) {
        let time = self.now;
        let Some(end) = self.ends.get_mut(&connection) else { return };
        let stream = end.seen(Direction::ServerToClient);
        let is_idle = self.trusts_sent || stream.received.0 >= stream.end;
        let leaving = Leaving { time, is_over, end_unseen, is_idle };
        let mut expecting = if is_over { std::mem::take(&mut end.expecting) } else { end.expecting.clone() };
        if is_over {
            let waiting: BTreeSet<_> = [Direction::ClientToServer, Direction::ServerToClient]
                .into_iter()
                .flat_map(|direction| std::mem::take(&mut end.stream(direction).sent))
                .map(|(_, number, _)| number)
                .collect();
            expecting.extend(waiting);
        }
        for number in expecting {
            if let Some(case) = self.cases.get_mut(&number) {
                case.note_left(connection, leaving);
                self.settle(number, tell);
            }
        }
    }
}

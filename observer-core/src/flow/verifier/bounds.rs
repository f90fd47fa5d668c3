//! What gives way where there is too much.
//!
//! Owns the bounds of cases, of their recipients and of what nothing explains, and how a case is taken out of everything.
//! Must not know how a case stands, nor who holds how much. Bounded: it is the bound.

use super::case::OpenCase;
use super::{
    CASES_MAX, CASES_OF_ONE_SENDER_MAX, ENTRIES_MAX, EXTRAS_MAX, Tell, Timer, Verifier, remove_from,
    remove_number,
};
use crate::flow::verdict::{Cause, Causes};
use crate::record::ConnectionId;

impl Verifier {
    /// Holds the bounds, for a case with so many entries.
    pub(super) fn make_room(&mut self, sender: ConnectionId, entries: usize, tell: Tell<'_>) {
        let own = self.ends.get(&sender).map_or(0, |end| end.own.len());
        if own >= CASES_OF_ONE_SENDER_MAX
            && let Some(oldest) = self.oldest_of(Some(sender))
        {
            self.give_up(oldest, tell);
        }
        loop {
            let heaviest = if self.cases.len() >= CASES_MAX {
                self.cases_by_sender.heaviest()
            } else if self.entries_by_sender.total() + entries > ENTRIES_MAX {
                self.entries_by_sender.heaviest()
            } else {
                break;
            };
            let Some(oldest) = self.oldest_of(heaviest) else { break };
            self.give_up(oldest, tell);
        }
    }

    /// The oldest case of a connection, or of all where nothing is known of it any more.
    fn oldest_of(&self, sender: Option<ConnectionId>) -> Option<u64> {
        let own = sender.and_then(|sender| self.ends.get(&sender)?.own.front().copied());
        own.or_else(|| self.cases.keys().next().copied())
    }

    /// Holds the bound of what nothing explains, for one more.
    pub(super) fn make_room_for_extra(&mut self, tell: Tell<'_>) {
        if self.extras.len() < EXTRAS_MAX {
            return;
        }
        let heaviest = self.extras_by_connection.heaviest();
        let of_heaviest = heaviest.and_then(|it| self.ends.get(&it)?.extras.front().copied());
        let Some(oldest) = of_heaviest.or_else(|| self.extras.keys().next().copied()) else { return };
        self.shed += 1;
        if let Some(chat) = self.extras.get(&oldest).map(|extra| extra.chat) {
            self.chats.entry(chat).or_default().shed = Some(self.now);
        }
        self.judge_extra(oldest, tell);
    }

    pub(super) fn give_up(&mut self, number: u64, tell: Tell<'_>) {
        let Some(case) = self.cases.get(&number) else { return };
        let (chat, is_complete) = (case.chat, case.is_complete);
        // What is complete is judged: only that nothing more comes is not waited for.
        self.shed += u64::from(!is_complete);
        // What it would have explained nothing explains.
        self.chats.entry(chat).or_default().shed = Some(self.now);
        self.conclude(number, if is_complete { Causes::NONE } else { Cause::Limit.into() }, tell);
    }

    /// Takes a case out of everything.
    pub(super) fn remove(&mut self, number: u64) -> Option<OpenCase> {
        let case = self.cases.remove(&number)?;
        self.cases_by_sender.take(case.chat, case.sender, 1);
        self.entries_by_sender.take(case.chat, case.sender, case.entries());
        self.timers.remove(&(case.timer, Timer::Case(number)));
        for key in &case.keys {
            remove_from(&mut self.by_key, *key, number);
        }
        if let Some(end) = self.ends.get_mut(&case.sender) {
            remove_number(&mut end.own, number);
        }
        if let (true, Some(room)) = (self.orders_rooms(case.dialect), &case.room)
            && let Some(chat) = self.chats.get_mut(&case.chat)
            && let Some(order) = chat.rooms.get_mut(room)
        {
            remove_number(&mut order.cases, number);
            if order.cases.is_empty() {
                chat.rooms.remove(room);
            }
        }
        for slot in case.slots() {
            if let Some(end) = self.ends.get_mut(&slot.connection) {
                while end.expecting.front().is_some_and(|first| !self.cases.contains_key(first)) {
                    end.expecting.pop_front();
                }
            }
        }
        Some(case)
    }
}

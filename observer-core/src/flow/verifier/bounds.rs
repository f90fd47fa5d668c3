//! What gives way where there is too much.
//!
//! Owns the bounds of cases and of their recipients, and how a case is taken out of everything. Must not know how a case
//! stands. Bounded: it is the bound.

use super::case::OpenCase;
use super::{
    CASES_MAX, CASES_OF_ONE_SENDER_MAX, SLOTS_MAX, Tell, Timer, Verifier, remove_from, remove_number,
};
use crate::flow::verdict::{Cause, Causes};
use crate::record::ConnectionId;

impl Verifier {
    /// Holds the bounds, for a case with so many recipients.
    pub(super) fn make_room(&mut self, sender: ConnectionId, slots: usize, tell: Tell<'_>) {
        let own = self.ends.get(&sender).map_or(0, |end| end.own.len());
        if own >= CASES_OF_ONE_SENDER_MAX
            && let Some(oldest) = self.ends.get(&sender).and_then(|end| end.own.front().copied())
        {
            self.give_up(oldest, tell);
        }
        while self.cases.len() >= CASES_MAX || (self.slots + slots > SLOTS_MAX && !self.cases.is_empty()) {
            let Some(oldest) = self.cases.keys().next().copied() else { break };
            self.give_up(oldest, tell);
        }
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
        self.slots = self.slots.saturating_sub(case.slots().len());
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

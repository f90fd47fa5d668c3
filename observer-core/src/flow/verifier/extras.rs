//! Messages that no case explains: kept until one does, or until it is sure that none will.
//!
//! Owns what is kept of them, and the case that each looks like one too many of. Must not know what that means, which
//! `judgement` does. Bounded by `bounds`.

use super::case::after;
use super::keys::Key;
use super::matching::About;
use super::{
    EARLIER_MAX, Extra, LOOKED_BACK, LOST_AFTER_LEAST, Link, Seen, Tell, Timer, UNKNOWN_MAX, Verifier,
    remove_from, remove_number,
};
use crate::flow::members::Members;
use crate::flow::verdict::{Cause, Causes, Fault, Party, TriggerSeen};
use crate::time::Time;

impl Verifier {
    /// Of what came before the case that explains it.
    pub(super) fn take_extras(&mut self, number: u64, keys: &[u64], begun: Option<Time>, members: &Members) {
        if self.extras.is_empty() {
            return;
        }
        for key in keys {
            let candidates: Vec<u64> =
                self.extras_by_key.get(key).into_iter().flatten().take(UNKNOWN_MAX).copied().collect();
            for candidate in candidates {
                let Some(extra) = self.extras.get(&candidate) else { continue };
                if begun.is_some_and(|begun| begun.since(extra.time) > EARLIER_MAX || extra.time > begun) {
                    continue;
                }
                let Some(found) = extra.keys.iter().find(|it| it.key == *key) else { continue };
                let expectation = found.expectation;
                let Some(case) = self.cases.get(&number) else { return };
                let about = self.about(extra.uid.as_ref(), extra.chat, members);
                if !self.may_be_of(case, found, &about) {
                    continue;
                }
                let takes = match case.slot(extra.connection, expectation) {
                    Some(slot) => slot.sent.is_none(),
                    None => self
                        .flow_of(case)
                        .is_some_and(|flow| self.may_get(case, flow, expectation, extra.connection, members)),
                };
                if !takes {
                    continue;
                }
                // It came before: something else that was not seen may have begun it.
                let connection = extra.connection;
                if self.may_be_explained(candidate).is_empty()
                    && let Some(extra) = self.remove_extra(candidate)
                {
                    self.note_sent(number, expectation, connection, extra.time, extra.stream_end);
                    if let Some(case) = self.cases.get_mut(&number) {
                        case.note_ambiguous(connection, expectation);
                    }
                } else if let Some(case) = self.cases.get_mut(&number) {
                    case.note_doubtful(connection, expectation);
                }
            }
        }
    }

    /// Keeps a message that nothing explains, until it is sure that nothing will.
    pub(super) fn park(&mut self, seen: Seen<'_>, keys: Vec<Key>, about: &About, tell: Tell<'_>) {
        if self.is_closing_down {
            return;
        }
        self.make_room_for_extra(tell);
        let again = keys.iter().find_map(|key| {
            let mut cases = self
                .cases_of(key.key)
                .rev()
                .take(LOOKED_BACK)
                .filter(|case| self.may_be_of(case, key, about));
            let case = cases.find(|case| case.slot(seen.connection, key.expectation).is_some())?;
            Some(Link { case: case.number, expectation: key.expectation, fault: Fault::Duplicated })
        });
        let link = again.or_else(|| {
            keys.iter().find_map(|key| {
                let mut cases = self.cases_of(key.key).rev().take(LOOKED_BACK);
                let case = cases.find(|case| self.may_be_of(case, key, about))?;
                Some(Link { case: case.number, expectation: key.expectation, fault: Fault::Unexpected })
            })
        });
        self.last_number += 1;
        let number = self.last_number;
        if let Some(case) = link.and_then(|link| self.cases.get_mut(&link.case)) {
            case.extras.push(number);
        }
        for Key { key, .. } in &keys {
            self.extras_by_key.entry(*key).or_default().push_back(number);
        }
        if let Some(end) = self.ends.get_mut(&seen.connection) {
            end.extras.push_back(number);
            let stream = end.stream(seen.direction);
            while stream.extras.front().is_some_and(|(_, first)| !self.extras.contains_key(first)) {
                stream.extras.pop_front();
            }
            stream.extras.extend(seen.stream_end.map(|end| (end, number)));
        }
        // Not all that it may be of was looked at.
        let doubts =
            if keys.iter().any(|key| self.has_many(key)) { Cause::Limit.into() } else { Causes::NONE };
        let hold = seen.plan.of(seen.event.kind).map_or(LOST_AFTER_LEAST, |of_kind| of_kind.hold);
        self.timers.insert((after(seen.time, hold), Timer::Extra(number)));
        let TriggerSeen { time, kind, to, content, fields, text, .. } =
            seen.as_trigger(Party::unknown(seen.connection));
        let extra = Extra {
            time,
            connection: seen.connection,
            chat: seen.chat,
            dialect: seen.dialect,
            kind,
            uid: seen.event.user.as_ref().and_then(|user| user.uid.clone()),
            to,
            content,
            fields,
            text,
            keys,
            stream_end: seen.stream_end,
            received: None,
            hold,
            link,
            doubts,
        };
        self.extras.insert(number, extra);
        self.extras_by_connection.add(seen.chat, seen.connection, 1);
    }

    pub(super) fn remove_extra(&mut self, number: u64) -> Option<Extra> {
        let extra = self.extras.remove(&number)?;
        self.extras_by_connection.take(extra.chat, extra.connection, 1);
        for Key { key, .. } in &extra.keys {
            remove_from(&mut self.extras_by_key, *key, number);
        }
        if let Some(end) = self.ends.get_mut(&extra.connection) {
            remove_number(&mut end.extras, number);
        }
        self.timers.remove(&(after(extra.time, extra.hold), Timer::Extra(number)));
        Some(extra)
    }
}

//! Where in a dialect's flows a message of each type has a part.
//!
//! Owns the index, which is made once a run. Must not know any message. Bounded by the rules.

use core::time::Duration;
use std::collections::HashMap;

use crate::flow::dialect::{Act, Dialect, MessageRule};
use crate::flow::flows::{Among, Expectation, Flow, Part, Trigger, Whom};
use crate::record::Direction;

/// A dialect's flows, by the types of messages.
#[derive(Debug, Default)]
pub(super) struct Plan {
    of_kind: HashMap<Box<str>, OfKind>,
    /// Flows that begin when somebody leaves.
    pub(super) leaving: Vec<usize>,
    /// Where this dialect's totals begin.
    pub(super) totals: usize,
    /// How long anything may be of interest: as long as any case may take.
    pub(super) hold: Duration,
    /// Whether any order is asked for among all messages of a room.
    pub(super) orders_rooms: bool,
}

/// Where messages of one type have a part. Numbers are places in the lists of a dialect's flows.
#[derive(Debug)]
pub(super) struct OfKind {
    /// How long one may go unexplained: as long as a case may take that expects it.
    pub(super) hold: Duration,
    /// Flows that it begins, by the direction that it travels in.
    pub(super) begins: [Vec<usize>; 2],
    /// Flows and the expectations there that it may fulfil, likewise.
    pub(super) fulfils: [Vec<(usize, usize)>; 2],
    /// Who can have begun what one from the server is of.
    pub(super) begun_by: BegunBy,
    /// From the server.
    pub(super) nevers: Vec<usize>,
    /// Likewise.
    pub(super) unsolicited: Vec<usize>,
    /// Likewise.
    pub(super) orders: Vec<usize>,
}

/// Who can have begun the cases that a message may be of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BegunBy {
    /// Whoever gets it.
    Recipient,
    /// The member whom it is about.
    User,
    /// Anybody.
    #[default]
    Anybody,
}

impl BegunBy {
    /// What is expected of a flow.
    fn of(dialect: &Dialect, flow: &Flow, expectation: &Expectation) -> Self {
        let Trigger::Message { kinds, from, .. } = &flow.when else { return Self::Anybody };
        // Who says something that joins, or names the room that it is for, need not be there.
        let is_open = |rule: &MessageRule| {
            kinds.contains(&rule.kind)
                && rule.goes(*from)
                && (rule.does == Some(Act::Join) || rule.places.room.is_some())
        };
        let is_by_member = !dialect.connecting_joins && !dialect.messages.iter().any(is_open);
        if is_by_member && expectation.same.contains(&Part::User) {
            Self::User
        } else if expectation.to == Whom::Sender {
            Self::Recipient
        } else {
            Self::Anybody
        }
    }
}

/// Which way a message travels that is expected.
pub(super) fn direction_of(flow: &Flow, to: Whom) -> Direction {
    match (to, &flow.when) {
        (Whom::Sender, Trigger::Message { from, .. }) => from.reverse(),
        _ => Direction::ServerToClient,
    }
}

impl Plan {
    pub(super) fn new(dialect: &Dialect, totals: usize) -> Self {
        let flows = &dialect.flows;
        let hold = flows.flows.iter().map(super::lost_after).max().unwrap_or(super::LOST_AFTER_LEAST);
        let mut plan = Self { totals, hold, ..Self::default() };
        for (number, flow) in flows.flows.iter().enumerate() {
            match &flow.when {
                Trigger::Message { kinds, from, .. } => {
                    for kind in kinds {
                        from.of_mut(&mut plan.kind(kind).begins).push(number);
                    }
                }
                Trigger::Leave => plan.leaving.push(number),
            }
            for (place, expectation) in flow.expect.iter().enumerate() {
                let direction = direction_of(flow, expectation.to);
                for kind in &expectation.kinds {
                    let of_kind = plan.kind(kind);
                    let fulfils = direction.of_mut(&mut of_kind.fulfils);
                    let begun_by = BegunBy::of(dialect, flow, expectation);
                    if direction == Direction::ServerToClient {
                        let is_first = fulfils.is_empty();
                        let is_the_same = is_first || of_kind.begun_by == begun_by;
                        of_kind.begun_by = if is_the_same { begun_by } else { BegunBy::Anybody };
                    }
                    fulfils.push((number, place));
                    of_kind.hold = of_kind.hold.max(super::lost_after(flow));
                }
            }
        }
        for (number, never) in flows.nevers.iter().enumerate() {
            never.kinds.iter().for_each(|kind| plan.kind(kind).nevers.push(number));
        }
        for (number, unsolicited) in flows.unsolicited.iter().enumerate() {
            unsolicited.kinds.iter().for_each(|kind| plan.kind(kind).unsolicited.push(number));
        }
        for (number, order) in flows.orders.iter().enumerate() {
            order.kinds.iter().for_each(|kind| plan.kind(kind).orders.push(number));
            plan.orders_rooms |= order.among == Among::Room;
        }
        plan
    }

    /// Where messages of a type have a part, if anywhere.
    pub(super) fn of(&self, kind: &str) -> Option<&OfKind> {
        self.of_kind.get(kind)
    }

    fn kind(&mut self, kind: &str) -> &mut OfKind {
        self.of_kind.entry(kind.into()).or_insert_with(|| OfKind {
            hold: super::LOST_AFTER_LEAST,
            begins: [Vec::new(), Vec::new()],
            fulfils: [Vec::new(), Vec::new()],
            begun_by: BegunBy::default(),
            nevers: Vec::new(),
            unsolicited: Vec::new(),
            orders: Vec::new(),
        })
    }
}

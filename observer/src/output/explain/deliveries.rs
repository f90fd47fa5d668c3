//! Whether what was said to several reached all of them.
//!
//! Owns who is expected to get something, to whom it was sent, and who acknowledged it. Must not know sentences. Bounded:
//! [`DELIVERIES_MAX`] are under way; the oldest gives way and is told of as it stands.

use std::collections::VecDeque;

use observer_core::chat::{EventKind, Uid, User};
use observer_core::record::ConnectionId;

/// Deliveries under way at the same time.
pub const DELIVERIES_MAX: usize = 256;

/// What is on its way to its recipients.
#[derive(Debug, Default)]
pub struct Deliveries {
    under_way: VecDeque<Delivery>,
}

#[derive(Debug)]
struct Delivery {
    kind: EventKind,
    uid: Option<Uid>,
    content: Option<Box<str>>,
    what: String,
    recipients: Vec<(ConnectionId, State)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Expected,
    /// Acknowledged once the stream is acknowledged up to here.
    Sent(u64),
    Arrived,
    Unknown,
    Failed,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who was to get it.
    pub expected: usize,
    /// Who acknowledged it.
    pub arrived: usize,
    /// Of whom it is not known, since bytes were missed.
    pub unknown: usize,
    /// What was delivered.
    pub what: String,
}

impl Delivery {
    fn state_of(&mut self, connection: ConnectionId) -> Option<&mut State> {
        self.recipients.iter_mut().find(|(id, _)| *id == connection).map(|(_, state)| state)
    }

    fn outcome(&self) -> Outcome {
        let count =
            |wanted: fn(State) -> bool| self.recipients.iter().filter(|(_, state)| wanted(*state)).count();
        Outcome {
            expected: self.recipients.len(),
            arrived: count(|state| state == State::Arrived),
            unknown: count(|state| state == State::Unknown),
            what: self.what.clone(),
        }
    }

    fn is_over(&self) -> bool {
        !self.recipients.iter().any(|(_, state)| matches!(state, State::Expected | State::Sent(_)))
    }
}

impl Deliveries {
    /// Something is to reach these.
    pub fn expect(
        &mut self,
        kind: EventKind,
        user: Option<&User>,
        content: Option<&str>,
        recipients: Vec<ConnectionId>,
        what: String,
    ) {
        let recipients: Vec<_> = recipients.into_iter().map(|id| (id, State::Expected)).collect();
        if recipients.is_empty() {
            return;
        }
        if self.under_way.len() >= DELIVERIES_MAX {
            self.under_way.pop_front();
        }
        let uid = user.and_then(|user| user.uid.clone());
        self.under_way.push_back(Delivery { kind, uid, content: content.map(Into::into), what, recipients });
    }

    /// Whether something of this kind and user is under way.
    pub fn expects(&self, kind: EventKind, user: Option<&User>) -> bool {
        let uid = user.and_then(|user| user.uid.as_ref());
        self.under_way.iter().any(|it| it.kind == kind && it.uid.as_ref() == uid)
    }

    /// It was sent to one of them, up to this position of the stream.
    pub fn handle_sent(
        &mut self,
        kind: EventKind,
        user: Option<&User>,
        content: Option<&str>,
        connection: ConnectionId,
        stream_end: Option<u64>,
    ) {
        let uid = user.and_then(|user| user.uid.as_ref());
        // Equal contents repeat: the first that still waits for this recipient is meant.
        let state = self
            .under_way
            .iter_mut()
            .filter(|it| it.kind == kind && it.uid.as_ref() == uid && it.content.as_deref() == content)
            .filter_map(|it| it.state_of(connection))
            .find(|state| matches!(state, State::Expected | State::Unknown));
        if let Some(state) = state {
            *state = stream_end.map_or(State::Unknown, State::Sent);
        }
    }

    /// A client acknowledged what it was sent up to this position. Returns what has reached everybody by that.
    pub fn handle_acknowledgment(&mut self, connection: ConnectionId, to: u64) -> Vec<Outcome> {
        for delivery in &mut self.under_way {
            if let Some(state) = delivery.state_of(connection)
                && matches!(state, State::Sent(end) if *end <= to)
            {
                *state = State::Arrived;
            }
        }
        self.take_over()
    }

    /// Bytes to this client were not seen: what it still waits for may have been in them.
    pub fn handle_gap(&mut self, connection: ConnectionId) {
        for delivery in &mut self.under_way {
            if let Some(state) = delivery.state_of(connection)
                && *state == State::Expected
            {
                *state = State::Unknown;
            }
        }
    }

    /// This client's connection is over. Returns what waited for it alone.
    pub fn handle_close(&mut self, connection: ConnectionId) -> Vec<Outcome> {
        for delivery in &mut self.under_way {
            if let Some(state) = delivery.state_of(connection) {
                match *state {
                    State::Expected => *state = State::Failed,
                    State::Sent(_) => *state = State::Unknown,
                    State::Arrived | State::Unknown | State::Failed => {}
                }
            }
        }
        self.take_over()
    }

    /// The run is over: everything as it stands.
    pub fn end(&mut self) -> Vec<Outcome> {
        self.under_way.drain(..).map(|delivery| delivery.outcome()).collect()
    }

    fn take_over(&mut self) -> Vec<Outcome> {
        let mut over = Vec::new();
        self.under_way.retain(|delivery| {
            let is_over = delivery.is_over();
            if is_over {
                over.push(delivery.outcome());
            }
            !is_over
        });
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    fn user() -> User {
        User { uid: Some(Uid::Number(7)), name: None }
    }

    fn said(content: &str) -> Deliveries {
        let mut deliveries = Deliveries::default();
        deliveries.expect(EventKind::Say, Some(&user()), Some(content), vec![ONE, TWO], content.to_owned());
        deliveries
    }

    fn outcome(arrived: usize, unknown: usize) -> Vec<Outcome> {
        vec![Outcome { expected: 2, arrived, unknown, what: "hi".to_owned() }]
    }

    #[test]
    fn what_was_said_is_delivered_when_the_last_recipient_acknowledged_all_of_it() {
        let mut deliveries = said("hi");
        deliveries.handle_sent(EventKind::Say, Some(&user()), Some("hi"), ONE, Some(100));
        assert_eq!(deliveries.handle_acknowledgment(ONE, 100), []);
        deliveries.handle_sent(EventKind::Say, Some(&user()), Some("hi"), TWO, Some(50));
        assert_eq!(deliveries.handle_acknowledgment(TWO, 49), []);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 50), outcome(2, 0));
        assert_eq!(deliveries.end(), []);
    }

    #[test]
    fn equal_contents_are_delivered_one_by_one() {
        let mut deliveries = said("hi");
        deliveries.expect(EventKind::Say, Some(&user()), Some("hi"), vec![ONE, TWO], "hi".to_owned());
        for connection in [ONE, TWO] {
            deliveries.handle_sent(EventKind::Say, Some(&user()), Some("hi"), connection, Some(10));
        }
        deliveries.handle_acknowledgment(ONE, 10);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 10), outcome(2, 0));
        assert_eq!(deliveries.end(), outcome(0, 0));
    }

    #[test]
    fn where_bytes_are_missing_it_is_unknown_and_where_nothing_was_sent_it_failed() {
        let mut deliveries = said("hi");
        deliveries.handle_sent(EventKind::Say, Some(&user()), Some("hi"), ONE, Some(10));
        deliveries.handle_acknowledgment(ONE, 10);
        deliveries.handle_gap(TWO);
        assert_eq!(deliveries.handle_close(TWO), outcome(1, 1));

        let mut deliveries = said("hi");
        deliveries.handle_sent(EventKind::Say, Some(&user()), Some("hi"), ONE, Some(10));
        assert_eq!(deliveries.handle_acknowledgment(ONE, 10), []);
        assert_eq!(deliveries.handle_close(TWO), outcome(1, 0));
    }
}

//! Whether what was said to several reached all of them.
//!
//! Owns who is expected to get something, to whom it was sent, and who acknowledged it. Must not know sentences, nor who
//! is a member. Bounded: [`DELIVERIES_MAX`] are under way, [`OF_ONE_SENDER_MAX`] of one sender; the oldest gives way and
//! is told of with what is open as unknown.
//!
//! What is said here is said to people who trust it: nothing is called delivered that was not acknowledged by everybody
//! who may have been meant, and nothing is called lost where bytes were missed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use observer_core::flow::{Act, Chat, Recipient, Uid};
use observer_core::record::ConnectionId;

/// Deliveries under way at the same time.
pub const DELIVERIES_MAX: usize = 128;

/// Deliveries of one sender under way at the same time.
pub const OF_ONE_SENDER_MAX: usize = 32;

/// What is on its way to its recipients.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// By number, which is their order.
    under_way: BTreeMap<u64, Delivery>,
    by_message: HashMap<Message, VecDeque<u64>>,
    mailboxes: HashMap<ConnectionId, Mailbox>,
    last: u64,
    hasher: RandomState,
}

/// What tells messages apart, on their way in and on their way out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    chat: Chat,
    act: Act,
    /// Who logs in, or says it.
    uid: Option<Uid>,
    recipient: Option<Recipient>,
    /// Of the content, with a key of this run's.
    hash: u64,
}

#[derive(Debug)]
struct Delivery {
    /// What the server may make of it.
    messages: Vec<Message>,
    sender: ConnectionId,
    what: String,
    expected: usize,
    arrived: usize,
    unknown: usize,
    failed: usize,
    was_sent: bool,
    /// Somebody may have been meant who is not known.
    others: bool,
}

/// What one client is to get.
#[derive(Debug, Default)]
struct Mailbox {
    expected: VecDeque<Expected>,
    /// The stream's end behind it, in order.
    sent: VecDeque<(u64, u64)>,
    /// What this client sent.
    own: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    delivery: u64,
    /// Bytes were missed since: it may have been in them.
    is_unknown: bool,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whose it was.
    pub sender: ConnectionId,
    /// Who was to get it.
    pub expected: usize,
    /// Who acknowledged it.
    pub arrived: usize,
    /// Whether there is anybody of whom it is not known.
    pub has_unknown: bool,
    /// What was delivered.
    pub what: String,
}

impl Delivery {
    const fn open(&self) -> usize {
        self.expected.saturating_sub(self.arrived).saturating_sub(self.unknown).saturating_sub(self.failed)
    }

    fn outcome(self) -> Outcome {
        Outcome {
            sender: self.sender,
            expected: self.expected,
            arrived: self.arrived,
            // Of what nobody was sent it is not even known whether the server passed it on as it was said.
            has_unknown: self.others || self.unknown > 0 || self.open() > 0 || !self.was_sent,
            what: self.what,
        }
    }
}

impl Deliveries {
    /// What tells a message apart.
    pub fn message(
        &self,
        chat: Chat,
        act: Act,
        uid: Option<&Uid>,
        recipient: Option<&Recipient>,
        content: &str,
    ) -> Message {
        let hash = self.hasher.hash_one(content);
        Message { chat, act, uid: uid.cloned(), recipient: recipient.cloned(), hash }
    }

    /// Something is to reach these, as any of these messages. `others`: and perhaps more. Returns what gives way.
    pub fn expect(
        &mut self,
        messages: Vec<Message>,
        sender: ConnectionId,
        recipients: &[ConnectionId],
        others: bool,
        what: String,
    ) -> Option<Outcome> {
        if recipients.is_empty() {
            return None;
        }
        let own = &self.mailboxes.entry(sender).or_default().own;
        let oldest = if own.len() >= OF_ONE_SENDER_MAX {
            own.front().copied()
        } else if self.under_way.len() >= DELIVERIES_MAX {
            self.under_way.keys().next().copied()
        } else {
            None
        };
        let gives_way = oldest.and_then(|oldest| self.take(oldest)).map(Delivery::outcome);
        self.last += 1;
        let number = self.last;
        for recipient in recipients {
            self.expect_of(*recipient, number);
        }
        self.mailboxes.entry(sender).or_default().own.push_back(number);
        for message in &messages {
            self.by_message.entry(message.clone()).or_default().push_back(number);
        }
        let delivery = Delivery {
            messages,
            sender,
            what,
            expected: recipients.len(),
            arrived: 0,
            unknown: 0,
            failed: 0,
            was_sent: false,
            others,
        };
        self.under_way.insert(number, delivery);
        gives_way
    }

    fn expect_of(&mut self, recipient: ConnectionId, delivery: u64) {
        let mailbox = self.mailboxes.entry(recipient).or_default();
        // What is no longer under way would pile up behind a client that gets nothing.
        while mailbox.expected.front().is_some_and(|first| !self.under_way.contains_key(&first.delivery)) {
            mailbox.expected.pop_front();
        }
        mailbox.expected.push_back(Expected { delivery, is_unknown: false });
    }

    /// Whether such a message is under way.
    pub fn expects(&self, message: &Message) -> bool {
        self.by_message.contains_key(message)
    }

    /// It was sent to a client, up to this position of the stream.
    pub fn handle_sent(&mut self, message: &Message, connection: ConnectionId, stream_end: Option<u64>) {
        let Some(numbers) = self.by_message.get(message) else { return };
        let mailbox = self.mailboxes.entry(connection).or_default();
        // Equal contents repeat: the first that still waits for this recipient is meant.
        let at = mailbox.expected.iter().position(|expected| numbers.contains(&expected.delivery));
        let expected = at.and_then(|at| mailbox.expected.remove(at));
        // To somebody of whom it was not known that they are meant; the last one said is the likeliest.
        let number = expected.map(|expected| expected.delivery).or_else(|| numbers.back().copied());
        let Some((number, delivery)) =
            number.and_then(|number| Some((number, self.under_way.get_mut(&number)?)))
        else {
            return;
        };
        match expected {
            Some(expected) => delivery.unknown -= usize::from(expected.is_unknown),
            None => delivery.expected += 1,
        }
        delivery.was_sent = true;
        match stream_end {
            Some(end) => mailbox.sent.push_back((end, number)),
            None => delivery.unknown += 1,
        }
    }

    /// A client acknowledged what it was sent up to this position. Returns what has reached everybody by that.
    pub fn handle_acknowledgment(&mut self, connection: ConnectionId, to: u64) -> Vec<Outcome> {
        let mut over = Vec::new();
        while let Some(mailbox) = self.mailboxes.get_mut(&connection)
            && mailbox.sent.front().is_some_and(|(end, _)| *end <= to)
            && let Some((_, number)) = mailbox.sent.pop_front()
        {
            if let Some(delivery) = self.under_way.get_mut(&number) {
                delivery.arrived += 1;
                over.extend(self.take_if_over(number));
            }
        }
        over
    }

    /// Bytes to this client were not seen: what it still waits for may have been in them.
    pub fn handle_gap(&mut self, connection: ConnectionId) {
        let Some(mailbox) = self.mailboxes.get_mut(&connection) else { return };
        for expected in mailbox.expected.iter_mut().filter(|expected| !expected.is_unknown) {
            expected.is_unknown = true;
            if let Some(delivery) = self.under_way.get_mut(&expected.delivery) {
                delivery.unknown += 1;
            }
        }
    }

    /// The server refused something that this client sent: what nobody was sent of it is on no way any more.
    pub fn handle_refusal(&mut self, sender: ConnectionId) {
        let Some(mailbox) = self.mailboxes.get(&sender) else { return };
        let unsent = |number: &&u64| self.under_way.get(number).is_some_and(|delivery| !delivery.was_sent);
        if let Some(number) = mailbox.own.iter().find(unsent).copied() {
            self.take(number);
        }
    }

    /// This client's connection is over. `is_whole`: and all that it was sent was seen. Returns what waited for it alone.
    pub fn handle_close(&mut self, connection: ConnectionId, is_whole: bool) -> Vec<Outcome> {
        let Some(mailbox) = self.mailboxes.get_mut(&connection) else { return Vec::new() };
        // What it sent is under way all the same.
        let (expected, sent) = (std::mem::take(&mut mailbox.expected), std::mem::take(&mut mailbox.sent));
        let mut over = Vec::new();
        for Expected { delivery: number, is_unknown } in expected {
            if let Some(delivery) = self.under_way.get_mut(&number) {
                if !is_unknown {
                    *if is_whole { &mut delivery.failed } else { &mut delivery.unknown } += 1;
                }
                over.extend(self.take_if_over(number));
            }
        }
        for (_, number) in sent {
            if let Some(delivery) = self.under_way.get_mut(&number) {
                delivery.unknown += 1;
                over.extend(self.take_if_over(number));
            }
        }
        self.forget_if_empty(connection);
        over
    }

    /// The run is over: everything as it stands.
    pub fn end(&mut self) -> Vec<Outcome> {
        self.mailboxes.clear();
        self.by_message.clear();
        std::mem::take(&mut self.under_way).into_values().map(Delivery::outcome).collect()
    }

    fn take_if_over(&mut self, number: u64) -> Option<Outcome> {
        let is_over = self.under_way.get(&number).is_some_and(|delivery| delivery.open() == 0);
        is_over.then(|| self.take(number)).flatten().map(Delivery::outcome)
    }

    fn take(&mut self, number: u64) -> Option<Delivery> {
        let delivery = self.under_way.remove(&number)?;
        for message in &delivery.messages {
            if let Some(numbers) = self.by_message.get_mut(message) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.by_message.remove(message);
                }
            }
        }
        if let Some(mailbox) = self.mailboxes.get_mut(&delivery.sender) {
            mailbox.own.retain(|other| *other != number);
            self.forget_if_empty(delivery.sender);
        }
        Some(delivery)
    }

    fn forget_if_empty(&mut self, connection: ConnectionId) {
        let is_empty = |mailbox: &Mailbox| {
            mailbox.expected.is_empty() && mailbox.sent.is_empty() && mailbox.own.is_empty()
        };
        if self.mailboxes.get(&connection).is_some_and(is_empty) {
            self.mailboxes.remove(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);
    const THREE: ConnectionId = ConnectionId(3);

    fn hi(deliveries: &Deliveries) -> Message {
        let uid = Uid::Number(7);
        deliveries.message((0, 7272), Act::Say, Some(&uid), Some(&Recipient::All), "hi")
    }

    fn say(deliveries: &mut Deliveries) -> Option<Outcome> {
        let message = hi(deliveries);
        deliveries.expect(vec![message], ONE, &[ONE, TWO], false, "hi".to_owned())
    }

    fn said() -> Deliveries {
        let mut deliveries = Deliveries::default();
        say(&mut deliveries);
        deliveries
    }

    fn send(deliveries: &mut Deliveries, connection: ConnectionId, end: u64) {
        let message = hi(deliveries);
        deliveries.handle_sent(&message, connection, Some(end));
    }

    fn outcome(expected: usize, arrived: usize, has_unknown: bool) -> Vec<Outcome> {
        vec![Outcome { sender: ONE, expected, arrived, has_unknown, what: "hi".to_owned() }]
    }

    #[test]
    fn a_sender_who_leaves_before_the_recipients_leaves_nothing_behind() {
        let mut deliveries = said();
        send(&mut deliveries, TWO, 50);
        deliveries.handle_close(ONE, true);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 50).len(), 1);
        deliveries.handle_close(TWO, true);
        assert!(deliveries.mailboxes.is_empty(), "{:?}", deliveries.mailboxes);
    }

    #[test]
    fn what_was_said_is_delivered_when_the_last_recipient_acknowledged_all_of_it() {
        let mut deliveries = said();
        send(&mut deliveries, ONE, 100);
        assert_eq!(deliveries.handle_acknowledgment(ONE, 100), []);
        send(&mut deliveries, TWO, 50);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 49), []);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 50), outcome(2, 2, false));
        assert_eq!(deliveries.end(), []);
    }

    #[test]
    fn equal_contents_are_delivered_one_by_one() {
        let mut deliveries = said();
        say(&mut deliveries);
        for connection in [ONE, TWO] {
            send(&mut deliveries, connection, 10);
        }
        deliveries.handle_acknowledgment(ONE, 10);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 10), outcome(2, 2, false));
        assert_eq!(deliveries.end(), outcome(2, 0, true));
    }

    #[test]
    fn where_bytes_are_missing_it_is_unknown_and_where_nothing_was_sent_it_failed() {
        for (is_whole, gap, has_unknown) in [(true, true, true), (false, false, true), (true, false, false)] {
            let mut deliveries = said();
            send(&mut deliveries, ONE, 10);
            assert_eq!(deliveries.handle_acknowledgment(ONE, 10), []);
            if gap {
                deliveries.handle_gap(TWO);
                assert_eq!(deliveries.end(), outcome(2, 1, has_unknown));
            } else {
                assert_eq!(deliveries.handle_close(TWO, is_whole), outcome(2, 1, has_unknown));
            }
        }
    }

    #[test]
    fn what_comes_after_a_gap_counts_all_the_same() {
        let mut deliveries = said();
        deliveries.handle_gap(TWO);
        send(&mut deliveries, TWO, 10);
        send(&mut deliveries, ONE, 10);
        deliveries.handle_acknowledgment(ONE, 10);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 10), outcome(2, 2, false));
    }

    #[test]
    fn whoever_gets_it_unexpectedly_has_to_acknowledge_it_too() {
        let mut deliveries = said();
        for connection in [ONE, TWO, THREE] {
            send(&mut deliveries, connection, 10);
        }
        deliveries.handle_acknowledgment(ONE, 10);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 10), []);
        assert_eq!(deliveries.handle_acknowledgment(THREE, 10), outcome(3, 3, false));
    }

    #[test]
    fn what_the_server_refused_takes_nothing_from_what_is_said_later() {
        let mut deliveries = said();
        deliveries.handle_refusal(ONE);
        say(&mut deliveries);
        for connection in [ONE, TWO] {
            send(&mut deliveries, connection, 10);
        }
        deliveries.handle_acknowledgment(ONE, 10);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 10), outcome(2, 2, false));
        assert_eq!(deliveries.end(), []);
    }

    #[test]
    fn one_sender_s_oldest_gives_way_and_is_told_of_as_unknown() {
        let mut deliveries = said();
        for _ in 1..OF_ONE_SENDER_MAX {
            assert_eq!(say(&mut deliveries), None);
        }
        assert_eq!(say(&mut deliveries), outcome(2, 0, true).pop());
        assert_eq!(deliveries.under_way.len(), OF_ONE_SENDER_MAX);
        // What is over does not pile up.
        for _ in 0..1_000 {
            say(&mut deliveries);
        }
        assert!(deliveries.mailboxes[&TWO].expected.len() <= OF_ONE_SENDER_MAX + 1);
    }

    #[test]
    fn only_so_many_are_under_way_and_a_closed_connection_leaves_nothing() {
        let mut deliveries = Deliveries::default();
        for sender in 0..1_000 {
            let message = hi(&deliveries);
            deliveries.expect(vec![message], ConnectionId(sender), &[ONE], false, String::new());
        }
        assert_eq!(deliveries.under_way.len(), DELIVERIES_MAX);
        for sender in 0..1_000 {
            deliveries.handle_close(ConnectionId(sender), true);
        }
        assert!(deliveries.mailboxes.is_empty() && deliveries.by_message.is_empty());
    }

    #[test]
    fn what_may_be_sent_in_several_shapes_is_delivered_in_any_of_them_and_leaves_nothing_behind() {
        let mut deliveries = Deliveries::default();
        let [raw, escaped] = ["<", "&lt;"].map(|content| {
            deliveries.message((0, 7272), Act::Say, Some(&Uid::Number(7)), Some(&Recipient::All), content)
        });
        let messages = vec![raw.clone(), escaped.clone()];
        deliveries.expect(messages, ONE, &[ONE, TWO], false, "hi".to_owned());
        deliveries.handle_sent(&raw, ONE, Some(10));
        deliveries.handle_sent(&escaped, TWO, Some(10));
        deliveries.handle_acknowledgment(ONE, 10);
        assert_eq!(deliveries.handle_acknowledgment(TWO, 10), outcome(2, 2, false));
        assert!(deliveries.by_message.is_empty() && deliveries.under_way.is_empty());
    }
}

//! Who is at the client end of each connection, as far as the chat's messages told.
//!
//! Owns what was learnt of each connection. Must not know what it is learnt for. Bounded: an entry a connection that
//! talks in the chat, until it is closed; the engine bounds those.

use std::collections::HashMap;

use observer_core::Record;
use observer_core::chat::{Event, EventKind, Uid, User};
use observer_core::record::{ConnectionId, Direction, Kind};

/// What is known of everybody.
#[derive(Debug, Default)]
pub struct People {
    by_connection: HashMap<ConnectionId, Person>,
}

/// What is known of the user of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// What they called themselves when they logged in, or asked to.
    pub name: Option<Box<str>>,
    /// What the chat calls them.
    pub uid: Option<Uid>,
    /// The room that they asked for.
    pub room: Option<Box<str>>,
    /// Whether the chat has told them that they are in.
    pub is_logged_in: bool,
    was_given_the_list: bool,
}

impl Person {
    /// Whether somebody means this user by their name or their uid.
    pub fn is_called(&self, name_or_uid: &str) -> bool {
        self.name.as_deref() == Some(name_or_uid)
            || self.uid.as_ref().is_some_and(|uid| uid.to_string() == name_or_uid)
    }
}

impl People {
    /// Who is at the client end of a connection, if they said so.
    pub fn of(&self, connection: ConnectionId) -> Option<&Person> {
        self.by_connection.get(&connection)
    }

    /// The connection and what is known of whoever the chat calls so.
    pub fn by_uid(&self, uid: &Uid) -> Option<(ConnectionId, &Person)> {
        let mut people = self.by_connection.iter();
        people.find(|(_, person)| person.uid.as_ref() == Some(uid)).map(|(id, person)| (*id, person))
    }

    /// Connections whose users are logged in, in the same room as the given one's.
    pub fn members_with(&self, connection: ConnectionId) -> Vec<ConnectionId> {
        let room = self.of(connection).and_then(|person| person.room.as_deref());
        let mut members: Vec<_> = self
            .by_connection
            .iter()
            .filter(|(_, person)| person.is_logged_in && person.room.as_deref() == room)
            .map(|(id, _)| *id)
            .collect();
        members.sort_unstable();
        members
    }

    /// Connections that asked to log in under a name, in the same room as the given one's, and have no answer yet.
    pub fn asking_as(&self, name: Option<&str>, connection: ConnectionId) -> Vec<ConnectionId> {
        let room = self.of(connection).and_then(|person| person.room.as_deref());
        self.by_connection
            .iter()
            .filter(|(_, person)| !person.is_logged_in && person.name.as_deref() == name)
            .filter(|(_, person)| person.room.as_deref() == room)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Learns from a record; to be told of all of them, in order.
    pub fn learn(&mut self, record: &Record<'_>) {
        let Some(connection) = record.connection else { return };
        match &record.kind {
            Kind::Message(message) => {
                if let Some(event) = message.chat {
                    self.learn_event(connection.id, message.direction, event);
                }
            }
            Kind::ConnectionClosed(_) => _ = self.by_connection.remove(&connection.id),
            _ => {}
        }
    }

    fn learn_event(&mut self, connection: ConnectionId, direction: Direction, event: &Event) {
        match (event.kind, direction) {
            (EventKind::Login, Direction::ClientToServer) => {
                let person = self.by_connection.entry(connection).or_default();
                // A second login is refused; whether this one is, the answer tells.
                if !person.is_logged_in {
                    person.name = event.user.as_ref().and_then(|user| user.name.as_deref()).map(Into::into);
                    person.room = event.room.as_deref().map(Into::into);
                }
            }
            (EventKind::UserList, Direction::ServerToClient) => {
                if let Some(person) = self.by_connection.get_mut(&connection) {
                    person.was_given_the_list = true;
                }
            }
            // All are told of each login; the first one behind the list that bears the name that was asked for is
            // the connection's own.
            (EventKind::Login, Direction::ServerToClient) => {
                let (Some(person), Some(User { uid, name })) =
                    (self.by_connection.get_mut(&connection), &event.user)
                else {
                    return;
                };
                if person.was_given_the_list
                    && !person.is_logged_in
                    && person.name.as_deref() == name.as_deref()
                {
                    person.is_logged_in = true;
                    person.uid.clone_from(uid);
                }
            }
            _ => {}
        }
    }
}

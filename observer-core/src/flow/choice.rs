//! Which dialects each chat may speak.
//!
//! Owns what was learnt of each chat. Must not know how messages are read. Bounded: an entry a chat, for as long as a
//! connection of it is told of, which `limits.rs` bounds.
//!
//! A chat is a port in a network namespace. What its server sends narrows the choice to the dialects that read it; what
//! clients send does not, since anybody can connect and send anything. A server's message that none of those reads, but
//! another dialect does, begins the choice anew with these others: another program may have taken the port.

use std::collections::HashMap;

use super::rules::DialectSet;
use crate::record::Connection;

/// Which chat: network namespace, where it is known, and port.
pub type Chat = (u64, u16);

/// The chat that a connection leads to.
pub const fn chat_of(connection: &Connection) -> Chat {
    (connection.scope, connection.server.port())
}

/// What is known of all chats.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    by_chat: HashMap<Chat, Choice>,
}

#[derive(Debug)]
struct Choice {
    dialects: DialectSet,
    connections: usize,
}

impl Choices {
    /// A connection of a chat is told of: to be left again.
    pub(crate) fn enter(&mut self, chat: Chat) {
        let fresh = Choice { dialects: DialectSet::ALL, connections: 0 };
        self.by_chat.entry(chat).or_insert(fresh).connections += 1;
    }

    /// It is over. With the last one what was learnt is forgotten.
    pub(crate) fn leave(&mut self, chat: Chat) {
        if let Some(choice) = self.by_chat.get_mut(&chat) {
            choice.connections = choice.connections.saturating_sub(1);
            if choice.connections == 0 {
                self.by_chat.remove(&chat);
            }
        }
    }

    /// The dialects that a chat may speak.
    pub(crate) fn of(&self, chat: Chat) -> DialectSet {
        self.by_chat.get(&chat).map_or(DialectSet::ALL, |choice| choice.dialects)
    }

    /// The chat's server sent what these dialects read, of those that it may speak, or, if none of them does, of all.
    pub(crate) fn narrow(&mut self, chat: Chat, read_by: DialectSet) {
        if let Some(choice) = self.by_chat.get_mut(&chat) {
            choice.dialects = read_by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_forgotten_with_its_last_connection() {
        let mut choices = Choices::default();
        let (chat, other) = ((0, 7272), (0, 7273));
        let narrowed = DialectSet::one(0);
        for chat in [chat, chat, other] {
            choices.enter(chat);
        }
        choices.narrow(chat, narrowed);
        assert_eq!([choices.of(chat), choices.of(other)], [narrowed, DialectSet::ALL]);
        choices.leave(chat);
        assert_eq!(choices.of(chat), narrowed);
        choices.leave(chat);
        assert_eq!(choices.of(chat), DialectSet::ALL);
        choices.leave(other);
        assert!(choices.by_chat.is_empty());
    }

    #[test]
    fn what_is_learnt_of_a_chat_without_connections_is_not_kept() {
        let mut choices = Choices::default();
        choices.narrow((0, 1), DialectSet::one(0));
        assert!(choices.by_chat.is_empty());
    }
}

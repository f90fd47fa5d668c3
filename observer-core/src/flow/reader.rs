//! What a message means, in the dialect of its chat.
//!
//! Owns which messages are read at all, and what is learnt by reading them of the chat's dialect. Must not know where
//! messages come from. Bounded by `choice` and [`MAXIMUM_JSON_BYTES`].

use super::choice::{Chat, Choices};
use super::event::Event;
use super::rules::Rules;
use super::{MAXIMUM_JSON_BYTES, choice};
use crate::record::{Connection, Direction, Message};

/// Reads the messages of all chats of a run.
#[derive(Debug, Default)]
pub struct Reader {
    choices: Choices,
}

impl Reader {
    /// A connection is told of: to be left again.
    pub fn enter(&mut self, connection: &Connection) -> Chat {
        let chat = choice::chat_of(connection);
        self.choices.enter(chat);
        chat
    }

    /// A connection of this chat is over.
    pub fn leave(&mut self, chat: Chat) {
        self.choices.leave(chat);
    }

    /// What a whole message of a chat's connection means by the rules of the run.
    pub fn read<'a>(&mut self, rules: &'a Rules, chat: Chat, message: &Message<'a>) -> Option<Event<'a>> {
        let payload = &message.payload;
        let text = match payload.text {
            _ if payload.is_truncated() || payload.undecoded.is_some() => return None,
            Some(text) => text,
            None if payload.known.len() > MAXIMUM_JSON_BYTES => return None,
            None => std::str::from_utf8(payload.known).ok()?,
        };
        let direction = message.direction;
        // What was found by its looks may be anything, and settles nothing.
        let settles = direction == Direction::ServerToClient && !message.resynchronised;
        let read = rules.read(self.choices.of(chat), settles, direction, message.opcode, text)?;
        if settles {
            self.choices.narrow(chat, read.by);
        }
        Some(read.event)
    }
}

//! What a decoder found, told; and how a conversation ends.
//!
//! Owns the first close frame. Must not know heads, nor where frames come from. Bounded: one reason of a close frame
//! a conversation, as long as RFC 6455 §5.5 allows.

use crate::flow::{Event, MAXIMUM_JSON_BYTES};
use crate::record::{Direction, Frame, Kind, Message, Peer};
use crate::reporter::Reporter;
use crate::time::Time;
use crate::websocket::Item;
use crate::websocket::frame::{MAXIMUM_CONTROL_LENGTH, Opcode};

/// The longest reason that is kept, in bytes: that of a right close frame, whose code takes two.
const MAXIMUM_REASON_LENGTH: usize = MAXIMUM_CONTROL_LENGTH as usize - 2;

/// What close frames have told.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) first: Option<Box<FirstClose>>,
    pub(super) seen: [bool; 2],
    pub(super) last_payload: Option<Time>,
}

/// The first close frame of a conversation.
#[derive(Debug)]
pub(crate) struct FirstClose {
    pub(crate) by: Peer,
    pub(crate) time: Time,
    pub(crate) code: Option<u16>,
    pub(crate) reason: Box<str>,
}

impl Ending {
    /// Tells what a decoder found.
    pub(super) fn handle_item(&mut self, direction: Direction, item: Item<'_>, reporter: &mut Reporter<'_>) {
        match item {
            Item::Frame(frame) => {
                reporter.told.account_of(direction).frames += 1;
                if frame.header.opcode == Opcode::Close {
                    self.handle_close(direction, &frame, reporter.time);
                }
                if reporter.config.frames {
                    reporter.record(Kind::Frame(frame));
                }
            }
            Item::Message(message) => {
                let account = reporter.told.account_of(direction);
                account.messages += 1;
                account.messages_truncated += u64::from(message.payload.is_truncated());
                let chat = read(direction, &message, reporter);
                reporter.record(Kind::Message(Message { chat: chat.as_ref(), ..message }));
            }
            Item::Anomaly { code, detail } => reporter.anomaly(Some(direction), code, detail),
            Item::Limit(limit) => reporter.limit(limit),
        }
    }

    fn handle_close(&mut self, direction: Direction, frame: &Frame<'_>, time: Time) {
        if let Some(seen) = self.seen.get_mut(direction.index()) {
            *seen = true;
        }
        let close = frame.close;
        self.first.get_or_insert_with(|| {
            let reason = close.map_or("", |close| close.reason);
            let kept = reason.floor_char_boundary(MAXIMUM_REASON_LENGTH);
            Box::new(FirstClose {
                by: match direction {
                    Direction::ClientToServer => Peer::Client,
                    Direction::ServerToClient => Peer::Server,
                },
                time,
                code: close.and_then(|close| close.code),
                reason: reason.get(..kept).unwrap_or_default().into(),
            })
        });
    }
}

/// What a whole message means by the rules.
fn read<'e, 'm: 'e, 'r: 'e>(
    direction: Direction,
    message: &Message<'m>,
    reporter: &mut Reporter<'r>,
) -> Option<Event<'e>> {
    let payload = &message.payload;
    let text = match payload.text {
        _ if payload.is_truncated() || payload.undecoded.is_some() => return None,
        Some(text) => text,
        None if payload.known.len() > MAXIMUM_JSON_BYTES => return None,
        None => std::str::from_utf8(payload.known).ok()?,
    };
    reporter.announce();
    let chat = reporter.told.chat()?;
    // What was found by its looks may be anything, and settles nothing.
    let settles = direction == Direction::ServerToClient && !message.resynchronised;
    let config = reporter.config;
    let read = config.rules.read(reporter.choices.of(chat), settles, direction, message.opcode, text)?;
    if settles {
        reporter.choices.narrow(chat, read.by);
    }
    Some(read.event)
}

//! What a decoder found, told; and what the frames of both directions say together: how a conversation ends, and which
//! pong answers which ping.
//!
//! Owns the first close frame and the pings. Must not know heads, nor where frames come from. Bounded: one reason of a
//! close frame a conversation, as long as RFC 6455 §5.5 allows, and what `pings.rs` bounds.

use std::time::Duration;

use super::pings::Pings;
use crate::anomaly::AnomalyCode;
use crate::limits::Limit;
use crate::record::{Account, Direction, Frame, Kind, Message, Peer};
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
    /// What the sender of each direction has of the other one.
    pub(super) receipts: [Receipt; 2],
    /// Whether a FIN of each direction was seen.
    fins_seen: [bool; 2],
    /// Whether anything was out of order in each direction.
    pub(super) blamed: [bool; 2],
    pings: Option<Box<[Pings; 2]>>,
}

/// What an end has received of the other one's stream, as far as its acknowledgments tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// All bytes before this offset.
    pub(crate) to: u64,
    /// It may have bytes that were not seen here.
    pub(crate) may_be_beyond: bool,
}

/// The first close frame of a conversation.
#[derive(Debug)]
pub(crate) struct FirstClose {
    pub(crate) by: Peer,
    pub(crate) time: Time,
    pub(crate) code: Option<u16>,
    pub(crate) reason: Box<str>,
    /// Where its stream stood behind it.
    end: u64,
    /// Whether its place is surely known.
    is_proved: bool,
    /// Whether its receiver's FIN says that it was received, and came while its sender waited.
    is_left: bool,
}

impl Ending {
    /// Tells what a decoder found.
    pub(super) fn handle_item(&mut self, direction: Direction, item: Item<'_>, reporter: &mut Reporter<'_>) {
        match item {
            Item::Frame(frame) => {
                reporter.told.account_of(direction).frames += 1;
                if frame.header.opcode == Opcode::Close {
                    self.handle_close(direction, &frame, reporter);
                }
                if reporter.config.frames
                    || (reporter.config.receipts && frame.header.opcode == Opcode::Close)
                {
                    let round_trip = self.round_trip(direction, &frame, reporter);
                    reporter.record(Kind::Frame(Frame { round_trip, ..frame }));
                }
            }
            Item::Message(message) => {
                let account = reporter.told.account_of(direction);
                account.messages += 1;
                account.messages_truncated += u64::from(message.payload.is_truncated());
                reporter.announce();
                let rules = &reporter.config.rules;
                let chat = reporter.told.chat().and_then(|chat| reporter.reader.read(rules, chat, &message));
                reporter.record(Kind::Message(Message { chat: chat.as_ref(), ..message }));
            }
            Item::Anomaly { code, detail } => {
                self.blame(direction);
                reporter.anomaly(Some(direction), code, detail);
            }
            Item::Limit(limit) => reporter.limit(limit),
        }
    }

    /// Something is out of order in a direction: its receiver need not go on in order either.
    pub(super) fn blame(&mut self, direction: Direction) {
        *direction.of_mut(&mut self.blamed) = true;
    }

    /// What the sender of a direction has received by now.
    pub(super) fn receipt_of(&self, direction: Direction) -> Receipt {
        *direction.of(&self.receipts)
    }

    /// A FIN came, whose sender has received the other direction up to an offset, where that is known. `is_awaited`:
    /// the other end has not ended its own stream before.
    pub(super) fn handle_fin(&mut self, direction: Direction, received_to: Option<u64>, is_awaited: bool) {
        // What is sent again tells what its sender has received since.
        if std::mem::replace(direction.of_mut(&mut self.fins_seen), true) {
            return;
        }
        if let Some(first) = self.first.as_mut().filter(|first| first.by != direction.sender()) {
            first.is_left = is_awaited && received_to.is_some_and(|to| to >= first.end);
        }
    }

    /// The stream of a direction ends, all of which was seen as frames: whether it owes the answer to a close frame
    /// (RFC 6455 §5.5.1).
    pub(super) fn check_answer(&self, direction: Direction, reporter: &mut Reporter<'_>) {
        let Some(first) = self.first.as_ref().filter(|first| first.is_left && first.is_proved) else {
            return;
        };
        let is_answered = *direction.of(&self.seen);
        let is_excused = *direction.reverse().of(&self.blamed);
        let Account { start_seen, gaps, .. } = *reporter.told.account_of(direction);
        if first.by != direction.sender() && !is_answered && !is_excused && start_seen && gaps == 0 {
            let code =
                first.code.map_or_else(|| "without a code".to_owned(), |code| format!("with code {code}"));
            let detail = format!("its FIN acknowledges the close frame {code}");
            reporter.anomaly(Some(direction), AnomalyCode::CloseNotAnswered, &detail);
        }
    }

    /// Bytes of a direction were not seen: a ping or a pong may be among them.
    pub(super) fn handle_gap(&mut self) {
        self.pings = None;
    }

    /// Takes note of a ping; tells how long before a pong the ping passed that it answers.
    fn round_trip(
        &mut self,
        direction: Direction,
        frame: &Frame<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Duration> {
        let is_ping = match frame.header.opcode {
            Opcode::Ping => true,
            Opcode::Pong => false,
            _ => return None,
        };
        if frame.resynchronised || frame.payload.is_truncated() {
            return None;
        }
        let (time, payload) = (reporter.time, frame.payload.known);
        if is_ping {
            let [client, server] = &mut **self.pings.get_or_insert_default();
            let pings = if direction == Direction::ClientToServer { client } else { server };
            let end = stream_end(direction, reporter);
            if pings.handle_ping(time, end, payload, reporter.config.limits.pings) {
                reporter.limit(Limit::Pings);
            }
            return None;
        }
        let receipt = self.receipt_of(direction);
        let [client, server] = &mut **self.pings.as_mut()?;
        let pings = if direction == Direction::ClientToServer { server } else { client };
        if receipt.may_be_beyond {
            pings.forget();
        }
        pings.handle_pong(time, receipt.to, payload)
    }

    fn handle_close(&mut self, direction: Direction, frame: &Frame<'_>, reporter: &mut Reporter<'_>) {
        *direction.of_mut(&mut self.seen) = true;
        let close = frame.close;
        let end = stream_end(direction, reporter);
        self.first.get_or_insert_with(|| {
            let reason = close.map_or("", |close| close.reason);
            let kept = reason.floor_char_boundary(MAXIMUM_REASON_LENGTH);
            Box::new(FirstClose {
                by: direction.sender(),
                time: reporter.time,
                code: close.and_then(|close| close.code),
                reason: reason.get(..kept).unwrap_or_default().into(),
                end,
                is_proved: !frame.resynchronised,
                is_left: false,
            })
        });
    }
}

/// Where a direction's stream stands, with all that was taken of it.
const fn stream_end(direction: Direction, reporter: &mut Reporter<'_>) -> u64 {
    let account = reporter.told.account_of(direction);
    account.bytes_seen.saturating_add(account.bytes_missing)
}

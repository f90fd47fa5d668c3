//! The connections of a run, as the flows see them.
//!
//! Owns what was sent on each and not acknowledged, who is there, who was there, and what of it cannot be known. Must not
//! know rules. Bounded: an entry a connection, kept after its end for as long as a case may name it, which `mod.rs`
//! bounds; `LEFT_ROOMS_MAX` rooms that it has left.

use std::collections::{HashMap, VecDeque};

use super::LOOKED_BACK;
use crate::flow::event::Uid;
use crate::flow::members::{Members, Person, Standing};
use crate::flow::verdict::{Cause, Causes, Party};
use crate::flow::{Chat, chat_of};
use crate::record::{Connection, ConnectionId, Direction};
use crate::time::Time;
use crate::websocket::frame::Opcode;

/// Messages to a connection that are remembered as guessed.
const GUESSES_MAX: usize = 64;

/// Rooms that a connection has left and may still get something of.
const LEFT_ROOMS_MAX: usize = 8;

/// One connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) chat: Chat,
    pub(super) party: Party,
    /// Whether the uid there is one that the chat did not tell.
    pub(super) uid_is_presumed: bool,
    pub(super) standing: Standing,
    pub(super) room: Option<Box<str>>,
    pub(super) room_is_known: bool,
    /// Rooms that it was in, and until when.
    pub(super) left: VecDeque<(Option<Box<str>>, Time)>,
    /// Whether its end was announced: by a close frame, a message, or the end itself.
    pub(super) is_leaving: bool,
    /// When it was, where that was not only by a message: whoever is there does not come again.
    pub(super) closing: Option<Time>,
    /// By the direction that bytes travel in.
    streams: [Stream; 2],
    /// Cases in which something is to come on this connection, in their order.
    pub(super) expecting: VecDeque<u64>,
    /// Keys of messages that it got, each of which may be another sender's case than the one that it was taken for.
    guesses: VecDeque<Guess>,
    /// The last of those that are forgotten.
    guess_forgotten: Option<Guess>,
    /// Cases that this connection began, in their order.
    pub(super) own: VecDeque<u64>,
    /// Messages from the server that no case explained, in their order.
    pub(super) extras: VecDeque<u64>,
}

/// A message that was taken for one of several senders' case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub(super) at: Time,
    pub(super) key: u64,
    /// The last case that had begun by then.
    pub(super) last: u64,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// What fulfils something and is not acknowledged: where it ends, the case, the expectation there.
    pub(super) sent: VecDeque<(u64, u64, usize)>,
    /// Messages that no case explains, and that are not acknowledged: where each ends, and its number.
    pub(super) extras: VecDeque<(u64, u64)>,
    /// Where the last message ended.
    pub(super) end: u64,
    /// Up to where all is acknowledged, and when that was told.
    pub(super) received: (u64, Time),
    /// Whether its receiver takes no more for now.
    pub(super) is_full: bool,
    /// When the last hole became known.
    pub(super) gap: Option<Time>,
    /// When the last message came that cannot be read.
    pub(super) unreadable: Option<Time>,
    /// The last case of which something may have come that was not seen.
    pub(super) unsure_to: u64,
}

impl End {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            chat: chat_of(connection),
            party: Party {
                connection: connection.id,
                client: connection.client,
                claim: connection.client_claim.clone(),
                name: None,
                uid: None,
            },
            uid_is_presumed: false,
            standing: Standing::Outside,
            room: None,
            room_is_known: false,
            left: VecDeque::new(),
            is_leaving: false,
            closing: None,
            streams: Default::default(),
            expecting: VecDeque::new(),
            guesses: VecDeque::new(),
            guess_forgotten: None,
            own: VecDeque::new(),
            extras: VecDeque::new(),
        }
    }

    pub(super) const fn stream(&mut self, direction: Direction) -> &mut Stream {
        direction.of_mut(&mut self.streams)
    }

    pub(super) const fn seen(&self, direction: Direction) -> &Stream {
        direction.of(&self.streams)
    }

    /// What the chat has said that it calls whoever is or was there.
    pub(super) fn known_uid(&self) -> Option<&Uid> {
        self.party.uid.as_ref().filter(|_| !self.uid_is_presumed)
    }

    /// Takes over what is known of who is there. Whoever left is remembered as who they were, until somebody comes.
    pub(super) fn refresh(&mut self, members: &Members, now: Time) {
        let Some(person) = members.of(self.party.connection) else { return };
        if self.is_as(person) {
            return;
        }
        let goes_elsewhere = self.room_is_known && self.room != person.room;
        if self.standing == Standing::Member && (goes_elsewhere || person.standing != Standing::Member) {
            self.note_left_room(now);
        }
        if person.standing == Standing::Member {
            self.is_leaving &= self.closing.is_some();
            self.party.name = person.name.clone().or_else(|| self.party.name.take());
            self.party.uid = person.uid.clone().or_else(|| self.party.uid.take());
            self.uid_is_presumed = person.uid_is_presumed;
            self.room.clone_from(&person.room);
            self.room_is_known = person.room_is_known;
        } else if let Some(claim) = person.name_or_claim() {
            self.party.name = Some(claim.into());
        }
        self.standing = person.standing;
    }

    fn is_as(&self, person: &Person) -> bool {
        self.standing == person.standing
            && self.room_is_known == person.room_is_known
            && self.party.uid == person.uid
            && self.uid_is_presumed == person.uid_is_presumed
            && self.party.name.as_deref() == person.name_or_claim()
            && self.room == person.room
    }

    /// Whoever is there leaves, or begins to.
    pub(super) fn note_left_room(&mut self, now: Time) {
        if self.left.len() >= LEFT_ROOMS_MAX {
            self.left.pop_front();
        }
        self.left.push_back((self.room.clone(), now));
    }

    /// Whether it left a room since then.
    pub(super) fn has_left_since(&self, room: Option<&str>, since: Time) -> bool {
        self.left.iter().any(|(left, at)| left.as_deref() == room && at.monotonic >= since.monotonic)
    }

    /// Whether it was a member of anything since then, and is no longer.
    pub(super) fn was_member_since(&self, since: Time) -> bool {
        self.left.iter().any(|(_, at)| at.monotonic >= since.monotonic)
    }

    /// A message may have been another sender's case than the one that it was taken for.
    pub(super) fn note_guess(&mut self, guess: Guess) {
        if self.guesses.len() >= GUESSES_MAX {
            self.guess_forgotten = self.guesses.pop_front();
        }
        self.guesses.push_back(guess);
    }

    /// The last case with this key of which something may have been taken for another's, or 0.
    pub(super) fn guessed_to(&self, key: u64) -> u64 {
        self.guesses.iter().rev().find(|guess| guess.key == key).map_or(0, |guess| guess.last)
    }

    /// Whether what has one of these keys may have been taken for something else since then, or that for it.
    pub(super) fn has_guessed(&self, mut keys: impl Iterator<Item = u64>, since: Time) -> bool {
        let is_since = |guess: &Guess| guess.at.monotonic >= since.monotonic;
        self.guess_forgotten.as_ref().is_some_and(is_since)
            || (!self.guesses.is_empty()
                && keys.any(|key| self.guesses.iter().any(|guess| guess.key == key && is_since(guess))))
    }

    /// What of it cannot be known since then, of one direction.
    pub(super) fn is_unsure_since(&self, direction: Direction, since: Time) -> Causes {
        let is_since = |at: Option<Time>| at.is_some_and(|at| at.monotonic >= since.monotonic);
        let stream = self.seen(direction);
        let mut causes = Causes::NONE;
        if is_since(stream.gap) {
            causes = causes.with(Cause::BytesMissing);
        }
        if is_since(stream.unreadable) {
            causes = causes.with(Cause::Unreadable);
        }
        causes
    }
}

/// What is known of all of a chat.
#[derive(Debug, Default)]
pub(super) struct ChatState {
    /// What its server speaks, once it said something that tells.
    pub(super) dialect: Option<usize>,
    /// Connections that are open.
    pub(super) open: usize,
    /// When a client's bytes were last found missing, or a message unreadable.
    pub(super) client_gap: Option<Time>,
    pub(super) client_unreadable: Option<Time>,
    /// The same of somebody who may be a member, and whose uid is not known.
    pub(super) nameless_unreadable: Option<Time>,
    /// When a connection came into view that had begun before.
    pub(super) joined_late: Option<Time>,
    /// When something was let go of at a bound.
    pub(super) shed: Option<Time>,
    /// What clients said before it was known what the server speaks.
    pub(super) early: Vec<Early>,
    pub(super) early_bytes: usize,
    /// By room, where the order there counts.
    pub(super) rooms: HashMap<Option<Box<str>>, RoomOrder>,
}

/// What of a room's order is kept.
#[derive(Debug, Default)]
pub(super) struct RoomOrder {
    /// Cases under way, in the order in which somebody was sent something of each first.
    pub(super) cases: VecDeque<u64>,
    /// How many more have to follow until none of those is left that somebody got in another order.
    pub(super) crossed: usize,
}

impl RoomOrder {
    /// Those that follow a case, which is the last from now on where it was none of them.
    pub(super) fn behind(&mut self, number: u64) -> impl Iterator<Item = u64> + use<'_> {
        let place = self.cases.iter().rposition(|it| *it == number).unwrap_or_else(|| {
            if self.cases.len() >= LOOKED_BACK {
                self.cases.pop_front();
            }
            self.cases.push_back(number);
            self.crossed = self.crossed.saturating_sub(1);
            self.cases.len()
        });
        self.cases.iter().skip(place + 1).copied()
    }
}

/// Something that a client said before it was known what the server speaks.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) time: Time,
    pub(super) connection: ConnectionId,
    pub(super) opcode: Opcode,
    pub(super) text: Box<str>,
    /// By which it was read.
    pub(super) dialect: usize,
}

impl ChatState {
    /// Why there may be something that explains what came then, or later than so long before; with the last message that
    /// cannot be read and may.
    pub(super) fn may_explain(&self, since: Time, unreadable: Option<Time>) -> Causes {
        let mut causes = Causes::NONE;
        for (at, cause) in [
            (self.client_gap, Cause::BytesMissing),
            (unreadable, Cause::Unreadable),
            (self.joined_late, Cause::StartedTooLate),
            (self.shed, Cause::Limit),
        ] {
            if at.is_some_and(|at| at.monotonic >= since.monotonic) {
                causes = causes.with(cause);
            }
        }
        causes
    }
}

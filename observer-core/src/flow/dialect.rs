//! A dialect: what a rule file says of reading messages, checked.
//!
//! Owns the parts of a rule and how they become places in a `Tree`. Must not know TOML, nor how a message is walked.
//! Bounded by what `parse` lets in.

use std::borrow::Cow;
use std::fmt;

use super::flows::{Flows, Trigger, Whom};
use super::pointer::Pointer;
use super::transform::{self, Chain, FieldTexts};
use super::tree::{Asked, RowsAt, Slot, Value};
use crate::record::Direction;
use crate::websocket::frame::Opcode;

/// One way to speak: what is in one rule file.
#[derive(Clone, PartialEq)]
pub struct Dialect {
    /// What it is called; no other of the same run is.
    pub name: Box<str>,
    /// What it is, for people.
    pub title: Box<str>,
    /// Messages of these opcodes are read: text, binary.
    pub opcodes: [bool; 2],
    /// What stands in front of the JSON of each message.
    pub prefix: Box<str>,
    /// How to read messages; the first that takes one is right.
    pub messages: Vec<MessageRule>,
    /// Whether everybody is a member who is connected; else whoever logged in.
    pub connecting_joins: bool,
    /// What has to happen.
    pub flows: Flows,
}

/// The name is enough: an event points to its dialect.
impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.name)
    }
}

impl Dialect {
    /// Whether messages of an opcode are read.
    pub const fn takes(&self, opcode: Opcode) -> bool {
        let [text, binary] = self.opcodes;
        match opcode {
            Opcode::Text => text,
            Opcode::Binary => binary,
            _ => false,
        }
    }

    /// What a server sends that does something.
    pub fn of_server(&self, does: Act) -> impl Iterator<Item = &MessageRule> {
        self.messages
            .iter()
            .filter(move |rule| rule.does == Some(does) && rule.goes(Direction::ServerToClient))
    }

    /// Whether who logs in may say to which room.
    pub fn has_rooms(&self) -> bool {
        self.messages.iter().any(|rule| {
            rule.does == Some(Act::Join) && rule.goes(Direction::ClientToServer) && rule.places.room.is_some()
        })
    }

    /// Whether what a server sends by this rule, to nobody in particular, reaches those only who are in the room of the
    /// user whom it is about.
    pub fn is_for_room_of_user(&self, rule: &MessageRule) -> bool {
        let mut is_for_room = false;
        for flow in &self.flows.flows {
            for expected in flow.expect.iter().filter(|expected| expected.kinds.contains(&rule.kind)) {
                match expected.to {
                    Whom::Sender => {}
                    Whom::Recipient if rule.places.to.is_some() => {}
                    Whom::Members | Whom::Others if !self.may_be_for_any_room(&flow.when) => {
                        is_for_room = true;
                    }
                    Whom::Recipient | Whom::Members | Whom::Others => return false,
                }
            }
        }
        is_for_room && !self.connecting_joins
    }

    /// Whether who begins a flow may say for which room, and stay where they are.
    fn may_be_for_any_room(&self, trigger: &Trigger) -> bool {
        let Trigger::Message { kinds, from, .. } = trigger else { return false };
        self.messages.iter().any(|rule| {
            kinds.contains(&rule.kind)
                && rule.goes(*from)
                && rule.does != Some(Act::Join)
                && rule.places.room.is_some()
        })
    }

    /// Whether a server tells who is present.
    pub fn has_lists(&self) -> bool {
        self.messages.iter().any(|rule| rule.places.users.is_some() && rule.goes(Direction::ServerToClient))
    }
}

/// How to read one kind of message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRule {
    /// What a message like this is called.
    pub kind: Box<str>,
    /// Which way it goes; `None` for both.
    pub from: Option<Direction>,
    /// What happens by it.
    pub does: Option<Act>,
    /// Whether it reaches nobody but the user whom it is about; `None` where that is not told.
    pub own: Option<bool>,
    /// What the server makes of a name that a client sent, in this message: one of these.
    pub name_through: Vec<Chain>,
    /// What the server makes of a content that a client sent, in this message: one of these.
    pub content_through: Vec<Chain>,
    /// Where everything is.
    pub places: Places<Pointer>,
}

impl MessageRule {
    /// Whether a message that goes this way may be one.
    pub fn goes(&self, direction: Direction) -> bool {
        self.from.is_none_or(|from| from == direction)
    }

    /// What a name that a client sent may be in this message; `fields` are those that stood beside it.
    pub fn names<'s>(
        &'s self,
        sent: &'s str,
        fields: &'s FieldTexts<'s>,
    ) -> impl Iterator<Item = Cow<'s, str>> {
        self.name_through.iter().filter_map(|chain| transform::apply(chain, sent, fields))
    }

    /// What a content that a client sent may be in this message; `fields` are those that stood beside it.
    pub fn contents<'s>(
        &'s self,
        sent: &'s str,
        fields: &'s FieldTexts<'s>,
    ) -> impl Iterator<Item = Cow<'s, str>> {
        self.content_through.iter().filter_map(|chain| transform::apply(chain, sent, fields))
    }
}

/// What happens by a message, to users and rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// Somebody comes, or wants to.
    Join,
    /// Somebody says something.
    Say,
    /// Somebody leaves.
    Leave,
    /// Who is present is told.
    List,
    /// A sign of life is asked for; not WebSocket's own.
    Ping,
    /// A sign of life is given.
    Pong,
    /// Something is refused.
    Refuse,
    /// A connection enters one more room, or wants to.
    Subscribe,
    /// It leaves that room.
    Unsubscribe,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 9] = [
        Self::Join,
        Self::Say,
        Self::Leave,
        Self::List,
        Self::Ping,
        Self::Pong,
        Self::Refuse,
        Self::Subscribe,
        Self::Unsubscribe,
    ];

    /// The name in rule files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Say => "say",
            Self::Leave => "leave",
            Self::List => "list",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Refuse => "refuse",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// A value that a message may have to have exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    Text(Box<str>),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
}

impl Scalar {
    /// Whether a message has it. A number in quotes is none.
    pub fn is(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(text), Value::Text(value)) => **text == **value,
            (Self::Number(number), Value::Number(value)) => u64::try_from(*number) == Ok(*value),
            (Self::Number(number), Value::Negative(value)) => number == value,
            (Self::Bool(one), Value::Bool(value)) => one == value,
            _ => false,
        }
    }
}

/// Where things are in a message: by pointers in a rule, by slots once they are in a `Tree`.
#[derive(Clone, Debug, PartialEq)]
pub struct Places<P> {
    /// What has to be one of some values.
    pub when: Vec<(P, Vec<Scalar>)>,
    /// What has to be there.
    pub has: Vec<P>,
    /// What must not be there.
    pub lacks: Vec<P>,
    /// The parts of an event.
    pub uid: Option<Field<P>>,
    /// What the user is called.
    pub name: Option<Field<P>>,
    /// In which room.
    pub room: Option<Field<P>>,
    /// For whom.
    pub to: Option<Field<P>>,
    /// What `to` says where all are meant.
    pub everyone: Option<Scalar>,
    /// What is said.
    pub content: Option<Field<P>>,
    /// An error's code.
    pub code: Option<Field<P>>,
    /// The message's own time.
    pub time: Option<Field<P>>,
    /// Who is present.
    pub users: Option<Users<P>>,
    /// Anything else, by name.
    pub fields: Vec<(Box<str>, P)>,
}

// Derived, it would want a default of P.
impl<P> Default for Places<P> {
    fn default() -> Self {
        Self {
            when: Vec::new(),
            has: Vec::new(),
            lacks: Vec::new(),
            uid: None,
            name: None,
            room: None,
            to: None,
            everyone: None,
            content: None,
            code: None,
            time: None,
            users: None,
            fields: Vec::new(),
        }
    }
}

/// A part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<P> {
    /// Where it is.
    pub at: P,
    /// Whether `has` names it too: then a message without a fitting value there is not read.
    pub needed: bool,
}

/// Who is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users<P> {
    /// Where the list is, or the object.
    pub at: Field<P>,
    /// Where its rows are; of a rule, in which there are none yet, nothing.
    pub rows: Option<RowsAt>,
    /// Whether it is an object, whose keys are the uids.
    pub is_map: bool,
    /// From an element, where its uid is.
    pub uid: Option<P>,
    /// From an element, where its name is.
    pub name: Option<P>,
}

impl Places<Pointer> {
    /// Asks for everything.
    pub fn ask(&self, asked: &mut Asked) -> Places<Slot> {
        let mut slots = |pointers: &[Pointer]| pointers.iter().map(|at| asked.ask(at)).collect::<Vec<_>>();
        let (has, lacks) = (slots(&self.has), slots(&self.lacks));
        let when = self.when.iter().map(|(at, values)| (asked.ask(at), values.clone())).collect();
        let fields = self.fields.iter().map(|(name, at)| (name.clone(), asked.ask(at))).collect();
        let users = self.users.as_ref().map(|users| {
            let list = &users.at.at;
            let mut of_row = |at: &Option<Pointer>| at.as_ref().map(|at| asked.ask_of_row(list, at));
            let (uid, name) = (of_row(&users.uid), of_row(&users.name));
            Users {
                at: Field { at: asked.ask(list), needed: users.at.needed },
                rows: Some(asked.ask_for_rows(list)),
                is_map: users.is_map,
                uid: if users.is_map { Some(Asked::KEY) } else { uid },
                name,
            }
        });
        let mut field = |field: &Option<Field<Pointer>>| {
            field.as_ref().map(|field| Field { at: asked.ask(&field.at), needed: field.needed })
        };
        Places {
            uid: field(&self.uid),
            name: field(&self.name),
            room: field(&self.room),
            to: field(&self.to),
            everyone: self.everyone.clone(),
            content: field(&self.content),
            code: field(&self.code),
            time: field(&self.time),
            when,
            has,
            lacks,
            users,
            fields,
        }
    }
}

//! Flows: what a rule file says has to happen after what, and what must never happen.
//!
//! Owns the shape of these rules. Must not know TOML, nor any message. Bounded by what `parse` lets in.

use core::time::Duration;

use crate::record::Direction;

/// How long an expected message may take where a file does not say.
pub const WITHIN_DEFAULT: Duration = Duration::from_secs(2);

/// The longest that one may be allowed to take.
pub const WITHIN_MAX: Duration = Duration::from_secs(300);

/// All that a dialect says of what has to happen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flows {
    /// What has to follow from what.
    pub flows: Vec<Flow>,
    /// What must not reach whoever is not logged in.
    pub nevers: Vec<Never>,
    /// What only comes where a flow expects it.
    pub unsolicited: Vec<Unsolicited>,
    /// What comes in order.
    pub orders: Vec<Order>,
    /// How connections have to end.
    pub closings: Vec<Closing>,
}

impl Flows {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let Self { flows, nevers, unsolicited, orders, closings } = self;
        flows.is_empty()
            && nevers.is_empty()
            && unsolicited.is_empty()
            && orders.is_empty()
            && closings.is_empty()
    }

    /// The names of all of them, in the order in which they are told.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let flows = self.flows.iter().map(|it| &it.name);
        let nevers = self.nevers.iter().map(|it| &it.name);
        let unsolicited = self.unsolicited.iter().map(|it| &it.name);
        let orders = self.orders.iter().map(|it| &it.name);
        let closings = self.closings.iter().map(|it| &it.name);
        flows.chain(nevers).chain(unsolicited).chain(orders).chain(closings).map(|name| &**name)
    }

    /// Where one of the [`Never`]s stands in [`Flows::names`].
    pub(super) const fn place_of_never(&self, number: usize) -> usize {
        self.flows.len() + number
    }

    /// Likewise of what is [`Unsolicited`].
    pub(super) const fn place_of_unsolicited(&self, number: usize) -> usize {
        self.place_of_never(self.nevers.len()) + number
    }

    /// Likewise of an [`Order`].
    pub(super) const fn place_of_order(&self, number: usize) -> usize {
        self.place_of_unsolicited(self.unsolicited.len()) + number
    }

    /// Likewise of a [`Closing`].
    pub(super) const fn place_of_closing(&self, number: usize) -> usize {
        self.place_of_order(self.orders.len()) + number
    }
}

/// When this is seen, that is expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// What it is called; no other rule of the same file that has a verdict is.
    pub name: Box<str>,
    /// What begins it.
    pub when: Trigger,
    /// How long everything that is expected may take.
    pub within: Duration,
    /// What is expected.
    pub expect: Vec<Expectation>,
    /// Whether it must reach nobody but those of whom it is expected.
    pub nobody_else: bool,
}

/// What begins a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// A message.
    Message {
        /// Of one of these types.
        kinds: Vec<Box<str>>,
        /// Who sends it.
        from: Direction,
        /// For whom it is; `None` for whomever.
        to: Option<Addressed>,
    },
    /// A member leaves: by a message that does so, or since their connection ends.
    Leave,
}

/// For whom a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Addressed {
    /// All, or it does not say.
    Everyone,
    /// One user.
    One,
}

impl Addressed {
    /// Both, with their names in rule files.
    pub const NAMED: [(&'static str, Self); 2] = [("everyone", Self::Everyone), ("one", Self::One)];
}

/// Messages that are expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// Of one of these types.
    pub kinds: Vec<Box<str>>,
    /// Who is to get one.
    pub to: Whom,
    /// How often.
    pub times: Times,
    /// What has to be the same as in what began the flow.
    pub same: Vec<Part>,
}

/// Who is to get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whom {
    /// The other end of the connection that the flow began on: whoever sent what began it.
    Sender,
    /// Every member of the room that it is about, the sender included.
    Members,
    /// The same without the sender.
    Others,
    /// The user whom it is for.
    Recipient,
}

impl Whom {
    /// All, with their names in rule files.
    pub const NAMED: [(&'static str, Self); 4] = [
        ("sender", Self::Sender),
        ("members", Self::Members),
        ("others", Self::Others),
        ("recipient", Self::Recipient),
    ];
}

/// How often something is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Times {
    /// Exactly once.
    Once,
    /// Once or more often.
    AtLeastOnce,
    /// Once or not at all.
    AtMostOnce,
}

impl Times {
    /// All, with their names in rule files.
    pub const NAMED: [(&'static str, Self); 3] =
        [("once", Self::Once), ("at_least_once", Self::AtLeastOnce), ("at_most_once", Self::AtMostOnce)];
}

/// A part that two messages may have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// It is about the user who sent what began the flow: their uid, as far as it is known.
    User,
    /// What the user is called, through what the server makes of it.
    Name,
    /// What is said, likewise.
    Content,
    /// For whom it is.
    To,
    /// In which room.
    Room,
    /// A field of the rules' own.
    Field(Box<str>),
}

impl Part {
    /// Those with a name of the language's own. Any other name is a field's.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("user", Self::User),
        ("name", Self::Name),
        ("content", Self::Content),
        ("to", Self::To),
        ("room", Self::Room),
    ];
}

/// Messages of a server that must not reach whoever is not logged in.
#[derive(Clone, Debug, PartialEq)]
pub struct Never {
    /// What it is called.
    pub name: Box<str>,
    /// Of one of these types.
    pub kinds: Vec<Box<str>>,
}

/// Messages of a server that only come where a flow expects them.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsolicited {
    /// What it is called.
    pub name: Box<str>,
    /// Of one of these types.
    pub kinds: Vec<Box<str>>,
}

/// What flows expect comes in the order in which they began.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What it is called.
    pub name: Box<str>,
    /// Messages of one of these types.
    pub kinds: Vec<Box<str>>,
    /// Among which.
    pub among: Among,
}

/// Among which messages there is an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Among {
    /// One sender's reach each recipient in the order in which they were sent.
    Sender,
    /// All of a room reach all recipients in the same order, whichever that is.
    Room,
}

impl Among {
    /// Both, with their names in rule files.
    pub const NAMED: [(&'static str, Self); 2] = [("sender", Self::Sender), ("room", Self::Room)];
}

/// How connections have to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    /// What it is called.
    pub name: Box<str>,
    /// With a close frame of one of these codes; `None` is a close frame without a code. Nothing here: with any.
    pub codes: Vec<Option<u16>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_stands_where_its_name_does() {
        let flow = |name: &str| Flow {
            name: name.into(),
            when: Trigger::Leave,
            within: WITHIN_DEFAULT,
            expect: Vec::new(),
            nobody_else: false,
        };
        let never = |name: &str| Never { name: name.into(), kinds: Vec::new() };
        let unsolicited = |name: &str| Unsolicited { name: name.into(), kinds: Vec::new() };
        let order = |name: &str| Order { name: name.into(), kinds: Vec::new(), among: Among::Sender };
        let closing = |name: &str| Closing { name: name.into(), codes: Vec::new() };
        let flows = Flows {
            flows: vec![flow("flow 0")],
            nevers: ["never 0", "never 1"].map(never).into(),
            unsolicited: ["unsolicited 0", "unsolicited 1", "unsolicited 2"].map(unsolicited).into(),
            orders: ["order 0", "order 1"].map(order).into(),
            closings: ["closing 0", "closing 1"].map(closing).into(),
        };
        let name_at = |place| flows.names().nth(place);
        assert_eq!(name_at(0), Some("flow 0"));
        assert_eq!(name_at(flows.place_of_never(1)), Some("never 1"));
        assert_eq!(name_at(flows.place_of_unsolicited(2)), Some("unsolicited 2"));
        assert_eq!(name_at(flows.place_of_order(1)), Some("order 1"));
        assert_eq!(name_at(flows.place_of_closing(1)), Some("closing 1"));
    }
}

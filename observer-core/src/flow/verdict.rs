//! What the verifier tells: whether what had to happen has happened.
//!
//! Owns the shapes. Must not know how they are laid out, nor how anything is judged. Bounded: a case borrows from the
//! verifier for one call; of deviations it has [`DEVIATIONS_MAX`], and the number of further ones.

use core::time::Duration;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::dialect::Act;
use super::event::{Fields, Recipient, Uid};
use super::tree::Value;
use crate::record::{ClientClaim, ConnectionId, Direction};
use crate::time::Time;

/// Deviations of one case that are kept one by one.
pub const DEVIATIONS_MAX: usize = 64;

/// What is kept of a text that is quoted in a verdict, in bytes.
pub const QUOTE_BYTES_MAX: usize = 256;

/// What is kept of the text of a field, in bytes.
pub const FIELD_BYTES_MAX: usize = 64;

/// Something that was told, of one case.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// How far it is.
    pub stage: Stage,
    /// What it is about.
    pub case: &'a Case<'a>,
}

/// How far a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// All that had to come has come and was acknowledged; what is too much may still come. At most once a case.
    Complete,
    /// Its time is up, and not all has come: it may still come late. At most once a case, and not after `Complete`.
    Overdue,
    /// The verdict. Once a case, and the last that is told of it.
    Verdict,
    /// Instead of a verdict: the server refused what began it, so that nothing is to follow. The last that is told.
    Refused,
    /// Instead of a verdict: somebody leaves, and nobody is known who would have to be told. All that is told of it, and
    /// counted in no totals.
    Unheard,
}

/// One trigger of one flow, or one finding of another rule.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Number of the case within the run, from 1.
    pub number: u64,
    /// What the rule is called.
    pub flow: &'a str,
    /// What its dialect is called.
    pub dialect: &'a str,
    /// How it stands.
    pub outcome: Outcome,
    /// What began it; for what no message began, what was found.
    pub trigger: &'a TriggerSeen,
    /// When the last of what had to come came, or when it was found that it would not.
    pub time: Time,
    /// How many were to get something, with those who got it besides, and without those who left.
    pub expected: usize,
    /// How many acknowledged it.
    pub arrived: usize,
    /// Whether anybody may have been meant of whom that is not known.
    pub others_unknown: usize,
    /// How many left before they got it, and are not counted.
    pub left: usize,
    /// From the trigger to the first and to the last that was sent, and to those that were acknowledged.
    pub latency: Latency,
    /// Why it is no better than it is, recipient by recipient; where that cannot be told, what did not come.
    pub deviations: &'a [Deviation],
    /// How many more there are.
    pub deviations_more: usize,
    /// Why it is not known.
    pub causes: Causes,
}

impl<'a> Case<'a> {
    /// One in which nobody has to get anything.
    pub(super) const fn of_nobody(
        number: u64,
        flow: &'a str,
        dialect: &'a str,
        trigger: &'a TriggerSeen,
    ) -> Self {
        Self {
            number,
            flow,
            dialect,
            outcome: Outcome::Held,
            trigger,
            time: trigger.time,
            expected: 0,
            arrived: 0,
            others_unknown: 0,
            left: 0,
            latency: Latency { first_sent: None, last_sent: None, first_received: None, last_received: None },
            deviations: &[],
            deviations_more: 0,
            causes: Causes::NONE,
        }
    }
}

/// How long it took from the trigger on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Until the server sent the first.
    pub first_sent: Option<Duration>,
    /// Until the server sent the last.
    pub last_sent: Option<Duration>,
    /// Until the first was acknowledged.
    pub first_received: Option<Duration>,
    /// Until the last was acknowledged.
    pub last_received: Option<Duration>,
}

/// How a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// All came in time, and nothing else.
    Held,
    /// All came, but not all in time.
    Late,
    /// It did not happen as it has to.
    Violated,
    /// It cannot be told.
    Inconclusive,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Held, Self::Late, Self::Violated, Self::Inconclusive];

    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Late => "late",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What began a case.
#[derive(Clone, Debug)]
pub struct TriggerSeen {
    /// When.
    pub time: Time,
    /// Whose connection it was on.
    pub party: Party,
    /// Which way it went; `None` where a connection's end began it.
    pub direction: Option<Direction>,
    /// What a message like this is called; empty where it is no message.
    pub kind: Box<str>,
    /// What happens by it.
    pub does: Option<Act>,
    /// For whom.
    pub to: Option<Recipient>,
    /// The user whom it is for, where that is one and known.
    pub recipient: Option<Party>,
    /// In which room.
    pub room: Option<Box<str>>,
    /// The beginning of what it says.
    pub content: Option<Quote>,
    /// Where it says nothing: what the rules name in it besides, in the order of the names.
    pub fields: Box<[FieldSeen]>,
    /// Where the rules tell no more of it than its type: its own beginning.
    pub text: Option<Quote>,
}

impl TriggerSeen {
    /// The end of a connection.
    pub(super) fn of_end(time: Time, party: Party) -> Self {
        Self {
            time,
            party,
            direction: None,
            kind: "".into(),
            does: None,
            to: None,
            recipient: None,
            room: None,
            content: None,
            fields: [].into(),
            text: None,
        }
    }
}

/// One end of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Number of the connection.
    pub connection: ConnectionId,
    /// Who connects.
    pub client: SocketAddr,
    /// For whom that claims to be.
    pub claim: Option<Arc<ClientClaim>>,
    /// What the user is called, where known.
    pub name: Option<Box<str>>,
    /// What the chat calls them, where known.
    pub uid: Option<Uid>,
}

impl Party {
    /// Somebody of whom no more is known than this number.
    pub(super) fn unknown(connection: ConnectionId) -> Self {
        let client = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { connection, client, claim: None, name: None, uid: None }
    }
}

/// The beginning of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// At most [`QUOTE_BYTES_MAX`] bytes of it.
    pub text: Box<str>,
    /// Whether it goes on.
    pub is_cut: bool,
}

impl Quote {
    /// The beginning of a text.
    pub fn of(text: &str) -> Self {
        let (text, is_cut) = beginning(text, QUOTE_BYTES_MAX);
        Self { text: text.into(), is_cut }
    }
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSeen {
    /// What the rules call it.
    pub name: Box<str>,
    /// What it is; of a text at most [`FIELD_BYTES_MAX`] bytes.
    pub value: Value<'static>,
    /// Whether that text goes on.
    pub is_cut: bool,
}

impl FieldSeen {
    /// Each of a message's fields.
    pub(super) fn of(fields: &Fields<'_>) -> Box<[Self]> {
        let of_one = |(name, value): &(&str, Value<'_>)| {
            let (value, is_cut) = match value {
                Value::Absent => (Value::Absent, false),
                Value::Null => (Value::Null, false),
                Value::Bool(value) => (Value::Bool(*value), false),
                Value::Number(value) => (Value::Number(*value), false),
                Value::Negative(value) => (Value::Negative(*value), false),
                Value::Float(value) => (Value::Float(*value), false),
                Value::Text(text) => {
                    let (beginning, is_cut) = beginning(text, FIELD_BYTES_MAX);
                    (Value::Text(beginning.to_owned().into()), is_cut)
                }
                Value::List => (Value::List, false),
                Value::Object => (Value::Object, false),
            };
            Self { name: (*name).into(), value, is_cut }
        };
        fields.0.iter().map(of_one).collect()
    }
}

/// So many bytes of a text at most, and whether it goes on.
fn beginning(text: &str, bytes_max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(bytes_max);
    (text.get(..end).unwrap_or_default(), end < text.len())
}

/// What is not as it has to be with one recipient.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// What.
    pub fault: Fault,
    /// Whose.
    pub party: Party,
    /// The type of the message that was expected, or is too much; several types are joined by `|`.
    pub kind: Box<str>,
    /// What was seen instead, or what is too much.
    pub seen: Option<Quote>,
    /// When the server sent it.
    pub sent: Option<Time>,
    /// When it was acknowledged.
    pub received: Option<Time>,
}

/// What may be wrong with one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It was not sent.
    Lost,
    /// It could not be sent: the recipient does not read, and its window is closed.
    Blocked,
    /// It was sent and not acknowledged.
    Unacknowledged,
    /// It came after its time.
    Late,
    /// It came again.
    Duplicated,
    /// Something else came in its place.
    Altered,
    /// It came to somebody who must not get it.
    Unexpected,
    /// It came before something that has to come before it.
    Misordered,
    /// Nothing that was seen explains it.
    Unsolicited,
    /// The connection ended otherwise than it has to.
    WrongClose,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::Blocked,
        Self::Unacknowledged,
        Self::Late,
        Self::Duplicated,
        Self::Altered,
        Self::Unexpected,
        Self::Misordered,
        Self::Unsolicited,
        Self::WrongClose,
    ];

    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Blocked => "blocked",
            Self::Unacknowledged => "unacknowledged",
            Self::Late => "late",
            Self::Duplicated => "duplicated",
            Self::Altered => "altered",
            Self::Unexpected => "unexpected",
            Self::Misordered => "misordered",
            Self::Unsolicited => "unsolicited",
            Self::WrongClose => "wrong_close",
        }
    }
}

/// Why something cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Bytes that could have decided it were not seen.
    BytesMissing,
    /// The capture lost packets meanwhile, of whichever connections.
    CaptureLoss,
    /// A message that could have decided it cannot be read: cut, not decoded, or too long.
    Unreadable,
    /// It may have begun before the observer did, or somebody was connected before.
    StartedTooLate,
    /// The run ends before the time is up.
    EndedTooSoon,
    /// The end of a connection was not seen.
    EndUnseen,
    /// Somebody left before the time was up, long after it was sent to all others.
    LeftTooSoon,
    /// The server refused something, and it is not known what.
    RefusalUnclear,
    /// Several said the same of whom it was not known who they are: which message is whose is not known.
    SenderUnclear,
    /// The times of the capture step back.
    ClockStepped,
    /// What the chat speaks was not yet known, or changed.
    DialectUnknown,
    /// A bound of the observer was reached.
    Limit,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 12] = [
        Self::BytesMissing,
        Self::CaptureLoss,
        Self::Unreadable,
        Self::StartedTooLate,
        Self::EndedTooSoon,
        Self::EndUnseen,
        Self::LeftTooSoon,
        Self::RefusalUnclear,
        Self::SenderUnclear,
        Self::ClockStepped,
        Self::DialectUnknown,
        Self::Limit,
    ];

    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BytesMissing => "bytes_missing",
            Self::CaptureLoss => "capture_loss",
            Self::Unreadable => "unreadable",
            Self::StartedTooLate => "started_too_late",
            Self::EndedTooSoon => "ended_too_soon",
            Self::EndUnseen => "end_unseen",
            Self::LeftTooSoon => "left_too_soon",
            Self::RefusalUnclear => "refusal_unclear",
            Self::SenderUnclear => "sender_unclear",
            Self::ClockStepped => "clock_stepped",
            Self::DialectUnknown => "dialect_unknown",
            Self::Limit => "limit",
        }
    }
}

/// Some causes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Causes(u16);

impl Causes {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// With one more.
    #[must_use]
    pub const fn with(self, cause: Cause) -> Self {
        Self(self.0 | 1 << cause as u8)
    }

    /// With those of another set.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Cause> {
        Cause::ALL.into_iter().filter(move |cause| self.0 & (1 << *cause as u8) != 0)
    }
}

impl From<Cause> for Causes {
    fn from(cause: Cause) -> Self {
        Self::NONE.with(cause)
    }
}

impl fmt::Debug for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a rule's cases came to.
#[derive(Clone, Debug)]
pub struct FlowTotals {
    /// What the rule is called.
    pub flow: Box<str>,
    /// What its dialect is called.
    pub dialect: Box<str>,
    /// Cases by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; 4],
    /// Cases that the server refused, and that are not judged.
    pub refused: u64,
    /// How many recipients got what they had to get.
    pub received: u64,
    /// From the trigger to the first and to the last that was sent.
    pub sent: [super::latency::Histogram; 2],
    /// From the trigger to the first and to the last that was acknowledged.
    pub latency: [super::latency::Histogram; 2],
}

impl FlowTotals {
    /// How many cases were judged.
    pub fn cases(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// How many cases came to this.
    pub fn of(&self, outcome: Outcome) -> u64 {
        let [held, late, violated, inconclusive] = self.outcomes;
        match outcome {
            Outcome::Held => held,
            Outcome::Late => late,
            Outcome::Violated => violated,
            Outcome::Inconclusive => inconclusive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_a_set() {
        let causes = Causes::from(Cause::Limit).with(Cause::BytesMissing).and(Cause::Limit.into());
        assert_eq!(causes.iter().collect::<Vec<_>>(), [Cause::BytesMissing, Cause::Limit]);
        assert!(Causes::NONE.is_empty() && !causes.is_empty());
        for cause in Cause::ALL {
            assert_eq!(Causes::from(cause).iter().collect::<Vec<_>>(), [cause]);
        }
    }

    #[test]
    fn a_quote_is_cut_between_characters() {
        let quote = Quote::of(&"猪".repeat(QUOTE_BYTES_MAX));
        assert!(quote.is_cut && quote.text.len() <= QUOTE_BYTES_MAX && quote.text.starts_with('猪'));
        assert_eq!(Quote::of("hi"), Quote { text: "hi".into(), is_cut: false });
    }

    #[test]
    fn of_a_field_the_beginning_of_its_text_is_kept_and_everything_else_as_it_is() {
        let long = "猪".repeat(FIELD_BYTES_MAX);
        let fields = vec![("id", Value::Negative(-7)), ("method", Value::Text(long.as_str().into()))];
        let kept = FieldSeen::of(&Fields(fields));
        let [id, method] = &*kept else { panic!("{kept:?}") };
        assert_eq!((&*id.name, &id.value, id.is_cut), ("id", &Value::Negative(-7), false));
        let Value::Text(text) = &method.value else { panic!("{method:?}") };
        assert!(method.is_cut && text.len() <= FIELD_BYTES_MAX && text.starts_with('猪'));
    }
}

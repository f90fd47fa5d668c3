//! What a message means, whatever the dialect.
//!
//! Owns the shape of an event, which is that of `chat` in JSON. Must not know how one is read. Bounded by the message that
//! it was read from, of at most [`MAXIMUM_JSON_BYTES`](super::MAXIMUM_JSON_BYTES), and by its dialect's rules.

use std::borrow::Cow;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::dialect::{Act, Dialect, MessageRule};
use super::tree::Value;

/// The longest uid that is taken for one, in bytes.
pub const UID_BYTES_MAX: usize = 64;

/// Up to here every number is one that other programs, which have only doubles, can tell from the next.
const EXACT_NUMBER_MAX: u64 = 1 << 53;

/// A message's meaning.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Event<'a> {
    /// What the rules call a message like this.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Whom it is about: who logs in or out, who says. A client does not name itself when it says something, and
    /// has no uid when it logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User<'a>>,
    /// In which room: where somebody wants to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// For whom something is said.
    #[serde(rename = "to", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
    /// What is said, or an error's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Cow<'a, str>>,
    /// Who is present, for a user list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<User<'a>>>,
    /// An error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'a, str>>,
    /// The time that the message itself tells, as it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Cow<'a, str>>,
    /// What else the rules name in it.
    #[serde(skip_serializing_if = "Fields::is_empty")]
    pub fields: Fields<'a>,
    /// What it was read by.
    #[serde(skip)]
    pub rule: &'a MessageRule,
    /// Whose rule that is.
    #[serde(skip)]
    pub dialect: &'a Dialect,
}

impl Event<'_> {
    /// Whether it is for one user.
    pub const fn is_private(&self) -> bool {
        matches!(self.recipient, Some(Recipient::Uid(_)))
    }

    /// What happens by it, to users and rooms.
    pub const fn does(&self) -> Option<Act> {
        self.rule.does
    }
}

/// Names and values, in the order of the names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields<'a>(pub Vec<(&'a str, Value<'a>)>);

impl<'a> Fields<'a> {
    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(called, _)| *called == name).map(|(_, value)| value)
    }

    /// The text of a field, where that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Somebody in a chat.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct User<'a> {
    /// What the chat calls them, where the message tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// What they call themselves, where the message tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
}

impl User<'_> {
    /// Whether anything is known of them.
    pub const fn is_somebody(&self) -> bool {
        self.uid.is_some() || self.name.is_some()
    }
}

/// What a chat calls somebody. Digits are a number, in quotes or not, so that both ends' notations are equal; but not
/// with a leading zero, nor in quotes beyond 2^53, where a number may not be the same to all who read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(untagged)]
pub enum Uid {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(Box<str>),
}

impl Uid {
    /// Whether a string is a uid: it is neither empty nor longer than [`UID_BYTES_MAX`].
    pub const fn is_text(text: &str) -> bool {
        !text.is_empty() && text.len() <= UID_BYTES_MAX
    }

    /// The uid that a string is.
    pub fn from_text(text: &str) -> Option<Self> {
        if !Self::is_text(text) {
            return None;
        }
        let is_number =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        match text.parse() {
            Ok(number) if is_number && number <= EXACT_NUMBER_MAX => Some(Self::Number(number)),
            _ => Some(Self::Text(text.into())),
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// For whom something is said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// Everyone who is logged in.
    All,
    /// One user.
    #[serde(untagged)]
    Uid(Uid),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_where_that_loses_nothing() {
        assert_eq!(Uid::from_text("783654164"), Some(Uid::Number(783_654_164)));
        assert_eq!(Uid::from_text("0"), Some(Uid::Number(0)));
        assert_eq!(Uid::from_text("9007199254740992"), Some(Uid::Number(1 << 53)));
        // The ids of workerman-chat since 2015-11 are 20 hexadecimal digits, which may all be decimal ones.
        for text in
            ["9007199254740993", "00000000000000000007", "10001270000108fc0001", "01", "+7", "-7", "7.0"]
        {
            assert_eq!(Uid::from_text(text), Some(Uid::Text(text.into())), "{text}");
        }
    }

    #[test]
    fn what_is_empty_or_long_is_no_uid() {
        assert_eq!(Uid::from_text(""), None);
        assert!(Uid::from_text(&"x".repeat(UID_BYTES_MAX)).is_some());
        assert_eq!(Uid::from_text(&"x".repeat(UID_BYTES_MAX + 1)), None);
    }
}

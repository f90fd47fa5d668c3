//! What a chat message means.
//!
//! Owns the shape of a chat event and the dialect that is read into it: one JSON object a message, its `type` being
//! `login`, `say`, `logout`, `user_list`, `ping`, `pong` or `error`. Must not know frames, connections or output.
//! Bounded: an event is built of one message of at most [`MAXIMUM_JSON_BYTES`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use crate::record::Direction;

/// The longest message that is read, in bytes. A longer one has no event; it holds at most some thousand users.
pub const MAXIMUM_JSON_BYTES: usize = 64 << 10;

/// The longest uid that is taken for one, in bytes.
const MAXIMUM_UID_BYTES: usize = 64;

/// A chat message's meaning, whatever the dialect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What happens.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Whom it is about: who logs in or out, who says. A client does not name itself when it says something, and
    /// has no uid when it logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// In which room: where somebody wants to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// For whom something is said.
    #[serde(rename = "to", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
    /// What is said, or an error's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Who is present, for a user list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<User>>,
    /// An error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The time that the message itself tells, as it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// What happens in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody comes, or wants to.
    Login,
    /// Somebody says something.
    Say,
    /// Somebody leaves.
    Logout,
    /// Who is present.
    UserList,
    /// A heartbeat of the chat, not of WebSocket.
    Ping,
    /// The answer to it.
    Pong,
    /// A refusal.
    Error,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Login, Self::Say, Self::Logout, Self::UserList, Self::Ping, Self::Pong, Self::Error];

    /// The name in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Say => "say",
            Self::Logout => "logout",
            Self::UserList => "user_list",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Error => "error",
        }
    }
}

/// Somebody in a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// What the chat calls them, where the message tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// What they call themselves, where the message tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a chat calls somebody. Digits are a number, in quotes or not, so that both ends' notations are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Uid {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(Box<str>),
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// Everyone who is logged in.
    All,
    /// One user.
    #[serde(untagged)]
    Uid(Uid),
}

/// Reads a text message that travels in `direction`. `None` where it is no chat message: not a JSON object, of an
/// unknown type, without what its type needs, or longer than [`MAXIMUM_JSON_BYTES`]. Other keys are ignored.
pub fn parse(direction: Direction, text: &str) -> Option<Event> {
    if text.len() > MAXIMUM_JSON_BYTES || !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    let fields: Fields<'_> = serde_json::from_str(text).ok()?;
    let kind = match fields.kind {
        Scalar::Text(kind) => EventKind::ALL.into_iter().find(|known| known.name() == kind)?,
        _ => return None,
    };
    let mut event = Event {
        kind,
        user: None,
        room: None,
        recipient: None,
        content: None,
        users: None,
        code: None,
        time: None,
    };
    match (kind, direction) {
        (EventKind::Ping | EventKind::Pong, _) => return Some(event),
        (EventKind::Login, Direction::ClientToServer) => {
            event.user = Some(User { uid: None, name: Some(fields.name.text()?) });
            event.room = fields.room_id.uid().map(|room| room.to_string());
        }
        (EventKind::Login | EventKind::Logout, Direction::ServerToClient) => {
            event.user = Some(User { uid: Some(fields.uid.uid()?), name: fields.name.text() });
        }
        (EventKind::Say, _) => {
            event.recipient = Some(fields.to_uid.recipient()?);
            event.content = Some(fields.content.text()?);
            if direction == Direction::ServerToClient {
                event.user = Some(User { uid: Some(fields.from_uid.uid()?), name: fields.from_name.text() });
            }
        }
        (EventKind::UserList, Direction::ServerToClient) => {
            let users = fields.user_list.0?.into_iter();
            event.users =
                Some(users.map(|user| User { uid: user.uid.uid(), name: user.name.text() }).collect());
        }
        (EventKind::Error, Direction::ServerToClient) => {
            event.code = fields.code.text();
            event.content = fields.message.text();
        }
        (EventKind::Logout | EventKind::UserList | EventKind::Error, Direction::ClientToServer) => {
            return None;
        }
    }
    event.time = fields.time.text();
    Some(event)
}

/// The fields of all kinds together.
#[derive(Default, DeriveDeserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Scalar<'a>,
    #[serde(borrow)]
    uid: Scalar<'a>,
    #[serde(borrow)]
    from_uid: Scalar<'a>,
    #[serde(borrow)]
    to_uid: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow, alias = "from_client_name")]
    from_name: Scalar<'a>,
    #[serde(borrow)]
    content: Scalar<'a>,
    #[serde(borrow)]
    message: Scalar<'a>,
    #[serde(borrow)]
    code: Scalar<'a>,
    #[serde(borrow)]
    time: Scalar<'a>,
    #[serde(borrow)]
    room_id: Scalar<'a>,
    #[serde(borrow)]
    user_list: UserList<'a>,
}

#[derive(Default, DeriveDeserialize)]
#[serde(default)]
struct UserFields<'a> {
    #[serde(borrow)]
    uid: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
}

/// A list of users; `None` where it is something else.
#[derive(Default)]
struct UserList<'a>(Option<Vec<UserFields<'a>>>);

/// A string or a whole number; any other JSON is nothing, and no error.
#[derive(Default)]
enum Scalar<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Number(u64),
}

impl Scalar<'_> {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            Self::Number(_) | Self::Nothing => None,
        }
    }

    fn uid(self) -> Option<Uid> {
        match self {
            Self::Number(number) => Some(Uid::Number(number)),
            Self::Text(text) if text.is_empty() || text.len() > MAXIMUM_UID_BYTES => None,
            Self::Text(text) => match text.parse() {
                Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Uid::Number(number)),
                _ => Some(Uid::Text(text.into())),
            },
            Self::Nothing => None,
        }
    }

    fn recipient(self) -> Option<Recipient> {
        match self {
            Self::Text(text) if text == "all" => Some(Recipient::All),
            other => other.uid().map(Recipient::Uid),
        }
    }
}

macro_rules! visit_anything_else {
    ($nothing:expr; $($scalar:ident: $type:ty),*) => {
        $(fn $scalar<E: serde::de::Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok($nothing)
        })*

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($nothing)
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }

            visit_anything_else!(Scalar::Nothing; visit_i64: i64, visit_f64: f64, visit_bool: bool);
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for UserList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = UserList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut users = Vec::new();
                while let Some(user) = list.next_element()? {
                    users.push(user);
                }
                Ok(UserList(Some(users)))
            }

            visit_anything_else!(
                UserList(None);
                visit_str: &str, visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_bool: bool
            );
        }

        deserializer.deserialize_any(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{ClientToServer, ServerToClient};
    use super::*;
    use proptest::prelude::*;

    fn json(direction: Direction, text: &str) -> String {
        parse(direction, text)
            .map_or_else(|| "none".to_owned(), |event| serde_json::to_string(&event).unwrap())
    }

    #[test]
    fn a_clients_login_has_a_name_only() {
        let login = r#"{"type":"login","name":"mynick"}"#;
        assert_eq!(json(ClientToServer, login), r#"{"type":"login","user":{"name":"mynick"}}"#);
    }

    #[test]
    fn a_servers_login_has_uid_name_and_time() {
        let login = r#"{"type":"login","uid":783700053,"name":"mynick","time":"2014-08-12 17:50:30"}"#;
        assert_eq!(
            json(ServerToClient, login),
            r#"{"type":"login","user":{"uid":783700053,"name":"mynick"},"time":"2014-08-12 17:50:30"}"#
        );
        assert_eq!(json(ServerToClient, r#"{"type":"login","name":"mynick"}"#), "none");
    }

    #[test]
    fn a_clients_say_has_a_recipient_and_a_content() {
        let say = r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#;
        assert_eq!(json(ClientToServer, say), r#"{"type":"say","to":"all","content":"hi, all !"}"#);
    }

    #[test]
    fn a_servers_say_names_its_author() {
        let say = r#"{"type":"say","from_uid":783700053,"to_uid":"all","content":"hi","time":"t"}"#;
        assert_eq!(
            json(ServerToClient, say),
            r#"{"type":"say","user":{"uid":783700053},"to":"all","content":"hi","time":"t"}"#
        );
    }

    #[test]
    fn a_uid_is_the_same_in_quotes_and_without() {
        let say =
            |uid: &str| json(ClientToServer, &format!(r#"{{"type":"say","to_uid":{uid},"content":"x"}}"#));
        assert_eq!(say("783654164"), r#"{"type":"say","to":783654164,"content":"x"}"#);
        assert_eq!(say("783654164"), say(r#""783654164""#));
    }

    #[test]
    fn a_uid_may_be_text_and_nothing_else() {
        let say =
            |uid: &str| json(ClientToServer, &format!(r#"{{"type":"say","to_uid":{uid},"content":"x"}}"#));
        assert_eq!(say(r#""7f00-ab""#), r#"{"type":"say","to":"7f00-ab","content":"x"}"#);
        assert_eq!(say(r#""+7""#), r#"{"type":"say","to":"+7","content":"x"}"#);
        for uid in ["null", "1.5", "-1", "[1]", r#"{"a":1}"#, r#""""#, &format!("\"{}\"", "x".repeat(65))] {
            assert_eq!(say(uid), "none", "{uid}");
        }
    }

    #[test]
    fn a_user_list_names_everyone() {
        let list =
            r#"{"type":"user_list","user_list":[{"uid":1,"name":"a"},{"uid":"2","name":"猪","x":[]}]}"#;
        assert_eq!(
            json(ServerToClient, list),
            r#"{"type":"user_list","users":[{"uid":1,"name":"a"},{"uid":2,"name":"猪"}]}"#
        );
        let empty = r#"{"type":"user_list","user_list":[]}"#;
        assert_eq!(json(ServerToClient, empty), r#"{"type":"user_list","users":[]}"#);
        for wrong in ["7", "{}", "null", r#""x""#, "[1]"] {
            let list = format!(r#"{{"type":"user_list","user_list":{wrong}}}"#);
            assert_eq!(json(ServerToClient, &list), "none");
        }
    }

    #[test]
    fn logout_heartbeat_and_error_are_read() {
        assert_eq!(
            json(ServerToClient, r#"{"type":"logout","uid":1,"name":"a","time":"t"}"#),
            r#"{"type":"logout","user":{"uid":1,"name":"a"},"time":"t"}"#
        );
        assert_eq!(json(ServerToClient, r#"{"type":"ping"}"#), r#"{"type":"ping"}"#);
        assert_eq!(json(ClientToServer, r#"{"type":"pong"}"#), r#"{"type":"pong"}"#);
        assert_eq!(
            json(ServerToClient, r#"{"type":"error","code":"bad_json","message":"no"}"#),
            r#"{"type":"error","content":"no","code":"bad_json"}"#
        );
    }

    #[test]
    fn escapes_are_decoded() {
        let event = parse(ClientToServer, r#"{"type":"say","to_uid":"all","content":"\u732a\n"}"#).unwrap();
        assert_eq!(event.content.as_deref(), Some("猪\n"));
    }

    #[test]
    fn unknown_keys_and_white_space_are_ignored() {
        let login = " \n{\"name\":\"a\",\"room\":{\"id\":[1,2,{\"x\":null}]},\"type\":\"login\"} ";
        assert_eq!(json(ClientToServer, login), r#"{"type":"login","user":{"name":"a"}}"#);
    }

    #[test]
    fn other_json_has_no_meaning() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            "null",
            "3",
            r#""login""#,
            r#"["login"]"#,
            r#"{"type":"dance"}"#,
            r#"{"type":3}"#,
            r#"{"type":"say","to_uid":"all"}"#,
            r#"{"type":"login"}"#,
            r#"{"type":"login","name":7}"#,
            r#"{"type":"ping"} trailing"#,
            r#"{"type":"user_list","user_list":[]}"#,
            "hi, all !",
        ] {
            assert_eq!(json(ClientToServer, text), "none", "{text}");
        }
    }

    #[test]
    fn a_message_beyond_the_bound_has_no_meaning() {
        let say = |length: usize| {
            let frame = r#"{"type":"say","to_uid":"all","content":""}"#.len();
            format!(r#"{{"type":"say","to_uid":"all","content":"{}"}}"#, "x".repeat(length - frame))
        };
        assert!(parse(ClientToServer, &say(MAXIMUM_JSON_BYTES)).is_some());
        assert!(parse(ClientToServer, &say(MAXIMUM_JSON_BYTES + 1)).is_none());
    }

    #[test]
    fn deep_nesting_has_no_meaning() {
        let deep = format!(r#"{{"type":"ping","x":{}}}"#, "[".repeat(30_000));
        assert_eq!(parse(ClientToServer, &deep), None);
    }

    #[test]
    fn the_name_of_a_kind_is_its_type_in_json() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }

    proptest! {
        #[test]
        fn any_content_is_kept_exactly(content in "\\PC*") {
            let text = serde_json::json!({"type": "say", "to_uid": 7, "content": content}).to_string();
            let event = parse(ClientToServer, &text).unwrap();
            prop_assert_eq!(event.content, Some(content));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[\\[\\]{}\":,a-z0-9.\\\\ -]{0,60}") {
            parse(ClientToServer, &format!("{{\"type\":{text}"));
            parse(ServerToClient, &text);
        }
    }
}

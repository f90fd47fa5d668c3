//! Owns the chat's JSON: what clients may send, what the server sends, in which order the fields stand.
//!
//! Must not know connections, members or WebSocket frames. Holds nothing; lengths are bounded by the caller, nesting by
//! the JSON parser (128).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whom a say is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipient {
    All,
    User(u32),
}

/// A message of a client, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A login to a room, without a name of a room to the one where everybody is who names none.
    Login {
        name: String,
        room: Option<String>,
    },
    /// With `copy`, what is said to one user also goes to who says it.
    Say {
        to: Recipient,
        content: String,
        copy: bool,
    },
    Pong,
}

/// Why a message of a client is refused. The codes are a part of the protocol: clients may compare them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The fields of all requests together; unknown ones are ignored, so that clients may send more.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: Option<Value>,
    name: Option<Value>,
    room_id: Option<Value>,
    to_uid: Option<Value>,
    content: Option<Value>,
    copy: Option<Value>,
}

impl Request {
    /// Reads the JSON of one message.
    ///
    /// A uid in `to_uid` may be a number or a string of digits, since pages keep it in attributes.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        // A derived reader would also take an array for a struct.
        if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(Refusal::new("bad_json", "a message must be a JSON object"));
        }
        let envelope: Envelope = serde_json::from_slice(json)
            .map_err(|error| Refusal::new("bad_json", format!("a message must be a JSON object: {error}")))?;
        let kind = text(envelope.kind, "type")?;
        match kind.as_str() {
            "login" => {
                Ok(Self::Login { name: text(envelope.name, "name")?, room: room_id(envelope.room_id)? })
            }
            "say" => Ok(Self::Say {
                to: recipient(envelope.to_uid)?,
                content: text(envelope.content, "content")?,
                copy: flag(envelope.copy.as_ref(), "copy")?,
            }),
            "pong" => Ok(Self::Pong),
            _ => Err(Refusal::new("unknown_type", "\"type\" must be \"login\", \"say\" or \"pong\"")),
        }
    }
}

fn text(value: Option<Value>, field: &str) -> Result<String, Refusal> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::new("bad_field", format!("\"{field}\" must be a string"))),
        None => Err(Refusal::new("missing_field", format!("\"{field}\" is missing"))),
    }
}

fn flag(value: Option<&Value>, field: &str) -> Result<bool, Refusal> {
    match value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refusal::new("bad_field", format!("\"{field}\" must be true or false"))),
    }
}

/// A number is the same room as its digits, since pages have it from their address.
fn room_id(value: Option<Value>) -> Result<Option<String>, Refusal> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(Refusal::new("bad_field", "\"room_id\" must be a string or an integer")),
    }
}

fn recipient(value: Option<Value>) -> Result<Recipient, Refusal> {
    let uid = match value {
        None => return Err(Refusal::new("missing_field", "\"to_uid\" is missing")),
        Some(Value::String(text)) if text == "all" => return Ok(Recipient::All),
        Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_u64(),
        Some(_) => None,
    };
    match uid {
        // Zero is nobody's uid, nor is one beyond 32 bits: the look-up answers for both.
        Some(uid) => Ok(Recipient::User(u32::try_from(uid).unwrap_or(0))),
        None => Err(Refusal::new("bad_field", "\"to_uid\" must be \"all\" or a uid")),
    }
}

/// One entry of the user list.
#[derive(Debug, Serialize)]
pub(crate) struct User<'a> {
    pub(crate) uid: u32,
    pub(crate) name: &'a str,
}

/// A message of the server. The fields stand in the order in which they are sent.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Reply<'a> {
    Ping,
    UserList { user_list: Vec<User<'a>> },
    Login { uid: u32, name: &'a str, time: &'a str },
    Say { from_uid: u32, to_uid: Addressee, content: &'a str, time: &'a str },
    Logout { uid: u32, name: &'a str, time: &'a str },
    Error { code: &'a str, message: &'a str },
}

/// `"all"`, or a uid as a number.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Addressee {
    All(&'static str),
    User(u32),
}

impl From<Recipient> for Addressee {
    fn from(recipient: Recipient) -> Self {
        match recipient {
            Recipient::All => Self::All("all"),
            Recipient::User(uid) => Self::User(uid),
        }
    }
}

impl Reply<'_> {
    /// The JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Strings and integers under constant keys always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(json: &str) -> &'static str {
        Request::parse(json.as_bytes()).unwrap_err().code
    }

    #[test]
    fn the_manuals_messages_are_understood() {
        assert_eq!(
            Request::parse(br#"{"type":"login","name":"mynick"}"#),
            Ok(Request::Login { name: "mynick".into(), room: None })
        );
        assert_eq!(
            Request::parse(br#"{"type":"say","to_uid":"all","content":"hi, all !"}"#),
            Ok(Request::Say { to: Recipient::All, content: "hi, all !".into(), copy: false })
        );
        assert_eq!(Request::parse(b" \n{\"type\":\"pong\",\"more\":[1]}"), Ok(Request::Pong));
    }

    #[test]
    fn a_uid_may_be_a_number_or_a_string_of_digits() {
        for to_uid in ["783654164", "\"783654164\""] {
            let json = format!(r#"{{"type":"say","to_uid":{to_uid},"content":"x"}}"#);
            assert_eq!(
                Request::parse(json.as_bytes()),
                Ok(Request::Say { to: Recipient::User(783_654_164), content: "x".into(), copy: false })
            );
        }
        for to_uid in ["-1", "1.5", "\"\"", "\"ALL\"", "\"+1\"", "[1]", "true", "\"99999999999999999999999\""]
        {
            assert_eq!(
                code(&format!(r#"{{"type":"say","to_uid":{to_uid},"content":"x"}}"#)),
                "bad_field",
                "{to_uid}"
            );
        }
    }

    #[test]
    fn a_room_is_a_string_or_an_integer_and_the_two_are_one() {
        let room = |room_id: &str| {
            let json = format!(r#"{{"type":"login","name":"x","room_id":{room_id}}}"#);
            Request::parse(json.as_bytes())
        };
        for (room_id, expected) in [
            ("1", Some("1")),
            ("\"1\"", Some("1")),
            ("-7", Some("-7")),
            ("\"猪\"", Some("猪")),
            ("null", None),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(room(room_id), Ok(Request::Login { name: "x".into(), room: expected }), "{room_id}");
        }
        for room_id in ["1.5", "1e3", "true", "[1]", "{}"] {
            assert_eq!(room(room_id).unwrap_err().code, "bad_field", "{room_id}");
        }
    }

    #[test]
    fn a_copy_is_asked_for_with_true() {
        let copy = |copy: &str| {
            let json = format!(r#"{{"type":"say","to_uid":2,"content":"x","copy":{copy}}}"#);
            Request::parse(json.as_bytes())
        };
        for (text, copies) in [("true", true), ("false", false), ("null", false)] {
            let say = Request::Say { to: Recipient::User(2), content: "x".into(), copy: copies };
            assert_eq!(copy(text), Ok(say));
        }
        assert_eq!(copy("1").unwrap_err().code, "bad_field");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(code(""), "bad_json");
        assert_eq!(code("{\"type\":"), "bad_json");
        assert_eq!(code(r#"["login","x",null,null]"#), "bad_json");
        assert_eq!(code(r#"{"type":"login","type":"say"}"#), "bad_json");
        assert_eq!(code(&format!("{{\"x\":{}", "[".repeat(60_000))), "bad_json");
        assert_eq!(code(r#"{"type":"login","name":"\ud83d"}"#), "bad_json");
        assert_eq!(code(r#"{"name":"x"}"#), "missing_field");
        assert_eq!(code(r#"{"type":7}"#), "bad_field");
        assert_eq!(code(r#"{"type":"login"}"#), "missing_field");
        assert_eq!(code(r#"{"type":"login","name":null}"#), "missing_field");
        assert_eq!(code(r#"{"type":"login","name":["x"]}"#), "bad_field");
        assert_eq!(code(r#"{"type":"say","content":"x"}"#), "missing_field");
        assert_eq!(code(r#"{"type":"say","to_uid":"all"}"#), "missing_field");
        assert_eq!(code(r#"{"type":"ping"}"#), "unknown_type");
        assert_eq!(Request::parse(b"{\"type\":\"\xff\"}").unwrap_err().code, "bad_json");
    }

    #[test]
    fn the_replies_have_the_manuals_form_to_the_letter() {
        let replies = [
            (Reply::Ping, r#"{"type":"ping"}"#),
            (
                Reply::UserList {
                    user_list: vec![
                        User { uid: 783_654_164, name: "…" },
                        User { uid: 783_700_053, name: "mynick" },
                    ],
                },
                r#"{"type":"user_list","user_list":[{"uid":783654164,"name":"…"},{"uid":783700053,"name":"mynick"}]}"#,
            ),
            (
                Reply::Login { uid: 783_700_053, name: "mynick", time: "2014-08-12 17:50:30" },
                r#"{"type":"login","uid":783700053,"name":"mynick","time":"2014-08-12 17:50:30"}"#,
            ),
            (
                Reply::Say {
                    from_uid: 783_700_053,
                    to_uid: Recipient::All.into(),
                    content: "<b>",
                    time: "t",
                },
                r#"{"type":"say","from_uid":783700053,"to_uid":"all","content":"<b>","time":"t"}"#,
            ),
            (
                Reply::Say { from_uid: 1, to_uid: Recipient::User(2).into(), content: "", time: "t" },
                r#"{"type":"say","from_uid":1,"to_uid":2,"content":"","time":"t"}"#,
            ),
            (
                Reply::Logout { uid: 1, name: "猪", time: "t" },
                r#"{"type":"logout","uid":1,"name":"猪","time":"t"}"#,
            ),
            (Reply::Error { code: "c", message: "m" }, r#"{"type":"error","code":"c","message":"m"}"#),
        ];
        for (reply, json) in replies {
            assert_eq!(String::from_utf8(reply.to_json()).unwrap(), json);
        }
    }
}

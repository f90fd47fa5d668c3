//! From the text of a rule file to a dialect.
//!
//! Owns the language: its keys, what they may hold, and what is said of anything else. docs/flows.md and
//! docs/flows.schema.json describe it, and a test compares. Must not know files, nor how messages are read. Bounded:
//! [`RULES_BYTES_MAX`] and the constants below it.

mod flows;
mod keys;
mod through;

use toml::de::{DeTable, DeValue};

pub use self::keys::RuleError;
use self::keys::{Entry, Keys, Source};
use super::dialect::{Act, Dialect, Field, MessageRule, Places, Scalar, Users};
use super::pointer::Pointer;
use super::tree::Asked;
use crate::record::Direction;

/// The longest rule file, in bytes.
pub const RULES_BYTES_MAX: usize = 256 << 10;

/// The version of the language.
const SCHEMA: &str = "1";

/// Messages of one file.
const MESSAGES_MAX: usize = 64;
/// Pointers in `has`, in `lacks`, in `when`; values for one of these; fields.
const ENTRIES_MAX: usize = 16;
/// A name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Any other string, in bytes.
const STRING_BYTES_MAX: usize = 256;

const FILE_KEYS: &[&str] = &[
    "schema",
    "name",
    "title",
    "read",
    "members",
    "message",
    "flow",
    "never",
    "unsolicited",
    "order",
    "close",
];
const READ_KEYS: &[&str] = &["opcodes", "strip_prefix"];
const MESSAGE_KEYS: &[&str] = &[
    "type", "from", "does", "own", "when", "has", "lacks", "uid", "name", "room", "to", "everyone",
    "content", "code", "time", "users", "fields", "through",
];
const MEMBERS_KEYS: &[&str] = &["join"];
const USERS_KEYS: &[&str] = &["list", "map", "uid", "name"];

const DIRECTIONS: [(&str, Direction); 2] =
    [("client", Direction::ClientToServer), ("server", Direction::ServerToClient)];
/// What makes somebody a member, and whether that is connecting.
const JOINING: [(&str, bool); 2] = [("message", false), ("connection", true)];
const OPCODES: [(&str, usize); 2] = [("text", 0), ("binary", 1)];

/// Reads a rule file. A byte order mark and line ends of either kind are fine.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(text: &str) -> Result<Dialect, RuleError> {
    let source = Source(text);
    if text.len() > RULES_BYTES_MAX {
        return Err(source.error(0, "", format!("a rule file has at most {RULES_BYTES_MAX} bytes")));
    }
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or_default();
        let what = match error.message() {
            message @ "duplicate key" => format!("{message} `{}`", text.get(at.clone()).unwrap_or_default()),
            message => message.to_owned(),
        };
        source.error(at.start, "", format!("this is not TOML: {what}"))
    })?;
    let file = Keys::new(source, String::new(), 0, document.get_ref(), FILE_KEYS)?;
    let schema = file.need("schema", "`schema = 1` says which version of the language the file is in")?;
    match schema.value() {
        DeValue::Integer(number) if number.as_str() == SCHEMA && number.radix() == 10 => {}
        DeValue::Integer(number) => {
            let problem =
                format!("is {number}, and this observer knows {SCHEMA} only; a newer one may know more");
            return Err(schema.error(problem));
        }
        _ => return Err(schema.wrong_type("a whole number")),
    }
    let name = name(&file.need("name", "what do you call this dialect?")?)?;
    let title = match file.get("title") {
        Some(title) => title.string(STRING_BYTES_MAX)?,
        None => name,
    };
    let (opcodes, prefix) = match file.get("read") {
        Some(read) => how_to_read(&read.keys(READ_KEYS, "a table: [read]")?)?,
        None => ([true, false], ""),
    };
    let connecting_joins = match file.get("members") {
        Some(members) => joining(&members.keys(MEMBERS_KEYS, "a table: [members]")?)?,
        None => false,
    };
    let entries = file.need("message", "at least one [[message]] says how to read something")?;
    let entries = entries.list(MESSAGES_MAX, "a list of tables: [[message]]")?;
    let client_fields = client_fields(&entries);
    let mut messages: Vec<MessageRule> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let keys = entry.keys_at(place(number, entry), MESSAGE_KEYS, "a list of tables: [[message]]")?;
        let rule = message(&keys, &client_fields)?;
        if let Some(earlier) = messages.iter().position(|earlier| takes_all_of(earlier, &rule)) {
            let problem = format!(
                "message {} takes all that this one would: change `when`, or leave it out",
                earlier + 1
            );
            return Err(keys.error(problem));
        }
        messages.push(rule);
    }
    let flows = flows::flows(&file, &messages, connecting_joins)?;
    Ok(Dialect {
        name: name.into(),
        title: title.into(),
        opcodes,
        prefix: prefix.into(),
        messages,
        connecting_joins,
        flows,
    })
}

/// Which one of a list of tables it is, for errors.
fn numbered(key: &str, number: usize, called: Option<&str>) -> String {
    let called = called.map_or_else(String::new, |called| format!(" `{called}`"));
    format!("{key} {}{called}", number + 1)
}

/// Which message it is, for errors.
fn place(number: usize, entry: &Entry<'_>) -> String {
    let from = entry.said("from").map_or_else(String::new, |from| format!(" from the {from}"));
    numbered("message", number, entry.said("type")) + &from
}

/// The names of all `fields` of what clients send.
fn client_fields<'t>(messages: &[Entry<'t>]) -> Vec<&'t str> {
    let of_client = messages.iter().filter(|message| message.said("from") != Some("server"));
    let fields = of_client.filter_map(|message| message.value().get("fields")?.get_ref().as_table());
    fields.flat_map(DeTable::keys).map(|name| &**name.get_ref()).collect()
}

fn joining(members: &Keys<'_>) -> Result<bool, RuleError> {
    members.get("join").map_or(Ok(false), |join| join.one_of(&JOINING))
}

fn how_to_read<'t>(read: &Keys<'t>) -> Result<([bool; 2], &'t str), RuleError> {
    let mut opcodes = [true, false];
    if let Some(list) = read.get("opcodes") {
        opcodes = [false; 2];
        for opcode in list.one_or_more(OPCODES.len())? {
            if let Some(is_read) = opcodes.get_mut(opcode.one_of(&OPCODES)?) {
                *is_read = true;
            }
        }
    }
    let prefix = read.get("strip_prefix").map(|prefix| prefix.string(NAME_BYTES_MAX)).transpose()?;
    Ok((opcodes, prefix.unwrap_or_default()))
}

fn message(keys: &Keys<'_>, client_fields: &[&str]) -> Result<MessageRule, RuleError> {
    let kind = name(&keys.need("type", "what is a message like this called?")?)?;
    let from = keys.get("from").map(|from| from.one_of(&DIRECTIONS)).transpose()?;
    let acts = Act::ALL.map(|act| (act.name(), act));
    let does = match keys.get("does") {
        Some(entry) => {
            let does = entry.one_of(&acts)?;
            if from == Some(Direction::ClientToServer) && matches!(does, Act::List | Act::Refuse) {
                let problem = format!("is \"{}\", which only a server's message does", does.name());
                return Err(entry.error(problem));
            }
            Some(does)
        }
        None => None,
    };
    let own = match keys.get("own") {
        Some(own) if from != Some(Direction::ServerToClient) => {
            return Err(own.error("tells to whom a server sends this: it needs from = \"server\""));
        }
        own => own.map(|own| own.boolean()).transpose()?,
    };
    let [name_through, content_through] = through::through(keys, from, client_fields)?;
    let places = places(keys)?;
    let lacking = match does {
        Some(Act::Join) if places.name.is_none() && places.uid.is_none() => {
            Some("`name` or `uid`: who joins?")
        }
        Some(Act::Leave) if from == Some(Direction::ServerToClient) && places.uid.is_none() => {
            Some("`uid`: who leaves?")
        }
        Some(Act::Say) if places.content.is_none() => Some("`content`: what is said?"),
        Some(Act::List) if places.users.is_none() => Some("`users`: who is present?"),
        Some(Act::Subscribe | Act::Unsubscribe) if places.room.is_none() => Some("`room`: which one?"),
        _ => None,
    };
    if let (Some(lacking), Some(does)) = (lacking, does) {
        return Err(keys.error(format!("a message that does \"{}\" needs {lacking}", does.name())));
    }
    Ok(MessageRule { kind: kind.into(), from, does, own, name_through, content_through, places })
}

fn places(keys: &Keys<'_>) -> Result<Places<Pointer>, RuleError> {
    let mut when = Vec::new();
    if let Some(entry) = keys.get("when") {
        for (at, values) in entry.any_keys(ENTRIES_MAX, "a table of pointers and values")?.entries() {
            let at =
                Pointer::parse(at).map_err(|why| values.error(format_args!("is no pointer: it {why}")))?;
            let values = values.one_or_more(ENTRIES_MAX)?;
            when.push((at, values.iter().map(scalar).collect::<Result<Vec<_>, _>>()?));
        }
    }
    let pointers = |key: &'static str| match keys.get(key) {
        Some(entry) => entry.one_or_more(ENTRIES_MAX)?.iter().map(pointer).collect(),
        None => Ok(Vec::new()),
    };
    let (has, lacks): (Vec<Pointer>, Vec<Pointer>) = (pointers("has")?, pointers("lacks")?);
    if let Some(both) = lacks.iter().find(|at| has.contains(at)) {
        return Err(keys.error(format!("`has` and `lacks` both name \"{both}\": nothing would ever fit")));
    }
    if when.is_empty() && has.is_empty() {
        return Err(keys.error("needs `when` or `has`, or it would take every message"));
    }
    let needing = |at: Pointer| Field { needed: has.contains(&at), at };
    let field = |key: &'static str| keys.get(key).map(|entry| pointer(&entry).map(needing)).transpose();
    let to = field("to")?;
    let everyone = match keys.get("everyone") {
        Some(everyone) if to.is_none() => {
            return Err(everyone.error("tells what `to` says where all are meant, and there is no `to`"));
        }
        everyone => everyone.as_ref().map(scalar).transpose()?,
    };
    let users = keys.get("users").map(|entry| users(&entry, &has)).transpose()?;
    let mut fields = Vec::new();
    if let Some(entry) = keys.get("fields") {
        for (called, at) in entry.any_keys(ENTRIES_MAX, "a table of names and pointers")?.entries() {
            check_name(called).map_err(|why| at.error(why))?;
            fields.push((called.into(), pointer(&at)?));
        }
    }
    let places = Places {
        uid: field("uid")?,
        name: field("name")?,
        room: field("room")?,
        to,
        everyone,
        content: field("content")?,
        code: field("code")?,
        time: field("time")?,
        when,
        has,
        lacks,
        users,
        fields,
    };
    let mut asked = Asked::default();
    places.ask(&mut asked);
    if !asked.is_walkable() {
        return Err(
            keys.error("`users` reads a list of which another pointer wants a part: that is not possible")
        );
    }
    Ok(places)
}

fn users(entry: &Entry<'_>, has: &[Pointer]) -> Result<Users<Pointer>, RuleError> {
    let keys = entry.keys(USERS_KEYS, "a table, with `list` or `map`")?;
    let (at, is_map) = match (keys.get("list"), keys.get("map")) {
        (Some(list), None) => (pointer(&list)?, false),
        (None, Some(map)) => (pointer(&map)?, true),
        _ => return Err(entry.error("needs either `list` (of users) or `map` (an object from uid to user)")),
    };
    let part = |key: &'static str| keys.get(key).map(|entry| pointer(&entry)).transpose();
    let (uid, mut name) = (part("uid")?, part("name")?);
    if is_map {
        if uid.is_some() {
            return Err(entry.error("has `map`, whose keys are the uids: leave `uid` out"));
        }
        // The value itself.
        name.get_or_insert_default();
    } else if uid.is_none() && name.is_none() {
        return Err(
            entry.error("needs `uid` or `name`: where in each element are they? \"\" is the element itself")
        );
    }
    Ok(Users { at: Field { needed: has.contains(&at), at }, rows: None, is_map, uid, name })
}

fn pointer(entry: &Entry<'_>) -> Result<Pointer, RuleError> {
    let text =
        entry.value().as_str().ok_or_else(|| entry.wrong_type("a JSON pointer, such as \"/data/name\""))?;
    Pointer::parse(text).map_err(|why| entry.error(format_args!("is the pointer \"{text}\", which {why}")))
}

fn scalar(entry: &Entry<'_>) -> Result<Scalar, RuleError> {
    let expected = "a string, a whole number, or true or false";
    match entry.value() {
        // An empty string is a value like any other.
        DeValue::String(text) if text.len() <= STRING_BYTES_MAX => Ok(Scalar::Text((&**text).into())),
        DeValue::String(_) => Err(entry.error(format_args!("is longer than {STRING_BYTES_MAX} bytes"))),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(Scalar::Number(number)),
            Err(_) => Err(entry.error(format_args!("is {number}, which is too large"))),
        },
        DeValue::Boolean(value) => Ok(Scalar::Bool(*value)),
        _ => Err(entry.wrong_type(expected)),
    }
}

fn name<'t>(entry: &Entry<'t>) -> Result<&'t str, RuleError> {
    let name = entry.string(NAME_BYTES_MAX)?;
    check_name(name).map_err(|why| entry.error(why))?;
    Ok(name)
}

/// Names go into command lines and labels.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err("has to be a name: 1 to 64 letters (a to z), digits, and `_-.:/`");
    }
    Ok(())
}

/// Whether whatever a rule takes an earlier one takes before it.
fn takes_all_of(earlier: &MessageRule, rule: &MessageRule) -> bool {
    fn needs(places: &Places<Pointer>) -> impl PartialEq {
        let needed = |field: &Option<Field<Pointer>>| {
            field.as_ref().filter(|field| field.needed).map(|field| field.at.clone())
        };
        let fields = [
            &places.uid,
            &places.name,
            &places.room,
            &places.to,
            &places.content,
            &places.code,
            &places.time,
        ];
        let users = places.users.clone().filter(|users| users.at.needed);
        (fields.map(needed), users)
    }
    let (one, other) = (&earlier.places, &rule.places);
    (earlier.from.is_none() || earlier.from == rule.from)
        && one.when == other.when
        && one.has == other.has
        && one.lacks == other.lacks
        && needs(one) == needs(other)
}

#[cfg(test)]
mod tests;

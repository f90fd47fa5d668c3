//! The dialects of a run together, and how a message is read by them.
//!
//! Owns the order in which dialects and rules are asked. Must not know TOML, nor which chat a message belongs to. Bounded:
//! [`DIALECTS_MAX`] dialects; a message is walked once for each of their prefixes that it has.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};

use super::MAXIMUM_JSON_BYTES;
use super::dialect::{Dialect, Field, MessageRule, Places, Users};
use super::event::{Event, Fields, Recipient, Uid, User};
use super::tree::{Asked, Slot, Tree, Value, Values, in_slot};
use crate::record::Direction;
use crate::websocket::frame::Opcode;

/// Dialects of one run.
pub const DIALECTS_MAX: usize = 32;

const BUILT_IN: [&str; 3] = [
    include_str!("built_in/workerman-chat-2015-11.toml"),
    include_str!("built_in/workerman-chat-2014-09.toml"),
    include_str!("built_in/workerman-chat-2014-08.toml"),
];

/// Rules that a message can be read by.
#[derive(Debug)]
pub struct Rules {
    dialects: Vec<Dialect>,
    /// How many of them did not come with the observer: the first ones.
    given: usize,
    groups: Vec<Group>,
}

/// Dialects whose messages are walked together.
#[derive(Debug)]
struct Group {
    tree: Tree,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    dialect: usize,
    /// As [`Dialect::messages`].
    places: Vec<Places<Slot>>,
}

/// Some of the dialects of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectSet(u32);

impl DialectSet {
    /// All of them.
    pub const ALL: Self = Self(u32::MAX);
    const NONE: Self = Self(0);

    pub(super) const fn one(dialect: usize) -> Self {
        Self(1 << dialect)
    }

    const fn has(self, dialect: usize) -> bool {
        self.0 & Self::one(dialect).0 != 0
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// What it means, by the first dialect that reads it.
    pub event: Event<'a>,
    /// Which dialects read it: those that were asked first, or, where none of these does, others.
    pub by: DialectSet,
}

impl Rules {
    /// The dialects that come with the observer.
    pub fn built_in() -> Arc<Self> {
        static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::new(Vec::new())));
        Arc::clone(&RULES)
    }

    /// These dialects, in this order, and behind them those of [`Rules::built_in`] that are called otherwise. Of more
    /// than [`DIALECTS_MAX`] the last ones are left out.
    pub fn new(mut dialects: Vec<Dialect>) -> Self {
        let given = dialects.len().min(DIALECTS_MAX);
        for text in BUILT_IN {
            // A test reads them all.
            dialects.extend(
                super::parse(text)
                    .ok()
                    .filter(|built_in| dialects.iter().all(|dialect| dialect.name != built_in.name)),
            );
        }
        dialects.truncate(DIALECTS_MAX);
        let mut groups: Vec<(Asked, Vec<Member>)> = Vec::new();
        for (number, dialect) in dialects.iter().enumerate() {
            let mut joins = |(asked, members): &mut (Asked, Vec<Member>)| {
                let prefix_of = |member: &Member| dialects.get(member.dialect).map(|dialect| &dialect.prefix);
                let mut all_asked = asked.clone();
                let places = dialect.messages.iter().map(|rule| rule.places.ask(&mut all_asked)).collect();
                // What one dialect reads row by row another may point into.
                let fits = members
                    .first()
                    .is_none_or(|first| prefix_of(first) == Some(&dialect.prefix) && all_asked.is_walkable());
                if fits {
                    *asked = all_asked;
                    members.push(Member { dialect: number, places });
                }
                fits
            };
            if !groups.iter_mut().any(&mut joins) {
                let mut group = (Asked::default(), Vec::new());
                joins(&mut group);
                groups.push(group);
            }
        }
        let groups =
            groups.into_iter().map(|(asked, members)| Group { tree: asked.tree(), members }).collect();
        Self { dialects, given, groups }
    }

    /// The dialects, in the order in which they are asked.
    pub fn dialects(&self) -> &[Dialect] {
        &self.dialects
    }

    /// Those of them that did not come with the observer.
    pub fn given(&self) -> &[Dialect] {
        self.dialects.get(..self.given).unwrap_or_default()
    }

    /// Every type that a message may be of.
    pub fn types(&self) -> BTreeSet<&str> {
        self.dialects.iter().flat_map(|dialect| &dialect.messages).map(|rule| &*rule.kind).collect()
    }

    /// Reads a message that travels in `direction`. `None` where no rule takes it, it is not JSON, or longer than
    /// [`MAXIMUM_JSON_BYTES`].
    ///
    /// The dialects of `first` are asked first, the others where none of these reads it; where one is enough,
    /// `asks_all` is false.
    pub fn read<'a>(
        &'a self,
        first: DialectSet,
        asks_all: bool,
        direction: Direction,
        opcode: Opcode,
        text: &'a str,
    ) -> Option<Reading<'a>> {
        if text.len() > MAXIMUM_JSON_BYTES {
            return None;
        }
        let mut best: Option<(bool, usize, Event<'a>)> = None;
        let (mut by_first, mut by_others) = (DialectSet::NONE, DialectSet::NONE);
        for group in &self.groups {
            let mut dialects = group.members.iter().filter_map(|member| self.dialect_of(member));
            let Some(takes_it) = dialects.find(|dialect| dialect.takes(opcode)) else { continue };
            let Some(values) = json_behind(&takes_it.prefix, text).and_then(|json| group.tree.walk(json))
            else {
                continue;
            };
            for is_other in [false, true] {
                if is_other && !by_first.is_empty() {
                    break;
                }
                let by = if is_other { &mut by_others } else { &mut by_first };
                let asked = group.members.iter().filter(|member| first.has(member.dialect) != is_other);
                for member in asked {
                    let Some(dialect) = self.dialect_of(member).filter(|dialect| dialect.takes(opcode))
                    else {
                        continue;
                    };
                    let Some((rule, places)) = find(dialect, member, direction, &values) else { continue };
                    *by = by.with(DialectSet::one(member.dialect));
                    let rank = (is_other, member.dialect);
                    if best.as_ref().is_none_or(|(is_other, dialect, _)| rank < (*is_other, *dialect)) {
                        best = Some((is_other, member.dialect, event(dialect, rule, places, &values)));
                    }
                    if !asks_all {
                        break;
                    }
                }
            }
        }
        let by = if by_first.is_empty() { by_others } else { by_first };
        best.map(|(_, _, event)| Reading { event, by })
    }

    fn dialect_of(&self, member: &Member) -> Option<&Dialect> {
        self.dialects.get(member.dialect)
    }
}

/// What is behind a prefix, where it may be JSON that has parts.
fn json_behind<'a>(prefix: &str, text: &'a str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?;
    rest.trim_ascii_start().starts_with(['{', '[']).then_some(rest)
}

/// The first rule of a dialect that takes a message.
fn find<'a>(
    dialect: &'a Dialect,
    member: &'a Member,
    direction: Direction,
    values: &Values<'_, '_>,
) -> Option<(&'a MessageRule, &'a Places<Slot>)> {
    dialect
        .messages
        .iter()
        .zip(&member.places)
        .find(|(rule, places)| rule.goes(direction) && takes(places, values))
}

fn takes(places: &Places<Slot>, values: &Values<'_, '_>) -> bool {
    let is_one_of = |(at, of): &(Slot, Vec<_>)| {
        let value = values.at(*at);
        of.iter().any(|scalar: &super::dialect::Scalar| scalar.is(value))
    };
    let fits = |field: &Option<Field<Slot>>, takes: fn(&Value<'_>) -> bool| {
        field.as_ref().is_none_or(|field| !field.needed || takes(values.at(field.at)))
    };
    places.when.iter().all(is_one_of)
        && places.has.iter().all(|at| values.at(*at).is_there())
        && !places.lacks.iter().any(|at| values.at(*at).is_there())
        && [&places.uid, &places.to, &places.room].iter().all(|field| fits(field, is_uid))
        && [&places.name, &places.content].iter().all(|field| fits(field, is_text))
        && [&places.code, &places.time].iter().all(|field| fits(field, is_written))
        && places.users.as_ref().is_none_or(|users| !users.at.needed || is_list(users, values))
}

fn is_list(users: &Users<Slot>, values: &Values<'_, '_>) -> bool {
    match values.at(users.at.at) {
        Value::List if !users.is_map => {}
        Value::Object if users.is_map => {}
        _ => return false,
    }
    // Elements that are nobody make it a list of something else.
    users.rows.is_some_and(|rows| values.rows(rows).all(|row| is_somebody(users, row)))
}

fn is_somebody(users: &Users<Slot>, row: &[Value<'_>]) -> bool {
    users.uid.is_some_and(|at| is_uid(in_slot(row, at)))
        || users.name.is_some_and(|at| is_text(in_slot(row, at)))
}

fn user<'a>(users: &Users<Slot>, row: &[Value<'a>]) -> User<'a> {
    User {
        uid: users.uid.and_then(|at| uid(in_slot(row, at))),
        name: users.name.and_then(|at| text(in_slot(row, at))),
    }
}

fn event<'a>(
    dialect: &'a Dialect,
    rule: &'a MessageRule,
    places: &'a Places<Slot>,
    values: &Values<'_, 'a>,
) -> Event<'a> {
    let value = |field: &Option<Field<Slot>>| field.as_ref().map(|field| values.at(field.at));
    let user = User { uid: value(&places.uid).and_then(uid), name: value(&places.name).and_then(text) };
    let recipient = value(&places.to).and_then(|to| {
        let is_everyone = places.everyone.as_ref().is_some_and(|everyone| everyone.is(to));
        if is_everyone { Some(Recipient::All) } else { uid(to).map(Recipient::Uid) }
    });
    let fields = places.fields.iter().map(|(name, at)| (&**name, values.at(*at)));
    Event {
        kind: &rule.kind,
        user: user.is_somebody().then_some(user),
        room: value(&places.room).and_then(room),
        recipient,
        content: value(&places.content).and_then(text),
        users: places.users.as_ref().and_then(|users| all_users(users, values)),
        code: value(&places.code).and_then(written),
        time: value(&places.time).and_then(written),
        fields: Fields(
            fields
                .filter(|(_, value)| value.is_scalar())
                .map(|(name, value)| (name, value.clone()))
                .collect(),
        ),
        rule,
        dialect,
    }
}

/// Everybody on a list; of a key that stands twice in an object the last one.
fn all_users<'a>(users: &Users<Slot>, values: &Values<'_, 'a>) -> Option<Vec<User<'a>>> {
    if !is_list(users, values) {
        return None;
    }
    let mut all: Vec<_> = values.rows(users.rows?).map(|row| user(users, row)).collect();
    if !users.is_map {
        return Some(all);
    }
    let mut seen = HashSet::new();
    all.reverse();
    all.retain(|user| user.uid.as_ref().is_none_or(|uid| seen.insert(uid.clone())));
    all.reverse();
    Some(all)
}

const fn is_text(value: &Value<'_>) -> bool {
    matches!(value, Value::Text(_))
}

const fn is_written(value: &Value<'_>) -> bool {
    matches!(value, Value::Text(_) | Value::Number(_) | Value::Negative(_))
}

fn is_uid(value: &Value<'_>) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Text(text) => Uid::is_text(text),
        _ => false,
    }
}

fn text<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// A string, or a whole number as it is written.
fn written<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Negative(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

fn uid(value: &Value<'_>) -> Option<Uid> {
    match value {
        Value::Number(number) => Some(Uid::Number(*number)),
        Value::Text(text) => Uid::from_text(text),
        _ => None,
    }
}

/// Room 7 and room "7" are the same.
fn room<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    if is_uid(value) { written(value) } else { None }
}

#[cfg(test)]
mod tests;

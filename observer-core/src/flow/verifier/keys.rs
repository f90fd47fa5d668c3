//! What tells expected messages apart: equal keys, equal in all parts that have to be the same.
//!
//! Owns how a key is made of what began a flow, and of a message that may be expected by it. Must not know cases.
//! Bounded: as many keys as there are ways in which the rules let a server pass the words on.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};

use crate::flow::dialect::{Dialect, MessageRule};
use crate::flow::flows::{Expectation, Part};
use crate::flow::{Chat, Event, Uid, Value};
use crate::record::{ConnectionId, Direction};

/// Makes keys, with a secret of this run's: nobody can choose words whose keys are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(RandomState);

/// Which expectation a key is of.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Place {
    pub(super) chat: Chat,
    pub(super) dialect: usize,
    pub(super) flow: usize,
    pub(super) expectation: usize,
    /// Where only one connection can fulfil it.
    pub(super) connection: Option<ConnectionId>,
}

/// A key of a message, with what it may fulfil.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) key: u64,
    pub(super) flow: usize,
    pub(super) expectation: usize,
    /// Whether it leaves open whom the message is about: that of a case whose sender was not known when it began.
    pub(super) is_of_anybody: bool,
}

/// What began a flow, as far as keys are made of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning<'a> {
    /// Its message; `None` where somebody left.
    pub(super) event: Option<&'a Event<'a>>,
    /// Who sent it, as far as that is known.
    pub(super) uid: Option<&'a Uid>,
    pub(super) name: Option<&'a str>,
    /// In which room it is.
    pub(super) room: Option<&'a str>,
}

/// What words and names may become on their way, by the rule that reads the message: digests, made once for all
/// expectations of a case.
#[derive(Debug, Default)]
pub(super) struct Wordings {
    contents: HashMap<usize, Vec<Option<u64>>>,
    names: HashMap<usize, Vec<Option<u64>>>,
}

/// What of a message a key is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    event: &'a Event<'a>,
    content: Option<u64>,
    name: Option<u64>,
}

/// What a key is made of, apart from its place.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    uid: Option<&'a Uid>,
    name: Option<u64>,
    content: Option<u64>,
    /// The digest of all others.
    others: u64,
}

impl Keys {
    /// Every key that an expected message may have.
    pub(super) fn of_beginning(
        &self,
        place: Place,
        expectation: &Expectation,
        dialect: &Dialect,
        direction: Direction,
        beginning: Beginning<'_>,
        wordings: &mut Wordings,
    ) -> BTreeSet<u64> {
        let Beginning { event, uid, name, room } = beginning;
        let said = event.and_then(|event| event.content.as_deref());
        let texts = |field: &str| event.and_then(|event| event.fields.text(field));
        let asks_for = |part| expectation.same.contains(&part);
        let fits = |rule: &MessageRule| {
            rule.goes(direction) && expectation.kinds.iter().any(|kind| **kind == *rule.kind)
        };
        let others = self.others(expectation, event, room);
        let mut keys = BTreeSet::new();
        for (number, rule) in dialect.messages.iter().enumerate().filter(|(_, rule)| fits(rule)) {
            let contents = match said.filter(|_| asks_for(Part::Content)) {
                Some(said) => &**wordings.contents.entry(number).or_insert_with(|| {
                    rule.contents(said, &texts).map(|content| Some(self.digest(&content))).collect()
                }),
                None => &[None],
            };
            let names = match name.filter(|_| asks_for(Part::Name)) {
                Some(name) => &**wordings.names.entry(number).or_insert_with(|| {
                    rule.names(name, &texts).map(|name| Some(self.digest(&name))).collect()
                }),
                None => &[None],
            };
            for &content in contents {
                for &name in names {
                    keys.insert(self.key(place, expectation, Parts { uid, name, content, others }));
                }
            }
        }
        keys
    }

    /// What keys are made of, of a message.
    pub(super) fn words<'a>(&self, event: &'a Event<'a>) -> Words<'a> {
        let name = event.user.as_ref().and_then(|user| user.name.as_deref());
        let digest = |text: Option<&str>| text.map(|text| self.digest(text));
        Words { event, content: digest(event.content.as_deref()), name: digest(name) }
    }

    /// The keys of a message: with the uid of the user whom it is about and, where that has to be the same, without.
    pub(super) fn of_message(
        &self,
        place: Place,
        expectation: &Expectation,
        words: Words<'_>,
    ) -> impl Iterator<Item = Key> + use<> {
        let Words { event, content, name } = words;
        let others = self.others(expectation, Some(event), event.room.as_deref());
        let key = |uid: Option<&Uid>| self.key(place, expectation, Parts { uid, name, content, others });
        let uid = event.user.as_ref().and_then(|user| user.uid.as_ref());
        let is_asked = expectation.same.contains(&Part::User);
        let keys = [(Some(key(uid)), false), (uid.filter(|_| is_asked).map(|_| key(None)), true)];
        let Place { flow, expectation, .. } = place;
        keys.into_iter()
            .filter_map(move |(key, is_of_anybody)| Some(Key { key: key?, flow, expectation, is_of_anybody }))
    }

    fn digest(&self, text: &str) -> u64 {
        self.0.hash_one(text)
    }

    /// The digest of all that has to be the same, but for the user, their name, and what is said.
    fn others(&self, expectation: &Expectation, event: Option<&Event<'_>>, room: Option<&str>) -> u64 {
        let mut hasher = self.0.build_hasher();
        for part in &expectation.same {
            match part {
                Part::User | Part::Name | Part::Content => {}
                Part::To => event.and_then(|event| event.recipient.as_ref()).hash(&mut hasher),
                Part::Room => room.hash(&mut hasher),
                Part::Field(field) => hash_field(event, field, &mut hasher),
            }
        }
        hasher.finish()
    }

    fn key(&self, place: Place, expectation: &Expectation, parts: Parts<'_>) -> u64 {
        let mut hasher = self.0.build_hasher();
        place.hash(&mut hasher);
        parts.others.hash(&mut hasher);
        for part in &expectation.same {
            match part {
                Part::User => parts.uid.hash(&mut hasher),
                Part::Name => parts.name.hash(&mut hasher),
                Part::Content => parts.content.hash(&mut hasher),
                Part::To | Part::Room | Part::Field(_) => {}
            }
        }
        hasher.finish()
    }
}

fn hash_field(event: Option<&Event<'_>>, field: &str, hasher: &mut impl std::hash::Hasher) {
    match event.and_then(|event| event.fields.get(field)) {
        None | Some(Value::Absent) => 0_u8.hash(hasher),
        Some(Value::Null | Value::List | Value::Object) => 1_u8.hash(hasher),
        Some(Value::Bool(value)) => (2_u8, value).hash(hasher),
        Some(Value::Number(value)) => (3_u8, value).hash(hasher),
        Some(Value::Negative(value)) => (4_u8, value).hash(hasher),
        Some(Value::Float(value)) => (5_u8, value.to_bits()).hash(hasher),
        Some(Value::Text(value)) => (6_u8, value).hash(hasher),
    }
}

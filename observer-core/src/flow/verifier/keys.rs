//! What tells expected messages apart: equal keys, equal in all parts that have to be the same.
//!
//! Owns how a key is made of what began a flow, and of a message that may be expected by it. Must not know cases.
//! Bounded: as many keys as there are ways in which the rules let a server pass the words on.

use std::collections::BTreeSet;
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

impl Keys {
    /// Every key that an expected message may have.
    pub(super) fn of_beginning(
        &self,
        place: Place,
        expectation: &Expectation,
        dialect: &Dialect,
        direction: Direction,
        beginning: Beginning<'_>,
    ) -> BTreeSet<u64> {
        let Beginning { event, uid, name, room } = beginning;
        let said = event.and_then(|event| event.content.as_deref());
        let texts = |field: &str| event.and_then(|event| event.fields.text(field));
        let asks_for = |part| expectation.same.contains(&part);
        let fits = |rule: &&MessageRule| {
            rule.from.is_none_or(|from| from == direction)
                && expectation.kinds.iter().any(|kind| **kind == *rule.kind)
        };
        let mut keys = BTreeSet::new();
        for rule in dialect.messages.iter().filter(fits) {
            let contents: Vec<_> = match said.filter(|_| asks_for(Part::Content)) {
                Some(said) => rule.contents(said, &texts).map(Some).collect(),
                None => vec![None],
            };
            let names: Vec<_> = match name.filter(|_| asks_for(Part::Name)) {
                Some(name) => rule.names(name, &texts).map(Some).collect(),
                None => vec![None],
            };
            for content in &contents {
                for name in &names {
                    keys.insert(self.key(place, expectation, |part, hasher| match part {
                        Part::User => uid.hash(hasher),
                        Part::Name => name.as_deref().hash(hasher),
                        Part::Content => content.as_deref().hash(hasher),
                        Part::To => event.and_then(|event| event.recipient.as_ref()).hash(hasher),
                        Part::Room => room.hash(hasher),
                        Part::Field(field) => hash_field(event, field, hasher),
                    }));
                }
            }
        }
        keys
    }

    /// The keys of a message: with the uid of the user whom it is about and, where that has to be the same, without.
    pub(super) fn of_message(
        &self,
        place: Place,
        expectation: &Expectation,
        event: &Event<'_>,
    ) -> impl Iterator<Item = Key> + use<> {
        let user = event.user.as_ref();
        let key = |uid: Option<&Uid>| {
            self.key(place, expectation, |part, hasher| match part {
                Part::User => uid.hash(hasher),
                Part::Name => user.and_then(|user| user.name.as_deref()).hash(hasher),
                Part::Content => event.content.as_deref().hash(hasher),
                Part::To => event.recipient.as_ref().hash(hasher),
                Part::Room => event.room.as_deref().hash(hasher),
                Part::Field(field) => hash_field(Some(event), field, hasher),
            })
        };
        let uid = user.and_then(|user| user.uid.as_ref());
        let is_asked = expectation.same.contains(&Part::User);
        let keys = [(Some(key(uid)), false), (uid.filter(|_| is_asked).map(|_| key(None)), true)];
        let Place { flow, expectation, .. } = place;
        keys.into_iter()
            .filter_map(move |(key, is_of_anybody)| Some(Key { key: key?, flow, expectation, is_of_anybody }))
    }

    fn key(
        &self,
        place: Place,
        expectation: &Expectation,
        hash: impl Fn(&Part, &mut <RandomState as std::hash::BuildHasher>::Hasher),
    ) -> u64 {
        let mut hasher = self.0.build_hasher();
        place.hash(&mut hasher);
        for part in &expectation.same {
            hash(part, &mut hasher);
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

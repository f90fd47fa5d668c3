//! One walk through a message's JSON that fills in what rules ask for.
//!
//! Owns the tree of pointers, and what duplicate keys mean. Must not know what values are for. Bounded: one value a
//! pointer, and of a list of users a row an element, which the message's length bounds; nesting by `serde_json`'s 128.
//!
//! No tree of the message is built, and what nobody asks for is passed over. Of a key that stands twice in an object the
//! last one counts, as JavaScript's and PHP's readers have it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::pointer::{Pointer, index};

/// What a pointer leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that is not negative.
    Number(u64),
    /// A negative whole number.
    Negative(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// A list, whatever is in it.
    List,
    /// An object, whatever is in it.
    Object,
}

impl Value<'_> {
    /// Whether there is something.
    pub const fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Whether there is something that is neither a list nor an object.
    pub const fn is_scalar(&self) -> bool {
        !matches!(self, Self::Absent | Self::List | Self::Object)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null | Self::List | Self::Object => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => serializer.serialize_u64(*value),
            Self::Negative(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// Where the value of a pointer is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// Where the elements of a list, or the entries of an object, are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsAt(usize);

/// The pointers that are asked for, as they are collected.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    root: Place,
    slots: usize,
    /// By [`RowsAt`]: how many values a row has. The first one is the key, where it is an object's.
    widths: Vec<usize>,
}

/// A place in a message, with what is asked for there and below.
#[derive(Clone, Debug, Default)]
struct Place {
    below: BTreeMap<Box<str>, Self>,
    slot: Option<Slot>,
    /// Where every element is asked for: into which rows, and what of it.
    rows: Option<(RowsAt, Box<Self>)>,
}

impl Place {
    fn reach(&mut self, pointer: &Pointer) -> &mut Self {
        pointer.tokens().fold(self, |place, token| place.below.entry(token.into()).or_default())
    }

    fn is_walkable(&self) -> bool {
        (self.rows.is_none() || self.below.is_empty()) && self.below.values().all(Self::is_walkable)
    }

    fn node(&self) -> Node {
        let indices = self.below.keys().filter_map(|key| index(key));
        Node {
            children: self.below.iter().map(|(key, below)| (key.clone(), below.node())).collect(),
            elements_end: indices.max().map_or(0, |last| last.saturating_add(1)),
            slot: self.slot,
            rows: self.rows.as_ref().map(|(at, element)| (*at, Box::new(element.node()))),
        }
    }
}

impl Asked {
    /// Where a row has its key.
    pub const KEY: Slot = Slot(0);

    /// Asks for the value that a pointer leads to.
    pub fn ask(&mut self, pointer: &Pointer) -> Slot {
        *self.root.reach(pointer).slot.get_or_insert_with(|| {
            self.slots += 1;
            Slot(self.slots - 1)
        })
    }

    /// Asks for every element of the list or object that a pointer leads to.
    pub fn ask_for_rows(&mut self, pointer: &Pointer) -> RowsAt {
        let Self { root, widths, .. } = self;
        let (at, _) = root.reach(pointer).rows.get_or_insert_with(|| {
            widths.push(1);
            (RowsAt(widths.len() - 1), Box::default())
        });
        *at
    }

    /// Asks, of each element that [`Asked::ask_for_rows`] asks for at `pointer`, for what a pointer leads to from there.
    pub fn ask_of_row(&mut self, pointer: &Pointer, of_element: &Pointer) -> Slot {
        let RowsAt(rows) = self.ask_for_rows(pointer);
        let Self { root, widths, .. } = self;
        let width = widths.get_mut(rows);
        let element = root.reach(pointer).rows.as_mut().map(|(_, element)| element);
        // Both are there since the line above asked for them.
        let (Some(width), Some(element)) = (width, element) else { return Self::KEY };
        *element.reach(of_element).slot.get_or_insert_with(|| {
            *width += 1;
            Slot(*width - 1)
        })
    }

    /// Whether one walk can fill in everything: nothing within a list that is asked for row by row is asked for
    /// besides.
    pub fn is_walkable(&self) -> bool {
        self.root.is_walkable()
    }

    /// The tree to walk by.
    pub fn tree(self) -> Tree {
        Tree { root: self.root.node(), slots: self.slots, widths: self.widths }
    }
}

/// The pointers that are asked for, to walk by.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Node,
    slots: usize,
    widths: Vec<usize>,
}

/// A place in a message.
#[derive(Clone, Debug)]
struct Node {
    children: Vec<(Box<str>, Self)>,
    /// No element of a list from this one on is asked for.
    elements_end: usize,
    slot: Option<Slot>,
    rows: Option<(RowsAt, Box<Self>)>,
}

impl Node {
    /// Few are asked for: looking through them all is the quickest.
    fn child(&self, key: &str) -> Option<&Self> {
        self.children.iter().find(|(known, _)| **known == *key).map(|(_, child)| child)
    }

    fn element(&self, at: usize) -> Option<&Self> {
        self.children.iter().find(|(known, _)| index(known) == Some(at)).map(|(_, child)| child)
    }

    /// Forgets what an earlier value of the same key left below this place.
    fn clear_below(&self, values: &mut Filling<'_, '_>) {
        for (_, child) in &self.children {
            values.put(child.slot, Value::Absent);
            child.clear_below(values);
        }
        if let Some(rows) = self.rows.as_ref().and_then(|(RowsAt(at), _)| values.rows.get_mut(*at)) {
            rows.clear();
        }
    }
}

impl Tree {
    /// Walks a text; `None` where it is not JSON.
    pub fn walk<'de>(&self, text: &'de str) -> Option<Values<'_, 'de>> {
        let mut slots = Vec::new();
        slots.resize_with(self.slots, Value::default);
        let mut rows = Vec::new();
        let mut json = serde_json::Deserializer::from_str(text);
        let walk = Walk {
            node: &self.root,
            widths: &self.widths,
            values: Filling { slots: &mut slots, rows: &mut rows },
        };
        walk.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(Values { slots, rows, widths: &self.widths })
    }
}

/// What a walk found.
#[derive(Debug)]
pub struct Values<'t, 'de> {
    slots: Vec<Value<'de>>,
    rows: Vec<Vec<Value<'de>>>,
    widths: &'t [usize],
}

impl<'de> Values<'_, 'de> {
    /// The value of a slot.
    pub fn at(&self, slot: Slot) -> &Value<'de> {
        in_slot(&self.slots, slot)
    }

    /// The rows of a list, in order, or those of an object.
    pub fn rows(&self, at: RowsAt) -> impl Iterator<Item = &[Value<'de>]> {
        let rows = self.rows.get(at.0).map_or(&[][..], Vec::as_slice);
        rows.chunks_exact(self.widths.get(at.0).copied().unwrap_or(1))
    }
}

/// The value of a slot in a row.
pub fn in_slot<'v, 'de>(row: &'v [Value<'de>], slot: Slot) -> &'v Value<'de> {
    row.get(slot.0).unwrap_or(&Value::Absent)
}

struct Filling<'f, 'de> {
    slots: &'f mut [Value<'de>],
    /// By [`RowsAt`], as far as any were met.
    rows: &'f mut Vec<Vec<Value<'de>>>,
}

impl<'de> Filling<'_, 'de> {
    fn put(&mut self, slot: Option<Slot>, value: Value<'de>) {
        if let Some(place) = slot.and_then(|slot| self.slots.get_mut(slot.0)) {
            *place = value;
        }
    }

    const fn again(&mut self) -> Filling<'_, 'de> {
        Filling { slots: self.slots, rows: self.rows }
    }
}

/// The walk at one place.
struct Walk<'t, 'f, 'de> {
    node: &'t Node,
    widths: &'t [usize],
    values: Filling<'f, 'de>,
}

impl<'t, 'de> Walk<'t, '_, 'de> {
    /// Adds a row for an element, and calls `fill` with the walk within it.
    fn row<R>(
        &mut self,
        at: RowsAt,
        element: &'t Node,
        key: Value<'de>,
        fill: impl FnOnce(Walk<'t, '_, 'de>) -> R,
    ) -> Option<R> {
        let width = *self.widths.get(at.0)?;
        if self.values.rows.len() <= at.0 {
            self.values.rows.resize_with(at.0 + 1, Vec::new);
        }
        let rows = self.values.rows.get_mut(at.0)?;
        let start = rows.len();
        rows.push(key);
        rows.resize_with(start + width, Value::default);
        let slots = rows.get_mut(start..)?;
        Some(fill(Walk { node: element, widths: &[], values: Filling { slots, rows: &mut Vec::new() } }))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! fill_in {
    ($($visit:ident($value:ident: $type:ty) => $filled:expr;)*) => {
        $(fn $visit<E: serde::de::Error>(mut self, $value: $type) -> Result<(), E> {
            self.values.put(self.node.slot, $filled);
            Ok(())
        })*
    };
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fill_in! {
        visit_bool(value: bool) => Value::Bool(value);
        visit_u64(value: u64) => Value::Number(value);
        visit_i64(value: i64) => Value::Negative(value);
        visit_f64(value: f64) => Value::Float(value);
        visit_borrowed_str(value: &'de str) => Value::Text(Cow::Borrowed(value));
        visit_str(value: &str) => Value::Text(Cow::Owned(value.to_owned()));
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.values.put(self.node.slot, Value::Null);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.values.put(self.node.slot, Value::List);
        if let Some((at, element)) = &self.node.rows {
            while let Some(Some(())) =
                self.row(*at, element, Value::Absent, |walk| list.next_element_seed(walk)).transpose()?
            {
            }
            // The row that was made for an element behind the last one.
            if let (Some(rows), Some(width)) = (self.values.rows.get_mut(at.0), self.widths.get(at.0)) {
                rows.truncate(rows.len().saturating_sub(*width));
            }
        }
        for at in 0..self.node.elements_end {
            let is_over = match self.node.element(at) {
                Some(node) => {
                    let walk = Walk { node, widths: self.widths, values: self.values.again() };
                    list.next_element_seed(walk)?.is_none()
                }
                None => list.next_element::<IgnoredAny>()?.is_none(),
            };
            if is_over {
                return Ok(());
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.values.put(self.node.slot, Value::Object);
        if let Some((at, element)) = &self.node.rows {
            while let Some(key) = map.next_key_seed(AnyKey)? {
                self.row(*at, element, Value::Text(key), |walk| map.next_value_seed(walk)).transpose()?;
            }
            return Ok(());
        }
        while let Some(child) = map.next_key_seed(KnownKey(self.node))? {
            match child {
                Some(node) => {
                    let mut values = self.values.again();
                    node.clear_below(&mut values);
                    map.next_value_seed(Walk { node, widths: self.widths, values })?;
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

/// Finds what is asked for under a key.
struct KnownKey<'t>(&'t Node);

impl<'de, 't> DeserializeSeed<'de> for KnownKey<'t> {
    type Value = Option<&'t Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'t> Visitor<'_> for KnownKey<'t> {
    type Value = Option<&'t Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(key))
    }
}

/// Takes a key as it is.
struct AnyKey;

impl<'de> DeserializeSeed<'de> for AnyKey {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for AnyKey {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    fn found(text: &str, at: &str) -> Value<'static> {
        let mut asked = Asked::default();
        let slot = asked.ask(&pointer(at));
        let tree = asked.clone().tree();
        let values = tree.walk(text).unwrap();
        match values.at(slot) {
            Value::Text(text) => Value::Text(text.to_string().into()),
            Value::Absent => Value::Absent,
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(*value),
            Value::Number(value) => Value::Number(*value),
            Value::Negative(value) => Value::Negative(*value),
            Value::Float(value) => Value::Float(*value),
            Value::List => Value::List,
            Value::Object => Value::Object,
        }
    }

    /// What the oracle says.
    fn expected(value: Option<&serde_json::Value>) -> Value<'_> {
        match value {
            None => Value::Absent,
            Some(serde_json::Value::Null) => Value::Null,
            Some(serde_json::Value::Bool(value)) => Value::Bool(*value),
            Some(serde_json::Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Value::Number(number),
                (None, Some(number)) => Value::Negative(number),
                (None, None) => Value::Float(number.as_f64().unwrap()),
            },
            Some(serde_json::Value::String(text)) => Value::Text(text.into()),
            Some(serde_json::Value::Array(_)) => Value::List,
            Some(serde_json::Value::Object(_)) => Value::Object,
        }
    }

    #[test]
    fn values_are_what_the_message_says() {
        let text = r#" {"a":{"b":[1,-2,2.5,"x",null,true,{"c":"\u732a"}]},"":0,"a/b":"slash","1":"one"} "#;
        assert_eq!(found(text, "/a/b/0"), Value::Number(1));
        assert_eq!(found(text, "/a/b/1"), Value::Negative(-2));
        assert_eq!(found(text, "/a/b/2"), Value::Float(2.5));
        assert_eq!(found(text, "/a/b/3"), Value::Text("x".into()));
        assert_eq!(found(text, "/a/b/4"), Value::Null);
        assert_eq!(found(text, "/a/b/5"), Value::Bool(true));
        assert_eq!(found(text, "/a/b/6/c"), Value::Text("猪".into()));
        assert_eq!(found(text, "/a/b/7"), Value::Absent);
        assert_eq!(found(text, "/a/b/00"), Value::Absent);
        assert_eq!(found(text, "/a/b"), Value::List);
        assert_eq!(found(text, "/a"), Value::Object);
        assert_eq!(found(text, ""), Value::Object);
        assert_eq!(found(text, "/"), Value::Number(0));
        assert_eq!(found(text, "/a~1b"), Value::Text("slash".into()));
        assert_eq!(found(text, "/1"), Value::Text("one".into()));
        assert_eq!(found("[[7]]", "/0/0"), Value::Number(7));
        assert_eq!(found("3", ""), Value::Number(3));
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_one_counts_with_all_below_it() {
        assert_eq!(found(r#"{"a":1,"a":2}"#, "/a"), Value::Number(2));
        assert_eq!(found(r#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b"), Value::Absent);
        assert_eq!(found(r#"{"a":{"b":1},"a":3}"#, "/a/b"), Value::Absent);
        assert_eq!(found(r#"{"a":{"b":{"c":1}},"a":{"b":2}}"#, "/a/b/c"), Value::Absent);
        let mut asked = Asked::default();
        let name = asked.ask_of_row(&pointer("/l"), &pointer("/n"));
        let rows = asked.ask_for_rows(&pointer("/l"));
        let tree = asked.clone().tree();
        let values = tree.walk(r#"{"l":[{"n":1},{"n":2}],"l":[{"n":3}]}"#).unwrap();
        let names: Vec<_> = values.rows(rows).map(|row| in_slot(row, name)).collect();
        assert_eq!(names, [&Value::Number(3)]);
    }

    #[test]
    fn elements_of_a_list_and_entries_of_an_object_are_rows() {
        let mut asked = Asked::default();
        let list = pointer("/list");
        let rows = asked.ask_for_rows(&list);
        let (whole, name) =
            (asked.ask_of_row(&list, &pointer("")), asked.ask_of_row(&list, &pointer("/name")));
        let shape = asked.ask(&list);
        let all = |text: &str| {
            let tree = asked.clone().tree();
            let values = tree.walk(text).unwrap();
            let rows = values.rows(rows).map(|row| {
                [Asked::KEY, whole, name].map(|slot| format!("{:?}", in_slot(row, slot))).join(" ")
            });
            (format!("{:?}", values.at(shape)), rows.collect::<Vec<_>>())
        };
        let (shape, rows) = all(r#"{"list":[{"name":"a"},7,[1],{"name":[]}]}"#);
        assert_eq!(shape, "List");
        assert_eq!(
            rows,
            [
                "Absent Object Text(\"a\")",
                "Absent Number(7) Absent",
                "Absent List Absent",
                "Absent Object List"
            ]
        );
        let (shape, rows) = all(r#"{"list":{"x":"a","\u0079":{"name":1}}}"#);
        assert_eq!(shape, "Object");
        assert_eq!(rows, ["Text(\"x\") Text(\"a\") Absent", "Text(\"y\") Object Number(1)"]);
        assert_eq!(all(r#"{"list":[]}"#), ("List".to_owned(), vec![]));
        assert_eq!(all(r#"{"list":5}"#), ("Number(5)".to_owned(), vec![]));
    }

    #[test]
    fn a_list_that_is_asked_for_row_by_row_and_within_is_not_walkable() {
        let mut asked = Asked::default();
        asked.ask_for_rows(&pointer("/list"));
        asked.ask(&pointer("/list"));
        assert!(asked.is_walkable());
        asked.ask(&pointer("/list/0"));
        assert!(!asked.is_walkable());
    }

    #[test]
    fn what_is_not_json_or_nested_too_deep_is_not_walked() {
        let mut asked = Asked::default();
        asked.ask(&pointer("/a/0/0"));
        for text in ["", "{", "{} x", "{\"a\":}", "{'a':1}", "nul"] {
            assert!(asked.clone().tree().walk(text).is_none(), "{text}");
        }
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let mut asked = Asked::default();
        asked.ask(&pointer(&"/0".repeat(120)));
        assert!(asked.clone().tree().walk(&nested(127)).is_some());
        let mut asked = Asked::default();
        asked.ask(&pointer(&"/0".repeat(128)));
        assert!(asked.clone().tree().walk(&nested(128)).is_none());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "[a-c01/~\"\\\\猪]{0,4}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec(("[a-c01/~]{0,1}", inner), 0..4)
                    .prop_map(|entries| entries.into_iter().collect()),
            ]
        })
    }

    proptest! {
            #[test]
            fn all_pointers_at_once_lead_where_each_of_them_leads_by_itself(
                value in json(),
                pointers in prop::collection::vec("(/([a-c01]|~0|~1)?){0,4}", 1..12),
            ) {
                let text = value.to_string();
                let mut asked = Asked::default();
                let slots: Vec<_> = pointers.iter().map(|at| asked.ask(&pointer(at))).collect();
                let tree = asked.clone().tree();
    let values = tree.walk(&text).unwrap();
                for (at, slot) in pointers.iter().zip(slots) {
                    prop_assert_eq!(values.at(slot), &expected(value.pointer(at)), "{} in {}", at, text);
                }
            }

            #[test]
            fn any_text_is_walked_as_far_as_it_is_json(text in "[\\[\\]{}\":,a-z0-9.\\\\ -]{0,60}") {
                let mut asked = Asked::default();
                let slots = ["/a", "/a/0", "/0/a", ""].map(|at| (at, asked.ask(&pointer(at))));
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                    let tree = asked.clone().tree();
    let values = tree.walk(&text).unwrap();
                    for (at, slot) in slots {
                        prop_assert_eq!(values.at(slot), &expected(value.pointer(at)));
                    }
                } else {
                    // What is passed over is not looked into as closely.
                    asked.clone().tree().walk(&text);
                }
            }
        }
}

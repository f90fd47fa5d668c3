//! Typed access to the keys of a rule file, with errors for whoever wrote it.
//!
//! Owns how an error says where it is, and which key was meant. Must not know what any key is for. Bounded: looks at a file
//! that was parsed already.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// On which line, from 1.
    pub line: usize,
    /// In which part of the file, in words; nothing where that is the file itself.
    pub place: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if !self.place.is_empty() {
            write!(f, ", in {}", self.place)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for RuleError {}

/// The text of a rule file.
#[derive(Clone, Copy)]
pub(super) struct Source<'t>(pub(super) &'t str);

impl Source<'_> {
    pub(super) fn error(self, at: usize, place: &str, problem: impl Into<String>) -> RuleError {
        let before = self.0.get(..at).unwrap_or(self.0);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        RuleError { line, place: place.to_owned(), problem: problem.into() }
    }
}

/// A table of which only some keys make sense.
pub(super) struct Keys<'t> {
    source: Source<'t>,
    /// In words, for errors.
    place: String,
    /// Where it begins in the text.
    at: usize,
    table: &'t DeTable<'t>,
}

impl<'t> Keys<'t> {
    /// Takes a table; `known` are the keys that it may have.
    pub(super) fn new(
        source: Source<'t>,
        place: String,
        at: usize,
        table: &'t DeTable<'t>,
        known: &[&str],
    ) -> Result<Self, RuleError> {
        let unknown = table.keys().filter(|key| !known.contains(&&**key.get_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let problem = format!("there is no key `{}`{}", key.get_ref(), instead(key.get_ref(), known));
            return Err(source.error(key.span().start, &place, problem));
        }
        Ok(Self { source, place, at, table })
    }

    pub(super) fn get(&self, key: &'static str) -> Option<Entry<'t>> {
        let value = self.table.get(key)?;
        Some(Entry { source: self.source, place: self.place.clone(), name: format!("`{key}`"), value })
    }

    pub(super) fn need(&self, key: &'static str, why: &str) -> Result<Entry<'t>, RuleError> {
        self.get(key).ok_or_else(|| self.error(format!("the key `{key}` is missing: {why}")))
    }

    /// What is under all keys, for a table whose keys are anything.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, Entry<'t>)> {
        self.table.iter().map(|(key, value)| {
            let name = format!("`{}`", key.get_ref());
            let entry = Entry { source: self.source, place: self.place.clone(), name, value };
            (&**key.get_ref(), entry)
        })
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> RuleError {
        self.source.error(self.at, &self.place, problem)
    }

    /// In words, for errors.
    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

/// What stands behind a key, or one of several things that do.
pub(super) struct Entry<'t> {
    source: Source<'t>,
    place: String,
    /// In words, for errors.
    name: String,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Entry<'t> {
    pub(super) fn value(&self) -> &'t DeValue<'t> {
        self.value.get_ref()
    }

    pub(super) fn error(&self, problem: impl fmt::Display) -> RuleError {
        self.source.error(self.value.span().start, &self.place, format!("{} {problem}", self.name))
    }

    /// An error about a word that is not known.
    pub(super) fn nearest(&self, problem: &str, said: &str, known: &[&str]) -> RuleError {
        self.error(format_args!("{problem}{}", instead(said, known)))
    }

    /// The string under a key, if this is a table that has one there.
    pub(super) fn said(&self, key: &str) -> Option<&'t str> {
        self.value().get(key)?.get_ref().as_str()
    }

    pub(super) fn wrong_type(&self, expected: &str) -> RuleError {
        let found = match self.value() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format_args!("has to be {expected}, and is {found}"))
    }

    /// A string of 1 to `bytes_max` bytes.
    pub(super) fn string(&self, bytes_max: usize) -> Result<&'t str, RuleError> {
        let text = self.value().as_str().ok_or_else(|| self.wrong_type("a string"))?;
        if text.is_empty() {
            return Err(self.error("is empty"));
        }
        if text.len() > bytes_max {
            return Err(self.error(format_args!("is longer than {bytes_max} bytes")));
        }
        Ok(text)
    }

    pub(super) fn boolean(&self) -> Result<bool, RuleError> {
        self.value().as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// One of some words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, RuleError> {
        let Some(said) = self.value().as_str() else {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            return Err(self.wrong_type(&format!("a string, one of {}", all.join(", "))));
        };
        let found = words.iter().find(|(word, _)| *word == said).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.error(format_args!("cannot be \"{said}\"{}", instead(said, &known)))
        })
    }

    /// The elements of a list of 1 to `length_max`.
    pub(super) fn list(&self, length_max: usize, expected: &str) -> Result<Vec<Self>, RuleError> {
        let list = self.value().as_array().ok_or_else(|| self.wrong_type(expected))?;
        if list.is_empty() {
            return Err(self.error("is an empty list"));
        }
        if list.len() > length_max {
            return Err(self.error(format_args!("has {} elements; {length_max} are allowed", list.len())));
        }
        Ok(list.iter().map(|value| self.element(value)).collect())
    }

    /// The same, but a single thing is enough, and an empty list allowed.
    pub(super) fn any_list(&self, length_max: usize, expected: &str) -> Result<Vec<Self>, RuleError> {
        if self.value().as_array().is_some_and(|list| list.is_empty()) {
            return Ok(Vec::new());
        }
        self.list(length_max, expected)
    }

    /// The elements of a list, or the one thing that is here instead.
    pub(super) fn one_or_more(&self, length_max: usize) -> Result<Vec<Self>, RuleError> {
        if self.value().is_array() { self.list(length_max, "") } else { Ok(vec![self.element(self.value)]) }
    }

    fn element(&self, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self { source: self.source, place: self.place.clone(), name: self.name.clone(), value }
    }

    /// A table with some keys.
    pub(super) fn keys(&self, known: &[&str], expected: &str) -> Result<Keys<'t>, RuleError> {
        self.keys_at(self.place_within(), known, expected)
    }

    /// The same, under a name of its own.
    pub(super) fn keys_at(
        &self,
        place: String,
        known: &[&str],
        expected: &str,
    ) -> Result<Keys<'t>, RuleError> {
        Keys::new(self.source, place, self.value.span().start, self.table(expected)?, known)
    }

    /// A table of 1 to `length_max` keys, whatever they are.
    pub(super) fn any_keys(&self, length_max: usize, expected: &str) -> Result<Keys<'t>, RuleError> {
        let table = self.table(expected)?;
        if table.is_empty() {
            return Err(self.error("is an empty table"));
        }
        if table.len() > length_max {
            return Err(self.error(format_args!("has {} keys; {length_max} are allowed", table.len())));
        }
        let place = self.place_within();
        Ok(Keys { source: self.source, place, at: self.value.span().start, table })
    }

    fn table(&self, expected: &str) -> Result<&'t DeTable<'t>, RuleError> {
        self.value().as_table().ok_or_else(|| self.wrong_type(expected))
    }

    fn place_within(&self) -> String {
        if self.place.is_empty() { self.name.clone() } else { format!("{} of {}", self.name, self.place) }
    }
}

/// What to say of a word that is not known: the nearest one that is, or all.
fn instead(said: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(said, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1.max(word.len() / 3));
    match nearest {
        Some((_, word)) => format!("; did you mean `{word}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; there are {}", known.join(", ")),
    }
}

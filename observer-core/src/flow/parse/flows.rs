//! What a rule file says has to happen, and what must not.
//!
//! Owns the keys of flows and of the rules beside them, and what of it makes sense with the messages of the same file. Must
//! not know how anything is judged. Bounded: [`FLOWS_MAX`] flows, and [`ENTRIES_MAX`] of everything else.

use core::time::Duration;
use std::fmt;

use toml::de::DeValue;

use super::keys::{Entry, Keys, RuleError};
use super::{DIRECTIONS, ENTRIES_MAX, NAME_BYTES_MAX, name};
use crate::flow::dialect::{Act, MessageRule};
use crate::flow::flows::{
    Addressed, Among, Closing, Expectation, Flow, Flows, Never, Order, Part, Times, Trigger, Unsolicited,
    WITHIN_DEFAULT, WITHIN_MAX, Whom,
};
use crate::record::Direction;
use crate::record::Direction::{ClientToServer, ServerToClient};

/// Flows of one file.
pub(super) const FLOWS_MAX: usize = 64;
/// Codes of a close frame.
pub(super) const CODES: core::ops::RangeInclusive<u16> = 1000..=4999;
/// Those of them that no frame holds (RFC 6455 §7.4.1).
pub(super) const CODES_WITHOUT_FRAME: [u16; 3] = [1005, 1006, 1015];
/// A close frame without a code.
pub(super) const NO_CODE: &str = "none";

pub(super) const FLOW_KEYS: &[&str] = &["name", "when", "within", "nobody_else", "expect"];
pub(super) const WHEN_KEYS: &[&str] = &["type", "from", "to", "leaves"];
pub(super) const EXPECT_KEYS: &[&str] = &["type", "to", "times", "same"];
pub(super) const KINDS_KEYS: &[&str] = &["name", "type"];
pub(super) const ORDER_KEYS: &[&str] = &["name", "type", "among"];
pub(super) const CLOSE_KEYS: &[&str] = &["name", "codes"];

/// Everything that has to happen by a file whose messages are read so.
pub(super) fn flows(
    file: &Keys<'_>,
    messages: &[MessageRule],
    connecting_joins: bool,
) -> Result<Flows, RuleError> {
    let mut file = File { file, messages, connecting_joins, names: Vec::new() };
    let mut flows = Flows::default();
    for keys in file.tables("flow", FLOWS_MAX, FLOW_KEYS)? {
        flows.flows.push(file.flow(&keys)?);
    }
    for keys in file.tables("never", ENTRIES_MAX, KINDS_KEYS)? {
        flows.nevers.push(file.never(&keys)?);
    }
    for keys in file.tables("unsolicited", ENTRIES_MAX, KINDS_KEYS)? {
        let name = file.name(&keys)?;
        flows.unsolicited.push(Unsolicited { name, kinds: file.expected_kinds(&keys, &flows.flows)? });
    }
    for keys in file.tables("order", ENTRIES_MAX, ORDER_KEYS)? {
        let name = file.name(&keys)?;
        let kinds = file.expected_kinds(&keys, &flows.flows)?;
        let among =
            keys.need("among", "whose messages come in order: one `sender`'s, or all of a `room`?")?;
        flows.orders.push(Order { name, kinds, among: among.one_of(&Among::NAMED)? });
    }
    for keys in file.tables("close", ENTRIES_MAX, CLOSE_KEYS)? {
        let name = file.name(&keys)?;
        let codes = match keys.get("codes") {
            Some(codes) => codes.one_or_more(ENTRIES_MAX)?.iter().map(code).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        flows.closings.push(Closing { name, codes });
    }
    Ok(flows)
}

/// A file whose flows are read.
struct File<'a, 't> {
    file: &'a Keys<'t>,
    messages: &'a [MessageRule],
    connecting_joins: bool,
    /// The names so far, each with what is called so.
    names: Vec<(Box<str>, String)>,
}

impl<'t> File<'_, 't> {
    fn tables(&self, key: &'static str, max: usize, known: &[&str]) -> Result<Vec<Keys<'t>>, RuleError> {
        let Some(entries) = self.file.get(key) else { return Ok(Vec::new()) };
        let expected = format!("a list of tables: [[{key}]]");
        let place = |number: usize, entry: &Entry<'_>| super::numbered(key, number, entry.said("name"));
        let entries = entries.list(max, &expected)?;
        let keys =
            |(number, entry): (usize, &Entry<'t>)| entry.keys_at(place(number, entry), known, &expected);
        entries.iter().enumerate().map(keys).collect()
    }

    /// The name of something that has verdicts.
    fn name(&mut self, keys: &Keys<'_>) -> Result<Box<str>, RuleError> {
        let entry = keys.need("name", "what are its verdicts called?")?;
        let called: Box<str> = name(&entry)?.into();
        if let Some((_, earlier)) = self.names.iter().find(|(earlier, _)| *earlier == called) {
            return Err(entry.error(format_args!(
                "is taken by {earlier}: their verdicts could not be told apart, so call one of them otherwise"
            )));
        }
        self.names.push((called.clone(), keys.place().to_owned()));
        Ok(called)
    }

    fn flow(&mut self, keys: &Keys<'_>) -> Result<Flow, RuleError> {
        let name = self.name(keys)?;
        let when = keys.need("when", "what begins it? For example: when = { type = \"say\" }")?;
        let when = self.trigger(&when.keys(WHEN_KEYS, "a table, such as { type = \"say\" }")?)?;
        let within = keys.get("within").map_or(Ok(WITHIN_DEFAULT), |within| duration(&within))?;
        let nobody_else = keys.get("nobody_else").map_or(Ok(false), |it| it.boolean())?;
        let expected = "a list of tables: [[flow.expect]]";
        let entries = keys.need("expect", "[[flow.expect]] says what has to follow")?;
        let expectation = |(number, entry): (usize, &Entry<'_>)| {
            let place = super::numbered("expect", number, entry.said("type"));
            let place = format!("{place} of {}", keys.place());
            self.expectation(&when, &entry.keys_at(place, EXPECT_KEYS, expected)?)
        };
        let expect = entries
            .list(ENTRIES_MAX, expected)?
            .iter()
            .enumerate()
            .map(expectation)
            .collect::<Result<_, _>>()?;
        Ok(Flow { name, when, within, expect, nobody_else })
    }

    fn trigger(&self, when: &Keys<'_>) -> Result<Trigger, RuleError> {
        if let Some(leaves) = when.get("leaves") {
            if !leaves.boolean()? {
                return Err(leaves.error("can only be true: leave it out, and name a `type`"));
            }
            if WHEN_KEYS.iter().any(|key| *key != "leaves" && when.get(key).is_some()) {
                return Err(leaves.error("stands alone: whoever leaves may do so without a message"));
            }
            if !self.connecting_joins && !self.does(&[Act::Join]) {
                return Err(leaves.error(
                    "needs members, and nobody becomes one: no message does \"join\", nor is there [members] \
                     join = \"connection\"",
                ));
            }
            return Ok(Trigger::Leave);
        }
        let from = when.get("from").map_or(Ok(ClientToServer), |from| from.one_of(&DIRECTIONS))?;
        let kinds = when.need("type", "which messages begin it? Or is it that somebody `leaves`?")?;
        let kinds = self.kinds(&kinds, from)?;
        let to = when.get("to").map(|to| Ok((to.one_of(&Addressed::NAMED)?, to))).transpose()?;
        if let Some((Addressed::One, to)) = &to
            && let Some((number, rule)) = self.read_as(&kinds, from).find(|(_, rule)| !rule.reads(&Part::To))
        {
            let message = the_message(number, rule);
            return Err(to.error(format_args!("is \"one\", and {message} does not read `to`")));
        }
        Ok(Trigger::Message { kinds, from, to: to.map(|(to, _)| to) })
    }

    fn expectation(&self, when: &Trigger, keys: &Keys<'_>) -> Result<Expectation, RuleError> {
        let to =
            keys.need("to", "who gets it: the `sender`, all `members`, the `others`, the `recipient`?")?;
        let whom = to.one_of(&Whom::NAMED)?;
        let said = to.value().as_str().unwrap_or_default();
        self.check_whom(when, whom).map_err(|why| to.error(format_args!("is \"{said}\", {why}")))?;
        let from = match when {
            Trigger::Message { from, .. } => from.reverse(),
            Trigger::Leave => ServerToClient,
        };
        let kinds = self.kinds(&keys.need("type", "which messages are expected?")?, from)?;
        let times = keys.get("times").map_or(Ok(Times::Once), |times| times.one_of(&Times::NAMED))?;
        let mut same = Vec::new();
        for entry in keys.get("same").map_or(Ok(Vec::new()), |same| same.one_or_more(ENTRIES_MAX))? {
            same.push(self.part(when, &kinds, from, &entry)?);
        }
        Ok(Expectation { kinds, to: whom, times, same })
    }

    /// Whether there is anybody who can get what this begins.
    fn check_whom(&self, when: &Trigger, whom: Whom) -> Result<(), String> {
        match (when, whom) {
            (Trigger::Leave, Whom::Others) => Ok(()),
            (Trigger::Leave, _) => {
                Err("and whoever leaves is gone: only \"others\" can get something".to_owned())
            }
            (Trigger::Message { .. }, Whom::Sender) => Ok(()),
            (Trigger::Message { from: ServerToClient, .. }, _) => {
                Err("and what the server sends is answered by the client that gets it: write \"sender\""
                    .to_owned())
            }
            (Trigger::Message { to: Some(Addressed::Everyone), .. }, Whom::Recipient) => {
                Err("and what is for everyone has no recipient: write \"members\" or \"others\"".to_owned())
            }
            (Trigger::Message { kinds, from, .. }, Whom::Recipient) => {
                match self.read_as(kinds, *from).find(|(_, rule)| !rule.reads(&Part::To)) {
                    Some((number, rule)) => {
                        let message = the_message(number, rule);
                        Err(format!("and {message}, which begins the flow, does not read `to`"))
                    }
                    None => Ok(()),
                }
            }
            (Trigger::Message { .. }, Whom::Members | Whom::Others) => {
                if self.connecting_joins || self.does(&[Act::Join, Act::Subscribe]) {
                    return Ok(());
                }
                Err("and nobody becomes a member: no message does \"join\" or \"subscribe\", nor is there \
                     [members] join = \"connection\""
                    .to_owned())
            }
        }
    }

    /// A part that has to be the same, if there is one at both ends.
    fn part(
        &self,
        when: &Trigger,
        kinds: &[Box<str>],
        from: Direction,
        entry: &Entry<'_>,
    ) -> Result<Part, RuleError> {
        let said = entry.string(NAME_BYTES_MAX)?;
        let named = Part::NAMED.into_iter().find(|(name, _)| *name == said);
        let part = named.map_or_else(|| Part::Field(said.into()), |(_, part)| part);
        let check = |number: usize, rule: &MessageRule| {
            if rule.reads(&part) {
                return Ok(());
            }
            let message = the_message(number, rule);
            if let Part::Field(_) = part {
                let named = Part::NAMED.iter().map(|(name, _)| *name);
                let known: Vec<_> = rule.places.fields.iter().map(|(name, _)| &**name).chain(named).collect();
                return Err(entry.nearest(
                    &format!("names \"{said}\", and {message} has no such field"),
                    said,
                    &known,
                ));
            }
            let what = if part == Part::User { "uid" } else { said };
            Err(entry.error(format_args!("names \"{said}\", and {message} does not read `{what}`")))
        };
        match when {
            Trigger::Leave if !matches!(part, Part::User | Part::Name) => {
                return Err(entry.error(format_args!(
                    "names \"{said}\": of whoever leaves \"user\" and \"name\" are known, and nothing else"
                )));
            }
            // Who a client is, and in which room, may be known from before.
            Trigger::Message { from: ClientToServer, .. } | Trigger::Leave
                if matches!(part, Part::User | Part::Name | Part::Room) => {}
            Trigger::Message { kinds, from, .. } => {
                self.read_as(kinds, *from).try_for_each(|(number, rule)| check(number, rule))?;
            }
            Trigger::Leave => {}
        }
        self.read_as(kinds, from).try_for_each(|(number, rule)| check(number, rule))?;
        Ok(part)
    }

    fn never(&mut self, keys: &Keys<'_>) -> Result<Never, RuleError> {
        let name = self.name(keys)?;
        let kinds = self.kinds(&keys.need("type", "which messages?")?, ServerToClient)?;
        if self.connecting_joins {
            return Err(keys.error("is of no use, since whoever is connected is a member: leave it out"));
        }
        if !self.does(&[Act::Join]) {
            return Err(keys.error("needs to know who is logged in, and no message does \"join\""));
        }
        Ok(Never { name, kinds })
    }

    /// Types of what a server sends where a flow expects it.
    fn expected_kinds(&self, keys: &Keys<'_>, flows: &[Flow]) -> Result<Vec<Box<str>>, RuleError> {
        let entry = keys.need("type", "which messages?")?;
        let kinds = self.kinds(&entry, ServerToClient)?;
        let is_of_server = |flow: &&Flow| !matches!(flow.when, Trigger::Message { from: ServerToClient, .. });
        let expected = || {
            flows.iter().filter(is_of_server).flat_map(|flow| &flow.expect).flat_map(|expect| &expect.kinds)
        };
        if let Some(kind) = kinds.iter().find(|kind| !expected().any(|expected| expected == *kind)) {
            return Err(entry.error(format_args!(
                "is \"{kind}\", which no flow expects from the server: write such a [[flow]], or leave it out"
            )));
        }
        Ok(kinds)
    }

    /// Types of messages that come from there.
    fn kinds(&self, entry: &Entry<'_>, from: Direction) -> Result<Vec<Box<str>>, RuleError> {
        let comes = |rule: &&MessageRule| rule.goes(from);
        let mut known: Vec<_> = self.messages.iter().filter(comes).map(|rule| &*rule.kind).collect();
        known.dedup();
        let kind = |entry: &Entry<'_>| {
            let kind = entry.string(NAME_BYTES_MAX)?;
            if known.contains(&kind) {
                return Ok(kind.into());
            }
            let (end, other) = (end(from), end(from.reverse()));
            if self.messages.iter().any(|rule| *rule.kind == *kind) {
                return Err(entry.error(format_args!(
                    "is \"{kind}\", which only the {other} sends, and here it would come from the {end}"
                )));
            }
            let problem = format!("is \"{kind}\", and no [[message]] from the {end} is of that type");
            Err(entry.nearest(&problem, kind, &known))
        };
        entry.one_or_more(ENTRIES_MAX)?.iter().map(kind).collect()
    }

    /// How messages of these types are read that come from there, with their numbers from 0.
    fn read_as(&self, kinds: &[Box<str>], from: Direction) -> impl Iterator<Item = (usize, &MessageRule)> {
        let comes = move |rule: &MessageRule| rule.goes(from);
        let rules = self.messages.iter().enumerate();
        rules.filter(move |(_, rule)| comes(rule) && kinds.contains(&rule.kind))
    }

    /// Whether there is a message that does one of these.
    fn does(&self, acts: &[Act]) -> bool {
        self.messages.iter().any(|rule| rule.does.is_some_and(|does| acts.contains(&does)))
    }
}

impl MessageRule {
    /// Whether there is a place where this is.
    fn reads(&self, part: &Part) -> bool {
        let places = &self.places;
        match part {
            Part::User => places.uid.is_some(),
            Part::Name => places.name.is_some(),
            Part::Content => places.content.is_some(),
            Part::To => places.to.is_some(),
            Part::Room => places.room.is_some(),
            Part::Field(field) => places.fields.iter().any(|(name, _)| name == field),
        }
    }
}

fn the_message(number: usize, rule: &MessageRule) -> impl fmt::Display {
    let from = rule.from.map_or_else(String::new, |from| format!(" from the {}", end(from)));
    format!("message {} `{}`{from}", number + 1, rule.kind)
}

const fn end(from: Direction) -> &'static str {
    match from {
        ClientToServer => "client",
        ServerToClient => "server",
    }
}

/// A time of at most [`WITHIN_MAX`], and more than none.
fn duration(entry: &Entry<'_>) -> Result<Duration, RuleError> {
    let expected = "a time, such as \"2s\", \"500ms\" or \"1m\"";
    let text = entry.value().as_str().ok_or_else(|| entry.wrong_type(expected))?;
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let milliseconds: Option<u64> = match text.strip_prefix(digits) {
        Some("ms") => Some(1),
        Some("s") => Some(1_000),
        Some("m") => Some(60_000),
        _ => None,
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>());
    let (Some(unit), Some(Ok(number))) = (milliseconds, number) else {
        return Err(entry.error(format_args!("is \"{}\", and has to be {expected}", text.escape_default())));
    };
    let duration = Duration::from_millis(number.saturating_mul(unit));
    if duration.is_zero() || duration > WITHIN_MAX {
        let minutes = WITHIN_MAX.as_secs() / 60;
        return Err(
            entry.error(format_args!("is \"{text}\": more than 0 and at most {minutes}m are possible"))
        );
    }
    Ok(duration)
}

/// A close frame's code; `None` for a frame without one.
fn code(entry: &Entry<'_>) -> Result<Option<u16>, RuleError> {
    let number = match entry.value() {
        DeValue::String(text) if **text == *NO_CODE => return Ok(None),
        DeValue::Integer(number) => u16::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => return Err(entry.wrong_type("a code from 1000 to 4999, or \"none\"")),
    };
    match number {
        Some(code) if CODES_WITHOUT_FRAME.contains(&code) => {
            let problem =
                format!("names {code}, which no close frame holds; one without a code is \"{NO_CODE}\"");
            Err(entry.error(problem))
        }
        Some(code) if CODES.contains(&code) => Ok(Some(code)),
        _ => Err(entry.error("names a code that is not from 1000 to 4999")),
    }
}

//! Chains of steps: what a rule file says that a server makes of words.
//!
//! Owns the keys and words of `through`. Must not know what a step does. Bounded: [`CHAINS_MAX`], [`STEPS_MAX`].

use super::keys::{Entry, Keys, RuleError};
use super::{STRING_BYTES_MAX, name};
use crate::flow::transform::{Chain, STEPS_MAX, Step};
use crate::record::Direction;

/// Chains that something may have come through.
pub(super) const CHAINS_MAX: usize = 8;

pub(super) const THROUGH_KEYS: &[&str] = &["name", "content"];
pub(super) const PREFIX_KEYS: &[&str] = &["prefix"];
pub(super) const PREFIX_OF_KEYS: &[&str] = &["prefix_of", "through"];

/// Chains for the name and for the content. `fields` are those that clients' messages have.
pub(super) fn through(
    message: &Keys<'_>,
    from: Option<Direction>,
    fields: &[&str],
) -> Result<[Vec<Chain>; 2], RuleError> {
    match message.get("through") {
        Some(through) if from != Some(Direction::ServerToClient) => {
            Err(through.error("tells what a server makes of words: it needs from = \"server\""))
        }
        Some(through) => {
            let through = through.keys(THROUGH_KEYS, "a table")?;
            Ok([chains(through.get("name"), fields)?, chains(through.get("content"), fields)?])
        }
        None => Ok([chains(None, fields)?, chains(None, fields)?]),
    }
}

fn chains(entry: Option<Entry<'_>>, fields: &[&str]) -> Result<Vec<Chain>, RuleError> {
    let Some(entry) = entry else { return Ok(vec![Chain::new()]) };
    let expected = "a list of lists of steps, such as [[\"html_escape\", \"nl2br\"]]";
    let chain = |chain: &Entry<'_>| {
        chain.any_list(STEPS_MAX, expected)?.iter().map(|entry| step(entry, Some(fields))).collect()
    };
    entry.list(CHAINS_MAX, expected)?.iter().map(chain).collect()
}

/// One step; without `fields` one of those that a field goes through itself.
fn step(entry: &Entry<'_>, fields: Option<&[&str]>) -> Result<Step, RuleError> {
    if entry.value().get("prefix_of").is_some() {
        let Some(fields) = fields else {
            return Err(entry.error("has `prefix_of` within `prefix_of`: write both into the chain itself"));
        };
        return prefix_of(&entry.keys(PREFIX_OF_KEYS, "a table")?, fields);
    }
    if entry.value().is_table() {
        let keys = entry.keys(PREFIX_KEYS, "a table")?;
        let prefix = keys.need("prefix", "what stands in front?")?.string(STRING_BYTES_MAX)?;
        return Ok(Step::Prefix(prefix.into()));
    }
    let known = Step::NAMED.each_ref().map(|(name, step)| (*name, step));
    Ok(entry.one_of(&known)?.clone())
}

fn prefix_of(keys: &Keys<'_>, fields: &[&str]) -> Result<Step, RuleError> {
    let field = keys.need("prefix_of", "the text of which field stands in front?")?;
    let called = name(&field)?;
    if !fields.contains(&called) {
        let problem = format!("is \"{called}\", and no message from the client has such a field");
        return Err(field.nearest(&problem, called, fields));
    }
    let through = match keys.get("through") {
        Some(steps) => steps
            .any_list(STEPS_MAX, "a list of steps, such as [\"html_escape\"]")?
            .iter()
            .map(|entry| step(entry, None))
            .collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(Step::PrefixOf { field: called.into(), through })
}

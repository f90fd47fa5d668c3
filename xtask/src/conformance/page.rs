//! docs/conformance.md: the tables in it, as a run makes them.
//!
//! Owns how results become tables, and where in the page each stands. Must not know a case. Bounded by the number of
//! categories.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::expected::MISDEEDS;
use super::suite::Case;
use crate::process::workspace_root;

const PATH: &str = "docs/conformance.md";
const CATEGORIES: [(&str, &str); 11] = [
    ("1", "messages"),
    ("2", "pings and pongs"),
    ("3", "reserved bits"),
    ("4", "opcodes"),
    ("5", "fragmentation"),
    ("6", "UTF-8"),
    ("7", "closing"),
    ("9", "large and many messages"),
    ("10", "automatic fragmentation"),
    ("12", "compression: different payloads"),
    ("13", "compression: different offers"),
];

/// A category's results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    category: String,
    cases: usize,
    passed: usize,
    informational: Vec<String>,
    messages_sent: usize,
    messages_received: usize,
    anomalies: usize,
}

impl Row {
    /// One for each category, in the order of the cases.
    pub fn by_category(cases: &[Case]) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for case in cases {
            if rows.last().is_none_or(|row| row.category != case.category()) {
                rows.push(Self { category: case.category().to_owned(), ..Self::default() });
            }
            let Some(row) = rows.last_mut() else { continue };
            row.cases += 1;
            if case.is_informational() {
                row.informational.push(case.id.clone());
            } else if case.is_passed() {
                row.passed += 1;
            }
            row.messages_sent += case.messages_sent.len();
            row.messages_received += case.messages_received.len();
            row.anomalies += case.anomalies().len();
        }
        rows
    }
}

/// The results as Markdown, with the suite's verdicts or without.
pub fn table(rows: &[Row], verdicts: bool) -> String {
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum();
    let all = Row {
        category: "all".to_owned(),
        cases: sum(|row| row.cases),
        passed: sum(|row| row.passed),
        informational: rows.iter().flat_map(|row| row.informational.clone()).collect(),
        messages_sent: sum(|row| row.messages_sent),
        messages_received: sum(|row| row.messages_received),
        anomalies: sum(|row| row.anomalies),
    };
    let mut text = if verdicts {
        "| category | cases | passed | informational | messages → | messages ← | anomalies |\n\
         |---|--:|--:|---|--:|--:|--:|\n"
    } else {
        "| category | cases | messages → | messages ← | anomalies |\n|---|--:|--:|--:|--:|\n"
    }
    .to_owned();
    for row in rows.iter().chain([&all]) {
        let name = CATEGORIES.iter().find(|(number, _)| *number == row.category);
        let name = name.map_or_else(|| row.category.clone(), |(number, name)| format!("{number} {name}"));
        let verdict = if verdicts {
            format!(" {} | {} |", row.passed, row.informational.join(", "))
        } else {
            String::new()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {} |{verdict} {} | {} | {} |",
            row.cases, row.messages_sent, row.messages_received, row.anomalies
        );
    }
    text
}

/// What the suite does wrong, as Markdown.
fn misdeeds() -> String {
    let mut text = "| cases | the suite sends | observer says |\n|---|---|---|\n".to_owned();
    for misdeed in MISDEEDS {
        let codes: Vec<_> = misdeed.anomalies.iter().map(|code| format!("`{code}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {} |", misdeed.cases.join(", "), misdeed.what, codes.join(", "));
    }
    text
}

/// Puts tables into the places of these names, or compares them with what is there.
///
/// # Errors
/// If the page cannot be read or written, has no place for them, or says something else and must not be changed.
pub fn update(tables: &[(&str, String)], bless: bool) -> Result<()> {
    let page = read()?;
    let mut renewed = replaced(&page, "misdeeds", &misdeeds())?;
    for (name, table) in tables {
        renewed = replaced(&renewed, name, table)?;
    }
    if bless {
        return fs::write(path(), renewed).with_context(|| format!("cannot write {PATH}"));
    }
    ensure!(
        renewed == page,
        "{PATH} says something else; if it should not, add --bless, and read the difference"
    );
    Ok(())
}

/// A page with something else between the two comments of this name.
fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{PATH} has no place for {name}"))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

fn read() -> Result<String> {
    fs::read_to_string(path()).with_context(|| format!("cannot read {PATH}"))
}

fn path() -> PathBuf {
    workspace_root().join(PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_comments_is_replaced_and_nothing_else() {
        let page =
            "a\n<!-- server -->\nold\n<!-- end of server -->\nb\n<!-- client -->\n<!-- end of client -->\n";
        let renewed = replaced(page, "server", "new\n").unwrap();
        assert_eq!(
            renewed,
            "a\n<!-- server -->\n\nnew\n\n<!-- end of server -->\nb\n<!-- client -->\n<!-- end of client -->\n"
        );
        assert_eq!(replaced(&renewed, "server", "new\n").unwrap(), renewed);
        replaced(page, "other", "new\n").unwrap_err();
    }

    #[test]
    fn the_page_has_a_place_for_every_table_and_today_s_anomalies() {
        let page = read().unwrap();
        for name in ["server", "client"] {
            replaced(&page, name, "").unwrap();
        }
        assert_eq!(
            replaced(&page, "misdeeds", &misdeeds()).unwrap(),
            page,
            "cargo xtask conformance --bless"
        );
    }
}

//! docs/conformance.md: the tables in it, as a run makes them.
//!
//! Owns how results become tables, and where in the page each stands. Must not know a case. Bounded by the number of
//! categories.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::expected::{self, MISDEEDS};
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

/// A run whose result is in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// What runs without options.
    Default,
    /// Every case.
    All,
}

/// A category's results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    category: String,
    cases: usize,
    /// Of these, as intended; the others are informational or not passed.
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
            row.anomalies += expected::anomalies(&case.id).len();
        }
        rows
    }
}

/// The results as Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = "\
| category | cases | passed | informational | messages → | messages ← | anomalies |
|---|--:|--:|---|--:|--:|--:|
"
    .to_owned();
    for row in rows {
        let name = CATEGORIES.iter().find(|(number, _)| *number == row.category);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} | {} | {} | {} |",
            row.category,
            name.map_or("", |(_, name)| name),
            row.cases,
            row.passed,
            row.informational.join(", "),
            row.messages_sent,
            row.messages_received,
            row.anomalies
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let _ = writeln!(
        text,
        "| all | {} | {} | {} | {} | {} | {} |",
        sum(|row| row.cases),
        sum(|row| row.passed),
        sum(|row| row.informational.len()),
        sum(|row| row.messages_sent),
        sum(|row| row.messages_received),
        sum(|row| row.anomalies)
    );
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

impl Page {
    const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::All => "all",
        }
    }

    /// Puts the results into the page.
    ///
    /// # Errors
    /// If it cannot be written, or has no place for them.
    pub fn write(self, rows: &[Row]) -> Result<()> {
        let page = self.renewed(&read()?, rows)?;
        fs::write(path(), page).with_context(|| format!("cannot write {PATH}"))
    }

    /// Compares the results with those in the page.
    ///
    /// # Errors
    /// If they differ.
    pub fn check(self, rows: &[Row]) -> Result<()> {
        let page = read()?;
        ensure!(
            self.renewed(&page, rows)? == page,
            "{PATH} says something else; if it should not, add --bless, and read the difference"
        );
        Ok(())
    }

    fn renewed(self, page: &str, rows: &[Row]) -> Result<String> {
        let page = replaced(page, self.name(), &table(rows))?;
        replaced(&page, "misdeeds", &misdeeds())
    }
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
            "a\n<!-- default -->\nold\n<!-- end of default -->\nb\n<!-- all -->\n<!-- end of all -->\n";
        let renewed = replaced(page, "default", "new\n").unwrap();
        assert_eq!(
            renewed,
            "a\n<!-- default -->\n\nnew\n\n<!-- end of default -->\nb\n<!-- all -->\n<!-- end of all -->\n"
        );
        assert_eq!(replaced(&renewed, "default", "new\n").unwrap(), renewed);
        replaced(page, "other", "new\n").unwrap_err();
    }

    #[test]
    fn the_page_has_a_place_for_every_table_and_today_s_anomalies() {
        let page = read().unwrap();
        for run in [Page::Default, Page::All] {
            run.renewed(&page, &[]).unwrap();
        }
        assert_eq!(
            replaced(&page, "misdeeds", &misdeeds()).unwrap(),
            page,
            "cargo xtask conformance --bless"
        );
    }
}

//! Who is connected, as a table for people.
//!
//! Owns its columns. Must not know where they come from. Bounded: appends one line a connection; of a name or a room
//! [`NAME_WIDTH_MAX`] columns. Everything that a peer can influence goes through `escape`.

use std::collections::{BTreeMap, BTreeSet};

use observer_core::flow::members::{Person, Standing};
use observer_core::record::ConnectionId;
use unicode_width::UnicodeWidthStr as _;

use super::Row;
use crate::output::append::push;
use crate::output::clock::{Clock, TimeStyle};
use crate::output::escape::Mark;
use crate::output::palette::Palette;
use crate::output::party::write_name;
use crate::output::summary::count;

const COLUMNS: usize = 10;
const HEADS: [&str; COLUMNS] = ["#", "client", "claimed", "port", "user", "room", "since", "→", "←", "seen"];
/// Of the heads: which are left out where no row says anything by them.
const CLAIMED: usize = 2;
const PORT: usize = 3;

/// Columns of the terminal that a name or a room may take. All of it is in `--format json`.
const NAME_WIDTH_MAX: usize = 32;

/// Lays out the table.
#[derive(Debug)]
pub struct Text {
    clock: Clock,
    palette: Palette,
}

impl Text {
    pub fn new(time: TimeStyle, palette: Palette) -> Self {
        Self { clock: Clock::new(time), palette }
    }

    /// Appends the table, and how many it has.
    pub fn write(&mut self, out: &mut Vec<u8>, rows: &BTreeMap<ConnectionId, Row>) {
        let cells: Vec<_> = rows.iter().map(|(id, row)| self.cells(*id, row)).collect();
        let ports: BTreeSet<_> = rows.values().map(|row| row.server.port()).collect();
        let is_claimed = rows.values().any(|row| row.claim.is_some());
        let is_shown = |column: &usize| match *column {
            CLAIMED => is_claimed,
            PORT => ports.len() > 1,
            _ => true,
        };
        let columns: Vec<_> = (0..COLUMNS)
            .filter(is_shown)
            .map(|column| {
                let widths = cells.iter().map(|cells: &[String; COLUMNS]| cells[column].width());
                (column, widths.chain([HEADS[column].width()]).max().unwrap_or(0))
            })
            .collect();
        if !rows.is_empty() {
            push(out, self.palette.faint);
            write_line(out, &HEADS.map(str::to_owned), &columns);
            push(out, self.palette.reset);
            for cells in &cells {
                write_line(out, cells, &columns);
            }
        }
        push(out, &format!("{} open\n", count(rows.len() as u64, "connection", "connections")));
        let standing = |row: &Row| row.end.as_ref()?.person.as_ref().map(|person| person.standing);
        let unknown = rows.values().filter(|row| standing(row) == Some(Standing::Unknown)).count();
        if unknown > 0 {
            push(
                out,
                &format!(
                    "of {unknown} of them it is not known who they are: they connected before observer looked, and show \
                     once they log in anew, or are told what only members are told\n"
                ),
            );
        }
    }

    fn cells(&mut self, id: ConnectionId, row: &Row) -> [String; COLUMNS] {
        let person = row.end.as_ref().and_then(|end| end.person.as_ref());
        let since = if row.from_start {
            let mut since = Vec::new();
            self.clock.write(&mut since, row.opened);
            String::from_utf8(since).unwrap_or_default()
        } else {
            "before".to_owned()
        };
        let [client, server] = row.messages;
        [
            id.to_string(),
            row.client.to_string(),
            row.claim.as_ref().map_or_else(String::new, |claim| claim.address.to_string()),
            row.server.port().to_string(),
            person.map_or_else(|| "?".to_owned(), user),
            person.map_or_else(String::new, rooms),
            since,
            client.to_string(),
            server.to_string(),
            row.end.as_ref().map_or_else(String::new, |end| end.words.clone()),
        ]
    }
}

fn user(person: &Person) -> String {
    match (person.name_or_claim(), &person.uid, person.standing) {
        (Some(name), _, Standing::Member) => named(name),
        (Some(name), ..) => format!("{} (not logged in)", named(name)),
        (None, Some(uid), _) => format!("uid {}", named(&uid.to_string())),
        (None, None, Standing::Member) => "a member".to_owned(),
        (None, None, Standing::Outside) => "-".to_owned(),
        (None, None, Standing::Unknown) => "?".to_owned(),
    }
}

/// The first room, and how many more there are.
fn rooms(person: &Person) -> String {
    let subscriptions = person.subscriptions();
    let count = usize::from(person.room.is_some()) + subscriptions.len();
    let first =
        person.room.as_deref().into_iter().chain(subscriptions).next().map_or_else(String::new, named);
    if count > 1 { format!("{first} +{}", count - 1) } else { first }
}

/// A name, or its beginning with a mark behind it, which no name has without quotes.
fn named(name: &str) -> String {
    let whole = written(name);
    if whole.width() <= NAME_WIDTH_MAX {
        return whole;
    }
    let mut beginnings = name.char_indices().rev().map(|(end, _)| written(&name[..end]) + "…");
    beginnings.find(|beginning| beginning.width() <= NAME_WIDTH_MAX).unwrap_or_default()
}

fn written(name: &str) -> String {
    let mut out = Vec::new();
    write_name(&mut out, name, Mark::default());
    String::from_utf8_lossy(&out).into_owned()
}

fn write_line(out: &mut Vec<u8>, cells: &[String; COLUMNS], columns: &[(usize, usize)]) {
    let mut line = String::new();
    for (column, width) in columns {
        let cell = &cells[*column];
        line += cell;
        line += &" ".repeat(width.saturating_sub(cell.width()) + 2);
    }
    push(out, line.trim_end());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use observer_core::time::Time;

    use super::*;

    fn row(port: u16) -> Row {
        Row {
            client: ([127, 0, 0, 1], 40_001).into(),
            server: ([127, 0, 0, 1], port).into(),
            claim: None,
            opened: Time::default(),
            from_start: false,
            was_listed: false,
            messages: [0; 2],
            end: None,
        }
    }

    fn table(ports: &[u16]) -> String {
        let rows = (1..).map(ConnectionId).zip(ports.iter().copied().map(row)).collect();
        let mut out = Vec::new();
        Text::new(TimeStyle::Utc, Palette::PLAIN).write(&mut out, &rows);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_port_is_shown_where_there_are_several() {
        assert!(!table(&[7272, 7272]).contains("port"));
        let several = table(&[7272, 7273, 7272]);
        let lines: Vec<Vec<_>> = several.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..4], ["#", "client", "port", "user"]);
        let ports: Vec<_> = lines[1..4].iter().map(|line| line[2]).collect();
        assert_eq!(ports, ["7272", "7273", "7272"]);
    }

    #[test]
    fn a_name_is_cut_at_a_width_and_shows_that_it_goes_on() {
        assert_eq!(named("mynick"), "mynick");
        assert_eq!(named(&"x".repeat(NAME_WIDTH_MAX)), "x".repeat(NAME_WIDTH_MAX));
        assert_eq!(named(&"x".repeat(256)), "x".repeat(NAME_WIDTH_MAX - 1) + "…");
        assert_eq!(named(&"猪".repeat(85)), "猪".repeat(15) + "…");
        assert_eq!(named(&"a b ".repeat(64)), format!("\"{}a\"…", "a b ".repeat(7)));
        assert_eq!(named(&"\u{202e}".repeat(85)), format!("\"{}\"…", "\\u{202e}".repeat(3)));
        assert_eq!(named(&"x…".repeat(85)), format!("\"{}x\"…", "x…".repeat(14)));
    }
}

//! Who is connected, as a table for people.
//!
//! Owns its columns. Must not know where they come from. Bounded: appends one line a connection. Everything that a peer
//! can influence goes through `escape`.

use std::collections::BTreeMap;

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

const HEADS: [&str; 9] = ["#", "client", "claimed", "user", "room", "since", "→", "←", "seen"];

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
        let widths: Vec<_> = (0..HEADS.len())
            .map(|column| {
                let widths = cells.iter().map(|cells: &[String; 9]| cells[column].width());
                widths.chain([HEADS[column].width()]).max().unwrap_or(0)
            })
            .collect();
        if !rows.is_empty() {
            push(out, self.palette.faint);
            write_line(out, &HEADS.map(str::to_owned), &widths);
            push(out, self.palette.reset);
            for cells in &cells {
                write_line(out, cells, &widths);
            }
        }
        push(out, &format!("{} open\n", count(rows.len() as u64, "connection", "connections")));
        let standing = |row: &Row| row.end.as_ref()?.person.as_ref().map(|person| person.standing);
        let unknown = rows.values().filter(|row| standing(row) == Some(Standing::Unknown)).count();
        if unknown > 0 {
            push(
                out,
                &format!(
                    "{unknown} of them connected before observer looked: who they are is known once they log in \
                     anew\n"
                ),
            );
        }
    }

    fn cells(&mut self, id: ConnectionId, row: &Row) -> [String; 9] {
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
            person.map_or_else(|| "?".to_owned(), user),
            person.and_then(|person| person.room.as_deref()).map_or_else(String::new, named),
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

fn named(name: &str) -> String {
    let mut out = Vec::new();
    write_name(&mut out, name, Mark::default());
    String::from_utf8_lossy(&out).into_owned()
}

fn write_line(out: &mut Vec<u8>, cells: &[String; 9], widths: &[usize]) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line += cell;
        line += &" ".repeat(width.saturating_sub(cell.width()) + 2);
    }
    push(out, line.trim_end());
    out.push(b'\n');
}

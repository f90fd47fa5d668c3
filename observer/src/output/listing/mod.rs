//! Who is connected, as `ls` tells it.
//!
//! Owns what is kept of each connection until the end, and the choice of format. Must not know how users are told apart.
//! Bounded: an entry a connection that is open, which the engine bounds.

mod json;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use observer_core::Record;
use observer_core::flow::Members;
use observer_core::flow::members::Person;
use observer_core::record::{
    Account, ClientClaim, ConnectionClosed, ConnectionId, ConnectionOpened, How, Kind,
};
use observer_core::time::Time;

use self::text::Text;
use super::clock::TimeStyle;
use super::palette::Palette;
use super::text::completeness_words;

/// Lays out who is connected.
#[derive(Debug)]
pub struct Listing {
    format: Format,
    rows: BTreeMap<ConnectionId, Row>,
}

#[derive(Debug)]
enum Format {
    Text(Box<Text>),
    Json,
}

/// One connection.
#[derive(Debug)]
struct Row {
    client: SocketAddr,
    server: SocketAddr,
    claim: Option<Arc<ClientClaim>>,
    opened: Time,
    from_start: bool,
    was_listed: bool,
    messages: [u64; 2],
    /// How it stands at the end, and who is there.
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    person: Option<Person>,
    is_complete: bool,
    /// Whether all that may have been seen was, in words.
    words: String,
    account: [Account; 2],
}

impl Listing {
    /// For people.
    pub fn text(time: TimeStyle, palette: Palette) -> Self {
        Self { format: Format::Text(Box::new(Text::new(time, palette))), rows: BTreeMap::new() }
    }

    /// For programs.
    pub const fn json() -> Self {
        Self { format: Format::Json, rows: BTreeMap::new() }
    }

    /// Takes a record. `people` have not yet forgotten whoever was at a connection that ends.
    pub fn handle(&mut self, out: &mut Vec<u8>, record: &Record<'_>, people: &Members) {
        if let Kind::Summary(_) = &record.kind {
            return self.finish(out, record);
        }
        let Some(connection) = record.connection else { return };
        match &record.kind {
            Kind::ConnectionOpened(ConnectionOpened { from_start, was_listed }) => {
                let row = Row {
                    client: connection.client,
                    server: connection.server,
                    claim: None,
                    opened: record.time,
                    from_start: *from_start,
                    was_listed: *was_listed,
                    messages: [0; 2],
                    end: None,
                };
                self.rows.insert(connection.id, row);
            }
            Kind::Message(message) => {
                if let Some(row) = self.rows.get_mut(&connection.id) {
                    row.claim.clone_from(&connection.client_claim);
                    *message.direction.of_mut(&mut row.messages) += 1;
                }
            }
            Kind::ConnectionClosed(closed) if closed.how == How::StillOpen => {
                if let Some(row) = self.rows.get_mut(&connection.id) {
                    row.claim.clone_from(&connection.client_claim);
                    row.end = Some(End::new(closed, people.of(connection.id)));
                }
            }
            Kind::ConnectionClosed(_) => _ = self.rows.remove(&connection.id),
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>, summary: &Record<'_>) {
        match &mut self.format {
            Format::Text(text) => text.write(out, &self.rows),
            Format::Json => {
                for (id, row) in &self.rows {
                    json::write(out, summary.time, *id, row);
                }
                super::json::write(out, summary, false);
            }
        }
    }
}

impl End {
    fn new(closed: &ConnectionClosed<'_>, person: Option<&Person>) -> Self {
        Self {
            person: person.cloned(),
            is_complete: closed.is_complete_so_far(),
            words: if is_whole_since(closed) {
                "all since then".to_owned()
            } else {
                completeness_words(closed)
            },
            account: closed.account,
        }
    }
}

/// Whether of a connection that was open before only its beginning was not seen.
fn is_whole_since(closed: &ConnectionClosed<'_>) -> bool {
    let is_whole =
        |account: &Account| !account.start_seen && account.bytes_missing == 0 && account.bytes_skipped == 0;
    closed.account.iter().all(is_whole)
}

//! Who is connected, as JSON lines.
//!
//! Owns the keys. Must not know where lines go. Bounded: appends one line a connection.

use observer_core::flow::User;
use observer_core::flow::members::Standing;
use observer_core::record::{ConnectionId, Direction, SCHEMA};
use observer_core::time::Time;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Row;
use crate::output::json::{JsonAccounts, JsonCounts, JsonTime, write_claim, write_line};

/// Appends a connection as one line.
pub fn write(out: &mut Vec<u8>, now: Time, id: ConnectionId, row: &Row) {
    write_line(out, &JsonRow { now, id, row });
}

struct JsonRow<'a> {
    now: Time,
    id: ConnectionId,
    row: &'a Row,
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { now, id, row } = self;
        let person = row.end.as_ref().and_then(|end| end.person.as_ref());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("kind", "connected")?;
        map.serialize_entry("time", &JsonTime(now.wall))?;
        map.serialize_entry("connection", &id.0)?;
        map.serialize_entry("client", &row.client)?;
        map.serialize_entry("server", &row.server)?;
        if let Some(claim) = row.claim.as_deref() {
            write_claim(&mut map, claim)?;
        }
        map.serialize_entry("since", &row.from_start.then_some(JsonTime(row.opened.wall)))?;
        if row.was_listed {
            map.serialize_entry("listed", &true)?;
        }
        let standing = match person.map(|person| person.standing) {
            Some(Standing::Member) => "member",
            Some(Standing::Outside) => "outside",
            Some(Standing::Unknown) | None => "unknown",
        };
        map.serialize_entry("standing", standing)?;
        if let Some(person) = person {
            let name = person.name_or_claim().map(Into::into);
            let user = User { uid: person.uid.clone(), name };
            if user.is_somebody() {
                map.serialize_entry("user", &user)?;
            }
            if let Some(room) = &person.room {
                map.serialize_entry("room", room)?;
            }
            if person.subscriptions().len() > 0 {
                map.serialize_entry("rooms", &person.subscriptions().collect::<Vec<_>>())?;
            }
        }
        let [client, server] = row.messages;
        let messages =
            [(Direction::ClientToServer.name(), client), (Direction::ServerToClient.name(), server)];
        map.serialize_entry("messages", &JsonCounts(messages.to_vec()))?;
        if let Some(end) = &row.end {
            map.serialize_entry("complete", &end.is_complete)?;
            map.serialize_entry("account", &JsonAccounts { accounts: &end.account, of_one: true })?;
        }
        map.end()
    }
}

//! Which records are shown.
//!
//! Owns the meaning of --host, --client-claimed, --connection, --direction, --opcode, --grep, --type, --not-type, --user and --room. Must
//! not know how records are laid out. Bounded: holds what the command line named.
//!
//! A filter hides; nothing is decoded, counted or lost less for it. It never hides a gap or an anomaly of a connection
//! that it shows: what is missing there may be what is looked for.

use std::net::SocketAddr;

use ipnet::IpNet;
use observer_core::Record;
use observer_core::record::{Connection, ConnectionId, Direction, Kind, Message};
use observer_core::websocket::frame::Opcode;
use regex::bytes::Regex;

use crate::output::escape::decode_json_text;
use observer_core::flow::Members;

/// What is to be shown; by default everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Connections with an end in one of these.
    pub hosts: Vec<IpNet>,
    /// What claims to be for a client in one of these, from where it claims so on.
    pub claimed: Vec<IpNet>,
    /// These connections.
    pub connections: Vec<ConnectionId>,
    /// Connections of users who are called so.
    pub users: Vec<String>,
    /// Connections of users in these rooms.
    pub rooms: Vec<String>,
    /// What goes this way.
    pub direction: Option<Direction>,
    /// Messages and frames of these opcodes.
    pub opcodes: Vec<Opcode>,
    /// Messages of these types, by the names that the rules have for them.
    pub types: Vec<String>,
    /// Messages of other types than these.
    pub not_types: Vec<String>,
    /// Messages whose payload, as sent or with its JSON escapes decoded, matches one of these.
    pub patterns: Vec<Regex>,
}

impl Filter {
    /// Whether a record is shown. `people` has learnt from it.
    pub fn shows(&self, record: &Record<'_>, people: &Members) -> bool {
        let ends = match (record.connection, &record.kind) {
            (Some(connection), _) => [connection.client, connection.server],
            // Its connection has no number (yet).
            (None, Kind::Packet(packet)) => [packet.segment.source, packet.segment.destination],
            (None, _) => return true,
        };
        if !self.shows_connection(record.connection.map(|connection| connection.id), ends, people) {
            return false;
        }
        if !self.claimed.is_empty() && !record.connection.is_some_and(|it| self.shows_claim(it)) {
            return false;
        }
        let goes_our_way = |direction| self.direction.is_none_or(|only| only == direction);
        match &record.kind {
            Kind::Packet(packet) => packet.direction.is_none_or(goes_our_way) && !self.looks_into_messages(),
            Kind::Message(message) => goes_our_way(message.direction) && self.shows_message(message),
            Kind::Frame(frame) => {
                goes_our_way(frame.direction)
                    && self.types.is_empty()
                    && self.patterns.is_empty()
                    && (self.opcodes.is_empty() || self.opcodes.contains(&frame.header.opcode))
            }
            Kind::Gap(gap) => goes_our_way(gap.direction),
            Kind::Anomaly(anomaly) => anomaly.direction.is_none_or(goes_our_way),
            Kind::ProxyHeader(_) => goes_our_way(Direction::ClientToServer) && !self.looks_into_messages(),
            Kind::Handshake(handshake) => goes_our_way(handshake.direction) && !self.looks_into_messages(),
            Kind::Received(_)
            | Kind::CaptureLoss(_)
            | Kind::ConnectionOpened(_)
            | Kind::ConnectionClosed(_) => !self.looks_into_messages(),
            Kind::Summary(_) => true,
        }
    }

    fn shows_connection(&self, id: Option<ConnectionId>, ends: [SocketAddr; 2], people: &Members) -> bool {
        // An IPv4 client of a dual-stack socket is asked for by its IPv4 address.
        let is_end = |net: &IpNet| ends.iter().any(|end| net.contains(&end.ip().to_canonical()));
        let person = id.and_then(|id| people.of(id));
        (self.hosts.is_empty() || self.hosts.iter().any(is_end))
            && (self.connections.is_empty() || id.is_some_and(|id| self.connections.contains(&id)))
            && (self.users.is_empty()
                || person.is_some_and(|person| self.users.iter().any(|user| person.is_called(user))))
            && (self.rooms.is_empty()
                || person.is_some_and(|person| self.rooms.iter().any(|room| person.is_in_room(room))))
    }

    fn shows_claim(&self, connection: &Connection) -> bool {
        let claim = connection.client_claim.iter();
        let mut ips = claim.flat_map(|claim| claim.ips()).map(|ip| ip.to_canonical());
        ips.any(|ip| self.claimed.iter().any(|net| net.contains(&ip)))
    }

    /// Whether anything may be hidden.
    pub fn hides(&self) -> bool {
        let Self {
            hosts,
            claimed,
            connections,
            users,
            rooms,
            direction,
            opcodes,
            types,
            not_types,
            patterns,
        } = self;
        !(hosts.is_empty()
            && claimed.is_empty()
            && connections.is_empty()
            && users.is_empty()
            && rooms.is_empty()
            && direction.is_none()
            && opcodes.is_empty()
            && types.is_empty()
            && not_types.is_empty()
            && patterns.is_empty())
    }

    /// Whether it has to be known who is at the client end of a connection.
    pub fn asks_for_people(&self) -> bool {
        !(self.users.is_empty() && self.rooms.is_empty())
    }

    /// Whether messages are asked for by what they are, so that nothing else is.
    fn looks_into_messages(&self) -> bool {
        !(self.opcodes.is_empty() && self.types.is_empty() && self.patterns.is_empty())
    }

    fn shows_message(&self, message: &Message<'_>) -> bool {
        let kind = message.chat.map(|event| event.kind);
        let is_of = |types: &[String]| kind.is_some_and(|kind| types.iter().any(|it| it == kind));
        (self.opcodes.is_empty() || self.opcodes.contains(&message.opcode))
            && (self.types.is_empty() || is_of(&self.types))
            && !is_of(&self.not_types)
            && (self.patterns.is_empty() || self.matches(message))
    }

    fn matches(&self, message: &Message<'_>) -> bool {
        let known = message.payload.known;
        if self.patterns.iter().any(|pattern| pattern.is_match(known)) {
            return true;
        }
        message
            .payload
            .text
            .and_then(decode_json_text)
            .is_some_and(|decoded| self.patterns.iter().any(|pattern| pattern.is_match(decoded.as_bytes())))
    }
}

//! The only entrance: events in, records out.
//!
//! Owns the finding of a packet's connection, and the beginning and end of connections. Must not know where events
//! come from or where records go. Bounded by [`Limits`].

use core::time::Duration;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::connection::{Outlook, Shared, TcpConnection, Travel};
use crate::flow::{Reader, Rules};
use crate::holders::{Holders, Pool, Uses};
use crate::limits::{Limit, Limits};
use crate::packet::{ExistingConnection, Packet, Socket};
use crate::record::{
    CaptureCounters, CaptureLoss, Connection, Direction, GapCause, How, Kind, PacketSeen, Peer, Record, Sink,
    Summary,
};
use crate::reporter::{Beginning, Reporter, Told, count_limit};
use crate::session;
use crate::table::{Index, Key, Table};
use crate::tcp::reassembler::{self, Vantage};
use crate::tcp::segment::{self, NoSegment, Segment};
use crate::time::{MonotonicTime, Time};

/// How long a connection is kept whose observed socket has closed and of which nothing more is seen: the kernel does
/// not show what reaches a socket in TIME_WAIT, so its last packets may never come.
const LINGER: Duration = Duration::from_secs(5);

/// What a capture tells the engine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A packet was captured.
    Packet(Packet<'a>),
    /// A connection was open before the capture began. Hand it over before the first packet.
    ///
    /// It is told of at the first packet or timeout of [`ExistingConnection::time`] or later: until then its handshake
    /// may turn out to be among what was captured. One that is known, or was closed, is ignored.
    ExistingConnection(ExistingConnection),
    /// The capture's interface number `index` is called `name`. Tell it before that interface's first packet.
    Interface {
        /// As in [`Packet::interface`].
        index: u32,
        /// As the user knows it.
        name: &'a str,
    },
}

/// What the engine looks at and what it reports.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds.
    pub limits: Limits,
    /// Server ports to look at; `None` for any. Packets that carry their [`Socket`] were chosen by the capture.
    pub ports: Option<BTreeSet<u16>>,
    /// Which connections to report.
    pub report: Report,
    /// Whether to report every frame besides the messages.
    pub frames: bool,
    /// Whether frames come with their bytes as on the wire.
    pub wire: bool,
    /// Whether to report every TCP segment with an observed port, those of no known connection included.
    pub packets: bool,
    /// Whether to report what a verdict asks for: what each end has received; close frames, which tell sooner than the
    /// connection's end that somebody leaves; and that the capture lost packets.
    pub receipts: bool,
    /// What messages mean.
    pub rules: Arc<Rules>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            ports: None,
            report: Report::default(),
            frames: false,
            wire: false,
            packets: false,
            receipts: false,
            rules: Rules::built_in(),
        }
    }
}

/// Which connections to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// Every TCP connection that was established: right where the ports are known to be WebSocket's.
    #[default]
    All,
    /// Only connections on which a WebSocket upgrade request is seen, from that moment on.
    Upgrades,
}

/// Decodes a run of captured packets.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    table: Table<Tracked>,
    holders: Holders,
    shared: Shared,
    reader: Reader,
    totals: Summary,
    interfaces: HashMap<u32, Arc<str>>,
    lingering: VecDeque<Lingering>,
    /// Connections that were open before and are not told of yet, in the order in which they came.
    listed: VecDeque<Listed>,
    followed: u64,
    now: Time,
}

#[derive(Debug)]
struct Tracked {
    /// Number of the connection among all that were followed, told of or not: a place in the table is used again.
    serial: u64,
    told: Told,
    tcp: TcpConnection,
    /// Of a handshake under way: whose packets it consists of.
    listener: Option<u64>,
    netns_cookie: Option<u64>,
    /// The capture's losses when it began.
    losses: u64,
    lingers: bool,
    /// When it last held something of what is shared.
    uses: Uses,
}

impl Tracked {
    /// Who gives way first among handshakes under way, before age decides.
    const fn progress(&self) -> u8 {
        self.tcp.is_answered() as u8 + self.tcp.is_established() as u8
    }
}

#[derive(Clone, Copy, Debug)]
struct Lingering {
    until: MonotonicTime,
    index: Index,
    serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    at: Time,
    index: Index,
    serial: u64,
}

/// Where a packet belongs.
type Route = (Index, Travel);

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(config: Config) -> Self {
        Self {
            table: Table::new(config.limits.closed_connections),
            holders: Holders::default(),
            shared: Shared {
                reassembly: reassembler::Shared::default(),
                session: session::Shared::new(&config.limits, config.wire),
            },
            reader: Reader::default(),
            totals: Summary::default(),
            interfaces: HashMap::new(),
            lingering: VecDeque::new(),
            listed: VecDeque::new(),
            followed: 0,
            now: Time::default(),
            config,
        }
    }

    /// Takes one event; hands every record that follows from it to `sink`.
    pub fn handle(&mut self, event: Event<'_>, sink: &mut dyn Sink) {
        match event {
            Event::Packet(packet) => self.handle_packet(&packet, sink),
            Event::ExistingConnection(existing) => self.handle_existing_connection(&existing, sink),
            Event::Interface { index, name } => self.handle_interface(index, name),
        }
    }

    /// When [`Engine::handle_timeout`] has something to do, if no packet comes before.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        let lingering = self.lingering.front().map(|lingering| lingering.until);
        let listed = self.listed.front().map(|listed| listed.at.monotonic);
        lingering.into_iter().chain(listed).min()
    }

    /// Tells the engine that it is `now`. Packets tell it as well.
    pub fn handle_timeout(&mut self, now: Time, sink: &mut dyn Sink) {
        self.now = self.now.max(now);
        self.tell_of_listed(self.now, sink);
        while let Some(lingering) =
            self.lingering.front().copied().filter(|front| front.until <= now.monotonic)
        {
            self.lingering.pop_front();
            let Some(tracked) = self.table.get_mut(lingering.index) else { continue };
            if tracked.serial != lingering.serial {
                continue;
            }
            if !tracked.tcp.is_lingering() {
                tracked.lingers = false;
                continue;
            }
            let until = after(tracked.tcp.last_packet(), LINGER);
            if until <= now.monotonic {
                // The socket may be half closed: then its other end may go on after any time.
                if let Some(key) = self.close(lingering.index, How::Unseen, now, sink) {
                    self.table.forget_closed(&key);
                }
            } else {
                self.lingering.push_back(Lingering { until, ..lingering });
            }
        }
    }

    /// Ends the run: reports what is unfinished, every open connection, and the summary.
    pub fn finish(&mut self, capture: Option<CaptureCounters>, sink: &mut dyn Sink) {
        if let Some(last) = self.listed.back() {
            self.tell_of_listed(self.now.max(last.at), sink);
        }
        let mut indices = self.table.indices();
        indices.sort_by_key(|index| self.table.get(*index).map(|tracked| tracked.serial));
        for index in indices {
            self.close(index, How::StillOpen, self.now, sink);
        }
        self.totals.capture = capture;
        let kind = Kind::Summary(Box::new(self.totals.clone()));
        sink.handle_record(&Record { time: self.now, connection: None, stream_end: None, kind });
    }

    fn handle_interface(&mut self, index: u32, name: &str) {
        if self.interfaces.len() >= self.config.limits.interfaces && !self.interfaces.contains_key(&index) {
            count_limit(&mut self.totals, Limit::Interfaces);
        } else {
            self.interfaces.insert(index, name.into());
        }
    }

    fn handle_existing_connection(&mut self, existing: &ExistingConnection, sink: &mut dyn Sink) {
        let key = Key::Socket(existing.cookie);
        if !self.table.candidates(&key).is_empty() || self.table.was_closed(&key) {
            return;
        }
        // Nothing speaks for its being worth more than one of which packets were seen.
        if self.table.eviction(self.config.limits.connections.max(1)).is_some() {
            count_limit(&mut self.totals, Limit::Connections);
            return;
        }
        let (client, server) = match existing.role {
            Peer::Client => (existing.local, existing.remote),
            Peer::Server => (existing.remote, existing.local),
        };
        let scope = existing.netns_cookie.unwrap_or(0);
        let told = Told::new(
            canonical(client),
            canonical(server),
            None,
            scope,
            existing.time,
            Beginning::Before,
            self.config.report,
        );
        let index = self.follow(key, told, TcpConnection::existing(existing.ended_by, existing.time));
        if let Some(tracked) = self.table.get_mut(index) {
            tracked.netns_cookie = existing.netns_cookie;
        }
        self.listed.push_back(Listed { at: existing.time, index, serial: self.followed });
        self.tell_of_listed(self.now, sink);
    }

    /// Tells of the connections that were open before, as far as everything from before they were listed was taken.
    fn tell_of_listed(&mut self, now: Time, sink: &mut dyn Sink) {
        while let Some(listed) =
            self.listed.front().copied().filter(|front| front.at.monotonic <= now.monotonic)
        {
            self.listed.pop_front();
            let is_it = |tracked: &&Tracked| tracked.serial == listed.serial;
            let Some(tracked) = self.table.get(listed.index).filter(is_it) else { continue };
            if tracked.told.is_only_listed() && self.has_handshake_of(tracked) {
                // Its packets will find the handshake's entry, which has seen its beginning.
                self.table.remove(listed.index);
                continue;
            }
            let Some(tracked) = self.table.get_mut(listed.index) else { continue };
            let (config, totals, told) = (&self.config, &mut self.totals, &mut tracked.told);
            let reader = &mut self.reader;
            Reporter { config, totals, told, reader, sink, time: now }.announce();
        }
    }

    /// The connection under a key, if it was listed as open before and is not told of yet.
    fn listed_under(&self, key: &Key) -> Option<Index> {
        let index = self.table.candidates(key).first().copied()?;
        self.table.get(index)?.told.is_only_listed().then_some(index)
    }

    /// Whether an accepted socket's handshake was seen.
    fn has_handshake_of(&self, listed: &Tracked) -> bool {
        let Connection { client, server, .. } = listed.told.connection;
        let handshake = Key::Handshake { remote: client, local_port: server.port() };
        self.table.candidates(&handshake).iter().any(|index| {
            self.table.get(*index).is_some_and(|tracked| {
                tracked.tcp.is_established() && !are_apart(tracked.netns_cookie, listed.netns_cookie)
            })
        })
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, sink: &mut dyn Sink) {
        self.totals.packets += 1;
        let losses = &mut self.shared.reassembly.losses;
        let has_lost = packet.losses > *losses;
        *losses = packet.losses.max(*losses);
        self.handle_timeout(packet.time, sink);
        if has_lost && self.config.receipts {
            let kind = Kind::CaptureLoss(CaptureLoss { packets: packet.losses });
            sink.handle_record(&Record { time: packet.time, connection: None, stream_end: None, kind });
        }

        let segment = match segment::parse(packet.data, packet.length) {
            Ok(segment) => Some(segment),
            Err(reason) => {
                self.totals.packets_fragments += u64::from(reason == NoSegment::Fragment);
                self.totals.packets_malformed += u64::from(reason == NoSegment::Malformed);
                None
            }
        };
        let route = segment.and_then(|segment| Some((self.route(packet, &segment, sink)?, segment)));
        if let (true, Some(segment)) = (self.config.packets, segment) {
            self.report_packet(packet, segment, route.map(|(route, _)| route), sink);
        }
        let Some(((index, travel), segment)) = route else {
            self.totals.packets_ignored += 1;
            return;
        };
        self.table.touch(index);
        let Some(tracked) = self.table.get_mut(index) else { return };
        tracked.told.note_packet(packet.time);
        let mut reporter = Reporter {
            config: &self.config,
            totals: &mut self.totals,
            reader: &mut self.reader,
            told: &mut tracked.told,
            sink,
            time: packet.time,
        };
        match tracked.tcp.handle_segment(travel, &segment, &mut self.shared, &mut reporter) {
            Outlook::Open => {}
            Outlook::Lingering => {
                if !tracked.lingers {
                    tracked.lingers = true;
                    let until = after(packet.time, LINGER);
                    self.lingering.push_back(Lingering { until, index, serial: tracked.serial });
                }
            }
            Outlook::Over => {
                self.close(index, How::Unseen, packet.time, sink);
                return;
            }
        }
        let is_established = tracked.tcp.is_established();
        let Tracked { tcp, uses, .. } = tracked;
        self.holders.note(index, uses, |pool| tcp.holds(pool));
        if is_established {
            self.table.promote(index);
        }
        self.make_room(packet.time, sink);
    }

    /// Of what all connections hold together, half is kept free: whoever has been idle longest gives way.
    fn make_room(&mut self, time: Time, sink: &mut dyn Sink) {
        for pool in Pool::ALL {
            while self.shared.held_bytes(pool) > self.config.limits.total_bytes(pool) / 2 {
                let Some(tracked) =
                    self.holders.take_idlest(pool).and_then(|index| self.table.get_mut(index))
                else {
                    break;
                };
                let (config, totals, told) = (&self.config, &mut self.totals, &mut tracked.told);
                let reader = &mut self.reader;
                let mut reporter = Reporter { config, totals, told, reader, sink, time };
                tracked.tcp.give_up(pool, &mut self.shared, &mut reporter);
            }
        }
    }

    fn report_packet(
        &self,
        packet: &Packet<'_>,
        segment: Segment<'_>,
        route: Option<Route>,
        sink: &mut dyn Sink,
    ) {
        let is_observed = |ports: &BTreeSet<u16>| {
            packet.socket.is_some()
                || [segment.source, segment.destination].iter().any(|end| ports.contains(&end.port()))
        };
        if !self.config.ports.as_ref().is_none_or(is_observed) {
            return;
        }
        let tracked = route.and_then(|(index, travel)| Some((self.table.get(index)?, travel.direction)));
        let [position, acknowledged] =
            tracked.map_or([None, None], |(tracked, direction)| tracked.tcp.positions(direction, &segment));
        let kind = Kind::Packet(PacketSeen {
            data: packet.data,
            segment,
            scope: scope_of(packet),
            direction: tracked.map(|(_, direction)| direction),
            position,
            acknowledged,
        });
        // A connection that was not told of yet has no number.
        let connection =
            tracked.filter(|(tracked, _)| tracked.told.is_announced()).map(|(it, _)| &it.told.connection);
        sink.handle_record(&Record { time: packet.time, connection, stream_end: None, kind });
    }

    /// Finds the connection of a packet, or begins it.
    fn route(&mut self, packet: &Packet<'_>, segment: &Segment<'_>, sink: &mut dyn Sink) -> Option<Route> {
        match packet.socket {
            Some(socket) => self.route_by_socket(packet, &socket, segment, sink),
            None => self.route_by_addresses(packet, segment, sink),
        }
    }

    fn route_by_socket(
        &mut self,
        packet: &Packet<'_>,
        socket: &Socket,
        segment: &Segment<'_>,
        sink: &mut dyn Sink,
    ) -> Option<Route> {
        let direction = match (socket.role, socket.outgoing) {
            (Peer::Client, true) | (Peer::Server, false) => Direction::ClientToServer,
            (Peer::Client, false) | (Peer::Server, true) => Direction::ServerToClient,
        };
        let vantage = if socket.outgoing { Vantage::Leaving } else { Vantage::Reaching };
        let travel = Travel { direction, vantage, cut_by: cut_by(packet) };
        // The headers may have been rewritten on the way out; the other end's address is right in any case.
        let (local, remote) = if socket.outgoing {
            (segment.source, segment.destination)
        } else {
            (segment.destination, segment.source)
        };
        let is_listener = socket.remote.port() == 0;
        let local_port = socket.local.port();
        let key = Key::Socket(socket.cookie);
        let handshake = Key::Handshake { remote: canonical(remote), local_port };
        if !is_listener {
            if let Some(listed) = self.listed_under(&key)
                && ((segment.flags.syn() && socket.outgoing)
                    || self.find_handshake(&handshake, socket, is_listener, direction, segment).is_some())
            {
                // It was no more than listed; here is its beginning.
                self.table.remove(listed);
            }
            if let Some(index) = self.table.candidates(&key).first().copied() {
                // Only the observed socket itself can begin anew: what reaches it may be anybody's SYN.
                if !socket.outgoing || !self.is_new_attempt(index, direction, segment) {
                    return Some((index, travel));
                }
                self.close(index, How::Unseen, packet.time, sink);
            } else if self.table.was_closed(&key) {
                return None;
            }
        }
        if let Some(index) = self.find_handshake(&handshake, socket, is_listener, direction, segment) {
            if !is_listener {
                self.table.rename(index, key);
                if let Some(tracked) = self.table.get_mut(index) {
                    let own = canonical(socket.local);
                    if !own.ip().is_unspecified() {
                        *end_of(&mut tracked.told, socket.role) = own;
                    }
                }
            }
            return Some((index, travel));
        }

        if !self.may_begin(&handshake, socket, is_listener, segment) {
            return None;
        }
        let own = if socket.local.ip().is_unspecified() {
            SocketAddr::new(local.ip(), local_port)
        } else {
            socket.local
        };
        let other = if is_listener { remote } else { socket.remote };
        let (client, server) = match socket.role {
            Peer::Client => (own, other),
            Peer::Server => (other, own),
        };
        let key = if is_listener { handshake } else { key };
        self.make_room_for_attempt(&key, packet.time, sink);
        let index = self.begin(packet, key, client, server, segment.flags.syn(), sink);
        if let Some(tracked) = self.table.get_mut(index) {
            tracked.listener = is_listener.then_some(socket.cookie);
            tracked.netns_cookie = socket.netns_cookie;
        }
        Some((index, travel))
    }

    /// Whether a packet of a socket, of which no connection is known, begins one. What reaches a listener begins one
    /// with its SYN only: all else is judged by the kernel against a handshake, which was seen.
    fn may_begin(&self, handshake: &Key, socket: &Socket, is_listener: bool, segment: &Segment<'_>) -> bool {
        let flags = segment.flags;
        if flags.rst() {
            return false;
        }
        if flags.syn() {
            let is_answer = flags.ack();
            return match (is_listener, socket.outgoing) {
                (true, outgoing) => outgoing || !is_answer,
                (false, outgoing) => outgoing || (is_answer && socket.role == Peer::Client),
            };
        }
        if is_listener || segment.payload_length == 0 {
            return false;
        }
        // An accepted socket has its handshake's numbers: where these are known, what does not fit is not its.
        let has_handshake = self.table.candidates(handshake).iter().any(|index| {
            self.table.get(*index).is_some_and(|tracked| {
                tracked.tcp.is_established()
                    && tracked.losses == self.shared.reassembly.losses
                    && !is_elsewhere(tracked, socket, false)
            })
        });
        socket.outgoing || !has_handshake
    }

    /// Keeps the handshakes under way between two addresses within their bound.
    fn make_room_for_attempt(&mut self, key: &Key, time: Time, sink: &mut dyn Sink) {
        let attempts = self.table.candidates(key);
        if !matches!(key, Key::Handshake { .. })
            || attempts.len() < self.config.limits.handshakes_per_address.max(1)
        {
            return;
        }
        // Of equals, the first one is the oldest.
        let victim = attempts.iter().min_by_key(|index| self.table.get(**index).map(Tracked::progress));
        if let Some(victim) = victim.copied() {
            count_limit(&mut self.totals, Limit::Handshakes);
            self.close(victim, How::Evicted, time, sink);
        }
    }

    /// The handshake under way that a packet belongs to: the one whose sequence numbers it is nearest to.
    fn find_handshake(
        &self,
        key: &Key,
        socket: &Socket,
        is_listener: bool,
        direction: Direction,
        segment: &Segment<'_>,
    ) -> Option<Index> {
        let distance = |index: &Index| {
            let tracked = self.table.get(*index)?;
            if is_elsewhere(tracked, socket, is_listener) {
                return None;
            }
            if segment.flags.syn() {
                // A SYN has its connection's own number: nothing else will do.
                let initial = tracked.tcp.initial(direction);
                let answers = segment.flags.ack()
                    && tracked.tcp.is_syn_acknowledged_by(direction.reverse(), segment.acknowledgment);
                // A server may answer a repeated SYN with another number.
                let may_answer = initial.is_none() || (socket.outgoing && !tracked.tcp.is_established());
                let fits = initial == Some(segment.sequence) || (answers && may_answer);
                return fits.then_some((0, *index));
            }
            if is_listener && !tracked.tcp.is_confirmed_by(segment, self.has_lost_since(tracked)) {
                return None;
            }
            Some((tracked.tcp.distance_from_handshake(direction, segment)?, *index))
        };
        self.table.candidates(key).iter().filter_map(distance).min().map(|(_, index)| index)
    }

    const fn has_lost_since(&self, tracked: &Tracked) -> bool {
        self.shared.reassembly.losses > tracked.losses
    }

    fn route_by_addresses(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        sink: &mut dyn Sink,
    ) -> Option<Route> {
        let (source, destination) = (segment.source, segment.destination);
        let key = Key::tuple(source, destination);
        if let Some(index) = self.table.candidates(&key).first().copied() {
            let client = self.table.get(index)?.told.connection.client;
            let direction = if canonical(source) == client {
                Direction::ClientToServer
            } else {
                Direction::ServerToClient
            };
            if !self.is_new_attempt(index, direction, segment) {
                return Some((
                    index,
                    Travel { direction, vantage: Vantage::Between, cut_by: cut_by(packet) },
                ));
            }
            self.close(index, How::Unseen, packet.time, sink);
        }

        let flags = segment.flags;
        let direction = match (flags.syn(), flags.ack()) {
            (true, false) => Direction::ClientToServer,
            (true, true) => Direction::ServerToClient,
            (false, _) if segment.payload_length == 0 || flags.rst() || self.table.was_closed(&key) => {
                return None;
            }
            (false, _) => self.guess_direction(segment)?,
        };
        let (client, server) = match direction {
            Direction::ClientToServer => (source, destination),
            Direction::ServerToClient => (destination, source),
        };
        if self.config.ports.as_ref().is_some_and(|ports| !ports.contains(&server.port())) {
            return None;
        }
        let index = self.begin(packet, key, client, server, flags.syn(), sink);
        Some((index, Travel { direction, vantage: Vantage::Between, cut_by: cut_by(packet) }))
    }

    /// Which way a segment goes whose connection's beginning was not seen; `None` where it is not worth following.
    fn guess_direction(&self, segment: &Segment<'_>) -> Option<Direction> {
        let is_server = |port: u16| self.config.ports.as_ref().is_some_and(|ports| ports.contains(&port));
        if session::looks_like_request(segment.payload) {
            return Some(Direction::ClientToServer);
        }
        if session::looks_like_switch(segment.payload) {
            return Some(Direction::ServerToClient);
        }
        if self.config.report == Report::Upgrades {
            return None;
        }
        match (is_server(segment.source.port()), is_server(segment.destination.port())) {
            (true, false) => Some(Direction::ServerToClient),
            (false, true) => Some(Direction::ClientToServer),
            // Servers tend to have the lower port.
            _ if segment.source.port() < segment.destination.port() => Some(Direction::ServerToClient),
            _ => Some(Direction::ClientToServer),
        }
    }

    /// Whether a segment opens a new connection under the key of one that is known.
    fn is_new_attempt(&self, index: Index, direction: Direction, segment: &Segment<'_>) -> bool {
        let Some(tracked) = self.table.get(index) else { return false };
        let is_known = tracked.tcp.initial(direction).is_some_and(|initial| initial == segment.sequence);
        match (segment.flags.syn(), segment.flags.ack()) {
            (true, false) => direction == Direction::ServerToClient || !is_known,
            // The answer to a SYN that was not captured.
            (true, true) => !is_known && tracked.tcp.has_payload(),
            (false, _) => false,
        }
    }

    fn begin(
        &mut self,
        packet: &Packet<'_>,
        key: Key,
        client: SocketAddr,
        server: SocketAddr,
        from_start: bool,
        sink: &mut dyn Sink,
    ) -> Index {
        while let Some(oldest) = self.table.eviction(self.config.limits.connections.max(1)) {
            count_limit(&mut self.totals, Limit::Connections);
            self.close(oldest, How::Evicted, packet.time, sink);
        }
        self.table.forget_closed(&key);
        let interface = packet.interface.and_then(|index| self.interfaces.get(&index).cloned());
        let told = Told::new(
            canonical(client),
            canonical(server),
            interface,
            scope_of(packet),
            packet.time,
            if from_start { Beginning::Seen } else { Beginning::Unseen },
            self.config.report,
        );
        self.follow(key, told, TcpConnection::new(from_start, packet.time))
    }

    fn follow(&mut self, key: Key, told: Told, tcp: TcpConnection) -> Index {
        self.followed += 1;
        let tracked = Tracked {
            serial: self.followed,
            told,
            tcp,
            listener: None,
            netns_cookie: None,
            losses: self.shared.reassembly.losses,
            lingers: false,
            uses: Uses::default(),
        };
        self.table.insert(key, tracked)
    }

    fn close(&mut self, index: Index, unseen: How, time: Time, sink: &mut dyn Sink) -> Option<Key> {
        let (key, mut tracked) = self.table.remove(index)?;
        self.holders.forget(&tracked.uses);
        let is_evicted = unseen == How::Evicted;
        if !is_evicted && !matches!(key, Key::Handshake { .. }) {
            self.table.remember_closed(key);
        }
        let mut reporter = Reporter {
            config: &self.config,
            totals: &mut self.totals,
            reader: &mut self.reader,
            told: &mut tracked.told,
            sink,
            time,
        };
        tracked.tcp.close(unseen, &mut self.shared, &mut reporter);
        if let Some(chat) = tracked.told.chat() {
            self.reader.leave(chat);
        }
        Some(key)
    }
}

/// Whether a handshake under way is known to be in another network namespace than a socket.
fn is_elsewhere(tracked: &Tracked, socket: &Socket, is_listener: bool) -> bool {
    match (tracked.netns_cookie, socket.netns_cookie) {
        (Some(one), Some(other)) => one != other,
        _ => is_listener && tracked.listener != Some(socket.cookie),
    }
}

/// Whether two network namespaces are known to be different ones.
fn are_apart(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

const fn cut_by(packet: &Packet<'_>) -> GapCause {
    if packet.rest_lost { GapCause::CaptureLoss } else { GapCause::SnapLength }
}

const fn end_of(told: &mut Told, peer: Peer) -> &mut SocketAddr {
    match peer {
        Peer::Client => &mut told.connection.client,
        Peer::Server => &mut told.connection.server,
    }
}

/// An IPv4 connection of an IPv6 socket shows its IPv4 addresses, as tcpdump does.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), address.port()),
    }
}

fn scope_of(packet: &Packet<'_>) -> u64 {
    packet.socket.and_then(|socket| socket.netns_cookie).unwrap_or(0)
}

fn after(time: Time, duration: Duration) -> MonotonicTime {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    MonotonicTime(time.monotonic.0.saturating_add(nanoseconds))
}

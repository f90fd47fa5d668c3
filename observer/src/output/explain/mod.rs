//! The transcript for people: what each packet is in the conversation, in a sentence; the packet, as tcpdump prints it;
//! and what it says, in clear.
//!
//! Owns which sentence a packet gets, and the order of sentence, packet and content. Must not know where lines go, nor
//! how the chat's users are told apart, which `people` does, nor what is delivered, which the verifier judges. Bounded:
//! keeps what waits for its acknowledgment (`WAITING_MAX` things a direction, `WAITING_TOTAL_MAX` in all), and the number
//! of each case under way of which something was told, `CASES_MAX` of them.

mod sentences;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use observer_core::Record;
use observer_core::flow::verdict::{Case, Fault, Outcome, Party, Stage, Told};
use observer_core::flow::verifier::CASES_MAX;
use observer_core::flow::{Act, Chat, Event, Recipient, User, chat_of};
use observer_core::record::{
    Connection, ConnectionId, Direction, Frame, GapCause, Handshake, How, Kind, Message,
};
use observer_core::tcp::segment::Flags;
use observer_core::websocket::frame::Opcode;

pub use self::sentences::Language;
use self::sentences::{Sentence, anomaly_words, fill};
use super::clock::TimeStyle;
use super::escape::write_text;
use super::packets::Layout;
use super::palette::Palette;
use super::text::{Detail, Text, milliseconds};
use observer_core::flow::{Members, Person};

/// Things of one direction that may wait for their acknowledgment; of further ones none is told.
const WAITING_MAX: usize = 64;

/// The same, of all connections together.
const WAITING_TOTAL_MAX: usize = 65_536;

/// Connections that are remembered after their end.
const CLOSED_MAX: usize = 64;

/// Characters of a name or of what somebody says that are put into a sentence. All of it is below the packet.
const QUOTED_CHARACTERS_MAX: usize = 60;

/// Lays out records as a transcript.
#[derive(Debug)]
pub struct Explain {
    language: Language,
    palette: Palette,
    text: Text,
    streams: HashMap<ConnectionId, Streams>,
    /// Cases of which it was told how far they are, until their verdict.
    told: BTreeMap<u64, Stage>,
    closed: VecDeque<Closed>,
    group: Group,
    waiting_total: usize,
    left_out: u64,
    connections: u64,
}

/// What is known of the two streams of a connection, for [`Direction::of`].
#[derive(Debug, Default)]
struct Streams {
    waiting: [VecDeque<Waiting>; 2],
    sent: [u64; 2],
    acknowledged: [u64; 2],
    /// Whether the last record of this connection was shown.
    is_shown: bool,
    /// Whether it was open before, and no packet of it came yet.
    is_only_listed: bool,
}

/// Something that was sent, and is not known to have arrived.
#[derive(Debug)]
struct Waiting {
    end: u64,
    what: String,
}

/// A connection that is over, of which a last packet may come.
#[derive(Debug)]
struct Closed {
    id: ConnectionId,
    is_shown: bool,
    client: SocketAddr,
    server: SocketAddr,
    name: String,
}

/// What belongs to one packet.
#[derive(Debug, Default)]
struct Group {
    packet: Option<Packet>,
    line: Vec<u8>,
    connection: Option<Connection>,
    opens: bool,
    /// What the payload says.
    sentences: Vec<String>,
    /// What the header says, or what follows from it.
    last_sentences: Vec<String>,
    /// What is told whether the packet is shown or not.
    outcomes: Vec<String>,
    content: Vec<u8>,
    /// Whether any record that came with it is shown, where any came.
    records_shown: Option<bool>,
    packet_shown: bool,
}

/// What is said of a packet's header once its payload is known.
#[derive(Clone, Copy, Debug)]
struct Packet {
    source: SocketAddr,
    destination: SocketAddr,
    flags: Flags,
    payload_length: u32,
    direction: Option<Direction>,
    position: Option<u64>,
    acknowledged: Option<u64>,
}

impl Explain {
    /// A transcript that has told nothing.
    pub fn new(language: Language, time: TimeStyle, palette: Palette, packet_bytes: Layout) -> Self {
        let detail = Detail { verbose: true, packet_bytes, ..Detail::default() };
        Self {
            language,
            palette,
            text: Text::new(time, palette, detail),
            streams: HashMap::new(),
            told: BTreeMap::new(),
            closed: VecDeque::new(),
            group: Group::default(),
            waiting_total: 0,
            left_out: 0,
            connections: 0,
        }
    }

    /// Takes a record. What it tells is laid out with the packet that it came with; `is_shown`: no filter hides it.
    pub fn handle(&mut self, out: &mut Vec<u8>, record: &Record<'_>, people: &Members, is_shown: bool) {
        match (&record.kind, record.connection) {
            (Kind::Packet(packet), connection) => {
                self.end_packet(out, people);
                self.group.packet_shown = is_shown;
                self.group.connection = connection.cloned();
                self.text.write_packet(&mut self.group.line, record.time, packet);
                self.group.packet = Some(Packet {
                    source: packet.segment.source,
                    destination: packet.segment.destination,
                    flags: packet.segment.flags,
                    payload_length: packet.segment.payload_length,
                    direction: packet.direction,
                    position: packet.position,
                    acknowledged: packet.acknowledged,
                });
            }
            (Kind::Summary(_), _) => self.end(out, people),
            (_, None) => {}
            (kind, Some(connection)) => {
                let is_shown = is_shown && !self.leaves_untouched(kind, connection);
                let closes = matches!(kind, Kind::ConnectionClosed(_));
                if closes && let Some(packet) = self.group.packet.take() {
                    // While it is known who is who.
                    self.explain_packet(packet, people);
                }
                if self.group.connection.is_none() {
                    self.group.connection = Some(connection.clone());
                }
                if !matches!(kind, Kind::ConnectionOpened(_)) {
                    *self.group.records_shown.get_or_insert(false) |= is_shown;
                    self.streams.entry(connection.id).or_default().is_shown = is_shown;
                }
                let before = [self.group.sentences.len(), self.group.last_sentences.len()];
                self.explain(kind, connection, record.stream_end, people);
                if !is_shown {
                    self.group.sentences.truncate(before[0]);
                    self.group.last_sentences.truncate(before[1]);
                } else if !matches!(kind, Kind::ConnectionOpened(_)) {
                    self.group.content.extend(b"    ");
                    self.text.write_content(&mut self.group.content, record);
                    self.group.content.push(b'\n');
                }
                if closes && self.group.line.is_empty() {
                    self.end_packet(out, people);
                }
            }
        }
    }

    /// Whether a connection that was open before is left without a packet of it: then there is nothing to tell.
    fn leaves_untouched(&self, kind: &Kind<'_>, connection: &Connection) -> bool {
        let is_left = |how| matches!(how, How::StillOpen | How::Evicted);
        matches!(kind, Kind::ConnectionClosed(closed) if is_left(closed.how))
            && self.streams.get(&connection.id).is_some_and(|streams| streams.is_only_listed)
    }

    /// Lays out what belongs to the packet before: nothing further of it comes.
    pub fn end_packet(&mut self, out: &mut Vec<u8>, people: &Members) {
        if let Some(packet) = self.group.packet.take() {
            self.explain_packet(packet, people);
        }
        let mut group = std::mem::take(&mut self.group);
        // Of a packet all of whose messages are hidden, nothing is left to show.
        let is_shown = group.records_shown.unwrap_or(group.packet_shown);
        if !is_shown {
            group = Group { outcomes: group.outcomes, ..Group::default() };
        }
        group.sentences.append(&mut group.last_sentences);
        group.sentences.append(&mut group.outcomes);
        if group.sentences.is_empty() && group.line.is_empty() && group.content.is_empty() {
            return;
        }
        for sentence in &group.sentences {
            out.extend(self.palette.event.as_bytes());
            out.extend(b"# ");
            write_text(out, sentence, self.palette.escape);
            out.extend(self.palette.reset.as_bytes());
            out.push(b'\n');
        }
        for part in [group.line, group.content] {
            out.extend(&part);
            if part.last().is_some_and(|last| *last != b'\n') {
                out.push(b'\n');
            }
        }
        out.push(b'\n');
    }

    fn end(&mut self, out: &mut Vec<u8>, people: &Members) {
        self.end_packet(out, people);
        let mut last = vec![self.sentence(Sentence::Legend, &[])];
        if self.left_out > 0 {
            last.push(self.sentence(Sentence::LeftOut, &[&self.left_out.to_string()]));
        }
        last.push(self.sentence(Sentence::Connections, &[&self.connections.to_string()]));
        for sentence in last {
            out.extend(sentence.as_bytes());
            out.push(b'\n');
        }
    }

    fn sentence(&self, sentence: Sentence, values: &[&str]) -> String {
        fill(sentence.template(self.language), values)
    }

    fn say(&mut self, sentence: Sentence, values: &[&str]) {
        let said = self.sentence(sentence, values);
        self.group.sentences.push(said);
    }

    fn explain_packet(&mut self, packet: Packet, people: &Members) {
        let Packet { flags, payload_length, .. } = packet;
        let asks = flags.syn() && !flags.ack();
        let of_syn = if asks { Direction::ClientToServer } else { Direction::ServerToClient };
        let Some(direction) = packet.direction.or(flags.syn().then_some(of_syn)) else {
            return self.explain_stray(packet);
        };
        let (client, server) = match direction {
            Direction::ClientToServer => (packet.source, packet.destination),
            Direction::ServerToClient => (packet.destination, packet.source),
        };
        let connection = self.group.connection.clone();
        let client = connection
            .as_ref()
            .map_or_else(|| client.to_string(), |connection| self.client_name(connection, people));
        let known = connection.as_ref().and_then(|connection| self.streams.get_mut(&connection.id));
        if known.is_some_and(|streams| std::mem::take(&mut streams.is_only_listed)) {
            let told = self.sentence(Sentence::OpenBefore, &[&client, &server.to_string()]);
            self.group.sentences.insert(0, told);
        }
        if flags.syn() {
            let server = server.to_string();
            return if asks {
                self.say(Sentence::HandshakeSyn, &[&client, &server]);
            } else {
                self.say(Sentence::HandshakeSynAck, &[&server, &client]);
            };
        }
        let sender = match direction {
            Direction::ClientToServer => client.clone(),
            Direction::ServerToClient => self.sentence(Sentence::TheServer, &[]),
        };
        if self.group.opens && direction == Direction::ClientToServer {
            let told = self.sentence(Sentence::HandshakeAck, &[&client]);
            self.group.sentences.insert(0, told);
        } else if payload_length > 0 && self.group.sentences.is_empty() {
            self.explain_payload(packet, connection.as_ref(), direction, &sender);
        }
        for (is_set, sentence) in [(flags.fin(), Sentence::Fin), (flags.rst(), Sentence::Reset)] {
            if is_set {
                self.say(sentence, &[&sender]);
            }
        }
        let Some(connection) = connection else { return };
        let streams = self.streams.entry(connection.id).or_default();
        if let Some(position) = packet.position {
            let end = position + u64::from(payload_length);
            let sent = direction.of_mut(&mut streams.sent);
            *sent = end.max(*sent);
            if flags.fin() {
                self.wait(connection.id, direction, Some(end + 1), Sentence::TheFin, &[]);
            }
        }
        if let Some(to) = packet.acknowledged {
            self.explain_acknowledgment(to, connection.id, direction, &sender);
        }
        if self.group.sentences.is_empty() && self.group.last_sentences.is_empty() {
            self.say(Sentence::AcknowledgesNothing, &[&sender]);
        }
    }

    /// A packet behind the end of its connection, most often the acknowledgment of the last FIN.
    fn explain_stray(&mut self, packet: Packet) {
        let Packet { source, destination, flags, payload_length, .. } = packet;
        let of_client = |it: &&Closed| (it.client, it.server) == (source, destination);
        let of_server = |it: &&Closed| (it.client, it.server) == (destination, source);
        let is_last = payload_length == 0 && flags.0 == Flags::ACK;
        let sender = self.closed.iter().rev().find(of_client).map(|closed| closed.name.clone());
        let sender = sender.or_else(|| {
            self.closed.iter().any(|it| of_server(&it)).then(|| self.sentence(Sentence::TheServer, &[]))
        });
        match sender {
            Some(sender) if flags.rst() => self.say(Sentence::Reset, &[&sender]),
            Some(sender) if is_last => self.say(Sentence::LastAcknowledgment, &[&sender]),
            Some(sender) => self.say(Sentence::AfterTheEnd, &[&sender]),
            None => self.say(Sentence::OfNoConnection, &[]),
        }
    }

    /// A payload of which nothing was told: it ends nothing.
    fn explain_payload(
        &mut self,
        packet: Packet,
        connection: Option<&Connection>,
        direction: Direction,
        sender: &str,
    ) {
        let bytes = packet.payload_length.to_string();
        let sent = connection
            .and_then(|connection| self.streams.get(&connection.id))
            .map_or(0, |streams| *direction.of(&streams.sent));
        let end = packet.position.map(|position| position + u64::from(packet.payload_length));
        if end.is_some_and(|end| end <= sent) {
            self.say(Sentence::SentAgain, &[sender, &bytes]);
        } else {
            self.say(Sentence::PartOfMessage, &[sender, &bytes]);
        }
    }

    fn explain_acknowledgment(
        &mut self,
        to: u64,
        connection: ConnectionId,
        direction: Direction,
        receiver: &str,
    ) {
        let other = direction.reverse();
        let streams = self.streams.entry(connection).or_default();
        let acknowledged = other.of_mut(&mut streams.acknowledged);
        let before = *acknowledged;
        *acknowledged = to.max(before);
        let waiting = other.of_mut(&mut streams.waiting);
        let mut arrived = Vec::new();
        while waiting.front().is_some_and(|first| first.end <= to) {
            arrived.extend(waiting.pop_front().map(|first| first.what));
        }
        self.waiting_total -= arrived.len();
        if !arrived.is_empty() {
            let told =
                self.sentence(Sentence::Acknowledges, &[receiver, &arrived.join(self.language.comma())]);
            self.group.last_sentences.push(told);
        } else if to > before && self.group.sentences.is_empty() {
            self.say(Sentence::AcknowledgesBytes, &[receiver, &to.to_string()]);
        }
    }

    /// Takes what the verifier tells. `people` are as they were then; `hides`: a filter hides something.
    pub fn tell(&mut self, told: &Told<'_>, people: &Members, hides: bool) {
        let case = told.case;
        let what = match case.trigger.does {
            Some(Act::Say) => {
                let content = case.trigger.content.as_ref().map_or("", |content| &content.text);
                self.sentence(Sentence::TheSaying, &[&quoted(content)])
            }
            Some(Act::Join) => self.sentence(Sentence::TheLogin, &[&party_name(&case.trigger.party, people)]),
            _ => return,
        };
        let before = match told.stage {
            Stage::Complete | Stage::Overdue => self.told.get(&case.number).copied(),
            Stage::Verdict | Stage::Refused | Stage::Unheard => self.told.remove(&case.number),
        };
        let is_news = match (told.stage, before) {
            (Stage::Refused | Stage::Unheard, _) | (Stage::Verdict, Some(Stage::Complete)) => false,
            // What is sent may still be acknowledged.
            (Stage::Overdue, _) => is_lost(case),
            (Stage::Verdict, Some(_)) => case.outcome != Outcome::Violated,
            (Stage::Complete | Stage::Verdict, _) => true,
        };
        if !is_news {
            return;
        }
        if told.stage != Stage::Verdict {
            if self.told.len() >= CASES_MAX {
                self.told.pop_first();
            }
            self.told.insert(case.number, told.stage);
        }
        let sentence = delivery(case);
        let (arrived, of) = (case.arrived.to_string(), case.expected.to_string());
        let said = self.sentence(sentence, &[&arrived, &of, &what]);
        // Shown with the sender's connection, or that of the packet by which it is known.
        let is_shown = |id: ConnectionId| match self.streams.get(&id) {
            Some(streams) => streams.is_shown,
            None => self.closed.iter().any(|closed| closed.id == id && closed.is_shown),
        };
        let of_packet = self.group.connection.as_ref().map(|connection| connection.id);
        if !hides || is_shown(case.trigger.party.connection) || of_packet.is_some_and(is_shown) {
            self.group.outcomes.push(said);
        }
    }

    fn explain(
        &mut self,
        kind: &Kind<'_>,
        connection: &Connection,
        stream_end: Option<u64>,
        people: &Members,
    ) {
        match kind {
            Kind::ConnectionOpened(opened) => {
                self.connections += 1;
                self.group.opens = opened.from_start;
                if opened.was_listed {
                    self.streams.entry(connection.id).or_default().is_only_listed = true;
                }
            }
            Kind::ProxyHeader(header) => {
                let peer = connection.client.to_string();
                match (header.source, header.destination) {
                    (Some(source), Some(destination)) => {
                        let (source, destination) = (source.to_string(), destination.to_string());
                        self.say(Sentence::ProxyHeader, &[&peer, &source, &destination]);
                    }
                    _ => self.say(Sentence::ProxyHeaderOfNobody, &[&peer]),
                }
            }
            Kind::Handshake(handshake) => self.explain_handshake(handshake, connection, stream_end, people),
            Kind::Frame(frame) => self.explain_frame(frame, connection, stream_end, people),
            Kind::Message(message) => self.explain_message(message, connection, stream_end, people),
            Kind::Gap(gap) => {
                let sender = self.sender_name(connection, gap.direction, people);
                let bytes = gap.length.to_string();
                let cause = self.sentence(cause(gap.cause), &[]);
                self.say(Sentence::Gap, &[&sender, &bytes, &cause]);
            }
            Kind::Anomaly(anomaly) => {
                let what = anomaly_words(anomaly.code, self.language);
                match anomaly.code.section() {
                    "" => self.say(Sentence::Anomaly, &[what]),
                    section => self.say(Sentence::AnomalyOfRule, &[what, section]),
                }
            }
            Kind::ConnectionClosed(closed) => {
                let (client, server) = (self.client_name(connection, people), connection.server.to_string());
                let sentence = if closed.how == How::StillOpen { Sentence::Open } else { Sentence::Closed };
                let told = self.sentence(sentence, &[&client, &server]);
                self.group.last_sentences.push(told);
                if closed.how == How::StillOpen {
                    // The run ends: what it comes to is told behind this.
                    return;
                }
                let streams = self.streams.remove(&connection.id).unwrap_or_default();
                self.waiting_total -= streams.waiting.iter().map(VecDeque::len).sum::<usize>();
                if self.closed.len() >= CLOSED_MAX {
                    self.closed.pop_front();
                }
                self.closed.push_back(Closed {
                    id: connection.id,
                    is_shown: streams.is_shown,
                    client: connection.client,
                    server: connection.server,
                    name: client,
                });
            }
            Kind::Packet(_) | Kind::Received(_) | Kind::CaptureLoss(_) | Kind::Summary(_) => {}
        }
    }

    fn explain_handshake(
        &mut self,
        handshake: &Handshake<'_>,
        connection: &Connection,
        stream_end: Option<u64>,
        people: &Members,
    ) {
        let client = self.client_name(connection, people);
        let path = quoted(handshake.path.unwrap_or("?"));
        let reason = quoted(handshake.reason.unwrap_or_default());
        match handshake.status {
            None if handshake.is_upgrade => {
                self.say(Sentence::UpgradeRequest, &[&client, &path]);
                self.wait(connection.id, handshake.direction, stream_end, Sentence::TheUpgradeRequest, &[]);
            }
            None => {
                self.say(Sentence::PlainRequest, &[&client, &quoted(handshake.method.unwrap_or("?")), &path]);
            }
            Some(_) if handshake.accepted == Some(true) => {
                self.say(Sentence::UpgradeAnswer, &[]);
                self.wait(connection.id, handshake.direction, stream_end, Sentence::TheUpgradeAnswer, &[]);
            }
            Some(status) if handshake.is_upgrade && handshake.accepted.is_some() => {
                self.say(Sentence::UpgradeRefused, &[&status.to_string(), &reason]);
            }
            Some(status) => self.say(Sentence::PlainAnswer, &[&status.to_string(), &reason]),
        }
        if let (None, Some(claim)) = (handshake.status, &connection.client_claim) {
            let (address, peer) = (claim.address.to_string(), connection.client.to_string());
            self.say(Sentence::ClientClaimed, &[&address, claim.by.title(), &peer]);
        }
    }

    fn explain_frame(
        &mut self,
        frame: &Frame<'_>,
        connection: &Connection,
        stream_end: Option<u64>,
        people: &Members,
    ) {
        let sender = self.sender_name(connection, frame.direction, people);
        let what = match frame.header.opcode {
            Opcode::Close => {
                let code = frame.close.and_then(|close| close.code);
                let code = code.map_or_else(String::new, |code| format!(" ({code})"));
                self.say(Sentence::Close, &[&sender, &code]);
                Sentence::ACloseFrame
            }
            Opcode::Ping => {
                self.say(Sentence::Ping, &[&sender]);
                Sentence::AControlFrame
            }
            Opcode::Pong => {
                match frame.round_trip {
                    Some(round_trip) => {
                        let other = self.sender_name(connection, frame.direction.reverse(), people);
                        self.say(Sentence::PongAfter, &[&sender, &other, &milliseconds(round_trip)]);
                    }
                    None => self.say(Sentence::Pong, &[&sender]),
                }
                Sentence::AControlFrame
            }
            _ => return,
        };
        self.wait(connection.id, frame.direction, stream_end, what, &[]);
    }

    fn explain_message(
        &mut self,
        message: &Message<'_>,
        connection: &Connection,
        stream_end: Option<u64>,
        people: &Members,
    ) {
        if let Some(event) = message.chat
            && self.explain_event(event, message.direction, connection, stream_end, people)
        {
            return;
        }
        let sender = self.sender_name(connection, message.direction, people);
        let opcode = message.opcode.to_string();
        if message.payload.undecoded.is_some() {
            self.say(Sentence::MessageUndecoded, &[&sender, &opcode]);
        } else {
            let length = message.length.map_or_else(|| "?".to_owned(), |length| length.to_string());
            match message.chat {
                Some(event) => self.say(Sentence::NamedMessage, &[&sender, event.kind, &opcode, &length]),
                None => self.say(Sentence::Message, &[&sender, &opcode, &length]),
            }
        }
        self.wait(connection.id, message.direction, stream_end, Sentence::AMessage, &[]);
    }

    /// Says what happens in the chat; false where the rules only have a name for it.
    fn explain_event(
        &mut self,
        event: &Event<'_>,
        direction: Direction,
        connection: &Connection,
        stream_end: Option<u64>,
        people: &Members,
    ) -> bool {
        let here = self.client_name(connection, people);
        let content = quoted(event.content.as_deref().unwrap_or_default());
        let chat = chat_of(connection);
        let user = event.user.as_ref();
        let uid = user.and_then(|user| user.uid.as_ref());
        let whom =
            |this: &Self| user.map_or_else(|| "?".to_owned(), |user| this.user_name(user, chat, people));
        let id = connection.id;
        let is_own = uid.is_some() && people.of(id).is_some_and(|person| person.uid.as_ref() == uid);
        match (event.does(), direction) {
            (Some(Act::Join), Direction::ClientToServer) => {
                let name = user.and_then(|user| user.name.as_deref()).map_or_else(|| "?".to_owned(), named);
                self.say(Sentence::LogsIn, &[&name]);
                self.wait(id, direction, stream_end, Sentence::TheLogin, &[&name]);
            }
            (Some(Act::Join), Direction::ServerToClient) => {
                let name = whom(self);
                if is_own {
                    self.say(Sentence::LoginConfirmed, &[&name]);
                    if event.users.is_some() {
                        self.say_users(event, &here, chat, people);
                    }
                } else {
                    self.say(Sentence::LoginAnnounced, &[&name, &here]);
                }
                self.wait(id, direction, stream_end, Sentence::TheLogin, &[&name]);
            }
            (Some(Act::Say), Direction::ClientToServer) => {
                self.explain_say(event, connection, &here, &content, people);
                self.wait(id, direction, stream_end, Sentence::TheSaying, &[&content]);
            }
            (Some(Act::Say), Direction::ServerToClient) => {
                let name = whom(self);
                if is_own {
                    self.say(Sentence::SayReturned, &[&name]);
                } else {
                    self.say(Sentence::SayPassedOn, &[&name, &here]);
                }
                self.wait(id, direction, stream_end, Sentence::TheSaying, &[&content]);
            }
            (Some(Act::List), Direction::ServerToClient) => {
                self.say_users(event, &here, chat, people);
                self.wait(id, direction, stream_end, Sentence::TheUserList, &[]);
            }
            (Some(Act::Leave), Direction::ServerToClient) => {
                let name = whom(self);
                self.say(Sentence::LogoutAnnounced, &[&name, &here]);
                self.wait(id, direction, stream_end, Sentence::TheLogout, &[&name]);
            }
            (Some(Act::Leave), Direction::ClientToServer) => self.say(Sentence::LogsOut, &[&here]),
            (Some(Act::Ping), Direction::ServerToClient) => self.say(Sentence::ChatPing, &[&here]),
            (Some(Act::Pong), Direction::ClientToServer) => self.say(Sentence::ChatPong, &[&here]),
            (Some(Act::Refuse), Direction::ServerToClient) => {
                let code = quoted(event.code.as_deref().unwrap_or("?"));
                self.say(Sentence::ChatError, &[&here, &code]);
            }
            (
                None
                | Some(Act::List | Act::Pong | Act::Ping | Act::Refuse | Act::Subscribe | Act::Unsubscribe),
                Direction::ClientToServer | Direction::ServerToClient,
            ) => return false,
        }
        true
    }

    fn say_users(&mut self, event: &Event<'_>, here: &str, chat: Chat, people: &Members) {
        let users = event.users.as_deref().unwrap_or_default();
        let names: Vec<_> = users.iter().take(8).map(|user| self.user_name(user, chat, people)).collect();
        let comma = self.language.comma();
        let more = if users.len() > names.len() { [comma, "…"].concat() } else { String::new() };
        self.say(Sentence::UserList, &[here, &(names.join(comma) + &more)]);
    }

    fn explain_say(
        &mut self,
        event: &Event<'_>,
        connection: &Connection,
        here: &str,
        content: &str,
        people: &Members,
    ) {
        match &event.recipient {
            Some(Recipient::Uid(uid)) => {
                let user = User { uid: Some(uid.clone()), name: None };
                let name = self.user_name(&user, chat_of(connection), people);
                self.say(Sentence::SaysToOne, &[here, &name, content]);
            }
            _ => self.say(Sentence::SaysToAll, &[here, content]),
        }
    }

    /// Notes something whose arrival is to be told.
    fn wait(
        &mut self,
        connection: ConnectionId,
        direction: Direction,
        stream_end: Option<u64>,
        what: Sentence,
        values: &[&str],
    ) {
        let Some(end) = stream_end else { return };
        let what = self.sentence(what, values);
        let waiting = direction.of_mut(&mut self.streams.entry(connection).or_default().waiting);
        if waiting.len() < WAITING_MAX && self.waiting_total < WAITING_TOTAL_MAX {
            waiting.push_back(Waiting { end, what });
            self.waiting_total += 1;
        } else {
            self.left_out += 1;
        }
    }

    fn sender_name(&self, connection: &Connection, direction: Direction, people: &Members) -> String {
        match direction {
            Direction::ServerToClient => self.sentence(Sentence::TheServer, &[]),
            Direction::ClientToServer => self.client_name(connection, people),
        }
    }

    /// A user's name, once it is known; before, the browser's address.
    fn client_name(&self, connection: &Connection, people: &Members) -> String {
        let person = people.of(connection.id);
        match person.and_then(Person::name_or_claim) {
            // Two of one name are told apart by their connections.
            Some(name) if people.is_ambiguous(connection.id) => {
                format!("{} (#{})", named(name), connection.id)
            }
            Some(name) => named(name),
            None => connection.client.to_string(),
        }
    }

    fn user_name(&self, user: &User<'_>, chat: Chat, people: &Members) -> String {
        let connection = user.uid.as_ref().and_then(|uid| people.by_uid(chat, uid));
        let known = connection.and_then(|id| Some((id, people.of(id)?.name_or_claim()?)));
        match (known, &user.name, &user.uid) {
            (Some((id, name)), _, _) if people.is_ambiguous(id) => format!("{} (#{id})", named(name)),
            (Some((_, name)), _, _) => named(name),
            (None, Some(name), _) => named(name),
            (None, None, Some(uid)) => {
                people.name_of(chat, uid).map_or_else(|| named(&uid.to_string()), named)
            }
            (None, None, None) => "?".to_owned(),
        }
    }
}

/// What is to be said of how far a case is.
fn delivery(case: &Case<'_>) -> Sentence {
    match case.outcome {
        Outcome::Held | Outcome::Late => Sentence::Delivered,
        Outcome::Violated if is_lost(case) => Sentence::NotDelivered,
        // All have it, and what is wrong is another thing.
        Outcome::Violated if case.arrived >= case.expected => Sentence::Delivered,
        Outcome::Violated | Outcome::Inconclusive => Sentence::DeliveryUnknown,
    }
}

/// Whether somebody was surely not sent it.
fn is_lost(case: &Case<'_>) -> bool {
    case.outcome == Outcome::Violated
        && case.deviations.iter().any(|it| matches!(it.fault, Fault::Lost | Fault::Blocked | Fault::Altered))
}

/// As somebody is called in every other sentence.
fn party_name(party: &Party, people: &Members) -> String {
    match (&party.name, &party.uid) {
        (Some(name), _) if people.is_ambiguous(party.connection) => {
            format!("{} (#{})", named(name), party.connection)
        }
        (Some(name), _) => named(name),
        (None, Some(uid)) => named(&uid.to_string()),
        (None, None) => party.client.to_string(),
    }
}

const fn cause(cause: GapCause) -> Sentence {
    match cause {
        GapCause::SnapLength => Sentence::CutBySnapLength,
        GapCause::CaptureLoss => Sentence::LostByCapture,
        GapCause::NeverSeen => Sentence::NeverSeen,
        GapCause::Limit => Sentence::GivenUpAtLimit,
    }
}

/// A name as it stands in a sentence: in quotes where it could be taken for something else.
fn named(name: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    let is_own_word = name == Sentence::TheServer.template(Language::Zh);
    if !name.is_empty() && !is_own_word && name.chars().all(is_plain) {
        return quoted(name);
    }
    format!("“{}”", quoted(name))
}

/// The beginning of what a peer said, for a sentence, without what could end a quotation.
fn quoted(text: &str) -> String {
    let replace = |character: char| if matches!(character, '“' | '”') { '"' } else { character };
    let mut quoted: String = text.chars().take(QUOTED_CHARACTERS_MAX).map(replace).collect();
    if text.chars().nth(QUOTED_CHARACTERS_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

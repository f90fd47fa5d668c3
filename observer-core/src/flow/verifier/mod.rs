//! Whether what has to happen happens: records in, verdicts out.
//!
//! Owns every case under way, what no case explains, and the totals. Must not know how messages are read, nor how a
//! verdict is laid out. Bounded: [`CASES_MAX`] cases, [`CASES_OF_ONE_SENDER_MAX`] that one connection began, with
//! [`ENTRIES_MAX`] recipients and wordings in all, and [`EXTRAS_MAX`] messages that nothing explains: of each the oldest
//! gives way of whoever holds most, is told of as it stands, with what is open as inconclusive, and is counted. Of what
//! clients say before it is known what their server speaks, [`EARLY_BYTES_MAX`] are kept a chat.
//!
//! Deterministic: the same records give the same verdicts. Time is that of the records.
//!
//! A message is *sent* when the server's segment passes, and *received* when the recipient's kernel acknowledges it. Who
//! has to get something is settled when the flow begins: those who were confirmed as members by then. Who joins or
//! leaves while it is on its way may get it and need not. Equal contents repeat: of equal messages each explains one.
//! Nothing is called a violation where something that was not seen could explain it.

mod bounds;
mod case;
mod ends;
mod extras;
mod judgement;
mod keys;
mod matching;
mod opening;
mod plan;
mod shares;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use self::case::OpenCase;
use self::ends::{ChatState, Early, End};
use self::keys::{Key, Keys};
use self::plan::Plan;
use self::shares::Shares;
use super::dialect::{Act, Dialect};
use super::event::{Event, Recipient, Uid};
use super::flows::Flow;
use super::latency::Histogram;
use super::members::{Members, Standing};
use super::rules::{DialectSet, Rules};
use super::verdict::{
    Cause, Causes, Fault, FieldSeen, FlowTotals, Outcome, Party, Quote, Stage, Told, TriggerSeen,
};
use super::{Chat, MAXIMUM_JSON_BYTES, chat_of};
use crate::record::{
    Connection, ConnectionClosed, ConnectionId, Direction, GapCause, How, Kind, Message, Record,
};
use crate::time::{MonotonicTime, Time, WallTime};
use crate::websocket::frame::Opcode;

/// Cases under way at the same time, those included that are complete and wait for what may be too much.
pub const CASES_MAX: usize = 16_384;

/// The same, of those that one connection began.
pub const CASES_OF_ONE_SENDER_MAX: usize = 1_024;

/// Recipients of all cases together, those included who may be meant, and ways to word what they are to get.
pub const ENTRIES_MAX: usize = 1_048_576;

/// Messages that no case explains, and that one may still explain.
pub const EXTRAS_MAX: usize = 4_096;

/// What is kept of what clients of a chat said before it was known what its server speaks.
pub const EARLY_BYTES_MAX: usize = 64 << 10;

/// Connections and chats that are remembered after their end, so that a verdict can name them.
const GONE_MAX: usize = 65_536;

/// Connections of which it is not known whether they are meant, that are kept one by one.
const UNKNOWN_MAX: usize = 1_024;

/// Cases among which a message that nothing waits for may be one too many.
const LOOKED_BACK: usize = 64;

/// What is missing is lost after so many times what it may take, and not before so long.
const LOST_AFTER_TIMES: u32 = 5;
const LOST_AFTER_LEAST: Duration = Duration::from_secs(10);

/// Whoever stays for so long after all others were sent something should have been sent it, too.
const SURE_AFTER: Duration = Duration::from_millis(100);

/// A receiver may delay an acknowledgment by so much (RFC 9293 §3.8.6.3): what was sent in time is not late for that.
const ACKNOWLEDGMENT_DELAY_MAX: Duration = Duration::from_millis(500);

/// By so much the times of what passes may step back: the clock of a capture is set now and then.
const STEP_BACK_MAX: Duration = Duration::from_secs(10);

/// How much earlier than what explains it a message may be told of: in a file, packets of several processors.
const EARLIER_MAX: Duration = Duration::from_secs(1);

/// Judges a run by the flows of its rules.
#[derive(Debug)]
pub struct Verifier {
    rules: Arc<Rules>,
    /// As the dialects of `rules`.
    plans: Arc<[Plan]>,
    totals: Vec<FlowTotals>,
    keys: Keys,
    now: Time,
    ends: HashMap<ConnectionId, End>,
    /// Who is or was at one of them, and whether that was the only one.
    uids: HashMap<(Chat, Uid), (ConnectionId, bool)>,
    chats: HashMap<Chat, ChatState>,
    cases: BTreeMap<u64, OpenCase>,
    by_key: HashMap<u64, VecDeque<u64>>,
    extras: BTreeMap<u64, Extra>,
    extras_by_key: HashMap<u64, VecDeque<u64>>,
    timers: BTreeSet<(MonotonicTime, Timer)>,
    gone: VecDeque<(Time, Gone)>,
    /// Who began the cases, by their number, and by that of their entries.
    cases_by_sender: Shares,
    entries_by_sender: Shares,
    extras_by_connection: Shares,
    last_number: u64,
    last_order: u64,
    /// When packets were last known to be lost, of whichever connections.
    last_loss: Option<Time>,
    /// The last case of which something may have been lost then.
    unsure_to: u64,
    capture_losses: u64,
    trusts_sent: bool,
    losses_are_counted: bool,
    /// Whether nothing begins any more.
    is_closing_down: bool,
    /// What began earlier is not judged.
    since: WallTime,
    shed: u64,
    /// For how long something may name a connection that has ended.
    remembered_for: Duration,
}

/// What a record is to the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing: it is to be shown by itself.
    Nothing,
    /// A message that a case tells of.
    OfCase,
    /// A sign of life that is asked for or given.
    Heartbeat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Case(u64),
    Extra(u64),
}

#[derive(Clone, Copy, Debug)]
enum Gone {
    Connection(ConnectionId),
    Chat(Chat),
}

/// A message from a server that no case explains, so far.
#[derive(Debug)]
struct Extra {
    time: Time,
    connection: ConnectionId,
    chat: Chat,
    dialect: usize,
    kind: Box<str>,
    uid: Option<Uid>,
    to: Option<Recipient>,
    content: Option<Quote>,
    fields: Box<[FieldSeen]>,
    text: Option<Quote>,
    keys: Vec<Key>,
    stream_end: Option<u64>,
    received: Option<Time>,
    /// How long it may go unexplained.
    hold: Duration,
    link: Option<Link>,
    /// Why it is not known whether it is too much.
    doubts: Causes,
}

/// The case that a message looks like one too many of.
#[derive(Clone, Copy, Debug)]
struct Link {
    case: u64,
    expectation: usize,
    fault: Fault,
}

/// Where a message came from, and by what it is read.
#[derive(Clone, Copy)]
struct Seen<'a> {
    event: &'a Event<'a>,
    /// The message itself.
    text: &'a str,
    dialect: usize,
    plan: &'a Plan,
    connection: ConnectionId,
    chat: Chat,
    direction: Direction,
    time: Time,
    stream_end: Option<u64>,
    /// Whether it was kept until it was known what the server speaks, which has answered meanwhile.
    is_early: bool,
}

impl Seen<'_> {
    /// As what begins a case, so far as the message itself tells.
    fn as_trigger(&self, party: Party) -> TriggerSeen {
        let Event { content, fields, room, .. } = self.event;
        let says_nothing = content.is_none();
        let has_only_a_type =
            says_nothing && fields.0.is_empty() && room.is_none() && self.event.does().is_none();
        TriggerSeen {
            time: self.time,
            party,
            direction: Some(self.direction),
            kind: self.event.kind.into(),
            does: self.event.does(),
            to: self.event.recipient.clone(),
            recipient: None,
            room: room.as_deref().map(Into::into),
            content: content.as_deref().map(Quote::of),
            fields: if says_nothing { FieldSeen::of(fields) } else { [].into() },
            text: has_only_a_type.then(|| Quote::of(self.text)),
        }
    }
}

type Tell<'a> = &'a mut dyn FnMut(&Told<'_>);

impl Verifier {
    /// One that has seen nothing.
    pub fn new(rules: Arc<Rules>) -> Self {
        let mut totals = Vec::new();
        let mut plans = Vec::new();
        for dialect in rules.dialects() {
            plans.push(Plan::new(dialect, totals.len()));
            totals.extend(dialect.flows.names().map(|flow| FlowTotals {
                flow: flow.into(),
                dialect: dialect.name.clone(),
                outcomes: [0; 4],
                refused: 0,
                received: 0,
                sent: [Histogram::default(), Histogram::default()],
                latency: [Histogram::default(), Histogram::default()],
            }));
        }
        let hold = plans.iter().map(|plan| plan.hold).max().unwrap_or(LOST_AFTER_LEAST);
        Self {
            rules,
            plans: plans.into(),
            totals,
            keys: Keys::default(),
            now: Time::default(),
            ends: HashMap::new(),
            uids: HashMap::new(),
            chats: HashMap::new(),
            cases: BTreeMap::new(),
            by_key: HashMap::new(),
            extras: BTreeMap::new(),
            extras_by_key: HashMap::new(),
            timers: BTreeSet::new(),
            gone: VecDeque::new(),
            cases_by_sender: Shares::default(),
            entries_by_sender: Shares::default(),
            extras_by_connection: Shares::default(),
            last_number: 0,
            last_order: 0,
            last_loss: None,
            unsure_to: 0,
            capture_losses: 0,
            trusts_sent: false,
            losses_are_counted: false,
            is_closing_down: false,
            since: WallTime(0),
            shed: 0,
            remembered_for: hold.saturating_add(EARLIER_MAX),
        }
    }

    /// From now on what was sent counts as received: for records that do not tell what was acknowledged.
    pub const fn trust_sent(&mut self) {
        self.trusts_sent = true;
    }

    /// The capture counts what it loses: a hole in one connection says nothing of others.
    pub const fn count_on_losses(&mut self) {
        self.losses_are_counted = true;
    }

    /// What begins before is not judged: it only shows who is there.
    pub const fn judge_since(&mut self, since: WallTime) {
        self.since = since;
    }

    /// Whether what began then is judged.
    pub const fn is_judged(&self, begun: Time) -> bool {
        begun.wall.0 >= self.since.0
    }

    /// Between what was seen and what is to come something may be missing, of every connection.
    pub const fn note_hole(&mut self) {
        self.note_loss();
    }

    /// From now on nothing begins, and nothing new is unexplained: what is under way may come to its end.
    pub const fn close_down(&mut self) {
        self.is_closing_down = true;
    }

    /// Whether anything is under way whose time is not up.
    pub fn is_waiting(&self) -> bool {
        self.cases.values().any(|case| !case.is_complete && !case.is_overdue)
    }

    /// Takes a record, of all records in their order. `members` has learnt from it, or, where it is a connection's end,
    /// is about to.
    pub fn handle_record(&mut self, record: &Record<'_>, members: &Members, tell: Tell<'_>) -> Part {
        // What is told late has its own time; what passes now does not step back.
        let passes = matches!(record.kind, Kind::Message(_) | Kind::Received(_));
        if passes && self.now.since(record.time) > STEP_BACK_MAX {
            self.begin_anew(record.time, tell);
        }
        self.handle_timeout(record.time, tell);
        let Some(connection) = record.connection else {
            match &record.kind {
                Kind::CaptureLoss(loss) => self.note_losses(loss.packets),
                Kind::Summary(summary) => {
                    let losses = summary.capture.iter().flat_map(|capture| &capture.losses);
                    self.note_losses(losses.map(|(_, packets)| packets).sum());
                    self.finish(tell);
                }
                _ => {}
            }
            return Part::Nothing;
        };
        if !self.ends.contains_key(&connection.id) {
            self.meet(connection);
        }
        match &record.kind {
            Kind::ConnectionOpened(opened) if !opened.from_start => {
                self.chat(connection).joined_late = Some(self.now);
            }
            Kind::Gap(gap) => {
                // Where losses are counted, a hole that no loss explains is one of this connection alone.
                if gap.cause == GapCause::CaptureLoss
                    || (gap.cause == GapCause::NeverSeen && !self.losses_are_counted)
                {
                    self.note_loss();
                }
                let (now, last) = (self.now, self.last_number);
                if let Some(end) = self.ends.get_mut(&connection.id) {
                    let stream = end.stream(gap.direction);
                    (stream.gap, stream.unsure_to) = (Some(now), last);
                    end.refresh(members, now);
                }
                if gap.direction == Direction::ClientToServer {
                    self.chat(connection).client_gap = Some(now);
                }
            }
            Kind::Message(message) => {
                if let Some(end) = self.ends.get_mut(&connection.id) {
                    end.party.claim.clone_from(&connection.client_claim);
                    end.refresh(members, self.now);
                    if let Some(uid) = &end.party.uid {
                        let known = self.uids.entry((end.chat, uid.clone()));
                        let known = known.or_insert((connection.id, true));
                        *known = (connection.id, known.1 && known.0 == connection.id);
                    }
                    let stream = end.stream(message.direction);
                    stream.end = record.stream_end.unwrap_or_default().max(stream.end);
                }
                return self.handle_message(record, connection, message, members, tell);
            }
            Kind::Frame(frame) if frame.header.opcode == Opcode::Close => {
                let now = self.now;
                if let Some(end) = self.ends.get_mut(&connection.id) {
                    end.closing.get_or_insert(now);
                }
                self.leave(connection.id, members, tell);
            }
            Kind::Received(received) => {
                self.handle_received(connection.id, *received, record.time, tell);
            }
            Kind::ConnectionClosed(closed) => self.handle_closed(connection, closed, members, tell),
            _ => {}
        }
        Part::Nothing
    }

    /// Tells the verifier that it is `now`. Records tell it as well.
    pub fn handle_timeout(&mut self, now: Time, tell: Tell<'_>) {
        self.now = self.now.max(now);
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= self.now.monotonic)
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Case(number) => self.handle_case_timeout(number, tell),
                Timer::Extra(number) => self.judge_extra(number, tell),
            }
        }
        while let Some((at, gone)) = self.gone.front().copied() {
            let is_over = self.now.since(at) >= self.remembered_for || self.gone.len() > GONE_MAX;
            if !is_over {
                break;
            }
            self.gone.pop_front();
            match gone {
                Gone::Connection(connection) => {
                    let uid = self.ends.remove(&connection).and_then(|end| Some((end.chat, end.party.uid?)));
                    if let Some(uid) = uid
                        && self.uids.get(&uid).is_some_and(|(holder, _)| *holder == connection)
                    {
                        self.uids.remove(&uid);
                    }
                }
                Gone::Chat(chat) => {
                    if self.chats.get(&chat).is_some_and(|state| state.open == 0) {
                        self.chats.remove(&chat);
                    }
                }
            }
        }
    }

    /// When [`Verifier::handle_timeout`] has something to do, if no record comes before.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What every rule with verdicts has come to, of the dialects that were seen.
    pub fn totals(&self) -> impl Iterator<Item = &FlowTotals> {
        let mut seen = BTreeSet::new();
        for totals in self.totals.iter().filter(|totals| totals.cases() + totals.refused > 0) {
            seen.insert(&totals.dialect);
        }
        self.totals.iter().filter(move |totals| seen.contains(&totals.dialect))
    }

    /// How many cases, and messages that no case explained, were given up at a bound.
    pub const fn shed(&self) -> u64 {
        self.shed
    }

    /// Time has stepped back, as between files in the wrong order: nothing of before can be judged by it.
    fn begin_anew(&mut self, now: Time, tell: Tell<'_>) {
        let cases: Vec<_> = self.cases.keys().copied().collect();
        for number in cases {
            self.conclude(number, Cause::ClockStepped.into(), tell);
        }
        let extras: Vec<_> = self.extras.keys().copied().collect();
        for number in extras {
            self.remove_extra(number);
        }
        self.now = now;
        self.note_loss();
    }

    fn note_losses(&mut self, packets: u64) {
        if packets > self.capture_losses {
            self.capture_losses = packets;
            self.note_loss();
        }
    }

    const fn note_loss(&mut self) {
        self.last_loss = Some(self.now);
        self.unsure_to = self.last_number;
    }

    fn meet(&mut self, connection: &Connection) {
        let end = End::new(connection);
        self.chats.entry(end.chat).or_default().open += 1;
        self.ends.insert(connection.id, end);
    }

    fn chat(&mut self, connection: &Connection) -> &mut ChatState {
        self.chats.entry(chat_of(connection)).or_default()
    }

    fn handle_message(
        &mut self,
        record: &Record<'_>,
        connection: &Connection,
        message: &Message<'_>,
        members: &Members,
        tell: Tell<'_>,
    ) -> Part {
        let (id, chat, direction) = (connection.id, chat_of(connection), message.direction);
        let payload = &message.payload;
        let Some(event) = message.chat else {
            let is_unreadable = payload.is_truncated()
                || payload.undecoded.is_some()
                || message.length.is_none_or(|length| length > MAXIMUM_JSON_BYTES as u64);
            if is_unreadable {
                self.note_unreadable(id, chat, direction, members);
            }
            return Part::Nothing;
        };
        let (rules, plans) = (Arc::clone(&self.rules), Arc::clone(&self.plans));
        let is_it = |dialect: &Dialect| core::ptr::eq(dialect, event.dialect);
        let Some((dialect, plan)) = rules
            .dialects()
            .iter()
            .zip(plans.iter())
            .enumerate()
            .find_map(|(number, (dialect, plan))| is_it(dialect).then_some((number, plan)))
        else {
            return Part::Nothing;
        };
        let is_sign_of_life = matches!(event.does(), Some(Act::Ping | Act::Pong));
        let text = payload.text.or_else(|| core::str::from_utf8(payload.known).ok());
        let spoken = self.chats.get(&chat).and_then(|state| state.dialect);
        match (direction, spoken) {
            // What was found by its looks settles nothing.
            (Direction::ServerToClient, _) if message.resynchronised => {}
            (Direction::ServerToClient, spoken) if !is_sign_of_life && spoken != Some(dialect) => {
                self.settle_dialect(chat, spoken, dialect, members, tell);
            }
            (Direction::ClientToServer, None) if !is_sign_of_life => {
                let early = text.map(|text| Early {
                    time: record.time,
                    connection: id,
                    opcode: message.opcode,
                    text: text.into(),
                    dialect,
                });
                self.keep_early(chat, early);
            }
            (Direction::ClientToServer, Some(spoken)) if spoken != dialect => return Part::Nothing,
            _ => {}
        }
        let seen = Seen {
            event,
            text: text.unwrap_or_default(),
            dialect,
            plan,
            connection: id,
            chat,
            direction,
            time: record.time,
            stream_end: record.stream_end,
            is_early: false,
        };
        let is_of_case = self.handle_event(seen, members, tell);
        match (is_of_case, is_sign_of_life) {
            (_, true) => Part::Heartbeat,
            (true, false) => Part::OfCase,
            (false, false) => Part::Nothing,
        }
    }

    fn note_unreadable(
        &mut self,
        connection: ConnectionId,
        chat: Chat,
        direction: Direction,
        members: &Members,
    ) {
        let (now, last) = (self.now, self.last_number);
        let mut is_nameless = true;
        if let Some(end) = self.ends.get_mut(&connection) {
            let stream = end.stream(direction);
            (stream.unreadable, stream.unsure_to) = (Some(now), last);
            let asks = members.of(connection).is_some_and(|person| person.name_or_claim().is_some());
            is_nameless = end.known_uid().is_none() && (end.standing != Standing::Outside || asks);
        }
        if direction == Direction::ClientToServer {
            let chat = self.chats.entry(chat).or_default();
            chat.client_unreadable = Some(now);
            if is_nameless {
                chat.nameless_unreadable = Some(now);
            }
        }
    }

    /// Whether a case tells of it.
    fn handle_event(&mut self, seen: Seen<'_>, members: &Members, tell: Tell<'_>) -> bool {
        let from_server = seen.direction == Direction::ServerToClient;
        if from_server && seen.event.does() == Some(Act::Refuse) {
            self.refuse(seen.connection, tell);
        }
        let mut is_of_case = false;
        if from_server && seen.event.does() == Some(Act::Leave) {
            // Who vanished is known to be gone by what the server says of them.
            let uid = seen.event.user.as_ref().and_then(|user| user.uid.as_ref());
            // Of one that several had, it may be another's.
            let is_only =
                |uid: &&Uid| self.uids.get(&(seen.chat, (*uid).clone())).is_some_and(|(_, is_only)| *is_only);
            let gone = uid.filter(is_only).and_then(|uid| members.by_uid(seen.chat, uid));
            // Of whoever went to another room those are told who stay.
            let is_elsewhere = |gone: &ConnectionId| {
                let rooms = [gone, &seen.connection].map(|connection| {
                    self.ends.get(connection).filter(|end| end.room_is_known).map(|end| &end.room)
                });
                matches!(rooms, [Some(one), Some(other)] if one != other)
            };
            let gone = gone.filter(|gone| *gone != seen.connection && !is_elsewhere(gone));
            if let Some(gone) = gone {
                self.leave(gone, members, tell);
            }
        }
        if let Some(of_kind) = seen.plan.of(seen.event.kind) {
            if !seen.direction.of(&of_kind.fulfils).is_empty() {
                is_of_case = self.fulfil(seen, members, tell);
            }
            if from_server && !of_kind.nevers.is_empty() {
                self.judge_nevers(seen, &of_kind.nevers, members, tell);
            }
            for flow in seen.direction.of(&of_kind.begins) {
                is_of_case |= self.begin(seen, *flow, members, tell);
            }
        }
        if !from_server && seen.event.does() == Some(Act::Leave) {
            is_of_case |= self.leave(seen.connection, members, tell);
        }
        is_of_case
    }

    /// What a client says before its server said anything may be read by a dialect that turns out to be another.
    fn keep_early(&mut self, chat: Chat, early: Option<Early>) {
        let now = self.now;
        let state = self.chats.entry(chat).or_default();
        match early {
            Some(early) if state.early_bytes + early.text.len() <= EARLY_BYTES_MAX => {
                state.early_bytes += early.text.len();
                state.early.push(early);
            }
            _ => {
                state.shed = Some(now);
                self.shed += 1;
            }
        }
    }

    /// The server has said something by which it is known what it speaks.
    fn settle_dialect(
        &mut self,
        chat: Chat,
        spoken: Option<usize>,
        dialect: usize,
        members: &Members,
        tell: Tell<'_>,
    ) {
        let state = self.chats.entry(chat).or_default();
        state.dialect = Some(dialect);
        state.early_bytes = 0;
        let early = std::mem::take(&mut state.early);
        let is_wrong = |case: &OpenCase| case.chat == chat && case.dialect != dialect;
        let wrong: Vec<_> =
            self.cases.values().filter(|case| is_wrong(case)).map(|case| case.number).collect();
        let mut begun = HashSet::new();
        let (rules, plans) = (Arc::clone(&self.rules), Arc::clone(&self.plans));
        let Some(plan) = plans.get(dialect) else { return };
        for early in early.iter().filter(|early| early.dialect != dialect) {
            let direction = Direction::ClientToServer;
            let read = rules.read(DialectSet::one(dialect), false, direction, early.opcode, &early.text);
            let is_it = |event: &Event<'_>| {
                rules.dialects().get(dialect).is_some_and(|it| core::ptr::eq(it, event.dialect))
            };
            let Some(reading) = read.filter(|reading| is_it(&reading.event)) else { continue };
            let (event, connection, time) = (&reading.event, early.connection, early.time);
            let seen = Seen {
                event,
                text: &early.text,
                dialect,
                plan,
                connection,
                chat,
                direction,
                time,
                stream_end: None,
                is_early: true,
            };
            if self.handle_event(seen, members, tell) {
                begun.insert((connection, time));
            }
        }
        for number in wrong {
            let Some(trigger) = self.cases.get(&number).map(|case| &case.trigger) else { continue };
            let is_sign_of_life = matches!(trigger.does, Some(Act::Ping | Act::Pong));
            // What was begun by a dialect that nobody spoke has begun anew by the one that is spoken, or is told of.
            if spoken.is_none()
                && (is_sign_of_life || begun.contains(&(trigger.party.connection, trigger.time)))
            {
                self.remove(number);
            } else {
                self.conclude(number, Cause::DialectUnknown.into(), tell);
            }
        }
    }

    fn handle_case_timeout(&mut self, number: u64, tell: Tell<'_>) {
        let now = self.now.monotonic;
        if self.is_refused_at_last(number, tell) {
            return;
        }
        let Some(case) = self.cases.get_mut(&number) else { return };
        if case.is_complete || (!case.is_overdue && case.is_fulfilled_as_known()) {
            if !case.is_complete {
                case.is_complete = true;
                self.tell_of(Stage::Complete, number, tell);
            }
            return self.conclude(number, Causes::NONE, tell);
        }
        let may_be_delayed = case.acknowledged_at();
        if !case.is_overdue && now < may_be_delayed && case.is_only_unacknowledged() {
            case.timer = may_be_delayed;
            self.timers.insert((may_be_delayed, Timer::Case(number)));
            return;
        }
        if case.is_overdue || now >= case.lost_at {
            if !case.is_overdue {
                case.is_overdue = true;
                self.tell_of(Stage::Overdue, number, tell);
            }
            return self.conclude(number, Causes::NONE, tell);
        }
        case.is_overdue = true;
        case.timer = case.lost_at;
        self.timers.insert((case.timer, Timer::Case(number)));
        self.tell_of(Stage::Overdue, number, tell);
    }

    fn handle_closed(
        &mut self,
        connection: &Connection,
        closed: &ConnectionClosed<'_>,
        members: &Members,
        tell: Tell<'_>,
    ) {
        self.judge_closing(connection, closed, tell);
        let now = self.now;
        match closed.how {
            // The run ends, not the connection.
            How::StillOpen => return,
            How::Evicted => self.excuse(connection.id, true, true, tell),
            How::CloseFrame | How::Fin | How::Rst | How::Unseen => {
                self.leave(connection.id, members, tell);
                self.excuse(connection.id, true, false, tell);
            }
        }
        let Some(end) = self.ends.get_mut(&connection.id) else { return };
        end.closing.get_or_insert(now);
        let chat = end.chat;
        self.gone.push_back((now, Gone::Connection(connection.id)));
        let state = self.chats.entry(chat).or_default();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            self.gone.push_back((now, Gone::Chat(chat)));
        }
    }

    /// Of a rule, by its place in [`Flows::names`](super::flows::Flows::names).
    fn totals_of(&mut self, dialect: usize, place: usize) -> Option<&mut FlowTotals> {
        let first = self.plans.get(dialect)?.totals;
        self.totals.get_mut(first + place)
    }

    fn count(&mut self, dialect: usize, place: usize, outcome: Outcome) {
        if self.is_judged(self.now)
            && let Some(totals) = self.totals_of(dialect, place)
        {
            totals.count(outcome);
        }
    }

    /// Ends the run: everything is judged by what was seen.
    fn finish(&mut self, tell: Tell<'_>) {
        let numbers: Vec<_> = self.cases.keys().copied().collect();
        for number in numbers {
            if self.is_refused_at_last(number, tell) {
                continue;
            }
            let Some(case) = self.cases.get_mut(&number) else { continue };
            let last = if case.is_only_unacknowledged() { case.acknowledged_at() } else { case.overdue_at };
            let is_over = self.now.monotonic >= last;
            if !case.is_complete && case.is_fulfilled_as_known() {
                case.is_complete = true;
                self.tell_of(Stage::Complete, number, tell);
                self.conclude(number, Causes::NONE, tell);
                continue;
            }
            let cause = if case.is_complete || is_over { Causes::NONE } else { Cause::EndedTooSoon.into() };
            self.conclude(number, cause, tell);
        }
        let numbers: Vec<_> = self.extras.keys().copied().collect();
        for number in numbers {
            self.judge_extra(number, tell);
        }
    }
}

/// The moment so long before another.
fn before_by(time: Time, duration: Duration) -> Time {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Time { monotonic: MonotonicTime(time.monotonic.0.saturating_sub(nanoseconds)), ..time }
}

/// After how long what is missing of a flow is lost.
fn lost_after(flow: &Flow) -> Duration {
    flow.within.saturating_mul(LOST_AFTER_TIMES).max(LOST_AFTER_LEAST)
}

fn remove_from(lists: &mut HashMap<u64, VecDeque<u64>>, key: u64, number: u64) {
    if let Some(numbers) = lists.get_mut(&key) {
        remove_number(numbers, number);
        if numbers.is_empty() {
            lists.remove(&key);
        }
    }
}

/// The oldest mostly goes first.
fn remove_number(numbers: &mut VecDeque<u64>, number: u64) {
    if numbers.front() == Some(&number) {
        numbers.pop_front();
    } else {
        numbers.retain(|it| *it != number);
    }
}

#[cfg(test)]
mod tests;

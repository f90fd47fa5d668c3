//! Whether what has to happen happens: records in, verdicts out.
//!
//! Owns every case under way, what no case explains, and the totals. Must not know how messages are read, nor how a
//! verdict is laid out. Bounded: [`CASES_MAX`] cases, [`CASES_OF_ONE_SENDER_MAX`] that one connection began, with
//! [`SLOTS_MAX`] recipients in all, and [`EXTRAS_MAX`] messages that nothing explains: of each the oldest gives way, is
//! told of as it stands, with what is open as inconclusive, and is counted. Of what clients say before it is known what
//! their server speaks, [`EARLY_BYTES_MAX`] are kept a chat.
//!
//! Deterministic: the same records give the same verdicts. Time is that of the records.
//!
//! A message is *sent* when the server's segment passes, and *received* when the recipient's kernel acknowledges it. Who
//! has to get something is settled when the flow begins: those who were confirmed as members by then. Who joins or
//! leaves while it is on its way may get it and need not. Equal contents repeat: of equal messages each explains one.
//! Nothing is called a violation where something that was not seen could explain it.

mod case;
mod ends;
mod judgement;
mod keys;
mod plan;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use self::case::{Case as Open, Leaving, Slot, after};
use self::ends::{ChatState, Early, End};
use self::keys::{Beginning, Keys, Place};
use self::plan::{Plan, direction_of};
use super::dialect::{Act, Dialect};
use super::event::{Event, Recipient, Uid};
use super::flows::{Addressed, Among, Flow, Times, Trigger, Whom};
use super::latency::Histogram;
use super::members::{Members, Since, Standing};
use super::rules::{DialectSet, Rules};
use super::verdict::{
    Case, Cause, Causes, Deviation, Fault, FlowTotals, Latency, Outcome, Party, Quote, Stage, Told,
    TriggerSeen,
};
use super::{Chat, MAXIMUM_JSON_BYTES};
use crate::record::{
    Connection, ConnectionClosed, ConnectionId, Direction, GapCause, How, Kind, Message, Record,
};
use crate::time::{MonotonicTime, Time};
use crate::websocket::frame::Opcode;

/// Cases under way at the same time, those included that are complete and wait for what may be too much.
pub const CASES_MAX: usize = 16_384;

/// The same, of those that one connection began.
pub const CASES_OF_ONE_SENDER_MAX: usize = 1_024;

/// Recipients of all cases together.
pub const SLOTS_MAX: usize = 524_288;

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
    chats: HashMap<Chat, ChatState>,
    cases: BTreeMap<u64, Open>,
    by_key: HashMap<u64, VecDeque<u64>>,
    extras: BTreeMap<u64, Extra>,
    extras_by_key: HashMap<u64, VecDeque<u64>>,
    timers: BTreeSet<(MonotonicTime, Timer)>,
    gone: VecDeque<(Time, Gone)>,
    slots: usize,
    last_number: u64,
    last_order: u64,
    /// When packets were last known to be lost, of whichever connections.
    last_loss: Option<Time>,
    capture_losses: u64,
    trusts_sent: bool,
    shed: u64,
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
    /// Each key that it has, with flow and expectation.
    keys: Vec<(u64, usize, usize)>,
    stream_end: Option<u64>,
    received: Option<Time>,
    /// How long it may go unexplained.
    hold: Duration,
    link: Option<Link>,
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
                latency: [Histogram::default(), Histogram::default()],
            }));
        }
        Self {
            rules,
            plans: plans.into(),
            totals,
            keys: Keys::default(),
            now: Time::default(),
            ends: HashMap::new(),
            chats: HashMap::new(),
            cases: BTreeMap::new(),
            by_key: HashMap::new(),
            extras: BTreeMap::new(),
            extras_by_key: HashMap::new(),
            timers: BTreeSet::new(),
            gone: VecDeque::new(),
            slots: 0,
            last_number: 0,
            last_order: 0,
            last_loss: None,
            capture_losses: 0,
            trusts_sent: false,
            shed: 0,
        }
    }

    /// From now on what was sent counts as received: for records that do not tell what was acknowledged.
    pub const fn trust_sent(&mut self) {
        self.trusts_sent = true;
    }

    /// Takes a record, of all records in their order. `members` has learnt from it, or, where it is a connection's end,
    /// is about to.
    pub fn handle_record(&mut self, record: &Record<'_>, members: &Members, tell: Tell<'_>) -> Part {
        self.handle_timeout(record.time, members, tell);
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
                if matches!(gap.cause, GapCause::CaptureLoss | GapCause::NeverSeen) {
                    self.last_loss = Some(self.now);
                }
                let now = self.now;
                if let Some(end) = self.ends.get_mut(&connection.id) {
                    end.stream(gap.direction).gap = Some(now);
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
                    let stream = end.stream(message.direction);
                    stream.end = record.stream_end.unwrap_or_default().max(stream.end);
                }
                return self.handle_message(record, connection, message, members, tell);
            }
            Kind::Frame(frame) if frame.header.opcode == Opcode::Close => {
                self.leave(connection.id, members, tell);
            }
            Kind::Received(received) => {
                self.handle_received(connection.id, received.direction, received.to, record.time, tell);
            }
            Kind::ConnectionClosed(closed) => self.handle_closed(connection, closed, members, tell),
            _ => {}
        }
        Part::Nothing
    }

    /// Tells the verifier that it is `now`. Records tell it as well.
    pub fn handle_timeout(&mut self, now: Time, _members: &Members, tell: Tell<'_>) {
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
            let is_over = self.now.since(at) >= self.remembered_for() || self.gone.len() > GONE_MAX;
            if !is_over {
                break;
            }
            self.gone.pop_front();
            match gone {
                Gone::Connection(connection) => _ = self.ends.remove(&connection),
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

    fn remembered_for(&self) -> Duration {
        self.plans.iter().map(|plan| plan.hold).max().unwrap_or(LOST_AFTER_LEAST).saturating_add(EARLIER_MAX)
    }

    fn note_losses(&mut self, packets: u64) {
        if packets > self.capture_losses {
            self.capture_losses = packets;
            self.last_loss = Some(self.now);
        }
    }

    fn meet(&mut self, connection: &Connection) {
        let end = End::new(connection);
        self.chats.entry(end.chat).or_default().open += 1;
        self.ends.insert(connection.id, end);
    }

    fn chat(&mut self, connection: &Connection) -> &mut ChatState {
        self.chats.entry(super::chat_of(connection)).or_default()
    }

    fn handle_message(
        &mut self,
        record: &Record<'_>,
        connection: &Connection,
        message: &Message<'_>,
        members: &Members,
        tell: Tell<'_>,
    ) -> Part {
        let (id, chat, direction) = (connection.id, super::chat_of(connection), message.direction);
        let payload = &message.payload;
        let Some(event) = message.chat else {
            let is_unreadable = payload.is_truncated()
                || payload.undecoded.is_some()
                || message.length.is_none_or(|length| length > MAXIMUM_JSON_BYTES as u64);
            if is_unreadable {
                self.note_unreadable(id, chat, direction);
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
        let spoken = self.chats.get(&chat).and_then(|state| state.dialect);
        match (direction, spoken) {
            (Direction::ServerToClient, spoken) if !is_sign_of_life && spoken != Some(dialect) => {
                self.settle_dialect(chat, spoken, dialect, members, tell);
            }
            (Direction::ClientToServer, None) => {
                let text = payload.text.or_else(|| core::str::from_utf8(payload.known).ok());
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
        let (time, stream_end) = (record.time, record.stream_end);
        let seen =
            Seen { event, dialect, plan, connection: id, chat, direction, time, stream_end, is_early: false };
        let is_of_case = self.handle_event(seen, members, tell);
        match (is_of_case, is_sign_of_life) {
            (_, true) => Part::Heartbeat,
            (true, false) => Part::OfCase,
            (false, false) => Part::Nothing,
        }
    }

    fn note_unreadable(&mut self, connection: ConnectionId, chat: Chat, direction: Direction) {
        let now = self.now;
        if let Some(end) = self.ends.get_mut(&connection) {
            end.stream(direction).unreadable = Some(now);
        }
        if direction == Direction::ClientToServer {
            self.chats.entry(chat).or_default().client_unreadable = Some(now);
        }
    }

    /// Whether a case tells of it.
    fn handle_event(&mut self, seen: Seen<'_>, members: &Members, tell: Tell<'_>) -> bool {
        let from_server = seen.direction == Direction::ServerToClient;
        if from_server && seen.event.does() == Some(Act::Refuse) {
            self.refuse(seen.connection, tell);
        }
        let mut is_of_case = false;
        if let Some(of_kind) = seen.plan.of(seen.event.kind) {
            if !of_kind.fulfils(seen.direction).is_empty() {
                is_of_case = self.fulfil(seen, members, tell);
            }
            if from_server && !of_kind.nevers.is_empty() {
                self.judge_nevers(seen, &of_kind.nevers, members, tell);
            }
            for flow in of_kind.begins(seen.direction) {
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
        let is_wrong = |case: &Open| case.chat == chat && case.dialect != dialect;
        let wrong: Vec<_> =
            self.cases.values().filter(|case| is_wrong(case)).map(|case| case.number).collect();
        for number in wrong {
            // What was begun by a dialect that nobody spoke begins anew by the one that is spoken.
            if spoken.is_none() {
                self.remove(number);
            } else {
                self.conclude(number, Cause::DialectUnknown.into(), tell);
            }
        }
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
                dialect,
                plan,
                connection,
                chat,
                direction,
                time,
                stream_end: None,
                is_early: true,
            };
            self.handle_event(seen, members, tell);
        }
    }

    /// The server refuses what a client sent: what nobody was sent of it is not to come.
    fn refuse(&mut self, connection: ConnectionId, tell: Tell<'_>) {
        let Some(end) = self.ends.get(&connection) else { return };
        let is_unsent = |number: &&u64| {
            let case = self.cases.get(number);
            case.is_some_and(|case| !case.is_complete && case.slots().iter().all(|slot| slot.sent.is_none()))
        };
        let Some(number) = end.own.iter().find(is_unsent).copied() else { return };
        let Some(case) = self.remove(number) else { return };
        if let Some(totals) = self.totals_of(case.dialect, case.flow) {
            totals.refused += 1;
        }
        let judgement = judgement::Judgement::default();
        self.tell(Stage::Refused, &case, &judgement, tell);
    }

    /// A message that may be expected. Whether it was.
    fn fulfil(&mut self, seen: Seen<'_>, members: &Members, tell: Tell<'_>) -> bool {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(seen.dialect) else { return false };
        let Some(of_kind) = seen.plan.of(seen.event.kind) else { return false };
        let mut keys = Vec::new();
        for (flow, expectation) in of_kind.fulfils(seen.direction) {
            let Some(rule) = dialect.flows.flows.get(*flow) else { continue };
            let Some(expected) = rule.expect.get(*expectation) else { continue };
            let place = Place {
                chat: seen.chat,
                dialect: seen.dialect,
                flow: *flow,
                expectation: *expectation,
                connection: (expected.to == Whom::Sender).then_some(seen.connection),
            };
            let of_message = self.keys.of_message(place, expected, seen.event);
            keys.extend(of_message.into_iter().flatten().map(|key| (key, *flow, *expectation)));
        }
        let waiting = keys.iter().find_map(|(key, _, expectation)| {
            Some((self.waiting(*key, *expectation, seen.connection)?, *expectation))
        });
        let may_come = || {
            keys.iter().find_map(|(key, flow, expectation)| {
                let rule = dialect.flows.flows.get(*flow)?;
                let mut cases = self.cases_of(*key).rev().take(LOOKED_BACK);
                cases
                    .find(|case| {
                        case.slot(seen.connection, *expectation).is_none()
                            && self.may_get(case, rule, *expectation, seen.connection, members)
                    })
                    .map(|case| (case.number, *expectation))
            })
        };
        if let Some((number, expectation)) = waiting.or_else(may_come) {
            self.note_sent(number, expectation, seen.connection, seen.time, seen.stream_end);
            self.count_orders(seen, number, &of_kind.orders, tell);
            for unsolicited in &of_kind.unsolicited {
                let place = dialect.flows.flows.len() + dialect.flows.nevers.len() + unsolicited;
                if let Some(totals) = self.totals_of(seen.dialect, place) {
                    totals.count(Outcome::Held);
                }
            }
            self.settle(number, tell);
            return true;
        }
        // Once or more often: this is more often.
        let is_welcome = |(key, flow, expectation): &(u64, usize, usize)| {
            let expected = dialect.flows.flows.get(*flow).and_then(|rule| rule.expect.get(*expectation));
            expected.is_some_and(|expected| expected.times == Times::AtLeastOnce)
                && self.cases_of(*key).any(|case| case.slot(seen.connection, *expectation).is_some())
        };
        if keys.iter().any(is_welcome) {
            return true;
        }
        if seen.direction == Direction::ServerToClient {
            self.park(seen, keys, tell);
        }
        false
    }

    fn cases_of(&self, key: u64) -> impl DoubleEndedIterator<Item = &Open> {
        self.by_key.get(&key).into_iter().flatten().filter_map(|number| self.cases.get(number))
    }

    /// The first case with a key in which this connection still waits for it.
    fn waiting(&self, key: u64, expectation: usize, connection: ConnectionId) -> Option<u64> {
        let waits = |number: &&u64| {
            let slot = self.cases.get(number).and_then(|case| case.slot(connection, expectation));
            slot.is_some_and(|slot| slot.sent.is_none())
        };
        let of_key = self.by_key.get(&key)?;
        let of_end = &self.ends.get(&connection)?.expecting;
        // Either list has it; the shorter one is looked through.
        if of_key.len() <= of_end.len() {
            of_key.iter().find(waits).copied()
        } else {
            let has_key = |number: &&u64| self.cases.get(number).is_some_and(|case| case.keys.contains(&key));
            of_end.iter().filter(has_key).find(waits).copied()
        }
    }

    /// Whether a connection may get something of a case though it did not have to when that began.
    fn may_get(
        &self,
        case: &Open,
        flow: &Flow,
        expectation: usize,
        connection: ConnectionId,
        members: &Members,
    ) -> bool {
        let Some(expected) = flow.expect.get(expectation) else { return false };
        let Some(end) = self.ends.get(&connection).filter(|end| end.chat == case.chat) else { return false };
        let is_unknown = end.standing == Standing::Unknown
            || (end.standing == Standing::Member && !end.room_is_known)
            || case.unknown.contains(&connection);
        match expected.to {
            Whom::Sender => connection == case.sender,
            Whom::Recipient => case.is_unresolved && (is_unknown || end.party.uid.is_none()),
            Whom::Others if connection == case.sender => false,
            Whom::Members | Whom::Others => {
                let Some(room) = &case.room else { return true };
                let is_coming = members.of(connection).is_some_and(|person| {
                    person.standing != Standing::Member && person.asks_for_room(room.as_deref())
                });
                is_unknown
                    || is_coming
                    || members.is_in_room(connection, case.chat, room.as_deref())
                    || end.has_left_since(room.as_deref(), case.trigger.time)
                    || self.connecting_joins(case.dialect)
            }
        }
    }

    fn connecting_joins(&self, dialect: usize) -> bool {
        self.rules.dialects().get(dialect).is_some_and(|dialect| dialect.connecting_joins)
    }

    /// What a case waits for was sent.
    fn note_sent(
        &mut self,
        number: u64,
        expectation: usize,
        connection: ConnectionId,
        time: Time,
        stream_end: Option<u64>,
    ) {
        self.last_order += 1;
        let order = self.last_order;
        let Some(case) = self.cases.get_mut(&number) else { return };
        if case.add(connection, expectation) {
            self.slots += 1;
        }
        case.note_sent(connection, expectation, time, order);
        let (dialect, flow) = (case.dialect, case.flow);
        let direction = self.direction_of(dialect, flow, expectation);
        let Some(end) = self.ends.get_mut(&connection) else { return };
        let cases = &self.cases;
        let is_done = |first: &u64| cases.get(first).is_none_or(|case| !case.waits_for(connection));
        while end.expecting.front().is_some_and(is_done) {
            end.expecting.pop_front();
        }
        let stream = end.stream(direction);
        let (received_to, received_at) = stream.received;
        match stream_end {
            Some(stream_end) if !self.trusts_sent && stream_end > received_to => {
                stream.sent.push_back((stream_end, number, expectation));
            }
            _ => {
                if let Some(case) = self.cases.get_mut(&number) {
                    case.note_received(connection, expectation, time.max(received_at));
                }
            }
        }
    }

    fn direction_of(&self, dialect: usize, flow: usize, expectation: usize) -> Direction {
        let flow = self.rules.dialects().get(dialect).and_then(|dialect| dialect.flows.flows.get(flow));
        let to = flow.and_then(|flow| Some((flow, flow.expect.get(expectation)?.to)));
        to.map_or(Direction::ServerToClient, |(flow, to)| direction_of(flow, to))
    }

    fn handle_received(
        &mut self,
        connection: ConnectionId,
        direction: Direction,
        to: u64,
        time: Time,
        tell: Tell<'_>,
    ) {
        let Some(stream) = self.ends.get_mut(&connection).map(|end| end.stream(direction)) else { return };
        stream.received = (to, time);
        while let Some((_, number)) = stream.extras.pop_front_if(|(end, _)| *end <= to) {
            if let Some(extra) = self.extras.get_mut(&number) {
                extra.received = Some(time);
            }
        }
        let mut arrived = Vec::new();
        while let Some((_, number, expectation)) = stream.sent.pop_front_if(|(end, _, _)| *end <= to) {
            arrived.push((number, expectation));
        }
        for (number, expectation) in arrived {
            if let Some(case) = self.cases.get_mut(&number) {
                case.note_received(connection, expectation, time);
                self.settle(number, tell);
            }
        }
    }

    /// A case may be complete by now.
    fn settle(&mut self, number: u64, tell: Tell<'_>) {
        let Some(case) = self.cases.get_mut(&number) else { return };
        if case.is_complete || !case.is_fulfilled() {
            return;
        }
        case.is_complete = true;
        let is_overdue = case.is_overdue;
        if !is_overdue {
            self.tell_of(Stage::Complete, number, tell);
        } else {
            // Late: nothing more is waited for.
            self.conclude(number, Causes::NONE, tell);
        }
    }

    fn handle_case_timeout(&mut self, number: u64, tell: Tell<'_>) {
        let now = self.now.monotonic;
        let Some(case) = self.cases.get_mut(&number) else { return };
        if case.is_complete || (!case.is_overdue && case.is_fulfilled_as_known()) {
            if !case.is_complete {
                case.is_complete = true;
                self.tell_of(Stage::Complete, number, tell);
            }
            return self.conclude(number, Causes::NONE, tell);
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

    /// A message may begin a flow. Whether it does.
    fn begin(&mut self, seen: Seen<'_>, flow: usize, members: &Members, tell: Tell<'_>) -> bool {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(seen.dialect) else { return false };
        let Some(rule) = dialect.flows.flows.get(flow) else { return false };
        let Trigger::Message { to, .. } = &rule.when else { return false };
        let addressed = match &seen.event.recipient {
            Some(Recipient::Uid(_)) => Addressed::One,
            Some(Recipient::All) | None => Addressed::Everyone,
        };
        if to.is_some_and(|to| to != addressed) {
            return false;
        }
        let Some(end) = self.ends.get(&seen.connection) else { return false };
        let joins = seen.event.does() == Some(Act::Join);
        let asks_members = rule.expect.iter().any(|expected| expected.to != Whom::Sender);
        let is_member = end.standing != Standing::Outside || dialect.connecting_joins;
        let is_told_room = seen.event.rule.places.room.is_some();
        // What somebody says who is not there is passed on to nobody; a second login is refused, or moves them.
        if (asks_members && !joins && !is_member && !is_told_room)
            || (joins && end.standing == Standing::Member && end.party.uid.is_some() && !seen.is_early)
        {
            return false;
        }
        let room = if is_told_room {
            Some(seen.event.room.as_deref().map(|room| super::members::cut(room).into()))
        } else if dialect.connecting_joins {
            Some(None)
        } else {
            (end.standing == Standing::Member && end.room_is_known).then(|| end.room.clone())
        };
        let mut party = end.party.clone();
        let sender_uid = party.uid.clone().filter(|_| !joins);
        if joins {
            party.uid = None;
            party.name = seen.event.user.as_ref().and_then(|user| user.name.as_deref()).map(Into::into);
        }
        let to_connection = match &seen.event.recipient {
            Some(Recipient::Uid(uid)) => members.by_uid(seen.chat, uid),
            _ => None,
        };
        let recipient =
            to_connection.and_then(|connection| self.ends.get(&connection)).map(|end| end.party.clone());
        let recipient = recipient.or_else(|| self.named_only(seen.chat, &seen.event.recipient, members));
        let trigger = TriggerSeen {
            time: seen.time,
            party,
            direction: Some(seen.direction),
            kind: seen.event.kind.into(),
            does: seen.event.does(),
            to: seen.event.recipient.clone(),
            recipient,
            room: room.clone().flatten(),
            content: seen.event.content.as_deref().map(Quote::of),
        };
        let name = seen.event.user.as_ref().and_then(|user| user.name.as_deref());
        let name = name.map(str::to_owned).or_else(|| end.party.name.as_deref().map(str::to_owned));
        let beginning = Beginning {
            event: Some(seen.event),
            uid: sender_uid.as_ref(),
            name: name.as_deref(),
            room: seen.event.room.as_deref(),
        };
        let place = (seen.dialect, flow);
        self.open_case(seen.chat, place, trigger, beginning, room, to_connection, joins, members, tell)
    }

    /// Somebody whose connection is not known, as the chat calls them.
    fn named_only(&self, chat: Chat, to: &Option<Recipient>, members: &Members) -> Option<Party> {
        let Some(Recipient::Uid(uid)) = to else { return None };
        let name = members.name_of(chat, uid)?;
        Some(Party {
            connection: ConnectionId(0),
            client: std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
            claim: None,
            name: Some(name.into()),
            uid: Some(uid.clone()),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what a case consists of")]
    fn open_case(
        &mut self,
        chat: Chat,
        (dialect_number, flow_number): (usize, usize),
        trigger: TriggerSeen,
        beginning: Beginning<'_>,
        room: case::Room,
        to_connection: Option<ConnectionId>,
        joins: bool,
        members: &Members,
        tell: Tell<'_>,
    ) -> bool {
        let rules = Arc::clone(&self.rules);
        let Some(dialect) = rules.dialects().get(dialect_number) else { return false };
        let Some(flow) = dialect.flows.flows.get(flow_number) else { return false };
        let sender = trigger.party.connection;
        let (mut slots, mut unknown, mut is_unresolved) = (Vec::new(), BTreeSet::new(), false);
        for (number, expected) in flow.expect.iter().enumerate() {
            let is_required = expected.times != Times::AtMostOnce;
            match expected.to {
                Whom::Sender => slots.push(Slot::new(sender, number, is_required)),
                Whom::Recipient => match to_connection {
                    Some(connection) => slots.push(Slot::new(connection, number, is_required)),
                    None => {
                        is_unresolved = true;
                        unknown.extend(members.unknown_in(chat).take(UNKNOWN_MAX));
                    }
                },
                Whom::Members | Whom::Others => {
                    let takes_sender = expected.to == Whom::Members;
                    let present = self.present(chat, dialect, &room, flow.within, trigger.time, members);
                    for connection in present {
                        if connection != sender {
                            slots.push(Slot::new(connection, number, is_required));
                        }
                    }
                    let is_present = joins
                        || room.as_ref().is_none_or(|room| {
                            members.is_in_room(sender, chat, room.as_deref()) || dialect.connecting_joins
                        });
                    if takes_sender && is_present {
                        slots.push(Slot::new(sender, number, is_required));
                    }
                    if room.is_none() {
                        unknown.extend(
                            members.connected(chat).map(|(connection, _)| connection).take(UNKNOWN_MAX),
                        );
                    } else if !dialect.connecting_joins {
                        unknown.extend(members.unknown_in(chat).take(UNKNOWN_MAX));
                    }
                }
            }
        }
        unknown.remove(&sender);
        if slots.is_empty() && unknown.is_empty() && !is_unresolved {
            return false;
        }
        for slot in &mut slots {
            slot.is_doubtful = members.of(slot.connection).is_some_and(|person| person.is_doubtful);
            unknown.remove(&slot.connection);
        }
        self.make_room(sender, slots.len(), tell);
        self.last_number += 1;
        let number = self.last_number;
        let sender_uid = beginning.uid.cloned();
        let place = (dialect_number, flow_number);
        let mut case =
            Open::new(number, place, chat, trigger, sender_uid, room, slots, flow.within, lost_after(flow));
        case.unknown = unknown.into_iter().collect();
        case.is_unresolved = is_unresolved;
        for (expectation, expected) in flow.expect.iter().enumerate() {
            let place = Place {
                chat,
                dialect: dialect_number,
                flow: flow_number,
                expectation,
                connection: (expected.to == Whom::Sender).then_some(sender),
            };
            let direction = direction_of(flow, expected.to);
            let keys = self.keys.of_beginning(place, expected, dialect, direction, beginning);
            for key in &keys {
                self.by_key.entry(*key).or_default().push_back(number);
            }
            case.keys.extend(keys);
        }
        let of_slots: BTreeSet<_> = case.slots().iter().map(|slot| slot.connection).collect();
        for connection in of_slots {
            if let Some(end) = self.ends.get_mut(&connection) {
                end.expecting.push_back(number);
            }
        }
        if let Some(end) = self.ends.get_mut(&sender) {
            end.own.push_back(number);
        }
        if let (true, Some(room)) = (self.orders_rooms(dialect_number), &case.room) {
            let recent = self.chats.entry(chat).or_default().recent.entry(room.clone()).or_default();
            recent.push_back(number);
            if recent.len() > LOOKED_BACK {
                recent.pop_front();
            }
        }
        self.slots += case.slots().len();
        self.timers.insert((case.timer, Timer::Case(number)));
        let keys = case.keys.clone();
        let is_leave = case.trigger.direction.is_none();
        let begun = case.trigger.time;
        self.cases.insert(number, case);
        self.take_extras(number, &keys, if is_leave { None } else { Some(begun) }, members);
        self.settle(number, tell);
        true
    }

    fn orders_rooms(&self, dialect: usize) -> bool {
        self.plans.get(dialect).is_some_and(|plan| plan.orders_rooms)
    }

    /// Who has to get what is said to a room: those who are surely there.
    fn present(
        &self,
        chat: Chat,
        dialect: &Dialect,
        room: &case::Room,
        within: Duration,
        now: Time,
        members: &Members,
    ) -> Vec<ConnectionId> {
        // Where nothing confirms it, the server has had as long for it as for anything else.
        let is_sure = |(connection, since): &(ConnectionId, Since)| {
            let is_leaving = self.ends.get(connection).is_none_or(|end| end.is_leaving || end.closed);
            !is_leaving
                && match since {
                    Since::Confirmed => true,
                    Since::Asked(at) => now.since(*at) >= within,
                }
        };
        match room {
            None => Vec::new(),
            Some(None) if dialect.connecting_joins => {
                members.connected(chat).filter(is_sure).map(|(connection, _)| connection).collect()
            }
            Some(room) => {
                let present = members.in_room(chat, room.as_deref());
                present.filter(is_sure).map(|(connection, _)| connection).collect()
            }
        }
    }

    /// Of what came before the case that explains it.
    fn take_extras(&mut self, number: u64, keys: &[u64], begun: Option<Time>, members: &Members) {
        if self.extras.is_empty() {
            return;
        }
        let rules = Arc::clone(&self.rules);
        for key in keys {
            let candidates: Vec<u64> =
                self.extras_by_key.get(key).into_iter().flatten().take(UNKNOWN_MAX).copied().collect();
            for candidate in candidates {
                let Some(extra) = self.extras.get(&candidate) else { continue };
                if begun.is_some_and(|begun| begun.since(extra.time) > EARLIER_MAX || extra.time > begun) {
                    continue;
                }
                let Some(expectation) = extra.keys.iter().find(|(it, _, _)| it == key).map(|(_, _, it)| *it)
                else {
                    continue;
                };
                let Some(case) = self.cases.get(&number) else { return };
                let flow = rules.dialects().get(case.dialect).and_then(|it| it.flows.flows.get(case.flow));
                let takes = match case.slot(extra.connection, expectation) {
                    Some(slot) => slot.sent.is_none(),
                    None => flow
                        .is_some_and(|flow| self.may_get(case, flow, expectation, extra.connection, members)),
                };
                if takes && let Some(extra) = self.remove_extra(candidate) {
                    self.note_sent(number, expectation, extra.connection, extra.time, extra.stream_end);
                }
            }
        }
    }

    /// Keeps a message that nothing explains, until it is sure that nothing will.
    fn park(&mut self, seen: Seen<'_>, keys: Vec<(u64, usize, usize)>, tell: Tell<'_>) {
        if self.extras.len() >= EXTRAS_MAX
            && let Some(oldest) = self.extras.keys().next().copied()
        {
            self.shed += 1;
            if let Some(extra) = self.extras.get(&oldest) {
                let chat = extra.chat;
                self.chats.entry(chat).or_default().shed = Some(self.now);
            }
            self.judge_extra(oldest, tell);
        }
        let again = keys.iter().find_map(|(key, _, expectation)| {
            let mut cases = self.cases_of(*key).rev().take(LOOKED_BACK);
            let case = cases.find(|case| case.slot(seen.connection, *expectation).is_some())?;
            Some(Link { case: case.number, expectation: *expectation, fault: Fault::Duplicated })
        });
        let link = again.or_else(|| {
            keys.iter().find_map(|(key, _, expectation)| {
                let case = self.cases_of(*key).next_back()?;
                Some(Link { case: case.number, expectation: *expectation, fault: Fault::Unexpected })
            })
        });
        self.last_number += 1;
        let number = self.last_number;
        if let Some(case) = link.and_then(|link| self.cases.get_mut(&link.case)) {
            case.extras.push(number);
        }
        for (key, _, _) in &keys {
            self.extras_by_key.entry(*key).or_default().push_back(number);
        }
        if let Some(end) = self.ends.get_mut(&seen.connection) {
            end.extras.push_back(number);
            let stream = end.stream(seen.direction);
            while stream.extras.front().is_some_and(|(_, first)| !self.extras.contains_key(first)) {
                stream.extras.pop_front();
            }
            stream.extras.extend(seen.stream_end.map(|end| (end, number)));
        }
        let hold = seen.plan.of(seen.event.kind).map_or(LOST_AFTER_LEAST, |of_kind| of_kind.hold);
        self.timers.insert((after(seen.time, hold), Timer::Extra(number)));
        let extra = Extra {
            time: seen.time,
            connection: seen.connection,
            chat: seen.chat,
            dialect: seen.dialect,
            kind: seen.event.kind.into(),
            uid: seen.event.user.as_ref().and_then(|user| user.uid.clone()),
            to: seen.event.recipient.clone(),
            content: seen.event.content.as_deref().map(Quote::of),
            keys,
            stream_end: seen.stream_end,
            received: None,
            hold,
            link,
        };
        self.extras.insert(number, extra);
    }

    fn remove_extra(&mut self, number: u64) -> Option<Extra> {
        let extra = self.extras.remove(&number)?;
        for (key, _, _) in &extra.keys {
            remove_from(&mut self.extras_by_key, *key, number);
        }
        if let Some(end) = self.ends.get_mut(&extra.connection) {
            end.extras.retain(|it| *it != number);
        }
        self.timers.remove(&(after(extra.time, extra.hold), Timer::Extra(number)));
        Some(extra)
    }

    /// Whoever is at a connection leaves. Whether a case tells of it.
    fn leave(&mut self, connection: ConnectionId, members: &Members, tell: Tell<'_>) -> bool {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&connection) else { return false };
        if std::mem::replace(&mut end.is_leaving, true) {
            return false;
        }
        let was_member = end.party.uid.is_some() && end.room_is_known;
        if end.standing == Standing::Member {
            end.note_left_room(now);
        }
        let (chat, party, room) = (end.chat, end.party.clone(), end.room.clone());
        self.excuse(connection, false, false, tell);
        let spoken = self.chats.get(&chat).and_then(|state| state.dialect);
        let plans = Arc::clone(&self.plans);
        let (Some(dialect), true) = (spoken, was_member) else { return false };
        let Some(plan) = plans.get(dialect) else { return false };
        let mut is_of_case = false;
        for flow in &plan.leaving {
            let trigger = TriggerSeen {
                time: now,
                party: party.clone(),
                direction: None,
                kind: "".into(),
                does: Some(Act::Leave),
                to: None,
                recipient: None,
                room: room.clone(),
                content: None,
            };
            let beginning = Beginning {
                event: None,
                uid: party.uid.as_ref(),
                name: party.name.as_deref(),
                room: room.as_deref(),
            };
            let place = (dialect, *flow);
            let room = Some(room.clone());
            is_of_case |= self.open_case(chat, place, trigger, beginning, room, None, false, members, tell);
        }
        is_of_case
    }

    /// What a connection still waits for it need not get any more.
    fn excuse(&mut self, connection: ConnectionId, is_over: bool, end_unseen: bool, tell: Tell<'_>) {
        let time = self.now;
        let Some(end) = self.ends.get_mut(&connection) else { return };
        let stream = end.seen(Direction::ServerToClient);
        let is_idle = self.trusts_sent || stream.received.0 >= stream.end;
        let leaving = Leaving { time, is_over, end_unseen, is_idle };
        let mut expecting = std::mem::take(&mut end.expecting);
        if is_over {
            let waiting: BTreeSet<_> = [Direction::ClientToServer, Direction::ServerToClient]
                .into_iter()
                .flat_map(|direction| std::mem::take(&mut end.stream(direction).sent))
                .map(|(_, number, _)| number)
                .collect();
            expecting.extend(waiting);
        } else {
            end.expecting.clone_from(&expecting);
        }
        for number in expecting {
            if let Some(case) = self.cases.get_mut(&number) {
                case.note_left(connection, leaving);
                self.settle(number, tell);
            }
        }
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
        end.closed = true;
        let chat = end.chat;
        self.gone.push_back((now, Gone::Connection(connection.id)));
        let state = self.chats.entry(chat).or_default();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            self.gone.push_back((now, Gone::Chat(chat)));
        }
    }

    /// Holds the bounds, for a case with so many recipients.
    fn make_room(&mut self, sender: ConnectionId, slots: usize, tell: Tell<'_>) {
        let own = self.ends.get(&sender).map_or(0, |end| end.own.len());
        if own >= CASES_OF_ONE_SENDER_MAX
            && let Some(oldest) = self.ends.get(&sender).and_then(|end| end.own.front().copied())
        {
            self.give_up(oldest, tell);
        }
        while self.cases.len() >= CASES_MAX || (self.slots + slots > SLOTS_MAX && !self.cases.is_empty()) {
            let Some(oldest) = self.cases.keys().next().copied() else { break };
            self.give_up(oldest, tell);
        }
    }

    fn give_up(&mut self, number: u64, tell: Tell<'_>) {
        let Some(case) = self.cases.get(&number) else { return };
        let (chat, is_complete) = (case.chat, case.is_complete);
        self.shed += 1;
        // What it would have explained nothing explains.
        self.chats.entry(chat).or_default().shed = Some(self.now);
        self.conclude(number, if is_complete { Causes::NONE } else { Cause::Limit.into() }, tell);
    }

    /// Takes a case out of everything.
    fn remove(&mut self, number: u64) -> Option<Open> {
        let case = self.cases.remove(&number)?;
        self.slots = self.slots.saturating_sub(case.slots().len());
        self.timers.remove(&(case.timer, Timer::Case(number)));
        for key in &case.keys {
            remove_from(&mut self.by_key, *key, number);
        }
        if let Some(end) = self.ends.get_mut(&case.sender) {
            if end.own.front() == Some(&number) {
                end.own.pop_front();
            } else {
                end.own.retain(|it| *it != number);
            }
        }
        for slot in case.slots() {
            if let Some(end) = self.ends.get_mut(&slot.connection) {
                while end.expecting.front().is_some_and(|first| !self.cases.contains_key(first)) {
                    end.expecting.pop_front();
                }
            }
        }
        Some(case)
    }

    fn totals_of(&mut self, dialect: usize, place: usize) -> Option<&mut FlowTotals> {
        let first = self.plans.get(dialect)?.totals;
        self.totals.get_mut(first + place)
    }

    /// Ends the run: everything is judged by what was seen.
    fn finish(&mut self, tell: Tell<'_>) {
        let numbers: Vec<_> = self.cases.keys().copied().collect();
        for number in numbers {
            let Some(case) = self.cases.get_mut(&number) else { continue };
            let is_over = self.now.monotonic >= case.overdue_at;
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

/// After how long what is missing of a flow is lost.
fn lost_after(flow: &Flow) -> Duration {
    flow.within.saturating_mul(LOST_AFTER_TIMES).max(LOST_AFTER_LEAST)
}

fn remove_from(lists: &mut HashMap<u64, VecDeque<u64>>, key: u64, number: u64) {
    if let Some(numbers) = lists.get_mut(&key) {
        if numbers.front() == Some(&number) {
            numbers.pop_front();
        } else {
            numbers.retain(|it| *it != number);
        }
        if numbers.is_empty() {
            lists.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;

//! Who is at the client end of each connection, as far as the chat's messages told.
//!
//! Owns what was learnt of each connection, and who is in which room of which chat. Must not know what it is learnt for.
//! Bounded: an entry a connection until it is closed, which the engine bounds; [`NAME_BYTES_MAX`] of a name and of a
//! room are kept, [`LOGINS_WAITING_MAX`] logins of a connection wait for their answer, [`SUBSCRIPTIONS_MAX`] rooms are kept
//! of a connection that enters more than one, and [`SUBSCRIPTIONS_TOTAL_MAX`] of all (of one that enters more it is not
//! known where it is), and [`NAMES_MAX`] names of users whose connections are not known.
//!
//! A chat is a port within a network namespace: whoever comes by another address of the machine is in the same chat.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::dialect::MessageRule;
use super::own_words::OwnWords;
use super::{Act, Chat, Event, MAXIMUM_JSON_BYTES, Uid, chat_of};
use crate::record::{Connection, ConnectionId, Direction, Kind, Message, Record};
use crate::time::Time;

/// What is kept of a name or a room. Servers allow fewer.
pub const NAME_BYTES_MAX: usize = 256;

/// Logins of one connection that may wait for their answer. Servers take one.
pub const LOGINS_WAITING_MAX: usize = 4;

/// Rooms that a connection may have entered besides the one that it logged in to.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// The same of all connections together.
pub const SUBSCRIPTIONS_TOTAL_MAX: usize = 262_144;

/// Names that are kept of users by their uid; further ones are called by it.
pub const NAMES_MAX: usize = 65_536;

/// What is known of everybody.
#[derive(Debug, Default)]
pub struct Members {
    by_connection: HashMap<ConnectionId, Person>,
    by_uid: HashMap<(Chat, Uid), ConnectionId>,
    /// As user lists and announcements call them.
    names: HashMap<(Chat, Uid), Box<str>>,
    by_room: HashMap<(Chat, Option<Box<str>>), Present>,
    /// Connections of which it is not known whether anybody is logged in, or in which room, by chat.
    unknown: HashMap<Chat, BTreeSet<ConnectionId>>,
    /// Members of known rooms whose uids are not known, by chat.
    nameless: HashMap<Chat, BTreeSet<ConnectionId>>,
    /// Connections that are WebSockets, as far as that is known, and since when.
    connected: HashMap<Chat, Present>,
    own_words: OwnWords,
    subscriptions: usize,
}

/// Who is somewhere.
type Present = BTreeMap<ConnectionId, Since>;

/// Since when somebody is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The server has said so.
    Confirmed,
    /// They asked for it then, and nothing says whether the server has acted on it.
    Asked(Time),
}

/// What is known of the user of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// What they called themselves when they logged in; `None` where that was not seen.
    pub name: Option<Box<str>>,
    /// What the chat calls them.
    pub uid: Option<Uid>,
    /// Whether that is so by what they said and what came alone: whatever was not seen may speak against it.
    pub uid_is_presumed: bool,
    /// The room that they logged in to.
    pub room: Option<Box<str>>,
    /// Whether that is known: else they were connected before.
    pub room_is_known: bool,
    /// How they stand to the chat.
    pub standing: Standing,
    /// Whether something was not seen since, by which they may have left.
    pub is_doubtful: bool,
    /// Whether the connection was open before it was seen: where its frames begin is not proved at first.
    pub was_before: bool,
    /// How far what they get tells where they are.
    whereabouts: Whereabouts,
    /// Since when that is so.
    since: Time,
    chat: Chat,
    subscriptions: BTreeSet<Box<str>>,
    asked: VecDeque<Asked>,
    /// A login though they are logged in, which is refused, ignored, or moves them elsewhere.
    asked_again: Option<Asked>,
    /// When something that they sent was last not seen.
    unseen: Option<Time>,
    may_have_the_list: bool,
}

/// How the user of a connection stands to the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not logged in: all was seen, and there was no login that was answered.
    Outside,
    /// Logged in, or gets what only members get.
    Member,
    /// A login may have passed unseen.
    Unknown,
}

/// How far what somebody gets tells in which room they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// It would, if it came.
    Open,
    /// They are where those are of whom they get what only a room gets.
    ByWhatComes,
    /// They have been in more than one room, or get what is said in several.
    Unclear,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    name: Box<str>,
    room: Option<Box<str>>,
}

impl Asked {
    /// Whether a message of this rule, with this name, may be of this login.
    fn is_announced(&self, name: &str, rule: &MessageRule) -> bool {
        rule.names(&self.name, &|_| None).any(|asked| cut(&asked) == cut(name))
    }
}

impl Person {
    /// The name that they have, or ask for.
    pub fn name_or_claim(&self) -> Option<&str> {
        self.name.as_deref().or_else(|| Some(&*self.asked.front()?.name))
    }

    /// The rooms that they entered besides the one that they logged in to, in the order of their names.
    pub fn subscriptions(&self) -> impl ExactSizeIterator<Item = &str> {
        self.subscriptions.iter().map(|room| &**room)
    }

    /// Whether the chat has said what it calls them.
    const fn is_known(&self) -> bool {
        self.uid.is_some() && !self.uid_is_presumed
    }

    /// Whether they may be a member of whom the chat has not said what it calls them.
    fn may_be_nameless(&self) -> bool {
        let is_surely_outside =
            self.standing == Standing::Outside && self.asked.is_empty() && !self.is_doubtful;
        !self.is_known() && !is_surely_outside
    }

    /// Whether somebody means this user by their name or their uid.
    pub fn is_called(&self, name_or_uid: &str) -> bool {
        self.name_or_claim() == Some(cut(name_or_uid))
            || self.uid.as_ref().is_some_and(|uid| uid.to_string() == name_or_uid)
    }

    /// The room that they ask to log in to, where they do: within, `None` is the one without a name.
    pub fn asked_room(&self) -> Option<Option<&str>> {
        self.asked.front().map(|asked| asked.room.as_deref())
    }

    /// Whether they ask for a room, or for the one without a name.
    pub fn asks_for_room(&self, room: Option<&str>) -> bool {
        self.asked.iter().any(|asked| asked.room.as_deref() == room.map(cut))
    }

    /// Whether they are in a room, or ask for it.
    pub fn is_in_room(&self, room: &str) -> bool {
        let asked = self.asked.front().and_then(|asked| asked.room.as_deref());
        self.room.as_deref().or(asked) == Some(cut(room))
    }
}

impl Members {
    /// Who is at the client end of a connection, where anything is known.
    pub fn of(&self, connection: ConnectionId) -> Option<&Person> {
        self.by_connection.get(&connection)
    }

    /// The connection of whoever a chat calls so.
    pub fn by_uid(&self, chat: Chat, uid: &Uid) -> Option<ConnectionId> {
        // The key is of the map's own type, which owns its uid.
        self.by_uid.get(&(chat, uid.clone())).copied()
    }

    /// The same, where the chat has said so itself.
    pub fn surely_by_uid(&self, chat: Chat, uid: &Uid) -> Option<ConnectionId> {
        self.by_uid(chat, uid).filter(|connection| self.of(*connection).is_some_and(Person::is_known))
    }

    /// What a chat has called somebody besides their uid.
    pub fn name_of(&self, chat: Chat, uid: &Uid) -> Option<&str> {
        self.names.get(&(chat, uid.clone())).map(|name| &**name)
    }

    /// Connections whose users are in a room of a chat, and since when; without a room those who logged in to none.
    pub fn in_room(
        &self,
        chat: Chat,
        room: Option<&str>,
    ) -> impl Iterator<Item = (ConnectionId, Since)> + use<'_> {
        let members = self.by_room.get(&(chat, room.map(|room| cut(room).into())));
        members.into_iter().flatten().map(|(connection, since)| (*connection, *since))
    }

    /// Whether the user of a connection is in a room.
    pub fn is_in_room(&self, connection: ConnectionId, chat: Chat, room: Option<&str>) -> bool {
        let members = self.by_room.get(&(chat, room.map(|room| cut(room).into())));
        members.is_some_and(|members| members.contains_key(&connection))
    }

    /// The WebSockets of a chat, whoever is at them.
    pub fn connected(&self, chat: Chat) -> impl Iterator<Item = (ConnectionId, Since)> + use<'_> {
        let connected = self.connected.get(&chat);
        connected.into_iter().flatten().map(|(connection, since)| (*connection, *since))
    }

    /// Connections of a chat of which it is not known whether anybody is logged in, or in which room.
    pub fn unknown_in(&self, chat: Chat) -> impl Iterator<Item = ConnectionId> + use<'_> {
        self.unknown.get(&chat).into_iter().flatten().copied()
    }

    /// Members of a chat who are in a known room, and whose uids are not known.
    pub fn nameless_in(&self, chat: Chat) -> impl Iterator<Item = ConnectionId> + use<'_> {
        self.nameless.get(&chat).into_iter().flatten().copied()
    }

    /// Connections that ask to log in under a name, as a message of this rule announces it.
    fn asking_as(&self, chat: Chat, name: &str, rule: &MessageRule) -> impl Iterator<Item = ConnectionId> {
        let asks = move |person: &Person| {
            person.chat == chat && person.asked.front().is_some_and(|asked| asked.is_announced(name, rule))
        };
        self.by_connection.iter().filter(move |(_, person)| asks(person)).map(|(id, _)| *id)
    }

    /// Whether all of a chat was seen, and one connection alone asks to log in under a name.
    fn is_asked_by_one(&self, chat: Chat, name: &str, rule: &MessageRule) -> bool {
        !self.has_unknown(chat) && self.asking_as(chat, name, rule).take(2).count() == 1
    }

    /// Whether there is anybody in a chat of whom it is not known whether they are logged in.
    fn has_unknown(&self, chat: Chat) -> bool {
        self.unknown.get(&chat).is_some_and(|connections| !connections.is_empty())
    }

    /// Whether another user of the same chat has the same name.
    pub fn is_ambiguous(&self, connection: ConnectionId) -> bool {
        let Some(person) = self.of(connection) else { return false };
        let Some(name) = person.name_or_claim() else { return false };
        let room = self.by_room.get(&(person.chat, person.room.clone()));
        room.is_some_and(|members| {
            members
                .keys()
                .filter(|other| **other != connection)
                .take(NAMESAKES_LOOKED_AT)
                .any(|other| self.of(*other).is_some_and(|other| other.name.as_deref() == Some(name)))
        })
    }

    /// Learns from a record; to be told of all of them, in order.
    pub fn learn(&mut self, record: &Record<'_>) {
        let Some(connection) = record.connection else { return };
        match &record.kind {
            Kind::ConnectionOpened(opened) => {
                let standing = if opened.from_start { Standing::Outside } else { Standing::Unknown };
                self.meet(connection, standing).was_before = !opened.from_start;
                if !opened.from_start {
                    self.own_words.note_unheard(chat_of(connection), record.time);
                    let connected = self.connected.entry(chat_of(connection)).or_default();
                    connected.insert(connection.id, Since::Confirmed);
                }
            }
            Kind::Gap(gap) => {
                self.doubt(connection, gap.direction, record.time);
                if gap.direction == Direction::ClientToServer {
                    self.meet(connection, Standing::Outside).unseen = Some(record.time);
                }
            }
            Kind::Handshake(handshake) if handshake.accepted == Some(true) => {
                let connected = self.connected.entry(chat_of(connection)).or_default();
                connected.entry(connection.id).or_insert(Since::Asked(record.time));
            }
            Kind::Message(message) => self.learn_message(connection, message, record.time),
            Kind::ConnectionClosed(_) => self.forget(connection.id),
            _ => {}
        }
    }

    fn meet(&mut self, connection: &Connection, standing: Standing) -> &mut Person {
        let chat = chat_of(connection);
        if standing == Standing::Unknown && !self.by_connection.contains_key(&connection.id) {
            self.unknown.entry(chat).or_default().insert(connection.id);
        }
        self.by_connection.entry(connection.id).or_insert_with(|| Person {
            name: None,
            uid: None,
            uid_is_presumed: false,
            room: None,
            room_is_known: false,
            standing,
            is_doubtful: false,
            was_before: false,
            whereabouts: Whereabouts::Open,
            since: Time::default(),
            chat,
            subscriptions: BTreeSet::new(),
            asked: VecDeque::new(),
            asked_again: None,
            unseen: None,
            may_have_the_list: false,
        })
    }

    /// Something was not seen: it may have been a login, or what undoes one. But nobody is a member without a word from
    /// the server: what only a client sends makes nobody one who may be meant.
    fn doubt(&mut self, connection: &Connection, direction: Direction, time: Time) {
        let is_told = direction == Direction::ServerToClient;
        if !is_told {
            self.note_unheard(connection, time);
        }
        let person = self.meet(connection, if is_told { Standing::Unknown } else { Standing::Outside });
        person.is_doubtful = true;
        if is_told && person.standing == Standing::Outside {
            person.standing = Standing::Unknown;
            self.unknown.entry(chat_of(connection)).or_default().insert(connection.id);
        }
    }

    fn learn_message(&mut self, connection: &Connection, message: &Message<'_>, time: Time) {
        // What was found by its looks may be part of something else.
        if message.resynchronised || message.payload.is_truncated() || message.payload.undecoded.is_some() {
            return self.doubt(connection, message.direction, time);
        }
        match message.chat {
            Some(event) => self.learn_event(connection, message.direction, event, time),
            // A long list of users is not read, and may be this.
            None if message.direction == Direction::ServerToClient => {
                self.meet(connection, Standing::Outside).may_have_the_list = true;
            }
            // So may a login be, or what undoes one.
            None if message.length.is_none_or(|length| length > MAXIMUM_JSON_BYTES as u64) => {
                self.doubt(connection, message.direction, time);
                self.meet(connection, Standing::Outside).unseen = Some(time);
            }
            None => self.note_unheard(connection, time),
        }
    }

    /// Somebody said something that is not known. Of whoever has a uid it is known which words are their own.
    fn note_unheard(&mut self, connection: &Connection, time: Time) {
        if self.of(connection.id).is_none_or(Person::may_be_nameless) {
            self.own_words.note_unheard(chat_of(connection), time);
        }
    }

    fn learn_event(&mut self, connection: &Connection, direction: Direction, event: &Event<'_>, time: Time) {
        self.learn_names(chat_of(connection), direction, event);
        self.learn_own_words(connection, direction, event, time);
        let person = self.meet(connection, Standing::Outside);
        let name = event.user.as_ref().and_then(|user| user.name.as_deref());
        match (event.does(), direction) {
            (Some(Act::Subscribe), Direction::ClientToServer) => {
                let is_confirmed = event.dialect.of_server(Act::Subscribe).next().is_some();
                if !is_confirmed && let Some(room) = &event.room {
                    self.subscribe(connection, room, Since::Asked(time));
                }
            }
            (Some(Act::Subscribe), Direction::ServerToClient) => {
                if let Some(room) = &event.room {
                    self.subscribe(connection, room, Since::Confirmed);
                }
            }
            // Asked for, it may take effect at once.
            (Some(Act::Unsubscribe), _) => {
                if let Some(room) = &event.room {
                    self.unsubscribe(connection, room);
                }
            }
            // A second login is refused, or moves them elsewhere.
            (Some(Act::Join), Direction::ClientToServer) if person.name.is_some() => {
                person.is_doubtful = true;
                person.whereabouts = Whereabouts::Unclear;
                let room = event.room.as_deref().map(|room| cut(room).into());
                person.asked_again = Some(Asked { name: cut(name.unwrap_or_default()).into(), room });
            }
            (Some(Act::Join), Direction::ClientToServer) if person.asked.len() < LOGINS_WAITING_MAX => {
                let room = event.room.as_deref().map(|room| cut(room).into());
                person.asked.push_back(Asked { name: cut(name.unwrap_or_default()).into(), room });
            }
            (Some(Act::Leave), Direction::ClientToServer) => self.part(connection),
            (Some(Act::List), Direction::ServerToClient) => person.may_have_the_list = true,
            (Some(Act::Refuse), Direction::ServerToClient) => {
                _ = person.asked.pop_front().or_else(|| person.asked_again.take());
            }
            (Some(Act::Join), Direction::ServerToClient) => {
                person.may_have_the_list |= event.users.is_some() || !event.dialect.has_lists();
                let uid = event.user.as_ref().and_then(|user| user.uid.clone());
                if (event.rule.own == Some(true) || (uid.is_some() && uid == person.uid))
                    && let Some(asked) = person.asked_again.take()
                {
                    person.asked.push_front(asked);
                    return self.welcome(connection, uid, event, time);
                }
                let is_asked = person
                    .asked
                    .front()
                    .is_some_and(|asked| name.is_some_and(|name| asked.is_announced(name, event.rule)));
                match event.rule.own {
                    Some(true) => self.welcome(connection, uid, event, time),
                    // All are told of each login; the first one behind the list that bears the name that was asked for
                    // is the connection's own, unless its uid is somebody else's.
                    // Where the list is left out, it is their own if nobody else can be meant.
                    None if is_asked => {
                        let (chat, has_list) = (chat_of(connection), person.may_have_the_list);
                        let is_doubtful = person.is_doubtful;
                        let holder = uid.as_ref().and_then(|uid| self.surely_by_uid(chat, uid));
                        let is_own =
                            has_list || name.is_some_and(|name| self.is_asked_by_one(chat, name, event.rule));
                        let is_unclear = is_doubtful || holder.is_some_and(|holder| holder != connection.id);
                        match (is_own && !is_unclear, has_list) {
                            (true, _) => self.welcome(connection, uid, event, time),
                            // Somebody of the same name: which of them it is cannot be told.
                            (false, true) => self.doubt(connection, direction, time),
                            (false, false) => self.learn_of_member(connection, event, time),
                        }
                    }
                    _ => self.learn_of_member(connection, event, time),
                }
            }
            (Some(Act::Say | Act::Leave), Direction::ServerToClient) => {
                self.learn_of_member(connection, event, time);
            }
            _ => {}
        }
    }

    /// By the copies of what they say it is known what the chat calls those who were connected before.
    fn learn_own_words(
        &mut self,
        connection: &Connection,
        direction: Direction,
        event: &Event<'_>,
        time: Time,
    ) {
        let chat = chat_of(connection);
        let person = self.of(connection.id);
        if person.is_some_and(|person| !person.may_be_nameless()) {
            return;
        }
        if direction == Direction::ClientToServer {
            return self.own_words.handle_said(chat, connection.id, event, time);
        }
        let is_member =
            person.is_some_and(|person| person.standing == Standing::Member && !person.is_doubtful);
        let user = event.user.as_ref();
        let Some(uid) = user.and_then(|user| user.uid.clone()).filter(|_| is_member) else { return };
        if event.is_private()
            || self.by_uid(chat, &uid).is_some()
            || !self.own_words.are_own(chat, connection.id, event, time)
        {
            return;
        }
        let Some(person) = self.by_connection.get_mut(&connection.id) else { return };
        let before = person.uid.replace(uid.clone());
        person.uid_is_presumed = true;
        person.name = self.names.get(&(chat, uid.clone())).cloned();
        if let Some(before) = before {
            self.forget_uid(chat, before, connection.id);
        }
        self.by_uid.insert((chat, uid), connection.id);
        take_out(&mut self.nameless, chat, connection.id);
    }

    fn learn_names(&mut self, chat: Chat, direction: Direction, event: &Event<'_>) {
        if direction == Direction::ClientToServer {
            return;
        }
        for user in event.users.iter().flatten().chain(&event.user) {
            let (Some(uid), Some(name)) = (user.uid.clone(), &user.name) else { continue };
            if let Some(holder) = self.by_uid.get(&(chat, uid.clone()))
                && let Some(person) = self.by_connection.get_mut(holder)
                && person.uid_is_presumed
            {
                person.name = Some(cut(name).into());
            }
            let key = (chat, uid);
            if self.names.len() < NAMES_MAX || self.names.contains_key(&key) {
                self.names.insert(key, cut(name).into());
            }
        }
        if event.does() == Some(Act::Leave)
            && let Some(uid) = event.user.as_ref().and_then(|user| user.uid.clone())
        {
            self.names.remove(&(chat, uid));
        }
    }

    /// A connection gets what only members get.
    fn learn_of_member(&mut self, connection: &Connection, event: &Event<'_>, time: Time) {
        let person = self.meet(connection, Standing::Outside);
        let may_have_come = match person.standing {
            Standing::Unknown => true,
            Standing::Outside => person.is_doubtful,
            Standing::Member => false,
        };
        if may_have_come && person.asked.is_empty() {
            self.welcome(connection, None, event, time);
        } else if person.standing == Standing::Member {
            // What comes may have been on its way before what was not seen.
            let is_settled = person.unseen.is_none_or(|at| time.since(at) > SETTLED_AFTER);
            person.is_doubtful &= !is_settled || person.asked_again.is_some();
        }
        self.locate(connection, event, time);
    }

    /// Whoever was connected before, and gets what only those get who are in the same room as somebody, is in that room.
    fn locate(&mut self, connection: &Connection, event: &Event<'_>, time: Time) {
        let chat = chat_of(connection);
        let Some(person) = self.of(connection.id).filter(|it| it.standing == Standing::Member) else {
            return;
        };
        let is_sought = match person.whereabouts {
            Whereabouts::Open => !person.room_is_known,
            Whereabouts::ByWhatComes => true,
            Whereabouts::Unclear => false,
        };
        if !is_sought || event.is_private() || !event.dialect.is_for_room_of_user(event.rule) {
            return;
        }
        let about = event.user.as_ref().and_then(|user| self.by_uid(chat, user.uid.as_ref()?));
        let Some(other) = about.filter(|it| *it != connection.id).and_then(|it| self.of(it)) else { return };
        // By their own login alone it is known where they are; and what was said before, of the same uid or by them
        // elsewhere, may be on its way yet.
        if other.whereabouts != Whereabouts::Open
            || !other.room_is_known
            || other.is_doubtful
            || time.since(other.since) <= SETTLED_AFTER
        {
            return;
        }
        let room = other.room.clone();
        let Some(person) = self.by_connection.get_mut(&connection.id) else { return };
        if !person.room_is_known {
            person.whereabouts = Whereabouts::ByWhatComes;
            person.room_is_known = true;
            person.room.clone_from(&room);
            self.by_room.entry((chat, room)).or_default().insert(connection.id, Since::Confirmed);
            take_out(&mut self.unknown, chat, connection.id);
            self.nameless.entry(chat).or_default().insert(connection.id);
        } else if person.room != room {
            person.whereabouts = Whereabouts::Unclear;
            person.room_is_known = false;
            let former = person.room.take();
            self.leave_room(chat, former, connection.id);
            take_out(&mut self.nameless, chat, connection.id);
            self.unknown.entry(chat).or_default().insert(connection.id);
        }
    }

    /// Somebody is a member, with the uid that was told, or since always.
    fn welcome(&mut self, connection: &Connection, uid: Option<Uid>, event: &Event<'_>, time: Time) {
        let chat = chat_of(connection);
        let person = self.meet(connection, Standing::Outside);
        person.standing = Standing::Member;
        person.is_doubtful = false;
        let (old_room, old_uid) = (person.room.clone(), person.uid.clone());
        let had_room = person.is_known() && person.room_is_known;
        person.room_is_known |= !event.dialect.has_rooms();
        if let Some(uid) = uid {
            if let Some(asked) = person.asked.pop_front() {
                person.name = Some(asked.name);
                let stays = !had_room || person.room == asked.room;
                person.whereabouts = if stays { Whereabouts::Open } else { Whereabouts::Unclear };
                person.room = asked.room;
                person.room_is_known = true;
                person.since = time;
            }
            person.asked.clear();
            person.uid = Some(uid.clone());
            person.uid_is_presumed = false;
            self.by_uid.insert((chat, uid), connection.id);
        }
        let Some(person) = self.by_connection.get(&connection.id) else { return };
        let (room, room_is_known) = (person.room.clone(), person.room_is_known);
        let is_nameless = person.uid.is_none() && room_is_known;
        if let Some(old_uid) = old_uid.filter(|old_uid| person.uid.as_ref() != Some(old_uid)) {
            self.forget_uid(chat, old_uid, connection.id);
        }
        if room != old_room {
            self.leave_room(chat, old_room, connection.id);
        }
        if room_is_known {
            self.by_room.entry((chat, room)).or_default().insert(connection.id, Since::Confirmed);
            take_out(&mut self.unknown, chat, connection.id);
        } else {
            self.unknown.entry(chat).or_default().insert(connection.id);
        }
        if is_nameless {
            self.nameless.entry(chat).or_default().insert(connection.id);
        } else {
            take_out(&mut self.nameless, chat, connection.id);
        }
    }

    fn subscribe(&mut self, connection: &Connection, room: &str, since: Since) {
        let chat = chat_of(connection);
        let is_full = self.subscriptions >= SUBSCRIPTIONS_TOTAL_MAX;
        let person = self.meet(connection, Standing::Outside);
        let room: Box<str> = cut(room).into();
        let is_new = !person.subscriptions.contains(&room);
        if is_new && (person.subscriptions.len() >= SUBSCRIPTIONS_MAX || is_full) {
            self.unknown.entry(chat).or_default().insert(connection.id);
            return;
        }
        person.subscriptions.insert(room.clone());
        self.subscriptions += usize::from(is_new);
        let members = self.by_room.entry((chat, Some(room))).or_default();
        let known = members.entry(connection.id).or_insert(since);
        if since == Since::Confirmed {
            *known = since;
        }
    }

    fn unsubscribe(&mut self, connection: &Connection, room: &str) {
        let room: Box<str> = cut(room).into();
        let person = self.meet(connection, Standing::Outside);
        if person.subscriptions.remove(&room) {
            self.subscriptions = self.subscriptions.saturating_sub(1);
            self.leave_room(chat_of(connection), Some(room), connection.id);
        }
    }

    fn leave_room(&mut self, chat: Chat, room: Option<Box<str>>, connection: ConnectionId) {
        let room = (chat, room);
        if let Some(members) = self.by_room.get_mut(&room) {
            members.remove(&connection);
            if members.is_empty() {
                self.by_room.remove(&room);
            }
        }
    }

    /// Somebody left and stays connected.
    fn part(&mut self, connection: &Connection) {
        self.forget_user(connection.id);
        self.meet(connection, Standing::Outside);
    }

    fn forget(&mut self, connection: ConnectionId) {
        let Some(chat) = self.forget_user(connection) else { return };
        if let Some(connected) = self.connected.get_mut(&chat) {
            connected.remove(&connection);
            if connected.is_empty() {
                self.connected.remove(&chat);
                self.own_words.forget(chat);
            }
        }
    }

    /// Another may have it by now.
    fn forget_uid(&mut self, chat: Chat, uid: Uid, connection: ConnectionId) {
        if let Entry::Occupied(holder) = self.by_uid.entry((chat, uid))
            && *holder.get() == connection
        {
            holder.remove();
        }
    }

    fn forget_user(&mut self, connection: ConnectionId) -> Option<Chat> {
        let person = self.by_connection.remove(&connection)?;
        let chat = person.chat;
        if let Some(uid) = person.uid {
            self.forget_uid(chat, uid, connection);
        }
        self.leave_room(chat, person.room, connection);
        self.subscriptions = self.subscriptions.saturating_sub(person.subscriptions.len());
        for room in person.subscriptions {
            self.leave_room(chat, Some(room), connection);
        }
        take_out(&mut self.unknown, chat, connection);
        take_out(&mut self.nameless, chat, connection);
        Some(chat)
    }
}

fn take_out(sets: &mut HashMap<Chat, BTreeSet<ConnectionId>>, chat: Chat, connection: ConnectionId) {
    if let Some(set) = sets.get_mut(&chat) {
        set.remove(&connection);
        if set.is_empty() {
            sets.remove(&chat);
        }
    }
}

/// Members of a room among whom a namesake is looked for.
const NAMESAKES_LOOKED_AT: usize = 64;

/// Of those who logged in so long ago nothing is on its way from elsewhere.
const SETTLED_AFTER: core::time::Duration = core::time::Duration::from_secs(10);

/// As much of a name or a room as is kept.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use crate::flow::{DialectSet, Rules, parse};
    use crate::record::{ConnectionOpened, Gap, GapCause, Payload};
    use crate::websocket::frame::Opcode;

    use super::*;

    fn connection(id: u64, server_port: u16) -> Connection {
        Connection {
            id: ConnectionId(id),
            client: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            server: SocketAddr::from(([127, 0, 0, 1], server_port)),
            interface: None,
            scope: 0,
            client_claim: None,
        }
    }

    struct Told {
        people: Members,
        seconds: u64,
        rules: Arc<Rules>,
    }

    impl Default for Told {
        fn default() -> Self {
            Self { people: Members::default(), seconds: 0, rules: Rules::built_in() }
        }
    }

    impl Told {
        fn tell(&mut self, connection: &Connection, kind: Kind<'_>) {
            let time = Time::from_file(self.seconds * 1_000_000_000);
            let record = Record { time, connection: Some(connection), stream_end: None, kind };
            self.people.learn(&record);
        }

        fn opened(&mut self, connection: &Connection, from_start: bool) {
            self.tell(connection, Kind::ConnectionOpened(ConnectionOpened { from_start, was_listed: false }));
        }

        fn says(&mut self, connection: &Connection, direction: Direction, text: &str) {
            let rules = Arc::clone(&self.rules);
            let read = rules.read(DialectSet::ALL, true, direction, Opcode::Text, text);
            let message = Message {
                direction,
                time_first: Time::default(),
                opcode: Opcode::Text,
                masked: false,
                compressed: false,
                frames: 1,
                length: None,
                wire_length: 0,
                payload: Payload { text: Some(text), ..Payload::default() },
                chat: read.as_ref().map(|read| &read.event),
                resynchronised: false,
            };
            self.tell(connection, Kind::Message(message));
        }

        fn asks(&mut self, connection: &Connection, name: &str) {
            let text = format!(r#"{{"type":"login","name":"{name}"}}"#);
            self.says(connection, Direction::ClientToServer, &text);
        }

        fn is_let_in(&mut self, connection: &Connection, name: &str, uid: u64) {
            self.says(connection, Direction::ServerToClient, r#"{"type":"user_list","user_list":[]}"#);
            self.announces(connection, name, uid);
        }

        fn announces(&mut self, connection: &Connection, name: &str, uid: u64) {
            let text = format!(r#"{{"type":"login","uid":{uid},"name":"{name}"}}"#);
            self.says(connection, Direction::ServerToClient, &text);
        }

        fn is_refused(&mut self, connection: &Connection) {
            self.says(
                connection,
                Direction::ServerToClient,
                r#"{"type":"error","code":"no","message":"no"}"#,
            );
        }
    }

    /// Connections whose users are in the same room as the given one's, itself included.
    fn members_with(members: &Members, connection: ConnectionId) -> Vec<ConnectionId> {
        let person = members.of(connection).expect("it has said something");
        members.in_room(person.chat, person.room.as_deref()).map(|(member, _)| member).collect()
    }

    #[test]
    fn a_refused_login_gives_no_name_and_takes_nobody_s() {
        let (mallory, bob) = (connection(1, 7272), connection(2, 7272));
        let mut told = Told::default();
        told.opened(&mallory, true);
        told.asks(&mallory, "mallory");
        told.asks(&mallory, "bob");
        told.is_let_in(&mallory, "mallory", 1);
        told.is_refused(&mallory);
        told.opened(&bob, true);
        told.asks(&bob, "bob");
        told.is_let_in(&bob, "bob", 2);
        told.announces(&mallory, "bob", 2);
        let people = &told.people;
        assert_eq!(people.of(mallory.id).unwrap().name_or_claim(), Some("mallory"));
        assert_eq!(people.by_uid((0, 7272), &Uid::Number(2)), Some(bob.id));
        assert_eq!(members_with(people, bob.id), [mallory.id, bob.id]);
    }

    #[test]
    fn chats_of_two_ports_have_nothing_to_do_with_each_other() {
        let (here, there) = (connection(1, 7272), connection(2, 7273));
        let mut told = Told::default();
        for connection in [&here, &there] {
            told.opened(connection, true);
            told.asks(connection, "x");
            told.is_let_in(connection, "x", 7);
        }
        assert_eq!(told.people.by_uid((0, 7272), &Uid::Number(7)), Some(here.id));
        assert_eq!(told.people.by_uid((0, 7273), &Uid::Number(7)), Some(there.id));
        assert_eq!(members_with(&told.people, here.id), [here.id]);
        assert!(!told.people.is_ambiguous(here.id));
    }

    #[test]
    fn whoever_may_have_logged_in_unseen_is_unknown_until_it_shows() {
        let (late, lossy) = (connection(1, 7272), connection(2, 7272));
        let mut told = Told::default();
        told.opened(&late, false);
        told.opened(&lossy, true);
        assert!(told.people.has_unknown((0, 7272)));
        told.says(
            &late,
            Direction::ServerToClient,
            r#"{"type":"say","from_uid":1,"to_uid":"all","content":"x"}"#,
        );
        assert_eq!(told.people.of(late.id).unwrap().standing, Standing::Member);
        // A member, but of which room?
        assert_eq!(told.people.unknown_in((0, 7272)).collect::<Vec<_>>(), [late.id]);
        let gap = |direction| Gap { direction, offset: 0, length: 9, cause: GapCause::NeverSeen };
        told.tell(&lossy, Kind::Gap(gap(Direction::ClientToServer)));
        let is_unknown = |told: &Told| told.people.unknown_in((0, 7272)).any(|unknown| unknown == lossy.id);
        assert!(!is_unknown(&told), "what only a client sends makes nobody a member");
        told.tell(&lossy, Kind::Gap(gap(Direction::ServerToClient)));
        assert!(told.people.unknown_in((0, 7272)).any(|unknown| unknown == lossy.id));
        told.people.forget(lossy.id);
        told.people.forget(late.id);
        assert!(!told.people.has_unknown((0, 7272)) && told.people.connected.is_empty());
        assert!(told.people.by_room.is_empty() && told.people.by_connection.is_empty());
    }

    #[test]
    fn whoever_was_there_before_is_in_the_room_of_which_they_get_what_is_said_and_of_two_rooms_in_none() {
        let chat = (0, 7272);
        let (late, here, there) = (connection(1, 7272), connection(2, 7272), connection(3, 7272));
        let mut told = Told::default();
        told.opened(&late, false);
        for (peer, room, uid) in [(&here, "a", 7), (&there, "b", 8)] {
            told.opened(peer, true);
            let asks = format!(r#"{{"type":"login","name":"x","room_id":"{room}"}}"#);
            told.says(peer, Direction::ClientToServer, &asks);
            told.is_let_in(peer, "x", uid);
        }
        // What was said before they came is not on its way any more.
        told.seconds = 11;
        let says = |told: &mut Told, uid: u64, to: &str| {
            let text = format!(r#"{{"type":"say","from_uid":{uid},"to_uid":{to},"content":"x"}}"#);
            told.says(&late, Direction::ServerToClient, &text);
        };
        let is_unknown = |told: &Told| told.people.unknown_in(chat).any(|it| it == late.id);
        says(&mut told, 7, "9");
        assert!(is_unknown(&told), "what is for one may come from anywhere");
        for _ in 0..2 {
            says(&mut told, 7, r#""all""#);
            assert_eq!(told.people.in_room(chat, Some("a")).count(), 2);
            assert_eq!(told.people.nameless_in(chat).collect::<Vec<_>>(), [late.id]);
            assert!(!is_unknown(&told));
        }
        says(&mut told, 8, r#""all""#);
        says(&mut told, 7, r#""all""#);
        assert!(is_unknown(&told) && told.people.nameless.is_empty());
        assert_eq!(told.people.in_room(chat, Some("a")).count(), 1);
        told.people.forget(late.id);
        assert!(told.people.unknown.is_empty());
    }

    #[test]
    fn whoever_was_there_before_is_called_as_the_copies_of_their_words_call_them() {
        let late = connection(1, 7272);
        let mut told = Told::default();
        told.opened(&late, false);
        for (seconds, expected) in [(1, None), (60, Some(Uid::Number(7)))] {
            told.seconds = seconds;
            told.says(&late, Direction::ClientToServer, r#"{"type":"say","to_uid":"all","content":"<b>"}"#);
            let copy =
                r#"{"type":"say","from_uid":7,"from_name":"猪猪","to_uid":"all","content":"&lt;b&gt;"}"#;
            told.says(&late, Direction::ServerToClient, copy);
            assert_eq!(told.people.of(late.id).unwrap().uid, expected, "after {seconds} s");
        }
        assert_eq!(told.people.of(late.id).unwrap().name.as_deref(), Some("猪猪"));
        assert_eq!(told.people.by_uid((0, 7272), &Uid::Number(7)), Some(late.id));
        assert!(told.people.nameless.is_empty());
    }

    #[test]
    fn of_a_name_only_so_much_is_kept_and_of_logins_only_so_many() {
        let peer = connection(1, 7272);
        let mut told = Told::default();
        for _ in 0..100 {
            told.asks(&peer, &"猪".repeat(1_000));
        }
        let person = told.people.of(peer.id).unwrap();
        assert_eq!(person.asked.len(), LOGINS_WAITING_MAX);
        assert_eq!(person.name_or_claim().unwrap().len(), 255);
        assert!(person.is_called(&"猪".repeat(1_000)));
    }

    #[test]
    fn a_list_that_is_too_long_to_read_is_a_list_all_the_same() {
        let peer = connection(1, 7272);
        let mut told = Told::default();
        told.asks(&peer, "x");
        told.says(&peer, Direction::ServerToClient, &"x".repeat(70_000));
        told.announces(&peer, "x", 7);
        assert_eq!(told.people.of(peer.id).unwrap().uid, Some(Uid::Number(7)));
    }

    #[test]
    fn a_login_without_a_list_is_the_newcomer_s_where_nobody_else_can_be_meant() {
        let (one, other, late) = (connection(1, 7272), connection(2, 7272), connection(3, 7272));
        let mut told = Told::default();
        for peer in [&one, &other] {
            told.opened(peer, true);
            told.asks(peer, "x");
        }
        told.announces(&one, "x", 1);
        assert_eq!(told.people.of(one.id).unwrap().uid, None, "the other one asks, too");
        told.is_let_in(&other, "x", 1);
        told.announces(&one, "x", 1);
        assert_eq!(told.people.of(one.id).unwrap().uid, None, "it is the other one's");
        told.opened(&late, false);
        told.announces(&one, "x", 2);
        assert_eq!(told.people.of(one.id).unwrap().uid, None, "who knows whether the late one asked");
        told.people.forget(late.id);
        told.announces(&one, "x", 3);
        assert_eq!(told.people.by_uid((0, 7272), &Uid::Number(3)), Some(one.id));
        assert_eq!(members_with(&told.people, one.id), [one.id, other.id]);
    }

    #[test]
    fn a_login_that_only_the_newcomer_gets_is_their_own_whatever_the_name() {
        let (present, newcomer) = (connection(1, 7272), connection(2, 7272));
        let mut told = Told::default();
        for (connection, uid) in [(&present, "a"), (&newcomer, "b")] {
            told.opened(connection, true);
            let asks = r#"{"type":"login","client_name":"<x>","room_id":7}"#;
            told.says(connection, Direction::ClientToServer, asks);
            // To those who are there; both ask for the same name, escaped twice.
            let login =
                format!(r#"{{"type":"login","client_id":"{uid}","client_name":"&amp;lt;x&amp;gt;"}}"#);
            told.says(&present, Direction::ServerToClient, &login);
            assert_ne!(told.people.of(connection.id).unwrap().standing, Standing::Member);
            let own = login.replace('}', r#","client_list":{}}"#);
            told.says(connection, Direction::ServerToClient, &own);
        }
        let people = &told.people;
        assert_eq!(members_with(people, newcomer.id), [present.id, newcomer.id]);
        for (connection, uid) in [(&present, "a"), (&newcomer, "b")] {
            let person = people.of(connection.id).unwrap();
            assert_eq!((person.name.as_deref(), person.room.as_deref()), (Some("<x>"), Some("7")));
            assert_eq!(person.uid, Some(Uid::Text(uid.into())));
        }
        assert_eq!(people.name_of((0, 7272), &Uid::Text("b".into())), Some("&amp;lt;x&amp;gt;"));
    }

    #[test]
    fn a_login_that_all_get_with_the_list_is_the_newcomer_s_by_the_name_as_the_server_escapes_it() {
        let (present, newcomer) = (connection(1, 7272), connection(2, 7272));
        let mut told = Told::default();
        for (connection, name, uid) in [(&present, "a", 1), (&newcomer, "it's", 2)] {
            told.opened(connection, true);
            let asks = format!(r#"{{"type":"login","client_name":"{name}","room_id":7}}"#);
            told.says(connection, Direction::ClientToServer, &asks);
            let name = name.replace('\'', "&amp;#039;");
            let login = format!(
                r#"{{"type":"login","client_id":{uid},"client_name":"{name}","client_list":[{{"client_id":1,"client_name":"a"}}]}}"#
            );
            for member in [&present, &newcomer] {
                told.says(member, Direction::ServerToClient, &login);
            }
        }
        let people = &told.people;
        assert_eq!(people.by_uid((0, 7272), &Uid::Number(1)), Some(present.id));
        assert_eq!(people.by_uid((0, 7272), &Uid::Number(2)), Some(newcomer.id));
        assert_eq!(people.of(newcomer.id).unwrap().name.as_deref(), Some("it's"));
        assert_eq!(members_with(people, newcomer.id), [present.id, newcomer.id]);
    }

    #[test]
    fn of_those_who_leave_the_name_is_forgotten_and_of_those_who_stay_it_is_learnt() {
        let peer = connection(1, 7272);
        let mut told = Told::default();
        for text in [
            r#"{"type":"login","client_id":2,"client_name":"b","client_list":[{"client_id":2,"client_name":"b"}]}"#,
            r#"{"type":"logout","from_client_id":2,"from_client_name":"b","client_list":[{"client_id":3,"client_name":"c"}]}"#,
        ] {
            told.says(&peer, Direction::ServerToClient, text);
        }
        assert_eq!([2, 3].map(|uid| told.people.name_of((0, 7272), &Uid::Number(uid))), [None, Some("c")]);
    }

    #[test]
    fn whoever_leaves_and_stays_connected_is_outside_and_may_come_again() {
        let rules = "schema = 1\nname = 'x'\n\
            [[message]]\ntype = 'come'\nfrom = 'client'\ndoes = 'join'\nwhen = { '/t' = 'come' }\nname = '/n'\n\
            [[message]]\ntype = 'go'\nfrom = 'client'\ndoes = 'leave'\nwhen = { '/t' = 'go' }\n\
            [[message]]\ntype = 'come'\nfrom = 'server'\ndoes = 'join'\nwhen = { '/t' = 'come' }\nuid = '/u'\nname = '/n'\n";
        let peer = connection(1, 7272);
        let mut told = Told { rules: Arc::new(Rules::new(vec![parse(rules).unwrap()])), ..Told::default() };
        for (name, uid) in [("a", 1), ("b", 2)] {
            told.says(&peer, Direction::ClientToServer, &format!(r#"{{"t":"come","n":"{name}"}}"#));
            // Of a dialect without lists none is waited for.
            told.says(&peer, Direction::ServerToClient, &format!(r#"{{"t":"come","u":{uid},"n":"{name}"}}"#));
            let person = told.people.of(peer.id).unwrap();
            assert_eq!((person.name.as_deref(), person.uid.clone()), (Some(name), Some(Uid::Number(uid))));
            told.says(&peer, Direction::ClientToServer, r#"{"t":"go"}"#);
            assert_eq!(told.people.of(peer.id).unwrap().standing, Standing::Outside);
            assert_eq!(told.people.by_uid((0, 7272), &Uid::Number(uid)), None);
            assert!(told.people.by_room.is_empty());
        }
    }
}

//! Owns who is logged in to which room and the one order in which all members of a room hear everything.
//!
//! Must not know sockets, tasks or waiting: every call finishes at once. One lock is held while a message is put into
//! all mailboxes of a room, so all its members see broadcasts in the same order, and a newcomer's user list fits between
//! them. Bounded by the number of connections (each at most one member, and no room without one) and by the bounds of
//! the mailboxes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::budget::Budget;
use crate::fault::{Damage, Faults, Say};
use crate::log::Escaped;
use crate::mailbox::{Delivery, Mailbox};
use crate::message::{Recipient, Refusal, Reply, User};
use crate::statistics::Statistics;
use crate::time::local_time;

/// The members of the chat.
pub(crate) struct Hub {
    rooms: Mutex<Rooms>,
    uids: Uids,
    closing: AtomicBool,
    statistics: Arc<Statistics>,
    budget: Arc<Budget>,
    /// Asked about each login, say and leaving; there are none but in tests of observer.
    faults: Option<Faults>,
}

/// A room's name; none is the room of those who name none.
type RoomId = Option<Arc<str>>;

#[derive(Default)]
struct Rooms {
    by_id: HashMap<RoomId, Members>,
    logins: u64,
}

/// The members of one room.
#[derive(Default)]
struct Members {
    by_uid: HashMap<u32, Member>,
    /// Login number → uid, which is the order of the user list.
    order: BTreeMap<u64, u32>,
}

impl Members {
    fn in_order(&self) -> impl Iterator<Item = &Member> {
        self.order.values().filter_map(|uid| self.by_uid.get(uid))
    }
}

/// Who is logged in.
pub(crate) struct Member {
    pub(crate) uid: u32,
    login: u64,
    /// What faults are told with; nothing else asks for it.
    client: SocketAddr,
    pub(crate) name: Arc<str>,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// Names a member in the log.
impl fmt::Display for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} {})", self.client, self.uid, Escaped(&self.name))
    }
}

/// What a message did to those who got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    None,
    /// Somebody's queue is half full although that socket takes bytes: the sender should let others run.
    Crowded,
}

impl Hub {
    pub(crate) fn new(statistics: Arc<Statistics>, budget: Arc<Budget>, faults: Option<Faults>) -> Self {
        Self {
            rooms: Mutex::default(),
            uids: Uids::new(),
            closing: AtomicBool::new(false),
            statistics,
            budget,
            faults,
        }
    }

    /// A uid for a new connection.
    pub(crate) fn new_uid(&self) -> u32 {
        self.uids.next()
    }

    /// Makes a connection a member of a room: it gets the room's user list, then all members get its login.
    ///
    /// The member leaves when the returned membership is dropped.
    pub(crate) fn login(
        self: &Arc<Self>,
        uid: u32,
        client: SocketAddr,
        name: &str,
        room: Option<&str>,
        mailbox: &Arc<Mailbox>,
    ) -> (Membership, Pressure) {
        let name: Arc<str> = name.into();
        let room: RoomId = room.map(Into::into);
        let mut rooms = self.lock();
        let login = rooms.logins;
        rooms.logins += 1;
        let members = rooms.by_id.entry(room.clone()).or_default();
        members.order.insert(login, uid);
        let member = Member { uid, login, client, name: Arc::clone(&name), mailbox: Arc::clone(mailbox) };
        members.by_uid.insert(uid, member);
        let damage = match &self.faults {
            Some(faults) => faults.login(&members.in_order().collect::<Vec<_>>()),
            None => Damage::default(),
        };
        let mut pressure = Pressure::None;
        if !damage.is_without_user_list {
            let user_list =
                members.in_order().map(|member| User { uid: member.uid, name: &member.name }).collect();
            let list = self.budget.frame(&Reply::UserList { user_list }.to_json());
            pressure = self.count(mailbox.put_user_list(list));
        }
        let frame = self.budget.frame(&Reply::Login { uid, name: &name, time: &local_time() }.to_json());
        pressure = pressure.max(self.broadcast(members, &frame, damage));
        drop(rooms);
        self.statistics.logins.increment();
        (Membership { hub: Arc::clone(self), uid, name, room }, pressure)
    }

    /// Lets nobody be told who leaves from now on, since everybody does.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn leave(&self, uid: u32, name: &str, room: &RoomId) {
        let mut rooms = self.lock();
        let Some(members) = rooms.by_id.get_mut(room) else { return };
        if let Some(member) = members.by_uid.remove(&uid) {
            members.order.remove(&member.login);
        }
        if let Some(faults) = &self.faults {
            self.put_extra(faults.leave(uid));
        }
        if members.by_uid.is_empty() {
            rooms.by_id.remove(room);
        } else if !self.closing.load(Ordering::Relaxed) {
            let frame = self.budget.frame(&Reply::Logout { uid, name, time: &local_time() }.to_json());
            self.broadcast(members, &frame, Damage::default());
        }
    }

    fn broadcast(&self, members: &Members, frame: &Bytes, damage: Damage) -> Pressure {
        let pressure = members
            .by_uid
            .values()
            .filter(|member| !damage.withheld.contains(&member.uid))
            .map(|member| self.count(member.mailbox.put(frame.clone())))
            .max()
            .unwrap_or(Pressure::None);
        pressure.max(self.put_extra(damage.extra))
    }

    fn put_extra(&self, extra: Vec<(Arc<Mailbox>, Bytes)>) -> Pressure {
        extra
            .into_iter()
            .map(|(mailbox, frame)| self.count(mailbox.put(frame)))
            .max()
            .unwrap_or(Pressure::None)
    }

    fn count(&self, delivery: Delivery) -> Pressure {
        match delivery {
            Delivery::Queued => {
                self.statistics.messages_queued.increment();
                Pressure::None
            }
            Delivery::Crowded => {
                self.statistics.messages_queued.increment();
                Pressure::Crowded
            }
            // Its connection finds the queue overflowed and says so in the log.
            Delivery::TooSlow => Pressure::None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialOrd for Pressure {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pressure {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

/// A member's right to speak; dropping it is leaving, however the connection ended.
pub(crate) struct Membership {
    hub: Arc<Hub>,
    uid: u32,
    name: Arc<str>,
    room: RoomId,
}

impl Membership {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says something to all in the room, the speaker included, or to one member only; then, with `copy`, the speaker
    /// gets it too.
    pub(crate) fn say(&self, to: Recipient, content: &str, copy: bool) -> Result<Pressure, Refusal> {
        let unknown_uid = || Refusal::new("unknown_uid", "nobody with the uid in \"to_uid\" is logged in");
        let rooms = self.hub.lock();
        let members = rooms.by_id.get(&self.room).ok_or_else(unknown_uid)?;
        let recipient = match to {
            Recipient::All => None,
            Recipient::User(uid) => Some(members.by_uid.get(&uid).ok_or_else(unknown_uid)?),
        };
        let time = local_time();
        let frame = |content: &str| {
            let reply = Reply::Say { from_uid: self.uid, to_uid: to.into(), content, time: &time };
            self.hub.budget.frame(&reply.to_json())
        };
        let damage = self.damage(&rooms, to, content, &frame);
        let frame = frame(content);
        let Some(recipient) = recipient else { return Ok(self.hub.broadcast(members, &frame, damage)) };
        let mut pressure = Pressure::None;
        if !damage.withheld.contains(&recipient.uid) {
            pressure = self.hub.count(recipient.mailbox.put(frame.clone()));
        }
        if copy
            && recipient.uid != self.uid
            && let Some(speaker) = members.by_uid.get(&self.uid)
        {
            pressure = pressure.max(self.hub.count(speaker.mailbox.put(frame)));
        }
        Ok(pressure.max(self.hub.put_extra(damage.extra)))
    }

    /// What faults do to a say of this member.
    fn damage(&self, rooms: &Rooms, to: Recipient, content: &str, frame: &dyn Fn(&str) -> Bytes) -> Damage {
        let Some(faults) = &self.hub.faults else { return Damage::default() };
        let Some(members) = rooms.by_id.get(&self.room) else { return Damage::default() };
        let Some(sender) = members.by_uid.get(&self.uid) else { return Damage::default() };
        let others = rooms.by_id.iter().filter(|(id, _)| **id != self.room);
        let mut elsewhere: Vec<_> = others.flat_map(|(_, members)| members.by_uid.values()).collect();
        elsewhere.sort_unstable_by_key(|member| member.login);
        faults.say(&Say { sender, to, content, frame, room: members.in_order().collect(), elsewhere })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.leave(self.uid, &self.name, &self.room);
    }
}

/// Uids of nine digits that repeat only after 900 million connections.
struct Uids {
    start: u64,
    taken: AtomicU64,
}

impl Uids {
    const FIRST: u64 = 100_000_000;
    const COUNT: u64 = 900_000_000;
    /// Shares no factor with `COUNT`, so that stepping by it reaches every uid before one comes again.
    const STEP: u64 = 45_889;

    fn new() -> Self {
        // Different from run to run, so that a uid of a past run is not somebody else's in this one.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros());
        Self { start: u64::try_from(start % u128::from(Self::COUNT)).unwrap_or(0), taken: AtomicU64::new(0) }
    }

    fn next(&self) -> u32 {
        let number = self.taken.fetch_add(1, Ordering::Relaxed) % Self::COUNT;
        let uid = Self::FIRST + (self.start + number * Self::STEP) % Self::COUNT;
        u32::try_from(uid).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::mailbox::Mail;

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new(Arc::default(), budget(), None))
    }

    fn budget() -> Arc<Budget> {
        Arc::new(Budget::new(usize::MAX))
    }

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(1000, 1 << 20, budget()))
    }

    fn login(
        hub: &Arc<Hub>,
        uid: u32,
        name: &str,
        room: Option<&str>,
        mailbox: &Arc<Mailbox>,
    ) -> (Membership, Pressure) {
        hub.login(uid, SocketAddr::from(([127, 0, 0, 1], 1)), name, room, mailbox)
    }

    /// The JSON of all waiting frames, without their two- or four-byte headers.
    fn read(mailbox: &Mailbox) -> Vec<String> {
        std::iter::from_fn(|| match mailbox.take() {
            Mail::Frame(frame) => {
                let header = if frame[1] == 126 { 4 } else { 2 };
                Some(String::from_utf8(frame[header..].to_vec()).unwrap())
            }
            Mail::Empty | Mail::Overflowed => None,
        })
        .collect()
    }

    #[test]
    fn a_newcomer_gets_the_list_in_order_of_login_and_then_its_own_login() {
        let hub = hub();
        let (first, second) = (mailbox(), mailbox());
        let (_ann, _) = login(&hub, 900_000_000, "Ann", None, &first);
        let (_bob, _) = login(&hub, 100_000_000, "Bob", None, &second);
        let seen = read(&second);
        assert_eq!(
            seen[0],
            r#"{"type":"user_list","user_list":[{"uid":900000000,"name":"Ann"},{"uid":100000000,"name":"Bob"}]}"#
        );
        assert!(seen[1].starts_with(r#"{"type":"login","uid":100000000,"name":"Bob","time":""#));
        assert_eq!(read(&first).len(), 3);
    }

    #[test]
    fn a_user_list_longer_than_a_queue_leaves_the_newcomer_its_whole_queue() {
        let hub = hub();
        let others: Vec<_> =
            (1..=20).map(|uid| login(&hub, uid, &"x".repeat(100), None, &mailbox())).collect();
        let newcomer = Arc::new(Mailbox::new(1000, 1024, budget()));
        let (_newcomer, pressure) = login(&hub, 21, "Newcomer", None, &newcomer);
        let (_other, _) = login(&hub, 22, "Other", None, &mailbox());
        assert_eq!(pressure, Pressure::None);
        let seen = read(&newcomer);
        assert!(seen[0].len() > 1024 && seen[0].contains("Newcomer"), "{seen:?}");
        assert!(seen[1].contains("Newcomer") && seen[2].contains("Other"), "{seen:?}");
        drop(others);
    }

    #[test]
    fn leaving_is_told_to_those_who_stay_unless_all_leave() {
        let hub = hub();
        let (first, second) = (mailbox(), mailbox());
        let (ann, _) = login(&hub, 1, "Ann", None, &first);
        let (bob, _) = login(&hub, 2, "Bob", None, &second);
        read(&first);
        drop(bob);
        assert!(read(&first)[0].starts_with(r#"{"type":"logout","uid":2,"name":"Bob""#));
        let (bob, _) = login(&hub, 3, "Bob", None, &second);
        read(&first);
        hub.close();
        drop(bob);
        assert_eq!(read(&first), Vec::<String>::new());
        drop(ann);
        assert!(hub.lock().by_id.is_empty());
    }

    #[test]
    fn a_private_message_reaches_one_member_and_an_unknown_uid_nobody() {
        let hub = hub();
        let (first, second) = (mailbox(), mailbox());
        let (ann, _) = login(&hub, 1, "Ann", None, &first);
        let (_bob, _) = login(&hub, 2, "Bob", None, &second);
        read(&first);
        read(&second);
        ann.say(Recipient::User(2), "psst", false).unwrap();
        assert!(
            read(&second)[0]
                .starts_with(r#"{"type":"say","from_uid":1,"to_uid":2,"content":"psst","time":""#)
        );
        assert_eq!(ann.say(Recipient::User(7), "?", false).unwrap_err().code, "unknown_uid");
        assert!(read(&first).is_empty() && read(&second).is_empty());
    }

    #[test]
    fn a_private_message_comes_back_to_who_asks_for_a_copy_and_only_once() {
        let hub = hub();
        let (first, second) = (mailbox(), mailbox());
        let (ann, _) = login(&hub, 1, "Ann", None, &first);
        let (_bob, _) = login(&hub, 2, "Bob", None, &second);
        read(&first);
        read(&second);
        ann.say(Recipient::User(2), "psst", true).unwrap();
        let seen = read(&first);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen, read(&second));
        ann.say(Recipient::User(1), "to myself", true).unwrap();
        ann.say(Recipient::All, "to all", true).unwrap();
        assert_eq!((read(&first).len(), read(&second).len()), (2, 1));
    }

    #[test]
    fn rooms_do_not_hear_each_other() {
        let hub = hub();
        let (first, second, third) = (mailbox(), mailbox(), mailbox());
        let (ann, _) = login(&hub, 1, "Ann", None, &first);
        let (bob, _) = login(&hub, 2, "Bob", Some("7"), &second);
        let (_cem, _) = login(&hub, 3, "Cem", Some("7"), &third);
        assert_eq!(read(&first).len(), 2);
        assert!(read(&third)[0].ends_with(r#""user_list":[{"uid":2,"name":"Bob"},{"uid":3,"name":"Cem"}]}"#));
        read(&second);
        ann.say(Recipient::All, "hi", false).unwrap();
        assert_eq!(ann.say(Recipient::User(2), "hi", false).unwrap_err().code, "unknown_uid");
        assert_eq!((read(&first).len(), read(&second).len(), read(&third).len()), (1, 0, 0));
        bob.say(Recipient::All, "hi", false).unwrap();
        drop(bob);
        assert_eq!((read(&first).len(), read(&third).len()), (0, 2));
    }

    #[test]
    fn a_room_is_gone_with_its_last_member() {
        let hub = hub();
        for number in 0..1000 {
            drop(login(&hub, number, "Ann", Some(&number.to_string()), &mailbox()));
        }
        assert!(hub.lock().by_id.is_empty());
    }

    #[test]
    fn uids_have_nine_digits_and_do_not_repeat() {
        let uids = Uids::new();
        let seen: HashSet<u32> = (0..100_000).map(|_| uids.next()).collect();
        assert_eq!(seen.len(), 100_000);
        assert!(seen.iter().all(|uid| (100_000_000..1_000_000_000).contains(uid)));
    }
}

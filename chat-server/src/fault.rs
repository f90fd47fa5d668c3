//! Owns what faults do to the chat's messages: whose copy is hit, when, and what becomes of it.
//!
//! A fault breaks the chat on purpose, for tests of observer; how one is written is `spec`'s. Nothing is left to chance,
//! so that a test knows which message is hit:
//!
//! - A fault hits one member a message: of those that it can hit the one who joined last, by `name` of those called so.
//!   It never hits the sender of a say.
//! - It counts only messages with which it could hit somebody, in the order in which all hear them, in all rooms
//!   together, and strikes with each nth of them.
//! - One copy is hit by one fault. Where several would strike it, the one that was given first does; for the others the
//!   message counts, and the strike is lost. What completes a reorder is hit by that, before all others.
//!
//! Each strike is told in the log, a reorder once it is done, in one of these forms, where a member is
//! `ADDRESS:PORT (UID "NAME")` and text is escaped:
//!
//! ```text
//! FAULT hits MEMBER: say of MEMBER to all: "CONTENT"
//! FAULT hits MEMBER: say of MEMBER to UID: "CONTENT"
//! FAULT hits MEMBER: login of MEMBER
//! ```
//!
//! Behind the content stands of some what came of it: `, behind "CONTENT"` or `, as one of them leaves` (reorder), `, N ms
//! late` (delay), `, as "CONTENT"` (alter), `, and then "CONTENT"` (unsolicited).
//!
//! Must not know rooms, or who is in them: it is told with each message. Bounded by the number of faults; copies that
//! wait, by one for each sender and reorder, and by [`MOST_DELAYED`]; beyond that nothing is delayed, and the strike is
//! lost.

mod spec;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::hub::Member;
use crate::log::{Escaped, Log};
use crate::mailbox::{Delivery, Mailbox};
use crate::message::Recipient;
use crate::statistics::Statistics;

pub use spec::Fault;
use spec::Kind;

/// Copies at a time that wait for their delay.
const MOST_DELAYED: usize = 1024;

/// The faults of one server.
pub(crate) struct Faults {
    state: Mutex<State>,
    delayed: Arc<Semaphore>,
    log: Arc<Log>,
    statistics: Arc<Statistics>,
}

struct State {
    faults: Vec<Armed>,
    held: Vec<Held>,
    invented: u64,
}

struct Armed {
    fault: Fault,
    /// Messages with which it could hit somebody.
    counted: u64,
}

/// A copy that waits for its sender's next say.
struct Held {
    sender: u32,
    recipient: u32,
    mailbox: Arc<Mailbox>,
    frame: Bytes,
    /// What the log says of it.
    strike: String,
}

/// A say, with those whom faults can hit.
pub(crate) struct Say<'a> {
    pub(crate) sender: &'a Member,
    pub(crate) to: Recipient,
    pub(crate) content: &'a str,
    /// Makes a frame of this say with another content.
    pub(crate) frame: &'a dyn Fn(&str) -> Bytes,
    /// All in the sender's room, in order of login.
    pub(crate) room: Vec<&'a Member>,
    /// All in other rooms, in order of login.
    pub(crate) elsewhere: Vec<&'a Member>,
}

/// What becomes of one message.
#[derive(Default)]
pub(crate) struct Damage {
    /// The newcomer gets no user list.
    pub(crate) is_without_user_list: bool,
    /// Uids of those who do not get their copy.
    pub(crate) withheld: Vec<u32>,
    /// What is sent besides, once all others have their copies.
    pub(crate) extra: Vec<(Arc<Mailbox>, Bytes)>,
    /// Uids of those whom a fault has hit.
    hit: Vec<u32>,
}

impl Faults {
    /// None where there are none.
    pub(crate) fn new(faults: &[Fault], log: Arc<Log>, statistics: Arc<Statistics>) -> Option<Self> {
        if faults.is_empty() {
            return None;
        }
        let specs: Vec<_> =
            faults.iter().map(|fault| format!("--fault {}", Escaped(&fault.to_string()))).collect();
        log.warning(format_args!(
            "THIS CHAT IS BROKEN ON PURPOSE, for tests of observer: {}",
            specs.join(" ")
        ));
        let faults = faults.iter().map(|fault| Armed { fault: fault.clone(), counted: 0 }).collect();
        Some(Self {
            state: Mutex::new(State { faults, held: Vec::new(), invented: 0 }),
            delayed: Arc::new(Semaphore::new(MOST_DELAYED)),
            log,
            statistics,
        })
    }

    /// What becomes of a login; `room` is in order of login, so that the newcomer is its last.
    pub(crate) fn login(&self, room: &[&Member]) -> Damage {
        let mut damage = Damage::default();
        let Some((newcomer, before)) = room.split_last() else { return damage };
        for armed in &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).faults {
            let kind = armed.fault.kind;
            let within_reach = match kind {
                Kind::SkipUserList => std::slice::from_ref(newcomer),
                Kind::SilentLogin => before,
                _ => continue,
            };
            let Some(victim) = armed.strike(within_reach, &mut damage) else { continue };
            if kind == Kind::SkipUserList {
                damage.is_without_user_list = true;
            } else {
                damage.withheld.push(victim.uid);
            }
            self.log.fault(format_args!("{kind} hits {victim}: login of {newcomer}"));
        }
        damage
    }

    /// What becomes of a say.
    pub(crate) fn say(&self, say: &Say<'_>) -> Damage {
        let mut damage = Damage::default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { faults, held, invented } = &mut *state;
        if say.to == Recipient::All {
            for held in held.extract_if(.., |held| held.sender == say.sender.uid) {
                self.log.fault(format_args!("{}, behind {}", held.strike, Escaped(say.content)));
                damage.hit.push(held.recipient);
                damage.extra.push((held.mailbox, held.frame));
            }
        }
        for armed in faults {
            let Some(victim) = armed.strike(&say.within_reach(armed.fault.kind), &mut damage) else {
                continue;
            };
            let strike = say.strike(armed.fault.kind, victim);
            let copy = |content: &str| (Arc::clone(&victim.mailbox), (say.frame)(content));
            let outcome = match armed.fault.kind {
                Kind::SkipUserList | Kind::SilentLogin => continue,
                Kind::Drop => {
                    damage.withheld.push(victim.uid);
                    String::new()
                }
                Kind::Duplicate | Kind::Misdeliver | Kind::WrongRoom => {
                    damage.extra.push(copy(say.content));
                    String::new()
                }
                Kind::Reorder => {
                    let (mailbox, frame) = copy(say.content);
                    damage.withheld.push(victim.uid);
                    held.push(Held { sender: say.sender.uid, recipient: victim.uid, mailbox, frame, strike });
                    continue;
                }
                Kind::Delay => {
                    if !self.delay(armed.fault.delay, copy(say.content)) {
                        continue;
                    }
                    damage.withheld.push(victim.uid);
                    format!(", {} ms late", armed.fault.delay.as_millis())
                }
                Kind::Alter => {
                    let altered = format!("{}*", say.content);
                    damage.withheld.push(victim.uid);
                    damage.extra.push(copy(&altered));
                    format!(", as {}", Escaped(&altered))
                }
                Kind::Unsolicited => {
                    *invented += 1;
                    let unsaid = format!("nobody said this ({invented})");
                    damage.extra.push(copy(&unsaid));
                    format!(", and then {}", Escaped(&unsaid))
                }
            };
            self.log.fault(format_args!("{strike}{outcome}"));
        }
        damage
    }

    /// What was held for or from a member who leaves; it goes out before the logout.
    pub(crate) fn leave(&self, uid: u32) -> Vec<(Arc<Mailbox>, Bytes)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .held
            .extract_if(.., |held| held.sender == uid || held.recipient == uid)
            .map(|held| {
                self.log.fault(format_args!("{}, as one of them leaves", held.strike));
                (held.mailbox, held.frame)
            })
            .collect()
    }

    /// Whether there was room for one more copy that waits.
    fn delay(&self, delay: Duration, (mailbox, frame): (Arc<Mailbox>, Bytes)) -> bool {
        let Ok(permit) = Arc::clone(&self.delayed).try_acquire_owned() else { return false };
        let statistics = Arc::clone(&self.statistics);
        tokio::spawn(async move {
            sleep(delay).await;
            if mailbox.put(frame) != Delivery::TooSlow {
                statistics.messages_queued.increment();
            }
            drop(permit);
        });
        true
    }
}

impl Armed {
    /// Counts a message that can hit one of those `within_reach`, and picks the victim if it is the fault's turn.
    fn strike<'a>(&mut self, within_reach: &[&'a Member], damage: &mut Damage) -> Option<&'a Member> {
        let Fault { name, every, .. } = &self.fault;
        let is_meant = |member: &&&Member| name.as_deref().is_none_or(|name| name == &*member.name);
        let victim = *within_reach.iter().rev().find(is_meant)?;
        self.counted += 1;
        if !self.counted.is_multiple_of(*every) || damage.hit.contains(&victim.uid) {
            return None;
        }
        damage.hit.push(victim.uid);
        Some(victim)
    }
}

impl<'a> Say<'a> {
    /// Those whom a fault of this kind can hit, in order of login.
    fn within_reach(&self, kind: Kind) -> Vec<&'a Member> {
        let in_room = |is_wanted: &dyn Fn(u32) -> bool| {
            let wanted = |member: &&Member| member.uid != self.sender.uid && is_wanted(member.uid);
            self.room.iter().copied().filter(wanted).collect()
        };
        match (kind, self.to) {
            (
                Kind::Drop | Kind::Duplicate | Kind::Reorder | Kind::Delay | Kind::Alter | Kind::Unsolicited,
                Recipient::All,
            ) => in_room(&|_| true),
            (Kind::Delay | Kind::Alter | Kind::Unsolicited, Recipient::User(to)) => in_room(&|uid| uid == to),
            (Kind::Misdeliver, Recipient::User(to)) => in_room(&|uid| uid != to),
            (Kind::WrongRoom, Recipient::All) => self.elsewhere.clone(),
            (Kind::Drop | Kind::Duplicate | Kind::Reorder | Kind::WrongRoom, Recipient::User(_))
            | (Kind::Misdeliver, Recipient::All)
            | (Kind::SkipUserList | Kind::SilentLogin, _) => Vec::new(),
        }
    }

    /// What the log says of a strike.
    fn strike(&self, kind: Kind, victim: &Member) -> String {
        let Self { sender, content, .. } = self;
        let to = match self.to {
            Recipient::All => "all".to_owned(),
            Recipient::User(uid) => uid.to_string(),
        };
        format!("{kind} hits {victim}: say of {sender} to {to}: {}", Escaped(content))
    }
}

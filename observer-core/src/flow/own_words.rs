//! By which of the copies that come somebody's own words are known: for connections that were open before, of whose users
//! no uid was told.
//!
//! Owns what such users said lately. Must not know members, nor why anything is asked. Bounded by [`SAID_MAX`], of which the
//! oldest are forgotten, and by [`UNHEARD_MAX`]: of chats beyond it nothing is known.
//!
//! Whoever says something, and is sent it as the words of a uid that nobody is known to have, has that uid: unless somebody
//! else whose uid is not known said the same, or may have.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use super::Chat;
use super::dialect::{Dialect, MessageRule};
use super::event::Event;
use super::flows::{Part, Trigger, Whom};
use crate::record::{ConnectionId, Direction};
use crate::time::Time;

/// Of so many messages it is remembered who said them.
pub const SAID_MAX: usize = 4_096;

/// Of so many chats it is remembered when somebody was not heard.
const UNHEARD_MAX: usize = 4_096;

/// For so long copies may be on their way.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// What was said, as a server may pass it on.
type Words = (Chat, u64);

#[derive(Debug, Default)]
pub(super) struct OwnWords {
    secret: RandomState,
    said: HashMap<Words, Said>,
    order: VecDeque<(Words, Time)>,
    /// When somebody whose uid is not known was last not heard.
    unheard: HashMap<Chat, Time>,
    /// The same of chats that have no entry there.
    unheard_elsewhere: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    by: ConnectionId,
    at: Time,
    /// Whether somebody else said it, too.
    is_shared: bool,
}

impl OwnWords {
    /// Somebody whose uid is not known says something.
    pub(super) fn handle_said(&mut self, chat: Chat, by: ConnectionId, event: &Event<'_>, at: Time) {
        let Some(said) = event.content.as_deref() else { return };
        let texts = |field: &str| event.fields.text(field);
        let mut wordings: Vec<_> = copies(event.dialect, event.kind)
            .flat_map(|rule| rule.contents(said, &texts).map(|content| self.digest(rule, &content)))
            .collect();
        wordings.sort_unstable();
        wordings.dedup();
        for digest in wordings {
            let words = (chat, digest);
            let before = self.said.get(&words).filter(|before| at.since(before.at) <= ON_ITS_WAY);
            let is_shared = before.is_some_and(|before| before.is_shared || before.by != by);
            self.said.insert(words, Said { by, at, is_shared });
            self.order.push_back((words, at));
        }
        while self.order.len() > SAID_MAX {
            let Some((words, at)) = self.order.pop_front() else { break };
            if self.said.get(&words).is_some_and(|said| said.at == at) {
                self.said.remove(&words);
                // It may have been said by any of those who are heard later.
                self.note_unheard(words.0, at);
            }
        }
    }

    /// Somebody whose uid is not known may have said something.
    pub(super) fn note_unheard(&mut self, chat: Chat, at: Time) {
        if self.unheard.len() >= UNHEARD_MAX && !self.unheard.contains_key(&chat) {
            self.unheard_elsewhere = self.unheard_elsewhere.max(Some(at));
            return;
        }
        let last = self.unheard.entry(chat).or_insert(at);
        *last = (*last).max(at);
    }

    /// Nobody of a chat is left.
    pub(super) fn forget(&mut self, chat: Chat) {
        self.unheard.remove(&chat);
    }

    /// Whether what a server sends on a connection are the words of whoever is there.
    pub(super) fn are_own(&self, chat: Chat, connection: ConnectionId, event: &Event<'_>, now: Time) -> bool {
        let Some(content) = event.content.as_deref() else { return false };
        let Some(said) = self.said.get(&(chat, self.digest(event.rule, content))) else { return false };
        let unheard = self.unheard.get(&chat).or(self.unheard_elsewhere.as_ref());
        said.by == connection
            && !said.is_shared
            && now.since(said.at) <= ON_ITS_WAY
            && unheard.is_none_or(|at| at.monotonic < said.at.monotonic && said.at.since(*at) > ON_ITS_WAY)
    }

    fn digest(&self, rule: &MessageRule, content: &str) -> u64 {
        self.secret.hash_one((&rule.kind, content))
    }
}

/// The rules by which a server tells everybody, whoever said it among them, what a client says by messages of a type, and
/// whose words they are.
fn copies<'a>(dialect: &'a Dialect, kind: &str) -> impl Iterator<Item = &'a MessageRule> {
    let expected = dialect
        .flows
        .flows
        .iter()
        .filter(move |flow| match &flow.when {
            Trigger::Message { kinds, from: Direction::ClientToServer, .. } => {
                kinds.iter().any(|it| **it == *kind)
            }
            _ => false,
        })
        .flat_map(|flow| &flow.expect)
        .filter(|expected| expected.to == Whom::Members)
        .filter(|expected| [Part::User, Part::Content].iter().all(|part| expected.same.contains(part)));
    expected.flat_map(|expected| {
        dialect
            .messages
            .iter()
            .filter(|rule| rule.goes(Direction::ServerToClient) && expected.kinds.contains(&rule.kind))
    })
}

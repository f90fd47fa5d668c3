//! Who gives way where there is too much: whoever holds most of it, in the chat that holds most.
//!
//! Owns how much each connection of each chat holds of something. Must not know what that is. Bounded by what it counts:
//! who holds nothing has no entry.
//!
//! If the oldest gave way, wherever it is, then a few busy connections, or another chat, would make it inconclusive what
//! everybody else says.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::flow::Chat;
use crate::record::ConnectionId;

/// How much everybody holds.
#[derive(Debug, Default)]
pub(super) struct Shares {
    chats: Ranking<Chat>,
    connections: HashMap<Chat, Ranking<ConnectionId>>,
    total: usize,
}

impl Shares {
    /// A connection holds more.
    pub(super) fn add(&mut self, chat: Chat, connection: ConnectionId, more: usize) {
        self.total += more;
        self.chats.change(chat, |amount| amount.saturating_add(more));
        let connections = self.connections.entry(chat).or_default();
        connections.change(connection, |amount| amount.saturating_add(more));
    }

    /// A connection holds less.
    pub(super) fn take(&mut self, chat: Chat, connection: ConnectionId, less: usize) {
        self.total = self.total.saturating_sub(less);
        self.chats.change(chat, |amount| amount.saturating_sub(less));
        if let Some(connections) = self.connections.get_mut(&chat) {
            connections.change(connection, |amount| amount.saturating_sub(less));
            if connections.amounts.is_empty() {
                self.connections.remove(&chat);
            }
        }
    }

    /// What all hold together.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Who holds most, in the chat that does.
    pub(super) fn heaviest(&self) -> Option<ConnectionId> {
        self.connections.get(&self.chats.first()?)?.first()
    }
}

/// Holders, by how much they hold.
#[derive(Debug)]
struct Ranking<T> {
    amounts: HashMap<T, usize>,
    by_amount: BTreeSet<(usize, T)>,
}

// Derived, it would want a default of T.
impl<T> Default for Ranking<T> {
    fn default() -> Self {
        Self { amounts: HashMap::new(), by_amount: BTreeSet::new() }
    }
}

impl<T: Copy + Eq + Hash + Ord> Ranking<T> {
    fn change(&mut self, holder: T, change: impl FnOnce(usize) -> usize) {
        let before = self.amounts.remove(&holder).unwrap_or_default();
        self.by_amount.remove(&(before, holder));
        let amount = change(before);
        if amount > 0 {
            self.amounts.insert(holder, amount);
            self.by_amount.insert((amount, holder));
        }
    }

    fn first(&self) -> Option<T> {
        self.by_amount.last().map(|(_, holder)| *holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_most_of_the_chat_that_holds_most_is_the_heaviest() {
        let (here, there) = ((0, 7272), (0, 7273));
        let [one, other, third] = [1, 2, 3].map(ConnectionId);
        let mut shares = Shares::default();
        assert_eq!(shares.heaviest(), None);
        shares.add(here, one, 5);
        shares.add(there, other, 3);
        shares.add(there, third, 4);
        assert_eq!((shares.heaviest(), shares.total()), (Some(third), 12));
        shares.take(there, third, 2);
        shares.add(there, other, 1);
        assert_eq!(shares.heaviest(), Some(other));
        shares.take(there, other, 4);
        shares.take(there, third, 2);
        assert_eq!(shares.heaviest(), Some(one));
        shares.take(here, one, 5);
        assert_eq!((shares.heaviest(), shares.total()), (None, 0));
        assert!(shares.connections.is_empty() && shares.chats.amounts.is_empty());
    }
}

//! Which connection a packet belongs to.
//!
//! Owns the keys of connections, their order of last use, and the memory of closed ones. Must not know what happens
//! within a connection. Bounded by [`Limits::connections`](crate::Limits::connections) and
//! [`Limits::closed_connections`](crate::Limits::closed_connections): whoever inserts asks [`Table::eviction`] first.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use slab::Slab;

/// What names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The cookie of the observed socket, which no other socket has had since boot.
    Socket(u64),
    /// Two addresses, as a file has nothing better; in the order of [`Key::tuple`].
    Tuple(SocketAddr, SocketAddr),
    /// A handshake under way: its packets belong to the listener's socket. Several may share the addresses, in
    /// network namespaces of their own or one after the other, and are told apart by their sequence numbers.
    Handshake {
        /// The end that is not observed.
        remote: SocketAddr,
        /// The listener's port.
        local_port: u16,
    },
}

impl Key {
    /// The same for both directions.
    pub(crate) fn tuple(one: SocketAddr, other: SocketAddr) -> Self {
        if one <= other { Self::Tuple(one, other) } else { Self::Tuple(other, one) }
    }
}

/// Place of a connection in the table, valid until it is removed.
pub(crate) type Index = usize;

/// Connections by key and by last use.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Slab<Entry<T>>,
    /// Most keys name one connection; [`Key::Handshake`] may name several.
    by_key: HashMap<Key, Vec<Index>>,
    /// By [`Rank`]: connections of the lower one are let go of first.
    orders: [Order; 2],
    /// Closed connections, and when each was closed, counted in closings.
    closed: HashMap<Key, u64>,
    closed_in_order: BTreeMap<u64, Key>,
    closings: u64,
    closed_limit: usize,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    key: Key,
    rank: Rank,
    older: Option<Index>,
    newer: Option<Index>,
}

/// A list through the entries: oldest use first.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    oldest: Option<Index>,
    newest: Option<Index>,
}

/// What a connection is worth: a flood of SYNs pushes no conversation out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Its handshake is under way.
    Attempt,
    /// Both ends have agreed to it.
    Connection,
}

const fn rank_of(key: &Key) -> Rank {
    match key {
        Key::Handshake { .. } => Rank::Attempt,
        Key::Socket(_) | Key::Tuple(..) => Rank::Connection,
    }
}

impl<T> Table<T> {
    pub(crate) fn new(closed_limit: usize) -> Self {
        Self {
            entries: Slab::new(),
            by_key: HashMap::new(),
            orders: [Order::default(); 2],
            closed: HashMap::new(),
            closed_in_order: BTreeMap::new(),
            closings: 0,
            closed_limit,
        }
    }

    pub(crate) fn get(&self, index: Index) -> Option<&T> {
        self.entries.get(index).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        self.entries.get_mut(index).map(|entry| &mut entry.value)
    }

    /// Every connection under a key.
    pub(crate) fn candidates(&self, key: &Key) -> &[Index] {
        self.by_key.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who goes if one more connection than `limit` is to come.
    pub(crate) fn eviction(&self, limit: usize) -> Option<Index> {
        if self.entries.len() < limit {
            return None;
        }
        self.orders.iter().find_map(|order| order.oldest)
    }

    pub(crate) fn insert(&mut self, key: Key, value: T) -> Index {
        let rank = rank_of(&key);
        let index = self.entries.insert(Entry { value, key, rank, older: None, newer: None });
        self.by_key.entry(key).or_default().push(index);
        self.link_newest(rank, index);
        index
    }

    /// Gives a connection another key.
    pub(crate) fn rename(&mut self, index: Index, key: Key) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let old = core::mem::replace(&mut entry.key, key);
        self.forget_key(&old, index);
        self.by_key.entry(key).or_default().push(index);
        self.set_rank(index, rank_of(&key));
    }

    /// Notes that a handshake under way is complete, though its connection has no socket of its own yet.
    pub(crate) fn promote(&mut self, index: Index) {
        self.set_rank(index, Rank::Connection);
    }

    fn set_rank(&mut self, index: Index, rank: Rank) {
        let Some(before) = self.entries.get(index).map(|entry| entry.rank) else { return };
        if before == rank {
            return;
        }
        self.unlink(before, index);
        if let Some(entry) = self.entries.get_mut(index) {
            entry.rank = rank;
        }
        self.link_newest(rank, index);
    }

    /// Notes that a connection is in use.
    pub(crate) fn touch(&mut self, index: Index) {
        let Some(rank) = self.entries.get(index).map(|entry| entry.rank) else { return };
        if self.order(rank).newest == Some(index) {
            return;
        }
        self.unlink(rank, index);
        self.link_newest(rank, index);
    }

    pub(crate) fn remove(&mut self, index: Index) -> Option<(Key, T)> {
        let (key, rank) = self.entries.get(index).map(|entry| (entry.key, entry.rank))?;
        self.unlink(rank, index);
        self.forget_key(&key, index);
        self.entries.try_remove(index).map(|entry| (entry.key, entry.value))
    }

    /// Remembers that late packets under this key are no new connection.
    pub(crate) fn remember_closed(&mut self, key: Key) {
        if self.closed_limit == 0 {
            return;
        }
        self.forget_closed(&key);
        self.closings += 1;
        self.closed.insert(key, self.closings);
        self.closed_in_order.insert(self.closings, key);
        if self.closed_in_order.len() > self.closed_limit
            && let Some((_, oldest)) = self.closed_in_order.pop_first()
        {
            self.closed.remove(&oldest);
        }
    }

    /// A new connection takes the key over.
    pub(crate) fn forget_closed(&mut self, key: &Key) {
        if let Some(closing) = self.closed.remove(key) {
            self.closed_in_order.remove(&closing);
        }
    }

    pub(crate) fn was_closed(&self, key: &Key) -> bool {
        self.closed.contains_key(key)
    }

    /// Every connection's place, in no order.
    pub(crate) fn indices(&self) -> Vec<Index> {
        self.entries.iter().map(|(index, _)| index).collect()
    }

    fn forget_key(&mut self, key: &Key, index: Index) {
        if let Some(indices) = self.by_key.get_mut(key) {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    const fn order(&mut self, rank: Rank) -> &mut Order {
        let [attempts, connections] = &mut self.orders;
        match rank {
            Rank::Attempt => attempts,
            Rank::Connection => connections,
        }
    }

    fn unlink(&mut self, rank: Rank, index: Index) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let (older, newer) = (entry.older.take(), entry.newer.take());
        if let Some(entry) = older.and_then(|older| self.entries.get_mut(older)) {
            entry.newer = newer;
        }
        if let Some(entry) = newer.and_then(|newer| self.entries.get_mut(newer)) {
            entry.older = older;
        }
        let order = self.order(rank);
        if order.oldest == Some(index) {
            order.oldest = newer;
        }
        if order.newest == Some(index) {
            order.newest = older;
        }
    }

    fn link_newest(&mut self, rank: Rank, index: Index) {
        let order = self.order(rank);
        let older = order.newest.replace(index);
        order.oldest.get_or_insert(index);
        if let Some(entry) = older.and_then(|older| self.entries.get_mut(older)) {
            entry.newer = Some(index);
        }
        if let Some(entry) = self.entries.get_mut(index) {
            entry.older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(cookie: u64) -> Key {
        Key::Socket(cookie)
    }

    fn handshake(port: u16) -> Key {
        Key::Handshake { remote: SocketAddr::from(([10, 0, 0, 1], port)), local_port: 7272 }
    }

    #[test]
    fn the_connection_that_was_idle_longest_goes_first() {
        let mut table = Table::new(0);
        let first = table.insert(socket(1), 'a');
        let second = table.insert(socket(2), 'b');
        assert_eq!(table.eviction(3), None);
        assert_eq!(table.eviction(2), Some(first));
        table.touch(first);
        assert_eq!(table.eviction(2), Some(second));
        table.remove(second);
        assert_eq!(table.eviction(1), Some(first));
    }

    #[test]
    fn a_handshake_under_way_goes_before_any_conversation() {
        let mut table = Table::new(0);
        table.insert(socket(1), 'a');
        let flood = table.insert(handshake(9), 'b');
        assert_eq!(table.eviction(2), Some(flood));
        table.rename(flood, socket(2));
        assert_eq!(table.eviction(2), Some(0));
    }

    #[test]
    fn several_handshakes_share_a_key() {
        let mut table = Table::new(0);
        let one = table.insert(handshake(9), 'a');
        let other = table.insert(handshake(9), 'b');
        assert_eq!(table.candidates(&handshake(9)), [one, other]);
        table.rename(one, socket(5));
        assert_eq!(table.candidates(&handshake(9)), [other]);
        assert_eq!(table.candidates(&socket(5)), [one]);
        table.remove(other);
        assert!(table.candidates(&handshake(9)).is_empty());
    }

    #[test]
    fn a_tuple_is_the_same_in_both_directions() {
        let one = SocketAddr::from(([10, 0, 0, 1], 7272));
        let other = SocketAddr::from(([10, 0, 0, 2], 60_584));
        assert_eq!(Key::tuple(one, other), Key::tuple(other, one));
    }

    #[test]
    fn only_so_many_closed_connections_are_remembered() {
        let mut table = Table::<()>::new(2);
        for cookie in 1..=3 {
            table.remember_closed(socket(cookie));
        }
        assert!(!table.was_closed(&socket(1)));
        assert!(table.was_closed(&socket(2)) && table.was_closed(&socket(3)));
    }

    #[test]
    fn a_closed_connection_whose_key_was_used_again_is_remembered_as_long_as_any() {
        let mut table = Table::<()>::new(3);
        for cookie in [1, 2] {
            table.remember_closed(socket(cookie));
        }
        table.forget_closed(&socket(1));
        for cookie in [1, 3] {
            table.remember_closed(socket(cookie));
        }
        assert!((1..=3).all(|cookie| table.was_closed(&socket(cookie))));
        table.remember_closed(socket(4));
        assert!(!table.was_closed(&socket(2)) && table.was_closed(&socket(1)));
    }

    #[test]
    fn a_complete_handshake_goes_after_those_under_way() {
        let mut table = Table::new(0);
        let complete = table.insert(handshake(9), 'a');
        let flood = table.insert(handshake(10), 'b');
        table.promote(complete);
        assert_eq!(table.eviction(2), Some(flood));
        table.remove(flood);
        assert_eq!(table.eviction(1), Some(complete));
    }

    #[test]
    fn the_order_of_use_survives_any_removals() {
        let mut table = Table::new(0);
        let all: Vec<Index> = (0..6).map(|cookie| table.insert(socket(cookie), cookie)).collect();
        for gone in [2, 0, 5] {
            table.remove(all[gone]);
        }
        let mut left = Vec::new();
        while let Some(oldest) = table.eviction(1) {
            left.extend(table.remove(oldest).map(|(_, cookie)| cookie));
        }
        assert_eq!(left, [1, 3, 4]);
    }
}

//! Who gives way where all connections together hold much: whoever has been idle longest.
//!
//! Owns the order in which those who hold something were last used. Must not know what they hold. Bounded by the number
//! of connections.
//!
//! Without it, some hundred connections that send half of something and then nothing would keep what they take for as
//! long as they please, and leave a share of next to nothing to everybody else.

use std::collections::BTreeMap;

use crate::table::Index;

/// What connections hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Bytes that wait behind holes.
    Reassembly,
    /// Copies of bytes that are not acknowledged.
    Unacknowledged,
    /// Heads, requests, and what clients send ahead of answers.
    Heads,
    /// Payload of unfinished messages.
    Messages,
}

impl Pool {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::Reassembly, Self::Unacknowledged, Self::Heads, Self::Messages];
}

/// When a connection was last seen to hold something of each pool; 0 for never, or not now.
pub(crate) type Uses = [u64; Pool::ALL.len()];

/// The connections that hold something of each pool, by last use.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    by_use: [BTreeMap<u64, Index>; Pool::ALL.len()],
    last_use: u64,
}

impl Holders {
    /// Notes that a connection was used, and what it holds now.
    pub(crate) fn note(&mut self, index: Index, uses: &mut Uses, holds: impl Fn(Pool) -> bool) {
        self.last_use += 1;
        for ((by_use, last_use), pool) in self.by_use.iter_mut().zip(uses).zip(Pool::ALL) {
            if *last_use > 0 {
                by_use.remove(last_use);
            }
            *last_use = if holds(pool) { self.last_use } else { 0 };
            if *last_use > 0 {
                by_use.insert(*last_use, index);
            }
        }
    }

    /// Notes that a connection is gone.
    pub(crate) fn forget(&mut self, uses: &Uses) {
        for (by_use, last_use) in self.by_use.iter_mut().zip(uses) {
            by_use.remove(last_use);
        }
    }

    /// Takes out who has been idle longest of those that hold something.
    pub(crate) fn take_idlest(&mut self, pool: Pool) -> Option<Index> {
        let by_use = self.by_use.iter_mut().zip(Pool::ALL).find_map(|(it, of)| (of == pool).then_some(it))?;
        by_use.pop_first().map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_idle_longest_comes_first_and_only_if_it_holds_something() {
        let mut holders = Holders::default();
        let mut uses = [Uses::default(); 4];
        for (index, uses) in uses.iter_mut().enumerate() {
            holders.note(index, uses, |pool| pool == Pool::Heads);
        }
        holders.note(0, &mut uses[0], |pool| pool == Pool::Heads);
        holders.note(1, &mut uses[1], |_| false);
        holders.forget(&uses[2]);
        assert_eq!(holders.take_idlest(Pool::Messages), None);
        let order: Vec<_> = std::iter::from_fn(|| holders.take_idlest(Pool::Heads)).collect();
        assert_eq!(order, [3, 0]);
    }
}

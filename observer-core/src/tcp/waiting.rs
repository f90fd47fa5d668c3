//! What waits behind a hole of one direction, kept as the receiving kernel keeps it.
//!
//! Owns which copy stays where the same bytes come twice. Must not know where the hole is, nor what the bytes mean.
//! Bounded by whoever inserts: [`Waiting::held_bytes`] and [`Waiting::runs`] tell what to hold against a bound.
//!
//! Who sends the same bytes twice and differently wants one copy to be read and the other to be shown. So this is what
//! Linux does (`tcp_data_queue_ofo`, `tcp_ofo_queue`): it cuts nothing off. A segment of which all is there is
//! dropped, one that begins where another does and reaches farther takes its place, and those that a new one covers go.
//! The rest is read in the order in which the segments begin, each from where the one before it ended. Segments that
//! follow each other without a hole are joined, if they come in this order, and count as one.
//!
//! Some of that depends on what nobody sees from outside: Linux joins segments unless it lacks the room or somebody
//! else holds the packet, and where one begins at the end of an earlier one that a third overlaps, the shape of its tree
//! decides. So that copies differ has to be told in any case.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::record::GapCause;

/// Segments by the stream offset at which they begin. None covers another, so that they end in the same order.
#[derive(Debug, Default)]
pub struct Waiting {
    joined: BTreeMap<u64, Joined>,
    held_bytes: usize,
    runs: usize,
}

/// What the kernel keeps as one.
#[derive(Debug, Default)]
struct Joined {
    runs: VecDeque<Run>,
    length: u64,
    /// How much of `length` was taken out at its front.
    taken: u64,
}

/// The payload of one segment.
#[derive(Debug)]
pub struct Run {
    /// The bytes, as far as captured.
    pub data: Vec<u8>,
    /// Bytes on the wire; those behind `data` were not captured.
    pub length: u64,
    /// Why not.
    pub cut_by: GapCause,
    /// The capture's losses when it came.
    pub losses: u64,
}

impl Run {
    /// What it takes of the bounds: many small runs must not pass for few bytes.
    pub const fn cost(&self) -> usize {
        const BOOKKEEPING: usize = 96;
        self.data.len() + BOOKKEEPING
    }
}

/// How bytes relate to those that wait at the same place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// How many of them are there already.
    pub bytes: u64,
    /// Whether any of those is another one.
    pub differs: bool,
}

impl Waiting {
    /// Bytes held, and what it takes to keep them.
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Segments held.
    pub const fn runs(&self) -> usize {
        self.runs
    }

    /// The first segment and where it begins. Something of it may lie before what was taken out last.
    pub fn first(&self) -> Option<(u64, &Run)> {
        let (at, joined) = self.joined.first_key_value()?;
        Some((at + joined.taken, joined.runs.front()?))
    }

    /// Where the last one ends.
    pub fn end(&self) -> Option<u64> {
        self.joined.last_key_value().map(|(at, joined)| at + joined.length)
    }

    /// Takes the first segment out.
    pub fn take_first(&mut self) -> Option<(u64, Run)> {
        let mut entry = self.joined.first_entry()?;
        let at = *entry.key() + entry.get().taken;
        let run = entry.get_mut().runs.pop_front();
        if entry.get().runs.is_empty() {
            entry.remove();
        } else if let Some(run) = &run {
            entry.get_mut().taken += run.length;
        }
        let run = run?;
        self.held_bytes = self.held_bytes.saturating_sub(run.cost());
        self.runs = self.runs.saturating_sub(1);
        Some((at, run))
    }

    /// Compares `length` bytes from `start` on, of which `data` was captured, with those that wait there: each with one
    /// copy, for that those differ was told when the second one came. With all, whoever leaves a thousand copies would
    /// make each repetition cost a thousand comparisons.
    pub fn compare(&self, start: u64, data: &[u8], length: u64) -> Overlap {
        let end = start + length;
        let mut overlap = Overlap::default();
        let mut from = start;
        while from < end {
            // Of those that begin before, the last one reaches farthest.
            let there = self.joined.range(..=from).next_back().filter(|(at, it)| *at + it.length > from);
            let Some((&at, joined)) = there else {
                match self.joined.range(from..end).next() {
                    Some((&next, _)) => from = next,
                    None => break,
                }
                continue;
            };
            let to = end.min(at + joined.length);
            let mut run_start = at + joined.taken;
            overlap.bytes += to.saturating_sub(from.max(run_start));
            for run in &joined.runs {
                let (from, to) = (from.max(run_start), to.min(run_start + run.length));
                overlap.differs |= from < to
                    && !copies_agree(skip(data, from - start), skip(&run.data, from - run_start), to - from);
                run_start += run.length;
            }
            from = to;
        }
        overlap
    }

    /// Keeps a segment's bytes from `start` on, if the kernel would; `of` tells the rest of it. Returns whether.
    pub fn insert(&mut self, start: u64, data: &[u8], of: &Run) -> bool {
        let end = start + of.length;
        let mut place = start;
        if let Some((&at, before)) = self.joined.range(..=start).next_back() {
            let before_end = at + before.length;
            if before_end >= end {
                return false;
            }
            if before_end == start {
                place = at;
            } else if at == start {
                self.remove(at);
            }
        }
        let run = Run { data: data.to_vec(), ..*of };
        self.held_bytes += run.cost();
        self.runs += 1;
        let joined = self.joined.entry(place).or_default();
        joined.length += run.length;
        joined.runs.push_back(run);
        let behind = (Bound::Excluded(place), Bound::Unbounded);
        while let Some((&at, _)) = self.joined.range(behind).next().filter(|(at, it)| *at + it.length <= end)
        {
            self.remove(at);
        }
        true
    }

    fn remove(&mut self, at: u64) {
        for run in self.joined.remove(&at).into_iter().flat_map(|joined| joined.runs) {
            self.held_bytes = self.held_bytes.saturating_sub(run.cost());
            self.runs = self.runs.saturating_sub(1);
        }
    }
}

/// What is behind so many bytes.
pub fn skip(data: &[u8], bytes: u64) -> &[u8] {
    usize::try_from(bytes).ok().and_then(|bytes| data.get(bytes..)).unwrap_or_default()
}

fn copies_agree(one: &[u8], other: &[u8], length: u64) -> bool {
    let known = one.len().min(other.len()).min(usize::try_from(length).unwrap_or(usize::MAX));
    one.get(..known) == other.get(..known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of segments of `(from, to)`, each of another letter from `a` on, in the order in which they came.
    fn read(segments: &[(u64, u64)]) -> String {
        let mut waiting = Waiting::default();
        for (&(from, to), letter) in segments.iter().zip(b'a'..) {
            let run = Run { data: Vec::new(), length: to - from, cut_by: GapCause::SnapLength, losses: 0 };
            waiting.insert(from, &vec![letter; usize::try_from(to - from).unwrap()], &run);
        }
        let mut read = String::new();
        let mut offset = 0;
        while let Some((at, run)) = waiting.take_first() {
            (offset..at).for_each(|_| read.push('.'));
            offset = offset.max(at);
            read.extend(skip(&run.data, offset - at).iter().copied().map(char::from));
            offset = offset.max(at + run.length);
        }
        assert_eq!((waiting.held_bytes(), waiting.runs()), (0, 0));
        read
    }

    #[test]
    fn of_equal_segments_and_within_another_one_the_first_copy_stays() {
        assert_eq!(read(&[(1, 5), (1, 5)]), ".aaaa");
        assert_eq!(read(&[(1, 5), (2, 4)]), ".aaaa");
        assert_eq!(read(&[(1, 5), (2, 5)]), ".aaaa");
    }

    #[test]
    fn a_segment_takes_the_place_of_those_that_it_covers() {
        assert_eq!(read(&[(2, 4), (2, 6)]), "..bbbb");
        assert_eq!(read(&[(2, 4), (1, 6)]), ".bbbbb");
        assert_eq!(read(&[(2, 4), (1, 4)]), ".bbb");
        assert_eq!(read(&[(2, 3), (4, 5), (1, 6)]), ".ccccc");
    }

    #[test]
    fn where_segments_overlap_in_part_the_one_that_begins_first_is_read_whichever_came_first() {
        assert_eq!(read(&[(1, 4), (2, 6)]), ".aaabb");
        assert_eq!(read(&[(2, 6), (1, 4)]), ".bbbaa");
        assert_eq!(read(&[(3, 7), (1, 4), (2, 5)]), ".bbbcaa");
    }

    #[test]
    fn segments_that_follow_each_other_count_as_one() {
        assert_eq!(read(&[(1, 3), (3, 5), (1, 4)]), ".aabb");
        assert_eq!(read(&[(1, 3), (3, 5), (2, 5)]), ".aabb");
        assert_eq!(read(&[(1, 3), (3, 5), (2, 6)]), ".aabbc");
        assert_eq!(read(&[(1, 3), (3, 5), (1, 6)]), ".ccccc");
    }

    #[test]
    fn segments_that_follow_each_other_in_the_wrong_order_are_two() {
        assert_eq!(read(&[(3, 5), (1, 3), (2, 5)]), ".bbcc");
    }

    #[test]
    fn an_overlap_is_measured_once_however_many_copies_there_are() {
        let mut waiting = Waiting::default();
        let run = |length| Run { data: Vec::new(), length, cut_by: GapCause::SnapLength, losses: 0 };
        waiting.insert(10, b"aaaaa", &run(5));
        waiting.insert(12, b"aaaaaa", &run(6));
        assert_eq!(waiting.compare(8, b"??????aaaa????", 14), Overlap { bytes: 8, differs: true });
        assert_eq!(waiting.compare(14, b"aa", 2), Overlap { bytes: 2, differs: false });
        assert_eq!(waiting.compare(14, b"ab", 2), Overlap { bytes: 2, differs: true });
        assert_eq!(waiting.compare(18, b"b", 1), Overlap::default());
        assert_eq!(waiting.compare(14, b"", 2), Overlap { bytes: 2, differs: false });
    }
}

//! One direction's bytes, put in order.
//!
//! Owns what is known of a direction's stream: where the next byte belongs, what waits behind a hole, where the
//! stream ends. Must not know the other direction but for its acknowledgments, nor what the bytes mean. Bounded by
//! [`Limits::reassembly_bytes`], [`Limits::reassembly_runs`] and, over all directions, by
//! [`Limits::reassembly_total_bytes`]: at a bound the hole in front is given up.
//!
//! A hole becomes a gap when the receiver acknowledged past it, at a bound, or at the end: never by a timer. An
//! acknowledgment alone, without later bytes that were seen, is believed where it comes from the socket that the
//! capture is attached to, where the capture has lost packets meanwhile, and at the end of a stream in a file: else
//! anybody could make holes by sending one. Of bytes that were sent twice while a hole kept both waiting,
//! the first copy wins.

use std::collections::BTreeMap;

use super::sequence::SequenceNumber;
use crate::limits::{Limit, Limits};
use crate::record::GapCause;

/// The largest distance at which a segment or an acknowledgment can belong to the stream: the largest receive
/// window (RFC 7323 §2.3).
const MAXIMUM_WINDOW: i32 = 1 << 30;

/// What comes out, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes of one segment: their first one is the first of a segment, or follows the chunk before.
    Data(&'a [u8]),
    /// Bytes that exist and were not seen.
    Gap {
        /// How many.
        length: u64,
        /// Why.
        cause: GapCause,
    },
    /// Nothing follows: a FIN was seen and all before it is accounted for.
    End,
}

/// What came in that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Farther from what is expected than any window reaches; ignored.
    OutsideWindow,
    /// Two copies of the same bytes differ.
    OverlapDiffers,
    /// Bytes behind a FIN; ignored.
    DataAfterFin,
}

/// What all directions share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Payload bytes that wait behind holes, in all directions, and what it takes to keep them.
    pub held_bytes: usize,
    /// The capture's running total of losses.
    pub losses: u64,
}

/// Receives what comes out.
pub trait Output {
    /// Takes the next piece of the stream.
    fn handle_chunk(&mut self, chunk: Chunk<'_>);
    /// Takes note of something that does not fit.
    fn handle_misfit(&mut self, misfit: Misfit);
    /// Takes note of a bound that was reached.
    fn handle_limit(&mut self, limit: Limit);
}

/// Puts one direction in order.
#[derive(Debug)]
pub struct Reassembler {
    next: SequenceNumber,
    offset: u64,
    /// The capture's losses when the stream last moved on: more of them since then can explain a hole.
    losses_before: u64,
    bytes_retransmitted: u64,
    bytes_missing: u64,
    waiting: Option<Box<Waiting>>,
    fin: Option<u64>,
    acknowledged: u64,
    ended: bool,
}

/// What is behind a hole. Offsets count from the start of the stream.
#[derive(Debug, Default)]
struct Waiting {
    runs: BTreeMap<u64, Run>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Run {
    data: Vec<u8>,
    /// Bytes on the wire; those behind `data` were cut by the snap length.
    length: u64,
}

impl Run {
    /// What it takes of the bounds: many small runs must not pass for few bytes.
    const fn cost(&self) -> usize {
        const BOOKKEEPING: usize = 96;
        self.data.len() + BOOKKEEPING
    }
}

/// One segment's payload.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Position of the first byte.
    pub sequence: SequenceNumber,
    /// The bytes, as far as captured.
    pub data: &'a [u8],
    /// How many there were on the wire.
    pub length: u32,
    /// Whether the sender sends nothing behind them.
    pub fin: bool,
}

impl Reassembler {
    /// A direction whose next byte has the position `next`.
    pub fn new(next: SequenceNumber, shared: &Shared) -> Self {
        Self {
            next,
            offset: 0,
            losses_before: shared.losses,
            bytes_retransmitted: 0,
            bytes_missing: 0,
            waiting: None,
            fin: None,
            acknowledged: 0,
            ended: false,
        }
    }

    /// Position of the next byte expected.
    pub const fn next(&self) -> SequenceNumber {
        self.next
    }

    /// Stream offset of the next byte expected: all before it was seen or is called missing.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Payload bytes that were seen more than once.
    pub const fn bytes_retransmitted(&self) -> u64 {
        self.bytes_retransmitted
    }

    /// Payload bytes that exist and were not seen.
    pub const fn bytes_missing(&self) -> u64 {
        self.bytes_missing
    }

    /// Whether a FIN was seen and all before it is accounted for.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the sender's FIN was seen and the receiver acknowledged it.
    pub fn is_fin_acknowledged(&self) -> bool {
        self.fin.is_some_and(|fin| self.acknowledged > fin)
    }

    /// Takes a segment of this direction.
    pub fn handle_segment(
        &mut self,
        input: Input<'_>,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let distance = input.sequence.distance_from(self.next);
        let length = u64::from(input.length);
        if (length == 0 && !input.fin) || self.is_keep_alive(distance, input) {
            return;
        }
        if !(-MAXIMUM_WINDOW..=MAXIMUM_WINDOW).contains(&distance) {
            output.handle_misfit(Misfit::OutsideWindow);
            return;
        }
        let Some(start) = self.offset.checked_add_signed(i64::from(distance)) else {
            // Before the first byte that was seen: the tail of what passed before the capture began.
            self.handle_segment_across_start(input, distance, limits, shared, output);
            return;
        };
        let end = start + length;
        if self.fin.is_some_and(|fin| end > fin) {
            output.handle_misfit(Misfit::DataAfterFin);
            return;
        }
        if input.fin && self.fin.is_none() && end >= self.offset {
            self.fin = Some(end);
        }

        if start <= self.offset {
            let repeated = (self.offset - start).min(length);
            self.bytes_retransmitted += repeated;
            let fresh = length - repeated;
            if fresh > 0 {
                self.advance(skip(input.data, repeated), fresh, shared, output);
                self.release(limits, shared, output);
            }
        } else if length > 0 {
            self.hold(start, input.data, length, shared, output);
            self.handle_holes(limits, shared, output);
        }
        self.end_if_all_is_known(shared, output);
    }

    fn handle_segment_across_start(
        &mut self,
        input: Input<'_>,
        distance: i32,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let before = u64::from(distance.unsigned_abs()) - self.offset;
        let Some(rest) = u64::from(input.length).checked_sub(before) else { return };
        let cut = Input {
            sequence: input.sequence.plus(u32::try_from(before).unwrap_or(u32::MAX)),
            data: skip(input.data, before),
            length: u32::try_from(rest).unwrap_or(u32::MAX),
            fin: input.fin,
        };
        if cut.sequence != input.sequence {
            self.handle_segment(cut, limits, shared, output);
        }
    }

    /// A probe repeats the last byte, or sends none (RFC 9293 §3.8.4).
    fn is_keep_alive(&self, distance: i32, input: Input<'_>) -> bool {
        distance == -1 && input.length <= 1 && !input.fin && self.offset > 0
    }

    /// Takes the receiver's acknowledgment. `trusted`: it left the socket that the capture is attached to.
    pub fn handle_acknowledgment(
        &mut self,
        acknowledgment: SequenceNumber,
        trusted: bool,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let distance = acknowledgment.distance_from(self.next);
        if !(-MAXIMUM_WINDOW..=MAXIMUM_WINDOW).contains(&distance) {
            return;
        }
        let Some(to) = self.offset.checked_add_signed(i64::from(distance)) else { return };
        if to <= self.acknowledged {
            return;
        }
        self.acknowledged = to;
        if to > self.offset {
            self.handle_holes(limits, shared, output);
            // A FIN takes a position of its own, and is no byte of the stream.
            let bytes_to = self.fin.map_or(to, |fin| to.min(fin));
            if trusted || self.cause(shared) == GapCause::CaptureLoss {
                self.give_up_to(bytes_to, self.cause(shared), shared, output);
            }
            self.end_if_all_is_known(shared, output);
        }
    }

    /// Ends the direction: every hole becomes a gap, and what waited comes out. `to` is the position behind its
    /// last byte, where the segment that ended it tells; `believe`: what the receiver acknowledged exists.
    pub fn handle_end(
        &mut self,
        to: Option<SequenceNumber>,
        believe: bool,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        while let Some(first) = self.first_waiting() {
            self.give_up_to(first, self.cause(shared), shared, output);
        }
        let told = to
            .map(|to| to.distance_from(self.next))
            .filter(|distance| (1..=MAXIMUM_WINDOW).contains(distance))
            .and_then(|distance| self.offset.checked_add_signed(i64::from(distance)));
        let acknowledged = believe.then_some(self.acknowledged);
        if let Some(end) = self.fin.or(told.max(acknowledged)) {
            self.give_up_to(end, self.cause(shared), shared, output);
        }
        self.end_if_all_is_known(shared, output);
        self.forget(shared);
    }

    /// Lets go of what waits without telling.
    pub fn forget(&mut self, shared: &mut Shared) {
        if let Some(waiting) = self.waiting.take() {
            shared.held_bytes = shared.held_bytes.saturating_sub(waiting.held_bytes);
        }
    }

    fn cause(&self, shared: &Shared) -> GapCause {
        if shared.losses > self.losses_before { GapCause::CaptureLoss } else { GapCause::NeverSeen }
    }

    fn first_waiting(&self) -> Option<u64> {
        self.waiting.as_ref()?.runs.keys().next().copied()
    }

    /// Hands out `length` bytes that are next in order; `data` is what was captured of them.
    fn advance(&mut self, data: &[u8], length: u64, shared: &Shared, output: &mut dyn Output) {
        let known = data.len() as u64;
        if known > 0 {
            output.handle_chunk(Chunk::Data(data));
        }
        if known < length {
            self.bytes_missing += length - known;
            output.handle_chunk(Chunk::Gap { length: length - known, cause: GapCause::SnapLength });
        }
        self.step(length);
        self.losses_before = shared.losses;
    }

    fn step(&mut self, length: u64) {
        self.offset += length;
        // Positions are modulo 2³² by definition.
        #[expect(clippy::cast_possible_truncation)]
        let positions = length as u32;
        self.next = self.next.plus(positions);
    }

    /// Keeps what is behind a hole. Where it overlaps what already waits, the first copy stays.
    fn hold(&mut self, start: u64, data: &[u8], length: u64, shared: &mut Shared, output: &mut dyn Output) {
        let waiting = self.waiting.get_or_insert_default();
        let end = start + length;
        let mut position = start;
        let mut differs = false;
        let mut fresh = Vec::new();
        let overlapping_from = waiting
            .runs
            .range(..=start)
            .next_back()
            .filter(|(at, run)| *at + run.length > start)
            .map(|(at, _)| *at);
        for (&at, run) in waiting.runs.range(overlapping_from.unwrap_or(start)..end) {
            if at > position {
                fresh.push((position, at));
            }
            let shared_from = at.max(start);
            let shared_to = (at + run.length).min(end);
            differs |= !copies_agree(
                skip(data, shared_from - start),
                skip(&run.data, shared_from - at),
                shared_to - shared_from,
            );
            self.bytes_retransmitted += shared_to - shared_from;
            position = position.max(at + run.length);
        }
        if position < end {
            fresh.push((position, end));
        }
        for (from, to) in fresh {
            let known = skip(data, from - start);
            let known = known.get(..usize::try_from(to - from).unwrap_or(usize::MAX)).unwrap_or(known);
            let run = Run { data: known.to_vec(), length: to - from };
            waiting.held_bytes += run.cost();
            shared.held_bytes += run.cost();
            waiting.runs.insert(from, run);
        }
        if differs {
            output.handle_misfit(Misfit::OverlapDiffers);
        }
    }

    /// Gives up the hole in front where the receiver has passed it or a bound is reached.
    fn handle_holes(&mut self, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        while let Some(first) = self.first_waiting() {
            if self.acknowledged >= first {
                self.give_up_to(first, self.cause(shared), shared, output);
                continue;
            }
            let Some(waiting) = &self.waiting else { return };
            let limit = if waiting.held_bytes > limits.reassembly_bytes
                || waiting.runs.len() > limits.reassembly_runs
            {
                Limit::Reassembly
            } else if shared.held_bytes > limits.reassembly_total_bytes {
                Limit::ReassemblyTotal
            } else {
                return;
            };
            output.handle_limit(limit);
            self.give_up_to(first, GapCause::Limit, shared, output);
        }
    }

    /// Calls everything missing that is not known up to stream offset `to`, and hands out what follows.
    fn give_up_to(&mut self, to: u64, cause: GapCause, shared: &mut Shared, output: &mut dyn Output) {
        while self.offset < to {
            let hole_end = self.first_waiting().map_or(to, |first| first.min(to));
            let length = hole_end.saturating_sub(self.offset);
            if length > 0 {
                self.bytes_missing += length;
                output.handle_chunk(Chunk::Gap { length, cause });
                self.step(length);
                self.losses_before = shared.losses;
            }
            self.release_runs(shared, output);
        }
    }

    fn release(&mut self, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        if self.waiting.is_some() {
            self.release_runs(shared, output);
            self.handle_holes(limits, shared, output);
        }
    }

    /// Hands out what waited and is now next in order.
    fn release_runs(&mut self, shared: &mut Shared, output: &mut dyn Output) {
        while let Some(waiting) = &mut self.waiting {
            let Some(entry) = waiting.runs.first_entry() else {
                self.waiting = None;
                return;
            };
            let at = *entry.key();
            if at > self.offset {
                return;
            }
            let run = entry.remove();
            waiting.held_bytes = waiting.held_bytes.saturating_sub(run.cost());
            shared.held_bytes = shared.held_bytes.saturating_sub(run.cost());
            let repeated = (self.offset - at).min(run.length);
            self.bytes_retransmitted += repeated;
            if run.length > repeated {
                self.advance(skip(&run.data, repeated), run.length - repeated, shared, output);
            }
        }
    }

    fn end_if_all_is_known(&mut self, shared: &mut Shared, output: &mut dyn Output) {
        if !self.ended && self.fin.is_some_and(|fin| self.offset >= fin) {
            self.ended = true;
            self.forget(shared);
            output.handle_chunk(Chunk::End);
        }
    }
}

fn skip(data: &[u8], bytes: u64) -> &[u8] {
    usize::try_from(bytes).ok().and_then(|bytes| data.get(bytes..)).unwrap_or_default()
}

fn copies_agree(one: &[u8], other: &[u8], length: u64) -> bool {
    let known = one.len().min(other.len()).min(usize::try_from(length).unwrap_or(usize::MAX));
    one.get(..known) == other.get(..known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What came out: bytes, `None` for one that is called missing.
    #[derive(Default)]
    struct Collected {
        stream: Vec<Option<u8>>,
        causes: Vec<GapCause>,
        misfits: Vec<Misfit>,
        limits: Vec<Limit>,
        ends: usize,
    }

    impl Output for Collected {
        fn handle_chunk(&mut self, chunk: Chunk<'_>) {
            assert_eq!(self.ends, 0, "nothing follows the end");
            match chunk {
                Chunk::Data(data) => self.stream.extend(data.iter().copied().map(Some)),
                Chunk::Gap { length, cause } => {
                    self.causes.push(cause);
                    // Random positions make gaps of a gigabyte: enough is enough.
                    self.stream.extend((0..length.min(10_000)).map(|_| None));
                }
                Chunk::End => self.ends += 1,
            }
        }

        fn handle_misfit(&mut self, misfit: Misfit) {
            self.misfits.push(misfit);
        }

        fn handle_limit(&mut self, limit: Limit) {
            self.limits.push(limit);
        }
    }

    struct Bench {
        reassembler: Reassembler,
        shared: Shared,
        limits: Limits,
        out: Collected,
        initial: SequenceNumber,
    }

    impl Bench {
        fn new(initial: u32) -> Self {
            let shared = Shared::default();
            let initial = SequenceNumber(initial);
            Self {
                reassembler: Reassembler::new(initial, &shared),
                shared,
                limits: Limits::default(),
                out: Collected::default(),
                initial,
            }
        }

        fn segment(&mut self, offset: u32, data: &[u8], fin: bool) {
            self.cut_segment(offset, data, u32::try_from(data.len()).unwrap(), fin);
        }

        fn cut_segment(&mut self, offset: u32, data: &[u8], length: u32, fin: bool) {
            let input = Input { sequence: self.initial.plus(offset), data, length, fin };
            self.reassembler.handle_segment(input, &self.limits, &mut self.shared, &mut self.out);
        }

        fn acknowledgment(&mut self, offset: u32, trusted: bool) {
            let at = self.initial.plus(offset);
            self.reassembler.handle_acknowledgment(
                at,
                trusted,
                &self.limits,
                &mut self.shared,
                &mut self.out,
            );
        }

        fn end(&mut self) {
            self.reassembler.handle_end(None, false, &mut self.shared, &mut self.out);
        }

        fn text(&self) -> String {
            self.out.stream.iter().map(|byte| byte.map_or('·', char::from)).collect()
        }
    }

    #[test]
    fn bytes_in_order_come_out_at_once() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hel", false);
        assert_eq!(bench.text(), "hel");
        bench.segment(3, b"lo", true);
        assert_eq!((bench.text().as_str(), bench.out.ends), ("hello", 1));
        assert!(bench.reassembler.waiting.is_none());
    }

    #[test]
    fn a_hole_holds_back_what_follows_until_it_is_filled() {
        let mut bench = Bench::new(1);
        bench.segment(3, b"lo", true);
        assert_eq!(bench.text(), "");
        bench.segment(0, b"hel", false);
        assert_eq!((bench.text().as_str(), bench.out.ends, bench.shared.held_bytes), ("hello", 1, 0));
    }

    #[test]
    fn a_retransmission_is_counted_and_not_repeated() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.segment(0, b"hello", false);
        bench.segment(3, b"lo you", false);
        assert_eq!(bench.text(), "hello you");
        assert_eq!(bench.reassembler.bytes_retransmitted(), 7);
    }

    #[test]
    fn positions_wrap() {
        let mut bench = Bench::new(u32::MAX - 2);
        bench.segment(4, b"o", true);
        bench.segment(0, b"hell", false);
        assert_eq!((bench.text().as_str(), bench.out.ends), ("hello", 1));
    }

    #[test]
    fn a_hole_that_the_receiver_has_passed_is_a_gap() {
        let mut bench = Bench::new(1);
        bench.segment(3, b"lo", false);
        bench.acknowledgment(5, false);
        assert_eq!(bench.text(), "···lo");
        assert_eq!(bench.out.causes, [GapCause::NeverSeen]);
        assert_eq!(bench.reassembler.bytes_missing(), 3);
    }

    #[test]
    fn a_gap_during_capture_losses_says_so() {
        let mut bench = Bench::new(1);
        bench.shared.losses = 1;
        bench.segment(3, b"lo", false);
        bench.acknowledgment(5, false);
        assert_eq!(bench.out.causes, [GapCause::CaptureLoss]);
    }

    #[test]
    fn an_acknowledgment_of_bytes_that_nobody_saw_is_believed_only_from_the_observed_socket() {
        let mut bench = Bench::new(1);
        bench.acknowledgment(5, false);
        assert_eq!(bench.text(), "");
        bench.segment(0, b"hello", false);
        assert_eq!(bench.text(), "hello");
        bench.acknowledgment(7, true);
        assert_eq!(bench.text(), "hello··");
    }

    #[test]
    fn an_acknowledged_fin_is_not_a_missing_byte() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", true);
        bench.acknowledgment(6, true);
        assert_eq!((bench.text().as_str(), bench.out.ends), ("hello", 1));
        assert!(bench.reassembler.is_fin_acknowledged());
    }

    #[test]
    fn at_the_end_holes_become_gaps_and_what_waited_comes_out() {
        let mut bench = Bench::new(1);
        bench.segment(1, b"e", false);
        bench.segment(4, b"o", true);
        bench.end();
        assert_eq!((bench.text().as_str(), bench.out.ends, bench.shared.held_bytes), ("·e··o", 1, 0));
    }

    #[test]
    fn what_the_snap_length_cut_is_a_gap() {
        let mut bench = Bench::new(1);
        bench.cut_segment(0, b"he", 5, false);
        bench.cut_segment(7, b"o", 2, false);
        bench.segment(5, b"yo", false);
        assert_eq!(bench.text(), "he···yoo·");
        assert_eq!(bench.out.causes, [GapCause::SnapLength; 2]);
    }

    #[test]
    fn the_first_of_two_differing_copies_wins_and_the_difference_is_told() {
        let mut bench = Bench::new(1);
        bench.segment(2, b"llo", false);
        bench.segment(1, b"eXl", false);
        bench.segment(0, b"h", false);
        assert_eq!(bench.text(), "hello");
        assert_eq!(bench.out.misfits, [Misfit::OverlapDiffers]);
    }

    #[test]
    fn a_keep_alive_probe_is_nothing() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.segment(4, b"X", false);
        bench.segment(4, b"", false);
        assert_eq!((bench.text().as_str(), bench.reassembler.bytes_retransmitted()), ("hello", 0));
    }

    #[test]
    fn a_segment_that_begins_before_the_capture_is_cut_to_what_is_new() {
        let mut bench = Bench::new(100);
        bench.segment(3_u32.wrapping_neg(), b"hello", false);
        assert_eq!(bench.text(), "lo");
        bench.segment(9_u32.wrapping_neg(), b"hello", false);
        assert_eq!(bench.text(), "lo");
    }

    #[test]
    fn a_segment_beyond_any_window_is_told_and_ignored() {
        let mut bench = Bench::new(1);
        bench.segment(0x6000_0000, b"hello", false);
        assert_eq!((bench.text().as_str(), bench.shared.held_bytes), ("", 0));
        assert_eq!(bench.out.misfits, [Misfit::OutsideWindow]);
    }

    #[test]
    fn bytes_behind_a_fin_are_told_and_ignored() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", true);
        bench.segment(5, b"!", false);
        assert_eq!(bench.text(), "hello");
        assert_eq!(bench.out.misfits, [Misfit::DataAfterFin]);
    }

    #[test]
    fn at_the_bound_of_held_bytes_the_hole_is_given_up() {
        let mut bench = Bench::new(1);
        bench.limits.reassembly_bytes = 1_000;
        bench.segment(1, &[b'x'; 600], false);
        bench.segment(700, &[b'y'; 600], false);
        assert_eq!(bench.out.limits, [Limit::Reassembly]);
        assert_eq!(bench.out.causes, [GapCause::Limit]);
        assert_eq!(bench.out.stream.len(), 601);
    }

    #[test]
    fn many_tiny_runs_reach_the_bound_too() {
        let mut bench = Bench::new(1);
        for offset in 0..5_000 {
            bench.segment(offset * 2 + 1, b"x", false);
        }
        assert!(bench.shared.held_bytes <= 200_000, "{}", bench.shared.held_bytes);
        assert!(bench.out.limits.contains(&Limit::Reassembly));
    }

    /// Cuts `0..length` into pieces at random, some twice, overlapping, in any order.
    fn pieces(length: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
        let extra = prop::collection::vec((0..length, 1..=length), 0..20);
        let cuts = prop::collection::btree_set(1..length, 0..20);
        (cuts, extra).prop_flat_map(move |(cuts, extra)| {
            let mut edges: Vec<usize> = cuts.into_iter().collect();
            edges.insert(0, 0);
            edges.push(length);
            let mut pieces: Vec<(usize, usize)> = edges.windows(2).map(|edge| (edge[0], edge[1])).collect();
            pieces.extend(extra.into_iter().map(|(from, size)| (from, (from + size).min(length))));
            Just(pieces).prop_shuffle()
        })
    }

    proptest! {
        #[test]
        fn any_cutting_reordering_and_repetition_gives_the_same_bytes(
            order in pieces(300),
            initial: u32,
        ) {
            let stream: Vec<u8> = (0..300_u32).map(|n| (n % 251) as u8).collect();
            let mut bench = Bench::new(initial);
            for (from, to) in order {
                bench.segment(u32::try_from(from).unwrap(), &stream[from..to], to == stream.len());
            }
            let expected: Vec<Option<u8>> = stream.into_iter().map(Some).collect();
            prop_assert_eq!(&bench.out.stream, &expected);
            prop_assert_eq!(bench.out.ends, 1);
            prop_assert_eq!(bench.shared.held_bytes, 0);
            prop_assert!(bench.out.misfits.is_empty());
        }

        #[test]
        fn with_pieces_left_out_just_those_are_missing(
            order in pieces(300),
            keep in prop::collection::vec(any::<bool>(), 60),
            acknowledge_each: bool,
        ) {
            let stream: Vec<u8> = (0..300_u32).map(|n| (n % 251) as u8).collect();
            let mut bench = Bench::new(7);
            let mut seen = vec![None; stream.len()];
            for ((from, to), keep) in order.into_iter().zip(keep.into_iter().cycle()) {
                if keep {
                    bench.segment(u32::try_from(from).unwrap(), &stream[from..to], false);
                    for position in from..to {
                        seen[position] = Some(stream[position]);
                    }
                    if acknowledge_each {
                        bench.acknowledgment(0, false);
                    }
                }
            }
            bench.acknowledgment(300, true);
            bench.end();
            prop_assert_eq!(&bench.out.stream, &seen);
            let missing = seen.iter().filter(|byte| byte.is_none()).count() as u64;
            prop_assert_eq!(bench.reassembler.bytes_missing(), missing);
            prop_assert_eq!(bench.shared.held_bytes, 0);
        }

        #[test]
        fn random_segments_never_panic_and_stay_within_the_bound(
            segments in prop::collection::vec(
                (any::<u32>(), prop::collection::vec(any::<u8>(), 0..100), any::<u16>(), any::<bool>(), any::<u32>()),
                0..200,
            ),
        ) {
            let mut bench = Bench::new(0);
            bench.limits.reassembly_bytes = 2_000;
            for (sequence, data, extra, fin, acknowledgment) in segments {
                let length = u32::try_from(data.len()).unwrap() + u32::from(extra);
                bench.cut_segment(sequence, &data, length, fin);
                bench.acknowledgment(acknowledgment, fin);
                prop_assert!(bench.shared.held_bytes <= 2_000 + 200);
                bench.out.stream.clear();
                bench.out.ends = 0;
            }
            bench.end();
            prop_assert_eq!(bench.shared.held_bytes, 0);
        }
    }
}

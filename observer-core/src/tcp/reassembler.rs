//! One direction's bytes, put in order.
//!
//! Owns what is known of a direction's stream: where the next byte belongs, what waits behind a hole (`waiting.rs`
//! says which copy of it), what can still be sent otherwise (`unacknowledged.rs`), where the stream ends. Must not know
//! the other direction but for its acknowledgments, nor what the bytes mean. Bounded by [`Limits::reassembly_bytes`],
//! [`Limits::reassembly_runs`] and, over all directions, by [`Limits::reassembly_total_bytes`]: at a bound the hole in
//! front is given up. What a SYN carries is bounded by [`Limits::syn_data_total_bytes`]. Of the gaps, the last
//! `GAPS_REMEMBERED` are remembered.
//!
//! What is seen before the receiver judged it may be forged, so each kind of word is believed as far as its
//! [`Vantage`] allows:
//!
//! - A hole becomes a gap when the receiver acknowledged past it and later bytes were seen, at a bound, or at the
//!   end: never by a timer. An acknowledgment alone is believed at once from the observed socket, and else only at
//!   the end, as far as the capture's losses explain it or, in a file, for `ALONE` bytes.
//! - A position outside the window is believed from the observed socket, where losses explain it, and where both
//!   ends agree on it: then the stream goes on from there, behind a break.
//! - A FIN stands until bytes in order or an acknowledgment pass it.
//! - What a SYN carries is part of the stream once it is acknowledged.
//!
//! Bytes in order are handed out at once, and win over whatever waits at their place, as they do in Linux.
//!
//! A byte that is marked as urgent is no part of what a receiver reads, unless it has set SO_OOBINLINE: Linux takes it
//! out (`tcp_check_urg`, `tcp_recvmsg`), and so is it here. A mark behind which a later one comes before the first was
//! read is void there; here it is taken to be read at once.
//!
//! Positions are known modulo 4 GiB. Where losses could hide a multiple of that, [`Output::handle_doubt`] says so.

use std::collections::VecDeque;

use super::sequence::SequenceNumber;
use super::unacknowledged::Unacknowledged;
use super::waiting::{Run, Waiting, skip};
use crate::limits::{Limit, Limits};
use crate::record::GapCause;

/// The largest distance at which a segment or an acknowledgment can belong to the stream: the largest receive
/// window (RFC 7323 §2.3).
const MAXIMUM_WINDOW: i32 = 1 << 30;
/// What lies farther behind is no repetition where losses explain that it is ahead instead, and no late
/// acknowledgment: no kernel's receive buffer is larger by default.
const FAR_BEHIND: i32 = 1 << 26;
/// How far beyond all that was seen a file's acknowledgment, FIN or RST is believed alone, in bytes.
pub const ALONE: u64 = 1 << 24;
/// No packet is larger (the kernel's `GSO_MAX_SIZE`), so so many bytes each lost packet explains at most.
const MAXIMUM_PACKET: u64 = 1 << 19;
/// With fewer packets lost, no 4 GiB of one stream can be among them.
const LOSSES_OF_A_WRAP: u64 = (1 << 32) / MAXIMUM_PACKET;
/// Gaps of which late bytes are still told from repeated ones.
const GAPS_REMEMBERED: usize = 8;

/// From where a segment was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// It left the socket that the capture is attached to: what it says is the kernel's word.
    Leaving,
    /// It reached that socket, before the kernel judged it.
    Reaching,
    /// On the way, as in a file.
    Between,
}

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
    /// Nothing follows: a FIN was seen and acknowledged, or the connection is over, and all before it is accounted
    /// for.
    End,
}

/// What came in that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Farther from what is expected than any window reaches; ignored.
    OutsideWindow,
    /// Two copies of the same bytes differ, of which the receiver reads the one that is handed out.
    OverlapDiffers,
    /// Bytes differ from those that were handed out at their place.
    RepetitionDiffers {
        /// Whether the receiver had those before.
        acknowledged: bool,
    },
    /// Bytes behind a FIN; they wait until the FIN turns out to be none.
    DataAfterFin,
    /// Bytes in order, or an acknowledgment, passed a FIN; the FIN is ignored.
    FinPassed,
    /// Bytes that were given up as missing; ignored.
    LateData,
}

/// What all directions share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Payload bytes that wait behind holes, in all directions, and what it takes to keep them.
    pub held_bytes: usize,
    /// Bytes of SYNs that wait for an acknowledgment, in all directions, and what it takes to keep them.
    pub syn_bytes: usize,
    /// Bytes that were handed out and are kept to be compared with other copies, in all directions.
    pub unacknowledged_bytes: usize,
    /// The capture's running total of losses.
    pub losses: u64,
}

/// Receives what comes out.
pub trait Output {
    /// Takes the next piece of the stream.
    fn handle_chunk(&mut self, chunk: Chunk<'_>);
    /// Takes note that the stream goes on elsewhere: at least `length` bytes are missing, and nothing tells how many.
    fn handle_break(&mut self, length: u64, cause: GapCause);
    /// Takes note of a byte that the receiver reads apart from the stream; of why it was not seen, where it was not.
    fn handle_urgent(&mut self, byte: Result<u8, GapCause>);
    /// Takes note that so many packets were lost that 4 GiB, or a multiple of them, may be missing here.
    fn handle_doubt(&mut self);
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
    /// The capture's losses when a position of the stream was last seen: how far it may have gone round since.
    losses_at_position: u64,
    bytes_retransmitted: u64,
    bytes_missing: u64,
    waiting: Option<Box<Waiting>>,
    syn_data: Option<Box<Run>>,
    /// From where its last segment was seen.
    vantage: Vantage,
    /// Empty where what is seen is the kernel's word: a kernel repeats what it sent.
    unacknowledged: Unacknowledged,
    /// Stream offset of the urgent byte to come.
    urgent: Option<u64>,
    fin: Option<Fin>,
    acknowledged: u64,
    /// End of the last segment outside the window.
    stray_end: Option<SequenceNumber>,
    /// The last gaps, oldest first: from and to which offset.
    given_up: VecDeque<(u64, u64)>,
    /// Whether the end was handed out.
    ended: bool,
}

/// Where a FIN says that the stream ends.
#[derive(Clone, Copy, Debug)]
struct Fin {
    at: u64,
    is_kernels_word: bool,
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
    /// Why there are less in `data`, if there are.
    pub cut_by: GapCause,
    /// Whether the sender sends nothing behind them.
    pub fin: bool,
    /// Position of the byte that the sender calls urgent, in this segment or ahead of it.
    pub urgent: Option<SequenceNumber>,
    /// From where they were seen.
    pub vantage: Vantage,
}

impl Reassembler {
    /// A direction whose next byte has the position `next`.
    pub fn new(next: SequenceNumber, shared: &Shared) -> Self {
        Self {
            next,
            offset: 0,
            losses_before: shared.losses,
            losses_at_position: shared.losses,
            bytes_retransmitted: 0,
            bytes_missing: 0,
            waiting: None,
            syn_data: None,
            vantage: Vantage::Between,
            unacknowledged: Unacknowledged::default(),
            urgent: None,
            fin: None,
            acknowledged: 0,
            stray_end: None,
            given_up: VecDeque::new(),
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

    /// Bytes that its SYN carried and nobody acknowledged yet.
    pub fn syn_data_length(&self) -> u64 {
        self.syn_data.as_ref().map_or(0, |run| run.length)
    }

    /// Stream offset of a position, where it can belong to the stream.
    pub fn offset_of(&self, position: SequenceNumber) -> Option<u64> {
        let distance = position.distance_from(self.next);
        (-MAXIMUM_WINDOW..=MAXIMUM_WINDOW).contains(&distance).then_some(())?;
        self.offset.checked_add_signed(i64::from(distance))
    }

    /// Stream offset up to which an acknowledgment reaches, where all before it, its FIN included, was seen to be sent
    /// or is known to be missing.
    pub fn acknowledged_offset(&self, acknowledgment: SequenceNumber) -> Option<u64> {
        self.offset_of(acknowledgment).filter(|to| *to <= self.sent_end())
    }

    /// Offset behind all that was seen to be sent, the FIN included.
    pub fn sent_end(&self) -> u64 {
        let seen = self.waiting_end().map_or(self.offset, |end| end.max(self.offset));
        self.fin.map_or(seen, |fin| seen.max(fin.at + 1))
    }

    /// Payload bytes that were seen more than once.
    pub const fn bytes_retransmitted(&self) -> u64 {
        self.bytes_retransmitted
    }

    /// Payload bytes that exist and were not seen.
    pub const fn bytes_missing(&self) -> u64 {
        self.bytes_missing
    }

    /// Stream offset of the FIN, where one was seen that still stands.
    pub fn fin(&self) -> Option<u64> {
        self.fin.map(|fin| fin.at)
    }

    /// Whether a FIN was seen and all before it is accounted for.
    pub fn has_ended(&self) -> bool {
        self.fin.is_some_and(|fin| self.offset >= fin.at)
    }

    /// Whether the sender's FIN was seen and the receiver acknowledged it.
    pub fn is_fin_acknowledged(&self) -> bool {
        self.fin.is_some_and(|fin| self.acknowledged > fin.at)
    }

    /// Whether the capture lost packets since the stream last moved on.
    pub const fn may_lack_bytes(&self, shared: &Shared) -> bool {
        shared.losses > self.losses_before
    }

    /// Whether a position is the one that the receiver expects next, as far as the capture can know: behind the FIN
    /// there is one more.
    pub fn is_next(&self, sequence: SequenceNumber) -> bool {
        let distance = sequence.distance_from(self.next);
        distance == 0 || (distance == 1 && self.has_ended())
    }

    /// How many bytes a position lies ahead; `None` where it does not, or farther than a window reaches.
    pub fn bytes_ahead(&self, sequence: SequenceNumber) -> Option<u64> {
        let distance = sequence.distance_from(self.next);
        (0..=MAXIMUM_WINDOW).contains(&distance).then_some(u64::from(distance.unsigned_abs()))
    }

    /// How many bytes of this stream the capture can have lost since it last moved on.
    pub const fn bytes_explained(&self, shared: &Shared) -> u64 {
        shared.losses.saturating_sub(self.losses_before).saturating_mul(MAXIMUM_PACKET)
    }

    /// Takes a segment of this direction that is no SYN.
    pub fn handle_segment(
        &mut self,
        input: Input<'_>,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        self.vantage = input.vantage;
        let distance = input.sequence.distance_from(self.next);
        if (input.length == 0 && !input.fin) || self.is_keep_alive(distance, input) {
            if !self.is_elsewhere(input.sequence, shared) {
                self.note_urgent(input);
            }
            return;
        }
        let distance = if self.is_elsewhere(input.sequence, shared) {
            if self.ended || !self.is_credible(input, shared) {
                self.stray_end = Some(input.sequence.plus(input.length));
                output.handle_misfit(Misfit::OutsideWindow);
                return;
            }
            self.rebase(input.sequence, limits, shared, output);
            0
        } else {
            if distance < -FAR_BEHIND {
                self.stray_end = Some(input.sequence.plus(input.length));
            }
            self.check_wrap(shared, output);
            distance
        };
        let Some(start) = self.offset.checked_add_signed(i64::from(distance)) else {
            // Before the first byte that was seen: the tail of what passed before the capture began.
            self.handle_segment_across_start(input, distance, limits, shared, output);
            return;
        };
        self.place(start, input, limits, shared, output);
        self.give_up_before_fin(input.vantage, limits, shared, output);
        self.end_if_acknowledged(shared, output);
    }

    /// Takes what is within the window.
    fn place(
        &mut self,
        start: u64,
        input: Input<'_>,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let length = u64::from(input.length);
        let end = start + length;
        if start <= self.offset && end > self.offset {
            // The sender repeats what its SYN carried: then the receiver did not take it from there.
            self.forget_syn_data(shared);
        }
        let was_over = self.has_ended();
        let is_in_order = start <= self.offset && !was_over;
        self.note_urgent(input);
        if input.fin {
            self.note_fin(end, input.vantage, output);
        }
        if let (false, Some(fin)) = (is_in_order, self.fin)
            && length > 0
            && end > fin.at
        {
            output.handle_misfit(Misfit::DataAfterFin);
            if self.ended {
                return;
            }
        }
        let repeated = self.offset.saturating_sub(start).min(length);
        if repeated > 0 {
            self.count_repeated(start, start + repeated, output);
            self.compare_repeated(start, input.data, repeated, output);
        }
        let fresh = length - repeated;
        let data = skip(input.data, repeated);
        if fresh == 0 {
            return;
        }
        self.compare_waiting(start + repeated, data, fresh, output);
        if is_in_order {
            self.advance(data, fresh, input.cut_by, limits, shared, output);
            self.release_runs(limits, shared, output);
        } else {
            let run = Run { data: Vec::new(), length: fresh, cut_by: input.cut_by, losses: shared.losses };
            self.hold(start + repeated, data, &run, shared);
        }
        self.handle_holes(limits, shared, output);
    }

    /// Only the last mark counts, and only ahead of what was received before (RFC 9293 §3.8.5, `tcp_check_urg`).
    fn note_urgent(&mut self, input: Input<'_>) {
        let at = input.urgent.and_then(|position| self.offset_of(position));
        if let Some(at) = at.filter(|at| *at >= self.offset) {
            self.urgent = self.urgent.max(Some(at));
        }
    }

    /// Where two FINs contradict each other, the one that comes first in the stream is reached first.
    fn note_fin(&mut self, at: u64, vantage: Vantage, output: &mut dyn Output) {
        if at < self.offset || self.ended {
            return;
        }
        let is_kernels_word = vantage == Vantage::Leaving;
        // Behind one that the stream has reached, only an acknowledgment tells that it was none.
        if self.fin.is_some_and(|fin| fin.at <= at && (!is_kernels_word || self.has_ended())) {
            return;
        }
        self.fin = Some(Fin { at, is_kernels_word });
        if self.waiting_end().is_some_and(|end| end > at) {
            output.handle_misfit(Misfit::DataAfterFin);
        }
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
            ..input
        };
        if cut.sequence != input.sequence {
            self.handle_segment(cut, limits, shared, output);
        }
    }

    /// A probe repeats the last byte, or sends none (RFC 9293 §3.8.4).
    fn is_keep_alive(&self, distance: i32, input: Input<'_>) -> bool {
        distance == -1 && input.length <= 1 && !input.fin && self.offset > 0
    }

    /// Takes the payload of this direction's SYN. It waits until the receiver acknowledges it: most do not take it,
    /// and anybody can send a SYN.
    pub fn handle_syn_data(
        &mut self,
        input: Input<'_>,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let is_first = self.offset == 0 && self.acknowledged == 0 && self.syn_data.is_none();
        if input.length == 0 || input.sequence != self.next || !is_first {
            return;
        }
        let mut run = Run {
            data: Vec::new(),
            length: u64::from(input.length),
            cut_by: input.cut_by,
            losses: shared.losses,
        };
        if shared.syn_bytes + run.cost() + input.data.len() > limits.syn_data_total_bytes {
            output.handle_limit(Limit::SynData);
            run.cut_by = GapCause::Limit;
        } else {
            run.data = input.data.to_vec();
        }
        shared.syn_bytes += run.cost();
        self.syn_data = Some(Box::new(run));
    }

    /// An acknowledgment tells whether the receiver took what the SYN carried. `to`: up to which offset.
    fn settle_syn_data(
        &mut self,
        to: u64,
        vantage: Vantage,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let Some(run) = &self.syn_data else { return };
        if self.offset > 0 || to > run.length.max(self.acknowledgeable(vantage, shared)) {
            return;
        }
        if let (Some(mut run), true) = (self.take_syn_data(shared), to > 0) {
            let taken = to.min(run.length);
            run.data.truncate(usize::try_from(taken).unwrap_or(usize::MAX));
            self.advance(&run.data, taken, run.cut_by, limits, shared, output);
            self.release_runs(limits, shared, output);
        }
    }

    fn take_syn_data(&mut self, shared: &mut Shared) -> Option<Box<Run>> {
        let run = self.syn_data.take()?;
        shared.syn_bytes = shared.syn_bytes.saturating_sub(run.cost());
        Some(run)
    }

    fn forget_syn_data(&mut self, shared: &mut Shared) {
        self.take_syn_data(shared);
    }

    /// Takes the receiver's acknowledgment, seen from `vantage`.
    pub fn handle_acknowledgment(
        &mut self,
        acknowledgment: SequenceNumber,
        vantage: Vantage,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        if self.ended {
            return;
        }
        let is_kernels_word = vantage == Vantage::Leaving;
        let distance = acknowledgment.distance_from(self.next);
        if !(-FAR_BEHIND..=MAXIMUM_WINDOW).contains(&distance) {
            if is_kernels_word || self.stray_end == Some(acknowledgment) {
                self.rebase(acknowledgment, limits, shared, output);
                self.acknowledged = self.offset;
            }
            return;
        }
        self.check_wrap(shared, output);
        let Some(to) = self.offset.checked_add_signed(i64::from(distance)) else { return };
        self.settle_syn_data(to, vantage, limits, shared, output);
        if to <= self.acknowledged || to > self.acknowledgeable(vantage, shared) {
            return;
        }
        self.acknowledged = to;
        self.unacknowledged.handle_acknowledgment(to, &mut shared.unacknowledged_bytes);
        if is_kernels_word && self.fin.is_some_and(|fin| to > fin.at + 1) {
            self.fin = None;
            output.handle_misfit(Misfit::FinPassed);
            self.release_runs(limits, shared, output);
        }
        self.handle_holes(limits, shared, output);
        if is_kernels_word && to > self.offset {
            self.give_up_to(to, self.cause(shared), limits, shared, output);
            self.handle_holes(limits, shared, output);
        }
        self.give_up_before_fin(vantage, limits, shared, output);
        self.end_if_acknowledged(shared, output);
    }

    /// Up to which offset an acknowledgment is noted: its sender can only have what was sent.
    fn acknowledgeable(&self, vantage: Vantage, shared: &Shared) -> u64 {
        let seen = self.sent_end();
        match vantage {
            Vantage::Leaving => u64::MAX,
            // Of what it acknowledges, all must have left the observed socket. The 1 is for an unseen FIN.
            Vantage::Reaching => seen.saturating_add(self.bytes_explained(shared)).saturating_add(1),
            Vantage::Between => seen.max(self.acknowledged).saturating_add(ALONE),
        }
    }

    /// Ends the direction: every hole becomes a gap, and what waited comes out. `to` is the position behind its
    /// last byte, where a segment tells that is to be believed; `alone`: how many bytes beyond what was seen a FIN or
    /// acknowledgments are believed, besides what losses explain.
    pub fn handle_end(
        &mut self,
        to: Option<SequenceNumber>,
        alone: u64,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        self.flush(limits, shared, output);
        let alone = alone.max(self.bytes_explained(shared));
        if let Some(fin) = self.fin {
            let is_believed = fin.is_kernels_word || self.acknowledged > fin.at;
            if !is_believed && fin.at.saturating_sub(self.offset) > alone {
                self.fin = None;
            }
        }
        let told = to.and_then(|to| self.bytes_ahead(to)).map(|ahead| self.offset.saturating_add(ahead));
        let acknowledged = (alone > 0).then_some(self.acknowledged);
        if let Some(end) = self.fin.map(|fin| fin.at).or(told.max(acknowledged)) {
            self.give_up_to(end, self.cause(shared), limits, shared, output);
        }
        if self.has_ended() {
            self.end(shared, output);
        }
        self.forget(shared);
    }

    /// Whether something waits behind a hole.
    pub const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether it keeps more copies than any direction may.
    pub fn keeps_much(&self) -> bool {
        self.unacknowledged.is_much()
    }

    /// Gives up what waits, for others: every hole becomes a gap.
    pub fn give_up_holes(&mut self, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        if !self.is_waiting() {
            return;
        }
        output.handle_limit(Limit::ReassemblyTotal);
        while let (Some(first), false) = (self.first_waiting(), self.has_ended()) {
            self.give_up_to(first, GapCause::Limit, limits, shared, output);
        }
        self.forget_waiting(shared);
    }

    /// Gives up the copies of what is not acknowledged, for others.
    pub fn give_up_copies(&mut self, shared: &mut Shared, output: &mut dyn Output) {
        if self.keeps_much() {
            output.handle_limit(Limit::Unacknowledged);
            self.unacknowledged.forget(&mut shared.unacknowledged_bytes);
        }
    }

    /// Lets go of what waits without telling.
    pub fn forget(&mut self, shared: &mut Shared) {
        self.forget_syn_data(shared);
        self.unacknowledged.forget(&mut shared.unacknowledged_bytes);
        self.forget_waiting(shared);
    }

    fn forget_waiting(&mut self, shared: &mut Shared) {
        if let Some(waiting) = self.waiting.take() {
            shared.held_bytes = shared.held_bytes.saturating_sub(waiting.held_bytes());
        }
    }

    const fn cause(&self, shared: &Shared) -> GapCause {
        if self.may_lack_bytes(shared) { GapCause::CaptureLoss } else { GapCause::NeverSeen }
    }

    /// Whether a position does not belong to the window, nor to what was repeated from before it.
    fn is_elsewhere(&self, sequence: SequenceNumber, shared: &Shared) -> bool {
        let distance = sequence.distance_from(self.next);
        let is_explained = self.bytes_explained(shared) >= bytes_around(self.next, sequence);
        let farthest_behind = if is_explained { FAR_BEHIND } else { MAXIMUM_WINDOW };
        !(-farthest_behind..=MAXIMUM_WINDOW).contains(&distance)
    }

    fn is_credible(&self, input: Input<'_>, shared: &Shared) -> bool {
        input.vantage == Vantage::Leaving
            || self.bytes_explained(shared) >= bytes_around(self.next, input.sequence)
    }

    /// Goes on from another position: it is known modulo 4 GiB what lies between, if the position before was right.
    fn rebase(&mut self, to: SequenceNumber, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        if self.fin.take().is_some() {
            output.handle_misfit(Misfit::FinPassed);
        }
        self.flush(limits, shared, output);
        self.forget(shared);
        self.urgent = None;
        let between = bytes_around(self.next, to);
        let length = if self.bytes_explained(shared) >= between { between } else { 0 };
        let cause = self.cause(shared);
        self.next = to;
        self.offset += length;
        self.bytes_missing += length;
        self.acknowledged = self.acknowledged.min(self.offset);
        self.losses_before = shared.losses;
        self.losses_at_position = shared.losses;
        self.stray_end = None;
        self.given_up.clear();
        output.handle_break(length, cause);
    }

    /// A position of the stream was seen, modulo 4 GiB.
    fn check_wrap(&mut self, shared: &Shared, output: &mut dyn Output) {
        if shared.losses.saturating_sub(self.losses_at_position) >= LOSSES_OF_A_WRAP {
            output.handle_doubt();
        }
        self.losses_at_position = shared.losses;
    }

    fn first_waiting(&self) -> Option<u64> {
        self.waiting.as_ref()?.first().map(|(at, _)| at)
    }

    fn waiting_end(&self) -> Option<u64> {
        self.waiting.as_ref()?.end()
    }

    /// Hands out `length` bytes that are next in order; `data` is what was captured of them.
    fn advance(
        &mut self,
        data: &[u8],
        length: u64,
        cut_by: GapCause,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        self.keep_copy(data, limits, shared, output);
        self.hand_out(data, length, cut_by, output);
        self.losses_before = shared.losses;
        if self.fin.is_some_and(|fin| self.offset > fin.at) {
            self.fin = None;
            output.handle_misfit(Misfit::FinPassed);
        }
    }

    fn keep_copy(&mut self, data: &[u8], limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        if self.vantage == Vantage::Leaving {
            return;
        }
        let total = &mut shared.unacknowledged_bytes;
        let shed = self.unacknowledged.extend(self.offset, data, self.acknowledged, limits, total);
        // A file may show this direction only.
        let is_acknowledged = self.vantage == Vantage::Reaching || self.acknowledged > 0;
        if shed > 0 && is_acknowledged {
            output.handle_limit(Limit::Unacknowledged);
        }
    }

    /// Hands out the next `length` bytes; `cause` tells why those behind `data` are missing.
    fn hand_out(&mut self, data: &[u8], length: u64, cause: GapCause, output: &mut dyn Output) {
        let urgent = self.urgent.and_then(|at| at.checked_sub(self.offset)).filter(|ahead| *ahead < length);
        let Some(ahead) = urgent else {
            self.hand_out_plain(data, length, cause, output);
            return;
        };
        self.urgent = None;
        let known = usize::try_from(ahead).unwrap_or(usize::MAX).min(data.len());
        self.hand_out_plain(data.get(..known).unwrap_or_default(), ahead, cause, output);
        let byte = skip(data, ahead).first().copied().ok_or(cause);
        self.bytes_missing += u64::from(byte.is_err());
        output.handle_urgent(byte);
        self.step(1);
        self.hand_out_plain(skip(data, ahead + 1), length - ahead - 1, cause, output);
    }

    fn hand_out_plain(&mut self, data: &[u8], length: u64, cause: GapCause, output: &mut dyn Output) {
        let missing = length.saturating_sub(data.len() as u64);
        if !data.is_empty() {
            output.handle_chunk(Chunk::Data(data));
        }
        if missing > 0 {
            self.bytes_missing += missing;
            output.handle_chunk(Chunk::Gap { length: missing, cause });
        }
        self.step(length);
    }

    fn step(&mut self, length: u64) {
        self.offset += length;
        // Positions are modulo 2³² by definition.
        #[expect(clippy::cast_possible_truncation)]
        let positions = length as u32;
        self.next = self.next.plus(positions);
    }

    /// Counts bytes that lie before what is expected next: seen again, or late behind a gap.
    fn count_repeated(&mut self, from: u64, to: u64, output: &mut dyn Output) {
        let mut late = 0;
        for (gap_from, gap_to) in core::mem::take(&mut self.given_up) {
            let (late_from, late_to) = (from.max(gap_from), to.min(gap_to));
            if late_from >= late_to {
                self.remember_gap(gap_from, gap_to);
                continue;
            }
            late += late_to - late_from;
            self.remember_gap(gap_from, late_from);
            self.remember_gap(late_to, gap_to);
        }
        if late > 0 {
            output.handle_misfit(Misfit::LateData);
        }
        self.bytes_retransmitted += (to - from).saturating_sub(late);
    }

    fn remember_gap(&mut self, from: u64, to: u64) {
        if from < to {
            self.given_up.push_back((from, to));
            if self.given_up.len() > GAPS_REMEMBERED {
                self.given_up.pop_front();
            }
        }
    }

    /// Tells of bytes that are sent again otherwise.
    fn compare_repeated(&self, start: u64, data: &[u8], repeated: u64, output: &mut dyn Output) {
        let again = data.get(..usize::try_from(repeated).unwrap_or(usize::MAX)).unwrap_or(data);
        if self.unacknowledged.differs(start, again) {
            let acknowledged = self.acknowledged >= start + repeated;
            output.handle_misfit(Misfit::RepetitionDiffers { acknowledged });
        }
    }

    /// Counts bytes that wait already, and tells where they differ.
    fn compare_waiting(&mut self, start: u64, data: &[u8], length: u64, output: &mut dyn Output) {
        let Some(waiting) = &self.waiting else { return };
        let overlap = waiting.compare(start, data, length);
        self.bytes_retransmitted += overlap.bytes;
        if overlap.differs {
            output.handle_misfit(Misfit::OverlapDiffers);
        }
    }

    /// Keeps what is behind a hole, if the receiver does: of `run`, with the bytes `data`.
    fn hold(&mut self, start: u64, data: &[u8], run: &Run, shared: &mut Shared) {
        let waiting = self.waiting.get_or_insert_default();
        let before = waiting.held_bytes();
        waiting.insert(start, data, run);
        shared.held_bytes = (shared.held_bytes + waiting.held_bytes()).saturating_sub(before);
    }

    /// Gives up the hole in front where the receiver has passed it or a bound is reached.
    fn handle_holes(&mut self, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        while let Some(waiting) = &self.waiting
            && let Some((first, run)) = waiting.first()
        {
            let limit = limit_of(waiting, limits, shared);
            if self.has_ended() {
                // All that waits is behind the FIN: that is none if the receiver has bytes from there.
                if self.acknowledged >= first + run.length {
                    self.fin = None;
                    output.handle_misfit(Misfit::FinPassed);
                    self.release_runs(limits, shared, output);
                    continue;
                }
                if let Some(limit) = limit {
                    output.handle_limit(limit);
                    self.forget(shared);
                }
                return;
            }
            if self.acknowledged >= first {
                self.give_up_to(first, self.cause(shared), limits, shared, output);
            } else if let Some(limit) = limit {
                output.handle_limit(limit);
                self.give_up_to(first, GapCause::Limit, limits, shared, output);
            } else {
                return;
            }
        }
    }

    /// Gives up every hole and hands out what waits, up to the FIN.
    fn flush(&mut self, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        // Where a FIN was taken back, what waited behind it may be next.
        self.release_runs(limits, shared, output);
        while let (Some(first), false) = (self.first_waiting(), self.has_ended()) {
            self.give_up_to(first, self.cause(shared), limits, shared, output);
        }
    }

    /// Calls everything missing that is not known up to stream offset `to`, and hands out what follows. Nothing is
    /// missing behind a FIN.
    fn give_up_to(
        &mut self,
        to: u64,
        cause: GapCause,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        while self.offset < to && !self.has_ended() {
            let to = self.fin.map_or(to, |fin| to.min(fin.at));
            let hole_end = self.first_waiting().map_or(to, |first| first.min(to));
            let length = hole_end.saturating_sub(self.offset);
            if length > 0 {
                self.remember_gap(self.offset, hole_end);
                self.hand_out(&[], length, cause, output);
                // What was lost since the bytes behind the hole came can explain the next one.
                let behind = self.waiting.as_ref().and_then(|waiting| waiting.first());
                self.losses_before =
                    behind.filter(|(at, _)| *at <= hole_end).map_or(shared.losses, |(_, run)| run.losses);
            }
            self.release_runs(limits, shared, output);
        }
    }

    /// Hands out what waited and is now next in order.
    fn release_runs(&mut self, limits: &Limits, shared: &mut Shared, output: &mut dyn Output) {
        while let Some(waiting) = &mut self.waiting {
            let Some((at, run)) = waiting.first() else {
                self.waiting = None;
                return;
            };
            let is_over = self.fin.is_some_and(|fin| self.offset >= fin.at);
            if at > self.offset || (is_over && at + run.length > self.offset) {
                return;
            }
            let Some((at, run)) = waiting.take_first() else { return };
            shared.held_bytes = shared.held_bytes.saturating_sub(run.cost());
            let repeated = (self.offset - at).min(run.length);
            if run.length > repeated {
                let data = skip(&run.data, repeated);
                self.advance(data, run.length - repeated, run.cut_by, limits, shared, output);
                self.losses_before = run.losses;
            }
        }
    }

    /// Whoever acknowledges a FIN has all before it, though not all of it was seen. Believed as far as at the end.
    fn give_up_before_fin(
        &mut self,
        vantage: Vantage,
        limits: &Limits,
        shared: &mut Shared,
        output: &mut dyn Output,
    ) {
        let Some(fin) = self.fin.filter(|_| self.is_fin_acknowledged()) else { return };
        let believed = match vantage {
            Vantage::Leaving => u64::MAX,
            Vantage::Reaching => self.bytes_explained(shared),
            Vantage::Between => self.bytes_explained(shared).max(ALONE),
        };
        if fin.at.saturating_sub(self.offset) <= believed {
            self.give_up_to(fin.at, self.cause(shared), limits, shared, output);
        }
    }

    /// Anybody can send a FIN: the stream is over when the receiver says so.
    fn end_if_acknowledged(&mut self, shared: &mut Shared, output: &mut dyn Output) {
        if self.has_ended() && self.is_fin_acknowledged() {
            self.end(shared, output);
        }
    }

    fn end(&mut self, shared: &mut Shared, output: &mut dyn Output) {
        if !self.ended {
            self.ended = true;
            self.forget(shared);
            output.handle_chunk(Chunk::End);
        }
    }
}

/// The bound that is reached. Nobody gets more than a share of what is left over all directions, so that those who hold
/// much leave room for those who come later.
const fn limit_of(waiting: &Waiting, limits: &Limits, shared: &Shared) -> Option<Limit> {
    let left = limits.reassembly_total_bytes.saturating_sub(shared.held_bytes);
    if waiting.held_bytes() > limits.reassembly_bytes || waiting.runs() > limits.reassembly_runs {
        Some(Limit::Reassembly)
    } else if waiting.held_bytes() > left / Limits::SHARES {
        Some(Limit::ReassemblyTotal)
    } else {
        None
    }
}

/// How far ahead a position lies, modulo 4 GiB.
const fn bytes_around(from: SequenceNumber, to: SequenceNumber) -> u64 {
    to.0.wrapping_sub(from.0) as u64
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
        breaks: Vec<(u64, GapCause)>,
        urgent: Vec<Option<u8>>,
        doubts: usize,
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

        fn handle_break(&mut self, length: u64, cause: GapCause) {
            assert_eq!(self.ends, 0, "nothing follows the end");
            self.breaks.push((length, cause));
        }

        fn handle_urgent(&mut self, byte: Result<u8, GapCause>) {
            self.urgent.push(byte.ok());
        }

        fn handle_doubt(&mut self) {
            self.doubts += 1;
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
            let input = self.input(offset, data, length, fin);
            self.reassembler.handle_segment(input, &self.limits, &mut self.shared, &mut self.out);
        }

        fn input<'a>(&self, offset: u32, data: &'a [u8], length: u32, fin: bool) -> Input<'a> {
            Input {
                sequence: self.initial.plus(offset),
                data,
                length,
                cut_by: GapCause::SnapLength,
                fin,
                urgent: None,
                vantage: Vantage::Reaching,
            }
        }

        fn syn_data(&mut self, data: &[u8]) {
            let input = self.input(0, data, u32::try_from(data.len()).unwrap(), false);
            self.reassembler.handle_syn_data(input, &self.limits, &mut self.shared, &mut self.out);
        }

        fn acknowledgment(&mut self, offset: u32, trusted: bool) {
            self.acknowledgment_from(offset, if trusted { Vantage::Leaving } else { Vantage::Reaching });
        }

        fn acknowledgment_from(&mut self, offset: u32, vantage: Vantage) {
            let at = self.initial.plus(offset);
            self.reassembler.handle_acknowledgment(
                at,
                vantage,
                &self.limits,
                &mut self.shared,
                &mut self.out,
            );
        }

        fn end(&mut self) {
            self.reassembler.handle_end(None, 0, &self.limits, &mut self.shared, &mut self.out);
        }

        fn text(&self) -> String {
            self.out.stream.iter().map(|byte| byte.map_or('·', char::from)).collect()
        }
    }

    #[test]
    fn each_of_several_holes_has_the_cause_that_was_there_when_what_is_behind_it_came() {
        let mut bench = Bench::new(7);
        bench.segment(0, b"one", false);
        bench.shared.losses = 3;
        bench.segment(6, b"three", false);
        bench.shared.losses = 7;
        bench.segment(15, b"five", false);
        // Nothing was lost meanwhile: the capture does not know where this went.
        bench.segment(25, b"seven", false);
        bench.acknowledgment(30, true);
        assert_eq!(bench.out.causes, [GapCause::CaptureLoss, GapCause::CaptureLoss, GapCause::NeverSeen]);
    }

    #[test]
    fn a_hole_before_a_fin_that_was_acknowledged_is_given_up_and_ends_the_stream() {
        let mut bench = Bench::new(7);
        bench.segment(0, b"one", false);
        bench.segment(6, b"", true);
        assert_eq!(bench.out.ends, 0);
        bench.acknowledgment_from(7, Vantage::Between);
        assert_eq!((bench.text().as_str(), bench.out.ends), ("one···", 1));
        let mut bench = Bench::new(7);
        bench.segment(1 << 29, b"", true);
        bench.acknowledgment_from((1 << 29) + 1, Vantage::Between);
        assert_eq!((bench.text().as_str(), bench.out.ends), ("", 0), "both may be forged");
    }

    #[test]
    fn bytes_in_order_come_out_at_once() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hel", false);
        assert_eq!(bench.text(), "hel");
        bench.segment(3, b"lo", true);
        assert_eq!(bench.text(), "hello");
        assert!(bench.reassembler.waiting.is_none() && bench.reassembler.has_ended());
    }

    #[test]
    fn a_hole_holds_back_what_follows_until_it_is_filled() {
        let mut bench = Bench::new(1);
        bench.segment(3, b"lo", true);
        assert_eq!(bench.text(), "");
        bench.segment(0, b"hel", false);
        assert_eq!((bench.text().as_str(), bench.shared.held_bytes), ("hello", 0));
        assert!(bench.reassembler.has_ended());
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
        bench.acknowledgment(6, true);
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
    fn of_differing_copies_behind_a_hole_the_one_that_linux_reads_is_shown_and_the_difference_is_told() {
        let mut bench = Bench::new(1);
        bench.segment(2, b"LLo", false);
        bench.segment(1, b"ell", false);
        bench.segment(0, b"h", false);
        assert_eq!(bench.text(), "hello");
        assert_eq!(bench.out.misfits, [Misfit::OverlapDiffers]);
        assert_eq!((bench.reassembler.bytes_retransmitted(), bench.shared.held_bytes), (2, 0));
    }

    #[test]
    fn bytes_in_order_win_over_those_that_wait_and_the_difference_is_told() {
        let mut bench = Bench::new(1);
        bench.segment(2, b"XXXo", false);
        bench.segment(0, b"hell", false);
        assert_eq!(bench.text(), "hellXo");
        assert_eq!(bench.out.misfits, [Misfit::OverlapDiffers]);
        assert_eq!(bench.reassembler.bytes_retransmitted(), 2);
    }

    #[test]
    fn a_repetition_that_differs_is_told_whether_or_not_its_receiver_had_the_bytes() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.segment(1, b"e", false);
        assert!(bench.out.misfits.is_empty());
        bench.segment(1, b"E", false);
        bench.acknowledgment(5, true);
        bench.segment(2, b"L", false);
        let told = [false, true].map(|acknowledged| Misfit::RepetitionDiffers { acknowledged });
        assert_eq!((bench.text().as_str(), bench.out.misfits.as_slice()), ("hello", &told[..]));
        bench.end();
        assert_eq!(bench.shared.unacknowledged_bytes, 0);
    }

    #[test]
    fn what_waited_is_compared_with_other_copies_once_it_is_handed_out() {
        let mut bench = Bench::new(1);
        bench.segment(3, b"lo", false);
        bench.segment(0, b"hel", false);
        bench.segment(4, b"O!", false);
        assert_eq!(bench.text(), "hello!");
        assert_eq!(bench.out.misfits, [Misfit::RepetitionDiffers { acknowledged: false }]);
    }

    #[test]
    fn of_what_leaves_the_observed_socket_no_copy_is_kept() {
        let mut bench = Bench::new(1);
        let input = Input { vantage: Vantage::Leaving, ..bench.input(0, b"hello", 5, false) };
        bench.reassembler.handle_segment(input, &bench.limits, &mut bench.shared, &mut bench.out);
        assert_eq!(bench.shared.unacknowledged_bytes, 0);
    }

    #[test]
    fn beyond_their_bound_bytes_that_are_not_acknowledged_are_not_compared_and_that_is_counted() {
        let mut bench = Bench::new(1);
        bench.limits.unacknowledged_bytes = 4;
        bench.segment(0, b"hello", false);
        assert_eq!(bench.out.limits, [Limit::Unacknowledged]);
        bench.segment(0, b"Hell", false);
        assert!(bench.out.misfits.is_empty());
        bench.acknowledgment(5, true);
        bench.segment(5, b"you", false);
        assert_eq!(bench.out.limits.len(), 1);
    }

    #[test]
    fn a_file_of_one_direction_reaches_no_bound_for_want_of_acknowledgments() {
        let mut bench = Bench::new(1);
        bench.limits.unacknowledged_bytes = 4;
        let input = Input { vantage: Vantage::Between, ..bench.input(0, b"hello", 5, false) };
        bench.reassembler.handle_segment(input, &bench.limits, &mut bench.shared, &mut bench.out);
        assert!(bench.out.limits.is_empty());
    }

    impl Bench {
        /// A segment whose urgent byte is so many ahead of its first.
        fn urgent(&mut self, offset: u32, data: &[u8], ahead: u32) {
            let length = u32::try_from(data.len()).unwrap();
            let urgent = Some(self.initial.plus(offset + ahead));
            let input = Input { urgent, ..self.input(offset, data, length, false) };
            self.reassembler.handle_segment(input, &self.limits, &mut self.shared, &mut self.out);
        }
    }

    #[test]
    fn an_urgent_byte_is_taken_out_of_the_stream() {
        for ahead in 0..5 {
            let mut bench = Bench::new(u32::MAX - 2);
            bench.urgent(0, b"hello", ahead);
            bench.segment(5, b" you", false);
            let mut expected = "hello you".to_owned();
            let urgent = expected.remove(ahead as usize);
            assert_eq!((bench.text(), &bench.out.urgent[..]), (expected, &[Some(urgent as u8)][..]));
        }
    }

    #[test]
    fn an_urgent_byte_may_be_announced_before_it_comes() {
        for announcement in [&b"he"[..], b""] {
            let mut bench = Bench::new(1);
            bench.urgent(0, announcement, 3);
            bench.segment(4, b"o", false);
            bench.segment(0, b"hel!", false);
            assert_eq!((bench.text().as_str(), &bench.out.urgent[..]), ("helo", &[Some(b'!')][..]));
        }
    }

    #[test]
    fn an_urgent_mark_counts_once_and_a_later_one_replaces_one_that_was_not_reached() {
        let mut bench = Bench::new(1);
        bench.urgent(0, b"hello", 1);
        bench.urgent(0, b"hello", 1);
        assert_eq!((bench.text().as_str(), bench.out.urgent.len()), ("hllo", 1));
        bench.urgent(6, b"ou", 0);
        bench.urgent(8, b"!?", 1);
        bench.urgent(8, b"!?", 0);
        bench.segment(5, b"y", false);
        assert_eq!((bench.text().as_str(), &bench.out.urgent[1..]), ("hlloyou!", &[Some(b'?')][..]));
    }

    #[test]
    fn an_urgent_byte_that_was_not_seen_is_missing_and_no_part_of_the_gap() {
        let mut bench = Bench::new(1);
        bench.urgent(0, b"he", 3);
        bench.segment(5, b"you", false);
        bench.acknowledgment(8, true);
        assert_eq!((bench.text().as_str(), &bench.out.urgent[..]), ("he··you", &[None][..]));
        assert_eq!(bench.reassembler.bytes_missing(), 3);
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
    fn an_acknowledgment_of_unsent_bytes_is_not_believed_for_a_loss_elsewhere() {
        let mut bench = Bench::new(1);
        bench.shared.losses = 1;
        bench.acknowledgment(400_000_000, false);
        bench.acknowledgment(400_000, false);
        bench.segment(0, b"hello", false);
        assert_eq!((bench.text().as_str(), bench.reassembler.bytes_missing()), ("hello", 0));
    }

    #[test]
    fn at_the_end_an_acknowledgment_is_believed_as_far_as_losses_explain_it() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.shared.losses = 1;
        bench.acknowledgment(9, false);
        bench.end();
        assert_eq!(bench.text(), "hello····");
    }

    #[test]
    fn in_a_file_an_acknowledgment_is_believed_at_the_end_for_so_many_bytes_only() {
        for (acknowledged, missing) in [(1_005, 1_000), (400_000_000, 0)] {
            let mut bench = Bench::new(1);
            bench.segment(0, b"hello", false);
            bench.acknowledgment_from(acknowledged, Vantage::Between);
            bench.reassembler.handle_end(None, ALONE, &bench.limits, &mut bench.shared, &mut bench.out);
            assert_eq!(bench.reassembler.bytes_missing(), missing);
        }
    }

    #[test]
    fn what_the_capture_lost_of_a_packet_is_a_gap_by_capture_loss() {
        let mut bench = Bench::new(1);
        for (offset, data) in [(5, &b"yo"[..]), (0, b"he")] {
            let input =
                Input { length: 5, cut_by: GapCause::CaptureLoss, ..bench.input(offset, data, 5, false) };
            bench.reassembler.handle_segment(input, &bench.limits, &mut bench.shared, &mut bench.out);
        }
        assert_eq!(bench.text(), "he···yo···");
        assert_eq!(bench.out.causes, [GapCause::CaptureLoss; 2]);
    }

    #[test]
    fn behind_more_lost_bytes_than_a_window_the_stream_goes_on() {
        for lost in [0x6000_0000_u32, 0xe000_0000] {
            let mut bench = Bench::new(1);
            bench.segment(0, b"hello", false);
            bench.shared.losses = 1_000_000;
            bench.segment(lost, b"you", false);
            bench.segment(lost + 3, b"there", false);
            assert_eq!(bench.text(), "helloyouthere");
            assert_eq!(bench.out.breaks, [(u64::from(lost) - 5, GapCause::CaptureLoss)]);
            assert_eq!(bench.reassembler.bytes_retransmitted(), 0);
        }
    }

    #[test]
    fn a_position_that_the_losses_do_not_explain_is_not_believed() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.shared.losses = 3;
        bench.segment(0x6000_0000, b"junk", false);
        bench.segment(5, b"you", false);
        assert_eq!(bench.text(), "helloyou");
        assert_eq!(bench.out.misfits, [Misfit::OutsideWindow]);
    }

    #[test]
    fn the_observed_socket_s_acknowledgment_corrects_a_position_that_a_stray_segment_gave() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"junk", false);
        bench.segment(0x6000_0000, b"hello", false);
        bench.acknowledgment(0x6000_0005, true);
        bench.segment(0x6000_0005, b"you", false);
        assert_eq!(bench.text(), "junkyou");
        assert_eq!(bench.out.breaks, [(0, GapCause::NeverSeen)]);
    }

    #[test]
    fn in_a_file_a_segment_and_its_acknowledgment_together_correct_a_position() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"junk", false);
        bench.segment(0x6000_0000, b"hello", false);
        bench.acknowledgment_from(0x6000_0004, Vantage::Between);
        assert!(bench.out.breaks.is_empty());
        bench.acknowledgment_from(0x6000_0005, Vantage::Between);
        bench.segment(0x6000_0005, b"you", false);
        assert_eq!(bench.text(), "junkyou");
    }

    #[test]
    fn what_leaves_the_observed_socket_is_believed_at_any_position() {
        let mut bench = Bench::new(1);
        let input = Input { vantage: Vantage::Leaving, ..bench.input(0x6000_0000, b"hello", 5, false) };
        bench.reassembler.handle_segment(input, &bench.limits, &mut bench.shared, &mut bench.out);
        assert_eq!((bench.text().as_str(), bench.out.breaks.len()), ("hello", 1));
    }

    #[test]
    fn only_losses_that_can_hide_4_gib_raise_a_doubt_of_the_position() {
        for (losses, doubts) in [(LOSSES_OF_A_WRAP - 1, 0), (LOSSES_OF_A_WRAP, 1)] {
            let mut bench = Bench::new(1);
            bench.segment(0, b"hello", false);
            bench.shared.losses = losses;
            bench.segment(5, b"you", false);
            bench.segment(8, b"there", false);
            assert_eq!((bench.text().as_str(), bench.out.doubts), ("helloyouthere", doubts));
        }
    }

    #[test]
    fn what_a_syn_carries_comes_out_once_it_is_acknowledged() {
        let mut bench = Bench::new(1);
        bench.syn_data(b"hello");
        bench.segment(5, b"you", false);
        assert_eq!(bench.text(), "");
        bench.acknowledgment(5, true);
        assert_eq!((bench.text().as_str(), bench.shared.syn_bytes), ("helloyou", 0));
    }

    #[test]
    fn what_a_syn_carries_and_is_not_acknowledged_gives_way_to_what_is_sent() {
        let mut acknowledged = Bench::new(1);
        acknowledged.syn_data(b"decoy");
        acknowledged.acknowledgment(0, true);
        let mut sent = Bench::new(1);
        sent.syn_data(b"decoy");
        for mut bench in [acknowledged, sent] {
            bench.segment(0, b"hello", false);
            bench.acknowledgment(5, true);
            assert_eq!((bench.text().as_str(), bench.shared.syn_bytes), ("hello", 0));
        }
    }

    #[test]
    fn beyond_their_bound_what_syns_carry_is_not_kept_and_is_a_gap_if_it_is_taken() {
        let mut bench = Bench::new(1);
        bench.limits.syn_data_total_bytes = 100;
        bench.syn_data(b"hello");
        assert_eq!(bench.out.limits, [Limit::SynData]);
        bench.acknowledgment(5, true);
        assert_eq!((bench.text().as_str(), bench.out.causes.as_slice()), ("·····", &[GapCause::Limit][..]));
    }

    #[test]
    fn bytes_that_come_after_they_were_given_up_are_told_once_and_are_no_retransmission() {
        let mut bench = Bench::new(1);
        bench.segment(3, b"lo", false);
        bench.acknowledgment(5, true);
        bench.segment(0, b"hell", false);
        assert_eq!(bench.out.misfits, [Misfit::LateData]);
        assert_eq!(bench.reassembler.bytes_retransmitted(), 1);
        bench.segment(0, b"hell", false);
        assert_eq!(bench.out.misfits, [Misfit::LateData]);
        assert_eq!(bench.reassembler.bytes_retransmitted(), 5);
    }

    #[test]
    fn only_the_last_gaps_are_remembered() {
        let mut bench = Bench::new(1);
        for n in 1..100 {
            bench.segment(n * 2, b"x", false);
            bench.acknowledgment(n * 2 + 1, true);
        }
        assert_eq!(bench.reassembler.given_up.len(), GAPS_REMEMBERED);
    }

    #[test]
    fn the_end_comes_out_when_the_fin_is_acknowledged() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", true);
        assert_eq!(bench.out.ends, 0);
        bench.acknowledgment(6, false);
        assert_eq!(bench.out.ends, 1);
    }

    #[test]
    fn a_fin_that_bytes_in_order_pass_is_none() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.segment(6, b"", true);
        bench.segment(5, b"you", false);
        bench.segment(8, b"there", false);
        assert_eq!(bench.text(), "helloyouthere");
        assert_eq!(bench.out.misfits, [Misfit::FinPassed]);
        assert_eq!(bench.reassembler.fin(), None);
    }

    #[test]
    fn a_fin_that_the_observed_socket_s_acknowledgment_passes_is_none() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", true);
        bench.segment(5, b"you", false);
        assert_eq!(bench.text(), "hello");
        bench.acknowledgment(8, true);
        bench.segment(8, b"there", false);
        assert_eq!(bench.text(), "helloyouthere");
        assert_eq!(bench.out.misfits, [Misfit::DataAfterFin, Misfit::FinPassed]);
    }

    #[test]
    fn bytes_that_wait_behind_a_fin_are_told() {
        let mut bench = Bench::new(1);
        bench.segment(7, b"junk", false);
        bench.segment(0, b"hello", true);
        assert_eq!(bench.out.misfits, [Misfit::DataAfterFin]);
        bench.acknowledgment(6, true);
        assert_eq!((bench.text().as_str(), bench.out.ends, bench.shared.held_bytes), ("hello", 1, 0));
    }

    #[test]
    fn a_fin_far_ahead_that_nobody_acknowledged_makes_nothing_missing_at_the_end() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", false);
        bench.segment(0x3000_0000, b"", true);
        bench.end();
        assert_eq!((bench.text().as_str(), bench.out.ends), ("hello", 0));
    }

    #[test]
    fn two_fins_of_the_kernel_that_contradict_each_other_hang_nothing() {
        let mut bench = Bench::new(1);
        let word = |bench: &mut Bench, offset: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap();
            let input = Input { vantage: Vantage::Leaving, ..bench.input(offset, data, length, true) };
            bench.reassembler.handle_segment(input, &bench.limits, &mut bench.shared, &mut bench.out);
        };
        word(&mut bench, 0, b"hello");
        word(&mut bench, 5, b"you");
        bench.acknowledgment(8, false);
        assert_eq!((bench.text().as_str(), bench.reassembler.fin()), ("helloyou", None));
        word(&mut bench, 8, b"there");
        word(&mut bench, 13, b"you");
        bench.end();
        assert_eq!((bench.text().as_str(), bench.out.ends), ("helloyouthere", 1));
    }

    #[test]
    fn what_waits_right_behind_a_fin_hangs_nothing_where_the_stream_goes_on_elsewhere() {
        let mut bench = Bench::new(1);
        bench.segment(0, b"hello", true);
        bench.segment(5, b"you", false);
        bench.segment(0x6000_0000, b"there", false);
        bench.acknowledgment_from(0x6000_0005, Vantage::Between);
        bench.end();
        assert_eq!((bench.text().as_str(), bench.out.breaks.len()), ("helloyou", 1));
    }

    #[test]
    fn those_who_hold_much_leave_a_share_for_those_who_come_later() {
        let mut bench = Bench::new(1);
        bench.limits.reassembly_total_bytes = 1 << 20;
        let mut hoarders: Vec<Reassembler> = Vec::new();
        for _ in 0..200 {
            let mut hoarder = Reassembler::new(bench.initial, &bench.shared);
            for n in 1..100 {
                let input = bench.input(n * 2_000, &[b'x'; 1_000], 1_000, false);
                hoarder.handle_segment(input, &bench.limits, &mut bench.shared, &mut bench.out);
                assert!(bench.shared.held_bytes <= 1 << 20);
            }
            hoarders.push(hoarder);
        }
        bench.out = Collected::default();
        bench.segment(3, b"lo", false);
        bench.segment(0, b"hel", false);
        assert_eq!((bench.text().as_str(), bench.out.limits.len()), ("hello", 0));
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
            bench.acknowledgment(301, false);
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
                        // As a receiver that misses what the capture missed.
                        let known = seen.iter().position(Option::is_none).unwrap_or(seen.len());
                        bench.acknowledgment(u32::try_from(known).unwrap(), false);
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

//! One TCP connection: segments of both directions in, its conversation out.
//!
//! Owns its opening, its two streams and its end. Must not know other connections, nor how a packet was found to
//! belong to it. Bounded by what `tcp/`, `session.rs` and `reporter.rs` bound.

use crate::anomaly::AnomalyCode;
use crate::holders::Pool;
use crate::limits::Limit;
use crate::record::{ConnectionClosed, Direction, GapCause, How, Kind, Peer, Received};
use crate::reporter::Reporter;
use crate::session::{self, FirstClose, Receipt, Session};
use crate::tcp::reassembler::{self, ALONE, Chunk, Input, Misfit, Output, Reassembler, Vantage};
use crate::tcp::segment::Segment;
use crate::tcp::sequence::SequenceNumber;
use crate::time::Time;
use crate::websocket::decoder::StreamEnd;

/// How far behind a handshake's sequence numbers a packet may be and still belong to it.
const HANDSHAKE_REACH: i32 = 1 << 24;

/// How far from where its sender is a segment may be whose acknowledgment is told of.
const NEAR: i32 = 1 << 20;

/// How far beyond what was seen to be sent an acknowledgment in a file may be and count, once that is seen: packets of
/// several processors stand there in any order.
const ACKNOWLEDGED_AHEAD: u64 = 16 << 20;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) reassembly: reassembler::Shared,
    pub(crate) session: session::Shared,
}

impl Shared {
    /// What all connections hold together.
    pub(crate) const fn held_bytes(&self, pool: Pool) -> usize {
        match pool {
            Pool::Reassembly => self.reassembly.held_bytes,
            Pool::Unacknowledged => self.reassembly.unacknowledged_bytes,
            Pool::Heads => self.session.heads_bytes(),
            Pool::Messages => self.session.messages_bytes(),
        }
    }
}

/// How a segment travelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Travel {
    pub(crate) direction: Direction,
    pub(crate) vantage: Vantage,
    /// Why less of it was captured than was on the wire, if so.
    pub(crate) cut_by: GapCause,
}

/// What the receiver of a direction has.
#[derive(Debug, Default)]
struct ReceivedTo {
    /// What it acknowledged, which may not have been seen to be sent yet.
    acknowledged: u64,
    /// Whether its window is closed.
    is_full: bool,
    /// What was told of both.
    told: u64,
    told_full: bool,
}

/// State of one connection.
#[derive(Debug)]
pub(crate) struct TcpConnection {
    streams: [Option<Reassembler>; 2],
    initial: [Option<SequenceNumber>; 2],
    /// Up to where the observed socket has received the bytes of each direction, where some are missing before.
    sacked_to: [Option<SequenceNumber>; 2],
    /// What the receiver of each direction has, if anything.
    received_to: Option<Box<[ReceivedTo; 2]>>,
    session: Session,
    last_payload: Time,
    last_packet: Time,
    /// The FIN of each direction that stands: its offset, and when it first came.
    fins: [Option<(u64, Sign)>; 2],
    reset: Option<Box<(Direction, Sign)>>,
    /// In a file: a RST ahead of what was seen, which may be forged.
    reset_ahead: Option<Box<ResetAhead>>,
    /// A RST before anything else was seen, which cannot be judged: one that is not answered is taken for the end.
    reset_unjudged: Option<Box<(Direction, Sign)>>,
    /// The direction whose FIN passed before the connection was followed.
    ended_before: Option<Direction>,
    is_established: bool,
    vantage: Vantage,
    /// What the observed socket sends, where there is one.
    observed: Option<Direction>,
}

/// A sign that a connection ends.
#[derive(Clone, Copy, Debug)]
struct Sign {
    time: Time,
    /// When the last payload byte before it came.
    last_payload: Time,
}

#[derive(Clone, Copy, Debug)]
struct ResetAhead {
    direction: Direction,
    sequence: SequenceNumber,
    /// Where its stream was when it came.
    offset: u64,
    sign: Sign,
}

/// What a RST is taken for.
enum Verdict {
    Believed,
    /// It may be forged, or ahead of bytes that are still to come; its stream's offset by then.
    Ahead(u64),
    /// Nothing is known of either stream.
    Unjudged,
    Rejected,
}

/// What is to become of a connection after a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It goes on.
    Open,
    /// The observed socket has sent its last byte, and the other end knows: the kernel may show nothing further.
    Lingering,
    /// It has ended.
    Over,
}

const fn sent_by(peer: Peer) -> Direction {
    match peer {
        Peer::Client => Direction::ClientToServer,
        Peer::Server => Direction::ServerToClient,
    }
}

impl TcpConnection {
    pub(crate) fn new(from_start: bool, time: Time) -> Self {
        Self {
            streams: [None, None],
            initial: [None, None],
            sacked_to: [None, None],
            received_to: None,
            session: Session::new(from_start),
            last_payload: time,
            last_packet: time,
            fins: [None, None],
            reset: None,
            reset_ahead: None,
            reset_unjudged: None,
            ended_before: None,
            is_established: false,
            vantage: Vantage::Between,
            observed: None,
        }
    }

    /// One that was open before. `ended_by`: who has sent a FIN already.
    pub(crate) fn existing(ended_by: Option<Peer>, time: Time) -> Self {
        Self { ended_before: ended_by.map(sent_by), ..Self::new(false, time) }
    }

    /// Sequence number of a direction's SYN, where known.
    pub(crate) const fn initial(&self, direction: Direction) -> Option<SequenceNumber> {
        *direction.of(&self.initial)
    }

    /// Whether the client is known to have answered the server's SYN.
    pub(crate) const fn is_established(&self) -> bool {
        self.is_established
    }

    /// Whether the server's SYN was seen.
    pub(crate) const fn is_answered(&self) -> bool {
        self.initial(Direction::ServerToClient).is_some()
    }

    /// Whether any byte of the conversation is known.
    pub(crate) fn has_payload(&self) -> bool {
        self.streams.iter().flatten().any(|stream| stream.offset() > 0)
    }

    /// When its last packet passed.
    pub(crate) const fn last_packet(&self) -> Time {
        self.last_packet
    }

    /// Whether an acknowledgment is one of the SYN of a direction, perhaps with what it carried.
    pub(crate) fn is_syn_acknowledged_by(
        &self,
        direction: Direction,
        acknowledgment: SequenceNumber,
    ) -> bool {
        let carried = direction.of(&self.streams).as_ref().map_or(0, Reassembler::syn_data_length);
        self.initial(direction).is_some_and(|initial| {
            let distance = u64::from(acknowledgment.0.wrapping_sub(initial.0));
            (1..=carried.saturating_add(1)).contains(&distance)
        })
    }

    /// Whether the kernel takes a segment that reached the listener for this handshake's: it acknowledges the server's
    /// SYN, or is a RST in its place. `has_lost`: the server's SYN may have passed unseen.
    pub(crate) fn is_confirmed_by(&self, segment: &Segment<'_>, has_lost: bool) -> bool {
        if segment.flags.rst() {
            let initial = self.initial(Direction::ClientToServer);
            return initial.is_some_and(|initial| initial.plus(1) == segment.sequence);
        }
        match self.initial(Direction::ServerToClient) {
            Some(initial) => segment.flags.ack() && initial.plus(1) == segment.acknowledgment,
            None => has_lost,
        }
    }

    /// How far a segment lies behind this connection's handshake, in positions of both directions together; `None`
    /// where it cannot belong to it.
    pub(crate) fn distance_from_handshake(&self, direction: Direction, segment: &Segment<'_>) -> Option<u32> {
        let reach = |position: SequenceNumber, initial: Option<SequenceNumber>| match initial {
            None => Some(0),
            Some(initial) => {
                let distance = position.distance_from(initial);
                (1..HANDSHAKE_REACH).contains(&distance).then_some(distance.unsigned_abs())
            }
        };
        let sent = reach(segment.sequence, self.initial(direction))?;
        let received = if segment.flags.ack() {
            reach(segment.acknowledgment, self.initial(direction.reverse()))?
        } else {
            0
        };
        Some(sent.saturating_add(received))
    }

    /// Where a segment lies in the stream of its direction, and up to where it acknowledges the other: only where
    /// that can be, for anybody can send an acknowledgment of anything.
    pub(crate) fn positions(&self, direction: Direction, segment: &Segment<'_>) -> [Option<u64>; 2] {
        let (own, other) = (direction.of(&self.streams), direction.reverse().of(&self.streams));
        let acknowledged = || other.as_ref()?.acknowledged_offset(segment.acknowledgment);
        [
            own.as_ref().and_then(|stream| stream.offset_of(segment.payload_sequence())),
            if segment.flags.ack() && self.is_in_place(direction, segment) { acknowledged() } else { None },
        ]
    }

    /// Whether a segment is near where its sender is.
    fn is_in_place(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        direction.of(&self.streams).as_ref().is_none_or(|stream| {
            let distance = segment.payload_sequence().distance_from(stream.next());
            (-NEAR..=NEAR).contains(&distance)
        })
    }

    /// Takes note of what a segment's sender has received, and of its FIN.
    fn note_receipt(&mut self, direction: Direction, segment: &Segment<'_>) {
        if !segment.flags.ack() || !self.is_in_place(direction, segment) {
            return;
        }
        let other = direction.reverse().of(&self.streams).as_ref();
        let to = other.and_then(|stream| stream.offset_of(segment.acknowledgment));
        let before = self.session.receipt_of(direction).to;
        let furthest = to.unwrap_or(before).max(before);
        let seen = other.map(|stream| stream.offset().saturating_add(u64::from(stream.has_ended())));
        let may_be_beyond = to.is_none() || seen.is_none_or(|seen| furthest > seen);
        let is_awaited = other.is_some_and(|stream| !stream.has_ended());
        self.session.handle_receipt(direction, Receipt { to: furthest, may_be_beyond });
        if segment.flags.fin() {
            self.session.handle_fin(direction, to, is_awaited);
        }
    }

    /// Tells what a segment's sender has received. Live, that is what its kernel would let it acknowledge by then; in a
    /// file, where an acknowledgment may stand before what it acknowledges, it may be told later.
    fn tell_received(&mut self, travel: Travel, segment: &Segment<'_>, reporter: &mut Reporter<'_>) {
        if !reporter.config.receipts || !reporter.told.is_announced() {
            return;
        }
        let Travel { direction, vantage, .. } = travel;
        let is_believed = segment.flags.ack() && self.is_in_place(direction, segment);
        if is_believed && !segment.flags.rst() {
            let received = direction.reverse().of_mut(self.received_to.get_or_insert_default());
            received.is_full = segment.window == 0;
        }
        if vantage != Vantage::Between {
            let other = direction.reverse().of(&self.streams).as_ref();
            let to = other.and_then(|stream| stream.acknowledged_offset(segment.acknowledgment));
            return self.tell_received_to(direction.reverse(), to.filter(|_| is_believed), reporter);
        }
        let reverse = direction.reverse();
        if is_believed {
            let other = reverse.of(&self.streams).as_ref();
            let to = other.and_then(|stream| {
                // Of what nobody saw sent, it may only be that the capture has it later.
                let furthest = stream.sent_end().saturating_add(ACKNOWLEDGED_AHEAD);
                stream.offset_of(segment.acknowledgment).filter(|to| *to <= furthest)
            });
            let acknowledged = &mut reverse.of_mut(self.received_to.get_or_insert_default()).acknowledged;
            *acknowledged = to.map_or(*acknowledged, |to| to.max(*acknowledged));
        }
        for direction in [direction, reverse] {
            let sent = direction.of(&self.streams).as_ref().map(Reassembler::sent_end);
            let acknowledged = direction.of_mut(self.received_to.get_or_insert_default()).acknowledged;
            self.tell_received_to(direction, sent.map(|sent| sent.min(acknowledged)), reporter);
        }
    }

    fn tell_received_to(&mut self, direction: Direction, to: Option<u64>, reporter: &mut Reporter<'_>) {
        let received = direction.of_mut(self.received_to.get_or_insert_default());
        let to = to.unwrap_or_default().max(received.told);
        let is_full = received.is_full;
        if to > received.told || is_full != received.told_full {
            (received.told, received.told_full) = (to, is_full);
            reporter.record(Kind::Received(Received { direction, to, is_full }));
        }
    }

    /// Whether it holds something of what is shared, and enough to be worth giving up.
    pub(crate) fn holds(&self, pool: Pool) -> bool {
        let streams = || self.streams.iter().flatten();
        match pool {
            Pool::Reassembly => streams().any(Reassembler::is_waiting),
            Pool::Unacknowledged => streams().any(Reassembler::keeps_much),
            Pool::Heads => self.session.holds_heads(),
            Pool::Messages => self.session.holds_messages(),
        }
    }

    /// Lets go of what it holds of a pool, though it may go on.
    pub(crate) fn give_up(&mut self, pool: Pool, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        match pool {
            Pool::Heads => self.session.give_up_heads(&mut shared.session, reporter),
            Pool::Messages => self.session.give_up_messages(&mut shared.session, reporter),
            Pool::Reassembly | Pool::Unacknowledged => {
                for direction in [Direction::ClientToServer, Direction::ServerToClient] {
                    self.with_stream(direction, shared, reporter, |stream, shared, limits, output| {
                        if pool == Pool::Reassembly {
                            stream.give_up_holes(limits, shared, output);
                        } else {
                            stream.give_up_copies(shared, output);
                        }
                    });
                }
                self.note_fins(reporter.time);
            }
        }
    }

    /// Takes a segment.
    pub(crate) fn handle_segment(
        &mut self,
        travel: Travel,
        segment: &Segment<'_>,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> Outlook {
        let Travel { direction, vantage, .. } = travel;
        let flags = segment.flags;
        if flags.syn() && !self.is_syn_credible(travel, segment) {
            reporter.anomaly(Some(direction), AnomalyCode::SynOnOpenConnection, "the packet is ignored");
            return Outlook::Open;
        }
        self.last_packet = reporter.time;
        self.vantage = vantage;
        match vantage {
            Vantage::Leaving => {
                self.observed = Some(direction);
                // It is alive: the RST was none.
                if self.reset_unjudged.take().is_some() {
                    reject_reset(direction.reverse(), reporter);
                }
            }
            Vantage::Reaching => self.observed = Some(direction.reverse()),
            Vantage::Between => {}
        }
        self.learn_positions(travel, segment, &mut shared.reassembly, reporter);

        let seen_before = bytes_seen(reporter);
        if flags.ack() {
            if vantage == Vantage::Leaving {
                *direction.reverse().of_mut(&mut self.sacked_to) = segment.sacked_to();
            }
            self.with_stream(direction.reverse(), shared, reporter, |stream, shared, limits, output| {
                stream.handle_acknowledgment(segment.acknowledgment, vantage, limits, shared, output);
            });
        }
        if flags.rst() {
            return self.handle_reset(travel, segment, shared, reporter);
        }
        self.note_receipt(direction, segment);
        let is_third_packet = !flags.syn() && direction == Direction::ClientToServer;
        if is_third_packet || (segment.payload_length > 0 && !flags.syn()) {
            self.is_established = true;
            reporter.announce();
        }
        let input = Input {
            sequence: segment.payload_sequence(),
            data: segment.payload,
            length: segment.payload_length,
            cut_by: travel.cut_by,
            fin: flags.fin(),
            urgent: segment.urgent_position(),
            vantage,
        };
        self.with_stream(direction, shared, reporter, |stream, shared, limits, output| {
            if flags.syn() {
                stream.handle_syn_data(input, limits, shared, output);
            } else {
                stream.handle_segment(input, limits, shared, output);
            }
        });
        if bytes_seen(reporter) > seen_before {
            self.last_payload = reporter.time;
        }
        self.tell_received(travel, segment, reporter);
        self.note_fins(reporter.time);
        self.settle_reset_ahead(reporter);
        self.outlook()
    }

    /// Whether a SYN is this connection's: one that is seen before the kernel judged it may be anybody's.
    fn is_syn_credible(&self, travel: Travel, segment: &Segment<'_>) -> bool {
        let Travel { direction, vantage, .. } = travel;
        let is_repeated = self.initial(direction) == Some(segment.sequence);
        if vantage == Vantage::Leaving || is_repeated {
            return true;
        }
        if vantage == Vantage::Between && segment.flags.ack() && !self.has_payload() {
            return true;
        }
        let is_first = direction.of(&self.streams).is_none();
        let answers = match (segment.flags.ack(), self.initial(direction.reverse())) {
            (true, Some(_)) => self.is_syn_acknowledged_by(direction.reverse(), segment.acknowledgment),
            _ => true,
        };
        is_first && answers
    }

    /// Where the streams begin.
    fn learn_positions(
        &mut self,
        travel: Travel,
        segment: &Segment<'_>,
        shared: &mut reassembler::Shared,
        reporter: &mut Reporter<'_>,
    ) {
        let Travel { direction, vantage, .. } = travel;
        let flags = segment.flags;
        if flags.syn() && self.initial(direction) != Some(segment.sequence) {
            *direction.of_mut(&mut self.initial) = Some(segment.sequence);
            // A server that answers a repeated SYN may choose another number.
            let stream = direction.of_mut(&mut self.streams);
            if stream
                .as_ref()
                .is_some_and(|stream| stream.offset() == 0 && stream.next() != segment.payload_sequence())
                && let Some(mut stream) = stream.take()
            {
                stream.forget(shared);
            }
        }
        let begins = flags.syn() || ((segment.payload_length > 0 || flags.fin()) && !flags.rst());
        if begins && direction.of(&self.streams).is_none() {
            reporter.told.account_of(direction).start_seen = flags.syn();
            *direction.of_mut(&mut self.streams) = Some(Reassembler::new(segment.payload_sequence(), shared));
        }
        let reverse = direction.reverse();
        if flags.ack() && reverse.of(&self.streams).is_none() {
            // What is acknowledged first is the SYN, if this is the answer to it: then the start is known.
            let answers_first = flags.syn()
                || self.initial(direction).is_some_and(|initial| initial.plus(1) == segment.sequence);
            if vantage == Vantage::Reaching && !answers_first {
                return;
            }
            if answers_first {
                let initial = SequenceNumber(segment.acknowledgment.0.wrapping_sub(1));
                reverse.of_mut(&mut self.initial).get_or_insert(initial);
            }
            reporter.told.account_of(reverse).start_seen = answers_first;
            *reverse.of_mut(&mut self.streams) = Some(Reassembler::new(segment.acknowledgment, shared));
        }
    }

    fn handle_reset(
        &mut self,
        travel: Travel,
        segment: &Segment<'_>,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> Outlook {
        let direction = travel.direction;
        let sign = self.sign(reporter.time);
        let Segment { sequence, .. } = *segment;
        let verdict = match direction.of(&self.streams) {
            _ if travel.vantage == Vantage::Leaving => Verdict::Believed,
            _ if self.streams.iter().all(Option::is_none) => Verdict::Unjudged,
            None => self.judge_reset_of_unknown(direction, segment),
            Some(stream) if stream.is_next(sequence) => Verdict::Believed,
            // Linux believes it behind the last byte that it has received, too, though others are missing.
            Some(_) if *direction.of(&self.sacked_to) == Some(sequence) => Verdict::Believed,
            Some(stream) => match stream.bytes_ahead(sequence) {
                Some(ahead) if ahead <= stream.bytes_explained(&shared.reassembly) => Verdict::Believed,
                Some(_) if travel.vantage == Vantage::Between => Verdict::Ahead(stream.offset()),
                _ => Verdict::Rejected,
            },
        };
        match verdict {
            Verdict::Believed => {
                self.believe_reset(direction, sequence, sign, shared, reporter);
                Outlook::Over
            }
            Verdict::Ahead(offset) => {
                let ahead = ResetAhead { direction, sequence, offset, sign };
                if self.reset_ahead.as_deref().is_none_or(|before| self.is_contradicted(before)) {
                    self.reset_ahead = Some(Box::new(ahead));
                }
                Outlook::Open
            }
            Verdict::Unjudged => {
                self.reset_unjudged = Some(Box::new((direction, sign)));
                self.outlook()
            }
            Verdict::Rejected => {
                reject_reset(direction, reporter);
                Outlook::Open
            }
        }
    }

    /// A RST of an end of which nothing else was seen must answer what the other end sent (RFC 9293 §3.10.7.3).
    fn judge_reset_of_unknown(&self, direction: Direction, segment: &Segment<'_>) -> Verdict {
        let reverse = direction.reverse();
        let answered = reverse.of(&self.streams).as_ref();
        let answers = answered.is_some_and(|stream| stream.is_next(segment.acknowledgment))
            || self.is_syn_acknowledged_by(reverse, segment.acknowledgment);
        if segment.flags.ack() && answers { Verdict::Believed } else { Verdict::Rejected }
    }

    fn believe_reset(
        &mut self,
        direction: Direction,
        sequence: SequenceNumber,
        sign: Sign,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) {
        self.reset = Some(Box::new((direction, sign)));
        self.with_stream(direction, shared, reporter, |stream, shared, limits, output| {
            stream.handle_end(Some(sequence), 0, limits, shared, output);
        });
    }

    /// Whether bytes came in order behind a RST.
    fn is_contradicted(&self, reset: &ResetAhead) -> bool {
        let stream = reset.direction.of(&self.streams).as_ref();
        stream.is_none_or(|stream| stream.offset() != reset.offset && !stream.is_next(reset.sequence))
    }

    /// A RST came before the bytes that it follows: it ends the connection once they are there, and is none once
    /// bytes behind it are.
    fn settle_reset_ahead(&mut self, reporter: &mut Reporter<'_>) {
        let Some(ahead) = self.reset_ahead.as_deref().copied() else { return };
        let Some(stream) = ahead.direction.of(&self.streams) else { return };
        if stream.is_next(ahead.sequence) {
            self.reset = Some(Box::new((ahead.direction, ahead.sign)));
            self.reset_ahead = None;
        } else if stream.bytes_ahead(ahead.sequence).is_none() {
            self.reset_ahead = None;
            reject_reset(ahead.direction, reporter);
        }
    }

    fn sign(&self, time: Time) -> Sign {
        Sign { time, last_payload: self.last_payload }
    }

    fn note_fins(&mut self, time: Time) {
        let sign = self.sign(time);
        for (fin, stream) in self.fins.iter_mut().zip(&self.streams) {
            let standing = stream.as_ref().and_then(Reassembler::fin);
            if standing != fin.map(|(at, _)| at) {
                *fin = standing.map(|at| (at, sign));
            }
        }
    }

    fn outlook(&self) -> Outlook {
        let [client, server] = &self.streams;
        if self.reset.is_some()
            || [client, server].iter().all(|stream| stream.as_ref().is_some_and(Reassembler::has_ended))
        {
            return Outlook::Over;
        }
        if (is_done(client) || is_done(server)) && self.session.has_closed_both_ways() {
            return Outlook::Over;
        }
        if self.is_lingering() { Outlook::Lingering } else { Outlook::Open }
    }

    /// Whether the kernel may show nothing further: the observed socket has sent its last byte, and the other end
    /// knows; or the one end's FIN passed before the connection was followed, and the other's since; or a RST came of
    /// which it is not known whether the kernel believed it.
    pub(crate) fn is_lingering(&self) -> bool {
        let observed = self.observed.is_some_and(|direction| is_done(direction.of(&self.streams)));
        let both_ended = self.ended_before.is_some_and(|before| {
            let other = before.reverse().of(&self.streams);
            other.as_ref().is_some_and(Reassembler::has_ended)
        });
        observed || both_ended || self.reset_unjudged.is_some()
    }

    /// Ends the connection and tells its account. `how` where no sign of the end was seen.
    pub(crate) fn close(&mut self, unseen: How, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        let may_lack_bytes = self
            .streams
            .each_ref()
            .map(|stream| stream.as_ref().is_some_and(|stream| stream.may_lack_bytes(&shared.reassembly)));
        self.decide_reset_ahead(shared, reporter);
        self.reset = self.reset.take().or(self.reset_unjudged.take());
        let alone = if self.vantage == Vantage::Between { ALONE } else { 0 };
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            self.with_stream(direction, shared, reporter, |stream, shared, limits, output| {
                stream.handle_end(None, alone, limits, shared, output);
            });
        }
        self.note_fins(reporter.time);
        let end = if self.reset.is_some() { StreamEnd::Reset } else { StreamEnd::Unseen };
        let retransmitted =
            self.streams.each_ref().map(|stream| stream.as_ref().map_or(0, Reassembler::bytes_retransmitted));
        let ended = self.streams.each_ref().map(|stream| stream.as_ref().is_some_and(Reassembler::has_ended));
        self.session.handle_end(end, &mut shared.session, reporter);

        // Behind a close handshake nothing may follow: where one end's FIN is acknowledged too, all was seen, though
        // the kernel hides the other end's FIN once the socket waits in TIME_WAIT.
        let closed_both_ways = self.session.has_closed_both_ways() && ended.contains(&true);
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            // A RST tells where its own direction ends. Of the other one, the last packets may be among the lost.
            let is_reset = self
                .reset
                .as_deref()
                .is_some_and(|(by, _)| *by == direction || !direction.of(&may_lack_bytes));
            let account = reporter.told.account_of(direction);
            account.bytes_retransmitted = *direction.of(&retransmitted);
            account.end_seen = *direction.of(&ended) || is_reset || closed_both_ways;
        }

        let (closed_by, how, code, reason, time, idle_from) = match (self.first_close(), self.first_sign()) {
            (Some(close), _) => {
                let last_payload = self.session.last_payload_before_close().unwrap_or(reporter.told.opened);
                (Some(close.by), How::CloseFrame, close.code, &*close.reason, close.time, last_payload)
            }
            (None, Some((by, how, sign))) => (Some(by), how, None, "", sign.time, sign.last_payload),
            (None, None) => (None, unseen, None, "", reporter.time, self.last_payload),
        };
        let closed = ConnectionClosed {
            closed_by,
            how,
            code,
            reason,
            idle: time.since(idle_from.max(reporter.told.opened)),
            duration: reporter.time.since(reporter.told.opened),
            account: reporter.told.account,
        };
        if reporter.told.is_announced() {
            let is_complete = closed.is_complete_so_far();
            let was_joined = closed.lacks_only_its_beginning();
            reporter.record(Kind::ConnectionClosed(closed));
            reporter.totals.connections_incomplete += u64::from(!is_complete);
            reporter.totals.connections_joined += u64::from(was_joined);
            reporter.totals.connections_open += u64::from(how == How::StillOpen);
            for (total, account) in reporter.totals.account.iter_mut().zip(&reporter.told.account) {
                total.add(account);
            }
        } else {
            reporter.totals.connections_other += 1;
        }
    }

    /// In a file, a RST ahead of all that was seen is believed if nothing contradicts it until the end.
    fn decide_reset_ahead(&mut self, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        let Some(reset) = self.reset_ahead.take() else { return };
        let ahead =
            reset.direction.of(&self.streams).as_ref().and_then(|stream| stream.bytes_ahead(reset.sequence));
        if !self.is_contradicted(&reset) && ahead.is_some_and(|ahead| ahead <= ALONE) {
            self.believe_reset(reset.direction, reset.sequence, reset.sign, shared, reporter);
        } else {
            reject_reset(reset.direction, reporter);
        }
    }

    /// The first FIN or RST; `None` where it passed before the connection was followed.
    fn first_sign(&self) -> Option<(Peer, How, Sign)> {
        if self.ended_before.is_some() {
            return None;
        }
        let [client, server] = self.fins;
        let client = client.map(|(_, sign)| (Peer::Client, How::Fin, sign));
        let server = server.map(|(_, sign)| (Peer::Server, How::Fin, sign));
        let reset = self.reset.as_deref().map(|(direction, sign)| (direction.sender(), How::Rst, *sign));
        [client, server, reset].into_iter().flatten().min_by_key(|(_, _, sign)| sign.time)
    }

    /// The first close frame, where it is the first sign of the end. An end's own FIN follows its close frame in the
    /// stream, even if it was captured before.
    fn first_close(&self) -> Option<&FirstClose> {
        let close = self.session.first_close().filter(|_| self.ended_before.is_none())?;
        let is_first = self
            .first_sign()
            .is_none_or(|(by, how, sign)| close.time <= sign.time || (how == How::Fin && by == close.by));
        is_first.then_some(close)
    }

    fn with_stream(
        &mut self,
        direction: Direction,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
        act: impl FnOnce(&mut Reassembler, &mut reassembler::Shared, &crate::Limits, &mut dyn Output),
    ) {
        let Some(stream) = direction.of_mut(&mut self.streams) else { return };
        let config = reporter.config;
        let mut conversation =
            Conversation { direction, session: &mut self.session, shared: &mut shared.session, reporter };
        act(stream, &mut shared.reassembly, &config.limits, &mut conversation);
    }
}

/// Where a stream's chunks go.
struct Conversation<'a, 'r> {
    direction: Direction,
    session: &'a mut Session,
    shared: &'a mut session::Shared,
    reporter: &'a mut Reporter<'r>,
}

/// Whether all of a stream was seen, and its receiver knows that it has ended.
fn is_done(stream: &Option<Reassembler>) -> bool {
    stream.as_ref().is_some_and(|stream| stream.has_ended() && stream.is_fin_acknowledged())
}

fn bytes_seen(reporter: &Reporter<'_>) -> u64 {
    reporter.told.account.iter().map(|account| account.bytes_seen).sum()
}

fn reject_reset(direction: Direction, reporter: &mut Reporter<'_>) {
    reporter.anomaly(Some(direction), AnomalyCode::ResetOutOfSequence, "the packet is ignored");
}

impl Conversation<'_, '_> {
    fn report_gap(&mut self, length: u64, cause: GapCause) {
        let account = self.reporter.told.account_of(self.direction);
        let offset = account.bytes_seen.saturating_add(account.bytes_missing);
        self.reporter.gap(self.direction, offset, length, cause);
    }

    /// A gap of unknown length: longer than any frame.
    fn lose_place(&mut self, cause: GapCause) {
        let chunk = Chunk::Gap { length: u64::MAX, cause };
        self.session.handle_chunk(self.direction, chunk, self.shared, self.reporter);
    }
}

impl Output for Conversation<'_, '_> {
    fn handle_chunk(&mut self, chunk: Chunk<'_>) {
        match chunk {
            Chunk::Data(data) => {
                self.reporter.told.account_of(self.direction).bytes_seen += data.len() as u64;
            }
            Chunk::Gap { length, cause } => self.report_gap(length, cause),
            Chunk::End => {}
        }
        self.session.handle_chunk(self.direction, chunk, self.shared, self.reporter);
    }

    fn handle_break(&mut self, length: u64, cause: GapCause) {
        self.report_gap(length, cause);
        if length == 0 {
            // Where the stream stands was not known before: neither is its start.
            self.reporter.told.account_of(self.direction).start_seen = false;
        }
        self.lose_place(cause);
    }

    fn handle_urgent(&mut self, byte: Result<u8, GapCause>) {
        match byte {
            Ok(byte) => {
                let account = self.reporter.told.account_of(self.direction);
                account.bytes_seen += 1;
                account.bytes_skipped += 1;
                let detail =
                    format!("the byte {byte:02x} is left out, as by a receiver without SO_OOBINLINE");
                self.reporter.anomaly(Some(self.direction), AnomalyCode::UrgentData, &detail);
            }
            Err(cause) => {
                self.report_gap(1, cause);
                let detail = "a byte that was not seen is left out, as by a receiver without SO_OOBINLINE";
                self.reporter.anomaly(Some(self.direction), AnomalyCode::UrgentData, detail);
            }
        }
    }

    fn handle_doubt(&mut self) {
        // Between two frames there is nothing to join wrongly.
        if self.session.is_within_frame(self.direction) {
            self.report_gap(0, GapCause::CaptureLoss);
            self.lose_place(GapCause::CaptureLoss);
        }
    }

    fn handle_misfit(&mut self, misfit: Misfit) {
        let (code, detail) = match misfit {
            Misfit::OutsideWindow => {
                (AnomalyCode::SegmentOutsideWindow, "farther than any receive window reaches")
            }
            Misfit::OverlapDiffers => (
                AnomalyCode::OverlapDiffers,
                "the copy is shown that Linux reads, as far as can be known from outside",
            ),
            Misfit::RepetitionDiffers { acknowledged: true } => {
                (AnomalyCode::OverlapDiffers, "the first copy, which was acknowledged, is shown")
            }
            Misfit::RepetitionDiffers { acknowledged: false } => (
                AnomalyCode::OverlapDiffers,
                "the first copy is shown; if the receiver refused its packet, it reads another",
            ),
            Misfit::DataAfterFin => {
                (AnomalyCode::DataAfterFin, "the bytes are ignored unless the receiver acknowledges them")
            }
            Misfit::FinPassed => (
                AnomalyCode::DataAfterFin,
                "the FIN is ignored: the stream went on in order or was acknowledged",
            ),
            Misfit::LateData => (AnomalyCode::LateDataAfterGap, "the bytes are ignored"),
        };
        self.reporter.anomaly(Some(self.direction), code, detail);
    }

    fn handle_limit(&mut self, limit: Limit) {
        self.reporter.limit(limit);
    }
}

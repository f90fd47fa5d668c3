//! One TCP connection: segments of both directions in, its conversation out.
//!
//! Owns its opening, its two streams and its end. Must not know other connections, nor how a packet was found to
//! belong to it. Bounded by what `tcp/`, `session.rs` and `reporter.rs` bound.

use core::time::Duration;

use crate::anomaly::AnomalyCode;
use crate::limits::Limit;
use crate::record::{ConnectionClosed, Direction, How, Kind, Peer};
use crate::reporter::Reporter;
use crate::session::{self, Session};
use crate::tcp::reassembler::{self, Chunk, Input, Misfit, Output, Reassembler};
use crate::tcp::segment::Segment;
use crate::tcp::sequence::SequenceNumber;
use crate::time::Time;
use crate::websocket::decoder::StreamEnd;

/// How far behind a handshake's sequence numbers a packet may be and still belong to it.
const HANDSHAKE_REACH: i32 = 1 << 24;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) reassembly: reassembler::Shared,
    pub(crate) session: session::Shared,
}

/// How a segment travelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Travel {
    pub(crate) direction: Direction,
    pub(crate) vantage: Vantage,
}

/// From where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vantage {
    /// It left the socket that the capture is attached to: what it says is the kernel's word.
    Leaving,
    /// It reached that socket, before the kernel judged it.
    Reaching,
    /// On the way, as in a file.
    Between,
}

/// State of one connection.
#[derive(Debug)]
pub(crate) struct TcpConnection {
    streams: [Option<Reassembler>; 2],
    initial: [Option<SequenceNumber>; 2],
    session: Session,
    last_payload: Time,
    last_packet: Time,
    first_sign_of_end: Option<SignOfEnd>,
    reset_seen: bool,
    vantage: Vantage,
}

#[derive(Clone, Copy, Debug)]
struct SignOfEnd {
    time: Time,
    by: Peer,
    how: How,
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

const fn sender(direction: Direction) -> Peer {
    match direction {
        Direction::ClientToServer => Peer::Client,
        Direction::ServerToClient => Peer::Server,
    }
}

fn of<T>(pair: &mut [T; 2], direction: Direction) -> &mut T {
    let [client, server] = pair;
    match direction {
        Direction::ClientToServer => client,
        Direction::ServerToClient => server,
    }
}

impl TcpConnection {
    pub(crate) fn new(from_start: bool, time: Time) -> Self {
        Self {
            streams: [None, None],
            initial: [None, None],
            session: Session::new(from_start),
            last_payload: time,
            last_packet: time,
            first_sign_of_end: None,
            reset_seen: false,
            vantage: Vantage::Between,
        }
    }

    /// Sequence number of a direction's SYN, where known.
    pub(crate) const fn initial(&self, direction: Direction) -> Option<SequenceNumber> {
        let [client, server] = self.initial;
        match direction {
            Direction::ClientToServer => client,
            Direction::ServerToClient => server,
        }
    }

    /// When its last packet passed.
    pub(crate) const fn last_packet(&self) -> Time {
        self.last_packet
    }

    /// How far a segment lies behind this connection's handshake, in positions of both directions together; `None`
    /// where it cannot belong to it.
    pub(crate) fn distance_from_handshake(&self, direction: Direction, segment: &Segment<'_>) -> Option<u32> {
        let reach = |position: SequenceNumber, initial: Option<SequenceNumber>| match initial {
            None => Some(0),
            Some(initial) => {
                let distance = position.distance_from(initial);
                (0..HANDSHAKE_REACH).contains(&distance).then_some(distance.unsigned_abs())
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

    /// Takes a segment.
    pub(crate) fn handle_segment(
        &mut self,
        travel: Travel,
        segment: &Segment<'_>,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> Outlook {
        let direction = travel.direction;
        self.last_packet = reporter.time;
        self.vantage = travel.vantage;
        self.learn_positions(direction, segment, &shared.reassembly, reporter);

        if segment.flags.ack() {
            let trusted = travel.vantage == Vantage::Leaving;
            self.with_stream(direction.reverse(), shared, reporter, |stream, shared, limits, output| {
                stream.handle_acknowledgment(segment.acknowledgment, trusted, limits, shared, output);
            });
        }
        if segment.payload_length > 0 {
            reporter.announce();
            self.last_payload = reporter.time;
        } else if !segment.flags.syn() && direction == Direction::ClientToServer && !segment.flags.rst() {
            // The third packet of the handshake.
            reporter.announce();
        }
        if segment.flags.rst() {
            return self.handle_reset(direction, segment, shared, reporter);
        }
        if segment.payload_length > 0 || segment.flags.fin() {
            let input = Input {
                sequence: segment.payload_sequence(),
                data: segment.payload,
                length: segment.payload_length,
                fin: segment.flags.fin(),
            };
            self.with_stream(direction, shared, reporter, |stream, shared, limits, output| {
                stream.handle_segment(input, limits, shared, output);
            });
        }
        if segment.flags.fin() {
            self.note_end(reporter.time, direction, How::Fin);
        }
        self.outlook(travel)
    }

    /// Where the streams begin.
    fn learn_positions(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &reassembler::Shared,
        reporter: &mut Reporter<'_>,
    ) {
        let flags = segment.flags;
        if flags.syn() {
            of(&mut self.initial, direction).get_or_insert(segment.sequence);
        }
        if of(&mut self.streams, direction).is_none()
            && (flags.syn() || segment.payload_length > 0 || flags.fin())
        {
            reporter.told.account_of(direction).start_seen = flags.syn();
            *of(&mut self.streams, direction) = Some(Reassembler::new(segment.payload_sequence(), shared));
        }
        let reverse = direction.reverse();
        if flags.ack() && of(&mut self.streams, reverse).is_none() {
            // What is acknowledged first is the SYN, if this is the answer to it: then the start is known.
            let answers_first = flags.syn()
                || self.initial(direction).is_some_and(|initial| initial.plus(1) == segment.sequence);
            if answers_first {
                let initial = SequenceNumber(segment.acknowledgment.0.wrapping_sub(1));
                of(&mut self.initial, reverse).get_or_insert(initial);
            }
            reporter.told.account_of(reverse).start_seen = answers_first;
            *of(&mut self.streams, reverse) = Some(Reassembler::new(segment.acknowledgment, shared));
        }
    }

    fn handle_reset(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> Outlook {
        // A reset counts only in the receive window (RFC 5961 §3); anybody can send one elsewhere.
        let plausible = of(&mut self.streams, direction)
            .as_ref()
            .is_none_or(|stream| (0..=1 << 30).contains(&segment.sequence.distance_from(stream.next())));
        if !plausible {
            return Outlook::Open;
        }
        self.reset_seen = true;
        self.note_end(reporter.time, direction, How::Rst);
        self.with_stream(direction, shared, reporter, |stream, shared, _, output| {
            stream.handle_end(Some(segment.sequence), false, shared, output);
        });
        Outlook::Over
    }

    fn note_end(&mut self, time: Time, direction: Direction, how: How) {
        self.first_sign_of_end.get_or_insert(SignOfEnd { time, by: sender(direction), how });
    }

    fn outlook(&self, travel: Travel) -> Outlook {
        let is_done = |stream: &Option<Reassembler>| {
            stream.as_ref().is_some_and(|stream| stream.has_ended() && stream.is_fin_acknowledged())
        };
        let [client, server] = &self.streams;
        if [client, server].iter().all(|stream| stream.as_ref().is_some_and(Reassembler::has_ended)) {
            return Outlook::Over;
        }
        if (is_done(client) || is_done(server)) && self.session.has_closed_both_ways() {
            return Outlook::Over;
        }
        let observed = match travel.direction {
            Direction::ClientToServer => server,
            Direction::ServerToClient => client,
        };
        if travel.vantage == Vantage::Reaching && is_done(observed) {
            Outlook::Lingering
        } else {
            Outlook::Open
        }
    }

    /// Ends the connection and tells its account. `how` where no sign of the end was seen.
    pub(crate) fn close(&mut self, unseen: How, shared: &mut Shared, reporter: &mut Reporter<'_>) {
        let in_file = self.vantage == Vantage::Between;
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            self.with_stream(direction, shared, reporter, |stream, shared, _, output| {
                stream.handle_end(None, in_file, shared, output);
            });
        }
        let end = if self.reset_seen { StreamEnd::Reset } else { StreamEnd::Unseen };
        let retransmitted =
            self.streams.each_ref().map(|stream| stream.as_ref().map_or(0, Reassembler::bytes_retransmitted));
        let ended = self.streams.each_ref().map(|stream| stream.as_ref().is_some_and(Reassembler::has_ended));
        self.session.handle_end(end, &mut shared.session, reporter);

        // Behind a close handshake nothing may follow: where one end's FIN is acknowledged too, all was seen, though
        // the kernel hides the other end's FIN once the socket waits in TIME_WAIT.
        let closed_both_ways = self.session.has_closed_both_ways();
        for (index, account) in reporter.told.account.iter_mut().enumerate() {
            account.bytes_retransmitted = retransmitted.get(index).copied().unwrap_or_default();
            account.end_seen = self.reset_seen
                || ended.get(index).copied().unwrap_or_default()
                || (closed_both_ways && ended.contains(&true));
        }

        let sign = self.first_sign_of_end;
        let (closed_by, how, code, reason, time) = match (self.session.first_close(), sign) {
            (Some(close), sign) => {
                let time = sign.map_or(close.time, |sign| sign.time.min(close.time));
                (Some(close.by), How::CloseFrame, close.code, &*close.reason, time)
            }
            (None, Some(sign)) => (Some(sign.by), sign.how, None, "", sign.time),
            (None, None) => (None, unseen, None, "", reporter.time),
        };
        let closed = ConnectionClosed {
            closed_by,
            how,
            code,
            reason,
            idle: self.idle_before(time, reporter.told.opened),
            duration: reporter.time.since(reporter.told.opened),
            account: reporter.told.account,
        };
        if reporter.told.is_announced() {
            let is_complete = closed.is_complete();
            reporter.record(Kind::ConnectionClosed(closed));
            reporter.totals.connections_incomplete += u64::from(!is_complete);
            reporter.totals.connections_open += u64::from(how == How::StillOpen);
            for (total, account) in reporter.totals.account.iter_mut().zip(&reporter.told.account) {
                total.add(account);
            }
        } else {
            reporter.totals.connections_other += 1;
        }
    }

    fn idle_before(&self, end: Time, opened: Time) -> Duration {
        let before = self.session.last_payload_before_close().unwrap_or(self.last_payload);
        end.since(before.max(opened))
    }

    fn with_stream(
        &mut self,
        direction: Direction,
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
        act: impl FnOnce(&mut Reassembler, &mut reassembler::Shared, &crate::Limits, &mut dyn Output),
    ) {
        let Some(stream) = of(&mut self.streams, direction) else { return };
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

impl Output for Conversation<'_, '_> {
    fn handle_chunk(&mut self, chunk: Chunk<'_>) {
        match chunk {
            Chunk::Data(data) => {
                self.reporter.told.account_of(self.direction).bytes_seen += data.len() as u64;
            }
            Chunk::Gap { length, cause } => {
                let account = self.reporter.told.account_of(self.direction);
                let offset = account.bytes_seen.saturating_add(account.bytes_missing);
                self.reporter.gap(self.direction, offset, length, cause);
            }
            Chunk::End => {}
        }
        self.session.handle_chunk(self.direction, chunk, self.shared, self.reporter);
    }

    fn handle_misfit(&mut self, misfit: Misfit) {
        let (code, detail) = match misfit {
            Misfit::OutsideWindow => {
                (AnomalyCode::SegmentOutsideWindow, "farther than any receive window reaches")
            }
            Misfit::OverlapDiffers => (AnomalyCode::OverlapDiffers, "the first copy is shown"),
            Misfit::DataAfterFin => (AnomalyCode::DataAfterFin, "the bytes are ignored"),
        };
        self.reporter.anomaly(Some(self.direction), code, detail);
    }

    fn handle_limit(&mut self, limit: Limit) {
        self.reporter.limit(limit);
    }
}

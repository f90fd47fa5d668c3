//! Puts the pieces of a packet together again.
//!
//! Owns: packets that are still incomplete. Must not know: the ring, or what is inside a packet.
//! Bounded by: [`OPEN_PACKETS_MAX`] packets of at most [`OPEN_BYTES_MAX`] bytes together; the oldest is
//! delivered with what is known of it when a further one would not fit. Time is a parameter.

use std::collections::VecDeque;

use observer_ebpf::{EventHeader, PACKET_BYTES_MAX, wanted_bytes};

/// Packets that may be incomplete at the same time: pieces interleave only across CPUs and softirqs.
pub const OPEN_PACKETS_MAX: usize = 64;
/// Bytes of incomplete packets that are kept at most.
pub const OPEN_BYTES_MAX: usize = 16 << 20;

const SPARE_BUFFERS_MAX: usize = 4;

/// A packet as far as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct CapturedPacket<'a> {
    /// What the kernel knew about the packet; `offset` is 0 and `captured_length` the length of `data`.
    pub header: EventHeader,
    /// The packet's bytes from its L3 header on. Shorter than `header.packet_length` if the snap length cut
    /// it, or if later pieces were lost.
    pub data: &'a [u8],
    /// Later pieces of the packet were lost, other than by the snap length.
    pub rest_lost: bool,
}

/// What happened to pieces, for the account at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceStatistics {
    /// Packets that were put together from several events.
    pub packets_joined: u64,
    /// Packets delivered without their lost later pieces.
    pub packets_without_rest: u64,
    /// Pieces whose packet's beginning is not known (any more).
    pub pieces_dropped: u64,
}

/// Collects pieces and delivers packets in the order in which they became complete.
#[derive(Debug)]
pub struct PacketCollector {
    snap_length_bytes: u32,
    open: VecDeque<OpenPacket>,
    open_bytes: usize,
    spare: Vec<Vec<u8>>,
    statistics: PieceStatistics,
}

#[derive(Debug)]
struct OpenPacket {
    header: EventHeader,
    bytes: Vec<u8>,
}

impl OpenPacket {
    fn is_same_packet(&self, header: &EventHeader) -> bool {
        self.header.packet_id == header.packet_id
            && self.header.socket_cookie == header.socket_cookie
            && self.header.direction == header.direction
    }

    /// A CPU finishes one packet of a socket and direction before it begins the next.
    fn is_over_when_this_begins(&self, header: &EventHeader) -> bool {
        self.header.cpu() == header.cpu()
            && self.header.socket_cookie == header.socket_cookie
            && self.header.direction == header.direction
    }
}

impl PacketCollector {
    /// The snap length must be the one that the kernel programs were started with: it tells when a packet
    /// is complete.
    #[must_use]
    pub fn new(snap_length_bytes: u32) -> Self {
        Self {
            snap_length_bytes,
            open: VecDeque::new(),
            open_bytes: 0,
            spare: Vec::new(),
            statistics: PieceStatistics::default(),
        }
    }

    /// Takes an event. A packet that is whole in one event is delivered as it is, without a copy.
    pub fn push(&mut self, header: &EventHeader, data: &[u8], deliver: &mut impl FnMut(CapturedPacket<'_>)) {
        let wanted = wanted_bytes(header.packet_length, self.snap_length_bytes) as usize;
        if header.offset == 0 {
            if !self.open.is_empty() {
                while let Some(index) =
                    self.open.iter().position(|packet| packet.is_over_when_this_begins(header))
                {
                    self.deliver_open(index, true, deliver);
                }
            }
            if data.len() >= wanted {
                deliver(packet(header, data, false));
            } else {
                self.open(header, data, deliver);
            }
            return;
        }
        let Some(index) = self.open.iter().position(|packet| packet.is_same_packet(header)) else {
            // An event without bytes only announces what was known already.
            self.statistics.pieces_dropped += u64::from(!data.is_empty());
            return;
        };
        let bytes = &mut self.open[index].bytes;
        if data.is_empty() || header.offset as usize != bytes.len() {
            self.statistics.pieces_dropped += u64::from(!data.is_empty());
            self.deliver_open(index, true, deliver);
            return;
        }
        bytes.extend_from_slice(data);
        self.open_bytes += data.len();
        if bytes.len() >= wanted {
            self.statistics.packets_joined += 1;
            self.deliver_open(index, false, deliver);
        } else {
            self.make_room(0, deliver);
        }
    }

    /// Delivers what is known of the packets that began before this time, and are still incomplete.
    pub fn give_up_before(&mut self, boot_time_ns: u64, deliver: &mut impl FnMut(CapturedPacket<'_>)) {
        while let Some(index) = self.open.iter().position(|packet| packet.header.boot_time_ns < boot_time_ns)
        {
            self.deliver_open(index, true, deliver);
        }
    }

    /// Delivers what is known of every incomplete packet: no further piece will come.
    pub fn finish(&mut self, deliver: &mut impl FnMut(CapturedPacket<'_>)) {
        while !self.open.is_empty() {
            self.deliver_open(0, true, deliver);
        }
    }

    /// Whether any packet is incomplete.
    #[must_use]
    pub fn has_open_packets(&self) -> bool {
        !self.open.is_empty()
    }

    /// What happened to pieces so far.
    #[must_use]
    pub const fn statistics(&self) -> PieceStatistics {
        self.statistics
    }

    fn open(&mut self, header: &EventHeader, data: &[u8], deliver: &mut impl FnMut(CapturedPacket<'_>)) {
        self.make_room(data.len(), deliver);
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(data);
        self.open_bytes += data.len();
        self.open.push_back(OpenPacket { header: *header, bytes });
    }

    fn make_room(&mut self, bytes: usize, deliver: &mut impl FnMut(CapturedPacket<'_>)) {
        while self.open_bytes + bytes > OPEN_BYTES_MAX || (bytes > 0 && self.open.len() >= OPEN_PACKETS_MAX) {
            if self.open.is_empty() {
                return;
            }
            self.deliver_open(0, true, deliver);
        }
    }

    fn deliver_open(&mut self, index: usize, rest_lost: bool, deliver: &mut impl FnMut(CapturedPacket<'_>)) {
        let Some(OpenPacket { header, bytes }) = self.open.remove(index) else {
            return;
        };
        self.open_bytes -= bytes.len();
        self.statistics.packets_without_rest += u64::from(rest_lost);
        deliver(packet(&header, &bytes, rest_lost));
        if self.spare.len() < SPARE_BUFFERS_MAX && bytes.capacity() <= 2 * PACKET_BYTES_MAX as usize {
            self.spare.push(bytes);
        }
    }
}

fn packet<'a>(header: &EventHeader, data: &'a [u8], rest_lost: bool) -> CapturedPacket<'a> {
    CapturedPacket {
        header: EventHeader {
            offset: 0,
            captured_length: u32::try_from(data.len()).unwrap_or(u32::MAX),
            ..*header
        },
        data,
        rest_lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_ebpf::{ABI_VERSION, PIECE_BYTES_MAX};

    type Delivered = Vec<(u64, Vec<u8>, bool)>;

    fn header(packet_id: u64, socket_cookie: u64, packet_length: usize) -> EventHeader {
        EventHeader {
            abi_version: ABI_VERSION,
            direction: 0,
            family: 4,
            interface_index: 1,
            packet_id,
            boot_time_ns: packet_id,
            socket_cookie,
            netns_cookie: 0,
            cgroup_id: 1,
            losses: 0,
            packet_length: packet_length as u32,
            offset: 0,
            captured_length: 0,
            local_port: 7272,
            remote_port: 40000,
            local_address: [0; 16],
            remote_address: [0; 16],
        }
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
    }

    /// Splits a packet as the kernel programs do.
    fn pieces(header: &EventHeader, bytes: &[u8]) -> Vec<(EventHeader, Vec<u8>)> {
        bytes
            .chunks(PIECE_BYTES_MAX as usize)
            .enumerate()
            .map(|(index, piece)| {
                let header = EventHeader {
                    offset: index as u32 * PIECE_BYTES_MAX,
                    captured_length: piece.len() as u32,
                    ..*header
                };
                (header, piece.to_vec())
            })
            .collect()
    }

    fn push(collector: &mut PacketCollector, event: &(EventHeader, Vec<u8>), to: &mut Delivered) {
        collector.push(&event.0, &event.1, &mut |packet| {
            assert_eq!(packet.header.captured_length as usize, packet.data.len());
            assert_eq!(packet.header.offset, 0);
            to.push((packet.header.packet_id, packet.data.to_vec(), packet.rest_lost));
        });
    }

    #[test]
    fn a_packet_in_one_event_is_delivered_without_a_copy() {
        let mut collector = PacketCollector::new(0);
        let data = bytes(100);
        let mut delivered_at = None;
        collector.push(&header(1, 1, 100), &data, &mut |packet| {
            delivered_at = Some(packet.data.as_ptr());
        });
        assert_eq!(delivered_at, Some(data.as_ptr()));
    }

    #[test]
    fn a_packet_that_the_snap_length_cut_is_complete() {
        let mut collector = PacketCollector::new(96);
        let mut delivered = Delivered::new();
        push(&mut collector, &(header(1, 1, 5000), bytes(96)), &mut delivered);
        assert_eq!(delivered, [(1, bytes(96), false)]);
    }

    #[test]
    fn pieces_of_packets_on_two_cpus_may_interleave() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let (first, second) = (bytes(200_000), bytes(150_000));
        let on_cpu_1 = (1 << 48) | 1;
        let first_pieces = pieces(&header(1, 7, first.len()), &first);
        let second_pieces = pieces(&header(on_cpu_1, 7, second.len()), &second);
        for (index, piece) in first_pieces.iter().enumerate() {
            push(&mut collector, piece, &mut delivered);
            if let Some(piece) = second_pieces.get(index) {
                push(&mut collector, piece, &mut delivered);
            }
        }
        assert_eq!(delivered, [(on_cpu_1, second, false), (1, first, false)]);
        assert_eq!(collector.statistics().packets_joined, 2);
        assert!(!collector.has_open_packets());
    }

    #[test]
    fn an_event_without_bytes_ends_the_packet_where_it_says() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let data = bytes(200_000);
        let all = pieces(&header(1, 1, data.len()), &data);
        push(&mut collector, &all[0], &mut delivered);
        push(&mut collector, &all[1], &mut delivered);
        push(&mut collector, &(all[2].0, Vec::new()), &mut delivered);
        assert_eq!(delivered, [(1, data[..131_072].to_vec(), true)]);
        assert_eq!(collector.statistics().packets_without_rest, 1);
    }

    #[test]
    fn the_next_packet_of_the_socket_on_that_cpu_ends_an_incomplete_one() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let data = bytes(200_000);
        let all = pieces(&header(1, 1, data.len()), &data);
        push(&mut collector, &all[0], &mut delivered);
        push(&mut collector, &(header(2, 2, 10), bytes(10)), &mut delivered);
        assert_eq!(delivered.len(), 1, "another socket's packet ends nothing");
        push(&mut collector, &(header(3, 1, 10), bytes(10)), &mut delivered);
        assert_eq!(delivered[1..], [(1, data[..65_536].to_vec(), true), (3, bytes(10), false)]);
    }

    #[test]
    fn a_missing_piece_ends_the_packet_before_it_and_later_pieces_are_counted() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let data = bytes(300_000);
        let all = pieces(&header(1, 1, data.len()), &data);
        push(&mut collector, &all[0], &mut delivered);
        push(&mut collector, &all[2], &mut delivered);
        push(&mut collector, &all[3], &mut delivered);
        assert_eq!(delivered, [(1, data[..65_536].to_vec(), true)]);
        assert_eq!(collector.statistics().pieces_dropped, 2);
    }

    #[test]
    fn a_packet_whose_beginning_is_unknown_is_only_counted() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let data = bytes(100_000);
        let all = pieces(&header(1, 1, data.len()), &data);
        push(&mut collector, &all[1], &mut delivered);
        assert_eq!(delivered, []);
        assert_eq!(collector.statistics().pieces_dropped, 1);
    }

    #[test]
    fn incomplete_packets_are_bounded_and_the_oldest_goes_first() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let data = bytes(65_536);
        for socket_cookie in 0..OPEN_PACKETS_MAX as u64 + 3 {
            let event = (header(socket_cookie, socket_cookie, 100_000), data.clone());
            push(&mut collector, &event, &mut delivered);
        }
        let ids: Vec<u64> = delivered.iter().map(|packet| packet.0).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert!(delivered.iter().all(|packet| packet.2));
    }

    #[test]
    fn bytes_of_incomplete_packets_are_bounded() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Delivered::new();
        let data = bytes(900_000);
        for socket_cookie in 0..30 {
            let all = pieces(&header(socket_cookie, socket_cookie, data.len()), &data);
            for piece in &all[..all.len() - 1] {
                push(&mut collector, piece, &mut delivered);
                assert!(collector.open_bytes <= OPEN_BYTES_MAX);
            }
        }
        assert!(!delivered.is_empty());
        collector.finish(&mut |packet| {
            delivered.push((packet.header.packet_id, packet.data.to_vec(), packet.rest_lost));
        });
        assert_eq!(delivered.len(), 30);
        assert_eq!(collector.open_bytes, 0);
    }

    #[test]
    fn packets_that_stay_incomplete_are_given_up_by_age() {
        let mut collector = PacketCollector::new(0);
        let mut delivered = Vec::new();
        let data = bytes(65_536);
        collector.push(&header(10, 1, 100_000), &data, &mut |_| {});
        collector.push(&header(20, 2, 100_000), &data, &mut |_| {});
        collector.give_up_before(20, &mut |packet| delivered.push(packet.header.packet_id));
        assert_eq!(delivered, [10]);
        collector.finish(&mut |packet| delivered.push(packet.header.packet_id));
        assert_eq!(delivered, [10, 20]);
        assert!(!collector.has_open_packets());
    }
}

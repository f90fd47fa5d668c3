//! From an IP packet to the TCP segment in it.
//!
//! Owns the layouts of IPv4 (RFC 791), IPv6 with its extension headers (RFC 8200) and TCP (RFC 9293 §3.1). Must not
//! know connections. Bounded: it borrows; at most `MAXIMUM_EXTENSION_HEADERS` are followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::sequence::SequenceNumber;

const PROTOCOL_TCP: u8 = 6;
const MAXIMUM_EXTENSION_HEADERS: usize = 8;

/// A TCP segment as captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where it says it comes from.
    pub source: SocketAddr,
    /// Where it says it goes.
    pub destination: SocketAddr,
    /// Position of its first byte; of the SYN where it has one.
    pub sequence: SequenceNumber,
    /// What the sender expects next; means nothing without [`Flags::ack`].
    pub acknowledgment: SequenceNumber,
    /// Control bits.
    pub flags: Flags,
    /// Receive window, not scaled.
    pub window: u16,
    /// Where urgent data ends; means nothing without [`Flags::urg`].
    pub urgent_pointer: u16,
    /// Options as captured.
    pub options: &'a [u8],
    /// Payload as far as captured.
    pub payload: &'a [u8],
    /// Bytes of payload on the wire.
    pub payload_length: u32,
}

impl Segment<'_> {
    /// Position of the first payload byte, behind the SYN where there is one.
    pub const fn payload_sequence(&self) -> SequenceNumber {
        self.sequence.plus(self.flags.syn() as u32)
    }

    /// Position of the byte that is urgent, as every system reads it: the one before the pointer (RFC 6093 §3.4).
    pub fn urgent_position(&self) -> Option<SequenceNumber> {
        let ahead = u32::from(self.urgent_pointer.saturating_sub(1));
        (self.flags.urg() && !self.flags.syn()).then(|| self.sequence.plus(ahead))
    }

    /// Position behind the last byte that the sender has received, where bytes are missing before it: the highest
    /// right edge of its selective acknowledgment (RFC 2018 §3).
    pub fn sacked_to(&self) -> Option<SequenceNumber> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        const SACK: u8 = 5;

        let mut rest = self.options;
        loop {
            rest = match *rest {
                [] | [END, ..] => return None,
                [NO_OPERATION, ref rest @ ..] => rest,
                [kind, length, ..] => {
                    let (option, behind) = rest.split_at_checked(usize::from(length).max(2))?;
                    if kind == SACK {
                        let blocks = option.get(2..)?.chunks_exact(8);
                        let edges = blocks.filter_map(|block| block.last_chunk::<4>());
                        return edges
                            .map(|edge| SequenceNumber(u32::from_be_bytes(*edge)))
                            .max_by_key(|edge| edge.distance_from(self.acknowledgment));
                    }
                    behind
                }
                [_] => return None,
            };
        }
    }
}

/// Control bits (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// Congestion was experienced (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// The congestion window was reduced (RFC 3168).
    pub const CWR: u8 = 0x80;

    /// See [`Self::FIN`].
    pub const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// See [`Self::SYN`].
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// See [`Self::RST`].
    pub const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// See [`Self::ACK`].
    pub const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// See [`Self::URG`].
    pub const fn urg(self) -> bool {
        self.0 & Self::URG != 0
    }
}

/// Why a packet holds no segment to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSegment {
    /// Neither IPv4 nor IPv6, or not TCP.
    OtherProtocol,
    /// A fragment of an IP packet.
    Fragment,
    /// Cut before the end of the TCP header, or lengths that contradict each other.
    Malformed,
}

/// Finds the TCP segment in a packet of `length` bytes, of which `data` was captured.
///
/// The lengths in the IP header only ever shorten the packet (Ethernet pads short ones): a super-packet of
/// segmentation offload may carry 0 there.
pub fn parse(data: &[u8], length: u32) -> Result<Segment<'_>, NoSegment> {
    match data.first().ok_or(NoSegment::Malformed)? >> 4 {
        4 => parse_ipv4(data, length),
        6 => parse_ipv6(data, length),
        _ => Err(NoSegment::OtherProtocol),
    }
}

fn parse_ipv4(data: &[u8], length: u32) -> Result<Segment<'_>, NoSegment> {
    let header: &[u8; 20] = data.first_chunk().ok_or(NoSegment::Malformed)?;
    let [
        first,
        _,
        length_high,
        length_low,
        _,
        _,
        fragment_high,
        fragment_low,
        _,
        protocol,
        _,
        _,
        addresses @ ..,
    ] = header;
    if *protocol != PROTOCOL_TCP {
        return Err(NoSegment::OtherProtocol);
    }
    if u16::from_be_bytes([*fragment_high, *fragment_low]) & 0x3fff != 0 {
        return Err(NoSegment::Fragment);
    }
    let header_length = usize::from(first & 0x0f) * 4;
    if header_length < header.len() {
        return Err(NoSegment::Malformed);
    }
    let [s0, s1, s2, s3, d0, d1, d2, d3] = *addresses;
    let claimed = u32::from(u16::from_be_bytes([*length_high, *length_low]));
    parse_tcp(
        IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        data,
        header_length,
        effective_length(length, claimed),
    )
}

fn parse_ipv6(data: &[u8], length: u32) -> Result<Segment<'_>, NoSegment> {
    let header: &[u8; 40] = data.first_chunk().ok_or(NoSegment::Malformed)?;
    let [_, _, _, _, length_high, length_low, next_header, _, addresses @ ..] = header;
    let (source, destination) = addresses.split_first_chunk::<16>().ok_or(NoSegment::Malformed)?;
    let destination: &[u8; 16] = destination.first_chunk().ok_or(NoSegment::Malformed)?;
    let claimed = match u32::from(u16::from_be_bytes([*length_high, *length_low])) {
        0 => 0,
        payload => payload + 40,
    };
    let offset = skip_extension_headers(data, *next_header)?;
    parse_tcp(
        IpAddr::V6(Ipv6Addr::from(*source)),
        IpAddr::V6(Ipv6Addr::from(*destination)),
        data,
        offset,
        effective_length(length, claimed),
    )
}

/// Offset of the TCP header behind the extension headers (RFC 8200 §4).
fn skip_extension_headers(data: &[u8], mut next_header: u8) -> Result<usize, NoSegment> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;

    let mut offset = 40;
    for _ in 0..=MAXIMUM_EXTENSION_HEADERS {
        if next_header == PROTOCOL_TCP {
            return Ok(offset);
        }
        let extension = data.get(offset..).and_then(<[u8]>::first_chunk::<4>);
        let unit = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION => |length: u8| (usize::from(length) + 1) * 8,
            AUTHENTICATION => |length: u8| (usize::from(length) + 2) * 4,
            FRAGMENT => {
                let [following, _, high, low] = extension.ok_or(NoSegment::Malformed)?;
                if u16::from_be_bytes([*high, *low]) & 0xfff9 != 0 {
                    let is_tcp = *following == PROTOCOL_TCP;
                    return Err(if is_tcp { NoSegment::Fragment } else { NoSegment::OtherProtocol });
                }
                |_| 8
            }
            _ => return Err(NoSegment::OtherProtocol),
        };
        let [following, length, ..] = extension.ok_or(NoSegment::Malformed)?;
        next_header = *following;
        offset += unit(*length);
    }
    Err(NoSegment::Malformed)
}

const fn effective_length(length: u32, claimed: u32) -> u32 {
    if claimed != 0 && claimed < length { claimed } else { length }
}

fn parse_tcp(
    source: IpAddr,
    destination: IpAddr,
    data: &[u8],
    offset: usize,
    length: u32,
) -> Result<Segment<'_>, NoSegment> {
    let tcp = data.get(offset..).ok_or(NoSegment::Malformed)?;
    let header: &[u8; 20] = tcp.first_chunk().ok_or(NoSegment::Malformed)?;
    let [sp0, sp1, dp0, dp1, s0, s1, s2, s3, a0, a1, a2, a3, data_offset, flags, w0, w1, _, _, u0, u1] =
        *header;
    let header_length = usize::from(data_offset >> 4) * 4;
    if header_length < header.len() {
        return Err(NoSegment::Malformed);
    }
    let payload_offset = offset + header_length;
    let payload_length = u32::try_from(payload_offset)
        .ok()
        .and_then(|before| length.checked_sub(before))
        .ok_or(NoSegment::Malformed)?;
    let payload = data.get(payload_offset..).unwrap_or_default();
    let kept = payload.len().min(usize::try_from(payload_length).unwrap_or(usize::MAX));
    Ok(Segment {
        source: SocketAddr::new(source, u16::from_be_bytes([sp0, sp1])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([dp0, dp1])),
        sequence: SequenceNumber(u32::from_be_bytes([s0, s1, s2, s3])),
        acknowledgment: SequenceNumber(u32::from_be_bytes([a0, a1, a2, a3])),
        flags: Flags(flags),
        window: u16::from_be_bytes([w0, w1]),
        urgent_pointer: u16::from_be_bytes([u0, u1]),
        options: tcp.get(20..header_length.min(tcp.len())).unwrap_or_default(),
        payload: payload.get(..kept).unwrap_or_default(),
        payload_length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_header(flags: u8) -> Vec<u8> {
        let mut tcp = vec![0x1c, 0x68, 0xec, 0xa8];
        tcp.extend(7_u32.to_be_bytes());
        tcp.extend(9_u32.to_be_bytes());
        tcp.extend([0x50, flags, 0x02, 0x00, 0, 0, 0, 0]);
        tcp
    }

    fn ipv4(payload: &[u8], claimed_length: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend(claimed_length.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0, 127, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(tcp_header(Flags::ACK));
        packet.extend(payload);
        packet
    }

    fn ipv6(next_header: u8, extensions: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(extensions.len() + 22).unwrap().to_be_bytes());
        packet.extend([next_header, 64]);
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(extensions);
        packet.extend(tcp_header(Flags::ACK));
        packet.extend(b"hi");
        packet
    }

    #[test]
    fn an_ipv4_segment_is_read_field_by_field() {
        let packet = ipv4(b"hello", 45);
        let segment = parse(&packet, 45).unwrap();
        assert_eq!(segment.source, "127.0.0.1:7272".parse().unwrap());
        assert_eq!(segment.destination, "10.0.0.2:60584".parse().unwrap());
        assert_eq!((segment.sequence, segment.acknowledgment), (SequenceNumber(7), SequenceNumber(9)));
        assert_eq!(segment.window, 512);
        assert_eq!((segment.payload, segment.payload_length), (&b"hello"[..], 5));
    }

    #[test]
    fn ethernet_padding_is_not_payload() {
        let mut packet = ipv4(b"", 40);
        packet.extend([0; 6]);
        let segment = parse(&packet, 46).unwrap();
        assert_eq!((segment.payload, segment.payload_length), (&b""[..], 0));
    }

    #[test]
    fn a_super_packet_that_claims_no_length_has_the_capture_s_length() {
        let packet = ipv4(&[7; 70_000], 0);
        let segment = parse(&packet, 70_040).unwrap();
        assert_eq!(segment.payload_length, 70_000);
        assert_eq!(segment.payload.len(), 70_000);
    }

    #[test]
    fn a_cut_packet_keeps_its_length_on_the_wire() {
        let packet = ipv4(b"hel", 45);
        let segment = parse(&packet, 45).unwrap();
        assert_eq!((segment.payload, segment.payload_length), (&b"hel"[..], 5));
    }

    #[test]
    fn a_packet_cut_inside_the_tcp_header_is_malformed() {
        let packet = ipv4(b"", 40);
        assert_eq!(parse(&packet[..39], 40), Err(NoSegment::Malformed));
    }

    #[test]
    fn ipv4_fragments_are_named_as_such() {
        let mut packet = ipv4(b"", 40);
        packet[6] = 0x20;
        assert_eq!(parse(&packet, 40), Err(NoSegment::Fragment));
    }

    #[test]
    fn udp_is_another_protocol() {
        let mut packet = ipv4(b"", 40);
        packet[9] = 17;
        assert_eq!(parse(&packet, 40), Err(NoSegment::OtherProtocol));
    }

    #[test]
    fn ipv6_extension_headers_are_stepped_over() {
        let extensions = [60, 0, 0, 0, 0, 0, 0, 0, PROTOCOL_TCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let packet = ipv6(0, &extensions);
        let segment = parse(&packet, u32::try_from(packet.len()).unwrap()).unwrap();
        assert_eq!(segment.source, "[::1]:7272".parse().unwrap());
        assert_eq!(segment.payload, b"hi");
    }

    #[test]
    fn endless_extension_headers_end() {
        let packet = ipv6(0, &[0; 200]);
        assert_eq!(parse(&packet, u32::try_from(packet.len()).unwrap()), Err(NoSegment::Malformed));
    }

    #[test]
    fn every_extension_header_that_may_stand_before_tcp_is_stepped_over() {
        // Routing with two addresses, authentication with a 12-byte digest, and destination options.
        let routing = [&[51, 4, 2, 0][..], &[0; 36]].concat();
        let authentication = [&[60, 4, 0, 0][..], &[0; 20]].concat();
        let destination = [PROTOCOL_TCP, 0, 1, 4, 0, 0, 0, 0];
        let packet = ipv6(43, &[&routing[..], &authentication, &destination].concat());
        let segment = parse(&packet, u32::try_from(packet.len()).unwrap()).unwrap();
        assert_eq!((segment.source.port(), segment.payload), (7272, &b"hi"[..]));
    }

    #[test]
    fn a_jumbogram_has_the_capture_s_length() {
        // RFC 2675: hop-by-hop options with the length, and none in the header.
        let mut packet = ipv6(0, &[PROTOCOL_TCP, 0, 0xc2, 4, 0, 1, 0x11, 0x86]);
        packet.extend([7; 70_000]);
        packet[4..6].copy_from_slice(&[0, 0]);
        let segment = parse(&packet, u32::try_from(packet.len()).unwrap()).unwrap();
        assert_eq!((segment.payload_length, segment.payload.len()), (70_002, 70_002));
    }

    #[test]
    fn ipv6_fragments_of_tcp_are_named_as_such() {
        // The first, which has the TCP header, and one behind it.
        for offset_and_more in [[0, 1], [0x05, 0xb0]] {
            let [high, low] = offset_and_more;
            let packet = ipv6(44, &[PROTOCOL_TCP, 0, high, low, 1, 2, 3, 4]);
            assert_eq!(parse(&packet, 200), Err(NoSegment::Fragment));
            let packet = ipv6(44, &[17, 0, high, low, 1, 2, 3, 4]);
            assert_eq!(parse(&packet, 200), Err(NoSegment::OtherProtocol));
        }
    }

    #[test]
    fn ipv4_options_are_stepped_over() {
        let mut packet = ipv4(b"hello", 53);
        packet[0] = 0x48;
        // No operation, record route of one address, end.
        packet.splice(20..20, [1, 7, 7, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let segment = parse(&packet, 57).unwrap();
        assert_eq!((segment.source.port(), segment.payload_length), (7272, 1));
        packet[2..4].copy_from_slice(&57_u16.to_be_bytes());
        assert_eq!(parse(&packet, 57).unwrap().payload, b"hello");
    }

    #[test]
    fn the_urgent_byte_is_the_one_before_the_pointer() {
        let at = |flags, pointer| {
            let mut packet = ipv4(b"hello", 45);
            (packet[33], packet[39]) = (flags, pointer);
            parse(&packet, 45).unwrap().urgent_position()
        };
        assert_eq!(at(Flags::URG, 3), Some(SequenceNumber(9)));
        assert_eq!(at(Flags::URG, 0), Some(SequenceNumber(7)));
        assert_eq!((at(Flags::ACK, 3), at(Flags::URG | Flags::SYN, 3)), (None, None));
    }

    #[test]
    fn an_atomic_ipv6_fragment_is_whole() {
        let packet = ipv6(44, &[PROTOCOL_TCP, 0, 0, 0, 1, 2, 3, 4]);
        let segment = parse(&packet, u32::try_from(packet.len()).unwrap()).unwrap();
        assert_eq!(segment.payload, b"hi");
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(data: Vec<u8>, length: u32) {
            let _ = parse(&data, length);
        }
    }

    #[test]
    fn a_selective_acknowledgment_tells_how_far_its_sender_has_received() {
        let block = |from: u32, to: u32| [from.to_be_bytes(), to.to_be_bytes()].concat();
        let timestamps = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let sacked_to = |options: &[u8]| {
            let packet = ipv4(b"", 40);
            let segment = parse(&packet, 40).unwrap();
            Segment { options, acknowledgment: SequenceNumber(u32::MAX - 9), ..segment }.sacked_to()
        };
        let sack =
            [&[1, 1][..], &timestamps, &[1, 1, 5, 18], &block(u32::MAX - 4, 20), &block(3, 7)].concat();
        assert_eq!(sacked_to(&sack), Some(SequenceNumber(20)));
        assert_eq!(sacked_to(&timestamps), None);
        for cut in 0..sack.len() {
            sacked_to(&sack[..cut]);
        }
        for malformed in [&[5, 0][..], &[5], &[5, 2], &[0, 5, 10], &[8, 0, 5, 255]] {
            assert_eq!(sacked_to(malformed), None);
        }
    }
}

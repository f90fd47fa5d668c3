//! The headers between a capture file's record and the IP packet in it.
//!
//! Owns the link types that are understood and how each is stripped. Must not know files or what IP carries.
//! Bounded: nothing is kept, and at most [`VLAN_TAGS`] tags of a frame are looked at.

/// VLAN tags skipped in one frame. QinQ has two; more than this is taken for something that is not IP.
pub const VLAN_TAGS: usize = 4;

/// How the records of a capture begin (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// 1: Ethernet.
    Ethernet,
    /// 101, and 12, 14, 228, 229: nothing before the IP header.
    Raw,
    /// 0 and 108: four bytes of address family, in the byte order of whoever captured, or the network's.
    Loopback,
    /// 113: Linux "cooked" capture, as `tcpdump -i any` wrote it until libpcap 1.10.
    LinuxSll,
    /// 276: the same with the interface's index, as `tcpdump -i any` writes it since.
    LinuxSll2,
}

impl LinkType {
    /// The numbers that are understood, for a message to the user.
    pub const UNDERSTOOD: &'static str = "Ethernet (1), raw IP (12, 14, 101, 228, 229), BSD loopback (0, 108), \
        Linux cooked capture (113, 276)";

    /// What a file's link type number means, where it is understood.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            0 | 108 => Some(Self::Loopback),
            113 => Some(Self::LinuxSll),
            276 => Some(Self::LinuxSll2),
            _ => None,
        }
    }

    /// Takes the link's header off `frame`; `None` where no IP packet follows it, or where the capture cut it.
    pub fn strip(self, frame: &[u8]) -> Option<Stripped<'_>> {
        let (network, packet) = match self {
            Self::Raw => (Network::by_version(frame)?, frame),
            Self::Loopback => {
                let (family, packet) = frame.split_first_chunk::<4>()?;
                let network = Network::from_family(u32::from_le_bytes(*family))
                    .or_else(|| Network::from_family(u32::from_be_bytes(*family)))?;
                (network, packet)
            }
            Self::Ethernet => {
                let (_, behind_addresses) = frame.split_at_checked(12)?;
                behind_ether_type(behind_addresses)?
            }
            Self::LinuxSll => {
                let (_, behind_address) = frame.split_at_checked(14)?;
                behind_ether_type(behind_address)?
            }
            Self::LinuxSll2 => {
                let (protocol, _) = frame.split_first_chunk::<2>()?;
                let (_, payload) = frame.split_at_checked(20)?;
                behind_protocol(u16::from_be_bytes(*protocol), payload)?
            }
        };
        // A version that is not the announced one is no IP packet; the two parsers behind this one look at it only.
        if Network::by_version(packet)? != network {
            return None;
        }
        let interface_index = match self {
            Self::LinuxSll2 => {
                frame.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
            }
            _ => None,
        };
        let header_length = u32::try_from(frame.len().saturating_sub(packet.len())).ok()?;
        Some(Stripped { packet, header_length, interface_index })
    }
}

/// An IP packet out of a captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripped<'a> {
    /// From the IP header on, as far as captured. May end with the link's padding.
    pub packet: &'a [u8],
    /// Bytes that were before it.
    pub header_length: u32,
    /// The capturing machine's index of the interface, where the link's header has it.
    pub interface_index: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Ipv4,
    Ipv6,
}

impl Network {
    fn by_version(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(Self::Ipv4),
            6 => Some(Self::Ipv6),
            _ => None,
        }
    }

    const fn from_family(family: u32) -> Option<Self> {
        match family {
            2 => Some(Self::Ipv4),
            // AF_INET6 of Linux, Windows, the BSDs and macOS: the file does not say whose it is.
            10 | 23 | 24 | 28 | 30 => Some(Self::Ipv6),
            _ => None,
        }
    }
}

fn behind_ether_type(bytes: &[u8]) -> Option<(Network, &[u8])> {
    let (ether_type, payload) = bytes.split_first_chunk::<2>()?;
    behind_protocol(u16::from_be_bytes(*ether_type), payload)
}

fn behind_protocol(mut protocol: u16, mut payload: &[u8]) -> Option<(Network, &[u8])> {
    for _ in 0..=VLAN_TAGS {
        match protocol {
            0x0800 => return Some((Network::Ipv4, payload)),
            0x86dd => return Some((Network::Ipv6, payload)),
            0x8100 | 0x88a8 | 0x9100 => {
                let ([_, _, high, low], behind) = payload.split_first_chunk::<4>()?;
                protocol = u16::from_be_bytes([*high, *low]);
                payload = behind;
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: [u8; 4] = [0x45, 0, 0, 4];
    const IPV6: [u8; 4] = [0x60, 0, 0, 0];

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn ethernet_is_stripped_with_any_usual_number_of_vlan_tags() {
        let addresses = [0xaa_u8; 12];
        let plain = frame(&[&addresses, &[0x08, 0x00], &IPV4]);
        let vlan = frame(&[&addresses, &[0x81, 0x00, 0, 5, 0x86, 0xdd], &IPV6]);
        let qinq = frame(&[&addresses, &[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x08, 0x00], &IPV4]);
        for (bytes, packet, header_length) in [(&plain, IPV4, 14), (&vlan, IPV6, 18), (&qinq, IPV4, 22)] {
            let stripped = LinkType::Ethernet.strip(bytes).unwrap();
            assert_eq!(stripped, Stripped { packet: &packet, header_length, interface_index: None });
        }
    }

    #[test]
    fn endless_vlan_tags_are_given_up() {
        let frame = frame(&[&[0xaa; 12], &[0x81, 0x00, 0, 5].repeat(1000), &[0x08, 0x00], &IPV4]);
        assert_eq!(LinkType::Ethernet.strip(&frame), None);
    }

    #[test]
    fn cooked_captures_are_stripped_and_the_second_kind_names_the_interface() {
        let sll = frame(&[&[0, 0, 3, 4, 0, 6], &[0; 8], &[0x08, 0x00], &IPV4]);
        assert_eq!(
            LinkType::LinuxSll.strip(&sll),
            Some(Stripped { packet: &IPV4, header_length: 16, interface_index: None })
        );
        let sll2 = frame(&[&[0x86, 0xdd, 0, 0], &[0, 0, 0, 7], &[3, 4, 0, 6], &[0; 8], &IPV6]);
        assert_eq!(
            LinkType::LinuxSll2.strip(&sll2),
            Some(Stripped { packet: &IPV6, header_length: 20, interface_index: Some(7) })
        );
    }

    #[test]
    fn loopback_families_are_read_in_either_byte_order() {
        for (family, packet) in
            [([2, 0, 0, 0], IPV4), ([0, 0, 0, 2], IPV4), ([0, 0, 0, 24], IPV6), ([30, 0, 0, 0], IPV6)]
        {
            let bytes = frame(&[&family, &packet]);
            assert_eq!(LinkType::Loopback.strip(&bytes).unwrap().packet, packet);
        }
    }

    #[test]
    fn what_is_not_ip_or_is_cut_yields_nothing() {
        let arp = frame(&[&[0xaa; 12], &[0x08, 0x06], &[0, 1, 8, 0]]);
        let wrong_version = frame(&[&[0xaa; 12], &[0x08, 0x00], &IPV6]);
        assert_eq!(LinkType::Ethernet.strip(&arp), None);
        assert_eq!(LinkType::Ethernet.strip(&wrong_version), None);
        for link in
            [LinkType::Ethernet, LinkType::Raw, LinkType::Loopback, LinkType::LinuxSll, LinkType::LinuxSll2]
        {
            for length in 0..12 {
                assert_eq!(link.strip(&vec![0; length]), None, "{link:?} with {length} bytes");
            }
        }
    }

    #[test]
    fn every_number_that_is_called_understood_is() {
        for number in [1, 12, 14, 101, 228, 229, 0, 108, 113, 276] {
            assert!(LinkType::from_number(number).is_some());
            assert!(LinkType::UNDERSTOOD.contains(&number.to_string()));
        }
        assert_eq!(LinkType::from_number(127), None);
    }
}

//! The header of the PROXY protocol, versions 1 and 2, which a proxy may send ahead of everything else
//! (HAProxy's `proxy-protocol.txt`).
//!
//! Owns where it ends and what it says. Must not know what follows it. Bounded: keeps at most 232 bytes; the further
//! fields of version 2 (TLVs, up to 64 KiB) are stepped over.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use crate::record::ProxyHeader;

/// What version 1 begins with. Behind it stands a protocol in capitals; an HTTP target never begins so.
const PREFIX: &[u8] = b"PROXY ";
/// The longest line of version 1, its line end included (§2.1).
const MAXIMUM_LINE_LENGTH: usize = 107;
/// What version 2 begins with (§2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How far a [`Reader`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All bytes were taken; more are needed.
    Incomplete,
    /// There is no header. None of the bytes given was taken; those that were before are in [`Reader::into_held`].
    Absent,
    /// The header is whole, and so many of the bytes given belong to it.
    Complete(ProxyHeader, usize),
    /// It is malformed, but where it ends is known: so many of the bytes given belong to it.
    Malformed(&'static str, usize),
    /// It is malformed, and where it ends is not known. All bytes until there were taken.
    Endless(&'static str),
}

/// Reads the header from bytes that come in pieces of any size.
#[derive(Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
    /// What is told once the rest is stepped over, and how long that is.
    rest: Option<(Verdict, usize)>,
    taken: usize,
}

type Verdict = Result<ProxyHeader, &'static str>;

/// What the bytes so far are.
enum Judgement {
    Undecided,
    Absent,
    Endless(&'static str),
    /// So many further bytes belong to it.
    Decided(Verdict, usize),
}

impl Reader {
    /// Bytes taken of a header that is not whole.
    pub const fn pending_bytes(&self) -> usize {
        self.taken
    }

    /// Whether what came is surely a PROXY header, though it is not whole.
    pub const fn is_certain(&self) -> bool {
        self.held.len() > PREFIX.len()
    }

    /// The bytes taken, as far as they are kept: all of them where there is no header.
    pub fn into_held(self) -> Vec<u8> {
        self.held
    }

    /// Takes the next bytes. After anything but `Incomplete` there is nothing more to read.
    pub fn handle_data(&mut self, data: &[u8]) -> Progress {
        let mut consumed = 0_usize;
        let mut bytes = data.iter();
        while self.rest.is_none() {
            let Some(byte) = bytes.next() else { break };
            self.held.push(*byte);
            consumed = consumed.saturating_add(1);
            match judge(&self.held) {
                Judgement::Undecided => {}
                Judgement::Absent => {
                    self.held.truncate(self.held.len().saturating_sub(consumed));
                    return Progress::Absent;
                }
                Judgement::Endless(what) => {
                    self.taken = self.taken.saturating_add(data.len());
                    return Progress::Endless(what);
                }
                Judgement::Decided(verdict, rest) => self.rest = Some((verdict, rest)),
            }
        }
        let Some((verdict, rest)) = &mut self.rest else {
            self.taken = self.taken.saturating_add(data.len());
            return Progress::Incomplete;
        };
        let stepped = (*rest).min(bytes.len());
        *rest = rest.saturating_sub(stepped);
        let consumed = consumed.saturating_add(stepped);
        self.taken = self.taken.saturating_add(consumed);
        match (*rest, *verdict) {
            (0, Ok(header)) => Progress::Complete(header, consumed),
            (0, Err(what)) => Progress::Malformed(what, consumed),
            _ => Progress::Incomplete,
        }
    }
}

fn judge(held: &[u8]) -> Judgement {
    if is_beginning(held, SIGNATURE) {
        return judge_binary(held);
    }
    if !is_beginning(held, PREFIX) || held.get(PREFIX.len()).is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Judgement::Absent;
    }
    match held {
        [line @ .., b'\r', b'\n'] => Judgement::Decided(parse_line(line), 0),
        [.., b'\n'] => Judgement::Decided(Err("its line does not end in CRLF"), 0),
        _ if held.len() >= MAXIMUM_LINE_LENGTH => Judgement::Endless("its line is longer than 107 bytes"),
        _ => Judgement::Undecided,
    }
}

/// Whether the bytes and what they should begin with agree as far as both go.
fn is_beginning(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

/// Version 1 (§2.1), without its line end.
fn parse_line(line: &[u8]) -> Verdict {
    let text = line.get(PREFIX.len()..).and_then(|line| str::from_utf8(line).ok());
    let text = text.ok_or("it is no text")?;
    let (protocol, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (source, destination) = match protocol {
        "UNKNOWN" => return Ok(ProxyHeader { version: 1, is_local: false, source: None, destination: None }),
        "TCP4" => parse_ends::<Ipv4Addr>(rest)?,
        "TCP6" => parse_ends::<Ipv6Addr>(rest)?,
        _ => return Err("its protocol is none of TCP4, TCP6 and UNKNOWN"),
    };
    Ok(ProxyHeader { version: 1, is_local: false, source: Some(source), destination: Some(destination) })
}

fn parse_ends<T: FromStr + Into<IpAddr>>(text: &str) -> Result<(SocketAddr, SocketAddr), &'static str> {
    let mut words = text.split(' ');
    let mut address = || words.next()?.parse::<T>().ok().map(Into::into);
    let (source, destination) = address().zip(address()).ok_or("its addresses are not of its protocol")?;
    let mut port = || words.next().and_then(parse_port);
    let (source_port, destination_port) = port().zip(port()).ok_or("its ports are none")?;
    if words.next().is_some() {
        return Err("it has more fields than it may");
    }
    Ok((SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port)))
}

fn parse_port(word: &str) -> Option<u16> {
    let is_decimal =
        word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_decimal { word.parse().ok() } else { None }
}

/// Version 2 (§2.2).
fn judge_binary(held: &[u8]) -> Judgement {
    let Some((&version_and_command, behind)) = held.get(SIGNATURE.len()..).and_then(<[u8]>::split_first)
    else {
        return Judgement::Undecided;
    };
    if version_and_command >> 4 != 2 {
        return Judgement::Endless("its version is not 2");
    }
    let &[family_and_transport, high, low, ref addresses @ ..] = behind else { return Judgement::Undecided };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let header = |source, destination| ProxyHeader { version: 2, is_local: false, source, destination };
    let is_local = match version_and_command & 0xf {
        // The proxy's own connection: whatever addresses it tells are to be ignored.
        0 => true,
        1 => false,
        _ => return Judgement::Decided(Err("its command is unknown"), length),
    };
    let needed = match family_and_transport >> 4 {
        _ if is_local => 0,
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Judgement::Decided(Err("its address family is unknown"), length),
    };
    if family_and_transport & 0xf > 2 {
        return Judgement::Decided(Err("its transport is unknown"), length);
    }
    let Some(rest) = length.checked_sub(needed) else {
        return Judgement::Decided(Err("it is too short for its addresses"), length);
    };
    if addresses.len() < needed {
        return Judgement::Undecided;
    }
    let ends = match needed {
        12 => split_ends::<4>(addresses),
        36 => split_ends::<16>(addresses),
        _ => None,
    };
    let (source, destination) = ends.unzip();
    Judgement::Decided(Ok(ProxyHeader { is_local, ..header(source, destination) }), rest)
}

/// Both addresses, then both ports.
fn split_ends<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let destination_port = rest.first_chunk::<2>()?;
    Some((
        SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*destination_port)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Progress {
        Reader::default().handle_data(bytes)
    }

    fn binary(version_and_command: u8, family_and_transport: u8, behind: &[u8]) -> Vec<u8> {
        let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family_and_transport], &length, behind].concat()
    }

    const TCP4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    fn ends(header: &ProxyHeader) -> Option<(String, String)> {
        Some((header.source?.to_string(), header.destination?.to_string()))
    }

    #[test]
    fn the_example_of_version_1_is_read_up_to_its_line_end() {
        let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
        let Progress::Complete(header, consumed) = read(&[line, &b"GET /"[..]].concat()) else { panic!() };
        assert_eq!((header.version, header.is_local, consumed), (1, false, line.len()));
        assert_eq!(ends(&header), Some(("192.168.0.1:56324".into(), "192.168.0.11:443".into())));
    }

    #[test]
    fn the_longest_lines_of_version_1_are_read() {
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let line = format!("PROXY TCP6 {address} {address} 65535 65535\r\n");
        assert!(matches!(read(line.as_bytes()), Progress::Complete(header, _) if header.source.is_some()));
        let line = format!("PROXY UNKNOWN {address} {address} 65535 65535\r\n");
        assert_eq!(line.len(), MAXIMUM_LINE_LENGTH);
        assert!(matches!(read(line.as_bytes()), Progress::Complete(header, _) if header.source.is_none()));
        assert!(matches!(read(b"PROXY UNKNOWN\r\n"), Progress::Complete(..)));
    }

    #[test]
    fn a_malformed_line_is_stepped_over() {
        for line in [
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4\r\n",
        ] {
            let progress = read(&[line.as_bytes(), b"GET"].concat());
            assert!(matches!(progress, Progress::Malformed(_, length) if length == line.len()), "{line}");
        }
        let line = format!("PROXY TCP4 {}", "1".repeat(200));
        assert!(matches!(read(line.as_bytes()), Progress::Endless(_)));
    }

    #[test]
    fn version_2_is_read_with_its_addresses_and_its_further_fields_are_stepped_over() {
        let behind = [TCP4, &[4, 0xff, 0xff][..], &vec![7; 60_000]].concat();
        let header = binary(0x21, 0x11, &behind);
        let Progress::Complete(found, consumed) = read(&[&header[..], b"GET"].concat()) else { panic!() };
        assert_eq!((found.version, found.is_local, consumed), (2, false, header.len()));
        assert_eq!(ends(&found), Some(("192.0.2.1:56324".into(), "198.51.100.1:443".into())));
        let mut addresses = [0; 36];
        (addresses[15], addresses[31], addresses[33], addresses[35]) = (1, 2, 3, 4);
        let Progress::Complete(found, _) = read(&binary(0x21, 0x21, &addresses)) else { panic!() };
        assert_eq!(ends(&found), Some(("[::1]:3".into(), "[::2]:4".into())));
    }

    #[test]
    fn a_proxys_own_connections_and_those_of_other_families_claim_nobody() {
        for (header, is_local) in [
            (binary(0x20, 0x00, b""), true),
            // As health checks of some proxies: with a family, and with or without addresses.
            (binary(0x20, 0x11, TCP4), true),
            (binary(0x20, 0x11, b""), true),
            (binary(0x21, 0x00, b"ignored"), false),
            (binary(0x21, 0x31, &[b'/'; 216]), false),
        ] {
            let progress = read(&header);
            let Progress::Complete(found, consumed) = progress else { panic!("{progress:?}") };
            assert_eq!((found.is_local, ends(&found), consumed), (is_local, None, header.len()));
        }
    }

    #[test]
    fn a_malformed_header_of_version_2_is_stepped_over_where_its_length_is_known() {
        for header in [
            binary(0x22, 0x11, TCP4),
            binary(0x21, 0x41, TCP4),
            binary(0x21, 0x13, TCP4),
            binary(0x21, 0x21, TCP4),
            binary(0x21, 0x11, b""),
        ] {
            let progress = read(&[&header[..], b"GET"].concat());
            assert!(matches!(progress, Progress::Malformed(_, length) if length == header.len()));
        }
        assert!(matches!(read(&binary(0x31, 0x11, TCP4)), Progress::Endless(_)));
    }

    #[test]
    fn what_begins_otherwise_is_none_and_nothing_of_it_is_lost() {
        for start in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROPFIND / HTTP/1.1\r\n\r\n",
            b"PROXY /chat HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
        ] {
            assert_eq!(read(start), Progress::Absent);
            let mut reader = Reader::default();
            let mut given = 0;
            while reader.handle_data(&start[given..=given]) == Progress::Incomplete {
                given += 1;
            }
            assert_eq!(reader.into_held(), &start[..given]);
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_header_and_little_is_kept(
            sizes in prop::collection::vec(1_usize..40, 1..20), further in 0_usize..2_000, text: bool,
        ) {
            let header = if text {
                b"PROXY TCP6 2001:db8::1 2001:db8::2 41234 7272\r\n".to_vec()
            } else {
                binary(0x21, 0x11, &[TCP4, &vec![1; further]].concat())
            };
            let Progress::Complete(expected, length) = read(&header) else { panic!() };
            prop_assert_eq!(length, header.len());
            let stream = [&header[..], b"\r\n\r\nbehind"].concat();
            let mut reader = Reader::default();
            let mut rest = &stream[..];
            let mut taken = 0;
            for size in sizes.iter().cycle() {
                let (piece, behind) = rest.split_at((*size).min(rest.len()));
                rest = behind;
                match reader.handle_data(piece) {
                    Progress::Incomplete => taken += piece.len(),
                    Progress::Complete(found, consumed) => {
                        prop_assert_eq!((found, taken + consumed), (expected, length));
                        break;
                    }
                    other => panic!("{other:?}"),
                }
                prop_assert_eq!(reader.pending_bytes(), taken);
                prop_assert!(reader.held.len() <= 232);
            }
        }

        #[test]
        fn random_bytes_never_panic(
            start in prop_oneof![Just(PREFIX.to_vec()), Just(SIGNATURE.to_vec()), Just(binary(0x21, 0x11, b""))],
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
        ) {
            let mut reader = Reader::default();
            for piece in std::iter::once(start).chain(pieces) {
                if reader.handle_data(&piece) != Progress::Incomplete {
                    break;
                }
                prop_assert!(reader.held.len() <= 232);
            }
        }
    }
}

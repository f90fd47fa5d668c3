//! What a client's first TLS message tells in clear: the ClientHello (RFC 8446 §4.1.2).
//!
//! Owns its reading across records and segments. Must not know what it is read for; decrypts nothing. Bounded by the
//! caller, who says how long a ClientHello may be and what may be kept of one that comes in pieces.

use std::fmt::Write as _;

/// The content type of handshake messages.
const HANDSHAKE: u8 = 22;
/// The most that one record may hold: what RFC 8446 §5.2 allows an encrypted one.
const MAXIMUM_RECORD_LENGTH: usize = (1 << 14) + 256;
/// The message's type.
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME_EXTENSION: usize = 0;
const PROTOCOLS_EXTENSION: usize = 16;
/// Protocols that are told of one ClientHello.
const MAXIMUM_PROTOCOLS: usize = 8;

/// What a ClientHello tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server that is asked for (RFC 6066 §3). With an encrypted ClientHello that is the outer one's.
    pub server_name: ServerName,
    /// The protocols that are offered (RFC 7301 §3.1), those of visible ASCII characters, at most eight.
    pub protocols: Vec<Box<str>>,
}

/// The server that a ClientHello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerName {
    /// It asks for none.
    #[default]
    Absent,
    /// A host's name: letters, digits, hyphens and underscores, in labels.
    Host(Box<str>),
    /// Something else.
    Invalid,
}

impl ClientHello {
    /// What it tells, in words.
    pub fn describe(&self) -> String {
        let mut words = match &self.server_name {
            ServerName::Absent => "no server name".to_owned(),
            ServerName::Host(name) => format!("server name {name}"),
            ServerName::Invalid => "the server name is none".to_owned(),
        };
        for (index, protocol) in self.protocols.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(words, "{}{protocol}", if index == 0 { ", protocols " } else { ", " });
        }
        words
    }
}

/// How far a [`ClientHelloReader`] has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloProgress {
    /// More bytes are needed.
    Incomplete,
    /// It was read.
    Complete(ClientHello),
    /// What came is no ClientHello.
    Unreadable,
    /// It is longer than the limit.
    TooLong,
    /// More of it would have to be kept than there is room for.
    NoRoom,
}

/// Reads a ClientHello from a stream that comes in pieces of any size.
#[derive(Debug, Default)]
pub struct ClientHelloReader {
    record_header: Vec<u8>,
    /// Bytes of the current record that are still to come.
    record_left: usize,
    message: Vec<u8>,
}

impl ClientHelloReader {
    /// Bytes allocated for what is kept.
    pub const fn held_bytes(&self) -> usize {
        self.message.capacity()
    }

    /// Takes the next bytes. `limit` is the longest message in bytes, `room` what may be allocated. After anything but
    /// `Incomplete` there is nothing more to read.
    pub fn handle_data(&mut self, mut data: &[u8], limit: usize, room: usize) -> HelloProgress {
        loop {
            if let Some(length) = self.message_length() {
                let end = length.saturating_add(4);
                if end > limit {
                    return HelloProgress::TooLong;
                }
                if let Some(message) = self.message.get(4..end) {
                    return parse(message).map_or(HelloProgress::Unreadable, HelloProgress::Complete);
                }
            }
            if self.record_left == 0 {
                let Some((&byte, rest)) = data.split_first() else { return HelloProgress::Incomplete };
                data = rest;
                self.record_header.push(byte);
                if let &[kind, major, _, high, low] = &*self.record_header {
                    self.record_left = usize::from(u16::from_be_bytes([high, low]));
                    self.record_header.clear();
                    let is_record = kind == HANDSHAKE && major == 3;
                    if !is_record || !(1..=MAXIMUM_RECORD_LENGTH).contains(&self.record_left) {
                        return HelloProgress::Unreadable;
                    }
                }
                continue;
            }
            if data.is_empty() {
                return HelloProgress::Incomplete;
            }
            // Of the message's own header no more than it has, since that tells how much is wanted.
            let wanted = self.message_length().map_or(4, |length| length.saturating_add(4));
            let taken = data.len().min(self.record_left).min(wanted.saturating_sub(self.message.len()));
            let (piece, rest) = data.split_at_checked(taken).unwrap_or((data, &[]));
            let needed = self.message.len().saturating_add(piece.len());
            if needed > self.message.capacity() {
                if needed > room {
                    return HelloProgress::NoRoom;
                }
                let comfortable = self.message.capacity().saturating_mul(2).min(wanted).min(room);
                self.message.reserve_exact(needed.max(comfortable).saturating_sub(self.message.len()));
            }
            self.message.extend_from_slice(piece);
            self.record_left = self.record_left.saturating_sub(piece.len());
            data = rest;
            if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
                return HelloProgress::Unreadable;
            }
        }
    }

    /// The length that the message's header tells, once it is here.
    fn message_length(&self) -> Option<usize> {
        Reader(self.message.get(1..4)?).number(3)
    }
}

fn parse(message: &[u8]) -> Option<ClientHello> {
    let mut message = Reader(message);
    let mut hello = ClientHello::default();
    // Version and random; session, cipher suites, compression methods.
    message.take(34)?;
    message.vector(1)?;
    message.vector(2)?;
    message.vector(1)?;
    if message.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(message.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = Reader(extensions.vector(2)?);
        match kind {
            SERVER_NAME_EXTENSION => hello.server_name = parse_server_name(content),
            PROTOCOLS_EXTENSION => hello.protocols = parse_protocols(content),
            _ => {}
        }
    }
    Some(hello)
}

fn parse_server_name(mut content: Reader<'_>) -> ServerName {
    let mut name = || {
        let mut names = Reader(content.vector(2)?);
        let is_host = names.number(1)? == 0;
        names.vector(2).filter(|name| is_host && is_host_name(name))
    };
    let name = name().and_then(|name| str::from_utf8(name).ok());
    name.map_or(ServerName::Invalid, |name| ServerName::Host(name.into()))
}

fn is_host_name(name: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(|byte| *byte == b'.').all(is_label)
}

fn parse_protocols(mut content: Reader<'_>) -> Vec<Box<str>> {
    let mut list = Reader(content.vector(2).unwrap_or_default());
    core::iter::from_fn(|| list.vector(1))
        // Those of GREASE (RFC 8701) are bytes; a comma would join two.
        .filter(|name| !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b','))
        .filter_map(|name| str::from_utf8(name).ok())
        .map(Into::into)
        .take(MAXIMUM_PROTOCOLS)
        .collect()
}

/// TLS's presentation language (RFC 8446 §3): big-endian numbers, and vectors behind their length.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of at most three bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
    }

    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 16 << 10;

    fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - length_bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn server_name(name: &[u8]) -> Vec<u8> {
        extension(0, &vector(2, &[&[0][..], &vector(2, name)].concat()))
    }

    fn protocols(names: &[&[u8]]) -> Vec<u8> {
        let names: Vec<_> = names.iter().flat_map(|name| vector(1, name)).collect();
        extension(16, &vector(2, &names))
    }

    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            vec![3; 34],
            vector(1, &[7; 32]),
            vector(2, &[0x13, 1, 0x13, 2]),
            vector(1, &[0]),
            vector(2, &extensions.concat()),
        ];
        [vec![CLIENT_HELLO], vector(3, &body.concat())].concat()
    }

    fn records(message: &[u8], length: usize) -> Vec<u8> {
        message.chunks(length).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect()
    }

    fn read(stream: &[u8]) -> HelloProgress {
        ClientHelloReader::default().handle_data(stream, LIMIT, LIMIT)
    }

    fn described(extensions: &[Vec<u8>]) -> String {
        match read(&records(&message(extensions), 1 << 14)) {
            HelloProgress::Complete(hello) => hello.describe(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn server_name_and_protocols_are_told() {
        assert_eq!(described(&[]), "no server name");
        let named =
            [extension(43, &[2, 3, 4]), server_name(b"chat.example.org"), protocols(&[b"h2", b"http/1.1"])];
        assert_eq!(described(&named), "server name chat.example.org, protocols h2, http/1.1");
    }

    #[test]
    fn a_hello_without_extensions_is_one() {
        let body = [vec![3; 34], vec![0], vector(2, &[0, 47]), vector(1, &[0])].concat();
        let message = [vec![CLIENT_HELLO], vector(3, &body)].concat();
        assert_eq!(read(&records(&message, 100)), HelloProgress::Complete(ClientHello::default()));
    }

    #[test]
    fn only_a_hosts_name_is_told_as_the_servers() {
        let long = [b'a'; 64];
        for name in
            [&b""[..], b"a b", b"a\x1b[2J", b"\xe7\x8c\xaa", b"a..b", b".a", b"a.", b"a/b", b"evil\n", &long]
        {
            assert_eq!(described(&[server_name(name)]), "the server name is none", "{name:?}");
        }
        let many = [b"a.".repeat(127), b"a".to_vec()].concat();
        assert_eq!(described(&[server_name(&many)]), "the server name is none");
        assert_eq!(described(&[extension(0, &[0, 3, 1, 0, 0])]), "the server name is none");
        assert_eq!(described(&[server_name(b"xn--a_b.Example")]), "server name xn--a_b.Example");
    }

    #[test]
    fn only_protocols_of_visible_characters_are_told_and_not_many() {
        let odd = protocols(&[b"\x0a\x0a", b"a b", b"a,b", b"\xff", b"", b"http/1.1"]);
        assert_eq!(described(&[odd]), "no server name, protocols http/1.1");
        let many = protocols(&[&b"x"[..]; 20]);
        assert_eq!(described(&[many]), "no server name, protocols x, x, x, x, x, x, x, x");
    }

    #[test]
    fn what_is_no_client_hello_is_unreadable() {
        for stream in [
            &b"\x16\x03\x01\x00\x00"[..],
            b"\x16\x03\x01\xff\xff",
            b"\x17\x03\x03\x00\x05hello",
            b"\x16\x04\x01\x00\x05",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x",
            b"\x16\x03\x01\x00\x02\x01\x00\x15\x03\x03\x00\x02\x01\x00",
        ] {
            assert_eq!(read(stream), HelloProgress::Unreadable, "{stream:?}");
        }
    }

    #[test]
    fn a_hello_beyond_the_limit_is_refused_by_the_length_that_it_claims() {
        assert_eq!(read(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"), HelloProgress::TooLong);
        let message = message(&[extension(41, &[0; 1_000])]);
        let mut reader = ClientHelloReader::default();
        assert_eq!(
            reader.handle_data(&records(&message, 100), message.len() - 1, LIMIT),
            HelloProgress::TooLong
        );
        assert!(reader.held_bytes() <= 4);
        let mut reader = ClientHelloReader::default();
        assert_eq!(reader.handle_data(&records(&message, 100), LIMIT, 500), HelloProgress::NoRoom);
        assert!(reader.held_bytes() <= 500);
    }

    proptest! {
        #[test]
        fn any_cut_into_segments_and_records_reads_the_same(
            sizes in prop::collection::vec(1_usize..300, 1..20), record in 1_usize..3_000,
        ) {
            let named = [extension(51, &[5; 1_800]), server_name(b"chat.example.org")];
            let stream = records(&message(&named), record);
            let mut reader = ClientHelloReader::default();
            let mut rest = &stream[..];
            let mut sizes = sizes.iter().cycle();
            loop {
                let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                match reader.handle_data(piece, LIMIT, LIMIT) {
                    HelloProgress::Incomplete => rest = behind,
                    HelloProgress::Complete(hello) => {
                        prop_assert_eq!(hello.describe(), "server name chat.example.org");
                        prop_assert!(behind.is_empty());
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0_usize..400, to: u8, cut in 0_usize..400) {
            let named = [server_name(b"chat.example.org"), protocols(&[b"h2", b"http/1.1"])];
            let mut stream = records(&message(&named), 50);
            let at = at % stream.len();
            stream[at] = to;
            stream.truncate(cut.max(1));
            let mut reader = ClientHelloReader::default();
            let _ = reader.handle_data(&stream, LIMIT, LIMIT);
            prop_assert!(reader.held_bytes() <= LIMIT);
        }
    }
}

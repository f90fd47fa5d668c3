//! The head of an HTTP/1.1 request or response (RFC 9112 §2): where it ends, and what it says.
//!
//! Owns the search for its end and the recognition of what is not HTTP/1.1. Must not know what the headers mean.
//! Bounded by the caller's limits on a head's bytes, and by [`MAXIMUM_HEADERS`].

use crate::http2::looks_like_settings;
use crate::record::Header;

/// Header fields of one head. One with more is refused.
pub const MAXIMUM_HEADERS: usize = 1_024;

/// The longest method that is taken for one.
const MAXIMUM_METHOD_LENGTH: usize = 32;

/// Which kind of head is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// Towards the server.
    Request,
    /// Towards the client.
    Response,
}

/// What begins where a head was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A TLS record that holds a handshake.
    Tls,
    /// What a client or a server of HTTP/2 sends first (RFC 9113 §3.4).
    Http2,
    /// Anything else.
    Unknown,
}

/// How far a [`HeadReader`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProgress<'a> {
    /// All bytes were taken; more are needed.
    Incomplete,
    /// The head is whole.
    Complete {
        /// Its bytes, the empty line included; folded fields (RFC 9112 §5.2) are unfolded, in the same length.
        head: &'a [u8],
        /// How many of the bytes given belong to it.
        consumed: usize,
        /// Whether fields were folded.
        folded: bool,
    },
    /// It is longer than the limit.
    TooLong,
    /// More of it would have to be kept than there is room for.
    NoRoom,
    /// It is no HTTP/1.1 head.
    NotHttp(Foreign),
}

/// Finds the end of a head in bytes that come in pieces of any size.
#[derive(Clone, Debug)]
pub struct HeadReader {
    kind: HeadKind,
    /// What came of a head that is not whole, or the last one that was.
    buffer: Vec<u8>,
    complete: bool,
    /// The first line was whole and looked like one of HTTP/1.
    first_line_seen: bool,
}

impl HeadReader {
    /// A reader at the beginning of a head.
    pub const fn new(kind: HeadKind) -> Self {
        Self { kind, buffer: Vec::new(), complete: false, first_line_seen: false }
    }

    /// Bytes allocated for what is kept.
    pub const fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes taken of a head that is not whole.
    pub const fn pending_bytes(&self) -> usize {
        if self.complete { 0 } else { self.buffer.len() }
    }

    /// Lets go of what is kept, and begins a new head.
    pub fn release(&mut self) {
        *self = Self::new(self.kind);
    }

    /// Takes the next bytes; empty lines before a head are taken and left out. `limit` is the longest head in
    /// bytes, `room` what may be allocated for one that comes in pieces. After `Complete`, the next call begins a
    /// new head; after `TooLong`, `NoRoom` and `NotHttp` there is nothing more to read.
    pub fn handle_data<'a>(&'a mut self, data: &'a [u8], limit: usize, room: usize) -> HeadProgress<'a> {
        if self.complete {
            *self = Self::new(self.kind);
        }
        let had = self.buffer.len();
        let blank = if had == 0 { count_blank(data) } else { 0 };
        let data = data.get(blank..).unwrap_or_default();
        if had == 0
            && let Some(end) = find_end(data, 0)
            && let Some(head) = data.get(..end)
        {
            if let Some(foreign) = self.find_foreign(head, 0) {
                return HeadProgress::NotHttp(foreign);
            }
            if end > limit {
                return HeadProgress::TooLong;
            }
            if !is_folded(head) {
                self.first_line_seen = false;
                return HeadProgress::Complete { head, consumed: blank.saturating_add(end), folded: false };
            }
        }
        let taken = limit.saturating_add(1).saturating_sub(had).min(data.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        let needed = had.saturating_add(taken);
        if needed > buffer.capacity() {
            if needed > room {
                return HeadProgress::NoRoom;
            }
            let comfortable = needed.max(buffer.capacity().saturating_mul(2).min(limit).min(room));
            buffer.reserve_exact(comfortable.saturating_sub(had));
        }
        buffer.extend_from_slice(data.get(..taken).unwrap_or(data));
        if let Some(foreign) = self.find_foreign(&buffer, had) {
            return HeadProgress::NotHttp(foreign);
        }
        // The end's first byte may already be here: an end is three bytes at most behind it.
        let end = find_end(&buffer, had.saturating_sub(3));
        if buffer.len() > limit && end.is_none_or(|end| end > limit) {
            return HeadProgress::TooLong;
        }
        self.buffer = buffer;
        let Some(end) = end else { return HeadProgress::Incomplete };
        self.buffer.truncate(end);
        self.complete = true;
        let folded = is_folded(&self.buffer);
        if folded {
            unfold(&mut self.buffer);
        }
        let consumed = blank.saturating_add(end).saturating_sub(had);
        HeadProgress::Complete { head: &self.buffer, consumed, folded }
    }

    /// What the bytes are, where they cannot be the beginning of a head. Those before `looked_at` were looked at.
    fn find_foreign(&mut self, bytes: &[u8], looked_at: usize) -> Option<Foreign> {
        match bytes {
            [] | [0x16] => return None,
            [0x16, 0x03, ..] => return Some(Foreign::Tls),
            _ => {}
        }
        if self.kind == HeadKind::Response {
            if bytes.first() == Some(&0) {
                let is_settings = looks_like_settings(bytes)?;
                return Some(if is_settings { Foreign::Http2 } else { Foreign::Unknown });
            }
            let differs = bytes.iter().zip(b"HTTP/1.").any(|(byte, expected)| byte != expected);
            return differs.then_some(Foreign::Unknown);
        }
        if self.first_line_seen {
            return None;
        }
        if bytes.starts_with(b"PRI * HTTP/2.0") {
            return Some(Foreign::Http2);
        }
        let method =
            bytes.iter().take(MAXIMUM_METHOD_LENGTH).take_while(|byte| is_token_byte(**byte)).count();
        let behind = bytes.get(method);
        if (method == 0 && behind.is_some()) || behind.is_some_and(|byte| *byte != b' ') {
            return Some(Foreign::Unknown);
        }
        let line_end =
            bytes.iter().skip(looked_at).position(|byte| *byte == b'\n')?.checked_add(looked_at)?;
        let line = bytes.get(..line_end).unwrap_or_default().trim_ascii_end();
        let version = line.iter().rposition(|byte| *byte == b' ').and_then(|space| line.get(space..));
        self.first_line_seen = true;
        (!version.is_some_and(|version| version.starts_with(b" HTTP/1."))).then_some(Foreign::Unknown)
    }
}

/// Empty lines before a head, which do not count (RFC 9112 §2.2), in bytes.
fn count_blank(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Where a head ends, behind its empty line, if the empty line's predecessor ends at `from` or later. A line may
/// end in a bare LF (RFC 9112 §2.2).
fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').find_map(|(index, _)| {
        let length = match rest.get(index.saturating_add(1)..)? {
            [b'\n', ..] => 2,
            [b'\r', b'\n', ..] => 3,
            _ => return None,
        };
        from.checked_add(index)?.checked_add(length)
    })
}

fn is_folded(head: &[u8]) -> bool {
    head.windows(2).any(|pair| matches!(pair, [b'\n', b' ' | b'\t']))
}

/// Replaces each fold by spaces, as RFC 9112 §5.2 tells.
fn unfold(head: &mut [u8]) {
    for index in 1..head.len() {
        let Some((before, behind)) = head.split_at_mut_checked(index) else { return };
        if let ([.., carriage_return, line_feed @ b'\n'], [b' ' | b'\t', ..]) = (before, behind) {
            *line_feed = b' ';
            if *carriage_return == b'\r' {
                *carriage_return = b' ';
            }
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Why a head could not be read, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError(pub &'static str);

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a str,
    /// The target, mostly a path.
    pub target: &'a str,
    /// HTTP's minor version: 0 or 1.
    pub version: u8,
    /// Fields in the order in which they were sent.
    pub headers: Vec<Header<'a>>,
    /// What is wrong with it, where it could be read only by leaving malformed fields out.
    pub defect: Option<HeadError>,
}

/// A response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The status code.
    pub status: u16,
    /// The reason phrase; empty where it is not ASCII.
    pub reason: &'a str,
    /// HTTP's minor version: 0 or 1.
    pub version: u8,
    /// Fields in the order in which they were sent.
    pub headers: Vec<Header<'a>>,
    /// What is wrong with it, where it could be read only by leaving malformed fields out.
    pub defect: Option<HeadError>,
}

/// Reads a whole request head, as [`HeadReader`] delivers it.
///
/// # Errors
///
/// The request line is malformed, or there are more than [`MAXIMUM_HEADERS`] fields.
pub fn parse_request(head: &[u8]) -> Result<RequestHead<'_>, HeadError> {
    with_headers(|storage, lenient| {
        let mut request = httparse::Request::new(storage);
        let mut config = httparse::ParserConfig::default();
        config.ignore_invalid_headers_in_requests(lenient);
        let status = config.parse_request(&mut request, head)?;
        let (Some(method), Some(target), Some(version), true) =
            (request.method, request.path, request.version, status.is_complete())
        else {
            return Err(httparse::Error::NewLine);
        };
        let headers = request.headers.iter().map(|header| (header.name, header.value)).collect();
        Ok(RequestHead { method, target, version, headers, defect: None })
    })
    .map(|(head, defect)| RequestHead { defect, ..head })
}

/// Reads a whole response head, as [`HeadReader`] delivers it.
///
/// # Errors
///
/// The status line is malformed, or there are more than [`MAXIMUM_HEADERS`] fields.
pub fn parse_response(head: &[u8]) -> Result<ResponseHead<'_>, HeadError> {
    with_headers(|storage, lenient| {
        let mut response = httparse::Response::new(storage);
        let mut config = httparse::ParserConfig::default();
        config.ignore_invalid_headers_in_responses(lenient);
        let complete = config.parse_response(&mut response, head)?.is_complete();
        let (Some(status), Some(reason), Some(version), true) =
            (response.code, response.reason, response.version, complete)
        else {
            return Err(httparse::Error::NewLine);
        };
        let headers = response.headers.iter().map(|header| (header.name, header.value)).collect();
        Ok(ResponseHead { status, reason, version, headers, defect: None })
    })
    .map(|(head, defect)| ResponseHead { defect, ..head })
}

/// Parses strictly, and then, if need be, with more room and with malformed fields left out.
fn with_headers<'a, T>(
    parse: impl Fn(&mut [httparse::Header<'a>], bool) -> Result<T, httparse::Error>,
) -> Result<(T, Option<HeadError>), HeadError> {
    let mut few = [httparse::EMPTY_HEADER; 64];
    let mut many = Vec::new();
    let mut storage = few.as_mut_slice();
    let mut result = parse(storage, false);
    if result.as_ref().is_err_and(|error| *error == httparse::Error::TooManyHeaders) {
        many.resize(MAXIMUM_HEADERS, httparse::EMPTY_HEADER);
        storage = many.as_mut_slice();
        result = parse(storage, false);
    }
    let error = match result {
        Ok(head) => return Ok((head, None)),
        Err(error) => HeadError(describe(error)),
    };
    if many.is_empty() {
        many.resize(MAXIMUM_HEADERS, httparse::EMPTY_HEADER);
    }
    match parse(&mut many, true) {
        Ok(head) => Ok((head, Some(error))),
        Err(error) => Err(HeadError(describe(error))),
    }
}

const fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid header name",
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status code",
        httparse::Error::Token => "invalid request line",
        httparse::Error::TooManyHeaders => "too many headers",
        httparse::Error::Version => "invalid HTTP version",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1_000;

    fn read(kind: HeadKind, data: &[u8]) -> HeadProgress<'static> {
        let mut reader = HeadReader::new(kind);
        match reader.handle_data(data, LIMIT, 2 * LIMIT) {
            HeadProgress::Complete { head, consumed, folded } => {
                HeadProgress::Complete { head: head.to_vec().leak(), consumed, folded }
            }
            HeadProgress::Incomplete => HeadProgress::Incomplete,
            HeadProgress::TooLong => HeadProgress::TooLong,
            HeadProgress::NoRoom => HeadProgress::NoRoom,
            HeadProgress::NotHttp(foreign) => HeadProgress::NotHttp(foreign),
        }
    }

    #[test]
    fn what_is_behind_a_head_is_not_taken() {
        let progress = read(HeadKind::Request, b"GET / HTTP/1.1\r\nA: b\r\n\r\n\x81\x00");
        let HeadProgress::Complete { head, consumed, folded: false } = progress else {
            panic!("{progress:?}")
        };
        assert_eq!((head, consumed), (&b"GET / HTTP/1.1\r\nA: b\r\n\r\n"[..], 24));
    }

    #[test]
    fn empty_lines_before_a_head_and_bare_line_feeds_are_borne() {
        let progress = read(HeadKind::Request, b"\r\n\nGET /x HTTP/1.1\nA: b\n\nrest");
        let HeadProgress::Complete { head, .. } = progress else { panic!("{progress:?}") };
        let request = parse_request(head).unwrap();
        assert_eq!((request.method, request.target, request.version), ("GET", "/x", 1));
        assert_eq!(request.headers, [("A", &b"b"[..])]);
    }

    #[test]
    fn a_slow_head_costs_no_more_than_its_bytes() {
        let start = std::time::Instant::now();
        let mut reader = HeadReader::new(HeadKind::Request);
        assert_eq!(reader.handle_data(b"GET ", 1 << 20, 1 << 20), HeadProgress::Incomplete);
        for _ in 0..200_000 {
            assert_eq!(reader.handle_data(b"x", 1 << 20, 1 << 20), HeadProgress::Incomplete);
        }
        // Looking at everything again for each byte would take minutes.
        assert!(start.elapsed() < std::time::Duration::from_secs(10));
    }

    #[test]
    fn a_head_without_fields_is_one() {
        let progress = read(HeadKind::Response, b"HTTP/1.1 400 \r\n\r\n");
        let HeadProgress::Complete { head, .. } = progress else { panic!("{progress:?}") };
        assert_eq!(parse_response(head).unwrap().status, 400);
    }

    #[test]
    fn folded_fields_are_unfolded() {
        let progress = read(HeadKind::Request, b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\td\nE: f\n\n");
        let HeadProgress::Complete { head, folded: true, .. } = progress else { panic!("{progress:?}") };
        let request = parse_request(head).unwrap();
        assert_eq!(request.headers, [("A", &b"b   c  \td"[..]), ("E", &b"f"[..])]);
    }

    #[test]
    fn a_reader_reads_one_head_after_another() {
        let mut reader = HeadReader::new(HeadKind::Request);
        assert_eq!(reader.handle_data(b"GET /a HT", LIMIT, 2 * LIMIT), HeadProgress::Incomplete);
        assert!(matches!(
            reader.handle_data(b"TP/1.1\r\n\r\nGET", LIMIT, 2 * LIMIT),
            HeadProgress::Complete { head: b"GET /a HTTP/1.1\r\n\r\n", consumed: 10, .. }
        ));
        assert!(matches!(
            reader.handle_data(b"GET /b HTTP/1.1\r\n\r\n", LIMIT, 2 * LIMIT),
            HeadProgress::Complete { head: b"GET /b HTTP/1.1\r\n\r\n", .. }
        ));
    }

    #[test]
    fn a_head_beyond_the_limit_is_too_long_in_one_piece_and_in_many() {
        let head = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'x'; LIMIT], b"\r\n\r\n"].concat();
        assert_eq!(read(HeadKind::Request, &head), HeadProgress::TooLong);
        let mut reader = HeadReader::new(HeadKind::Request);
        let last =
            head.chunks(7).map(|piece| reader.handle_data(piece, LIMIT, 2 * LIMIT) == HeadProgress::TooLong);
        assert_eq!(last.take_while(|too_long| !too_long).count(), LIMIT / 7);
        assert_eq!(reader.held_bytes(), 0);
    }

    #[test]
    fn only_a_head_in_pieces_needs_room() {
        let head = b"GET / HTTP/1.1\r\n\r\n";
        let mut reader = HeadReader::new(HeadKind::Request);
        assert!(matches!(reader.handle_data(head, LIMIT, 0), HeadProgress::Complete { .. }));
        assert_eq!(reader.held_bytes(), 0);
        assert_eq!(reader.handle_data(&head[..10], LIMIT, 10), HeadProgress::Incomplete);
        assert_eq!((reader.held_bytes(), reader.pending_bytes()), (10, 10));
        assert_eq!(reader.handle_data(&head[10..], LIMIT, 10), HeadProgress::NoRoom);
        assert_eq!(reader.held_bytes(), 0);
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_read() {
        let start = b"GET / HTTP/1.1\r\nA: ".as_slice();
        let head = [start, &vec![b'x'; LIMIT - start.len() - 4], b"\r\n\r\n"].concat();
        let behind = [head.as_slice(), b"more"].concat();
        for pieces in [LIMIT + 4, 7] {
            let mut reader = HeadReader::new(HeadKind::Request);
            let complete = behind.chunks(pieces).any(|piece| {
                matches!(reader.handle_data(piece, LIMIT, 2 * LIMIT), HeadProgress::Complete { .. })
            });
            assert!(complete, "in pieces of {pieces}");
        }
    }

    #[test]
    fn tls_is_recognised_by_its_first_two_bytes_in_both_directions() {
        for kind in [HeadKind::Request, HeadKind::Response] {
            assert_eq!(read(kind, b"\x16\x03\x01\x02\x00\x01"), HeadProgress::NotHttp(Foreign::Tls));
        }
        let mut reader = HeadReader::new(HeadKind::Request);
        assert_eq!(reader.handle_data(b"\x16", LIMIT, 2 * LIMIT), HeadProgress::Incomplete);
        assert_eq!(reader.handle_data(b"\x03", LIMIT, 2 * LIMIT), HeadProgress::NotHttp(Foreign::Tls));
    }

    #[test]
    fn http_2_is_recognised_by_its_preface() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert_eq!(read(HeadKind::Request, preface), HeadProgress::NotHttp(Foreign::Http2));
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x08\0\0\0\x01";
        assert_eq!(read(HeadKind::Response, settings), HeadProgress::NotHttp(Foreign::Http2));
        assert_eq!(read(HeadKind::Response, &settings[..8]), HeadProgress::Incomplete);
        assert_eq!(read(HeadKind::Response, b"\0\0\x05"), HeadProgress::NotHttp(Foreign::Unknown));
    }

    #[test]
    fn other_protocols_are_recognised_as_not_http_before_a_head_would_end() {
        for start in [
            b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(),
            b"*1\r\n$4\r\n",
            b"\x81\x05Hello",
            b"\x00",
            b"GET /\r\n",
            b"a-method-that-is-far-too-long-for-one",
        ] {
            assert_eq!(read(HeadKind::Request, start), HeadProgress::NotHttp(Foreign::Unknown));
        }
        for start in [b"220 ready\r\n".as_slice(), b"HTTP/2 200\r\n", b"\x81\x05Hello"] {
            assert_eq!(read(HeadKind::Response, start), HeadProgress::NotHttp(Foreign::Unknown));
        }
    }

    #[test]
    fn many_fields_are_read_up_to_the_bound() {
        let with = |count: usize| {
            [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(count), b"\r\n".to_vec()].concat()
        };
        for count in [64, 65, 257, MAXIMUM_HEADERS] {
            let head = with(count);
            let request = parse_request(&head).unwrap();
            assert_eq!((request.headers.len(), request.defect), (count, None));
        }
        assert_eq!(parse_request(&with(MAXIMUM_HEADERS + 1)), Err(HeadError("too many headers")));
    }

    #[test]
    fn a_malformed_field_is_left_out_and_told() {
        let request = parse_request(b"GET / HTTP/1.1\r\nbad field: x\r\nA: b\r\n\r\n").unwrap();
        assert_eq!(request.headers, [("A", &b"b"[..])]);
        assert_eq!(request.defect, Some(HeadError("invalid header name")));
        let response = parse_response(b"HTTP/1.1 101 Switching\r\n(x): y\r\nA: b\r\n\r\n").unwrap();
        assert_eq!(response.headers, [("A", &b"b"[..])]);
        assert!(response.defect.is_some());
    }

    #[test]
    fn a_value_need_not_be_utf_8() {
        let request = parse_request(b"GET / HTTP/1.1\r\nA: \xff\xfe\r\n\r\n").unwrap();
        assert_eq!(request.headers, [("A", &b"\xff\xfe"[..])]);
    }

    proptest! {
        #[test]
        fn any_split_of_a_head_gives_the_same_head(
            sizes in proptest::collection::vec(1usize..12, 1..60), folded: bool, lines in 0usize..5,
        ) {
            let fold: &[u8] = if folded { b"\r\n b" } else { b"" };
            let head = [
                b"\r\n".repeat(lines / 3), b"GET /chat HTTP/1.1\r\n".to_vec(), b"Name: value".to_vec(),
                fold.to_vec(), b"\r\n".to_vec(), b"Other:x\r\n".repeat(lines), b"\r\n".to_vec(),
            ].concat();
            let expected = read(HeadKind::Request, &head);
            let HeadProgress::Complete { head: expected, consumed, .. } = expected else { panic!("{expected:?}") };
            prop_assert_eq!(consumed, head.len());
            let stream = [head.as_slice(), b"\x81\x00behind"].concat();
            let mut reader = HeadReader::new(HeadKind::Request);
            let mut rest = stream.as_slice();
            let mut taken = 0;
            for size in sizes.iter().cycle() {
                let (piece, behind) = rest.split_at((*size).min(rest.len()));
                rest = behind;
                match reader.handle_data(piece, LIMIT, 2 * LIMIT) {
                    HeadProgress::Incomplete => taken += piece.len(),
                    HeadProgress::Complete { head: found, consumed, .. } => {
                        prop_assert_eq!(found, expected);
                        prop_assert_eq!(taken + consumed, head.len());
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }

        #[test]
        fn random_bytes_never_panic_and_are_not_held_beyond_the_limit(
            start in prop_oneof![Just(""), Just("GET / HTTP/1.1\r\n"), Just("HTTP/1.1 101 x\r\n")],
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
        ) {
            for kind in [HeadKind::Request, HeadKind::Response] {
                let mut reader = HeadReader::new(kind);
                for piece in std::iter::once(start.as_bytes().to_vec()).chain(pieces.clone()) {
                    match reader.handle_data(&piece, 100, 200) {
                        HeadProgress::Incomplete => {}
                        HeadProgress::Complete { head, consumed, .. } => {
                            prop_assert!(consumed <= piece.len() && head.len() <= 100);
                            let _ = (parse_request(head), parse_response(head));
                        }
                        _ => break,
                    }
                    prop_assert!(reader.held_bytes() <= 101);
                }
            }
        }
    }
}

//! The body behind a head (RFC 9112 §6, §7.1): where it ends.
//!
//! Owns how its length is told and the stepping over it. Must not know what a body holds: nothing of it is kept.
//! Bounded: plain values, whatever the lengths that a peer claims.

use crate::http::head::HeadError;
use crate::record::Header;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, up to the last one and the trailer.
    Chunked(Chunked),
    /// All up to the end of the stream.
    UntilClose,
}

/// Which request an answer answers, as far as it decides about the answer's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: no answer to it has a body.
    Head,
    /// CONNECT: behind a 2xx, a tunnel begins.
    Connect,
    /// Anything else, or nobody knows.
    #[default]
    Other,
}

impl Asked {
    /// From a request's method.
    pub fn from_method(method: &str) -> Self {
        match method {
            "HEAD" => Self::Head,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// Place within a chunked body (RFC 9112 §7.1). A line may end in a bare LF, as everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// In a chunk's size, as far as it was read; `None` before its first digit.
    Size(Option<u64>),
    /// Behind a chunk's size, up to the end of the line.
    Extension(u64),
    /// In a chunk's data, of which so many bytes are left.
    Data(u64),
    /// Before the line end behind a chunk's data; `true` behind its CR.
    DataEnd(bool),
    /// In the trailer: the bytes of the line so far, its CR left out, no further than 1.
    Trailer(u8),
}

/// What became of bytes given to a [`Body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProgress {
    /// All of them belong to it, and more will come.
    Inside,
    /// It has ended; so many of them belong to it.
    Ended(usize),
    /// They cannot be chunks.
    Malformed,
}

impl Body {
    /// No body.
    pub const NONE: Self = Self::Length(0);

    /// A request's body.
    ///
    /// # Errors
    ///
    /// Its length cannot be told.
    pub fn of_request(headers: &[Header<'_>]) -> Result<Self, HeadError> {
        match is_last_coding_chunked(headers) {
            Some(true) => Ok(Self::Chunked(Chunked::START)),
            Some(false) => Err(HeadError("Transfer-Encoding of a request does not end in chunked")),
            None => Ok(content_length(headers)?.map_or(Self::NONE, Self::Length)),
        }
    }

    /// An answer's body.
    ///
    /// # Errors
    ///
    /// Its length cannot be told.
    pub fn of_answer(status: u16, headers: &[Header<'_>], asked: Asked) -> Result<Self, HeadError> {
        let has_none = matches!(status, 100..=199 | 204 | 304)
            || asked == Asked::Head
            || (asked == Asked::Connect && (200..300).contains(&status));
        if has_none {
            return Ok(Self::NONE);
        }
        match is_last_coding_chunked(headers) {
            Some(true) => Ok(Self::Chunked(Chunked::START)),
            Some(false) => Ok(Self::UntilClose),
            None => Ok(content_length(headers)?.map_or(Self::UntilClose, Self::Length)),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn handle_data(&mut self, data: &[u8]) -> BodyProgress {
        match self {
            Self::UntilClose => BodyProgress::Inside,
            Self::Length(left) => {
                let taken = take(left, data);
                if *left == 0 { BodyProgress::Ended(taken) } else { BodyProgress::Inside }
            }
            Self::Chunked(chunked) => {
                let progress = chunked.handle_data(data);
                if let BodyProgress::Ended(_) = progress {
                    *self = Self::NONE;
                }
                progress
            }
        }
    }

    /// Takes a hole of `length` bytes; returns whether the place behind it is known.
    pub const fn handle_gap(&mut self, length: u64) -> bool {
        let left = match self {
            Self::UntilClose => return true,
            Self::Length(left) | Self::Chunked(Chunked::Data(left)) => left,
            Self::Chunked(_) => return false,
        };
        match left.checked_sub(length) {
            Some(rest) => *left = rest,
            None => return false,
        }
        true
    }
}

/// Takes from `data` what is left of a length; returns how many bytes that is.
fn take(left: &mut u64, data: &[u8]) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
    *left = left.saturating_sub(taken as u64);
    taken
}

impl Chunked {
    /// Before the first chunk.
    pub const START: Self = Self::Size(None);

    fn handle_data(&mut self, data: &[u8]) -> BodyProgress {
        let mut position = 0;
        while let Some((&byte, rest)) = data.get(position..).and_then(<[u8]>::split_first) {
            if let Self::Data(left @ 1..) = self {
                position += take(left, data.get(position..).unwrap_or_default());
                continue;
            }
            let Some(next) = self.step(byte) else { return BodyProgress::Malformed };
            position = data.len().saturating_sub(rest.len());
            match next {
                Some(next) => *self = next,
                None => return BodyProgress::Ended(position),
            }
        }
        BodyProgress::Inside
    }

    /// Takes one byte outside of a chunk's data: the place behind it, `Some(None)` behind the body, or `None` where
    /// it cannot stand here.
    fn step(self, byte: u8) -> Option<Option<Self>> {
        let next = match (self, byte) {
            (Self::Size(Some(size)) | Self::Extension(size), b'\n') => match size {
                0 => Self::Trailer(0),
                _ => Self::Data(size),
            },
            (Self::Size(size), _) => match (char::from(byte).to_digit(16), size) {
                (Some(digit), size) => {
                    Self::Size(Some(size.unwrap_or(0).checked_mul(16)?.checked_add(u64::from(digit))?))
                }
                (None, Some(size)) if matches!(byte, b';' | b' ' | b'\t' | b'\r') => Self::Extension(size),
                (None, _) => return None,
            },
            (Self::Extension(_), _) => self,
            (Self::Data(_) | Self::DataEnd(false), b'\r') => Self::DataEnd(true),
            (Self::Data(_) | Self::DataEnd(_), b'\n') => Self::START,
            (Self::Data(_) | Self::DataEnd(_), _) => return None,
            (Self::Trailer(0), b'\n') => return Some(None),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(0), b'\r') => self,
            (Self::Trailer(_), _) => Self::Trailer(1),
        };
        Some(Some(next))
    }
}

/// Whether the last transfer coding is chunked; `None` where there is no coding.
fn is_last_coding_chunked(headers: &[Header<'_>]) -> Option<bool> {
    let last = values(headers, "transfer-encoding").last()?;
    let last = last.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// `Content-Length`, which may be repeated with the same value (RFC 9110 §8.6).
fn content_length(headers: &[Header<'_>]) -> Result<Option<u64>, HeadError> {
    let mut result = None;
    for value in values(headers, "content-length").flat_map(|value| value.split(|byte| *byte == b',')) {
        let digits = str::from_utf8(value.trim_ascii()).unwrap_or_default();
        let length = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(length) = length.and_then(|digits| digits.parse().ok()) else {
            return Err(HeadError("Content-Length is not a number of bytes"));
        };
        if result.replace(length).is_some_and(|before| before != length) {
            return Err(HeadError("Content-Length is repeated with another value"));
        }
    }
    Ok(result)
}

fn values<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKED: Header<'_> = ("Transfer-Encoding", b"gzip, Chunked");
    const BODY: &[u8] =
        b"4;name=\"v\"\r\nwiki\r\n0A \r\n0123456789\r\n1\nx\n000\r\nTrailer: y\r\nOther: z\r\n\r\n";

    fn length(of: &str) -> Result<Body, HeadError> {
        Body::of_request(&[("Content-Length", of.as_bytes())])
    }

    #[test]
    fn a_request_has_a_body_only_where_it_says_so() {
        assert_eq!(Body::of_request(&[]), Ok(Body::NONE));
        assert_eq!(length("7"), Ok(Body::Length(7)));
        assert_eq!(Body::of_request(&[CHUNKED, ("Content-Length", b"7")]), Ok(Body::Chunked(Chunked::START)));
        assert!(Body::of_request(&[("transfer-encoding", b"gzip")]).is_err());
    }

    #[test]
    fn an_answer_without_a_length_lasts_until_the_stream_ends() {
        assert_eq!(Body::of_answer(200, &[], Asked::Other), Ok(Body::UntilClose));
        assert_eq!(
            Body::of_answer(200, &[("Transfer-Encoding", b"gzip")], Asked::Other),
            Ok(Body::UntilClose)
        );
        assert_eq!(Body::of_answer(200, &[CHUNKED], Asked::Other), Ok(Body::Chunked(Chunked::START)));
    }

    #[test]
    fn some_answers_have_no_body_whatever_length_they_tell() {
        for (status, asked) in [
            (100, Asked::Other),
            (204, Asked::Other),
            (304, Asked::Other),
            (200, Asked::Head),
            (404, Asked::Head),
            (200, Asked::Connect),
        ] {
            assert_eq!(Body::of_answer(status, &[("Content-Length", b"9")], asked), Ok(Body::NONE));
        }
        assert_eq!(Body::of_answer(403, &[("Content-Length", b"9")], Asked::Connect), Ok(Body::Length(9)));
    }

    #[test]
    fn a_length_is_digits_and_may_be_repeated() {
        assert_eq!(length("7, 7"), Ok(Body::Length(7)));
        for wrong in ["", "+7", "7, 8", "0x7", "99999999999999999999"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_chunks_is_told() {
        for wrong in [&b"\r\n"[..], b"g\r\n", b"1\r\nxy", b"11111111111111111\r\n", b"-1\r\n"] {
            let mut body = Body::Chunked(Chunked::START);
            assert_eq!(body.handle_data(wrong), BodyProgress::Malformed, "{wrong:?}");
        }
    }

    #[test]
    fn a_hole_within_a_chunk_leaves_the_place_known() {
        let mut body = Body::Chunked(Chunked::START);
        assert_eq!(body.handle_data(b"a\r\n012"), BodyProgress::Inside);
        assert!(body.handle_gap(7));
        assert_eq!(body.handle_data(b"\r\n0\r\n\r\nnext"), BodyProgress::Ended(7));
        let mut body = Body::Chunked(Chunked::START);
        body.handle_data(b"a\r\n012");
        assert!(!body.handle_gap(8));
        assert!(!Body::Chunked(Chunked::START).handle_gap(1));
    }

    proptest! {
        #[test]
        fn a_chunked_body_ends_at_the_same_byte_however_it_is_split(
            sizes in proptest::collection::vec(1usize..9, 1..60),
        ) {
            let stream = [BODY, b"HTTP/1.1 101"].concat();
            let mut body = Body::Chunked(Chunked::START);
            let mut taken = 0;
            for size in sizes.iter().cycle() {
                let piece = &stream[taken..(taken + size).min(stream.len())];
                match body.handle_data(piece) {
                    BodyProgress::Inside => taken += piece.len(),
                    BodyProgress::Ended(of_body) => {
                        prop_assert_eq!(taken + of_body, BODY.len());
                        prop_assert_eq!(body, Body::NONE);
                        break;
                    }
                    BodyProgress::Malformed => panic!("malformed at {taken}"),
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..20)) {
            let mut body = Body::Chunked(Chunked::START);
            for piece in pieces {
                if body.handle_data(&piece) != BodyProgress::Inside {
                    break;
                }
            }
        }
    }
}

//! A payload with holes as a sequence of what is known and what is missing.
//!
//! Owns the arithmetic between offsets of the whole payload and of the known bytes. Must not know any format.
//! Bounded by the payload, which it borrows.

use observer_core::record::Payload;

/// A part of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes that are known.
    Known(&'a [u8]),
    /// Bytes that are not; `None` where nobody knows how many.
    Missing(Option<u64>),
}

/// The parts of `payload` in order, none of them an empty run of known bytes.
pub fn pieces<'a>(payload: &Payload<'a>) -> impl Iterator<Item = Piece<'a>> {
    let mut known = payload.known;
    let mut missing = payload.missing.iter();
    let mut offset: u64 = 0;
    let mut pending = None;
    let mut exhausted = false;
    std::iter::from_fn(move || {
        if let Some(hole) = pending.take() {
            return Some(hole);
        }
        let (length, hole) = match missing.next() {
            Some(hole) => {
                let length = usize::try_from(hole.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
                offset = hole.offset.saturating_add(hole.length.unwrap_or(0));
                (length.min(known.len()), Some(Piece::Missing(hole.length)))
            }
            None if exhausted => return None,
            None => {
                exhausted = true;
                (known.len(), None)
            }
        };
        let (piece, rest) = known.split_at(length);
        known = rest;
        if piece.is_empty() {
            return hole;
        }
        pending = hole;
        Some(Piece::Known(piece))
    })
}

/// How many bytes are known to be missing, and whether more may be.
pub fn missing_bytes(payload: &Payload<'_>) -> (u64, bool) {
    let bytes = payload.missing.iter().filter_map(|hole| hole.length).fold(0, u64::saturating_add);
    (bytes, payload.missing.iter().any(|hole| hole.length.is_none()))
}

#[cfg(test)]
mod tests {
    use observer_core::record::Missing;

    use super::*;

    fn split(known: &'static [u8], missing: &[Missing]) -> Vec<Piece<'static>> {
        pieces(&Payload { known, missing: Box::leak(missing.into()), text: None, undecoded: None }).collect()
    }

    const fn hole(offset: u64, length: Option<u64>) -> Missing {
        Missing { offset, length }
    }

    #[test]
    fn a_whole_payload_is_one_piece_and_an_empty_one_none() {
        assert_eq!(split(b"abc", &[]), [Piece::Known(b"abc")]);
        assert_eq!(split(b"", &[]), []);
    }

    #[test]
    fn holes_stand_where_they_are() {
        assert_eq!(
            split(b"abcd", &[hole(0, Some(2)), hole(4, Some(1)), hole(7, None)]),
            [
                Piece::Missing(Some(2)),
                Piece::Known(b"ab"),
                Piece::Missing(Some(1)),
                Piece::Known(b"cd"),
                Piece::Missing(None)
            ]
        );
    }

    #[test]
    fn an_offset_that_cannot_be_is_no_reason_to_lose_bytes() {
        let pieces = split(b"ab", &[hole(u64::MAX, Some(9)), hole(3, Some(1))]);
        assert_eq!(pieces, [Piece::Known(b"ab"), Piece::Missing(Some(9)), Piece::Missing(Some(1))]);
    }
}

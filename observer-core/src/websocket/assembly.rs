//! Payload that arrives piece by piece, perhaps with holes.
//!
//! Owns the bookkeeping of what is known and what is missing. Must not know frames. Bounded by [`Held`]: what
//! exceeds a bound is not kept but named as missing.

use crate::limits::{Limit, Limits};
use crate::record::{Missing, Payload};
use crate::websocket::mask;

/// The bounds of unfinished payload, and how much of it all connections together hold.
#[derive(Debug)]
pub(super) struct Held {
    /// As in [`Limits`].
    pub message_bytes: usize,
    message_total_bytes: usize,
    message_holes: usize,
    /// Allocated now, in bytes.
    pub bytes: usize,
}

impl Held {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            message_bytes: limits.message_bytes,
            message_total_bytes: limits.message_total_bytes,
            message_holes: limits.message_holes,
            bytes: 0,
        }
    }
}

/// What becomes of further payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// It is kept.
    All,
    /// A bound was reached: it is missing.
    NoMore,
    /// It is not the application's: neither kept nor missing.
    Nothing,
}

/// One payload, as far as it has come.
#[derive(Debug)]
pub(super) struct Assembly {
    known: Vec<u8>,
    missing: Vec<Missing>,
    /// Position within the whole payload; a hole of unknown length counts as empty.
    offset: u64,
    keep: Keep,
    /// Whether the last hole reaches up to the end, wherever that is.
    is_rest_missing: bool,
}

/// The known bytes between two holes.
struct Run<'a> {
    bytes: &'a [u8],
    behind_hole: bool,
    before_hole: bool,
}

/// What known bytes are as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextCheck {
    /// All valid UTF-8.
    Valid,
    /// Valid but for characters that a hole cuts.
    Cut,
    /// Not UTF-8, whatever the holes hold.
    Invalid,
}

impl Assembly {
    pub(super) const fn new() -> Self {
        Self { known: Vec::new(), missing: Vec::new(), offset: 0, keep: Keep::All, is_rest_missing: false }
    }

    /// A payload whose bytes are not the application's: only counted.
    pub(super) const fn counting() -> Self {
        let mut it = Self::new();
        it.keep = Keep::Nothing;
        it
    }

    /// A payload whose beginning was not seen.
    pub(super) fn without_start() -> Self {
        Self { missing: vec![Missing { offset: 0, length: None }], ..Self::new() }
    }

    /// Takes the next bytes. `mask` is the key and the offset of the first byte within its frame's payload.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        mask: Option<([u8; 4], u64)>,
        held: &mut Held,
    ) -> Option<Limit> {
        match self.keep {
            Keep::All => {}
            Keep::NoMore => return self.skip(bytes.len() as u64, held),
            Keep::Nothing => {
                self.offset = self.offset.saturating_add(bytes.len() as u64);
                return None;
            }
        }
        let (room, limit) = self.make_room(bytes.len(), held);
        let (kept, dropped) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        match mask {
            Some((key, offset)) => mask::append_unmasked(key, offset, kept, &mut self.known),
            None => self.known.extend_from_slice(kept),
        }
        self.offset = self.offset.saturating_add(kept.len() as u64);
        if dropped.is_empty() {
            return None;
        }
        self.skip(dropped.len() as u64, held);
        self.keep = Keep::NoMore;
        Some(limit)
    }

    /// Allocates for `wanted` more bytes within the bounds; returns how many fit, and which bound would be at fault.
    fn make_room(&mut self, wanted: usize, held: &mut Held) -> (usize, Limit) {
        let length = self.known.len();
        let capacity = self.known.capacity();
        let in_message = wanted.min(held.message_bytes.saturating_sub(length));
        let needed = length.saturating_add(in_message);
        if needed <= capacity {
            return (in_message, Limit::Message);
        }
        let left = held.message_total_bytes.saturating_sub(held.bytes.saturating_sub(capacity));
        let comfortable = needed.max(capacity.saturating_mul(2)).min(held.message_bytes);
        let target = comfortable.min(capacity.max(left / Limits::SHARES));
        self.known.reserve_exact(target.saturating_sub(length));
        held.bytes = held.bytes.saturating_add(self.known.capacity().saturating_sub(capacity));
        if target >= needed {
            (in_message, Limit::Message)
        } else {
            (target.saturating_sub(length), Limit::MessageTotal)
        }
    }

    /// Whether it takes room.
    pub(super) const fn holds_bytes(&self) -> bool {
        self.known.capacity() > 0
    }

    /// Lets go of what is known: it is missing, and what comes is kept again.
    pub(super) fn give_up(&mut self, held: &mut Held) {
        if !self.holds_bytes() {
            return;
        }
        held.bytes = held.bytes.saturating_sub(self.known.capacity());
        self.known = Vec::new();
        if self.offset > 0 {
            let is_known = self.missing.iter().all(|hole| hole.length.is_some());
            self.missing.clear();
            self.missing.push(Missing { offset: 0, length: is_known.then_some(self.offset) });
            if !is_known {
                // Offsets count from what is seen first of it.
                self.offset = 0;
            }
        }
    }

    /// The next `length` bytes are missing.
    pub(super) fn skip(&mut self, length: u64, held: &Held) -> Option<Limit> {
        if length == 0 {
            return None;
        }
        self.add_hole(Some(length), held)
    }

    /// An unknown number of bytes is missing, up to the end.
    pub(super) fn skip_rest(&mut self, held: &Held) -> Option<Limit> {
        self.add_hole(None, held)
    }

    fn add_hole(&mut self, length: Option<u64>, held: &Held) -> Option<Limit> {
        let offset = self.offset;
        if self.keep == Keep::Nothing {
            // Offsets of the application's payload cannot be told from those on the wire.
            if self.missing.is_empty() {
                self.missing.push(Missing { offset: 0, length: None });
            }
            self.offset = offset.saturating_add(length.unwrap_or(0));
            return None;
        }
        if self.is_rest_missing {
            return None;
        }
        self.is_rest_missing = length.is_none();
        let full = self.missing.len() >= held.message_holes;
        let Some(last) = self.missing.last_mut() else {
            self.missing.push(Missing { offset, length });
            self.offset = offset.saturating_add(length.unwrap_or(0));
            return None;
        };
        let touches = last.offset.saturating_add(last.length.unwrap_or(0)) == offset;
        if !touches && !full {
            self.missing.push(Missing { offset, length });
            self.offset = offset.saturating_add(length.unwrap_or(0));
            return None;
        }
        match (last.length, length) {
            (Some(_), Some(length)) => {
                self.offset = offset.saturating_add(length);
                last.length = Some(self.offset.saturating_sub(last.offset));
            }
            _ => last.length = None,
        }
        if touches || self.keep == Keep::NoMore {
            return None;
        }
        self.known.truncate(self.known_before_last_hole());
        self.keep = Keep::NoMore;
        Some(Limit::MessageHoles)
    }

    fn known_before_last_hole(&self) -> usize {
        let Some((last, earlier)) = self.missing.split_last() else { return self.known.len() };
        let holes: u64 = earlier.iter().filter_map(|hole| hole.length).fold(0, u64::saturating_add);
        usize::try_from(last.offset.saturating_sub(holes)).unwrap_or(usize::MAX)
    }

    fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut rest = self.known.as_slice();
        let mut position = 0;
        let mut holes = self.missing.iter();
        let mut behind_hole = false;
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let hole = holes.next();
            let length = match hole {
                Some(hole) => usize::try_from(hole.offset.saturating_sub(position)).unwrap_or(usize::MAX),
                None => rest.len(),
            };
            let (bytes, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let run = Run { bytes, behind_hole, before_hole: hole.is_some() };
            rest = behind;
            behind_hole = true;
            match hole {
                Some(hole) => position = hole.offset.saturating_add(hole.length.unwrap_or(0)),
                None => ended = true,
            }
            Some(run)
        })
    }

    /// Looks at the known bytes as text, once.
    pub(super) fn check_text(&self) -> TextCheck {
        self.runs().map(|run| check_run(&run)).max_by_key(|check| *check as u8).unwrap_or(TextCheck::Valid)
    }

    /// Where a bound of the observer cut a character, forgets what is left of it, so that the text stays one.
    pub(super) fn trim_to_character(&mut self) {
        if self.keep != Keep::NoMore {
            return;
        }
        let kept = self.known_before_last_hole();
        let cut = match self.known.get(..kept).map(str::from_utf8) {
            Some(Err(error)) if error.error_len().is_none() => kept.saturating_sub(error.valid_up_to()),
            _ => return,
        };
        if kept != self.known.len() {
            return;
        }
        self.known.truncate(kept.saturating_sub(cut));
        if let Some(last) = self.missing.last_mut() {
            last.offset = last.offset.saturating_sub(cut as u64);
            last.length = last.length.map(|length| length.saturating_add(cut as u64));
        }
    }

    /// The known bytes, one behind the other.
    pub(super) fn known(&self) -> &[u8] {
        &self.known
    }

    /// The payload as a record shows it, without text.
    pub(super) fn payload(&self) -> Payload<'_> {
        Payload { known: &self.known, missing: &self.missing, text: None, undecoded: None }
    }

    /// The length of the whole payload, where it is known once everything has come.
    pub(super) fn length(&self) -> Option<u64> {
        let counted = self.keep != Keep::Nothing && self.missing.iter().all(|hole| hole.length.is_some());
        counted.then_some(self.offset)
    }

    /// The known bytes up to the first hole.
    pub(super) fn known_start(&self) -> &[u8] {
        self.runs().next().map_or(&[], |run| run.bytes)
    }

    /// Gives back what it holds.
    pub(super) fn release(&self, held: &mut Held) {
        held.bytes = held.bytes.saturating_sub(self.known.capacity());
    }
}

fn check_run(run: &Run<'_>) -> TextCheck {
    check_piece(run.bytes, run.behind_hole, run.before_hole)
}

/// Looks at a part of a text, whose first and last character may be cut.
pub(super) fn check_piece(bytes: &[u8], cut_before: bool, cut_behind: bool) -> TextCheck {
    let Err(error) = str::from_utf8(bytes) else { return TextCheck::Valid };
    let cut = match cut_before {
        true => bytes.iter().take(3).take_while(|byte| (0x80..0xc0).contains(*byte)).count(),
        false => 0,
    };
    let error = match cut {
        0 => Some(error),
        _ => str::from_utf8(bytes.get(cut..).unwrap_or_default()).err(),
    };
    match error {
        Some(error) if error.error_len().is_some() || !cut_behind => TextCheck::Invalid,
        _ => TextCheck::Cut,
    }
}

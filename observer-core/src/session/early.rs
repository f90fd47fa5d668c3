//! What a client sends behind its upgrade request before the answer is seen.
//!
//! Owns the keeping, segment by segment and each with its time. Must not know what becomes of it. Bounded by the
//! caller, who says how much may be kept.

use crate::limits::Limit;
use crate::time::Time;

/// What it takes to keep a piece besides its bytes.
const BOOKKEEPING: usize = 96;

/// The pieces in order.
#[derive(Debug, Default)]
pub(super) struct Early {
    pieces: Vec<Piece>,
    held_bytes: usize,
    data_bytes: u64,
}

/// A segment's bytes, or a hole.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) time: Time,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Data(Box<[u8]>),
    Gap(u64),
}

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Of one connection.
    pub(super) own: usize,
    /// Of what all connections share.
    pub(super) shared: usize,
}

impl Early {
    /// What it takes to keep it all.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes kept, without the holes.
    pub(super) const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Keeps a segment.
    ///
    /// # Errors
    ///
    /// The bound that has no room for it.
    pub(super) fn handle_data(&mut self, time: Time, data: &[u8], room: Room) -> Result<(), Limit> {
        self.make_room(data.len(), room)?;
        self.data_bytes = self.data_bytes.saturating_add(data.len() as u64);
        self.pieces.push(Piece { time, content: Content::Data(data.into()) });
        Ok(())
    }

    /// Keeps a hole.
    ///
    /// # Errors
    ///
    /// As above.
    pub(super) fn handle_gap(&mut self, time: Time, length: u64, room: Room) -> Result<(), Limit> {
        if let Some(Piece { content: Content::Gap(before), .. }) = self.pieces.last_mut() {
            *before = before.saturating_add(length);
            return Ok(());
        }
        self.make_room(0, room)?;
        self.pieces.push(Piece { time, content: Content::Gap(length) });
        Ok(())
    }

    fn make_room(&mut self, data_bytes: usize, room: Room) -> Result<(), Limit> {
        let cost = data_bytes.saturating_add(BOOKKEEPING);
        let held_bytes = self.held_bytes.saturating_add(cost);
        if held_bytes > room.own {
            return Err(Limit::Early);
        }
        if cost > room.shared {
            return Err(Limit::HeadTotal);
        }
        self.held_bytes = held_bytes;
        Ok(())
    }
}

//! permessage-deflate (RFC 7692): one direction's context, from message to message.
//!
//! Owns the tail of messages, what is taken over from one to the next, and what is lost. Must not know frames.
//! Bounded by [`Limits::inflated_bytes`] and, for all connections together, [`Limits::inflate_total_bytes`].
//!
//! A context that was lost, or of which the beginning was not seen, is used all the same: `inflate.rs` knows which
//! bytes it does not know. Where the sender takes nothing over, the next message begins anew.

use crate::limits::Limits;
use crate::websocket::inflate::{Inflater, Piece, Stop, Tables};

/// What every message ends with and does not show (RFC 7692 §7.2.1): the rest of an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// What the contexts of all connections share.
#[derive(Debug)]
pub(super) struct Pool {
    message_bytes: u64,
    total_bytes: usize,
    /// Allocated now.
    bytes: usize,
    /// Those of the last block, for the next message: most need the same.
    tables: Option<Box<Tables>>,
}

impl Pool {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self {
            message_bytes: limits.inflated_bytes,
            total_bytes: limits.inflate_total_bytes,
            bytes: 0,
            tables: None,
        }
    }

    /// Allocated by all contexts together.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Why a message cannot be inflated any further. The context is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not DEFLATE.
    Invalid(&'static str),
    /// It refers to earlier messages, which its sender agreed not to do.
    TakesOver,
    /// It is longer than [`Limits::inflated_bytes`].
    TooLong(u64),
    /// [`Limits::inflate_total_bytes`] is reached.
    NoRoom,
}

/// What one direction's messages have in common.
#[derive(Debug)]
pub(super) struct Context {
    /// Allocated by the first compressed message.
    inflater: Option<Box<Inflater>>,
    /// Whether anything may have come before, where there is no inflater yet.
    is_lost: bool,
    takes_over: bool,
}

impl Context {
    /// For a sender that takes its context from one message over to the next, or does not; with the first message
    /// to come, or in the middle.
    pub(super) const fn new(takes_over: bool, from_start: bool) -> Self {
        Self { inflater: None, is_lost: !from_start, takes_over }
    }

    /// A message begins.
    pub(super) fn begin_message(&mut self, pool: &mut Pool) {
        if let Some(inflater) = &mut self.inflater {
            pool.bytes = pool.bytes.saturating_sub(inflater.held_bytes());
            inflater.begin(&mut pool.tables);
            pool.bytes = pool.bytes.saturating_add(inflater.held_bytes());
        }
    }

    /// Takes the next bytes of the message.
    ///
    /// # Errors
    ///
    /// Why they cannot be inflated. What was given to `output` until then stays right, but where they are invalid or
    /// take over: then nothing is.
    pub(super) fn inflate(
        &mut self,
        bytes: &[u8],
        pool: &mut Pool,
        output: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), Trouble> {
        let own = self.inflater.as_ref().map_or(0, |inflater| inflater.held_bytes());
        let others = pool.bytes.saturating_sub(own);
        // What new ones leave free, so that those that are here go on.
        let reserve = if self.inflater.is_none() { pool.total_bytes / Limits::SHARES } else { 0 };
        if others.saturating_add(Inflater::MAXIMUM_BYTES).saturating_add(reserve) > pool.total_bytes {
            self.lose(pool);
            return Err(Trouble::NoRoom);
        }
        let inflater = self.inflater.get_or_insert_with(|| {
            let mut inflater = Inflater::new(!self.is_lost);
            inflater.begin(&mut pool.tables);
            Box::new(inflater)
        });
        let result = inflater.inflate(bytes, pool.message_bytes, output);
        pool.bytes = others.saturating_add(inflater.held_bytes());
        let takes_over_wrongly = !self.takes_over && inflater.has_reached_before_start();
        result.map_err(|stop| {
            self.lose(pool);
            match stop {
                Stop::Invalid(_) if takes_over_wrongly => Trouble::TakesOver,
                Stop::Invalid(what) => Trouble::Invalid(what),
                Stop::TooLong => Trouble::TooLong(pool.message_bytes),
            }
        })
    }

    /// The message is over. Returns the longest distance that it refers back, in bytes.
    ///
    /// # Errors
    ///
    /// As above.
    pub(super) fn end_message(
        &mut self,
        pool: &mut Pool,
        output: &mut dyn FnMut(Piece<'_>),
    ) -> Result<usize, Trouble> {
        // Between two blocks nothing is lacking: the sender left its tail where it was, or ended with BFINAL.
        let is_whole = |inflater: &Option<Box<Inflater>>| {
            inflater.as_ref().is_none_or(|inflater| inflater.is_between_blocks())
        };
        if !is_whole(&self.inflater) {
            self.inflate(&TAIL, pool, output)?;
        }
        if !is_whole(&self.inflater) {
            self.lose(pool);
            return Err(Trouble::Invalid("the message ends within a block"));
        }
        let farthest = self.inflater.as_ref().map_or(0, |inflater| inflater.farthest());
        if !self.takes_over {
            self.lose(pool);
        } else if let Some(inflater) = &mut self.inflater {
            pool.bytes = pool.bytes.saturating_sub(inflater.held_bytes());
            pool.tables = inflater.take_tables().or_else(|| pool.tables.take());
            pool.bytes = pool.bytes.saturating_add(inflater.held_bytes());
        }
        Ok(farthest)
    }

    /// Nothing is known of what the next message refers to. Gives back what is held.
    pub(super) fn lose(&mut self, pool: &mut Pool) {
        if let Some(mut inflater) = self.inflater.take() {
            pool.bytes = pool.bytes.saturating_sub(inflater.held_bytes());
            pool.tables = inflater.take_tables().or_else(|| pool.tables.take());
        }
        self.is_lost = self.takes_over;
    }
}

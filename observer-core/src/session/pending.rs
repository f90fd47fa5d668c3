//! Requests that wait for their answers (RFC 9112 §9.3.2: answers come in the order of requests).
//!
//! Owns what is kept of them. Must not know how an answer is read. Bounded by
//! [`Limits::pending_requests`](crate::Limits::pending_requests) and by the room that the caller tells.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::http::{Asked, Offer};
use crate::limits::{Limit, Limits};
use crate::record::{ClaimedAddress, ClientClaim};

/// The requests, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Pending {
    requests: VecDeque<Request>,
    held_bytes: usize,
}

/// What must be known of a request to understand its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) offer: Offer,
    pub(super) asked: Asked,
    /// Whom it claims to be for.
    pub(super) claim: Option<Arc<ClientClaim>>,
}

impl Request {
    fn held_bytes(&self) -> usize {
        let Offer { target, subprotocols, extensions, .. } = &self.offer;
        let claim = self.claim.as_ref().map_or(0, |claim| {
            claim
                .also
                .capacity()
                .saturating_mul(size_of::<ClaimedAddress>())
                .saturating_add(size_of::<ClientClaim>())
        });
        [target, subprotocols, extensions]
            .iter()
            .fold(size_of::<Self>().saturating_add(claim), |sum, text| sum.saturating_add(text.len()))
    }
}

impl Pending {
    /// What it takes to keep them all.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Request> {
        self.requests.front()
    }

    pub(super) fn has_upgrade(&self) -> bool {
        self.requests.iter().any(|request| request.offer.is_upgrade)
    }

    /// Adds the last one that was sent, where `room` bytes suffice.
    ///
    /// # Errors
    ///
    /// The bound that has no room for it.
    pub(super) fn push(&mut self, request: Request, limits: &Limits, room: usize) -> Result<(), Limit> {
        let cost = request.held_bytes();
        if self.requests.len() >= limits.pending_requests {
            return Err(Limit::PendingRequests);
        }
        if cost > room {
            return Err(Limit::HeadTotal);
        }
        self.held_bytes = self.held_bytes.saturating_add(cost);
        self.requests.push_back(request);
        Ok(())
    }

    /// The one that the next answer answers.
    pub(super) fn pop(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        self.held_bytes = self.held_bytes.saturating_sub(request.held_bytes());
        if self.requests.is_empty() {
            self.clear();
        }
        Some(request)
    }

    /// The one that a 101 answers: the first that asks for an upgrade, or the next one if none does.
    pub(super) fn pop_upgrade(&mut self) -> Option<Request> {
        while self.has_upgrade() && self.first().is_some_and(|first| !first.offer.is_upgrade) {
            self.pop();
        }
        self.pop()
    }

    /// Heads were lost: only an upgrade can be told by its answer.
    pub(super) fn forget_plain(&mut self) {
        self.requests.retain(|request| request.offer.is_upgrade);
        self.held_bytes = self.requests.iter().map(Request::held_bytes).fold(0, usize::saturating_add);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

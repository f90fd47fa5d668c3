//! TLS and HTTP/2 where HTTP/1 could be: they are named, as far as they name themselves, and not decoded.
//!
//! Owns what is told of them, and when. Must not know how they are read. Bounded by
//! [`Limits::client_hello_bytes`](crate::Limits::client_hello_bytes),
//! [`Limits::head_bytes`](crate::Limits::head_bytes) and what all connections share.

use super::{Half, Heading, NOT_DECODED, Session, Shared, skip};
use crate::anomaly::AnomalyCode;
use crate::http::Body;
use crate::http2::{Progress, Watcher};
use crate::limits::Limit;
use crate::record::Direction;
use crate::reporter::Reporter;
use crate::tls::{ClientHelloReader, HelloProgress};

const CLIENT: Direction = Direction::ClientToServer;

impl Heading {
    /// Whether nothing of a head has come.
    fn is_at_start(&self) -> bool {
        self.pending_bytes() == 0 && self.body == Body::NONE
    }
}

impl Session {
    /// A direction speaks TLS. Of a client's, a byte may have been taken before.
    pub(super) fn begin_tls(&mut self, direction: Direction, taken_before: u64, reporter: &mut Reporter<'_>) {
        self.give_up(reporter);
        if direction != CLIENT {
            reporter.anomaly(Some(direction), AnomalyCode::Tls, NOT_DECODED);
            return;
        }
        let mut reader = ClientHelloReader::default();
        if taken_before > 0 {
            // It needs no room, and cannot be all.
            let _ = reader.handle_data(b"\x16", 0, 0);
        }
        self.client = Half::ClientHello(Box::new(reader));
    }

    /// Takes bytes of a client that speaks TLS, until its first message is read.
    pub(super) fn handle_client_hello(&mut self, data: &[u8], shared: &Shared, reporter: &mut Reporter<'_>) {
        skip(CLIENT, data.len() as u64, reporter);
        let Half::ClientHello(mut reader) = self.take_half(CLIENT) else { return };
        let limits = &reporter.config.limits;
        let limit = match reader.handle_data(data, limits.client_hello_bytes, self.room(shared, limits)) {
            HelloProgress::Incomplete => {
                self.client = Half::ClientHello(reader);
                return;
            }
            HelloProgress::Complete(hello) => {
                let detail = format!("{}: {NOT_DECODED}", hello.describe());
                reporter.anomaly(Some(CLIENT), AnomalyCode::Tls, &detail);
                return;
            }
            HelloProgress::Unreadable => None,
            HelloProgress::TooLong => Some(Limit::ClientHello),
            HelloProgress::NoRoom => Some(Limit::HeadTotal),
        };
        if let Some(limit) = limit {
            reporter.limit(limit);
        }
        tell_unread_hello(reporter);
    }

    /// The connection speaks HTTP/2, as a direction shows by what begins behind so many bytes of it.
    pub(super) fn begin_http2(
        &mut self,
        direction: Direction,
        taken_before: u64,
        reporter: &mut Reporter<'_>,
    ) {
        let reverse = direction.reverse();
        let watches_both = matches!(self.half(reverse), Half::Head(heading) if heading.is_at_start());
        self.give_up(reporter);
        reporter.anomaly(Some(direction), AnomalyCode::Http2, NOT_DECODED);
        let is_client = direction == CLIENT;
        // Of a server's first frame, what came before is not kept.
        if is_client || taken_before == 0 {
            let taken_before = usize::try_from(taken_before).unwrap_or(usize::MAX);
            *self.half(direction) = Half::watching(direction, taken_before);
        }
        if watches_both {
            *self.half(reverse) = Half::watching(reverse, 0);
        }
    }

    /// The server has switched to HTTP/2 as the client had asked it to (`Upgrade: h2c`): where its direction is now.
    pub(super) fn switch_to_http2(&mut self, shared: &mut Shared, reporter: &mut Reporter<'_>) -> Half {
        let direction = Direction::ServerToClient;
        let detail = format!("the server switched to h2c: {NOT_DECODED}");
        reporter.anomaly(Some(direction), AnomalyCode::Http2, &detail);
        let early = match self.take_half(CLIENT) {
            Half::Head(heading) if heading.is_at_start() => None,
            Half::Early(early) => Some(early),
            other => {
                self.client = other;
                self.give_up(reporter);
                return Half::watching(direction, 0);
            }
        };
        self.client = Half::watching(CLIENT, 0);
        if let Some(early) = early {
            self.replay(*early, shared, reporter);
        }
        Half::watching(direction, 0)
    }

    /// Takes bytes of HTTP/2, until the first sign of WebSocket.
    pub(super) fn handle_http2(
        &mut self,
        direction: Direction,
        data: &[u8],
        shared: &Shared,
        reporter: &mut Reporter<'_>,
    ) {
        skip(direction, data.len() as u64, reporter);
        let Half::Http2(mut watcher) = self.take_half(direction) else { return };
        let limits = &reporter.config.limits;
        let detail = match watcher.handle_data(data, limits.head_bytes, self.room(shared, limits)) {
            Progress::Nothing => {
                *self.half(direction) = Half::Http2(watcher);
                return;
            }
            Progress::Lost => return,
            Progress::Limit(limit) => return reporter.limit(limit),
            Progress::Allowed => {
                "the server lets clients ask for it (SETTINGS_ENABLE_CONNECT_PROTOCOL)".to_owned()
            }
            Progress::Asked(stream) => {
                reporter.recognise();
                format!("stream {stream} asks for it (extended CONNECT): it is not decoded")
            }
        };
        reporter.anomaly(Some(direction), AnomalyCode::WebSocketOverHttp2, &detail);
    }
}

impl Half {
    fn watching(direction: Direction, preface_taken: usize) -> Self {
        Self::Http2(Box::new(Watcher::new(direction, preface_taken)))
    }
}

/// Tells of TLS whose first message was not read.
pub(super) fn tell_unread_hello(reporter: &mut Reporter<'_>) {
    let detail = format!("its first message was not read: {NOT_DECODED}");
    reporter.anomaly(Some(CLIENT), AnomalyCode::Tls, &detail);
}

//! From what is found within a connection to records.
//!
//! Owns when a connection is told of, its number, its account and the run's totals. Must not know how anything is
//! found. Bounded: anomalies of one connection by
//! [`Limits::connection_anomalies`](crate::Limits::connection_anomalies), all else is counted in place.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::anomaly::AnomalyCode;
use crate::engine::{Config, Report};
use crate::flow::{Chat, Reader};
use crate::limits::Limit;
use crate::record::{
    Account, Anomaly, ClientClaim, Connection, ConnectionId, ConnectionOpened, Direction, Gap, GapCause,
    Kind, ProxyHeader, Record, Sink, Summary,
};
use crate::time::Time;

/// What is known of a connection's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    Seen,
    /// It was open before, or the packets were lost.
    Unseen,
    /// It was open before, as the kernel says: no packet of it was seen yet.
    Before,
}

/// What a reader is told of one connection, kept between packets.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) connection: Connection,
    pub(crate) account: [Account; 2],
    pub(crate) opened: Time,
    beginning: Beginning,
    has_packets: bool,
    /// Whether the connection is one to tell of at all.
    pub(crate) recognised: bool,
    /// Of which chat, once it was told of.
    announced: Option<Chat>,
    /// The PROXY header of a connection that is not told of, and may be later.
    proxy_header: Option<Box<(Time, ProxyHeader)>>,
    anomalies: usize,
}

impl Told {
    pub(crate) fn new(
        client: SocketAddr,
        server: SocketAddr,
        interface: Option<Arc<str>>,
        scope: u64,
        opened: Time,
        beginning: Beginning,
        report: Report,
    ) -> Self {
        Self {
            connection: Connection {
                id: ConnectionId(0),
                client,
                server,
                interface,
                scope,
                client_claim: None,
            },
            account: [Account::default(); 2],
            opened,
            beginning,
            has_packets: false,
            recognised: report == Report::All,
            announced: None,
            proxy_header: None,
            anomalies: 0,
        }
    }

    /// Whether a record of this connection was emitted.
    pub(crate) const fn is_announced(&self) -> bool {
        self.announced.is_some()
    }

    /// The chat that it was announced as a connection of.
    pub(crate) const fn chat(&self) -> Option<Chat> {
        self.announced
    }

    /// Whether nothing is known of it but that the kernel lists it, and nothing was told.
    pub(crate) fn is_only_listed(&self) -> bool {
        self.beginning == Beginning::Before && !self.has_packets && !self.is_announced()
    }

    /// Takes note of a packet, which may be older than the kernel's list.
    pub(crate) fn note_packet(&mut self, time: Time) {
        if self.beginning == Beginning::Before && !self.is_announced() {
            self.opened = self.opened.min(time);
        }
        self.has_packets = true;
    }

    pub(crate) const fn account_of(&mut self, direction: Direction) -> &mut Account {
        direction.of_mut(&mut self.account)
    }
}

/// Tells of one connection, at one moment.
pub(crate) struct Reporter<'a> {
    pub(crate) config: &'a Config,
    pub(crate) totals: &'a mut Summary,
    pub(crate) reader: &'a mut Reader,
    pub(crate) told: &'a mut Told,
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) time: Time,
}

impl Reporter<'_> {
    /// Emits a record of this connection, if it is one to tell of.
    pub(crate) fn record(&mut self, kind: Kind<'_>) {
        if self.told.recognised {
            self.announce();
            let stream_end = kind.direction().map(|direction| {
                let account = self.told.account_of(direction);
                account.bytes_seen.saturating_add(account.bytes_missing)
            });
            let record =
                Record { time: self.time, connection: Some(&self.told.connection), stream_end, kind };
            self.sink.handle_record(&record);
        }
    }

    /// Tells that the connection exists, once.
    pub(crate) fn announce(&mut self) {
        if !self.told.recognised || self.told.is_announced() {
            return;
        }
        self.told.announced = Some(self.reader.enter(&self.told.connection));
        self.totals.connections += 1;
        self.told.connection.id = ConnectionId(self.totals.connections);
        let beginning = self.told.beginning;
        let kind = Kind::ConnectionOpened(ConnectionOpened {
            from_start: beginning == Beginning::Seen,
            was_listed: beginning == Beginning::Before,
        });
        // When it opened nobody had claimed anything, however late that is told.
        let claim = self.told.connection.client_claim.take();
        let record = Record {
            time: self.told.opened,
            connection: Some(&self.told.connection),
            stream_end: None,
            kind,
        };
        self.sink.handle_record(&record);
        self.told.connection.client_claim = claim;
    }

    /// Tells of the PROXY header, once the connection is told of.
    pub(crate) fn proxy_header(&mut self, header: ProxyHeader) {
        if self.told.recognised {
            self.record(Kind::ProxyHeader(header));
        } else {
            self.told.proxy_header = Some(Box::new((self.time, header)));
        }
    }

    /// From now on this is whom the connection claims to be for.
    pub(crate) fn set_claim(&mut self, claim: Option<&Arc<ClientClaim>>) {
        self.told.connection.client_claim = claim.cloned();
    }

    /// From now on the connection is one to tell of.
    pub(crate) fn recognise(&mut self) {
        self.told.recognised = true;
        self.announce();
        if let Some((time, header)) = self.told.proxy_header.take().map(|told| *told) {
            let now = core::mem::replace(&mut self.time, time);
            self.record(Kind::ProxyHeader(header));
            self.time = now;
        }
    }

    pub(crate) fn anomaly(&mut self, direction: Option<Direction>, code: AnomalyCode, detail: &str) {
        if !self.told.recognised {
            return;
        }
        self.totals.anomalies += 1;
        let limit = self.config.limits.connection_anomalies;
        if self.told.anomalies < limit {
            self.told.anomalies += 1;
            self.record(Kind::Anomaly(Anomaly { direction, code, detail }));
        } else {
            self.limit(Limit::ConnectionAnomalies);
        }
    }

    pub(crate) fn gap(&mut self, direction: Direction, offset: u64, length: u64, cause: GapCause) {
        let account = self.told.account_of(direction);
        account.bytes_missing = account.bytes_missing.saturating_add(length);
        account.gaps += 1;
        if self.told.recognised {
            for (counter, of) in self.totals.gaps.iter_mut().zip(GapCause::ALL) {
                *counter += u64::from(of == cause);
            }
            self.record(Kind::Gap(Gap { direction, offset, length, cause }));
        }
    }

    pub(crate) fn limit(&mut self, limit: Limit) {
        count_limit(self.totals, limit);
    }
}

/// Counts that a bound was reached.
pub(crate) fn count_limit(totals: &mut Summary, limit: Limit) {
    for (counter, of) in totals.limits.iter_mut().zip(Limit::ALL) {
        *counter += u64::from(of == limit);
    }
}

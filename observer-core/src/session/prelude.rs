//! What a proxy says of a connection ahead of everything else.
//!
//! Owns what becomes of a PROXY header, and of the bytes that turned out to be none. Must not know how one is read.
//! Bounded by what the reader keeps.

use std::sync::Arc;

use super::{BY_LOOKS, Half, Heading, Session, Shared, skip};
use crate::anomaly::AnomalyCode;
use crate::http::claims;
use crate::limits::Limit;
use crate::proxy_protocol::Progress;
use crate::record::{ClaimedAddress, ClientClaim, Direction, Header, ProxyHeader};
use crate::reporter::Reporter;

const CLIENT: Direction = Direction::ClientToServer;

impl Session {
    /// Takes bytes of a PROXY header, or what might be one; returns what is behind it.
    pub(super) fn handle_proxy_data<'a>(
        &mut self,
        mut heading: Box<Heading>,
        data: &'a [u8],
        shared: &mut Shared,
        reporter: &mut Reporter<'_>,
    ) -> &'a [u8] {
        heading.time_first.get_or_insert(reporter.time);
        let Some(mut reader) = heading.proxy.take() else { return data };
        let taken_before = reader.pending_bytes();
        match reader.handle_data(data) {
            Progress::Incomplete => {
                heading.proxy = Some(reader);
                self.client = Half::Head(heading);
                &[]
            }
            Progress::Absent => {
                self.client = Half::Head(heading);
                self.handle_data(CLIENT, &reader.into_held(), shared, reporter);
                data
            }
            Progress::Complete(header, consumed) => {
                self.go_behind_proxy_header(heading);
                self.handle_proxy_header(header, reporter);
                data.get(consumed..).unwrap_or_default()
            }
            Progress::Malformed(what, consumed) => {
                self.go_behind_proxy_header(heading);
                skip(CLIENT, taken_before.saturating_add(consumed) as u64, reporter);
                let detail = format!("{what}: it is stepped over");
                reporter.anomaly(Some(CLIENT), AnomalyCode::ProxyHeaderMalformed, &detail);
                data.get(consumed..).unwrap_or_default()
            }
            Progress::Endless(what) => {
                skip(CLIENT, taken_before as u64, reporter);
                let detail = format!("{what}: {BY_LOOKS}");
                reporter.anomaly(Some(CLIENT), AnomalyCode::ProxyHeaderMalformed, &detail);
                self.seek(CLIENT, shared, reporter);
                self.decode(CLIENT, Some(data), 0, shared, reporter);
                &[]
            }
        }
    }

    fn go_behind_proxy_header(&mut self, mut heading: Box<Heading>) {
        heading.time_first = None;
        self.client = Half::Head(heading);
    }

    fn handle_proxy_header(&mut self, header: ProxyHeader, reporter: &mut Reporter<'_>) {
        let address = header.source.map(|it| ClaimedAddress { ip: it.ip(), port: Some(it.port()) });
        self.proxied = find_claim(address, &[], reporter);
        reporter.set_claim(self.proxied.as_ref());
        reporter.proxy_header(header);
    }

    /// Whom a request claims to be for.
    pub(super) fn claim_of(
        &self,
        headers: &[Header<'_>],
        reporter: &mut Reporter<'_>,
    ) -> Option<Arc<ClientClaim>> {
        find_claim(self.proxied.as_ref().map(|claim| claim.address), headers, reporter)
    }
}

fn find_claim(
    proxy: Option<ClaimedAddress>,
    headers: &[Header<'_>],
    reporter: &mut Reporter<'_>,
) -> Option<Arc<ClientClaim>> {
    let claims = claims::find(proxy, headers, reporter.config.limits.claimed_addresses);
    if claims.is_cut {
        reporter.limit(Limit::ClaimedAddresses);
    }
    claims.claim.map(Arc::new)
}

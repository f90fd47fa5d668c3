//! Owns which web pages may open a WebSocket to this server.
//!
//! Must not know what is done with the answer. Browsers let any page connect to any WebSocket and only name the page's
//! origin (RFC 6455 §10.2), so that a page of some other site could listen to a chat that is reachable from the reader's
//! machine alone. Holds nothing.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;

/// Whether a request may open a WebSocket, given the address that it arrived at and the origins that are always welcome.
///
/// Clients that name no origin are no browsers and are let in. Pages are let in that came from the host that they connect
/// to, whatever the ports. A request that arrived at the loopback address has to name a loopback host: else the name may
/// be one that an attacker's name server turned towards this machine.
///
/// # Errors
///
/// The origin that is not let in.
pub(crate) fn admit(
    headers: &HeaderMap,
    arrived_at: Option<IpAddr>,
    welcome: &[String],
) -> Result<(), String> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let name = String::from_utf8_lossy(origin.as_bytes());
    if welcome.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(&name)) {
        return Ok(());
    }
    let page: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    let server = headers.get(HOST).and_then(host);
    if origins.next().is_none()
        && let (Some(page), Some(server)) = (page.as_ref().and_then(Uri::host), server.as_ref())
    {
        let server = server.host();
        if is_loopback(page) && is_loopback(server) {
            return Ok(());
        }
        let may_be_rebound = arrived_at.is_none_or(|address| address.to_canonical().is_loopback());
        if page.eq_ignore_ascii_case(server) && !may_be_rebound {
            return Ok(());
        }
    }
    Err(name.into_owned())
}

/// The host, and perhaps port, of a Host header.
pub(crate) fn host(value: &HeaderValue) -> Option<Authority> {
    let authority: Authority = value.to_str().ok()?.parse().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

/// Whether this is how an origin may be written on the command line: `*`, `null`, or a scheme and a host.
pub(crate) fn is_well_formed(origin: &str) -> bool {
    let has_host = || {
        let (_, authority) = origin.split_once("://")?;
        let host: Authority = authority.parse().ok()?;
        Some(!host.host().is_empty() && !authority.contains('@'))
    };
    matches!(origin, "*" | "null") || has_host().unwrap_or(false)
}

fn is_loopback(host: &str) -> bool {
    let is_local_name = || {
        let host = host.strip_suffix('.').unwrap_or(host);
        host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().map_or_else(|_| is_local_name(), |address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1";
    const NETWORK: &str = "192.0.2.1";

    fn admits(arrived_at: &str, host: &str, origin: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        headers.insert(ORIGIN, origin.parse().unwrap());
        admit(&headers, Some(arrived_at.parse().unwrap()), &["https://chat.example.org".to_owned()]).is_ok()
    }

    #[test]
    fn who_names_no_origin_is_let_in() {
        admit(&HeaderMap::new(), None, &[]).unwrap();
    }

    #[test]
    fn the_servers_own_page_is_let_in_under_every_name_of_the_server() {
        assert!(admits(LOOPBACK, "127.0.0.1:7272", "http://127.0.0.1:55151"));
        assert!(admits("::1", "[::1]:7272", "http://[::1]:55151"));
        assert!(admits(LOOPBACK, "localhost:7272", "http://localhost:55151"));
        assert!(admits("::ffff:127.0.0.1", "chat.localhost:7272", "http://chat.localhost:55151"));
        assert!(admits(NETWORK, "192.0.2.1:7272", "http://192.0.2.1:55151"));
        assert!(admits(NETWORK, "Host.lan:7272", "http://host.LAN:55151"));
    }

    #[test]
    fn a_page_of_this_machine_is_let_in_whichever_loopback_name_it_has() {
        assert!(admits(LOOPBACK, "127.0.0.1:7272", "http://localhost:3000"));
        assert!(!admits(LOOPBACK, "127.0.0.1:7272", "http://localhost.example.com"));
    }

    #[test]
    fn a_page_of_another_site_is_not_let_in_unless_it_is_listed() {
        for origin in [
            "https://example.com",
            "null",
            "http://",
            "not an origin",
            "file://",
            "http://127.0.0.1@evil.com",
        ] {
            assert!(!admits(LOOPBACK, "127.0.0.1:7272", origin), "{origin}");
            assert!(!admits(NETWORK, "host.lan:7272", origin), "{origin}");
        }
        assert!(admits(LOOPBACK, "127.0.0.1:7272", "https://chat.example.org"));
        assert!(admits(LOOPBACK, "127.0.0.1:7272", "HTTPS://Chat.Example.Org"));
        assert!(!admits(LOOPBACK, "127.0.0.1:7272", "https://chat.example.org:8443"));
    }

    #[test]
    fn a_name_that_was_turned_towards_this_machine_is_not_let_in() {
        assert!(!admits(LOOPBACK, "evil.example:7272", "http://evil.example:7272"));
        assert!(!admits("::ffff:127.0.0.1", "evil.example:7272", "http://evil.example:7272"));
    }

    #[test]
    fn two_origins_are_none() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1".parse().unwrap());
        headers.append(ORIGIN, "http://127.0.0.1".parse().unwrap());
        headers.append(ORIGIN, "http://127.0.0.1".parse().unwrap());
        admit(&headers, Some(LOOPBACK.parse().unwrap()), &[]).unwrap_err();
    }

    #[test]
    fn the_asterisk_welcomes_all() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, "null".parse().unwrap());
        admit(&headers, None, &["*".to_owned()]).unwrap();
    }

    #[test]
    fn origins_are_written_with_scheme_and_host() {
        for right in ["*", "null", "https://chat.example.org", "http://[::1]:3000"] {
            assert!(is_well_formed(right), "{right}");
        }
        for wrong in ["", "example.org", "https://", "https://example.org/", "https://a b"] {
            assert!(!is_well_formed(wrong), "{wrong}");
        }
    }
}

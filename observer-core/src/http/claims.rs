//! Whom a connection is for, as its header fields and a PROXY header claim it.
//!
//! Owns which claims count, and their order. Must not believe any: whoever writes a header field can write anything.
//! Bounded by [`Limits::claimed_addresses`](crate::Limits::claimed_addresses) of each header.
//!
//! # What is taken
//!
//! Of each header whatever is an IP address, with or without a port; nothing else (`unknown`, `_hidden`, names). The
//! first one is what the header claims the client to be; those behind it are proxies on the way, if the header is true.
//! If a client has written the beginning of the header itself, the true one is among those behind it, so all of them
//! are kept.
//!
//! The PROXY header goes before, since no request can write it; then `X-Forwarded-For`, `Forwarded` and `X-Real-IP`, in
//! the order of how many proxies write them themselves instead of passing on what a client has sent.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::collections::VecDeque;

use crate::record::{ClaimSource, ClaimedAddress, ClientClaim, Header};

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The claim; `None` where there is none.
    pub claim: Option<ClientClaim>,
    /// Some addresses were left out, for there were more in one header than `limit`.
    pub is_cut: bool,
}

/// What a PROXY header and the fields of a request claim. Of each header the first address and the last `limit - 1`
/// are taken; a limit below two is two.
pub fn find(proxy: Option<ClaimedAddress>, headers: &[Header<'_>], limit: usize) -> Claims {
    let fields = |name: &'static str| {
        let named = headers.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| str::from_utf8(value).ok())
    };
    let lists = [
        (ClaimSource::ProxyProtocol, collect(proxy.into_iter(), limit)),
        (
            ClaimSource::XForwardedFor,
            collect(fields("x-forwarded-for").flat_map(|it| it.split(',')).filter_map(parse_node), limit),
        ),
        (
            ClaimSource::Forwarded,
            collect(fields("forwarded").flat_map(ForwardedNodes).filter_map(|it| parse_node(&it)), limit),
        ),
        (ClaimSource::XRealIp, collect(fields("x-real-ip").filter_map(parse_node), limit)),
    ];
    let mut claim: Option<ClientClaim> = None;
    let mut is_cut = false;
    for (by, (addresses, was_cut)) in lists {
        is_cut |= was_cut;
        for address in addresses {
            match &mut claim {
                None => claim = Some(ClientClaim { address, by, also: Vec::new() }),
                Some(claim) if claim.ips().any(|ip| ip == address.ip) => {}
                Some(claim) => claim.also.push(address),
            }
        }
    }
    Claims { claim, is_cut }
}

const fn whole(address: SocketAddr) -> ClaimedAddress {
    ClaimedAddress { ip: address.ip(), port: Some(address.port()) }
}

/// The first ones and the last ones.
fn collect(
    addresses: impl Iterator<Item = ClaimedAddress>,
    limit: usize,
) -> (VecDeque<ClaimedAddress>, bool) {
    let mut kept = VecDeque::new();
    let mut is_cut = false;
    for address in addresses {
        if kept.len() >= limit.max(2) {
            kept.remove(1);
            is_cut = true;
        }
        kept.push_back(address);
    }
    (kept, is_cut)
}

/// An address as proxies write it: bare, in brackets, or with a port (RFC 7239 §6).
fn parse_node(text: &str) -> Option<ClaimedAddress> {
    let text = text.trim_matches([' ', '\t']);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ClaimedAddress { ip, port: None });
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let has_zone = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
        return (!has_zone).then_some(whole(address));
    }
    let bracketed = text.strip_prefix('[')?;
    let (ip, port) = bracketed.split_once(']')?;
    // A port that is hidden is none that is known.
    let is_node = port.is_empty() || port.starts_with(":_");
    let ip = ip.parse::<Ipv6Addr>().ok().filter(|_| is_node)?;
    Some(ClaimedAddress { ip: ip.into(), port: None })
}

/// The values of `for` in a `Forwarded` field (RFC 7239 §4): elements between commas, of pairs between semicolons,
/// whose values may be quoted.
struct ForwardedNodes<'a>(&'a str);

impl Iterator for ForwardedNodes<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while !self.0.is_empty() {
            let (pair, rest) = split_pair(self.0);
            self.0 = rest;
            if let Some((name, value)) = pair.split_once('=')
                && name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for")
            {
                return Some(unquote(value.trim_matches([' ', '\t'])));
            }
        }
        None
    }
}

/// The text before the first comma or semicolon outside of quotes, and behind it.
fn split_pair(text: &str) -> (&str, &str) {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let end = text.char_indices().find(|(_, character)| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' | ';' => return !is_quoted,
            _ => {}
        }
        false
    });
    match end {
        Some((at, _)) => text
            .split_at_checked(at)
            .map_or((text, ""), |(pair, rest)| (pair, rest.get(1..).unwrap_or_default())),
        None => (text, ""),
    }
}

fn unquote(value: &str) -> String {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let Some(quoted) = quoted else { return value.to_owned() };
    let mut characters = quoted.chars();
    let mut text = String::new();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 8;

    fn found(headers: &[(&str, &str)]) -> Vec<String> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let claims = find(None, &headers, LIMIT);
        let Some(claim) = claims.claim else { return Vec::new() };
        let also = claim.also.iter().map(ToString::to_string);
        [format!("{} {}", claim.by.name(), claim.address)].into_iter().chain(also).collect()
    }

    #[test]
    fn the_first_address_of_x_forwarded_for_is_claimed_and_the_others_are_kept() {
        assert_eq!(found(&[("X-Forwarded-For", "203.0.113.7")]), ["x_forwarded_for 203.0.113.7"]);
        let chain =
            [("x-forwarded-for", "203.0.113.7, 198.51.100.2:4711"), ("X-FORWARDED-FOR", "[2001:db8::1]:80")];
        assert_eq!(found(&chain), ["x_forwarded_for 203.0.113.7", "198.51.100.2:4711", "[2001:db8::1]:80"]);
    }

    #[test]
    fn only_what_is_an_address_is_taken() {
        let odd = "unknown, _hidden, localhost, 1.2.3, 1.2.3.4:99999, ::1%eth0, [fe80::1%3]:80, [::1]x, 0x7f.1,, \x1b[2J, 10.0.0.1";
        assert_eq!(found(&[("X-Forwarded-For", odd)]), ["x_forwarded_for 10.0.0.1"]);
        for none in ["", "unknown", "for=1.2.3.4", "[::1", "1.2.3.4 5.6.7.8"] {
            assert!(found(&[("X-Forwarded-For", none), ("X-Real-IP", none)]).is_empty(), "{none}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (field, expected) in [
            ("for=192.0.2.43", &["forwarded 192.0.2.43"][..]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &["forwarded [2001:db8:cafe::17]:4711"]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &["forwarded 192.0.2.60"]),
            ("for=192.0.2.43, for=198.51.100.17", &["forwarded 192.0.2.43", "198.51.100.17"]),
            ("by=1.1.1.1 ; FOR=\"[2001:db8::1]\" ,for=unknown,for=_x", &["forwarded 2001:db8::1"]),
            ("for=\"192.0.2.43:47011\"", &["forwarded 192.0.2.43:47011"]),
            ("for=\"[::1]:_port\"", &["forwarded ::1"]),
            ("for=\"\\1\\92.0.2.1\"", &["forwarded 192.0.2.1"]),
            ("by=\"x;for=6.6.6.6,for=7.7.7.7\\\";for=8.8.8.8\";for=192.0.2.9", &["forwarded 192.0.2.9"]),
            ("for=\"192.0.2.1", &[]),
            ("for", &[]),
        ] {
            assert_eq!(found(&[("Forwarded", field)]), expected, "{field}");
        }
    }

    #[test]
    fn what_no_request_can_write_goes_before_and_each_address_is_kept_once() {
        let headers: [Header<'_>; 3] = [
            ("X-Real-IP", b"198.51.100.2"),
            ("Forwarded", b"for=6.6.6.6"),
            ("X-Forwarded-For", b"203.0.113.7, 198.51.100.2"),
        ];
        let claim = find(parse_node("203.0.113.7:41234"), &headers, LIMIT).claim.unwrap();
        assert_eq!(
            (claim.by, claim.address.to_string()),
            (ClaimSource::ProxyProtocol, "203.0.113.7:41234".into())
        );
        let also: Vec<_> = claim.also.iter().map(ToString::to_string).collect();
        assert_eq!(also, ["198.51.100.2", "6.6.6.6"]);
    }

    #[test]
    fn of_many_addresses_the_first_and_the_last_ones_are_kept_and_that_is_said() {
        let many: Vec<_> = (0..100).map(|n| format!("10.0.0.{n}")).collect();
        let many = many.join(",");
        let headers: [Header<'_>; 2] = [("X-Forwarded-For", many.as_bytes()), ("X-Real-IP", b"192.0.2.1")];
        let claims = find(None, &headers, 3);
        assert!(claims.is_cut);
        let claim = claims.claim.unwrap();
        assert_eq!(claim.address.to_string(), "10.0.0.0");
        let also: Vec<_> = claim.also.iter().map(ToString::to_string).collect();
        assert_eq!(also, ["10.0.0.98", "10.0.0.99", "192.0.2.1"]);
        assert!(!find(None, &headers, 100).is_cut);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_within_the_bound(text in "[ -~é\t]{0,60}", limit in 2_usize..5) {
            let quoted = format!("for=\"{text}\";for={text},{text}");
            let headers: [Header<'_>; 2] = [("Forwarded", quoted.as_bytes()), ("X-Forwarded-For", text.as_bytes())];
            if let Some(claim) = find(None, &headers, limit).claim {
                prop_assert!(claim.also.len() < 2 * limit);
            }
        }
    }
}

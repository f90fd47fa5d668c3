//! What an upgrade request asks for, and what its answer settles (RFC 6455 §4).
//!
//! Owns the rules of the opening handshake. Must not know how heads are read or what becomes of the connection.
//! Bounded: works on one head at a time, in time that grows with its length, and an [`Offer`] keeps less than the
//! head it comes from.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

use crate::anomaly::AnomalyCode;
use crate::http::extensions::{self, DeflateElement, PERMESSAGE_DEFLATE, Side};
use crate::http::head::{RequestHead, ResponseHead};
use crate::record::Header;
use crate::websocket::{Compression, Extensions};

/// What a server appends to the key (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Some clients leave random bits behind the last byte of the key, which every server takes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Extensions looked at in an offer and in an answer. More of them are shown, and called unknown.
const MAXIMUM_EXTENSIONS: usize = 32;

/// Something that is out of order in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which anomaly.
    pub code: AnomalyCode,
    /// The particulars, in one sentence. May hold bytes of a peer.
    pub detail: Cow<'static, str>,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestEvaluation<'a> {
    /// It asks for WebSocket: its `Upgrade` names it. Whatever else it lacks is among `findings`.
    pub is_upgrade: bool,
    /// The offered subprotocols, joined as sent.
    pub subprotocol: Option<Cow<'a, str>>,
    /// The offered extensions, each with its parameters, as sent.
    pub extensions: Vec<&'a str>,
    /// What is out of order; empty unless `is_upgrade`, or where a key tells that it was meant to be.
    pub findings: Vec<Finding>,
    /// What must be kept to understand the answer.
    pub offer: Offer,
}

/// What is kept of a request until its answer comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// It asks for WebSocket.
    pub is_upgrade: bool,
    /// The request's target.
    pub target: Box<str>,
    /// What the answer's `Sec-WebSocket-Accept` must be; `None` where the request has no key.
    pub accept: Option<[u8; 28]>,
    /// The offered subprotocols, joined.
    pub subprotocols: Box<str>,
    /// The offered extensions, joined.
    pub extensions: Box<str>,
    /// Why the server must refuse it, where it must whatever versions it knows (RFC 6455 §4.2.1).
    pub must_be_refused: Option<&'static str>,
    /// It asks for another version than 13.
    pub is_of_other_version: bool,
}

/// What an answer settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEvaluation<'a> {
    /// What follows in both directions are WebSocket frames, right or wrong as the handshake may have been.
    pub switches: bool,
    /// It opened the WebSocket by all rules: 101, right upgrade, and the accept value that belongs to the key, if
    /// the request was seen.
    pub accepted: bool,
    /// What the ends agreed on.
    pub negotiated: Extensions,
    /// The chosen subprotocol.
    pub subprotocol: Option<Cow<'a, str>>,
    /// The chosen extensions, each with its parameters, as sent.
    pub extensions: Vec<&'a str>,
    /// What is out of order; of an answer that does not switch only what it lacks as the refusal of a version.
    pub findings: Vec<Finding>,
}

/// Whether the `Upgrade` of a head names WebSocket.
fn asks_for_websocket(headers: &[Header<'_>]) -> bool {
    has_token(headers, "upgrade", "websocket")
}

/// What the `Upgrade` of a head names, where there is one.
pub fn upgrade_to<'a>(headers: &[Header<'a>]) -> Option<Cow<'a, str>> {
    join(headers, "upgrade")
}

/// Looks at a request (RFC 6455 §4.1, §4.2.1).
pub fn evaluate_request<'a>(head: &RequestHead<'a>) -> RequestEvaluation<'a> {
    let headers = head.headers.as_slice();
    let is_upgrade = asks_for_websocket(headers);
    let subprotocol = join(headers, "sec-websocket-protocol");
    let extensions = list(headers, "sec-websocket-extensions");
    let key = values(headers, "sec-websocket-key").next().map(<[u8]>::trim_ascii);
    let mut findings = Vec::new();
    if is_upgrade {
        find_in_request(head, key, &mut findings);
        find_in_extensions(headers, &extensions, &mut findings);
        find_in_offers(&extensions, &mut findings);
    } else if key.is_some() {
        let detail = "Upgrade does not contain websocket, though there is a Sec-WebSocket-Key".into();
        findings.push(Finding { code: AnomalyCode::HandshakeRequestInvalid, detail });
    }
    let mut versions = values(headers, "sec-websocket-version").map(<[u8]>::trim_ascii);
    let offer = Offer {
        is_upgrade,
        target: head.target.into(),
        accept: key.map(accept_for),
        subprotocols: subprotocol.as_deref().unwrap_or_default().into(),
        extensions: extensions.join(",").into(),
        must_be_refused: why_refused(head, key),
        is_of_other_version: versions.next().is_some_and(|version| version != b"13"),
    };
    RequestEvaluation { is_upgrade, subprotocol, extensions, findings, offer }
}

/// Why a server must refuse a request that asks for WebSocket. What it may not know is left out: servers may know other
/// versions, and need not decode the key (RFC 6455 §4.2.2).
fn why_refused(head: &RequestHead<'_>, key: Option<&[u8]>) -> Option<&'static str> {
    let headers = head.headers.as_slice();
    if head.method != "GET" {
        Some("the request's method is not GET")
    } else if head.version < 1 {
        Some("the request is of HTTP/1.0")
    } else if values(headers, "host").next().is_none() {
        Some("the request has no Host")
    } else if !has_token(headers, "connection", "upgrade") {
        Some("the request's Connection does not contain Upgrade")
    } else if key.is_none() {
        Some("the request has no Sec-WebSocket-Key")
    } else if values(headers, "sec-websocket-version").next().is_none() {
        Some("the request has no Sec-WebSocket-Version")
    } else {
        None
    }
}

fn find_in_request(head: &RequestHead<'_>, key: Option<&[u8]>, findings: &mut Vec<Finding>) {
    let headers = head.headers.as_slice();
    let mut find = |detail: Cow<'static, str>| {
        findings.push(Finding { code: AnomalyCode::HandshakeRequestInvalid, detail });
    };
    if head.method != "GET" {
        find(format!("the method is {}, not GET", head.method).into());
    }
    if head.version < 1 {
        find("the version is HTTP/1.0, not 1.1".into());
    }
    if !is_resource(head.target) {
        find("the target is neither a path nor an http URI, or has a fragment".into());
    }
    match values(headers, "host").count() {
        0 => find("Host is missing".into()),
        1 => {}
        _ => find("Host is repeated".into()),
    }
    if !has_token(headers, "connection", "upgrade") {
        find("Connection does not contain Upgrade".into());
    }
    match key {
        None => find("Sec-WebSocket-Key is missing".into()),
        Some(key) if BASE64.decode(key).map(|key| key.len()) != Ok(16) => {
            find("Sec-WebSocket-Key is not 16 bytes in base64".into());
        }
        Some(_) => {}
    }
    if values(headers, "sec-websocket-key").count() > 1 {
        find("Sec-WebSocket-Key is repeated".into());
    }
    let mut versions = values(headers, "sec-websocket-version").map(<[u8]>::trim_ascii);
    match (versions.next(), versions.next()) {
        (Some(b"13"), None) => {}
        (Some(b"13"), Some(_)) => find("Sec-WebSocket-Version is repeated".into()),
        (Some(version), _) => {
            find(format!("Sec-WebSocket-Version is {}, not 13", String::from_utf8_lossy(version)).into());
        }
        (None, _) => find("Sec-WebSocket-Version is missing".into()),
    }
    if let Some(defect) = defect_of_subprotocols(headers) {
        find(defect);
    }
}

/// Whether a target is a resource name, or an URI that holds one (RFC 6455 §3, §4.1).
fn is_resource(target: &str) -> bool {
    let has_scheme =
        |scheme: &str| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    (target.starts_with('/') || has_scheme("http://") || has_scheme("https://")) && !target.contains('#')
}

/// What is wrong with the subprotocols that a request offers (RFC 6455 §4.1): tokens, each once.
fn defect_of_subprotocols(headers: &[Header<'_>]) -> Option<Cow<'static, str>> {
    const NAME: &str = "sec-websocket-protocol";
    values(headers, NAME).next()?;
    let mut names: Vec<_> = values(headers, NAME)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return Some("Sec-WebSocket-Protocol is empty".into());
    }
    if names.iter().any(|name| !str::from_utf8(name).is_ok_and(extensions::is_token)) {
        return Some("Sec-WebSocket-Protocol has an element that is no token".into());
    }
    names.sort_unstable();
    let is_repeated = names.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
    is_repeated.then(|| "Sec-WebSocket-Protocol has an element twice".into())
}

/// Checks the grammar of the extensions that are offered or chosen (RFC 6455 §9.1).
fn find_in_extensions(headers: &[Header<'_>], elements: &[&str], findings: &mut Vec<Finding>) {
    const NAME: &str = "sec-websocket-extensions";
    if values(headers, NAME).next().is_none() {
        return;
    }
    let is_text = values(headers, NAME).all(|value| str::from_utf8(value).is_ok());
    let detail: Cow<'static, str> = if !is_text {
        "a field is not UTF-8".into()
    } else if elements.is_empty() {
        "the field is empty".into()
    } else if let Some(wrong) = elements.iter().find(|element| !extensions::is_well_formed(element)) {
        format!("{wrong} is no token with parameters").into()
    } else {
        return;
    };
    findings.push(Finding { code: AnomalyCode::HandshakeExtensionsMalformed, detail });
}

/// Checks the parameters of the extension that is known here (RFC 6455 §9.1, RFC 7692 §7.1).
fn find_in_offers(elements: &[&str], findings: &mut Vec<Finding>) {
    for element in elements.iter().take(MAXIMUM_EXTENSIONS) {
        let (name, parameters) = extensions::parse_element(element);
        if name == PERMESSAGE_DEFLATE
            && let (_, Some(defect)) = DeflateElement::parse(Side::Offer, parameters)
        {
            findings.push(Finding { code: AnomalyCode::HandshakeExtensionInvalid, detail: defect.into() });
        }
    }
}

/// Looks at an answer (RFC 6455 §4.1, §4.2.2). `offer` is that of the request which it answers, where that was seen.
pub fn evaluate_answer<'a>(head: &ResponseHead<'a>, offer: Option<&Offer>) -> AnswerEvaluation<'a> {
    let headers = head.headers.as_slice();
    let subprotocol = join(headers, "sec-websocket-protocol");
    let extensions = list(headers, "sec-websocket-extensions");
    let upgrades = has_token(headers, "upgrade", "websocket");
    let names_another = !upgrades && values(headers, "upgrade").next().is_some();
    let asked = offer.is_some_and(|offer| offer.is_upgrade);
    let switches = head.status == 101 && (upgrades || (asked && !names_another));
    let mut answer = AnswerEvaluation {
        switches,
        accepted: false,
        negotiated: Extensions::default(),
        subprotocol,
        extensions,
        findings: Vec::new(),
    };
    if switches {
        answer.accepted = find_in_answer(headers, offer, upgrades, &mut answer.findings);
        find_in_extensions(headers, &answer.extensions, &mut answer.findings);
        answer.negotiated = negotiate(&answer.extensions, offer, &mut answer.findings);
        find_in_subprotocol(headers, answer.subprotocol.as_deref(), offer, &mut answer.findings);
    } else if head.status == 426
        && offer.is_some_and(|offer| offer.is_upgrade && offer.is_of_other_version)
        && values(headers, "sec-websocket-version").next().is_none()
    {
        answer.findings.push(Finding {
            code: AnomalyCode::HandshakeVersionsUnnamed,
            detail: "status 426 without Sec-WebSocket-Version".into(),
        });
    }
    answer
}

/// Checks the subprotocol that is chosen: one of those that were offered (RFC 6455 §4.2.2, §11.3.4).
fn find_in_subprotocol(
    headers: &[Header<'_>],
    chosen: Option<&str>,
    offer: Option<&Offer>,
    findings: &mut Vec<Finding>,
) {
    let Some(chosen) = chosen else { return };
    let mut find = |code, detail: Cow<'static, str>| findings.push(Finding { code, detail });
    if values(headers, "sec-websocket-protocol").count() > 1 {
        return find(AnomalyCode::HandshakeAnswerInvalid, "Sec-WebSocket-Protocol is repeated".into());
    }
    if !extensions::is_token(chosen) {
        return find(AnomalyCode::HandshakeAnswerInvalid, "Sec-WebSocket-Protocol is no token".into());
    }
    if let Some(offer) = offer
        && !extensions::split_list(&offer.subprotocols).any(|offered| offered == chosen)
    {
        let detail = format!("{chosen} was chosen, and offered was: {}", offer.subprotocols).into();
        find(AnomalyCode::HandshakeSubprotocolNotOffered, detail);
    }
}

/// Checks what makes the answer one; returns whether it is.
fn find_in_answer(
    headers: &[Header<'_>],
    offer: Option<&Offer>,
    upgrades: bool,
    findings: &mut Vec<Finding>,
) -> bool {
    let mut find = |code, detail: &'static str| findings.push(Finding { code, detail: detail.into() });
    let mut right = true;
    if let Some(why) = offer.filter(|offer| offer.is_upgrade).and_then(|offer| offer.must_be_refused) {
        find(AnomalyCode::HandshakeInvalidAccepted, why);
    }
    if !upgrades {
        find(AnomalyCode::HandshakeAnswerInvalid, "Upgrade is missing");
        right = false;
    } else if !is_only(headers, "upgrade", "websocket") {
        find(AnomalyCode::HandshakeAnswerInvalid, "Upgrade contains more than websocket");
        right = false;
    }
    if !has_token(headers, "connection", "upgrade") {
        find(AnomalyCode::HandshakeAnswerInvalid, "Connection does not contain Upgrade");
        right = false;
    }
    let mut accepts = values(headers, "sec-websocket-accept").map(<[u8]>::trim_ascii);
    let expected = offer.and_then(|offer| offer.accept);
    match (accepts.next(), expected) {
        (None, _) => {
            find(AnomalyCode::HandshakeAnswerInvalid, "Sec-WebSocket-Accept is missing");
            right = false;
        }
        (Some(accept), Some(expected)) if accept != expected => {
            find(
                AnomalyCode::HandshakeWrongAccept,
                "Sec-WebSocket-Accept is not the digest of the request's key",
            );
            right = false;
        }
        (Some(_), _) => {}
    }
    if accepts.next().is_some() {
        find(AnomalyCode::HandshakeAnswerInvalid, "Sec-WebSocket-Accept is repeated");
        right = false;
    }
    right
}

fn negotiate(chosen: &[&str], offer: Option<&Offer>, findings: &mut Vec<Finding>) -> Extensions {
    let offered = offer.map(OfferedExtensions::of);
    let mut result = Extensions::default();
    if let Some(further) = chosen.len().checked_sub(MAXIMUM_EXTENSIONS).filter(|further| *further > 0) {
        findings.push(Finding {
            code: AnomalyCode::HandshakeExtensionInvalid,
            detail: format!("{} extensions were chosen, the last {further} are not looked at", chosen.len())
                .into(),
        });
        result.unknown = true;
    }
    for element in chosen.iter().take(MAXIMUM_EXTENSIONS) {
        let (name, parameters) = extensions::parse_element(element);
        if offered.as_ref().is_some_and(|offered| !offered.may_contain(name)) {
            findings.push(Finding {
                code: AnomalyCode::HandshakeExtensionNotOffered,
                detail: format!("{name} was chosen").into(),
            });
        }
        if name != PERMESSAGE_DEFLATE {
            result.unknown = true;
            continue;
        }
        let (parameters, defect) = DeflateElement::parse(Side::Answer, parameters);
        let repeated = result.compression != Compression::Off;
        let defect: Option<Cow<'static, str>> = match defect {
            _ if repeated => Some(format!("{name} was chosen twice").into()),
            Some(defect) => Some(defect.into()),
            None => offered
                .as_ref()
                .and_then(|offered| offered.contradiction(&parameters))
                .map(|why| format!("{name}: {why}").into()),
        };
        if let Some(detail) = defect {
            findings.push(Finding { code: AnomalyCode::HandshakeExtensionInvalid, detail });
        }
        if !repeated {
            result.compression = Compression::Deflate(parameters.agreed());
        }
    }
    result
}

/// What the first [`MAXIMUM_EXTENSIONS`] offers of a request say; of further ones nothing is known.
struct OfferedExtensions<'a> {
    names: Vec<&'a str>,
    /// Offers of permessage-deflate, and whether each is valid.
    deflate: Vec<(DeflateElement, bool)>,
    has_more: bool,
}

impl<'a> OfferedExtensions<'a> {
    fn of(offer: &'a Offer) -> Self {
        let mut elements = extensions::split_list(&offer.extensions);
        let mut result = Self { names: Vec::new(), deflate: Vec::new(), has_more: false };
        for element in elements.by_ref().take(MAXIMUM_EXTENSIONS) {
            let (name, parameters) = extensions::parse_element(element);
            result.names.push(name);
            if name == PERMESSAGE_DEFLATE {
                let (element, defect) = DeflateElement::parse(Side::Offer, parameters);
                result.deflate.push((element, defect.is_none()));
            }
        }
        result.has_more = elements.next().is_some();
        result
    }

    fn may_contain(&self, name: &str) -> bool {
        self.has_more || self.names.contains(&name)
    }

    /// Why an answer accepts none of the offers; `None` where it may, or where none was made.
    fn contradiction(&self, answer: &DeflateElement) -> Option<&'static str> {
        if self.has_more || self.deflate.is_empty() {
            return None;
        }
        let mut valid = self.deflate.iter().filter(|(_, is_valid)| *is_valid).map(|(offer, _)| offer);
        let Some(first) = valid.next() else {
            return Some("no offer of it is valid: it had to be declined");
        };
        let contradiction = answer.contradiction(first)?;
        let has_others = valid.clone().next().is_some();
        if valid.any(|offer| answer.contradiction(offer).is_none()) {
            return None;
        }
        Some(if has_others { "no offer of it allows this answer" } else { contradiction })
    }
}

/// What a server must answer to a key: base64 of the SHA-1 of the key and a fixed suffix (RFC 6455 §4.2.2).
pub fn accept_for(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize();
    let mut accept = [0; 28];
    // 20 bytes are 28 characters: it fits.
    let _ = BASE64.encode_slice(digest, &mut accept);
    accept
}

/// The values of every field of a name, which is given in lower case.
fn values<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// Whether the comma-separated list in the fields of a name has an element, in whatever case.
fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether the comma-separated list in the fields of a name has no other element, in whatever case.
fn is_only(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .all(|element| element.is_empty() || element.eq_ignore_ascii_case(token.as_bytes()))
}

fn texts<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a str> {
    values(headers, name).filter_map(|value| str::from_utf8(value).ok())
}

/// The fields of a name as one list (RFC 9110 §5.3).
fn join<'a>(headers: &[Header<'a>], name: &str) -> Option<Cow<'a, str>> {
    let mut texts = texts(headers, name).map(str::trim);
    let mut joined = Cow::Borrowed(texts.next()?);
    for text in texts {
        let joined = joined.to_mut();
        joined.push_str(", ");
        joined.push_str(text);
    }
    Some(joined)
}

fn list<'a>(headers: &[Header<'a>], name: &str) -> Vec<&'a str> {
    texts(headers, name).flat_map(extensions::split_list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{parse_request, parse_response};
    use crate::websocket::DeflateParameters;
    use proptest::prelude::*;

    /// The example of RFC 6455 §1.2.
    const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

    fn offer(request: &str) -> Offer {
        evaluate_request(&parse_request(request.as_bytes()).unwrap()).offer
    }

    fn with(head: &str, field: &str) -> String {
        head.replacen("\r\n", &format!("\r\n{field}\r\n"), 1)
    }

    fn without(head: &str, name: &str) -> String {
        let lines = head.split("\r\n").filter(|line| !line.starts_with(name));
        lines.collect::<Vec<_>>().join("\r\n")
    }

    fn request_findings(request: &str) -> Vec<AnomalyCode> {
        let head = parse_request(request.as_bytes()).unwrap();
        let evaluation = evaluate_request(&head);
        assert!(evaluation.is_upgrade);
        evaluation.findings.iter().map(|finding| finding.code).collect()
    }

    /// Accepted or not, what was negotiated, and the findings.
    fn answer(request: &str, answer: &str) -> (bool, Extensions, Vec<AnomalyCode>) {
        let head = parse_response(answer.as_bytes()).unwrap();
        let evaluation = evaluate_answer(&head, Some(&offer(request)));
        assert!(evaluation.switches);
        let findings = evaluation.findings.iter().map(|finding| finding.code).collect();
        (evaluation.accepted, evaluation.negotiated, findings)
    }

    #[test]
    fn the_example_of_rfc_6455_section_1_2_is_right() {
        let head = parse_request(REQUEST.as_bytes()).unwrap();
        let request = evaluate_request(&head);
        assert!(request.is_upgrade && request.findings.is_empty());
        assert_eq!(request.subprotocol.as_deref(), Some("chat, superchat"));
        assert_eq!(&*request.offer.target, "/chat");
        let head = parse_response(ANSWER.as_bytes()).unwrap();
        let answer = evaluate_answer(&head, Some(&request.offer));
        assert!(answer.switches && answer.accepted && answer.findings.is_empty());
        assert_eq!(answer.subprotocol.as_deref(), Some("chat"));
        assert_eq!(answer.negotiated, Extensions::default());
    }

    #[test]
    fn names_and_tokens_are_read_in_any_case_and_among_others() {
        let request = without(&without(REQUEST, "Upgrade"), "Connection");
        let request = with(&with(&request, "uPGRADE: h2c, WebSocket"), "CONNECTION: keep-alive, UPGRADE");
        assert_eq!(request_findings(&request), []);
    }

    #[test]
    fn a_plain_request_is_no_upgrade_and_nothing_is_found_in_it() {
        let head = parse_request(b"POST / HTTP/1.0\r\n\r\n").unwrap();
        let request = evaluate_request(&head);
        assert!(!request.is_upgrade && request.findings.is_empty());
    }

    #[test]
    fn each_thing_that_a_request_lacks_is_told() {
        for name in ["Host", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
            assert_eq!(
                request_findings(&without(REQUEST, name)),
                [AnomalyCode::HandshakeRequestInvalid],
                "{name}"
            );
        }
        for (from, to) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "not base64"),
            ("Version: 13", "Version: 8"),
            ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"),
        ] {
            let request = REQUEST.replacen(from, to, 1);
            assert_eq!(request_findings(&request), [AnomalyCode::HandshakeRequestInvalid], "{to}");
        }
    }

    #[test]
    fn a_target_is_a_path_or_an_http_uri_without_a_fragment() {
        for right in ["/", "/chat?a=b", "http://example.com/chat", "HTTPS://example.com/chat"] {
            assert_eq!(request_findings(&REQUEST.replacen("/chat", right, 1)), [], "{right}");
        }
        for wrong in ["*", "chat", "ws://example.com/chat", "/chat#part"] {
            let request = REQUEST.replacen("/chat", wrong, 1);
            assert_eq!(request_findings(&request), [AnomalyCode::HandshakeRequestInvalid], "{wrong}");
        }
    }

    #[test]
    fn what_may_be_sent_once_is_told_where_it_is_repeated() {
        for field in
            ["Host: other", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
        {
            let request = with(REQUEST, field);
            assert_eq!(request_findings(&request), [AnomalyCode::HandshakeRequestInvalid], "{field}");
        }
        for field in ["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Protocol: chat"] {
            let (_, _, findings) = answer(REQUEST, &with(ANSWER, field));
            assert_eq!(findings, [AnomalyCode::HandshakeAnswerInvalid], "{field}");
        }
    }

    #[test]
    fn offered_subprotocols_are_tokens_each_once() {
        let offering = |value: &str| REQUEST.replace("chat, superchat", value);
        for right in ["chat", "chat,superchat", "chat, , Chat,"] {
            assert_eq!(request_findings(&offering(right)), [], "{right}");
        }
        for wrong in ["", ",", "a b", "chat, superchat, chat", "a/b", "\u{e4}"] {
            let findings = request_findings(&offering(wrong));
            assert_eq!(findings, [AnomalyCode::HandshakeRequestInvalid], "{wrong}");
        }
        let twice = with(REQUEST, "Sec-WebSocket-Protocol: chat");
        assert_eq!(request_findings(&twice), [AnomalyCode::HandshakeRequestInvalid]);
    }

    #[test]
    fn a_chosen_subprotocol_is_one_token() {
        for wrong in ["", "chat, superchat", "ch at"] {
            let (accepted, _, findings) = answer(REQUEST, &ANSWER.replace(": chat", &format!(": {wrong}")));
            assert!(accepted);
            assert_eq!(findings, [AnomalyCode::HandshakeAnswerInvalid], "{wrong}");
        }
    }

    #[test]
    fn a_key_without_an_upgrade_tells_that_the_upgrade_was_lost_on_the_way() {
        let head = without(REQUEST, "Upgrade");
        let head = parse_request(head.as_bytes()).unwrap();
        let request = evaluate_request(&head);
        assert!(!request.is_upgrade);
        let codes: Vec<_> = request.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [AnomalyCode::HandshakeRequestInvalid]);
    }

    #[test]
    fn extensions_that_do_not_follow_the_grammar_are_told_on_both_sides() {
        for wrong in ["", ",", "a b", "a;", "a; b=", "a; b=\"c d\"", "\u{e4}"] {
            let field = format!("Sec-WebSocket-Extensions: {wrong}");
            let request = with(REQUEST, &field);
            assert_eq!(request_findings(&request), [AnomalyCode::HandshakeExtensionsMalformed], "{wrong}");
            let (_, _, findings) = answer(&request, &with(ANSWER, &field));
            assert_eq!(findings, [AnomalyCode::HandshakeExtensionsMalformed], "{wrong}");
        }
        assert_eq!(request_findings(&with(REQUEST, "Sec-WebSocket-Extensions: a;b=\"c\", , d")), []);
    }

    #[test]
    fn an_offer_with_invalid_parameters_is_told_and_must_be_declined() {
        let offered = |offers: &str| with(REQUEST, &format!("Sec-WebSocket-Extensions: {offers}"));
        let answered = with(ANSWER, "Sec-WebSocket-Extensions: permessage-deflate");
        let wrong = "permessage-deflate; server_max_window_bits=7";
        let request = offered(wrong);
        assert_eq!(request_findings(&request), [AnomalyCode::HandshakeExtensionInvalid]);
        assert_eq!(answer(&request, &answered).2, [AnomalyCode::HandshakeExtensionInvalid]);
        let request = offered(&format!("{wrong}, permessage-deflate"));
        assert_eq!(answer(&request, &answered).2, [], "another offer is accepted");
    }

    #[test]
    fn an_answer_must_accept_one_of_the_offers() {
        let request = |offers: &str| with(REQUEST, &format!("Sec-WebSocket-Extensions: {offers}"));
        let strict = "permessage-deflate; server_max_window_bits=10";
        let strictest = "permessage-deflate; server_max_window_bits=9";
        let answered = |parameters: &str| {
            with(ANSWER, &format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}"))
        };
        for (offers, parameters, is_right) in [
            (strict.to_owned(), "", false),
            (strict.to_owned(), "; server_max_window_bits=11", false),
            (strict.to_owned(), "; server_max_window_bits=8", true),
            (format!("{strict}, permessage-deflate"), "", true),
            (format!("{strict}, {strictest}"), "; server_max_window_bits=11", false),
        ] {
            let (_, negotiated, findings) = answer(&request(&offers), &answered(parameters));
            assert!(negotiated.compression.is_possible());
            let expected: &[_] = if is_right { &[] } else { &[AnomalyCode::HandshakeExtensionInvalid] };
            assert_eq!(findings, expected, "{offers}, answered{parameters}");
        }
    }

    #[test]
    fn an_answer_that_accepts_what_it_must_refuse_is_told() {
        let requests = [
            REQUEST.replacen("GET", "POST", 1),
            REQUEST.replacen("HTTP/1.1", "HTTP/1.0", 1),
            without(REQUEST, "Host"),
            without(REQUEST, "Connection"),
            without(REQUEST, "Sec-WebSocket-Version"),
            without(REQUEST, "Sec-WebSocket-Key"),
        ];
        for request in requests {
            assert_eq!(answer(&request, ANSWER).2, [AnomalyCode::HandshakeInvalidAccepted], "{request}");
        }
    }

    #[test]
    fn a_server_may_know_other_versions_and_need_not_decode_the_key() {
        assert_eq!(answer(&REQUEST.replace("Version: 13", "Version: 8"), ANSWER).2, []);
        let request = REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
        let accept = String::from_utf8(accept_for(b"short").to_vec()).unwrap();
        assert_eq!(answer(&request, &ANSWER.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &accept)).2, []);
    }

    #[test]
    fn an_upgrade_in_an_answer_names_websocket_alone() {
        let (accepted, _, findings) = answer(REQUEST, &ANSWER.replace(": websocket", ": websocket, h2c"));
        assert_eq!((accepted, findings), (false, vec![AnomalyCode::HandshakeAnswerInvalid]));
        assert_eq!(answer(REQUEST, &ANSWER.replace(": websocket", ": WebSocket")).2, []);
    }

    #[test]
    fn who_refuses_a_version_names_those_it_knows() {
        let refusal = "HTTP/1.1 426 Upgrade Required\r\n\r\n";
        let named = with(refusal, "Sec-WebSocket-Version: 13");
        let findings = |request: &str, answer: &str| {
            let head = parse_response(answer.as_bytes()).unwrap();
            let findings = evaluate_answer(&head, Some(&offer(request))).findings;
            findings.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        let other = REQUEST.replace("Version: 13", "Version: 99");
        assert_eq!(findings(&other, refusal), [AnomalyCode::HandshakeVersionsUnnamed]);
        assert_eq!(findings(&other, &named), []);
        assert_eq!(findings(REQUEST, refusal), [], "it may ask for something else");
        assert_eq!(
            findings(&other, "HTTP/1.1 403 Forbidden\r\n\r\n"),
            [],
            "it may refuse for another reason"
        );
    }

    #[test]
    fn a_wrong_accept_is_told_and_the_frames_are_still_expected() {
        let wrong = ANSWER.replace("s3pP", "S3pP");
        assert_eq!(
            answer(REQUEST, &wrong),
            (false, Extensions::default(), vec![AnomalyCode::HandshakeWrongAccept])
        );
    }

    #[test]
    fn each_thing_that_an_answer_lacks_is_told() {
        for name in ["Upgrade", "Connection", "Sec-WebSocket-Accept"] {
            let (accepted, _, findings) = answer(REQUEST, &without(ANSWER, name));
            assert!(!accepted);
            assert_eq!(findings, [AnomalyCode::HandshakeAnswerInvalid], "{name}");
        }
    }

    #[test]
    fn a_subprotocol_that_was_not_offered_is_told() {
        let (accepted, _, findings) = answer(REQUEST, &ANSWER.replace(": chat", ": other"));
        assert!(accepted);
        assert_eq!(findings, [AnomalyCode::HandshakeSubprotocolNotOffered]);
    }

    #[test]
    fn an_answer_without_its_request_is_judged_by_itself() {
        let head = parse_response(ANSWER.as_bytes()).unwrap();
        let answer = evaluate_answer(&head, None);
        assert!(answer.switches && answer.accepted && answer.findings.is_empty());
    }

    #[test]
    fn a_refusal_and_another_upgrade_do_not_switch() {
        for head in ["HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n"] {
            let answer = evaluate_answer(&parse_response(head.as_bytes()).unwrap(), Some(&offer(REQUEST)));
            assert!(!answer.switches && !answer.accepted && answer.findings.is_empty());
        }
    }

    #[test]
    fn compression_is_negotiated_among_several_offers_in_several_fields() {
        let request =
            with(REQUEST, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other");
        let request = with(&request, "sec-websocket-extensions: permessage-deflate");
        let head = parse_request(request.as_bytes()).unwrap();
        let extensions = evaluate_request(&head).extensions;
        assert_eq!(
            extensions,
            ["permessage-deflate", "permessage-deflate; client_max_window_bits", "x-other"]
        );
        let field = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\"10\"";
        let (accepted, negotiated, findings) = answer(&request, &with(ANSWER, field));
        let parameters = DeflateParameters { client_max_window_bits: 10, ..DeflateParameters::default() };
        assert!(accepted && findings.is_empty());
        assert_eq!(negotiated, Extensions { compression: Compression::Deflate(parameters), unknown: false });
        assert_eq!(negotiated.compression.parameters(), Some(parameters));
    }

    #[test]
    fn an_extension_that_was_not_offered_is_told_and_holds() {
        let field = "Sec-WebSocket-Extensions: permessage-deflate";
        let (accepted, negotiated, findings) = answer(REQUEST, &with(ANSWER, field));
        assert!(accepted && negotiated.compression.is_possible());
        assert_eq!(findings, [AnomalyCode::HandshakeExtensionNotOffered]);
    }

    #[test]
    fn invalid_parameters_and_a_second_choice_are_told() {
        let request = with(REQUEST, "Sec-WebSocket-Extensions: permessage-deflate");
        for field in
            ["permessage-deflate; client_max_window_bits=10", "permessage-deflate, permessage-deflate"]
        {
            let field = format!("Sec-WebSocket-Extensions: {field}");
            let (_, negotiated, findings) = answer(&request, &with(ANSWER, &field));
            assert!(negotiated.compression.is_possible());
            assert_eq!(findings, [AnomalyCode::HandshakeExtensionInvalid]);
        }
    }

    #[test]
    fn more_extensions_than_anybody_chooses_are_told_once_and_called_unknown() {
        // Comparing each choice with each offer would take minutes.
        let many = format!("Sec-WebSocket-Extensions: {}", "a,".repeat(100_000));
        let (accepted, negotiated, findings) = answer(&with(REQUEST, &many), &with(ANSWER, &many));
        assert!(accepted);
        assert_eq!(negotiated, Extensions { compression: Compression::Off, unknown: true });
        assert_eq!(findings, [AnomalyCode::HandshakeExtensionInvalid]);
    }

    #[test]
    fn a_choice_that_may_be_among_offers_not_looked_at_is_not_blamed() {
        let many =
            format!("Sec-WebSocket-Extensions: {} permessage-deflate", "a,".repeat(MAXIMUM_EXTENSIONS));
        let field = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10";
        let (_, negotiated, findings) = answer(&with(REQUEST, &many), &with(ANSWER, field));
        assert!(negotiated.compression.is_possible());
        assert_eq!(findings, []);
    }

    #[test]
    fn as_many_extensions_as_are_looked_at_are_all_compared() {
        let field = format!("Sec-WebSocket-Extensions: {}", "a,".repeat(MAXIMUM_EXTENSIONS));
        let (_, _, findings) = answer(&with(REQUEST, &field), &with(ANSWER, &field.replace("a,", "b,")));
        assert_eq!(findings, [AnomalyCode::HandshakeExtensionNotOffered; MAXIMUM_EXTENSIONS]);
    }

    #[test]
    fn an_extension_that_nobody_here_knows_is_known_as_such() {
        let request = with(REQUEST, "Sec-WebSocket-Extensions: x-webkit-deflate-frame");
        let field = "Sec-WebSocket-Extensions: x-webkit-deflate-frame";
        let (_, negotiated, findings) = answer(&request, &with(ANSWER, field));
        assert_eq!(negotiated, Extensions { compression: Compression::Off, unknown: true });
        assert_eq!(findings, []);
    }

    proptest! {
        #[test]
        fn any_field_values_are_evaluated_without_a_panic(value in "\\PC{0,60}", name in 0usize..8) {
            let names = [
                "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Accept", "Sec-WebSocket-Version",
                "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Host",
            ];
            let field = format!("{}: {value}", names[name]);
            let (request, response) = (with(REQUEST, &field), with(ANSWER, &field));
            if let (Ok(request), Ok(response)) =
                (parse_request(request.as_bytes()), parse_response(response.as_bytes()))
            {
                let request = evaluate_request(&request);
                evaluate_answer(&response, Some(&request.offer));
            }
        }
    }
}

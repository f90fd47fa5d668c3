//! Owns the HTTP request that opens a connection, and every answer to it.
//!
//! Must not know WebSocket frames or the chat. One request per connection, read by hyper, of at most [`MAX_HEAD_BYTES`];
//! the caller bounds the time. What is not an upgrade gets an answer that says what to do instead.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use sockudo_ws::deflate::{DeflateConfig, DeflateNegotiation, negotiate_server_deflate};
use sockudo_ws::handshake::generate_accept_key;
use tokio::net::TcpStream;

use crate::config::Compression;
use crate::origin;

/// Longest request head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Echo,
}

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The chat, and `/echo` where it is switched on.
    Open { echo: bool, compression: Compression },
    /// Nothing: the server is full.
    Full,
}

/// How a request ended.
pub(crate) enum Outcome {
    /// The connection speaks WebSocket now.
    Upgraded(Upgraded),
    /// It was answered with this status.
    Answered(StatusCode),
    /// It came from a page that may not use this server.
    Foreign { origin: String },
    /// Nothing that could be answered came.
    Nothing,
}

/// A connection behind its upgrade.
pub(crate) struct Upgraded {
    pub(crate) endpoint: Endpoint,
    pub(crate) stream: TcpStream,
    /// What followed the request.
    pub(crate) leftover: Bytes,
    /// How messages are compressed, where they are.
    pub(crate) deflate: Option<DeflateConfig>,
}

/// A request that is granted.
struct Grant {
    endpoint: Endpoint,
    key: HeaderValue,
    deflate: Option<DeflateNegotiation>,
}

#[derive(Default)]
struct Exchange {
    status: Option<StatusCode>,
    foreign_origin: Option<String>,
    upgrade: Option<(Endpoint, Option<DeflateConfig>, OnUpgrade)>,
}

/// Reads one request and answers it; pages of `allowed_origins` are let in as well as the server's own.
pub(crate) async fn receive(stream: TcpStream, admission: Admission, allowed_origins: &[String]) -> Outcome {
    let arrived_at = stream.local_addr().ok().map(|address| address.ip());
    let exchange = Arc::new(Mutex::new(Exchange::default()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let exchange = Arc::clone(&exchange);
        async move {
            let decision = decide(&request, admission, arrived_at, allowed_origins);
            let mut exchange = exchange.lock().unwrap_or_else(PoisonError::into_inner);
            let response = match decision {
                Ok(grant) => {
                    let deflate = grant.deflate.as_ref().map(|deflate| deflate.config.clone());
                    exchange.upgrade = Some((grant.endpoint, deflate, hyper::upgrade::on(&mut request)));
                    switch_protocols(&grant)
                }
                Err(refusal) => {
                    exchange.foreign_origin.clone_from(&refusal.foreign_origin);
                    refusal.into_response()
                }
            };
            exchange.status = Some(response.status());
            Ok::<_, Infallible>(response)
        }
    });
    // A read error after an answer (a client that resets instead of closing) does not undo the answer.
    let _ = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let exchange = std::mem::take(&mut *exchange.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(origin) = exchange.foreign_origin {
        return Outcome::Foreign { origin };
    }
    let Some((endpoint, deflate, upgrade)) = exchange.upgrade else {
        return exchange.status.map_or(Outcome::Nothing, Outcome::Answered);
    };
    let Ok(upgraded) = upgrade.await else { return Outcome::Nothing };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return Outcome::Nothing };
    Outcome::Upgraded(Upgraded { endpoint, stream: parts.io.into_inner(), leftover: parts.read_buf, deflate })
}

/// An answer that is not an upgrade.
struct Refusal {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    text: &'static str,
    foreign_origin: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, headers: Vec::new(), text, foreign_origin: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from_static(self.text.as_bytes())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// RFC 6455 §4.2.1, each condition with its own answer.
fn decide<B: hyper::body::Body>(
    request: &Request<B>,
    admission: Admission,
    arrived_at: Option<IpAddr>,
    allowed_origins: &[String],
) -> Result<Grant, Refusal> {
    let Admission::Open { echo, compression } = admission else {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "The chat is full. Try again later.\n"));
    };
    let endpoint = match request.uri().path() {
        "/" => Endpoint::Chat,
        "/echo" if echo => Endpoint::Echo,
        "/echo" => {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "/echo is switched off. Start the server with --echo to have it; the chat is at /.\n",
            ));
        }
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "Nothing is here; the chat is at /.\n")),
    };
    if request.method() != Method::GET {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "A WebSocket is opened with GET.\n")
            .with(ALLOW, "GET"));
    }
    let headers = request.headers();
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "This port speaks WebSocket: connect to it with ws://, not with http://.\n",
        )
        .with(UPGRADE, "websocket")
        .with(CONNECTION, "Upgrade, close"));
    }
    if let Err(origin) = origin::admit(headers, arrived_at, allowed_origins) {
        let text =
            "Pages of that origin may not use this chat. Its server lets them in with --allow-origin.\n";
        return Err(Refusal { foreign_origin: Some(origin), ..Refusal::new(StatusCode::FORBIDDEN, text) });
    }
    let bad_request = |text| Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    if request.version() != Version::HTTP_11 {
        return bad_request("A WebSocket is opened with HTTP/1.1.\n");
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return bad_request("The Connection header has to name Upgrade.\n");
    }
    if !request.body().is_end_stream() {
        return bad_request("A request that opens a WebSocket has no body.\n");
    }
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    if versions.next().map(HeaderValue::as_bytes) != Some(b"13") || versions.next().is_some() {
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "This server speaks WebSocket version 13.\n")
            .with(SEC_WEBSOCKET_VERSION, "13")
            .with(UPGRADE, "websocket")
            .with(CONNECTION, "Upgrade, close"));
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => {
            Ok(Grant { endpoint, key: key.clone(), deflate: negotiate(headers, compression) })
        }
        _ => bad_request("There has to be one Sec-WebSocket-Key, of 16 bytes in base64.\n"),
    }
}

/// What of the client's offers is taken (RFC 7692 §7.1), if anything.
fn negotiate(headers: &HeaderMap, compression: Compression) -> Option<DeflateNegotiation> {
    let without_takeover = match compression {
        Compression::Off => return None,
        Compression::On => false,
        Compression::WithoutContextTakeover => true,
    };
    let policy = DeflateConfig {
        server_no_context_takeover: without_takeover,
        client_no_context_takeover: without_takeover,
        ..DeflateConfig::default()
    };
    let offers: Vec<&str> =
        headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok()).collect();
    negotiate_server_deflate(&offers.join(","), &policy)
}

fn switch_protocols(grant: &Grant) -> Response<Full<Bytes>> {
    let accept = generate_accept_key(grant.key.to_str().unwrap_or_default());
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    let deflate = grant.deflate.as_ref().map(|deflate| HeaderValue::try_from(deflate.to_response_header()));
    if let Some(Ok(deflate)) = deflate {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, deflate);
    }
    response
}

/// Whether a comma-separated header holds a token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    parts(headers, name).any(|part| part.eq_ignore_ascii_case(token))
}

/// The parts of a comma-separated header, in however many lines it stands.
pub(crate) fn parts<'headers>(
    headers: &'headers HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'headers str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether this is the base64 form of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_last_chunk::<2>() else { return false };
    digits.len() == 22
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        // The last digit carries two bits; the other four have to be zero.
        && digits.last().is_some_and(|last| b"AQgw".contains(last))
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    const OPEN: Admission = Admission::Open { echo: false, compression: Compression::Off };

    fn status(admission: Admission, change: impl FnOnce(&mut Request<Empty<Bytes>>)) -> StatusCode {
        let mut request = Request::builder()
            .uri("/")
            .header("Upgrade", "WebSocket")
            .header("Connection", "keep-alive, Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Empty::new())
            .unwrap();
        change(&mut request);
        match decide(&request, admission, None, &[]) {
            Ok(grant) => switch_protocols(&grant).status(),
            Err(refusal) => refusal.into_response().status(),
        }
    }

    fn with(name: &'static str, value: &'static str) -> impl FnOnce(&mut Request<Empty<Bytes>>) {
        move |request| {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }

    #[test]
    fn the_rfcs_own_request_is_accepted_with_the_rfcs_own_answer() {
        assert_eq!(status(OPEN, |_| ()), 101);
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let response = switch_protocols(&Grant { endpoint: Endpoint::Chat, key, deflate: None });
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_fault_has_its_status() {
        assert_eq!(status(OPEN, |request| *request.uri_mut() = "/chat".parse().unwrap()), 404);
        assert_eq!(status(OPEN, |request| *request.uri_mut() = "/echo".parse().unwrap()), 404);
        assert_eq!(status(OPEN, |request| *request.uri_mut() = "/?room_id=1".parse().unwrap()), 101);
        let echo = Admission::Open { echo: true, compression: Compression::Off };
        assert_eq!(status(echo, |request| *request.uri_mut() = "/echo".parse().unwrap()), 101);
        assert_eq!(status(Admission::Full, |_| ()), 503);
        assert_eq!(status(OPEN, |request| *request.method_mut() = Method::POST), 405);
        assert_eq!(status(OPEN, |request| *request.version_mut() = Version::HTTP_10), 400);
        assert_eq!(status(OPEN, with("upgrade", "h2c")), 426);
        assert_eq!(status(OPEN, with("origin", "https://example.com")), 403);
        assert_eq!(status(OPEN, with("connection", "close")), 400);
        assert_eq!(status(OPEN, with("sec-websocket-version", "8")), 426);
        for key in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25jZ===", "%%%%"]
        {
            assert_eq!(status(OPEN, with("sec-websocket-key", key)), 400, "{key}");
        }
        let second = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(
            status(OPEN, |request| {
                request.headers_mut().append(SEC_WEBSOCKET_KEY, second);
            }),
            400
        );
    }

    /// The extensions that the answer names.
    fn negotiated(compression: Compression, offers: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
        }
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let deflate = negotiate(&headers, compression);
        let response = switch_protocols(&Grant { endpoint: Endpoint::Chat, key, deflate });
        let named = response.headers().get(SEC_WEBSOCKET_EXTENSIONS);
        named.map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    #[test]
    fn compression_is_agreed_on_where_it_is_switched_on_and_offered() {
        let offer = ["permessage-deflate; client_max_window_bits"];
        assert_eq!(negotiated(Compression::Off, &offer), "");
        assert_eq!(negotiated(Compression::On, &[]), "");
        assert_eq!(negotiated(Compression::On, &["x-webkit-deflate-frame"]), "");
        assert_eq!(negotiated(Compression::On, &offer), "permessage-deflate");
        assert_eq!(
            negotiated(Compression::WithoutContextTakeover, &offer),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        );
        // The client decides what it inflates; of several offers the first possible one is taken.
        assert_eq!(
            negotiated(
                Compression::On,
                &["permessage-deflate; nonsense", "permessage-deflate; server_max_window_bits=10"]
            ),
            "permessage-deflate; server_max_window_bits=10"
        );
    }
}

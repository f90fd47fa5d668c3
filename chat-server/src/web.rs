//! Owns the web page of the chat: its files, which are a part of the binary, and the answers of the port that has them.
//!
//! Must not know what the page does with the chat, nor who is in it. One request per connection, of at most
//! [`MAX_HEAD_BYTES`] and within the handshake timeout; nothing grows. The page's own limits stand in `web/chat.js`.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::http::{self, MAX_HEAD_BYTES};
use crate::origin;
use crate::server::Server;

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

/// The page itself; what stands in it in double braces is filled in by [`Settings`].
const PAGE: File =
    File { path: "/", content_type: "text/html; charset=utf-8", content: include_str!("../web/index.html") };
const FILES: [File; 3] = [
    File {
        path: "/chat.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("../web/chat.js"),
    },
    File {
        path: "/chat.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("../web/chat.css"),
    },
    File { path: "/icon.svg", content_type: "image/svg+xml", content: include_str!("../web/icon.svg") },
];

/// What the page has to know of the server that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    websocket_port: u16,
    max_message_bytes: usize,
    /// After so much silence the connection is dead, whatever TCP believes; 0 where there is no heartbeat.
    max_silence_ms: u128,
}

impl Settings {
    /// For a page that was asked for at this address: the WebSocket port that can be reached there too.
    fn new(config: &Config, websockets: &[SocketAddr], arrived_at: Option<SocketAddr>) -> Self {
        let takes = |websocket: &&SocketAddr| {
            arrived_at.is_some_and(|address| {
                let (address, listening) = (address.ip().to_canonical(), websocket.ip());
                address == listening
                    || (listening.is_unspecified() && (listening.is_ipv6() || address.is_ipv4()))
            })
        };
        Self {
            websocket_port: websockets.iter().find(takes).or(websockets.first()).map_or(0, SocketAddr::port),
            max_message_bytes: config.max_message_bytes,
            max_silence_ms: if config.ping_interval.is_zero() {
                0
            } else {
                (config.ping_interval + config.ping_timeout).as_millis()
            },
        }
    }

    fn fill_in(&self, page: &str) -> String {
        page.replace("{{websocket_port}}", &self.websocket_port.to_string())
            .replace("{{max_message_bytes}}", &self.max_message_bytes.to_string())
            .replace("{{max_silence_ms}}", &self.max_silence_ms.to_string())
    }
}

/// Serves one TCP connection of the page's port; where there is no place for it, it is told so.
pub(crate) async fn serve(server: Arc<Server>, stream: TcpStream, client: SocketAddr, is_full: bool) {
    let settings = Settings::new(&server.config, &server.websockets, stream.local_addr().ok());
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        server.statistics.page_requests_answered.increment();
        let (head, _) = request.into_parts();
        let response = if is_full {
            text(StatusCode::SERVICE_UNAVAILABLE, "Too many ask at the same time. Try again.\n")
        } else {
            answer(&head, &settings)
        };
        server.log.detail(format_args!("{client}: page request answered with {}", response.status()));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        outcome = timeout(server.config.handshake_timeout, connection) => {
            // Browsers open connections that they may need, so a silent one is nothing to warn of.
            if outcome.is_err() {
                server.statistics.page_requests_timed_out.increment();
                server.log.detail(format_args!("{client}: page request not over in time"));
            }
        }
        () = server.stopping() => {}
    }
}

fn answer(request: &Parts, settings: &Settings) -> Response<Full<Bytes>> {
    let mut response = decide(request, settings);
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = content_security_policy(&request.headers, settings.websocket_port);
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn decide(request: &Parts, settings: &Settings) -> Response<Full<Bytes>> {
    let path = request.uri.path();
    let Some(file) = std::iter::once(&PAGE).chain(&FILES).find(|file| file.path == path) else {
        return text(StatusCode::NOT_FOUND, "Nothing is here; the chat's page is at /.\n");
    };
    if request.method != Method::GET && request.method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "This page is for reading: GET or HEAD.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let content = if file.path == PAGE.path {
        Bytes::from(settings.fill_in(file.content))
    } else {
        Bytes::from_static(file.content.as_bytes())
    };
    let tag = entity_tag(&content);
    let is_known = http::parts(&request.headers, &IF_NONE_MATCH)
        .any(|known| known.trim_start_matches("W/") == tag || known == "*");
    let mut response = if is_known {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Full::new(content))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    // Kept by browsers, but asked for each time: the next start of the server may be of another version.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn entity_tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Everything is forbidden that the page does not need: its script, style and icon come from here, and it connects to
/// the chat alone.
fn content_security_policy(headers: &HeaderMap, websocket_port: u16) -> String {
    // A policy cannot name an IPv6 address (CSP 3 §2.3.1), so there any host is allowed, on that port.
    let host = headers
        .get(HOST)
        .and_then(origin::host)
        .map(|authority| authority.host().to_owned())
        .filter(|host| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
        .unwrap_or_else(|| "*".to_owned());
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src ws://{host}:{websocket_port} wss://{host}:{websocket_port}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(websockets: &[&str], arrived_at: &str) -> Settings {
        let websockets: Vec<SocketAddr> = websockets.iter().map(|address| address.parse().unwrap()).collect();
        Settings::new(&Config::default(), &websockets, Some(arrived_at.parse().unwrap()))
    }

    #[test]
    fn the_page_is_told_the_port_that_can_be_reached_where_it_was_asked_for() {
        for (websockets, arrived_at, port) in [
            (&["127.0.0.1:1", "[::1]:2"][..], "127.0.0.1:55151", 1),
            (&["127.0.0.1:1", "[::1]:2"], "[::1]:55151", 2),
            (&["127.0.0.1:1", "[::]:2"], "192.0.2.1:55151", 2),
            (&["127.0.0.1:1", "0.0.0.0:2"], "[::ffff:192.0.2.1]:55151", 2),
            (&["127.0.0.1:1", "0.0.0.0:2"], "[2001:db8::1]:55151", 1),
        ] {
            assert_eq!(settings(websockets, arrived_at).websocket_port, port, "{websockets:?} {arrived_at}");
        }
    }

    #[test]
    fn everything_that_the_page_has_to_know_is_filled_in() {
        let page = settings(&["127.0.0.1:7272"], "127.0.0.1:55151").fill_in(PAGE.content);
        for part in [
            r#"data-websocket-port="7272""#,
            r#"data-max-message-bytes="65536""#,
            r#"data-max-silence-ms="50000""#,
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("{{"));
    }

    #[test]
    fn without_a_heartbeat_the_page_waits_for_ever() {
        let config = Config { ping_interval: std::time::Duration::ZERO, ..Config::default() };
        assert_eq!(Settings::new(&config, &[], None).max_silence_ms, 0);
    }

    #[test]
    fn the_policy_names_the_host_where_it_can_and_never_what_is_no_host() {
        let policy = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            let policy = content_security_policy(&headers, 7272);
            policy.split("; ").find(|part| part.starts_with("connect-src")).unwrap().to_owned()
        };
        assert_eq!(policy("127.0.0.1:55151"), "connect-src ws://127.0.0.1:7272 wss://127.0.0.1:7272");
        assert_eq!(policy("host.lan"), "connect-src ws://host.lan:7272 wss://host.lan:7272");
        for host in ["[::1]:55151", "", "x;script-src *", "a'b", "u@h", "x y"] {
            assert_eq!(policy(host), "connect-src ws://*:7272 wss://*:7272", "{host}");
        }
    }

    #[test]
    fn nothing_on_the_page_needs_what_its_policy_forbids() {
        for part in ["style=", "onclick", "<style", "javascript:", "innerHTML", "http://", "https://"] {
            for file in std::iter::once(&PAGE).chain(&FILES).filter(|file| file.path != "/icon.svg") {
                assert!(!file.content.contains(part), "{} has {part}", file.path);
            }
        }
    }
}

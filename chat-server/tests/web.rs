//! Owns the answers of the page's port: what is there, what is not, and what they tell browsers to forbid.

mod support;

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use support::{Server, read_to_end};

/// An answer: its head, with names in lower case, and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn ask(server: &Server, request: &str) -> Answer {
    let mut stream = TcpStream::connect(server.page).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn get(server: &Server, path: &str) -> Answer {
    ask(server, &format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.page)).await
}

#[tokio::test]
async fn the_page_and_its_files_are_there_with_their_types() {
    let server = Server::start(|_| ()).await;
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/?room_id=7", "text/html; charset=utf-8", "<!doctype html>"),
        ("/chat.js", "text/javascript; charset=utf-8", "WebSocket"),
        ("/chat.css", "text/css; charset=utf-8", "color-scheme"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let answer = get(&server, path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{path}");
        assert!(answer.body.contains(part), "{path}");
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "{path}");
    }
    assert_eq!(server.stop().await.page_requests_answered, 5);
}

#[tokio::test]
async fn the_page_is_told_the_port_of_the_chat() {
    let server = Server::start(|config| config.max_message_bytes = 1234).await;
    let page = get(&server, "/").await.body;
    let port = format!(r#"data-websocket-port="{}""#, server.address.port());
    for part in [&port, r#"data-max-message-bytes="1234""#, r#"data-max-silence-ms="50000""#] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let server = Server::start(|_| ()).await;
    for path in ["/", "/chat.js", "/chat.css", "/icon.svg", "/nothing"] {
        let answer = get(&server, path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        let chat = server.address;
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            &format!("connect-src ws://{chat} wss://{chat}"),
        ] {
            assert!(policy.split("; ").any(|directive| directive == part), "{part} is missing in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let server = Server::start(|_| ()).await;
    let whole = get(&server, "/").await;
    let head = ask(&server, &format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", server.page)).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for name in ["content-length", "content-type", "etag", "content-security-policy"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
        assert!(head.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_not_reading_is_405() {
    let server = Server::start(|_| ()).await;
    for path in ["/nothing", "/chat.js/", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "//", "/CHAT.JS"] {
        assert_eq!(get(&server, path).await.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer =
            ask(&server, &format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(ask(&server, "this is not HTTP\r\n\r\n").await.status, 400);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!([0, 431].contains(&ask(&server, &long).await.status));
    assert_eq!(get(&server, "/").await.status, 200);
}

#[tokio::test]
async fn a_browser_that_has_the_page_is_told_so_and_one_that_has_another_gets_it() {
    let server = Server::start(|_| ()).await;
    for path in ["/", "/chat.js"] {
        let first = get(&server, path).await;
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let tag = first.header("etag").unwrap();
        let again = async |tag: &str| {
            ask(&server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")).await
        };
        for known in [tag.to_owned(), format!("\"other\", W/{tag}")] {
            let answer = again(&known).await;
            assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
            assert_eq!(answer.header("etag"), Some(tag));
        }
        assert_eq!(again("\"other\"").await.status, 200);
    }
    assert_eq!(get(&server, "/nothing").await.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_connection_is_for_one_request() {
    let server = Server::start(|_| ()).await;
    let two = "GET /icon.svg HTTP/1.1\r\nHost: x\r\n\r\nGET /chat.js HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = ask(&server, two).await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.body.ends_with("</svg>\n"), "{}", answer.body);
}

#[tokio::test]
async fn a_browser_that_does_not_ask_or_does_not_read_is_dropped_in_time() {
    let server = Server::start(|config| config.handshake_timeout = Duration::from_millis(300)).await;
    let mut silent = TcpStream::connect(server.page).await.unwrap();
    let mut slow = TcpStream::connect(server.page).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    assert!(read_to_end(&mut silent).await.is_empty());
    assert!(read_to_end(&mut slow).await.is_empty());
    assert_eq!(server.stop().await.page_requests_timed_out, 2);
}

#[tokio::test]
async fn a_crowd_at_the_page_is_answered_503_and_takes_no_place_in_the_chat() {
    let server = Server::start(|config| {
        config.max_page_connections = 2;
        config.max_connections = 1;
    })
    .await;
    let crowd =
        [TcpStream::connect(server.page).await.unwrap(), TcpStream::connect(server.page).await.unwrap()];
    let answer = get(&server, "/").await;
    assert_eq!(answer.status, 503, "{}", answer.head);
    server.member("Ann").await;
    drop(crowd);
    while get(&server, "/").await.status != 200 {}
    let summary = server.stop().await;
    assert!(summary.page_connections_refused >= 1);
    assert_eq!((summary.connections_accepted, summary.connections_refused), (1, 0));
}

#[tokio::test]
async fn the_page_does_not_hold_up_the_end() {
    let server = Server::start(|config| config.handshake_timeout = Duration::from_secs(3600)).await;
    let mut waiting = TcpStream::connect(server.page).await.unwrap();
    waiting.write_all(b"GET /").await.unwrap();
    server.member("Ann").await;
    server.stop().await;
    assert!(read_to_end(&mut waiting).await.is_empty());
}

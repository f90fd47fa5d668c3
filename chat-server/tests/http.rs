//! Owns the answers to requests that do not become a WebSocket, and to those that never come.

mod support;

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use support::{Client, Server, read_to_end};

async fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(read_to_end(&mut stream).await).unwrap()
}

const HANDSHAKE: &str = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn requests_that_are_no_upgrade_are_told_what_to_do() {
    let server = Server::start(|_| ()).await;
    let answer = ask(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
    assert!(answer.contains("Upgrade: websocket\r\n") && answer.contains("ws://"), "{answer}");
    let answer = ask(&server, &format!("GET /nowhere HTTP/1.1\r\n{HANDSHAKE}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("chat is at /"), "{answer}");
    let answer = ask(&server, &format!("GET /echo HTTP/1.1\r\n{HANDSHAKE}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("--echo"), "{answer}");
    let answer = ask(&server, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET\r\n"), "{answer}");
    let answer = ask(&server, &format!("GET / HTTP/1.1\r\n{}\r\n", HANDSHAKE.replace("13", "12"))).await;
    assert!(
        answer.starts_with("HTTP/1.1 426 ") && answer.contains("Sec-Websocket-Version: 13\r\n"),
        "{answer}"
    );
    let answer = ask(&server, &format!("GET / HTTP/1.1\r\n{}\r\n", HANDSHAKE.replace("dGhl", ""))).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Sec-WebSocket-Key"), "{answer}");
    let answer = ask(&server, &format!("GET / HTTP/1.1\r\n{HANDSHAKE}Content-Length: 3\r\n\r\nabc")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = ask(&server, "this is not HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = ask(&server, &format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000))).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut client = server.client().await;
    client.login("Ann").await;
    assert_eq!(server.stop().await.chat_connections, 1);
}

#[tokio::test]
async fn a_query_does_not_hide_the_chat() {
    let server = Server::start(|_| ()).await;
    Client::connect(server.address, "/?from=somewhere").await.login("Ann").await;
}

#[tokio::test]
async fn a_connection_that_does_not_finish_its_request_is_dropped() {
    let server = Server::start(|config| config.handshake_timeout = Duration::from_millis(300)).await;
    let start = Instant::now();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut trickling = TcpStream::connect(server.address).await.unwrap();
    let trickle = async {
        for byte in format!("GET / HTTP/1.1\r\n{HANDSHAKE}X: {}", "x".repeat(1000)).bytes() {
            if trickling.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody stopped this");
    };
    let (end, ()) = tokio::join!(read_to_end(&mut silent), trickle);
    assert!(end.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(server.stop().await.handshakes_timed_out, 2);
}

#[tokio::test]
async fn a_full_server_answers_503_and_has_room_again_when_somebody_leaves() {
    let server = Server::start(|config| config.max_connections = 2).await;
    let ann = server.member("Ann").await;
    let mut bob = server.member("Bob").await;
    let answer = ask(&server, &format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("full"), "{answer}");
    drop(ann);
    assert_eq!(bob.json().await["type"], "logout");
    let start = Instant::now();
    while !ask(&server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 426 ") {
        assert!(start.elapsed() < support::PATIENCE, "the place is not given again");
    }
    server.member("Cem").await;
    assert!(server.stop().await.connections_refused >= 1);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_and_the_servers_own_is_not() {
    let server =
        Server::start(|config| config.allowed_origins = vec!["https://chat.example.org".into()]).await;
    let upgrade = async |host: &str, origin: &str| {
        let handshake = HANDSHAKE.replace("Host: x", &format!("Host: {host}"));
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\n{handshake}Origin: {origin}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        support::read_head(&mut stream).await
    };
    for origin in ["https://example.com", "null", "http://evil.example"] {
        let answer = upgrade("evil.example", origin).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    for origin in ["http://127.0.0.1:55151", "http://localhost", "https://chat.example.org"] {
        let answer = upgrade("127.0.0.1:7272", origin).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
    assert_eq!(server.stop().await.origins_refused, 3);
}

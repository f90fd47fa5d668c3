//! Owns the behaviour of `/echo`: every message comes back as it is, fast, whatever its size.

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use support::{Client, PATIENCE, Server, frame, raw_websocket, read_to_end};

#[tokio::test]
async fn text_and_binary_come_back_as_they_are() {
    let server = Server::start(|config| config.echo = true).await;
    let mut client = Client::connect(server.address, "/echo").await;
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 17 << 20] {
        let text = Message::text("x".repeat(size));
        let binary = Message::binary((0..size).map(|index| (index % 251) as u8).collect::<Vec<_>>());
        for message in [text, binary] {
            client.send(message.clone()).await;
            let answer = client.receive().await.unwrap().unwrap();
            assert!(answer == message, "{size} bytes came back changed");
        }
    }
    client.send(Message::text("猪 \u{1f600}")).await;
    assert_eq!(client.text().await, "猪 \u{1f600}");
    client.send(Message::Ping("are you there".into())).await;
    assert_eq!(client.receive().await.unwrap().unwrap(), Message::Pong("are you there".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_at_full_speed_come_back_in_order() {
    const MESSAGES: usize = 10_000;
    let server = Server::start(|config| config.echo = true).await;
    let client = Client::connect(server.address, "/echo").await;
    let (mut sink, mut stream) = client.socket.split();
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sink.feed(Message::text(format!("message number {number}"))).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });
    for number in 0..MESSAGES {
        let answer = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Message::text(format!("message number {number}")));
    }
    drop(sending.await.unwrap());
    let summary = server.stop().await;
    assert_eq!((summary.messages_received, summary.echo_connections), (MESSAGES as u64, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_and_does_not_read_is_held_back_and_loses_nothing() {
    const MESSAGES: usize = 400;
    let server = Server::start(|config| config.echo = true).await;
    let client = Client::connect_with_small_buffer(server.address, "/echo").await;
    let (mut sink, mut stream) = client.socket.split();
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sink.send(Message::binary(vec![number as u8; 100_000])).await.unwrap();
        }
        sink
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sending.is_finished(), "40 MB went somewhere although nobody read them");
    for number in 0..MESSAGES {
        let answer = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
        assert!(answer.into_data() == vec![number as u8; 100_000]);
    }
    drop(sending.await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let server = Server::start(|config| {
        config.echo = true;
        config.max_echo_message_bytes = 1000;
    })
    .await;
    let mut client = Client::connect(server.address, "/echo").await;
    client.send(Message::binary(vec![1; 1000])).await;
    assert_eq!(client.receive().await.unwrap().unwrap().len(), 1000);
    client.send(Message::binary(vec![1; 1001])).await;
    assert_eq!(client.close_code().await, Some(1009));

    let mut stream = raw_websocket(server.address, "/echo").await;
    let fragments = [frame(0x02, &[1; 600]), frame(0x80, &[1; 600])].concat();
    stream.write_all(&fragments).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert_eq!(answer[2..4], 1009_u16.to_be_bytes(), "fragments count together");
}

#[tokio::test]
async fn frames_that_came_with_the_request_are_echoed() {
    let server = Server::start(|config| config.echo = true).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut bytes = b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend(frame(0x81, b"early"));
    bytes.extend(frame(0x88, b""));
    stream.write_all(&bytes).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.ends_with(b"\x81\x05early\x88\x00"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn the_echo_asks_for_no_sign_of_life() {
    let server = Server::start(|config| {
        config.echo = true;
        config.ping_interval = Duration::from_millis(50);
        config.ping_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = Client::connect(server.address, "/echo").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.send_text("still here").await;
    assert_eq!(client.text().await, "still here");
}

//! Owns the behaviour of permessage-deflate: who asks for it gets it, and nobody is hurt by it.

mod support;

use chat_server::Compression;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use support::{PATIENCE, Server, frame, raw_websocket_with, read_to_end};

/// A client that compresses, through another library than the server.
struct Client {
    stream: TcpStream,
    compress: Compress,
    decompress: Decompress,
    takes_over: bool,
}

impl Client {
    async fn connect(server: &Server, path: &str) -> Self {
        let field = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        let (stream, head) = raw_websocket_with(server.address, path, field).await;
        assert!(head.contains("permessage-deflate"), "{head}");
        Self {
            stream,
            compress: Compress::new(flate2::Compression::default(), false),
            decompress: Decompress::new(false),
            takes_over: !head.contains("no_context_takeover"),
        }
    }

    fn payload(&mut self, message: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(message.len() + 1_000);
        self.compress.compress_vec(message, &mut payload, FlushCompress::Sync).unwrap();
        payload.truncate(payload.len() - 4);
        if !self.takes_over {
            self.compress.reset();
        }
        payload
    }

    async fn send(&mut self, message: &str) {
        let payload = self.payload(message.as_bytes());
        self.stream.write_all(&frame(0xc1, &payload)).await.unwrap();
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.expect("an answer in time").unwrap();
        bytes
    }

    /// The next frame's first byte and payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let header = self.bytes(2).await;
        let length = match header[1] {
            126 => {
                let length = self.bytes(2).await;
                u16::from_be_bytes([length[0], length[1]]).into()
            }
            127 => u64::from_be_bytes(self.bytes(8).await.try_into().unwrap()) as usize,
            short => short.into(),
        };
        (header[0], self.bytes(length).await)
    }

    /// The next message, and how long it was on the wire.
    async fn receive(&mut self) -> (String, usize) {
        let (first, mut payload) = self.frame().await;
        let length = payload.len();
        if first == 0x81 {
            return (String::from_utf8(payload).unwrap(), length);
        }
        assert_eq!(first, 0xc1);
        payload.extend([0, 0, 0xff, 0xff]);
        let mut message = Vec::with_capacity(1 << 20);
        if !self.takes_over {
            self.decompress.reset(false);
        }
        self.decompress.decompress_vec(&payload, &mut message, FlushDecompress::Sync).unwrap();
        (String::from_utf8(message).unwrap(), length)
    }
}

fn text(number: usize) -> String {
    format!(
        "message {number} of a conversation whose messages are much alike, and long enough to be compressed"
    )
}

#[tokio::test]
async fn messages_come_back_as_they_are_with_context_takeover_and_without() {
    for compression in [Compression::On, Compression::WithoutContextTakeover] {
        let server = Server::start(|config| (config.echo, config.compression) = (true, compression)).await;
        let mut client = Client::connect(&server, "/echo").await;
        assert_eq!(client.takes_over, compression == Compression::On);
        for number in 0..200 {
            client.send(&text(number)).await;
            let (message, on_wire) = client.receive().await;
            assert_eq!(message, text(number));
            assert_eq!(on_wire < 30, client.takes_over && number > 0, "{on_wire} bytes");
        }
        // Below the length that is worth it, and empty.
        for short in ["short", ""] {
            client.stream.write_all(&frame(0x81, short.as_bytes())).await.unwrap();
            assert_eq!(client.receive().await, (short.to_owned(), short.len()));
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn many_compressed_messages_in_one_segment_come_back_in_order() {
    let server = Server::start(|config| (config.echo, config.compression) = (true, Compression::On)).await;
    let mut client = Client::connect(&server, "/echo").await;
    let mut bytes = Vec::new();
    for number in 0..500 {
        let payload = client.payload(text(number).as_bytes());
        let (first, rest) = payload.split_at(payload.len() / 2);
        match number % 2 {
            0 => bytes.extend(frame(0xc1, &payload)),
            _ => bytes.extend([frame(0x41, first), frame(0x80, rest)].concat()),
        }
    }
    client.stream.write_all(&bytes).await.unwrap();
    for number in 0..500 {
        assert_eq!(client.receive().await.0, text(number));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_broadcast_reaches_those_who_compress_and_those_who_do_not() {
    let server = Server::start(|config| config.compression = Compression::On).await;
    let mut plain = server.member("Ann").await;
    let mut client = Client::connect(&server, "/").await;
    client.send(r#"{"type":"login","name":"Bob"}"#).await;
    let (list, _) = client.receive().await;
    assert!(list.contains("Ann") && list.contains("Bob"), "{list}");
    let (login, _) = client.receive().await;
    assert_eq!(plain.text().await, login);
    plain.say(json!("all"), "what is said to all reaches all, however it travels").await;
    let said = plain.text().await;
    assert_eq!(client.receive().await.0, said);
    client.send(r#"{"type":"say","to_uid":"all","content":"and back"}"#).await;
    let said = client.receive().await.0;
    assert!(said.contains("and back"), "{said}");
    assert_eq!(plain.text().await, said);
    server.stop().await;
}

#[tokio::test]
async fn a_bomb_ends_its_connection_with_1009_and_no_other() {
    let server = Server::start(|config| config.compression = Compression::On).await;
    let mut member = server.member("Ann").await;
    for many in [1, 20] {
        let mut client = Client::connect(&server, "/").await;
        let bomb = client.payload(&vec![b' '; 32 << 20]);
        assert!(bomb.len() < 65_536);
        let (first, rest) = bomb.split_at(bomb.len() / many);
        let bytes = [frame(if many == 1 { 0xc1 } else { 0x41 }, first), frame(0x80, rest)].concat();
        // It may be refused before it is written.
        let _ = client.stream.write_all(&bytes).await;
        let answer = read_to_end(&mut client.stream).await;
        let close = answer.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1009_u16.to_be_bytes());
        assert!(close, "{answer:?}");
    }
    member.expect_nothing().await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_deflate_and_what_is_too_long_ends_its_connection() {
    let server = Server::start(|config| config.compression = Compression::On).await;
    for (bytes, code) in [
        (frame(0xc1, b"\x06"), 1007_u16),
        (frame(0xc1, b"\xff\xff"), 1007),
        ([&[0xc1, 0xff][..], &[0x7f; 12]].concat(), 1009),
        (frame(0xa1, b""), 1002),
    ] {
        let mut client = Client::connect(&server, "/").await;
        client.stream.write_all(&bytes).await.unwrap();
        let (first, payload) = loop {
            // The error that a message which is too long is answered with comes before.
            match client.frame().await {
                (0x81 | 0xc1, _) => {}
                other => break other,
            }
        };
        assert_eq!((first, &payload[..2]), (0x88, &code.to_be_bytes()[..]), "{bytes:?}");
    }
    server.stop().await;
}

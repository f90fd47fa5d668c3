//! Owns what the tests share: a server in this process, and clients that speak through another library than it does.
//!
//! Must not know what a test asserts. Every wait is bounded by [`PATIENCE`].

#![allow(dead_code, missing_docs)]

pub mod program;

use std::net::SocketAddr;
use std::time::Duration;

use chat_server::{Config, Listeners, Summary, Verbosity, bind, run};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server on ports of its own.
pub struct Server {
    pub address: SocketAddr,
    /// Where its web page is.
    pub page: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<Summary>>,
}

impl Server {
    pub async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.verbosity = Verbosity::Quiet;
        // Most tests end with clients that do not answer a close frame.
        config.close_timeout = Duration::from_millis(500);
        adjust(&mut config);
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let page_listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let page = page_listener.local_addr().unwrap();
        let listeners = Listeners::new(vec![listener]).with_page(vec![page_listener]);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(listeners, config, async {
            let _ = stopped.await;
        }));
        Self { address, page, stop, running }
    }

    pub async fn stop(self) -> Summary {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.running).await.expect("the server stops in time").unwrap().unwrap()
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address, "/").await
    }

    /// A client that has logged in and has read all that this caused.
    pub async fn member(&self, name: &str) -> Client {
        let mut client = self.client().await;
        client.login(name).await;
        client
    }
}

/// A client of the library `tungstenite`.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    pub uid: u64,
}

impl Client {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), address, path).await
    }

    /// A client whose kernel takes little before it makes the server wait.
    pub async fn connect_with_small_buffer(address: SocketAddr, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(address).await.unwrap(), address, path).await
    }

    async fn over(stream: TcpStream, address: SocketAddr, path: &str) -> Self {
        stream.set_nodelay(true).unwrap();
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let request = format!("ws://{address}{path}");
        let (socket, _) =
            timeout(PATIENCE, tokio_tungstenite::client_async_with_config(request, stream, Some(config)))
                .await
                .expect("the handshake is answered in time")
                .unwrap();
        Self { socket, uid: 0 }
    }

    pub async fn send(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.expect("the server reads in time").unwrap();
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub async fn say(&mut self, to_uid: Value, content: &str) {
        self.send_text(&json!({"type": "say", "to_uid": to_uid, "content": content}).to_string()).await;
    }

    pub async fn receive(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.socket.next()).await.expect("the server sends something in time")
    }

    pub async fn text(&mut self) -> String {
        match self.receive().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The code of the next message, which has to be an error.
    pub async fn error_code(&mut self) -> String {
        let error = self.json().await;
        assert_eq!(error["type"], "error", "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }

    /// Sends a login and reads the user list and the login that answer it; returns the list.
    pub async fn login(&mut self, name: &str) -> Value {
        self.send_text(&json!({"type": "login", "name": name}).to_string()).await;
        let list = self.json().await;
        assert_eq!(list["type"], "user_list", "{list}");
        let login = self.json().await;
        assert_eq!((&login["type"], &login["name"]), (&json!("login"), &json!(name)));
        self.uid = login["uid"].as_u64().unwrap();
        list["user_list"].clone()
    }

    /// Reads on until the connection ends, and returns the close code if there was a close frame.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.receive().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Shows that nothing was sent to this client before an answer to something that it asks now.
    pub async fn expect_nothing(&mut self) {
        self.send_text("{}").await;
        assert_eq!(self.error_code().await, "missing_field");
    }
}

/// A TCP connection after an upgrade, for frames that no library would send.
pub async fn raw_websocket(address: SocketAddr, path: &str) -> TcpStream {
    raw_websocket_with(address, path, "").await.0
}

/// The same with further header fields, each with its line end; returns the answer's head, too.
pub async fn raw_websocket_with(address: SocketAddr, path: &str, fields: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is missing in {head}");
    }
    (stream, head)
}

pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").unwrap();
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

/// All bytes until the peer ends its direction or resets.
pub async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    bytes
}

/// A masked frame with a payload of at most 65,535 bytes; `first` is the byte with FIN, RSV and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

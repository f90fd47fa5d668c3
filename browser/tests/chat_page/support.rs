//! Owns what the tests share: a chat in this process that can be stopped and started again, and a browser.
//!
//! Must not know what a test asserts. Every wait is bounded by `browser::PATIENCE`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use browser::{ChatPage, Chromium, PATIENCE, Page};
use chat_server::{Config, Listeners, Summary, Verbosity, bind, run};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// A running chat with its page, on ports of its own, at 127.0.0.1 and, where there is one, at ::1.
pub struct Chat {
    config: Config,
    chat: Vec<SocketAddr>,
    page: Vec<SocketAddr>,
    running: Option<(oneshot::Sender<()>, JoinHandle<anyhow::Result<Summary>>)>,
    crowd: Mutex<Vec<Member>>,
}

type Member = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

impl Chat {
    pub async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.verbosity = Verbosity::Quiet;
        config.close_timeout = Duration::from_millis(500);
        adjust(&mut config);
        let any = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().unwrap()).to_vec();
        let mut chat = Self { config, chat: any.clone(), page: any, running: None, crowd: Mutex::default() };
        chat.restart().await;
        chat
    }

    /// Starts it, at the addresses that it had before.
    pub async fn restart(&mut self) {
        let mut listeners = Vec::new();
        for addresses in [&mut self.chat, &mut self.page] {
            let mut bound = Vec::new();
            for address in &*addresses {
                match bind(*address).await {
                    Ok(listener) => bound.push(listener),
                    Err(error) => assert!(address.is_ipv6(), "{error:#}"),
                }
            }
            *addresses = bound.iter().map(|listener| listener.local_addr().unwrap()).collect();
            listeners.push(bound);
        }
        let page = listeners.pop().unwrap();
        let listeners = Listeners::new(listeners.pop().unwrap()).with_page(page);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(listeners, self.config.clone(), async {
            let _ = stopped.await;
        }));
        self.running = Some((stop, running));
    }

    pub async fn stop(&mut self) -> Summary {
        let (stop, running) = self.running.take().unwrap();
        stop.send(()).unwrap();
        timeout(PATIENCE, running).await.expect("the server stops in time").unwrap().unwrap()
    }

    /// Where WebSocket clients connect.
    pub fn address(&self) -> SocketAddr {
        self.chat[0]
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.page[0])
    }

    /// Where the page is, under another name of this machine; none for an address that the machine does not have.
    pub fn url_at(&self, host: &str) -> Option<String> {
        let address = self.page.iter().find(|address| address.is_ipv6() == host.starts_with('['))?;
        Some(format!("http://{host}:{}/", address.port()))
    }

    /// The page, in a browser of its own.
    pub async fn page(&self, chromium: &Chromium) -> ChatPage {
        ChatPage::open(chromium, &self.url(), "en").await.unwrap()
    }

    /// Lets many users come.
    pub async fn crowd(&self, count: usize) {
        use futures_util::SinkExt as _;
        for number in 0..count {
            let stream = tokio::net::TcpStream::connect(self.address()).await.unwrap();
            let url = format!("ws://{}/", self.address());
            let (mut member, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
            let login = format!(r#"{{"type":"login","name":"user {number}"}}"#);
            member.send(Message::text(login)).await.unwrap();
            self.crowd.lock().unwrap().push(member);
        }
    }

    /// Lets them go.
    pub async fn disperse(&self) {
        self.crowd.lock().unwrap().clear();
    }
}

pub async fn browser() -> Chromium {
    Chromium::start().await.unwrap()
}

/// Writes a picture for the eye.
pub async fn picture(page: &Page, name: &str) {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = target.parent().unwrap_or(&target).join("screenshots");
    page.screenshot(&directory.join(format!("{name}.png"))).await.unwrap();
}

/// The command lines in which a path stands.
pub fn processes_that_name(path: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|arguments| String::from_utf8_lossy(&arguments).replace('\0', " "))
        .filter(|arguments| arguments.contains(path.to_str().unwrap()))
        .collect()
}

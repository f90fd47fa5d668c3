//! An observer that runs, a server to watch, and clients that keep a log: the log is the oracle.
//!
//! Owns the processes and threads of one test, and ends them with it. Must not use any decoder of the product. Bounded
//! by loopback, and by the patience below.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chat_server::{Config, Listeners, Verbosity};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::oneshot;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket, client::client_with_config};

/// Far beyond what anything here takes, on an emulated processor too.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TO_SERVER: &str = "client_to_server";
pub const TO_CLIENT: &str = "server_to_client";

/// The observer that `cargo xtask` built, with its kernel programs.
pub fn observer_binary() -> PathBuf {
    std::env::var_os("OBSERVER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_observer").into(), PathBuf::from)
}

/// The observer, in an environment that is the same everywhere.
pub fn observer(arguments: &[&str]) -> Command {
    let mut command = Command::new(observer_binary());
    command.args(arguments).env_remove("NO_COLOR").env("TERM", "xterm").env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program of a test, killed with it.
pub struct Program {
    child: Child,
    output: Option<JoinHandle<Vec<String>>>,
    errors: Receiver<String>,
    said: Vec<String>,
    output_is_held: Arc<AtomicBool>,
}

/// While it lives, nobody reads a program's standard output.
pub struct HeldOutput(Arc<AtomicBool>);

impl Drop for HeldOutput {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: String,
}

impl Program {
    /// Starts a program whose output and errors are piped; both are read to their end.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().unwrap();
        let output_is_held = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&output_is_held);
        let wait_while_held = move |_: &String| {
            while held.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let output = thread::spawn(move || lines(stdout).inspect(wait_while_held).collect());
        let stderr = child.stderr.take().unwrap();
        let (sender, errors) = channel();
        thread::spawn(move || lines(stderr).try_for_each(|line| sender.send(line)));
        Self { child, output: Some(output), errors, said: Vec::new(), output_is_held }
    }

    /// Lets what it writes wait in the pipe.
    pub fn hold_output(&self) -> HeldOutput {
        self.output_is_held.store(true, Ordering::SeqCst);
        HeldOutput(Arc::clone(&self.output_is_held))
    }

    /// Waits until it says so on standard error, and gives the line.
    pub fn wait_for(&mut self, words: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.errors.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {words:?} in time; said: {:#?}", self.said),
                Err(RecvTimeoutError::Disconnected) => panic!("no {words:?}; said: {:#?}", self.said),
            }
        }
    }

    /// Whether it has said so on standard error by now.
    pub fn has_said(&mut self, words: &str) -> bool {
        self.said.extend(self.errors.try_iter());
        self.said.iter().any(|line| line.contains(words))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Whether it runs no more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let give_up = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < give_up, "the program does not end; said: {:#?}", self.said);
            thread::sleep(Duration::from_millis(2));
        }
        let code = self.child.wait().unwrap().code();
        let stdout = self.output.take().unwrap().join().unwrap();
        self.said.extend(self.errors.iter());
        Ended { code, stdout, stderr: self.said.join("\n") }
    }

    /// Ends it as Ctrl-C does, and waits for that.
    pub fn interrupt(self) -> Ended {
        self.signal(Signal::SIGINT);
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(input: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(input).split(b'\n').map_while(Result::ok).map(|line| String::from_utf8(line).unwrap())
}

/// An observer with JSON output that watches by now.
pub fn watch(port: u16, arguments: &[&str]) -> Program {
    let port = port.to_string();
    let all = [&["--json", "--port", &port][..], arguments].concat();
    let mut program = Program::start(&mut observer(&all));
    program.wait_for("watching");
    program
}

/// Ends an observer, which has to succeed, and reads what it showed.
pub fn seen_by(observer: Program) -> Seen {
    Seen::new(observer.interrupt())
}

/// What an observer showed.
#[derive(Debug)]
pub struct Seen {
    pub records: Vec<Value>,
    pub stderr: String,
}

impl Seen {
    pub fn new(ended: Ended) -> Self {
        let Ended { code, stdout, stderr } = ended;
        assert_eq!(code, Some(0), "{stderr}");
        let parse = |line: String| {
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}; {stderr}"))
        };
        let seen = Self { records: stdout.into_iter().map(parse).collect(), stderr };
        let capture = &seen.summary()["capture"];
        if !capture.is_null() {
            let lost: u64 = capture["losses"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            let count = |key: &str| capture[key].as_u64().unwrap();
            assert_eq!(count("seen"), count("captured") + count("filtered") + lost, "{capture}");
        }
        seen
    }

    pub fn summary(&self) -> &Value {
        let last = self.records.last().expect("there is a summary at least");
        assert_eq!(last["kind"], "summary");
        last
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.records.iter().filter(move |record| record["kind"] == kind)
    }

    /// The number of the only connection of this client.
    pub fn connection_of(&self, client: SocketAddr) -> u64 {
        let client = client.to_string();
        let mut opened = self.of_kind("connection_opened").filter(|record| record["client"] == *client);
        let number = opened.next().unwrap_or_else(|| panic!("{client} was not seen"))["connection"].as_u64();
        assert!(opened.next().is_none(), "{client} was seen twice");
        number.unwrap()
    }

    /// Messages of one connection and direction.
    pub fn messages(&self, connection: u64, direction: &str) -> Vec<&Value> {
        self.of_kind("message")
            .filter(|it| it["connection"] == connection && it["direction"] == direction)
            .collect()
    }

    /// Payloads of whole text messages of one connection and direction.
    pub fn texts(&self, connection: u64, direction: &str) -> Vec<&str> {
        self.messages(connection, direction)
            .into_iter()
            .filter(|message| message["truncated"] == false)
            .map(|message| message["payload"].as_str().unwrap())
            .collect()
    }

    pub fn closed(&self, connection: u64) -> &Value {
        let mut closed = self.of_kind("connection_closed").filter(|it| it["connection"] == connection);
        let only = closed.next().expect("the connection was closed");
        assert!(closed.next().is_none(), "closed twice");
        only
    }

    /// That the connection was shown as its client knows it: the upgrade, every message, both ends, nothing missing.
    pub fn assert_equals(&self, connection: u64, log: &Log) {
        let statuses: Vec<_> = self
            .of_kind("handshake")
            .filter(|it| it["connection"] == connection)
            .map(|it| it["status"].as_u64())
            .collect();
        assert_eq!(statuses, [None, Some(101)]);
        assert_eq!(self.texts(connection, TO_SERVER), log.sent);
        assert_eq!(self.texts(connection, TO_CLIENT), log.received);
        let closed = self.closed(connection);
        assert_eq!(closed["complete"], true, "{closed}");
        for (direction, bytes) in [(TO_SERVER, log.bytes_sent), (TO_CLIENT, log.bytes_received)] {
            assert_eq!(closed["account"][direction]["bytes_seen"], bytes, "{closed}");
        }
    }

    pub fn assert_nothing_is_missing(&self) {
        assert!(self.stderr.ends_with("nothing was missed"), "{}", self.stderr);
        assert_eq!(self.summary()["connections_incomplete"], 0);
        assert_eq!(self.summary()["anomalies"], 0, "{:?}", self.of_kind("anomaly").collect::<Vec<_>>());
    }
}

/// The bundled chat server in this process, with its `/echo`.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// On a port that the kernel picks.
    pub fn on(address: impl Into<IpAddr>) -> Self {
        Self::at(SocketAddr::new(address.into(), 0))
    }

    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        // A thread of its own stays in the network namespace of this one.
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut config = Config::default();
                config.echo = true;
                // No client here answers heartbeats.
                config.ping_interval = Duration::ZERO;
                config.handshake_timeout = PATIENCE;
                config.verbosity = Verbosity::Quiet;
                let shutdown = async { drop(stopped.await) };
                chat_server::run(Listeners::new(vec![listener]), config, shutdown).await.unwrap();
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes every connection, with 1001, and ends.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not waited for: it may be a failed assertion that brings us here.
        drop(self.stop.take());
    }
}

/// What one client sent and received, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub sent: Vec<String>,
    pub received: Vec<String>,
    /// TCP payload, the upgrade included.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

/// A stream that knows what passed.
pub struct Counted {
    stream: TcpStream,
    sent: u64,
    received: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.received += length as u64;
        Ok(length)
    }
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(buffer)?;
        self.sent += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A client that keeps a log.
pub struct Client {
    socket: WebSocket<Counted>,
    pub address: SocketAddr,
    log: Log,
}

impl Client {
    pub fn connect(server: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect(server).unwrap(), server, path)
    }

    /// The same on a connection that is there.
    pub fn over(stream: TcpStream, server: SocketAddr, path: &str) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = stream.local_addr().unwrap();
        let url = format!("ws://{server}{path}");
        let (socket, _) =
            client_with_config(url, Counted { stream, sent: 0, received: 0 }, Some(unbounded())).unwrap();
        Self { socket, address, log: Log::default() }
    }

    /// Its TCP connection.
    pub fn stream(&self) -> &TcpStream {
        &self.socket.get_ref().stream
    }

    pub fn send(&mut self, text: &str) {
        self.log.sent.push(text.to_owned());
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Reads the next message.
    pub fn receive(&mut self) -> String {
        match self.socket.read().unwrap() {
            Message::Text(text) => {
                self.log.received.push(text.to_string());
                text.to_string()
            }
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Sends, and reads the answer that an echo gives.
    pub fn echo(&mut self, text: &str) {
        self.send(text);
        assert!(self.receive() == text, "no echo");
    }

    /// Sends all without waiting, while another thread reads as many.
    pub fn burst(&mut self, texts: Vec<String>) {
        let stream = self.socket.get_ref().stream.try_clone().unwrap();
        let stream = Counted { stream, sent: 0, received: 0 };
        let mut writer = WebSocket::from_raw_socket(stream, Role::Client, Some(unbounded()));
        let count = texts.len();
        let writing = thread::spawn(move || {
            for text in &texts {
                writer.send(Message::text(text.as_str())).unwrap();
            }
            (texts, writer.get_ref().sent)
        });
        for _ in 0..count {
            self.receive();
        }
        let (texts, sent) = writing.join().unwrap();
        self.log.sent.extend(texts);
        self.socket.get_mut().sent += sent;
    }

    /// Leaves with a close handshake; reads what still comes.
    pub fn leave(mut self) -> Log {
        self.socket.close(None).unwrap();
        self.finish()
    }

    /// Reads until the server has closed the connection.
    pub fn finish(mut self) -> Log {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => self.log.received.push(text.to_string()),
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => break,
                Err(error) => panic!("the close handshake failed: {error}"),
            }
        }
        self.log.bytes_sent = self.socket.get_ref().sent;
        self.log.bytes_received = self.socket.get_ref().received;
        self.log
    }
}

fn unbounded() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// Runs `act` in a new network namespace whose loopback is up. Threads and sockets that it makes stay there.
pub fn in_new_network_namespace<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        run("ip", &["link", "set", "lo", "up"]);
        act()
    })
}

/// Runs a program that has to succeed, in the network namespace of this thread.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be started ({error}); run `cargo xtask test`"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

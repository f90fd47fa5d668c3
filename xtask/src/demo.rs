//! `cargo xtask demo`: the manual's scenario, live, and the proof that all of it was read.
//!
//! Owns the scenario: which users come, what they say, and what must have been seen. Must not know how anything is
//! captured or decoded: the clients' own logs are the oracle. Bounded by the time limits below; what it started ends
//! with it, however that is.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tungstenite::protocol::WebSocket;
use tungstenite::{Message, client};

use crate::process::target_directory;
use crate::program::{Program, sudo};
use crate::test::ensure_browser;
use crate::{build, lifeline};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// By then observer has told that something did not come within the two seconds that the chat's rules allow.
const OVERDUE_AFTER: Duration = Duration::from_secs(4);

/// What is told of the scenario, one line a message with all its copies, each without the times that it begins and ends
/// with.
const LINES: [&str; 4] = [
    "猪猪 logged in 1/1",
    "mynick logged in 2/2",
    r#"mynick → all "hi, all !" 2/2"#,
    "mynick logged out 1/1",
];

/// The same where one copy is dropped.
const LINES_WITH_FAULT: [&str; 4] = [
    "猪猪 logged in 1/1",
    "mynick logged in 2/2",
    r#"mynick → all "hi, all !" 1/2, missing: 猪猪 (#1 127.0.0.1:"#,
    "mynick logged out 1/1",
];

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the chat server listens on the loopback address
    #[arg(long, value_name = "PORT", default_value_t = 7272)]
    port: u16,

    /// Let two pages of the chat in Chromium play the users
    #[arg(long)]
    browser: bool,

    /// Break the chat on purpose: one user does not get what the other says, and observer names who that is
    #[arg(long, conflicts_with = "browser")]
    fault: bool,

    /// Where the page is with --browser, on the loopback address
    #[arg(long, value_name = "PORT", default_value_t = 55151)]
    web_port: u16,
}

/// Runs the command.
///
/// # Errors
/// If anything of it cannot run, or if a message of the scenario was not seen.
pub fn command(arguments: &Arguments) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.web_port));
    ensure_free(address, "--port")?;
    if arguments.browser {
        ensure_free(page, "--web-port")?;
        ensure_browser()?;
    }
    let artifacts = build::all(false)?;
    let players = if arguments.browser { Some(build::browser_users()?) } else { None };

    let sudo = sudo()?;

    let mut command = lifeline::tied(None, &artifacts.chat_server);
    command.args(["--quiet", "--listen", &address.to_string()]);
    if arguments.browser {
        command.args(["--web-listen", &page.to_string()]);
    } else {
        command.arg("--no-web");
    }
    if arguments.fault {
        command.args(["--fault", "drop"]);
    }
    let mut server = Program::start(&mut command, "chat-server")?;
    server.wait_until(|| TcpStream::connect(address).is_ok())?;

    // One for the eye, one for the proof.
    let port = arguments.port.to_string();
    let observer = || lifeline::tied(sudo.as_deref(), &artifacts.observer);
    let mut eye = observer();
    eye.args(["--port", &port]);
    if arguments.browser {
        eye.args(["--format", "explain"]);
    }
    let mut shown = Program::start(&mut eye, "observer")?;
    let mut checked = Program::start(observer().args(["--port", &port, "--json"]), "observer --json")?;
    let shown_output = shown.echo_output()?;
    let checked_output = checked.keep_output()?;
    shown.wait_for_line("watching")?;
    checked.wait_for_line("watching")?;

    let logs = match &players {
        Some(players) => play_in_browser(players, page)?,
        None => play(address, arguments.fault)?,
    };

    for program in [&mut shown, &mut checked] {
        program.end_and_wait()?;
    }
    drop(server);
    let text = shown_output.join().map_err(|_| anyhow!("the reader of observer's output failed"))?;
    let json = checked_output.join().map_err(|_| anyhow!("the reader of observer's output failed"))?;
    let report = verify(&logs, &json)?;
    if arguments.browser {
        verify_transcript(&text)?;
    } else {
        verify_lines(&text, if arguments.fault { &LINES_WITH_FAULT } else { &LINES })?;
    }
    println!("\n{report}");
    Ok(())
}

/// What one client sent and received, in order.
#[derive(Debug, Deserialize)]
struct Log {
    name: String,
    /// None where the client cannot tell: the one that sent what it sent first.
    #[serde(default)]
    address: Option<SocketAddr>,
    sent: Vec<String>,
    received: Vec<String>,
}

/// A user of the chat.
struct User {
    socket: WebSocket<TcpStream>,
    log: Log,
}

impl User {
    fn connect(server: SocketAddr, name: &'static str) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| format!("{name} cannot connect"))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let address = stream.local_addr()?;
        let (socket, _) = client(format!("ws://{server}/"), stream)
            .map_err(|error| anyhow!("{name}'s WebSocket handshake failed: {error}"))?;
        Ok(Self {
            socket,
            log: Log {
                name: name.to_owned(),
                address: Some(address),
                sent: Vec::new(),
                received: Vec::new(),
            },
        })
    }

    fn send(&mut self, text: &str) -> Result<()> {
        self.log.sent.push(text.to_owned());
        self.socket.send(Message::text(text)).with_context(|| format!("{} cannot send", self.log.name))
    }

    /// Reads until a message of this type is here.
    fn receive(&mut self, kind: &str) -> Result<()> {
        loop {
            let message = self
                .socket
                .read()
                .with_context(|| format!("{} waits for a message of type {kind} in vain", self.log.name))?;
            if let Message::Text(text) = message {
                self.log.received.push(text.to_string());
                let value: Value = serde_json::from_str(&text)?;
                if value.get("type").and_then(Value::as_str) == Some(kind) {
                    return Ok(());
                }
            }
        }
    }

    /// Leaves with a close handshake.
    fn leave(mut self) -> Result<Log> {
        self.socket.close(None)?;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => self.log.received.push(text.to_string()),
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return Ok(self.log),
                Err(error) => bail!("{}'s close handshake failed: {error}", self.log.name),
            }
        }
    }
}

/// The manual's scenario: one user is present, `mynick` comes and greets all. `is_broken`: what `mynick` says reaches
/// nobody else.
fn play(server: SocketAddr, is_broken: bool) -> Result<Vec<Log>> {
    let mut present = User::connect(server, "猪猪")?;
    present.send(r#"{"type":"login","name":"猪猪"}"#)?;
    present.receive("login")?;
    let mut mynick = User::connect(server, "mynick")?;
    mynick.send(r#"{"type":"login","name":"mynick"}"#)?;
    mynick.receive("login")?;
    present.receive("login")?;
    mynick.send(r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#)?;
    mynick.receive("say")?;
    if is_broken {
        thread::sleep(OVERDUE_AFTER);
    } else {
        present.receive("say")?;
    }
    let mynick = mynick.leave()?;
    present.receive("logout")?;
    Ok(vec![present.leave()?, mynick])
}

/// Which client sent this.
fn client_that_sent(records: &[Value], payload: Option<&String>) -> Option<String> {
    let sent = records.iter().find(|it| {
        it["kind"] == "message"
            && it["direction"] == "client_to_server"
            && it["payload"].as_str() == payload.map(String::as_str)
    })?;
    sent["client"].as_str().map(str::to_owned)
}

/// The same with two pages of the chat, each in a Chromium of its own.
fn play_in_browser(players: &Path, page: SocketAddr) -> Result<Vec<Log>> {
    let pictures = target_directory().join("screenshots");
    let mut players = Program::start(
        lifeline::tied(None, players).arg(format!("http://{page}/")).arg(&pictures),
        "the browser",
    )?;
    let logs = players.keep_output()?;
    players.wait_for_end()?;
    let logs = logs.join().map_err(|_| anyhow!("the reader of the browser's output failed"))?.concat();
    println!("\nPictures of the pages are in {}", pictures.display());
    serde_json::from_str(&logs).context("the browser does not tell what it sent and received")
}

/// Looks for each line in the folded text, in their order.
fn verify_lines(text: &[String], expected: &[&str]) -> Result<()> {
    let mut lines =
        text.iter().filter_map(|line| line.split_once(' ')).map(|(_, behind_the_time)| behind_the_time);
    for expected in expected {
        ensure!(
            lines.any(|line| line.starts_with(expected)),
            "observer's text has no line {expected:?}, or not where it belongs"
        );
    }
    Ok(())
}

/// Compares what was seen with what the clients know.
fn verify(logs: &[Log], json: &[String]) -> Result<String> {
    let records: Vec<Value> =
        json.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>().context("not JSON")?;
    let mut messages = 0;
    for log in logs {
        let client = match log.address {
            Some(address) => address.to_string(),
            None => client_that_sent(&records, log.sent.first())
                .with_context(|| format!("nothing of {} was seen", log.name))?,
        };
        let of_client = |kind: &str| -> Vec<&Value> {
            records.iter().filter(|it| it["kind"] == kind && it["client"] == client.as_str()).collect()
        };
        let statuses: Vec<_> = of_client("handshake").iter().map(|it| it["status"].clone()).collect();
        ensure!(statuses == [Value::Null, 101.into()], "{}'s handshake was seen as {statuses:?}", log.name);
        for (direction, expected) in [("client_to_server", &log.sent), ("server_to_client", &log.received)] {
            let seen: Vec<_> = of_client("message")
                .iter()
                .filter(|it| it["direction"] == direction)
                .map(|it| it["payload"].as_str().unwrap_or_default())
                .collect();
            ensure!(
                seen == *expected,
                "{} {direction}: the client logged {expected:#?}, observer saw {seen:#?}",
                log.name
            );
            messages += expected.len();
        }
    }
    let seen = records.iter().filter(|it| it["kind"] == "message").count();
    ensure!(seen == messages, "observer saw {seen} messages, the clients know of {messages}");
    Ok(format!("demo: all {messages} messages of both directions were read live, masked frames included"))
}

/// The steps that the manual annotates by hand, in their order.
const STEPS: [&str; 18] = [
    "# TCP handshake 1/3: ",
    "# TCP handshake 2/3: ",
    "# TCP handshake 3/3: ",
    "# WebSocket upgrade request: ",
    "# WebSocket upgrade answer: ",
    "# 猪猪 logs in",
    "# TCP handshake 1/3: ",
    "# WebSocket upgrade answer: ",
    "# mynick logs in",
    r#"    text 32 {"type":"login","name":"mynick"}"#,
    "# the server returns the user list to mynick: 猪猪, mynick",
    "# the server confirms mynick's login",
    "# mynick says to all: “hi, all !”",
    r#"    text 51 {"type":"say","to_uid":"all","content":"hi, all !"}"#,
    "# what mynick said comes back to mynick",
    "# delivered to 2 of 2 browsers: “hi, all !”",
    "Flags: S = SYN",
    "2 connections",
];

/// Looks for each step of the scenario in the transcript.
fn verify_transcript(text: &[String]) -> Result<()> {
    let mut lines = text.iter();
    for step in STEPS {
        ensure!(
            lines.any(|line| line.starts_with(step)),
            "the transcript does not say {step:?}, or not where it belongs"
        );
    }
    for told in ["# mynick's login is announced to 猪猪", "# what mynick said is passed on to 猪猪"] {
        ensure!(text.iter().any(|line| line == told), "the transcript does not say {told:?}");
    }
    Ok(())
}

/// Makes sure that nobody listens there; `option` chooses another port.
fn ensure_free(address: SocketAddr, option: &str) -> Result<()> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Err(error).with_context(|| format!("cannot listen on {address}"));
    }
    let holders = listeners(address.port());
    let by = if holders.is_empty() { "another process".to_owned() } else { holders.join(", ") };
    bail!("port {} is taken by {by}. End it, or choose another port with {option}", address.port())
}

/// Names of the processes that listen on a port, as far as they may be seen.
fn listeners(port: u16) -> Vec<String> {
    let inodes: BTreeMap<String, ()> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| (format!("socket:[{inode}]"), ()))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    processes.filter_map(|process| describe_holder(&process, &inodes)).collect()
}

/// Inodes of the sockets that listen on a port, from a table such as /proc/net/tcp.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| {
            fields.get(1).is_some_and(|local| local.ends_with(&suffix)) && fields.get(3) == Some(&LISTEN)
        })
        .filter_map(|fields| fields.get(9)?.parse().ok())
        .collect()
}

fn describe_holder(process: &Path, inodes: &BTreeMap<String, ()>) -> Option<String> {
    let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
    let holds = fs::read_dir(process.join("fd"))
        .ok()?
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target: PathBuf| target.to_str().is_some_and(|target| inodes.contains_key(target)));
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    holds.then(|| format!("{} (process {pid})", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listeners_of_a_port_are_found_in_the_kernel_s_table() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1C68 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1C68 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
        assert_eq!(listening_inodes(table, 7272), [4711]);
        assert!(listening_inodes(table, 7273).is_empty());
    }

    #[test]
    fn a_taken_port_is_reported_with_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = ensure_free(listener.local_addr().unwrap(), "--port").unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }

    fn log() -> Log {
        Log {
            name: "mynick".to_owned(),
            address: "127.0.0.1:60584".parse().ok(),
            sent: vec!["a".to_owned()],
            received: vec!["b".to_owned(), "c".to_owned()],
        }
    }

    fn seen() -> Vec<String> {
        let line = |rest: &str| format!(r#"{{"client":"127.0.0.1:60584",{rest}}}"#);
        let json = [
            r#""kind":"handshake","direction":"client_to_server""#,
            r#""kind":"handshake","direction":"server_to_client","status":101"#,
            r#""kind":"message","direction":"client_to_server","payload":"a""#,
            r#""kind":"message","direction":"server_to_client","payload":"b""#,
            r#""kind":"message","direction":"server_to_client","payload":"c""#,
        ];
        json.map(line).to_vec()
    }

    #[test]
    fn the_demo_holds_where_everything_was_seen() {
        let json = seen();
        assert!(verify(&[log()], &json).unwrap().contains("all 3 messages"));
    }

    #[test]
    fn a_client_that_cannot_tell_its_address_is_found_by_what_it_sent() {
        let json = seen();
        let mut log = log();
        log.address = None;
        assert!(verify(&[log], &json).is_ok());
        let other = Log { name: String::new(), address: None, sent: vec!["z".into()], received: vec![] };
        assert!(verify(&[other], &json).is_err());
    }

    #[test]
    fn the_demo_fails_where_a_message_is_missing_doubled_or_altered() {
        let json = seen();
        let missing: Vec<_> = json[..4].to_vec();
        assert!(verify(&[log()], &missing).is_err());
        let doubled: Vec<_> = json.iter().chain(&json[4..]).cloned().collect();
        assert!(verify(&[log()], &doubled).is_err());
        let altered: Vec<_> = json.iter().map(|line| line.replace(r#""b""#, r#""B""#)).collect();
        assert!(verify(&[log()], &altered).is_err());
    }

    #[test]
    fn each_line_has_to_be_there_in_its_order() {
        let text = |lines: &[&str]| -> Vec<String> {
            lines.iter().map(|line| format!("12:28:06.098680 {line} 1.6 ms")).collect()
        };
        assert!(verify_lines(&text(&LINES), &LINES).is_ok());
        let [first, second, third, fourth] = LINES;
        assert!(verify_lines(&text(&[first, second, fourth]), &LINES).is_err());
        assert!(verify_lines(&text(&[first, third, second, fourth]), &LINES).is_err());
        assert!(verify_lines(&text(&LINES), &LINES_WITH_FAULT).is_err());
    }
}

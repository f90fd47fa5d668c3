//! Verdicts on chats that run: what `observer verify` tells of them, held against what clients and servers logged.
//!
//! Owns the bundled chat server as a program, with what its faults log; the users of a chat; and the reading of verdicts.
//! The parts have the tests. Must not use any decoder of the product. Bounded as `support` is.

mod ending;
mod faults;
mod folded;
mod healthy;
mod late;
mod losses;
mod other_protocols;
mod slow;
mod sources;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Client, Ended, Log, Program, observer};

/// The bundled chat server as a program, which logs what its faults do.
pub struct Chat {
    program: Program,
    pub address: SocketAddr,
}

impl Chat {
    /// On a port that the kernel picks, with these faults.
    pub fn start(faults: &[&str]) -> Self {
        let binary = std::env::var_os("CHAT_SERVER_BIN").expect("these tests are run by `cargo xtask test`");
        let mut command = Command::new(binary);
        // No client here answers heartbeats.
        command.args(["--listen", "127.0.0.1:0", "--no-web", "--ping-interval", "0"]);
        command.args(faults.iter().flat_map(|fault| ["--fault", fault]));
        let mut program = Program::start(&mut command);
        let line = program.wait_for("chat at ws://");
        let address = line.split_once("ws://").unwrap().1.split('/').next().unwrap().parse().unwrap();
        Self { program, address }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends it: what its faults did, as `fault.rs` of the chat server describes it.
    pub fn strikes(self) -> Vec<Strike> {
        let ended = self.program.interrupt();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stderr.contains("lines were left out"), "{}", ended.stderr);
        let told = ended.stderr.lines().filter_map(|line| Some(line.split_once(" fault: ")?.1));
        told.map(Strike::read).collect()
    }
}

/// A copy that a fault hit, as the server's log has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strike {
    pub fault: String,
    /// `ADDRESS:PORT (UID "NAME")`.
    pub victim: String,
    /// `ADDRESS:PORT "NAME"`: whoever said something or logged in.
    pub sender: String,
    /// What was said, and for whom: `all`, or a uid.
    pub said: Option<(String, String)>,
    /// What came instead, before, or besides.
    pub other: Option<String>,
}

impl Strike {
    fn read(line: &str) -> Self {
        let (fault, rest) = line.split_once(" hits ").unwrap_or_else(|| panic!("{line}"));
        let (victim, rest) = rest.split_once(": ").unwrap();
        let strike = |sender: &str, said, other| Self {
            fault: fault.to_owned(),
            victim: victim.to_owned(),
            sender: without_uid(sender),
            said,
            other,
        };
        if let Some(newcomer) = rest.strip_prefix("login of ") {
            return strike(newcomer, None, None);
        }
        let rest = rest.strip_prefix("say of ").unwrap();
        let (sender, rest) = rest.split_once(" to ").unwrap();
        let (to, rest) = rest.split_once(": ").unwrap();
        // No content here has a quotation mark.
        let quoted: Vec<_> = rest.split('"').collect();
        let other = quoted.get(3).map(|&other| other.to_owned());
        strike(sender, Some((to.to_owned(), quoted[1].to_owned())), other)
    }
}

fn without_uid(member: &str) -> String {
    let (address, rest) = member.split_once(" (").unwrap();
    let (_, name) = rest.split_once(' ').unwrap();
    format!("{address} {}", name.strip_suffix(')').unwrap())
}

/// Somebody who is logged in.
pub struct User {
    pub client: Client,
    pub name: String,
    pub uid: u64,
}

impl User {
    /// Connects and logs in, to the room without a name where none is given.
    pub fn login(server: SocketAddr, name: &str, room: Option<&str>) -> Self {
        Self::login_by(Client::connect(server, "/"), name, room)
    }

    /// The same by a connection that is there.
    pub fn login_by(mut client: Client, name: &str, room: Option<&str>) -> Self {
        let mut login = json!({"type": "login", "name": name});
        if let Some(room) = room {
            login["room_id"] = room.into();
        }
        client.send(&login.to_string());
        let mut user = Self { client, name: name.to_owned(), uid: 0 };
        user.uid = user.wait_for("login", "name", name)["uid"].as_u64().unwrap();
        user
    }

    /// Says something to all in the room, and waits until the server has passed it on.
    pub fn say(&mut self, content: &str) {
        let say = json!({"type": "say", "to_uid": "all", "content": content});
        self.client.send(&say.to_string());
        self.wait_for_say(content);
    }

    /// The same to one of them.
    pub fn say_to(&mut self, uid: u64, content: &str) {
        let say = json!({"type": "say", "to_uid": uid, "content": content, "copy": true});
        self.client.send(&say.to_string());
        self.wait_for_say(content);
    }

    pub fn wait_for_say(&mut self, content: &str) {
        self.wait_for("say", "content", content);
    }

    /// Reads until a message of this type comes.
    fn wait_for(&mut self, kind: &str, key: &str, value: &str) -> Value {
        loop {
            let message = message(&self.client.receive());
            if message["type"] == kind && message[key] == value {
                return message;
            }
        }
    }

    /// Lets the kernel acknowledge at once what was read, for which it may otherwise take its time.
    pub fn acknowledge(&mut self) {
        self.client.send(r#"{"type":"pong"}"#);
    }

    pub fn leave(self) -> Log {
        self.client.leave()
    }
}

/// All in a room leave, each once those who are left were told of the one before.
pub fn leave_one_by_one(users: impl IntoIterator<Item = User>) {
    let mut users: VecDeque<_> = users.into_iter().collect();
    while let Some(user) = users.pop_front() {
        let name = user.name.clone();
        user.leave();
        for left in &mut users {
            left.wait_for("logout", "name", &name);
        }
    }
}

pub fn message(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The observer with this task, that watches by now.
pub fn watching(port: u16, arguments: &[&str]) -> Program {
    let port = port.to_string();
    let mut program = Program::start(observer(arguments).args(["--port", &port]));
    program.wait_for("watching");
    program
}

/// `observer verify` with JSON, that watches by now.
pub fn verify(port: u16, arguments: &[&str]) -> Program {
    watching(port, &[&["verify", "--format", "json"][..], arguments].concat())
}

/// What `observer verify --format json` told.
#[derive(Debug)]
pub struct Verdicts {
    pub code: Option<i32>,
    pub cases: Vec<Value>,
    /// What all of them come to.
    pub end: Value,
    pub stderr: String,
}

impl Verdicts {
    pub fn of(observer: Program) -> Self {
        Self::new(observer.interrupt())
    }

    pub fn new(ended: Ended) -> Self {
        let Ended { code, stdout, stderr } = ended;
        let mut cases: Vec<_> = stdout.iter().map(|line| message(line)).collect();
        let end = cases.pop().unwrap_or_else(|| panic!("{code:?}: {stderr}"));
        assert_eq!(end["kind"], "verification", "{stderr}");
        assert!(cases.iter().all(|case| case["kind"] == "verdict"));
        Self { code, cases, end, stderr }
    }

    /// Cases by rule, as `held`, `late`, `violated`, `inconclusive`.
    pub fn table(&self) -> BTreeMap<String, [u64; 4]> {
        let row = |row: &Value| {
            let outcomes = ["held", "late", "violated", "inconclusive"];
            (text(&row["flow"]), outcomes.map(|outcome| row["outcomes"][outcome].as_u64().unwrap()))
        };
        self.end["flows"].as_array().unwrap().iter().map(row).collect()
    }

    /// How many recipients of a rule got what they had to get.
    pub fn received(&self, flow: &str) -> u64 {
        let mut rows = self.end["flows"].as_array().unwrap().iter().filter(|row| row["flow"] == flow);
        rows.next().unwrap()["received"].as_u64().unwrap()
    }

    pub fn of_flow(&self, flow: &str) -> impl Iterator<Item = &Value> {
        self.cases.iter().filter(move |case| case["flow"] == flow)
    }

    /// Cases that came to this.
    pub fn that_are(&self, outcome: &str) -> Vec<&Value> {
        self.cases.iter().filter(|case| case["outcome"] == outcome).collect()
    }

    /// That nothing is said to be wrong.
    pub fn assert_nothing_is_violated(&self) {
        for outcome in ["violated", "late"] {
            assert_eq!(self.that_are(outcome), [&Value::Null; 0], "{}", self.stderr);
            assert_eq!(self.end["outcomes"][outcome], 0);
        }
    }

    /// That everything could be told, and was right.
    pub fn assert_all_held(&self) {
        self.assert_nothing_is_violated();
        assert_eq!(self.that_are("inconclusive"), [&Value::Null; 0], "{}", self.stderr);
        assert_eq!(self.end["outcomes"]["held"], self.end["cases"], "{}", self.end);
        assert!(self.end["causes"].as_object().unwrap().values().all(|count| count == 0), "{}", self.end);
        assert_eq!((&self.end["shed"], &self.end["refused"]), (&0.into(), &0.into()));
        assert_eq!(self.end["lost"], json!({"packets": 0, "gaps": 0, "cut": 0}), "{}", self.end);
        assert_eq!((&self.end["conclusion"], self.code), (&"held".into(), Some(0)));
        assert!(self.cases.iter().all(|case| case["expected"] == case["arrived"]));
        assert_eq!(self.end["delivered_by"], "received");
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Somebody in a verdict, as the server's log calls a member.
pub fn member(party: &Value) -> String {
    format!("{} ({} {})", text(&party["client"]), party["user"]["uid"], party["user"]["name"])
}

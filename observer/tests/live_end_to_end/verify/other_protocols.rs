//! Protocols that rule files describe: JSON-RPC, topics and Socket.IO, by the examples in the documentation.
//!
//! Owns a server of each, which behaves or breaks one rule once. Server and clients take turns, in one thread, so that a
//! test knows what happens. Bounded by what a test says.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, accept};

use super::{Verdicts, text, verify};
use crate::support::{Client, PATIENCE};

/// What a server sends, each with the number of the client that gets it.
type Answers = Vec<(usize, Value)>;

/// What a server does to what it would send if it behaved.
type Wrong = fn(&mut Answers);

/// What a server sends for what it got from one of its clients.
trait Protocol {
    /// Ahead of each message.
    const PREFIX: &'static str = "";

    fn answer(&mut self, from: usize, message: &Value, clients: usize) -> Answers;
}

/// A server with its clients, in the order in which they connected.
struct Talk<P> {
    protocol: P,
    listener: TcpListener,
    server: Vec<WebSocket<TcpStream>>,
    clients: Vec<Client>,
}

impl<P: Protocol> Talk<P> {
    fn new(protocol: P) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self { protocol, listener, server: Vec::new(), clients: Vec::new() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn connect(&mut self, clients: usize) {
        for _ in 0..clients {
            let address = self.address();
            let connecting = thread::spawn(move || Client::connect(address, "/"));
            let (stream, _) = self.listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            self.server.push(accept(stream).unwrap());
            self.clients.push(connecting.join().unwrap());
        }
    }

    /// The server sends something of its own accord.
    fn push(&mut self, to: usize, message: &Value) {
        self.server[to].send(Message::text(format!("{}{message}", P::PREFIX))).unwrap();
    }

    /// A client sends something, and the server does what it does.
    fn send(&mut self, from: usize, message: &Value) {
        self.clients[from].send(&format!("{}{message}", P::PREFIX));
        let got = self.server[from].read().unwrap();
        let got = serde_json::from_str(got.to_text().unwrap().strip_prefix(P::PREFIX).unwrap()).unwrap();
        let answers = self.protocol.answer(from, &got, self.clients.len());
        for (to, answer) in answers {
            self.push(to, &answer);
        }
    }

    /// Waits for as long as given, and closes every connection; what it was called.
    fn end(self, wait: Duration) -> Vec<String> {
        thread::sleep(wait);
        let addresses = self.clients.iter().map(|client| client.address.to_string()).collect();
        for (client, mut server) in self.clients.into_iter().zip(self.server) {
            let leaving = thread::spawn(|| client.leave());
            while server.read().is_ok() {}
            drop(server);
            leaving.join().unwrap();
        }
        addresses
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
    path.to_str().unwrap().to_owned()
}

/// What is told of one recipient: the rule, the fault, and which client's.
type Finding = (&'static str, &'static str, usize);

/// Watches what `play` does with a server, and holds what is found against what the server broke.
fn is_found<P: Protocol>(
    rules: &str,
    protocol: P,
    wait: Duration,
    play: impl FnOnce(&mut Talk<P>),
    broken: &[Finding],
) -> Verdicts {
    let mut talk = Talk::new(protocol);
    let observer = verify(talk.address().port(), &["--rules", &example(rules)]);
    play(&mut talk);
    let addresses = talk.end(wait);
    let verdicts = Verdicts::of(observer);
    let mut found = Vec::new();
    for case in verdicts.cases.iter().filter(|case| case["outcome"] != "held") {
        assert_eq!(case["outcome"], "violated", "{case}");
        for deviation in case["deviations"].as_array().unwrap() {
            let whose = addresses.iter().position(|address| deviation["client"] == **address);
            found.push((text(&case["flow"]), text(&deviation["fault"]), whose.unwrap()));
        }
    }
    let mut expected: Vec<_> =
        broken.iter().map(|(flow, fault, whose)| (flow.to_string(), fault.to_string(), *whose)).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{:#?}", verdicts.cases);
    if broken.is_empty() {
        verdicts.assert_all_held();
    } else {
        assert_eq!(verdicts.code, Some(1));
    }
    verdicts
}

/// Answers calls with what they ask for. What it does wrong it does to the call of the method `hit`.
struct JsonRpc {
    wrong: fn(&Value) -> Vec<Value>,
}

fn result(call: &Value) -> Value {
    json!({"jsonrpc": "2.0", "result": call["params"], "id": call["id"]})
}

impl Protocol for JsonRpc {
    fn answer(&mut self, from: usize, message: &Value, _: usize) -> Answers {
        let answers = match (message["method"].as_str(), message.get("id")) {
            (Some("hit"), Some(_)) => (self.wrong)(message),
            (Some("fail"), Some(id)) => {
                vec![json!({"jsonrpc": "2.0", "error": {"code": -32601, "message": "no"}, "id": id})]
            }
            (Some(_), Some(_)) => vec![result(message)],
            _ => Vec::new(),
        };
        answers.into_iter().map(|answer| (from, answer)).collect()
    }
}

/// The rules allow five seconds for an answer.
const UNANSWERED: Duration = Duration::from_millis(5_600);

fn calls(talk: &mut Talk<JsonRpc>) {
    talk.connect(2);
    for (id, method) in ["echo", "fail", "hit", "echo"].iter().enumerate() {
        for client in 0..2 {
            // A number at one, a string at the other; the other one hits nothing.
            let method = if *method == "hit" && client == 0 { "echo" } else { method };
            let id = if client == 0 { json!(id) } else { json!(format!("call {id}")) };
            talk.send(client, &json!({"jsonrpc": "2.0", "method": method, "params": [id], "id": id}));
        }
    }
    talk.send(0, &json!({"jsonrpc": "2.0", "method": "hit", "params": []}));
    // The server calls, too.
    for client in 0..2 {
        let call = json!({"jsonrpc": "2.0", "method": "ping", "id": 7});
        talk.push(client, &call);
        talk.send(client, &result(&call));
    }
}

fn of_json_rpc(wrong: fn(&Value) -> Vec<Value>, wait: Duration, broken: &[Finding]) {
    let verdicts = is_found("json-rpc.toml", JsonRpc { wrong }, wait, calls, broken);
    assert_eq!(verdicts.of_flow("call").count(), 8);
    assert_eq!(verdicts.table()["call-of-server"], [2, 0, 0, 0]);
}

#[test]
fn json_rpc_whose_calls_are_answered_holds() {
    of_json_rpc(|call| vec![result(call)], Duration::ZERO, &[]);
}

#[test]
fn a_json_rpc_call_that_is_not_answered_is_found() {
    of_json_rpc(|_| Vec::new(), UNANSWERED, &[("call", "lost", 1)]);
}

#[test]
fn a_json_rpc_call_that_is_answered_twice_is_found() {
    let twice = |call: &Value| vec![result(call), result(call)];
    of_json_rpc(twice, Duration::ZERO, &[("call", "duplicated", 1)]);
}

#[test]
fn a_json_rpc_call_that_is_answered_with_another_id_is_found() {
    let wrong = |call: &Value| vec![json!({"jsonrpc": "2.0", "result": call["params"], "id": "nobody's"})];
    of_json_rpc(wrong, UNANSWERED, &[("call", "altered", 1)]);
}

#[test]
fn a_json_rpc_call_of_the_server_that_the_client_does_not_answer_is_found() {
    let play = |talk: &mut Talk<JsonRpc>| {
        talk.connect(2);
        for client in 0..2 {
            talk.push(client, &json!({"jsonrpc": "2.0", "method": "ping", "id": 7}));
        }
        talk.send(0, &json!({"jsonrpc": "2.0", "result": null, "id": 7}));
    };
    let protocol = JsonRpc { wrong: |_| Vec::new() };
    is_found("json-rpc.toml", protocol, UNANSWERED, play, &[("call-of-server", "lost", 1)]);
}

/// Passes on what is published to those who subscribed. What it does wrong it does to what says `hit`.
struct Topics {
    subscribed: BTreeSet<(String, usize)>,
    wrong: Wrong,
    /// A topic to which nobody is told that they subscribed.
    unconfirmed: &'static str,
}

impl Protocol for Topics {
    fn answer(&mut self, from: usize, message: &Value, _: usize) -> Answers {
        let topic = text(&message["topic"]);
        match message["op"].as_str().unwrap() {
            "publish" => {
                let subscribed = self.subscribed.iter().filter(|(other, _)| *other == topic);
                let mut copies = subscribed.map(|(_, client)| (*client, message.clone())).collect();
                if message["data"] == "hit" {
                    (self.wrong)(&mut copies);
                }
                copies
            }
            "subscribe" => {
                let confirmation = json!({"op": "subscribed", "topic": topic});
                let is_confirmed = topic != self.unconfirmed;
                self.subscribed.insert((topic, from));
                if is_confirmed { vec![(from, confirmation)] } else { Vec::new() }
            }
            "unsubscribe" => {
                let confirmation = json!({"op": "unsubscribed", "topic": topic});
                self.subscribed.remove(&(topic, from));
                vec![(from, confirmation)]
            }
            other => panic!("{other}"),
        }
    }
}

/// The rules allow two seconds.
const UNPUBLISHED: Duration = Duration::from_millis(2_600);

fn publications(talk: &mut Talk<Topics>) {
    talk.connect(4);
    let publish = |topic: &str, data: &str| json!({"op": "publish", "topic": topic, "data": data});
    for (client, topic) in [(0, "news"), (1, "news"), (1, "sport"), (2, "sport"), (3, "weather")] {
        talk.send(client, &json!({"op": "subscribe", "topic": topic}));
    }
    for (client, topic, data) in [
        // Whoever publishes need not have subscribed.
        (3, "news", "one"),
        (0, "news", "two"),
        (0, "news", "hit"),
        (1, "sport", "three"),
        // What nobody has subscribed to asks for nothing.
        (3, "nobody's", "four"),
    ] {
        talk.send(client, &publish(topic, data));
    }
    talk.send(1, &json!({"op": "unsubscribe", "topic": "news"}));
    talk.send(2, &json!({"op": "subscribe", "topic": "news"}));
    talk.send(3, &publish("news", "five"));
}

fn of_topics(wrong: Wrong, unconfirmed: &'static str, broken: &[Finding]) {
    let protocol = Topics { subscribed: BTreeSet::new(), wrong, unconfirmed };
    let wait = if broken.is_empty() { Duration::ZERO } else { UNPUBLISHED };
    let verdicts = is_found("topics.toml", protocol, wait, publications, broken);
    let counts = ["subscribe", "unsubscribe", "publish"].map(|flow| verdicts.of_flow(flow).count());
    assert_eq!(counts, [6, 1, 5]);
}

#[test]
fn topics_that_reach_their_subscribers_hold() {
    of_topics(|_| {}, "none", &[]);
}

#[test]
fn what_is_published_to_somebody_who_did_not_subscribe_is_found() {
    let wrong: Wrong = |copies| copies.push((2, copies[0].1.clone()));
    of_topics(wrong, "none", &[("publish", "unexpected", 2)]);
}

#[test]
fn what_does_not_reach_a_subscriber_is_found() {
    of_topics(|copies| copies.retain(|(to, _)| *to != 1), "none", &[("publish", "lost", 1)]);
}

#[test]
fn what_reaches_a_subscriber_altered_is_found() {
    let wrong: Wrong = |copies| copies[1].1["data"] = "something else".into();
    of_topics(wrong, "none", &[("publish", "altered", 1)]);
}

#[test]
fn what_reaches_a_subscriber_under_another_topic_is_found() {
    let wrong: Wrong = |copies| copies[1].1["topic"] = "sport".into();
    of_topics(wrong, "none", &[("publish", "altered", 1)]);
}

#[test]
fn a_subscription_that_is_not_confirmed_is_found() {
    of_topics(|_| {}, "weather", &[("subscribe", "lost", 3)]);
}

/// Passes on what is said to whoever is connected. What it does wrong it does to what says `hit`.
struct SocketIo {
    wrong: Wrong,
}

impl Protocol for SocketIo {
    const PREFIX: &'static str = "42";

    fn answer(&mut self, from: usize, message: &Value, clients: usize) -> Answers {
        let text = &message[1]["text"];
        let said = json!(["chat message", {"user": format!("user {from}"), "text": text}]);
        let mut answers: Vec<_> = (0..clients).map(|client| (client, said.clone())).collect();
        if text == "hit" {
            (self.wrong)(&mut answers);
        }
        answers
    }
}

fn of_socket_io(wrong: Wrong, broken: &[Finding]) {
    let wait = if broken.is_empty() { Duration::ZERO } else { UNPUBLISHED };
    let play = |talk: &mut Talk<SocketIo>| {
        talk.connect(3);
        // Nothing tells when the server begins to count somebody in: it has as long for it as for what is said.
        thread::sleep(wait);
        for (client, text) in [(0, "one"), (1, "two"), (1, "hit"), (1, "three"), (2, "four")] {
            talk.send(client, &json!(["chat message", {"text": text}]));
        }
    };
    let verdicts = is_found("socket-io.toml", SocketIo { wrong }, wait, play, broken);
    assert_eq!(verdicts.of_flow("say").count(), 5);
}

#[test]
fn socket_io_that_reaches_whoever_is_connected_holds() {
    of_socket_io(|_| {}, &[]);
}

#[test]
fn whoever_is_connected_to_socket_io_and_left_out_is_found() {
    of_socket_io(|answers| answers.truncate(2), &[("say", "lost", 2)]);
}

#[test]
fn what_comes_twice_by_socket_io_is_found() {
    of_socket_io(|answers| answers.push(answers[0].clone()), &[("say", "duplicated", 0)]);
}

#[test]
fn what_nobody_said_by_socket_io_is_found() {
    of_socket_io(
        |answers| answers.push((2, json!(["chat message", {"user": "nobody", "text": "nobody said it"}]))),
        &[("unsolicited-say", "unsolicited", 2)],
    );
}

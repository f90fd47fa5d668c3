//! Verdicts on live traffic: folded text, `verify` and `ls`, and JSON lines that are judged later.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::chat::the_manuals_chat;
use crate::support::{Client, Program, Server, observer, watch};

/// What is asked is answered within a second.
const RULES: &str = "schema = 1\nname = 'rpc'\n\
    [[message]]\ntype = 'hello'\nwhen = { '/m' = 'hello' }\n\
    [[message]]\ntype = 'call'\nfrom = 'client'\nwhen = { '/m' = 'call' }\n\
    [[message]]\ntype = 'result'\nfrom = 'server'\nwhen = { '/m' = 'result' }\n\
    [[flow]]\nname = 'answered'\nwhen = { type = 'call' }\nwithin = '1s'\n\
    [[flow.expect]]\ntype = 'result'\nto = 'sender'\n";

fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path
}

/// Two clients chat and leave one after the other.
fn chat(server: &Server) {
    for client in the_manuals_chat(server) {
        client.leave();
        // Who leaves while it is told that another one left need not get it.
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn default_text_has_one_line_for_what_is_said_and_its_copies() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut observer = Program::start(&mut observer(&["--port", &port]));
    observer.wait_for("watching");
    chat(&server);
    let said = observer.interrupt().stdout;
    for happened in
        ["猪猪 logged in 1/1 ", "mynick logged in 2/2 ", "mynick → all \"hi, all !\" 2/2 ", "logged out 1/1 "]
    {
        assert_eq!(said.iter().filter(|line| line.contains(happened)).count(), 1, "{happened}: {said:#?}");
    }
    assert!(!said.iter().any(|line| line.contains("{\"type\"")), "{said:#?}");
}

#[test]
fn what_does_not_come_is_told_when_its_time_is_up_though_nothing_else_passes() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let (port, rules) = (server.port().to_string(), file("rpc.toml", RULES.as_bytes()));
    let mut child = observer(&["--port", &port, "--rules", rules.to_str().unwrap()]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("watching") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    let mut client = Client::connect(server.address, "/echo");
    client.echo(r#"{"m":"hello"}"#);
    client.echo(r#"{"m":"call"}"#);
    let asked = Instant::now();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    line.clear();
    while !line.contains(r#" call "{\"m\":\"call\"}" 0/1, missing: "#) {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0);
    }
    let told_after = asked.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        (Duration::from_millis(900)..Duration::from_millis(2_100)).contains(&told_after),
        "{told_after:?}"
    );
}

#[test]
fn verify_judges_a_live_chat_and_says_so_in_its_exit_status() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut observer = Program::start(&mut observer(&["verify", "--port", &port]));
    observer.wait_for("watching");
    chat(&server);
    let ended = observer.interrupt();
    assert_eq!(ended.code, Some(0), "{:#?} {}", ended.stdout, ended.stderr);
    assert!(ended.stdout.last().unwrap().ends_with(" checks."), "{:#?}", ended.stdout);
}

#[test]
fn lines_with_receipts_are_judged_later_as_the_live_run_is() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut live = Program::start(&mut observer(&["verify", "--json", "--port", &port]));
    live.wait_for("watching");
    let recorder = watch(server.port(), &["--receipts"]);
    chat(&server);
    let (live, recorded) = (live.interrupt(), recorder.interrupt());
    let lines = file("receipts.jsonl", (recorded.stdout.join("\n") + "\n").as_bytes());
    let later = observer(&["verify", "--json", lines.to_str().unwrap()]).output().unwrap();
    assert_eq!((live.code, later.status.code()), (Some(0), Some(0)), "{:#?}", live.stdout);
    let of = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        let values = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let verdicts = values.filter(|line| line["kind"] == "verdict");
        let mut words: Vec<_> = verdicts
            .map(|it| format!("{} {} {}/{}", it["flow"], it["user"]["name"], it["arrived"], it["expected"]))
            .collect();
        words.sort();
        words
    };
    let later = String::from_utf8(later.stdout).unwrap();
    assert_eq!(of(&mut later.lines()), of(&mut live.stdout.iter().map(String::as_str)));
}

#[test]
fn ls_lists_who_was_connected_before_and_who_comes_meanwhile() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut before = Client::connect(server.address, "/echo");
    before.echo("before");
    let mut child = observer(&["ls", "--json", "--port", &port]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("watching") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    let clients = the_manuals_chat(&server);
    let mut listed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut listed).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let connected: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |client: &Client| {
        let address = client.address.to_string();
        connected.iter().find(|it| it["client"] == address.as_str()).unwrap_or_else(|| panic!("{listed}"))
    };
    assert_eq!((&of(&before)["since"], &of(&before)["listed"]), (&Value::Null, &true.into()));
    assert_eq!(of(&before)["standing"], "unknown");
    for (client, name) in clients.iter().zip(["猪猪", "mynick"]) {
        assert_eq!((&of(client)["user"]["name"], &of(client)["complete"]), (&name.into(), &true.into()));
    }
}

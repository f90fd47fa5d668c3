//! `--rules`: other protocols, read by files; and what is said of files that are wrong.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Conversation, From, Pcap, TemporaryFile, json, run, run_on, testdata};

/// A conversation of some messages, by who sends them.
fn conversation(messages: &[(From, &str)]) -> Vec<u8> {
    let mut conversation = Conversation::upgraded(8080);
    for (from, text) in messages {
        conversation.text(*from, text);
    }
    Pcap::default().file(&conversation.packets)
}

/// What each message means; null where it means nothing.
fn meanings(capture: &[u8], options: &[&str]) -> Vec<Value> {
    let ran = run_on(capture, &[&["--json"], options].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    json(&ran).into_iter().filter(|it| it["kind"] == "message").map(|mut it| it["chat"].take()).collect()
}

/// The file in the documentation that has this name.
fn documented(name: &str) -> TemporaryFile {
    let documentation = fs::read_to_string(testdata().join("../docs/flows.md")).unwrap();
    let files = documentation.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let file = files.into_iter().find(|file| file.contains(&format!("name = \"{name}\"\n"))).unwrap();
    TemporaryFile::new(&format!("{name}.toml"), file.as_bytes())
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let file = TemporaryFile::new(name, bytes);
    let ran = run(&["read", "--rules", file.path(), "-"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
    ran.stderr.replace(file.path(), "FILE")
}

#[test]
fn the_documented_rules_of_a_chat_read_it() {
    let rules = documented("example");
    let capture = conversation(&[
        (From::Client, r#"{"type":"re_login","client_name":"a","room_id":7}"#),
        (From::Server, r#"{"type":"say","from":3,"to":"all","content":"hi"}"#),
        (From::Server, r#"{"type":"say","from":3,"to":"4","content":"hi"}"#),
    ]);
    assert_eq!(
        meanings(&capture, &["--rules", rules.path()]),
        [
            json!({"type": "login", "user": {"name": "a"}, "room": "7"}),
            json!({"type": "say", "user": {"uid": 3}, "to": "all", "content": "hi"}),
            json!({"type": "say", "user": {"uid": 3}, "to": 4, "content": "hi"}),
        ]
    );
}

#[test]
fn the_documented_rules_read_socket_io() {
    let rules = documented("socket-io-chat");
    let capture = conversation(&[
        (From::Server, r#"0{"sid":"x","upgrades":[],"pingInterval":25000}"#),
        (From::Client, r#"42["chat message",{"text":"hi"}]"#),
        (From::Server, r#"42["chat message",{"user":"a","text":"hi"}]"#),
        (From::Server, r#"42["other",{"text":"hi"}]"#),
        (From::Server, "2"),
    ]);
    assert_eq!(
        meanings(&capture, &["--rules", rules.path()]),
        [
            Value::Null,
            json!({"type": "say", "content": "hi"}),
            json!({"type": "say", "user": {"name": "a"}, "content": "hi"}),
            Value::Null,
            Value::Null,
        ]
    );
}

const RPC: &[(From, &str)] = &[
    (From::Client, r#"{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}"#),
    (From::Server, r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
    (From::Client, r#"{"jsonrpc":"2.0","id":"x","method":"sub"}"#),
    (From::Server, r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"Method not found"}}"#),
    (From::Server, r#"{"jsonrpc":"2.0","method":"tick"}"#),
    (From::Server, r#"{"jsonrpc":"1.0","method":"tick"}"#),
];

#[test]
fn the_documented_rules_read_json_rpc() {
    let rules = documented("json-rpc");
    assert_eq!(
        meanings(&conversation(RPC), &["--rules", rules.path()]),
        [
            json!({"type": "call", "fields": {"id": 1, "method": "add"}}),
            json!({"type": "result", "fields": {"id": 1}}),
            json!({"type": "call", "fields": {"id": "x", "method": "sub"}}),
            json!({"type": "failure", "content": "Method not found", "code": "-32601", "fields": {"id": "x"}}),
            json!({"type": "notification", "fields": {"method": "tick"}}),
            Value::Null,
        ]
    );
}

#[test]
fn the_documented_rules_read_topics() {
    let rules = documented("topics");
    let capture = conversation(&[
        (From::Client, r#"{"op":"subscribe","topic":"weather"}"#),
        (From::Server, r#"{"op":"subscribed","topic":"weather"}"#),
        (From::Server, r#"{"op":"publish","topic":"weather","data":"rain"}"#),
        (From::Server, r#"{"op":"publish","topic":"weather","data":{"mm":3}}"#),
    ]);
    assert_eq!(
        meanings(&capture, &["--rules", rules.path()]),
        [
            json!({"type": "subscribe", "room": "weather"}),
            json!({"type": "subscribed", "room": "weather"}),
            json!({"type": "publish", "room": "weather", "content": "rain"}),
            Value::Null,
        ]
    );
}

#[test]
fn types_of_rule_files_are_chosen_and_left_out_beside_the_built_in_ones() {
    let rules = documented("json-rpc");
    let capture = conversation(RPC);
    let types = |options: &[&str]| {
        let all = meanings(&capture, &[&["--rules", rules.path()], options].concat());
        all.iter().map(|it| it["type"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(types(&["--type", "call,result"]), ["call", "result", "call"]);
    assert_eq!(types(&["--not-type", "call,login"]), ["result", "failure", "notification", "?"]);
    let ran = run(&["read", "--type", "call", "-"]);
    assert_eq!(ran.code, Some(2));
    let said = "no message is of the type 'call' of --type: there are error, login, logout, ping, pong, say, user_list";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

#[test]
fn a_file_with_the_name_of_a_built_in_dialect_replaces_it() {
    let rules = b"schema = 1\nname = 'workerman-chat-2014-08'\n[[message]]\ntype = 'mine'\nwhen = { '/type' = 'user_list' }";
    let rules = TemporaryFile::new("replaces.toml", rules);
    let capture = conversation(&[
        (From::Server, r#"{"type":"user_list","user_list":[]}"#),
        (From::Server, r#"{"type":"error","code":"x"}"#),
    ]);
    assert_eq!(meanings(&capture, &["--rules", rules.path()]), [json!({"type": "mine"}), Value::Null]);
    assert_eq!(
        meanings(&capture, &[]),
        [json!({"type": "user_list", "users": []}), json!({"type": "error", "code": "x"})]
    );
}

#[test]
fn binary_messages_are_read_where_the_rules_take_them() {
    let mut conversation = Conversation::upgraded(8080);
    conversation.frame(From::Client, 2, br#"{"type":"login","name":"a"}"#);
    conversation.frame(From::Client, 2, b"{\"type\":\"login\",\"name\":\"\xff\"}");
    let capture = Pcap::default().file(&conversation.packets);
    assert_eq!(meanings(&capture, &[]), [json!({"type": "login", "user": {"name": "a"}}), Value::Null]);
}

#[test]
fn a_mistake_is_told_with_file_line_and_key() {
    let file = b"\xef\xbb\xbfschema = 1\r\nname = 'x'\r\n[[message]]\r\ntype = 'say'\r\nhas = '/a'\r\ncontnet = '/b'\r\n";
    let told = refused("mistake.toml", file);
    let expected = "error: the rule file FILE, line 6, in message 1 `say`: there is no key `contnet`; did you mean `content`?\n";
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn what_stands_in_a_file_is_told_escaped() {
    let told = refused("escape.toml", b"schema = 1\n\"\\u001b[31mred\" = 1\n");
    assert!(told.contains(r"FILE, line 2: there is no key `\x1b[31mred`"), "{told}");
}

#[test]
fn files_that_are_no_rules_are_refused() {
    for (name, bytes, told) in [
        ("empty.toml", &b""[..], "FILE, line 1: the key `schema` is missing"),
        ("capture.toml", b"\xd4\xc3\xb2\xa1", "FILE, line 1: this is not UTF-8; is it a rule file?"),
        ("json.toml", b"{\"schema\":1}", "FILE, line 1: this is not TOML"),
        ("long.toml", &[b'#'; 300 << 10], "FILE, line 1: a rule file has at most 262144 bytes"),
    ] {
        let found = refused(name, bytes);
        assert!(found.contains(told), "{name}: {found}");
    }
    let ran = run(&["read", "--rules", "/nonexistent/x.toml", "-"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("the rule file /nonexistent/x.toml cannot be read: No such file"),
        "{}",
        ran.stderr
    );
}

#[test]
fn two_files_of_one_name_are_refused() {
    let text = b"schema = 1\nname = 'x'\n[[message]]\ntype = 'a'\nhas = '/a'\n";
    let [one, other] = ["one.toml", "other.toml"].map(|name| TemporaryFile::new(name, text));
    let ran = run(&["read", "--rules", one.path(), "--rules", other.path(), "-"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("have the same name = \"x\": give each its own"), "{}", ran.stderr);
}

#[test]
fn more_files_than_dialects_that_can_be_are_refused() {
    let files: Vec<_> = (0..30)
        .map(|number| {
            let text = format!("schema = 1\nname = 'x{number}'\n[[message]]\ntype = 'a'\nhas = '/a'\n");
            TemporaryFile::new(&format!("many-{number}.toml"), text.as_bytes())
        })
        .collect();
    let arguments: Vec<_> = files.iter().flat_map(|file| ["--rules", file.path()]).collect();
    let ran = run(&[&["read"], &arguments[..], &["-"]].concat());
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("30 rule files are too many: at most 29 are used"), "{}", ran.stderr);
    let capture = conversation(&[(From::Client, r#"{"a":1}"#)]);
    assert_eq!(meanings(&capture, &arguments[2..]), [json!({"type": "a"})]);
}

#[test]
fn users_of_every_dialect_are_chosen_by_name_and_uid_and_room() {
    for (dialect, uid_of_guest, room) in [
        ("2014-08", "561461250", None),
        ("2014-09", "6", Some("7")),
        ("2015-11", "7f00000108fc00000008", Some("7")),
    ] {
        let capture = testdata().join(format!("captures/workerman-{dialect}.pcap"));
        let messages = |options: &[&str]| {
            let ran = run(&[&["read", capture.to_str().unwrap(), "--json"], options].concat());
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let messages = json(&ran).into_iter().filter(|it| it["kind"] == "message");
            messages.map(|it| it["connection"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let all = messages(&[]);
        let of_guest = all.iter().filter(|connection| **connection == 2).count();
        assert_eq!(messages(&["--user", "O'Neil & <b>"]), vec![2; of_guest], "{dialect}");
        // Known by uid once the login is answered; in 2014-08 the list comes before.
        let before = if dialect == "2014-08" { 2 } else { 1 };
        assert_eq!(messages(&["--user", uid_of_guest]), vec![2; of_guest - before], "{dialect}");
        if let Some(room) = room {
            assert_eq!(messages(&["--room", room]), all, "{dialect}");
        }
    }
}

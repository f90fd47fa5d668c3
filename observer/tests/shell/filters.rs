//! Filters hide, and hide nothing else: on a recorded chat, whose first connection is 猪's and whose second is mynick's.

use serde_json::Value;

use crate::support::{Conversation, From, Pcap, json, run, run_on, testdata};

fn shown(file: &str, filters: &[&str]) -> Vec<Value> {
    let capture = testdata().join("captures").join(file);
    let arguments = [&["read", capture.to_str().unwrap(), "--json"], filters].concat();
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    json(&ran)
}

fn chat(filters: &[&str]) -> Vec<Value> {
    shown("chat-lo-ipv4.pcap", filters)
}

/// Connection and type of each message.
fn messages(records: &[Value]) -> Vec<(u64, &str)> {
    records
        .iter()
        .filter(|record| record["kind"] == "message")
        .map(|it| (it["connection"].as_u64().unwrap(), it["chat"]["type"].as_str().unwrap_or("?")))
        .collect()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_user_is_shown_from_login_on_with_what_they_received_by_name_or_uid() {
    let everything = chat(&[]);
    for user in ["mynick", "783700053"] {
        let records = chat(&["--user", user]);
        // The uid is known one message later than the name.
        let expected = [(2, "login"), (2, "user_list"), (2, "login"), (2, "say"), (2, "say")];
        let skipped = if user == "mynick" { 0 } else { 2 };
        assert_eq!(messages(&records), expected[skipped..]);
        assert_eq!(records.last(), everything.last(), "what is counted does not depend on what is shown");
        assert!(kinds(&records).contains(&"connection_closed"));
        assert!(!kinds(&records).contains(&"connection_opened"), "it was not known yet whose it is");
    }
    assert!(messages(&chat(&["--user", "nobody"])).is_empty());
}

#[test]
fn types_are_chosen_and_left_out() {
    let says = chat(&["--type", "say"]);
    assert_eq!(messages(&says), [(2, "say"), (1, "say"), (2, "say")]);
    assert_eq!(kinds(&says), ["message", "message", "message", "summary"]);
    let rest = chat(&["--not-type", "say,login"]);
    assert_eq!(messages(&rest), [(1, "user_list"), (2, "user_list"), (1, "logout")]);
    assert!(kinds(&rest).contains(&"handshake"), "only messages are left out");
}

#[test]
fn directions_connections_and_hosts_narrow_what_is_shown() {
    let sent = chat(&["--direction", "client_to_server"]);
    assert_eq!(messages(&sent), [(1, "login"), (2, "login"), (2, "say")]);
    let second = chat(&["--connection", "2"]);
    assert!(second.iter().all(|record| record["kind"] == "summary" || record["connection"] == 2));
    assert!(kinds(&second).contains(&"connection_opened"));
    for (net, all) in [("127.0.0.1", true), ("127.0.0.0/8", true), ("10.0.0.0/8", false), ("::1", false)] {
        assert_eq!(messages(&chat(&["--host", net])).is_empty(), !all, "{net}");
    }
    assert_eq!(messages(&chat(&["--host", "10.1.1.1,127.0.0.1"])).len(), 11);
}

#[test]
fn opcodes_choose_messages_and_frames() {
    let records = shown("frames-any-ipv4.pcap", &["--frames", "--opcode", "binary,ping"]);
    let opcodes: Vec<_> =
        records.iter().filter_map(|it| Some((it["kind"].as_str()?, it["opcode"].as_str()?))).collect();
    let expected = [
        ("frame", "binary"),
        ("message", "binary"),
        ("frame", "binary"),
        ("message", "binary"),
        ("frame", "ping"),
    ];
    assert_eq!(opcodes, expected);
}

#[test]
fn grep_finds_what_was_sent_and_what_its_escapes_stand_for() {
    assert_eq!(messages(&chat(&["--grep", "hi, (all|none)"])).len(), 3);
    // It travels as \u732a.
    let records = chat(&["--grep", "猪"]);
    let found = messages(&records);
    assert!(found.len() >= 3, "{found:?}");
    assert_eq!(messages(&chat(&["--grep", r"\\u732a"])), found);
    assert_eq!(shown("frames-any-ipv4.pcap", &["--grep", r"(?-u)\x01\x02\x03"]).len(), 3);
    assert_eq!(messages(&chat(&["--grep", "hi", "--grep", "user_list"])).len(), 5, "either will do");
}

#[test]
fn a_room_is_shown_by_the_name_that_was_asked_for() {
    let mut packets = Vec::new();
    for (port, room) in [(1, r#","room_id":"7""#), (2, r#","room_id":8"#), (3, "")] {
        let mut conversation = Conversation::upgraded(port);
        conversation.text(From::Client, &format!(r#"{{"type":"login","name":"x"{room}}}"#));
        packets.append(&mut conversation.packets);
    }
    let file = Pcap::default().file(&packets);
    for (room, connections) in [("7", vec![1]), ("8", vec![2]), ("9", vec![])] {
        let ran = run_on(&file, &["--json", "--room", room]);
        let records = json(&ran);
        let found: Vec<_> = messages(&records).into_iter().map(|(connection, _)| connection).collect();
        assert_eq!(found, connections, "room {room}: {}", ran.stdout);
    }
}

#[test]
fn a_count_is_of_what_is_shown() {
    let records = chat(&["--type", "say", "-c", "2"]);
    assert_eq!(messages(&records), [(2, "say"), (1, "say")]);
}

#[test]
fn a_gap_is_shown_whatever_is_looked_for() {
    let mut conversation = Conversation::upgraded(7272);
    conversation.text(From::Client, "one");
    conversation.text(From::Client, "two, which is lost");
    conversation.text(From::Client, "three");
    let lost = conversation.packets.len() - 2;
    conversation.packets.remove(lost);
    conversation.close();
    let ran = run_on(&Pcap::default().file(&conversation.packets), &["--json", "--grep", "which is lost"]);
    assert!(kinds(&json(&ran)).contains(&"gap"), "{}", ran.stdout);
}

#[test]
fn filters_that_cannot_be_are_refused() {
    for (arguments, said) in [
        (["--grep", "("], "regex parse error"),
        (["--host", "localhost"], "names are not looked up"),
        (["--direction", "up"], "client_to_server"),
        (["--type", "shout"], "user_list"),
        (["--opcode", "3"], "binary"),
    ] {
        let ran = run(&[&["read", "-"], &arguments[..]].concat());
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn what_is_claimed_to_be_for_a_client_is_found_by_any_header_and_nobody_claimed_is_a_host() {
    let connections = |filters: &[&str]| {
        let records = shown("nginx-lo.pcap", &[&["--port", "7272"], filters].concat());
        let shown: Vec<_> = records.iter().filter(|it| it["kind"] != "summary").collect();
        assert!(shown.iter().all(|it| it["client"].as_str().unwrap().starts_with("127.0.0.1:")));
        let mut connections: Vec<_> = shown.iter().map(|it| it["connection"].as_u64().unwrap()).collect();
        connections.dedup();
        connections
    };
    // Whoever forges the first address is found by the one that nginx appended, and by the forged ones.
    assert_eq!(connections(&["--client-claimed", "203.0.113.7"]), [2, 3, 4]);
    assert_eq!(connections(&["--client-claimed", "192.0.2.0/24"]), [3]);
    assert_eq!(connections(&["--client-claimed", "2001:db8::66,198.51.100.1"]), [1, 3]);
    assert!(connections(&["--client-claimed", "127.0.0.1"]).is_empty());
    assert!(connections(&["--host", "203.0.113.7"]).is_empty());
}

#[test]
fn a_claim_hides_what_came_before_it_and_shows_all_behind_it() {
    let records = shown("proxy-v1-lo.pcap", &["--client-claimed", "203.0.113.7"]);
    let expected =
        [&["proxy_header", "handshake", "handshake"][..], &["message"; 5], &["connection_closed", "summary"]];
    assert_eq!(kinds(&records), expected.concat());
}

//! How heads, what proxies claim, and other protocols are shown.

use crate::support::{ANSWER, Conversation, From, Pcap, REQUEST, json, run_on};

/// The text of all lines behind the addresses.
fn shown(conversation: &Conversation, options: &[&str]) -> Vec<String> {
    let ran = run_on(&Pcap::default().file(&conversation.packets), &[&["--port", "7272"], options].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
        .lines()
        .map(|line| line.split_once(":7272 ").map_or(line, |(_, text)| text).to_owned())
        .collect()
}

fn answered(answer: &str) -> Conversation {
    let mut conversation = Conversation::open(7272);
    conversation.send(From::Client, REQUEST.as_bytes());
    conversation.send(From::Server, answer.as_bytes());
    conversation
}

#[test]
fn a_refusal_is_shown_with_what_else_to_ask_for() {
    for (answer, expected) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: ws://other/\u{202e}\r\n\r\n",
            "302 [no WebSocket] Found location ws://other/\\u{202e}",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13, 8\r\n\r\n",
            "400 [no WebSocket] Bad Request versions 13, 8",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "403 [no WebSocket] Forbidden",
        ),
        (
            "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\n\r\n",
            "426 [no WebSocket] Upgrade Required versions 13",
        ),
    ] {
        assert_eq!(shown(&answered(answer), &[])[2], expected);
    }
    let explained =
        shown(&answered("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), &["--format", "explain"]);
    assert!(explained.contains(&"# WebSocket upgrade refused: 403 Forbidden".to_owned()), "{explained:#?}");
}

#[test]
fn an_answer_to_a_page_is_no_refusal_whatever_was_asked_for_before() {
    let mut conversation = answered("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    conversation.send(From::Client, b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n");
    conversation.send(From::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let explained = shown(&conversation, &["--format", "explain"]);
    assert!(explained.contains(&"# HTTP answer: 200 OK".to_owned()), "{explained:#?}");
}

#[test]
fn subprotocols_and_extensions_are_listed_as_they_were_offered_and_chosen() {
    let offered = "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate; \
        client_max_window_bits\r\nSec-WebSocket-Extensions: x-other";
    let chosen = "Sec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Extensions: permessage-deflate";
    let with = |head: &str, fields: &str| head.replacen("\r\n", &format!("\r\n{fields}\r\n"), 1);
    let mut conversation = Conversation::open(7272);
    conversation.send(From::Client, with(REQUEST, offered).as_bytes());
    conversation.send(From::Server, with(ANSWER, chosen).as_bytes());
    assert_eq!(
        shown(&conversation, &[])[1..3],
        [
            "GET /chat subprotocol chat, superchat extensions permessage-deflate; client_max_window_bits, x-other",
            "101 Switching Protocols subprotocol superchat extensions permessage-deflate",
        ]
    );
    let records = json(&run_on(&Pcap::default().file(&conversation.packets), &["--json"]));
    assert_eq!(records[1]["subprotocol"], "chat, superchat");
    let extensions = ["permessage-deflate; client_max_window_bits", "x-other"];
    assert_eq!(records[1]["extensions"], serde_json::json!(extensions));
    assert_eq!(records[2]["subprotocol"], "superchat");
    assert_eq!(records[2]["extensions"], serde_json::json!(["permessage-deflate"]));
}

#[test]
fn a_101_that_is_not_websocket_names_what_it_is() {
    let mut conversation =
        answered("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\u{202e}\r\n\r\n");
    conversation.send(From::Server, b"what is this");
    let lines = shown(&conversation, &[]);
    assert_eq!(lines[2], "101 [no WebSocket] Switching Protocols");
    assert_eq!(
        lines[3],
        "anomaly switched-to-another-protocol: foo\\u{202e}: what follows is decoded by its looks"
    );
}

#[test]
fn a_claim_stands_before_the_target_that_could_imitate_it_and_names_each_address_once() {
    let forwarded =
        "X-Forwarded-For: 2001:db8::7, 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nForwarded: for=\u{202e}";
    let request = REQUEST.replacen("/chat", "/[X-Forwarded-For\u{a0}claims\u{a0}client\u{a0}6.6.6.6]", 1);
    let request = request.replacen("\r\n", &format!("\r\n{forwarded}\r\n"), 1);
    let mut conversation = Conversation::open(7272);
    conversation.send(From::Client, request.as_bytes());
    conversation.send(From::Server, ANSWER.as_bytes());
    conversation.text(From::Client, "hi");
    let claim =
        "GET [X-Forwarded-For claims client 2001:db8::7; also claimed: 203.0.113.9] /[X-Forwarded-For";
    let lines = shown(&conversation, &[]);
    assert!(lines[1].starts_with(claim), "{lines:#?}");
    assert_eq!(
        lines[2..4],
        ["101 Switching Protocols", "text 2 hi"],
        "a claim is told with the request alone"
    );
    let records = json(&run_on(&Pcap::default().file(&conversation.packets), &["--json"]));
    for record in &records[1..4] {
        assert_eq!(record["client"], "10.0.0.1:40000");
        assert_eq!(record["client_claimed"], "2001:db8::7");
        assert_eq!(record["client_claimed_by"], "x_forwarded_for");
        assert_eq!(record["client_claimed_also"], serde_json::json!(["203.0.113.9"]));
    }
    assert!(records[0].get("client_claimed").is_none(), "nobody had claimed anything when it opened");
}

#[test]
fn a_proxy_header_is_shown_as_a_claim() {
    for (header, text, sentence) in [
        (
            &b"PROXY TCP6 2001:db8::7 2001:db8::1 41234 443\r\n"[..],
            "PROXY v1 claims client [2001:db8::7]:41234, server [2001:db8::1]:443",
            "# PROXY header: 10.0.0.1:40000 claims to connect for [2001:db8::7]:41234, which asked for [2001:db8::1]:443",
        ),
        (
            b"PROXY UNKNOWN\r\n",
            "PROXY v1 claims no address",
            "# PROXY header: 10.0.0.1:40000 claims no client's address",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            "PROXY v2 of the proxy's own connection",
            "# PROXY header: 10.0.0.1:40000 claims no client's address",
        ),
    ] {
        let mut conversation = Conversation::open(7272);
        conversation.send(From::Client, &[header, REQUEST.as_bytes()].concat());
        conversation.send(From::Server, ANSWER.as_bytes());
        assert_eq!(shown(&conversation, &[])[1], text);
        let explained = shown(&conversation, &["--format", "explain"]);
        assert!(explained.contains(&sentence.to_owned()), "{sentence}: {explained:#?}");
    }
}

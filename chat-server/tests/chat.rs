//! Owns the chat's behaviour as its clients see it: real sockets, and clients of another library.

mod support;

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use support::{Client, PATIENCE, Server, frame, raw_websocket, read_to_end};

/// Replaces the time of day, after a check of its form.
fn without_time(text: &str) -> String {
    let Some(start) = text.find("\"time\":\"") else { return text.to_owned() };
    let (before, rest) = text.split_at(start + 8);
    let (time, after) = rest.split_at(19);
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00 00:00:00");
    format!("{before}…{after}")
}

#[tokio::test]
async fn the_manuals_scenario_gives_the_manuals_messages_to_the_letter() {
    let server = Server::start(|_| ()).await;
    let mut present = server.member("Tom").await;
    let mut newcomer = server.client().await;

    newcomer.send_text(r#"{"type":"login","name":"mynick"}"#).await;
    let list = newcomer.text().await;
    let login = newcomer.text().await;
    let uid = serde_json::from_str::<serde_json::Value>(&login).unwrap()["uid"].as_u64().unwrap();
    let first = present.uid;
    assert_ne!(first, uid);
    assert_eq!(
        list,
        format!(
            r#"{{"type":"user_list","user_list":[{{"uid":{first},"name":"Tom"}},{{"uid":{uid},"name":"mynick"}}]}}"#
        )
    );
    assert_eq!(without_time(&login), format!(r#"{{"type":"login","uid":{uid},"name":"mynick","time":"…"}}"#));
    assert_eq!(present.text().await, login);

    newcomer.send_text(r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#).await;
    let say = newcomer.text().await;
    assert_eq!(
        without_time(&say),
        format!(r#"{{"type":"say","from_uid":{uid},"to_uid":"all","content":"hi, all !","time":"…"}}"#)
    );
    assert_eq!(present.text().await, say);

    newcomer.socket.close(None).await.unwrap();
    assert_eq!(
        without_time(&present.text().await),
        format!(r#"{{"type":"logout","uid":{uid},"name":"mynick","time":"…"}}"#)
    );
    let summary = server.stop().await;
    assert_eq!((summary.logins, summary.errors_sent, summary.violations), (2, 0, 0));
}

#[tokio::test]
async fn the_time_is_local_and_now() {
    let server = Server::start(|_| ()).await;
    let mut client = server.member("Ann").await;
    let before = jiff::Zoned::now();
    client.say(json!("all"), "now").await;
    let time: jiff::civil::DateTime = client.json().await["time"].as_str().unwrap().parse().unwrap();
    let told = time.to_zoned(before.time_zone().clone()).unwrap();
    let apart = before.until(&told).unwrap().total(jiff::Unit::Second).unwrap();
    assert!((-1.0..=2.0).contains(&apart), "{apart} s apart");
}

#[tokio::test]
async fn a_private_message_reaches_only_the_user_with_that_uid() {
    let server = Server::start(|_| ()).await;
    let mut ann = server.member("Ann").await;
    let mut bob = server.member("Bob").await;
    let mut eve = server.member("Eve").await;
    for _ in 0..2 {
        ann.json().await;
    }
    bob.json().await;

    ann.say(json!(bob.uid), "as a number").await;
    ann.say(json!(bob.uid.to_string()), "as a string").await;
    for content in ["as a number", "as a string"] {
        let say = bob.json().await;
        assert_eq!(
            (&say["from_uid"], &say["to_uid"], &say["content"]),
            (&json!(ann.uid), &json!(bob.uid), &json!(content))
        );
    }
    for unknown in [json!(1), json!(0), json!(u64::MAX), json!("1")] {
        ann.say(unknown, "anybody?").await;
        assert_eq!(ann.error_code().await, "unknown_uid");
    }
    ann.say(json!(ann.uid), "to myself").await;
    assert_eq!(ann.json().await["content"], "to myself");
    ann.expect_nothing().await;
    bob.expect_nothing().await;
    eve.expect_nothing().await;
}

#[tokio::test]
async fn names_and_contents_are_passed_on_exactly() {
    let server = Server::start(|_| ()).await;
    let name = "<b>猪\u{202e}\u{0}\"\\";
    let mut client = server.member(name).await;
    for content in [
        "",
        "<img src=x onerror=alert(1)>",
        "\u{1b}[2J\u{1b}]52;c;eA==\u{7}",
        "line\nbreaks\r\n\t",
        "👩‍👩‍👧 \u{2028}\u{feff}",
        "&lt; already",
        "\u{7f}\u{9b}",
    ] {
        client.say(json!("all"), content).await;
        assert_eq!(client.json().await["content"], content);
    }
    client.send_text(r#"{"type":"say","to_uid":"all","content":"\u732a"}"#).await;
    assert_eq!(client.json().await["content"], "猪");
}

#[tokio::test]
async fn every_wrong_message_gets_its_error_and_others_notice_nothing() {
    let server = Server::start(|config| config.max_message_bytes = 1000).await;
    let mut other = server.member("Other").await;
    let mut wrong = server.client().await;
    let long_content = "x".repeat(1000);
    let long_name = "猪".repeat(22);
    for (json, code) in [
        ("{", "bad_json"),
        ("", "bad_json"),
        ("[]", "bad_json"),
        (r#"{"type":"say","to_uid":"all","content":"too early"}"#, "not_logged_in"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"name":"x"}"#, "missing_field"),
        (r#"{"type":"login"}"#, "missing_field"),
        (r#"{"type":"login","name":7}"#, "bad_field"),
        (r#"{"type":"login","name":""}"#, "name_empty"),
        (&format!(r#"{{"type":"login","name":"{long_name}"}}"#), "name_too_long"),
        (&format!(r#"{{"type":"login","name":"{long_content}"}}"#), "message_too_long"),
    ] {
        wrong.send_text(json).await;
        assert_eq!(wrong.error_code().await, code, "{json}");
    }
    wrong.login("Wrong").await;
    for (json, code) in [
        (r#"{"type":"login","name":"Again"}"#.to_owned(), "already_logged_in"),
        (r#"{"type":"say","content":"to whom?"}"#.to_owned(), "missing_field"),
        (r#"{"type":"say","to_uid":"everybody","content":"?"}"#.to_owned(), "bad_field"),
        (format!(r#"{{"type":"say","to_uid":"all","content":"{long_content}"}}"#), "message_too_long"),
    ] {
        wrong.send_text(&json).await;
        assert_eq!(wrong.error_code().await, code, "{json}");
    }
    wrong.say(json!("all"), "still here").await;
    assert_eq!(other.json().await["type"], "login");
    assert_eq!(other.json().await["content"], "still here");
    assert_eq!(server.stop().await.errors_sent, 15);
}

#[tokio::test]
async fn answers_stand_where_their_causes_stood() {
    let server = Server::start(|_| ()).await;
    let mut client = server.member("Ann").await;
    for round in 0..500 {
        client
            .socket
            .feed(Message::text(json!({"type":"say","to_uid":"all","content":round.to_string()}).to_string()))
            .await
            .unwrap();
        client.socket.feed(Message::text("?")).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    for round in 0..500 {
        assert_eq!(client.json().await["content"], round.to_string());
        assert_eq!(client.error_code().await, "bad_json");
    }
}

#[tokio::test]
async fn a_message_far_too_long_is_refused_unread_and_ends_only_that_connection() {
    let server = Server::start(|config| config.max_message_bytes = 1000).await;
    let mut other = server.member("Other").await;
    let mut big = server.member("Big").await;
    other.json().await;
    big.socket.send(Message::text("x".repeat(1_000_000))).await.unwrap();
    assert_eq!(big.error_code().await, "message_too_long");
    assert_eq!(big.close_code().await, Some(1009));
    let logout = other.json().await;
    assert_eq!((&logout["type"], &logout["uid"]), (&json!("logout"), &json!(big.uid)));

    // A header that promises 2^62 bytes is answered before any of them.
    let mut stream = raw_websocket(server.address, "/").await;
    stream.write_all(&[0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    let close = answer.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1009_u16.to_be_bytes());
    assert!(close, "{answer:x?}");
    other.say(json!("all"), "fine").await;
    assert_eq!(other.json().await["content"], "fine");
}

#[tokio::test]
async fn binary_messages_are_read_like_text_and_bad_utf8_in_them_is_bad_json() {
    let server = Server::start(|_| ()).await;
    let mut client = server.client().await;
    client.send(Message::binary(&b"\xff\xfe"[..])).await;
    assert_eq!(client.error_code().await, "bad_json");
    client.send(Message::binary(&br#"{"type":"login","name":"Bin"}"#[..])).await;
    assert_eq!(client.json().await["type"], "user_list");
    assert_eq!(client.json().await["name"], "Bin");
    client.send(Message::binary("{\"type\":\"say\",\"to_uid\":\"all\",\"content\":\"猪\"}".as_bytes())).await;
    assert_eq!(client.json().await["content"], "猪");
}

#[tokio::test]
async fn breaches_of_the_protocol_close_with_their_code_and_others_notice_only_the_logout() {
    let server = Server::start(|_| ()).await;
    let mut other = server.member("Other").await;
    let login = frame(0x81, br#"{"type":"login","name":"Raw"}"#);
    let mut unmasked = vec![0x81, 2];
    unmasked.extend_from_slice(b"{}");
    for (bytes, code) in [
        (frame(0x81, b"\xff"), 1007),
        ([frame(0x01, b"\xe7\x8c"), frame(0x80, b"\x7f")].concat(), 1007),
        (unmasked, 1002),
        (frame(0x83, b""), 1002),
        (frame(0xc1, b"rsv1 without an extension"), 1002),
        (frame(0x80, b"continuation of nothing"), 1002),
        ([frame(0x01, b"begun"), frame(0x81, b"and begun again")].concat(), 1002),
        (frame(0x09, b"fragmented ping"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x88, &1005_u16.to_be_bytes()), 1002),
        (frame(0x88, &[3]), 1002),
        // Two bytes of length for a payload that fits in seven bits.
        (vec![0x81, 0x80 | 126, 0, 1, 0, 0, 0, 0, b'x'], 1002),
    ] {
        let mut stream = raw_websocket(server.address, "/").await;
        stream.write_all(&[login.as_slice(), bytes.as_slice()].concat()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let at =
            answer.windows(11).position(|bytes| bytes == br#"{"type":"lo"#).expect("the login is answered");
        let close = answer[at..].windows(4).find(|bytes| bytes[0] == 0x88).expect("a close frame is sent");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "after {bytes:x?}");
        assert_eq!(other.json().await["type"], "login");
        assert_eq!(other.json().await["type"], "logout");
    }
    other.expect_nothing().await;
    assert_eq!(server.stop().await.violations, 12);
}

#[tokio::test]
async fn fragments_with_control_frames_between_them_are_one_message() {
    let server = Server::start(|_| ()).await;
    let mut other = server.member("Other").await;
    let mut stream = raw_websocket(server.address, "/").await;
    let json = "{\"type\":\"login\",\"name\":\"猪\"}".as_bytes();
    for (index, byte) in json.iter().enumerate() {
        let opcode = if index == 0 { 1 } else { 0 };
        let fin = if index + 1 == json.len() { 0x80 } else { 0 };
        stream.write_all(&frame(fin | opcode, &[*byte])).await.unwrap();
        stream.write_all(&frame(0x89, b"?")).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert_eq!(other.json().await["name"], "猪");
    stream.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    let pongs = answer.windows(3).filter(|bytes| *bytes == [0x8a, 1, b'?']).count();
    assert_eq!(pongs, json.len());
    assert!(
        answer.ends_with(&[0x88, 2, 3, 232]),
        "the close is answered with its code, then the connection ends"
    );
}

#[tokio::test]
async fn what_was_said_before_a_close_is_answered_before_it() {
    let server = Server::start(|_| ()).await;
    let mut stream = raw_websocket(server.address, "/").await;
    let segment = [
        frame(0x81, br#"{"type":"login","name":"Short"}"#),
        frame(0x81, br#"{"type":"say","to_uid":"all","content":"bye"}"#),
        frame(0x88, &1000_u16.to_be_bytes()),
    ];
    stream.write_all(&segment.concat()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    let places =
        [&br#"{"type":"user_list""#[..], br#"{"type":"login""#, br#""content":"bye""#, &[0x88, 2, 3, 232]]
            .map(|part| answer.windows(part.len()).position(|bytes| bytes == part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn a_frame_may_arrive_byte_by_byte_and_many_frames_at_once() {
    let server = Server::start(|_| ()).await;
    let mut other = server.member("Other").await;
    let mut stream = raw_websocket(server.address, "/").await;
    for byte in frame(0x81, br#"{"type":"login","name":"Slow"}"#) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(other.json().await["name"], "Slow");
    let burst = frame(0x81, br#"{"type":"say","to_uid":"all","content":"x"}"#).repeat(1000);
    stream.write_all(&burst).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(other.json().await["content"], "x");
    }
}

#[tokio::test]
async fn a_client_that_answers_the_heartbeat_is_kept_also_before_its_login() {
    let server = Server::start(|config| {
        config.ping_interval = Duration::from_millis(100);
        config.ping_timeout = Duration::from_millis(300);
    })
    .await;
    let mut guest = server.client().await;
    let mut member = server.member("Ann").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        for client in [&mut guest, &mut member] {
            assert_eq!(client.text().await, r#"{"type":"ping"}"#);
            client.send_text(r#"{"type":"pong"}"#).await;
        }
    }
    assert_eq!(server.stop().await.silent_clients_dropped, 0);
}

#[tokio::test]
async fn a_silent_client_is_dropped_before_and_after_its_login_and_the_others_hear_of_it() {
    let server = Server::start(|config| {
        config.ping_interval = Duration::from_millis(100);
        config.ping_timeout = Duration::from_millis(300);
    })
    .await;
    let mut guest = server.client().await;
    let mut silent = server.member("Silent").await;
    let mut ann = server.member("Ann").await;
    let watch = async {
        loop {
            let message = ann.json().await;
            match message["type"].as_str().unwrap() {
                "ping" => ann.send_text(r#"{"type":"pong"}"#).await,
                "logout" => return message,
                other => panic!("unexpected {other}"),
            }
        }
    };
    let (guest_code, silent_code, logout) = tokio::join!(guest.close_code(), silent.close_code(), watch);
    assert_eq!((guest_code, silent_code), (Some(1008), Some(1008)));
    assert_eq!(logout["uid"], silent.uid);
    assert_eq!(server.stop().await.silent_clients_dropped, 2);
}

#[tokio::test]
async fn bytes_without_whole_messages_are_no_sign_of_life() {
    let server = Server::start(|config| {
        config.ping_interval = Duration::from_millis(100);
        config.ping_timeout = Duration::from_millis(200);
    })
    .await;
    let mut stream = raw_websocket(server.address, "/").await;
    stream.write_all(&[0x81, 0xfe, 0xff, 0, 1, 2, 3, 4]).await.unwrap();
    let start = Instant::now();
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(server.stop().await.silent_clients_dropped, 1);
}

#[tokio::test]
async fn a_heartbeat_of_zero_asks_nobody_and_keeps_everybody() {
    let server = Server::start(|config| config.ping_interval = Duration::ZERO).await;
    let mut client = server.member("Quiet").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_dropped_and_nobody_else_waits_or_loses_anything() {
    const MESSAGES: usize = 3000;
    let server = Server::start(|config| {
        config.max_queued_bytes = 1 << 20;
        config.max_queued_messages = 100;
    })
    .await;
    let mut slow = Client::connect_with_small_buffer(server.address, "/").await;
    slow.login("Slow").await;
    let mut reader = server.member("Reader").await;
    let mut speaker = server.member("Speaker").await;
    reader.json().await;

    let reading = tokio::spawn(async move {
        let mut logouts = 0;
        let mut said = 0;
        while said < MESSAGES || logouts == 0 {
            let message = reader.json().await;
            match message["type"].as_str().unwrap() {
                "say" => {
                    assert_eq!(
                        message["content"].as_str().unwrap().split(' ').next().unwrap(),
                        said.to_string()
                    );
                    said += 1;
                }
                "logout" => logouts += 1,
                other => panic!("unexpected {other}"),
            }
        }
        logouts
    });
    let filler = "x".repeat(10_000);
    for number in 0..MESSAGES {
        speaker.say(json!("all"), &format!("{number} {filler}")).await;
        while speaker.json().await["type"] != "say" {}
    }
    assert_eq!(reading.await.unwrap(), 1);
    // What the kernel had taken before arrives; then the close frame, if the server's patience lasted, or nothing.
    assert!(matches!(slow.close_code().await, Some(1013) | None));
    let summary = server.stop().await;
    assert_eq!(summary.slow_readers_dropped, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_that_wakes_up_in_time_is_told_why_it_is_dropped() {
    let server = Server::start(|config| {
        config.max_queued_messages = 4;
        config.close_timeout = Duration::from_secs(10);
    })
    .await;
    let mut slow = Client::connect_with_small_buffer(server.address, "/").await;
    slow.login("Slow").await;
    let mut speaker = server.member("Speaker").await;
    let filler = "x".repeat(60_000);
    loop {
        speaker.say(json!("all"), &filler).await;
        if speaker.json().await["type"] == "logout" {
            break;
        }
    }
    assert_eq!(slow.close_code().await, Some(1013));
}

#[tokio::test]
async fn newcomers_are_no_slow_readers_where_the_user_list_is_longer_than_a_queue() {
    let server = Server::start(|config| config.max_queued_bytes = 4096).await;
    let mut members = Vec::new();
    let name = "n".repeat(64);
    for _ in 0..100 {
        members.push(server.member(&name).await);
    }
    let list = server.client().await.login(&name).await;
    assert!(list.to_string().len() > 2 * 4096, "{list}");
    assert_eq!(server.stop().await.slow_readers_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_all_clients_is_bounded_at_the_cost_of_those_who_do_not_read() {
    let server = Server::start(|config| config.max_total_queued_bytes = 1 << 20).await;
    let mut stuck = Vec::new();
    for number in 0..3 {
        let mut client = Client::connect_with_small_buffer(server.address, "/").await;
        client.login(&format!("Stuck {number}")).await;
        stuck.push(client);
    }
    let mut speaker = server.member("Speaker").await;
    let filler = "x".repeat(60_000);
    // The limit for all is reached long before any queue has its own 4 MiB.
    loop {
        for client in &stuck {
            speaker.say(json!(client.uid), &filler).await;
        }
        speaker.say(json!(speaker.uid), "still here").await;
        if speaker.json().await["type"] == "logout" {
            break;
        }
    }
    let summary = server.stop().await;
    assert!(summary.queues_dropped_for_total >= 1 && summary.slow_readers_dropped >= 1, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_much_and_reads_late_is_held_back_and_not_dropped() {
    const MESSAGES: usize = 20_000;
    let server = Server::start(|config| config.max_queued_messages = 50).await;
    let client = server.member("Talkative").await;
    let (mut sink, mut stream) = client.socket.split();
    let filler = "x".repeat(1000);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let say = json!({"type": "say", "to_uid": "all", "content": format!("{number} {filler}")});
            sink.feed(Message::text(say.to_string())).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in 0..MESSAGES {
        let message = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
        assert!(message.to_text().unwrap().contains(&format!("\"content\":\"{number} ")));
    }
    drop(sending.await.unwrap());
    assert_eq!(server.stop().await.slow_readers_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_far_beyond_the_queues_reaches_readers_who_keep_up_whole() {
    const MESSAGES: usize = 10_000;
    let server = Server::start(|config| config.max_queued_messages = 500).await;
    let mut readers = Vec::new();
    for name in ["Ann", "Bob", "Cem"] {
        readers.push(server.member(name).await);
    }
    let speaker = server.member("Speaker").await;
    let reading: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            tokio::spawn(async move {
                let mut said = 0;
                while said < MESSAGES {
                    let message = reader.json().await;
                    if message["type"] == "say" {
                        assert_eq!(message["content"], said.to_string());
                        said += 1;
                    }
                }
            })
        })
        .collect();
    let (mut sink, mut stream) = speaker.socket.split();
    let own = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            stream.next().await.unwrap().unwrap();
        }
    });
    for number in 0..MESSAGES {
        let say = json!({"type": "say", "to_uid": "all", "content": number.to_string()});
        sink.feed(Message::text(say.to_string())).await.unwrap();
    }
    sink.flush().await.unwrap();
    for reading in reading {
        reading.await.unwrap();
    }
    own.await.unwrap();
    assert_eq!(server.stop().await.slow_readers_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_see_the_same_messages_in_the_same_order() {
    const CLIENTS: usize = 100;
    const SAYS: usize = 10;
    let server = Server::start(|_| ()).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(server.member(&format!("user {number}")).await);
    }
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                for number in 0..SAYS {
                    client.say(json!("all"), &number.to_string()).await;
                }
                let mut seen = Vec::new();
                while seen.len() < CLIENTS * SAYS {
                    let message = client.text().await;
                    if message.starts_with(r#"{"type":"say""#) {
                        seen.push(message);
                    }
                }
                seen
            })
        })
        .collect();
    let mut transcripts = Vec::new();
    for task in tasks {
        transcripts.push(task.await.unwrap());
    }
    for transcript in &transcripts[1..] {
        assert!(*transcript == transcripts[0], "two members saw different orders");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_user_list_holds_those_present_in_order_of_login() {
    let server = Server::start(|_| ()).await;
    let _guest = server.client().await;
    let ann = server.member("Same name").await;
    let bob = server.member("Bob").await;
    let mut cem = server.client().await;
    let list = cem.login("Same name").await;
    assert_eq!(
        list,
        json!([
            {"uid": ann.uid, "name": "Same name"},
            {"uid": bob.uid, "name": "Bob"},
            {"uid": cem.uid, "name": "Same name"},
        ])
    );
    drop(ann);
    assert_eq!(cem.json().await["type"], "logout");
    let mut dan = server.client().await;
    assert_eq!(dan.login("Dan").await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_abrupt_end_is_a_logout_for_the_others() {
    let server = Server::start(|_| ()).await;
    let mut ann = server.member("Ann").await;
    // A FIN without a close frame.
    let bob = server.member("Bob").await;
    assert_eq!(ann.json().await["type"], "login");
    drop(bob);
    let logout = ann.json().await;
    assert_eq!((&logout["type"], &logout["name"]), (&json!("logout"), &json!("Bob")));
    // A reset.
    let cem = server.member("Cem").await;
    assert_eq!(ann.json().await["type"], "login");
    #[allow(deprecated, reason = "a linger of zero does not block: it is how a client resets")]
    cem.socket.get_ref().set_linger(Some(Duration::ZERO)).unwrap();
    drop(cem);
    assert_eq!(ann.json().await["name"], "Cem");
    ann.socket.close(None).await.unwrap();
    assert_eq!(ann.close_code().await, None);
    drop(ann);
    assert_eq!(server.stop().await.abrupt_ends, 2);
}

#[tokio::test]
async fn what_others_say_before_my_login_is_not_for_me() {
    let server = Server::start(|_| ()).await;
    let mut guest = server.client().await;
    let mut ann = server.member("Ann").await;
    ann.say(json!("all"), "members only").await;
    ann.json().await;
    guest.expect_nothing().await;
}

#[tokio::test]
async fn stopping_closes_everybody_with_1001_and_tells_nobody_of_logouts() {
    let server = Server::start(|_| ()).await;
    let mut clients = vec![server.client().await];
    for name in ["Ann", "Bob"] {
        clients.push(server.member(name).await);
    }
    assert_eq!(clients[1].json().await["type"], "login");
    let idle = TcpStream::connect(server.address).await.unwrap();
    let address = server.address;
    let start = Instant::now();
    let stopping = tokio::spawn(server.stop());
    for mut client in clients {
        match client.receive().await {
            Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
            other => panic!("expected a close frame, got {other:?}"),
        }
        // Reading on sends the answer to the close frame.
        assert!(client.receive().await.is_none());
    }
    let summary = stopping.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "the stop waited although everybody had answered");
    assert_eq!(summary.abrupt_ends, 0);
    drop(idle);
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn stopping_does_not_wait_for_clients_that_do_not_answer() {
    let server = Server::start(|config| config.close_timeout = Duration::from_millis(300)).await;
    let _mute = raw_websocket(server.address, "/").await;
    let start = Instant::now();
    let summary = server.stop().await;
    assert!(start.elapsed() < Duration::from_millis(1300));
    assert_eq!(summary.abrupt_ends, 1);
}

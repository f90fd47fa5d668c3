//! `observer read` on captures made here: formats, link types, what is cut or damaged, and hostile payload.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{
    Conversation, ETHERNET, From, Pcap, PcapNg, Ran, TemporaryFile, json, payloads, run, run_on,
};

fn conversation(said: &[&str]) -> Vec<Vec<u8>> {
    let mut conversation = Conversation::upgraded(7272);
    for text in said {
        conversation.text(From::Client, text);
    }
    conversation.close();
    conversation.packets
}

fn messages(ran: &Ran) -> Vec<String> {
    payloads(&json(ran)).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_line_has_time_connection_addresses_arrow_opcode_length_and_payload() {
    let mut conversation = Conversation::upgraded(7272);
    conversation.text(From::Client, r#"{"type":"login","name":"mynick"}"#);
    conversation.text(From::Server, r#"{"name":"\u732a \ud83d\udc37"}"#);
    conversation.frame(From::Server, 2, &[0, 1, b'a', 0xff]);
    conversation.close();
    let ran = run_on(&Pcap::default().file(&conversation.packets), &["--each"]);
    assert_eq!(
        ran.stdout,
        "12:00:00.000000Z #1 10.0.0.1:40000 → 10.0.0.2:7272 opened\n\
         12:00:00.003000Z #1 10.0.0.1:40000 → 10.0.0.2:7272 GET /chat\n\
         12:00:00.004000Z #1 10.0.0.1:40000 ← 10.0.0.2:7272 101 Switching Protocols\n\
         12:00:00.005000Z #1 10.0.0.1:40000 → 10.0.0.2:7272 text 32 {\"type\":\"login\",\"name\":\"mynick\"}\n\
         12:00:00.006000Z #1 10.0.0.1:40000 ← 10.0.0.2:7272 text 30 {\"name\":\"猪 🐷\"}\n\
         12:00:00.007000Z #1 10.0.0.1:40000 ← 10.0.0.2:7272 binary 4 00 01 61 ff |..a.|\n\
         12:00:00.011000Z #1 10.0.0.1:40000 → 10.0.0.2:7272 closed by client, close frame 1000 (normal), \
         after 0.011 s (0.001 s idle), messages → 1 ← 2, complete\n"
    );
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("3 messages (→ 1, ← 2) on 1 connection"), "{}", ran.stderr);
    assert!(ran.stderr.contains("nothing was missed"), "{}", ran.stderr);
}

#[test]
fn json_is_exact_where_text_is_readable() {
    let sent = r#"{"name":"\u732a"}"#;
    let ran = run_on(&Pcap::default().file(&conversation(&[sent])), &["--json"]);
    assert_eq!(messages(&ran), [sent]);
    let records = json(&ran);
    assert!(records.iter().all(|record| record["schema"] == 1));
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["connection_opened", "handshake", "handshake", "message", "connection_closed", "summary"]
    );
    let message = &records[3];
    assert_eq!(message["time"], "2024-01-01T12:00:00.005000000Z");
    assert_eq!(message["direction"], "client_to_server");
    assert_eq!(message["client"], "10.0.0.1:40000");
    assert_eq!((&message["masked"], &message["length"]), (&true.into(), &17.into()));
    assert_eq!(records[1]["headers"][0], serde_json::json!({"name": "Host", "value": "example"}));
    assert_eq!(records[4]["account"]["client_to_server"]["messages"], 1);
}

#[test]
fn pcap_is_read_in_both_byte_orders_and_resolutions() {
    for (big_endian, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
        let pcap = Pcap { big_endian, nanoseconds, ..Pcap::default() };
        let ran = run_on(&pcap.file(&conversation(&["hello"])), &["--json"]);
        assert_eq!(messages(&ran), ["hello"], "{big_endian} {nanoseconds}");
        assert_eq!(json(&ran)[3]["time"], "2024-01-01T12:00:00.005000000Z");
    }
}

#[test]
fn every_link_type_that_is_called_understood_is_read() {
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 7, 3, 4, 0, 6][..], &[0; 8]].concat();
    let sll = [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[8, 0]].concat();
    let vlan = [&ETHERNET[..12], &[0x81, 0, 0, 9, 8, 0]].concat();
    for (link, link_header) in [
        (1, ETHERNET.to_vec()),
        (1, vlan),
        (101, vec![]),
        (12, vec![]),
        (14, vec![]),
        (228, vec![]),
        (0, vec![2, 0, 0, 0]),
        (108, vec![0, 0, 0, 2]),
        (113, sll),
        (276, sll2),
    ] {
        let pcap = Pcap { link, link_header, ..Pcap::default() };
        let ran = run_on(&pcap.file(&conversation(&["hello"])), &["--json"]);
        assert_eq!(messages(&ran), ["hello"], "link type {link}: {}", ran.stderr);
        if link == 276 {
            assert_eq!(json(&ran)[0]["interface"], "ifindex 7");
        }
    }
}

#[test]
fn an_unknown_link_type_is_named() {
    let pcap = Pcap { link: 127, ..Pcap::default() };
    let ran = run_on(&pcap.file(&conversation(&["hello"])), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("127 (802.11 wireless with radiotap)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Ethernet (1)"), "{}", ran.stderr);
}

#[test]
fn pcapng_is_read_with_its_interfaces_names_and_time_resolutions() {
    for big_endian in [false, true] {
        let pcapng = PcapNg { big_endian };
        let packets = conversation(&["hello"]);
        let noon = u64::from(crate::support::NOON_SECONDS);
        let offset = pcapng.u64(noon - 10);
        let mut file = pcapng.section();
        file.extend(pcapng.block(0x0bad_cafe, b"whatever"));
        file.extend(pcapng.interface(127, &[(2, b"wlan0".to_vec())]));
        // if_name, if_tsresol of 2^-10 s, if_tsoffset.
        file.extend(pcapng.interface(101, &[(2, b"tun7".to_vec()), (9, vec![0x80 | 10]), (14, offset)]));
        for packet in &packets {
            file.extend(pcapng.packet(1, 10 * 1024 + 512, packet));
        }
        // A second section counts its interfaces anew.
        file.extend(pcapng.section());
        file.extend(pcapng.interface(101, &[(9, vec![9])]));
        let mut second = Conversation::upgraded(80);
        second.text(From::Server, "again");
        for packet in &second.packets {
            file.extend(pcapng.packet(0, noon * 1_000_000_000 + 1, packet));
        }
        let ran = run_on(&file, &["--json"]);
        assert_eq!((ran.code, messages(&ran)), (Some(0), vec!["hello".to_owned(), "again".to_owned()]));
        let records = json(&ran);
        assert_eq!(records[0]["interface"], "tun7");
        assert_eq!(records[0]["time"], "2024-01-01T12:00:00.500000000Z");
        let again = records.iter().find(|record| record["payload"] == "again").unwrap();
        assert_eq!(again["time"], "2024-01-01T12:00:00.000000001Z");
    }
}

#[test]
fn of_an_interface_s_name_that_is_longer_than_any_the_beginning_is_kept() {
    let pcapng = PcapNg { big_endian: false };
    let mut file = [pcapng.section(), pcapng.interface(101, &[(2, vec![b'x'; 60_000])])].concat();
    for packet in conversation(&["one"]) {
        file.extend(pcapng.packet(0, 1_000, &packet));
    }
    assert_eq!(json(&run_on(&file, &["--json"]))[0]["interface"], "x".repeat(256));
}

#[test]
fn packets_of_an_interface_that_is_not_understood_are_counted_and_the_others_shown() {
    let pcapng = PcapNg { big_endian: false };
    let mut file = [pcapng.section(), pcapng.interface(249, &[]), pcapng.interface(101, &[])].concat();
    for packet in conversation(&["hello"]) {
        file.extend(pcapng.packet(0, 0, b"usb"));
        file.extend(pcapng.packet(1, 0, &packet));
    }
    let ran = run_on(&file, &["--json"]);
    assert_eq!((ran.code, messages(&ran)), (Some(3), vec!["hello".to_owned()]));
    assert!(ran.stderr.contains("11 of link type 249 (USB)"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("nothing was missed"), "{}", ran.stderr);
    let ran = run_on(&file, &["-c", "1"]);
    assert!(ran.stderr.contains("of link type 249 (USB)"), "the run ended before the file: {}", ran.stderr);
}

#[test]
fn of_many_link_types_that_are_not_understood_only_the_first_are_named() {
    let pcapng = PcapNg { big_endian: false };
    let mut file = pcapng.section();
    for number in 0..100 {
        file.extend(pcapng.interface(1_000 + number, &[]));
        file.extend(pcapng.packet(u32::from(number), 0, b"what"));
    }
    let ran = run_on(&file, &[]);
    assert_eq!(ran.code, Some(3));
    assert!(
        ran.stderr.contains("100 packets are left out") && ran.stderr.contains("92 of other"),
        "{}",
        ran.stderr
    );
}

#[test]
fn obsolete_packet_blocks_are_counted_and_damage_in_what_is_no_packet_hides_none() {
    let pcapng = PcapNg { big_endian: false };
    let mut file = [pcapng.section(), pcapng.interface(101, &[])].concat();
    file.extend(pcapng.block(2, &[0; 20]));
    // A name resolution block whose record is longer than the block.
    file.extend(pcapng.block(4, &[1, 0, 0xff, 0xff]));
    for packet in conversation(&["hello"]) {
        file.extend(pcapng.packet(0, 0, &packet));
    }
    let ran = run_on(&file, &["--json"]);
    assert_eq!((ran.code, messages(&ran)), (Some(3), vec!["hello".to_owned()]));
    assert!(ran.stderr.contains("1 in obsolete packet blocks"), "{}", ran.stderr);
}

#[test]
fn no_reason_of_a_peer_imitates_what_the_observer_says() {
    let mut conversation = Conversation::upgraded(7272);
    let reason = b"\x03\xe8\", complete\\";
    conversation.frame(From::Client, 8, reason);
    let ran = run_on(&Pcap::default().file(&conversation.packets), &[]);
    assert!(ran.stdout.contains(r#"1000 (normal) "\", complete\\", after"#), "{}", ran.stdout);
}

#[test]
fn gzip_is_unpacked_by_its_magic() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&Pcap::default().file(&conversation(&["hello"]))).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(messages(&run_on(&packed, &["--json"])), ["hello"]);
    let cut = run_on(&packed[..packed.len() - 20], &["--json"]);
    assert_eq!(cut.code, Some(3));
    assert!(cut.stderr.contains("gzip"), "{}", cut.stderr);
}

#[test]
fn a_capture_cut_in_the_middle_of_a_record_is_decoded_up_to_there() {
    let mut file = Pcap::default().file(&conversation(&["hello"]));
    file.truncate(file.len() - 30);
    let ran = run_on(&file, &["--json"]);
    assert_eq!((ran.code, messages(&ran)), (Some(3), vec!["hello".to_owned()]));
    assert!(ran.stderr.contains("standard input: it ends in the middle of a record"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("nothing was missed"), "{}", ran.stderr);
    assert_eq!(json(&ran).last().unwrap()["kind"], "summary");
}

#[test]
fn a_record_that_claims_an_absurd_length_ends_the_file_there() {
    let mut file = Pcap::default().file(&conversation(&["hello"]));
    for field in [0, 0, u32::MAX, u32::MAX] {
        file.extend(field.to_le_bytes());
    }
    file.extend([0; 100]);
    let ran = run_on(&file, &["--json"]);
    assert_eq!((ran.code, messages(&ran)), (Some(3), vec!["hello".to_owned()]));
    assert!(ran.stderr.contains("longer than any packet"), "{}", ran.stderr);
}

#[test]
fn no_cut_and_no_flipped_byte_of_a_capture_makes_it_fail_otherwise() {
    let pcapng = PcapNg { big_endian: false };
    let mut file = [pcapng.section(), pcapng.interface(101, &[(2, b"tun7".to_vec())])].concat();
    for packet in conversation(&["hello"]) {
        file.extend(pcapng.packet(0, 0, &packet));
    }
    for at in (0..file.len()).step_by(23) {
        let mut damaged = file.clone();
        damaged[at] ^= 0xff;
        for bytes in [&file[..at], &damaged] {
            let ran = run_on(bytes, &[]);
            assert!(matches!(ran.code, Some(0 | 1 | 3)), "at {at}: {:?} {}", ran.code, ran.stderr);
        }
    }
}

#[test]
fn what_is_no_capture_is_refused_with_what_it_is() {
    for (bytes, said) in [
        (&b""[..], "it is empty"),
        (b"\xd4\xc3\xb2\xa1\x02", "ends within the header"),
        (b"hello, this is text", "neither pcap nor pcapng"),
        (b"\x28\xb5\x2f\xfd....", "zstd -dc"),
    ] {
        let ran = run_on(bytes, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    for (path, said) in [("/nonexistent.pcap", "no such file"), ("/", "is a directory")] {
        let ran = run(&["read", path]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains(&format!("observer: error: {path}: ")), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[test]
fn several_files_are_one_run_and_a_missing_one_loses_nothing_of_the_others() {
    let packets = conversation(&["hello", "again"]);
    let (first, second) = packets.split_at(6);
    let first = TemporaryFile::new("first.pcap", &Pcap::default().file(first));
    let second = TemporaryFile::new(
        "second.pcap",
        &Pcap { link: 101, link_header: vec![], ..Pcap::default() }.file(second),
    );
    let ran = run(&["-r", first.path(), "-r", "/nonexistent", "read", second.path(), "--json"]);
    assert_eq!((ran.code, messages(&ran)), (Some(1), vec!["hello".to_owned(), "again".to_owned()]));
    assert_eq!(json(&ran)[5]["complete"], true);
}

#[test]
fn upgrades_are_found_on_any_port_and_port_narrows() {
    let mut packets = conversation(&["on 7272"]);
    let mut other = Conversation::upgraded(8080);
    other.text(From::Client, "on 8080");
    packets.extend(other.packets);
    let file = Pcap::default().file(&packets);
    assert_eq!(messages(&run_on(&file, &["--json"])), ["on 7272", "on 8080"]);
    assert_eq!(messages(&run_on(&file, &["--json", "--port", "8080"])), ["on 8080"]);
}

#[test]
fn count_ends_after_so_many_messages_and_still_gives_the_account() {
    let ran = run_on(&Pcap::default().file(&conversation(&["one", "two", "three"])), &["--json", "-c", "2"]);
    assert_eq!((ran.code, messages(&ran)), (Some(0), vec!["one".to_owned(), "two".to_owned()]));
    let kinds: Vec<_> = json(&ran).iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["connection_closed", "summary"]);
}

#[test]
fn a_snap_length_marks_what_it_cut_before_the_payload() {
    let said = "x".repeat(100);
    let ran = run_on(&Pcap::default().file(&conversation(&[&said])), &["-s", "200", "--json"]);
    assert_eq!(ran.code, Some(0));
    // 40 bytes of headers leave 160 of each packet: all of the frame, but not of the upgrade.
    let ran = run_on(&Pcap::default().file(&conversation(&[&said])), &["-s", "106", "--port", "7272"]);
    let line = ran.stdout.lines().find(|line| line.contains(" text ")).unwrap();
    assert!(line.contains("[truncated: 40 of 100 bytes are missing] 100 xxx"), "{line}");
    assert!(line.ends_with("x[…40 missing…]"), "{line}");
    assert!(ran.stderr.contains("cut off by the snap length"), "{}", ran.stderr);
}

#[test]
fn nothing_that_a_peer_sends_reaches_the_terminal_as_a_control() {
    let hostile = "\x1b[2J\x1b]52;c;AAAA\x07\u{202e}\u{2066}\u{9b}31m\r\n\u{2028}\u{7f}\u{e0041}";
    let mut conversation = Conversation::open(7272);
    let request = crate::support::REQUEST.replace("/chat", "/\u{9b}").replace("example", "\u{1b}[2J\u{202e}");
    conversation.send(From::Client, request.as_bytes());
    conversation.send(From::Server, crate::support::ANSWER.as_bytes());
    conversation.text(From::Client, hostile);
    // In what a chat says, where its JSON has them as escapes or as they are.
    let json_escapes = r"\u001b[2J\u001b]52;c;AAAA\u0007\u202e\u009b31m\n\u2028";
    for said in [hostile, json_escapes, "<img src=x onerror=alert(1)>"] {
        let said = said.replace("\r\n", "");
        conversation.text(From::Client, &format!(r#"{{"type":"login","name":"{said}"}}"#));
        let user = format!(r#"[{{"uid":7,"name":"{said}"}}]"#);
        conversation.text(From::Server, &format!(r#"{{"type":"user_list","user_list":{user}}}"#));
        conversation.text(From::Server, &format!(r#"{{"type":"login","uid":7,"name":"{said}"}}"#));
        conversation.text(From::Client, &format!(r#"{{"type":"say","to_uid":"all","content":"{said}"}}"#));
        let say = format!(r#"{{"type":"say","from_uid":7,"to_uid":"all","content":"{said}"}}"#);
        conversation.text(From::Server, &say);
        let error = format!(r#"{{"type":"error","code":"{said}","message":"{said}"}}"#);
        conversation.text(From::Server, &error);
    }
    conversation.frame(From::Server, 2, hostile.as_bytes());
    conversation.frame(From::Server, 1, b"\xff\x1b[2J");
    conversation.frame(From::Server, 9, hostile.as_bytes());
    conversation.frame(From::Client, 8, &[&[0x03, 0xe8][..], hostile.as_bytes()].concat());
    let file = Pcap::default().file(&conversation.packets);
    for options in [
        &["-v", "--frames"][..],
        &["--json", "--frames", "--wire", "--packets"],
        &["--format", "explain"],
        &["--format", "explain", "--lang", "zh", "-X", "--wire"],
        &["--packets", "-X"],
        &["--packets", "-A"],
        &["--wire", "-X", "-A"],
        &["-A"],
    ] {
        let ran = run_on(&file, options);
        let shown = [ran.stdout.as_str(), &ran.stderr].concat();
        // tcpdump's layout has tabs.
        let tab = options.iter().any(|option| ["-X", "-A"].contains(option)).then_some('\t');
        let is_layout = |character: &char| *character == '\n' || Some(*character) == tab;
        let controls: Vec<_> = shown.chars().filter(|it| it.is_control() && !is_layout(it)).collect();
        assert!(controls.is_empty(), "{controls:?} in {shown}");
        for character in ['\u{202e}', '\u{2066}', '\u{2028}', '\u{e0041}'] {
            assert!(!shown.contains(character), "{character:?} in {shown}");
        }
    }
    let ran = run_on(&file, &["--json"]);
    assert_eq!(messages(&ran)[0], hostile);
}

#[test]
fn a_frame_with_a_reserved_opcode_shows_its_payload() {
    let mut conversation = Conversation::upgraded(7272);
    for opcode in [3, 11] {
        conversation.frame(From::Server, opcode, b"what");
    }
    let ran = run_on(&Pcap::default().file(&conversation.packets), &["--json", "--frames"]);
    let frames: Vec<_> = json(&ran).into_iter().filter(|record| record["kind"] == "frame").collect();
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert_eq!((&frame["opcode"], &frame["payload_base64"]), (&"reserved".into(), &"d2hhdA==".into()));
    }
}

#[test]
fn what_was_seen_and_not_decoded_is_in_the_account_and_in_the_summary() {
    let mut conversation = Conversation::open(7272);
    conversation.send(From::Client, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]);
    conversation.send(From::Server, b"\x16\x03\x03");
    let file = Pcap::default().file(&conversation.packets);
    let ran = run_on(&file, &["--json", "--port", "7272"]);
    let records = json(&ran);
    let closed = records.iter().find(|record| record["kind"] == "connection_closed").unwrap();
    assert_eq!(closed["complete"], false);
    assert_eq!(closed["account"]["client_to_server"]["bytes_skipped"], 10);
    assert!(ran.stderr.contains("13 bytes of payload seen and not decoded"), "{}", ran.stderr);
    let text = run_on(&file, &["--port", "7272"]).stdout;
    assert!(text.trim_end().ends_with("not decoded: → 10 bytes, ← 3 bytes"), "{text}");
    assert_eq!(text.matches("tls").count(), 1, "{text}");
}

#[test]
fn colour_is_used_only_when_asked_for_and_json_has_none() {
    let file = Pcap::default().file(&conversation(&["hello\n"]));
    assert!(!run_on(&file, &[]).stdout.contains('\x1b'));
    let colored = run_on(&file, &["--color", "always"]).stdout;
    assert!(
        colored.contains("\x1b[1;36m→\x1b[0m") && colored.contains("hello\x1b[7m\\n\x1b[27m"),
        "{colored}"
    );
    assert!(!run_on(&file, &["--color", "always", "--json"]).stdout.contains('\x1b'));
}

#[test]
fn quiet_leaves_only_what_is_missing() {
    let file = Pcap::default().file(&conversation(&["hello"]));
    assert_eq!(run_on(&file, &["-q"]).stderr, "");
    let cut = run_on(&file[..file.len() - 30], &["-q"]);
    assert!(cut.stderr.starts_with("observer: warning: standard input"), "{}", cut.stderr);
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    for arguments in
        [&["port", "7272"][..], &["read"], &["read", "x", "-i", "lo"], &["--nonsense"], &["-c", "0"]]
    {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}");
    }
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Exit codes"));
}

#[test]
fn a_connection_that_is_open_at_the_end_lacks_nothing_for_that() {
    let mut conversation = Conversation::upgraded(7272);
    conversation.text(From::Client, "hello");
    let ran = run_on(&Pcap::default().file(&conversation.packets), &["--json"]);
    assert!(ran.stderr.ends_with("nothing was missed\n"), "{}", ran.stderr);
    let summary = json(&ran).pop().unwrap();
    assert_eq!((&summary["connections_open"], &summary["connections_incomplete"]), (&1.into(), &0.into()));
    conversation.packets.remove(3);
    let ran = run_on(&Pcap::default().file(&conversation.packets), &["--port", "7272"]);
    assert!(ran.stderr.contains("1 connection incomplete"), "{}", ran.stderr);
}

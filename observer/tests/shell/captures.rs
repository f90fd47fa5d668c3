//! Capture files as other programs write them: links, interfaces, sections and times side by side.

use crate::support::{Conversation, ETHERNET, From, NOON_SECONDS, Pcap, PcapNg, Ran, json, payloads, run_on};

fn conversation(text: &str) -> Vec<Vec<u8>> {
    let mut conversation = Conversation::upgraded(7272);
    conversation.text(From::Client, text);
    conversation.close();
    conversation.packets
}

fn messages(ran: &Ran) -> Vec<String> {
    payloads(&json(ran)).into_iter().map(str::to_owned).collect()
}

/// What stands before an IPv4 packet on each link that is understood, with its number.
fn links() -> Vec<(u16, Vec<u8>)> {
    let addresses = &ETHERNET[..12];
    let cooked = [0, 0, 3, 4, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        (1, ETHERNET.to_vec()),
        (1, [addresses, &[0x81, 0, 0, 9, 8, 0]].concat()),
        (1, [addresses, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 9, 8, 0]].concat()),
        (101, vec![]),
        (228, vec![]),
        (0, vec![2, 0, 0, 0]),
        (0, vec![0, 0, 0, 2]),
        (108, vec![0, 0, 0, 2]),
        (113, [&cooked[..], &[8, 0]].concat()),
        (113, [&cooked[..], &[0x81, 0, 0, 9, 8, 0]].concat()),
        (276, [&[8, 0, 0, 0, 0, 0, 0, 7, 3, 4, 0, 6][..], &[0; 8]].concat()),
    ]
}

/// The same packets over IPv6.
fn over_ipv6(packet: &[u8]) -> Vec<u8> {
    let tcp = &packet[20..];
    let length = u16::try_from(tcp.len()).unwrap().to_be_bytes();
    let address = |last: u8| [&[0xfd, 0][..], &[0; 13], &[last]].concat();
    [&[0x60, 0, 0, 0, length[0], length[1], 6, 64][..], &address(packet[15]), &address(packet[19]), tcp]
        .concat()
}

#[test]
fn packets_of_every_link_in_one_file_are_one_conversation() {
    let links = links();
    for big_endian in [false, true] {
        let pcapng = PcapNg { big_endian };
        let mut file = pcapng.section();
        for (link, _) in &links {
            file.extend(pcapng.interface(*link, &[]));
        }
        let text = "x".repeat(50);
        for (at, packet) in conversation(&text).iter().enumerate() {
            let interface = at % links.len();
            let data = [&links[interface].1, &packet[..]].concat();
            file.extend(pcapng.packet(u32::try_from(interface).unwrap(), at as u64, &data));
        }
        let ran = run_on(&file, &["--json"]);
        assert_eq!((ran.code, messages(&ran)), (Some(0), vec![text]), "{}", ran.stderr);
        assert!(ran.stderr.contains("nothing was missed"), "{}", ran.stderr);
    }
}

#[test]
fn ipv6_is_read_from_every_kind_of_link() {
    let packets: Vec<_> = conversation("hello").iter().map(|packet| over_ipv6(packet)).collect();
    let addresses = &ETHERNET[..12];
    let mut links = vec![
        (1, [addresses, &[0x86, 0xdd]].concat()),
        (1, [addresses, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 9, 0x86, 0xdd]].concat()),
        (229, vec![]),
        (113, [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[0x86, 0xdd]].concat()),
        (276, [&[0x86, 0xdd, 0, 0, 0, 0, 0, 7, 3, 4, 0, 6][..], &[0; 8]].concat()),
    ];
    // AF_INET6 of Linux, NetBSD, FreeBSD and macOS, in either byte order.
    for family in [10, 24, 28, 30] {
        links.push((0, vec![family, 0, 0, 0]));
        links.push((0, vec![0, 0, 0, family]));
    }
    for (link, link_header) in links {
        let pcap = Pcap { link, link_header, ..Pcap::default() };
        let ran = run_on(&pcap.file(&packets), &["--json"]);
        assert_eq!(messages(&ran), ["hello"], "link type {link}: {}", ran.stderr);
        assert_eq!(json(&ran)[0]["client"], "[fd00::1]:40000");
    }
}

#[test]
fn each_interface_has_its_own_resolution_and_offset() {
    let noon = u64::from(NOON_SECONDS);
    // if_tsresol, if_tsoffset, and the ticks of half past noon and a half second.
    let seconds = noon + 1_800;
    let times = [
        (None, 0, seconds * 1_000_000 + 500_000),
        (Some(3), 0, seconds * 1_000 + 500),
        (Some(9), 0, seconds * 1_000_000_000 + 500_000_000),
        (Some(9), noon, 1_800_500_000_000),
        (Some(0x80 | 10), 0, seconds * 1_024 + 512),
        (Some(0x80 | 32), 0, (seconds << 32) + (1 << 31)),
        (Some(0x80 | 1), noon - 1, 2 * 1_801 + 1),
    ];
    for big_endian in [false, true] {
        let pcapng = PcapNg { big_endian };
        let mut file = pcapng.section();
        for (resolution, offset, _) in times {
            let mut options = vec![(14, pcapng.u64(offset))];
            options.extend(resolution.map(|resolution| (9, vec![resolution])));
            file.extend(pcapng.interface(101, &options));
        }
        for (interface, (_, _, ticks)) in times.iter().enumerate() {
            let mut conversation =
                Conversation::upgraded_from(41_000 + u16::try_from(interface).unwrap(), 7272);
            conversation.text(From::Server, "now");
            for packet in conversation.packets {
                file.extend(pcapng.packet(u32::try_from(interface).unwrap(), *ticks, &packet));
            }
        }
        let ran = run_on(&file, &["--json"]);
        let records = json(&ran);
        let times_shown: Vec<_> = records
            .iter()
            .filter(|it| it["kind"] == "message")
            .map(|it| it["time"].as_str().unwrap())
            .collect();
        assert_eq!(times_shown, ["2024-01-01T12:30:00.500000000Z"; 7], "{}", ran.stderr);
    }
}

#[test]
fn sections_of_either_byte_order_follow_each_other_and_count_their_interfaces_anew() {
    let mut file = Vec::new();
    for (number, big_endian) in [false, true, true, false].into_iter().enumerate() {
        let pcapng = PcapNg { big_endian };
        file.extend(pcapng.section());
        // What is number 0 differs: a link header is taken for what its own section says.
        let link_header = if number % 2 == 0 { ETHERNET.to_vec() } else { vec![2, 0, 0, 0] };
        let link = if number % 2 == 0 { 1 } else { 0 };
        file.extend(pcapng.interface(link, &[(2, format!("if{number}").into_bytes())]));
        let mut conversation = Conversation::upgraded_from(41_000 + u16::try_from(number).unwrap(), 7272);
        conversation.text(From::Client, &format!("section {number}"));
        for packet in conversation.packets {
            file.extend(pcapng.packet(0, 0, &[&link_header[..], &packet].concat()));
        }
    }
    let ran = run_on(&file, &["--json"]);
    assert_eq!(messages(&ran), ["section 0", "section 1", "section 2", "section 3"], "{}", ran.stderr);
    let records = json(&ran);
    let opened: Vec<_> =
        records.iter().filter(|it| it["kind"] == "connection_opened").map(|it| &it["interface"]).collect();
    assert_eq!(opened, ["if0", "if1", "if2", "if3"]);
}

#[test]
fn simple_packet_blocks_are_read_as_far_as_their_interface_captured() {
    for big_endian in [false, true] {
        let pcapng = PcapNg { big_endian };
        let text = "x".repeat(300);
        let number = |value: usize| {
            let value = u32::try_from(value).unwrap();
            if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        };
        for snap_length in [0, 400, 200] {
            let mut file = pcapng.section();
            // Raw IP; the snap length.
            let link = if big_endian { [0, 101, 0, 0] } else { [101, 0, 0, 0] };
            file.extend(pcapng.block(1, &[link, number(snap_length)].concat()));
            for packet in conversation(&text) {
                let kept = if snap_length == 0 { packet.len() } else { packet.len().min(snap_length) };
                let mut body = [&number(packet.len())[..], &packet[..kept]].concat();
                body.resize(body.len().next_multiple_of(4), 0);
                file.extend(pcapng.block(3, &body));
            }
            let ran = run_on(&file, &["--json", "--port", "7272"]);
            let records = json(&ran);
            let message = records.iter().find(|record| record["kind"] == "message").unwrap();
            // Headers of 40 bytes and of 8 are kept before the payload.
            let kept = if snap_length == 200 { 200 - 48 } else { 300 };
            assert_eq!(message["payload"].as_str().unwrap().len(), kept, "{snap_length}: {}", ran.stderr);
            assert_eq!(message["length"], 300);
            // A simple packet has no time.
            assert!(message.get("time").is_none(), "{message}");
        }
    }
}

#[test]
fn wherever_a_file_is_cut_what_is_before_is_shown_and_the_cut_is_told() {
    let pcapng = PcapNg { big_endian: true };
    let mut blocks = [pcapng.section(), pcapng.interface(101, &[(2, b"tun7".to_vec())])].concat();
    let pcap = Pcap { big_endian: true, link: 101, link_header: Vec::new(), ..Pcap::default() };
    let mut records = pcap.file(&[]);
    let mut ends = [vec![blocks.len()], vec![records.len()]];
    for (at, packet) in conversation("hello").iter().enumerate() {
        blocks.extend(pcapng.packet(0, at as u64, packet));
        records.extend(pcap.record(at, packet));
        ends[0].push(blocks.len());
        ends[1].push(records.len());
    }
    for (file, ends) in [blocks, records].iter().zip(&ends) {
        let first = ends[0];
        for cut in (first..file.len()).step_by(29).chain(ends.iter().copied()) {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let ran = run_on(&file[..cut], &["--json"]);
            let summary = json(&ran).pop().unwrap();
            assert_eq!(summary["packets"], whole, "cut at {cut}");
            let is_between = ends.contains(&cut);
            assert_eq!(ran.code, Some(if is_between { 0 } else { 3 }), "cut at {cut}: {}", ran.stderr);
            assert_eq!(ran.stderr.contains("ends in the middle of a record"), !is_between, "{}", ran.stderr);
        }
    }
}

#[test]
fn fragments_and_packets_cut_within_their_headers_are_told() {
    let mut packets = conversation("hello");
    let mut fragment = packets[5].clone();
    fragment[6] = 0x20;
    let mut behind = packets[5].clone();
    behind[7] = 8;
    packets.splice(5..6, [fragment, behind]);
    packets.push(packets[0][..30].to_vec());
    let ran = run_on(&Pcap::default().file(&packets), &["--json"]);
    assert_eq!(messages(&ran), [""; 0]);
    let summary = json(&ran).pop().unwrap();
    assert_eq!((&summary["packets_fragments"], &summary["packets_malformed"]), (&2.into(), &1.into()));
    assert!(ran.stderr.contains("2 fragments of IP packets, which are not put together"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 packet malformed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 gap never seen"), "{}", ran.stderr);
}

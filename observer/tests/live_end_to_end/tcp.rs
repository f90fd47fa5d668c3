//! What hostile, strange and rare TCP makes of a stream: the kernel's own reading is the oracle.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use serde_json::Value;

use crate::by_hand::{
    ACK, ANSWER, ByHand, FIN, PSH, REQUEST, RST, Reader, SYN, URG, masked_frame, read, text_frame,
};
use crate::kernel::makes_packets_over_64_kib;
use crate::support::{Client, Seen, Server, TO_CLIENT, TO_SERVER, in_new_network_namespace, seen_by, watch};

const PAYLOAD: usize = 40;
const HEADER: usize = 6;

/// Segments with parts of a message's payload, each of another letter, in the order in which they are sent; the rest of
/// the message is sent last, from its header on, up to the first byte that came before and so many bytes farther.
struct Copies {
    ahead: Vec<Range<usize>>,
    farther: usize,
}

impl Copies {
    fn new(ahead: &[Range<usize>], farther: usize) -> Self {
        Self { ahead: ahead.to_vec(), farther }
    }

    fn send(&self, client: &mut ByHand) {
        let mut was_sent = [false; PAYLOAD];
        for (part, letter) in self.ahead.iter().zip(b'a'..) {
            client.send_ahead(HEADER + part.start, &vec![letter; part.len()]);
            was_sent[part.clone()].fill(true);
        }
        let frame = text_frame(&[b'.'; PAYLOAD]);
        let mut from = 0;
        while from < frame.len() {
            let is_hole = |at: &usize| *at < HEADER || !was_sent[*at - HEADER];
            let begins = (from..frame.len()).find(is_hole).unwrap_or(frame.len());
            let ends = (begins..frame.len()).find(|at| !is_hole(at)).unwrap_or(frame.len());
            let farther = if begins == 0 { self.farther } else { 0 };
            client.send_ahead(begins, &frame[begins..frame.len().min(ends + farther)]);
            from = ends;
        }
        client.skip(frame.len());
        client.wait_until_acknowledged();
    }
}

/// What the server reads of messages that are sent so, and what is shown.
fn converse(messages: Vec<Copies>) -> (Vec<String>, Vec<String>, Seen) {
    let world = in_new_network_namespace(move || {
        ByHand::silence_the_kernel();
        let server = Reader::new();
        let address = server.address;
        let observer = watch(address.port(), &[]);
        let count = messages.len();
        let reading = thread::spawn(move || {
            let mut stream = server.accept();
            let message =
                |_| String::from_utf8(read(&mut stream, HEADER + PAYLOAD).split_off(HEADER)).unwrap();
            (0..count).map(message).collect::<Vec<_>>()
        });
        // The stream's positions wrap on the way.
        let mut client = ByHand::upgrade(40_000, address, u32::MAX - 300);
        messages.iter().for_each(|message| message.send(&mut client));
        (client.address(), reading.join().unwrap(), seen_by(observer))
    });
    let (client, read, seen) = world.join().unwrap();
    let shown = seen.texts(seen.connection_of(client), TO_SERVER).into_iter().map(str::to_owned).collect();
    (read, shown, seen)
}

fn anomalies<'a>(seen: &'a Seen, code: &str) -> Vec<&'a Value> {
    seen.of_kind("anomaly").filter(|anomaly| anomaly["code"] == code).collect()
}

#[test]
#[expect(clippy::single_range_in_vec_init, reason = "there is one part in order")]
fn of_differing_copies_the_one_is_shown_that_the_server_reads() {
    let cases = [
        (Copies::new(&[10..20, 10..20], 0), "the same place"),
        (Copies::new(&[10..20, 10..30], 0), "the same beginning, longer"),
        (Copies::new(&[15..20, 10..30], 0), "around the other"),
        (Copies::new(&[15..25, 10..20], 0), "overlapping the beginning"),
        (Copies::new(&[10..20, 15..25], 0), "overlapping the end"),
        (Copies::new(&[10..30, 15..20], 0), "within the other"),
        (Copies::new(&[10..40], 5), "in order"),
        (Copies::new(&[10..14, 16..20, 8..24], 0), "around several"),
        (Copies::new(&[10..20, 20..30, 10..25], 0), "within two that were joined"),
        (Copies::new(&[20..30, 10..20, 15..30], 0), "over two that came in the wrong order"),
    ];
    for (copies, name) in cases {
        let (read, shown, seen) = converse(vec![copies]);
        assert_eq!(shown, read, "{name}");
        assert_eq!(anomalies(&seen, "overlap-differs").len(), 1, "{name}: {:?}", seen.records);
        assert_eq!(seen.summary()["gaps"]["never_seen"], 0);
    }
}

#[test]
fn however_copies_overlap_each_message_is_shown_as_the_server_reads_it() {
    let mut state = 1_u32;
    let mut random = |below: usize| {
        // Numerical Recipes' generator: the same messages each time.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    let messages = (0..500)
        .map(|_| {
            // None begins where another one ends: what the kernel makes of these depends on where it keeps them.
            let mut part = || {
                let start = 2 + 2 * random(PAYLOAD / 2 - 2);
                start..start + 1 + 2 * random((PAYLOAD - start) / 2)
            };
            let ahead: Vec<_> = (0..6).map(|_| part()).collect();
            Copies { ahead, farther: random(3) * 4 }
        })
        .collect();
    let (read, shown, seen) = converse(messages);
    for (number, (shown, read)) in shown.iter().zip(&read).enumerate() {
        assert_eq!(shown, read, "message {number}");
    }
    assert_eq!(shown.len(), read.len());
    assert!(seen.summary()["anomalies"].as_u64().unwrap() > 400, "{}", seen.summary());
}

/// A conversation of a client made by hand, in a network namespace of its own: what `client` sends on an upgraded
/// connection, what `server` makes of it, and what was seen.
fn by_hand<T: Send + 'static>(
    client: impl FnOnce(&mut ByHand) + Send + 'static,
    server: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (T, u64, Seen) {
    by_hand_with(Reader::new, client, server)
}

fn by_hand_with<T: Send + 'static>(
    reader: fn() -> Reader,
    client: impl FnOnce(&mut ByHand) + Send + 'static,
    server: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (T, u64, Seen) {
    let world = in_new_network_namespace(move || {
        ByHand::silence_the_kernel();
        let reader = reader();
        let address = reader.address;
        let observer = watch(address.port(), &["--packets"]);
        let serving = thread::spawn(move || server(reader.accept()));
        let mut by_hand = ByHand::upgrade(40_000, address, 7);
        client(&mut by_hand);
        (by_hand.address(), serving.join().unwrap(), seen_by(observer))
    });
    let (client, result, seen) = world.join().unwrap();
    let connection = seen.connection_of(client);
    (result, connection, seen)
}

#[test]
fn an_urgent_byte_is_left_out_as_the_server_leaves_it_out() {
    let frame = text_frame(b"hello");
    let urgent_at = [0, HEADER, HEADER + 2, frame.len()];
    let (read, connection, seen) = by_hand(
        move |client| {
            for at in urgent_at {
                let mut with_urgent = frame.clone();
                with_urgent.insert(at, b'!');
                client.segment_at(client.next, PSH | ACK | URG, u16::try_from(at + 1).unwrap(), &with_urgent);
                client.skip(with_urgent.len());
                // The mark counts until it was read.
                client.wait_for_the_application();
            }
        },
        move |mut stream| {
            let mut message = |_| {
                let message = read(&mut stream, HEADER + 5);
                stream.write_all(&[0x89, 0]).unwrap();
                message
            };
            (0..urgent_at.len()).map(&mut message).collect::<Vec<_>>()
        },
    );
    assert!(read.iter().all(|message| message == &text_frame(b"hello")), "{read:?}");
    assert_eq!(seen.texts(connection, TO_SERVER), ["hello"; 4]);
    assert_eq!(anomalies(&seen, "urgent-data").len(), 4);
    let account = &seen.closed(connection)["account"][TO_SERVER];
    assert_eq!((&account["bytes_skipped"], &account["bytes_missing"]), (&4.into(), &0.into()));
    assert_eq!(seen.closed(connection)["complete"], false);
}

#[test]
fn that_a_server_may_read_an_urgent_byte_in_line_is_told() {
    let ((), connection, seen) = by_hand(
        |client| {
            client.segment_at(client.next, PSH | ACK | URG, 1, b"!");
            client.skip(1);
            client.wait_for_the_application();
            client.leave();
        },
        |mut stream| {
            setsockopt(&stream, sockopt::OobInline, &true).unwrap();
            assert_eq!(read(&mut stream, 1), b"!");
            stream.write_all(&[0x89, 0]).unwrap();
        },
    );
    assert!(anomalies(&seen, "urgent-data")[0]["detail"].as_str().unwrap().contains("SO_OOBINLINE"));
    assert_eq!(seen.closed(connection)["complete"], false);
    assert_eq!(seen.closed(connection)["account"][TO_SERVER]["bytes_skipped"], 1);
}

#[test]
fn a_copy_that_the_kernel_refuses_is_told_to_differ_from_the_one_that_the_server_reads() {
    // The checksum of a short packet is looked at before the hook.
    let [decoy, message] = ["decoy ", "hello "].map(|word| word.repeat(20));
    let [decoy_frame, frame] = [&decoy, &message].map(|text| text_frame(text.as_bytes()));
    let expected = frame.clone();
    let (read, connection, seen) = by_hand(
        move |client| {
            client.breaks_checksums = true;
            client.send_ahead(0, &decoy_frame);
            client.breaks_checksums = false;
            client.send(&frame);
            client.wait_until_acknowledged();
        },
        |mut stream| read(&mut stream, HEADER + 120),
    );
    assert_eq!(read, expected);
    // Whether a checksum is right cannot be known: a packet of this machine has none yet.
    assert_eq!(seen.texts(connection, TO_SERVER), [decoy]);
    let told = anomalies(&seen, "overlap-differs");
    assert!(told[0]["detail"].as_str().unwrap().contains("if the receiver refused its packet"), "{told:?}");
}

/// That nothing of a connection is called strange, repeated or missing.
fn assert_in_order(seen: &Seen, connection: u64) {
    let closed = seen.closed(connection);
    assert_eq!(seen.of_kind("anomaly").count() + seen.of_kind("gap").count(), 0, "{:#?}", seen.records);
    assert_eq!(closed["complete"], true, "{closed}");
    for direction in [TO_SERVER, TO_CLIENT] {
        assert_eq!(closed["account"][direction]["bytes_retransmitted"], 0, "{closed}");
    }
}

/// Packets of one direction with these flags, and their lengths of payload.
fn packets<'a>(seen: &'a Seen, direction: &str, flags: &str) -> Vec<&'a Value> {
    seen.of_kind("packet").filter(|it| it["direction"] == direction && it["flags"] == flags).collect()
}

#[test]
fn keep_alive_probes_of_the_kernel_are_nothing() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--packets"]);
    let mut client = Client::connect(server.address, "/echo");
    let stream = client.stream().try_clone().unwrap();
    setsockopt(&stream, sockopt::KeepAlive, &true).unwrap();
    setsockopt(&stream, sockopt::TcpKeepIdle, &1).unwrap();
    setsockopt(&stream, sockopt::TcpKeepInterval, &1).unwrap();
    client.echo("before");
    thread::sleep(Duration::from_millis(2_500));
    client.echo("after");
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    seen.assert_equals(connection, &log);
    assert_in_order(&seen, connection);
    let sent = packets(&seen, TO_SERVER, ".");
    let is_probe = |pair: &&[&Value]| {
        let number = |it: &Value| it["sequence_number"].as_u64().unwrap();
        number(pair[0]) == number(pair[1]) + 1
    };
    assert!(sent.windows(2).filter(is_probe).count() > 0, "no probe was sent: {sent:#?}");
}

#[test]
fn keep_alive_probes_with_a_byte_of_nonsense_are_nothing() {
    let ((), connection, seen) = by_hand(
        |client| {
            for _ in 0..3 {
                client.send(&text_frame(b"hello"));
                client.wait_until_acknowledged();
                client.segment_at(client.next.wrapping_sub(1), ACK, 0, b"?");
                client.wait_until_acknowledged();
            }
            client.leave();
        },
        |mut stream| {
            (0..3).for_each(|_| assert_eq!(read(&mut stream, HEADER + 5), text_frame(b"hello")));
        },
    );
    assert_eq!(seen.texts(connection, TO_SERVER), ["hello"; 3]);
    assert_in_order(&seen, connection);
}

#[test]
fn a_window_that_is_closed_for_a_while_changes_nothing() {
    let server = Reader::with_room(8 << 10);
    let observer = watch(server.address.port(), &["--packets"]);
    let message: String = ('a'..='z').cycle().take(60_000).collect();
    let stream = TcpStream::connect(server.address).unwrap();
    let address = stream.local_addr().unwrap();
    // A client masks each frame with another key.
    let frames: Vec<_> = (0..20).map(|key| masked_frame(key, message.as_bytes())).collect();
    let expected = frames.clone();
    let sending = thread::spawn(move || {
        let mut stream = stream;
        stream.write_all(REQUEST.as_bytes()).unwrap();
        read(&mut stream, ANSWER.len());
        frames.iter().for_each(|frame| stream.write_all(frame).unwrap());
    });
    let mut stream = server.accept();
    // Longer than the persist timer takes for some probes.
    thread::sleep(Duration::from_millis(1_500));
    expected.iter().for_each(|frame| assert!(read(&mut stream, frame.len()) == *frame));
    sending.join().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    assert_eq!(seen.texts(connection, TO_SERVER), [&*message; 20]);
    assert_eq!(seen.of_kind("anomaly").count() + seen.of_kind("gap").count(), 0);
    assert_eq!(seen.closed(connection)["complete"], true, "{}", seen.closed(connection));
    let closed_windows = packets(&seen, TO_CLIENT, ".").into_iter().filter(|it| it["window"] == 0).count();
    let probes = packets(&seen, TO_SERVER, ".").into_iter().filter(|it| it["length"] == 0).count();
    assert!(closed_windows > 1 && probes > 2, "{closed_windows} {probes}");
}

#[test]
fn a_probe_of_a_closed_window_with_the_next_byte_is_a_repetition_and_no_more() {
    const PIECE: usize = 500;
    let message = "x".repeat(50_000);
    let frame = text_frame(message.as_bytes());
    let expected = frame.clone();
    let (go_on, wait) = channel();
    let ((), connection, seen) = by_hand_with(
        || Reader::with_room(4 << 10),
        move |client| {
            let mut rest = &frame[..];
            let mut window = PIECE;
            let mut was_closed = false;
            while !rest.is_empty() {
                if window == 0 && !was_closed {
                    was_closed = true;
                    // The kernel does not take it, and says so.
                    client.send_ahead(0, &rest[..1]);
                    client.wait_until_acknowledged();
                    go_on.send(()).unwrap();
                }
                let (piece, behind) = rest.split_at(rest.len().min(PIECE).min(window));
                if !piece.is_empty() {
                    client.send(piece);
                    rest = behind;
                }
                window = client.answer_with(|answer| answer.acknowledgment == client.next).window.into();
            }
            client.leave();
        },
        move |mut stream| {
            wait.recv().unwrap();
            assert!(read(&mut stream, expected.len()) == expected);
        },
    );
    assert_eq!(seen.texts(connection, TO_SERVER), [message]);
    let closed = seen.closed(connection);
    assert_eq!(seen.of_kind("anomaly").count() + seen.of_kind("gap").count(), 0);
    assert_eq!(
        (&closed["complete"], &closed["account"][TO_SERVER]["bytes_retransmitted"]),
        (&true.into(), &1.into())
    );
}

#[test]
fn a_request_in_the_syn_of_a_fast_open_is_read() {
    let world = in_new_network_namespace(|| {
        // Clients and servers, without cookies, for every listener.
        std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", (0x1 | 0x2 | 0x4 | 0x200 | 0x400).to_string())
            .unwrap();
        let server = Server::on(Ipv4Addr::LOCALHOST);
        let observer = watch(server.port(), &["--packets"]);
        let SocketAddr::V4(address) = server.address else { panic!("it is IPv4") };
        let socket =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).unwrap();
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 40_000)).unwrap();
        setsockopt(&socket, sockopt::TcpFastOpenConnect, &true).unwrap();
        connect(socket.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
        let mut client = Client::over(TcpStream::from(socket), server.address, "/echo");
        client.echo("hello");
        let address = client.address;
        (address, client.leave(), seen_by(observer))
    });
    let (address, log, seen) = world.join().unwrap();
    let connection = seen.connection_of(address);
    seen.assert_equals(connection, &log);
    assert_in_order(&seen, connection);
    let syn = packets(&seen, TO_SERVER, "S")[0];
    assert!(syn["length"].as_u64().unwrap() > 100, "{syn}");
}

#[test]
fn what_a_syn_carries_and_the_server_does_not_take_is_not_shown() {
    let world = in_new_network_namespace(|| {
        ByHand::silence_the_kernel();
        let server = Reader::new();
        let observer = watch(server.address.port(), &[]);
        let mut client = ByHand::new(40_000, server.address, 7);
        client.segment_at(7, SYN, 0, b"GET /decoy HTTP/1.1\r\n\r\n");
        client.next = 8;
        client.expected = client.answer_with(|answer| answer.flags & SYN != 0).sequence.wrapping_add(1);
        let accepting = thread::spawn(move || read(&mut server.accept(), HEADER + 5));
        client.send(REQUEST.as_bytes());
        client.wait_for_the_application();
        client.send(&text_frame(b"hello"));
        client.leave();
        (client.address(), accepting.join().unwrap(), seen_by(observer))
    });
    let (address, read, seen) = world.join().unwrap();
    let connection = seen.connection_of(address);
    assert_eq!((read, seen.texts(connection, TO_SERVER)), (text_frame(b"hello"), vec!["hello"]));
    let paths: Vec<_> = seen.of_kind("handshake").map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/by-hand"; 2]);
    assert_in_order(&seen, connection);
}

#[test]
fn a_fin_with_the_last_bytes_ends_a_direction_behind_them() {
    let ((), connection, seen) = by_hand(
        |client| {
            let frame = text_frame(b"hello");
            client.segment_at(client.next, PSH | ACK | FIN, 0, &frame);
            client.skip(frame.len() + 1);
            client.acknowledge_fin();
        },
        |mut stream| {
            assert_eq!(read(&mut stream, HEADER + 5), text_frame(b"hello"));
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        },
    );
    assert_eq!(seen.texts(connection, TO_SERVER), ["hello"]);
    assert_in_order(&seen, connection);
    let closed = seen.closed(connection);
    assert_eq!((&closed["closed_by"], &closed["how"]), (&"client".into(), &"fin".into()));
}

#[test]
fn ends_that_close_at_the_same_time_have_both_ended() {
    let ((), connection, seen) = by_hand(
        |client| {
            client.send(&text_frame(b"hello"));
            // Its own FIN does not acknowledge the one that has come.
            client.answer_with(|answer| answer.flags & FIN != 0);
            client.segment_at(client.next, ACK | FIN, 0, b"");
            client.skip(1);
            client.wait_until_acknowledged();
            client.expected = client.expected.wrapping_add(1);
            client.segment_at(client.next, ACK, 0, b"");
        },
        |mut stream| {
            read(&mut stream, HEADER + 5);
        },
    );
    assert_eq!(seen.texts(connection, TO_SERVER), ["hello"]);
    assert_in_order(&seen, connection);
    assert_eq!(seen.closed(connection)["closed_by"], "server");
}

#[test]
fn each_end_may_send_on_after_the_other_has_closed_its_half() {
    for server_closes_first in [false, true] {
        let server = Reader::new();
        let observer = watch(server.address.port(), &[]);
        let mut client = TcpStream::connect(server.address).unwrap();
        let address = client.local_addr().unwrap();
        client.write_all(REQUEST.as_bytes()).unwrap();
        let mut accepted = server.accept();
        read(&mut client, ANSWER.len());
        let unmasked = b"\x81\x05world";
        let (first, second) =
            if server_closes_first { (&mut accepted, &mut client) } else { (&mut client, &mut accepted) };
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        for _ in 0..3 {
            let sent = if server_closes_first { text_frame(b"hello") } else { unmasked.to_vec() };
            second.write_all(&sent).unwrap();
            assert_eq!(read(first, sent.len()), sent);
        }
        second.shutdown(Shutdown::Write).unwrap();
        assert_eq!(first.read(&mut [0]).unwrap(), 0);
        let seen = seen_by(observer);
        let connection = seen.connection_of(address);
        let (direction, text, by) =
            if server_closes_first { (TO_SERVER, "hello", "server") } else { (TO_CLIENT, "world", "client") };
        assert_eq!(seen.texts(connection, direction), [text; 3]);
        assert_in_order(&seen, connection);
        assert_eq!(
            (&seen.closed(connection)["closed_by"], &seen.closed(connection)["how"]),
            (&by.into(), &"fin".into())
        );
    }
}

#[test]
fn a_reset_of_either_end_is_how_a_connection_ends() {
    for server_resets in [false, true] {
        let ((), connection, seen) = by_hand(
            move |client| {
                client.send(&text_frame(b"hello"));
                if server_resets {
                    client.answer_with(|answer| answer.flags & RST != 0);
                } else {
                    client.wait_for_the_application();
                    client.segment_at(client.next, RST, 0, b"");
                }
            },
            move |mut stream| {
                read(&mut stream, HEADER + 5);
                if server_resets {
                    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
                } else {
                    stream.write_all(&[0x89, 0]).unwrap();
                    assert!(stream.read(&mut [0]).is_err());
                }
            },
        );
        assert_eq!(seen.texts(connection, TO_SERVER), ["hello"]);
        assert_in_order(&seen, connection);
        let by = if server_resets { "server" } else { "client" };
        assert_eq!(
            (&seen.closed(connection)["closed_by"], &seen.closed(connection)["how"]),
            (&by.into(), &"rst".into())
        );
    }
}

#[test]
fn a_server_that_closes_before_it_has_read_all_resets_the_connection() {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let server = Reader::on(address);
        let observer = watch(server.address.port(), &[]);
        let mut client = TcpStream::connect(server.address).unwrap();
        let address = client.local_addr().unwrap();
        client.write_all(REQUEST.as_bytes()).unwrap();
        let accepted = server.accept();
        read(&mut client, ANSWER.len());
        client.write_all(&text_frame(b"hello")).unwrap();
        accepted.peek(&mut [0]).unwrap();
        drop(accepted);
        assert!(client.read(&mut [0]).is_err());
        let seen = seen_by(observer);
        let connection = seen.connection_of(address);
        assert_eq!(seen.texts(connection, TO_SERVER), ["hello"]);
        let closed = seen.closed(connection);
        assert_eq!((&closed["closed_by"], &closed["how"]), (&"server".into(), &"rst".into()), "{closed}");
    }
}

#[test]
fn messages_in_packets_over_64_kib_are_shown_whole_over_ipv4_and_ipv6() {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let text = "0123456789abcdef".repeat(1 << 16);
        let mut longest = 0;
        // The kernel does not make one of every write.
        for _ in 0..20 {
            let server = Server::on(address);
            let observer = watch(server.port(), &["--packets", "--ring", "64MiB"]);
            let mut client = Client::connect(server.address, "/echo");
            client.burst(vec![text.clone(); 4]);
            let address = client.address;
            let log = client.leave();
            let seen = seen_by(observer);
            let connection = seen.connection_of(address);
            assert!(
                seen.texts(connection, TO_SERVER) == log.sent
                    && seen.texts(connection, TO_CLIENT) == log.sent
            );
            // Where the room of a socket is used up, the kernel sends again.
            assert_eq!(seen.of_kind("anomaly").count() + seen.of_kind("gap").count(), 0);
            assert_eq!(seen.closed(connection)["complete"], true);
            let lengths = seen.of_kind("packet").map(|packet| packet["length"].as_u64().unwrap());
            longest = lengths.max().unwrap();
            if longest > 65_536 || !makes_packets_over_64_kib() {
                break;
            }
        }
        assert!(longest > 65_536 || !makes_packets_over_64_kib(), "{address}: {longest} bytes at most");
    }
}

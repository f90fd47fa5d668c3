//! Where connections run: network namespaces, NAT, many at once, and packets of any size.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::{Client, Server, TO_CLIENT, TO_SERVER, in_new_network_namespace, run, seen_by, watch};

#[test]
fn two_network_namespaces_with_the_same_addresses_and_ports_are_two_connections() {
    const PORT: u16 = 7272;
    let observer = watch(PORT, &[]);
    // Both connections exist, and both are in the middle of their conversation, at the same time.
    let together = Arc::new(Barrier::new(2));
    let worlds = ["here", "there"].map(|name| {
        let together = Arc::clone(&together);
        in_new_network_namespace(move || {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").unwrap();
            let server = Server::at(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
            together.wait();
            let mut client = Client::connect(server.address, "/echo");
            for number in 0..50 {
                client.echo(&format!("{name} {number}"));
                if number == 10 {
                    together.wait();
                }
            }
            let address = client.address;
            (address, client.leave())
        })
    });
    let [(here, here_log), (there, there_log)] = worlds.map(|world| world.join().unwrap());
    assert_eq!(here, there);
    let seen = seen_by(observer);
    assert_eq!(seen.summary()["connections"], 2);
    for log in [here_log, there_log] {
        let of_log = |connection: &u64| seen.texts(*connection, TO_SERVER).first() == Some(&&*log.sent[0]);
        let connection = (1..=2).find(of_log).expect("the connection was seen");
        seen.assert_equals(connection, &log);
    }
    seen.assert_nothing_is_missing();
}

#[test]
fn a_nat_redirect_to_the_port_is_one_connection_with_both_directions() {
    const PORT: u16 = 7273;
    let observer = watch(PORT, &[]);
    let world = in_new_network_namespace(|| {
        run("nft", &["add", "table", "ip", "test"]);
        run("nft", &["add", "chain", "ip", "test", "out", "{ type nat hook output priority -100; }"]);
        run("nft", &["add", "rule", "ip", "test", "out", "tcp", "dport", "80", "redirect", "to", ":7273"]);
        let _server = Server::at(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        let mut client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)), "/echo");
        for number in 0..20 {
            client.echo(&format!("redirected {number}"));
        }
        let address = client.address;
        (address, client.leave())
    });
    let (address, log) = world.join().unwrap();
    let seen = seen_by(observer);
    assert_eq!(seen.summary()["connections"], 1);
    let connection = seen.connection_of(address);
    seen.assert_equals(connection, &log);
    let opened = seen.of_kind("connection_opened").next().unwrap();
    assert_eq!(opened["server"], format!("127.0.0.1:{PORT}"), "the server's own address, not the redirected");
    seen.assert_nothing_is_missing();
}

#[test]
fn a_hundred_connections_at_once_are_each_shown_as_its_client_knows_it() {
    const CONNECTIONS: usize = 100;
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--ring", "32MiB"]);
    let all_connected = Arc::new(Barrier::new(CONNECTIONS));
    let address = server.address;
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|who| {
            let all_connected = Arc::clone(&all_connected);
            thread::spawn(move || {
                let mut client = Client::connect(address, "/echo");
                all_connected.wait();
                for number in 0..20 {
                    client.echo(&format!("client {who} says {number}"));
                }
                let address = client.address;
                (address, client.leave())
            })
        })
        .collect();
    let logs: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let seen = seen_by(observer);
    assert_eq!(seen.summary()["connections"], CONNECTIONS);
    for (address, log) in &logs {
        seen.assert_equals(seen.connection_of(*address), log);
    }
    seen.assert_nothing_is_missing();
}

#[test]
fn a_message_of_a_mebibyte_is_shown_whole_in_both_directions() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--ring", "32MiB"]);
    let mut client = Client::connect(server.address, "/echo");
    let text: String = (0..1 << 20).map(|position: u32| char::from(b'a' + (position % 23) as u8)).collect();
    client.echo("before");
    client.echo(&text);
    client.echo("after");
    let address = client.address;
    let log = client.leave();
    let seen = seen_by(observer);
    let connection = seen.connection_of(address);
    seen.assert_equals(connection, &log);
    for direction in [TO_SERVER, TO_CLIENT] {
        let lengths: Vec<_> = seen.messages(connection, direction).iter().map(|it| &it["length"]).collect();
        assert_eq!(lengths, [6, 1 << 20, 5]);
    }
    seen.assert_nothing_is_missing();
}

#[test]
fn an_interface_is_that_of_the_observers_own_network_namespace() {
    const PORT: u16 = 7275;
    let mut observer = watch(PORT, &["-i", "lo"]);
    let talk = |text: &'static str| {
        move || {
            let server = Server::at(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
            let mut client = Client::connect(server.address, "/echo");
            client.echo(text);
            client.leave();
        }
    };
    in_new_network_namespace(talk("there")).join().unwrap();
    talk("here")();
    let tells_namespaces_apart = !observer.has_said("does not tell network namespaces apart");
    let seen = seen_by(observer);
    let texts: Vec<_> = seen.of_kind("message").map(|it| it["payload"].as_str().unwrap()).collect();
    if tells_namespaces_apart {
        assert_eq!(texts, ["here", "here"]);
        assert!(seen.summary()["capture"]["filtered"].as_u64().unwrap() > 0);
    } else {
        assert_eq!(texts, ["there", "there", "here", "here"]);
    }
}

#[test]
fn when_the_named_interface_sees_nothing_the_user_is_told_what_passed_elsewhere() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let address = server.address;
    let world = in_new_network_namespace(move || {
        run("ip", &["link", "add", "quiet0", "type", "veth", "peer", "name", "quiet1"]);
        let server = Server::at(address);
        let mut observer = watch(server.port(), &["-i", "quiet0"]);
        let mut client = Client::connect(server.address, "/echo");
        client.echo("over lo");
        observer
            .wait_for("packets of the port came or went, and were left out, since only the interface quiet0");
        client.leave();
        seen_by(observer).summary()["packets"].clone()
    });
    assert_eq!(world.join().unwrap(), 0);
}

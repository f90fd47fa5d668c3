//! Connections that are open when the observer starts: which are listed, how they go on, and how they end.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::private_cgroup::PrivateCgroup;
use crate::support::{
    Client, PATIENCE, Program, Seen, Server, TO_CLIENT, TO_SERVER, in_new_network_namespace, observer,
    seen_by, watch,
};

/// The record that tells of a client's only connection.
fn opened(seen: &Seen, client: SocketAddr) -> &Value {
    let number = seen.connection_of(client);
    seen.of_kind("connection_opened").find(|it| it["connection"] == number).unwrap()
}

fn is_listed(seen: &Seen, client: SocketAddr) -> bool {
    let opened = opened(seen, client);
    opened["from_start"] == false && opened["listed"] == true
}

fn listed_clients(seen: &Seen) -> Vec<&str> {
    let listed = seen.of_kind("connection_opened").filter(|it| it["listed"] == true);
    listed.map(|it| it["client"].as_str().unwrap()).collect()
}

fn greeted(server: &Server) -> Client {
    let mut client = Client::connect(server.address, "/echo");
    client.echo("before");
    client
}

#[test]
fn open_connections_of_both_families_are_listed_and_decoded_from_their_next_message_on() {
    let servers =
        [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()]
            .map(Server::on);
    let mut clients = [0, 1, 2].map(|which| {
        // An IPv4 client of an IPv6 socket.
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST, servers[2].port()));
        let address = if which == 2 { mapped } else { servers[which].address };
        let mut client = Client::connect(address, "/echo");
        client.echo("before");
        client
    });
    let idle = greeted(&servers[0]);
    let ports = [1, 2].map(|which| servers[which].port().to_string());
    let mut observer = watch(servers[0].port(), &["--port", &ports[0], "--port", &ports[1]]);
    observer.wait_for("following 4 connections that were open before");
    for client in &mut clients {
        client.echo("after");
    }
    let addresses = clients.each_ref().map(|client| client.address);
    for client in clients {
        client.leave();
    }
    let seen = seen_by(observer);
    assert_eq!(seen.summary()["connections"], 4);
    for address in addresses {
        assert!(is_listed(&seen, address));
        let connection = seen.connection_of(address);
        for direction in [TO_SERVER, TO_CLIENT] {
            assert_eq!(seen.texts(connection, direction), ["after"]);
            assert_eq!(seen.messages(connection, direction)[0]["resynchronised"], true);
        }
        let closed = seen.closed(connection);
        assert_eq!((&closed["how"], &closed["complete"]), (&"close_frame".into(), &false.into()));
    }
    assert!(is_listed(&seen, idle.address));
    assert_eq!(seen.closed(seen.connection_of(idle.address))["how"], "still_open");
    assert_eq!(seen.summary()["anomalies"], 0);
}

#[test]
fn only_connections_of_the_named_ports_are_listed_and_clients_on_the_client_side() {
    let (named, other) = (Server::on(Ipv4Addr::LOCALHOST), Server::on(Ipv4Addr::LOCALHOST));
    let (mut client, _elsewhere) = (greeted(&named), greeted(&other));
    for side in ["server", "client"] {
        let observer = watch(named.port(), &["--side", side]);
        client.echo(side);
        let seen = seen_by(observer);
        assert_eq!(listed_clients(&seen), [client.address.to_string()]);
        let opened = opened(&seen, client.address);
        assert_eq!(opened["server"], named.address.to_string(), "{side}");
        assert_eq!(seen.texts(1, TO_SERVER), [side], "its packets are those of the listed one");
        assert_eq!(seen.summary()["connections"], 1);
    }
}

#[test]
fn of_the_text_output_an_idle_connection_takes_no_line_and_another_one_before_what_it_says() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let (mut client, _idle) = (greeted(&server), greeted(&server));
    let port = server.port().to_string();
    let mut observer = Program::start(&mut observer(&["--port", &port]));
    observer.wait_for("following 2 connections that were open before");
    client.echo("after");
    let ended = observer.interrupt();
    let said = ended.stdout;
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(said[0].ends_with(" joined, it was open before"), "{said:#?}");
    assert!(said.iter().all(|line| line.contains(&client.address.to_string())), "{said:#?}");
    assert!(said[3].contains("open at the end of the run"), "{said:#?}");
}

#[test]
fn the_transcript_says_of_an_open_connection_that_it_was_before_its_first_packet() {
    for (language, sentence) in [("en", "was open before"), ("zh", "在观察开始前已经打开")] {
        let server = Server::on(Ipv4Addr::LOCALHOST);
        let (mut client, idle) = (greeted(&server), greeted(&server));
        let port = server.port().to_string();
        let arguments = ["--port", &port, "--format", "explain", "--lang", language];
        let mut observer = Program::start(&mut observer(&arguments));
        observer.wait_for("following 2 connections that were open before");
        client.echo("after");
        client.echo("and again");
        let said = observer.interrupt().stdout;
        let first = said.iter().position(|line| line.starts_with("# ")).unwrap();
        assert!(said[first].contains(sentence), "{said:#?}");
        assert_eq!(said.iter().filter(|line| line.contains(sentence)).count(), 1, "{said:#?}");
        assert!(!said.iter().any(|line| line.contains(&idle.address.to_string())), "{said:#?}");
    }
}

#[test]
fn asked_for_more_the_text_output_lists_every_open_connection_at_once() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let clients = [greeted(&server), greeted(&server)];
    let port = server.port().to_string();
    let mut observer = Program::start(&mut observer(&["--port", &port, "-v"]));
    observer.wait_for("following 2 connections that were open before");
    let said = observer.interrupt().stdout;
    for client in &clients {
        let of_client: Vec<_> =
            said.iter().filter(|line| line.contains(&client.address.to_string())).collect();
        assert_eq!(of_client.len(), 2, "{said:#?}");
        assert!(of_client[0].contains("joined, it was open before"), "{said:#?}");
        assert!(of_client[1].contains("open at the end of the run"), "{said:#?}");
    }
}

/// A network namespace with an echo server and a client that has said something, until told to say one thing more.
fn other_world(act: impl FnOnce(SocketAddr, u16)) -> SocketAddr {
    let (tell, told) = channel();
    let (go_on, wait) = channel::<()>();
    let (done, is_done) = channel::<()>();
    let world = in_new_network_namespace(move || {
        // A process, for threads are not looked at: their namespace is nearly always their process's.
        let mut process = Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let server = Server::on(Ipv4Addr::LOCALHOST);
        let mut client = greeted(&server);
        tell.send((client.address, server.port())).unwrap();
        if wait.recv().is_ok() {
            client.echo("after");
        }
        done.send(()).unwrap();
        drop(process.stdin.take());
        process.wait().unwrap();
    });
    let (client, port) = told.recv().unwrap();
    act(client, port);
    go_on.send(()).unwrap();
    is_done.recv().unwrap();
    world.join().unwrap();
    client
}

#[test]
fn connections_in_another_network_namespace_are_listed_unless_an_interface_is_named() {
    let (mut all, mut only_lo) = (None, None);
    let client = other_world(|_, port| {
        all = Some(watch(port, &[]));
        only_lo = Some(watch(port, &["-i", "lo"]));
    });
    let seen = seen_by(all.unwrap());
    assert!(is_listed(&seen, client));
    assert_eq!(seen.texts(seen.connection_of(client), TO_SERVER), ["after"]);
    assert_eq!(seen.summary()["connections"], 1);
    assert_eq!(listed_clients(&seen_by(only_lo.unwrap())), Vec::<&str>::new());
}

#[test]
fn with_an_interface_the_connections_that_go_over_it_are_listed() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let client = greeted(&server);
    let seen = seen_by(watch(server.port(), &["-i", "lo"]));
    assert_eq!(listed_clients(&seen), [client.address.to_string()]);
}

#[test]
fn of_a_cgroup_only_the_connections_of_its_own_processes_are_listed() {
    let cgroup = PrivateCgroup::new("late");
    let below = cgroup.path.join("below");
    std::fs::create_dir(&below).unwrap();
    let outside = Server::on(Ipv4Addr::LOCALHOST);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let script = r#"echo $$ >"$0/cgroup.procs" && exec "$1" --no-web --listen "$2""#;
    let chat = std::env::var_os("CHAT_SERVER_BIN").expect("these tests are run by `cargo xtask test`");
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(&below).arg(chat).arg(free.to_string());
    let inside = Program::start(&mut command);
    let give_up = Instant::now() + PATIENCE;
    let member = loop {
        match TcpStream::connect(free) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < give_up, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    let _stranger = greeted(&outside);
    let port = free.port().to_string();
    let path = cgroup.path.to_str().unwrap();
    let seen = seen_by(watch(outside.port(), &["--port", &port, "--cgroup", path]));
    drop(member.shutdown(std::net::Shutdown::Both));
    let address = member.local_addr().unwrap();
    inside.interrupt();
    std::fs::remove_dir(&below).unwrap();
    assert_eq!(listed_clients(&seen), [address.to_string()]);
}

#[test]
fn where_namespaces_may_not_be_entered_that_is_said_and_the_own_one_is_listed() {
    let mut program = None;
    let own = Server::on(Ipv4Addr::LOCALHOST);
    let client = greeted(&own);
    other_world(|_, port| {
        let ports = [own.port(), port].map(|port| port.to_string()).join(",");
        let mut command = observer(&["--json", "--port", &ports]);
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(drop_sys_admin);
        }
        let mut started = Program::start(&mut command);
        started.wait_for("needs CAP_SYS_ADMIN");
        program = Some(started);
    });
    let seen = seen_by(program.unwrap());
    assert_eq!(listed_clients(&seen), [client.address.to_string()]);
    // The other one appears with its first packet.
    assert_eq!(seen.summary()["connections"], 2);
}

/// Keeps what this process executes from having CAP_SYS_ADMIN, for root too.
fn drop_sys_admin() -> std::io::Result<()> {
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    // SAFETY: the call takes no pointers.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn where_the_kernel_lists_no_sockets_that_is_said_and_connections_appear_with_their_first_packet() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let mut client = greeted(&server);
    let port = server.port().to_string();
    let mut command = observer(&["--json", "--port", &port]);
    // SAFETY: between fork and exec only system calls are made, on a filter of constants.
    unsafe {
        command.pre_exec(refuse_netlink);
    }
    let mut observer = Program::start(&mut command);
    observer.wait_for("does not list its sockets");
    client.echo("after");
    let seen = seen_by(observer);
    assert_eq!(opened(&seen, client.address)["from_start"], false);
    assert_eq!(listed_clients(&seen), Vec::<&str>::new());
    assert_eq!(seen.texts(1, TO_SERVER), ["after"]);
}

/// Lets this process make no netlink socket, as on a kernel that has none of the kind.
fn refuse_netlink() -> std::io::Result<()> {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const FAIL: u32 = 0x0005_0000;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // struct seccomp_data: the call's number, then the processor's, an address, and the arguments.
    let mut steps = [
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 3, libc::SYS_socket as u32),
        step(LOAD, 0, 0, if cfg!(target_endian = "little") { 16 } else { 20 }),
        step(JUMP_IF_EQUAL, 0, 1, libc::AF_NETLINK as u32),
        step(RETURN, 0, 0, FAIL | libc::EPROTONOSUPPORT as u32),
        step(RETURN, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program is valid for reading, and as long as it says.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as libc::c_ulong, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_listed_connection_leaves_no_ghost_whoever_ends_it_and_however() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connect = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let pairs: Vec<_> = (0..4).map(|_| connect()).collect();
    let addresses: Vec<_> = pairs.iter().map(|(client, _)| client.local_addr().unwrap()).collect();
    // One end of this one sends nothing any more.
    pairs[3].1.shutdown(std::net::Shutdown::Write).unwrap();
    let observer = watch(listener.local_addr().unwrap().port(), &[]);
    let mut pairs = pairs.into_iter();
    let (client, server) = pairs.next().unwrap();
    drop(client);
    drop(server);
    let (client, server) = pairs.next().unwrap();
    drop(server);
    drop(client);
    let (client, _server) = pairs.next().unwrap();
    setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(client);
    let (client, _server) = pairs.next().unwrap();
    drop(client);
    // What the kernel hides is taken for over after five seconds of silence, which are looked at each second.
    thread::sleep(Duration::from_secs(8));
    let seen = seen_by(observer);
    let ends: Vec<_> = addresses
        .iter()
        .map(|address| {
            assert!(is_listed(&seen, *address));
            let closed = seen.closed(seen.connection_of(*address));
            (closed["how"].as_str().unwrap(), closed["closed_by"].as_str())
        })
        .collect();
    assert_eq!(
        ends,
        [("fin", Some("client")), ("fin", Some("server")), ("rst", Some("client")), ("unseen", None),]
    );
    assert_eq!(seen.summary()["connections_open"], 0);
    assert_eq!(seen.summary()["anomalies"], 0, "{:?}", seen.of_kind("anomaly").collect::<Vec<_>>());
}

#[test]
fn connections_that_open_while_the_observer_starts_are_each_shown_once_and_with_all_they_say() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let clients = Arc::new(Mutex::new(Vec::new()));
    let goes_on = Arc::new(AtomicBool::new(true));
    let connecting: Vec<_> = (0..4)
        .map(|_| {
            let (address, clients, goes_on) = (server.address, Arc::clone(&clients), Arc::clone(&goes_on));
            thread::spawn(move || {
                while goes_on.load(Ordering::SeqCst) {
                    let open = {
                        let mut clients = clients.lock().unwrap();
                        clients.push(Client::connect(address, "/echo"));
                        clients.len() as u64
                    };
                    // The slower the more there are: where starting takes long, files must not run out.
                    thread::sleep(Duration::from_millis(5 + open / 2));
                }
            })
        })
        .collect();
    let observer = watch(server.port(), &["--ring", "32MiB"]);
    goes_on.store(false, Ordering::SeqCst);
    for thread in connecting {
        thread.join().unwrap();
    }
    let clients = std::mem::take(&mut *clients.lock().unwrap());
    let logs: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            client.echo("after");
            let address = client.address;
            (address, client.leave())
        })
        .collect();
    let seen = seen_by(observer);
    assert_eq!(seen.summary()["connections"], logs.len());
    assert_eq!(seen.summary()["connections_other"], 0);
    for (address, log) in &logs {
        let connection = seen.connection_of(*address);
        // Of a handshake under way, packets may have passed before both programs were attached.
        if seen.closed(connection)["complete"] == true {
            seen.assert_equals(connection, log);
        } else {
            assert_eq!(seen.texts(connection, TO_CLIENT), ["after"]);
        }
    }
    assert_eq!(seen.summary()["connections_open"], 0);
}

#[test]
fn a_payload_full_of_frames_is_never_shown_unmarked_where_its_header_was_not_seen() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = listener.accept().unwrap().0;
    server.set_nodelay(true).unwrap();
    let frame = |text: &str| [&[0x81, text.len() as u8][..], text.as_bytes()].concat();
    let plausible = frame("false").repeat(5);
    let implausible = vec![0xff; 100];
    let length = (1_000 + plausible.len() + implausible.len()) as u16;
    // Each write is a segment: the next one follows once this one was read.
    let mut send = |bytes: &[u8]| {
        server.write_all(bytes).unwrap();
        client.read_exact(&mut vec![0; bytes.len()]).unwrap();
    };
    send(&[&[0x82, 126][..], &length.to_be_bytes(), &[0; 1_000]].concat());
    let observer = watch(listener.local_addr().unwrap().port(), &[]);
    send(&plausible);
    send(&implausible);
    let texts: Vec<_> = (0..20).map(|number| format!("true {number}")).collect();
    for text in &texts {
        send(&frame(text));
    }
    let seen = seen_by(observer);
    let shown = seen.messages(1, TO_CLIENT);
    let marked = shown.iter().take_while(|message| message["resynchronised"] == true).count();
    assert!((6..5 + texts.len()).contains(&marked), "{marked}");
    assert!(shown[marked..].iter().all(|message| message["resynchronised"] == false));
    let all: Vec<_> = shown.iter().map(|message| message["payload"].as_str().unwrap()).collect();
    assert_eq!(all[..5], ["false"; 5], "they look like frames");
    assert_eq!(all[5..], texts);
    let anomalies: Vec<_> = seen.of_kind("anomaly").map(|it| it["code"].as_str().unwrap()).collect();
    assert_eq!(anomalies, ["resynchronisation-failed"]);
}

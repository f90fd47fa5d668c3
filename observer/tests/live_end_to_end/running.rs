//! How a run begins and ends, and what it says meanwhile.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use crate::private_cgroup::PrivateCgroup;
use crate::support::{
    Client, PATIENCE, Program, Seen, Server, TO_SERVER, in_new_network_namespace, observer, seen_by, watch,
};

#[test]
fn sigterm_ends_a_run_with_its_last_messages_and_its_summary() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &[]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("the last words");
    observer.signal(Signal::SIGTERM);
    let seen = Seen::new(observer.wait());
    assert_eq!(seen.texts(1, TO_SERVER), ["the last words"]);
    assert_eq!(seen.closed(1)["how"], "still_open");
    assert_eq!(seen.summary()["connections_open"], 1);
}

#[test]
fn a_count_of_messages_ends_the_run_at_exactly_that_many() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["-c", "3"]);
    let mut client = Client::connect(server.address, "/echo");
    for number in 0..5 {
        client.echo(&number.to_string());
    }
    let seen = Seen::new(observer.wait());
    assert_eq!(seen.of_kind("message").count(), 3);
}

#[test]
fn a_duration_ends_the_run() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let started = Instant::now();
    let seen = Seen::new(watch(server.port(), &["--for", "1s"]).wait());
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(seen.records.len(), 1, "{:?}", seen.records);
}

#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut child = observer(&["--port", &port, "-q"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut client = Client::connect(server.address, "/echo");
    let mut first = String::new();
    let give_up = Instant::now() + PATIENCE;
    let reading = thread::spawn(move || stdout.read_line(&mut first).unwrap());
    while !reading.is_finished() {
        assert!(Instant::now() < give_up, "nothing was shown");
        client.echo("for head -1");
    }
    reading.join().unwrap();
    // Its reader is gone with the thread: the next line finds nobody.
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < give_up, "the run does not end");
        client.echo("for nobody");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn a_kill_leaves_nothing_attached_and_the_chat_undisturbed() {
    let cgroup = PrivateCgroup::new("kill");
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let path = cgroup.path.to_str().unwrap();
    let mut observer = watch(server.port(), &["--cgroup", path]);
    assert_eq!(cgroup.attached(), [1, 1]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("before");
    observer.signal(Signal::SIGKILL);
    let give_up = Instant::now() + PATIENCE;
    // The kernel frees a link's last reference a little after the process is gone.
    while !observer.has_ended() || cgroup.attached() != [0, 0] {
        assert!(Instant::now() < give_up, "{:?} are left attached", cgroup.attached());
        client.echo("meanwhile");
    }
    client.echo("after");
    client.leave();
}

#[test]
fn when_nothing_comes_the_user_is_told_that_nobody_listens() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut observer = watch(free, &[]);
    observer.wait_for(&format!("nobody listens on port {free}"));
    assert_eq!(seen_by(observer).records.len(), 1);
}

#[test]
fn when_nothing_comes_the_user_is_told_of_a_listener_in_another_network_namespace() {
    const PORT: u16 = 7274;
    let (listens, listening) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let world = in_new_network_namespace(move || {
        // A process, for threads are not looked at: their namespace is nearly always their process's.
        let mut listener = std::process::Command::new("sh");
        let bound = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).unwrap();
        let mut child =
            listener.args(["-c", "read line"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        listens.send(child.id()).unwrap();
        let _ = wait.recv();
        drop(child.stdin.take());
        child.wait().unwrap();
        drop(bound);
    });
    let process = listening.recv().unwrap();
    let mut observer = watch(PORT, &[]);
    observer.wait_for(&format!("another network namespace, that of process {process} (sh)"));
    drop(done);
    world.join().unwrap();
    seen_by(observer);
}

#[test]
fn a_host_without_a_mounted_cgroup_v2_is_watched_all_the_same() {
    let mounts: Vec<_> = std::fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields[2] == "cgroup2")
        .map(|fields| std::ffi::CString::new(fields[1]).unwrap())
        .collect();
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let port = server.port().to_string();
    let mut command = observer(&["--json", "--port", &port]);
    // SAFETY: between fork and exec only system calls are made, on what was prepared before.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(
                None::<&std::ffi::CStr>,
                c"/",
                None::<&std::ffi::CStr>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&std::ffi::CStr>,
            )?;
            for path in &mounts {
                umount2(path.as_c_str(), MntFlags::MNT_DETACH)?;
            }
            Ok(())
        });
    }
    let mut observer = Program::start(&mut command);
    observer.wait_for("watching");
    let mut client = Client::connect(server.address, "/echo");
    client.echo("without a mount");
    client.leave();
    assert_eq!(seen_by(observer).texts(1, TO_SERVER), ["without a mount"]);
}

#[test]
fn frames_are_shown_on_request_with_their_masks_and_the_close() {
    let server = Server::on(Ipv4Addr::LOCALHOST);
    let observer = watch(server.port(), &["--frames"]);
    let mut client = Client::connect(server.address, "/echo");
    client.echo("framed");
    client.leave();
    let seen = seen_by(observer);
    let frames: Vec<_> = seen
        .of_kind("frame")
        .map(|frame| {
            let mask = frame["mask"].as_str().map(str::len);
            (frame["direction"].as_str().unwrap(), frame["opcode"].as_str().unwrap(), mask)
        })
        .collect();
    assert_eq!(
        frames,
        [
            ("client_to_server", "text", Some(8)),
            ("server_to_client", "text", None),
            ("client_to_server", "close", Some(8)),
            ("server_to_client", "close", None),
        ]
    );
}

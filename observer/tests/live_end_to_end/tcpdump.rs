//! The same traffic, live and from the file that tcpdump wrote of it meanwhile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::kernel::sees_every_syn_ack;
use crate::support::{Client, Program, Seen, Server, in_new_network_namespace, observer, seen_by, watch};

/// A file that is gone at the end of the test.
pub struct CaptureFile(PathBuf);

impl CaptureFile {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("observer-{name}-{}.pcap", std::process::id())))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes the packets of these ports to a file, from now on.
pub fn tcpdump(interface: &str, ports: &[u16], file: &CaptureFile) -> Program {
    let mut tcpdump = Command::new("tcpdump");
    // As root: another user could not write where we can. The buffer is large, for tcpdump is to lose nothing.
    tcpdump.args(["-i", interface, "-s", "0", "-U", "-B", "32768", "-Z", "root", "-w"]);
    let ports: Vec<_> = ports.iter().map(|port| format!("tcp port {port}")).collect();
    let mut program = Program::start(tcpdump.arg(file.path()).arg(ports.join(" or ")));
    program.wait_for("listening on");
    program
}

/// What does not depend on when and by whom the traffic was seen: per connection and direction, in order.
fn essence(seen: &Seen) -> Vec<Value> {
    let mut records: Vec<Value> = seen
        .records
        .iter()
        .filter(|record| ["handshake", "frame", "message"].iter().any(|kind| record["kind"] == *kind))
        .cloned()
        .collect();
    // Stable: within a direction the order stays.
    records.sort_by_key(|record| (record["client"].to_string(), record["direction"].to_string()));
    for record in &mut records {
        let record = record.as_object_mut().unwrap();
        for key in ["time", "time_first", "connection"] {
            record.remove(key).unwrap_or_else(|| panic!("no {key}"));
        }
    }
    records
}

fn a_file_of_tcpdump_gives_the_same_as_the_live_run(interface: &str, loopback: IpAddr) {
    let server = Server::on(loopback);
    let file = CaptureFile::new(&format!("{interface}-{}", server.port()));
    let tcpdump = tcpdump(interface, &[server.port()], &file);
    let observer = watch(server.port(), &["--frames"]);
    let mut users = ["one", "two", "猪猪"].map(|name| {
        let mut user = Client::connect(server.address, "/");
        user.send(&format!(r#"{{"type":"login","name":"{name}"}}"#));
        user
    });
    for content in ["hi, all !", "", &"long ".repeat(10_000)] {
        for user in &mut users {
            user.send(&format!(r#"{{"type":"say","to_uid":"all","content":"{content}"}}"#));
        }
    }
    let mut echo = Client::connect(server.address, "/echo");
    for number in 0..100 {
        echo.echo(&"x".repeat(number * number));
    }
    echo.leave();
    users.into_iter().for_each(|user| drop(user.leave()));
    let live = seen_by(observer);
    live.assert_nothing_is_missing();
    // The kernel gives tcpdump what it has once a second, and tcpdump does not ask for the rest when it ends.
    std::thread::sleep(Duration::from_millis(1_500));
    let ended = tcpdump.interrupt();
    assert!(ended.stderr.contains("0 packets dropped by kernel"), "{}", ended.stderr);

    let from_file = Seen::new(Program::start(&mut observer_read(&file)).wait());
    from_file.assert_nothing_is_missing();
    let (live, from_file) = (essence(&live), essence(&from_file));
    assert!(live.len() > 200);
    for (live, from_file) in live.iter().zip(&from_file) {
        assert_eq!(live, from_file);
    }
    assert_eq!(live.len(), from_file.len());
}

fn observer_read(file: &CaptureFile) -> Command {
    observer(&["read", file.path().to_str().unwrap(), "--json", "--frames"])
}

/// Where no other test's traffic makes tcpdump lose packets.
fn in_a_quiet_network(act: fn()) {
    in_new_network_namespace(act).join().unwrap();
}

#[test]
fn a_file_that_tcpdump_wrote_on_loopback_gives_the_same_as_the_live_run() {
    in_a_quiet_network(|| a_file_of_tcpdump_gives_the_same_as_the_live_run("lo", Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn a_file_that_tcpdump_wrote_on_any_interface_gives_the_same_as_the_live_run() {
    in_a_quiet_network(|| {
        a_file_of_tcpdump_gives_the_same_as_the_live_run("any", Ipv6Addr::LOCALHOST.into());
    });
}

/// Packets without their time, each with the lines of its bytes, sorted: both have them in the order of their own hook.
fn without_times(lines: &[String]) -> Vec<String> {
    // With -A a line of payload may begin with anything.
    let behind_time = |line: &str| {
        let (time, packet) = line.split_once(' ')?;
        let is_time = time.len() >= 15
            && time.bytes().zip(*b"00:00:00.000000").all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            });
        is_time.then(|| packet.to_owned())
    };
    let mut packets: Vec<String> = Vec::new();
    for line in lines {
        if let Some(packet) = behind_time(line) {
            packets.push(packet);
        } else if let Some(packet) = packets.last_mut() {
            packet.push('\n');
            packet.push_str(line);
        }
    }
    packets.retain(|packet| packet.starts_with("IP"));
    packets.sort_unstable();
    packets
}

/// Connections that the client closes first, so that no packet meets the server's socket in TIME_WAIT, where the kernel
/// does not show it to the observer.
fn packets_are_those_that_tcpdump_prints(loopback: IpAddr) {
    for bytes in [None, Some("-X"), Some("-A")] {
        packets_are_those_that_tcpdump_prints_with(bytes, loopback);
    }
}

fn packets_are_those_that_tcpdump_prints_with(bytes: Option<&str>, loopback: IpAddr) {
    let server = Server::on(loopback);
    let port = server.port().to_string();
    let mut command = Command::new("tcpdump");
    // As root: a kernel's guest has no other user.
    command.args(["-n", "-i", "lo", "-s", "0", "-l", "-B", "32768", "-Z", "root"]).args(bytes);
    // What the hook is not called for is left out on both sides.
    let left_out = if sees_every_syn_ack(loopback) { "" } else { " and ip6[53] & 0x12 != 0x12" };
    command.arg(format!("tcp port {port}{left_out}"));
    let mut tcpdump = Program::start(&mut command);
    tcpdump.wait_for("listening on");
    let mut observer = Program::start(observer(&["--port", &port, "--packets"]).args(bytes));
    observer.wait_for("watching");
    for number in 0..5 {
        let mut client = Client::connect(server.address, "/echo");
        client.echo(&format!("hello {number}"));
        client.echo(&"long ".repeat(4_000));
        drop(client);
    }
    // Whoever closes with something unread resets the connection.
    let mut resets = Client::connect(server.address, "/echo");
    resets.send("nobody reads the answer");
    std::thread::sleep(Duration::from_millis(200));
    drop(resets);
    std::thread::sleep(Duration::from_millis(1_500));
    let (observer, tcpdump) = (observer.interrupt(), tcpdump.interrupt());
    assert!(tcpdump.stderr.contains("0 packets dropped by kernel"), "{}", tcpdump.stderr);
    // Interrupted, tcpdump ends the line on which a terminal shows "^C".
    let printed = tcpdump.stdout.strip_suffix(&[String::new()]).unwrap_or(&tcpdump.stdout);
    let (shown, expected) = (without_times(&observer.stdout), without_times(printed));
    let has_bytes = expected.iter().all(|packet| packet.contains('\n'));
    assert_eq!(has_bytes, bytes.is_some());
    assert!(expected.len() > 50);
    assert!(expected.iter().any(|line| line.contains("Flags [R")), "{expected:#?}");
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|packet| !other.contains(packet)).cloned().collect()
    };
    let (only_shown, only_expected) = (only(&shown, &expected), only(&expected, &shown));
    assert!(
        shown == expected,
        "only observer's: {only_shown:#?}, only tcpdump's: {only_expected:#?}, {} and {} lines",
        shown.len(),
        expected.len()
    );
}

#[test]
fn ipv4_packets_are_those_that_tcpdump_prints_meanwhile() {
    in_a_quiet_network(|| packets_are_those_that_tcpdump_prints(Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn ipv6_packets_are_those_that_tcpdump_prints_meanwhile() {
    in_a_quiet_network(|| packets_are_those_that_tcpdump_prints(Ipv6Addr::LOCALHOST.into()));
}

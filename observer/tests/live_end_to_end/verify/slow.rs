//! Members who do not read: a slow client is told from a server that leaves somebody out.
//!
//! Owns one chat in which somebody stops to read. Bounded: 60 KiB are said, more than the window of whoever is slow holds.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

use super::{Chat, User, Verdicts, member, text, verify};
use crate::support::Client;

/// A connection of which the kernel takes next to nothing that the program does not read.
fn narrow(server: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &4_096).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(server)).unwrap();
    TcpStream::from(socket)
}

#[test]
fn whoever_does_not_read_is_named_and_that_they_do_not() {
    let chat = Chat::start(&[]);
    let observer = verify(chat.port(), &[]);
    let slow = Client::over(narrow(chat.address), chat.address, "/");
    let slow = User::login_by(slow, "Slow", None);
    let mut ann = User::login(chat.address, "Ann", None);
    for say in 0..40 {
        ann.say(&format!("{say} {}", "x".repeat(1_500)));
    }
    // Until it counts. At the end of the run the message that was cut by the window is told, and may be any of them.
    thread::sleep(Duration::from_secs(11));
    let verdicts = Verdicts::of(observer);
    let violated = verdicts.that_are("violated");
    let faults: Vec<_> = violated
        .iter()
        .flat_map(|case| case["deviations"].as_array().unwrap())
        .map(|it| (text(&it["fault"]), member(it)))
        .collect();
    let slow_one = format!("{} ({} \"Slow\")", slow.client.address, slow.uid);
    assert!(faults.iter().all(|(fault, who)| fault == "blocked" && *who == slow_one), "{faults:?}");
    assert!((20..40).contains(&faults.len()), "{}", faults.len());
}

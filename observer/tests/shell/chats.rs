//! Chats made in memory: who logs in, what is said, who gets it, and who acknowledges it.
//!
//! Owns the messages of the built-in dialect, as its server sends them. Must not use the product. Bounded by the tests.

use crate::support::{Conversation, From, Pcap};

/// Packets of several connections, in one order, a millisecond apart.
#[derive(Default)]
pub struct Capture {
    pub packets: Vec<Vec<u8>>,
    /// Before which packets nothing passes for how many milliseconds.
    pauses: Vec<(usize, usize)>,
}

impl Capture {
    pub fn take(&mut self, user: &mut Conversation) {
        self.packets.append(&mut user.packets);
    }

    /// Nothing passes for so long.
    pub fn wait(&mut self, milliseconds: usize) {
        self.pauses.push((self.packets.len(), milliseconds));
    }

    /// The capture file.
    pub fn file(&self) -> Vec<u8> {
        let pcap = Pcap::default();
        let mut file = pcap.file(&[]);
        for (index, packet) in self.packets.iter().enumerate() {
            let pauses = self.pauses.iter().filter(|(before, _)| *before <= index);
            let paused: usize = pauses.map(|(_, milliseconds)| milliseconds).sum();
            file.extend(pcap.record(index + paused, packet));
        }
        file
    }

    /// Somebody who logs in, each message acknowledged.
    pub fn login(&mut self, client_port: u16, server_port: u16, name: &str, uid: u32) -> Conversation {
        let mut user = Conversation::upgraded_from(client_port, server_port);
        user.text(From::Client, &format!(r#"{{"type":"login","name":"{name}"}}"#));
        user.text(From::Server, r#"{"type":"user_list","user_list":[]}"#);
        user.text(From::Server, &login(name, uid));
        user.acknowledge(From::Client);
        self.take(&mut user);
        user
    }

    pub fn say(&mut self, user: &mut Conversation, content: &str) {
        user.text(From::Client, &format!(r#"{{"type":"say","to_uid":"all","content":"{content}"}}"#));
        self.take(user);
    }

    /// The server passes on what alice said, uid 1.
    pub fn pass_on(&mut self, user: &mut Conversation, content: &str) {
        let say = format!(r#"{{"type":"say","from_uid":1,"to_uid":"all","content":"{content}"}}"#);
        user.text(From::Server, &say);
        self.take(user);
    }

    pub fn acknowledge(&mut self, user: &mut Conversation) {
        user.acknowledge(From::Client);
        self.take(user);
    }

    /// The same to all of them, each of whom acknowledges it.
    pub fn deliver(&mut self, users: [&mut Conversation; 2], content: &str) {
        for user in users {
            self.pass_on(user, content);
            self.acknowledge(user);
        }
    }

    pub fn announce(&mut self, user: &mut Conversation, name: &str, uid: u32) {
        user.text(From::Server, &login(name, uid));
        self.acknowledge(user);
    }
}

pub fn login(name: &str, uid: u32) -> String {
    format!(r#"{{"type":"login","uid":{uid},"name":"{name}"}}"#)
}

/// Alice and bob, who know of each other.
pub fn two_users(capture: &mut Capture) -> [Conversation; 2] {
    let mut alice = capture.login(40_001, 7272, "alice", 1);
    let bob = capture.login(40_002, 7272, "bob", 2);
    capture.announce(&mut alice, "bob", 2);
    [alice, bob]
}

/// Alice says something, and both have it.
pub fn heard_by_both(content: &str) -> (Capture, [Conversation; 2]) {
    let mut capture = Capture::default();
    let [mut alice, mut bob] = two_users(&mut capture);
    capture.say(&mut alice, content);
    capture.deliver([&mut alice, &mut bob], content);
    (capture, [alice, bob])
}

/// Alice says something, and so far only she has it.
pub fn heard_by_alice(content: &str) -> (Capture, [Conversation; 2]) {
    let mut capture = Capture::default();
    let [mut alice, bob] = two_users(&mut capture);
    capture.say(&mut alice, content);
    capture.pass_on(&mut alice, content);
    capture.acknowledge(&mut alice);
    (capture, [alice, bob])
}

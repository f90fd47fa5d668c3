//! Which dialect messages are read by, as a chat goes on.
//!
//! Owns the claims about the choice. Must not know how messages are read. Bounded: small conversations.

mod support;

use std::sync::Arc;

use observer_core::engine::Config;
use observer_core::flow::{Rules, parse};
use observer_core::record::Kind;
use observer_core::{Engine, Event, Record};
use support::{Conversation, masked, unmasked};

const PING: &str = r#"{"type":"ping"}"#;
const LIST_2014_08: &str = r#"{"type":"user_list","user_list":[]}"#;
const LOGIN_2014_09: &str = r#"{"type":"login","client_id":1,"client_name":"a","client_list":[]}"#;
const LOGIN_2015_11: &str = r#"{"type":"login","client_id":"x","client_name":"a"}"#;
const SAY_SINCE_2014_09: &str = r#"{"type":"say","from_client_id":1,"to_client_id":"all","content":"hi"}"#;

/// A conversation, with what is new of it taken away.
struct Observed {
    engine: Engine,
    read_by: Vec<String>,
}

impl Observed {
    fn new(rules: Arc<Rules>) -> Self {
        Self { engine: Engine::new(Config { rules, ..Config::default() }), read_by: Vec::new() }
    }

    fn built_in() -> Self {
        Self::new(Rules::built_in())
    }

    fn see(&mut self, conversation: &mut Conversation) {
        let read_by = &mut self.read_by;
        let mut sink = |record: &Record<'_>| {
            if let Kind::Message(message) = &record.kind {
                let dialect = message.chat.map_or("none", |chat| &chat.dialect.name);
                read_by.push(dialect.trim_start_matches("workerman-chat-").to_owned());
            }
        };
        for wire in conversation.packets.drain(..) {
            self.engine.handle(Event::Packet(wire.packet()), &mut sink);
        }
    }

    fn opened(&mut self, client_port: u16, server_port: u16) -> Conversation {
        let mut conversation = Conversation::new(client_port);
        conversation.server.set_port(server_port);
        conversation.upgrade();
        self.see(&mut conversation);
        conversation
    }

    /// Which dialect reads what the server sends next.
    fn server(&mut self, conversation: &mut Conversation, text: &str) -> String {
        conversation.server_sends(&unmasked(text));
        self.see(conversation);
        self.read_by.pop().unwrap()
    }

    /// Which dialect reads what the client sends next.
    fn client(&mut self, conversation: &mut Conversation, text: &str) -> String {
        conversation.client_sends(&masked(text));
        self.see(conversation);
        self.read_by.pop().unwrap()
    }
}

#[test]
fn what_only_some_dialects_read_narrows_the_choice_and_until_then_the_newest_is_right() {
    let mut observed = Observed::built_in();
    let mut it = observed.opened(40_000, 7272);
    assert_eq!(observed.server(&mut it, PING), "2015-11");
    assert_eq!(observed.server(&mut it, "no JSON"), "none");
    assert_eq!(observed.server(&mut it, LIST_2014_08), "2014-08");
    assert_eq!(observed.server(&mut it, PING), "2014-08");
    let mut it = observed.opened(40_001, 7273);
    assert_eq!(observed.server(&mut it, SAY_SINCE_2014_09), "2015-11");
    assert_eq!(observed.server(&mut it, LOGIN_2014_09), "2014-09");
    assert_eq!(observed.server(&mut it, SAY_SINCE_2014_09), "2014-09");
}

#[test]
fn what_one_connection_tells_of_a_chat_holds_for_all_of_it_and_for_no_other() {
    let mut observed = Observed::built_in();
    let mut one = observed.opened(40_000, 7272);
    observed.server(&mut one, LOGIN_2014_09);
    let mut other = observed.opened(40_001, 7272);
    assert_eq!(observed.server(&mut other, PING), "2014-09");
    assert_eq!(observed.client(&mut other, r#"{"type":"pong"}"#), "2014-09");
    let mut elsewhere = observed.opened(40_002, 7273);
    assert_eq!(observed.server(&mut elsewhere, PING), "2015-11");
}

#[test]
fn what_clients_send_is_read_and_narrows_nothing() {
    let mut observed = Observed::built_in();
    let mut it = observed.opened(40_000, 7272);
    assert_eq!(observed.client(&mut it, r#"{"type":"login","name":"a"}"#), "2014-08");
    assert_eq!(observed.server(&mut it, PING), "2015-11");
    observed.server(&mut it, LIST_2014_08);
    assert_eq!(observed.client(&mut it, r#"{"type":"login","client_name":"a"}"#), "2015-11");
    assert_eq!(observed.server(&mut it, PING), "2014-08");
}

#[test]
fn a_server_that_speaks_another_dialect_begins_the_choice_anew() {
    let mut observed = Observed::built_in();
    let mut it = observed.opened(40_000, 7272);
    observed.server(&mut it, LIST_2014_08);
    assert_eq!(observed.server(&mut it, SAY_SINCE_2014_09), "2015-11");
    assert_eq!(observed.server(&mut it, LOGIN_2014_09), "2014-09");
    assert_eq!(observed.server(&mut it, LOGIN_2015_11), "2015-11");
}

#[test]
fn with_its_last_connection_a_chat_is_forgotten() {
    let mut observed = Observed::built_in();
    let [mut one, mut other] = [40_000, 40_001].map(|port| observed.opened(port, 7272));
    observed.server(&mut one, LIST_2014_08);
    for (it, then) in [(&mut one, "2014-08"), (&mut other, "2015-11")] {
        it.fin(true).fin(false);
        observed.see(it);
        let mut next = observed.opened(it.client.port() + 100, 7272);
        assert_eq!(observed.server(&mut next, PING), then);
        next.fin(true).fin(false);
        observed.see(&mut next);
    }
}

#[test]
fn what_is_read_by_its_looks_narrows_nothing() {
    let mut observed = Observed::built_in();
    let mut it = observed.opened(40_000, 7272);
    // The header of a frame is lost, and the next one is found again at the beginning of a segment.
    it.server_sends(&unmasked("lost"));
    it.packets.remove(0);
    it.server_sends(&unmasked(LIST_2014_08));
    observed.see(&mut it);
    assert_eq!(observed.read_by.pop().unwrap(), "2014-08");
    assert_eq!(observed.server(&mut it, PING), "2015-11");
}

#[test]
fn one_s_own_rules_come_first() {
    let file = "schema = 1\nname = 'mine'\n[[message]]\ntype = 'x'\nwhen = { '/type' = 'ping' }\n";
    let mut observed = Observed::new(Arc::new(Rules::new(vec![parse(file).unwrap()])));
    let mut it = observed.opened(40_000, 7272);
    assert_eq!(observed.server(&mut it, PING), "mine");
    assert_eq!(observed.server(&mut it, LIST_2014_08), "2014-08");
    assert_eq!(observed.server(&mut it, PING), "2014-08");
}

//! Right servers that were once called guilty: by second logins, uids that are given again, and what is on its way or was
//! not seen meanwhile.

use super::*;

impl Play {
    fn enters(&mut self, id: u64, name: &str, room: &str) {
        self.client(id, &format!(r#"{{"type":"login","name":"{name}","room_id":"{room}"}}"#));
        self.server(id, r#"{"type":"user_list","user_list":[]}"#);
        let login = format!(r#"{{"type":"login","uid":{},"name":"{name}","time":"x"}}"#, 100 + id);
        self.server(id, &login);
        self.receives(id);
    }

    fn is_told(&mut self, to: u64, what: &str, id: u64, name: &str) {
        self.server(to, &format!(r#"{{"type":"{what}","uid":{},"name":"{name}","time":"x"}}"#, 100 + id));
        self.receives(to);
    }
}

/// A server that moves whoever logs in again (as workerman's Gateway::joinGroup does).
#[test]
fn a_second_login_may_move_somebody_to_another_room() {
    let mut play = Play::by(&[]);
    for (id, room) in [(1, "a"), (2, "b"), (3, "a")] {
        play.open(id);
        play.enters(id, &format!("n{id}"), room);
        if id == 3 {
            play.is_told(1, "login", 3, "n3");
        }
    }
    play.wait(11_000);
    // n3 logs in again, to b.
    play.enters(3, "n3", "b");
    play.is_told(2, "login", 3, "n3");
    play.is_told(1, "logout", 3, "x");
    play.wait(11_000);
    play.asks_to_say(3, "hi");
    play.copy(3, 3, "hi");
    play.copy(3, 2, "hi");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

/// Somebody late is in b; whoever is known moves a -> b by a second login, and is heard in b.
#[test]
fn whoever_logs_in_again_shows_nobody_where_they_are() {
    let mut play = Play::by(&[]);
    play.join_late(1); // in b
    play.open(2);
    play.enters(2, "n2", "a");
    play.open(3);
    play.enters(3, "n3", "a");
    play.is_told(2, "login", 3, "n3");
    play.wait(11_000);
    play.enters(3, "n3", "b");
    play.is_told(1, "login", 3, "n3");
    play.is_told(2, "logout", 3, "x");
    play.wait(11_000);
    play.taken();
    play.asks_to_say(2, "hi");
    play.copy(2, 2, "hi");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

/// Two who were there before: one logs in again, to another room; what they said in the first room is still on its way.
#[test]
fn what_somebody_said_elsewhere_may_be_on_its_way_when_they_log_in_again() {
    let mut play = Play::by(&[]);
    for id in [1, 2] {
        play.join_late(id);
    } // both in a
    play.open(3);
    play.enters(3, "n3", "b");
    play.wait(11_000);
    // 1 said something in a just before it moved to b; 2 reads slowly.
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.enters(1, "n1", "b");
    play.is_told(3, "login", 1, "n1");
    play.copy(1, 2, "hi");
    play.is_told(2, "logout", 1, "x");
    play.wait(11_000);
    play.taken();
    play.asks_to_say(3, "ho");
    play.copy(3, 3, "ho");
    play.copy(3, 1, "ho");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

const LEAVES: &str = r#"
[[message]]
type = "leave"
from = "client"
does = "leave"
when = { "/type" = "leave" }
"#;

/// Leaves by a message and comes again, to another room; what was said in the first one is still on its way.
#[test]
fn what_somebody_said_elsewhere_may_be_on_its_way_when_they_left_and_came_again() {
    let rules = include_str!("../../built_in/workerman-chat-2014-08.toml").replacen(
        "# What has to happen.",
        &format!("{LEAVES}\n# What has to happen."),
        1,
    );
    let mut play = Play::by(&[&rules]);
    play.join_late(1); // in a
    play.open(3);
    play.enters(3, "n3", "b");
    play.open(2);
    play.enters(2, "n2", "a");
    play.wait(11_000);
    // 2 says something in a, leaves, and enters b; 1 reads slowly.
    play.asks_to_say(2, "hi");
    play.copy(2, 2, "hi");
    play.client(2, r#"{"type":"leave"}"#);
    play.enters(2, "n2", "b");
    play.is_told(3, "login", 2, "n2");
    play.copy(2, 1, "hi");
    play.is_told(1, "logout", 2, "x");
    play.wait(11_000);
    play.taken();
    play.asks_to_say(3, "ho");
    play.copy(3, 3, "ho");
    play.copy(3, 2, "ho");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

/// A uid is used again: of the one who had it before something is on its way yet.
#[test]
fn what_the_last_holder_of_a_uid_said_may_be_on_its_way_when_the_next_one_comes() {
    let mut play = Play::by(&[]);
    for id in [1, 2] {
        play.join_late(id);
    } // both in a; 2 has uid 102
    play.open(3);
    play.enters(3, "n3", "b");
    play.wait(11_000);
    play.asks_to_say(2, "bye");
    play.sends_close(2, ClientToServer);
    play.closes(2, How::CloseFrame, Some(1_000));
    // The next one gets the uid 102, in b.
    play.open(4);
    play.client(4, r#"{"type":"login","name":"n4","room_id":"b"}"#);
    play.server(4, r#"{"type":"user_list","user_list":[]}"#);
    play.is_told(4, "login", 2, "n4");
    play.is_told(3, "login", 2, "n4");
    // 1 reads slowly.
    play.copy(2, 1, "bye");
    play.is_told(1, "logout", 2, "x");
    play.wait(11_000);
    play.taken();
    play.asks_to_say(3, "ho");
    play.copy(3, 3, "ho");
    play.copy(3, 4, "ho");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

/// A uid is used again by somebody whose login cannot be read.
#[test]
fn whoever_has_the_uid_of_somebody_who_left_may_have_come_by_a_login_that_cannot_be_read() {
    for readable in [true, false] {
        let mut play = Play::chat(&["ann", "bob"]);
        play.sends_close(2, ClientToServer);
        play.closes(2, How::CloseFrame, Some(1_000));
        play.is_told(1, "logout", 2, "x");
        play.open(3);
        play.client(3, &format!(r#"{{"type":"login","name":"cat","x":"{}"}}"#, "x".repeat(70_000)));
        if readable {
            play.asks_to_say(3, "hi");
        } else {
            play.client(3, &"x".repeat(70_000));
        }
        play.server(3, r#"{"type":"user_list","user_list":[]}"#);
        let login = r#"{"type":"login","uid":102,"name":"cat","time":"x"}"#;
        play.server(1, login);
        play.server(3, login);
        play.copy(2, 1, "hi");
        play.copy(2, 3, "hi");
        let v = play.verdicts_after(20_000);
        assert_no_fault(&v);
    }
}

/// Order in a room: what is hidden of the other's sender, and of the other recipient.
#[test]
fn of_a_room_s_order_nothing_is_proved_by_what_others_said_or_got_unseen() {
    let rules = include_str!("../../built_in/workerman-chat-2014-08.toml")
        .replace("among = \"sender\"", "among = \"room\"");
    let mut play = Play::chat_by(&[&rules], &["ann", "bob", "cat"]);
    play.wait(20_000);
    play.taken();
    // Order of the server: yo (unseen, of bob), hi (ann), yo (bob). Nobody saw bob say the first.
    *play.ends.entry((2, ClientToServer)).or_default() += 50;
    play.gap(2, ClientToServer);
    play.asks_to_say(2, "yo");
    play.asks_to_say(1, "hi");
    // Of what cat gets the first yo is hidden.
    play.gap(3, ServerToClient);
    play.copy(1, 3, "hi");
    play.copy(2, 3, "yo");
    for to in [1, 2] {
        play.copy(2, to, "yo");
        play.copy(1, to, "hi");
        play.copy(2, to, "yo");
    }
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

/// A presumed uid that turns out to be wrong stays somebody's.
#[test]
fn a_uid_that_was_presumed_wrongly_does_not_become_known_by_another() {
    let mut play = a_chat_with_a_newcomer();
    play.wait(10_000);
    // 109 is connected where nobody looks, and says the same as 1, at the same time.
    play.asks_to_say(1, "hi");
    play.copy(9, 1, "hi");
    assert_eq!(play.members.by_uid((0, 7272), &Uid::Number(109)), Some(ConnectionId(1)));
    for to in [2, 3] {
        play.copy(9, to, "hi");
    }
    // It is refused its own words; and logs in again, and is told its uid.
    play.enters(1, "n1", "a");
    for to in [2, 3] {
        play.is_told(to, "login", 1, "n1");
    }
    for _ in 0..3 {
        play.wait(20_000);
    }
    play.taken();
    for to in [1, 2, 3] {
        play.copy(9, to, "somebody says this where nobody looks");
    }
    let v = play.verdicts_after(30_000);
    assert_no_fault(&v);
}

/// Whom the chat calls so itself loses that to a presumption that ends.
#[test]
fn a_uid_that_the_chat_gives_to_somebody_is_theirs_whatever_was_presumed() {
    let mut play = a_chat_with_a_newcomer();
    play.wait(10_000);
    play.asks_to_say(1, "hi");
    play.copy(4, 1, "hi"); // 104 said it where nobody looks; 1 is presumed to be 104
    // the server gives 104 to a newcomer (the former was elsewhere and left), known:
    play.open(4);
    play.enters(4, "dan", "a");
    for to in [1, 2, 3] {
        play.is_told(to, "login", 4, "dan");
    }
    assert_eq!(play.members.by_uid((0, 7272), &Uid::Number(104)), Some(ConnectionId(4)));
    // 1's own copy.
    play.copy(1, 1, "hi");
    assert_eq!(play.members.by_uid((0, 7272), &Uid::Number(104)), Some(ConnectionId(4)));
}

/// A second login of somebody who was there before, which the server ignores, as it does that of others.
#[test]
fn a_second_login_of_somebody_who_was_there_before_may_be_ignored() {
    for late in [false, true] {
        let mut play = a_chat_with_a_newcomer();
        play.asks_to_say(3, "hi");
        for to in 1..=3 {
            play.copy(3, to, "hi");
        }
        play.wait(20_000);
        play.taken();
        play.client(if late { 1 } else { 3 }, r#"{"type":"login","name":"x","room_id":"a"}"#);
        let v = play.verdicts_after(20_000);
        assert_no_fault(&v);
    }
}

/// A login that is too long for the observer, and not for the server.
#[test]
fn a_login_that_is_too_long_to_read_may_have_been_one() {
    let mut play = Play::chat(&["ann"]);
    play.open(2);
    play.client(2, &format!(r#"{{"type":"login","name":"bob","x":"{}"}}"#, "x".repeat(70_000)));
    play.server(2, r#"{"type":"user_list","user_list":[]}"#);
    let login = r#"{"type":"login","uid":102,"name":"bob","time":"x"}"#;
    play.server(1, login);
    play.server(2, login);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 2, "hi");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

#[test]
fn a_logout_that_is_on_its_way_does_not_end_the_next_holder_of_its_uid() {
    let mut play = Play::chat(&["ann", "bob", "cat"]);
    play.sends_close(3, ClientToServer);
    play.closes(3, How::CloseFrame, Some(1_000));
    play.is_told(1, "logout", 3, "cat");
    // Bob reads slowly. The next one gets the uid 103.
    play.open(4);
    play.client(4, r#"{"type":"login","name":"dan"}"#);
    play.server(4, r#"{"type":"user_list","user_list":[]}"#);
    for to in [4, 1] {
        play.is_told(to, "login", 3, "dan");
    }
    play.is_told(2, "logout", 3, "cat");
    play.is_told(2, "login", 3, "dan");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

/// Somebody leaves by a message that is hidden, while something is on its way to them.
#[test]
fn what_was_on_its_way_does_not_prove_that_nobody_left_unseen() {
    let rules = include_str!("../../built_in/workerman-chat-2014-08.toml").replacen(
        "# What has to happen.",
        &format!("{LEAVES}\n# What has to happen."),
        1,
    );
    // This server tells nobody who leaves.
    let start = rules.find("[[flow]]\nname = \"logout\"").unwrap();
    let end = start + rules[start + 1..].find("[[flow]]\nname").unwrap() + 1;
    let rules = format!("{}{}", &rules[..start], &rules[end..]);
    let mut play = Play::by(&[&rules]);
    for (id, name) in [(1, "ann"), (2, "bob")] {
        play.open(id);
        play.login(id, name);
    }
    play.wait(11_000);
    play.asks_to_say(1, "x");
    play.copy(1, 1, "x");
    play.gap(2, ClientToServer); // bob leaves, unseen
    play.copy(1, 2, "x"); // was on its way
    play.wait(20_000);
    play.taken();
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    let v = play.verdicts_after(20_000);
    assert_no_fault(&v);
}

use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;
use crate::flow::parse;
use crate::flow::verdict::{Case, Outcome};
use crate::record::{
    Account, CaptureLoss, Close, ConnectionOpened, Frame, Gap, Handshake, Payload, Received,
};
use crate::websocket::frame::FrameHeader;

use Direction::{ClientToServer, ServerToClient};

/// A chat as its records tell it, and what the verifier tells of it.
struct Play {
    rules: Arc<Rules>,
    members: Members,
    verifier: Verifier,
    milliseconds: u64,
    ends: HashMap<(u64, Direction), u64>,
    told: Vec<String>,
    members_of_room: Vec<(u64, u64, String)>,
}

fn line(told: &Told<'_>) -> String {
    let Case { flow, outcome, arrived, expected, trigger, deviations, causes, .. } = told.case;
    let stage = match told.stage {
        Stage::Complete => "complete",
        Stage::Overdue => "overdue",
        Stage::Verdict => outcome.name(),
        Stage::Refused => "refused",
        Stage::Unheard => "unheard",
    };
    let content = trigger.content.as_ref().map_or_else(String::new, |quote| format!(" {:?}", &*quote.text));
    let text = trigger.text.as_ref().map_or_else(String::new, |quote| format!(" {}", quote.text));
    let fields = trigger.fields.iter().map(|field| format!(" {}={:?}", field.name, field.value));
    let says = [content, text, fields.collect()].concat();
    let mut said = format!("{stage} {flow} #{}{says} {arrived}/{expected}", trigger.party.connection);
    if told.case.others_unknown > 0 {
        said += &format!("+{}?", told.case.others_unknown);
    }
    for deviation in *deviations {
        let name = deviation.party.name.as_deref().unwrap_or("?");
        said += &format!(
            ", {} {} #{} {name}",
            deviation.fault.name(),
            deviation.kind,
            deviation.party.connection
        );
        if let Some(seen) = &deviation.seen {
            said += &format!(" {:?}", &*seen.text);
        }
    }
    for cause in causes.iter() {
        said += &format!(", {}", cause.name());
    }
    said
}

impl Play {
    fn by(rules: &[&str]) -> Self {
        let rules =
            rules.iter().map(|rules| parse(rules).unwrap_or_else(|error| panic!("{error}"))).collect();
        let rules = Arc::new(Rules::new(rules));
        Self {
            members: Members::default(),
            verifier: Verifier::new(Arc::clone(&rules)),
            rules,
            milliseconds: 1_000,
            ends: HashMap::new(),
            told: Vec::new(),
            members_of_room: Vec::new(),
        }
    }

    /// The chat, with these names, of connections 1 and so on, logged in and told of.
    fn chat(names: &[&str]) -> Self {
        Self::chat_by(&[], names)
    }

    /// The same, by these rules.
    fn chat_by(rules: &[&str], names: &[&str]) -> Self {
        let mut play = Self::by(rules);
        for (connection, name) in (1..).zip(names) {
            play.open(connection);
            play.login(connection, name);
        }
        play.wait(3_000);
        assert!(
            play.told.iter().all(|told| told.starts_with("complete") || told.starts_with("held")),
            "{:?}",
            play.told
        );
        play.told.clear();
        play
    }

    fn time(&self) -> Time {
        Time::from_file(self.milliseconds * 1_000_000)
    }

    fn connection(id: u64) -> Connection {
        Connection {
            id: ConnectionId(id),
            client: SocketAddr::from(([127, 0, 0, 1], u16::try_from(40_000 + id).unwrap())),
            server: SocketAddr::from(([127, 0, 0, 1], 7272)),
            interface: None,
            scope: 0,
            client_claim: None,
        }
    }

    fn tell(&mut self, connection: Option<u64>, kind: Kind<'_>) -> Part {
        let owner = connection.map(Self::connection);
        let stream_end = kind
            .direction()
            .zip(connection)
            .map(|(direction, id)| self.ends.get(&(id, direction)).copied().unwrap_or_default());
        let record = Record { time: self.time(), connection: owner.as_ref(), stream_end, kind };
        let closes = matches!(record.kind, Kind::ConnectionClosed(_));
        if !closes {
            self.members.learn(&record);
        }
        let Self { verifier, members, told, .. } = self;
        let part = verifier.handle_record(&record, members, &mut |it| told.push(line(it)));
        if closes {
            self.members.learn(&record);
        }
        part
    }

    fn wait(&mut self, milliseconds: u64) {
        self.milliseconds += milliseconds;
        let now = self.time();
        let Self { verifier, told, .. } = self;
        verifier.handle_timeout(now, &mut |it| told.push(line(it)));
    }

    fn open(&mut self, id: u64) {
        self.tell(Some(id), Kind::ConnectionOpened(ConnectionOpened { from_start: true, was_listed: false }));
        self.tell(
            Some(id),
            Kind::Handshake(Handshake {
                direction: ServerToClient,
                time_first: Time::default(),
                method: None,
                path: None,
                status: Some(101),
                reason: None,
                is_upgrade: true,
                headers: &[],
                subprotocol: None,
                extensions: &[],
                accepted: Some(true),
            }),
        );
    }

    fn join_late(&mut self, id: u64) {
        self.tell(Some(id), Kind::ConnectionOpened(ConnectionOpened { from_start: false, was_listed: true }));
    }

    fn says(&mut self, id: u64, direction: Direction, text: &str) -> Part {
        *self.ends.entry((id, direction)).or_default() += text.len() as u64;
        let rules = Arc::clone(&self.rules);
        let first = match self.verifier.chats.get(&(0, 7272)).and_then(|chat| chat.dialect) {
            Some(dialect) => DialectSet::one(dialect),
            None => DialectSet::ALL,
        };
        let read = rules.read(first, true, direction, Opcode::Text, text);
        let message = Message {
            direction,
            time_first: Time::default(),
            opcode: Opcode::Text,
            masked: false,
            compressed: false,
            frames: 1,
            length: Some(text.len() as u64),
            wire_length: 0,
            payload: Payload { text: Some(text), known: text.as_bytes(), ..Payload::default() },
            chat: read.as_ref().map(|read| &read.event),
            resynchronised: false,
        };
        self.tell(Some(id), Kind::Message(message))
    }

    fn client(&mut self, id: u64, text: &str) -> Part {
        self.says(id, ClientToServer, text)
    }

    fn server(&mut self, id: u64, text: &str) -> Part {
        self.says(id, ServerToClient, text)
    }

    /// The client has all that it was sent.
    fn receives(&mut self, id: u64) {
        let to = self.ends.get(&(id, ServerToClient)).copied().unwrap_or_default();
        self.tell(Some(id), Kind::Received(Received { direction: ServerToClient, to, is_full: false }));
    }

    fn delivered(&mut self, id: u64, text: &str) {
        assert_ne!(self.server(id, text), Part::Nothing, "{text} is of no case");
        self.receives(id);
    }

    fn login(&mut self, id: u64, name: &str) {
        let uid = 100 + id;
        self.client(id, &format!(r#"{{"type":"login","name":"{name}"}}"#));
        self.members_of_room.push((id, uid, name.to_owned()));
        self.delivered(id, r#"{"type":"user_list","user_list":[]}"#);
        let login = format!(r#"{{"type":"login","uid":{uid},"name":"{name}","time":"x"}}"#);
        for (member, _, _) in self.members_of_room.clone() {
            self.delivered(member, &login);
        }
    }

    fn asks_to_say(&mut self, id: u64, content: &str) {
        self.client(id, &format!(r#"{{"type":"say","to_uid":"all","content":"{content}"}}"#));
    }

    fn copy(&mut self, from: u64, to: u64, content: &str) -> Part {
        let part = self.server(to, &say(from, content));
        self.receives(to);
        part
    }

    /// Everybody gets it.
    fn fan_out(&mut self, from: u64, content: &str) {
        for (member, _, _) in self.members_of_room.clone() {
            assert_eq!(self.copy(from, member, content), Part::OfCase);
        }
    }

    fn gap(&mut self, id: u64, direction: Direction) {
        let cause = GapCause::Limit;
        self.tell(Some(id), Kind::Gap(Gap { direction, offset: 0, length: 9, cause }));
    }

    fn loses_packets(&mut self, packets: u64) {
        self.tell(None, Kind::CaptureLoss(CaptureLoss { packets }));
    }

    fn sends_close(&mut self, id: u64, direction: Direction) {
        let header = FrameHeader {
            fin: true,
            rsv1: false,
            rsv2: false,
            rsv3: false,
            opcode: Opcode::Close,
            mask: None,
            payload_length: 2,
            header_length: 2,
        };
        let frame = Frame {
            direction,
            time_first: Time::default(),
            header,
            payload: Payload::default(),
            close: Some(Close { code: Some(1_000), reason: "" }),
            round_trip: None,
            wire: None,
            resynchronised: false,
        };
        self.tell(Some(id), Kind::Frame(frame));
    }

    fn closes(&mut self, id: u64, how: How, code: Option<u16>) {
        self.members_of_room.retain(|(member, _, _)| *member != id);
        let closed = ConnectionClosed {
            closed_by: None,
            how,
            code,
            reason: "",
            idle: Duration::ZERO,
            duration: Duration::ZERO,
            account: [Account::default(); 2],
        };
        self.tell(Some(id), Kind::ConnectionClosed(closed));
    }

    fn end(&mut self) {
        self.tell(None, Kind::Summary(Box::default()));
    }

    fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn verdicts(&mut self) -> Vec<String> {
        self.end();
        let mut told = self.taken();
        let others = ["complete", "overdue", "unheard"];
        told.retain(|told| !others.iter().any(|other| told.starts_with(other)));
        told
    }
}

fn say(from: u64, content: &str) -> String {
    let uid = 100 + from;
    format!(r#"{{"type":"say","from_uid":{uid},"to_uid":"all","content":"{content}","time":"x"}}"#)
}

fn private(from: u64, to: u64, content: &str) -> String {
    let (from, to) = (100 + from, 100 + to);
    format!(r#"{{"type":"say","from_uid":{from},"to_uid":{to},"content":"{content}","time":"x"}}"#)
}

#[test]
fn what_all_got_is_complete_at_once_and_held_when_nothing_more_can_come() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    assert!(play.taken().is_empty());
    play.fan_out(1, "hi");
    assert_eq!(play.taken(), [r#"complete say #1 "hi" 2/2"#]);
    play.wait(2_000);
    assert_eq!(play.taken(), [r#"held say #1 "hi" 2/2"#]);
    assert!(play.verdicts().is_empty());
}

#[test]
fn it_is_not_there_before_it_is_acknowledged() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.server(2, &say(1, "hi"));
    assert!(play.taken().is_empty());
    // It may be there, and its acknowledgment be delayed.
    play.wait(2_499);
    assert!(play.taken().is_empty());
    play.wait(1);
    assert_eq!(play.taken(), [r#"overdue say #1 "hi" 1/2, unacknowledged say #2 bob"#]);
    play.receives(2);
    assert_eq!(play.taken(), [r#"late say #1 "hi" 2/2, late say #2 bob"#]);
}

#[test]
fn what_was_sent_in_time_is_not_late_since_its_acknowledgment_is_delayed() {
    for (delay, expected) in [(500, "held"), (501, "late")] {
        let mut play = Play::chat(&["ann", "bob"]);
        play.asks_to_say(1, "hi");
        play.copy(1, 1, "hi");
        play.wait(1_990);
        play.server(2, &say(1, "hi"));
        play.wait(delay);
        play.receives(2);
        let verdicts = play.verdicts_after(3_000);
        assert!(verdicts[0].starts_with(&format!(r#"{expected} say #1 "hi" 2/2"#)), "{delay}: {verdicts:?}");
    }
}

#[test]
fn a_private_message_whose_recipient_waits_and_leaves_without_it_is_not_held() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.client(1, r#"{"type":"say","to_uid":"102","content":"psst"}"#);
    play.wait(1_500);
    play.sends_close(2, ClientToServer);
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts[0], r#"inconclusive private #1 "psst" 0/1, lost say #2 bob, left_too_soon"#);
}

#[test]
fn who_leaves_unanswered_when_the_time_is_up_was_not_refused() {
    for (stays, expected) in [(1_999, "inconclusive"), (2_000, "violated")] {
        let mut play = Play::chat(&["ann", "bob"]);
        play.client(1, r#"{"type":"say","to_uid":"102","content":"psst"}"#);
        play.wait(stays);
        play.sends_close(1, ClientToServer);
        let verdicts = play.verdicts_after(11_000);
        assert!(verdicts.iter().any(|told| told.starts_with(&format!("{expected} private"))), "{verdicts:?}");
    }
}

#[test]
fn who_vanishes_is_gone_once_the_server_says_so() {
    let mut play = Play::chat(&["ann", "bob", "cat"]);
    let logout = r#"{"type":"logout","uid":102,"name":"bob","time":"x"}"#;
    for member in [1, 3] {
        play.delivered(member, logout);
    }
    play.wait(3_000);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 3, "hi");
    assert_eq!(play.verdicts_after(11_000), ["held logout #2 2/2", r#"held say #1 "hi" 2/2"#]);
}

#[test]
fn a_copy_that_never_comes_is_lost_and_whose_it_is_is_said() {
    let mut play = Play::chat(&["ann", "bob", "cat"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 3, "hi");
    play.wait(2_000);
    assert_eq!(play.taken(), [r#"overdue say #1 "hi" 2/3, lost say #2 bob"#]);
    play.wait(8_000);
    assert_eq!(play.taken(), [r#"violated say #1 "hi" 2/3, lost say #2 bob"#]);
}

#[test]
fn equal_contents_are_matched_one_by_one() {
    let mut play = Play::chat(&["ann", "bob"]);
    for _ in 0..3 {
        play.asks_to_say(1, "hi");
    }
    for _ in 0..3 {
        play.copy(1, 1, "hi");
    }
    for _ in 0..2 {
        play.copy(1, 2, "hi");
    }
    let verdicts = play.verdicts_after(11_000);
    assert_eq!(verdicts.iter().filter(|told| told.starts_with("held say")).count(), 2, "{verdicts:?}");
    assert_eq!(verdicts.last().unwrap(), r#"violated say #1 "hi" 1/2, lost say #2 bob"#);
}

impl Play {
    fn verdicts_after(&mut self, milliseconds: u64) -> Vec<String> {
        self.wait(milliseconds);
        self.verdicts()
    }
}

#[test]
fn a_copy_too_many_is_found_at_whom_it_came_to() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.fan_out(1, "hi");
    assert_eq!(play.copy(1, 2, "hi"), Part::Nothing);
    assert_eq!(play.verdicts_after(2_000), [r#"violated say #1 "hi" 2/2, duplicated say #2 bob "hi""#]);
    let totals: Vec<_> = play.verifier.totals().filter(|totals| totals.of(Outcome::Violated) > 0).collect();
    assert_eq!(totals.len(), 1, "it is told once: {totals:?}");
}

#[test]
fn other_words_in_its_place_are_an_altered_copy() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 2, "ho");
    assert_eq!(play.verdicts_after(11_000), [r#"violated say #1 "hi" 1/2, altered say #2 bob "ho""#]);
}

#[test]
fn what_comes_in_its_place_is_an_altered_copy_though_it_has_no_words() {
    let mut play = Play::chat(&["ann"]);
    play.open(2);
    play.client(2, r#"{"type":"login","name":"bob"}"#);
    play.delivered(2, r#"{"type":"user_list","user_list":[]}"#);
    play.delivered(2, r#"{"type":"login","uid":102,"name":"bob","time":"x"}"#);
    play.server(1, r#"{"type":"login","uid":102,"name":"rob","time":"x"}"#);
    assert_eq!(play.verdicts_after(11_000), ["violated login #2 1/2, altered login #1 ann"]);
}

#[test]
fn a_private_message_is_for_its_recipient_and_at_most_its_sender() {
    for returns in [false, true] {
        let mut play = Play::chat(&["ann", "bob", "cat"]);
        play.client(1, r#"{"type":"say","to_uid":"102","content":"psst"}"#);
        play.delivered(2, &private(1, 2, "psst"));
        if returns {
            play.delivered(1, &private(1, 2, "psst"));
        }
        let expected = if returns { "2/2" } else { "1/1" };
        assert_eq!(play.verdicts_after(3_000), [format!(r#"held private #1 "psst" {expected}"#)]);
    }
    let mut play = Play::chat(&["ann", "bob", "cat"]);
    play.client(1, r#"{"type":"say","to_uid":"102","content":"psst"}"#);
    play.delivered(2, &private(1, 2, "psst"));
    play.server(3, &private(1, 2, "psst"));
    assert_eq!(
        play.verdicts_after(3_000),
        [r#"violated private #1 "psst" 1/1, unexpected say #3 cat "psst""#]
    );
}

#[test]
fn what_nobody_said_is_unsolicited() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.wait(60_000);
    play.copy(1, 2, "ho");
    play.wait(10_000);
    assert_eq!(play.taken(), [r#"violated unsolicited-say #2 "ho" 0/0, unsolicited say #2 bob "ho""#]);
}

#[test]
fn what_cannot_be_read_explains_only_what_its_sender_can_have_said() {
    let too_long = "x".repeat(70_000);
    for (sender, explains) in [(1, true), (3, false), (4, false), (5, true)] {
        let mut play = Play::chat(&["ann", "bob", "cat"]);
        play.open(4);
        play.asks_to_login(5, "dan");
        play.wait(60_000);
        play.taken();
        play.client(sender, &too_long);
        play.copy(1, 2, "ho");
        let verdicts = play.verdicts_after(10_000);
        let outcome = if explains { "inconclusive" } else { "violated" };
        assert!(
            verdicts.iter().any(|told| told.starts_with(&format!("{outcome} unsolicited-say #2 \"ho\""))),
            "{sender}: {verdicts:?}"
        );
    }
}

#[test]
fn who_does_not_read_is_told_from_who_was_not_sent_anything() {
    for (reopens, fault) in [(false, "blocked"), (true, "lost")] {
        let mut play = Play::chat(&["ann", "bob"]);
        let to = play.ends[&(2, ServerToClient)];
        let mut fills = |is_full| {
            play.tell(Some(2), Kind::Received(Received { direction: ServerToClient, to, is_full }));
        };
        fills(true);
        if reopens {
            fills(false);
        }
        play.asks_to_say(1, "hi");
        play.copy(1, 1, "hi");
        assert_eq!(play.verdicts_after(11_000), [format!(r#"violated say #1 "hi" 1/2, {fault} say #2 bob"#)]);
    }
}

#[test]
fn what_one_says_has_to_come_in_the_order_in_which_it_was_said() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "one");
    play.asks_to_say(1, "two");
    for content in ["one", "two"] {
        play.copy(1, 1, content);
    }
    for content in ["two", "one"] {
        play.copy(1, 2, content);
    }
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts[0], r#"violated say-order #1 "one" 0/0, misordered say #2 bob "two""#);
    assert!(verdicts[1..].iter().all(|told| told.starts_with("held say #1")), "{verdicts:?}");
}

/// The rules of the chat, where all of a room have to get everything in the same order.
fn rules_of_one_order() -> String {
    let rules = include_str!("../built_in/workerman-chat-2014-08.toml");
    assert!(rules.contains("among = \"sender\""));
    rules.replace("among = \"sender\"", "among = \"room\"")
}

#[test]
fn all_of_a_room_have_to_get_everything_in_the_same_order_where_that_is_asked_for() {
    let names = ["ann", "bob", "cat"];
    let sends = |play: &mut Play, orders: [(u64, [&str; 2]); 3]| {
        play.asks_to_say(1, "one");
        play.asks_to_say(2, "two");
        for (to, contents) in orders {
            for content in contents {
                play.copy(if content == "one" { 1 } else { 2 }, to, content);
            }
        }
        play.verdicts_after(3_000)
    };
    // Any order is right, as long as it is everybody's.
    let mut play = Play::chat_by(&[&rules_of_one_order()], &names);
    assert_no_fault(&sends(&mut play, [(1, ["two", "one"]), (2, ["two", "one"]), (3, ["two", "one"])]));
    let verdicts = sends(&mut play, [(1, ["two", "one"]), (2, ["two", "one"]), (3, ["one", "two"])]);
    let wrong: Vec<_> = verdicts.iter().filter(|told| told.starts_with("violated")).collect();
    assert_eq!(wrong, [r#"violated say-order #2 "two" 0/0, misordered say #3 cat "one""#]);
    // Whoever differs is found though the others get theirs only later.
    let mut play = Play::chat_by(&[&rules_of_one_order()], &names);
    play.asks_to_say(1, "one");
    play.asks_to_say(2, "two");
    for (sender, to, content) in
        [(1, 1, "one"), (2, 2, "two"), (1, 2, "one"), (1, 3, "one"), (2, 3, "two"), (2, 1, "two")]
    {
        play.copy(sender, to, content);
    }
    let verdicts = play.verdicts_after(3_000);
    let wrong: Vec<_> = verdicts.iter().filter(|told| told.starts_with("violated")).collect();
    assert!(!wrong.is_empty() && wrong.iter().all(|told| told.contains("misordered")), "{verdicts:?}");
    assert!(play.verifier.chats.values().all(|chat| chat.rooms.is_empty()), "nothing is under way");
}

#[test]
fn bytes_that_were_not_seen_make_it_inconclusive_and_never_a_violation() {
    for (what, cause) in [(0, "bytes_missing"), (1, "capture_loss"), (2, "unreadable")] {
        let mut play = Play::chat(&["ann", "bob"]);
        play.asks_to_say(1, "hi");
        play.copy(1, 1, "hi");
        match what {
            0 => play.gap(2, ServerToClient),
            1 => play.loses_packets(1),
            _ => _ = play.server(2, &"x".repeat(70_000)),
        }
        let expected = format!(r#"inconclusive say #1 "hi" 1/2, lost say #2 bob, {cause}"#);
        assert_eq!(play.verdicts_after(11_000), [expected]);
    }
    // What was lost before it began hides nothing of it.
    let mut play = Play::chat(&["ann", "bob"]);
    play.gap(2, ServerToClient);
    play.copy(1, 2, "proves that bob is there");
    play.wait(1);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    let verdicts = play.verdicts_after(11_000);
    assert!(verdicts.contains(&r#"violated say #1 "hi" 1/2, lost say #2 bob"#.to_owned()), "{verdicts:?}");
}

#[test]
fn a_message_whose_cause_may_have_passed_unseen_is_not_called_unsolicited() {
    for what in 0..3 {
        let mut play = Play::chat(&["ann", "bob"]);
        play.wait(60_000);
        play.copy(1, 2, "ho");
        match what {
            0 => play.gap(1, ClientToServer),
            1 => play.loses_packets(1),
            _ => play.join_late(3),
        }
        let verdicts = play.verdicts_after(10_000);
        assert!(verdicts[0].starts_with(r#"inconclusive unsolicited-say #2 "ho" 0/0"#), "{verdicts:?}");
    }
}

#[test]
fn whoever_leaves_before_it_comes_need_not_get_it_and_others_are_told() {
    let mut play = Play::chat(&["ann", "bob", "cat"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 3, "hi");
    play.sends_close(2, ClientToServer);
    let logout = r#"{"type":"logout","uid":102,"name":"bob","time":"x"}"#;
    for member in [1, 3] {
        play.delivered(member, logout);
    }
    assert_eq!(play.taken(), [r#"complete say #1 "hi" 2/2"#, "complete logout #2 2/2"]);
    play.closes(2, How::CloseFrame, Some(1_000));
    assert_eq!(play.verdicts_after(3_000), [r#"held say #1 "hi" 2/2"#, "held logout #2 2/2"]);
}

#[test]
fn whoever_leaves_last_is_told_of_once_and_judged_by_nothing() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.sends_close(2, ClientToServer);
    play.told_of_logout(1, 2);
    assert_eq!(play.taken(), ["complete logout #2 1/1"]);
    play.sends_close(1, ClientToServer);
    assert_eq!(play.taken(), ["unheard logout #1 0/0"]);
    play.sends_close(1, ServerToClient);
    assert_eq!(play.verdicts_after(11_000), ["held logout #2 1/1"]);
    let logouts = play.verifier.totals().find(|totals| &*totals.flow == "logout").unwrap();
    assert_eq!(logouts.cases(), 1);
}

#[test]
fn whoever_stays_long_after_all_others_got_it_and_leaves_without_is_named() {
    for (stays, is_idle, expected) in [
        (2_000, false, r#"violated say #1 "hi" 2/3, lost say #2 bob"#),
        (99, true, r#"held say #1 "hi" 2/2"#),
        (100, false, r#"held say #1 "hi" 2/2"#),
        (100, true, r#"inconclusive say #1 "hi" 2/3, lost say #2 bob, left_too_soon"#),
    ] {
        let mut play = Play::chat(&["ann", "bob", "cat"]);
        if !is_idle {
            play.server(2, r#"{"type":"something else"}"#);
        }
        play.asks_to_say(1, "hi");
        play.copy(1, 1, "hi");
        play.copy(1, 3, "hi");
        play.wait(stays);
        play.sends_close(2, ClientToServer);
        let verdicts = play.verdicts_after(11_000);
        assert!(verdicts.contains(&expected.to_owned()), "{stays} {is_idle}: {verdicts:?}");
    }
}

#[test]
fn what_was_passed_over_is_lost_though_its_recipient_leaves_before_the_time_is_up() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "one");
    play.copy(1, 1, "one");
    play.asks_to_say(1, "two");
    play.fan_out(1, "two");
    play.sends_close(2, ClientToServer);
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts[0], r#"violated say #1 "one" 1/2, lost say #2 bob"#);
    assert_eq!(verdicts[1], r#"held say #1 "two" 2/2"#);
}

#[test]
fn a_private_message_to_oneself_comes_as_often_as_its_flow_says() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.client(1, r#"{"type":"say","to_uid":101,"content":"note"}"#);
    play.delivered(1, &private(1, 1, "note"));
    play.delivered(1, &private(1, 1, "note"));
    assert_eq!(play.server(1, &private(1, 1, "note")), Part::Nothing);
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts, [r#"violated private #1 "note" 1/1, duplicated say #1 ann "note""#]);
}

#[test]
fn whoever_joins_meanwhile_may_get_it_and_need_not() {
    for gets_it in [false, true] {
        let mut play = Play::chat(&["ann", "bob"]);
        play.open(3);
        play.asks_to_say(1, "hi");
        play.login(3, "cat");
        for member in [1, 2].into_iter().chain(gets_it.then_some(3)) {
            assert_eq!(play.copy(1, member, "hi"), Part::OfCase);
        }
        let verdicts = play.verdicts_after(3_000);
        let expected = if gets_it { "3/3" } else { "2/2" };
        assert!(verdicts.contains(&format!(r#"held say #1 "hi" {expected}"#)), "{verdicts:?}");
        assert!(verdicts.iter().all(|told| told.starts_with("held")), "{verdicts:?}");
    }
}

#[test]
fn rooms_have_nothing_to_do_with_each_other() {
    let mut play = Play::by(&[]);
    for (id, room) in [(1, "a"), (2, "a"), (3, "b")] {
        play.open(id);
        play.client(id, &format!(r#"{{"type":"login","name":"n{id}","room_id":"{room}"}}"#));
        play.delivered(id, r#"{"type":"user_list","user_list":[]}"#);
        let login = format!(r#"{{"type":"login","uid":{},"name":"n{id}","time":"x"}}"#, 100 + id);
        for member in (1..=id).filter(|member| (*member == 3) == (id == 3)) {
            play.delivered(member, &login);
        }
    }
    play.wait(3_000);
    assert!(play.taken().iter().all(|told| !told.starts_with("violated")));
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 2, "hi");
    assert_eq!(play.taken(), [r#"complete say #1 "hi" 2/2"#]);
    play.copy(1, 3, "hi");
    assert_eq!(play.verdicts_after(3_000), [r#"violated say #1 "hi" 2/2, unexpected say #3 n3 "hi""#]);
}

#[test]
fn a_login_that_is_refused_or_has_no_list_or_is_not_announced_is_told_as_that() {
    let mut play = Play::chat(&["ann"]);
    play.open(2);
    play.client(2, r#"{"type":"login","name":"bob"}"#);
    play.server(2, r#"{"type":"error","code":"no","message":"no"}"#);
    assert_eq!(play.taken(), ["refused login #2 0/2"]);
    play.client(2, r#"{"type":"login","name":"bob"}"#);
    let login = r#"{"type":"login","uid":102,"name":"bob","time":"x"}"#;
    play.delivered(2, login);
    let expected = ["violated login #2 0/2, lost login #1 ann, lost user_list #2 bob"];
    assert_eq!(play.verdicts_after(11_000), expected);
}

#[test]
fn a_message_before_the_login_is_found() {
    let mut play = Play::chat(&["ann"]);
    play.open(2);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.copy(1, 2, "hi");
    let verdicts = play.verdicts_after(3_000);
    assert!(
        verdicts.contains(&r#"violated before-login #2 "hi" 0/0, unexpected say #2 ? "hi""#.to_owned()),
        "{verdicts:?}"
    );
}

#[test]
fn of_whoever_was_there_before_nothing_is_known_until_it_shows() {
    let mut play = Play::chat(&["ann"]);
    play.join_late(2);
    play.wait(20_000);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    assert!(play.taken().is_empty(), "the other may get it, too");
    play.wait(2_000);
    assert_eq!(
        play.taken(),
        [
            r#"complete say #1 "hi" 1/1+1?, started_too_late"#,
            r#"inconclusive say #1 "hi" 1/1+1?, started_too_late"#
        ]
    );
    play.asks_to_say(1, "ho");
    play.copy(1, 1, "ho");
    play.copy(1, 2, "ho");
    assert_eq!(play.taken(), [r#"complete say #1 "ho" 2/2"#]);
}

/// Connections 1 and 2 were there before the observer; 3 logged in since, and is in room "a".
fn a_chat_with_a_newcomer() -> Play {
    let mut play = Play::by(&[]);
    for id in [1, 2] {
        play.join_late(id);
    }
    play.open(3);
    play.client(3, r#"{"type":"login","name":"cat","room_id":"a"}"#);
    play.welcomed(3, "cat");
    for id in [1, 2] {
        play.told_of_login(id, 3, "cat");
    }
    play.wait(11_000);
    play.taken();
    play
}

#[test]
fn whoever_was_there_before_is_where_those_are_of_whom_they_get_what_a_room_gets() {
    let mut play = a_chat_with_a_newcomer();
    play.asks_to_say(3, "hi");
    for to in 1..=3 {
        play.copy(3, to, "hi");
    }
    assert_eq!(play.verdicts_after(11_000), [r#"held say #3 "hi" 3/3"#]);
    play.asks_to_say(3, "ho");
    for to in [1, 3] {
        play.copy(3, to, "ho");
    }
    assert_eq!(play.verdicts_after(11_000), [r#"violated say #3 "ho" 2/3, lost say #2 ?"#]);
    // What they say themselves has to reach all, too.
    play.asks_to_say(1, "hm");
    for to in [1, 3] {
        play.copy(1, to, "hm");
    }
    assert_eq!(play.verdicts_after(11_000), [r#"violated say #1 "hm" 2/3, lost say #2 ?"#]);
}

#[test]
fn to_whom_of_those_who_were_there_before_something_private_is_sent_is_not_known() {
    let mut play = a_chat_with_a_newcomer();
    play.says_to(3, 1, "psst");
    let verdicts = play.verdicts_after(11_000);
    assert_eq!(verdicts, [r#"inconclusive private #3 "psst" 0/0+2?, started_too_late"#]);
    play.says_to(3, 1, "psst");
    play.server(1, &private(3, 1, "psst"));
    play.receives(1);
    let verdicts = play.verdicts_after(11_000);
    assert_eq!(verdicts, [r#"inconclusive private #3 "psst" 1/1+1?, started_too_late"#]);
}

#[test]
fn who_somebody_is_who_was_there_before_is_known_by_the_copies_of_what_they_say() {
    let mut play = a_chat_with_a_newcomer();
    play.wait(10_000);
    for id in [1, 2] {
        play.asks_to_say(id, &format!("hi of {id}"));
        for to in 1..=3 {
            play.copy(id, to, &format!("hi of {id}"));
        }
    }
    play.verdicts_after(11_000);
    play.says_to(3, 1, "psst");
    play.server(1, &private(3, 1, "psst"));
    play.receives(1);
    assert_eq!(play.verdicts_after(11_000), [r#"held private #3 "psst" 1/1"#]);
    // But the chat has not said so: nobody is guilty by it.
    play.says_to(3, 1, "psst");
    let verdicts = play.verdicts_after(11_000);
    assert_eq!(verdicts, [r#"inconclusive private #3 "psst" 0/1, lost say #1 ?, started_too_late"#]);
}

#[test]
fn whose_copy_it_is_of_two_who_say_the_same_or_may_have_is_not_known() {
    for what in 0..4 {
        let mut play = a_chat_with_a_newcomer();
        play.wait(10_000);
        match what {
            0 => play.asks_to_say(2, "hi"),
            1 => play.gap(2, ClientToServer),
            2 => _ = play.client(2, &"x".repeat(70_000)),
            _ => play.join_late(4),
        }
        play.asks_to_say(1, "hi");
        play.copy(2, 1, "hi");
        assert_eq!(play.members.by_uid((0, 7272), &Uid::Number(102)), None, "{what}");
        // Later it is.
        play.wait(20_000);
        play.asks_to_say(1, "hi");
        play.copy(1, 1, "hi");
        assert_eq!(play.members.by_uid((0, 7272), &Uid::Number(101)), Some(ConnectionId(1)), "{what}");
    }
}

#[test]
fn a_run_that_ends_before_the_time_is_up_tells_so() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.wait(1_999);
    assert_eq!(play.verdicts(), [r#"inconclusive say #1 "hi" 1/2, lost say #2 bob, ended_too_soon"#]);
}

#[test]
fn a_run_that_closes_down_waits_for_what_is_under_way_and_begins_nothing() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.verifier.close_down();
    assert!(play.verifier.is_waiting());
    play.asks_to_say(1, "ho");
    for content in ["hi", "ho"] {
        play.copy(1, 1, content);
        play.copy(1, 2, content);
    }
    assert!(!play.verifier.is_waiting());
    assert_eq!(play.verdicts(), [r#"held say #1 "hi" 2/2"#]);
}

#[test]
fn a_hole_that_only_a_client_made_hides_nothing_of_others() {
    for counts in [false, true] {
        let mut play = Play::chat(&["ann", "bob"]);
        if counts {
            play.verifier.count_on_losses();
        }
        play.open(3);
        play.asks_to_say(1, "hi");
        play.copy(1, 1, "hi");
        let gap = Gap { direction: ClientToServer, offset: 0, length: 9, cause: GapCause::NeverSeen };
        play.tell(Some(3), Kind::Gap(gap));
        let verdict = play.verdicts_after(11_000).pop().unwrap();
        // A file does not tell what was lost besides.
        let expected = if counts { "violated say" } else { "inconclusive say" };
        assert!(verdict.starts_with(expected) && verdict.contains("lost say #2 bob"), "{verdict}");
    }
}

#[test]
fn times_that_step_back_make_nobody_guilty_and_what_comes_then_is_judged() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.milliseconds -= 1_000;
    play.milliseconds += 3_600_000;
    play.server(1, r#"{"type":"something else"}"#);
    play.taken();
    play.milliseconds -= 3_600_000;
    play.asks_to_say(1, "ho");
    play.fan_out(1, "ho");
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts, [r#"held say #1 "ho" 2/2"#]);
    let mut play = Play::chat(&["ann", "bob"]);
    play.milliseconds += 60_000;
    play.asks_to_say(1, "hi");
    play.milliseconds -= 60_000;
    play.asks_to_say(1, "ho");
    assert_eq!(
        play.taken(),
        [r#"inconclusive say #1 "hi" 0/2, lost say #1 ann, lost say #2 bob, clock_stepped"#]
    );
}

#[test]
fn what_is_complete_and_gives_way_is_not_counted_as_given_up() {
    let mut play = Play::chat(&["ann", "bob"]);
    for number in 0..CASES_OF_ONE_SENDER_MAX + 10 {
        play.asks_to_say(1, &number.to_string());
        play.fan_out(1, &number.to_string());
    }
    assert_eq!(play.verifier.shed(), 0);
    assert!(play.verdicts_after(3_000).iter().all(|told| told.starts_with("held say")));
}

#[test]
fn what_was_told_a_moment_before_what_began_it_is_of_it_all_the_same() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.copy(1, 2, "hi");
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    assert_eq!(play.verdicts_after(3_000), [r#"held say #1 "hi" 2/2"#]);
}

#[test]
fn a_heartbeat_is_answered_within_its_time() {
    let mut play = Play::chat(&["ann"]);
    assert_eq!(play.server(1, r#"{"type":"ping"}"#), Part::Heartbeat);
    assert_eq!(play.client(1, r#"{"type":"pong"}"#), Part::Heartbeat);
    let to = play.ends[&(1, ClientToServer)];
    play.tell(Some(1), Kind::Received(Received { direction: ClientToServer, to, is_full: false }));
    play.server(1, r#"{"type":"ping"}"#);
    let verdicts = play.verdicts_after(60_000);
    assert_eq!(verdicts, ["held heartbeat #1 1/1", "violated heartbeat #1 0/1, lost pong #1 ann"]);
}

#[test]
fn what_a_client_says_before_it_is_known_what_its_server_speaks_is_judged_by_what_it_turns_out_to_speak() {
    let mut play = Play::by(&[]);
    play.open(1);
    play.client(1, r#"{"type":"login","client_name":"ann","room_id":7}"#);
    // The list of users tells 2014-09 from 2015-11, which reads the request first.
    play.delivered(
        1,
        r#"{"type":"login","client_id":1,"client_name":"ann","client_list":[{"client_id":1,"client_name":"ann"}]}"#,
    );
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts, ["held login #1 1/1"]);
    let totals: Vec<_> = play.verifier.totals().map(|totals| &*totals.dialect).collect();
    assert!(totals.iter().all(|dialect| *dialect == "workerman-chat-2014-09"), "{totals:?}");
}

#[test]
fn what_turns_out_to_mean_nothing_in_what_the_server_speaks_is_told_of_all_the_same() {
    let mut play = Play::by(&[]);
    play.open(1);
    assert_eq!(play.client(1, r#"{"type":"login","client_name":"ann","room_id":7}"#), Part::OfCase);
    play.server(1, r#"{"type":"user_list","user_list":[]}"#);
    let told = play.taken();
    assert!(
        told[0].starts_with("inconclusive login #1") && told[0].ends_with(", dialect_unknown"),
        "{told:?}"
    );
}

#[test]
fn what_says_nothing_is_told_by_its_fields_or_its_room_and_else_by_itself() {
    let rules = r#"
        schema = 1
        name = "calls"
        [[message]]
        type = "call"
        when = { "/t" = "call" }
        fields = { id = "/id", method = "/method" }
        content = "/words"
        room = "/room"
        [[message]]
        type = "done"
        when = { "/t" = "done" }
        fields = { id = "/id" }
        [[flow]]
        name = "call"
        when = { type = "call" }
        [[flow.expect]]
        type = "done"
        to = "sender"
        [[unsolicited]]
        name = "unasked"
        type = "done"
    "#;
    let mut play = Play::by(&[rules]);
    play.open(1);
    for (call, told) in [
        (r#"{"t":"call","id":1,"method":"add"}"#, r#" id=Number(1) method=Text("add")"#),
        (r#"{"t":"call","id":1,"words":"hi"}"#, r#" "hi""#),
        (r#"{"t":"call","room":"a"}"#, ""),
        (r#"{"t":"call","id":[1]}"#, r#" {"t":"call","id":[1]}"#),
    ] {
        play.client(1, call);
        play.delivered(1, r#"{"t":"done","id":1}"#);
        assert_eq!(play.taken(), [format!("complete call #1{told} 1/1")]);
    }
    play.verdicts_after(11_000);
    play.server(1, r#"{"t":"done","id":7}"#);
    let unasked = "violated unasked #1 id=Number(7) 0/0, unsolicited done #1 ?";
    assert_eq!(play.verdicts_after(11_000), [unasked]);
}

#[test]
fn one_sender_s_oldest_case_gives_way_and_nothing_is_called_a_violation_for_it() {
    let mut play = Play::chat(&["ann", "bob"]);
    for number in 0..CASES_OF_ONE_SENDER_MAX + 10 {
        play.asks_to_say(1, &number.to_string());
    }
    assert_eq!(play.verifier.cases.len(), CASES_OF_ONE_SENDER_MAX);
    assert_eq!(play.verifier.shed(), 10);
    let told = play.taken();
    assert_eq!(told.len(), 10);
    assert!(told.iter().all(|told| told.starts_with("inconclusive say #1") && told.ends_with(", limit")));
    // Their copies come all the same.
    for number in 0..CASES_OF_ONE_SENDER_MAX + 10 {
        play.copy(1, 1, &number.to_string());
        play.copy(1, 2, &number.to_string());
    }
    let verdicts = play.verdicts_after(11_000);
    assert!(verdicts.iter().all(|told| !told.starts_with("violated")), "{verdicts:?}");
}

#[test]
fn whoever_began_most_gives_way_and_the_cases_of_others_stay() {
    let names: Vec<_> = (1..=20).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut play = Play::chat(&names);
    play.asks_to_say(1, "mine");
    for number in 0..CASES_OF_ONE_SENDER_MAX {
        for sender in 2..=20 {
            play.asks_to_say(sender, &number.to_string());
        }
    }
    let verifier = &play.verifier;
    assert!(verifier.cases.len() <= CASES_MAX && verifier.shed() > 0);
    assert!(verifier.entries_by_sender.total() <= ENTRIES_MAX);
    assert!(play.taken().iter().all(|told| !told.contains("mine")));
    play.fan_out(1, "mine");
    assert_eq!(play.taken(), [r#"complete say #1 "mine" 20/20"#]);
    play.wait(60_000);
    let verifier = &play.verifier;
    assert_eq!((verifier.entries_by_sender.total(), verifier.cases_by_sender.total()), (0, 0));
}

#[test]
fn messages_that_nothing_explains_are_bounded() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.wait(60_000);
    for number in 0..EXTRAS_MAX + 10 {
        play.copy(1, 2, &format!("unasked {number}"));
    }
    assert_eq!(play.verifier.extras.len(), EXTRAS_MAX);
    assert_eq!(play.verifier.shed(), 10);
}

#[test]
fn nothing_is_left_of_what_is_over() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.fan_out(1, "hi");
    play.copy(1, 2, "again");
    for id in [1, 2] {
        play.sends_close(id, ClientToServer);
        play.closes(id, How::CloseFrame, Some(1_000));
    }
    play.wait(120_000);
    play.wait(120_000);
    let Verifier { ends, chats, cases, by_key, extras, extras_by_key, timers, gone, .. } = &play.verifier;
    let Verifier { cases_by_sender, entries_by_sender, extras_by_connection, .. } = &play.verifier;
    assert!(ends.is_empty() && chats.is_empty() && cases.is_empty() && by_key.is_empty());
    assert!(extras.is_empty() && extras_by_key.is_empty() && timers.is_empty() && gone.is_empty());
    for shares in [cases_by_sender, entries_by_sender, extras_by_connection] {
        assert_eq!((shares.total(), shares.heaviest()), (0, None));
    }
}

/// Nobody is called guilty.
fn assert_no_fault(verdicts: &[String]) {
    let is_fault = |told: &String| told.starts_with("violated") || told.starts_with("late");
    assert!(!verdicts.iter().any(is_fault), "{verdicts:#?}");
}

impl Play {
    /// Somebody asks to log in, and the server has not answered yet.
    fn asks_to_login(&mut self, id: u64, name: &str) {
        self.open(id);
        self.client(id, &format!(r#"{{"type":"login","name":"{name}"}}"#));
    }

    fn says_to(&mut self, id: u64, to: u64, content: &str) {
        let to = 100 + to;
        self.client(id, &format!(r#"{{"type":"say","to_uid":{to},"content":"{content}"}}"#));
    }

    fn told_of_login(&mut self, member: u64, id: u64, name: &str) {
        let uid = 100 + id;
        self.delivered(member, &format!(r#"{{"type":"login","uid":{uid},"name":"{name}","time":"x"}}"#));
    }

    fn told_of_logout(&mut self, member: u64, id: u64) {
        let uid = 100 + id;
        self.delivered(member, &format!(r#"{{"type":"logout","uid":{uid},"name":"x","time":"x"}}"#));
    }

    fn welcomed(&mut self, id: u64, name: &str) {
        self.delivered(id, r#"{"type":"user_list","user_list":[]}"#);
        self.told_of_login(id, id, name);
    }

    fn refused(&mut self, id: u64) {
        self.server(id, r#"{"type":"error","code":"unknown_uid","message":"no"}"#);
    }
}

#[test]
fn of_three_copies_of_two_equal_messages_one_is_too_many() {
    let mut play = Play::chat(&["ann", "bob"]);
    for _ in 0..2 {
        play.asks_to_say(1, "hi");
        play.fan_out(1, "hi");
    }
    assert_eq!(play.copy(1, 2, "hi"), Part::Nothing);
    let verdicts = play.verdicts_after(3_000);
    let violated: Vec<_> = verdicts.iter().filter(|told| told.starts_with("violated")).collect();
    assert_eq!(violated, [r#"violated say #1 "hi" 2/2, duplicated say #2 bob "hi""#]);
}

#[test]
fn of_namesakes_who_log_in_at_the_same_time_nobody_is_passed_over() {
    let mut play = Play::chat(&["ann"]);
    play.asks_to_login(2, "bob");
    play.asks_to_login(3, "bob");
    play.welcomed(3, "bob");
    play.told_of_login(1, 3, "bob");
    play.sends_close(3, ClientToServer);
    play.told_of_logout(1, 3);
    // The other's login is on its way to ann as she leaves.
    play.sends_close(1, ClientToServer);
    play.welcomed(2, "bob");
    assert_no_fault(&play.verdicts_after(11_000));
}

#[test]
fn whoever_may_get_some_of_several_equal_messages_is_not_passed_over() {
    let mut play = Play::chat(&["ann"]);
    play.open(2);
    play.asks_to_say(1, "0");
    play.login(2, "bob");
    for content in ["0", "1", "0", "1"] {
        play.asks_to_say(1, content);
    }
    for content in ["0", "0", "1", "0", "1"] {
        play.copy(1, 1, content);
    }
    for content in ["0", "0", "1", "0"] {
        play.copy(1, 2, content);
    }
    play.sends_close(2, ClientToServer);
    play.told_of_logout(1, 2);
    assert_no_fault(&play.verdicts_after(11_000));
}

#[test]
fn who_got_the_next_message_was_passed_over_only_where_order_is_asked_for() {
    let rules = include_str!("../built_in/workerman-chat-2014-08.toml");
    let end = rules.rfind("[[order]]").unwrap();
    for (rules, verdict) in [(rules, "violated"), (&rules[..end], "held")] {
        let mut play = Play::by(&[rules]);
        for (id, name) in [(1, "ann"), (2, "bob")] {
            play.open(id);
            play.login(id, name);
        }
        play.asks_to_say(1, "one");
        play.copy(1, 1, "one");
        play.asks_to_say(1, "two");
        play.fan_out(1, "two");
        play.sends_close(2, ClientToServer);
        let verdicts = play.verdicts_after(11_000);
        let one = verdicts.iter().find(|told| told.contains("\"one\"")).unwrap();
        assert!(one.starts_with(verdict), "{verdicts:?}");
    }
}

#[test]
fn equal_words_of_two_whose_logins_are_not_answered_may_be_either_s() {
    let mut play = Play::chat(&["ann"]);
    for (id, name) in [(2, "bob"), (3, "cat")] {
        play.asks_to_login(id, name);
    }
    play.asks_to_say(3, "hi");
    play.asks_to_say(2, "hi");
    for (id, name) in [(2, "bob"), (3, "cat")] {
        play.told_of_login(1, id, name);
    }
    // Bob's comes first, and may be Cat's as far as anybody knows.
    play.copy(2, 1, "hi");
    play.welcomed(2, "bob");
    play.told_of_login(2, 3, "cat");
    play.copy(2, 2, "hi");
    play.copy(3, 2, "hi");
    play.copy(3, 1, "hi");
    play.welcomed(3, "cat");
    play.copy(2, 3, "hi");
    play.copy(3, 3, "hi");
    let verdicts = play.verdicts_after(11_000);
    assert_no_fault(&verdicts);
    assert!(verdicts.iter().any(|told| told.ends_with(", sender_unclear")), "{verdicts:?}");
}

#[test]
fn a_copy_too_many_of_the_only_one_whose_login_is_not_answered_is_found() {
    let mut play = Play::chat(&["ann"]);
    play.asks_to_login(2, "bob");
    play.asks_to_say(2, "hi");
    play.told_of_login(1, 2, "bob");
    play.copy(2, 1, "hi");
    play.copy(2, 1, "hi");
    play.welcomed(2, "bob");
    play.copy(2, 2, "hi");
    let verdicts = play.verdicts_after(11_000);
    let expected = r#"violated say #2 "hi" 2/2, duplicated say #1 ann "hi""#.to_owned();
    assert!(verdicts.contains(&expected), "{verdicts:?}");
}

#[test]
fn what_may_be_somebody_else_s_is_not_called_out_of_order() {
    let mut play = Play::chat(&["ann"]);
    play.asks_to_login(2, "bob");
    play.says_to(2, 1, "hi");
    play.asks_to_say(2, "hi");
    // Of another who was not seen to say it, and whose uid is nobody's who is known.
    play.copy(9, 1, "hi");
    play.server(1, &private(2, 1, "hi"));
    let verdicts = play.verdicts_after(11_000);
    assert!(!verdicts.iter().any(|told| told.contains("say-order")), "{verdicts:?}");
}

#[test]
fn losses_that_become_known_later_excuse_what_came_out_of_order() {
    let mut play = Play::chat(&["ann", "bob"]);
    for content in ["one", "two"] {
        play.asks_to_say(1, content);
        play.copy(1, 1, content);
    }
    for content in ["two", "one"] {
        play.copy(1, 2, content);
    }
    play.loses_packets(1);
    let verdicts = play.verdicts_after(3_000);
    assert_eq!(verdicts[0], r#"inconclusive say-order #1 "one" 0/0, capture_loss"#);
}

#[test]
fn a_refusal_is_not_taken_for_that_of_words_whose_equal_was_answered() {
    let mut play = Play::chat(&["ann"]);
    play.open(2);
    play.asks_to_say(1, "1");
    play.says_to(1, 2, "0");
    play.asks_to_say(1, "1");
    play.says_to(1, 2, "0");
    play.login(2, "bob");
    play.copy(1, 2, "1");
    play.server(2, &private(1, 2, "0"));
    play.copy(1, 1, "1");
    play.refused(1);
    play.copy(1, 1, "1");
    let verdicts = play.verdicts_after(11_000);
    assert_no_fault(&verdicts);
    assert_eq!(verdicts.iter().filter(|told| told.starts_with("held say ")).count(), 2, "{verdicts:?}");
}

#[test]
fn a_refusal_is_of_any_whose_answer_may_be_another_s() {
    let mut play = Play::chat(&[]);
    play.asks_to_login(1, "ann");
    play.asks_to_say(1, "1");
    play.says_to(1, 1, "0");
    play.welcomed(1, "ann");
    play.says_to(1, 4, "1");
    play.says_to(1, 1, "0");
    play.asks_to_say(1, "1");
    play.copy(1, 1, "1");
    play.server(1, &private(1, 1, "0"));
    play.refused(1);
    play.server(1, &private(1, 1, "0"));
    play.copy(1, 1, "1");
    assert_no_fault(&play.verdicts_after(11_000));
}

#[test]
fn of_two_refusals_the_later_is_not_taken_for_what_may_have_been_refused_before() {
    let mut play = Play::by(&[]);
    for (id, room) in [(1, "a"), (2, "b")] {
        play.open(id);
        play.client(id, &format!(r#"{{"type":"login","name":"n{id}","room_id":"{room}"}}"#));
        play.welcomed(id, &format!("n{id}"));
    }
    play.says_to(1, 2, "hi");
    play.gap(1, ServerToClient);
    play.refused(1);
    play.says_to(1, 2, "hi");
    play.refused(1);
    assert_no_fault(&play.verdicts_after(11_000));
}

#[test]
fn behind_a_gap_equal_words_are_of_what_was_said_behind_it() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.gap(2, ServerToClient);
    for _ in 0..20 {
        play.wait(1_000);
        play.asks_to_say(1, "hi");
        play.fan_out(1, "hi");
    }
    let mut verdicts: Vec<_> =
        play.taken().into_iter().filter(|told| told.starts_with("inconclusive")).collect();
    verdicts.extend(play.verdicts_after(11_000));
    assert_no_fault(&verdicts);
    let unclear: Vec<_> = verdicts.iter().filter(|told| told.starts_with("inconclusive")).collect();
    assert_eq!(unclear, [r#"inconclusive say #1 "hi" 1/2, lost say #2 bob, bytes_missing"#]);
}

#[test]
fn behind_words_that_were_said_unseen_none_explains_what_came_before_it() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.gap(1, ClientToServer);
    for member in [1, 2] {
        assert_eq!(play.copy(1, member, "hi"), Part::Nothing);
    }
    for _ in 0..40 {
        play.wait(500);
        play.asks_to_say(1, "hi");
        play.fan_out(1, "hi");
    }
    play.wait(11_000);
    let verdicts = play.verdicts();
    assert_no_fault(&verdicts);
}

#[test]
fn what_comes_late_behind_a_gap_may_be_another_that_is_equal() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "hi");
    play.gap(2, ServerToClient);
    play.wait(2_500);
    play.copy(1, 2, "hi");
    let verdicts = play.verdicts_after(11_000);
    assert_eq!(verdicts, [r#"inconclusive say #1 "hi" 2/2, late say #2 bob, bytes_missing"#]);
}

#[test]
fn what_comes_late_may_have_been_said_unseen_and_what_was_seen_been_refused() {
    let mut play = Play::chat(&["ann"]);
    play.says_to(1, 2, "hi");
    play.gap(1, ServerToClient);
    play.open(2);
    play.login(2, "bob");
    play.wait(1_000);
    play.says_to(1, 2, "hi");
    play.server(2, &private(1, 2, "hi"));
    play.receives(2);
    play.wait(1_500);
    play.gap(1, ClientToServer);
    play.server(2, &private(1, 2, "hi"));
    play.receives(2);
    assert_no_fault(&play.verdicts_after(11_000));
}

#[test]
fn what_may_have_been_said_unseen_is_no_altered_copy() {
    let mut play = Play::chat(&["ann", "bob"]);
    play.gap(1, ClientToServer);
    play.asks_to_say(1, "hi");
    play.copy(1, 1, "ho");
    play.copy(1, 2, "ho");
    play.copy(1, 1, "hi");
    play.sends_close(2, ClientToServer);
    play.told_of_logout(1, 2);
    assert_no_fault(&play.verdicts_after(11_000));
}

#[test]
fn what_somebody_says_of_whom_it_is_not_known_whether_they_are_there_may_be_for_nobody() {
    let mut play = Play::chat(&["ann"]);
    play.join_late(2);
    play.wait(20_000);
    play.asks_to_say(2, "hi");
    assert_no_fault(&play.verdicts_after(11_000));
}

mod hostile;
mod random;

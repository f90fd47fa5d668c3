//! Owns what faults do to the chat: what victims and all others get from the real binary, and what its log says of it.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::program::Program;
use support::{Client, Server};

/// A server with faults.
struct Faulty {
    program: Program,
    address: SocketAddr,
}

impl Faulty {
    fn start(faults: &[&str]) -> Self {
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--no-web", "--close-timeout", "500ms"];
        arguments.extend(faults.iter().flat_map(|fault| ["--fault", fault]));
        let mut program = Program::start(&arguments);
        let address = program.address();
        Self { program, address }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address, "/").await
    }

    async fn member(&self, name: &str) -> Client {
        let mut client = self.client().await;
        client.login(name).await;
        client
    }

    /// Three who have logged in, in this order, and have read so.
    async fn three(&self) -> [Client; 3] {
        let mut ann = self.member("Ann").await;
        let mut bob = self.member("Bob").await;
        let cem = self.member("Cem").await;
        for client in [&mut ann, &mut bob] {
            while client.json().await["uid"] != cem.uid {}
        }
        [ann, bob, cem]
    }

    /// What the log has about strikes, to the end of the server.
    fn strikes(mut self) -> Vec<String> {
        self.program.signal(rustix::process::Signal::TERM);
        let (status, stderr) = self.program.end();
        assert_eq!(status.code(), Some(0), "{stderr}");
        let strikes = stderr.lines().filter_map(|line| line.split_once(" fault: "));
        strikes.map(|(_, strike)| strike.to_owned()).collect()
    }
}

/// A member as the log names it.
fn named(client: &Client, name: &str) -> String {
    format!("{} ({} {name:?})", client.socket.get_ref().local_addr().unwrap(), client.uid)
}

/// The contents of the next says.
async fn contents(client: &mut Client, count: usize) -> Vec<String> {
    let mut contents = Vec::new();
    for _ in 0..count {
        let say = client.json().await;
        assert_eq!(say["type"], "say", "{say}");
        contents.push(say["content"].as_str().unwrap().to_owned());
    }
    contents
}

/// Shows that these says, and nothing else, came to a client.
async fn expect_says(client: &mut Client, expected: &[&str]) {
    assert_eq!(contents(client, expected.len()).await, expected);
    client.expect_nothing().await;
}

async fn say_all(client: &mut Client, contents: &[&str]) {
    for content in contents {
        client.say(json!("all"), content).await;
    }
}

/// Says something to all, and reads on until it has come back.
async fn say_and_wait(client: &mut Client, content: &str) {
    client.say(json!("all"), content).await;
    while client.json().await["content"] != content {}
}

#[tokio::test]
async fn drop_keeps_each_nth_say_to_all_from_who_joined_last() {
    let server = Faulty::start(&["drop:every=2"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2", "3", "4"]).await;
    ann.say(json!(cem.uid), "private").await;
    expect_says(&mut ann, &["1", "2", "3", "4"]).await;
    expect_says(&mut bob, &["1", "2", "3", "4"]).await;
    expect_says(&mut cem, &["1", "3", "private"]).await;
    say_all(&mut cem, &["5", "6"]).await;
    expect_says(&mut ann, &["5", "6"]).await;
    expect_says(&mut bob, &["5"]).await;
    expect_says(&mut cem, &["5", "6"]).await;
    let [ann, bob, cem] = [named(&ann, "Ann"), named(&bob, "Bob"), named(&cem, "Cem")];
    assert_eq!(
        server.strikes(),
        [
            format!(r#"drop hits {cem}: say of {ann} to all: "2""#),
            format!(r#"drop hits {cem}: say of {ann} to all: "4""#),
            format!(r#"drop hits {bob}: say of {cem} to all: "6""#),
        ]
    );
}

#[tokio::test]
async fn duplicate_gives_one_recipient_the_same_twice() {
    let server = Faulty::start(&["duplicate:every=3,name=Bob"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2", "3"]).await;
    expect_says(&mut bob, &["1", "2", "3", "3"]).await;
    expect_says(&mut ann, &["1", "2", "3"]).await;
    expect_says(&mut cem, &["1", "2", "3"]).await;
    let strike =
        format!(r#"duplicate hits {}: say of {} to all: "3""#, named(&bob, "Bob"), named(&ann, "Ann"));
    assert_eq!(server.strikes(), [strike]);
}

#[tokio::test]
async fn reorder_swaps_a_say_with_the_next_one_of_its_sender() {
    let server = Faulty::start(&["reorder:every=2"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2"]).await;
    expect_says(&mut ann, &["1", "2"]).await;
    bob.say(json!(cem.uid), "between").await;
    expect_says(&mut bob, &["1", "2"]).await;
    say_all(&mut ann, &["3"]).await;
    expect_says(&mut ann, &["3"]).await;
    expect_says(&mut bob, &["3"]).await;
    expect_says(&mut cem, &["1", "between", "3", "2"]).await;
    let strike = format!(
        r#"reorder hits {}: say of {} to all: "2", behind "3""#,
        named(&cem, "Cem"),
        named(&ann, "Ann")
    );
    assert_eq!(server.strikes(), [strike]);
}

#[tokio::test]
async fn reorder_of_every_say_swaps_them_in_pairs() {
    let server = Faulty::start(&["reorder"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2", "3", "4"]).await;
    expect_says(&mut ann, &["1", "2", "3", "4"]).await;
    expect_says(&mut bob, &["1", "2", "3", "4"]).await;
    expect_says(&mut cem, &["2", "1", "4", "3"]).await;
    assert_eq!(server.strikes().len(), 2);
}

#[tokio::test]
async fn what_waits_for_a_sender_who_leaves_comes_before_the_logout() {
    let server = Faulty::start(&["reorder"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["last words"]).await;
    expect_says(&mut ann, &["last words"]).await;
    expect_says(&mut bob, &["last words"]).await;
    cem.expect_nothing().await;
    let strike = format!(
        r#"reorder hits {}: say of {} to all: "last words", as one of them leaves"#,
        named(&cem, "Cem"),
        named(&ann, "Ann")
    );
    drop(ann);
    assert_eq!(contents(&mut cem, 1).await, ["last words"]);
    for client in [&mut bob, &mut cem] {
        assert_eq!(client.json().await["type"], "logout");
    }
    assert_eq!(server.strikes(), [strike]);
}

#[tokio::test]
async fn delay_lets_one_copy_come_later_and_holds_nothing_else_up() {
    let server = Faulty::start(&["delay:every=2,ms=1500"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    let start = Instant::now();
    say_all(&mut ann, &["1", "2", "3"]).await;
    ann.say(json!(bob.uid), "4").await;
    expect_says(&mut ann, &["1", "2", "3"]).await;
    assert_eq!(contents(&mut cem, 2).await, ["1", "3"]);
    assert_eq!(contents(&mut bob, 3).await, ["1", "2", "3"]);
    expect_says(&mut cem, &["2"]).await;
    assert!(start.elapsed() >= Duration::from_millis(1500));
    expect_says(&mut bob, &["4"]).await;
    let to_bob = bob.uid;
    let [ann, bob, cem] = [named(&ann, "Ann"), named(&bob, "Bob"), named(&cem, "Cem")];
    assert_eq!(
        server.strikes(),
        [
            format!(r#"delay hits {cem}: say of {ann} to all: "2", 1500 ms late"#),
            format!(r#"delay hits {bob}: say of {ann} to {to_bob}: "4", 1500 ms late"#),
        ]
    );
}

#[tokio::test]
async fn misdeliver_shows_a_private_say_to_somebody_else() {
    let server = Faulty::start(&["misdeliver:every=2"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    for content in ["1", "2"] {
        ann.say(json!(bob.uid), content).await;
    }
    let say = cem.json().await;
    assert_eq!(
        (&say["from_uid"], &say["to_uid"], &say["content"]),
        (&json!(ann.uid), &json!(bob.uid), &json!("2"))
    );
    expect_says(&mut bob, &["1", "2"]).await;
    ann.expect_nothing().await;
    cem.expect_nothing().await;
    let strike = format!(
        r#"misdeliver hits {}: say of {} to {}: "2""#,
        named(&cem, "Cem"),
        named(&ann, "Ann"),
        bob.uid
    );
    assert_eq!(server.strikes(), [strike]);
}

#[tokio::test]
async fn alter_gives_one_recipient_another_content() {
    let server = Faulty::start(&["alter:name=Bob"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1"]).await;
    ann.say(json!(cem.uid), "2").await;
    ann.send_text(&json!({"type": "say", "to_uid": bob.uid, "content": "3", "copy": true}).to_string()).await;
    expect_says(&mut ann, &["1", "3"]).await;
    expect_says(&mut bob, &["1*", "3*"]).await;
    expect_says(&mut cem, &["1", "2"]).await;
    let to_bob = bob.uid;
    let [ann, bob] = [named(&ann, "Ann"), named(&bob, "Bob")];
    assert_eq!(
        server.strikes(),
        [
            format!(r#"alter hits {bob}: say of {ann} to all: "1", as "1*""#),
            format!(r#"alter hits {bob}: say of {ann} to {to_bob}: "3", as "3*""#),
        ]
    );
}

#[tokio::test]
async fn unsolicited_tells_one_recipient_what_nobody_said() {
    let server = Faulty::start(&["unsolicited:every=2"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2", "3"]).await;
    expect_says(&mut ann, &["1", "2", "3"]).await;
    expect_says(&mut bob, &["1", "2", "3"]).await;
    assert_eq!(contents(&mut cem, 2).await, ["1", "2"]);
    let say = cem.json().await;
    assert_eq!(
        (&say["from_uid"], &say["to_uid"], &say["content"]),
        (&json!(ann.uid), &json!("all"), &json!("nobody said this (1)"))
    );
    expect_says(&mut cem, &["3"]).await;
    ann.say(json!(bob.uid), "4").await;
    expect_says(&mut bob, &["4", "nobody said this (2)"]).await;
    let to_bob = bob.uid;
    let [ann, bob, cem] = [named(&ann, "Ann"), named(&bob, "Bob"), named(&cem, "Cem")];
    assert_eq!(
        server.strikes(),
        [
            format!(r#"unsolicited hits {cem}: say of {ann} to all: "2", and then "nobody said this (1)""#),
            format!(
                r#"unsolicited hits {bob}: say of {ann} to {to_bob}: "4", and then "nobody said this (2)""#
            ),
        ]
    );
}

#[tokio::test]
async fn skip_user_list_leaves_a_newcomer_without_its_list() {
    let server = Faulty::start(&["skip-user-list:every=2"]);
    let mut ann = server.member("Ann").await;
    let mut bob = server.client().await;
    bob.send_text(r#"{"type":"login","name":"Bob"}"#).await;
    let login = bob.json().await;
    assert_eq!((&login["type"], &login["name"]), (&json!("login"), &json!("Bob")));
    bob.uid = login["uid"].as_u64().unwrap();
    bob.expect_nothing().await;
    assert_eq!(ann.json().await, login);
    assert_eq!(server.client().await.login("Cem").await.as_array().unwrap().len(), 3);
    let bob = named(&bob, "Bob");
    assert_eq!(server.strikes(), [format!("skip-user-list hits {bob}: login of {bob}")]);
}

#[tokio::test]
async fn silent_login_keeps_a_login_from_one_who_was_there_before() {
    let server = Faulty::start(&["silent-login:every=2"]);
    let mut ann = server.member("Ann").await;
    let mut bob = server.member("Bob").await;
    let cem = server.member("Cem").await;
    for newcomer in ["Bob", "Cem"] {
        assert_eq!(ann.json().await["name"], newcomer);
    }
    bob.expect_nothing().await;
    let strike = format!("silent-login hits {}: login of {}", named(&bob, "Bob"), named(&cem, "Cem"));
    assert_eq!(server.strikes(), [strike]);
}

#[tokio::test]
async fn wrong_room_shows_a_say_to_all_to_a_member_of_another_room() {
    let server = Faulty::start(&["wrong-room:every=2"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_and_wait(&mut ann, "nobody is elsewhere").await;
    let mut guests = Vec::new();
    for name in ["Dan", "Eve"] {
        let mut guest = server.client().await;
        guest.send_text(&json!({"type": "login", "name": name, "room_id": name}).to_string()).await;
        assert_eq!(guest.json().await["type"], "user_list");
        guest.uid = guest.json().await["uid"].as_u64().unwrap();
        guests.push(guest);
    }
    say_all(&mut ann, &["1", "2"]).await;
    expect_says(&mut ann, &["1", "2"]).await;
    for client in [&mut bob, &mut cem] {
        expect_says(client, &["nobody is elsewhere", "1", "2"]).await;
    }
    guests[0].expect_nothing().await;
    expect_says(&mut guests[1], &["2"]).await;
    let strike =
        format!(r#"wrong-room hits {}: say of {} to all: "2""#, named(&guests[1], "Eve"), named(&ann, "Ann"));
    assert_eq!(server.strikes(), [strike]);
}

#[tokio::test]
async fn messages_that_can_hit_nobody_do_not_count() {
    let server = Faulty::start(&["drop:every=2,name=Bob"]);
    let mut ann = server.member("Ann").await;
    say_and_wait(&mut ann, "alone").await;
    let mut cem = server.member("Cem").await;
    say_and_wait(&mut ann, "without Bob").await;
    expect_says(&mut cem, &["without Bob"]).await;
    let mut bob = server.member("Bob").await;
    say_and_wait(&mut bob, "his own").await;
    say_all(&mut ann, &["1", "2", "3"]).await;
    while ann.json().await["content"] != "3" {}
    expect_says(&mut bob, &["1", "3"]).await;
}

#[tokio::test]
async fn one_copy_is_hit_by_one_fault_and_the_other_strike_is_lost() {
    let server = Faulty::start(&["alter:every=2", "drop", "duplicate:name=Bob"]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2", "3", "4"]).await;
    expect_says(&mut ann, &["1", "2", "3", "4"]).await;
    expect_says(&mut bob, &["1", "1", "2", "2", "3", "3", "4", "4"]).await;
    expect_says(&mut cem, &["2*", "4*"]).await;
    assert_eq!(server.strikes().len(), 8);
}

#[tokio::test]
async fn what_completes_a_reorder_is_hit_by_nothing_else() {
    let server = Faulty::start(&["drop:every=3", "reorder:every=2"]);
    let [mut ann, _bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2", "3", "4", "5", "6"]).await;
    expect_says(&mut ann, &["1", "2", "3", "4", "5", "6"]).await;
    expect_says(&mut cem, &["1", "3", "2", "5", "4"]).await;
    let strikes = server.strikes();
    assert_eq!(strikes.len(), 3, "{strikes:?}");
}

#[tokio::test]
async fn the_log_has_every_strike_and_nobody_can_forge_one() {
    // More than the log has in a burst of other lines, and less than a pipe holds.
    const SAYS: usize = 300;
    let server = Faulty::start(&["duplicate"]);
    let name = "x\n2026-01-01 00:00:00 fault: forged\u{1b}[2J";
    let mut ann = server.member("Ann").await;
    let mut bob = server.member(name).await;
    for number in 0..SAYS {
        ann.say(json!("all"), &format!("\"{number}\n fault: forged")).await;
        assert_eq!(contents(&mut bob, 2).await.len(), 2);
    }
    let (ann, bob) = (named(&ann, "Ann"), named(&bob, name));
    let expected: Vec<_> = (0..SAYS)
        .map(|number| format!(r#"duplicate hits {bob}: say of {ann} to all: "\"{number}\n fault: forged""#))
        .collect();
    assert_eq!(server.strikes(), expected);
}

/// What three see of a conversation, without what differs from run to run.
async fn transcript(server: Server) -> Vec<String> {
    let mut ann = server.member("Ann").await;
    let mut bob = server.member("Bob").await;
    let mut cem = server.member("Cem").await;
    let uids = [ann.uid, bob.uid, cem.uid];
    let private = json!({"type": "say", "to_uid": bob.uid, "content": "3", "copy": true});
    say_all(&mut ann, &["1", "2"]).await;
    ann.send_text(&private.to_string()).await;
    say_all(&mut ann, &["4"]).await;
    let mut seen = Vec::new();
    for (client, count) in [(&mut ann, 6), (&mut bob, 5), (&mut cem, 3)] {
        for _ in 0..count {
            let mut message: Value = client.json().await;
            message.as_object_mut().unwrap().remove("time");
            let mut text = message.to_string();
            for (uid, name) in uids.iter().zip(["<Ann>", "<Bob>", "<Cem>"]) {
                text = text.replace(&uid.to_string(), name);
            }
            seen.push(text);
        }
        client.expect_nothing().await;
    }
    server.stop().await;
    seen
}

#[tokio::test]
async fn a_fault_whose_turn_never_comes_changes_nothing() {
    let faults = [
        "drop",
        "duplicate",
        "reorder",
        "misdeliver",
        "alter",
        "skip-user-list",
        "unsolicited",
        "silent-login",
        "wrong-room",
        "delay:ms=1",
    ];
    let healthy = transcript(Server::start(|_| ()).await).await;
    let faulty = Server::start(|config| {
        for fault in faults {
            let separator = if fault.contains(':') { ',' } else { ':' };
            config.faults.push(format!("{fault}{separator}every=1000").parse().unwrap());
        }
    });
    assert_eq!(transcript(faulty.await).await, healthy);
}

#[tokio::test]
async fn without_a_fault_the_log_has_neither_warnings_nor_strikes() {
    let mut server = Faulty::start(&[]);
    let [mut ann, mut bob, mut cem] = server.three().await;
    say_all(&mut ann, &["1", "2"]).await;
    for client in [&mut ann, &mut bob, &mut cem] {
        expect_says(client, &["1", "2"]).await;
    }
    server.program.signal(rustix::process::Signal::TERM);
    let (_, stderr) = server.program.end();
    assert!(stderr.lines().all(|line| line.contains(" notice: ")), "{stderr}");
}

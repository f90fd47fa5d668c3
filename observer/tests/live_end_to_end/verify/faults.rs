//! A chat that is broken on purpose: what the server's log says that it did is what is found, and nothing else.
//!
//! Waits until what has not come is late. What may be found is bounded by what is said here.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{Chat, Strike, User, Verdicts, leave_one_by_one, member, text, verify, without_uid};

/// What is missing is not only on its way any more: the rules allow two seconds.
pub const OVERDUE: Duration = Duration::from_millis(2_600);

/// Three in one room and two in another, of whom each talks, in private, too, and two who come later. They leave when all
/// that could come has come.
pub fn a_chat_in_two_rooms(chat: &Chat) {
    let login = |name: &str, room| User::login(chat.address, name, Some(room));
    let [mut ann, mut bob, mut cem] = ["Ann", "Bob", "Cem"].map(|name| login(name, "a"));
    let [mut dan, mut eve] = ["Dan", "Eve"].map(|name| login(name, "b"));
    for round in 1..=4 {
        for user in [&mut ann, &mut bob, &mut cem, &mut dan, &mut eve] {
            let name = user.name.clone();
            user.say(&format!("{round} of {name}"));
        }
        ann.say_to(bob.uid, &format!("{round}, Bob"));
        bob.say_to(cem.uid, &format!("{round}, Cem"));
        dan.say_to(eve.uid, &format!("{round}, Eve"));
    }
    let mut fay = login("Fay", "a");
    fay.say("I am new");
    ann.say_to(fay.uid, "welcome");
    fay.say("bye");
    let gus = login("Gus", "b");
    thread::sleep(OVERDUE);
    leave_one_by_one([ann, bob, cem, fay]);
    leave_one_by_one([dan, eve, gus]);
}

/// Something that is wrong with one recipient.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    flow: String,
    outcome: String,
    /// With the fault as the observer calls it.
    strike: Strike,
}

impl Finding {
    /// What is to be told of a copy that was hit.
    fn expected(strike: Strike) -> Self {
        let (fault, outcome) = match &*strike.fault {
            "drop" | "skip-user-list" | "silent-login" => ("lost", "violated"),
            "duplicate" => ("duplicated", "violated"),
            "misdeliver" | "wrong-room" => ("unexpected", "violated"),
            "reorder" => ("misordered", "violated"),
            "alter" => ("altered", "violated"),
            "unsolicited" => ("unsolicited", "violated"),
            "delay" => ("late", "late"),
            other => panic!("{other} is not known here"),
        };
        let flow = match (fault, &strike.said) {
            ("unsolicited", _) => "unsolicited-say",
            ("misordered", _) => "say-order",
            (_, None) => "login",
            (_, Some((to, _))) if to == "all" => "say",
            _ => "private",
        };
        let mut strike = Strike { fault: fault.to_owned(), ..strike };
        match fault {
            // What came is told where it is too much or not what was said.
            "duplicated" | "unexpected" => strike.other = strike.said.clone().map(|(_, content)| content),
            // It is on the victim's connection, and begins nowhere else.
            "unsolicited" => {
                strike.sender = without_uid(&strike.victim);
                strike.said = strike.said.map(|(to, _)| to).zip(strike.other.clone());
            }
            _ => {}
        }
        Self { flow: flow.to_owned(), outcome: outcome.to_owned(), strike }
    }

    /// What is told of one recipient of a case.
    fn told(case: &Value, deviation: &Value) -> Self {
        let trigger = &case["trigger"];
        let to = trigger["to"].as_str().map_or_else(|| trigger["to"].to_string(), str::to_owned);
        let strike = Strike {
            fault: text(&deviation["fault"]),
            victim: member(deviation),
            sender: format!("{} {}", text(&case["client"]), case["user"]["name"]),
            said: trigger.get("content").map(|content| (to, text(content))),
            other: deviation.get("seen").map(text),
        };
        Self { flow: text(&case["flow"]), outcome: text(&case["outcome"]), strike }
    }
}

/// That the server's log tells of the same as the verdicts: who was hit, by what, and of which message.
pub fn assert_faults_are_found(verdicts: &Verdicts, strikes: Vec<Strike>) {
    let mut expected: Vec<_> = strikes.into_iter().map(Finding::expected).collect();
    let of_case = |case: &Value| -> Vec<_> {
        let deviations = case["deviations"].as_array().unwrap();
        deviations.iter().map(|deviation| Finding::told(case, deviation)).collect()
    };
    let mut told: Vec<_> = verdicts.cases.iter().flat_map(of_case).collect();
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
    assert!(!told.is_empty(), "nothing was broken");
    let wrong = verdicts.that_are("violated").len() + verdicts.that_are("late").len();
    assert_eq!(verdicts.that_are("held").len() + wrong, verdicts.cases.len(), "{}", verdicts.end);
    let mut cases: Vec<_> = told.iter().map(|it| (&it.flow, &it.strike.sender, &it.strike.said)).collect();
    cases.sort_unstable();
    cases.dedup();
    assert_eq!(cases.len(), wrong, "{told:#?}");
    assert_eq!((&verdicts.end["conclusion"], verdicts.code), (&"violated".into(), Some(1)));
}

/// Runs a chat with a fault.
fn is_found(fault: &str) {
    let chat = Chat::start(&[fault]);
    let observer = verify(chat.port(), &[]);
    a_chat_in_two_rooms(&chat);
    assert_faults_are_found(&Verdicts::of(observer), chat.strikes());
}

#[test]
fn whoever_is_left_out_is_named() {
    is_found("drop:every=4");
}

#[test]
fn whoever_gets_something_twice_is_named() {
    is_found("duplicate:every=3");
}

#[test]
fn whoever_gets_things_in_another_order_is_named() {
    is_found("reorder:every=3,name=Cem");
}

#[test]
fn whoever_gets_something_late_is_named() {
    // The last thing that Dan says: he says nothing later that would come before it.
    is_found("delay:every=8,name=Eve,ms=2200");
}

#[test]
fn whoever_gets_private_words_of_others_is_named() {
    is_found("misdeliver:every=2");
}

#[test]
fn whoever_gets_something_else_than_what_was_said_is_named() {
    is_found("alter:every=5");
}

#[test]
fn whoever_gets_what_nobody_said_is_named() {
    is_found("unsolicited:every=4");
}

#[test]
fn whoever_gets_what_was_said_in_another_room_is_named() {
    is_found("wrong-room:every=4");
}

#[test]
fn a_newcomer_without_the_list_of_users_is_named() {
    is_found("skip-user-list:every=3");
}

#[test]
fn whoever_is_not_told_of_a_newcomer_is_named() {
    is_found("silent-login:every=2");
}

#[test]
fn of_a_thousand_words_at_a_time_each_fault_is_found_and_nothing_else() {
    const CLIENTS: usize = 20;
    let chat = Chat::start(&["drop:every=37", "duplicate:every=41", "wrong-room:every=43"]);
    let observer = verify(chat.port(), &["--ring", "256MiB"]);
    let login =
        |client: usize| User::login(chat.address, &format!("n{client}"), Some(&(client % 4).to_string()));
    let mut users: Vec<_> = (0..CLIENTS).map(login).collect();
    thread::scope(|scope| {
        for user in &mut users {
            scope.spawn(|| (0..50).for_each(|say| user.say(&format!("{say} of {}", user.name.clone()))));
        }
    });
    thread::sleep(OVERDUE);
    users.into_iter().for_each(|user| drop(user.leave()));
    let verdicts = Verdicts::of(observer);
    let strikes = chat.strikes();
    assert!(strikes.len() > 60, "{}", strikes.len());
    assert_eq!(verdicts.of_flow("say").count(), 1_000);
    assert_faults_are_found(&verdicts, strikes);
}

//! An observer that comes to a running chat: of those who were there before nothing is known, and nothing is made up; of
//! those who come later everything is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::faults::OVERDUE;
use super::{Chat, Strike, User, Verdicts, leave_one_by_one, member, text, verify};

/// Old ones who talk before and after the observer comes, and leave one by one while others come.
fn a_chat_that_goes_on(chat: &Chat, come: impl FnOnce()) {
    let login = |name: &str, room| User::login(chat.address, name, Some(room));
    let [ann, bob, cem] = ["Ann", "Bob", "Cem"].map(|name| login(name, "a"));
    let [dan, eve] = ["Dan", "Eve"].map(|name| login(name, "b"));
    let old = [(ann, 100), (bob, 200), (cem, 300), (dan, 200), (eve, 300)];
    let has_come = AtomicBool::new(false);
    thread::scope(|scope| {
        for (mut user, says) in old {
            let has_come = &has_come;
            scope.spawn(move || {
                let mut since = 0;
                for say in 0.. {
                    let name = user.name.clone();
                    user.say(&format!("{say} of {name}"));
                    since += i32::from(has_come.load(Ordering::SeqCst));
                    if since == says {
                        break;
                    }
                    // Of one sender the observer follows only so many messages at a time.
                    thread::sleep(Duration::from_millis(3));
                }
                user.leave();
            });
        }
        thread::sleep(Duration::from_millis(300));
        come();
        has_come.store(true, Ordering::SeqCst);
        for round in 0..3 {
            for room in ["a", "b", "c"] {
                let mut new = ["one", "two"].map(|name| login(&format!("{name} {round}"), room));
                for say in 0..20 {
                    new[say % 2].say(&format!("{say} of new ones {round} in {room}"));
                }
                let uid = new[1].uid;
                new[0].say_to(uid, &format!("{round} in private in {room}"));
                leave_one_by_one(new);
            }
        }
    });
    // All who were there before have left.
    let mut last = ["Fay", "Gus"].map(|name| login(name, "a"));
    for say in 0..20 {
        last[say % 2].say(&format!("{say} at last"));
    }
    leave_one_by_one(last);
}

#[test]
fn in_a_chat_that_was_there_before_nothing_is_made_up() {
    let chat = Chat::start(&[]);
    let mut observer = None;
    a_chat_that_goes_on(&chat, || observer = Some(verify(chat.port(), &["--ring", "256MiB"])));
    let verdicts = Verdicts::of(observer.unwrap());
    verdicts.assert_nothing_is_violated();
    assert!(verdicts.stderr.contains("5 connections"), "{}", verdicts.stderr);
    let causes = verdicts.end["causes"].as_object().unwrap();
    assert!(causes.iter().all(|(cause, count)| cause == "started_too_late" || *count == 0), "{causes:?}");
    assert_eq!((&verdicts.end["conclusion"], verdicts.code), (&"inconclusive".into(), Some(3)));

    let said = |words: &'static str| {
        verdicts
            .of_flow("say")
            .filter(move |case| case["trigger"]["content"].as_str().unwrap().contains(words))
            .map(|case| case["outcome"].as_str().unwrap())
    };
    assert_eq!(said("of new ones").count(), 3 * 3 * 20, "each is a case");
    assert_eq!(said("at last").collect::<Vec<_>>(), ["held"; 20]);
    let logins: BTreeSet<_> = verdicts.of_flow("login").map(|case| text(&case["user"]["name"])).collect();
    assert_eq!(logins.len(), 3 * 2 + 2, "{logins:?}");
    assert_eq!(verdicts.of_flow("private").count(), 3 * 3);
}

#[test]
fn a_newcomer_who_is_left_out_is_named_though_others_were_there_before() {
    let chat = Chat::start(&["drop:every=3,name=New"]);
    let [mut ann, bob] = ["Ann", "Bob"].map(|name| User::login(chat.address, name, None));
    ann.say("nobody sees this");
    let observer = verify(chat.port(), &[]);
    let [new, mut other] = ["New", "Other"].map(|name| User::login(chat.address, name, None));
    for say in 0..60 {
        if say == 18 {
            // Of newcomers nothing from elsewhere may be on its way, before it is known where others are by them.
            thread::sleep(Duration::from_secs(11));
        }
        if say % 2 == 0 { &mut ann } else { &mut other }.say(&format!("say {say}"));
    }
    thread::sleep(OVERDUE);
    leave_one_by_one([ann, bob, new, other]);
    let verdicts = Verdicts::of(observer);
    let told: BTreeSet<_> = verdicts
        .that_are("violated")
        .iter()
        .flat_map(|case| {
            let deviations = case["deviations"].as_array().unwrap();
            deviations.iter().map(|it| (text(&case["trigger"]["content"]), text(&it["fault"]), member(it)))
        })
        .collect();
    let strikes = chat.strikes();
    assert_eq!(strikes.len(), 20);
    let expected = |strike: &Strike| {
        let content = strike.said.clone().unwrap().1;
        (content, "lost".to_owned(), strike.victim.clone())
    };
    let (of_ann, of_other): (Vec<_>, Vec<_>) =
        strikes.iter().partition(|strike| strike.sender.ends_with("\"Ann\""));
    let all: BTreeSet<_> = strikes.iter().map(expected).collect();
    assert!(told.is_subset(&all), "{told:?}");
    assert!(of_other.iter().all(|it| told.contains(&expected(it))), "{told:?}");
    // Where frames begin of those who were there before is not proved at first; then it is, and where she is, too.
    let unknown: BTreeSet<_> =
        verdicts.that_are("inconclusive").iter().map(|case| text(&case["trigger"]["content"])).collect();
    let (proved, unproved): (Vec<&Strike>, Vec<_>) =
        of_ann.into_iter().partition(|it| told.contains(&expected(it)));
    assert!(unproved.iter().all(|it| unknown.contains(&expected(it).0)), "{unknown:?}");
    assert!(proved.len() > 4, "{told:?}");
    assert_eq!((&verdicts.end["outcomes"]["late"], verdicts.code), (&0.into(), Some(1)));
}

//! Packets that the capture loses: what cannot be told is said so, and never called a violation.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Chat, User, Verdicts, leave_one_by_one, verify};
use crate::support::Program;

const ROOMS: usize = 3;
const CLIENTS_OF_A_ROOM: usize = 5;

/// Clients who come, talk and leave until it is done, each again and again.
fn talk(server: SocketAddr, is_done: &AtomicBool) {
    thread::scope(|scope| {
        for client in 0..ROOMS * CLIENTS_OF_A_ROOM {
            scope.spawn(move || {
                let room = (client % ROOMS).to_string();
                let mut life = 0;
                while !is_done.load(Ordering::SeqCst) {
                    let name = format!("{client}-{life}");
                    let mut user = User::login(server, &name, Some(&room));
                    for say in 0..40 {
                        user.say(&format!("{say} of {name}"));
                    }
                    user.leave();
                    life += 1;
                }
            });
        }
    });
}

/// That packets were lost, and that nothing is said to be wrong.
fn assert_nobody_is_guilty(verdicts: &Verdicts) {
    assert!(verdicts.stderr.contains("lost by the capture: lost_ring_full"), "{}", verdicts.stderr);
    verdicts.assert_nothing_is_violated();
    assert!(verdicts.end["lost"]["packets"].as_u64().unwrap() > 0, "{}", verdicts.end);
    assert_eq!((&verdicts.end["conclusion"], verdicts.code), (&"inconclusive".into(), Some(3)));
}

/// That some cases, of the many that are always under way, cannot be told for it.
fn assert_losses_make_it_inconclusive(verdicts: &Verdicts) {
    assert_nobody_is_guilty(verdicts);
    assert!(!verdicts.that_are("inconclusive").is_empty(), "{}", verdicts.end);
    let causes = &verdicts.end["causes"];
    assert!(causes["capture_loss"].as_u64().unwrap() > 0, "{causes}");
}

/// Talks while something is done to the observer, and ends it when all have left.
fn while_talking(arguments: &[&str], act: impl FnOnce(&Program)) -> Verdicts {
    let chat = Chat::start(&[]);
    let observer = verify(chat.port(), arguments);
    let (server, is_done) = (chat.address, AtomicBool::new(false));
    thread::scope(|scope| {
        let talking = scope.spawn(|| talk(server, &is_done));
        act(&observer);
        is_done.store(true, Ordering::SeqCst);
        talking.join().unwrap();
    });
    Verdicts::of(observer)
}

#[test]
fn what_a_ring_that_is_too_small_loses_makes_nobody_guilty() {
    let verdicts = while_talking(&["--ring", "4KiB"], |_| thread::sleep(Duration::from_secs(3)));
    assert_losses_make_it_inconclusive(&verdicts);
}

#[test]
fn what_passes_while_the_observer_stands_still_makes_nobody_guilty() {
    let verdicts = while_talking(&["--ring", "64KiB"], |observer| {
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(300));
            observer.signal(Signal::SIGSTOP);
            thread::sleep(Duration::from_millis(300));
            observer.signal(Signal::SIGCONT);
        }
        thread::sleep(Duration::from_millis(500));
    });
    assert_losses_make_it_inconclusive(&verdicts);
}

#[test]
fn once_the_losses_are_over_and_all_have_come_anew_everything_holds_again() {
    let chat = Chat::start(&[]);
    let observer = verify(chat.port(), &["--ring", "64KiB"]);
    let mut old = ["Ann", "Bob"].map(|name| User::login(chat.address, name, None));
    observer.signal(Signal::SIGSTOP);
    for say in 0..200 {
        old[0].say(&format!("unseen {say}"));
    }
    observer.signal(Signal::SIGCONT);
    // A stopped process runs on a while after it was told to.
    for say in 0..20 {
        thread::sleep(Duration::from_millis(10));
        old[1].say(&format!("between {say}"));
    }
    leave_one_by_one(old);
    let mut new = ["Cem", "Dan"].map(|name| User::login(chat.address, name, None));
    for say in 0..20 {
        new[0].say(&format!("seen {say}"));
    }
    leave_one_by_one(new);
    let verdicts = Verdicts::of(observer);
    // It may be that no message was under way when the losses began, and none when they ended.
    assert_nobody_is_guilty(&verdicts);
    let seen: Vec<_> = verdicts
        .of_flow("say")
        .filter(|case| case["trigger"]["content"].as_str().unwrap().starts_with("seen"))
        .map(|case| (case["outcome"].as_str().unwrap(), case["arrived"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen, [("held", 2); 20]);
}

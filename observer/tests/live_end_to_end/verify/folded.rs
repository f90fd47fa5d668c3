//! The default text of a live run: one line for what somebody says and all its copies, and who is missing in it.

use std::thread;

use super::faults::OVERDUE;
use super::{Chat, User, leave_one_by_one, watching};

/// Two users, of whom one says something and leaves; the address of the other one, and the lines with some words.
fn lines_of_the_manuals_chat(chat: &Chat, arguments: &[&str], words: &str) -> (String, Vec<String>) {
    let observer = watching(chat.port(), arguments);
    let [present, mut mynick] = ["猪猪", "mynick"].map(|name| User::login(chat.address, name, None));
    let address = present.client.address.to_string();
    mynick.say("hi, all !");
    thread::sleep(OVERDUE);
    leave_one_by_one([mynick, present]);
    let ended = observer.interrupt();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = ended.stdout.into_iter().filter(|line| line.contains(words));
    // Without the time, which has no space.
    (address, lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect())
}

#[test]
fn what_all_get_is_one_line_that_says_so() {
    let (_, lines) = lines_of_the_manuals_chat(&Chat::start(&[]), &[], "hi, all !");
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    assert!(line.starts_with(r#"mynick → all "hi, all !" 2/2 "#) && line.ends_with(" ms"), "{line}");
}

#[test]
fn who_comes_and_who_leaves_is_one_line_each() {
    let (_, lines) = lines_of_the_manuals_chat(&Chat::start(&[]), &[], " logged ");
    // Nobody has to acknowledge that the last one leaves: it is told at once.
    let (last, lines): (Vec<_>, Vec<_>) = lines.iter().partition(|line| *line == "猪猪 logged out");
    let lines: Vec<_> = lines.iter().map(|line| line.rsplitn(3, ' ').last().unwrap()).collect();
    assert_eq!(lines, ["猪猪 logged in 1/1", "mynick logged in 2/2", "mynick logged out 1/1"]);
    assert_eq!(last.len(), 1);
}

#[test]
fn whoever_is_left_out_is_named_in_the_line() {
    let (address, lines) = lines_of_the_manuals_chat(&Chat::start(&["drop"]), &[], "hi, all !");
    assert_eq!(lines, [format!(r#"mynick → all "hi, all !" 1/2, missing: 猪猪 (#1 {address})"#)]);
}

#[test]
fn what_comes_twice_is_shown_by_itself_and_told_in_a_second_line() {
    let chat = Chat::start(&["duplicate"]);
    let (address, lines) = lines_of_the_manuals_chat(&chat, &[], "hi, all !");
    let (copies, folded): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains(" ← "));
    let ([copy], [first, second]) = (&copies[..], &folded[..]) else { panic!("{lines:#?}") };
    assert!(copy.starts_with(&format!("#1 {address} ← {} text ", chat.address)), "{copy}");
    assert!(first.starts_with(r#"mynick → all "hi, all !" 2/2 "#) && first.ends_with(" ms"), "{first}");
    let twice = format!(r#", came again: 猪猪 (#1 {address})"#);
    assert!(second.starts_with(&format!("↳ {first}")) && second.ends_with(&twice), "{second}");
}

#[test]
fn each_copy_is_shown_on_request() {
    let (_, lines) = lines_of_the_manuals_chat(&Chat::start(&[]), &["--each"], "hi, all !");
    let with = |arrow: &str| lines.iter().filter(|line| line.contains(arrow)).count();
    assert_eq!((with(" → "), with(" ← "), lines.len()), (1, 2, 3), "{lines:#?}");
}

#[test]
fn what_is_said_to_a_hundred_is_one_line() {
    let chat = Chat::start(&[]);
    let observer = watching(chat.port(), &["--ring", "256MiB"]);
    let mut users: Vec<_> =
        (0..100).map(|number| User::login(chat.address, &format!("n{number}"), None)).collect();
    users[7].say("to a hundred");
    users.into_iter().for_each(|user| drop(user.leave()));
    let ended = observer.interrupt();
    let lines: Vec<_> = ended.stdout.iter().filter(|line| line.contains("to a hundred")).collect();
    let [line] = lines[..] else { panic!("{lines:#?}") };
    assert!(line.contains(r#" n7 → all "to a hundred" 100/100 "#), "{line}");
    assert_eq!(ended.stdout.iter().filter(|line| line.contains(" logged in ")).count(), 100);
}
